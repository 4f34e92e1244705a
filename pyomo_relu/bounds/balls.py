"""L1 balls: bounds of linear functions over them, of all neurons, and their rows.

The box around such a ball is far larger than the ball, so bounds over the box say
little. A linear function is bounded exactly over the ball within its box: the steepest
inputs move first, each as far as it can, until the radius is spent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from pyomo_relu.base.rounding import EPS
from pyomo_relu.bounds.array_model import ArrayModel
from pyomo_relu.bounds.crown import LinearBounds, linear_bounds_of, needed_rows
from pyomo_relu.bounds.interval import meet, propagate, reads_inputs_only
from pyomo_relu.bounds.linear import RULES
from pyomo_relu.network import Network


class Ball(Protocol):
    """``|x - center|_1 <= radius`` within the box ``[lower, upper]``, (n_inputs,) arrays."""

    @property
    def center(self) -> np.ndarray: ...

    @property
    def radius(self) -> float: ...

    @property
    def lower(self) -> np.ndarray: ...

    @property
    def upper(self) -> np.ndarray: ...


def least_in_ball(slopes: np.ndarray, const: np.ndarray, ball: Ball) -> np.ndarray:
    """Least values of ``slopes @ x + const`` over a ball, rounding included, (q,).

    Parameters
    ----------
    slopes : (q, n_inputs) array
    const : (q,) array
    ball : Ball
    """
    center, n = ball.center, len(ball.center)
    room = np.where(slopes > 0, center - ball.lower, ball.upper - center)
    steep = abs(slopes)
    order = np.argsort(-steep, axis=1)
    spent = np.cumsum(np.take_along_axis(room, order, axis=1), axis=1)
    spent = np.minimum(spent, ball.radius)
    moves = np.diff(spent, axis=1, prepend=0.0)
    fall = (moves * np.take_along_axis(steep, order, axis=1)).sum(axis=1)
    reach = steep @ (abs(center) + room.max(axis=0, initial=0.0)) + abs(const)
    return slopes @ center + const - fall - 8.0 * (n + 8.0) * EPS * reach


def both_ends(found: LinearBounds, ball: Ball) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of queries over a ball from linear bounds over the box around it."""
    low = least_in_ball(found.lower[0], found.lower_const[0], ball)
    high = -least_in_ball(-found.upper[0], -found.upper_const[0], ball)
    return low, high


def bounds_in_ball(
    network: Network, ball: Ball, rules: Sequence[str] = RULES
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Linear bounds of every node over an L1 ball, each (1, size)."""
    lower, upper = ball.lower[None], ball.upper[None]
    readers = network.readers()
    lows: list[np.ndarray] = []
    highs: list[np.ndarray] = []

    def ask(i: int, low: np.ndarray, high: np.ndarray) -> None:
        rows = needed_rows(network, i, readers[i], low, high)
        # Every rule gives the node itself where that is affine in the inputs.
        some = rules[:1] if reads_inputs_only(network, i) else rules
        for rule in some if len(rows) else ():
            known = [*lows, low], [*highs, high]
            found = linear_bounds_of(network, lower, upper, *known, i, rows, rule)
            a, b = both_ends(found, ball)
            low[:, rows], high[:, rows] = meet(
                low[:, rows], high[:, rows], a[None], b[None]
            )

    return propagate(network, lower, upper, ask, lows=lows, highs=highs)


def add_ball(model: ArrayModel, columns: np.ndarray, taken: np.ndarray, ball: Ball) -> None:
    """Rows ``|x - center|_1 <= radius`` for the inputs of a program.

    Inputs that can move one way only need no column; the others one each.

    Parameters
    ----------
    columns, taken : (k,) int arrays
        Columns of the inputs, and which inputs those are. The others are fixed, or
        nothing depends on them.
    """
    center, low, high = ball.center[taken], ball.lower[taken], ball.upper[taken]
    both = np.flatnonzero((low < center) & (center < high))
    n = np.arange(len(both))
    # |x - c| = c - x + 2 up with up >= x - c and up >= 0, at its least
    up = model.add_columns(np.zeros(len(both)), high[both] - center[both])
    size = np.maximum(abs(low), abs(high)) + abs(center)
    slack = 8.0 * EPS * size
    parts = [(n, up, 1.0), (n, columns[both], -1.0)]
    model.add_rows(len(both), parts, -center[both], np.inf, slack[both])
    sign = np.where(center <= low, 1.0, -1.0)
    zero = np.zeros(len(taken), dtype=int)
    total = [(zero, columns, sign), (np.zeros(len(both), dtype=int), up, 2.0)]
    limit = ball.radius + float(sign @ center)
    model.add_rows(1, total, -np.inf, limit, 8.0 * EPS * (len(taken) + 8) * size.sum())
