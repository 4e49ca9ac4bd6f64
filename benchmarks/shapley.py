"""How close do kernel Shapley values come with how many coalitions, beside shap, captum and xplique?

    python benchmarks/shapley.py [--seeds 5]

49 players, as many as a 28 x 28 image has segments of 4 x 4. The game is known: each player adds something, and so do
100 pairs and 150 triples of players that have all joined. A player's Shapley value is then what it adds alone, half of
what its pairs add and a third of what its triples add. The triples hold about as much of the variance of coalitions as
interactions of three segments do in a trained classifier of digits, half a percent to one.

The error is the distance of the 49 values from the true ones, relative to their norm: the mean over the seeds. Below it
stands what our standard errors say, in the same unit, which is what a reader has who does not know the truth.

Peers are no dependencies: `pip install shap captum torch xplique`. Those that are missing are left out.
"""

import argparse
import importlib
import warnings
from collections.abc import Callable

from tfae import shapley  # first of all: it keeps TensorFlow quiet

import numpy as np

PLAYERS, BUDGETS = 49, (500, 1000, 2000, 4000)
RNG = np.random.default_rng(0)
SINGLE = RNG.normal(size=PLAYERS).astype("float32")
GROUPS = [np.array([RNG.choice(PLAYERS, size, replace=False) for _ in range(n)]) for size, n in ((2, 100), (3, 150))]
WEIGHTS = [RNG.normal(0, 0.5, 100).astype("float32"), RNG.normal(0, 0.25, 150).astype("float32")]
NONE, ALL = np.zeros((1, PLAYERS), "float32"), np.ones((1, PLAYERS), "float32")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    truth = true_values()
    coalitions = np.random.default_rng(1).integers(0, 2, (20_000, PLAYERS)).astype("float32")
    share = (WEIGHTS[1] ** 2).sum() / 64 / game(coalitions).var()  # a product of three coins, less all it has of two
    print(f"{PLAYERS} players; interactions of three hold {share:.1%} of the variance of coalitions' values")
    print(f"{'error with so many coalitions':<32}" + "".join(f"{budget:>8,}" for budget in BUDGETS))
    for package in ("tfae", "shap", "captum", "xplique"):
        try:
            explain = globals()[f"of_{package}"]()
        except ImportError as error:
            print(f"{package} is left out: {error}")
            continue
        print(f"{package:<32}", end="")
        for budget in BUDGETS:
            runs = [explain(budget, seed) for seed in range(arguments.seeds)]
            print(f"{np.mean([distance(run - truth, truth) for run in runs]):>8.4f}", end="", flush=True)
        print()
    told = [shapley.kernel(game, ALL, NONE, n_samples=budget).standard_error[0] for budget in BUDGETS]
    print(f"{'tfae says':<32}" + "".join(f"{distance(error, truth):>8.4f}" for error in told))


def game(x: np.ndarray) -> np.ndarray:
    """Return the value of each coalition, a row of zeros and ones."""
    return x @ SINGLE + sum(x[:, group].prod(axis=2) @ weights for group, weights in zip(GROUPS, WEIGHTS, strict=True))


def true_values() -> np.ndarray:
    values = SINGLE.astype("float64")
    for group, weights in zip(GROUPS, WEIGHTS, strict=True):
        for players, weight in zip(group, weights, strict=True):
            values[players] += weight / len(players)
    return values


def distance(error: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm(error) / np.linalg.norm(truth))


def of_tfae() -> Callable:
    return lambda budget, seed: shapley.kernel(game, ALL, NONE, n_samples=budget, seed=seed).values[0]


def of_shap() -> Callable:
    explainers = importlib.import_module("shap")

    def explain(budget: int, seed: int) -> np.ndarray:
        np.random.seed(seed)  # noqa: NPY002  it draws from there
        return explainers.KernelExplainer(game, NONE).shap_values(ALL, nsamples=budget, l1_reg=0, silent=True)[0]

    return explain


def of_captum() -> Callable:
    explainer = importlib.import_module("captum.attr").KernelShap
    torch = importlib.import_module("torch")

    def explain(budget: int, seed: int) -> np.ndarray:
        torch.manual_seed(seed)
        method = explainer(lambda x: torch.tensor(game(x.numpy())))
        options = {"n_samples": budget, "perturbations_per_eval": budget}
        return method.attribute(torch.tensor(ALL), baselines=torch.tensor(NONE), **options).numpy()[0]

    return explain


def of_xplique() -> Callable:
    explainer = importlib.import_module("xplique.attributions").KernelShap
    tf = importlib.import_module("tensorflow")

    def in_tensorflow(x: object) -> object:
        groups = zip(GROUPS, WEIGHTS, strict=True)
        products = [tf.linalg.matvec(tf.reduce_prod(tf.gather(x, group, axis=1), axis=2), w) for group, w in groups]
        return (tf.linalg.matvec(x, SINGLE) + sum(products))[:, tf.newaxis]

    def explain(budget: int, seed: int) -> np.ndarray:
        tf.random.set_seed(seed)
        method = explainer(in_tensorflow, nb_samples=budget, ref_value=np.zeros(1, "float32"), batch_size=budget)
        return np.asarray(method(ALL, np.ones((1, 1), "float32")))[0]

    return explain


if __name__ == "__main__":
    main()
