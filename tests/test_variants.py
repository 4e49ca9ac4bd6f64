"""The constrained and the variational autoencoders: their losses against closed forms, and what they promise."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from keras import layers

from tfae import losses, models, training

SHAPE = (28, 28, 1)


def parts(code_size=8, outputs=None, code_activation="linear"):
    encoder = [layers.Flatten(), layers.Dense(32, "tanh"), layers.Dense(outputs or code_size, code_activation)]
    decoder = [layers.Dense(32, "tanh"), layers.Dense(784, "sigmoid"), layers.Reshape(SHAPE)]
    return keras.Sequential([keras.Input(SHAPE), *encoder]), keras.Sequential([keras.Input((code_size,)), *decoder])


VARIANTS = {
    "denoising": lambda: models.DenoisingAutoencoder(*parts(), corruption="masking", level=0.3, seed=0),
    "tied": lambda: models.TiedAutoencoder(parts()[0]),
    "k-sparse": lambda: models.KSparseAutoencoder(*parts(), k=3),
    "l1": lambda: models.SparseAutoencoder(*parts(), penalty="l1", weight=1e-3),
    "kl": lambda: models.SparseAutoencoder(*parts(code_activation="sigmoid"), penalty="kl", weight=1e-2, rho=0.1),
    "contractive": lambda: models.ContractiveAutoencoder(*parts(), weight=1e-3),
    "variational": lambda: models.VariationalAutoencoder(*parts(outputs=16), beta=0.5, seed=0),
    "gaussian": lambda: models.VariationalAutoencoder(*parts(outputs=16), likelihood="gaussian", scale=0.3, seed=0),
    "importance": lambda: models.VariationalAutoencoder(*parts(outputs=16), importance_samples=4, seed=0),
}
every_variant = pytest.mark.parametrize("name", VARIANTS)


def compiled(name):
    keras.utils.set_random_seed(0)
    model = VARIANTS[name]()
    model.compile("adam", **({} if isinstance(model, models.VariationalAutoencoder) else {"loss": "mse"}))
    return model


@pytest.mark.slow
@every_variant
def test_trains_validates_and_survives_saving(name, images, tmp_path):
    model = compiled(name)
    history = model.fit(images, epochs=3, batch_size=64, verbose=0, validation_data=images[:64]).history
    assert history["loss"][-1] < history["loss"][0] and len(history["val_loss"]) == 3
    assert model.reconstruct(images).shape == images.shape and model.encode(images).shape == (256, 8)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    own = set(model.get_config()) - {"name", "encoder", "decoder"}
    assert type(loaded) is type(model) and all(loaded.get_config()[key] == model.get_config()[key] for key in own)
    np.testing.assert_array_equal(loaded.reconstruct(images), model.reconstruct(images))
    np.testing.assert_array_equal(loaded.encode(images), model.encode(images))


# --- sparse ----------------------------------------------------------------------------------------------------------


def of_codes():
    """A sparse autoencoder whose code is its input: activations made by hand."""
    encoder = keras.Sequential([keras.Input((4,)), layers.Activation("linear")])
    return lambda **options: models.SparseAutoencoder(
        encoder, keras.Sequential([keras.Input((4,)), layers.Dense(4)]), **options
    )


def test_kl_penalty_is_the_closed_form_on_hand_made_activations():
    z = np.array([[0.1, 0.2, 0.5, 0.9], [0.3, 0.0, 0.5, 0.7]], "float32")
    model = of_codes()(penalty="kl", weight=2.0, rho=0.1)
    expected = 2 * sum(scipy.stats.entropy([0.1, 0.9], [q, 1 - q]) for q in (0.2, 0.1, 0.5, 0.8))
    np.testing.assert_allclose(model.penalty(z), expected, rtol=1e-5)


def test_l1_penalty_is_a_sum_over_units_and_a_mean_over_samples():
    z = np.array([[1, -2, 0, 0.5], [0, 0, 0, 1]], "float32")
    np.testing.assert_allclose(of_codes()(penalty="l1", weight=0.1).penalty(z), 0.1 * (3.5 + 1) / 2, rtol=1e-6)


@pytest.mark.parametrize("name", ["l1", "kl"])
def test_a_sparsity_penalty_does_not_change_with_the_batch_size(name, images):
    model = compiled(name)
    once = float(model.penalty(images))
    np.testing.assert_allclose(float(model.penalty(np.concatenate([images] * 3))), once, rtol=1e-5)
    mse = float(model.reconstruction_error(images).mean())
    np.testing.assert_allclose(model.evaluate(images, batch_size=256, verbose=0), mse + once, rtol=1e-5)


@pytest.mark.slow
def test_kl_drives_the_mean_activation_on_held_out_data_to_rho():
    rng = np.random.default_rng(0)
    x = rng.random((1200, 20)).astype("float32")
    encoder = keras.Sequential([keras.Input((20,)), layers.Dense(12, "sigmoid")])
    decoder = keras.Sequential([keras.Input((12,)), layers.Dense(20)])
    keras.utils.set_random_seed(0)
    model = models.SparseAutoencoder(encoder, decoder, "kl", weight=1.0, rho=0.1)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    model.fit(x[:1000], epochs=30, batch_size=100, verbose=0)
    np.testing.assert_allclose(model.encode(x[1000:]).mean(axis=0), 0.1, rtol=0.1)


def test_k_sparse_codes_have_exactly_k_active_units(images):
    assert ((compiled("k-sparse").encode(images) != 0).sum(axis=1) == 3).all()


# --- contractive and denoising ---------------------------------------------------------------------------------------


def test_contractive_penalty_is_the_squared_norm_of_the_jacobian():
    """Against the closed form of one tanh layer: row j of the Jacobian is (1 - z_j²) w_j."""
    rng = np.random.default_rng(0)
    encoder = keras.Sequential([keras.Input((6,)), layers.Dense(4, "tanh")])
    model = models.ContractiveAutoencoder(encoder, keras.Sequential([keras.Input((4,)), layers.Dense(6)]), weight=3.0)
    x = rng.normal(size=(50, 6)).astype("float32")
    w = encoder.layers[0].get_weights()[0].astype("float64")
    z = np.tanh(x @ w)
    expected = 3 * np.mean(((1 - z**2) ** 2) @ (w**2).sum(axis=0))
    np.testing.assert_allclose(float(model.penalty(x)), expected, rtol=1e-5)


@pytest.mark.slow
def test_contraction_makes_the_code_steadier(images):
    steadiness = []
    for weight in (0.0, 0.1):
        keras.utils.set_random_seed(0)
        model = models.ContractiveAutoencoder(*parts(), weight=weight)
        model.compile(keras.optimizers.Adam(0.003), "mse")
        model.fit(images, epochs=10, batch_size=64, verbose=0)
        noise = 0.05 * np.random.default_rng(0).normal(size=images.shape).astype("float32")
        steadiness.append(np.square(model.encode(images + noise) - model.encode(images)).mean())
    assert steadiness[1] < 0.5 * steadiness[0]


def test_denoising_sees_damage_in_training_and_is_scored_on_the_clean_input(images):
    model = compiled("denoising")
    clean = ((model.reconstruct(images) - images) ** 2).mean()
    np.testing.assert_allclose(model.evaluate(images, verbose=0), clean, rtol=1e-5)
    assert not np.array_equal(model(images, training=True), model(images, training=False))


# --- tied ------------------------------------------------------------------------------------------------------------


def test_a_tied_decoder_is_the_encoder_transposed_with_biases_of_its_own(images):
    model = compiled("tied")
    model.fit(images, epochs=1, verbose=0)
    w1, b1, w2, b2 = model.encoder.get_weights()
    trained = {id(w) for w in model.trainable_variables}
    assert len(trained) == len(model.trainable_variables) == 6 and len(model.get_weights()) == 6
    c1, c2 = (np.asarray(bias) for bias in model.decoder.layers[0].biases)
    x = images.reshape(len(images), -1).astype("float64")
    z = np.tanh(x @ w1 + b1) @ w2 + b2
    expected = 1 / (1 + np.exp(-(np.tanh(z @ w2.T + c2) @ w1.T + c1)))
    np.testing.assert_allclose(model.reconstruct(images).reshape(len(images), -1), expected, atol=1e-5)


# --- variational -----------------------------------------------------------------------------------------------------


def by_hand(model, x):
    """Means, log-variances and the divergence per sample, from the encoder's raw output."""
    both = np.asarray(model.encoder(x), "float64")
    mean, log_variance = both[:, :8], both[:, 8:]
    return mean, log_variance, 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).sum(axis=1)


def test_the_loss_is_the_negative_bound_with_the_beta_of_the_formula(images):
    keras.utils.set_random_seed(0)
    both = parts(outputs=16)
    logs = {}
    for beta in (0.0, 1.0, 4.0):
        model = models.VariationalAutoencoder(*both, beta=beta, seed=3)  # the same weights and the same noise
        model.compile("adam")
        logs[beta] = model.evaluate(images, verbose=0, return_dict=True, batch_size=256)
    kl = by_hand(model, images)[2].mean()
    for beta, log in logs.items():
        np.testing.assert_allclose(log["kl"], kl, rtol=1e-4)  # a sum over units, a mean over samples: nats per sample
        np.testing.assert_allclose(log["loss"], -log["log_likelihood"] + beta * kl, rtol=1e-5)


@pytest.mark.slow
def test_elbo_is_the_expected_log_likelihood_less_the_divergence(images):
    model = compiled("variational")
    x = images[:3]
    mean, log_variance, kl = by_hand(model, x)
    noise = np.random.default_rng(0).normal(size=(4000, 3, 8))
    z = mean + np.exp(log_variance / 2) * noise
    p = model.decode(z.reshape(-1, 8).astype("float32")).reshape(4000, 3, 784).astype("float64")
    flat = x.reshape(3, 784)
    samples = (flat * np.log(p) + (1 - flat) * np.log(1 - p)).sum(axis=-1)
    standard_error = samples.std(axis=0) / np.sqrt(4000)
    elbo = model.elbo(x, n_samples=4000, seed=1)
    assert (np.abs(elbo - (samples.mean(axis=0) - kl)) < 5 * standard_error + 1e-3).all()
    np.testing.assert_array_equal(model.elbo(x, n_samples=10, seed=1), model.elbo(x, n_samples=10, seed=1))


@pytest.mark.slow
def test_more_importance_samples_never_lower_the_bound(images):
    model = compiled("variational")
    model.fit(images, epochs=5, batch_size=64, verbose=0)
    elbo = model.elbo(images, n_samples=50).mean()
    five, fifty = (model.log_likelihood(images, n_samples=n).mean() for n in (5, 50))
    assert elbo < five < fifty


@pytest.mark.slow
def test_log_likelihood_is_exact_where_it_can_be_computed():
    """A linear Gaussian model: p(x) is Gaussian, and importance sampling must find it."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=(2, 3)).astype("float32")
    decoder = keras.Sequential([keras.Input((2,)), layers.Dense(3, use_bias=False)])
    decoder.set_weights([w])
    encoder = keras.Sequential([keras.Input((3,)), layers.Dense(4)])
    precision = np.eye(2) + w @ w.T / 0.5**2
    covariance = np.linalg.inv(precision)
    encoder.set_weights([
        np.concatenate([w.T / 0.5**2 @ covariance, np.zeros((3, 2))], axis=1),
        np.concatenate([np.zeros(2), np.log(np.diag(covariance)) + 0.5]),
    ])  # fmt: skip
    model = models.VariationalAutoencoder(encoder, decoder, likelihood="gaussian", scale=0.5)
    x = rng.normal(size=(20, 3)).astype("float32")
    exact = scipy.stats.multivariate_normal(np.zeros(3), w.T @ w + 0.25 * np.eye(3)).logpdf(x)
    np.testing.assert_allclose(model.log_likelihood(x, n_samples=20_000, seed=0), exact, atol=0.05)
    assert (model.elbo(x, n_samples=2000) < exact).all()


def test_free_bits_are_spent_without_paying(images):
    keras.utils.set_random_seed(0)
    both = parts(outputs=16)
    free, paid = (models.VariationalAutoencoder(*both, free_bits=bits, seed=0) for bits in (100.0, 0.0))
    losses_ = []
    for model in (free, paid):
        model.compile("adam")
        losses_.append(model.evaluate(images, verbose=0, return_dict=True, batch_size=256))
    np.testing.assert_allclose(losses_[0]["loss"], -losses_[0]["log_likelihood"] + 100 * 8, rtol=1e-5)
    assert losses_[0]["kl"] == losses_[1]["kl"]


def shares_of_beta(history, beta):
    """What share of beta each epoch paid, from its logs: loss = -log-likelihood + share · beta · KL."""
    loss, log_likelihood, kl = (np.array(history[name]) for name in ("loss", "log_likelihood", "kl"))
    return (loss + log_likelihood) / (beta * kl)


def still(beta=0.5, **options):
    """A variational autoencoder that training does not change, so that its logs are those of one model."""
    keras.utils.set_random_seed(0)
    model = models.VariationalAutoencoder(*parts(outputs=16), beta=beta, seed=0, **options)
    model.compile(keras.optimizers.SGD(0.0))
    return model


@pytest.mark.slow
def test_annealing_raises_beta_in_even_steps_and_leaves_it_at_its_own_value(images):
    model = still()
    history = model.fit(images, epochs=5, verbose=0, callbacks=[training.BetaAnnealing(4)]).history
    np.testing.assert_allclose(shares_of_beta(history, 0.5), [0, 0.25, 0.5, 0.75, 1], atol=1e-3)
    assert float(model.beta.numpy()) == 0.5
    np.testing.assert_allclose(shares_of_beta(model.fit(images, verbose=0).history, 0.5), 1, atol=1e-3)


class Interrupt(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


def test_an_interrupted_annealing_leaves_beta_as_it_was(images):
    model = still(beta=4.0)
    with pytest.raises(KeyboardInterrupt):
        model.fit(images, epochs=4, verbose=0, callbacks=[training.BetaAnnealing(4), Interrupt()])
    history = model.fit(images, epochs=5, verbose=0, callbacks=[training.BetaAnnealing(4)]).history
    np.testing.assert_allclose(shares_of_beta(history, 4.0), [0, 0.25, 0.5, 0.75, 1], atol=1e-3)
    np.testing.assert_allclose(shares_of_beta(model.fit(images, verbose=0).history, 4.0), 1, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("resume_first", [True, False])
def test_annealing_and_resumption_go_together_in_any_order(resume_first, images, tmp_path):
    def fit(model, epochs, *more):
        run = training.Resume(tmp_path / "a.npz")
        both = [run, training.BetaAnnealing(4)] if resume_first else [training.BetaAnnealing(4), run]
        batches = run.batches(images, batch_size=32)
        model.fit(batches, epochs=epochs, shuffle=False, verbose=0, callbacks=[*both, *more])
        return run.history

    with pytest.raises(KeyboardInterrupt):
        fit(still(beta=4.0), 5, Interrupt())
    model = still(beta=4.0)
    np.testing.assert_allclose(shares_of_beta(fit(model, 5), 4.0), [0, 0.25, 0.5, 0.75, 1], atol=1e-3)
    assert float(model.beta.numpy()) == 4.0


@pytest.mark.slow
@pytest.mark.parametrize("annealing_first", [True, False])
def test_the_best_weights_come_back_with_the_whole_beta(annealing_first, images, tmp_path):
    model = still(beta=4.0)
    stop = training.EarlyStopping(monitor="loss", mode="min", patience=3)
    annealing = training.BetaAnnealing(4)
    path = str(tmp_path / "{epoch}.keras")
    both = [annealing, stop] if annealing_first else [stop, annealing]
    model.fit(images, epochs=4, verbose=0, callbacks=[*both, keras.callbacks.ModelCheckpoint(path)])
    loaded = keras.models.load_model(tmp_path / "2.keras")  # of a time when a quarter of beta was in force
    for one in (model, loaded):
        assert float(one.beta.numpy()) == 4.0
        history = one.fit(images, verbose=0).history
        np.testing.assert_allclose(shares_of_beta(history, 4.0), 1, atol=1e-3)


def test_annealing_needs_a_beta(images):
    with pytest.raises(ValueError, match="TiedAutoencoder has no beta"):
        compiled("tied").fit(images, verbose=0, callbacks=[training.BetaAnnealing(2)])
    with pytest.raises(ValueError, match="importance_samples is 4"):
        compiled("importance").fit(images, verbose=0, callbacks=[training.BetaAnnealing(2)])


def test_samples_come_from_the_prior_and_follow_the_seed(images):
    model = compiled("variational")
    first, same, other = (model.sample(6, seed=seed) for seed in (0, 0, 1))
    assert first.shape == (6, *SHAPE) and first.min() >= 0 and first.max() <= 1
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


def test_encode_distribution_agrees_with_encode(images):
    model = compiled("variational")
    mean, log_variance = model.encode_distribution(images)
    np.testing.assert_allclose(mean, model.encode(images), atol=1e-6)
    expected = losses.gaussian_kl(*by_hand(model, images)[:2])
    np.testing.assert_allclose(losses.gaussian_kl(mean, log_variance), expected, rtol=1e-3, atol=1e-5)


# --- conditional -----------------------------------------------------------------------------------------------------

LABELS = np.arange(256) % 3


def conditional(decoder_inputs=11, n_classes=3, **options):
    keras.utils.set_random_seed(0)
    encoder, decoder = parts(outputs=16)[0], parts(code_size=decoder_inputs)[1]
    model = models.ConditionalVariationalAutoencoder(encoder, decoder, n_classes, **options)
    model.compile("adam")
    return model


@pytest.mark.slow
def test_a_conditional_model_trains_validates_and_survives_saving(images, tmp_path):
    model = conditional(seed=0)
    validation = (images[:64], LABELS[:64])
    logs = model.fit(images, LABELS, epochs=3, batch_size=64, verbose=0, validation_data=validation).history
    assert logs["loss"][-1] < logs["loss"][0] and len(logs["val_loss"]) == 3
    batches = tf.data.Dataset.from_tensor_slices((images, LABELS)).batch(64)
    assert np.isfinite(model.evaluate(batches, verbose=0)).all()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.n_classes == 3 and loaded.encode(images).shape == (256, 8)
    reconstruction = model.reconstruct(images, labels=LABELS)
    np.testing.assert_array_equal(loaded.reconstruct(images, labels=LABELS), reconstruction)
    np.testing.assert_allclose(model.predict((images, LABELS), verbose=0), reconstruction, atol=1e-6)


def test_the_decoder_of_a_conditional_model_sees_the_code_and_the_class(images):
    model = conditional()
    z = model.encode(images[:6])
    joined = np.concatenate([z, np.eye(3, dtype="float32")[[0, 1, 2, 0, 1, 2]]], axis=1)
    expected = np.asarray(model.decoder(joined))
    np.testing.assert_allclose(model.decode(z, labels=LABELS[:6]), expected, atol=1e-6)
    np.testing.assert_allclose(model.reconstruct(images[:6], labels=LABELS[:6]), expected, atol=1e-6)
    errors = ((expected - images[:6]) ** 2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(model.reconstruction_error(images[:6], labels=LABELS[:6]), errors, rtol=1e-5)
    np.testing.assert_array_equal(model.sample(4, seed=1, labels=2), model.sample(4, seed=1, labels=[2] * 4))
    assert not np.allclose(model.sample(4, seed=1, labels=2), model.sample(4, seed=1, labels=1))


def test_a_conditional_model_that_ignores_the_class_is_the_plain_one(images):
    model = conditional(seed=3)
    kernel, *rest = model.decoder.get_weights()
    model.decoder.set_weights([np.concatenate([kernel[:8], np.zeros((3, 32))]), *rest])
    decoder = parts()[1]
    decoder.set_weights([kernel[:8], *rest])
    plain = models.VariationalAutoencoder(model.encoder, decoder, seed=3)
    plain.compile("adam")
    expected = plain.evaluate(images, verbose=0, batch_size=256)
    np.testing.assert_allclose(model.evaluate(images, LABELS, verbose=0, batch_size=256), expected, rtol=1e-5)
    for bound in ("elbo", "log_likelihood"):
        given = getattr(model, bound)(images[:9], n_samples=7, labels=LABELS[:9])
        np.testing.assert_allclose(given, getattr(plain, bound)(images[:9], n_samples=7), rtol=1e-5)


@pytest.mark.slow
def test_a_decoder_that_knows_the_class_explains_more(images):
    classes = np.repeat([0.1, 0.5, 0.9], 100)[:, None] * np.ones(784)
    x = classes.reshape(-1, *SHAPE).astype("float32")
    labels = np.repeat([0, 1, 2], 100)
    model = conditional()
    model.compile(keras.optimizers.Adam(0.01))
    model.fit(x, labels, epochs=40, batch_size=50, verbose=0)
    for label, grey in enumerate((0.1, 0.5, 0.9)):
        np.testing.assert_allclose(model.sample(20, seed=0, labels=label).mean(), grey, atol=0.05)
    wrong = model.elbo(x, labels=(labels + 1) % 3).mean()
    assert model.elbo(x, labels=labels).mean() > wrong + 10


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "labels are missing: give one whole number from 0 to 2 for each of the 256 samples"),
        (LABELS + 1, "labels go from 1 to 3"),
        (LABELS - 1, "labels go from -1 to 1"),
        (LABELS[:9], r"labels have shape \(9,\)"),
        (LABELS.astype("float32"), "dtype float32"),
        (np.eye(3)[LABELS], r"labels have shape \(256, 3\)"),
    ],
)
def test_wrong_labels_are_refused_before_training(images, labels, message):
    model = conditional()
    before = model.get_weights()
    for call in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match=message):
            call(images, labels, verbose=0)
    for answer in (model.reconstruct, model.elbo, model.log_likelihood, model.reconstruction_error):
        with pytest.raises(ValueError, match=message):
            answer(images, labels=labels)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    with pytest.raises(ValueError, match="labels are missing"):
        model.fit(tf.data.Dataset.from_tensor_slices(images).batch(64), verbose=0)
    with pytest.raises(ValueError, match="labels are missing"):
        model.fit(images, LABELS, validation_data=(images, None), verbose=0)
    with pytest.raises(ValueError, match="labels are missing"):
        model.sample(3)


# --- replicas --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_replicas_equal_one_on_the_same_global_batches():
    """The models that `test_loop` leaves out; in a process of its own, which sets up devices before it begins."""
    script = textwrap.dedent(
        """
        import tfae
        import keras, numpy as np, tensorflow as tf
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        from test_variants import VARIANTS, conditional, models

        x = np.random.default_rng(0).random((160, 28, 28, 1)).astype("float32")
        names = {
            "k-sparse": VARIANTS["k-sparse"], "contractive": VARIANTS["contractive"], "tied": VARIANTS["tied"],
            "conditional": lambda: still(conditional()),
        }

        def still(model):  # the noise fixed, at nothing: replicas draw different noise by design
            model.sampling.call = lambda mean, log_variance: mean
            return model

        def train(build, strategy):
            keras.utils.set_random_seed(0)
            with strategy.scope():
                model = build()
                loss = {} if isinstance(model, models.VariationalAutoencoder) else {"loss": "mse"}
                model.compile(keras.optimizers.SGD(0.05 if loss else 1e-4), **loss)  # the bound is hundreds of nats
            labels = (np.arange(160) % 3,) if "Conditional" in type(model).__name__ else ()
            validation = (x[:80], labels[0][:80]) if labels else x[:80]
            how = dict(epochs=10, batch_size=80, shuffle=False, verbose=0, validation_data=validation)
            history = model.fit(x, *labels, **how)
            return model.get_weights(), history.history["loss"]

        replicas = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])  # TensorFlow confuses the exchanges of several
        for name, build in names.items():
            one, loss = train(build, tf.distribute.get_strategy())
            two, losses = train(build, replicas)
            gap = max(np.abs(a - b).max() for a, b in zip(one, two))
            print(name, "weights", gap, "loss", np.abs(np.subtract(loss, losses)).max() / loss[0])
            assert gap < 1e-5 and np.allclose(loss, losses, rtol=1e-5), name
        """
    )
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(here), str(here.parent)])}
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr[-2000:]


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: models.SparseAutoencoder(*parts(), penalty="l2"), "unknown penalty 'l2'; the known ones are l1, kl"),
        (lambda: models.SparseAutoencoder(*parts(), weight=-1), r"weight is -1; it must be a number in \[0, inf\]"),
        (lambda: models.SparseAutoencoder(*parts(), rho=0), r"rho is 0; it must be a number in \(0, 1\)"),
        (lambda: models.SparseAutoencoder(*parts(), rho=1.0), r"rho is 1\.0"),
        (lambda: models.KSparseAutoencoder(*parts(), k=0), "k is 0"),
        (lambda: models.TiedAutoencoder(models.conv_encoder(SHAPE, 8)), r"only built Dense layers.*\(Conv2D\)"),
        (lambda: models.TiedAutoencoder(keras.Sequential([layers.Dense(8)])), "a tied encoder must be a built"),
        (lambda: models.ContractiveAutoencoder(*parts(), weight=float("nan")), "weight is nan"),
        (lambda: models.DenoisingAutoencoder(*parts(), corruption="blur"), "unknown corruption 'blur'"),
        (lambda: models.VariationalAutoencoder(*parts(), beta=-1), "beta is -1"),
        (lambda: models.VariationalAutoencoder(*parts(), likelihood="poisson"), "unknown likelihood 'poisson'"),
        (lambda: models.VariationalAutoencoder(*parts(), scale=0), "scale is 0"),
        (lambda: models.VariationalAutoencoder(*parts(), beta=2, importance_samples=5), "knows neither"),
        (lambda: training.BetaAnnealing(0), "epochs is 0"),
    ],
)
def test_a_variant_says_what_is_wrong(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_data_that_a_variant_cannot_take_are_refused_before_training(images):
    with pytest.raises(ValueError, match="k is 9 and there are 8 units"):
        models.KSparseAutoencoder(*parts(), k=9)
    linear = models.SparseAutoencoder(*parts(), penalty="kl")
    linear.compile("adam", "mse")
    with pytest.raises(ValueError, match="End the encoder with a sigmoid"):
        linear.fit(images, verbose=0)
    with pytest.raises(ValueError, match=r"targets in \[0, 1\]"):
        compiled("variational").fit(images * 2, verbose=0)
    with_loss = models.VariationalAutoencoder(*parts(outputs=16))
    with_loss.compile("adam", "mse")
    with pytest.raises(ValueError, match="the loss is 'mse'; this model has its own"):
        with_loss.fit(images, verbose=0)
    odd = models.VariationalAutoencoder(*parts(outputs=7))
    with pytest.raises(ValueError, match="returns 7 numbers per sample; it must return an even number"):
        odd.encode(images)


class Continued(models.VariationalAutoencoder):
    """The decoder's lower half begins from what stands in the upper half of the sample."""

    def decoded_for(self, z, x, training=None):
        decoded = self.decoded(z, training=training)
        upper = keras.ops.tile(x[:, :14], (keras.ops.shape(z)[0] // keras.ops.shape(x)[0], 1, 1, 1))
        return keras.ops.concatenate([decoded[:, :14], 0.5 * decoded[:, 14:] + 0.5 * upper], axis=1)


def test_a_decoder_may_see_a_part_of_the_sample(images):
    model = Continued(*parts(outputs=16), seed=0)
    x, z = images[:6], model.encode(images[:6])
    expected = model.decode(z)
    expected[:, 14:] = 0.5 * expected[:, 14:] + 0.5 * x[:, :14]
    np.testing.assert_allclose(model.reconstruct(x), expected, atol=1e-6)
    likelihood = losses.bernoulli_log_likelihood(x, expected)
    np.testing.assert_allclose(model.log_conditional(x, z), likelihood, rtol=1e-5)

    kernel, bias = model.encoder.layers[-1].get_weights()  # all but no noise: every code is its mean
    kernel[:, 8:], bias[8:] = 0, -40
    model.encoder.layers[-1].set_weights([kernel, bias])
    divergence = losses.gaussian_kl(*model.encode_distribution(x)).numpy().sum(axis=1)
    np.testing.assert_allclose(model.elbo(x, n_samples=11), likelihood - divergence, rtol=1e-4)
    model.compile("adam")
    bound = float(np.mean(likelihood - divergence))
    assert model.evaluate(x, verbose=0, return_dict=True)["loss"] == pytest.approx(-bound, rel=1e-4)
