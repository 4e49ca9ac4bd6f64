"""tfae: autoencoders in Keras that can be opened, and the course that opens them.

Each topic is one module, imported by name: ``from tfae import data, models, training, plot``. Which chapter teaches it:

=========================  =============================================================================
chapter                    modules
=========================  =============================================================================
00 start here              data, strokes, plot, explorer
01 concepts                autoencoder, models
02 mathematics             autoencoder, models, losses
03 training                autoencoder, models, training
04 variants                models, layers, losses
05 variational             variational, models, layers, losses, explorer
06 latent analysis         latent, disentanglement, explorer
07 visualisation           features, hooks
08 attribution             targets, attribution, relevance, hooks
09 surrogates              surrogates, shapley
10 adversarial             adversarial
11 trust                   evaluation, privacy, loans, audit, report
12 generation              generation, latent
13 applications            anomaly, compression, heartbeats
14 sound and text          audio, vowels, text, alphabet, sentences
15 scaling                 distribute, cluster, loop, replicas, records
16 sparse dictionaries     dictionary, superposition, explorer
=========================  =============================================================================

`checks`, `files`, `internals` and `inference` are the ground that the others stand on. ``import tfae`` makes Keras know
the layers and models, so that ``keras.models.load_model`` finds them.
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

# What a saved model is made of registers itself with Keras when it is imported.
from tfae import dictionary, generation, layers, models, text  # noqa: E402, F401
