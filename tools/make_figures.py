"""Put the figures of the benchmarks into the README and into their own page, benchmarks/README.md.

    python tools/make_figures.py

`python benchmarks/run_all.py --keep` leaves what each benchmark printed, with the date and what the machine was, in
benchmarks/results, in one folder for runs on processors and one for runs with a GPU. From these files the pages get

- between the marks ``<!-- figures -->``, a table: each figure is a number in a line of such a file, as `FIGURES` says.
  A cell is empty where the benchmark has not been run;
- between the marks ``<!-- printed by NAME -->``, what that benchmark printed, as it stands.

Nothing there is typed: `tests/test_figures.py` holds the pages to what this program makes of the committed files.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "benchmarks" / "README.md"]
RESULTS = ROOT / "benchmarks" / "results"
DEVICES = {"cpu": "processors", "gpu": "GPU"}
MARKED = re.compile(r"(<!-- (figures|printed by (\w+)) -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Figure:
    """A row of the table.

    Attributes
    ----------
    what : str
        What the number is, with its unit.
    benchmark : str
        The name of its file in benchmarks/results.
    pattern : str
        A regular expression for a line of that file, whose first group is the number.
    beside : dict of str to str
        What to hold it to: a pattern in the same file, or, where it begins with a digit, what was published.
    """

    what: str
    benchmark: str
    pattern: str
    beside: dict[str, str]


NUMBER, PERCENT = r"(\d[\d.,]*)", r"([+-]\d[\d.]*%)"


def column(row: str, n: int, number: str = NUMBER) -> str:
    """Return a pattern for the n-th word, from 0, after what a row begins with."""
    return rf"^{row}(?: +\S+){{{n}}} +{number}"


FIGURES = [
    Figure(
        "linear autoencoder, code 32, MNIST: squared error per test image", "linear_is_pca",
        column("mnist +32", 3), {"PCA": column("mnist +32", 4)},
    ),
    Figure(
        "deep autoencoder, code 30, MNIST: squared error per test image", "deep_autoencoder",
        rf"^squared error per test image: {NUMBER}",
        {"PCA": rf"^PCA, 30 components: {NUMBER}", "Hinton and Salakhutdinov 2006": "3.00"},
    ),
    Figure(
        "VAE, dynamically binarised MNIST: −log p of the test set, nats", "vae_likelihood",
        rf"^ *10000 images: {NUMBER} nats", {"Burda et al. 2016": "86.76"},
    ),
    *(
        Figure(
            f"anomalies, {name}, one class against nine, local PCA: mean AUROC, %", benchmark, column("mean", 5),
            {
                "PCA": column("mean", 0), "1-NN": column("mean", 1), "5-NN": column("mean", 2),
                "LOF": column("mean", 3), "isolation forest": column("mean", 4),
                "variational autoencoder": column("mean", 6), **published,
            },
        )
        for name, benchmark, published in (
            ("MNIST", "anomaly", {"Deep SVDD, published": "94.80", "PyOD, published, another task": "86.86"}),
            ("Fashion-MNIST", "anomaly_data_fashion_mnist", {}),
        )
    ),
    Figure(
        "codes of MNIST as files: bits beyond those of JPEG at the same quality (BD-rate)", "rate_distortion",
        column("autoencoder", 3, PERCENT),
        {"WebP": column("WebP, one sheet", 3, PERCENT), "PCA": column("PCA", 3, PERCENT)},
    ),
    Figure(
        "a classifier that has seen strokes alone, on MNIST's test set: accuracy, %", "strokes_transfer",
        rf"^MNIST test set, mean of \d+ seeds: {NUMBER}", {},
    ),
    *(
        Figure(
            f"sparse dictionary: {what}", "dictionary", column("tfae, top-k", n),
            {
                "SAELens": column("SAELens, top-k", n), "PyTorch": column("PyTorch, eager, top-k", n),
                "scikit-learn": column("scikit-learn", n),
            },
        )
        for what, n in (("share of 512 known features found", 0), ("thousand rows a second", 3))
    ),
    *(
        Figure(
            f"training, {name}: thousand images a second", f"training_model_{name}", rf"^tfae.*? {NUMBER} ",
            {peer: rf"^{peer}.*? {NUMBER} " for peer in ("Keras fit", "PyTorch, eager", "PyTorch, compiled", "JAX")},
        )
        for name in ("dense", "conv_vae")
    ),
    *(
        Figure(
            f"{name}, 64 images: seconds", "attribution", column(row, 0),
            {"xplique": column(row, 1), "captum": column(row, 2), "zennit": column(row, 3)},
        )
        for name, row in (
            ("integrated gradients, 50 steps", "integrated gradients"), ("Grad-CAM", "Grad-CAM"),
            ("LRP-epsilon", "LRP-epsilon"),
        )
    ),
    Figure(
        "49 Shapley values of 2,000 coalitions: error", "shapley", column("tfae", 2),
        {peer: column(peer, 2) for peer in ("shap", "captum", "xplique")},
    ),
    Figure(
        "784 × 784 derivatives of 8 reconstructions: seconds", "jacobian", column("attribution.jacobian +8", 0),
        {"TensorFlow": column("GradientTape.batch_jacobian +8", 0)},
    ),
    Figure(
        "records larger than memory: share of the rate on arrays in memory", "streaming",
        rf"^memory, arrays .*reaches {NUMBER}", {},
    ),
    Figure(
        "methods × networks nobody here wrote: answers", "networks", rf"^{NUMBER} answers",
        {"clear refusals": rf"answers, {NUMBER} refusals", "failures": rf"refusals, {NUMBER} failures"},
    ),
]  # fmt: skip


def main() -> int:
    for page in PAGES:
        before = page.read_text(encoding="utf-8")
        after = filled(before)
        page.write_text(after, encoding="utf-8")
        print(f"{page.relative_to(ROOT)} {'is as the files say' if after == before else 'has new figures'}")
    return 0


def filled(page: str) -> str:
    """Return a page with all that stands between marks made anew."""
    return MARKED.sub(lambda found: found[1] + (printed(found[3]) if found[3] else table()) + found[4], page)


def table() -> str:
    head = ["figure", "benchmark", *DEVICES.values(), "beside it"]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for figure in FIGURES:
        outputs = [output(figure.benchmark, device) for device in DEVICES]
        cells = [number(figure.pattern, text) for text in outputs]
        beside = [f"{name} {value}" for name, pattern in figure.beside.items() if (value := held_to(pattern, outputs))]
        lines.append(f"| {figure.what} | `{figure.benchmark}` | {' | '.join(cells)} | {', '.join(beside)} |")
    runs = [f"- {run}" for device in DEVICES for run in told(device)]
    return "\n".join(["", *lines, "", *runs, *([""] if runs else [])]) + "\n"


def printed(benchmark: str) -> str:
    """Return what a benchmark printed, with where and when: of a run on processors, or else with a GPU."""
    for device in DEVICES:
        if text := output(benchmark, device):
            where, said = split(text)
            body = said if said.startswith("|") else f"```text\n{said}\n```"
            return f"\n{body}\n\n`{benchmark}`, {where}.\n\n"
    return "\n"


def output(benchmark: str, device: str) -> str:
    path = RESULTS / device / f"{benchmark}.txt"
    return path.read_text(encoding="utf-8") if path.exists() else ""


def split(text: str) -> tuple[str, str]:
    """Return in a few words where and when a benchmark ran, and what it printed."""
    about, said = text.split("\n\n", 1)
    machine = dict(line.removeprefix("- ").split(": ", 1) for line in about.splitlines())
    device = machine["processor"] if machine["GPU"] == "none" else machine["GPU"]
    return f"{device}, {machine['date']}", said.strip()


def told(device: str) -> list[str]:
    """Return a line for each machine and date, with the benchmarks that ran there."""
    runs: dict[str, list[str]] = {}
    for path in sorted((RESULTS / device).glob("*.txt")):
        runs.setdefault(split(path.read_text(encoding="utf-8"))[0], []).append(f"`{path.stem}`")
    return [f"{DEVICES[device]}: {where}: {', '.join(names)}" for where, names in runs.items()]


def number(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    return found[1] if found else ""


def held_to(pattern: str, outputs: list[str]) -> str:
    """Return a published number as it is, or that of the first run that has one."""
    return pattern if pattern[0].isdigit() else next(filter(None, (number(pattern, text) for text in outputs)), "")


if __name__ == "__main__":
    sys.exit(main())
