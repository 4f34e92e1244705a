"""The files beside this script: one model saved by Keras 2, and what it gives at ten points.

Run it where ``tf_keras`` (here 2.21.0, the last series of Keras 2) and TensorFlow are
installed: ``TF_USE_LEGACY_KERAS=1 python make.py``.
"""

import gzip
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras as keras

HERE = Path(__file__).parent
L = keras.layers


def small_model():
    """Nested models, functions of TensorFlow, options of old, two layers of one shape."""
    rng = np.random.default_rng(0)
    x, z = keras.Input((4, 2), name="x"), keras.Input((2,), name="z")
    nested = keras.Sequential(
        [L.Dense(2, activation="hard_sigmoid", input_shape=(2,)), L.Dense(2)]
    )
    h = L.Conv1D(2, 2, padding="same", activation=tf.nn.relu)(x)
    h = L.BatchNormalization()(h)
    h = tf.nn.relu(h) * 2.0 + L.LeakyReLU(alpha=0.2)(h)
    h = tf.concat([h[:, 1, :], tf.reduce_mean(h, axis=1)], axis=-1)
    h = tf.where(h > 0.5, h, 0.5)
    shared = L.Dense(2, activation="tanh")
    g = 1.0 - tf.math.maximum(shared(nested(z)), shared(nested(z + 1.0)))
    y = L.Concatenate()([h, L.ThresholdedReLU(theta=0.1)(g)])
    out = [L.Dense(2, name="first")(y), L.Dense(2, name="second", activation="elu")(y)]
    model = keras.Model([x, z], out)
    model.set_weights(
        [
            np.abs(rng.normal(size=v.shape)) + 0.3
            if "variance" in v.name
            else 0.6 * rng.normal(size=v.shape)
            for v in model.weights
        ]
    )
    return model, rng


def main():
    """Write the files."""
    model, rng = small_model()
    points = [rng.normal(size=(10, *t.shape[1:])).astype("float32") for t in model.inputs]
    outputs = model.predict(points, verbose=0)
    flat = [np.hstack([a.reshape(10, -1) for a in part]) for part in (points, outputs)]
    np.savez_compressed(HERE / "points.npz", x=flat[0], y=flat[1])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        with zipfile.ZipFile(path) as old:
            with zipfile.ZipFile(HERE / path.name, "w", zipfile.ZIP_DEFLATED) as new:
                for name in old.namelist():
                    new.writestr(name, old.read(name))
        path = Path(folder) / "model.h5"
        model.save(path)
        (HERE / "model.h5.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))


main()
