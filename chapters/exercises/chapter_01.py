"""Chapter 01, concepts: what is asked, and the mistakes that people make."""

import numpy as np

from . import Bug, Exploration, Prediction, Write

RNG = np.random.default_rng(1)

# --- 01.1 is an unseen class always worse? ---------------------------------------------------------------------------

left_out = Prediction(
    "01.1",
    [
        (0.9, "You expect the ones to be drawn *better* than what the model was trained on. Why? Run the cell."),
        (1.1, "About the same, then: as if the model had seen them. Run the cell."),
        (1.8, "Worse, but not as bad as the zeros were. Run the cell."),
        (1e6, "As bad as the zeros, or worse. Think of how much of a one there is to draw, then run the cell."),
    ],
    outside="a ratio of two errors is asked for: 1 if the ones are drawn as well as the classes that were seen.",
)

# --- 01.2 turn a code ------------------------------------------------------------------------------------------------

_W, _b, _V = RNG.normal(size=(5, 3)), RNG.normal(size=3), RNG.normal(size=(3, 4))
_Q = np.linalg.qr(RNG.normal(size=(3, 3)))[0]
turn = Write(
    "01.2",
    lambda W, b, V, Q: (W @ Q, b @ Q, Q.T @ V),
    {
        "the bias was left as it was. It is added to the code, so it has to be turned with it.": lambda W, b, V, Q: (
            W @ Q,
            b,
            Q.T @ V,
        ),
        "the decoder has to turn the code *back*, and yours turns it further.": lambda W, b, V, Q: (
            W @ Q,
            b @ Q,
            Q @ V,
        ),
        "both halves are turned the other way round: the outputs agree, but the new code is z Qᵀ, not z Q.": (
            lambda W, b, V, Q: (W @ Q.T, b @ Q.T, Q @ V)
        ),
        "the encoder is turned and the decoder is not: it reads units that now mean something else.": (
            lambda W, b, V, Q: (W @ Q, b @ Q, V)
        ),
    },
    inputs=[(_W, _b, _V, _Q)],
    done="every output stays as it was, and every unit of the code means something else.",
    stars=2,
    minutes=5,
)

# --- 01.3 swap two units ---------------------------------------------------------------------------------------------


def _matrix(rows, k):
    return np.eye(k)[[*rows, *range(len(rows), k)]]


def _with(k, value):
    Q = np.eye(k)
    Q[0, 1] = value
    return Q


swap = Write(
    "01.3",
    lambda k: _matrix([1, 0], k),
    {
        "that is the identity: nothing is swapped.": np.eye,
        "you moved every unit along by one. Only the first two should change places.": lambda k: np.roll(
            np.eye(k), 1, axis=0
        ),
        "units 0 and 1 are added, not swapped, and this matrix is not orthogonal: its transpose does not undo it.": (
            lambda k: _with(k, 1.0)
        ),
        "counted from 1: these are units 1 and 2.": lambda k: _matrix([0, 2, 1], k),
        "all units are turned round: the last became the first.": lambda k: np.eye(k)[::-1],
    },
    inputs=[(5,), (4,)],
    done="a swap is a reflection, so it is orthogonal. Even the numbering of the units is an accident.",
    minutes=5,
)

# --- 01.4 another slice ----------------------------------------------------------------------------------------------


def _quarters(errors, ink, by=None, low=0.25, high=0.75, total=np.mean):
    by = ink if by is None else by
    return total(errors[by <= np.quantile(by, low)]), total(errors[by >= np.quantile(by, high)])


_errors, _ink = RNG.random(41), RNG.random(41)
quarters = Write(
    "01.4",
    _quarters,
    {
        "those are the halves: a quarter ends at the quantile 0.25.": lambda errors, ink: _quarters(
            errors, ink, low=0.5, high=0.5
        ),
        "swapped: the quarter with the least ink comes first.": lambda errors, ink: _quarters(errors, ink)[::-1],
        "you cut the images by their error. Then the second number is larger by construction, whatever the ink "
        "does.": lambda errors, ink: _quarters(errors, ink, by=errors),
        "that is the ink in the two quarters, not the error.": lambda errors, ink: _quarters(ink, ink),
        "sums grow with the number of images: take the mean of each quarter.": lambda errors, ink: _quarters(
            errors, ink, total=np.sum
        ),
    },
    inputs=[(_errors, _ink), (_errors**2, 3 * _ink)],
    done="on *strokes* the error grows with the ink, so a threshold on the error is in part a threshold on the pen.",
    minutes=8,
)

# --- 01.5 find the bug: a Sequential without an input ----------------------------------------------------------------


def _halves():
    import keras
    from keras import layers

    def dense(units, activation=None):
        return layers.Dense(units, activation, kernel_initializer=keras.initializers.GlorotUniform(seed=units))

    encoder = keras.Sequential([layers.Flatten(), dense(2)])
    decoder = keras.Sequential([dense(12, "sigmoid"), layers.Reshape((3, 4, 1))])
    return encoder, decoder, (3, 4, 1)


def _joined(part):
    def join(encoder, decoder, shape):
        import keras

        inputs = keras.Input(shape)
        return keras.Model(inputs, part(encoder, decoder, inputs))

    return join


def _outputs(model):
    return np.asarray(model(np.linspace(0, 1, 24, dtype="float32").reshape(2, 3, 4, 1)))


def _neither(encoder, decoder, x):
    from keras import layers

    return layers.Identity()(x)


join = Write(
    "01.5",
    _joined(lambda encoder, decoder, x: decoder(encoder(x))),
    {
        "this model returns the code: hand it on to the decoder.": _joined(lambda encoder, decoder, x: encoder(x)),
        "the output has lost the shape of an image. Look at `output_shape` each time: it must be that of an input.": (
            _joined(lambda encoder, decoder, x: decoder.layers[0](encoder(x)))
        ),
        "this model hands its input on and uses neither half.": _joined(_neither),
    },
    inputs=[_halves],
    compared=_outputs,
    done="a Sequential that does not begin with a `keras.Input` has no input until it is called, so you called it.",
    minutes=5,
)

# --- 01.6 find the bug: repeated images ------------------------------------------------------------------------------


def _prepared(repeat_first=False, shuffle=False, fit_on_all=False, repeat=True):
    def prepare(images, copies, held_out):
        n = len(images)
        if repeat_first:
            every = np.repeat(images, copies, axis=0) if shuffle else np.concatenate([images] * copies)
            every = np.random.default_rng(0).permutation(every) if shuffle else every
            cut = len(every) - held_out
            return every[:cut], every[cut:]
        fit = images if fit_on_all else images[: n - held_out]
        return (np.concatenate([fit] * copies) if repeat else fit), images[n - held_out :]

    return prepare


def _overlap(split):
    """Return the sizes of both parts, how many images differ in them, and how many stand in both."""
    fit, validation = (set(map(tuple, np.reshape(part, (len(part), -1)))) for part in split)
    return len(split[0]), len(split[1]), len(fit), len(validation), len(fit & validation)


prepare = Bug(
    "01.6",
    _prepared(repeat_first=True),
    _prepared(),
    {
        "shuffled, and still wrong: the copies of an image lie on both sides of the cut. Which step has to come "
        "first?": _prepared(repeat_first=True, shuffle=True),
        "the validation part is right, but its images stand in the training part as well.": _prepared(fit_on_all=True),
        "split correctly, but nothing is repeated any more: repeat the training part, after the cut.": _prepared(
            repeat=False
        ),
    },
    inputs=[(RNG.random((30, 2, 2)), 10, 6), (RNG.random((12, 3)), 4, 9)],
    compared=_overlap,
    done="split first, repeat afterwards. The same holds for augmented images and for patients with several scans.",
    stars=2,
    minutes=15,
)

# --- 01.7 beat PCA at 64 ---------------------------------------------------------------------------------------------

beat_pca = Exploration(
    "01.7",
    [
        "both changes help by themselves: longer training and a wide layer instead of two narrow ones",
        "the layers help more: the code of 64 stood behind a hidden layer of 64",
        "together they beat PCA, by a number from the table",
        "the choice was made on images that are neither the training nor the test images",
    ],
    stars=2,
    minutes=20,
)

# --- 01.8 an explanation that reaches further ------------------------------------------------------------------------


def _average(points):
    def average(gradient, start, end, steps):
        return np.mean([gradient(start + t * (end - start)) for t in points(steps)], axis=0)

    return average


def _cubic(x):
    return 3 * x**2 + 1


average_gradient = Write(
    "01.8",
    _average(lambda steps: (np.arange(steps) + 0.5) / steps),
    {
        "that is the gradient at the start alone, which is what did not reach far enough.": _average(lambda n: [0.0]),
        "that is the gradient in the middle alone: right for a parabola, not for every bend.": _average(
            lambda n: [0.5]
        ),
        "your points begin at the start and stop one step before the end, so the first half of the way weighs more. "
        "Take the middles of the steps.": _average(lambda steps: np.arange(steps) / steps),
        "both ends are among your points and count as much as all others. Take the middles of the steps.": _average(
            lambda steps: np.linspace(0, 1, steps)
        ),
        "you summed the gradients: the mean is asked for.": lambda gradient, start, end, steps: (
            steps * _average(lambda n: (np.arange(n) + 0.5) / n)(gradient, start, end, steps)
        ),
        "that is the change along the way already: the mean slope times the difference. The slope alone is asked "
        "for.": lambda gradient, start, end, steps: (
            (end - start) * _average(lambda n: (np.arange(n) + 0.5) / n)(gradient, start, end, steps)
        ),
    },
    inputs=[(_cubic, np.array([0.0, 1.0]), np.array([2.0, 4.0]), 8), (_cubic, np.array([-1.0]), np.array([0.5]), 3)],
    done="by the fundamental theorem of calculus, the mean slope times the difference *is* the change.",
    stars=3,
    minutes=30,
)
