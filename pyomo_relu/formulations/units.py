"""What a formulation is handed: the units of a layer, their pieces, arguments and bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from pyomo_relu.formulations.values import Row, Values, entry_row, term
from pyomo_relu.network import Max, Node, PiecewiseLinear, Smooth

#: Values at a breakpoint that differ by a smaller share are one value (chosen by hand:
#: the rounding of a slope times a breakpoint).
SAME_VALUE = 1e-12


@dataclass(slots=True)
class Piece:
    """``slope * x + intercept`` for ``lower <= x <= upper``."""

    lower: float
    upper: float
    slope: float
    intercept: float

    def __call__(self, x: float) -> float:
        return self.slope * x + self.intercept


@dataclass
class PiecewiseLayer:
    """The units of a piecewise-linear node that a formulation has to write.

    Attributes
    ----------
    block : BlockData
        Where their components go.
    node : PiecewiseLinear
    units : list of int
        Unstable units that a later layer needs.
    pre : dict
        Pre-activation variable (or expression) of each unit; empty if the
        formulation doesn't need them.
    post : dict
        The variable that must equal the activation of each unit; it has its bounds.
    rows : dict
        The pre-activation of each unit as a :class:`Row` over the layer before.
    lower, upper : dict
        Bounds of the pre-activation, floats.
    is_output : bool
        Whether ``post`` are outputs, whose bounds the user may change.
    """

    block: Any
    node: PiecewiseLinear
    units: list[int]
    pre: dict[int, Any] = field(default_factory=dict)
    post: dict[int, Any] = field(default_factory=dict)
    rows: dict[int, Row] = field(default_factory=dict)
    lower: dict[int, float] = field(default_factory=dict)
    upper: dict[int, float] = field(default_factory=dict)
    is_output: bool = False

    def pieces(self, i: int) -> list[Piece]:
        """The pieces of unit ``i`` that its bounds meet, from left to right."""
        return unit_pieces(self.node, i, self.lower[i], self.upper[i])

    def all_pieces(self) -> dict[int, list[Piece]]:
        """The pieces of every unit."""
        return {i: self.pieces(i) for i in self.units}

    def pre_row(self, i: int) -> Row:
        """The pre-activation variable of unit ``i`` as a row."""
        return entry_row(self.pre[i], self.lower[i], self.upper[i])

    def post_row(self, i: int) -> Row:
        """The variable of the activation of unit ``i`` as a row."""
        return term(self.post[i])


@dataclass
class SmoothLayer:
    """The units of a smooth node that a formulation has to write.

    Attributes
    ----------
    block : BlockData
        Where their components go.
    node : Smooth
    units : list of int
        Units whose argument varies, and that a later layer needs.
    pre : dict
        The variable or expression of each argument.
    post : dict
        The variable that must equal the value of each unit; it has its bounds.
    lower, upper : dict
        Bounds of the argument, floats.
    """

    block: Any
    node: Smooth
    units: list[int]
    pre: dict[int, Any]
    post: dict[int, Any]
    lower: dict[int, float]
    upper: dict[int, float]

    def pre_row(self, u: int) -> Row:
        """The argument of unit ``u`` as a row."""
        return entry_row(self.pre[u], self.lower[u], self.upper[u])


@dataclass
class MaxLayer:
    """The units of a max node that a formulation has to write.

    ``arguments[j]`` lists the entries that unit ``j`` compares, those left out that
    can't be the largest; ``post[j]`` is the variable that must equal their maximum.
    """

    block: Any
    node: Max
    units: list[int]
    source: Values
    arguments: dict[int, list[int]] = field(default_factory=dict)
    post: dict[int, Any] = field(default_factory=dict)
    rows: dict[int, Row] = field(default_factory=dict)

    @property
    def keys(self) -> list[tuple[int, int]]:
        """Each unit with each of its arguments."""
        return [(j, i) for j, group in self.arguments.items() for i in group]

    def argument_row(self, i: int) -> Row:
        """Entry ``i`` of the source as a row with one term."""
        return entry_row(
            self.source.entries[i], float(self.source.lower[i]), float(self.source.upper[i])
        )

    def post_row(self, j: int) -> Row:
        """The variable of unit ``j`` as a row."""
        return term(self.post[j])


# ---------------------------------------------------------------------------- pieces
def unit_pieces(node: PiecewiseLinear, i: int, lower: float, upper: float) -> list[Piece]:
    """The pieces of unit ``i`` that meet ``[lower, upper]``, cut to it.

    A step at the upper end counts: the value there is the right one. Neighbours on one
    line are joined.
    """
    if node.function == "relu":  # what the loop below finds, without arrays
        if lower >= 0.0:
            return [Piece(lower, upper, 1.0, 0.0)]
        if upper <= 0.0:
            return [Piece(lower, upper, 0.0, 0.0)]
        return [Piece(lower, 0.0, 0.0, 0.0), Piece(0.0, upper, 1.0, 0.0)]
    ends = [-np.inf, *node.breakpoints[i].tolist(), np.inf]
    jumps = node.jumps[i]
    lines = zip(node.slopes[i].tolist(), node.intercepts[i].tolist())
    found: list[Piece] = []
    for p, (slope, intercept) in enumerate(lines):
        low, high = max(lower, ends[p]), min(upper, ends[p + 1])
        if low > high:
            continue
        if low == high:
            # A breakpoint belongs to the piece on its right; on the left of a step
            # that piece has no length, but its value is taken.
            ends_here = ends[p + 1] == low
            starts_here = p > 0 and ends[p] == low
            if ends_here or (starts_here and lower < upper and jumps[p - 1] == 0):
                continue
        if found and (found[-1].slope, found[-1].intercept) == (slope, intercept):
            found[-1].upper = high
        else:
            found.append(Piece(low, high, slope, intercept))
    return found


def piece_keys(pieces: dict[int, list[Piece]]) -> list[tuple[int, int]]:
    """Each unit with the number of each of its pieces."""
    return [(i, p) for i, found in pieces.items() for p in range(len(found))]


def is_continuous(pieces: list[Piece]) -> bool:
    """Whether neighbours meet at the breakpoint between them."""
    for a, b in zip(pieces, pieces[1:]):
        left, right = a(a.upper), b(b.lower)
        if abs(left - right) > SAME_VALUE * max(1.0, abs(left), abs(right)):
            return False
    return True


def is_step(pieces: list[Piece]) -> bool:
    """Whether the unit has two values, one on each side of a breakpoint."""
    return len(pieces) == 2 and pieces[0].slope == 0 == pieces[1].slope


def is_relu(pieces: list[Piece]) -> bool:
    """Whether the two pieces are 0 and ``x``."""
    (a, b), (c, d) = ((g.slope, g.intercept) for g in pieces)
    return (a, b) == (0.0, 0.0) and (c, d) == (1.0, 0.0)


def piece_at(pieces: list[Piece], x: float) -> int:
    """The piece that holds ``x``; a breakpoint belongs to the right one."""
    p = 0
    while p + 1 < len(pieces) and x >= pieces[p + 1].lower:
        p += 1
    return p


# ------------------------------------------------------------------ values of variables
#: The pieces of a unit, as they were when it was written.
PiecesOf = Callable[[int], list[Piece]]


def assign(block: Any, name: str, number: Callable[[Any], float | None]) -> None:
    """Set the variables of a component, if there is one, to a number for each key."""
    component = block.component(name)
    for key, v in () if component is None else component.items():
        v.set_value(number(key), skip_validation=True)


def places(pre: np.ndarray, pieces: PiecesOf) -> Callable[[int], int]:
    """What tells the piece that each unit is on."""
    return cache(lambda i: piece_at(pieces(i), float(pre[i])))


def largest_arguments(keys: Any, pre: np.ndarray) -> dict[int, int]:
    """The largest argument of each unit of a maximum, the first of equals."""
    best: dict[int, int] = {}
    for j, i in keys:
        if j not in best or pre[i] > pre[best[j]]:
            best[j] = i
    return best


def cases_that_hold(keys: Any, node: Node, pre: np.ndarray, pieces: PiecesOf) -> dict:
    """For each unit the piece that it is on, or its largest argument."""
    if isinstance(node, Max):
        return largest_arguments(keys, pre)
    place = places(pre, pieces)
    return {i: place(i) for i, _ in keys}
