"""What the pages need so that everybody can use them: names for pictures, roles that fit, a way to what is alive."""

from typing import Any

from bs4 import BeautifulSoup
from docutils import nodes
from sphinx.application import Sphinx


def name_figures(app: Sphinx, doctree: nodes.document) -> None:
    """Say of a figure without words of its own which section it belongs to, in place of the name of its file."""
    for image in doctree.findall(nodes.image):
        section = next((parent for parent in ancestors(image) if isinstance(parent, nodes.section)), None)
        if section is not None and not image.get("alt"):
            image["alt"] = f"Figure: {section[0].astext()}"


def say_that_it_is_still(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Below the picture of an explorer say where one is alive: as committed, a chapter has no network to run."""
    for cell in doctree.findall(nodes.container):
        if "cell" in cell["classes"] and "explorer.Explorer(" in cell.astext() and cell.next_node(nodes.image):
            first = nodes.reference("", "the first page", refuri=app.builder.get_relative_uri(page, "index"))
            said = ("A still picture, as it was committed. There is one to touch on ", first, "; after ",
                    nodes.literal("", "make course"), " this one is alive, too.")  # fmt: skip
            parts = [nodes.Text(part) if isinstance(part, str) else part for part in said]
            cell += nodes.paragraph("", "", *parts, classes=["still"])


def ancestors(node: nodes.Node) -> Any:
    while node.parent is not None:
        node = node.parent
        yield node


def mend_page(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Make the entries of a bibliography items of the list they lie in, and name what unfolds the sidebar."""
    if "body" in context:
        context["body"] = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')
    of_the_theme = context["generate_toctree_html"]

    def sidebar(*arguments: Any, **settings: Any) -> BeautifulSoup:
        written = of_the_theme(*arguments, **settings)
        for summary in written.find_all("summary"):
            summary["aria-label"] = "show its pages"
        return written

    context["generate_toctree_html"] = sidebar


def setup(app: Sphinx) -> dict[str, bool]:
    """Listen."""
    app.connect("doctree-read", name_figures)
    app.connect("doctree-resolved", say_that_it_is_still)
    app.connect("html-page-context", mend_page, priority=900)  # after the theme
    return {"parallel_read_safe": True, "parallel_write_safe": True}
