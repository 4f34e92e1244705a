"""Signatures where Python only knows ``(**options)``: options that are declared elsewhere.

Formulations, solvers and their configurations declare options in a ``ConfigDict``; a Keras
model has its keywords in ``__init__``, while ``__new__`` takes anything.
"""

from __future__ import annotations

import inspect
from inspect import Parameter, Signature
from typing import Any

from pyomo.common.config import ConfigDict
from sphinx.application import Sphinx

from pyomo_relu.formulations import Formulation

#: Pyomo's own options of a solver that the pages name; it has others, for its own use.
_COMMON = ("time_limit", "threads", "rel_gap", "abs_gap", "tee")


def of_options(
    app: Sphinx,
    what: str,
    name: str,
    thing: Any,
    options: Any,
    signature: str,
    returns: str,
) -> tuple[str, str] | None:
    """The names and defaults of what a class takes, for ``autodoc-process-signature``."""
    if what != "class" or "**" not in (signature or ""):
        return None
    if thing is Formulation:  # a user's own declares what it likes
        return None
    config = _declared(thing)
    if config is None and "*args" not in signature:
        return None
    if config is None:
        found = inspect.signature(thing.__init__)
        rest = list(found.parameters.values())[1:]
        plain = [p.replace(annotation=Parameter.empty) for p in rest]
        return str(Signature(plain)), returns
    names = list(config)
    if hasattr(config, "keywords"):  # of a solver
        names = [n for n in config.keywords if n not in (*_COMMON, "timer")]
        names += [n for n in _COMMON if n in config]
    shown = [Parameter(n, Parameter.KEYWORD_ONLY, default=config[n]) for n in names]
    return str(Signature(shown)), returns


def _declared(thing: type) -> ConfigDict | None:
    if issubclass(thing, ConfigDict):
        return thing()
    config = getattr(thing, "CONFIG", None)
    return config() if isinstance(config, ConfigDict) else None
