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
        Of this network over an input box.

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
    return Network(
        nodes, network.outputs, network.inputs, network.input_names, network.output_names
    )


def _clipped(node: PiecewiseLinear, low: np.ndarray, high: np.ndarray) -> PiecewiseLinear:
    t, a, c = node.breakpoints, node.slopes, node.intercepts
    changed = False
    if a[:, -1].any():
        at = np.maximum(high, t[:, -1])[:, None]
        flat = a[:, -1:] * at + c[:, -1:]
        t, a, c = _joined(t, at), _joined(a, np.zeros_like(at)), _joined(c, flat)
        changed = True
    if a[:, 0].any():
        at = np.minimum(low, t[:, 0])[:, None]
        flat = a[:, :1] * at + c[:, :1]
        t, a, c = _joined(at, t), _joined(np.zeros_like(at), a), _joined(flat, c)
        changed = True
    if not changed:
        return node
    # Never the old name: "relu" and "abs" are evaluated by name.
    name = f"clipped_{node.function.removeprefix('clipped_')}"
    return replace(node, function=name, breakpoints=t, slopes=a, intercepts=c)


def _joined(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.concatenate([left, right], axis=1)
