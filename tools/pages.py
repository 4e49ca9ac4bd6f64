"""What a chapter's notebook holds besides its cells: the solutions folded below exercises, and its sections' times."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import nbformat

SOLUTION = re.compile(r"<details><summary>Solution</summary>(.*?)</details>", re.DOTALL)
CODE = re.compile(r"```python\n(?P<code>.*?)```(?:\s*```text\n(?P<printed>.*?)```)?", re.DOTALL)

EXERCISE = re.compile(r"\*\*\d\d\.\d+ [^*]+\*\* \((\d+) minutes?, ★+\)")
WORDS_A_MINUTE = 150  # of a text with formulas and figures, read to be understood


def solutions(notebook: Any) -> Iterator[Any]:
    """Yield the code of the folded solutions as cells, with what they print where the page says it."""
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for found in CODE.finditer("\n".join(SOLUTION.findall(prose))):
        printed = [nbformat.v4.new_output("stream", text=found["printed"])] if found["printed"] else []
        yield nbformat.v4.new_code_cell(found["code"], execution_count=1, outputs=printed)


def text(outputs: Any) -> str:
    """Return what a cell printed or showed as text."""
    return "".join(o.get("text", "") or o.get("data", {}).get("text/plain", "") for o in outputs)


@dataclass
class Section:
    """What stands under a heading: the words of its prose, the minutes of its exercises, the seconds of its cells."""

    heading: str
    words: int = 0
    exercises: int = 0
    seconds: float = 0.0


def sections(notebook: Any) -> list[Section]:
    """Return the sections of a page. Its cells took seconds if it was executed with their times on record."""
    found: list[Section] = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for part in filter(None, re.split(r"^(?=##? )", cell.source, flags=re.MULTILINE)):
                if heading := re.match(r"##? (.*)", part):
                    found.append(Section(heading[1]))
                found[-1].exercises += sum(map(int, EXERCISE.findall(part)))
                if "exercise" not in cell.metadata.get("tags", ()):  # what it asks has minutes of its own
                    found[-1].words += len(part.split())
        elif times := cell.metadata.get("execution"):
            begun, ended = (datetime.fromisoformat(times[f"iopub.status.{of}"]) for of in ("busy", "idle"))
            found[-1].seconds += (ended - begun).total_seconds()
    return found
