"""Clipped ReLU: activations with a cap, which caps the bounds of the next layer."""

from __future__ import annotations

import keras


def clipped_relu(max_value: float = 1.0, name: str | None = None) -> keras.layers.ReLU:
    """A layer ``min(max(x, 0), max_value)``.

    An ordinary Keras layer, so that a saved model is read without this package. Bounds
    behind it are at most ``max_value``, however deep the network; the price is up to
    two binaries for a neuron.

    Parameters
    ----------
    max_value : float
        Above 0.
    name : str, optional

    Source: Plate et al., arXiv 2502.03016.
    """
    if not max_value > 0:
        raise ValueError(
            f"max_value of a clipped ReLU is positive, but {max_value} is not."
        )
    return keras.layers.ReLU(max_value=float(max_value), name=name)
