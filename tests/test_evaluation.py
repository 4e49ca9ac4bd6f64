"""Measures of explanations, held to linear models, to hand-made maps, and to the definitions written out."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from scipy import stats

from tfae import attribution, evaluation, models, targets
from tfae.layers import TopK

RNG = np.random.default_rng(0)
SLOPES = np.array([3.0, -2.0, 0.5, 0.0, 1.0, -1.0], "float32")
X = RNG.normal(size=(5, 6)).astype("float32")


def linear(x):
    return tf.linalg.matvec(tf.cast(x, "float32"), SLOPES)


CONTRIBUTIONS = X * SLOPES  # of a linear model, exact

# --- deletion and insertion ------------------------------------------------------------------------------------------


def test_deletion_is_what_the_definition_says():
    curve = evaluation.deletion(linear, X, CONTRIBUTIONS, steps=6)
    for i, sample in enumerate(X):
        order = np.argsort(-CONTRIBUTIONS[i])
        by_hand = [sample @ SLOPES]
        for k in range(1, 7):
            left = sample.copy()
            left[order[:k]] = 0
            by_hand.append(left @ SLOPES)
        np.testing.assert_allclose(curve.outputs[i], by_hand, atol=1e-5)
        area = sum((a + b) / 2 / 6 for a, b in itertools.pairwise(by_hand))
        assert curve.area[i] == pytest.approx(area, abs=1e-5)
    np.testing.assert_allclose(curve.fractions, np.arange(7) / 6)


def test_insertion_ends_where_deletion_begins():
    deleted = evaluation.deletion(linear, X, CONTRIBUTIONS, steps=3, absent=X.mean(axis=0))
    inserted = evaluation.insertion(linear, X, CONTRIBUTIONS, steps=3, absent=X.mean(axis=0))
    np.testing.assert_allclose(inserted.outputs[:, -1], deleted.outputs[:, 0], atol=1e-5)
    np.testing.assert_allclose(inserted.outputs[:, 0], deleted.outputs[:, -1], atol=1e-5)
    np.testing.assert_allclose(inserted.outputs[:, 0], X.mean(axis=0) @ SLOPES, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 4, 6])
def test_of_a_linear_model_no_order_beats_the_true_one(steps):
    for seed in range(20):
        other = np.random.default_rng(seed).normal(size=X.shape)
        for of, sign in ((evaluation.deletion, 1), (evaluation.insertion, -1)):
            true, random = (of(linear, X, values, steps=steps).area for values in (CONTRIBUTIONS, other))
            assert (sign * (random - true) > -1e-5).all()


def test_equal_values_go_in_random_order_and_the_seed_fixes_it():
    image = np.ones((2000, 4), "float32")
    first = evaluation.deletion(lambda x: x[:, 0], image, np.zeros((2000, 4)), steps=4)
    assert first.outputs.mean(axis=0) == pytest.approx([1, 0.75, 0.5, 0.25, 0], abs=0.05)  # not the first one first
    again = evaluation.deletion(lambda x: x[:, 0], image, np.zeros((2000, 4)), steps=4)
    np.testing.assert_array_equal(first.outputs, again.outputs)


def test_all_channels_of_a_place_go_together():
    x = RNG.random((3, 4, 4, 2)).astype("float32")
    values = RNG.random((3, 4, 4))

    def total(batch):
        return tf.reduce_sum(batch, axis=(1, 2, 3))

    curve = evaluation.deletion(total, x, values, steps=16)
    order = np.argsort(-values.reshape(3, -1), axis=1)
    places = np.take_along_axis(x.sum(axis=-1).reshape(3, -1), order, axis=1)
    np.testing.assert_allclose(-np.diff(curve.outputs), places, atol=1e-4)
    one_channel = evaluation.deletion(total, x, values[..., np.newaxis], steps=16)
    np.testing.assert_array_equal(curve.outputs, one_channel.outputs)


def test_a_function_fills_the_gaps():
    seen = []

    def fill(x, kept):
        seen.append(kept.mean())
        return np.where(kept, x, 7)

    curve = evaluation.deletion(linear, X, CONTRIBUTIONS, steps=2, absent=fill)
    np.testing.assert_allclose(seen, [1, 0.5, 0])
    np.testing.assert_allclose(curve.outputs[:, -1], 7 * SLOPES.sum(), atol=1e-4)


def test_any_target_and_any_attribution_will_do():
    x = RNG.random((4, 28, 28, 1)).astype("float32")
    autoencoder = models.dense_autoencoder((28, 28, 1), code_size=4, seed=0)
    target = targets.reconstruction_error(autoencoder)
    explained = attribution.gradient_x_input(target, x)
    curve = evaluation.deletion(target, x, explained, steps=4)
    np.testing.assert_allclose(curve.outputs[:, 0], autoencoder.reconstruction_error(x), rtol=1e-5)


# --- correlation and infidelity --------------------------------------------------------------------------------------


def test_faithfulness_correlation_is_one_for_the_truth_and_minus_one_for_its_opposite():
    for values, expected in ((CONTRIBUTIONS, 1), (-CONTRIBUTIONS, -1), (np.ones_like(X), 0)):
        found = evaluation.faithfulness_correlation(linear, X, values, subset_size=2)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_faithfulness_correlation_is_pearsons():
    values = RNG.normal(size=X.shape)
    found = evaluation.faithfulness_correlation(linear, X, values, subset_size=3, n_samples=50, seed=4)
    rng = np.random.default_rng(4)
    subsets = [rng.permuted(np.tile(np.arange(6) < 3, (5, 1)), axis=1) for _ in range(50)]
    for i in range(len(X)):
        sums = [values[i] @ taken[i] for taken in subsets]
        losses = [CONTRIBUTIONS[i] @ taken[i] for taken in subsets]
        assert found[i] == pytest.approx(stats.pearsonr(sums, losses).statistic, abs=1e-5)


def test_infidelity_is_zero_for_the_slopes_and_counts_squares():
    noise = RNG.normal(size=(8, *X.shape))
    slopes = np.tile(SLOPES, (5, 1))
    np.testing.assert_allclose(evaluation.infidelity(linear, X, slopes, noise), 0, atol=1e-9)
    wrong = slopes.copy()
    wrong[:, 2] += 0.25
    expected = np.mean((0.25 * noise[:, :, 2]) ** 2, axis=0)
    np.testing.assert_allclose(evaluation.infidelity(linear, X, wrong, noise), expected, rtol=1e-3)


def test_infidelity_agrees_with_the_definition_on_a_curved_function():
    def curved(x):
        return tf.reduce_sum(tf.cast(x, "float32") ** 2, axis=1)

    noise, values = RNG.normal(size=(6, *X.shape)).astype("float32"), 2 * X
    expected = np.mean(np.sum(noise**2, axis=2) ** 2, axis=0)  # (I·2x − (x² − (x − I)²))² = (I²)²
    np.testing.assert_allclose(evaluation.infidelity(curved, X, values, noise), expected, rtol=1e-4)


# --- stability -------------------------------------------------------------------------------------------------------


def test_max_sensitivity_of_a_linear_map_has_a_closed_form():
    def explain(x):
        return 3 * x

    found = evaluation.max_sensitivity(explain, X, radius=0.1, n_samples=200)
    bound = 0.1 * np.sqrt(6) / np.linalg.norm(X, axis=1)
    assert (found <= bound).all() and (found > 0.6 * bound).all()
    np.testing.assert_array_equal(evaluation.max_sensitivity(np.ones_like, X), 0)
    rng = np.random.default_rng(4)
    draws = [np.linalg.norm(rng.uniform(-0.1, 0.1, X.shape), axis=1) for _ in range(3)]
    found = evaluation.max_sensitivity(explain, X, radius=0.1, n_samples=3, seed=4)
    np.testing.assert_allclose(found, np.max(draws, axis=0) / np.linalg.norm(X, axis=1), rtol=1e-4)


def test_agreement_counts_by_hand():
    one, other = np.array([[9.0, -8, 7, 1, 0]]), np.array([[8.0, 9, 1, -7, 0]])
    found = evaluation.agreement(one, other, k=3)
    # {0, 1, 2} against {1, 0, 3}: two in common, of which one has its sign; none at its rank.
    assert (found.features[0], found.signs[0], found.ranks[0]) == (2 / 3, 1 / 3, 0)
    assert found.correlation[0] == pytest.approx(stats.spearmanr(one[0], other[0]).statistic)
    same = evaluation.agreement(one, one, k=2)
    assert same.features == same.signs == same.ranks == 1 and same.correlation == pytest.approx(1)


def test_unrelated_maps_agree_by_chance():
    a, b = RNG.normal(size=(2, 400, 50))
    assert evaluation.agreement(a, b, k=10).features.mean() == pytest.approx(0.2, abs=0.02)


# --- randomisation ---------------------------------------------------------------------------------------------------


def classifier(form):
    parts = [layers.Conv2D(4, 3, activation="relu"), layers.Flatten(), layers.Dense(8, "relu"), layers.Dense(3)]
    keras.utils.set_random_seed(0)
    if form == "nested":
        return keras.Sequential([keras.Input((12, 12, 1)), keras.Sequential(parts[:2]), keras.Sequential(parts[2:])])
    if form == "subclassed":

        class Classifier(keras.Model):
            def __init__(self):
                super().__init__()
                self.parts = parts

            def call(self, x):
                for part in self.parts:
                    x = part(x)
                return x

        return Classifier()
    return keras.Sequential([keras.Input((12, 12, 1)), *parts])


IMAGES = RNG.random((3, 12, 12, 1)).astype("float32")


@pytest.mark.parametrize("form", ["sequential", "nested", "subclassed"])
@pytest.mark.parametrize("order", ["top_down", "bottom_up", "independent"])
def test_weights_are_shuffled_layer_by_layer_and_given_back(form, order):
    model = classifier(form)
    model(IMAGES)
    before, seen = model.get_weights(), []

    def explain(x):
        seen.append(model.get_weights())
        return attribution.gradient(targets.output(model, 1), x)

    rows = evaluation.randomisation(explain, model, IMAGES, order=order)
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    kinds = [row.layer.split("_")[0] for row in rows]
    assert kinds == (["dense", "dense", "conv2d"] if order == "top_down" else ["conv2d", "dense", "dense"])
    changed = [[not np.array_equal(a, b) for a, b in zip(weights, before, strict=True)][::2] for weights in seen]
    expected = {
        "top_down": [[0, 0, 0], [0, 0, 1], [0, 1, 1], [1, 1, 1]],
        "bottom_up": [[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]],
        "independent": [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]],
    }[order]
    assert changed == [[bool(flag) for flag in row] for row in expected]
    sizes = [[4 * 9 + 4, 400 * 8 + 8, 8 * 3 + 3][i] for i in ((2, 1, 0) if order == "top_down" else (0, 1, 2))]
    assert [row.n_weights for row in rows] == (sizes if order == "independent" else list(np.cumsum(sizes)))
    for weights in seen[1:]:  # all entries are permuted, and not the rows alone
        for now, then in zip(weights, before, strict=True):
            np.testing.assert_allclose(np.sort(now, axis=None), np.sort(then, axis=None))
            if now.ndim > 1 and not np.array_equal(now, then):  # they leave their column, as a permuted axis would not
                assert not np.allclose(np.sort(now, axis=0), np.sort(then, axis=0))


def test_a_map_that_ignores_the_network_is_seen_to_ignore_it():
    model = classifier("sequential")
    edges = evaluation.randomisation(lambda x: x, model, IMAGES)
    slopes = evaluation.randomisation(lambda x: attribution.gradient(targets.output(model, 0), x), model, IMAGES)
    assert all(row.spearman.min() > 0.999 and row.ssim.min() > 0.999 for row in edges)
    assert slopes[-1].spearman.mean() < 0.5 and slopes[-1].ssim.mean() < 0.7


def test_signs_and_sizes_of_shuffled_maps_are_told_apart():
    """The map is ten times as large and has changed its sign: its pattern is the same."""
    answers = iter([1, -10, -10, -10])
    rows = evaluation.randomisation(lambda x: next(answers) * (x - 0.5), classifier("sequential"), IMAGES)
    for row in rows:
        np.testing.assert_allclose(row.spearman, -1)
        np.testing.assert_allclose(row.spearman_absolute, 1)
        np.testing.assert_allclose(row.ssim, 1, atol=1e-5)


def test_autoencoders_are_randomised_through_encoder_and_decoder():
    model = models.conv_autoencoder((12, 12, 1), code_size=4, seed=0)
    target = targets.reconstruction_error(model)
    rows = evaluation.randomisation(lambda x: attribution.gradient(target, x), model, IMAGES)
    assert sum(row.n_weights for row in evaluation.randomisation(np.asarray, model, IMAGES, order="independent")) == (
        model.count_params()
    )
    assert rows[-1].n_weights == model.count_params() and rows[0].spearman.mean() < 1


def other_autoencoder(kind):
    if kind == "tied":
        return models.TiedAutoencoder(models.dense_encoder((12, 12, 1), 4, hidden=(6,), seed=0))
    encoder = models.dense_encoder((12, 12, 1), 8, hidden=(6,), seed=0)
    if kind == "variational":
        return models.VariationalAutoencoder(encoder, models.dense_decoder((12, 12, 1), 4, hidden=(6,), seed=1), seed=0)
    decoder = models.dense_decoder((12, 12, 1), 4 + 3, hidden=(6,), seed=1)
    return models.ConditionalVariationalAutoencoder(encoder, decoder, 3, seed=0)


@pytest.mark.parametrize("kind", ["tied", "variational", "conditional"])
def test_shared_weights_and_draws_are_randomised_once(kind):
    """A tied decoder has only its biases for itself, and the state of a random generator is no weight."""
    model = other_autoencoder(kind)
    asked = model.for_class(1) if kind == "conditional" else model
    target = targets.latent(asked, 0)
    x_hat = asked.reconstruct(IMAGES)
    rows = evaluation.randomisation(lambda x: attribution.gradient(target, x), asked, IMAGES)
    parameters = sum(weight.numpy().size for weight in asked.trainable_weights)
    assert rows[-1].n_weights == parameters and rows[-1].spearman.mean() < 0.9
    assert rows[0].n_weights == (144 + 6 if kind == "tied" else 6 * 144 + 144)
    np.testing.assert_array_equal(asked.reconstruct(IMAGES), x_hat)
    if kind == "conditional":
        with pytest.raises(ValueError, match="for_class"):
            evaluation.randomisation(lambda x: x, model, IMAGES)


def test_the_weights_come_back_when_an_explanation_fails():
    model, asked = classifier("sequential"), []
    before = model.get_weights()

    def explain(x):
        asked.append(1)
        if len(asked) == 3:
            raise RuntimeError("in the middle")
        return x

    with pytest.raises(RuntimeError, match="in the middle"):
        evaluation.randomisation(explain, model, IMAGES)
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


# --- planted truth and size ------------------------------------------------------------------------------------------


def test_localisation_by_hand():
    values = np.array([[4.0, -3, 2, 1], [1, 1, 1, 1]])
    mask = np.array([True, False, True, False])
    found = evaluation.localisation(values, mask)
    np.testing.assert_allclose(found.mass, [0.6, 0.5])
    np.testing.assert_allclose(found.rank, [0.5, 0.5])  # {4, -3} holds one of two; of equal values, the chance
    np.testing.assert_allclose(found.chance, 0.5)
    assert evaluation.localisation(np.where(mask, 1.0, 0)[np.newaxis], mask).mass == 1


def test_localisation_of_random_maps_is_chance():
    mask = np.zeros((20, 20), bool)
    mask[3:9, 4:12] = True
    found = evaluation.localisation(np.random.default_rng(1).random((300, 20, 20)), mask)
    assert found.mass.mean() == pytest.approx(0.12, abs=0.01) == pytest.approx(found.rank.mean(), abs=0.01)
    assert found.chance[0] == pytest.approx(0.12)


def test_complexity_of_one_and_of_all():
    found = evaluation.complexity(np.array([[0, 0, 5.0, 0], [-2, 2, 2, -2]]))
    np.testing.assert_allclose(found.entropy, [0, np.log(4)], atol=1e-12)
    np.testing.assert_allclose(found.gini, [3 / 4, 0], atol=1e-12)
    values = RNG.random((1, 30))
    differences = np.abs(values[0][:, None] - values[0][None]).sum() / (2 * 30 * values.sum())
    assert evaluation.complexity(values).gini[0] == pytest.approx(differences)


# --- what cannot be measured -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: evaluation.deletion(linear, X, X[:, :3]), r"values has shape \(5, 3\) and x \(5, 6\)"),
        (lambda: evaluation.deletion(linear, X, X * np.nan), "values holds NaN or infinity: 30 of 30"),
        (lambda: evaluation.deletion(linear, X, X, steps=0), "steps is 0"),
        (lambda: evaluation.deletion(linear, X, X, absent=np.zeros(3)), r"absent has shape \(3,\); give a number, one"),
        (lambda: evaluation.deletion(linear, X, X, absent=lambda x, kept: 0 * x[:2]), r"absent returns shape \(2, 6\)"),
        (lambda: evaluation.deletion(lambda x: x, X, X, steps=1), r"shape \(10, 6\) for 10 samples"),
        (lambda: evaluation.faithfulness_correlation(linear, X, X, subset_size=6), "subset_size is 6 .* 6 features"),
        (lambda: evaluation.faithfulness_correlation(linear, X, X, subset_size=2, n_samples=2), "at least 3"),
        (lambda: evaluation.infidelity(linear, X, X, X), r"perturbations has shape \(5, 6\); give \(m, 5, 6\)"),
        (
            lambda: evaluation.infidelity(linear, IMAGES, IMAGES[..., 0], IMAGES[np.newaxis].repeat(2, axis=-1)),
            "perturbations has shape",
        ),
        (lambda: evaluation.max_sensitivity(np.zeros_like, X), "map of sample 0 is zero everywhere .5 of 5"),
        (lambda: evaluation.max_sensitivity(lambda x: x[:2], X), r"shape \(2, 6\) for 5 samples"),
        (lambda: evaluation.max_sensitivity(np.abs, X, radius=0), "radius is 0"),
        (lambda: evaluation.agreement(X, X[:, :2], k=1), "must explain the same features"),
        (lambda: evaluation.agreement(X, X, k=7), "k is 7 and there are 6 features"),
        (lambda: evaluation.randomisation(np.abs, layers.Dense(2), X, order="sideways"), "order is 'sideways'"),
        (lambda: evaluation.randomisation(np.abs, TopK(2), X), "calls no layer with weights"),
        (lambda: evaluation.localisation(X, np.ones((5, 6))), "mask of a sample is empty or full"),
        (lambda: evaluation.localisation(X, np.ones(4)), r"mask has shape \(4,\) and values \(5, 6\)"),
        (lambda: evaluation.localisation(0 * X, np.arange(6) < 2), "zero everywhere"),
        (lambda: evaluation.complexity(X[0]), "give one map for each sample"),
        (lambda: evaluation.complexity(np.array([["a"]])), "real numbers"),
    ],
)
def test_what_cannot_be_measured_is_said(call, message):
    with pytest.raises(ValueError, match=message):
        call()
