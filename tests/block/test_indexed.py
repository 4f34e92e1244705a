"""Methods of an indexed block; and blocks in models that are discretized."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.dae import ContinuousSet, DerivativeVar

from pyomo_relu import ReLUNetBlock
from pyomo_relu.formulations import BigM
from tests.block.support import optimum, small_network
from tests.formulations.test_swap import ALL, lp_text


def model(index=range(3), **options):
    rng = np.random.default_rng(1)
    nets = {i: small_network(rng, 2, 1) for i in index}
    m = pyo.ConcreteModel()
    m.x = pyo.Var(index, [0, 1], bounds=(-1, 1))
    m.net = ReLUNetBlock(
        index, network=nets, inputs=lambda m, i: [m.x[i, 0], m.x[i, 1]], **options
    )
    m.obj = pyo.Objective(expr=sum(b.outputs[0] for b in m.net.values()))
    return m


def test_statistics_are_sums():
    m = model()
    s = m.net.statistics()
    for name in ("neurons", "stable", "binaries", "variables", "constraints"):
        each = [getattr(b.statistics(), name) for b in m.net.values()]
        assert getattr(s, name) == sum(each) and sum(each) >= 0
    assert s.binaries > 0 and s[1].neurons == m.net[1].statistics().neurons
    assert s.build_seconds > 0 and s.bound_seconds >= 0
    text = str(s)
    assert "3 blocks" in text and "bigm" in text and text.startswith("net\n")
    empty = pyo.ConcreteModel()
    empty.net = ReLUNetBlock(pyo.Any, dense=False, network=m.net[0].network)
    assert empty.net.statistics().neurons == 0 and "0 blocks" in str(empty.net.statistics())


def test_error_is_the_largest():
    m = model()
    with pytest.raises(ValueError, match=r"'net\[0\]' has outputs without a value"):
        m.net.error()
    optimum(m)
    assert m.net.error() < 1e-6
    m.net[1].outputs[0].set_value(m.net[1].outputs[0].value + 0.5)
    assert m.net.error() == pytest.approx(0.5, abs=1e-6)
    m.net[1].deactivate()
    assert m.net.error() < 1e-6


def test_tighten_and_reformulate_all():
    m = model()
    right = optimum(m)
    found = m.net.tighten("lp")
    assert set(found) == {0, 1, 2}
    assert all(m.net[i].bounds is b and b.method == "lp" for i, b in found.items())
    assert optimum(m) == pytest.approx(right, abs=1e-6)
    m.net.reformulate("partition", parts=2)
    assert {b.formulation for b in m.net.values()} == {"partition"}
    assert all(m.net[i].bounds is b for i, b in found.items())
    assert optimum(m) == pytest.approx(right, abs=1e-6)
    m.net.reformulate(bounds="interval")
    assert {b.bounds.method for b in m.net.values()} == {"interval"}
    m.net.install(m.net.prepare("hull"))
    assert optimum(m) == pytest.approx(right, abs=1e-6)
    m.net.tighten("model")
    assert optimum(m) == pytest.approx(right, abs=1e-6)


def test_equal_blocks_are_tightened_once(monkeypatch):
    from pyomo_relu.bounds import ladder

    net = small_network(np.random.default_rng(1), 2, 1)
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(4), [0, 1], bounds=(-1, 1))
    m.x[3, 0].setub(0.5)
    m.net = ReLUNetBlock(
        range(4), network=net, inputs=lambda m, i: [m.x[i, 0], m.x[i, 1]], bounds="interval"
    )
    calls = []
    real = ladder.compute_bounds
    monkeypatch.setattr(
        ladder, "compute_bounds", lambda *a, **k: calls.append(a) or real(*a, **k)
    )
    found = m.net.tighten("lp")
    assert len(calls) == 2  # three boxes are equal
    assert found[0] is found[2] and found[0] is not found[3]


def test_all_or_nothing(monkeypatch):
    m = model(formulation="hull")
    before = lp_text(m)
    real = BigM.write_piecewise
    count = []

    def fail(self, layer):
        count.append(1)
        if len(count) == 3:
            raise ValueError("no")
        real(self, layer)

    monkeypatch.setattr(BigM, "write_piecewise", fail)
    with pytest.raises(ValueError, match="no"):
        m.net.reformulate("bigm")
    assert len(count) == 3 and lp_text(m) == before


# -------------------------------------------------------------------------- pyomo.dae
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("scheme", ["dae.finite_difference", "dae.collocation"])
def test_a_model_with_a_block_is_discretized(name, scheme):
    """Whatever a formulation writes, in a block with an index of its own or none."""
    net = small_network(np.random.default_rng(2), 2, 1)
    options = {"formulation": name, **ALL[name]}
    m = pyo.ConcreteModel()
    m.t = ContinuousSet(bounds=(0, 1))
    m.u = pyo.Var(bounds=(-1, 1))
    m.c = pyo.Var(m.t, bounds=(-1, 1))
    m.dc = DerivativeVar(m.c, wrt=m.t)
    m.once = ReLUNetBlock(network=net, inputs=[m.u, -0.4], **options)
    m.net = ReLUNetBlock(m.t, network=net, inputs=lambda m, t: [m.u, m.c[t]], **options)
    m.ode = pyo.Constraint(m.t, rule=lambda m, t: m.dc[t] == 0.1 * m.net[t].outputs[0])
    pyo.TransformationFactory(scheme).apply_to(m, nfe=2)
    assert len(m.net) == len(m.t) >= 3
    assert all(b.component("layer") is not None for b in m.net.values())
    if name in ("bigm", "disjunctive"):
        m.u.fix(0.2)
        m.c[0].fix(0.1)
        m.obj = pyo.Objective(expr=m.c[1])
        optimum(m)
        for t in m.t:
            assert t == 0 or m.net[t].error() < 1e-6
        assert m.once.error() < 1e-6
