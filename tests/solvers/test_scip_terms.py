"""Whose turn a node is: how far terms are off, and what the handler makes of it."""

from __future__ import annotations

import importlib

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import ReLUNetBlock
from pyomo_relu.presolve.reading import read_problem
from tests.harness.random_networks import he_network

pytest.importorskip("pyscipopt")
pytest.importorskip("highspy")
terms = importlib.import_module("pyomo_relu.solvers.scip.terms")
handler = importlib.import_module("pyomo_relu.solvers.scip.handler")


class Variable:
    """What is asked of a variable of SCIP."""

    def __init__(self, value: float = 0.0, low: float = 0.0, high: float = 1.0) -> None:
        self.value, self.low, self.high = value, low, high

    def getLPSol(self) -> float:
        return self.value

    def getLbGlobal(self) -> float:
        return self.low

    def getUbGlobal(self) -> float:
        return self.high


class Scip:
    """What is asked of SCIP."""

    candidates = False

    def getTransformedVar(self, v: Variable) -> Variable:
        return v

    def getNLPBranchCands(self) -> bool:
        return self.candidates


def product(sense: str) -> tuple[pyo.ConcreteModel, object, dict[str, Variable]]:
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(2), bounds=(0, 4))
    m.net = ReLUNetBlock(
        network=he_network(0, (1, 4, 1)), inputs=[m.x[0]], formulation=None
    )
    body = m.x[0] * m.x[1] + m.net.outputs[0]
    m.row = pyo.Constraint(expr=body == 3 if sense == "==" else body <= 3)
    m.obj = pyo.Objective(expr=m.x[0] - m.x[1])
    p = read_problem(m, general=True)
    variables = {v.name: Variable() for v in p.columns}
    found = terms.Terms(p, [variables[v.name] for v in p.columns])
    part = variables["nonlinear part of row"]
    variables["x[0]"].value, variables["x[1]"].value = 2.0, 3.0
    part.low, part.high = 0.0, 16.0
    found.begin(Scip())
    return m, found, variables


@pytest.mark.parametrize(
    "sense, value, off",
    [
        ("==", 4.0, 2.0 / 16.0),
        ("==", 7.0, 1.0 / 16.0),
        ("==", 6.0 + 1e-7, 0.0),  # as good as on it
        ("<=", 4.0, 2.0 / 16.0),
        ("<=", 7.0, 0.0),  # it may be above, where it shall be small
    ],
)
def test_a_term_is_off_by_a_share_of_its_range(sense, value, off):
    m, found, variables = product(sense)
    variables["nonlinear part of row"].value = value
    assert found.off() == pytest.approx(off)


def test_without_a_range_or_a_value():
    m, found, variables = product("==")
    variables["nonlinear part of row"].high = 1e20
    found.begin(Scip())
    assert found.off() == pytest.approx(1.0)  # 6 of 6
    variables["x[0]"].value = float("nan")
    assert found.off() == float("inf")


@pytest.mark.parametrize(
    "term, network, fractional, first",
    [
        (0.2, 0.1, False, True),
        (0.1, 0.2, False, False),
        (0.0, 0.2, False, False),
        (0.1, 0.2, True, True),
    ],
)
def test_who_is_further_off_goes_first(term, network, fractional, first):
    one = handler.NetworkHandler.__new__(handler.NetworkHandler)
    one.program, one.terms, one.networks = Scip(), Scip(), Scip()
    one.program.scip = Scip()
    one.program.scip.candidates = fractional
    one.terms.off = lambda: term
    one.networks.off = lambda z, ranges: np.array([0.05, network])
    one._ranges = np.ones(2)
    assert one._others_first(np.arange(2), np.zeros(3)) is first
    one.terms = None
    assert one._others_first(np.arange(2), np.zeros(3)) is False


@pytest.mark.parametrize("in_lp", [True, False])
def test_a_box_that_cannot_be_split_asks_for_rows_only_beside_an_lp(in_lp):
    """SCIP ends with an error where a handler separates without an LP."""
    one = handler.NetworkHandler.__new__(handler.NetworkHandler)
    one.program, one.counts, one.every = Scip(), Scip(), []
    one.program.scip = Scip()
    one.program.scip.getDualbound = lambda: 1.5
    one.counts.open, one.counts.cutoffs = None, 0
    one._separate = lambda *_: handler.SCIP_RESULT.SEPARATED
    found = one._give_up(np.zeros(1), np.zeros(1), np.ones(1), in_lp)
    wanted = handler.SCIP_RESULT
    assert found == (wanted.SEPARATED if in_lp else wanted.CUTOFF)
    assert one.counts.open == (None if in_lp else 1.5)
