r"""Fixed pattern: the linear region of the network around a point, an LP.

The point is ``at=``, or else what the inputs are when the block is written. Every
unstable unit is held on the piece :math:`a x + c` over :math:`[t, t']` where the point
puts it, every maximum on its largest argument :math:`i`:

.. math::
    y = a x + c,\quad t \le x \le t' \qquad\text{and}\qquad y = x_i,\quad x_i \ge x_j

What satisfies the model is exactly the closed region of inputs with that activation
pattern (of the units that an output depends on), and the outputs are the network's. At
a step both values are allowed, as in the exact formulations. A point on a boundary takes
the piece on its right, a tie between arguments the first one.

Source: Perakis, Tsiourvas, arXiv 2205.14189; Tong, Cai, Serra, arXiv 2401.03451,
where such LPs are solved in turn to improve an input.

Examples
--------
>>> from pyomo_relu.block.example import two_neurons, show
>>> show(two_neurons("fixed_pattern", at=[0.5, 0.5]), "relu")
value[0]: x[0] - x[1] - out[0] == 0
value[1]: 2 x[0] + x[1] - out[1] == 1
range[0,lower]: out[0] >= 0
range[1,lower]: out[1] >= 0
>>> show(two_neurons("fixed_pattern", "max", at=[0.5, 0.5]), "max")
value[0]: pre.out[1] - outputs[0] == 0
range[0,0]: outputs[0] - pre.out[0] >= 0
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pyomo.common.config import ConfigValue
from pyomo.environ import value

from pyomo_relu.bounds import Bounds
from pyomo_relu.bounds.well_scaled import WellScaled
from pyomo_relu.formulations.base import (
    Formulation,
    Wiring,
    declared_options,
    register_formulation,
)
from pyomo_relu.formulations.units import MaxLayer, PiecewiseLayer, piece_at
from pyomo_relu.formulations.values import RowCollector, combined

#: So far beyond its bound a value counts as the bound, relative to the larger of 1 and the
#: bound, in the units of the rows: solvers keep bounds to 1e-6.
BEYOND = 1e-6


@register_formulation
class FixedPattern(Formulation):
    """The linear region of a point, ``at=`` or the present one: no binaries.

    Each write without ``at=`` takes the values that the inputs have then, so
    ``relu.fixed_pattern`` after a solve holds every network of a model on the region of
    the solution.
    """

    name = "fixed_pattern"
    says_all = False
    needs_preactivation = False
    CONFIG = declared_options(
        at=ConfigValue(
            description="the input whose activation pattern is fixed; what "
            "Network.evaluate takes as one point. Left out, the present values of the "
            "inputs",
        )
    )

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._point: np.ndarray | None = None
        self._values: dict[str, np.ndarray] = {}

    def replacement(self, bounds: Bounds, wiring: Wiring) -> None:
        if self.config.at is not None:
            self._point, single = bounds.network.flat_inputs(self.config.at)
            if not single:
                raise ValueError("formulation 'fixed_pattern' takes one point, at=point.")
        else:
            self._point = wiring.point()
            if self._point is None:
                without = next(
                    x
                    for x in wiring.inputs
                    if not isinstance(x, float) and value(x, exception=False) is None
                )
                raise ValueError(
                    "formulation 'fixed_pattern' fixes the pattern of the inputs' present "
                    f"values, and '{without}' has none: solve first, or give the input "
                    "at=point."
                )

    def begin(self, written: WellScaled) -> None:
        network, given = written.network, self._point
        assert given is not None  # what is written in its place was asked for before
        point, (low, high) = written.point(given)[0], written.bounds.input_box
        inside = np.clip(point, low, high)
        near = abs(point - inside) <= BEYOND * np.maximum(1, abs(inside))
        outside = np.flatnonzero(~near)
        if len(outside):
            i, (low, high) = int(outside[0]), written.input_box
            source = "present value" if self.config.at is None else "value in at="
            raise ValueError(
                f"formulation 'fixed_pattern': the {source} of input {i} is "
                f"{given[0, i]:g}, outside of its bounds [{low[i]:g}, {high[i]:g}]."
            )
        values = network.activations(inside[None, :])
        self._values = {
            node.name: values[node.source][0]
            for node in network.nodes
            if hasattr(node, "source")
        }

    def transform(self, blocks: list) -> None:
        self._values, self._point = {}, None

    def write_piecewise(self, layer: PiecewiseLayer) -> None:
        x = self._values[layer.node.name]
        rows = RowCollector()
        for i in layer.units:
            pieces = layer.pieces(i)
            p = piece_at(pieces, float(x[i]))
            g, row = pieces[p], layer.rows[i]
            y = layer.post_row(i)
            rows.zero("value", i, combined([(g.slope, row), (-1.0, y)], g.intercept))
            # Where y tells x, the range is a row of one variable.
            if g.slope != 0.0:
                row = y.scaled(1.0 / g.slope, -g.intercept / g.slope)
            if p > 0:
                rows.nonnegative("range", (i, "lower"), combined([(1.0, row)], -g.lower))
            if p + 1 < len(pieces):
                rows.nonnegative("range", (i, "upper"), combined([(-1.0, row)], g.upper))
        rows.add_to(layer.block)

    def write_max(self, layer: MaxLayer) -> None:
        x = self._values[layer.node.name]
        rows = RowCollector()
        for j, group in layer.arguments.items():
            best = max(group, key=lambda i: (x[i], -i))
            y = layer.post_row(j)
            rows.zero("value", j, combined([(1.0, layer.argument_row(best)), (-1.0, y)]))
            for i in group:
                if i != best:
                    other = layer.argument_row(i)
                    rows.nonnegative("range", (j, i), combined([(1.0, y), (-1.0, other)]))
        rows.add_to(layer.block)
