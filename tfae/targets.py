"""What is explained: one number for each sample (chapter 08).

A target is called with a batch and returns a tensor ``(n,)``. Every method of `tfae.attribution` takes one, or any
other callable that does the same: an anomaly score, a distance, a difference of two outputs. The number of a sample
must depend on that sample alone, since methods repeat, change and regroup samples. All targets here run the
network as in inference, without dropout or corruption, and each says which network it reads and how, which is what
layer-wise relevance propagation needs to know.

Targets are computed in float32 at least, also where the network computes in half precision, and take whole numbers,
such as 8-bit images, for the numbers that they are.

>>> code = latent(autoencoder, 3)  # doctest: +SKIP
>>> attribution.integrated_gradients(code, x_test[:8])  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tfae.checks import check_seed, check_size, shape_text
from tfae.hooks import LayerCall, recording, without_activation
from tfae.inference import inference
from tfae.losses import at_least_float32, gaussian_kl

if TYPE_CHECKING:  # a target needs what a model can do, not how it is trained
    from tfae.models import Autoencoder, VariationalAutoencoder

Index = int | Sequence[int]


@dataclass(frozen=True, eq=False)
class Target:
    """A number for each sample: what `read` makes of the outputs of `network`, and of the samples themselves.

    What a method compiles of a target is kept with it and used when it is asked again. Weights may change in between;
    for a network whose layers were exchanged, make a new target.

    Attributes
    ----------
    name : str
        What figures and messages call it.
    network : callable
        Maps a tensor of samples to a tensor of outputs, as outside training.
    read : callable
        Maps the outputs and the samples, both in float32 at least, to a tensor ``(n,)``.
    asked : set
        The questions that were asked before.
    graphs : dict
        The compiled ones among them.
    """

    name: str
    network: Callable[[Any], Any]
    read: Callable[[Any, Any], Any]
    asked: set[Any] = field(default_factory=set, repr=False)
    graphs: dict[Any, Any] = field(default_factory=dict, repr=False)

    def __call__(self, x: Any) -> Any:
        """Return the target of each sample of `x`, a tensor or array with the batch axis; shape ``(n,)``.

        Raises
        ------
        ValueError
            If the network does not return one tensor.
        """
        x = at_least_float32(x)
        outputs = at_least_float32(self.outputs(x))
        return self.read(outputs, ops.cast(x, outputs.dtype))

    def outputs(self, x: Any) -> Any:
        """Return what the network makes of `x`, a tensor with the batch axis, for `read`: one tensor.

        Raises
        ------
        ValueError
            If the network does not return one tensor.
        """
        outputs = self.network(x)
        if not hasattr(outputs, "shape"):
            raise ValueError(
                f"the network behind {self.name!r} returns a {type(outputs).__name__}; a target reads one tensor. Pick "
                f"it in a function: targets.output(lambda x: model(x)[0], index)"
            )
        return outputs


def output(model: keras.Layer | Callable, index: Index) -> Target:
    """Return the target "output `index` of `model`", for a classifier the score of a class.

    Parameters
    ----------
    model : keras.Layer or callable
        Maps ``(n, *inputs)`` to ``(n, *outputs)``.
    index : int or sequence of int
        Position in the flattened outputs of a sample, or one number for each axis of the outputs.

    Returns
    -------
    Target

    Raises
    ------
    ValueError
        When the target is called, if there is no such output.
    """
    return Target(f"output {index}", inference(model), lambda outputs, x: _pick(outputs, index, "output"))


def logit(model: keras.Layer, index: Index) -> Target:
    """Return the target "output `index` before the last activation": a classifier's score before the softmax.

    Probabilities of one sample compete, so the probability of a class rises when another falls. Its logit does not.

    Parameters
    ----------
    model : keras.Layer
        Ends with a layer that has an ``activation`` (Dense, Conv2D, Activation, Softmax, ...), apart from changes of
        the shape.
    index : int or sequence of int
        As in `output`.

    Returns
    -------
    Target

    Raises
    ------
    ValueError
        When the target is called, if there is no such output, or if leaving out the activation of the last layer would
        not give the logits: if that layer has none or is called twice, or if the model goes on computing after it, as
        one does that calls ``keras.ops.softmax`` itself.
    """
    run, last = inference(model), list[keras.Layer]()  # the layer is looked for once, at the first call

    def network(x: Any) -> Any:
        if not last:
            last.append(_last_activation(run, x))
        with without_activation(last[0]):
            return run(x)

    return Target(f"logit {index}", network, lambda outputs, x: _pick(outputs, index, "output"))


def latent(autoencoder: Autoencoder, unit: Index) -> Target:
    """Return the target "unit `unit` of the code"; of a variational autoencoder, the unit's mean.

    Parameters
    ----------
    autoencoder : Autoencoder
        Of any kind, conditional ones too: their encoders see the sample alone.
    unit : int or sequence of int
        Position in the code of a sample, as `output` has it.

    Returns
    -------
    Target

    Raises
    ------
    ValueError
        If the model has no code, and, when the target is called, if there is no such unit.
    """
    _check_can(autoencoder, "code", "an autoencoder, which has a code", "targets.output(encoder, unit)")
    if hasattr(autoencoder, "posterior"):  # its encoder returns means, then log-variances
        network = inference(autoencoder.encoder)
        return Target(
            f"code unit {unit}", network, lambda both, x: _pick(both[..., : both.shape[-1] // 2], unit, "code unit")
        )
    return Target(f"code unit {unit}", inference(autoencoder.code), lambda z, x: _pick(z, unit, "code unit"))


def pixel(autoencoder: keras.Layer | Callable, index: Index) -> Target:
    """Return the target "feature `index` of the reconstruction", such as the pixel ``(14, 14, 0)``.

    Parameters
    ----------
    autoencoder : keras.Layer or callable
        An `Autoencoder` of any kind, or another model that returns samples.
    index : int or sequence of int
        As in `output`.

    Returns
    -------
    Target

    Raises
    ------
    ValueError
        When the target is called, if there is no such feature.
    """
    return Target(f"pixel {index}", inference(autoencoder), lambda x_hat, x: _pick(x_hat, index, "pixel"))


def reconstruction_error(autoencoder: keras.Layer | Callable, *, mask: Any = None) -> Target:
    """Return the target "mean squared error of the reconstruction", as `Autoencoder.reconstruction_error` has it.

    Parameters
    ----------
    autoencoder : keras.Layer or callable
        An `Autoencoder` of any kind, or another model that returns samples of the shape that it takes.
    mask : array of the shape of a sample, optional
        Weight of each feature in the mean: 1 where the error counts and 0 elsewhere. A single 1 gives the error of one
        pixel.

    Returns
    -------
    Target

    Raises
    ------
    ValueError
        If the mask holds negative numbers or none above 0, and, when the target is called, if the mask or the
        reconstruction does not have the shape of a sample.
    """
    if mask is not None:
        mask = np.asarray(mask, "float32")
        if not (np.isfinite(mask).all() and (mask >= 0).all() and mask.any()):
            raise ValueError("a mask holds weights of at least 0, and one of them must be above 0")

    def read(x_hat: Any, x: Any) -> Any:
        _check_shape_of("reconstruction", x_hat.shape[1:], x.shape[1:])
        if mask is not None:
            _check_shape_of("mask", mask.shape, x.shape[1:])
        squares, axes = ops.square(x_hat - x), tuple(range(1, len(x.shape)))
        if mask is None:
            return ops.mean(squares, axis=axes)
        return ops.sum(ops.cast(mask, squares.dtype) * squares, axis=axes) / float(mask.sum())

    return Target("reconstruction error", inference(autoencoder), read)


def kl(vae: VariationalAutoencoder, *, unit: int | None = None) -> Target:
    """Return the target "divergence of q(z|x) from the prior" in nats: the whole, or what one code unit adds to it.

    Parameters
    ----------
    vae : VariationalAutoencoder
    unit : int, optional
        The sum over all units if not given.

    Returns
    -------
    Target

    Raises
    ------
    ValueError
        If the model is not variational, and, when the target is called, if there is no such unit.
    """
    _check_can(vae, "posterior", "a VariationalAutoencoder, whose code is a distribution", "targets.latent")

    def read(both: Any, x: Any) -> Any:
        terms = gaussian_kl(*ops.split(both, 2, axis=-1))  # (n, k)
        return ops.sum(terms, axis=-1) if unit is None else _pick(terms, unit, "code unit")

    return Target("KL" if unit is None else f"KL of unit {unit}", inference(vae.encoder), read)


def elbo(vae: VariationalAutoencoder, *, n_samples: int = 8, seed: int = 0) -> Target:
    """Return the target "evidence lower bound" in nats, averaged over `n_samples` codes.

    The noise of the codes is drawn once and is the same for all samples and all calls. A path from a baseline to a
    sample then follows one smooth function, and the same question gets the same answer.

    Parameters
    ----------
    vae : VariationalAutoencoder
        A conditional one needs its class: give ``cvae.for_class(label)``.
    n_samples : int
        Codes drawn for each sample.
    seed : int
        Of their noise.

    Returns
    -------
    Target

    Raises
    ------
    ValueError
        If the model is not variational, or `n_samples` or `seed` is out of range.
    """
    _check_can(vae, "posterior", "a VariationalAutoencoder, whose code is a distribution", "reconstruction_error")
    check_size(n_samples, "n_samples")
    check_seed(seed)

    def read(both: Any, x: Any) -> Any:
        mean, log_variance = ops.split(both, 2, axis=-1)
        noise = tf.random.stateless_normal((n_samples, 1, mean.shape[-1]), (seed, 0), dtype=mean.dtype)
        z = mean + ops.exp(0.5 * log_variance) * noise  # (n_samples, n, k)
        copies = ops.concatenate([x] * n_samples)
        log_likelihood = vae.log_conditional(copies, ops.reshape(z, (-1, mean.shape[-1])), training=False)
        expected = ops.mean(ops.reshape(log_likelihood, (n_samples, -1)), axis=0)
        return expected - ops.sum(gaussian_kl(mean, log_variance), axis=-1)

    return Target("ELBO", inference(vae.encoder), read)


def _check_can(model: Any, ability: str, needed: str, instead: str) -> None:
    if not hasattr(model, ability):
        raise ValueError(f"this target needs {needed}, and is given a {type(model).__name__}; use {instead} instead")


def _check_shape_of(name: str, shape: Sequence[int], sample: Sequence[int]) -> None:
    if tuple(shape) != tuple(sample):
        raise ValueError(
            f"the {name} has shape {shape_text(shape)} and a sample {shape_text(sample)}; there must be one number for "
            f"each feature"
        )


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


def _last_activation(run: Callable, x: Any) -> keras.Layer:
    """Return the layer whose activation makes the network's outputs, having tried whether it does.

    Its outputs have to be the network's, and the activation of what it returns without: random samples show it.
    """
    with tf.init_scope():  # out of any graph that is being made, where tensors have no values yet
        samples = tf.random.stateless_uniform((16, *x.shape[1:]), (0, 0), -1, 1)
        with recording() as calls:
            run(samples)
        last = _last_call(calls)
        layer = last.layer
        times = sum(call.layer is layer for call in calls)
        if times > 1:
            raise ValueError(
                f"layer {layer.name!r} is called {times} times for one input, so leaving out its activation would "
                f"change more than the outputs. Give the end of the model a layer of its own, or explain targets.output"
            )
        with without_activation(layer):
            logits = run(samples)
        activation = layer if isinstance(layer, layers.Softmax) else layer.activation
        if not _ends_with_it(run, samples) or not _same(
            activation(ops.reshape(logits, last.output.shape)), last.output
        ):
            raise ValueError(
                f"the model goes on computing after its last layer with an activation, {layer.name!r}: a softmax that "
                f"is called as a function leaves no layer. Make it one, layers.Softmax() for instance, or explain a "
                f"function that returns the logits with targets.output"
            )
        return layer


RESHAPING = ("Reshape", "ExpandDims", "Squeeze", "Identity", "Cast")


def _ends_with_it(run: Callable, samples: Any) -> bool:
    """Whether the outputs are those of the last layer with an activation, apart from their shape and precision.

    Numbers may agree by chance. The network's graph tells what is done to them.
    """
    ends = []

    def follow(batch: Any) -> Any:
        with recording() as calls:
            outputs = tensor = run(batch)
        source = _last_call(calls).output
        while tensor.name != source.name and tensor.op.type in RESHAPING:
            tensor = tensor.op.inputs[0]
        ends.append(tensor.name == source.name)
        return outputs

    tf.compat.v1.wrap_function(follow, [tf.TensorSpec(samples.shape, samples.dtype)])
    return ends[0]


def _last_call(calls: list[LayerCall]) -> LayerCall:
    leaves = [call for call in calls if call.is_leaf]
    for call in reversed(leaves):
        if isinstance(call.layer, layers.Softmax) or hasattr(call.layer, "activation"):
            return call
        if not isinstance(call.layer, layers.Reshape | layers.Flatten):
            break
    last = leaves[-1].layer if leaves else None
    ends = f"ends with {last.name!r} ({type(last).__name__})" if last else "calls no layer"
    raise ValueError(f"the model {ends}, which has no activation to leave out; explain targets.output instead")


def _same(outputs: Any, others: Any) -> bool:
    """Whether two tensors hold the same numbers, as far as half precision can tell."""
    a, b = (np.asarray(tensor, "float64") for tensor in (outputs, others))
    return np.allclose(a, b, rtol=1e-2, atol=1e-4 * np.max(np.abs(b), initial=0), equal_nan=True)
