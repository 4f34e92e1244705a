"""A model written for a MIP solver: a copy whose networks have the form that suits them.

The user's model keeps its formulation. In the copy each network is written by ``auto``,
which sees the whole model, and what tables imply is added as rows. Blocks that the user
has changed inside stay as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pyomo.environ import TransformationFactory, Var

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.heuristics.network_columns import NetworkProblem
from pyomo_relu.presolve.fixed_outputs import compile_with_networks
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.programs import LinearProgram
from pyomo_relu.programs.standard_form import StandardForm
from pyomo_relu.solvers.relu.mip_form import MipForm


class WrittenCopy(MipForm):
    """A copy of a model for a MIP solver.

    Parameters
    ----------
    model : BlockData
    problem : Problem
        The same model; its columns and blocks are the user's.
    deadline : Deadline

    Attributes
    ----------
    form : StandardForm
        Of the copy.

    Raises
    ------
    TimeUp
        When the deadline has passed.
    """

    description = "networks as tables, curves, polygons or big-M rows, by auto"

    def __init__(self, model: Any, problem: Problem, deadline: Deadline) -> None:
        self.problem = problem
        users = [link.block for link in [*problem.tabulated, *problem.links]]
        inside = {id(v) for b in users for v in b.layer_variables}
        self._model = model.clone()
        self._blocks = [self._model.find_component(b) for b in users]
        copied = {id(v) for b in self._blocks for v in b.layer_variables}
        pairs = zip(_outside(model, inside), _outside(self._model, copied))
        #: The user's variables, those in layers left out, and theirs in the copy.
        self.pairs = list(pairs)
        copy_of = {id(v): own for v, own in self.pairs}
        self._columns = [copy_of.get(id(v)) for v in problem.columns]
        deadline.check()
        if self._blocks:
            TransformationFactory("relu.auto").apply_to(
                self._model, targets=self._blocks, ask_model=True
            )
            deadline.check()
            TransformationFactory("relu.table_rows").apply_to(self._model)
        deadline.check()
        self.form: StandardForm = compile_with_networks(self._model, "relu", deadline)
        self._networks = NetworkProblem(self.form, self._blocks, deadline)
        numbers = self.form.column_numbers()
        self._place = np.array([numbers.get(id(v), -1) for v in self._columns], dtype=int)

    @property
    def model(self) -> Any:
        """The copy."""
        return self._model

    @property
    def program(self) -> LinearProgram:
        """The copy as arrays."""
        return self.form

    def cost_of(self, bound: float) -> float:
        """The problem's cost for a bound of the copy's objective."""
        return self.problem.sign * (bound - self.problem.offset)

    def point_of(self, z: np.ndarray) -> np.ndarray | None:
        """All columns of the copy's form at a point (m,) of the problem; None if some lack."""
        known = [(v, x) for v, x in zip(self._columns, z.tolist()) if v is not None]
        values = np.array([x for _, x in known])
        return self._networks.from_columns([v for v, _ in known], values)

    def back(self, point: np.ndarray) -> np.ndarray:
        """The problem's columns (m,) at a point of the copy's form.

        A column that the form hasn't is at the bound nearest to zero.
        """
        p = self.problem
        z = np.clip(0.0, p.lower, p.upper)
        known = self._place >= 0
        z[known] = point[self._place[known]]
        p.complete(z[None])
        return z

    def present(self) -> np.ndarray | None:
        """The problem's columns (m,) at the copy's present values; None if some lack."""
        values = [None if v is None else v.value for v in self._columns]
        z = np.clip(0.0, self.problem.lower, self.problem.upper)
        for j, (v, x) in enumerate(zip(self._columns, values)):
            if x is not None:
                z[j] = x
            elif v is not None and not v.stale:
                return None
        self.problem.complete(z[None])
        return z

    def set_values(self, point: np.ndarray) -> None:
        """Set the copy's variables to a point of its form."""
        for v, x in zip(self.form.columns, point.tolist()):
            if not v.fixed:
                v.set_value(x, skip_validation=True)


def _outside(model: Any, inside: set[int]) -> list[Any]:
    """The variables of a model that are in no layer of the blocks meant, in order."""
    return [v for v in model.component_data_objects(Var) if id(v) not in inside]
