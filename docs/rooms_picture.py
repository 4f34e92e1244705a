"""The rooms of the package as a picture and a table, from what ``.ci/rooms.py`` finds.

Both are written when the site is built, so they show the imports that there are.
"""

from __future__ import annotations

import rooms

#: Pixels: a room's box, and the steps from one room to the next.
BOX_WIDTH, BOX_HEIGHT, STEP_X, STEP_Y, MARGIN = 104, 26, 54, 40, 12


def read_arrows() -> tuple[dict[str, str], dict[str, list[str]]]:
    """What each room is for, from the top, and which rooms it uses; packages only."""
    purpose = {
        name: text
        for floor in rooms.FLOORS
        for name, text in floor.items()
        if (rooms.ROOT / name / "__init__.py").exists()
    }
    arrows = rooms.arrows()
    uses = {name: [b for b in purpose if (name, b) in arrows] for name in purpose}
    return purpose, uses


def picture(purpose: dict[str, str], uses: dict[str, list[str]]) -> str:
    """An SVG: rooms on the diagonal, a dot where the room of a row uses that of a column."""
    at = {name: k for k, name in enumerate(purpose)}
    column = {name: MARGIN + BOX_WIDTH / 2 + STEP_X * k for name, k in at.items()}
    row = {name: MARGIN + BOX_HEIGHT / 2 + STEP_Y * k for name, k in at.items()}
    width = 2 * MARGIN + BOX_WIDTH + STEP_X * (len(at) - 1)
    height = 2 * MARGIN + BOX_HEIGHT + STEP_Y * (len(at) - 1)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        '<g stroke="#9aa7b5" stroke-width="1.2">',
    ]
    for name, used in uses.items():
        if used:
            end = max(column[other] for other in used)
            lines.append(_line(column[name], row[name], end, row[name]))
    for other in at:
        users = [row[name] for name, used in uses.items() if other in used]
        if users:
            lines.append(_line(column[other], min(users), column[other], row[other]))
    lines.append('</g><g fill="#2166ac">')
    lines += [
        f'<circle cx="{column[other]:g}" cy="{row[name]:g}" r="4"/>'
        for name, used in uses.items()
        for other in used
    ]
    lines.append("</g>")
    for name in at:
        x, y = column[name] - BOX_WIDTH / 2, row[name] - BOX_HEIGHT / 2
        lines.append(
            f'<rect x="{x:g}" y="{y:g}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="5" '
            f'fill="#e8eff7" stroke="#2166ac"/><text x="{column[name]:g}" '
            f'y="{row[name] + 4:g}" text-anchor="middle">{name}</text>'
        )
    return "\n".join([*lines, "</svg>", ""])


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}"/>'


def table(purpose: dict[str, str], uses: dict[str, list[str]]) -> str:
    """reStructuredText: each room, what it is for, and what it uses."""
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 18 45 37", ""]
    lines += ["   * - room", "     - what it is for", "     - what it uses"]
    for name, text in purpose.items():
        text = text.replace("`", "``")
        used = ", ".join(uses[name]) or "nothing of the package"
        lines += [f"   * - ``{name}``", f"     - {text}", f"     - {used}"]
    return "\n".join(lines) + "\n"
