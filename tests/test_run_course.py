"""`make course`, on two chapters of a line each."""

import html
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from pages import sections  # noqa: E402

WAITS = """\
import pathlib, time
pathlib.Path("begun").touch()
while not pathlib.Path("go_on").exists():
    time.sleep(0.05)
"""


EXPLORER = """\
class Explorer:
    def _repr_mimebundle_(self, **options):
        return {"text/plain": "still", "application/vnd.jupyter.widget-view+json": {"model_id": "none"}}

    def fragment(self):
        return "<p>it is alive</p>"
"""
TWO = "from tfae import explorer\ndisplay(explorer.Explorer())\nexplorer.Explorer()"


@pytest.fixture
def course(tmp_path):
    """A copy of the tools beside two chapters, of which the second waits for a file; TensorFlow is not needed."""
    for directory in ("tools", "tfae", "chapters"):
        (tmp_path / directory).mkdir()
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    copied = ("tools/run_course.py", "tools/pages.py", "tfae/files.py", "pyproject.toml", "chapters/references.bib")
    for name in copied:
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "tfae" / "__init__.py").touch()
    (tmp_path / "tfae" / "explorer.py").write_text(EXPLORER)
    (tmp_path / "constraints.txt").touch()
    for name, source in {"00_start_here": "print('six is', 2 * 3)", "01_long": WAITS + "print('it went on')"}.items():
        heading = nbformat.v4.new_markdown_cell(
            f"# {name} of $x^2$, before [this](01_long.ipynb#Why-not?)\n\n## Why not?"
        )
        cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["key-result"]})
        cells = [heading, cell, nbformat.v4.new_code_cell(TWO)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "chapters" / f"{name}.ipynb")
    return tmp_path


def plain(page):
    return html.unescape(re.sub("<[^>]+>", "", page))


def hear_ctrl_c():
    """A shell has what it starts in the background ignore it, and this is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(course, *arguments, python=(sys.executable,), **settings):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TFAE_")} | settings
    environment["PYTHONPATH"] = str(course)  # whose tfae is the one that its chapters import
    return subprocess.Popen(
        [*python, "tools/run_course.py", *arguments], cwd=course, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        preexec_fn=None if os.name == "nt" else hear_ctrl_c,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="a program cannot send Ctrl-C to another one alone on Windows")
def test_an_interrupted_run_says_what_is_done_and_goes_on_from_there(course):
    first = start(course)
    runs, site = course / "build" / "runs-strokes", course / "build" / "course"
    for _ in range(600):
        both = (course / "chapters" / "begun").exists() and (runs / "00_start_here.json").exists()
        if both or first.poll() is not None:
            break
        time.sleep(0.1)
    first.send_signal(signal.SIGINT)
    said, progress = first.communicate(timeout=60)
    assert (first.returncode, said) == (130, ""), progress
    assert "Traceback" not in progress and "Error" not in progress
    last = progress.splitlines()[-1]
    assert last == "interrupted in 01_long. Done: 00_start_here. The same command goes on from there."

    assert (runs / "00_start_here.json").exists() and not (runs / "01_long.json").exists()
    of_the_first_run = (runs / "00_start_here.json").stat().st_mtime_ns
    (course / "chapters" / "go_on").touch()
    second = start(course, TFAE_REPOSITORY="https://github.com/someone/course")
    said, progress = second.communicate(timeout=300)
    assert second.returncode == 0, progress
    assert (runs / "00_start_here.json").stat().st_mtime_ns == of_the_first_run
    assert json.loads((runs / "01_long.json").read_text())["key_result"] == "it went on"
    assert "six is 6" in said and "it went on" in said and "build/course/index.html" in said
    page = (site / "00_start_here.html").read_text()
    assert "<math " in page and 'href="01_long.html#why-not"' in page and "six is 6" in page
    results = (site / "results.html").read_text()
    assert "it went on" in results and re.search("Why not.*?all of it", results, re.DOTALL)
    (waited,) = (part for part in sections(nbformat.read(runs / "01_long.ipynb", as_version=4)) if part.seconds)
    assert waited.heading == "Why not?" and 0 < waited.seconds < 60
    assert page.count("<p>it is alive</p>") == 2 and "widget-view" not in page
    assert "00_start_here.html" in (site / "index.html").read_text()
    assert "colab.research.google.com/github/someone/course/blob/main/chapters/00_start_here.ipynb" in page
    assert "github.com/someone/course/edit/main/chapters/00_start_here.ipynb" in page
    assert "mybinder.org/v2/gh/someone/course/main?urlpath=lab/tree/chapters/00_start_here.ipynb" in page
    folded = page.split("<summary>In Colab, run this cell first</summary>")[1].split("</details>")[0]
    assert "!git clone -q https://github.com/someone/course course\n%cd course/chapters\n%pip" in plain(folded)
    assert "The rocket above each chapter" in (site / "index.html").read_text()

    made = (site / "index.html").stat().st_mtime_ns
    third = start(course, TFAE_REPOSITORY="https://github.com/someone/course")
    said, progress = third.communicate(timeout=60)
    assert third.returncode == 0 and "it went on" in said, progress
    assert (site / "index.html").stat().st_mtime_ns == made, "nothing had changed"


@pytest.mark.slow
@pytest.mark.skipif(os.cpu_count() == 1 or psutil.virtual_memory().available < 2**32, reason="one runs at a time here")
def test_two_chapters_run_at_a_time_and_both_are_interrupted(course):
    """Each waits for a file; the first ends when the second has begun, so that one after the other would never end."""
    path = course / "chapters" / "00_start_here.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].source = WAITS.replace("go_on", "begun").replace('Path("begun").touch()', 'Path("first").touch()')
    notebook.cells.append(nbformat.v4.new_code_cell(WAITS))
    nbformat.write(notebook, path)
    run = start(course)
    for _ in range(600):
        if (course / "chapters" / "begun").exists() or run.poll() is not None:
            break
        time.sleep(0.1)
    time.sleep(1)
    run.send_signal(signal.SIGINT)
    _, progress = run.communicate(timeout=60)
    assert run.returncode == 130 and "Traceback" not in progress and "Error" not in progress, progress
    assert progress.splitlines()[-1] == (
        "interrupted in 00_start_here and 01_long. Done: nothing yet. The same command goes on from there."
    )
    commands = (" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))
    assert not [command for command in commands if str(course) in command]  # no kernel is left behind


@pytest.mark.slow
def test_a_chapter_that_fails_is_shown_up_to_its_error(course):
    path = course / "chapters" / "01_long.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1:] = [
        nbformat.v4.new_code_cell("print('so far', 1 + 1)"),
        nbformat.v4.new_code_cell("1 / 0"),
        nbformat.v4.new_code_cell("2", outputs=[nbformat.v4.new_output("stream", text="of an older run")]),
    ]
    nbformat.write(notebook, path)
    run = start(course, "01")
    _, progress = run.communicate(timeout=300)
    assert run.returncode == 1 and "01_long failed" in progress and "Traceback" in progress
    page = (course / "build" / "course" / "01_long.html").read_text()
    assert "so far 2" in page and "ZeroDivisionError" in page and "of an older run" not in page
    assert not re.search("colab|mybinder|/edit/", page, re.IGNORECASE)
    assert "The rocket above each chapter" not in (course / "build" / "course" / "index.html").read_text()
    assert "failed" in (course / "build" / "course" / "results.html").read_text()


def test_without_sphinx_one_line_says_what_to_install(course):
    without = (
        "import runpy, sys; sys.modules['sphinx'] = None; sys.argv = sys.argv[1:]; "
        "sys.path.insert(0, 'tools'); runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    run = start(course, python=(sys.executable, "-c", without))
    said, error = run.communicate(timeout=60)
    assert (run.returncode, said) == (1, "")
    assert error == (
        "the site needs sphinx, which this Python does not have. "
        'Install: python -m pip install -c constraints.txt -e ".[course]"\n'
    )
    assert not (course / "build").exists()
