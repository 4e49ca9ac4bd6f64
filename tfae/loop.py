"""What has to differ from Keras's own training loop so that any number of replicas gives the same answer (chapter 13).

Keras's loop runs as on one device and hands the whole batch over; every replica works on its share of it
(`tfae.replicas`), and logs are those of the whole.
"""

import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tfae.cluster import watched_peers
from tfae.internals import all_layers, strategy_of
from tfae.replicas import Share, current_share, is_shared, numbers_of_replicas, working_on

NO_SEED = 87654321  # what tf.compat.v1.get_seed says while no seed is set


_step = threading.local()  # each replica of a step is traced by a thread of its own


def is_evaluating() -> bool:
    """Whether the running forward pass is that of ``evaluate``, or of the validation within ``fit``.

    A model whose loss needs more than its answer, such as the noise of a variational autoencoder, asks this in ``call``.
    """
    return getattr(_step, "evaluating", False)


@contextmanager
def _evaluating() -> Iterator[None]:
    _step.evaluating = True
    try:
        yield
    finally:
        _step.evaluating = False


class Trainer(keras.Model):
    """A Keras model that trains to the same weights on one device, several replicas and several workers.

    Compiled with ``jit_compile=True`` and ``steps_per_execution`` above 1, ``fit`` on arrays runs that many steps in
    one program: the same samples in the same order as otherwise, without Python in between.

    ``fit`` and ``evaluate`` stay Keras's own. Under a strategy, loss and gradients are those of the mean over the
    global batch, uneven shares included, and logs are those of the whole data, not of one replica.
    """

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self._part_of_loss(x, y, y_pred, sample_weight, training=True)
            loss = loss if self.optimizer is None else self.optimizer.scale_loss(loss)
        weights = self.trainable_weights
        if weights:
            gradients = self._summed_before_clipping(tape.gradient(loss, weights))
            self.optimizer.apply_gradients(zip(gradients, weights, strict=True))
        else:
            warnings.warn("The model does not have any trainable weights.", stacklevel=2)  # Keras's own words
        return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    def test_step(self, data: Any) -> dict[str, Any]:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with _evaluating():
            y_pred = self(x, training=False)
        self._part_of_loss(x, y, y_pred, sample_weight, training=False)
        return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    def _part_of_loss(self, x: Any, y: Any, y_pred: Any, sample_weight: Any, training: bool) -> Any:
        """Log the mean loss of this replica's rows, and return what it adds to the mean over the global batch."""
        loss = self.compute_loss(x, y, y_pred, sample_weight, training)
        share = current_share()
        if share is None:
            self._loss_tracker.update_state(loss, sample_weight=_count(x))
            return loss
        loss = loss * tf.distribute.get_strategy().num_replicas_in_sync  # Keras has divided by it
        self._loss_tracker.update_state(loss, sample_weight=share.last - share.first)
        return loss * ops.cast(share.weight, loss.dtype)

    def _summed_before_clipping(self, gradients: list[Any]) -> list[Any]:
        """Hand the gradient of the global batch to an optimiser that clips, which would see a replica's part of it.

        The optimiser adds up what the replicas hand it, so one of them gives the sum and the others zeros.
        """
        optimizer = self.optimizer
        clips = any(getattr(optimizer, name, None) for name in ("clipnorm", "global_clipnorm", "clipvalue"))
        scales = isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer)
        if current_share() is None or not (clips or scales):
            return gradients
        context = tf.distribute.get_replica_context()
        first = tf.cast(tf.equal(context.replica_id_in_sync_group, 0), tf.float32)
        summed = context.all_reduce("SUM", [g for g in gradients if g is not None])
        parts = iter([g * tf.cast(first, g.dtype) for g in summed])  # what is not finite stays so on all replicas
        return [None if g is None else next(parts) for g in gradients]

    # Many steps in one program.

    _program: tuple[Any, Callable] | None = None  # Keras's train function, and what runs in its place

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        if is_shared(self._strategy()):
            self._check_shared(x, *args, **kwargs)
            with watched_peers():
                return super().fit(x, y, *args, **kwargs)
        if args or not self._fits_one_program(x, y, kwargs):
            with self._prepared(_without_autotuning if hasattr(x, "shape") else None):
                return super().fit(x, y, *args, **kwargs)
        arrays = tuple(_as_tensor(part) for part in (x, y) if part is not None)
        self._symbolic_build(data_batch=tuple(part[:1] for part in arrays))
        if self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)
        self.make_train_function()  # a new one only after `compile`
        usual: Any = self.train_function
        if self._program is None or self._program[0] is not usual:
            self._program = usual, self._many_steps()
        self.train_function: Any = partial(_run, self._program[1], arrays)
        block = self.steps_per_execution, min(kwargs.get("batch_size") or 32, len(arrays[0]))
        try:
            with self._prepared(partial(_in_blocks, block)):
                return super().fit(np.arange(len(arrays[0])), **kwargs)  # Keras shuffles the numbers of the samples
        finally:
            self.train_function = usual

    def _fits_one_program(self, x: Any, y: Any, options: dict[str, Any]) -> bool:
        """Whether steps need nothing between them: no Python, no sample that is not in memory, no other device."""
        wanted = self.compiled and self.jit_compile and self.steps_per_execution > 1
        in_memory = all(isinstance(part, np.ndarray | tf.Tensor) for part in (x, y) if part is not None)
        plain = not any(options.get(name) for name in ("validation_split", "steps_per_epoch"))
        unweighted = all(options.get(name) is None for name in ("sample_weight", "class_weight"))
        paired = y is None or (in_memory and len(x) == len(y))  # XLA would not miss the samples that one has not
        return wanted and x is not None and in_memory and paired and plain and unweighted

    def _many_steps(self) -> Callable:
        """Compile a loop over batches, each gathered, differentiated and applied without leaving the program."""

        def step(arrays: tuple, rows: Any) -> Any:
            return self.train_step(tuple(tf.gather(part, rows) for part in arrays))

        @tf.function(jit_compile=_suits_xla(all_layers(self)))
        def full_batches(arrays: tuple, order: Any, count: Any) -> Any:
            for i in tf.range(count):
                step(arrays, order[i])
            return self.get_metrics_result()

        last_batch = tf.function(step)  # of another size: compiling it a second time would take longer than it runs

        def program(arrays: tuple, batches: np.ndarray) -> Any:
            last = batches[-1][batches[-1] >= 0]
            count = len(batches) - (len(last) < batches.shape[1])
            order = np.zeros((self.steps_per_execution, batches.shape[1]), "int32")
            order[:count] = batches[:count]
            logs = _call(full_batches, arrays, tf.constant(order), tf.constant(count))
            return logs if count == len(batches) else _call(last_batch, arrays, tf.constant(last, "int32"))

        return program

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        with watched_peers():
            return super().evaluate(*args, **kwargs)

    # What cannot be shared.

    def _check_shared(self, x: Any, batch_size: int | None = None, *_: Any, **options: Any) -> None:
        """Refuse what would make the weights depend on the number of replicas."""
        strategy = self._strategy()
        replicas, in_memory = strategy.num_replicas_in_sync, hasattr(x, "shape")
        if in_memory and (batch_size or 32) < replicas:
            raise ValueError(
                f"batch_size is {batch_size or 32} and {replicas} replicas share each batch; it is the size of the "
                f"global batch, and must be at least their number"
            )
        if getattr(self.optimizer, "_distribution_strategy", strategy) is not strategy:
            raise ValueError(
                "the optimizer was made outside the strategy's scope; make it, or name it as in compile('adam'), "
                "inside `with strategy.scope():`"
            )
        for layer in all_layers(self):
            if isinstance(layer, keras.layers.BatchNormalization) and not layer.synchronized:
                raise ValueError(
                    f"the layer {layer.name!r} would normalise by the rows of one replica; make it "
                    f"BatchNormalization(synchronized=True)"
                )
        for loss in keras.tree.flatten(getattr(self, "loss", None)):
            reduction = getattr(loss, "reduction", "mean")
            if reduction not in ("mean", "sum_over_batch_size"):
                raise ValueError(
                    f"the loss {loss.name!r} has the reduction {reduction!r}, which {replicas} replicas cannot share; "
                    f"take 'sum_over_batch_size'"
                )
        seed, _ = tf.compat.v1.get_seed(0)
        if seed == NO_SEED:
            seed = int(np.random.SeedSequence().generate_state(1)[0])
        if in_memory and options.get("shuffle", True) and len(set(numbers_of_replicas(seed, strategy))) > 1:
            raise ValueError(
                "the workers would shuffle the samples differently: call keras.utils.set_random_seed with the same "
                "seed on all of them, before the model is built"
            )

    # What Keras's loop asks for.

    def _strategy(self) -> Any:
        return strategy_of(self)

    _prepare: Callable | None = None  # what is done to the batches that Keras makes of arrays

    @contextmanager
    def _prepared(self, prepare: Callable | None) -> Iterator[None]:
        self._prepare = prepare
        try:
            yield
        finally:
            self._prepare = None

    @property
    def distribute_strategy(self) -> Any:
        return _AsOneDevice(self._strategy(), self._prepare)

    def _make_function(self, step_function: Callable) -> Callable:
        strategy = self._strategy()
        if is_shared(strategy):
            step_function = self._on_all_replicas(step_function, strategy)
        return super()._make_function(step_function)

    @contextmanager
    def _own_random_streams(self) -> Iterator[None]:
        """Let each replica's Dropout drop other units: Keras's random layers would draw the same on all of them."""
        others = [layer for layer in all_layers(self) if not getattr(layer, "draws_rows", False)]
        states = [generator.state for layer in others for generator in layer._seed_generators]
        i = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, "int64")
        for state in states:
            state.assign(state + tf.stack([1_000_003 * i, 0]))
        yield
        for state in states:
            state.assign(state - tf.stack([1_000_003 * i, 0]))

    def _on_all_replicas(self, step: Callable, strategy: Any) -> Callable:
        """Return `step` for a global batch: each replica runs it on a share, and the logs are those of all."""
        replicas = strategy.num_replicas_in_sync

        def step_on_share(batch: Any) -> Any:
            share = Share.of(_count(batch), tf.distribute.get_replica_context().replica_id_in_sync_group, replicas)
            with tf.device("CPU:0"):  # the global batch stays there
                rows = keras.tree.map_structure(lambda part: part[share.first : share.last], batch)
            state = [variable for metric in self.metrics for variable in metric.variables]
            before = [tf.identity(variable) for variable in state]
            with working_on(share), self._own_random_streams():
                logs = step(rows)
            for variable, value in zip(state, before, strict=True):
                variable.assign(tf.where(share.counts, variable, value))
            return logs

        def step_on_batch(batch: Any) -> Any:
            logs = strategy.run(step_on_share, args=(batch,))
            exact = self.get_metrics_result()  # read outside the replicas, where they are summed
            return {name: exact.get(name, strategy.reduce("MEAN", logs[name], axis=None)) for name in logs}

        return step_on_batch


class _AsOneDevice:
    """A strategy as Keras's loop is to see it: a scope, and otherwise one device that takes whole batches."""

    def __init__(self, strategy: Any, prepare: Callable | None) -> None:
        self.scope, self._prepare = strategy.scope, prepare

    def experimental_distribute_dataset(self, dataset: Any) -> Any:
        return self._prepare(dataset) if self._prepare else dataset

    def run(self, function: Callable, args: tuple) -> Any:
        return function(*args)


def _without_autotuning(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Arrays need no search for the best prefetching, which takes a core and holds up the end of each epoch."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def _suits_xla(layers: Iterable[keras.Layer]) -> bool:
    """Whether XLA makes them faster: on a CPU, its gradients of convolutions take ten times as long as TensorFlow's."""
    convolutions = [getattr(keras.layers, f"Conv{n}D{kind}") for n in (1, 2, 3) for kind in ("", "Transpose")]
    others = [getattr(keras.layers, f"{kind}Conv{n}D") for n in (1, 2) for kind in ("Depthwise", "Separable")]
    slow = (*convolutions, *others, keras.layers.RNN)
    return bool(tf.config.list_physical_devices("GPU")) or not any(isinstance(layer, slow) for layer in layers)


class _Blocks:
    """Batches of sample numbers, many at a time: -1 stands where the last one has none.

    Keras asks for an iterator twice an epoch and uses one of them: a generator costs nothing until it is used.
    """

    def __init__(self, dataset: tf.data.Dataset, batches: int, size: int) -> None:
        blocks = dataset.padded_batch(batches, padded_shapes=(size,), padding_values=tf.constant(-1, tf.int64))
        self.dataset = _without_autotuning(blocks)

    def __iter__(self) -> Iterator[np.ndarray]:
        yield from self.dataset.as_numpy_iterator()


def _in_blocks(block: tuple[int, int], dataset: tf.data.Dataset) -> Any:
    """Take batches of sample numbers many at a time, and validation data as they are."""
    spec = dataset.element_spec
    numbers = isinstance(spec, tf.TensorSpec) and spec.dtype == tf.int64 and spec.shape.rank == 1
    return _Blocks(dataset, *block) if numbers else _without_autotuning(dataset)


def _call(function: Any, *arguments: Any) -> Any:
    """Call a ``tf.function`` without its notes on retracing, which many models in one process would set off."""
    return function.get_concrete_function(*arguments)(*arguments)


def _run(program: Callable, arrays: tuple, blocks: Iterator[np.ndarray]) -> Any:
    """Do what Keras's train function does: take the next `steps_per_execution` batches and train on them."""
    return program(arrays, next(blocks))


def _count(batch: Any) -> Any:
    return tf.shape(next(part for part in keras.tree.flatten(batch) if part is not None))[0]


def _as_tensor(part: Any) -> Any:
    part = tf.convert_to_tensor(part)
    return tf.cast(part, keras.config.floatx()) if part.dtype.is_floating else part
