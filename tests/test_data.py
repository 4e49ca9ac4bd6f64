import gzip
import inspect
import io
import shutil
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest

from tfae import data, heartbeats, loans, sentences, strokes, vowels
from tfae.alphabet import Alphabet

SIZES = {  # name: train, test, sample shape, classes
    "strokes": (10_000, 2_000, (28, 28, 1), 10),
    "digits": (1437, 360, (8, 8, 1), 10),
    "breast_cancer": (455, 114, (30,), 2),
    "two_class": (800, 200, (20,), 2),
    "loans": (8000, 4000, (7,), 2),
}


@pytest.mark.parametrize("name", SIZES)
def test_embedded_data_sets_have_the_promised_form(name):
    dataset = data.load(name)
    n_train, n_test, shape, classes = SIZES[name]
    assert dataset.x_train.shape == (n_train, *shape) and dataset.x_test.shape == (n_test, *shape)
    assert dataset.x_train.dtype == np.float32 and dataset.y_train.dtype == np.int64
    assert len(dataset.class_names) == classes
    assert set(dataset.y_train) == set(dataset.y_test) == set(range(classes))
    if len(shape) == 3:
        assert dataset.x_train.min() >= 0 and dataset.x_train.max() <= 1
    else:
        assert len(dataset.feature_names) == shape[0]
        np.testing.assert_allclose(dataset.x_train.mean(axis=0, dtype="float64"), 0, atol=1e-5)
        np.testing.assert_allclose(dataset.x_train.std(axis=0, dtype="float64"), 1, atol=1e-5)
        assert np.abs(dataset.x_test.mean(axis=0)).max() > 1e-3  # scaled by the training rows, not by its own


@pytest.mark.parametrize("name", SIZES)
def test_loading_twice_gives_the_same_arrays(name):
    first, second = data.load(name), data.load(name)
    np.testing.assert_array_equal(first.x_train, second.x_train)
    np.testing.assert_array_equal(first.y_test, second.y_test)


@pytest.mark.parametrize("name", SIZES)
def test_no_test_sample_is_a_training_sample(name):
    dataset = data.load(name)
    train = {sample.tobytes() for sample in dataset.x_train}
    assert not any(sample.tobytes() in train for sample in dataset.x_test)


def test_heartbeats_are_normal_to_train_on_and_of_five_kinds_to_test_on():
    dataset, again = data.load("heartbeats"), data.load("heartbeats")
    assert dataset.x_train.shape == (4000, 128) and dataset.x_test.shape == (1000, 128)
    assert dataset.x_train.dtype == np.float32 and not dataset.y_train.any()
    np.testing.assert_array_equal(np.bincount(dataset.y_test), [600, 100, 100, 100, 100])
    np.testing.assert_array_equal(dataset.factors_test[:, 0], dataset.y_test)
    assert len(dataset.feature_names) == 128 and dataset.class_names[4] == "inverted T"
    np.testing.assert_array_equal(dataset.x_test, again.x_test)
    # exp may differ in its last digits between machines, so values and not a digest: what seeds 0 and 1 gave at first
    np.testing.assert_allclose(dataset.x_train[0, 45:50], [0.119189, 0.488172, 0.752356, 0.991699, 0.852373], atol=1e-5)
    np.testing.assert_allclose(
        dataset.x_test[999, 80:85], [-0.325853, -0.225790, -0.228437, -0.180699, -0.169999], atol=1e-5
    )
    spread = [np.sqrt(np.mean(np.square(x), dtype="float64")) for x in (dataset.x_train, dataset.x_test)]
    np.testing.assert_allclose(spread, [0.301707, 0.306064], atol=1e-6)
    assert not {beat.tobytes() for beat in dataset.x_train} & {beat.tobytes() for beat in dataset.x_test}


def test_vowels_are_the_same_sounds_on_every_machine():
    dataset = data.load("vowels")
    assert dataset.x_train.shape == (2000, 3200) and dataset.x_test.shape == (500, 3200)
    assert dataset.x_train.dtype == np.float32 and np.abs(dataset.x_train).max() <= 0.5012
    assert dataset.class_names[0] == "heed" and np.bincount(dataset.y_test).tolist() == [50] * 10
    np.testing.assert_array_equal(dataset.factors_test[:, 0], dataset.y_test)
    # exp, cos and the filters may differ in their last digits, so values and not a digest: what seeds 0 and 1 gave
    np.testing.assert_allclose(dataset.factors_train[0, 1:5], [82.0089, 388.9344, 953.9106, 2018.3032], rtol=1e-6)
    np.testing.assert_allclose(
        dataset.x_train[0, 1000:1006], [0.109566, 0.128430, 0.140495, 0.145101, 0.131059, 0.089287], atol=1e-5
    )
    np.testing.assert_allclose(
        dataset.x_test[499, 1000:1006], [-0.000173, 0.018697, 0.020178, 0.026782, 0.006766, 0.041765], atol=1e-5
    )
    np.testing.assert_allclose(np.sqrt(np.mean(np.square(dataset.x_train), dtype="float64")), 0.0899737, atol=1e-6)


def test_sentences_are_those_of_their_factors_and_test_contents_are_new():
    dataset, alphabet = data.load("sentences"), Alphabet()
    assert dataset.x_train.shape == (20_000, 48) and dataset.x_test.shape == (2_000, 48)
    assert dataset.x_train.dtype == np.uint8 and dataset.y_train.dtype == np.int64
    test = alphabet.decode(dataset.x_test)
    assert test == sentences.draw(dataset.factors_test)
    assert not {*test} & {*alphabet.decode(dataset.x_train)}
    contents = [{row.tobytes() for row in factors[:, 3:]} for factors in (dataset.factors_train, dataset.factors_test)]
    assert len(contents[0]) == 20_000 and len(contents[1]) == 2_000 and not contents[0] & contents[1]
    np.testing.assert_array_equal(dataset.y_test, dataset.factors_test[:, 0])
    assert dataset.class_names == ("past", "present", "future") and "polarity" in repr(dataset)
    assert (
        data.digest(dataset.x_train)[:16] == "0e359315ecabcd69"
        and data.digest(dataset.x_test)[:16] == "b30b4b15867b158e"
    )


def test_a_checkpoint_is_a_file_and_an_unknown_one_lists_the_known(monkeypatch, tmp_path):
    monkeypatch.setattr(data, "_CHECKPOINTS", tmp_path)
    with pytest.raises(ValueError, match=r"no checkpoint 'haiku'; the known ones are \(none\).*make_checkpoints"):
        data.checkpoint("haiku")
    for name in ("b.keras", "a.keras", ".half.keras", "notes.txt"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"no checkpoint 'haiku'; the known ones are a, b\. In"):
        data.checkpoint("haiku")
    assert data.checkpoint("a") == tmp_path / "a.keras"


def test_a_dataset_prints_its_shapes_and_names():
    shown = repr(data.load("strokes"))
    for part in ("strokes", "(10000, 28, 28, 1)", "(2000, 28, 28, 1)", "thickness", "0, 1, 2"):
        assert part in shown
    assert "mean radius" in repr(data.load("breast_cancer"))


@pytest.mark.parametrize("name", [*SIZES, "vowels"])
def test_typical_samples_are_the_nearest_to_the_mean_of_their_class(name):
    dataset = data.load(name)
    typical = dataset.typical()
    np.testing.assert_array_equal(dataset.y_test[typical], np.arange(len(dataset.class_names)))
    for label, index in enumerate(typical):
        mean = dataset.x_train[dataset.y_train == label].mean(axis=0)
        nearest = min(np.linalg.norm(x - mean) for x in dataset.x_test[dataset.y_test == label])
        assert np.linalg.norm(dataset.x_test[index] - mean) == pytest.approx(nearest, rel=1e-5)


def test_typical_by_hand():
    x_train, y_train = np.array([[0.0], [4.0], [10.0], [20.0]]), np.array([1, 1, 0, 0])
    x_test, y_test = np.array([[2.0], [3.0], [14.0], [9.0], [15.5]]), np.array([0, 1, 0, 1, 0])
    dataset = data.Dataset("two", x_train, y_train, x_test, y_test, class_names=("a", "b"))
    assert dataset.typical().tolist() == [4, 1]  # nearest to 15 of class 0, and to 2 of class 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("heartbeats", "'heartbeats' has no training samples of .*inverted T: typical samples.*Choose.*y_test"),
        ("sentences", "'sentences' has characters, which have no mean: typical samples"),
    ],
)
def test_typical_samples_need_a_mean_of_every_class(name, message):
    with pytest.raises(ValueError, match=message):
        data.load(name).typical()


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown data set 'mnits'.*fashion_mnist, .*mnist, .*strokes"):
        data.load("mnits")


def test_the_environment_chooses_the_course_data(monkeypatch):
    monkeypatch.setenv("TFAE_DATASET", "digits")
    assert data.load().name == "digits"
    monkeypatch.delenv("TFAE_DATASET")
    assert data.load().name == "strokes"


# --- generators ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [strokes, vowels, heartbeats, sentences, loans], ids=lambda module: module.__name__)
def test_generators_keep_one_contract(module):
    """Factors are what a sample was drawn from: drawn again they give it again, and changed rows change alone."""
    x, factors = module.make(30, seed=3)
    assert factors.shape == (30, len(module.FACTOR_NAMES))
    np.testing.assert_array_equal(factors, module.sample_factors(30, seed=3))
    random = "seed" in inspect.signature(module.draw).parameters
    np.testing.assert_array_equal(x, module.draw(factors, **({"seed": 3} if random else {})))
    changed = factors.copy()
    changed[7, :4] = factors[factors[:, 0] != factors[7, 0]][0, :4]
    again = np.array(module.draw(changed.tolist(), **({"seed": 3} if random else {})))
    differs = [np.any(a != b) for a, b in zip(again, x, strict=True)]
    assert differs == [i == 7 for i in range(30)]
    for function in (module.make, module.sample_factors):
        assert inspect.signature(function).parameters["seed"].default == 0
        np.testing.assert_array_equal(function(5)[-1], function(5, seed=0)[-1])


# --- strokes: the file and the generator -----------------------------------------------------------------------------


@pytest.mark.slow
def test_the_generator_draws_the_committed_file_bit_for_bit():
    with np.load(data._STROKES_FILE) as committed:
        drawn = data.make_strokes()
        assert set(committed.files) == set(drawn)
        for key, array in drawn.items():
            assert array.dtype == committed[key].dtype
            np.testing.assert_array_equal(array, committed[key])


@pytest.mark.slow
def test_without_the_file_strokes_are_drawn_again(monkeypatch):
    expected = data.load("strokes").x_test
    monkeypatch.setattr(data, "_STROKES_FILE", Path("nowhere/strokes.npz"))
    np.testing.assert_array_equal(data.load("strokes").x_test, expected)


def test_a_changed_strokes_file_is_refused(monkeypatch, tmp_path):
    with np.load(data._STROKES_FILE) as committed:
        arrays = {key: committed[key].copy() for key in committed.files}
    arrays["x_test"][0, 0, 0] ^= 1  # one bit
    np.savez_compressed(tmp_path / "strokes.npz", **arrays)
    monkeypatch.setattr(data, "_STROKES_FILE", tmp_path / "strokes.npz")
    with pytest.raises(OSError, match="is not 'strokes': its x_test"):
        data.load("strokes")


# --- MNIST and Fashion-MNIST: files, cache, download -----------------------------------------------------------------


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """No file anywhere and no network: HOME and the data directory are empty."""

    def refuse(url, timeout):
        raise URLError("Name or service not known")

    monkeypatch.setattr(data, "urlopen", refuse)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.delenv("TFAE_DATA_DIR", raising=False)
    return tmp_path


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_absent_and_offline_is_one_clear_error(name, no_network):
    with pytest.raises(OSError, match=f"'{name}' is not on this machine.*TFAE_DATA_DIR.*strokes") as caught:
        data.load(name)
    assert "Name or service not known" in str(caught.value)
    assert not list(no_network.rglob("*.npz")) and not list(no_network.rglob("*.gz"))


def test_a_data_directory_that_does_not_exist_is_named(monkeypatch):
    monkeypatch.setenv("TFAE_DATA_DIR", "/no/such/place")
    with pytest.raises(OSError, match="TFAE_DATA_DIR is '/no/such/place', which is not a directory"):
        data.load("mnist")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged or not what its name says"),
        (b"<html>404</html>", "damaged or not what its name says"),
        (b"PK\x03\x04 cut short", "damaged or not what its name says"),
    ],
)
def test_a_corrupt_mnist_is_refused(content, message, no_network, monkeypatch):
    (no_network / "mnist.npz").write_bytes(content)
    monkeypatch.setenv("TFAE_DATA_DIR", str(no_network))
    with pytest.raises(OSError, match=message) as caught:
        data.load("mnist")
    assert "mnist.npz" in str(caught.value)


def test_a_truncated_mnist_is_refused(no_network, monkeypatch):
    whole = io.BytesIO()
    np.savez(whole, **dict.fromkeys(("x_train", "y_train", "x_test", "y_test"), np.zeros((50, 28, 28), np.uint8)))
    (no_network / "mnist.npz").write_bytes(whole.getvalue()[:-5000])
    monkeypatch.setenv("TFAE_DATA_DIR", str(no_network))
    with pytest.raises(OSError, match="damaged"):
        data.load("mnist")


def test_another_archive_under_the_name_of_mnist_is_refused(no_network, monkeypatch):
    monkeypatch.setenv("TFAE_DATA_DIR", str(no_network))
    np.savez(no_network / "mnist.npz", images=np.zeros(3))
    with pytest.raises(OSError, match=r"arrays x_train, y_train, x_test, y_test"):
        data.load("mnist")
    np.savez(no_network / "mnist.npz", **dict.fromkeys(("x_train", "y_train", "x_test", "y_test"), np.zeros(3)))
    with pytest.raises(OSError, match=r"is not 'mnist': its x_train \(3,\) float64 has SHA-256"):
        data.load("mnist")


def test_a_broken_download_leaves_no_file(no_network, monkeypatch):
    monkeypatch.setattr(data, "urlopen", lambda url, timeout: io.BytesIO(b"half a file"))
    with pytest.raises(OSError, match="damaged"):
        data.load("mnist")
    assert [path for path in no_network.rglob("*") if path.is_file()] == []


def test_a_download_is_kept_and_read_the_next_time(real_data, no_network, monkeypatch):
    urls = []

    def serve(url, timeout):
        urls.append(url)
        return open(Path(real_data) / "mnist.npz", "rb")

    monkeypatch.setattr(data, "urlopen", serve)
    data.load("mnist")
    data.load("mnist")
    assert urls == [f"{data.DOWNLOAD_FROM}/mnist.npz"]
    assert (no_network / "keras" / "datasets" / "mnist.npz").exists()


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_the_real_data_are_read_and_checked(name, real_data):
    dataset = data.load(name)
    assert dataset.x_train.shape == (60_000, 28, 28, 1) and dataset.x_test.shape == (10_000, 28, 28, 1)
    mean = {"mnist": 0.13066, "fashion_mnist": 0.28604}[name]
    assert abs(dataset.x_train.mean(dtype="float64") - mean) < 1e-5


def test_another_packing_of_the_same_arrays_is_accepted(real_data, tmp_path, monkeypatch):
    with np.load(Path(real_data) / "mnist.npz") as archive:
        np.savez(tmp_path / "mnist.npz", **archive)
    monkeypatch.setenv("TFAE_DATA_DIR", str(tmp_path))
    assert len(data.load("mnist").x_train) == 60_000


def test_a_truncated_idx_file_is_refused(real_data, tmp_path, monkeypatch):
    shutil.copytree(Path(real_data) / "fashion-mnist", tmp_path / "fashion-mnist")
    labels = tmp_path / "fashion-mnist" / "t10k-labels-idx1-ubyte.gz"
    whole = gzip.decompress(labels.read_bytes())
    labels.chmod(0o644)
    labels.write_bytes(gzip.compress(whole[:-1]))
    monkeypatch.setenv("TFAE_DATA_DIR", str(tmp_path))
    with pytest.raises(OSError, match=r"t10k-labels-idx1-ubyte\.gz is damaged"):
        data.load("fashion_mnist")
