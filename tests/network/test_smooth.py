"""The smooth primitive: values to 40 digits, derivatives, ranges, and all that keeps networks."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from pyomo_relu.bounds import compute_bounds
from pyomo_relu.network import Network, NetworkBuilder, Smooth, compress, rescale
from pyomo_relu.network.gradient import value_and_gradient
from pyomo_relu.network.smooth_functions import SMOOTH_FUNCTIONS, ULPS
from tests.harness.random_networks import SMOOTH, random_network

NAMES = list(SMOOTH_FUNCTIONS)


def truth(name, x, alpha):
    """The function at a number of mpmath, in its arithmetic."""
    mp = pytest.importorskip("mpmath").mp

    def sigmoid(z):
        return 1 / (1 + mp.exp(-z))

    rate = 2 * mp.sqrt(2 / mp.pi)
    return {
        "sigmoid": lambda: sigmoid(x),
        "tanh": lambda: mp.tanh(x),
        "softplus": lambda: mp.log1p(mp.exp(x)),
        "silu": lambda: x * sigmoid(x),
        "gelu": lambda: x * mp.erfc(-x / mp.sqrt(2)) / 2,
        "gelu_tanh": lambda: x * sigmoid(rate * (x + mp.mpf("0.044715") * x**3)),
        "mish": lambda: x * mp.tanh(mp.log1p(mp.exp(x))),
        "elu": lambda: x if x >= 0 else alpha * mp.expm1(x),
        "softsign": lambda: x / (1 + abs(x)),
        "arctan": lambda: mp.atan(x),
        "erf": lambda: mp.erf(x),
        "exp": lambda: mp.exp(x),
        "square": lambda: x * x,
        "bounded_square": lambda: (
            x * x if abs(x) <= alpha else alpha * (2 * abs(x) - alpha)
        ),
        "hard_swish": lambda: x * min(max(x + 3, mp.mpf(0)), mp.mpf(6)) / 6,
    }[name]()


def forty_digits():
    mp = pytest.importorskip("mpmath").mp
    mp.dps = 40
    return mp


def unit(name):
    alpha = 1.5 if name == "elu" else 1.0
    return Smooth("s", (1,), 0, name, alpha), alpha


def arguments(seed, n):
    rng = np.random.default_rng(seed)
    parts = [rng.normal(0.0, s, n) for s in (1e-5, 1.0, 6.0, 40.0)]
    return np.concatenate([*parts, [0.0, -3.0, 3.0, -700.0, 700.0]])


@pytest.mark.parametrize("name", NAMES)
def test_values_are_right_within_their_error(name):
    """Five units in the last place, measured; the margin is for other libraries."""
    mp = forty_digits()
    (node, alpha), x = unit(name), arguments(0, 40)
    y = node(x)
    for a, b, e in zip(x, y, node.form.error(y) * (5.0 / ULPS)):
        assert abs(truth(name, mp.mpf(float(a)), alpha) - float(b)) <= e + 1e-300, a


@pytest.mark.parametrize("name", NAMES)
def test_derivatives_are_right_within_their_error(name):
    mp = forty_digits()
    (node, alpha), x = unit(name), arguments(1, 8)
    x = x[~np.isin(x, node.form.kinks) & (abs(x) < 300.0)]
    d = node.derivative(x)
    for a, b, e in zip(x, d, node.form.derivative_error(d) * (5.0 / ULPS)):
        right = mp.diff(lambda t: truth(name, t, alpha), mp.mpf(float(a)))
        assert abs(right - float(b)) <= e, a


@pytest.mark.parametrize("name", NAMES)
def test_parts_bend_as_they_say(name):
    _, alpha = unit(name)
    for part in SMOOTH_FUNCTIONS[name].parts:
        low, high = max(part.left, -30.0), min(part.right, 30.0)
        d = np.diff(part.derivative(np.linspace(low, high, 2001)[1:-1], alpha))
        if part.bend == 0:
            assert not d.any()
        else:
            assert (part.bend * d >= -1e-15).all() and (part.bend * d > 0).any()


@pytest.mark.parametrize("name", NAMES)
def test_ranges_hold_all_values(name):
    node, _ = unit(name)
    rng = np.random.default_rng(2)
    c, w = rng.normal(0, 3, (400, 1)), 10.0 ** rng.uniform(-6, 1, (400, 1))
    low, high = node.range(c - w, c + w)
    x = c + w * np.linspace(-1, 1, 301)
    y = node(np.clip(x, c - w, c + w))
    assert (low <= y).all() and (y <= high).all()
    # Tight: an end is a value, or near the turning point.
    assert (y.min(axis=1) - low[:, 0] <= 1e-3 * (1 + w[:, 0]) ** 2).all()
    assert (high[:, 0] - y.max(axis=1) <= 1e-12 * (1 + abs(high[:, 0]))).all()


def test_exp_that_overflows_is_refused_by_name():
    node, _ = unit("exp")
    with pytest.raises(ValueError, match="layer 's' computes exp"):
        node.range(np.array([0.0]), np.array([1000.0]))


def mixed_network(seed):
    rng = np.random.default_rng(seed)
    chosen = [str(name) for name in rng.choice(SMOOTH, 2)]
    return random_network(
        rng,
        n_inputs=2,
        widths=(5, 4, 3),
        activations=[chosen[0], "relu", chosen[1]],
        residual=seed % 2 == 1,
        zero_rows=seed % 2,
        output_activation="sigmoid" if seed % 3 == 0 else None,
    )


@pytest.mark.parametrize("seed", range(6))
def test_gradients_are_slopes(seed):
    network = mixed_network(seed)
    rng = np.random.default_rng(seed)
    x, w = rng.uniform(-1, 1, (5, 2)), rng.normal(size=(5, network.n_outputs))
    y, g = value_and_gradient(network, x, w)
    for j in range(2):
        step = np.zeros(2)
        step[j] = 1e-6
        change = network.evaluate(x + step) - network.evaluate(x - step)
        np.testing.assert_allclose(g[:, j], (change * w).sum(axis=1) / 2e-6, atol=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_networks_are_kept(seed, tmp_path):
    network = mixed_network(seed)
    path = tmp_path / "n.npz"
    network.save(path)
    loaded = Network.load(path)
    assert loaded.fingerprint == network.fingerprint
    x = np.random.default_rng(seed).normal(size=(50, 2))
    assert (loaded.evaluate(x) == network.evaluate(x)).all()
    assert (pickle.loads(pickle.dumps(network)).evaluate(x) == network.evaluate(x)).all()
    scaled = rescale(network).network
    np.testing.assert_allclose(scaled.evaluate(x), network.evaluate(x), rtol=1e-12)
    small = compress(network, compute_bounds(network, -1, 1, "crown")).network
    x = np.random.default_rng(seed).uniform(-1, 1, (50, 2))
    np.testing.assert_allclose(small.evaluate(x), network.evaluate(x), atol=1e-12)


def one_unit(function, alpha=1.0):
    b = NetworkBuilder()
    return b.build([b.smooth("s", b.input("x", (2,)), function, alpha)])


def test_fingerprints_know_function_and_parameter():
    networks = [
        one_unit("tanh"),
        one_unit("sigmoid"),
        one_unit("elu"),
        one_unit("elu", 2.0),
    ]
    assert len({network.fingerprint for network in networks}) == 4
    assert [n.function for n in networks[0].smooth_layers] == ["tanh"]
    assert networks[0].n_neurons == 2


@pytest.mark.parametrize(
    ("function", "alpha", "message"),
    [
        ("tank", 1.0, "no smooth function 'tank'"),
        ("tanh", 2.0, "has no parameter"),
        ("elu", -1.0, "must be positive"),
    ],
)
def test_what_is_no_function_is_refused(function, alpha, message):
    with pytest.raises(ValueError, match=f"layer 's': .*{message}"):
        one_unit(function, alpha)


def test_units_that_read_nothing_become_constants():
    b = NetworkBuilder()
    x = b.input("x", (2,))
    h = b.affine("d", [(x, np.array([[1.0, 1.0], [0.0, 0.0]]))], [0.0, 0.7])
    network = b.build([b.affine("o", [(b.smooth("s", h, "tanh"), np.ones((1, 2)))])])
    found = compress(network, compute_bounds(network, -1, 1, "interval"))
    assert found.constant == 1 and found.network.n_neurons == 1
    x = np.array([0.3, 0.4])
    assert found.network.evaluate(x) == pytest.approx(network.evaluate(x), abs=1e-15)
