"""Feature visualization against grids and what the formulas give by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pyomo_relu.adversarial import feature_grid, visualize_feature
from pyomo_relu.network import Network
from tests.harness.random_networks import he_network


def grid() -> np.ndarray:
    axis = np.linspace(0, 1, 401)
    return np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)


@pytest.mark.parametrize("penalty", [None, "l1", "tv", "near"])
def test_optimum_against_a_grid(penalty):
    net = he_network(4, [2, 8, 8, 3])
    points, near, weight = grid(), np.array([0.7, 0.2]), 0.3
    paid = {
        None: 0.0,
        "l1": points.sum(axis=1),
        "tv": abs(points[:, 0] - points[:, 1]),
        "near": abs(points - near).sum(axis=1),
    }[penalty]
    for margin in (False, True):
        y = net.evaluate(points)
        value = y[:, 1] - (y[:, [0, 2]].max(axis=1) if margin else 0.0) - weight * paid
        found = visualize_feature(
            net, 1, class_margin=margin, penalty=penalty, weight=weight, near=near
        )
        got = found.activation - weight * found.penalty
        assert found.status == "optimal"
        assert value.max() - 1e-5 <= got <= value.max() + 0.05
        assert found.bound == pytest.approx(got, abs=1e-3)


def test_hidden_unit():
    net = he_network(5, [2, 6, 6, 2])
    layer = [n for n in net.nodes if n.kind == "piecewise"][1].name
    values = net.activations(grid())[[n.name for n in net.nodes].index(layer)]
    for unit in range(3):
        found = visualize_feature(net, unit, layer=layer)
        assert found.activation == pytest.approx(values[:, unit].max(), abs=0.02)
        assert found.activation >= values[:, unit].max() - 1e-6


def test_pictures(tmp_path):
    pytest.importorskip("matplotlib")
    net = he_network(0, [4, 6, 2])
    found = [visualize_feature(net, k) for k in range(2)]
    feature_grid(found, tmp_path / "f.png")
    assert (tmp_path / "f.png").stat().st_size > 1000


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"unit": 9}, "unit 9"),
        ({"layer": "nowhere"}, "nowhere"),
        ({"penalty": "l7"}, "l7"),
        ({"penalty": "near"}, "needs near="),
        ({"near": np.full(4, 2.0)}, "outside"),
        ({"weight": -1.0}, "weight"),
    ],
)
def test_errors(arguments, message):
    net: Network = he_network(0, [4, 6, 2])
    with pytest.raises(ValueError, match=message):
        visualize_feature(net, **{"unit": 0, **arguments})
