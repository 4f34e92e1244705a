"""Index sets of what the package writes into a model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pyomo.environ import RangeSet, Set


def index_set(units: Iterable[Any]) -> Any:
    """An anonymous ordered set of unit numbers, a range where they are one."""
    units = list(units)
    if not units or not isinstance(units[0], int):
        tuples = units and isinstance(units[0], tuple)
        return Set(initialize=units, dimen=len(units[0]) if tuples else 1)
    if units == list(range(units[0], units[0] + len(units))):
        return RangeSet(units[0], units[-1])
    return Set(initialize=units, dimen=1)
