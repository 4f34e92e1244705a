"""Index sets that components share, and the table that knows them."""

import gc
import pickle
from copy import deepcopy

import pyomo.environ as pyo

from pyomo_relu.base.index_set import data_of, equal_sets_once, index_set
from pyomo_relu.base.weak_table import WeakTable


def test_equal_sets_are_made_once_where_that_is_asked():
    known = WeakTable()
    assert index_set(range(3)) is not index_set(range(3))
    with equal_sets_once(known):
        a, b, c = index_set(range(3)), index_set([0, 1, 2]), index_set([0, 2])
        assert a is b and a is not c
        assert index_set([(0, "x")]) is index_set([(0, "x")])
        with equal_sets_once(WeakTable()):
            assert index_set(range(3)) is not a
        assert index_set(range(3)) is a
    assert index_set(range(3)) is not a
    c.construct()
    assert list(a) == [0, 1, 2] and list(c) == [0, 2]


def test_a_shared_set_outlives_the_component_that_came_first():
    known = WeakTable()
    m = pyo.ConcreteModel()
    m.a, m.b = pyo.Block(), pyo.Block()
    with equal_sets_once(known):
        m.a.v = pyo.Var(index_set([1, 3]), bounds=(0, 1))
        m.b.v = pyo.Var(index_set([1, 3]), bounds=(0, 1))
    assert m.a.v.index_set() is m.b.v.index_set()
    for copy in (m.clone(), pickle.loads(pickle.dumps(m)), m.b.clone().model()):
        v = copy.v if copy.name != m.name else copy.b.v
        assert list(v) == [1, 3] and [d.index() for d in data_of(v)] == [1, 3]
    copy = m.clone()
    assert copy.a.v.index_set() is copy.b.v.index_set() is not m.a.v.index_set()
    m.del_component(m.a)
    assert list(m.b.v) == [1, 3] and list(m.clone().b.v) == [1, 3]
    with equal_sets_once(known):
        m.c = pyo.Var(index_set([1, 3]))
    assert m.c.index_set() is m.b.v.index_set() and list(m.clone().c) == [1, 3]


def test_the_table_holds_nothing_and_copies_are_empty():
    class Thing:
        pass

    table: WeakTable[Thing] = WeakTable()
    kept = table.put("kept", Thing())
    table.put("dropped", Thing())
    gc.collect()
    assert table.get("kept") is kept and table.get("dropped") is None and len(table) == 1
    for copy in (deepcopy(table), pickle.loads(pickle.dumps(table))):
        assert len(copy) == 0 and isinstance(copy, WeakTable)
    both = deepcopy([table, table])
    assert both[0] is both[1]
