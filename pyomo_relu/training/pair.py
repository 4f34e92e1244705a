"""The three stages in which a network of two classes is trained.

Source: Bernardelli et al., INFORMS Journal on Computing 37(3), 2025 (BeMi).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pyomo_relu.training import rounding
from pyomo_relu.training.encode import TrainingMIP
from pyomo_relu.training.exact import Task, constant_network, dead_inputs, local_search
from pyomo_relu.training.family import merged
from pyomo_relu.training.losses import Loss, out_bound, write_sparsest
from pyomo_relu.training.solve import Solve, solve
from pyomo_relu.training.step_network import StepNetwork

#: Stages by their names in the paper.
STAGES = ("sat_margin", "max_margin", "min_nonzero")

#: Share of the first stage that local search may take.
SEARCH = 0.5

#: Most seconds of a start from the relaxation. It takes a fraction of one by itself and
#: is worth more than what branch-and-bound finds in a stage, so no stage cuts it short.
START = 10.0


@dataclass(frozen=True)
class Pair:
    """The network of two classes and what its three stages found.

    Attributes
    ----------
    network : StepNetwork
        One score; at least 0 for the second class.
    kept : int
        Training points that its first stage got right with the whole margin.
    stages : tuple of dict
        Status, objective, bound, seconds and non-zero weights of each stage.
    """

    network: StepNetwork
    kept: int
    stages: tuple[dict[str, Any], ...]


@dataclass
class _Run:
    """The network so far, the stages so far, and the time that is left."""

    task: Task
    network: StepNetwork
    stages: list[dict[str, Any]] = field(default_factory=list)
    left: float = 0.0

    def solve(self, mip: TrainingMIP, name: str, seconds: float) -> None:
        """Solve a stage's program from the present network, and keep what is found.

        What is left of earlier stages is added to its seconds.
        """
        self.left += seconds
        begin = time.perf_counter()
        found = solve(
            mip, self.task.engine, time_limit=self.left, start=self.network, title=name
        )
        self.left = max(self.left - (time.perf_counter() - begin), 0.0)
        if found.network is not None:
            self.network = found.network
        self.record(found, name)

    def record(self, found: Solve, name: str) -> None:
        """Write down a stage."""
        self.stages.append(
            {
                "stage": name,
                "status": found.status,
                "objective": found.objective,
                "bound": found.bound,
                "seconds": found.seconds,
                "nonzeros": self.network.nonzeros()[0],
            }
        )


def train_pair(
    task: Task, limits: tuple[float, float, float], margin_kept: float = 1.0
) -> Pair:
    """The three stages, each begun with the network of the one before.

    First as many points as possible get their whole margin; then, for those points
    alone, the sum over the neurons of their smallest margins is made large; last, with
    the share ``margin_kept`` of these margins, as few weights as possible are used.
    The limits are for the solver; time that a stage leaves goes to the next one. Single
    neurons start from the relaxation of each program, rounded.
    """
    dead = dead_inputs(task.family, task.data.x)
    run = _Run(task, constant_network(task))
    wide = _certain(run, limits[0], dead)
    kept = confident(task, run.network)
    if not kept.any():
        return Pair(run.network, 0, tuple(run.stages))
    data = task.data
    if wide is None:
        data = merged(task.data.x[kept], task.data.bits[kept])
        # All inputs that vary over all points are used, so that nothing else is assumed.
        wide = _margin_loss().mip(task.family, data, dead=dead)
    if not kept.all() and rounding.applies(wide):
        wider = rounding.rounded(wide, START)
        if wider is not None and _margin(wider, data) > _margin(run.network, data):
            run.network = wider
    run.solve(wide, STAGES[1], limits[1])
    sparse = _sparse_program(task, data, dead, run.network, margin_kept)
    if rounding.applies(sparse):
        run.network = _lighter(sparse, run.network)
    run.solve(sparse, STAGES[2], limits[2])
    return Pair(run.network, int(task.data.count[kept].sum()), tuple(run.stages))


def _margin_loss() -> Loss:
    return Loss("max_margin", margins="neuron")


def _certain(run: _Run, seconds: float, dead: np.ndarray) -> TrainingMIP | None:
    """The first stage; the program of the second one where that has all points."""
    task = run.task
    if task.family.hidden:
        # Few solvers find a network with hidden layers by themselves.
        half = replace(task, loss=Loss("sat_margin"), time_limit=SEARCH * seconds)
        run.network = local_search(half).network or run.network
    else:
        wide = _margin_loss().mip(task.family, task.data, dead=dead)
        if rounding.applies(wide):
            begin = time.perf_counter()
            network = rounding.rounded(wide, START)
            if network is not None and confident(task, network).all():
                # Every point has its margin: no network can have more of them.
                run.network = network
                took = time.perf_counter() - begin
                run.left += seconds
                run.record(Solve(network, "optimal", 0.0, 0.0, took), STAGES[0])
                return wide
    first = Loss("sat_margin", task.loss.margin).mip(task.family, task.data, dead=dead)
    if rounding.applies(first):
        network = rounding.rounded(first, START)
        if network is not None and task.value(network) < task.value(run.network):
            run.network = network
    run.solve(first, STAGES[0], seconds)
    return None


def _sparse_program(task: Task, data, dead, network, margin_kept: float) -> TrainingMIP:
    mip = TrainingMIP(task.family, data, margins="neuron", dead=dead)
    floors = {
        k: margin_kept * np.abs(pre).min(axis=0)
        for k, pre in enumerate(network.pre_activations(data.x))
    }
    write_sparsest(mip, floors)
    return mip


def _lighter(mip: TrainingMIP, network: StepNetwork) -> StepNetwork:
    """A network with few weights from the relaxation, or this one with fewer."""
    found = rounding.rounded(mip, START)
    return rounding.fewer_weights(mip, network) if found is None else found


def _margin(network: StepNetwork, data) -> float:
    """The smallest signed score."""
    return float(((2.0 * data.bits - 1.0) * network.scores(data.x)).min())


def confident(task: Task, network: StepNetwork) -> np.ndarray:
    """Points whose score has its whole margin on the right side."""
    signed = (2.0 * task.data.bits - 1.0) * network.scores(task.data.x)
    target = 0.5 * task.loss.margin * out_bound(task.family, task.data)
    return (signed >= target - 1e-9).all(axis=1)
