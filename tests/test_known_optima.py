"""Optima that are known from elsewhere, from file to solver.

The figures are those of the data folder's README; the networks are read from their
files, so a fault in a reader, a bound or a formulation shows here.
"""

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import ReLUNetBlock
from tests.paths import shared_data


def optima(network, box, objective=lambda b: b.outputs[0], **options):
    """Minimum and maximum over the box, and the block's error at both."""
    m = pyo.ConcreteModel()
    m.net = ReLUNetBlock(network=network, input_bounds=box, **options)
    m.obj = pyo.Objective(expr=objective(m.net))
    solver = pyo.SolverFactory("appsi_highs")
    solver.highs_options = {"mip_rel_gap": 1e-9, "mip_abs_gap": 1e-9}
    found = []
    for sense in (pyo.minimize, pyo.maximize):
        m.obj.sense = sense
        pyo.assert_optimal_termination(solver.solve(m))
        assert m.net.error() < 1e-5
        found.append(pyo.value(m.obj))
    return found


@pytest.mark.parametrize(
    "file, low, high",
    [
        ("keras_linear_131_relu.keras", -0.6302871108, 0.9445220081),
        ("keras_linear_131_relu_output_activation.keras", 0.0, 0.8878498409),
    ],
)
def test_omlt_keras_models(file, low, high):
    pytest.importorskip("keras")
    found = optima(str(shared_data(f"omlt_models/{file}")), (-1, 1))
    assert found == pytest.approx([low, high], abs=1e-6)


def test_omlt_linear_model_with_three_outputs():
    pytest.importorskip("keras")
    path = str(shared_data("omlt_models/keras_linear_2353.keras"))
    low, high = optima(path, [(-1, 1), (2, 3)])
    m = pyo.ConcreteModel()
    m.net = ReLUNetBlock(network=path, input_bounds=[(-1, 1), (2, 3)])
    assert m.net.statistics().binaries == 0
    corners = [[a, b] for a in (-1, 1) for b in (2, 3)]
    values = m.net.evaluate(corners)[:, 0]
    assert [low, high] == pytest.approx([values.min(), values.max()], abs=1e-6)


def test_relumip_peaks():
    pytest.importorskip("keras")
    path = str(shared_data("relumip_peaks/peaks_3x10.h5"))
    found = optima(path, (-3, 3), bounds="crown")
    assert found == pytest.approx([-7.214193, 8.580816], abs=1e-6)


@pytest.mark.parametrize(
    "eps, best",
    [
        (0.001, -0.9449055174),
        (0.005, -0.2135120190),
        pytest.param(0.01, 0.6941120822, marks=pytest.mark.slow),
    ],
)
def test_omlt_mnist_network_without_its_log_softmax(eps, best):
    pytest.importorskip("onnx")
    path = str(shared_data("omlt_models/gemm.onnx"))
    with pytest.raises(ValueError, match="logits=True"):
        ReLUNetBlock(network=path, input_bounds=(0.5 - eps, 0.5 + eps))
    _, found = optima(
        path,
        (0.5 - eps, 0.5 + eps),
        lambda b: b.outputs[0] - b.outputs[8],
        logits=True,
        bounds="crown",
    )
    assert found == pytest.approx(best, abs=1e-6)


def test_every_keras_model_is_read():
    pytest.importorskip("keras")
    from pyomo_relu import read_network

    files = sorted(shared_data("omlt_models").glob("*.keras"))
    files += sorted(shared_data("gurobi_ml").glob("*.keras"))
    assert len(files) >= 8
    for file in files:
        network = read_network(str(file))
        import keras

        model = keras.saving.load_model(file, compile=False)
        x = np.random.default_rng(0).normal(size=(50, network.n_inputs)).astype("float32")
        expected = np.asarray(model.predict(x, verbose=0), dtype=float)
        scale = max(1.0, np.abs(expected).max())
        assert np.abs(network.evaluate(x) - expected).max() < 1e-5 * scale, file.name
