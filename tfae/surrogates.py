"""Linear stand-ins for a model, over all data or around one sample, and how far to trust them (chapter 09).

A surrogate is fitted to what the *model* answers, never to labels, and is scored on points that it was not fitted to.

>>> surrogate = fit_global(lambda x: model(x)[:, 3], x_train)  # doctest: +SKIP
>>> surrogate.r2, surrogate.diagnosis  # doctest: +SKIP
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from scipy import linalg, sparse
from scipy.optimize import linprog

from tfae.checks import check_number, check_samples, check_seed, check_size

KINDS = ("mse", "mae")

# Where a surrogate's `diagnosis` speaks up. These are conventions; 30 is that of Belsley, Kuh and Welsch (1980).
FAITHFUL_R2 = 0.8
SAMPLES_PER_COEFFICIENT = 5
COLLINEAR = 30.0
STABLE = 0.9

DEPENDENT = 1e-6  # relative length of a direction below which features depend on each other but for float32 rounding


@dataclass(frozen=True, eq=False)
class LinearSurrogate:
    """A linear model that stands in for another model.

    Attributes
    ----------
    coef : ndarray, of the shape of a sample (after segments: one for each segment)
        Change of the output for one unit of a feature. A feature that never changes has coefficient 0: nothing was
        learned about it.
    intercept : float
    mse, mae, r2 : float
        Mean squared error, mean absolute error and share of the output's variance explained, all on held-out points.
        `r2` is NaN where the output does not vary there: then there is no variance to explain.
    condition_number : float
        Of the design: of the features that vary, weighted by the kernel, centred and scaled to one length. Infinite
        where features depend on each other.
    diagnosis : dict of str to str
        What is wrong, by name, and what to do; empty where no check failed. The names are ``"constant"``,
        ``"unfaithful"`` and ``"collinear"``, for a local surrogate also ``"narrow"`` and ``"unstable"``.
    """

    coef: np.ndarray
    intercept: float
    mse: float
    mae: float
    r2: float
    condition_number: float
    diagnosis: dict[str, str] = field(repr=False)

    def predict(self, x: Any) -> np.ndarray:
        """Return the surrogate's outputs for samples `x` (after segments: for rows of 1 and 0), shape ``(n,)``."""
        x = check_samples(x, self.coef.shape)
        return x.reshape(len(x), -1) @ self.coef.ravel() + self.intercept


@dataclass(frozen=True, eq=False)
class LocalSurrogate(LinearSurrogate):
    """A linear surrogate around one sample. Its scores are weighted by the kernel, like its fit.

    Attributes
    ----------
    coef_std : ndarray, of the shape of `coef`
        Standard deviation of each coefficient when neighbours are drawn again.
    stability : float
        Mean cosine similarity of the coefficients of two draws, each times its feature's scale: 1 if all agree. NaN
        where the output is constant.
    effective_samples : float
        (sum w)² / sum w² of the kernel weights: as many equally weighted neighbours would say as much.
    design : ndarray, shape (n_samples, features)
        The neighbours it was fitted to, as steps from the sample in units of the scale; -1 switches a segment off.
    outputs, weights : ndarray, shape (n_samples,)
        The model's output for each neighbour, and its kernel weight.
    """

    coef_std: np.ndarray
    stability: float
    effective_samples: float
    design: np.ndarray = field(repr=False)
    outputs: np.ndarray = field(repr=False)
    weights: np.ndarray = field(repr=False)


def fit_global(
    predict: Callable,
    x: Any,
    kind: str = "mse",
    *,
    alpha: float = 0.0,
    x_test: Any = None,
    seed: int = 0,
    batch_size: int = 1024,
) -> LinearSurrogate:
    """Fit a linear model to the outputs of another model over the samples `x`.

    Parameters
    ----------
    predict : callable
        Maps an array ``(n, *sample)`` to one number for each sample: a Keras model with one output, a target of
        `tfae.targets`, or a function such as ``lambda x: model(x)[:, 3]``.
    x : array, shape (n, *sample)
        Inputs; labels are not needed, so any inputs that the model may meet will do.
    kind : str
        ``"mse"`` is least squares: the "MSE linear regression" and the "MSE linear model" of the literature are this
        one problem, which a covariance matrix solves. ``"mae"`` is least absolute deviations, which no covariance
        matrix solves: it is a linear programme. It fits the median, so a few wild outputs do not bend it; beyond a few
        hundred features it takes minutes.
    alpha : float
        Weight of the ridge penalty, the sum of squared coefficients; for ``"mse"`` alone. Without it, features that
        depend on each other share what they explain: of all equally good solutions this is the one with the smallest
        coefficients, in units of one standard deviation.
    x_test : array, shape (m, *sample), optional
        Held-out points for the scores. Without it, a random quarter of `x` is kept for them and is not fitted.
    seed : int
        Of that split.
    batch_size : int
        Samples given to `predict` at once.

    Returns
    -------
    LinearSurrogate

    Raises
    ------
    ValueError
        If `kind` is not known; if `x` is not finite, or has no more points to fit than coefficients; if `predict`
        returns something else than one finite number for each sample.
    """
    _check_kind(kind, alpha)
    x = _as_float(check_samples(x, None))
    if x_test is None:
        order = np.random.default_rng(check_seed(seed)).permutation(len(x))
        x, x_test = x[order[len(x) // 4 :]], x[order[: len(x) // 4]]
    x_test = _as_float(check_samples(x_test, x.shape[1:], "x_test"))
    flat, flat_test = (part.reshape(len(part), -1).astype(float) for part in (x, x_test))
    n_coefficients = int(np.ptp(flat, axis=0).astype(bool).sum()) + 1
    if len(x) <= n_coefficients:
        raise ValueError(
            f"there are {len(x)} points to fit {n_coefficients} coefficients; a linear model would pass through them "
            f"whatever the outputs are. Give more points: they need no labels."
        )
    ones, ones_test = np.ones(len(x)), np.ones(len(x_test))
    outputs = evaluate(predict, x, batch_size)
    coef, intercept = _fit(flat, outputs, ones, kind, alpha)
    fitted = _scores(outputs, flat @ coef + intercept, ones)
    scores = _scores(evaluate(predict, x_test, batch_size), flat_test @ coef + intercept, ones_test)
    condition = _condition_number(flat, ones)
    return LinearSurrogate(
        coef.reshape(x.shape[1:]),
        intercept,
        **scores,
        condition_number=condition,
        diagnosis=_diagnosis(scores["r2"], fitted["r2"], condition),
    )


def explain_local(
    predict: Callable,
    x: Any,
    scale: float | np.ndarray | None = None,
    *,
    background: Any = None,
    segments: Any = None,
    baseline: float | np.ndarray = 0.0,
    kernel_width: float | None = None,
    kind: str = "mse",
    alpha: float = 0.0,
    n_samples: int = 1000,
    repeats: int = 5,
    seed: int = 0,
    batch_size: int = 1024,
) -> LocalSurrogate:
    r"""Fit a linear model to the outputs of another model around one sample, nearer neighbours counting more [1]_.

    Neighbours come from one of three sources. Distances d are measured in units of the scale of each feature, or as the
    square root of the number of segments that are off, and the kernel is :math:`\exp(-d^2 / 2 w^2)` with width w.

    - `scale` alone: independent Gaussian steps. Under the kernel they weigh as much as steps that are smaller by the
      factor :math:`w / \sqrt{1 + w^2}`, so scale and width together say what "around" means.
    - `background`: Gaussian steps with the covariance of these samples, times `scale`, so that features which move
      together in the data move together here.
    - `segments`: each segment of features is kept or replaced by `baseline`, with equal chance.

    Parameters
    ----------
    predict : callable
        As in `fit_global`.
    x : array, of the shape of one sample, without an axis for samples
    scale : float or array of the shape of `x`, optional
        Standard deviation of the steps, such as ``0.5 * x_train.std(axis=0)``; with `background`, a factor (default 1).
    background : array, shape (m, *sample), optional
    segments : array of int, of the shape of `x`, optional
        The segment of each feature, numbered from 0.
    baseline : float or array of the shape of `x`
        What a segment shows when it is off.
    kernel_width : float, optional
        Above 0. The default is lime's, 0.75 times the square root of the number of features or segments.
    kind, alpha
        As in `fit_global`; the penalty is on coefficients per unit of scale. lime uses ``alpha=1``.
    n_samples : int
        Neighbours in one draw.
    repeats : int
        Draws, at least 2. The first is fitted and reported. All others score it, and are fitted too, to see how much
        the coefficients change.
    seed, batch_size : int

    Returns
    -------
    LocalSurrogate

    Raises
    ------
    ValueError
        If the source of neighbours is not one of the three, or does not have the shape of `x`; if the width is not
        above 0; if the kernel leaves fewer effective samples than coefficients; if `predict` returns something else
        than one finite number for each sample.

    References
    ----------
    .. [1] M. T. Ribeiro, S. Singh and C. Guestrin, "'Why should I trust you?': explaining the predictions of any
       classifier", KDD 2016, arXiv:1602.04938.
    """
    _check_kind(kind, alpha)
    check_size(n_samples, "n_samples")
    if check_size(repeats, "repeats") < 2:
        raise ValueError(
            "repeats is 1; give at least 2: a surrogate cannot be scored on the draw that it was fitted to"
        )
    x = _as_float(check_samples(np.asarray(x)[np.newaxis], None)[0])
    if segments is None:
        draw, inputs, unit, origin = _gaussian(x, scale, background)
    else:
        draw, inputs, unit, origin = _switches(x, segments, baseline, scale, background)
    n_features = int((unit > 0).sum())
    width = 0.75 * math.sqrt(n_features) if kernel_width is None else kernel_width
    check_number(width, "kernel_width", 0, open_ends=True)
    rng = np.random.default_rng(check_seed(seed))
    designs = [draw(rng, n_samples) for _ in range(repeats)]
    weights = [_kernel(design, width) for design in designs]
    effective_samples = [_effective_samples(w) for w in weights]
    if min(effective_samples) < n_features + 1:
        distance = math.sqrt(np.median((designs[0] ** 2).sum(axis=1)))
        raise ValueError(
            f"the kernel leaves {min(effective_samples):.1f} effective samples for {n_features + 1} coefficients: "
            f"neighbours are at distances around {distance:.3g}, and kernel_width is {width:.3g}. Widen it, draw more "
            f"than {n_samples} neighbours, or join features into segments."
        )
    outputs = [evaluate(lambda rows: predict(inputs(rows)), design, batch_size) for design in designs]
    fits = [_fit(*points, kind, alpha) for points in zip(designs, outputs, weights, strict=True)]
    coefs = np.array([coef for coef, _ in fits])

    coef, intercept = fits[0]
    fitted = _scores(outputs[0], designs[0] @ coef + intercept, weights[0])
    scores = _scores(
        np.concatenate(outputs[1:]), np.concatenate(designs[1:]) @ coef + intercept, np.concatenate(weights[1:])
    )
    stability = math.nan if math.isnan(scores["r2"]) else _mean_cosine(coefs)
    condition = _condition_number(designs[0], weights[0])
    per_feature = np.divide(1, unit, out=np.zeros(len(unit)), where=unit > 0)  # 0: a feature that took no steps
    shape = x.shape if segments is None else unit.shape
    return LocalSurrogate(
        (coef * per_feature).reshape(shape),
        float(intercept - coef * per_feature @ origin),
        **scores,
        condition_number=condition,
        diagnosis=_diagnosis(scores["r2"], fitted["r2"], condition, effective_samples[0] / (n_features + 1), stability),
        coef_std=(coefs.std(axis=0, ddof=1) * per_feature).reshape(shape),
        stability=stability,
        effective_samples=effective_samples[0],
        design=designs[0],
        outputs=outputs[0],
        weights=weights[0],
    )


def evaluate(predict: Callable, x: np.ndarray, batch_size: int = 1024) -> np.ndarray:
    """Return the outputs of `predict` for the samples `x`, asked `batch_size` at a time, as float64 of shape ``(n,)``.

    Raises
    ------
    ValueError
        If `predict` returns something else than one finite number for each sample.
    """
    check_size(batch_size, "batch_size")
    parts = []
    for start in range(0, len(x), batch_size):
        batch = x[start : start + batch_size]
        y = np.asarray(predict(batch)).astype(float)
        if y.shape not in ((len(batch),), (len(batch), 1)):
            raise ValueError(
                f"predict returns shape {y.shape} for {len(batch)} samples; it must return one number for each. "
                f"Pick one output: lambda x: model(x)[:, 3], or targets.output(model, 3)."
            )
        if not np.isfinite(y).all():
            raise ValueError(f"predict returns NaN or infinity for {int((~np.isfinite(y)).sum())} of {len(y)} samples")
        parts.append(y.ravel())
    return np.concatenate([np.zeros(0), *parts])


def check_segments(segments: Any, shape: tuple[int, ...], name: str = "segments") -> np.ndarray:
    """Return `segments` as an array if it numbers, from 0, the segment of each feature of a sample of `shape`."""
    labels = np.asarray(segments)
    if labels.shape != shape or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{name} has shape {labels.shape} and dtype {labels.dtype}; give one whole number for each feature of a "
            f"sample, shape {shape}"
        )
    if not np.array_equal(np.unique(labels), np.arange(labels.max() + 1)):
        raise ValueError(f"{name} must be numbered 0, 1, 2, ... without gaps; there are {np.unique(labels)[:9]} ...")
    return labels


# --- the two fits ----------------------------------------------------------------------------------------------------


def least_squares(x: np.ndarray, y: np.ndarray, weights: np.ndarray, alpha: float = 0.0) -> tuple[np.ndarray, float]:
    r"""Return coefficients c and intercept b that minimise :math:`\sum_i w_i (y_i - x_i c - b)^2 + \alpha |c|^2`.

    Parameters
    ----------
    x : ndarray, shape (n, features)
    y, weights : ndarray, shape (n,)
    alpha : float

    Returns
    -------
    coef : ndarray, shape (features,)
        Where several minimise it, the shortest.
    intercept : float
    """
    x_mean, y_mean = np.average(x, axis=0, weights=weights), np.average(y, weights=weights)
    root = np.sqrt(weights)
    a, b = root[:, np.newaxis] * (x - x_mean), root * (y - y_mean)
    if alpha:  # the penalty is as many further points, at which an output of 0 is wanted
        a, b = np.concatenate([a, math.sqrt(alpha) * np.eye(a.shape[1])]), np.concatenate([b, np.zeros(a.shape[1])])
    coef = linalg.lstsq(a, b, lapack_driver="gelsy")[0]
    return coef, float(y_mean - x_mean @ coef)


def least_absolute(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, float]:
    r"""Return coefficients c and intercept b that minimise :math:`\sum_i w_i |y_i - x_i c - b|`, exactly.

    An absolute value is the smallest u + v with u - v equal to it and neither negative. So this is a linear programme:
    minimise :math:`\sum_i w_i (u_i + v_i)` where :math:`x_i c + b + u_i - v_i = y_i`.

    Parameters and returns are those of `least_squares`.
    """
    n, features = x.shape
    one = sparse.eye(n)
    equations = sparse.hstack([np.column_stack([x, np.ones(n)]), one, -one], format="csc")
    cost = np.concatenate([np.zeros(features + 1), weights, weights])
    bounds = [(None, None)] * (features + 1) + [(0, None)] * (2 * n)
    solution = linprog(cost, A_eq=equations, b_eq=y, bounds=bounds, method="highs")
    if solution.status != 0:
        raise ValueError(f"the linear programme of least absolute deviations was not solved: {solution.message}")
    return solution.x[:features], float(solution.x[features])


def _fit(x: np.ndarray, y: np.ndarray, weights: np.ndarray, kind: str, alpha: float) -> tuple[np.ndarray, float]:
    """Fit the features that vary; those that depend on each other share what they explain."""
    varies, eigenvalues, directions = _directions(x, weights)
    independent = directions[:, eigenvalues > DEPENDENT**2 * eigenvalues.max(initial=0)]
    basis = np.eye(len(directions)) if alpha else independent  # a penalty needs no help
    points = (x[:, varies] @ basis, y, weights)
    found, intercept = least_squares(*points, alpha) if kind == "mse" else least_absolute(*points)
    coef = np.zeros(x.shape[1])
    coef[varies] = basis @ found
    return coef, intercept


def _directions(x: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which columns vary, the eigenvalues of their weighted correlations, and the directions these belong to."""
    a = np.sqrt(weights)[:, np.newaxis] * (x - np.average(x, axis=0, weights=weights))
    lengths = np.linalg.norm(a, axis=0)
    varies = (np.ptp(x, axis=0) > 0) & (lengths > 0)
    a = a[:, varies] / lengths[varies]
    eigenvalues, vectors = np.linalg.eigh(a.T @ a)
    return varies, eigenvalues, vectors / lengths[varies][:, np.newaxis]


def _check_kind(kind: str, alpha: float) -> None:
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}; the known ones are {', '.join(KINDS)}")
    if check_number(alpha, "alpha", 0) and kind != "mse":
        raise ValueError(f"alpha is {alpha!r} and kind {kind!r}; the ridge penalty belongs to kind 'mse'")


def _as_float(x: np.ndarray) -> np.ndarray:
    return x if x.dtype.kind == "f" else x.astype("float32")


# --- neighbours ------------------------------------------------------------------------------------------------------

Source = tuple[Callable, Callable, np.ndarray, np.ndarray]


def _gaussian(x: np.ndarray, scale: Any, background: Any) -> Source:
    """Return how to draw steps, what the model is given for them, their unit, and the sample itself."""
    if background is not None:
        background = check_samples(background, x.shape, "background").reshape(len(background), -1).astype(float)
        if len(background) < 2:
            raise ValueError("background holds 1 sample; a covariance needs at least 2")
        factor = check_number(1.0 if scale is None else scale, "scale", 0, open_ends=True)
        centred = factor * (background - background.mean(axis=0)) / math.sqrt(len(background) - 1)
        root = np.asarray(np.linalg.qr(centred, mode="r"))  # root' root is the covariance
        unit = np.sqrt((root**2).sum(axis=0))
    else:
        if scale is None:
            raise ValueError("no neighbourhood is given: give scale=x_train.std(axis=0), background= or segments=")
        unit = _like(scale, x, "scale").astype(float).ravel()
        if not (unit >= 0).all():
            raise ValueError("scale holds negative numbers; it is a standard deviation for each feature")
    if not unit.any():
        raise ValueError("every feature has scale 0, so all neighbours are the sample itself; give a larger scale")
    moves = np.where(unit > 0, unit, 1)

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        steps = rng.normal(size=(n, len(unit))) * unit if background is None else rng.normal(size=(n, len(root))) @ root
        return ((x.ravel() + steps).astype(x.dtype) - x.ravel().astype(float)) / moves  # as rounded for the model

    def inputs(design: np.ndarray) -> np.ndarray:
        return (x + (design * unit).reshape(-1, *x.shape)).astype(x.dtype)

    return draw, inputs, unit, x.ravel().astype(float)


def _switches(x: np.ndarray, segments: Any, baseline: Any, scale: Any, background: Any) -> Source:
    """Return the same for segments: a step of -1 switches one off."""
    if scale is not None or background is not None:
        raise ValueError("segments are kept or replaced whole; give either segments, or scale and background")
    labels = check_segments(segments, x.shape)
    off = _like(baseline, x, "baseline").astype(x.dtype)
    n_segments = int(labels.max()) + 1

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        return -rng.integers(0, 2, size=(n, n_segments)).astype(float)

    def inputs(design: np.ndarray) -> np.ndarray:
        return np.where(design[:, labels] == 0, x, off)

    return draw, inputs, np.ones(n_segments), np.ones(n_segments)


def _like(values: Any, x: np.ndarray, name: str) -> np.ndarray:
    values = np.asarray(values)
    if values.shape not in ((), x.shape) or values.dtype.kind not in "biuf" or not np.isfinite(values).all():
        raise ValueError(f"{name} has shape {values.shape}; give one finite number, or one for each feature: {x.shape}")
    return np.broadcast_to(values, x.shape)


def _kernel(design: np.ndarray, width: float) -> np.ndarray:
    return np.exp(-(design**2).sum(axis=1) / (2 * width**2))


# --- how far to trust a fit ------------------------------------------------------------------------------------------


def _effective_samples(weights: np.ndarray) -> float:
    shares = weights / max(weights.max(), np.finfo(float).tiny)
    return float(shares.sum() ** 2 / (shares**2).sum()) if shares.any() else 0.0


def _scores(outputs: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    errors = outputs - predicted
    mse = float(np.average(errors**2, weights=weights))
    variance = float(np.average((outputs - np.average(outputs, weights=weights)) ** 2, weights=weights))
    constant = math.sqrt(variance) <= 1e-6 * np.abs(outputs).max()  # float32 networks vary so much by rounding
    r2 = math.nan if constant else 1 - mse / variance
    return {"mse": mse, "mae": float(np.average(np.abs(errors), weights=weights)), "r2": r2}


def _condition_number(x: np.ndarray, weights: np.ndarray) -> float:
    """Return the condition number of the columns that vary; infinite if they depend on each other."""
    _, eigenvalues, _ = _directions(x, weights)  # squared singular values
    low, high = eigenvalues.min(initial=1), eigenvalues.max(initial=1)
    return math.sqrt(high / low) if low > DEPENDENT**2 * high else math.inf


def _mean_cosine(coefs: np.ndarray) -> float:
    lengths = np.linalg.norm(coefs, axis=1, keepdims=True)
    directions = coefs / np.maximum(lengths, np.finfo(float).tiny)
    return float(np.mean([a @ b for a, b in combinations(directions, 2)]))


def _diagnosis(
    r2: float, fitted_r2: float, condition: float, samples_per_coefficient: float = math.inf, stability: float = 1.0
) -> dict[str, str]:
    found = {}
    if math.isnan(r2):
        found["constant"] = "The output does not vary over the held-out points: there is nothing to explain."
    elif r2 < FAITHFUL_R2:
        reason = "It learned its points by heart. Give more of them, or set alpha."
        if fitted_r2 < FAITHFUL_R2:
            reason = "The model is not linear here. Explain a smaller neighbourhood, or do not read the coefficients."
        found["unfaithful"] = (
            f"R² is {r2:.2f} on held-out points and {fitted_r2:.2f} on those it was fitted to. {reason}"
        )
    if condition > COLLINEAR:
        found["collinear"] = (
            f"The condition number is {condition:.3g}: features move together, so one's coefficient can stand for "
            f"another's. Set alpha, or join features."
        )
    if samples_per_coefficient < SAMPLES_PER_COEFFICIENT:
        found["narrow"] = (
            f"There are {samples_per_coefficient:.1f} effective samples for each coefficient. Widen the kernel or draw "
            f"more neighbours."
        )
    if stability < STABLE:
        found["unstable"] = (
            f"The coefficients of two draws have cosine similarity {stability:.2f}. Draw more neighbours, and read no "
            f"single coefficient."
        )
    return found
