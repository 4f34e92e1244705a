"""Long listings are shown closed: what some formulations write for an example has many rows."""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx

#: Listings of a docstring with more lines than this are closed; about a third of a screen.
MOST_LINES = 16


def close(app: Sphinx, tree: nodes.document, page: str) -> None:
    """Wrap long doctests of docstrings in an element that opens on a click."""
    for block in list(tree.findall(_is_doctest)):
        lines = block.astext().count("\n") + 1
        if lines <= MOST_LINES or block.parent is None:
            continue
        head = (
            '<details class="listing"><summary>The example and the rows that it writes'
            f" ({lines} lines)</summary>"
        )
        place = block.parent.index(block)
        block.parent.insert(place, nodes.raw("", head, format="html"))
        block.parent.insert(place + 2, nodes.raw("", "</details>", format="html"))


def _is_doctest(node: nodes.Node) -> bool:
    return isinstance(node, nodes.doctest_block) or (
        isinstance(node, nodes.literal_block) and node.astext().startswith(">>> ")
    )
