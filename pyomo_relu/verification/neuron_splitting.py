"""Verification by branch and bound on the sides of neurons: many inputs.

The search itself is :class:`~pyomo_relu.sides.tree.SideTree`; here it
has a target, zero, and points that may be counterexamples.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pyomo_relu.base.deadline import NEVER, Deadline
from pyomo_relu.base.progress import progress
from pyomo_relu.sides.relu_chain import ReluChain
from pyomo_relu.sides.tree import SideTree
from pyomo_relu.verification.verdict import SetVerdict


def split_neurons(
    chain: ReluChain,
    confirm: Callable[[np.ndarray], bool],
    deadline: Deadline = NEVER,
    most: float = np.inf,
) -> SetVerdict:
    """Prove that a chain's row is positive over the box, or find a point.

    Parameters
    ----------
    confirm : callable
        Whether a point (n_inputs,) is a counterexample.
    most : float
        Subproblems in all, after which it gives up.
    """
    # The least number above zero: what reaches it is positive.
    target = float(np.nextafter(0.0, 1.0))
    found, tree = SetVerdict(), SideTree(chain, depth_first=True)
    with progress(0, "splitting neurons", "node") as bar:
        points = tree.start(target)
        while True:
            bar.update(tree.nodes - found.nodes)
            found.nodes, found.lower = tree.nodes, max(found.lower, tree.bound)
            found.witness = _witness(chain, points, confirm)
            if found.witness is not None or tree.pool.floor <= 0:
                return found
            if not len(tree):
                found.lower = np.inf
            if not len(tree) or tree.nodes >= most or deadline.expired():
                return found
            points = tree.step(target)


def _witness(
    chain: ReluChain, points: np.ndarray, confirm: Callable[[np.ndarray], bool]
) -> np.ndarray | None:
    """The point with the least row, if it is a counterexample."""
    if not len(points):
        return None
    values = chain.network.evaluate(points) @ chain.row + points @ chain.linear
    best = int(values.argmin())
    return points[best] if values[best] <= 0 and confirm(points[best]) else None
