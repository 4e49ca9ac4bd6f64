"""Pack what a classroom without a network needs, for machines like this one: wheels, project and data, the site.

    make offline                        # or: python tools/make_offline.py
    python tools/make_offline.py --python 3.12   # for another Python than this one

leaves build/offline, a folder to copy onto a stick, with a README that says how to install from it. The site comes from
`make course`; without one the folder has none.
"""

import argparse
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

README = """# The course, without a network

For {platform} with Python {python}. In this folder:

    wheels/    everything that has to be installed
    tfae/      the project: chapters, exercises, package, data
    course/    the site, to be opened in a browser: course/index.html (where it was packed)

Copy the folder to your machine, open a terminal in it, and type

    cd tfae
    python -m venv .venv
    .venv/bin/python -m pip install --no-index --find-links ../wheels -c constraints.txt -e ".[course,test]"
    .venv/bin/jupyter lab chapters

On Windows write .venv\\Scripts\\ in place of .venv/bin/.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=f"{sys.version_info.major}.{sys.version_info.minor}", metavar="3.NN")
    arguments = parser.parse_args()
    out, part = ROOT / "build" / "offline", ROOT / "build" / "offline.part"
    (part / "wheels").mkdir(parents=True, exist_ok=True)  # what an interrupted run has fetched is kept
    pip = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "-q"]
    where = ["-d", str(part / "wheels"), "-c", str(ROOT / "constraints.txt")]
    only = ["--only-binary", ":all:", "--python-version", arguments.python]
    print(f"fetching wheels for Python {arguments.python} (600 MB, most of it TensorFlow)", flush=True)
    subprocess.run([*pip, *where, *only, *requirements()], check=True)
    shutil.rmtree(part / "tfae", ignore_errors=True)
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in files.split("\0")[:-1]:
        (part / "tfae" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, part / "tfae" / name)
    if (ROOT / "build" / "course" / "index.html").exists():
        shutil.copytree(ROOT / "build" / "course", part / "course", dirs_exist_ok=True)
    else:
        print("no site yet: run `make course` first if you want it on the stick")
    text = README.format(platform=sys.platform, python=arguments.python)
    (part / "README.md").write_text(text, encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    part.replace(out)
    print(f"packed in {out.relative_to(ROOT)}")


def requirements() -> list[str]:
    """Return what the project asks for, with the extras of the course and what pip builds an editable install with."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    return [
        *project["project"]["dependencies"],
        *extras["course"],
        *extras["test"],
        *project["build-system"]["requires"],
    ]


if __name__ == "__main__":
    main()
