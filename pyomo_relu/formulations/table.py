r"""Table: a network whose inputs take few values, with the outputs at each of them.

Where every free input is a linear expression of a few integers, or takes one of a few
given values, the outputs are computed for all combinations, and rows choose one of them.
The relaxation is the convex hull of the points, however large the network.

.. math::
    x = \sum_k v_k \lambda_k,\quad y = \sum_k f(v_k) \lambda_k,\quad
    \sum_k \lambda_k = 1,\quad \sum_{k:\, B_l(k) = 1} \lambda_k = z_l

with the code :math:`B(k)` of :math:`\lceil \log_2 K \rceil` digits for each of :math:`K` points.
``values=`` says what any other input can be: it is a promise that the user's rows keep it
there, and the table holds it to them. Where the user has a binary for each value, as rows
:math:`x = \sum_a v_a s_a` and :math:`\sum_a s_a = 1` mostly do, ``values={0: {v: s, ...}}``
names them. If all inputs have some, the code is not needed, and the relaxation is tighter:

.. math:: \sum_{k:\, v_k = v_a} \lambda_k = s_a

``values="model"`` asks the rows of the model for both, values and binaries; if they come to
allow other values, the model is refused when it is written.

One input may take any value beside others of few: then the points are the linear pieces of its
curves, one curve for each combination of the others' values, each piece with its two ends as
in :mod:`~pyomo_relu.formulations.vertex_weights`. A gas lift rate by the gas, which is any, and
by the pressure, which the manifold decides, is two curves.

Source: the disaggregated logarithmic model of Vielma, Ahmed, Nemhauser, Operations Research
58(2), 2010, with points for polytopes.

Examples
--------
>>> from pyomo_relu.block.example import hat, show
>>> show(hat("table", values={0: [-1, 0.5, 1, 2]}))
network.argument[0]: 0.5 x + 0.75 network.weight[0] - 0.25 network.weight[2] - 0.75
    network.weight[3] == 0.25
network.value[0]: 2 outputs[0] + network.weight[0] - network.weight[2] +
    network.weight[3] == 1
network.one[0]: network.weight[0] + network.weight[1] + network.weight[2] +
    network.weight[3] == 1
network.cell[0]: network.weight[1] + network.weight[3] - network.digit[0] == 0
network.cell[1]: network.weight[2] + network.weight[3] - network.digit[1] == 0
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pyomo.common.config import ConfigValue, PositiveInt
from pyomo.core.expr.visitor import identify_mutable_parameters
from pyomo.environ import value

from pyomo_relu.bounds import Bounds
from pyomo_relu.formulations.base import (
    Formulation,
    Wiring,
    declared_options,
    register_formulation,
)
from pyomo_relu.formulations.values import as_if_free
from pyomo_relu.formulations.vertex_weights import (
    CellsOfInputs,
    WrittenCells,
    cells_of_regions,
)

#: A value is within the bounds of its input up to this, relative to it: the rounding of
#: numbers that users compute; chosen by hand, far below any solver's tolerance.
OUTSIDE = 1e-9


@register_formulation
class Table(Formulation):
    """The outputs at every value that the inputs can take."""

    name = "table"
    CONFIG = declared_options(
        values=ConfigValue(
            None,
            description="what inputs can be: a mapping from positions or names of inputs "
            "to mappings from numbers to the binaries that choose them, or to sequences "
            "of numbers, or 'model' for what the rows of the model say now; expressions of "
            "integer variables need none",
        ),
        most=ConfigValue(1000, PositiveInt, "how many combinations of values there may be"),
    )

    def replacement(self, bounds: Bounds, wiring: Wiring) -> tuple[Bounds, Formulation]:
        network, (low, high) = bounds.network, bounds.input_box
        told = self.config["values"] or {}
        if told == "model":
            told = dict(wiring.values())
        given, binaries = _by_position(told, network)
        free = np.flatnonzero(low < high)
        axes = [
            self._values(i, wiring.inputs[i], float(low[i]), float(high[i]), given)
            for i in free.tolist()
        ]
        open_ones = [i for i, axis in zip(free.tolist(), axes) if axis is None]
        if len(open_ones) > 1 or len(open_ones) == len(free) > 0:
            raise _unknown(open_ones[0], wiring)
        grid = self._grid([a for a in axes if a is not None])
        points = np.tile(low, (len(grid), 1))
        few = np.setdiff1d(free, open_ones)
        points[:, few] = grid
        if open_ones:
            cells = self._curves(network, points, few, open_ones[0], high)
        else:
            start = np.arange(len(grid) + 1)
            cells = CellsOfInputs(free, grid, network.evaluate(points), start)
        selectors = _selectors(cells, few, binaries)
        written = WrittenCells(self.name, cells, False, selectors)
        if self.config["values"] == "model":
            written.values_from_model = {i: told[i] for i in few.tolist() if i in told}
        return bounds, written

    def _grid(self, axes: Sequence[np.ndarray]) -> np.ndarray:
        """(K, n) all combinations of values."""
        count = int(np.prod([len(a) for a in axes], dtype=object))
        self._refuse_more(count, "combinations of values")
        return np.array(np.meshgrid(*axes, indexing="ij")).reshape(len(axes), count).T

    def _refuse_more(self, count: int, what: str) -> None:
        if count > self.config.most:
            raise ValueError(
                f"formulation 'table': the inputs take {count} {what}, "
                f"more than {self.config.most}; raise the option most=, or choose another "
                "formulation, for example 'bigm'."
            )

    def _curves(
        self,
        network: Any,
        points: np.ndarray,
        few: np.ndarray,
        other: int,
        high: np.ndarray,
    ) -> CellsOfInputs:
        """The linear pieces over one input, for each combination of the others' values."""
        from pyomo_relu.bounds.plane_regions import TooManyRegionsError, linear_regions

        vertices: list[np.ndarray] = []
        values: list[np.ndarray] = []
        sizes: list[int] = []
        free = np.sort(np.append(few, other))
        for point in points:
            end = point.copy()
            end[other] = high[other]
            try:
                most = self.config.most - len(sizes)
                regions = linear_regions(network, point, end, max_regions=max(1, most))
            except TooManyRegionsError:
                self._refuse_more(self.config.most + 1, "values and linear pieces")
                raise
            found = cells_of_regions(regions)
            full = np.tile(point, (len(found.vertices), 1))
            full[:, other] = found.vertices[:, 0]
            vertices.append(full[:, free])
            values.append(found.values)
            sizes += np.diff(found.start).tolist()
        self._refuse_more(len(sizes), "values and linear pieces")
        start = np.cumsum([0, *sizes])
        return CellsOfInputs(free, np.concatenate(vertices), np.concatenate(values), start)

    def _values(
        self, i: int, entry: Any, low: float, high: float, given: Mapping[int, np.ndarray]
    ) -> np.ndarray | None:
        """The values of one input within its bounds; None if it isn't known to have few."""
        found = given.get(i)
        if found is None:
            found = values_of_integers(entry, self.config.most)
        if found is None:
            return None
        slack = OUTSIDE * np.maximum(1.0, np.abs(found))
        kept = found[(found >= low - slack) & (found <= high + slack)]
        if not len(kept):
            raise ValueError(
                f"formulation 'table': no value of input {i} ('{entry}') lies within its "
                f"bounds [{low:g}, {high:g}]."
            )
        return kept


def _unknown(i: int, wiring: Wiring) -> ValueError:
    """The error for an input that takes other than few values, as far as is known."""
    return ValueError(
        f"formulation 'table': input {i} ('{wiring.inputs[i]}') is no linear expression of "
        "a few integers, without mutable Params; say what it can be, "
        f"values={{{i}: [...]}}, or values='model' where rows of the model say it, or "
        "choose another formulation, for example 'bigm'."
    )


def _selectors(
    cells: CellsOfInputs, few: np.ndarray, binaries: Mapping[int, Mapping[float, Any]]
) -> list[tuple[Any, np.ndarray]]:
    """The user's binaries with the vertices that each chooses; none unless all have some."""
    if any(i not in binaries for i in few.tolist()):
        return []
    columns = {i: cells.vertices[:, k] for k, i in enumerate(cells.free.tolist())}
    return [
        (z, np.flatnonzero(columns[i] == v))
        for i in few.tolist()
        for v, z in binaries[i].items()
    ]


def values_of_integers(entry: Any, most: int) -> np.ndarray | None:
    """The values of a linear expression of integer variables; None where there are none.

    More than ``most`` combinations of the integers are none, either, and neither is what a
    mutable Param may change. An integer that is fixed may be freed, so it counts with all of
    its values.
    """
    repn = as_if_free(entry)
    if not repn.is_linear() or any(True for _ in identify_mutable_parameters(entry)):
        return None
    found = np.array([float(value(repn.constant))])
    for coefficient, v in zip(repn.linear_coefs, repn.linear_vars):
        low, high = v.bounds
        if not v.is_integer() or low is None or high is None:
            return None
        steps = np.arange(np.ceil(low - 1e-6), np.floor(high + 1e-6) + 1)
        if len(found) * len(steps) > most:
            return None
        found = np.unique(np.add.outer(found, float(value(coefficient)) * steps))
    return found


def _by_position(
    given: Mapping[Any, Any], network: Any
) -> tuple[dict[int, np.ndarray], dict[int, dict[float, Any]]]:
    """Values and binaries that the user gave, by positions of the flat input vector."""
    names = list(network.input_names or ())
    found: dict[int, np.ndarray] = {}
    binaries: dict[int, dict[float, Any]] = {}
    for key, some in given.items():
        i = names.index(key) if key in names else key
        if not isinstance(i, int) or not 0 <= i < network.n_inputs:
            raise ValueError(
                f"formulation 'table': values= names the input {key!r}; there are "
                + (f"{names}." if names else f"{network.n_inputs}, from 0 on.")
            )
        if isinstance(some, Mapping):
            binaries[i] = {float(v): z for v, z in some.items()}
            wrong = [z for z in some.values() if not z.is_binary()]
            if wrong:
                raise ValueError(
                    f"formulation 'table': values= of input {key!r} names '{wrong[0]}', "
                    "which is no binary variable."
                )
        array = np.unique(np.array([*some], dtype=float))
        if not array.size or not np.isfinite(array).all():
            raise ValueError(
                f"formulation 'table': values= of input {key!r} must be finite numbers."
            )
        found[i] = array
    return found, binaries
