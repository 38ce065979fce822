"""Sphinx configuration; ``make docs`` builds the pages and fails on any warning."""

from __future__ import annotations

import logging
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
    "sphinx_gallery.gen_gallery",
    "generated_reference",
    "mathml",
]
exclude_patterns = [
    "_build",
    "_ext",
    "_static",
    "tutorial/*.rst",
    "generated/index.rst",
    "sg_execution_times.rst",
    "generated/sg_execution_times.rst",
]
# Options begin with two hyphens, which are no dash.
smartquotes = False
html_math_renderer = "mathml"

myst_enable_extensions = ["amsmath", "attrs_block", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

# The tutorial's warnings of few events, and matplotlib's of fonts, are no faults of the pages.
for logger in ("matplotlib", "pileupgen"):
    logging.getLogger(logger).setLevel(logging.ERROR)

sphinx_gallery_conf = {
    "examples_dirs": "tutorial",
    "gallery_dirs": "generated",
    "filename_pattern": r"/\d+_",
    "ignore_pattern": r"conf\.py",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "reset_modules": (),
    "min_reported_time": 1e9,
    "remove_config_comments": True,
    "show_memory": False,
    "show_signature": False,
    "image_scrapers": ("gallery_figures.scrape",),
    "within_subsection_order": "FileNameSortKey",
}

html_theme = "furo"
html_title = f"pileupgen {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sourcelink = False
