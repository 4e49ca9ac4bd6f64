"""Train every model that the chapters load, into data/checkpoints, and print what each reaches on held-out data.

python tools/make_checkpoints.py            # all of them
python tools/make_checkpoints.py sentences  # those whose names begin like this

Same seeds, same models, up to the order in which a machine adds numbers.
"""

import hashlib
import sys
import time
from pathlib import Path

from tfae import data, sentences, text
from tfae.alphabet import Alphabet
from tfae.files import written_whole

import keras

CHECKPOINTS = Path(__file__).resolve().parent.parent / "data" / "checkpoints"


class EpochLines(keras.callbacks.Callback):
    """One line for each epoch, also where the output is a file."""

    def on_train_begin(self, logs=None):
        self.start = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        taken, total = time.monotonic() - self.start, self.params["epochs"]
        left = taken / (epoch + 1) * (total - epoch - 1)
        print(
            f"  epoch {epoch + 1}/{total}  loss {logs['loss']:.4f}  ({taken:.0f} s taken, {left:.0f} s left)",
            flush=True,
        )


def train_sentences(edits):
    """Return a text autoencoder trained on the sentences, damaged in training by up to `edits` typing errors."""
    dataset, alphabet = data.load("sentences"), Alphabet()
    x_train = alphabet.one_hot(dataset.x_train[:-1_000])  # the last 1,000 chose the settings
    keras.utils.set_random_seed(0)
    model = text.text_autoencoder(alphabet, 32, units=96, noise=0.2, edits=edits, seed=0)
    epochs, batch_size = 6, 64
    rate = keras.optimizers.schedules.CosineDecay(4e-3, epochs * -(-len(x_train) // batch_size))
    optimizer = keras.optimizers.Adam(rate, clipnorm=1.0)
    # XLA, which Keras would choose, takes twice the time for recurrences on a CPU.
    model.compile(optimizer, "categorical_crossentropy", steps_per_execution=20, jit_compile=False)
    model.fit(x_train, epochs=epochs, batch_size=batch_size, verbose=0, callbacks=[EpochLines()])
    returned = alphabet.decode(model.reconstruct(alphabet.one_hot(dataset.x_test)))
    wanted = sentences.draw(dataset.factors_test)
    exact = sum(a == b for a, b in zip(returned, wanted, strict=True)) / len(wanted)
    print(f"  {exact:.1%} of {len(wanted)} held-out sentences come back exactly")
    return text.TextAutoencoder(model.encoder, model.decoder)  # without the optimiser: a third of the size


MODELS = {
    "sentences": lambda: train_sentences(edits=0),
    "sentences_denoising": lambda: train_sentences(edits=2),
}


def main() -> None:
    chosen = {name: train for name, train in MODELS.items() if name.startswith(tuple(sys.argv[1:]) or "")}
    if not chosen:
        raise SystemExit(f"no checkpoint begins with {' or '.join(sys.argv[1:])}; there are {', '.join(MODELS)}")
    for i, (name, train) in enumerate(chosen.items(), start=1):
        print(f"{name} ({i} of {len(chosen)})", flush=True)
        start = time.monotonic()
        model = train()
        with written_whole(CHECKPOINTS / f"{name}.keras") as temporary:
            model.save(temporary)
            content = temporary.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        print(f"  {len(content) / 1000:.0f} kB in {time.monotonic() - start:.0f} s, SHA-256 {digest}", flush=True)


if __name__ == "__main__":
    main()
