"""Verification by branch and bound on the sides of neurons: many inputs.

The search itself is :class:`~pyomo_relu.sides.tree.SideTree`; here it
has a target, zero, and points that may be counterexamples.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pyomo_relu.bounds.progress import progress
from pyomo_relu.sides.relu_chain import ReluChain
from pyomo_relu.sides.tree import BATCH, SideTree


@dataclass
class NeuronResult:
    """What a search over the sides of neurons found.

    Attributes
    ----------
    proved : bool
        Whether the row is positive over the whole box.
    witness : (n_inputs,) array or None
        A point that the caller's check has confirmed.
    lower : float
        A lower bound of the row.
    nodes : int
        Subproblems that were bounded.
    """

    proved: bool = False
    witness: np.ndarray | None = None
    lower: float = -np.inf
    nodes: int = 0


def split_neurons(
    chain: ReluChain,
    confirm: Callable[[np.ndarray], bool],
    deadline: float = np.inf,
    batch: int = BATCH,
    most: float = np.inf,
) -> NeuronResult:
    """Prove that a chain's row is positive over the box, or find a point.

    Parameters
    ----------
    chain : ReluChain
    confirm : callable
        Whether a point (n_inputs,) is a counterexample.
    deadline : float
        Of ``time.perf_counter()``.
    batch : int
        Subproblems split in a round.
    most : float
        Subproblems in all, after which it gives up.
    """
    # The least number above zero: what reaches it is positive.
    target = float(np.nextafter(0.0, 1.0))
    result, tree = NeuronResult(), SideTree(chain, batch, depth_first=True)
    with progress(0, "splitting neurons", "node") as bar:
        points = tree.start(target)
        while True:
            bar.update(tree.nodes - result.nodes)
            result.nodes, result.lower = tree.nodes, max(result.lower, tree.bound)
            result.witness = _offer(chain, points, confirm)
            if result.witness is not None or tree.pool.floor <= 0:
                return result
            if not len(tree) or tree.nodes >= most or time.perf_counter() > deadline:
                break
            points = tree.step(target)
    result.proved = not len(tree)
    if result.proved:
        result.lower = np.inf
    return result


def _offer(chain: ReluChain, points, confirm) -> np.ndarray | None:
    """The point with the least row, if it is a counterexample."""
    if not len(points):
        return None
    values = chain.network.evaluate(points) @ chain.row + points @ chain.linear
    best = int(values.argmin())
    return points[best] if values[best] <= 0 and confirm(points[best]) else None
