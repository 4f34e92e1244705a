"""Which values columns take: by enumeration of random models."""

from __future__ import annotations

import itertools

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu.presolve.substitute import Columns
from pyomo_relu.presolve.values import FiniteValues, find_values
from pyomo_relu.programs.standard_form import StandardForm, compile_standard_form


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
