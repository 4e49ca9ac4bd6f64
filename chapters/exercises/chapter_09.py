"""Chapter 09, surrogates: what is asked, and the mistakes that people make."""

import numpy as np

from . import Bug, Challenge, Prediction, Write

RNG = np.random.default_rng(9)

# --- 09.1 how many neighbours were that? -----------------------------------------------------------------------------

effective_samples = Write(
    "09.1",
    lambda weights: np.sum(weights) ** 2 / np.sum(weights**2),
    {
        "upside down: with a thousand equal weights that would be a thousandth.": lambda weights: (
            np.sum(weights**2) / np.sum(weights) ** 2
        ),
        "you squared before you summed, above as well as below, and the two cancel.": lambda weights: (
            np.sum(weights**2) / np.sum(weights**2)
        ),
        "the sum above is not squared. Make all weights twice as large: should the number of neighbours change?": (
            lambda weights: np.sum(weights) / np.sum(weights**2)
        ),
        "there is a mean where a sum is meant. What should come out for ten equal weights?": lambda weights: (
            np.mean(weights) ** 2 / np.mean(weights**2)
        ),
        "a mean below and a sum above: what should come out for ten equal weights?": lambda weights: (
            np.sum(weights) ** 2 / np.mean(weights**2)
        ),
        "that is the sum of the weights. Make all of them twice as large: should the number of neighbours change?": (
            lambda weights: np.sum(weights)
        ),
        "you counted all neighbours alike, also those that weigh next to nothing.": len,
    },
    inputs=[(RNG.random(8),), (np.array([3.0, 0.1, 0.1]),), (RNG.exponential(size=30),)],
    done="a thousand neighbours of which one decides are one neighbour. The narrow kernel below has just that trouble.",
    minutes=3,
)

# --- 09.2 break it: a share of nothing -------------------------------------------------------------------------------


def _additions(answers):
    """Return what player 0 adds alone and beside player 1, and what player 1 does."""
    nobody, first, second, both = np.asarray(answers, dtype=float)
    return (first - nobody, both - second), (second - nobody, both - first)


def _vanishing(answers):
    added, other = _additions(answers)
    share, others = np.mean(added), np.mean(other)
    if abs(share) > 1e-9:
        return -abs(share), (
            f"feature 0 adds {added[0]:g} alone and {added[1]:g} beside feature 1, so its share is {share:g}. When is "
            "the mean of two amounts 0?"
        )
    return 0.0, (
        f"feature 0 adds {added[0]:g} alone and {added[1]:g} beside feature 1. Its share is 0 (feature 1 gets "
        f"{others:g}): what a feature does can vanish in its mean."
    )


vanishing = Challenge(
    "09.2",
    _vanishing,
    {
        "four numbers are asked for, the model's answers for (0, 0), (1, 0), (0, 1) and (1, 1) in this order.": (
            (lambda answers: np.shape(answers) != (4,), ([0, 1],))
        ),
        "your model never looks at feature 0: such a player is a null player, and 0 is what it deserves.": (
            (lambda answers: np.allclose(_additions(answers)[0], 0), ([0, 0, 1, 1],))
        ),
        "feature 0 adds the same with feature 1 and without it, so the two never act together. What kind of model lets "
        "one feature change what the other does?": (
            lambda answers: np.isclose(*_additions(answers)[0]),
            ([0, 1, 0, 1],),
        ),
        "it is the share of feature 1 that vanishes: which of the rows are (1, 0) and (0, 1)?": (
            lambda answers: (
                np.isclose(np.mean(_additions(answers)[1]), 0) and not np.isclose(np.mean(_additions(answers)[0]), 0)
            ),
            ([0, 0, -1, 1],),
        ),
    },
    passes=0.0,
    enough=([0, -1, 0, 1],),
    not_enough=([0, 0, 0, 1],),
    minutes=5,
)

# --- 09.3 how many errors hang on one segment? -----------------------------------------------------------------------

mended = Prediction(
    "09.3",
    [
        (20, "So hardly one in five: you expect that an error has many causes, spread over the image. Run the cell."),
        (
            50,
            "Fewer than half: in most errors, you say, several pieces of ink would have to go. Run the cell.",
        ),
        (80, "More than half of the errors would then hang on one small piece of ink. Run the cell."),
        (100, "Nearly all: you trust both the shares and the idea that an error has one place. Run the cell."),
    ],
    outside="a percentage is asked for: of 100 errors, how many turn into the truth?",
)

# --- 09.4 the decision instead of the score --------------------------------------------------------------------------


def _line(logits, decided, intercept=True):
    design = np.column_stack([logits, np.ones(len(logits))])[:, : 1 + intercept]
    return design @ np.linalg.lstsq(design, decided.astype(float), rcond=None)[0]


line_for_decision = Write(
    "09.4",
    lambda logits: np.corrcoef(logits, logits > 0)[0, 1] ** 2,
    {
        "that is the correlation. The share of variance explained is its square.": lambda logits: np.corrcoef(
            logits, logits > 0
        )[0, 1],
        "you took the logits themselves as the guess. They know nothing of 0 and 1 yet: fit the line.": lambda logits: (
            1 - np.mean(((logits > 0) - logits) ** 2) / np.var(logits > 0)
        ),
        "your line goes through 0, so it has no intercept: half of the decisions are 1, and it cannot lie there.": (
            lambda logits: 1 - np.mean(((logits > 0) - _line(logits, logits > 0, False)) ** 2) / np.var(logits > 0)
        ),
        "that is the line's slope.": lambda logits: np.cov(logits, logits > 0)[0, 1] / np.var(logits, ddof=1),
        "you divided by the mean square of the decisions. The baseline of R² is their mean, so divide by their "
        "variance.": lambda logits: 1 - np.mean(((logits > 0) - _line(logits, logits > 0)) ** 2) / np.mean(logits > 0),
        "that is the share of decisions on which the line agrees, and not the R².": lambda logits: np.mean(
            (_line(logits, logits > 0) > 0.5) == (logits > 0)
        ),
    },
    inputs=[(RNG.normal(0.5, 1, size=50),), (RNG.normal(-1, 3, size=31),), (RNG.exponential(size=40) - 0.4,)],
    done="even a line that knows the logit exactly cannot draw a step. (2/π, if the logits were normal around 0.)",
    minutes=8,
)

# --- 09.5 find the bug: a nearly perfect explanation -----------------------------------------------------------------


def _fit(x, f):
    coef = np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), f, rcond=None)[0]
    return lambda rows: rows @ coef[:-1] + coef[-1]


def _r2_on_its_own(x, f, x_new, f_new):
    return 1 - np.mean((f - _fit(x, f)(x)) ** 2) / np.var(f)


_c, _rows = RNG.normal(size=6), RNG.normal(size=(25, 6))
_f = _rows @ _c + RNG.normal(size=25)
fidelity = Bug(
    "09.5",
    _r2_on_its_own,
    lambda x, f, x_new, f_new: 1 - np.mean((f_new - _fit(x, f)(x_new)) ** 2) / np.var(f_new),
    {
        "you fitted a second line, to the new points: the fidelity of *this* line is asked for.": (
            lambda x, f, x_new, f_new: _r2_on_its_own(x_new, f_new, x, f)
        ),
        "the errors are those on new points, the variance is still that of the old ones: what has the baseline to "
        "guess?": lambda x, f, x_new, f_new: 1 - np.mean((f_new - _fit(x, f)(x_new)) ** 2) / np.var(f),
        "you joined old and new points. The old ones were learned by heart, so their errors do not count.": (
            lambda x, f, x_new, f_new: (
                1
                - np.mean((np.append(f, f_new) - _fit(x, f)(np.concatenate([x, x_new]))) ** 2)
                / np.var(np.append(f, f_new))
            )
        ),
        "on the new points the intercept is missing.": lambda x, f, x_new, f_new: (
            1 - np.mean((f_new - (_fit(x, f)(x_new) - _fit(x, f)(np.zeros((1, x.shape[1]))))) ** 2) / np.var(f_new)
        ),
    },
    inputs=[(_rows[:9], _f[:9] + 2, _rows[9:], _f[9:] + 2), (_rows[10:], _f[10:] - 1, _rows[:10], 2 * _f[:10] - 1)],
    done="fitted on some points and judged on others: a number that can be bad.",
    minutes=10,
)

# --- 09.6 Shapley values of a line -----------------------------------------------------------------------------------

shapley_of_line = Write(
    "09.6",
    lambda c, x, rows: c * (x - rows.mean(axis=0)),
    {
        "these are shares against a background of zeros. What does an absent feature have here?": lambda c, x, rows: (
            c * x
        ),
        "the sign is turned round: a feature above its mean adds its coefficient.": lambda c, x, rows: (
            c * (rows.mean(axis=0) - x)
        ),
        "you took one mean for all features: each column of the background has its own.": lambda c, x, rows: (
            c * (x - rows.mean())
        ),
        "that is their sum, the prediction less the base value. Each player's own share is asked for.": (
            lambda c, x, rows: c @ (x - rows.mean(axis=0))
        ),
        "you took the first row of the background alone. An absent feature is drawn from all of them.": (
            lambda c, x, rows: c * (x - rows[0])
        ),
        "the coefficients are missing: how far a feature lies from its mean is not yet what the line makes of it.": (
            lambda c, x, rows: x - rows.mean(axis=0)
        ),
    },
    inputs=[(RNG.normal(size=4), RNG.normal(size=4), RNG.normal(size=(6, 4)) + 1)],
    done="each player adds the same to every coalition, so the order in which they join does not matter.",
    stars=2,
    minutes=10,
)

# --- 09.7 another background -----------------------------------------------------------------------------------------


def _any_in_segment(differs, segments):
    return np.bincount(segments, differs, minlength=segments.max() + 1) > 0


_paper = np.zeros((3, 8))
_paper[1, [2, 5]], _paper[2, 2], _paper[:, 6] = 1, 1, 0.5
_image = np.array([0, 0, 1, 0, 0, 0, 0.5, 1.0])
playing = Write(
    "09.7",
    lambda x, background, segments: _any_in_segment((x != background).any(axis=0), segments),
    {
        "you counted the segments with ink in the image. A blank one plays too, if some background image has ink "
        "there.": lambda x, background, segments: _any_in_segment(x != 0, segments),
        "you compared with the mean of the background. An absent segment is drawn from one image at a time: can "
        "different images have a mean that hides it?": lambda x, background, segments: _any_in_segment(
            ~np.isclose(x, background.mean(axis=0)), segments
        ),
        "you asked for a difference from *every* background image. How many must differ for an answer to change?": (
            lambda x, background, segments: _any_in_segment((x != background).all(axis=0), segments)
        ),
        "those are pixels: a player is a whole segment.": lambda x, background, segments: (x != background).any(axis=0),
        "you compared with the first background image alone.": lambda x, background, segments: _any_in_segment(
            x != background[0], segments
        ),
        "turned round: those are the segments that never change anything.": lambda x, background, segments: (
            ~_any_in_segment((x != background).any(axis=0), segments)
        ),
    },
    inputs=[
        (_image, _paper, np.array([0, 0, 1, 1, 2, 2, 3, 4])),
        (np.array([0.5, 0, 0, 1, 1]), np.array([[0, 0, 0, 1, 1], [1.0, 0, 0, 1, 0]]), np.array([0, 1, 2, 3, 4])),
    ],
    done="what is missing plays as soon as it could have been there.",
    stars=2,
    minutes=15,
)

# --- 09.8 is the slice more than luck? -------------------------------------------------------------------------------

share_as_bad = Write(
    "09.8",
    lambda real, by_chance: np.mean(by_chance >= real),
    {
        "you counted the shuffles that do *less* badly. Luck is an explanation if many do as badly as the real one.": (
            lambda real, by_chance: np.mean(by_chance < real)
        ),
        "a shuffle that is exactly as bad is missing: it does as badly.": lambda real, by_chance: np.mean(
            by_chance > real
        ),
        "that is their number. Out of how many shuffles?": lambda real, by_chance: np.sum(by_chance >= real),
        "you compared with the mean shuffle only: one answer, yes or no. How often does luck reach so far?": (
            lambda real, by_chance: np.mean(by_chance) >= real
        ),
        "you counted both sides, as far above the mean as below it. A slice with few errors is no failure.": (
            lambda real, by_chance: np.mean(np.abs(by_chance - by_chance.mean()) >= abs(real - by_chance.mean()))
        ),
        "that is a distance in standard deviations. The worst of many leaves is no normal variable: count.": (
            lambda real, by_chance: (real - by_chance.mean()) / by_chance.std()
        ),
    },
    inputs=[
        (0.16, np.array([0.1, 0.12, 0.16, 0.11, 0.2, 0.13, 0.02])),
        (0.1, np.array([0.1, 0.12, 0.09, 0.3])),
        (0.14, np.array([0.1, 0.12, 0.13, 0.15, 0.05])),
    ],
    done="that corrects for the search, since each shuffle was searched in the same way.",
    stars=3,
    minutes=20,
)

# --- 09.9 a fault ----------------------------------------------------------------------------------------------------

best_constants = Write(
    "09.9",
    lambda outputs: (np.mean(outputs), np.median(outputs)),
    {
        "swapped: which of the two is moved by one wild output?": lambda outputs: (
            np.median(outputs),
            np.mean(outputs),
        ),
        "the first is right for both only if the outputs are symmetric. Where is the slope of the sum of |f - b| 0? "
        "Count the outputs on either side of b.": lambda outputs: (np.mean(outputs), np.mean(outputs)),
        "the second is right; for squares set the derivative to 0: the sum of f - b vanishes.": lambda outputs: (
            np.median(outputs),
            np.median(outputs),
        ),
        "the middle between the smallest and the largest output minimises the *largest* error.": lambda outputs: (
            np.mean(outputs),
            (np.min(outputs) + np.max(outputs)) / 2,
        ),
        "these are the errors that are left, and the constants are asked for.": lambda outputs: (
            np.mean((outputs - np.mean(outputs)) ** 2),
            np.mean(np.abs(outputs - np.median(outputs))),
        ),
        "you took the absolute value of the outputs. It is the *error* whose absolute value counts.": lambda outputs: (
            np.mean(outputs),
            np.median(np.abs(outputs)),
        ),
    },
    inputs=[(np.array([1.0, -2, 4, 0.5, 30]),), (RNG.normal(size=11) - 0.5,), (np.array([-3.0, -1, 7, 2, -9]),)],
    done="the mean follows a wild output as far as it goes, the median not at all. The same holds for lines.",
    stars=2,
    minutes=15,
)
