"""Another network in the same block: between the same variables, wholly or not at all."""

from __future__ import annotations

import pickle

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.dae import ContinuousSet, DerivativeVar

from pyomo_relu import (
    Network,
    NetworkBuilder,
    ReLUNetBlock,
    activations,
    compute_bounds,
    read_network,
)
from pyomo_relu.formulations import BigM
from pyomo_relu.presolve.model_bounds import InfeasibleModelError
from pyomo_relu.presolve.model_scope import is_stale
from tests.block.support import dense, optimum, small_network, wired
from tests.formulations.test_swap import lp_text
from tests.harness.checks import solver_or_skip

UP = dense([([[1.0], [-1.0]], [0.0, 0.5]), ([[1.0, 1.0]], [0.0])])
DOWN = dense([([[-3.0], [2.0]], [1.0, 0.5]), ([[1.0, -1.0]], [0.0])])


def one_input(net=UP, **options):
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(-1, 1))
    m.net = ReLUNetBlock(network=net, inputs=[m.x], **options)
    m.row = pyo.Constraint(expr=m.net.outputs[0] + m.x <= 1.25)
    m.obj = pyo.Objective(expr=m.net.outputs[0] + 0.1 * m.x, sense=pyo.maximize)
    return m


class Story:
    """A model that is changed at random, and what it must be equal to."""

    CHANGES = (
        "replace",
        "replace",
        "reformulate",
        "tighten",
        "widen",
        "shrink",
        "bound_output",
        "unbound_output",
        "fail",
        "copy",
        "solve",
    )

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.net = small_network(self.rng)
        self.low, self.high = -1.0, 1.0
        self.limits: dict[int, list] = {0: [None, None], 1: [None, None]}
        self.m = wired(self.net, self.formulation())
        self.persistent = None

    def formulation(self) -> str:
        names = ("bigm", "hull", "partition", "cuts", "disjunctive")
        return names[int(self.rng.integers(len(names)))]

    def step(self) -> str:
        what = self.CHANGES[int(self.rng.integers(len(self.CHANGES)))]
        getattr(self, what)()
        return what

    def replace(self) -> None:
        self.net = small_network(self.rng)
        choice = None if self.rng.random() < 0.7 else self.formulation()
        bounds = None if self.rng.random() < 0.7 else "interval"
        self.m.net.replace_network(self.net, formulation=choice, bounds=bounds)

    def reformulate(self) -> None:
        self.m.net.reformulate(self.formulation())

    def tighten(self) -> None:
        try:
            self.m.net.tighten(("lp", "crown", "model")[int(self.rng.integers(3))])
        except InfeasibleModelError:  # by the bounds that were set on outputs
            assert self.right() is None

    def widen(self) -> None:
        self.low, self.high = self.low - 0.2, self.high + 0.3
        self._move()

    def shrink(self) -> None:
        self.low, self.high = 0.8 * self.low, 0.8 * self.high
        self._move()

    def _move(self) -> None:
        for v in self.m.x.values():
            v.setlb(self.low)
            v.setub(self.high)
        self.m.net.reformulate()

    def bound_output(self) -> None:
        k, side = int(self.rng.integers(2)), int(self.rng.integers(2))
        middle = self.net.evaluate(np.zeros(2))[k]
        v = self.m.net.outputs[k]
        if (
            v.lb is not None and self.rng.random() < 0.3
        ):  # the very number that the network gave
            number = float((v.lb, v.ub)[side])
        else:
            number = float(middle + (2 * side - 1) * self.rng.uniform(0.0, 2.0))
        self.limits[k][side] = number
        (v.setlb, v.setub)[side](number)
        # A looser bound than the network's lets a solver past it, but not past the rows.

    def unbound_output(self) -> None:
        k = int(self.rng.integers(2))
        self.limits[k] = [None, None]
        self.m.net.outputs[k].setlb(None)
        self.m.net.outputs[k].setub(None)

    def fail(self) -> None:
        before = lp_text(self.m)
        wrong = small_network(self.rng, 3)
        with pytest.raises(ValueError, match="has 3 inputs, the block 2"):
            self.m.net.replace_network(wrong)
        with pytest.raises(ValueError, match="another network"):
            self.m.net.replace_network(
                small_network(self.rng), bounds=compute_bounds(wrong, -9.0, 9.0)
            )
        assert lp_text(self.m) == before

    def copy(self) -> None:
        self.persistent = None
        self.m = (
            self.m.clone()
            if self.rng.random() < 0.5
            else pickle.loads(pickle.dumps(self.m))
        )

    def solve(self) -> None:
        optimum(self.m)

    def right(self) -> float | None:
        """The optimum of a model that is made anew."""
        fresh = wired(self.net, "bigm", self.low, self.high)
        for k, (low, high) in self.limits.items():
            v = fresh.net.outputs[k]
            v.setlb(v.lb if low is None else max(low, v.lb))
            v.setub(v.ub if high is None else min(high, v.ub))
        return optimum(fresh)

    def check(self) -> None:
        right = self.right()
        if self.persistent is None:
            self.persistent = solver_or_skip()
            self.persistent.options["mip_rel_gap"] = 1e-9
        if is_stale(self.m.net, self.m.net.bounds):  # bounds that relied on the model
            with pytest.raises(ValueError, match="changed since"):
                optimum(self.m)
            self.m.net.reformulate()
        try:
            pyo.assert_optimal_termination(self.persistent.solve(self.m))
            found = pyo.value(self.m.obj)
            assert self.m.net.error() < 1e-5
        except RuntimeError:
            found = None
        assert (found is None) == (right is None)
        assert found is None or found == pytest.approx(right, abs=1e-5)


def tell(seed: int, steps: int) -> None:
    story = Story(seed)
    done = []
    for _ in range(steps):
        done.append(story.step())
        try:
            story.check()
        except Exception as e:
            raise AssertionError(f"seed {seed}, after {done}: {e}") from e


@pytest.mark.parametrize("seed", range(8))
def test_after_any_changes_the_model_is_the_fresh_one(seed):
    tell(seed, 8)


def test_a_model_can_be_copied_whatever_became_of_its_disjuncts(caplog):
    # Index sets that layers shared belonged to blocks that were gone.
    tell(66, 13)
    assert "uncopyable" not in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8, 158))
def test_after_many_changes_the_model_is_the_fresh_one(seed):
    tell(seed, 20)


def test_rows_and_objective_follow():
    m = one_input()
    outputs, inputs = m.net.outputs, m.net.inputs
    before = optimum(m)
    m.net.replace_network(DOWN)
    assert m.net.outputs is outputs and m.net.inputs is inputs
    assert m.net.network is DOWN
    assert optimum(m) == pytest.approx(optimum(one_input(DOWN)), abs=1e-7) != before
    assert m.net.error() < 1e-7


@pytest.mark.parametrize("name", ["appsi", "contrib", "gurobi"])
def test_persistent_solvers_notice(name):
    if name == "appsi":
        from pyomo.contrib.appsi.solvers import Highs

        solver = Highs()
    else:
        from pyomo.contrib.solver.common.factory import SolverFactory

        solver = SolverFactory({"contrib": "highs", "gurobi": "gurobi_persistent"}[name])
    if not solver.available():
        pytest.skip(f"{name} is not available")
    m = one_input()
    solver.solve(m)
    assert pyo.value(m.obj) == pytest.approx(optimum(one_input()), abs=1e-6)
    for net, formulation in ((DOWN, None), (UP, "hull"), (DOWN, "partition")):
        m.net.replace_network(net, formulation=formulation)
        solver.solve(m)
        assert pyo.value(m.obj) == pytest.approx(optimum(one_input(net)), abs=1e-6)
        assert m.net.error() < 1e-6


def test_a_persistent_solver_meets_another_objective_first():
    from pyomo.contrib.appsi.solvers import Highs

    m, solver = one_input(), Highs()
    solver.solve(m)
    m.obj.set_value(-m.net.outputs[0])
    m.net.replace_network(DOWN)
    m.x.setub(0.5)
    solver.solve(m)
    fresh = one_input(DOWN)
    fresh.obj.set_value(-fresh.net.outputs[0])
    fresh.x.setub(0.5)
    assert pyo.value(m.obj) == pytest.approx(optimum(fresh), abs=1e-6)


def test_what_does_not_fit_changes_nothing(monkeypatch):
    m = one_input(formulation={"r0": "hull"})
    m.net.outputs[0].setub(0.7)
    optimum(m)
    before = lp_text(m)
    two = dense([([[1.0, 1.0]], [0.0]), ([[1.0], [2.0]], [0.0, 0.0])])
    named = Network(UP.nodes, UP.outputs, UP.inputs, None, ["H2"])
    other = dense([([[1.0]], [0.0])])
    for net, options, message in (
        (two, {}, "has 2 inputs, the block 1; another number needs another block"),
        (None, {}, "takes one network for one block, not NoneType"),
        ({0: UP}, {}, "one network for one block, not dict; a mapping from indices"),
        (other, {}, "names 'r0', which is no nonlinear layer"),
        (DOWN, {"formulation": "convex"}, "no formulation 'convex'"),
        (DOWN, {"formulation": "bigm", "part": 2}, "no option 'part'"),
        (DOWN, {"bounds": compute_bounds(UP, -1, 1)}, "of another network"),
        (DOWN, {"bounds": compute_bounds(DOWN, -0.5, 1)}, "smaller box"),
        (DOWN, {"bounds": "tight"}, "no bounds 'tight'"),
    ):
        with pytest.raises(ValueError, match=message):
            m.net.replace_network(net, **options)
        assert lp_text(m) == before and m.net.network is UP

    def fail(self, layer):
        raise ValueError("no")

    with monkeypatch.context() as patch:
        patch.setattr(BigM, "write_piecewise", fail)
        with pytest.raises(ValueError, match="no"):
            m.net.replace_network(DOWN, formulation="bigm")
    assert lp_text(m) == before and m.net.network is UP
    m.net.replace_network(named)
    assert m.net.network.output_names is None  # the block's outputs have none


def test_what_was_prepared_for_the_old_network_is_refused():
    m = one_input()
    old = m.net.prepare("hull")
    m.net.replace_network(DOWN)
    before = lp_text(m)
    with pytest.raises(ValueError, match="of another network than the block has; prepare"):
        m.net.install(old)
    assert lp_text(m) == before


def test_names_are_the_blocks():
    names = {"input_names": ["flow"], "output_names": ["H2"]}
    m = one_input(UP, formulation="bigm")
    m.named = ReLUNetBlock(network=UP, inputs=[m.x], **names)
    with pytest.raises(ValueError, match="output 0 of the new network is 'N2', the block"):
        m.named.replace_network(DOWN, input_names=["flow"], output_names=["N2"])
    with pytest.raises(ValueError, match="input 0 of the new network is 'steam'"):
        m.named.replace_network(DOWN, input_names=["steam"])
    m.named.replace_network(DOWN)
    assert m.named.network.output_names == ("H2",)
    m.x.fix(0.25)
    optimum(m)
    assert m.named.outputs["H2"].value == pytest.approx(DOWN.evaluate([0.25])[0])
    m.named.replace_network(UP, **names)


def test_values_are_the_new_networks():
    m = one_input()
    m.net.replace_network(DOWN)
    assert m.net.outputs[0].value is None and m.x.value is None
    m.x.set_value(0.5)
    m.net.replace_network(UP)
    assert m.net.outputs[0].value == UP.evaluate([0.5])[0]
    assert m.net.error() == 0.0
    m.net.outputs[0].fix(0.1)
    m.net.replace_network(DOWN)
    assert m.net.outputs[0].value == 0.1 and m.net.outputs[0].fixed


def test_bounds_of_the_old_network_go_and_the_users_stay():
    """A bound may be the user's though it has the network's number."""
    b = NetworkBuilder()
    x = b.affine("h", [(b.input("x", (1,)), [[1.0]])], [0.0])
    relu = b.build([b.piecewise("r", x, activations.relu())])
    m = one_input(relu)
    assert m.net.outputs[0].lb == 0.0
    m.net.outputs[0].setlb(0.0)
    m.net.outputs[0].setub(0.9)
    copies = [m, m.clone(), pickle.loads(pickle.dumps(m))]
    for copy in copies:
        copy.net.tighten("lp")
        copy.net.replace_network(DOWN)
        assert copy.net.outputs[0].bounds == (0.0, 0.9)
        copy.net.outputs[0].setlb(None)
        copy.net.reformulate("hull")
        low, high = DOWN.evaluate([1.0])[0], 0.9
        assert copy.net.outputs[0].lb == pytest.approx(low) and low < 0
        assert copy.net.outputs[0].ub == high


def test_a_users_bound_that_is_a_parameter():
    m = one_input()
    m.top = pyo.Param(initialize=0.6, mutable=True)
    m.net.outputs[0].setub(m.top)
    m.net.replace_network(DOWN)
    assert optimum(m) == pytest.approx(optimum_with_top(0.6), abs=1e-6)
    m.top = 0.3
    assert optimum(m) == pytest.approx(optimum_with_top(0.3), abs=1e-6)
    m.net.replace_network(DOWN)
    assert optimum(m) == pytest.approx(optimum_with_top(0.3), abs=1e-6)


def optimum_with_top(top: float) -> float | None:
    m = one_input(DOWN)
    m.net.outputs[0].setub(top)
    return optimum(m)


def test_without_a_formulation_and_with_a_file(tmp_path):
    m = one_input(UP, formulation=None)
    m.net.replace_network(DOWN)
    assert m.net.component("layer") is None and m.net.network is DOWN
    m.net.reformulate("bigm")
    assert optimum(m) == pytest.approx(optimum(one_input(DOWN)), abs=1e-7)
    UP.save(tmp_path / "up.npz")
    m.net.replace_network(str(tmp_path / "up.npz"))
    assert optimum(m) == pytest.approx(optimum(one_input(UP)), abs=1e-7)


def test_tightened_bounds_go_and_the_method_stays():
    m = one_input(UP, bounds="interval")
    m.net.tighten("lp")
    m.net.replace_network(DOWN)
    assert m.net.bounds.method == "interval" and m.net.bounds.network is DOWN
    m = one_input(UP, bounds=compute_bounds(UP, -1, 1, "lp"))
    m.net.replace_network(DOWN)
    assert m.net.bounds.network is DOWN


def test_a_block_that_reads_another():
    """Bounds of the second block's inputs are the first one's outputs."""
    m = one_input()
    m.second = ReLUNetBlock(network=UP, inputs=[m.net.outputs[0]])
    m.net.replace_network(DOWN)
    with pytest.raises(
        ValueError, match=r"net.outputs\[0\]' were widened .* second.reformulate\(\)"
    ):
        optimum(m)
    m.second.reformulate()
    m.x.fix(0.5)
    optimum(m)
    middle = DOWN.evaluate([0.5])
    assert m.second.outputs[0].value == pytest.approx(UP.evaluate(middle)[0], abs=1e-6)


# ------------------------------------------------------------------------------ indexed
def indexed(networks, index=range(3)):
    m = pyo.ConcreteModel()
    m.x = pyo.Var(index, bounds=(-1, 1))
    m.net = ReLUNetBlock(index, network=networks, inputs=lambda m, i: [m.x[i]])
    m.obj = pyo.Objective(
        expr=sum((i + 1) * m.net[i].outputs[0] for i in index), sense=pyo.maximize
    )
    return m


def test_indexed_one_or_each():
    m = indexed(UP)
    m.net.replace_network(DOWN)
    assert optimum(m) == pytest.approx(optimum(indexed(DOWN)), abs=1e-6)
    each = {0: UP, 1: DOWN, 2: UP}
    m.net.replace_network(each, formulation="hull", bounds="interval")
    assert optimum(m) == pytest.approx(optimum(indexed(each)), abs=1e-6)
    assert m.net.error() < 1e-6
    m.net[1].replace_network(UP)
    assert optimum(m) == pytest.approx(optimum(indexed(UP)), abs=1e-6)


def test_indexed_all_or_nothing():
    m = indexed(UP)
    before = lp_text(m)
    wrong = dense([([[1.0, 1.0]], [0.0])])
    for networks, message in (
        ({0: DOWN, 1: DOWN, 2: wrong}, r"'net\[2\]': the new network has 2 inputs"),
        ({0: DOWN, 1: DOWN}, "the new networks lack index 2"),
        ({0: DOWN, 1: DOWN, 2: DOWN, 3: DOWN}, "there is no block 3 to replace"),
    ):
        with pytest.raises(ValueError, match=message):
            m.net.replace_network(networks)
        assert lp_text(m) == before


def test_points_that_a_discretization_adds_have_the_new_network():
    m = pyo.ConcreteModel()
    m.t = ContinuousSet(bounds=(0, 1))
    m.x = pyo.Var(m.t, bounds=(-1, 1))
    m.dx = DerivativeVar(m.x, wrt=m.t)
    m.net = ReLUNetBlock(m.t, network=UP, inputs=lambda m, t: [m.x[t]])
    m.net.replace_network(DOWN)
    pyo.TransformationFactory("dae.finite_difference").apply_to(m, nfe=3)
    assert len(m.net) == 4
    assert all(data.network is DOWN for data in m.net.values())


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("scaler", ["input_scaler", "output_scaler"])
def test_scalers_must_be_told_again(indexed, scaler):
    """A retrained network without its scaler would solve, with wrong values."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(-1, 1))
    index = [pyo.RangeSet(2)] if indexed else []
    scale = {scaler: (0.5, 2.0)}
    m.net = ReLUNetBlock(*index, network=UP, inputs=lambda b, *t: [m.x], **scale)
    blocks = [m.net[1], m.net[2]] if indexed else [m.net]
    before = lp_text(m)
    for part in (m.net, blocks[0]):
        with pytest.raises(ValueError, match=f"was made with {scaler}=, which"):
            part.replace_network(DOWN)
    assert lp_text(m) == before
    m.net.replace_network(DOWN, **scale)
    wanted = read_network(DOWN, **scale).evaluate([[0.25]])
    for block in blocks:
        np.testing.assert_allclose(block.evaluate([[0.25]]), wanted)
    with pytest.raises(ValueError, match=f"{scaler}=None if it is in the model's units"):
        m.net.replace_network(UP)
    m.net.replace_network(UP, **{scaler: None})
    m.net.replace_network(DOWN)  # what has no scaler needs no word
    np.testing.assert_allclose(blocks[0].evaluate([[0.25]]), DOWN.evaluate([[0.25]]))
