import functools
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from PIL import Image
from sklearn.model_selection import KFold

from tfae import attribution, generation, models, targets, training


def autoencoder(seed=0, optimizer="adam"):
    model = models.dense_autoencoder((28, 28, 1), 8, (32,), seed=seed)
    model.compile(optimizer, "mse")
    return model


# --- when to stop ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("monitor", ["loss", "val_loss"])
def test_stops_at_the_end_of_the_first_epoch_below_the_threshold(monitor, images):
    keras.utils.set_random_seed(0)
    full = autoencoder().fit(images, epochs=8, validation_data=images, verbose=0).history[monitor]
    threshold = (full[3] + full[4]) / 2
    keras.utils.set_random_seed(0)
    stop = training.StopAtLoss(threshold, monitor)
    stopped = autoencoder().fit(images, epochs=8, validation_data=images, verbose=0, callbacks=[stop])
    assert len(stopped.history[monitor]) == 5
    np.testing.assert_allclose(stopped.history[monitor], full[:5], rtol=1e-5)


def test_early_stopping_brings_back_the_best_weights(images):
    model = autoencoder(optimizer=keras.optimizers.Adam(0.05))
    stop = training.EarlyStopping(patience=2)
    history = model.fit(images[:64], validation_data=images[64:], epochs=200, verbose=0, callbacks=[stop])
    val_loss = history.history["val_loss"]
    assert len(val_loss) < 200 and len(val_loss) == np.argmin(val_loss) + 1 + 2
    np.testing.assert_allclose(model.evaluate(images[64:], verbose=0), min(val_loss), rtol=1e-5)


@pytest.mark.parametrize("stop", [training.StopAtLoss(0.1, "val_loss"), training.EarlyStopping()])
def test_a_metric_that_is_not_logged_is_an_error(stop, images):
    with pytest.raises(ValueError, match=r"no 'val_loss' is logged; there are loss\. Give fit a validation_data"):
        autoencoder().fit(images, verbose=0, callbacks=[stop])


def test_stop_rules_refuse_numbers_without_meaning():
    with pytest.raises(ValueError, match="threshold is nan"):
        training.StopAtLoss(float("nan"))
    with pytest.raises(ValueError, match="patience is -1"):
        training.EarlyStopping(patience=-1)


def test_no_patience_stops_at_the_first_epoch_without_an_improvement(images):
    model = autoencoder(optimizer=keras.optimizers.SGD(0.0))
    history = model.fit(
        images, epochs=9, shuffle=False, verbose=0, callbacks=[training.EarlyStopping("loss", patience=0)]
    )
    assert len(history.history["loss"]) == 2


# --- progress --------------------------------------------------------------------------------------------------------


def test_progress_leaves_one_line_without_a_time(images, capsys):
    autoencoder().fit(images, epochs=3, verbose=0, validation_data=images, callbacks=[training.Progress()])
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and out.startswith("epoch 3/3  loss 0.") and "val_loss" in out and " s " not in out


def test_progress_rewrites_its_line_in_a_terminal(images, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    autoencoder().fit(images, epochs=3, verbose=0, callbacks=[training.Progress()])
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and out.count("\r") == 4 and "s left" in out
    assert out.rsplit("\r", 1)[1].rstrip().startswith("epoch 3/3") and "left" not in out.rsplit("\r", 1)[1]


# --- explanations while it trains ------------------------------------------------------------------------------------


def logged(folder):
    """What TensorBoard would read: (step, tag) -> number, or picture."""
    found = {}
    for file in sorted(folder.glob("events*")):
        for record in tf.data.TFRecordDataset(str(file)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                if value.HasField("image"):
                    png = tf.io.decode_png(value.image.encoded_image_string)
                    assert png.shape[:2] == (value.image.height, value.image.width)
                    found[event.step, value.tag] = png.numpy()
                else:
                    found[event.step, value.tag] = value.simple_value
    return found


def table_regressor():
    model = keras.Sequential([keras.Input((7,)), layers.Dense(8, "tanh"), layers.Dense(1)])
    model.compile("adam", "mse", steps_per_execution=4)
    return model, targets.output(model, 0)


def image_classifier():
    model = keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(3, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", steps_per_execution=8)
    return model, targets.logit(model, 1)


def plain_autoencoder():
    model = autoencoder()
    return model, targets.reconstruction_error(model)


def variational():
    model = models.VariationalAutoencoder(
        models.dense_encoder((28, 28, 1), 2 * 4, (16,), seed=0), models.dense_decoder((28, 28, 1), 4, (16,), seed=0)
    )
    model.compile("adam")
    return model, targets.elbo(model)


@pytest.mark.slow
@pytest.mark.parametrize("build", [plain_autoencoder, variational, image_classifier, table_regressor])
def test_explanations_are_kept_counted_drawn_and_logged(build, images, tmp_path):
    keras.utils.set_random_seed(0)
    model, target = build()
    x = images.reshape(256, -1)[:, :7] if build is table_regressor else images
    y = {table_regressor: x[:, :1], image_classifier: np.arange(256) % 3}.get(build)
    live = training.Explain({"it": target}, x[:4], path=tmp_path / "strip.png", log_dir=tmp_path / "log")
    model.fit(*(part for part in (x, y) if part is not None), epochs=3, verbose=0, callbacks=[live])
    assert live.history["epoch"] == [0, 1, 2, 3] and len(live.maps["it"]) == 4
    assert all(maps.shape == (4, *x.shape[1:]) for maps in live.maps["it"])
    expected = attribution.integrated_gradients(target, x[:4], steps=32)
    np.testing.assert_allclose(live.maps["it"][-1], expected.values, rtol=1e-4, atol=1e-6)
    assert live.history["it gap"][-1] == pytest.approx(expected.completeness_gap.max(), rel=0.05, abs=1e-4)
    assert live.history["it drift"][0] == 0 and all(0 < drift <= 1 for drift in live.history["it drift"][1:])
    assert live.history["it drift"][3] == training._drift(*live.maps["it"][2:])  # since the moment before
    with Image.open(tmp_path / "strip.png") as strip:
        height, width = strip.size[::-1]
    found = logged(tmp_path / "log")
    assert {step for step, _ in found} == {0, 1, 2, 3} and {tag for _, tag in found} == {
        "it maps",
        "it drift",
        "it gap",
    }
    tall, wide = found[3, "it maps"].shape[:2]
    assert not np.array_equal(found[0, "it maps"], found[3, "it maps"])
    assert width > 5 * wide / 4 and height > 4 * tall  # five columns, four rows
    assert found[3, "it drift"] == pytest.approx(live.history["it drift"][-1])
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["strip.png"]


@pytest.mark.slow
def test_explaining_changes_nothing_in_what_is_learned(images):
    histories = []
    for explains in (False, True):
        keras.utils.set_random_seed(0)
        model = model_with_noise()
        live = training.Explain({"error": targets.reconstruction_error(model)}, images[:2])
        callbacks = [live] if explains else []
        histories.append(model.fit(images, epochs=3, verbose=0, callbacks=callbacks).history)
    assert histories[0] == histories[1]


def test_a_target_is_compiled_once_and_the_seconds_are_told(images):
    model, traces = autoencoder(), []

    def read(x_hat, x):
        if not tf.executing_eagerly():
            traces.append(1)
        return keras.ops.mean(keras.ops.square(x_hat - x), axis=(1, 2, 3))

    target = targets.Target("error", model, read)
    live = training.Explain({"error": target}, images[:4])
    began = time.perf_counter()
    model.fit(images, epochs=6, verbose=0, callbacks=[live])
    assert len(traces) == 1
    assert 0 < sum(live.history["seconds"]) < time.perf_counter() - began
    assert np.median(live.history["seconds"][1:]) < live.history["seconds"][0]  # which has made the graph


@pytest.mark.slow
def test_epochs_may_be_left_out_and_the_first_and_the_last_never_are(images):
    model = autoencoder()
    live = training.Explain({"code": targets.latent(model, 0)}, images[:1], attribution.gradient, every=3)
    model.fit(images, epochs=7, verbose=0, callbacks=[live])
    assert live.history["epoch"] == [0, 3, 6, 7] and "code gap" not in live.history
    model.fit(images, epochs=1, verbose=0, callbacks=[live])
    assert live.history["epoch"] == [0, 1]  # of this run


@pytest.mark.slow
def test_explaining_goes_on_after_an_interruption(images, tmp_path):
    live = [training.Explain({"it": targets.latent(model_with_noise(), 0)}, images[:1])]  # of a model of its own
    with pytest.raises(KeyboardInterrupt):
        fit(model_with_noise(), tmp_path / "run.npz", images, callbacks=[*live, InterruptAt(12)])
    model = model_with_noise()
    again = training.Explain({"it": targets.reconstruction_error(model)}, images[:1], log_dir=tmp_path)
    fit(model, tmp_path / "run.npz", images, epochs=4, callbacks=[again])
    assert live[0].history["epoch"] == [0, 1, 2] and again.history["epoch"] == [2, 3, 4]
    assert {step for step, _ in logged(tmp_path)} == {2, 3, 4}


def test_a_gan_is_explained_by_what_its_parts_say(images):
    discriminator = keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(1)])
    generator = keras.Sequential([keras.Input((3,)), layers.Dense(784, "sigmoid"), layers.Reshape((28, 28, 1))])
    gan = generation.GenerativeAdversarialNetwork(generator, discriminator)
    gan.compile("adam")
    live = training.Explain({"real": targets.output(discriminator, 0)}, images[:2])
    gan.fit(images, epochs=2, verbose=0, callbacks=[live])
    assert live.history["epoch"] == [0, 1, 2] and live.history["real drift"][-1] > 0


@pytest.mark.slow
def test_a_leak_of_the_labels_shows_in_the_corner(images):
    """The label is written into four pixels: the maps go there, and stay away where the pixels say nothing."""
    y = np.arange(256) % 2
    shares = {}
    for kind, mark in (("leak", y), ("no leak", np.random.default_rng(0).permutation(y))):
        x = images - 0.5
        x[:, :2, :2, 0] = mark[:, np.newaxis, np.newaxis] - 0.5
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(8, "relu"), layers.Dense(2)])
        model.compile(keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        marked = np.flatnonzero(mark == 1)[:8]
        live = training.Explain({"class 1": targets.output(model, 1)}, x[marked])
        model.fit(x, y, epochs=12, batch_size=32, verbose=0, callbacks=[live])
        sizes = [np.abs(maps) for maps in live.maps["class 1"]]
        shares[kind] = [float(np.mean(size[:, :2, :2].sum((1, 2, 3)) / size.sum((1, 2, 3)))) for size in sizes]
    assert shares["leak"][-1] > 4 * shares["leak"][0] and shares["leak"][-1] > 4 * shares["no leak"][-1]


def test_drift_by_hand():
    a, b = np.array([[3.0, 4.0], [0.0, 0.0]]), np.array([[0.0, 0.0], [0.0, 0.0]])
    assert training._drift(a, b) == 0.5 and training._drift(a, a) == 0 and training._drift(a, -a) == 0.5
    assert training._drift(a[:1], 3 * a[:1]) == pytest.approx(10 / 20)


def test_a_map_is_drawn_on_its_own_scale_red_for_and_blue_against():
    picture = training._picture(np.array([[[2.0], [0.0]], [[-2.0], [0.0]]]), "RdBu_r")
    assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
    red, white, blue = picture[0, 0].astype(int), picture[0, -1].astype(int), picture[-1, 0].astype(int)
    assert red[0] > red[2] + 50 and blue[2] > blue[0] + 50 and white.min() > 240
    assert training._picture(np.zeros((3, 3, 1)), "RdBu_r").min() > 240
    assert training._picture(np.arange(7.0), "gray_r").shape == (20, 70, 3)  # a table
    assert training._picture(np.ones((128, 2)), "RdBu_r").shape == (16, 128, 3)  # a series of two channels


def test_a_strip_has_at_most_twelve_columns():
    narrow, wide = (training._strip(np.zeros((1, 4)), {"it": [np.ones((1, 4))] * n}, [*range(n)]) for n in (12, 40))
    assert narrow.size == wide.size


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({}, np.zeros((1, 3))), r"targets is \{\}; give what to explain by name"),
        ((np.mean, np.zeros((1, 3))), "targets is <function mean"),
        (({"it": np.mean}, np.full((1, 3), np.nan)), "probes holds 3 values that are NaN"),
        (({"it": np.mean}, np.zeros((0, 3))), "probes is empty"),
    ],
)
def test_what_cannot_be_explained_is_refused_at_once(arguments, message):
    with pytest.raises(ValueError, match=message):
        training.Explain(*arguments)


def test_a_bad_target_stops_before_the_first_step(images, tmp_path):
    model = autoencoder()
    before = model.get_weights()
    for live, message in (
        (training.Explain({"it": targets.latent(model, 99)}, images[:1], path=tmp_path / "it.png"), "no code unit 99"),
        (training.Explain({"it": targets.latent(model, 0)}, images[:2], lambda target, x: x[:1]), "for 2 probes"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(images, verbose=0, callbacks=[live])
    np.testing.assert_array_equal(model.get_weights()[0], before[0])
    assert not list(tmp_path.iterdir())


# --- interruption and resumption -------------------------------------------------------------------------------------


def model_with_noise():
    """A model whose training depends on the state of a random layer as well."""
    encoder = keras.Sequential(
        [keras.Input((28, 28, 1)), layers.Flatten(), layers.Dropout(0.2, seed=1), layers.BatchNormalization(),
         layers.Dense(8, kernel_initializer=keras.initializers.GlorotUniform(1))]
    )  # fmt: skip
    decoder = keras.Sequential(
        [keras.Input((8,)), layers.Dense(784, kernel_initializer=keras.initializers.GlorotUniform(2)),
         layers.Reshape((28, 28, 1))]
    )  # fmt: skip
    model = models.Autoencoder(encoder, decoder)
    model.compile(keras.optimizers.Adam(1e-3), "mse", metrics=["mae"])
    return model


class InterruptAt(keras.callbacks.Callback):
    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def fit(model, path, x, epochs=10, callbacks=(), **options):
    run = training.Resume(path, **options)
    model.fit(run.batches(x, batch_size=60), epochs=epochs, shuffle=False, verbose=0, callbacks=[run, *callbacks])
    return run


@pytest.mark.slow
def test_five_epochs_a_kill_and_five_more_equal_ten(images, tmp_path):
    whole = model_with_noise()
    run = fit(whole, tmp_path / "whole.npz", images)
    with pytest.raises(KeyboardInterrupt):
        fit(model_with_noise(), tmp_path / "part.npz", images, callbacks=[InterruptAt(5 * 5 + 3)])
    keras.utils.set_random_seed(123)  # another process would have another random state
    again = model_with_noise()
    resumed = fit(again, tmp_path / "part.npz", images)
    for a, b in zip(whole.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
    assert list(resumed.history) == ["loss", "mae"] and len(resumed.history["loss"]) == 10
    np.testing.assert_allclose(resumed.history["loss"], run.history["loss"], rtol=0, atol=1e-6)


@pytest.mark.slow
def test_a_killed_process_resumes_to_the_same_weights(tmp_path):
    """kill -9 in the middle of an epoch, then the same command again."""
    script = tmp_path / "train.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, signal, sys
            import tfae
            import keras, numpy as np
            from tfae import attribution, generation, models, targets, training

            class KillAt(keras.callbacks.Callback):
                def on_epoch_begin(self, epoch, logs=None):
                    self.epoch = epoch
                def on_train_batch_end(self, batch, logs=None):
                    if len(sys.argv) > 3 and (self.epoch, batch) == (5, 1):
                        os.kill(os.getpid(), signal.SIGKILL)

            x = np.random.default_rng(0).random((200, 6), dtype="float32")
            model = models.dense_autoencoder(6, 2, (8,), seed=0)
            model.compile("adam", "mse")
            run = training.Resume(sys.argv[1], seed=4)
            model.fit(run.batches(x, batch_size=50), epochs=10, shuffle=False, verbose=0, callbacks=[run, KillAt()])
            np.savez(sys.argv[2], *model.get_weights())
            """
        )
    )

    def train(*arguments):
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
        return subprocess.run([sys.executable, script, *arguments], env=environment).returncode

    assert train(tmp_path / "a.npz", tmp_path / "a-weights.npz") == 0
    assert train(tmp_path / "b.npz", tmp_path / "b-weights.npz", "kill") == -9
    assert not (tmp_path / "b-weights.npz").exists()
    assert train(tmp_path / "b.npz", tmp_path / "b-weights.npz") == 0
    with np.load(tmp_path / "a-weights.npz") as a, np.load(tmp_path / "b-weights.npz") as b:
        for key in a.files:
            np.testing.assert_allclose(a[key], b[key], rtol=0, atol=1e-6)


def test_each_epoch_has_its_own_order_and_every_sample_once(tmp_path):
    x = np.arange(10, dtype="float32")[:, None]
    run = training.Resume(tmp_path / "a.npz", seed=1)
    dataset = run.batches(x, x, batch_size=4)
    orders = []
    for epoch in (0, 1, 0):
        run.on_epoch_begin(epoch)
        pairs = list(dataset)
        assert [len(a) for a, _ in pairs] == [4, 4, 2] and all(np.array_equal(a, b) for a, b in pairs)
        orders.append(np.concatenate([a for a, _ in pairs]).ravel())
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(10))
    assert not np.array_equal(orders[0], orders[1])
    np.testing.assert_array_equal(orders[0], orders[2])


def test_a_finished_run_is_not_trained_again(images, tmp_path):
    model = model_with_noise()
    fit(model, tmp_path / "a.npz", images, epochs=2)
    before = model.get_weights()
    run = fit(model, tmp_path / "a.npz", images, epochs=2)
    assert len(run.history["loss"]) == 2
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    history = model.fit(images, epochs=2, verbose=0)  # and a plain fit afterwards is not affected
    assert len(history.history["loss"]) == 2


def test_a_checkpoint_of_another_run_is_refused(images, tmp_path):
    path = tmp_path / "a.npz"
    fit(model_with_noise(), path, images, epochs=1)
    with pytest.raises(ValueError, match="a run with another model"):
        fit(autoencoder(), path, images, epochs=2)
    with pytest.raises(ValueError, match=r"another data: samples 256 there, 100 here"):
        fit(model_with_noise(), path, images[:100], epochs=2)
    with pytest.raises(ValueError, match=r"another data: digest '\w+' there"):
        fit(model_with_noise(), path, images[::-1], epochs=2)
    with pytest.raises(ValueError, match=r"another data: seed 0 there, 1 here"):
        fit(model_with_noise(), path, images, epochs=2, seed=1)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(OSError, match=r"not a checkpoint that can be read.*Delete it"):
        fit(model_with_noise(), path, images, epochs=2)


@pytest.mark.slow
def test_a_checkpoint_of_another_plan_is_refused(images, tmp_path):
    def model(activation="relu", loss="mse", optimizer=None):
        built = models.dense_autoencoder((28, 28, 1), 8, (32,), activation=activation, seed=0)
        built.compile(optimizer or keras.optimizers.Adam(0.001), loss)
        return built

    fit(model(), tmp_path / "a.npz", images, epochs=1)
    fit(model(), tmp_path / "a.npz", images, epochs=2)  # the same plan in new objects
    for changes, message in (
        ({"activation": "tanh"}, r"another model: activation 'relu' there, 'tanh' here"),
        ({"loss": "mae"}, r"another loss: .*mean_squared_error.* there, .*mean_absolute_error"),
        ({"optimizer": keras.optimizers.SGD(0.01)}, r"another optimizer: 'Adam' there, 'SGD' here"),
        ({"optimizer": keras.optimizers.Adam(0.01, beta_1=0.5)}, r"another optimizer: beta_1 0.9 there, 0.5 here"),
        ({"optimizer": keras.optimizers.Adam(0.02)}, r"another learning rate: 0.00\d+ there, 0.0\d+ here"),
    ):
        with pytest.raises(ValueError, match=message):
            fit(model(**changes), tmp_path / "a.npz", images, epochs=3)


def test_a_rate_that_a_callback_has_lowered_is_no_other_plan(images, tmp_path):
    model = autoencoder()
    lower = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    fit(model, tmp_path / "a.npz", images, epochs=2, callbacks=[lower])
    fit(model, tmp_path / "a.npz", images, epochs=3)  # the same object, whose rate is now a quarter
    fit(autoencoder(), tmp_path / "a.npz", images, epochs=4)


def test_resume_takes_sample_weights(images, tmp_path):
    weights = np.linspace(0, 2, len(images)).astype("float32")
    run = training.Resume(tmp_path / "a.npz")
    model = autoencoder(optimizer=keras.optimizers.SGD(0.0))
    batches = run.batches(images, sample_weight=weights, batch_size=64)
    loss = model.fit(batches, shuffle=False, verbose=0, callbacks=[run]).history["loss"][0]
    np.testing.assert_allclose(loss, np.mean(weights * model.reconstruction_error(images)), rtol=1e-5)


def test_resume_needs_its_own_order_of_the_samples(images, tmp_path):
    with pytest.raises(ValueError, match=r"Resume\.batches"):
        autoencoder().fit(images, verbose=0, callbacks=[training.Resume(tmp_path / "a.npz")])
    with pytest.raises(ValueError, match="x holds 256 samples and y holds 3"):
        training.Resume(tmp_path / "a.npz").batches(images, np.zeros(3))


# --- training again --------------------------------------------------------------------------------------------------


def noisy(seed=0):
    """A model with everything that a restart has to bring back: dropout, moving means, moments, its own noise."""
    encoder = keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, "relu"), layers.BatchNormalization(), layers.Dropout(0.2), layers.Dense(6)]
    )
    decoder = keras.Sequential([keras.Input((3,)), layers.Dense(6, "sigmoid")])
    model = models.VariationalAutoencoder(encoder, decoder)
    model.compile(keras.optimizers.Nadam(0.01))
    return model


@pytest.mark.slow
def test_a_restarted_model_equals_a_new_one_to_the_last_bit():
    x = np.random.default_rng(0).random((70, 6)).astype("float32")

    def trained(model):
        return model.fit(x, epochs=3, batch_size=16, verbose=0).history["loss"], model.get_weights()

    @functools.cache
    def fresh(seed, rate):
        keras.utils.set_random_seed(seed)
        model = noisy(seed)
        if rate is not None:
            model.optimizer.learning_rate = rate
        return trained(model)

    restart = training.restartable(noisy)
    for seed, rate in ((0, None), (1, None), (0, 0.03), (1, None)):
        losses, weights = trained(restart(seed, learning_rate=rate))
        assert losses == fresh(seed, rate)[0]
        assert all(np.array_equal(a, b) for a, b in zip(weights, fresh(seed, rate)[1], strict=True))


def test_a_restarted_model_is_traced_once():
    x, traced = np.random.default_rng(0).random((32, 6)).astype("float32"), []

    class Traced(models.Autoencoder):
        def train_step(self, data):
            traced.append(1)
            return super().train_step(data)

    def build(seed):
        parts = models.dense_autoencoder((6,), 2, (4,), seed=seed)
        model = Traced(parts.encoder, parts.decoder)
        model.compile("adam", "mse")
        return model

    restart = training.restartable(build)
    restart(0).fit(x, batch_size=16, verbose=0)
    once = len(traced)
    for seed in range(1, 4):
        restart(seed).fit(x, batch_size=16, verbose=0)
    assert len(traced) == once


def test_a_model_that_cannot_be_restarted_is_named():
    with pytest.raises(ValueError, match="not compiled"):
        training.restartable(lambda seed: models.dense_autoencoder((6,), 2))(0)

    def unbuilt(seed):
        model = models.Autoencoder(keras.Sequential([layers.Dense(2)]), keras.Sequential([layers.Dense(6)]))
        model.compile("adam", "mse")
        return model

    with pytest.raises(ValueError, match="without weights yet; give x"):
        training.restartable(unbuilt)(0)
    x = np.ones((4, 6), "float32")
    assert training.restartable(unbuilt, x=x)(0).fit(x, verbose=0).history["loss"]


def test_peak_memory_sees_what_is_held_and_given_back():
    with training.PeakMemory() as memory:
        held = np.ones(30_000_000, "float32")
        held.sum()
        time.sleep(0.1)
        del held
    assert 100e6 < memory.growth < 400e6


# --- where the time goes ---------------------------------------------------------------------------------------------


def test_each_moment_of_a_profile_is_counted_once_for_what_comes_first():
    host = [
        ("/host:CPU", "python", "tfae.training.Profile", 0, 100),
        ("/host:CPU", "python", "TFE_Py_ExecuteCancelable", 5, 70),
        ("/host:CPU", "tf_Compute/1", "ExecutorState::Process", 5, 60),
        ("/host:CPU", "tf_Compute/1", "dense/MatMul:MatMul", 10, 30),
        ("/host:CPU", "tf_Compute/2", "dense/Relu:Relu", 20, 40),
        ("/host:CPU", "tf_data_private_threadpool/3", "GatherV2", 35, 50),
        ("/host:CPU", "tf_Compute/2", "dense/MatMul:MatMul", 90, 120),  # ends after the block
    ]
    wanted = {"arithmetic": 40, "input": 10, "dispatch": 25, "Python": 25}
    assert training.Profile._partition(host) == {part: pytest.approx(t * 1e-12) for part, t in wanted.items()}
    on_gpu = training.Profile._partition([*host, ("/device:GPU:0", "Stream #13", "sgemm", 30, 34)])
    wanted = {"arithmetic": 4, "input": 15, "dispatch": 46, "Python": 35}  # what the host does is to launch it
    assert on_gpu == {part: pytest.approx(t * 1e-12) for part, t in wanted.items()}


def test_a_profile_finds_the_arithmetic_of_xla_where_there_is_one_thread():
    one = [
        ("/host:CPU", "python", "tfae.training.Profile", 0, 100),
        ("/host:CPU", "python", "TFE_Py_ExecuteCancelable", 5, 70),
        ("/host:CPU", "python", "ThunkExecutor::Execute", 6, 69),
        ("/host:CPU", "python", "while.4", 8, 66),  # a loop around instructions is none
        ("/host:CPU", "python", "MatMul_1.83", 10, 30),
        ("/host:CPU", "python", "add_select_fusion.2", 30, 36),
    ]
    wanted = {"arithmetic": 26, "input": 0, "dispatch": 39, "Python": 35}
    assert training.Profile._partition(one) == {part: pytest.approx(t * 1e-12) for part, t in wanted.items()}


@pytest.mark.slow
def test_a_profile_finds_arithmetic_input_and_python():
    many = tf.ones((1500, 1500))
    multiply = tf.function(lambda a: tf.reduce_sum(a @ a @ a @ a))

    def slow(i):
        time.sleep(0.2)
        return i

    batches = tf.data.Dataset.range(4).map(lambda i: tf.numpy_function(slow, [i], tf.int64))
    multiply(many), list(batches)  # compiles
    works = {
        "arithmetic": lambda: [multiply(many).numpy() for _ in range(3)],
        "input": lambda: list(batches),
        "Python": lambda: time.sleep(0.2),
    }
    for part, work in works.items():
        start = time.perf_counter()
        with training.Profile() as profile:
            work()
            seconds = time.perf_counter() - start
        assert max(profile.seconds, key=profile.seconds.get) == part, profile.seconds
        assert 0.5 * seconds < sum(profile.seconds.values()) < 1.1 * seconds


def test_a_failure_inside_a_profile_is_the_one_that_is_raised():
    with pytest.raises(ZeroDivisionError), training.Profile():
        1 / 0  # noqa: B018
    with training.Profile() as profile:  # and the next profile can start
        pass
    assert sum(profile.seconds.values()) > 0


# --- choosing the code size ------------------------------------------------------------------------------------------


def build(code_size):
    model = models.linear_autoencoder(10, code_size)
    model.compile(keras.optimizers.Adam(0.01), "mse", steps_per_execution=10)
    return model


@pytest.fixture(scope="module")
def rank_three():
    """Samples in a space of three dimensions, plus a little noise."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(300, 3)) @ rng.normal(size=(3, 10)) + 0.05 * rng.normal(size=(300, 10))).astype("float32")


@pytest.mark.slow
def test_cross_validation_finds_the_rank_and_pca_is_its_closed_form(rank_three):
    lines = []
    choice = training.choose_code_size(
        build, rank_three, (1, 3, 2), folds=3, seed=0, progress=lines.append, epochs=60, batch_size=20
    )
    assert choice.code_sizes == (1, 2, 3) and choice.chosen == 3
    assert choice.errors.shape == choice.pca_errors.shape == (3, 3) and len(lines) == 9
    np.testing.assert_allclose(choice.pca_errors[2].mean(), 0.05**2 * 7 / 10, rtol=0.15)
    assert (choice.errors >= choice.pca_errors * 0.98).all()  # a linear model cannot beat PCA by more than chance
    assert "<- chosen" in repr(choice).splitlines()[3]


def test_the_smallest_size_within_one_standard_error_is_chosen():
    errors = np.array([[9.0, 9.0], [1.15, 0.95], [1.1, 0.9], [1.1, 0.95]])  # the best is 1.0, with standard error 0.1
    assert training._smallest_within_one_standard_error((1, 2, 3, 4), errors) == 2


@pytest.mark.slow
def test_each_fold_trains_a_new_model(rank_three):
    """One model is traced and started again; that must equal a model built for each fold."""
    choice = training.choose_code_size(build, rank_three, (2,), folds=2, seed=5, epochs=3, batch_size=20)
    splits = KFold(2, shuffle=True, random_state=5).split(rank_three)
    for j, (train, held_out) in enumerate(splits):
        keras.utils.set_random_seed(5 + j)
        model = build(2)
        model.fit(rank_three[train], epochs=3, batch_size=20, verbose=0)
        np.testing.assert_allclose(
            choice.errors[0, j], model.reconstruction_error(rank_three[held_out]).mean(), rtol=1e-5
        )


def test_cross_validation_may_be_watched(rank_three, capsys):
    training.choose_code_size(build, rank_three, (2,), folds=2, epochs=1, verbose=2)
    assert "loss" in capsys.readouterr().out


@pytest.mark.slow
def test_cross_validation_is_the_same_for_the_same_seed(rank_three):
    runs = [training.choose_code_size(build, rank_three, (2,), folds=2, seed=s, epochs=2) for s in (0, 0, 1)]
    np.testing.assert_array_equal(runs[0].errors, runs[1].errors)
    assert not np.array_equal(runs[0].errors, runs[2].errors)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"code_sizes": ()}, "code_sizes is empty"),
        ({"code_sizes": (2, 0)}, "a size in code_sizes is 0"),
        ({"code_sizes": (2, 11)}, "code size 11 is larger than 10"),
        ({"folds": 1}, "folds is 1"),
        ({"folds": 301}, "folds is 301"),
        ({"build": "dense"}, "build is 'dense'; it must be a function"),
        ({"x": np.full((10, 4), np.nan)}, "NaN"),
    ],
)
def test_cross_validation_says_what_is_wrong(arguments, message, rank_three):
    arguments = {"build": build, "x": rank_three, "code_sizes": (2,)} | arguments
    with pytest.raises(ValueError, match=message):
        training.choose_code_size(**arguments)


# --- four ways to write one model ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_sequential_functional_subclassed_and_a_loop_have_equal_losses(images):
    """Step by step to 1e-6, from the same weights, as chapter 03 shows."""
    import tensorflow as tf
    from test_models import functional, sequential, subclassed

    def new(parts):
        model = models.Autoencoder(*parts())
        model.compile(keras.optimizers.Adam(1e-3), "mse")
        model.reconstruct(images[:1])
        return model

    forms = [new(parts) for parts in (sequential, functional, subclassed, sequential)]
    for model in forms[1:]:
        model.set_weights(forms[0].get_weights())
    batches = np.split(images, 8) * 3

    def step(model, x):
        model.reset_metrics()  # older versions of Keras return the mean of all steps so far
        return model.train_on_batch(x, x)

    losses = [[step(model, x) for x in batches] for model in forms[:3]]
    loop = []
    for x in batches:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((forms[3](x, training=True) - x) ** 2)
        weights = forms[3].trainable_variables
        forms[3].optimizer.apply(tape.gradient(loss, weights), weights)
        loop.append(float(loss))
    for per_form in losses:
        np.testing.assert_allclose(per_form, loop, rtol=0, atol=1e-6)
