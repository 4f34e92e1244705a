"""Penalties for PyTorch: bounds of the package, gradients of differences, Keras's values."""

from __future__ import annotations

import re

import numpy as np
import pytest

from pyomo_relu import NetworkBuilder, activations
from pyomo_relu.bounds import compute_bounds
from tests.paths import ROOT

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from pyomo_relu.training.relaxation.chain import crown_bounds  # noqa: E402
from pyomo_relu.training.torch import (  # noqa: E402
    BigMPenalty,
    BoundWidthPenalty,
    L1Penalty,
    L2Penalty,
    LPGapPenalty,
    Penalty,
    PenaltyLoss,
    StabilityLoss,
    UnstablePenalty,
    interval_bounds,
)
from pyomo_relu.training.torch.intervals import dense_layers  # noqa: E402
from pyomo_relu.training.torch.loss import OPS  # noqa: E402

PENALTIES = {
    "L1": L1Penalty(1.0),
    "L2": L2Penalty(1.0),
    "stability": StabilityLoss(1.0),
    "big-M": BigMPenalty(1.0),
    "width": BoundWidthPenalty(1.0),
    "unstable": UnstablePenalty(1.0, relative=False),
    "stability by CROWN": StabilityLoss(1.0, bounds="crown"),
    "width by CROWN": BoundWidthPenalty(1.0, bounds="crown"),
    "unstable by CROWN": UnstablePenalty(1.0, relative=False, bounds="crown"),
    "gap": LPGapPenalty(1.0, steps=1),
    "gap below": LPGapPenalty(1.0, steps=1, sense="min", samples=3),
    "gap by CROWN": LPGapPenalty(1.0, steps=1, bounds="crown"),
}


def module(seed=0, sizes=(2, 6, 5, 4, 2)):
    torch.manual_seed(seed)
    layers = []
    for n, m in zip(sizes, sizes[1:]):
        layers += [nn.Linear(n, m, dtype=torch.float64), nn.ReLU()]
        with torch.no_grad():
            layers[-2].weight.mul_(2.0)
    return nn.Sequential(*layers[:-1])


def samples(count=5, n=2):
    return torch.rand((count, n), dtype=torch.float64) * 2 - 1


@pytest.mark.parametrize("radius", [None, 0.4], ids=["box", "around samples"])
@pytest.mark.parametrize("name", PENALTIES)
def test_gradients_are_those_of_differences(name, radius):
    net = module()
    x = samples()
    penalty = PenaltyLoss(net, [PENALTIES[name]], -1, 1, radius=radius)
    penalty(x).backward()
    rng = np.random.default_rng(0)
    largest = 0.0
    for p in net.parameters():
        where = tuple(int(rng.integers(0, n)) for n in p.shape)
        slope = 0.0 if p.grad is None else float(p.grad[where])
        largest = max(largest, abs(slope))
        ends = []
        with torch.no_grad():
            for step in (1e-6, -1e-6):
                p[where] += step
                ends.append(float(penalty(x)))
                p[where] -= step
        assert slope == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-6, rel=1e-5)
    assert largest > 1e-3


def test_held_bounds_leave_out_what_goes_through_bounds():
    net, x, found = module(), samples(), []
    for hold in (True, False):
        net.zero_grad()
        PenaltyLoss(net, [LPGapPenalty(1.0, hold_bounds=hold)], -1, 1)(x).backward()
        found.append([p.grad.clone() for p in net.parameters()])
    held, whole = found
    assert (held[-2] - whole[-2]).abs().max() < 1e-12  # bounds don't see the last layer
    assert (held[0] - whole[0]).abs().max() > 1e-3


def test_crown_bounds_are_those_of_the_package():
    for seed in range(8):
        net = module(seed)
        build = NetworkBuilder()
        at = build.input("x", (2,))
        for layer in net:
            if isinstance(layer, nn.Linear):
                weight, bias = (v.detach().numpy() for v in (layer.weight, layer.bias))
                at = build.affine("dense", [(at, weight)], bias)
            else:
                at = build.piecewise("relu", at, activations.relu())
        network = build.build([at])
        expected = compute_bounds(network, -1.0, 1.0, ("crown", {"rules": ("adaptive",)}))
        ends = (torch.full((1, 2), sign, dtype=torch.float64) for sign in (-1.0, 1.0))
        found, outputs = crown_bounds(OPS, dense_layers(net), *ends)
        nodes = [n.source for n in network.nodes if n.kind == "piecewise"]
        assert len(nodes) == len(found) == 3
        for i, (low, high) in zip(nodes, found):
            # The package bounds stable neurons by intervals alone.
            own = ~((expected.lower[i] >= 0) | (expected.upper[i] <= 0))
            assert low[0].detach().numpy()[own] == pytest.approx(expected.lower[i][own])
            assert high[0].detach().numpy()[own] == pytest.approx(expected.upper[i][own])
        # Narrower ranges of stable neurons may narrow what intervals say of the outputs.
        low, high = (one[0].detach().numpy() for one in outputs)
        assert (low >= expected.outputs[0] - 1e-9).all()
        assert (high <= expected.outputs[1] + 1e-9).all()
        y = net(torch.rand(500, 2, dtype=torch.float64) * 2 - 1).detach().numpy()
        assert (y >= low - 1e-9).all() and (y <= high + 1e-9).all()


@pytest.mark.parametrize("bounds", ["interval", "crown"])
def test_bounds_hold_with_every_module(bounds):
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Linear(3, 6),
        nn.BatchNorm1d(6),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Dropout(0.5),
        nn.Sequential(nn.Linear(6, 5, bias=False), nn.ReLU6()),
        nn.Tanh(),
        nn.Linear(5, 4),
        nn.ReLU(),
        nn.Linear(4, 2),
    )
    with torch.no_grad():
        net[1].running_mean.normal_()
        net[1].running_var.uniform_(0.5, 2.0)
        net[1].weight.normal_()
    low, high = torch.full((1, 3), -2.0), torch.full((1, 3), 1.5)
    if bounds == "interval":
        found, outputs = interval_bounds(net, low, high)
    else:
        found, outputs = crown_bounds(OPS, dense_layers(net), low, high)
    net.eval()
    x = low + (high - low) * torch.rand(2000, 3)
    assert len(found) == 3
    stages = [net[:2], net[:4].append(net[4][0]), net[:7]]
    for stage, (a, b) in zip([*stages, net], [*found, outputs]):
        z = stage(x)
        assert (z >= a - 1e-5).all() and (z <= b + 1e-5).all()
        # Not absurd: the samples fill a part of each range.
        assert ((z.max(0)[0] - z.min(0)[0]) > 0.05 * (b - a)[0]).all()


def test_intervals_of_convolutions():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3, stride=2), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2), nn.Softmax(1),
    )  # fmt: skip
    low = torch.rand(1, 1, 6, 6)
    found, outputs = interval_bounds(net, low, low + 0.3)
    net.eval()
    x = low + 0.3 * torch.rand(500, 1, 6, 6)
    for stage, (a, b) in zip([net[:2], net[:6], net[:8]], [*found, outputs]):
        z = stage(x)
        assert (z >= a - 1e-5).all() and (z <= b + 1e-5).all()
    loss = PenaltyLoss(net, [BoundWidthPenalty(1.0)], radius=0.1)
    assert float(loss(x).detach()) > 0
    with pytest.raises(ValueError, match="bounds='interval'"):
        PenaltyLoss(net, [BoundWidthPenalty(1.0, bounds="crown")], 0, 1)


def test_every_so_many_batches():
    net, x = module(), samples()
    each = PenaltyLoss(net, [L1Penalty(0.5)])
    third = PenaltyLoss(net, [L1Penalty(0.5)], every=3)
    found = [float(third(x).detach()) for _ in range(6)]
    assert found == pytest.approx([3 * float(each(x).detach()), 0, 0] * 2)
    assert third.values["L1Penalty"] == pytest.approx(2 * float(each(x).detach()))


def test_a_gap_is_trained_away():
    gaps = {}
    for weight in (0.0, 0.1):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Linear(2, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 1)
        )
        x = torch.rand(128, 2) * 2 - 1
        y = torch.sin(3 * x[:, :1]) + x[:, 1:] ** 2
        penalty = PenaltyLoss(net, [LPGapPenalty(weight)], -1, 1, every=4)
        optimizer = torch.optim.Adam(net.parameters(), 0.02)
        for _ in range(100):
            optimizer.zero_grad()
            error = nn.functional.mse_loss(net(x), y)
            (error + penalty(x)).backward()
            optimizer.step()
        assert float(error.detach()) < 0.4 * float(y.var())
        gaps[weight] = penalty.values["LPGapPenalty"]
    assert gaps[0.1] < 0.6 * gaps[0.0]


def test_what_is_not_known_is_refused():
    net = module()
    for penalties, options, message in [
        ([BigMPenalty(1.0)], {}, "need a box"),
        ([], {"lower": -1}, "both lower= and upper="),
        ([L1Penalty(1), L1Penalty(2)], {}, "different names"),
        ([L1Penalty(1)], {"every": 0}, "every="),
        ([L1Penalty(1)], {"every": 1.5}, "every="),
        ([BigMPenalty(1.0)], {"lower": 1, "upper": -1}, "box is empty"),
    ]:
        with pytest.raises(ValueError, match=message):
            PenaltyLoss(net, penalties, **options)(samples())
    with pytest.raises(ValueError, match="'interval' or 'crown'"):
        BigMPenalty(1.0, bounds="lp")
    with pytest.raises(ValueError, match="sense"):
        LPGapPenalty(1.0, sense="up")
    with pytest.raises(ValueError, match="at least 1"):
        LPGapPenalty(1.0, samples=0)
    with pytest.raises(ValueError, match="not negative"):
        LPGapPenalty(-1.0)
    with pytest.raises(TypeError, match="value"):
        Penalty(1.0)
    for bad, penalty, message in [
        (nn.Linear(2, 1), BigMPenalty(1.0), "Sequential"),
        (nn.Sequential(nn.Linear(2, 3), nn.GELU()), BigMPenalty(1.0), "GELU"),
        (nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)), LPGapPenalty(1.0),
         "is no ReLU"),
        (nn.Sequential(nn.Linear(2, 3), nn.ReLU()), LPGapPenalty(1.0), "last layer"),
        (nn.Sequential(nn.Conv1d(1, 1, 2, padding=1, padding_mode="circular")),
         BigMPenalty(1.0), "Conv1d"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            PenaltyLoss(bad, [penalty], -1, 1)


def test_the_example_of_the_guide(capsys):
    text = (ROOT / "docs" / "guide" / "analysis.md").read_text("utf8")
    (code,) = re.findall(r"```python\n(import torch\n.*?)```", text, flags=re.DOTALL)
    x = samples(64).float()
    exec(compile(code, "analysis.md", "exec"), {"x": x, "y": torch.sin(3 * x[:, :1])})
    assert "BoundWidthPenalty" in capsys.readouterr().out
