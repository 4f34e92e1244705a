r"""Big-M: one binary for each unstable neuron, with its own constants on both sides.

For a ReLU with pre-activation :math:`x \in [l, u]`, :math:`l < 0 < u`, post-activation
:math:`y \ge 0` and a binary :math:`z` that is 1 where the neuron is active:

.. math:: y \ge x,\qquad y \le x - l (1 - z),\qquad y \le u z

Other activations of two pieces have the same rows with their slopes; a step has an
equality for its value; units of more pieces get ordered binaries. A maximum of
:math:`m` entries :math:`x_i \in [l_i, u_i]` has one binary for each (those that can't
be the largest left out):

.. math:: y \ge x_i,\qquad y \le x_i + (1 - z_i)(\max_{j \ne i} u_j - l_i),\qquad
          \sum_i z_i = 1

Source: Tjeng, Xiao, Tedrake, arXiv 1711.07356, equations 6 and 7. The relaxation of
the ReLU rows is the triangle; the constants are never made symmetric.

Examples
--------
>>> from pyomo_relu.block.example import two_neurons, show
>>> show(two_neurons("bigm"))
pre.affine[0]: x[0] - x[1] - pre.out[0] == 0
pre.affine[1]: 2 x[0] + x[1] - pre.out[1] == 1
relu.unit[0,0]: pre.out[0] - relu.out[0] <= 0
relu.unit[0,1]: relu.out[0] - 2 relu.on[0] <= 0
relu.unit[0,2]: -pre.out[0] + relu.out[0] + 2 relu.on[0] <= 2
relu.unit[1,0]: pre.out[1] - relu.out[1] <= 0
relu.unit[1,1]: relu.out[1] - 2 relu.on[1] <= 0
relu.unit[1,2]: -pre.out[1] + relu.out[1] + 4 relu.on[1] <= 4
sum.affine[0]: relu.out[0] + relu.out[1] - outputs[0] == 0
>>> show(two_neurons("bigm", "max"), "max")
maximum[0,0,lower]: pre.out[0] - outputs[0] <= 0
maximum[0,0,upper]: -pre.out[0] + outputs[0] + 4 chosen[0,0] <= 4
maximum[0,1,lower]: pre.out[1] - outputs[0] <= 0
maximum[0,1,upper]: -pre.out[1] + outputs[0] + 6 chosen[0,1] <= 6
one_chosen[0]: chosen[0,0] + chosen[0,1] == 1
>>> show(two_neurons("bigm", "hard_tanh"), "hard_tanh")
argument[0]: pre.out[0] - step[0,0] - step[0,1] - step[0,2] == -2
argument[1]: pre.out[1] - step[1,0] - step[1,1] - step[1,2] == -4
value[0]: step[0,1] - out[0] == 1
value[1]: step[1,1] - out[1] == 1
order[0,0,full]: beyond[0,0] - step[0,0] <= 0
order[0,0,start]: step[0,1] - 2 beyond[0,0] <= 0
order[0,1,full]: 2 beyond[0,1] - step[0,1] <= 0
order[0,1,start]: step[0,2] - beyond[0,1] <= 0
order[1,0,full]: 3 beyond[1,0] - step[1,0] <= 0
order[1,0,start]: step[1,1] - 2 beyond[1,0] <= 0
order[1,1,full]: 2 beyond[1,1] - step[1,1] <= 0
order[1,1,start]: step[1,2] - beyond[1,1] <= 0
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pyomo.environ import Binary

from pyomo_relu.formulations.base import Formulation, register_formulation
from pyomo_relu.formulations.pieces import set_piece_values, write_pieces
from pyomo_relu.formulations.units import (
    MaxLayer,
    PiecewiseLayer,
    assign,
    largest_arguments,
)
from pyomo_relu.formulations.values import RowCollector, add_variables, row_at_most


@register_formulation
class BigM(Formulation):
    """Big-M with the bounds of each neuron; see the module's page for the rows."""

    name = "bigm"

    def write_piecewise(self, layer: PiecewiseLayer) -> None:
        write_pieces(layer)

    def write_max(self, layer: MaxLayer) -> None:
        write_max_bigm(layer)

    def set_values(self, block: Any, node: Any, pre: Any, post: Any, pieces: Any) -> None:
        set_piece_values(block, pre, pieces)
        set_max_values(block, pre)


def write_max_bigm(layer: MaxLayer) -> None:
    """The maximum of each group, with a binary ``chosen[j, i]`` for each argument."""
    z = add_variables(layer.block, "chosen", layer.keys, domain=Binary)
    rows = RowCollector()
    for j, group in layer.arguments.items():
        y = layer.post[j]
        tops = [float(layer.source.upper[i]) for i in group]
        order = np.argsort(tops)
        largest, second = group[order[-1]], tops[order[-2]]
        for i in group:
            row = layer.argument_row(i)
            rest = second if i == largest else tops[order[-1]]
            gap = rest - float(layer.source.lower[i])
            upper = row_at_most(row.scaled(-1.0), [1.0, gap], [y, z[j, i]], gap)
            rows.add("maximum", (j, i, "lower"), row_at_most(row, [-1.0], [y], 0.0))
            rows.add("maximum", (j, i, "upper"), upper)
        rows.one_of("one_chosen", j, (z[j, i] for i in group))
    rows.add_to(layer.block)


def set_max_values(block: Any, pre: np.ndarray) -> None:
    """Choose the largest argument of each group, the first of equals."""
    best = largest_arguments(block.component("chosen") or (), pre)
    assign(block, "chosen", lambda key: int(best[key[0]] == key[1]))
