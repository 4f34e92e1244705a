"""The three stages in which a network of two classes is trained.

Source: Bernardelli et al., INFORMS Journal on Computing 37(3), 2025 (BeMi).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pyomo_relu.base.deadline import Deadline, TimeUp
from pyomo_relu.steps.step_network import StepNetwork
from pyomo_relu.training import rounding
from pyomo_relu.training.encode import TrainingMIP
from pyomo_relu.training.family import Data, merged
from pyomo_relu.training.local_search import local_search
from pyomo_relu.training.loss_rows import program, write_sparsest
from pyomo_relu.training.losses import REACHED, Loss
from pyomo_relu.training.solve import Solve, solve
from pyomo_relu.training.task import Task, constant_network, dead_inputs

#: Stages by their names in the paper.
STAGES = ("sat_margin", "max_margin", "min_nonzero")


@dataclass(frozen=True)
class PairSettings:
    """The numbers that steer the stages; chosen by hand.

    Attributes
    ----------
    search : float
        The share of the first stage that local search may take.
    start : float
        The share of the time limit that a start from the relaxation may take. It takes a
        fraction of a second by itself and is worth more than what branch-and-bound finds
        in a stage, so no stage cuts it short.
    entries, least_search : int, float
        A widest margin that was rounded from the relaxation of so many numbers that aren't
        0, or more, is searched further in no fewer seconds than this. On pairs of MNIST with
        40 images of each class (13,000 entries) three seconds of branch-and-bound gained
        0.6 % of a margin; and HiGHS 1.16 doesn't look at its limit within a round of cuts, which
        took 11 CPU seconds of a limit of two, that other pairs lacked then.
    """

    search: float = 0.5
    start: float = 0.5
    entries: int = 5000
    least_search: float = 10.0


SETTINGS = PairSettings()


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
    clock: Deadline
    stages: list[dict[str, Any]] = field(default_factory=list)
    left: float = 0.0
    kept: np.ndarray | None = None

    def rounded(self, mip: TrainingMIP) -> StepNetwork | None:
        """A start from the relaxation of a program."""
        return rounding.rounded(mip, self.clock.part(SETTINGS.start))

    def solve(self, mip: TrainingMIP, name: str, seconds: float) -> None:
        """Solve a stage's program from the present network, and keep what is found.

        What is left of earlier stages is added to its seconds.
        """
        self.left += seconds
        begun = Deadline()
        found = solve(
            mip,
            self.task.engine,
            time_limit=min(self.left, self.clock.left()),
            start=self.network,
            title=name,
        )
        self.left = max(self.left - begun.elapsed, 0.0)
        if found.network is not None:
            self.network = found.network
        self.record(found, name)

    def search(self, mip: TrainingMIP, name: str, seconds: float) -> None:
        """Solve the program of the widest margin, where that is worth while."""
        large = np.count_nonzero(mip.data.x) >= SETTINGS.entries
        limit = min(self.left + seconds, self.clock.left())
        margin = _margin(self.network, mip.data) if rounding.applies(mip) else 0.0
        if not large or limit >= SETTINGS.least_search or margin <= 0:
            self.solve(mip, name, seconds)
            return
        self.left += seconds
        self.record(Solve(self.network, "time_limit", -margin, -math.inf, 0.0), name)

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
    task: Task,
    limits: tuple[float, float, float],
    margin_kept: float = 1.0,
    start: StepNetwork | None = None,
) -> Pair:
    """The three stages, each begun with the network of the one before.

    First as many points as possible get their whole margin; then, for those points
    alone, the sum over the neurons of their smallest margins is made large; last, with
    the share ``margin_kept`` of these margins, as few weights as possible are used.
    The limits are for the solver; time that a stage leaves goes to the next one. Single
    neurons start from the relaxation of each program, rounded. The time limit of the task
    is for all of it; the network so far is kept when it is over. The first one is
    ``start``, or a constant.
    """
    first = constant_network(task) if start is None else start
    run = _Run(task, first, task.clock())
    try:
        _stages(run, limits, margin_kept)
    except TimeUp:
        pass  # there is the network so far
    kept = confident(task, run.network) if run.kept is None else run.kept
    return Pair(run.network, int(task.data.count[kept].sum()), tuple(run.stages))


def _stages(run: _Run, limits: tuple[float, float, float], margin_kept: float) -> None:
    run.clock.check()
    task, dead = run.task, dead_inputs(run.task.family, run.task.data.x)
    wide = _certain(run, limits[0], dead)
    kept = run.kept = confident(task, run.network)
    if not kept.any():
        return
    data = task.data
    if wide is None:
        data = merged(task.data.x[kept], task.data.bits[kept])
        # All inputs that vary over all points are used, so that nothing else is assumed.
        wide = _wide_program(run, data, dead)
    if not kept.all() and rounding.applies(wide):
        wider = run.rounded(wide)
        if wider is not None and _margin(wider, data) > _margin(run.network, data):
            run.network = wider
    run.search(wide, STAGES[1], limits[1])
    sparse = _sparse_program(run, data, dead, margin_kept)
    if rounding.applies(sparse):
        run.network = _lighter(run, sparse)
    run.solve(sparse, STAGES[2], limits[2])


def _wide_program(run: _Run, data: Data, dead: np.ndarray) -> TrainingMIP:
    loss = Loss("max_margin", margins="neuron")
    return program(loss, run.task.family, data, dead=dead, deadline=run.clock)


def _certain(run: _Run, seconds: float, dead: np.ndarray) -> TrainingMIP | None:
    """The first stage; the program of the second one where that has all points."""
    task = run.task
    if task.family.hidden:
        # Few solvers find a network with hidden layers by themselves.
        limit = min(SETTINGS.search * seconds, run.clock.left())
        half = replace(task, loss=Loss("sat_margin"), time_limit=limit)
        run.network = local_search(half).network or run.network
    else:
        wide = _wide_program(run, task.data, dead)
        begun = Deadline()
        network = run.rounded(wide) if rounding.applies(wide) else None
        if network is not None and confident(task, network).all():
            # Every point has its margin: no network can have more of them.
            run.network = network
            run.left += seconds
            run.record(Solve(network, "optimal", 0.0, 0.0, begun.elapsed), STAGES[0])
            return wide
    loss = Loss("sat_margin", task.loss.margin)
    first = program(loss, task.family, task.data, dead=dead, deadline=run.clock)
    if rounding.applies(first):
        network = run.rounded(first)
        if network is not None and task.value(network) < task.value(run.network):
            run.network = network
    run.solve(first, STAGES[0], seconds)
    return None


def _sparse_program(
    run: _Run, data: Data, dead: np.ndarray, margin_kept: float
) -> TrainingMIP:
    mip = TrainingMIP(
        run.task.family, data, margins="neuron", dead=dead, deadline=run.clock
    )
    floors = {
        k: margin_kept * np.abs(pre).min(axis=0)
        for k, pre in enumerate(run.network.pre_activations(data.x))
    }
    write_sparsest(mip, floors)
    return mip


def _lighter(run: _Run, mip: TrainingMIP) -> StepNetwork:
    """A network with few weights from the relaxation, or this one with fewer."""
    found = run.rounded(mip)
    return rounding.fewer_weights(mip, run.network) if found is None else found


def _margin(network: StepNetwork, data: Data) -> float:
    """The smallest signed score."""
    return float(((2.0 * data.bits - 1.0) * network.scores(data.x)).min())


def confident(task: Task, network: StepNetwork) -> np.ndarray:
    """Points whose score has its whole margin on the right side."""
    signed = (2.0 * task.data.bits - 1.0) * network.scores(task.data.x)
    target = Loss("sat_margin", task.loss.margin).target(task.family, task.data)
    return (signed >= target - REACHED).all(axis=1)
