r"""Probabilities from scores: one factor, fitted on points that trained nothing.

Scores of networks of steps are sums of a few small weights and no probabilities. One factor
of all scores is chosen so that the points that were set aside are most likely: the logistic
function of one score, the softmax of several. The order of the classes stays as it is.
Targets are smoothed as in [1]_, so that points without an error have a finite factor.

References
----------
.. [1] Platt, Probabilistic outputs for support vector machines, 1999; a factor alone:
   Guo et al., On calibration of modern neural networks, arXiv 1706.04599.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

#: The logarithm of the factor, of scores that are at most 1, is looked for within this.
RANGE = -7.0, 7.0


def _columns(scores: np.ndarray) -> np.ndarray:
    """(n, classes) scores; of two classes half of the one score for each."""
    if scores.ndim == 1:
        return np.column_stack([-0.5 * scores, 0.5 * scores])
    return scores


def fitted_factor(
    scores: np.ndarray, codes: np.ndarray, weight: np.ndarray | None = None
) -> float:
    """The factor of scores under which points are most likely.

    Parameters
    ----------
    scores : (n,) or (n, classes) array
    codes : (n,) int array
        Numbers of the points' classes.
    weight : (n,) array, optional

    Returns
    -------
    float
        Positive.
    """
    columns = _columns(scores)
    n, k = columns.shape
    size = float(np.abs(columns).max(initial=0.0)) or 1.0
    target = np.full((n, k), 1.0 / (n + k))
    target[np.arange(n), codes] += 1.0 - target.sum(axis=1)

    def loss(logarithm: float) -> float:
        likely = log_softmax(np.exp(logarithm) / size * columns, axis=1)
        return -float(np.average((target * likely).sum(axis=1), weights=weight))

    best = minimize_scalar(loss, bounds=RANGE, method="bounded")
    return float(np.exp(best.x)) / size


def probabilities(scores: np.ndarray, factor: float) -> np.ndarray:
    """(n, classes) probabilities; the predicted class has the largest one.

    A single score of 0 is of the second class, whose probability is then just above 1/2.
    """
    found = softmax(factor * _columns(scores), axis=1)
    if scores.ndim == 1:
        half = np.nextafter(0.5, 1.0)
        second = np.where(scores >= 0, np.maximum(found[:, 1], half), found[:, 1])
        found = np.column_stack([1.0 - second, second])
    return found
