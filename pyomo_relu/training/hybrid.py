"""A feasible network first, then one small program for each neuron.

With all activations fixed, nothing ties a neuron's weights to another's: the program of
the largest margins, or of the least weights, falls apart into one for each neuron.

Source: Toro Icarte et al., CP 2019 ("HA"); the separation is immediate from the model.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pyomo_relu.steps.step_network import StepNetwork
from pyomo_relu.training.exact import Task, Training, exact, local_search
from pyomo_relu.training.family import merged
from pyomo_relu.training.losses import Loss


def refine(task: Task, network: StepNetwork, loss: str = "max_margin") -> Training:
    """Give every neuron its largest margin, or its least weights, by itself.

    Activations and predictions on the training data stay as they are. A neuron whose
    program finds nothing in its time keeps its weights. The loss and its bound are left
    to the caller.

    Parameters
    ----------
    task : Task
    network : StepNetwork
    loss : {'max_margin', 'min_weight'}
    """
    clock, family = task.clock(), task.family
    values, history, compared = task.data.x, [], 0
    pres = network.pre_activations(task.data.x)
    weights, biases = [], []
    total = sum(len(b) for b in network.biases)
    done = 0
    for k, pre in enumerate(pres):
        part = replace(
            family,
            hidden=(),
            outputs=1,
            robust=family.robust if k == 0 else None,
        )
        w, b = network.weights[k].copy(), network.biases[k].copy()
        for j in range(pre.shape[1]):
            if clock.expired():
                break
            one = replace(
                task,
                family=part,
                loss=Loss(loss, margins="neuron"),
                data=merged(values, (pre[:, j : j + 1] >= 0).astype(float)),
                time_limit=clock.left() / (total - done),
            )
            own = StepNetwork((w[j : j + 1],), (b[j : j + 1],), family.activation)
            found = exact(one, own, title=f"neuron {done + 1} of {total}")
            done += 1
            compared += found.compared
            history += [{**entry, "layer": k, "neuron": j} for entry in found.history]
            if found.network is not None:
                w[j], b[j] = found.network.weights[0][0], found.network.biases[0][0]
        weights.append(w)
        biases.append(b)
        values = network.activate(pre)
    better = StepNetwork(tuple(weights), tuple(biases), family.activation)
    for before, after in zip(pres, better.pre_activations(task.data.x)):
        if ((before >= 0) != (after >= 0)).any():
            raise RuntimeError(
                "the refined network has other activations: the solver's tolerance is "
                "larger than the separation. Give a larger eps."
            )
    optimal = done == total and all(e["status"] == "optimal" for e in history)
    status = "optimal" if optimal else "time_limit"
    return Training(better, status, np.nan, -np.inf, compared, history)


def hybrid(task: Task, start: StepNetwork | None = None) -> Training:
    """A network by local search (soft losses) or by one program, then :func:`refine`.

    For ``max_margin`` and ``min_weight``, which fit every point, the first network is
    one without a wrong output bit. The status is that of the first step.
    """
    clock = task.clock()
    first = replace(task, time_limit=0.5 * clock.left())
    if task.loss.hard:
        first = replace(first, loss=Loss("zero_one"))
        found = exact(first, start)
        if found.network is not None and found.loss > 1e-9:
            if found.status == "optimal":
                return Training(None, "infeasible", np.inf, np.inf, 0, found.history)
            return Training(None, "nothing", np.inf, -np.inf, 0, found.history)
    else:
        found = local_search(first, start)
    if found.network is None:
        return found
    kind = "min_weight" if task.loss.name == "min_weight" else "max_margin"
    finer = refine(replace(task, time_limit=clock.left()), found.network, kind)
    history = found.history + finer.history
    loss = task.value(finer.network)  # type: ignore[arg-type]
    status = "feasible" if task.loss.hard and found.status == "optimal" else found.status
    bound = -np.inf if task.loss.hard else min(found.bound, loss)
    return Training(
        finer.network, status, loss, bound, found.compared + finer.compared, history
    )
