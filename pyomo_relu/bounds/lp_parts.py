r"""Partition rows for the LP rung: each unit over sums of parts of its inputs.

The inputs of a ReLU :math:`y = \max(0, w^T x + b)` are split into parts; part ``n`` has
the sum :math:`s_n = \sum_{i \in S_n} w_i x_i \in [l_n, u_n]`. With the share
:math:`z \in [0, 1]` of the point that is active and the sums :math:`b_n` of that share,

.. math::
    y = \sum_n b_n + b z \ge 0, \quad \sum_n (s_n - b_n) + b (1 - z) \le 0,

    l_n z \le b_n \le u_n z, \quad l_n (1 - z) \le s_n - b_n \le u_n (1 - z).

One part is the triangle; one part for each input is the convex hull over the box of the
inputs, what rounds of cuts (:mod:`pyomo_relu.bounds.lp_cuts`) approach. Parts are of
equal size, of inputs with similar weights. Other continuous units of two pieces are a
line plus a multiple of a ReLU. Every value of the inputs has exact ``s_n``, ``b_n`` and
``z`` in {0, 1}, so only the row of ``y`` has a slack for rounding.

Source: Tsay, Kronqvist, Thebelt, Misener, "Partition-based formulations for
mixed-integer optimization of trained ReLU neural networks", NeurIPS 2021
(arXiv 2102.04373), eq. 10 to 14, binaries relaxed.
"""

from __future__ import annotations

import numpy as np

from pyomo_relu.base.rounding import EPS
from pyomo_relu.bounds.array_model import ArrayModel
from pyomo_relu.bounds.hinges import Hinges, hinge_units


def add_partitions(model: ArrayModel, parts: int) -> None:
    """Write the partition rows of every unit that has them into an LP model.

    Parameters
    ----------
    model : ArrayModel
    parts : int
        At least 1; a unit of fewer inputs gets one part for each.
    """
    for unit in [Hinges(model, i, units) for i, units in hinge_units(model)]:
        _add(model, unit, parts)


def _add(model: ArrayModel, unit: Hinges, parts: int) -> None:
    m = unit.matrix.tocoo()
    counts = np.diff(unit.matrix.indptr)
    order = np.lexsort((m.data, m.row))
    r, c, w = m.row[order], m.col[order], m.data[order]
    rank = np.arange(len(r)) - unit.matrix.indptr[r]
    n_parts = np.minimum(parts, counts)
    first = np.concatenate([[0], np.cumsum(n_parts)])
    part = first[r] + rank * n_parts[r] // counts[r]
    total = int(first[-1])
    owner = np.repeat(np.arange(len(counts)), n_parts)

    low, high = model.program.lower[c], model.program.upper[c]
    reach = np.bincount(part, abs(w) * np.maximum(abs(low), abs(high)), total)
    slack = 2.0 * EPS * (counts[owner] + 8.0) * reach
    sums_low = np.bincount(part, np.minimum(w * low, w * high), total) - slack
    sums_high = np.bincount(part, np.maximum(w * low, w * high), total) + slack

    n = np.arange(total)
    s = model.add_columns(sums_low, sums_high)
    b = model.add_columns(np.minimum(sums_low, 0.0), np.maximum(sums_high, 0.0))
    z = model.add_columns(np.zeros(len(counts)), np.ones(len(counts)))
    of_z = z[owner]
    # The sum itself, then its active share and the rest between their ends.
    model.add_rows(total, [(part, c, w), (n, s, -1.0)], 0.0, 0.0, 0.0)
    model.add_rows(total, [(n, b, 1.0), (n, of_z, -sums_low)], 0.0, np.inf, 0.0)
    model.add_rows(total, [(n, b, 1.0), (n, of_z, -sums_high)], -np.inf, 0.0, 0.0)
    rest = [(n, s, 1.0), (n, b, -1.0)]
    model.add_rows(total, [*rest, (n, of_z, sums_low)], sums_low, np.inf, 0.0)
    model.add_rows(total, [*rest, (n, of_z, sums_high)], -np.inf, sums_high, 0.0)

    u, bias = np.arange(len(counts)), unit.bias
    active = [(owner, b, 1.0), (u, z, bias)]
    model.add_rows(len(u), active, 0.0, np.inf, 0.0)
    inactive = [(owner, s, 1.0), (owner, b, -1.0), (u, z, -bias)]
    model.add_rows(len(u), inactive, -np.inf, -bias, 0.0)
    # y = intercept + slope * pre + bend * active
    value = [
        (owner, b, unit.bend[owner]),
        (u, z, unit.bend * bias),
        (u, unit.y, -1.0),
        unit.pre,
    ]
    const = -(unit.intercept + unit.slope * unit.shift)
    model.add_rows(len(u), value, const, const, unit.slack)
