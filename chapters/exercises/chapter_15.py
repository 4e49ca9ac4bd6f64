"""Chapter 15, scaling: what is asked, and the mistakes that people make."""

import numpy as np

from . import Bug, Prediction, Reading, Write

RNG = np.random.default_rng(15)

# --- 15.1 four times as many images ----------------------------------------------------------------------------------

memory_grows = Prediction(
    "15.1",
    [
        (0.9, "Less memory for more images? Run the cell."),
        (1.5, "About the same, you say: then something other than the number of images sets it. Run the cell."),
        (3, "More, but not in proportion. Which part would grow with the number of images? Run the cell."),
        (1e3, "In proportion, or beyond. Where would the images be that have been read already? Run the cell."),
    ],
    outside="how many *times* the memory is asked for: 4 if it grows as the images do.",
)

# --- 15.2 put the parts together -------------------------------------------------------------------------------------


def _together(weights, total=lambda weights, rows: np.sum(weights)):
    """Return the weighted sum of the parts' gradients, with the weights or what they are divided by changed."""

    def together(gradients, rows):
        by_part = weights(np.asarray(rows, "float64"))
        return np.tensordot(by_part, gradients, 1) / total(by_part, rows)

    return together


whole_gradient = Write(
    "15.2",
    _together(lambda rows: rows),
    {
        "that is a mean of means: a row in a small part then counts more than one in a large part.": _together(
            np.ones_like
        ),
        "you added the gradients. Each is a mean already, and so is the one that is asked for.": _together(
            np.ones_like, total=lambda weights, rows: 1
        ),
        "weighted by rows, but divided by the number of replicas: divide by all rows.": _together(
            lambda rows: rows, total=lambda weights, rows: len(rows)
        ),
        "the weights are right and never divided by: that is the gradient of the *sum* over all rows.": _together(
            lambda rows: rows, total=lambda weights, rows: 1
        ),
        "upside down: with these weights a part counts the less the more rows it has.": _together(
            lambda rows: 1 / rows
        ),
        "the root of the number of rows says how sure a mean is. Here each row counts the same, so the number itself "
        "is the weight.": _together(np.sqrt),
    },
    inputs=[(RNG.normal(size=(2, 4, 3)), [2, 5]), (RNG.normal(size=(3, 5)), [128, 127, 1])],
    done="each row counts once, however the batch was cut.",
    minutes=5,
)

# --- 15.3 a thirty-second of the work --------------------------------------------------------------------------------

step_share = Prediction(
    "15.3",
    [
        (0.06, "So nearly all of a step's time would be spent on images. What else does a step do? Run the cell."),
        (0.25, "More than a thirty-second: you allow for costs that come with every step. Run the cell."),
        (0.7, "Then most of a step would be there before the first image. Run the cell."),
        (1.0, "Then the images would cost next to nothing. Each of them needs 784 numbers in and out: run the cell."),
    ],
    outside="a share of the time of 256 images is asked for: a half is 0.5.",
)

# --- 15.4 will it fit? -----------------------------------------------------------------------------------------------


def _needs(n, shape, rate, colours=None, wide=4, giga=1e9, mega=1e6, per_second=1, clock=60, bits=1):
    size = np.prod(shape[:2]) * (shape[2] if colours is None else colours)
    return (n * size * bits / giga, n * size * wide * bits / giga, n / rate / clock, rate * size * per_second / mega)


will_it_fit = Write(
    "15.4",
    _needs,
    {
        "the colours are missing: a colour image has three numbers for each pixel.": (
            lambda n, shape, rate: _needs(n, shape, rate, colours=1)
        ),
        "those are eight bytes for each number, so float64: a float32 has four.": (
            lambda n, shape, rate: _needs(n, shape, rate, wide=8)
        ),
        "you divided by powers of 1,024: those are gibibytes and mebibytes. A gigabyte is a thousand million bytes.": (
            lambda n, shape, rate: _needs(n, shape, rate, giga=2**30, mega=2**20)
        ),
        "the epoch is in seconds here: minutes are asked for.": (
            lambda n, shape, rate: _needs(n, shape, rate, clock=1)
        ),
        "the disk delivers bytes: the cast to float32 comes after the reading.": (
            lambda n, shape, rate: _needs(n, shape, rate, per_second=4)
        ),
        "those are bits: a byte is one number of an image.": (
            lambda n, shape, rate: _needs(n, shape, rate, bits=8, per_second=8)
        ),
    },
    inputs=[(10_000_000, (64, 64, 3), 20_000), (60_000, (28, 20, 1), 5_000)],
    done="the data set decides about the disk's size, the speed of training about the disk's speed.",
    minutes=5,
)

# --- 15.5 cut it off -------------------------------------------------------------------------------------------------


def _lost(n, size, block, cut):
    first = (n * size - cut) // size  # the first sample that is not whole
    return n - first // block * block


lost_samples = Write(
    "15.5",
    _lost,
    {
        "those are the samples whose own bytes are gone. Can the others of their checksum still be trusted?": (
            lambda n, size, block, cut: -(-cut // size)
        ),
        "a checksum stands for so many samples, but the last one of a file for those that are left.": (
            lambda n, size, block, cut: block * -(-cut // (block * size))
        ),
        "a whole shard need not be given up: the checksums before the cut still hold.": (lambda n, size, block, cut: n),
        "that is how many are *kept*.": lambda n, size, block, cut: n - _lost(n, size, block, cut),
        "that counts checksums, not the samples that they stand for.": lambda n, size, block, cut: (
            -(-n // block) - (n * size - cut) // size // block
        ),
        "you count the bytes as if they were samples.": lambda n, size, block, cut: n - (n - cut) // block * block,
    },
    inputs=[(500, 784, 16, 1), (500, 784, 16, 4 * 784 + 1), (500, 784, 16, 2 * 784), (120, 8, 32, 8 * 60)],
    done="what shares a checksum is lost together: nobody can tell which of its bytes is wrong.",
    stars=2,
    minutes=8,
)

# --- 15.6 sorted on disk ---------------------------------------------------------------------------------------------


def _per_batch(of=lambda labels: len(np.unique(labels)), step=None, over=np.mean, last=True):
    def per_batch(labels, size):
        starts = range(0, len(labels) if last else len(labels) - size + 1, step or size)
        return float(over([of(labels[i : i + size]) for i in starts]))

    return per_batch


_labels = np.repeat(np.arange(7), 9)
_mixed = RNG.integers(0, 5, 64)
classes_per_batch = Write(
    "15.6",
    _per_batch(),
    {
        "that counts the classes of the whole list: a batch sees a part of it.": lambda labels, size: float(
            len(np.unique(labels))
        ),
        "you added the batches up: the mean of a batch is asked for.": _per_batch(over=np.sum),
        "you count how often the class changes from one sample to the next. A class that comes back is no new one.": (
            _per_batch(of=lambda labels: 1 + np.count_nonzero(np.diff(labels)))
        ),
        "your batches overlap: the next one begins where this one ends.": _per_batch(step=1, last=False),
        "the last batch is missing: it is smaller, and training takes it too.": _per_batch(last=False),
        "the largest label is no count: a batch of sevens has one class.": _per_batch(of=lambda labels: labels.max()),
        "those are samples for each class, not classes.": _per_batch(
            of=lambda labels: len(labels) / len(np.unique(labels))
        ),
    },
    inputs=[(_labels, 10), (_mixed, 6), (_mixed[::-1], 13)],
    done="a batch that holds one class pulls the weights towards that class, and the next one elsewhere.",
    stars=2,
    minutes=15,
)

# --- 15.7 find the bug: an address for each task ---------------------------------------------------------------------

task_addresses = Bug(
    "15.7",
    lambda hosts, tasks: [f"{host}:{2222 + task}" for task in range(tasks) for host in hosts],
    lambda hosts, tasks: [f"{host}:{2222 + task}" for host in hosts for task in range(tasks)],
    {
        "the order is right now. But tasks of one machine share a port here, and only the first can have it.": (
            lambda hosts, tasks: [f"{host}:2222" for host in hosts for _ in range(tasks)]
        ),
        "one address for each machine: each *task* is a worker, and needs its own.": lambda hosts, tasks: [
            f"{host}:2222" for host in hosts
        ],
        "the ports run on from machine to machine. That would work, but each machine should begin again at 2222, so "
        "that few ports need to be open.": lambda hosts, tasks: [
            f"{host}:{2222 + i * tasks + task}" for i, host in enumerate(hosts) for task in range(tasks)
        ],
        "the first port is 2222: count the tasks of a machine from 0.": lambda hosts, tasks: [
            f"{host}:{2223 + task}" for host in hosts for task in range(tasks)
        ],
        "the machines are in another order than Slurm's: leave the list as it came.": lambda hosts, tasks: [
            f"{host}:{2222 + task}" for host in sorted(hosts) for task in range(tasks)
        ],
    },
    inputs=[(["b7", "a1", "c2"], 2), (["node2", "node1"], 3)],
    done="place i of the list is the address of task i, and all tasks agree about it.",
    stars=2,
    minutes=5,
)

# --- 15.8 a test that cannot fail ------------------------------------------------------------------------------------

a_test = Reading(
    "15.8",
    [
        "2,048 images in batches of 256 cut into equal parts only, and there a mean of means is the mean",
        "a number of images that leaves an uneven last batch would show the mistake, as 2,051 do",
        "the difference needs a scale: what one epoch changes a weight by, and what rounding does",
        "equal results say nothing about the speed",
    ],
    stars=2,
    minutes=10,
)

# --- 15.9 what network would it take? --------------------------------------------------------------------------------


def _bandwidth(one, share, workers, times, size, sent=lambda n: 2 * (n - 1) / n, left=lambda c, s, t: c / t - s):
    return sent(workers) * size / left(one, share, times)


bandwidth = Write(
    "15.9",
    _bandwidth,
    {
        "the ring's factor is missing: each worker sends and receives 2 (n - 1) / n times the size of the model.": (
            lambda *given: _bandwidth(*given, sent=lambda n: 1)
        ),
        "each worker has to send what the others send it as well: the factor of 2 is missing.": (
            lambda *given: _bandwidth(*given, sent=lambda n: (n - 1) / n)
        ),
        "you took 2 (n - 1) times the size of the model: those are the messages, and each holds one n-th of it.": (
            lambda *given: _bandwidth(*given, sent=lambda n: 2 * (n - 1))
        ),
        "the whole step is given to the network: the workers need time for their own share, too.": (
            lambda *given: _bandwidth(*given, left=lambda c, s, t: c / t)
        ),
        "you left one worker's time as it is. A speed-up of `times` leaves a fraction of it for the step.": (
            lambda *given: _bandwidth(*given, left=lambda c, s, t: c - s)
        ),
        "those are bits a second: bytes are asked for.": lambda *given: 8 * _bandwidth(*given),
        "the speed-up divides by the number of workers here: it is `times` that was asked for.": (
            lambda one, share, workers, times, size: _bandwidth(one, share, workers, workers, size)
        ),
    },
    inputs=[(0.4, 0.05, 4, 2.0, 1e6), (1.0, 0.1, 8, 3.0, 4e6), (0.2, 0.06, 2, 1.5, 3e5)],
    done="the faster the machine, the faster the network it needs.",
    stars=3,
    minutes=15,
)
