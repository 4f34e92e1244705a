"""Which values columns take: by enumeration of random models."""

from __future__ import annotations

import itertools

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import ReLUNetBlock
from pyomo_relu.presolve.reading import read_problem
from pyomo_relu.presolve.substitute import Columns
from pyomo_relu.presolve.values import FiniteValues, ValueGrid, find_values
from pyomo_relu.programs.standard_form import StandardForm, compile_standard_form
from pyomo_relu.solvers.global_search.box_search import BoxSearch
from pyomo_relu.solvers.global_search.cost_search import Limits
from tests.harness.random_networks import he_network


def random_choices(seed: int) -> pyo.ConcreteModel:
    """Binaries in choices, integers, and chains of variables that these make."""
    rng = np.random.default_rng(seed)
    m = pyo.ConcreteModel()
    sizes = rng.integers(1, 4, int(rng.integers(1, 3))).tolist()
    m.z = pyo.Var(
        [(a, k) for a, s in enumerate(sizes) for k in range(s)], domain=pyo.Binary
    )
    m.k = pyo.Var(range(2), domain=pyo.Integers, bounds=(-1, 1))
    m.x = pyo.Var(range(4))
    m.rows = pyo.ConstraintList()
    scale = float(rng.choice([1.0, -2.0, 0.5]))
    for a, s in enumerate(sizes):
        total = scale * sum(m.z[a, k] for k in range(s))
        if rng.random() < 0.5 and s > 1:
            m.rows.add(total == scale)
        elif s > 1:
            m.rows.add(total <= scale if scale > 0 else total >= scale)
    if rng.random() < 0.3:
        m.z[0, 0].setub(0)
    sources = [*m.z.values(), *m.k.values()]
    for x in m.x.values():
        count = int(rng.integers(1, 4))
        some = [sources[i] for i in rng.permutation(len(sources))[:count]]
        weights = rng.integers(1, 5, count) * rng.choice([-0.1, 0.3], count)
        right = sum(float(w) * v for w, v in zip(weights, some)) + 0.2
        m.rows.add(3 * x == 3 * right if rng.random() < 0.5 else x == right)
        sources.append(x)
    if rng.random() < 0.5:
        m.x[3].setlb(0.0)
    m.cost = pyo.Objective(expr=sum(m.x.values()) + sum(m.z.values()) + sum(m.k.values()))
    return m


def read(m: pyo.ConcreteModel) -> tuple[StandardForm, FiniteValues]:
    form = compile_standard_form(m)
    columns = Columns(form)
    return form, find_values(form, columns.low, columns.high)


@pytest.mark.parametrize("seed", range(60))
def test_every_feasible_point_has_the_values(seed):
    m = random_choices(seed)
    form, found = read(m)
    columns = Columns(form)
    number = {v.name: j for j, v in enumerate(form.columns)}
    whole = [*m.z.values(), *m.k.values()]
    ranges = [range(int(v.lb), int(v.ub) + 1) for v in whole]
    own: dict[int, int] = {}
    met: dict[int, set[float]] = {number[x.name]: set() for x in m.x.values()}
    for point in itertools.product(*ranges):
        z = np.zeros(len(form.columns))
        for v, value in zip(whole, point):
            z[number[v.name]] = value
        for x in m.x.values():
            j = number[x.name]
            i = int(np.flatnonzero(form.matrix.toarray()[:, j])[0])
            own[j] = i
            rest = form.matrix.toarray()[i] @ z
            z[j] = (form.row_lower[i] - rest) / form.matrix.toarray()[i, j]
        if form.violation(z) > 1e-7:
            continue
        for j, values in met.items():
            values.add(z[j])
            if j in found.values:
                assert np.abs(found.values[j] - z[j]).min() < 1e-7
            elif columns.low[j] != columns.high[j]:  # too many combinations
                assert np.count_nonzero(form.matrix.toarray()[own[j], list(met)]) > 2
            one = found.by_choice.get(j)
            if one is not None:
                members = found.choices[one.choice].columns
                assert one.constant + one.weights @ z[members] == pytest.approx(z[j])
            members = found.members(j)
            if members is not None:
                (here,) = (v for v, k in members.items() if z[k] == 1)
                assert here == pytest.approx(z[j])
    assert any(values for values in met.values()) or seed  # not all are infeasible


def test_a_grid_of_prices_and_a_sum_of_two():
    m = pyo.ConcreteModel()
    m.z = pyo.Var(range(2), range(3), domain=pyo.Binary)
    m.p, m.total = pyo.Var(range(2), bounds=(0, 9)), pyo.Var()
    m.one = pyo.Constraint(
        range(2), rule=lambda m, i: sum(m.z[i, k] for k in range(3)) == 1
    )
    m.price = pyo.Constraint(
        range(2), rule=lambda m, i: m.p[i] == sum((k + 1) * m.z[i, k] for k in range(3))
    )
    m.sum = pyo.Constraint(expr=m.total == m.p[0] + 10 * m.p[1])
    m.cost = pyo.Objective(expr=m.total)
    form, found = read(m)
    j = {v.name: j for j, v in enumerate(form.columns)}
    assert found.values[j["p[0]"]].tolist() == [1.0, 2.0, 3.0]
    names = {v: form.columns[k].name for v, k in found.members(j["p[1]"]).items()}
    assert names == {1.0: "z[1,0]", 2.0: "z[1,1]", 3.0: "z[1,2]"}
    assert found.values[j["total"]].tolist() == [
        a + 10 * b for b in (1, 2, 3) for a in (1, 2, 3)
    ]
    assert found.members(j["total"]) is None


def test_many_values_are_none():
    m = pyo.ConcreteModel()
    m.k = pyo.Var(range(2), domain=pyo.Integers, bounds=(0, 99))
    m.p, m.free = pyo.Var(), pyo.Var(domain=pyo.Integers)
    m.row = pyo.Constraint(expr=m.p == m.k[0] + 100 * m.k[1])
    m.cost = pyo.Objective(expr=m.p + m.free)
    form, found = read(m)
    assert {form.columns[j].name for j in found.values} == {"k[0]", "k[1]"}


def test_boxes_shrink_to_values():
    grid = ValueGrid({1: np.array([0.0, 0.1 * 3, 1.0])})
    lower, upper = np.array([[0.0, 0.1], [0.0, 0.4], [0.0, 0.3]]), np.ones((3, 2))
    upper[:, 1] = [0.9, 0.9, 2.0]
    # The value 0.1 * 3 is a rounding above 0.3, and both are the same.
    assert grid.shrink(lower, upper).tolist() == [False, True, False]
    assert lower[[0, 2], 1].tolist() == [0.1 * 3] * 2
    assert upper[[0, 2], 1].tolist() == [0.1 * 3, 1.0] and (upper[:, 0] == 1).all()
    x = np.array([0.7, 0.7])
    grid.round(x)
    assert x.tolist() == [0.7, 1.0]


def two_prices() -> pyo.ConcreteModel:
    """Demand by two prices of grids, so that no choice alone determines it."""
    m = pyo.ConcreteModel()
    m.z = pyo.Var(range(2), range(4), domain=pyo.Binary)
    m.p, m.sold = pyo.Var(range(2), bounds=(0, 4)), pyo.Var(bounds=(0, 9))
    m.one = pyo.Constraint(range(2), rule=lambda m, i: sum(m.z[i, :]) == 1)
    m.price = pyo.Constraint(
        range(2), rule=lambda m, i: m.p[i] == sum((k + 0.5) * m.z[i, k] for k in range(4))
    )
    m.net = ReLUNetBlock(
        network=he_network(5, (2, 8, 1)), inputs=[m.p[0], m.p[1]], formulation=None
    )
    m.cost = pyo.Objective(expr=m.net.outputs[0] - 0.3 * m.p[0])
    return m


def test_drivers_of_few_values_are_split_at_them():
    m = two_prices()
    p = read_problem(m)
    assert {p.columns[j].name: v.tolist() for j, v in p.grid.values.items()} == {
        "p[0]": [0.5, 1.5, 2.5, 3.5],
        "p[1]": [0.5, 1.5, 2.5, 3.5],
    }
    search = BoxSearch(p, Limits(leaf_neurons=0, rel_gap=0.0, abs_gap=0.0))
    met: list[np.ndarray] = []
    search._add = lambda lower, upper, stored, parent: met.extend([lower, upper])
    whole = [np.append(a[: p.n], a[search.whole])[None] for a in (p.lower, p.upper)]
    one = {"stored": search.bounder.inherited.start()[None], "bound": np.zeros(1)}
    dim, point = np.array([0]), np.array([2.25])
    search._split({"lower": whole[0], "upper": whole[1], "dim": dim, "point": point} | one)
    assert met[0][:, 0].tolist() == [0.5, 2.5] and met[1][:, 0].tolist() == [1.5, 3.5]
    del search._add
    search.run()
    best = min(
        m.net.network.evaluate(np.array([a, b]))[0] - 0.3 * a
        for a in (0.5, 1.5, 2.5, 3.5)
        for b in (0.5, 1.5, 2.5, 3.5)
    )
    assert p.user_objective(search.incumbent.cost) == pytest.approx(best)
    assert search.proved


def test_outputs_of_few_values_have_their_exact_range():
    m = two_prices()
    p = read_problem(m)
    grid = np.array([(a, b) for a in (0.5, 1.5, 2.5, 3.5) for b in (0.5, 1.5, 2.5, 3.5)])
    y = m.net.network.evaluate(grid)[:, 0]
    (j,) = (j for j, v in enumerate(p.columns) if v is m.net.outputs[0])
    assert p.lower[j] == pytest.approx(y.min(), abs=1e-5)
    assert p.upper[j] == pytest.approx(y.max(), abs=1e-5)
    assert not p.bounded.any()
    m.net.outputs[0].setlb(float(y.max()) + 0.1)
    assert "bring 'net.outputs[0]' within" in read_problem(m).infeasible


def test_a_price_without_a_value_in_its_bounds_is_named():
    m = two_prices()
    m.p[0].setlb(0.6)
    m.p[0].setub(1.4)
    assert "'p[0]' has no value within its bounds" in read_problem(m).infeasible
    results = pyo.SolverFactory("relu_global").solve(m, load_solutions=False)
    assert str(results.solver.termination_condition) == "infeasible"


def test_values_of_an_integer_are_whole_where_its_bounds_are_not():
    m = pyo.ConcreteModel()
    m.k = pyo.Var(domain=pyo.Integers, bounds=(-1.142, 2.3))
    m.y = pyo.Var(bounds=(-9, 9))
    m.row = pyo.Constraint(expr=m.y == 2 * m.k)
    form = compile_standard_form(m)
    found = find_values(form, form.lower, form.upper)
    place = form.column_numbers()
    k, y = place[id(m.k)], place[id(m.y)]
    assert found.values[k].tolist() == [-1.0, 0.0, 1.0, 2.0]
    assert found.values[y].tolist() == [-2.0, 0.0, 2.0, 4.0]
