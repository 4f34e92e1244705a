"""What sphinx-gallery needs to run the examples as they are: plain scripts with a main().

The scripts save their pictures instead of showing them, read a command line, and find
their data by ``__file__``, none of which sphinx-gallery knows.
"""

from __future__ import annotations

import builtins
import logging
import shutil
from pathlib import Path
from typing import Any

from sphinx_gallery.scrapers import figure_rst

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
#: When each picture was saved that is on a page already, or was there before its script ran.
_taken: dict[Path, float] = {}

#: The gallery's order; an example that is not listed comes last.
ORDER = (
    "reformer_design",
    "whole_study",
    "oil_production",
    "storage_plant",
    "reactor_dae",
    "smooth_reactor",
    "gdp_choice",
    "plant_global",
    "prices_proved",
    "bounds_decide",
    "adversarial_digit",
    "feature_visualization",
    "features_by_layer",
    "verify_controller",
    "linear_regions",
    "peaks",
    "binarized_design",
    "train_digits",
    "implicit_backprop",
)

#: Arguments that keep a page under two minutes; the pages say so.
ARGUMENTS: dict[str, list[str]] = {
    "reformer_design": ["--load"],
    "adversarial_digit": ["--limit", "20"],
    "plant_global": ["--units", "4", "--limit", "40"],
    "implicit_backprop": ["--seeds", "2"],
}

FIRST_CELL = """\
# A notebook has neither a file name nor a command line; the script below asks for both.
# Data that it reads lie in the folder `examples/data` of the repository.
import sys

__file__ = "notebook.ipynb"
sys.argv = ["notebook", "--output", "."]
%matplotlib inline"""

LAST_CELL = """\
# Pictures that were saved, and not shown above.
from pathlib import Path

from IPython.display import Image, display

for picture in sorted(Path().glob("*.png")):
    if not picture.stem[-1].isdigit():
        display(Image(picture))"""


def order(name: str) -> tuple[int, str]:
    """Sort key of a script in the gallery."""
    stem = Path(name).stem
    return (ORDER.index(stem) if stem in ORDER else len(ORDER), stem)


def arguments(gallery_conf: dict[str, Any], script_vars: dict[str, Any]) -> list[str]:
    """The command line of a script; pictures go where it runs, in its own folder."""
    extra = ARGUMENTS.get(Path(script_vars["src_file"]).stem, [])
    return [*extra, "--output", "."]


def prepare(gallery_conf: dict[str, Any], name: str | None) -> None:
    """Give a script its ``__file__``, and note a picture that it had saved before."""
    if name is None:
        return
    # Solvers write their logs to loggers, which Sphinx shows.
    logging.getLogger("pyomo").setLevel(logging.WARNING)
    script = (EXAMPLES / Path(name).name).resolve()
    builtins.__file__ = str(script)  # type: ignore[attr-defined]
    _taken.update(_pictures(script))


def _pictures(script: Path) -> dict[Path, float]:
    """When each picture was saved that a script calls by its own name, or that and a number."""
    found = [script.with_suffix(".png"), *script.parent.glob(f"{script.stem}_[0-9].png")]
    return {p.resolve(): p.stat().st_mtime for p in sorted(found) if p.exists()}


def saved_pictures(
    block: tuple, block_vars: dict[str, Any], gallery_conf: dict[str, Any]
) -> str:
    """The pictures that a script has saved in this block, as reStructuredText."""
    pages = ""
    for source, time in _pictures(Path(block_vars["src_file"])).items():
        if time == _taken.get(source):
            continue
        _taken[source] = time
        target = Path(next(block_vars["image_path_iterator"]))
        shutil.copyfile(source, target)
        title = source.stem.replace("_", " ")
        pages += figure_rst([str(target)], gallery_conf["src_dir"], fig_titles=title)
    return pages
