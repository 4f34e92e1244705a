"""Adversarial distances against brute force over grids of a few free pixels."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import NetworkBuilder, activations, read_network
from pyomo_relu.adversarial import find_adversarial
from pyomo_relu.base import deadline
from pyomo_relu.base.deadline import NEVER, Deadline
from tests.harness.clock import Crowd
from tests.harness.random_networks import he_network


def grid(low, high, n: int) -> np.ndarray:
    """All points of a grid over the inputs that may move."""
    low, high = np.asarray(low), np.asarray(high)
    free = np.flatnonzero(high > low)
    axes = np.meshgrid(*[np.linspace(low[i], high[i], n) for i in free], indexing="ij")
    points = np.tile(low, (axes[0].size, 1))
    points[:, free] = np.stack(axes, axis=-1).reshape(-1, len(free))
    return points


def brute_force(net, x, points, norm, wins) -> float:
    d = abs(points[wins(net.evaluate(points))] - x)
    if not len(d):
        return np.inf
    return {"l1": d.sum(axis=1), "linf": d.max(axis=1), "l0": (d > 1e-12).sum(axis=1)}[
        norm
    ].min()


def agree(found, oracle: float, step: float) -> None:
    """No grid point is closer; the optimum is within a few steps of the best one."""
    assert found.status == "optimal"
    assert found.bound == pytest.approx(found.distance, abs=1e-4)
    assert oracle - 4 * step - 1e-3 <= found.distance <= oracle + 1e-3


@pytest.fixture(scope="module")
def digits():
    sklearn = pytest.importorskip("sklearn")  # noqa: F841
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier

    x, y = load_digits(return_X_y=True)
    model = MLPClassifier((12, 8), max_iter=60, random_state=0).fit(x / 16.0, y)
    return read_network(model, logits=True), x / 16.0, y


@pytest.mark.parametrize("norm", ["l1", "linf", "l0"])
@pytest.mark.parametrize("targeted", [False, True])
def test_digits_with_few_free_pixels(digits, norm, targeted):
    net, images, _ = digits
    x = images[3]
    label = int(net.evaluate(x).argmax())
    # The three pixels that move the margin most.
    far = np.tile(x, (64, 1))
    far[np.arange(64), np.arange(64)] = np.where(x < 0.5, 1.0, 0.0)
    y = net.evaluate(far)
    gain = np.delete(y, label, axis=1).max(axis=1) - y[:, label]
    free = np.argsort(-gain)[:3]
    low, high = x.copy(), x.copy()
    low[free], high[free] = -4.0, 5.0
    points = grid(low, high, 46)
    target = None
    if targeted:
        classes = net.evaluate(points).argmax(axis=1)
        target = int(np.bincount(classes[classes != label], minlength=10).argmax())
    found = find_adversarial(
        net, x, norm=norm, target=target, lower=low, upper=high, time_limit=600
    )

    def wins(y):
        return y.argmax(axis=1) != label if target is None else y.argmax(axis=1) == target

    oracle = brute_force(net, x, points, norm, wins)
    if norm == "l0":
        assert found.status == "optimal" and found.distance <= oracle
        assert found.bound > found.distance - 1 + 1e-6
    else:
        agree(found, oracle, 0.2)
    decided = int(net.evaluate(found.image).argmax())
    assert decided == found.found and decided != label
    assert target is None or decided == target
    assert (low <= found.image).all() and (found.image <= high).all()


@pytest.mark.parametrize("norm", ["l1", "linf", "l0"])
def test_random_networks(norm):
    for seed in range(3):
        net = he_network(seed, [3, 8, 8, 3])
        x = np.array([0.3, 0.6, 0.45])
        label = net.evaluate(x).argmax()
        points = grid(np.zeros(3), np.ones(3), 61)
        # The grid holds every face through x, where l0 has its points.
        points = np.vstack(
            [points] + [grid(*_face(x, free), 201) for free in ((0,), (1,), (2,))]
        )
        oracle = brute_force(net, x, points, norm, lambda y, k=label: y.argmax(axis=1) != k)
        found = find_adversarial(net, x, norm=norm, time_limit=600)
        if np.isinf(oracle):
            assert found.image is None or found.distance > 0
        elif norm == "l0":
            assert found.status == "optimal" and found.distance <= oracle
        else:
            agree(found, oracle, 1 / 60)


def _face(x, free):
    low, high = x.copy(), x.copy()
    low[list(free)], high[list(free)] = 0.0, 1.0
    return low, high


def test_ratio_rule_cap_and_target():
    """Two inputs, outputs are the inputs: the nearest point by hand."""
    b = NetworkBuilder()
    x = b.input("x", (2,))
    r = b.piecewise("r", b.affine("h", [(x, np.eye(2))]), activations.relu())
    net = b.build([b.affine("y", [(r, np.eye(2))])])
    image = np.array([0.6, 0.3])
    found = find_adversarial(net, image, ratio=1.2, target=1)
    # x1 >= 1.2 x0: lowering x0 to 0.25 costs 0.35, raising x1 to 0.72 costs 0.42
    assert found.optimal and found.distance == pytest.approx(0.35, abs=1e-5)
    linf = find_adversarial(net, image, ratio=1.2, norm="linf")
    # 0.3 + d = 1.2 (0.6 - d)
    assert linf.distance == pytest.approx(0.42 / 2.2, abs=1e-5)
    assert find_adversarial(net, image, ratio=1.2, pixel_cap=0.1).status == "impossible"
    both = find_adversarial(net, image, ratio=1.2, pixel_cap=0.2)
    assert both.optimal and abs(both.image - image).max() <= 0.2 + 1e-9
    assert find_adversarial(net, image, margin=0.0, norm="l0").distance == 1.0


@pytest.mark.parametrize("pool", ["max", "average"])
def test_pooling(pool):
    rng = np.random.default_rng(2)
    b = NetworkBuilder()
    x = b.input("x", (4,))
    a = b.affine("a", [(x, rng.standard_normal((8, 4)))], 0.3 * rng.standard_normal(8))
    r = b.piecewise("r", a, activations.relu())
    pairs = [(2 * k, 2 * k + 1) for k in range(4)]
    if pool == "max":
        p = b.max("p", r, pairs)
    else:
        mean = np.zeros((4, 8))
        for k, pair in enumerate(pairs):
            mean[k, list(pair)] = 0.5
        p = b.affine("p", [(r, mean)])
    net = b.build([b.affine("y", [(p, rng.standard_normal((3, 4)))])])
    image = np.array([0.4, 0.5, 0.6, 0.3])
    label = net.evaluate(image).argmax()
    points = grid(np.zeros(4), np.ones(4), 31)
    for norm in ("l1", "linf"):
        oracle = brute_force(net, image, points, norm, lambda y: y.argmax(axis=1) != label)
        found = find_adversarial(net, image, norm=norm, time_limit=600)
        agree(found, oracle, 1 / 30)


def test_any_solver_and_picture(tmp_path):
    net = he_network(1, [4, 10, 10, 3])
    image = np.array([0.3, 0.6, 0.4, 0.5])
    first = find_adversarial(net, image)
    options = {"solver": "appsi_highs", "formulation": "hull", "sides": False}
    other = find_adversarial(net, image, **options)
    assert first.optimal and other.optimal
    assert first.distance == pytest.approx(other.distance, abs=1e-5)
    pytest.importorskip("matplotlib")
    first.picture(tmp_path / "a.png", shape=(2, 2))
    assert (tmp_path / "a.png").stat().st_size > 1000


@pytest.fixture
def deep():
    """A network with enough unstable neurons that bounds over the program are used."""
    net = he_network(4, [8, 12, 12, 3])
    x = np.random.default_rng(1).uniform(0, 1, 8)
    return net, np.where(np.arange(8) < 3, np.round(x), x)


@pytest.mark.parametrize("norm", ["l1", "linf", "l0"])
@pytest.mark.parametrize("ratio", [None, 1.2])
def test_restricted_and_whole_domain_agree(deep, norm, ratio, monkeypatch):
    """With a start, without one, and without any restriction: the same distance."""
    from pyomo_relu.adversarial import nearest

    tightened = []
    tighten = nearest._Search.tighten
    monkeypatch.setattr(
        nearest._Search,
        "tighten",
        lambda self, program, s: tightened.append(1) or tighten(self, program, s),
    )
    net, x = deep
    options = {"norm": norm, "ratio": ratio, "time_limit": 600}
    near = find_adversarial(net, x, **options)
    assert tightened and near.optimal and near.distance <= near.start
    outwards = find_adversarial(net, x, start=False, **options)
    whole = find_adversarial(net, x, start=False, restrict=False, **options)
    for other in (outwards, whole):
        assert other.optimal and np.isinf(other.start)
        assert other.distance == pytest.approx(near.distance, rel=1e-3)
        assert other.bound == pytest.approx(near.bound, rel=1e-3)


def test_unfinished_search_has_a_valid_bound(deep, monkeypatch):
    """Programs that are stopped: the bound comes from smaller distances."""
    from pyomo_relu.adversarial import nearest
    from pyomo_relu.solvers.quietly import Solved

    net, x = deep
    known = find_adversarial(net, x, time_limit=600).distance
    solve, calls = nearest.solve_program, []

    def stopped(model, *args):
        calls.append(1)
        if len(calls) == 1:
            return Solved("stopped", None, -np.inf)
        return solve(model, *args)

    monkeypatch.setattr(nearest, "solve_program", stopped)
    monkeypatch.setattr(nearest, "find_near_image", lambda *a, **k: far)
    far = next(
        p
        for p in np.random.default_rng(0).uniform(0, 1, (500, 8))
        if net.evaluate(p).argmax() != net.evaluate(x).argmax()
    )
    found = find_adversarial(net, x, sides=False, time_limit=600)
    assert len(calls) > 1 and found.start > known + 0.1
    assert found.bound <= known + 1e-5 and found.distance >= known - 1e-5
    assert found.bound > 0.2 * known


def test_a_given_start(deep):
    net, x = deep
    best = find_adversarial(net, x, time_limit=600)
    again = find_adversarial(net, x, start=best.image, margin=0.0, time_limit=600)
    assert again.start == pytest.approx(best.distance)
    assert again.distance <= best.distance + 1e-6
    with pytest.raises(ValueError, match="start does not obey"):
        find_adversarial(net, x, start=x)


@pytest.mark.parametrize("norm", ["l1", "linf", "l0"])
def test_starts_obey_the_rule(norm):
    from pyomo_relu.adversarial.decision import Decision
    from pyomo_relu.adversarial.near_images import find_near_image

    net = he_network(2, (30, 12, 8, 4))
    x = np.random.default_rng(0).uniform(0, 1, 30)
    others = np.random.default_rng(1).uniform(0, 1, (300, 30))
    low, high, count = np.zeros(30), np.ones(30), 0
    for target in range(4):
        if target == net.evaluate(x).argmax():
            continue
        decision = Decision(net, x, target, ratio=1.2)
        limit = NEVER
        found = find_near_image(decision, norm, (low, high), limit, examples=others)
        if found is None:
            continue
        count += 1
        y = net.evaluate(found)
        assert (found >= 0).all() and (found <= 1).all() and y[target] >= -1e-5
        assert (y[target] >= 1.2 * np.delete(y, target) - 1e-5).all()
    assert count


def test_a_walk_that_is_stuck_is_given_up(monkeypatch):
    """The rule is nearest at a bend, where the steepest pixel goes to and fro."""
    from pyomo_relu.adversarial.decision import Decision
    from pyomo_relu.adversarial.near_images import find_near_image
    from pyomo_relu.network import Network

    b = NetworkBuilder()
    x = b.input("x", (1,))
    sides = b.affine("sides", [(x, np.array([[1.0], [-1.0]]))], np.array([-0.5, 0.5]))
    r = b.piecewise("r", sides, activations.relu())
    y = b.affine("y", [(r, np.array([[1.0, 1.0], [0.0, 0.0]]))], np.array([0.1, 0.0]))
    net = b.build([y])
    decision = Decision(net, np.array([0.9]), target=1, margin=1e-4)
    evaluate, calls = Network.evaluate, []

    def counted(self, points):
        calls.append(1)
        return evaluate(self, points)

    monkeypatch.setattr(Network, "evaluate", counted)
    box = np.zeros(1), np.ones(1)
    assert find_near_image(decision, "l1", box, Deadline(None)) is None
    assert len(calls) < 1000  # four walks of 400 to 4000 steps otherwise


def test_an_example_is_a_start_however_short_the_time(deep):
    from pyomo_relu.adversarial.decision import Decision
    from pyomo_relu.adversarial.near_images import find_near_image

    net, x = deep
    examples = np.random.default_rng(0).uniform(0, 1, (500, net.n_inputs))
    box = np.zeros(net.n_inputs), np.ones(net.n_inputs)
    found = find_near_image(Decision(net, x), "l1", box, Deadline(0.0), examples=examples)
    assert found is not None
    assert net.evaluate(found).argmax() != net.evaluate(x).argmax()


@pytest.mark.parametrize("sides", [False, True])
def test_a_limit_of_the_processor_keeps_start_and_bound(deep, sides):
    net, x = deep
    best = find_adversarial(net, x, time_limit=30)
    examples = np.random.default_rng(0).uniform(0, 1, (500, net.n_inputs))
    limits = {"time_limit": None, "cpu_time_limit": 0.0}
    found = find_adversarial(net, x, sides=sides, examples=examples, **limits)
    assert found.distance >= best.bound - 1e-5 and found.bound <= best.distance + 1e-5
    assert np.isfinite(found.start) and found.status in ("feasible", "optimal")
    limits["cpu_time_limit"] = 60.0
    found = find_adversarial(net, x, sides=sides, **limits)
    assert found.optimal and found.distance == pytest.approx(best.distance, abs=1e-4)


def test_a_limit_of_the_processor_is_none_of_the_clock(deep, monkeypatch):
    """The bounds before the search are as tight however long they take on the clock."""
    net, x = deep
    limits = {"time_limit": None, "cpu_time_limit": 1000.0, "sides": True}
    alone = find_adversarial(net, x, **limits)
    monkeypatch.setattr(deadline, "time", Crowd(300.0))
    found = find_adversarial(net, x, **limits)
    assert found.optimal and found.nodes == alone.nodes


def test_a_search_ends_in_time_and_calls_the_users_callback():
    from pyomo_relu.adversarial.solving import solve_program

    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(30), domain=pyo.Binary)
    weights = np.random.default_rng(0).integers(20, 100, 30).tolist()
    m.row = pyo.Constraint(
        expr=sum(w * m.x[i] for i, w in enumerate(weights)) <= sum(weights) // 2
    )
    m.obj = pyo.Objective(
        expr=sum((w + 7 * (i % 5)) * m.x[i] for i, w in enumerate(weights)),
        sense=pyo.maximize,
    )
    solver, told = pyo.SolverFactory("relu_highs"), []
    solver.config.progress = told.append
    assert solve_program(m, solver, Deadline(None, 60.0)).status == "optimal"
    before = len(told)
    assert solve_program(m, solver, Deadline(None, 0.0)).status == "stopped"
    assert 0 < before < len(told) and solver.config.progress == told.append


@pytest.mark.parametrize("seed", range(2))
def test_all_pixels_of_digits_by_their_linear_regions(digits, seed):
    """Brute force over activation patterns: a linear program for each one."""
    from itertools import product

    from scipy.optimize import linprog
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier

    x, y = load_digits(return_X_y=True)
    model = MLPClassifier((6,), max_iter=150, random_state=seed).fit(x / 16.0, y)
    net, image = read_network(model, logits=True), x[10 + seed] / 16.0
    label = int(net.evaluate(image).argmax())
    target = (label + 5) % 10
    (w1, w2), (b1, b2) = [a.T for a in model.coefs_], model.intercepts_
    best, n = np.inf, 64
    for pattern in product([0.0, 1.0], repeat=6):
        on = np.array(pattern)
        out, const = w2 @ (on[:, None] * w1), w2 @ (on * b1) + b2
        side = np.where(on > 0, -1.0, 1.0)
        # x = image + p - q: the pattern's cell, then the target's lead of 1e-4.
        others = np.delete(np.arange(10), target)
        rows = np.vstack([side[:, None] * w1, out[others] - out[target]])
        limit = np.concatenate([-side * b1, const[target] - const[others] - 1e-4])
        found = linprog(
            np.ones(2 * n),
            A_ub=np.hstack([rows, -rows]),
            b_ub=limit - rows @ image,
            bounds=[(0, 1 - v) for v in image] + [(0, v) for v in image],
        )
        if found.status == 0:
            best = min(best, found.fun)
    result = find_adversarial(net, image, target=target, time_limit=600)
    assert result.optimal and result.distance == pytest.approx(best, abs=1e-4)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"norm": "l2"}, "l2"),
        ({"target": 9}, "target 9"),
        ({"upper": 0.1}, "outside"),
        ({"pixel_cap": -1.0}, "pixel_cap"),
        ({"ratio": 0.0}, "ratio"),
        ({"solver": "no_such_solver"}, "no_such_solver"),
        ({"target": "label"}, "class of the original"),
    ],
)
def test_errors(arguments, message):
    net = he_network(1, [4, 6, 3])
    image = np.full(4, 0.5)
    if arguments.get("target") == "label":
        arguments = {"target": int(net.evaluate(image).argmax())}
    with pytest.raises(ValueError, match=message):
        find_adversarial(net, image, **arguments)
