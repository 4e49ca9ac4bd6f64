"""How the chapters are tested: cell by cell with nbval, then the solutions folded below their exercises.

A cell with the tag `nbval-check-output` has to print what it printed when it was committed: the same words, and numbers
within a tenth, which leaves room for another processor and none for another result. So has a solution whose code is
followed by a block ```` ```text ````, which tells the reader what it prints.
"""

import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nbval.plugin import IPyNbCell, IPyNbFile

sys.path.insert(0, str(Path(__file__).parent / "tools"))
from pages import solutions, text

os.environ.setdefault("TFAE_EXERCISES", str(Path(__file__).parent / "build" / "exercises.json"))  # not a learner's own
LONGEST_FIRST = (  # so that no worker begins with minutes of tests when the others have done all theirs
    "test_matrix", "test_site", "test_loop", "test_training", "test_keras_contract", "test_explorer", "test_variants",
    "test_appendices", "test_dictionary", "03_training", "12_generation", "13_applications", "11_trust",
    "16_sparse_dictionaries", "15_scaling",
)  # fmt: skip
NUMBER = re.compile(r"(?<![\w.])[-+−]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?|(?<=[\w.])\d+(?:\.\d+)?")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))  # stable: in a file the order stays


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> Iterator[None]:
    collected = yield
    return [Chapter.from_parent(parent, path=file_path) if type(c) is IPyNbFile else c for c in collected]


class Chapter(IPyNbFile):
    def collect(self) -> Iterator["Cell"]:
        given: Any
        for given in super().collect():
            last = given.cell_num
            yield Cell.from_parent(
                self, name=given.name, cell_num=given.cell_num, cell=given.cell, options=given.options
            )
        for i, cell in enumerate(solutions(self.nb), start=1):
            options = defaultdict(bool, check=bool(cell.outputs))
            yield Cell.from_parent(self, name=f"Solution {i}", cell_num=last + i, cell=cell, options=options)


class Cell(IPyNbCell):
    def compare_outputs(self, test: Any, ref: Any, skip_compare: Any = None) -> bool:
        said, committed = text(test), text(ref)
        if agree(said, committed):
            return True
        self.comparison_traceback = [f"committed:\n{committed}\nnow:\n{said}"]
        return False


def agree(said: str, committed: str) -> bool:
    """Return whether two texts have the same words, and numbers within a tenth or two units of their last place."""
    words = [NUMBER.sub("#", printed).split() for printed in (said, committed)]
    numbers = [NUMBER.findall(printed) for printed in (said, committed)]
    return words[0] == words[1] and all(map(near, *numbers))


def near(one: str, other: str) -> bool:
    a, b = (float(number.replace(",", "").replace("−", "-")) for number in (one, other))
    places = len(other.partition("e")[0].partition(".")[2])
    exponent = int(other.partition("e")[2] or 0)
    return abs(a - b) <= 0.1 * abs(b) + 2 * 10.0 ** (exponent - places)
