"""What a block says of itself: repr, pprint, tables in notebooks, wrong names."""

from __future__ import annotations

import io
import pickle
from html.parser import HTMLParser

import pyomo.environ as pyo
import pytest

from pyomo_relu import Network, NetworkBuilder, ReLUNetBlock, activations
from pyomo_relu.analysis import report
from pyomo_relu.formulations import Partition
from tests.harness.random_networks import he_network


def model(**kwds) -> pyo.ConcreteModel:
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(2), bounds=(-1, 1))
    kwds.setdefault("network", he_network(0, (2, 8, 8, 2)))
    m.net = ReLUNetBlock(inputs=m.x, **kwds)
    return m


def printed(component, **kwds) -> list[str]:
    out = io.StringIO()
    component.pprint(ostream=out, **kwds)
    return out.getvalue().splitlines()


def mixed() -> Network:
    """A ReLU layer, a maximum of pairs, an absolute value."""
    b = NetworkBuilder()
    x = b.input("x", (2,))
    h = b.affine("h", [(x, [[1.0, -1.0], [0.5, 2.0]])], 0.25)
    r = b.piecewise("r", h, activations.relu())
    a = b.piecewise("a", b.max("m", r, [[0, 1]]), activations.absolute())
    return b.build([a])


def test_repr_says_what_a_block_is():
    m = model()
    binaries = m.net.statistics().binaries
    words = f"2 inputs, 2 x 8 ReLU, 2 outputs, bigm, {binaries} binaries"
    assert repr(m.net) == f"ReLUNetBlock net: {words}"
    m.net.reformulate("relaxation")
    assert repr(m.net).endswith("2 outputs, relaxation, 0 binaries")
    assert repr(pickle.loads(pickle.dumps(m)).net) == repr(m.net)
    assert repr(model(formulation=None).net).endswith("2 outputs, no formulation")
    m.late = ReLUNetBlock()
    assert repr(m.late) == "ReLUNetBlock late: no network yet"
    assert "1 maxima, 1 " in repr(model(network=mixed()).net)
    assert str(m.net) == "net"  # what messages and files call it


def test_repr_of_indexed_blocks_counts_them():
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(2), bounds=(-1, 1))
    m.net = ReLUNetBlock(range(3), network=he_network(0, (2, 4, 1)), inputs=m.x)
    one = repr(m.net[1]).split(": ")[1]
    assert repr(m.net) == f"ReLUNetBlock net: 3 blocks; {one}"
    m.net[0].reformulate("relaxation")
    assert repr(m.net).startswith("ReLUNetBlock net: 3 blocks; 1 of 2 inputs, 4 ReLU, ")
    assert "; 2 of 2 inputs" in repr(m.net)
    abstract = pyo.AbstractModel()
    abstract.net = ReLUNetBlock([1, 2])
    assert repr(abstract.net) == "ReLUNetBlock net: not constructed"


def test_pprint_is_short_unless_asked():
    m = model()
    short, long = printed(m.net), printed(m.net, verbose=True)
    assert short[1].strip() == f"ReLUNetBlock: {repr(m.net).split(': ')[1]}"
    assert len(short) < 15 < 100 < len(long)
    text = "\n".join(short)
    assert "x[0]" in text and "outputs : Size=2" in text
    assert "net.pprint(verbose=True)" in short[-1] and "dense_1" in short[-1]
    assert "relu_1" in "\n".join(long) and "verbose" not in "\n".join(long)
    # As part of a model, too; what was asked of one print doesn't stick.
    assert len(printed(m)) < 25 and printed(m.net) == short


def test_pprint_of_indexed_blocks_and_of_one_of_them():
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(2), bounds=(-1, 1))
    m.net = ReLUNetBlock([1, 2], network=he_network(0, (2, 8, 1)), inputs=m.x)
    short = printed(m.net)
    assert len(short) < 30 and sum("ReLUNetBlock:" in line for line in short) == 2
    assert len(printed(m.net, verbose=True)) > 100
    one = printed(m.net[2])
    assert sum("ReLUNetBlock:" in line for line in one) == 1
    assert len(printed(m.net[2], verbose=True)) > 50
    m.empty = ReLUNetBlock(
        [1], network=he_network(0, (2, 3, 1)), inputs=m.x, formulation=None
    )
    assert "no formulation" in "\n".join(printed(m.empty))


class Cells(HTMLParser):
    """The rows of the tables of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1].append(data)


def test_statistics_are_tables_in_a_notebook():
    m = model()
    s = m.net.statistics()
    rows = Cells(s._repr_html_()).rows
    assert rows[0][:4] == ["layer", "function", "formulation", "units"]
    assert [r[:4] for r in rows[1:]] == [
        ["relu_1", "relu", "bigm", "8"],
        ["relu_2", "relu", "bigm", "8"],
    ]
    assert f"{s.constraints} constraints" in s._repr_html_()
    m.all = ReLUNetBlock(["<a>", "b"], network=he_network(0, (2, 3, 1)), inputs=m.x)
    found = m.all.statistics()._repr_html_()
    assert "<a>" not in found and [r[0] for r in Cells(found).rows] == ["index", "<a>", "b"]


def test_reports_are_tables_in_a_notebook():
    net = he_network(0, (2, 4, 1))
    made = report(net, (-1, 1), rungs=["interval", "crown"], time_limit=5)
    rows = Cells(made._repr_html_()).rows
    assert [r[0] for r in rows[:3]] == ["bounds", "interval", "crown"]
    assert any(r[0] == "relu_1" for r in rows)
    assert f"at most {made.max_regions}" in made._repr_html_()


def test_a_name_that_no_output_has():
    m = model()
    with pytest.raises(
        KeyError, match=r"'net.outputs' has no entry 'profit'.*output_names="
    ):
        m.net.outputs["profit"]
    with pytest.raises(KeyError, match=r"numbered 0 to 1\."):
        m.net.outputs[2]
    named = he_network(0, (2, 4, 2))
    names = {"output_names": ["profit", "waste"], "input_names": ["price", "amount"]}
    m = model(network=named, **names)
    assert m.net.outputs["profit"] is m.net.outputs[0]
    with pytest.raises(KeyError, match=r"no entry 'proft'; did you mean 'profit'\?"):
        m.net.outputs["proft"]
    with pytest.raises(KeyError, match=r"there are \['profit', 'waste'\]"):
        m.net.outputs["H2"]
    assert "H2" not in m.net.outputs
    # Slices, clones and pickles are those of a plain Var.
    assert len(list(m.net.outputs[:])) == 2
    again = pickle.loads(pickle.dumps(m.clone()))
    assert again.net.outputs.ctype is pyo.Var and again.net.outputs["waste"].ub is not None
    m.other = pyo.Reference(m.net.outputs)
    assert m.other["waste"] is m.net.outputs[1]


def test_the_line_names_formulations_and_not_their_options():
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(2), bounds=(-1, 1))
    network = he_network(0, (2, 5, 4, 1))
    m.one = ReLUNetBlock(network=network, inputs=m.x, formulation=Partition(parts=2))
    m.two = ReLUNetBlock(
        network=network, inputs=m.x, formulation={"relu_1": "hull", "...": "bigm"}
    )
    assert "1 output, partition, " in repr(m.one)
    assert "1 output, hull and bigm, " in repr(m.two)
