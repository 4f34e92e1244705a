"""Tighter bounds inside a chain of ReLU layers, by branch and bound on sides of neurons.

A search over sides inherits the bounds of the neurons inside, and linear bounds of deep
neurons are far off. Each side of each undecided neuron is a small search of its own
(:class:`~pyomo_relu.sides.tree.SideTree`), on the chain that ends
there. Layer by layer, so that a layer profits from those before it; few of its neurons
are undecided then. Neurons that are never active are left out of the chains.

That refined bounds inside decide more than a longer search at the end: Wang et al.,
arXiv 2103.06624, section 4, there with mixed-integer programs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.base.progress import progress
from pyomo_relu.bounds.alpha_crown import alpha_crown
from pyomo_relu.bounds.bounds import Bounds, preactivation_nodes
from pyomo_relu.bounds.chain import without_inactive
from pyomo_relu.network import Network
from pyomo_relu.sides.relu_chain import ReluChain
from pyomo_relu.sides.tree import SideTree


@dataclass(frozen=True)
class Settings:
    """What steers the small searches; all numbers were chosen by hand.

    Attributes
    ----------
    gap : float
        A search ends this close to a value that was seen, as a share of the neuron's
        range.
    nodes : int
        Or after so many subproblems.
    share : float
        The share of a layer's time for its searches; the rest is for the layers behind.
    """

    gap: float = 0.02
    nodes: int = 1000
    share: float = 0.9


SETTINGS = Settings()


def side_bounds(
    network: Network,
    bounds: Bounds,
    *,
    time_limit: float | None = None,
    gap: float = SETTINGS.gap,
    nodes: int = SETTINGS.nodes,
    enough: Callable[[Bounds], bool] | None = None,
) -> Bounds:
    """Tighten the bounds of a chain, layer by layer.

    Parameters
    ----------
    network : Network
        One that :meth:`ReluChain.fits`.
    bounds : Bounds
        Valid ones to start from, best those of ``alpha_crown``.
    time_limit : float, optional
        Seconds; each layer has the same share of what is left.
    gap : float
        How near to a value that was seen a bound has to come, as a share of the
        neuron's range.
    nodes : int
        Subproblems for each side of each neuron, at most.
    enough : callable, optional
        Called with the bounds after each layer; whether to stop there.

    Returns
    -------
    Bounds
        Their method is ``sides``, and ``details["subproblems"]`` says how many there were.
    """
    if not ReluChain.fits(network):
        raise ValueError("the network is no chain of affine layers and ReLU.")
    deadline, seconds = Deadline(time_limit), bounds.seconds
    layers = [
        i for i in preactivation_nodes(network)[1:] if len(_undecided(bounds, i))
    ]  # the first layer's are exact
    count = 0
    for k, i in enumerate(layers):
        if deadline.expired():
            break
        lows, highs = [a.copy() for a in bounds.lower], [a.copy() for a in bounds.upper]
        part = deadline.part(SETTINGS.share / (len(layers) - k))
        count += _refine(network, lows, highs, i, part, gap, nodes)
        bounds = replace(bounds, lower=tuple(lows), upper=tuple(highs))
        # What lies behind profits at once.
        box, left = bounds.input_box, deadline.limit
        bounds = alpha_crown(network, *box, bounds, first=i + 1, time_limit=left)
        if enough is not None and enough(bounds):
            break
    return bounds.renamed("sides", seconds + deadline.elapsed, subproblems=count)


def _undecided(bounds: Bounds, i: int) -> np.ndarray:
    return np.flatnonzero((bounds.lower[i] < 0) & (bounds.upper[i] > 0))


def _refine(
    network: Network,
    lows: list[np.ndarray],
    highs: list[np.ndarray],
    i: int,
    deadline: Deadline,
    gap: float,
    nodes: int,
) -> int:
    """Tighten node ``i`` in ``lows`` and ``highs``, in place; the subproblems it took."""
    low, high = lows[i], highs[i]
    open_ = np.flatnonzero((low < 0) & (high > 0))
    part, part_low, part_high = without_inactive(network, lows, highs, i)
    # What was seen of each neuron: no bound can be tighter.
    least, most = np.full(len(low), np.inf), np.full(len(low), -np.inf)

    def see(points: np.ndarray) -> None:
        if len(points):
            y = part.evaluate(points)
            np.minimum(least, y.min(axis=0), out=least)
            np.maximum(most, y.max(axis=0), out=most)

    queries = [(int(r), side) for r in open_ for side in (1, -1)]
    count = 0
    with progress(len(queries), f"sides in '{network.nodes[i].name}'", "side") as bar:
        for k, (r, side) in enumerate(queries):
            if deadline.expired():
                break
            own = deadline.part(1.0 / (len(queries) - k))
            row = np.zeros(len(low))
            row[r] = side
            slack = gap * (high[r] - low[r])

            def target(r: int = r, side: int = side, slack: float = slack) -> float:
                seen = least[r] if side > 0 else -most[r]
                # A neuron that may be decided is worth going on to zero.
                return 0.0 if seen > 0 else float(seen) - slack

            bar.update()
            # The other side may have decided the neuron.
            if not low[r] < 0 < high[r] or (low[r] if side > 0 else -high[r]) >= target():
                continue
            tree = SideTree(ReluChain(part, part_low, part_high, row))
            see(tree.start(target()))
            while len(tree) and tree.nodes < nodes and not own.expired():
                see(tree.step(target()))
            count += tree.nodes
            if side > 0:
                low[r] = min(high[r], max(low[r], tree.bound))
            else:
                high[r] = max(low[r], min(high[r], -tree.bound))
    return count
