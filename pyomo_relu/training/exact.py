"""Training by one program, or by one for each class."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from pyomo_relu.base.deadline import Deadline, TimeUp
from pyomo_relu.steps.step_network import StepNetwork, stack
from pyomo_relu.training import rounding
from pyomo_relu.training.encode import TrainingMIP
from pyomo_relu.training.family import merged
from pyomo_relu.training.solve import Solve, solve
from pyomo_relu.training.task import Task, Training, record

#: The share of the time limit that the start from the relaxation may take. It was chosen
#: by hand.
START = 0.5


def exact(task: Task, start: StepNetwork | None = None, title: str = "exact") -> Training:
    """One mixed-integer program over all weights and activations."""
    clock = task.clock()
    if not task.family.hidden and task.family.outputs > 1 and separates(task):
        return by_class(task, start)
    start = start if start is not None and task.admits(start) else None
    found = Solve(None, "nothing", np.inf, -np.inf, 0.0)
    history: list[dict[str, Any]] = []
    try:
        mip = task.program(clock)
        first = start
        if rounding.applies(mip):
            first = better_start(task, mip, start, clock.part(START))
        if first is not None and task.admits(first):
            start = first
        found = solve(mip, task.engine, time_limit=clock.limit, start=first, title=title)
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


def better_start(
    task: Task, mip: TrainingMIP, start: StepNetwork | None, deadline: Deadline
) -> StepNetwork | None:
    """The start, or the rounded relaxation of the program where its loss is smaller."""
    found = rounding.rounded(mip, deadline)
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
    data = task.data
    history: list[dict[str, Any]] = []
    for c in range(task.family.outputs):
        part = replace(
            task,
            family=replace(task.family, outputs=1),
            data=merged(data.x, data.bits[:, c : c + 1], weight=data.count),
            time_limit=clock.part(1.0 / (task.family.outputs - c)),
        )
        first = None if start is None else start.neuron(0, c)
        parts.append(exact(part, first, title=f"class {c}"))
        history += [{**entry, "class": c} for entry in parts[-1].history]
    bound = sum(p.bound for p in parts)
    compared = sum(p.compared for p in parts)
    missing = [p.status for p in parts if p.network is None]
    if missing:
        status = "infeasible" if "infeasible" in missing else "nothing"
        return Training(None, status, np.inf, bound, compared, history)
    network = stack([p.network for p in parts if p.network is not None])
    ranks = ["optimal", "time_limit", "feasible"]
    status = max((p.status for p in parts), key=ranks.index)
    return Training(network, status, task.value(network), bound, compared, history)
