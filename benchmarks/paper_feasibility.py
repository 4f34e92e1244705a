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
from paper_runs import Run, average, by_run, per_cent, share
from training import attacked, relu, weights_of

from pyomo_relu import ReLUNetBlock, read_network
from pyomo_relu.training import BinarizedNetClassifier, BinaryNetClassifier

#: Hidden neurons of each layer, images of each class to train by programs, draws, and seconds:
#: of a fit by the processor, of a solve by the clock.
NEURONS, IMAGES, DRAWS = 8, 10, 2
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
    nonzeros, weights = weights_of(clf)
    return {
        "accuracy": clf.score(xt, yt),
        "robust": attacked(clf, xt, yt),
        "loss": clf.loss_ if hasattr(clf, "network_") else None,
        "nonzeros": nonzeros,
        "weights": weights,
        "cpu_seconds": seconds,
        "status": getattr(clf, "status_", ""),
    }


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
    wall, cpu = time.perf_counter(), time.process_time()
    solver = pyo.SolverFactory("appsi_highs")
    results = solver.solve(
        m, load_solutions=False, options={"time_limit": SOLVE, "threads": 1}
    )
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    bounds = results.problem[0]
    best, bound = bounds.upper_bound, bounds.lower_bound
    if not distance:
        best, bound = bound, best
    found = {
        "objective": _finite(best),
        "bound": _finite(bound),
        "binaries": sum(v.is_binary() for v in kinds),
        "cpu_seconds": cpu,
        "wall_seconds": wall,
        "status": str(results.solver.termination_condition),
    }
    if found["objective"] is not None:
        solver.load_vars()
        point = np.clip([pyo.value(m.x[i]) for i in range(64)], 0, 1)
        after = _scores(clf, point)
        reached = after[other] - after[label] if distance else after[other]
        least = 0.0 if distance else found["objective"] - 1e-4
        if reached < least:
            found["status"] += EDGE
    return found


def _finite(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
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
                        d > 0,
                    )


def summary(rows: list[dict]) -> dict[str, str]:
    """One table of the networks, one of what was optimized."""
    networks_ = [r for r in rows if r["study"] == "network"]
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
            average([r["cpu_seconds"] for r in own]),
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
                    average([r["objective"] for r in part], 3),
                    average([r["bound"] for r in part], 3),
                    average([r["wall_seconds"] for r in part]),
                ]
            second.append(cells)
    more = [
        "network, training", "formulation", "binaries", "distance: solved", "best", "bound",
        "clock s", "best image: solved", "best", "bound", "clock s",
    ]  # fmt: skip
    return {"networks": table(head, lines), "solves": table(more, second)}
