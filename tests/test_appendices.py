"""What the appendices show and cannot run themselves."""

import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn import datasets

from tfae import data

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = ROOT / "chapters"


def test_the_program_in_pytorch_prints_what_its_page_says():
    pytest.importorskip("torch", reason="PyTorch is not installed; the page carries what it printed")
    cells = json.loads((CHAPTERS / "A4_from_pytorch.ipynb").read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells]
    prose = "\n".join(source for cell, source in zip(cells, sources, strict=True) if cell["cell_type"] == "markdown")
    [program] = re.findall(r"```python\n(.*?)```", prose, re.DOTALL)
    [printed] = re.findall(r"```text\n(.*?)```", prose, re.DOTALL)
    names = {}
    exec(next(source for source in sources if source.startswith("from tfae import data")), names)  # images and weights
    exec(program, names)
    np.testing.assert_allclose(names["losses"], np.array(printed.split(), float), atol=2e-6)
    [carried] = [re.findall(r'"""(.*?)"""', source, re.DOTALL) for source in sources if "by_torch = " in source]
    assert carried[0].split() == printed.split()
    np.testing.assert_array_equal(names["x"], data.load("strokes").x_train[:640].reshape(640, 784))


# As the page does: how many devices there are has to be settled first. Each recipe has no names but its own.
RUN_EACH_ALONE = """
import contextlib, io, json, sys
from tfae import distribute
distribute.strategy(2)
printed = []
for recipe in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(recipe, {"__name__": "recipe"})
    printed.append(output.getvalue())
print(json.dumps(printed))
"""


@pytest.mark.slow
def test_each_recipe_stands_alone_and_prints_what_its_page_says(pytestconfig):
    compare = pytestconfig.pluginmanager.get_plugin(str(ROOT / "conftest.py"))
    cells = json.loads((CHAPTERS / "A6_recipes.ipynb").read_text(encoding="utf-8"))["cells"]
    recipes = [cell for cell in cells if "recipe" in cell["metadata"].get("tags", ())]
    assert len(recipes) == 9
    assert all(10 <= len(recipe["source"]) <= 30 for recipe in recipes)
    programs = json.dumps(["".join(recipe["source"]) for recipe in recipes])
    run = subprocess.run(
        [sys.executable, "-c", RUN_EACH_ALONE], input=programs, capture_output=True, text=True, cwd=ROOT
    )
    assert run.returncode == 0, run.stderr
    for recipe, said in zip(recipes, json.loads(run.stdout.splitlines()[-1]), strict=True):
        committed = "".join("".join(output["text"]) for output in recipe["outputs"])
        assert compare.agree(said, committed), f"said:\n{said}\ncommitted:\n{committed}"


# What a reader writes in place of the lines marked `yours`, recipe by recipe, with data of another size and kind.
YOURS = {
    "Your own folder of images": ['folder, mode, size = Path("my_images"), "RGB", (16, 12)'],
    "Your own CSV": ['table, words = pd.read_csv("my_table.csv"), ["diagnosis", "side"]'],
    "Your own time series": [
        'series = np.load("my_series.npy")',
        "past, setting, as_before, later = np.split(series, [2000, 3000, 4000])",
    ],
    "A threshold that keeps its promise": ['normal, strange = np.load("my_normal.npy"), np.load("my_strange.npy")'],
    "Embeddings in few bytes": [
        "x, y, n = *load_digits(return_X_y=True), 200",
        'embeddings = np.load("my_normal.npy")',
    ],
    "Monitoring drift": [
        'x_train, x_known = np.split(np.load("my_normal.npy"), [200])',
        'days = {"today": np.load("my_strange.npy")}',
    ],
}
RUN_WITH_YOURS = """
import contextlib, io, json, sys
said = {}
for name, recipe in json.load(sys.stdin).items():
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec("import numpy as np\\n" + recipe, {"__name__": "recipe"})
    said[name] = output.getvalue()
print(json.dumps(said))
"""


def write_a_reader_s_data(folder):
    """Photographs of several sizes and formats, a table with words and holes, a series, and rows of two kinds."""
    photograph, rng = datasets.load_sample_image("china.jpg"), np.random.default_rng(0)
    folder.joinpath("my_images").mkdir()
    for i in range(60):
        top, left, side = rng.integers(0, 300), rng.integers(0, 500), rng.integers(40, 120)
        crop = Image.fromarray(photograph[top : top + side, left : left + side + 10])
        crop.save(folder / "my_images" / f"{i}.{('png', 'jpg')[i % 2]}")
    cancer = datasets.load_breast_cancer(as_frame=True)
    table = cancer.data.iloc[:, :8].mask(rng.random((569, 8)) < 0.05)
    table.insert(3, "side", rng.choice(["left", "right"], 569))
    table.assign(diagnosis=cancer.target.map({0: "malignant", 1: "benign"})).to_csv(
        folder / "my_table.csv", index=False
    )
    phase = np.cumsum(np.r_[np.full(4000, 0.2), np.full(2000, 0.35)])
    np.save(folder / "my_series.npy", np.sin(phase) + rng.normal(0, 0.05, 6000))
    scaled = cancer.data / cancer.data.max()
    for name, kind in (("my_normal", 1), ("my_strange", 0)):
        np.save(folder / f"{name}.npy", scaled[cancer.target == kind].to_numpy("float32"))


@pytest.mark.slow
def test_the_lines_marked_yours_are_all_that_a_reader_exchanges(tmp_path):
    write_a_reader_s_data(tmp_path)
    cells = json.loads((CHAPTERS / "A6_recipes.ipynb").read_text(encoding="utf-8"))["cells"]
    programs = {}
    for before, cell in itertools.pairwise(cells):
        name = re.findall(r"^## (.+)$", "".join(before["source"]), re.MULTILINE)[-1:]
        lines = "".join(cell["source"]).split("\n")
        for own in YOURS.get(*name, []) if "recipe" in cell["metadata"].get("tags", ()) else []:
            start = own.partition(" = ")[0] + " = "
            [marked] = [line for line in lines if line.startswith(start)]
            assert "  # yours" in marked, marked
            lines[lines.index(marked)] = own
            programs[name[0]] = "\n".join(lines)
    assert programs.keys() == YOURS.keys()
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    run = subprocess.run(
        [sys.executable, "-c", RUN_WITH_YOURS],
        input=json.dumps(programs), capture_output=True, text=True, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert files == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}  # and none is new
    said = json.loads(run.stdout.splitlines()[-1])
    assert not [text for text in said.values() if re.search(r"\b(nan|inf)\b", text)], said
    images, table, series, threshold, embeddings, drift = said.values()
    assert re.match(r"error on images held out: 0\.\d+, PCA 0\.\d+\ncannot identify image file", images)
    missed = dict(re.findall(r"^(.+?) +misses a removed number by (\S+)", table, re.MULTILINE))
    assert float(missed["10 neighbours"]) < float(missed["the mean"]) and "Found unknown categories ['D']" in table
    assert all(int(later) > 50 > int(before) for before, later in re.findall(r"before (\d+)%, later (\d+)%", series))
    assert "values that are NaN or infinite" in series and "needs at least 99 normal samples" in threshold
    assert "% of ten neighbours kept" in embeddings and "cut short" in embeddings
    assert drift.startswith("today              by error below 0.05") and "this model takes (n, 30)" in drift


def rows_of(name):
    """The rows of all tables of a page, without their heads."""
    cells = json.loads((CHAPTERS / name).read_text(encoding="utf-8"))["cells"]
    lines = "".join("".join(cell["source"]) + "\n" for cell in cells if cell["cell_type"] == "markdown").split("\n")
    heads = {i for i, line in enumerate(lines) if lines[i + 1 : i + 2] and lines[i + 1].startswith("| ---")}
    rows = [line for i, line in enumerate(lines) if line.startswith("| ") and i not in heads and "| ---" not in line]
    [said] = ["".join(cell["source"]) for cell in cells if "key-result" in cell["metadata"].get("tags", ())]
    return rows, int(re.findall(r"\d+", said)[0])


def test_the_tables_have_as_many_rows_as_their_pages_say():
    for name in ("A1_articles.ipynb", "A5_glossary.ipynb"):
        rows, said = rows_of(name)
        assert len(set(rows)) == len(rows) == said, name


def test_the_glossary_is_in_order_and_each_word_is_on_the_page_it_names():
    rows, _ = rows_of("A5_glossary.ipynb")
    words = [row.split("|")[1].strip() for row in rows]
    order = [re.sub(r"[^a-z0-9 ]", "", word.lower().replace("é", "e")) for word in words]
    assert order == sorted(order)
    for word, row in zip(words, rows, strict=True):
        taught = re.search(r"\((\d\d_\w+\.ipynb)\)", row)[1]
        page = (CHAPTERS / taught).read_text(encoding="utf-8").lower()
        stems = [part[:7] for part in re.findall(r"[a-zé-]{2,}", word.lower())]
        assert any(stem in page for stem in stems if stem not in ("of", "and", "an")), f"{word} is not in {taught}"
