"""Chapter 12, generation and stability: what is asked, and the mistakes that people make."""

import numpy as np

from . import Bug, Challenge, Prediction, Write

RNG = np.random.default_rng(12)

# --- 12.1 two normals on a line --------------------------------------------------------------------------------------

frechet_of_two = Write(
    "12.1",
    lambda mean_a, var_a, mean_b, var_b: (mean_a - mean_b) ** 2 + var_a + var_b - 2 * np.sqrt(var_a * var_b),
    {
        "you used the variances as if they were standard deviations: of what does the formula take the root?": (
            lambda mean_a, var_a, mean_b, var_b: (mean_a - mean_b) ** 2 + (var_a - var_b) ** 2
        ),
        "the root of the product is missing: for two equal normals the distance should be 0.": (
            lambda mean_a, var_a, mean_b, var_b: (mean_a - mean_b) ** 2 + var_a + var_b - 2 * var_a * var_b
        ),
        "that is the root of it. The formula gives the square, and papers report that.": (
            lambda mean_a, var_a, mean_b, var_b: np.sqrt(
                (mean_a - mean_b) ** 2 + var_a + var_b - 2 * np.sqrt(var_a * var_b)
            )
        ),
        "the shift of the means is not squared.": lambda mean_a, var_a, mean_b, var_b: (
            abs(mean_a - mean_b) + var_a + var_b - 2 * np.sqrt(var_a * var_b)
        ),
        "the factor 2 is missing: for two equal normals the distance should be 0.": (
            lambda mean_a, var_a, mean_b, var_b: (mean_a - mean_b) ** 2 + var_a + var_b - np.sqrt(var_a * var_b)
        ),
        "you compared the means alone. Two sets with one mean may still differ in how far they spread.": (
            lambda mean_a, var_a, mean_b, var_b: (mean_a - mean_b) ** 2
        ),
    },
    inputs=[(1.0, 2.0, -0.5, 5.0), (0.0, 0.3, 0.2, 0.1)],
    done="it is the squared shift of the means plus the squared difference of the standard deviations.",
    minutes=3,
)

# --- 12.2 break it: a perfect precision ------------------------------------------------------------------------------

_cloud = np.random.default_rng(0).normal(size=(300, 2))


def _covered(points, region, k=3):
    between = np.linalg.norm(points[:, np.newaxis] - region, axis=2)
    radius = np.sort(np.linalg.norm(region[:, np.newaxis] - region, axis=2), axis=1)[:, k]
    return float(np.mean((between <= radius).any(axis=1)))


def _shares(samples):
    return _covered(np.asarray(samples, float), _cloud), _covered(_cloud, np.asarray(samples, float))


def _one_sided(samples):
    precision, recall = _shares(samples)
    said = "all of them good, and next to nothing covered" if precision - recall >= 0.95 else "not far enough apart yet"
    return precision - recall, f"precision {precision:.2f}, recall {recall:.2f}: {said}."


one_sided = Challenge(
    "12.2",
    _one_sided,
    {
        "300 samples of two numbers are asked for, the shape (300, 2).": (
            lambda samples: np.shape(samples) != (300, 2),
            (_cloud[:10],),
        ),
        "those are the real points themselves. A generator that hands them out has both a precision and a recall of "
        "1.": (lambda samples: np.allclose(np.sort(samples, axis=0), np.sort(_cloud, axis=0)), (_cloud[::-1],)),
        "most of your samples lie where no real point is near, so the precision is low. Where is it certain to be 1?": (
            (lambda samples: _shares(samples)[0] < 0.5, (_cloud + 100,))
        ),
        "your samples are good, and varied as well: more than half of the real points lie in their region. How would "
        "a generator look that always draws the same?": (lambda samples: _shares(samples)[1] > 0.5, (_cloud[:, ::-1],)),
    },
    passes=0.95,
    enough=(np.repeat(_cloud[:1], 300, axis=0),),
    not_enough=(np.repeat(_cloud[:60], 5, axis=0),),
    minutes=4,
)

# --- 12.3 how many neighbours stay? ----------------------------------------------------------------------------------

neighbours_kept = Prediction(
    "12.3",
    [
        (1, "So hardly any. Chance alone would give one in a hundred. Run the cell."),
        (4, "A few, you say: the two runs would agree on little more than the class. Run the cell."),
        (
            8,
            "More than half, but not all. Would untrained networks do as well? Run the cell.",
        ),
        (10, "Nearly all: you expect that the images decide, and not the seed. Run the cell."),
    ],
    outside="how many of ten neighbours is asked for: a number from 0 to 10.",
)

# --- 12.4 let them take turns ----------------------------------------------------------------------------------------


def _in_turn(a, b, rate):
    a = a - rate * b
    return a, b + rate * a


def _game(move, kept=slice(None)):
    def play(rate, steps):
        path = [(1.0, 0.0)]
        for _ in range(steps):
            path.append(move(*path[-1], rate))
        return np.array(path)[kept]

    return play


take_turns = Write(
    "12.4",
    _game(_in_turn),
    {
        "both still step at once: b answers the a of before. What has a become when it is b's turn?": _game(
            lambda a, b, rate: (a - rate * b, b + rate * a)
        ),
        "in yours b moves first, and a answers.": _game(
            lambda a, b, rate: (a - rate * (b + rate * a), b + rate * a),
        ),
        "both players lower ab now. Player b raises it: which sign has its step?": _game(
            lambda a, b, rate: (a - rate * b, b - rate * (a - rate * b))
        ),
        "both players raise ab now. Player a lowers it: which sign has its step?": _game(
            lambda a, b, rate: (a + rate * b, b + rate * (a + rate * b))
        ),
        "the start is missing: after n steps the path has n + 1 points.": _game(_in_turn, kept=slice(1, None)),
        "that is where it ends, and the whole path is asked for.": _game(_in_turn, kept=-1),
    },
    inputs=[(0.05, 100), (0.3, 7)],
    done="they still circle, and no farther out. The players of a GAN take turns too, with many numbers each.",
    stars=2,
    minutes=5,
)

# --- 12.5 how many components? ---------------------------------------------------------------------------------------

numbers_of_a_mixture = Write(
    "12.5",
    lambda k, d: k * (d + d * (d + 1) // 2) + k - 1,
    {
        "you counted each covariance twice: the one of units 1 and 2 is that of units 2 and 1.": lambda k, d: (
            k * (d + d * d) + k - 1
        ),
        "the weights sum to 1: how many of them are free?": lambda k, d: k * (d + d * (d + 1) // 2) + k,
        "the weights of the components are missing.": lambda k, d: k * (d + d * (d + 1) // 2),
        "the means are missing: each component has its own place.": lambda k, d: k * d * (d + 1) // 2 + k - 1,
        "you kept the variances and left out the covariances: such components cannot lie aslant.": lambda k, d: (
            2 * k * d + k - 1
        ),
        "you gave one covariance matrix to all components. Here each has its own.": lambda k, d: (
            k * d + d * (d + 1) // 2 + k - 1
        ),
    },
    inputs=[(3, 2), (10, 16), (1, 5)],
    done="thirty components on 16 units have more free numbers than there are codes to fit them to.",
    minutes=10,
)

# --- 12.6 find the bug: the prior or the decoder? --------------------------------------------------------------------


def _recall(axis=1, place=lambda k: k, inside=np.any):
    """Return the right program with one of its parts changed."""

    def share_covered(real, samples, k=3):
        between = np.linalg.norm(real[:, np.newaxis] - samples, axis=2)
        radius = np.sort(np.linalg.norm(samples[:, np.newaxis] - samples, axis=2), axis=1)[:, place(k)]
        return np.mean(inside(between <= radius, axis=axis))

    return share_covered


def _precision(real, samples, k=3):
    return _covered(samples, real, k)


_real, _samples = RNG.normal(size=(40, 2)), 0.6 * RNG.normal(size=(30, 2)) + 0.3
share_covered = Bug(
    "12.6",
    _precision,
    _recall(),
    {
        "the balls are those of the samples now, but you count samples. Whose share is the recall?": _recall(axis=0),
        "you kept the balls of the real points: a real point is then always in its own.": lambda real, samples, k=3: (
            _covered(real, real, k)
        ),
        "the balls reach to the neighbour before the third: place 0 of the sorted distances is the point itself.": (
            _recall(place=lambda k: k - 1)
        ),
        "you ask that a real image lies in *all* balls. One is enough.": _recall(inside=np.all),
        "that is the share of real images which are *not* covered.": lambda real, samples, k=3: (
            1 - _recall()(real, samples, k)
        ),
    },
    inputs=[(_real, _samples), (_samples[:12], _real[:20], 2), (_real[:15], _real[15:] + 1)],
    done="now the region is that of the samples, and the real images are counted: what is left out shows.",
    stars=2,
    minutes=15,
)

# --- 12.7 cheat the check --------------------------------------------------------------------------------------------


def _distances(points, train):
    return np.linalg.norm(points[:, np.newaxis] - train, axis=2)


def _nearest(points, train):
    return _distances(points, train).min(axis=1)


_train = RNG.normal(size=(25, 2))
_drawn = np.concatenate([_train[:5] + 0.02 * RNG.normal(size=(5, 2)), RNG.normal(size=(20, 2))])
share_caught = Write(
    "12.7",
    lambda samples, train, held_out, rank: np.mean(
        _nearest(samples, train) < np.sort(_nearest(held_out, train))[rank - 1]
    ),
    {
        "your limit is the distance that comes after: places are counted from 0, so where is the first?": (
            lambda samples, train, held_out, rank: np.mean(
                _nearest(samples, train) < np.sort(_nearest(held_out, train))[rank]
            )
        ),
        "your limit is one of the *largest* distances: nearly every sample is nearer than that.": (
            lambda samples, train, held_out, rank: np.mean(
                _nearest(samples, train) < np.sort(_nearest(held_out, train))[-rank]
            )
        ),
        "you measured how near the samples are to the held-out images. What would a copier copy?": (
            lambda samples, train, held_out, rank: np.mean(
                _nearest(samples, held_out) < np.sort(_nearest(held_out, train))[rank - 1]
            )
        ),
        "you took the mean distance to all training images. A copy is near to *one* of them.": (
            lambda samples, train, held_out, rank: np.mean(
                _distances(samples, train).mean(axis=1) < np.sort(_distances(held_out, train).mean(axis=1))[rank - 1]
            )
        ),
        "that is their number. Out of how many samples?": lambda samples, train, held_out, rank: np.sum(
            _nearest(samples, train) < np.sort(_nearest(held_out, train))[rank - 1]
        ),
        "you gave each *training* image its nearest sample, and counted training images.": (
            lambda samples, train, held_out, rank: np.mean(
                _nearest(train, samples) < np.sort(_nearest(train, held_out))[rank - 1]
            )
        ),
    },
    inputs=[(_drawn, _train, RNG.normal(size=(30, 2)), rank) for rank in (1, 3, 6)],
    done="copies are caught, and what is near to no training image never is, however it was made.",
    stars=2,
    minutes=15,
)

# --- 12.8 what CKA looks at ------------------------------------------------------------------------------------------


def _stretched(above=2, below=4, variance=lambda v: v, squared=2, root=0.5):
    """Return the right program with one of its exponents changed."""

    def cka_after_stretch(variances, factor):
        first, rest = variance(variances[0]) ** 2, np.sum(variance(variances[1:]) ** 2)
        size = (first + rest) ** root * (factor**below * first + rest) ** root
        return (factor**above * first + rest) ** (squared / 2) / size

    return cka_after_stretch


cka_after_stretch = Write(
    "12.8",
    _stretched(),
    {
        "you used standard deviations: on the diagonal of the three matrices stand variances.": _stretched(
            variance=np.sqrt
        ),
        "in B^T B the stretched unit meets itself: how often does the factor come in, before the norm squares it?": (
            _stretched(below=2)
        ),
        "in A^T B only one of the two codes is stretched: how often does the factor come in, before the square?": (
            _stretched(above=4)
        ),
        "the norm above is squared in the formula.": _stretched(squared=1),
        "the two norms below are not squared in the formula: the roots are missing.": _stretched(root=1),
        "the square is missing above for the factor: norms square what stands in the matrix.": _stretched(above=1),
    },
    inputs=[(np.array([1.0, 2.0, 0.5]), 3.0), (np.array([4.0, 1.0]), 10.0), (np.ones(16), 2.0)],
    done="large variances count by their square, so a stretched unit soon speaks for the whole code.",
    stars=2,
    minutes=15,
)

# --- 12.9 which of the two? ------------------------------------------------------------------------------------------


def _normalised(axis=0, size=lambda h, epsilon, axis: np.sqrt(h.var(axis=axis, keepdims=True) + epsilon), centred=True):
    """Return the right program with one of its parts changed."""

    def batch_normalise(h, epsilon=1e-3):
        shifted = h - h.mean(axis=axis, keepdims=True) if centred else h
        return shifted / size(h, epsilon, axis)

    return batch_normalise


batch_normalise = Write(
    "12.9",
    _normalised(),
    {
        "you normalised each sample over its units: that is layer normalisation. Which axis is the batch?": _normalised(
            axis=1
        ),
        "you took one mean and one variance for all units: each unit has its own.": _normalised(axis=None),
        "the mean is not taken off.": _normalised(centred=False),
        "you divided by the variance: afterwards each unit should have a variance of 1.": _normalised(
            size=lambda h, epsilon, axis: h.var(axis=axis, keepdims=True) + epsilon
        ),
        "epsilon was added to the standard deviation. It belongs to the variance, inside the root.": _normalised(
            size=lambda h, epsilon, axis: h.std(axis=axis, keepdims=True) + epsilon
        ),
        "nothing keeps a silent unit, with a variance of 0, from a division by 0: where is epsilon?": _normalised(
            size=lambda h, epsilon, axis: h.std(axis=axis, keepdims=True)
        ),
        "you divided by n - 1: Keras, and the paper, divide the squares by the size of the batch.": _normalised(
            size=lambda h, epsilon, axis: np.sqrt(h.var(axis=axis, ddof=1, keepdims=True) + epsilon)
        ),
    },
    inputs=[(2 * RNG.normal(size=(5, 3)) + 1,), (0.2 * RNG.normal(size=(4, 6)) - 3, 0.01)],
    done="every unit comes with mean 0 and variance 1, however far the layers before it have drifted.",
    stars=2,
    minutes=15,
)
