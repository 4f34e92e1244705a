"""`Adam`: the steps of a stochastic gradient descent, for networks of steps.

Source: Kingma and Ba, arXiv 1412.6980.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: The constants of Adam, as Kingma and Ba give them: the shares of the newest gradient and
#: of its square in their means, and what keeps the divisor from 0.
NEWEST, NEWEST_SQUARE, LEAST = 0.1, 0.001, 1e-8


class Adam:
    """Arrays that go down their gradients, in place.

    Parameters
    ----------
    state : sequence of arrays of float64
        What is moved.
    rates : sequence of float
        The length of the first steps of each array, in its own unit.
    """

    def __init__(self, state: Sequence[np.ndarray], rates: Sequence[float]) -> None:
        self.state, self.rates, self.count = state, rates, 0
        self.mean, self.square = ([np.zeros_like(s) for s in state] for _ in range(2))

    def step(self, slopes: Sequence[np.ndarray], factor: float = 1.0) -> None:
        """Go one step, of ``factor`` times the rates, against the slopes."""
        self.count += 1
        part = 1 - (1 - NEWEST) ** self.count
        part_square = 1 - (1 - NEWEST_SQUARE) ** self.count
        each = zip(self.state, self.rates, slopes, self.mean, self.square, strict=True)
        for s, rate, g, m1, m2 in each:
            m1 *= 1 - NEWEST
            m1 += NEWEST * g
            m2 *= 1 - NEWEST_SQUARE
            m2 += NEWEST_SQUARE * g * g
            size = np.sqrt(m2 / part_square) + LEAST
            s -= factor * rate * (m1 / part) / size
