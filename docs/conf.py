"""How the course becomes a site: `tools/run_course.py` gathers the pages and calls Sphinx with this file."""

import os
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]  # the extensions beside this file, and tfae, whose docstrings are pages
PROJECT = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# The one setting that names the repository: with it come the buttons Colab, Binder and "suggest edit".
REPOSITORY = os.environ.get("TFAE_REPOSITORY") or PROJECT.get("urls", {}).get("Repository", "")

project = "A course that opens the autoencoder"
author = "The tfae authors"
version = release = PROJECT["version"]
html_show_copyright = False

extensions = [
    "myst_nb",  # chapters as they were executed, and Markdown
    "sphinx_design",
    "sphinx_copybutton",
    "sphinxcontrib.bibtex",
    "sphinx.ext.autodoc",
    "numpydoc",
    "mathml",  # from here on our own, beside this file
    "reference",
    "accessible",
    "colab",
]

# --- chapters --------------------------------------------------------------------------------------------------------

nb_execution_mode = "off"  # tools/run_course.py has run them
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]  # a widget's picture instead
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 4
myst_heading_slug_func = "reference.anchor"
suppress_warnings = ["myst.header", "toc.empty_glob"]

# --- the reference ---------------------------------------------------------------------------------------------------

default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # what overrides Keras is described there
autodoc_typehints = "none"  # numpydoc's sections say the types
autodoc_default_options = {"members": True, "ignore-module-all": True}
numpydoc_show_class_members = False
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"

smartquotes = False  # what a cell printed stays as it was printed

bibtex_bibfiles = ["../chapters/references.bib"]
bibtex_default_style = "plain"

# --- pages that need no other host -----------------------------------------------------------------------------------

html_theme = "sphinx_book_theme"
html_title = project
html_math_renderer = "mathml"
html_show_search_summary = False  # it would fetch each page, which a browser refuses of pages from the disk
html_logo = "_static/logo.svg"
html_favicon = "_static/logo.svg"
html_static_path = ["_static"]
html_css_files = ["course.css"]
html_js_files = ["print.js"]
html_context = {"default_mode": "auto"}
html_use_index = False  # search and the reference find more
html_domain_indices = False
html_sourcelink_suffix = ""  # the button "download" gives the notebook
html_theme_options = {
    "navbar_persistent": [],
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
copybutton_selector = "div.highlight:not(.cell_output *, .highlight-text *) > pre"

if REPOSITORY:
    tags.add("repository")  # noqa: F821  Sphinx defines it
    html_theme_options |= {
        "repository_url": REPOSITORY,
        "repository_branch": "main",
        "path_to_docs": "chapters",
        "use_repository_button": True,
        "use_edit_page_button": True,
        "launch_buttons": {
            "colab_url": "https://colab.research.google.com",
            "binderhub_url": "https://mybinder.org",
            "notebook_interface": "jupyterlab",
        },
    }
