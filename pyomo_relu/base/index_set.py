"""Index sets of what the package writes into a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from pyomo.environ import RangeSet, Set

from pyomo_relu.base.weak_table import WeakTable

#: Where equal sets are looked up; None outside of :func:`equal_sets_once`.
_known: ContextVar[WeakTable[Any] | None] = ContextVar("known index sets", default=None)


@contextmanager
def equal_sets_once(known: WeakTable[Any]) -> Iterator[None]:
    """Inside, components with equal index sets get the same one, those in ``known`` too.

    A model with many network blocks has the same few sets thousands of times, and making
    one takes longer than making the ten variables of it. Pyomo allows sharing, and copies a
    set with a model once. It calls the block of the component that came first the parent of
    a set, though, and a model can't be copied once that block is gone: the old layers of a
    network, or what a ``gdp`` transformation made. So shared sets have no parent.
    """
    token = _known.set(known)
    try:
        yield
    finally:
        _known.reset(token)
        for one in known.values():
            one._parent = None


def index_set(units: Iterable[Any]) -> Any:
    """An anonymous ordered set of unit numbers, a range where they are one."""
    units = tuple(units)
    known = _known.get()
    if known is None:
        return _new(units)
    found = known.get(units)
    return known.put(units, _new(units)) if found is None else found


def _new(units: tuple[Any, ...]) -> Any:
    if not units or not isinstance(units[0], int):
        tuples = units and isinstance(units[0], tuple)
        return Set(initialize=units, dimen=len(units[0]) if tuples else 1)
    if units == tuple(range(units[0], units[0] + len(units))):
        return RangeSet(units[0], units[-1])
    return Set(initialize=units, dimen=1)


def data_of(component: Any) -> list[Any]:
    """The data of an indexed component that has one for each of its indices, in order.

    As ``component.values()``, without a look at the index set for each of them.
    """
    return list(component._data.values())
