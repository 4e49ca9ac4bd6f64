"""How fast are attributions, beside xplique, captum, zennit and shap on the same network?

    python benchmarks/attribution.py [--images 64] [--rounds 11]

One small convolutional classifier with the same weights in Keras and in PyTorch, the same 64 images, one output.
Methods take turns in every round, and each runs twice: the second time counts, when its package's threads and what it
needs from memory no longer wait behind another's. The table gives the median seconds of each package over the rounds,
and ours over the fastest peer's (below 1: ours is faster). Where a peer computes the same thing, its answer is compared
with ours: the column `difference` is the largest one, relative to the largest value. Integrated gradients take 50 steps
in all packages; the gap is how far the values of a sample fail to add up, relative to what they should, the median over
the images. Grad-CAM looks at the second convolution. LRP follows one rule in all layers.

Peers are no dependencies: `pip install xplique captum zennit shap torch`. Those that are missing are left out.
"""

import argparse
import functools
import importlib
import logging
import time
import warnings
from collections.abc import Callable
from typing import Any

from tfae import attribution, data, targets  # first of all: it keeps TensorFlow quiet

import keras
import numpy as np
from keras import layers

PEERS = ("xplique", "captum", "zennit", "shap")
OUTPUT = 3
SIZE, STRIDE = 4, 2  # of the occluding window


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=11)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("tensorflow").setLevel("ERROR")

    model, x = classifier(), data.load("strokes").x_test[: arguments.images]
    work = ours(model, x)
    for package in PEERS:
        try:
            work[package] = globals()[package](model, x)
        except ImportError as error:
            print(f"{package} is left out: {error}")

    answers: dict[tuple[str, str], np.ndarray] = {}
    seconds: dict[tuple[str, str], list[float]] = {}
    for turn in range(arguments.rounds + 1):  # the first is to warm up
        for package, methods in work.items():
            for method, run in methods.items():
                run()
                start = time.perf_counter()
                answers[package, method] = np.asarray(run())
                if turn:
                    seconds.setdefault((package, method), []).append(time.perf_counter() - start)
    columns = ("tfae", *PEERS)
    print(f"{'method':<22}" + "".join(f"{package:>10}" for package in columns) + f"{'ratio':>8}{'difference':>12}")
    for method in work["tfae"]:
        medians = {p: np.median(seconds[p, method]) for p in work if (p, method) in seconds}
        peers = [median for package, median in medians.items() if package != "tfae"]
        cells = "".join(f"{medians[p]:>10.3f}" if p in medians else f"{'-':>10}" for p in columns)
        ratio = f"{medians['tfae'] / min(peers):>8.2f}" if peers else f"{'-':>8}"
        same = [answers[p, method] for p in COMPARED if (p, method) in answers and method in COMPARED[p]]
        gaps = [np.abs(part - answers["tfae", method]).max() / np.abs(answers["tfae", method]).max() for part in same]
        print(f"{method:<22}{cells}{ratio}" + (f"{max(gaps):>12.1e}" if gaps else f"{'-':>12}"))
    print("gap of integrated gradients, 50 steps: " + ", ".join(
        f"{package} {gap(model, x, answers[package, 'integrated gradients']):.2%}"
        for package in ("tfae", "xplique", "captum") if (package, "integrated gradients") in answers
    ))  # fmt: skip


# xplique sums over channels, takes absolute values, and weighs windows otherwise: its answers are not the same thing.
COMPARED = {
    "captum": ("gradient", "integrated gradients", "occlusion", "Grad-CAM"),
    "zennit": ("LRP-epsilon", "LRP-z+"),
}


def classifier() -> keras.Model:
    keras.utils.set_random_seed(0)
    dataset = data.load("strokes")
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, activation="relu", name="second"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(dataset.x_train, dataset.y_train, epochs=1, batch_size=128, verbose=0)
    return model


def gap(model: keras.Model, x: np.ndarray, values: np.ndarray) -> float:
    wanted = (np.asarray(model(x)) - np.asarray(model(np.zeros_like(x))))[:, OUTPUT]
    return float(np.median(np.abs(values.reshape(len(x), -1).sum(axis=1) - wanted) / np.abs(wanted)))


def ours(model: keras.Model, x: np.ndarray) -> dict[str, dict[str, Callable]]:
    target = targets.output(model, OUTPUT)
    return {
        "tfae": {
            "gradient": lambda: attribution.gradient(target, x).values,
            "SmoothGrad, 50": lambda: attribution.smooth_grad(target, x, n_samples=50).values,
            "integrated gradients": lambda: attribution.integrated_gradients(target, x, steps=50).values,
            "occlusion": lambda: attribution.occlusion(target, x, window=SIZE, stride=STRIDE).values,
            "Grad-CAM": lambda: attribution.grad_cam(target, x, layer="second").values,
            "LRP-epsilon": lambda: attribution.lrp(target, x).values,
            "LRP-z+": lambda: attribution.lrp(target, x, rule="z+").values,
        }
    }


def xplique(model: keras.Model, x: np.ndarray) -> dict[str, Callable]:
    explainers = importlib.import_module("xplique.attributions")
    chosen = np.tile(np.eye(10, dtype="float32")[OUTPUT], (len(x), 1))
    functional = keras.Model(model.inputs, model.outputs)
    made = {
        "gradient": explainers.Saliency(functional),
        "SmoothGrad, 50": explainers.SmoothGrad(functional, nb_samples=50, noise=0.15),
        "integrated gradients": explainers.IntegratedGradients(functional, steps=50),
        "occlusion": explainers.Occlusion(functional, patch_size=SIZE, patch_stride=STRIDE),
        "Grad-CAM": explainers.GradCAM(functional, conv_layer="second"),
    }
    return {method: functools.partial(explainer, x, chosen) for method, explainer in made.items()}


def captum(model: keras.Model, x: np.ndarray) -> dict[str, Callable]:
    explainers = importlib.import_module("captum.attr")
    torch = importlib.import_module("torch")
    net = in_torch(model, torch)
    images = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)

    def explain(name: str, **options: Any) -> np.ndarray:
        explainer = getattr(explainers, name)(net)
        return explainer.attribute(images, target=OUTPUT, **options).detach().numpy().transpose(0, 2, 3, 1)

    def smooth() -> np.ndarray:
        tunnel = explainers.NoiseTunnel(explainers.Saliency(net))
        options = {"nt_samples": 50, "nt_samples_batch_size": 4, "stdevs": 0.15, "abs": False}
        return tunnel.attribute(images, target=OUTPUT, **options).detach().numpy().transpose(0, 2, 3, 1)

    def heat() -> np.ndarray:
        explainer = explainers.LayerGradCam(net, net[4])
        small = explainer.attribute(images, target=OUTPUT, relu_attributions=True)
        drawn = explainers.LayerAttribution.interpolate(small, images.shape[2:], "bilinear")
        return drawn.detach().numpy().transpose(0, 2, 3, 1)

    steps = {"n_steps": 50, "method": "gausslegendre", "internal_batch_size": 256}
    window = {"sliding_window_shapes": (1, SIZE, SIZE), "strides": (1, STRIDE, STRIDE)}
    return {
        "gradient": lambda: explain("Saliency", abs=False),
        "SmoothGrad, 50": smooth,
        "integrated gradients": lambda: explain("IntegratedGradients", **steps),
        "occlusion": lambda: explain("Occlusion", perturbations_per_eval=4, **window),
        "Grad-CAM": heat,
    }


def zennit(model: keras.Model, x: np.ndarray) -> dict[str, Callable]:
    gradient, composites, rules, types = (
        importlib.import_module(f"zennit.{part}") for part in ("attribution", "composites", "rules", "types")
    )
    torch = importlib.import_module("torch")
    net, images = in_torch(model, torch), torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    chosen = torch.eye(10)[OUTPUT]

    def explain(rule: Any) -> np.ndarray:
        composite = composites.LayerMapComposite([(types.Activation, rules.Pass()), (types.Linear, rule)])
        with gradient.Gradient(net, composite) as attributor:
            _, values = attributor(images, lambda outputs: outputs * chosen)
        return values.detach().numpy().transpose(0, 2, 3, 1)

    return {
        "LRP-epsilon": lambda: explain(rules.Epsilon(1e-6)),
        "LRP-z+": lambda: explain(rules.ZPlus(1e-6, zero_params="bias")),
    }


def in_torch(model: keras.Model, torch: Any) -> Any:
    """Return the same network in PyTorch: channels first, and the last weights in their order."""
    nn, weights = torch.nn, model.get_weights()
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(800, 10),
    )  # fmt: skip
    weights[0], weights[2] = (weights[i].transpose(3, 2, 0, 1) for i in (0, 2))
    weights[4] = weights[4].reshape(5, 5, 32, 10).transpose(2, 0, 1, 3).reshape(800, 10).T
    with torch.no_grad():
        for parameter, value in zip(net.parameters(), weights, strict=True):
            parameter.copy_(torch.tensor(np.ascontiguousarray(value)))
    return net


def shap(model: keras.Model, x: np.ndarray) -> dict[str, Callable]:
    """Its GradientExplainer averages 50 gradients between each image and a black one, of the largest output."""
    explainers = importlib.import_module("shap")
    explainer = explainers.GradientExplainer(keras.Model(model.inputs, model.outputs), np.zeros_like(x[:1]))
    return {"integrated gradients": lambda: explainer.shap_values(x, nsamples=50, ranked_outputs=1)[0][..., 0]}


if __name__ == "__main__":
    main()
