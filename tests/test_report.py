"""The page: all of it in one file, the same each time, and nothing where it cannot be made."""

import html.parser
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers

from tfae import data, models, report

ROOT = Path(__file__).resolve().parent.parent
SECTIONS = [
    "Model details", "Uses", "Bias, risks and limitations", "Training details", "Evaluation", "Model examination",
    "Technical specifications",
]  # fmt: skip


class Reader(html.parser.HTMLParser):
    """Collects what a browser would see, and what it would fetch."""

    def __init__(self, page):
        super().__init__()
        self.open, self.text, self.sources, self.tags = [], [], [], []
        self.feed(page)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if "style" not in self.open:
            self.text.append(text)


def read(path):
    page = path.read_text(encoding="utf-8")
    reader = Reader(page)
    assert all(source.startswith("data:image/png;base64,") for source in reader.sources)
    assert not re.search(r"https?:|@import|url\(|<script|<link", page) and len(page) < 1_000_000
    assert re.findall(r"<h2>(.*?)</h2>", page) == SECTIONS
    return re.sub(r"\s+", " ", " ".join(reader.text)), reader


@pytest.fixture(scope="module")
def classifier():
    dataset = data.load("digits")
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Conv2D(8, 3, activation="relu"), layers.Flatten(),
         layers.Dense(10, "softmax")], name="reads_digits",
    )  # fmt: skip
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(dataset.x_train, dataset.y_train, epochs=5, verbose=0)
    return model, dataset


@pytest.mark.slow
def test_a_page_about_a_classifier_of_images(classifier, tmp_path):
    model, dataset = classifier
    report.write(model, dataset, tmp_path / "page.html", uses="For post codes <only>.")
    text, reader = read(tmp_path / "page.html")
    wrong = np.argmax(model.predict(dataset.x_test, verbose=0), axis=1) != dataset.y_test
    for part in (
        "reads_digits", "A classifier, measured on", "digits", "For post codes <only>.", report._with_error(wrong),
        "logistic regression", "the most frequent class", "label = ", "control: random order", "control: its edges",
        "Adam and the loss sparse_categorical_crossentropy", data.digest(dataset.x_test)[:12],
    ):  # fmt: skip
        assert part in text, part
    assert reader.sources and "details" in reader.tags
    report.write(model, dataset, tmp_path / "again.html", uses="For post codes <only>.")
    assert (tmp_path / "again.html").read_bytes() == (tmp_path / "page.html").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.html", "page.html"]


@pytest.mark.slow
def test_a_page_about_an_autoencoder_of_images(tmp_path):
    dataset = data.load("digits")
    model = models.dense_autoencoder((8, 8, 1), 4, (16,), seed=0)
    model.compile("adam", "mse")
    model.fit(dataset.x_train, epochs=3, verbose=0)
    report.write(model, dataset, tmp_path / "page.html")
    text, reader = read(tmp_path / "page.html")
    for part in (
        "An autoencoder",
        "Nobody has told what this model is for",
        "PCA of 4 numbers",
        "its code has 4 numbers",
    ):
        assert part in text, part
    assert text.count("Five samples with a middling error") == 1 and len(reader.sources) == 4
    mean = model.reconstruction_error(dataset.x_test).mean()
    assert f"{mean:.4f}" in text or f"{mean:.5f}" in text


def linear_regression():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    model.layers[0].set_weights([np.array([[1.0], [2.0], [0.0]]), np.zeros(1)])
    x = np.random.default_rng(0).normal(size=(200, 3)).astype("float32")
    arrays = {"x_train": x[:100], "x_test": x[100:], "y_train": x[:100, 0], "y_test": x[100:, 0]}
    return model, arrays | {"feature_names": np.array(["<script>", "b & c", "d"])}


def test_names_of_others_are_text_and_never_tags(tmp_path):
    model, arrays = linear_regression()
    report.write(model, arrays, tmp_path / "page.html")
    text, reader = read(tmp_path / "page.html")
    assert "<script>, highest quarter" in text and "b & c, lowest quarter" in text and "script" not in reader.tags
    assert "A regression" in text and "The model is not compiled" in text
    report.write(model, arrays | {"x_test": arrays["x_train"], "y_test": arrays["y_train"]}, tmp_path / "page.html")
    assert "✗ 100" in read(tmp_path / "page.html")[0]  # held-out samples that were trained on


def test_a_page_that_cannot_be_made_leaves_the_old_one(tmp_path):
    model, arrays = linear_regression()
    page = tmp_path / "page.html"
    page.write_text("old")
    with pytest.raises(ValueError, match="x_test has shape"):
        report.write(model, arrays | {"x_test": np.zeros((50, 2))}, page)
    assert page.read_text() == "old" and list(tmp_path.iterdir()) == [page]


def test_maps_of_colours_are_drawn_on_one_scale():
    """Their channels are summed before each map is divided by its largest value."""
    x = np.random.default_rng(0).random((3, 8, 8, 3)).astype("float32")
    explained = SimpleNamespace(x=x, target="it", maps={"map": x - 0.5, "control: ink": 100 * x})
    figures = report._maps(SimpleNamespace(data={"x_train": x}), explained)
    assert len(figures) == 3
    for figure in figures.values():
        shown = [ax.images[0] for ax in figure.axes[1:3]]
        assert all(image.get_clim() == (-1, 1) and np.abs(image.get_array()).max() == 1 for image in shown)


class Own(layers.Layer):
    """Not registered: only a program that has it can load it."""

    def call(self, x):
        return 2 * x


def test_a_model_with_a_class_of_its_own_is_told_the_way(tmp_path):
    keras.Sequential([keras.Input((3,)), Own()]).save(tmp_path / "own.keras")
    with pytest.raises(OSError, match=r"own.keras is not .* locate class 'Own'.* call tfae.report.write"):
        report._read_model(tmp_path / "own.keras")


def test_a_mean_is_written_with_its_error():
    assert report._with_error(np.array([1.0, 2.0, 3.0, 4.0])) == "2.50 ± 0.65"
    assert report._with_error(np.array([1000.0, 3000.0])) == "2,000 ± 1,000"
    assert report._with_error(np.array([-1.0, -2.0])) == "−1.50 ± 0.50"
    assert report._rounded(-1e-9, 1.0) == "0.0 ± 1.0"
    assert report._with_error(np.zeros(4)) == "0.000 ± 0.000"
    assert report._with_error(np.array([1e-9, 3e-9])) == "2.00e−09 ± 1.0e−09"


# --- from the command line -------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    model, arrays = linear_regression()
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "data.npz", **arrays)
    return tmp_path


@pytest.mark.slow
def test_a_page_from_the_command_line(files):
    command = [sys.executable, "-m", "tfae.report", str(files / "model.keras"), str(files / "data.npz")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (run.returncode, run.stdout.strip(), run.stderr) == (0, str(files / "model.html"), "")
    assert "measured on data" in read(files / "model.html")[0]


def test_a_page_where_it_is_asked_for(files, capsys):
    arguments = [
        str(files / "model.keras"),
        str(files / "data.npz"),
        "-o",
        str(files / "new" / "page.html"),
        "--seed",
        "3",
    ]
    report.main([*arguments, "--uses", "none"])
    assert capsys.readouterr().out == f"{files / 'new' / 'page.html'}\n"
    assert "seed of this page 3" in read(files / "new" / "page.html")[0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.keras", None, "there is no file .*model.keras"),
        ("model.keras", b"PK no zip", "model.keras is not a model that Keras can load"),
        ("data.npz", None, "there is no file .*data.npz"),
        ("data.npz", b"PK no zip", r"data.npz is not an \.npz archive of plain arrays"),
        ("data.npz", {"x_train": np.array([{}])}, r"data.npz is not an \.npz archive of plain arrays"),
        ("data.npz", np.zeros(3), r"data.npz is not an \.npz archive of plain arrays"),
        ("data.npz", {"images": np.zeros(3)}, "the data hold no x_train"),
        ("data.npz", {"x_train": np.zeros((50, 2)), "x_test": np.zeros((50, 2))}, r"x_train has shape \(50, 2\)"),
        ("data.npz", {"x_train": np.zeros((50, 3)), "x_test": np.zeros((50, 3))}, "no labels to judge it by"),
    ],
)
def test_a_bad_file_is_one_line_and_no_page(files, name, content, message, capsys):
    path = files / name
    path.unlink()
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, dict):
        np.savez(path, **content)
    elif content is not None:
        with open(path, "wb") as file:
            np.save(file, content)
    with pytest.raises(SystemExit) as stopped:
        report.main([str(files / "model.keras"), str(files / "data.npz")])
    said = str(stopped.value)
    assert said.startswith("python -m tfae.report: ") and "\n" not in said and re.search(message, said), said
    assert {path.name for path in files.iterdir()} <= {"model.keras", "data.npz"} and not capsys.readouterr().out
