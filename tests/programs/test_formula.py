"""Formulas: values, derivatives, what is written for a solver, refusals."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.contrib.solver.common.util import IncompatibleModelError

from pyomo_relu.programs.formula import Formula


def model() -> pyo.ConcreteModel:
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(4))
    m.x[3].fix(2.0)
    m.p = pyo.Param(mutable=True, initialize=3.0)
    m.e = pyo.Expression(expr=m.x[0] * m.x[1])
    return m


EXPRESSIONS = {
    "products": lambda m: m.x[0] * m.x[1] + m.x[2] ** 2 - 4 * m.x[0] + 1,
    "quotient": lambda m: pyo.exp(-m.x[0]) * m.p - m.x[1] / (1 + m.x[2] ** 2),
    "named": lambda m: m.e**2 + pyo.tanh(m.x[2]) * pyo.log10(m.x[1]),
    "powers": lambda m: m.x[1] ** m.x[0] + 2 ** m.x[2] + m.x[3] ** m.x[0],
    "functions": lambda m: abs(m.x[2]) * m.x[3] + pyo.sin(m.x[0]) * pyo.tan(m.x[1]),
    "roots": lambda m: -((m.x[0] * m.x[1]) ** 3.5) - pyo.sqrt(m.x[1]) / m.p + pyo.cos(m.e),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_values_and_derivatives(name):
    m = model()
    expression = EXPRESSIONS[name](m)
    f = Formula(expression, {id(m.x[j]): j for j in range(3)})
    rng = np.random.default_rng(0)
    points = np.column_stack([rng.uniform(0.3, 1.4, (6, 2)), rng.uniform(-2, 2, 6)])
    values, step = f.value(points), 1e-6
    for z, y in zip(points, values):
        assert f.at(z) == pytest.approx(y, rel=1e-12)
        for j in range(3):
            m.x[j].set_value(z[j])
        assert y == pytest.approx(pyo.value(expression), rel=1e-12)
        for j, a in zip(f.columns, f.gradient(z)):
            move = np.zeros(3)
            move[j] = step
            up, down = f.value(np.array([z + move, z - move]))
            assert a == pytest.approx((up - down) / (2 * step), rel=1e-6, abs=1e-6)


def test_products_of_columns_can_be_another_solvers_columns():
    m = model()
    x = m.x
    expression = (
        -2 * x[0] * x[1] + x[1] * (m.p * x[2]) + x[0] ** 2 * x[1] + x[3] * x[2] * x[0]
    )
    f = Formula(expression, {id(x[j]): j for j in range(3)})
    found = f.products()
    assert [pair for _, *pair in found] == [[0, 1], [1, 2], [2, 0]]
    z = np.array([0.7, 1.3, -0.4])
    known = {k: z[i] * z[j] + 100.0 * (n + 1) for n, (k, i, j) in enumerate(found)}
    added = -2 * 100.0 + 3 * 200.0 + 2 * 300.0
    written = f.written(z.tolist(), np, known)
    assert written == pytest.approx(float(f.value(z[None])[0]) + added)


def test_functions_without_a_solver_have_values_and_derivatives():
    m = model()
    inside, above = 0.4 * m.x[0], 1.0 + m.x[1]
    parts = [
        *(getattr(pyo, name)(inside) for name in ("sinh", "cosh", "asin", "acos", "atan")),
        *(getattr(pyo, name)(inside) for name in ("asinh", "atanh")),
        pyo.acosh(above),
    ]
    z, step = np.array([0.7, 1.2, 0.0]), 1e-6
    m.x[0].set_value(z[0])
    m.x[1].set_value(z[1])
    for part in parts:
        f = Formula(part, {id(m.x[j]): j for j in range(3)})
        assert f.value(z[None])[0] == pytest.approx(pyo.value(part), rel=1e-12)
        (j,), (a,) = f.columns, f.gradient(z)
        move = step * np.eye(3)[j]
        up, down = f.value(np.array([z + move, z - move]))
        assert a == pytest.approx((up - down) / (2 * step), rel=1e-6)


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_scip_gets_the_same_function(name):
    pyscipopt = pytest.importorskip("pyscipopt")
    m = model()
    f = Formula(EXPRESSIONS[name](m), {id(m.x[j]): j for j in range(3)})
    z = np.array([0.7, 1.2, -0.4])
    scip = pyscipopt.Model()
    scip.hideOutput()
    x = [scip.addVar(lb=a, ub=a) for a in z.tolist()]
    y = scip.addVar(lb=None, ub=None, obj=1.0)
    scip.addCons(y >= f.written(x, pyscipopt))
    scip.optimize()
    assert scip.getObjVal() == pytest.approx(f.value(z[None])[0], abs=1e-5)


def test_where_there_is_no_value():
    m = model()
    f = Formula(pyo.log(m.x[0]) + m.x[1], {id(m.x[j]): j for j in range(2)})
    assert np.isnan(f.value(np.array([[-1.0, 0.0]]))[0])
    assert not np.isfinite(f.gradient(np.array([0.0, 0.0]))).all()


def test_functions_that_are_unknown_are_named():
    m = model()
    place = {id(m.x[j]): j for j in range(3)}
    with pytest.raises(
        IncompatibleModelError, match="function 'ceil' isn't taken; use exp"
    ):
        Formula(pyo.ceil(m.x[0]), place)
    arcs = Formula(pyo.asin(m.x[0]), place)  # a solver may not have what has a value
    with pytest.raises(IncompatibleModelError, match="function 'asin'; it takes exp"):
        arcs.written(list(m.x.values()), object())
    with pytest.raises(IncompatibleModelError, match="Expr_if"):
        Formula(pyo.Expr_if(m.x[0] >= 0, m.x[1], m.x[2]), place)
