"""Bounds that use the user's whole model, not only the box of the inputs.

A constraint on an output, or a link between two networks, also bounds neurons
(Grimstad and Andersson, arXiv 1907.03140, section 4). The model is copied, its
networks are written as big-M, and each input and unstable pre-activation is minimized
and maximized over the copy: over its linear relaxation, or with the binaries kept.

Such bounds hold for that model alone. They carry a mark of its constraints and
variable bounds; a block whose model no longer has that mark refuses them.
"""

from __future__ import annotations

import hashlib
import time
from typing import Any

import numpy as np
from pyomo.core.expr.visitor import identify_mutable_parameters, identify_variables
from pyomo.environ import Block, Constraint, Objective, Var, value
from pyomo.gdp import Disjunct

from pyomo_relu.base.deadline import Deadline, TimeUp
from pyomo_relu.bounds import Bounds, compute_bounds
from pyomo_relu.bounds.progress import Interruptible
from pyomo_relu.formulations import network_blocks
from pyomo_relu.network import PiecewiseLinear
from pyomo_relu.presolve.fixed_outputs import compile_with_networks
from pyomo_relu.programs import Certifier, HighsModel

EPS = float(np.finfo(float).eps)

#: Margin of solver bounds that have no certificate, relative to ``1 + |bound|``.
MARGIN = 1e-6


class InfeasibleModelError(ValueError):
    """No point satisfies the model's constraints, so they bound nothing."""


def _users(model, ctype) -> list[Any]:
    """Active data of the user's own, what formulations wrote left out."""
    written: set[int] = set()
    for block in network_blocks(model, active=None):
        layers, rows = block.component("layer"), block.component("input_box")
        for layer in () if layers is None else layers.values():
            written.update(id(d) for d in layer.component_data_objects(ctype))
        if rows is not None:
            written.update(id(d) for d in rows.values())
    data = model.component_data_objects(ctype, active=True, descend_into=Block)
    return [d for d in data if id(d) not in written]


def model_mark(model) -> str:
    """A digest of the user's constraints and variable bounds.

    Objectives, variable values and fixed variables don't count, and neither do the
    networks' formulations and the bounds that these give the outputs.
    """
    digest = hashlib.sha256()
    outputs: dict[int, tuple[float | None, float | None]] = {}
    for block in network_blocks(model, active=None):
        outputs.update(block.users_output_bounds())
    for c in sorted(_users(model, Constraint), key=lambda c: c.name):
        text = (
            c.body.to_string(compute_values=False) if hasattr(c.body, "to_string") else ""
        )
        low, high = value(c.lower), value(c.upper)
        digest.update(f"{c.name}|{low!r}|{text}|{high!r}\n".encode())
        digest.update(repr(_parameters(c.body)).encode())
    for v in sorted(_users(model, Var), key=lambda v: v.name):
        low, high = outputs.get(id(v), (v.lb, v.ub))
        digest.update(f"{v.name}|{low!r}|{high!r}|{v.domain}\n".encode())
    for block in network_blocks(model, active=None):
        digest.update(f"{block.name}|{block.active}|{block.network.fingerprint}".encode())
    return digest.hexdigest()[:32]


def _parameters(expression: Any) -> list[float]:
    return [value(p, exception=False) for p in identify_mutable_parameters(expression)]


def model_scope(block) -> str:
    """The scope of bounds that rely on the model of ``block`` as it is now.

    Other networks count as they are written, or as the rows they have become.
    """
    model = block.model()
    rewritten = [
        other.name
        for other in network_blocks(model, active=None)
        if other is not block and not _is_network(other)
    ]
    text = "|".join([model_mark(model), *sorted(rewritten)])
    return f"model {hashlib.sha256(text.encode()).hexdigest()[:32]}"


def _is_network(block) -> bool:
    """Whether the network says what a block's outputs can be at its inputs."""
    return all(change.restricts for change in block.changes())


def is_stale(block, bounds: Bounds) -> bool:
    """Whether bounds rely on a model that has changed since."""
    return bounds.scope != "box" and bounds.scope != model_scope(block)


def check_scope(block, bounds: Bounds) -> None:
    """Raise if bounds rely on a model that has changed since.

    Raises
    ------
    ValueError
        Saying how to get valid ones.
    """
    if is_stale(block, bounds):
        raise ValueError(
            f"'{block.name}': its bounds were tightened with the constraints of the whole "
            "model, which have changed since (or a variable's bounds have); call "
            f"{block.name}.tighten('model') again, or reformulate(..., bounds='crown')."
        )


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
    block,
    start: Bounds,
    *,
    integer: bool = False,
    inputs: bool = True,
    time_limit: float | None = None,
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
    time_limit : float, optional
        Seconds; what isn't reached keeps its bounds.

    Returns
    -------
    Bounds
        Valid for the model as it is now, as their ``scope`` says.

    Raises
    ------
    InfeasibleModelError
        A ValueError: if the model is infeasible, which is not hidden.
    """
    begin = time.perf_counter()
    clock = Interruptible(time_limit)
    disjuncts = _users(block.model(), Disjunct)
    if disjuncts:
        raise ValueError(
            f"'{block.name}': tighten('model') can't take the Disjunct '{disjuncts[0].name}' "
            "into account; transform the model first, where the block is outside of it, "
            "or tighten with 'lp', which asks the network alone."
        )
    network = block.network
    deadline = Deadline(time_limit)
    try:
        copy, twin = _copy(block, deadline)
    except TimeUp:
        return start
    lows = [a.copy() for a in start.lower]
    highs = [b.copy() for b in start.upper]

    def ask(node: int, units, variables, factors) -> None:
        if clock.expired():
            return
        search = _Search(copy, integer, clock)
        for u, v in zip(units, variables):
            for sign in (1.0, -1.0):
                if clock.expired():
                    return
                found = search.minimum(v, sign)
                if found is None:
                    continue
                found /= factors[u]
                if sign > 0:
                    lows[node][u] = min(max(lows[node][u], found), highs[node][u])
                else:
                    highs[node][u] = max(min(highs[node][u], -found), lows[node][u])

    def renew() -> Bounds:
        """What the new numbers imply for the layers above, written into the copy."""
        known = Bounds(
            network, tuple(a.copy() for a in lows), tuple(b.copy() for b in highs), "model"
        )
        low, high = known.input_box
        for entry, a, b in zip(twin.entries, low.tolist(), high.tolist()):
            if not isinstance(entry, float) and entry.is_variable_type():
                entry.setlb(a)
                entry.setub(b)
        found = compute_bounds(network, low, high, "crown", known)
        for i in range(len(network.nodes)):
            lows[i], highs[i] = found.lower[i].copy(), found.upper[i].copy()
        twin.reformulate("bigm", bounds=found)
        return found

    for node, part in network.input_slices():
        entries = list(twin.entries[part])
        units = [
            u
            for u, e in enumerate(entries)
            if inputs and not isinstance(e, float) and e.is_variable_type()
        ]
        ask(node, units, [entries[u] for u in units], np.ones(len(entries)))
    found = renew()
    for source in _layers(network):
        reader = next(
            i
            for i, n in enumerate(network.nodes)
            if isinstance(n, PiecewiseLinear) and n.source == source
        )
        unstable = np.flatnonzero(~found.stable(reader)).tolist()
        held = _variables(twin, source)
        units = [u for u in unstable if u in held]
        if units and not clock.expired():
            ask(source, units, [held[u] for u in units], twin.entry_factors(source))
            found = renew()
    for node, _ in network.output_slices():
        held = _variables(twin, node)
        ask(node, list(held), list(held.values()), twin.entry_factors(node))
    return Bounds(
        network,
        tuple(lows),
        tuple(highs),
        "model",
        start.seconds + time.perf_counter() - begin,
        model_scope(block),
    )


def _layers(network) -> list[int]:
    """Nodes that piecewise-linear nodes read, in order, inputs left out."""
    return sorted(
        {
            n.source
            for n in network.nodes
            if isinstance(n, PiecewiseLinear) and n.source not in network.inputs
        }
    )


def _variables(block, node: int) -> dict[int, Any]:
    """The variables that a formulation made for the entries of a node.

    Their values are :meth:`entry_factors` times those of the network.
    """
    network = block.network
    for i, part in network.output_slices():
        if i == node and (block.entry_factors(node) == 1.0).all():
            return dict(enumerate(list(block.component("outputs").values())[part]))
    out = block.component("layer")[network.nodes[node].name].component("out")
    return {} if out is None else dict(out.items())


def _copy(block, deadline: Deadline) -> tuple[Any, Any]:
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
    used: set[int] = set()
    inside = {id(v) for v in twin.layer_variables}
    for c in _users(copy, Constraint):
        variables = {id(v) for v in identify_variables(c.body)}
        if variables & inside or c.body.polynomial_degree() not in (0, 1):
            c.deactivate()
        used |= variables
    for block in network_blocks(copy):
        deadline.check()
        for entry in block.entries:
            if not isinstance(entry, float) and entry.polynomial_degree() not in (0, 1):
                raise ValueError(
                    f"'{block.name}' has a nonlinear expression as an input; "
                    "tighten('model') takes linear ones only."
                )
        for held in ("_bounds_method", "_tightened"):
            known = getattr(block, held)
            if isinstance(known, Bounds) and known.scope != "box":
                setattr(block, held, None)
        touched = any(id(v) in used for v in block.layer_variables)
        if block is twin or (_is_network(block) and not touched):
            block.reformulate("bigm")
    return copy, twin
