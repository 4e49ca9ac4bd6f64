"""Run the chapters and leave a site to read, with one table that sums them up.

    python tools/run_course.py                  every chapter that has changed since its last run
    python tools/run_course.py 02 03            these chapters
    python tools/run_course.py --no-run         none: the site shows the chapters as they were committed
    TFAE_DATASET=mnist python tools/run_course.py

The site goes to build/course (build/course-mnist on MNIST; build/site without a run) and opens from the disk. A chapter
is any chapters/NN_name.ipynb, an appendix any chapters/AN_name.ipynb; its key result is what its cell with the tag
`key-result` prints. Two chapters run at a time where there are two cores and 4 GB of free memory. A chapter that fails
is shown up to its error. After an interruption (Ctrl-C) the same command goes on from there.
"""

import argparse
import asyncio
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import nbformat
import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from pages import WORDS_A_MINUTE, sections  # noqa: E402

from tfae.files import written_whole  # noqa: E402

DATASET = os.environ.get("TFAE_DATASET") or "strokes"
BAR = "{desc:<20} |{bar:30}| {percentage:3.0f} %  {elapsed}, {remaining} left"
COURSE = ROOT / "build" / ("course" if DATASET == "strokes" else f"course-{DATASET}")
RUNS = ROOT / "build" / f"runs-{DATASET}"  # of each chapter the notebook as it was executed here, and the result
WITHOUT_KERNEL = (  # a page has none: what an explorer is in these runs, beside a widget and its picture
    "get_ipython().display_formatter.formatters['text/html']"
    ".for_type_by_name('tfae.explorer', 'Explorer', lambda explorer: explorer.fragment())"
)


@dataclass
class Result:
    """What one run of a chapter showed."""

    chapter: str
    title: str
    fingerprint: str
    minutes: float
    peak_memory_mb: int
    key_result: str
    error: str = ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapters", nargs="*", help="numbers or names of chapters; all, if none is given")
    parser.add_argument("--no-run", action="store_true", help="make the site from the chapters as they were committed")
    parser.add_argument("--into", type=Path, metavar="DIRECTORY", help="where the site goes")
    arguments = parser.parse_args()
    every = sorted((ROOT / "chapters").glob("[0-9A][0-9]_*.ipynb"))
    wanted = arguments.chapters
    unknown = [name for name in wanted if not any(path.stem.startswith(name) for path in every)]
    if unknown:
        parser.error(f"no chapter {', '.join(unknown)}; there are {', '.join(path.stem for path in every)}")
    missing = [package for package in SITE_NEEDS if not installed(package)]
    if missing:
        command = 'python -m pip install -c constraints.txt -e ".[course]"'
        parser.exit(1, f"the site needs {', '.join(missing)}, which this Python does not have. Install: {command}\n")
    if arguments.no_run:
        return 0 if make_site(every, {}, arguments.into or ROOT / "build" / "site") else 1

    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # TensorFlow calls it an error that a processor has no AVX-512
    code = fingerprint(
        *sorted((ROOT / "tfae").glob("*.py")), *sorted((ROOT / "data").glob("*.npz")), ROOT / "constraints.txt"
    )
    chapters = [path for path in every if not wanted or path.stem.startswith(tuple(wanted))]
    try:
        results = run_all(chapters, code)
        runs = {path: result for path in every if (result := last_result(path, code))}
        made = make_site(every, runs, arguments.into or COURSE)
    except KeyboardInterrupt as interruption:
        print(f"\ninterrupted{interruption}. The same command goes on from there.", file=sys.stderr)
        return 130  # what a shell expects of a program that Ctrl-C ended
    print(table(results))
    failed = [result for result in results if result.error]
    for result in failed:
        print(f"\n{result.chapter} failed:\n{result.error}", file=sys.stderr)
    return 1 if failed or not made else 0


# --- running the chapters --------------------------------------------------------------------------------------------


def run_all(chapters: list[Path], code: str) -> list[Result]:
    """Run those chapters that have changed since their last run, or failed in it, two at a time where there is room."""
    results = {path: last_result(path, code) for path in chapters}
    notebooks = {
        path: nbformat.read(path, as_version=4)
        for path, result in results.items()
        if result is None or result.error
    }  # fmt: skip
    running: list[Client] = []

    async def run_them(bar: tqdm) -> None:
        places = asyncio.Semaphore(at_once())

        async def run_one(path: Path, notebook: nbformat.NotebookNode) -> None:
            async with places:
                client = Client(notebook, path, bar)
                running.append(client)
                bar.set_description_str(" ".join(client.chapter[:2] for client in running))
                results[path] = await run(client, code)
                running.remove(client)

        async with asyncio.TaskGroup() as group:  # which waits, after Ctrl-C too, until every kernel is shut down
            for chapter in notebooks.items():
                group.create_task(run_one(*chapter))

    with tqdm(total=sum(len(notebook.cells) for notebook in notebooks.values()), bar_format=BAR) as bar:
        try:
            with asyncio.Runner(loop_factory=Loop) as runner:
                runner.run(run_them(bar))
        except KeyboardInterrupt:
            done = ", ".join(result.chapter for result in results.values() if result and not result.error)
            where = " and ".join(sorted(client.chapter for client in running))
            raise KeyboardInterrupt(f" in {where}. Done: {done or 'nothing yet'}") from None
        bar.set_description_str("done")
    return [result for result in results.values() if result]


def at_once() -> int:
    """Return how many chapters run at a time: much of each takes one core, and a kernel up to 2 GB."""
    return max(1, min(2, os.cpu_count() or 1, psutil.virtual_memory().available // 2**31))


async def run(client: "Client", code: str) -> Result:
    """Execute a chapter from a clean kernel; write its notebook and its result."""
    start, error = time.monotonic(), ""
    with PeakMemory(client) as memory:
        try:
            await client.async_execute()
        except (CellExecutionError, DeadKernelError, CellTimeoutError) as failure:
            error = plain_text(str(failure)).strip()
    client.bar.update(len(client.nb.cells) - client.done)
    result = Result(
        chapter=client.chapter,
        title=title(client.nb),
        fingerprint=fingerprint(client.path) + code,
        minutes=(time.monotonic() - start) / 60,
        peak_memory_mb=round(memory.peak / 2**20),
        key_result=key_result(client.nb),
        error=error,
    )
    with written_whole(RUNS / f"{client.chapter}.ipynb") as temporary:
        nbformat.write(client.nb, temporary)
    with written_whole(RUNS / f"{client.chapter}.json") as temporary:
        temporary.write_text(json.dumps(asdict(result), indent=1), encoding="utf-8")
    return result


class Loop(asyncio.SelectorEventLoop):
    """The loop that kernels need on Windows too. It leaves Ctrl-C to asyncio, which cancels what runs.

    nbclient's own handler takes the kernel away under the cell that runs, which ends in an AssertionError.
    """

    def add_signal_handler(self, *_: object) -> None:
        raise NotImplementedError

    remove_signal_handler = add_signal_handler


class Client(NotebookClient):
    """The kernel of one chapter."""

    def __init__(self, notebook: nbformat.NotebookNode, path: Path, bar: tqdm) -> None:
        for cell in notebook.cells:
            if cell.cell_type == "code":  # below an error nothing is shown that did not happen here
                cell.outputs, cell.execution_count = [], None
        super().__init__(
            notebook,
            timeout=1800,
            coalesce_streams=True,
            kernel_name="python3",
            store_widget_state=False,  # in a page it would ask for scripts from another host
            extra_arguments=[
                "--log-level=ERROR",  # a kernel on this machine alone need not warn of the network
                f"--IPKernelApp.exec_lines={WITHOUT_KERNEL}",
            ],
            resources={"metadata": {"path": str(path.parent)}},
            on_cell_complete=self._count,
        )
        self.chapter, self.path, self.bar, self.done = path.stem, path, bar, 0

    def _count(self, cell: nbformat.NotebookNode, cell_index: int) -> None:
        self.done += 1
        self.bar.update()

    async def async_execute_cell(self, *args: object, **kwargs: object) -> nbformat.NotebookNode:
        try:
            return await super().async_execute_cell(*args, **kwargs)
        except DeadKernelError:
            if not asyncio.current_task().cancelling():  # which the parent takes for a kernel that has died
                raise
            self.shutdown_kernel = "immediate"  # a busy kernel would not listen
            raise asyncio.CancelledError from None


def last_result(path: Path, code: str) -> Result | None:
    """Return the result of the last run here if nothing it depends on has changed since."""
    try:
        result = Result(**json.loads((RUNS / f"{path.stem}.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return result if result.fingerprint == fingerprint(path) + code else None


def fingerprint(*paths: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:16]


class PeakMemory:
    """The largest memory, in bytes, of a chapter's kernel and of what it starts while the block runs.

    What several processes share, such as TensorFlow's libraries, counts once.
    """

    def __init__(self, client: Client) -> None:
        self.peak, self._client, self._stop = 0, client, threading.Event()

    def __enter__(self) -> "PeakMemory":
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.5):
            with suppress(psutil.Error, AttributeError):  # there is no kernel before its start and after its end
                kernel = psutil.Process(self._client.km.provisioner.pid)
                total = 0
                for process in (kernel, *kernel.children(recursive=True)):
                    with suppress(psutil.Error):
                        total += memory_of(process)
                self.peak = max(self.peak, total)


def memory_of(process: psutil.Process) -> int:
    try:
        memory = process.memory_full_info()
    except psutil.AccessDenied:
        return process.memory_info().rss
    return getattr(memory, "pss", memory.uss)  # Linux alone says how much of what is shared is this one's part


def title(notebook: nbformat.NotebookNode) -> str:
    """Return the first heading."""
    for cell in notebook.cells:
        for line in cell.source.splitlines():
            if cell.cell_type == "markdown" and line.startswith("# "):
                return line[2:].strip()
    return ""


def key_result(notebook: nbformat.NotebookNode) -> str:
    """Return what the cell tagged `key-result` printed, on one line."""
    for cell in notebook.cells:
        if "key-result" in cell.metadata.get("tags", ()):
            texts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
            return " ".join("".join(texts).split())
    return ""


def plain_text(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


# --- the site --------------------------------------------------------------------------------------------------------

SITE_NEEDS = ("sphinx", "myst_nb", "sphinx_book_theme", "sphinx_design", "sphinx_copybutton", "sphinxcontrib.bibtex",
              "numpydoc", "latex2mathml")  # fmt: skip


def installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):  # what it lies in is missing
        return False


def make_site(chapters: list[Path], runs: dict[Path, Result], out: Path) -> bool:
    """Gather the pages, let Sphinx make a site of them, and put it in the place of the old one when it is whole.

    A chapter is shown as it was executed here, or as it was committed where it was not.
    """
    results = results_page(chapters, runs)
    gathered = [RUNS / path.name if path in runs else path for path in chapters]
    gathered += [*sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs").glob("*.png"))]
    gathered += [ROOT / "chapters" / "references.bib", ROOT / "docs" / "explorer.html"]
    used = [*gathered, *sorted((ROOT / "docs").glob("*.py")), *sorted((ROOT / "docs" / "_static").iterdir())]
    used += [*sorted((ROOT / "tfae").glob("*.py")), ROOT / "pyproject.toml", ROOT / "constraints.txt"]
    made_of = "\n".join(
        [fingerprint(*used), *(path.name for path in used), os.environ.get("TFAE_REPOSITORY", ""), results]
    )

    stamp, index = out / ".made-of", out / "index.html"
    if not (index.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == made_of):
        print("making the pages (a minute or so)", flush=True)
        parts = out.with_name(f".{out.name}-parts")
        shutil.rmtree(parts, ignore_errors=True)
        sources, pages = parts / "sources", parts / "pages"
        sources.mkdir(parents=True)
        for path in gathered:
            shutil.copy(path, sources)
        (sources / "results.md").write_text(results, encoding="utf-8")
        sphinx = [sys.executable, "-m", "sphinx", "-q", "-c", ROOT / "docs", "-d", parts / "doctrees"]
        if subprocess.run([*sphinx, sources, pages]).returncode:
            print(f"Sphinx made no site, see above; {out} is as it was", file=sys.stderr)
            return False
        (pages / ".made-of").write_text(made_of, encoding="utf-8")
        if out.exists():
            out.rename(parts / "before")
        pages.rename(out)
        shutil.rmtree(parts)
    print(f"pages to read: {os.path.relpath(index, ROOT)}")
    return True


def results_page(chapters: list[Path], runs: dict[Path, Result]) -> str:
    """Return the summary as a page of the site, in Markdown: each chapter, then the sections of each."""
    rows, parts = [], []
    for path in chapters:
        notebook = nbformat.read(RUNS / path.name if path in runs else path, as_version=4)
        if path in runs:
            r = runs[path]
            minutes, memory, said = f"{r.minutes:.1f}", str(r.peak_memory_mb), "**failed**" if r.error else r.key_result
        else:
            minutes, memory, said = "–", "–", key_result(notebook)
        said = said if said == "**failed**" else re.sub(r"([\\`*_\[\]<>$|])", r"\\\1", said)
        rows.append(f"| [{path.stem.replace('_', ' ')}]({path.name}) | {minutes} | {memory} | {said} |")
        if not path.stem.startswith("A"):
            parts += lesson(path, notebook, run=path in runs)
    here = f"Run on this machine, two at a time, on the data set *{DATASET}*." if runs else "Nothing was run here."
    if len(runs) < len(chapters):
        here += " A chapter without minutes is shown as it was committed; `make course` runs it."
    return "\n".join([
        "# What each chapter takes", "", here, "",
        "| chapter | minutes | peak MB | key result |", "| --- | --: | --: | --- |", *rows, "",
        "## Section by section", "",
        f"Reading is counted, at {WORDS_A_MINUTE} words of prose a minute. The machine's seconds are those of the run "
        "above, its start aside. Exercises take what stands at each of them.", "", *parts,
    ])  # fmt: skip


def lesson(path: Path, notebook: nbformat.NotebookNode, run: bool) -> list[str]:
    """Return the lines of a table: how long each section of a page takes to read, to run and to answer."""
    found = [(part.heading, part.words, part.seconds, part.exercises) for part in sections(notebook)]
    _, *columns = zip(*found, strict=True)
    rows = [
        f"| {heading} | {words / WORDS_A_MINUTE:.1f} | {f'{seconds:.0f}' if run else '–'} | {minutes or ''} |"
        for heading, words, seconds, minutes in [*found, ("**all of it**", *map(sum, columns))]
    ]
    head = ["| section | reading, minutes | machine, seconds | exercises, minutes |", "| --- | --: | --: | --: |"]
    return [f"### {path.stem.replace('_', ' ')}", "", *head, *rows, ""]


def table(results: list[Result]) -> str:
    lines = [f"\n{'chapter':<22}{'minutes':>8}{'peak MB':>9}  key result"]
    for r in results:
        lines.append(f"{r.chapter:<22}{r.minutes:>8.1f}{r.peak_memory_mb:>9}  {'FAILED' if r.error else r.key_result}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
