"""Inventories of other projects' documentation, with a fallback for a build offline.

Sphinx warns, and ``-W`` fails, where no inventory can be had. An inventory without
entries beside each address is used then: names stay names, and nothing is warned of.
"""

from __future__ import annotations

import zlib
from pathlib import Path

SITES = {
    "python": "https://docs.python.org/3",
    "numpy": "https://numpy.org/doc/stable",
    "scipy": "https://docs.scipy.org/doc/scipy",
    "pyomo": "https://pyomo.readthedocs.io/en/stable",
    "sklearn": "https://scikit-learn.org/stable",
}


def mapping(folder: Path) -> dict[str, tuple[str, tuple[str | None, str]]]:
    """The value of ``intersphinx_mapping``; writes the fallback into ``folder``."""
    folder.mkdir(exist_ok=True)
    fallback = folder / "empty.inv"
    head = "# Sphinx inventory version 2\n# Project: none\n# Version: none\n"
    head += "# The remainder of this file is compressed using zlib.\n"
    # One entry that nothing refers to: Sphinx takes an empty file for a broken one.
    entry = b"pyomo_relu-offline std:label -1 index.html -\n"
    fallback.write_bytes(head.encode() + zlib.compress(entry))
    return {name: (url, (None, str(fallback))) for name, url in SITES.items()}
