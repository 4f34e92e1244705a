"""Whatever a user does to a model with networks, the solvers honour it or refuse.

Random sequences of edits on random models. The reference is a solver that knows nothing
of networks, on the same model: what it finds is what the model says.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.contrib.solver.common.factory import SolverFactory as NewFactory
from pyomo.contrib.solver.common.results import TerminationCondition
from pyomo.contrib.solver.common.util import IncompatibleModelError

from pyomo_relu import find_start
from pyomo_relu.programs.standard_form import compile_standard_form
from tests.solvers import edits_inside, edits_of_models  # noqa: F401  (they register)
from tests.solvers.edits import EDITS, apply_edits
from tests.solvers.global_models import random_model

pytest.importorskip("highspy")

FORMULATIONS = (
    "bigm",
    "hull",
    "partition",
    "cuts",
    ("disjunctive", {"transformation": "gdp.bigm"}),
    ("disjunctive", {"transformation": "gdp.hull"}),
)
#: Errors that refuse a model.
REFUSED = (ValueError, IncompatibleModelError)
#: Of two solvers with a gap of 1e-4 each, relative to the larger of 1 and the value.
CLOSE = 5e-4
#: Largest violation of a row at a point that a solver gave.
FEASIBLE = 1e-5
#: What the reference says where it refuses nonlinear rows and SOS constraints.
BEYOND = ("DegreeError", "SOS constraints")
#: What stands for an optimum that there isn't.
NONE = {
    TerminationCondition.provenInfeasible: "none",
    TerminationCondition.infeasibleOrUnbounded: "none",
    TerminationCondition.unbounded: "none",
}


@dataclass
class Answer:
    """``value`` is None without an optimum; ``refused`` says why a model was refused."""

    value: float | None = None
    bound: float | None = None
    refused: str | None = None
    open: bool = False


def plain(m) -> Answer:
    """The answer of a solver that knows no networks."""
    solver = pyo.SolverFactory("appsi_highs")
    solver.options["mip_rel_gap"] = 1e-7
    solver.options["time_limit"] = 30
    if not any(True for _ in m.component_data_objects(pyo.Objective, active=True)):
        m.nothing = pyo.Objective(expr=0.0)  # without one it fails
    try:
        results = solver.solve(m, load_solutions=False)
    except Exception as error:  # of many kinds, for what it can't take
        # Two variables of one name, fixed ones too, are too much for its label maker.
        if "Duplicate symbol" in str(error):
            return Answer(open=True)
        return Answer(refused=f"{type(error).__name__}: {error}")
    condition = results.solver.termination_condition
    if condition == pyo.TerminationCondition.optimal:
        found = results.problem
        value = found.upper_bound
        if found.sense == pyo.maximize:
            value = found.lower_bound
        return Answer(value)
    known = ("infeasible", "unbounded", "infeasibleOrUnbounded")
    return Answer(open=str(condition) not in known)


def ours(m, name: str) -> Answer:
    solver = NewFactory(name)
    try:
        results = solver.solve(
            m,
            time_limit=30,
            raise_exception_on_nonoptimal_result=False,
            load_solutions=False,
        )
    except REFUSED as error:
        return Answer(refused=str(error))
    condition = results.termination_condition
    if condition in NONE:
        return Answer()
    if condition is not TerminationCondition.convergenceCriteriaSatisfied:
        return Answer(open=True)
    results.solution_loader.load_vars()
    return Answer(results.incumbent_objective, results.objective_bound)


def violation(m) -> float:
    """Of the model's values, in the rows that a solver would be given."""
    rows = list(m.component_data_objects(pyo.Constraint, active=True, descend_into=True))
    if any(row.body.polynomial_degree() not in (0, 1) for row in rows):
        return max(-min(row.lslack(), row.uslack()) for row in rows)
    form = compile_standard_form(m)
    point = np.array([math.nan if v.value is None else v.value for v in form.columns])
    return form.violation(point) if not np.isnan(point).any() else math.inf


def disagreement(m) -> tuple[str | None, bool]:
    """What is wrong with our answers on a model, and whether one of them was given."""
    right, answered = plain(m), False
    nonlinear = right.refused is not None and any(w in right.refused for w in BEYOND)
    if right.open:
        return None, False
    maximize = any(
        o.sense == pyo.maximize
        for o in m.component_data_objects(pyo.Objective, active=True)
    )
    sign = -1.0 if maximize else 1.0
    for name in ("relu_highs", "relu_global", "relu"):
        if nonlinear and name == "relu":  # it takes what the reference refuses
            continue
        answer = ours(m, name)
        if answer.refused is not None or answer.open:
            continue
        answered = True
        if right.refused is not None:
            return f"{name} gives {answer.value}; refused: {right.refused}", True
        if (answer.value is None) != (right.value is None):
            return f"{name} gives {answer.value} for {right.value}", True
        if answer.value is None or right.value is None:
            continue
        scale = max(1.0, abs(right.value))
        if abs(answer.value - right.value) > CLOSE * scale:
            return f"{name} gives {answer.value} for {right.value}", True
        assert answer.bound is not None
        if sign * (answer.bound - right.value) > 1e-5 * scale:
            return f"{name} bounds {right.value} by {answer.bound}", True
        broken = violation(m)
        if broken > FEASIBLE:
            return f"the point of {name} violates the model by {broken}", True
    return start_disagreement(m, right, sign), answered


def start_disagreement(m, right: Answer, sign: float) -> str | None:
    try:
        start = find_start(m, time_limit=0.2)
    except REFUSED:
        return None
    if not start.feasible:
        return None
    broken = violation(m)
    if broken > FEASIBLE:
        return f"the start violates the model by {broken}"
    if right.refused is not None and any(w in right.refused for w in BEYOND):
        return None
    if right.value is None:
        return f"find_start calls {start.value} feasible; the model has no optimum"
    assert start.value is not None
    if sign * (start.value - right.value) < -CLOSE * max(1.0, abs(right.value)):
        return f"find_start gives {start.value}, better than {right.value}"
    return None


def edited(seed: int) -> tuple[object | None, list[str]]:
    """A random model after one to four random edits; None if one of them is refused.

    The first two of neighbouring seeds go round the list, so that forty meet nearly all.
    """
    rng = np.random.default_rng(seed)
    m = random_model(seed, FORMULATIONS[int(rng.integers(len(FORMULATIONS)))])
    kinds = sorted(EDITS)
    names = rng.choice(kinds, size=int(rng.integers(1, 5)))
    for k in range(min(2, len(names))):
        names[k] = kinds[(2 * seed + k) % len(kinds)]
    rng.shuffle(names)
    logging.disable(logging.WARNING)
    try:
        return apply_edits(m, names.tolist(), rng)
    except REFUSED:
        return None, names.tolist()
    finally:
        logging.disable(logging.NOTSET)


def run(seeds) -> None:
    wrong, answered = [], 0
    for seed in seeds:
        m, names = edited(seed)
        if m is None:
            continue
        found, given = disagreement(m)
        answered += given
        if found is not None:
            wrong.append((seed, names, found))
    assert not wrong
    assert answered > 0.4 * len(seeds), "most sequences were refused"


def test_enough_kinds():
    assert len(EDITS) >= 30


def test_random_edits():
    run(range(40))


def test_edits_that_went_wrong():
    # A scaled copy of a model whose bounds rely on its rows: the check of the box asked for
    # changes, which asked a row that checks the box.
    # An integer with bounds that aren't whole: its values were counted from the bound.
    for seed in (1330, 1436):
        m, _ = edited(seed)
        assert disagreement(m)[0] is None


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_more_random_edits(block):
    run(range(1000 + 50 * block, 1050 + 50 * block))
