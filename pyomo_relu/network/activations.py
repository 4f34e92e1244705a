"""The piecewise-linear activations by name: breakpoints, slopes and intercepts.

Each function returns ``(function, breakpoints, slopes, intercepts)`` for
:meth:`NetworkBuilder.piecewise`; parameters may be arrays with one entry for each
neuron. ``sign`` is +1 at 0 and ``step`` is 1 at 0: one tie convention everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Pieces = tuple[str, np.ndarray, np.ndarray, np.ndarray]


#: A number, or one for each neuron.
Parameter = float | np.ndarray


def _pieces(
    name: str,
    breakpoints: Sequence[Parameter],
    slopes: Sequence[Parameter],
    intercepts: Sequence[Parameter],
) -> Pieces:
    def stack(rows: Sequence[Parameter]) -> np.ndarray:
        arrays = np.broadcast_arrays(*[np.asarray(r, dtype=float) for r in rows])
        return np.stack(arrays, axis=-1)

    return name, stack(breakpoints), stack(slopes), stack(intercepts)


def relu(
    max_value: Parameter | None = None,
    negative_slope: Parameter = 0.0,
    threshold: Parameter = 0.0,
) -> Pieces:
    """Keras' general ReLU.

    ``min(x, max_value)`` for ``x >= threshold``, else
    ``negative_slope * (x - threshold)``; a threshold other than 0 makes a step.
    """
    slope, low = np.asarray(negative_slope, float), np.asarray(threshold, float)
    if max_value is not None and np.any(np.asarray(max_value, float) < low):
        raise ValueError(
            "a ReLU with max_value below its threshold is not monotone; "
            "give max_value >= threshold."
        )
    plain = not slope.any() and not low.any()
    if max_value is None:
        name = "relu" if plain else ("leaky_relu" if not low.any() else "threshold_relu")
        return _pieces(name, [low], [slope, 1.0], [-slope * low, 0.0])
    name = "clipped_relu" if plain else "general_relu"
    return _pieces(
        name, [low, max_value], [slope, 1.0, 0.0], [-slope * low, 0.0, max_value]
    )


def leaky_relu(negative_slope: Parameter = 0.2) -> Pieces:
    """``x`` for ``x >= 0``, else ``negative_slope * x``; also PReLU, slope by neuron."""
    return _pieces("leaky_relu", [0.0], [negative_slope, 1.0], [0.0, 0.0])


def relu6() -> Pieces:
    """``min(max(x, 0), 6)``."""
    return relu(max_value=6.0)


def clip(low: Parameter = -1.0, high: Parameter = 1.0) -> Pieces:
    """``min(max(x, low), high)``; hard tanh for (-1, 1)."""
    if np.any(np.asarray(low, float) >= np.asarray(high, float)):
        raise ValueError("clip needs low < high.")
    return _pieces("clip", [low, high], [0.0, 1.0, 0.0], [low, 0.0, high])


def hard_sigmoid(slope: Parameter = 1.0 / 6.0, offset: Parameter = 0.5) -> Pieces:
    """``min(max(slope * x + offset, 0), 1)``; Keras 3 and PyTorch: 1/6 and 1/2."""
    return _pieces(
        "hard_sigmoid",
        [-offset / slope, (1.0 - offset) / slope],
        [0.0, slope, 0.0],
        [0.0, offset, 1.0],
    )


def absolute() -> Pieces:
    """``|x|``."""
    return _pieces("abs", [0.0], [-1.0, 1.0], [0.0, 0.0])


def step() -> Pieces:
    """1 if ``x >= 0``, else 0."""
    return _pieces("step", [0.0], [0.0, 0.0], [0.0, 1.0])


def sign() -> Pieces:
    """1 if ``x >= 0``, else -1."""
    return _pieces("sign", [0.0], [0.0, 0.0], [-1.0, 1.0])


ACTIVATIONS: dict[str, Callable[..., Pieces]] = {
    "relu": relu,
    "leaky_relu": leaky_relu,
    "relu6": relu6,
    "clip": clip,
    "hard_tanh": clip,
    "hard_sigmoid": hard_sigmoid,
    "abs": absolute,
    "step": step,
    "sign": sign,
}
