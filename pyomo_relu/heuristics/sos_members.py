"""Which members of SOS constraints may be other than 0 in programs that don't know these."""

from __future__ import annotations

import numpy as np

from pyomo_relu.presolve.problem import Problem, SosColumns


class SosMembers:
    """A choice of members for each SOS constraint of a problem, or none yet.

    Parameters
    ----------
    problem : Problem
    rng : numpy Generator
    """

    def __init__(self, problem: Problem, rng: np.random.Generator) -> None:
        self.sets, self.rng = problem.sos, rng
        #: Columns that are held at 0; None before there is a choice.
        self.zero: np.ndarray | None = None

    def release(self) -> None:
        """Choose nothing."""
        self.zero = None

    def draw(self) -> None:
        """Choose members at random."""
        self._choose([self.rng.integers(0, _choices(one)) for one in self.sets])

    def settle(self, point: np.ndarray) -> None:
        """Choose the members that are largest at a point, unless there is a choice."""
        if self.zero is None:
            sizes = [abs(point[one.columns]) for one in self.sets]
            sums = [
                np.convolve(size, np.ones(min(one.level, len(size))), "valid")
                for one, size in zip(self.sets, sizes)
            ]
            self._choose([np.argmax(total) for total in sums])

    def _choose(self, first: list) -> None:
        others = [
            np.delete(one.columns, np.arange(k, min(k + one.level, len(one.columns))))
            for one, k in zip(self.sets, first)
        ]
        self.zero = np.concatenate([np.zeros(0, dtype=int), *others])

    def hold(self, low: np.ndarray, high: np.ndarray) -> None:
        """Hold bounds (n_columns,) of what isn't chosen at 0, in place."""
        if self.zero is not None:
            low[self.zero] = high[self.zero] = 0.0

    def broken(self, point: np.ndarray) -> float:
        """The sum of what members have to lose at a point."""
        return sum(one.violation(point) for one in self.sets)


def _choices(one: SosColumns) -> int:
    """From how many positions on the members of a set may be other than 0."""
    return max(1, len(one.columns) - one.level + 1)
