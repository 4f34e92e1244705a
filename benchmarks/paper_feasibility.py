"""The study of Aftabi, Moradi and Mahroo, arXiv 2402.06697, on handwritten digits.

Four kinds of networks, trained by gradients and by mixed-integer programs, and four
formulations of each: accuracy, robustness, size, and the time to optimize over it, for the
smallest change of an image that turns its class, and for the image a class likes best.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pyomo.environ as pyo
from common import table
from paper_kurtz_bah import digits
from paper_runs import Run, average, by_run, per_cent, share, tested, with_error
from training import relu

from pyomo_relu import ReLUNetBlock, read_network
from pyomo_relu.base.deadline import Deadline, work_time
from pyomo_relu.solvers.quietly import solve_quietly
from pyomo_relu.training import BinarizedNetClassifier, BinaryNetClassifier

#: Hidden neurons of each layer, images of each class to train by programs, draws, and CPU
#: seconds of a fit and of a solve.
NEURONS, IMAGES, DRAWS = 8, 10, 5
FIT, SOLVE = 2.0, 5.0
#: What a formulation is built with. ``disjunctive`` is solved after ``gdp.bigm``.
FORMULATIONS: dict[str, dict] = {
    "bigm": {},
    "hull": {},
    "partition": {"parts": 2},
    "disjunctive": {},
}
#: By how much the other class must win.
MARGIN = 1e-3
#: Said of points that lie on a jump of the network, which has the other side's value there.
EDGE = ", on a jump"


class ReLUByProgram:
    """A ReLU network whose hidden weights a mixed-integer program finds.

    A weight behind the hidden layer times an activation is bilinear, so that the output
    weights are drawn from {-1, 1}. The hidden ones and all biases minimize, over the box
    [-1, 1], the sum of each image's largest hinge loss; big-M rows write the neurons.
    """

    def __init__(self, draw: int) -> None:
        self.draw = draw

    def fit(self, x: np.ndarray, y: np.ndarray) -> Any:
        """The program's network in the frame of scikit-learn's."""
        deadline = Deadline(cpu_seconds=FIT)
        clf = relu((NEURONS,), self.draw).fit(x[::IMAGES], y[::IMAGES])
        out = np.random.default_rng(self.draw).choice([-1.0, 1.0], (NEURONS, 10))
        m = self.model(x, y, out)
        solve_quietly(
            pyo.SolverFactory("relu_highs"),
            m,
            threads=1,
            start=None,
            progress=lambda told: deadline.expired(),
        )
        values = [[m.w[p, j].value or 0.0 for j in m.neurons] for p in m.pixels]
        clf.coefs_ = [np.array(values), out]
        clf.intercepts_ = [
            np.array([v.value or 0.0 for v in bias.values()]) for bias in (m.b, m.c)
        ]
        return clf

    def model(self, x: np.ndarray, y: np.ndarray, out: np.ndarray) -> pyo.ConcreteModel:
        """The program for images (N, 64), their classes, and output weights (8, 10)."""
        m = pyo.ConcreteModel()
        m.pixels, m.neurons = pyo.RangeSet(0, 63), pyo.RangeSet(0, NEURONS - 1)
        m.images, m.classes = pyo.RangeSet(0, len(x) - 1), pyo.RangeSet(0, 9)
        m.w = pyo.Var(m.pixels, m.neurons, bounds=(-1, 1))
        m.b = pyo.Var(m.neurons, bounds=(-1, 1))
        m.c = pyo.Var(m.classes, bounds=(-1, 1))
        m.after, m.below = (pyo.Var(m.images, m.neurons, bounds=(0, None)) for _ in "ab")
        m.on = pyo.Var(m.images, m.neurons, domain=pyo.Binary)
        m.loss = pyo.Var(m.images, bounds=(0, None))
        m.rows = pyo.ConstraintList()
        for i in m.images:
            reach = float(x[i].sum()) + 1.0  # the largest sum with weights in the box
            for j in m.neurons:
                total = sum(
                    float(x[i, p]) * m.w[p, j] for p in np.flatnonzero(x[i]).tolist()
                )
                m.rows.add(m.after[i, j] - m.below[i, j] == total + m.b[j])
                m.rows.add(m.after[i, j] <= reach * m.on[i, j])
                m.rows.add(m.below[i, j] <= reach * (1 - m.on[i, j]))
            scores = [
                sum(float(out[j, k]) * m.after[i, j] for j in m.neurons) + m.c[k]
                for k in m.classes
            ]
            for k in m.classes:
                if k != y[i]:
                    m.rows.add(m.loss[i] >= 1 + scores[k] - scores[int(y[i])])
        m.objective = pyo.Objective(expr=sum(m.loss.values()))
        return m


def networks() -> dict[str, Callable[[int], Any]]:
    """Each kind and way of training, by its draw."""
    shared = {"time_limit": None, "cpu_time_limit": FIT, "widen": False}

    def binary(hidden, method, start="auto"):
        return lambda d: BinaryNetClassifier(
            hidden, method=method, start=start, random_state=d, **shared
        )

    def binarized(method, start="auto"):
        return lambda d: BinarizedNetClassifier(
            (NEURONS,),
            loss="sat_margin",
            margin=0.1,
            method=method,
            start=start,
            random_state=d,
            **shared,
        )

    def flat(method):
        return lambda d: BinarizedNetClassifier((), method=method, random_state=d, **shared)

    one, two = (NEURONS,), (NEURONS, NEURONS)
    return {
        "ReLU, gradients": lambda d: relu(one, d),
        "ReLU, program": ReLUByProgram,
        "binary, gradients": binary(one, "ste"),
        "binary, program": binary(one, "exact", None),
        "binary, local search": binary(one, "local_search"),
        "binarized, gradients": binarized("ste"),
        "binarized, program": binarized("exact", None),
        "binarized, local search": binarized("local_search"),
        "binary, two hidden layers, gradients": binary(two, "ste"),
        "binary, two hidden layers, program": binary(two, "exact", None),
        "binary, two hidden layers, local search": binary(two, "local_search"),
        "binarized, no hidden layer, gradients": flat("ste"),
        "binarized, no hidden layer, program": flat("exact"),
    }


@cache
def few(draw: int) -> tuple[np.ndarray, ...]:
    """Some images of each class to train; all that are left to test."""
    x, y, xt, yt = digits(draw)
    some = np.concatenate([np.flatnonzero(y == c)[:IMAGES] for c in range(10)])
    return x[some], y[some], xt, yt


@cache
def trained(name: str, draw: int) -> tuple[Any, float]:
    """A classifier and the CPU seconds of its fit."""
    x, y, _, _ = few(draw)
    begun = time.process_time()
    return networks()[name](draw).fit(x, y), time.process_time() - begun


def measure_network(name: str, draw: int) -> dict:
    """Accuracy, robustness and size."""
    clf, seconds = trained(name, draw)
    _, _, xt, yt = few(draw)
    return {**tested(clf, xt, yt), "cpu_seconds": seconds}


def model_of(clf: Any, formulation: str, x0: np.ndarray | None, wins: tuple[int, int]):
    """The program of the nearest image of another class, or of the best image."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(64), bounds=(0, 1))
    ours = hasattr(clf, "to_network")
    network = clf.to_network() if ours else read_network(clf, logits=True)
    m.net = ReLUNetBlock(
        network=network,
        inputs=[m.x[i] for i in range(64)],
        formulation=formulation,
        **FORMULATIONS[formulation],
    )
    scores = [m.net.outputs[k] for k in list(m.net.outputs)]
    label, other = wins
    if x0 is None:
        m.objective = pyo.Objective(expr=scores[other], sense=pyo.maximize)
    else:
        m.r = pyo.Var(bounds=(0, 1))
        m.near = pyo.ConstraintList()
        for i in range(64):
            m.near.add(m.x[i] - x0[i] <= m.r)
            m.near.add(x0[i] - m.x[i] <= m.r)
        m.turned = pyo.Constraint(expr=scores[other] >= scores[label] + MARGIN)
        m.objective = pyo.Objective(expr=m.r)
    if formulation == "disjunctive":
        pyo.TransformationFactory("gdp.bigm").apply_to(m)
    return m


def measure_solve(name: str, formulation: str, task: str, draw: int) -> dict:
    """Optimize over a network; the point is evaluated by the network itself."""
    clf, _ = trained(name, draw)
    x0 = few(draw)[2][draw]
    scores = _scores(clf, x0)
    other, label = np.argsort(scores)[-2:]
    distance = task == "distance"
    m = model_of(clf, formulation, x0 if distance else None, (label, other))
    kinds = [v for v in m.component_data_objects(pyo.Var, descend_into=True)]
    wall, deadline = time.perf_counter(), Deadline(cpu_seconds=SOLVE)
    solved = solve_quietly(
        pyo.SolverFactory("relu_highs"),
        m,
        threads=1,
        start=None,
        boxes=0,
        progress=lambda told: deadline.expired(),
    )
    found = {
        "objective": solved.value,
        "bound": _finite(solved.bound),
        "binaries": sum(v.is_binary() for v in kinds),
        "cpu_seconds": work_time() - deadline.cpu_begin,
        "wall_seconds": time.perf_counter() - wall,
        "status": solved.status,
    }
    if solved.value is not None:
        point = np.clip([pyo.value(m.x[i]) for i in range(64)], 0, 1)
        after = _scores(clf, point)
        reached = after[other] - after[label] if distance else after[other]
        least = 0.0 if distance else solved.value - 1e-4
        if reached < least:
            found["status"] += EDGE
    return found


def _finite(number: float) -> float | None:
    return number if np.isfinite(number) and abs(number) < 1e15 else None


def _scores(clf: Any, x: np.ndarray) -> np.ndarray:
    """The outputs of the network for one image; of scikit-learn's before its softmax."""
    if hasattr(clf, "network_"):
        return clf.network_.scores(x[None])[0]
    values = x
    for k, (w, b) in enumerate(zip(clf.coefs_, clf.intercepts_)):
        values = values @ w + b
        if k < len(clf.coefs_) - 1:
            values = np.maximum(values, 0.0)
    return values


def runs() -> Iterator[Run]:
    """The networks of a draw, then what is optimized over them."""
    for d in range(DRAWS):
        for name in networks():
            yield Run("network", name, d, lambda n=name, d=d: measure_network(n, d))
    for d in range(DRAWS):
        for name in networks():
            if name.endswith("program"):
                continue  # most are constant: there is nothing to optimize
            for f in FORMULATIONS:
                for task in ("distance", "best image"):
                    yield Run(
                        task,
                        f"{name}: {f}",
                        d,
                        lambda n=name, f=f, t=task, d=d: measure_solve(n, f, t, d),
                    )


def summary(rows: list[dict]) -> dict[str, str]:
    """One table of the networks, one of what was optimized."""
    order = list(networks())
    networks_ = [r for r in rows if r["study"] == "network"]
    networks_.sort(key=lambda r: order.index(r["run"]))
    head = [
        "network, training", "draws", "test accuracy, %", "under attack, %",
        "weights", "not 0, %", "CPU s",
    ]  # fmt: skip
    lines = [
        [
            run,
            len(own),
            per_cent([r["accuracy"] for r in own]),
            per_cent([r["robust"] for r in own]),
            average([r["weights"] for r in own], 0),
            share(own),
            with_error([r["cpu_seconds"] for r in own], 1),
        ]
        for _, run, own in by_run(networks_)
    ]
    solved = [r for r in rows if r["study"] != "network"]
    kinds = dict.fromkeys(r["run"].split(": ")[0] for r in solved)
    second = []
    for name in kinds:
        for f in FORMULATIONS:
            own = [r for r in solved if r["run"] == f"{name}: {f}"]
            if not own:
                continue
            cells = [name, f, average([r["binaries"] for r in own], 0)]
            for task in ("distance", "best image"):
                part = [r for r in own if r["study"] == task]
                done = sum(r["status"].startswith("optimal") for r in part)
                edge = sum(r["status"].endswith(EDGE) for r in part)
                cells += [
                    f"{done} of {len(part)}" + f", {edge} on a jump" * bool(edge),
                    with_error([r["objective"] for r in part], 3),
                    with_error([r["cpu_seconds"] for r in part], 3),
                ]
            second.append(cells)
    more = [
        "network, training", "formulation", "binaries", "distance: solved", "best", "CPU s",
        "best image: solved", "best", "CPU s",
    ]  # fmt: skip
    return {"networks": table(head, lines), "solves": table(more, second)}
