"""Figures for the chapters: arrays in, a matplotlib `Figure` out, one style (chapter 00).

A figure that ends a notebook cell is shown; in a script, use ``figure.savefig("name.png")``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette: distinct for readers with any colour vision, and in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D1F", "#7F7F7F", "#6A3D9A")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")

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


def images(x: np.ndarray, titles: Sequence[Any] | None = None, *, columns: int = 10, scale: float = 0.9) -> Figure:
    """Show images in a grid.

    Parameters
    ----------
    x : ndarray, shape (n, height, width) or (n, height, width, channels)
        Values in [0, 1]; others are clipped. One channel is drawn as ink on paper.
    titles : sequence, optional
        One short title for each image.
    columns : int
    scale : float
        Width of one image in inches.

    Raises
    ------
    ValueError
        If `x` does not have the shape of images, or the titles are not as many.
    """
    x = _as_images(x)
    if titles is not None and len(titles) != len(x):
        raise ValueError(f"there are {len(titles)} titles for {len(x)} images; give one each")
    columns = min(columns, len(x))
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


def image_rows(rows: Mapping[str, np.ndarray], *, scale: float = 0.9) -> Figure:
    """Show rows of images under one another, each with its name: originals, reconstructions, changes.

    Parameters
    ----------
    rows : mapping of str to ndarray, each of shape (n, height, width) or (n, height, width, channels)
        As many images in each row.
    scale : float
        Width of one image in inches.

    Raises
    ------
    ValueError
        If there is no row, or a row does not have the shape of images or as many of them as the first.
    """
    if not rows:
        raise ValueError("rows is empty; give at least one named row of images")
    checked = {name: _as_images(x) for name, x in rows.items()}
    n = len(next(iter(checked.values())))
    for name, x in checked.items():
        if len(x) != n:
            raise ValueError(f"row {name!r} has {len(x)} images and the first row has {n}; they must be as many")
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(len(checked), n, figsize=(scale * n + 1.6, scale * len(checked)), squeeze=False)
        for (name, x), line in zip(checked.items(), axes, strict=True):
            for image, ax in zip(x, line, strict=True):
                ax.imshow(image, vmin=0, vmax=1)
                ax.set(xticks=[], yticks=[])
                ax.spines[:].set_visible(False)
            line[0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=8)
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
) -> Figure:
    """Draw named curves over the same `x`, with a marker at each point.

    Parameters
    ----------
    x : sequence of float
    ys : mapping of str to sequence of float
        Each as long as `x`, or of shape ``(len(x), repeats)``: then the mean is drawn over a band from the smallest to
        the largest.
    xlabel, ylabel, title : str
    log_x, log_y : bool

    Raises
    ------
    ValueError
        If there is no curve, or one is not as long as `x`.
    """
    if not ys:
        raise ValueError("ys is empty; give at least one named curve")
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(8, 3.6))
        for (name, values), colour, marker in zip(ys.items(), _cycle(COLOURS), _cycle(MARKERS), strict=False):
            y = np.asarray(values, dtype=float)
            if len(y) != len(x):
                raise ValueError(f"curve {name!r} has {len(y)} points and x has {len(x)}; they must be as many")
            if y.ndim == 2:
                ax.fill_between(x, y.min(axis=1), y.max(axis=1), color=colour, alpha=0.2, linewidth=0)
                y = y.mean(axis=1)
            ax.plot(x, y, color=colour, marker=marker, markersize=5 if len(x) < 40 else 0, label=name)
        ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
        _log(ax, log_x, log_y)
        if log_x and len(x) < 12:
            ax.set_xticks(list(x), [f"{value:g}" for value in x])
            ax.xaxis.set_minor_locator(plt.NullLocator())
        _legend_beside(ax)
    return _done(figure)


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

    Raises
    ------
    ValueError
        If a run does not hold `metric`.
    """
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(8, 3.6))
        dashed = False
        for (name, run), colour in zip(runs.items(), _cycle(COLOURS), strict=False):
            logs = getattr(run, "history", run)
            if metric not in logs:
                raise ValueError(f"run {name!r} holds no {metric!r}; it holds {', '.join(logs) or 'nothing'}")
            ax.plot(np.arange(1, len(logs[metric]) + 1), logs[metric], color=colour, label=name)
            if f"val_{metric}" in logs:
                held_out = logs[f"val_{metric}"]
                ax.plot(np.arange(1, len(held_out) + 1), held_out, color=colour, linestyle="--")
                dashed = True
        if dashed:
            ax.plot([], [], color="#555555", linestyle="--", label="held out")
        ax.set(xlabel="epoch", ylabel=ylabel, title=title)
        ax.xaxis.get_major_locator().set_params(integer=True)
        _log(ax, False, log_y)
        _legend_beside(ax)
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
    names : sequence of str, optional
        Name of each label, drawn at the middle of its points.
    xlabel, ylabel, title : str

    Raises
    ------
    ValueError
        If `z` is not two-dimensional codes, or the labels are not as many.
    """
    z, labels = np.asarray(z), np.asarray(labels)
    if z.ndim != 2 or z.shape[1] != 2 or labels.shape != (len(z),):
        raise ValueError(
            f"z has shape {z.shape} and labels {labels.shape}; give (n, 2) and (n,). Project longer codes first."
        )
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(6.4, 5))
        for i, label in enumerate(np.unique(labels)):
            rows = labels == label
            name = names[int(label)] if names is not None else str(label)
            colour = COLOURS[i % 10]
            ax.scatter(*z[rows].T, s=14, marker=MARKERS[i % 10], color=colour, alpha=0.7, linewidths=0)
            # The class's name at its middle, so that no reader depends on colour alone.
            box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": colour}
            ax.text(*np.median(z[rows], axis=0), name, ha="center", va="center", weight="bold", bbox=box)
        ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    return _done(figure)


def heatmaps(
    x: np.ndarray, maps: Mapping[str, np.ndarray], *, signed: bool = True, label: str = "", scale: float = 2.2
) -> Figure:
    """Show an image and, beside it, maps of one value for each of its pixels.

    Parameters
    ----------
    x : ndarray, shape (height, width) or (height, width, channels)
    maps : mapping of str to ndarray
        Each of the shape of `x`; channels are summed. All share one scale, so that they can be compared.
    signed : bool
        Whether zero is the middle of the colours (blue below, red above) or their end.
    label : str
        What the colours mean, and in which unit.
    scale : float
        Width of one picture in inches.

    Raises
    ------
    ValueError
        If there is no map, or one does not have the shape of the image.
    """
    image = _as_images(np.asarray(x)[np.newaxis])[0]
    flat = {}
    for name, values in maps.items():
        values = np.asarray(values, dtype=float)
        if values.shape[:2] != image.shape[:2]:
            raise ValueError(f"map {name!r} has shape {values.shape} and the image {np.shape(x)}; they must agree")
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
    titles: Sequence[Any] | None = None,
    *,
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

    Raises
    ------
    ValueError
        If `values` does not have the shape of maps, or the titles are not as many.
    """
    values = np.asarray(values, dtype=float)
    values = values[..., 0] if values.ndim == 4 and values.shape[-1] == 1 else values
    if values.ndim != 3 or len(values) == 0:
        raise ValueError(f"maps must have shape (n, height, width) or (n, height, width, 1); got {values.shape}")
    if titles is not None and len(titles) != len(values):
        raise ValueError(f"there are {len(titles)} titles for {len(values)} maps; give one each")
    limits = np.abs(values).max(axis=(1, 2))
    if shared:
        limits = np.full_like(limits, limits.max())
    columns = min(columns, len(values))
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


def _as_images(x: np.ndarray) -> np.ndarray:
    """Return `x` as ``(n, height, width)`` or ``(n, height, width, 3)``."""
    x = np.asarray(x)
    if x.ndim == 4 and x.shape[-1] == 1:
        x = x[..., 0]
    if len(x) == 0 or not (x.ndim == 3 or (x.ndim == 4 and x.shape[-1] in (3, 4))):
        raise ValueError(f"images must have shape (n, height, width) or (n, height, width, channels); got {x.shape}")
    return np.clip(x, 0, 1)


def _legend_beside(ax: Axes) -> None:
    """Put the legend to the right of the curves, where it covers none."""
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def _log(ax: Axes, log_x: bool, log_y: bool) -> None:
    if log_x:
        ax.set_xscale("log")
    if log_y:
        ax.set_yscale("log")


def _cycle(values: Sequence[str]) -> Sequence[str]:
    return tuple(values) * 10


def _done(figure: Figure) -> Figure:
    """Leave the figure to the caller alone: pyplot would show it a second time at the end of a notebook cell."""
    plt.close(figure)
    return figure
