"""Formulas as MathML, which every browser draws by itself: no script, no font, no network."""

import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

LOGGER = logging.getLogger(__name__)

# A function before its argument: TeX leaves a thin space unless a bracket follows.
FUNCTION = re.compile(r"(?<!<msub>)(?<!<msup>)(?<!<munder>)<mi>(log|ln|exp|sin|cos|tanh|det)</mi>(?=<m[^o])")


def mathml(node: nodes.Element, display: str) -> str:
    r"""Return a formula as MathML; a backslash left in it is a command that nobody translated."""
    written = FUNCTION.sub(r'<mi style="padding-right: 0.17em">\1</mi>', convert(node.astext(), display=display))
    written = written.replace("<mo>&#x02016;</mo>", '<mo stretchy="false">&#x02016;</mo>')  # both sides of a norm alike
    if "\\" in written.replace("<mo>\\</mo>", ""):
        LOGGER.warning("this formula is not understood: %s", node.astext(), location=node)
    return written


def keep_together(app: Sphinx, doctree: nodes.document) -> None:
    """Give a formula the comma or bracket behind it, which a browser would put on the next line."""
    for node in list(doctree.findall(nodes.math)):
        text = node.next_node(descend=False, siblings=True)
        after = re.match(r"[,.;:!?)\]’”]*", text.astext()).group() if isinstance(text, nodes.Text) else ""
        if after:
            node["after"] = after
            text.parent.replace(text, nodes.Text(text.astext()[len(after) :]))


def inline(translator: HTML5Translator, node: nodes.Element) -> None:
    """Write a formula within a line."""
    written = mathml(node, "inline")
    after = node.get("after")
    translator.body.append(f'<span class="together">{written}{after}</span>' if after else written)
    raise nodes.SkipNode


def block(translator: HTML5Translator, node: nodes.Element) -> None:
    """Write a formula of its own line, with its number if it has a label."""
    translator.body.append(translator.starttag(node, "div", CLASS="formula"))
    translator.body.append(mathml(node, "block"))
    if node["number"]:
        translator.body.append(f'<span class="eqno">({get_node_equation_number(translator, node)})')
        translator.add_permalink_ref(node, "Link to this equation")
        translator.body.append("</span>")
    translator.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Offer the renderer; conf.py chooses it."""
    app.connect("doctree-read", keep_together)
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
