"""Every formulation of every primitive against the exact optimum, solver by solver."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.repn import generate_standard_repn

from pyomo_relu.analysis import linear_regions
from pyomo_relu.formulations import FORMULATIONS
from tests.harness.checks import (
    assert_embedding_matches,
    assert_optimum_matches,
    near_step,
)
from tests.harness.formulations import (
    assert_values_hold,
    boxed_model,
    primitive_network,
    violations,
)
from tests.harness.random_networks import ALL_ACTIVATIONS

#: Exact formulations with the options and the solvers to try.
MIP = ["appsi_highs", "scip_direct", "cbc", "glpk", "gurobi_direct"]
SOS = ["scip_direct", "cbc", "gurobi_direct"]
EXACT = {
    "bigm": ("bigm", {}, MIP),
    "auto": ("auto", {}, MIP),
    "hull": ("hull", {}, MIP),
    "partition": ("partition", {"parts": 2}, MIP),
    "cuts": ("cuts", {}, MIP),
    "logarithmic": ("logarithmic", {}, MIP),
    "disjunctive": ("disjunctive", {}, MIP),
    "disjunctive inputs": ("disjunctive", {"space": "inputs"}, MIP),
    "disjunctive gdp.bigm": ("disjunctive", {"transformation": "gdp.bigm"}, MIP),
    "sos1": ("sos1", {}, SOS),
    "indicator": ("indicator", {}, SOS),
    "complementarity": ("complementarity", {}, ["scip_direct", "gurobi_direct"]),
}
#: Those that want networks of few inputs, or inputs of few values, have tests of their own.
OF_NETWORKS = {"regions", "table"}
CASES = [*ALL_ACTIVATIONS, "max"]
#: With its defaults CBC 2.10.8 calls some feasible models infeasible (preprocessing),
#: cuts off an optimum, or stops at an assertion (cuts; SOS); GLPK 5.0's preprocessing
#: calls some infeasible. In each such case the point itself holds to 1e-12.
OPTIONS: dict = {
    "appsi_highs": {
        "mip_rel_gap": 1e-9,
        "mip_abs_gap": 1e-9,
        "mip_feasibility_tolerance": 1e-9,
        "primal_feasibility_tolerance": 1e-9,
    },
    "cbc": {"preprocess": "off", "cuts": "off"},
    "glpk": {"nointopt": ""},
    "gurobi_direct": {"MIPGap": 1e-9, "FeasibilityTol": 1e-9, "IntFeasTol": 1e-9},
}
#: What the solvers' own tolerances on binaries can make of a big-M of about 10.
TOLERANCE = {
    "appsi_highs": 1e-6,
    "scip_direct": 2e-5,
    "cbc": 2e-5,
    "glpk": 1e-3,
    "gurobi_direct": 1e-6,
}


def built(choice: str, net):
    """A model over [-1, 1]; a skipped test where the formulation refuses steps."""
    formulation, options, _ = EXACT[choice]
    continuous = all(getattr(n, "is_continuous", True) for n in net.nodes)
    if formulation == "complementarity" and not continuous:
        pytest.skip("complementarity conditions can't write a step")
    return boxed_model(net, -1.0, 1.0, formulation, **options)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "pwl_jump", "max"])
@pytest.mark.parametrize("choice", EXACT)
def test_optimum(choice, name):
    net = primitive_network(name, 1)
    m = built(choice, net)
    solver = EXACT[choice][2][0]
    assert_optimum_matches(
        m,
        m.net,
        objectives=[0],
        samples=300,
        solver=solver,
        options=OPTIONS.get(solver, {}),
        tolerance=TOLERANCE[solver],
    )


@pytest.mark.parametrize("choice", EXACT)
def test_optimum_by_gurobi(choice):
    """Through its size-limited licence, which comes with gurobipy."""
    m = built(choice, primitive_network("leaky_relu", 1))
    solver = "gurobi_direct"
    assert_optimum_matches(
        m,
        m.net,
        objectives=[0],
        samples=300,
        solver=solver,
        options=OPTIONS[solver],
        tolerance=TOLERANCE[solver],
    )


#: SCIP holds a product of slacks to 1e-6, so that each of them may be 1e-3.
OF_PRODUCTS = 2e-3

PRODUCT = [(c, s) for c, (_, _, solvers) in EXACT.items() for s in solvers]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("choice,solver", PRODUCT)
def test_product(choice, solver, name):
    what = {
        "solver": solver,
        "options": OPTIONS.get(solver, {}),
        "tolerance": OF_PRODUCTS if choice == "complementarity" else TOLERANCE[solver],
    }
    for seed in range(2, 4):
        net = primitive_network(name, seed, n_inputs=1 + seed % 2)
        m = built(choice, net)
        # Few samples: the exact optimum over all regions is known.
        assert_optimum_matches(m, m.net, objectives=[0], samples=300, **what)
        assert_embedding_matches(m, m.net, **what)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("choice", EXACT)
def test_values_of_a_point(choice, name):
    """After warm_start every constraint, bound and set of the block holds."""
    assert_values_hold(built(choice, primitive_network(name, 0)), 2)


@pytest.mark.parametrize("name", CASES)
def test_relaxation(name):
    net = primitive_network(name, 1)
    m = boxed_model(net, -1.0, 1.0, "relaxation")
    assert not any(v.is_binary() for v in m.component_data_objects(pyo.Var))
    assert_optimum_matches(m, m.net, objectives=[0], samples=300, relaxation=True)
    for x in np.random.default_rng(0).uniform(-1, 1, (4, 2)):
        m.net.warm_start(x)
        assert violations(m) == []


@pytest.mark.parametrize("name", CASES)
def test_fixed_pattern(name):
    """Its optimum is the best vertex of the point's own linear region."""
    rng = np.random.default_rng(0)
    net = primitive_network(name, 0)
    regions = linear_regions(net, [-1.0, -1.0], [1.0, 1.0])
    for x in rng.uniform(-1, 1, (2, 2)):
        m = boxed_model(net, -1.0, 1.0, "fixed_pattern", at=x)
        assert not any(v.is_binary() for v in m.component_data_objects(pyo.Var))
        m.net.warm_start(x)
        assert violations(m) == []
        r = region_of(regions, net, x)
        slope, offset = regions.output_map(r)
        values = regions.vertices(r) @ np.ravel(slope) + np.ravel(offset)
        for sense, exact in ((1.0, values.min()), (-1.0, values.max())):
            m.goal = pyo.Objective(expr=sense * m.net.outputs[0])
            pyo.SolverFactory("appsi_highs").solve(m)
            found = pyo.value(m.net.outputs[0])
            at = np.array([v.value for v in m.x.values()])
            assert near_step(net, at) or m.net.error() < 1e-6
            if name == "max":  # entries that no maximum reads aren't held
                assert sense * found <= sense * exact + 1e-6
            else:
                assert found == pytest.approx(exact, abs=1e-6)
            m.del_component("goal")


def region_of(regions, net, x) -> int:
    """The region whose polygon holds a point, and whose map is the network's there."""
    for r in range(regions.n_regions):
        corners = regions.vertices(r)
        around = corners - np.mean(corners, axis=0)
        corners = corners[np.argsort(np.arctan2(around[:, 1], around[:, 0]))]
        edges = np.roll(corners, -1, axis=0) - corners
        to_x = x - corners
        if (edges[:, 0] * to_x[:, 1] - edges[:, 1] * to_x[:, 0] >= -1e-12).all():
            return r
    raise AssertionError(f"no region holds {x}")


@pytest.mark.parametrize("choice", ["bigm", "hull", "partition"])
def test_no_coefficient_is_rounding(choice):
    """A bound of -1e-15 instead of 0 as a coefficient made GLPK run for ever."""
    for name in ("relu", "relu6", "clipped_relu", "hard_tanh", "clip", "step", "max"):
        for seed in range(2, 4):
            m = built(choice, primitive_network(name, seed))
            for c in m.component_data_objects(pyo.Constraint, active=True):
                coefs = np.abs(generate_standard_repn(c.body).linear_coefs)
                assert coefs.min() > 1e-12, (name, seed, c.name)


def test_all_formulations_are_here():
    tried = {formulation for formulation, _, _ in EXACT.values()}
    others = {"relaxation", "fixed_pattern", "smooth", "one_sided"}  # see their own tests
    assert set(FORMULATIONS) == tried | OF_NETWORKS | others
