import itertools
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfae import internals, models, records, training


@pytest.fixture
def x():
    return np.random.default_rng(0).integers(0, 256, (1000, 5, 3), dtype="uint8")


@pytest.fixture
def path(tmp_path, x):
    """Seven shards of 150 samples, the last one of 100; blocks of 5 samples, 75 bytes."""
    records.write(tmp_path / "r", [x[:70], x[70:700], x[700:]], shard_size=150)
    return tmp_path / "r"


def all_of(dataset):
    batches = [keras.tree.map_structure(np.asarray, batch) for batch in dataset]
    if isinstance(batches[0], tuple):
        return tuple(map(np.concatenate, zip(*batches, strict=True)))
    return np.concatenate(batches)


def numbered(tmp_path, n=1000, shard_size=100):
    """Records whose samples are their numbers."""
    records.write(tmp_path / "n", [np.arange(n, dtype="int64")[:, None]], shard_size=shard_size)
    return tmp_path / "n"


# --- writing and reading back ----------------------------------------------------------------------------------------


def test_without_a_seed_the_samples_come_as_they_were_written(path, x):
    dataset = records.read(path, 64, seed=None)
    assert dataset.cardinality() == 16 and [len(batch) for batch in dataset] == [64] * 15 + [40]
    found = all_of(dataset)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, x.astype("float32") / 255)


def test_a_shard_is_the_bytes_of_its_samples(path, x):
    np.testing.assert_array_equal(np.fromfile(path / "shard-000001.bin", "uint8").reshape(-1, 5, 3), x[150:300])
    assert sorted(os.listdir(path)) == [records.MANIFEST, *(f"shard-{i:06d}.bin" for i in range(7))]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "uint8", ">f4"])
def test_pairs_of_any_type_come_back(tmp_path, dtype):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 2, 2)).astype(dtype), rng.normal(size=(30, 3)).astype(dtype)
    records.write(tmp_path / "r", [(x[:7], y[:7]), (x[7:], y[7:])], shard_size=20)
    found_x, found_y = all_of(records.read(tmp_path / "r", 8, seed=None))
    np.testing.assert_array_equal(found_x, x / np.float32(255) if dtype == "uint8" else x.astype("float32"))
    assert found_x.dtype == (np.int64 if dtype == "int64" else np.float32)
    np.testing.assert_array_equal(found_y, y)
    assert found_y.dtype == np.dtype(dtype).newbyteorder("=")


def test_by_itself_a_shard_holds_four_megabytes(tmp_path):
    records.write(tmp_path / "r", (np.zeros((1000, 4096), "uint8") for _ in range(3)))
    manifest = json.loads((tmp_path / "r" / records.MANIFEST).read_text())
    assert [shard["samples"] for shard in manifest["shards"]] == [1024, 1024, 952]


def test_progress_ends_with_what_was_written(tmp_path, x):
    lines = []
    records.write(tmp_path / "r", [x], shard_size=300, progress=lines.append)
    assert lines[-1] == "1,000 samples in 4 shards, 0.0 MB"


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "no sample"),
        ([np.ones((2, 2)), np.ones((2, 3))], "batch 1 holds .*they must be alike"),
        ([np.ones((2, 2), "uint8"), np.ones((2, 2))], "batch 1 holds .*they must be alike"),
        ([np.full((2, 2), np.nan)], "batch 0 holds 4 values that are NaN"),
        ([(np.ones((2, 2)), np.ones(3))], r"batch 0 has shapes \(2, 2\) and \(3,\)"),
        ([(np.ones((2, 2)), np.array(["a", "b"]))], "y of batch 0 has dtype"),
        ([np.ones((2, 2), bool)], "x of batch 0 has dtype bool"),
        ([[np.ones((2, 2)), np.zeros((2, 2))]], r"batch 0 is a list; give an array of samples, or a tuple \(x, y\)"),
        ((np.ones((2, 2)), np.zeros((2, 2))), r"batches is one tuple; .*: \[\(x, y\)\]"),
        (np.ones((2, 2)), r"batches is one ndarray; .*: \[x\]"),
        ([(np.ones((2, 2)), np.array([1, np.nan]))], "y of batch 0 holds NaN or infinity"),
        ([(np.ones((2, 2)), np.array([[1], [-np.inf]]))], "y of batch 0 holds NaN or infinity"),
        ([np.ones((2, 2)), np.array([[1, -1e300]])], r"batch 1 holds 1 values that are beyond 3.4e\+38"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, batches, message):
    with pytest.raises(ValueError, match=message):
        records.write(tmp_path / "r", batches)


def test_an_interrupted_writing_is_no_records(tmp_path, x):
    def batches():
        yield x[:400]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        records.write(tmp_path / "r", batches(), shard_size=100)
    with pytest.raises(OSError, match="writing was not finished"):
        records.read(tmp_path / "r", 10)
    records.write(tmp_path / "r", [x], shard_size=100)
    assert not records.verify(tmp_path / "r")
    with pytest.raises(ValueError, match="holds records already"):
        records.write(tmp_path / "r", [x])


@pytest.mark.parametrize("text", ["{", "{}", '{"format": "another"}', "[]"])
def test_a_manifest_that_cannot_be_read_is_named(path, text):
    (path / records.MANIFEST).write_text(text)
    with pytest.raises(OSError, match=r"manifest\.json is not a manifest that can be read"):
        records.verify(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [('"dtype": "uint8"', '"dtype": "int8"'), ("[5, 3]", "[3, 5]"), ('"block": 5', '"block": 10'), ("150", "100")],
)
def test_an_edited_manifest_is_no_content(path, old, new):
    """The bytes of the shards are right, and would be read as other numbers."""
    file = path / records.MANIFEST
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))
    for look in (records.verify, lambda path: records.read(path, 10)):
        with pytest.raises(OSError, match=r"manifest\.json .* it was changed after it was written"):
            look(path)


def test_large_numbers_in_y_come_back_as_they_were(tmp_path):
    y = np.array([1e300, -2.0])
    records.write(tmp_path / "r", [(np.full((2, 1), 3e38), y)])
    found_x, found_y = all_of(records.read(tmp_path / "r", 2, seed=None))
    np.testing.assert_array_equal(found_y, y)
    assert np.isfinite(found_x).all()


# --- order -----------------------------------------------------------------------------------------------------------


def test_each_epoch_has_its_own_order_and_every_sample_once(tmp_path):
    dataset = records.read(numbered(tmp_path), 64, seed=3)
    first, second = all_of(dataset).ravel(), all_of(dataset).ravel()
    assert sorted(first) == sorted(second) == list(range(1000))
    assert not np.array_equal(first, second)
    again = records.read(tmp_path / "n", 64, seed=3)
    np.testing.assert_array_equal(all_of(again).ravel(), first)
    np.testing.assert_array_equal(all_of(again).ravel(), second)
    assert not np.array_equal(all_of(records.read(tmp_path / "n", 64, seed=4)).ravel(), first)


def test_samples_are_mixed_within_and_between_shards(tmp_path):
    order = all_of(records.read(numbered(tmp_path, 4000, 100), 100, pool=8)).ravel()
    for pool in np.split(order, 5):
        shards = pool // 100
        assert len(set(shards)) == 8 and len(set(shards[:100])) == 8
    positions = np.argsort(order)
    assert abs(np.corrcoef(positions, np.arange(4000))[0, 1]) < 0.5
    within = [np.corrcoef(positions[i : i + 100], np.arange(100))[0, 1] for i in range(0, 4000, 100)]
    assert np.mean(np.abs(within)) < 0.2


@pytest.mark.parametrize("most_bytes", [1 << 20, 100])  # a batch has 512 bytes
@pytest.mark.parametrize("steps", [4, 50])
@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("whole", [True, False])
def test_many_steps_at_a_time_train_on_the_batches_of_single_steps(tmp_path, whole, seed, steps, most_bytes):
    path = numbered(tmp_path, 900, 100)
    if not whole:
        flip(sorted(path.glob("*.bin"))[2], 0)
    options = {"seed": seed, "pool": 3, "leave_out": records.verify(path)}
    dataset = records.read(path, 64, **options)
    stream = internals.Stream(records.read(path, 64, **options), steps, most_bytes=most_bytes)
    for _ in range(2):  # each pass has an order of its own
        found, lengths = [], set()
        for data, full, last in itertools.chain(*stream):
            last = np.arange(len(data)) if last is None else last
            found += [data.numpy()[numbers] for numbers in (*full, *([last] if len(last) else []))]
            lengths |= {len(data)} if len(full) else set()
        for ours, batch in zip(found, dataset, strict=True):
            np.testing.assert_array_equal(ours, batch)
        assert lengths == ({steps * 64} if most_bytes > 100 else set())  # of one length, so that it is compiled once


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 2])
def test_a_run_that_was_cut_off_sees_the_same_samples(tmp_path, steps):
    rng = np.random.default_rng(0)
    records.write(tmp_path / "r", [rng.random((200, 6), "float32")], shard_size=32)

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

        def on_train_batch_end(self, batch, logs=None):
            if self.epoch == 3 and batch == 1:
                raise KeyboardInterrupt

    def fit(file, *callbacks, steps=1):
        model = models.dense_autoencoder(6, 2, (8,), seed=0)
        model.compile(keras.optimizers.SGD(0.1), "mse", steps_per_execution=steps)
        run = training.Resume(tmp_path / file, seed=5)
        batches = records.read(tmp_path / "r", 50, run=run, pool=2)
        model.fit(batches, epochs=6, shuffle=False, verbose=0, callbacks=[run, *callbacks])
        return model.get_weights()

    whole = fit("whole.npz")
    with pytest.raises(KeyboardInterrupt):
        fit("part.npz", Stop(), steps=steps)
    for a, b in zip(whole, fit("part.npz", steps=steps), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


def test_a_run_follows_its_own_seed_and_epoch(tmp_path):
    run = training.Resume(tmp_path / "a.npz", seed=1)
    dataset = records.read(numbered(tmp_path), 64, run=run)
    orders = []
    for epoch in (0, 1, 0):
        run.on_epoch_begin(epoch)
        orders.append(all_of(dataset).ravel())
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(1000))
    assert not np.array_equal(orders[0], orders[1])
    np.testing.assert_array_equal(orders[0], orders[2])


# --- damage ----------------------------------------------------------------------------------------------------------


def flip(file, byte):
    content = bytearray(file.read_bytes())
    content[byte] ^= 1
    file.write_bytes(content)


def test_a_damaged_byte_is_named_and_the_rest_is_readable(path, x):
    assert records.verify(path) == []
    flip(path / "shard-000002.bin", 1000)  # sample 66, in the block of samples 65 to 69
    flip(path / "shard-000006.bin", 1499)  # the very last byte
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"shard-000002\.bin, byte 975: .*not what was written"):
        all_of(records.read(path, 64, seed=None))
    first, last = damage = records.verify(path)
    assert (first.file.name, first.offset, first.samples) == ("shard-000002.bin", 975, 5)
    assert (last.file.name, last.offset, last.samples) == ("shard-000006.bin", 1425, 5)
    assert str(first).endswith("shard-000002.bin, byte 975: 5 samples are not what was written")
    intact = np.delete(x, [*range(365, 370), *range(995, 1000)], axis=0)
    dataset = records.read(path, 64, seed=None, leave_out=damage)
    assert dataset.cardinality() == 16 and len(list(dataset)) == 16
    np.testing.assert_array_equal(all_of(dataset), intact.astype("float32") / 255)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"shard-000006\.bin, byte 1425"):
        all_of(records.read(path, 64, leave_out=[first]))


def test_a_truncated_shard_is_named_before_training_and_the_rest_is_readable(path, x):
    file = path / "shard-000003.bin"
    file.write_bytes(file.read_bytes()[:1234])  # 82 samples and a bit, 16 blocks
    with pytest.raises(OSError, match=r"shard-000003\.bin, byte 1,200: 5 samples are cut off.*leave_out=verify"):
        records.read(path, 64)
    damage = records.verify(path)
    assert sum(place.samples for place in damage) == 70
    intact = np.delete(x, range(450 + 80, 600), axis=0)
    found = all_of(records.read(path, 64, seed=None, leave_out=damage))
    np.testing.assert_array_equal(found, intact.astype("float32") / 255)


def test_a_missing_shard_is_named_and_the_rest_is_readable(path, x):
    (path / "shard-000000.bin").unlink()
    with pytest.raises(OSError, match=r"shard-000000\.bin, byte 0: 5 samples are missing, with the file"):
        records.read(path, 64)
    found = all_of(records.read(path, 64, seed=None, leave_out=records.verify(path)))
    np.testing.assert_array_equal(found, x[150:].astype("float32") / 255)


def test_damage_that_leaves_nothing_or_is_of_other_records_is_refused(path, tmp_path):
    for file in path.glob("*.bin"):
        file.unlink()
    damage = records.verify(path)
    with pytest.raises(ValueError, match="nothing is left"):
        records.read(path, 64, leave_out=damage)
    with pytest.raises(ValueError, match=r"shard-000000\.bin, which is not of these records"):
        records.read(numbered(tmp_path), 64, leave_out=damage)


# --- replicas --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_replicas_share_each_batch_and_train_to_the_weights_of_one_device(tmp_path):
    """A process of its own: the number of devices is fixed when TensorFlow starts."""
    records.write(tmp_path / "r", [np.random.default_rng(0).random((90, 6), "float32")], shard_size=20)
    script = """
        import sys
        from tfae import models, records, training
        import numpy as np, tensorflow as tf

        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
        )
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        single = list(records.read(sys.argv[1], 32, seed=1))
        shared = strategy.experimental_distribute_dataset(records.read(sys.argv[1], 32, seed=1))
        for batch, parts in zip(single, shared, strict=True):
            parts = strategy.experimental_local_results(parts)
            assert len(parts) == 2 and np.array_equal(np.concatenate(parts), batch)

        def build():
            model = models.dense_autoencoder(6, 2, (8,), seed=0)
            model.compile("adam", "mse")
            return model

        def fit(model):
            run = training.Resume(sys.argv[1] + model.name + ".npz", seed=1)
            batches = records.read(sys.argv[1], 32, run=run)
            model.fit(batches, epochs=2, shuffle=False, verbose=0, callbacks=[run])
            return model.get_weights()

        one = fit(build())
        with strategy.scope():
            model = build()
        two = fit(model)
        for a, b in zip(one, two, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
    """
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-c", textwrap.dedent(script), tmp_path / "r"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("argument", [{"batch_size": 0}, {"pool": 0}, {"seed": -1}])
def test_sizes_without_meaning_are_refused(path, argument):
    with pytest.raises(ValueError, match=f"{next(iter(argument))} is"):
        records.read(path, **({"batch_size": 10} | argument))
