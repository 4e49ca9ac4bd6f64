"""Write what a teacher hands out, from the chapters as they are: nothing is written twice.

    make handouts                                  # or: python tools/make_handouts.py
    python tools/make_handouts.py 02 05            # these chapters only

leaves in build/handouts

    student/     the chapters without solutions, the hints folded
    solutions/   the chapters with each exercise filled in, and what its check says
    nbgrader/    a course directory: an assignment a chapter, with points, locked tests, hidden tests and rubrics
    diagnoses.md for the teacher: what each check recognises, in the words it says

A cell with the tag `exercise` is part of an exercise: a question, a cell to fill, and its folded hints and solution.
"""

import argparse
import re
import shutil
import sys
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = ROOT / "chapters"
sys.path[:0] = [str(ROOT), str(CHAPTERS)]
import exercises  # noqa: E402
from pages import CODE, SOLUTION  # noqa: E402

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
CALL = re.compile(r"^check\.(\w+)\(", re.MULTILINE)
IMPORT = re.compile(r"^from exercises import .*\n+", re.MULTILINE)


@dataclass
class Found:
    """One exercise of a page: where it begins, and its three parts."""

    start: int
    exercise: exercises.Exercise
    name: str
    question: str
    stub: str
    solution: str  # the code that fills the cell, up to and with the call of the check
    printed: str  # what that and the rest of the solution print


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapters", nargs="*", help="numbers of chapters; without any, all that have exercises")
    arguments = parser.parse_args()
    known = {path.stem[:2]: path for path in sorted(CHAPTERS.glob("[0-9][0-9]_*.ipynb"))}
    if unknown := [number for number in arguments.chapters if number not in known]:
        parser.error(f"no chapter {', '.join(unknown)}; there are {', '.join(known)}")
    out = ROOT / "build" / "handouts"
    make(out, [path for number, path in known.items() if not arguments.chapters or number in arguments.chapters])
    print(f"student and solution editions and a course for nbgrader are in {out.relative_to(ROOT)}")


def make(out: Path, chapters: list[Path]) -> None:
    """Write all editions into a folder, whole or not at all."""
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    for edition in ("student", "solutions", "nbgrader/source"):
        (part / edition).mkdir(parents=True)
    for path in chapters:
        page = nbformat.read(path, as_version=4)
        found = list(exercises_of(page, path.stem))
        write(student(page), part / "student" / path.name)
        write(solved(page, found), part / "solutions" / path.name)
        if found:
            folder = part / "nbgrader" / "source" / path.stem
            folder.mkdir()
            write(assignment(path.stem, found), folder / path.name)
            copy_checks(folder)
    for edition in ("student", "solutions"):
        copy_checks(part / edition)
        for path in CHAPTERS.glob("A[0-9]_*.ipynb"):  # where links of the chapters lead
            shutil.copy(path, part / edition)
    (part / "diagnoses.md").write_text(diagnoses(chapters), encoding="utf-8")
    (part / "nbgrader" / "nbgrader_config.py").write_text(CONFIG, encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    part.replace(out)


CONFIG = """c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "tfae"
c.ClearSolutions.code_stub = {"python": ""}
c.Execute.timeout = 300
"""

BEGIN = """import warnings

import numpy as np
{quiet}
from exercises import {module} as check

warnings.simplefilter("ignore")  # a cell that writes to stderr gets no points
"""


def exercises_of(page: NotebookNode, chapter: str) -> Iterator[Found]:
    """Yield the exercises of a page."""
    known = exercises.all_exercises().get(f"chapter_{chapter[:2]}", {})
    for i, cell in enumerate(page.cells):
        if cell.cell_type != "code" or not is_exercise(cell):
            continue
        name = CALL.search(cell.source)[1]
        folded = SOLUTION.search(page.cells[i + 1].source)[1]
        code, printed = CODE.search(folded).group("code", "printed")
        yield Found(
            i - 1, known[name], name, page.cells[i - 1].source, IMPORT.sub("", cell.source), code, printed or ""
        )


def is_exercise(cell: NotebookNode) -> bool:
    return "exercise" in cell.metadata.get("tags", ())


# --- the editions ----------------------------------------------------------------------------------------------------


def student(page: NotebookNode) -> NotebookNode:
    """Return the page without its solutions."""
    page = deepcopy(page)
    for cell in page.cells:
        if cell.cell_type == "markdown":
            cell.source = SOLUTION.sub("", cell.source).strip() + "\n"
    return page


def solved(page: NotebookNode, found: list[Found]) -> NotebookNode:
    """Return the page with its exercises filled in, and its solutions laid open."""
    page = deepcopy(page)
    for one in found:
        cell, answers = page.cells[one.start + 1], page.cells[one.start + 2]
        kept = IMPORT.search(cell.source)
        cell.source = (kept[0] if kept else "") + one.solution.rstrip("\n")
        cell.outputs = [new_output("stream", text=one.printed)]
        answers.source = CODE.sub("", SOLUTION.search(answers.source)[1], count=1).strip()
    page.cells = [cell for cell in page.cells if cell.source or cell.cell_type == "code"]
    for cell in page.cells:
        if cell.cell_type == "markdown":
            cell.source = SOLUTION.sub(r"*Solution.*\1", cell.source)
    return page


def assignment(chapter: str, found: list[Found]) -> NotebookNode:
    """Return the exercises alone, as nbgrader's source: they need no lesson before them, and take no training."""
    module = f"chapter_{chapter[:2]}"
    keras = any("import keras" in split(one.solution)[0] for one in found)
    begun = BEGIN.format(module=module, quiet="import tfae  # keeps TensorFlow's notes out of stderr\n" * keras)
    cells = [
        new_markdown_cell(
            f"# Exercises of chapter {chapter[:2]}\n\nFill in each cell and run the one below it: it says what it "
            "sees. Where a question goes on with an experiment, its place is the lesson."
        ),
        graded(new_code_cell(begun.strip()), "begin", solution=False, locked=True, grade=False),
    ]
    for one in found:
        cells.append(new_markdown_cell(one.question))
        points = 2 * one.exercise.stars
        if isinstance(one.exercise, exercises.Reading):
            rubric = "\n".join(f"- {point}" for point in one.exercise.rubric)
            cells.append(graded(new_markdown_cell(f"### BEGIN SOLUTION\n{rubric}\n### END SOLUTION"), one.name,
                                points=points, grade=True, solution=True, locked=False))  # fmt: skip
            continue
        answer, call = split(one.solution)
        given, _ = split(one.stub)
        filled = f"{given}\n\n\n### BEGIN SOLUTION\n{answer}\n### END SOLUTION"
        cells.append(graded(new_code_cell(filled), one.name, solution=True, locked=False, grade=False))
        judged = call.replace(f".{one.name}(", f".{one.name}.judge(", 1)
        test = f"{call}\n\nassert {judged}.passed"
        again = judged.replace("check.", "importlib.reload(check).", 1)  # as it was, whatever a cell did to it
        hidden = f"### BEGIN HIDDEN TESTS\nimport importlib\n\nassert {again}.passed\n### END HIDDEN TESTS"
        cells.append(graded(new_code_cell(f"{test}\n{hidden}"), f"{one.name}_test", points=points, grade=True,
                            solution=False, locked=True))  # fmt: skip
    for i, cell in enumerate(cells):
        cell["id"] = f"cell-{i:02}"
    return new_notebook(cells=cells, metadata={"kernelspec": KERNEL, "language_info": {"name": "python"}})


def diagnoses(chapters: list[Path]) -> str:
    """Return what students get wrong, chapter by chapter, as the checks can tell."""
    lines = ["# What students get wrong, and how the checks say it", ""]
    for path in chapters:
        for one in exercises_of(nbformat.read(path, as_version=4), path.stem):
            title = re.search(r"\*\*(.+?)\*\*", one.question)[1]
            lines += [
                f"## {title}",
                "",
                f"{one.exercise.kind}, {one.exercise.minutes} minutes, {'★' * one.exercise.stars}",
            ]
            if isinstance(one.exercise, exercises.Prediction):
                said = [reading for _, reading in one.exercise.readings]
            elif isinstance(one.exercise, exercises.Reading):
                said = one.exercise.rubric
            else:
                said = [message for message in one.exercise.mistakes if message != exercises.NOT_STARTED]
            lines += ["", *(f"- {message}" for message in said), ""]
    return "\n".join(lines)


def split(code: str) -> tuple[str, str]:
    """Return what defines the answer, and the line that hands it to the check."""
    start = CALL.search(code).start()
    return code[:start].strip("\n"), code[start:].split("\n", 1)[0]


def graded(cell: NotebookNode, name: str, **marks: object) -> NotebookNode:
    cell.metadata["nbgrader"] = {"schema_version": 3, "grade_id": name, "task": False, **marks}
    return cell


def write(page: NotebookNode, path: Path) -> None:
    path.write_text(nbformat.writes(page) + "\n", encoding="utf-8")


def copy_checks(folder: Path) -> None:
    shutil.copytree(CHAPTERS / "exercises", folder / "exercises", ignore=shutil.ignore_patterns("__pycache__"))


if __name__ == "__main__":
    main()
