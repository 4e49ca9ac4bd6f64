"""Chapter 14, sound and text: what is asked, and the mistakes that people make."""

import numpy as np

from . import Bug, Prediction, Reading, Write

RNG = np.random.default_rng(14)

# --- 14.1 eight numbers for a moment of speech -----------------------------------------------------------------------

survived = Prediction(
    "14.1",
    [
        (0.15, "Hardly any. Then eight numbers would be far too few for pitch and vowel together. Run the cell."),
        (0.6, "Some, but not most. Which of the three will be lost first? Run the cell."),
        (0.9, "Most of them. A vowel is two formants and a pitch: eight numbers have room for three. Run the cell."),
        (1.0, "Nearly all. Then it would not matter how the array was made. Run the cell."),
    ],
    outside="a share of the sounds is asked for: 40 of 100 is 0.4.",
)

# --- 14.2 how far does a stripe move? --------------------------------------------------------------------------------

stripe_moved = Write(
    "14.2",
    lambda hertz, pitch, change: np.round(hertz / pitch) * change,
    {
        "that is how far the *first* harmonic moves. The k-th moves k times as far.": lambda hertz, pitch, change: (
            change
        ),
        "that is in Hz. How many stripes is it, if they lie one pitch apart?": lambda hertz, pitch, change: (
            np.round(hertz / pitch) * pitch * change
        ),
        "there is a stripe at whole multiples of the pitch only: round to the nearest.": lambda hertz, pitch, change: (
            hertz / pitch * change
        ),
        "you cut the fraction off: the nearest harmonic may be the next one.": lambda hertz, pitch, change: (
            np.floor(hertz / pitch) * change
        ),
        "you divide by the new pitch. The question asks how far it moves in the old pattern.": (
            lambda hertz, pitch, change: np.round(hertz / pitch) * change / (1 + change)
        ),
        "that is the number of the harmonic, not how far it moves.": lambda hertz, pitch, change: np.round(
            hertz / pitch
        ),
        "you took the change as a per cent already: 2 % is handed over as 0.02.": lambda hertz, pitch, change: (
            np.round(hertz / pitch) * change / 100
        ),
    },
    inputs=[(3010, 120, 0.02), (470, 130, 0.05), (2500, 99, 0.01)],
    done="half a stripe at 3 kHz turns bright into dark: that is what the plain code has to hold beside the vowel.",
    minutes=5,
)

# --- 14.3 listen, then say -------------------------------------------------------------------------------------------

heard = Reading(
    "14.3",
    [
        "step 3 through the code is one vowel, whose F2 lies between those of the ends",
        "step 3 of the cross-fade has the formants of both ends at once",
        "the numbers say the same: the measured F2 is near the one asked for through the code, far from it in the fade",
        "right numbers are not a good voice: nobody but you has listened, and your ear knew what to expect",
    ],
)

# --- 14.4 one direction for all words --------------------------------------------------------------------------------

one_direction = Prediction(
    "14.4",
    [
        (0.3, "Hardly any. A direction found with other words says little about these, you expect. Run the cell."),
        (0.62, "About half. Which half? Keep your number, and run the cell."),
        (0.85, "Most of them, but not all. Which sentences will be wrong? Run the cell."),
        (1.0, "Nearly all. Then 'past' would be one and the same step for every verb. Run the cell."),
    ],
    outside="a share of the sentences is asked for: 0 for none, 1 for all.",
)

# --- 14.5 a shorter throat -------------------------------------------------------------------------------------------

BINS = np.arange(40)
_rows = np.stack([0.2 + 0.6 * np.exp(-(((BINS - peak) / 4) ** 2)) for peak in (9, 14, 20)])


def _stretched(at, height=1.0):
    """Return the program that reads each envelope elsewhere."""

    def stretched(rows, factor):
        bins = np.arange(rows.shape[1])
        return height * np.stack([np.interp(at(bins, factor), bins, row) for row in rows])

    return stretched


raise_formants = Write(
    "14.5",
    _stretched(lambda bins, factor: bins / factor),
    {
        "the formants go *down*: what shall stand at 1,150 Hz has to be read at 1,000 Hz.": _stretched(
            lambda bins, factor: bins * factor
        ),
        "that makes everything louder and moves nothing: the factor belongs to the frequency.": (
            lambda rows, factor: rows * factor
        ),
        "everything moves by the same number of bins. A shorter throat raises a high formant by more Hz than a low "
        "one.": lambda rows, factor: np.roll(rows, int(np.round((factor - 1) * rows.shape[1] / 2)), axis=1),
        "the places between two bins are cut off, so formants land on the next lower bin: join the bins by lines.": (
            lambda rows, factor: rows[:, (np.arange(rows.shape[1]) / factor).astype(int)]
        ),
        "you stretched along the wrong axis: the last axis is the frequency, the first is time.": (
            lambda rows, factor: np.stack(
                [np.interp(np.arange(len(rows)) / factor, np.arange(len(rows)), column) for column in rows.T], axis=1
            )
        ),
    },
    inputs=[(_rows, 1.15), (_rows[:2], 1.25), (_rows[::-1], 1.4)],
    done="every formant is moved by one factor. `voiced` puts the harmonics back where they were.",
    stars=2,
    minutes=8,
)

# --- 14.6 where does one direction fail? -----------------------------------------------------------------------------


def _table(of=np.mean, by=lambda tense, polarity: (tense, polarity)):
    def table(hits, tense, polarity):
        rows = [[hits[(tense == t) & (polarity == p)] for p in range(2)] for t in range(3)]
        return np.array([[of(part) for part in row] for row in rows])

    return table


_hits, _tense = RNG.random(90) < 0.7, RNG.integers(0, 3, 90)
_polarity = (RNG.random(90) < 0.4).astype(int)
split_hits = Write(
    "14.6",
    _table(),
    {
        "those are counts. The forms are not equally frequent: divide by the sentences of each form.": _table(np.sum),
        "you divided by all sentences. A form's share counts its own sentences only.": lambda hits, tense, polarity: (
            _table(np.sum)(hits, tense, polarity) / len(hits)
        ),
        "those are the shares that are wrong.": _table(lambda part: 1 - np.mean(part)),
        "rows and columns are swapped: one row for each tense, one column for each polarity.": (
            lambda hits, tense, polarity: _table()(hits, tense, polarity).T
        ),
        "each cell is averaged over more than its own form: both conditions have to hold at once, `&` and not `|`.": (
            lambda hits, tense, polarity: np.array(
                [[hits[(tense == t) | (polarity == p)].mean() for p in range(2)] for t in range(3)]
            )
        ),
        "that says which share of all *hits* has this form, not which share of this form is a hit.": (
            lambda hits, tense, polarity: _table(np.sum)(hits, tense, polarity) / hits.sum()
        ),
    },
    inputs=[(_hits, _tense, _polarity), (~_hits[:60], _tense[:60], 1 - _polarity[:60])],
    done="an average over all forms hid where the errors are.",
    stars=2,
    minutes=8,
)

# --- 14.7 half the numbers -------------------------------------------------------------------------------------------

LIMITS = (0.02, 0.08, 0.08)
_asked = RNG.uniform((90, 250, 800), (150, 700, 2200), (30, 3))
_measured = _asked * (1 + RNG.normal(0, 1, (30, 3)) * (0.02, 0.06, 0.07))
_measured[3, 1] = _measured[7, 2] = _measured[20, 0] = np.nan


def _right(of_error, of_rows=lambda ok: ok.all(axis=1), prepared=lambda m, a: (m, a)):
    def right(measured, asked):
        measured, asked = prepared(measured, asked)
        return float(np.mean(of_rows(of_error(measured, asked) < LIMITS)))

    return right


def _relative(measured, asked):
    return np.abs(measured / asked - 1)


def _found(measured, asked):
    rows = ~np.isnan(measured).any(axis=1)
    return measured[rows], asked[rows]


all_three = Write(
    "14.7",
    _right(_relative),
    {
        "you averaged the three shares. A sound counts if *all* three numbers are right in it.": _right(
            _relative, of_rows=lambda ok: ok
        ),
        "a sound counts here if any of the three is right: all of them have to be.": _right(
            _relative, of_rows=lambda ok: ok.any(axis=1)
        ),
        "without the absolute value everything that is too low counts as right.": _right(lambda m, a: m / a - 1),
        "you left out the sounds in which a number was not found. Those are misses, and the worst ones.": _right(
            _relative, prepared=_found
        ),
        "the limits are shares, and your differences are in Hz.": _right(lambda m, a: np.abs(m - a)),
        "you multiplied the three shares. That would be right if errors of pitch and formants had nothing to do with "
        "each other.": lambda measured, asked: float(np.prod(np.mean(_relative(measured, asked) < LIMITS, axis=0))),
        "what was not found counts as right here: a comparison with `nan` is false, so ask for 'within', not for 'not "
        "beyond'.": lambda measured, asked: float(np.mean(~(_relative(measured, asked) > LIMITS).any(axis=1))),
    },
    inputs=[(_measured, _asked), (_measured[::-1][:12], _asked[::-1][:12])],
    done="one wrong number makes a wrong sound. That is stricter than three averages, and nearer to the ear.",
    stars=2,
    minutes=12,
)

# --- 14.8 find the bug: nine in ten repaired -------------------------------------------------------------------------

_wanted = ["the cat sees a dog", "the dog found the key", "a girl sees us", "the boy will go", "cats do not run"]
_wanted = [*_wanted, "we go home", "dogs saw cats", "a boy fell"]
_typed = ["the cat ses a dog", "the dog fuond the key", "a girl sees us", "the boywill go", "catsdo not run"]
_typed = [*_typed, "we go home", "dogs sawcats", "a boy feel"]
_restored = [_typed[0], _wanted[1], "a girl sees me", "the boywill go", _wanted[4], "we go home", "dogs was cats"]
_restored = [*_restored, "a boy fell"]


def _share(which=lambda t, r, w: t != w, good=lambda t, r, w: r == w, total=None):
    def share(typed, restored, wanted):
        rows = [row for row in zip(typed, restored, wanted, strict=True) if which(*row)]
        return sum(good(*row) for row in rows) / (len(rows) if total is None else total(typed))

    return share


repaired = Bug(
    "14.8",
    _share(which=lambda t, r, w: True),
    _share(),
    {
        "you count what the corrector *touched*. A wrong sentence that it leaves alone is a miss too: which were wrong "
        "in the first place?": _share(which=lambda t, r, w: t != r),
        "you divide by all sentences still: those without an error must not count above the line or below it.": _share(
            total=len
        ),
        "a changed sentence is not yet a repaired one: compare with what was wanted.": _share(
            good=lambda t, r, w: r != t
        ),
        "those are the sentences that were right before: the share of them that the corrector left alone. A good "
        "number to know, and another one.": _share(which=lambda t, r, w: t == w),
    },
    inputs=[(_typed, _restored, _wanted), (_typed[1:5], _restored[1:5], _wanted[1:5])],
    done="only what was broken can be repaired. A corrector that does nothing has 0 now.",
    stars=2,
    minutes=8,
)
