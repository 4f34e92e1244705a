"""Scalers and what combines columns, and the inverses of scalers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from pyomo_relu.readers.moves import concatenate
from pyomo_relu.readers.reader_tables import enter
from pyomo_relu.readers.sklearn.common import (
    attribute,
    feature_names,
    is_sklearn,
    kind_of,
    named,
    unsupported,
)
from pyomo_relu.readers.sklearn.running import called
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.values import Call, Tensor

Step = Callable[[TensorGraph, str, Any, Tensor], Tensor]

#: What reads the ``transform`` and the ``inverse_transform`` of an estimator, by the name
#: of its class.
TRANSFORMERS: dict[str, Step] = {}
INVERSES: dict[str, Step] = {}


def _is_nothing(estimator: Any) -> bool:
    return estimator is None or isinstance(estimator, str) and estimator == "passthrough"


@named(2)
def transform(graph: TensorGraph, name: str, estimator: Any, x: Tensor) -> Tensor:
    """``estimator.transform(x)`` for a tensor (1, n_features).

    Raises
    ------
    ValueError
        If the transformer is not supported, not fitted, or fitted on another number of
        features.
    """
    if _is_nothing(estimator):
        return x
    kind = type(estimator).__name__ if is_sklearn(estimator) else ""
    if kind not in TRANSFORMERS:
        raise unsupported(estimator)
    expected = getattr(estimator, "n_features_in_", x.size)
    if expected != x.size:
        raise ValueError(
            f"{kind_of(estimator)} was fitted on {expected} features; here it gets {x.size}."
        )
    y = TRANSFORMERS[kind](graph, name, estimator, x)

    def run(points: np.ndarray) -> np.ndarray:
        texts = (graph.texts_at(t.handle) for t in (x, y))  # known when all is read
        return called(estimator, "transform", points, *texts)

    graph.calls.append(Call(f"its step '{name}' ({kind})", run, x.handle, y.handle))
    return y


@named(2)
def inverse_transform(graph: TensorGraph, name: str, estimator: Any, y: Tensor) -> Tensor:
    """``estimator.inverse_transform(y)`` of a linear transformer.

    Raises
    ------
    ValueError
        If the transformer has no linear inverse, is not fitted, or doesn't fit ``y``.
    """
    if _is_nothing(estimator):
        return y
    kind = type(estimator).__name__ if is_sklearn(estimator) else ""
    if kind not in INVERSES:
        raise unsupported(estimator, "has no linear inverse that is known here")
    x = INVERSES[kind](graph, name, estimator, y)
    run = partial(called, estimator, "inverse_transform")
    label = f"the inverse of '{name}' ({kind})"
    graph.calls.append(Call(label, run, y.handle, x.handle))
    return x


# ------------------------------------------------------------------ scalers of columns
def _scaled_back(
    graph: TensorGraph, name: str, estimator: Any, y: Tensor, factor: Any, offset: Any
) -> Tensor:
    """``factor * y + offset``, each None for nothing; ``y`` must be what was fitted."""
    expected = estimator.n_features_in_
    if expected != y.size:
        raise ValueError(
            f"{kind_of(estimator)} was fitted on {expected} outputs; the network has "
            f"{y.size}."
        )
    factor = 1.0 if factor is None else np.asarray(factor, dtype=float)
    return graph.scale(name, y, factor, 0.0 if offset is None else offset)


def _standardized(
    graph: TensorGraph, name: str, x: Tensor, center: Any, scale: Any
) -> Tensor:
    factor = np.ones(x.size) if scale is None else 1.0 / np.asarray(scale, dtype=float)
    return graph.standardize(name, x, 0.0 if center is None else center, factor)


def _mean(estimator: Any) -> Any:
    return estimator.mean_ if estimator.with_mean else None


TRANSFORMERS |= {
    "StandardScaler": lambda graph, name, estimator, x: _standardized(
        graph, name, x, _mean(estimator), attribute(estimator, "scale_")
    ),
    "RobustScaler": lambda graph, name, estimator, x: _standardized(
        graph, name, x, attribute(estimator, "center_"), estimator.scale_
    ),
}
INVERSES |= {
    "StandardScaler": lambda graph, name, estimator, y: _scaled_back(
        graph, name, estimator, y, attribute(estimator, "scale_"), _mean(estimator)
    ),
    "RobustScaler": lambda graph, name, estimator, y: _scaled_back(
        graph, name, estimator, y, attribute(estimator, "scale_"), estimator.center_
    ),
    "MaxAbsScaler": lambda graph, name, estimator, y: _scaled_back(
        graph, name, estimator, y, attribute(estimator, "scale_"), None
    ),
}


@enter(TRANSFORMERS, "MinMaxScaler")
def _min_max(graph: TensorGraph, name: str, estimator: Any, x: Tensor) -> Tensor:
    y = graph.scale(name, x, attribute(estimator, "scale_"), estimator.min_)
    return graph.clip(f"{name}_clip", y, *estimator.feature_range) if estimator.clip else y


@enter(INVERSES, "MinMaxScaler")
def _min_max_back(graph: TensorGraph, name: str, estimator: Any, y: Tensor) -> Tensor:
    factor = 1.0 / np.asarray(attribute(estimator, "scale_"), dtype=float)
    offset = -np.asarray(estimator.min_) * factor
    return _scaled_back(graph, name, estimator, y, factor, offset)


@enter(TRANSFORMERS, "MaxAbsScaler")
def _max_abs(graph: TensorGraph, name: str, estimator: Any, x: Tensor) -> Tensor:
    y = graph.scale(name, x, 1.0 / attribute(estimator, "scale_"))
    return graph.clip(f"{name}_clip", y, -1.0, 1.0) if getattr(estimator, "clip", 0) else y


# --------------------------------------------------------------------------- functions
@enter(TRANSFORMERS, "FunctionTransformer")
def _function(graph: TensorGraph, name: str, estimator: Any, x: Tensor) -> Tensor:
    if estimator.func is not None:
        raise unsupported(estimator, f"with func={estimator.func!r} is not supported")
    return x


@enter(INVERSES, "FunctionTransformer")
def _function_back(graph: TensorGraph, name: str, estimator: Any, y: Tensor) -> Tensor:
    function = estimator.inverse_func or estimator.func
    if function is not None:
        raise ValueError(
            f"{kind_of(estimator)} with inverse_func={function!r} is not known to be "
            "linear; use a scaler for the target."
        )
    return y


# --------------------------------------------------------------- several transformers
@enter(TRANSFORMERS, "Pipeline")
def _pipeline(graph: TensorGraph, name: str, estimator: Any, x: Tensor) -> Tensor:
    for step_name, step in estimator.steps:
        x = transform(graph, f"{name}_{step_name}", step, x)
    return x


@enter(INVERSES, "Pipeline")
def _pipeline_back(graph: TensorGraph, name: str, estimator: Any, y: Tensor) -> Tensor:
    for step_name, step in reversed(estimator.steps):
        y = inverse_transform(graph, f"{name}_{step_name}", step, y)
    return y


@enter(TRANSFORMERS, "ColumnTransformer", "FeatureUnion")
def _union(graph: TensorGraph, name: str, estimator: Any, x: Tensor) -> Tensor:
    """Transformers of all columns, or each of its own columns, side by side."""
    if hasattr(estimator, "transformer_list"):
        given = [(key, part, x) for key, part in estimator.transformer_list]
    else:
        given = []
        for key, part, columns in attribute(estimator, "transformers_"):
            chosen = np.array([_columns(estimator, columns, x.size)], dtype=np.int64)
            if chosen.size and not (isinstance(part, str) and part == "drop"):
                label = f"{name}_{key}_columns"
                taken = graph.rearrange(label, [x], chosen, batch=x.batch)
                given.append((key, part, taken))
    parts = []
    for key, part, taken in given:
        if isinstance(part, str) and part == "drop":
            continue
        made = transform(graph, f"{name}_{key}", part, taken)
        factor = (estimator.transformer_weights or {}).get(key)
        if factor is not None:
            made = graph.scale(f"{name}_{key}_weight", made, factor)
        parts.append(made)
    if not parts:
        raise ValueError(f"{kind_of(estimator)} keeps no column.")
    return parts[0] if len(parts) == 1 else concatenate(graph, name, parts, 1)


def _columns(estimator: Any, columns: Any, n: int) -> list[int]:
    """Positions of the columns of one part of a ColumnTransformer."""
    names = feature_names(estimator) or []
    if isinstance(columns, slice):
        start, stop = (
            names.index(v) + (k == 1) if isinstance(v, str) else v
            for k, v in enumerate((columns.start, columns.stop))
        )
        return list(range(n))[start : stop : columns.step]
    array = np.atleast_1d(np.asarray(columns))
    if array.dtype.kind == "b":
        return [int(k) for k in np.flatnonzero(array)]
    if array.dtype.kind in "iu":
        return [int(k) % n for k in array]
    return [names.index(str(column)) for column in array]
