"""How well does an autoencoder find what it has never seen? One digit against the rest, and a table.

    TFAE_DATA_DIR=... python benchmarks/anomaly.py [--data mnist] [--results runs/anomaly.json]

For each of the ten classes the detectors see the training images of that class and nothing else; the test images of the
other nine are the anomalies (official split, all 10,000 test images). The number is the area under the ROC curve.

- PCA: squared error of the reconstruction from 32 components.
- 1-NN, 5-NN: mean distance to the nearest training image, and to the five nearest.
- LOF: scikit-learn's local outlier factor, of five neighbours.
- isolation forest: scikit-learn's, of 100 trees.
- VAE: squared error of the reconstruction by a variational autoencoder, 784-200-200-32 and back.
- local PCA: `anomaly.local_pca`, distance to the plane of the 10 main axes of the 50 nearest training images, relative
  to theirs.

All of them get the images slightly blurred (a Gaussian of 0.7 pixels), so that a stroke beside another is near it. What
the VAE is, what its score is, the blur (0 or 0.7), the 50 and the 10 of local PCA, the five of LOF and the 32 of PCA
were chosen on `strokes`, the digits the course draws, not on MNIST: `--data strokes` is that table, `--planes` what
was tried of local PCA. A threshold is set for a false alarm rate of 5 % on 500 (strokes: 100) training images that the
VAE was not trained on, and the last two columns are its false alarms and what it detects. Published means of the ten
digits: DCAE 89.65, Deep SVDD 94.80 [1]. PyOD publishes figures for another task [2], which no row here repeats: 700
sixes hide among 6,903 zeros, of 100 pixels that the ODDS library has drawn, and nothing says which are normal. Of its
ten detectors CBLOF finds them best, 86.86, then MCD 85.79, PCA 85.19 and 5-NN 85.00.

Below it `breast_cancer`: healthy (benign) cells to train on, ten random splits, beside an isolation forest, PCA, and
the length of a sample whose features have mean 0 and variance 1.
Finished digits are kept in the results file, and a run that is interrupted goes on after them. About 15 minutes on two
cores.

[1] L. Ruff et al., "Deep one-class classification", ICML 2018, table 1.
[2] Y. Zhao, Z. Nasrullah and Z. Li, "PyOD: a Python toolbox for scalable outlier detection", JMLR 20(96), 2019; the
    figures stand in its documentation, "Benchmarks".
"""

import argparse
import json
import time
from pathlib import Path

from tfae import anomaly, data, models, targets  # first of all: it keeps TensorFlow quiet
from tfae.files import written_whole

import keras
import numpy as np
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.model_selection import train_test_split
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.preprocessing import StandardScaler

CODE_SIZE, HIDDEN, STEPS, BATCH_SIZE = 32, (200, 200), 2500, 100
FALSE_ALARMS = 0.05
COLUMNS = ("PCA", "1-NN", "5-NN", "LOF", "forest", "local PCA", "VAE", "± s.e.", "false alarms", "detected")
BLUR, PLANE = 0.7, (50, 10)  # pixels; neighbours and axes of local PCA
PLANES = [(blur, k, size) for blur in (0, BLUR) for k in (50, 100, 150) for size in (10, 20, 30, 40)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", choices=("mnist", "fashion_mnist", "strokes"))
    parser.add_argument("--results", default="runs/anomaly.json")
    parser.add_argument("--planes", action="store_true", help="only compare sizes of local PCA, on strokes")
    arguments = parser.parse_args()
    if arguments.planes:
        return planes(data.load("strokes"))
    path, start = Path(arguments.results), time.monotonic()
    done = json.loads(path.read_text()) if path.exists() else {}

    dataset = data.load(arguments.data)
    print(f"{arguments.data:<14}" + "".join(f"{name:>14}" for name in COLUMNS) + f"{'minutes':>9}")
    rows = []
    for digit in range(10):
        key = f"{arguments.data} {digit} {CODE_SIZE} {HIDDEN} {STEPS} {BLUR} {PLANE} {len(COLUMNS)}"
        if key not in done:
            done[key] = one_against_rest(dataset, digit)
            with written_whole(path) as temporary:
                temporary.write_text(json.dumps(done, indent=1))
        row = "".join(f"{100 * value:>14.2f}" for value in done[key])
        print(f"{digit:<14}{row}{(time.monotonic() - start) / 60:>9.1f}", flush=True)
        rows.append(done[key])
    print(f"{'mean':<14}" + "".join(f"{100 * value:>14.2f}" for value in np.mean(rows, axis=0)))

    print(f"\n{'breast_cancer':<20}{'AUROC':>8}{'± s.e.':>8}{'average precision':>20}")
    for name, values in breast_cancer().items():
        area, precision = np.array(values).T * 100
        print(f"{name:<20}{area.mean():>8.2f}{area.std(ddof=1) / np.sqrt(len(area)):>8.2f}{precision.mean():>20.2f}")


def one_against_rest(dataset: data.Dataset, digit: int) -> list[float]:
    """Return a row of the table: what `COLUMNS` names, all between 0 and 1."""
    normal, strange = dataset.x_train[dataset.y_train == digit], dataset.y_test != digit
    x, x_test = (blurred(images).reshape(-1, 784) for images in (normal, dataset.x_test))
    held_out = len(x) // 12 if len(x) > 5000 else len(x) // 10
    x_fit, x_validation = x[held_out:], x[:held_out]
    vae = train(x_fit)
    error = targets.reconstruction_error(vae)
    alarm = anomaly.threshold(anomaly.score(error, x_validation), false_alarm_share=FALSE_ALARMS)
    ours = anomaly.evaluate(anomaly.score(error, x_test), strange, alarm=alarm)
    return [
        *(anomaly.evaluate(score, strange).auroc for score in plain_scores(x, x_test)),
        *(ours.auroc, ours.auroc_standard_error, ours.false_alarm_share, ours.detected_share),
    ]


def blurred(x: np.ndarray, pixels: float = BLUR) -> np.ndarray:
    return gaussian_filter(x, (0, pixels, pixels, 0)) if pixels else x


def planes(dataset: data.Dataset) -> None:
    """Print the mean area of the ten digits for each blur, number of neighbours and number of axes."""
    areas: dict[tuple[float, int, int], list[float]] = {plane: [] for plane in PLANES}
    for digit in range(10):
        x, strange = dataset.x_train[dataset.y_train == digit], dataset.y_test[:1000] != digit
        for (pixels, k, size), found in areas.items():
            local = anomaly.local_pca(blurred(x, pixels), k=k, n_components=size)
            score = anomaly.score(local, blurred(dataset.x_test[:1000], pixels))
            found.append(anomaly.evaluate(score, strange).auroc)
    print(f"{'blur':>10}{'neighbours':>12}{'axes':>6}{'mean AUROC':>12}")
    for (pixels, k, size), found in areas.items():
        print(f"{pixels:>10}{k:>12}{size:>6}{100 * np.mean(found):>12.2f}")


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
    found: dict[str, list[tuple[float, float]]] = {
        "isolation forest": [], "PCA, 10": [], "length": [], "autoencoder, 10": []
    }  # fmt: skip
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
        scores = (
            -forest.score_samples(x_test), pca_error(pca, x_test), np.sum(x_test**2, axis=1),
            anomaly.score(both, x_test),
        )  # fmt: skip
        for name, score in zip(found, scores, strict=True):
            result = anomaly.evaluate(score, y_test == 0)
            found[name].append((result.auroc, result.average_precision))
    return found


def plain_scores(x: np.ndarray, x_test: np.ndarray) -> list[np.ndarray]:
    """Return the scores of `x_test` by what comes before the VAE in `COLUMNS`, which know `x`."""
    nearest = NearestNeighbors(n_neighbors=5).fit(x).kneighbors(x_test)[0]
    return [
        pca_error(PCA(32, random_state=0).fit(x), x_test),
        nearest[:, 0],
        nearest.mean(axis=1),
        -LocalOutlierFactor(5, novelty=True).fit(x).score_samples(x_test),
        -IsolationForest(random_state=0).fit(x).score_samples(x_test),
        anomaly.score(anomaly.local_pca(x, k=PLANE[0], n_components=PLANE[1]), x_test),
    ]


def pca_error(pca: PCA, x: np.ndarray) -> np.ndarray:
    return np.sum((x - pca.inverse_transform(pca.transform(x))) ** 2, axis=1)


if __name__ == "__main__":
    main()
