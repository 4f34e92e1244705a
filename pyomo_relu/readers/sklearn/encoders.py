"""Encoders of categories, bins, and imputers of missing values.

An encoder knows a feature at its categories only. It becomes a continuous function through
its values there, see :mod:`pyomo_relu.readers.categories`: exact at the categories, without
a meaning between them, so that a variable there has to be an integer, or another one of the
categories. Text is its position among the categories of its feature, from 0. Where an encoder
has a value for what it does not know, the function has this value at all other integers; for
text there are none.

What an encoder makes of a category, it says itself: its ``transform`` is run on each
category once, with all its options (dropped, infrequent and unknown ones).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pyomo_relu.readers.categories import tabulated, with_neighbours
from pyomo_relu.readers.reader_tables import enter
from pyomo_relu.readers.sklearn.common import (
    attribute,
    feature_names,
    kind_of,
    unsupported,
)
from pyomo_relu.readers.sklearn.running import Texts, called
from pyomo_relu.readers.sklearn.transformers import TRANSFORMERS
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.values import Tensor

#: In place of a lower end that is infinite.
LARGEST = 1e300


def _name_of(estimator: Any, column: int) -> str:
    names = feature_names(estimator)
    return f"'{names[column]}'" if names else str(column)


def _categories_of(estimator: Any, column: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """The categories of a feature, ascending, and the texts that they are positions of.

    A missing value is none of them. Text becomes its position among the categories.
    """
    given = [v for v in np.asarray(estimator.categories_[column]).tolist() if v is not None]
    present = [v for v in given if not (isinstance(v, float) and np.isnan(v))]
    if present and all(isinstance(v, str) for v in present):
        return np.arange(len(present), dtype=float), tuple(present)
    try:
        if any(isinstance(v, (str, bytes)) for v in given):
            raise TypeError
        numbers = np.array(given, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(
            f"{kind_of(estimator)} was fitted on categories of feature "
            f"{_name_of(estimator, column)} that are neither numbers nor text "
            f"({given[0]!r}, ...). Write integers or text into this column before fit (in "
            "pandas frame[column].astype(str))."
        ) from None
    return np.sort(numbers[np.isfinite(numbers)]), ()


def _grid(estimator: Any, column: int) -> np.ndarray:
    """The values of a feature between which the encoder is interpolated."""
    categories, texts = _categories_of(estimator, column)
    if texts:
        return categories  # a position beyond them says nothing
    # TargetEncoder has no such option: it gives the mean of all to what it doesn't know.
    if getattr(estimator, "handle_unknown", "") == "error":
        return categories
    if not np.array_equal(categories, np.round(categories)):
        raise ValueError(
            f"{kind_of(estimator)} takes any value of feature "
            f"{_name_of(estimator, column)}, also such that are none of its categories, "
            "which aren't all integers; that is not piecewise linear. Fit it with "
            "handle_unknown='error', or on integers."
        )
    return with_neighbours(categories)


def _tabulated(
    estimator: Any, grids: Sequence[np.ndarray], texts: Texts
) -> tuple[np.ndarray, list[np.ndarray]]:
    """What an encoder gives at the first values, and how that changes along each grid."""
    first = np.array([grid[0] for grid in grids])
    rows = [first]
    for column, grid in enumerate(grids):
        block = np.tile(first, (len(grid) - 1, 1))
        block[:, column] = grid[1:]
        rows.extend(block)
    values = called(estimator, "transform", np.array(rows), texts)
    if not np.isfinite(values).all():
        raise ValueError(
            f"{kind_of(estimator)} encodes some value as NaN, which no network can give; "
            "fit it with a number as unknown_value and encoded_missing_value."
        )
    changes, start = [], 1
    for grid in grids:
        block = np.vstack([values[:1], values[start : start + len(grid) - 1]])
        changes.append(np.diff(block, axis=0))
        start += len(grid) - 1
    return values[0], changes


def _encoded(
    graph: TensorGraph,
    name: str,
    estimator: Any,
    x: Tensor,
    grids: Sequence[np.ndarray],
    texts: Texts,
    jumps: bool,
) -> Tensor:
    """The sum over features of the curve through the values on the grid of each.

    With ``jumps`` a feature changes at once where it reaches a value of its grid, else
    linearly on the way to it.
    """
    base, changes = _tabulated(estimator, grids, texts)
    return tabulated(graph, name, x, grids, base, changes, jumps)


@enter(TRANSFORMERS, "OneHotEncoder", "OrdinalEncoder", "TargetEncoder")
def _categories(graph: TensorGraph, name: str, estimator: Any, x: Tensor) -> Tensor:
    attribute(estimator, "categories_")
    grids = [_grid(estimator, column) for column in range(x.size)]
    named = [_categories_of(estimator, column) for column in range(x.size)]
    categories = [numbers for numbers, _ in named]
    texts = {column: found for column, (_, found) in enumerate(named) if found}
    origins = graph.origins(x.handle)
    for column, (origin, grid) in enumerate(zip(origins, grids)):
        if not len(grid):
            raise ValueError(
                f"{kind_of(estimator)} has no category of feature "
                f"{_name_of(estimator, column)} that is a number."
            )
        if origin < 0:
            raise ValueError(
                f"{kind_of(estimator)} reads feature {_name_of(estimator, column)} after "
                "it was scaled or computed; put the encoder before the scalers, so that "
                "its categories are values of the inputs."
            )
        graph.admit(int(origin), grid)
        own = dict(
            zip(texts.get(column) or categories[column].tolist(), categories[column])
        )
        known = graph.categories.setdefault(int(origin), own)
        if column in texts and known != own:
            raise ValueError(
                f"{kind_of(estimator)} knows other categories of feature "
                f"{_name_of(estimator, column)} than another encoder of it, so that text "
                "there has no position; fit both on the same rows."
            )
        graph.categories[int(origin)] = {v: k for v, k in known.items() if v in own}
    return _encoded(graph, name, estimator, x, grids, texts, jumps=False)


@enter(TRANSFORMERS, "KBinsDiscretizer")
def _bins(graph: TensorGraph, name: str, estimator: Any, x: Tensor) -> Tensor:
    edges = attribute(estimator, "bin_edges_")
    # A feature of one value has one bin, from -inf to inf.
    grids = [np.maximum(np.asarray(e, dtype=float)[:-1], -LARGEST) for e in edges]
    return _encoded(graph, name, estimator, x, grids, {}, jumps=True)


@enter(TRANSFORMERS, "Binarizer")
def _binarized(graph: TensorGraph, name: str, estimator: Any, x: Tensor) -> Tensor:
    shifted = graph.scale(f"{name}_shifted", x, 1.0, -float(estimator.threshold))
    return graph.step(name, shifted, strict=True)


@enter(TRANSFORMERS, "SimpleImputer", "KNNImputer", "IterativeImputer")
def _imputed(graph: TensorGraph, name: str, estimator: Any, x: Tensor) -> Tensor:
    """Inputs of a network are never missing, so that an imputer leaves them as they are.

    Which columns it keeps, and where it adds some that say what is missing, it tells on
    the numbers of its columns.
    """
    missing = estimator.missing_values
    is_nan = isinstance(missing, (float, np.floating)) and np.isnan(missing)
    if not (is_nan or missing is None or type(missing).__name__ == "NAType"):
        raise ValueError(
            f"{kind_of(estimator)} replaces the number missing_values={missing!r}, which "
            "is not piecewise linear; write NaN for what is missing, and fit it with "
            "missing_values=np.nan."
        )
    known = getattr(estimator, "statistics_", None)
    if known is not None and known.dtype == object:  # of text
        empty = [v is None or v != v for v in known]
        if estimator.add_indicator or any(empty):
            raise unsupported(
                estimator,
                "of text with add_indicator=True, or with a column of which no value is "
                "known, is not supported",
            )
        return x
    numbers = called(estimator, "transform", 1.0 + np.arange(x.size)[None, :])
    codes = np.round(numbers).astype(np.int64) - 1
    return graph.rearrange(name, [x], codes, np.zeros(1), x.batch)
