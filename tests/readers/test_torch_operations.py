"""Operations of PyTorch that are recognized as what they are, against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn.utils import prune  # noqa: E402

from pyomo_relu.network import PiecewiseLinear  # noqa: E402
from pyomo_relu.readers import read_network  # noqa: E402
from tests.readers.test_torch import One, Two, agree, function  # noqa: E402

W = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3)


def put(x):
    y = x.clone()
    y[y < 0.2] = 0.25
    return y


CHOICES = [
    lambda x: torch.where(x > 0, x, 0.1 * x),
    lambda x: torch.where(x <= 0, 0.1 * x, x),
    lambda x: torch.where(~(x > 0), -x, 2 * x),
    lambda x: torch.where(x > 0.3, 0.1 * x, 0.03),
    lambda x: torch.where(x @ W > 1, x @ W, 1.0) * 2,
    lambda x: torch.where(x[:, 1:] > x[:, :-1], x[:, 1:], x[:, :-1]),
    lambda x: torch.where(x > 0.5, 1.0, -1.0),
    lambda x: x * (x > 0),
    lambda x: (x > 0).double() * x,
    lambda x: (x - 1) * (x >= 1),
    lambda x: x.masked_fill(x < 0, 0.0),
    put,
    lambda x: torch.heaviside(x, torch.tensor(1.0, dtype=torch.float64)),
    lambda x: torch.heaviside(x.relu(), torch.tensor(0.0, dtype=torch.float64)),
    lambda x: torch.heaviside(
        x.relu(), torch.tensor([0.5, 1.0, 0.0, 3], dtype=torch.float64)
    ),
    lambda x: F.hardshrink(x, 0.7),
]


@pytest.mark.parametrize("k", range(len(CHOICES)))
def test_choices(k):
    function(CHOICES[k], (4,))


@pytest.mark.parametrize(
    "forward, name",
    [
        (lambda x: torch.where(x > 0, x, 0.1 * x), "leaky_relu"),
        (lambda x: x * (x > 0), "relu"),
        (lambda x: torch.where(x < 0, torch.zeros_like(x), x), "relu"),
    ],
)
def test_they_are_what_they_are(forward, name):
    network = read_network(One(forward).double(), input_shape=(4,))
    nodes = [v for v in network.nodes if isinstance(v, PiecewiseLinear)]
    assert [v.function for v in nodes] == [name]


MOVES = [
    (lambda x: torch.hstack([x, 2 * x]), (4,)),
    (lambda x: torch.hstack([x, torch.ones_like(x)]), (2, 3)),
    (lambda x: torch.dstack([x, x.relu()]), (2, 3)),
    (lambda x: torch.column_stack([x, x.abs()]), (4,)),
    (lambda x: torch.cat([x, x.relu()], axis=1).sum(axis=-1, keepdims=True), (4,)),
    (lambda x: x.max(axis=1).values + x.mean(axis=1), (4,)),
    (lambda x: torch.unsqueeze(x, axis=1).squeeze(axis=1).broadcast_to(x.shape), (4,)),
    (lambda x: torch.take_along_dim(x, torch.tensor([[2, 0]]), dim=1), (4,)),
    (lambda x: F.interpolate(x, scale_factor=2), (2, 5)),
    (lambda x: F.interpolate(x, scale_factor=1.5), (1, 3, 4)),
    (lambda x: F.interpolate(x, size=(5, 2), mode="nearest-exact"), (2, 3, 4)),
    (lambda x: F.interpolate(x, size=3), (1, 2, 4, 2)),
]


@pytest.mark.parametrize("k", range(len(MOVES)))
def test_moves(k):
    function(*MOVES[k])


@pytest.mark.parametrize(
    "equation, shape, other",
    [
        ("bi,ij->bj", (4,), (4, 3)),
        ("...i,ij->...j", (2, 4), (4, 3)),
        ("bij,ji->b", (2, 3), (3, 2)),
        ("bij,kj->bki", (2, 3), (5, 3)),
        ("bii->b", (3, 3), None),
        ("bii->bi", (3, 3), None),
        ("bij->bji", (2, 3), None),
        ("bi,i", (4,), (4,)),
        ("ij,bj->bi", (4,), (3, 4)),
        ("bi,j->bij", (2,), (3,)),
    ],
)
def test_einsum(equation, shape, other):
    values = [] if other is None else [torch.randn(other, dtype=torch.float64)]
    if equation.startswith("ij"):
        function(lambda x: torch.einsum(equation, values[0], x), shape)
    else:
        function(lambda x: torch.einsum(equation, x, *values), shape)


def test_other_products():
    function(lambda x: torch.tensordot(x, W, dims=1), (4,))
    function(lambda x: torch.tensordot(x, W, dims=([1], [1])), (3,))
    function(lambda x: torch.inner(x, W.T), (4,))
    three = torch.randn(3, 2, dtype=torch.float64)
    function(lambda x: torch.einsum("bi,ij,jk->bk", x, W, three), (4,))


@pytest.mark.parametrize(
    "module, shape",
    [
        (
            nn.Sequential(nn.Conv2d(1, 2, 2), nn.Upsample(scale_factor=2), nn.ReLU()),
            (1, 3, 4),
        ),
        (nn.Upsample(size=7), (2, 3)),
        (nn.UpsamplingNearest2d(scale_factor=3), (1, 2, 2)),
        (nn.Sequential(nn.Linear(4, 3), nn.Hardshrink(0.2)), (4,)),
        (nn.DataParallel(nn.Sequential(nn.Linear(4, 3), nn.ReLU())), (4,)),
        (nn.Sequential(nn.DataParallel(nn.Linear(4, 3)), nn.ReLU()), (4,)),
    ],
)
def test_modules(module, shape):
    agree(module, shape)


def pruned():
    module = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).double()
    prune.l1_unstructured(module[0], "weight", 0.4)
    prune.random_unstructured(module[2], "bias", 1)
    prune.ln_structured(module[2], "weight", 0.3, n=2, dim=1)
    prune.random_unstructured(module[2], "weight", 0.2)
    return module


def test_pruned_modules_stay_pruned():
    module = pruned()
    with torch.no_grad():  # as an optimizer does; the weights themselves are stale now
        module[0].weight_orig += 0.5
    network = read_network(module, input_shape=(4,))
    hooks = [list(part._forward_pre_hooks.values()) for part in module.modules()]
    assert [len(h) for h in hooks] == [0, 1, 0, 2]
    x = np.random.default_rng(0).normal(size=(5, 4))
    expected = module(torch.tensor(x)).detach().numpy()
    assert np.abs(network.evaluate(x) - expected).max() <= 1e-12
    agree(One(pruned()), (4,))
    other = pruned()
    other[0].register_forward_pre_hook(lambda part, given: None)
    with pytest.raises(ValueError, match="forward hooks"):
        read_network(other, input_shape=(4,))


def test_refusals_name_the_layer_and_the_remedy():
    cases = [
        (lambda x: torch.where(x[:, :1] > 0, x, 0.0), "'where' chooses by a comparison"),
        (lambda x: x * (x.flip(1) > 0), "'mul' chooses by a comparison"),
        (lambda x: torch.where((x > 0) & (x < 1), x, 0.0), "and.*is not supported"),
        (
            lambda x: F.interpolate(x[:, None], scale_factor=2, mode="linear"),
            "upsample_linear",
        ),
        (lambda x: torch.einsum("bi,bi->b", x, x), "'einsum' multiplies 2 tensors"),
        (
            lambda x: torch.einsum("bi,bj->ij", x, torch.ones(1, 2, dtype=x.dtype)),
            "batch axis",
        ),
    ]
    for forward, message in cases:
        with pytest.raises(ValueError, match=message):
            read_network(One(forward).double(), input_shape=(4,))
    with pytest.raises(
        ValueError, match="mode='bilinear' is not supported; use mode='nearest'"
    ):
        module = nn.Sequential(
            nn.Conv2d(1, 1, 1), nn.Upsample(scale_factor=2, mode="bilinear")
        )
        read_network(module, input_shape=(1, 3, 3))
    with pytest.raises(ValueError, match="multiplies two tensors"):
        read_network(Two(lambda x, z: x @ z.T).double(), input_shape=[(2,), (2,)])


SEEDS = [*range(15), *[pytest.param(s, marks=pytest.mark.slow) for s in range(15, 300)]]


@pytest.mark.parametrize("seed", SEEDS)
def test_random_choices(seed):
    """Read and right, or refused: choices among affine functions of what is compared."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    n = int(rng.integers(1, 5))
    first, second = nn.Linear(3, n), nn.Linear(n, 2)
    a, b, c, d, t = np.round(rng.normal(size=5) * 2).tolist()
    compare = [torch.gt, torch.ge, torch.lt, torch.le][rng.integers(4)]
    kind, shared = int(rng.integers(3)), bool(rng.random() < 0.8)

    def forward(x):
        h = first(x).relu() if kind == 1 else first(x)
        z = h if shared else first(x.flip(1))
        mask = compare(h, t)
        if kind == 2:
            return second((a * z + b) * mask + c * h)
        return second(torch.where(mask, a * z + b, c * h + d))

    module = One(forward)
    module.first, module.second = first, second
    if not shared and a:
        with pytest.raises(ValueError, match="chooses by a comparison"):
            read_network(module.double(), input_shape=(3,))
    else:
        agree(module, (3,), points=40)
