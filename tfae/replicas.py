"""A replica's share of a batch, and what random numbers and means have to do with it (chapter 15).

Under a ``tf.distribute`` strategy each step works on one *global batch*. Every replica takes its share, consecutive
rows, and what it does is weighted by their number. So the sum over the replicas is what one device would have computed,
whatever the sizes of the shares. `tfae.loop` hands the shares out; layers and penalties ask for them here.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from keras import ops


@dataclass(frozen=True)
class Share:
    """What one replica works on: the rows ``first`` to ``last - 1`` of a global batch of ``total``.

    Where there are fewer rows than replicas, all of these do the whole batch, and the logs of one of them count.
    """

    first: Any
    last: Any
    total: Any
    weight: Any  # of its mean in the mean over the global batch
    counts: Any

    @classmethod
    def of(cls, total: Any, i: Any, replicas: int) -> "Share":
        """Return the share of replica `i`."""
        few = total < replicas
        first = tf.where(few, 0, total * i // replicas)
        last = tf.where(few, total, total * (i + 1) // replicas)
        weight = tf.where(few, tf.constant(1 / replicas, tf.float64), (last - first) / total)
        return cls(first, last, total, weight, tf.logical_or(~few, tf.equal(i, 0)))


_replica = threading.local()  # each replica of a step is traced by a thread of its own


def current_share() -> Share | None:
    """Return the share of the global batch that the running step works on, or None where one device has all of it."""
    return getattr(_replica, "share", None)


@contextmanager
def working_on(share: Share) -> Iterator[None]:
    """Run what stands inside as a replica that has this share."""
    _replica.share = share
    try:
        yield
    finally:
        _replica.share = None


def draw_rows(draw: Callable, shape: Any, **options: Any) -> Any:
    """Return ``draw(shape, **options)``, with the rows that one device would have drawn for the same samples.

    Each replica draws for the whole global batch, from the same seed, and keeps its own rows: replicas differ, and a
    sample gets the same noise on any number of them. A layer that draws so has the attribute ``draws_rows = True``.
    """
    share = current_share()
    if share is None:
        return draw(shape, **options)
    return draw((share.total, *shape[1:]), **options)[share.first : share.last]


def mean_over_replicas(value: Any) -> Any:
    """Turn the mean over this replica's rows into the mean over the global batch.

    Gradients go to this replica's own rows: weighted and summed over the replicas, they are those of the global mean.
    """
    share = current_share()
    if share is None:
        return value
    part = ops.cast(share.weight, value.dtype) * tf.stop_gradient(value)
    mean = tf.distribute.get_replica_context().all_reduce("SUM", part)
    return value + tf.stop_gradient(mean - value)


def is_shared(strategy: Any) -> bool:
    """Whether the replicas of a strategy, or its workers, share each batch."""
    return strategy.num_replicas_in_sync > 1 or isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def numbers_of_replicas(number: int, strategy: Any) -> list[int]:
    """Return the whole number that each replica of a strategy has: on one machine all of them have the same."""
    if not is_shared(strategy):
        return [number]

    @tf.function
    def gather() -> Any:
        def on_replica() -> Any:
            return tf.distribute.get_replica_context().all_gather(tf.constant([number], tf.int64), axis=0)

        return strategy.run(on_replica)

    return strategy.experimental_local_results(gather())[0].numpy().tolist()
