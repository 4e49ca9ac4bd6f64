"""What the pages need so that everybody can use them: names for pictures, roles that fit."""

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
    app.connect("html-page-context", mend_page, priority=900)  # after the theme
    return {"parallel_read_safe": True, "parallel_write_safe": True}
