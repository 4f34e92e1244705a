"""Random PyTorch modules whose code writes in place, through aliases and views.

The forward runs a random list of statements on named tensors, some of which are the same
memory: layers and methods in place, views that are written, branches of Python, optional
arguments, replaced methods. Each module is read as it acts, or refused; with the check of
the reading and without it.
"""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from pyomo_relu.readers import read_network  # noqa: E402

WIDTH = 6
QUICK, SLOW = 12, 150


class Program(nn.Module):
    """Runs statements ``(function, names)`` on a dictionary of tensors."""

    def __init__(self, statements, layers, flag):
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.statements, self.flag = statements, flag
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x, other=None):
        self.calls += 1
        self.last = x
        v = {"h": x, "k": x.clone()}
        for statement in self.statements:
            statement(self, v, other)
        return torch.cat([v["h"].reshape(x.shape[0], -1), v["k"].reshape(1, -1)], 1)


class Maker:
    """Draws the statements; each takes (module, values, optional argument)."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.layers: dict[str, nn.Module] = {}

    def pick(self, *options):
        return options[self.rng.integers(len(options))]

    def number(self) -> float:
        return float(np.round(self.rng.normal(), 2)) or 0.5

    def name(self) -> str:
        return self.pick("h", "k")

    def layer(self, module: nn.Module) -> str:
        key = f"l{len(self.layers)}"
        self.layers[key] = module
        return key

    def part(self):
        """A view of a tensor of shape (1, WIDTH)."""
        a = int(self.rng.integers(0, WIDTH - 2))
        b = int(self.rng.integers(a + 1, WIDTH + 1))
        step = int(self.rng.integers(1, 3))
        return self.pick(
            lambda t: t[:, a:b],
            lambda t: t[:, a:b:step],
            lambda t: t[..., a],
            lambda t: t.select(1, a),
            lambda t: t.view(2, 3)[1],
            lambda t: t.view(1, 3, 2)[:, :, 0],
            lambda t: t.T[a:b],
            lambda t: t.unsqueeze(0).squeeze(1),
            lambda t: t.chunk(2, 1)[1],
            lambda t: t.split([a + 1, WIDTH - a - 1], 1)[0],
            lambda t: t.reshape(-1),
            lambda t: t.detach(),
            lambda t: t.narrow(1, a, b - a),
            lambda t: t.view(2, 3).diagonal(),
            lambda t: t,
        )

    def in_place(self):
        """A function that changes the tensor it is given."""
        c, low = self.number(), -abs(self.number())
        key = self.layer(
            self.pick(
                nn.ReLU(inplace=True),
                nn.LeakyReLU(0.3, inplace=True),
                nn.Hardtanh(low, 1.5, inplace=True),
                nn.ReLU6(inplace=True),
                nn.Dropout(0.5, inplace=True),
            )
        )
        return self.pick(
            lambda m, t: m.layers[key](t),
            lambda m, t: t.mul_(c),
            lambda m, t: t.add_(c),
            lambda m, t: t.sub_(t, alpha=0.5),
            lambda m, t: t.clamp_(min=low),
            lambda m, t: t.clamp_(low, 1.0),
            lambda m, t: t.relu_(),
            lambda m, t: t.abs_(),
            lambda m, t: t.neg_(),
            lambda m, t: F.relu(t, inplace=True),
            lambda m, t: F.leaky_relu_(t, 0.2),
            lambda m, t: F.threshold(t, 0.3, c, inplace=True),
            lambda m, t: t.zero_(),
            lambda m, t: t.fill_(c),
            lambda m, t: t.div_(2.0),
            lambda m, t: t.__iadd__(c),
            lambda m, t: torch.add(t, c, out=t),
        )

    def linear(self):
        key, name, into = self.layer(nn.Linear(WIDTH, WIDTH)), self.name(), self.name()
        kind = self.rng.integers(3)
        if kind == 1:  # a method that was replaced
            before, c = self.layers[key].forward, self.number()
            self.layers[key].forward = lambda x: c * before(x)
        if kind == 2:
            nn.utils.parametrizations.weight_norm(self.layers[key])

        def run(m, v, other):
            v[into] = m.layers[key](v[name])

        return run

    def statement(self, depth: int = 0):
        part, change, name, other_name = self.part(), self.in_place(), self.name(), "hk"
        c, columns = self.number(), [int(i) for i in self.rng.permutation(WIDTH)[:2]]
        mask = torch.tensor(self.rng.random(WIDTH) < 0.5)
        other_name = "k" if name == "h" else "h"

        def changed(m, v, other):
            change(m, part(v[name]))

        def alias(m, v, other):
            v[other_name] = v[name]

        def added(m, v, other):
            v[name] += c * v[other_name]

        def renamed(m, v, other):
            v[name] = v[name] + c

        def written(m, v, other):
            v[name][:, 1:4] = v[other_name][:, :3]

        def indexed(m, v, other):
            v[name][:, columns] = F.relu(v[other_name][:, columns])

        def multiplied(m, v, other):
            v[name][:, columns] *= c

        def copied(m, v, other):
            v[name].select(1, columns[0]).copy_(v[other_name].select(1, columns[1]))

        def masked(m, v, other):
            v[name].masked_fill_(mask, c)

        def chosen(m, v, other):
            v[name] = torch.where(mask, v[name], v[other_name])

        def larger(m, v, other):
            torch.maximum(v[name], v[other_name], out=v[name])

        def filled(m, v, other):
            new = v[name].new_zeros(1, WIDTH)
            new[:, 2:] = v[name][:, :-2]
            v[name] = new

        def like(m, v, other):
            new = torch.full_like(v[name], c)
            new[:, ::2].add_(v[other_name][:, ::2])
            v[other_name] = new

        simple = [changed, changed, changed, alias, added, renamed, written, indexed]
        simple += [multiplied, copied, masked, chosen, larger, filled, like, self.linear()]
        if depth > 1:
            return self.pick(*simple)
        yes, no = self.statement(depth + 1), self.statement(depth + 1)

        def branch(condition):
            def run(m, v, other):
                (yes if condition(m, v[name], other) else no)(m, v, other)

            return run

        return self.pick(
            *simple,
            branch(lambda m, t, other: isinstance(t, torch.Tensor)),
            branch(lambda m, t, other: other is not None),
            branch(lambda m, t, other: t.shape[1] > 3 and m.flag),
            branch(lambda m, t, other: t.dim() == 2 and t.is_contiguous()),
            branch(lambda m, t, other: m.training),
            branch(lambda m, t, other: t.requires_grad),
        )

    def module(self) -> nn.Module:
        statements = [self.statement() for _ in range(self.rng.integers(3, 9))]
        statements.insert(int(self.rng.integers(len(statements))), self.linear())
        return Program(statements, self.layers, bool(self.rng.integers(2))).double()


def drawn(seed: int) -> nn.Module:
    """A module that runs; some draws write to memory that PyTorch doesn't allow."""
    for k in range(20):
        torch.manual_seed(seed)
        module = Maker(seed + 100_000 * k).module().eval()
        try:
            with torch.no_grad():
                module(torch.zeros(1, WIDTH, dtype=torch.float64))
        except RuntimeError:
            continue
        module.calls.zero_()
        return module
    raise AssertionError("no module runs")


def evaluated(module: nn.Module, points: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        rows = [module(torch.tensor(p[None])).numpy().reshape(-1) for p in points]
    return np.array(rows)


def read_or_refused(seed: int) -> str:
    """Whether the module of a seed was read, after both networks were compared."""
    module = drawn(seed).train()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    state = torch.random.get_rng_state()
    read = []
    for check_reading in (True, False):
        try:
            network = read_network(
                module, input_shape=(WIDTH,), check_reading=check_reading
            )
        except ValueError as error:
            read.append(str(error))
            continue
        read.append("")
        points = np.random.default_rng(seed).normal(size=(8, WIDTH)) * 2
        expected = evaluated(module.eval(), points)
        module.train().calls.zero_()
        difference = np.abs(network.evaluate(points) - expected).max()
        assert difference <= 1e-10 * max(1.0, np.abs(expected).max())
    # The check refuses nothing that was read right.
    assert read[0] == read[1]
    assert module.training and torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert not any(p.grad is not None for p in module.parameters())
    return read[0]


def test_random_modules():
    found = [read_or_refused(seed) for seed in range(QUICK)]
    assert sum(not text for text in found) >= QUICK // 2, found


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1000 + SLOW))
def test_many_random_modules(seed):
    read_or_refused(seed)
