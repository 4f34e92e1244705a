"""`Task`: what is trained on what, and `Training`: what a method found."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pyomo_relu.base.deadline import NEVER, Deadline
from pyomo_relu.steps.step_network import StepNetwork, activations_of
from pyomo_relu.training.encode import TrainingMIP
from pyomo_relu.training.family import Data, Family
from pyomo_relu.training.loss_rows import program
from pyomo_relu.training.losses import Loss, least_value, value
from pyomo_relu.training.solve import Engine, Solve

#: A loss this near to the least possible one, relative to its size, counts as that; an
#: improvement by less is none. Solvers leave as much. It was chosen by hand.
NEAR = 1e-9

#: The least and the largest share of the points on which a random neuron is off.
SHARES = 0.2, 0.8


@dataclass(frozen=True)
class Task:
    """What is trained, on what, with what.

    Attributes
    ----------
    family : Family
    data : Data
    loss : Loss
    engine : Engine
    time_limit : float, Deadline or None
        Seconds for all of it, the writing of programs and the starts included, or the end
        of it, which may be one in CPU time too.
    rng : Generator
    """

    family: Family
    data: Data
    loss: Loss
    engine: Engine
    time_limit: float | Deadline | None
    rng: np.random.Generator = field(default_factory=np.random.default_rng)

    def value(self, network: StepNetwork) -> float:
        """The loss of a network on the task's points, whatever their cells."""
        return value(self.loss, network, self.family, self.data)

    def floor(self) -> float:
        """What no network's loss on the task's points is below."""
        return least_value(self.loss, self.family, self.data)

    def clock(self) -> Deadline:
        """The end of the task, if it is begun now."""
        limit = self.time_limit
        return limit if isinstance(limit, Deadline) else Deadline(limit)

    def rank(self, network: StepNetwork) -> tuple[float, float]:
        """Of two networks the better one has the smaller rank.

        The loss counts first. With several outputs two networks with the same bits may
        still differ in their largest scores, so the share of wrong classes counts then.
        """
        wrong = 1.0 - accuracy(network, self.data.x, self.data.bits, self.data.count)
        return self.value(network), wrong

    def program(
        self,
        deadline: Deadline = NEVER,
        data: Data | None = None,
        dead: np.ndarray | None = None,
        **options: Any,
    ) -> TrainingMIP:
        """The program of the task, or on other data; ``options`` of ``TrainingMIP``.

        Inputs whose weights may be 0 are found among the task's points unless given.
        """
        if dead is None:
            dead = dead_inputs(self.family, self.data.x)
        return program(
            self.loss,
            self.family,
            data or self.data,
            dead=dead,
            deadline=deadline,
            **options,
        )

    def admits(self, network: StepNetwork) -> bool:
        """Whether a network is one of the task's.

        Hard losses want every point fitted; with a radius the first layer's activations
        must not change in any point's ball.
        """
        pres = network.pre_activations(self.data.x)
        if self.family.robust is not None and self.family.hidden:
            spread = self.family.spread(network.weights[0])
            if (np.abs(pres[0]) < spread).any():
                return False
        return not (self.loss.hard and ((pres[-1] >= 0) != (self.data.bits > 0.5)).any())


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
        The loss of the network on the training data, and a lower bound for all networks.
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


def accuracy(
    network: StepNetwork, x: np.ndarray, bits: np.ndarray, count: np.ndarray | None = None
) -> float:
    """Share of points, weighed by ``count``, whose predicted class is theirs."""
    scores = network.scores(x)
    right = (scores >= 0) == (bits > 0.5)
    if bits.shape[1] > 1:
        right = (scores.argmax(axis=1) == bits.argmax(axis=1))[:, None]
    return float(np.average(right[:, 0], weights=count))


def dead_inputs(family: Family, x: np.ndarray) -> np.ndarray:
    """Inputs whose weights may be fixed to 0: always 0, or replaced by a free bias."""
    if family.thresholds == "neuron" and family.bias_bound is None:
        return (x == x[:1]).all(axis=0)
    return (x == 0).all(axis=0)


def record(history: list[dict[str, Any]], found: Solve, **more: Any) -> None:
    """Append what a program found."""
    entry = {"status": found.status, "objective": found.objective, "bound": found.bound}
    history.append({**entry, "seconds": found.seconds, **more})


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


def ended(
    task: Task,
    network: StepNetwork,
    late: bool,
    history: list[dict[str, Any]],
    compared: int = 0,
) -> Training:
    """What a search found that proves an optimum only where no loss can be less.

    Parameters
    ----------
    late : bool
        Whether time ended the search.
    """
    loss, floor = task.value(network), task.floor()
    status = "time_limit" if late else "feasible"
    if loss <= floor + NEAR:
        status = "optimal"
    return Training(network, status, loss, min(floor, loss), compared, history)


def constant_network(task: Task) -> StepNetwork:
    """Zero weights; biases that keep every neuron on and give the most frequent bits.

    Zero weights everywhere are a network of every family with thresholds; hidden
    neurons are far from 0, so that they are so around every point too.
    """
    family = task.family
    sizes = family.sizes(task.data.x.shape[1])
    weights = [np.zeros((o, i)) for i, o in zip(sizes, sizes[1:])]
    limit = family.decisive_bias
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
    values = task.data.x
    weights: list[np.ndarray] = []
    biases: list[np.ndarray] = []
    for i, o in zip(sizes, sizes[1:]):
        if family.integer:
            p = int(family.bound)
            w = rng.integers(-p, p, (o, i), endpoint=True).astype(float)
        else:
            w = rng.uniform(-family.bound, family.bound, (o, i))
        pre = values @ w.T
        b = -np.quantile(pre, rng.uniform(*SHARES, o), axis=0).diagonal()
        if family.thresholds == "none":
            b = np.zeros(o)
        elif family.thresholds == "layer":
            b = np.full(o, b.mean())
        whole = family.integer and bool((pre == np.round(pre)).all())
        w, b = family.projected(w, b, whole)
        weights.append(w)
        biases.append(b)
        values = activations_of(pre + b >= 0, family.activation)
    return StepNetwork(tuple(weights), tuple(biases), family.activation)


def only_soft(loss: Loss, method: str) -> None:
    """Refuse the losses that need every point fitted."""
    if loss.hard:
        raise ValueError(
            f"method='{method}' has no programs for loss='{loss.name}', which must fit "
            "every point; use method='exact' or 'hybrid', or another loss."
        )


def check_start(task: Task, network: StepNetwork) -> None:
    """Refuse a start that is no network of the family."""
    family, sizes = task.family, task.family.sizes(task.data.x.shape[1])
    if network.sizes != sizes or network.activation != family.activation:
        raise ValueError(
            f"the start is a network of {network.activation} neurons with sizes "
            f"{network.sizes}; these options and data have {family.activation} neurons with "
            f"sizes {sizes}."
        )
    for k, (w, b) in enumerate(zip(network.weights, network.biases)):
        inside, bias = family.projected(w, b)
        if family.thresholds == "none":
            bias = np.zeros_like(b)
        elif family.thresholds == "layer":
            bias = np.full_like(b, bias[0])
        if (inside != w).any() or (bias != b).any():
            raise ValueError(
                f"layer {k + 1} of the start has weights or biases that these options don't "
                "have; train it with the same weights=, thresholds= and bias=."
            )
