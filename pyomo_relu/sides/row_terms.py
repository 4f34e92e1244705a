"""Rows and costs beside a network, as the Lagrangian of a subproblem sees them.

A row :math:`l \\le a z \\le u` with a multiplier :math:`\\lambda` adds
:math:`\\lambda (s - a z)` to the cost, with :math:`s = l` where :math:`\\lambda > 0` and
:math:`s = u` where :math:`\\lambda < 0`: nothing positive at any point of the row. An equality's
multiplier has either sign, that of a row with one side only one. What is left is a linear
function of the columns and a combination of the network's outputs, whose least values over a
box are found apart from each other.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np

from pyomo_relu.base.rounding import EPS
from pyomo_relu.programs import LinearProgram


@dataclass
class Priced:
    """What multipliers (N, rows) leave of the cost.

    Attributes
    ----------
    columns : (N, f) array
        Costs of the columns that aren't outputs.
    outputs : (N, q) array
        Costs of the outputs.
    const : (N,) array
    """

    columns: np.ndarray
    outputs: np.ndarray
    const: np.ndarray


class RowTerms:
    """The cost and the rows of a program, some of whose columns a network gives.

    Parameters
    ----------
    program : LinearProgram
        With finite bounds of all columns but the outputs.
    outputs : slice
        The columns that are outputs.
    low, high : (q,) arrays
        What the network says of the outputs.
    unit : float
        The multiplier of a row is counted in this share of the cost's range over the row's
        range.

    Attributes
    ----------
    columns : (f,) int array
        The columns that aren't outputs.
    scale : (rows,) array
        The units of the multipliers.
    bounded_outputs : int array
        The outputs whose bounds are the last rows.
    with_outputs : int array
        The rows that outputs are in.
    least, most : (rows,) arrays
        The ends of the multipliers, in their units.
    """

    def __init__(
        self,
        program: LinearProgram,
        outputs: slice,
        low: np.ndarray,
        high: np.ndarray,
        unit: float,
    ) -> None:
        matrix = program.matrix.toarray()
        self.lower, self.upper = program.row_lower, program.row_upper
        # Bounds of outputs that say more than the network does are rows.
        own_low, own_high = program.lower[outputs], program.upper[outputs]
        more = np.flatnonzero((own_low > low) | (own_high < high))
        self.bounded_outputs = more
        if len(more):
            extra = np.zeros((len(more), matrix.shape[1]))
            extra[np.arange(len(more)), outputs.start + more] = 1.0
            matrix = np.vstack([matrix, extra])
            self.lower = np.append(self.lower, own_low[more])
            self.upper = np.append(self.upper, own_high[more])
        every = np.arange(len(program.cost))
        self.columns = np.concatenate([every[: outputs.start], every[outputs.stop :]])
        self.of_columns = matrix[:, self.columns]
        self.of_outputs = matrix[:, outputs]
        self.with_outputs = np.flatnonzero((self.of_outputs != 0).any(axis=1))
        self.cost = program.cost[self.columns]
        self.cost_of_outputs = program.cost[outputs]
        self.outputs_cost = bool(self.cost_of_outputs.any())
        self.low, self.high = program.lower[self.columns], program.upper[self.columns]
        self.whole = np.zeros(len(self.columns), dtype=bool)
        if program.integer is not None:
            self.whole = program.integer[self.columns].copy()
        width, width_y = self.high - self.low, high - low
        self.range = float(abs(self.cost) @ width + abs(self.cost_of_outputs) @ width_y)
        self.range = max(self.range, 1e-9)
        reach = abs(self.of_columns) @ width + abs(self.of_outputs) @ width_y
        self.scale = unit * self.range / np.maximum(reach, 1e-9)
        self.least = np.where(np.isfinite(self.upper), -np.inf, 0.0)
        self.most = np.where(np.isfinite(self.lower), np.inf, 0.0)
        self.lower_side = np.where(np.isfinite(self.lower), self.lower, 0.0)
        self.upper_side = np.where(np.isfinite(self.upper), self.upper, 0.0)
        self.gamma = 4.0 * (sum(matrix.shape) + 16.0) * EPS

    @property
    def count(self) -> int:
        """Rows that have a multiplier."""
        return len(self.lower)

    def in_single_precision(self) -> RowTerms:
        """A copy of it in which multipliers are sought."""
        other = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray) and value.dtype == np.float64:
                setattr(other, name, value.astype(np.float32))
        return other

    def valid(self, prices: np.ndarray) -> np.ndarray:
        """Multipliers (N, rows), moved to where they are valid."""
        return np.clip(prices, self.least, self.most)

    def normalized(
        self, prices: np.ndarray, share: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Valid multipliers (N, rows) and shares (N, 1) of the cost.

        The sizes of the multipliers of rows with outputs sum to one, with the share where
        outputs cost something. Without such rows the share is one.
        """
        share, prices = np.maximum(share, 0.0), self.valid(prices)
        if not len(self.with_outputs):
            return prices, np.ones_like(share)
        some = prices[:, self.with_outputs]
        counted = share if self.outputs_cost else np.zeros_like(share)
        total = counted + abs(some).sum(axis=1, keepdims=True)
        none = total <= 1e-6
        even = np.where(self.most[self.with_outputs] > 0, 1.0, -1.0) / some.shape[1]
        total = np.where(none, 1.0, total)
        prices[:, self.with_outputs] = np.where(none, even, some / total)
        return prices, share / total if self.outputs_cost else share

    def sides(self, prices: np.ndarray) -> np.ndarray:
        """The side of each row that its multiplier counts, (N, rows)."""
        return np.where(prices > 0, self.lower_side, self.upper_side)

    def priced(self, prices: np.ndarray, share: np.ndarray) -> Priced:
        """What multipliers, in their units, leave of shares (N, 1) of the cost."""
        each = prices * self.scale
        return Priced(
            share * self.cost - each @ self.of_columns,
            share * self.cost_of_outputs - each @ self.of_outputs,
            np.einsum("ij,ij->i", each, self.sides(prices)),
        )

    def cost_at(self, z: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The cost of columns (N, f) and outputs (N, q)."""
        return z @ self.cost + y @ self.cost_of_outputs

    def rounding(
        self,
        prices: np.ndarray,
        share: np.ndarray,
        sizes: np.ndarray,
        output_sizes: np.ndarray,
    ) -> np.ndarray:
        """What rounding may be in the value of :meth:`priced`, (N,).

        Parameters
        ----------
        sizes, output_sizes : (N, f) and (N, q) arrays
            The largest magnitudes of the columns.
        """
        each = abs(prices * self.scale)
        columns = share * abs(self.cost) + each @ abs(self.of_columns)
        outputs = share * abs(self.cost_of_outputs) + each @ abs(self.of_outputs)
        total = np.einsum("ij,ij->i", each, abs(self.sides(prices)))
        total = total + np.einsum("ij,ij->i", columns, sizes)
        return self.gamma * (total + np.einsum("ij,ij->i", outputs, output_sizes))

    def missed(self, prices: np.ndarray, z: np.ndarray, y: np.ndarray) -> np.ndarray:
        """How much rows miss the sides that count, times their units, (N, rows)."""
        activity = z @ self.of_columns.T + y @ self.of_outputs.T
        below, above = self.lower - activity, self.upper - activity
        at_zero = np.maximum(below, 0.0) + np.minimum(above, 0.0)
        counted = np.where(prices > 0, below, np.where(prices < 0, above, at_zero))
        return self.scale * counted
