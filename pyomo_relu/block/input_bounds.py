"""Bounds of a block's inputs: their own, and those of ``input_bounds=``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pyomo.contrib.fbbt.expression_bounds_walker import ExpressionBoundsVisitor
from pyomo.core.base.units_container import _PyomoUnit
from pyomo.core.expr.visitor import identify_mutable_parameters, identify_variables
from pyomo.environ import value

from pyomo_relu.base.rounding import EPS
from pyomo_relu.block.frames import is_frame, is_series, pairs_of
from pyomo_relu.network import Network

#: What bounds of expressions are widened by, relative to their size: the rounding of an
#: interval computation of some ten steps (chosen by hand).
WIDENING = 16 * EPS

Pair = tuple[float, float]


def mutable_parameters(expression: Any) -> list[Any]:
    """The Params of an expression whose values may change; units of measurement are none."""
    found = identify_mutable_parameters(expression)
    return [p for p in found if not isinstance(p, _PyomoUnit)]


def has_variables(entry: Any) -> bool:
    """Whether a variable or expression depends on a variable, fixed or not."""
    if entry.is_variable_type():
        return True
    return any(True for _ in identify_variables(entry, include_fixed=True))


def as_given(entry: Any) -> Any:
    """The user's variable or named expression, where the block wrapped one; for messages."""
    if not isinstance(entry, float) and entry.is_named_expression_type():
        inner = entry.expr
        if hasattr(inner, "is_variable_type"):
            if inner.is_variable_type() or inner.is_named_expression_type():
                return inner
    return entry


# ---------------------------------------------------------------------- of an entry
def settled_range(entry: Any) -> Pair | None:
    """The values that an input can take where variables of it are fixed.

    Returns
    -------
    (float, float) or None
        None if nothing in it is fixed, if it has free variables and Params, whose values
        bound nothing, or if something has no value.
    """
    if entry.is_variable_type():
        return None if not entry.fixed or entry.value is None else (entry.value,) * 2
    found = list(identify_variables(entry, include_fixed=True))
    fixed = [v for v in found if v.fixed]
    if len(fixed) == len(found):
        number = value(entry, exception=False)
        return None if number is None else (float(number),) * 2
    if not fixed or any(v.value is None for v in fixed) or mutable_parameters(entry):
        return None
    return _expression_bounds(entry, use_fixed_var_values_as_bounds=True)


def entry_bounds(entry: Any) -> Pair:
    """Bounds of an input by itself, infinite where it has none."""
    if entry.__class__ is float:
        return entry, entry
    if entry.is_variable_type():
        return _numbers(*entry.bounds)
    if mutable_parameters(entry):  # they may change after their values were used
        return -math.inf, math.inf
    return _expression_bounds(entry)


def _expression_bounds(entry: Any, **options: Any) -> Pair:
    low, high = ExpressionBoundsVisitor(**options).walk_expression(entry)
    if low is not None:
        low -= WIDENING * abs(low)
    if high is not None:
        high += WIDENING * abs(high)
    return _numbers(low, high)


def _numbers(low: Any, high: Any) -> Pair:
    """Two bounds as floats; None stands for none."""
    return (
        -math.inf if low is None else float(low),
        math.inf if high is None else float(high),
    )


# -------------------------------------------------------------------------- of a box
def own_box(entries: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """The (n,) bounds that the entries have by themselves."""
    pairs = [entry_bounds(e) for e in entries]
    return np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])


def read_input_bounds(
    input_bounds: Any, network: Network, where: str
) -> tuple[np.ndarray, np.ndarray]:
    """Read ``input_bounds=``.

    Parameters
    ----------
    input_bounds
        One of: a pair of numbers for all inputs; a list with a (lower, upper) pair for
        each input; a tuple of two NumPy arrays, the lower and the upper bounds; a
        mapping from input names or positions to pairs; a DataFrame or Series of pandas,
        see :func:`~pyomo_relu.block.frames.pairs_of`. ``None`` stands for no bound.

    Returns
    -------
    (n,) lower and (n,) upper, infinite where nothing is given.
    """
    n = network.n_inputs
    if is_frame(input_bounds) or is_series(input_bounds):
        input_bounds = pairs_of(input_bounds, network, where)
    if input_bounds is None:
        pairs = [(-math.inf, math.inf)] * n
    elif isinstance(input_bounds, Mapping):
        pairs = _named_pairs(input_bounds, network, where)
    else:
        given = list(input_bounds)
        if len(given) == 2 and isinstance(input_bounds, tuple) and _are_arrays(given):
            return _two_arrays(given, n, where)
        if len(given) == 2 and all(np.ndim(b) == 0 for b in given):
            pairs = [_pair(given, where)] * n
        elif len(given) == n:
            pairs = [_pair(pair, where) for pair in given]
        else:
            raise ValueError(
                f"{where}: input_bounds= has {len(given)} entries for {n} inputs; give a "
                "(lower, upper) pair for each input, or one pair of numbers for all."
            )
    return np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])


def _are_arrays(values: list[Any]) -> bool:
    return all(isinstance(value, np.ndarray) and value.ndim for value in values)


def _named_pairs(
    input_bounds: Mapping[Any, Any], network: Network, where: str
) -> list[Pair]:
    """Bounds by names or positions of inputs, none for the others."""
    n = network.n_inputs
    names = {name: i for i, name in enumerate(network.input_names or ())}
    pairs = [(-math.inf, math.inf)] * n
    for key, pair in input_bounds.items():
        i = names.get(key, key)
        if not isinstance(i, (int, np.integer)) or not 0 <= i < n:
            known = list(names) or f"0 to {n - 1}"
            raise ValueError(
                f"{where}: input_bounds= names {key!r}, but the inputs are {known}."
            )
        pairs[i] = _pair(pair, where)
    return pairs


def _two_arrays(
    given: list[np.ndarray], n: int, where: str
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds as arrays of any shape."""
    low, high = (np.array(b, dtype=float).reshape(-1) for b in given)
    if low.size != n or high.size != n:
        raise ValueError(
            f"{where}: input_bounds= has arrays of {low.size} and {high.size} entries for "
            f"{n} inputs."
        )
    return low, high


def _pair(pair: Any, where: str) -> Pair:
    try:
        low, high = pair
        return _numbers(low, high)
    except (TypeError, ValueError):
        raise ValueError(
            f"{where}: input_bounds= holds {pair!r}; give (lower, upper) pairs, "
            "(None, None) where the variable's own bounds are enough."
        ) from None


def check_input_box(
    entries: Sequence[Any] | None,
    names: Sequence[str],
    low: np.ndarray,
    high: np.ndarray,
    where: str,
) -> None:
    """Refuse a box that is open, inverted or not a number, naming the variable."""
    for i, (a, b) in enumerate(zip(low.tolist(), high.tolist())):
        if math.isfinite(a) and math.isfinite(b) and a <= b:
            continue
        name, entry = f"input {names[i]}", None if entries is None else as_given(entries[i])
        if isinstance(entry, float):
            entry = None
        if entry is not None:
            what = "variable" if entry.is_variable_type() else "expression"
            name = f"{what} '{entry}' ({name})"
        raise ValueError(f"{where}: {name} has {_fault(entry, a, b)}")


def _fault(entry: Any, a: float, b: float) -> str:
    """What is wrong with the bounds of an input, and what to do."""
    if math.isnan(a) or math.isnan(b):
        return "a bound that is not a number."
    if a > b:
        return f"inverted bounds: lower {a:g} > upper {b:g}."
    sides = [side for side, x in (("lower", a), ("upper", b)) if not math.isfinite(x)]
    remedy = "give it finite bounds, or pass input_bounds= to the block."
    if entry is not None and entry.is_variable_type():
        if entry.fixed:
            remedy = f"it is fixed, but may be unfixed again; {remedy[:-1]}, or its value."
    elif entry is not None and (params := mutable_parameters(entry)):
        remedy = (
            f"it depends on the mutable Param '{params[0]}', which may change; "
            "pass input_bounds= to the block."
        )
    return f"no finite {' or '.join(sides)} bound; {remedy}"
