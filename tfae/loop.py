"""What has to differ from Keras's own training loop so that any number of replicas gives the same answer (chapter 15).

Keras's loop runs as on one device and hands the whole batch over; every replica works on its share of it
(`tfae.replicas`), and logs are those of the whole.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tfae import internals
from tfae.cluster import watched_peers
from tfae.internals import Batches, Epoch, Stream, all_layers, strategy_of
from tfae.replicas import Share, current_share, is_shared, numbers_of_replicas, working_on

_step = threading.local()  # each replica of a step is traced by a thread of its own


def is_evaluating() -> bool:
    """Whether the running forward pass is that of ``evaluate``, or of the validation within ``fit``.

    A model asks this in ``call`` where its loss needs more than its answer, such as a code drawn with noise.
    """
    return getattr(_step, "evaluating", False)


@contextmanager
def _evaluating() -> Iterator[None]:
    _step.evaluating = True
    try:
        yield
    finally:
        _step.evaluating = False


class Trainer(internals.OpenLoop):
    """A Keras model that trains to the same weights on one device, several replicas and several workers.

    ``fit`` and ``evaluate`` stay Keras's own. Under a strategy, loss and gradients are those of the mean over the
    global batch, uneven shares included, and logs are those of the whole data, not of one replica.

    Compiled with ``steps_per_execution`` above 1, ``fit`` on arrays or a ``tf.data.Dataset`` runs that many steps in
    one program: the same samples in the same order and with the same noise as otherwise, without Python in between.
    With ``jit_compile=True`` XLA compiles it, except for convolutions and recurrent layers on a CPU, which XLA slows
    down.

    Raises
    ------
    ValueError
        If it is made of inputs and outputs, as a functional model is: a subclass has a ``call``.
    """

    def __init__(self, *inputs: Any, **kwargs: Any) -> None:
        if inputs or "outputs" in kwargs:  # Keras would make this class, and all that inherit from it, functional ones
            raise ValueError(
                f"a {type(self).__name__} is not made of inputs and outputs; write its call(self, x, training=None), "
                f"which may well use keras.Model(inputs, outputs)"
            )
        super().__init__(**kwargs)

    def train_step(self, data: Any) -> dict[str, Any]:
        share = current_share()
        if share is None:
            return super().train_step(data)
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = internals.training_loss(self, x, y, y_pred, sample_weight)
            loss *= tf.distribute.get_strategy().num_replicas_in_sync  # Keras has divided by it
            internals.log_loss(self, loss, share.last - share.first)
            loss *= ops.cast(share.weight, loss.dtype)  # what these rows add to the mean over the global batch
            loss = loss if self.optimizer is None else self.optimizer.scale_loss(loss)
        weights = self.trainable_weights
        if weights:
            gradients = self._summed_before_clipping(tape.gradient(loss, weights))
            self.optimizer.apply_gradients(zip(gradients, weights, strict=True))
        return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    def test_step(self, data: Any) -> dict[str, Any]:
        with _evaluating():
            return super().test_step(data)

    def _summed_before_clipping(self, gradients: list[Any]) -> list[Any]:
        """Hand the gradient of the global batch to an optimiser that clips, which would see a replica's part of it.

        The optimiser adds up what the replicas hand it, so one of them gives the sum and the others zeros.
        """
        optimizer = self.optimizer
        clips = any(getattr(optimizer, name, None) for name in ("clipnorm", "global_clipnorm", "clipvalue"))
        scales = isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer)
        if not (clips or scales):
            return gradients
        context = tf.distribute.get_replica_context()
        first = tf.cast(tf.equal(context.replica_id_in_sync_group, 0), tf.float32)
        summed = context.all_reduce("SUM", [g for g in gradients if g is not None])
        parts = iter([g * tf.cast(first, g.dtype) for g in summed])  # what is not finite stays so on all replicas
        return [None if g is None else next(parts) for g in gradients]

    # Keras's loop.

    @property
    def jit_compile(self) -> bool:
        return super().jit_compile and _suits_xla(all_layers(self))

    @jit_compile.setter
    def jit_compile(self, wanted: bool) -> None:
        keras.Model.jit_compile.fset(self, wanted)

    @property
    def runs_xla_on_cpu(self) -> bool:
        """Whether XLA compiles the steps, and there is no GPU for them."""
        return self.jit_compile and not _has_gpu()

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        if is_shared(strategy_of(self)):
            self._check_shared(x, *args, **kwargs)
            with watched_peers():
                return super().fit(x, y, *args, **kwargs)
        self._in_memory = hasattr(x, "shape") and not isinstance(kwargs.get("validation_data"), tf.data.Dataset)
        try:
            if not args and self._fits_one_program(x, y, kwargs):
                x, y = self._batches(x, y, **kwargs), None
                kwargs.pop("sample_weight", None)
            elif isinstance(x, tf.data.Dataset) and self._streams_in_blocks(x):
                internals.build(self, x.element_spec)
                self._in_blocks = True
            return super().fit(x, y, *args, **kwargs)
        finally:
            self._in_memory = self._in_blocks = False

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        with watched_peers():
            return super().evaluate(*args, **kwargs)

    _in_memory = False  # whether all that `fit` goes through are arrays
    _in_blocks = False  # whether what `fit` prepares next is a dataset to train on, many steps at a time

    def prepared(self, dataset: Any) -> Any:
        """Spare arrays the search for the best prefetching, which takes a core and holds up the end of each epoch."""
        if self._in_blocks:
            self._in_blocks = False
            return Stream(dataset, self.steps_per_execution)
        if not self._in_memory or not isinstance(dataset, tf.data.Dataset):
            return dataset
        options = tf.data.Options()
        options.autotune.enabled = False
        return dataset.with_options(options)

    # Many steps in one program.

    def _fits_one_program(self, x: Any, y: Any, options: dict[str, Any]) -> bool:
        """Whether many steps are wanted, and need nothing between them: no Python, no sample that is not in memory."""
        many = self.compiled and self.steps_per_execution > 1 and not self.run_eagerly
        weights = options.get("sample_weight")
        parts = [part for part in keras.tree.flatten((x, y, weights)) if part is not None]
        in_memory = all(isinstance(part, np.ndarray | tf.Tensor) and part.ndim > 0 for part in parts)
        paired = in_memory and len({len(part) for part in parts}) == 1  # a gather would not miss what one has not
        known = x is not None and (y is not None or weights is None)  # Keras has words about weights without targets
        plain = not any(options.get(name) for name in ("validation_split", "steps_per_epoch", "class_weight"))
        return many and paired and known and plain and options.get("shuffle", True) in (True, False)

    def _streams_in_blocks(self, x: tf.data.Dataset) -> bool:
        """Whether many steps are wanted, and all that comes are plain tensors of samples."""
        specs = keras.tree.flatten(x.element_spec)
        plain = all(isinstance(spec, tf.TensorSpec) and spec.shape.rank for spec in specs)
        return self.compiled and self.steps_per_execution > 1 and not self.run_eagerly and plain

    def _batches(
        self, x: Any, y: Any, sample_weight: Any = None, batch_size: int | None = None, shuffle: bool = True, **_: Any
    ) -> Batches:
        data = keras.utils.pack_x_y_sample_weight(x, y, sample_weight)
        data = keras.tree.map_structure(lambda part: None if part is None else _as_tensor(part), data)
        internals.build(self, _rows(data, [0]))
        return Batches(data, batch_size or 32, self.steps_per_execution, shuffle)

    def make_train_function(self, force: bool = False) -> Any:
        kept = None if force else self.train_function
        super().make_train_function(force)
        if kept is None:
            usual, many = self.train_function, _many_steps(self)
            self.train_function: Any = lambda batches: (many if isinstance(batches, Epoch) else usual)(batches)
        return self.train_function

    # Steps on replicas.

    def whole_step(self, step: Callable) -> Callable:
        if self.jit_compile and not _suits_xla(all_layers(self)):
            self.jit_compile = False  # Keras has compiled nothing yet
        strategy = strategy_of(self)
        return self._on_all_replicas(step, strategy) if is_shared(strategy) else step

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

    @contextmanager
    def _own_random_streams(self) -> Iterator[None]:
        """Let each replica's Dropout drop other units: Keras's random layers would draw the same on all of them."""
        others = [layer for layer in all_layers(self) if not getattr(layer, "draws_rows", False)]
        states = internals.states_of_random_layers(others)
        i = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, "int64")
        for state in states:
            state.assign(state + tf.stack([1_000_003 * i, 0]))
        yield
        for state in states:
            state.assign(state - tf.stack([1_000_003 * i, 0]))

    # What cannot be shared.

    def _check_shared(self, x: Any, batch_size: int | None = None, *_: Any, **options: Any) -> None:
        """Refuse what would make the weights depend on the number of replicas."""
        strategy = strategy_of(self)
        replicas, in_memory = strategy.num_replicas_in_sync, hasattr(x, "shape")
        if in_memory and (batch_size or 32) < replicas:
            raise ValueError(
                f"batch_size is {batch_size or 32} and {replicas} replicas share each batch; it is the size of the "
                f"global batch, and must be at least their number"
            )
        if internals.strategy_of_optimizer(self.optimizer) not in (strategy, None):
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
        seed = internals.global_seed()
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1)[0])
        if in_memory and options.get("shuffle", True) and len(set(numbers_of_replicas(seed, strategy))) > 1:
            raise ValueError(
                "the workers would shuffle the samples differently: call keras.utils.set_random_seed with the same "
                "seed on all of them, before the model is built"
            )


# --- many steps in one program ---------------------------------------------------------------------------------------


def _many_steps(model: Trainer) -> Callable[[Epoch], Any]:
    """Return what trains on the next batches of an epoch: gathered, differentiated and applied in one program."""
    traced = partial(tf.function, autograph=False)  # as Keras's own steps

    @traced
    def step(data: Any, rows: Any) -> Any:
        return model.train_step(_rows(data, rows))

    @traced(jit_compile=model.jit_compile)
    def full_batches(data: Any, order: Any, count: Any) -> Any:
        like = step.get_concrete_function(data, order[0]).structured_outputs
        logs = keras.tree.map_structure(lambda log: tf.zeros(log.shape, log.dtype), like)
        start = tf.constant(0), logs
        return tf.while_loop(lambda i, _: i < count, lambda i, _: (i + 1, step(data, order[i])), start)[1]

    compiled_step = traced(step, jit_compile=True)

    @traced
    def last_batch(data: Any, rows: Any) -> Any:  # of another size, for which compiling takes longer than running
        noisy = _draws(step.get_concrete_function(data, rows))  # XLA draws other numbers
        return (compiled_step if model.jit_compile and noisy else step)(data, rows)

    whole_batch = traced(model.train_step, jit_compile=model.jit_compile, reduce_retracing=True)

    def program(epoch: Epoch) -> Any:
        for data, full, last in next(epoch):
            if len(full):
                order = np.resize(full, (model.steps_per_execution, full.shape[1]))  # of one shape, so compiled once
                logs = _call(full_batches, data, order, np.int32(len(full)))
            if last is None:
                logs = whole_batch(data)
            elif len(last):
                logs = _call(last_batch, data, last)
        return logs

    return program


def _draws(function: Any) -> bool:
    """Whether a traced function draws random numbers."""
    kinds = {operation.type for operation in function.graph.get_operations()}
    kinds |= internals.operations_in_functions(function.graph)
    return any("Random" in kind or "Multinomial" in kind for kind in kinds)


def _rows(data: Any, rows: Any) -> Any:
    return keras.tree.map_structure(lambda part: None if part is None else tf.gather(part, rows), data)


def _suits_xla(layers: Iterable[keras.Layer]) -> bool:
    """Whether XLA makes them faster: on a CPU, its gradients of convolutions take ten times as long as TensorFlow's."""
    convolutions = [getattr(keras.layers, f"Conv{n}D{kind}") for n in (1, 2, 3) for kind in ("", "Transpose")]
    others = [getattr(keras.layers, f"{kind}Conv{n}D") for n in (1, 2) for kind in ("Depthwise", "Separable")]
    slow = (*convolutions, *others, keras.layers.RNN)
    return _has_gpu() or not any(isinstance(layer, slow) for layer in layers)


def _has_gpu() -> bool:
    return bool(tf.config.list_physical_devices("GPU"))


def _call(function: Any, data: Any, *numbers: Any) -> Any:
    """Call a ``tf.function`` that was traced once for all sizes of batches, without its notes on retracing."""
    any_size = [tf.TensorSpec([None] * number.ndim, number.dtype) for number in numbers]
    return function.get_concrete_function(data, *any_size)(data, *(tf.constant(number) for number in numbers))


def _as_tensor(part: Any) -> Any:
    part = tf.convert_to_tensor(part)
    return tf.cast(part, keras.config.floatx()) if part.dtype.is_floating else part


def _count(batch: Any) -> Any:
    return tf.shape(next(part for part in keras.tree.flatten(batch) if part is not None))[0]
