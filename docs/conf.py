"""Sphinx configuration; ``make docs`` builds the pages and fails on any warning."""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]
# The tutorial is executed here; progress bars and colours would fill its page with escape codes.
os.environ.update({"NO_COLOR": "1", "COLUMNS": "100", "OMP_WAIT_POLICY": "PASSIVE"})

from pileupgen import __version__  # noqa: E402 - the path above comes first

project = "pileupgen"
author = "The pileupgen contributors"
project_copyright = author
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "generated_reference",
    "mathml",
]
exclude_patterns = ["_build", "_ext", "_static"]
# Options begin with two hyphens, which are no dash.
smartquotes = False
html_math_renderer = "mathml"

myst_enable_extensions = ["amsmath", "attrs_block", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"pileupgen {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sourcelink = False
