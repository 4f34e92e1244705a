"""`StepNetwork`: what it refuses, networks side by side, single neurons."""

from __future__ import annotations

import numpy as np
import pytest

from pyomo_relu.steps.step_network import StepNetwork, stack


def test_step_network_refuses():
    with pytest.raises(ValueError, match="don't fit"):
        StepNetwork((np.ones((2, 2)), np.ones((1, 3))), (np.zeros(2), np.zeros(1)))
    with pytest.raises(ValueError, match="not finite"):
        StepNetwork((np.full((1, 2), np.nan),), (np.zeros(1),))
    with pytest.raises(ValueError, match="'step' or 'sign'"):
        StepNetwork((np.ones((1, 2)),), (np.zeros(1),), "relu")


def test_stack():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 3))
    nets = [
        StepNetwork(
            (rng.normal(size=(h, 3)), rng.normal(size=(2, h))),
            (rng.normal(size=h), rng.normal(size=2)),
            "sign",
        )
        for h in (2, 4)
    ]
    whole = stack(nets).scores(x)
    np.testing.assert_allclose(whole, np.hstack([n.scores(x) for n in nets]))


def test_a_neuron_alone():
    rng = np.random.default_rng(1)
    x, net = (
        rng.normal(size=(20, 3)),
        StepNetwork((rng.normal(size=(4, 3)),), (np.ones(4),)),
    )
    for j in range(4):
        alone = net.neuron(0, j).scores(x)
        np.testing.assert_allclose(alone, net.scores(x)[:, j : j + 1], rtol=1e-12)
