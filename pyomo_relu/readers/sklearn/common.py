"""What scikit-learn's estimators are asked for, and how errors name them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from pyomo_relu.readers.naming import first_line

#: Predict classes; their decision function is read.
CLASSIFIERS = set(
    """
    LinearDiscriminantAnalysis LinearSVC LogisticRegression LogisticRegressionCV NuSVC
    OneVsRestClassifier PassiveAggressiveClassifier Perceptron RidgeClassifier
    RidgeClassifierCV SGDClassifier StackingClassifier SVC
    """.split()
)


def is_sklearn(source: Any) -> bool:
    """Whether ``source`` is an object of scikit-learn."""
    return type(source).__module__.split(".")[0] == "sklearn"


def kind_of(estimator: Any) -> str:
    """How errors name an estimator."""
    return f"the scikit-learn estimator {type(estimator).__name__}"


def feature_names(estimator: Any) -> list[str] | None:
    """Columns of the DataFrame that ``estimator`` was fitted on; None for an array."""
    names = _of_first_step(estimator, "feature_names_in_")
    return None if names is None else [str(name) for name in names]


def n_features(estimator: Any) -> int | None:
    """Number of features that ``estimator`` was fitted on; None if it wasn't."""
    found: int | None = _of_first_step(estimator, "n_features_in_")
    if found is None and hasattr(estimator, "X_thresholds_"):  # isotonic, of one feature
        return 1
    return found


def _of_first_step(estimator: Any, attribute: str) -> Any:
    """An attribute of an estimator; of a Pipeline that of the first step that has one.

    A Pipeline asks its first step alone, which may be the string "passthrough".
    """
    found = getattr(estimator, attribute, None)
    if found is None and hasattr(estimator, "steps"):
        for _, step in estimator.steps:
            if step is None or isinstance(step, str):
                continue
            found = _of_first_step(step, attribute)
            if found is not None or not hasattr(step, "steps"):
                break
    return found


def unwrapped(estimator: Any) -> Any:
    """The best estimator of a grid or random search, the one that was frozen."""
    if is_sklearn(estimator) and hasattr(estimator, "best_estimator_"):
        return estimator.best_estimator_
    if is_sklearn(estimator) and type(estimator).__name__ == "FrozenEstimator":
        return estimator.estimator
    return estimator


def attribute(estimator: Any, name: str) -> Any:
    """What the fit method leaves under this name, or an error that it wasn't called."""
    if not hasattr(estimator, name):
        raise unfitted(estimator)
    return getattr(estimator, name)


def unfitted(estimator: Any) -> ValueError:
    """The error for an estimator that was not fitted."""
    return ValueError(f"{kind_of(estimator)} is not fitted; call its fit method first.")


def unsupported(estimator: Any, reason: str = "is not supported") -> ValueError:
    """The error for an estimator that is not read."""
    return ValueError(
        f"{kind_of(estimator)} {reason}; give an MLPRegressor, MLPClassifier or linear "
        "model, alone or after scalers, PCA, selectors, encoders and ColumnTransformer in "
        "a Pipeline."
    )


def named(position: int) -> Callable[[Callable], Callable]:
    """Decorator: errors of any kind become ValueErrors that name the estimator.

    ``position`` is that of the estimator among the arguments. Whatever is not fitted, or
    was changed by hand, shows as some error of Python, NumPy or scikit-learn.
    """

    def decorate(function: Callable) -> Callable:
        @functools.wraps(function)
        def named(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except Exception as error:
                if type(error) is ValueError and "scikit-learn estimator" in str(error):
                    raise
                estimator = args[position]
                if isinstance(error, AttributeError) and is_sklearn(estimator):
                    raise unfitted(estimator) from error
                raise ValueError(
                    f"{kind_of(estimator)} can't be read ({type(error).__name__}: "
                    f"{first_line(error)}); is it fitted, and as its fit method left it?"
                ) from error

        return named

    return decorate
