r"""Disjunctive: ``pyomo.gdp`` disjunctions, for any ``gdp.*`` transformation.

Each unstable unit is a disjunction of its pieces, each maximum one of its arguments:

.. math::
    \bigvee_p \left[ y = a_p x + c_p,\; t_p \le x \le t_{p+1} \right]
    \qquad\text{and}\qquad
    \bigvee_i \left[ y = x_i,\; x_i \ge x_j\ (j \ne i) \right]

``space="pre_post"`` has the pre-activation :math:`x` as a variable: its hull is as tight
as ``bigm``. ``space="inputs"`` writes :math:`x = w^T h + b` over the layer before: its
hull is as tight as ``hull``, and larger.

The option ``transformation`` is applied at once, by default ``"gdp.hull"``. On a ReLU
``gdp.bigm`` is weaker than the formulation ``bigm``, because it has a constant of its own
for each side of :math:`y = x`. None leaves the disjunctions to a transformation of the
user's or to GDPopt. The HiGHS and SCIP interfaces of Pyomo 6.10 ignore disjunctions
without a word, so a model must not be solved before it is transformed.

Source: Grossmann and Trespalacios, "Systematic modeling of discrete-continuous
optimization models through generalized disjunctive programming", AIChE J. 59, 2013.

Examples
--------
>>> from pyomo_relu.block.example import two_neurons, show
>>> show(two_neurons("disjunctive", transformation=None), "relu")
either[0]: case[0,0] or case[0,1]
either[1]: case[1,0] or case[1,1]
case[0,0].row[value]: out[0] == 0
case[0,0].row[upper]: pre.out[0] <= 0
case[0,1].row[value]: pre.out[0] - out[0] == 0
case[0,1].row[lower]: pre.out[0] >= 0
case[1,0].row[value]: out[1] == 0
case[1,0].row[upper]: pre.out[1] <= 0
case[1,1].row[value]: pre.out[1] - out[1] == 0
case[1,1].row[lower]: pre.out[1] >= 0
>>> show(two_neurons("disjunctive", "max", transformation=None), "max")
output[0]: out[0] - outputs[0] == 0
either[0]: case[0,0] or case[0,1]
case[0,0].row[value]: pre.out[0] - out[0] == 0
case[0,0].row[over 1]: pre.out[0] - pre.out[1] >= 0
case[0,1].row[value]: pre.out[1] - out[0] == 0
case[0,1].row[over 0]: pre.out[1] - pre.out[0] >= 0
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from pyomo.common.config import ConfigValue, In
from pyomo.common.modeling import unique_component_name
from pyomo.environ import Block, Set, TransformationFactory, Var, value
from pyomo.gdp import Disjunct, Disjunction

from pyomo_relu.base.index_set import index_set
from pyomo_relu.formulations.base import (
    Formulation,
    declared_options,
    known_transformation,
    register_formulation,
)
from pyomo_relu.formulations.units import (
    MaxLayer,
    PiecewiseLayer,
    assign,
    cases_that_hold,
    piece_keys,
)
from pyomo_relu.formulations.values import (
    Row,
    RuleOnce,
    add_rows,
    add_variables,
    combined,
    term,
)


def _gdp(spec: Any) -> str | None:
    return known_transformation("transformation", "gdp", spec)


@register_formulation
class Disjunctive(Formulation):
    """Disjunctions of ``pyomo.gdp``, transformed at once or left to the user."""

    name = "disjunctive"
    CONFIG = declared_options(
        space=ConfigValue(
            "pre_post",
            In(["pre_post", "inputs"]),
            "whether disjuncts see the pre-activation or the inputs",
        ),
        transformation=ConfigValue(
            "gdp.hull", _gdp, "the gdp transformation to apply at once, or None"
        ),
    )

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.needs_preactivation = self.config.space == "pre_post"  # type: ignore[misc]

    def write_piecewise(self, layer: PiecewiseLayer) -> None:
        pieces, post = layer.all_pieces(), layer.post
        if layer.is_output:
            low, high = np.zeros(layer.node.size), np.zeros(layer.node.size)
            for i in layer.units:
                low[i], high[i] = layer.lower[i], layer.upper[i]
            low, high = layer.node.range(low, high)
            ends = {i: (float(low[i]), float(high[i])) for i in layer.units}
            post = _bounded_copies(layer, ends)
        cases: dict[tuple[int, int], dict[str, Row]] = {}
        for i, p in piece_keys(pieces):
            g = pieces[i][p]
            x = layer.pre_row(i) if self.needs_preactivation else layer.rows[i]
            self._check_bounds(layer.node.name, x)
            rows = {"value": combined([(g.slope, x), (-1.0, term(post[i]))], g.intercept)}
            if p > 0:
                rows["lower"] = combined([(1.0, x)], -g.lower)
            if p + 1 < len(pieces[i]):
                rows["upper"] = combined([(-1.0, x)], g.upper)
            cases[i, p] = rows
        _disjoin(layer.block, cases)

    def write_max(self, layer: MaxLayer) -> None:
        low, high, post = layer.source.lower, layer.source.upper, layer.post
        own = layer.block.component("out")
        if own is None or any(j not in own for j in layer.post):
            ends = {
                j: (float(low[group].max()), float(high[group].max()))
                for j, group in layer.arguments.items()
            }
            post = _bounded_copies(layer, ends)
        cases: dict[tuple[int, int], dict[str, Row]] = {}
        for j, group in layer.arguments.items():
            explicit = self.needs_preactivation
            x = {i: layer.argument_row(i) if explicit else layer.rows[i] for i in group}
            for i in group:
                self._check_bounds(layer.node.name, x[i])
                rows = {"value": combined([(1.0, x[i]), (-1.0, term(post[j]))])}
                for k in group:
                    if k != i:
                        rows[f"over {k}"] = combined([(1.0, x[i]), (-1.0, x[k])])
                cases[j, i] = rows
        _disjoin(layer.block, cases)

    def _check_bounds(self, layer: str, row: Row) -> None:
        if self.config.transformation is None:
            return
        for v in row.variables:
            if v.lb is None or v.ub is None:
                raise ValueError(
                    f"formulation 'disjunctive' (layer '{layer}'): '{v.name}' has no "
                    f"bounds of its own, which {self.config.transformation} needs; set "
                    "them on the variable, not only by input_bounds=."
                )

    def transform(self, blocks: list) -> None:
        if self.config.transformation is None:
            return
        # Pyomo makes names unique by random digits; here two runs give the same ones.
        state = random.getstate()
        random.seed(0)
        try:
            for block in blocks:
                if block.component("either") is not None:
                    TransformationFactory(self.config.transformation).apply_to(block)
                    _index_finitely(block)
        finally:
            random.setstate(state)

    def set_values(self, block: Any, node: Any, pre: Any, post: Any, pieces: Any) -> None:
        case = block.component("case")
        if case is None:
            return
        assign(block, "out", lambda i: float(post[i]))
        best = cases_that_hold(case, node, pre, pieces)
        for (i, p), disjunct in case.items():
            # Through the binary: the user may have bounded it, and a start says no more.
            binary = disjunct.binary_indicator_var
            binary.set_value(int(best[i] == p), skip_validation=True)
        if self.config.transformation == "gdp.hull":
            _set_hull_copies(block, case, best)


def _index_finitely(block: Any) -> None:
    """Index the blocks that ``gdp`` has made by what they hold.

    It indexes them by all natural numbers, and ``pyomo.dae`` goes through the index set
    of every block of a model that it discretizes.
    """
    for found in list(block.component_objects(Block, descend_into=True)):
        if found.is_indexed() and not found.index_set().isfinite():
            index = Set(initialize=list(found.keys()), dimen=1)
            parent = found.parent_block()
            parent.add_component(
                unique_component_name(parent, f"{found.local_name}_index"), index
            )
            found._index_set = index


def _bounded_copies(
    layer: PiecewiseLayer | MaxLayer, ends: dict[int, tuple[float, float]]
) -> dict[int, Any]:
    """Variables equal to the outputs: ``gdp`` needs bounds, theirs come later."""
    low, high = zip(*ends.values())
    post = add_variables(layer.block, "out", list(ends), low, high)
    rows = {u: term(v).equals(layer.post[u]) for u, v in post.items()}
    add_rows(layer.block, "output", rows)
    return post


def _disjoin(block: Any, cases: dict[tuple[int, int], dict[str, Row]]) -> None:
    """Add a disjunct for each case, and a disjunction of the cases of each unit."""
    block.add_component("case", Disjunct(index_set(cases)))
    disjunct = block.component("case")
    of_unit: dict[int, list[Any]] = {}
    for (i, p), rows in cases.items():
        _fill(disjunct[i, p], rows)
        of_unit.setdefault(i, []).append(disjunct[i, p])
    rule = RuleOnce(of_unit)
    block.add_component("either", Disjunction(index_set(of_unit), rule=rule))


def _fill(disjunct: Any, rows: dict[str, Row]) -> None:
    """Add ``value == 0`` and all other rows ``>= 0`` to a disjunct.

    A row of one variable has a positive coefficient: ``gdp.mbigm`` of Pyomo 6.10 takes
    ``-x <= -3`` for ``x <= 3``.
    """
    found = {}
    for k, row in rows.items():
        if row.is_constant:
            continue
        turned = len(row.coefs) == 1 and not row.expressions and row.coefs[0] < 0.0
        if turned:
            row = row.scaled(-1.0)
        body, side = row.body(), -row.constant
        found[k] = (
            body == side if k == "value" else body <= side if turned else body >= side
        )
    add_rows(disjunct, "row", found)


def _set_hull_copies(block: Any, case: Any, best: dict[int, int]) -> None:
    """The copies that ``gdp.hull`` made: the variable in the case that holds, else 0."""
    hull = TransformationFactory("gdp.hull")
    chosen = {id(case[i, p]) for i, p in best.items()}
    for (i, p), disjunct in case.items():
        where = disjunct.transformation_block
        if where is None:
            continue
        for v in where.disaggregatedVars.component_data_objects(Var):
            source = hull.get_src_var(v)
            number = value(source, exception=False) if id(case[i, p]) in chosen else 0.0
            if number is not None:
                v.set_value(number, skip_validation=True)
