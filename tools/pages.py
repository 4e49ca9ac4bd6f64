"""What a chapter's notebook holds besides its cells: the solutions folded below its exercises, and what they print."""

import re
from collections.abc import Iterator
from typing import Any

import nbformat

SOLUTION = re.compile(r"<details><summary>Solution</summary>(.*?)</details>", re.DOTALL)
CODE = re.compile(r"```python\n(?P<code>.*?)```(?:\s*```text\n(?P<printed>.*?)```)?", re.DOTALL)


def solutions(notebook: Any) -> Iterator[Any]:
    """Yield the code of the folded solutions as cells, with what they print where the page says it."""
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for found in CODE.finditer("\n".join(SOLUTION.findall(prose))):
        printed = [nbformat.v4.new_output("stream", text=found["printed"])] if found["printed"] else []
        yield nbformat.v4.new_code_cell(found["code"], execution_count=1, outputs=printed)


def text(outputs: Any) -> str:
    """Return what a cell printed or showed as text."""
    return "".join(o.get("text", "") or o.get("data", {}).get("text/plain", "") for o in outputs)
