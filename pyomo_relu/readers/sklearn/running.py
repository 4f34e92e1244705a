"""Estimators as they run, for the check of what was read from them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from pyomo_relu.readers.sklearn.common import CLASSIFIERS, is_sklearn, unwrapped


def _frame(estimator: Any, x: np.ndarray) -> Any:
    """Points as ``estimator`` wants them: with columns where it was fitted on those."""
    names = getattr(estimator, "feature_names_in_", None)
    if names is None:
        return x.copy()
    try:
        import pandas
    except ImportError:
        return x.copy()
    return pandas.DataFrame(x.copy(), columns=list(names))


def called(estimator: Any, method: str, x: np.ndarray) -> np.ndarray:
    """An (N, size) array from a method of ``estimator``, on copies and without warnings."""
    given = x.copy() if method == "inverse_transform" else _frame(estimator, x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = getattr(estimator, method)(given)
    found = found.toarray() if hasattr(found, "toarray") else np.asarray(found)
    return found.astype(float).reshape(len(x), -1)


def _last(estimator: Any) -> Any:
    """What predicts at the end of an estimator, of which the others are a part."""
    while is_sklearn(estimator):
        if hasattr(estimator, "steps"):
            estimator = estimator.steps[-1][1]
        elif type(estimator).__name__ in ("RFE", "RFECV", "RANSACRegressor"):
            estimator = estimator.estimator_
        elif unwrapped(estimator) is estimator:
            break
        else:
            estimator = unwrapped(estimator)
    return estimator


def as_run(estimator: Any) -> tuple[Callable[[np.ndarray], list[np.ndarray]], Any]:
    """What ``estimator`` computes on points, and the head that is in it but not read."""
    last = _last(estimator)
    kind, head, columns = type(last).__name__, None, slice(None)
    method = "predict" if hasattr(last, "predict") else "transform"
    if kind == "MLPClassifier":
        method = "predict_proba"
        head = _softmax if last.out_activation_ == "softmax" else _logistic
        if last.n_outputs_ == 1:
            columns = slice(1, None)
    elif kind in CLASSIFIERS:
        method = "decision_function"

    def run(points: np.ndarray) -> list[np.ndarray]:
        return [called(estimator, method, points)[:, columns]]

    return run, head


def _softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def _logistic(z: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return 1.0 / (1.0 + np.exp(-z))
