"""The inputs of a network block: the user's variables, expressions or numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from pyomo.core.base.indexed_component import IndexedComponent
from pyomo.core.base.indexed_component_slice import IndexedComponent_slice
from pyomo.core.base.set import OrderedScalarSet
from pyomo.core.expr.visitor import identify_variables
from pyomo.core.kernel.base import ICategorizedObject
from pyomo.environ import Expression, Var, value

from pyomo_relu.base.index_set import data_of, index_set
from pyomo_relu.block.by_name import ordered_by_name
from pyomo_relu.block.frames import is_frame, row_of
from pyomo_relu.block.input_bounds import mutable_parameters
from pyomo_relu.network import Network


class NamedIndex(OrderedScalarSet):
    """A set of names that also takes positions: ``outputs["N2"]`` or ``outputs[11]``."""

    def get(self, item: Any, default: Any = None) -> Any:
        found = super().get(item, default)
        if found is default and isinstance(item, (int, np.integer)):
            if 0 <= item < len(self):
                return self.at(int(item) + 1)
        return found


def named_index(names: Sequence[str] | None, n: int) -> Any:
    """The index set of ``n`` inputs or outputs: names where there are some."""
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
        expressions, numbers and indexed components; a mapping from input names, or
        input layer names, to those; or a pandas Series, or DataFrame of one row, of them.
    network : Network
    where : str
        How an error names the block.

    Raises
    ------
    ValueError
        For a wrong number or kind of entries, naming it.
    """
    _refuse_kernel([inputs], where)
    if is_frame(inputs):
        inputs = row_of(inputs, None, where)
    inputs = ordered_by_name(inputs, network, where)
    entries = list(_flatten(inputs, where))
    if len(entries) != network.n_inputs:
        # Entries of all indices, where each block of an indexed one should have its own.
        rule = (
            ""
            if not where.endswith("]")
            else (
                " Each block of an indexed one needs its own: give a rule, such as "
                "inputs=lambda block, t: [m.x[t, 0], m.x[t, 1]]."
            )
        )
        raise ValueError(
            f"{where}: the network has {network.n_inputs} inputs, but inputs= gives "
            f"{len(entries)}.{rule}"
        )
    return entries


def _refuse_kernel(parts: Iterable[Any], where: str) -> None:
    """Refuse what is made of ``pyomo.kernel``, which no writer of a model would find."""
    for part in parts:
        if isinstance(part, ICategorizedObject):
            raise ValueError(
                f"{where}: inputs= holds '{part}' of pyomo.kernel, which can't be part of a "
                "pyomo.environ model; declare a pyomo.environ.Var and give that."
            )


def _flatten(item: Any, where: str) -> Iterator[Any]:
    if isinstance(item, (str, bytes)) or item is None:
        raise _no_input(item, where)
    _refuse_kernel([item], where)
    parts = _parts(item)
    if parts is None:
        yield _entry(item, where)
        return
    for part in parts:
        yield from _flatten(part, where)


def _parts(item: Any) -> Iterable[Any] | None:
    """What is in an indexed component, a slice, an array or a list; None for one entry."""
    if isinstance(item, IndexedComponent) and item.is_indexed():
        return item.values()
    if isinstance(item, np.ndarray):
        return item.astype(object).ravel()
    if isinstance(item, IndexedComponent_slice):
        return item
    is_list = isinstance(item, Iterable) and not hasattr(item, "is_expression_type")
    return item if is_list else None


def _entry(item: Any, where: str) -> Any:
    """A variable, an expression that may change, or a float."""
    if not hasattr(item, "is_variable_type"):
        try:
            return float(item)
        except (TypeError, ValueError):
            raise _no_input(item, where) from None
    if item.is_expression_type():
        _refuse_kernel(identify_variables(item, include_fixed=True), where)
        _refuse_kernel(mutable_parameters(item), where)
    if item.is_variable_type() or item.is_potentially_variable() or not item.is_fixed():
        return item
    return item if mutable_parameters(item) else float(value(item))


def _no_input(item: Any, where: str) -> ValueError:
    return ValueError(
        f"{where}: inputs= holds {item!r}; give variables, expressions or numbers."
    )


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

    def _create_objects_for_deepcopy(self, memo: Any, component_list: Any) -> Any:
        # Pyomo does so for References: the variables may live outside a cloned block.
        new = self.__class__.__new__(self.__class__)
        found = memo.setdefault(id(self), new)
        if found is new:
            component_list.append((self, new))
        return found

    def _pprint(self) -> Any:
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


def add_inputs(block: Any, entries: list[Any] | None) -> tuple[Any, ...]:
    """Add the component ``inputs`` to a block, and return the entries as rows use them.

    Without entries the block gets variables of its own, within ``input_bounds=``.
    """
    network = block.network
    if entries is None:
        index = named_index(network.input_names, network.n_inputs)
        block.add_component("inputs", Var(index))
        found = data_of(block.component("inputs"))
        for v, low, high in zip(found, *(b.tolist() for b in block.given_box)):
            v.setlb(low)
            v.setub(high)
        return tuple(found)
    component = input_component(entries, network.input_names)
    block.add_component("inputs", component)
    if component.ctype is Expression:
        named = component.values()
        return tuple(e if isinstance(e, float) else c for e, c in zip(entries, named))
    return tuple(entries)
