"""What is measured of any model: errors, weak slices, drift, explanations, each beside its controls (chapter 11).

`examine` takes an autoencoder of this package or of plain Keras, a classifier or a regression, and the data it was
trained and is tested on. `tfae.report` makes a page of what it finds.

>>> found = examine(model, data.load("strokes"))  # doctest: +SKIP
>>> found.errors["this model"].mean(), found.explanations.failures  # doctest: +SKIP
"""

import math
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from scipy import ndimage, stats
from scipy.special import expit, softmax
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tfae import attribution, evaluation, targets
from tfae.checks import check_inputs, check_seed
from tfae.features import activations
from tfae.hooks import recording
from tfae.inference import check_finite, in_batches, inference

Array = np.ndarray
Predict = Callable[[Array], Array]

LEAST = 40  # samples in each part of the data: of fewer no error can be told
MOST = 10_000  # training samples that a baseline is fitted to
PROBES = 24  # samples that are explained

# --- what is found ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Slice:
    """A part of the held-out samples.

    Attributes
    ----------
    name : str
    errors : ndarray, shape (n,)
    statistic : float
        By how many standard errors the mean error is above that of all other samples.
    """

    name: str
    errors: Array
    statistic: float


@dataclass(frozen=True, eq=False)
class Explanations:
    """Maps of a few held-out samples, by methods and by controls that know nothing of the model.

    Attributes
    ----------
    target : str
    x : ndarray, shape (n, *sample)
    maps : dict of str to ndarray, shape (n, *sample)
    scores : dict of str to dict of str to ndarray, shape (n,)
        By map and by measure: `MEASURES`.
    failures : list of str
        What a method should not fail and did.
    """

    target: str
    x: Array
    maps: dict[str, Array]
    scores: dict[str, dict[str, Array]]
    failures: list[str]


@dataclass(frozen=True, eq=False)
class Findings:
    """All that `examine` measured.

    Attributes
    ----------
    data : dict of str to ndarray
        ``x_train``, ``x_test``, ``y_train`` and ``y_test``, as they were looked at; without labels no ``y_``.
    name : str
        Of the data.
    class_names, feature_names : tuple of str
        Empty where they are not known.
    kind : str
        ``"autoencoder"``, ``"classifier"`` or ``"regression"``.
    unit : str
        What an error is: ``"mean squared error"``, ``"share wrong"`` or ``"squared error"``.
    outputs : ndarray, shape (n, ...)
        Of the held-out samples: probabilities, of a classifier.
    errors : dict of str to ndarray, shape (n,)
        Of each held-out sample, for ``"this model"`` and for the baselines.
    errors_train : ndarray
        Of the model on training samples.
    code : str
        The place in the model that is the code; or the layer inside that returns least, none of those that only prepare
        the samples.
    code_size : int
    slices : list of Slice
        The weakest first.
    slices_by_chance : int
        How many slices look weak after the errors are shuffled among the samples.
    drift : dict of str to tuple of float
        The largest Kolmogorov-Smirnov distance of a code unit's distributions, and its p-value for all units.
    explanations : Explanations or str
        Or why there are none.
    """

    data: dict[str, Array]
    name: str
    class_names: tuple[str, ...]
    feature_names: tuple[str, ...]
    kind: str
    unit: str
    outputs: Array
    errors: dict[str, Array]
    errors_train: Array
    code: str
    code_size: int
    slices: list[Slice]
    slices_by_chance: int
    drift: dict[str, tuple[float, float]]
    explanations: Explanations | str

    @property
    def not_beaten(self) -> list[str]:
        """The baselines that the model does not beat by two standard errors, sample by sample."""
        lead = {name: errors - self.errors["this model"] for name, errors in self.errors.items()}
        return [name for name, better in lead.items() if name != "this model" and not above_zero(better)]


def examine(model: Any, dataset: Any, *, seed: int = 0) -> Findings:
    """Measure a model on data: all that a report of it says.

    Parameters
    ----------
    model : keras.Layer
        Maps samples to samples (an autoencoder), to classes (probabilities or logits) or to numbers. One input, one
        output.
    dataset : tfae.data.Dataset, or mapping of str to array
        With ``x_train`` and ``x_test``, at least 40 samples each, and for all but autoencoders ``y_train`` and
        ``y_test``: for classes whole numbers from 0, or a column for each with one 1 in a row. Used where they are
        there: ``name``, ``class_names``, ``feature_names``, and what else is known of each held-out sample,
        ``factors_test`` with ``factor_names``.
    seed : int
        Of the samples that are explained, of controls and of noise.

    Returns
    -------
    Findings

    Raises
    ------
    ValueError
        If the data do not fit the model, are not finite or too few, or lack the labels that the model needs; if the
        model has several inputs or outputs or returns NaN.
    """
    rng = np.random.default_rng(check_seed(seed))
    get = dataset.get if isinstance(dataset, Mapping) else lambda name: getattr(dataset, name, None)
    data = _arrays(get, model)
    x_test, y_test = data["x_test"], data.get("y_test")
    names = {key: tuple(map(str, _or_empty(get(key)))) for key in ("class_names", "feature_names", "factor_names")}

    code, codes = _codes(model, x_test)
    kind, unit, predict, error, baselines = _task(model, data, codes.shape[1])
    predictions = {"this model": predict, **baselines}
    outputs = {name: answer(x_test) for name, answer in predictions.items()}
    errors = {name: error(answer, x_test, y_test) for name, answer in outputs.items()}
    own = errors["this model"]

    rows = np.sort(rng.permutation(len(data["x_train"]))[:MOST])
    x, y = data["x_train"][rows], data["y_train"][rows] if "y_train" in data else None
    codes_train = _codes(model, x)[1]
    halves = rng.permutation(codes_train)
    columns = _columns(x_test, y_test, names, get("factors_test"), kind)
    try:
        explanations: Explanations | str = _explain(
            model, _question(model, kind, data, outputs["this model"], own, names["class_names"]), data, seed
        )
    except ValueError as refusal:  # of a network that has no derivatives, for instance
        explanations = str(refusal)
    return Findings(
        data, str(get("name") or "data"), names["class_names"], names["feature_names"], kind, unit,
        outputs["this model"], errors, error(predict(x), x, y), code, codes.shape[1],
        _slices(own, columns), len(beyond_chance(_slices(rng.permutation(own), columns))),
        {
            "training data → held-out data": _drift(codes_train, codes),
            "control: half of the training data → other half": _drift(halves[::2], halves[1::2]),
        },
        explanations,
    )  # fmt: skip


def above_zero(values: Array) -> bool:
    """Whether the mean is above 0 by more than two standard errors."""
    return bool(values.mean() > 2 * standard_error(values))


def standard_error(values: Array) -> float:
    """Return the standard error of the mean."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


# --- the data --------------------------------------------------------------------------------------------------------


def _arrays(get: Callable[[str], Any], model: Any) -> dict[str, Array]:
    inputs = getattr(model, "inputs", None)
    if inputs is not None and len(inputs) > 1:
        raise ValueError(f"the model has {len(inputs)} inputs; a report is about models with one")
    data = {}
    for part in ("train", "test"):
        x, y = get(f"x_{part}"), get(f"y_{part}")
        if x is None:
            raise ValueError(f"the data hold no x_{part}; give x_train and x_test, and y_train and y_test for labels")
        data[f"x_{part}"] = x = check_inputs(model, x, f"x_{part}")
        if len(x) < LEAST:
            raise ValueError(f"x_{part} holds {len(x)} samples; give at least {LEAST}: of fewer no error can be told")
        if y is not None:
            y = np.asarray(y)
            if y.dtype.kind not in "biuf" or len(y) != len(x) or not np.isfinite(y).all():
                raise ValueError(
                    f"y_{part} has shape {y.shape} and dtype {y.dtype}; give {len(x)} finite numbers, of classes whole "
                    f"ones from 0"
                )
            one_hot = y.ndim == 2 and y.shape[1] > 1 and np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all()
            y = y.argmax(axis=1) if one_hot and not np.array_equal(y, x) else y
            data[f"y_{part}"] = y[:, 0] if y.shape[1:] == (1,) else y
    if data["x_test"].shape[1:] != data["x_train"].shape[1:] or ("y_test" in data) != ("y_train" in data):
        raise ValueError("x_train and x_test must have samples of one shape, and both of them labels or neither")
    return data


def _or_empty(names: Any) -> Any:
    return () if names is None else names


def _columns(x: Array, y: Array | None, names: dict[str, tuple], factors: Any, kind: str) -> dict[str, Array]:
    """Return what is known of each held-out sample, by name: the label, the features of a table, factors."""
    columns = {}
    if y is not None and y.ndim == 1:
        columns["label"] = np.array(names["class_names"])[y.astype(int)] if _named(y, names, kind) else y
    if x.ndim == 4:
        columns["mean brightness"] = x.mean(axis=(1, 2, 3))
    if x.ndim == 2 and x.shape[1] <= 64:
        columns |= {_feature(names["feature_names"], i, x.shape[1]): values for i, values in enumerate(x.T)}
    factors = dict(zip(names["factor_names"], np.asarray(_or_empty(factors)).T, strict=False))  # in their own units
    return columns | {name: values for name, values in factors.items() if y is None or not np.array_equal(values, y)}


def _named(y: Array, names: dict[str, tuple], kind: str) -> bool:
    return kind != "regression" and bool(np.isin(y, range(len(names["class_names"]))).all())


def _feature(names: Sequence[str], i: int, of: int) -> str:
    return names[i] if len(names) == of else f"feature {i}"


# --- what the model does ---------------------------------------------------------------------------------------------


def _codes(model: Any, x: Array) -> tuple[str, Array]:
    """Return the name and the outputs, ``(n, units)``, of the code, or of the layer inside that returns least."""
    if hasattr(model, "encode"):
        return "its code", model.encode(x).reshape(len(x), -1)
    passed = layers_of(model, x)
    learns = [bool(layer.trainable_weights) for layer, _ in passed]
    inner = passed[learns.index(True) : -1] if any(learns) else []  # what comes before only prepares the samples
    layer, _ = min(inner or passed, key=lambda pair: math.prod(pair[1]))
    return f"layer {layer.name}", activations(model, x, layer=layer).reshape(len(x), -1)


def layers_of(model: Any, x: Array) -> list[tuple[keras.Layer, tuple[int, ...]]]:
    """Return the layers that are called once and the shapes of what they return for a sample; no models of layers."""
    with recording() as calls:
        inference(model)(tf.convert_to_tensor(x[:2]))
    often = Counter(id(call.layer) for call in calls)
    return [
        (call.layer, tuple(call.output.shape[1:]))
        for call in calls
        if isinstance(call.layer, keras.Layer)
        and not isinstance(call.layer, keras.Model)
        and often[id(call.layer)] == 1
        and getattr(call.output, "shape", ())[:1] == (2,)
    ]


def _task(model: Any, data: dict[str, Array], code_size: int) -> tuple[str, str, Predict, Callable, dict[str, Predict]]:
    """Return the kind, what an error is, how to predict, how to judge, and fitted baselines."""
    one = model(data["x_test"][:1], training=False)
    if not hasattr(one, "shape"):
        raise ValueError(f"the model returns a {type(one).__name__}; a report is about models with one output")

    def predict(x: Array) -> Array:
        return check_finite(in_batches(inference(model), x, 1024), "the model")

    outputs, x, y = predict(data["x_test"]), data["x_test"], data.get("y_test")
    x_train = data["x_train"][:MOST].reshape(-1, math.prod(x.shape[1:]))
    mean, y_train = x_train.mean(axis=0), data["y_train"][:MOST] if y is not None else None
    if _returns_samples(model, outputs, x, y):
        pca = PCA(min(code_size, *x_train.shape), random_state=0).fit(x_train)
        return "autoencoder", "mean squared error", predict, _mean_squared_error, {
            f"PCA of {pca.n_components_} numbers": lambda x: pca.inverse_transform(
                pca.transform(x.reshape(len(x), -1))
            ).reshape(x.shape),
            "the mean of the training data": lambda x: np.broadcast_to(mean.reshape(x.shape[1:]), x.shape),
        }  # fmt: skip
    if y is None or y_train is None:
        raise ValueError(
            f"the model maps samples of shape {x.shape[1:]} to outputs of shape {outputs.shape[1:]}, so it is no "
            f"autoencoder, and the data hold no labels to judge it by; give y_train and y_test"
        )
    whole = y.ndim == 1 and outputs.ndim == 2 and all(np.array_equal(part, part.astype(int)) for part in (y, y_train))
    if whole and (outputs.shape[1] > 1 or np.isin([*y, *y_train], (0, 1)).all()):
        n_classes = max(2, outputs.shape[1])
        if not np.isin([*y, *y_train], range(n_classes)).all() or len(np.unique(y_train)) < 2:
            raise ValueError(
                f"the model tells {n_classes} classes and the labels are {np.unique(y_train)[:12]}; give whole numbers "
                f"from 0 to {n_classes - 1}, at least two of them in y_train"
            )
        predict = partial(_probabilities, predict, _are_probabilities(outputs))
        return "classifier", "share wrong", predict, _wrong, _class_baselines(x_train, y_train.astype(int), n_classes)
    if y.shape[1:] != outputs.shape[1:] and not (y.ndim == 1 and outputs.shape[1:] == (1,)):
        raise ValueError(f"the model returns shape {outputs.shape[1:]} for a sample and its label has {y.shape[1:]}")
    ridge = make_pipeline(StandardScaler(), Ridge()).fit(x_train, y_train.reshape(len(y_train), -1))
    return "regression", "squared error", predict, _squared_error, {
        "linear regression (ridge)": lambda x: ridge.predict(x.reshape(len(x), -1)),
        "the mean of the training labels": lambda x: np.broadcast_to(y_train.mean(axis=0), (len(x), *y.shape[1:])),
    }  # fmt: skip


def _returns_samples(model: Any, outputs: Array, x: Array, y: Array | None) -> bool:
    """Whether it is an autoencoder: of two features and two classes only the numbers can tell."""
    if outputs.shape != x.shape or hasattr(model, "reconstruct"):
        return outputs.shape == x.shape
    if y is not None and y.shape == outputs.shape:
        return np.array_equal(y, x)
    return y is None or outputs.ndim > 2 or not _are_probabilities(outputs)


def _are_probabilities(outputs: Array) -> bool:
    """Whether outputs lie in [0, 1] and sum to 1, or are single; others are taken for logits."""
    inside = outputs.min() >= 0 and outputs.max() <= 1
    return bool(inside and (outputs.shape[1] == 1 or np.allclose(outputs.sum(axis=1), 1, atol=1e-3)))


def _probabilities(predict: Predict, already: bool, x: Array) -> Array:
    outputs = predict(x).astype("float64")
    if outputs.shape[1] > 1:
        return outputs if already else softmax(outputs, axis=1)
    p = outputs if already else expit(outputs)
    return np.concatenate([1 - p, p], axis=1)


def _class_baselines(x_train: Array, y_train: Array, n_classes: int) -> dict[str, Predict]:
    logistic = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 200 steps are a baseline, converged or not
        logistic.fit(x_train, y_train)
    each = np.eye(n_classes)
    most = np.bincount(y_train).argmax()
    return {
        "logistic regression": lambda x: each[logistic.predict(x.reshape(len(x), -1))],
        "the most frequent class": lambda x: each[np.full(len(x), most)],
    }


def _mean_squared_error(outputs: Array, x: Array, y: Array | None) -> Array:
    return np.mean((outputs.astype("float64") - x).reshape(len(x), -1) ** 2, axis=1)


def _wrong(outputs: Array, x: Array, y: Array) -> Array:
    return (outputs.argmax(axis=1) != y).astype("float64")


def _squared_error(outputs: Array, x: Array, y: Array) -> Array:
    return np.mean((outputs.astype("float64").reshape(len(y), -1) - y.reshape(len(y), -1)) ** 2, axis=1)


# --- where it is weak, and whether the data moved --------------------------------------------------------------------


def _slices(errors: Array, columns: dict[str, Array]) -> list[Slice]:
    """Slice by each value of a column, or by its lowest and highest quarter; the weakest slice comes first."""
    found = []
    for name, values in columns.items():
        there = np.unique(values)
        if len(there) <= 12:
            masks = {f"{name} = {_short(value)}": values == value for value in there}
        else:
            low, high = np.quantile(values, (0.25, 0.75))
            masks = {f"{name}, lowest quarter": values <= low, f"{name}, highest quarter": values >= high}
        for part, mask in masks.items():
            inside, outside = errors[mask], errors[~mask]
            if min(len(inside), len(outside)) >= LEAST // 2:
                spread = math.hypot(standard_error(inside), standard_error(outside))
                found.append(Slice(part, inside, float((inside.mean() - outside.mean()) / max(spread, 1e-12))))
    return sorted(found, key=lambda part: -part.statistic)


def _short(value: Any) -> str:
    return str(value) if isinstance(value, str) else f"{value:.3g}"


def beyond_chance(slices: Sequence[Slice]) -> list[Slice]:
    """Return the slices that are weaker than chance makes any, but for one table in twenty (Bonferroni)."""
    limit = stats.norm.isf(0.05 / max(len(slices), 1))
    return [part for part in slices if part.statistic > limit]


def _drift(codes: Array, others: Array) -> tuple[float, float]:
    tests = [stats.ks_2samp(a, b, method="asymp") for a, b in zip(codes.T, others.T, strict=True)]
    largest = max(tests, key=lambda test: test.statistic)
    return float(largest.statistic), float(min(1.0, largest.pvalue * len(tests)))


# --- why -------------------------------------------------------------------------------------------------------------

GAP, MEAN, OTHER = "completeness gap", "deletion to the mean", "deletion to another sample"
MOVED, KEPT = "change under noise", "alike with shuffled weights"
MEASURES = (GAP, MEAN, OTHER, MOVED, KEPT)


def _question(
    model: Any, kind: str, data: dict[str, Array], outputs: Array, errors: Array, class_names: tuple[str, ...]
) -> tuple[targets.Target, Array]:
    """Return a target, and the held-out samples that it is asked of.

    An autoencoder is asked for its error, and a regression for its output. A classifier is asked for the score of the
    class that it gets wrong most often, on the samples that it takes for that class.
    """
    if kind == "autoencoder":
        return targets.reconstruction_error(model), data["x_test"]
    if kind == "regression":
        return targets.output(model, 0), data["x_test"]
    said, y = outputs.argmax(axis=1), data["y_test"]
    often = [label for label in np.unique(y) if np.sum(said == label) >= 8] or [np.bincount(said).argmax()]
    label = int(max(often, key=lambda label: errors[y == label].mean() if (y == label).any() else 0.0))
    if single := model(data["x_test"][:1], training=False).shape[1] == 1:
        label = 1 if (said == 1).any() else int(said[0])
    unit = 0 if single else label
    try:
        target = targets.logit(model, unit)
        target(tf.constant(data["x_test"][:1]))
    except ValueError:  # it ends without an activation: its outputs are logits
        target = targets.output(model, unit)
    name = class_names[unit + single] if unit + single < len(class_names) else str(unit + single)
    return targets.Target(f"the score of {name!r}", target.network, target.read), data["x_test"][said == label]


def _explain(model: Any, question: tuple[targets.Target, Array], data: dict[str, Array], seed: int) -> Explanations:
    (target, asked), rng = question, np.random.default_rng(seed)
    x, x_train = asked[rng.permutation(len(asked))[:PROBES]], data["x_train"]
    mean, others = x_train.mean(axis=0), x_train[rng.choice(len(x_train), len(x))]
    # Of a feature of a table, of a channel of images or series: each has a unit of its own.
    unit = np.maximum(x_train.std(axis=tuple(range(x_train.ndim - 1))), 1e-6)
    methods: dict[str, Callable] = {
        "integrated gradients": partial(attribution.integrated_gradients, target, baseline=mean, steps=64),
        "gradient × input": partial(attribution.gradient_x_input, target, baseline=mean),
        "gradient": partial(attribution.gradient, target),
    }
    maps, scores = {}, dict[str, dict[str, Array]]()
    for name, method in methods.items():
        explained = method(x)
        maps[name] = explained.values
        some = x[explained.values.reshape(len(x), -1).any(axis=1)]  # whose map says anything
        if len(some) < 2:
            raise ValueError(f"the maps of {target.name} by {name} are zero everywhere")
        scores[name] = {} if explained.completeness_gap is None else {GAP: explained.completeness_gap}
        in_units = partial(_in_units, method, unit)
        scores[name][MOVED] = evaluation.max_sensitivity(in_units, some / unit, radius=0.1, n_samples=5, seed=seed)
        scores[name][KEPT] = evaluation.randomisation(method, model, some, seed=seed)[-1].spearman_absolute
    maps["control: random order"] = rng.standard_normal(x.shape)
    maps["control: the input alone"] = np.abs(x - mean) / unit
    if is_image(x):
        maps["control: its edges"] = np.hypot(*(ndimage.sobel(x, axis=axis) for axis in (1, 2)))
    for name, values in maps.items():
        for measure, absent in ((MEAN, mean), (OTHER, others)):
            area = evaluation.deletion(target, x, values, absent=absent, seed=seed).area
            scores.setdefault(name, {})[measure] = area
    return Explanations(target.name, x, maps, scores, _failures(scores, list(methods)))


def _in_units(method: Callable, unit: Array, x: Array) -> Any:
    return method(x * unit)


def _failures(scores: dict[str, dict[str, Array]], methods: Sequence[str]) -> list[str]:
    """Say what no method should fail: controls that it does not beat by two standard errors, sample by sample."""
    failures = []
    for name in methods:
        for measure in (MEAN, OTHER):
            lead = {other: scores[other][measure] - scores[name][measure] for other in scores if other not in methods}
            equal = [other.removeprefix("control: ") for other, better in lead.items() if not above_zero(better)]
            if equal:
                failures.append(f"{name}, {measure}: no better than {', '.join(equal)}")
        if np.mean(scores[name][KEPT]) > 0.5:
            failures.append(f"{name}: its maps stay much as they were when all weights are shuffled")
        if GAP in scores[name] and np.median(scores[name][GAP]) > 0.05:
            failures.append(f"{name}: its values do not add up to what they should")
    return failures


def is_image(x: Array) -> bool:
    """Whether samples are grey or RGB images of at least 4 × 4 pixels."""
    return x.ndim == 4 and x.shape[-1] in (1, 3) and min(x.shape[1:3]) >= 4
