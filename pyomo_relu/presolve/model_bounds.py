"""Bounds that use the user's whole model, not only the box of the inputs.

A constraint on an output, or a link between two networks, also bounds neurons
(Grimstad and Andersson, arXiv 1907.03140, section 4). The model is copied, its
networks are written as big-M, and each input and unstable pre-activation is minimized
and maximized over the copy: over its linear relaxation, or with the binaries kept.

Such bounds hold for that model alone, see :mod:`~pyomo_relu.presolve.model_scope`.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from pyomo.core.expr.visitor import identify_variables
from pyomo.environ import Constraint, Objective, Var
from pyomo.gdp import Disjunct

from pyomo_relu.base.deadline import Deadline, TimeUp
from pyomo_relu.base.progress import Interruptible
from pyomo_relu.base.rounding import EPS
from pyomo_relu.bounds import Bounds, compute_bounds
from pyomo_relu.formulations import network_blocks
from pyomo_relu.formulations.relaxation import linear_formulation
from pyomo_relu.network import PiecewiseLinear, Smooth
from pyomo_relu.presolve.fixed_outputs import compile_with_networks
from pyomo_relu.presolve.model_scope import model_scope, speaks_for_itself, users_data
from pyomo_relu.programs import Certifier, HighsModel

#: Margin of solver bounds that have no certificate, relative to ``1 + |bound|``.
MARGIN = 1e-6


class InfeasibleModelError(ValueError):
    """No point satisfies the model's constraints, so they bound nothing."""


class _Search:
    """A copy of the model in HiGHS, of which single variables are asked."""

    def __init__(self, model: Any, integer: bool, clock: Interruptible) -> None:
        form = compile_with_networks(model)
        self.columns = form.column_numbers()
        self.n_columns = len(form.cost)
        self.clock = clock
        self.highs = HighsModel(form, relaxed=not integer)
        self.highs.minimize()
        known = np.where(np.isfinite(form.size), form.size, 0.0)
        terms = np.diff(form.matrix.indptr) + 4.0
        form.row_slack = 4.0 * EPS * terms * (abs(form.matrix) @ known)
        # Without the bounds of all columns, and with integrality, a margin must do.
        exact = np.isfinite(form.size).all() and not (integer and form.is_mip)
        self.certifier = Certifier(form) if exact else None

    def minimum(self, variable: Any, sign: float) -> float | None:
        """A valid lower bound of ``sign * variable``; None where there is none."""
        j = self.columns.get(id(variable))
        if j is None:
            return None
        cost = np.zeros(self.n_columns)
        cost[j] = sign
        self.highs.set_costs(cost)
        answer = self.highs.run(self.clock.limit)
        if answer.infeasible:
            raise InfeasibleModelError(
                "the model is infeasible, so its constraints bound nothing; check them "
                "before tightening with them."
            )
        if answer.row_duals is not None and self.certifier is not None:
            certified = self.certifier.lower_bound(cost, answer.row_duals)
            if np.isfinite(certified):
                return certified
        bound = answer.bound
        if not np.isfinite(bound):
            return None
        return bound - MARGIN * (1.0 + abs(bound))


def model_bounds(
    block: Any,
    start: Bounds,
    *,
    integer: bool = False,
    inputs: bool = True,
    time_limit: float | None = None,
    cpu_time_limit: float | None = None,
) -> Bounds:
    """Tighten the bounds of one network with all constraints of its model.

    Parameters
    ----------
    block : ReLUNetBlockData
        In a model whose nonlinear constraints, if any, are left out.
    start : Bounds
        Valid bounds of the block's network.
    integer : bool
        Keep integrality, of the networks and of the user's variables.
    inputs : bool
        Whether to bound the inputs as well; with many of them it takes most of the time.
    time_limit, cpu_time_limit : float, optional
        Seconds on the clock, and of this process; what isn't reached keeps its bounds.

    Returns
    -------
    Bounds
        Valid for the model as it is now, as their ``scope`` says.

    Raises
    ------
    InfeasibleModelError
        A ValueError: if the model is infeasible, which is not hidden.
    """
    clock = Interruptible(time_limit, cpu_time_limit)
    disjuncts = users_data(block.model(), Disjunct)
    if disjuncts:
        raise ValueError(
            f"'{block.name}': tighten('model') can't take the Disjunct '{disjuncts[0].name}' "
            "into account; transform the model first, where the block is outside of it, "
            "or tighten with 'lp', which asks the network alone."
        )
    try:
        copy, twin = _copy(block, clock)
    except TimeUp:
        return start
    work = _Tightening(copy, twin, start, integer, clock)
    if inputs:
        work.inputs()
    work.hidden(work.renewed())
    work.outputs()
    return Bounds(
        block.network,
        tuple(work.lows),
        tuple(work.highs),
        "model",
        start.seconds + clock.elapsed,
        model_scope(block),
    )


class _Tightening:
    """Bounds of a network that become tighter in a copy of its model.

    Parameters
    ----------
    copy, twin : BlockData
        The copy of the model, and the network block in it.
    start : Bounds
    integer : bool
    clock : Interruptible
    """

    def __init__(
        self, copy: Any, twin: Any, start: Bounds, integer: bool, clock: Interruptible
    ) -> None:
        self.copy, self.twin, self.network = copy, twin, twin.network
        self.integer, self.clock = integer, clock
        self.lows = [a.copy() for a in start.lower]
        self.highs = [b.copy() for b in start.upper]

    def _ask(self, node: int, held: dict[int, Any], factors: np.ndarray) -> None:
        """Solve for both ends of the entries of a node, given as variables."""
        if self.clock.expired():
            return
        search = _Search(self.copy, self.integer, self.clock)
        low, high = self.lows[node], self.highs[node]
        for (u, v), sign in product(held.items(), (1.0, -1.0)):
            if self.clock.expired():
                return
            found = search.minimum(v, sign)
            if found is None:
                continue
            found /= factors[u]
            if sign > 0:
                low[u] = min(max(low[u], found), high[u])
            else:
                high[u] = max(min(high[u], -found), low[u])

    def renewed(self) -> Bounds:
        """What the new numbers imply for the layers above, written into the copy."""
        lows, highs = (tuple(a.copy() for a in s) for s in (self.lows, self.highs))
        known = Bounds(self.network, lows, highs, "model")
        low, high = known.input_box
        for entry, a, b in zip(self.twin.entries, low.tolist(), high.tolist()):
            if _is_variable(entry):
                entry.setlb(a)
                entry.setub(b)
        found = compute_bounds(self.network, low, high, "crown", known)
        self.lows = [a.copy() for a in found.lower]
        self.highs = [b.copy() for b in found.upper]
        self.twin.reformulate(linear_formulation(self.network), bounds=found)
        return found

    def inputs(self) -> None:
        """Bound the inputs that are variables."""
        for node, part in self.network.input_slices():
            entries = self.twin.entries[part]
            held = {u: e for u, e in enumerate(entries) if _is_variable(e)}
            self._ask(node, held, np.ones(len(entries)))

    def hidden(self, found: Bounds) -> None:
        """Bound the pre-activations that are unstable yet, layer by layer."""
        nodes, readers = self.network.nodes, self.network.readers()
        for source in range(len(nodes)):
            units = (PiecewiseLinear, Smooth)
            of_units = [i for i in readers[source] if isinstance(nodes[i], units)]
            if source in self.network.inputs or not of_units:
                continue
            held = _variables(self.twin, source)
            stable = found.stable(min(of_units))
            held = {u: held[u] for u in np.flatnonzero(~stable).tolist() if u in held}
            if held and not self.clock.expired():
                self._ask(source, held, self.twin.entry_factors(source))
                found = self.renewed()

    def outputs(self) -> None:
        """Bound the outputs."""
        for node, _ in self.network.output_slices():
            self._ask(node, _variables(self.twin, node), self.twin.entry_factors(node))


def _is_variable(entry: Any) -> bool:
    return not isinstance(entry, float) and entry.is_variable_type()


def _is_linear(expression: Any) -> bool:
    return expression.polynomial_degree() in (0, 1)


def _variables(block: Any, node: int) -> dict[int, Any]:
    """The variables that a formulation made for the entries of a node.

    Their values are :meth:`entry_factors` times those of the network.
    """
    network = block.network
    for i, part in network.output_slices():
        if i == node and (block.entry_factors(node) == 1.0).all():
            return dict(enumerate(list(block.component("outputs").values())[part]))
    out = block.component("layer")[network.nodes[node].name].component("out")
    return {} if out is None else dict(out.items())


def _copy(block: Any, deadline: Deadline) -> tuple[Any, Any]:
    """A copy of a block's model, and the block in it.

    It has no nonlinear rows, objectives and fixed variables, and networks in big-M. Other
    networks that were relaxed or otherwise rewritten since keep their rows, and so do
    those with variables inside that the user's rows use.
    """
    model = block.model()
    copy = model.clone()
    twin = copy.find_component(block) if block is not model else copy
    for objective in copy.component_data_objects(Objective, active=True):
        objective.deactivate()
    for v in copy.component_data_objects(Var):
        v.unfix()  # what is fixed now may be freed later
    used = _keep_linear_rows(copy, {id(v) for v in twin.layer_variables})
    for block in network_blocks(copy):
        deadline.check()
        if not all(isinstance(e, float) or _is_linear(e) for e in block.entries):
            raise ValueError(
                f"'{block.name}' has a nonlinear expression as an input; "
                "tighten('model') takes linear ones only."
            )
        block.forget_model_bounds()
        touched = any(id(v) in used for v in block.layer_variables)
        if block is twin or (speaks_for_itself(block) and not touched):
            block.reformulate(linear_formulation(block.network))
    return copy, twin


def _keep_linear_rows(copy: Any, inside: set[int]) -> set[int]:
    """Deactivate the user's nonlinear rows and those on a network's own variables.

    Returns
    -------
    set of int
        ``id`` of the variables of all of the user's rows.
    """
    used: set[int] = set()
    for row in users_data(copy, Constraint):
        variables = {id(v) for v in identify_variables(row.body)}
        if variables & inside or not _is_linear(row.body):
            row.deactivate()
        used |= variables
    return used
