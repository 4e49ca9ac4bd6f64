"""An autoencoder that reads and writes strings, and the typing errors it can be trained to undo (chapter 14).

>>> strings = Alphabet()
>>> autoencoder = text_autoencoder(strings, code_size=32)
>>> autoencoder.compile("adam", loss="categorical_crossentropy")
>>> autoencoder.fit(strings.one_hot(strings.encode(["the old fox sees the key"])))  # doctest: +SKIP
"""

import itertools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from tfae.alphabet import Alphabet
from tfae.checks import check_number, check_seed, check_size
from tfae.models import Autoencoder

# --- typing errors ---------------------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable("tfae")
class Misspell(keras.Layer):
    """Damage strings in training as a hasty typist does, and pass them on untouched otherwise [1]_.

    An edit is, each as likely: a character dropped, a wrong one inserted, two neighbours swapped, or one replaced. A
    drop moves the whole rest of the string, which no noise on single features does.

    Parameters
    ----------
    edits : int
        Edits of each string.
    probability : float
        That an edit takes place. Below 1, some strings stay whole.
    seed : int, optional
        Fixes the edits. Without it they follow ``keras.utils.set_random_seed``.

    Raises
    ------
    ValueError
        If `edits` is not a whole number of at least 1, or `probability` is outside [0, 1].

    Notes
    -----
    Takes and returns one-hot strings, (n, length, characters + 1). An edit may have no effect: two equal neighbours
    swapped, or a full string that has no room for one more character and loses its last.

    References
    ----------
    .. [1] T. Shen, J. Mueller, R. Barzilay and T. Jaakkola, "Educating text autoencoders: latent representation
       guidance via denoising", ICML 2020.

    Examples
    --------
    >>> Misspell(1, seed=0)(x, training=True)  # to damage test sentences on purpose  # doctest: +SKIP
    """

    def __init__(self, edits: int = 1, probability: float = 1.0, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.edits, self.probability = check_size(edits, "edits"), check_number(probability, "probability", 0, 1)
        self.seed = None if seed is None else check_seed(seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)
        self.built = True

    def call(self, x: Any, training: bool | None = None) -> Any:
        if not training:
            return x
        codes = ops.cast(ops.argmax(x, axis=-1), "int32")  # (n, length)
        for _ in range(self.edits):
            codes = self._edit(codes, x.shape[-1])
        return ops.one_hot(codes, x.shape[-1], dtype=x.dtype)

    def _edit(self, codes: Any, symbols: int) -> Any:
        i = ops.arange(codes.shape[1])[None]  # (1, length)
        ends = ops.max(ops.where(codes > 0, i + 1, 0), axis=1, keepdims=True)  # (n, 1)
        place, kind = self._draw(codes, ends), self._draw(codes, 4)
        wrong = 1 + self._draw(codes, symbols - 1)  # any character, but not the filling
        happens = keras.random.uniform((ops.shape(codes)[0], 1), seed=self.seed_generator) < self.probability
        drop, insert, swap, replace = (happens & (kind == k) for k in range(4))
        last = codes.shape[1] - 1
        source = ops.where(drop & (i >= place), i + 1, i)  # where each character comes from
        source = ops.where(insert & (i > place), i - 1, source)
        source = ops.where(swap & (i == place) & (place + 1 < ends), i + 1, source)
        source = ops.where(swap & (i == place + 1) & (place + 1 < ends), i - 1, source)
        moved = ops.take_along_axis(codes, ops.minimum(source, last), axis=1)
        moved = ops.where(source > last, 0, moved)
        return ops.where((insert | replace) & (i == place), wrong, moved)

    def _draw(self, codes: Any, below: Any) -> Any:
        """Draw a whole number from 0 to `below` - 1 for each string, shape (n, 1)."""
        u = keras.random.uniform((ops.shape(codes)[0], 1), seed=self.seed_generator)
        return ops.cast(u * ops.cast(below, u.dtype), "int32")

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"edits": self.edits, "probability": self.probability, "seed": self.seed}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Misspell":
        """Read the files of version 0.1, too, in which the probability was a rate."""
        return cls(**{"probability" if name == "rate" else name: value for name, value in config.items()})


# --- the model -------------------------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable("tfae")
class Writer(keras.Layer):
    r"""Write a string from a code, one character after the other [1]_.

    A gated recurrent unit starts from the code and reads, at each place, the code and the character before it. It
    returns :math:`p(c_t \mid z, c_{t-1}, c_{t-2}, \dots)` for every character of the alphabet. So the code need not say
    where a word stands, only which words there are: the writer knows how far it has come.

    Parameters
    ----------
    code_size, length, symbols : int
        Units of the code; places and characters of the strings, the filling included.
    units : int
        Of the recurrent state.
    seed : int, optional
        Fixes the initial weights. Without it they follow ``keras.utils.set_random_seed``.

    References
    ----------
    .. [1] I. Sutskever, O. Vinyals and Q. V. Le, "Sequence to sequence learning with neural networks", NIPS 2014.
    """

    def __init__(
        self, code_size: int, length: int, symbols: int, units: int = 128, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.code_size, self.length = check_size(code_size, "code_size"), check_size(length, "length")
        self.symbols, self.units = check_size(symbols, "symbols"), check_size(units, "units")
        self.seed = seed
        seeds = _seeds(seed)
        self.start = layers.Dense(units, "tanh", **_initial("kernel", seeds))
        self.recurrence = layers.GRU(units, return_sequences=True, **_initial("kernel recurrent", seeds))
        self.choice = layers.Dense(symbols, "softmax", dtype="float32", **_initial("kernel", seeds))
        self.start.build((None, code_size))
        self.recurrence.build((None, length, symbols + code_size))
        self.choice.build((None, units))
        self.built = True

    @property
    def input_shape(self) -> tuple[int | None, int]:
        """Shape of the codes."""
        return None, self.code_size

    def call(self, z: Any, written: Any = None) -> Any:
        """Return the probabilities of characters, shape (n, length, symbols).

        Without `written` each character is the most probable one after those chosen before it. With it, a one-hot
        string, they are the probabilities after *its* characters: one pass over all places, to train on.
        """
        if written is None:
            return self._write(z)
        before = ops.pad(written, [(0, 0), (1, 0), (0, 0)])[:, :-1]  # nothing stands before the first character
        code = ops.repeat(ops.expand_dims(z, 1), self.length, axis=1)
        return self.choice(self.recurrence(ops.concatenate([before, code], axis=-1), initial_state=self.start(z)))

    def _write(self, z: Any) -> Any:
        state, character = self.start(z), ops.zeros((ops.shape(z)[0], self.symbols), dtype=z.dtype)
        probabilities = []
        for _ in range(self.length):
            state, _ = self.recurrence.cell(ops.concatenate([character, z], axis=-1), [state])
            probabilities.append(self.choice(state))
            character = ops.one_hot(ops.argmax(probabilities[-1], axis=-1), self.symbols, dtype=z.dtype)
        return ops.stack(probabilities, axis=1)

    def get_config(self) -> dict[str, Any]:
        sizes = {"code_size": self.code_size, "length": self.length, "symbols": self.symbols, "units": self.units}
        return super().get_config() | sizes | {"seed": self.seed}


@keras.saving.register_keras_serializable("tfae")
class TextAutoencoder(Autoencoder):
    """An autoencoder of one-hot strings whose decoder writes them character by character (chapter 14).

    In training the decoder is given the true characters before each place, those of the target, and learns to continue
    them from the code. The target is the input, or what ``fit(x, y)`` names: undamaged strings for damaged ones.
    Otherwise the decoder goes on from its own characters. So the loss that ``fit`` prints is that of single characters,
    and lower than the loss of ``evaluate``, where one wrong character can spoil the rest.

    Parameters
    ----------
    encoder : keras.Layer
        Maps one-hot strings ``(n, length, symbols)`` to codes ``(n, code_size)``. To train for denoising, begin it with
        `Misspell`: the decoder still has to write the undamaged string.
    decoder : Writer

    Raises
    ------
    ValueError
        If the decoder is not a `Writer`, and as in `Autoencoder`.
    """

    def __init__(self, encoder: keras.Layer, decoder: Writer, **kwargs: Any) -> None:
        super().__init__(encoder, decoder, **kwargs)
        if not isinstance(decoder, Writer):
            raise ValueError(f"the decoder of a text autoencoder must be a tfae.text.Writer, not {decoder!r}")

    def call(self, x: Any, training: bool | None = None) -> Any:
        """Return the probabilities of characters; of a pair ``(x, y)``, those after the characters of `y`."""
        if isinstance(x, tuple | list):
            x, written = x
            return self.decoder(self.code(x, training=training), written)
        z = self.code(x, training=training)
        return self.decoder(z, x) if training else self.decoder(z)

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        y = x if y is None else y
        return super().train_step(((x, y), y, sample_weight))


def text_autoencoder(
    alphabet: Alphabet,
    code_size: int = 32,
    *,
    filters: int = 64,
    units: int = 128,
    noise: float = 0.3,
    edits: int = 0,
    probability: float = 0.6,
    seed: int | None = None,
) -> TextAutoencoder:
    """Build an autoencoder of strings: convolutions and a recurrent unit read, a `Writer` writes.

    Train it on `Alphabet.one_hot` with the loss ``"categorical_crossentropy"``.

    Parameters
    ----------
    alphabet : Alphabet
    code_size : int
        Number of code units.
    filters : int
        Channels of the three convolutions, of which two halve the number of places.
    units : int
        Of the recurrent states.
    noise : float
        Standard deviation of Gaussian noise on the code in training. The code is standardised, so 0.3 is 0.3 of the
        spread of each unit. Noise makes near codes mean near things: code arithmetic rests on it.
    edits, probability
        As in `Misspell`: what damages the input in training. 0 edits: nothing does.
    seed : int, optional
        Fixes the initial weights, the noise and the edits. Without it they follow ``keras.utils.set_random_seed``.

    Raises
    ------
    ValueError
        If a size is not a whole number of at least 1, or a number is out of range.
    """
    seeds = _seeds(seed)
    half = {"strides": 2, "padding": "same", "activation": "relu"}
    encoder = keras.Sequential(
        [
            keras.Input(alphabet.shape),
            *([Misspell(edits, probability, next(seeds))] if edits else []),
            layers.Conv1D(check_size(filters, "filters"), 5, **half | {"strides": 1}, **_initial("kernel", seeds)),
            layers.Conv1D(filters, 5, **half, **_initial("kernel", seeds)),
            layers.Conv1D(filters, 5, **half, **_initial("kernel", seeds)),
            layers.GRU(check_size(units, "units"), **_initial("kernel recurrent", seeds)),
            layers.Dense(check_size(code_size, "code_size"), **_initial("kernel", seeds)),
            layers.BatchNormalization(center=False, scale=False, name="code"),
            layers.GaussianNoise(check_number(noise, "noise", 0), seed=next(seeds)),
        ],
        name="encoder",
    )
    return TextAutoencoder(encoder, Writer(code_size, *alphabet.shape, units, next(seeds), name="decoder"))


def _seeds(seed: int | None) -> Iterator[int | None]:
    """Give each layer a seed of its own, or none where there is none."""
    if seed is None:
        return itertools.repeat(None)
    rng = np.random.default_rng(check_seed(seed))
    return (int(rng.integers(2**31)) for _ in itertools.repeat(None))


def _initial(weights: str, seeds: Iterator[int | None]) -> dict[str, keras.Initializer]:
    """Return Keras's usual initialisers of the named weights, seeded."""
    kinds = {"kernel": keras.initializers.GlorotUniform, "recurrent": keras.initializers.Orthogonal}
    return {f"{name}_initializer": kinds[name](seed=next(seeds)) for name in weights.split()}
