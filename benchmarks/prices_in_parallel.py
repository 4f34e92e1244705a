"""Subsystems that one row joins, priced by none, one or several worker processes.

``python benchmarks/prices_in_parallel.py SUBSYSTEMS WORKERS...`` proves the same model with
each number of workers (0: no executor), and prints seconds, cells, and what was sent.
"""

from __future__ import annotations

import argparse
import pickle
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import pyomo.environ as pyo

from pyomo_relu import Network, NetworkBuilder, ReLUNetBlock, activations
from pyomo_relu.presolve.reading import read_problem
from pyomo_relu.solvers.global_search import shared_pricing
from pyomo_relu.solvers.global_search.decompose import Decomposition
from pyomo_relu.solvers.global_search.limits import Limits

#: Inputs, hidden units, outputs of each network.
SIZES = (4, 24, 24, 2)


def network(seed: int) -> Network:
    """A random ReLU network."""
    rng, b = np.random.default_rng(seed), NetworkBuilder()
    last, n = b.input("x", (SIZES[0],)), SIZES[0]
    for k, size in enumerate(SIZES[1:-1]):
        weights = rng.normal(size=(size, n)) * np.sqrt(2.0 / n)
        pre = b.affine(f"dense_{k}", [(last, weights)], 0.1 * rng.normal(size=size))
        last, n = b.piecewise(f"relu_{k}", pre, activations.relu()), size
    return b.build([b.affine("out", [(last, rng.normal(size=(SIZES[-1], n)) / n**0.5)])])


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subsystems", type=int)
    parser.add_argument("workers", type=int, nargs="+")
    args = parser.parse_args()
    traffic = {"pricings": 0, "out": 0, "back": 0}
    chunks_of = shared_pricing.run_chunks

    def weighed(function: Any, kept: Any, common: Any, chunks: Any, *rest: Any) -> Iterator:
        traffic["pricings"] += len(chunks)
        traffic["out"] += sum(len(pickle.dumps(c, protocol=5)) for c in chunks)
        for k, answer in chunks_of(function, kept, common, chunks, *rest):
            traffic["back"] += len(pickle.dumps(answer, protocol=5))
            yield k, answer

    for count in args.workers:
        problem = read_problem(fleet(args.subsystems))
        pool = ProcessPoolExecutor(count) if count else None
        if pool is not None:
            list(
                pool.map(abs, range(count))
            )  # the processes are there before the clock runs
        clock, cpu = time.perf_counter(), time.process_time()
        search = Decomposition(problem, Limits(), executor=pool)
        search.run()
        clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
        print(
            f"{count} workers: {clock:.2f} s, {cpu:.2f} CPU s here, "
            f"{search.counts.boxes} cells, {search.counts.rounds} rounds, "
            f"best {search.incumbent.cost:.9g}, bound {search.bound:.9g}"
        )
        if pool is not None:
            pool.shutdown()
            # Once more with everything weighed, which takes time itself.
            shared_pricing.run_chunks = weighed
            with ProcessPoolExecutor(count) as again:
                Decomposition(problem, Limits(), executor=again).run()
            shared_pricing.run_chunks = chunks_of
            print("   " + ", ".join(f"{name} {n:,}" for name, n in traffic.items()))
            traffic = dict.fromkeys(traffic, 0)


if __name__ == "__main__":
    main()
