"""Adversarial distances against brute force over grids of a few free pixels."""

from __future__ import annotations

import numpy as np
import pytest

from pyomo_relu import NetworkBuilder, activations, read_network
from pyomo_relu.applications import find_adversarial
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
        net, x, norm=norm, target=target, lower=low, upper=high, time_limit=30
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
        found = find_adversarial(net, x, norm=norm, time_limit=30)
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
        found = find_adversarial(net, image, norm=norm, time_limit=30)
        agree(found, oracle, 1 / 30)


def test_any_solver_and_picture(tmp_path):
    net = he_network(1, [4, 10, 10, 3])
    image = np.array([0.3, 0.6, 0.4, 0.5])
    first = find_adversarial(net, image)
    other = find_adversarial(net, image, solver="appsi_highs", formulation="hull")
    assert first.optimal and other.optimal
    assert first.distance == pytest.approx(other.distance, abs=1e-5)
    pytest.importorskip("matplotlib")
    first.picture(tmp_path / "a.png", shape=(2, 2))
    assert (tmp_path / "a.png").stat().st_size > 1000


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
