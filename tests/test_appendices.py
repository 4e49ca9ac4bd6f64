"""What the appendices show and cannot run themselves."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

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
