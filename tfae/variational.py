"""Autoencoders whose code is a distribution (chapter 05)."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tfae.autoencoder import Autoencoder
from tfae.checks import Shape, check_number, check_samples, check_seed, check_size
from tfae.inference import batches, in_batches, sample_shape
from tfae.internals import aggregated
from tfae.layers import OfClass, Sampling
from tfae.loop import is_evaluating
from tfae.losses import at_least_float32, bernoulli_log_likelihood, gaussian_kl, gaussian_log_likelihood

BLOCK, DRAWS = 1024, 8  # samples, and codes of each, whose noise is drawn at once: no batch size changes it


@keras.saving.register_keras_serializable("tfae")
class VariationalAutoencoder(Autoencoder):
    r"""An autoencoder whose code is a distribution (chapter 05) [1]_.

    It maximises the evidence lower bound, in nats per sample,

    .. math:: E_{q(z|x)}[\log p(x|z)] - \beta \, KL(q(z|x) \| N(0, 1)),

    with both terms summed over features and code units and averaged over the batch: beta is the beta of the formula.
    The loss is the negative bound, so ``compile`` gets none. ``fit`` logs ``log_likelihood`` and ``kl`` beside it.
    Given a `y`, it is the likelihood of `y`: ``fit(noisy, clean)`` trains a denoising model. ``sample_weight`` weighs
    the bounds of the samples, and regularisers are added to their mean.

    In training and in ``evaluate`` the reconstruction that metrics see is that of a drawn code, the one that the bound
    is computed from; `reconstruct`, ``predict`` and a plain call decode the mean.

    Parameters
    ----------
    encoder : keras.Layer
        Maps samples to ``(n, 2 k)`` numbers: the k means of the code, then the k logarithms of its variances.
    decoder : keras.Layer
        Maps codes ``(n, k)`` to the shape of the samples: probabilities of ink for the Bernoulli likelihood (end it
        with a sigmoid), means for the Gaussian one.
    beta : float
        Weight of the divergence, at least 0. `tfae.training.BetaAnnealing` lets it grow from 0 during training.
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
        share = tf.Variable(1.0, trainable=False)  # of beta that is in force
        self._share_of_beta = lambda: share  # within a function Keras does not see it: it is no weight of the model

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
        return self._log_likelihood(x, self.decoded_for(z, x, training=training))

    def code(self, x: Any, training: bool | None = None) -> Any:
        """Return the mean of q(z|x): the code that `encode` and `reconstruct` use."""
        return self.posterior(x, training=training)[0]

    # Training.

    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        self._share_of_beta().assign(1.0)  # whatever an interrupted annealing has left
        return super().fit(*args, **kwargs)

    def anneal(self, share: float) -> None:
        """Let the divergence weigh a `share` of beta until the next ``fit``.

        A checkpoint in the midst of an annealing, or the best weights that come back at its end, have the whole beta.

        Raises
        ------
        ValueError
            If `share` is outside [0, 1], or the importance-weighted bound is trained on, which has no divergence.
        """
        if self.importance_samples > 1:
            raise ValueError(
                f"importance_samples is {self.importance_samples}, and the importance-weighted bound has no divergence "
                f"to anneal; train with one sample, or without annealing"
            )
        self._share_of_beta().assign(check_number(share, "share", 0, 1))

    def call(self, x: Any, training: bool | None = None) -> Any:
        if not (training or is_evaluating()):
            return super().call(x, training=training)
        mean, log_variance = self.posterior(x, training=training)
        codes = [self.sampling(mean, log_variance) for _ in range(self.importance_samples)]
        decoded = self.decoded_for(ops.concatenate(codes), x, training)  # first codes, then second ones, in one pass
        self._left.for_loss = at_least_float32(mean), at_least_float32(log_variance), codes, decoded
        reconstruction = decoded[: ops.shape(mean)[0]]
        self._check_reconstruction(reconstruction, keras.tree.flatten(x)[0])
        return reconstruction

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Return the negative bound, from the draws of the call just made in training or evaluation."""
        draws, self._left.for_loss = self._left.for_loss, None
        if draws is None:
            raise ValueError("compute_loss needs the draws of a step: call the model with training=True before it")
        mean, log_variance, codes, decoded = draws
        target = self._target(x, y, y_pred)
        kl = gaussian_kl(mean, log_variance)  # (n, k)
        if self.importance_samples == 1:
            log_likelihood = self._log_likelihood(target, decoded)
            paid = ops.sum(ops.maximum(kl, self.free_bits), axis=-1)
            bound = log_likelihood - self.beta * ops.convert_to_tensor(self._share_of_beta()) * paid
        else:
            n_draws = self.importance_samples
            decoded = ops.reshape(decoded, (n_draws, -1, *decoded.shape[1:]))
            likelihoods = ops.stack([self._log_likelihood(target, decoded[i]) for i in range(n_draws)])
            z = at_least_float32(ops.stack(codes))
            log_weights = likelihoods + _log_prior_over_posterior(z, mean, log_variance)
            bound = ops.logsumexp(log_weights, axis=0) - math.log(n_draws)
            log_likelihood = ops.mean(likelihoods, axis=0)
        for tracker, values in zip(self.trackers, (log_likelihood, ops.sum(kl, axis=-1)), strict=True):
            tracker.update_state(values)
        if sample_weight is not None:
            if tuple(sample_weight.shape[1:]) not in ((), (1,)):
                raise ValueError(
                    f"sample_weight has shape {tuple(sample_weight.shape)}; a bound is one number for each sample, so "
                    f"give one weight for each, shape (n,)"
                )
            bound = bound * ops.cast(ops.reshape(sample_weight, (-1,)), bound.dtype)
        return sum((aggregated(self, penalty) for penalty in self.losses), aggregated(self, -ops.mean(bound)))

    def _log_likelihood(self, x: Any, decoded: Any) -> Any:
        if self.likelihood == "bernoulli":
            return bernoulli_log_likelihood(x, decoded)
        return gaussian_log_likelihood(x, decoded, scale=self.scale)

    # Answers.

    def encode_distribution(self, x: Any, *, batch_size: int = 1024) -> tuple[np.ndarray, np.ndarray]:
        """Return the means and log-variances of q(z|x), each ``(n, k)``; parameters and errors as in `encode`."""
        samples = self._samples_alone(x)
        both = in_batches(lambda batch: self.encoder(batch, training=False), samples, batch_size)
        mean, log_variance = np.split(both, 2, axis=-1)
        return mean, log_variance

    def sample(self, n: int, *, seed: int | None = None) -> np.ndarray:
        """Return decoded draws from the prior: means of p(x|z), not noisy pixels.

        Parameters
        ----------
        n : int
        seed : int, optional
            Without it every call draws anew.

        Returns
        -------
        ndarray, shape (n, *sample)

        Raises
        ------
        ValueError
            If `n` is not a whole number of at least 1, or the decoder has not seen a code yet, so its size is unknown.
        """
        return self.decode(self._prior(n, seed))

    def _prior(self, n: int, seed: int | None) -> np.ndarray:
        """Return `n` draws of as many standard normal numbers as the decoder takes."""
        shape = sample_shape(self.decoder)
        if shape is None:
            raise ValueError("the decoder has not seen a code yet, so its size is unknown; fit or encode first")
        rng = np.random.default_rng(None if seed is None else check_seed(seed))
        return rng.normal(size=(check_size(n, "n"), *(size or 1 for size in shape))).astype("float32")

    def elbo(self, x: Any, *, n_samples: int = 1, seed: int = 0, batch_size: int = 1024) -> np.ndarray:
        """Return the evidence lower bound of each sample at beta = 1.

        The divergence is exact; the expected log-likelihood is the mean over `n_samples` codes.

        Parameters
        ----------
        x : array, shape (n, *sample)
        n_samples : int
            Codes drawn for each sample.
        seed : int
            Fixes the codes, whatever the batch size.
        batch_size : int
            Samples worked on at once, at most 1,024: bounds the memory.

        Returns
        -------
        ndarray, shape (n,)
            In nats, summed over features and code units.

        Raises
        ------
        ValueError
            If the samples are of the wrong shape, empty or not finite, or a number is not one.
        """

        def reduce(log_likelihoods: Any, _: Any) -> Any:
            return ops.mean(log_likelihoods, axis=0)

        def divergence(batch: Any) -> Any:
            mean, log_variance = self.posterior(batch, training=False)
            return ops.sum(gaussian_kl(at_least_float32(mean), at_least_float32(log_variance)), axis=-1)

        x = self._samples(x)
        expected = self._over_draws(x, n_samples, seed, batch_size, reduce)
        return expected - in_batches(divergence, x, batch_size)

    def log_likelihood(self, x: Any, *, n_samples: int = 100, seed: int = 0, batch_size: int = 1024) -> np.ndarray:
        """Return the importance-weighted bound on log p(x) of each sample, in nats, shape ``(n,)`` [1]_.

        It rises towards log p(x) with `n_samples`; with one sample its mean is the `elbo`'s. Parameters and errors are
        those of `elbo`.

        References
        ----------
        .. [1] Y. Burda, R. Grosse and R. Salakhutdinov, "Importance weighted autoencoders", arXiv:1509.00519.
        """

        def reduce(_: Any, log_weights: Any) -> Any:
            return ops.logsumexp(log_weights, axis=0) - math.log(n_samples)

        return self._over_draws(self._samples(x), n_samples, seed, batch_size, reduce)

    def _over_draws(self, x: Any, n_samples: int, seed: int, batch_size: int, reduce: Callable) -> np.ndarray:
        """Draw codes for each sample and reduce log p(x|z) and log p(x|z) p(z) / q(z|x), both (n_samples, n)."""
        check_size(n_samples, "n_samples")
        check_seed(seed)
        if isinstance(x, tf.data.Dataset):
            raise ValueError("codes are drawn for samples in an array; give x as one, in parts if it is too large")
        shape = sample_shape(self.encoder) and getattr(self.encoder, "output_shape", (None, None))[-1]
        units = (shape or int(self.encoder(keras.tree.flatten(x)[0][:1], training=False).shape[-1])) // 2
        counts = [min(DRAWS, n_samples - done) for done in range(0, n_samples, DRAWS)]
        specification = keras.tree.map_structure(lambda part: tf.TensorSpec((None, *part.shape[1:]), tf.float32), x)
        noises = tf.TensorSpec((None, None, units), tf.float32)
        terms = self._terms.get_concrete_function(specification, noises)  # one graph for all counts
        answers = []
        for block, rows in enumerate(batches(x, BLOCK)):
            size = len(keras.tree.flatten(rows)[0])

            def noise(i: int, block: int = block, size: int = size) -> Any:
                return tf.random.stateless_normal((counts[i], size, units), (seed, block * len(counts) + i))

            for part in batches((rows, np.arange(size)), batch_size):
                batch = keras.tree.map_structure(lambda array: tf.constant(array, tf.float32), part[0])
                drawn = [terms(batch, tf.gather(noise(i), part[1], axis=1)) for i in range(len(counts))]
                answers.append(reduce(*(ops.concatenate(column) for column in zip(*drawn, strict=True))))
        return np.concatenate(answers)

    @tf.function(autograph=False)
    def _terms(self, batch: Any, noise: Any) -> tuple[Any, Any]:
        mean, log_variance = map(at_least_float32, self.posterior(batch, training=False))  # (b, k)
        z = mean + ops.exp(0.5 * log_variance) * noise  # (draws, b, k)
        count = tf.shape(noise)[0]
        flat = tf.reshape(z, (-1, mean.shape[1]))
        decoded = self.decoded_for(flat, batch, training=False)
        samples = keras.tree.flatten(batch)[0]
        copies = tf.tile(samples, [count] + [1] * (len(samples.shape) - 1))
        log_likelihood = tf.reshape(self._log_likelihood(copies, decoded), (count, -1))  # (draws, b)
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

    def _samples_alone(self, x: Any) -> Any:
        return Autoencoder._samples(self, x)

    def _check_batch(self, x: Any, y: Any) -> None:
        if getattr(self, "loss", None) is not None:
            raise ValueError(f"the loss is {self.loss!r}; this model has its own, the negative bound: compile without")
        super()._check_batch(x, y)

    def _reads_probabilities(self) -> bool:
        return self.likelihood == "bernoulli"


@keras.saving.register_keras_serializable("tfae")
class ConditionalVariationalAutoencoder(VariationalAutoencoder):
    r"""A variational autoencoder whose decoder is told the class, so that a class can be asked for (chapter 05) [1]_.

    It maximises :math:`E_{q(z|x)}[\log p(x|z, y)] - \beta \, KL(q(z|x) \| N(0, 1))`, a lower bound on
    :math:`\log p(x|y)`. What the class says need not stand in the code, which is left to say the rest: the style.

    ``fit(x, labels)`` takes integer labels where other autoencoders take targets, and ``validation_data`` is
    ``(x, labels)``. A direct call, and ``predict``, take the pair ``(x, labels)``; the methods take ``labels=``. An
    analysis looks at samples alone: `for_class` gives it the model of one class.

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

    def for_class(self, label: int) -> VariationalAutoencoder:
        """Return the model of one class: a variational autoencoder with these weights, whose decoder is told `label`.

        Raises
        ------
        ValueError
            If there is no such class.
        """
        (label,) = self._labels(label, 1)
        config = super().get_config()
        options = {
            key: config[key] for key in ("likelihood", "scale", "free_bits", "importance_samples", "beta", "seed")
        }
        return VariationalAutoencoder(self.encoder, OfClass(self.decoder, int(label), self.n_classes), **options)

    # The pair (x, labels) takes the place of x.

    def posterior(self, x: Any, training: bool | None = None) -> tuple[Any, Any]:
        return super().posterior(x[0] if isinstance(x, tuple | list) else x, training)  # the class plays no part in it

    def log_conditional(self, x: Any, z: Any, training: bool | None = None) -> Any:
        return self._log_likelihood(self._pair(x)[0], self.decoded_for(z, x, training))

    def decoded(self, z: Any, training: bool | None = None) -> Any:
        raise ValueError(NO_CLASS)

    def call(self, x: Any, training: bool | None = None) -> Any:
        self._pair(x)
        if training or is_evaluating():
            return super().call(x, training=training)
        return self.decoded_for(self.code(x, training=training), x, training)

    def train_step(self, data: Any) -> dict[str, Any]:
        return super().train_step(_paired(data))

    def test_step(self, data: Any) -> dict[str, Any]:
        return super().test_step(_paired(data))

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        return super().compute_metrics(x, x[0] if y is None else y, y_pred, sample_weight)

    def _target(self, x: Any, y: Any, y_pred: Any) -> Any:
        return super()._target(x[0], y, y_pred)

    def _pair(self, x: Any) -> Any:
        if not isinstance(x, tuple | list) or len(x) != 2:
            raise ValueError(NO_CLASS)
        return x

    def decoded_for(self, z: Any, x: Any, training: bool | None = None) -> Any:
        labels = ops.reshape(ops.cast(self._pair(x)[1], "int32"), (-1,))
        labels = ops.tile(labels, [ops.shape(z)[0] // ops.shape(labels)[0]])
        joined = ops.concatenate([z, ops.one_hot(labels, self.n_classes, dtype=z.dtype)], axis=-1)
        return self.decoder(joined, training=training)

    # Answers.

    def decode(self, z: Any, *, batch_size: int = 1024, labels: Any = None) -> np.ndarray:
        shape = sample_shape(self.decoder)
        z = check_samples(z, (shape[0] - self.n_classes if shape and shape[0] else None,), "z")
        pairs = z.astype("float32"), self._labels(labels, len(z))
        return in_batches(lambda pair: self.decoded_for(pair[0], pair, training=False), pairs, batch_size)

    def reconstruct(self, x: Any, *, batch_size: int = 1024, labels: Any = None) -> np.ndarray:
        return super().reconstruct((x, labels), batch_size=batch_size)

    def reconstruction_error(self, x: Any, *, batch_size: int = 1024, labels: Any = None) -> np.ndarray:
        return super().reconstruction_error((x, labels), batch_size=batch_size)

    def sample(self, n: int, *, seed: int | None = None, labels: Any = None) -> np.ndarray:
        """Return `n` decoded draws from the prior; `labels` is one class for all of them, or one for each."""
        return self.decode(self._prior(n, seed)[:, : -self.n_classes], labels=labels)

    def elbo(
        self, x: Any, *, n_samples: int = 1, seed: int = 0, batch_size: int = 1024, labels: Any = None
    ) -> np.ndarray:
        return super().elbo((x, labels), n_samples=n_samples, seed=seed, batch_size=batch_size)

    def log_likelihood(
        self, x: Any, *, n_samples: int = 100, seed: int = 0, batch_size: int = 1024, labels: Any = None
    ) -> np.ndarray:
        return super().log_likelihood((x, labels), n_samples=n_samples, seed=seed, batch_size=batch_size)

    def encode(self, x: Any, *, batch_size: int = 1024) -> np.ndarray:
        samples = self._samples_alone(x)
        return in_batches(lambda batch: self.code(batch, training=False), samples, batch_size)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"n_classes": self.n_classes}

    @property
    def input_shape(self) -> Any:
        """Shapes of a batch of samples and of its labels."""
        return [super().input_shape, (None,)]

    def _signature(self) -> list[Any]:
        samples, labels = self.input_shape
        dtypes = (self.input_dtype, "int32")
        return [tuple(keras.InputSpec(shape=s, dtype=d) for s, d in zip((samples, labels), dtypes, strict=True))]

    def _sample_shape(self) -> Shape | None:
        return sample_shape(self.encoder)

    def _samples(self, x: Any) -> Any:
        if isinstance(x[0], tf.data.Dataset):
            raise ValueError(
                "labels go with samples in arrays: give x as an array, or use the model's for_class(label)"
            )
        samples = self._samples_alone(x[0])
        return samples, self._labels(x[1], len(samples))

    def _labels(self, labels: Any, n: int) -> np.ndarray:
        accepted = f"give one whole number from 0 to {self.n_classes - 1} for each of the {n} samples"
        if labels is None:
            raise ValueError(f"labels are missing: {accepted}, fit(x, labels) or labels=...")
        labels = np.asarray(labels)
        if labels.ndim == 0:
            labels = np.full(n, labels)
        if labels.shape not in ((n,), (n, 1)) or labels.dtype.kind not in "iu":
            raise ValueError(f"labels have shape {labels.shape} and dtype {labels.dtype}; {accepted}")
        if labels.min() < 0 or labels.max() >= self.n_classes:
            raise ValueError(f"labels go from {labels.min()} to {labels.max()}; {accepted}")
        return labels.reshape(n).astype("int32")

    def _check_class_weight(self, class_weight: Any) -> None:
        """Take any: the labels say of which class a sample is."""

    def _check_batch(self, x: Any, y: Any) -> None:
        super()._check_batch(x, None)
        pair = self._samples((x, y))
        if not self.built:
            self(tuple(part[:1] for part in pair))  # Keras cannot build it from x alone


NO_CLASS = (
    "a ConditionalVariationalAutoencoder decodes for a class, and none was given: call it with the pair (x, labels), "
    "give labels= to its methods, or take the model of one class, for_class(3), which any analysis takes"
)


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
