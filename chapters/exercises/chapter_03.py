"""Chapter 03, training: what is asked, and the mistakes that people make."""

import numpy as np

from . import Bug, Challenge, Prediction, Write

RNG = np.random.default_rng(3)

# --- 03.1 the rate that suits SGD ------------------------------------------------------------------------------------

sgd_rate = Prediction(
    "03.1",
    [
        (0.003, "The rate of most tutorials. With which optimiser do they use it, and what is their loss divided by? "
         "Run the cell."),
        (0.3, "Larger than most tutorials have it. How large is the gradient of a mean over 784 pixels? Run the cell."),
        (3, "Bold: a thousand times what most tutorials write, or nearly. Run the cell."),
        (100, "Very bold. If you are right, why does nobody write such a rate? Run the cell."),
    ],
    low=0.001,
    outside="one of the six rates is asked for, from 0.001 to 100.",
)  # fmt: skip

# --- 03.2 break a unit for good --------------------------------------------------------------------------------------


def _slope(a):
    """Return the slope of a sigmoid as Keras computes it: from its output, in float32."""
    with np.errstate(over="ignore"):
        p = np.float32(1) / (np.float32(1) + np.exp(-np.float32(a)))
    return float(p * (1 - p))


def _kept(a):
    slope = _slope(a)
    if slope > 0:
        return -np.inf, f"the slope at {a:g} is {slope:.1e}: small or not, something still gets through."
    return -abs(a), f"at {a:g} the output is 1 to the last bit of float32 and its slope 0: nothing brings it back."


dead_end = Challenge(
    "03.2",
    _kept,
    {
        "that is a probability. Asked for is the pre-activation that the sigmoid turns into one: any number, also far "
        "outside the range from 0 to 1.": (lambda a: 0.5 < a <= 1 or np.isnan(a), (1.0,)),
        "on this side the output is nearly 0, and float32 has numbers down to 1e-45 there: for a long way the slope is "
        "tiny and not 0. How close to *1* can an output come without being 1?": (lambda a: a < -5, (-17,)),
        "nothing gets through there, but you went further than you had to. Where does it begin?": (
            lambda a: a > 20,
            (50,),
        ),
    },
    passes=-20.0,
    enough=(17,),
    not_enough=(10,),
    stars=1,
    minutes=4,
)

# --- 03.3 how much work is a network? --------------------------------------------------------------------------------


def _pairs(sizes):
    return list(zip(sizes[:-1], sizes[1:], strict=True))


multiply_adds = Write(
    "03.3",
    lambda sizes: sum(a * b for a, b in _pairs(sizes)),
    {
        "you counted the biases as well: a bias is added, and nothing is multiplied for it.": lambda sizes: sum(
            (a + 1) * b for a, b in _pairs(sizes)
        ),
        "that is the encoder's half. What does it cost to come back from the code?": lambda sizes: sum(
            a * b for a, b in _pairs(sizes)[: len(sizes) // 2]
        ),
        "those are the units. Each unit reads every unit of the layer before it: how many weights is that?": (
            lambda sizes: sum(sizes[1:])
        ),
        "you multiplied all sizes with each other. Layers work one after the other: do their costs multiply?": (
            lambda sizes: int(np.prod(sizes))
        ),
        "you counted a multiplication and the addition that follows as two. The page counts the pair once.": (
            lambda sizes: 2 * sum(a * b for a, b in _pairs(sizes))
        ),
        "that is a step of training: one way forward and a way back that costs twice as much. Only the way forward is "
        "asked for.": lambda sizes: 3 * sum(a * b for a, b in _pairs(sizes)),
    },
    inputs=[([784, 128, 32, 128, 784],), ([10, 3, 10],), ([6, 5, 2, 5, 7],)],
    done="one for each weight and image. So the wide layers next to the image cost most, and the code hardly anything.",
    minutes=5,
)

# --- 03.4 the loss that Keras logs -----------------------------------------------------------------------------------


def _recovered(first=1, behind=1):
    """Return the right program, with the count of the steps changed."""

    def recover(means):
        t = np.arange(first, first + len(means))
        return t * means - (t - behind) * np.concatenate([[0], means[:-1]])

    return recover


def _means(losses):
    return (np.cumsum(losses) / np.arange(1, 1 + len(losses)),)


recover = Write(
    "03.4",
    _recovered(),
    {
        "you took the difference of neighbouring means. Each of them has been divided by a number of steps of its own: "
        "what has to be undone first?": lambda means: np.diff(means, prepend=0.0),
        "those are the sums since the epoch began: one loss is the difference of two of them.": lambda means: (
            np.arange(1, 1 + len(means)) * means
        ),
        "the mean before counts one step less than this one, and you multiplied both by the same number.": _recovered(
            behind=0
        ),
        "you counted the steps from 0. How many losses are in the first mean?": _recovered(first=0),
        "those are the means as they are logged.": lambda means: means,
    },
    inputs=[_means([0.23, 0.2, 0.15, 0.11, 0.1]), _means(RNG.random(7))],
    done="what a running mean hides can be had back, as long as no step is missing.",
    minutes=5,
)

# --- 03.5 which curve is whose? --------------------------------------------------------------------------------------


jump = Write(
    "03.5",
    lambda losses: np.mean(np.abs(np.diff(losses[-20:]))),
    {
        "jumps up and down cancel in your mean: what is left is the way from the first loss to the last.": (
            lambda losses: np.mean(np.diff(losses[-20:]))
        ),
        "the sign is taken away after the mean. By then the jumps up and down have cancelled.": lambda losses: np.abs(
            np.mean(np.diff(losses[-20:]))
        ),
        "that is over all steps. The first ones fall steeply: is that a jump?": lambda losses: np.mean(
            np.abs(np.diff(losses))
        ),
        "that is the spread of the losses, which also grows when they fall steadily. A jump goes from one step to the "
        "next.": lambda losses: np.std(losses[-20:]),
        "those are twenty jumps, made of twenty-one losses. How many jumps lie between twenty?": lambda losses: np.mean(
            np.abs(np.diff(losses[-21:]))
        ),
        "that is the sum of the jumps, and their mean is asked for.": lambda losses: np.sum(
            np.abs(np.diff(losses[-20:]))
        ),
    },
    inputs=[(np.linspace(0.4, 0.1, 38) + 0.05 * RNG.random(38),), (1 / np.arange(1, 31) + 0.1 * RNG.random(30),)],
    done="now let batches of three sizes jump.",
    minutes=10,
)

# --- 03.6 the momentum of batch normalisation ------------------------------------------------------------------------

left_of_start = Write(
    "03.6",
    lambda momentum, steps: momentum**steps,
    {
        "that is the share that the batches have brought in. What is left of the start?": lambda momentum, steps: (
            1 - momentum**steps
        ),
        "the two shares are swapped: in each step the old value keeps `momentum`, the batch brings the rest.": (
            lambda momentum, steps: (1 - momentum) ** steps
        ),
        "you take the same amount away in each step. Each step takes a share of what is *still there*.": (
            lambda momentum, steps: max(0.0, 1 - (1 - momentum) * steps)
        ),
        "one step too few: the first step already lets go of a share.": lambda momentum, steps: momentum ** (steps - 1),
        "one step too many: before the first step all of the start is there.": lambda momentum, steps: (
            momentum ** (steps + 1)
        ),
        "you multiplied by the number of steps. What happens in one step happens again to what it left over.": (
            lambda momentum, steps: momentum * steps
        ),
    },
    inputs=[(0.99, 120), (0.9, 3), (0.5, 1)],
    done="after 120 steps a momentum of 0.9 has forgotten its start. And Keras's 0.99?",
    stars=2,
    minutes=15,
)

# --- 03.7 find the bug: a new order in each epoch --------------------------------------------------------------------


def _order(entropy, draw=lambda rng, n: rng.permutation(n)):
    return lambda seed, epoch, n: draw(np.random.default_rng(entropy(seed, epoch)), n)


new_order = Bug(
    "03.7",
    _order(lambda seed, epoch: seed),
    _order(lambda seed, epoch: [seed, epoch]),
    {
        "the epochs differ now, but run 0 in epoch 1 gets the order of run 1 in epoch 0: two seeds are no longer two "
        "independent runs. How can both numbers count?": _order(lambda seed, epoch: seed + epoch),
        "in epoch 0 all runs have one order now, and so have all epochs of run 0. How can both numbers count?": _order(
            lambda seed, epoch: seed * epoch
        ),
        "now every run goes through the same orders, whatever its seed.": _order(lambda seed, epoch: epoch),
        "drawn with replacement: some samples come twice in an epoch and others not at all.": _order(
            lambda seed, epoch: [seed, epoch], lambda rng, n: rng.integers(n, size=n)
        ),
        "a good order, but another one than asked for: the seed stands first in the pair.": _order(
            lambda seed, epoch: [epoch, seed]
        ),
    },
    inputs=[(0, 0, 9), (0, 1, 9), (1, 0, 9), (2, 3, 12)],
    done="a generator that is made anew begins anew. Now each run has an order of its own in each epoch, and the same "
    "one tomorrow.",
    stars=2,
    minutes=10,
)

# --- 03.8 honest early stopping --------------------------------------------------------------------------------------


def _both_ways(epoch_of=np.argmin, offset=0):
    """Return the right program, with the epoch that it picks changed."""

    def honest(first, second):
        i, j = (min(int(epoch_of(part)) + offset, len(part) - 1) for part in (first, second))
        return (first[i] + second[j]) / 2, (second[i] + first[j]) / 2

    return honest


def _one_choice(first, second):
    epoch = np.argmin(first + second)
    return (first[epoch] + second[epoch]) / 2, (first[epoch] + second[epoch]) / 2


honest = Write(
    "03.8",
    _both_ways(),
    {
        "one way only. If one part is the harder, that is all you see: what cancels it?": lambda first, second: (
            first[np.argmin(first)],
            second[np.argmin(first)],
        ),
        "each part is scored at its own best epoch, so neither number is fresh.": lambda first, second: (
            (first.min() + second.min()) / 2,
            (first.min() + second.min()) / 2,
        ),
        "you picked one epoch by both parts together. Which images are then left that took no part in the choice?": (
            _one_choice
        ),
        "the two numbers are swapped: the part that chose the epoch comes first.": lambda first, second: _both_ways()(
            first, second
        )[::-1],
        "that is the last epoch. Early stopping takes back the weights of the best one.": _both_ways(
            lambda part: len(part) - 1
        ),
        "that is the epoch *after* the best one: `np.argmin` counts from 0, and so does an index.": _both_ways(
            offset=1
        ),
        "that is the worst epoch of each part.": _both_ways(np.argmax),
    },
    inputs=[(RNG.random(9), RNG.random(9)), (np.array([5.0, 3, 2, 4]), np.array([6.0, 3.5, 4, 3])[[0, 2, 3, 1]])],
    done="an epoch chosen on one part, judged on the other, both ways round.",
    stars=3,
    minutes=20,
)
