"""Clipping at proven bounds: a network that is the same on a box and flat beyond it.

Where a pre-activation is proved to stay in ``[l, u]``, ``phi(min(max(x, l), u))`` is the
same number as ``phi(x)``. The bounds then travel with the network: whoever reads it, and
with whatever bounds, never meets a larger activation. (Trained with clipped ReLU from
the start, a network has such caps by design: Plate et al., arXiv 2502.03016.)

A model of the clipped network should be given bounds as tight as those it was clipped
at; with weaker ones a unit has one piece more, which costs a binary.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from pyomo_relu.network.network import Network
from pyomo_relu.network.nodes import Node, PiecewiseLinear
from pyomo_relu.network.rescaling import check_belongs


def clip_activations(network: Network, bounds: Any) -> Network:
    """Clip every continuous activation at its proven bounds.

    Parameters
    ----------
    network : Network
    bounds : Bounds
        The bounds of this network over an input box.

    Returns
    -------
    Network
        Equal to ``network`` on the box.

    Raises
    ------
    ValueError
        For bounds of another network, or of a model's constraints.
    """
    check_belongs(network, bounds)
    nodes: list[Node] = []
    for node in network.nodes:
        if (
            isinstance(node, PiecewiseLinear)
            and node.breakpoints.shape[1]
            and node.is_continuous
        ):
            node = _clipped(node, bounds.lower[node.source], bounds.upper[node.source])
        nodes.append(node)
    return network.with_nodes(nodes)


def _clipped(node: PiecewiseLinear, low: np.ndarray, high: np.ndarray) -> PiecewiseLinear:
    t, a, c = node.breakpoints, node.slopes, node.intercepts
    if not (a[:, -1].any() or a[:, 0].any()):
        return node
    if a[:, -1].any():
        at = np.maximum(high, t[:, -1])[:, None]
        flat = a[:, -1:] * at + c[:, -1:]
        t, a, c = (
            np.hstack([t, at]),
            np.hstack([a, np.zeros_like(at)]),
            np.hstack([c, flat]),
        )
    if a[:, 0].any():
        at = np.minimum(low, t[:, 0])[:, None]
        flat = a[:, :1] * at + c[:, :1]
        t, a, c = (
            np.hstack([at, t]),
            np.hstack([np.zeros_like(at), a]),
            np.hstack([flat, c]),
        )
    # The old name can't stay: "relu" and "abs" are evaluated by name.
    name = f"clipped_{node.function.removeprefix('clipped_')}"
    return replace(node, function=name, breakpoints=t, slopes=a, intercepts=c)
