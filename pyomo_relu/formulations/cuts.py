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
from typing import Any

from pyomo.common.config import ConfigValue, In, NonNegativeFloat, NonNegativeInt
from pyomo.environ import Any as AnySet
from pyomo.environ import Constraint, SolverFactory, value

from pyomo_relu.bounds import Bounds
from pyomo_relu.formulations.base import (
    Formulation,
    declared_options,
    register_formulation,
)
from pyomo_relu.formulations.bigm import set_max_values, write_max_bigm
from pyomo_relu.formulations.ideal_cuts import Bend, Largest, bends_of
from pyomo_relu.formulations.pieces import set_piece_values, write_pieces
from pyomo_relu.formulations.relaxed import RelaxedSolver
from pyomo_relu.formulations.units import MaxLayer, PiecewiseLayer
from pyomo_relu.network import Network

logger = logging.getLogger(__name__)

#: A cut stays if its slack at a relaxation's optimum is at most this many times the
#: option ``tolerance`` (chosen by hand).
TIGHT = 10


def _seconds(spec: Any) -> float | None:
    return None if spec is None else NonNegativeFloat(spec)


@register_formulation
class Cuts(Formulation):
    """Big-M and the violated ideal inequalities of each neuron, as rows."""

    name = "cuts"
    needs_rows = True
    CONFIG = declared_options(
        rounds=ConfigValue(
            10, NonNegativeInt, "the most relaxations that are solved for each objective"
        ),
        max_cuts=ConfigValue(5000, NonNegativeInt, "the most rows that are added"),
        tolerance=ConfigValue(
            1e-6,
            NonNegativeFloat,
            "violation, relative to the unit's range, of a cut that is added",
        ),
        solver=ConfigValue(
            "appsi_highs",
            str,
            "Pyomo solver of the relaxations, which must take a block whose "
            "inputs lie outside of it ('appsi_gurobi' does, 'gurobi_direct' doesn't)",
        ),
        time_limit=ConfigValue(
            60.0,
            _seconds,
            "seconds for the relaxations and the separation, after which the "
            "cuts found so far stay, with a warning; None for no limit",
        ),
        scope=ConfigValue(
            "network",
            In(["network", "model"]),
            "whether the network over its box is relaxed, or the whole model",
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

    def start(self, network: Network, bounds: Bounds) -> None:
        self._bends = {}  # by layer name, for finish()

    def write_piecewise(self, layer: PiecewiseLayer) -> None:
        write_pieces(layer)
        self._bends[layer.node.name] = [b for i in layer.units for b in bends_of(layer, i)]

    def write_max(self, layer: MaxLayer) -> None:
        write_max_bigm(layer)
        chosen = layer.block.component("chosen")
        self._bends[layer.node.name] = [
            Largest.of(layer, j, {i: chosen[j, i] for i in group})
            for j, group in layer.arguments.items()
        ]

    def set_values(self, block: Any, node: Any, pre: Any, post: Any, pieces: Any) -> None:
        set_piece_values(block, pre, pieces)
        set_max_values(block, pre)

    def finish(self, block: Any) -> None:
        layers, bends = block.component("layer"), self._bends
        self._bends = {}
        units = [(layers[name], unit) for name, found in bends.items() for unit in found]
        if not units or not self.config.rounds:
            return
        c = self.config
        with RelaxedSolver(block, c.scope, c.solver, c.time_limit) as relaxed:
            cuts, tight = self._separate(relaxed, units)
            for k, cut in enumerate(cuts):
                if tight is not None and k not in tight:
                    del cut.parent_component()[cut.index()]

    def _separate(
        self, relaxed: RelaxedSolver, units: list[tuple[Any, Any]]
    ) -> tuple[list[Any], set[int] | None]:
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
            slack = TIGHT * self.config.tolerance
            for k, cut in enumerate(cuts):
                scale = max(1.0, abs(value(cut.upper)))
                if value(cut.upper) - value(cut.body) <= slack * scale:
                    tight.add(k)
        return cuts, tight

    def _add_violated(
        self,
        relaxed: RelaxedSolver,
        units: list[tuple[Any, Any]],
        cuts: list[Any],
        numbers: Counter,
    ) -> bool:
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


def _add_cut(layer: Any, key: tuple, row: Any, numbers: Counter) -> Any:
    component = layer.component("cut")
    if component is None:
        layer.add_component("cut", Constraint(AnySet))
        component = layer.component("cut")
    numbers[id(layer), key] += 1
    return component.add((*key, numbers[id(layer), key]), row)
