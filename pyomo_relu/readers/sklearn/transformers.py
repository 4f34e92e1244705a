"""Scalers, decompositions and what combines columns, and the inverses of scalers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from pyomo_relu.readers.moves import concatenate
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


@named(2)
def transform(graph: TensorGraph, name: str, estimator: Any, x: Tensor) -> Tensor:
    """``estimator.transform(x)`` for a tensor (1, n_features).

    Raises
    ------
    ValueError
        If the transformer is not supported, not fitted, or fitted on another number of
        features.
    """
    if estimator is None or isinstance(estimator, str) and estimator == "passthrough":
        return x
    kind = type(estimator).__name__ if is_sklearn(estimator) else ""
    if kind not in _TRANSFORMERS:
        raise unsupported(estimator)
    expected = getattr(estimator, "n_features_in_", x.size)
    if expected != x.size:
        raise ValueError(
            f"{kind_of(estimator)} was fitted on {expected} features; here it gets {x.size}."
        )
    y = _TRANSFORMERS[kind](graph, name, estimator, x)
    run = functools.partial(called, estimator, "transform")
    graph.calls.append(Call(f"its step '{name}' ({kind})", run, x.handle, y.handle))
    return y


def _standard(graph, name, estimator, x):
    scale, mean = attribute(estimator, "scale_"), estimator.mean_
    return _shift_and_divide(graph, name, x, mean if estimator.with_mean else None, scale)


def _robust(graph, name, estimator, x):
    center, scale = attribute(estimator, "center_"), estimator.scale_
    return _shift_and_divide(graph, name, x, center, scale)


def _shift_and_divide(graph, name, x, center, scale):
    factor = np.ones(x.size) if scale is None else 1.0 / np.asarray(scale, dtype=float)
    return graph.standardize(name, x, 0.0 if center is None else center, factor)


def _min_max(graph, name, estimator, x):
    y = graph.scale(name, x, attribute(estimator, "scale_"), estimator.min_)
    return graph.clip(f"{name}_clip", y, *estimator.feature_range) if estimator.clip else y


def _max_abs(graph, name, estimator, x):
    y = graph.scale(name, x, 1.0 / attribute(estimator, "scale_"))
    return graph.clip(f"{name}_clip", y, -1.0, 1.0) if getattr(estimator, "clip", 0) else y


def _components(estimator) -> np.ndarray:
    """The (n_components, n_features) matrix of a PCA, whitened where it whitens."""
    matrix = np.asarray(attribute(estimator, "components_"), dtype=float)
    if getattr(estimator, "whiten", False):
        variance = np.asarray(estimator.explained_variance_)
        root = np.maximum(np.sqrt(variance), np.finfo(variance.dtype).eps)
        matrix = matrix / root.astype(float)[:, None]
    return matrix


def _pca(graph, name, estimator, x):
    matrix = _components(estimator)
    mean = getattr(estimator, "mean_", None)
    return graph.matmul(name, x, matrix.T, 0.0 if mean is None else -(matrix @ mean))


def _function(graph, name, estimator, x):
    if estimator.func is not None:
        raise unsupported(estimator, f"with func={estimator.func!r} is not supported")
    return x


def _pipeline(graph, name, estimator, x):
    for step_name, step in estimator.steps:
        x = transform(graph, f"{name}_{step_name}", step, x)
    return x


def _weighted(graph, name, estimator, key, x):
    factor = (estimator.transformer_weights or {}).get(key)
    return x if factor is None else graph.scale(f"{name}_weight", x, factor)


def _columns(estimator, columns, n: int) -> list[int]:
    """Positions of the columns of one part of a ColumnTransformer."""
    names = feature_names(estimator) or []
    if isinstance(columns, slice):
        start, stop = (
            names.index(v) + (k == 1) if isinstance(v, str) else v
            for k, v in enumerate((columns.start, columns.stop))
        )
        return list(range(n))[start : stop : columns.step]
    array = np.atleast_1d(np.asarray(columns))
    if array.size == 0:
        return []
    if array.dtype.kind == "b":
        return [int(k) for k in np.flatnonzero(array)]
    if array.dtype.kind in "iu":
        return [int(k) % n for k in array]
    return [names.index(str(column)) for column in array]


def _column_transformer(graph, name, estimator, x):
    parts = []
    for key, part, columns in attribute(estimator, "transformers_"):
        chosen = _columns(estimator, columns, x.size)
        if isinstance(part, str) and part == "drop" or not chosen:
            continue
        taken = graph.rearrange(
            f"{name}_{key}_columns", [x], np.array([chosen]), batch=x.batch
        )
        made = transform(graph, f"{name}_{key}", part, taken)
        parts.append(_weighted(graph, f"{name}_{key}", estimator, key, made))
    if not parts:
        raise ValueError(f"{kind_of(estimator)} keeps no column.")
    return parts[0] if len(parts) == 1 else concatenate(graph, name, parts, 1)


def _union(graph, name, estimator, x):
    parts = []
    for key, part in estimator.transformer_list:
        if isinstance(part, str) and part == "drop":
            continue
        made = transform(graph, f"{name}_{key}", part, x)
        parts.append(_weighted(graph, f"{name}_{key}", estimator, key, made))
    return parts[0] if len(parts) == 1 else concatenate(graph, name, parts, 1)


_TRANSFORMERS: dict[str, Step] = {
    "ColumnTransformer": _column_transformer,
    "FeatureUnion": _union,
    "FunctionTransformer": _function,
    "MaxAbsScaler": _max_abs,
    "MinMaxScaler": _min_max,
    "PCA": _pca,
    "Pipeline": _pipeline,
    "RobustScaler": _robust,
    "StandardScaler": _standard,
    "TruncatedSVD": _pca,
}


def inverse_transform(graph: TensorGraph, name: str, estimator: Any, y: Tensor) -> Tensor:
    """``estimator.inverse_transform(y)`` of a linear transformer.

    Raises
    ------
    ValueError
        If the transformer has no linear inverse, is not fitted, or doesn't fit ``y``.
    """
    if estimator is None or isinstance(estimator, str) and estimator == "passthrough":
        return y
    x = _inverse(graph, name, estimator, y)
    run = functools.partial(called, estimator, "inverse_transform")
    label = f"the inverse of '{name}' ({type(estimator).__name__})"
    graph.calls.append(Call(label, run, y.handle, x.handle))
    return x


@named(2)
def _inverse(graph: TensorGraph, name: str, estimator: Any, y: Tensor) -> Tensor:
    kind = type(estimator).__name__ if is_sklearn(estimator) else ""
    if kind == "Pipeline":
        for step_name, step in reversed(estimator.steps):
            y = inverse_transform(graph, f"{name}_{step_name}", step, y)
        return y
    if kind == "FunctionTransformer":
        if estimator.inverse_func is not None or estimator.func is not None:
            function = estimator.inverse_func or estimator.func
            raise ValueError(
                f"{kind_of(estimator)} with inverse_func={function!r} is not known to be "
                "linear; use a scaler for the target."
            )
        return y
    if kind == "PCA":
        matrix = np.asarray(attribute(estimator, "components_"), dtype=float)
        if estimator.whiten:
            matrix = np.sqrt(estimator.explained_variance_)[:, None] * matrix
        return graph.matmul(name, y, matrix, estimator.mean_)
    scale = getattr(estimator, "scale_", None)
    factor = 1.0 if scale is None else np.asarray(scale, dtype=float)
    if kind == "StandardScaler":
        offset = estimator.mean_ if estimator.with_mean else 0.0
    elif kind == "RobustScaler":
        offset = 0.0 if estimator.center_ is None else estimator.center_
    elif kind == "MaxAbsScaler":
        offset = 0.0
    elif kind == "MinMaxScaler":
        factor = 1.0 / factor
        offset = -np.asarray(estimator.min_) * factor
    else:
        raise unsupported(estimator, "has no linear inverse that is known here")
    if estimator.n_features_in_ != y.size:
        raise ValueError(
            f"{kind_of(estimator)} was fitted on {estimator.n_features_in_} outputs; the "
            f"network has {y.size}."
        )
    return graph.scale(name, y, factor, offset)
