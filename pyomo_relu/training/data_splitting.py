"""Data splitting: one activation pattern for each cluster, and clusters are split.

Source: Kurtz and Bah, arXiv 2110.11382.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.cluster import KMeans

from pyomo_relu.base.deadline import Deadline, TimeUp
from pyomo_relu.base.progress import progress
from pyomo_relu.steps.step_network import StepNetwork
from pyomo_relu.training.family import Data, merged
from pyomo_relu.training.hybrid import refine
from pyomo_relu.training.losses import BIT_LOSSES
from pyomo_relu.training.points import Points
from pyomo_relu.training.solve import Solve, solve
from pyomo_relu.training.task import (
    NEAR,
    Task,
    Training,
    accuracy,
    constant_network,
    dead_inputs,
    only_soft,
    record,
)

#: The share of the remaining time that widening the margins may take after each program,
#: and the number of starts of k-means. Both were chosen by hand.
WIDEN_SHARE, STARTS = 0.1, 5


def split_in_two(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Labels 0 and 1 of a k-means split; by half where all points are equal."""
    if (x == x[:1]).all():
        return np.arange(len(x)) % 2
    seed = int(rng.integers(2**31 - 1))
    return KMeans(2, n_init=STARTS, random_state=seed).fit_predict(x)


def repaired(
    network: StepNetwork, x: np.ndarray, cell: np.ndarray, task: Task
) -> StepNetwork | None:
    """The network with each neuron that isn't constant on some cell made constant.

    It keeps its activation where the majority is; this is a network of the program,
    whatever the cells.
    """
    if task.family.thresholds != "neuron":
        return None
    weights = [w.copy() for w in network.weights]
    biases = [b.copy() for b in network.biases]
    limit = task.family.decisive_bias
    for k in range(len(weights) - 1):
        on = StepNetwork(tuple(weights), tuple(biases), network.activation).patterns(x)[k]
        count = np.bincount(cell, minlength=int(cell.max()) + 1)[:, None]
        share = np.stack([np.bincount(cell, o, len(count)) for o in on.T], axis=1) / count
        for j in np.flatnonzero(((share > 0) & (share < 1)).any(axis=0)):
            weights[k][j] = 0.0
            biases[k][j] = limit if on[:, j].mean() >= 0.5 else -limit
    return StepNetwork(tuple(weights), tuple(biases), network.activation)


def data_splitting(
    task: Task,
    points: Points,
    validation: tuple[np.ndarray, np.ndarray],
    *,
    splits: int = 8,
    batch_size: int | None = 64,
    start: StepNetwork | None = None,
    widen: bool = True,
) -> Training:
    """Train on ever finer clusters of the data.

    A program of bits has no reason to keep a neuron away from the points. Its neurons
    are therefore given their largest margins afterwards, one by one, with all
    activations of its points as they are.

    Parameters
    ----------
    task : Task
        ``task.data`` are the merged points.
    points : Points
    validation : (x, bits)
        Chooses among the networks.
    splits : int
        Splits at most; with as many clusters as points, the program is the exact one.
    batch_size : int or None
        Points of each program, a random window of the shuffled data; None for all.
    start : StepNetwork, optional
    widen : bool
        Whether margins are made large; for losses on bits without regularization.
    """
    only_soft(task.loss, "data_splitting")
    points = points.part(task.rng.permutation(len(points.x)))
    search = _Splitting(task, points, validation, start, widen)
    clock = task.clock()
    n = len(points.x)
    size = n if batch_size is None else min(batch_size, n)
    with progress(splits, "data splitting", "split") as bar:
        for turn in range(splits):
            if clock.expired() or not search.split():
                break
            first = int(task.rng.integers(n - size + 1))
            try:
                search.train(slice(first, first + size), clock, splits - turn)
            except TimeUp:
                break
            bar.update(1)
            bar.set_postfix(accuracy=f"{search.score:.3f}", loss=f"{search.loss:g}")
    return search.training(clock.expired(), size)


class _Splitting:
    """The clusters, the last network, and the best one so far."""

    def __init__(
        self,
        task: Task,
        points: Points,
        validation: tuple[np.ndarray, np.ndarray],
        start: StepNetwork | None,
        widen: bool,
    ) -> None:
        self.task, self.points, self.validation = task, points, validation
        self.x = x = points.x
        self.widen = widen and task.loss.name in BIT_LOSSES and not task.loss.regularization
        self.cluster = np.zeros(len(x), dtype=int)
        self.best = self.network = constant_network(task) if start is None else start
        self.score = accuracy(self.best, *validation)
        self.loss = task.value(self.best)
        self.dead = dead_inputs(task.family, x)
        self.history: list[dict[str, Any]] = []
        self.compared = 0
        self.last: Solve | None = None

    def split(self) -> bool:
        """Split the cluster where the best network is wrong most often, if one has two."""
        wrong = (self.best.scores(self.x) >= 0) != (self.points.bits > 0.5)
        losses = wrong.sum(axis=1).astype(float)
        if self.points.weight is not None:
            losses *= self.points.weight
        chosen = _worst(self.cluster, losses)
        if chosen is None:
            return False
        inside = np.flatnonzero(self.cluster == chosen)
        half = split_in_two(self.x[inside], self.task.rng)
        self.cluster[inside[half == 1]] = self.cluster.max() + 1
        return True

    def train(self, window: slice, clock: Deadline, turns: int) -> None:
        """Solve the program of a window of the points with an equal part of the time."""
        # Cells are numbered anew in a batch that has no point of some cluster.
        some = self.points.part(window)
        data = merged(some.x, some.bits, self.cluster[window], some.weight)
        mip = self.task.program(clock, data, self.dead)
        clusters = int(self.cluster.max()) + 1
        found = solve(
            mip,
            self.task.engine,
            time_limit=clock.part(1.0 / turns).limit,
            start=repaired(self.network, data.x, data.cell, self.task),
            title=f"{clusters} clusters",
        )
        if found.network is None:
            record(self.history, found, clusters=clusters, accuracy=np.nan)
            return
        self.network, self.last = found.network, found
        self.compared += found.compared
        if self.widen:
            self._widen(data, clock)
        right = accuracy(self.network, *self.validation)
        loss = self.task.value(self.network)
        record(self.history, found, clusters=clusters, accuracy=right, loss=loss)
        if (right, -loss) > (self.score, -self.loss):
            self.best, self.score, self.loss = self.network, right, loss

    def _widen(self, data: Data, clock: Deadline) -> None:
        part = replace(self.task, data=data, time_limit=clock.part(WIDEN_SHARE))
        wider = refine(part, self.network)
        assert wider.network is not None  # it starts from one
        self.network, self.compared = wider.network, self.compared + wider.compared

    def training(self, late: bool, size: int) -> Training:
        """The best network; an optimum if the last program was the exact one."""
        proved = self.loss <= NEAR or (
            self.last is not None
            and self.last.network is not None
            and self.last.status == "optimal"
            and size == len(self.x) == len(np.unique(self.cluster))
            and self.loss <= self.task.value(self.last.network) + NEAR
        )
        status = "time_limit" if late else "feasible"
        return Training(
            network=self.best,
            status="optimal" if proved else status,
            loss=self.loss,
            bound=self.loss if proved else 0.0,
            compared=self.compared,
            history=self.history,
        )


def _worst(cluster: np.ndarray, losses: np.ndarray) -> int | None:
    """The cluster of several points with the largest loss; None if all are single."""
    count = np.bincount(cluster)
    total = np.bincount(cluster, losses)
    total[count < 2] = -1.0
    found = int(np.lexsort((count, total))[-1])
    return found if count[found] > 1 else None
