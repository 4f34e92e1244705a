"""Training that alternates over the layers, and over their neurons, the others given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pyomo_relu.base.deadline import Deadline, TimeUp
from pyomo_relu.base.progress import progress
from pyomo_relu.steps.step_network import StepNetwork
from pyomo_relu.training import one_neuron
from pyomo_relu.training.solve import Solve, solve
from pyomo_relu.training.task import (
    NEAR,
    Task,
    Training,
    constant_network,
    dead_inputs,
    ended,
    only_soft,
    random_network,
    record,
)


@dataclass(frozen=True)
class LocalSearchSettings:
    """The numbers that steer the search; both were chosen by hand.

    Attributes
    ----------
    share : float
        The share of the time left that one layer's program may take.
    entries : float
        The most numbers in the sums of a layer's program. Pyomo writes so many in about
        three seconds on a busy machine. Beyond it a layer is trained by changes of
        single weights alone.
    """

    share: float = 0.5
    entries: float = 3e5


SETTINGS = LocalSearchSettings()


def local_search(
    task: Task, start: StepNetwork | None = None, rounds: int = 100
) -> Training:
    """Alternate over the layers: one is trained exactly, the others are given.

    A layer that is given is evaluated where its inputs are known, and is linear in the
    binaries where they aren't, so no program has a product. Each contains the network
    that it starts from, and the loss never rises. Before each program the neurons of its
    layer are trained one by one (:mod:`~pyomo_relu.training.one_neuron`); layers that are
    too large for a program have only that.

    Source: Kurtz and Bah, arXiv 2110.11382 (one hidden layer, programs only); here for any
    depth.
    """
    only_soft(task.loss, "local_search")
    network = random_network(task) if start is None else start
    search = _Search(task, network)
    depth, unchanged = task.family.depth, 0
    with progress(None, "local search", "layer") as bar:
        for turn in range(rounds * depth):
            if search.over() or unchanged >= depth:
                break
            before = search.loss
            try:
                search.layer(turn % depth)
            except TimeUp:
                break
            unchanged = 0 if search.loss < before - NEAR else unchanged + 1
            bar.update(1)
            bar.set_postfix(loss=f"{search.loss:g}")
    network = search.network
    if not task.admits(network):  # no program made a start of it
        network = constant_network(task)
    elif start is None:  # a random network may be worse than none that was looked for
        network = min((network, constant_network(task)), key=task.value)
    late = search.clock.expired()
    return ended(task, network, late, search.history, search.compared)


class _Search:
    """The network so far, and how one of its layers is trained."""

    def __init__(self, task: Task, network: StepNetwork) -> None:
        self.task, self.network, self.clock = task, network, task.clock()
        self.loss = task.value(network) if task.admits(network) else np.inf
        self.floor = task.floor()
        self.history: list[dict[str, Any]] = []
        self.compared = 0
        self.dead = dead_inputs(task.family, task.data.x)

    def over(self) -> bool:
        """Whether nothing is left to do, or no time."""
        return self.clock.expired() or self.loss <= self.floor + NEAR

    def layer(self, k: int) -> None:
        """Train a layer with all others given."""
        if one_neuron.applies(self.task) and one_neuron.trainable(self.task, k):
            self._neurons(k)
        sizes = self.task.family.sizes(int((~self.dead).sum()))
        if not self.over() and len(self.task.data.x) * sizes[k] * sizes[k + 1] <= (
            SETTINGS.entries
        ):
            self._program(k)

    def _take(self, network: StepNetwork) -> bool:
        """Keep a network that is better."""
        loss = self.task.value(network)
        if not loss < self.loss - NEAR or not self.task.admits(network):
            return False
        self.network, self.loss = network, loss
        return True

    def _neurons(self, k: int) -> None:
        begun = Deadline()
        count, some = self.task.family.sizes(0)[k + 1], True
        while some and not self.over():
            some = False
            for j in self.task.rng.permutation(count).tolist():
                some |= self._neuron(k, j, self.clock)
        found = Solve(self.network, "feasible", self.loss, self.floor, begun.elapsed)
        record(self.history, found, layer=k, loss=self.loss, neurons=True)

    def _neuron(self, k: int, j: int, clock: Deadline) -> bool:
        points = one_neuron.sides(self.task, self.network, k, j)
        task = one_neuron.alone(self.task, points)
        now = self.network.neuron(k, j)
        better = one_neuron.changed(task, now, clock)
        if better is now:
            return False
        return self._take(one_neuron.with_neuron(self.network, k, j, better))

    def _program(self, k: int) -> None:
        network = self.network
        layers = enumerate(zip(network.weights, network.biases))
        fixed = {j: layer for j, layer in layers if j != k}
        mip = self.task.program(self.clock, dead=self.dead, fixed=fixed)
        found = solve(
            mip,
            self.task.engine,
            time_limit=self.clock.part(SETTINGS.share).limit,
            start=network,
            title=f"layer {k + 1}",
        )
        self.compared += found.compared
        if found.network is not None:
            self._take(found.network)
        record(self.history, found, layer=k, loss=self.loss)
