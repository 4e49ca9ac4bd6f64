"""Surrogates are held to closed forms and to scikit-learn; each diagnosis to a case made to deserve it."""

import keras
import numpy as np
import pytest
from keras import layers
from sklearn.linear_model import LinearRegression, QuantileRegressor, Ridge

from tfae import surrogates, targets

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 6))
COEF = np.array([2.0, -1.0, 0.5, 0.0, 3.0, -0.25])


def linear(x):
    return x @ COEF + 7


def curved(x):
    return np.sin(3 * x[:, 0]) + x[:, 1] ** 2 + x[:, 2] + np.exp(x[:, 3] / 2)


def held_out(x, seed=0):
    """The split of `fit_global`: a quarter is for the scores."""
    order = np.random.default_rng(seed).permutation(len(x))
    return x[order[len(x) // 4 :]], x[order[: len(x) // 4]]


# --- global ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mse", "mae"])
def test_a_linear_model_is_recovered(kind):
    found = surrogates.fit_global(linear, X, kind)
    np.testing.assert_allclose(found.coef, COEF, atol=1e-6)
    np.testing.assert_allclose(found.intercept, 7, atol=1e-6)
    np.testing.assert_allclose(found.predict(X[:9]), linear(X[:9]), atol=1e-6)
    assert found.mse < 1e-12 and found.mae < 1e-6 and found.r2 > 1 - 1e-9 and found.diagnosis == {}


def test_least_squares_are_those_of_scikit_learn():
    fit, test = held_out(X, seed=5)
    expected = LinearRegression().fit(fit, curved(fit))
    found = surrogates.fit_global(curved, X, seed=5)
    np.testing.assert_allclose(found.coef, expected.coef_, atol=1e-10)
    np.testing.assert_allclose(found.intercept, expected.intercept_, atol=1e-10)
    errors = curved(test) - expected.predict(test)
    np.testing.assert_allclose([found.mse, found.mae], [(errors**2).mean(), np.abs(errors).mean()])
    np.testing.assert_allclose(found.r2, expected.score(test, curved(test)))
    np.testing.assert_allclose(
        surrogates.fit_global(curved, X, alpha=30, x_test=X[:9]).coef, Ridge(alpha=30).fit(X, curved(X)).coef_
    )


def test_least_absolute_deviations_are_those_of_a_quantile_regression():
    """scikit-learn poses and scales the programme in its own way; an iteration of reweighted squares needs none."""
    x, y, w = X[:150], curved(X[:150]), RNG.random(150)
    coef, intercept = surrogates.least_absolute(x, y, w)
    expected = QuantileRegressor(quantile=0.5, alpha=0).fit(x, y, sample_weight=w)
    np.testing.assert_allclose(coef, expected.coef_, atol=1e-6)
    np.testing.assert_allclose(intercept, expected.intercept_, atol=1e-6)

    guess = LinearRegression().fit(x, y, sample_weight=w)
    for _ in range(300):
        guess.fit(x, y, sample_weight=w / np.maximum(np.abs(y - guess.predict(x)), 1e-9))
    loss = (w * np.abs(y - x @ coef - intercept)).sum()
    np.testing.assert_allclose(loss, (w * np.abs(y - guess.predict(x))).sum(), rtol=1e-3)
    for step in 1e-4 * RNG.normal(size=(200, 7)):  # a minimum: no step improves it
        assert (w * np.abs(y - x @ (coef + step[:6]) - intercept - step[6])).sum() >= loss


@pytest.mark.parametrize("unit", [1e-8, 1, 1e8])
def test_least_absolute_deviations_do_not_depend_on_units(unit):
    x, y, w = X[:150], curved(X[:150]), RNG.random(150)
    expected = QuantileRegressor(quantile=0.5, alpha=0).fit(x, y, sample_weight=w)
    for outputs, features, weights in ((unit, 1, 1), (1, unit, 1), (1, 1, unit), (unit, unit, unit)):
        coef, intercept = surrogates.least_absolute(features * x, outputs * y, weights * w)
        np.testing.assert_allclose(coef * features / outputs, expected.coef_, atol=1e-6)
        np.testing.assert_allclose(intercept / outputs, expected.intercept_, atol=1e-6)
    fit, test = held_out(X)
    expected = QuantileRegressor(quantile=0.5, alpha=0).fit(fit, curved(fit))
    found = surrogates.fit_global(lambda x: unit * curved(x), X, "mae")
    np.testing.assert_allclose(found.coef / unit, expected.coef_, atol=1e-6)
    np.testing.assert_allclose(found.mae / unit, np.abs(curved(test) - expected.predict(test)).mean(), rtol=1e-6)


def test_one_wild_output_sets_no_unit():
    for wild in (1e6, 1e12):
        y = linear(X)
        y[3] = wild
        coef, intercept = surrogates.least_absolute(X, y, np.ones(len(X)))
        np.testing.assert_allclose(coef, COEF, atol=1e-9)
        np.testing.assert_allclose(intercept, 7, atol=1e-9)


@pytest.mark.parametrize("shape", [(300, 40), (40, 300), (41, 40)])
@pytest.mark.parametrize("alpha", [1e3, 1.0, 1e-4, 1e-14])
def test_a_penalty_is_that_of_scikit_learn_whatever_the_shape(shape, alpha):
    """Of columns whose lengths differ by 10⁴; the singular values give scikit-learn's answer most exactly."""
    x = RNG.normal(size=shape) @ RNG.normal(size=(shape[1], shape[1])) * np.logspace(0, -4, shape[1]) + 5
    y, w = RNG.normal(size=shape[0]) + 100, RNG.random(shape[0])
    expected = Ridge(alpha=alpha, solver="svd").fit(x, y, sample_weight=w)
    coef, intercept = surrogates.least_squares(x, y, w, alpha=alpha)
    np.testing.assert_allclose(coef, expected.coef_, rtol=1e-6, atol=1e-8 * np.abs(expected.coef_).max())
    np.testing.assert_allclose(x @ coef + intercept, expected.predict(x), rtol=1e-7)


def test_least_absolute_deviations_hold_against_outliers_and_least_squares_do_not():
    def wild(x):
        return linear(x) + 500 * (x[:, 0] > 1.2) * (x[:, 1] > 0)

    squares, absolute = (surrogates.fit_global(wild, X, kind) for kind in ("mse", "mae"))
    np.testing.assert_allclose(absolute.coef, COEF, atol=1e-6)
    assert np.abs(squares.coef - COEF).max() > 10
    assert absolute.mae < squares.mae and absolute.mse > squares.mse  # each is best at what it minimises


def test_scores_are_on_points_that_were_not_fitted():
    x = RNG.normal(size=(200, 120))

    def noise(x):  # nothing that a linear model could know at another point
        return np.sin(1e4 * x.sum(axis=1))

    fit, _ = held_out(x)
    assert LinearRegression().fit(fit, noise(fit)).score(fit, noise(fit)) > 0.6
    found = surrogates.fit_global(noise, x)
    assert found.r2 < 0 and "unfaithful" in found.diagnosis
    learned = surrogates.fit_global(noise, RNG.normal(size=(200, 145)))
    assert "by heart" in learned.diagnosis["unfaithful"]
    given = surrogates.fit_global(noise, x, x_test=x[:150])
    assert given.r2 > 0.4  # the reader's own choice of points is used, even a bad one


def test_features_that_never_change_have_coefficient_0(images):
    small = images[:, ::4, ::4].copy()
    small[:, 0] = 0.25

    def predict(x):
        return x[:, 1:, :, 0].mean(axis=(1, 2)) * 3 + 1

    for kind in ("mse", "mae"):
        found = surrogates.fit_global(predict, small, kind)
        assert found.coef.shape == (7, 7, 1) and (found.coef[0] == 0).all()
        np.testing.assert_allclose(found.coef[1:], 3 / 42, atol=1e-4)  # float32
        np.testing.assert_allclose(found.predict(small[:5]), predict(small[:5]), atol=1e-4)
    assert "collinear" not in found.diagnosis
    doubled = np.concatenate([small, small], axis=2)
    found = surrogates.fit_global(lambda x: predict(x[:, :, :7]), doubled)
    assert "collinear" in found.diagnosis
    np.testing.assert_allclose(found.coef[1:], 1.5 / 42, atol=1e-4)  # the smallest: two equal pixels share


@pytest.mark.parametrize("kind", ["mse", "mae"])
def test_features_that_depend_on_each_other_share_a_coefficient_whatever_their_rounding(kind):
    x = np.column_stack([X, 100 * X[:, 0], X[:, 1] - X[:, 2]]).astype("float32")
    found = surrogates.fit_global(lambda x: x[:, 0] + x[:, 3] + 0.1 * curved(x[:, :6]), x, kind)
    assert found.condition_number == np.inf and "collinear" in found.diagnosis
    np.testing.assert_allclose(found.coef[0] / x[:, 6].std(), found.coef[6] / x[:, 0].std(), rtol=1e-3)
    np.testing.assert_allclose(found.coef[0] + 100 * found.coef[6], 1, atol=0.1)
    assert np.abs(found.coef).max() < 1.5


def test_the_fewest_points_are_fitted_and_scored():
    found = surrogates.fit_global(lambda x: 2 * x[:, 0] + 7, X[:5, :1])  # 3 are fitted, and 2 are for the scores
    np.testing.assert_allclose([found.coef[0], found.intercept, found.r2], [2, 7, 1])


def test_an_output_that_does_not_vary_has_no_r2():
    for found in (
        surrogates.fit_global(lambda x: 0 * x[:, 0] + 0.1, X),
        surrogates.explain_local(lambda x: np.maximum(x[:, 0], 0), np.full((1, 6), -50.0), scale=1.0),
    ):
        assert np.isnan(found.r2) and set(found.diagnosis) == {"constant"}
        np.testing.assert_allclose(found.coef, 0, atol=1e-12)
    assert np.isnan(found.stability)


# --- local -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mse", "mae"])
def test_a_linear_model_is_recovered_around_any_sample(kind):
    x = X[:1]
    scale = np.array([0.1, 1, 2, 0.5, 1e-3, 3])
    for options in ({"scale": scale}, {"background": X}, {"background": X, "scale": 0.1}):
        found = surrogates.explain_local(linear, x, **options, kind=kind, n_samples=200, n_fits=3)
        np.testing.assert_allclose(found.coef, COEF, atol=1e-6)
        np.testing.assert_allclose(found.intercept, 7, atol=1e-5)
        np.testing.assert_allclose(found.predict(X[:5]), linear(X[:5]), atol=1e-5)
        assert found.r2 > 1 - 1e-9 and found.diagnosis == {} and found.stability > 1 - 1e-9
        assert found.standard_error.shape == (6,) and (found.standard_error < 1e-6).all()


def test_the_fit_is_a_ridge_regression_with_kernel_weights():
    found = surrogates.explain_local(curved, X[1:2], scale=0.5, kernel_width=1.3, alpha=1, seed=4)
    np.testing.assert_allclose(found.weights, np.exp(-(found.design**2).sum(axis=1) / 2 / 1.3**2))
    np.testing.assert_allclose(found.outputs, curved(X[1] + 0.5 * found.design))
    expected = Ridge(alpha=1).fit(found.design, found.outputs, sample_weight=found.weights)
    np.testing.assert_allclose(found.coef, expected.coef_ / 0.5, atol=1e-10)
    np.testing.assert_allclose(found.predict(X[1:2]), expected.intercept_, atol=1e-10)
    median = surrogates.explain_local(curved, X[1:2], scale=0.5, kernel_width=1.3, kind="mae", seed=4)
    expected = QuantileRegressor(quantile=0.5, alpha=0).fit(found.design, found.outputs, sample_weight=found.weights)
    np.testing.assert_allclose(median.coef, expected.coef_ / 0.5, atol=1e-5)


def test_scale_and_width_say_together_what_around_means():
    """By Stein's lemma the slope is the mean derivative under steps smaller by w / √(1 + w²)."""
    a, x, scale, width = 1.5, np.array([0.3, -0.2]), 0.8, 0.7
    found = surrogates.explain_local(
        lambda x: np.exp(a * x[:, 0]) + x[:, 1] ** 3,
        x[np.newaxis],
        scale=scale,
        kernel_width=width,
        n_samples=400_000,
        n_fits=2,
    )
    variance = scale**2 * width**2 / (1 + width**2)
    expected = [a * np.exp(a * x[0] + a**2 * variance / 2), 3 * x[1] ** 2 + 3 * variance]
    np.testing.assert_allclose(found.coef, expected, rtol=0.02)
    share = ((1 + 2 / width**2) ** 0.5 / (1 + 1 / width**2)) ** 2  # of the samples, for two features
    np.testing.assert_allclose(found.effective_samples / 400_000, share, rtol=0.02)


def test_segments_are_switched_on_and_off(images):
    x, baseline = images[:1], images[1]
    segments = np.kron(np.arange(9).reshape(3, 3), np.ones((10, 10), int))[:28, :28, np.newaxis]
    weights = RNG.normal(size=x.shape)

    def predict(x):
        return (weights * x).sum(axis=(1, 2, 3))

    for given in (baseline, 0.0):
        found = surrogates.explain_local(predict, x, segments=segments, baseline=given, n_samples=300)
        expected = np.bincount(segments.ravel(), (weights * (x - given)).ravel())
        np.testing.assert_allclose(found.coef, expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found.predict(np.ones((1, 9))), predict(x), rtol=1e-4)
        np.testing.assert_allclose(found.intercept, predict(np.zeros_like(x) + given), rtol=1e-4, atol=1e-4)
        assert set(np.unique(found.design)) == {-1, 0} and found.diagnosis == {}
    batch = surrogates.explain_local(predict, x, segments=segments, baseline=images[1:2], n_samples=300)
    of_one = surrogates.explain_local(predict, x, segments=segments, baseline=baseline, n_samples=300)
    np.testing.assert_array_equal(batch.coef, of_one.coef)  # a baseline may keep its batch axis, too
    off = -found.design.sum(axis=1)
    np.testing.assert_allclose(found.weights, np.exp(-off / (2 * 0.75**2 * 9)))


def test_neighbours_follow_the_covariance_of_the_background():
    rho = 0.8
    shared = RNG.normal(size=(20_000, 1))
    background = np.sqrt(rho) * shared + np.sqrt(1 - rho) * RNG.normal(size=(20_000, 2))
    background = np.concatenate([background * [1, 10], np.full((20_000, 1), 5.0)], axis=1)  # the last never changes
    found = surrogates.explain_local(
        lambda x: x[:, 0] + x[:, 1] + x[:, 2],
        np.ones((1, 3)),
        background=background,
        kernel_width=1e6,
        n_samples=20_000,
    )
    np.testing.assert_allclose(np.corrcoef(found.design[:, :2].T)[0, 1], rho, atol=0.02)
    np.testing.assert_allclose(found.design.std(axis=0), [1, 1, 0], atol=0.02)
    np.testing.assert_allclose(found.condition_number, np.sqrt((1 + rho) / (1 - rho)), rtol=0.05)
    np.testing.assert_allclose(found.coef, [1, 1, 0], atol=1e-9)
    np.testing.assert_allclose(found.effective_samples, 20_000, rtol=1e-3)


# --- diagnosis -------------------------------------------------------------------------------------------------------


def test_a_sound_surrogate_has_no_diagnosis():
    found = surrogates.explain_local(curved, X[2:3], scale=0.05)
    assert found.diagnosis == {} and found.r2 > 0.95 and found.stability > 0.99


def test_each_failure_is_named():
    wide = surrogates.explain_local(curved, X[2:3], scale=2.0)
    assert "not linear" in wide.diagnosis["unfaithful"] and "narrow" not in wide.diagnosis and wide.r2 < 0.8

    narrow = surrogates.explain_local(curved, X[2:3], scale=0.05, kernel_width=0.45)
    assert set(narrow.diagnosis) == {"narrow"} and 7 < narrow.effective_samples < 5 * 7

    twins = np.concatenate([X[:, :1], X[:, :1] + 0.01 * X[:, 1:2]], axis=1)
    collinear = surrogates.explain_local(lambda x: x.sum(axis=1), twins[:1], background=twins)
    assert set(collinear.diagnosis) == {"collinear"} and collinear.condition_number > 100
    same = surrogates.explain_local(lambda x: x.sum(axis=1), twins[:1, [0, 0]], background=twins[:, [0, 0]])
    assert same.condition_number == np.inf
    np.testing.assert_allclose(same.coef, 1, atol=1e-6)  # the smallest of all that fit

    def rough(x):
        return np.sin(1e4 * x.sum(axis=1))

    assert {"unstable", "unfaithful"} <= set(surrogates.explain_local(rough, X[2:3], scale=1.0).diagnosis)
    assert surrogates.explain_local(rough, X[2:3], scale=1.0).stability < 0.5


def test_local_fidelity_is_on_neighbours_that_were_not_fitted():
    x = RNG.normal(size=(1, 60))

    def rough(x):
        return np.sin(1e4 * x.sum(axis=1))

    found = surrogates.explain_local(rough, x, scale=1.0, n_samples=80)
    fitted = found.intercept + (x + found.design) @ found.coef
    mean = np.average(found.outputs, weights=found.weights)
    explained = (
        1 - (found.weights * (found.outputs - fitted) ** 2).sum() / (found.weights * (found.outputs - mean) ** 2).sum()
    )
    assert explained > 0.6 and found.r2 < 0


def test_coefficients_spread_as_they_do_over_seeds():
    runs = [
        surrogates.explain_local(curved, X[3:4], scale=1.0, n_samples=300, n_fits=2, seed=seed) for seed in range(60)
    ]
    over_seeds = np.std([run.coef for run in runs], axis=0)
    told = np.sqrt(np.mean([run.standard_error**2 for run in runs], axis=0))
    assert 0.85 < (told / over_seeds).mean() < 1.15


# --- models, seeds, batches ------------------------------------------------------------------------------------------


def test_networks_and_targets_are_explained_as_they_are(images):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(3)])
    expected = model.get_weights()[0][:, 1].reshape(28, 28, 1)
    segments = np.kron(np.arange(4).reshape(2, 2), np.ones((14, 14), int))[..., np.newaxis]
    for predict in (targets.output(model, 1), lambda x: model(x)[:, 1]):
        found = surrogates.explain_local(predict, images[:1], segments=segments, n_samples=100)
        np.testing.assert_allclose(found.coef, np.bincount(segments.ravel(), (expected * images[0]).ravel()), atol=1e-4)
    scale = 0.5 * (segments == 2)  # steps in one corner, and none elsewhere
    steps = surrogates.explain_local(predict, images[:1], scale=scale, n_samples=600, n_fits=2)
    np.testing.assert_allclose(steps.coef, np.where(segments == 2, expected, 0), atol=1e-5)
    single = keras.Sequential([keras.Input((6,)), layers.Dense(1)])  # returns (n, 1)
    found = surrogates.fit_global(single, X.astype("float32"))
    np.testing.assert_allclose(found.coef, single.get_weights()[0][:, 0], atol=1e-5)


class DropsOut(keras.Model):
    """As some authors write it: it trains unless it is told not to."""

    def __init__(self):
        super().__init__()
        self.drop, self.dense = layers.Dropout(0.5), layers.Dense(1)

    def call(self, x, training=True):
        return self.dense(self.drop(x, training=training))


class Plain(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(1)

    def call(self, x):
        return self.dense(x)


def network(form):
    dense = [keras.Input((6,)), layers.Dropout(0.5), layers.Dense(1)]
    if form == "functional":
        return keras.Model(dense[0], dense[2](dense[1](dense[0])))
    if form == "half precision":
        return keras.Sequential([dense[0], layers.Dense(1, dtype="mixed_float16")])
    if form == "nested":
        return keras.Sequential([dense[0], keras.Sequential(dense)])
    return {"sequential": lambda: keras.Sequential(dense), "subclassed": Plain, "trains by default": DropsOut}[form]()


FORMS = ["functional", "sequential", "nested", "subclassed", "trains by default", "half precision"]


@pytest.mark.parametrize("form", FORMS)
def test_models_of_any_form_are_asked_as_outside_training(form):
    model = network(form)
    x = X[:40].astype("float32")
    model(x[:1])
    model.set_weights([COEF[:, np.newaxis], np.array([7.0])])
    exact = 1e-4 if form != "half precision" else 0.05
    np.testing.assert_allclose(surrogates.fit_global(model, x).coef, COEF, atol=exact)
    found = surrogates.explain_local(model, x[:1], scale=1.0, n_samples=100)
    np.testing.assert_allclose(found.coef, COEF, atol=exact)
    found = surrogates.explain_local(model, x[:1], segments=np.array([0, 0, 0, 1, 1, 1]), n_samples=100)
    np.testing.assert_allclose(found.coef, (COEF * x[0]).reshape(2, 3).sum(axis=1), atol=exact)


def test_a_model_with_several_outputs_is_refused():
    inputs = keras.Input((6,))
    both = keras.Model(inputs, [layers.Dense(3)(inputs), layers.Dense(1)(inputs)])
    for model in (both, lambda x: tuple(both(x))):
        with pytest.raises(ValueError, match=r"predict returns a (list|tuple) of 2 outputs.*Pick one"):
            surrogates.fit_global(model, X)
    np.testing.assert_allclose(
        surrogates.fit_global(lambda x: both(x)[1], X).coef, both.layers[-1].get_weights()[0][:, 0], atol=1e-5
    )
    with pytest.raises(ValueError, match=r"returns shape \(300, 6\) for 300 samples"):
        surrogates.fit_global(keras.Model(inputs, layers.Dense(6)(inputs)), X)  # an autoencoder, say


def test_categories_are_switched_whole():
    """A table of two numbers and one category in three columns."""
    category = RNG.integers(0, 3, size=50)
    table = np.column_stack([RNG.normal(size=(50, 2)), np.eye(3)[category]])
    seen = []

    def predict(x):
        seen.append(x[:, 2:])
        return 2 * x[:, 0] - x[:, 1] + x[:, 2:] @ [1.0, 4.0, -3.0]

    segments, baseline = np.array([0, 1, 2, 2, 2]), np.array([0.5, 0.5, 0, 1, 0])
    found = surrogates.explain_local(predict, table[:1], segments=segments, baseline=baseline, n_samples=100)
    one = table[0]
    expected = [2 * (one[0] - 0.5), 0.5 - one[1], one[2:] @ [1.0, 4.0, -3.0] - 4]
    np.testing.assert_allclose(found.coef, expected, atol=1e-9)
    assert (np.concatenate(seen).sum(axis=1) == 1).all()  # never two categories, nor none


def test_a_seed_fixes_everything_and_batches_bound_what_is_asked():
    sizes = []

    def predict(x):
        sizes.append(len(x))
        return curved(x)

    for fit in (
        lambda **options: surrogates.fit_global(predict, X, **options),
        lambda **options: surrogates.explain_local(predict, X[:1], scale=1.0, n_samples=100, **options),
    ):
        sizes.clear()
        first = fit(seed=3, batch_size=32)
        assert max(sizes) == 32
        again, other = fit(seed=3), fit(seed=4)
        np.testing.assert_array_equal(again.coef, first.coef)
        assert again.r2 == first.r2 and not np.allclose(other.coef, first.coef)


# --- bad input -------------------------------------------------------------------------------------------------------


def fit(x=X, predict=curved, **options):
    return surrogates.fit_global(predict, x, **options)


def local(x=X[:1], predict=curved, **options):
    return surrogates.explain_local(predict, x, **({"scale": 1.0} | options))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit(kind="huber"), "unknown kind 'huber'; the known ones are mse, mae"),
        (lambda: fit(kind="mae", alpha=1), "alpha is 1 and kind 'mae'"),
        (lambda: fit(alpha=-1), "alpha is -1"),
        (lambda: fit(X[:9]), "there are 7 points to fit 7 coefficients.*they need no labels"),
        (lambda: fit(X[:3]), "there are 1 points to fit 7 coefficients"),
        (lambda: fit(X[:3, :1]), "there are 1 points to fit 2 coefficients"),
        (lambda: fit(X[:1]), "there are 0 points"),
        (lambda: fit(X[:0]), "x is empty"),
        (lambda: fit(x_test=X[:0]), "x_test is empty"),
        (lambda: fit(X * np.nan), "NaN"),
        (lambda: fit(x_test=X[:, :5]), r"x_test has shape \(400, 5\)"),
        (lambda: fit(predict=lambda x: x), r"returns shape \(300, 6\) for 300 samples.*Pick one output"),
        (lambda: fit(predict=lambda x: x.sum()), r"returns shape \(\)"),
        (
            lambda: fit(predict=lambda x: np.log(x[:, 0] * 0 - 1 + 0j).real * np.nan),
            "predict returns NaN or infinity: 300 of 300",
        ),
        (lambda: fit(predict=lambda x: [x[:, 0], x]), "predict returns a list of 2 outputs.*Pick one"),
        (lambda: fit(predict=lambda x: {"a": x[:, :1], "b": x}), "predict returns a dict of 2 outputs"),
        (lambda: fit().predict(X[:, :5]), r"takes \(n, 6\)"),
        (lambda: local(X[0]), r"x has shape \(6,\); one sample.*x\[np.newaxis\]"),
        (lambda: local(np.zeros((28, 28, 1))), r"x has shape \(28, 28, 1\); one sample.*x\[np.newaxis\]"),
        (lambda: local(X[:2]), r"x has shape \(2, 6\); one sample.*x\[:1\]"),
        (lambda: local(kind=np.ones(6)), "unknown kind array"),
        (lambda: local(scale=None), "no neighbourhood is given"),
        (lambda: local(scale=0.0), "every feature has scale 0"),
        (lambda: local(scale=-1.0), "scale holds negative numbers"),
        (lambda: local(scale=np.ones(5)), r"scale has shape \(5,\)"),
        (lambda: local(scale=np.nan), "one finite number"),
        (lambda: local(background=X[:, :5]), r"background has shape \(400, 5\)"),
        (lambda: local(background=X[:0]), "background is empty"),
        (lambda: local(background=X[:1]), "background holds 1 sample"),
        (lambda: local(background=X, scale=np.ones(6)), "scale is array"),
        (lambda: local(segments=np.arange(6)), "give either segments, or scale and background"),
        (lambda: local(scale=None, segments=np.arange(5)), r"segments has shape \(5,\)"),
        (lambda: local(scale=None, segments=np.arange(6) * 2), "numbered 0, 1, 2"),
        (lambda: local(scale=None, segments=np.arange(6), baseline=np.ones(2)), r"baseline has shape \(2,\)"),
        (lambda: local(kernel_width=0), r"kernel_width is 0; it must be a number in \(0, inf\)"),
        (lambda: local(kernel_width=0.2), r"leaves [1-6]\.\d effective samples for 7 coefficients.*Widen it"),
        (lambda: local(kernel_width=1e-9), r"leaves 0\.0 effective samples"),
        (lambda: local(n_samples=5), "effective samples for 7 coefficients"),
        (lambda: local(n_fits=1), "n_fits is 1; give at least 2"),
        (lambda: local(X[:1] * np.inf), "infinite"),
        (lambda: local(predict=lambda x: x), r"returns shape \(1000, 6\)"),
        (lambda: local(seed=-1), "seed is -1"),
        (lambda: local(batch_size=0), "batch_size is 0"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
