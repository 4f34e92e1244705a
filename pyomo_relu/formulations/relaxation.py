r"""Relaxation: the convex hull of each unit over its bounds, without binaries.

For a ReLU with :math:`x \in [l, u]`, :math:`l < 0 < u`, the triangle

.. math:: y \ge 0,\qquad y \ge x,\qquad y \le \frac{u (x - l)}{u - l}

A smooth unit has three lines below and three above its graph
(:mod:`pyomo_relu.bounds.smooth_lines`). For any other activation of one variable, continuous
or with steps, the rows are the edges of the convex hull of the ends of its pieces. For a
maximum of :math:`x_i \in [l_i, u_i]`, with continuous :math:`\lambda_i \ge 0` and :math:`w_i`,

.. math::
    y \ge x_i,\qquad y \le \sum_i w_i,\qquad \sum_i \lambda_i = 1,\qquad
    w_i \le u_i \lambda_i,\qquad w_i \le x_i - l_i (1 - \lambda_i)

which is its convex hull over the box of the :math:`x_i`. An LP: its optimum bounds that
of the network, and its solution need not be what the network computes. It is the LP
relaxation of ``bigm``, for a maximum a tighter one.

Source: Ehlers, "Formal verification of piece-wise linear feed-forward neural networks",
arXiv 1705.01320; for the maximum Balas' disjunctive hull with the copies of
the other entries eliminated.

Examples
--------
>>> from pyomo_relu.block.example import two_neurons, show
>>> show(two_neurons("relaxation"), "relu")
edge[0,1]: pre.out[0] - out[0] <= 0
edge[0,2]: -0.5 pre.out[0] + out[0] <= 1
edge[1,1]: pre.out[1] - out[1] <= 0
edge[1,2]: -0.333333 pre.out[1] + out[1] <= 1.33333
>>> show(two_neurons("relaxation", "max"), "max")
maximum[0,0]: outputs[0] - pre.out[0] >= 0
maximum[0,1]: outputs[0] - pre.out[1] >= 0
limits[0,0,upper]: 2 weight[0,0] - share[0,0] >= 0
limits[0,0,lower]: pre.out[0] - 2 weight[0,0] - share[0,0] >= -2
limits[0,1,upper]: 2 weight[0,1] - share[0,1] >= 0
limits[0,1,lower]: pre.out[1] - 4 weight[0,1] - share[0,1] >= -4
top[0]: -outputs[0] + share[0,0] + share[0,1] >= 0
one[0]: weight[0,0] + weight[0,1] == 1
>>> show(two_neurons("relaxation", "step"), "step")
edge[0,1]: 0.5 pre.out[0] - out[0] <= 0
edge[0,2]: -0.5 pre.out[0] + out[0] <= 1
edge[1,1]: 0.5 pre.out[1] - out[1] <= 0
edge[1,2]: -0.25 pre.out[1] + out[1] <= 1
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pyomo_relu.bounds.smooth_lines import lines_of_units
from pyomo_relu.formulations.base import Formulation, register_formulation
from pyomo_relu.formulations.units import (
    MaxLayer,
    Piece,
    PiecewiseLayer,
    SmoothLayer,
    assign,
    largest_arguments,
)
from pyomo_relu.formulations.values import (
    RowCollector,
    add_variables,
    at_most,
    combined,
    row_at_most,
    term,
)
from pyomo_relu.network import Network, Node


@register_formulation
class Relaxation(Formulation):
    """The convex hull of each unit over its bounds: an LP, no binaries."""

    name = "relaxation"
    says_all = False

    def write_piecewise(self, layer: PiecewiseLayer) -> None:
        rows = RowCollector()
        for i in layer.units:
            post = layer.post[i]
            for k, (sign, slope, intercept) in enumerate(hull_edges(layer.pieces(i))):
                if slope != 0.0:
                    pre = layer.pre_row(i).scaled(-sign * slope, -sign * intercept)
                    rows.add("edge", (i, k), row_at_most(pre, [sign], [post], 0.0))
                    continue
                # The variable has a bound there in any case; a tighter one needs a row.
                bound = None if layer.is_output else post.ub if sign > 0 else post.lb
                if bound is None or sign * bound > sign * intercept:
                    rows.add("edge", (i, k), at_most([sign], [post], sign * intercept))
        rows.add_to(layer.block)

    def for_node(self, node: Node) -> Formulation:
        """This one, for smooth units as well."""
        return self

    def write_smooth(self, layer: SmoothLayer) -> None:
        rows, units = RowCollector(), layer.units
        low, high = (
            np.array([side[u] for u in units]) for side in (layer.lower, layer.upper)
        )
        for k, (slopes, below, above) in enumerate(lines_of_units(layer.node, low, high)):
            for u, slope, least, most in zip(
                units, *(a.tolist() for a in (slopes, below, above))
            ):
                sign, constant = (-1.0, least) if np.isfinite(least) else (1.0, most)
                pre = layer.pre_row(u).scaled(-sign * slope, -sign * constant)
                rows.add("line", (u, k), row_at_most(pre, [sign], [layer.post[u]], 0.0))
        rows.add_to(layer.block)

    def write_max(self, layer: MaxLayer) -> None:
        keys = layer.keys
        low = {i: float(layer.source.lower[i]) for _, i in keys}
        high = {i: float(layer.source.upper[i]) for _, i in keys}
        weight = add_variables(layer.block, "weight", keys, 0.0, 1.0)
        share = add_variables(
            layer.block,
            "share",
            keys,
            [min(0.0, low[i]) for _, i in keys],
            [max(0.0, high[i]) for _, i in keys],
        )
        rows = RowCollector()
        for j, group in layer.arguments.items():
            y = layer.post_row(j)
            for i in group:
                x, part, z = layer.argument_row(i), term(share[j, i]), term(weight[j, i])
                above = combined([(high[i], z), (-1.0, part)])
                below = combined([(1.0, x), (low[i], z), (-1.0, part)], -low[i])
                rows.nonnegative("maximum", (j, i), combined([(1.0, y), (-1.0, x)]))
                rows.nonnegative("limits", (j, i, "upper"), above)
                rows.nonnegative("limits", (j, i, "lower"), below)
            parts = ((1.0, term(share[j, i])) for i in group)
            rows.nonnegative("top", j, combined([(-1.0, y), *parts]))
            rows.one_of("one", j, (weight[j, i] for i in group))
        rows.add_to(layer.block)

    def set_values(self, block: Any, node: Any, pre: Any, post: Any, pieces: Any) -> None:
        best = largest_arguments(block.component("weight") or (), pre)
        assign(block, "weight", lambda key: float(best[key[0]] == key[1]))
        assign(block, "share", lambda k: float(pre[k[1]]) if best[k[0]] == k[1] else 0.0)


def linear_formulation(network: Network) -> Any:
    """The formulation of linear rows for a network: exact for pieces, lines for smooth units."""
    smooth = network.smooth_layers
    if not smooth:
        return "bigm"
    return {**{node.name: "relaxation" for node in smooth}, "...": "bigm"}


def hull_edges(pieces: list[Piece]) -> list[tuple[float, float, float]]:
    """The lower and upper edges of the convex hull of a unit's graph.

    Returns
    -------
    list of (sign, slope, intercept)
        ``sign * y <= sign * (slope * x + intercept)``; the sides ``l <= x <= u`` are
        left out.
    """
    points = [(g.lower, g(g.lower)) for g in pieces]
    points += [(g.upper, g(g.upper)) for g in pieces]
    edges = []
    for sign in (-1.0, 1.0):
        best: dict[float, float] = {}
        for x, y in points:
            best[x] = max(best.get(x, -np.inf), sign * y)
        edges += [(sign, sign * a, sign * c) for a, c in _upper_chain(sorted(best.items()))]
    return edges


def _upper_chain(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """(slope, intercept) of each edge of the upper hull of points in order of ``x``.

    Each intercept is raised until no point lies above the edge: rounding never cuts.
    """
    chain: list[tuple[float, float]] = []
    for p in points:
        while len(chain) > 1 and _turns_left(chain[-2], chain[-1], p):
            chain.pop()
        chain.append(p)
    lines = []
    for (x0, y0), (x1, y1) in zip(chain, chain[1:]):
        slope = (y1 - y0) / (x1 - x0)
        lines.append((slope, max(y - slope * x for x, y in points)))
    return lines


def _turns_left(
    a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]
) -> bool:
    return (b[0] - a[0]) * (c[1] - a[1]) >= (b[1] - a[1]) * (c[0] - a[0])
