"""Limits within long work, pauses of a search by prices, and the share of points."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.contrib.solver.common.factory import SolverFactory as NewFactory

from pyomo_relu.base.deadline import Deadline, TimeUp, work_time
from pyomo_relu.presolve.reading import read_problem
from pyomo_relu.solvers.global_search import cost_search, shared_pricing
from pyomo_relu.solvers.global_search.box_search import BoxSearch
from pyomo_relu.solvers.global_search.decompose import Decomposition
from pyomo_relu.solvers.global_search.fibres import NotEnumeratedError
from pyomo_relu.solvers.global_search.limits import Limits
from pyomo_relu.solvers.global_search.pieces import find_all_pieces
from pyomo_relu.solvers.global_search.shares import find_shares
from pyomo_relu.solvers.global_search.subsystems import CellSubsystem
from tests.harness.random_networks import he_network
from tests.solvers.test_global import box_model, subsystems

pytest.importorskip("highspy")


def fleet():
    """Two subsystems of three inputs, which take several pricings."""
    return subsystems(2, None, inputs=3)


def test_a_pricing_ends_soon_after_the_user_said_stop(monkeypatch):
    cuts, split = [], CellSubsystem._split

    def counted(self, *args):
        cuts.append(None)
        return split(self, *args)

    monkeypatch.setattr(CellSubsystem, "_split", counted)
    always = cost_search.COST.__class__(poll_every=0.0)
    monkeypatch.setattr(cost_search, "COST", always)
    results = NewFactory("relu_global").solve(
        fleet(),
        progress=lambda event: len(cuts) >= 2,
        raise_exception_on_nonoptimal_result=False,
        load_solutions=False,
    )
    assert results.termination_condition.name == "interrupted"
    assert len(cuts) == 2


def test_work_on_a_box_pauses_and_ends_the_same():
    whole = Decomposition(read_problem(fleet()), Limits())
    whole.run()
    parts = Decomposition(read_problem(fleet()), Limits())
    parts.begin()
    bounds, pauses = [], 0
    while not parts.done:
        parts.round()
        bounds.append(parts.bound)
        pauses += parts._working is not None
    assert whole.proved and parts.proved and pauses > 0
    assert parts.bound == whole.bound and parts.incumbent.cost == whole.incumbent.cost
    assert (np.diff(np.maximum(bounds, -1e9)) >= -1e-12).all()
    best = whole.incumbent.cost
    assert all(bound <= best + 1e-9 for bound in bounds)


def test_a_box_whose_work_was_cut_short_keeps_its_bound():
    search = Decomposition(read_problem(fleet()), Limits())
    search.begin()
    while search._working is None:
        search.round()
    search.stopped = "time"
    search.round()
    assert search._working is None and search.open_boxes > 0
    assert search.bound <= search.incumbent.cost


def test_points_get_their_share_of_the_time_and_no_more(monkeypatch):
    m = box_model(he_network(3, (6, 8, 8, 1)))
    m.row = pyo.Constraint(expr=m.x[0] + m.x[1] <= 0.5)
    search = BoxSearch(read_problem(m), Limits(points=True))
    begin, spent = search.deadline.cpu_begin, []
    monkeypatch.setattr(search.points, "turn", lambda *args, stop: spent.append(None))
    search.deadline.cpu_begin = work_time()
    search.share_with_points(0.25)
    assert not spent
    search.deadline.cpu_begin = begin - 100.0

    def turn(*args, stop):
        spent.append(None)
        search.points.spent += 10.0
        search.points.done = len(spent) > 9

    monkeypatch.setattr(search.points, "turn", turn)
    search.share_with_points(0.25)
    assert spent
    search.points.spent, count = 30.0, len(spent)
    search.points.done = False
    search.share_with_points(0.25)
    assert len(spent) == count


@pytest.mark.parametrize("workers", [1, 2])
def test_prices_are_the_same_on_any_number_of_processes(workers, monkeypatch):
    monkeypatch.setattr(
        shared_pricing, "PRICES", shared_pricing.PRICES.__class__(worth_sending=0.0)
    )
    calls = []
    price = CellSubsystem.price

    def counted(self, *args):
        calls.append(self)
        return price(self, *args)

    monkeypatch.setattr(CellSubsystem, "price", counted)
    runs = []
    with ProcessPoolExecutor(workers) as pool:
        for executor in (None, pool):
            calls.clear()
            problem = read_problem(subsystems(3, None, inputs=3))
            search = Decomposition(problem, Limits(), executor=executor)
            search.run()
            assert search.proved
            found = search.counts.boxes, search.counts.rounds, search.counts.mips
            runs.append((*found, search.incumbent.cost, search.bound))
            assert bool(calls) == (executor is None)  # workers price by themselves
    assert runs[0] == runs[1]


def test_polytopes_are_the_same_on_other_processes():
    problem = read_problem(subsystems(3, None))
    shares = find_shares(problem)
    here = find_all_pieces(problem, shares)
    with ProcessPoolExecutor(2) as pool:
        there = find_all_pieces(problem, shares, executor=pool)
        assert len(here) == len(there) == len(shares)
        for one, other in zip(here, there):
            for name in ("points", "piece", "choice", "centre", "margin"):
                assert (getattr(one, name) == getattr(other, name)).all()
        wide = read_problem(subsystems(2, None, inputs=3))
        with pytest.raises(NotEnumeratedError, match="more than two inputs"):
            find_all_pieces(wide, find_shares(wide), executor=pool)
        with pytest.raises(TimeUp):
            find_all_pieces(problem, shares, Deadline(0.0), pool)


def test_a_search_on_workers_ends_where_the_user_says_stop(monkeypatch):
    monkeypatch.setattr(
        shared_pricing, "PRICES", shared_pricing.PRICES.__class__(worth_sending=0.0)
    )
    with ProcessPoolExecutor(1) as pool:
        results = NewFactory("relu_global").solve(
            fleet(),
            executor=pool,
            progress=lambda event: True,
            raise_exception_on_nonoptimal_result=False,
            load_solutions=False,
        )
    assert results.termination_condition.name == "interrupted"
    whole = Decomposition(read_problem(fleet()), Limits())
    whole.run()
    best = whole.problem.user_objective(whole.incumbent.cost)
    assert results.objective_bound >= best - 1e-9  # maximized
