"""The example runs, its objective rises, and it saves a picture."""

from __future__ import annotations

import numpy as np
import pytest

from tests.test_examples import assert_picture, load


def test_implicit_backprop(tmp_path):
    pytest.importorskip("matplotlib")
    example = load("implicit_backprop")
    if not example.DATA.exists():
        pytest.importorskip("sklearn")
    found = example.main(
        ["--seeds", "1", "--iterations", "2", "--weight-seeds", "1"]
        + ["--weight-iterations", "1", "--output", str(tmp_path)]
    )
    assert found["objective"] > found["objective_fixed"]
    # scikit-learn's copy of the data has other features, and is harder.
    assert found["implicit"] > (0.9 if example.DATA.exists() else 0.8)
    assert found["weights_objective"] >= found["weights_objective_fixed"]
    assert_picture(tmp_path / "implicit_backprop.png")


def test_objective_of_a_network():
    """The objective of the exact network is the program's."""
    example = load("implicit_backprop")
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(8, 2)), np.array([1, -1] * 4)
    costs = np.full(8, 0.4)
    fit = example.MarginTraining(y, 2, soft=True).fit(z, costs)
    network = (fit.weights[0], fit.biases[0], fit.weights[1][0], fit.biases[1][0])
    assert example.objective_of(z, y, network, costs) == pytest.approx(fit.value, abs=1e-7)
