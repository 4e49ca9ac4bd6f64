"""Does a sparse dictionary find what is there, and how fast, beside scikit-learn, a PyTorch loop and SAELens?

    python benchmarks/dictionary.py [--rounds 3] [--epochs 6] [--k 6]

The data are those of `tfae.superposition`: 30,000 rows in 128 dimensions, made of 512 known features. Every dictionary
is top-k, begins with the same directions, sees the same number of batches of 128 rows, and uses Adam with a step that
falls from 0.01 to 0 as a cosine. Each package runs in a process of its own; they take turns, the others waiting, and
the first round, which compiles, counts for the recovery alone. scikit-learn's `MiniBatchDictionaryLearning` solves a
Lasso for each row and sees each row once. It runs once, in one thread, which is faster there than two.

The table gives the share of the 512 features whose cosine with a learned direction is above 0.9, its lowest value in
any round, the mean largest cosine, thousand rows a second (median of the rounds), and the median over the rounds of our
speed over each. Peers are no dependencies: `pip install torch sae-lens`. Those that are missing are left out.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np

ROWS, FEATURES, SIZE, BATCH, STEP = 30_000, 512, 128, 128, 0.01
NAMES = {
    "tfae": "tfae, top-k",
    "batch": "tfae, batch top-k",
    "torch": "PyTorch, eager, top-k",
    "sae_lens": "SAELens, top-k",
    "sklearn": "scikit-learn",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--k", type=int, default=6)
    parser.add_argument("--work", nargs=2, metavar=("PACKAGE", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        return work(*arguments.work, arguments.epochs, arguments.k)
    from tfae import dictionary, superposition

    seconds: dict[str, list[float]] = {}
    found: dict[str, list] = {}
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/x.npy", superposition.make(ROWS)[0])
        start = np.random.default_rng(0).normal(size=(FEATURES, SIZE))
        np.save(f"{folder}/start.npy", (start / np.linalg.norm(start, axis=1, keepdims=True)).astype("float32"))
        workers = {name: begin(name, folder, arguments) for name in NAMES if installed(name)}
        for turn in range(arguments.rounds + 1):
            for name, worker in workers.items():
                if name == "sklearn" and turn:
                    continue
                taken = ask(worker, name)
                learned = np.load(f"{folder}/{name}.npy")
                found.setdefault(name, []).append(dictionary.recovery(learned, superposition.directions()))
                if turn or name == "sklearn":
                    seconds.setdefault(name, []).append(taken / (1 if name == "sklearn" else arguments.epochs))
                print(f"round {turn}/{arguments.rounds}  {NAMES[name]}: {taken:.1f} s", file=sys.stderr)
        for worker in workers.values():
            worker.stdin.close()
            worker.wait()
    print(f"{arguments.epochs} epochs of {ROWS:,} rows, k = {arguments.k}, medians of {arguments.rounds} rounds")
    print(f"{'':<24}{'found':>8}{'lowest':>8}{'cosine':>8}{'thousand rows/s':>17}{'tfae is ... as fast':>21}")
    for name, times in seconds.items():
        share, cosine = (np.mean([getattr(f, key) for f in found[name]]) for key in ("share", "mean_max_cosine"))
        lowest = min(f.share for f in found[name])
        ratio = statistics.median(t / ours for t, ours in zip(times, seconds["tfae"], strict=False))
        print(f"{NAMES[name]:<24}{share:>8.3f}{lowest:>8.3f}{cosine:>8.3f}"
              f"{ROWS / 1000 / statistics.median(times):>17.1f}{ratio:>20.2f}x")  # fmt: skip


def installed(name: str) -> bool:
    package = {"tfae": "tensorflow", "batch": "tensorflow"}.get(name, name)
    if importlib.util.find_spec(package):
        return True
    print(f"{NAMES[name]} is left out: {package} is not installed")
    return False


def begin(name: str, folder: str, arguments: argparse.Namespace) -> subprocess.Popen:
    command = [sys.executable, __file__, "--epochs", str(arguments.epochs), "--k", str(arguments.k)]
    return subprocess.Popen(
        [*command, "--work", name, folder], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env=os.environ | {"TQDM_DISABLE": "1"},  # no bars on the page
    )  # fmt: skip


def ask(worker: subprocess.Popen, name: str) -> float:
    worker.stdin.write("go\n")
    worker.stdin.flush()
    for line in worker.stdout:
        if line.startswith("{"):
            return json.loads(line)["seconds"]
    raise SystemExit(f"{NAMES[name]} ended with status {worker.wait()}")


def work(name: str, folder: str, epochs: int, k: int) -> None:
    """Answer each line on the standard input with the seconds of one training, whose directions go into a file."""
    x, start = np.load(f"{folder}/x.npy"), np.load(f"{folder}/start.npy")
    train = globals()[name](x, start, epochs, k)
    for turn, _ in enumerate(sys.stdin):
        begun = time.perf_counter()
        learned = train(turn)
        taken = time.perf_counter() - begun
        np.save(f"{folder}/{name}.npy", learned)
        print(json.dumps({"seconds": taken}), flush=True)


# --- ours ------------------------------------------------------------------------------------------------------------


def tfae(x: np.ndarray, start: np.ndarray, epochs: int, k: int, activation: str = "topk") -> Callable:
    from tfae import training
    from tfae.dictionary import SparseDictionary

    import keras

    def build(seed: int) -> SparseDictionary:
        model = SparseDictionary(FEATURES, activation, k=k)
        rate = keras.optimizers.schedules.CosineDecay(STEP, epochs * (len(x) // BATCH))
        model.compile(keras.optimizers.Adam(rate), jit_compile=True, steps_per_execution=50)
        return model

    restart = training.restartable(build, x=x)

    def train(turn: int) -> np.ndarray:
        model = restart(turn)
        model.decoder.kernel.assign(start)
        model.encoder.kernel.assign(start.T)
        model.fit(x, batch_size=BATCH, epochs=epochs, verbose=0)
        return model.directions

    return train


def batch(x: np.ndarray, start: np.ndarray, epochs: int, k: int) -> Callable:
    return tfae(x, start, epochs, k, "batch_topk")


# --- the others ------------------------------------------------------------------------------------------------------


def torch(x: np.ndarray, start: np.ndarray, epochs: int, k: int) -> Callable:
    """Write the same dictionary as a plain loop, with the auxiliary loss of Gao et al. for dead features."""
    import torch as t

    rows = t.tensor(x)
    rows = (rows - rows.mean(0)) / rows.std()

    def keep(a: t.Tensor) -> t.Tensor:
        values, places = a.topk(k, dim=1, sorted=False)
        return t.zeros_like(a).scatter(1, places, values)

    def train(turn: int) -> np.ndarray:
        t.manual_seed(turn)
        w, e = (t.tensor(np.ascontiguousarray(s), requires_grad=True) for s in (start, start.T))
        b, c = (t.zeros(n, requires_grad=True) for n in (FEATURES, SIZE))
        optimizer, silent = t.optim.Adam([w, e, b, c], STEP, fused=True), t.zeros(FEATURES)
        schedule = t.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * (len(rows) // BATCH))
        for _ in range(epochs):
            for order in t.randperm(len(rows)).split(BATCH):
                batch, unit = rows[order], t.nn.functional.normalize(w, dim=1)
                before = t.relu((batch - c) @ e + b)
                z = keep(before)
                residual = batch - c - z @ unit
                loss = residual.square().mean()
                silent = t.where((z > 0).any(0), 0.0, silent + 1)
                if (dead := silent >= 100).any():
                    loss = loss + (residual.detach() - keep(before * dead) @ unit).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        return t.nn.functional.normalize(w, dim=1).detach().numpy()

    return train


def sae_lens(x: np.ndarray, start: np.ndarray, epochs: int, k: int) -> Callable:
    """Train with SAELens's own trainer; its directions begin with a length of 0.1, as is its default."""
    import torch as t
    from sae_lens import SAETrainer, TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.config import SAETrainerConfig

    rows = t.tensor(x)
    rows = (rows - rows.mean(0)) / rows.std()

    def train(turn: int) -> np.ndarray:
        t.manual_seed(turn)
        sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=SIZE, d_sae=FEATURES, k=k))
        with t.no_grad():
            sae.W_dec.copy_(t.tensor(0.1 * start)), sae.W_enc.copy_(t.tensor(0.1 * start.T))
        batches = (rows[order] for _ in range(epochs + 1) for order in t.randperm(len(rows)).split(BATCH)[:-1])
        options = SAETrainerConfig(
            total_training_samples=epochs * (len(rows) // BATCH) * BATCH, train_batch_size_samples=BATCH, lr=STEP,
            lr_scheduler_name="cosineannealing", lr_end=0.0, dead_feature_window=100,
        )  # fmt: skip
        SAETrainer(options, sae, batches).fit()
        return sae.W_dec.detach().numpy()

    return train


def sklearn(x: np.ndarray, start: np.ndarray, epochs: int, k: int) -> Callable:
    from sklearn.decomposition import MiniBatchDictionaryLearning
    from threadpoolctl import threadpool_limits

    import warnings

    def train(turn: int) -> np.ndarray:
        model = MiniBatchDictionaryLearning(
            FEATURES, alpha=4.0, batch_size=BATCH, max_iter=1, fit_algorithm="cd", positive_code=True,
            dict_init=start.astype(x.dtype), random_state=turn,
        )  # fmt: skip
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of rows whose Lasso has not converged
            return model.fit(x - x.mean(axis=0)).components_

    return train


if __name__ == "__main__":
    main()
