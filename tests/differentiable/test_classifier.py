"""``BinaryNetClassifier(method="implicit")``."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn")

from pyomo_relu.differentiable import class_costs
from pyomo_relu.training import BinarizedNetClassifier, BinaryNetClassifier


def points(n: int = 9):
    rng = np.random.default_rng(1)
    x = rng.uniform(0, 1, (n, 5))
    return x, np.where(x @ [1, -1, 0.5, 0, 0.3] > 0.4, "up", "down")


def test_it_fits_and_the_margin_rises():
    x, y = points()
    clf = BinaryNetClassifier((1,), method="implicit", random_state=0).fit(x, y)
    assert clf.score(x, y) >= 0.9
    assert clf.loss_ == pytest.approx(len(x) * (1 - clf.score(x, y)))
    assert clf.status_ == ("optimal" if clf.loss_ == 0 else "feasible")
    assert (np.diff([h["value"] for h in clf.history_]) > 0).all()
    assert len(clf.history_) > 2
    assert np.abs(clf.network_.weights[0]).max() <= 1 + 1e-12
    assert np.linalg.matrix_rank(clf.network_.weights[0]) <= 2


def test_refusals():
    x, y = points()
    for options in (
        {"weights": "ternary"},
        {"thresholds": "layer"},
        {"robust": ("linf", 0.1)},
        {"hidden_layer_sizes": (2, 2)},
    ):
        clf = BinaryNetClassifier(**{"hidden_layer_sizes": (2,), **options})
        with pytest.raises(ValueError, match="method='implicit' takes"):
            clf.set_params(method="implicit").fit(x, y)
    with pytest.raises(ValueError, match="has no node_limit="):
        BinaryNetClassifier((2,), method="implicit", node_limit=9).fit(x, y)
    with pytest.raises(ValueError, match="more than 100"):
        BinaryNetClassifier((12,), method="implicit").fit(x, y)
    with pytest.raises(ValueError, match="method='implicit'"):
        BinaryNetClassifier((2,), method="implicit", loss="max_margin").fit(x, y)
    with pytest.raises(ValueError, match="method='implicit'"):
        BinarizedNetClassifier((2,), method="implicit", loss="max_correct").fit(x, y)


def test_weights_decide_between_points():
    """Two places with a point of each class: the heavier one is right, at any place."""
    x, y = (
        np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0], [1.0, 1.0]]),
        np.array([0, 1, 1, 0]),
    )
    clf = BinaryNetClassifier((1,), method="implicit", time_limit=None, random_state=0)
    for heavy in range(4):
        weight = np.where(np.arange(4) == heavy, 2.0, 1.0)
        network = clf.fit(x, y, sample_weight=weight).network_
        assert clf.predict(x)[heavy] == y[heavy] and clf.loss_ == pytest.approx(2.0)
    # A weight of two is a point given twice; the seed is the same, so the network is.
    twice = np.r_[x, x[3:]], np.r_[y, y[3:]]
    again = clf.fit(*twice).network_
    for a, b in zip(network.weights + network.biases, again.weights + again.biases):
        assert np.array_equal(a, b)


def test_costs_of_weighed_points():
    costs = class_costs(np.array([1.0, 1.0, -1.0]), 4.0, np.array([3.0, 1.0, 5.0]))
    assert costs == pytest.approx([1.5, 0.5, 2.0])
    assert class_costs(np.array([1.0, 1.0, -1.0]), 4.0) == pytest.approx([1.0, 1.0, 2.0])
