"""What Keras and TensorFlow do not promise, gathered in one place: a new version that breaks it breaks it here.

Each use has a test of its own in ``tests/test_internals.py``, so that the failure has a name.
"""

import itertools
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend import get_keras_mask
from keras.src.trainers.data_adapters.data_adapter import DataAdapter

# --- a model ---------------------------------------------------------------------------------------------------------


def all_layers(model: keras.Model) -> list[Any]:
    """Return the model and every layer inside it, nested and subclassed ones included."""
    return list(model._flatten_layers())


def build(model: keras.Model, data: Any) -> None:
    """Create the weights of a compiled model, of its metrics and of its optimiser, and compute nothing.

    `data` is a batch as ``train_step`` gets it: ``x``, ``(x, y)`` or ``(x, y, sample_weight)``.
    """
    model._symbolic_build(data_batch=data)
    if model.optimizer is not None:
        model.optimizer.build(model.trainable_variables)


def states_of_random_layers(layers: Iterable[Any]) -> list[Any]:
    """Return the variables that the random numbers of these layers come from: each a seed and a count."""
    return [generator.state for layer in layers for generator in layer._seed_generators]


# --- its loss --------------------------------------------------------------------------------------------------------


def aggregated(model: keras.Model, loss: Any) -> Any:
    """Return what ``compute_loss`` adds for a loss of the model's own: Keras divides each by the number of replicas."""
    return model._aggregate_additional_loss(loss)


def mask_of(values: Any) -> Any:
    """Return the mask that a layer has given to what it returned, which losses and metrics leave out, or None."""
    return get_keras_mask(values)


def training_loss(model: keras.Model, *batch: Any) -> Any:
    """Return the model's ``compute_loss`` of ``x, y, y_pred, sample_weight``, whether it takes ``training`` or not."""
    return model._compute_loss(*batch, training=True)


def log_loss(model: keras.Model, loss: Any, count: Any) -> None:
    """Add the mean loss of `count` samples to what is logged as ``loss``."""
    model._loss_tracker.update_state(loss, sample_weight=count)


# --- strategies and seeds --------------------------------------------------------------------------------------------

NO_SEED = 87654321  # what TensorFlow says while no seed is set


def strategy_of(model: keras.Model) -> tf.distribute.Strategy:
    """Return the strategy in whose scope a model was made, or the current one."""
    return getattr(model, "_distribute_strategy", None) or tf.distribute.get_strategy()


def strategy_of_optimizer(optimizer: Any) -> tf.distribute.Strategy | None:
    """Return the strategy in whose scope an optimiser was made, or None where it does not say."""
    return getattr(optimizer, "_distribution_strategy", None)


def global_seed() -> int | None:
    """Return the seed that ``keras.utils.set_random_seed`` has given TensorFlow, or None."""
    seed, _ = tf.compat.v1.get_seed(0)
    return None if seed == NO_SEED else seed


# --- the training loop -----------------------------------------------------------------------------------------------


def start_at_epoch(model: keras.Model, epoch: int | None) -> None:
    """Let a ``fit`` that has just begun go on at this epoch: the hook of ``keras.callbacks.BackupAndRestore``."""
    model._initial_epoch = epoch


def within_fit(options: dict[str, Any]) -> bool:
    """Whether an ``evaluate`` with these options is the validation within ``fit``."""
    return bool(options.get("_use_cached_eval_dataset"))


def record_input_shape(model: keras.Model, shape: Any) -> None:
    """Note the shape of a batch where exporters look for it: Keras notes it only where it builds a model itself."""
    model._build_shapes_dict = {"input_shape": shape}


class OpenLoop(keras.Model):
    """A Keras model whose loop has two more places to change it, and otherwise does as always.

    Keras's loop is made to run as on one device, whatever the strategy.
    """

    def whole_step(self, step: Callable) -> Callable:
        """Return what the loop does with a batch to train or evaluate: `step`, unless overridden."""
        return step

    def prepared(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """Return what the loop goes through in place of `dataset`, which is the user's or made of arrays."""
        return dataset

    @property
    def distribute_strategy(self) -> Any:
        return _AsOneDevice(self)

    def _make_function(self, step_function: Callable) -> Callable:
        return super()._make_function(self.whole_step(step_function))


class _AsOneDevice:
    """A strategy as Keras's loop is to see it: a scope, and otherwise one device that takes whole batches."""

    def __init__(self, model: OpenLoop) -> None:
        self.scope, self.experimental_distribute_dataset = strategy_of(model).scope, model.prepared

    def run(self, function: Callable, args: tuple) -> Any:
        return function(*args)


Block = tuple[Any, np.ndarray, np.ndarray | None]


class Epoch(Iterator):
    """One pass over `Batches` or a `Stream`. Keras begins two in each epoch and uses one: the other never shuffles.

    An item stands for the steps of one call of the train function. It is a list of blocks: data, the numbers of the
    samples in batches of one size, shape ``(count, batch_size)``, and those of one batch of another size, which may
    have none. Where there is None instead of these, the data are a batch themselves.
    """

    def __init__(self, items: Iterator[list[Block]]) -> None:
        self._items = items

    def __next__(self) -> list[Block]:
        return next(self._items)


class Batches(DataAdapter):
    """Samples in memory for Keras's loop, in its own order, of which the train function gets the numbers alone.

    Parameters
    ----------
    data : tensor or structure of tensors
        Their first axis is samples.
    batch_size, steps : int
    shuffle : bool
    """

    def __init__(self, data: Any, batch_size: int, steps: int, shuffle: bool) -> None:
        self._data, self._batch_size, self._steps = data, batch_size, steps
        self._n = len(keras.tree.flatten(data)[0])

        def order(epoch: Any) -> Any:  # Keras's, operation by operation: the seed of a shuffle counts those before it
            numbers = tf.range(self._n, dtype=tf.int64)
            return tf.random.shuffle(numbers) if shuffle else numbers

        epoch = tf.zeros((), tf.int64)
        drawn = tf.function(order, autograph=False).get_concrete_function(epoch)
        self._order: Callable[[], Any] = partial(drawn, epoch)
        if drawn.graph.seed is not None:  # Keras starts a seeded shuffle anew in each epoch: it gives the same order
            self._order = cache(self._order)

    @property
    def num_batches(self) -> int:
        return -(-self._n // self._batch_size)

    def get_tf_dataset(self) -> "Batches":
        return self

    def __iter__(self) -> Epoch:
        return Epoch(self._items())

    def _items(self) -> Iterator[list[Block]]:
        order = self._order().numpy()
        block = self._batch_size * self._steps
        for start in range(0, self._n, block):
            numbers = order[start : start + block].astype("int32")
            full = len(numbers) // self._batch_size * self._batch_size
            yield [(self._data, numbers[:full].reshape(-1, self._batch_size), numbers[full:])]


class Stream:
    """A ``tf.data.Dataset`` for Keras's loop, of which the train function gets `steps` batches at a time.

    Batches that follow each other and are alike in shape are put together to blocks of at most `most_bytes`. A dataset
    of `tfae.records` makes its blocks itself: it has a method ``in_blocks(steps)``, which returns the dataset whose
    elements are as many of its batches in one, and the size of a batch.

    Parameters
    ----------
    dataset : tf.data.Dataset
        Of tensors whose first axis is samples.
    steps, most_bytes : int
    """

    def __init__(self, dataset: tf.data.Dataset, steps: int, *, most_bytes: int = 64 << 20) -> None:
        self._dataset, self._steps, self._most_bytes = dataset, steps, most_bytes
        self._ready, self._batch_size = None, 0
        if hasattr(dataset, "in_blocks"):
            blocks, batch_size = dataset.in_blocks(steps)
            sizes = [spec.dtype.size * math.prod(spec.shape[1:]) for spec in keras.tree.flatten(blocks.element_spec)]
            if steps * batch_size * sum(sizes) <= most_bytes:
                self._ready, self._batch_size = blocks, batch_size

    def __iter__(self) -> Epoch:
        if self._ready is None:
            return Epoch(self._items(iter(self._dataset)))
        return Epoch(map(self._of, iter(self._ready)))

    def _of(self, data: Any) -> list[Block]:
        """Return samples of one item as a block, filled up as in `_blocks`."""
        n, full = len(keras.tree.flatten(data)[0]), self._steps * self._batch_size
        numbers, last = np.arange(n, dtype="int32"), n // self._batch_size * self._batch_size
        if n < full:
            data = keras.tree.map_structure(lambda part: tf.gather(part, np.resize(numbers, full)), data)
        return [(data, numbers[:last].reshape(-1, self._batch_size), numbers[last:])]

    def _items(self, batches: Iterator[Any]) -> Iterator[list[Block]]:
        with ThreadPoolExecutor(1) as thread:  # puts together what comes next while this is trained on
            coming = thread.submit(self._item, batches)
            while item := coming.result():
                coming = thread.submit(self._item, batches)
                yield item

    def _item(self, batches: Iterator[Any]) -> list[Block]:
        some = list(itertools.islice(batches, self._steps))
        alike = itertools.groupby(some, lambda batch: [part.shape for part in keras.tree.flatten(batch)])
        return [block for _, group in alike for block in self._blocks(list(group))]

    def _blocks(self, batches: list[Any]) -> Iterator[Block]:
        """Return batches of one shape as blocks of one shape, filled up where needed, so that it is compiled once."""
        parts = keras.tree.flatten(batches[0])
        n, size = len(parts[0]), sum(part.dtype.size * part.shape.num_elements() for part in parts)
        most = min(self._steps, self._most_bytes // max(1, size))
        none, large = np.empty((0, n), "int32"), most < 2
        if large or any(len(part) != n for part in parts):  # a part that is not of samples cannot be put together
            yield from ((batch, none, None) for batch in batches)
            return
        for start in range(0, len(batches), most):
            block = batches[start : start + most]
            if len(block) == 1:
                yield block[0], none, np.arange(n, dtype="int32")
            else:
                filled = block + block[:1] * (most - len(block))
                data = keras.tree.map_structure(lambda *same: tf.concat(same, 0), *filled)
                yield data, np.arange(len(block) * n, dtype="int32").reshape(-1, n), none[:, 0]


# --- every call of a layer -------------------------------------------------------------------------------------------

_watchers: list[Callable] = []
_keras_call: Callable = keras.Operation.__call__  # while another stands in its place
_lock = threading.Lock()


@contextmanager
def watching_calls(watcher: Callable) -> Iterator[None]:
    """Run every call of a Keras layer or operation through `watcher` inside the ``with`` block.

    Keras calls all of them, of every thread, by ``keras.Operation.__call__``, which is exchanged while anybody watches.
    Blocks may be nested, and may end in another order than they began.

    Parameters
    ----------
    watcher : callable
        ``watcher(operation, run, *args, **kwargs)`` returns ``run(*args, **kwargs)``, having seen it.
    """
    global _keras_call
    with _lock:
        if not _watchers:
            _keras_call, keras.Operation.__call__ = keras.Operation.__call__, _watched_call
        _watchers.append(watcher)
    try:
        yield
    finally:
        with _lock:
            _watchers.remove(watcher)
            if not _watchers:
                keras.Operation.__call__ = _keras_call


def _watched_call(operation: keras.Operation, /, *args: Any, **kwargs: Any) -> Any:
    run = partial(_keras_call, operation)
    for watcher in tuple(_watchers):
        run = partial(watcher, operation, run)
    return run(*args, **kwargs)


# --- other derivatives -----------------------------------------------------------------------------------------------

_numbers = itertools.count()


def graph_with_derivatives(
    function: Callable, signature: Sequence[tf.TensorSpec], derivatives: dict[str, Callable]
) -> Any:
    """Return `function` as a graph in which some kinds of operations have other derivatives.

    ``tf.custom_gradient`` changes a function that one writes oneself. The derivative of an operation inside somebody
    else's network is changed by TensorFlow 1's ``gradient_override_map``, where ``tf.gradients`` looks it up. It does
    not reach into a ``tf.function`` or a loop: see `operations_in_functions`.

    Parameters
    ----------
    function : callable
        Maps tensors to tensors, and takes its derivatives by ``tf.gradients``. Its variables exist already.
    signature : sequence of tf.TensorSpec
        Of its arguments.
    derivatives : dict of str to callable
        By the type of the operation, such as ``"Relu"``: a module's function that maps the operation and the
        derivative of its output to the derivatives of its inputs.

    Returns
    -------
    callable
        With the attribute ``graph``.
    """
    names = {kind: _registered(derivative) for kind, derivative in derivatives.items()}

    def changed(*tensors: Any) -> Any:
        with tf.compat.v1.get_default_graph().gradient_override_map(names):
            return function(*tensors)

    return tf.compat.v1.wrap_function(changed, list(signature))


def operations_in_functions(graph: tf.Graph) -> set[str]:
    """Return the types of the operations inside the functions and loops that a graph calls."""
    return {node.op for function in graph.as_graph_def().library.function for node in function.node_def}


@cache  # TensorFlow keeps a name for ever, and takes it once
def _registered(derivative: Callable) -> str:
    name = f"Tfae{derivative.__name__}{next(_numbers)}"
    tf.RegisterGradient(name)(derivative)
    return name


# --- a profile -------------------------------------------------------------------------------------------------------


def traced_events(folder: str | Path) -> Iterator[tuple[str, str, str, int, int]]:
    """Yield device, thread, name, start and end (picoseconds) of all that TensorFlow's profiler wrote to a folder."""
    from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

    for file in Path(folder).rglob("*.xplane.pb"):
        for device in XSpace.FromString(file.read_bytes()).planes:
            for thread in device.lines:
                for event in thread.events:
                    start = 1000 * thread.timestamp_ns + event.offset_ps
                    name = device.event_metadata[event.metadata_id].name
                    yield device.name, thread.name, name, start, start + event.duration_ps
