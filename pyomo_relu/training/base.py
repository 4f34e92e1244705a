"""`MIPClassifier`: what the classifiers of one network share."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NoReturn, Self

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted, validate_data

from pyomo_relu.network import Network
from pyomo_relu.steps.step_network import StepNetwork
from pyomo_relu.training.calibration import fitted_factor
from pyomo_relu.training.data_splitting import data_splitting
from pyomo_relu.training.encode import TrainingMIP
from pyomo_relu.training.estimator import TrainedEstimator, choice, seed_of
from pyomo_relu.training.family import Family
from pyomo_relu.training.implicit import implicit
from pyomo_relu.training.in_turn import STARTED, automatic, in_turn
from pyomo_relu.training.losses import Loss
from pyomo_relu.training.norms import DUAL_NORMS, dual_norm
from pyomo_relu.training.points import Points, bits_of
from pyomo_relu.training.solve import check_solver
from pyomo_relu.training.task import Task, Training, check_start, settled
from pyomo_relu.verification import Ball, Property, Unsafe, verify

#: Methods that can begin with a network and give one to others.
STARTS = (*STARTED, "data_splitting")
METHODS = (*STARTS, "implicit")


@dataclass(eq=False, repr=False, kw_only=True)
class MIPClassifier(TrainedEstimator):
    """Base of the classifiers that are trained by mixed-integer programs."""

    KIND: ClassVar[str] = "trained classifier"
    FITTED: ClassVar[str] = "network_"
    #: The names of the losses, and of what they are in :class:`Loss`.
    LOSSES: ClassVar[Mapping[str, str]] = {}
    #: What ``max_margin`` maximizes; see :class:`Loss`.
    MARGINS: ClassVar[str] = "common"

    weights: Any = "ternary"
    loss: str = ""
    method: str = "exact"
    robust: tuple[str, float] | None = None
    regularization: float = 0.0
    compression: float = 0.0
    splits: int = 8
    batch_size: int | None = 64
    start: Any = "auto"
    widen: bool = True

    # ------------------------------------------------------------------ options
    @abstractmethod
    def _family(self, outputs: int) -> Family:
        """The networks among which the best is looked for."""

    def _loss(self) -> Loss:
        return Loss(
            self.LOSSES[self.loss],
            float(self.margin),
            self.MARGINS,
            float(self.regularization),
            float(self.compression),
        )

    def _robust(self) -> tuple[str, float] | None:
        if self.robust is None:
            return None
        try:
            norm, radius = self.robust
            radius = float(radius)
        except (TypeError, ValueError) as e:
            raise ValueError(
                f"robust must be (norm, radius), such as ('linf', 0.1), not {self.robust!r}."
            ) from e
        if norm not in DUAL_NORMS:
            raise ValueError(
                f"robust takes the norms {list(DUAL_NORMS)}, not {norm!r}; every ball lies "
                "in one of 'linf'."
            )
        if not (math.isfinite(radius) and radius >= 0):
            raise ValueError(f"robust needs a radius >= 0, not {radius}.")
        return (norm, radius) if radius else None

    def _check_options(self) -> None:
        choice("loss", self.loss, self.LOSSES)
        choice("method", self.method, METHODS)
        for name in ("regularization", "compression"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative.")
        if self.compression and (not self._hidden() or self.method != "exact"):
            raise ValueError(
                "compression takes out hidden neurons and needs some, and method='exact'."
            )
        self._check_start_option()
        super()._check_options()

    def _check_start_option(self) -> None:
        start = self.start
        if start is None or isinstance(start, (StepNetwork, MIPClassifier)):
            names: tuple[Any, ...] = ()
        elif isinstance(start, (tuple, list)):
            names = tuple(start)
        else:
            names = () if isinstance(start, str) and start == "auto" else (start,)
        for name in names:
            if name not in STARTS:
                raise ValueError(
                    f"start must be None, 'auto', one or several of {list(STARTS)}, a "
                    f"StepNetwork or a fitted classifier, not {name!r}."
                )
        if self.method == "implicit" and not (start is None or start == "auto"):
            raise ValueError("method='implicit' begins with nothing; leave start= out.")
        if "data_splitting" in self._names() and not self._hidden():
            raise ValueError(
                "method='data_splitting' shares hidden activations; without a hidden "
                "layer use method='exact'."
            )

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks for: whether there may be more than two classes."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = self.method != "implicit"
        return tags

    # ---------------------------------------------------------------------- fit
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        validation: tuple[Any, Any] | None = None,
    ) -> Self:
        """Train the network.

        Parameters
        ----------
        X : (n, d) array
        y : (n,) array
            Class labels.
        sample_weight : (n,) array, optional
            What each point's loss counts; one of 2 counts as much as two equal points.
            Points of 0 are left out. The losses that fit every point know no other.
        validation : (X, y), optional
            Chooses among the networks: those of ``method='data_splitting'``, and those of
            the methods of ``start`` and of ``method``. Without it data splitting sets the
            share ``validation_fraction`` of the training points aside; with that share
            0, or too few points, the training points themselves choose.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If no network of this shape fits the points (``max_margin`` and
            ``min_weight`` must), or an option doesn't fit the data.
        RuntimeError
            If the time limit leaves no network that fits every point, where the loss wants
            that; or if a network doesn't have the activations of its program. The other
            losses always have a network: the start, however little time there was.
        """
        self._check_options()
        deadline = self._deadline()
        old = getattr(self, "network_", None) if self.warm_start else None
        X, codes, weight, random = self._begin(X, y, sample_weight)
        rng = np.random.default_rng(seed_of(random))
        classes = len(self.classes_)
        if classes > 2 and self.method == "implicit":  # the first words are scikit-learn's
            raise ValueError(
                "Only binary classification is supported. The type of the target is "
                "multiclass. Use another method than 'implicit'."
            )
        points = every = Points(X, codes, bits_of(codes, classes), weight)
        family, loss = self._family(every.bits.shape[1]), self._loss()
        if set(self._names()) - {"ste", "implicit"}:
            check_solver(self._engine())
        chosen = None if validation is None else self._given(validation)
        splits = chosen is None and "data_splitting" in self._names()
        aside = None
        if splits or self.probability:
            aside = self._set_aside(codes, int(rng.integers(2**31 - 1)))
        if aside is not None:
            points = every.part(~aside)
            chosen = every.part(aside) if splits else chosen
        task = Task(family, points.data(), loss, self._engine(), deadline, rng)
        found = self._train(task, points, chosen, old)
        if found.network is None:
            self._nothing(found)
        self._keep(settled(replace(task, data=every.data()), found))
        if self.probability:
            kept = every if aside is None else every.part(aside)
            scores = self.decision_function(kept.x)
            self.factor_ = fitted_factor(scores, kept.codes, kept.weight)
        return self

    def training_program(
        self, X: Any, y: Any, sample_weight: Any = None, *, room: float = 0.0
    ) -> TrainingMIP:
        """The mixed-integer program over all weights and activations, not solved.

        It has all points, and for more than two classes all outputs. Nothing is trained or
        changed here. Its ``model`` is a Pyomo model; :meth:`ParametricMILP.from_training
        <pyomo_relu.differentiable.ParametricMILP.from_training>` takes it as it is.

        Parameters
        ----------
        X : (n, d) array
        y : (n,) array
        sample_weight : (n,) array, optional
        room : float
            How much the sum of absolute features of any point may grow later.

        Raises
        ------
        ValueError
            If an option doesn't fit the data.
        """
        own = clone(self)
        own._check_options()
        X, codes, weight, _ = own._begin(X, y, sample_weight)
        points = Points(X, codes, bits_of(codes, len(own.classes_)), weight)
        family, loss = own._family(points.bits.shape[1]), own._loss()
        task = Task(family, points.data(), loss, own._engine(), None)
        return task.program(dead=np.zeros(X.shape[1], dtype=bool), room=room)

    def _train(
        self, task: Task, points: Points, chosen: Points | None, old: StepNetwork | None
    ) -> Training:
        """The methods in turn, or the one that begins with nothing."""
        if self.method == "implicit":
            return implicit(task)
        network = old if old is not None else self._start_network()
        if network is not None:
            check_start(task, network)
        names = self._names()
        if self.start == "auto" and network is None:
            names = (*(name for name in automatic(task) if name not in names), *names)
        if chosen is not None and names == (self.method,) and network is None:
            if self.method != "data_splitting":
                raise ValueError(
                    f"method='{self.method}' does not use validation=, which chooses among "
                    "networks; leave it out, or give another method as start=."
                )
        judges = chosen or points

        def splitting(part: Task, start: StepNetwork | None) -> Training:
            return data_splitting(
                part,
                points,
                (judges.x, judges.bits),
                splits=self.splits,
                batch_size=self.batch_size,
                start=start,
                widen=self.widen,
            )

        methods = {**STARTED, "data_splitting": splitting}
        chain = [(name, methods[name]) for name in names]
        judge = None if chosen is None else (chosen.x, chosen.bits)
        return in_turn(task, chain, network, judge, self.widen)

    def _names(self) -> tuple[str, ...]:
        """The methods in turn; those of ``start='auto'`` depend on the task."""
        if isinstance(self.start, str):
            return (self.method,) if self.start == "auto" else (self.start, self.method)
        if isinstance(self.start, (tuple, list)):
            return (*self.start, self.method)
        return (self.method,)

    def _start_network(self) -> StepNetwork | None:
        """The network that ``start`` is or has, if it is one."""
        start = self.start
        if isinstance(start, MIPClassifier):
            check_is_fitted(start, "network_")
            return start.network_
        return start if isinstance(start, StepNetwork) else None

    def _given(self, validation: tuple[Any, Any]) -> Points:
        """Points that choose, as the user gave them."""
        xv, yv = validation
        xv = validate_data(self, xv, reset=False, dtype=np.float64)
        strange = set(np.unique(yv)) - set(self.classes_)
        if strange:
            raise ValueError(f"validation has classes that y has not: {strange}.")
        codes = np.searchsorted(self.classes_, yv)
        return Points(xv, codes, bits_of(codes, len(self.classes_)))

    def _nothing(self, found: Training) -> NoReturn:
        if found.status == "infeasible":
            raise ValueError(
                f"no network of this shape fits every point, as loss='{self.loss}' asks; "
                "use more neurons, or another loss."
            )
        raise RuntimeError(
            f"no network was found ({found.status}) within time_limit={self.time_limit}; "
            "raise it, or use another loss, method='hybrid' or engine='cp_sat'."
        )

    def _keep(self, found: Training) -> None:
        assert found.network is not None  # see _nothing
        self.network_ = found.network
        self.status_ = found.status
        self.loss_ = float(found.loss)
        self.bound_ = float(found.bound)
        self.gap_ = max(self.loss_ - self.bound_, 0.0) / max(1.0, abs(self.loss_))
        self.compared_ = int(found.compared)
        self.history_ = found.history

    # ------------------------------------------------------------------ predict
    def decision_function(self, X: Any) -> np.ndarray:
        """Scores: (n,) for two classes, positive or 0 for the second; else (n, classes)."""
        points = self._points(X)
        scores = self.network_.scores(points)
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict(self, X: Any) -> np.ndarray:
        """The class of each point: the largest score, the first one at a tie."""
        scores = self.decision_function(X)
        if scores.ndim == 1:
            return self.classes_[(scores >= 0).astype(int)]
        return self.classes_[scores.argmax(axis=1)]

    def robust_share(self, X: Any, y: Any, radius: float, norm: str = "linf") -> float:
        """Share of points that are certainly predicted right on a whole ball.

        The first layer's activations must be constant on the ball, as the robust
        training has it, so this is a lower bound of the share that resists every
        attack; :meth:`verify` decides the rest.
        """
        choice("norm", norm, DUAL_NORMS)
        right = self.predict(X) == np.asarray(y)
        return float((right & self._unmoved(X, radius, norm)).mean())

    def _unmoved(self, X: Any, radius: float, norm: str) -> np.ndarray:
        """Points on whose ball the activations of the first layer decide, and stay."""
        w, b = self.network_.weights[0], self.network_.biases[0]
        size, pre = dual_norm(w, norm), np.asarray(X, dtype=float) @ w.T + b
        stay = ((np.abs(pre) > radius * size) | (size == 0)).all(axis=1)
        if len(self.network_.weights) == 1 and len(b) > 1:
            # Signs of scores decide only where one class alone has its bit.
            stay &= (pre >= 0).sum(axis=1) == 1
        return stay

    def verify(
        self,
        X: Any,
        y: Any,
        radius: float,
        norm: str = "linf",
        time_limit: float | None = 60.0,
    ) -> np.ndarray:
        """Decide exactly whether points keep their class on the whole ball around them.

        Points where :meth:`robust_share` is sure are not looked at again, the others go
        to :func:`pyomo_relu.verification.verify`.

        Parameters
        ----------
        X : (n, d) array
        y : (n,) array
        radius : float
        norm : {'linf', 'l1'}
        time_limit : float or None
            Seconds for each point.

        Returns
        -------
        (n,) array of {'wrong', 'robust', 'counterexample', 'undecided'}
            'wrong' where the prediction at the point itself is.
        """
        choice("norm", norm, ("linf", "l1"))
        X = np.asarray(X, dtype=float)
        predicted = self.predict(X)
        found = np.where(predicted == np.asarray(y), "open", "wrong").astype("<U14")
        sure = self._unmoved(X, radius, norm) | (radius == 0)
        found[(found == "open") & sure] = "robust"
        network = self.to_network()
        for i in np.flatnonzero(found == "open"):
            label = int(np.searchsorted(self.classes_, predicted[i]))
            prop = _keeps(label, network.n_outputs)
            region = Ball(X[i], radius, norm)
            found[i] = verify(network, region, prop, time_limit=time_limit).status
        return found

    # ---------------------------------------------------------- other packages
    def to_network(self, outputs: str = "scores") -> Network:
        """The network for :class:`~pyomo_relu.ReLUNetBlock`; see ``StepNetwork``."""
        check_is_fitted(self, "network_")
        return self.network_.to_network(outputs)

    def _whole(self) -> StepNetwork:
        return self.network_

    def _stored(self) -> tuple[dict[str, Any], dict[str, Any]]:
        more = {"status": self.status_, "loss": self.loss_, "bound": self.bound_}
        return more, self.network_.describe()

    def _restore(self, about: dict[str, Any], data: dict[str, Any], path: Any) -> int:
        network = StepNetwork.from_arrays(data, path)
        classes, scores = len(self.classes_), network.sizes[-1]
        if scores != (1 if classes == 2 else classes):
            raise ValueError(f"it has {classes} classes and {scores} scores")
        self._keep(Training(network, about["status"], about["loss"], about["bound"]))
        return network.sizes[0]


def _keeps(label: int, outputs: int) -> Property:
    """The property that a class is predicted; of equal scores the first one is."""
    if outputs == 1:
        row = np.array([[1.0]]) if label else np.array([[-1.0]])
        return Property((Unsafe(row, np.zeros(1), strict=bool(label)),))
    sets = []
    for k in range(outputs):
        if k != label:
            row = np.zeros((1, outputs))
            row[0, label], row[0, k] = 1.0, -1.0
            sets.append(Unsafe(row, np.zeros(1), strict=k > label))
    return Property(tuple(sets))
