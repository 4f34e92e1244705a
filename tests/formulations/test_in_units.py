"""The optimum does not depend on the units of inputs, outputs or inner values."""

from __future__ import annotations

import logging

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.gdp import Disjunct, Disjunction

from pyomo_relu import NetworkBuilder, ReLUNetBlock, activations
from pyomo_relu.formulations import FORMULATIONS
from tests.harness.checks import solver_or_skip
from tests.harness.formulations import assert_values_hold
from tests.harness.in_units import in_units

MIP = ("appsi_highs", "gurobi_direct", "scip_direct", "cbc")
SOS = ("gurobi_direct", "scip_direct", "cbc")
#: Formulations with their options and the solvers that take them.
CHOICES: dict = {
    "bigm": ("bigm", {}, MIP),
    "auto": ("auto", {}, MIP),
    "hull": ("hull", {}, MIP),
    "partition": ("partition", {"parts": 2}, MIP),
    "cuts": ("cuts", {}, MIP),
    "logarithmic": ("logarithmic", {}, MIP),
    "disjunctive": ("disjunctive", {}, MIP),
    "disjunctive inputs": ("disjunctive", {"space": "inputs"}, MIP),
    "disjunctive gdp.bigm": ("disjunctive", {"transformation": "gdp.bigm"}, MIP),
    "one_sided": ("one_sided", {}, MIP),
    "relaxation": ("relaxation", {}, MIP),
    "fixed_pattern": ("fixed_pattern", {}, MIP),
    "sos1": ("sos1", {}, SOS),
    "indicator": ("indicator", {}, SOS),
    "complementarity": ("complementarity", {}, ("scip_direct",)),
}
#: Exponents of the units of inputs and outputs for which a solver itself was right: beyond
#: them it takes the user's variable for fixed, or loses it in a presolve.
EXPONENTS = {
    "appsi_highs": (-8.0, 12.0),
    "gurobi_direct": (-7.0, 8.0),
    "scip_direct": (-7.0, 8.0),
    "cbc": (-7.0, 6.0),
}
#: Where the whole program is an LP, HiGHS gives no solution for inputs below (an error,
#: no wrong answer): the row that ties them has a dual in their unit.
LP_EXPONENTS = (-7.0, 12.0)
LPS = ("relaxation", "fixed_pattern")
#: Tolerances stay as they are by default; only gaps are closed.
OPTIONS: dict = {
    "appsi_highs": {"mip_rel_gap": 1e-9, "mip_abs_gap": 1e-9},
    "gurobi_direct": {"MIPGap": 1e-9},
    "scip_direct": {"limits/gap": 1e-9},
    "cbc": {"ratioGap": 1e-9, "allowableGap": 1e-9, "preprocess": "off", "cuts": "off"},
}
#: Of the function's range. SCIP's tolerances are 1e-6 by default, products of slacks
#: included, whose roots are 1e-3; CBC prints eight digits.
TOLERANCE = {
    "appsi_highs": 1e-6,
    "gurobi_direct": 1e-6,
    "scip_direct": 1e-5,
    "cbc": 1e-5,
    "complementarity": 1e-2,
}


def optimum(world, choice: str, solver: str, output: int, sense: str, plain: bool) -> float:
    """The optimum of one output in the units of the plain network."""
    name, options, _ = CHOICES[choice]
    if name == "fixed_pattern":
        at = (world.lower + world.upper) / 2.0
        options = {"at": at if plain else at * world.inputs}
    m = world.model(name, plain, **options)
    factor = world.set_objective(m, output, sense, plain)
    if name == "one_sided":
        m.net.reformulate()  # now that there is an objective
    results = solver_or_skip(solver).solve(m, options=dict(OPTIONS[solver]))
    assert pyo.check_optimal_termination(results)
    return pyo.value(m.goal) / factor


def assert_same_optimum(choice: str, solver: str, seed: int) -> None:
    """In units as without them, one output and one sense."""
    steps = choice != "complementarity"
    linear = choice in LPS and solver == "appsi_highs"
    exponents = LP_EXPONENTS if linear else EXPONENTS[solver]
    world = in_units(seed, exponents=exponents, steps=steps)
    output = seed % len(world.outputs)
    spread = world.spread()[output]
    if spread < 1e-3:
        return  # a network that is as good as constant
    sense = ("min", "max")[seed // 2 % 2]
    # The same rows in plain units; the exact optimum is the same for all of them.
    exact = choice not in LPS
    reference = ("bigm", "appsi_highs") if exact else (choice, "appsi_highs")
    known = optimum(world, *reference, output, sense, plain=True)
    found = optimum(world, choice, solver, output, sense, plain=False)
    tolerance = TOLERANCE[choice if choice in TOLERANCE else solver]
    assert abs(found - known) <= tolerance * max(spread, 1e-2 * abs(known)), (
        f"seed {seed}: {found} in units, {known} without"
    )


def test_every_formulation_is_here():
    # Networks of few inputs, and of inputs of few values, have tests of their own.
    # Smooth units keep their units, and others are written by another formulation.
    own = {"regions", "table", "smooth"}
    assert set(FORMULATIONS) - own <= {name for name, _, _ in CHOICES.values()}


@pytest.mark.parametrize("choice", CHOICES)
def test_optimum_does_not_depend_on_units(choice):
    solvers = CHOICES[choice][2]
    solver = "appsi_highs" if "appsi_highs" in solvers else "scip_direct"
    for seed in range(6):
        assert_same_optimum(choice, solver, seed)


PRODUCT = [(c, s) for c, (_, _, solvers) in CHOICES.items() for s in solvers]


@pytest.mark.slow
@pytest.mark.parametrize("choice,solver", PRODUCT)
def test_optimum_does_not_depend_on_units_by_all_solvers(choice, solver):
    for seed in range(100, 160):
        assert_same_optimum(choice, solver, seed)


@pytest.mark.parametrize("choice", CHOICES)
def test_values_of_a_point_in_units(choice):
    """After warm_start every row, bound and set holds, and so after a swap."""
    name, options, _ = CHOICES[choice]
    for seed in range(4):
        world = in_units(seed, steps=name != "complementarity")
        if name == "fixed_pattern":
            continue  # holds in one linear region only
        m = world.model("bigm")
        m.net.reformulate(name, **options)
        if name == "relaxation":
            m.net.warm_start(m.net.network.flat_inputs(world.lower * world.inputs)[0][0])
            continue
        assert_values_hold(m, 2)


def watts(unit: float):
    """A network of two neurons that reads ``x / unit``."""
    b = NetworkBuilder()
    x = b.input("x", (1,))
    h = b.affine("scaled", [(x, [[1 / unit], [-1 / unit]])], [-0.5, 0.3])
    r = b.piecewise("relu", h, activations.relu())
    return b.build([b.affine("out", [(r, [[1.0, -1.0]])])])


def maximum(m, solver: str = "appsi_highs") -> float:
    m.goal = pyo.Objective(expr=m.net.outputs[0], sense=pyo.maximize)
    solver_or_skip(solver).solve(m)
    return pyo.value(m.goal)


@pytest.mark.parametrize("unit", [1e-6, 1e6, 1e8, 1e9, 1e10])
def test_inputs_in_watts_and_pascals(unit):
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(0, unit))
    m.net = ReLUNetBlock(network=watts(unit), inputs=[m.x])
    low, high = m.net.statistics().coefficients
    assert 1e-8 < low and high < 1e8
    assert "coefficients from" in str(m.net.statistics())
    assert maximum(m) == pytest.approx(0.5, abs=1e-6)
    assert m.x.value == pytest.approx(unit)


@pytest.mark.parametrize("unit", [1e-12, 1e7, 1e12])
def test_the_remedy_for_extreme_units(unit, caplog):
    """The warning names the variable, and what it says to do helps every solver."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(0, unit))
    with caplog.at_level(logging.WARNING):
        m.net = ReLUNetBlock(network=watts(unit), inputs=[m.x])
    assert "'x' moves in a range" in caplog.text and "* s as the input" in caplog.text
    caplog.clear()
    m = pyo.ConcreteModel()
    m.s = pyo.Var(bounds=(0, 1))
    m.net = ReLUNetBlock(network=watts(unit), inputs=[unit * m.s])
    assert not caplog.text
    for solver in MIP:
        if pyo.SolverFactory(solver).available(exception_flag=False):
            m.del_component("goal")
            assert maximum(m, solver) == pytest.approx(0.5, abs=1e-5)


def test_fixed_inputs_and_rows_of_the_user_in_units():
    unit = 1e9
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(0, unit))
    m.net = ReLUNetBlock(network=watts(unit), inputs=[m.x])
    m.x.fix(0.75 * unit)
    assert maximum(m) == pytest.approx(0.25, abs=1e-6)
    m.x.unfix()
    m.limit = pyo.Constraint(expr=m.x <= 0.8 * unit)
    m.del_component("goal")
    assert maximum(m) == pytest.approx(0.3, abs=1e-6)
    m.net.tighten("model")
    m.del_component("goal")
    assert maximum(m) == pytest.approx(0.3, abs=1e-6)
    assert m.net.error() <= 1e-6


@pytest.mark.parametrize("unit", [1e-7, 1e8])
@pytest.mark.parametrize("transformation", ["gdp.bigm", "gdp.hull"])
def test_a_block_in_a_disjunct_in_units(transformation, unit):
    m = pyo.ConcreteModel()
    m.x, m.y = pyo.Var(bounds=(0, unit)), pyo.Var(bounds=(-2, 2))
    m.a, m.b = Disjunct(), Disjunct()
    m.a.net = ReLUNetBlock(network=watts(unit), inputs=[m.x])
    m.a.row = pyo.Constraint(expr=m.y == m.a.net.outputs[0])
    m.b.row = pyo.Constraint(expr=m.y == 0.1)
    m.either = Disjunction(expr=[m.a, m.b])
    m.goal = pyo.Objective(expr=m.y, sense=pyo.maximize)
    pyo.TransformationFactory(transformation).apply_to(m)
    solver_or_skip().solve(m)
    assert pyo.value(m.goal) == pytest.approx(0.5, abs=1e-6)


def test_another_network_in_other_units():
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(0, 1e9))
    m.net = ReLUNetBlock(network=watts(1e9), inputs=[m.x])
    m.net.replace_network(watts(2e9))
    assert maximum(m) == pytest.approx(0.0, abs=1e-6)
    m.net.replace_network(watts(1e9))
    m.del_component("goal")
    assert maximum(m) == pytest.approx(0.5, abs=1e-6)


def test_a_box_given_to_the_block_holds_in_units():
    for unit in (1e-6, 1e9):
        m = pyo.ConcreteModel()
        m.x = pyo.Var(bounds=(-unit, 2 * unit))
        m.net = ReLUNetBlock(
            network=watts(unit), inputs=[m.x], input_bounds=(0, 0.75 * unit)
        )
        assert maximum(m) == pytest.approx(0.25, abs=1e-6)


def test_constant_inputs_in_units():
    b = NetworkBuilder()
    x = b.input("x", (2,))
    h = b.affine("scaled", [(x, [[1e-9, 1e-10], [-1e-9, 1e-10]])], [0.0, 0.0])
    net = b.build([b.piecewise("relu", h, activations.relu())])
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(-1e9, 1e9))
    m.net = ReLUNetBlock(network=net, inputs=[m.x, 5e9])
    assert maximum(m) == pytest.approx(1.5, abs=1e-6)
    copy = m.clone()
    assert np.array_equal(copy.net.entry_factors(0), m.net.entry_factors(0))
    copy.del_component("goal")
    assert maximum(copy) == pytest.approx(1.5, abs=1e-6)
