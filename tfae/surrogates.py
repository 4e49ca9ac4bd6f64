"""Linear stand-ins for a model, over all data or around one sample, and how far to trust them (chapter 09).

A surrogate is fitted to what the *model* answers, never to labels, and is scored on points that it was not fitted to.

>>> surrogate = fit_global(lambda x: model(x)[:, 3], x_train)  # doctest: +SKIP
>>> surrogate.r2, surrogate.diagnosis  # doctest: +SKIP
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from scipy import linalg, sparse
from scipy.optimize import linprog

from tfae.checks import check_number, check_samples, check_seed, check_segments, check_size, shape_text
from tfae.inference import inference, numbers

KINDS = ("mse", "mae")

# Where a surrogate's `diagnosis` speaks up. These are conventions; 30 is that of Belsley, Kuh and Welsch (1980).
FAITHFUL_R2 = 0.8
SAMPLES_PER_COEFFICIENT = 5
COLLINEAR = 30.0
STABLE = 0.9

SAFE_PENALTY = 1e-10  # share of the sum of squares above which a penalty keeps the normal equations well conditioned
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
    standard_error : ndarray, of the shape of `coef`
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

    standard_error: np.ndarray
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
        `tfae.targets`, or a function such as ``lambda x: model(x)[:, 3]``. A model that is given itself runs
        as outside training.
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
        Held-out points for the scores. Without it, a random quarter of `x`, at least 2 points, is kept for them and is
        not fitted.
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
    n_coefficients = int((x != x[0]).any(axis=0).sum()) + 1
    if x_test is None:
        order, n_test = np.random.default_rng(check_seed(seed)).permutation(len(x)), max(2, len(x) // 4)
        x, x_test = x[order[n_test:]], x[order[:n_test]]
    if len(x) <= n_coefficients:
        raise ValueError(
            f"there are {len(x)} points to fit {n_coefficients} coefficients; a linear model would pass through them "
            f"whatever the outputs are. Give more points: they need no labels."
        )
    x_test = _as_float(check_samples(x_test, x.shape[1:], "x_test"))

    predict = inference(predict)
    points, held_out = (
        _Points(part.reshape(len(part), -1).astype(float), _outputs(predict, part, batch_size), np.ones(len(part)))
        for part in (x, x_test)
    )
    coef, intercept = _fit(points, kind, alpha)
    scores, condition = _scores(held_out, coef, intercept), _condition_number(points)
    return LinearSurrogate(
        coef.reshape(x.shape[1:]),
        intercept,
        **scores,
        condition_number=condition,
        diagnosis=_diagnosis(scores["r2"], _scores(points, coef, intercept)["r2"], condition),
    )


def explain_local(
    predict: Callable,
    x: Any,
    kind: str = "mse",
    *,
    scale: float | np.ndarray | None = None,
    background: Any = None,
    segments: Any = None,
    baseline: float | np.ndarray = 0.0,
    kernel_width: float | None = None,
    alpha: float = 0.0,
    n_samples: int = 1000,
    n_fits: int = 5,
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
    x : array, shape (1, *sample)
        The sample, such as ``x_test[:1]``.
    kind, alpha
        As in `fit_global`; the penalty is on coefficients per unit of scale. lime uses ``alpha=1``.
    scale : float or array of the shape of a sample, optional
        Standard deviation of the steps, such as ``0.5 * x_train.std(axis=0)``; with `background`, a factor (default 1).
    background : array, shape (m, *sample), optional
    segments : array of int, of the shape of a sample, optional
        The segment of each feature, numbered from 0.
    baseline : float or array of the shape of a sample
        What a segment shows when it is off.
    kernel_width : float, optional
        Above 0. The default is lime's, 0.75 times the square root of the number of features or segments.
    n_samples : int
        Neighbours that are drawn for one fit.
    n_fits : int
        How often neighbours are drawn and fitted, at least 2. The first fit is reported. The neighbours of all others
        score it, and their fits show how much the coefficients change.
    seed, batch_size : int

    Returns
    -------
    LocalSurrogate

    Raises
    ------
    ValueError
        If `x` is not one sample; if the source of neighbours is not one of the three, or does not have the shape of a
        sample; if the width is not above 0; if the kernel leaves fewer effective samples than coefficients; if
        `predict` returns something else than one finite number for each sample.

    References
    ----------
    .. [1] M. T. Ribeiro, S. Singh and C. Guestrin, "'Why should I trust you?': explaining the predictions of any
       classifier", KDD 2016, arXiv:1602.04938.
    """
    _check_kind(kind, alpha)
    if check_size(n_fits, "n_fits") < 2:
        raise ValueError("n_fits is 1; give at least 2: a surrogate cannot be scored on the draw that it was fitted to")
    sample = _one_sample(x)
    if segments is None:
        around = _steps(sample, scale, background)
    else:
        around = _switches(sample, segments, baseline, scale, background)
    n_coefficients = int((around.unit > 0).sum()) + 1
    width = 0.75 * math.sqrt(n_coefficients - 1) if kernel_width is None else kernel_width
    check_number(width, "kernel_width", 0, open_ends=True)

    rng = np.random.default_rng(check_seed(seed))
    designs = [around.draw(rng, check_size(n_samples, "n_samples")) for _ in range(n_fits)]
    weights = [np.exp(-(design**2).sum(axis=1) / (2 * width**2)) for design in designs]
    effective_samples = _check_effective_samples(designs, weights, width, n_coefficients)
    predict = inference(predict)
    draws = [
        _Points(design, _outputs(lambda rows: predict(around.inputs(rows)), design, batch_size), w)
        for design, w in zip(designs, weights, strict=True)
    ]

    fits = [_fit(points, kind, alpha) for points in draws]
    coefs = np.array([coef for coef, _ in fits])
    first, others = draws[0], _Points(*(np.concatenate(parts) for parts in zip(*draws[1:], strict=True)))
    coef, intercept = fits[0]
    scores = _scores(others, coef, intercept)
    stability = math.nan if math.isnan(scores["r2"]) else _mean_cosine(coefs)
    condition = _condition_number(first)

    per_unit = np.divide(1, around.unit, out=np.zeros_like(around.unit), where=around.unit > 0)  # 0: it took no steps
    shape = sample.shape if segments is None else around.unit.shape
    return LocalSurrogate(
        (coef * per_unit).reshape(shape),
        float(intercept - coef * per_unit @ around.origin),
        **scores,
        condition_number=condition,
        diagnosis=_diagnosis(
            scores["r2"],
            _scores(first, coef, intercept)["r2"],
            condition,
            effective_samples / n_coefficients,
            stability,
        ),
        standard_error=(coefs.std(axis=0, ddof=1) * per_unit).reshape(shape),
        stability=stability,
        effective_samples=effective_samples,
        design=first.x,
        outputs=first.y,
        weights=first.weights,
    )


# --- neighbours ------------------------------------------------------------------------------------------------------


class _Neighbourhood(NamedTuple):
    draw: Callable[[np.random.Generator, int], np.ndarray]  # random neighbours, as rows of a design
    inputs: Callable[[np.ndarray], np.ndarray]  # what the model is given for such rows
    unit: np.ndarray  # what 1 in each column means
    origin: np.ndarray  # where the sample itself lies


def _steps(sample: np.ndarray, scale: Any, background: Any) -> _Neighbourhood:
    """Gaussian steps, as they are rounded for the model, in units of their standard deviation."""
    flat = sample.ravel().astype(float)
    if background is not None:
        root = _root_of_covariance(check_samples(background, sample.shape, "background"))
        root = root * check_number(1.0 if scale is None else scale, "scale", 0, open_ends=True)
        unit = np.sqrt((root**2).sum(axis=0))
    elif scale is not None:
        unit = _like(scale, sample, "scale").astype(float).ravel()
        if (unit < 0).any():
            raise ValueError("scale holds negative numbers; it is a standard deviation for each feature")
    else:
        raise ValueError("no neighbourhood is given: give scale=x_train.std(axis=0), background= or segments=")
    if not unit.any():
        raise ValueError("every feature has scale 0, so all neighbours are the sample itself; give a larger scale")

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        steps = rng.normal(size=(n, len(unit))) * unit if background is None else rng.normal(size=(n, len(root))) @ root
        return ((flat + steps).astype(sample.dtype) - flat) / np.where(unit > 0, unit, 1)

    def inputs(design: np.ndarray) -> np.ndarray:
        return (sample + (design * unit).reshape(-1, *sample.shape)).astype(sample.dtype)

    return _Neighbourhood(draw, inputs, unit, flat)


def _root_of_covariance(background: np.ndarray) -> np.ndarray:
    """Return R with R'R the covariance: standard normal rows times R vary together as the background does."""
    if len(background) < 2:
        raise ValueError("background holds 1 sample; a covariance needs at least 2")
    flat = background.reshape(len(background), -1).astype(float)
    return np.asarray(np.linalg.qr((flat - flat.mean(axis=0)) / math.sqrt(len(flat) - 1), mode="r"))


def _switches(sample: np.ndarray, segments: Any, baseline: Any, scale: Any, background: Any) -> _Neighbourhood:
    """Segments that are kept or replaced: a step of -1 switches one off."""
    if scale is not None or background is not None:
        raise ValueError("segments are kept or replaced whole; give either segments, or scale and background")
    segments = check_segments(segments, sample.shape)
    off = _like(baseline, sample, "baseline").astype(sample.dtype)
    ones = np.ones(segments.max() + 1)

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        return -rng.integers(0, 2, size=(n, len(ones))).astype(float)

    def inputs(design: np.ndarray) -> np.ndarray:
        return np.where(design[:, segments] == 0, sample, off)

    return _Neighbourhood(draw, inputs, ones, ones)


def _check_effective_samples(designs: list, weights: list, width: float, n_coefficients: int) -> float:
    """Return the effective samples of the first draw, if every draw has enough for its coefficients."""
    effective = [_effective_samples(w) for w in weights]
    if min(effective) < n_coefficients:
        distance = math.sqrt(np.median((designs[0] ** 2).sum(axis=1)))
        raise ValueError(
            f"the kernel leaves {min(effective):.1f} effective samples for {n_coefficients} coefficients: neighbours "
            f"are at distances around {distance:.3g}, and kernel_width is {width:.3g}. Widen it, draw more than "
            f"{len(designs[0])} neighbours, or join features into segments."
        )
    return effective[0]


def _effective_samples(weights: np.ndarray) -> float:
    shares = weights / max(weights.max(), np.finfo(float).tiny)
    return float(shares.sum() ** 2 / (shares**2).sum()) if shares.any() else 0.0


# --- the two fits ----------------------------------------------------------------------------------------------------


class _Points(NamedTuple):
    x: np.ndarray  # (n, features)
    y: np.ndarray  # (n,): outputs of the model
    weights: np.ndarray  # (n,)


def least_squares(x: np.ndarray, y: np.ndarray, weights: np.ndarray, *, alpha: float = 0.0) -> tuple[np.ndarray, float]:
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
    if alpha > SAFE_PENALTY * (a**2).sum():
        coef = _penalised(a, b, alpha)
    else:
        if alpha:  # the penalty is as many further points, at which an output of 0 is wanted
            a, b = np.concatenate([a, math.sqrt(alpha) * np.eye(a.shape[1])]), np.concatenate([b, np.zeros(a.shape[1])])
        coef = linalg.lstsq(a, b, lapack_driver="gelsy")[0]
    return coef, float(y_mean - x_mean @ coef)


def _penalised(a: np.ndarray, b: np.ndarray, alpha: float) -> np.ndarray:
    """Solve the normal equations, or their dual where points are fewer than features; each is square and small.

    They square the condition number. Two corrections, whose residuals are computed with `a` itself, win that back.
    """
    dual = a.shape[0] < a.shape[1]
    tall, right = (a.T, b) if dual else (a, a.T @ b)
    factor = linalg.cho_factor(tall.T @ tall + alpha * np.eye(len(right)))
    found = np.zeros(len(right))
    for _ in range(3):
        found += linalg.cho_solve(factor, right - tall.T @ (tall @ found) - alpha * found)
    return tall @ found if dual else found


def least_absolute(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, float]:
    r"""Return coefficients c and intercept b that minimise :math:`\sum_i w_i |y_i - x_i c - b|`, exactly.

    An absolute value is the smallest u + v with u - v equal to it and neither negative. So this is a linear programme:
    minimise :math:`\sum_i w_i (u_i + v_i)` where :math:`x_i c + b + u_i - v_i = y_i`.

    Parameters and returns are those of `least_squares`.
    """
    n, features = x.shape
    # The solver's tolerances are absolute, so every quantity is given to it in a unit of its own size.
    x_mean, y_middle = np.average(x, axis=0, weights=weights), np.median(y)
    x_unit = np.sqrt(np.average((x - x_mean) ** 2, axis=0, weights=weights))
    x_unit[x_unit == 0] = 1
    distances = np.abs(y - y_middle)
    y_unit = max(np.median(distances), 1e-6 * distances.mean()) or 1.0  # the median: a few wild outputs set no unit
    x, y, weights = (x - x_mean) / x_unit, (y - y_middle) / y_unit, weights / weights.mean()
    one = sparse.eye(n)
    equations = sparse.hstack([np.column_stack([x, np.ones(n)]), one, -one], format="csc")
    cost = np.concatenate([np.zeros(features + 1), weights, weights])
    bounds = [(None, None)] * (features + 1) + [(0, None)] * (2 * n)
    solution = linprog(cost, A_eq=equations, b_eq=y, bounds=bounds, method="highs")
    if solution.status != 0:
        raise ValueError(f"the linear programme of least absolute deviations was not solved: {solution.message}")
    coef = solution.x[:features] * y_unit / x_unit
    return coef, float(y_middle + solution.x[features] * y_unit - x_mean @ coef)


def _fit(points: _Points, kind: str, alpha: float) -> tuple[np.ndarray, float]:
    """Fit the features that vary; without a penalty, those that depend on each other share what they explain."""
    x, y, weights = points
    varies, lengths, columns = _unit_columns(points)
    if alpha:
        found, intercept = least_squares(x[:, varies], y, weights, alpha=alpha)
    else:
        eigenvalues, vectors = np.linalg.eigh(columns.T @ columns)
        independent = eigenvalues > DEPENDENT**2 * eigenvalues.max(initial=0)
        basis = vectors[:, independent] / lengths[:, np.newaxis]
        fit = least_squares if kind == "mse" else least_absolute
        along, intercept = fit(x[:, varies] @ basis, y, weights)
        found = basis @ along
    coef = np.zeros(x.shape[1])
    coef[varies] = found
    return coef, intercept


def _unit_columns(points: _Points) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which columns vary and, of these, the weighted lengths and the columns centred and of length 1."""
    x, _, weights = points
    a = np.sqrt(weights)[:, np.newaxis] * (x - np.average(x, axis=0, weights=weights))
    lengths = np.linalg.norm(a, axis=0)
    varies = (np.ptp(x, axis=0) > 0) & (lengths > 0)
    return varies, lengths[varies], a[:, varies] / lengths[varies]


# --- how far to trust a fit ------------------------------------------------------------------------------------------


def _scores(points: _Points, coef: np.ndarray, intercept: float) -> dict[str, float]:
    x, y, weights = points
    errors = y - (x @ coef + intercept)
    mse = float(np.average(errors**2, weights=weights))
    variance = float(np.average((y - np.average(y, weights=weights)) ** 2, weights=weights))
    constant = math.sqrt(variance) <= 1e-6 * np.abs(y).max()  # float32 networks vary so much by rounding
    r2 = math.nan if constant else 1 - mse / variance
    return {"mse": mse, "mae": float(np.average(np.abs(errors), weights=weights)), "r2": r2}


def _condition_number(points: _Points) -> float:
    """Return the condition number of the columns that vary; infinite if they depend on each other."""
    _, _, columns = _unit_columns(points)
    eigenvalues = np.linalg.eigvalsh(columns.T @ columns)  # squared singular values
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


# --- what is given ---------------------------------------------------------------------------------------------------


def _outputs(predict: Callable, x: np.ndarray, batch_size: int) -> np.ndarray:
    return numbers(predict, x, batch_size, "predict").astype(float)


def _check_kind(kind: Any, alpha: float) -> None:
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}; the known ones are {', '.join(KINDS)}")
    if check_number(alpha, "alpha", 0) and kind != "mse":
        raise ValueError(f"alpha is {alpha!r} and kind {kind!r}; the ridge penalty belongs to kind 'mse'")


def _one_sample(x: Any) -> np.ndarray:
    """Return the one sample of a batch of one."""
    x = np.asarray(x)
    if x.ndim < 2 or len(x) != 1:
        raise ValueError(
            f"x has shape {x.shape}; one sample is explained, with its batch axis, shape (1, *sample). Give "
            f"x[np.newaxis] for a sample without that axis, or x[:1] for the first of several."
        )
    return _as_float(check_samples(x, None))[0]


def _as_float(x: np.ndarray) -> np.ndarray:
    return x.astype(np.result_type(x, "float32"))


def _like(values: Any, sample: np.ndarray, name: str) -> np.ndarray:
    """Return `values` in the shape of a sample; a batch of one will do."""
    values = np.asarray(values)
    shapes = ((), sample.shape, (1, *sample.shape))
    if values.shape not in shapes or values.dtype.kind not in "biuf" or not np.isfinite(values).all():
        raise ValueError(
            f"{name} has shape {values.shape}; give one finite number, or one for each feature: "
            f"{shape_text(sample.shape)}"
        )
    return np.broadcast_to(values, shapes[2])[0]
