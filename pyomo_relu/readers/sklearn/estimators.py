"""Estimators and pipelines: predictors after transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pyomo_relu.network import Network
from pyomo_relu.readers.checking import built
from pyomo_relu.readers.entrywise import ENTRYWISE, Entrywise
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
from pyomo_relu.readers.sklearn.curves import isotonic
from pyomo_relu.readers.sklearn.ensembles import ENSEMBLES
from pyomo_relu.readers.sklearn.running import as_run
from pyomo_relu.readers.sklearn.transformers import inverse_transform, transform
from pyomo_relu.readers.smooth import SMOOTH
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.values import Tensor

_REGRESSORS = set(
    """
    ARDRegression BayesianRidge CCA ElasticNet ElasticNetCV HuberRegressor Lars LarsCV
    Lasso LassoCV LassoLars LassoLarsCV LassoLarsIC LinearRegression LinearSVR
    MultiTaskElasticNet MultiTaskElasticNetCV MultiTaskLasso MultiTaskLassoCV
    OrthogonalMatchingPursuit OrthogonalMatchingPursuitCV PassiveAggressiveRegressor
    PLSCanonical PLSRegression QuantileRegressor Ridge RidgeCV SGDRegressor
    TheilSenRegressor
    """.split()
)

#: Why an estimator that looks like those that are read is none of them.
_REASONS = {
    "VotingClassifier": "counts votes or averages probabilities, which is not piecewise "
    "linear",
    "BaggingClassifier": "counts votes or averages probabilities, which is not piecewise "
    "linear",
    "MultiOutputClassifier": "predicts several classes; read each of its estimators_ by "
    "itself",
}
_REASONS |= dict.fromkeys(
    """
    AdaBoostRegressor AdaBoostClassifier DecisionTreeClassifier DecisionTreeRegressor
    ExtraTreesClassifier ExtraTreesRegressor GradientBoostingClassifier
    GradientBoostingRegressor HistGradientBoostingClassifier
    HistGradientBoostingRegressor RandomForestClassifier RandomForestRegressor
    """.split(),
    "is made of trees, which are outside of this package; a block of another package "
    "may stand beside a ReLUNetBlock in the same model",
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
        TransformedTargetRegressor, MultiOutputRegressor, RegressorChain,
        VotingRegressor, BaggingRegressor or stack of those, or a Pipeline of scalers,
        decompositions, selectors, encoders and ColumnTransformer that ends in one. The
        network is its ``predict``; of a classifier, with ``logits=True``, what goes into
        its softmax or logistic function (of a linear classifier its
        ``decision_function``). Behind an encoder of categories the network is exact at
        the categories only, see :mod:`pyomo_relu.readers.sklearn.encoders`.
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
    graph, x, y = _graph_of(estimator, logits)
    if input_names is None:
        input_names = feature_names(estimator)
    if output_names is None:
        output_names = _class_names(estimator, y.size)

    def framework() -> CalledFramework:
        run, head = as_run(estimator, graph.texts_at(x.handle))
        called = CalledFramework(
            kind_of(estimator), run, graph.calls, x.handle, graph.admitted
        )
        called.heads = {} if head is None else {0: head}
        return called

    return built(
        graph,
        [y],
        framework if check_reading else None,
        input_names=input_names,
        output_names=output_names,
        head=_head(estimator),
    )


def _graph_of(estimator: Any, logits: bool) -> tuple[TensorGraph, Tensor, Tensor]:
    """The graph of an estimator, its features and what it predicts."""
    n = n_features(estimator)
    if n is None:
        raise unfitted(estimator)
    graph = TensorGraph()
    x = graph.input("features", (1, int(n)), 0)
    return graph, x, _predict(graph, estimator, x, logits)


def read_categories(source: Any) -> dict[str | int, dict[Any, float]]:
    """The categories of the inputs that encoders of a scikit-learn estimator read.

    Parameters
    ----------
    source : estimator
        Fitted, as :func:`read_sklearn` takes it.

    Returns
    -------
    dict
        By the name of the input, or its position where it has none: of each category, as
        it was in the data, the number that the network takes for it. Text is its position
        among the sorted categories; numbers are themselves.

    Raises
    ------
    ValueError
        As :func:`read_sklearn`.
    """
    estimator = unwrapped(source)
    graph, _, _ = _graph_of(estimator, True)
    names = feature_names(estimator)
    return {
        names[column] if names else column: {c: float(v) for c, v in found.items()}
        for column, found in sorted(graph.categories.items())
    }


def _head(estimator: Any) -> str | None:
    """The function after the outputs of a network that classifies; None for other estimators."""
    while hasattr(estimator, "steps"):
        estimator = unwrapped(estimator.steps[-1][1])
    if type(estimator).__name__ != "MLPClassifier":
        return None
    known = {"softmax": "softmax", "logistic": "sigmoid"}
    return known.get(attribute(estimator, "out_activation_"))


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
    if kind in CLASSIFIERS and not logits:
        raise ValueError(
            f"{kind_of(estimator)} predicts classes; read it with logits=True to get "
            "its decision function."
        )
    if kind in ENSEMBLES:
        return ENSEMBLES[kind](graph, _predict, _name(estimator), estimator, x, logits)
    if kind in _SINGLE:
        return _SINGLE[kind](graph, estimator, x)
    if kind and hasattr(estimator, "transform") and not hasattr(estimator, "predict"):
        return transform(graph, _name(estimator), estimator, x)
    raise unsupported(estimator, _REASONS.get(kind, "is not supported"))


def _linear(graph: TensorGraph, estimator: Any, x: Tensor) -> Tensor:
    """``coef_ @ x + intercept_``."""
    coefficients = attribute(estimator, "coef_")
    if hasattr(coefficients, "toarray"):  # after estimator.sparsify()
        coefficients = coefficients.toarray()
    weight = np.atleast_2d(np.asarray(coefficients, dtype=float))
    if hasattr(estimator, "x_rotations_"):  # PLS centres, but its coefficients scale
        x = graph.scale(f"{_name(estimator)}_centred", x, 1.0, -estimator._x_mean)
    return graph.matmul(_name(estimator), x, weight.T, estimator.intercept_)


def _generalized(graph: TensorGraph, estimator: Any, x: Tensor) -> Tensor:
    """A generalized linear model: the exponential of a linear one, unless its link says no."""
    y = _linear(graph, estimator, x)
    link = getattr(estimator, "link", "log")
    if link == "auto":
        link = "identity" if estimator.power <= 0 else "log"
    return y if link == "identity" else SMOOTH["exp"](graph, f"{_name(estimator)}_exp", y)


def _kernel_ridge(graph: TensorGraph, estimator: Any, x: Tensor) -> Tensor:
    """As :func:`_support_vectors`, the products with the training data as a layer."""
    if estimator.kernel != "linear":
        raise unsupported(
            estimator,
            f"with kernel={estimator.kernel!r} is not piecewise linear; with "
            "kernel='linear' it would be read",
        )
    dual = np.asarray(attribute(estimator, "dual_coef_"), dtype=float)
    data = estimator.X_fit_
    data = data.toarray() if hasattr(data, "toarray") else np.asarray(data, dtype=float)
    kernel = graph.matmul(f"{_name(estimator)}_kernel", x, data.T)
    return graph.matmul(_name(estimator), kernel, dual.reshape(len(dual), -1))


def _constant(graph: TensorGraph, estimator: Any, x: Tensor) -> Tensor:
    value = np.asarray(attribute(estimator, "constant_"), dtype=float).reshape(-1)
    return graph.matmul(_name(estimator), x, np.zeros((x.size, len(value))), value)


def _support_vectors(graph: TensorGraph, estimator: Any, x: Tensor) -> Tensor:
    """A machine with the linear kernel, as libsvm sums it up.

    The products with the support vectors nearly cancel, so that they are a layer of
    their own: rounding in them is larger than in the product with ``coef_``.
    """
    if estimator.kernel != "linear":
        raise unsupported(
            estimator,
            f"with kernel={estimator.kernel!r} is not piecewise linear; with "
            "kernel='linear' it would be read",
        )
    dual, vectors = attribute(estimator, "dual_coef_"), estimator.support_vectors_
    dual, vectors = (v.toarray() if hasattr(v, "toarray") else v for v in (dual, vectors))
    if len(dual) > 1:  # of a classifier of several classes
        if estimator.decision_function_shape != "ovo":
            raise unsupported(
                estimator,
                "counts votes of pairs of classes, which is not piecewise linear; with "
                "decision_function_shape='ovo', which may be set after fit, its margins "
                "of pairs would be read",
            )
        dual = _of_pairs(dual, estimator.n_support_)
    kernel = graph.matmul(f"{_name(estimator)}_kernel", x, vectors.T)
    return graph.matmul(_name(estimator), kernel, dual.T, estimator.intercept_)


#: What reads an estimator that is not made of others, by its class.
_SINGLE: dict[str, Callable[[TensorGraph, Any, Tensor], Tensor]] = {
    **dict.fromkeys(_REGRESSORS | CLASSIFIERS, _linear),
    **dict.fromkeys(("SVC", "SVR", "NuSVC", "NuSVR"), _support_vectors),
    **dict.fromkeys(
        ("GammaRegressor", "PoissonRegressor", "TweedieRegressor"), _generalized
    ),
    "DummyRegressor": _constant,
    "IsotonicRegression": isotonic,
    "KernelRidge": _kernel_ridge,
}


def _of_pairs(dual: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The factors (pairs of classes, support vectors) of libsvm's margins.

    ``dual`` holds for each support vector its factors against the other classes, and the
    support vectors of one class, as many as ``counts`` says, follow those of another.
    """
    ends = np.cumsum(counts)
    parts = [slice(end - n, end) for end, n in zip(ends, counts)]
    rows = []
    for i, first in enumerate(parts):
        for j in range(i + 1, len(parts)):
            row = np.zeros(dual.shape[1])
            row[first], row[parts[j]] = dual[j - 1, first], dual[i, parts[j]]
            rows.append(row)
    return np.array(rows)


#: Activations of hidden layers, by scikit-learn's names.
_ACTIVATIONS: dict[str, Entrywise] = {
    "identity": ENTRYWISE["identity"],
    "relu": ENTRYWISE["relu"],
    "logistic": SMOOTH["sigmoid"],
    "tanh": SMOOTH["tanh"],
}


def _mlp(graph: TensorGraph, estimator: Any, x: Tensor, logits: bool) -> Tensor:
    coefs = attribute(estimator, "coefs_")
    if estimator.activation not in _ACTIVATIONS:
        raise ValueError(
            f"{kind_of(estimator)} has activation='{estimator.activation}', which is not "
            f"known; train it with one of {sorted(_ACTIVATIONS)}."
        )
    activation = _ACTIVATIONS[estimator.activation]
    head = estimator.out_activation_
    if head in ("softmax", "logistic"):
        if not logits:
            raise ValueError(
                f"{kind_of(estimator)} ends in a {head} function; read it with logits=True "
                "to get its input."
            )
    elif head not in ("identity", "exp"):
        raise ValueError(
            f"{kind_of(estimator)} has the output activation '{head}', which is not known."
        )
    for k, (w, b) in enumerate(zip(coefs, estimator.intercepts_)):
        x = graph.matmul(f"layer_{k + 1}", x, w, b)
        if k < len(coefs) - 1:
            x = activation(graph, f"{estimator.activation}_{k + 1}", x)
    return SMOOTH["exp"](graph, "exp", x) if head == "exp" else x
