"""A point of a problem as values of the user's variables, networks included."""

from __future__ import annotations

import numpy as np
from pyomo.common.collections import ComponentMap

from pyomo_relu.presolve.compose import LinearInput
from pyomo_relu.presolve.problem import Problem


def values_at(problem: Problem, point: np.ndarray) -> ComponentMap:
    """The value of each column at a point (n_columns,), and of all outputs of networks."""
    found = ComponentMap(zip(problem.columns, point.tolist()))

    def value_of(one: LinearInput) -> float:
        parts = (a * found[problem.by_id[key]] for key, a in one.terms.items())
        return one.constant + sum(parts)

    # Each reads only what is known by now.
    for link in [*problem.tabulated, *problem.links]:
        x = np.array([value_of(one) for one in link.inputs])
        for v, y in zip(link.outputs, link.block.network.evaluate(x).tolist()):
            if not v.fixed and v not in found:
                found[v] = y
    return found


def set_layers(problem: Problem) -> None:
    """Give the variables inside of networks what the present inputs imply for them."""
    for link in [*problem.tabulated, *problem.links]:
        point = link.block.input_values()
        if point is not None:
            link.block.set_layer_values(point)
