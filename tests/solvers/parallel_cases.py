"""Searches whose work goes to an executor, and what they found, bit by bit."""

from __future__ import annotations

import concurrent.futures as cf
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import pyomo.environ as pyo

from pyomo_relu import ReLUNetBlock
from pyomo_relu.presolve.reading import read_problem
from pyomo_relu.sides import row_bounds
from pyomo_relu.sides.relu_chain import ReluChain
from pyomo_relu.solvers.global_search import box_search, shared_pricing
from pyomo_relu.solvers.global_search.box_search import BoxSearch
from pyomo_relu.solvers.global_search.cost_search import RoundSearch
from pyomo_relu.solvers.global_search.decompose import Decomposition
from pyomo_relu.solvers.global_search.limits import Limits
from pyomo_relu.solvers.global_search.neuron_search import NeuronSearch
from pyomo_relu.solvers.global_search.row_side_search import RowSideSearch
from tests.harness.random_networks import he_network
from tests.solvers.test_global import subsystems

#: What a search found: boxes, rounds, small MIPs, cost and bound, exactly.
Found = tuple[int, int, int, float, float]


class Counted:
    """An executor that counts what it is given."""

    def __init__(self, executor: Any) -> None:
        self.executor, self.tasks = executor, 0

    def submit(self, function: Callable, /, *args: Any, **kwds: Any) -> cf.Future:
        """As the executor's own."""
        self.tasks += 1
        return self.executor.submit(function, *args, **kwds)


def box(seed: int, sizes: list[int], rows: bool = False) -> pyo.ConcreteModel:
    """A network whose first output is least, over a box or, with ``rows``, among rows."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(sizes[0]), bounds=(-1, 1))
    m.net = ReLUNetBlock(network=he_network(seed, sizes), inputs=m.x, formulation=None)
    m.obj = pyo.Objective(expr=m.net.outputs[0] + 0.1 * m.x[0])
    if rows:
        m.x[1].domain = pyo.Integers
        m.few = pyo.Constraint(expr=sum(m.x.values()) <= 0.5)
        m.level = pyo.Constraint(expr=m.net.outputs[0] + 0.3 * m.x[2] >= -1.2)
    return m


@contextmanager
def small_chunks() -> Iterator[None]:
    """Chunks so small that little work makes many; every pricing goes out."""
    prices = replace(shared_pricing.PRICES, worth_sending=0.0)
    boxes = replace(box_search.BOXES, chunk=32)
    sides = replace(ReluChain.settings, chunk=8)
    with (
        mock.patch.object(box_search, "BOXES", boxes),
        mock.patch.object(shared_pricing, "PRICES", prices),
        mock.patch.object(ReluChain, "settings", sides),
    ):
        yield


def boxes(executor: Any) -> RoundSearch:
    """Boxes of five inputs."""
    limits = Limits(batch_size=300, leaf_neurons=0, node_limit=4000)
    return BoxSearch(read_problem(box(0, [5, 20, 20, 1])), limits, executor)


def prices(executor: Any) -> RoundSearch:
    """Three subsystems that a row joins."""
    problem = read_problem(subsystems(3, None, inputs=3))
    return Decomposition(problem, Limits(), executor=executor)


def sides(executor: Any) -> RoundSearch:
    """Sides of neurons over a box."""
    return NeuronSearch(read_problem(box(2, [10, 16, 16, 1])), Limits(), executor)


def sides_among_rows(executor: Any) -> RoundSearch:
    """Sides of neurons and columns among rows, with small programs."""
    problem = read_problem(box(2, [8, 12, 8, 1], rows=True))
    search = RowSideSearch(problem, Limits(rel_gap=1e-6), executor)
    search.settings = replace(row_bounds.SETTINGS, chunk=4, batch=16, leaf=8)
    return search


CASES: dict[str, Callable[[Any], Any]] = {
    "boxes": boxes,
    "prices": prices,
    "sides": sides,
    "sides among rows": sides_among_rows,
}


def run(case: str, executor: Any = None) -> Found:
    """What the search of a case finds; with an executor something is sent to it."""
    counted = None if executor is None else Counted(executor)
    with small_chunks():
        search = CASES[case](counted)
        search.run()
    assert counted is None or counted.tasks > 4
    assert search.proved or case == "boxes"
    c = search.counts
    return c.boxes, c.rounds, c.mips, search.incumbent.cost, search.bound
