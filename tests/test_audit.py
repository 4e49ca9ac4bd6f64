"""What is measured of a model: planted weaknesses, drifts, leaks and useless models have to be found."""

import keras
import numpy as np
import pytest
from keras import layers
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from tfae import audit, models

RNG = np.random.default_rng(0)
X = {"train": RNG.normal(size=(600, 6)).astype("float32"), "test": RNG.normal(size=(400, 6)).astype("float32")}
WEIGHTS = np.array([2.0, -1.0, 0.5, 0, 0, 0])


def arrays(y=None, **more):
    """Samples of six standard normal features, with labels that a function makes of them."""
    given = {f"x_{part}": x for part, x in X.items()}
    if y is not None:
        given |= {f"y_{part}": y(x) for part, x in X.items()}
    return given | more


def linear(weights, activation=None, bias=0.0):
    """A model whose answer is known: one layer with these weights."""
    kernel = np.asarray(weights, "float32").reshape(6, -1)
    model = keras.Sequential([keras.Input((6,)), layers.Dense(kernel.shape[1], activation)])
    model.layers[0].set_weights([kernel, np.full(kernel.shape[1], bias, "float32")])
    return model


def sign(x):
    return (x @ WEIGHTS > 0).astype(int)


# --- kinds of models, and their errors -------------------------------------------------------------------------------


def test_a_linear_autoencoder_that_is_almost_pca_is_almost_its_baseline():
    components = PCA(3).fit(X["train"]).components_
    mean = X["train"].mean(axis=0)
    model = keras.Sequential([keras.Input((6,)), layers.Dense(3), layers.Dense(6)])
    model.set_weights([components.T, -components @ mean, components, mean + 0.02])
    found = audit.examine(model, arrays())
    assert (found.kind, found.unit, found.code_size) == ("autoencoder", "mean squared error", 3)
    np.testing.assert_allclose(found.errors["this model"], found.errors["PCA of 3 numbers"], atol=0.1)
    np.testing.assert_allclose(
        found.errors["the mean of the training data"], ((X["test"] - mean) ** 2).mean(axis=1), rtol=1e-5
    )
    assert found.not_beaten == ["PCA of 3 numbers"] and found.code.startswith("layer dense")


@pytest.mark.parametrize("form", ["sigmoid", "softmax", "logits", "one logit"])
def test_a_classifier_is_judged_the_same_in_every_form(form):
    two = np.stack([-WEIGHTS, WEIGHTS], axis=1)
    model = {
        "sigmoid": linear(2 * WEIGHTS, "sigmoid"),
        "softmax": linear(two, "softmax"),
        "logits": linear(two),
        "one logit": linear(2 * WEIGHTS),
    }[form]
    noisy = arrays(lambda x: (x @ WEIGHTS + np.random.default_rng(1).normal(size=len(x)) > 0).astype(int))
    found = audit.examine(model, noisy | {"class_names": ("no", "yes")})
    y = noisy["y_test"]
    assert found.kind == "classifier" and found.errors["this model"].mean() == np.mean(sign(X["test"]) != y)
    np.testing.assert_allclose(found.outputs[:, 1], 1 / (1 + np.exp(-2 * X["test"] @ WEIGHTS)), rtol=1e-4)
    assert found.errors["the most frequent class"].mean() == np.mean(y != np.bincount(noisy["y_train"]).argmax())
    logistic = LogisticRegression().fit(X["train"], noisy["y_train"])
    expected = np.mean(logistic.predict(X["test"]) != y)
    assert found.errors["logistic regression"].mean() == pytest.approx(expected, abs=0.01)
    assert found.explanations.target in ("the score of 'yes'", "the score of 'no'")
    one_hot = {f"y_{part}": np.eye(2)[noisy[f"y_{part}"]] for part in X}
    again = audit.examine(model, noisy | one_hot)
    assert again.kind == "classifier"
    np.testing.assert_array_equal(again.errors["this model"], found.errors["this model"])


def test_a_regression_is_judged_by_squares_beside_a_linear_one():
    found = audit.examine(linear(WEIGHTS), arrays(lambda x: x @ WEIGHTS + x[:, 3] ** 2))
    np.testing.assert_allclose(found.errors["this model"], X["test"][:, 3] ** 4, rtol=1e-3, atol=1e-5)
    assert found.kind == "regression" and found.not_beaten == ["linear regression (ridge)"]


def test_an_autoencoder_of_this_package_is_measured_by_its_own_code():
    model = models.dense_autoencoder((6,), 2, (5,), seed=0)
    found = audit.examine(model, arrays(sign))
    assert (found.kind, found.code, found.code_size) == ("autoencoder", "its code", 2)
    np.testing.assert_allclose(found.errors["this model"], model.reconstruction_error(X["test"]), rtol=1e-5)


def test_two_features_and_two_classes_are_told_apart_by_the_numbers():
    data = {key: x[:, :2] for key, x in arrays().items()} | {f"y_{part}": sign(x) for part, x in X.items()}
    classifier = keras.Sequential([keras.Input((2,)), layers.Dense(2, "softmax")])
    autoencoder = keras.Sequential([keras.Input((2,)), layers.Dense(1), layers.Dense(2)])
    assert [audit.examine(model, data).kind for model in (classifier, autoencoder)] == ["classifier", "autoencoder"]


def test_units_of_measurement_change_nothing_but_gradients():
    """A table in its own units, as people bring it: years beside thousandths."""
    units = np.array([1, 1000, 1e-3, 1, 10, 1], "float32")
    plain = arrays(lambda x: x @ WEIGHTS)
    measured = plain | {f"x_{part}": x * units for part, x in X.items()}
    found, again = (
        audit.examine(linear(w), given).explanations.scores
        for w, given in ((WEIGHTS, plain), (WEIGHTS / units, measured))
    )
    for name, scores in found.items():
        for measure, values in scores.items():
            if name != "gradient" and measure not in (audit.GAP, audit.KEPT):
                np.testing.assert_allclose(again[name][measure], values, rtol=0.01, atol=1e-3, err_msg=name + measure)
    assert found["integrated gradients"][audit.MOVED].max() < 0.5


@pytest.mark.parametrize("recurrent", [False, True])
def test_the_code_of_any_model_is_the_layer_inside_that_returns_least(recurrent):
    """Not one that only prepares the samples; and a recurrent layer calls others, and is a layer all the same."""
    if recurrent:
        parts, shape, size = [layers.LSTM(5), layers.Dense(9), layers.Dense(3)], (3, 2), 5
    else:
        parts, shape, size = [layers.Normalization(mean=0.0, variance=1.0), layers.Dense(7), layers.Dense(3)], (6,), 7
    model = keras.Sequential([keras.Input(shape), *parts])
    given = {key: x.reshape(-1, *shape) for key, x in arrays().items()} | {
        f"y_{part}": sign(x) for part, x in X.items()
    }
    found = audit.examine(model, given)
    assert (found.code, found.code_size) == (f"layer {parts[0 if recurrent else 1].name}", size)
    assert [layer for layer, _ in audit.layers_of(model, given["x_test"])] == parts


# --- what is planted is found ----------------------------------------------------------------------------------------


def test_a_slice_in_which_the_model_is_blind_is_found_and_no_other():
    def y(x):
        return np.where(x[:, 5] > np.quantile(X["test"][:, 5], 0.75), 1 - sign(x), sign(x))

    found = audit.examine(linear(WEIGHTS, "sigmoid"), arrays(y, feature_names=list("abcdef")))
    assert [part.name for part in audit.beyond_chance(found.slices)] == ["f, highest quarter"]
    assert found.slices[0].errors.mean() > 0.95 and len(found.slices[0].errors) == 100
    assert found.slices_by_chance == 0 and len(found.slices) == 14  # two labels, two quarters of six features


def test_a_group_that_is_no_feature_is_a_slice():
    group = np.random.default_rng(2).integers(0, 2, 400)

    def y(x):
        return np.where(group == 1, np.random.default_rng(3).integers(0, 2, 400), sign(x)) if len(x) == 400 else sign(x)

    factors = np.stack([group, np.arange(400)], axis=1)
    found = audit.examine(linear(WEIGHTS, "sigmoid"), arrays(y, factors_test=factors, factor_names=("group", "row")))
    assert found.slices[0].name == "group = 1" and audit.beyond_chance(found.slices)[0] is found.slices[0]
    assert {"row, lowest quarter", "group = 0"} <= {part.name for part in found.slices}


def test_more_slices_ask_for_more_and_small_ones_are_none():
    two, none = (audit.Slice("", np.zeros(30), statistic) for statistic in (2.0, 0.0))
    assert audit.beyond_chance([two]) == [two] and audit.beyond_chance([two] + 50 * [none]) == []
    errors = RNG.random(400)
    assert [len(audit._slices(errors, {"group": np.arange(400) < n})) for n in (19, 20)] == [0, 2]


def test_drift_is_seen_where_it_is_and_not_where_it_is_not():
    model = linear(np.eye(6))
    same, control = audit.examine(model, arrays()).drift.values()
    moved, still = audit.examine(model, arrays() | {"x_test": X["test"] + np.eye(6, dtype="float32")[2]}).drift.values()
    assert same[1] > 0.05 and control[1] > 0.05 and still == control
    assert moved[1] < 1e-10 and moved[0] == pytest.approx(0.383, abs=0.06)  # of two normals that are 1 apart


def test_an_explanation_of_a_linear_model_beats_every_control_and_adds_up():
    found = audit.examine(linear(WEIGHTS), arrays(lambda x: x @ WEIGHTS)).explanations
    mean = X["train"].mean(axis=0)
    for name in ("integrated gradients", "gradient × input"):
        np.testing.assert_allclose(found.maps[name], (found.x - mean) * WEIGHTS, atol=1e-4)
        assert found.scores[name][audit.GAP].max() < 1e-3
        for control in ("control: random order", "control: the input alone"):
            lead = found.scores[control][audit.MEAN] - found.scores[name][audit.MEAN]
            assert audit.above_zero(lead), (name, control)
    assert not [line for line in found.failures if line.startswith("integrated gradients, deletion to the mean")]
    assert audit.GAP not in found.scores["gradient"] and "control: its edges" not in found.maps


def test_a_method_that_ignores_the_weights_is_called_out():
    scores = {
        "method": {audit.MEAN: np.array([1.0, 1.1, 0.9]), audit.OTHER: np.array([1.0, 1.1, 0.9])}
        | {audit.KEPT: np.full(3, 0.9), audit.GAP: np.full(3, 0.2)},
        "control: weak": {audit.MEAN: np.array([2.0, 2.1, 2.0]), audit.OTHER: np.array([1.0, 1.2, 0.8])},
    }
    assert audit._failures(scores, ["method"]) == [
        "method, deletion to another sample: no better than weak",
        "method: its maps stay much as they were when all weights are shuffled",
        "method: its values do not add up to what they should",
    ]


def test_weights_are_as_they_were_and_the_same_call_finds_the_same():
    model = models.dense_autoencoder((6,), 2, (5,), seed=0)
    before = [weight.numpy() for weight in model.weights]
    first, second = audit.examine(model, arrays()), audit.examine(model, arrays())
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)
    for name, scores in first.explanations.scores.items():
        for measure, values in scores.items():
            np.testing.assert_array_equal(values, second.explanations.scores[name][measure])
    assert first.drift == second.drift


def test_a_model_without_derivatives_is_measured_and_not_explained():
    model = keras.Sequential([keras.Input((6,)), layers.Embedding(9, 2), layers.Flatten(), layers.Dense(1)])
    whole = {f"x_{part}": np.abs(x).astype(int) for part, x in X.items()}
    found = audit.examine(model, arrays(lambda x: x @ WEIGHTS) | whole)
    assert found.errors["this model"].shape == (400,) and "does not depend on the samples" in found.explanations


# --- what cannot be examined -----------------------------------------------------------------------------------------


def two_inputs():
    a, b = keras.Input((6,)), keras.Input((6,))
    return keras.Model([a, b], layers.Add()([a, b]))


def two_outputs():
    a = keras.Input((6,))
    return keras.Model(a, [layers.Dense(2)(a), layers.Dense(3)(a)])


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (lambda: linear(WEIGHTS), {"x_test": X["test"]}, "the data hold no x_train; give x_train and x_test"),
        (lambda: linear(WEIGHTS), arrays(), r"is no autoencoder, and the data hold no labels.*give y_train and y_test"),
        (lambda: linear(WEIGHTS), arrays() | {"x_test": X["test"][:, :5]}, r"x_test has shape \(400, 5\); this model"),
        (lambda: linear(WEIGHTS), arrays() | {"x_test": X["test"][:9]}, "x_test holds 9 samples; give at least 40"),
        (lambda: linear(WEIGHTS), arrays() | {"x_train": np.full((50, 6), np.nan)}, "x_train holds 300 values"),
        (lambda: linear(WEIGHTS), arrays(lambda x: x[:5, 0]), r"y_train has shape \(5,\).*give 600 finite numbers"),
        (lambda: linear(WEIGHTS), arrays(lambda x: np.full(len(x), "no")), r"dtype <U2; give .* whole ones from 0"),
        (lambda: linear(WEIGHTS), arrays(sign) | {"y_train": None}, "both of them labels or neither"),
        (
            lambda: linear(WEIGHTS),
            arrays(lambda x: x[:, :3]),
            r"returns shape \(1,\) for a sample and its label has \(3,\)",
        ),
        (lambda: linear(np.eye(6)[:, :3]), arrays(lambda x: 3 * sign(x)), "tells 3 classes and the labels are"),
        (lambda: linear(np.eye(6)[:, :3]), arrays(lambda x: 0 * sign(x)), "at least two of them in y_train"),
        (lambda: linear(np.full(6, np.inf)), arrays(sign), "returns NaN or infinity"),
        (two_inputs, arrays(), "the model has 2 inputs; a report is about models with one"),
        (two_outputs, arrays(sign), "the model returns a list; a report is about models with one output"),
    ],
)
def test_what_cannot_be_examined_is_said_in_one_sentence(model, data, message):
    with pytest.raises(ValueError, match=message):
        audit.examine(model(), data)
