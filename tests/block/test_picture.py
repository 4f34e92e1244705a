"""``block.plot()``: what is drawn is the network, the present point and the user's rows."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import ReLUNetBlock
from pyomo_relu.block import picture
from tests.harness.random_networks import he_network

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def closed():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def model(free: int, **kwds) -> pyo.ConcreteModel:
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(3), bounds=(-1, 1))
    m.net = ReLUNetBlock(network=he_network(1, (3, 6, 2)), inputs=m.x, **kwds)
    for i in range(free, 3):
        m.x[i].fix(0.3)
    m.obj = pyo.Objective(expr=m.net.outputs[1])
    return m


def star(ax) -> tuple[float, float] | None:
    found = [line for line in ax.lines if line.get_marker() == "*"]
    return (found[0].get_xdata()[0], found[0].get_ydata()[0]) if found else None


def test_a_curve_with_the_solution_and_where_rows_hold():
    m = model(1)
    m.row = pyo.Constraint(expr=m.x[0] + 0 * m.net.outputs[0] >= 0.25)
    m.foreign = pyo.Constraint(expr=m.x[0] + m.x[1] <= 9)
    ax = m.net.plot(1)
    assert star(ax) is None  # nothing was solved
    pyo.SolverFactory("relu_highs").solve(m)
    before = [(v.value, v.stale) for v in m.component_data_objects(pyo.Var)]
    ax = m.net.plot(1)
    assert star(ax) == pytest.approx((m.x[0].value, m.net.outputs[1].value))
    assert [(v.value, v.stale) for v in m.component_data_objects(pyo.Var)] == before
    # The curve is the network's.
    curve = np.vstack(
        [s for c in ax.collections for s in getattr(c, "get_segments", list)()]
    )
    x = np.column_stack([curve[:, 0], np.full((len(curve), 2), 0.3)])
    assert m.net.network.evaluate(x)[:, 1] == pytest.approx(curve[:, 1], abs=1e-9)
    assert any("row" in text.get_text() for text in ax.get_legend().get_texts())


def test_rows_that_do_not_hold_are_found_at_each_point():
    m = model(2)
    m.low = pyo.Constraint(expr=m.x[0] + m.x[1] >= 0.5)
    rng = np.random.default_rng(0)
    points = np.column_stack([rng.uniform(-1, 1, (50, 2)), np.full(50, 0.3)])
    y = m.net.network.evaluate(points)[:, 0]
    most = float(np.median(y))
    m.out = pyo.Constraint(expr=m.net.outputs[0] <= most)
    m.off = pyo.Constraint(expr=m.x[0] >= 2)
    m.off.deactivate()
    m.other = pyo.Var(bounds=(0, 1))
    m.not_here = pyo.Constraint(expr=m.other <= m.x[0])
    entries = [m.x[0], m.x[1]]
    rows = picture._rows_between(m.net, entries)
    assert [row.name for row in rows] == ["low", "out"]
    found = picture._violated(m.net, entries, rows, points, np.array([0, 1]))
    below, above = points[:, 0] + points[:, 1] < 0.5, y > most * (1 + 1e-6)
    assert (found == (below | above)).all() and not found.all()
    assert (below & ~above).any() and (above & ~below).any()
    ax = m.net.plot()
    assert any("low, out" in text.get_text() for text in ax.get_legend().get_texts())


def test_an_output_by_name_and_axes_of_the_user():
    import matplotlib.pyplot as plt

    m = model(2, output_names=["cost", "yield"])
    _, own = plt.subplots()
    assert m.net.plot("yield", ax=own) is own
    assert own.get_title().startswith("yield")
    assert m.net.plot(np.int64(1)).get_title().startswith("yield")


def test_what_has_no_picture_is_refused():
    m = model(3)
    with pytest.raises(ValueError, match="'net' has 3 free inputs.*fix"):
        m.net.plot()
    m.x.fix(0.1)
    with pytest.raises(ValueError, match="0 free inputs"):
        m.net.plot()
    m = model(2, output_names=["cost", "yield"])
    with pytest.raises(
        ValueError, match=r"no output 'profit'; it has one of \['cost', 'yield'"
    ):
        m.net.plot("profit")
    with pytest.raises(ValueError, match="no output 2"):
        model(2).net.plot(2)


def test_inputs_that_are_expressions_have_a_picture_without_rows():
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(-1, 1), initialize=0.5)
    m.net = ReLUNetBlock(network=he_network(1, (2, 6, 1)), inputs=[0.5 * m.x + 0.1, 0.2])
    m.row = pyo.Constraint(expr=m.x >= 0)
    m.net.outputs[0].set_value(m.net.evaluate()[0])
    ax = m.net.plot()
    assert star(ax) == pytest.approx((0.35, m.net.outputs[0].value))
