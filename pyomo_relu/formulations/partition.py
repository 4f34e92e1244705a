r"""Partition: between big-M and hull, by splitting the inputs of a neuron into groups.

The inputs of a ReLU :math:`y = \max(0, w^T x + b)` are split into :math:`P` groups
:math:`S_1, \dots, S_P` with partial sums :math:`s_q = w_{S_q}^T x_{S_q}` in
:math:`[l_q, u_q]`, interval bounds without the bias. A binary :math:`z` is 1 where the
neuron is active, and :math:`v_q` and :math:`\bar v_q` are the parts of :math:`s_q` in
the active and in the inactive case:

.. math::
    s_q = v_q + \bar v_q,\qquad l_q z \le v_q \le u_q z,\qquad
    l_q (1 - z) \le \bar v_q \le u_q (1 - z),

    y = \sum_q v_q + b z,\qquad \sum_q v_q + b z \ge 0,\qquad
    \sum_q \bar v_q + b (1 - z) \le 0

The inactive parts are variables, so that each weight stands in one row only.
Activations of :math:`k` pieces have :math:`k` parts of each sum, see
:mod:`pyomo_relu.formulations.disaggregated`. A maximum is written as in ``bigm``.

``parts=1`` is as tight as ``bigm``, one group for each input as tight as ``hull``, and a
finer split never weaker than the one it refines.

Source: Tsay, Kronqvist, Thebelt, Misener, arXiv 2102.04373.

Examples
--------
>>> from pyomo_relu.block.example import two_neurons, show
>>> show(two_neurons("partition", parts=2), "relu")
split[0,0]: x[0] - share[0,0,0] - share[0,1,0] == 0
split[0,1]: -x[1] - share[0,0,1] - share[0,1,1] == 0
split[1,0]: 2 x[0] - share[1,0,0] - share[1,1,0] == 0
split[1,1]: x[1] - share[1,0,1] - share[1,1,1] == 0
within[0,0,upper]: -share[0,0,0] - share[0,0,1] >= 0
within[0,1,lower]: share[0,1,0] + share[0,1,1] >= 0
within[1,0,upper]: -share[1,0,0] - share[1,0,1] - on[1] >= -1
within[1,1,lower]: share[1,1,0] + share[1,1,1] - on[1] >= 0
limits[0,0,0,lower]: share[0,0,0] - on[0] >= -1
limits[0,0,0,upper]: -share[0,0,0] - on[0] >= -1
limits[0,0,1,lower]: share[0,0,1] - on[0] >= -1
limits[0,0,1,upper]: -share[0,0,1] - on[0] >= -1
limits[0,1,0,lower]: share[0,1,0] + on[0] >= 0
limits[0,1,0,upper]: -share[0,1,0] + on[0] >= 0
limits[0,1,1,lower]: share[0,1,1] + on[0] >= 0
limits[0,1,1,upper]: -share[0,1,1] + on[0] >= 0
limits[1,0,0,lower]: share[1,0,0] - 2 on[1] >= -2
limits[1,0,0,upper]: -share[1,0,0] - 2 on[1] >= -2
limits[1,0,1,lower]: share[1,0,1] - on[1] >= -1
limits[1,0,1,upper]: -share[1,0,1] - on[1] >= -1
limits[1,1,0,lower]: share[1,1,0] + 2 on[1] >= 0
limits[1,1,0,upper]: -share[1,1,0] + 2 on[1] >= 0
limits[1,1,1,lower]: share[1,1,1] + on[1] >= 0
limits[1,1,1,upper]: -share[1,1,1] + on[1] >= 0
value[0]: -out[0] + share[0,1,0] + share[0,1,1] == 0
value[1]: -out[1] + share[1,1,0] + share[1,1,1] - on[1] == 0
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pyomo.common.config import ConfigValue, NonNegativeInt, PositiveInt

from pyomo_relu.formulations.base import (
    Formulation,
    declared_options,
    register_formulation,
)
from pyomo_relu.formulations.bigm import set_max_values, write_max_bigm
from pyomo_relu.formulations.disaggregated import (
    Quantity,
    partial_sum,
    set_disaggregated_values,
    write_disaggregated,
)
from pyomo_relu.formulations.units import MaxLayer, PiecewiseLayer
from pyomo_relu.formulations.values import Row
from pyomo_relu.network import Max

NEEDS_THREE = "split='equal_range' needs parts >= 3; take 'equal_size'."


def equal_size(weights: np.ndarray, parts: int) -> list[np.ndarray]:
    """Neighbours in the order of the weights, in groups that differ by one at most."""
    return np.array_split(np.argsort(weights, kind="stable"), parts)


#: The quantiles of a neuron's weights beyond which `equal_range` makes groups of their own
#: (chosen by hand).
TAILS = (0.05, 0.95)


def equal_range(weights: np.ndarray, parts: int) -> list[np.ndarray]:
    """The tails below the 5 % and above the 95 % quantile, and equal ranges between."""
    if parts == 1:
        return [np.arange(len(weights))]
    if parts == 2:
        raise ValueError(NEEDS_THREE)
    low, high = np.quantile(weights, TAILS)
    ends = np.linspace(low, high, parts - 1)
    place = np.searchsorted(ends, weights, side="right")
    return [np.flatnonzero(place == p) for p in range(parts)]


def by_sign(weights: np.ndarray, parts: int) -> list[np.ndarray]:
    """Negative and positive weights apart, each in groups of equal size."""
    negative, positive = np.flatnonzero(weights < 0), np.flatnonzero(weights >= 0)
    if parts == 1 or not len(negative) or not len(positive):
        return equal_size(weights, parts)
    share = round(parts * len(negative) / len(weights))
    share = min(max(1, share), parts - 1)
    return [
        *(negative[g] for g in equal_size(weights[negative], share)),
        *(positive[g] for g in equal_size(weights[positive], parts - share)),
    ]


SPLITS: dict[str, Callable[[np.ndarray, int], list[np.ndarray]]] = {
    "equal_size": equal_size,
    "equal_range": equal_range,
    "sign": by_sign,
}


def _split(spec: Any) -> Any:
    if spec == "random" or spec in SPLITS if isinstance(spec, str) else callable(spec):
        return spec
    raise ValueError(
        f"split={spec!r} is unknown; choose one of {sorted([*SPLITS, 'random'])}, or a "
        "function (weights, parts) -> list of index groups."
    )


@register_formulation
class Partition(Formulation):
    """Sums over groups of inputs are disaggregated: between big-M and hull."""

    name = "partition"
    needs_preactivation = False
    CONFIG = declared_options(
        parts=ConfigValue(2, PositiveInt, "groups for each neuron"),
        split=ConfigValue(
            "equal_size",
            _split,
            "'equal_size', 'equal_range', 'sign', 'random', or a function "
            "(weights, parts) -> list of index groups",
        ),
        seed=ConfigValue(0, NonNegativeInt, "of split='random'"),
    )

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if self.config.split == "equal_range" and self.config.parts == 2:
            raise ValueError(NEEDS_THREE)

    def write_piecewise(self, layer: PiecewiseLayer) -> None:
        quantities = {i: self.quantities(layer, i) for i in layer.units}
        write_disaggregated(layer, quantities, eliminate=False)

    def write_max(self, layer: MaxLayer) -> None:
        write_max_bigm(layer)

    def set_values(self, block: Any, node: Any, pre: Any, post: Any, pieces: Any) -> None:
        if isinstance(node, Max):
            set_max_values(block, pre)
        else:
            set_disaggregated_values(block, pre, pieces)

    def quantities(self, layer: PiecewiseLayer, i: int) -> list[Quantity]:
        """The partial sums of unit ``i``."""
        row = layer.rows[i]
        groups = self.groups(row, f"{layer.node.name}, unit {i}")
        return [partial_sum(row, group) for group in groups]

    def groups(self, row: Row, what: str = "") -> list[list[int]]:
        """The groups of a row's terms, none of them empty."""
        weights = np.array([c for c, _, _, _ in row.terms()])
        n, split = len(weights), self.config.split
        parts = min(self.config.parts, n)
        found: Sequence
        if n == 0:
            return []
        if split == "random":
            seed = [self.config.seed, zlib.crc32(what.encode())]
            order = np.random.default_rng(seed).permutation(n)
            found = np.array_split(order, parts)
        elif callable(split):
            found = _users_groups(split, weights, parts, what)
        else:
            found = [[t] for t in range(n)] if parts == n else SPLITS[split](weights, parts)
        return [sorted(map(int, group)) for group in found if len(group)]


def _users_groups(
    split: Callable, weights: np.ndarray, parts: int, what: str
) -> list[list[int]]:
    n = len(weights)
    found = [list(map(int, group)) for group in split(weights, parts)]
    if sorted(t for group in found for t in group) != list(range(n)):
        raise ValueError(
            f"split= must put each of the {n} inputs of '{what}' into one group; "
            f"it returned {found}."
        )
    return found


__all__ = ["Partition", "by_sign", "equal_range", "equal_size"]
