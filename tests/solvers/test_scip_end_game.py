"""Nodes of relu_scip as small MIPs: the program says what the networks say, and closes nodes."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.contrib.solver.common.factory import SolverFactory as NewFactory
from pyomo.contrib.solver.common.results import TerminationCondition

from pyomo_relu import ReLUNetBlock
from pyomo_relu.base.deadline import Deadline
from pyomo_relu.presolve.functions import separate
from pyomo_relu.presolve.reading import read_problem
from pyomo_relu.programs.scip import ScipModel
from pyomo_relu.solvers.scip import end_game, handler
from pyomo_relu.solvers.scip.config import ReluScipConfig
from pyomo_relu.solvers.scip.end_game import EndGame, NodeMIP
from pyomo_relu.solvers.scip.points import Points
from pyomo_relu.solvers.scip.reach import Reach
from pyomo_relu.solvers.scip.search import ScipSearch
from pyomo_relu.solvers.scip.settings import END_GAME
from pyomo_relu.solvers.scip.together import Together
from pyomo_relu.solvers.watch import Log
from tests.harness.random_networks import he_network, random_network
from tests.solvers.test_scip_random import LATE, faults
from tests.solvers.test_scip_sides import diet

#: Of random models the linear ones, by seed.
SEEDS = (4, 10, 29, 39, 42, 46, 129, 143, 145, 159)


def two_networks(seed: int) -> pyo.ConcreteModel:
    """A chain of twelve inputs, whose sides can be given, and a network of any kind."""
    rng = np.random.default_rng(seed)
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(12), bounds=(-1, 1))
    m.net = ReLUNetBlock(
        network=he_network(seed, (12, 6, 5, 2)), inputs=list(m.x.values()), formulation=None
    )
    other = random_network(
        rng, n_inputs=3, widths=[5], n_outputs=1, activations=["leaky_relu"], max_pool=True
    )
    m.other = ReLUNetBlock(network=other, inputs=[m.x[0], m.x[3], m.x[5]], formulation=None)
    m.cost = pyo.Objective(
        expr=m.net.outputs[0] - m.net.outputs[1] + 0.7 * m.other.outputs[0]
    )
    return m


@pytest.mark.parametrize("seed", range(6))
def test_the_program_of_a_node_is_the_networks(seed):
    """Over a box, on sides that a point of it has: with the inputs fixed only their outputs."""
    rng = np.random.default_rng(seed)
    problem = read_problem(two_networks(seed), Deadline(60), "a test", general=True)
    separated = separate(problem, Deadline(60))
    networks = Together(separated.functions, Reach(separated, Deadline(60)).boxes)
    end = EndGame(
        ScipModel(separated.program),
        Points(problem, separated, 0),
        networks,
        lambda cost: 1e-6,
        lambda: False,
        Deadline(60),
    )
    program = separated.program
    x, n = np.arange(problem.n), len(networks.columns)
    for _ in range(5):
        lower, upper = program.lower.copy(), program.upper.copy()
        centre = rng.uniform(-0.5, 0.5, problem.n)
        lower[x], upper[x] = centre - 0.5, centre + 0.5
        low, high = networks.spread(lower, 0.0), networks.spread(upper, 1.0)
        inside = rng.uniform(lower[x], upper[x])
        sides = _sides_at(networks, problem, inside)
        given = rng.random(networks.n_sides) < 0.3
        low[n:-1][given & (sides > 0)] = 0.5
        high[n:-1][given & (sides < 0)] = 0.5
        held = networks.held(end.every, low, high)
        found = end.program(held, lower, upper)
        assert found.is_mip
        for _ in range(4):
            point = np.clip(inside + 0.3 * rng.standard_normal(problem.n), -1, 1)
            point = np.clip(point, lower[x], upper[x])
            if (_sides_at(networks, problem, point) != sides)[given].any():
                point = inside
            fixed = replace(found, lower=found.lower.copy(), upper=found.upper.copy())
            fixed.lower[x] = fixed.upper[x] = point
            answer = NodeMIP(problem, fixed).solve()
            z = np.concatenate([point, problem.outputs(point[None])[0]])
            assert answer.solved and answer.point is not None
            assert answer.bound == pytest.approx(float(problem.cost @ z), abs=1e-5)
            assert answer.point == pytest.approx(z, abs=1e-5)


def _sides_at(networks: Together, problem, point: np.ndarray) -> np.ndarray:
    """On which sides the undecided neurons of the first network are at drivers, (S,)."""
    (k,) = np.flatnonzero(np.diff(networks.sides, axis=1).ravel())
    layers = networks.planes[k].stack.chains[networks.planes[k].position]
    own = networks.functions[k].inputs
    z, values = point[own], []
    for w, b in layers[:-1]:
        values.append(w @ z + b)
        z = np.maximum(values[-1], 0.0)
    return np.where(np.concatenate(values)[networks._neurons[k]] > 0, 1, -1)


@pytest.fixture
def at_once(monkeypatch):
    """Every node that is left is small; how many were closed."""
    whole = replace(END_GAME, first=10_000, largest=10_000, share=1e6)
    monkeypatch.setattr(end_game, "END_GAME", whole)
    # Diets need their output at its least only: moved, the LP's points would do at once.
    monkeypatch.setattr(
        handler.NetworkHandler, "_moved", lambda self, wrong, z: (wrong, False)
    )
    closed, plain = [], EndGame.close

    def close(self, *node):
        closed.append(plain(self, *node))
        return closed[-1]

    monkeypatch.setattr(EndGame, "close", close)
    return closed


@pytest.mark.parametrize("seed", SEEDS)
def test_an_end_game_at_every_node_loses_no_optimum(seed, at_once):
    assert set(faults(seed)) <= {LATE}


@pytest.mark.parametrize("first", [10_000, 8])
def test_nodes_are_closed_and_the_optimum_is_that_of_rows(first, at_once, monkeypatch):
    """From the root on, and after some branching."""
    some = replace(end_game.END_GAME, first=first, grow=1.0)
    monkeypatch.setattr(end_game, "END_GAME", some)
    m = diet(1, None)
    results = NewFactory("relu_scip").solve(m, start=None, rel_gap=1e-5)
    other = diet(1, "bigm")
    pyo.SolverFactory("appsi_highs").solve(other)
    best = pyo.value(other.cost)
    assert results.extra_info.closed_by_mip == sum(b is not None for b in at_once) > 0
    assert pyo.value(m.cost) == pytest.approx(best, rel=1e-4)
    assert results.objective_bound == pytest.approx(best, rel=1e-4)


def test_a_node_without_a_point_is_closed(at_once):
    """As long as there is no point at all, an empty program is what closes a node."""
    m = two_networks(0)
    NewFactory("relu_scip").solve(m)
    m.better = pyo.Constraint(expr=m.cost.expr <= pyo.value(m.cost) - 0.05)
    m.cost.deactivate()
    m.other_cost = pyo.Objective(expr=m.x[0])
    results = NewFactory("relu_scip").solve(
        m, start=None, load_solutions=False, raise_exception_on_nonoptimal_result=False
    )
    assert results.termination_condition is TerminationCondition.provenInfeasible
    assert results.extra_info.closed_by_mip > 0


def test_a_node_that_is_not_solved_is_branched_on(at_once, monkeypatch):
    """Programs that end at their first node close nothing, and nodes get smaller."""
    monkeypatch.setattr(end_game, "END_GAME", replace(end_game.END_GAME, nodes=0))
    m = diet(0, None)
    NewFactory("relu_scip").solve(m, start=None, rel_gap=1e-5)
    other = diet(0, "bigm")
    pyo.SolverFactory("appsi_highs").solve(other)
    assert None in at_once
    assert pyo.value(m.cost) == pytest.approx(pyo.value(other.cost), rel=1e-4)


@pytest.mark.parametrize("worse", [0.0, 0.6, 2.0])
def test_the_cutoff_is_between_the_optimum_and_the_best_point(worse):
    """A point that is better by more than the gap is found, whatever the program leaves out.

    With a cutoff below the optimum the program would be empty: its bound is then below what
    closes the node.
    """
    other = diet(0, "bigm")
    NewFactory("highs").solve(other, rel_gap=1e-9)
    problem = read_problem(diet(0, None), Deadline(60), "a test", general=True)
    separated = separate(problem, Deadline(60))
    networks = Together(separated.functions, Reach(separated, Deadline(60)).boxes)
    model, points = ScipModel(separated.program), Points(problem, separated, 0)
    model.offer = lambda point, heuristic=None: True
    gap, best = 1e-3, pyo.value(other.cost) - problem.offset
    end = EndGame(model, points, networks, lambda cost: gap, lambda: False, Deadline(600))
    end.most = 10_000
    points.incumbent.cost = best + worse * gap
    program = separated.program
    low, high = networks.spread(program.lower, 0.0), networks.spread(program.upper, 1.0)
    for close in (end.close, end.close_all):
        bound = close(low, high, program.lower, program.upper)
        assert bound is not None
        assert best - gap <= bound <= best + 1e-5
        if worse > 1.0:
            assert points.incumbent.cost == pytest.approx(best, abs=1e-5)
        points.incumbent.cost = best + worse * gap


@pytest.fixture
def whole(monkeypatch):
    """The whole tree is tried as one program from its first node on; what these tries said."""
    at_once = replace(END_GAME, whole_nodes=0, share=0.0, begin=0.0)
    for module in (end_game, handler):
        monkeypatch.setattr(module, "END_GAME", at_once)
    tried, plain = [], EndGame.close_all

    def close_all(self, *tree):
        tried.append(plain(self, *tree))
        return tried[-1]

    monkeypatch.setattr(EndGame, "close_all", close_all)
    return tried


@pytest.mark.parametrize("seed", [0, 1])
def test_one_program_closes_the_whole_tree(seed, whole):
    m, other = diet(seed, None), diet(seed, "bigm")
    results = NewFactory("relu_scip").solve(m, rel_gap=1e-5)
    pyo.SolverFactory("appsi_highs").solve(other)
    best = pyo.value(other.cost)
    assert len(whole) == results.extra_info.closed_by_mip == 1
    assert results.extra_info.mip_node_count <= 2
    assert results.termination_condition.name == "convergenceCriteriaSatisfied"
    assert pyo.value(m.cost) == pytest.approx(best, rel=1e-4)
    assert results.objective_bound == pytest.approx(best, rel=1e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_one_program_for_the_whole_tree_loses_no_optimum(seed, whole):
    assert set(faults(seed, start=None)) <= {LATE}


def test_a_whole_tree_that_is_not_closed_is_tried_again_for_longer(whole, monkeypatch):
    """Programs that are ended at once close nothing, and the tree goes on."""
    some = replace(end_game.END_GAME, whole_seconds=0.0, whole_share=1e6)
    monkeypatch.setattr(end_game, "END_GAME", some)
    m, other = diet(0, None), diet(0, "bigm")
    asked = []

    def solved(self, held, lower, upper, seconds, nodes=None):
        asked.append(seconds)
        self._next_whole = 1.0 if seconds == 0.0 else seconds

    monkeypatch.setattr(EndGame, "_solved", solved)
    NewFactory("relu_scip").solve(m, start=None, rel_gap=1e-5)
    pyo.SolverFactory("appsi_highs").solve(other)
    assert pyo.value(m.cost) == pytest.approx(pyo.value(other.cost), rel=1e-4)
    assert asked[:3] == [0.0, 2.0, 4.0]


def test_a_search_beside_another_program_leaves_the_whole_tree_alone(whole):
    m = diet(0, None)
    problem = read_problem(m, Deadline(60), "a test", general=True)
    config = ReluScipConfig()()
    log = Log(config, io.StringIO())
    search = ScipSearch(problem, config, log, Deadline(600), alone=False)
    search.run()
    assert search.answer.nodes > 2
    assert whole == []


@pytest.mark.parametrize("kind", ["linear", "product", "sets", "smooth"])
def test_end_games_are_for_what_a_program_says_all_about(kind):
    """A relaxation would close nodes whose better points it doesn't know."""
    m = diet(0, None)
    if kind == "product":
        m.product = pyo.Constraint(expr=m.x[2] * m.net.outputs[0] <= 10.0)
    elif kind == "sets":
        m.one = pyo.SOSConstraint(var=m.x, index=[2, 3], sos=1)
    elif kind == "smooth":
        curved = random_network(
            np.random.default_rng(0), n_inputs=2, widths=[3], activations=["tanh"]
        )
        m.curved = ReLUNetBlock(network=curved, inputs=[m.x[2], m.x[3]], formulation=None)
        m.level = pyo.Constraint(expr=m.curved.outputs[0] <= 10.0)
    problem = read_problem(m, Deadline(60), "a test", general=True)
    separated = separate(problem, Deadline(60))
    assert EndGame.suits(problem, separated) == (kind == "linear")


@pytest.mark.slow
@pytest.mark.parametrize("part", range(20))
def test_a_thousand_random_models_by_end_games(part, at_once):
    """No wrong answer where every node that can be is a MIP."""
    for seed in range(1000 + 50 * part, 1050 + 50 * part):
        assert set(faults(seed)) <= {LATE}, seed
