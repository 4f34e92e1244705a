"""PyTorch modules against PyTorch itself, in float64."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from pyomo_relu.readers import read_network  # noqa: E402
from pyomo_relu.readers.torch import walker  # noqa: E402
from tests.paths import shared_data  # noqa: E402


def agree(module, *shapes, points: int = 4, tolerance: float = 1e-12, **options) -> None:
    """Assert that the network is the module in eval mode."""
    module = module.double()
    given = shapes[0] if len(shapes) == 1 else shapes
    network = read_network(module, input_shape=given, **options)
    module.eval()
    rng = np.random.default_rng(0)
    xs = [rng.uniform(-2, 2, (points, *shape)) for shape in shapes]
    with torch.no_grad():
        y = module(*[torch.tensor(x) for x in xs])
    ys = y if isinstance(y, (tuple, list)) else [y]
    expected = np.hstack([np.asarray(v.double()).reshape(points, -1) for v in ys])
    got = network.evaluate(np.hstack([x.reshape(points, -1) for x in xs]))
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= tolerance * max(1.0, np.abs(expected).max())


class One(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.function = forward

    def forward(self, x):
        return self.function(x)


class Two(One):
    def forward(self, x, z):
        return self.function(x, z)


def function(forward, *shapes, **options) -> None:
    """`agree` for a module whose forward is the given function."""
    agree((One if len(shapes) == 1 else Two)(forward), *shapes, **options)


def setup_module():
    torch.manual_seed(0)


ACTIVATIONS = [
    nn.ReLU(),
    nn.ReLU6(),
    nn.LeakyReLU(),
    nn.LeakyReLU(0.3),
    nn.PReLU(),
    nn.PReLU(3, 0.1),
    nn.RReLU(),
    nn.Hardtanh(),
    nn.Hardtanh(-0.5, 2.0),
    nn.Hardsigmoid(),
    nn.Threshold(0.5, 0.5),
    nn.Threshold(0.5, -1.0),
    nn.Softshrink(0.3),
    nn.Identity(),
    nn.Dropout(0.5),
    nn.AlphaDropout(0.5),
]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_activation_modules(activation):
    agree(nn.Sequential(nn.Linear(4, 3), activation, nn.Linear(3, 2, bias=False)), (4,))


FUNCTIONS = [
    torch.relu,
    F.relu6,
    F.hardtanh,
    F.hardsigmoid,
    torch.abs,
    torch.sign,
    lambda x: torch.sign(torch.relu(x)),
    lambda x: (torch.relu(x) > 0).to(x.dtype) + (torch.relu(x) >= 0).double(),
    lambda x: (x < 0.5).double() - (torch.relu(x) <= 0).double(),
    lambda x: F.threshold(F.relu(x) + 1, 1.0, 0.0),
    lambda x: F.leaky_relu(x, 0.3),
    lambda x: x.clamp(-0.5),
    lambda x: x.clamp(max=0.5),
    lambda x: torch.clamp(x, 0, 1),
    lambda x: x.clamp_min(0.2).clamp_max(1.0),
    lambda x: F.dropout(x, training=False),
    lambda x: x + 1 - x * 2,
    lambda x: 1 - x / 4,
    lambda x: torch.sub(x, x.relu(), alpha=2),
    lambda x: torch.maximum(x, -x),
    lambda x: torch.minimum(x, torch.tensor(0.3)),
    lambda x: torch.max(x, 2 * x),
    lambda x: x.relu_(),
    lambda x: -x.contiguous().float(),
]


@pytest.mark.parametrize("forward", FUNCTIONS)
def test_functions_on_vectors(forward):
    function(lambda x: forward(2 * x), (5,), tolerance=1e-6)


def test_reductions():
    function(lambda x: x.sum(1), (3, 4))
    function(lambda x: x.mean((-1, -2), keepdim=True), (3, 4))
    function(lambda x: x.amax(-1), (3, 4))
    function(lambda x: torch.max(x, dim=1).values, (3, 4))
    function(lambda x: torch.min(x, 2)[0], (3, 4))
    mixing = (
        torch.sum,
        lambda x: x.mean(0),
        torch.max,
        lambda x: x[0],
        lambda x: x.flip(0),
    )
    for forward in mixing:
        with pytest.raises(ValueError, match="batch axis"):
            function(forward, (3, 4))


MOVES = [
    lambda x: x.flatten(1),
    lambda x: torch.flatten(x, 2),
    lambda x: x.view(x.size(0), -1),
    lambda x: x.view(x.shape[0], 4, 6),
    lambda x: x.reshape((-1, 24)),
    lambda x: x.permute(0, 3, 1, 2),
    lambda x: x.transpose(1, -1),
    lambda x: x.permute(1, 0, 2, 3).relu().permute(1, 0, 2, 3),
    lambda x: x.unsqueeze(1).squeeze(1),
    lambda x: x[:, :1].squeeze(),
    lambda x: x[:, 1],
    lambda x: x[..., 1:, ::2],
    lambda x: x[:, :, [2, 0], None],
    lambda x: x.repeat(1, 2, 1, 1),
    lambda x: x[:, :1].expand(-1, 5, -1, -1),
    lambda x: x.expand(x.size(0), 2, 3, 4),
    lambda x: x.flip(2).roll(1, 3),
    lambda x: torch.cat([x, -x[:, 1:]], dim=1),
    lambda x: torch.stack([x, 2 * x], -1),
    lambda x: torch.cat(x.chunk(2, 3)[::-1], 3),
    lambda x: sum(x.split([1, 2], 2)[1].unbind(1)),
    lambda x: F.pad(x, (1, 0, 2, 1), value=0.5),
    lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"),
    lambda x: F.pixel_unshuffle(x[:, :, :2], 2),
    lambda x: x.unflatten(1, (1, 2)),
    lambda x: torch.cat([x, torch.ones(x.size(0), 1, 3, 4)], 1),
    lambda x: x.movedim(1, 3),
]


@pytest.mark.parametrize("forward", MOVES)
def test_moves(forward):
    points = 1 if forward is MOVES[25] else 4
    function(lambda x: forward(x), (2, 3, 4), points=points)


def test_matrix_products():
    w = torch.randn(4, 5, dtype=torch.float64)
    function(lambda x: x @ w, (4,))
    function(lambda x: torch.matmul(x, w), (2, 3, 4))
    function(lambda x: w.T @ x, (4, 3))
    function(lambda x: F.linear(x, w.T, w[0]), (4,))
    with pytest.raises(ValueError, match="both depend"):
        function(lambda x: x @ x.transpose(1, 2), (3, 4))


def _channel_prelu():
    layer = nn.PReLU(2)
    layer.weight.data = torch.tensor([0.1, -0.5])
    return layer


CONVOLUTIONS = [
    (nn.Conv1d(2, 3, 3, padding=1), (2, 7)),
    (nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 0), bias=False), (2, 6, 5)),
    (nn.Conv2d(4, 4, 3, groups=2, dilation=2, padding="same"), (4, 6, 5)),
    (nn.Conv2d(2, 4, 4, padding="same"), (2, 6, 5)),
    (nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"), (2, 6, 5)),
    (nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular"), (2, 6, 5)),
    (nn.Conv3d(1, 2, 2), (1, 3, 3, 3)),
    (_channel_prelu(), (2, 3, 3)),
    (nn.ConvTranspose1d(2, 3, 3, stride=2, padding=1, output_padding=1), (2, 4)),
    (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2, dilation=2), (4, 3, 3)),
    (nn.MaxPool1d(2), (2, 7)),
    (nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True), (2, 6, 7)),
    (nn.MaxPool2d(2, dilation=2), (2, 6, 7)),
    (nn.AvgPool1d(3, 2, 1), (2, 7)),
    (nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), (2, 6, 7)),
    (nn.AvgPool2d(3, 2, 1, ceil_mode=True), (2, 6, 7)),
    (nn.AdaptiveAvgPool2d(1), (2, 6, 7)),
    (nn.AdaptiveAvgPool2d((3, None)), (2, 6, 7)),
    (nn.AdaptiveMaxPool1d(2), (2, 6)),
    (nn.ZeroPad2d((1, 2, 0, 1)), (2, 3, 4)),
    (nn.ConstantPad1d(1, 0.5), (2, 3)),
    (nn.ReplicationPad2d(1), (2, 3, 4)),
    (nn.PixelShuffle(2), (4, 2, 3)),
    (nn.Unflatten(1, (2, 3)), (6,)),
]


@pytest.mark.parametrize("layer, shape", CONVOLUTIONS, ids=repr)
def test_spatial_layers(layer, shape):
    agree(nn.Sequential(layer, nn.ReLU()), shape)


def _trained(layer, *shape):
    """A batch normalization with statistics of its own, left in training mode."""
    for _ in range(3):
        layer(torch.randn(8, *shape) * 2 + 1)
    with torch.no_grad():
        for p in layer.parameters():
            p.uniform_(-1, 1)
    return layer.train()


def test_batch_normalization_is_read_in_eval_mode():
    for module, shape in [
        (nn.Sequential(nn.Linear(3, 4), _trained(nn.BatchNorm1d(4), 4), nn.ReLU()), (3,)),
        (nn.Sequential(_trained(nn.BatchNorm1d(2), 2, 5), nn.Flatten()), (2, 5)),
        (
            nn.Sequential(
                nn.Conv2d(1, 2, 3), _trained(nn.BatchNorm2d(2), 2, 4, 4), nn.ReLU()
            ),
            (1, 5, 5),
        ),
        (nn.Sequential(_trained(nn.BatchNorm1d(3, affine=False), 3)), (3,)),
    ]:
        module.train()
        module[0].eval()
        read_network(module, input_shape=shape)
        assert module.training and not module[0].training  # the modes are as they were
        agree(module, shape)
    with pytest.raises(ValueError, match="running statistics"):
        agree(nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False)), (3,))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.shared = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
        self.last = nn.Linear(12, 3)
        self.scale = nn.Parameter(torch.tensor(0.3))
        self.register_buffer("offset", torch.ones(6))

    def forward(self, x, flag: bool = True):
        h = F.relu(self.first(x - self.offset))
        h = self.shared(h) * self.scale + h
        h = self.shared(h) + h
        return self.last(torch.cat([h, x], dim=1))


def test_modules_of_ones_own():
    agree(Residual(), (6,))
    agree(nn.Sequential(Residual(), nn.ReLU(), nn.Linear(3, 1)), (6,))
    agree(nn.Linear(3, 2), (3,))


def test_several_inputs_and_outputs():
    function(lambda x, z: (torch.relu(x) - z[:, :3], 2 * z), (3,), (4,))


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(3, 4)
        self.conv = nn.Sequential(nn.Conv1d(1, 2, 2), nn.BatchNorm1d(2), nn.MaxPool1d(2))

    def forward(self, x):
        if x.shape[-1] > 2:
            h = F.dropout(F.relu(self.a(x)), training=self.training)
            h = self.conv(h.unsqueeze(1)).flatten(1)
            return F.pad(h, (0, 1)).clamp(-1, 0.5)
        return x


def test_a_branch_on_a_shape():
    agree(Branching(), (3,))


def test_onnx_where_the_export_fails(monkeypatch):
    pytest.importorskip("onnx")

    def fail(*args):
        raise walker.Untraceable("as if")

    monkeypatch.setattr(walker, "trace", fail)
    agree(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)), (3,))
    head = nn.Sequential(nn.Linear(3, 2), nn.Softmax(1))
    with pytest.raises(ValueError, match="Softmax.*logits=True"):
        read_network(head)


class OnValues(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Random(nn.Module):
    def forward(self, x):
        return x + torch.randn(3)


def test_what_is_refused():
    with pytest.raises(ValueError, match="branches on values"):
        read_network(OnValues(), input_shape=(3,))
    with pytest.raises(ValueError, match="random numbers"):
        read_network(Random(), input_shape=(3,))
    with pytest.raises(ValueError, match="at random even in eval mode"):
        function(lambda x: F.dropout(x), (3,))
    with pytest.raises(ValueError, match="Softmin"):
        read_network(nn.Sequential(nn.Linear(3, 2), nn.Softmin(1), nn.Linear(2, 1)))
    with pytest.raises(ValueError, match="threshold=5"):
        read_network(nn.Sequential(nn.Linear(3, 2), nn.Softplus(threshold=5)))
    with pytest.raises(ValueError, match="LayerNorm"):
        read_network(nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2)))
    with pytest.raises(ValueError, match="sin"):
        function(torch.sin, (3,))
    with pytest.raises(ValueError, match="divisor depends"):
        function(lambda x: x / (2.0 + x.abs()), (3,))
    with pytest.raises(ValueError, match="input_shape="):
        read_network(nn.Conv1d(1, 1, 2))
    with pytest.raises(ValueError, match="load_state_dict"):
        read_network(nn.Linear(3, 2).state_dict())
    hooked = nn.Sequential(nn.Linear(3, 2))
    hooked[0].register_forward_hook(lambda m, i, o: o * 2)
    with pytest.raises(ValueError, match="'0' .Linear. has forward hooks"):
        read_network(hooked)


@pytest.mark.parametrize(
    "head", [nn.Softmax(1), nn.LogSoftmax(1), nn.Sigmoid(), lambda x: torch.argmax(x, 1)]
)
def test_heads_need_logits(head):
    linear = nn.Linear(3, 2).double()

    class Module(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.head = linear, head

        def forward(self, x):
            return self.head(self.linear(x))

    network = read_network(Module(), logits=True)
    x = np.array([0.5, -1.0, 2.0])
    assert np.allclose(network.evaluate(x), linear(torch.tensor(x)).detach().numpy())
    inside = nn.Sequential(Module(), nn.ReLU())
    if isinstance(head, nn.Sigmoid):  # a unit, unless it is taken off the end
        agree(Module(), (3,))
        agree(inside, (3,))
        assert len(read_network(inside, logits=True, input_shape=(3,)).smooth_layers) == 1
        return
    with pytest.raises(ValueError, match="logits=True"):
        read_network(Module())
    with pytest.raises(ValueError, match="followed by ReLU"):
        read_network(inside, logits=True, input_shape=(3,))


def test_parametrized_weights_are_read_as_they_act():
    from torch.nn.utils.parametrizations import weight_norm

    agree(nn.Sequential(weight_norm(nn.Linear(3, 4)), nn.ReLU(), nn.Linear(4, 1)), (3,))


def test_float32_modules():
    module = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2))
    network = read_network(module)
    x = np.random.default_rng(0).normal(size=(10, 5))
    expected = module(torch.tensor(x, dtype=torch.float32)).detach().numpy()
    assert np.abs(network.evaluate(x) - expected).max() < 1e-5


def test_real_state_dicts():
    state = torch.load(shared_data("gamspy/ffn_data.pth"), weights_only=True)
    sizes = [v.shape for v in state.values() if v.ndim == 2]
    module = nn.Sequential(
        *[m for s in sizes for m in (nn.Linear(s[1], s[0]), nn.ReLU())][:-1]
    )
    module.load_state_dict(dict(zip(module.state_dict(), state.values())))
    assert sizes[0][1] == 784
    agree(module, (784,))
    state = torch.load(shared_data("gamspy/cnn_data.pth"), weights_only=True)

    class Convolutions(nn.Module):
        def __init__(self):
            super().__init__()
            self.l1 = nn.Sequential(nn.Conv2d(1, 8, 5), nn.ReLU(), nn.MaxPool2d(2))
            self.l2 = nn.Sequential(nn.Conv2d(8, 4, 5), nn.ReLU(), nn.MaxPool2d(2))
            self.fc = nn.Linear(64, 10)

        def forward(self, x):
            return self.fc(self.l2(self.l1(x)).view(x.size(0), -1))

    module = Convolutions()
    module.load_state_dict(state)
    agree(module, (1, 28, 28))
