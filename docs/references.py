"""References to what is documented under another name, or is there no more.

``pyomo_relu.network.Network`` and ``pyomo_relu.Network`` are one class, which has one entry
in the documentation: either name leads there. A name of the package that leads nowhere is
warned of, so that no docstring speaks of what was renamed.
"""

from __future__ import annotations

import importlib
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

logger = logging.getLogger(__name__)


def find(name: str) -> Any:
    """The module, or the attribute of a module or class, with this full name."""
    try:
        return importlib.import_module(name)
    except ImportError:
        module, _, last = name.rpartition(".")
        if not module:
            raise
        try:
            return getattr(find(module), last)
        except AttributeError as error:
            raise ImportError(name) from error


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, shown: nodes.TextElement
) -> nodes.Element | None:
    """The entry of the same object under its other name."""
    name = node.get("reftarget", "")
    if node.get("refdomain") != "py" or not name.startswith("pyomo_relu."):
        return None
    try:
        thing = find(name)
    except ImportError:
        logger.warning("there is no %s", name, location=node)
        return None
    domain = env.get_domain("py")
    for other in domain.objects:  # type: ignore[attr-defined]
        if other.rpartition(".")[2] == name.rpartition(".")[2] and _is(other, thing):
            page, kind = node["refdoc"], node["reftype"]
            return domain.resolve_xref(env, page, app.builder, kind, other, node, shown)
    return None


def _is(name: str, thing: Any) -> bool:
    try:
        return find(name) is thing
    except ImportError:
        return False
