"""Formulas as MathML, which browsers draw themselves: no script and no network is needed."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

_FENCE = re.compile(r"<mo>([{}()\[\]|])</mo>")


def _inline(translator: Any, node: nodes.math) -> None:
    # Brackets in a line of text keep the height of its letters.
    translator.body.append(_FENCE.sub(r'<mo stretchy="false">\1</mo>', tex2mathml(node.astext())))
    raise nodes.SkipNode


def _display(translator: Any, node: nodes.math_block) -> None:
    formula = tex2mathml(node.astext(), as_block=True)
    translator.body.append(f'<div class="math formula">{formula}</div>\n')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    """Register the renderer under the name ``mathml``."""
    app.add_html_math_renderer("mathml", (_inline, None), (_display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
