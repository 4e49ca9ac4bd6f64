"""The explorer: its JavaScript against Keras, and its page, driven in a real browser without a network."""

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from PIL import Image
from scipy.spatial.distance import cdist

from tfae import anomaly, data, dictionary, explorer, models
from tfae import layers as own_layers

pytestmark = pytest.mark.slow  # a browser is driven

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))), None
)


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("there is no Chromium or Chrome")
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright, which drives a browser, is missing")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


# --- JavaScript against Keras ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine(browser):
    """A blank page that has run explorer.js, and has its functions as window.explorer."""
    page = browser.new_page()
    page.evaluate(
        """async (source) => {
            const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
            window.explorer = await import(url);
        }""",
        (Path(explorer.__file__).parent / "explorer.js").read_text(encoding="utf-8"),
    )
    yield page
    page.close()


def in_browser(engine, network, x, weights="float32"):
    """Return what the browser makes of each sample of `x`."""
    arrays = explorer.Arrays(weights=weights)
    content = {"network": explorer.written(network, x.shape[1:], arrays), "arrays": arrays.table, "data": arrays.text()}
    answers = engine.evaluate(
        """async ([content, samples]) => {
            const { network } = await explorer.read(content);
            return samples.map((x) => Array.from(explorer.run(network, x)));
        }""",
        [json.loads(json.dumps(content)), x.reshape(len(x), -1).tolist()],
    )
    return np.array(answers)


def by_keras(network, x):
    return np.asarray(network(tf.constant(x))).reshape(len(x), -1)


def with_random_weights(model, seed=0):
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if "seed" not in weight.path:
            low = 0.5 if "variance" in weight.path else -0.5
            weight.assign(rng.uniform(low, low + 1, weight.shape))
    return model


def chain(shape, *steps):
    return with_random_weights(keras.Sequential([keras.Input(shape), *steps]))


IMAGE, SERIES = (7, 9, 4), (11, 3)
ACTIVATIONS = [*explorer.ACTIVATIONS, "linear", "relu6", "leaky_relu", "softmax"]
CHAINS = {
    **{f"{name} activation": ((5,), [layers.Dense(6, name)]) for name in ACTIVATIONS},
    "dense of an image": (IMAGE, [layers.Dense(3, "relu", use_bias=False), layers.Flatten(), layers.Dense(2)]),
    "activation that is a layer": ((5,), [layers.Dense(6, activation=layers.LeakyReLU(0.1)), layers.Dense(2)]),
    "ReLU": ((5,), [layers.Dense(40), layers.ReLU(max_value=0.5, negative_slope=0.1, threshold=0.2)]),
    "other activations": (
        IMAGE,
        [layers.ELU(0.7), layers.LeakyReLU(0.3), layers.PReLU(shared_axes=[1, 2]), layers.Activation("tanh"),
         layers.Softmax()],
    ),
    **{
        f"Conv2D {size} {strides} {padding}": (IMAGE, [layers.Conv2D(3, size, strides, padding, activation="tanh")])
        for size in (1, 3, (2, 5), 4) for strides in (1, 2, (3, 2)) for padding in ("same", "valid")
    },
    "dilated": (
        IMAGE,
        [layers.Conv2D(3, 3, dilation_rate=2, padding="same"), layers.Conv2D(2, 2, dilation_rate=(1, 2))],
    ),
    "groups": (IMAGE, [layers.Conv2D(6, 3, groups=2, padding="same")]),
    **{
        f"Conv2DTranspose {size} {strides} {padding}": (IMAGE, [layers.Conv2DTranspose(3, size, strides, padding)])
        for size in (1, 2, 3, (4, 5)) for strides in (1, 2, (3, 2)) for padding in ("same", "valid")
    },
    "series": (
        SERIES,
        [layers.Conv1D(4, 3, padding="causal", dilation_rate=2), layers.Conv1D(6, 4, 2, "same", activation="relu"),
         layers.Conv1DTranspose(5, 3, 2, "same"), layers.MaxPooling1D(2), layers.UpSampling1D(3),
         layers.ZeroPadding1D((2, 1)), layers.Cropping1D((1, 2)), layers.AveragePooling1D(3, 2, "same")],
    ),
    **{
        f"{kind.__name__} {size} {strides} {padding}": (IMAGE, [kind(size, strides, padding)])
        for kind in (layers.MaxPooling2D, layers.AveragePooling2D)
        for size, strides in ((2, None), (3, 2), ((2, 3), (1, 2))) for padding in ("same", "valid")
    },
    **{
        f"{kind.__name__} {keep}": (shape, [kind(keepdims=keep)])
        for keep in (False, True) for kind, shape in (
            (layers.GlobalMaxPooling2D, IMAGE), (layers.GlobalAveragePooling2D, IMAGE),
            (layers.GlobalMaxPooling1D, SERIES), (layers.GlobalAveragePooling1D, SERIES))
    },
    "resized": (
        IMAGE,
        [layers.UpSampling2D((2, 3)), layers.ZeroPadding2D(((1, 2), (0, 3))), layers.Cropping2D(((2, 0), (1, 4)))],
    ),
    "reshaped": (IMAGE, [layers.Reshape((9, -1)), layers.Flatten(), layers.Reshape((4, 7, 9)), layers.Conv2D(2, 3)]),
    "BatchNormalization": (IMAGE, [layers.BatchNormalization(), layers.BatchNormalization(scale=False, center=False)]),
    "LayerNormalization": (IMAGE, [layers.LayerNormalization(), layers.LayerNormalization(scale=False, center=False)]),
    "Rescaling": (IMAGE, [layers.Rescaling(2.0, offset=-1.0)]),
    "Normalization": (IMAGE, [layers.Normalization(mean=[0.1, 0.2, 0.3, 0.4], variance=[1.0, 2.0, 0.5, 1.0])]),
    "nothing outside training": (
        (5,), [layers.Dropout(0.5), layers.Dense(4), layers.GaussianNoise(1.0), layers.ActivityRegularization(0.1),
               layers.Identity(), own_layers.Corrupt("masking", 0.5), layers.AlphaDropout(0.5)],
    ),
    "TopK": ((5,), [layers.Dense(9), own_layers.TopK(3)]),
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
def test_the_browser_computes_a_layer_as_keras_does(engine, name):
    shape, steps = CHAINS[name]
    model = chain(shape, *[layer.__class__.from_config(layer.get_config()) for layer in steps])
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
    np.testing.assert_allclose(in_browser(engine, model, x), by_keras(model, x), atol=1e-5, rtol=1e-5)


def residual():
    x = keras.Input((8, 8, 2))
    a = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    b = layers.Conv2D(4, 1)(x)
    joined = [layers.Add()([a, b]), layers.Subtract()([a, b]), layers.Multiply()([a, b, a]), layers.Average()([a, b])]
    joined += [layers.Maximum()([a, b]), layers.Minimum()([a, b])]
    y = layers.Concatenate()(joined)
    y = layers.Concatenate(axis=1)([y, layers.Cropping2D(((4, 0), 0))(y)])
    return keras.Model(x, layers.Dense(3)(layers.Flatten()(y)))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.first, self.second = layers.Dense(4, "gelu"), keras.Sequential([layers.Dense(5), layers.ReLU()])

    def call(self, x, training=None):
        return layers.add([self.second(self.first(x)), self.second(self.first(x))])


def networks():
    convolutional = with_random_weights(models.conv_autoencoder((8, 12, 3), 5))
    encoder = models.dense_encoder((4, 4, 1), 6, (9,), activation="tanh")
    tied = with_random_weights(models.TiedAutoencoder(encoder))
    sparse = with_random_weights(models.KSparseAutoencoder(encoder, models.dense_decoder((4, 4, 1), 6, (9,)), k=2))
    conditional = models.ConditionalVariationalAutoencoder(encoder, models.dense_decoder((4, 4, 1), 3 + 10, (9,)), 10)
    series = with_random_weights(models.conv_autoencoder((16, 2), 3))
    return {
        "a functional graph": (with_random_weights(residual()), (8, 8, 2)),
        "nested models": (keras.Sequential([keras.Input((8, 8, 2)), with_random_weights(residual())]), (8, 8, 2)),
        "a convolutional encoder": (convolutional.encoder, (8, 12, 3)),
        "a convolutional decoder": (convolutional.decoder, (5,)),
        "an autoencoder of series": (series, (16, 2)),
        "a tied autoencoder": (tied, (4, 4, 1)),
        "a k-sparse code": (sparse.code, (4, 4, 1)),
        "the decoder of a class": (conditional.for_class(7).decoder, (3,)),
    }


def test_the_browser_computes_networks_as_keras_does(engine):
    for name, (network, shape) in networks().items():
        x = np.random.default_rng(0).uniform(size=(2, *shape)).astype("float32")
        np.testing.assert_allclose(
            in_browser(engine, network, x), by_keras(network, x), atol=1e-5, rtol=1e-5, err_msg=name
        )


def test_a_subclassed_model_is_followed_call_by_call(engine):
    model, x = Subclassed(), np.random.default_rng(0).normal(size=(2, 3)).astype("float32")
    model(x)
    with_random_weights(model)
    np.testing.assert_allclose(in_browser(engine, model, x), by_keras(model, x), atol=1e-5, rtol=1e-5)


def test_half_precision_keeps_three_digits(engine):
    model, x = chain((20,), layers.Dense(30, "tanh"), layers.Dense(2)), np.ones((1, 20), "float32")
    gap = np.abs(in_browser(engine, model, x, "float16") - by_keras(model, x)).max()
    assert 1e-7 < gap < 5e-3
    numbers = np.array([0, 1, -2.5, 65504, 1e-4, 6e-8, -3e-6], "float16")  # the last two have no leading one
    arrays = explorer.Arrays(weights="float16")
    content = {"numbers": arrays.add(numbers, dtype="float16"), "arrays": arrays.table, "data": arrays.text()}
    assert engine.evaluate("async (c) => Array.from((await explorer.read(c)).numbers)", content) == numbers.tolist()


def test_a_derivative_is_keras_s(engine):
    model, z = chain((3,), layers.Dense(20, "tanh"), layers.Dense(12, "sigmoid")), np.full((1, 3), 0.3, "float32")
    arrays = explorer.Arrays()
    content = {"network": explorer.written(model, (3,), arrays), "arrays": arrays.table, "data": arrays.text()}
    found = engine.evaluate(
        """async ([content, z]) => {
            const { network } = await explorer.read(content);
            return z.map((_, unit) => Array.from(explorer.derivative(network, Float64Array.from(z), unit)));
        }""",
        [content, z[0].tolist()],
    )
    with tf.GradientTape() as tape:
        tape.watch(x := tf.constant(z))
        y = model(x)
    np.testing.assert_allclose(np.array(found).T, tape.jacobian(y, x)[0, :, 0], atol=1e-5)


def test_a_normal_distribution_is_seen_on_a_plane_of_any_two_directions(engine):
    rng = np.random.default_rng(0)
    main = np.linalg.svd(rng.normal(size=(50, 4)))[2][:4]
    z, other, centre, spread = rng.normal(size=(4, 4))
    spread = np.exp(spread)
    found = engine.evaluate(
        """([directions, centre, z, other, spread]) => {
            const axes = new explorer.Axes({ directions, listed: [1, 3], centre }, 4), [, second] = axes.all;
            const plane = () => ({
                names: [axes.across.name, axes.up.name], place: axes.place(z), moved: axes.code([5, -6], z),
                beside: axes.beside(z, other), ...axes.cholesky(spread),
            });
            const planes = [plane()];
            axes.choose("across", second); // which is the other: they change places
            planes.push(plane());
            axes.choose("up", axes.all[5]); // a unit, with which no main direction can stay
            planes.push(plane());
            return planes;
        }""",
        [main.tolist(), centre.tolist(), z.tolist(), other.tolist(), spread.tolist()],
    )
    units = np.eye(4)[[1, 3]]
    expected = (
        (["direction 1", "direction 2"], main[:2], centre),
        (["direction 2", "direction 1"], main[1::-1], centre),
        (["unit 1", "unit 3"], units, 0 * centre),
    )
    for shown, (names, plane, zero) in zip(found, expected, strict=True):
        assert shown["names"] == names
        np.testing.assert_allclose(shown["place"], plane @ (z - zero), atol=1e-12)
        moved = np.array(shown["moved"])
        np.testing.assert_allclose(plane @ (moved - zero), [5, -6], atol=1e-12)
        np.testing.assert_allclose(moved - z, plane.T @ plane @ (moved - z), atol=1e-12)
        gap = z - other
        assert shown["beside"] == pytest.approx(gap @ gap - gap @ plane.T @ plane @ gap)
        root = np.array([[shown["first"], 0], [shown["skew"], shown["second"]]])
        np.testing.assert_allclose(root @ root.T, plane @ np.diag(spread**2) @ plane.T, atol=1e-12)


class Doubling(keras.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = layers.Dense(4)

    def call(self, x):
        return 2 * self.inner(x)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([layers.Reshape((5, 1)), layers.LSTM(3, name="memory")], r"layer 'memory' \(LSTM\) cannot run in a page"),
        ([layers.Dense(3, activation=lambda x: x**2, name="square")], r"layer 'square' \(Dense\) has the activation"),
        ([Doubling(name="double")], r"layer 'double' \(Doubling\), which computes something outside"),
        ([layers.Reshape((1, 5, 1)), layers.UpSampling2D(2, interpolation="bilinear")], "interpolation 'bilinear'"),
        ([layers.Reshape((5, 1)), layers.LayerNormalization(axis=1)], "the axis"),
        ([layers.Reshape((5, 1)), layers.BatchNormalization(axis=1)], "the axis"),
        ([layers.Reshape((5, 1)), layers.Conv1DTranspose(2, 3, 2, output_padding=1)], "an output padding"),
    ],
    ids=["LSTM", "activation", "subclassed", "bilinear", "layer norm", "batch norm", "output padding"],
)
def test_a_layer_that_cannot_run_is_named(steps, said):
    model = keras.Sequential([keras.Input((5,)), *steps])
    with pytest.raises(ValueError, match=said):
        explorer.written(model, (5,), explorer.Arrays())


def test_what_is_computed_outside_of_layers_is_refused():
    with pytest.raises(ValueError, match="outside of its layers"):
        explorer.written(lambda x: layers.Dense(2)(x) * 2, (5,), explorer.Arrays())


# --- the explorer in Python ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def strokes():
    return data.load("strokes")


@pytest.fixture(scope="module")
def vae(strokes):
    encoder = models.dense_encoder((28, 28, 1), 4, (32,), seed=0)
    vae = models.VariationalAutoencoder(encoder, models.dense_decoder((28, 28, 1), 2, (32,), seed=1), seed=0)
    vae.compile(keras.optimizers.Adam(0.01), steps_per_execution=20)
    vae.fit(strokes.x_train[:2000], epochs=4, batch_size=100, verbose=0)
    return vae


@pytest.fixture
def small(vae, strokes):
    return explorer.Explorer(vae, strokes, n_points=200)


def test_code_and_selected_are_the_widget_s(small, strokes, vae):
    np.testing.assert_allclose(small.code, vae.encode(strokes.x_test[:1]), atol=1e-5)
    assert small.selected == 0 == small.rows[0]
    widget = small.widget
    small.code = [[0.5, -1.0]]
    assert widget.code == [0.5, -1.0] and widget.selected is None is small.selected
    widget.code = [0.25, 0.0]  # as a reader's drag does
    np.testing.assert_array_equal(small.code, [[0.25, 0.0]])
    small.selected = small.rows[5]
    np.testing.assert_allclose(widget.code, vae.encode(strokes.x_test[small.rows[5:6]])[0], atol=1e-5)
    assert small.selected == small.rows[5] and widget.selected == small.rows[5]
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        small.code = [0.5, -1.0]
    with pytest.raises(ValueError, match="one code"):
        small.code = np.zeros((3, 2))
    with pytest.raises(ValueError, match="not on the plane"):
        small.selected = 1


def test_what_it_shows_is_on_held_out_data(small, strokes, vae):
    errors = vae.reconstruction_error(strokes.x_test)
    assert small.threshold == anomaly.threshold(errors).value
    assert small._content["alarms"] == pytest.approx(0.05, abs=0.02)
    assert len(small.rows) == 200 and small.rows[-1] == len(strokes.x_test) - 1
    assert [shown["name"] for shown in small._content["colourings"]] == ["class", *strokes.factor_names[1:]]
    gaps = cdist(vae.encode(strokes.x_test[small.rows]), vae.encode(strokes.x_train[::5])).min(axis=1)
    assert np.mean(gaps <= small._content["radius"]) == pytest.approx(0.95, abs=0.01)


def test_sliders_are_of_the_units_that_vary_most(strokes):
    model, x = models.dense_autoencoder((28, 28, 1), 30, hidden=(), seed=0), strokes.x_test[:100]
    listed = explorer.Explorer(model, x)._content["listed"]
    spread = model.encode(x).std(axis=0)
    assert len(listed) == explorer.LISTED and spread[listed].min() > np.delete(spread, listed).max()


def test_a_notebook_gets_a_widget_and_a_picture(small):
    bundle, _ = small._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert bundle["text/plain"] == "Explorer of 2 units, 200 held-out samples of 'strokes'"
    assert len(bundle["image/png"]) < 30_000 and small.picture().startswith(b"\x89PNG")


def test_without_anywidget_a_page_is_still_written(small, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(ImportError, match="pip install anywidget"):
        small._repr_mimebundle_()
    small.save(tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < explorer.LARGEST


def test_a_page_is_written_whole_or_not_at_all(small, tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    path.write_text("old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(OSError, match="no"):
        small.save(path)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_page_that_is_too_large_takes_half_precision_and_then_raises(vae, strokes, monkeypatch):
    small = explorer.Explorer(vae, strokes, n_points=50)
    full = len(json.dumps(small._content))
    monkeypatch.setattr(explorer, "LARGEST", 100_000 + full - 1)
    with pytest.warns(UserWarning, match="half precision"):
        assert '"precision": "float16"' in small.html()
    monkeypatch.setattr(explorer, "LARGEST", 100_000)
    with pytest.raises(ValueError, match="fewer points"):
        small.html()


def test_arrays_and_mappings_are_taken_too(vae, strokes):
    x = strokes.x_test[:100]
    alone = explorer.Explorer(vae, x)
    assert alone._content["colourings"] == [] and alone._content["radius"] > 0
    named = explorer.Explorer(vae, {"x_test": x, "y_test": strokes.y_test[:100] + 3})
    assert named._content["colourings"][0]["names"] == [str(label) for label in range(3, 13)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.zeros((100, 5)), "shape"),
        ({"x": 1}, "'x_test'"),
        ({"x_test": np.zeros((100, 28, 28, 1)), "y_test": np.zeros(3, int)}, "y_test has shape"),
        (np.zeros((5, 28, 28, 1)), "19 normal samples"),
    ],
    ids=["shape", "no x_test", "labels", "few"],
)
def test_bad_data_is_refused(vae, given, said):
    with pytest.raises(ValueError, match=said):
        explorer.Explorer(vae, given)


def test_models_without_a_flat_code_are_refused(vae, strokes):
    with pytest.raises(ValueError, match="names no encoder"):
        explorer.Explorer(vae.encoder, strokes)
    conditional = models.ConditionalVariationalAutoencoder(vae.encoder, models.dense_decoder((28, 28, 1), 12, (8,)), 10)
    with pytest.raises(ValueError, match=r"for_class\(3\)"):
        explorer.Explorer(conditional, strokes)
    one = models.dense_autoencoder((28, 28, 1), 1, hidden=())
    with pytest.raises(ValueError, match="2 units or more"):
        explorer.Explorer(one, strokes)


# --- the page --------------------------------------------------------------------------------------------------------


class Opened:
    """A page of an explorer, opened from the disk without a network, and what went wrong in it."""

    def __init__(self, browser, path, **context):
        self.wrong = []
        self.context = browser.new_context(offline=True, **context)
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", lambda message: message.type == "error" and self.wrong.append(message.text))
        self.page.on("requestfailed", lambda request: self.wrong.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector(".tfae-explorer-host[data-ready]")
        self.settle()

    def settle(self):
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def get(self, name):
        self.settle()
        return self.page.evaluate(f"document.querySelector('.tfae-explorer-host').model.get({name!r})")

    def set(self, name, value):
        self.page.evaluate(f"value => document.querySelector('.tfae-explorer-host').model.set({name!r}, value)", value)
        self.settle()

    def ink(self, picture):
        """The pixels of a picture as ink in [0, 1]: 0 the input, 1 the drawing, 2 the nearest, 3 the change."""
        self.settle()
        grey = self.page.evaluate(
            """(i) => {
                const canvas = document.querySelectorAll(".pictures canvas")[i];
                const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
                return Array.from(data).filter((_, place) => place % 4 === 0);
            }""",
            picture,
        )
        return (1 - np.array(grey, "float32") / 255).reshape(1, 28, 28, 1)

    def drag(self, selector, *places):
        box = self.page.locator(selector).bounding_box()
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in places]
        self.page.mouse.move(*points[0])
        self.page.mouse.down()
        for point in points[1:]:
            self.page.mouse.move(*point, steps=5)
        self.page.mouse.up()
        self.settle()

    def text(self, selector):
        self.settle()
        return self.page.locator(selector).inner_text()


@pytest.fixture(scope="module")
def path(vae, strokes, tmp_path_factory):
    path = tmp_path_factory.mktemp("explorer") / "page.html"
    explorer.Explorer(vae, strokes, n_points=200).save(path)
    return path


@pytest.fixture(scope="module")
def shared(browser, path):
    opened = Opened(browser, path, viewport={"width": 1280, "height": 1000})
    yield opened
    opened.context.close()


@pytest.fixture
def opened(shared):
    """The page, as good as new."""
    shared.page.reload()
    shared.page.wait_for_selector(".tfae-explorer-host[data-ready]")
    shared.settle()
    yield shared
    assert shared.wrong == []


def half_a_step(x):
    return {"atol": 0.51 / 255 + 1e-5, "rtol": 0, "desired": x}


def test_the_page_says_that_it_draws_as_keras_does(opened, path):
    assert path.stat().st_size < 1_000_000
    assert not re.search(r'(src|href)="(?!data:)|https?://|fetch\(', path.read_text(encoding="utf-8"))
    assert float(opened.page.locator(".tfae-explorer").get_attribute("data-apart")) < 1e-5
    assert "float32 weights" in opened.text(".footer")


def test_on_paper_there_is_the_picture(opened):
    picture, alive = (opened.page.locator(f".tfae-explorer-host > {part}") for part in ("img", "div"))
    assert alive.is_visible() and not picture.is_visible()
    opened.page.emulate_media(media="print")
    assert picture.is_visible() and not alive.is_visible()
    opened.page.emulate_media(media="screen")


def test_it_opens_on_the_selected_image(opened, vae, strokes):
    assert opened.get("selected") == 0
    np.testing.assert_allclose(opened.ink(0), **half_a_step(strokes.x_test[:1]))
    np.testing.assert_allclose(opened.ink(1), **half_a_step(vae.reconstruct(strokes.x_test[:1])))
    assert f"{vae.reconstruction_error(strokes.x_test[:1])[0]:.3g}" in opened.text(".verdict")
    rows = np.unique(np.linspace(0, len(strokes.x_test) - 1, 200).astype(int))
    gaps = np.linalg.norm(vae.encode(strokes.x_test[rows]) - vae.encode(strokes.x_test[:1]), axis=1)
    neighbour = rows[gaps[1:].argmin() + 1]  # an image is not its own
    np.testing.assert_allclose(opened.ink(2), **half_a_step(strokes.x_test[[neighbour]]))


def test_the_alarm_is_raised_above_the_threshold_alone(opened, vae, strokes):
    errors = vae.reconstruction_error(strokes.x_test)
    threshold, order = anomaly.threshold(errors).value, np.argsort(errors)
    on_plane = [row for row in order if row in np.unique(np.linspace(0, len(errors) - 1, 200).astype(int))]
    for row, said in ((on_plane[0], "below"), (on_plane[-1], "above")):
        assert (errors[row] > threshold) == (said == "above")
        opened.set("selected", int(row))
        assert f"{said} the alarm at {threshold:.3g}" in opened.text(".verdict")
        assert opened.page.locator(".gauge.alarm").count() == (said == "above")
        wide = opened.page.locator(".gauge i").evaluate("bar => parseFloat(bar.style.width)")
        assert wide == pytest.approx(min(50 * errors[row] / threshold, 100), abs=0.01)  # the mark stands at 50 %


class Plane:
    """The pixels of the plane, and where a code lies among them."""

    def __init__(self, opened):
        self.opened = opened
        for (x, y), corner in (((0.2, 0.8), "low"), ((0.8, 0.2), "high")):
            opened.drag(".plane", (x, y - 0.1), (x, y))  # not a tap, which would take an image
            setattr(self, corner, np.array(opened.get("code")))

    def place(self, z):  # in shares of the sides
        across, up = ((np.asarray(z) - self.low) / (self.high - self.low)).T
        return np.stack([0.2 + 0.6 * across, 0.8 - 0.6 * up], axis=-1)

    def pixels(self):
        self.opened.settle()
        image = self.opened.page.evaluate("() => document.querySelector('.plane').toDataURL()")
        with Image.open(io.BytesIO(base64.b64decode(image.partition(",")[2]))) as picture:
            return np.array(picture.convert("RGB"))


def test_the_ellipses_are_one_and_two_standard_deviations(opened, vae, strokes):
    plane = Plane(opened)
    rows = np.unique(np.linspace(0, len(strokes.x_test) - 1, 200).astype(int))
    means, log_variances = vae.encode_distribution(strokes.x_test[rows])
    twos = 2 * np.exp(log_variances / 2)
    ends = np.concatenate([plane.place(means - twos), plane.place(means + twos)], axis=1)
    i = np.flatnonzero(((ends > 0.05) & (ends < 0.95)).all(axis=1))[0]  # wholly on the plane
    row, mean, two = rows[i], means[i], twos[i]
    opened.set("selected", int(row))
    ellipses = plane.pixels()
    opened.page.get_by_role("button", name="Clear").click()  # the same code, of no image
    rows, columns = np.nonzero((ellipses != plane.pixels()).any(axis=-1))
    height, width, _ = ellipses.shape
    (left, bottom), (right, top) = plane.place([mean - two, mean + two])
    sides = [columns.min() / width, columns.max() / width, rows.min() / height, rows.max() / height]
    np.testing.assert_allclose(sides, [left, right, top, bottom], atol=0.01)
    middle = plane.place(mean)
    radius = np.hypot((columns / width - middle[0]) / (right - left), (rows / height - middle[1]) / (bottom - top))
    assert np.mean((abs(radius - 0.25) < 0.05) | (abs(radius - 0.5) < 0.05)) > 0.95


def test_fog_lies_where_no_training_code_is_near(opened, vae, strokes, small):
    plane = Plane(opened)
    opened.page.get_by_label("Colour").select_option("slant")  # without the names of classes
    shown = plane.pixels()
    height, width, _ = shown.shape
    codes, radius = vae.encode(strokes.x_train[::5]), small._content["radius"]
    rng = np.random.default_rng(0)
    z = plane.low + rng.uniform(-0.3, 1.3, (2000, 2)) * (plane.high - plane.low)
    x, y = plane.place(z).T
    inside = (x > 0) & (x < 1) & (y > 0) & (y < 1)
    colour = shown[(y[inside] * height).astype(int), (x[inside] * width).astype(int)]
    gap = cdist(z[inside], codes).min(axis=1) / radius
    assert (gap < 0.8).sum() > 50 < (gap > 3).sum()
    assert np.median(colour[gap < 0.8], axis=0).tolist() == [255, 255, 255]
    assert np.median(colour[gap > 3], axis=0).tolist() == pytest.approx([204, 210, 217], abs=6)
    for share, said in ((1.5, "No training image"), (0.5, "Training images lie here")):
        opened.set("code", z[inside][abs(gap - share).argmin()].tolist())
        opened.page.wait_for_function(f"document.querySelector('.status').innerText.includes('{said}')")


def test_a_drag_moves_the_code_and_the_decoder_draws_there(opened, vae, strokes):
    before = opened.get("code")
    opened.drag(".plane", (0.3, 0.3), (0.7, 0.4), (0.6, 0.6))
    z = np.array([opened.get("code")], "float32")
    assert np.linalg.norm(z - before) > 0.1 and opened.get("selected") is None
    np.testing.assert_allclose(opened.ink(1), **half_a_step(vae.decode(z)))
    rows = np.unique(np.linspace(0, len(strokes.x_test) - 1, 200).astype(int))
    gaps = np.linalg.norm(vae.encode(strokes.x_test[rows]) - z, axis=1)
    np.testing.assert_allclose(opened.ink(2), **half_a_step(strokes.x_test[rows[[gaps.argmin()]]]))
    caption = opened.page.locator("figcaption").nth(2).inner_text()
    kind, gap = re.fullmatch(r"Nearest: (.+), ([\d.]+) away", caption).groups()
    assert int(kind) == strokes.y_test[rows[gaps.argmin()]] and float(gap) == pytest.approx(gaps.min(), rel=0.006)


def test_a_tap_on_a_point_takes_its_image(opened, vae, strokes):
    plane = Plane(opened)
    assert opened.get("selected") is None, "a drag takes no image, wherever it ends"
    rows = np.unique(np.linspace(0, len(strokes.x_test) - 1, 200).astype(int))
    places = plane.place(vae.encode(strokes.x_test[rows]))
    inside = ((places > 0.05) & (places < 0.95)).all(axis=1)
    alone = np.where(inside, (cdist(places, places) + np.eye(len(rows))).min(axis=1), 0)
    box = opened.page.locator(".plane").bounding_box()
    for i in alone.argsort()[-3:]:  # the three points on the plane that are farthest from others
        x, y = places[i] * [box["width"], box["height"]]
        opened.page.mouse.click(box["x"] + x + 12, box["y"] + y)  # beside it
        assert opened.get("selected") is None
        opened.page.mouse.click(box["x"] + x + 4, box["y"] + y)
        assert opened.get("selected") == rows[i]
        np.testing.assert_allclose(opened.get("code"), vae.encode(strokes.x_test[rows[[i]]])[0], atol=1e-5)
        np.testing.assert_allclose(opened.ink(0), **half_a_step(strokes.x_test[rows[[i]]]))


def test_the_code_can_be_set_and_far_away_is_fog(opened, vae):
    opened.set("code", [9.0, 9.0])
    np.testing.assert_allclose(opened.ink(1), **half_a_step(vae.decode(np.array([[9.0, 9.0]]))))
    opened.page.wait_for_function("document.querySelector('.status').innerText.includes('No training image')")
    opened.set("selected", 0)
    opened.page.wait_for_function("document.querySelector('.status').innerText.includes('Training images lie here')")


def test_what_is_drawn_is_encoded_and_judged(opened, vae):
    opened.page.get_by_role("button", name="Clear").click()
    opened.page.locator(".hint").wait_for()
    opened.drag(".pictures canvas >> nth=0", (0.35, 0.2), (0.65, 0.2), (0.45, 0.8))
    x = opened.ink(0)
    assert 20 < x.sum() < 200
    np.testing.assert_allclose(opened.get("code"), vae.encode(x)[0], atol=0.02)
    np.testing.assert_allclose(opened.ink(1), vae.reconstruct(x), atol=0.02)
    said = opened.text(".verdict")
    error = vae.reconstruction_error(x)[0]
    assert abs(float(re.search(r"Error per pixel ([\d.]+)", said).group(1)) - error) < 0.001
    assert "below the alarm" in said or "above the alarm" in said


def test_a_touched_pixel_says_which_units_draw_it(opened, vae):
    opened.set("code", [0.3, -0.2])
    opened.page.locator(".units summary").click()
    assert not opened.page.locator(".bar").first.is_visible()
    box = opened.page.locator(".pictures canvas >> nth=1").bounding_box()
    column, row = 13, 9
    opened.page.mouse.click(box["x"] + (column + 0.5) / 28 * box["width"], box["y"] + (row + 0.5) / 28 * box["height"])
    opened.settle()
    with tf.GradientTape() as tape:
        tape.watch(z := tf.constant([[0.3, -0.2]]))
        y = vae.decoder(z)[0, row, column, 0]
    slopes = tape.gradient(y, z)[0].numpy()
    shown = [float(text.replace("−", "-")) for text in opened.page.locator(".unit .value").all_inner_texts()]
    np.testing.assert_allclose(shown, slopes, rtol=0.01)
    assert opened.page.locator("figcaption").nth(1).inner_text() == f"This pixel: {float(y):.2f}"
    lengths = [b["width"] for b in (bar.bounding_box() for bar in opened.page.locator(".bar i").all())]
    assert lengths[0] / lengths[1] == pytest.approx(abs(slopes[0] / slopes[1]), rel=0.2)


def test_a_touched_unit_shows_what_it_draws(opened, vae):
    opened.set("code", [0.3, -0.2])
    opened.page.get_by_role("button", name="what unit 1 draws").click()
    opened.settle()
    up, down = (vae.decode(np.array([[0.3, -0.2 + by]])) for by in (0.01, -0.01))
    slope = (up - down).ravel()
    shown = opened.page.evaluate(
        """() => {
            const canvas = document.querySelectorAll(".pictures canvas")[3];
            const { data } = canvas.getContext("2d").getImageData(0, 0, 28, 28);
            return Array.from({ length: 784 }, (_, i) => data[4 * i + 2] - data[4 * i]);
        }"""
    )  # blue less red
    assert np.corrcoef(shown, slope)[0, 1] > 0.97


def test_keys_move_the_code(opened):
    plane = opened.page.locator(".plane")
    plane.focus()
    home = np.array(opened.get("code"))
    opened.page.keyboard.press("ArrowRight")
    right = np.array(opened.get("code")) - home
    opened.page.keyboard.press("Home")
    np.testing.assert_allclose(opened.get("code"), home)
    opened.page.keyboard.press("Shift+ArrowUp")
    up = np.array(opened.get("code")) - home
    assert right[0] > 0 and up[1] > 0 and right[1] == pytest.approx(0) and up[0] == pytest.approx(0)
    assert up[1] < right[0]
    assert plane.evaluate("element => getComputedStyle(element).outlineStyle") == "solid"
    assert opened.page.evaluate(
        "() => document.querySelector('.tfae-explorer').hasAttribute('data-lm-suppress-shortcuts')"
    )
    heard = opened.page.evaluate(
        """() => {
            let heard = 0;
            document.addEventListener("keydown", () => heard++);
            document.querySelector(".plane").dispatchEvent(new KeyboardEvent("keydown", { key: "a", bubbles: true }));
            return heard;
        }"""
    )
    assert heard == 0
    opened.page.locator(".pictures canvas >> nth=1").focus()
    opened.page.keyboard.press("ArrowDown")
    opened.settle()
    assert "This pixel" in opened.page.locator("figcaption").nth(1).inner_text()


def test_a_slider_is_as_good_as_a_drag(opened):
    slider = opened.page.get_by_role("slider", name="unit 0")
    before = opened.get("code")
    slider.focus()
    opened.page.keyboard.press("ArrowRight")
    after = opened.get("code")
    assert after[0] > before[0] and after[1] == before[1]


def test_a_path_is_walked(opened):
    opened.set("code", [-1.0, 0.0])
    opened.page.get_by_role("button", name="A: start here").click()
    opened.set("code", [1.0, 0.5])
    opened.page.get_by_role("button", name="B: end here").click()
    opened.page.get_by_role("slider", name="place on the path").fill("0.5")
    np.testing.assert_allclose(opened.get("code"), [0, 0.25], atol=1e-9)
    opened.page.get_by_role("button", name="Play").click()
    opened.page.wait_for_function(
        "document.querySelector('.tfae-explorer-host').model.get('code')[0] > 0.99", timeout=6000
    )


def test_a_vae_samples(opened, vae):
    opened.set("selected", 0)
    mean, log_variance = vae.encode_distribution(data.load("strokes").x_test[:1])
    codes = []
    for _ in range(60):
        opened.page.get_by_role("button", name="Another code").click()
        codes.append(opened.get("code"))
    np.testing.assert_allclose(np.std(codes, axis=0), np.exp(log_variance[0] / 2), rtol=0.4)
    np.testing.assert_allclose(np.mean(codes, axis=0), mean[0], atol=4 * np.exp(log_variance[0] / 2).max() / 60**0.5)
    assert opened.get("selected") == 0
    opened.page.get_by_role("button", name="Sample the prior").click()
    assert opened.get("selected") is None
    assert opened.page.get_by_role("button", name="Another code").is_disabled(), "there is no image to take it from"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_everybody_can_use_it(browser, path, scheme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe, which looks at a page, is missing")
    opened = Opened(browser, path, viewport={"width": width, "height": 900}, color_scheme=scheme)
    rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
    found = axe.Axe().run(opened.page, options=rules)
    assert found.response["violations"] == []
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    ground = opened.page.locator(".frame >> nth=0").evaluate("element => getComputedStyle(element).backgroundColor")
    assert ground == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(16, 19, 23)")
    assert opened.wrong == []
    opened.context.close()


def test_fingers_draw_and_nothing_moves_for_who_wants_no_motion(browser, path, vae):
    opened = Opened(
        browser, path, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, reduced_motion="reduce"
    )
    for control in opened.page.locator("button, select, input, summary").all():
        assert control.bounding_box()["height"] >= 44, "as high as a thumb is wide"
    box = opened.page.locator(".plane").bounding_box()
    before = opened.get("code")
    opened.page.touchscreen.tap(box["x"] + 0.15 * box["width"], box["y"] + 0.15 * box["height"])
    z = opened.get("code")
    assert z != before
    np.testing.assert_allclose(opened.ink(1), **half_a_step(vae.decode(np.array([z]))))
    opened.page.get_by_role("button", name="A: start here").click()
    opened.set("code", [1.0, 0.5])
    opened.page.get_by_role("button", name="B: end here").click()
    opened.page.evaluate(
        """() => {
            window.seen = new Set();
            const slider = document.querySelector(".path input"), look = () => {
                seen.add(slider.value);
                requestAnimationFrame(look);
            };
            look();
        }"""
    )
    opened.page.get_by_role("button", name="Play").click()
    opened.page.wait_for_function("seen.has('1')", timeout=6000)
    assert set(opened.page.evaluate("[...seen]")) <= {"0", "0.25", "0.5", "0.75", "1"}
    opened.context.close()


def test_a_longer_code_of_a_table_and_of_colour_images_is_shown(browser, tmp_path):
    rng = np.random.default_rng(0)
    for shape in ((30,), (8, 8, 3)):
        model = with_random_weights(models.dense_autoencoder(shape, 5, hidden=(9,), output_activation="linear"))
        x = rng.normal(size=(60, *shape)) if len(shape) == 1 else rng.integers(0, 256, (60, *shape)) / 255
        x = x.astype("float32")
        explorer.Explorer(model, x).save(tmp_path / "page.html")
        opened = Opened(browser, tmp_path / "page.html")
        before = np.array(opened.get("code"))
        opened.drag(".plane", (0.4, 0.4), (0.6, 0.5))
        moved = np.array(opened.get("code")) - before
        z = model.encode(x).astype("float64")
        _, _, main = np.linalg.svd(z - z.mean(axis=0), full_matrices=False)
        assert np.linalg.norm(moved - main[:2].T @ (main[:2] @ moved)) < 1e-5 < np.linalg.norm(moved)
        opened.page.get_by_label("Across").select_option("unit 3")
        assert opened.page.get_by_label("Up").locator("option:checked").inner_text() == "unit 0"  # at right angles
        before = np.array(opened.get("code"))
        if len(shape) == 3:
            data = opened.page.evaluate(
                """() => Array.from(document.querySelectorAll(".pictures canvas")[1]
                    .getContext("2d").getImageData(0, 0, 8, 8).data)"""
            )
            drawn = np.clip(model.decode(before[np.newaxis])[0], 0, 1)
            np.testing.assert_allclose(np.array(data).reshape(8, 8, 4)[..., :3] / 255, **half_a_step(drawn))
        opened.page.locator(".plane").focus()
        opened.page.keyboard.press("ArrowRight")
        assert np.flatnonzero(np.array(opened.get("code")) - before).tolist() == [3]
        assert opened.wrong == []
        opened.context.close()


@pytest.mark.parametrize("kind", ["relu", "topk", "batch_topk", "jumprelu"])
def test_a_dictionary_fires_as_in_keras(engine, kind):
    options = {"k": None if kind == "relu" else 3, "weight": 0.1 if kind in ("relu", "jumprelu") else None}
    words = dictionary.SparseDictionary(12, kind, seed=0, **options)
    z = np.random.default_rng(0).normal(size=(200, 4)).astype("float32")
    words.compile("adam")
    words.fit(z, epochs=2, batch_size=50, verbose=0)
    arrays = explorer.Arrays()
    content = {"network": explorer._features(words, arrays), "arrays": arrays.table, "data": arrays.text()}
    fired = engine.evaluate(
        """async ([content, codes]) => {
            const { network } = await explorer.read(content);
            return codes.map((z) => Array.from(explorer.run(network, z)));
        }""",
        [content, z[:20].tolist()],
    )
    np.testing.assert_allclose(fired, words.encode(z[:20]), atol=1e-5)


def test_a_feature_is_switched_off_and_added_as_by_a_splice(browser, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (200, 8, 8, 1)).astype("float32") / 255
    encoder, decoder = (
        models.dense_encoder((8, 8, 1), 4, (9,), seed=0),
        models.dense_decoder((8, 8, 1), 4, (9,), seed=1),
    )
    model, words = models.Autoencoder(encoder, decoder), dictionary.SparseDictionary(12, "topk", k=3, seed=0)
    words.compile("adam")
    words.fit(model.encode(x), epochs=2, batch_size=50, verbose=0)
    explorer.Explorer(model, x, dictionary=words).save(tmp_path / "page.html")
    opened = Opened(browser, tmp_path / "page.html", viewport={"width": 1280, "height": 1400})
    opened.page.get_by_text("Features of the dictionary").click()
    first = opened.page.get_by_role("button", name=re.compile(r"^feature \d+$")).first
    feature = int(first.inner_text().split()[1])
    fires = words.encode(model.encode(x[:1]))[0]
    assert feature == fires.argmax()
    first.click()
    code = opened.get("code")
    spliced = dictionary.splice(model, "code", words, ablate=[feature])
    np.testing.assert_allclose(model.decode(np.array([code])), spliced(x[:1]), atol=1e-5)
    first.click()
    np.testing.assert_allclose(opened.get("code"), model.encode(x[:1])[0], atol=1e-5)
    silent = int(np.flatnonzero(fires == 0)[0])
    opened.page.get_by_label("number of a feature").fill(str(silent))
    opened.page.get_by_role("button", name="Add this feature").click()
    strongest = words.encode(model.encode(x)).max(axis=0)[silent]
    spliced = dictionary.splice(model, "code", words, add={silent: float(strongest)})
    np.testing.assert_allclose(model.decode(np.array([opened.get("code")])), spliced(x[:1]), atol=1e-5)
    assert opened.wrong == []
    opened.context.close()
    with pytest.raises(ValueError, match="not one of codes of 2 units"):
        explorer.Explorer(models.dense_autoencoder((8, 8, 1), 2, hidden=()), x, dictionary=words)


# --- the notebook ----------------------------------------------------------------------------------------------------

CELLS = (
    "from tfae import explorer, models\nimport numpy as np\n"
    "x = np.random.default_rng(0).random((60, 8, 8, 1)).astype('float32')\n"
    "shown = explorer.Explorer(models.dense_autoencoder((8, 8, 1), 2, hidden=(9,), seed=0), x)\nshown",
    "print('begun at', shown.selected, shown.code.shape)",
    "print('now', shown.selected, shown.code.tolist(), 'end')\nshown.code = [[0.25, -0.5]]",
    "shown.selected = 7",
    "print('last', shown.code.tolist() == shown.z[7:8].tolist(), 'end')",
)


@pytest.fixture
def lab(tmp_path):
    """The address of a notebook of `CELLS` in a JupyterLab of its own."""
    nbformat = pytest.importorskip("nbformat", reason="JupyterLab is not installed")
    pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")
    pytest.importorskip("anywidget", reason="anywidget is not installed")
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(
        metadata={"kernelspec": kernel}, cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS]
    )
    nbformat.write(notebook, tmp_path / "touch.ipynb")
    here = {f"JUPYTER_{name}_DIR": str(tmp_path / name) for name in ("CONFIG", "RUNTIME", "DATA")}
    root = str(Path(__file__).resolve().parent.parent)
    log = tmp_path / "log"
    with log.open("w") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--port=0", "--allow-root",
             "--IdentityProvider.token=touch", f"--ServerApp.root_dir={tmp_path}"],
            stdout=out, stderr=out, env=os.environ | here | {"PYTHONPATH": root},
        )  # fmt: skip
    try:
        for _ in range(120):
            time.sleep(0.5)
            found = re.search(r"http://(?:localhost|127\.0\.0\.1):(\d+)/lab", log.read_text())
            if found:
                break
        assert found, log.read_text()
        yield f"http://127.0.0.1:{found.group(1)}/lab/tree/touch.ipynb?token=touch"
    finally:
        server.terminate()
        server.wait(20)


def test_in_jupyterlab_reader_and_kernel_share_the_code(browser, lab):
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.goto(lab)
    page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=60_000)
    page.locator(".jp-Cell .cm-content").first.click()

    def run():
        page.keyboard.press("Shift+Enter")

    page.locator(".jp-Notebook-ExecutionIndicator[data-status='idle']").wait_for(timeout=60_000)
    run()
    plane = page.locator(".tfae-explorer .plane")
    plane.wait_for(timeout=120_000)
    run()
    page.get_by_text("begun at 0 (1, 2)").wait_for()
    plane.scroll_into_view_if_needed()
    box = plane.bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 0.3 * box["height"], steps=4)
    page.mouse.up()
    plane.focus()
    page.keyboard.press("ArrowUp")  # which must not take the notebook to another cell
    page.wait_for_timeout(600)
    status = page.locator(".tfae-explorer .status").inner_text()
    page.locator(".jp-Cell .cm-content").nth(2).click()
    run()
    said = page.locator(".jp-OutputArea-output", has_text="now ").inner_text()
    numbers = [float(text) for text in re.findall(r"-?\d+\.\d+", said)]
    shown = [float(text.replace("−", "-")) for text in re.findall(r"unit \d: (−?\d+\.\d+)", status)]
    assert said.startswith("now None") and len(numbers) == 2
    np.testing.assert_allclose(shown, numbers, rtol=0.01)
    page.locator(".tfae-explorer .status", has_text="unit 0: 0.250, unit 1: −0.500").wait_for()
    run()
    run()
    page.get_by_text("last True end").wait_for()
    page.close()


# --- and fast --------------------------------------------------------------------------------------------------------


def test_it_draws_sixty_pictures_a_second(engine):
    """Which leaves 16 ms each; a decoder of the usual size takes one or two."""
    for model in (
        models.dense_autoencoder((28, 28, 1), 32, hidden=(256, 64)),
        models.conv_autoencoder((28, 28, 1), 16),
    ):
        arrays = explorer.Arrays()
        network = explorer.written(model.decoder, model.decoder.input_shape[1:], arrays)
        took = engine.evaluate(
            """async (content) => {
                const { network } = await explorer.read(content), times = [], z = network.shape[0];
                for (let i = 0; i < 40; i++) {
                    const start = performance.now();
                    explorer.run(network, Float64Array.from({ length: z }, Math.random));
                    times.push(performance.now() - start);
                }
                return times.sort((a, b) => a - b)[20];
            }""",
            {"network": network, "arrays": arrays.table, "data": arrays.text()},
        )
        assert took < 12
