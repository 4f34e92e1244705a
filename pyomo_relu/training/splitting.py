"""Data splitting: one activation pattern for each cluster, and clusters are split.

Source: Kurtz and Bah, arXiv 2110.11382.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.cluster import KMeans

from pyomo_relu.base.deadline import TimeUp
from pyomo_relu.bounds.progress import progress
from pyomo_relu.steps.step_network import StepNetwork
from pyomo_relu.training.exact import (
    Task,
    Training,
    constant_network,
    dead_inputs,
    only_soft,
    record,
)
from pyomo_relu.training.family import merged
from pyomo_relu.training.hybrid import refine
from pyomo_relu.training.losses import BIT_LOSSES, value
from pyomo_relu.training.solve import solve

#: Share of the remaining time that widening the margins may take after each program.
WIDEN_SHARE = 0.1


def split_in_two(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Labels 0 and 1 of a k-means split; by half where all points are equal."""
    if (x == x[:1]).all():
        return np.arange(len(x)) % 2
    seed = int(rng.integers(2**31 - 1))
    return KMeans(2, n_init=5, random_state=seed).fit_predict(x)


def losses_of(task: Task, network: StepNetwork, x, bits) -> np.ndarray:
    """The number of wrong output bits of each point."""
    return ((network.scores(x) >= 0) != (bits > 0.5)).sum(axis=1).astype(float)


def repaired(network: StepNetwork, x: np.ndarray, cell: np.ndarray, task: Task):
    """The network with each neuron that isn't constant on some cell made constant.

    It keeps its activation where the majority is; this is a network of the program,
    whatever the cells.
    """
    if task.family.thresholds != "neuron":
        return None
    weights = [w.copy() for w in network.weights]
    biases = [b.copy() for b in network.biases]
    limit = 1.0 if task.family.bias_bound is None else task.family.bias_bound
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
    x: np.ndarray,
    bits: np.ndarray,
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
        ``task.data`` are the merged ``x`` and ``bits``.
    x, bits : (n, d), (n, outputs) arrays
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
    clock, rng = task.clock(), task.rng
    order = rng.permutation(len(x))
    x, bits = x[order], bits[order]
    cluster = np.zeros(len(x), dtype=int)
    size = len(x) if batch_size is None else min(batch_size, len(x))
    best = constant_network(task) if start is None else start
    network: StepNetwork = best
    score, loss = _accuracy(best, *validation), task.value(best)
    history: list[dict[str, Any]] = []
    compared, last = 0, None
    dead = dead_inputs(task.family, x)
    with progress(splits, "data splitting", "split") as bar:
        for turn in range(splits):
            chosen = _worst(cluster, losses_of(task, best, x, bits))
            if chosen is None or clock.expired():
                break
            inside = np.flatnonzero(cluster == chosen)
            half = split_in_two(x[inside], rng)
            cluster[inside[half == 1]] = cluster.max() + 1
            first = int(rng.integers(len(x) - size + 1))
            window = slice(first, first + size)
            # Cells are numbered anew in a batch that has no point of some cluster.
            data = merged(x[window], bits[window], cluster[window])
            try:
                mip = task.loss.mip(task.family, data, dead=dead, check=clock.check)
            except TimeUp:
                break
            known = repaired(network, data.x, data.cell, task)
            found = solve(
                mip,
                task.engine,
                time_limit=clock.left() / (splits - turn),
                start=known,
                title=f"{turn + 2} clusters",
            )
            bar.update(1)
            clusters = int(cluster.max()) + 1
            if found.network is None:
                record(history, found, clusters=clusters, accuracy=np.nan)
                continue
            network, last = found.network, found
            compared += found.compared
            if widen and task.loss.name in BIT_LOSSES and not task.loss.regularization:
                part = replace(task, data=data, time_limit=WIDEN_SHARE * clock.left())
                wider = refine(part, network)
                assert wider.network is not None  # it starts from one
                network, compared = wider.network, compared + wider.compared
            accuracy, now = _accuracy(network, *validation), task.value(network)
            record(history, found, clusters=clusters, accuracy=accuracy, loss=now)
            bar.set_postfix(accuracy=f"{accuracy:.3f}", loss=f"{now:g}")
            if (accuracy, -now) > (score, -loss):
                best, score, loss = network, accuracy, now
    status = "time_limit" if clock.expired() else "feasible"
    proved = (
        last is not None
        and last.network is not None
        and last.status == "optimal"
        and size == len(x)
        and len(np.unique(cluster)) == len(x)
        and loss <= value(task.loss, last.network, task.family, task.data) + 1e-9
    )
    if proved or loss <= 1e-9:
        return Training(best, "optimal", loss, loss, compared, history)
    return Training(best, status, loss, 0.0, compared, history)


def _accuracy(network: StepNetwork, x: np.ndarray, bits: np.ndarray) -> float:
    """Share of points whose predicted class is theirs."""
    scores = network.scores(x)
    if bits.shape[1] == 1:
        return float(((scores >= 0) == (bits > 0.5)).mean())
    return float((scores.argmax(axis=1) == bits.argmax(axis=1)).mean())


def _worst(cluster: np.ndarray, losses: np.ndarray) -> int | None:
    """The cluster of several points with the largest loss; None if all are single."""
    count = np.bincount(cluster)
    total = np.bincount(cluster, losses)
    total[count < 2] = -1.0
    found = int(np.lexsort((count, total))[-1])
    return found if count[found] > 1 else None
