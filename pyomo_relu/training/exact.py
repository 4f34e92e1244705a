"""Training by one program, and by alternating over the layers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pyomo_relu.base.deadline import Deadline, TimeUp
from pyomo_relu.steps.step_network import StepNetwork
from pyomo_relu.training import rounding
from pyomo_relu.training.encode import TrainingMIP
from pyomo_relu.training.family import Data, Family, merged
from pyomo_relu.training.losses import Loss, least_value, value
from pyomo_relu.training.solve import Engine, Solve, solve

#: Share of the time limit that the start from the relaxation may take.
START = 0.5

#: How near to the least possible loss counts as that.
NEAR = 1e-9


@dataclass(frozen=True)
class Task:
    """What is trained, on what, with what.

    Attributes
    ----------
    family : Family
    data : Data
    loss : Loss
    engine : Engine
    time_limit : float or None
        Seconds for all of it, the writing of programs and the starts included.
    rng : Generator
    """

    family: Family
    data: Data
    loss: Loss
    engine: Engine
    time_limit: float | None
    rng: np.random.Generator = field(default_factory=np.random.default_rng)

    def value(self, network: StepNetwork) -> float:
        """The loss of a network on the task's points, whatever their cells."""
        return value(self.loss, network, self.family, self.data)

    def floor(self) -> float:
        """What no network's loss on the task's points is below."""
        return least_value(self.loss, self.family, self.data)

    def clock(self) -> Deadline:
        """The end of the task, if it is begun now."""
        return Deadline(self.time_limit)

    def admits(self, network: StepNetwork) -> bool:
        """Whether a network is one of the task's: hard losses want every point fitted."""
        if not self.loss.hard:
            return True
        return not ((network.scores(self.data.x) >= 0) != (self.data.bits > 0.5)).any()


@dataclass
class Training:
    """What a method found.

    Attributes
    ----------
    network : StepNetwork or None
    status : str
        As :class:`~pyomo_relu.training.solve.Solve`; 'optimal' only where it is proved
        that no network of the family has a smaller loss on the data.
    loss, bound : float
        Of the network on the training data, and a lower bound for all networks.
    compared : int
        Activations found to be as the programs say.
    history : list of dict
        One entry for each program.
    """

    network: StepNetwork | None
    status: str
    loss: float
    bound: float
    compared: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


def dead_inputs(family: Family, x: np.ndarray) -> np.ndarray:
    """Inputs whose weights may be fixed to 0: always 0, or replaced by a free bias."""
    if family.thresholds == "neuron" and family.bias_bound is None:
        return (x == x[:1]).all(axis=0)
    return (x == 0).all(axis=0)


def record(history: list, found: Solve, **more: Any) -> None:
    """Append what a program found."""
    entry = {"status": found.status, "objective": found.objective, "bound": found.bound}
    history.append({**entry, "seconds": found.seconds, **more})


def exact(task: Task, start: StepNetwork | None = None, title: str = "exact") -> Training:
    """One mixed-integer program over all weights and activations."""
    clock = task.clock()
    if not task.family.hidden and task.family.outputs > 1 and separates(task):
        return by_class(task, start)
    start = start if start is not None and task.admits(start) else None
    found = Solve(None, "nothing", np.inf, -np.inf, 0.0)
    history: list[dict[str, Any]] = []
    try:
        dead = dead_inputs(task.family, task.data.x)
        mip = task.loss.mip(task.family, task.data, dead=dead, check=clock.check)
        first = start
        if rounding.applies(mip):
            first = better_start(task, mip, start, START * clock.left())
        if first is not None and task.admits(first):
            start = first
        found = solve(mip, task.engine, time_limit=clock.left(), start=first, title=title)
        record(history, found)
    except TimeUp:
        pass  # there is the start
    return _kept(task, found, start, history, clock)


def _kept(
    task: Task, found: Solve, start: StepNetwork | None, history: list, clock: Deadline
) -> Training:
    """The network of a program, or the start where that is better or all there is."""
    network, status, floor = found.network, found.status, task.floor()
    bound = max(found.bound, floor) if np.isfinite(found.bound) else floor
    loss = np.inf if network is None else task.value(network)
    if start is not None and (network is None or task.value(start) < loss):
        if network is None:
            status = "time_limit" if clock.expired() else "feasible"
        network, loss = start, task.value(start)
    if network is None:
        return Training(None, status, np.inf, bound, 0, history)
    return Training(network, status, loss, min(bound, loss), found.compared, history)


def settled(task: Task, found: Training) -> Training:
    """What a method found, with loss and bound on all points of a task.

    A method may have seen some of them only: the bound then holds for all, as no point's
    loss is negative, but an optimum is none of the whole.
    """
    assert found.network is not None
    loss, floor = task.value(found.network), task.floor()
    bound = max(found.bound, floor) if np.isfinite(found.bound) else floor
    status = found.status
    if status == "optimal" and loss > found.loss + NEAR * max(1.0, abs(loss)):
        status = "feasible"
    return replace(found, loss=loss, bound=min(bound, loss), status=status)


def better_start(
    task: Task, mip: TrainingMIP, start: StepNetwork | None, seconds: float = np.inf
) -> StepNetwork | None:
    """The start, or the rounded relaxation of the program where its loss is smaller."""
    found = rounding.rounded(mip, seconds)
    if found is None or (start is not None and task.value(start) <= task.value(found)):
        return start
    return found


def separates(task: Task) -> bool:
    """Whether the program without hidden layers falls apart into one for each class."""
    common = task.loss.name == "max_margin" and task.loss.margins == "common"
    return (
        task.family.thresholds != "layer"
        and task.loss.name not in ("zero_one", "max_correct")
        and not common
    )


def by_class(task: Task, start: StepNetwork | None = None) -> Training:
    """A network without hidden layers, one program for each output.

    The range of the scores that margins are relative to depends on the inputs alone,
    so the sum of the optima is the optimum.
    """
    clock, parts = task.clock(), []
    history: list[dict[str, Any]] = []
    for c in range(task.family.outputs):
        left = clock.left() / (task.family.outputs - c)
        data = merged(
            np.repeat(task.data.x, task.data.count.astype(int), axis=0),
            np.repeat(task.data.bits[:, c : c + 1], task.data.count.astype(int), axis=0),
        )
        part = replace(
            task, family=replace(task.family, outputs=1), data=data, time_limit=left
        )
        first = None
        if start is not None:
            first = StepNetwork(
                (start.weights[0][c : c + 1],),
                (start.biases[0][c : c + 1],),
                start.activation,
            )
        parts.append(exact(part, first, title=f"class {c}"))
        history += [{**entry, "class": c} for entry in parts[-1].history]
    bound = sum(p.bound for p in parts)
    compared = sum(p.compared for p in parts)
    missing = [p.status for p in parts if p.network is None]
    if missing:
        status = "infeasible" if "infeasible" in missing else "nothing"
        return Training(None, status, np.inf, bound, compared, history)
    networks = [p.network for p in parts if p.network is not None]
    network = StepNetwork(
        (np.vstack([n.weights[0] for n in networks]),),
        (np.concatenate([n.biases[0] for n in networks]),),
        task.family.activation,
    )
    ranks = ["optimal", "time_limit", "feasible"]
    status = max((p.status for p in parts), key=ranks.index)
    return Training(network, status, task.value(network), bound, compared, history)


def constant_network(task: Task) -> StepNetwork:
    """Zero weights; biases that keep every neuron on and give the most frequent bits.

    Zero weights everywhere are a network of every family with thresholds; hidden
    neurons are far from 0, so that they are so around every point too.
    """
    family = task.family
    sizes = family.sizes(task.data.x.shape[1])
    weights = [np.zeros((o, i)) for i, o in zip(sizes, sizes[1:])]
    limit = 1.0 if family.bias_bound is None else family.bias_bound
    share = task.data.count @ task.data.bits / task.data.count.sum()
    biases = [np.full(o, limit if family.thresholds != "none" else 0.0) for o in sizes[1:]]
    bits = share >= 0.5
    if family.outputs > 1:  # one class, whose bit alone is on
        bits = np.arange(family.outputs) == share.argmax()
    if family.thresholds == "neuron":
        biases[-1] = np.where(bits, limit, -limit)
    return StepNetwork(tuple(weights), tuple(biases), family.activation)


def random_network(task: Task) -> StepNetwork:
    """Random weights of the family; biases that split the data at random points."""
    family, rng = task.family, task.rng
    sizes = family.sizes(task.data.x.shape[1])
    values, weights, biases = task.data.x, [], []
    network = None
    for i, o in zip(sizes, sizes[1:]):
        if family.integer:
            p = int(family.bound)
            w = rng.integers(-p, p, (o, i), endpoint=True).astype(float)
        else:
            w = rng.uniform(-family.bound, family.bound, (o, i))
        pre = values @ w.T
        b = -np.quantile(pre, rng.uniform(0.2, 0.8, o), axis=0).diagonal()
        if family.thresholds == "none":
            b = np.zeros(o)
        elif family.thresholds == "layer":
            b = np.full(o, b.mean())
        limit = family.bias_bound
        if limit is None and family.thresholds == "layer":
            limit = family.bound
        if limit is not None:
            b = np.clip(b, -limit, limit)
        if family.integer_bias or (family.integer and (pre == np.round(pre)).all()):
            b = np.round(b)
        weights.append(w)
        biases.append(b)
        network = StepNetwork(tuple(weights), tuple(biases), family.activation)
        values = network.activate(pre + b)
    return network  # type: ignore[return-value]


def local_search(
    task: Task, start: StepNetwork | None = None, rounds: int = 100
) -> Training:
    """Alternate over the layers: one is trained exactly, the others are given.

    A layer that is given is evaluated where its inputs are known, and is linear in the
    binaries where they aren't, so no program has a product. Each contains the network
    that it starts from, and the loss never rises.

    Source: Kurtz and Bah, arXiv 2110.11382 (one hidden layer); here for any depth.
    """
    only_soft(task.loss, "local_search")
    clock, family = task.clock(), task.family
    network = random_network(task) if start is None else start
    best, loss = network, task.value(network)
    history: list[dict[str, Any]] = []
    compared, unchanged = 0, 0
    dead = dead_inputs(family, task.data.x)
    floor = task.floor()
    for turn in range(rounds * family.depth):
        k = turn % family.depth
        if clock.expired() or loss <= floor + NEAR or unchanged >= family.depth:
            break
        fixed = {
            j: (network.weights[j], network.biases[j])
            for j in range(family.depth)
            if j != k
        }
        try:
            mip = task.loss.mip(
                family, task.data, fixed=fixed, dead=dead, check=clock.check
            )
        except TimeUp:
            break
        found = solve(
            mip,
            task.engine,
            time_limit=0.5 * clock.left(),
            start=network,
            title=f"layer {k + 1}",
        )
        compared += found.compared
        better = found.network is not None and task.value(found.network) < loss - NEAR
        if better:
            network = best = found.network  # type: ignore[assignment]
            loss = task.value(best)
        unchanged = 0 if better else unchanged + 1
        record(history, found, layer=k, loss=loss)
    if start is None:  # a random network may be worse than none that was looked for
        constant = constant_network(task)
        if task.value(constant) < loss:
            best, loss = constant, task.value(constant)
    if loss <= floor + NEAR:
        status = "optimal"
    else:
        status = "time_limit" if clock.expired() else "feasible"
    return Training(best, status, loss, min(floor, loss), compared, history)


def only_soft(loss: Loss, method: str) -> None:
    """Refuse the losses that need every point fitted."""
    if loss.hard:
        raise ValueError(
            f"method='{method}' has no programs for loss='{loss.name}', which must fit "
            "every point; use method='exact' or 'hybrid', or another loss."
        )
