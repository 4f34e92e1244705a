"""The box that a block's rows hold for: what it is, the rows for it, whether it holds.

A network is written over a box: its inputs' own bounds, cut to ``input_bounds=``. Sides
that the inputs' own bounds don't imply become rows. What may change afterwards (bounds,
fixed values, Params) is checked whenever a solver or writer reads the block, and so is
whatever else of the model the formulation relies on.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from pyomo_relu.base.rounding import EPS
from pyomo_relu.block.input_bounds import (
    as_given,
    check_input_box,
    has_variables,
    own_box,
    settled_range,
)
from pyomo_relu.bounds.well_scaled import WellScaled
from pyomo_relu.formulations.values import add_rows, link_coefficient
from pyomo_relu.presolve.model_scope import check_scope, table_rows_around

logger = logging.getLogger(__name__)

#: Of a bound: the rounding of products with scaling factors and quotients by them, and
#: what bounds of expressions are widened by.
SCALED = 64 * EPS
#: How far outside of its box a value still counts as on its side: a share of the box's
#: width, and of the larger bound. Solvers leave as much at their default tolerances.
OF_WIDTH, OF_BOUND = 1e-6, 1e-9


def present_box(block: Any) -> tuple[np.ndarray, np.ndarray]:
    """The (n,) lower and upper bounds of the inputs now, the given ones included.

    Raises
    ------
    ValueError
        If a side is open, naming the variable.
    """
    network = block.network
    low, high = own_box(block._entries)
    low, high = np.maximum(low, block._given[0]), np.minimum(high, block._given[1])
    names = network.input_names or tuple(map(str, range(network.n_inputs)))
    check_input_box(block._entries, names, low, high, block.name)
    return low, high


def add_box_rows(block: Any, written: WellScaled) -> None:
    """Rows for sides of the box that the inputs' own bounds don't imply.

    An input without variables has none: :func:`check_box` looks at its value.
    """
    low, high = own_box(block._entries)
    factors = written.input_factors
    rows = {}
    for i, (a, b) in enumerate(zip(*(x.tolist() for x in written.input_box))):
        entry, by = block._entries[i], link_coefficient(float(factors[i]))
        if isinstance(entry, float) or not has_variables(entry):
            continue
        side = entry if by == 1.0 else by * entry
        if a > low[i] or not np.isfinite(low[i]):
            rows[i, "lower"] = side >= by * a
        if b < high[i] or not np.isfinite(high[i]):
            rows[i, "upper"] = side <= by * b
    add_rows(block, "input_box", rows)


def tolerance(low: Any, high: Any) -> Any:
    """How far outside of its box a value may be and count as on its side."""
    return OF_WIDTH * (high - low) + OF_BOUND * np.maximum(np.abs(low), np.abs(high))


def check_box(block: Any) -> None:
    """Raise if an input may now leave the box that the formulation was written for.

    Raises
    ------
    ValueError
        Naming the input, and saying what mends it.
    """
    bounds = block._bounds
    if bounds is None:
        return
    check_scope(block, bounds)
    _check_model(block)
    enforced = _enforced(block)
    entries = block._in_own_units(block._entries)
    low, high = own_box(entries)
    old_low, old_high = bounds.input_box
    if block._is_scaled():  # a bound times a factor, divided by it again, is rounded
        slack = SCALED * np.maximum(np.abs(old_low), np.abs(old_high))
        old_low, old_high = old_low - slack, old_high + slack
    slacks = tolerance(old_low, old_high)
    for i, entry in enumerate(entries):
        if isinstance(entry, float):
            continue
        lower, upper = (i, "lower") in enforced, (i, "upper") in enforced
        loose_low = low[i] < old_low[i] and not lower
        loose_high = high[i] > old_high[i] and not upper
        if (loose_low or loose_high) and has_variables(entry):
            raise _left(
                block,
                f"the bounds of '{as_given(block._entries[i])}' were widened from "
                f"[{old_low[i]:g}, {old_high[i]:g}] to [{low[i]:g}, {high[i]:g}] after the "
                "network was written",
            )
        _check_settled(
            block, i, entry, (old_low[i], old_high[i]), slacks[i], (lower, upper)
        )


def _check_settled(
    block: Any,
    i: int,
    entry: Any,
    box: tuple[float, float],
    slack: float,
    enforced: tuple[bool, bool],
) -> None:
    """Raise where fixed variables or Params put an input outside, unless rows see to it."""
    settled = settled_range(entry)
    if settled is None:
        return
    low, high = box
    below, above = settled[0] < low - slack, settled[1] > high + slack
    if (below and not enforced[0]) or (above and not enforced[1]):
        raise _fixed_outside(block, i, settled, low, high)
    # A range of which a part lies inside may still be met.
    if settled[1] < low - slack or settled[0] > high + slack:
        _tell_infeasible(block, i, settled, low, high)


def _check_model(block: Any) -> None:
    """Raise if what is written relies on more of the model, and that has changed."""
    if any(f.sides_from_model is not None for f in block.formulations.values()):
        from pyomo_relu.presolve.directions import check_sides

        check_sides(block)
    if any(f.values_from_model is not None for f in block.formulations.values()):
        from pyomo_relu.presolve.input_values import check_input_values

        check_input_values(block)
    if any(table_rows_around(block)):
        from pyomo_relu.presolve.table_rows import check_table_rows

        check_table_rows(block)


def _enforced(block: Any) -> set[tuple[int, str]]:
    """The sides of the box that active rows see to."""
    rows = block.component("input_box")
    if rows is None and block._written is not None:
        rows = block._written.box_rows  # transformations rename components
    if rows is None or rows.parent_block() is not block or not rows.active:
        return set()
    return {key for key, row in rows.items() if row.active}


def _left(block: Any, what: str) -> ValueError:
    remedy = (
        "take them back, or widen them before the model is scaled."
        if block._is_scaled()
        else f"call {block.name}.reformulate() to write it for the new ones."
    )
    return ValueError(f"'{block.name}': {what}; {remedy}")


def _tell_infeasible(
    block: Any, i: int, settled: tuple[float, float], low: float, high: float
) -> None:
    """Say once that a settled input makes the model infeasible: rows keep it inside."""
    what = (i, settled, low, high)
    if block._told == what:
        return
    block._told = what
    logger.warning(
        "'%s': input '%s' is %s, but its rows keep it within [%g, %g], as input_bounds= says: "
        "the model has no feasible point. Fix it inside, or make the block with wider "
        "input_bounds=.",
        block.name, as_given(block._entries[i]), _range_in_words(settled), low, high,
    )  # fmt: skip


def _range_in_words(settled: tuple[float, float]) -> str:
    if settled[0] == settled[1]:
        return f"{settled[0]:g}"
    return f"[{settled[0]:g}, {settled[1]:g}]"


def _fixed_outside(
    block: Any, i: int, settled: tuple[float, float], low: float, high: float
) -> ValueError:
    entry = as_given(block._entries[i])
    value = _range_in_words(settled)
    if not has_variables(entry):
        return ValueError(
            f"'{block.name}': input '{entry}' is {value}, outside of its bounds [{low:g}, "
            f"{high:g}], for which the network was written; change the Param, or make the "
            "block with wider input_bounds=."
        )
    how = "is fixed at" if entry.is_variable_type() else "has fixed variables, which give"
    return ValueError(
        f"'{block.name}': input '{entry}' {how} {value}, outside of its bounds [{low:g}, "
        f"{high:g}], for which the network was written; fix it inside, or widen the bounds "
        f"and call {block.name}.reformulate()."
    )
