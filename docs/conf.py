"""Sphinx: `make docs` builds the site into build/docs, without network."""

from __future__ import annotations

import os
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS / "_ext"), str(DOCS.parent / "src")]

import site_pages  # noqa: E402

import regional_al  # noqa: E402

project = "regional_al"
author = copyright = "The regional_al developers"
version = release = regional_al.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "site_pages",
    "site_api",
]
exclude_patterns = ["_ext"]
nitpicky = True
suppress_warnings = ["misc.highlighting_failure"]

# The repository that links out of docs/ lead to; without one the site holds copies of the files.
repository_url = site_pages.repository(DOCS.parent, os.environ)

# As GitHub has it: a line that begins with % is text, not a comment.
myst_disable_syntax = ["myst_line_comment", "myst_block_break", "myst_target"]
myst_heading_anchors = 4

html_theme = "furo"
html_title = f"regional_al {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # site_api writes signatures
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = ["Source", "Score", "Cost", "Deviations", "Config"]
# The site is built without network: what other packages document is named, not linked. So is what
# a signature mentions and nobody outside the package makes.
INTERNAL = (
    *("AnswerTuple", "BudgetUnit", "Colour", "ConfigReader", "Entry", "FileStamp", "Files", "I16"),
    *("Inject", "Kind", "Name", "News", "Pixels", "PoolTable", "Prelabels", "Pseudo"),
    *("RGB", "Recommendation", "RegionClasses", "Scope", "Scores", "Sieve", "Stopwatch"),
    *("TrainingLog", "Unlabeled"),
)
nitpick_ignore = [("py:class", name) for name in ("Path", "Tensor", *INTERNAL)]
nitpick_ignore_regex = [("py:class", r"(torch|np|npt|collections|sqlite3)\..*")]
