"""Run the unit tests on the lowest versions that pyproject.toml allows and on the newest that exist, and print a table.

python tools/try_ranges.py                       # lowest, newest, pre-releases
python tools/try_ranges.py lowest                # one of them
python tools/try_ranges.py lowest -- -k losses   # what stands after -- is for pytest
python tools/try_ranges.py --python python3.13   # with another Python than this one

Each environment is made anew in build/ranges, beside the report of its tests. The chapters are not run. Pre-releases
are no promise: what fails there says what the next release will ask for, and is no failure of this command.
"""

import argparse
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "build" / "ranges"
ENVIRONMENTS = {
    "lowest": ["--resolution", "lowest-direct"],  # of what pyproject.toml names; what that needs in turn is the newest
    "newest": ["--resolution", "highest"],
    "pre-releases": ["--resolution", "highest", "--prerelease", "allow"],
}


@dataclass
class Outcome:
    """What the tests said in one environment."""

    environment: str
    versions: str  # of Python, TensorFlow, Keras and NumPy, in columns
    passed: int
    failed: list[str]
    skipped: int


def main() -> int:
    own, for_pytest = sys.argv[1:], []
    if "--" in own:
        own, for_pytest = own[: own.index("--")], own[own.index("--") + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environments", nargs="*", help=f"any of {', '.join(ENVIRONMENTS)}; all, if none is given")
    parser.add_argument("--python", default=sys.executable, help="which Python the environments are made with")
    arguments = parser.parse_args(own)
    unknown = set(arguments.environments) - set(ENVIRONMENTS)
    if unknown:
        parser.error(f"no environment {', '.join(sorted(unknown))}; there are {', '.join(ENVIRONMENTS)}")
    outcomes = []
    for name in arguments.environments or ENVIRONMENTS:
        print(f"{name}: installing", flush=True)
        python = install(name, arguments.python)
        print(f"{name}: testing {' '.join(versions(python).split())}", flush=True)
        outcomes.append(test(name, python, for_pytest))
    print(table(outcomes))
    return 1 if any(outcome.failed for outcome in outcomes if outcome.environment != "pre-releases") else 0


def install(name: str, python: str) -> Path:
    """Make a fresh environment with the package and its tests in it, and return its Python."""
    directory = OUT / name
    shutil.rmtree(directory, ignore_errors=True)
    uv("venv", "--python", python, directory)
    inside = directory / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    uv("pip", "install", "--python", inside, *ENVIRONMENTS[name], "--editable", f"{ROOT}[course,test]")
    # A pre-release of TensorFlow brings keras-nightly, which puts its files where keras puts its own. Nightly it is.
    nightly = run(inside, "-c", "import importlib.metadata as m; print(m.version('keras-nightly'))", check=False)
    if nightly.returncode == 0:
        uv("pip", "uninstall", "--python", inside, "keras", "keras-nightly")
        uv("pip", "install", "--python", inside, "--no-deps", f"keras-nightly=={nightly.stdout.strip()}")
    return inside


def versions(python: Path) -> str:
    code = (
        "import platform, tfae, tensorflow, keras, numpy; "
        "print(f'{platform.python_version():<8}{tensorflow.__version__:<13}{keras.__version__:<24}{numpy.__version__:<7}')"
    )
    return run(python, "-c", code).stdout.strip("\n")


def test(name: str, python: Path, for_pytest: list[str]) -> Outcome:
    report = OUT / f"{name}.xml"
    report.unlink(missing_ok=True)
    command = [python, "-m", "pytest", "tests", "-p", "no:cacheprovider", f"--junitxml={report}", *for_pytest]
    subprocess.run(list(map(str, command)), cwd=ROOT, check=False)
    if not report.exists():
        raise SystemExit(f"{name}: pytest ended before any test")
    cases = list(ElementTree.parse(report).iter("testcase"))
    outcomes = {case: {part.tag for part in case} for case in cases}
    failed = [f"{c.get('classname')}::{c.get('name')}" for c, tags in outcomes.items() if tags & {"failure", "error"}]
    skipped = sum("skipped" in tags for tags in outcomes.values())
    return Outcome(name, versions(python), len(cases) - len(failed) - skipped, failed, skipped)


def table(outcomes: list[Outcome]) -> str:
    lines = [
        f"\n{'environment':<14}{'Python':<8}{'TensorFlow':<13}{'Keras':<24}{'NumPy':<7}{'passed':>7}{'failed':>7}{'skipped':>8}"
    ]
    for o in outcomes:
        lines.append(f"{o.environment:<14}{o.versions}{o.passed:>7}{len(o.failed):>7}{o.skipped:>8}")
    lines += [f"{o.environment} fails {test}" for o in outcomes for test in o.failed]
    return "\n".join(lines)


def uv(*arguments: object) -> None:
    """Run uv without its list of packages; its errors are shown."""
    if run(sys.executable, "-m", "uv", "-q", "--no-python-downloads", *arguments, check=False, stderr=None).returncode:
        raise SystemExit("the installation failed; what was in the way stands above")


def run(*command: object, check: bool = True, stderr: int | None = subprocess.PIPE) -> subprocess.CompletedProcess:
    return subprocess.run(list(map(str, command)), check=check, stdout=subprocess.PIPE, stderr=stderr, text=True)


if __name__ == "__main__":
    sys.exit(main())
