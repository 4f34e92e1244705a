"""A point of a problem as values of the user's variables, networks included."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pyomo.common.collections import ComponentMap

from pyomo_relu.network import Network, PiecewiseLinear
from pyomo_relu.network.closed_graph import closed_outputs
from pyomo_relu.presolve.compose import BlockLinks, LinearInput
from pyomo_relu.presolve.problem import Problem

#: A pre-activation is at a step if it is so near, relative to the size of its terms: what
#: searches take for a point at a step.
_AT_STEP = 1e-6

#: Outputs of a network agree with columns if they are so near, relative to their size.
_AGREES = 1e-6

#: Networks are evaluated so often at most to find on which sides of their steps a point is.
_MOST_TRIALS = 1000


def values_at(problem: Problem, point: np.ndarray) -> ComponentMap:
    """The value of each column at a point (n_columns,), and of all outputs of networks.

    An output between two networks is no column. Where the first one is at a step, it has
    the value with which the columns after it agree.
    """
    links = [*problem.tabulated, *problem.links]
    found = ComponentMap(zip(problem.columns, point.tolist()))
    if any(_has_jumps(link.block.network) for link in links):
        agreeing = _Sides(problem, links).from_on(0, found)
        if agreeing is not None:
            return agreeing
    # Each reads only what is known by now.
    for link in links:
        _set_outputs(
            link, link.block.network.evaluate(_inputs(problem, link, found)), found
        )
    return found


def _has_jumps(network: Network) -> bool:
    return any(
        isinstance(node, PiecewiseLinear) and not node.is_continuous
        for node in network.nodes
    )


def _inputs(problem: Problem, link: BlockLinks, found: ComponentMap) -> np.ndarray:
    """What a network reads at values that are known."""

    def value_of(one: LinearInput) -> float:
        parts = (a * found[problem.by_id[key]] for key, a in one.terms.items())
        return one.constant + sum(parts)

    return np.array([value_of(one) for one in link.inputs])


def _set_outputs(link: BlockLinks, outputs: np.ndarray, found: ComponentMap) -> None:
    for v, y in zip(link.outputs, outputs.tolist()):
        if not v.fixed and v not in found:
            found[v] = y


class _Sides:
    """Sides of steps with which all networks agree with the columns of a point."""

    def __init__(self, problem: Problem, links: Sequence[BlockLinks]) -> None:
        self.problem, self.links = problem, links
        self.left = _MOST_TRIALS

    def from_on(self, first: int, found: ComponentMap) -> ComponentMap | None:
        """Values with those of the links from one on; None where nothing agrees."""
        for k in range(first, len(self.links)):
            link = self.links[k]
            x, network = _inputs(self.problem, link, found), link.block.network
            if not _has_jumps(network):
                choices = network.evaluate(x)[None]
            else:
                choices = closed_outputs(network, x, _AT_STEP)
            agreeing = [y for y in choices if self._agree(link, y, found)]
            if len(agreeing) == 1:
                _set_outputs(link, agreeing[0], found)
                continue
            for y in agreeing:
                self.left -= 1
                if self.left < 0:
                    break
                trial = ComponentMap(found.items())
                _set_outputs(link, y, trial)
                rest = self.from_on(k + 1, trial)
                if rest is not None:
                    return rest
            return None
        return found

    @staticmethod
    def _agree(link: BlockLinks, outputs: np.ndarray, found: ComponentMap) -> bool:
        """Whether outputs are those that columns, or fixed variables, have."""
        for v, y in zip(link.outputs, outputs.tolist()):
            known = v.value if v.fixed else found.get(v)
            if known is not None and abs(known - y) > _AGREES * max(1.0, abs(y)):
                return False
        return True


def set_layers(problem: Problem) -> None:
    """Give the variables inside of networks what the present inputs imply for them."""
    for link in [*problem.tabulated, *problem.links]:
        point = link.block.input_values()
        if point is not None:
            link.block.set_layer_values(point)
