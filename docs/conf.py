"""How Sphinx makes the site. `make site` lays out its pages (data_scripts/build_site.py) and then reads this file.

Nothing is fetched while building or reading: MathJax, fonts and scripts are files of the site itself.
"""

import importlib.util
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "site")]

import samerge_edu  # noqa: E402 - only now is this checkout's package on the path

project = "samerge_edu"
copyright = "the authors of samerge_edu. Code: Apache-2.0. Text and figures: CC BY 4.0"
version = release = samerge_edu.__version__
language = "en"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx_copybutton"]
exclude_patterns = ["**/.ipynb_checkpoints"]

# Notebooks are shown as they were executed.
nb_execution_mode = "off"
nb_merge_streams = True
nb_code_prompt_show = "Setup: show"  # only the setup cells are folded
nb_code_prompt_hide = "Setup: hide"
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 4
myst_dmath_double_inline = True
suppress_warnings = ["mystnb.unknown_mime_type"]  # a stored widget's description; its still pictures are shown

# The package explains itself in plain text; docs/site/docstrings.py makes reStructuredText of it.
autodoc_default_options = {"members": True, "member-order": "bysource", "ignore-module-all": True}
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False  # what torch says of forward() is not ours
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False

highlight_language = "text"  # formulas are no Python; what is Python says so

html_theme = "sphinx_book_theme"
html_title = "samerge_edu"
html_static_path = [str(HERE / "site" / "static")]
html_css_files = ["site.css"]
html_copy_source = True  # what the download button gives
html_sourcelink_suffix = ""
html_show_sourcelink = False
html_last_updated_fmt = None
html_theme_options = {
    "repository_url": samerge_edu.REPOSITORY,
    "repository_branch": samerge_edu.BRANCH,
    "path_to_docs": "",
    "use_repository_button": True,
    "use_issues_button": True,
    "use_download_button": True,
    "use_fullscreen_button": False,
    "launch_buttons": {
        "colab_url": "https://colab.research.google.com",
        "binderhub_url": "https://mybinder.org",
        "notebook_interface": "jupyterlab",
    },
    "home_page_in_toc": False,
    "navbar_start": [],
    "navbar_center": [],
    "navbar_end": [],
    "navbar_persistent": [],
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "article_footer_items": [],
    "footer_content_items": ["copyright.html"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
mathjax_path = "mathjax/tex-chtml.js"
mathjax3_config = {"options": {"enableMenu": False}}  # the menu would load more files


def mathjax_files() -> Path:
    """The folder of a MathJax that a Python package ships."""
    spec = importlib.util.find_spec("sphinx-mathjax-offline")
    if spec is None or spec.origin is None:
        raise RuntimeError("the package sphinx-mathjax-offline is missing: pip install 'samerge-edu[site]'")
    return Path(spec.origin).parent / "static" / "mathjax"


def copy_mathjax(app: Any, exception: Exception | None) -> None:
    """One script and its fonts, of the many that MathJax has."""
    if exception is None and app.builder.format == "html":
        import shutil

        target, fonts = Path(app.outdir) / "_static" / "mathjax", Path("output", "chtml", "fonts", "woff-v2")
        shutil.copytree(mathjax_files() / fonts, target / fonts, dirs_exist_ok=True)
        shutil.copy(mathjax_files() / "tex-chtml.js", target)


def setup(app: Any) -> None:
    from docstrings import to_rst

    app.connect("autodoc-process-docstring", lambda app, what, name, obj, options, lines: to_rst(lines))
    app.connect("build-finished", copy_mathjax)
