"""scikit-learn estimators and pipelines -> :class:`~pyomo_relu.network.Network`.

Estimators are found by the name of their exact class, so scikit-learn itself is not
imported here; a subclass may compute something else and is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pyomo_relu.network import Network, activations
from pyomo_relu.readers.moves import concatenate
from pyomo_relu.readers.tensors import Tensor, TensorGraph

Step = Callable[[TensorGraph, str, Any, Tensor], Tensor]


def read_sklearn(
    source: Any,
    *,
    logits: bool = False,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> Network:
    """Read a fitted scikit-learn estimator.

    Parameters
    ----------
    source : estimator
        MLPRegressor, MLPClassifier, a linear regressor or classifier, a
        TransformedTargetRegressor of one, or a Pipeline of scalers, PCA and
        ColumnTransformer that ends in one. The network is its ``predict``; of a
        classifier, with ``logits=True``, what goes into its softmax or logistic
        function (of a linear classifier its ``decision_function``).
    logits : bool
        Needed for classifiers. A binary classifier has one output: positive means the
        second class.
    input_names, output_names : sequence of str, optional
        A name for each input and output. Left out: the columns of the DataFrame that
        the estimator was fitted on; the labels of more than two classes.

    Raises
    ------
    ValueError
        For an estimator that is not fitted, not supported, or not piecewise linear.
    """
    estimator = _unwrapped(source)
    n = _n_features(estimator)
    if n is None:
        raise ValueError(f"{_kind(estimator)} is not fitted; call its fit method first.")
    graph = TensorGraph()
    x = graph.input("features", (1, int(n)), 0)
    y = _predict(graph, estimator, x, logits)
    if input_names is None:
        input_names = feature_names(estimator)
    if output_names is None:
        output_names = _class_names(estimator, y.size)
    return graph.builder.build(
        [y.handle], input_names=input_names, output_names=output_names
    )


def feature_names(estimator: Any) -> list[str] | None:
    """Columns of the DataFrame that ``estimator`` was fitted on; None for an array."""
    names = getattr(estimator, "feature_names_in_", None)
    return None if names is None else [str(name) for name in names]


def _n_features(estimator: Any) -> int | None:
    """Number of features that ``estimator`` was fitted on; None if it wasn't."""
    found = getattr(estimator, "n_features_in_", None)
    if found is None and hasattr(estimator, "steps"):
        # A Pipeline asks its first step, which may be the string "passthrough".
        for _, step in estimator.steps:
            if step is None or isinstance(step, str):
                continue
            found = _n_features(step)
            if found is not None or not hasattr(step, "steps"):
                break
    return found


def is_sklearn(source: Any) -> bool:
    """Whether ``source`` is an object of scikit-learn."""
    return type(source).__module__.split(".")[0] == "sklearn"


def _kind(estimator: Any) -> str:
    return f"the scikit-learn estimator {type(estimator).__name__}"


def _name(estimator: Any) -> str:
    return type(estimator).__name__.lower()


def _class_names(estimator: Any, n: int) -> list[str] | None:
    classes = getattr(estimator, "classes_", None)
    if isinstance(classes, np.ndarray) and len(classes) == n and classes.dtype.kind in "OU":
        return [str(c) for c in classes]
    return None


def _unwrapped(estimator: Any) -> Any:
    """The best estimator of a grid or random search."""
    if is_sklearn(estimator) and hasattr(estimator, "best_estimator_"):
        return estimator.best_estimator_
    return estimator


def _attribute(estimator: Any, name: str) -> Any:
    if not hasattr(estimator, name):
        raise ValueError(f"{_kind(estimator)} is not fitted; call its fit method first.")
    return getattr(estimator, name)


# ------------------------------------------------------------------------- predictors
_REGRESSORS = {
    "ARDRegression",
    "BayesianRidge",
    "ElasticNet",
    "ElasticNetCV",
    "HuberRegressor",
    "Lars",
    "LarsCV",
    "Lasso",
    "LassoCV",
    "LassoLars",
    "LassoLarsCV",
    "LinearRegression",
    "LinearSVR",
    "MultiTaskElasticNet",
    "MultiTaskLasso",
    "OrthogonalMatchingPursuit",
    "Ridge",
    "RidgeCV",
    "SGDRegressor",
    "TheilSenRegressor",
}
_CLASSIFIERS = {
    "LinearSVC",
    "LogisticRegression",
    "LogisticRegressionCV",
    "Perceptron",
    "RidgeClassifier",
    "RidgeClassifierCV",
    "SGDClassifier",
}


def _predict(graph: TensorGraph, estimator: Any, x: Tensor, logits: bool) -> Tensor:
    """``estimator.predict(x)``, or what goes into its head."""
    estimator = _unwrapped(estimator)
    kind = type(estimator).__name__ if is_sklearn(estimator) else ""
    if kind == "Pipeline":
        for name, step in estimator.steps[:-1]:
            x = transform(graph, name, step, x)
        return _predict(graph, estimator.steps[-1][1], x, logits)
    if kind == "TransformedTargetRegressor":
        y = _predict(graph, _attribute(estimator, "regressor_"), x, logits)
        return inverse_transform(graph, "target", estimator.transformer_, y)
    if kind in ("MLPRegressor", "MLPClassifier"):
        return _mlp(graph, estimator, x, logits)
    if kind in _REGRESSORS or kind in _CLASSIFIERS:
        if kind in _CLASSIFIERS and not logits:
            raise ValueError(
                f"{_kind(estimator)} predicts classes; read it with logits=True to get "
                "its decision function."
            )
        weight = np.atleast_2d(np.asarray(_attribute(estimator, "coef_"), dtype=float))
        return graph.matmul(_name(estimator), x, weight.T, estimator.intercept_)
    if kind and hasattr(estimator, "transform") and not hasattr(estimator, "predict"):
        return transform(graph, _name(estimator), estimator, x)
    raise _unsupported(estimator)


def _unsupported(estimator: Any, reason: str = "is not supported") -> ValueError:
    return ValueError(
        f"{_kind(estimator)} {reason}; give an MLPRegressor, MLPClassifier or linear "
        "model, alone or after scalers, PCA and ColumnTransformer in a Pipeline."
    )


def _mlp(graph: TensorGraph, estimator: Any, x: Tensor, logits: bool) -> Tensor:
    coefs = _attribute(estimator, "coefs_")
    if estimator.activation not in ("relu", "identity"):
        raise ValueError(
            f"{_kind(estimator)} has activation='{estimator.activation}', which is not "
            "piecewise linear; train it with activation='relu'."
        )
    head = estimator.out_activation_
    if head in ("softmax", "logistic"):
        if not logits:
            raise ValueError(
                f"{_kind(estimator)} ends in a {head} function; read it with logits=True "
                "to get its input."
            )
    elif head != "identity":
        raise ValueError(
            f"{_kind(estimator)} has the output activation '{head}', which is not "
            "piecewise linear."
        )
    for k, (w, b) in enumerate(zip(coefs, estimator.intercepts_)):
        x = graph.matmul(f"layer_{k + 1}", x, w, b)
        if k < len(coefs) - 1 and estimator.activation == "relu":
            x = graph.piecewise(f"relu_{k + 1}", x, activations.relu())
    return x


# ----------------------------------------------------------------------- transformers
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
        raise _unsupported(estimator)
    expected = getattr(estimator, "n_features_in_", x.size)
    if expected != x.size:
        raise ValueError(
            f"{_kind(estimator)} was fitted on {expected} features; here it gets {x.size}."
        )
    return _TRANSFORMERS[kind](graph, name, estimator, x)


def _standard(graph, name, estimator, x):
    scale, mean = _attribute(estimator, "scale_"), estimator.mean_
    return _shift_and_divide(graph, name, x, mean if estimator.with_mean else None, scale)


def _robust(graph, name, estimator, x):
    center, scale = _attribute(estimator, "center_"), estimator.scale_
    return _shift_and_divide(graph, name, x, center, scale)


def _shift_and_divide(graph, name, x, center, scale):
    factor = np.ones(x.size) if scale is None else 1.0 / np.asarray(scale, dtype=float)
    offset = 0.0 if center is None else -np.asarray(center, dtype=float) * factor
    return graph.scale(name, x, factor, offset)


def _min_max(graph, name, estimator, x):
    y = graph.scale(name, x, _attribute(estimator, "scale_"), estimator.min_)
    return graph.clip(f"{name}_clip", y, *estimator.feature_range) if estimator.clip else y


def _max_abs(graph, name, estimator, x):
    y = graph.scale(name, x, 1.0 / _attribute(estimator, "scale_"))
    return graph.clip(f"{name}_clip", y, -1.0, 1.0) if getattr(estimator, "clip", 0) else y


def _components(estimator) -> np.ndarray:
    """The (n_components, n_features) matrix of a PCA, whitened where it whitens."""
    matrix = np.asarray(_attribute(estimator, "components_"), dtype=float)
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
        raise _unsupported(estimator, f"with func={estimator.func!r} is not supported")
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
    for key, part, columns in _attribute(estimator, "transformers_"):
        chosen = _columns(estimator, columns, x.size)
        if isinstance(part, str) and part == "drop" or not chosen:
            continue
        taken = graph.rearrange(
            f"{name}_{key}_columns", [x], np.array([chosen]), batch=x.batch
        )
        made = transform(graph, f"{name}_{key}", part, taken)
        parts.append(_weighted(graph, f"{name}_{key}", estimator, key, made))
    if not parts:
        raise ValueError(f"{_kind(estimator)} keeps no column.")
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
    kind = type(estimator).__name__ if is_sklearn(estimator) else ""
    if kind == "Pipeline":
        for step_name, step in reversed(estimator.steps):
            y = inverse_transform(graph, f"{name}_{step_name}", step, y)
        return y
    if estimator is None or isinstance(estimator, str) and estimator == "passthrough":
        return y
    if kind == "FunctionTransformer":
        if estimator.inverse_func is not None or estimator.func is not None:
            function = estimator.inverse_func or estimator.func
            raise ValueError(
                f"{_kind(estimator)} with inverse_func={function!r} is not known to be "
                "linear; use a scaler for the target."
            )
        return y
    if kind == "PCA":
        matrix = np.asarray(_attribute(estimator, "components_"), dtype=float)
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
        raise _unsupported(estimator, "has no linear inverse that is known here")
    if estimator.n_features_in_ != y.size:
        raise ValueError(
            f"{_kind(estimator)} was fitted on {estimator.n_features_in_} outputs; the "
            f"network has {y.size}."
        )
    return graph.scale(name, y, factor, offset)
