"""A block in a Disjunct, under every transformation and with every formulation."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.gdp import Disjunct, Disjunction
from pyomo.repn import generate_standard_repn

from pyomo_relu import ReLUNetBlock
from pyomo_relu.block.disjuncts import make_relaxable
from pyomo_relu.formulations import FORMULATIONS
from tests.block.support import dense, optimum, small_network
from tests.harness.checks import solver_or_skip

TRANSFORMATIONS = (
    "gdp.bigm",
    "gdp.hull",
    "gdp.mbigm",
    "gdp.cuttingplane",
    "gdp.binary_multiplication",
)
SETS = ("sos1", "indicator")  # special ordered sets, which pyomo.gdp can't relax
#: Pyomo's cuts separate a point from a convex relaxation. Where it isn't, SCIP fails on two
#: of ten programs ("error in LP solver").
NOT_CONVEX = ("complementarity", "gdp.cuttingplane")
POINT = [0.3, -0.4]


def options_of(name: str) -> dict:
    return {"at": POINT} if name == "fixed_pattern" else {}


def model(seed: int, formulation: str, *, last: float = 2.0):
    """Either a network's output is ``y``, or a line or a second network's output is."""
    rng = np.random.default_rng(seed)
    nets = [small_network(rng, 2, 1) for _ in range(2)]
    low, high = -rng.uniform(0.5, 2.0, 2), rng.uniform(0.5, last, 2)
    slope = rng.normal(size=3).tolist()
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(2))
    for v, a, b in zip(m.x.values(), low.tolist(), high.tolist()):
        v.setlb(a)
        v.setub(b)
    m.y = pyo.Var(bounds=(-500, 500))
    m.one, m.two = Disjunct(), Disjunct()
    given = {"inputs": m.x, "formulation": formulation, **options_of(formulation)}
    m.one.net = ReLUNetBlock(network=nets[0], **given)
    m.one.row = pyo.Constraint(expr=m.y == m.one.net.outputs[0] - 0.1 * m.x[1])
    m.one.half = pyo.Constraint(expr=m.x[0] <= 0.2)
    if rng.random() < 0.5:
        m.two.net = ReLUNetBlock(network=nets[1], **given)
        m.two.row = pyo.Constraint(expr=m.y == -m.two.net.outputs[0])
    else:
        line = slope[0] * m.x[0] + slope[1] * m.x[1] + slope[2]
        m.two.row = pyo.Constraint(expr=m.y == line)
    m.two.half = pyo.Constraint(expr=m.x[0] >= -0.3)
    m.either = Disjunction(expr=[m.one, m.two])
    m.obj = pyo.Objective(expr=m.y + 0.05 * m.x[0])
    return m


def by_cases(seed: int, formulation: str = "bigm") -> float:
    """The optimum, one disjunct after the other."""
    found = []
    for k in range(2):
        m = model(seed, formulation)
        for j, disjunct in enumerate((m.one, m.two)):
            disjunct.indicator_var.fix(j == k)
        pyo.TransformationFactory("gdp.fix_disjuncts").apply_to(m)
        value = optimum(m)
        found += [] if value is None else [value]
    return min(found)


def transform(m, way: str, solver: str = "highs") -> None:
    """Some transformations solve programs on the way, nonlinear ones of nonlinear rows."""
    options: dict = {}
    if way == "gdp.mbigm":
        options = {"solver": solver_or_skip(solver), "threads": 1}
    if way == "gdp.cuttingplane":
        options = {"solver": solver}
    pyo.TransformationFactory(way).apply_to(m, **options)


def holds(seed: int, formulation: str, way: str) -> None:
    """The optimum is the one by cases, or the combination is refused."""
    if formulation in SETS:
        with pytest.raises(ValueError, match="special ordered sets .* formulation='bigm'"):
            model(seed, formulation)
        return
    if (formulation, way) == NOT_CONVEX:
        pytest.skip("gdp.cuttingplane is for convex rows, which products of slacks aren't")
    bilinear = formulation == "complementarity" or way == "gdp.binary_multiplication"
    m = model(seed, formulation)
    transform(m, way, "scip_direct" if formulation == "complementarity" else "highs")
    found = optimum(m, "scip_direct" if bilinear else "appsi_highs")
    exact = formulation not in ("relaxation", "fixed_pattern")
    right = by_cases(seed, "bigm" if exact else formulation)
    assert found == pytest.approx(right, abs=2e-4 if bilinear else 1e-5)


# A table needs inputs of few values.
NAMES = sorted(set(FORMULATIONS) - {"table"})
COMBINATIONS = list(itertools.product(NAMES, TRANSFORMATIONS))
#: Ten times slower than the others; on a small model it is in the last of these tests.
LONG = COMBINATIONS.index(("disjunctive", "gdp.mbigm"))
FEW = np.random.default_rng(5).permutation(len(COMBINATIONS))[:14].tolist()


@pytest.mark.parametrize("k", [k for k in FEW if k != LONG])
def test_some_combinations(k):
    holds(k, *COMBINATIONS[k])


@pytest.mark.parametrize("seed", range(3))
def test_the_best_known_ones(seed):
    rng = np.random.default_rng(seed)
    name = ("bigm", "hull", "partition", "disjunctive")[int(rng.integers(4))]
    holds(100 + seed, name, TRANSFORMATIONS[int(rng.integers(3))])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("formulation,way", COMBINATIONS)
def test_all_combinations(seed, formulation, way):
    holds(1000 + seed, formulation, way)


@pytest.mark.parametrize("way", TRANSFORMATIONS)
@pytest.mark.parametrize("formulation", ["bigm", "hull", "partition", "disjunctive"])
def test_rows_of_one_variable(formulation, way):
    """gdp.mbigm of Pyomo 6.10 takes the only coefficient of a row for positive.

    With 0 at the end of the input's interval, rows on copies of it lose their binary.
    """
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(-1, 0))
    m.y = pyo.Var(bounds=(-5, 5))
    m.one, m.two = Disjunct(), Disjunct()
    net = dense([([[-1.0], [1.0]], [-0.25, 0.5]), ([[-2.0, -1.0]], [0.5])])
    m.one.net = ReLUNetBlock(network=net, inputs=[m.x], formulation=formulation)
    m.one.row = pyo.Constraint(expr=m.y == m.one.net.outputs[0])
    m.two.row = pyo.Constraint(expr=m.y == 1.0)
    m.either = Disjunction(expr=[m.one, m.two])
    m.obj = pyo.Objective(expr=m.y)
    transform(m, way)
    solver = "scip_direct" if way == "gdp.binary_multiplication" else "appsi_highs"
    assert optimum(m, solver) == pytest.approx(net.evaluate([-1.0])[0], abs=1e-5)


def test_rows_of_one_variable_keep_what_they_say():
    m = pyo.ConcreteModel()
    m.x = pyo.Var()
    m.rows = pyo.ConstraintList()
    for row in (
        -m.x <= -3.0,
        -2.0 * m.x >= -8.0,
        pyo.inequality(-4.0, 1.0 - m.x, -2.0),
        1.0 - 2.0 * m.x == -6.0,
        m.x <= 5.0,
    ):
        m.rows.add(row)
    sides = []
    make_relaxable(m)
    for row in m.rows.values():
        low, body, high = row.to_bounded_expression()
        repn = generate_standard_repn(body)
        (c,) = repn.linear_coefs
        assert c > 0
        sides.append([None if b is None else (b - repn.constant) / c for b in (low, high)])
    assert sides == [[3.0, None], [None, 4.0], [3.0, 5.0], [3.5, 3.5], [None, 5.0]]


@pytest.mark.parametrize("formulation", ["bigm", "hull", "partition", "disjunctive"])
def test_an_input_that_is_fixed_while_the_block_is_written(formulation):
    """Its value then isn't one of the rows: it may be freed."""
    net = dense([([[-1.0], [1.0]], [-0.25, 0.5]), ([[-2.0, -1.0]], [0.5])])
    values = []
    for fixed in (False, True):
        m = pyo.ConcreteModel()
        m.x, m.y = pyo.Var(bounds=(-1, 1)), pyo.Var(bounds=(-5, 5))
        m.one, m.two = Disjunct(), Disjunct()
        if fixed:
            m.x.fix(0.3)
        m.one.net = ReLUNetBlock(network=net, inputs=[m.x], formulation=formulation)
        assert m.x.fixed is fixed
        m.x.unfix()
        m.one.row = pyo.Constraint(expr=m.y == m.one.net.outputs[0])
        m.two.row = pyo.Constraint(expr=m.y >= 1.0)
        m.either = Disjunction(expr=[m.one, m.two])
        m.obj = pyo.Objective(expr=m.y)
        pyo.TransformationFactory("gdp.bigm").apply_to(m)
        values.append(optimum(m))
    assert values == pytest.approx([-1.0, -1.0], abs=1e-6)


def test_fixed_variables_and_params_stay_in_rows_that_are_turned():
    m = pyo.ConcreteModel()
    m.x, m.y, m.z = pyo.Var(), pyo.Var(), pyo.Var()
    m.p = pyo.Param(initialize=2.0, mutable=True)
    m.of_fixed = pyo.Constraint(expr=1.0 - m.p * m.x <= -3.0)
    m.with_fixed = pyo.Constraint(expr=-m.y + m.z <= -3.0)
    m.x.fix(7.0)
    m.z.fix(1.0)
    make_relaxable(m)
    assert m.x.fixed and m.z.fixed
    low, body, high = m.with_fixed.to_bounded_expression()
    (c,) = generate_standard_repn(body).linear_coefs  # as gdp.mbigm reads it
    assert c > 0 and high is None
    m.p.value, m.x.value, m.y.value, m.z.value = 4.0, 1.0, 1.0, 5.0
    assert m.of_fixed.slack() == pytest.approx(0.0)  # 4 x >= 4
    assert m.with_fixed.slack() == pytest.approx(-7.0)  # y >= 3 + z


def test_reformulated_before_and_not_after():
    """relu.* finds blocks in Disjuncts; what gdp has copied stays as it is."""
    m = model(3, "bigm")
    pyo.TransformationFactory("relu.hull").apply_to(m)
    assert m.one.net.formulation == "hull"
    m.one.net.replace_network(m.one.net.network)
    clone = m.clone()
    pyo.TransformationFactory("gdp.bigm").apply_to(m)
    assert optimum(m) == pytest.approx(by_cases(3), abs=1e-5)
    for change in (
        lambda: m.one.net.reformulate("bigm"),
        lambda: m.one.net.tighten("lp"),
        lambda: m.one.net.replace_network(m.one.net.network),
        lambda: pyo.TransformationFactory("relu.bigm").apply_to(m.one.net),
    ):
        with pytest.raises(ValueError, match="'one' was transformed by pyomo.gdp"):
            change()
    assert m.one.net.formulation == "hull"
    assert optimum(m) == pytest.approx(by_cases(3), abs=1e-5)
    clone.one.net.reformulate("partition")


@pytest.mark.parametrize("way", TRANSFORMATIONS)
def test_a_box_that_was_widened_is_noticed(way):
    m = model(4, "bigm")
    m.x[1].setub(30)
    m.pprint(ostream=io.StringIO())
    with pytest.raises(ValueError, match=r"bounds of 'x\[1\]' were widened"):
        transform(m, way)
    m = model(4, "bigm")
    m.x[1].setub(30)
    m.one.net.reformulate()
    if m.two.component("net") is not None:
        m.two.net.reformulate()
    transform(m, way)


def test_given_bounds_hold_only_where_the_block_does():
    net = dense([([[1.0]], [0.0]), ([[1.0]], [0.0])])
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(-4, 4))
    m.y = pyo.Var(bounds=(-9, 9))
    m.one, m.two = Disjunct(), Disjunct()
    m.one.net = ReLUNetBlock(network=net, inputs=[m.x], input_bounds=(-1, 2))
    m.one.row = pyo.Constraint(expr=m.y == m.one.net.outputs[0])
    m.two.row = pyo.Constraint(expr=m.y == 0.1 * m.x)
    m.either = Disjunction(expr=[m.one, m.two])
    m.obj = pyo.Objective(expr=m.y + 0.01 * m.x, sense=pyo.maximize)
    for way, sense, right in (
        ("gdp.bigm", pyo.maximize, 2.02),
        ("gdp.hull", pyo.minimize, -0.44),
    ):
        copy = m.clone()
        copy.obj.sense = sense
        pyo.TransformationFactory(way).apply_to(copy)
        assert optimum(copy) == pytest.approx(right, abs=1e-6)


@pytest.mark.parametrize("way", TRANSFORMATIONS)
def test_disjunctions_of_a_block_that_is_in_no_disjunct(way):
    """``transformation=None`` leaves them to any transformation of the user's."""
    for slope in (-1.0, 2.0):
        net = dense([([[-1.0], [1.0]], [-0.25, 0.5]), ([[slope, -1.0]], [0.5])])
        m = pyo.ConcreteModel()
        m.x = pyo.Var(bounds=(-1, 0))
        m.net = ReLUNetBlock(
            network=net, inputs=[m.x], formulation="disjunctive", transformation=None
        )
        m.obj = pyo.Objective(expr=m.net.outputs[0] + 0.1 * m.x)
        right = m.clone()
        right.net.reformulate("bigm")
        transform(m, way)
        found = optimum(m, "scip_direct" if "multi" in way else "appsi_highs")
        assert found == pytest.approx(optimum(right), abs=1e-4)


def test_disjunctions_left_to_the_user_are_nested():
    for way in ("gdp.bigm", "gdp.hull"):
        m = model(6, "bigm")
        for disjunct in (m.one, m.two):
            if disjunct.component("net") is not None:
                disjunct.net.reformulate("disjunctive", transformation=None)
        pyo.TransformationFactory(way).apply_to(m)
        assert optimum(m) == pytest.approx(by_cases(6), abs=1e-5)


def test_error_and_statistics_after_a_transformation():
    m = model(7, "bigm")
    m.two.deactivate()
    pyo.TransformationFactory("gdp.bigm").apply_to(m)
    optimum(m)
    assert m.one.net.error() < 1e-6
    assert m.one.net.statistics().constraints > 0


def test_what_asks_the_whole_model_does_not_see_into_disjuncts(caplog):
    m = model(3, "bigm")
    with caplog.at_level("WARNING"):
        m.one.net.reformulate("cuts", scope="model")
    assert "which is inactive or in a Disjunct; the network alone was" in caplog.text
    with pytest.raises(ValueError, match="can't take the Disjunct 'one' into account"):
        m.one.net.tighten("model")
    assert m.one.net.formulation == "cuts"
    m.one.net.tighten("lp")
    pyo.TransformationFactory("gdp.bigm").apply_to(m)
    assert optimum(m) == pytest.approx(by_cases(3), abs=1e-5)


def test_the_model_around_disjuncts_tightens_after_the_transformation():
    m = model(3, "bigm")
    m.outside = ReLUNetBlock(network=m.one.net.network, inputs=m.x)
    m.cut = pyo.Constraint(expr=m.outside.outputs[0] >= m.y - 100)
    with pytest.raises(ValueError, match="can't take the Disjunct"):
        m.outside.tighten("model")
    m.outside.reformulate("disjunctive", transformation=None)  # these are the block's own
    pyo.TransformationFactory("gdp.bigm").apply_to(m, targets=[m.either])
    m.outside.tighten("model")
    m.outside.reformulate("bigm")
    assert optimum(m) == pytest.approx(by_cases(3), abs=1e-5)
