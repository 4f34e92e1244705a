"""A subsystem in programs over polytopes: its groups of them, and how they are divided."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyomo_relu.solvers.global_search.extremes import lower_extremes
from pyomo_relu.solvers.global_search.pieces import Pieces
from pyomo_relu.solvers.global_search.settings import PIECES
from pyomo_relu.solvers.global_search.shares import Share


@dataclass
class Mixed:
    """What a program makes of one subsystem.

    Attributes
    ----------
    group : int
    points : (k,) int array
    weights : (k,) array
    mean : (c,) array
        The mixture of the points.
    hidden : float
        How far the networks are from it, in cost and rows; 0 for a real point.
    """

    group: int
    points: np.ndarray
    weights: np.ndarray
    mean: np.ndarray
    hidden: float = 0.0


class DividedSubsystem:
    """A subsystem with its polytopes, and what their vertices do in the coupling rows.

    Attributes
    ----------
    share : Share
    pieces : Pieces
    rows : (t,) int array
        The coupling rows that it touches.
    activity : (P, t) array
    cost : (P,) array
    groups : list of int arrays
        Its polytopes, divided.
    corners : list of int arrays
        For each group the vertices that count.
    size : (n,) array
        How far its drivers can move.
    """

    def __init__(
        self,
        share: Share,
        pieces: Pieces,
        rows: np.ndarray,
        activity: np.ndarray,
        cost: np.ndarray,
    ) -> None:
        self.share, self.pieces = share, pieces
        self.rows, self.activity, self.cost = rows, activity, cost
        width = np.ptp(pieces.points[:, : share.n], axis=0)
        self.size = np.maximum(width, 1e-300)
        self.corners: list[np.ndarray] = []
        self.groups: list[np.ndarray] = []
        choices = np.unique(pieces.choice)
        if 1 < len(choices) <= PIECES.by_choice:
            for k in choices.tolist():
                self.add(np.flatnonzero(pieces.choice == k))
        else:
            self.add(np.arange(len(pieces)))

    def add(self, group: np.ndarray) -> None:
        """Another group."""
        self.groups.append(group)
        self.corners.append(self.extremes(group))

    def extremes(self, group: np.ndarray) -> np.ndarray:
        """The vertices that a program over some polytopes can need."""
        mine = self.pieces.points_of(group)
        return mine[lower_extremes(self.activity[mine], self.cost[mine])]

    def divide_at(self, mixed: Mixed) -> None:
        """Divide the group of a mixture there."""
        group, first = self.groups[mixed.group], self._first_half(mixed)
        self.groups[mixed.group] = group[first]
        self.corners[mixed.group] = self.extremes(group[first])
        self.add(group[~first])

    def _first_half(self, mixed: Mixed) -> np.ndarray:
        """Which polytopes of a mixture's group are on its one side."""
        group, own, n = self.groups[mixed.group], self.pieces, self.share.n
        pieces = own.piece[mixed.points]
        choices = own.choice[pieces]
        if (choices != choices[0]).any():
            # An integer that differs, between its values; there may be none.
            whole = self.share.program.integer
            assert whole is not None
            values = own.points[mixed.points]
            spread = np.where(whole, np.ptp(values, axis=0), 0.0)
            j = int(np.argmax(spread))
            if spread[j] > 0:
                first = np.zeros(len(own), dtype=bool)
                first[own.piece[own.points[:, j] <= np.floor(mixed.mean[j])]] = True
                return first[group]
        x = own.points[mixed.points, :n]
        d = int(np.argmax(np.ptp(x, axis=0) / self.size))
        centre = own.centre[group, d]
        first = centre <= mixed.mean[d]
        if first.all() or not first.any():
            order = np.argsort(centre, kind="stable")
            first[:] = False
            first[order[: len(order) // 2]] = True
        return first
