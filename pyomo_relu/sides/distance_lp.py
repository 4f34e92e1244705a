"""The least change that satisfies linear rows, as a linear program with few columns."""

from __future__ import annotations

import numpy as np

#: The inputs in the first program, and those added in one round at most; by hand.
COLUMNS = 120


def least_change(
    rows: np.ndarray,
    limits: np.ndarray,
    up: np.ndarray,
    down: np.ndarray,
    norm: str,
    price: float,
) -> tuple[np.ndarray, np.ndarray] | None:
    """The least change ``d`` with ``rows @ d <= limits`` and ``-down <= d <= up``.

    The rows may be violated at a price, all by the same number, so that there are
    multipliers where no point satisfies them. In the sum of changes few inputs move: the
    program has columns for some, and gets more where its multipliers say they would pay.

    Parameters
    ----------
    rows, limits : (m, n) and (m,) arrays
    up, down : (n,) arrays
    norm : {'l1', 'linf'}
    price : float
        What a violation by one costs.

    Returns
    -------
    change : (n,) array
    multipliers : (m,) array
        None for both where the program isn't solved.
    """
    steep = np.where(up + down > 0, abs(rows).max(axis=0, initial=0.0), -1.0)
    columns = np.argsort(-steep, kind="stable")
    first = COLUMNS if norm == "l1" else len(columns)
    columns, rest = columns[:first], columns[first:]
    while True:
        found = _solve(rows[:, columns], limits, up[columns], down[columns], norm, price)
        if found is None:
            return None
        gain = found[1] @ rows[:, rest]
        gain = np.where(gain > 0, (down[rest] > 0) * gain, (up[rest] > 0) * -gain)
        order = np.argsort(-gain, kind="stable")
        pays = int((gain > 1.0 + 1e-9).sum())
        if not pays:
            change = np.zeros(rows.shape[1])
            change[columns] = found[0]
            return change, found[1]
        more = order[: min(pays, COLUMNS)]
        columns, rest = np.concatenate([columns, rest[more]]), np.delete(rest, more)


def _solve(
    rows: np.ndarray,
    limits: np.ndarray,
    up: np.ndarray,
    down: np.ndarray,
    norm: str,
    price: float,
) -> tuple[np.ndarray, np.ndarray] | None:
    from scipy.optimize import linprog

    m, n = rows.shape
    slack = -np.ones((m, 1))
    if norm == "l1":
        a, b = np.hstack([rows, -rows, slack]), limits
        cost = np.ones(2 * n + 1)
        box = [*((0, u) for u in up), *((0, d) for d in down), (0, None)]
    else:
        eye, one, none = np.eye(n), -np.ones((n, 1)), np.zeros((n, 1))
        above, below = np.hstack([eye, one, none]), np.hstack([-eye, one, none])
        a = np.vstack([np.hstack([rows, np.zeros((m, 1)), slack]), above, below])
        b = np.concatenate([limits, np.zeros(2 * n)])
        cost = np.append(np.zeros(n), [1.0, 1.0])
        box = [*((-d, u) for d, u in zip(down, up)), (0, None), (0, None)]
    cost[-1] = price
    found = linprog(cost, A_ub=a, b_ub=b, bounds=box)
    if found.status != 0:
        return None
    change = found.x[:n] - found.x[n : 2 * n] if norm == "l1" else found.x[:n]
    return change, np.maximum(-found.ineqlin.marginals[:m], 0.0)
