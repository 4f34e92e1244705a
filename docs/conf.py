"""Settings of the documentation: ``sphinx-build -W docs docs/_build``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE), str(HERE.parent / ".ci")]

import collapsed  # noqa: E402
import gallery_support  # noqa: E402
import inventories  # noqa: E402
import mathjax  # noqa: E402
import references  # noqa: E402
import rooms_picture  # noqa: E402
import signatures  # noqa: E402

import pyomo_relu  # noqa: E402

project = "pyomo_relu"
author = "The pyomo_relu developers"
copyright = f"2026, {author}"
release = version = pyomo_relu.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "myst_parser",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]

source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
exclude_patterns = ["_build", "_generated"]
html_theme = "furo"
html_title = f"pyomo_relu {release}"
html_static_path = ["_static", "_generated/static"]
mathjax_path = mathjax.copy(HERE / "_generated" / "static")
html_css_files = ["site.css"]
html_js_files = ["site.js"]
templates_path = ["_templates"]
#: Pages that became sections of others, and where they went.
MOVED = {
    **{
        f"mathematics/{name}": f"formulations.html#mathematics-{name.replace('_', '-')}"
        for name in (
            "bigm", "complementarity", "cuts", "disjunctive", "fixed_pattern", "hull",
            "indicator", "partition", "relaxation", "sos1",
        )
    },
    **{
        f"mathematics/{name}": f"bounds.html#mathematics-{name.replace('_', '-')}"
        for name in (
            "alpha_crown", "boxes", "crown", "improved_interval", "interval", "lp", "mip",
            "model", "rolling",
        )
    },
    "mathematics/maximum": "maximum_and_steps.html#mathematics-maximum",
    "mathematics/steps": "maximum_and_steps.html#mathematics-steps",
    "benchmarks/fischetti_jo": "paper_fischetti_jo.html",
    "onnx_coverage": "guide/onnx_coverage.html",
}  # fmt: skip
html_additional_pages = dict.fromkeys(MOVED, "moved.html")
html_context = {"moved": MOVED}

autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_numpy_docstring = True
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_custom_sections = [("Class attributes", "params_style")]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 2

# The examples run when the site is built; ``-D plot_gallery=0`` leaves that out.
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "ignore_pattern": r"__init__\.py",
    "nested_sections": False,
    "within_subsection_order": "gallery_support.order",
    "image_scrapers": ("gallery_support.saved_pictures",),
    "reset_modules": ("gallery_support.prepare",),
    "reset_argv": "gallery_support.arguments",
    "capture_repr": (),
    "first_notebook_cell": gallery_support.FIRST_CELL,
    "last_notebook_cell": gallery_support.LAST_CELL,
    "notebook_images": False,
    "backreferences_dir": "gallery/backreferences",
    "doc_module": ("pyomo_relu",),
    "inspect_global_variables": False,
    "min_reported_time": 1,
    "write_computation_times": False,
    "show_signature": False,
    "abort_on_example_error": False,
    "plot_gallery": "True",
}


def _classes(objects: dict[str, type]) -> str:
    """Each registered class with what it says of itself, and its options."""
    lines: list[str] = []
    for name, thing in sorted(objects.items()):
        lines += [f"``{name}``", "-" * (len(name) + 4), ""]
        package = thing.__module__.rpartition(".")[0]
        lines += [f".. autoclass:: {package}.{thing.__name__}", ""]
        for option in thing.CONFIG.keys():
            value = thing.CONFIG.get(option)
            lines.append(f"   * ``{option}={value.value()!r}``: {value._description}")
        lines += ["", f"   Equations: :ref:`mathematics-{name}`.", ""]
    return "\n".join(lines) + "\n"


def _functions(objects: dict[str, object]) -> str:
    """Registered functions, each with a link to its mathematics."""
    return "\n".join(
        f".. autofunction:: {thing.__module__}.{thing.__name__}\n\n"
        f"   Equations: :ref:`mathematics-{name}`.\n"
        for name, thing in sorted(objects.items())
    )


def _write(name: str, text: str) -> None:
    path = HERE / "_generated" / name
    path.parent.mkdir(exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf8") != text:
        path.write_text(text, encoding="utf8")


def _write_lists() -> None:
    """Pages that list what is registered, or what lies in a folder, whatever it is."""
    from pyomo_relu.bounds import RUNGS
    from pyomo_relu.formulations import FORMULATIONS

    _write("formulations.inc", _classes(FORMULATIONS))
    _write("rungs.inc", _functions(RUNGS))
    rooms = rooms_picture.read_arrows()
    _write("rooms.svg", rooms_picture.picture(*rooms))
    _write("rooms.inc", rooms_picture.table(*rooms))
    pages = sorted(
        p.stem
        for p in (HERE / "benchmarks").glob("*.*")
        if p.suffix in (".md", ".rst") and p.stem != "index"
    )
    tree = [".. toctree::", "   :maxdepth: 1", "", *(f"   {page}" for page in pages)]
    _write("benchmarks.inc", "\n".join(tree) + "\n" if pages else "")


_write_lists()
# Links to other projects where their sites can be reached; elsewhere plain names.
intersphinx_mapping = inventories.mapping(HERE / "_generated")
intersphinx_timeout = 10


def setup(app):
    """References of either name, signatures from options, and long listings closed."""
    app.connect("missing-reference", references.resolve)
    app.connect("autodoc-process-signature", signatures.of_options)
    app.connect("doctree-resolved", collapsed.close)
