"""Estimators that are made of others: several outputs, averages, stacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pyomo_relu.readers.moves import concatenate
from pyomo_relu.readers.reader_tables import enter
from pyomo_relu.readers.sklearn.common import attribute, kind_of, unsupported
from pyomo_relu.readers.sklearn.transformers import transform
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.values import Tensor

#: Reads the prediction of an estimator: ``predict(graph, estimator, x, logits)``.
Predict = Callable[[TensorGraph, Any, Tensor, bool], Tensor]

#: What reads an estimator that is made of others, by the name of its class; called as
#: ``read(graph, predict, name, estimator, x, logits)``.
ENSEMBLES: dict[str, Callable[..., Tensor]] = {}


def _side_by_side(graph: TensorGraph, name: str, parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else concatenate(graph, name, parts, 1)


def _average(
    graph: TensorGraph, name: str, estimator: Any, parts: Sequence[Tensor], weights: Any
) -> Tensor:
    if any(part.size != 1 for part in parts):
        raise unsupported(estimator, "averages predictions of several outputs")
    share = np.ones(len(parts)) if weights is None else np.asarray(weights, dtype=float)
    return graph.add(name, list(parts), [float(s) for s in share / share.sum()])


@enter(ENSEMBLES, "VotingRegressor")
def _voting(
    graph: TensorGraph, predict: Predict, name: str, estimator: Any, x: Tensor, logits: bool
) -> Tensor:
    parts = [predict(graph, e, x, False) for e in attribute(estimator, "estimators_")]
    return _average(graph, name, estimator, parts, estimator._weights_not_none)


@enter(ENSEMBLES, "BaggingRegressor")
def _bagging(
    graph: TensorGraph, predict: Predict, name: str, estimator: Any, x: Tensor, logits: bool
) -> Tensor:
    parts = []
    members = attribute(estimator, "estimators_")
    for k, (member, features) in enumerate(zip(members, estimator.estimators_features_)):
        label = f"{name}_{k + 1}_features"
        codes = np.asarray(features, dtype=np.int64)[None, :]
        taken = graph.rearrange(label, [x], codes, batch=x.batch)
        parts.append(predict(graph, member, taken, False))
    return _average(graph, name, estimator, parts, None)


@enter(ENSEMBLES, "MultiOutputRegressor")
def _outputs(
    graph: TensorGraph, predict: Predict, name: str, estimator: Any, x: Tensor, logits: bool
) -> Tensor:
    parts = [predict(graph, e, x, False) for e in attribute(estimator, "estimators_")]
    return _side_by_side(graph, name, parts)


@enter(ENSEMBLES, "OneVsRestClassifier")
def _one_vs_rest(
    graph: TensorGraph, predict: Predict, name: str, estimator: Any, x: Tensor, logits: bool
) -> Tensor:
    """The decision function of each class against the others; one of two classes."""
    members = attribute(estimator, "estimators_")
    if estimator.multilabel_ or not all(hasattr(m, "decision_function") for m in members):
        raise unsupported(
            estimator,
            "of several labels, or of classifiers without a decision function, is not "
            "supported; read each of its estimators_ by itself",
        )
    return _side_by_side(graph, name, [predict(graph, m, x, True) for m in members])


@enter(ENSEMBLES, "RegressorChain")
def _chain(
    graph: TensorGraph, predict: Predict, name: str, estimator: Any, x: Tensor, logits: bool
) -> Tensor:
    """Each estimator reads the features and the predictions of those before it."""
    parts: list[Tensor] = []
    for k, member in enumerate(attribute(estimator, "estimators_")):
        wide = _side_by_side(graph, f"{name}_{k + 1}_features", [x, *parts])
        parts.append(predict(graph, member, wide, False))
    ordered = [parts[k] for k in np.argsort(estimator.order_)]
    return _side_by_side(graph, name, ordered)


@enter(ENSEMBLES, "StackingRegressor", "StackingClassifier")
def _stack(
    graph: TensorGraph, predict: Predict, name: str, estimator: Any, x: Tensor, logits: bool
) -> Tensor:
    parts = []
    members = attribute(estimator, "estimators_")
    for member, method in zip(members, estimator.stack_method_):
        if method not in ("predict", "decision_function") or (
            method == "predict" and hasattr(member, "classes_")
        ):
            raise ValueError(
                f"{kind_of(estimator)} stacks the {method} of {kind_of(member)}, which is "
                "not piecewise linear; fit it with stack_method='decision_function' on "
                "linear classifiers, or stack regressors."
            )
        parts.append(predict(graph, member, x, method == "decision_function"))
    given = [*parts, x] if estimator.passthrough else parts
    joined = _side_by_side(graph, f"{name}_stack", given)
    return predict(graph, estimator.final_estimator_, joined, logits)


@enter(ENSEMBLES, "RANSACRegressor")
def _consensus(
    graph: TensorGraph, predict: Predict, name: str, estimator: Any, x: Tensor, logits: bool
) -> Tensor:
    return predict(graph, attribute(estimator, "estimator_"), x, logits)


@enter(ENSEMBLES, "RFE", "RFECV")
def _eliminated(
    graph: TensorGraph, predict: Predict, name: str, estimator: Any, x: Tensor, logits: bool
) -> Tensor:
    """The prediction from the features that are left."""
    inner = attribute(estimator, "estimator_")
    return predict(graph, inner, transform(graph, name, estimator, x), logits)
