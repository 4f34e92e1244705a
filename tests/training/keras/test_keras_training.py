"""Penalties, clipped ReLU and pruning: each trains, and lowers what it is meant to lower."""

from __future__ import annotations

import re

import numpy as np
import pyomo.environ as pyo
import pytest

keras = pytest.importorskip("keras")

from pyomo_relu import ReLUNetBlock, read_network  # noqa: E402
from pyomo_relu.bounds import compute_bounds  # noqa: E402
from pyomo_relu.training.keras import (  # noqa: E402
    BigMPenalty,
    BoundsHistory,
    BoundWidthPenalty,
    L1Penalty,
    L2Penalty,
    LPGapPenalty,
    MagnitudePruning,
    PenalizedModel,
    Penalty,
    StabilityLoss,
    UnstablePenalty,
    clipped_relu,
    interval_bounds,
)
from tests.paths import ROOT  # noqa: E402

X = np.random.default_rng(0).uniform(-1, 1, (256, 2)).astype("float32")
Y = (np.sin(3 * X[:, :1]) + X[:, 1:] ** 2).astype("float32")


def small(seed=0, layers=(12, 12)):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input((2,))])
    for n in layers:
        model.add(keras.layers.Dense(n, "relu"))
    model.add(keras.layers.Dense(1))
    return model


def train(model, penalties, epochs=30, callbacks=(), **box):
    box = box if "radius" in box else {"lower": -1, "upper": 1, **box}
    trainer = PenalizedModel(model, penalties, **box)
    trainer.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=False)
    history = trainer.fit(
        X, Y, batch_size=64, epochs=epochs, verbose=0, callbacks=callbacks
    )
    error = float(((np.array(model(X)) - Y) ** 2).mean())
    return history.history, error


def measures(model):
    """Sum of big-M, unstable neurons, and the sum of absolute weights, by the package."""
    network = read_network(model)
    bounds = compute_bounds(network, -1.0, 1.0, "interval")
    big_m = unstable = 0
    for i, node in enumerate(network.nodes):
        if node.kind == "piecewise":
            open_ = ~bounds.stable(i)
            unstable += open_.sum()
            big_m += (bounds.upper[node.source] - bounds.lower[node.source])[open_].sum()
    weights = sum(
        abs(w).sum() for n in network.nodes if n.kind == "affine" for w in n.weights
    )
    return {"big_m": big_m, "unstable": unstable, "weights": weights}


@pytest.fixture(scope="module")
def plain():
    model = small()
    history, error = train(model, [])
    return measures(model), error, model


@pytest.mark.parametrize(
    "penalty, lowered, by",
    [
        (L1Penalty(3e-3), "weights", 0.6),
        (BigMPenalty(3e-3), "big_m", 0.6),
        (UnstablePenalty(5e-3), "unstable", 0.6),
        (StabilityLoss(1e-2), "unstable", 0.9),
    ],
    ids=lambda v: getattr(v, "name", None),
)
def test_penalty_trains_and_lowers_its_measure(plain, penalty, lowered, by):
    model = small()
    history, error = train(model, [penalty], callbacks=[BoundsHistory(-1, 1)])
    assert error < 0.15 * float(Y.var())  # it still learns
    assert measures(model)[lowered] < by * plain[0][lowered]
    assert history[penalty.name][-1] < history[penalty.name][0]
    unstable = measures(model)["unstable"]
    assert history["stable"][-1] == pytest.approx(1 - unstable / 24, abs=0.05)


def test_intervals_are_those_of_the_package():
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Rescaling(-2.0, 0.3),
            keras.layers.Conv2D(3, 3, strides=2, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(5),
            keras.layers.LeakyReLU(negative_slope=0.1),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    rng = np.random.default_rng(0)
    for v in model.weights:
        v.assign(rng.uniform(0.1, 1.0, v.shape) * np.sign(rng.normal(size=v.shape))
                 if "variance" not in v.path else rng.uniform(0.5, 2, v.shape))  # fmt: skip
    low = rng.uniform(0, 0.5, (1, 8, 8, 1)).astype("float32")
    high = low + 0.2
    found, outputs = interval_bounds(model, low, high)
    network = read_network(model, logits=True)
    bounds = compute_bounds(network, low.ravel(), high.ravel(), "interval")
    expected = [n.source for n in network.nodes if n.kind == "piecewise"]
    assert len(found) == len(expected) == 2
    for (a, b), i in zip(found, expected):
        assert np.array(a).ravel() == pytest.approx(bounds.lower[i], abs=1e-4)
        assert np.array(b).ravel() == pytest.approx(bounds.upper[i], abs=1e-4)
    assert np.array(outputs[0])[0] == pytest.approx(bounds.outputs[0], abs=1e-4)
    assert np.array(outputs[1])[0] == pytest.approx(bounds.outputs[1], abs=1e-4)


def test_boxes_around_samples():
    model = small()
    trainer = PenalizedModel(model, [StabilityLoss()], -1, 1, radius=0.1)
    low, high = trainer.terms.boxes(X)
    assert np.array(low).min() >= -1 and np.array(high).max() <= 1
    assert (np.array(high) - np.array(low)).max() == pytest.approx(0.2)
    history, _ = train(model, [StabilityLoss(1e-3)], epochs=2, radius=0.1)
    assert np.isfinite(history["loss"]).all()


def test_clipped_relu_is_read_and_caps_bounds():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,))])
    for _ in range(3):
        model.add(keras.layers.Dense(10))
        model.add(clipped_relu(1.5))
    model.add(keras.layers.Dense(1))
    _, error = train(model, [], epochs=30)
    assert error < 0.15 * float(Y.var())
    network = read_network(model)
    assert network.evaluate(X) == pytest.approx(np.array(model(X)), abs=1e-5)
    bounds = compute_bounds(network, -1.0, 1.0, "interval")
    kinds = [(i, n) for i, n in enumerate(network.nodes) if n.kind == "piecewise"]
    assert {n.function for _, n in kinds} == {"clipped_relu"}
    assert all(bounds.upper[i].max() <= 1.5 + 1e-9 for i, _ in kinds)
    with pytest.raises(ValueError, match="is positive"):
        clipped_relu(0.0)


def test_pruning_follows_its_schedule():
    model = small()
    pruning = MagnitudePruning(0.7, begin=20, end=100, frequency=10)
    assert (
        pruning.sparsity(19) == 0 and pruning.sparsity(100) == pruning.sparsity(500) == 0.7
    )
    assert 0 < pruning.sparsity(40) < pruning.sparsity(60) < 0.7
    _, error = train(model, [], epochs=30, callbacks=[pruning])
    kernels = [np.array(v) for v in model.trainable_variables if len(v.shape) > 1]
    for w in kernels[:-1]:
        assert (w == 0).sum() == int(0.7 * w.size)
    assert (kernels[-1] != 0).all()
    assert error < 0.2 * float(Y.var())
    with pytest.raises(ValueError, match="initial <= final"):
        MagnitudePruning(1.0, 0, 10)


def test_what_is_not_known_is_refused():
    with pytest.raises(ValueError, match="need a box"):
        PenalizedModel(small(), [BigMPenalty(1.0)])
    with pytest.raises(ValueError, match="both lower= and upper="):
        PenalizedModel(small(), [], -1)
    with pytest.raises(ValueError, match="different names"):
        PenalizedModel(small(), [L1Penalty(1), L1Penalty(2)])
    with pytest.raises(ValueError, match="not negative"):
        L1Penalty(-1.0)
    with pytest.raises(TypeError, match="value"):
        Penalty(1.0)  # has no value of its own
    odd = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, "swish", name="odd")])
    with pytest.raises(ValueError, match="'silu' of layer 'odd'"):
        PenalizedModel(odd, [BigMPenalty(1.0)], -1, 1)
    x = keras.Input((2,))
    a = keras.layers.Dense(2, "relu")(x)
    branched = keras.Model(x, keras.layers.Add(name="add")([a, x]))
    with pytest.raises(ValueError, match="chain"):
        PenalizedModel(branched, [BigMPenalty(1.0)], -1, 1)


def test_penalties_and_gradients_are_those_of_pytorch():
    torch = pytest.importorskip("torch")
    import tensorflow as tf

    from pyomo_relu.training.torch import PenaltyLoss

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Rescaling(0.5, 0.1),
            keras.layers.Dense(6),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.Dense(5, "relu"),
            keras.layers.Dense(4, "relu", use_bias=False),
            keras.layers.Dense(2),
        ]
    )
    rng = np.random.default_rng(0)
    for v in model.weights:
        spread = rng.uniform(0.5, 2.0, v.shape)
        v.assign(spread if "variance" in v.path else spread * rng.choice([-1, 1], v.shape))
    dense = [v for v in model.layers if isinstance(v, keras.layers.Dense)]
    norm = torch.nn.BatchNorm1d(6, eps=model.layers[2].epsilon)
    net = torch.nn.Sequential(
        torch.nn.Linear(2, 2), torch.nn.Linear(2, 6), norm, torch.nn.ReLU(),
        torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 4, bias=False),
        torch.nn.ReLU(), torch.nn.Linear(4, 2),
    )  # fmt: skip
    linear = [m for m in net if isinstance(m, torch.nn.Linear)]
    with torch.no_grad():
        linear[0].weight.copy_(0.5 * torch.eye(2))
        linear[0].bias.fill_(0.1)
        for one, layer in zip(linear[1:], dense):
            one.weight.copy_(torch.as_tensor(np.array(layer.kernel).T))
            if layer.use_bias:
                one.bias.copy_(torch.as_tensor(np.array(layer.bias)))
        for name, key in [
            ("weight", "gamma"),
            ("bias", "beta"),
            ("running_mean", "moving_mean"),
            ("running_var", "moving_variance"),
        ]:
            own = np.array(getattr(model.layers[2], key))
            getattr(norm, name).copy_(torch.as_tensor(own))
    for penalty in [
        L2Penalty(1.0),
        BoundWidthPenalty(1.0),
        UnstablePenalty(1.0, relative=False),
        BoundWidthPenalty(1.0, bounds="crown"),
        UnstablePenalty(1.0, relative=False, bounds="crown"),
        LPGapPenalty(1.0),
        LPGapPenalty(1.0, bounds="crown", sense="min", samples=3),
    ]:
        trainer = PenalizedModel(model, [penalty], -1, 1)
        loss = PenaltyLoss(net, [penalty], -1, 1)
        net.zero_grad()
        expected = loss(torch.as_tensor(X[:9]))
        expected.backward()
        with tf.GradientTape() as tape:
            (value,) = tf.function(trainer._values)(tf.constant(X[:9]))
        if penalty.name != "L2Penalty":  # there the scaling is a layer with weights
            assert float(value) == pytest.approx(float(expected.detach()), rel=1e-4)
        slopes = tape.gradient(value, [layer.kernel for layer in dense])
        for slope, one in zip(slopes, linear[1:]):
            if one.weight.grad is None:  # bounds don't read the last layer
                assert slope is None
                continue
            want = one.weight.grad.numpy().T
            assert np.array(slope) == pytest.approx(want, abs=1e-3 * float(abs(want).max()))


def test_every_so_many_batches():
    """Of three batches one has the penalty, three times as heavy."""
    model = small()
    trainer = PenalizedModel(model, [L1Penalty(0.5)], every=3)
    trainer.compile(keras.optimizers.SGD(0.0), "mse")
    plain = float(np.mean((model.predict(X, verbose=0) - Y) ** 2))
    size = sum(float(abs(w).sum()) for w in model.get_weights() if w.ndim > 1)
    found = []
    for _ in range(6):
        trainer.reset_metrics()
        found.append(trainer.train_on_batch(X, Y, return_dict=True)["loss"])
    assert found == pytest.approx([plain + 1.5 * size, plain, plain] * 2, rel=1e-4)
    # What is logged is the mean over the batches that have it.
    history = trainer.fit(X, Y, batch_size=len(X) // 7 + 1, verbose=0).history
    assert history["L1Penalty"] == pytest.approx([size], rel=1e-4)


def test_a_gap_is_trained_away_in_every_other_batch(plain):
    def gap(model):
        trainer = PenalizedModel(model, [LPGapPenalty(1.0, samples=64)], -1, 1)
        return float(trainer._values(X)[0])

    model = small()
    penalties = [LPGapPenalty(0.1), BoundWidthPenalty(1e-3, bounds="crown")]
    _, error = train(model, penalties, epochs=15, every=2)
    assert error < 0.4 * float(Y.var())
    assert gap(model) < 0.5 * gap(plain[2])
    with pytest.raises(ValueError, match="XLA"):
        PenalizedModel(model, [LPGapPenalty(1.0)], -1, 1).compile("adam", jit_compile=True)


def test_crown_and_gaps_need_a_chain_of_dense_layers():
    image = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Conv2D(2, 3, activation="relu", name="image"),
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ]
    )
    for penalty in (BigMPenalty(1.0, bounds="crown"), LPGapPenalty(1.0)):
        with pytest.raises(ValueError, match="layer 'image' .* use bounds='interval'"):
            PenalizedModel(image, [penalty], 0, 1)
    leaky = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(2, "leaky_relu"), keras.layers.Dense(1)]
    )
    PenalizedModel(leaky, [BigMPenalty(1.0, bounds="crown")], -1, 1)
    with pytest.raises(ValueError, match="is no ReLU"):
        PenalizedModel(leaky, [LPGapPenalty(1.0)], -1, 1)
    with pytest.raises(ValueError, match="every="):
        PenalizedModel(leaky, [], every=0)


def test_the_example_of_the_guide():
    text = (ROOT / "docs" / "guide" / "analysis.md").read_text("utf8")
    (code,) = re.findall(r"```python\n(import keras\n.*?)```", text, flags=re.DOTALL)
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(2), bounds=(-1, 1))
    exec(
        compile(code, "analysis.md", "exec"),
        {"x": X[:64], "y": Y[:64], "m": m, "ReLUNetBlock": ReLUNetBlock},
    )
    assert m.net.statistics().neurons == 40
