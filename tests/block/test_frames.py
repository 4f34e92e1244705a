"""Inputs and bounds from tables of pandas, outputs as them."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import NetworkBuilder, ReLUNetBlock
from pyomo_relu.network import activations

pd = pytest.importorskip("pandas")

NAMES = ["flow", "temp", "p"]


def network(names=("flow", "temp", "p")):
    b = NetworkBuilder()
    x = b.input("x", (3,))
    h = b.affine("pre", [(x, [[1.0, 2.0, -1.0], [0.5, -1.0, 3.0]])], [0.1, -0.2])
    out = b.affine("out", [(b.piecewise("relu", h, activations.relu()), np.eye(2))])
    return b.build([out], input_names=names, output_names=["gas", "oil"])


def frame_of_variables(m, index):
    m.x = pyo.Var(index, ["p", "temp"], bounds=(-1, 1))
    columns = {k: [m.x[i, k] for i in index] for k in ("p", "temp")}
    return pd.DataFrame({**columns, "flow": np.linspace(0, 1, len(index))}, index=index)


@pytest.mark.parametrize("index", [[3, 1, 2], ["a", "b"], [("a", 1), ("b", 2)]])
def test_a_row_for_each_index(index):
    m = pyo.ConcreteModel()
    frame = frame_of_variables(m, [str(i) for i in index])
    frame.index = pd.MultiIndex.from_tuples(index) if isinstance(index[0], tuple) else index
    m.net = ReLUNetBlock(index, network=network(), inputs=frame)
    for i in index:
        inputs = m.net[i].inputs
        assert inputs["p"].expr is m.x[str(i), "p"]
        assert inputs["temp"].expr is m.x[str(i), "temp"]
        assert pyo.value(inputs["flow"]) == frame.loc[i, "flow"]
    outputs = m.net.outputs_to_pandas()
    assert list(outputs.columns) == ["gas", "oil"] and list(outputs.index) == index
    assert outputs.loc[index[-1], "oil"] is m.net[index[-1]].outputs["oil"]
    assert m.net.outputs_to_pandas(values=True).isna().all(axis=None)
    m.goal = pyo.Objective(expr=outputs["gas"].sum() - outputs["oil"].sum())
    pyo.SolverFactory("appsi_highs").solve(m)
    values = m.net.outputs_to_pandas(values=True)
    assert values.to_numpy().sum() == pytest.approx(
        sum(m.net[i].evaluate().sum() for i in index)
    )


def test_one_row_for_one_network():
    m = pyo.ConcreteModel()
    frame = frame_of_variables(m, ["a", "b"])
    m.one = ReLUNetBlock(network=network(), inputs=frame.loc[["a"]])
    m.two = ReLUNetBlock(network=network(), inputs=frame.loc["b"])
    assert m.one.inputs["p"].expr is m.x["a", "p"]
    assert m.two.inputs["p"].expr is m.x["b", "p"]
    series = m.two.outputs_to_pandas()
    assert series.name == "two" and series["gas"] is m.two.outputs["gas"]
    m.rule = ReLUNetBlock(["a", "b"], network=network(), inputs=lambda m, i: frame.loc[[i]])
    assert m.rule["b"].inputs["temp"].expr is m.x["b", "temp"]


def test_refusals_of_inputs():
    m = pyo.ConcreteModel()
    frame = frame_of_variables(m, ["a", "b"])

    def refused(match, index=(), inputs=frame, **options):
        with pytest.raises(ValueError, match=match):
            m.net = ReLUNetBlock(*index, network=network(), inputs=inputs, **options)
        assert m.component("net") is None

    refused(r"DataFrame of 2 rows for one network; give one row, frame.loc")
    refused(r"no row 'c'; its index is \['a', 'b'\]", [["a", "c"]])
    refused(r"2 rows 'a'", [["a"]], frame.loc[["a", "a"]])
    refused(r"lacks 'temp'", [["a"]], frame.drop(columns="temp"))
    refused(r"column 'p' more than once", [["a"]], frame[["p", "p", "flow"]])
    refused(r"has the unknown 'q'", [["a"]], frame.assign(q=1.0))
    # No name of the network's: by position, as a list.
    m.net = ReLUNetBlock(network=network(None), inputs=frame.loc["a"])
    assert m.net.inputs[0].expr is m.x["a", "p"]


def box(table, names=tuple(NAMES)):
    m = pyo.ConcreteModel()
    m.net = ReLUNetBlock(network=network(names), input_bounds=table)
    return [(v.lb, v.ub) for v in m.net.inputs.values()]


def test_bounds():
    rng = np.random.default_rng(0)
    data = pd.DataFrame(rng.normal(size=(20, 3)), columns=["temp", "p", "flow"])
    data.iloc[3, 0] = np.nan
    true = [(float(data[k].min()), float(data[k].max())) for k in NAMES]
    assert box(data) == true
    assert box(data.describe()) == true
    assert box(data.agg(["min", "max"])) == true
    assert box(data.agg(["min", "max"]).T) == true
    assert box(data.agg(["min", "max"]).rename({"min": "lower", "max": "upper"})) == true
    assert box(pd.Series(dict(zip(NAMES, true)))) == true
    assert box(data[NAMES], None) == true  # by position
    whole = pd.DataFrame({"temp": [1, 5], "p": [2, 2], "flow": [0, 1]})
    assert box(whole) == [(0.0, 1.0), (1.0, 5.0), (2.0, 2.0)]


def test_bounds_that_are_missing():
    m = pyo.ConcreteModel()
    m.x = pyo.Var(NAMES, bounds=(-3, 3))
    m.x["temp"].setub(None)
    table = pd.DataFrame({"temp": [None, 2.0], "p": [0.0, np.nan]}, index=["min", "max"])
    m.net = ReLUNetBlock(network=network(), inputs=m.x, input_bounds=table)
    low, high = m.net.present_box()
    assert low.tolist() == [-3, -3, 0] and high.tolist() == [3, 2, 3]


def test_refusals_of_bounds():
    data = pd.DataFrame({"flow": [0.0, 1.0], "temp": [0.0, 2.0], "p": [0.0, 3.0]})

    def refused(match, table, names=tuple(NAMES)):
        with pytest.raises(ValueError, match=match):
            box(table, names)

    refused("names 'y'", data.assign(y=1.0))
    refused(
        "table of 2 inputs, .*the network has 3 without names", data[["p", "temp"]], None
    )
    refused("'kind', which isn't all numbers", data.assign(kind=["a", "b"]))
    refused("without a value of 'p'", data.assign(p=[np.nan, np.nan]))
    refused("no finite lower", data.agg(["min", "max"]).assign(p=[None, 1.0]))
    refused("a row or column twice", data[["flow", "temp", "p", "p"]])
