"""Bounds of a block's outputs: the user's and the network's, told apart for good.

The outputs are the user's to bound; the network bounds them too, and anew whenever the
block is written again. A bound that the network gave is marked, and keeps what the user
had set, so that neither is ever taken for the other, whatever their numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pyomo.common.numeric_types import RegisterNumericType
from pyomo.environ import value


class NetworkBound(float):
    """A bound that a network gave an output, and the user's that it stands for.

    Attributes
    ----------
    users : float, expression or None
        What the user had set; the number itself is the tighter of the two.
    """

    users: Any = None


RegisterNumericType(NetworkBound)


def bound_outputs(outputs: Any, low: np.ndarray, high: np.ndarray) -> None:
    """Bound variables by a network's range; of a user's bound the tighter one holds.

    Parameters
    ----------
    outputs : sequence of VarData
    low, high : (n_outputs,) arrays
        Bounds of the network.
    """
    for v, a, b in zip(outputs, low.tolist(), high.tolist()):
        # What was set, without the domain's bounds, which Pyomo keeps by itself.
        v.setlb(_joined(v._lb, a, max))
        v.setub(_joined(v._ub, b, min))


def users_bounds(v: Any) -> tuple[float | None, float | None]:
    """The bounds of an output that the user has set, by their present numbers."""
    found = (b.users if isinstance(b, NetworkBound) else b for b in (v._lb, v._ub))
    low, high = (None if b is None else float(value(b)) for b in found)
    return low, high


def _joined(present: Any, networks: float, tighter: Any) -> Any:
    users = present.users if isinstance(present, NetworkBound) else present
    if users is None:
        return NetworkBound(networks)
    if not isinstance(users, (int, float)):
        return users  # an expression, whose value may change
    found = NetworkBound(tighter(float(users), networks))
    found.users = users
    return found
