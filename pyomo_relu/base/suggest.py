"""What an error suggests where somebody wrote a name that there isn't."""

from __future__ import annotations

from collections.abc import Iterable


def closest(name: object, known: Iterable[str], most: int = 1) -> list[str]:
    """The known names that are nearly this one, whatever its case and its hyphens."""
    from difflib import get_close_matches  # none is needed where all goes well

    plain = {_plain(one): one for one in sorted(known, reverse=True)}
    found = get_close_matches(_plain(str(name)), list(plain), most)
    return [plain[one] for one in found]


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """A sentence after a blank, or nothing."""
    found = closest(name, known)
    return f" Did you mean {found[0]!r}?" if found else ""


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())
