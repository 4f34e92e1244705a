"""A feasible network first, then one small program for each neuron.

With all activations fixed, nothing ties a neuron's weights to another's: the program of
the largest margins, or of the least weights, falls apart into one for each neuron.

Source: Toro Icarte et al., CP 2019 ("HA"); the separation is immediate from the model.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pyomo_relu.steps.step_network import StepNetwork
from pyomo_relu.training.exact import exact
from pyomo_relu.training.family import merged
from pyomo_relu.training.local_search import local_search
from pyomo_relu.training.losses import Loss
from pyomo_relu.training.task import NEAR, Task, Training

#: The share of the time that the first network may take. It was chosen by hand.
FIRST = 0.5


def centred(task: Task, network: StepNetwork) -> StepNetwork:
    """Give neurons the bias in the middle of what leaves their activations as they are.

    Programs want pre-activations to keep a distance from 0, which networks from elsewhere
    need not do. Biases that are integers stay, and those of several outputs, whose scores
    are compared with each other.
    """
    family, x = task.family, task.data.x
    if family.thresholds != "neuron" or family.integer_bias or not len(x):
        return network
    biases = [b.copy() for b in network.biases]
    for k, pre in enumerate(network.pre_activations(x)):
        last = k == len(biases) - 1
        whole = family.integer and bool(
            (pre - biases[k] == np.round(pre - biases[k])).all()
        )
        if whole or (last and pre.shape[1] > 1):
            continue
        on, off = (np.where(pre >= 0, pre, np.inf), np.where(pre < 0, pre, -np.inf))
        low, high = off.max(axis=0), on.min(axis=0)
        inside = np.isfinite(low) & np.isfinite(high)
        moved = biases[k] - 0.5 * np.where(inside, low + high, 0.0)
        limit = np.inf if family.bias_bound is None else family.bias_bound
        same = (pre - biases[k] + moved >= 0) == (pre >= 0)
        good = same.all(axis=0) & (np.abs(moved) <= limit)
        biases[k] = np.where(good, moved, biases[k])
    return StepNetwork(network.weights, tuple(biases), network.activation)


def refine(task: Task, network: StepNetwork, loss: str = "max_margin") -> Training:
    """Give every neuron its largest margin, or its least weights, by itself.

    Activations and predictions on the training data stay as they are. A neuron whose
    program finds nothing in its time keeps its weights, and all do where a layer has one
    threshold, which no neuron has to itself. The loss and its bound are left to the caller.

    Parameters
    ----------
    task : Task
    network : StepNetwork
    loss : {'max_margin', 'min_weight'}
    """
    clock, x = task.clock(), task.data.x
    pres = network.pre_activations(x)
    inputs = [x, *(network.activate(pre) for pre in pres)]
    weights = [w.copy() for w in network.weights]
    biases = [b.copy() for b in network.biases]
    every = [(k, j) for k, b in enumerate(biases) for j in range(len(b))]
    if task.family.thresholds == "layer":
        return Training(network, "feasible", np.nan, -np.inf)
    history, compared, solved = [], 0, 0
    for done, (k, j) in enumerate(every):
        if clock.expired():
            break
        robust = task.family.robust if k == 0 else None
        one = replace(
            task,
            family=replace(task.family, hidden=(), outputs=1, robust=robust),
            loss=Loss(loss, margins="neuron"),
            data=merged(inputs[k], (pres[k][:, j : j + 1] >= 0).astype(float)),
            time_limit=clock.part(1.0 / (len(every) - done)),
        )
        title = f"neuron {done + 1} of {len(every)}"
        found = exact(one, network.neuron(k, j), title=title)
        compared += found.compared
        solved += all(entry["status"] == "optimal" for entry in found.history)
        history += [{**entry, "layer": k, "neuron": j} for entry in found.history]
        if found.network is not None:
            weights[k][j] = found.network.weights[0][0]
            biases[k][j] = found.network.biases[0][0]
    better = StepNetwork(tuple(weights), tuple(biases), network.activation)
    _check_same(pres, better.pre_activations(x))
    status = "optimal" if solved == len(every) else "time_limit"
    return Training(better, status, np.nan, -np.inf, compared, history)


def _check_same(before: list[np.ndarray], after: list[np.ndarray]) -> None:
    """Refuse pre-activations with other signs."""
    if any(((a >= 0) != (b >= 0)).any() for a, b in zip(before, after)):
        raise RuntimeError(
            "the refined network has other activations: the solver's tolerance is "
            "larger than the separation. Give a larger eps."
        )


def hybrid(task: Task, start: StepNetwork | None = None) -> Training:
    """A network by local search (soft losses) or by one program, then :func:`refine`.

    For ``max_margin`` and ``min_weight``, which fit every point, the first network is
    one without a wrong output bit. The status is that of the first step.
    """
    clock = task.clock()
    first = replace(task, time_limit=clock.part(FIRST))
    if task.loss.hard:
        first = replace(first, loss=Loss("zero_one"))
        found = exact(first, start)
        if found.network is not None and found.loss > NEAR:
            if found.status == "optimal":
                return Training(None, "infeasible", np.inf, np.inf, 0, found.history)
            return Training(None, "nothing", np.inf, -np.inf, 0, found.history)
    else:
        found = local_search(first, start)
    if found.network is None:
        return found
    kind = "min_weight" if task.loss.name == "min_weight" else "max_margin"
    finer = refine(replace(task, time_limit=clock), found.network, kind)
    assert finer.network is not None  # it starts from one
    loss = task.value(finer.network)
    status = "feasible" if task.loss.hard and found.status == "optimal" else found.status
    return Training(
        network=finer.network,
        status=status,
        loss=loss,
        bound=-np.inf if task.loss.hard else min(found.bound, loss),
        compared=found.compared + finer.compared,
        history=found.history + finer.history,
    )
