"""The pool of branch and bound: nothing is lost, and the bound of the whole holds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pyomo_relu.bounds.pool import Inherited, Pool, halves
from tests.harness.random_networks import random_network


def test_the_least_bounds_are_taken_and_nothing_is_lost():
    rng = np.random.default_rng(0)
    pool, known, floor = Pool(lower=2), {}, math.inf
    for step in range(60):
        n = int(rng.integers(1, 40))
        bound = rng.normal(size=n)
        pool.push(bound=bound, lower=np.column_stack([bound, bound + 1.0]))
        known.update((b, b + 1.0) for b in bound)
        taken = pool.take(int(rng.integers(1, 20)))
        assert (np.diff(taken["bound"]) >= 0).all()
        assert sorted(known)[: len(taken["bound"])] == taken["bound"].tolist()
        for b, row in zip(taken["bound"], taken["lower"]):
            assert row[1] == known.pop(b) and row[0] == b
        if step % 10 == 9:
            cut = sorted(known)[len(known) // 2]
            floor = min(floor, min(b for b in known if b >= cut))
            pool.prune(cut)
            assert pool.floor == floor
            known = {b: v for b, v in known.items() if b < cut}
        assert len(pool) == len(known)


def test_of_equal_bounds_the_oldest_is_taken():
    pool, rng = Pool(name=None), np.random.default_rng(2)
    waiting: list[float] = []
    for first in range(0, 40, 4):
        names = np.arange(first, first + 4.0)
        pool.push(bound=np.zeros(4), name=names)
        waiting += names.tolist()
        k = int(rng.integers(1, 4))
        assert pool.take(k)["name"].tolist() == waiting[:k]
        del waiting[:k]


def test_the_last_parts_can_be_taken_first():
    pool = Pool({"side": np.int8}, side=2)
    pool.push(bound=np.arange(5.0), side=np.arange(10).reshape(5, 2))
    taken = pool.take(2, last=True)
    assert list(taken["bound"]) == [4.0, 3.0] and taken["side"].dtype == np.int8
    assert len(pool) == 3 and pool.nbytes == 3 * (8 + 8 + 2)
    assert len(pool.take(9, last=True)["bound"]) == 3 and not len(pool)


def test_children_stand_in_for_their_parents():
    pool = Pool(lower=1, upper=1, table=(2, 3))
    low, high = np.zeros((1, 1)), np.ones((1, 1))
    pool.push(bound=np.zeros(1), lower=low, upper=high, table=np.zeros((1, 2, 3)))
    rng = np.random.default_rng(1)
    for _ in range(10):
        which = rng.permutation(len(pool))[: max(1, len(pool) // 2)]
        low, high = pool["lower"][which], pool["upper"][which]
        new = halves(
            low, high, np.zeros(len(which), int), 0.3 * low[:, 0] + 0.7 * high[:, 0]
        )
        table = np.broadcast_to(new[0][:, :, None], (2 * len(which), 2, 3))
        pool.replace(
            which, bound=np.zeros(len(table)), lower=new[0], upper=new[1], table=table
        )
        ends = np.sort(pool["upper"][:, 0])
        assert np.array_equal(np.sort(pool["lower"][:, 0])[1:], ends[:-1]) and ends[-1] == 1
        assert (pool["table"] == pool["lower"][:, :, None]).all()


def test_a_round_that_is_interrupted_leaves_a_valid_bound():
    pool = Pool()
    assert pool.bound == -math.inf  # nothing is known
    pool.push(bound=np.array([1.0, 2.0, 3.0, 9.0]))
    pool.begin()
    with pool.round(2, cutoff=5.0) as some:
        assert list(some["bound"]) == [1.0, 2.0] and pool.bound == 1.0 and pool.floor == 9.0
        pool.push(bound=np.array([2.5]))
    assert pool.bound == 2.5 and len(pool) == 2
    with pytest.raises(KeyboardInterrupt), pool.round(1):
        raise KeyboardInterrupt
    assert len(pool) == 1 and pool.bound == 2.5
    pool.close(np.zeros(0))
    pool.close(2.0)
    assert pool.bound == 2.0


def test_halves_share_a_face_or_are_next_integers():
    lower, upper = np.zeros((3, 2)), np.full((3, 2), 4.0)
    axis, at = np.array([0, 1, 1]), np.array([1.0, 2.0, 2.0])
    low, high = halves(lower, upper, axis, at, np.array([False, False, True]))
    assert low.tolist() == [[0, 0]] * 3 + [[1, 0], [0, 2], [0, 3]]
    assert high.tolist() == [[1, 4], [4, 2], [4, 2]] + [[4, 4]] * 3


def test_inherited_bounds_come_back_as_they_were():
    rng = np.random.default_rng(0)
    network = random_network(rng, n_inputs=2, widths=(3, 4), max_pool=True)
    inherited = Inherited(network)
    start = inherited.by_node(inherited.start())
    assert all((a == -np.inf).all() for a in start[0])
    assert all((a == np.inf).all() for a in start[1])
    lows, highs = ([rng.normal(size=(5, n.size)) for n in network.nodes] for _ in range(2))
    again = inherited.by_node(inherited.stored(lows, highs, 5))
    for i in inherited.hidden:
        assert (again[0][i] == lows[i]).all() and (again[1][i] == highs[i]).all()
