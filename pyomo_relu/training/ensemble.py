"""`OneVsOneBinarizedEnsemble`: one small binarized network for each pair of classes.

Source: Bernardelli, Gualandi, Milanesi, Lau, Yorke-Smith, Multi-objective linear
ensembles for robust and sparse training of few-bit neural networks (BeMi), INFORMS
Journal on Computing 37(3), 2025.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.base.progress import progress
from pyomo_relu.network import Network, NetworkBuilder, activations
from pyomo_relu.steps.step_network import StepNetwork, stack
from pyomo_relu.training.calibration import fitted_factor
from pyomo_relu.training.estimator import (
    TrainedEstimator,
    binarized_family,
    choice,
    seed_of,
)
from pyomo_relu.training.losses import Loss
from pyomo_relu.training.pair import Pair, train_pair
from pyomo_relu.training.points import Points
from pyomo_relu.training.solve import check_solver
from pyomo_relu.training.task import Task, check_start

#: Of the parts of a point's values, of which the order of the classes follows: the largest
#: one of the scores must be below one half of the one that decides between two classes.
SCORES_PART, DECIDED_PART = 0.2, 0.5

#: Seconds of the solver in the three stages of a pair.
Limits = tuple[float, float, float]


@dataclass(frozen=True)
class _Job:
    """A pair to be trained, which goes to other processes."""

    task: Task
    limits: Limits
    share: float
    start: StepNetwork | None

    def run(self, limit: Deadline | float) -> Pair:
        """Train it until then, or for so many seconds."""
        task = replace(self.task, time_limit=limit)
        return train_pair(task, self.limits, self.share, self.start)

    def until(self, part: float, end: float) -> Pair:
        """Train it for so many seconds, but not beyond a time of day."""
        return self.run(min(part, max(end - time.time(), 0.0)))


def _trained(jobs: list[_Job], deadline: Deadline, executor: Any) -> Iterator[Pair]:
    """The pairs in turn, each with its part of the time that is left."""
    n = len(jobs)
    if executor is None:
        for k, job in enumerate(jobs):
            yield job.run(deadline.part(1.0 / (n - k)))
        return
    # Other processes have other clocks, but for the time of day.
    end = time.time() + deadline.left()
    workers = min(n, getattr(executor, "_max_workers", None) or 1)
    part = deadline.left() * workers / n
    yield from executor.map(_Job.until, jobs, [part] * n, [end] * n)


@dataclass(eq=False, repr=False, kw_only=True)
class OneVsOneBinarizedEnsemble(TrainedEstimator):
    """One binarized network for each pair of classes; they vote.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int
        Hidden sign neurons of each network; none by default, which HiGHS solves best.
    weights : {'ternary'} or int P
        In {-1, 0, 1} or integers in [-P, P].
    bias : bool
        The networks of the paper have no biases.
    margin : float
        Share of half the score's range that makes a point count as certain. Points that
        don't reach it are left out of the later stages; at 0.5 most of the digits are,
        without hidden layers.
    margin_kept : float
        Share of each neuron's margin that the third stage must keep. With 1, as in the
        paper, few weights can go; a little less takes more away, and was more accurate
        on every data set that was tried.
    stage_limits : (float, float, float)
        Seconds of the solver in the three stages of each pair, infinite ones for none; what
        one leaves goes to the next. Building the programs and their starts comes on top.
    time_limit, cpu_time_limit : float or None
        Seconds for all of ``fit``, by the clock and of this process's CPU time: for all
        pairs, with the building of their programs and their starts. Each pair has an
        equal share of what is left; what it has by then is kept. None for no limit
        besides those of the stages.
    unclassified : label, optional
        Predicted where more than two classes have the most votes. By default those
        classes are compared by the sum of their scores.
    warm_start : bool
        Each pair begins with its last network.
    probability, validation_fraction : bool, float
        Whether to have ``predict_proba``, and the share of the points set aside for it.
    node_limit, solver, engine, solver_options, eps, random_state, verbose
        As for :class:`~pyomo_relu.training.BinaryNetClassifier`.

    Attributes
    ----------
    networks_ : dict of (int, int) to StepNetwork
        By the positions of the two classes.
    pairs_ : dict of (int, int) to Pair
    nonzeros_ : (int, int)
        Weights that are not 0, and all.
    classes_ : array

    Notes
    -----
    The class with the most votes is predicted; of two with the most, the one that their
    own network prefers.

    References
    ----------
    Bernardelli et al., INFORMS Journal on Computing 37(3), 2025 (BeMi).
    """

    KIND: ClassVar[str] = "trained ensemble"
    FITTED: ClassVar[str] = "networks_"

    weights: Any = "ternary"
    bias: bool = False
    margin: float = 0.1
    margin_kept: float = 0.8
    stage_limits: tuple[float, float, float] = (1.0, 1.0, 1.0)
    time_limit: float | None = None
    unclassified: Any = None

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, executor: Any = None
    ) -> Self:
        """Train all networks.

        Parameters
        ----------
        X : (n, d) array
        y : (n,) array
            Class labels.
        sample_weight : (n,) array, optional
            What each point counts in the first stage, which leaves out those that it
            can't have with their margin. Points of 0 are left out from the beginning.
        executor : concurrent.futures.Executor, optional
            Trains pairs at the same time.

        Returns
        -------
        self
        """
        self._check_options()
        limits, share = self._limits(), float(self.margin_kept)
        if executor is not None and self.cpu_time_limit is not None:
            raise ValueError(
                "cpu_time_limit counts this process alone; with executor= use time_limit."
            )
        deadline = self._deadline()
        old = getattr(self, "networks_", {}) if self.warm_start else {}
        X, codes, weight, random = self._begin(X, y, sample_weight)
        points = every = Points(X, codes, np.empty((len(X), 0)), weight)
        aside = self._set_aside(codes, seed_of(random)) if self.probability else None
        if aside is not None:
            points = every.part(~aside)
        family = binarized_family(
            self._hidden(), 1, self.weights, self.bias, None, self.eps
        )
        engine, loss = self._engine(), Loss("sat_margin", float(self.margin))
        check_solver(engine)
        pairs = list(combinations(range(len(self.classes_)), 2))
        jobs = []
        for i, j in pairs:
            data = points.pair(i, j).data()
            rng = np.random.default_rng(seed_of(random))
            task = Task(family, data, loss, engine, None, rng)
            start = old.get((i, j))
            if start is not None:
                check_start(task, start)
            jobs.append(_Job(task, limits, share, start))
        results = _trained(jobs, deadline, executor)
        self.pairs_ = {}
        with progress(len(pairs), "one against one", "pair") as bar:
            for pair, result in zip(pairs, results):
                self.pairs_[pair] = result
                bar.update(1)
        self._keep({pair: found.network for pair, found in self.pairs_.items()})
        if self.probability:
            kept = every if aside is None else every.part(aside)
            scores = self.decision_function(kept.x)
            self.factor_ = fitted_factor(scores, kept.codes, kept.weight)
        return self

    def _limits(self) -> Limits:
        limits = tuple(float(s) for s in self.stage_limits)
        if len(limits) != 3 or min(limits) <= 0:
            raise ValueError("stage_limits needs three positive numbers of seconds.")
        if not 0 < self.margin_kept <= 1:
            raise ValueError(f"margin_kept must lie in (0, 1], not {self.margin_kept}.")
        return limits

    def _keep(self, networks: dict[tuple[int, int], StepNetwork]) -> None:
        self.networks_ = networks
        counts = np.array([n.nonzeros() for n in networks.values()]).sum(axis=0)
        self.nonzeros_ = (int(counts[0]), int(counts[1]))

    # ------------------------------------------------------------------ predict
    def pair_scores(self, X: Any) -> np.ndarray:
        """(n, pairs) scores; at least 0 where the second class of the pair has the vote."""
        X = self._points(X)
        return np.hstack([network.scores(X) for network in self.networks_.values()])

    def votes(self, X: Any) -> np.ndarray:
        """(n, classes) number of pairs that each class wins."""
        return self._votes(self.pair_scores(X))

    def _votes(self, scores: np.ndarray) -> np.ndarray:
        found = np.zeros((len(scores), len(self.classes_)), dtype=int)
        for (i, j), s in zip(self.networks_, scores.T):
            found[:, j] += s >= 0
            found[:, i] += s < 0
        return found

    def decide(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """The position of the class of each point (-1 for none), and how it was found.

        Returns
        -------
        winner : (n,) int array
        tied : (n,) int array
            Number of classes with the most votes; with 2, their own network decided,
            with more, no class did.
        """
        scores = self.pair_scores(X)
        votes = self._votes(scores)
        most = votes == votes.max(axis=1, keepdims=True)
        tied = most.sum(axis=1)
        winner = np.where(tied == 1, votes.argmax(axis=1), -1)
        column = {pair: c for c, pair in enumerate(self.networks_)}
        for r in np.flatnonzero(tied == 2).tolist():
            i, j = np.flatnonzero(most[r]).tolist()
            winner[r] = j if scores[r, column[i, j]] >= 0 else i
        return winner, tied

    def decision_function(self, X: Any) -> np.ndarray:
        """(n,) score of two classes; else (n, classes) values with the order of predict.

        Votes, plus less than one half from the scores, plus a half for the class that
        its own network prefers of two with the most votes.
        """
        scores = self.pair_scores(X)
        if scores.shape[1] == 1:
            return scores[:, 0]
        total = np.zeros((len(scores), len(self.classes_)))
        for (i, j), s in zip(self.networks_, scores.T):
            total[:, j] += s
            total[:, i] -= s
        largest = np.abs(total).max(axis=1, keepdims=True)
        values = self._votes(scores) + SCORES_PART * total / np.maximum(largest, 1e-12)
        winner, tied = self.decide(X)
        two = np.flatnonzero(tied == 2)
        values[two, winner[two]] += DECIDED_PART
        return values

    def published_score(self, X: Any, y: Any) -> float:
        """Share of right points under the published rule.

        More than two classes with the most votes leave a point unclassified, which counts
        as wrong; so does the paper on the ensemble.
        """
        winner, _ = self.decide(X)
        right = (winner >= 0) & (self.classes_[winner] == np.asarray(y))
        return float(right.mean())

    def predict(self, X: Any) -> np.ndarray:
        """The class with the most votes; see the class for ties."""
        winner, _ = self.decide(X)
        if (winner >= 0).all():
            return self.classes_[winner]
        if self.unclassified is None:
            values = self.decision_function(X)
            return self.classes_[np.where(winner < 0, values.argmax(axis=1), winner)]
        found = np.empty(len(winner), dtype=object)
        for r, w in enumerate(winner.tolist()):
            found[r] = self.unclassified if w < 0 else self.classes_[w]
        return found

    # ---------------------------------------------------------- other packages
    def to_network(self, outputs: str = "votes") -> Network:
        """The networks as one.

        Parameters
        ----------
        outputs : {'votes', 'scores'}
            The votes of every class, or the scores of every pair.
        """
        check_is_fitted(self, "networks_")
        choice("outputs", outputs, ("votes", "scores"))
        whole = self._whole()
        if outputs == "scores":
            return whole.to_network()
        builder = NetworkBuilder()
        at = builder.input("input", (whole.sizes[0],))
        for k, (w, b) in enumerate(zip(whole.weights, whole.biases)):
            last = k == len(whole.weights) - 1
            name = "pairs" if last else f"hidden_{k + 1}"
            kind = activations.step if last else activations.sign
            at = builder.affine(name, [(at, w)], b)
            at = builder.piecewise(f"{name}_on", at, kind())
        count = np.zeros((len(self.classes_), len(self.networks_)))
        constant = np.zeros(len(self.classes_))
        for c, (i, j) in enumerate(self.networks_):
            count[j, c], count[i, c] = 1.0, -1.0
            constant[i] += 1.0
        return builder.build([builder.affine("votes", [(at, count)], constant)])

    def _whole(self) -> StepNetwork:
        """All networks side by side, with the scores of the pairs."""
        return stack(list(self.networks_.values()))

    def _params(self) -> dict[str, Any]:
        return {**super()._params(), "random_state": None, "unclassified": None}

    def _stored(self) -> tuple[dict[str, Any], dict[str, Any]]:
        arrays: dict[str, Any] = {}
        for c, network in enumerate(self.networks_.values()):
            arrays |= {f"{c}.{key}": value for key, value in network.describe().items()}
        return {"pairs": [list(pair) for pair in self.networks_]}, arrays

    def _restore(self, about: dict[str, Any], data: dict[str, Any], path: Any) -> int:
        networks = {}
        for c, pair in enumerate(about["pairs"]):
            own = f"{c}."
            part = {k[len(own) :]: v for k, v in data.items() if k.startswith(own)}
            i, j = map(int, pair)
            networks[i, j] = StepNetwork.from_arrays(part, path)
        if sorted(networks) != list(combinations(range(len(self.classes_)), 2)):
            raise ValueError("it does not have one network for each pair of classes")
        if any(network.sizes[-1] != 1 for network in networks.values()):
            raise ValueError("a pair's network has one score")
        self._keep(networks)
        return next(iter(networks.values())).sizes[0]
