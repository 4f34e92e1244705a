"""Chains: networks, or parts of one, whose nodes stand in a row.

In a chain of affine layers and ReLU the neurons that are never active can be left out,
so that passes over it are short. Sides of neurons (:mod:`pyomo_relu.sides`) know no other
network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pyomo_relu.network import Affine, Input, Network, PiecewiseLinear


def ancestors(network: Network, i: int) -> list[int]:
    """Nodes that node ``i`` depends on, in order, itself left out."""
    found = {i}
    for k in range(i, -1, -1):
        if k in found:
            found.update(network.nodes[k].sources)
    return sorted(found - {i})


def is_relu_chain(network: Network, end: int) -> bool:
    """Whether node ``end`` is affine and what it depends on is a chain with ReLU.

    One input, then affine nodes in a row, with or without a ReLU between them, and one
    ReLU at least.
    """
    order = [*ancestors(network, end), end]
    nodes = [network.nodes[i] for i in order]
    in_a_row = all(tuple(n.sources) == (i,) for n, i in zip(nodes[1:], order))
    fits = (
        isinstance(n, Affine) or (_is_relu(n) and isinstance(before, Affine))
        for before, n in zip(nodes, nodes[1:])
    )
    return (
        isinstance(nodes[0], Input)
        and in_a_row
        and all(fits)
        and isinstance(nodes[-1], Affine)
        and any(_is_relu(n) for n in nodes)
    )


def _is_relu(node: object) -> bool:
    return isinstance(node, PiecewiseLinear) and node.is_relu


def without_inactive(
    network: Network, lows: Sequence[np.ndarray], highs: Sequence[np.ndarray], end: int
) -> tuple[Network, list[np.ndarray], list[np.ndarray]]:
    """A chain up to node ``end`` without the neurons that are never active.

    Parameters
    ----------
    network : Network
        One whose node ``end`` ends a chain, see :func:`is_relu_chain`.
    lows, highs : sequences of (size,) arrays
        Valid bounds of every node before the last one, or of that, too.
    end : int
        An affine node; all of it is kept.

    Returns
    -------
    network : Network
        Equal to node ``end`` within the bounds.
    lows, highs : lists of (size,) arrays
        The bounds of its nodes, as far as they were given.
    """
    order = [*ancestors(network, end), end]
    nodes, low, high = [], [], []
    kept = np.arange(network.nodes[order[0]].size)
    for k, i in enumerate(order):
        node, before = network.nodes[i], kept
        if isinstance(node, Affine):
            kept = np.arange(node.size)
            if i != end and isinstance(network.nodes[order[k + 1]], PiecewiseLinear):
                kept = np.flatnonzero(highs[i] > 0)
                kept = kept if len(kept) else np.arange(1)  # a layer is never empty
            node = replace(
                node,
                _sources=(k - 1,),
                shape=(len(kept),),
                weights=(node.weights[0][kept][:, before],),
                bias=node.bias[kept],
            )
        elif isinstance(node, PiecewiseLinear):
            node = replace(
                node,
                source=k - 1,
                shape=(len(kept),),
                breakpoints=node.breakpoints[kept],
                slopes=node.slopes[kept],
                intercepts=node.intercepts[kept],
            )
        nodes.append(node)
        if i < len(lows):
            low.append(np.asarray(lows[i])[kept])
            high.append(np.asarray(highs[i])[kept])
    return Network(nodes, [len(order) - 1], [0]), low, high
