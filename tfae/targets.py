"""What is explained: one number for each sample (chapter 08).

A target is called with a batch and returns a tensor ``(n,)``. Every method of `tfae.attribution` takes one, or any
other callable that does the same: an anomaly score, a distance, a difference of two outputs. The number of a sample
must depend on that sample alone, since methods repeat, change and regroup samples. All targets here run the
network as in inference, without dropout or corruption, and each says which network it reads and how, which is what
layer-wise relevance propagation needs to know.

>>> code = latent(autoencoder, 3)  # doctest: +SKIP
>>> attribution.integrated_gradients(code, x_test[:8])  # doctest: +SKIP
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tfae.checks import check_seed, check_size
from tfae.hooks import recording, without_activation
from tfae.losses import gaussian_kl
from tfae.models import Autoencoder, VariationalAutoencoder

Index = int | Sequence[int]


@dataclass(frozen=True, eq=False)
class Target:
    """A number for each sample: what `read` makes of the outputs of `network`, and of the samples themselves.

    What a method compiles of a target is kept with it in `graphs`, and used when it is asked again. Weights may change
    in between; for a network whose layers were exchanged, make a new target.
    """

    name: str
    network: Callable[[Any], Any]
    read: Callable[[Any, Any], Any]
    graphs: dict[Any, Any] = field(default_factory=dict, repr=False)

    def __call__(self, x: Any) -> Any:
        """Return the target of each sample of the tensor `x`, shape ``(n,)``."""
        return self.read(self.network(x), x)


def output(model: keras.Layer | Callable, index: Index) -> Target:
    """Return the target "output `index` of `model`", for a classifier the score of a class.

    Parameters
    ----------
    model : keras.Layer or callable
        Maps ``(n, *inputs)`` to ``(n, *outputs)``.
    index : int or tuple of int
        Position in the flattened outputs of a sample, or one number for each axis of the outputs.

    Raises
    ------
    ValueError
        When the target is called, if there is no such output.
    """
    return Target(f"output {index}", _inference(model), lambda outputs, x: _pick(outputs, index, "output"))


def logit(model: keras.Layer, index: Index) -> Target:
    """Return the target "output `index` before the last activation": a classifier's score before the softmax.

    Probabilities of one sample compete, so the probability of a class rises when another falls. Its logit does not.

    Parameters
    ----------
    model : keras.Layer
        Ends with a layer that has an ``activation`` (Dense, Conv2D, Activation, Softmax, ...), apart from layers that
        only change the shape.
    index : int or tuple of int
        As in `output`.

    Raises
    ------
    ValueError
        When the target is called, if the model does not end like this, or there is no such output.
    """
    run, last = _inference(model), list[keras.Layer]()  # the layer is looked for once, at the first call

    def network(x: Any) -> Any:
        if not last:
            with recording() as calls:
                run(x[:1])
            last.append(_last_activation([call.layer for call in calls if call.is_leaf]))
        with without_activation(last[0]):
            return run(x)

    return Target(f"logit {index}", network, lambda outputs, x: _pick(outputs, index, "output"))


def latent(autoencoder: Autoencoder, unit: int) -> Target:
    """Return the target "unit `unit` of the code"; of a variational autoencoder, the unit's mean.

    Raises
    ------
    ValueError
        When the target is called, if there is no such unit.
    """
    if isinstance(autoencoder, VariationalAutoencoder):  # its encoder returns means, then log-variances
        network = _inference(autoencoder.encoder)
        return Target(
            f"code unit {unit}", network, lambda both, x: _pick(both[:, : both.shape[-1] // 2], unit, "code unit")
        )
    return Target(f"code unit {unit}", _inference(autoencoder.code), lambda z, x: _pick(z, unit, "code unit"))


def pixel(autoencoder: Autoencoder, index: Index) -> Target:
    """Return the target "feature `index` of the reconstruction", such as the pixel ``(14, 14, 0)``.

    Raises
    ------
    ValueError
        When the target is called, if there is no such feature.
    """
    return Target(f"pixel {index}", _inference(autoencoder), lambda x_hat, x: _pick(x_hat, index, "pixel"))


def reconstruction_error(autoencoder: Autoencoder, mask: Any = None) -> Target:
    """Return the target "mean squared error of the reconstruction", as `Autoencoder.reconstruction_error` has it.

    Parameters
    ----------
    autoencoder : Autoencoder
    mask : array of the shape of a sample, optional
        Weight of each feature in the mean: 1 where the error counts and 0 elsewhere. A single 1 gives the error of one
        pixel.

    Raises
    ------
    ValueError
        If the mask holds negative numbers or none above 0, and, when the target is called, if it does not have the
        shape of a sample.
    """
    if mask is not None:
        mask = np.asarray(mask, "float32")
        if not (np.isfinite(mask).all() and (mask >= 0).all() and mask.any()):
            raise ValueError("a mask holds weights of at least 0, and one of them must be above 0")

    def read(x_hat: Any, x: Any) -> Any:
        squares = ops.square(x_hat - x)
        axes = tuple(range(1, len(squares.shape)))
        if mask is None:
            return ops.mean(squares, axis=axes)
        if mask.shape != tuple(squares.shape[1:]):
            raise ValueError(
                f"the mask has shape {mask.shape} and a sample {tuple(squares.shape[1:])}; give one weight each"
            )
        return ops.sum(mask * squares, axis=axes) / mask.sum()

    return Target("reconstruction error", _inference(autoencoder), read)


def kl(vae: VariationalAutoencoder, unit: int | None = None) -> Target:
    """Return the target "divergence of q(z|x) from the prior" in nats: the whole, or what one code unit adds to it.

    Raises
    ------
    ValueError
        When the target is called, if there is no such unit.
    """

    def read(both: Any, x: Any) -> Any:
        terms = gaussian_kl(*ops.split(both, 2, axis=-1))  # (n, k)
        return ops.sum(terms, axis=-1) if unit is None else _pick(terms, unit, "code unit")

    return Target("KL" if unit is None else f"KL of unit {unit}", _inference(vae.encoder), read)


def elbo(vae: VariationalAutoencoder, n_samples: int = 8, seed: int = 0) -> Target:
    """Return the target "evidence lower bound" in nats, averaged over `n_samples` codes.

    The noise of the codes is drawn once and is the same for all samples and all calls. A path from a baseline to a
    sample then follows one smooth function, and the same question gets the same answer.
    """
    check_size(n_samples, "n_samples")
    check_seed(seed)

    def read(both: Any, x: Any) -> Any:
        mean, log_variance = ops.split(both, 2, axis=-1)
        noise = tf.random.stateless_normal((n_samples, 1, mean.shape[-1]), (seed, 0))
        z = mean + ops.exp(0.5 * log_variance) * noise  # (n_samples, n, k)
        copies = ops.concatenate([x] * n_samples)
        log_likelihood = vae.log_conditional(copies, ops.reshape(z, (-1, mean.shape[-1])), training=False)
        expected = ops.mean(ops.reshape(log_likelihood, (n_samples, -1)), axis=0)
        return expected - ops.sum(gaussian_kl(mean, log_variance), axis=-1)

    return Target("ELBO", _inference(vae.encoder), read)


def _inference(network: Callable) -> Callable:
    """Return `network` as it runs outside training."""
    return (lambda x: network(x, training=False)) if isinstance(network, keras.Layer) else network


def _pick(outputs: Any, index: Index, what: str) -> Any:
    """Return one output of each sample."""
    shape = tuple(outputs.shape[1:])
    try:
        position = index if isinstance(index, int | np.integer) else int(np.ravel_multi_index(tuple(index), shape))
        if not 0 <= position < np.prod(shape):
            raise ValueError
    except (ValueError, TypeError):
        raise ValueError(
            f"there is no {what} {index}: a sample has outputs of shape {shape}, so give a whole number from 0 to "
            f"{int(np.prod(shape)) - 1}" + (f" or {len(shape)} of them, one for each axis" if len(shape) > 1 else "")
        ) from None
    return ops.reshape(outputs, (-1, int(np.prod(shape))))[:, int(position)]


def _last_activation(called: list[keras.Layer]) -> keras.Layer:
    """Return the layer whose activation makes the model's outputs."""
    for layer in reversed(called):
        if isinstance(layer, layers.Softmax) or hasattr(layer, "activation"):
            return layer
        if not isinstance(layer, layers.Reshape | layers.Flatten):
            break
    last = f"ends with {called[-1].name!r} ({type(called[-1]).__name__})" if called else "calls no layer"
    raise ValueError(f"the model {last}, which has no activation to leave out; explain targets.output instead")
