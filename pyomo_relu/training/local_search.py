"""Training that alternates over the layers: one is trained exactly, the others are given."""

from __future__ import annotations

from typing import Any

from pyomo_relu.base.deadline import TimeUp
from pyomo_relu.steps.step_network import StepNetwork
from pyomo_relu.training.solve import solve
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

#: The share of the time left that one layer's program may take. It was chosen by hand.
LAYER_SHARE = 0.5


def local_search(
    task: Task, start: StepNetwork | None = None, rounds: int = 100
) -> Training:
    """Alternate over the layers: one is trained exactly, the others are given.

    A layer that is given is evaluated where its inputs are known, and is linear in the
    binaries where they aren't, so no program has a product. Each contains the network
    that it starts from, and the loss never rises.

    Source: Kurtz and Bah, arXiv 2110.11382 (one hidden layer); here for any depth.
    """
    only_soft(task.loss, "local_search")
    clock, family = task.clock(), task.family
    network = random_network(task) if start is None else start
    loss, floor = task.value(network), task.floor()
    history: list[dict[str, Any]] = []
    compared, unchanged = 0, 0
    dead = dead_inputs(family, task.data.x)
    for turn in range(rounds * family.depth):
        k = turn % family.depth
        if clock.expired() or loss <= floor + NEAR or unchanged >= family.depth:
            break
        layers = enumerate(zip(network.weights, network.biases))
        fixed = {j: layer for j, layer in layers if j != k}
        try:
            mip = task.program(clock, dead=dead, fixed=fixed)
        except TimeUp:
            break
        limit, title = clock.part(LAYER_SHARE).limit, f"layer {k + 1}"
        found = solve(mip, task.engine, time_limit=limit, start=network, title=title)
        compared += found.compared
        unchanged += 1
        if found.network is not None and task.value(found.network) < loss - NEAR:
            network, unchanged = found.network, 0
            loss = task.value(network)
        record(history, found, layer=k, loss=loss)
    if start is None:  # a random network may be worse than none that was looked for
        network = min((network, constant_network(task)), key=task.value)
    return ended(task, network, clock.expired(), history, compared)
