"""tfae: autoencoders in Keras that can be opened, and the course that opens them.

Each topic is one module, imported by name: ``from tfae import data, models, training, plot``.
"""

import os
import sys

__version__ = "0.2.0"


def _import_tensorflow_quietly() -> None:
    """Keep TensorFlow's start-up notes out of terminals and notebooks.

    They go straight to file descriptor 2 before any log level is read. Set ``TF_CPP_MIN_LOG_LEVEL=0`` to see
    them, for instance when a GPU is not found.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") == "0" or "tensorflow" in sys.modules:
        return
    stderr = os.dup(2)
    try:
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 2)
        import tensorflow

        tensorflow.config.list_physical_devices()  # looks for a GPU, and says so where there is none
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


_import_tensorflow_quietly()
