"""What Keras and TensorFlow do not promise, gathered in one place: a new version that breaks it breaks it here.

Each use has a test of its own in ``tests/test_internals.py``, so that the failure has a name.
"""

from typing import Any

import keras
import tensorflow as tf

# --- the training loop -----------------------------------------------------------------------------------------------


def strategy_of(model: keras.Model) -> tf.distribute.Strategy:
    """Return the strategy in whose scope a model was made, or the current one."""
    return getattr(model, "_distribute_strategy", None) or tf.distribute.get_strategy()


def start_at_epoch(model: keras.Model, epoch: int | None) -> None:
    """Let a ``fit`` that has just begun go on at this epoch: the hook of ``keras.callbacks.BackupAndRestore``."""
    model._initial_epoch = epoch


def all_layers(model: keras.Model) -> list[Any]:
    """Return the model and every layer inside it, nested and subclassed ones included."""
    return list(model._flatten_layers())


def aggregated(model: keras.Model, loss: Any) -> Any:
    """Return a loss as a number that Keras adds to others: divided among the replicas of a strategy."""
    return model._aggregate_additional_loss(loss)


def within_fit(options: dict[str, Any]) -> bool:
    """Whether an ``evaluate`` with these options is the validation within ``fit``."""
    return bool(options.get("_use_cached_eval_dataset"))
