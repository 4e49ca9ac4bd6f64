"""What `conftest.py` holds the chapters to."""

from pathlib import Path

import nbformat
import pytest


@pytest.fixture
def chapters(pytestconfig):
    return pytestconfig.pluginmanager.get_plugin(str(Path(__file__).resolve().parent.parent / "conftest.py"))


@pytest.mark.parametrize(
    ("said", "committed", "same"),
    [
        ("PCA 0.0131, plain 0.0120", "PCA 0.0131, plain 0.0120", True),
        ("PCA 0.0131, plain 0.0125", "PCA 0.0131, plain 0.0120", True),
        ("PCA 0.0131, plain 0.0140", "PCA 0.0131, plain 0.0120", False),  # more than a tenth
        ("PCA 0.0131", "plain 0.0131", False),
        ("12,345 images", "12,400 images", True),
        ("12,345 images", "22,400 images", False),
        ("beaten: True", "beaten: False", False),
        ("gap 1.2e-07", "gap 1.3e-07", True),
        ("gap 1.2e-07", "gap 1.2e-06", False),
        ("-3.1 points", "+3.1 points", False),
        ("(2000, 32)", "(2000, 32)", True),
        ("5 of 10", "5 of 20", False),
        ("a   0.10   b", "a 0.11 b", True),  # columns may move
        ("one number 1", "one number", False),
        ("85%", "86%", True),
        ("60%", "86%", False),
        ("PCA-32", "PCA-16", False),
    ],
)
def test_printed_numbers_agree_within_a_tenth(chapters, said, committed, same):
    assert chapters.agree(said, committed) == same


def test_solutions_are_found_with_what_they_print(chapters):
    source = (
        "<details><summary>Solution</summary>\n\nFirst:\n\n```python\nprint(1)\n```\n\n```text\n1\n```\n\nThen\n\n"
        "```python\nx = 2\n```\n</details>\n```python\nnot_a_solution\n```"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(source)])
    first, second = chapters.solutions(notebook)
    assert (first.source, first.outputs[0].text) == ("print(1)\n", "1\n")
    assert (second.source, second.outputs) == ("x = 2\n", [])
