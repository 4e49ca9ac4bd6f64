"""Chapter 16, sparse dictionaries: what is asked, and the mistakes that people make."""

import numpy as np

from . import Bug, Challenge, Prediction, Write

RNG = np.random.default_rng(16)

# --- 16.1 how many features in two units? ----------------------------------------------------------------------------

features_kept = Prediction(
    "16.1",
    [
        (2.4, "Two units, two features, you say: as PCA would. Run the cell."),
        (4.4, "More than units, but not all, you say. What would two of them on one unit have to avoid? Run the cell."),
        (5.0, "All of them, in two numbers: then they cannot be at right angles. How would they lie? Run the cell."),
    ],
    outside="a number of features is asked for, from 0 to 5.",
)

# --- 16.2 top-k ------------------------------------------------------------------------------------------------------


def _where(a, kept):
    return np.where(kept, np.maximum(a, 0), 0)


top_k = Write(
    "16.2",
    lambda a, k: _where(a, a >= np.sort(a, axis=1)[:, -k:][:, :1]),
    {
        "these are the largest of the whole table: that is *batch* top-k. Here each row has k to itself.": (
            lambda a, k: _where(a, a >= np.sort(a, axis=None)[-k * len(a)])
        ),
        "these are the largest of each column: every feature would fire for k rows. Which axis are the features?": (
            lambda a, k: _where(a, a >= np.sort(a, axis=0)[-k])
        ),
        "a negative number comes through, where a row has fewer than k positive ones. What does a ReLU do with it?": (
            lambda a, k: np.where(a >= np.sort(a, axis=1)[:, -k:][:, :1], a, 0)
        ),
        "the largest by their *size*: a strongly negative number is no strong feature.": lambda a, k: _where(
            a, np.abs(a) >= np.sort(np.abs(a), axis=1)[:, -k:][:, :1]
        ),
        "1 where a feature fires. The code keeps how strongly.": lambda a, k: (
            _where(a, a >= np.sort(a, axis=1)[:, -k:][:, :1]) > 0
        ).astype(float),
        "the smallest are kept: `np.sort` rises.": lambda a, k: _where(a, a <= np.sort(a, axis=1)[:, k - 1 : k]),
        "the k largest alone, and no longer in their places: then nobody knows which features they are.": (
            lambda a, k: np.maximum(np.sort(a, axis=1)[:, -k:], 0)
        ),
    },
    inputs=[
        (np.array([[3.0, -4.0, 1.0, 2.0, -1.5], [-1.0, 0.5, -2.0, -3.0, -0.2], [9.0, 8.0, 7.0, 6.0, 5.5]]), 2),
        (RNG.normal(size=(6, 8)), 3),
    ],
    done="a row writes itself with at most k features. What is lost is all that k features cannot say.",
    stars=1,
    minutes=5,
)

# --- 16.3 absorb it --------------------------------------------------------------------------------------------------

_ROWS = np.array([[1.0, 0.0], [1.0, 1.0]])  # the parent alone, and with its child


def _written(directions):
    """Return the share of the rows' squares that their best single feature can write."""
    best = np.maximum(_ROWS @ np.asarray(directions, float).T, 0).max(axis=1)
    return np.sum(best**2) / np.sum(_ROWS**2)


def _absorbed(directions):
    share = float(_written(directions))
    if share < 0.999:
        return share, f"one feature at a time writes {share:.0%} of these rows. Which row loses something?"
    return share, (
        "nothing is lost with one feature at a time. And the feature of the parent is silent whenever the child is "
        "there: it has been absorbed."
    )


absorb = Challenge(
    "16.3",
    _absorbed,
    {
        "two directions of two numbers each are asked for: a table, one direction in a row.": (
            lambda d: np.shape(d) != (2, 2),
            ([1, 0],),
        ),
        "directions have length 1: divide each by its length.": (
            lambda d: bool(np.any(np.abs(np.linalg.norm(np.asarray(d, float), axis=1) - 1) > 1e-2)),
            ([[1, 0], [1, 1]],),
        ),
        "these are the true directions. One feature at a time then loses half of the row in which both are present. "
        "Which direction would that row like?": (
            lambda d: any(np.allclose(d, true, atol=1e-2) for true in (np.eye(2), np.eye(2)[::-1])),
            (np.eye(2),),
        ),
        "both directions are the same: one of the two rows has to make do with the other's.": (
            lambda d: bool(np.dot(*np.asarray(d, float)) > 0.999),
            ([[1, 0], [1, 0]],),
        ),
    },
    passes=0.999,
    enough=([[1, 0], [0.5**0.5, 0.5**0.5]],),
    not_enough=([[1, 0], [0.6, 0.8]],),
    stars=1,
    minutes=3,
)

# --- 16.4 too many at a time -----------------------------------------------------------------------------------------


def _rows():
    x = RNG.normal(size=(40, 3)) * [1, 2, 5] + [3, 0, -1]
    return x, x + RNG.normal(size=(40, 3)) * [0.5, 0.1, 2]


def _missing(x, x_hat):
    return np.mean((x - x_hat) ** 2) / x.var(axis=0).mean()


variance_explained = Write(
    "16.4",
    lambda x, x_hat: 1 - _missing(x, x_hat),
    {
        "that is the share that is *missing*.": _missing,
        "the baseline has one mean for all dimensions. Those have different means, and knowing them is no merit.": (
            lambda x, x_hat: 1 - np.mean((x - x_hat) ** 2) / x.var()
        ),
        "you divide by the squares of the rows, and not by their variance: a constant would explain a lot.": (
            lambda x, x_hat: 1 - np.mean((x - x_hat) ** 2) / np.mean(x**2)
        ),
        "each dimension has a share of its own here, and these are averaged: one that hardly varies would count as "
        "much as any.": lambda x, x_hat: np.mean(1 - np.mean((x - x_hat) ** 2, axis=0) / x.var(axis=0)),
        "spreads in place of variances: there is a root too many.": lambda x, x_hat: 1 - np.sqrt(_missing(x, x_hat)),
        "the sum over the dimensions on one side, and the mean on the other: divide like by like.": lambda x, x_hat: (
            1 - np.mean((x - x_hat) ** 2) / x.var(axis=0).sum()
        ),
    },
    inputs=[_rows(), _rows()],
    done="0 is what the mean row explains, 1 is everything.",
    stars=2,
    minutes=10,
)

# --- 16.5 a threshold by hand ----------------------------------------------------------------------------------------


def _counts(z, true, threshold, axis=0):
    says, is_there = z > threshold, true > 0
    return (says & is_there).sum(axis=axis), says.sum(axis=axis), is_there.sum(axis=axis)


def _fires():
    true = (RNG.random((60, 4)) < [0.5, 0.4, 0.3, 0.2]) * 2.0
    return np.abs(true + RNG.normal(0, 1, true.shape)), true, 0.8


def _f1_of(both, says, there):
    return 2 * both / np.maximum(says + there, 1)


f1_above = Write(
    "16.5",
    lambda z, true, threshold: np.mean(_f1_of(*_counts(z, true, threshold))),
    {
        "that is the precision alone: of what fires, how much is true.": lambda z, true, threshold: np.mean(
            _counts(z, true, threshold)[0] / _counts(z, true, threshold)[1]
        ),
        "that is the recall alone: of what is true, how much fires.": lambda z, true, threshold: np.mean(
            _counts(z, true, threshold)[0] / _counts(z, true, threshold)[2]
        ),
        "that is the accuracy. Most features are silent most of the time, and silence is easily right.": (
            lambda z, true, threshold: np.mean((z > threshold) == (true > 0))
        ),
        "all features are counted in one pot. Then the frequent ones decide: the question asks for the mean over the "
        "features.": lambda z, true, threshold: _f1_of(*_counts(z, true, threshold, axis=None)),
        "the F1 of each *row*: which axis are the features?": lambda z, true, threshold: np.mean(
            _f1_of(*_counts(z, true, threshold, axis=1))
        ),
        "the plain mean of precision and recall. F1 is their harmonic mean, which neither can buy alone.": (
            lambda z, true, threshold: np.mean(
                [np.mean(_counts(z, true, threshold)[0] / _counts(z, true, threshold)[i]) for i in (1, 2)]
            )
        ),
        "a 2 is missing: firing everywhere right should score 1.": lambda z, true, threshold: np.mean(
            _f1_of(*_counts(z, true, threshold)) / 2
        ),
        "the threshold is not used: everything above 0 still counts as firing.": lambda z, true, threshold: np.mean(
            _f1_of(*_counts(z, true, 0))
        ),
    },
    inputs=[_fires(), _fires()],
    done="between 0 and 1 for each feature. Choose the threshold on rows that do not count.",
    stars=1,
    minutes=10,
)

# --- 16.6 a dictionary of noise --------------------------------------------------------------------------------------


_CORRELATED = RNG.normal(size=(200, 3)) @ [[1, 0.8, 0], [0, 1, 0], [0, 0.5, 2]] + [4, 0, -2]


def _gaussian(mean, covariance):
    return lambda x, n, rng: rng.multivariate_normal(mean(x), covariance(x), n)


look_alike = Write(
    "16.6",
    _gaussian(lambda x: x.mean(axis=0), lambda x: np.cov(x.T)),
    {
        "the dimensions vary as much as they should, and have nothing to do with each other any more.": _gaussian(
            lambda x: x.mean(axis=0), lambda x: np.diag(x.var(axis=0))
        ),
        "the mean is 0 here, and that of the rows is not.": _gaussian(
            lambda x: np.zeros(x.shape[1]), lambda x: np.cov(x.T)
        ),
        "every dimension has the variance 1: that is the matrix of the correlations.": _gaussian(
            lambda x: x.mean(axis=0), lambda x: np.corrcoef(x.T)
        ),
        "that is plain noise: it has neither the mean nor the covariance of the rows.": lambda x, n, rng: rng.normal(
            size=(n, x.shape[1])
        ),
        "the covariance is that of the squares around 0: the mean has been counted as variance.": _gaussian(
            lambda x: x.mean(axis=0), lambda x: x.T @ x / len(x)
        ),
    },
    inputs=[(_CORRELATED, 10_000, np.random.default_rng(0))],
    compared=lambda x: (x.mean(axis=0), np.cov(x.T)),
    tolerance=0.06,
    done="its mean and covariance are those of the rows, and there are no features in it.",
    stars=2,
    minutes=10,
)

# --- 16.7 ablate a unit instead --------------------------------------------------------------------------------------


def _layer():
    w = RNG.normal(size=(5, 3))
    return RNG.normal(size=(4, 3)), np.maximum(RNG.normal(size=(4, 5)), 0), w / np.linalg.norm(w, axis=1)[:, None], 1


def _rebuilt(z, directions, j):
    return np.where(np.arange(z.shape[1]) == j, 0, z) @ directions


without = Write(
    "16.7",
    lambda x, z, directions, j: x - z[:, [j]] * directions[j],
    {
        "that is the reconstruction without the feature. What the dictionary could not write is gone as well: two "
        "changes at once.": lambda x, z, directions, j: _rebuilt(z, directions, j),
        "the direction is taken out at full length from every row, also where the feature is silent. How strongly does "
        "it fire?": lambda x, z, directions, j: x - directions[j],
        "the whole part of the row along the direction is gone. Others have parts along it too: which is this "
        "feature's own?": lambda x, z, directions, j: x - (x @ directions[j])[:, None] * directions[j],
        "a *dimension* of the layer is set to 0. The feature is a direction, and lies across several.": (
            lambda x, z, directions, j: np.where(np.arange(x.shape[1]) == j, 0, x)
        ),
        "the feature is added once more and not taken out.": lambda x, z, directions, j: x + z[:, [j]] * directions[j],
        "everything that the dictionary wrote is taken out, not one feature.": lambda x, z, directions, j: (
            x - z @ directions
        ),
    },
    inputs=[_layer(), _layer()],
    done="one feature less, and all else as it was, the dictionary's own error included.",
    stars=2,
    minutes=15,
)

# --- 16.8 find the bug: the derivative that is not one ---------------------------------------------------------------


def _near(z, theta, half_width):
    return np.mean(np.abs(z - theta) < half_width)


threshold_slope = Bug(
    "16.8",
    lambda z, theta, width: -_near(z, theta, width) / width,
    lambda z, theta, width: -_near(z, theta, width / 2) / width,
    {
        "the sign is wrong: raise the threshold, and *fewer* numbers are above it.": lambda z, theta, width: (
            _near(z, theta, width / 2) / width
        ),
        "that is the share of numbers in the window. A slope is a change for each unit of the threshold.": (
            lambda z, theta, width: -_near(z, theta, width / 2)
        ),
        "half of the true slope now: the window and its width have both become smaller or larger. One was wrong.": (
            lambda z, theta, width: -_near(z, theta, width / 2) / (2 * width)
        ),
        "the numbers near 0 are counted, and not those near the threshold.": lambda z, theta, width: (
            -_near(z, 0, width / 2) / width
        ),
        "only the numbers above the threshold are counted. The window lies on both sides of it.": (
            lambda z, theta, width: -np.mean((z > theta) & (z < theta + width / 2)) / width
        ),
    },
    inputs=[(RNG.normal(size=4_000), 0.7, 0.5), (RNG.normal(size=4_000), -0.4, 0.2)],
    done="a histogram with one bar, as wide as the window and centred on the threshold.",
    stars=3,
    minutes=15,
)

# --- 16.9 left to die ------------------------------------------------------------------------------------------------


def _firing():
    """Return who fired in which of 130 steps: some always, some long ago alone, some once lately, some never."""
    fired = RNG.random((130, 12)) < 0.3
    fired[:, :2] = False
    fired[30:, 2:5] = False
    fired[31:, 5] = False
    fired[:, 6] = np.arange(130) == 128
    fired[30, 5] = True
    fired[:, 7] = np.arange(130) == 29
    return fired


dead_share = Write(
    "16.9",
    lambda fired, steps: np.mean(~fired[-steps:].any(axis=0)),
    {
        "that is the share of the living.": lambda fired, steps: np.mean(fired[-steps:].any(axis=0)),
        "these never fired at all. One that fired long ago and not since is dead as well.": lambda fired, steps: (
            np.mean(~fired.any(axis=0))
        ),
        "these were silent in the *first* steps: they may have woken up since.": lambda fired, steps: np.mean(
            ~fired[:steps].any(axis=0)
        ),
        "that is how often a feature is silent on average. Dead is who is silent every time.": lambda fired, steps: (
            np.mean(~fired[-steps:])
        ),
        "these are the steps in which nothing fired. Which axis are the features?": lambda fired, steps: np.mean(
            ~fired[-steps:].any(axis=1)
        ),
        "you asked for silence in *some* step. Who is dead is silent in all of them.": lambda fired, steps: np.mean(
            ~fired[-steps:].all(axis=0)
        ),
        "a number of features. A share is asked for.": lambda fired, steps: np.sum(~fired[-steps:].any(axis=0)),
    },
    inputs=[(_firing(), 100), (_firing(), 40)],
    done="with no gradient they stay so, unless something wakes them.",
    stars=1,
    minutes=5,
)
