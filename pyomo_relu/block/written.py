"""Whether a block's layers are still what its formulation wrote.

A model whose layers were relaxed, or partly deactivated, means something else than its
networks: it must go to a solver as it is. Rows or bounds that were added are no matter,
for they only take away.
"""

from __future__ import annotations

from typing import Any

from pyomo.environ import Binary, Constraint, Var


def census(container: Any) -> tuple[int, int, int]:
    """Active rows, binaries and finite bounds of the layers in a block.

    Parameters
    ----------
    container : Block or None
        The ``layer`` component of a network block.

    Returns
    -------
    (int, int, int)
    """
    rows = binaries = bounds = 0
    if container is None or not container.active:
        return rows, binaries, bounds
    for layer in container.values():
        if not layer.active:
            continue
        for con in layer.component_objects(Constraint, descend_into=False):
            if con.active:
                rows += sum([c.active for c in con.values()])
        for var in layer.component_objects(Var, descend_into=False):
            if var.is_reference():
                continue
            for v in var.values():
                if v.domain is Binary:
                    binaries += 1
                else:
                    bounds += (v.lb is not None) + (v.ub is not None)
    return rows, binaries, bounds


def is_as_written(block: Any) -> bool:
    """Whether no row, binary or bound is missing that the formulation wrote."""
    now, then = census(block.component("layer")), block._written
    return then is not None and all(a >= b for a, b in zip(now, then))
