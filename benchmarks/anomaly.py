"""How well does an autoencoder find what it has never seen? One digit against the rest, and a table.

    TFAE_DATA_DIR=... python benchmarks/anomaly.py [--data mnist] [--results runs/anomaly.json]

For each of the ten classes the detectors see the training images of that class and nothing else; the test images of the
other nine are the anomalies (official split, all 10,000 test images). The number is the area under the ROC curve.

- PCA: squared error of the reconstruction from 32 components.
- 5-NN: mean distance to the five nearest training images.
- VAE: squared error of the reconstruction by a variational autoencoder, 784-200-200-32 and back.

What the VAE is and what its score is was chosen on `strokes`, the course's drawn digits, and not
on MNIST: `--data strokes` shows that table. A threshold is set for a false alarm rate of 5 % on 500 (strokes: 100)
training images that the VAE was not trained on; the last two columns are its false alarms and what it detects.

Below it `breast_cancer`: healthy (benign) cells to train on, ten random splits, beside an isolation forest and PCA.
Finished digits are kept in the results file, and a run that is interrupted goes on after them. About ten minutes on two
cores.
"""

import argparse
import json
import time
from pathlib import Path

from tfae import anomaly, data, models, targets  # first of all: it keeps TensorFlow quiet
from tfae.files import written_whole

import keras
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.model_selection import train_test_split
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

CODE_SIZE, HIDDEN, STEPS, BATCH_SIZE = 32, (200, 200), 2500, 100
FALSE_ALARMS = 0.05
COLUMNS = ("PCA", "5-NN", "VAE", "± s.e.", "false alarms", "detected")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", choices=("mnist", "fashion_mnist", "strokes"))
    parser.add_argument("--results", default="runs/anomaly.json")
    arguments = parser.parse_args()
    path, start = Path(arguments.results), time.monotonic()
    done = json.loads(path.read_text()) if path.exists() else {}

    dataset = data.load(arguments.data)
    print(f"{arguments.data:<14}" + "".join(f"{name:>14}" for name in COLUMNS) + f"{'minutes':>9}")
    for digit in range(10):
        key = f"{arguments.data} {digit} {CODE_SIZE} {HIDDEN} {STEPS}"
        if key not in done:
            done[key] = one_against_rest(dataset, digit)
            with written_whole(path) as temporary:
                temporary.write_text(json.dumps(done, indent=1))
        row = "".join(f"{100 * value:>14.2f}" for value in done[key])
        print(f"{digit:<14}{row}{(time.monotonic() - start) / 60:>9.1f}", flush=True)
    rows = [done[f"{arguments.data} {digit} {CODE_SIZE} {HIDDEN} {STEPS}"] for digit in range(10)]
    print(f"{'mean':<14}" + "".join(f"{100 * value:>14.2f}" for value in np.mean(rows, axis=0)))

    print(f"\n{'breast_cancer':<20}{'AUROC':>8}{'± s.e.':>8}{'average precision':>20}")
    for name, values in breast_cancer().items():
        area, precision = np.array(values).T * 100
        print(f"{name:<20}{area.mean():>8.2f}{area.std(ddof=1) / np.sqrt(len(area)):>8.2f}{precision.mean():>20.2f}")


def one_against_rest(dataset: data.Dataset, digit: int) -> list[float]:
    """Return a row of the table: what `COLUMNS` names, all between 0 and 1."""
    x = dataset.x_train[dataset.y_train == digit].reshape(-1, 784)
    x_test, strange = dataset.x_test.reshape(-1, 784), dataset.y_test != digit
    pca = PCA(32, random_state=0).fit(x)
    nearest = NearestNeighbors(n_neighbors=5).fit(x).kneighbors(x_test)[0]

    held_out = len(x) // 12 if len(x) > 5000 else len(x) // 10
    x_fit, x_validation = x[held_out:], x[:held_out]
    vae = train(x_fit)
    error = targets.reconstruction_error(vae)
    alarm = anomaly.threshold(anomaly.score(error, x_validation), false_alarm_share=FALSE_ALARMS)
    ours = anomaly.evaluate(anomaly.score(error, x_test), strange, alarm=alarm)
    return [
        anomaly.evaluate(pca_error(pca, x_test), strange).auroc,
        anomaly.evaluate(nearest.mean(axis=1), strange).auroc,
        *(ours.auroc, ours.auroc_standard_error, ours.false_alarm_share, ours.detected_share),
    ]


def train(x: np.ndarray) -> models.VariationalAutoencoder:
    keras.utils.set_random_seed(0)
    vae = models.VariationalAutoencoder(
        models.dense_encoder(784, 2 * CODE_SIZE, HIDDEN, seed=0), models.dense_decoder(784, CODE_SIZE, HIDDEN, seed=1),
        seed=0,
    )  # fmt: skip
    rate = keras.optimizers.schedules.CosineDecay(1e-3, STEPS, alpha=0.02)
    vae.compile(keras.optimizers.Adam(rate), steps_per_execution=50)
    vae.fit(x, epochs=STEPS * BATCH_SIZE // len(x), batch_size=BATCH_SIZE, verbose=0)
    return vae


def breast_cancer(splits: int = 10) -> dict[str, list[tuple[float, float]]]:
    """Return the area under the ROC curve and the average precision of each detector on each split."""
    table = load_breast_cancer()
    found: dict[str, list[tuple[float, float]]] = {"isolation forest": [], "PCA, 10": [], "autoencoder, 10": []}
    for seed in range(splits):
        x_train, x_test, y_train, y_test = train_test_split(
            table.data, table.target, test_size=0.3, stratify=table.target, random_state=seed
        )
        healthy = x_train[y_train == 1]  # in this table 1 is benign
        scaler = StandardScaler().fit(healthy)
        x, x_test = scaler.transform(healthy).astype("float32"), scaler.transform(x_test).astype("float32")
        forest = IsolationForest(random_state=seed).fit(x)
        pca = PCA(10, random_state=seed).fit(x)
        keras.utils.set_random_seed(seed)
        autoencoder = models.dense_autoencoder(30, 10, (20,), activation="tanh", output_activation="linear", seed=seed)
        autoencoder.compile(keras.optimizers.Adam(0.003), "mse", steps_per_execution=10)
        autoencoder.fit(x, epochs=150, batch_size=25, verbose=0)
        both = anomaly.negative_log_likelihood(autoencoder, x)
        scores = (-forest.score_samples(x_test), pca_error(pca, x_test), anomaly.score(both, x_test))
        for name, score in zip(found, scores, strict=True):
            result = anomaly.evaluate(score, y_test == 0)
            found[name].append((result.auroc, result.average_precision))
    return found


def pca_error(pca: PCA, x: np.ndarray) -> np.ndarray:
    return np.sum((x - pca.inverse_transform(pca.transform(x))) ** 2, axis=1)


if __name__ == "__main__":
    main()
