"""Tables of pandas: inputs and their bounds from them, outputs as them.

A column is an input of the network, by its name; a row is one block of an indexed one. pandas
itself is imported only where something of it is made.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from pyomo.environ import value

from pyomo_relu.network import Network

#: What two rows, or two columns, of a table of bounds are called.
BOUND_LABELS = (("min", "max"), ("lower", "upper"), ("lb", "ub"))


def is_frame(given: Any) -> bool:
    """Whether this is a DataFrame of pandas."""
    return _is_of_pandas(given, "DataFrame")


def is_series(given: Any) -> bool:
    """Whether this is a Series of pandas."""
    return _is_of_pandas(given, "Series")


def _is_of_pandas(given: Any, name: str) -> bool:
    return any(
        kind.__name__ == name and kind.__module__.partition(".")[0] == "pandas"
        for kind in type(given).__mro__
    )


# ---------------------------------------------------------------------------- inputs
def row_of(frame: Any, index: Any, where: str) -> Any:
    """The row of a frame for one block of an indexed one; of a single block its only row.

    Parameters
    ----------
    frame : DataFrame
        Of variables, expressions and numbers, a column for each input.
    index
        Of the block, None for a single one.
    where : str
        How an error names the block.

    Returns
    -------
    Series
        By the names of the columns.

    Raises
    ------
    ValueError
        If there is no such row, or more than one.
    """
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise ValueError(f"{where}: inputs= has the column {twice!r} more than once.")
    if index is None:
        if len(frame) != 1:
            raise ValueError(
                f"{where}: inputs= is a DataFrame of {len(frame)} rows for one network; give "
                "one row, frame.loc[label], or a network for each: "
                "ReLUNetBlock(list(frame.index), inputs=frame, ...)."
            )
        return frame.iloc[0]
    labels = frame.index
    places = np.flatnonzero([label == index for label in labels])
    if len(places) != 1:
        what = "no row" if not len(places) else f"{len(places)} rows"
        raise ValueError(
            f"{where}: inputs= is a DataFrame with {what} {index!r}; its index is "
            f"{_few(labels)}, and each block of the component needs one row."
        )
    return frame.iloc[int(places[0])]


def _few(labels: Any) -> str:
    shown = ", ".join(repr(label) for label in list(labels)[:6])
    return f"[{shown}{', ...' if len(labels) > 6 else ''}]"


# ---------------------------------------------------------------------------- bounds
def pairs_of(table: Any, network: Network, where: str) -> Mapping[Any, Any] | list[Any]:
    """A frame or Series of bounds as ``input_bounds=`` takes them: a mapping or a list.

    Parameters
    ----------
    table : DataFrame or Series
        One of: a frame with rows ``min`` and ``max`` (what ``describe()`` and
        ``agg(["min", "max"])`` give) and a column for each input; the same the other way
        round; a frame of data, whose smallest and largest values are the bounds; a Series
        of (lower, upper) pairs. ``lower`` and ``upper``, ``lb`` and ``ub`` mean the same.
    network : Network
    where : str
        How an error names the block.

    Returns
    -------
    mapping or list
        By the network's names where it has some that the table has; in order otherwise.
        A bound that is missing (NaN) is None.

    Raises
    ------
    ValueError
        For a column that isn't numeric or has no value, for an unknown name, and for a
        number of columns that isn't that of the inputs.
    """
    found = dict(table.items()) if is_series(table) else _ends(table, where)
    names = network.input_names
    if names is None and len(found) == network.n_inputs:
        return list(found.values())
    if names is None:
        raise ValueError(
            f"{where}: input_bounds= is a table of {len(found)} inputs, {_few(found)}, and "
            f"the network has {network.n_inputs} without names; input_names= gives them some."
        )
    return {str(name): pair for name, pair in found.items()}


def _ends(frame: Any, where: str) -> dict[Any, tuple[Any, Any]]:
    """The lower and the upper bound of each input in a frame, by its name."""
    for low, high in BOUND_LABELS:
        if low in frame.index and high in frame.index:
            table = frame
        elif set(frame.columns) == {low, high}:
            table = frame.T
        else:
            continue
        ends = [_numbers(table.loc[label], where) for label in (low, high)]
        return {
            name: tuple(None if math.isnan(end[k]) else end[k] for end in ends)  # type: ignore[misc]
            for k, name in enumerate(table.columns)
        }
    found = {}
    for name in frame.columns:
        data = np.array(_numbers(frame[name], where))
        data = data[~np.isnan(data)]
        if not len(data):
            raise ValueError(
                f"{where}: input_bounds= is a DataFrame without a value of {name!r}."
            )
        found[name] = (float(data.min()), float(data.max()))
    return found


def _numbers(series: Any, where: str) -> list[float]:
    if getattr(series, "ndim", 1) != 1:
        raise ValueError(f"{where}: input_bounds= has a row or column twice.")
    try:
        return [float(x) for x in series.to_numpy(dtype=float, na_value=math.nan)]
    except (TypeError, ValueError):
        raise ValueError(
            f"{where}: input_bounds= holds {series.name!r}, which isn't all numbers; leave "
            "such columns out, frame[network.input_names]."
        ) from None


# --------------------------------------------------------------------------- outputs
class OutputsInPandas:
    """What gives the outputs of one network block as a Series."""

    def outputs_to_pandas(self, values: bool = False) -> Any:
        """Return the outputs as a pandas Series, by their names.

        Parameters
        ----------
        values : bool
            Their present values, NaN where there is none, in place of the variables.

        Returns
        -------
        pandas.Series
            Of an indexed component a DataFrame with a row for each index.

        Raises
        ------
        ImportError
            Without pandas.
        """
        pandas = _pandas()
        variables = self.outputs  # type: ignore[attr-defined]
        found = [_value(v) if values else v for v in variables.values()]
        kind = float if values else object
        name = self.name  # type: ignore[attr-defined]
        return pandas.Series(found, index=list(variables), name=name, dtype=kind)


def outputs_frame(blocks: Mapping[Any, Any], values: bool) -> Any:
    """The outputs of many blocks, a row for each.

    Parameters
    ----------
    blocks : mapping
        By index.
    values : bool
        See :meth:`OutputsInPandas.outputs_to_pandas`.
    """
    pandas = _pandas()
    rows = [block.outputs_to_pandas(values) for block in blocks.values()]
    index = list(blocks)
    if any(isinstance(i, tuple) for i in index):
        index = pandas.MultiIndex.from_tuples(index)
    columns = list(dict.fromkeys(name for row in rows for name in row.index))
    table = [[row.get(name) for name in columns] for row in rows]
    kind = float if values else object
    return pandas.DataFrame(table, index=index, columns=columns, dtype=kind)


def _pandas() -> Any:
    try:
        return importlib.import_module("pandas")
    except ImportError as error:
        raise ImportError("outputs_to_pandas needs pandas; pip install pandas") from error


def _value(variable: Any) -> float:
    found = value(variable, exception=False)
    return math.nan if found is None else float(found)
