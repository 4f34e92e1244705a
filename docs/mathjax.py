"""MathJax as one file of the site, so that formulas are shown without a network.

The package ``sphinx-mathjax-offline`` only carries MathJax 3.2.2, 24 MB of it. One file with
all of TeX and with its glyphs as SVG is enough; its extension isn't used, which would copy
everything.
"""

from __future__ import annotations

import shutil
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

PACKAGE = "sphinx-mathjax-offline"
FILE = "sphinx-mathjax-offline/static/mathjax/tex-svg-full.js"


def copy(folder: Path) -> str:
    """Put the file into ``folder``, which Sphinx copies into ``_static``; its name there."""
    try:
        source = Path(str(distribution(PACKAGE).locate_file(FILE)))
    except PackageNotFoundError:
        raise ImportError(
            f"the site brings its own MathJax: pip install {PACKAGE}, or '.[docs]'"
        ) from None
    target = folder / "mathjax" / source.name
    if not target.exists() or target.stat().st_size != source.stat().st_size:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    return f"mathjax/{source.name}"
