"""Suffixes that name what a formulation made.

A formulation that is replaced takes its variables and rows with it. A suffix that still
has entries for them can't be copied by Pyomo any more, so a model with branching
priorities on binaries could no longer be cloned after a block was reformulated.
"""

from __future__ import annotations

from typing import Any

from pyomo.environ import Suffix


def forget(block: Any, component: Any) -> None:
    """Drop entries of suffixes for everything below a component of ``block``.

    The suffixes are those on the block and on the blocks that hold it, where Pyomo's
    transformations and solvers look for them.
    """
    holder = block
    while holder is not None:
        for suffix in holder.component_objects(Suffix, descend_into=False):
            for key in [k for k in suffix if _is_below(k, component)]:
                del suffix[key]
            for found in suffix.values():
                if isinstance(found, dict):  # as relaxing keeps variables and domains
                    for key, kept in list(found.items()):
                        if isinstance(kept, tuple) and _is_below(kept[0], component):
                            del found[key]
        holder = holder.parent_block()


def _is_below(data: Any, component: Any) -> bool:
    if not hasattr(data, "parent_block"):  # None, or what isn't a component
        return False
    while data is not None:
        if data is component or data.parent_component() is component:
            return True
        data = data.parent_block()
    return False
