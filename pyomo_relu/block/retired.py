"""Variables of a formulation that was replaced: whoever still uses them is told so.

A row of the user's on a variable inside a block outlives the formulation that the
variable belongs to. Nothing in the model holds the variable then, so the row says
nothing any more, and a solver's optimum is one of another model. Every solver and
writer asks a variable for its domain or bounds; from a retired one it gets an error.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

from pyomo.core.base.var import VarData


def _read(name: str) -> property:
    """A property of a variable that can be set, and is refused to who reads it."""
    original = getattr(VarData, name)

    def refuse(self: Any) -> NoReturn:
        raise ValueError(
            f"the model uses '{self.name_then}', a variable of a formulation that its network "
            "block no longer has, so nothing determines it; deactivate or delete the rows "
            "(or the objective) with it, and write them anew with the variables that the "
            "block has now."
        )

    return property(refuse, original.fset, doc=f"Refused; see {__name__}.")


class RetiredVar(VarData):
    """The data of a variable inside a formulation that was replaced."""

    __slots__ = ()
    is_retired = True

    @property
    def name_then(self) -> str:
        """The name that it had in its block."""
        return self._domain if isinstance(self._domain, str) else self.name

    domain = _read("domain")
    bounds = _read("bounds")
    lb = _read("lb")
    ub = _read("ub")


def retire(variables: Iterable[Any]) -> None:
    """Let variables refuse to be part of a model from now on.

    Called while they are still in their block: each keeps the name that it had there, in
    place of a domain, since without its component it has none. One that was fixed is so
    no more, or rows would take its value for a number.
    """
    for v in variables:
        if type(v) is VarData:  # a scalar variable has another layout
            v._domain = v.name
            v._fixed = False
            v.__class__ = RetiredVar
