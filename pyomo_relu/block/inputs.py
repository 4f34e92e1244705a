"""The inputs of a network block: the user's variables, expressions or numbers.

Reads what ``inputs=`` may be into one entry for each input, finds the box the network
is embedded over, and tells later whether that box still holds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from pyomo.contrib.fbbt.expression_bounds_walker import ExpressionBoundsVisitor
from pyomo.core.base.indexed_component import IndexedComponent
from pyomo.core.base.indexed_component_slice import IndexedComponent_slice
from pyomo.core.base.set import OrderedScalarSet
from pyomo.core.base.units_container import _PyomoUnit
from pyomo.core.expr.visitor import identify_mutable_parameters, identify_variables
from pyomo.core.kernel.base import ICategorizedObject
from pyomo.environ import Expression, value

from pyomo_relu.block.by_name import ordered_by_name
from pyomo_relu.network import Network


class NamedIndex(OrderedScalarSet):
    """A set of names that also takes positions: ``outputs["N2"]`` or ``outputs[11]``."""

    def get(self, item, default=None):
        found = super().get(item, default)
        if found is default and isinstance(item, (int, np.integer)):
            if 0 <= item < len(self):
                return self.at(int(item) + 1)
        return found


def named_index(names: Sequence[str] | None, n: int) -> Any:
    """The index set of ``n`` inputs or outputs: names where there are some."""
    from pyomo_relu.base.index_set import index_set

    if names is None:
        return index_set(range(n))
    return NamedIndex(initialize=list(names), dimen=1)


def read_inputs(inputs: Any, network: Network, where: str) -> list[Any]:
    """Return a variable, float or expression for each entry of the flat input.

    Parameters
    ----------
    inputs
        An indexed variable, Reference or slice (by name where its index holds the
        network's input names, else its values in order); a list or array of variables,
        expressions, numbers and indexed components; or a mapping from input names, or
        input layer names, to those.
    network : Network
    where : str
        How an error names the block.

    Raises
    ------
    ValueError
        For a wrong number or kind of entries, naming it.
    """
    _refuse_kernel([inputs], where)
    inputs = ordered_by_name(inputs, network, where)
    entries = list(_flatten(inputs, where))
    if len(entries) != network.n_inputs:
        raise ValueError(
            f"{where}: the network has {network.n_inputs} inputs, but inputs= gives "
            f"{len(entries)}."
        )
    return entries


def mutable_parameters(expression: Any) -> list[Any]:
    """The Params of an expression whose values may change; units of measurement are none."""
    found = identify_mutable_parameters(expression)
    return [p for p in found if not isinstance(p, _PyomoUnit)]


def _refuse_kernel(parts: Iterable[Any], where: str) -> None:
    """Refuse what is made of ``pyomo.kernel``, which no writer of a model would find."""
    for part in parts:
        if isinstance(part, ICategorizedObject):
            raise ValueError(
                f"{where}: inputs= holds '{part}' of pyomo.kernel, which can't be part of a "
                "pyomo.environ model; declare a pyomo.environ.Var and give that."
            )


def _flatten(item: Any, where: str) -> Iterable[Any]:
    if isinstance(item, (str, bytes)) or item is None:
        raise ValueError(
            f"{where}: inputs= holds {item!r}; give variables, expressions or numbers."
        )
    _refuse_kernel([item], where)
    if isinstance(item, IndexedComponent) and item.is_indexed():
        for data in item.values():
            yield from _flatten(data, where)
    elif isinstance(item, IndexedComponent_slice):
        for data in item:
            yield from _flatten(data, where)
    elif isinstance(item, (list, tuple, np.ndarray)):
        for part in (
            np.asarray(item, dtype=object).ravel() if hasattr(item, "ravel") else item
        ):
            yield from _flatten(part, where)
    elif isinstance(item, Iterable) and not hasattr(item, "is_expression_type"):
        for part in item:
            yield from _flatten(part, where)
    elif hasattr(item, "is_variable_type"):
        if item.is_expression_type():
            _refuse_kernel(identify_variables(item, include_fixed=True), where)
            _refuse_kernel(mutable_parameters(item), where)
        if item.is_variable_type():
            yield item
        elif item.is_potentially_variable() or not item.is_fixed():
            yield item
        elif mutable_parameters(item):
            yield item
        else:
            yield float(value(item))
    else:
        try:
            yield float(item)
        except (TypeError, ValueError):
            raise ValueError(
                f"{where}: inputs= holds {item!r}; give variables, expressions or numbers."
            ) from None


def has_variables(entry: Any) -> bool:
    """Whether a variable or expression depends on a variable, fixed or not."""
    if entry.is_variable_type():
        return True
    return any(True for _ in identify_variables(entry, include_fixed=True))


def settled_range(entry: Any) -> tuple[float, float] | None:
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
    if all(v.fixed for v in found):
        number = value(entry, exception=False)
        return None if number is None else (float(number),) * 2
    if not any(v.fixed and v.value is not None for v in found):
        return None
    if mutable_parameters(entry) or any(v.fixed and v.value is None for v in found):
        return None
    visitor = ExpressionBoundsVisitor(use_fixed_var_values_as_bounds=True)
    low, high = _widen(*visitor.walk_expression(entry))
    return (
        -math.inf if low is None else float(low),
        math.inf if high is None else float(high),
    )


def entry_bounds(entry: Any) -> tuple[float, float]:
    """Bounds of an input by itself, infinite where it has none."""
    if entry.__class__ is float:
        return entry, entry
    if entry.is_variable_type():
        low, high = entry.bounds
    elif mutable_parameters(entry):
        # A Param may change after the bounds were used: it bounds nothing.
        low, high = None, None
    else:
        low, high = ExpressionBoundsVisitor().walk_expression(entry)
        low, high = _widen(low, high)
    return (
        -math.inf if low is None else float(low),
        math.inf if high is None else float(high),
    )


def _widen(low, high):
    scale = 16 * np.finfo(float).eps
    if low is not None:
        low = low - scale * abs(low)
    if high is not None:
        high = high + scale * abs(high)
    return low, high


def own_box(entries: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """The (n,) bounds that the entries have by themselves."""
    pairs = [entry_bounds(e) for e in entries]
    return np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])


def given_box(
    input_bounds: Any, network: Network, where: str
) -> tuple[np.ndarray, np.ndarray]:
    """Read ``input_bounds=``.

    Parameters
    ----------
    input_bounds
        One of: a pair of numbers for all inputs; a list with a (lower, upper) pair for
        each input; a tuple of two NumPy arrays, the lower and the upper bounds; a
        mapping from input names or positions to pairs. ``None`` stands for no bound.

    Returns
    -------
    (n,) lower and (n,) upper, infinite where nothing is given.
    """
    n = network.n_inputs
    if input_bounds is None:
        return np.full(n, -np.inf), np.full(n, np.inf)
    if isinstance(input_bounds, Mapping):
        names = {name: i for i, name in enumerate(network.input_names or ())}
        low, high = np.full(n, -np.inf), np.full(n, np.inf)
        for key, pair in input_bounds.items():
            i = names.get(key, key)
            if not isinstance(i, (int, np.integer)) or not 0 <= i < n:
                known = list(names) or f"0 to {n - 1}"
                raise ValueError(
                    f"{where}: input_bounds= names {key!r}, but the inputs are {known}."
                )
            low[i], high[i] = _pair(pair, where)
        return low, high
    given = list(input_bounds)
    if len(given) == 2 and all(isinstance(b, np.ndarray) and b.ndim for b in given):
        if isinstance(input_bounds, tuple):
            if any(b.size != n for b in given):
                raise ValueError(
                    f"{where}: input_bounds= has arrays of {given[0].size} and "
                    f"{given[1].size} entries for {n} inputs."
                )
            return tuple(np.array(b, dtype=float).reshape(n) for b in given)  # type: ignore
    if len(given) == 2 and all(b is None or np.ndim(b) == 0 for b in given):
        least, most = _pair(given, where)
        return np.full(n, least), np.full(n, most)
    if len(given) != n:
        raise ValueError(
            f"{where}: input_bounds= has {len(given)} entries for {n} inputs; give a "
            "(lower, upper) pair for each input, or one pair of numbers for all."
        )
    pairs = [_pair(pair, where) for pair in given]
    return np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])


def _pair(pair: Any, where: str) -> tuple[float, float]:
    try:
        low, high = pair
        return (
            -math.inf if low is None else float(low),
            math.inf if high is None else float(high),
        )
    except (TypeError, ValueError):
        raise ValueError(
            f"{where}: input_bounds= holds {pair!r}; give (lower, upper) pairs, "
            "(None, None) where the variable's own bounds are enough."
        ) from None


def as_given(entry: Any) -> Any:
    """The user's variable or named expression, where the block wrapped one; for messages."""
    if not isinstance(entry, float) and entry.is_named_expression_type():
        inner = entry.expr
        if hasattr(inner, "is_variable_type"):
            if inner.is_variable_type() or inner.is_named_expression_type():
                return inner
    return entry


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
        name = f"input {names[i]}"
        entry = None if entries is None else as_given(entries[i])
        if entry is not None and not isinstance(entry, float):
            what = "variable" if entry.is_variable_type() else "expression"
            name = f"{what} '{entry}' ({name})"
        if math.isnan(a) or math.isnan(b):
            raise ValueError(f"{where}: {name} has a bound that is not a number.")
        if a > b:
            raise ValueError(
                f"{where}: {name} has inverted bounds: lower {a:g} > upper {b:g}."
            )
        side = " or ".join(
            s for s, x in (("lower", a), ("upper", b)) if not math.isfinite(x)
        )
        remedy = "give it finite bounds, or pass input_bounds= to the block."
        if entry is not None and not isinstance(entry, float):
            params = [] if entry.is_variable_type() else mutable_parameters(entry)
            if params:
                remedy = (
                    f"it depends on the mutable Param '{params[0]}', which may change; "
                    "pass input_bounds= to the block."
                )
            elif entry.is_variable_type() and entry.fixed:
                remedy = (
                    f"it is fixed, but may be unfixed again; {remedy[:-1]}, or its value."
                )
        raise ValueError(f"{where}: {name} has no finite {side} bound; {remedy}")


class NetworkInputs(IndexedComponent):
    """The user's variables under the names or positions of the network's inputs.

    Holds the variables themselves, as a Reference does. It is no Var component, since
    Pyomo's MPS writer (6.10) fails on a variable that it meets in two of those. It is
    never active, for it states nothing: what walks the active components of a block, as
    ``gdp`` transformations and the check of units do, refuses kinds that it doesn't know.
    """

    _constructed: bool

    @property
    def active(self) -> bool:
        """False."""
        return False

    def __init__(self, index: Any, entries: Sequence[Any], **kwds: Any) -> None:
        kwds.setdefault("ctype", NetworkInputs)
        super().__init__(index, **kwds)
        self._given = tuple(entries)

    def construct(self, data: Any = None) -> None:
        """Fill in the variables."""
        if self._constructed:
            return
        self._constructed = True
        self.index_set().construct()
        self._data = dict(zip(self.index_set(), self._given))

    def _create_objects_for_deepcopy(self, memo, component_list):
        # As Pyomo does for References: the variables may live outside a cloned block.
        new = self.__class__.__new__(self.__class__)
        found = memo.setdefault(id(self), new)
        if found is new:
            component_list.append((self, new))
        return found

    def _pprint(self):
        return (
            [("Size", len(self)), ("Index", self._index_set), ("Inputs", "given")],
            self.items(),
            ("Variable",),
            lambda _, v: [v.name],
        )


def input_component(entries: Sequence[Any], names: Sequence[str] | None) -> Any:
    """``inputs`` of the block: the user's variables, or named Expressions."""
    index = named_index(names, len(entries))
    if all(not isinstance(e, float) and e.is_variable_type() for e in entries):
        return NetworkInputs(index, entries)
    keys = list(names) if names is not None else list(range(len(entries)))
    return Expression(index, initialize=dict(zip(keys, entries)))
