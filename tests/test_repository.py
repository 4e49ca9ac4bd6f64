"""What holds the files of the repository together."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINS = {
    name.lower().replace("_", "-"): version
    for name, version in re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
}
CHAPTERS = sorted((ROOT / "chapters").glob("[0-9][0-9]_*.ipynb"))


def test_every_requirement_has_a_tested_version_in_its_range():
    extras = PROJECT["optional-dependencies"]
    for line in [*PROJECT["dependencies"], *extras["course"], *extras["test"]]:
        requirement = Requirement(line)
        assert PINS[requirement.name.lower()] in requirement.specifier, line


def test_the_conda_environment_is_python_and_the_same_project():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    *conda, last = environment["dependencies"]
    python = next(item for item in conda if item.startswith("python="))
    assert python.removeprefix("python=") in SpecifierSet(PROJECT["requires-python"])
    assert environment["name"] == PROJECT["name"] and "pip" in conda and len(conda) == 2
    assert last == {"pip": ["-c constraints.txt", "-e .[course,test]"]}
    assert {"course", "test"} <= set(PROJECT["optional-dependencies"])


def test_installing_gives_the_package_alone():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert setuptools["packages"] == ["tfae"]
    assert not [path for path in (ROOT / "tfae").iterdir() if path.is_dir() and path.name != "__pycache__"]


def test_versions_agree():
    import tfae

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert tfae.__version__ == PROJECT["version"] == citation["version"]
    assert f"## {tfae.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_snippet_of_the_readme_runs(tmp_path, monkeypatch):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(snippet.replace("epochs=50", "epochs=2"), names)
    assert names["codes"].shape == (2000, 32) and names["errors"].mean() < names["dataset"].x_test.var()
    assert (tmp_path / "autoencoder.keras").exists()
    assert names["explained"].values.shape == (8, 28, 28, 1) and names["explained"].completeness_gap.max() < 0.005


def test_every_file_named_in_the_readme_exists():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", readme):
        assert (ROOT / target).exists(), target


def test_the_package_says_nothing_when_it_is_imported():
    run = subprocess.run(
        [sys.executable, "-c", "from tfae import data, models, training, plot; import keras; keras.ops.ones(1) + 1"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
class TestChapter:
    def test_has_outputs_and_nothing_that_should_not_be_there(self, path):
        text = path.read_text(encoding="utf-8")
        notebook = json.loads(text)
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        assert len(text) < 1_000_000
        assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1)), (
            "run it from a clean kernel"
        )
        for output in (output for cell in cells for output in cell["outputs"]):
            assert output["output_type"] != "error" and output.get("name") != "stderr", output
        assert not re.search(r"/(root|home|tmp|work|Users)/|[A-Z]:\\\\", text)
        assert set(notebook["metadata"]) == {"kernelspec", "language_info"}

    def test_is_built_like_a_chapter(self, path):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        first = "".join(cells[0]["source"])
        assert (
            re.match(rf"# {path.stem[:2]} · ", first)
            and "**The question.**" in first
            and "**You will be able to**" in first
        )
        prose = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        for heading in ("## What was shown", "## What is still open", "## Exercises", "## Reading"):
            assert heading in prose
        assert prose.count("<details><summary>Solution</summary>") == prose.count("</details>") >= 3
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        assert max(len(cell["source"]) for cell in code) <= 30, "a code cell of more than 30 lines"
        tags = [tag for cell in code for tag in cell["metadata"].get("tags", ())]
        assert tags.count("key-result") == 1 and tags.count("nbval-check-output") >= 3
