"""Searches on none, one or several worker processes: what is computed where, and what is sent.

``python benchmarks/in_parallel.py SEARCH WORKERS...`` runs the same search with each number of
workers (0: no executor) and prints CPU seconds of the search's own process and of all workers,
nodes, and bytes. Searches: ``prices`` (four subsystems that one row joins), ``sides`` (a network
of ten inputs over a box), ``rows`` (neur2sp of the wired models by sides, to 40,000 subproblems).
"""

from __future__ import annotations

import argparse
import pickle
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from typing import Any

import numpy as np
import pyomo.environ as pyo
import wired_models

from pyomo_relu import Network, NetworkBuilder, ReLUNetBlock, activations
from pyomo_relu.bounds import parallel
from pyomo_relu.presolve.reading import read_problem
from pyomo_relu.solvers.global_search.decompose import Decomposition
from pyomo_relu.solvers.global_search.limits import Limits
from pyomo_relu.solvers.global_search.neuron_search import NeuronSearch
from pyomo_relu.solvers.global_search.row_side_search import RowSideSearch

#: Inputs, hidden units, outputs of each subsystem's network, and of the one over a box.
SIZES = (4, 24, 24, 2)
ALONE = (10, 30, 30, 1)


def network(seed: int, sizes: tuple[int, ...] = SIZES) -> Network:
    """A random ReLU network."""
    rng, b = np.random.default_rng(seed), NetworkBuilder()
    last, n = b.input("x", (sizes[0],)), sizes[0]
    for k, size in enumerate(sizes[1:-1]):
        weights = rng.normal(size=(size, n)) * np.sqrt(2.0 / n)
        pre = b.affine(f"dense_{k}", [(last, weights)], 0.1 * rng.normal(size=size))
        last, n = b.piecewise(f"relu_{k}", pre, activations.relu()), size
    return b.build([b.affine("out", [(last, rng.normal(size=(sizes[-1], n)) / n**0.5)])])


def fleet(count: int) -> pyo.ConcreteModel:
    """So many subsystems, and a limit for all."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(count), range(SIZES[0]), bounds=(-1, 1))

    def build(b: Any, k: int) -> None:
        b.build(network(k), [m.x[k, i] for i in range(SIZES[0])], formulation=None)

    m.net = ReLUNetBlock(range(count), rule=build)
    outputs = [m.net[k].outputs for k in range(count)]
    m.limit = pyo.Constraint(expr=sum(y[1] for y in outputs) <= 0.1 * count)
    m.obj = pyo.Objective(expr=sum(y[0] for y in outputs), sense=pyo.maximize)
    return m


def box() -> pyo.ConcreteModel:
    """One network over a box."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(ALONE[0]), bounds=(-1, 1))
    m.net = ReLUNetBlock(network=network(0, ALONE), inputs=m.x, formulation=None)
    m.obj = pyo.Objective(expr=m.net.outputs[0], sense=pyo.maximize)
    return m


def prices(executor: Executor | None) -> Decomposition:
    """Branch and price."""
    return Decomposition(read_problem(fleet(4)), Limits(), executor=executor)


def sides(executor: Executor | None) -> NeuronSearch:
    """Sides of neurons alone."""
    return NeuronSearch(read_problem(box()), Limits(), executor)


def rows(executor: Executor | None) -> RowSideSearch:
    """Sides of neurons among rows."""
    problem = read_problem(wired_models.MODELS["neur2sp"](0))
    return RowSideSearch(problem, Limits(node_limit=40_000), executor)


SEARCHES: dict[str, Callable[[Executor | None], Any]] = {
    "prices": prices,
    "sides": sides,
    "rows": rows,
}


def of_workers() -> float:
    """CPU seconds of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def weigh(make: Callable[[Executor | None], Any], count: int) -> dict[str, int]:
    """Tasks of a search, and the bytes that go out and come back."""
    traffic = {"tasks": 0, "bytes out": 0, "bytes back": 0}
    chunks_of = parallel.run_chunks

    def weighed(function: Any, kept: Any, common: Any, chunks: Any, *rest: Any) -> Iterator:
        traffic["tasks"] += len(chunks)
        traffic["bytes out"] += sum(len(pickle.dumps(c, protocol=5)) for c in chunks)
        for k, answer in chunks_of(function, kept, common, chunks, *rest):
            traffic["bytes back"] += len(pickle.dumps(answer, protocol=5))
            yield k, answer

    parallel.run_chunks = weighed
    try:
        with ProcessPoolExecutor(count) as pool:
            make(pool).run()
    finally:
        parallel.run_chunks = chunks_of
    return traffic


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("search", choices=SEARCHES)
    parser.add_argument("workers", type=int, nargs="+")
    args = parser.parse_args()
    make = SEARCHES[args.search]
    for count in args.workers:
        before, pool = of_workers(), ProcessPoolExecutor(count) if count else None
        if pool is not None:
            list(
                pool.map(abs, range(count))
            )  # the processes are there before the clock runs
        search = make(pool)
        clock, cpu = time.perf_counter(), time.process_time()
        search.run()
        clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
        if pool is not None:
            pool.shutdown()
        print(
            f"{count} workers: {clock:.2f} s, {cpu:.2f} CPU s here, "
            f"{of_workers() - before:.2f} CPU s of workers, "
            f"{search.counts.boxes} nodes, {search.counts.rounds} rounds, "
            f"{search.counts.mips} MIPs, "
            f"best {search.incumbent.cost:.9g}, bound {search.bound:.9g}",
            flush=True,
        )
        if count:
            traffic = weigh(make, count)
            print("   " + ", ".join(f"{n:,} {name}" for name, n in traffic.items()))


if __name__ == "__main__":
    main()
