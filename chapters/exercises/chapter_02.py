"""Chapter 02, the mathematics: what is asked, and the mistakes that people make."""

import numpy as np

from . import Bug, Prediction, Write

RNG = np.random.default_rng(2)


def _sigmoid(a):
    return 1 / (1 + np.exp(-a))


# --- 02.1 the squared error of each sample ---------------------------------------------------------------------------

errors_per_sample = Write(
    "02.1",
    lambda x, x_hat: np.mean((x - x_hat) ** 2, axis=1),
    {
        "that is the sum over the pixels: 784 times Keras's `mse` for an image of 28 × 28. Which of the two does the "
        "question ask for?": lambda x, x_hat: np.sum((x - x_hat) ** 2, axis=1),
        "one number for the whole batch: you averaged over the samples as well. Each sample should keep its own "
        "error, so average along one axis only.": lambda x, x_hat: np.mean((x - x_hat) ** 2),
        "you averaged over the samples and kept the pixels: that is the other axis.": lambda x, x_hat: np.mean(
            (x - x_hat) ** 2, axis=0
        ),
        "you averaged before squaring: that is the square of the mean error, in which too light here and too dark "
        "there cancel.": lambda x, x_hat: np.mean(x - x_hat, axis=1) ** 2,
        "that is the mean absolute error: the differences are not squared.": lambda x, x_hat: np.mean(
            np.abs(x - x_hat), axis=1
        ),
        "that is the root of it: an error in the unit of a pixel, but not the mean squared one.": lambda x, x_hat: (
            np.sqrt(np.mean((x - x_hat) ** 2, axis=1))
        ),
    },
    inputs=[(RNG.random((3, 5)), RNG.random((3, 5))), (RNG.random((1, 7)), RNG.random((1, 7)))],
    done="one error for each sample, in Keras's unit. Every quality figure of this course is made of these.",
    minutes=3,
)

# --- 02.2 how much steeper is the cross-entropy? ---------------------------------------------------------------------

steeper = Prediction(
    "02.2",
    [
        (0.8, "So you expect the squared error to pull harder. Look at the two formulas: which one keeps the factor "
         "that is nearly 0 at the flat end of the sigmoid?"),
        (3, "About alike, then. Put the numbers into the two formulas before you run the cell."),
        (30, "A clear difference, you say. Put the numbers in and see whether it is large enough."),
        (300, "Two orders of magnitude or nearly: you have seen what the factor that did not cancel does."),
        (1e9, "That is a lot. The factor that did not cancel is small, but not that small at -5."),
    ],
    outside="how many *times* steeper is asked for, a positive number: below 1 if the squared error pulls harder.",
)  # fmt: skip

# --- 02.3 the price of a wrong guess ---------------------------------------------------------------------------------

prices = Write(
    "02.3",
    lambda p: ((1 - p) ** 2, -np.log(p)),
    {
        "the cross-entropy here is in decimal digits: the logarithm of this course is the natural one, its unit the "
        "nat.": lambda p: ((1 - p) ** 2, -np.log10(p)),
        "the cross-entropy has the wrong sign: a price is positive.": lambda p: ((1 - p) ** 2, np.log(p)),
        "the pixel is ink: what counts is the probability given to ink, not that given to paper.": lambda p: (
            (1 - p) ** 2,
            -np.log(1 - p),
        ),
        "the two prices are swapped.": lambda p: (-np.log(p), (1 - p) ** 2),
        "the squared error is that of a pixel without ink: here x = 1.": lambda p: (p**2, -np.log(p)),
    },
    inputs=[(0.001,), (0.000001,), (0.3,)],
    done="the squared error cannot exceed 1; the cross-entropy adds 2.3 nats for each further factor of ten.",
)

# --- 02.4 find the bug: a thousand times better ----------------------------------------------------------------------


_x, _network, _pca = RNG.random((3, 4, 4, 4, 1))
compare = Bug(
    "02.4",
    lambda x, network, pca: np.sum((x - pca) ** 2, axis=(1, 2, 3)).mean() / np.mean((x - network) ** 2),
    lambda x, network, pca: np.mean((x - pca) ** 2) / np.mean((x - network) ** 2),
    {
        "you divided by a fixed 784: that is right for 28 × 28 pixels only. Let the images say how many pixels they "
        "have.": lambda x, network, pca: (
            np.sum((x - pca) ** 2, axis=(1, 2, 3)).mean() / 784 / np.mean((x - network) ** 2)
        ),
        "upside down: that says how many times better PCA is.": lambda x, network, pca: (
            np.mean((x - network) ** 2) / np.mean((x - pca) ** 2)
        ),
        "you average the ratios of single images. One image that the network draws nearly perfectly then decides "
        "everything: average the errors first, divide then.": lambda x, network, pca: np.mean(
            np.mean((x - pca) ** 2, axis=(1, 2, 3)) / np.mean((x - network) ** 2, axis=(1, 2, 3))
        ),
    },
    inputs=[(_x, _network, _pca), (_x[:2], _pca[:2], _network[:2])],
    done="both errors are means over the same pixels now, and a factor of hundreds is gone.",
    minutes=8,
)

# --- 02.5 the gradient of the cross-entropy --------------------------------------------------------------------------


def _gradients(slope=lambda x_hat: 1.0, sign=1, size=lambda x: x.size, code_slope=lambda z: z * (1 - z)):
    """Return the right program with one of its factors changed."""

    def gradients(x, W, b, V, c):
        z = _sigmoid(x @ W + b)
        x_hat = _sigmoid(z @ V + c)
        delta2 = sign * (x_hat - x) * slope(x_hat) / size(x)
        delta1 = delta2 @ V.T * code_slope(z)
        return x.T @ delta1, delta1.sum(0), z.T @ delta2, delta2.sum(0)

    return gradients


_small = (RNG.random((4, 6)), RNG.normal(size=(6, 3)), RNG.normal(size=3), RNG.normal(size=(3, 6)), RNG.normal(size=6))
entropy_gradients = Write(
    "02.5",
    _gradients(),
    {
        "the slope of the output's sigmoid is still there. With the cross-entropy it cancels: write the product out "
        "on paper.": _gradients(slope=lambda x_hat: x_hat * (1 - x_hat)),
        "the sign is turned round: a step along minus this gradient would go uphill.": _gradients(sign=-1),
        "that is the gradient of the *sum* over samples and pixels; the loss is their mean.": _gradients(
            size=lambda x: 1
        ),
        "you divided by the number of samples; the loss is also a mean over the pixels.": _gradients(size=len),
        "on the way back through the code its own slope, z (1 - z), is missing.": _gradients(code_slope=lambda z: 1.0),
        "there is a 2 too many: it belonged to the square.": _gradients(slope=lambda x_hat: 2.0),
    },
    inputs=[_small],
    done="only the signal at the output changed; what lies behind it is the same chain.",
    stars=2,
    minutes=15,
)

# --- 02.6 where is the edge? -----------------------------------------------------------------------------------------

edge = Write(
    "02.6",
    lambda d: (d / 2, float(d)),
    {
        "you left out the mean over the pixels: with the sum, the curvature is 2 and these are its rates.": lambda d: (
            0.5,
            1.0,
        ),
        "half of each is right: the derivative of a square brings a factor of 2.": lambda d: (float(d), 2.0 * d),
        "the second is the rate at which the distance is turned round at full length. So is it the perfect one that "
        "you have put there?": lambda d: (d / 2, d / 2),
        "the perfect rate is the one at which the factor is 0, not 1.": lambda d: (0.0, float(d)),
        "swapped: the perfect rate is the smaller one.": lambda d: (float(d), d / 2),
    },
    inputs=[(784,), (10,)],
    done="392 and 784 for our images: at 2 divided by the curvature, as for any parabola.",
    stars=2,
    minutes=15,
)

# --- 02.7 the narrowest gap ------------------------------------------------------------------------------------------


def _variances(*values):
    return (np.array(values, dtype=float),)


narrowest = Write(
    "02.7",
    lambda variances: 1 + int(np.argmin(variances[:-1] / variances[1:])),
    {
        "counted from 0: with that many units the gap lies *behind* the next axis. How many axes are kept?": (
            lambda variances: int(np.argmin(variances[:-1] / variances[1:]))
        ),
        "that is the widest gap, where the plane is determined best.": lambda variances: (
            1 + int(np.argmax(variances[:-1] / variances[1:]))
        ),
        "you compare differences. The variances shrink along the list, so their differences do as well: what counts "
        "is the ratio.": lambda variances: 1 + int(np.argmin(variances[:-1] - variances[1:])),
    },
    inputs=[_variances(9, 8.5, 4, 1.5, 1.1), _variances(100, 60, 55, 9, 6, 5.4, 2), _variances(7, 3, 2.9, 1, 0.5)],
    done="train with so many units, and two starts may end in two planes that are nearly equally good.",
    stars=2,
    minutes=15,
)

# --- 02.8 make the axes unique ---------------------------------------------------------------------------------------


def _unit(atom):
    return atom / np.linalg.norm(atom)


deflate = Write(
    "02.8",
    lambda x, atom: x - np.outer(x @ _unit(atom), _unit(atom)),
    {
        "the atom's length comes in twice: make it a unit vector first.": lambda x, atom: x - np.outer(x @ atom, atom),
        "the atom's length comes in once: both the share and the direction need a unit vector.": lambda x, atom: (
            x - np.outer(x @ _unit(atom), atom)
        ),
        "that is the part along the atom itself: subtract it.": lambda x, atom: np.outer(x @ _unit(atom), _unit(atom)),
        "the sign is wrong: this makes the part along the atom twice as long.": lambda x, atom: (
            x + np.outer(x @ _unit(atom), _unit(atom))
        ),
        "you subtracted the same picture from every image; each image has its own share of the atom.": lambda x, atom: (
            x - _unit(atom)
        ),
    },
    inputs=[(RNG.normal(size=(4, 5)), RNG.normal(size=5))],
    done="what is left has nothing along the atom, so the next unit has to find the next axis.",
    stars=3,
    minutes=30,
)
