"""The figures on the pages are what the benchmarks printed."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SPEC = importlib.util.spec_from_file_location("make_figures", ROOT / "tools" / "make_figures.py")
make_figures = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(make_figures)
ABOUT = "- date: 2030-01-02\n- processor: Abacus, 2 logical cores, load 0.1 at the start\n- GPU: {}\n\n"


@pytest.mark.parametrize("page", make_figures.PAGES, ids=lambda page: page.parent.name)
def test_a_page_says_what_the_committed_files_say(page):
    text = page.read_text(encoding="utf-8")
    assert text == make_figures.filled(text), "run tools/make_figures.py"


def test_what_was_kept_is_printed_on_a_page():
    pages = "".join(page.read_text(encoding="utf-8") for page in make_figures.PAGES)
    kept = {path.stem for path in make_figures.RESULTS.glob("*/*.txt")}
    assert kept and not [name for name in sorted(kept) if f"<!-- printed by {name} -->" not in pages]


def test_every_figure_is_a_line_of_a_benchmark_that_exists_and_of_every_file_of_it():
    scripts = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    for figure in make_figures.FIGURES:
        assert any(figure.benchmark.startswith(script) for script in scripts), figure.what
        for device in make_figures.DEVICES:
            text = make_figures.output(figure.benchmark, device)
            assert not text or make_figures.number(figure.pattern, text), f"{figure.what}: no such line"


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(make_figures, "RESULTS", tmp_path)

    def write(device, gpu, text):
        (tmp_path / device).mkdir(exist_ok=True)
        (tmp_path / device / "anomaly.txt").write_text(ABOUT.format(gpu) + text, encoding="utf-8")

    return write


def test_a_figure_is_taken_from_its_line_and_a_benchmark_that_was_not_run_leaves_its_cell_empty(results):
    results("gpu", "Dream 1", "mnist   PCA\nmean   95.50   95.30   95.40   96.80   92.10   97.25   96.33   4.6\n")
    readme = "a\n<!-- figures -->\nold\n<!-- end -->\nb\n<!-- printed by anomaly -->\n<!-- end -->\n"
    lines = make_figures.filled(readme).splitlines()
    (row,) = (line for line in lines if "`anomaly` |" in line)
    beside = "PCA 95.50, 1-NN 95.30, 5-NN 95.40, LOF 96.80, isolation forest 92.10, variational autoencoder 96.33"
    published = "Deep SVDD, published 94.80, PyOD, published, another task 86.86"
    assert row.endswith(f"| `anomaly` |  | 97.25 | {beside}, {published} |")
    (other,) = (line for line in lines if "deep autoencoder" in line)
    assert other.endswith("|  |  | Hinton and Salakhutdinov 2006 3.00 |")
    assert "- GPU: Dream 1, 2030-01-02: `anomaly`" in lines and "`anomaly`, Dream 1, 2030-01-02." in lines
    assert "old" not in lines and lines[0] == "a"
    assert "mean   95.50   95.30   95.40   96.80   92.10   97.25   96.33   4.6" in lines
    again = "\n".join(lines) + "\n"
    assert make_figures.filled(again) == again


def test_a_run_on_processors_is_told_by_their_name(results):
    results("cpu", "none", "mean   95.50   95.40   96.25   4.6\n")
    told = "- processors: Abacus, 2 logical cores, load 0.1 at the start, 2030-01-02: `anomaly`"
    assert told in make_figures.table().splitlines()
