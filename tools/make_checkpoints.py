"""Train every model that the chapters load, into data/checkpoints, and print what each reaches on held-out data.

python tools/make_checkpoints.py                 # all of them
python tools/make_checkpoints.py sentences       # those whose names begin like this
python tools/make_checkpoints.py --keep-weights  # write the files anew, with the weights that they have

Same seeds, same models, up to the order in which a machine adds numbers. Keep the weights where only the names of
settings have changed: the models are built as they are built today, and take their weights from the files.
"""

import argparse
import hashlib
import json
import time
import zipfile
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


def build(edits):
    """Return a text autoencoder that is damaged in training by up to `edits` typing errors."""
    return text.text_autoencoder(Alphabet(), 32, units=96, noise=0.2, edits=edits, seed=0)


def train(model):
    """Train a text autoencoder on the generated sentences."""
    x_train = Alphabet().one_hot(data.load("sentences").x_train[:-1_000])  # the last 1,000 chose the settings
    epochs, batch_size = 6, 64
    rate = keras.optimizers.schedules.CosineDecay(4e-3, epochs * -(-len(x_train) // batch_size))
    optimizer = keras.optimizers.Adam(rate, clipnorm=1.0)
    # XLA, which Keras would choose, takes twice the time for recurrences on a CPU.
    model.compile(optimizer, "categorical_crossentropy", steps_per_execution=20, jit_compile=False)
    model.fit(x_train, epochs=epochs, batch_size=batch_size, verbose=0, callbacks=[EpochLines()])


def exact_share(model):
    """Return the share of held-out sentences that come back without a wrong character."""
    dataset, alphabet = data.load("sentences"), Alphabet()
    returned = alphabet.decode(model.reconstruct(alphabet.one_hot(dataset.x_test)))
    wanted = sentences.draw(dataset.factors_test)
    return sum(a == b for a, b in zip(returned, wanted, strict=True)) / len(wanted)


MODELS = {"sentences": 0, "sentences_denoising": 2}  # and the typing errors that they are trained with


def save(model, path):
    """Save a model so that every version of Keras from 3.13 on loads it, and return the digest of the file."""
    with written_whole(path) as temporary:
        text.TextAutoencoder(model.encoder, model.decoder).save(temporary)  # without the optimiser: a third of the size
        with zipfile.ZipFile(temporary) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        parts["config.json"] = json.dumps(without_news(json.loads(parts["config.json"]))).encode()
        with zipfile.ZipFile(temporary, "w") as archive:
            for name, content in parts.items():
                archive.writestr(name, content)
        return hashlib.sha256(temporary.read_bytes()).hexdigest()


def without_news(config):
    """Return a configuration without the settings that came after Keras 3.13, where they have their default value."""
    if isinstance(config, dict):
        return {key: without_news(value) for key, value in config.items() if key not in NEWS or value != NEWS[key]}
    return [without_news(part) for part in config] if isinstance(config, list) else config


NEWS = {"input_axes": None, "output_axes": None, "renorm": False, "renorm_clipping": None, "renorm_momentum": 0.99}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="beginnings of names; all, if none is given")
    parser.add_argument("--keep-weights", action="store_true", help="take the weights from the files, do not train")
    arguments = parser.parse_args()
    chosen = {name: edits for name, edits in MODELS.items() if name.startswith(tuple(arguments.names) or "")}
    if not chosen:
        parser.error(f"no checkpoint begins with {' or '.join(arguments.names)}; there are {', '.join(MODELS)}")
    for i, (name, edits) in enumerate(chosen.items(), start=1):
        print(f"{name} ({i} of {len(chosen)})", flush=True)
        path = CHECKPOINTS / f"{name}.keras"
        keras.utils.set_random_seed(0)
        model = build(edits)
        if arguments.keep_weights:
            model.load_weights(path)
        else:
            train(model)
        print(f"  {exact_share(model):.1%} of the held-out sentences come back exactly", flush=True)
        print(f"  SHA-256 {save(model, path)}, {path.stat().st_size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    main()
