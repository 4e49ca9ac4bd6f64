"""Figures for the chapters: arrays in, a matplotlib `Figure` out, one style (chapter 00).

A figure that ends a notebook cell is shown; in a script, use ``figure.savefig("name.png")``.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, cycle
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from scipy.optimize import isotonic_regression

from tfae.checks import check_number, check_size

# Okabe and Ito's palette: distinct for readers with any colour vision, and in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D1F", "#7F7F7F", "#6A3D9A")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
GREY = "#6B6B6B"
DASHES = ("--", ":", "-.", (0, (8, 3)))  # of baselines, which are all grey

# A method has one colour on every page. A name belongs to the first method that it begins with: "denoising, 0.3".
METHODS = {
    "plain": COLOURS[0], "autoencoder": COLOURS[0], "denoising": COLOURS[1], "sparse": COLOURS[2],
    "variational": COLOURS[3], "VAE": COLOURS[3], "contractive": COLOURS[4], "tied": COLOURS[5], "GAN": COLOURS[6],
    "k-sparse": COLOURS[7], "convolutional": COLOURS[9], "PCA": GREY, "mean": GREY,
}  # fmt: skip

MOST_LABELS = 5  # at the ends of curves; more go into a legend
LABEL_GAP = 14  # points from one label to the next
LABEL_SHIFT = 16  # points that a label may stand above or below the end of its curve

STYLE: dict[str, Any] = {
    "figure.dpi": 90,
    "savefig.dpi": 90,
    "font.size": 12,
    "axes.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": plt.cycler(color=COLOURS),
    "legend.frameon": False,
    "lines.linewidth": 2,
    "image.cmap": "gray_r",  # ink on paper
    "image.interpolation": "nearest",  # a pixel is a square, not a smear
    "figure.constrained_layout.use": True,
}


def images(x: np.ndarray, *, titles: Sequence[Any] | None = None, columns: int = 10, scale: float = 0.9) -> Figure:
    """Show images in a grid.

    Parameters
    ----------
    x : ndarray, shape (n, height, width) or (n, height, width, channels)
        Values in [0, 1]; others are clipped. One channel is drawn as ink on paper.
    titles : sequence, optional
        One short title for each image.
    columns : int
        At most so many images in a row.
    scale : float
        Width of one image in inches.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If `x` does not have the shape of images, the titles are not as many, or `columns` or `scale` is out of range.
    """
    x = _as_images(x)
    if titles is not None and len(titles) != len(x):
        raise ValueError(f"there are {len(titles)} titles for {len(x)} images; give one each")
    check_number(scale, "scale", 0, open_ends=True)
    columns = min(check_size(columns, "columns"), len(x))
    rows = -(-len(x) // columns)
    height = scale + (0.25 if titles is not None else 0)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(rows, columns, figsize=(scale * columns, height * rows), squeeze=False)
        for i, ax in enumerate(axes.flat):
            ax.axis("off")
            if i < len(x):
                ax.imshow(x[i], vmin=0, vmax=1)
                if titles is not None:
                    ax.set_title(str(titles[i]))
    return _done(figure)


def image_rows(rows: Mapping[str, np.ndarray], *, titles: Sequence[Any] | None = None, scale: float = 0.9) -> Figure:
    """Show rows of images under one another, each with its name: originals, reconstructions, changes.

    Parameters
    ----------
    rows : mapping of str to ndarray, each of shape (n, height, width) or (n, height, width, channels)
        As many images in each row.
    titles : sequence, optional
        One short title for each column.
    scale : float
        Width of one image in inches.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is no row, a row does not have the shape of images or as many of them as the first, the titles are not
        as many, or `scale` is not above 0.
    """
    check_number(scale, "scale", 0, open_ends=True)
    if not rows:
        raise ValueError("rows is empty; give at least one named row of images")
    checked = {name: _as_images(x) for name, x in rows.items()}
    n = len(next(iter(checked.values())))
    for name, x in checked.items():
        if len(x) != n:
            raise ValueError(f"row {name!r} has {len(x)} images and the first row has {n}; they must be as many")
    if titles is not None and len(titles) != n:
        raise ValueError(f"there are {len(titles)} titles for {n} columns; give one each")
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(len(checked), n, figsize=(scale * n + 1.6, scale * len(checked)), squeeze=False)
        for (name, x), line in zip(checked.items(), axes, strict=True):
            for image, ax in zip(x, line, strict=True):
                ax.imshow(image, vmin=0, vmax=1)
                ax.set(xticks=[], yticks=[])
                ax.spines[:].set_visible(False)
            line[0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=8)
        for ax, title in zip(axes[0], titles or (), strict=False):
            ax.set_title(str(title))
    return _done(figure)


def curves(
    x: Sequence[float] | np.ndarray,
    ys: Mapping[str, Sequence[float] | np.ndarray],
    *,
    xlabel: str,
    ylabel: str,
    title: str = "",
    log_x: bool = False,
    log_y: bool = False,
    dashed: Sequence[str] = (),
) -> Figure:
    """Draw named curves over the same `x`, with a marker at each point.

    The names stand at the ends of the curves if they are few and the ends far enough apart, or else in a legend; a
    single curve has none.

    Parameters
    ----------
    x : sequence of float
    ys : mapping of str to sequence of float
        Each as long as `x`, or of shape ``(len(x), repeats)``: then the mean is drawn over a band from the smallest to
        the largest.
    xlabel, ylabel, title : str
    log_x, log_y : bool
    dashed : sequence of str
        Names of the curves that others are compared with: drawn in grey, dashed and without markers.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is no curve, one is not a sequence as long as `x`, or `dashed` names none of them.
    """
    x, several = _checked_curves(x, ys)
    for name in dashed:
        if name not in several:
            raise ValueError(f"dashed names {name!r}, which is no curve; the curves are {', '.join(several)}")
    colours, markers, dashes = _colours(several), cycle(MARKERS), cycle(DASHES)
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(8, 3.6))
        lines = []
        for name, y in several.items():
            if name in dashed:
                style = {"color": GREY, "linestyle": next(dashes), "linewidth": 1.5, "zorder": 1.5}
            else:
                style = {"color": colours[name], "marker": next(markers), "markersize": 5 if len(x) < 40 else 0}
            if y.ndim == 2:
                ax.fill_between(x, y.min(axis=1), y.max(axis=1), color=style["color"], alpha=0.2, linewidth=0)
                y = y.mean(axis=1)
            lines += ax.plot(x, y, label=name, **style)
        ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
        _log(ax, log_x, log_y)
        if log_x and len(x) < 12:
            ax.set_xticks(list(x), [_plain(value) for value in x])
        if len(lines) > 1 and not _label_ends(ax, lines):
            _legend_beside(ax)
    return _done(figure)


def _colours(names: Iterable[str]) -> dict[str, str]:
    """Return a colour for each name: its method's, or else the next one that none of them has."""
    methods = {name: next((METHODS[m] for m in METHODS if name.startswith(m)), None) for name in names}
    taken = set()
    for name, colour in methods.items():  # of two names of one method, the second is drawn in another colour
        if colour in taken and colour != GREY:
            methods[name] = None
        taken.add(colour)
    free = cycle([colour for colour in COLOURS if colour not in taken] or COLOURS)
    return {name: colour or next(free) for name, colour in methods.items()}


def _checked_curves(x: Any, ys: Mapping[str, Any]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return `x` and the curves as arrays, if each of them has a value, or repeats of it, for each `x`."""
    if not ys:
        raise ValueError("ys is empty; give at least one named curve")
    x = np.asarray(x, dtype=float)
    if x.ndim != 1 or len(x) == 0:
        raise ValueError(f"x has shape {x.shape}; give a sequence of numbers, at least one")
    checked = {name: np.asarray(y, dtype=float) for name, y in ys.items()}
    for name, y in checked.items():
        if y.ndim not in (1, 2) or y.size == 0:
            raise ValueError(
                f"curve {name!r} has shape {y.shape}; give one value for each x, ({len(x)},), or ({len(x)}, repeats). "
                f"A constant is [value] * {len(x)}."
            )
        if len(y) != len(x):
            raise ValueError(f"curve {name!r} has {len(y)} points and x has {len(x)}; they must be as many")
    return x, checked


def histories(
    runs: Mapping[str, Any], *, metric: str = "loss", ylabel: str = "loss", title: str = "", log_y: bool = False
) -> Figure:
    """Draw losses by epoch: a full line on training data and, where there is one, a dashed line on held-out data.

    Parameters
    ----------
    runs : mapping of str to keras.callbacks.History or dict
        Named runs; a dict maps ``"loss"`` and ``"val_loss"`` to lists.
    metric, ylabel, title : str
    log_y : bool

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is no run, or one does not hold `metric`.
    """
    if not runs:
        raise ValueError("runs is empty; give at least one named run")
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(8, 3.6))
        dashed = False
        for name, colour in _colours(runs).items():
            run = runs[name]
            logs = getattr(run, "history", run)
            if metric not in logs:
                raise ValueError(f"run {name!r} holds no {metric!r}; it holds {', '.join(logs) or 'nothing'}")
            ax.plot(np.arange(1, len(logs[metric]) + 1), logs[metric], color=colour, label=name)
            if f"val_{metric}" in logs:
                held_out = logs[f"val_{metric}"]
                ax.plot(np.arange(1, len(held_out) + 1), held_out, color=colour, linestyle="--")
                dashed = True
        if dashed:
            ax.plot([], [], color=GREY, linestyle="--", label="held out")
        ax.set(xlabel="epoch", ylabel=ylabel, title=title)
        ax.xaxis.get_major_locator().set_params(integer=True)
        _log(ax, False, log_y)
        if dashed or len(runs) > 1:
            _legend_beside(ax)
    return _done(figure)


def dots(
    rows: Mapping[str, Sequence[float] | np.ndarray],
    *,
    xlabel: str,
    title: str = "",
    log_x: bool = False,
    baselines: Mapping[str, float] | None = None,
    estimator: Literal["mean", "median"] = "mean",
) -> Figure:
    """Compare named results, each from several repeats: one row of points for each name, with a bar at its mean.

    Parameters
    ----------
    rows : mapping of str to sequence of float
        The repeats of each result, such as one for each seed; they need not be as many in each row.
    xlabel, title : str
    log_x : bool
    baselines : mapping of str to float, optional
        What the results are compared with: grey dashed lines across all rows.
    estimator : {"mean", "median"}
        Where a row's bar stands; the x-axis says which, as "(bar: mean)", if any row has more than one repeat.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is no row, a row is not a sequence of finite numbers, or `estimator` is neither of the two.
    """
    if not rows:
        raise ValueError("rows is empty; give at least one named result")
    if estimator not in ("mean", "median"):
        raise ValueError(f"estimator is {estimator!r}; give 'mean' or 'median'")
    repeats = {name: np.atleast_1d(np.asarray(values, dtype=float)) for name, values in rows.items()}
    for name, values in repeats.items():
        if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
            raise ValueError(f"row {name!r} must be a sequence of finite numbers, one per repeat; got {rows[name]!r}")
    middle = np.mean if estimator == "mean" else np.median
    if any(len(values) > 1 for values in repeats.values()):
        xlabel = f"{xlabel} (bar: {estimator})"
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(8, 0.42 * len(repeats) + 1.1))
        for y, (name, colour) in enumerate(_colours(repeats).items()):
            ax.scatter(repeats[name], [y] * len(repeats[name]), s=22, color=colour, alpha=0.45, linewidths=0)
            ax.scatter(middle(repeats[name]), y, s=130, marker="|", color=colour, linewidths=3)
        for (name, value), dash in zip((baselines or {}).items(), cycle(DASHES), strict=False):
            ax.axvline(value, color=GREY, linestyle=dash, linewidth=1.5, zorder=0)
            place = {"xycoords": ax.get_xaxis_transform(), "xytext": (0, 3), "textcoords": "offset points"}
            ax.annotate(name, (value, 1), ha="center", color=GREY, **place)
        ax.set(xlabel=xlabel, yticks=range(len(repeats)), yticklabels=list(repeats))
        ax.set_title(title, pad=20 if baselines and title else None)
        ax.grid(axis="y", color="#E6E6E6", linewidth=1)
        ax.set_axisbelow(True)
        ax.tick_params(axis="y", length=0)
        ax.invert_yaxis()
        _log(ax, log_x, False)
    return _done(figure)


def code_scatter(
    z: np.ndarray,
    labels: np.ndarray,
    *,
    names: Sequence[str] | None = None,
    xlabel: str = "code unit 0",
    ylabel: str = "code unit 1",
    title: str = "",
) -> Figure:
    """Draw two-dimensional codes as points, one colour and marker for each class.

    Parameters
    ----------
    z : ndarray, shape (n, 2)
    labels : ndarray of int, shape (n,)
        Of classes, or of clusters: then -1 is noise, drawn in grey.
    names : sequence of str, optional
        Name of each label from 0, drawn at the middle of its points, or just above or below if another stands there.
    xlabel, ylabel, title : str

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If `z` is not two-dimensional codes, the labels are not as many, or one of them has no name.
    """
    z, labels = np.asarray(z), np.asarray(labels)
    if z.ndim != 2 or z.shape[1] != 2 or labels.shape != (len(z),):
        raise ValueError(
            f"z has shape {z.shape} and labels {labels.shape}; give (n, 2) and (n,). Project longer codes first."
        )
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(8, 6))
        noise = labels == -1 if labels.dtype.kind in "if" else np.zeros(len(z), bool)
        if noise.any():
            ax.scatter(*z[noise].T, s=10, color="#B0B0B0", linewidths=0, label="noise")
            _legend_beside(ax)
        for i, label in enumerate(np.unique(labels[~noise])):
            rows = labels == label
            name = str(label) if names is None else _name_of_label(label, names)
            colour = COLOURS[i % 10]
            ax.scatter(*z[rows].T, s=14, marker=MARKERS[i % 10], color=colour, alpha=0.7, linewidths=0)
            # The class's name at its middle, so that no reader depends on colour alone.
            box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": colour}
            ax.text(*np.median(z[rows], axis=0), name, ha="center", va="center", weight="bold", bbox=box)
        ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
        push_apart(figure, ax)
    return _done(figure)


def push_apart(figure: Figure, ax: Axes) -> None:
    """Move the texts of `ax` that lie on one another up and down until each can be read.

    Parameters
    ----------
    figure : Figure
        Of `ax`, complete but for this.
    ax : Axes
        With linear axes and texts in the coordinates of its data.
    """
    figure.draw_without_rendering()  # the layout, and so the places of the texts in pixels, is settled here
    start = [text.get_window_extent().padded(4) for text in ax.texts]
    boxes = list(start)
    for _ in range(100):
        for i, j in combinations(range(len(boxes)), 2):
            if boxes[i].overlaps(boxes[j]):
                low, high = (i, j) if boxes[i].y0 <= boxes[j].y0 else (j, i)
                half = (boxes[low].y1 - boxes[high].y0) / 2 + 0.5
                boxes[low], boxes[high] = boxes[low].translated(0, -half), boxes[high].translated(0, half)
    for text, box, before in zip(ax.texts, boxes, start, strict=True):
        x, y = ax.transData.transform(text.get_position())
        text.set_position(tuple(ax.transData.inverted().transform((x, y + box.y0 - before.y0))))


def _name_of_label(label: Any, names: Sequence[str]) -> str:
    if not isinstance(label, int | np.integer) or not 0 <= label < len(names):
        raise ValueError(f"label {label} has no name; {len(names)} names stand for the labels 0 to {len(names) - 1}")
    return names[int(label)]


def heatmaps(
    image: np.ndarray, maps: Mapping[str, np.ndarray], *, signed: bool = True, label: str = "", scale: float = 2.2
) -> Figure:
    """Show an image and, beside it, maps of one value for each of its pixels.

    Parameters
    ----------
    image : ndarray, shape (height, width) or (height, width, channels)
    maps : mapping of str to ndarray
        Each of the shape of the image, or of its height and width alone; channels are summed. All share one scale, so
        that they can be compared.
    signed : bool
        Whether zero is the middle of the colours (blue below, red above) or their end.
    label : str
        What the colours mean, and in which unit.
    scale : float
        Width of one picture in inches.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is no map, or one does not have the shape of the image or is not finite.
    """
    given = np.shape(image)
    image = _as_images(np.asarray(image)[np.newaxis])[0]
    flat = {}
    for name, values in maps.items():
        values = np.asarray(values, dtype=float)
        if values.ndim not in (2, 3) or values.shape[:2] != image.shape[:2]:
            raise ValueError(
                f"map {name!r} has shape {values.shape} and the image {given}; give one value for each pixel, "
                f"{image.shape[:2]}, or one for each channel too. Of a batch of maps, take one: values[0]."
            )
        _check_drawn(values, f"map {name!r}")
        flat[name] = values.sum(axis=-1) if values.ndim == 3 else values
    if not flat:
        raise ValueError("maps is empty; give at least one named map")
    limit = max(np.abs(values).max() for values in flat.values()) or 1.0
    colours = {"cmap": "RdBu_r" if signed else "magma_r", "vmin": -limit if signed else 0, "vmax": limit}
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(flat) + 1, figsize=(scale * (len(flat) + 1) + 0.6, scale + 0.3))
        axes[0].imshow(image, vmin=0, vmax=1)
        axes[0].set_title("input")
        for ax, (name, values) in zip(axes[1:], flat.items(), strict=True):
            shown = ax.imshow(values, **colours)
            ax.contour(image.mean(axis=-1) if image.ndim == 3 else image, [0.5], colors="#444444", linewidths=0.6)
            ax.set_title(name)
        for ax in axes:
            ax.axis("off")
        figure.colorbar(shown, ax=axes[-1], label=label, fraction=0.05)
    return _done(figure)


def maps(
    values: np.ndarray,
    *,
    titles: Sequence[Any] | None = None,
    columns: int = 10,
    shared: bool = False,
    label: str = "",
    scale: float = 1.0,
) -> Figure:
    """Show signed maps in a grid, zero in the middle of the colours: filters, atoms, derivatives.

    Parameters
    ----------
    values : ndarray, shape (n, height, width) or (n, height, width, 1)
    titles : sequence, optional
        One short title for each map.
    columns : int
    shared : bool
        Whether all maps have one scale, which the colour bar shows, or each its own, which shows shapes and no sizes.
    label : str
        What the colours mean, and in which unit; for a shared scale.
    scale : float
        Width of one map in inches.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If `values` does not have the shape of maps or is not finite, the titles are not as many, or `columns` or
        `scale` is out of range.
    """
    values = np.asarray(values, dtype=float)
    values = values[..., 0] if values.ndim == 4 and values.shape[-1] == 1 else values
    if values.ndim != 3 or len(values) == 0:
        raise ValueError(f"maps must have shape (n, height, width) or (n, height, width, 1); got {values.shape}")
    if titles is not None and len(titles) != len(values):
        raise ValueError(f"there are {len(titles)} titles for {len(values)} maps; give one each")
    _check_drawn(values, "values")
    check_number(scale, "scale", 0, open_ends=True)
    limits = np.abs(values).max(axis=(1, 2))
    if shared:
        limits = np.full_like(limits, limits.max())
    columns = min(check_size(columns, "columns"), len(values))
    rows = -(-len(values) // columns)
    height = scale + (0.25 if titles is not None else 0)
    with plt.rc_context(STYLE):
        size = (scale * columns + (1.0 if shared else 0), height * rows)
        figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
        for i, ax in enumerate(axes.flat):
            ax.axis("off")
            if i < len(values):
                limit = limits[i] or 1.0
                shown = ax.imshow(values[i], cmap="RdBu_r", vmin=-limit, vmax=limit)
                if titles is not None:
                    ax.set_title(str(titles[i]))
        if shared:
            figure.colorbar(shown, ax=axes, label=label, fraction=0.05)
    return _done(figure)


def card(found: Any, x: np.ndarray, *, factor_names: Sequence[str] | None = None) -> Figure:
    """Draw what `tfae.dictionary.card` found of one feature: its samples, what it does, whom it knows, what is open.

    Parameters
    ----------
    found : tfae.dictionary.Card
    x : ndarray, shape (n, height, width) or (n, height, width, channels)
        The samples that the card was made from.
    factor_names : sequence of str, optional
        Name of each factor of the card.

    Returns
    -------
    Figure
    """
    top = _as_images(np.asarray(x)[found.top])
    bars = {"effect on each output": found.effect} if np.ndim(found.effect) == 1 else {}
    bars |= {} if found.classes is None else {"share of each class": found.classes}
    bars |= {} if found.factors is None else {"correlation with factors": found.factors}
    pictures = [] if "effect on each output" in bars else [found.effect]
    columns = len(bars) + len(pictures)
    with plt.rc_context(STYLE):
        height = max(2.6, 1.2 + 0.17 * max(map(len, bars.values()), default=0))  # a line for each name
        figure = plt.figure(figsize=(9, 1.8 + height))
        above, below = figure.subfigures(2, 1, height_ratios=(1.8, height))
        for i, ax in enumerate(above.subplots(1, max(len(top), 8))):
            ax.axis("off")
            if i < len(top):
                ax.imshow(top[i], vmin=0, vmax=1)
                ax.set_title(f"{found.strengths[i]:.1f}")
        axes = below.subplots(1, columns, squeeze=False)[0]
        for ax, (title, values) in zip(axes, bars.items(), strict=False):
            names = factor_names if title.startswith("corr") and factor_names is not None else range(len(values))
            ax.barh(range(len(values)), values, color=COLOURS[0])
            ax.set(yticks=range(len(values)), yticklabels=list(names), title=title)
            ax.invert_yaxis()
        for ax, picture in zip(axes[len(bars) :], pictures, strict=True):
            shown = np.asarray(picture, dtype=float)
            shown = shown.reshape(shown.shape[:2]) if shown.ndim == 3 and shown.shape[2] == 1 else shown
            limit = np.abs(shown).max() or 1.0
            ax.imshow(shown if shown.ndim == 2 else shown.mean(axis=-1), cmap="RdBu_r", vmin=-limit, vmax=limit)
            ax.set_title("what it adds to the output")
            ax.axis("off")
        twin = ""
        if found.twin is not None:
            twin = f" · nearest in the other dictionary: {found.twin}, cosine {found.twin_cosine:.2f}"
        figure.suptitle(f"feature {found.feature} · fires for {found.fires:.1%} of the samples{twin}")
        below.supxlabel(f"not known: {'; '.join(found.unknown)}", fontsize=11, color=GREY)
    return _done(figure)


def _as_images(x: np.ndarray) -> np.ndarray:
    """Return `x` as ``(n, height, width)`` or ``(n, height, width, 3)``."""
    x = np.asarray(x)
    if x.ndim == 4 and x.shape[-1] == 1:
        x = x[..., 0]
    if x.size == 0 or not (x.ndim == 3 or (x.ndim == 4 and x.shape[-1] in (3, 4))):
        raise ValueError(f"images must have shape (n, height, width) or (n, height, width, channels); got {x.shape}")
    return np.clip(x, 0, 1)


def _check_drawn(values: np.ndarray, name: str) -> None:
    """Raise if a map holds NaN or infinity, which leaves holes and takes the scale from all others."""
    bad = int(np.sum(~np.isfinite(values)))
    if bad:
        raise ValueError(f"{name} holds NaN or infinity: {bad} of {values.size} values; remove or replace them")


def _legend_beside(ax: Axes) -> None:
    """Put the legend to the right of the curves, where it covers none."""
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def _label_ends(ax: Axes, lines: Sequence[Line2D]) -> bool:
    """Write the name of each curve beside its end, if they are few and none needs to stand far from it."""
    x = np.asarray(lines[0].get_xdata())
    ends = np.array([np.asarray(line.get_ydata())[x.argmax()] for line in lines])
    drawable = np.isfinite(ends) & ((ends > 0) | (ax.get_yscale() == "linear"))
    if len(lines) > MOST_LABELS or not drawable.all():
        return False
    ax.autoscale_view()  # matplotlib puts it off until it draws
    points = ax.transData.transform(np.column_stack([np.full(len(ends), x.max()), ends]))[:, 1] / ax.figure.dpi * 72
    order, apart = np.argsort(points, kind="stable"), LABEL_GAP * np.arange(len(lines))
    # The places nearest to the ends, in the mean square, of which each is at least a gap above the one before.
    shifts = np.empty(len(lines))
    shifts[order] = isotonic_regression(points[order] - apart).x + apart - points[order]
    if np.abs(shifts).max() > LABEL_SHIFT:
        return False
    for line, end, shift in zip(lines, ends, shifts, strict=True):
        ax.annotate(
            str(line.get_label()), (1, end), xycoords=ax.get_yaxis_transform(), xytext=(4, shift),
            textcoords="offset points", va="center", color=line.get_color(), annotation_clip=False,
        )  # fmt: skip
    return True


def _log(ax: Axes, log_x: bool, log_y: bool) -> None:
    """Make axes logarithmic, with ticks that read as numbers: 0.02, 0.05, 0.1."""
    if log_x:
        ax.set_xscale("log")
        _plain_ticks(ax.xaxis)
    if log_y:
        ax.set_yscale("log")
        _plain_ticks(ax.yaxis)


def _plain_ticks(axis: Axis) -> None:
    low, high = axis.get_view_interval()
    if low < 2e-5 or high >= 1e6:
        return  # powers of ten are easier to read than so many zeros
    decades = np.log10(high / low)
    if decades < 0.9:
        axis.set_major_locator(MaxNLocator(5))
    else:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2.5 else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _plain(value)))
    axis.set_minor_locator(NullLocator())


def _plain(value: float) -> str:
    return f"{value:,.6g}" if abs(value) >= 1e-4 else f"{value:.5f}".rstrip("0").rstrip(".")


def _done(figure: Figure) -> Figure:
    """Leave the figure to the caller alone: pyplot would show it a second time at the end of a notebook cell."""
    plt.close(figure)
    return figure
