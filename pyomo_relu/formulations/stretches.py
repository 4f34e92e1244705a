r"""One side of a curve: binaries count its concave or convex stretches, not its pieces.

Where a model only ever wants an output large, in the sense that a larger one breaks no row
and costs nothing, the rows need not hold the output to the curve :math:`y = f(x)`: its
*hypograph* :math:`y \le f(x)` is enough, for :math:`y` can be raised to the curve at any
point of the model. Over an interval on which :math:`f` is concave the hypograph is a
polyhedron, given by the lines of the pieces, and needs no binary:

.. math:: y \le a_p x + c_p \quad\text{for all pieces } p

The *epigraph* :math:`y \ge f(x)` is the same for outputs that are only wanted small, with
convex for concave. A curve that is neither is cut into its longest concave (convex)
stretches :math:`S_k`, and these are the cells of
:mod:`~pyomo_relu.formulations.vertex_weights`, each with all ends of its pieces for vertices:

.. math::
    x = \sum_{k,i} t_{ki} \lambda_{ki},\quad y \le \sum_{k,i} f(t_{ki}) \lambda_{ki}

Either way the relaxation is the convex hull of the hypograph. Outputs of one network may need
different sides; a stretch is then an interval over which each of them has the shape that its
side needs, and an output of which both sides are needed has one piece there.

Source: the union of polyhedra of Vielma, Ahmed, Nemhauser, Operations Research 58(2), 2010,
section 3, whose polyhedra are hypographs here; section 6 for lower semicontinuous functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pyomo_relu.formulations.values import Row, RowCollector, combined, term
from pyomo_relu.formulations.vertex_weights import CellsOfInputs, WrittenCells
from pyomo_relu.formulations.whole import WholeFormulation, WholeNetwork
from pyomo_relu.network import Network

if TYPE_CHECKING:
    from pyomo_relu.bounds.curves import Curves

#: The sides of an output's graph that a model may need.
SIDES = ("both", "hypograph", "epigraph")


def borders(curves: Curves, sides: Sequence[str]) -> np.ndarray:
    """Where one stretch ends and the next one begins, the two ends included."""
    found = [np.array([curves.low, curves.high])]
    for t, a, side in zip(curves.breakpoints, curves.slopes, sides):
        bend = np.diff(a)
        wrong = {"both": bend != 0, "hypograph": bend > 0, "epigraph": bend < 0}
        found.append(t[wrong[side]])
    return np.unique(np.concatenate(found))


def stretches(curves: Curves, sides: Sequence[str], free: np.ndarray) -> CellsOfInputs:
    """The stretches as cells, the ends of all pieces their vertices."""
    at = borders(curves, sides)
    ends = curves.ends
    own = [ends[(ends >= a) & (ends <= b)] for a, b in zip(at[:-1], at[1:])]
    points = np.concatenate(own)
    start = np.cumsum([0, *map(len, own)])
    return CellsOfInputs(free, points[:, None], curves.values(points), start)


def sides_of(
    option: Any, network: Network, formulation: str = "regions"
) -> tuple[str, ...]:
    """The side of each output that an option names.

    Parameters
    ----------
    option : str or mapping
        One for all outputs, or by names or positions of outputs; those left out need both.
    network : Network
    formulation : str
        Whose option it is, for errors.

    Raises
    ------
    ValueError
        For a side or an output that there isn't.
    """
    n, names = network.n_outputs, list(network.output_names or ())
    given = dict(option) if isinstance(option, Mapping) else dict.fromkeys(range(n), option)
    found = ["both"] * n
    for key, side in given.items():
        j = names.index(key) if key in names else key
        if not isinstance(j, int) or not 0 <= j < n:
            raise ValueError(
                f"formulation '{formulation}': side= names the output {key!r}; there are "
                + (f"{names}." if names else f"{n}, from 0 on.")
            )
        if side not in SIDES:
            raise ValueError(
                f"formulation '{formulation}': side={side!r} is unknown; choose one of "
                f"{list(SIDES)}, or 'model' for what the rows and the objective of the "
                "model need."
            )
        found[j] = side
    return tuple(found)


class WrittenStretches(WrittenCells):
    """Writes stretches with weights of their vertices, a row for each output's side.

    Parameters
    ----------
    chosen, cells, choice
        As in :class:`~pyomo_relu.formulations.vertex_weights.WrittenCells`.
    sides : sequence of str
        Of each output.
    """

    says_all = False

    def __init__(
        self, chosen: str, cells: CellsOfInputs, choice: bool, sides: Sequence[str]
    ) -> None:
        super().__init__(chosen, cells, choice)
        self.sides = tuple(sides)

    @property
    def contents(self) -> str:
        return _contents(len(self.cells), self.sides)

    def add_value(self, rows: RowCollector, j: int, row: Row) -> None:
        """Note that an output is on its side of ``y - sum f weights``."""
        add_on_side(rows, "value", j, row, self.sides[j])


class WrittenLines(WholeFormulation):
    """Writes curves that are one stretch by the lines of their pieces: no binaries.

    Parameters
    ----------
    chosen : str
        The name of the formulation that the user chose.
    curves : Curves
    free : int
        The position of the free input.
    sides : sequence of str
        Of each output.
    """

    says_all = False

    def __init__(
        self, chosen: str, curves: Curves, free: int, sides: Sequence[str]
    ) -> None:
        super().__init__(chosen)
        self.curves, self.free, self.sides = curves, free, tuple(sides)

    @property
    def contents(self) -> str:
        return _contents(1, self.sides)

    def write_network(self, whole: WholeNetwork) -> None:
        x, rows = whole.input_row(self.free), RowCollector()
        lines = zip(self.curves.slopes, self.curves.intercepts, self.sides)
        for j, (slopes, intercepts, side) in enumerate(lines):
            y = term(whole.outputs[j])
            for p, (a, c) in enumerate(zip(slopes.tolist(), intercepts.tolist())):
                row = combined([(1.0, y), (-a, x)], -c)
                add_on_side(rows, "line", (j, p), row, side)
        rows.add_to(whole.block)

    def set_network_values(self, block: Any, x: np.ndarray, y: np.ndarray) -> None:
        """Nothing: there are no variables."""


def add_on_side(rows: RowCollector, name: str, key: Any, row: Row, side: str) -> None:
    """Note ``row == 0`` for both sides, ``<=`` for the hypograph, ``>=`` for the epigraph."""
    if side == "both":
        rows.zero(name, key, row)
    else:
        sign = -1.0 if side == "hypograph" else 1.0
        rows.nonnegative(name, key, row.scaled(sign))


def _contents(stretches: int, sides: Sequence[str]) -> str:
    kinds = " and ".join(s for s in SIDES if s in sides)
    return f"{kinds}, {stretches} stretch{'es' if stretches != 1 else ''}"
