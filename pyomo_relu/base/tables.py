"""Tables of text, and of HTML for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


def aligned(table: Sequence[tuple[str, ...]]) -> list[str]:
    """A table as lines with aligned columns, and a rule below its first row."""
    widths = [max(map(len, column)) for column in zip(*table)]
    lines = ["  ".join(x.ljust(w) for x, w in zip(r, widths)).rstrip() for r in table]
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]


def html_table(table: Sequence[tuple[str, ...]], title: str = "", note: str = "") -> str:
    """A table as HTML, its first row as the head, numbers to the right.

    Parameters
    ----------
    table : sequence of tuples of str
    title, note : str
        Lines above and below; each is plain text.
    """
    head, *rows = table
    parts = [f"<caption style='text-align:left'>{escape(title)}</caption>"] if title else []
    parts.append(
        f"<thead><tr>{''.join(f'<th>{escape(x)}</th>' for x in head)}</tr></thead>"
    )
    parts.append("<tbody>")
    for row in rows:
        cells = "".join(
            f"<td style='text-align:{'right' if _is_number(x) else 'left'}'>{escape(x)}</td>"
            for x in row
        )
        parts.append(f"<tr>{cells}</tr>")
    parts.append("</tbody>")
    below = f"<p>{escape(note)}</p>" if note else ""
    return f"<table>{''.join(parts)}</table>{below}"


def _is_number(text: str) -> bool:
    return text[:1].isdigit() or text[:1] in "-+." and text[1:2].isdigit()
