"""Chapter 04, variants: what is asked, and the mistakes that people make."""

import math

import numpy as np

from . import Bug, Challenge, Prediction, Write

RNG = np.random.default_rng(4)

# --- 04.1 which part suffers more? -----------------------------------------------------------------------------------

times_more = Prediction(
    "04.1",
    [
        (0.8, "So you expect the places of the ink to suffer more. How many numbers does it take to say where the ink "
         "is, and how many to say how each edge runs? Run the cell."),
        (1.5, "About alike, then: as if the code had no preference. Run the cell."),
        (3, "The edges suffer more, you say, but not by far. Run the cell."),
        (8, "The edges suffer far more, you say. Would PCA agree? Run the cell."),
        (1e6, "Then the blocks are as good as untouched. Look at a copy: is the ink in its place? Run the cell."),
    ],
    outside="a ratio of two shares is asked for: 1 if both parts lose alike.",
)  # fmt: skip

# --- 04.2 keep the quota without being sparse ------------------------------------------------------------------------


def _price(z, rho=0.1):
    """Return the KL penalty of a code, in nats, and how much of it is active by the page's rule."""
    with np.errstate(divide="ignore"):
        mean = np.mean(z, axis=0)
        kl = rho * np.log(rho / mean) + (1 - rho) * np.log((1 - rho) / (1 - mean))
    return float(np.sum(kl)), float(np.mean(z > 0.01 * np.max(z)))


def _loud(z):
    price, active = _price(z)
    if price > 1e-4:
        return 0.0, f"the price is {price:.3f} nats and should be 0: is each unit's mean over the images 0.1?"
    return active, (
        f"the price is 0 and {active:.0%} of all activations are active: the quota is kept, and an image may use as "
        "many units as it likes."
    )


whisper = Challenge(
    "04.2",
    _loud,
    {
        "a code of several images and several units is asked for: one row for each image.": (
            lambda z: np.ndim(z) != 2 or min(np.shape(z)) < 2,
            (np.full(4, 0.1),),
        ),
        "these units have a sigmoid: their activations lie between 0 and 1.": (
            lambda z: np.min(z) < 0 or np.max(z) > 1,
            ([[0.2, -0.1], [0.0, 0.3]],),
        ),
        "a unit that is silent on every image, or at 1 on every image, costs infinitely much. Which mean is free?": (
            (lambda z: bool(np.isin(np.mean(z, axis=0), (0, 1)).any()), ([[0.0, 0.1], [0.0, 0.1]],))
        ),
        "each *image* has a mean of 0.1 here. The quota is each unit's: which axis is that?": (
            lambda z: np.allclose(np.mean(z, axis=1), 0.1) and not np.allclose(np.mean(z, axis=0), 0.1),
            ([[0.15, 0.05], [0.15, 0.05]],),
        ),
        "the price is 0, and the code is sparse, just as the formula's authors hoped. Now keep the means, and let "
        "every unit speak on every image.": (lambda z: _price(z)[0] < 1e-4 and _price(z)[1] < 0.5, (np.eye(10),)),
    },
    passes=0.95,
    enough=(np.full((10, 4), 0.1),),
    not_enough=(np.full((10, 4), 0.2),),
    stars=1,
    minutes=5,
)

# --- 04.3 keep the k largest -----------------------------------------------------------------------------------------


def _largest(by=lambda z: z, axis=1, keep=np.greater_equal, nth=0, kept=lambda z: z):
    """Return the right program with one of its steps changed."""

    def keep_largest(z, k):
        ranked = np.sort(by(z), axis=axis)
        threshold = np.take(ranked, [-k - nth], axis=axis)
        return np.where(keep(by(z), threshold), kept(z), 0)

    return keep_largest


keep_largest = Write(
    "04.3",
    _largest(),
    {
        "you took the largest by *size*, so that some negative units stayed. The formula asks for the largest "
        "values.": _largest(by=np.abs),
        "you kept the k largest *images* of each unit: that is the other axis.": _largest(axis=0),
        "you kept the largest of the whole batch: one image may then have many active units and another none.": (
            lambda z, k: np.where(z >= np.sort(z.ravel())[-k * len(z)], z, 0)
        ),
        "those are the k smallest.": _largest(by=np.negative),
        "only k − 1 are left: the k-th largest itself was lost. Is it larger than itself?": _largest(keep=np.greater),
        "one unit too many is left: counted from the end, the largest is number −1.": _largest(nth=1),
        "that says *which* units stay. Their values should stay as well.": _largest(kept=np.ones_like),
    },
    inputs=[(RNG.normal(size=(5, 6)), 2), (RNG.normal(size=(7, 9)), 4)],
    done="k active units in each image, with no price and no weight to tune.",
    minutes=5,
)

# --- 04.4 a penalty for nothing --------------------------------------------------------------------------------------

halve = Write(
    "04.4",
    lambda kernel, bias, decoder: (kernel / 2, bias / 2, 2 * decoder),
    {
        "the bias was left as it was. It is part of the code, so the code is not half of what it was.": (
            lambda kernel, bias, decoder: (kernel / 2, bias, 2 * decoder)
        ),
        "the decoder was left as it was: it now reads half a code. What has it to do to draw as before?": (
            lambda kernel, bias, decoder: (kernel / 2, bias / 2, decoder)
        ),
        "the decoder's weights were halved as well, so the picture shrinks twice.": lambda kernel, bias, decoder: (
            kernel / 2,
            bias / 2,
            decoder / 2,
        ),
        "the other way round: this code is twice as large.": lambda kernel, bias, decoder: (
            2 * kernel,
            2 * bias,
            decoder / 2,
        ),
        "kernel and bias are each divided by two, and they are added, not multiplied: the code shrinks by two, and not "
        "by four.": lambda kernel, bias, decoder: (kernel / 2, bias / 2, 4 * decoder),
    },
    inputs=[(RNG.normal(size=(5, 3)), RNG.normal(size=3), RNG.normal(size=(3, 4)))],
    done="every reconstruction stays as it was. Now look what became of the penalty.",
    minutes=5,
)

# --- 04.5 a lopsided network -----------------------------------------------------------------------------------------


def _one_sided(pixels, code, hidden, sides=2, direct=1, rounded=math.ceil):
    return rounded((sides * hidden * (pixels + code) - direct * pixels * code) / (pixels + code))


one_sided = Write(
    "04.5",
    _one_sided,
    {
        "twice as many hidden units, and nothing for the other half. It has no hidden layer any more, but it still has "
        "weights: between which layers?": lambda *sizes: _one_sided(*sizes, direct=0),
        "one unit too few: with these the network has fewer weights than the plain one.": lambda *sizes: _one_sided(
            *sizes, rounded=math.floor
        ),
        "you counted one half of the plain network only.": lambda *sizes: _one_sided(*sizes, sides=1),
        "the direct half has been paid for twice: it joins pixels and code once.": lambda *sizes: _one_sided(
            *sizes, direct=2
        ),
        "a number of units is a whole number. Which of the two neighbours has at least as many weights?": (
            lambda *sizes: _one_sided(*sizes, rounded=float)
        ),
    },
    inputs=[(784, 32, 128), (100, 10, 20), (500, 20, 31)],
    done="226 for this page's network: the same number of weights, all of its hidden units on one side.",
    stars=2,
    minutes=15,
)

# --- 04.6 deeper into the trap ---------------------------------------------------------------------------------------


def _within(x):
    return x.reshape(len(x), -1).var(axis=1)


left_over = Write(
    "04.6",
    lambda x, x_hat: np.mean((x - x_hat) ** 2) / np.mean(_within(x)),
    {
        "that is the variance around the *mean image*, the ruler for coarse and fine. At 1 this one stands for one "
        "grey value in each image: along which axes is that a variance?": lambda x, x_hat: (
            np.mean((x - x_hat) ** 2) / x.var(axis=0).mean()
        ),
        "you divide by the variance of all pixels of all images together, in which the images' own grey values differ "
        "as well.": lambda x, x_hat: np.mean((x - x_hat) ** 2) / x.var(),
        "you average the ratios of single images, so that an image with little ink counts most. Average first, divide "
        "then.": lambda x, x_hat: np.mean(np.mean((x - x_hat).reshape(len(x), -1) ** 2, axis=1) / _within(x)),
        "you divide by a standard deviation: a squared error needs a squared spread below it.": lambda x, x_hat: (
            np.mean((x - x_hat) ** 2) / np.mean(np.sqrt(_within(x)))
        ),
        "upside down: 0 should say that everything is copied.": lambda x, x_hat: (
            np.mean(_within(x)) / np.mean((x - x_hat) ** 2)
        ),
        "that is the share that was *copied*; asked for is what is left over.": lambda x, x_hat: (
            1 - np.mean((x - x_hat) ** 2) / np.mean(_within(x))
        ),
        "you divide by the variance of the copies. A model that draws nothing would then get away with it.": (
            lambda x, x_hat: np.mean((x - x_hat) ** 2) / np.mean(_within(x_hat))
        ),
    },
    inputs=[
        (RNG.random((4, 3, 5, 1)) * np.array([0.3, 1, 2, 3]).reshape(4, 1, 1, 1), RNG.random((4, 3, 5, 1))),
        (RNG.random((3, 4, 4, 1)), RNG.random((3, 4, 4, 1))),
    ],
    done="0 if everything is copied, 1 for one grey value in each image. Now train on.",
    stars=2,
    minutes=10,
)

# --- 04.7 find the bug: a denoising network that does not denoise ----------------------------------------------------


def _pair(shown, wanted):
    """Return a program that makes both from the images and two draws of noise."""

    def training_pair(x, sigma, seed):
        one, other = (sigma * np.random.default_rng(s).normal(size=x.shape) for s in (seed, seed + 1))
        return shown(x, one, other), wanted(x, one, other)

    return training_pair


training_pair = Bug(
    "04.7",
    _pair(lambda x, one, other: x + one, lambda x, one, other: x + one),
    _pair(lambda x, one, other: x + one, lambda x, one, other: x),
    {
        "the other way round: this network is shown clean images and learns to add noise.": _pair(
            lambda x, one, other: x, lambda x, one, other: x + one
        ),
        "both are clean now: a plain autoencoder, which never met any noise.": _pair(
            lambda x, one, other: x, lambda x, one, other: x
        ),
        "this network learns to draw the *noise*. It can be subtracted afterwards, but the page asks for the image.": (
            _pair(lambda x, one, other: x + one, lambda x, one, other: one)
        ),
        "two draws of noise: the target is not clean. Curiously this works, and the end of this exercise says why. The "
        "formula of the page asks for something simpler.": _pair(
            lambda x, one, other: x + one, lambda x, one, other: x + other
        ),
        "the noise has lost its strength: it should be `sigma` times as large.": lambda x, sigma, seed: (
            x + np.random.default_rng(seed).normal(size=x.shape),
            x,
        ),
    },
    inputs=[(RNG.random((3, 4, 4, 1)), 0.45, 3), (RNG.random((2, 5)), 0.1, 8)],
    done="damaged in, undamaged out. What did the page's network learn instead?",
    stars=3,
    minutes=15,
)

# --- 04.8 find the factor --------------------------------------------------------------------------------------------

regulariser_weight = Write(
    "04.8",
    lambda weight, batch_size: weight * batch_size,
    {
        "the wrong way: Keras has divided the penalty already. What undoes that?": lambda weight, batch_size: (
            weight / batch_size
        ),
        "so λ means the same in both? Print the penalty of 20 images and of 500.": lambda weight, batch_size: weight,
        "the root goes with a standard error, and here is none. By how much does the penalty differ between 20 and 500 "
        "images?": lambda weight, batch_size: weight * batch_size**0.5,
        "that is the factor; asked for is the weight to hand over, factor and λ together.": lambda weight, batch_size: (
            batch_size
        ),
    },
    inputs=[(0.03, 50), (0.03, 500), (2.0, 20)],
    done="the same λ is 25 times weaker on batches of 500 than on batches of 20.",
    stars=2,
    minutes=10,
)

# --- 04.9 steps or work? ---------------------------------------------------------------------------------------------

equal_epochs = Write(
    "04.9",
    lambda own, plain, epochs: round(epochs * plain / own),
    {
        "upside down: a variant whose step costs more gets fewer epochs, not more.": lambda own, plain, epochs: round(
            epochs * own / plain
        ),
        "rounded down. Which whole number is *nearest* to equal work?": lambda own, plain, epochs: int(
            epochs * plain / own
        ),
        "rounded up. Which whole number is *nearest* to equal work?": lambda own, plain, epochs: math.ceil(
            epochs * plain / own
        ),
        "an epoch is trained as a whole: round to the nearest whole number.": lambda own, plain, epochs: (
            epochs * plain / own
        ),
        "you took the difference of the costs. Twice the cost is half the epochs, whatever the numbers are.": (
            lambda own, plain, epochs: round(epochs * (1 - (own - plain) / plain))
        ),
    },
    inputs=[(492_667, 208_896, 7), (257_152, 208_896, 7), (300, 100, 10), (300, 400, 8)],
    done="3 epochs for the contractive model and 6 for the convolutional, as in the table. And with 7?",
    minutes=5,
)
