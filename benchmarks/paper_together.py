"""The networks of all papers side by side: one set of images, one question to each network.

Digits of 8 x 8 pixels, the same images for each network of a draw. Each paper's kind of network
is trained as its study trains it; then HiGHS looks, on big-M rows, for the smallest
change of an image, in the largest pixel, for which the second best class wins.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyomo.environ as pyo
from common import table
from paper_feasibility import EDGE, MARGIN, few
from paper_kurtz_bah import digits
from paper_runs import Run, average, by_run, mean_error, per_cent, with_error
from scipy.stats import t
from training import RADIUS

from pyomo_relu import ReLUNetBlock
from pyomo_relu.base.deadline import Deadline, work_time
from pyomo_relu.network import Network
from pyomo_relu.solvers.quietly import solve_quietly
from pyomo_relu.training import (
    BinarizedNetClassifier,
    BinaryNetClassifier,
    OneVsOneBinarizedEnsemble,
)

#: Hidden neurons, draws, images of each draw, CPU seconds of a fit by programs and of a search.
NEURONS, DRAWS, IMAGES, FIT, SOLVE = 20, 3, 3, 10.0, 5.0
ALL_DRAWS = 10
NUMBERS = (
    "accuracy", "robust", "weights", "nonzeros", "bits", "undecided", "neurons", "objective",
    "bound", "cpu_seconds", "wall_seconds",
)  # fmt: skip
#: What the others are compared with.
BASE = "ReLU, gradients"


@dataclass(frozen=True)
class Trained:
    """A network whose largest output is the class.

    Attributes
    ----------
    network : Network
        Scores of the classes; votes of the ensemble.
    predict : callable
        The classes of points.
    weights, nonzeros : int
    bits : float
        Of a weight.
    seconds : float
        CPU seconds of the training.
    """

    network: Network
    predict: Callable[[np.ndarray], np.ndarray]
    weights: int
    nonzeros: int
    bits: float
    seconds: float


def by_gradients(penalty: str | None, weight: float, draw: int) -> Trained:
    """A ReLU network, its outputs fitted to the bits of the class, with a penalty or none."""
    from paper_plate import train
    from wired_models.networks import dense

    from pyomo_relu.training import torch as own

    x, y, _, _ = digits(draw)
    terms = [] if penalty is None else [getattr(own, penalty)(weight)]
    # The training has inputs in [-1, 1]; the first layer takes pixels in [0, 1] again.
    layers, seconds = train((64, NEURONS, 10), 2 * x - 1, np.eye(10)[y], terms, draw)
    w, b = layers[0]
    layers[0] = 2 * w, b - w.sum(axis=0)
    network = dense(layers)
    every = np.concatenate([w.ravel() for w, _ in layers])
    return Trained(
        network,
        lambda points: network.evaluate(points).argmax(axis=1),
        every.size,
        int((np.abs(every) > 1e-3).sum()),
        32.0,
        seconds,
    )


def by_program(clf, draw: int, data: Callable = digits) -> Trained:
    """A network with weights in {-1, 0, 1}."""
    x, y, _, _ = data(draw)
    begun = time.process_time()
    clf.set_params(random_state=draw, time_limit=None).fit(x, y)
    seconds = time.process_time() - begun
    pairs = hasattr(clf, "nonzeros_")
    nonzeros, weights = clf.nonzeros_ if pairs else clf.network_.nonzeros()
    return Trained(
        clf.to_network(), clf.predict, weights, nonzeros, float(np.log2(3)), seconds
    )


def networks() -> dict[str, Callable[[int], Trained]]:
    """Each paper's networks, by the draw."""
    ternary = {"weights": "ternary", "cpu_time_limit": FIT}
    return {
        BASE: lambda d: by_gradients(None, 0.0, d),
        "ReLU, L1 1e-4": lambda d: by_gradients("L1Penalty", 1e-4, d),
        "ReLU, bound widths 3e-4": lambda d: by_gradients("BoundWidthPenalty", 3e-4, d),
        "step, local search": lambda d: by_program(
            BinaryNetClassifier((NEURONS,), method="local_search", **ternary), d
        ),
        "sign, no hidden layer": lambda d: by_program(
            BinarizedNetClassifier((), method="ste", cpu_time_limit=FIT), d
        ),
        # All images are too many for the stages of 45 pairs in this time.
        "sign, 45 pairs, 100 images": lambda d: by_program(
            OneVsOneBinarizedEnsemble(bias=True, cpu_time_limit=2 * FIT), d, few
        ),
    }


@cache
def trained(name: str, draw: int) -> Trained:
    """The network of a draw."""
    return networks()[name](draw)


def measure_network(name: str, draw: int) -> dict:
    """Accuracy, random corners of a box around each image, and size."""
    own = trained(name, draw)
    _, _, x, y = digits(draw)
    rng = np.random.default_rng(0)
    right = own.predict(x) == y
    robust = right.copy()
    for _ in range(10):
        robust &= own.predict(x + RADIUS * rng.choice([-1.0, 1.0], x.shape)) == y
    sizes = block_of(own, pyo.ConcreteModel()).statistics()
    return {
        "accuracy": float(right.mean()),
        "robust": float(robust.mean()),
        "weights": own.weights,
        "nonzeros": own.nonzeros,
        "bits": own.bits,
        "undecided": sizes.neurons - sizes.stable,
        "neurons": sizes.neurons,
        "cpu_seconds": own.seconds,
    }


def block_of(own: Trained, m: pyo.ConcreteModel) -> ReLUNetBlock:
    """The network's big-M rows over all images."""
    m.x = pyo.Var(range(64), bounds=(0, 1))
    m.net = ReLUNetBlock(
        network=own.network, inputs=[m.x[i] for i in range(64)], formulation="bigm"
    )
    return m.net


def measure_search(name: str, draw: int, image: int) -> dict:
    """The nearest image of the second best class, evaluated by the network itself."""
    own, x = trained(name, draw), digits(draw)[2][image]
    scores = own.network.evaluate(x[None])[0]
    other, label = np.argsort(scores, kind="stable")[-2:]
    m = pyo.ConcreteModel()
    wall, deadline = time.perf_counter(), Deadline(cpu_seconds=SOLVE)
    block = block_of(own, m)
    outputs = list(block.outputs.values())
    m.r = pyo.Var(bounds=(0, 1))
    m.near = pyo.ConstraintList()
    for i in range(64):
        m.near.add(m.x[i] - x[i] <= m.r)
        m.near.add(x[i] - m.x[i] <= m.r)
    m.turned = pyo.Constraint(expr=outputs[other] >= outputs[label] + MARGIN)
    m.objective = pyo.Objective(expr=m.r)
    solved = solve_quietly(
        pyo.SolverFactory("relu_highs"),
        m,
        20.0 * SOLVE,  # on the clock, for phases in which HiGHS doesn't ask
        threads=1,
        start=None,
        boxes=0,
        progress=lambda told: deadline.expired(),
    )
    found = {
        "objective": solved.value,
        "bound": solved.bound if np.isfinite(solved.bound) else None,
        "cpu_seconds": work_time() - deadline.cpu_begin,
        "wall_seconds": time.perf_counter() - wall,
        "status": solved.status,
    }
    if solved.value is not None:
        point = np.clip([pyo.value(m.x[i]) for i in range(64)], 0, 1)
        after = own.network.evaluate(point[None])[0]
        if after[other] < after[label]:
            found["status"] += EDGE
    return found


def runs() -> Iterator[Run]:
    """Draw by draw: the networks, and what is looked for in them."""
    for d in range(ALL_DRAWS):
        full = d >= DRAWS
        for name in networks():
            yield Run("network", name, d, lambda n=name, d=d: measure_network(n, d), full)
            for i in range(IMAGES):
                yield Run(
                    f"image {i}",
                    name,
                    d,
                    lambda n=name, d=d, i=i: measure_search(n, d, i),
                    full,
                )


def summary(rows: list[dict]) -> dict[str, str]:
    """One line for each kind of network, and the differences from the plain ReLU network."""
    searches = [r for r in rows if r["study"] != "network"]
    base = {r["draw"]: r for r in rows if (r["study"], r["run"]) == ("network", BASE)}
    lines, second = [], []
    for _, run, own in by_run([r for r in rows if r["study"] == "network"]):
        part = [r for r in searches if r["run"] == run]
        done = [r for r in part if r["status"].startswith("optimal")]
        # Images of a draw share its network: a draw counts as one value.
        draws = dict.fromkeys(r["draw"] for r in part)
        seconds = [
            float(np.mean([r["cpu_seconds"] for r in part if r["draw"] == d]))
            for d in draws
        ]
        lines.append(
            [
                run,
                len(own),
                per_cent([r["accuracy"] for r in own]),
                per_cent([r["robust"] for r in own]),
                average([r["weights"] for r in own], 0),
                f"{np.mean([r['bits'] * r['weights'] for r in own]) / 8000:.2f}",
                average([r["cpu_seconds"] for r in own]),
                f"{np.mean([r['undecided'] for r in own]):.0f} of {own[0]['neurons']:.0f}",
                f"{len(done)} of {len(part)}",
                sum(r["status"].endswith(EDGE) for r in part),
                average([r["objective"] for r in done], 3),
                with_error(seconds, 2),
            ]
        )
        pairs = [(r, base[r["draw"]]) for r in own if r["draw"] in base]
        if run == BASE or len(pairs) < 2:
            continue
        cells = [run, len(pairs)]
        for number in ("accuracy", "robust"):
            mean, error = mean_error([100 * (a[number] - b[number]) for a, b in pairs])
            # Draws are splits of one set: see differences() in paper_runs.py.
            wide = error * np.sqrt(1.0 + len(pairs) / 3)
            clear = abs(mean) > t.ppf(0.975, len(pairs) - 1) * wide
            cells += [f"{mean:+.1f} ± {error:.1f}", "yes" if clear else "no"]
        second.append(cells)
    head = [
        "network", "draws", "test accuracy, %", "under attack, %", "weights", "kB",
        "training, CPU s", "undecided", "nearest image: proved", "on a jump", "distance",
        "CPU s",
    ]  # fmt: skip
    more = [
        f"against {BASE}", "draws", "accuracy, points", "clear", "under attack, points", "clear",
    ]  # fmt: skip
    return {"networks": table(head, lines), "differences": table(more, second)}
