"""In Colab a chapter is opened alone: the cell that brings the package, the exercises and the data to it."""

import re

from docutils import nodes
from sphinx.application import Sphinx

CELL = """\
!git clone -q {repository} course
%cd course/chapters
%pip install -q .. anywidget
import sys; sys.path.insert(0, "..")  # its data lie beside the package
"""


def tell(app: Sphinx, doctree: nodes.document) -> None:
    """Fold the cell below the title of each chapter, where a repository is named."""
    repository = app.config.html_theme_options.get("repository_url")
    if not repository or not re.match(r"[0-9A]\d_", app.env.docname):
        return
    cell = CELL.format(repository=repository)
    title = next(doctree.findall(nodes.title))
    below = title.parent.index(title) + 1
    title.parent[below:below] = [
        nodes.raw("", "<details><summary>In Colab, run this cell first</summary>", format="html"),
        nodes.literal_block(cell, cell, language="ipython3"),
        nodes.raw("", "</details>", format="html"),
    ]


def setup(app: Sphinx) -> dict[str, bool]:
    """Listen."""
    app.connect("doctree-read", tell)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
