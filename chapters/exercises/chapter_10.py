"""Chapter 10, adversarial: what is asked, and the mistakes that people make."""

import numpy as np

from . import Bug, Challenge, Prediction, Reading, Write

RNG = np.random.default_rng(10)

# --- 10.1 does a random change of the code fool? ---------------------------------------------------------------------

by_chance = Prediction(
    "10.1",
    [
        (5, "So hardly any: you do not believe in the recipe. What would a *searched* change do? Run the cell."),
        (30, "A few, you say. How many of these would show another digit, so that nobody was fooled? Run the cell."),
        (70, "About half, or so: the recipe would then be worth its name. Run the cell."),
        (100, "Most of them: you expect that almost every direction in the code leads to another class. Run the cell."),
    ],
    outside="a percentage is asked for: of 100 changed codes, how many change the victim's mind?",
)

# --- 10.2 a step where every pixel may move a little -----------------------------------------------------------------


def _stepped(direction=np.sign, sign=-1, around=lambda x, start: start, ball=True, box=True):
    """Return the right program with one of its parts changed."""

    def step_inf(x, start, slope, rate, epsilon):
        x_new = x + sign * rate * direction(slope)
        centre = around(x, start)
        if ball:
            x_new = np.clip(x_new, centre - epsilon, centre + epsilon)
        return np.clip(x_new, 0, 1) if box else x_new

    return step_inf


_start = RNG.random((2, 3, 3, 1))
_there = np.clip(_start + RNG.uniform(-0.1, 0.1, _start.shape), 0, 1)
step_inf = Write(
    "10.2",
    _stepped(),
    {
        "the step goes uphill: it makes the margin larger, and the victim surer of the truth.": _stepped(sign=1),
        "you took the gradient itself. Pixels with a small slope then hardly move; which step uses up what *every* "
        "pixel may do?": _stepped(direction=lambda slope: slope),
        "you divided the gradient by its length: that is the step for the other norm.": _stepped(
            direction=lambda slope: (
                slope / np.sqrt(np.sum(slope**2, axis=tuple(range(1, np.ndim(slope))), keepdims=True))
            )
        ),
        "the ball moves along with the point: after twenty steps it may be twenty times as far away. Around which "
        "image is the change bounded?": _stepped(around=lambda x, start: x),
        "nothing keeps the point within epsilon of the image it started from.": _stepped(ball=False),
        "pixels leave the range from 0 to 1: such an image cannot be shown.": _stepped(box=False),
        "the point keeps neither to the ball nor to the range of pixels.": _stepped(ball=False, box=False),
    },
    inputs=[
        (_there, _start, RNG.normal(size=_start.shape), 0.05, 0.1),
        (_start, _start, RNG.normal(size=_start.shape), 0.3, 0.2),
    ],
    done="the sign uses up what each pixel may do, and the two clips keep the promise.",
    stars=2,
    minutes=5,
)

# --- 10.3 break it: a straight line ----------------------------------------------------------------------------------

_weights = np.sin(np.arange(784))


def _lead(change):
    return 4 + float(_weights @ np.ravel(change))


def _turned(change):
    lead = _lead(change)
    if lead < 0:
        return -lead, f"the lead falls from 4 to {lead:.2f}: 784 changes too small to see, and all of them count."
    return -lead, f"the lead falls from 4 to {lead:.2f}, which is not enough. Does every pixel do what it may?"


linear_victim = Challenge(
    "10.3",
    _turned,
    {
        "one change for each of the 784 pixels is asked for.": (
            lambda change: np.shape(change) != (784,),
            (np.zeros(28),),
        ),
        "some pixel moves by more than 0.01.": (
            lambda change: np.abs(change).max() > 0.01 + 1e-9,
            (-0.011 * np.sign(_weights),),
        ),
        "the lead grows: you went uphill.": (lambda change: _lead(change) > 4.5, (0.01 * np.sign(_weights),)),
        "all pixels move the same way. Half of the weights are negative, so what one half takes away, the other gives "
        "back.": (lambda change: np.ptp(change) < 1e-12 and np.any(change), (np.full(784, -0.01),)),
        "your change is as long as the rule allows in some pixels and small in others, in proportion to the weights. "
        "That is the best direction for a bound on the *length*; here the bound is on each pixel.": (
            lambda change: np.any(change) and np.isclose(abs(np.corrcoef(change, _weights)[0, 1]), 1),
            (-0.01 * _weights,),
        ),
    },
    passes=0.0,
    enough=(-0.01 * np.sign(_weights),),
    not_enough=(-0.005 * np.sign(_weights),),
    minutes=8,
)

# --- 10.4 find the bug: noise of the same size -----------------------------------------------------------------------


def _scaled(size):
    return lambda noise, epsilon: epsilon * noise / size(noise)


_over = (1, 2, 3)
same_size = Bug(
    "10.4",
    _scaled(lambda noise: np.linalg.norm(noise)),
    _scaled(lambda noise: np.sqrt(np.sum(noise**2, axis=_over, keepdims=True))),
    {
        "now every *pixel* has noise of that size, and the whole is about the root of 784 times as long.": (
            lambda noise, epsilon: epsilon * noise
        ),
        "you divided by the sum of the squares, and left out the root.": _scaled(
            lambda noise: np.sum(noise**2, axis=_over, keepdims=True)
        ),
        "you divided by the largest entry: that is the other norm, in which each pixel has a bound.": _scaled(
            lambda noise: np.max(np.abs(noise), axis=_over, keepdims=True)
        ),
        "you divided by the sum of the absolute values. What is a length in l2?": _scaled(
            lambda noise: np.sum(np.abs(noise), axis=_over, keepdims=True)
        ),
        "you took the norm along the images, pixel by pixel: it should run over the pixels of each image.": _scaled(
            lambda noise: np.linalg.norm(noise, axis=0, keepdims=True)
        ),
        "each image has the same factor now, and so they differ in length: only their mean is right.": _scaled(
            lambda noise: np.mean(np.sqrt(np.sum(noise**2, axis=_over)))
        ),
    },
    inputs=[(RNG.normal(size=(3, 4, 4, 2)), 1.5), (RNG.normal(size=(2, 3, 5, 1)), 0.2)],
    done="each image gets noise of the attack's own size: only now do the two curves belong into one figure.",
    stars=2,
    minutes=8,
)

# --- 10.5 which class is easiest to reach? ---------------------------------------------------------------------------

reached = Write(
    "10.5",
    lambda before, after, wanted: np.mean(after[before != wanted] == wanted),
    {
        "images that showed the class from the start are counted as successes: nothing had to be done for them.": (
            lambda before, after, wanted: np.mean(after == wanted)
        ),
        "they do not count as successes now, but they still stand in the number you divide by.": (
            lambda before, after, wanted: np.mean((after == wanted) & (before != wanted))
        ),
        "that is their number. Out of how many?": lambda before, after, wanted: np.sum(
            after[before != wanted] == wanted
        ),
        "you counted every change of mind. The attack had a goal.": lambda before, after, wanted: np.mean(
            (after != before)[before != wanted]
        ),
        "you kept the images that are of the class already, and left out those that should get there.": (
            lambda before, after, wanted: np.mean(after[before == wanted] == wanted)
        ),
    },
    inputs=[
        (np.array([0, 1, 2, 2, 1, 0, 3, 3, 2]), np.array([2, 2, 2, 0, 1, 2, 0, 2, 2]), 2),
        (np.array([0, 1, 2, 2, 1, 1, 3]), np.array([1, 1, 1, 0, 0, 1, 1]), 1),
    ],
    done="a success needs something to be done: the package calls such images eligible.",
    minutes=8,
)

# --- 10.6 a defence that rounds --------------------------------------------------------------------------------------

rounding = Write(
    "10.6",
    lambda x, slope: (np.round(x), slope),
    {
        "that is the true derivative of rounding, 0 nearly everywhere, and the search has no direction. The attacker "
        "may use another backward pass: which is the simplest that lets the slope through?": lambda x, slope: (
            np.round(x),
            0 * slope,
        ),
        "nothing is rounded on the way forward, so this is not the defence.": lambda x, slope: (x, slope),
        "the slope is rounded on its way back. What should happen to it there?": lambda x, slope: (
            np.round(x),
            np.round(slope),
        ),
        "you sent back the slope of this step alone. By the chain rule it multiplies what arrives from behind.": (
            lambda x, slope: (np.round(x), np.ones_like(slope))
        ),
        "you let the slope through only where the pixel was rounded up to 1. Paper can become ink too.": (
            lambda x, slope: (np.round(x), slope * np.round(x))
        ),
        "swapped: the first goes forward, the second comes back.": lambda x, slope: (slope, np.round(x)),
    },
    inputs=[(np.array([[0.1, 0.4, 0.6, 0.95]]), np.array([[0.7, -1.2, 0.3, -0.2]]))],
    done="forward the defence as it is, backward the identity: now the search has a direction.",
    stars=2,
    minutes=10,
)

# --- 10.7 more contraction -------------------------------------------------------------------------------------------


def _distances(a, b):
    return np.linalg.norm(a - b, axis=1)


relative_movement = Write(
    "10.7",
    lambda moved, codes: np.mean(_distances(moved, codes)) / np.mean(_distances(codes, codes.mean(axis=0))),
    {
        "nothing is divided by the spread: make all codes ten times smaller, and this encoder looks ten times as "
        "robust.": lambda moved, codes: np.mean(_distances(moved, codes)),
        "you divided by the mean length of the codes, their distance from 0. Add a constant to all codes: should the "
        "answer change?": lambda moved, codes: np.mean(_distances(moved, codes)) / np.mean(_distances(codes, 0)),
        "you divided by a standard deviation of single numbers; a spread is a distance in the space of codes.": (
            lambda moved, codes: np.mean(_distances(moved, codes)) / codes.std()
        ),
        "you averaged the movements before you measured them, and movements in different directions cancel.": (
            lambda moved, codes: (
                np.linalg.norm((moved - codes).mean(axis=0)) / np.mean(_distances(codes, codes.mean(axis=0)))
            )
        ),
        "the spread is that of the moved codes, which the attack itself has stretched.": lambda moved, codes: (
            np.mean(_distances(moved, codes)) / np.mean(_distances(moved, moved.mean(axis=0)))
        ),
        "upside down: that says how many movements fit into the spread.": lambda moved, codes: (
            np.mean(_distances(codes, codes.mean(axis=0))) / np.mean(_distances(moved, codes))
        ),
    },
    inputs=[(RNG.normal(size=(7, 3)) + 2, RNG.normal(size=(7, 3)) + 2)],
    done="a code can be scaled at no cost, and this number does not fall for it.",
    stars=2,
    minutes=10,
)

# --- 10.8 adversarial training ---------------------------------------------------------------------------------------

worst_margin = Write(
    "10.8",
    lambda w, b, x, y, epsilon: y * (x @ w + b) - epsilon * np.linalg.norm(w),
    {
        "the margin grows under your attack: the worst change takes something away.": lambda w, b, x, y, epsilon: (
            y * (x @ w + b) + epsilon * np.linalg.norm(w)
        ),
        "that is the margin without an attack.": lambda w, b, x, y, epsilon: y * (x @ w + b),
        "you took off epsilon itself. A step of that length lowers the score by its length times the slope: how steep "
        "is w?": lambda w, b, x, y, epsilon: y * (x @ w + b) - epsilon,
        "that is the worst change in linf, where every pixel may move by epsilon. Here the *length* is bounded.": (
            lambda w, b, x, y, epsilon: y * (x @ w + b) - epsilon * np.abs(w).sum()
        ),
        "the length of w is squared. A step by epsilon along w divided by its length: what is its product with w?": (
            lambda w, b, x, y, epsilon: y * (x @ w + b) - epsilon * np.sum(w**2)
        ),
        "you lowered the score of both classes. For y = -1 the attacker wants it to rise.": (
            lambda w, b, x, y, epsilon: y * (x @ w + b - epsilon * np.linalg.norm(w))
        ),
        "the label is missing: a negative score is right where y = -1.": lambda w, b, x, y, epsilon: (
            x @ w + b - epsilon * np.linalg.norm(w)
        ),
    },
    inputs=[
        (RNG.normal(size=5), 0.3, RNG.normal(size=(4, 5)), np.array([1, -1, 1, -1]), 0.5),
        (3 * RNG.normal(size=2), -1.0, RNG.normal(size=(3, 2)), np.array([-1, -1, 1]), 0.1),
    ],
    done="for a line, training on attacked images is training with a margin that costs epsilon times the length of w.",
    stars=3,
    minutes=20,
)

# --- 10.9 a referee's report -----------------------------------------------------------------------------------------

referee = Reading(
    "10.9",
    [
        "the attack was made against the bare victim (oblivious): it has to go through the defence (adaptive)",
        "how strong the search was: steps, starts, gradients that it can follow. Each figure is an upper bound on "
        "robustness",
        "what the defence costs on clean images",
        "accuracy under random noise is no evidence about attacks",
        "on how many images, and whether those misread from the start were counted",
    ],
    stars=2,
    minutes=10,
)
