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


def each(kind):
    """Run a test on every exercise of this kind."""
    found = [(name, exercise) for name, exercise in FOUND if isinstance(exercise, kind)]
    assert found
    return pytest.mark.parametrize(("name", "exercise"), found, ids=[name for name, _ in found])


@pytest.fixture(autouse=True)
def own_file(tmp_path, monkeypatch):
    monkeypatch.setenv("TFAE_EXERCISES", str(tmp_path / "learner" / "exercises.json"))


def answer(program, exercise):
    """Return a mistake or the right answer as a learner hands it in: a function, or a value."""
    return program if exercise.inputs != ((),) else program()


def sentences(messages):
    return all(len(message.split()) >= 4 and message[-1] in ".?!" for message in messages)


@each(exercises.Write)
class TestWritten:
    def test_the_right_answer_passes(self, name, exercise):
        assert exercise.judge(answer(exercise.right, exercise)) == exercises.Verdict(True, exercise.done)

    def test_each_usual_mistake_gets_its_own_message(self, name, exercise):
        assert len(exercise.mistakes) >= 3
        for message, mistake in exercise.mistakes.items():
            passed = None if message == exercises.NOT_STARTED else False  # a bug handed back as it was given
            assert exercise.judge(answer(mistake, exercise)) == exercises.Verdict(passed, message)

    def test_each_message_is_a_whole_sentence(self, name, exercise):
        assert sentences(message for message in exercise.mistakes if message != exercises.NOT_STARTED)

    def test_what_is_a_little_off_is_not_right(self, name, exercise):
        right = exercise._results(answer(exercise.right, exercise))
        off = [np.multiply(part, 1.1 if exercise.tolerance > 1e-2 else 1.002) for part in exercises._arrays(right)
               if part.dtype.kind in "fiu"]  # fmt: skip
        assert not off or not exercises._same(off, exercises._arrays(right), exercise.tolerance)


@each(exercises.Challenge)
class TestChallenges:
    def test_what_is_enough_passes_and_what_is_not_is_told_so(self, name, exercise):
        assert exercise.judge(*exercise.enough).passed
        verdict = exercise.judge(*exercise.not_enough)
        assert verdict.passed is False and verdict.message not in exercise.mistakes and sentences([verdict.message])

    def test_each_usual_mistake_gets_its_own_message(self, name, exercise):
        assert len(exercise.mistakes) >= 3
        for message, (_, example) in exercise.mistakes.items():
            assert exercise.judge(*example) == exercises.Verdict(False, message)

    def test_each_message_is_a_whole_sentence(self, name, exercise):
        assert sentences(exercise.mistakes)

    def test_one_who_hands_in_half_has_not_started(self, name, exercise):
        first, *given = exercise.enough
        assert exercise.judge(first, *(... for _ in given)).passed is (None if given else True)


@each(exercises.Prediction)
class TestPredictions:
    def test_each_guess_is_read_in_its_own_way(self, name, exercise):
        ends, said = zip(*exercise.readings, strict=True)
        starts = (exercise.low, *ends[:-1])
        assert len(set(said)) == len(said) >= 3 and sentences(said)
        for start, end, reading in zip(starts, ends, said, strict=True):
            for guess in ((start + end) / 2, end):
                assert start < guess and exercise.judge(guess) == exercises.Verdict(True, reading)
        assert exercise.judge(exercise.low) == exercises.Verdict(True, said[0])

    def test_what_is_no_such_number_is_told_apart(self, name, exercise):
        for guess in (exercise.low - 1, exercise.readings[-1][0] + 1, np.nan):
            assert exercise.judge(guess) == exercises.Verdict(False, exercise.outside)
        assert exercise.judge("many").message == "a guess is one number, this is 'many'"


@each(exercises.Reading)
class TestReadings:
    def test_few_words_are_not_enough_and_more_are_answered_with_the_rubric(self, name, exercise):
        assert exercise.judge("It went well.").passed is False
        verdict = exercise.judge("word " * 15)
        assert verdict.passed and verdict.message.split("\n  - ")[1:] == list(exercise.rubric)
        assert len(exercise.rubric) >= 3


@each(exercises.Exercise)
class TestAny:
    def test_an_empty_cell_has_not_been_started(self, name, exercise, capsys):
        written = isinstance(exercise, (exercises.Write, exercises.Challenge))
        for empty in (None, ..., lambda *_: None, lambda *_: ...) if written else (None, ...):
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


def test_each_kind_is_there():
    kinds = {exercise.kind for _, exercise in FOUND}
    assert kinds == {"write it", "predict it", "find the bug", "break it", "explain it", "explore it"}


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


def test_a_long_message_is_broken_between_words(capsys):
    said = " ".join(["a word or two"] * 20)
    exercises.Reading("99.3", [said, "short"])("word " * 20)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100 and lines[1].startswith("  - a word") and lines[2].startswith("    ")
    assert " ".join(" ".join(lines[1:-1]).split()) == f"- {said}" and lines[-1] == "  - short"


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


def test_progress_follows_the_numbers_and_not_the_alphabet(tmp_path, monkeypatch, capsys):
    listed = {str(i): exercises.Reading(f"99.{i}", ["said"], minutes=i) for i in (10, 2, 1)}
    monkeypatch.setattr(exercises, "all_exercises", lambda: {"chapter_99": listed})
    exercises._keep("99.2", passed=True)
    exercises._keep("99.10", passed=False)
    exercises.progress()
    _, line = capsys.readouterr().out.splitlines()
    assert line.split(maxsplit=3) == ["chapter", "99", ".*-", "1 of 3, about 11 minutes left"]


def test_a_home_that_cannot_be_written_stops_nobody(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TFAE_EXERCISES", str(tmp_path / "file" / "exercises.json"))
    mean(lambda x: np.mean(x, axis=0))
    assert capsys.readouterr().out == "99.1 right: so it is.\n"


def test_rounding_is_forgiven_and_no_more():
    for factor, passed in ((1 + 5e-5, True), (1 + 5e-4, False)):
        assert mean.judge(lambda x: factor * np.mean(x, axis=0)).passed is passed  # noqa: B023


def test_an_answer_may_change_what_it_is_given():
    def in_place(x):
        x /= len(x)
        return x.sum(axis=0)

    assert mean.judge(in_place).passed and mean.judge(in_place).passed


def test_a_challenge_is_scored():
    far = exercises.Challenge(
        "99.4", lambda x: (abs(x), f"{abs(x)} away"), {"that is the start itself.": (lambda x: x == 0, (0,))},
        passes=2, enough=(2,), not_enough=(1,),
    )  # fmt: skip
    assert far.judge(0) == exercises.Verdict(False, "that is the start itself.")
    assert far.judge(1) == exercises.Verdict(False, "1 away") and far.judge(-3).passed and far.judge(2).passed
    assert far.judge("x").passed is False


def test_a_challenge_may_ask_for_a_function():
    steep = exercises.Challenge(
        "99.5", lambda f: (f(1) - f(0), "so steep."), {"that is flat.": (lambda f: f(1) == f(0), (lambda x: 1,))},
        passes=2, enough=(lambda x: 2 * x,), not_enough=(lambda x: x,), inputs=[(0,)],
    )  # fmt: skip
    assert steep.judge(lambda x: None).passed is None and steep.judge(lambda x: ...).passed is None
    assert steep.judge(lambda x: 5) == exercises.Verdict(False, "that is flat.")
    assert steep.judge(*steep.not_enough).passed is False and steep.judge(*steep.enough).passed
    assert steep.judge(lambda x: 1 / 0).message == "your answer stops the test with ZeroDivisionError: division by zero"
