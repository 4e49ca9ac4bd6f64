"""Make a deck of slides for each chapter, from the cells that are marked for it.

    make slides                         # or: python tools/make_slides.py
    python tools/make_slides.py 03 05   # these chapters only

leaves build/slides/NN_name.html: one file a deck, which needs no network. A code cell with the tag `slide` gives its
figure, or what it printed and how the chapter begins to read that, under the question of its section; a text cell with
that tag gives its text. What the chapter says before and after is in the speaker's notes (press S; arrows and space go
on, Esc shows all slides).
"""

import argparse
import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import latex2mathml.converter
import nbformat
import sphinx_revealjs
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin

from pages import text

ROOT = Path(__file__).resolve().parent.parent
REVEAL = Path(sphinx_revealjs.__file__).parent / "_static" / "revealjs"


def mathematics(formula: str, options: dict[str, bool]) -> str:
    return latex2mathml.converter.convert(formula, display="block" if options["display_mode"] else "inline")


MARKDOWN = MarkdownIt("gfm-like", {"linkify": False}).use(dollarmath_plugin, renderer=mathematics)
for rule in ("link_open", "link_close"):
    MARKDOWN.add_render_rule(rule, lambda *_: "")  # where they lead is not in the deck


@dataclass
class Slide:
    """A heading, what stands below it as HTML, and what the speaker may say."""

    heading: str
    body: str
    notes: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapters", nargs="*", help="numbers of chapters; without any, all")
    arguments = parser.parse_args()
    known = {path.stem[:2]: path for path in sorted((ROOT / "chapters").glob("[0-9][0-9]_*.ipynb"))}
    if unknown := [number for number in arguments.chapters if number not in known]:
        parser.error(f"no chapter {', '.join(unknown)}; there are {', '.join(known)}")
    out = ROOT / "build" / "slides"
    out.mkdir(parents=True, exist_ok=True)
    for number, path in known.items():
        if not arguments.chapters or number in arguments.chapters:
            (out / f"{path.stem}.html").write_text(deck(nbformat.read(path, as_version=4)), encoding="utf-8")
    print(f"slides are in {out.relative_to(ROOT)}")


# --- from a chapter to slides ----------------------------------------------------------------------------------------


def slides(page: nbformat.NotebookNode) -> Iterator[Slide]:
    """Yield the slides of a chapter: its question, its marked cells, and what it has shown."""
    cells = [cell for cell in page.cells if "exercise" not in cell.metadata.get("tags", ())]
    first = cells[0].source
    title = re.search(r"^# (.*)", first)[1]
    question = re.search(r"\*\*The question\.\*\* (.*)", first)[1]
    yield Slide(title, f'<p class="question">{MARKDOWN.renderInline(question)}</p>', first)
    heading = title
    for i, cell in enumerate(cells):
        if cell.cell_type == "markdown":
            found = re.findall(r"^##+ (.*)", cell.source, re.MULTILINE)
            heading = found[-1] if found else heading
        if "slide" not in cell.metadata.get("tags", ()):
            continue
        if cell.cell_type == "markdown":
            yield Slide(heading, MARKDOWN.render(re.sub(r"^#+ .*\n+", "", cell.source, flags=re.MULTILINE)), "")
        else:
            before, after = (c.source * (c.cell_type == "markdown") for c in (cells[i - 1], cells[i + 1]))
            body = shown(cell) if pictures(cell) else formulas(before) + shown(cell) + reading(after)
            yield Slide(heading, body, f"{before}\n\n{after}".strip())
    closing = next(c.source for c in cells if "## What was shown" in c.source)
    points = re.search(r"## What was shown\n+(.*?)(?=\n## |\Z)", closing, re.DOTALL)[1]
    yield Slide("What was shown", MARKDOWN.render(points), "")


def formulas(prose: str) -> str:
    """Return the displayed formulas of a text, the last two at most."""
    return "".join(MARKDOWN.render(formula) for formula in re.findall(r"\$\$.*?\$\$", prose, re.DOTALL)[-2:])


def reading(prose: str, longest: int = 240) -> str:
    """Return the first sentences of a text, as many as a slide has room for."""
    said, paragraph = "", prose.split("\n\n")[0].replace("\n", " ")
    for sentence in () if paragraph.startswith("#") else re.findall(r".+?[.?!](?=\s|$)", paragraph):
        if len(said + sentence) > longest:
            break
        said += sentence
    return f'<p class="reading">{MARKDOWN.renderInline(said.strip())}</p>' if said else ""


def pictures(cell: nbformat.NotebookNode) -> list[str]:
    return [output.data["image/png"].strip() for output in cell.outputs if "image/png" in output.get("data", {})]


def shown(cell: nbformat.NotebookNode) -> str:
    """Return the figures of a cell, or what it printed where it has none."""
    if found := pictures(cell):
        alt = html.escape("".join(re.findall(r'title="([^"]*)"', cell.source)[:1]) or "figure")
        return "".join(f'<img alt="{alt}" src="data:image/png;base64,{picture}">' for picture in found)
    printed = text(cell.outputs).rstrip("\n")
    size = min(30, 2000 // max(map(len, printed.split("\n"))))  # a slide is 1,280 pixels wide
    if "  " not in printed:  # no columns, so long lines may wrap
        size = max(size, 24)
    return f'<pre style="font-size: {size}px">{html.escape(printed)}</pre>'


# --- the deck --------------------------------------------------------------------------------------------------------


def deck(page: nbformat.NotebookNode) -> str:
    """Return the slides of a chapter as one HTML file that needs nothing else."""
    made = list(slides(page))
    sections = "\n".join(
        f'<section><h2>{MARKDOWN.renderInline(slide.heading)}</h2>\n<div class="body">{slide.body}</div>\n'
        f'<aside class="notes">{MARKDOWN.render(slide.notes)}</aside></section>'
        for slide in made
    )
    read = {
        name: (REVEAL / path).read_text(encoding="utf-8").replace("</script", "<\\/script")
        for name, path in {
            "css": "dist/reveal.css",
            "reveal": "dist/reveal.js",
            "notes": "plugin/notes/notes.js",
        }.items()
    }
    return PAGE.format(title=html.escape(made[0].heading), style=STYLE, sections=sections, **read)


STYLE = """
:root { --r-background-color: #fff; --r-main-font: system-ui, sans-serif; --r-main-color: #222;
  --r-link-color: #1f5f8b; --r-controls-color: #1f5f8b; }
.reveal { font: 26px/1.35 var(--r-main-font); color: var(--r-main-color); }
.reveal-viewport { background: #fff; }
.reveal .slides { text-align: left; }
.reveal h2 { font-size: 1.45em; font-weight: 600; line-height: 1.15; margin: 0 0 .6em; color: #1f5f8b; }
.reveal .body { display: flex; flex-direction: column; justify-content: center; min-height: 560px; }
.reveal .question { font-size: 1.6em; max-width: 24em; margin: 0; }
.reveal .reading { margin: 1.4em 0 0; max-width: 44em; }
.reveal img { display: block; margin: 0; width: 100%; height: 560px; max-height: 560px; object-fit: contain; }
.reveal pre { font: 21px/1.4 ui-monospace, monospace; white-space: pre-wrap; margin: 0; box-shadow: none; width: auto; }
.reveal ul { margin: 0; padding-left: 1.2em; } .reveal li { margin-bottom: .35em; font-size: .92em; }
.reveal table { border-collapse: collapse; font-size: .8em; } .reveal td, .reveal th { padding: .2em .6em; }
.reveal math[display="block"] { margin: .3em 0 1em; } .reveal code { font-size: .9em; }
"""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{css}</style>
<style>{style}</style>
</head>
<body>
<div class="reveal"><div class="slides">
{sections}
</div></div>
<script>{reveal}</script>
<script>{notes}</script>
<script>
Reveal.initialize({{width: 1280, height: 720, margin: 0.05, center: false, hash: true, slideNumber: true,
  transition: "none", plugins: [RevealNotes]}});
</script>
</body>
</html>
"""

if __name__ == "__main__":
    main()
