r"""Products that are smooth units: ``x * sigmoid(x)``, GELU written with ``erf``, and the like.

Exporters write SiLU, GELU and Mish as products of two tensors. A product
:math:`x\,(c\,\varphi(r x) + d)` of a tensor with a scaled and shifted unit of itself is

* :math:`\frac{c}{r}\,\mathrm{silu}(r x) + d x` for the sigmoid,
* :math:`\frac{c}{r}\,\mathrm{silu}(2 r x) + (d - c) x` for tanh,
* :math:`\frac{2 c}{\sqrt 2\, r}\,\mathrm{gelu}(\sqrt 2\, r x) + (d - c) x` for erf,

and :math:`x \tanh(\mathrm{softplus}(x))` is Mish. With the constants :math:`g` and
:math:`q` of GELU by tanh, :math:`x\,(c \tanh(\alpha x + \beta x^3) + d)` is

* :math:`\frac{2 c}{s}\,\mathrm{gelu\_tanh}(s x) + (d - c) x`, where
  :math:`\alpha = \tfrac12 g s` and :math:`\beta = \tfrac12 g q s^3`.

Other products of tensors are written with squares (:mod:`pyomo_relu.readers.products`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.network import Affine, NetworkBuilder, Smooth
from pyomo_relu.network.smooth_functions import GELU_CUBE, GELU_RATE
from pyomo_relu.network.weights import nonzeros
from pyomo_relu.readers.values import Tensor

if TYPE_CHECKING:
    from pyomo_relu.network.weights import Weight
    from pyomo_relu.readers.tensors import TensorGraph

#: Of a unit: the rate of SiLU or GELU in that of the unit, the factor, and what the product
#: has of ``-x``.
_PRODUCTS = {
    "sigmoid": ("silu", 1.0, 1.0, 0.0),
    "tanh": ("silu", 2.0, 2.0, 1.0),
    "erf": ("gelu", math.sqrt(2.0), 2.0, 1.0),
}

#: How far the coefficient of the cube may be off, as a share of it, where constants are
#: float32 (they are off by up to 8e-8, together) and where they are float64.
SINGLE_PRECISION, DOUBLE_PRECISION = 1e-7, 1e-15


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
    if len(node.weights) != 1 or (node.bias != node.bias[0]).any():
        return None
    factor = _factor(node.weights[0])
    return None if factor is None else (factor, float(node.bias[0]))


def _factor(w: Weight) -> float | None:
    """The number that a matrix multiplies all entries by; None if it does something else."""
    n = w.shape[0]
    if w.shape != (n, n) or nonzeros(w) != n:
        return None
    diagonal = w.diagonal() if sp.issparse(w) else np.diagonal(w)
    if not diagonal[0] or (diagonal != diagonal[0]).any():
        return None
    return float(diagonal[0])


def cubic_of_product(
    graph: TensorGraph, a: Tensor, b: Tensor
) -> tuple[int, np.ndarray] | None:
    """The product of two tensors as multiples of a node and of its cube, by two factors."""
    if a.shape != b.shape:
        return None
    for x, squared in ((a, b), (b, a)):
        handle, c, d = scaled_root(graph.builder, squared.handle)
        node = graph.builder.nodes[handle]
        if not isinstance(node, Smooth) or node.function != "square":
            continue
        root, k, offset = scaled_root(graph.builder, x.handle)
        inner, s, t = scaled_root(graph.builder, node.source)
        if inner == root and not (t or offset):
            return root, np.array([k * d, k * c * s * s])
    return None


def _cubic(graph: TensorGraph, handle: int, root: int) -> np.ndarray | None:
    """A node as multiples of another one and of its cube, by two factors; None if it isn't."""
    below, scale, shift = scaled_root(graph.builder, handle)
    if shift:
        return None
    if below == root:
        return np.array([scale, 0.0])
    if below in graph.cubics:
        other, factors = graph.cubics[below]
        return scale * factors if other == root else None
    node = graph.builder.nodes[below]
    if not isinstance(node, Affine) or len(node.sources) < 2 or node.bias.any():
        return None
    total = np.zeros(2)
    for source, w in zip(node.sources, node.weights):
        factor, found = _factor(w), _cubic(graph, source, root)
        if factor is None or found is None:
            return None
        total += scale * factor * found
    return total


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
        if node.function == "tanh" and not offset:
            by_tanh = _gelu_by_tanh(graph, name, x, node.source, (root, k), (c, d))
            if by_tanh is not None:
                return by_tanh
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


def _gelu_by_tanh(
    graph: TensorGraph,
    name: str,
    x: Tensor,
    argument: int,
    line: tuple[int, float],
    outside: tuple[float, float],
) -> Tensor | None:
    """``x * (c * tanh(argument) + d)`` as GELU by tanh; None if the argument is another one.

    ``line`` has the node that ``x`` is a multiple of, and the factor.
    """
    (root, k), (c, d) = line, outside
    found = _cubic(graph, argument, root)
    if found is None:
        return None
    line_of, cube_of = found / [k, k**3]
    s = 2.0 * float(line_of) / GELU_RATE
    cube = 0.5 * GELU_RATE * GELU_CUBE * s**3
    precision = SINGLE_PRECISION if graph.in_single else DOUBLE_PRECISION
    if not s or abs(cube_of - cube) > precision * abs(cube):
        return None
    inside = graph.scale(f"{name}_rate", x, s) if s != 1.0 else x
    unit = graph.smooth(f"{name}_gelu_tanh", inside, "gelu_tanh")
    return graph.add(name, [unit, x], [2.0 * c / s, d - c])
