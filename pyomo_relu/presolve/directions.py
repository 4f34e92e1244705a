"""In which direction the rows and the objective of a model push the outputs of networks.

An output that a model only ever wants large needs no more of its network's graph than the
side below, the hypograph: at any point whose output is lower than the network's, it can be
raised to the network's without breaking a row or making the objective worse. This is asked
of the model as it is now:

* a row ``a @ v <= b`` lets ``v`` rise where its coefficient isn't positive, an objective to
  be minimized likewise;
* an equality forbids both, unless another variable of it can follow: one that is continuous,
  no network's output, may itself move that far by the same rules, and whose bounds don't
  stop it;
* inputs of networks, fixed variables, integers, nonlinear terms, sets and complementarity
  forbid both;
* so does a bound of the user's on an output, on its side, unless the network's range is
  inside of it.

What no row and no objective uses gets no side: the model may not be finished.

Source: dual reductions of mixed-integer presolve, which count "locks": Achterberg, *Constraint
integer programming*, TU Berlin 2007, sections 3.3.5 and 10.9.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pyomo.core.expr.visitor import identify_variables
from pyomo.environ import (
    Block,
    BooleanVar,
    BuildAction,
    BuildCheck,
    Constraint,
    Expression,
    LogicalConstraint,
    Objective,
    Param,
    RangeSet,
    Set,
    SOSConstraint,
    Suffix,
    Var,
    value,
)
from pyomo.gdp import Disjunct, Disjunction
from pyomo.mpec import Complementarity
from pyomo.network import Arc, Port
from pyomo.repn import generate_standard_repn

from pyomo_relu.formulations import network_blocks
from pyomo_relu.presolve.as_rows import variable_used
from pyomo_relu.presolve.model_scope import once, written_data

#: How many variables may follow one another when an output moves; chosen by hand, for chains
#: of definitions are short.
LONGEST_CHAIN = 8
#: Components that are read, or hold no variables; with another kind nothing can move.
UNDERSTOOD = {
    Arc, Block, BooleanVar, BuildAction, BuildCheck, Complementarity, Constraint, Disjunct,
    Disjunction, Expression, LogicalConstraint, Objective, Param, Port, RangeSet, Set,
    SOSConstraint, Suffix, Var,
}  # fmt: skip


def needed_sides(block: Any) -> tuple[str, ...]:
    """The side of each output's graph that the model around a network block needs now.

    Parameters
    ----------
    block : ReLUNetBlockData
        In the model whose active rows and objective are asked.

    Returns
    -------
    tuple of str
        For each output ``"hypograph"`` where raising it does no harm, ``"epigraph"`` where
        lowering it does none, else ``"both"``; ``"both"``, too, where nothing uses it.

    Notes
    -----
    Exact for the model as it is: with these sides it has the same optimum as with the
    network's graph. A row that is added later can change the answer.
    """
    return once("directions", block.model(), Directions).sides(block)


def check_sides(block: Any) -> None:
    """Raise if the model has come to need a side that a network isn't written with.

    Only of formulations that took their sides from the model, of which a row of the user's
    can't use the variables inside, either. The blocks of an indexed component are checked
    when its first active one is, all from one reading of the model.

    Raises
    ------
    ValueError
        Naming the output or the variable, and what mends it.
    """
    component = block.parent_component()
    first = next((b for b in component.values() if b.active), None)
    if first is None or first is not block:
        return
    family = [b for b in component.values() if b.active]
    told = {b: sides for b in family if (sides := _sides_from_model(b)) is not None}
    if not told:
        return
    directions = Directions(block.model())
    for one, sides in told.items():
        for j, side in enumerate(sides):
            if not directions.allows(one, j, side):
                raise ValueError(
                    f"'{one.name}': only the {side} of '{one.output_variables[j].name}' is "
                    "written, which was all that the model needed; its rows, bounds or "
                    f"objective need more now. Call {one.name}.reformulate()."
                )
        used = variable_used(one, directions.rows_of)
        if used is not None:
            raise ValueError(
                f"'{one.name}': only one side of the graphs of its outputs is written, so "
                f"that '{used.name}' inside of it is not what the network says, and a row "
                f"or the objective uses it. Call {one.name}.reformulate('bigm'), and write "
                "that with the variable of the new name."
            )


def _sides_from_model(block: Any) -> tuple[str, ...] | None:
    """The sides that a block's formulation took from the model; None if it did not."""
    for formulation in block.formulations.values():
        if formulation.sides_from_model is not None:
            return formulation.sides_from_model
    return None


@dataclass
class _Row:
    """A linear row ``low <= coefs @ variables <= high``, infinite where it has no side."""

    coefs: dict[int, float]
    low: float
    high: float
    in_disjunct: bool = False

    def forbids(self, key: int, direction: float) -> bool:
        """Whether moving a variable that way may break the row."""
        move = self.coefs[key] * direction
        return (move > 0 and self.high < math.inf) or (move < 0 and self.low > -math.inf)


class Directions:
    """Where the variables of a model can move without harm.

    Parameters
    ----------
    model : BlockData
        Its active part counts, disjuncts included.
    """

    def __init__(self, model: Any) -> None:
        self.rows: list[_Row] = []
        self.rows_of: dict[int, list[int]] = {}
        self.variables: dict[int, Any] = {}
        self.held: set[int] = set()  # what can't move at all
        self.outputs: set[int] = set()
        for block in network_blocks(model, in_disjuncts=True):
            self.outputs.update(map(id, block.output_variables))
            for entry in block.entries:
                if not isinstance(entry, float):
                    self._hold(identify_variables(entry, include_fixed=True))
        known = model.component_objects(active=True, descend_into=(Block, Disjunct))
        if any(c.ctype not in UNDERSTOOD for c in known):
            self.held |= self.outputs
        self._read_rows(model)
        self._read_objectives(model)
        for kind in (SOSConstraint, Complementarity, Port):
            for data in _active(model, kind):
                self._hold(_variables(data))

    def sides(self, block: Any) -> tuple[str, ...]:
        """See :func:`needed_sides`."""
        found = []
        for j, v in enumerate(block.output_variables):
            fits = [s for s in ("hypograph", "epigraph") if self.allows(block, j, s)]
            found.append(fits[0] if fits and id(v) in self.rows_of else "both")
        return tuple(found)

    def allows(self, block: Any, j: int, side: str) -> bool:
        """Whether the model has the same optimum with this side of an output's graph."""
        if side == "both":
            return True
        v, direction = block.output_variables[j], 1.0 if side == "hypograph" else -1.0
        if v.fixed or v.is_integer():
            return False
        known, users = block.written_output_bounds, block.users_output_bounds()[id(v)]
        end = 1 if direction > 0 else 0  # of an interval
        bound, reach = users[end], None if known is None else known[end][j]
        if bound is not None and (reach is None or direction * (reach - bound) > 0):
            return False
        return self._can_move(id(v), direction, (), None)

    def _can_move(
        self, key: int, direction: float, before: tuple[int, ...], followed: int | None
    ) -> bool:
        """Whether a variable can move that way, by any amount its bounds allow.

        ``before`` are those that it follows, ``followed`` the row for whose sake.
        """
        if key in self.held or len(before) > LONGEST_CHAIN:
            return False
        chain = (*before, key)
        return all(
            r == followed
            or not self.rows[r].forbids(key, direction)
            or self._another_follows(r, key, direction, chain)
            for r in self.rows_of.get(key, ())
        )

    def _another_follows(
        self, r: int, key: int, direction: float, chain: tuple[int, ...]
    ) -> bool:
        """Whether another variable can make up for a move in an equality."""
        row = self.rows[r]
        if row.low != row.high or row.in_disjunct:
            return False
        for other, a in row.coefs.items():
            if other in chain or other in self.outputs:
                continue
            v = self.variables[other]
            way = -math.copysign(1.0, row.coefs[key] * direction * a)
            if v.is_continuous() and self._is_free(v, way, r, key, chain):
                if self._can_move(other, way, chain, r):
                    return True
        return False

    def _is_free(
        self, v: Any, way: float, r: int, key: int, chain: tuple[int, ...]
    ) -> bool:
        """Whether no bound of a variable stops it from following ``key`` in a row."""
        bound = v.ub if way > 0 else v.lb
        if bound is None:
            return True
        row = self.rows[r]
        if len(row.coefs) > 2:
            return False  # others may move as well, and push it further
        leader, a, b = self.variables[key], row.coefs[key], row.coefs[id(v)]
        ends = (leader.lb, leader.ub)
        if None in ends:
            return False
        reach = [(row.high - a * end) / b for end in ends]
        return max(reach) <= bound if way > 0 else min(reach) >= bound

    # ----------------------------------------------------------------------- reading
    def _read_rows(self, model: Any) -> None:
        written = written_data(model, Constraint)
        for c in _active(model, Constraint):
            if id(c) in written:
                continue
            low = -math.inf if c.lower is None else value(c.lower)
            high = math.inf if c.upper is None else value(c.upper)
            self._add(c.body, low, high, _in_disjunct(c))

    def _read_objectives(self, model: Any) -> None:
        objectives = list(_active(model, Objective))
        for o in objectives:
            self._add(o.expr if o.is_minimizing() else -o.expr, -math.inf, 0.0)
            if len(objectives) > 1:  # no solver takes them, and one may be dropped
                self._hold(identify_variables(o.expr))

    def _add(self, body: Any, low: float, high: float, in_disjunct: bool = False) -> None:
        """Note a row; what is in it nonlinearly can't move."""
        repn = generate_standard_repn(body, quadratic=False)
        self._hold(repn.nonlinear_vars)
        if not repn.is_constant() and repn.constant is not None:
            low, high = low - value(repn.constant), high - value(repn.constant)
        coefs: dict[int, float] = {}
        for a, v in zip(repn.linear_coefs, repn.linear_vars):
            if value(a) != 0.0:
                coefs[id(v)] = value(a)
                self._note(v, len(self.rows))
        self.rows.append(_Row(coefs, low, high, in_disjunct))

    def _note(self, v: Any, row: int) -> None:
        self.variables[id(v)] = v
        self.rows_of.setdefault(id(v), []).append(row)

    def _hold(self, variables: Any) -> None:
        for v in variables:
            self.held.add(id(v))
            self.variables[id(v)] = v
            self.rows_of.setdefault(id(v), [])


def _active(model: Any, ctype: Any) -> Sequence[Any]:
    return list(
        model.component_data_objects(ctype, active=True, descend_into=(Block, Disjunct))
    )


def _in_disjunct(c: Any) -> bool:
    block = c.parent_block()
    while block is not None:
        if block.ctype is Disjunct:
            return True
        block = block.parent_block()
    return False


def _variables(data: Any) -> list[Any]:
    """The variables of a set, a complementarity or a port."""
    if data.ctype is SOSConstraint:
        return list(data.get_variables())
    parts = data._args if data.ctype is Complementarity else data.vars.values()
    found: list[Any] = []
    for part in parts:
        for e in part.values() if getattr(part, "is_indexed", bool)() else [part]:
            if e is not None:
                found += identify_variables(e)
    return found
