"""Make attribution.npz with captum: two small networks, their weights, samples, and what captum says of output 1.

    python -m pip install torch captum
    python tests/golden/make_attribution.py

Everything is computed in float64. Arrays are stored in Keras's order: channels last, Dense kernels (inputs, outputs).
"""

from pathlib import Path

import numpy as np
import torch
from captum.attr import (
    LRP,
    Deconvolution,
    GuidedBackprop,
    InputXGradient,
    IntegratedGradients,
    LayerGradCam,
    Occlusion,
    Saliency,
)
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule, GammaRule
from torch import nn

OUTPUT = 1
rng = np.random.default_rng(0)


def dense() -> tuple[nn.Module, list[np.ndarray], np.ndarray]:
    weights = [rng.normal(size=size) * 0.7 for size in ((6, 5), (5,), (5, 4), (4,), (4, 3), (3,))]
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    with torch.no_grad():
        for parameter, value in zip(net.parameters(), weights, strict=True):
            parameter.copy_(torch.tensor(value.T))
    return net, weights, rng.normal(size=(7, 6))


def conv() -> tuple[nn.Module, list[np.ndarray], np.ndarray]:
    sizes = ((3, 3, 1, 3), (3,), (2, 2, 3, 4), (4,), (16, 3), (3,))
    weights = [rng.normal(size=size) * 0.7 for size in sizes]
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)
    ).double()
    with torch.no_grad():
        for parameter, value in zip(net.parameters(), weights, strict=True):
            if value.ndim == 4:
                value = value.transpose(3, 2, 0, 1)
            elif value.ndim == 2:  # rows in Keras's order (2, 2, 4), in torch's (4, 2, 2)
                value = value.reshape(2, 2, 4, 3).transpose(2, 0, 1, 3).reshape(16, 3).T
            parameter.copy_(torch.tensor(value))
    return net, weights, rng.random((7, 8, 8, 1))


def to_torch(x: np.ndarray) -> torch.Tensor:
    return torch.tensor(x.transpose(0, 3, 1, 2) if x.ndim == 4 else x, requires_grad=True)


def to_keras(values: torch.Tensor) -> np.ndarray:
    values = values.detach().numpy()
    return values.transpose(0, 2, 3, 1) if values.ndim == 4 else values


def lrp(net: nn.Module, x: torch.Tensor, rule) -> torch.Tensor:
    for module in net:
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.rule = rule()
        elif isinstance(module, nn.Flatten):
            module.rule = EpsilonRule(1e-12)
    return LRP(net).attribute(x, target=OUTPUT)


arrays = {}
for name, (net, weights, x) in {"dense": dense(), "conv": conv()}.items():
    inputs = to_torch(x)
    steps = {"target": OUTPUT, "n_steps": 32, "method": "gausslegendre"}
    window = (
        {"sliding_window_shapes": (1, 3, 3), "strides": (1, 2, 2)}
        if name == "conv"
        else {"sliding_window_shapes": (1,)}
    )
    answers = {
        "outputs": net(inputs)[:, OUTPUT],
        "gradient": Saliency(net).attribute(inputs, target=OUTPUT, abs=False),
        "gradient_x_input": InputXGradient(net).attribute(inputs, target=OUTPUT),
        "integrated_gradients": IntegratedGradients(net).attribute(inputs, **steps),
        "guided_backprop": GuidedBackprop(net).attribute(inputs, target=OUTPUT),
        "deconvnet": Deconvolution(net).attribute(inputs, target=OUTPUT),
        "occlusion": Occlusion(net).attribute(inputs, target=OUTPUT, **window),
        "lrp_epsilon": lrp(net, inputs, lambda: EpsilonRule(1e-9)),
    }
    if name == "conv":
        cam = LayerGradCam(net, net[3])
        answers["grad_cam"] = cam.attribute(inputs, target=OUTPUT, relu_attributions=False)
        answers["lrp_z+"] = lrp(net, inputs, lambda: Alpha1_Beta0_Rule(set_bias_to_zero=True))
        # Captum leaves biases out of the rule and treats units below 0 like those above: compare without either.
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.mul_(parameter.ndim > 1)
            net[-1].weight.mul_(-1)  # for outputs above 0
        answers["without_bias/outputs"] = net(inputs)[:, OUTPUT]
        answers["without_bias/lrp_gamma"] = lrp(net, inputs, lambda: GammaRule(0.25))
    arrays |= {f"{name}/weight{i}": value for i, value in enumerate(weights)} | {f"{name}/x": x}
    arrays |= {f"{name}/{method}": to_keras(values) for method, values in answers.items()}

np.savez_compressed(Path(__file__).parent / "attribution.npz", **arrays)
print({name: value.shape for name, value in arrays.items()})
