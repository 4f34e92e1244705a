r"""Products that are smooth units: ``x * sigmoid(x)``, GELU written with ``erf``, and the like.

Exporters write SiLU, GELU and Mish as products of two tensors. A product
:math:`x\,(c\,\varphi(r x) + d)` of a tensor with a scaled and shifted unit of itself is

* :math:`\frac{c}{r}\,\mathrm{silu}(r x) + d x` for the sigmoid,
* :math:`\frac{c}{r}\,\mathrm{silu}(2 r x) + (d - c) x` for tanh,
* :math:`\frac{2 c}{\sqrt 2\, r}\,\mathrm{gelu}(\sqrt 2\, r x) + (d - c) x` for erf,

and :math:`x \tanh(\mathrm{softplus}(x))` is Mish. Other products of tensors are written with
squares (:mod:`pyomo_relu.readers.products`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.network import Affine, NetworkBuilder, Smooth
from pyomo_relu.network.weights import nonzeros
from pyomo_relu.readers.values import Tensor

if TYPE_CHECKING:
    from pyomo_relu.readers.tensors import TensorGraph

#: Of a unit: the rate of SiLU or GELU in that of the unit, the factor, and what the product
#: has of ``-x``.
_PRODUCTS = {
    "sigmoid": ("silu", 1.0, 1.0, 0.0),
    "tanh": ("silu", 2.0, 2.0, 1.0),
    "erf": ("gelu", math.sqrt(2.0), 2.0, 1.0),
}


def scaled_root(builder: NetworkBuilder, handle: int) -> tuple[int, float, float]:
    """A node as ``scale * other + shift``, entry by entry: the other one, scale and shift."""
    scale, shift = 1.0, 0.0
    while isinstance(node := builder.nodes[handle], Affine):
        found = _scalar(node)
        if found is None:
            break
        shift, scale = shift + scale * found[1], scale * found[0]
        (handle,) = node.sources
    return handle, scale, shift


def _scalar(node: Affine) -> tuple[float, float] | None:
    """The factor and the constant of a node that has one of each for all entries."""
    if len(node.weights) != 1:
        return None
    (w,), n = node.weights, node.size
    if w.shape != (n, n) or nonzeros(w) != n or (node.bias != node.bias[0]).any():
        return None
    diagonal = w.diagonal() if sp.issparse(w) else np.diagonal(w)
    if not diagonal[0] or (diagonal != diagonal[0]).any():
        return None
    return float(diagonal[0]), float(node.bias[0])


def unit_of_product(graph: TensorGraph, name: str, a: Tensor, b: Tensor) -> Tensor | None:
    """The product of two tensors as a smooth unit of one of them; None if it is none."""
    if a.shape != b.shape:
        return None
    for x, unit in ((a, b), (b, a)):
        handle, c, d = scaled_root(graph.builder, unit.handle)
        node = graph.builder.nodes[handle]
        if not isinstance(node, Smooth):
            continue
        root, k, offset = scaled_root(graph.builder, x.handle)
        inner, s, t = scaled_root(graph.builder, node.source)
        if node.function == "tanh" and (c, d, s, t) == (1.0, 0.0, 1.0, 0.0):
            before = graph.builder.nodes[inner]
            if isinstance(before, Smooth) and before.function == "softplus":
                if scaled_root(graph.builder, before.source) == (root, k, offset):
                    return graph.smooth(name, x, "mish")
        if inner != root or t or offset or node.function not in _PRODUCTS:
            continue
        function, rate, factor, minus = _PRODUCTS[node.function]
        r = s / k * rate
        inside = graph.scale(f"{name}_rate", x, r) if r != 1.0 else x
        found = graph.smooth(f"{name}_{function}", inside, function)
        return graph.add(name, [found, x], [factor * c / r, d - minus * c])
    return None
