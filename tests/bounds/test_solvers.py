"""lp, rolling and mip: sound, in the order of the ladder, exact where they should be."""

import numpy as np
import pytest

from pyomo_relu.bounds import Bounds, compute_bounds
from pyomo_relu.bounds.array_model import ArrayModel
from pyomo_relu.bounds.lp import LayerLP
from pyomo_relu.network import Network, NetworkBuilder, activations
from tests.bounds.soundness import assert_contains_samples, random_case
from tests.harness.random_networks import he_network, random_network
from tests.harness.strategies import points_in

pytest.importorskip("highspy")


def chain(network, lower, upper) -> list[Bounds]:
    a = compute_bounds(network, lower, upper, "interval")
    b = compute_bounds(network, lower, upper, "crown", start=a)
    c = compute_bounds(network, lower, upper, "lp", start=b)
    d = compute_bounds(network, lower, upper, "rolling", start=c, window=1)
    e = compute_bounds(network, lower, upper, "mip", start=c)
    return [a, b, c, d, e]


@pytest.mark.parametrize("block", range(3))
def test_sound_and_monotone_on_every_kind_of_network(block):
    for seed in range(10 * block, 10 * block + 10):
        network, lower, upper = random_case(seed, width=4, depth=2)
        found = chain(network, lower, upper)
        for bounds in found:
            assert_contains_samples(bounds, np.random.default_rng(seed), 200)
        for weak, strong in [(0, 1), (1, 2), (2, 3), (2, 4)]:
            assert found[weak].contains(found[strong], 1e-9)


def test_mip_is_exact_on_a_grid():
    for seed in range(5):
        rng = np.random.default_rng(seed)
        names = ["relu", "clip", "abs", "leaky_relu", "pwl"]
        network = random_network(
            rng,
            n_inputs=1,
            widths=(4, 4),
            activations=[names[seed % 5]],
            max_pool=seed % 3 == 0,
            residual=seed % 2 == 0,
        )
        bounds = compute_bounds(network, -1, 1, "mip", neuron_time_limit=None)
        y = network.evaluate(np.linspace(-1, 1, 20001)[:, None])
        low, high = bounds.outputs
        # The grid misses a kink by at most its spacing times the slope.
        assert high == pytest.approx(y.max(axis=0), abs=5e-3 * (1 + abs(y).max()))
        assert low == pytest.approx(y.min(axis=0), abs=5e-3 * (1 + abs(y).max()))


def test_mip_with_steps_reaches_both_values():
    b = NetworkBuilder()
    x = b.input("x", (1,))
    h = b.affine("h", [(x, [[1.0], [-1.0]])], [0.0, 0.5])
    s = b.piecewise("s", h, activations.step())
    y = b.affine("y", [(s, [[1.0, 1.0]])])
    network = b.build([y])
    low, high = compute_bounds(network, -1, 1, "mip").outputs
    assert high == pytest.approx([2.0], abs=1e-4)  # both are 1 on [0, 0.5]
    assert low == pytest.approx([1.0], abs=1e-4)
    assert compute_bounds(network, -1, 1, "lp").outputs[0] <= 0.5


def test_lp_is_the_triangle_relaxation():
    """Against the same relaxation written with scipy, solved to optimality."""
    from scipy.optimize import linprog

    rng = np.random.default_rng(0)
    w1, b1 = rng.normal(size=(3, 2)), rng.normal(size=3) * 0.2
    w2 = rng.normal(size=(1, 3))
    b = NetworkBuilder()
    x = b.input("x", (2,))
    h = b.affine("h", [(x, w1)], b1)
    r = b.piecewise("r", h, activations.relu())
    network = b.build([b.affine("y", [(r, w2)])])
    bounds = compute_bounds(network, -1, 1, "lp")
    low, high = b1 - abs(w1).sum(axis=1), b1 + abs(w1).sum(axis=1)
    # variables x (2), a (3): a >= 0, a >= w x + b, a <= d (w x + b - l)
    a_ub, b_ub = [], []
    for i in range(3):
        unit = np.eye(3)[i]
        a_ub.append(np.concatenate([w1[i], -unit]))
        b_ub.append(-b1[i])
        d = (
            max(high[i], 0) / (high[i] - low[i])
            if low[i] < 0 < high[i]
            else float(low[i] >= 0)
        )
        shift = -low[i] * d if low[i] < 0 < high[i] else 0.0
        a_ub.append(np.concatenate([-d * w1[i], unit]))
        b_ub.append(d * b1[i] + shift)
    for sign, value in ((1, bounds.outputs[0]), (-1, bounds.outputs[1])):
        result = linprog(
            np.concatenate([np.zeros(2), sign * w2[0]]),
            a_ub,
            b_ub,
            bounds=[(-1, 1)] * 2 + [(0, max(t, 0)) for t in high],
        )
        assert value[0] == pytest.approx(sign * result.fun, abs=1e-8)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("name", ["relu", "clip", "pwl"])
def test_lp_is_not_looser_than_alpha_crown(name, scale):
    """With the same bounds below, no slopes beat the relaxation with all facets."""
    network = random_network(
        np.random.default_rng(3), n_inputs=4, widths=(9, 9, 9), activations=(name,)
    )
    a = compute_bounds(network, -scale, scale, "alpha_crown", iterations=15)
    b = compute_bounds(network, -scale, scale, "lp", start=a)
    c = compute_bounds(network, -scale, scale, "lp")
    for found in (b, c):
        assert found.statistics()["mean_width"] <= a.statistics()["mean_width"] * 1.0001
        assert_contains_samples(found, np.random.default_rng(0), 300)


def test_any_duals_give_a_valid_bound():
    rng = np.random.default_rng(1)
    for seed in range(20):
        network, lower, upper = random_case(seed, width=5, depth=2)
        bounds = compute_bounds(network, lower, upper, "crown")
        target = network.outputs[0]
        while network.nodes[target].kind != "affine":
            target = network.nodes[target].sources[0]
        rows = np.arange(network.nodes[target].size)
        model = ArrayModel(network, bounds.lower, bounds.upper, target, rows)
        lp = LayerLP(model)
        values = network.activations(points_in(rng, lower, upper, 200))[target]
        for row in rows:
            c, const, noise = model.objective(row)
            for _ in range(5):
                y = rng.normal(size=model.n_rows) * 10.0 ** rng.uniform(-3, 3)
                bound = lp.certify.lower_bound(c, y) + const - noise
                assert bound <= values[:, row].min() + 1e-12 * (1 + abs(bound))


def test_time_limits_and_only_stability():
    network = he_network(1, [3, 12, 12, 12, 1])
    crown = compute_bounds(network, -1, 1, "crown")
    for method in ("lp", "mip", "rolling"):
        b = compute_bounds(network, -1, 1, method, time_limit=0.0)
        assert b.details["interrupted"] and b.details["solves"] == 0
        assert crown.contains(b, 1e-9)
    a = compute_bounds(network, -1, 1, "lp")
    b = compute_bounds(network, -1, 1, "lp", only_stability=True)
    assert b.details["skipped"] > 0
    assert b.details["solves"] < a.details["solves"]
    assert b.contains(a, 1e-9)
    for node, phi in enumerate(network.nodes):
        if phi.kind == "piecewise":
            assert (a.stable(node) | ~b.stable(node)).all()


def test_layers_out_of_time_use_the_tighter_layers_below(monkeypatch):
    from pyomo_relu.bounds import lp as lp_module

    network = he_network(0, [3, 12, 12, 12, 12, 1])
    start = compute_bounds(network, -1, 1, "crown")
    chunk = lp_module.lp_chunk

    def slow(network, token, task, rows):
        if task.node > 5:  # beyond the first two layers the time is up
            return task.lows[task.node][rows], task.highs[task.node][rows], 0
        result = chunk(network, token, task, rows)
        return result

    monkeypatch.setattr(lp_module, "lp_chunk", slow)
    a = compute_bounds(network, -1, 1, "lp", start=start)
    monkeypatch.setattr(
        "pyomo_relu.base.progress.Interruptible.details", lambda self: {"x": 1}
    )
    b = compute_bounds(network, -1, 1, "lp", start=start)
    assert_contains_samples(b, np.random.default_rng(0), 500)
    assert b.statistics()["output_width"] < 0.99 * a.statistics()["output_width"]


def test_rolling_is_between_lp_and_mip():
    network = he_network(2, [2, 5, 5, 5, 1])
    widths = {}
    start = compute_bounds(network, -1, 1, "lp")
    for window in (1, 2, 3):
        b = compute_bounds(network, -1, 1, "rolling", start=start, window=window)
        widths[window] = b.statistics()["mean_width"]
    exact = compute_bounds(network, -1, 1, "mip", start=start).statistics()["mean_width"]
    assert start.statistics()["mean_width"] > widths[1] > widths[2]
    assert widths[3] == pytest.approx(exact, rel=1e-3)
    with pytest.raises(ValueError, match="window"):
        compute_bounds(network, -1, 1, "rolling", window=0)


def test_huge_weights_keep_the_bounds_below():
    network: Network = random_network(
        np.random.default_rng(0), widths=(4, 4), magnitude="huge", scale=1e5
    )
    a = compute_bounds(network, -1, 1, "lp")
    b = compute_bounds(network, -1, 1, "mip", start=a)
    assert a.contains(b)
    assert_contains_samples(b, np.random.default_rng(0), 500)
