import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from sklearn.decomposition import PCA

from tfae import models

SHAPE = (28, 28, 1)


def functional():
    x = keras.Input(SHAPE)
    encoder = keras.Model(x, layers.Dense(8)(layers.Dense(32, "relu")(layers.Flatten()(x))))
    z = keras.Input((8,))
    decoder = keras.Model(z, layers.Reshape(SHAPE)(layers.Dense(784, "sigmoid")(layers.Dense(32, "relu")(z))))
    return encoder, decoder


def sequential():
    encoder = [layers.Flatten(), layers.Dense(32, "relu"), layers.Dense(8)]
    decoder = [layers.Dense(32, "relu"), layers.Dense(784, "sigmoid"), layers.Reshape(SHAPE)]
    return keras.Sequential([keras.Input(SHAPE), *encoder]), keras.Sequential([keras.Input((8,)), *decoder])


def sequential_without_input():
    encoder, decoder = sequential()
    return keras.Sequential(encoder.layers), keras.Sequential(decoder.layers)


def nested():
    encoder, decoder = sequential()
    return keras.Sequential([keras.Input(SHAPE), encoder]), keras.Sequential([keras.Input((8,)), decoder])


@keras.saving.register_keras_serializable("tests")
class Encoder(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.flatten, self.hidden, self.code = layers.Flatten(), layers.Dense(32, "relu"), layers.Dense(8)

    def call(self, x):
        return self.code(self.hidden(self.flatten(x)))


@keras.saving.register_keras_serializable("tests")
class Decoder(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden, self.pixels = layers.Dense(32, "relu"), layers.Dense(784, "sigmoid")
        self.reshape = layers.Reshape(SHAPE)

    def call(self, z):
        return self.reshape(self.pixels(self.hidden(z)))


def subclassed():
    return Encoder(), Decoder()


FORMS = [functional, sequential, sequential_without_input, nested, subclassed]
BUILDERS = [
    lambda: models.linear_autoencoder(SHAPE, 8, seed=0),
    lambda: models.dense_autoencoder(SHAPE, 8, seed=0),
    lambda: models.conv_autoencoder(SHAPE, 8, (4, 8), seed=0),
]
ALL = [*(lambda form=form: models.Autoencoder(*form()) for form in FORMS), *BUILDERS]
NAMES = [*(form.__name__ for form in FORMS), "linear_autoencoder", "dense_autoencoder", "conv_autoencoder"]
every_model = pytest.mark.parametrize("build", ALL, ids=NAMES)


@pytest.mark.slow
@every_model
def test_trains_evaluates_and_reconstructs(build, images):
    keras.utils.set_random_seed(0)
    model = build()
    model.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"])
    before = model.evaluate(images, verbose=0)[0]
    history = model.fit(images, batch_size=16, epochs=3, verbose=0, validation_data=images[:64])
    assert model.evaluate(images, verbose=0)[0] < 0.999 * before
    assert {"loss", "mae", "val_loss", "val_mae"} <= set(history.history)
    reconstruction = model.reconstruct(images)
    assert reconstruction.shape == images.shape and model.encode(images).shape == (len(images), 8)
    np.testing.assert_allclose(model.decode(model.encode(images)), reconstruction, atol=1e-6)
    errors = ((reconstruction.astype("float64") - images) ** 2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(model.reconstruction_error(images), errors, rtol=1e-4)
    np.testing.assert_allclose(model.evaluate(images, verbose=0)[0], errors.mean(), rtol=1e-4)


@pytest.mark.slow
@every_model
def test_survives_saving_bit_for_bit(build, images, tmp_path):
    model = build()
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse", run_eagerly=True)
    model.fit(images, batch_size=64, epochs=1, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is models.Autoencoder
    np.testing.assert_array_equal(loaded.reconstruct(images), model.reconstruct(images))
    np.testing.assert_array_equal(loaded.optimizer.iterations, model.optimizer.iterations)
    for one in (model, loaded):
        one.fit(images, batch_size=64, epochs=1, shuffle=False, verbose=0)  # the optimiser's momentum came back too
    np.testing.assert_array_equal(loaded.reconstruct(images), model.reconstruct(images))


def test_an_untrained_builder_model_can_be_saved_and_summarised(images, tmp_path, capsys):
    model = models.conv_autoencoder(SHAPE, 8, seed=0)
    model.summary()
    assert "unbuilt" not in capsys.readouterr().out
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.reconstruct(images), model.reconstruct(images))


def test_without_y_the_target_is_the_input(images):
    runs = []
    for targets in ((), (images,)):
        model = models.dense_autoencoder(SHAPE, 8, seed=0)
        model.compile("sgd", "mse")
        runs.append(model.fit(images, *targets, epochs=2, shuffle=False, verbose=0).history["loss"])
    assert runs[0] == runs[1]
    dataset = tf.data.Dataset.from_tensor_slices(images).batch(32)
    model = models.dense_autoencoder(SHAPE, 8, seed=0)
    model.compile("sgd", "mse")
    np.testing.assert_allclose(model.fit(dataset, epochs=2, verbose=0).history["loss"], runs[0], rtol=1e-5)


def test_another_target_is_used_where_it_is_given(images):
    model = models.dense_autoencoder(SHAPE, 8, seed=0)
    model.compile("adam", "mse")
    clean = np.zeros_like(images)
    expected = (model.reconstruct(images) ** 2).mean()
    np.testing.assert_allclose(model.evaluate(images, clean, verbose=0), expected, rtol=1e-5)


def test_dropout_works_in_training_and_not_after(images):
    encoder = keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dropout(0.5), layers.Dense(8)])
    model = models.Autoencoder(encoder, sequential()[1])
    assert not np.array_equal(model(images, training=True), model(images, training=True))
    np.testing.assert_array_equal(model.reconstruct(images), model.reconstruct(images))


def test_batches_change_the_memory_and_not_the_result(images):
    model = models.dense_autoencoder(SHAPE, 8, seed=0)
    for method in (model.encode, model.reconstruct, model.reconstruction_error):
        np.testing.assert_allclose(method(images, batch_size=7), method(images), atol=1e-6)


def test_the_same_seed_gives_the_same_weights():
    for build in (models.linear_autoencoder, models.dense_autoencoder, models.conv_autoencoder):
        one, same, other = (build(SHAPE, 8, seed=seed).get_weights() for seed in (0, 0, 1))
        assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
        assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_layers_of_equal_shape_start_with_different_weights():
    kernels = [w for w in models.dense_autoencoder(50, 50, (50, 50), seed=0).get_weights() if w.ndim == 2]
    assert len({kernel.tobytes() for kernel in kernels}) == len(kernels) == 6


def test_without_a_seed_the_weights_follow_keras():
    weights = []
    for _ in range(2):
        keras.utils.set_random_seed(5)
        weights.append(models.dense_autoencoder(SHAPE, 8).get_weights()[0])
    np.testing.assert_array_equal(*weights)


def test_tables_and_colour_images_have_builders_too():
    table = np.random.default_rng(0).normal(size=(20, 30)).astype("float32")
    assert models.dense_autoencoder(30, 4, (16,), output_activation="linear").reconstruct(table).shape == (20, 30)
    colour = np.zeros((2, 16, 8, 3), "float32")
    assert models.conv_autoencoder((16, 8, 3), 4, (4, 8, 8)).reconstruct(colour).shape == colour.shape


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, -1, 2.5, "8", None, True])
def test_a_code_size_that_is_no_size(size):
    for build in (models.linear_autoencoder, models.dense_autoencoder, models.conv_autoencoder):
        with pytest.raises(ValueError, match=r"code_size is .*whole number of at least 1"):
            build(SHAPE, size)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: models.dense_autoencoder((), 2), "input_shape is empty"),
        (lambda: models.dense_autoencoder((28, 0), 2), "a size in input_shape is 0"),
        (lambda: models.dense_autoencoder(30, 2, hidden=(16, -1)), "a width in hidden is -1"),
        (lambda: models.dense_autoencoder(30, 2, activation="rellu"), "unknown activation 'rellu'.*relu, "),
        (lambda: models.dense_autoencoder(30, 2, seed=-1), "seed is -1"),
        (lambda: models.conv_autoencoder((28, 28, 1), 2, (4, 8, 8)), r"divisible by 8\. Pad"),
        (lambda: models.conv_autoencoder((784,), 2), r"\(height, width, channels\)"),
        (lambda: models.conv_autoencoder(SHAPE, 2, ()), "filters is empty"),
        (lambda: models.Autoencoder(lambda x: x, layers.Dense(3)), "the encoder must be a Keras layer or model"),
        (lambda: models.Autoencoder(layers.Dense(3), "decoder"), "the decoder must be a Keras layer or model"),
    ],
)
def test_a_builder_says_what_is_wrong(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def with_nan(x):
    x = x.copy()
    x[3, 2, 1, 0] = np.nan
    return x


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x: x[:0], "x is empty"),
        (lambda x: x[..., 0], r"takes \(n, 28, 28, 1\).*x\[\.\.\., np\.newaxis\]"),
        (lambda x: x.reshape(-1, 784), r"x\.reshape\(\(-1, 28, 28, 1\)\)"),
        (lambda x: x[0], r"x\[np\.newaxis\]"),
        (lambda x: x[:, :14], r"x has shape \(256, 14, 28, 1\); this model takes \(n, 28, 28, 1\)"),
        (with_nan, r"1 values that are NaN or infinite, the first at \(3, 2, 1, 0\)"),
        (lambda x: x / 0, "NaN or infinite"),
        (lambda x: x.astype(str), "must hold real numbers"),
        (lambda x: x * 255, r"needs targets in \[0, 1\].*Divide 8-bit images by 255"),
        (lambda x: x - 0.5, r"needs targets in \[0, 1\]"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*divide.*:RuntimeWarning")
def test_bad_data_are_refused_before_training(spoil, message, images):
    model = models.dense_autoencoder(SHAPE, 8, seed=0)
    model.compile("adam", "binary_crossentropy")
    before = model.get_weights()
    with np.errstate(all="ignore"):
        bad = spoil(images)
    with pytest.raises(ValueError, match=message):
        model.fit(bad, verbose=0)
    with pytest.raises(ValueError, match=message):
        model.fit(images, validation_data=bad, verbose=0)
    with pytest.raises(ValueError, match=message):
        model.evaluate(bad, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_every_way_in_checks_its_data(images):
    model = models.dense_autoencoder(SHAPE, 8, seed=0)
    for method in (model.encode, model.reconstruct, model.reconstruction_error):
        with pytest.raises(ValueError, match="NaN"):
            method(with_nan(images))
    with pytest.raises(ValueError, match=r"z has shape \(4, 7\); this model takes \(n, 8\)"):
        model.decode(np.zeros((4, 7)))
    with pytest.raises(ValueError, match="batch_size is 0"):
        model.encode(images, batch_size=0)


def test_a_subclassed_model_knows_its_shape_once_it_has_seen_data(images):
    model = models.Autoencoder(*subclassed())
    model.reconstruct(images)
    with pytest.raises(ValueError, match=r"this model takes \(n, 28, 28, 1\)"):
        model.reconstruct(images[..., 0])


def test_labels_are_not_a_target(images):
    model = models.dense_autoencoder(SHAPE, 8, seed=0)
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match=r"y has shape \(256,\).*call fit\(x\)"):
        model.fit(images, np.arange(256), verbose=0)


def test_mse_takes_any_range(images):
    model = models.dense_autoencoder(SHAPE, 8, output_activation="linear", seed=0)
    model.compile("adam", "mse")
    model.fit(images * 255, verbose=0)


def test_a_decoder_of_another_shape_is_refused_with_the_remedy(images):
    encoder = keras.Sequential([layers.Dense(32)])  # the mistake of forgetting Flatten
    model = models.Autoencoder(encoder, keras.Sequential([layers.Dense(784)]))
    with pytest.raises(ValueError, match=r"shape \(28, 784\) for inputs of shape \(28, 28\).*Reshape\(\(28, 28\)\)"):
        model.reconstruct(images[..., 0])


# --- PCA is the optimum of every linear autoencoder ------------------------------------------------------------------


@pytest.mark.slow
def test_a_trained_linear_autoencoder_is_pca():
    from scipy.linalg import subspace_angles

    rng = np.random.default_rng(0)
    x = (rng.normal(size=(2000, 12)) * np.geomspace(3, 0.1, 12)) @ np.linalg.qr(rng.normal(size=(12, 12)))[0] + 1
    x = x.astype("float32")
    model = models.linear_autoencoder(12, 3, seed=0)
    steps = 60 * 20
    rate = keras.optimizers.schedules.CosineDecay(0.02, steps)
    model.compile(keras.optimizers.Adam(rate), "mse", steps_per_execution=20)
    keras.utils.set_random_seed(0)
    model.fit(x, epochs=60, batch_size=100, verbose=0)
    pca = PCA(12).fit(x.astype("float64"))
    optimum = pca.explained_variance_[3:].sum() * 1999 / 2000 / 12
    np.testing.assert_allclose(model.reconstruction_error(x).mean(), optimum, rtol=1e-3)
    atoms = model.decoder.layers[0].get_weights()[0]
    assert np.degrees(subspace_angles(atoms.T, pca.components_[:3].T)).max() < 2


@pytest.mark.slow
def test_a_convolutional_autoencoder_of_series_learns_them():
    time = np.linspace(0, 6, 20)[:, None]
    x = np.stack([0.5 + 0.4 * np.sin(time + shift) for shift in np.linspace(0, 6, 64)]).astype("float32")
    model = models.conv_autoencoder((20, 1), 3, (8, 16), seed=0)
    model.compile(keras.optimizers.Adam(0.01), "mse", steps_per_execution=4)
    model.fit(x, epochs=60, batch_size=16, verbose=0)
    assert model.reconstruct(x).shape == x.shape and model.reconstruction_error(x).mean() < 0.1 * x.var()
    with pytest.raises(ValueError, match=r"\(length, channels\), all but the channels divisible by 4"):
        models.conv_autoencoder((18, 1), 3, (8, 16))


def test_pca_as_an_autoencoder_is_pca():
    rng = np.random.default_rng(0)
    x = (2 + rng.normal(size=(60, 6)) @ rng.normal(size=(6, 20))).astype("float32")
    pca = PCA(4, svd_solver="full").fit(x)
    model = models.pca_autoencoder(x.reshape(60, 4, 5), 4)
    assert model.reconstruct(x.reshape(60, 4, 5)).shape == (60, 4, 5)
    np.testing.assert_allclose(model.encode(x.reshape(60, 4, 5)), pca.transform(x), atol=1e-4)
    rebuilt = pca.inverse_transform(pca.transform(x)).reshape(60, 4, 5)
    np.testing.assert_allclose(model.reconstruct(x.reshape(60, 4, 5)), rebuilt, atol=1e-4)


def test_pca_has_no_more_components_than_samples_or_features():
    with pytest.raises(ValueError, match="code_size is 11; 10 samples of 20 features have 10 components"):
        models.pca_autoencoder(np.ones((10, 20)), 11)
    with pytest.raises(ValueError, match="NaN"):
        models.pca_autoencoder(np.full((10, 20), np.nan), 2)
