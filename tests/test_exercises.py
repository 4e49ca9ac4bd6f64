"""Each exercise's check: the right answer passes, each usual mistake gets its own message, an empty cell says so.

The solutions folded in the chapters go through the same checks when the chapters are tested (`conftest.py`).
"""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

CHAPTERS = Path(__file__).resolve().parent.parent / "chapters"
sys.path.insert(0, str(CHAPTERS))
import exercises  # noqa: E402

FOUND = [
    (f"{chapter}.{name}", exercise)
    for chapter, found in exercises.all_exercises().items()
    for name, exercise in found.items()
]
WRITTEN = [(name, e) for name, e in FOUND if isinstance(e, exercises.Write)]


@pytest.fixture(autouse=True)
def own_file(tmp_path, monkeypatch):
    monkeypatch.setenv("TFAE_EXERCISES", str(tmp_path / "learner" / "exercises.json"))


def answer(program, exercise):
    """Return a mistake or the right answer as a learner hands it in: a function, or a value."""
    return program if exercise.inputs != ((),) else program()


@pytest.mark.parametrize(("name", "exercise"), WRITTEN, ids=[name for name, _ in WRITTEN])
class TestWritten:
    def test_the_right_answer_passes(self, name, exercise):
        assert exercise.judge(answer(exercise.right, exercise)) == exercises.Verdict(True, exercise.done)

    def test_each_usual_mistake_gets_its_own_message(self, name, exercise):
        assert len(exercise.mistakes) >= 3
        for message, mistake in exercise.mistakes.items():
            passed = None if message == exercises.NOT_STARTED else False  # a bug handed back as it was given
            assert exercise.judge(answer(mistake, exercise)) == exercises.Verdict(passed, message)

    def test_each_message_is_a_whole_sentence(self, name, exercise):
        said = [message for message in exercise.mistakes if message != exercises.NOT_STARTED]
        assert all(len(message.split()) >= 4 and message[-1] in ".?!" for message in said)


@pytest.mark.parametrize(("name", "exercise"), FOUND, ids=[name for name, _ in FOUND])
class TestAny:
    def test_an_empty_cell_has_not_been_started(self, name, exercise, capsys):
        for empty in (None, ..., lambda *_: None, lambda *_: ...) if hasattr(exercise, "inputs") else (None, ...):
            assert exercise.judge(empty).passed is None
        exercise(...)
        assert capsys.readouterr().out == f"{exercise.number} {exercises.NOT_STARTED}\n"
        assert not exercises._kept()

    def test_an_answer_that_breaks_is_answered(self, name, exercise):
        verdict = exercise.judge(lambda *_: 1 / 0)
        assert verdict.passed is False and verdict.message

    def test_has_its_number_stars_and_minutes(self, name, exercise):
        assert re.fullmatch(rf"{name[8:10]}\.\d+", exercise.number)
        assert 1 <= exercise.stars <= 3 and 1 <= exercise.minutes <= 60


@pytest.mark.parametrize("chapter", sorted(exercises.all_exercises()))
def test_a_chapter_asks_what_its_checks_answer(chapter):
    """The cells to fill, in order, call each check of the chapter's file once, and their numbers run on."""
    found = exercises.all_exercises()[chapter]
    (path,) = CHAPTERS.glob(f"{chapter[8:]}_*.ipynb")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    tagged = [c for c in cells if c["cell_type"] == "code" and "exercise" in c["metadata"].get("tags", ())]
    called = [re.search(r"^check\.(\w+)\(", "".join(c["source"]), re.MULTILINE)[1] for c in tagged]
    assert sorted(called) == sorted(found) and len(found) >= 5
    assert [found[name].number for name in called] == [f"{chapter[8:]}.{i}" for i in range(1, len(called) + 1)]
    ends = next(i for i, c in enumerate(cells) if "## What was shown" in "".join(c["source"]))
    assert sum(cells.index(c) < ends for c in tagged) >= 2, "two exercises stand inside the lesson"
    for cell in tagged:
        assert "".join("".join(o.get("text", "")) for o in cell["outputs"]).endswith(f"{exercises.NOT_STARTED}\n")
    prose = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    for exercise in found.values():
        title = re.search(rf"\*\*{re.escape(exercise.number)} [^*]+\*\* \((\d+) minutes?, (★+)\)", prose)
        assert title and (int(title[1]), len(title[2])) == (exercise.minutes, exercise.stars), exercise.number


# --- the machinery ---------------------------------------------------------------------------------------------------

mean = exercises.Write(
    "99.1", lambda x: np.mean(x, axis=0), {"the other axis.": lambda x: np.mean(x, axis=1)},
    inputs=[(np.arange(12.0).reshape(3, 4),), (np.eye(4)[:3],)], done="so it is.",
)  # fmt: skip


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (lambda x: 3 * np.mean(x, axis=0), "every value is 3 times"),
        (lambda x: np.mean(x, axis=0) + 1, "off by one and the same"),
        (lambda x: np.mean(x, axis=0, keepdims=True), r"shape \(1, 4\), the question asks for \(4,\)"),
        (lambda x: np.mean(x, axis=0) * np.array([1, 1, 1, 2]), "88% of the values are"),
        (lambda x: np.full(4, np.nan), "not finite"),
        (lambda x: x.no_such_thing, "your answer stops with AttributeError"),
        (lambda x: ("a", "b"), "2 parts|shape"),
    ],
)
def test_what_is_no_usual_mistake_is_described(program, said):
    verdict = mean.judge(program)
    assert verdict.passed is False and re.search(said, verdict.message)


def test_tensors_lists_and_other_numbers_are_answers_too():
    keras = pytest.importorskip("keras")
    assert mean.judge(lambda x: keras.ops.mean(keras.ops.convert_to_tensor(x), axis=0)).passed
    assert mean.judge(lambda x: np.mean(x, axis=0).astype("float32")).passed


def test_progress_is_kept_in_a_file_of_the_learners_own(tmp_path, capsys):
    mean(lambda x: 0 * x[0])
    mean(lambda x: np.mean(x, axis=0))
    mean(lambda x: 0 * x[0])  # what was solved stays solved
    assert json.loads((tmp_path / "learner" / "exercises.json").read_text()) == {"99.1": True}
    (tmp_path / "learner" / "exercises.json").write_text("{cut o")
    assert exercises._kept() == {}
    capsys.readouterr()
    exercises.progress()
    assert "0 of" in capsys.readouterr().out


def test_a_home_that_cannot_be_written_stops_nobody(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TFAE_EXERCISES", str(tmp_path / "file" / "exercises.json"))
    mean(lambda x: np.mean(x, axis=0))
    assert capsys.readouterr().out == "99.1 right: so it is.\n"


def test_a_guess_is_noted_and_a_reading_shows_its_rubric():
    guess = exercises.Prediction("99.2", [(0.5, "low."), (1, "high.")], low=0, high=1, outside="a share is asked for.")
    assert [guess.judge(value).message for value in (0.2, 0.5, 0.7, 70)] == ["low.", "low.", "high.", guess.outside]
    assert guess.judge("many").passed is False
    reading = exercises.Reading("99.3", ["it says this", "and that"])
    assert reading.judge("too short").passed is False and reading.judge(" ... ").passed is None
    assert "  - and that" in reading.judge("word " * 20).message


def test_a_challenge_is_scored():
    far = exercises.Challenge(
        "99.4", lambda x: (abs(x), f"{abs(x)} away"), {"that is the start itself.": lambda x: x == 0}, passes=2
    )
    assert far.judge(0) == exercises.Verdict(False, "that is the start itself.")
    assert far.judge(1) == exercises.Verdict(False, "1 away") and far.judge(-3).passed
    assert far.judge("x").passed is False
