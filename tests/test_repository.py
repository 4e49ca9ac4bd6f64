"""What holds the files of the repository together."""

import ast
import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
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
APPENDICES = sorted((ROOT / "chapters").glob("A[0-9]_*.ipynb"))
MODULES = sorted(path.stem for path in (ROOT / "tfae").glob("*.py") if path.stem != "__init__")

# --- what is installed -----------------------------------------------------------------------------------------------


def test_every_requirement_has_a_tested_version_in_its_range():
    extras = PROJECT["optional-dependencies"]
    for line in [*PROJECT["dependencies"], *extras["course"], *extras["test"]]:
        requirement = Requirement(line)
        assert PINS[requirement.name.lower()] in requirement.specifier, line


PYTHONS = ("3.11.0", "3.12.0", "3.13.0")
PLATFORMS = ("x86_64-manylinux_2_28", "aarch64-apple-darwin", "x86_64-pc-windows-msvc")


def uv_compile(*arguments, given=""):
    """Let uv resolve requirements for another Python and platform than this one's, from wheels alone."""
    quickly = {"UV_HTTP_TIMEOUT": "10", "UV_HTTP_RETRIES": "1"}  # without a network this must not hang
    return subprocess.run(
        [sys.executable, "-m", "uv", "pip", "compile", "--python", sys.executable, "--no-python-downloads", "-q",
         "--only-binary", ":all:", "--no-annotate", "--no-header", *arguments],
        cwd=ROOT, capture_output=True, text=True, encoding="utf-8", input=given, env=os.environ | quickly,
    )  # fmt: skip


@pytest.mark.slow
def test_the_tested_versions_are_one_set_for_every_python_and_platform():
    pytest.importorskip("uv", reason="uv, which resolves for other platforms, is not installed")
    if uv_compile("-", "--refresh", given="wheel").returncode:
        pytest.skip("no package registry can be reached")

    def resolve(target):
        python, platform = target
        run = uv_compile(
            "pyproject.toml", "--extra", "course", "--extra", "test", "-c", "constraints.txt",
            "--python-version", python, "--python-platform", platform,
        )  # fmt: skip
        assert run.returncode == 0, f"Python {python}, {platform}: {run.stderr}"
        return re.findall(r"^([\w.-]+)==(\S+)", run.stdout, re.MULTILINE)

    with ThreadPoolExecutor(9) as pool:
        resolved = pool.map(resolve, [(python, platform) for python in PYTHONS for platform in PLATFORMS])
        needed = {pin for pins in resolved for pin in pins}
    assert needed == set(PINS.items())  # nothing is left open, and no pin is in vain


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


@pytest.mark.slow
def test_importing_the_package_is_enough_to_load_its_models(tmp_path):
    import keras

    from tfae import layers, models

    registered = r'^@keras\.saving\.register_keras_serializable\("tfae"\)\nclass (\w+)'
    sources = "\n".join((ROOT / "tfae" / f"{name}.py").read_text(encoding="utf-8") for name in MODULES)
    classes = re.findall(registered, sources, re.MULTILINE)
    assert len(classes) == sources.count("register_keras_serializable") >= 15
    encoder = keras.Sequential([keras.Input((4,)), layers.Corrupt(seed=0), keras.layers.Dense(2)])
    autoencoder = models.Autoencoder(encoder, keras.Sequential([keras.Input((2,)), keras.layers.Dense(4)]))
    autoencoder.save(tmp_path / "model.keras")
    code = (
        "import tfae, keras, numpy\n"
        f"assert all(keras.saving.get_registered_object('tfae>' + name) for name in {classes})\n"
        f"print(keras.models.load_model({str(tmp_path / 'model.keras')!r}).reconstruct(numpy.eye(4)).tolist())"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    np.testing.assert_allclose(json.loads(run.stdout), autoencoder.reconstruct(np.eye(4)), rtol=1e-6)


@pytest.mark.slow
def test_the_package_says_nothing_when_it_is_imported():
    run = subprocess.run(
        [sys.executable, "-c", "from tfae import data, models, training, plot; import keras; keras.ops.ones(1) + 1"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_the_trained_models_are_those_of_the_table_and_older_versions_of_keras_load_them():
    readme = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `(\w+\.keras)` \|.*\| `(\w{64})` \|$", readme, re.MULTILINE))
    files = sorted((ROOT / "data" / "checkpoints").glob("*.keras"))
    assert listed == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    for path in files:
        with zipfile.ZipFile(path) as archive:
            config = archive.read("config.json")
        assert b"input_axes" not in config and b"renorm" not in config  # which Keras 3.13 refuses


# --- the arrows between modules --------------------------------------------------------------------------------------

# On these a reader's model or explanation stands; every other module can be copied without the training loop.
STAND_ON_THE_LOOP = {
    "loop", "autoencoder", "variational", "models", "text", "training", "records", "adversarial", "anomaly",
    "dictionary", "explorer",
}  # fmt: skip


def imports(module):
    """The modules of this package that one imports when it is imported itself: not those within its functions."""
    found, waiting = set(), [ast.parse((ROOT / "tfae" / f"{module}.py").read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.ImportFrom) and node.module == "tfae":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tfae."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("tfae.")}
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue  # read by the type checker alone
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += ast.iter_child_nodes(node)
    return found & set(MODULES)


def reached(module):
    found, waiting = set(), {module}
    while waiting:
        found |= waiting
        waiting = set.union(*map(imports, waiting)) - found
    return found


def test_arrows_run_one_way():
    """A module stands on those before it in the table of CONTRIBUTING.md, so no two can stand on each other."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = re.search(r"\| what it is about .*?\n\n", text, re.DOTALL).group()
    order = re.findall(r"`(\w+)`", table)
    assert sorted(order) == MODULES, "each module has one place in the table"
    upwards = {(a, b) for a in MODULES for b in imports(a) if order.index(b) >= order.index(a)}
    assert upwards <= {("records", "training")}  # its `read` takes a `Resume`


def test_what_a_reader_copies_does_not_drag_in_the_training_loop():
    assert {module for module in MODULES if "loop" in reached(module)} <= STAND_ON_THE_LOOP
    for module in ("checks", "files", "replicas", "losses", "plot", "hooks", "strokes", "alphabet", "audio"):
        assert reached(module) <= {module, "checks", "internals"}, module


def test_the_map_of_chapters_is_what_the_modules_say():
    import tfae

    rows = re.findall(r"^(\d\d) ([a-z ]+?)  +(.+)$", tfae.__doc__, re.MULTILINE)
    assert [f"{number}_{name.replace(' ', '_')}" for number, name, _ in rows] == [path.stem for path in CHAPTERS]
    mapped = {(module, number) for number, _, modules in rows for module in modules.split(", ")}
    ground = {"checks", "files", "internals", "inference"}
    assert {module for module, _ in mapped} == set(MODULES) - ground
    for module in MODULES:
        first = (ROOT / "tfae" / f"{module}.py").read_text(encoding="utf-8").split("\n", 1)[0]
        said = set(chapters_named(first))
        assert said in (set(), {number for name, number in mapped if name == module}), module


def chapters_named(line):
    """Return the numbers in "(chapter 06)", "(chapters 01 to 05)" or "(chapters 02, 04 and 05)"."""
    named = re.search(r"\(chapters? ([^)]*)\)", line)
    numbers = re.findall(r"\d\d", named.group(1)) if named else []
    if named and " to " in named.group(1):
        return [f"{number:02}" for number in range(int(numbers[0]), int(numbers[1]) + 1)]
    return numbers


# --- from chapter to chapter -----------------------------------------------------------------------------------------


def prose(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def test_every_reference_to_a_chapter_is_a_link_to_one_that_exists():
    """Links to `NN_name.ipynb`, which JupyterLab, a page and Colab follow; a book's chapter has no link."""
    pages = [*CHAPTERS, *APPENDICES]
    headings = {path.name: re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE) for path in pages}
    anchors = {name: {heading.replace(" ", "-") for heading in found} for name, found in headings.items()}
    for path in pages:
        words = re.sub(r"```.*?```|`[^`\n]*`", "", prose(path), flags=re.DOTALL)
        for label, target in re.findall(r"\[([^\]]*)\]\((?!https?:)([^)]+)\)", words):
            name, _, anchor = target.partition("#")
            assert not name or name in anchors, f"{path.stem}: [{label}]({target})"
            assert not anchor or anchor in anchors[name or path.name], f"{path.stem}: [{label}]({target})"
            if re.search(r"\d\d$", label):
                assert name[:2] == label[-2:], f"{path.stem}: [{label}]({target})"
        lesson = prose(path).split("## Reading")[0]
        assert not re.findall(r"(?<!\[)\b[cC]hapters? \d\d.*", lesson), f"{path.stem}: a chapter without a link"


def test_every_chapter_named_in_code_exists():
    numbers = {path.stem[:2] for path in CHAPTERS}
    files = [path for folder in ("tfae", "tests", "tools", "benchmarks") for path in (ROOT / folder).glob("*.py")]
    for path in [*files, ROOT / "data" / "README.md", ROOT / "pyproject.toml", ROOT / "CONTRIBUTING.md"]:
        text = path.read_text(encoding="utf-8")
        named = re.findall(r"\b[cC]hapters? (\d\d(?:(?:, | and | to )\d\d)*)", text)
        assert {number for found in named for number in re.findall(r"\d\d", found)} <= numbers, path.name


# --- the chapters ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*CHAPTERS, *APPENDICES], ids=lambda path: path.stem)
class TestPage:
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
        words = re.sub(r'"image/png": "[^"]*"', "", text)  # a picture's letters may spell anything
        assert not re.search(r"/(root|home|tmp|work|Users)/|[A-Z]:\\\\", words)
        assert set(notebook["metadata"]) == {"kernelspec", "language_info"}

    def test_begins_with_its_question_and_names_one_key_result(self, path):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        first = "".join(cells[0]["source"])
        assert re.match(rf"# {path.stem[:2]} · ", first) and "**The question.**" in first
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        assert max(len(cell["source"]) for cell in code) <= 30, "a code cell of more than 30 lines"
        assert [tag for cell in code for tag in cell["metadata"].get("tags", ())].count("key-result") == 1


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
class TestChapter:
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
        assert prose.count("<details>") == prose.count("</details>") >= 3
        assert prose.count("<details><summary>Solution</summary>") >= 3
        tags = [tag for cell in cells for tag in cell["metadata"].get("tags", ())]
        assert tags.count("nbval-check-output") >= 3

    def test_is_no_longer_than_a_reader_can_bear(self, path):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        cells = [cell for cell in cells if "exercise" not in cell["metadata"].get("tags", ())]  # these come on top,
        kinds = [cell["cell_type"] for cell in cells]  # and cut a text in two
        parts = sum(
            kind == "code" or previous == "code" for previous, kind in zip(["code", *kinds], kinds, strict=False)
        )
        text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        for skipped in (r"<details>.*?</details>", r"```.*?```", r"\$\$.*?\$\$", r"\$[^$]*\$", r"(?<=\])\([^)]*\)"):
            text = re.sub(skipped, " ", text, flags=re.DOTALL)  # solutions, code, formulas, where links lead
        assert parts <= 70 and len(re.findall(r"\w[\w’'.,–-]*", text)) <= 3_000
