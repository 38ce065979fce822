"""Figures of the tutorial's code blocks, on its page.

Sphinx-Gallery collects the figures of pyplot; those of pileupgen are not registered there.
"""

from __future__ import annotations

from typing import Any

from sphinx_gallery.scrapers import figure_rst


def scrape(_block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Save the figures that a block names ``shown``, and write the markup for them."""
    shown = block_vars["example_globals"].pop("shown", [])
    paths = [next(block_vars["image_path_iterator"]) for _ in shown]
    for figure, path in zip(shown, paths, strict=True):
        figure.savefig(path, dpi=100)
    return str(figure_rst(paths, gallery_conf["src_dir"]))
