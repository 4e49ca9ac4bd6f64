"""The reference: one page for each module of tfae, with the way from chapter to function and back."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.domains.python import ObjectEntry
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

PACKAGE = Path(__file__).resolve().parent.parent / "tfae"


def anchor(heading: str) -> str:
    """Return the anchor that JupyterLab gives a heading, so that a link between chapters works in both."""
    return heading.replace(" ", "-")


def modules() -> dict[str, str]:
    """Return the first line of each module."""
    paths = (path for path in sorted(PACKAGE.glob("*.py")) if path.stem != "__init__")
    sources = {path.stem: path.read_text(encoding="utf-8") for path in paths}
    return {name: (ast.get_docstring(ast.parse(source)) or "").split("\n")[0] for name, source in sources.items()}


def taught() -> list[tuple[str, str]]:
    """Return the pairs (number of a chapter, module) of the table in tfae/__init__.py."""
    source = (PACKAGE / "__init__.py").read_text(encoding="utf-8")
    rows = re.findall(r"^(\d\d) [a-z ]+?  +(.+)$", source, re.MULTILINE)
    return [(number, module) for number, listed in rows for module in listed.split(", ")]


def write_pages(app: Sphinx) -> None:
    """Write the page of each module and the table of all of them beside the other sources."""
    folder = Path(app.srcdir) / "api"
    folder.mkdir(exist_ok=True)
    chapters = {path.stem[:2]: path.stem for path in Path(app.srcdir).glob("[0-9][0-9]_*.ipynb")}
    rows = []
    for name, line in modules().items():
        numbers = [number for number, module in taught() if module == name and number in chapters]
        links = ", ".join(f"[{number}](../{chapters[number]}.ipynb)" for number in numbers)
        said = f"Taught in chapter{'s' * (len(numbers) > 1)} {links}.\n\n" if numbers else ""
        page = f"# tfae.{name}\n\n{said}```{{eval-rst}}\n.. automodule:: tfae.{name}\n```\n"
        (folder / f"{name}.md").write_text(page, encoding="utf-8")
        rows.append(f"| [`{name}`]({name}.md) | {re.sub(r' [(]chapter[^)]*[)]', '', line)} | {links} |")
    table = "\n".join(["| module | what it is | chapter |", "| --- | --- | --- |", *rows])
    toctree = "\n".join(["```{toctree}", ":hidden:", "", *modules(), "```"])
    intro = "Every public name of the package, from its docstrings. A module is one topic, made to be copied."
    (folder / "index.md").write_text(f"# The reference\n\n{intro}\n\n{table}\n\n{toctree}\n", encoding="utf-8")


def prepare(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Turn "chapter 05" and "chapters 01 to 03" in a docstring into links, and say what reStructuredText would misread.

    It takes the star of ``(n, *sample)`` for emphasis, and a heading within a module's docstring for one of the page.
    """
    chapters = {path.stem[:2]: path.stem for path in Path(app.srcdir).glob("[0-9][0-9]_*.ipynb")}

    def linked(found: re.Match) -> str:
        return re.sub(
            r"\d\d",
            lambda n: f":doc:`{n.group()} </{chapters[n.group()]}>`" if n.group() in chapters else n.group(),
            found.group(),
        )

    for i, line in enumerate(lines):
        line = re.sub(r"\b[cC]hapters? \d\d(?:(?:, | and | to )\d\d)*", linked, line)
        lines[i] = re.sub(r"(``.*?``)|\*(?=\w+[,)])", lambda found: found.group(1) or r"\*", line)
        if what == "module" and re.fullmatch("-{3,}", line):
            lines[i - 1 : i + 1] = [f".. rubric:: {lines[i - 1]}", ""]


def find(env: BuildEnvironment, text: str) -> tuple[str, ObjectEntry] | None:
    """Return what `module.name`, `tfae.module.name` or the bare name of a class speaks of, if it is one thing."""
    objects = env.domaindata["py"]["objects"]
    name = text.split("(")[0].removeprefix("tfae.")
    if f"tfae.{name}" in objects and ("." in name or text.startswith("tfae.")):
        return f"tfae.{name}", objects[f"tfae.{name}"]
    module, _, last = name.rpartition(".")  # tfae.models has names of other modules' classes
    if re.fullmatch(r"[A-Z][a-z]\w+", last) and (not module or f"tfae.{module}" in objects):
        named = [(full, entry) for full, entry in objects.items() if full.endswith(f".{last}")]
        return named[0] if len(named) == 1 else None
    return None


def link_code(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Link code within the prose of a chapter to the reference, and end the chapter with its modules."""
    if page.startswith("api/"):
        return
    for literal in list(doctree.findall(nodes.literal)):
        found = find(app.env, literal.astext())
        if found and not isinstance(literal.parent, nodes.reference | nodes.title):
            literal.replace_self(to(app, page, *found, literal.deepcopy()))
    links = list(modules_of(app, page))
    if links:
        paragraph = nodes.paragraph("", "In the reference: ", classes=["modules"])
        for link in links:
            paragraph += [link, nodes.Text(" · " if link is not links[-1] else "")]
        next(doctree.findall(nodes.section)).append(paragraph)


def modules_of(app: Sphinx, page: str) -> Iterator[nodes.reference]:
    objects = app.env.domaindata["py"]["objects"]
    for number, module in taught():
        name = f"tfae.{module}"
        if page.startswith(f"{number}_") and name in objects:
            yield to(app, page, name, objects[name], nodes.literal("", name))


def to(app: Sphinx, page: str, name: str, entry: ObjectEntry, shown: nodes.Node) -> nodes.reference:
    return make_refnode(app.builder, page, entry.docname, entry.node_id, shown, name)


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, shown: nodes.Element) -> nodes.reference | None:
    """Find what a docstring names without its module, such as `Autoencoder` or `targets.pixel`."""
    found = find(env, node["reftarget"]) if node.get("refdomain") == "py" else None
    return to(app, node["refdoc"], *found, shown) if found else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Listen."""
    app.connect("builder-inited", write_pages)
    app.connect("autodoc-process-docstring", prepare, priority=100)  # before numpydoc
    app.connect("doctree-resolved", link_code)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
