"""Inputs of every kind, mixed at random: the network reads what the user means."""

from __future__ import annotations

import pickle

import numpy as np
import pyomo.environ as pyo
import pyomo.kernel as pmo
import pytest

from pyomo_relu import ReLUNetBlock
from tests.block.support import dense, optimum, small_network

pytest.importorskip("pint")

#: Kinds of inputs, each over the variable ``v`` of the model and its bounds, as
#: ``(entry, what it is worth when v is x, bounds to give besides)``.
KINDS = {
    "variable": lambda m, v, i: (v, lambda x: x, None),
    "fixed variable": lambda m, v, i: (v, lambda x: x, None),
    "number": lambda m, v, i: (0.25, lambda x: 0.25, None),
    "NumPy number": lambda m, v, i: (np.float32(0.5), lambda x: 0.5, None),
    "integer": lambda m, v, i: (1, lambda x: 1.0, None),
    "affine expression": lambda m, v, i: (2 * v - 0.5, lambda x: 2 * x - 0.5, None),
    "two variables": lambda m, v, i: (v + 0.5 * m.w, lambda x: x + 0.25, None),
    "named expression": lambda m, v, i: (m.e[i], lambda x: 1 - x, None),
    "constant": lambda m, v, i: (m.c * 2, lambda x: 0.8, None),
    "Param": lambda m, v, i: (m.p, lambda x: 0.3, (-1, 1)),
    "expression of Params": lambda m, v, i: (m.p + 0.1, lambda x: 0.4, (-1, 1)),
    "Param times variable": lambda m, v, i: (m.p * v, lambda x: 0.3 * x, (-2, 2)),
    "unit": lambda m, v, i: (m.T[i] / pyo.units.K, lambda x: x, None),
    "cut variable": lambda m, v, i: (v, lambda x: x, (-0.9, 0.9)),
}


def mixed(seed: int, formulation: str = "bigm"):
    """A model whose network has inputs of random kinds; and their true values."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 6))
    kinds = [sorted(KINDS)[k] for k in rng.integers(0, len(KINDS), n)]
    x = rng.uniform(-0.9, 0.9, n).tolist()
    m = pyo.ConcreteModel()
    m.v = pyo.Var(range(n), bounds=(-1, 1))
    m.w = pyo.Var(bounds=(0, 1))
    m.T = pyo.Var(range(n), bounds=(-1, 1), units=pyo.units.K)
    m.c = pyo.Param(initialize=0.4)
    m.p = pyo.Param(initialize=0.3, mutable=True)
    m.e = pyo.Expression(range(n), initialize={i: 1 - m.v[i] for i in range(n)})
    found = [KINDS[kind](m, m.v[i], i) for i, kind in enumerate(kinds)]
    entries = [entry for entry, _, _ in found]
    true = np.array([worth(a) for (_, worth, _), a in zip(found, x)])
    net = small_network(rng, n)
    m.net = ReLUNetBlock(
        network=net,
        inputs=entries,
        input_bounds=[(None, None) if given is None else given for _, _, given in found],
        formulation=formulation,
    )
    m.obj = pyo.Objective(expr=m.net.outputs[0])
    return m, x, true, kinds


def assert_meant(seed: int, formulation: str, solver: str) -> None:
    m, x, true, kinds = mixed(seed, formulation)
    # What is free is at an optimum of the box, which the same network in variables has.
    n = len(x)
    for v, a in zip(m.v.values(), x):
        v.fix(a)
    for v, a in zip(m.T.values(), x):
        v.fix(a)
    m.w.fix(0.5)
    for model in (m, m.clone(), pickle.loads(pickle.dumps(m))):
        optimum(model, solver)
        y = [v.value for v in model.net.outputs.values()]
        assert y == pytest.approx(m.net.network.evaluate(true), abs=1e-5), kinds
        assert model.net.error() < 1e-5
        assert model.net.evaluate() == pytest.approx(m.net.network.evaluate(true))
    # Free in the box of the entries, the optimum is at least as good as at samples.
    for v in (*m.v.values(), *m.T.values(), m.w):
        v.unfix()
    best = optimum(m, solver)
    assert m.net.error() < 1e-5
    low, high = m.net.bounds.input_box
    point = m.net.input_values()[0]
    assert (point >= low - 1e-6).all() and (point <= high + 1e-6).all()
    assert best <= m.net.network.evaluate(true)[0] + 1e-6
    assert n == len(m.net.inputs)


@pytest.mark.parametrize("seed", range(12))
def test_kinds_of_inputs(seed):
    rng = np.random.default_rng(seed)
    formulation = ("bigm", "hull", "partition", "cuts", "disjunctive")[rng.integers(5)]
    solver = ("appsi_highs", "highs", "cbc", "scip_direct")[rng.integers(4)]
    assert_meant(seed, formulation, solver)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12, 140))
def test_many_kinds_of_inputs(seed):
    test_kinds_of_inputs(seed)


KERNEL = {
    "variable": lambda: pmo.variable(lb=0, ub=1),
    "expression over one": lambda: 2 * pmo.variable(lb=0, ub=1) + 1,
    "named expression": lambda: pmo.expression(pmo.variable(lb=0, ub=1) + 1),
    "parameter": lambda: pmo.parameter(3.0),
    "expression of one": lambda: 1 + pmo.parameter(2.0),
    "list": lambda: pmo.variable_list([pmo.variable(lb=0, ub=1)]),
    "tuple": lambda: pmo.variable_tuple([pmo.variable(lb=0, ub=1)]),
    "dictionary": lambda: pmo.variable_dict({"x": pmo.variable(lb=0, ub=1)}),
}


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("kind", KERNEL)
def test_kernel_objects_are_refused(kind, wrap, caplog):
    net = dense([([[1.0]], [0.0]), ([[1.0]], [0.0])])
    m = pyo.ConcreteModel()
    given = KERNEL[kind]()
    with pytest.raises(ValueError, match="of pyomo.kernel, .* declare a pyomo.environ.Var"):
        m.net = ReLUNetBlock(network=net, inputs=[given] if wrap else given)
    assert m.component("net") is None


def test_inputs_are_no_active_component():
    """What walks the active components of a block meets none that it doesn't know."""
    m = mixed(0)[0]
    plain = pyo.ConcreteModel()
    plain.x = pyo.Var([0, 1], bounds=(-1, 1))
    plain.net = ReLUNetBlock(
        network=dense([([[1.0, 2.0]], [0.0]), ([[1.0]], [0.0])]), inputs=plain.x
    )
    for model in (m, plain):
        known = {pyo.Var, pyo.Constraint, pyo.Block, pyo.Expression, pyo.Set, pyo.RangeSet}
        known |= {pyo.Param, pyo.Objective}
        assert model.collect_ctypes(active=True, descend_into=True) <= known
    assert plain.net.inputs[1] is plain.x[1]
