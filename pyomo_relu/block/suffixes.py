"""Suffixes that name what a formulation made.

A formulation that is replaced takes its variables and rows with it. A suffix that still
has entries for them can't be copied by Pyomo any more, so a model with branching
priorities on binaries could no longer be cloned after a block was reformulated.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyomo.core.base.component import ComponentData
from pyomo.core.base.indexed_component import IndexedComponent
from pyomo.environ import RangeSet, Set, Suffix


def forget(block: Any, component: Any) -> None:
    """Drop entries of suffixes for everything below a component of ``block``.

    The suffixes are those on the block and on the blocks that hold it, where Pyomo's
    transformations and solvers look for them. What is below the component is looked up
    there, so that a suffix with entries for many blocks costs each of them no more than one
    for itself.
    """
    suffixes = [found for found in _suffixes(block) if len(found)]
    if not suffixes:
        return
    below = list(_below(component))
    for suffix in suffixes:
        for key in below:
            if key in suffix:
                del suffix[key]
        relaxed = suffix.get(None)  # as relaxing keeps variables and domains, by id
        if isinstance(relaxed, dict):
            for key in below:
                if id(key) in relaxed:
                    del relaxed[id(key)]


def _suffixes(block: Any) -> Iterator[Any]:
    """The suffixes on a block and on the blocks that hold it."""
    while block is not None:
        yield from block.component_objects(Suffix, descend_into=False)
        block = block.parent_block()


def _below(component: Any) -> Iterator[Any]:
    """A component, its data, and all that blocks among these hold."""
    yield component
    is_set = component.ctype is Set or component.ctype is RangeSet
    if not isinstance(component, IndexedComponent) or is_set or component.is_reference():
        return
    for data in component.values():
        if data is not component and isinstance(data, ComponentData):
            yield data
        if hasattr(data, "component_map"):
            for inner in data.component_map().values():
                yield from _below(inner)
