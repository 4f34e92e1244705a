"""Inputs that carry the names of the network's inputs are meant by name."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import NetworkBuilder, ReLUNetBlock
from pyomo_relu.block.by_name import ordered_by_name

NAMES = ("flow", "temp", "p")


def network(names=NAMES):
    """Weights that tell the inputs apart."""
    b = NetworkBuilder()
    x = b.input("x", (3,))
    return b.build([b.affine("y", [(x, [[1.0, 10.0, 100.0]])])], input_names=names)


def entries(inputs, names=NAMES) -> list:
    """The variables that the block takes as the network's inputs, in their order."""
    model = inputs.model() if hasattr(inputs, "model") else pyo.ConcreteModel()
    model.net = ReLUNetBlock(
        network=network(names), inputs=inputs, input_bounds=(-1, 1), formulation=None
    )
    return [str(v) for v in model.net.inputs.values()]


def model(*order, **more):
    m = pyo.ConcreteModel()
    m.x = pyo.Var(list(order), bounds=(0, 1), **more)
    return m


@pytest.mark.parametrize("order", [("p", "temp", "flow"), NAMES, ("temp", "flow", "p")])
def test_an_index_of_the_names_in_any_order(order):
    right = ["x[flow]", "x[temp]", "x[p]"]
    assert entries(model(*order).x) == right
    m = model(*order)
    m.r = pyo.Reference(m.x)
    assert entries(m.r) == right
    m = model(*order)
    m.net = ReLUNetBlock(network=network(), inputs=m.x[:], formulation=None)
    assert [str(v) for v in m.net.inputs.values()] == right
    m = model(*order)
    m.e = pyo.Expression(list(order), rule=lambda m, k: 2 * m.x[k])
    m.net = ReLUNetBlock(network=network(), inputs=m.e, formulation=None)
    assert [str(e.expr.expr) for e in m.net.inputs.values()] == [f"2*{v}" for v in right]


def test_slices_over_names_in_an_indexed_block():
    m = pyo.ConcreteModel()
    m.t = pyo.RangeSet(2)
    m.x = pyo.Var(m.t, ["p", "flow", "temp"], bounds=(0, 1))
    m.net = ReLUNetBlock(
        m.t, network=network(), inputs=lambda b, t: b.x[t, :], formulation=None
    )
    for t in m.t:
        assert [str(v) for v in m.net[t].inputs.values()] == [
            f"x[{t},flow]",
            f"x[{t},temp]",
            f"x[{t},p]",
        ]


def test_a_series_of_variables():
    pandas = pytest.importorskip("pandas")
    m = model("p", "temp", "flow")
    series = pandas.Series({k: m.x[k] for k in ("temp", "p", "flow")})
    assert ordered_by_name(series, network(), "net") == [m.x[k] for k in NAMES]


def test_numbers_that_are_the_names():
    m = model(2, 0, 1)
    assert entries(m.x, ("0", "1", "2")) == ["x[0]", "x[1]", "x[2]"]
    m = model(2, 0, 1)
    assert entries(m.x) == ["x[2]", "x[0]", "x[1]"]  # no names: their order


def test_other_indices_are_meant_by_position():
    assert entries(model("c", "a", "b").x) == ["x[c]", "x[a]", "x[b]"]
    assert entries(model("p", "temp", "flow").x, None) == ["x[p]", "x[temp]", "x[flow]"]
    m = model("p", "temp", "flow")
    m.net = ReLUNetBlock(
        network=network(), inputs=list(m.x.values()), input_bounds=(0, 1), formulation=None
    )
    assert [str(v) for v in m.net.inputs.values()] == ["x[p]", "x[temp]", "x[flow]"]


def test_names_of_input_layers_of_one_entry():
    b = NetworkBuilder()
    x, z = b.input("first", (1,)), b.input("second", (1,))
    net = b.build([b.affine("y", [(x, [[1.0]]), (z, [[5.0]])])])
    m = model("second", "first")
    m.net = ReLUNetBlock(network=net, inputs=m.x, formulation=None)
    assert [str(v) for v in m.net.inputs.values()] == ["x[first]", "x[second]"]


@pytest.mark.parametrize(
    "order, message",
    [
        (("flow", "temp", "q"), "lacks 'p'"),
        (("p", "a", "b"), "lacks 'flow'"),
        (("flow", "temp", "p", "q"), "has the unknown 'q'"),
        (("flow", "temp"), "lacks 'p'"),
    ],
)
def test_some_of_the_names_are_refused(order, message):
    m = model(*order)
    with pytest.raises(ValueError, match=rf"{message}.*\['flow', 'temp', 'p'\].*a list"):
        m.net = ReLUNetBlock(network=network(), inputs=m.x, formulation=None)
    assert m.component("net") is None
    with pytest.raises(ValueError, match=message):
        m.net = ReLUNetBlock(
            network=network(), inputs={k: m.x[k] for k in order}, formulation=None
        )


def test_outputs_of_one_network_are_inputs_of_the_next_by_name():
    b = NetworkBuilder()
    x = b.input("x", (1,))
    first = b.build([b.affine("y", [(x, [[1.0], [2.0], [3.0]])])], output_names=NAMES[::-1])
    m = pyo.ConcreteModel()
    m.u = pyo.Var(bounds=(0, 1), initialize=1.0)
    m.a = ReLUNetBlock(network=first, inputs=[m.u])
    m.b = ReLUNetBlock(network=network(), inputs=m.a.outputs, input_bounds=(0, 3))
    m.o = pyo.Objective(expr=m.b.outputs[0], sense=pyo.maximize)
    values = dict(zip(NAMES[::-1], first.evaluate([1.0])))
    expected = network().evaluate(np.array([values[name] for name in NAMES]))[0]
    pyo.SolverFactory("appsi_highs").solve(m)
    assert abs(pyo.value(m.o) - expected) < 1e-6
