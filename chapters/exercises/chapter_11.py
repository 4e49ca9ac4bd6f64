"""Chapter 11, trust: what is asked, and the mistakes that people make."""

import numpy as np

from . import Bug, Challenge, Prediction, Reading, Write

RNG = np.random.default_rng(11)

# --- 11.1 find the bug: a share of more than everything --------------------------------------------------------------

mass = Bug(
    "11.1",
    lambda values, mask: values[mask].sum() / values.sum(),
    lambda values, mask: np.abs(values[mask]).sum() / np.abs(values).sum(),
    {
        "the whole is counted without signs now, the part still with them: inside the mask values may cancel.": (
            lambda values, mask: values[mask].sum() / np.abs(values).sum()
        ),
        "the part is counted without signs now, the whole still with them: the parts add up to more than the whole.": (
            lambda values, mask: np.abs(values[mask]).sum() / values.sum()
        ),
        "the sign is taken away after adding up. Then the values have cancelled already: which comes first?": (
            lambda values, mask: np.abs(values[mask].sum()) / np.abs(values.sum())
        ),
        "that is the share of the positive values. The question counts evidence against as well: what is not 0 is "
        "part of the map.": lambda values, mask: np.maximum(values[mask], 0).sum() / np.maximum(values, 0).sum(),
        "that is the mean size inside the mask over the mean size everywhere. A share adds up and does not average.": (
            lambda values, mask: np.abs(values[mask]).mean() / np.abs(values).mean()
        ),
        "squares weigh the largest values more; the mass of the page adds up sizes.": lambda values, mask: (
            np.square(values[mask]).sum() / np.square(values).sum()
        ),
    },
    inputs=[
        (np.array([1, -0.9, 0.2, -0.2]), np.array([True, False, False, False])),
        (np.array([[0.5, -0.4, 0.1], [0.3, -0.2, 0.6]]), np.array([[True, True, False], [False, True, False]])),
    ],
    done="parts of a whole again: between 0 and 1, whatever the signs.",
    minutes=5,
)

# --- 11.2 does deletion rank maps as the truth does? -----------------------------------------------------------------

deletion_agrees = Prediction(
    "11.2",
    [
        (-0.2, "Against the truth, you say: the better a map, the worse its deletion. Why should that be? Run the "
         "cell."),
        (0.2, "No relation, you say: as if deletion looked at something else. Run the cell."),
        (0.7, "Roughly as the truth does, you say. On the linear score it put the truth first by far. Run the cell."),
        (1.0, "Nearly as the truth does, you say: as on the linear score above. Is a network like it? Run the cell."),
    ],
    low=-1.0,
    outside="a rank correlation is asked for, from −1 (the reverse order) to 1 (the same order).",
)  # fmt: skip

# --- 11.3 fair on paper ----------------------------------------------------------------------------------------------


def _of_groups(table):
    """Return the approved, the right decisions and the good who are refused, as shares of each group."""
    approved_good, refused_good, approved_bad, refused_bad = np.asarray(table, float).T
    people = np.sum(table, axis=1)
    return (
        (approved_good + approved_bad) / people,
        (approved_good + refused_bad) / people,
        refused_good / (approved_good + refused_good),
    )


def _gap(table):
    refused = _of_groups(table)[2]
    gap = float(abs(refused[1] - refused[0]))
    more = "" if gap >= 0.4 else " Can you go further? How many of each group repay is yours to choose."
    said = f"as often right and as often generous to both groups, and the good are refused {refused[0]:.0%} and "
    return gap, said + f"{refused[1]:.0%} of the time.{more}"


fair_on_paper = Challenge(
    "11.3",
    _gap,
    {
        "a table of two rows is asked for, one for each group, with four counts each.": (
            lambda t: np.shape(t) != (2, 4),
            ([[1, 2], [3, 4]],),
        ),
        "people are counted: whole numbers, none below 0.": (
            lambda t: bool(np.any(np.asarray(t) < 0) or np.any(np.asarray(t) != np.round(t))),
            ([[5.5, 0, 45, 50], [50, 45, 0, 5]],),
        ),
        "each group has at least 20 people in it, and somebody who would repay.": (
            lambda t: bool(np.any(np.sum(t, axis=1) < 20) or np.any(np.sum(np.asarray(t)[:, :2], axis=1) == 0)),
            ([[1, 0, 9, 9], [50, 45, 0, 5]],),
        ),
        "the shares that are approved differ by more than 2 points. Anybody who counts the approved would see it.": (
            (lambda t: bool(abs(np.subtract(*_of_groups(t)[0])) > 0.02), ([[5, 0, 50, 45], [50, 45, 0, 5]],))
        ),
        "the shares of right decisions differ by more than 2 points. Anybody who compares the accuracies would see "
        "it.": (lambda t: bool(abs(np.subtract(*_of_groups(t)[1])) > 0.02), ([[5, 0, 45, 50], [45, 45, 5, 5]],)),
        "the good are refused as often in both groups: this table is fair off the paper too. Let more people of one "
        "group be good.": (
            lambda t: bool(abs(np.subtract(*_of_groups(t)[2])) < 0.05),
            ([[25, 25, 25, 25], [25, 25, 25, 25]],),
        ),
    },
    passes=0.4,
    enough=([[5, 0, 45, 50], [50, 45, 0, 5]],),
    not_enough=([[20, 10, 30, 40], [30, 20, 20, 30]],),
    stars=2,
    minutes=5,
)

# --- 11.4 a cheap trick ----------------------------------------------------------------------------------------------


def _blurred(values):
    n, height, width, _ = values.shape
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return sum(padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)) / 9


spoil = Write(
    "11.4",
    lambda values: _blurred(np.abs(values)),
    {
        "you blur first and forget the sign afterwards: neighbours of opposite sign have cancelled by then.": (
            lambda values: np.abs(_blurred(values))
        ),
        "the sign is still there. Which of the two steps is missing?": _blurred,
        "the sign is gone, and nothing is blurred. Which of the two steps is missing?": np.abs,
        "that is a sum over nine pixels, not a mean.": lambda values: 9 * _blurred(np.abs(values)),
        "negative values are dropped and not turned: the sign is to be forgotten, the size kept.": lambda values: (
            _blurred(np.maximum(values, 0))
        ),
        "squares forget the sign too, but they change the sizes: large values grow.": lambda values: _blurred(
            np.square(values)
        ),
    },
    inputs=[(RNG.normal(size=(2, 5, 6, 1)),), (RNG.normal(size=(1, 4, 4, 1)),)],
    done="it knows no more of the network than before. What do the two judges say of it?",
    stars=2,
    minutes=10,
)

# --- 11.5 half blind -------------------------------------------------------------------------------------------------


def _half(rows, columns):
    def half_seen(height, width):
        mask = np.zeros((height, width, 1), "float32")
        mask[rows(height), columns(width)] = 1
        return mask

    return half_seen


half_seen = Write(
    "11.5",
    _half(lambda height: slice(None), lambda width: slice(width // 2)),
    {
        "this network sees the upper half. The axes of an image are height, width, channels: which one goes across?": (
            _half(lambda height: slice(height // 2), lambda width: slice(None))
        ),
        "this network sees the right half.": _half(lambda height: slice(None), lambda width: slice(width // 2, None)),
        "right for pages of 28 × 28 only. Let the width say where the middle is.": _half(
            lambda height: slice(None), lambda width: slice(14)
        ),
        "one column too many: a slice ends *before* its second number.": _half(
            lambda height: slice(None), lambda width: slice(width // 2 + 1)
        ),
    },
    inputs=[(28, 28), (10, 20), (7, 6)],
    done="now it is known where nothing can matter, whatever the network has learned.",
    minutes=5,
)

# --- 11.6 a map to order ---------------------------------------------------------------------------------------------


def _lowest(x, k, of, order=1):
    chosen = np.zeros(x[0].size, "float32")
    chosen[np.argsort(order * of(x.reshape(len(x), -1)), kind="stable")[:k]] = 1
    return chosen.reshape(x.shape[1:])


def _drawings():
    """Return drawings of 6 × 5 pixels, no two of which are inked as much, as often or as darkly at the most."""
    seldom, dark = RNG.permutation(30) / 30, RNG.permutation(30) / 30
    drawn = (RNG.random((60, 30)) < 0.1 + 0.8 * seldom) * dark
    return drawn.reshape(60, 6, 5, 1).astype("float32")


emptiest = Write(
    "11.6",
    lambda x, k: _lowest(x, k, lambda flat: flat.mean(axis=0)),
    {
        "these are the pixels with the *most* ink: a change there would show on every image.": lambda x, k: _lowest(
            x, k, lambda flat: flat.mean(axis=0), -1
        ),
        "these are the emptiest pixels of the first image alone. Other images have ink there.": lambda x, k: _lowest(
            x, k, lambda flat: flat[0]
        ),
        "these are the pixels that *vary* least. One that always has ink does not vary either.": lambda x, k: _lowest(
            x, k, lambda flat: flat.std(axis=0)
        ),
        "these are the numbers of the pixels. A mask is asked for: 1 at these pixels, 0 elsewhere, in the shape of an "
        "image.": lambda x, k: np.argsort(x.reshape(len(x), -1).mean(axis=0), kind="stable")[:k],
        "one pixel too many or too few: `[:k]` takes k of them.": lambda x, k: _lowest(
            x, k + 1, lambda flat: flat.mean(axis=0)
        ),
    },
    inputs=[(_drawings(), 5), (_drawings(), 8)],
    done="a change of the model there moves hardly any output on the data. And its maps?",
    stars=2,
    minutes=15,
)

# --- 11.7 how much data does a promise need? -------------------------------------------------------------------------

most_found = Write(
    "11.7",
    lambda epsilon, delta, alarms: np.minimum(1, np.exp(epsilon) * alarms + delta),
    {
        "a share of more than everything: nobody finds more than all of them.": lambda epsilon, delta, alarms: (
            np.exp(epsilon) * alarms + delta
        ),
        "right but for delta: the promise may fail with that chance.": lambda epsilon, delta, alarms: np.minimum(
            1, np.exp(epsilon) * alarms
        ),
        "epsilon stands there as it is. By which *factor* do the odds change?": lambda epsilon, delta, alarms: (
            np.minimum(1, epsilon * alarms + delta)
        ),
        "1 + ε is the factor for small ε alone.": lambda epsilon, delta, alarms: np.minimum(
            1, (1 + epsilon) * alarms + delta
        ),
        "the factor is turned round: a promise is a bound from above.": lambda epsilon, delta, alarms: np.minimum(
            1, np.exp(-epsilon) * alarms + delta
        ),
        "the chance delta comes on top of what the factor allows; it is not multiplied by it.": (
            lambda epsilon, delta, alarms: np.minimum(1, np.exp(epsilon) * (alarms + delta))
        ),
    },
    inputs=[(np.array([0.0, 0.5, 1.1, 2.65, 8.8]), 1e-2, 0.01), (np.array([0.2, 3.0]), 0.05, 0.1)],
    done="ε = 0 leaves the attacker what a coin has, and ε = 5 leaves nobody anything.",
    stars=2,
    minutes=10,
)

# --- 11.8 what may the report say? -----------------------------------------------------------------------------------

report_says = Reading(
    "11.8",
    [
        "stability shows nothing: the ink alone moves by as little, and knows nothing of the network",
        "guided backpropagation keeps 0.4 of its map when all weights are shuffled: it draws the image",
        "deletion to the end prefers maps that are not the cause; it should stop early, or be held to a planted truth",
        "one number without its controls (random order, ink, edges) has no scale",
        "what would convince: mass in a planted cause, or a correlation of removals with scores, beside those controls",
    ],
    stars=2,
    minutes=10,
)
