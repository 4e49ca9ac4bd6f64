"""Execute a chapter that was edited as text, and write the notebook as it is committed.

    jupytext --to py:percent -o build/04_variants.py chapters/04_variants.ipynb    # then edit it
    python tools/build_chapter.py build/04_variants.py                             # writes chapters/04_variants.ipynb
    python tools/build_chapter.py build/04_variants.py --solutions                 # and tries the exercises' solutions

A clean kernel runs it. The figures are left in build/figures/04_variants to be looked at, numbered by cell. Nothing is
written to chapters/ when a cell fails. The solutions run afterwards in the same kernel, print what they print, and are
not kept.
"""

import argparse
import base64
import io
import os
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from pages import SOLUTION, solutions, text  # noqa: E402
from tfae.files import written_whole  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="the chapter as text (jupytext's percent format)")
    parser.add_argument("--solutions", action="store_true", help="run the exercises' solutions after the chapter")
    arguments = parser.parse_args()
    name = arguments.text.stem
    # Magics are left alone: in uncommenting them jupytext would make "!/bin/bash" of a script's first line.
    percent = {"extension": ".py", "format_name": "percent", "comment_magics": False}
    notebook = jupytext.read(arguments.text, fmt=percent)
    os.environ["PYTHONPATH"] = str(ROOT)
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # TensorFlow calls it an error that a processor has no AVX-512
    os.environ["TFAE_EXERCISES"] = str(ROOT / "build" / "exercises.json")  # not the learner's own
    client = NotebookClient(
        notebook,
        timeout=900,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(ROOT / "chapters")}},
    )
    start = time.time()
    with client.setup_kernel():
        for i, cell in enumerate(notebook.cells):
            before = time.time()
            client.execute_cell(cell, i)
            if time.time() - before > 3:
                print(f"cell {i}: {time.time() - before:.0f} s", flush=True)
        print(f"{name}: {time.time() - start:.0f} s", flush=True)
        if arguments.solutions:
            for cell in solutions(notebook):
                client.nb.cells.append(cell)
                client.execute_cell(cell, len(client.nb.cells) - 1)
                print(f"\n--- {cell.source.splitlines()[0]}\n{text(cell.outputs)}", flush=True)
                client.nb.cells.pop()
    save(notebook, name)


def smaller(picture: str) -> str:
    """Return the same picture in fewer bytes: without a transparency that it does not use."""
    image = Image.open(io.BytesIO(base64.b64decode(picture)))
    if image.mode == "RGBA" and image.getextrema()[3] == (255, 255):
        image = image.convert("RGB")
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def save(notebook: nbformat.NotebookNode, name: str) -> None:
    figures = ROOT / "build" / "figures" / name
    figures.mkdir(parents=True, exist_ok=True)
    for old in figures.glob("*.png"):
        old.unlink()
    words, count = 0, 0
    for i, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{i:02}"
        if cell.cell_type == "markdown":
            words += len(SOLUTION.sub("", cell.source).split())
            continue
        count += 1
        cell.execution_count = count
        for j, output in enumerate(cell.outputs):
            if "execution_count" in output:
                output["execution_count"] = count
            picture = output.get("data", {}).get("image/png")
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)  # its picture stays
            if picture:
                picture = output["data"]["image/png"] = smaller(picture)
                (figures / f"{i:02}_{j}.png").write_bytes(base64.b64decode(picture))
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    notebook.metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    written = nbformat.writes(notebook) + "\n"
    with written_whole(ROOT / "chapters" / f"{name}.ipynb") as path:
        path.write_text(written, encoding="utf-8")
    print(f"{len(notebook.cells)} cells, {words} words of prose without solutions, {len(written) / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
