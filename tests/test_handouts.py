"""The editions that a teacher hands out, and a course graded by nbgrader: right, wrong and empty submissions."""

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "chapters")]
import exercises  # noqa: E402
import make_handouts  # noqa: E402
from pages import WORDS_A_MINUTE, Section, sections  # noqa: E402

CHAPTER, WITH_KERAS = "02_mathematics", "01_concepts"  # the second's checks build networks
PATHS = sorted((ROOT / "chapters").glob("[0-9][0-9]_*.ipynb"))


@pytest.fixture(scope="module")
def handouts(tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "handouts"
    make_handouts.make(out, PATHS)
    return out


def test_a_student_gets_the_hints_and_no_solution(handouts):
    for path in PATHS:
        page = nbformat.read(handouts / "student" / path.name, as_version=4)
        text = "\n".join(cell.source for cell in page.cells)
        assert "Solution" not in text and text.count("<details>") == text.count("</details>")
        for one in make_handouts.exercises_of(nbformat.read(path, as_version=4), path.stem):
            assert make_handouts.split(one.solution)[0] not in text
            assert "<summary>Hint 1</summary>" in text and "<summary>Hint 2</summary>" in text
        for link in re.findall(r"\]\((\w+\.ipynb)", text):
            assert (handouts / "student" / link).exists()


def test_the_solutions_stand_in_their_cells(handouts):
    page = nbformat.read(handouts / "solutions" / f"{CHAPTER}.ipynb", as_version=4)
    found = list(
        make_handouts.exercises_of(nbformat.read(ROOT / "chapters" / f"{CHAPTER}.ipynb", as_version=4), CHAPTER)
    )
    filled = [cell for cell in page.cells if cell.cell_type == "code" and make_handouts.is_exercise(cell)]
    for one, cell in zip(found, filled, strict=True):
        assert make_handouts.split(one.solution)[0] in cell.source
        assert cell.outputs[0].text == one.printed and one.printed.startswith(one.exercise.number)
    assert "<details>" not in "".join(cell.source for cell in page.cells)


def test_the_teacher_reads_what_the_checks_can_tell(handouts):
    text = (handouts / "diagnoses.md").read_text(encoding="utf-8")
    for found in exercises.all_exercises().values():
        for exercise in found.values():
            assert re.search(rf"^## {re.escape(exercise.number)} ", text, re.MULTILINE)
            for message in set(getattr(exercise, "mistakes", ())) - {exercises.NOT_STARTED}:
                assert f"- {message}\n" in text


def test_a_section_s_words_exercises_and_seconds_are_counted():
    times = {"iopub.status.busy": "2026-01-01T00:00:59.5+00:00", "iopub.status.idle": "2026-01-01T00:01:02+00:00"}
    page = nbformat.v4.new_notebook(cells=[
        nbformat.v4.new_markdown_cell("# One title\n\nfive words in this section\n\n## Next\n\ntwo words"),
        nbformat.v4.new_code_cell("wait()", metadata={"execution": times}),
        nbformat.v4.new_code_cell("never_run()"),
        nbformat.v4.new_markdown_cell("**01.1 Ask** (8 minutes, ★). Why?", metadata={"tags": ["exercise"]}),
        nbformat.v4.new_markdown_cell("### Not a section\n\ntwo more"),
    ])  # fmt: skip
    assert sections(page) == [Section("One title", words=8), Section("Next", words=10, exercises=8, seconds=2.5)]
    for path in PATHS:
        found = exercises.all_exercises()[f"chapter_{path.stem[:2]}"]
        counted = sum(section.exercises for section in sections(nbformat.read(path, as_version=4)))
        assert counted == sum(exercise.minutes for exercise in found.values())


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_minutes_and_stars_follow_from_the_way_to_the_solution(path):
    """Two minutes, and one for every 25 words of question and solution; longer by half for ★★, two and a half ★★★."""
    for one in make_handouts.exercises_of(nbformat.read(path, as_version=4), path.stem):
        stars, minutes = one.exercise.stars, one.exercise.minutes
        if isinstance(one.exercise, exercises.Prediction):
            assert (stars, minutes) == (1, 1)
            continue
        words = len(re.findall(r"\w+", one.question + one.solution))
        rule = (2 + words / 25) * {1: 1, 2: 1.5, 3: 2.5}[stars]
        assert 1 / 1.7 <= minutes / rule <= 1.7, f"{one.exercise.number}: {minutes} minutes, by the rule {rule:.0f}"
        assert {1: 1, 2: 4, 3: 15}[stars] <= minutes <= {1: 10, 2: 20, 3: 30}[stars]


def test_the_teacher_s_page_names_exercises_that_exist():
    known = {e.number for found in exercises.all_exercises().values() for e in found.values()}
    prose = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\b\d\d\.\d\b", prose))
    assert len(named) >= 10 and named <= known
    mistakes = prose.split("## What do they get wrong")[1].split("\n## ")[0]
    for path in PATHS:
        said = re.search(rf"^- \*\*{path.stem[:2]}\.\*\*(.*?)(?=^- |^$)", mistakes, re.MULTILINE | re.DOTALL)
        assert said and f"({path.stem[:2]}." in said[1], "a usual mistake of each chapter"


def test_the_plans_follow_from_the_chapters():
    plans = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8").split("## Three plans")[1].split("\n## ")[0]
    found = {path.stem: sections(nbformat.read(path, as_version=4)) for path in PATHS}
    headings = {section.heading for chapter in found.values() for section in chapter}
    assert set(re.findall(r'"([A-Z][^"]*\?)"', plans.replace("\n", " "))) <= headings
    weeks = re.findall(r"^\| \d+ \| (\[.*\)) \| (\d+) \|", plans.split("twelve weeks")[1], re.MULTILINE)
    assert len(weeks) == 11
    for chapters, minutes in weeks:
        words = sum(
            section.words for name in re.findall(r"\((\w+)\)", chapters.split(") or")[-1]) for section in found[name]
        )
        assert abs(3 * words / WORDS_A_MINUTE - int(minutes)) <= 10, (
            f"{chapters}: {3 * words / WORDS_A_MINUTE:.0f} minutes"
        )


def test_the_exam_has_twenty_questions_with_keys():
    text = (ROOT / "docs" / "teacher" / "exam.md").read_text(encoding="utf-8")
    assert re.findall(r"^(\d+)\. \*\*", text, re.MULTILINE) == [str(i) for i in range(1, 21)]
    assert text.count("*Key.*") == 20


def test_making_them_again_changes_no_byte(handouts, tmp_path):
    make_handouts.make(tmp_path / "handouts", PATHS[2:3])
    for path in (tmp_path / "handouts").rglob(f"{CHAPTER}.ipynb"):
        assert path.read_bytes() == (handouts / path.relative_to(tmp_path / "handouts")).read_bytes()


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_every_solution_passes_its_check_without_the_lesson(path):
    """As in an assignment: with the imports and the checks alone. The chapter's own test runs it in the lesson."""
    for one in make_handouts.exercises_of(nbformat.read(path, as_version=4), path.stem):
        names = {"np": np}
        answer, call = make_handouts.split(one.solution)
        exec(answer, names)
        names["check"] = type("Check", (), {one.name: staticmethod(one.exercise.judge)})
        assert eval(call, names).passed, one.exercise.number
        assert call == make_handouts.split(one.stub)[1], "the same line in the cell and in the solution"


@pytest.mark.slow
def test_nbgrader_gives_the_points_that_it_should(handouts, tmp_path):
    pytest.importorskip("nbgrader", reason="nbgrader, which grades assignments, is not installed")
    course = tmp_path / "course"
    shutil.copytree(handouts / "nbgrader", course)
    for other in (course / "source").iterdir():
        if other.name not in (CHAPTER, WITH_KERAS):
            shutil.rmtree(other)
    own = {name: str(tmp_path / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")}
    own["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # nbgrader calls alembic by its name
    env = os.environ | own | {"PYTHONPATH": "", "TFAE_EXERCISES": str(tmp_path / "kept.json")}

    def nbgrader(*arguments):
        run = subprocess.run([sys.executable, "-m", "nbgrader", *arguments], cwd=course, env=env, text=True,
                             capture_output=True)  # fmt: skip
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout + run.stderr

    nbgrader("generate_assignment", CHAPTER, "--create", "--force")
    nbgrader("generate_assignment", WITH_KERAS, "--create", "--force")
    shutil.copytree(course / "source" / WITH_KERAS, course / "submitted" / "right" / WITH_KERAS)
    release, source = course / "release" / CHAPTER, course / "source" / CHAPTER
    assert "np.mean((x - x_hat) ** 2, axis=1)" not in (release / f"{CHAPTER}.ipynb").read_text(encoding="utf-8")
    assert "HIDDEN" not in (release / f"{CHAPTER}.ipynb").read_text(encoding="utf-8")
    cells = [cell.source for cell in nbformat.read(release / f"{CHAPTER}.ipynb", as_version=4).cells]
    for one in make_handouts.exercises_of(nbformat.read(ROOT / "chapters" / f"{CHAPTER}.ipynb", as_version=4), CHAPTER):
        assert make_handouts.split(one.stub)[0] in map(str.strip, cells), "what the lesson gives, and no more"
    for student, given in {"right": source, "empty": release, "wrong": source}.items():
        shutil.copytree(given, course / "submitted" / student / CHAPTER)
    wrong = course / "submitted" / "wrong" / CHAPTER / f"{CHAPTER}.ipynb"
    text = wrong.read_text(encoding="utf-8")
    assert "np.mean((x - x_hat) ** 2, axis=1)" in text
    wrong.write_text(
        text.replace("np.mean((x - x_hat) ** 2, axis=1)", "np.sum((x - x_hat) ** 2, axis=1)"), encoding="utf-8"
    )
    assert "Success" in nbgrader("validate", str(course / "submitted" / "right" / CHAPTER / f"{CHAPTER}.ipynb"))
    for assignment in (CHAPTER, WITH_KERAS):
        nbgrader("autograde", assignment, "--create", "--force")
    nbgrader("generate_feedback", CHAPTER, "--force")
    nbgrader("export", "--to", str(tmp_path / "grades.csv"))
    with (tmp_path / "grades.csv").open(newline="") as file:
        scores = {(row["assignment"], row["student_id"]): float(row["raw_score"] or 0) for row in csv.DictReader(file)}

    def points(chapter):
        found = exercises.all_exercises()[f"chapter_{chapter[:2]}"]
        return {name: 2 * e.stars for name, e in found.items() if not isinstance(e, exercises.Reading)}

    everything = sum(points(CHAPTER).values())
    assert scores[CHAPTER, "right"] == everything and scores[CHAPTER, "empty"] == 0
    assert scores[CHAPTER, "wrong"] == everything - points(CHAPTER)["errors_per_sample"]
    assert scores[WITH_KERAS, "right"] == sum(points(WITH_KERAS).values()), "nothing was written to stderr"
    feedback = (course / "feedback" / "wrong" / CHAPTER / f"{CHAPTER}.html").read_text(encoding="utf-8")
    assert "that is the sum over the pixels" in feedback
