import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from tfae import anomaly, attribution, models, targets

SIZE, UNITS = 12, 3
of_its_own_samples = pytest.mark.filterwarnings("ignore:.* samples are among those that the")


@pytest.fixture(scope="module")
def x():
    """300 points near a three-dimensional plane in 12 features."""
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(UNITS, SIZE))
    return (rng.normal(size=(300, UNITS)) @ plane + 0.3 * rng.normal(size=(300, SIZE)) + 1).astype("float32")


@pytest.fixture(scope="module")
def linear(x):
    """A linear autoencoder that is PCA, with a code of another scale and skew than PCA's."""
    pca = PCA(UNITS).fit(x)
    autoencoder = models.linear_autoencoder(SIZE, UNITS, seed=0)
    mix = np.array([[2.0, 1, 0], [0, 0.5, 3], [0, 0, 1]])
    encode, decode = pca.components_.T @ mix, np.linalg.inv(mix) @ pca.components_
    autoencoder.set_weights([encode, 0.5 - pca.mean_ @ encode, decode, pca.mean_ - 0.5 * decode.sum(axis=0)])
    np.testing.assert_allclose(autoencoder.reconstruct(x), pca.inverse_transform(pca.transform(x)), atol=1e-4)
    return autoencoder


@pytest.fixture(scope="module")
def vae():
    encoder, decoder = (
        models.dense_encoder((4, 4, 1), 4, (8,), seed=0),
        models.dense_decoder((4, 4, 1), 2, (8,), seed=1),
    )
    return models.VariationalAutoencoder(encoder, decoder, seed=0)


# --- scores ----------------------------------------------------------------------------------------------------------


@of_its_own_samples
def test_the_code_distance_is_mahalanobis_and_knows_no_scale(linear, x):
    z = linear.encode(x).astype("float64")
    distances = anomaly.score(anomaly.code_distance(linear, x), x)
    centred = z - z.mean(axis=0)
    by_hand = np.einsum("ni,ij,nj->n", centred, np.linalg.inv(np.cov(z.T)), centred)
    np.testing.assert_allclose(distances, by_hand, rtol=1e-3)
    assert distances.mean() == pytest.approx(UNITS * 299 / 300, rel=1e-4)
    scores = PCA(UNITS, whiten=True).fit_transform(x)  # the same plane, seen in its own axes
    np.testing.assert_allclose(distances, np.sum(scores**2, axis=1), rtol=1e-3)


@of_its_own_samples
def test_the_negative_log_likelihood_is_that_of_two_gaussians(linear, x):
    nll = anomaly.score(anomaly.negative_log_likelihood(linear, x), x)
    z, x_hat = linear.encode(x).astype("float64"), linear.reconstruct(x)
    noise = np.mean((x - x_hat) ** 2, axis=1).mean()
    by_hand = -multivariate_normal(z.mean(axis=0), np.cov(z.T)).logpdf(z)
    by_hand -= multivariate_normal(np.zeros(SIZE), noise).logpdf(x - x_hat)
    np.testing.assert_allclose(nll, by_hand, rtol=1e-3)


@of_its_own_samples
def test_each_score_sees_what_it_should(linear, x):
    """Off the plane the error rises and the code stays; far along the plane it is the other way round."""
    pca = PCA(SIZE).fit(x)
    off, along = x[:50] + 4 * pca.components_[-1], x[:50] + 30 * pca.components_[0]
    error = targets.reconstruction_error(linear)
    distance, both = anomaly.code_distance(linear, x), anomaly.negative_log_likelihood(linear, x)
    auroc = {
        (name, place): anomaly.evaluate(
            np.concatenate([anomaly.score(target, x), anomaly.score(target, strange)]), np.arange(350) >= 300
        ).auroc
        for name, target in {"error": error, "distance": distance, "both": both}.items()
        for place, strange in {"off": off, "along": along}.items()
    }
    assert auroc["error", "off"] > 0.99 and auroc["distance", "along"] > 0.99
    assert abs(auroc["error", "along"] - 0.5) < 0.1 and abs(auroc["distance", "off"] - 0.5) < 0.1
    assert min(auroc["both", "off"], auroc["both", "along"]) > 0.99


def beyond_local_pca(x, known, k, n_components):
    """What it leaves of each sample, and the mean square of what it leaves of the neighbours; one by one."""
    x, known = (samples.reshape(len(samples), -1).astype("float64") for samples in (x, known))
    places = NearestNeighbors(n_neighbors=k).fit(known).kneighbors(x, return_distance=False)
    left, of_neighbours = [], []
    for sample, place in zip(x[:, np.newaxis], places, strict=True):
        pca = PCA(n_components, svd_solver="full").fit(known[place])
        both = np.concatenate([sample, known[place]])
        beyond = both - pca.inverse_transform(pca.transform(both))
        left.append(beyond[0])
        of_neighbours.append(np.mean(np.sum(beyond[1:] ** 2, axis=1)))
    return np.array(left), np.array(of_neighbours)


@pytest.mark.parametrize(("k", "n_components"), [(3, 1), (40, 3), (300, 5)])
@pytest.mark.parametrize("shape", [(12,), (2, 6, 1)])
def test_local_pca_is_that_of_the_neighbours(x, shape, k, n_components):
    new = x[:40] + np.random.default_rng(1).normal(size=(40, SIZE)).astype("float32")
    x, new = x.reshape(-1, *shape), new.reshape(-1, *shape)
    found = anomaly.local_pca(x, k=k, n_components=n_components)
    left, of_neighbours = beyond_local_pca(new, x, k, n_components)
    expected = np.sum(left**2, axis=1) / of_neighbours
    np.testing.assert_allclose(anomaly.score(found, new, batch_size=17), expected, rtol=1e-3)


def test_local_pca_follows_a_curve_that_no_plane_follows():
    """Around a circle all is normal, and inside it is not; the error of PCA says the reverse."""
    rng = np.random.default_rng(0)
    angles, radii = rng.uniform(0, 2 * np.pi, 500), rng.normal(1, 0.01, 500)
    circle = np.stack([radii * np.cos(angles), radii * np.sin(angles), 0 * angles], axis=1).astype("float32")
    known, new, inside = circle[:300], circle[300:400], circle[400:] / 2
    local = anomaly.local_pca(known, k=10, n_components=1)
    assert anomaly.score(local, new).max() < 100 < anomaly.score(local, inside).min()
    pca = PCA(1).fit(known)
    normal, strange = (np.mean((x - pca.inverse_transform(pca.transform(x))) ** 2) for x in (new, inside))
    assert strange < normal / 3


def test_local_pca_measures_by_the_scatter_of_the_place():
    """Two clouds, one ten times as wide. What is as far off each as a typical sample of it is as normal."""
    rng = np.random.default_rng(0)
    narrow = rng.normal(0, 1, (400, 5))
    wide = 500 + 10 * narrow
    local = anomaly.local_pca(np.concatenate([narrow[:300], wide[:300]]), k=100, n_components=2)
    of_narrow, of_wide = (anomaly.score(local, cloud[300:]) for cloud in (narrow, wide))
    np.testing.assert_allclose(of_narrow, of_wide, rtol=1e-2)
    assert 0.4 < np.median(of_narrow) < 2
    off = anomaly.score(local, narrow[300:] + 8)  # far for the narrow cloud, near for the wide one
    near = anomaly.score(local, wide[300:] + 8)
    assert np.median(off) > 10 * np.median(near)


def test_local_pca_of_copies_and_of_flat_data_has_no_axes_from_nothing(x):
    copies = np.repeat(x[:1], 50, axis=0)
    strange, floor = x[1:3], 1e-6 * np.sum(x[0] ** 2)
    found = anomaly.score(anomaly.local_pca(copies, k=20, n_components=5), strange)
    np.testing.assert_allclose(found, np.sum((strange - x[0]) ** 2, axis=1) / floor, rtol=1e-4)
    nothing = np.zeros_like(copies)
    assert anomaly.score(anomaly.local_pca(nothing, k=20, n_components=5), nothing[:1] + 1e-20).tolist() == [0]
    line = np.linspace(1, 2, 50, dtype="float32")[:, np.newaxis] * x[:1]  # one axis, where five are asked for
    off = x[1:3] - x[1:3] @ x[:1].T / np.sum(x[0] ** 2) * x[:1] + 1.5 * x[:1]
    found = anomaly.score(anomaly.local_pca(line, k=50, n_components=5), off)
    beyond = np.sum((off - 1.5 * x[:1]) ** 2, axis=1)
    np.testing.assert_allclose(found, beyond / (1e-6 * np.mean(np.sum(line**2, axis=1))), rtol=1e-2)


def test_local_pca_is_explained_by_what_lies_off_the_plane(x):
    local = anomaly.local_pca(x, k=40, n_components=3)
    new = x[:5] + 0.5
    gradient = attribution.gradient(local, new).values
    left, of_neighbours = beyond_local_pca(new, x, 40, 3)
    np.testing.assert_allclose(gradient, 2 * left / of_neighbours[:, np.newaxis], atol=1e-3)
    with pytest.warns(UserWarning, match="are among those that the distance to local PCA was made from"):
        anomaly.score(local, x[:3])


@pytest.mark.parametrize("options", [{"k": 2}, {"k": 301}, {"k": 5, "n_components": 4}, {"n_components": 12}])
def test_local_pca_needs_neighbours_and_room(x, options):
    with pytest.raises(ValueError, match=r"for 300 normal samples of 12 features: k must be from 3"):
        anomaly.local_pca(x, **{"n_components": 1, **options})
    with pytest.raises(ValueError, match="n_components is 0; it must be a whole number of at least 1"):
        anomaly.local_pca(x, n_components=0)


def test_the_negative_elbo_is_that_of_the_model(vae):
    x = np.random.default_rng(0).random((20, 4, 4, 1)).astype("float32")
    target = anomaly.negative_elbo(vae, n_samples=3000)
    np.testing.assert_allclose(anomaly.score(target, x), -vae.elbo(x, n_samples=3000), rtol=5e-3)
    np.testing.assert_array_equal(anomaly.score(target, x), anomaly.score(target, x))


@of_its_own_samples
def test_combined_scores_count_in_units_of_their_own_spread(linear, x):
    error, distance = targets.reconstruction_error(linear), anomaly.code_distance(linear, x)
    by_hand = sum((s - s.mean()) / s.std() for s in (anomaly.score(error, x), anomaly.score(distance, x)))
    both = anomaly.combined([error, distance], x)
    np.testing.assert_allclose(anomaly.score(both, x), by_hand, rtol=1e-4, atol=1e-4)
    scaled = anomaly.combined([lambda batch: 1000 * error(batch), distance], x)
    np.testing.assert_allclose(anomaly.score(scaled, x), by_hand, rtol=1e-4, atol=1e-4)
    assert both.name == "reconstruction error + code distance"
    with pytest.raises(ValueError, match="scores is empty"):
        anomaly.combined([], x)
    with pytest.raises(ValueError, match="<lambda> is 0 for all 300 normal samples, so it has no unit"):
        anomaly.combined([lambda batch: 0 * batch[:, 0]], x)


class Subclassed(keras.Model):
    def __init__(self, *parts):
        super().__init__()
        self.chain = keras.Sequential(parts)

    def call(self, x):
        return self.chain(x)


IMAGE = (8, 8, 1)


def dense(kind=models.Autoencoder, **options):
    built = models.dense_autoencoder(IMAGE, 3, (6,), seed=0)
    return kind(built.encoder, built.decoder, **options)


def nested():
    built, x = dense(), keras.Input(IMAGE)
    return models.Autoencoder(keras.Model(x, built.encoder(x)), built.decoder)


AUTOENCODERS = {
    "sequential": dense,
    "nested": nested,
    "convolutional": lambda: models.conv_autoencoder(IMAGE, 3, (2, 4), seed=0),
    "code with places": lambda: models.Autoencoder(  # unbuilt; codes (2, 2, 2)
        keras.Sequential([layers.Conv2D(2, 3, 4, padding="same")]),
        keras.Sequential([layers.Conv2DTranspose(1, 3, 4, padding="same")]),
    ),
    "subclassed": lambda: models.Autoencoder(
        Subclassed(layers.Flatten(), layers.Dense(3)), Subclassed(layers.Dense(64), layers.Reshape(IMAGE))
    ),
    "k-sparse": lambda: models.KSparseAutoencoder(
        models.dense_encoder(IMAGE, 4, (6,), seed=0), models.dense_decoder(IMAGE, 4, (6,), seed=1), k=3
    ),
    "denoising": lambda: dense(models.DenoisingAutoencoder, level=1.0),
}


@of_its_own_samples
@pytest.mark.filterwarnings("ignore:1 of 2 attributions miss the tolerance")
@pytest.mark.parametrize("kind", AUTOENCODERS)
def test_every_form_of_autoencoder_can_be_scored_and_explained(kind):
    autoencoder, x = AUTOENCODERS[kind](), np.random.default_rng(0).random((60, 8, 8, 1)).astype("float32")
    target = anomaly.negative_log_likelihood(autoencoder, x)
    scores = anomaly.score(target, x, batch_size=25)
    np.testing.assert_allclose(scores, anomaly.score(target, x), rtol=1e-4)
    z = autoencoder.encode(x).reshape(60, -1)
    distances = anomaly.score(anomaly.code_distance(autoencoder, x, batch_size=7), x)
    assert distances.mean() == pytest.approx(z.shape[1] * 59 / 60, rel=1e-3)
    explained = anomaly.explain(target, autoencoder, x[:2], search_steps=20)
    assert explained.normal.shape == x[:2].shape
    assert kind == "k-sparse" or explained.attribution.completeness_gap.max() < 0.01  # a k-sparse code jumps


def test_any_keras_model_has_a_reconstruction_error():
    model = Subclassed(layers.Flatten(), layers.Dense(9), layers.Dense(16), layers.Reshape((4, 4, 1)))
    x = np.random.default_rng(0).random((5, 4, 4, 1)).astype("float32")
    errors = anomaly.score(targets.reconstruction_error(model), x)
    np.testing.assert_allclose(errors, np.mean((model(x).numpy() - x) ** 2, axis=(1, 2, 3)), rtol=1e-5)


def test_scores_that_cannot_be_are_refused(linear, x):
    with pytest.raises(ValueError, match="3 samples and a code has 3 units; their covariance needs more samples"):
        anomaly.code_distance(linear, x[:3])
    with pytest.raises(ValueError, match="do not vary in 3 of 3 directions"):
        anomaly.code_distance(linear, np.repeat(x[:1], 9, axis=0))
    dead = models.dense_autoencoder(SIZE, 2, (), seed=0)
    dead.encoder.layers[-1].kernel.assign(np.eye(SIZE, 2) * [1, 0])
    with pytest.raises(ValueError, match=r"do not vary in 1 of 2 directions.*always 0"):
        anomaly.negative_log_likelihood(dead, x)
    with pytest.raises(ValueError, match=r"x_normal has shape \(300, 5\)"):
        anomaly.code_distance(linear, x[:, :5])
    broken = x.copy()
    broken[4, 2] = np.nan
    with pytest.raises(ValueError, match=r"x_normal holds 1 values that are NaN or infinite, the first at \(4, 2\)"):
        anomaly.code_distance(linear, broken)
    with pytest.raises(ValueError, match=r"x holds 1 values that are NaN"):
        anomaly.score(anomaly.code_distance(linear, x), broken)
    with pytest.raises(ValueError, match=r"looked for in a Sequential.*wrap your two models"):
        anomaly.code_distance(linear.encoder, x)
    with pytest.raises(ValueError, match="needs a VariationalAutoencoder, not Autoencoder"):
        anomaly.negative_elbo(linear)
    perfect = models.linear_autoencoder(2, 2)
    perfect.set_weights([np.eye(2), np.zeros(2), np.eye(2), np.zeros(2)])
    with pytest.raises(ValueError, match="without any error"):
        anomaly.negative_log_likelihood(perfect, x[:, :2])
    with pytest.raises(ValueError, match=r"returns shape \(300, 12\) for 300 samples"):
        anomaly.score(lambda batch: batch, x)
    with pytest.raises(ValueError, match="<lambda> returns NaN or infinity: 300 of 300 values"):
        anomaly.score(lambda batch: batch[:, 0] * np.nan, x)


def test_a_score_of_a_dataset_is_that_of_its_samples(linear, x):
    target = targets.reconstruction_error(linear)
    dataset = tf.data.Dataset.from_tensor_slices((x, np.zeros(300))).batch(70)
    np.testing.assert_allclose(anomaly.score(target, dataset), anomaly.score(target, x), rtol=1e-5)
    eight_bit = np.arange(48, dtype="uint8").reshape(4, SIZE)
    np.testing.assert_allclose(
        anomaly.score(target, eight_bit), anomaly.score(target, eight_bit.astype("float32")), rtol=1e-6
    )


@of_its_own_samples
def test_a_conditional_autoencoder_must_be_told_the_class():
    encoder, decoder = models.dense_encoder(6, 4, (), seed=0), models.dense_decoder(6, 2 + 3, (), seed=1)
    conditional = models.ConditionalVariationalAutoencoder(encoder, decoder, 3, seed=0)
    x = np.random.default_rng(0).random((40, 6)).astype("float32")
    calls = (
        lambda: anomaly.negative_log_likelihood(conditional, x),
        lambda: anomaly.score(anomaly.negative_elbo(conditional), x),
        lambda: anomaly.explain(lambda x: x[:, 0], conditional, x),
    )
    for call in calls:
        with pytest.raises(ValueError, match=r"decodes for a class, and none was given.*for_class\(3\)"):
            call()
    one = conditional.for_class(1)
    target = anomaly.negative_log_likelihood(one, x)
    explained = anomaly.explain(target, one, x[:2], search_steps=5)
    gained = anomaly.score(target, x[:2]) - anomaly.score(target, explained.normal)
    np.testing.assert_allclose(explained.attribution.values.sum(axis=1), gained, rtol=0.02)
    z = conditional.encoder.predict(x, verbose=0)[:, :2]  # the encoder sees the sample alone: nothing is missing
    away = x[:1].copy() + 1
    z_away = conditional.encoder.predict(away, verbose=0)[:, :2] - z.mean(axis=0)
    expected = np.einsum("ni,ij,nj->n", z_away, np.linalg.inv(np.cov(z.T)), z_away)
    np.testing.assert_allclose(anomaly.score(anomaly.code_distance(conditional, x), away), expected, rtol=1e-3)


def test_half_precision_gives_the_scores_of_single(linear, x):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        half = models.linear_autoencoder(SIZE, UNITS, seed=0)
    finally:
        keras.config.set_dtype_policy("float32")
    half.set_weights(linear.get_weights())
    fit, new = x[:200], x[200:]
    for make in (anomaly.code_distance, anomaly.negative_log_likelihood):
        expected = anomaly.score(make(linear, fit), new)
        np.testing.assert_allclose(anomaly.score(make(half, fit), new), expected, rtol=0.02, atol=0.02)
    strange = new[:4] + 300.0  # squares of 90,000, which no half precision number reaches
    target = anomaly.negative_log_likelihood(half, fit)
    by_single = anomaly.negative_log_likelihood(linear, fit)
    np.testing.assert_allclose(anomaly.score(target, strange), anomaly.score(by_single, strange), rtol=0.02)
    explained = anomaly.explain(target, half, new[:4], search_steps=20, tolerance=0.2)
    assert explained.normal.dtype == explained.distance.dtype == np.float32
    lengths = np.linalg.norm(new[:4] - linear.reconstruct(new[:4]), axis=1)
    np.testing.assert_allclose(explained.distance, lengths, rtol=0.02)


# --- thresholds ------------------------------------------------------------------------------------------------------


def test_a_threshold_keeps_its_promise_on_new_normals():
    """Over many draws: on average the promised rate, and 95 % of the sets inside their interval."""
    rng = np.random.default_rng(0)
    for n, wanted in ((19, 0.05), (99, 0.1), (500, 0.03)):
        chosen = [anomaly.threshold(rng.exponential(size=n), false_alarm_share=wanted) for _ in range(2000)]
        true_rates = np.exp([-alarm.value for alarm in chosen])  # of an exponential distribution
        promised = chosen[0].false_alarm_share
        assert promised <= wanted < promised + 1 / n
        assert true_rates.mean() == pytest.approx(promised, rel=0.05)
        low, high = chosen[0].interval
        assert np.mean((true_rates >= low) & (true_rates <= high)) == pytest.approx(0.95, abs=0.02)
        assert low < promised < high and chosen[0].n_normal == n


def test_a_threshold_is_the_smallest_that_will_do():
    scores = np.arange(99)[::-1]
    alarm = anomaly.threshold(scores, false_alarm_share=0.05)  # 5 of 100 places lie above it
    assert alarm.value == 94 and alarm.false_alarm_share == 0.05
    np.testing.assert_array_equal(alarm.raised([93.0, 94.0, 94.1]), [False, False, True])
    assert anomaly.threshold(np.arange(19)).value == 18  # the largest: 1 of 20 places above
    assert not anomaly.threshold(np.ones(50)).raised(np.ones(9)).any()  # ties never raise the rate


def identity(size):
    autoencoder = models.linear_autoencoder(size, size)
    autoencoder.set_weights([np.eye(size), np.zeros(size), np.eye(size), np.zeros(size)])
    return autoencoder


def test_a_score_warns_of_the_samples_that_it_was_made_from():
    autoencoder, x = identity(3), np.random.default_rng(0).normal(size=(60, 3))  # float64: rounded before it is known
    made, new = x[:40], x[40:]
    distance = anomaly.code_distance(autoencoder, made)
    both = anomaly.combined([distance, targets.latent(autoencoder, 0)], x[35:45])
    cases = ((distance, made, 40), (distance, made[5:12], 7), (distance, x, 40), (both, x, 45))
    for target, asked, known in cases:
        with pytest.warns(UserWarning, match=f"{known} of these {len(asked)} samples are among those that the code"):
            anomaly.score(target, asked, batch_size=9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = anomaly.score(distance, new)
        anomaly.score(targets.latent(autoencoder, 0), x)  # made from nothing
    away = new - made.mean(axis=0)
    np.testing.assert_allclose(scores, np.einsum("ni,ij,nj->n", away, np.linalg.inv(np.cov(made.T)), away), rtol=1e-4)


@of_its_own_samples
def test_why_it_warns_a_threshold_from_the_scores_own_samples_breaks_its_promise():
    """Ten units and 40 normal samples: the share of new ones above a threshold that promises 4.9 %."""
    autoencoder, rng = identity(10), np.random.default_rng(0)
    new, found = rng.normal(size=(4000, 10)), {"own": [], "others": []}
    for _ in range(12):
        x = rng.normal(size=(80, 10))
        distance = anomaly.code_distance(autoencoder, x[:40])
        scores = anomaly.score(distance, new)
        for name, normal in (("own", x[:40]), ("others", x[40:])):
            alarm = anomaly.threshold(anomaly.score(distance, normal))
            assert alarm.false_alarm_share == pytest.approx(2 / 41)
            found[name].append(alarm.raised(scores).mean())
    assert np.mean(found["own"]) > 0.15
    standard_error = np.std(found["others"], ddof=1) / np.sqrt(12)
    assert np.mean(found["others"]) == pytest.approx(2 / 41, abs=3 * standard_error)


@pytest.mark.parametrize(
    ("scores", "share", "message"),
    [
        (np.arange(18), 0.05, "0.05 needs at least 19 normal samples, and there are 18.*promises 0.0526"),
        (np.arange(98), 0.01, "at least 99 normal samples"),
        (np.arange(50), 0, "false_alarm_share is 0; it must be a number in"),
        (np.arange(50), 1.0, "false_alarm_share is 1.0"),
        (np.array([1.0, np.nan] * 50), 0.05, "normal_scores holds 50 values that are NaN or infinite, the first at 1"),
        (np.ones((50, 2)), 0.05, r"normal_scores has shape \(50, 2\)"),
        (np.ones(0), 0.05, r"normal_scores has shape \(0,\)"),
    ],
)
def test_thresholds_that_cannot_be_are_refused(scores, share, message):
    with pytest.raises(ValueError, match=message):
        anomaly.threshold(scores, false_alarm_share=share)


# --- evaluation ------------------------------------------------------------------------------------------------------


def test_an_evaluation_by_hand():
    scores, truth = np.array([1.0, 2, 3, 4, 5]), np.array([0, 0, 1, 0, 1])
    result = anomaly.evaluate(scores, truth, alarm=anomaly.Threshold(3.5, 0.1, (0, 1), 9))
    assert result.auroc == pytest.approx(5 / 6)  # five of the six pairs are in order
    assert result.average_precision == pytest.approx((1 / 1 + 2 / 3) / 2)  # the anomaly is the positive class
    assert (result.prevalence, result.n_normal, result.n_anomalies) == (0.4, 3, 2)
    assert result.false_alarm_share == pytest.approx(1 / 3) and result.detected_share == 0.5
    # Shares below each anomaly: 2/3, 1. Shares above each normal sample: 1, 1, 1/2.
    assert result.auroc_standard_error == pytest.approx(
        np.sqrt(np.var([2 / 3, 1], ddof=1) / 2 + np.var([1, 1, 0.5], ddof=1) / 3)
    )
    assert anomaly.evaluate(-scores, truth).auroc == pytest.approx(1 / 6)
    assert anomaly.evaluate(np.zeros(5), truth).auroc == 0.5  # ties count half


def test_the_standard_error_is_the_scatter_over_new_samples():
    rng, found = np.random.default_rng(0), []
    for _ in range(300):
        scores = np.concatenate([rng.normal(size=80), rng.normal(1, size=40)])
        found.append(anomaly.evaluate(scores, np.arange(120) >= 80))
    scatter = np.std([result.auroc for result in found])
    assert np.mean([result.auroc_standard_error for result in found]) == pytest.approx(scatter, rel=0.12)


@pytest.mark.parametrize(
    ("scores", "truth", "message"),
    [
        ([1.0, 2, 3], [0, 0, 0], "3 normal samples and 0 anomalies; an evaluation needs at least two of each"),
        ([1.0, 2, 3], [1, 1, 1], "0 normal samples and 3 anomalies"),
        ([1.0, 2, 3], [0, 0, 1], "2 normal samples and 1 anomalies"),
        ([1.0, 2, 3], [0, 1], r"is_anomaly has shape \(2,\) and scores \(3,\)"),
        ([1.0, 2, 3], [0, 1, 2], "one True .an anomaly. or False each"),
        ([1.0, np.inf, 3, 4], [0, 0, 1, 1], "scores holds 1 values that are NaN or infinite, the first at 1"),
    ],
)
def test_evaluations_that_cannot_be_are_refused(scores, truth, message):
    with pytest.raises(ValueError, match=message):
        anomaly.evaluate(scores, truth)


# --- reasons ---------------------------------------------------------------------------------------------------------


def test_an_explanation_points_at_what_was_changed(linear, x):
    """On a plane the nearest normal is the projection, and what was added to one feature is found there."""
    strange = x[:8].copy()
    strange[:, 5] += 6
    target = anomaly.negative_log_likelihood(linear, x)
    explained = anomaly.explain(target, linear, strange, search_steps=120, learning_rate=0.1, tolerance=1e-3)
    np.testing.assert_allclose(explained.normal, linear.reconstruct(strange), atol=0.02)
    gained = anomaly.score(target, strange) - anomaly.score(target, explained.normal)
    np.testing.assert_allclose(explained.attribution.values.sum(axis=1), gained, rtol=2e-3)
    assert (np.argmax(explained.attribution.values, axis=1) == 5).all()
    np.testing.assert_allclose(explained.distance, np.linalg.norm(strange - explained.normal, axis=1), rtol=1e-5)


@of_its_own_samples
def test_a_sum_of_scores_is_a_score(linear, x):
    error, distance = targets.reconstruction_error(linear), anomaly.code_distance(linear, x)

    def both(batch):
        return 3 * error(batch) + distance(batch)

    expected = 3 * anomaly.score(error, x) + anomaly.score(distance, x)
    np.testing.assert_allclose(anomaly.score(both, x), expected, rtol=1e-5)
    found = attribution.integrated_gradients(both, x[:4])
    assert found.completeness_gap.max() < 0.005 and both(tf.constant(x[:4])).shape == (4,)


def test_a_dead_sensor_is_found_against_the_nearest_normal_and_not_against_zero(linear, x):
    """A sensor that reads 0 where 20 would be normal: zero as what is absent says that it does not count."""
    shift = np.zeros(SIZE, "float32")
    shift[5] = 20
    moved = models.linear_autoencoder(SIZE, UNITS, seed=0)
    encode, encode_bias, decode, decode_bias = linear.get_weights()
    moved.set_weights([encode, encode_bias - shift @ encode, decode, decode_bias + shift])
    dead = (x[:4] + shift) * (np.arange(SIZE) != 5)
    target = targets.reconstruction_error(moved)
    against_zero = attribution.integrated_gradients(target, dead).values
    assert (against_zero[:, 5] == 0).all()
    explained = anomaly.explain(target, moved, dead, search_steps=20)
    assert (np.argmax(explained.attribution.values, axis=1) == 5).all()
