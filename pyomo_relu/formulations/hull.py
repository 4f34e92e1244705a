r"""Hull: the extended formulation, ideal for each neuron in the space of its inputs.

A ReLU :math:`y = \max(0, w^T x + b)` over a box :math:`L \le x \le U` has a binary
:math:`z` that is 1 where the neuron is active, and copies :math:`x^1` of its inputs
that are :math:`x` where it is active and 0 elsewhere:

.. math::
    y = w^T x^1 + b z,\qquad w^T x^1 + b z \ge 0,\qquad
    w^T (x - x^1) + b (1 - z) \le 0,

    L z \le x^1 \le U z,\qquad L (1 - z) \le x - x^1 \le U (1 - z)

:math:`n` copies and :math:`4 n + 3` rows for a neuron of :math:`n` inputs. Activations
of :math:`k` pieces have copies for :math:`k - 1` of them, see
:mod:`pyomo_relu.formulations.disaggregated`; bounds of the pre-activation tighter than
the box are two more rows.

A maximum of arguments :math:`r_j(x)` has copies :math:`x^j` for each argument:

.. math::
    x = \sum_j x^j,\qquad L z_j \le x^j \le U z_j,\qquad \sum_j z_j = 1,

    y = \sum_j r_j(x^j, z_j),\qquad r_j(x^j, z_j) \ge r_i(x^j, z_j)

with :math:`r_j(x^j, z_j) = w_j^T x^j + b_j z_j`.

Each neuron's relaxation is the convex hull of its graph over the box; the relaxation
of a whole network is not the hull of the network's graph.

Source: Balas, "Disjunctive programming", Annals of Discrete Mathematics 5, 1979; Anderson,
Huchette, Ma, Tjandraatmadja, Vielma, arXiv 1811.01988.

Examples
--------
>>> from pyomo_relu.block.example import two_neurons, show
>>> show(two_neurons("hull"), "relu")
within[0,0,upper]: -x[0] + share[0,1,0] + x[1] - share[0,1,1] >= 0
within[0,1,lower]: share[0,1,0] - share[0,1,1] >= 0
within[1,0,upper]: -2 x[0] + 2 share[1,1,0] - x[1] + share[1,1,1] - on[1] >= -1
within[1,1,lower]: 2 share[1,1,0] + share[1,1,1] - on[1] >= 0
limits[0,0,0,lower]: x[0] - share[0,1,0] - on[0] >= -1
limits[0,0,0,upper]: -x[0] + share[0,1,0] - on[0] >= -1
limits[0,0,1,lower]: x[1] - share[0,1,1] - on[0] >= -1
limits[0,0,1,upper]: -x[1] + share[0,1,1] - on[0] >= -1
limits[0,1,0,lower]: share[0,1,0] + on[0] >= 0
limits[0,1,0,upper]: -share[0,1,0] + on[0] >= 0
limits[0,1,1,lower]: share[0,1,1] + on[0] >= 0
limits[0,1,1,upper]: -share[0,1,1] + on[0] >= 0
limits[1,0,0,lower]: x[0] - share[1,1,0] - on[1] >= -1
limits[1,0,0,upper]: -x[0] + share[1,1,0] - on[1] >= -1
limits[1,0,1,lower]: x[1] - share[1,1,1] - on[1] >= -1
limits[1,0,1,upper]: -x[1] + share[1,1,1] - on[1] >= -1
limits[1,1,0,lower]: share[1,1,0] + on[1] >= 0
limits[1,1,0,upper]: -share[1,1,0] + on[1] >= 0
limits[1,1,1,lower]: share[1,1,1] + on[1] >= 0
limits[1,1,1,upper]: -share[1,1,1] + on[1] >= 0
value[0]: -out[0] + share[0,1,0] - share[0,1,1] == 0
value[1]: -out[1] + 2 share[1,1,0] + share[1,1,1] - on[1] == 0
>>> show(two_neurons("hull", "max"), "max")
one_chosen[0]: chosen[0,0] + chosen[0,1] == 1
split[0,0]: x[0] - share[0,0,0] - share[0,1,0] == 0
split[0,1]: x[1] - share[0,0,1] - share[0,1,1] == 0
limits[0,0,0,lower]: share[0,0,0] + chosen[0,0] >= 0
limits[0,0,0,upper]: -share[0,0,0] + chosen[0,0] >= 0
limits[0,1,0,lower]: share[0,1,0] + chosen[0,1] >= 0
limits[0,1,0,upper]: -share[0,1,0] + chosen[0,1] >= 0
limits[0,0,1,lower]: share[0,0,1] + chosen[0,0] >= 0
limits[0,0,1,upper]: -share[0,0,1] + chosen[0,0] >= 0
limits[0,1,1,lower]: share[0,1,1] + chosen[0,1] >= 0
limits[0,1,1,upper]: -share[0,1,1] + chosen[0,1] >= 0
largest[0,0,1]: -share[0,0,0] - 2 share[0,0,1] + chosen[0,0] >= 0
largest[0,1,0]: share[0,1,0] + 2 share[0,1,1] - chosen[0,1] >= 0
value[0]: -outputs[0] + share[0,0,0] - share[0,0,1] + 2 share[0,1,0] + share[0,1,1] -
    chosen[0,1] == 0
"""

from __future__ import annotations

from typing import Any

from pyomo.environ import Binary

from pyomo_relu.formulations.base import Formulation, register_formulation
from pyomo_relu.formulations.bigm import set_max_values
from pyomo_relu.formulations.disaggregated import (
    Quantity,
    residual,
    set_copies,
    set_disaggregated_values,
    single_terms,
    write_disaggregated,
)
from pyomo_relu.formulations.units import MaxLayer, PiecewiseLayer
from pyomo_relu.formulations.values import (
    Row,
    RowCollector,
    add_variables,
    combined,
    term,
)
from pyomo_relu.network import Max


@register_formulation
class Hull(Formulation):
    """The convex hull of each neuron over its inputs, with copies of the inputs."""

    name = "hull"
    needs_preactivation = False

    def write_piecewise(self, layer: PiecewiseLayer) -> None:
        quantities = {i: single_terms(layer.rows[i]) for i in layer.units}
        write_disaggregated(layer, quantities, eliminate=True)

    def write_max(self, layer: MaxLayer) -> None:
        write_max_hull(layer)

    def set_values(self, block: Any, node: Any, pre: Any, post: Any, pieces: Any) -> None:
        if isinstance(node, Max):
            set_max_values(block, pre)
            set_max_copies(block)
        else:
            set_disaggregated_values(block, pre, pieces)


def write_max_hull(layer: MaxLayer) -> None:
    """The maximum of each group, with copies ``share[j, i, q]`` for each argument."""
    block, keys = layer.block, layer.keys
    chosen = add_variables(block, "chosen", keys, domain=Binary)
    inputs = {j: _union(layer, group) for j, group in layer.arguments.items()}
    copies = [((j, i, q), s) for j, i in keys for q, s in enumerate(inputs[j])]
    low = [min(0.0, s.lower) for _, s in copies]
    high = [max(0.0, s.upper) for _, s in copies]
    share = add_variables(block, "share", [key for key, _ in copies], low, high)
    rows = RowCollector()
    for j, group in layer.arguments.items():
        rows.one_of("one_chosen", j, (chosen[j, i] for i in group))
        z = {i: term(chosen[j, i]) for i in group}
        own = {}  # the copies of an input, by its id
        for q, s in enumerate(inputs[j]):
            found = {i: term(share[j, i, q]) for i in group}
            own[_key(s.row)] = found
            ties = combined([(1.0, s.row), *((-1.0, row) for row in found.values())])
            rows.zero("split", (j, q), ties)
            for i in group:
                rows.between("limits", (j, i, q), s.lower, found[i], s.upper, z[i])
        _write_largest(rows, layer, j, own, z)
    rows.add_to(block)


def _write_largest(
    rows: RowCollector,
    layer: MaxLayer,
    j: int,
    copies: dict[int, dict[int, Row]],
    z: dict[int, Row],
) -> None:
    """Where an argument is chosen it is the largest, and the value."""

    def on_piece(a: int, i: int) -> Row:
        """Argument ``a`` at the copies that belong to argument ``i``."""
        row = layer.rows[a]
        terms = [(c, copies[id(v)][i]) for c, v, _, _ in row.terms()]
        return combined([*terms, (row.constant, z[i])])

    total = [(-1.0, layer.post_row(j))]
    for i in z:
        mine = on_piece(i, i)
        total.append((1.0, mine))
        for a in z:
            if a != i:
                gap = combined([(1.0, mine), (-1.0, on_piece(a, i))])
                rows.nonnegative("largest", (j, i, a), gap)
    rows.zero("value", j, combined(total))


def _key(row: Row) -> int:
    return id(row.variables[0] if row.variables else row.expressions[0][1])


def _union(layer: MaxLayer, group: list[int]) -> list[Quantity]:
    """Everything that the arguments of a group read, once, with its bounds."""
    found: dict[int, Quantity] = {}
    for a in group:
        for quantity in single_terms(layer.rows[a]):
            found.setdefault(_key(quantity.row), quantity)
    return list(found.values())


def set_max_copies(block: Any) -> None:
    """Values of the copies that :func:`write_max_hull` adds."""
    split, chosen = block.component("split"), block.component("chosen")
    if chosen is not None:
        set_copies(
            block,
            lambda key: bool(chosen[key[:2]].value),
            lambda key: residual(split[key[0], key[2]], "upper"),
        )
