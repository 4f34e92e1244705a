"""Smaller boxes from linear inequalities that every wanted point fulfils.

A plane below the objective and the incumbent's value, or a plane below a row's activity
and its right-hand side, give ``a x <= b`` on the box. With the least value of ``a x``
over the box, each input alone can use up no more than what is left: for the objective
this is reduced-cost fixing, for rows bound tightening (FBBT).
"""

from __future__ import annotations

import numpy as np

# Relative to the terms of an inequality; far above what rounding can do.
MARGIN = 1e-9


def tighten_boxes(
    lower: np.ndarray,
    upper: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    integer: np.ndarray,
) -> np.ndarray:
    """Tighten boxes in place.

    Parameters
    ----------
    lower, upper : (N, n) arrays
        Changed.
    a, b : (N, K, n), (N, K) arrays
        ``a x <= b``; an infinite ``b`` says nothing.
    integer : (n,) bool array
        Inputs whose bounds are rounded inwards.

    Returns
    -------
    (N,) bool array
        Which boxes hold no such point.
    """
    least = np.where(a > 0, a * lower[:, None], a * upper[:, None])
    size = np.maximum(abs(lower), abs(upper))[:, None]
    total = least.sum(axis=-1)
    scale = (abs(a) * size).sum(axis=-1) + abs(b)
    with np.errstate(invalid="ignore"):
        left = np.where(np.isfinite(b), b - total + MARGIN * scale, np.inf)
    empty = np.asarray((left < 0).any(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        step = np.maximum(left, 0.0)[..., None] / abs(a)
    step = np.where(np.isnan(step) | (abs(a) <= 1e-12 * scale[..., None]), np.inf, step)
    up = np.where(a > 0, lower[:, None] + step, np.inf).min(axis=1)
    down = np.where(a < 0, upper[:, None] - step, -np.inf).max(axis=1)
    pad = 4e-16 * size[:, 0]
    new_low, new_high = np.maximum(lower, down - pad), np.minimum(upper, up + pad)
    if integer.any():
        new_low[:, integer] = np.ceil(new_low[:, integer] - 1e-6)
        new_high[:, integer] = np.floor(new_high[:, integer] + 1e-6)
        empty |= (new_low > new_high)[:, integer].any(axis=1)
    # Rounding may cross a box of no width; it then stays as it was.
    good = new_low <= new_high
    lower[...] = np.where(good, new_low, lower)
    upper[...] = np.where(good, new_high, upper)
    return empty
