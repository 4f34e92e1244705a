r"""Cuts: big-M, and the ideal inequalities of a neuron where its relaxation breaks them.

A ReLU :math:`y = \max(0, w^T x + b)` over :math:`L \le x \le U` with its binary
:math:`z` has, besides the big-M rows, for every set :math:`I` of inputs

.. math::
    y \le \sum_{i \in I} w_i \bigl(x_i - \breve L_i (1 - z)\bigr)
        + \Bigl(b + \sum_{i \notin I} w_i \breve U_i\Bigr) z

with :math:`\breve L_i, \breve U_i = L_i, U_i` if :math:`w_i \ge 0` and
:math:`U_i, L_i` if not. All of them together are the neuron's convex hull, in the
variables of ``bigm``. The one that a point breaks most has

.. math:: I = \{ i : w_i x_i < w_i (\breve L_i (1 - z) + \breve U_i z) \}

with weights of either sign. Other units of two pieces are a line plus a multiple of a
ReLU and have the same cuts; of more pieces, each bend has them. A step from 0 to 1 at
:math:`t` has those whose left side is :math:`\max(0, x - t)`. Units of three or more
pieces with steps among them have none. A maximum of :math:`w^k x + b^k` has, for every
map :math:`I` from inputs to arguments,

.. math::
    y \le \sum_i \Bigl( w^{I(i)}_i x_i + \sum_k \max\{ (w^k_i - w^{I(i)}_i) L_i,
    (w^k_i - w^{I(i)}_i) U_i \} z_k \Bigr) + \sum_k b^k z_k

The cuts are found in rounds: the LP relaxation is solved, every unit's most violated
one is added, until none is violated by more than ``tolerance`` or ``time_limit``
seconds are over. With
``scope="network"`` the LP is the network over its box, once for the smallest and once
for the largest value of each output; with ``scope="model"`` it is the user's model with
its objective, as it stands when the formulation is chosen, so call ``reformulate``
after the objective is declared. Cuts that are slack in all of the last relaxations are
dropped, the others stay as rows ``cut``; all stay if the time was over before. They are
valid whatever the objective.

Source: Anderson, Huchette, Ma, Tjandraatmadja, Vielma, "Strong mixed-integer
programming formulations for trained neural networks", arXiv 1811.01988.

Examples
--------
>>> from pyomo_relu.block.example import two_neurons, show
>>> show(two_neurons("cuts"), "relu")
unit[0,0]: pre.out[0] - out[0] <= 0
unit[0,1]: out[0] - 2 on[0] <= 0
unit[0,2]: -pre.out[0] + out[0] + 2 on[0] <= 2
unit[1,0]: pre.out[1] - out[1] <= 0
unit[1,1]: out[1] - 2 on[1] <= 0
unit[1,2]: -pre.out[1] + out[1] + 4 on[1] <= 4
cut[1,0,1]: out[1] - x[1] <= 1
cut[0,0,1]: out[0] + x[1] <= 1
>>> show(two_neurons("cuts", "max"), "max")
maximum[0,0,lower]: pre.out[0] - outputs[0] <= 0
maximum[0,0,upper]: -pre.out[0] + outputs[0] + 4 chosen[0,0] <= 4
maximum[0,1,lower]: pre.out[1] - outputs[0] <= 0
maximum[0,1,upper]: -pre.out[1] + outputs[0] + 6 chosen[0,1] <= 6
one_chosen[0]: chosen[0,0] + chosen[0,1] == 1
cut[0,0,1]: outputs[0] - x[0] - x[1] - 2 chosen[0,0] <= 0
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyomo.common.config import (
    ConfigDict,
    ConfigValue,
    In,
    NonNegativeFloat,
    NonNegativeInt,
)
from pyomo.environ import Any as AnySet
from pyomo.environ import Constraint, SolverFactory, value

from pyomo_relu.formulations.base import (
    Formulation,
    MaxLayer,
    PiecewiseLayer,
    register_formulation,
)
from pyomo_relu.formulations.bigm import set_max_values, write_max_bigm
from pyomo_relu.formulations.pieces import (
    is_continuous,
    is_step,
    set_piece_values,
    write_pieces,
)
from pyomo_relu.formulations.relaxed import RelaxedSolver
from pyomo_relu.formulations.values import Row, combined, row_at_most

logger = logging.getLogger(__name__)


def _seconds(spec: Any) -> float | None:
    return None if spec is None else NonNegativeFloat(spec)


@register_formulation
class Cuts(Formulation):
    """Big-M and the violated ideal inequalities of each neuron, as rows."""

    name = "cuts"
    needs_rows = True
    CONFIG = ConfigDict()
    CONFIG.declare(
        "rounds",
        ConfigValue(
            default=10,
            domain=NonNegativeInt,
            description="the most relaxations that are solved for each objective",
        ),
    )
    CONFIG.declare(
        "max_cuts",
        ConfigValue(
            default=5000, domain=NonNegativeInt, description="the most rows that are added"
        ),
    )
    CONFIG.declare(
        "tolerance",
        ConfigValue(
            default=1e-6,
            domain=NonNegativeFloat,
            description="violation, relative to the unit's range, of a cut that is added",
        ),
    )
    CONFIG.declare(
        "solver",
        ConfigValue(
            default="appsi_highs",
            domain=str,
            description="Pyomo solver of the relaxations, which must take a block whose "
            "inputs lie outside of it ('appsi_gurobi' does, 'gurobi_direct' doesn't)",
        ),
    )
    CONFIG.declare(
        "time_limit",
        ConfigValue(
            default=60.0,
            domain=_seconds,
            description="seconds for the relaxations and the separation, after which the "
            "cuts found so far stay, with a warning; None for no limit",
        ),
    )
    CONFIG.declare(
        "scope",
        ConfigValue(
            default="network",
            domain=In(["network", "model"]),
            description="whether the network over its box is relaxed, or the whole model",
        ),
    )

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        solver = SolverFactory(self.config.solver)
        if not solver.available(exception_flag=False):
            raise ValueError(
                f"formulation 'cuts': the solver '{self.config.solver}' is not available; "
                "choose another with solver=."
            )
        self._bends: dict[str, list[Bend | Largest]] = {}

    def start(self, network, bounds) -> None:
        self._bends = {}  # by layer name, for finish()

    def write_piecewise(self, layer: PiecewiseLayer) -> None:
        write_pieces(layer, {i: layer.pre_row(i) for i in layer.units})
        self._bends[layer.node.name] = [b for i in layer.units for b in _bends(layer, i)]

    def write_max(self, layer: MaxLayer) -> None:
        write_max_bigm(layer)
        chosen = layer.block.component("chosen")
        self._bends[layer.node.name] = [
            Largest.of(layer, j, {i: chosen[j, i] for i in group})
            for j, group in layer.arguments.items()
        ]

    def set_values(self, block, node, pre, post, pieces) -> None:
        set_piece_values(block, pre, pieces)
        set_max_values(block, pre)

    def finish(self, block) -> None:
        layers, bends = block.component("layer"), self._bends
        self._bends = {}
        units = [(layers[name], unit) for name, found in bends.items() for unit in found]
        if not units or not self.config.rounds:
            return
        config = self.config
        with RelaxedSolver(
            block, config.scope, config.solver, config.time_limit
        ) as relaxed:
            cuts, tight = self._separate(relaxed, units)
            if tight is None:
                return
            for k, cut in enumerate(cuts):
                if k not in tight:
                    del cut.parent_component()[cut.index()]

    def _separate(self, relaxed: RelaxedSolver, units) -> tuple[list, set[int] | None]:
        """Add cuts; all of them, and which are tight, None where it ended early."""
        cuts: list[Any] = []
        numbers: Counter = Counter()
        tight: set[int] = set()
        for objective in relaxed.objectives():
            solved = relaxed.solve(objective)
            for _ in range(self.config.rounds):
                if not solved or not self._add_violated(relaxed, units, cuts, numbers):
                    break
                solved = relaxed.solve(objective)
            if relaxed.out_of_time:
                logger.warning(
                    "%s: the cuts were ended after time_limit=%g seconds; the %d found so "
                    "far stay.",
                    relaxed.block.name,
                    self.config.time_limit,
                    len(cuts),
                )
            if not solved or relaxed.out_of_time:
                return cuts, None
            slack = self.config.tolerance * 10
            for k, cut in enumerate(cuts):
                scale = max(1.0, abs(value(cut.upper)))
                if value(cut.upper) - value(cut.body) <= slack * scale:
                    tight.add(k)
        return cuts, tight

    def _add_violated(self, relaxed, units, cuts: list, numbers: Counter) -> bool:
        """Add each unit's most violated cut, the worst first; False if there is none."""
        new = []
        for layer, unit in units:
            if relaxed.out_of_time:
                break
            found = unit.separate(self.config.tolerance)
            if found is not None:
                new.append((found, layer, unit))
        new.sort(key=lambda entry: -entry[0][0])
        new = new[: self.config.max_cuts - len(cuts)]
        for (_, row), layer, unit in new:
            cuts.append(_add_cut(layer, unit.key, row, numbers))
        return bool(new)


def _add_cut(layer, key: tuple, row, numbers: Counter):
    component = layer.component("cut")
    if component is None:
        layer.add_component("cut", Constraint(AnySet))
        component = layer.component("cut")
    numbers[id(layer), key] += 1
    return component.add((*key, numbers[id(layer), key]), row)


@dataclass
class Bend:
    """``left = max(0, row)`` and its binary: one ReLU inside a unit.

    ``left`` is a row; None for a step, where only ``max(0, row)`` itself is known.
    """

    key: tuple
    left: Row | None
    row: Row
    z: Any

    def __post_init__(self) -> None:
        terms = self.row.terms()
        self.w = np.array([c for c, _, _, _ in terms])
        low = np.array([a for _, _, a, _ in terms])
        high = np.array([b for _, _, _, b in terms])
        self.at_low = np.where(self.w >= 0, self.w * low, self.w * high)
        self.at_high = np.where(self.w >= 0, self.w * high, self.w * low)
        self.scale = max(1e-6, float((self.at_high - self.at_low).sum()))

    def separate(self, tolerance: float):
        """The violation of the most violated cut and its row; None if there is none."""
        terms = self.row.terms()
        x = np.array([value(v) for _, v, _, _ in terms])
        z = float(value(self.z))
        inside = self.w * x - self.at_low * (1.0 - z)
        chosen = inside < self.at_high * z
        bias = self.row.constant
        right = np.where(chosen, inside, self.at_high * z).sum() + bias * z
        lefts = [self.left] if self.left is not None else [Row(), self.row]
        values = [_value(row) for row in lefts]
        best = int(np.argmax(values))
        if values[best] - right <= tolerance * self.scale:
            return None
        n = len(self.row.coefs)
        taken = np.flatnonzero(chosen)
        part = Row(
            [self.row.coefs[k] for k in taken if k < n],
            [self.row.variables[k] for k in taken if k < n],
            -float(self.at_low[chosen].sum()),
            [self.row.expressions[k - n] for k in taken if k >= n],
        )
        factor = float(self.at_low[chosen].sum() + self.at_high[~chosen].sum()) + bias
        cut = combined([(1.0, lefts[best]), (-1.0, part), (-factor, Row([1.0], [self.z]))])
        return (values[best] - right) / self.scale, row_at_most(cut, [], [], 0.0)


def _bends(layer: PiecewiseLayer, i: int) -> list[Bend]:
    """The ReLUs inside a unit, one for each breakpoint."""
    pieces, row = layer.pieces(i), layer.rows[i]
    if not row.terms():
        return []
    if is_step(pieces):
        z = layer.block.component("on")[i]
        return [Bend((i, 0), None, _shifted(row, pieces[1].lower), z)]
    if not is_continuous(pieces):
        return []
    if len(pieces) == 2:
        first, last = pieces
        bend = last.slope - first.slope
        # y = g0(x) + bend * max(0, x - t)
        terms = [(1.0 / bend, Row([1.0], [layer.post[i]]))]
        terms.append((-first.slope / bend, layer.pre_row(i)))
        left = combined(terms, -first.intercept / bend)
        z = layer.block.component("on")[i]
        return [Bend((i, 0), left, _shifted(row, last.lower), z)]
    step, beyond = layer.block.component("step"), layer.block.component("beyond")
    found = []
    for p in range(1, len(pieces)):
        later = [step[i, q] for q in range(p, len(pieces))]
        left = Row([1.0] * len(later), later)
        found.append(Bend((i, p), left, _shifted(row, pieces[p].lower), beyond[i, p - 1]))
    return found


def _shifted(row: Row, t: float) -> Row:
    return row.scaled(1.0, -t)


def _value(row: Row) -> float:
    return row.constant + sum(c * value(v) for c, v in _pairs(row))


def _pairs(row: Row) -> list[tuple[float, Any]]:
    return [*zip(row.coefs, row.variables), *((c, e) for c, e, _, _ in row.expressions)]


@dataclass
class Largest:
    """``post = max`` of rows over ``inputs``, with a binary for each row."""

    key: tuple
    post: Any
    inputs: list[Row]
    weights: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    bias: np.ndarray
    z: list[Any]

    @classmethod
    def of(cls, layer: MaxLayer, j: int, binaries: dict[int, Any]) -> Largest:
        """Of group ``j``; ``weights`` has a row for each argument."""
        place: dict[int, int] = {}
        inputs: list[Row] = []
        low, high, entries = [], [], []
        for k, i in enumerate(binaries):
            row = layer.rows[i]
            n = len(row.coefs)
            for t, (c, v, a, b) in enumerate(row.terms()):
                if id(v) not in place:
                    place[id(v)] = len(inputs)
                    one = Row([1.0], [v]) if t < n else Row(expressions=[(1.0, v, a, b)])
                    inputs.append(one)
                    low.append(a)
                    high.append(b)
                entries.append((k, place[id(v)], c))
        weights = np.zeros((len(binaries), len(inputs)))
        for k, t, c in entries:
            weights[k, t] += c
        bias = np.array([layer.rows[i].constant for i in binaries])
        z = list(binaries.values())
        post = layer.post[j]
        return cls((j, 0), post, inputs, weights, np.array(low), np.array(high), bias, z)

    def separate(self, tolerance: float):
        """As :meth:`Bend.separate`."""
        z = np.array([float(value(v)) for v in self.z])
        x = np.array([_value(row) for row in self.inputs])
        w = self.weights
        # gain[k, I, i]: what argument k can add over argument I by input i.
        step = w[:, None, :] - w[None, :, :]
        gain = np.maximum(step * self.lower, step * self.upper)
        terms = w * x + np.einsum("k,kIi->Ii", z, gain)
        best = terms.argmin(axis=0)
        columns = np.arange(len(x))
        right = terms[best, columns].sum() + self.bias @ z
        ends = np.abs(w) * np.maximum(np.abs(self.lower), np.abs(self.upper))
        scale = max(1e-6, float(ends.sum(axis=1).max()))
        violation = float(value(self.post)) - right
        if violation <= tolerance * scale:
            return None
        factors = gain[:, best, columns].sum(axis=1) + self.bias
        cut = combined(
            [
                (1.0, Row([1.0], [self.post])),
                *((-float(w[best[i], i]), row) for i, row in enumerate(self.inputs)),
                *((-float(f), Row([1.0], [v])) for f, v in zip(factors, self.z)),
            ]
        )
        return violation / scale, row_at_most(cut, [], [], 0.0)
