"""Run every benchmark that this machine allows, and write the results down with what the machine is.

    python benchmarks/run_all.py [NAME ...] [--gpu] [--keep]

Each benchmark runs in a process of its own, one after the other; one that fails does not stop the others. Those that
need MNIST where it is not (``TFAE_DATA_DIR``, or Keras's cache) are skipped. Peers such as PyTorch are looked for by
each benchmark itself. All of them take over two hours on two cores; the page, build/benchmarks.md, is written again
after each, so that an interruption loses one result at most. With ``--keep`` what a benchmark printed also goes to
benchmarks/results, in a file of its own for each kind of device, with what the machine is: `tools/make_figures.py` puts
figures from there into the README.
"""

import argparse
import os
import platform
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import date
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
PAGE = ROOT / "build" / "benchmarks.md"
RESULTS = ROOT / "benchmarks" / "results"
VARIANTS = {  # a benchmark that is more than one
    "anomaly": ([], ["--data", "fashion_mnist"]),
    "training": (["--model", "dense"], ["--model", "conv_vae"], ["--where"]),
}
ON_GPU = {  # and these where there is a GPU
    "training": (["--model", "dense", "--mixed"], ["--model", "conv_vae", "--mixed"]),
    "vae_likelihood": tuple(["--authors", "--importance", k] for k in ("1", "5", "50")),
}
PACKAGES = ("tensorflow", "keras", "numpy", "scikit-learn", "torch", "jax", "captum", "zennit", "shap", "xplique")


@dataclass
class Result:
    """What one benchmark said."""

    name: str
    options: list[str]
    status: str = "waiting"
    minutes: float = 0.0
    output: str = ""

    @property
    def title(self) -> str:
        return " ".join([self.name, *self.options])


def main() -> int:
    here = Path(__file__)
    known = sorted(path.stem for path in here.parent.glob("*.py") if path != here)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"which ones; all, if none is given: {', '.join(known)}")
    parser.add_argument("--gpu", action="store_true", help="stop at once where TensorFlow sees no GPU")
    parser.add_argument("--keep", action="store_true", help="for the README: write to benchmarks/results, too")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.names) - set(known)):
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(known)}")

    about, gpu = machine()
    if arguments.gpu and not gpu:
        parser.error(f"TensorFlow sees no GPU here:\n{about}")
    print(about)
    results = [
        Result(name, options)
        for name in arguments.names or known
        for options in (*VARIANTS.get(name, ([],)), *(ON_GPU.get(name, ()) if gpu else ()))
    ]
    for number, result in enumerate(results, start=1):
        script = here.with_name(f"{result.name}.py")
        reason = missing(script)
        print(f"\n[{number}/{len(results)}] {result.title}" + (f": skipped, {reason}" if reason else ""), flush=True)
        if reason:
            result.status = f"skipped: {reason}"
        else:
            run(script, result)
        write_page(about, results)
        if arguments.keep and result.status == "done":
            keep(about, result, "gpu" if gpu else "cpu")
    print(f"\n{table(results)}\n\nwritten to {PAGE.relative_to(ROOT)}")
    return int(any(result.status.startswith("failed") for result in results))


def missing(script: Path) -> str:
    """Say what a benchmark would need and is not here; nothing, if it can run."""
    if "TFAE_DATA_DIR=" in script.read_text(encoding="utf-8") and not has_mnist():  # in how it says to call it
        return "MNIST is not here: set TFAE_DATA_DIR"
    return ""


def has_mnist() -> bool:
    folders = (os.environ.get("TFAE_DATA_DIR"), Path.home() / ".keras" / "datasets")
    return any(folder and Path(folder, "mnist.npz").exists() for folder in folders)


def run(script: Path, result: Result) -> None:
    """Run a benchmark, showing what it prints as it prints it; its progress, on the standard error, is not kept."""
    start = time.monotonic()
    command = [sys.executable, "-u", str(script), *result.options]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            result.output += line
            print(f"    {line}", end="", flush=True)
    result.minutes = (time.monotonic() - start) / 60
    result.status = "done" if process.returncode == 0 else f"failed, status {process.returncode}"
    last = result.output.strip().splitlines()[-1:] or [""]
    if last[0].startswith("skipped: "):  # what a benchmark says that finds out by itself
        result.status = last[0]
    print(f"    {result.status} after {result.minutes:.1f} minutes", flush=True)


# --- the page --------------------------------------------------------------------------------------------------------


def machine() -> tuple[str, bool]:
    """Describe this machine, and say whether TensorFlow sees a GPU."""
    import tfae  # noqa: F401  first of all: it keeps TensorFlow quiet
    import tensorflow as tf

    gpus = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    names = ", ".join(details.get("device_name", "unknown") for details in gpus) or "none"
    busy = f", load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    lines = [
        f"- date: {date.today()}",
        f"- system: {platform.system()} {platform.machine()}, Python {platform.python_version()}",
        f"- processor: {processor()}, {os.cpu_count()} logical cores{busy}",
        f"- memory: {memory()}",
        f"- GPU: {names}",
        f"- packages: {', '.join(versions())}",
    ]
    return "\n".join(lines), bool(gpus)


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def memory() -> str:
    try:
        return f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB"
    except (AttributeError, ValueError, OSError):
        return "unknown"


def versions() -> list[str]:
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return found


def table(results: list[Result]) -> str:
    rows = [f"| {result.title} | {result.status} | {result.minutes:.1f} |" for result in results]
    return "\n".join(["| benchmark | status | minutes |", "| --- | --- | --- |", *rows])


def keep(about: str, result: Result, device: str) -> None:
    from tfae.files import written_whole

    name = re.sub(r"\W+", "_", result.title)
    with written_whole(RESULTS / device / f"{name}.txt") as temporary:
        temporary.write_text(f"{about}\n\n{result.output.strip()}\n", encoding="utf-8")


def write_page(about: str, results: list[Result]) -> None:
    from tfae.files import written_whole

    parts = ["# Benchmarks", about, table(results)]
    for result in results:
        if result.output:
            parts.append(f"## {result.title}\n\n```text\n{result.output.strip()}\n```")
    with written_whole(PAGE) as temporary:
        temporary.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
