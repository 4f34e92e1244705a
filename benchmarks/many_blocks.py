"""Many blocks of one network: building against a flat model, and what solvers read.

    python benchmarks/many_blocks.py [--quick] [--report]

Every row is measured in a process of its own with one thread, into
``benchmarks/results/many_blocks.csv``; a run that was stopped continues where it was, and
``--report`` makes the tables from the rows there are. Networks are He-normal with seed 0,
each block has a box of its own inside [-1, 1]. CPU seconds are the least of three builds
after a small one, memory is the growth of the process's peak over the first of them. The
flat model has the same variables and rows as the blocks, written by hand over indexed
components of Pyomo; its bounds are given, those of the blocks are computed.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import gc
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyomo.environ as pyo
from common import RESULTS, append, publish, read_rows, seconds, significant, table

from pyomo_relu import NetworkBuilder, ReLUNetBlock, activations
from pyomo_relu.bounds import compute_bounds
from pyomo_relu.network import Network

CSV = RESULTS / "many_blocks.csv"
FIELDS = ["network", "blocks", "what", "cpu", "megabytes", "variables", "rows", "date"]
#: Widths of the layers and numbers of blocks; the first are the example of students, the
#: investment problem, and one whose blocks are as small as they get.
SIZES = {
    "3-10-10-1": [250],
    "4-64-1": [121],
    "2-8-1": [100, 300, 1000, 3000, 10_000],
}
#: How the blocks are built.
BUILDS = ["one component", "a component each", "flat"]
#: What solvers and users do with a model of many blocks, measured up to so many.
MOST_READ = 3000


def he_network(widths: list[int]) -> Network:
    """Dense ReLU layers with He-normal weights."""
    rng, b = np.random.default_rng(0), NetworkBuilder()
    v = b.input("x", (widths[0],))
    for k, (m, n) in enumerate(zip(widths, widths[1:])):
        weights = rng.normal(size=(n, m)) * np.sqrt(2.0 / m)
        v = b.affine(f"dense{k}", [(v, weights)], 0.1 * rng.normal(size=n))
        if k + 2 < len(widths):
            v = b.piecewise(f"relu{k}", v, activations.relu())
    return b.build([v])


def boxes_of(widths: list[int], n: int) -> tuple[np.ndarray, np.ndarray]:
    """A box for each block, (n, n_inputs)."""
    rng = np.random.default_rng(1)
    return rng.uniform(-1, -0.5, (n, widths[0])), rng.uniform(0.5, 1, (n, widths[0]))


def inputs(m: Any, widths: list[int], n: int) -> None:
    """The variables that the networks read."""
    low, high = boxes_of(widths, n)
    m.blocks = pyo.RangeSet(0, n - 1)
    m.x = pyo.Var(m.blocks, range(widths[0]))
    for (i, j), v in m.x.items():
        v.setlb(float(low[i, j]))
        v.setub(float(high[i, j]))


def one_component(network: Network, widths: list[int], n: int) -> pyo.ConcreteModel:
    """An indexed block."""
    m = pyo.ConcreteModel()
    inputs(m, widths, n)
    m.net = ReLUNetBlock(
        m.blocks, network=network, inputs=lambda m, i: [m.x[i, j] for j in range(widths[0])]
    )
    m.total = pyo.Objective(expr=pyo.quicksum(m.net[i].outputs[0] for i in m.blocks))
    return m


def component_each(network: Network, widths: list[int], n: int) -> pyo.ConcreteModel:
    """A scalar block for each: nothing is computed together."""
    m = pyo.ConcreteModel()
    inputs(m, widths, n)
    for i in m.blocks:
        own = [m.x[i, j] for j in range(widths[0])]
        m.add_component(f"net{i}", ReLUNetBlock(network=network, inputs=own))
    outputs = (m.component(f"net{i}").outputs[0] for i in m.blocks)
    m.total = pyo.Objective(expr=pyo.quicksum(outputs))
    return m


class FlatModel:
    """The same variables and rows as users write them; bounds are known beforehand."""

    def __init__(self, network: Network, widths: list[int], n: int) -> None:
        self.widths, self.n = widths, n
        affine = [k for k, node in enumerate(network.nodes) if node.kind == "affine"]
        self.weights = [network.nodes[k].weights[0].tolist() for k in affine]
        self.bias = [network.nodes[k].bias.tolist() for k in affine]
        boxes = zip(*boxes_of(widths, n))
        # Neither formulation depends on how tight the bounds are, but the rows do.
        bounds = [compute_bounds(network, *box) for box in boxes]
        self.low = [[b.lower[k].tolist() for k in affine] for b in bounds]
        self.high = [[b.upper[k].tolist() for k in affine] for b in bounds]

    def build(self) -> pyo.ConcreteModel:
        """The model."""
        m, widths, low, high = pyo.ConcreteModel(), self.widths, self.low, self.high
        inputs(m, widths, self.n)
        last = len(widths) - 2
        units = [
            (i, k, u)
            for i in range(self.n)
            for k in range(last)
            for u in range(widths[k + 1])
        ]
        open_ = [(i, k, u) for i, k, u in units if low[i][k][u] < 0 < high[i][k][u]]
        on = [key for key in units if low[key[0]][key[1]][key[2]] >= 0]
        m.pre = pyo.Var(units, bounds=lambda m, i, k, u: (low[i][k][u], high[i][k][u]))
        m.post = pyo.Var(open_, bounds=lambda m, i, k, u: (0, high[i][k][u]))
        m.is_on = pyo.Var(open_, domain=pyo.Binary)
        m.y = pyo.Var(m.blocks)
        values = {**{key: m.pre[key] for key in on}, **{key: m.post[key] for key in open_}}

        def affine(m: Any, i: int, k: int, u: int) -> Any:
            row, c = self.weights[k][u], self.bias[k][u]
            if k == 0:
                return sum(w * m.x[i, j] for j, w in enumerate(row)) + c
            terms = ((w, values.get((i, k - 1, j), 0.0)) for j, w in enumerate(row))
            return sum(w * v for w, v in terms) + c

        m.affine = pyo.Constraint(units, rule=lambda m, *key: affine(m, *key) == m.pre[key])
        m.above = pyo.Constraint(open_, rule=lambda m, *key: m.post[key] >= m.pre[key])
        m.off = pyo.Constraint(
            open_,
            rule=lambda m, i, k, u: m.post[i, k, u] <= high[i][k][u] * m.is_on[i, k, u],
        )
        m.on = pyo.Constraint(
            open_,
            rule=lambda m, i, k, u: (
                m.post[i, k, u] <= m.pre[i, k, u] - low[i][k][u] * (1 - m.is_on[i, k, u])
            ),
        )
        m.out = pyo.Constraint(m.blocks, rule=lambda m, i: affine(m, i, last, 0) == m.y[i])
        m.total = pyo.Objective(expr=pyo.quicksum(m.y.values()))
        return m


def builder(what: str, widths: list[int], n: int) -> Callable[[], pyo.ConcreteModel]:
    """What builds a model from a network in memory."""
    network = he_network(widths)
    if what == "flat":
        return FlatModel(network, widths, n).build
    make = one_component if what == "one component" else component_each
    return lambda: make(network, widths, n)


def measured(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds, and what was made."""
    gc.collect()
    begin = time.process_time()
    made = work()
    return time.process_time() - begin, made


def peak() -> float:
    """Megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_build(what: str, widths: list[int], n: int) -> Iterator[dict]:
    """The row of a way to build."""
    builder(what, widths, 2)()
    work = builder(what, widths, n)
    before = peak()
    cpu, m = measured(work)
    row = {"what": what, "megabytes": peak() - before}
    row["variables"] = sum(1 for _ in m.component_data_objects(pyo.Var))
    row["rows"] = sum(1 for _ in m.component_data_objects(pyo.Constraint))
    for _ in range(2 if n < 10_000 else 0):
        del m
        again, m = measured(work)
        cpu = min(cpu, again)
    yield {**row, "cpu": cpu}


def measure_reading(widths: list[int], n: int) -> Iterator[dict]:
    """Rows of what is done with a model that is built."""
    from pyomo_relu.formulations import network_blocks
    from pyomo_relu.heuristics.network_columns import NetworkProblem
    from pyomo_relu.heuristics.polish import polish
    from pyomo_relu.presolve.fixed_outputs import compile_with_networks
    from pyomo_relu.presolve.reading import read_problem

    m = builder("one component", widths, n)()
    m.budget = pyo.Constraint(expr=pyo.quicksum(m.x[i, 0] for i in m.blocks) <= 0.1 * n)
    blocks = list(network_blocks(m))
    form = compile_with_networks(m)

    def start() -> None:
        for block in blocks:
            block.warm_start([0.0] * widths[0])

    steps: dict[str, Callable[[], Any]] = {
        "standard form": lambda: compile_with_networks(m),
        "relu_highs, networks": lambda: NetworkProblem(form, blocks),
        "relu_global, reading": lambda: read_problem(m),
        "warm_start": start,
        "error": m.net.error,
        "statistics": m.net.statistics,
        "clone": m.clone,
        "polish": lambda: polish(m),
        "reformulate('hull')": lambda: m.net.reformulate("hull"),
        "transformation relu.bigm": lambda: pyo.TransformationFactory("relu.bigm").apply_to(
            m
        ),
    }
    for what, work in steps.items():
        yield {"what": what, "cpu": measured(work)[0]}


def one(what: str, network: str, n: int) -> None:
    """Measure here, and print the rows."""
    widths = [int(width) for width in network.split("-")]
    found = measure_reading(widths, n) if what == "use" else measure_build(what, widths, n)
    for row in found:
        print("RESULT", json.dumps(row), flush=True)


def run(quick: bool) -> None:
    """Measure what the table lacks."""
    have = {(r["network"], r["blocks"], r["what"]) for r in read_rows(CSV, [], [])}
    for network, numbers in SIZES.items():
        for n in numbers[:2] if quick else numbers:
            for what in [*BUILDS, "use"]:
                known = "standard form" if what == "use" else what
                too_many = what == "use" and (network != "2-8-1" or n > MOST_READ)
                if too_many or (network, str(n), known) in have:
                    continue
                call = [sys.executable, __file__, "--one", what, network, str(n)]
                done = subprocess.run(call, capture_output=True, text=True, check=True)
                for line in done.stdout.splitlines():
                    if line.startswith("RESULT "):
                        row = json.loads(line[len("RESULT ") :])
                        row |= {"network": network, "blocks": n}
                        row["date"] = time.strftime("%Y-%m-%d")
                        append(CSV, FIELDS, row)
                        print(row, flush=True)


def building(rows: list[dict]) -> str:
    """The table of ways to build."""
    found = {(r["network"], int(r["blocks"]), r["what"]): r for r in rows}
    lines = []
    for network, numbers in SIZES.items():
        for n in numbers:
            own, each, flat = (found.get((network, n, what)) for what in BUILDS)
            if own is None or each is None or flat is None:
                continue
            lines.append(
                [
                    network,
                    f"{n:,}",
                    f"{int(own['variables']):,}",
                    *(seconds(r["cpu"]) for r in (own, each, flat)),
                    significant(1000 * own["cpu"] / n, 3),
                    significant(own["cpu"] / flat["cpu"], 2),
                    *(significant(max(r["megabytes"], 1.0), 2) for r in (own, flat)),
                ]
            )
    head = ["network", "blocks", "variables", "one component", "a component each", "flat"]
    rest = ["ms a block", "one component / flat", "MB", "MB, flat"]
    return table([*head, *rest], lines)


def reading(rows: list[dict]) -> str:
    """The table of what is done with a model, by the number of blocks."""
    numbers = [n for n in SIZES["2-8-1"] if 100 < n <= MOST_READ]
    found: dict[str, dict[int, float]] = {}
    for r in rows:
        if r["what"] not in BUILDS:
            found.setdefault(r["what"], {})[int(r["blocks"])] = r["cpu"]
    lines = [[what, *(seconds(own.get(n)) for n in numbers)] for what, own in found.items()]
    return table(["CPU seconds", *(f"{n:,} blocks" for n in numbers)], lines)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="the smallest numbers of blocks"
    )
    parser.add_argument("--report", action="store_true", help="only the tables")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        one(args.one[0], args.one[1], int(args.one[2]))
        return
    if not args.report:
        run(args.quick)
    rows = read_rows(Path(CSV), ["cpu", "megabytes", "variables", "rows"], [])
    publish("many_blocks", {"building": building(rows), "reading": reading(rows)})


if __name__ == "__main__":
    main()
