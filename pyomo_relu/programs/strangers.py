"""Variables and models that a solver must not take for its own.

A network block that is deleted, or whose formulation is replaced, leaves its variables
behind wherever the user's rows and objective use them. There they are free: the solver
finds an optimum, and no network has a say in it. So every variable that a network block
ever made must belong to the model that is solved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pyomo.contrib.solver.common.util import IncompatibleModelError
from pyomo.core.base.block import BlockData
from pyomo.core.base.var import VarData

REPLACED = "of a formulation that its network block no longer has"
LOST = (
    "a variable whose component was removed from the model and is lost, such as an output "
    "of a network block that was deleted"
)
NOTHING = "Nothing in the model says what its value is."
REMEDY = (
    "Write rows and objective anew with the variables that the model has now; to give a "
    "block another network, call its replace_network() instead of deleting it."
)


class StrangerError(IncompatibleModelError, ValueError):
    """A model or variable that no solver of this package takes, however written."""


def check_model(model: Any, solver: str) -> None:
    """Refuse what isn't a model of ``pyomo.environ``.

    Raises
    ------
    StrangerError
        Saying what was given.
    """
    if isinstance(model, BlockData):
        return
    kind = f"{type(model).__module__}.{type(model).__name__}"
    if isinstance(model, type) or not kind.startswith("pyomo."):
        what = f"an object of type {kind}"
    elif ".kernel." in kind:
        what = f"a model of pyomo.kernel ({kind})"
    else:
        what = f"a {kind}"
    raise StrangerError(
        f"{solver} takes a ConcreteModel or Block of pyomo.environ, not {what}."
    )


def check_variables(
    model: Any, variables: Sequence[Any], solver: str, user_of: Callable[[int], str]
) -> None:
    """Refuse variables of networks that the model doesn't hold, and foreign kinds.

    Parameters
    ----------
    model : BlockData
    variables : sequence
        What the model's active rows and objective use.
    solver : str
        The name that errors give the one who asks.
    user_of : callable
        What uses the variable of a number, by name.

    Raises
    ------
    StrangerError
        Naming a variable and a row that uses it.
    """
    root = model.model()
    known: dict[int, str | None] = {}
    for j, v in enumerate(variables):
        if not isinstance(v, VarData):
            raise StrangerError(
                f"{user_of(j)} uses '{v.name}', a {type(v).__module__}."
                f"{type(v).__name__}; {solver} takes variables of pyomo.environ only."
            )
        component = v.parent_component()
        if getattr(type(v), "is_retired", False):
            what: str | None = f"'{v.name_then}' {REPLACED}"
        elif component is None:
            what = LOST
        else:
            if id(component) not in known:
                known[id(component)] = _gone(component, root)
            reason = known[id(component)]
            what = None if reason is None else f"'{v.name}' {reason}"
        if what is not None:
            raise StrangerError(f"{user_of(j)} uses {what}. {NOTHING} {REMEDY}")


def _gone(component: Any, root: Any) -> str | None:
    """Why a network's variable isn't the model's; None if it is, or is no network's."""
    top, network = component, None
    while top.parent_block() is not None:
        top = top.parent_block()
        if network is None and getattr(top, "is_network_block", False):
            network = top
    if top is root:
        return None
    if network is not None:
        return (
            f"of the network block '{network.name}', which is not in the model any more, "
            "or is in another one"
        )
    if getattr(top.parent_component(), "is_network_layer", False):
        return REPLACED
    return None
