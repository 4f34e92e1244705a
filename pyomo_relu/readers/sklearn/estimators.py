"""Estimators and pipelines: predictors after transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pyomo_relu.network import Network, activations
from pyomo_relu.readers.checking import built
from pyomo_relu.readers.frameworks import CalledFramework
from pyomo_relu.readers.sklearn.common import (
    CLASSIFIERS,
    attribute,
    feature_names,
    is_sklearn,
    kind_of,
    n_features,
    named,
    unfitted,
    unsupported,
    unwrapped,
)
from pyomo_relu.readers.sklearn.running import as_run
from pyomo_relu.readers.sklearn.transformers import inverse_transform, transform
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.values import Tensor

_REGRESSORS = set(
    """
    ARDRegression BayesianRidge ElasticNet ElasticNetCV HuberRegressor Lars LarsCV Lasso
    LassoCV LassoLars LassoLarsCV LinearRegression LinearSVR MultiTaskElasticNet
    MultiTaskLasso OrthogonalMatchingPursuit Ridge RidgeCV SGDRegressor TheilSenRegressor
    """.split()
)


def read_sklearn(
    source: Any,
    *,
    logits: bool = False,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    check_reading: bool = True,
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
    input_names, output_names, check_reading
        As in :func:`~pyomo_relu.read_network`. Names that are left out are the columns
        of the DataFrame that the estimator was fitted on, and the labels of more than
        two classes.

    Raises
    ------
    ValueError
        For an estimator that is not fitted, not supported, or not piecewise linear, and
        where the network differs from it.
    """
    estimator = unwrapped(source)
    n = n_features(estimator)
    if n is None:
        raise unfitted(estimator)
    graph = TensorGraph()
    x = graph.input("features", (1, int(n)), 0)
    y = _predict(graph, estimator, x, logits)
    if input_names is None:
        input_names = feature_names(estimator)
    if output_names is None:
        output_names = _class_names(estimator, y.size)

    def framework() -> CalledFramework:
        run, head = as_run(estimator)
        called = CalledFramework(kind_of(estimator), run, graph.calls, x.handle)
        called.heads = {} if head is None else {0: head}
        return called

    return built(
        graph,
        [y],
        framework if check_reading else None,
        input_names=input_names,
        output_names=output_names,
    )


def _name(estimator: Any) -> str:
    return type(estimator).__name__.lower()


def _class_names(estimator: Any, n: int) -> list[str] | None:
    classes = getattr(estimator, "classes_", None)
    if isinstance(classes, np.ndarray) and len(classes) == n and classes.dtype.kind in "OU":
        return [str(c) for c in classes]
    return None


@named(1)
def _predict(graph: TensorGraph, estimator: Any, x: Tensor, logits: bool) -> Tensor:
    """``estimator.predict(x)``, or what goes into its head."""
    estimator = unwrapped(estimator)
    kind = type(estimator).__name__ if is_sklearn(estimator) else ""
    if kind == "Pipeline":
        for name, step in estimator.steps[:-1]:
            x = transform(graph, name, step, x)
        return _predict(graph, estimator.steps[-1][1], x, logits)
    if kind == "TransformedTargetRegressor":
        y = _predict(graph, attribute(estimator, "regressor_"), x, logits)
        return inverse_transform(graph, "target", estimator.transformer_, y)
    if kind in ("MLPRegressor", "MLPClassifier"):
        return _mlp(graph, estimator, x, logits)
    if kind in _REGRESSORS or kind in CLASSIFIERS:
        if kind in CLASSIFIERS and not logits:
            raise ValueError(
                f"{kind_of(estimator)} predicts classes; read it with logits=True to get "
                "its decision function."
            )
        coefficients = attribute(estimator, "coef_")
        if hasattr(coefficients, "toarray"):  # after estimator.sparsify()
            coefficients = coefficients.toarray()
        weight = np.atleast_2d(np.asarray(coefficients, dtype=float))
        return graph.matmul(_name(estimator), x, weight.T, estimator.intercept_)
    if kind and hasattr(estimator, "transform") and not hasattr(estimator, "predict"):
        return transform(graph, _name(estimator), estimator, x)
    raise unsupported(estimator)


def _mlp(graph: TensorGraph, estimator: Any, x: Tensor, logits: bool) -> Tensor:
    coefs = attribute(estimator, "coefs_")
    if estimator.activation not in ("relu", "identity"):
        raise ValueError(
            f"{kind_of(estimator)} has activation='{estimator.activation}', which is not "
            "piecewise linear; train it with activation='relu'."
        )
    head = estimator.out_activation_
    if head in ("softmax", "logistic"):
        if not logits:
            raise ValueError(
                f"{kind_of(estimator)} ends in a {head} function; read it with logits=True "
                "to get its input."
            )
    elif head != "identity":
        raise ValueError(
            f"{kind_of(estimator)} has the output activation '{head}', which is not "
            "piecewise linear."
        )
    for k, (w, b) in enumerate(zip(coefs, estimator.intercepts_)):
        x = graph.matmul(f"layer_{k + 1}", x, w, b)
        if k < len(coefs) - 1 and estimator.activation == "relu":
            x = graph.piecewise(f"relu_{k + 1}", x, activations.relu())
    return x
