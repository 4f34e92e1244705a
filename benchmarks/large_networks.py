"""Starts for networks too large for linear programs over their neurons: what finds them.

    python benchmarks/large_networks.py [--limit 6] [--seeds 0 1 2]

Two models with integers and rows, whose networks of 20-400-400-1 and 50-1000-1000-1 are
trained in the run. Every search gets the same CPU seconds:

* gradient paths alone, their ends completed by what is left to solve;
* sequences of linear programs, which see a network by its derivatives only;
* a pruned surrogate (Pham et al., arXiv 2505.01985): a third of the time for sequences,
  whose points say which neurons matter; the network is pruned, the model with the small one
  solved by HiGHS in another third, and sequences go on from that point with the true one
  (for a sixth of the time at least, beyond it if need be).

Rows go into ``results/large_networks.csv``; ``--report`` writes the table of them.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pyomo.environ as pyo
from common import RESULTS, append, publish, read_rows, significant, table
from pyomo.contrib.solver.common.factory import SolverFactory as NewFactory
from wired_models import facilities
from wired_models.networks import Surrogate, dense

from pyomo_relu import Network, ReLUNetBlock
from pyomo_relu.base.deadline import Deadline
from pyomo_relu.formulations import network_blocks
from pyomo_relu.heuristics import start
from pyomo_relu.heuristics.sequential import SequentialSearch
from pyomo_relu.heuristics.start_settings import START
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.presolve.reading import read_problem

CSV = RESULTS / "large_networks.csv"
FIELDS = ["model", "seed", "search", "limit", "value", "promised", "error", "date"]
#: Neurons of a layer that pruning keeps: HiGHS closes such models in seconds or gets close.
KEPT = 24
#: The clock is no limit on a machine that does other work.
FAR = 3600.0
N, MOST = 50, 0.4


def taste(x: np.ndarray) -> np.ndarray:
    """What a blend of fifty ingredients is worth: waves, returns that fall, clashes."""
    rng = np.random.default_rng(3)
    mixed = x @ rng.normal(size=(N, 12))
    worth = 4 * np.sqrt(x + 0.01) @ abs(rng.normal(size=N))
    return np.sin(3 * mixed).sum(axis=1) + worth - 6 * (mixed[:, :4] ** 2).sum(axis=1)


def blends(rng: np.random.Generator, n: int) -> np.ndarray:
    """Shares of two to fifteen ingredients."""
    found = np.zeros((n, N))
    for row in found:
        some = rng.choice(N, rng.integers(2, 16), replace=False)
        row[some] = np.minimum(rng.dirichlet(np.ones(len(some))), MOST)
    return found


SURROGATES = {
    "facilities": Surrogate(
        "", facilities._recourse, [0] * 20, [1] * 20, (400, 400), 2500, 40,
        facilities._points,
    ),
    "blend": Surrogate("", taste, [0] * N, [1] * N, (1000, 1000), 6000, 12, blends),
}  # fmt: skip


@cache
def network(name: str) -> Network:
    """Trained here: as files they would be megabytes."""
    layers, fit = SURROGATES[name].train()
    print(f"{name}: R2 {fit:.3f}", flush=True)
    return dense(layers)


def large_facilities(seed: int, **options: Any) -> pyo.ConcreteModel:
    """The facilities of the wired models with a larger network."""
    m = facilities.facilities(seed, formulation=None)
    m.recourse.replace_network(network("facilities"))
    if options["formulation"] is not None:
        m.recourse.reformulate(options["formulation"])
    return m


def blend(seed: int, **options: Any) -> pyo.ConcreteModel:
    """Shares of at most eight of fifty ingredients, 3 % or more each, of some quality."""
    rng = np.random.default_rng(seed)
    price, quality = rng.uniform(0, 8, N).tolist(), rng.normal(size=N).tolist()
    m = pyo.ConcreteModel("blend")
    m.share = pyo.Var(range(N), bounds=(0, MOST))
    m.used = pyo.Var(range(N), domain=pyo.Binary)
    m.taste = ReLUNetBlock(network=network("blend"), inputs=m.share, **options)
    m.all = pyo.Constraint(expr=pyo.quicksum(m.share.values()) == 1)
    m.most = pyo.Constraint(range(N), rule=lambda m, i: m.share[i] <= MOST * m.used[i])
    m.least = pyo.Constraint(range(N), rule=lambda m, i: m.share[i] >= 0.03 * m.used[i])
    m.few = pyo.Constraint(expr=pyo.quicksum(m.used.values()) <= 8)
    good = pyo.quicksum(quality[i] * m.share[i] for i in range(N))
    m.quality = pyo.Constraint(expr=good >= 0.3)
    cost = pyo.quicksum(price[i] * m.share[i] for i in range(N))
    m.worth = pyo.Objective(expr=m.taste.outputs[0] - cost, sense=pyo.maximize)
    return m


MODELS: dict[str, Callable[..., pyo.ConcreteModel]] = {
    "facilities 20-400-400-1, min": large_facilities,
    "blend 50-1000-1000-1, max": blend,
}


def pruned(net: Network, x: np.ndarray, chosen_by: str) -> tuple[Network, float]:
    """A dense network with few neurons a layer, and how far it is off at points.

    The neurons that stay are those of a pivoted QR factorization of the activations at the
    points ("basis"), or those that move the next layer most ("size"). Least squares give the
    next layer's weights anew, so what is left out is at least replaced by its mean.

    Returns
    -------
    network : Network
    error : float
        Root mean square, in standard deviations of the true outputs at the points.
    """
    from scipy.linalg import qr

    affine = [node for node in net.nodes if node.kind == "affine"]
    true, small, layers = x, x, []
    w, b = affine[0].weights[0], affine[0].bias
    for node, after in zip(affine, affine[1:]):
        true = np.maximum(true @ node.weights[0].T + node.bias, 0.0)
        active = np.maximum(small @ w.T + b, 0.0)
        moves = (active - active.mean(axis=0)) * np.linalg.norm(after.weights[0], axis=0)
        if chosen_by == "basis":
            keep = qr(moves, mode="r", pivoting=True)[1][:KEPT]
        else:
            keep = np.argsort(-moves.std(axis=0))[:KEPT]
        layers.append((w[keep].T, b[keep]))
        small = active[:, keep]
        known = np.column_stack([small, np.ones(len(x))])
        damped = np.sqrt(1e-6 * len(x) * small.var(axis=0).mean()) * np.eye(len(known[0]))
        damped[-1, -1] = 0.0
        wanted = true @ after.weights[0].T + after.bias
        left = np.vstack([known, damped])
        right = np.vstack([wanted, np.zeros((len(damped), wanted.shape[1]))])
        found = np.linalg.lstsq(left, right, rcond=None)[0]
        w, b = found[:-1].T, found[-1]
    layers.append((w.T, b))
    made = dense(layers)
    y = net.evaluate(x)
    off = float(np.sqrt(((made.evaluate(x) - y) ** 2).mean()) / y.std())
    return made, off


def by_sequences(problem: Problem, seed: int, cpu: float) -> SequentialSearch:
    """Sequences alone."""
    search = SequentialSearch(problem, lambda z: None, Deadline(FAR, cpu), seed)
    search.run(search.deadline)
    return search


def by_pruning(
    m: pyo.ConcreteModel, problem: Problem, seed: int, cpu: float, chosen_by: str
) -> tuple[float, float, float]:
    """Cost of the best point; what the small network promised; how far it was off."""
    begin, seen = time.process_time(), []
    search = SequentialSearch(problem, seen.append, Deadline(FAR, cpu / 3), seed)
    search.run(search.deadline)
    near = [search.sampler.near(search.point) for _ in range(150)]
    x = np.array([z[: problem.n] for z in [*seen[-300:], *near]])
    points = np.zeros((len(x), search.model.n_columns))
    points[:, : problem.n] = x
    (batch,) = search.model.batches
    small, off = pruned(batch.network, batch.inputs(points)[:, 0], chosen_by)
    other = m.clone()
    (block,) = network_blocks(other)
    block.replace_network(small)
    block.reformulate("bigm")
    results = NewFactory("relu_highs").solve(
        other,
        time_limit=FAR,
        start_time=0.3,
        progress=lambda now: time.process_time() - begin > 2 * cpu / 3,
        raise_exception_on_nonoptimal_result=False,
        load_solutions=False,
    )
    if results.incumbent_objective is None:
        return search.best, np.nan, off
    results.solution_loader.load_vars()
    there = {v.name: v.value for v in other.component_data_objects(pyo.Var)}
    drivers = np.array([there[v.name] for v in problem.columns[: problem.n]])
    # Whatever the program took: the comparison errs on the side of pruning.
    left = max(cpu / 6, cpu - (time.process_time() - begin))
    after = SequentialSearch(problem, lambda z: None, Deadline(FAR, left), seed)
    after.run(after.deadline, present=drivers)
    return min(search.best, after.best), results.incumbent_objective, off


def by_paths(m: pyo.ConcreteModel, seed: int, cpu: float) -> float | None:
    """Gradient paths alone; the best of seeds, since they end long before the time."""
    start.START = replace(START, searches=frozenset(["gradient paths"]), wall_per_cpu=60.0)
    try:
        found = start.find_start(m, cpu, seed)
    finally:
        start.START = START
    return found.value if found.feasible else None


def measure(name: str, seed: int, limit: float) -> None:
    """All searches on one model."""
    m = MODELS[name](seed, formulation=None)
    problem = read_problem(m).for_points()
    row: dict[str, Any] = {"model": name, "seed": seed, "limit": limit}
    row["date"] = time.strftime("%Y-%m-%d")

    def note(search: str, value: float | None, **more: Any) -> None:
        kept = {**row, "search": search, "value": value, **more}
        append(CSV, FIELDS, kept)
        print(kept, flush=True)

    paths = by_paths(MODELS[name](seed, formulation="bigm"), seed, limit)
    note("gradient paths", paths)
    alone = by_sequences(problem, seed, limit)
    note("sequences", problem.user_objective(alone.best))
    for chosen_by in ("basis", "size"):
        cost, said, off = by_pruning(m, problem, seed, limit, chosen_by)
        value = problem.user_objective(cost)
        note(f"pruned by {chosen_by}", value, promised=said, error=off)


def report() -> None:
    """The table of what there is."""
    rows = read_rows(CSV, ["value", "promised", "error", "limit"], [])
    cells: dict[tuple[str, str], dict[str, str]] = {}
    searches = list(dict.fromkeys(r["search"] for r in rows))
    for r in rows:
        text = "-" if r["value"] is None else significant(r["value"], 4)
        if r["promised"] is not None:
            text += f" (promised {significant(r['promised'], 4)})"
        cells.setdefault((r["model"], r["seed"]), {})[r["search"]] = text
    lines = [[*key, *(own.get(s, "") for s in searches)] for key, own in cells.items()]
    publish("large_networks", {"searches": table(["model", "seed", *searches], lines)})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--limit", type=float, default=6.0, help="CPU seconds")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--only", default="", help="part of the name of a model")
    parser.add_argument("--report", action="store_true", help="the table of what there is")
    args = parser.parse_args()
    names = [name for name in MODELS if args.only in name]
    for name in () if args.report else names:
        for seed in args.seeds:
            measure(name, seed, args.limit)
    report()


if __name__ == "__main__":
    main()
