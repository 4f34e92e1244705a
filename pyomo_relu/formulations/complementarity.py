r"""Complementarity: conditions of ``pyomo.mpec`` for nonlinear solvers, no binaries.

For a ReLU with pre-activation :math:`x`

.. math:: x = y - s,\qquad 0 \le y \perp s \ge 0

A continuous activation with breakpoints :math:`t_1 < \dots < t_k` is a sum of bends,

.. math::
    x - t_p = r_p - s_p,\qquad 0 \le r_p \perp s_p \ge 0,\qquad
    y = g_0(x) + \sum_p (a_p - a_{p-1}) r_p

and a maximum

.. math:: y = x_i + s_i,\qquad 0 \le w_i \perp s_i \ge 0,\qquad \sum_i w_i = 1

The conditions hold exactly and need no bounds. A step can't be written so: between its
two values the conditions don't tell which holds.

The option ``mpec`` names the transformation that is applied at once:

* ``"mpec.simple_nonlinear"`` (default): :math:`r s \le 0`; for Ipopt, or for a global
  solver such as SCIP. A local solver's result is a local optimum at best, for these
  constraints have no interior.
* ``"mpec.simple_disjunction"``: ``pyomo.gdp`` disjunctions, for a ``gdp.*``
  transformation.
* ``"mpec.standard_form"``, ``"mpec.nl"``: what AMPL's solvers such as Knitro take.
* None leaves ``Complementarity`` components. The HiGHS and SCIP interfaces of Pyomo
  6.10 ignore those without a word, so a model must not be solved before one of the
  transformations is applied to it.

Source: Yang, Balaprakash, Leyffer, "Modeling design and control problems involving
neural network surrogates", arXiv 2111.10489; Ceccon et al., "OMLT", arXiv 2202.02414.

Examples
--------
>>> from pyomo_relu.block.example import two_neurons, show
>>> show(two_neurons("complementarity", mpec=None), "relu")
argument[0]: x[0] - x[1] - out[0] + left[0] == 0
argument[1]: 2 x[0] + x[1] - out[1] + left[1] == 1
either[0,0]: 0  <=  out[0] complements 0  <=  left[0]
either[1,0]: 0  <=  out[1] complements 0  <=  left[1]
>>> show(two_neurons("complementarity"), "relu")
argument[0]: x[0] - x[1] - out[0] + left[0] == 0
argument[1]: 2 x[0] + x[1] - out[1] + left[1] == 1
either[0,0].c: left[0] >= 0
either[0,0].ve: either[0,0].v - out[0] == 0
either[0,0].ccon: left[0]*either[0,0].v <= 0
either[1,0].c: left[1] >= 0
either[1,0].ve: either[1,0].v - out[1] == 0
either[1,0].ccon: left[1]*either[1,0].v <= 0
>>> show(two_neurons("complementarity", "max", mpec=None), "max")
maximum[0,0]: outputs[0] - pre.out[0] - below[0,0] == 0
maximum[0,1]: outputs[0] - pre.out[1] - below[0,1] == 0
one[0]: weight[0,0] + weight[0,1] == 1
either[0,0]: 0  <=  weight[0,0] complements 0  <=  below[0,0]
either[0,1]: 0  <=  weight[0,1] complements 0  <=  below[0,1]
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pyomo.common.config import ConfigValue
from pyomo.environ import TransformationFactory, value
from pyomo.mpec import Complementarity as MpecComplementarity
from pyomo.mpec import complements
from pyomo.repn import generate_standard_repn

from pyomo_relu.base.index_set import index_set
from pyomo_relu.formulations.base import (
    Formulation,
    declared_options,
    known_transformation,
    register_formulation,
)
from pyomo_relu.formulations.sos1 import set_choice, set_sides, write_choice, write_sides
from pyomo_relu.formulations.units import (
    MaxLayer,
    Piece,
    PiecewiseLayer,
    is_continuous,
)
from pyomo_relu.formulations.values import (
    RowCollector,
    RuleOnce,
    add_variables,
    combined,
    term,
)
from pyomo_relu.network import Max

#: What the bounds of a copied variable are widened by, relative to the larger of 1 and
#: the bound: the rounding of the sum that they are (chosen by hand).
WIDENING = 1e-12
#: Below it the left side of a condition counts as 0 in a start (chosen by hand).
ZERO = 1e-9


def _mpec(spec: Any) -> str | None:
    return known_transformation("mpec", "mpec", spec)


@register_formulation
class Complementarity(Formulation):
    """Complementarity conditions for nonlinear solvers; continuous activations only."""

    name = "complementarity"
    needs_preactivation = False
    CONFIG = declared_options(
        mpec=ConfigValue(
            "mpec.simple_nonlinear",
            _mpec,
            "the transformation to apply at once, or None",
        )
    )

    def write_piecewise(self, layer: PiecewiseLayer) -> None:
        pieces = layer.all_pieces()
        if not all(is_continuous(p) for p in pieces.values()):
            raise self.refusal(layer.node.name, f"the step of '{layer.node.function}'")
        two = [i for i in layer.units if len(pieces[i]) == 2]
        many = {i: p for i, p in pieces.items() if len(p) > 2}
        rows = RowCollector()
        right, left = write_sides(layer, pieces, two, rows)
        pairs = {(i, 0): (right[i], left[i]) for i in two}
        pairs |= _write_bends(layer, many, rows)
        rows.add_to(layer.block)
        _add_pairs(layer.block, pairs)

    def write_max(self, layer: MaxLayer) -> None:
        rows = RowCollector()
        weight, slack = write_choice(layer, rows)
        rows.add_to(layer.block)
        _add_pairs(layer.block, {k: (weight[k], slack[k]) for k in layer.keys})

    def transform(self, blocks: list) -> None:
        if self.config.mpec is None:
            return
        for block in blocks:
            if block.component("either") is not None:
                TransformationFactory(self.config.mpec).apply_to(block)
                # What the transformation notes for undoing itself names components by
                # their place in a model, which they don't have yet.
                block.__dict__.pop("_transformation_data", None)
                _bound_copies(block)

    def set_values(self, block: Any, node: Any, pre: Any, post: Any, pieces: Any) -> None:
        if isinstance(node, Max):
            set_choice(block, pre, post)
        set_sides(block, pre, pieces)
        set_sides(block, pre, pieces, ("above", "under"))
        _set_transformed(block)


def _write_bends(
    layer: PiecewiseLayer, pieces: dict[int, list[Piece]], rows: RowCollector
) -> dict[tuple[int, int], tuple[Any, Any]]:
    """Units of more pieces as sums of bends; the pairs of their sides."""
    keys = [(i, p) for i, found in pieces.items() for p in range(1, len(found))]
    if not keys:
        return {}
    ends = {(i, p): pieces[i][p].lower for i, p in keys}
    tops = [layer.upper[i] - ends[i, p] for i, p in keys]
    above = add_variables(layer.block, "above", keys, 0.0, tops)
    tops = [ends[i, p] - layer.lower[i] for i, p in keys]
    under = add_variables(layer.block, "under", keys, 0.0, tops)
    for i, found in pieces.items():
        g, x = found[0], layer.rows[i]
        value = [(-1.0, layer.post_row(i))]
        for p in range(1, len(found)):
            r, s = term(above[i, p]), term(under[i, p])
            terms = [(1.0, x), (-1.0, r), (1.0, s)]
            rows.zero("bend", (i, p), combined(terms, -ends[i, p]))
            value.append((found[p].slope - found[p - 1].slope, r))
        # The first pre-activation term is r_1 - s_1 + t_1: no second dense row.
        sides = [(1.0, term(above[i, 1])), (-1.0, term(under[i, 1]))]
        start = (g.slope, combined(sides))
        constant = g.slope * ends[i, 1] + g.intercept
        rows.zero("value", i, combined([start, *value], constant))
    return {k: (above[k], under[k]) for k in keys}


def _add_pairs(block: Any, pairs: dict) -> None:
    if not pairs:
        return
    found = {k: complements(r >= 0, s >= 0) for k, (r, s) in pairs.items()}
    index = index_set(found)
    index.construct()
    block.add_component("either", MpecComplementarity(index, initialize=RuleOnce(found)))


def _bound_copies(block: Any) -> None:
    """Bounds for the variable that ``mpec`` puts in place of one side of a pair.

    It equals a variable of the layer. ``gdp`` transformations need its bounds, where the
    block is in a disjunct, and nonlinear solvers gain by them.
    """
    for data in block.component("either").values():
        v, row = data.component("v"), data.component("ve")
        if v is None or row is None:
            continue
        repn = generate_standard_repn(row.body)
        low = high = value(row.upper) - repn.constant
        for c, w in zip(repn.linear_coefs, repn.linear_vars):
            if w is not v:  # v == constant - c * w
                ends = [np.inf if b is None else -c * b for b in w.bounds]
                low, high = low + min(ends), high + max(ends)
        slack = WIDENING * max(1.0, abs(low), abs(high))
        if np.isfinite(high - low):
            v.setlb(max(0.0, low - slack))
            v.setub(max(0.0, high + slack))


def _set_transformed(block: Any) -> None:
    """Values of the variable that ``mpec`` puts in place of one side of a pair."""
    either = block.component("either")
    for data in () if either is None else either.values():
        first, second = data.component("expr1"), data.component("expr2")
        if first is not None:  # mpec.simple_disjunction: the first has s == 0
            held = abs(value(first.c1.body, exception=False) or 0.0) <= ZERO
            first.binary_indicator_var.set_value(int(held), skip_validation=True)
            second.binary_indicator_var.set_value(int(not held), skip_validation=True)
        v, row = data.component("v"), data.component("ve")
        if v is None or row is None:
            continue
        v.set_value(0.0, skip_validation=True)  # the row is v - side == constant
        found = value(row.body, exception=False)
        if found is not None:
            v.set_value(value(row.upper) - found, skip_validation=True)
