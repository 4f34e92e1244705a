"""input_scaler= and output_scaler=: networks trained on scaled data."""

from __future__ import annotations

import numpy as np
import pytest

from pyomo_relu.network import NetworkBuilder, activations
from pyomo_relu.readers import read_network

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4)) * [1, 20, 0.1, 5] + [3, -50, 0, 1]
Y = RNG.normal(size=(40, 2)) * [5, 0.1] + [100, -1]


def network(**names):
    b = NetworkBuilder()
    x = b.input("x", (4,))
    h = b.affine("h", [(x, RNG.normal(size=(6, 4)))], RNG.normal(size=6))
    r = b.piecewise("relu", h, activations.relu())
    w = RNG.normal(size=(2, 6))
    return b.build([b.affine("y", [(r, w)], [1.0, 2.0])], **names)


def check(scaled, expected, x=X):
    difference = np.abs(scaled.evaluate(x) - expected).max()
    assert difference <= 1e-11 * max(1.0, np.abs(expected).max())


def test_offset_and_factor():
    net = network(input_names=list("abcd"))
    offset, factor = X.mean(0), X.std(0)
    scaled = read_network(
        net, input_scaler=(offset, factor), output_scaler=(5.0, [2.0, -3])
    )
    check(scaled, net.evaluate((X - offset) / factor) * [2.0, -3.0] + 5.0)
    assert scaled.input_names == tuple("abcd")
    assert len(scaled.nodes) == len(net.nodes)  # fused: no node more
    check(read_network(net, input_scaler=(1.0, 2.0)), net.evaluate((X - 1) / 2))
    check(read_network(net, output_scaler=([1.0, 0.0], 2.0)), net.evaluate(X) * 2 + [1, 0])


def test_shape_of_the_input_stays():
    b = NetworkBuilder()
    x = b.input("image", (2, 3))
    net = b.build([b.piecewise("relu", x, activations.relu())])
    scaled = read_network(net, input_scaler=(0.5, 2.0))
    assert scaled.nodes[scaled.inputs[0]].shape == (2, 3)
    point = RNG.normal(size=(2, 3))
    assert np.allclose(scaled.evaluate(point), np.maximum((point.ravel() - 0.5) / 2, 0))


def test_several_inputs_and_outputs_and_all_primitives():
    b = NetworkBuilder()
    x, z = b.input("x", (2,)), b.input("z", (2,))
    m = b.max("m", x, [[0, 1], [1]])
    p = b.piecewise("p", z, activations.leaky_relu(np.array([0.1, 0.2])))
    net = b.build([m, p])
    scaled = read_network(
        net, input_scaler=([1, 2, 3, 4], [1, 2, -1, 4]), output_scaler=(1, [1, 2, 3, 4])
    )
    expected = net.evaluate((X - [1, 2, 3, 4]) / [1, 2, -1, 4]) * [1, 2, 3, 4] + 1
    check(scaled, expected)
    assert len(scaled.inputs) == 2 and len(scaled.outputs) == 2


def test_fitted_scalers():
    pytest.importorskip("sklearn")
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import (
        MaxAbsScaler,
        MinMaxScaler,
        RobustScaler,
        StandardScaler,
    )

    net = network()
    for s in (StandardScaler(), MinMaxScaler(clip=True), RobustScaler(), MaxAbsScaler()):
        s.fit(X)
        check(read_network(net, input_scaler=s), net.evaluate(s.transform(X)))
        s.fit(Y)
        expected = s.inverse_transform(net.evaluate(X))
        check(read_network(net, output_scaler=s), expected)
    wide = np.hstack([X, X[:, :2] * 3 + RNG.normal(size=(40, 2))])
    pca = make_pipeline(StandardScaler(), PCA(4)).fit(wide)
    scaled = read_network(net, input_scaler=pca)
    assert scaled.n_inputs == 6
    check(scaled, net.evaluate(pca.transform(wide)), wide)


def test_columns_become_names():
    pytest.importorskip("sklearn")
    pd = pytest.importorskip("pandas")
    from sklearn.preprocessing import StandardScaler

    sx = StandardScaler().fit(pd.DataFrame(X, columns=list("abcd")))
    sy = StandardScaler().fit(pd.DataFrame(Y, columns=["H2", "N2"]))
    net = network()
    scaled = read_network(net, input_scaler=sx, output_scaler=sy)
    assert scaled.input_names == tuple("abcd") and scaled.output_names == ("H2", "N2")
    named = read_network(net, input_scaler=sx, input_names=list("wxyz"))
    assert named.input_names == tuple("wxyz")


def test_what_is_refused():
    net = network()
    for scaler, message in [
        ((0.0, 0.0), "non-zero"),
        ((np.nan, 1.0), "finite"),
        (([1.0, 2.0], 1.0), "2 entries as offset; 4"),
        (3.0, "pair"),
        ("standard", "pair"),
    ]:
        with pytest.raises(ValueError, match=message):
            read_network(net, input_scaler=scaler)
    pytest.importorskip("sklearn")
    from sklearn.preprocessing import Normalizer, StandardScaler

    with pytest.raises(ValueError, match="Normalizer"):
        read_network(net, input_scaler=Normalizer().fit(X))
    with pytest.raises(ValueError, match="not fitted"):
        read_network(net, input_scaler=StandardScaler())
    with pytest.raises(ValueError, match="makes 2 features; the network has 4"):
        read_network(net, input_scaler=StandardScaler().fit(Y))
    with pytest.raises(ValueError, match="fitted on 4 outputs"):
        read_network(net, output_scaler=StandardScaler().fit(X))
