"""`implicit`: features learned by gradients through the exact training program.

A projection to at most two features is learned in front of the step network of maximum
margin, see :func:`pyomo_relu.differentiable.implicit_fit`; both together are one step
network with weights of low rank.
"""

from __future__ import annotations

import numpy as np

from pyomo_relu.base.deadline import TimeUp
from pyomo_relu.steps.step_network import StepNetwork
from pyomo_relu.training.exact import Task, Training, constant_network, only_soft

#: Activations in the program beyond which it isn't solved in seconds.
MOST_BINARIES = 100


def implicit(task: Task, x: np.ndarray, bits: np.ndarray) -> Training:
    """Learn projection and network; the loss is that of the task.

    Raises
    ------
    ValueError
        For families, losses and sizes that this method doesn't have.
    """
    from pyomo_relu.steps.projection import class_costs, implicit_fit

    family = task.family
    only_soft(task.loss, "implicit")
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
    hidden = family.hidden[0]
    if len(x) * hidden > MOST_BINARIES:
        raise ValueError(
            f"method='implicit' solves programs with {len(x)} x {hidden} activations, more "
            f"than {MOST_BINARIES}; give it fewer points, or use method='data_splitting'."
        )
    labels = 2.0 * bits[:, 0] - 1.0
    clock, constant = task.clock(), constant_network(task)
    try:
        fit = implicit_fit(
            x,
            labels,
            components=min(2, x.shape[1]),
            hidden=hidden,
            costs=class_costs(labels, 4.0),
            time_limit=clock.left(),
            first_limit=clock.left(),
            seed=int(task.rng.integers(2**31 - 1)),
        )
    except TimeUp:
        loss = task.value(constant)
        return Training(constant, "time_limit", loss, 0.0)
    network = _in_box(fit.step_network(), family.bound)
    loss = task.value(network)
    if task.value(constant) < loss:
        network, loss = constant, task.value(constant)
    history = [{k: h[k] for k in ("value", "margin", "seconds")} for h in fit.history]
    status = "time_limit" if clock.expired() else "feasible"
    return Training(network, "optimal" if loss <= 1e-9 else status, loss, 0.0, 0, history)


def _in_box(network: StepNetwork, bound: float) -> StepNetwork:
    """Scale hidden neurons to weights within the bound, which no step sees."""
    w, b = network.weights[0], network.biases[0]
    scale = bound / np.maximum(np.abs(w).max(axis=1), bound)
    return StepNetwork(
        (w * scale[:, None], network.weights[1]),
        (b * scale, network.biases[1]),
        network.activation,
    )
