"""Libraries that are imported when they are first used, not with the package.

The import of SciPy takes over a second once Pyomo is loaded (Pyomo then imports its
statistics as well), which a model without a network need not pay.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import highspy as highspy
    import pyscipopt as pyscipopt
    import scipy.sparse as sparse
    import torch as torch


class LazyModule:
    """Stands for a module; imports it at the first attribute that is asked for."""

    def __init__(self, name: str) -> None:
        self.__dict__["_name"] = name

    def __getattr__(self, key: str) -> Any:
        value = getattr(importlib.import_module(self._name), key)
        self.__dict__[key] = value
        return value


if not TYPE_CHECKING:
    highspy = LazyModule("highspy")
    pyscipopt = LazyModule("pyscipopt")
    sparse = LazyModule("scipy.sparse")
    torch = LazyModule("torch")


def imports_later(
    package: str, where: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """A package's ``__getattr__`` and ``__dir__`` for names that come when asked for.

    Parameters
    ----------
    package : str
        Its ``__name__``.
    where : mapping
        The module of each name.
    """

    def get(name: str) -> Any:
        if name in where:
            return getattr(importlib.import_module(where[name]), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *where})

    return get, names


def check_matplotlib() -> None:
    """Raise an ImportError that says what to install where Matplotlib is missing."""
    try:
        importlib.import_module("matplotlib")
    except ImportError as error:
        raise ImportError(
            "plots and pictures need Matplotlib; pip install 'pyomo_relu[plot]'"
        ) from error
