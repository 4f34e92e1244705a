"""`implicit`: features learned by gradients through the exact training program.

A projection to at most two features is learned in front of the step network of maximum
margin, see :func:`pyomo_relu.differentiable.implicit_fit`; both together are one step
network with weights of low rank.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyomo_relu.base.deadline import TimeUp
from pyomo_relu.steps.projection import class_costs, implicit_fit
from pyomo_relu.steps.step_network import StepNetwork
from pyomo_relu.training.family import Family
from pyomo_relu.training.task import Task, Training, constant_network, ended, only_soft


@dataclass(frozen=True)
class ImplicitSettings:
    """The numbers that steer the method; all were chosen by hand.

    Attributes
    ----------
    most_binaries : int
        The number of activations beyond which the program isn't solved in seconds.
    components : int
        The most features that are learned.
    cost : float
        The sum of the costs of points that fall short of the margin.
    """

    most_binaries: int = 100
    components: int = 2
    cost: float = 4.0


SETTINGS = ImplicitSettings()


def implicit(task: Task) -> Training:
    """Learn projection and network; the loss is that of the task.

    Raises
    ------
    ValueError
        For families, losses, sizes and limits that this method doesn't have.
    """
    only_soft(task.loss, "implicit")
    if task.engine.node_limit is not None:
        raise ValueError(
            "method='implicit' differentiates programs that are solved to the end, and has "
            "no node_limit=; leave it out, or use another method."
        )
    x, weight = task.data.x, task.data.count
    hidden = _hidden(task.family, len(x))
    labels = 2.0 * task.data.bits[:, 0] - 1.0
    clock, constant = task.clock(), constant_network(task)
    try:
        fit = implicit_fit(
            x,
            labels,
            components=min(SETTINGS.components, x.shape[1]),
            hidden=hidden,
            costs=class_costs(labels, SETTINGS.cost, weight),
            time_limit=clock.limit,
            first_limit=clock.limit,
            seed=int(task.rng.integers(2**31 - 1)),
        )
    except TimeUp:
        return ended(task, constant, True, [])
    network = _in_box(fit.step_network(), task.family.bound)
    history = [{k: h[k] for k in ("value", "margin", "seconds")} for h in fit.history]
    best = min((network, constant), key=task.value)
    return ended(task, best, clock.expired(), history)


def _hidden(family: Family, points: int) -> int:
    """The number of hidden neurons, where the method has the family and the size."""
    if (
        len(family.hidden) != 1
        or family.outputs != 1
        or family.activation != "step"
        or family.integer
        or family.thresholds != "neuron"
        or family.robust is not None
    ):
        raise ValueError(
            "method='implicit' takes two classes, one hidden layer of step neurons, "
            "weights='continuous', thresholds='neuron' and no robust=; use another method."
        )
    hidden, most = family.hidden[0], SETTINGS.most_binaries
    if points * hidden > most:
        raise ValueError(
            f"method='implicit' solves programs with {points} x {hidden} activations, more "
            f"than {most}; give it fewer points, or use method='data_splitting'."
        )
    return hidden


def _in_box(network: StepNetwork, bound: float) -> StepNetwork:
    """Scale hidden neurons to weights within the bound, which no step sees."""
    w, b = network.weights[0], network.biases[0]
    scale = bound / np.maximum(np.abs(w).max(axis=1), bound)
    return StepNetwork(
        (w * scale[:, None], network.weights[1]),
        (b * scale, network.biases[1]),
        network.activation,
    )
