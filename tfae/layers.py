"""Layers that autoencoders need and Keras lacks (chapters 04 and 05)."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from tfae.checks import check_number, check_seed, check_size
from tfae.inference import sample_shape
from tfae.replicas import draw_rows

CORRUPTIONS = ("gaussian", "masking", "salt_and_pepper")


@keras.saving.register_keras_serializable("tfae")
class Corrupt(keras.Layer):
    """Damage the input in training, and pass it on untouched otherwise.

    Parameters
    ----------
    kind : str
        ``"gaussian"`` adds noise of standard deviation `level`; ``"masking"`` sets a fraction `level` of the features
        to 0; ``"salt_and_pepper"`` sets a fraction `level` to 0 or 1, each half of the time.
    level : float
        In [0, 1] for the fractions, at least 0 for the standard deviation.
    seed : int, optional
        Fixes the noise. Without it the noise follows ``keras.utils.set_random_seed``.

    Raises
    ------
    ValueError
        If `kind` is not known or `level` is out of range.

    Examples
    --------
    >>> Corrupt("masking", 0.25, seed=0)(x, training=True)  # to damage test images on purpose  # doctest: +SKIP
    """

    def __init__(self, kind: str = "gaussian", level: float = 0.3, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if kind not in CORRUPTIONS:
            raise ValueError(f"unknown corruption {kind!r}; the known ones are {', '.join(CORRUPTIONS)}")
        self.kind, self.seed = kind, None if seed is None else check_seed(seed)
        self.level = check_number(level, "level", 0, math.inf if kind == "gaussian" else 1)
        self.seed_generator = keras.random.SeedGenerator(self.seed)
        self.draws_rows = True
        self.built = True

    def call(self, x: Any, training: bool | None = None) -> Any:
        if not training:
            return x
        x = ops.cast(x, self.compute_dtype)  # noise on whole numbers would be cut to them
        draw = keras.random.normal if self.kind == "gaussian" else keras.random.uniform
        noise = draw_rows(draw, ops.shape(x), dtype=x.dtype, seed=self.seed_generator)
        if self.kind == "gaussian":
            return x + self.level * noise
        if self.kind == "masking":
            return ops.where(noise < self.level, 0.0, x)
        return ops.where(noise < self.level / 2, 0.0, ops.where(noise < self.level, 1.0, x))

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"kind": self.kind, "level": self.level, "seed": self.seed}


@keras.saving.register_keras_serializable("tfae")
class TopK(keras.Layer):
    """Keep the `k` largest units of each sample and set the others to 0 [1]_.

    Parameters
    ----------
    k : int
        Between 1 and the number of units.

    Raises
    ------
    ValueError
        If `k` is not a whole number of at least 1, or larger than the number of units.

    References
    ----------
    .. [1] A. Makhzani and B. Frey, "k-sparse autoencoders", arXiv:1312.5663.
    """

    def __init__(self, k: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.k = check_size(k, "k")

    def build(self, input_shape: tuple[int, ...]) -> None:
        if self.k > input_shape[-1]:
            raise ValueError(f"k is {self.k} and there are {input_shape[-1]} units; k must not be larger")
        self.built = True

    def call(self, z: Any) -> Any:
        _, kept = ops.top_k(z, self.k)  # (n, k) positions; ties go to the first, so that exactly k are kept
        return z * ops.sum(ops.one_hot(kept, z.shape[-1], dtype=z.dtype), axis=-2)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"k": self.k}


@keras.saving.register_keras_serializable("tfae")
class Sampling(keras.Layer):
    """Draw z = mean + standard deviation · noise, through which gradients pass to both [1]_.

    Called with the mean and the log-variance, each of shape ``(n, units)``.

    Parameters
    ----------
    seed : int, optional
        Fixes the noise. Without it the noise follows ``keras.utils.set_random_seed``.

    References
    ----------
    .. [1] D. P. Kingma and M. Welling, "Auto-encoding variational Bayes", arXiv:1312.6114.
    """

    def __init__(self, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = None if seed is None else check_seed(seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)
        self.draws_rows = True
        self.built = True

    def call(self, mean: Any, log_variance: Any) -> Any:
        noise = draw_rows(keras.random.normal, ops.shape(mean), dtype=mean.dtype, seed=self.seed_generator)
        return mean + ops.exp(0.5 * log_variance) * noise

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"seed": self.seed}


@keras.saving.register_keras_serializable("tfae")
class OfClass(keras.Layer):
    """A decoder of codes and classes, told one class for all codes (chapter 05).

    Parameters
    ----------
    decoder : keras.Layer
        Takes codes joined with a class as one-hot, ``(n, units + n_classes)``.
    label, n_classes : int
    """

    def __init__(self, decoder: keras.Layer, label: int, n_classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.decoder, self.n_classes = decoder, check_size(n_classes, "n_classes")
        self.label = check_seed(label)
        self.built = decoder.built

    @property
    def input_shape(self) -> tuple[int | None, ...] | None:
        """Shape of the codes, where the decoder knows what it takes."""
        joined = sample_shape(self.decoder)
        return (None, joined[0] - self.n_classes) if joined and joined[0] else None

    def call(self, z: Any, training: bool | None = None) -> Any:
        label = ops.one_hot(ops.full((ops.shape(z)[0],), self.label, dtype="int32"), self.n_classes, dtype=z.dtype)
        return self.decoder(ops.concatenate([z, label], axis=-1), training=training)

    def get_config(self) -> dict[str, Any]:
        decoder = keras.saving.serialize_keras_object(self.decoder)
        return super().get_config() | {"decoder": decoder, "label": self.label, "n_classes": self.n_classes}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "OfClass":
        return cls(**(config | {"decoder": keras.saving.deserialize_keras_object(config["decoder"])}))


class TransposedDense(keras.Layer):
    """Run a stack of dense layers backwards: their kernels transposed, with biases of its own.

    Each layer is followed by the activation of the layer before it in the stack, the last by `activation`.

    Parameters
    ----------
    dense : sequence of keras.layers.Dense
        Built layers, in forward order. Their kernels are shared, not copied.
    activation : str or callable
        Of the output.

    Raises
    ------
    ValueError
        If a layer is not a built Dense layer.
    """

    def __init__(
        self, dense: Sequence[keras.layers.Dense], activation: str | Callable = "sigmoid", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        for layer in dense:
            if not isinstance(layer, keras.layers.Dense) or not layer.built:
                raise ValueError(
                    f"only built Dense layers can be transposed, not {layer.name!r} ({type(layer).__name__})"
                )
        self.dense = list(dense)
        self.activation = keras.activations.get(activation)
        self.biases = [self.add_weight(shape=(layer.kernel.shape[0],), initializer="zeros") for layer in self.dense]
        self.built = True

    def call(self, z: Any) -> Any:
        activations = [self.activation, *(layer.activation for layer in self.dense[:-1])]
        for layer, bias, activation in reversed(list(zip(self.dense, self.biases, activations, strict=True))):
            z = activation(ops.matmul(z, ops.transpose(layer.kernel)) + bias)
        return z
