"""Tables of text."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(table: Sequence[tuple[str, ...]]) -> list[str]:
    """A table as lines with aligned columns, and a rule below its first row."""
    widths = [max(map(len, column)) for column in zip(*table)]
    lines = ["  ".join(x.ljust(w) for x, w in zip(r, widths)).rstrip() for r in table]
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]
