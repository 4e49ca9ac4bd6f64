"""One page about any model: errors beside baselines, explanations beside controls, where it is weak (chapter 11).

`write` makes one HTML file that needs no other, of what `tfae.audit` measures. Every error stands beside that of a
plain baseline, and every explanation beside maps that know nothing of the model. Of what a model and its data cannot
tell, such as what it is for, the page says that nobody has told. Its sections are those of a model card [1]_, under the
names that model hubs use.

>>> write(model, data.load("strokes"), "strokes.html")  # doctest: +SKIP

For a model file and an ``.npz`` archive with ``x_train``, ``x_test`` and, for all but autoencoders, ``y_train`` and
``y_test``: ``python -m tfae.report model.keras data.npz -o page.html``.

References
----------
.. [1] M. Mitchell et al., "Model cards for model reporting", FAT* 2019, arXiv:1810.03993.
"""

import argparse
import base64
import hashlib
import io
import platform
import sys
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import keras
import numpy as np
import sklearn
import tensorflow as tf
from matplotlib.figure import Figure

import tfae
from tfae import plot
from tfae.audit import (
    LEAST,
    MEASURES,
    MOST,
    Explanations,
    Findings,
    beyond_chance,
    examine,
    is_image,
    layers_of,
    standard_error,
)
from tfae.data import digest
from tfae.files import written_whole


def write(model: Any, dataset: Any, path: str | Path, *, uses: str = "", seed: int = 0) -> None:
    """Write one self-contained HTML page about a model: what it does, how well, why, and where it is weak.

    Parameters
    ----------
    model : keras.Layer
        An autoencoder, a classifier or a regression, as `tfae.audit.examine` takes it.
    dataset : tfae.data.Dataset, or mapping of str to array
        As `tfae.audit.examine` takes it.
    path : str or Path
        Of the page. The same model and data give the same page.
    uses : str
        What the model is for, in the words of those who made it.
    seed : int
        Of the samples that are explained, of controls and of noise.

    Raises
    ------
    ValueError
        As in `tfae.audit.examine`.
    OSError
        If the page cannot be written. In either case no file is left, and an older page stays as it was.
    """
    with written_whole(path) as temporary:  # first of all: a folder that cannot be written fails before the work
        found = examine(model, dataset, seed=seed)
        temporary.write_text(_page(model, found, uses, seed), encoding="utf-8")


# --- the sections ----------------------------------------------------------------------------------------------------


def _page(model: Any, found: Findings, uses: str, seed: int) -> str:
    name = getattr(model, "name", type(model).__name__)
    kind = f"{'An' if found.kind[0] in 'aeiou' else 'A'} {found.kind}"
    sections = {
        "Model details": _details(model, found),
        "Uses": _uses(found, uses),
        "Bias, risks and limitations": _weaknesses(found),
        "Training details": _training(model, found),
        "Evaluation": _evaluation(found),
        "Model examination": _examination(found),
        "Technical specifications": _specifications(model, found, seed),
    }
    return (
        f"<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'><title>{escape(name)}</title>"
        f"<meta name='viewport' content='width=device-width'><style>{STYLE}</style></head>\n<body>\n"
        f"<h1>{escape(name)}</h1><p class='about'>{kind}, measured on <b>{escape(found.name)}</b></p>\n"
        f"<ul class='short'>{''.join(f'<li>{line}</li>' for line in _summary(found))}</ul>\n"
        + "".join(f"<h2>{title}</h2>\n{content}" for title, content in sections.items())
        + "</body></html>\n"
    )


def _summary(found: Findings) -> list[str]:
    weak, lost = beyond_chance(found.slices), found.not_beaten
    moved = next(iter(found.drift.values()))[1] < 0.05
    errors = [f"{escape(name)} {_with_error(errors)}" for name, errors in found.errors.items()]
    lines = [
        f"Held-out {found.unit}: <b>{errors[0]}</b>; {'; '.join(errors[1:])}.",
        f"<b>No better than</b> {escape(' or '.join(lost))}." if lost else "It beats every baseline.",
        f"Slices of the held-out data that are weaker than chance makes them: <b>{len(weak)}</b> of {len(found.slices)}"
        + (f"; the weakest is <b>{escape(weak[0].name)}</b>, {_with_error(weak[0].errors)}." if weak else "."),
        f"The codes of held-out data <b>{'differ' if moved else 'do not measurably differ'}</b> from those of training "
        f"data.",
    ]
    if isinstance(found.explanations, str):
        return [*lines, f"It could <b>not be explained</b>: {escape(found.explanations)}."]
    failures = len(found.explanations.failures)
    return [*lines, f"Its explanations fail <b>{failures or 'none'}</b> of the tests below."]


def _details(model: Any, found: Findings) -> str:
    n, x = sum(int(np.prod(weight.shape)) for weight in model.weights), found.data["x_test"]
    return _paragraph(
        f"A <code>{escape(type(model).__name__)}</code> with {n:,} weights. It takes samples of shape {x.shape[1:]} "
        f"and returns {tuple(model(x[:1], training=False).shape[1:])}. On the way, {escape(found.code)} has "
        f"{found.code_size:,} numbers for a sample."
    )


def _uses(found: Findings, uses: str) -> str:
    x = found.data["x_train"]
    return _paragraph(escape(uses) if uses else "Nobody has told what this model is for.") + _paragraph(
        f"Out of scope is what differs from the data of this page: samples of shape {x.shape[1:]} with values from "
        f"{_range(x)}. Of others it says nothing."
    )


def _weaknesses(found: Findings) -> str:
    weak, mean = beyond_chance(found.slices), found.errors["this model"].mean()
    rows = [
        [_marked(part.name, any(part is other for other in weak)), f"{len(part.errors):,}", _with_error(part.errors),
         f"{part.errors.mean() / mean:.2f} ×" if mean > 0 else "—", f"{part.statistic:+.1f}".replace("-", "−")]
        for part in found.slices[:8]
    ]  # fmt: skip
    if not rows:
        return _paragraph("Nothing is known of the samples by which they could be sliced.")
    return _table(
        ["weakest slices", "samples", found.unit, "of the mean", "standard errors above the rest"],
        rows,
        f"The weakest of {len(found.slices)} slices with at least {LEAST // 2} samples. ✗: weaker than chance makes "
        f"any slice, but for one page in 20; after the errors are shuffled among the samples, {found.slices_by_chance} "
        f"look so. By what the data do not tell about a sample, nothing can be sliced.",
    )


def _training(model: Any, found: Findings) -> str:
    rows = []
    for name, part in (("training", "train"), ("held out", "test")):
        x, y = found.data[f"x_{part}"], found.data.get(f"y_{part}")
        spread = _rounded(x.mean(dtype="float64"), x.std(dtype="float64"))
        digests = ["none" if array is None else f"<code>{digest(array)[:12]}…</code>" for array in (x, y)]
        rows.append([name, f"{len(x):,}", _range(x), spread, *digests])
    seen = {sample.tobytes() for sample in found.data["x_train"]}
    copies = sum(sample.tobytes() in seen for sample in found.data["x_test"])
    optimizer, loss = getattr(model, "optimizer", None), getattr(model, "loss", None)
    how = "The model is not compiled, and so does not tell how it was trained."
    if optimizer is not None:
        named = loss if isinstance(loss, str) else getattr(loss, "name", None) or getattr(loss, "__name__", None)
        loss = f"the loss {named}" if named else "a loss of its own"
        how = f"Compiled with {type(optimizer).__name__} and {loss}. Models do not keep epochs and seeds."
    return _paragraph(escape(how)) + _table(
        ["data", "samples", "values", "mean ± deviation", "SHA-256 of x", "of y"], rows,
        f"Held-out samples that are training samples too, bit for bit: {_marked(f'{copies:,}', copies > 0)}.",
    )  # fmt: skip


def _evaluation(found: Findings) -> str:
    own = found.errors["this model"]
    rows = [[f"<b>{_with_error(own)}</b>" if i else "<b>this model</b>" for i in range(2)] + [""]]
    rows.append(["this model, on training data", _with_error(found.errors_train), ""])
    for name, errors in found.errors.items():
        if name != "this model":
            rows.append([_marked(name, name in found.not_beaten), _with_error(errors), _with_error(errors - own)])
    drift = [[escape(name), f"{distance:.3f}", f"{p:.2g}"] for name, (distance, p) in found.drift.items()]
    return (
        _table(
            ["held out", found.unit, "this model is better by"], rows,
            f"Means over {len(own):,} samples ± standard errors; differences are taken sample by sample. ✗: not beaten "
            f"by two standard errors. Baselines are fitted to {min(len(found.data['x_train']), MOST):,} training "
            f"samples.",
        )
        + _figures(_answers(found))
        + _table(
            ["drift of the codes", "largest distance", "p"], drift,
            f"Kolmogorov and Smirnov's distance, from 0 to 1, of the unit of {escape(found.code)} whose distribution "
            f"moves most, and its p-value times the number of units.",
        )
    )  # fmt: skip


def _answers(found: Findings) -> dict[str, Figure]:
    """Show what an autoencoder makes of typical and of its worst images, or what a classifier takes for another."""
    x, errors = found.data["x_test"], found.errors["this model"]
    order = np.argsort(errors, kind="stable")
    if is_image(x) and found.kind == "autoencoder":
        rows = np.append(order[len(order) // 2 :][:5], order[-5:])
        shown = {"held out": _shown(found, x[rows]), "returned": _shown(found, found.outputs[rows])}
        shown["difference"] = np.abs(shown["held out"] - shown["returned"])
        return {"Five samples with a middling error, and the five with the largest.": plot.image_rows(shown)}
    wrong = order[::-1][: min(10, np.count_nonzero(errors))]
    if not is_image(x) or found.kind != "classifier" or not len(wrong):
        return {}
    titles = [
        f"{_class(found, y)}\nnot {_class(found, said)}"
        for said, y in zip(found.outputs[wrong].argmax(axis=1), found.data["y_test"][wrong].astype(int), strict=True)
    ]
    figure = plot.images(_shown(found, x[wrong]), titles=titles, columns=5, scale=1.3)
    return {"Held-out samples that the model takes for another class: what they are, and what they are not.": figure}


def _class(found: Findings, label: int) -> str:
    return found.class_names[label] if label < len(found.class_names) else str(label)


def _shown(found: Findings, x: np.ndarray) -> np.ndarray:
    """Scale images to [0, 1] by the range of the training data."""
    low, high = found.data["x_train"].min(), found.data["x_train"].max()
    return np.clip((x - low) / ((high - low) or 1), 0, 1)


def _examination(found: Findings) -> str:
    explained = found.explanations
    if isinstance(explained, str):
        return _paragraph(f"No method could explain this model: {escape(explained)}.")
    rows = [
        [escape(name), *(_with_error(scores[measure]) if measure in scores else "—" for measure in MEASURES)]
        for name, scores in explained.scores.items()
    ]
    failures = "".join(f"<li>{_marked(line, True)}</li>" for line in explained.failures)
    return (
        _paragraph(f"What counts for {escape(explained.target)}, in {len(explained.x)} held-out samples:")
        + _table(
            ["map", *MEASURES], rows,
            "Means over the samples ± standard errors. Deletion: the mean of the target while features are replaced, "
            "the largest values first; the smaller the better, and no evidence unless smaller than the controls'. "
            "Change under noise: of the map, relative to its size, when each feature moves by at most a tenth of its "
            "deviation (of images, of its channel's). Alike: rank correlation of a map, without its signs, with that "
            "of the same network after its weights are shuffled; near 1 the map does not show what was learned.",
        )
        + (f"<ul class='failed'>{failures}</ul>\n" if failures else _paragraph("No test failed."))
        + _figures(_maps(found, explained))
    )  # fmt: skip


def _maps(found: Findings, explained: Explanations) -> dict[str, Figure]:
    if is_image(explained.x):
        figures = {}
        for i in range(min(3, len(explained.x))):
            summed = {name.replace(" ", "\n", 1): values[i].sum(axis=-1) for name, values in explained.maps.items()}
            shown = {name: values / (np.abs(values).max() or 1) for name, values in summed.items()}
            figure = plot.heatmaps(_shown(found, explained.x[i]), shown, scale=1.5)
            figures[f"Sample {i + 1}. Red counts for {explained.target}, blue against; each map has its own scale."] = (
                figure
            )
        return figures
    name, values = next(iter(explained.maps.items()))
    flat = values.reshape(len(values), -1)
    top = np.argsort(-np.abs(flat).mean(axis=0), kind="stable")[:10]
    known = len(found.feature_names) == flat.shape[1]
    rows = {found.feature_names[j] if known else f"feature {j}": flat[:, j] for j in top}
    figure = plot.dots(rows, xlabel=f"{name}, in units of the target")
    return {f"The features that count most for {explained.target}, a point for each sample.": figure}


def _specifications(model: Any, found: Findings, seed: int) -> str:
    weights = hashlib.sha256()
    for weight in model.weights:
        weights.update(np.ascontiguousarray(weight).tobytes())
    made = {
        "weights, SHA-256": f"<code>{weights.hexdigest()[:12]}…</code>", "seed of this page": str(seed),
        "tfae": tfae.__version__, "Keras": keras.__version__, "TensorFlow": tf.__version__, "NumPy": np.__version__,
        "scikit-learn": sklearn.__version__, "Python": platform.python_version(),
    }  # fmt: skip
    layers = [[escape(layer.name), str(shape)] for layer, shape in layers_of(model, found.data["x_test"])]
    return (
        _table(["made with", ""], list(map(list, made.items())))
        + f"<details><summary>Its layers</summary>{_table(['layer', 'returns'], layers)}</details>\n"
    )


# --- words, numbers and pictures in HTML -----------------------------------------------------------------------------

STYLE = """
body { font: 17px/1.55 Charter, "Bitstream Charter", "Iowan Old Style", Georgia, serif; color: #1d2329;
  background: #fff; max-width: 50rem; margin: 2.5rem auto; padding: 0 1.2rem; }
h1, h2, th, .about, figcaption, caption { font-family: "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 2rem; margin: 0; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; padding-top: .7rem; border-top: 2px solid #1d2329; }
.about { color: #5b6670; margin: .2rem 0 1.4rem; }
.short { background: #f3f6f9; border-left: 4px solid #0072b2; margin: 0; padding: .8rem 1rem .8rem 2rem; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; font-size: .82rem; }
td { text-align: right; border-bottom: 1px solid #e3e7eb; font-variant-numeric: tabular-nums; white-space: nowrap; }
th { text-align: right; border-bottom: 1px solid #1d2329; vertical-align: bottom; font-size: .78rem; }
th, td { padding: .32rem 0 .32rem .8rem; }
th:first-child, td:first-child { text-align: left; padding-left: 0; white-space: normal; }
caption, figcaption { caption-side: bottom; text-align: left; color: #5b6670; font-size: .8rem; line-height: 1.45; }
caption { padding-top: .5rem; }
figure { margin: 1.2rem 0; }
img { max-width: 100%; height: auto; }
.no { color: #b33a00; }
.failed { list-style: none; padding-left: 0; font-size: .92rem; }
code { font-size: .86em; }
@media print { h2 { break-after: avoid; } figure, tr { break-inside: avoid; } }
"""


def _paragraph(text: str) -> str:
    return f"<p>{text}</p>\n"


def _marked(text: str, failed: bool) -> str:
    return f"<span class='no'>✗ {escape(text)}</span>" if failed else escape(text)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    lines = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    below = f"<caption>{caption}</caption>" if caption else ""
    return f"<table>{below}<thead><tr>{head}</tr></thead>\n<tbody>{lines}</tbody></table>\n"


def _figures(figures: Mapping[str, Figure]) -> str:
    parts = []
    for caption, figure in figures.items():
        file, text = io.BytesIO(), escape(caption)
        figure.savefig(file, format="png", dpi=120, metadata={"Software": None})
        picture = base64.b64encode(file.getvalue()).decode()
        image = f'<img src="data:image/png;base64,{picture}" alt="{text}">'
        parts.append(f"<figure>{image}<figcaption>{text}</figcaption></figure>\n")
    return "".join(parts)


def _range(x: np.ndarray) -> str:
    return f"{x.min():,.4g} to {x.max():,.4g}".replace("-", "−")


def _with_error(values: np.ndarray) -> str:
    return _rounded(float(np.mean(values)), standard_error(values))


def _rounded(mean: float, error: float) -> str:
    """Write a number and its error, or its deviation, to the second digit of the latter."""
    digits = 3 if error == 0 else max(0, 1 - int(np.floor(np.log10(error))))
    text = f"{mean:.2e} ± {error:.1e}" if digits > 6 else f"{round(mean, digits) + 0:,.{digits}f} ± {error:,.{digits}f}"
    return text.replace("-", "−")


# --- from the command line -------------------------------------------------------------------------------------------


def main(arguments: Sequence[str]) -> None:
    """Write a page about a model file and an ``.npz`` archive, or say in one line why not."""
    parser = argparse.ArgumentParser(prog="python -m tfae.report", description="Write a page about a Keras model.")
    parser.add_argument("model", type=Path, help="a .keras file")
    parser.add_argument("data", type=Path, help=".npz: x_train and x_test; y_train and y_test for all but autoencoders")
    parser.add_argument("-o", "--output", type=Path, help="the page; beside the model if not given")
    parser.add_argument("--uses", default="", help="what the model is for, in your words")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    path = given.output or given.model.with_suffix(".html")
    try:
        write(_read_model(given.model), _read_data(given.data), path, uses=given.uses, seed=given.seed)
    except (OSError, ValueError) as error:
        sys.exit(f"{parser.prog}: {error}")
    print(path)


def _read_model(path: Path) -> Any:
    if not path.is_file():
        raise OSError(f"there is no file {path}")
    try:
        return keras.models.load_model(path)
    except Exception as error:  # whatever the zip, the JSON, the HDF5 or a class in it raise
        reason = str(error).split("Exception encountered: ")[-1].strip().split("\n")[0].split(" Full object config")[0]
        own = " Or load it in a program of yours and call tfae.report.write." if "custom" in reason else ""
        raise OSError(f"{path} is not a model that Keras can load: {reason}{own}") from error


def _read_data(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise OSError(f"there is no file {path}")
    try:
        if not zipfile.is_zipfile(path):
            raise zipfile.BadZipFile("it is no zip file")
        with np.load(path, allow_pickle=False) as archive:
            return {"name": path.stem, **archive}
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise OSError(f"{path} is not an .npz archive of plain arrays: {error}") from error


if __name__ == "__main__":
    main(sys.argv[1:])
