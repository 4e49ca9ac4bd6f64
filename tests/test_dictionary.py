"""Sparse dictionaries: their parts against definitions, their training against NumPy, and what they do in a network."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from forms import Subclassed, functional
from keras import layers

from tfae import dictionary, models, plot, records, training
from tfae.cluster import run_cluster
from tfae.dictionary import SparseDictionary

D, N, K = 4, 6, 2
KINDS = {
    "relu": {"activation": "relu", "weight": 0.3},
    "topk": {"activation": "topk", "k": K},
    "batch top-k": {"activation": "batch_topk", "k": K},
    "JumpReLU": {"activation": "jumprelu", "k": K, "weight": 0.2},
    "Matryoshka": {"activation": "batch_topk", "k": K, "widths": (2, 3, N)},
}
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def x():
    return (3 + np.random.default_rng(0).normal(size=(61, D)) * (1, 2, 1, 0.5)).astype("float32")


def made(directions, scale=1.0, bias=0.0, **options):
    """A dictionary of these directions, which are also what its encoder looks for."""
    directions = np.asarray(directions, "float32")
    model = SparseDictionary(len(directions), **({"activation": "relu", "weight": 0.0} | options))
    model.build((None, directions.shape[1]))
    model.decoder.kernel.assign(directions)
    model.encoder.kernel.assign(directions.T)
    model.encoder.bias.assign(np.full(len(directions), bias))
    model.scale.assign(scale)
    model.adapted.assign(1.0)
    return model


# --- its parts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jit_compile", [False, True])
def test_the_k_th_largest_is_that_of_a_sort(jit_compile):
    a = np.maximum(np.random.default_rng(0).normal(size=(50, 30)), 0).astype("float32")
    a[:, 0], a[0] = 1e30, 0  # far apart, and a row that is silent
    compiled = tf.function(dictionary.kth_largest, jit_compile=jit_compile)
    for k in (1, 3, 30):
        np.testing.assert_array_equal(compiled(a, k), np.sort(a, axis=1)[:, -k : -k + 1 or None])
        assert compiled(a, k, of_batch=True).numpy().item() == np.sort(a.ravel())[-50 * k]


def test_the_derivative_of_a_threshold_is_that_of_the_step_smoothed():
    """The pseudo-derivative is the exact one of a ramp of width epsilon: by finite differences of that ramp."""
    rng, width, h = np.random.default_rng(0), 0.5, 1e-5
    z, threshold = rng.uniform(0, 2, (400, 3)), np.array([0.5, 1.0, 1.3])
    upstream = rng.normal(size=z.shape)
    with tf.GradientTape() as tape:
        at = tf.constant(threshold)
        tape.watch(at)
        step = dictionary.heaviside(tf.constant(z), at, tf.constant(width, "float64"))
        total = tf.reduce_sum(upstream * step)
    np.testing.assert_array_equal(step, z > threshold)
    assert dictionary.heaviside(tf.constant(0.5), tf.constant(0.5), tf.constant(width)) == 0  # not above it

    def ramp(threshold):
        return np.sum(upstream * np.clip((z - threshold) / width + 0.5, 0, 1), axis=0)

    np.testing.assert_allclose(
        tape.gradient(total, at), (ramp(threshold + h) - ramp(threshold - h)) / (2 * h), rtol=1e-4
    )


def test_the_derivative_of_a_threshold_is_that_of_how_often_it_is_passed():
    """Averaged over samples it estimates the derivative of the expected step, here minus a known density."""
    z = np.random.default_rng(0).normal(size=(400_000, 1))
    with tf.GradientTape() as tape:
        at = tf.constant([0.7], "float64")
        tape.watch(at)
        share = tf.reduce_mean(dictionary.heaviside(tf.constant(z), at, tf.constant(0.2, "float64")))
    density = np.exp(-(0.7**2) / 2) / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(tape.gradient(share, at), [-density], rtol=0.02)


def test_the_geometric_median_is_nearest_to_all():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(90, 3)), rng.normal(50, 1, (10, 3))])
    median = dictionary.geometric_median(x)
    assert np.linalg.norm(median) < 0.5 < np.linalg.norm(x.mean(axis=0))
    pulls = (x - median) / np.linalg.norm(x - median, axis=1, keepdims=True)
    np.testing.assert_allclose(pulls.sum(axis=0), 0, atol=1e-4)


@every_kind
def test_each_activation_keeps_what_it_says(kind, x):
    model = SparseDictionary(N, seed=0, **KINDS[kind])
    model.adapt(x)
    a = np.maximum((x - model.centre) / model.scale @ model.encoder.kernel + model.encoder.bias, 0)
    z = model.code(x, training=True).numpy()
    rows = np.sort(a, axis=1)[:, -K, np.newaxis]
    threshold = {"relu": 0, "topk": rows, "JumpReLU": getattr(model, "threshold", 0)}
    expected = np.where(a >= threshold.get(kind, np.sort(a.ravel())[-len(x) * K]), a, 0)
    np.testing.assert_allclose(z, expected, atol=1e-5)
    np.testing.assert_allclose(model.reconstruct(x), model.decode(model.encode(x)), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(model.directions, axis=1), 1, atol=1e-6)


def test_batch_top_k_uses_what_it_has_learned_outside_training(x):
    model = SparseDictionary(N, k=K, seed=0)
    model.adapt(x)
    first = model.code(x, training=True).numpy()
    np.testing.assert_allclose(model.encode(x), first, atol=1e-6)  # the threshold of the only batch
    smallest = first[first > 0].min()
    model.code(x[:7], training=True)
    second = model.threshold.numpy()
    assert second != pytest.approx(smallest) and abs(second / smallest - 1) < 0.05
    np.testing.assert_allclose(model.encode(x[:1]), model.encode(x)[:1], atol=1e-6)  # whoever stands beside it


# --- its training ----------------------------------------------------------------------------------------------------


class ByHand:
    """The same dictionary in NumPy, with derivatives taken by hand, and plain descent."""

    def __init__(self, model):
        names = {"w": model.decoder.kernel, "e": model.encoder.kernel, "b": model.encoder.bias, "c": model.centre}
        if model.activation == "jumprelu":
            names["t"] = model.threshold
        self.weights = {name: variable.numpy().astype("float64") for name, variable in names.items()}
        self.scale, self.width, self.model = float(model.scale), dictionary.BANDWIDTH * np.sqrt(D / K), model

    def step(self, x, rate):
        model, w, e, b, c = self.model, *(self.weights[name] for name in "webc")
        n, lengths = len(x), np.linalg.norm(w, axis=1, keepdims=True)
        unit, u = w / lengths, (x - c) / self.scale
        a = np.maximum(u @ e + b, 0)
        if model.activation == "topk":
            kept = a >= np.sort(a, axis=1)[:, -K, np.newaxis]
        elif model.activation == "batch_topk":
            kept = a >= np.sort(a.ravel())[-n * K]
        else:
            kept = a > self.weights.get("t", 0)
        kept = kept & (a > 0)
        z, d_unit, dz, du = a * kept, np.zeros_like(w), np.zeros_like(a), np.zeros_like(u)
        for width in model.widths:
            g = 2 * (z[:, :width] @ unit[:width] - u) / (n * D * len(model.widths))
            d_unit[:width] += z[:, :width].T @ g
            dz[:, :width] += g @ unit[:width].T
            du -= g
        if model.activation == "relu":
            dz += model.weight / (n * D)
        d_threshold = None
        if model.activation == "jumprelu":
            t, near = self.weights["t"], np.abs(a - self.weights["t"]) < self.width / 2
            paid = model.weight * 2 * (kept.sum() / n / K - 1) / (K * n)
            d_threshold = -np.sum(near * (dz * t + paid), axis=0) / self.width
        da = dz * kept
        du += da @ e.T
        d_w = (d_unit - np.sum(d_unit * unit, axis=1, keepdims=True) * unit) / lengths
        slopes = {"w": d_w, "e": u.T @ da, "b": da.sum(axis=0), "c": -du.sum(axis=0) / self.scale, "t": d_threshold}
        for name in self.weights:
            self.weights[name] = self.weights[name] - rate * slopes[name]


@pytest.mark.slow
@pytest.mark.parametrize("fast", [False, True])
@every_kind
def test_training_is_that_of_numpy(kind, fast, x):
    keras.utils.set_random_seed(0)
    model = SparseDictionary(N, seed=0, **KINDS[kind])
    model.adapt(x)
    by_hand = ByHand(model)
    model.compile(keras.optimizers.SGD(0.1), jit_compile=fast, steps_per_execution=4 if fast else 1)
    model.fit(x, batch_size=20, epochs=5, shuffle=False, verbose=0)
    for start in [0, 20, 40, 60] * 5:
        by_hand.step(x[start : start + 20].astype("float64"), 0.1)
    found = {"w": model.decoder.kernel, "e": model.encoder.kernel, "b": model.encoder.bias, "c": model.centre}
    if kind == "JumpReLU":
        found["t"] = model.threshold
    for name, variable in found.items():
        np.testing.assert_allclose(variable, by_hand.weights[name], atol=2e-5, err_msg=name)


def sparse_rows(n, directions, seed=0):
    """Rows in which two directions stand, at random and strongly."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(1, 2, (n, len(directions))) * (rng.random((n, len(directions))).argsort(axis=1) < K)
    return (z @ directions).astype("float32"), z


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "Matryoshka"])  # its first ones stand for several
def test_orthogonal_features_are_found(kind):
    x, z = sparse_rows(4_000, np.eye(8))
    options = KINDS[kind] | ({"weight": 0.5} if kind == "relu" else {})
    keras.utils.set_random_seed(0)
    model = SparseDictionary(8, seed=0, **options)
    rate = keras.optimizers.schedules.CosineDecay(0.02, 800)
    model.compile(keras.optimizers.Adam(rate), jit_compile=True, steps_per_execution=20)
    history = model.fit(x, batch_size=100, epochs=20, verbose=0).history
    found = dictionary.recovery(model, np.eye(8))
    assert found.share == 1 and found.mean_max_cosine > 0.95 and found.unique == 1
    assert dictionary.firing_f1(model.encode(x)[:, found.match], z).mean() > 0.95
    assert history["error"][-1] < 0.1 and history["dead"][-1] == 0
    assert history["l0"][-1] == pytest.approx(K, rel=0.2)


@pytest.mark.slow
def test_dead_features_are_reported_and_revived():
    x, _ = sparse_rows(2_000, np.eye(8))
    dead = {}
    for revive in (False, True):
        keras.utils.set_random_seed(0)
        model = SparseDictionary(16, "topk", k=1, revive=revive, seed=0)
        model.compile(keras.optimizers.Adam(0.01), steps_per_execution=20)
        model.adapt(x)
        model.encoder.bias.assign(np.where(np.arange(16) < 8, -1.0, 1.0))  # half of them never win
        history = model.fit(x, batch_size=50, epochs=10, verbose=0).history
        dead[revive] = int(model.dead.sum())
        assert history["dead"][-1] >= dead[revive] - 1
        assert set(np.flatnonzero(model.dead)) <= set(np.flatnonzero(model.encode(x).max(axis=0) == 0))
    assert dead[False] >= 4 and dead[True] < dead[False]


def test_a_feature_is_dead_after_a_hundred_silent_steps(x):
    model = SparseDictionary(N, "topk", k=K, revive=False, seed=0)
    model.adapt(x)
    model.encoder.bias.assign([0, 0, 0, 0, 0, -1e6])
    model.silent.assign([0, 50, 99, 99, 99, 99])
    np.testing.assert_array_equal(model.dead, [False] * 6)
    model.compile(keras.optimizers.SGD(0.0))
    history = model.fit(x, batch_size=len(x), epochs=1, verbose=0).history
    np.testing.assert_array_equal(model.dead, [False] * 5 + [True])
    np.testing.assert_array_equal(model.silent, [0] * 5 + [100])  # whoever fires begins anew
    assert history["dead"] == [1]


def test_silent_features_learn_what_the_others_leave_over_and_the_others_do_not(x):
    model = SparseDictionary(N, "topk", k=1, seed=0)
    model.adapt(x)
    model.encoder.bias.assign([10, 10, 10, 0, 0, 0])  # the first three always win
    model.silent.assign([0, 0, 24, 25, 100, 100])
    with tf.GradientTape() as tape:
        before = model._before(x)
        residual = (x - model(x)) / model.scale
        loss = model._revival(before, residual)
    a = np.maximum(before, 0) * (0, 0, 0, 1, 1, 1)
    a = np.where(a >= np.sort(a, axis=1)[:, [-(D // 2)]], a, 0)  # as many of the silent as half of the dimensions
    assert float(loss) == pytest.approx(np.mean((residual - a @ model.directions) ** 2), rel=1e-5)
    weights = (model.encoder.kernel, model.encoder.bias, model.decoder.kernel)
    slopes = tape.gradient(loss, [weight.value for weight in weights])
    kernel, bias, directions = (tf.convert_to_tensor(slope).numpy() for slope in slopes)
    for others, silent in ((kernel[:, :3], kernel[:, 3:]), (bias[:3], bias[3:]), (directions[:3], directions[3:])):
        assert not others.any() and silent.any()
    model.compile(keras.optimizers.SGD(0.1))
    model.fit(x, batch_size=len(x), epochs=1, verbose=0)  # in which it is a part of the loss
    np.testing.assert_allclose(model.encoder.bias[3:], -0.1 * bias[3:], rtol=1e-4)
    model.silent.assign([0, 0, 0, 0, 0, 25])  # one where two could be: half as urgent
    a = np.maximum(before, 0) * (0, 0, 0, 0, 0, 1)
    missed = np.mean((residual - a @ model.directions) ** 2)
    assert float(model._revival(before, residual)) == pytest.approx(missed / (D // 2), rel=1e-5)
    model.silent.assign(np.zeros(N))
    assert model._revival(before, residual) == 0


def test_the_error_that_is_logged_is_the_missing_share_of_the_variance(x):
    model = SparseDictionary(N, seed=0, **KINDS["Matryoshka"])
    model.compile(keras.optimizers.SGD(0.0))
    model.fit(x, batch_size=len(x), epochs=1, verbose=0)
    logged = model.evaluate(x, batch_size=len(x), verbose=0, return_dict=True)
    assert logged["error"] == pytest.approx(
        np.mean((x - model.reconstruct(x)) ** 2) / float(model.scale) ** 2, rel=1e-4
    )
    assert logged["l0"] == pytest.approx((model.encode(x) > 0).sum(axis=1).mean())
    assert logged["loss"] > logged["error"]  # which the whole dictionary leaves; its first features leave more


def test_thresholds_stay_where_a_feature_can_pass_them(x):
    model = SparseDictionary(N, "jumprelu", k=N, weight=100.0, seed=0)  # more than can fire: they fall and fall
    model.compile(keras.optimizers.SGD(0.1))
    model.fit(x, epochs=5, verbose=0)
    assert model.threshold.numpy().min() == 0


@pytest.mark.slow
def test_data_larger_than_memory_come_as_records(tmp_path, x):
    keras.utils.set_random_seed(0)
    records.write(tmp_path / "rows", [x[:30], x[30:]])
    model = SparseDictionary(N, "topk", k=K, seed=0)
    model.compile("adam")
    model.fit(records.read(tmp_path / "rows", 61), epochs=2, steps_per_epoch=1, verbose=0)
    np.testing.assert_allclose(model.scale, np.sqrt(np.mean((x - dictionary.geometric_median(x)) ** 2)), rtol=1e-4)


def test_samples_have_weights(x):
    model = SparseDictionary(N, "topk", k=K, seed=0)
    model.compile(keras.optimizers.SGD(0.0))
    half = (np.arange(len(x)) < 30).astype("float32")
    whole = [model.evaluate(part, batch_size=100, verbose=0, return_dict=True)["loss"] for part in (x, x[:30])]
    weighed = model.evaluate(x, sample_weight=half, batch_size=100, verbose=0, return_dict=True)["loss"]
    assert weighed == pytest.approx(whole[1] * 30 / 61, rel=1e-4) and whole[0] != pytest.approx(whole[1])


@pytest.mark.slow
@every_kind
def test_a_saved_dictionary_is_the_same(kind, x, tmp_path):
    model = SparseDictionary(N, seed=0, **KINDS[kind])
    model.compile(keras.optimizers.Adam(0.01))
    model.fit(x, batch_size=20, epochs=2, verbose=0)
    model.save(tmp_path / "dictionary.keras")
    loaded = keras.models.load_model(tmp_path / "dictionary.keras")
    np.testing.assert_array_equal(loaded.encode(x), model.encode(x))
    np.testing.assert_array_equal(loaded.directions, model.directions)
    loaded.fit(x, epochs=1, verbose=0)
    assert loaded.get_config() == model.get_config()


def test_a_dictionary_can_be_restarted(x):
    def build(seed):
        model = SparseDictionary(N, k=K, seed=seed)
        model.compile(keras.optimizers.Adam(0.01))
        return model

    restart = training.restartable(build, x=x)
    first, second, again = (restart(seed).fit(x, verbose=0).model.directions for seed in (0, 1, 0))
    assert np.array_equal(first, again) and not np.array_equal(first, second)


def train_everywhere():
    """Train each kind on one device and on two replicas, with batches that these share unevenly."""
    from tfae import distribute  # isort: skip

    two = distribute.strategy(2)
    import keras
    import numpy as np
    import tensorflow as tf

    from tfae.dictionary import SparseDictionary

    kinds = [
        {"activation": "relu", "weight": 0.3},
        {"activation": "topk", "k": 2},
        {"k": 2, "widths": (3, 6)},
        {"activation": "jumprelu", "k": 2, "weight": 0.2},
    ]
    x = np.random.default_rng(0).normal(size=(61, 4)).astype("float32")

    def train(options, strategy):
        keras.utils.set_random_seed(0)
        with strategy.scope():
            model = SparseDictionary(6, seed=0, **options)
            model.compile(keras.optimizers.SGD(0.1))
        history = model.fit(x, batch_size=15, epochs=4, verbose=0).history
        return model.get_weights(), history

    return [[train(options, strategy) for options in kinds] for strategy in (tf.distribute.get_strategy(), two)]


@pytest.mark.slow
def test_replicas_train_to_the_same_weights():
    ((one, two),) = run_cluster(train_everywhere, workers=1)
    for (weights, history), (shared, shared_history) in zip(one, two, strict=True):
        for a, b in zip(weights, shared, strict=True):
            np.testing.assert_allclose(a, b, atol=2e-5)
        for name, values in history.items():
            np.testing.assert_allclose(values, shared_history[name], rtol=1e-4)


# --- what it found ---------------------------------------------------------------------------------------------------


def test_recovery_counts_what_was_found():
    true = np.eye(4)
    learned = np.array([[2, 0, 0, 0], [0, -1, 0, 0], [0, -3, 0.1, 0], [0, 0, 3, 4]])
    found = dictionary.recovery(learned, true)
    np.testing.assert_allclose(found.cosines, [1, 1, 0.6, 0.8], atol=1e-6)
    np.testing.assert_array_equal(found.match, [0, 1, 3, 3])
    assert found.share == 0.5 and found.mean_max_cosine == pytest.approx(0.85)
    assert found.unique == 0.75  # the two that are near to the second are near to nothing else
    assert found.one_to_one == pytest.approx((1 + 1 + 0.1 / np.hypot(3, 0.1) + 0.8) / 4, abs=1e-6)


def test_firing_is_compared_column_by_column():
    z, true = np.array([[1, 0, 2], [1, 0, 0], [0, 0, 0]]), np.array([[5, 1, 0], [0, 0, 0], [7, 0, 0]])
    np.testing.assert_allclose(dictionary.firing_f1(z, true), [0.5, 0, 0])


def test_agreement_pairs_each_feature_once():
    a, b = np.eye(4)[:3], np.array([[1, 0, 0, 0], [1, 0.1, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1]])
    found = dictionary.agreement(a, b)
    np.testing.assert_array_equal(found.partner, [0, 1, 2])
    assert found.share == pytest.approx(2 / 3) and found.cosines[1] < 0.2
    assert dictionary.agreement(a, a).share == 1
    assert list(dictionary.agreement(b, a).partner).count(-1) == 1


# --- in a network ----------------------------------------------------------------------------------------------------

SHAPE = (6, 6, 1)
IMAGES = np.random.default_rng(0).random((20, *SHAPE)).astype("float32")
FORMS = {
    "functional": lambda parts: functional(parts, SHAPE),
    "nested": lambda parts: keras.Sequential([keras.Input(SHAPE), keras.Sequential(parts[:-1]), parts[-1]]),
    "subclassed": Subclassed,
}


def network(form="functional", conv=False):
    keras.utils.set_random_seed(1)
    hidden = (
        [layers.Conv2D(3, 3, activation="relu", name="hidden"), layers.Flatten()]
        if conv
        else [layers.Flatten(), layers.Dense(3, "relu", name="hidden")]
    )
    model = FORMS[form]([*hidden, layers.Dense(2, name="out")])
    model(IMAGES)
    return model


def both_signs(size):
    """Features that say all: each axis and its opposite."""
    return np.concatenate([np.eye(size), -np.eye(size)])


@pytest.mark.parametrize("conv", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_a_spliced_identity_changes_nothing(form, conv):
    model, all_of_it = network(form, conv), made(both_signs(3), scale=0.3)
    spliced = dictionary.splice(model, "hidden", all_of_it)
    np.testing.assert_allclose(spliced(IMAGES), model(IMAGES), atol=1e-5)
    np.testing.assert_allclose(spliced.predict(IMAGES, verbose=0), model(IMAGES), atol=1e-5)
    rows = np.concatenate([*dictionary.harvest(model, IMAGES, "hidden", batch_size=7)])
    assert rows.shape == (20 * (16 if conv else 1), 3)
    rows_of_batches = dictionary.harvest(model, tf.data.Dataset.from_tensor_slices(IMAGES).batch(6), "hidden")
    np.testing.assert_allclose(np.concatenate([*rows_of_batches]), rows, atol=1e-6)


@pytest.mark.parametrize("conv", [False, True])
def test_features_are_taken_away_and_added(conv):
    """With the axes as features, ablating one is removing a unit, and the dictionary's own error stays where it was."""
    model, partial = network(conv=conv), made(np.eye(3)[:2], scale=0.5)  # which cannot write the third unit
    hidden = np.concatenate([*dictionary.harvest(model, IMAGES, "hidden")])
    kernel, bias = model.get_weights()[-2:]

    def rest(changed):
        return changed.reshape(20, -1) @ kernel + bias

    ablated = dictionary.splice(model, "hidden", partial, ablate=[1])
    np.testing.assert_allclose(ablated(IMAGES), rest(hidden * (1, 0, 1)), atol=1e-5)
    added = dictionary.splice(model, "hidden", partial, add={0: 3.0})
    np.testing.assert_allclose(added(IMAGES), rest(hidden + np.array([1.5, 0, 0])), atol=1e-5)  # 3 times the scale
    both = dictionary.splice(model, "hidden", partial, ablate=[1], add={0: 3.0})
    np.testing.assert_allclose(both(IMAGES), rest(hidden * (1, 0, 1) + (1.5, 0, 0)), atol=1e-5)
    whole = dictionary.splice(model, "hidden", partial)
    np.testing.assert_allclose(whole(IMAGES), rest(hidden * (1, 1, 0)), atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"ablate": [0]}])
def test_a_spliced_sample_does_not_depend_on_those_beside_it(options):
    model, features = network(), made(both_signs(3), activation="batch_topk", k=1, weight=None)
    features.threshold.assign(0.1)
    spliced = dictionary.splice(model, "hidden", features, **options)
    np.testing.assert_allclose(spliced(IMAGES)[:1], spliced(IMAGES[:1]), atol=1e-6)
    assert features.threshold == 0.1


def test_loss_recovered_is_one_for_all_of_it_and_zero_for_its_mean():
    model = network()
    logits = model(IMAGES)
    model.set_weights([*model.get_weights()[:-1], -np.mean(logits, axis=0)])  # so that it answers both
    y = np.argmax(model(IMAGES), axis=1)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    found = dictionary.loss_recovered(model, "hidden", made(both_signs(3)), IMAGES, y, batch_size=7)
    assert found.share == pytest.approx(1, abs=1e-4) and found.intact == pytest.approx(found.spliced)
    assert found.intact == pytest.approx(model.evaluate(IMAGES, y, verbose=0), rel=1e-4)
    silent = made(np.eye(3), bias=-1e6)
    silent.centre.assign(np.concatenate([*dictionary.harvest(model, IMAGES, "hidden")]).mean(axis=0))
    nothing = dictionary.loss_recovered(model, "hidden", silent, IMAGES, y)
    assert nothing.share == pytest.approx(0, abs=1e-4) and nothing.ablated > nothing.intact
    with pytest.raises(ValueError, match="compiled with none; give loss="):
        dictionary.loss_recovered(network(), "hidden", silent, IMAGES, y)
    model.set_weights([*model.get_weights()[:2], np.zeros((3, 2)), np.zeros(2)])
    with pytest.raises(ValueError, match=r"'hidden' in its place .* does nothing for it"):
        dictionary.loss_recovered(model, "hidden", silent, IMAGES, y)


@pytest.mark.parametrize("conv", [False, True])
def test_a_card_says_what_is_known_and_what_is_not(conv):
    model, features = network(conv=conv), made(np.eye(3)[::-1])
    hidden = np.concatenate([*dictionary.harvest(model, IMAGES, "hidden")]).reshape(20, -1, 3)
    unit = int((hidden > 0).any(axis=(0, 1)).argmax())  # one that fires
    strength, feature = hidden[:, :, unit].max(axis=1), 2 - unit
    labels = (strength > 0).astype(int)
    found = dictionary.card(model, "hidden", features, IMAGES, feature, labels=labels, k=3)
    fires = strength > 0
    assert found.fires == pytest.approx(fires.mean())
    np.testing.assert_array_equal(found.top, np.argsort(-strength, kind="stable")[: min(3, fires.sum())])
    gone = hidden * (np.arange(3) != unit)
    change = (hidden - gone).reshape(20, -1) @ model.get_weights()[-2]
    np.testing.assert_allclose(found.effect, change[fires].mean(axis=0), atol=1e-5)
    assert found.classes[1] == 1 and found.factors is None
    assert found.unknown[:2] == ("its factors", "whether another seed finds it")
    full = dictionary.card(
        model, "hidden", features, IMAGES, feature, factors=np.c_[strength, -strength], other=features
    )
    np.testing.assert_allclose(full.factors, [1, -1])
    assert full.twin == feature and full.twin_cosine == pytest.approx(1) and full.unknown[0] == "its class"
    assert len(plot.card(full, IMAGES, factor_names=["a", "b"]).axes) >= 3
    assert len(plot.card(found, IMAGES).axes) >= 3
    silent = made(np.eye(3), bias=-1e6)
    with pytest.raises(ValueError, match="feature 0 fires for none of the 20 samples"):
        dictionary.card(model, "hidden", silent, IMAGES, 0)


def test_the_card_of_an_autoencoders_code_has_a_picture():
    model = models.dense_autoencoder(SHAPE, 3, (5,), seed=0)
    found = dictionary.card(model, "code", made(both_signs(3)), IMAGES, 0, k=2)
    assert found.effect.shape == SHAPE and plot.card(found, IMAGES).axes


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_features": 0}, "n_features is 0"),
        ({"activation": "gelu", "k": 2}, "unknown activation 'gelu'; the known ones are relu, topk"),
        ({}, "k is None and the activation 'batch_topk', which needs it; give k"),
        ({"activation": "relu", "weight": 1, "k": 2}, "k is 2 and the activation 'relu', which knows none"),
        ({"activation": "relu"}, "weight is None and the activation 'relu', which needs it"),
        ({"k": 2, "weight": 1}, "weight is 1 .* knows none; leave weight out"),
        ({"k": 9}, "k is 9 and there are 6 features"),
        ({"k": 2, "widths": (4, 2, 6)}, "they must rise"),
        ({"k": 2, "widths": (2, 4)}, "the last be n_features, 6"),
        ({"k": 2, "seed": -1}, "seed is -1"),
        ({"activation": "relu", "weight": -1}, "weight is -1"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SparseDictionary(**({"n_features": 6} | options))


def test_data_that_make_no_sense_are_refused(x):
    model = SparseDictionary(6, k=2)
    with pytest.raises(ValueError, match=r"takes rows of activations, \(n, d\).*x.reshape\(-1, x.shape\[-1\]\)"):
        model.encode(np.zeros((2, 3, 3, 4)))
    with pytest.raises(ValueError, match="all 5 rows of activations are equal"):
        model.adapt(np.ones((5, 4)))
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match="brings its loss along"):
        model.fit(x, verbose=0)
    model = SparseDictionary(6, k=2)
    model.compile("adam")
    model.adapt(x)
    with pytest.raises(ValueError, match="NaN or infinite"):
        model.fit(np.full((4, 4), np.nan), verbose=0)
    with pytest.raises(ValueError, match="this model takes"):
        model.fit(np.ones((4, 5)), verbose=0)


def test_comparisons_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="3 and 2 dimensions"):
        dictionary.recovery(np.eye(3), np.eye(2))
    with pytest.raises(ValueError, match="1 of 2 directions have length 0"):
        dictionary.agreement(np.eye(2), np.array([[1, 0], [0, 0]]))
    with pytest.raises(ValueError, match="threshold is 2"):
        dictionary.recovery(np.eye(2), np.eye(2), threshold=2)
    with pytest.raises(ValueError, match=r"z has shape \(2, 2\) and true \(3, 3\)"):
        dictionary.firing_f1(np.eye(2), np.eye(3))


def test_splices_that_make_no_sense_are_refused():
    model, features = network(), made(np.eye(3))
    with pytest.raises(ValueError, match="no feature 3; the dictionary's are 0 to 2"):
        dictionary.splice(model, "hidden", features, ablate=[3])
    with pytest.raises(ValueError, match=r"no layer 'hiden' was called; the layers of this model are: .*hidden"):
        dictionary.splice(model, "hiden", features)(IMAGES)
    with pytest.raises(ValueError, match="the layer returns 2 numbers and the dictionary is one of 3"):
        dictionary.splice(model, "out", features)(IMAGES)
    with pytest.raises(ValueError, match="2 labels for 20 samples"):
        dictionary.card(model, "hidden", features, IMAGES, 0, labels=[0, 1])
