"""`make course`, on two chapters of a line each."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
WAITS = """\
import pathlib, time
pathlib.Path("begun").touch()
while not pathlib.Path("go_on").exists():
    time.sleep(0.05)
"""


@pytest.fixture
def course(tmp_path):
    """A copy of the tool beside two chapters, of which the second waits for a file; TensorFlow is not needed."""
    for directory in ("tools", "tfae", "chapters"):
        (tmp_path / directory).mkdir()
    shutil.copy(ROOT / "tools" / "run_course.py", tmp_path / "tools")
    shutil.copy(ROOT / "tfae" / "files.py", tmp_path / "tfae")
    (tmp_path / "tfae" / "__init__.py").touch()
    (tmp_path / "constraints.txt").touch()
    for name, source in {"00_short": "print('six is', 2 * 3)", "01_long": WAITS + "print('it went on')"}.items():
        heading = nbformat.v4.new_markdown_cell(f"# Chapter {name} of $x^2$, before [this](01_long.ipynb#why)")
        cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["key-result"]})
        nbformat.write(nbformat.v4.new_notebook(cells=[heading, cell]), tmp_path / "chapters" / f"{name}.ipynb")
    return tmp_path


def start(course):
    environment = {key: value for key, value in os.environ.items() if key != "TFAE_DATASET"}
    return subprocess.Popen(
        [sys.executable, "tools/run_course.py"], cwd=course, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="a program cannot send Ctrl-C to another one alone on Windows")
def test_an_interrupted_run_says_what_is_done_and_goes_on_from_there(course):
    first = start(course)
    for _ in range(600):
        if (course / "chapters" / "begun").exists() or first.poll() is not None:
            break
        time.sleep(0.1)
    first.send_signal(signal.SIGINT)
    said, progress = first.communicate(timeout=60)
    assert (first.returncode, said) == (130, ""), progress
    assert "Traceback" not in progress and "Error" not in progress
    last = progress.splitlines()[-1]
    assert last == "interrupted in 01_long. Done: 00_short. The same command goes on from there."

    built = course / "build" / "course"
    assert "six is 6" in (built / "index.html").read_text() and not (built / "01_long.json").exists()
    of_the_first_run = (built / "00_short.json").stat().st_mtime_ns
    (course / "chapters" / "go_on").touch()
    second = start(course)
    said, progress = second.communicate(timeout=60)
    assert second.returncode == 0, progress
    assert (built / "00_short.json").stat().st_mtime_ns == of_the_first_run
    assert json.loads((built / "01_long.json").read_text())["key_result"] == "it went on"
    assert "six is 6" in said and "it went on" in said and "<math display" in (built / "01_long.html").read_text()
    assert 'href="01_long.html#why"' in (built / "00_short.html").read_text()
