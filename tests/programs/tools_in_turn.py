"""Tools that call HiGHS, in one process, in every order or a drawn one.

    python -m tests.programs.tools_in_turn THREADS STEPS SEED

THREADS is the setting of Pyomo's own solvers (``-`` for none): theirs live in the thread of
the caller, where HiGHS keeps the first number for good, so one process has one. Our own
get unset, 1 and 2 by turns. STEPS is a number of tools drawn at random, or ``all`` for each
ordered pair of tools. Each tool knows its answer; what differs is printed, and counts.
"""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pyomo.environ as pyo
from pyomo.contrib.solver.common.factory import SolverFactory as NewFactory

from pyomo_relu import ReLUNetBlock, find_start
from tests.harness.random_networks import he_network

NETWORK = he_network(3, [3, 8, 2])
LEVEL = float(NETWORK.evaluate(np.array([0.1, 0.2, 0.3]))[1])


def model(**options) -> pyo.ConcreteModel:
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(3), bounds=(-1, 1))
    m.whole = pyo.Var(domain=pyo.Integers, bounds=(-2, 2))
    m.net = ReLUNetBlock(network=NETWORK, inputs=m.x, **options)
    m.row = pyo.Constraint(expr=m.net.outputs[1] + m.x[0] + 0.1 * m.whole <= LEVEL)
    m.objective = pyo.Objective(expr=m.net.outputs[0] + 0.05 * m.whole)
    return m


def old(name: str, threads: int | None, **keywords) -> float:
    m = model()
    solver = pyo.SolverFactory(name)
    if threads is not None:
        solver.options["threads"] = threads
    solver.solve(m, **keywords)
    return float(pyo.value(m.objective))


def new(name: str, threads: int | None, **keywords) -> float:
    m = model()
    keywords |= {} if threads is None else {"threads": threads}
    result = NewFactory(name).solve(m, **keywords)
    value, bound = result.incumbent_objective, result.objective_bound
    # A bound may be behind, never ahead.
    assert bound is None or bound <= value + 1e-6 * max(1.0, abs(value)), (value, bound)
    return float(pyo.value(m.objective))


def start(threads: int | None) -> float:
    m = model()
    found = find_start(m, time_limit=200.0)
    assert found.feasible
    # A start is no optimum: what it is worth shows in the solve that it begins.
    return old("relu_highs", threads)


def tighten(rung: str):
    def run(threads: int | None) -> float:
        m = model()
        m.net.tighten(rung)
        low, high = m.net.bounds.outputs
        return float(np.concatenate([low, high]).sum())

    return run


def cuts(threads: int | None) -> float:
    m = model(formulation="cuts")
    pyo.SolverFactory("relu_highs").solve(
        m, boxes=0, **({} if threads is None else {"threads": threads})
    )
    return float(pyo.value(m.objective))


def parametric(threads: int | None) -> float:
    from pyomo_relu.differentiable import ParametricMILP

    m = pyo.ConcreteModel()
    m.need = pyo.Param(initialize=1.5, mutable=True)
    m.n = pyo.Var(domain=pyo.Integers, bounds=(0, 5))
    m.s = pyo.Var(bounds=(0, 5))
    m.enough = pyo.Constraint(expr=m.n + m.s >= m.need**2)
    m.cost = pyo.Objective(expr=3 * m.n + 4 * m.s)
    return float(ParametricMILP.from_pyomo(m, [m.need]).value_and_grad()[0])


def training(threads: int | None) -> float:
    from pyomo_relu.training import BinaryNetClassifier

    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, (12, 3))
    classifier = BinaryNetClassifier((), loss="hinge", random_state=0)
    classifier.fit(x, (x[:, 0] > x[:, 1]).astype(int))
    return float(classifier.loss_)


#: Pyomo's own, and ours.
FOREIGN = {
    "appsi_highs": lambda t: old("appsi_highs", t),
    "new highs": lambda t: new("highs", t),
}
OWN = {
    "relu_highs": lambda t: old("relu_highs", t),
    "relu_highs without boxes": lambda t: old("relu_highs", t, boxes=0),
    "new relu_highs": lambda t: new("relu_highs", t, boxes=0),
    "relu_global": lambda t: new("relu_global", None),
    "relu_global units": lambda t: old("relu_global", None, leaf_neurons=2),
    "find_start": start,
    **{f"tighten {r}": tighten(r) for r in ("lp", "rolling", "mip", "model", "boxes")},
    "cuts": cuts,
    "ParametricMILP": parametric,
    "training": training,
}


def turns(steps: str, seed: int) -> list[str]:
    """Names in an order; each ordered pair of neighbours at least once for ``all``."""
    names = [*FOREIGN, *OWN]
    if steps == "all":
        return [name for pair in itertools.product(names, names) for name in pair]
    return np.random.default_rng(seed).choice(names, int(steps)).tolist()


def main(threads: str, steps: str, seed: str) -> int:
    foreign = None if threads == "-" else int(threads)
    own = itertools.cycle([None, 1, 2, 2, 1])
    right: dict[str, float] = {}
    wrong = 0
    before = "nothing"
    for name in turns(steps, int(seed)):
        try:
            value = FOREIGN[name](foreign) if name in FOREIGN else OWN[name](next(own))
        except Exception as error:
            print(f"{name} after {before}: {type(error).__name__}: {error}")
            wrong, before = wrong + 1, name
            continue
        solves = name in FOREIGN or name.startswith(("relu", "new", "cuts", "find"))
        known = right.setdefault("optimum" if solves else name, value)
        if abs(value - known) > 1e-4 * max(1.0, abs(known)):
            print(f"{name} after {before}: {value} instead of {known}")
            wrong += 1
        before = name
    print(f"{wrong} wrong; {right}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
