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

from pyomo.environ import Binary, value

from pyomo_relu.formulations.base import (
    Formulation,
    MaxLayer,
    PiecewiseLayer,
    register_formulation,
)
from pyomo_relu.formulations.bigm import set_max_values
from pyomo_relu.formulations.disaggregated import (
    set_disaggregated_values,
    single_terms,
    write_disaggregated,
)
from pyomo_relu.formulations.values import Row, RowCollector, add_variables, combined
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

    def set_values(self, block, node, pre, post, pieces) -> None:
        if isinstance(node, Max):
            set_max_values(block, pre)
            set_max_copies(block)
        else:
            set_disaggregated_values(block, pre, pieces)


def write_max_hull(layer: MaxLayer) -> None:
    """The maximum of each group, with copies ``share[j, i, q]`` for each argument."""
    keys = [(j, i) for j, group in layer.arguments.items() for i in group]
    chosen = add_variables(layer.block, "chosen", keys, domain=Binary)
    inputs = {j: _union(layer, group) for j, group in layer.arguments.items()}
    copies = [(j, i, q) for j, i in keys for q in range(len(inputs[j]))]
    bounds = [inputs[j][q][1:] for j, i, q in copies]
    share = add_variables(
        layer.block,
        "share",
        copies,
        [min(0.0, a) for a, _ in bounds],
        [max(0.0, b) for _, b in bounds],
    )
    rows = RowCollector()
    for j, group in layer.arguments.items():
        z = {i: Row([1.0], [chosen[j, i]]) for i in group}
        rows.zero("one_chosen", j, combined([(1.0, r) for r in z.values()], -1.0))
        place = {}
        for q, (term, low, high) in enumerate(inputs[j]):
            own = {i: Row([1.0], [share[j, i, q]]) for i in group}
            place[_key(term)] = own
            rows.zero(
                "split",
                (j, q),
                combined([(1.0, term), *((-1.0, own[i]) for i in group)]),
            )
            for i in group:
                rows.nonnegative(
                    "limits", (j, i, q, "lower"), combined([(1.0, own[i]), (-low, z[i])])
                )
                rows.nonnegative(
                    "limits", (j, i, q, "upper"), combined([(-1.0, own[i]), (high, z[i])])
                )

        def on_piece(a: int, i: int, z=z, place=place) -> Row:
            """Argument ``a`` at the copies that belong to argument ``i``."""
            row = layer.rows[a]
            terms = [(c, place[id(v)][i]) for c, v, _, _ in row.terms()]
            return combined([*terms, (row.constant, z[i])])

        total = [(-1.0, Row([1.0], [layer.post[j]]))]
        for i in group:
            mine = on_piece(i, i)
            total.append((1.0, mine))
            for a in group:
                if a != i:
                    rows.nonnegative(
                        "largest",
                        (j, i, a),
                        combined([(1.0, mine), (-1.0, on_piece(a, i))]),
                    )
        rows.zero("value", j, combined(total))
    rows.add_to(layer.block)


def _key(term: Row) -> int:
    return id(term.variables[0] if term.variables else term.expressions[0][1])


def _union(layer: MaxLayer, group: list[int]) -> list[tuple[Row, float, float]]:
    """Everything that the arguments of a group read, once, with its bounds."""
    found: dict[int, tuple[Row, float, float]] = {}
    for a in group:
        row = layer.rows[a]
        n = len(row.coefs)
        for k, (_, v, low, high) in enumerate(row.terms()):
            term = Row([1.0], [v]) if k < n else Row(expressions=[(1.0, v, low, high)])
            found.setdefault(id(v), (term, low, high))
    return list(found.values())


def set_max_copies(block) -> None:
    """Values of the copies that :func:`write_max_hull` adds."""
    share, split = block.component("share"), block.component("split")
    chosen = block.component("chosen")
    if share is None or chosen is None:
        return
    for v in share.values():
        v.set_value(0.0, skip_validation=True)
    for (j, i, q), v in share.items():
        if chosen[j, i].value:
            found = value(split[j, q].body, exception=False)
            if found is not None:
                v.set_value(found - value(split[j, q].upper), skip_validation=True)
