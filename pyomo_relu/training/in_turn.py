"""Methods one after another, each from the best network so far, which is never lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.steps.step_network import StepNetwork
from pyomo_relu.training.exact import exact
from pyomo_relu.training.hybrid import centred, hybrid, refine
from pyomo_relu.training.local_search import local_search
from pyomo_relu.training.losses import BIT_LOSSES
from pyomo_relu.training.ste import straight_through
from pyomo_relu.training.task import (
    NEAR,
    Task,
    Training,
    accuracy,
    constant_network,
    ended,
)

#: How a method trains a task from a network, or from its own start.
Method = Callable[[Task, StepNetwork | None], Training]


@dataclass(frozen=True)
class TurnSettings:
    """How the time is shared; both numbers were chosen by hand.

    Attributes
    ----------
    start : float
        The share of the time left that each method before the last one may take.
        Gradients need a second for a thousand points and rarely meet this limit.
    widen : float
        The share of a method's time that is kept for widening margins after it.
    """

    start: float = 0.3
    widen: float = 0.2


SETTINGS = TurnSettings()


def _exact(task: Task, start: StepNetwork | None) -> Training:
    if start is None and not task.loss.hard:
        start = constant_network(task)
    return exact(task, start)


#: Those that train any points, by the names of the option ``method``.
STARTED: Mapping[str, Method] = {
    "exact": _exact,
    "local_search": local_search,
    "hybrid": hybrid,
    "ste": straight_through,
}


#: Those that widen margins themselves.
WIDENING = ("data_splitting", "hybrid")


def automatic(task: Task) -> tuple[str, ...]:
    """The methods before the one that is asked for, unless others are given.

    Gradients, where they have the loss and the family and there are hidden neurons:
    without these the relaxation is the better start.
    """
    soft = not task.loss.hard and task.family.robust is None
    return ("ste",) if soft and task.family.hidden else ()


def widens(task: Task) -> bool:
    """Whether wider margins leave the loss as it is."""
    return task.loss.name in BIT_LOSSES and not (
        task.loss.regularization or task.loss.compression
    )


def in_turn(
    task: Task,
    methods: Sequence[tuple[str, Method]],
    start: StepNetwork | None = None,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
    widen: bool = True,
) -> Training:
    """Train by several methods, each from the best network of those before.

    Parameters
    ----------
    task : Task
    methods : sequence of (str, method)
    start : StepNetwork, optional
        The network of the first one; a better one is returned, or this.
    validation : (x, bits), optional
        Chooses among the networks. Without it the loss on the task's points does, then
        their share of wrong classes.
    widen : bool
        Whether, after each method, the neurons get their largest margins with all
        activations as they are; for losses on bits.
    """
    turns = _Turns(task, task.clock(), start, validation, widen and widens(task))
    for k, (name, method) in enumerate(methods):
        if turns.perfect():
            break
        share = 1.0 if k == len(methods) - 1 else SETTINGS.start
        turns.train(name, method, turns.clock.part(share))
    return turns.training()


class _Turns:
    """The best network so far and what was found of the loss."""

    def __init__(
        self,
        task: Task,
        clock: Deadline,
        start: StepNetwork | None,
        validation: tuple[np.ndarray, np.ndarray] | None,
        widen: bool,
    ) -> None:
        self.task, self.clock, self.widen = task, clock, widen
        self.validation = validation
        self.best = start if start is not None and task.admits(start) else None
        self.found: Training | None = None
        self.bound, self.compared = -np.inf, 0
        self.history: list[dict[str, Any]] = []

    def _rank(self, network: StepNetwork) -> tuple[float, ...]:
        rank = self.task.rank(network)
        if self.validation is None:
            return rank
        return (-accuracy(network, *self.validation), *rank)

    def _better(self, network: StepNetwork) -> bool:
        """Whether a network isn't worse than the best so far."""
        return self.best is None or self._rank(network) <= self._rank(self.best)

    def perfect(self) -> bool:
        """Whether no network can be better."""
        if self.best is None or self.task.loss.hard or self.task.loss.regularization:
            return False
        rank = self._rank(self.best)
        chosen = self.validation is None or rank[0] <= -1.0
        return chosen and rank[-2] <= self.task.floor() + NEAR

    def train(self, name: str, method: Method, clock: Deadline) -> None:
        """Train by a method until a time, and keep what is better."""
        widen = self.widen and name not in WIDENING
        part = clock.part(1.0 - SETTINGS.widen) if widen else clock
        start = None if self.best is None else centred(self.task, self.best)
        found = method(replace(self.task, time_limit=part), start)
        self.found = found
        self.bound = max(self.bound, found.bound)
        self.compared += found.compared
        self.history += [{"method": name, **entry} for entry in found.history]
        if found.network is None:
            return
        if self._better(found.network):
            self.best = found.network
        if widen and not clock.expired():
            self._widen(name, clock)

    def _widen(self, name: str, clock: Deadline) -> None:
        assert self.best is not None  # a method has just found one
        network = centred(self.task, self.best)
        wider = refine(replace(self.task, time_limit=clock), network)
        self.compared += wider.compared
        entries = [{**entry, "method": f"{name}, margins"} for entry in wider.history]
        self.history += entries
        if wider.network is not None and self._better(wider.network):
            self.best = wider.network

    def training(self) -> Training:
        """The best network, with what the last method said of it."""
        if self.found is None:  # the start was perfect
            assert self.best is not None
            return ended(self.task, self.best, False, [])
        if self.best is None:
            return replace(self.found, compared=self.compared, history=self.history)
        loss = self.task.value(self.best)
        status = self.found.status
        if status == "optimal" and loss > self.found.loss + NEAR * max(1.0, abs(loss)):
            status = "feasible"
        if status in ("infeasible", "nothing"):
            status = "time_limit" if self.clock.expired() else "feasible"
        return Training(
            self.best, status, loss, min(self.bound, loss), self.compared, self.history
        )
