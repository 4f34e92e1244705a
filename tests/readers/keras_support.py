"""What the tests of the Keras reader share: random weights, and the comparison."""

from __future__ import annotations

import numpy as np
import pytest

from pyomo_relu.network import Network


def import_keras():
    """The keras module; the test is skipped where it, or its backend, is missing."""
    return pytest.importorskip("keras", reason="keras and a backend are not installed")


def randomize(model, rng: np.random.Generator) -> None:
    """Give every variable of a model random values that make sense for it."""
    for variable in model.variables:
        if "int" in str(variable.dtype):
            continue
        values = rng.normal(size=variable.shape, scale=0.6)
        if "variance" in variable.path:
            values = np.abs(values) + 0.3
        variable.assign(values)


def in_float64(model) -> bool:
    """Whether the framework runs this model in float64.

    On PyTorch, Keras computes matrix products of float64 tensors in float32.
    """
    import keras

    tensors = [*model.variables, *model.inputs, *model.outputs]
    dtypes = {str(t.dtype) for t in tensors if "int" not in str(t.dtype)}
    return dtypes == {"float64"} and keras.config.backend() == "tensorflow"


def predicted(model, points: list[np.ndarray]) -> np.ndarray:
    """The model's outputs as one flat row for each point."""
    import keras

    batch = [p.astype(str(t.dtype)) for p, t in zip(points, model.inputs)]
    struct = getattr(model, "_inputs_struct", None)  # dictionaries need their keys
    x = batch[0] if struct is None else keras.tree.pack_sequence_as(struct, batch)
    outputs = keras.tree.flatten(model.predict_on_batch(x))
    return np.hstack([np.asarray(o, float).reshape(len(points[0]), -1) for o in outputs])


def assert_agrees(model, network: Network, rng, n: int = 6, tolerance=None) -> None:
    """The network equals the model at random points, relative to the largest output."""
    shapes = [tuple(t.shape)[1:] for t in model.inputs]
    points = [rng.normal(size=(n, *s), scale=2.0) for s in shapes]
    points = [p.astype(str(t.dtype)) for p, t in zip(points, model.inputs)]
    expected = predicted(model, points)
    found = network.evaluate(np.hstack([p.reshape(n, -1).astype(float) for p in points]))
    if tolerance is None:
        tolerance = 1e-12 if in_float64(model) else 1e-5
    assert found.shape == expected.shape
    assert np.isfinite(expected).all()
    scale = max(1.0, np.abs(expected).max())
    error = np.abs(found - expected).max()
    assert error <= tolerance * scale, f"{error:.3g} of {scale:.3g}"
