"""`TrainedEstimator`: what all trained classifiers share: options, the way of a fit, files."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    check_random_state,
    validate_data,
)

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.steps.step_network import StepNetwork, read_arrays, restoring
from pyomo_relu.training.calibration import probabilities
from pyomo_relu.training.family import Family
from pyomo_relu.training.solve import ENGINES, Engine

#: The least number of points of which some are set aside. It was chosen by hand.
ENOUGH = 20


def choice(name: str, value: Any, allowed: Collection[str]) -> None:
    """Refuse what isn't allowed, naming the option."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {list(allowed)}, not {value!r}.")


def seed_of(random: np.random.RandomState) -> int:
    """A seed from scikit-learn's kind of generator."""
    return random.randint(2**31 - 1)


def _calibrated(estimator: TrainedEstimator) -> bool:
    """Whether there are probabilities; what scikit-learn shows as an AttributeError."""
    if not estimator.probability:
        raise AttributeError(
            "predict_proba needs probability=True: scores of step networks are no "
            "probabilities before points that are set aside say how sure they are."
        )
    return True


@dataclass(eq=False, repr=False, kw_only=True)
class TrainedEstimator(ClassifierMixin, BaseEstimator, ABC):
    """Base of the classifiers that mixed-integer programs train.

    The options are fields, of which ``dataclass`` makes the ``__init__`` that scikit-learn
    reads them from.
    """

    #: What a file of it holds, in errors; and the attribute that a fit sets last.
    KIND: ClassVar[str]
    FITTED: ClassVar[str]

    hidden_layer_sizes: Any = field(default=(), kw_only=False)
    margin: float = 0.5
    solver: str = "relu_highs"
    engine: str = "mip"
    time_limit: float | None = 60.0
    cpu_time_limit: float | None = None
    node_limit: int | None = None
    probability: bool = False
    validation_fraction: float = 0.25
    warm_start: bool = False
    solver_options: dict[str, Any] | None = None
    eps: float | None = None
    random_state: Any = None
    verbose: bool = False

    # ------------------------------------------------------------------ options
    def _hidden(self) -> tuple[int, ...]:
        sizes = tuple(np.atleast_1d(np.asarray(self.hidden_layer_sizes, dtype=object)))
        if any(not isinstance(n, (int, np.integer)) or n < 1 for n in sizes):
            raise ValueError(
                "hidden_layer_sizes must be positive integers, not "
                f"{self.hidden_layer_sizes!r}."
            )
        return tuple(int(n) for n in sizes)

    def _check_options(self) -> None:
        choice("engine", self.engine, ENGINES)
        for name in ("time_limit", "cpu_time_limit"):
            limit = getattr(self, name)
            if limit is not None and not limit > 0:
                raise ValueError(f"{name} must be positive or None, not {limit}.")
        nodes = self.node_limit
        whole = isinstance(nodes, (int, np.integer)) and not isinstance(nodes, bool)
        if nodes is not None and not (whole and nodes >= 1):
            raise ValueError(
                f"node_limit must be a whole number >= 1 or None, not {nodes}."
            )
        if not 0 <= self.validation_fraction < 1:
            raise ValueError(
                f"validation_fraction must lie in [0, 1), not {self.validation_fraction}."
            )
        if self.probability and not self.validation_fraction:
            raise ValueError(
                "probability=True needs points that are set aside: a validation_fraction "
                "above 0."
            )
        if not 0 < self.margin <= 1:
            raise ValueError(f"margin must lie in (0, 1], not {self.margin}.")

    def _engine(self) -> Engine:
        return Engine(
            self.solver,
            self.engine,
            self.solver_options,
            bool(self.verbose),
            None if self.node_limit is None else int(self.node_limit),
        )

    def _deadline(self) -> Deadline:
        """The end of a fit that begins now."""
        return Deadline(self.time_limit, self.cpu_time_limit)

    def _begin(
        self, X: Any, y: Any, sample_weight: Any = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, Any]:
        """Checked points, the numbers of their classes, weights, a generator of seeds.

        Points of weight 0 are left out.
        """
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        known = getattr(self, "classes_", None) if self.warm_start else None
        if known is not None and not np.array_equal(known, np.unique(y)):
            raise ValueError(
                f"warm_start goes on with the classes {known}; these data have others. "
                "Fit with warm_start=False."
            )
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"{type(self).__name__} needs two classes; the data contains one class."
            )
        random = check_random_state(self.random_state)
        if sample_weight is None:
            return X, codes, None, random
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64)
        if (weight < 0).any():
            raise ValueError("sample_weight must not be negative.")
        some = weight > 0
        if (weight[some] == 1.0).all():
            return X[some], codes[some], None, random
        return X[some], codes[some], weight[some], random

    def _set_aside(self, codes: np.ndarray, seed: int) -> np.ndarray | None:
        """Which points choose or calibrate instead of training; None where too few are."""
        n, share = len(codes), self.validation_fraction
        if n < ENOUGH or not int(n * share) >= max(len(self.classes_), 1):
            return None
        aside = np.zeros(n, bool)
        _, chosen = train_test_split(
            np.arange(n),
            test_size=share,
            stratify=codes if np.bincount(codes)[np.unique(codes)].min() >= 2 else None,
            random_state=seed,
        )
        aside[chosen] = True
        return aside

    # ------------------------------------------------------------ probabilities
    @abstractmethod
    def decision_function(self, X: Any) -> np.ndarray:
        """Scores: (n,) for two classes, else (n, classes); the largest is predicted."""

    @available_if(_calibrated)
    def predict_proba(self, X: Any) -> np.ndarray:
        """(n, classes) probabilities, with ``probability=True``.

        They are the logistic function or softmax of the scores times one factor, which was
        fitted on points that were set aside.
        """
        return probabilities(self.decision_function(X), self.factor_)

    @available_if(_calibrated)
    def predict_log_proba(self, X: Any) -> np.ndarray:
        """The logarithms of :meth:`predict_proba`."""
        return np.log(np.maximum(self.predict_proba(X), np.finfo(float).tiny))

    def _points(self, X: Any) -> np.ndarray:
        """Checked points of a prediction."""
        check_is_fitted(self, self.FITTED)
        return validate_data(self, X, reset=False, dtype=np.float64)

    # -------------------------------------------------------------------- files
    @abstractmethod
    def _stored(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a file says besides the parameters, and its arrays."""

    @abstractmethod
    def _restore(self, about: dict[str, Any], data: dict[str, Any], path: Any) -> int:
        """The inverse of :meth:`_stored`; returns the number of inputs."""

    def _params(self) -> dict[str, Any]:
        """Parameters as JSON has them; generators and networks are not kept."""
        found = {}
        for key, value in self.get_params().items():
            value = value.item() if isinstance(value, np.generic) else value
            gone = isinstance(value, (np.random.RandomState, StepNetwork, BaseEstimator))
            found[key] = None if gone else value
        return found

    def save(self, path: str | Path) -> None:
        """Write what was fitted to an ``.npz`` file (arrays and JSON, no pickle)."""
        check_is_fitted(self, self.FITTED)
        classes = np.asarray(self.classes_)
        if classes.dtype == object:
            raise ValueError("labels that are Python objects can't be saved; use strings.")
        more, arrays = self._stored()
        if self.probability:
            more["factor"] = self.factor_
        about = {"class": type(self).__name__, "params": self._params(), **more}
        with open(path, "wb") as file:
            np.savez_compressed(
                file, about=np.array(json.dumps(about)), classes=classes, **arrays
            )

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote; ValueError for any other file."""
        data = read_arrays(path)
        with restoring(path, cls.KIND):
            about = json.loads(str(data["about"]))
            kind = about["class"]
        if kind != cls.__name__:
            raise ValueError(f"'{path}' holds a {kind}, not a {cls.__name__}.")
        with restoring(path, cls.KIND):
            params: dict[str, Any] = {
                k: tuple(v) if isinstance(v, list) else v
                for k, v in about["params"].items()
            }
            found = cls(**params)
            found.classes_ = data["classes"]
            if found.classes_.ndim != 1 or len(found.classes_) < 2:
                raise ValueError("it names no two classes")
            if found.probability:
                found.factor_ = float(about["factor"])
            found.n_features_in_ = found._restore(about, data, path)
            found.predict(np.zeros((1, found.n_features_in_)))
        return found

    # ---------------------------------------------------------- other packages
    @abstractmethod
    def _whole(self) -> StepNetwork:
        """All that was trained as one network of scores."""

    def to_keras(self) -> Any:
        """The network as a Keras model with the scores as its outputs."""
        check_is_fitted(self, self.FITTED)
        return self._whole().to_keras()


def weight_range(weights: Any, names: tuple[str, ...]) -> tuple[float, bool]:
    """(bound, integer) of the option ``weights``."""
    if isinstance(weights, str) and weights in names:
        return 1.0, weights != "continuous"
    if isinstance(weights, (int, np.integer)) and not isinstance(weights, bool):
        if weights >= 1:
            return float(weights), True
    raise ValueError(
        f"weights must be {' or '.join(map(repr, names))} or an integer P >= 1, not "
        f"{weights!r}."
    )


def binarized_family(
    hidden: tuple[int, ...],
    outputs: int,
    weights: Any,
    bias: bool,
    robust: tuple[str, float] | None,
    eps: float | None,
) -> Family:
    """Networks of sign neurons whose weights and biases are small integers."""
    bound, _ = weight_range(weights, ("ternary",))
    return Family(
        hidden,
        outputs,
        activation="sign",
        bound=bound,
        integer=True,
        thresholds="neuron" if bias else "none",
        bias_bound=bound,
        integer_bias=True,
        robust=robust,
        eps=eps,
    )
