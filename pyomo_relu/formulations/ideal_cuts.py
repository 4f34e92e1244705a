r"""The most violated ideal inequality of one unit: of a bend, and of a maximum.

See :mod:`pyomo_relu.formulations.cuts` for the mathematics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pyomo.environ import value

from pyomo_relu.formulations.units import (
    MaxLayer,
    PiecewiseLayer,
    is_continuous,
    is_step,
)
from pyomo_relu.formulations.values import Row, combined, entry_row, row_at_most, term

#: A unit's range counts as at least so much where violations are compared with it (chosen
#: by hand: the feasibility tolerance of solvers).
SMALLEST_RANGE = 1e-6


@dataclass
class Bend:
    """``left = max(0, row)`` and its binary: one ReLU inside a unit.

    ``left`` is a row; None for a step, where only ``max(0, row)`` itself is known.
    """

    key: tuple
    left: Row | None
    row: Row
    z: Any

    def __post_init__(self) -> None:
        terms = self.row.terms()
        self.w = np.array([c for c, _, _, _ in terms])
        low = np.array([a for _, _, a, _ in terms])
        high = np.array([b for _, _, _, b in terms])
        self.at_low = np.where(self.w >= 0, self.w * low, self.w * high)
        self.at_high = np.where(self.w >= 0, self.w * high, self.w * low)
        self.scale = max(SMALLEST_RANGE, float((self.at_high - self.at_low).sum()))

    def separate(self, tolerance: float) -> tuple[float, Any] | None:
        """The violation of the most violated cut and its row; None if there is none."""
        terms = self.row.terms()
        x = np.array([value(v) for _, v, _, _ in terms])
        z = float(value(self.z))
        inside = self.w * x - self.at_low * (1.0 - z)
        chosen = inside < self.at_high * z
        bias = self.row.constant
        right = np.where(chosen, inside, self.at_high * z).sum() + bias * z
        lefts = [self.left] if self.left is not None else [Row(), self.row]
        values = [_value(row) for row in lefts]
        best = int(np.argmax(values))
        if values[best] - right <= tolerance * self.scale:
            return None
        part = self.row.part(np.flatnonzero(chosen), -float(self.at_low[chosen].sum()))
        factor = float(self.at_low[chosen].sum() + self.at_high[~chosen].sum()) + bias
        cut = combined([(1.0, lefts[best]), (-1.0, part), (-factor, term(self.z))])
        return (values[best] - right) / self.scale, row_at_most(cut, [], [], 0.0)


def bends_of(layer: PiecewiseLayer, i: int) -> list[Bend]:
    """The ReLUs inside a unit, one for each breakpoint."""
    pieces, row = layer.pieces(i), layer.rows[i]
    if not row.terms():
        return []
    if is_step(pieces):
        z = layer.block.component("on")[i]
        return [Bend((i, 0), None, row.scaled(1.0, -pieces[1].lower), z)]
    if not is_continuous(pieces):
        return []
    if len(pieces) == 2:
        first, last = pieces
        bend = last.slope - first.slope
        # y = g0(x) + bend * max(0, x - t)
        terms = [(1.0 / bend, layer.post_row(i))]
        terms.append((-first.slope / bend, layer.pre_row(i)))
        left = combined(terms, -first.intercept / bend)
        z = layer.block.component("on")[i]
        return [Bend((i, 0), left, row.scaled(1.0, -last.lower), z)]
    step, beyond = layer.block.component("step"), layer.block.component("beyond")
    found = []
    for p in range(1, len(pieces)):
        later = [step[i, q] for q in range(p, len(pieces))]
        left = Row([1.0] * len(later), later)
        shifted = row.scaled(1.0, -pieces[p].lower)
        found.append(Bend((i, p), left, shifted, beyond[i, p - 1]))
    return found


def _value(row: Row) -> float:
    pairs = [*zip(row.coefs, row.variables), *((c, e) for c, e, _, _ in row.expressions)]
    return row.constant + sum(c * value(v) for c, v in pairs)


@dataclass
class Largest:
    """``post = max`` of rows over ``inputs``, with a binary for each row."""

    key: tuple
    post: Any
    inputs: list[Row]
    weights: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    bias: np.ndarray
    z: list[Any]

    @classmethod
    def of(cls, layer: MaxLayer, j: int, binaries: dict[int, Any]) -> Largest:
        """Of group ``j``; ``weights`` has a row for each argument."""
        place: dict[int, int] = {}
        inputs: list[Row] = []
        low, high, entries = [], [], []
        for k, i in enumerate(binaries):
            for c, v, a, b in layer.rows[i].terms():
                if id(v) not in place:
                    place[id(v)] = len(inputs)
                    inputs.append(entry_row(v, a, b))
                    low.append(a)
                    high.append(b)
                entries.append((k, place[id(v)], c))
        weights = np.zeros((len(binaries), len(inputs)))
        for k, t, c in entries:
            weights[k, t] += c
        bias = np.array([layer.rows[i].constant for i in binaries])
        z = list(binaries.values())
        post = layer.post[j]
        return cls((j, 0), post, inputs, weights, np.array(low), np.array(high), bias, z)

    def separate(self, tolerance: float) -> tuple[float, Any] | None:
        """As :meth:`Bend.separate`."""
        z = np.array([float(value(v)) for v in self.z])
        x = np.array([_value(row) for row in self.inputs])
        w = self.weights
        # gain[k, I, i]: what argument k can add over argument I by input i.
        step = w[:, None, :] - w[None, :, :]
        gain = np.maximum(step * self.lower, step * self.upper)
        terms = w * x + np.einsum("k,kIi->Ii", z, gain)
        best = terms.argmin(axis=0)
        columns = np.arange(len(x))
        right = terms[best, columns].sum() + self.bias @ z
        ends = np.abs(w) * np.maximum(np.abs(self.lower), np.abs(self.upper))
        scale = max(SMALLEST_RANGE, float(ends.sum(axis=1).max()))
        violation = float(value(self.post)) - right
        if violation <= tolerance * scale:
            return None
        factors = gain[:, best, columns].sum(axis=1) + self.bias
        cut = combined(
            [
                (1.0, term(self.post)),
                *((-float(w[best[i], i]), row) for i, row in enumerate(self.inputs)),
                *((-float(f), term(v)) for f, v in zip(factors, self.z)),
            ]
        )
        return violation / scale, row_at_most(cut, [], [], 0.0)
