"""Chapter 07, what units see: what is asked, and the mistakes that people make."""

import numpy as np

from . import Bug, Prediction, Reading, Write

RNG = np.random.default_rng(7)

# --- 07.1 the strongest input ----------------------------------------------------------------------------------------

_w = RNG.normal(size=9)
strongest_input = Write(
    "07.1",
    lambda weights: (weights > 0).astype(float),
    {
        "you drew the weights themselves, cut off below 0. A pixel with a small positive weight still raises the "
        "unit: how much ink should it get?": lambda weights: np.clip(weights, 0, 1),
        "pixels with negative weights lower the unit when they get ink: you counted by size, without the sign.": (
            lambda weights: (weights != 0).astype(float)
        ),
        "that is the input that lowers the unit most: the sign is turned round.": lambda weights: (weights < 0).astype(
            float
        ),
        "you left the range from 0 to 1: a pixel cannot have less ink than none.": np.sign,
        "you scaled the weights to the range from 0 to 1. A pixel whose weight is slightly negative got ink then, "
        "and lowers the unit.": lambda weights: (weights - weights.min()) / np.ptp(weights),
        "you inked the one pixel with the largest weight. May the others not help?": lambda weights: (
            weights == weights.max()
        ).astype(float),
        "you scaled the positive weights by the largest. Is there a reason to give any helpful pixel less than all "
        "the ink it can have?": lambda weights: np.maximum(weights, 0) / weights.max(),
    },
    inputs=[(_w,), (0.4 * _w[:5] + 0.05,)],
    done="no other input in this range excites a unit of the first layer more. So if this one does not, none will.",
    minutes=3,
)

# --- 07.2 how selective is a network that learned nothing? -----------------------------------------------------------

selective_untrained = Prediction(
    "07.2",
    [
        (0.05, "About none, as if a random network could not tell classes apart. Run the cell."),
        (0.2, "A little, you say: most of the selectivity would have been learned. Run the cell."),
        (0.42, "Most of it would be there before training, then. What could put it there? Run the cell."),
        (0.55, "As much as after training: then the index would say nothing about learning. Run the cell."),
        (1.0, "More than after training: learning would have made the units less selective. Run the cell."),
    ],
    outside="an index is asked for: 0 if all classes excite a unit alike, 1 if only one does.",
)

# --- 07.3 find the bug: an index above 1 -----------------------------------------------------------------------------


def _index(a, labels, mean=lambda rows: rows.mean(axis=0)):
    means = np.stack([mean(a[labels == k]) for k in np.unique(labels)])
    largest = means.max(axis=0)
    rest = (means.sum(axis=0) - largest) / (len(means) - 1)
    return (largest - rest) / np.maximum(largest + rest, 1e-12)


def _sides(of):
    return lambda z, labels: (_index(of(z), labels), _index(of(-z), labels))


def _late(z, labels):  # cut off after the means were taken
    return _index(z, labels, lambda rows: np.maximum(rows.mean(axis=0), 0))


def _sides_of_absolute(z, labels):
    def index(a):
        means = np.stack([a[labels == k].mean(axis=0) for k in np.unique(labels)])
        largest = means.max(axis=0)
        rest = (means.sum(axis=0) - largest) / (len(means) - 1)
        return (largest - rest) / np.maximum(np.abs(largest) + np.abs(rest), 1e-12)

    return index(z), index(-z)


_z, _labels = RNG.normal(size=(30, 4)), np.arange(30) % 3
_z[:, 0] += 0.3 * _labels
index_of_sides = Bug(
    "07.3",
    _sides(lambda z: z),
    _sides(lambda z: np.maximum(z, 0)),
    {
        "you cut off the class means. A class whose codes are half positive and half negative has a mean near 0 and "
        "would look silent: cut off the codes themselves.": lambda z, labels: (_late(z, labels), _late(-z, labels)),
        "with the absolute value both sides are thrown together: a unit that is high for one class and low for "
        "another would look as if it liked both.": _sides(np.abs),
        "you shifted the codes until none was negative. The index then depends on the lowest code of all, which is an "
        "accident.": _sides(lambda z: z - z.min(axis=0)),
        "the two sides are swapped: the positive one comes first.": lambda z, labels: _sides(
            lambda z: np.maximum(z, 0)
        )(-z, labels),
        "you put the absolute value into the denominator. The ratio is bounded now, but what should a negative mean "
        "activation mean?": _sides_of_absolute,
    },
    inputs=[(_z, _labels), (_z[:20] ** 3, _labels[:20])],
    done="each side is an activation that cannot be negative, so each index lies between 0 and 1.",
    minutes=5,
)

# --- 07.4 fewer dead units -------------------------------------------------------------------------------------------

_a = np.maximum(RNG.normal(size=(6, 8)), 0)
_a[:, [1, 4, 5]] = 0
_a[2] = 0  # an image that excites nobody
_a[0, 0] = 0.3
dead_units = Write(
    "07.4",
    lambda activations: np.sum(np.all(activations == 0, axis=0)),
    {
        "those are the units that are off on *some* image. A dead one is off on all of them.": (
            lambda activations: np.sum(np.any(activations == 0, axis=0))
        ),
        "you counted images that excite no unit: that is the other axis.": lambda activations: np.sum(
            np.all(activations == 0, axis=1)
        ),
        "you counted single zeros. A unit is off on many images without being dead.": lambda activations: np.sum(
            activations == 0
        ),
        "those are the live ones: a dead unit is off on every image.": lambda activations: np.sum(
            np.any(activations > 0, axis=0)
        ),
        "that is a share of the units, and their number is asked for.": lambda activations: np.mean(
            np.all(activations == 0, axis=0)
        ),
    },
    inputs=[(_a,), (_a[:, :5],), (np.vstack([_a, _a]),)],
    done="dead on these images: say so whenever you report it.",
    minutes=5,
)

# --- 07.5 what did training do to the layers? ------------------------------------------------------------------------

layers_changed = Reading(
    "07.5",
    [
        "the largest gain of the first layer grew most, and its 64th hardly moved, with their numbers",
        "so what was learned sits in a few directions, on top of the random start",
        "the second layer's gains fall even at random, so a falling curve alone is no sign of learning",
        "a large gain in a direction that no image has does nothing",
    ],
    minutes=10,
)

# --- 07.6 how many pixels does it copy? ------------------------------------------------------------------------------

_J = RNG.normal(size=(4, 5, 5))
copied = Write(
    "07.6",
    lambda jacobian: np.trace(jacobian, axis1=1, axis2=2),
    {
        "`np.trace` takes the first two axes unless told otherwise: yours runs through the images.": np.trace,
        "that is the sum of all derivatives, also of those of one pixel by another.": lambda jacobian: np.sum(
            jacobian, axis=(1, 2)
        ),
        "that is the mean of the diagonal. A pixel that is copied whole should count as one.": lambda jacobian: (
            np.trace(jacobian, axis1=1, axis2=2) / jacobian.shape[1]
        ),
        "that is one number for all images: each should keep its own.": lambda jacobian: np.mean(
            np.trace(jacobian, axis1=1, axis2=2)
        ),
        "you added absolute values. A pixel that *falls* when it gets ink is not a copy of itself.": lambda jacobian: (
            np.abs(np.diagonal(jacobian, axis1=1, axis2=2)).sum(axis=1)
        ),
        "that is the rank: the most that can pass through, not what is copied.": lambda jacobian: np.linalg.matrix_rank(
            jacobian
        ),
    },
    inputs=[(_J,), (_J[:3, :4, :4],)],
    done="for a projection onto 16 directions this is 16; for other networks it says how much comes back.",
    stars=2,
    minutes=15,
)

# --- 07.7 partial dependence on a code -------------------------------------------------------------------------------


def _rise(lines):
    return lines[:, -1] - lines[:, 0]


_lines = np.cumsum(RNG.normal(size=(9, 5)), axis=1)
fair_summary = Write(
    "07.7",
    lambda lines: (_rise(lines).mean(), _rise(lines).std(), np.mean(_rise(lines) > 0)),
    {
        "you measured the range of each line. A range has no sign: a line that falls would count as one that rises.": (
            lambda lines: (np.ptp(lines, axis=1).mean(), np.ptp(lines, axis=1).std(), np.mean(_rise(lines) > 0))
        ),
        "the sign is turned round: that is the value at the start less the value at the end.": lambda lines: (
            -_rise(lines).mean(),
            _rise(lines).std(),
            np.mean(_rise(lines) < 0),
        ),
        "the second number is the standard error of the mean. It says how well the mean is known, and the scatter of "
        "single images is asked for.": lambda lines: (
            _rise(lines).mean(),
            _rise(lines).std() / len(lines) ** 0.5,
            np.mean(_rise(lines) > 0),
        ),
        "the third should be a share, and you counted.": lambda lines: (
            _rise(lines).mean(),
            _rise(lines).std(),
            np.sum(_rise(lines) > 0),
        ),
        "you compared the first image with the last: the lines run along the other axis.": lambda lines: (
            _rise(lines.T).mean(),
            _rise(lines.T).std(),
            np.mean(_rise(lines.T) > 0),
        ),
        "the third number asks whether the end is positive. It should ask whether the line *rose*.": lambda lines: (
            _rise(lines).mean(),
            _rise(lines).std(),
            np.mean(lines[:, -1] > 0),
        ),
    },
    inputs=[(_lines,), (_lines[:4, 1:] - 1.0,)],
    done="a mean beside the scatter that it hides.",
    stars=2,
    minutes=15,
)

# --- 07.8 ablate a code unit -----------------------------------------------------------------------------------------


def _harm(replace=lambda z, mean: mean, kept=True, intact=True, total=np.mean):
    def harm(decode, x, z, mean_code):
        result = []
        for unit, value in enumerate(replace(z, mean_code)):
            changed = z.copy() if kept else z
            before = total((decode(changed) - x) ** 2) if intact and kept else 0.0
            changed[:, unit] = value
            result.append(total((decode(changed) - x) ** 2) - before)
        return np.array(result)

    return harm


def _accumulated(decode, x, z, mean_code):
    before = np.mean((decode(z) - x) ** 2)
    return _harm(kept=False)(decode, x, z, mean_code) - before


def _decoder(V):
    return lambda z: np.tanh(z @ V)


_V = RNG.normal(size=(3, 6))
_codes = RNG.normal(size=(8, 3)) + 1
_x = np.tanh(_codes @ _V) + 0.1 * RNG.normal(size=(8, 6))
harm_of_units = Write(
    "07.8",
    _harm(),
    {
        "you set the unit to 0. A code of 0 may be far from anything that occurs: the training mean is asked for.": (
            _harm(lambda z, mean: 0 * mean)
        ),
        "you changed the codes that you were given, so each unit was taken out on top of the ones before. Take a copy "
        "each time.": _accumulated,
        "that is the error without the unit. How much does the error *grow*?": _harm(intact=False),
        "you used the mean of the codes that you test on. The mean of the training codes was handed in.": _harm(
            lambda z, mean: z.mean(axis=0)
        ),
        "those are sums over images and pixels: the errors of this course are means.": _harm(total=np.sum),
        "the sign is turned round: a unit that is needed does harm when it is gone.": lambda *given: -_harm()(*given),
    },
    inputs=[(_decoder(_V), _x, _codes, np.array([0.8, 1.3, 0.6]))],
    done="an intervention for each unit, and what it costs.",
    stars=2,
    minutes=15,
)

# --- 07.9 the filters of a convolution -------------------------------------------------------------------------------


def _correlations(filters, start):
    return np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(filters, start, strict=True)])


_start = RNG.normal(size=(4, 9)) + 0.5
_filters = _start + 0.8 * RNG.normal(size=(4, 9)) + RNG.normal(size=(4, 1))
like_the_start = Write(
    "07.9",
    _correlations,
    {
        "that is the cosine: the mean of the filter is still in it. A correlation takes the means away first.": (
            lambda filters, start: (
                np.sum(filters * start, axis=1) / np.linalg.norm(filters, axis=1) / np.linalg.norm(start, axis=1)
            )
        ),
        "one number for all filters together: each should be compared with its own start.": lambda filters, start: (
            np.corrcoef(filters.ravel(), start.ravel())[0, 1]
        ),
        "you compared the filters of the trained network with one another.": lambda filters, start: np.corrcoef(
            filters
        )[0],
        "that is the covariance: it grows with the weights.": lambda filters, start: np.mean(
            (filters - filters.mean(axis=1, keepdims=True)) * (start - start.mean(axis=1, keepdims=True)), axis=1
        ),
        "you compared place by place over the filters: that is the other axis.": lambda filters, start: _correlations(
            filters.T, start.T
        ),
    },
    inputs=[(_filters, _start), (_filters[:3, :4], _start[:3, :4])],
    done="the random start is the control that a picture of filters needs.",
    stars=2,
    minutes=15,
)
