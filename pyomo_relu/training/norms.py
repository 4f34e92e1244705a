r"""Dual norms of the first layer's weights.

The largest change of :math:`w x` in a ball of radius :math:`r` is :math:`r\,\|w\|_*`. The
dual norms of 'linf' and 'l1' are linear. That of 'l2' is written by a tower of plane
norms, each by folding its angle in halves; the result is never below the norm, and above
it by less than :func:`excess`.

Source of the tower: Ben-Tal and Nemirovski, On polyhedral approximations of the
second-order cone, Mathematics of Operations Research 26(2), 2001.
"""

from __future__ import annotations

import math

import numpy as np

#: Norm of the ball and the norm of the weights that is its dual.
DUAL_NORMS = {"linf": "l1", "l1": "linf", "l2": "l2"}

#: The number of times that the angle of a plane norm is folded in halves. With 6 the tower
#: is above the norm by 0.03 % for each doubling of the number of weights.
FOLDS = 6

_COSINE = math.cos(math.pi / 2 ** (FOLDS + 1))


def excess(count: int) -> float:
    """Relative bound of how far 'l2' of ``count`` weights is over-estimated."""
    height = math.ceil(math.log2(count)) if count > 1 else 0
    return _COSINE**-height - 1.0


def largest(dual: str, count: int, bound: float) -> float:
    """The largest norm of ``count`` weights in [-bound, bound]."""
    if dual == "l1":
        return bound * count
    if dual == "linf":
        return bound
    return bound * math.sqrt(count) * (1.0 + excess(count))


def dual_norm(weights: np.ndarray, norm: str) -> np.ndarray:
    """The dual of a ball's norm for each row of weights; 'l2' without over-estimation.

    Parameters
    ----------
    weights : (n, d) array
    norm : {'linf', 'l1', 'l2'}
        The norm of the ball.
    """
    dual, size = DUAL_NORMS[norm], np.abs(weights)
    if dual == "l1":
        return size.sum(axis=1)
    if dual == "linf":
        return size.max(axis=1, initial=0.0)
    return np.sqrt((size**2).sum(axis=1))
