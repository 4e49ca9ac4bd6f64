"""Chapter 13, applications: what is asked, and the mistakes that people make."""

import numpy as np

from . import Bug, Challenge, Exploration, Prediction, Write

RNG = np.random.default_rng(13)

# --- 13.1 set the alarm ----------------------------------------------------------------------------------------------


def _place(index):
    """Return the program that takes the sorted score at this place, counted from 0."""
    return lambda scores, share: np.sort(scores)[index(len(scores), share)]


lowest_threshold = Write(
    "13.1",
    _place(lambda n, share: n - int(share * (n + 1))),
    {
        "`np.quantile` looks for a place among the n scores that you have. The next image is one more: count it in, "
        "and take one of the scores.": lambda scores, share: np.quantile(scores, 1 - share),
        "you counted with n images. The new one may lie in any of n + 1 gaps, so a threshold that is too strict comes "
        "out for some n. Which formula of the text has n + 1 in it?": _place(lambda n, share: n - int(share * n)),
        "one place too high: Python counts the sorted scores from 0, the text from 1.": _place(
            lambda n, share: n + 1 - int(share * (n + 1))
        ),
        "one place too low: with this threshold more false alarms are to be expected than were promised.": _place(
            lambda n, share: n - int(share * (n + 1)) - 1
        ),
        "right for many n, and one place too low for others: 10 scores and a share of a quarter, say. Which way do "
        "you have to round?": _place(lambda n, share: int((1 - share) * n)),
        "that is the other end: nearly every normal image lies above this threshold.": _place(
            lambda n, share: int(share * (n + 1)) - 1
        ),
        "mean and standard deviation give a threshold for a Gaussian. Errors are not Gaussian, and the promise should "
        "hold whatever they are.": lambda scores, share: np.mean(scores) + 1.645 * np.std(scores),
    },
    inputs=[(RNG.gamma(2, size=n), share) for n, share in ((200, 0.05), (99, 0.05), (39, 0.05), (10, 0.25))],
    done="the promise holds for any distribution, and it is made with normal images alone.",
    stars=2,
    minutes=8,
)

# --- 13.2 the wrong images -------------------------------------------------------------------------------------------

false_alarms = Prediction(
    "13.2",
    [
        (0.035, "Fewer than promised, then. Does a network draw the images that it was fitted to better or worse than "
         "new ones? Run the cell."),
        (0.07, "You expect the promise to hold. It is made for images drawn in the same way: is an image that the "
         "network has seen drawn in the same way as a new one? Run the cell."),
        (0.2, "The promise breaks, and clearly, you say. Run the cell."),
        (1.0, "You expect hardly anything to be left of the promise. The network has seen 800 eights: how well can it "
         "know each of them? Run the cell."),
    ],
    outside="a share is asked for: 5 % is 0.05.",
)  # fmt: skip

# --- 13.3 does the code hold the mark? -------------------------------------------------------------------------------

mark_told = Prediction(
    "13.3",
    [
        (0.45, "That is less than a coin: half of the images are marked, so guessing is right in half of them. Run the "
         "cell."),
        (0.6, "Hardly better than a coin, you say: then the code would hold next to nothing of the mark. Run the "
         "cell."),
        (0.85, "So a part of the mark gets through. How much does its loss gain by it? Run the cell."),
        (1.0, "So the code would hold it. 16 numbers describe 784 pixels: what does the loss pay for these four? Run "
         "the cell."),
    ],
    outside="a share is asked for: 1 if the mark is told in every image, 0.5 for a coin.",
)  # fmt: skip

# --- 13.4 find two bugs ----------------------------------------------------------------------------------------------


def _report(errors, is_normal, held_out, cut=None, numbers=lambda rang, normal: (rang[normal], rang[~normal])):
    """Return what is reported of an alarm, with the cut or the numbers changed."""
    rang = errors > (np.quantile(held_out, 0.95) if cut is None else cut)
    found = numbers(rang, is_normal)
    return tuple(np.mean(part) for part in found) if isinstance(found, tuple) else np.mean(found)


_normal = np.arange(60) % 3 > 0
_errors = np.where(_normal, RNG.choice([0.2, 0.5, 0.8, 1.2], 60, p=[0.3, 0.3, 0.2, 0.2]), RNG.choice([0.4, 1.4], 60))
_errors = _errors + RNG.uniform(0, 0.05, 60)
report = Bug(
    "13.4",
    lambda errors, is_normal, held_out: np.mean(is_normal[errors < np.median(errors)]),
    _report,
    {
        "the cut is right now. But the precision of the *normal* class is still there: it depends on how many "
        "anomalies the test happens to hold. Which two shares do not?": lambda errors, is_normal, held_out: np.mean(
            is_normal[errors < np.quantile(held_out, 0.95)]
        ),
        "the two numbers are right now. But the cut still knows the test set, and declares half of it strange, "
        "whatever it holds.": lambda errors, is_normal, held_out: _report(
            errors, is_normal, held_out, cut=np.median(errors)
        ),
        "the cut still comes from the test: from its normal images. Then the false alarms are 5 % because you made "
        "them so, and no longer measured.": lambda errors, is_normal, held_out: _report(
            errors, is_normal, held_out, cut=np.quantile(errors[is_normal], 0.95)
        ),
        "the two numbers are swapped: the false alarms come first.": lambda errors, is_normal, held_out: _report(
            errors, is_normal, held_out
        )[::-1],
        "the second number is the share of anomalies that were *missed*.": lambda errors, is_normal, held_out: _report(
            errors, is_normal, held_out, numbers=lambda rang, normal: (rang[normal], ~rang[~normal])
        ),
        "you divide by the number of alarms. The share of alarms that are false grows with the share of normal images "
        "in the test: divide by the number of normal images.": lambda errors, is_normal, held_out: _report(
            errors, is_normal, held_out, numbers=lambda rang, normal: (normal[rang], ~normal[rang])
        ),
        "the cut is the 5 % quantile: nearly every normal image lies above it.": lambda errors, is_normal, held_out: (
            _report(errors, is_normal, held_out, cut=np.quantile(held_out, 0.05))
        ),
    },
    inputs=[(_errors, _normal, np.linspace(0, 1.15, 200)), (_errors[:41], _normal[:41], np.linspace(0.1, 1.1, 100))],
    done="neither number depends on the share of anomalies, and the cut has not seen the test.",
    stars=2,
    minutes=10,
)

# --- 13.5 break it: a good AUROC, and nobody listens -----------------------------------------------------------------


def _auroc(scores, ill):
    normal, strange = np.sort(scores[~ill]), scores[ill]
    below = np.searchsorted(normal, strange, "left") + np.searchsorted(normal, strange, "right")
    return below.mean() / 2 / len(normal)


def _parts(scores, ill):
    return np.asarray(scores, "float64").ravel(), np.asarray(ill).astype(bool).ravel()


def _cried_wolf(scores, ill):
    """Return the share of alarms that are false, at 5 % false alarms, or 0 where the AUROC is below 0.95."""
    scores, ill = _parts(scores, ill)
    rang = scores > np.quantile(scores[~ill], 0.95)
    auroc, false = _auroc(scores, ill), float(np.mean(~ill[rang])) if rang.any() else 0.0
    said = f"AUROC {auroc:.3f}, and of {rang.sum()} alarms {false:.0%} are false."
    if auroc < 0.95:
        return 0.0, f"{said} The AUROC must be 0.95 at least: move the two kinds of scores apart."
    if false < 0.9:
        return false, f"{said} Nine in ten are asked for: what else, besides the scores, decides who rings?"
    return false, f"{said} An AUROC knows nothing of how rare anomalies are, and the guard who runs knows it well."


wolf = Challenge(
    "13.5",
    _cried_wolf,
    {
        "each score needs to be marked as ill or not: the two arrays must have one length.": (
            lambda scores, ill: np.size(scores) != np.size(ill),
            ([0.1, 0.5, 0.9], [False, True]),
        ),
        "normal samples and anomalies are both needed: with one kind alone there is no AUROC.": (
            lambda scores, ill: len(np.unique(_parts(scores, ill)[1])) < 2,
            ([0.1, 0.9], [False, False]),
        ),
        "your anomalies have the lower scores. Are the marks turned round? `True` stands for ill.": (
            (lambda scores, ill: _auroc(*_parts(scores, ill)) < 0.5, (np.arange(20), np.arange(20) < 2))
        ),
        "one sample in ten or more is ill here. With so many anomalies most alarms are right: how rare are they in the "
        "world?": (lambda scores, ill: _parts(scores, ill)[1].mean() > 0.1, (np.arange(20), np.arange(20) >= 10)),
    },
    passes=0.9,
    enough=(np.append(np.linspace(0, 1, 10_000), np.full(20, 0.97)), np.arange(10_020) >= 10_000),
    not_enough=(np.arange(100), np.arange(100) == 90),
    stars=2,
    minutes=8,
)

# --- 13.6 what does the coder earn? ----------------------------------------------------------------------------------


def _fixed(values=lambda s: np.ptp(s, axis=0) + 1, whole=np.ceil, log=np.log2, per_byte=8):
    return lambda symbols: len(symbols) * float(np.sum(whole(log(values(symbols))))) / per_byte


def _entropy(symbols):
    shares = [np.unique(unit, return_counts=True)[1] / len(unit) for unit in symbols.T]
    return len(symbols) * -sum(float(share @ np.log2(share)) for share in shares) / 8


fixed_width = Write(
    "13.6",
    _fixed(),
    {
        "one value too few: from 0 to 4 there are five whole numbers.": _fixed(
            values=lambda s: np.maximum(np.ptp(s, axis=0), 1)
        ),
        "a part of a bit cannot be written with a fixed width: round each unit's up.": _fixed(whole=lambda bits: bits),
        "you gave every unit the width of the widest. Each may have its own.": _fixed(
            values=lambda s: np.full(s.shape[1], np.ptp(s) + 1)
        ),
        "those are bits: a byte holds eight of them.": _fixed(per_byte=1),
        "a unit's values need not begin at 0: its range goes from the smallest to the largest.": _fixed(
            values=lambda s: np.max(np.abs(s), axis=0) + 1
        ),
        "you counted the values that occur. Then the receiver would have to be told which: take the whole range.": (
            _fixed(values=lambda s: np.array([len(np.unique(unit)) for unit in s.T]))
        ),
        "that is the entropy already, what the coder comes near. Every symbol of a unit gets the same width here.": (
            _entropy
        ),
        "that is the natural logarithm, which counts in nats: a bit asks for base 2.": _fixed(log=np.log),
    },
    inputs=[
        (np.array([[-4, 10, 3], [0, 14, 1], [5, 12, 0], [-4, 10, 0]]),),
        (np.array([[40, -21], [41, -3], [40, 1], [56, -3], [40, -2]]),),
    ],
    done="that many bytes without a coder. What the file has less is what the coder earned.",
    minutes=8,
)

# --- 13.7 how heavy a head? ------------------------------------------------------------------------------------------

weights_read = Exploration(
    "13.7",
    [
        "more weight buys digits that are read rightly: about two points from 0.03 to 1",
        "it costs reconstruction error: about half as much again over the same range",
        "so the guess of 0.3 was not critical; a smaller weight buys nearly as much at a smaller price",
        "whoever chooses by these images makes the choice a part of the test: a validation part is for that",
    ],
    stars=2,
    minutes=10,
)

# --- 13.8 what will she like? ----------------------------------------------------------------------------------------


def _best(wish, given, n, known=-np.inf, axis=1):
    wish = np.where(given > 0, known, wish)
    return np.argsort(-wish, axis=axis)[:, :n]


_wish, _given = RNG.normal(-1, 1, (6, 9)), (RNG.random((6, 9)) < 0.3).astype(float)
_given[:, 0] = 1
recommend = Write(
    "13.8",
    _best,
    {
        "what she is known to like comes back as a recommendation. She has seen it: take it out first.": (
            lambda wish, given, n: np.argsort(-wish, axis=1)[:, :n]
        ),
        "the wrong end: those are the films that she would like least, or has seen.": lambda wish, given, n: np.argsort(
            np.where(given > 0, -np.inf, wish), axis=1
        )[:, :n],
        "the films that are left are right, but you took those that she would like least of them.": (
            lambda wish, given, n: np.argsort(np.where(given > 0, np.inf, wish), axis=1)[:, :n]
        ),
        "you gave the known films a wish of 0. PCA's wishes, and a network's logits, go below 0, so some of the known "
        "films come first.": lambda wish, given, n: _best(wish, given, n, known=0.0),
        "you recommend only what she has: unknown is where `given` is 0.": lambda wish, given, n: np.argsort(
            -np.where(given > 0, wish, -np.inf), axis=1
        )[:, :n],
        "you sorted the people for each film: each person, so each row, needs her own order.": lambda wish, given, n: (
            _best(wish, given, n, axis=0)
        ),
        "everybody gets the same films: you averaged the wishes over the people.": lambda wish, given, n: _best(
            np.broadcast_to(wish.mean(axis=0), wish.shape), given, n
        ),
    },
    inputs=[(_wish, _given, 3), (RNG.normal(size=(4, 7)), np.eye(4, 7), 2)],
    compared=lambda films: np.sort(films, axis=-1),
    done="the best of what she does not know yet, whatever scale the wishes are on.",
    stars=2,
    minutes=15,
)
