"""Autoencoders: two Keras models joined at a code, and what each constraint adds (chapters 01 to 05).

>>> autoencoder = dense_autoencoder((28, 28, 1), code_size=32, seed=0)
>>> autoencoder.compile("adam", "mse")
>>> history = autoencoder.fit(x_train, epochs=10)  # doctest: +SKIP
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tfae.checks import (
    Shape,
    check_number,
    check_samples,
    check_seed,
    check_shape,
    check_size,
    check_unit_range,
    compatible,
    shape_text,
)
from tfae.layers import Corrupt, Sampling, TopK, TransposedDense
from tfae.losses import bernoulli_kl, bernoulli_log_likelihood, gaussian_kl, gaussian_log_likelihood
from tfae.trainer import Trainer, mean_over_replicas


@keras.saving.register_keras_serializable("tfae")
class Autoencoder(Trainer):
    """A decoder after an encoder, trained to return its input.

    It is an ordinary Keras model: ``compile``, ``fit``, ``evaluate``, callbacks and ``save`` are Keras's own. Only the
    target is different: where no `y` is given, it is the input.

    Parameters
    ----------
    encoder : keras.Layer
        Maps inputs ``(n, *input_shape)`` to codes ``(n, *code_shape)``. Any layer or model: functional, Sequential
        (built or not), nested or subclassed.
    decoder : keras.Layer
        Maps codes back to ``(n, *input_shape)``.

    Raises
    ------
    ValueError
        If a part is not a Keras layer; if the decoder returns another shape than the encoder takes; and, before any
        training step, if the data given to ``fit`` or ``evaluate`` are empty, of the wrong shape, not finite, or
        outside [0, 1] while the loss is a binary cross-entropy.

    Notes
    -----
    Chapter 01 introduces the model, chapter 02 what it minimises, chapter 03 how it is trained.
    """

    def __init__(self, encoder: keras.Layer, decoder: keras.Layer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name, part in (("encoder", encoder), ("decoder", decoder)):
            if not isinstance(part, keras.Layer):
                raise ValueError(f"the {name} must be a Keras layer or model, not {type(part).__name__}: {part!r}")
        self.encoder = encoder
        self.decoder = decoder
        self.built = encoder.built and decoder.built  # else Keras builds all of it at the first call

    def call(self, x: Any, training: bool | None = None) -> Any:
        reconstruction = self.decoder(self.code(x, training=training), training=training)
        if not compatible(reconstruction.shape[1:], x.shape[1:]):
            raise ValueError(
                f"the decoder returns samples of shape {shape_text(reconstruction.shape[1:])} for inputs of shape "
                f"{shape_text(x.shape[1:])}; the two must be equal. For images and Dense layers, begin the "
                f"encoder with Flatten() and end the decoder with Dense({math.prod(d or 1 for d in x.shape[1:])}) and "
                f"Reshape({shape_text(x.shape[1:])})."
            )
        return reconstruction

    def code(self, x: Any, training: bool | None = None) -> Any:
        """Return the tensor of codes that the decoder gets for the tensor `x`."""
        return self.encoder(x, training=training)

    def constrained(self, z: Any) -> Any:
        """Return the nearest codes to the tensor `z` that the decoder could get: here `z` itself, any code will do."""
        return z

    def penalty(self, x: Any, training: bool | None = None) -> Any:
        """Return what is added to the loss of the batch `x`: here nothing, in the variants their constraint."""
        return None

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        loss = super().compute_loss(x, x if y is None else y, y_pred, sample_weight, training)
        penalty = self.penalty(x, training=training)
        return loss if penalty is None else loss + self._aggregate_additional_loss(penalty)  # shared among replicas

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        return super().compute_metrics(x, x if y is None else y, y_pred, sample_weight)

    # Keras's fit and evaluate, after one look at the data.

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        self._check_targets(x, y)
        validation = kwargs.get("validation_data")
        if validation is not None:
            self._check_targets(*(validation[:2] if isinstance(validation, tuple) else (validation, None)))
        return super().fit(x, y, *args, **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        self._check_targets(x, y)
        return super().evaluate(x, y, *args, **kwargs)

    def encode(self, x: Any, batch_size: int = 1024) -> np.ndarray:
        """Return the codes of `x`, shape ``(n, *code_shape)``, computed `batch_size` samples at a time."""
        return _in_batches(self.code, check_samples(x, self._sample_shape()), batch_size)

    def decode(self, z: Any, batch_size: int = 1024) -> np.ndarray:
        """Return the decoder's outputs for the codes `z`, shape ``(n, *input_shape)``."""
        return _in_batches(self.decoder, check_samples(z, _input_shape(self.decoder), "z"), batch_size)

    def reconstruct(self, x: Any, batch_size: int = 1024) -> np.ndarray:
        """Return what the model makes of `x`, in the same shape."""
        return _in_batches(self, self._samples(x), batch_size)

    def reconstruction_error(self, x: Any, batch_size: int = 1024) -> np.ndarray:
        """Return the squared error of each sample, averaged over its features as in Keras's ``mse``; shape ``(n,)``.

        Multiply by the number of features for the squared distance. Memory is bounded by `batch_size`, not by `x`.
        """

        def error(batch: Any) -> Any:
            reconstruction = self(batch)
            squares = ops.square(reconstruction - keras.tree.flatten(batch)[0])
            return ops.mean(squares, axis=tuple(range(1, len(reconstruction.shape))))

        return _in_batches(error, self._samples(x), batch_size)

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return super().get_config() | {"encoder": serialize(self.encoder), "decoder": serialize(self.decoder)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Autoencoder":
        deserialize = keras.saving.deserialize_keras_object
        parts = {name: deserialize(config[name]) for name in ("encoder", "decoder") if name in config}
        return cls(**(config | parts))

    def _sample_shape(self) -> Shape | None:
        """Shape of one sample: from the encoder, else from the first data this model saw, else unknown yet."""
        seen = (self.get_build_config() or {}).get("input_shape")
        return _input_shape(self.encoder) or (tuple(seen[1:]) if seen else None)

    def _samples(self, x: Any) -> Any:
        """Return what the model is called with, checked."""
        return check_samples(x, self._sample_shape())

    def _check_targets(self, x: Any, y: Any) -> None:
        if not _is_array(x):
            return  # a tf.data.Dataset or a generator is read batch by batch, and Keras checks its shapes
        x = check_samples(x, self._sample_shape())
        if y is not None and np.shape(y) != x.shape:
            raise ValueError(
                f"y has shape {np.shape(y)} and x has shape {x.shape}. The target of an autoencoder has the shape of "
                f"its input: call fit(x), or fit(x, clean_x)."
            )
        if _is_cross_entropy(getattr(self, "loss", None)):
            check_unit_range(x if y is None else np.asarray(y))


# --- variants --------------------------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable("tfae")
class DenoisingAutoencoder(Autoencoder):
    """An autoencoder that sees a damaged input in training and has to return the undamaged one (chapter 04) [1]_.

    Parameters
    ----------
    encoder, decoder
        As in `Autoencoder`.
    corruption, level, seed
        As in `tfae.layers.Corrupt`. Outside training nothing is damaged.

    References
    ----------
    .. [1] P. Vincent, H. Larochelle, Y. Bengio and P.-A. Manzagol, "Extracting and composing robust features with
       denoising autoencoders", ICML 2008.
    """

    def __init__(
        self,
        encoder: keras.Layer,
        decoder: keras.Layer,
        corruption: str = "gaussian",
        level: float = 0.3,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, decoder, **kwargs)
        self.corrupt = Corrupt(corruption, level, seed)

    def code(self, x: Any, training: bool | None = None) -> Any:
        return super().code(self.corrupt(x, training=training), training=training)

    def get_config(self) -> dict[str, Any]:
        corrupt = self.corrupt
        return super().get_config() | {"corruption": corrupt.kind, "level": corrupt.level, "seed": corrupt.seed}


@keras.saving.register_keras_serializable("tfae")
class TiedAutoencoder(Autoencoder):
    """An autoencoder whose decoder is its encoder transposed: half the weights, and a shorter search (chapter 04).

    Parameters
    ----------
    encoder : keras.Sequential
        Built, of an optional Flatten and Dense layers: what `dense_encoder` makes.
    output_activation : str or callable
        Of the reconstruction.

    Raises
    ------
    ValueError
        If the encoder is not built, or holds a layer that has no transpose here; the message names it.
    """

    def __init__(self, encoder: keras.Sequential, output_activation: str | Callable = "sigmoid", **kwargs: Any) -> None:
        shape = _input_shape(encoder)
        if not isinstance(encoder, keras.Sequential) or shape is None:
            raise ValueError(f"a tied encoder must be a built keras.Sequential, not {encoder!r}; see dense_encoder")
        dense = [layer for layer in encoder.layers if not isinstance(layer, layers.Flatten)]
        transposed = TransposedDense(dense, _activation(output_activation))
        decoder = keras.Sequential([keras.Input(encoder.output_shape[1:]), transposed, layers.Reshape(shape)])
        super().__init__(encoder, decoder, **kwargs)
        self.output_activation = output_activation

    def get_config(self) -> dict[str, Any]:
        activation = keras.activations.serialize(_activation(self.output_activation))
        encoder = keras.saving.serialize_keras_object(self.encoder)  # the decoder is made from it
        return keras.Model.get_config(self) | {"encoder": encoder, "output_activation": activation}


@keras.saving.register_keras_serializable("tfae")
class KSparseAutoencoder(Autoencoder):
    """An autoencoder whose code keeps the `k` largest units of each sample and sets the others to 0 (chapter 04) [1]_.

    Parameters
    ----------
    encoder, decoder
        As in `Autoencoder`; the code is flat, ``(n, units)``.
    k : int
        Active units per sample, at most the number of units.

    Raises
    ------
    ValueError
        If `k` is not a whole number of at least 1, or, at the first call, larger than the code.

    References
    ----------
    .. [1] A. Makhzani and B. Frey, "k-sparse autoencoders", arXiv:1312.5663.
    """

    def __init__(self, encoder: keras.Layer, decoder: keras.Layer, k: int, **kwargs: Any) -> None:
        super().__init__(encoder, decoder, **kwargs)
        self.top_k = TopK(k)
        self.built = False  # the first call compares k with the code

    def code(self, x: Any, training: bool | None = None) -> Any:
        return self.top_k(super().code(x, training=training))

    def constrained(self, z: Any) -> Any:
        """Return `z` with its `k` units furthest from 0; a code of `k` active units stays, negative ones too."""
        return z * ops.cast(self.top_k(ops.abs(z)) > 0, z.dtype)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"k": self.top_k.k}


@keras.saving.register_keras_serializable("tfae")
class SparseAutoencoder(Autoencoder):
    r"""An autoencoder that pays for active code units (chapter 04).

    With ``penalty="l1"`` it pays :math:`\sum_j |z_j|`, averaged over the batch. With ``penalty="kl"`` it pays
    :math:`\sum_j KL(\rho \| \hat\rho_j)`, where :math:`\hat\rho_j` is unit j's mean activation over the batch [1]_.
    Either stands in the loss as written here, times `weight`: it is not divided by the batch size or the number of
    units, so `weight` means the same at every batch size. Beside it, ``mse`` is a mean over features.

    Parameters
    ----------
    encoder, decoder
        As in `Autoencoder`. The KL penalty reads activations as probabilities: give the code a sigmoid.
    penalty : str
        ``"l1"`` or ``"kl"``.
    weight : float
        At least 0.
    rho : float
        Wanted mean activation, in (0, 1). Used by ``"kl"`` alone.

    Raises
    ------
    ValueError
        If `penalty` is not known, `weight` is negative or `rho` is outside (0, 1); and, under ``"kl"``, when ``fit``
        or ``evaluate`` gets arrays whose first codes leave [0, 1].

    Notes
    -----
    Under ``tf.distribute`` the mean activation is that of the global batch.

    References
    ----------
    .. [1] A. Ng, "Sparse autoencoder", CS294A lecture notes, Stanford University, 2011.
    """

    def __init__(
        self,
        encoder: keras.Layer,
        decoder: keras.Layer,
        penalty: str = "l1",
        weight: float = 1e-3,
        rho: float = 0.05,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, decoder, **kwargs)
        if penalty not in ("l1", "kl"):
            raise ValueError(f"unknown penalty {penalty!r}; the known ones are l1, kl")
        self.penalty_name = penalty
        self.weight = check_number(weight, "weight", 0)
        self.rho = check_number(rho, "rho", 0, 1, open_ends=True)

    def penalty(self, x: Any, training: bool | None = None) -> Any:
        z = self.code(x, training=training)
        if self.penalty_name == "l1":
            units = tuple(range(1, len(z.shape)))
            return self.weight * ops.mean(ops.sum(ops.abs(z), axis=units))
        rho_hat = ops.mean(z, axis=tuple(range(len(z.shape) - 1)))  # (units,)
        return self.weight * ops.sum(bernoulli_kl(self.rho, mean_over_replicas(rho_hat)))

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"penalty": self.penalty_name, "weight": self.weight, "rho": self.rho}

    def _check_targets(self, x: Any, y: Any) -> None:
        super()._check_targets(x, y)
        if self.penalty_name == "kl" and _is_array(x):
            z = self.encode(x[:32])
            if z.min() < 0 or z.max() > 1:
                raise ValueError(
                    f"the KL penalty reads activations as probabilities, and these codes go from {z.min():g} to "
                    f"{z.max():g}. End the encoder with a sigmoid, or use penalty='l1'."
                )


@keras.saving.register_keras_serializable("tfae")
class ContractiveAutoencoder(Autoencoder):
    r"""An autoencoder that pays for a code that changes with its input (chapter 04) [1]_.

    The loss gets `weight` times :math:`\| \partial z / \partial x \|_F^2`, the squared Frobenius norm of the encoder's
    Jacobian, averaged over the batch. It is computed exactly, for any encoder, in one vectorised pass.

    Parameters
    ----------
    encoder, decoder
        As in `Autoencoder`; the code is flat, ``(n, units)``.
    weight : float
        At least 0.

    Raises
    ------
    ValueError
        If `weight` is negative.

    References
    ----------
    .. [1] S. Rifai, P. Vincent, X. Muller, X. Glorot and Y. Bengio, "Contractive auto-encoders: explicit invariance
       during feature extraction", ICML 2011.
    """

    def __init__(self, encoder: keras.Layer, decoder: keras.Layer, weight: float = 1e-3, **kwargs: Any) -> None:
        super().__init__(encoder, decoder, **kwargs)
        self.weight = check_number(weight, "weight", 0)

    def penalty(self, x: Any, training: bool | None = None) -> Any:
        x = ops.convert_to_tensor(x, dtype=self.compute_dtype)
        with tf.GradientTape() as tape:
            tape.watch(x)
            z = self.code(x, training=training)
        jacobian = tape.batch_jacobian(z, x)  # (n, units, *sample)
        squares = ops.sum(ops.square(jacobian), axis=tuple(range(1, len(jacobian.shape))))
        return self.weight * ops.mean(squares)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"weight": self.weight}


@keras.saving.register_keras_serializable("tfae")
class VariationalAutoencoder(Autoencoder):
    r"""An autoencoder whose code is a distribution (chapter 05) [1]_.

    It maximises the evidence lower bound, in nats per sample,

    .. math:: E_{q(z|x)}[\log p(x|z)] - \beta \, KL(q(z|x) \| N(0, 1)),

    with both terms summed over features and code units and averaged over the batch: beta is the beta of the formula.
    The loss is the negative bound, so ``compile`` gets none. ``fit`` logs ``log_likelihood`` and ``kl`` beside it.

    Parameters
    ----------
    encoder : keras.Layer
        Maps samples to ``(n, 2 k)`` numbers: the k means of the code, then the k logarithms of its variances.
    decoder : keras.Layer
        Maps codes ``(n, k)`` to the shape of the samples: probabilities of ink for the Bernoulli likelihood (end it
        with a sigmoid), means for the Gaussian one.
    beta : float
        Weight of the divergence, at least 0. `tfae.training.BetaAnnealing` raises it from 0 during training.
    likelihood : str
        ``"bernoulli"``, for samples in [0, 1], or ``"gaussian"``.
    scale : float
        Standard deviation of the Gaussian likelihood, above 0.
    free_bits : float
        Nats of divergence that each unit may spend on each sample without paying, at least 0 [2]_.
    importance_samples : int
        With more than one, train on the importance-weighted bound of that many samples [3]_, which is tighter and knows
        neither `beta` nor `free_bits`.
    seed : int, optional
        Fixes the noise of the code in training.

    Raises
    ------
    ValueError
        If an option is unknown or out of range, if the encoder's output cannot be halved, and before
        training if ``compile`` got a loss or ``fit`` gets samples outside [0, 1] under the Bernoulli likelihood.

    References
    ----------
    .. [1] D. P. Kingma and M. Welling, "Auto-encoding variational Bayes", arXiv:1312.6114.
    .. [2] D. P. Kingma et al., "Improving variational inference with inverse autoregressive flow", arXiv:1606.04934.
    .. [3] Y. Burda, R. Grosse and R. Salakhutdinov, "Importance weighted autoencoders", arXiv:1509.00519.
    """

    def __init__(
        self,
        encoder: keras.Layer,
        decoder: keras.Layer,
        beta: float = 1.0,
        likelihood: str = "bernoulli",
        scale: float = 1.0,
        free_bits: float = 0.0,
        importance_samples: int = 1,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, decoder, **kwargs)
        if likelihood not in ("bernoulli", "gaussian"):
            raise ValueError(f"unknown likelihood {likelihood!r}; the known ones are bernoulli, gaussian")
        self.likelihood = likelihood
        self.scale = check_number(scale, "scale", 0, open_ends=True)
        self.free_bits = check_number(free_bits, "free_bits", 0)
        self.importance_samples = check_size(importance_samples, "importance_samples")
        if self.importance_samples > 1 and (beta != 1 or free_bits != 0):
            raise ValueError(
                f"importance_samples is {importance_samples} with beta={beta} and free_bits={free_bits}; the "
                f"importance-weighted bound knows neither. Leave beta at 1 and free_bits at 0, or take one sample."
            )
        self.beta = keras.Variable(check_number(beta, "beta", 0), trainable=False, name="beta")
        self.sampling = Sampling(seed)
        self.trackers = [keras.metrics.Mean(name) for name in ("log_likelihood", "kl")]

    # The two distributions.

    def posterior(self, x: Any, training: bool | None = None) -> tuple[Any, Any]:
        """Return the tensors of means and log-variances of q(z|x), each ``(n, k)``."""
        both = self.encoder(x, training=training)
        if both.shape[-1] % 2:
            raise ValueError(
                f"the encoder returns {both.shape[-1]} numbers per sample; it must return an even number, the means of "
                f"the code and then the logarithms of its variances"
            )
        mean, log_variance = ops.split(both, 2, axis=-1)
        return mean, log_variance

    def log_conditional(self, x: Any, z: Any, training: bool | None = None) -> Any:
        """Return log p(x|z) in nats, shape ``(n,)``, for tensors of samples and codes."""
        decoded = self.decoder(z, training=training)
        if self.likelihood == "bernoulli":
            return bernoulli_log_likelihood(x, decoded)
        return gaussian_log_likelihood(x, decoded, self.scale)

    def code(self, x: Any, training: bool | None = None) -> Any:
        """Return the mean of q(z|x): the code that `encode` and `reconstruct` use."""
        return self.posterior(x, training=training)[0]

    # Training.

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        x = keras.tree.map_structure(lambda part: ops.convert_to_tensor(part, dtype=self.compute_dtype), x)
        mean, log_variance = self.posterior(x, training=training)
        kl = gaussian_kl(mean, log_variance)  # (n, k)
        if self.importance_samples == 1:
            log_likelihood = self.log_conditional(x, self.sampling(mean, log_variance), training=training)
            paid = ops.sum(ops.maximum(kl, self.free_bits), axis=-1)
            bound = log_likelihood - self.beta * paid
        else:
            log_likelihood, bound = self._importance_weighted(x, mean, log_variance, training)
        for tracker, values in zip(self.trackers, (log_likelihood, ops.sum(kl, axis=-1)), strict=True):
            tracker.update_state(values)
        return self._aggregate_additional_loss(-ops.mean(bound))

    def _importance_weighted(self, x: Any, mean: Any, log_variance: Any, training: bool) -> tuple[Any, Any]:
        likelihoods, log_weights = [], []
        for _ in range(self.importance_samples):
            z = self.sampling(mean, log_variance)
            likelihoods.append(self.log_conditional(x, z, training=training))
            log_weights.append(likelihoods[-1] + _log_prior_over_posterior(z, mean, log_variance))
        bound = ops.logsumexp(ops.stack(log_weights), axis=0) - math.log(self.importance_samples)
        return ops.mean(ops.stack(likelihoods), axis=0), bound

    # Answers.

    def encode_distribution(self, x: Any, batch_size: int = 1024) -> tuple[np.ndarray, np.ndarray]:
        """Return the means and log-variances of q(z|x), each ``(n, k)``."""
        both = _in_batches(self.encoder, check_samples(x, self._sample_shape()), batch_size)
        mean, log_variance = np.split(both, 2, axis=-1)
        return mean, log_variance

    def sample(self, n: int, seed: int | None = None) -> np.ndarray:
        """Return `n` decoded draws from the prior: means of p(x|z), not noisy pixels."""
        return self.decode(self._prior(n, seed))

    def _prior(self, n: int, seed: int | None) -> np.ndarray:
        """Return `n` draws of as many standard normal numbers as the decoder takes."""
        shape = _input_shape(self.decoder)
        if shape is None:
            raise ValueError("the decoder has not seen a code yet, so its size is unknown; fit or encode first")
        rng = np.random.default_rng(None if seed is None else check_seed(seed))
        return rng.normal(size=(check_size(n, "n"), *(size or 1 for size in shape))).astype("float32")

    def elbo(self, x: Any, n_samples: int = 1, seed: int = 0, batch_size: int = 256) -> np.ndarray:
        """Return the evidence lower bound of each sample at beta = 1, in nats, shape ``(n,)``.

        The divergence is exact; the expected log-likelihood is the mean over `n_samples` codes.
        """

        def reduce(log_likelihoods: Any, _: Any) -> Any:
            return ops.mean(log_likelihoods, axis=0)

        def divergence(batch: Any) -> Any:
            return ops.sum(gaussian_kl(*self.posterior(batch)), axis=-1)

        x = self._samples(x)
        expected = self._over_samples(x, n_samples, seed, batch_size, reduce)
        return expected - _in_batches(divergence, x, batch_size)

    def log_likelihood(self, x: Any, n_samples: int = 100, seed: int = 0, batch_size: int = 256) -> np.ndarray:
        """Return the importance-weighted bound on log p(x) of each sample, in nats, shape ``(n,)`` [3]_.

        It rises towards log p(x) with `n_samples`; with one sample its mean is the `elbo`'s.
        """

        def reduce(_: Any, log_weights: Any) -> Any:
            return ops.logsumexp(log_weights, axis=0) - math.log(n_samples)

        return self._over_samples(self._samples(x), n_samples, seed, batch_size, reduce)

    def _over_samples(self, x: Any, n_samples: int, seed: int, batch_size: int, reduce: Callable) -> np.ndarray:
        """Draw codes for each sample and reduce log p(x|z) and log p(x|z) p(z) / q(z|x), both (n_samples, n)."""
        check_size(n_samples, "n_samples")
        check_seed(seed)
        chunk = max(1, 8192 // batch_size)  # codes decoded at once: bounds the memory whatever n_samples is
        starts = itertools.count()
        specification = keras.tree.map_structure(
            lambda part: tf.TensorSpec((None, *part.shape[1:]), self.compute_dtype), x
        )
        number = tf.TensorSpec((), tf.int32)  # one graph for all counts: traced once for each model
        terms = self._terms.get_concrete_function(specification, number, tf.TensorSpec((2,), tf.int32))

        def reduced(batch: Any) -> Any:
            batch = keras.tree.map_structure(lambda part: tf.convert_to_tensor(part, self.compute_dtype), batch)
            counts = [min(chunk, n_samples - done) for done in range(0, n_samples, chunk)]
            parts = [terms(batch, tf.constant(count), tf.constant([seed, next(starts)])) for count in counts]
            return reduce(*(ops.concatenate(part) for part in zip(*parts, strict=True)))

        return _in_batches(reduced, x, batch_size)

    @tf.function(autograph=False)
    def _terms(self, batch: Any, count: Any, seed: Any) -> tuple[Any, Any]:
        mean, log_variance = self.posterior(batch, training=False)  # (b, k)
        epsilon = tf.random.stateless_normal((count, tf.shape(mean)[0], mean.shape[1]), seed)
        z = mean + ops.exp(0.5 * log_variance) * epsilon  # (count, b, k)
        tiled = keras.tree.map_structure(lambda part: tf.tile(part, [count] + [1] * (len(part.shape) - 1)), batch)
        log_likelihood = self.log_conditional(tiled, tf.reshape(z, (-1, mean.shape[1])), training=False)
        log_likelihood = tf.reshape(log_likelihood, (count, -1))  # (count, b)
        return log_likelihood, log_likelihood + _log_prior_over_posterior(z, mean, log_variance)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "beta": float(self.beta.numpy()),
            "likelihood": self.likelihood,
            "scale": self.scale,
            "free_bits": self.free_bits,
            "importance_samples": self.importance_samples,
            "seed": self.sampling.seed,
        }

    def _check_targets(self, x: Any, y: Any) -> None:
        super()._check_targets(x, y)
        if getattr(self, "loss", None) is not None:
            raise ValueError(f"the loss is {self.loss!r}; this model has its own, the negative bound: compile without")
        if self.likelihood == "bernoulli" and _is_array(x):
            check_unit_range(np.asarray(x))


@keras.saving.register_keras_serializable("tfae")
class ConditionalVariationalAutoencoder(VariationalAutoencoder):
    r"""A variational autoencoder whose decoder is told the class, so that a class can be asked for (chapter 05) [1]_.

    It maximises :math:`E_{q(z|x)}[\log p(x|z, y)] - \beta \, KL(q(z|x) \| N(0, 1))`, a lower bound on
    :math:`\log p(x|y)`. What the class says need not stand in the code, which is left to say the rest: the style.

    ``fit(x, labels)`` takes integer labels where other autoencoders take targets, and ``validation_data`` is
    ``(x, labels)``. A direct call, and ``predict``, take the pair ``(x, labels)``; the methods take ``labels=``.

    Parameters
    ----------
    encoder : keras.Layer
        As in `VariationalAutoencoder`. It sees the sample alone, so that unlabelled samples can be encoded.
    decoder : keras.Layer
        Maps ``(n, k + n_classes)`` numbers, the code and then the class as one-hot, to the shape of the samples.
    n_classes : int
        Labels are whole numbers from 0 to ``n_classes - 1``.
    **options
        As in `VariationalAutoencoder`.

    Raises
    ------
    ValueError
        If labels are missing, not whole numbers, out of range or not as many as the samples; and as in
        `VariationalAutoencoder`.

    References
    ----------
    .. [1] K. Sohn, H. Lee and X. Yan, "Learning structured output representation using deep conditional generative
       models", NeurIPS 2015.
    """

    def __init__(self, encoder: keras.Layer, decoder: keras.Layer, n_classes: int, **options: Any) -> None:
        super().__init__(encoder, decoder, **options)
        self.n_classes = check_size(n_classes, "n_classes")

    # The pair (x, labels) takes the place of x.

    def posterior(self, x: Any, training: bool | None = None) -> tuple[Any, Any]:
        return super().posterior(x[0] if isinstance(x, tuple | list) else x, training)

    def log_conditional(self, x: Any, z: Any, training: bool | None = None) -> Any:
        return super().log_conditional(x[0], self._join(z, x[1]), training)

    def call(self, x: Any, training: bool | None = None) -> Any:
        return self.decoder(self._join(self.code(x, training=training), x[1]), training=training)

    def train_step(self, data: Any) -> dict[str, Any]:
        return super().train_step(_paired(data))

    def test_step(self, data: Any) -> dict[str, Any]:
        return super().test_step(_paired(data))

    def _join(self, z: Any, labels: Any) -> Any:
        return ops.concatenate([z, ops.one_hot(ops.cast(labels, "int32"), self.n_classes, dtype=z.dtype)], axis=-1)

    # Answers.

    def decode(self, z: Any, batch_size: int = 1024, labels: Any = None) -> np.ndarray:
        shape = _input_shape(self.decoder)
        size = shape[0] - self.n_classes if shape and shape[0] else None
        z = check_samples(z, (size,), "z")
        joined = np.asarray(self._join(ops.convert_to_tensor(z, self.compute_dtype), self._labels(labels, len(z))))
        return super().decode(joined, batch_size)

    def reconstruct(self, x: Any, batch_size: int = 1024, labels: Any = None) -> np.ndarray:
        return super().reconstruct((x, labels), batch_size)

    def reconstruction_error(self, x: Any, batch_size: int = 1024, labels: Any = None) -> np.ndarray:
        return super().reconstruction_error((x, labels), batch_size)

    def sample(self, n: int, seed: int | None = None, labels: Any = None) -> np.ndarray:
        """Return `n` decoded draws from the prior; `labels` is one class for all of them, or one for each."""
        return self.decode(self._prior(n, seed)[:, : -self.n_classes], labels=labels)

    def elbo(self, x: Any, n_samples: int = 1, seed: int = 0, batch_size: int = 256, labels: Any = None) -> np.ndarray:
        return super().elbo((x, labels), n_samples, seed, batch_size)

    def log_likelihood(
        self, x: Any, n_samples: int = 100, seed: int = 0, batch_size: int = 256, labels: Any = None
    ) -> np.ndarray:
        return super().log_likelihood((x, labels), n_samples, seed, batch_size)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"n_classes": self.n_classes}

    def _sample_shape(self) -> Shape | None:
        return _input_shape(self.encoder)

    def _samples(self, x: Any) -> Any:
        samples = check_samples(x[0], self._sample_shape())
        return samples, self._labels(x[1], len(samples))

    def _labels(self, labels: Any, n: int) -> np.ndarray:
        accepted = f"give one whole number from 0 to {self.n_classes - 1} for each of the {n} samples"
        if labels is None:
            raise ValueError(f"labels are missing: {accepted}, fit(x, labels) or labels=...")
        labels = np.asarray(labels)
        if labels.ndim == 0:
            labels = np.full(n, labels)
        if labels.shape != (n,) or labels.dtype.kind not in "iu":
            raise ValueError(f"labels have shape {labels.shape} and dtype {labels.dtype}; {accepted}")
        if labels.min() < 0 or labels.max() >= self.n_classes:
            raise ValueError(f"labels go from {labels.min()} to {labels.max()}; {accepted}")
        return labels.astype("int32")

    def _check_targets(self, x: Any, y: Any) -> None:
        super()._check_targets(x, None)
        if _is_array(x):
            pair = self._samples((x, y))
            if not self.built:
                self(tuple(part[:1] for part in pair))  # Keras cannot build it from x alone


# --- builders --------------------------------------------------------------------------------------------------------


def linear_autoencoder(input_shape: int | Sequence[int], code_size: int, *, seed: int | None = None) -> Autoencoder:
    """Build an autoencoder of one linear layer each way, the network whose optimum is PCA (chapter 02).

    Parameters
    ----------
    input_shape : int or tuple of int
        Shape of one sample, ``(28, 28, 1)`` or ``30``.
    code_size : int
        Number of code units.
    seed : int, optional
        Fixes the initial weights. Without it they follow ``keras.utils.set_random_seed``.

    References
    ----------
    .. [1] P. Baldi and K. Hornik, "Neural networks and principal component analysis: learning from examples without
       local minima", Neural Networks 2, 1989.
    """
    return dense_autoencoder(input_shape, code_size, hidden=(), output_activation="linear", seed=seed)


def dense_autoencoder(
    input_shape: int | Sequence[int],
    code_size: int,
    hidden: Sequence[int] = (128, 64),
    *,
    activation: str | Callable = "relu",
    code_activation: str | Callable = "linear",
    output_activation: str | Callable = "sigmoid",
    seed: int | None = None,
) -> Autoencoder:
    """Build an autoencoder of dense layers, `dense_encoder` and `dense_decoder` (chapters 00 to 03).

    Parameters
    ----------
    input_shape : int or tuple of int
        Shape of one sample; images are flattened on the way in and put back into shape on the way out.
    code_size : int
        Number of code units.
    hidden : sequence of int
        Widths of the encoder's hidden layers; the decoder has the same in reverse.
    activation, code_activation, output_activation : str or callable
        Of the hidden layers, the code and the output. ``"sigmoid"`` keeps the output in [0, 1], ``"linear"`` suits
        standardised tables.
    seed : int, optional
        Fixes the initial weights. Without it they follow ``keras.utils.set_random_seed``.

    Raises
    ------
    ValueError
        If a size is not a whole number of at least 1, or an activation is unknown to Keras.
    """
    rng = _generator(seed)
    encoder = dense_encoder(
        input_shape, code_size, hidden, activation=activation, code_activation=code_activation, seed=rng
    )
    decoder = dense_decoder(
        input_shape, code_size, hidden, activation=activation, output_activation=output_activation, seed=rng
    )
    return Autoencoder(encoder, decoder)


def conv_autoencoder(
    input_shape: Sequence[int],
    code_size: int,
    filters: Sequence[int] = (16, 32),
    *,
    activation: str | Callable = "relu",
    code_activation: str | Callable = "linear",
    output_activation: str | Callable = "sigmoid",
    seed: int | None = None,
) -> Autoencoder:
    """Build a convolutional autoencoder for images, `conv_encoder` and `conv_decoder` (chapter 04).

    Each of the encoder's convolutions halves height and width; the decoder's transposed convolutions double them.

    Parameters
    ----------
    input_shape : tuple of int
        Height, width and channels; height and width must be divisible by ``2 ** len(filters)``.
    code_size : int
        Number of code units, between the two dense layers in the middle.
    filters : sequence of int
        Channels after each convolution of the encoder; the decoder has the same in reverse.
    activation, code_activation, output_activation, seed
        As in `dense_autoencoder`.

    Raises
    ------
    ValueError
        If the shape is not that of an image or not divisible, a size is not a whole number of at least 1, or an
        activation is unknown to Keras.
    """
    rng = _generator(seed)
    encoder = conv_encoder(
        input_shape, code_size, filters, activation=activation, code_activation=code_activation, seed=rng
    )
    decoder = conv_decoder(
        input_shape, code_size, filters, activation=activation, output_activation=output_activation, seed=rng
    )
    return Autoencoder(encoder, decoder)


def dense_encoder(
    input_shape: int | Sequence[int],
    code_size: int,
    hidden: Sequence[int] = (128, 64),
    *,
    activation: str | Callable = "relu",
    code_activation: str | Callable = "linear",
    seed: int | np.random.Generator | None = None,
) -> keras.Sequential:
    """Build the encoder of `dense_autoencoder`; a `VariationalAutoencoder` of k units takes one of size ``2 * k``."""
    initializer = _initializers(seed)
    return keras.Sequential(
        [
            keras.Input(check_shape(input_shape)),
            layers.Flatten(),
            *(_dense(check_size(width, "a width in hidden"), activation, initializer) for width in hidden),
            _dense(check_size(code_size, "code_size"), code_activation, initializer, name="code"),
        ],
        name="encoder",
    )


def dense_decoder(
    input_shape: int | Sequence[int],
    code_size: int,
    hidden: Sequence[int] = (128, 64),
    *,
    activation: str | Callable = "relu",
    output_activation: str | Callable = "sigmoid",
    seed: int | np.random.Generator | None = None,
) -> keras.Sequential:
    """Build the decoder of `dense_autoencoder`; `hidden` is named in the encoder's order."""
    initializer, shape = _initializers(seed), check_shape(input_shape)
    return keras.Sequential(
        [
            keras.Input((check_size(code_size, "code_size"),)),
            *(_dense(check_size(width, "a width in hidden"), activation, initializer) for width in reversed(hidden)),
            _dense(math.prod(shape), output_activation, initializer, name="reconstruction"),
            layers.Reshape(shape),
        ],
        name="decoder",
    )


def conv_encoder(
    input_shape: Sequence[int],
    code_size: int,
    filters: Sequence[int] = (16, 32),
    *,
    activation: str | Callable = "relu",
    code_activation: str | Callable = "linear",
    seed: int | np.random.Generator | None = None,
) -> keras.Sequential:
    """Build the encoder of `conv_autoencoder`."""
    initializer, (shape, _) = _initializers(seed), _check_image_shape(input_shape, filters)
    return keras.Sequential(
        [
            keras.Input(shape),
            *(_conv(layers.Conv2D, count, activation, initializer) for count in filters),
            layers.Flatten(),
            _dense(check_size(code_size, "code_size"), code_activation, initializer, name="code"),
        ],
        name="encoder",
    )


def conv_decoder(
    input_shape: Sequence[int],
    code_size: int,
    filters: Sequence[int] = (16, 32),
    *,
    activation: str | Callable = "relu",
    output_activation: str | Callable = "sigmoid",
    seed: int | np.random.Generator | None = None,
) -> keras.Sequential:
    """Build the decoder of `conv_autoencoder`; `filters` is named in the encoder's order."""
    initializer, (shape, grid) = _initializers(seed), _check_image_shape(input_shape, filters)
    up = layers.Conv2DTranspose
    return keras.Sequential(
        [
            keras.Input((check_size(code_size, "code_size"),)),
            _dense(math.prod(grid), activation, initializer),
            layers.Reshape(grid),
            *(_conv(up, count, activation, initializer) for count in reversed(filters[:-1])),
            _conv(up, shape[2], output_activation, initializer),
        ],
        name="decoder",
    )


def _check_image_shape(input_shape: Sequence[int], filters: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shape of an image and of the grid that `filters` convolutions leave of it."""
    shape = check_shape(input_shape)
    channels = [check_size(count, "a count in filters") for count in filters]
    if not channels:
        raise ValueError("filters is empty; give at least one convolution, or use dense layers")
    halvings = 2 ** len(channels)
    if len(shape) != 3 or shape[0] % halvings or shape[1] % halvings:
        raise ValueError(
            f"input_shape is {shape}; a convolutional autoencoder with filters={tuple(filters)} takes "
            f"(height, width, channels) with height and width divisible by {halvings}. Pad the images or use fewer "
            f"filters."
        )
    return shape, (shape[0] // halvings, shape[1] // halvings, channels[-1])


def _conv(
    layer: type[keras.Layer], count: int, activation: str | Callable, initializer: Iterator[keras.Initializer]
) -> keras.Layer:
    kernel = {"kernel_size": 3, "strides": 2, "padding": "same", "kernel_initializer": next(initializer)}
    return layer(count, activation=_activation(activation), **kernel)


def _dense(
    units: int, activation: str | Callable, initializer: Iterator[keras.Initializer], name: str | None = None
) -> layers.Dense:
    return layers.Dense(units, _activation(activation), kernel_initializer=next(initializer), name=name)


def _generator(seed: int | np.random.Generator | None) -> np.random.Generator | None:
    if seed is None or isinstance(seed, np.random.Generator):
        return seed
    return np.random.default_rng(check_seed(seed))


def _initializers(seed: int | np.random.Generator | None) -> Iterator[keras.Initializer]:
    """Give each layer a seed of its own: one seed for all would start layers of equal shape with equal weights."""
    rng = _generator(seed)
    if rng is None:
        return (keras.initializers.GlorotUniform() for _ in itertools.repeat(None))
    return (keras.initializers.GlorotUniform(int(rng.integers(2**31))) for _ in itertools.repeat(None))


def _activation(activation: str | Callable) -> Callable:
    try:
        return keras.activations.get(activation)
    except ValueError as error:
        known = sorted(name for name in dir(keras.activations) if name.islower() and not name.startswith("_"))
        known = [name for name in known if name not in ("get", "serialize", "deserialize")]
        raise ValueError(f"unknown activation {activation!r}; the known ones are {', '.join(known)}") from error


# --- small things the models share -----------------------------------------------------------------------------------


def _log_prior_over_posterior(z: Any, mean: Any, log_variance: Any) -> Any:
    """Return log p(z) - log q(z|x), summed over the units; the factors of 2 pi cancel."""
    squares = ops.square(z) - ops.square(z - mean) * ops.exp(-log_variance)
    return -0.5 * ops.sum(squares - log_variance, axis=-1)


def _paired(data: Any) -> tuple:
    """Make (x, labels) the input of a training or test step."""
    x, labels, weight = keras.utils.unpack_x_y_sample_weight(data)
    if labels is None:
        raise ValueError("labels are missing: give fit(x, labels), or a dataset of pairs (x, labels)")
    return (x, labels), None, weight


def _is_cross_entropy(loss: Any) -> bool:
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    return loss is keras.losses.binary_crossentropy or isinstance(loss, keras.losses.BinaryCrossentropy)


def _is_array(x: Any) -> bool:
    return hasattr(x, "shape")


def _input_shape(part: keras.Layer) -> Shape | None:
    """Shape of one sample that `part` takes, or None where Keras cannot know it yet."""
    shape = getattr(part, "input_shape", None)
    return tuple(shape[1:]) if isinstance(shape, tuple) and shape and not isinstance(shape[0], tuple) else None


def _in_batches(function: Callable, x: Any, batch_size: int) -> np.ndarray:
    """Apply `function` to `batch_size` rows at a time of an array, or of each array of a tuple."""
    check_size(batch_size, "batch_size")

    def rows(start: int) -> Any:
        return keras.tree.map_structure(lambda part: part[start : start + batch_size], x)

    n = len(keras.tree.flatten(x)[0])
    return np.concatenate([np.asarray(function(rows(start))) for start in range(0, n, batch_size)])
