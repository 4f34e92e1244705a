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


#: Keras has no inventory of its own; these are its pages for what the guide speaks of.
KERAS = {
    "keras.Model": "models/model/",
    "keras.Sequential": "models/sequential/",
    "keras.layers.Dense": "layers/core_layers/dense/",
    "keras.layers.Layer": "layers/base_layer/",
    "keras.layers.Normalization": "layers/preprocessing_layers/numerical/normalization/",
    "keras.layers.Rescaling": "layers/preprocessing_layers/image_preprocessing/rescaling/",
}


def mapping(folder: Path) -> dict[str, tuple[str, tuple[str | None, ...]]]:
    """The value of ``intersphinx_mapping``; writes two inventories into ``folder``."""
    folder.mkdir(exist_ok=True)
    # Sphinx takes an empty file for a broken one, so it has one entry that nobody uses.
    nothing = _write(
        folder / "offline.inv", ["pyomo_relu-offline std:label -1 index.html -"]
    )
    keras = [f"{name} py:class 1 {page} -" for name, page in KERAS.items()]
    sites: dict[str, tuple[str, tuple[str | None, ...]]] = {
        name: (url, (None, nothing)) for name, url in SITES.items()
    }
    sites["keras"] = ("https://keras.io/api", (_write(folder / "keras.inv", keras),))
    return sites


def _write(path: Path, entries: list[str]) -> str:
    head = "# Sphinx inventory version 2\n# Project: none\n# Version: none\n"
    head += "# The remainder of this file is compressed using zlib.\n"
    body = zlib.compress("".join(f"{entry}\n" for entry in entries).encode())
    path.write_bytes(head.encode() + body)
    return str(path)
