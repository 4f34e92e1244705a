"""Which of many points a linear program can need: the corners of their lower hull."""

from __future__ import annotations

import numpy as np

#: Numbers up to this share of a coordinate's range are no difference.
SAME = 1e-12
#: A coordinate of which others leave no more than this share depends on them.
DEPENDENT = 1e-10
#: Hulls are computed in so many dimensions at most: their facets grow with the power of half
#: of that. In more, all points that differ are kept. Chosen by hand.
MOST_DIMENSIONS = 5
#: A facet belongs to the lower hull unless its normal points up by more than this.
UPWARD = 1e-10


def lower_extremes(activity: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Points whose mixtures have any other's activities at no higher cost.

    Parameters
    ----------
    activity : (P, a) array
        What each point gives in each row.
    cost : (P,) array

    Returns
    -------
    (K,) int array
    """
    if len(cost) < 3:
        return np.arange(len(cost))
    base = _independent(activity)
    if base.shape[1] > MOST_DIMENSIONS:
        return _cheapest(activity, cost)
    whole = np.column_stack([base, cost])
    with_cost = _independent(whole)
    if with_cost.shape[1] > base.shape[1]:
        return _hull(with_cost, lower=True)
    return _hull(base, lower=False)


def _cheapest(activity: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """The cheapest of the points that do the same in all rows."""
    size = np.maximum(abs(activity).max(axis=0), 1e-300)
    same = np.round(activity / size / SAME) + 0.0
    _, of = np.unique(same, axis=0, return_inverse=True)
    order = np.lexsort((cost, of.reshape(-1)))
    of = of.reshape(-1)[order]
    return np.sort(order[np.append(True, of[1:] != of[:-1])])


def _independent(points: np.ndarray) -> np.ndarray:
    """Coordinates that vary, scaled to 1, without those that others determine."""
    low, high = points.min(axis=0), points.max(axis=0)
    size = np.maximum(abs(low), abs(high))
    points = points[:, high - low > SAME * np.maximum(size, 1e-300)]
    low, high = points.min(axis=0), points.max(axis=0)
    points = (points - low) / (high - low)
    kept: list[np.ndarray] = []
    basis = np.zeros((len(points), 0))
    for column in points.T:
        centred = column - column.mean()
        left = centred - basis @ (basis.T @ centred)
        left -= basis @ (basis.T @ left)
        norm = float(np.linalg.norm(left))
        if norm > DEPENDENT * np.linalg.norm(centred):
            kept.append(column)
            basis = np.column_stack([basis, left / norm])
    return np.column_stack(kept) if kept else np.zeros((len(points), 0))


def _hull(points: np.ndarray, lower: bool) -> np.ndarray:
    """The corners of the hull; of its lower side in the last coordinate, where asked."""
    d = points.shape[1]
    if d == 0:
        return np.array([0])
    if d == 1:
        least = int(np.argmin(points[:, 0]))
        return np.array([least] if lower else [least, int(np.argmax(points[:, 0]))])
    if d > MOST_DIMENSIONS or len(points) <= d + 1:
        return np.arange(len(points))
    from scipy.spatial import ConvexHull, QhullError

    try:
        hull = ConvexHull(points)
    except QhullError:
        return np.arange(len(points))
    if not lower:
        return np.unique(hull.vertices)
    down = hull.equations[:, d - 1] <= UPWARD
    return np.unique(hull.simplices[down])
