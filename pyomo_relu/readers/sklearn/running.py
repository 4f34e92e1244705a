"""Estimators as they run, for the check of what was read from them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pyomo_relu.readers.sklearn.common import (
    CLASSIFIERS,
    feature_names,
    is_sklearn,
    unwrapped,
)

#: Texts that numbers stand for, by the column: position 0 for the first one, and so on.
Texts = Mapping[int, Sequence[str]]


def _frame(estimator: Any, x: np.ndarray, texts: Texts) -> Any:
    """Points as ``estimator`` wants them: with columns where it was fitted on those."""
    names = feature_names(estimator)
    if names is None and not texts:
        return x.copy()
    columns = [_decoded(x[:, j], texts.get(j)) for j in range(x.shape[1])]
    if names is not None:
        try:
            import pandas
        except ImportError:
            pass
        else:
            return pandas.DataFrame(dict(zip(names, columns)), columns=names)
    return np.stack(columns, axis=1) if columns else x.copy()


def _decoded(numbers: np.ndarray, texts: Sequence[str] | None) -> np.ndarray:
    if texts is None:
        return numbers.copy()
    known = np.array(texts, dtype=object)
    return known[np.clip(np.round(numbers).astype(int), 0, len(texts) - 1)]


def _encoded(found: np.ndarray, texts: Texts) -> np.ndarray:
    """Numbers in place of the texts that an estimator has passed on."""
    found = found.copy()
    for j, known in texts.items():
        found[:, j] = [known.index(v) if isinstance(v, str) else v for v in found[:, j]]
    return found


def called(
    estimator: Any,
    method: str,
    x: np.ndarray,
    texts: Texts | None = None,
    texts_found: Texts | None = None,
) -> np.ndarray:
    """An (N, size) array from a method of ``estimator``, on copies and without warnings.

    Parameters
    ----------
    x : (N, n) array
        With positions in place of texts.
    texts, texts_found : mapping, optional
        The texts of columns of ``x``, and of the result.
    """
    back = method == "inverse_transform"
    given = x.copy() if back else _frame(estimator, x, texts or {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = getattr(estimator, method)(given)
    found = found.toarray() if hasattr(found, "toarray") else np.asarray(found)
    if texts_found:
        found = _encoded(found, texts_found)
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


def as_run(
    estimator: Any, texts: Texts
) -> tuple[Callable[[np.ndarray], list[np.ndarray]], Any]:
    """What ``estimator`` computes on points, and the head that is in it but not read.

    ``texts`` are those that inputs stand for.
    """
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
        return [called(estimator, method, points, texts)[:, columns]]

    return run, head


def _softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def _logistic(z: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return 1.0 / (1.0 + np.exp(-z))
