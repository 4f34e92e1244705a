r"""One neuron trained exactly or by small changes, all others given.

With everything else given, a point's loss depends on the side of one neuron alone: it is
one number where the neuron is on and another where it is off. So whatever the loss and the
depth, training this neuron is to classify the points with two classes (the better side)
and weights (how much better it is). Points whose loss doesn't change leave the problem.

The weights are changed one by one; for each change the best bias is found by sorting the
points. What that leaves can go to the program of a single neuron.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from pyomo_relu.base.deadline import NEVER, Deadline
from pyomo_relu.steps.step_network import StepNetwork, activations_of
from pyomo_relu.training.family import Data, merged
from pyomo_relu.training.losses import BIT_LOSSES, Loss, point_values
from pyomo_relu.training.task import NEAR, Task


@dataclass(frozen=True)
class ChangeSettings:
    """The numbers that steer the changes; all were chosen by hand.

    Attributes
    ----------
    work : float
        Numbers that may be sorted for one neuron: 200 changes of a neuron with 64 inputs
        on 1,000 points, some seconds. (Not seconds, so that a seed gives one network.)
    steps : tuple of float
        Changes of a continuous weight in units of its box; integers change by one.
    block : int
        Numbers that are sorted at a time, which bounds the memory.
    apart : float
        Two sums that differ by less, relative to the largest, are not told apart.
    """

    work: float = 3e7
    steps: tuple[float, ...] = (0.3, 0.1, 0.03)
    block: int = 2_000_000
    apart: float = 1e-7


SETTINGS = ChangeSettings()


def applies(task: Task) -> bool:
    """Whether neurons are independent of each other: own biases, no radius, no extras."""
    loss = task.loss
    return (
        task.family.thresholds != "layer"
        and task.family.robust is None
        and not (loss.hard or loss.regularization or loss.compression)
    )


def sides(task: Task, network: StepNetwork, k: int, j: int) -> Data:
    """The points whose loss depends on a neuron's side, as data of that neuron.

    Their bit is the better side and their count the difference of the loss.

    Parameters
    ----------
    task : Task
    network : StepNetwork
    k, j : int
        Layer and neuron; one of the last layer only with a loss on bits.
    """
    values, pre = task.data.x, np.empty((0, 0))
    for w, b in zip(network.weights[: k + 1], network.biases[: k + 1]):
        inputs, pre = values, values @ w.T + b
        values = network.activate(pre)
    losses = []
    for on in (False, True):
        changed = pre.copy()
        changed[:, j] = 1.0 if on else -1.0
        for w, b in zip(network.weights[k + 1 :], network.biases[k + 1 :]):
            changed = network.activate(changed) @ w.T + b
        losses.append(point_values(task.loss, changed, task.family, task.data))
    gain = losses[0] - losses[1]
    counts = np.abs(gain) > NEAR
    weight = (task.data.count * np.abs(gain))[counts]
    return merged(inputs[counts], (gain[counts, None] > 0) * 1.0, weight=weight)


def alone(task: Task, data: Data) -> Task:
    """The task of a single neuron: the least weight of points on the wrong side."""
    family = replace(task.family, hidden=(), outputs=1)
    return replace(task, family=family, data=data, loss=Loss("zero_one"))


def trainable(task: Task, k: int) -> bool:
    """Whether :func:`sides` says all of a layer's neurons."""
    return k < task.family.depth - 1 or task.loss.name in BIT_LOSSES


def with_neuron(network: StepNetwork, k: int, j: int, one: StepNetwork) -> StepNetwork:
    """The network with another neuron in the place of one."""
    weights = [w.copy() for w in network.weights]
    biases = [b.copy() for b in network.biases]
    weights[k][j], biases[k][j] = one.weights[0][0], one.biases[0][0]
    return StepNetwork(tuple(weights), tuple(biases), network.activation)


def changed(task: Task, start: StepNetwork, deadline: Deadline = NEVER) -> StepNetwork:
    """Change one weight of a single neuron at a time while that lowers the loss.

    Parameters
    ----------
    task : Task
        As :func:`alone` makes it.
    start : StepNetwork
        A single neuron.

    Returns
    -------
    StepNetwork
        One with a smaller loss, or the start.
    """
    w, b = start.weights[0][0], float(start.biases[0][0])
    least, work = task.value(start), 0.0
    changes = _changes(task, w)
    while work < SETTINGS.work and least > NEAR and not deadline.expired():
        best = least - NEAR, w, b
        for loss, column, step, bias in _tried(task, w, changes):
            work += len(task.data.x) * len(changes)
            if loss < best[0]:
                other = w.copy()
                other[column] += step
                best = loss, other, bias
        if best[1] is w:
            break
        _, w, b = best
        found = StepNetwork((w[None],), (np.array([b]),), start.activation)
        loss = task.value(found)
        if not loss < least - NEAR:  # sums that rounding moved across 0
            break
        start, least = found, loss
    return start


def _changes(task: Task, w: np.ndarray) -> np.ndarray:
    """(changes, 2) columns and steps of inputs that vary."""
    family, x = task.family, task.data.x
    varies = np.flatnonzero((x != x[:1]).any(axis=0)) if len(x) else np.array([], int)
    sizes = (1.0,) if family.integer else tuple(family.bound * s for s in SETTINGS.steps)
    steps = np.array([sign * size for size in sizes for sign in (1.0, -1.0)])
    pairs = np.stack(np.meshgrid(varies, steps, indexing="ij"), axis=-1)
    return pairs.reshape(-1, 2)


def _tried(
    task: Task, w: np.ndarray, changes: np.ndarray
) -> Iterator[tuple[float, int, float, float]]:
    """The best change of each block: its loss, its column, its step and its bias."""
    data, family = task.data, task.family
    if not len(data.x):
        return
    columns, steps = changes[:, 0].astype(int), changes[:, 1]
    inside = np.abs(w[columns] + steps) <= family.bound
    columns, steps = columns[inside], steps[inside]
    pre = data.x @ w
    some = max(1, SETTINGS.block // len(data.x))
    for first in range(0, len(columns), some):
        at = slice(first, first + some)
        sums = pre[:, None] + steps[at] * data.x[:, columns[at]]
        losses, biases = best_bias(task, sums)
        best = int(losses.argmin())
        yield losses[best], columns[at][best], steps[at][best], biases[best]


def best_bias(task: Task, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each column of weighted sums the least loss and a bias that has it.

    Parameters
    ----------
    task : Task
    sums : (n, m) array

    Returns
    -------
    losses, biases : (m,) arrays
        Infinite where no bias of the family tells two sums apart.
    """
    data, family = task.data, task.family
    order = np.argsort(sums, axis=0, kind="stable")
    ranked = np.take_along_axis(sums, order, axis=0)
    signed = data.count * (2.0 * data.bits[:, 0] - 1.0)
    off = np.zeros((len(sums) + 1, sums.shape[1]))
    np.cumsum(signed[order], axis=0, out=off[1:])
    off += float(data.count @ (1.0 - data.bits[:, 0]))  # all on: what should be off
    # The first r sums are off where minus the bias lies above them and not above the rest.
    wide = 1.0 + np.abs(ranked[[0, -1]]).max(axis=0)
    low = np.vstack([ranked[:1] - 2.0 * wide, ranked])
    high = np.vstack([ranked, ranked[-1:] + 2.0 * wide])
    whole = family.integer_bias or (family.integer and bool((sums == np.round(sums)).all()))
    border = np.floor(high) if whole else 0.5 * (low + high)
    if family.thresholds == "none":
        border = np.zeros_like(border)
        good = (low < 0.0) & (high >= 0.0)
    else:
        limit = np.inf if family.bias_bound is None else family.bias_bound
        border = np.clip(border, -limit, limit)
        good = (border > low) & (border <= high)
        good &= high - low > SETTINGS.apart * wide
    losses = np.where(good, off, np.inf)
    chosen = losses.argmin(axis=0)
    columns = np.arange(sums.shape[1])
    return losses[chosen, columns], -border[chosen, columns]


def activations_before(network: StepNetwork, x: np.ndarray, k: int) -> np.ndarray:
    """The inputs of a layer."""
    if k == 0:
        return x
    return activations_of(network.pre_activations(x)[k - 1] >= 0, network.activation)
