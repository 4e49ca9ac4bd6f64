"""Exercises that answer back.

A chapter says `from exercises import chapter_02 as check` and, below an exercise, `check.squared_error(squared_error)`.
The check runs what the learner wrote on inputs chosen to tell the usual mistakes apart, and says which one it looks
like. What is not filled in yet is "not started", never an exception, so that a chapter runs from top to bottom.

A chapter's file lists its exercises: the right answer, the inputs, and each usual mistake as the program that makes it.
`tests/test_exercises.py` holds every mistake to its own message. Nothing here needs a network, and nothing leaves the
machine: `progress()` reads a file of the learner's own (`~/.tfae/exercises.json`, or where `TFAE_EXERCISES` says).
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

NOT_STARTED = "not started yet: your answer goes into this cell"


@dataclass(frozen=True)
class Verdict:
    """What a check found: `passed` is None where nothing was filled in."""

    passed: bool | None
    message: str


class Exercise:
    """A question of a chapter that can judge an answer.

    Parameters
    ----------
    number : str
        Chapter and exercise, as "02.1".
    stars, minutes : int
        How hard it is (1 to 3) and how long it takes.
    """

    kind: ClassVar[str]
    welcome: ClassVar[str] = ""  # said before the message to an answer that passes
    inputs: Sequence[Any] = ((),)  # what an answer that is a function is called with

    def __init__(self, number: str, *, stars: int = 1, minutes: int = 5) -> None:
        self.number, self.stars, self.minutes = number, stars, minutes

    def __call__(self, *answer: Any) -> None:
        """Say what is right or what looks wrong about an answer, and keep that in the learner's own file."""
        verdict = self.judge(*answer)
        if verdict.passed is not None:
            _keep(self.number, verdict.passed)
        print(_wrapped(f"{self.number} {self.welcome if verdict.passed else ''}{verdict.message}"))

    def judge(self, *answer: Any) -> Verdict:
        raise NotImplementedError

    def _unfilled(self, answer: Any) -> bool:
        return _empty(answer) or (callable(answer) and _empty(answer(*_fresh(self.inputs[0]))))


class Write(Exercise):
    """Write it: an answer that is right or wrong, a function or a value.

    Parameters
    ----------
    right : callable
        The right answer as a function of `inputs`; for an answer that is a value, a function without arguments.
    mistakes : mapping of str to callable
        Each usual mistake: what to tell who makes it, and the program that makes it.
    inputs : sequence of tuples
        Arguments, chosen so that each mistake gives something else than `right`, and something else than the others.
        A function that makes them, where each answer needs fresh ones (networks).
    done : str
        What to say of a right answer: what it was good for.
    compared : callable
        What of a result is compared, where the result itself is no array: a model, a split of the data.
    tolerance : float
        The largest difference that rounding may make, relative to the largest value.
    """

    kind = "write it"
    welcome = "right: "

    def __init__(
        self,
        number: str,
        right: Callable[..., Any],
        mistakes: Mapping[str, Callable[..., Any]],
        *,
        done: str,
        inputs: Sequence[tuple[Any, ...] | Callable[[], tuple[Any, ...]]] = ((),),
        compared: Callable[..., Any] = lambda result: result,
        tolerance: float = 1e-4,
        stars: int = 1,
        minutes: int = 5,
    ) -> None:
        super().__init__(number, stars=stars, minutes=minutes)
        self.right, self.mistakes, self.done = right, mistakes, done
        self.inputs, self.compared, self.tolerance = inputs, compared, tolerance

    def judge(self, answer: Any) -> Verdict:
        """Compare an answer with the right one, then with what each usual mistake would give."""
        try:
            if self._unfilled(answer):
                return Verdict(None, NOT_STARTED)
            given = self._results(answer)
        except Exception as error:  # the learner's own
            return Verdict(False, f"your answer stops with {type(error).__name__}: {error}")
        wanted = self._results(self.right)
        if _same(given, wanted, self.tolerance):
            return Verdict(True, self.done)
        for message, mistake in self.mistakes.items():
            if _same(given, self._results(mistake), self.tolerance):
                return Verdict(False, message)
        return Verdict(False, _difference(given, wanted))

    def _results(self, answer: Any) -> list[Any]:
        results = [answer(*_fresh(given)) for given in self.inputs] if callable(answer) else [answer]
        return [self.compared(result) for result in results]


class Bug(Write):
    """Find the bug: the cell holds a program that runs and is wrong.

    Parameters
    ----------
    given : callable
        That program. Handed back unchanged, it counts as not started.
    """

    kind = "find the bug"

    def __init__(
        self, number: str, given: Callable[..., Any], right: Callable[..., Any],
        mistakes: Mapping[str, Callable[..., Any]], **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(number, right, {NOT_STARTED: given, **mistakes}, **options)

    def judge(self, answer: Any) -> Verdict:
        verdict = super().judge(answer)
        return Verdict(None, NOT_STARTED) if verdict.message == NOT_STARTED else verdict


class Prediction(Exercise):
    """Predict it: commit to a number before the page shows it. A guess is never wrong; it says what one expects.

    Parameters
    ----------
    readings : sequence of (float, str)
        Upper ends of ranges, rising, and what to say to a guess below each; none gives the answer away.
    outside : str
        What to say to a guess beyond the last of them, or below `low`: the unit was misread.
    low : float
        The smallest guess.
    """

    kind = "predict it"
    welcome = "noted. "

    def __init__(
        self,
        number: str,
        readings: Sequence[tuple[float, str]],
        *,
        outside: str,
        low: float = 0.0,
        stars: int = 1,
        minutes: int = 1,
    ) -> None:
        super().__init__(number, stars=stars, minutes=minutes)
        self.readings, self.outside, self.low = readings, outside, low

    def judge(self, answer: Any) -> Verdict:
        if _empty(answer):
            return Verdict(None, NOT_STARTED)
        try:
            guess = float(answer)
        except (TypeError, ValueError):
            return Verdict(False, f"a guess is one number, this is {answer!r}")
        read = [said for end, said in self.readings if self.low <= guess <= end]
        return Verdict(True, read[0]) if read else Verdict(False, self.outside)


class Challenge(Exercise):
    """Break it: an answer that is scored.

    Parameters
    ----------
    score : callable
        From the answer, and what else the page hands over, to `(value, message)`.
    passes : float
        The value to reach.
    enough, not_enough : tuple
        An answer that reaches it, and one that does not and makes none of the mistakes, with what else the page hands
        over: arguments of `score`.
    mistakes : mapping of str to (callable, tuple)
        Each usual mistake: what to tell who makes it, the test that recognises it, and an example that makes it. Both
        callables take the arguments of `score`; the first test that says yes decides.
    inputs : sequence of tuples
        Where the answer is a function: arguments to call it with, to see whether it is filled in.
    """

    kind = "break it"

    def __init__(
        self,
        number: str,
        score: Callable[..., tuple[float, str]],
        mistakes: Mapping[str, tuple[Callable[..., bool], tuple[Any, ...]]],
        *,
        passes: float,
        enough: tuple[Any, ...],
        not_enough: tuple[Any, ...],
        inputs: Sequence[tuple[Any, ...]] = ((),),
        stars: int = 2,
        minutes: int = 10,
    ) -> None:
        super().__init__(number, stars=stars, minutes=minutes)
        self.score, self.mistakes, self.passes, self.inputs = score, mistakes, passes, inputs
        self.enough, self.not_enough = enough, not_enough

    def judge(self, answer: Any, *given: Any) -> Verdict:
        try:
            if _empty(given) or self._unfilled(answer):
                return Verdict(None, NOT_STARTED)
            for message, (made, _) in self.mistakes.items():
                if made(answer, *given):
                    return Verdict(False, message)
            value, message = self.score(answer, *given)
        except Exception as error:  # the learner's own
            return Verdict(False, f"your answer stops the test with {type(error).__name__}: {error}")
        return Verdict(bool(value >= self.passes), message)


class Reading(Exercise):
    """Explain it: a figure read in words. No program marks anybody's words, so it shows what to look for in them.

    Parameters
    ----------
    rubric : sequence of str
        What a good answer says, one point each.
    """

    kind = "explain it"

    def __init__(self, number: str, rubric: Sequence[str], *, stars: int = 1, minutes: int = 5) -> None:
        super().__init__(number, stars=stars, minutes=minutes)
        self.rubric = rubric

    def judge(self, answer: Any) -> Verdict:
        if _empty(answer) or not str(answer).strip(" ."):
            return Verdict(None, NOT_STARTED)
        if len(str(answer).split()) < 15:
            return Verdict(False, "a line or two more: say what you see, and what it does not show")
        points = "\n".join(f"  - {point}" for point in self.rubric)
        return Verdict(True, f"read yours again. Does it say this?\n{points}")


class Exploration(Reading):
    """Explore it: an experiment with an open end, reported in words and read like a reading."""

    kind = "explore it"


# --- what a learner has done -----------------------------------------------------------------------------------------


def all_exercises() -> dict[str, dict[str, Exercise]]:
    """Return the exercises of each chapter's file by their names."""
    files = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name.startswith("chapter_"))
    modules = {name: importlib.import_module(f"{__name__}.{name}") for name in files}
    return {
        name: {key: value for key, value in vars(module).items() if isinstance(value, Exercise)}
        for name, module in modules.items()
    }


def progress() -> None:
    """Print what is done, chapter by chapter."""
    kept = _kept()
    print("* done, - tried, . not started")
    for name, found in all_exercises().items():
        ordered = sorted(found.values(), key=lambda exercise: int(exercise.number.partition(".")[2]))
        marks = "".join({True: "*", False: "-", None: "."}[kept.get(exercise.number)] for exercise in ordered)
        minutes = sum(exercise.minutes for exercise in ordered if not kept.get(exercise.number))
        print(f"{name.replace('_', ' ')}   {marks:10} {marks.count('*')} of {len(marks)}, about {minutes} minutes left")


def _file() -> Path:
    return Path(os.environ.get("TFAE_EXERCISES", Path.home() / ".tfae" / "exercises.json"))


def _kept() -> dict[str, bool]:
    try:
        return dict(json.loads(_file().read_text(encoding="utf-8")))
    except (OSError, ValueError):  # none yet, or cut off
        return {}


def _keep(number: str, passed: bool) -> None:
    kept = _kept()
    kept[number] = passed or kept.get(number, False)
    try:
        _file().parent.mkdir(parents=True, exist_ok=True)
        part = _file().with_suffix(".part")
        part.write_text(json.dumps(kept, indent=1), encoding="utf-8")
        part.replace(_file())
    except OSError:
        pass  # a read-only home must not keep anybody from learning


def _wrapped(text: str) -> str:
    """Return a text in lines of 100 letters, for a notebook would break longer ones inside of words."""
    return "\n".join(
        textwrap.fill(line, 100, subsequent_indent="    " * line.startswith(" "), break_on_hyphens=False)
        for line in text.split("\n")
    )


# --- how two answers are compared ------------------------------------------------------------------------------------


def _fresh(arguments: Any) -> tuple[Any, ...]:
    return arguments() if callable(arguments) else deepcopy(arguments)  # an answer may change what it is given


def _empty(value: Any) -> bool:
    return value is None or value is Ellipsis or (isinstance(value, (tuple, list)) and any(map(_empty, value)))


def _arrays(results: Iterable[Any]) -> list[np.ndarray]:
    """Return every array of a list of results, each of them an array or a tuple of arrays."""
    return [
        np.asarray(part) for result in results for part in (result if isinstance(result, (tuple, list)) else (result,))
    ]


def _same(given: list[Any], wanted: list[Any], tolerance: float) -> bool:
    first, second = _arrays(given), _arrays(wanted)
    if [part.shape for part in first] != [part.shape for part in second]:
        return False
    return all(_near(one, other, tolerance) for one, other in zip(first, second, strict=True))


def _near(one: np.ndarray, other: np.ndarray, tolerance: float) -> bool:
    if one.dtype.kind in "fiub" and other.dtype.kind in "fiub":
        one, other = one.astype("float64"), other.astype("float64")
        scale = float(np.max(np.abs(other[np.isfinite(other)]), initial=0.0))
        return bool(np.allclose(one, other, rtol=0, atol=tolerance * (scale or 1.0)))
    return bool(np.array_equal(one, other))


def _difference(given: list[Any], wanted: list[Any]) -> str:
    """Say how an answer that is none of the usual mistakes differs, without giving the right one away."""
    a, b = _arrays(given), _arrays(wanted)
    shapes = [(tuple(one.shape), tuple(other.shape)) for one, other in zip(a, b, strict=False)]
    for returned, asked in shapes:
        if returned != asked:
            return f"your answer has the shape {returned}, the question asks for {asked}"
    if len(a) != len(b):
        return f"your answer has {len(a)} parts, the question asks for {len(b)}"
    if any(one.dtype.kind not in "fiub" for one in a):
        return "not right yet, and none of the usual mistakes: look at the hints"
    one, other = (np.concatenate([part.astype("float64").ravel() for part in parts]) for parts in (a, b))
    if not np.isfinite(one).all():
        return "your answer has values that are not finite: a logarithm of 0, or a division by it?"
    used = np.abs(other) > 1e-9 * np.abs(other).max(initial=0.0)
    ratios = one[used] / other[used]
    if used.any() and np.allclose(ratios, ratios[0], rtol=1e-3) and not np.isclose(ratios[0], 0):
        return f"every value is {ratios[0]:.3g} times the right one: which factor is that?"
    offsets = one - other
    if np.allclose(offsets, offsets[0], rtol=1e-3):
        return "every value is off by one and the same amount: which term is missing, or one too many?"
    right = float(np.mean(np.isclose(one, other, rtol=1e-3, atol=1e-9)))
    return f"not right yet ({right:.0%} of the values are), and none of the usual mistakes: look at the hints"
