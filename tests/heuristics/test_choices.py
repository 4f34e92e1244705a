"""Choices of values by binaries: what rows say, and what they don't."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import ReLUNetBlock
from pyomo_relu.heuristics.choices import Choice, find_choices
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.presolve.reading import read_problem
from tests.harness.random_networks import he_network


def read(m: pyo.ConcreteModel) -> tuple[Problem, list[Choice]]:
    m.obj = pyo.Objective(expr=m.net.outputs[0])
    problem = read_problem(m)
    return problem, find_choices(problem)


def by_name(problem: Problem, choice: Choice) -> dict[str, dict[str, float]]:
    """Values of the drivers by the binary that is 1, '' for none."""
    names = [problem.columns[j].name for j in choice.columns]
    drivers = [problem.columns[j].name for j in choice.drivers]
    found = {n: dict(zip(drivers, v.tolist())) for n, v in zip(names, choice.values)}
    return found | {"": dict(zip(drivers, choice.none.tolist()))}


def grid(total: str = "==", fixed: bool = False) -> pyo.ConcreteModel:
    """A price of three, and a second input that follows the same binaries."""
    m = pyo.ConcreteModel()
    m.z = pyo.Var(range(3), domain=pyo.Binary)
    m.p, m.q, m.free = (pyo.Var(bounds=(-9, 9)) for _ in range(3))
    m.net = ReLUNetBlock(network=he_network(0, (3, 4, 1)), inputs=[m.p, m.q, m.free])
    z = sum(m.z.values())
    m.one = pyo.Constraint(expr=z == 1 if total == "==" else z <= 1)
    m.price = pyo.Constraint(expr=m.p == 1 + 2 * m.z[1] + 5 * m.z[2])
    m.other = pyo.Constraint(expr=2 * m.z[0] - 4 * m.z[2] == 2 * m.q - 6)
    if fixed:
        m.z[2].fix(0)
    return m


@pytest.mark.parametrize("total", ["==", "<="])
def test_one_of_many(total):
    problem, (choice,) = read(grid(total))
    assert choice.exactly == (total == "==")
    assert by_name(problem, choice) == {
        "z[0]": {"p": 1.0, "q": 4.0},
        "z[1]": {"p": 3.0, "q": 3.0},
        "z[2]": {"p": 6.0, "q": 1.0},
        "": {"p": 1.0, "q": 3.0},
    }


def test_what_is_fixed_is_no_choice():
    problem, (choice,) = read(grid(fixed=True))
    assert set(by_name(problem, choice)) == {"z[0]", "z[1]", ""}
    assert by_name(problem, choice)["z[1]"] == {"p": 3.0, "q": 3.0}


def test_binary_inputs():
    m = pyo.ConcreteModel()
    m.z = pyo.Var(range(3), domain=pyo.Binary)
    m.p = pyo.Var(bounds=(0, 9))
    m.net = ReLUNetBlock(network=he_network(0, (3, 4, 1)), inputs=[m.z[0], m.z[1], m.p])
    m.sum = pyo.Constraint(expr=m.z[0] + m.z[1] <= 1)
    m.row = pyo.Constraint(expr=m.p == 1.2 + 0.8 * m.z[2])
    problem, choices = read(m)
    found = [by_name(problem, c) for c in choices]
    assert found == [
        {"z[0]": {"z[0]": 1, "z[1]": 0}, "z[1]": {"z[0]": 0, "z[1]": 1}}
        | {"": {"z[0]": 0, "z[1]": 0}},
        {"z[2]": {"p": 2.0}, "": {"p": 1.2}},
    ]


@pytest.mark.parametrize("why", ["two sets", "an inequality", "two of them", "more"])
def test_what_determines_nothing(why):
    m = pyo.ConcreteModel()
    m.z = pyo.Var(range(4), domain=pyo.Binary)
    m.p, m.y = pyo.Var(bounds=(0, 9)), pyo.Var(bounds=(0, 1))
    m.net = ReLUNetBlock(network=he_network(0, (1, 4, 1)), inputs=[m.p])
    m.a = pyo.Constraint(expr=m.z[0] + m.z[1] <= (2 if why == "two of them" else 1))
    m.b = pyo.Constraint(expr=m.z[2] + m.z[3] == 1)
    value = m.z[0] + 2 * m.z[1]
    value += m.z[2] if why == "two sets" else m.y if why == "more" else 0
    m.row = pyo.Constraint(expr=m.p <= value if why == "an inequality" else m.p == value)
    _, choices = read(m)
    assert not choices


@pytest.mark.parametrize("seed", range(5))
def test_every_feasible_point_is_a_state(seed):
    """All binaries by brute force: the drivers of rows are what the choice says."""
    rng = np.random.default_rng(seed)
    m = grid(rng.choice(["==", "<="]))
    problem, (choice,) = read(m)
    at = {problem.columns[j].name: k for k, j in enumerate(choice.columns)}
    for z in np.ndindex(2, 2, 2):
        if sum(z) > 1 or (choice.exactly and not sum(z)):
            continue
        chosen = [at[f"z[{k}]"] for k in range(3) if z[k]]
        values = choice.values[chosen[0]] if chosen else choice.none
        for j, x in zip(choice.drivers, values):
            name = problem.columns[j].name
            true = 1 + 2 * z[1] + 5 * z[2] if name == "p" else z[0] - 2 * z[2] + 3
            assert x == pytest.approx(true)
