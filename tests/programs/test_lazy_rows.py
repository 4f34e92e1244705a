"""Lazy rows are the same model as written-out ones, for every writer and solver."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.contrib.fbbt.fbbt import fbbt
from pyomo.opt import WriterFactory
from pyomo.repn.plugins.nl_writer import NLWriter
from pyomo.repn.plugins.standard_form import LinearStandardFormCompiler

from pyomo_relu import ReLUNetBlock
from pyomo_relu.programs import lazy_rows
from pyomo_relu.programs.lazy_rows import LazyRow, OrdinaryRow
from pyomo_relu.programs.standard_form import compile_standard_form
from tests.harness.random_networks import he_network, random_network

NETWORKS = {
    "small": lambda: he_network(0, (2, 6, 1)),
    "dense": lambda: he_network(0, (3, 8, 8, 2)),
    "graph": lambda: random_network(
        np.random.default_rng(3),
        n_inputs=3,
        widths=(8, 8),
        n_outputs=2,
        residual=True,
        max_pool=True,
        concatenate=True,
        stable=1,
        dead=2,
        zero_rows=1,
    ),
    "sparse": lambda: random_network(
        np.random.default_rng(5),
        n_inputs=3,
        widths=(20, 20),
        activations=("relu", "clip"),
        density=0.3,
    ),
}


def model(monkeypatch, name, lazy):
    monkeypatch.setattr(lazy_rows, "LAZY_ABOVE", 1 if lazy else 10**9)
    network = NETWORKS[name]()
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(network.n_inputs), bounds=(-1, 1))
    m.net = ReLUNetBlock(network=network, inputs=m.x)
    m.obj = pyo.Objective(expr=m.net.outputs[0], sense=pyo.maximize)
    return m


@pytest.fixture(params=["dense", "graph", "sparse"])
def pair(request, monkeypatch):
    """The same model with lazy and with ordinary rows."""
    lazy = model(monkeypatch, request.param, True)
    plain = model(monkeypatch, request.param, False)
    assert lazy_count(lazy) > 3
    assert lazy_count(plain) == 0
    return lazy, plain


def lazy_count(m):
    return sum(isinstance(c, LazyRow) for c in m.component_data_objects(pyo.Constraint))


def written(m, kind):
    stream = io.StringIO()
    if kind == "nl":
        NLWriter().write(m, stream, symbolic_solver_labels=False)
        return stream.getvalue()
    path_options = {"symbolic_solver_labels": True}
    WriterFactory("lp").write(m, stream, **path_options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["lp", "nl"])
def test_files_are_identical(pair, kind):
    lazy, plain = pair
    before = lazy_count(lazy)
    assert written(lazy, kind) == written(plain, kind)
    assert lazy_count(lazy) == before


def test_mps_file(pair, tmp_path):
    texts = []
    for k, m in enumerate(pair):
        path = tmp_path / f"{k}.mps"
        m.write(str(path), io_options={"symbolic_solver_labels": True})
        texts.append(path.read_text())
    assert texts[0] == texts[1]


@pytest.mark.parametrize("fix", [False, True])
def test_standard_forms_agree(pair, fix):
    forms = []
    for m in pair:
        if fix:
            m.x[0].fix(0.25)
            m.net.outputs[0].fix(0.5)
        form = compile_standard_form(m)
        names = [v.name for v in form.columns]
        order = np.argsort(names)
        rows = np.argsort([c.name for c in form.rows])
        matrix = form.matrix.toarray()[rows][:, order]
        forms.append(
            (
                sorted(names),
                matrix,
                form.row_lower[rows],
                form.row_upper[rows],
                form.cost[order],
                form.lower[order],
            )
        )
        assert not form.matrix.nnz or form.matrix.data.all()
    assert forms[0][0] == forms[1][0]
    for a, b in zip(forms[0][1:], forms[1][1:]):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    pyomos = [LinearStandardFormCompiler().write(m, mixed_form=True) for m in pair]
    assert (pyomos[0].A != pyomos[1].A).nnz == 0
    np.testing.assert_allclose(pyomos[0].rhs, pyomos[1].rhs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("solver", ["appsi_highs", "highs", "relu_highs"])
def test_solvers_agree(pair, solver):
    found = []
    for m in pair:
        pyo.SolverFactory(solver).solve(m)
        assert m.net.error() < 1e-5
        found.append(pyo.value(m.obj))
    assert found[0] == pytest.approx(found[1], rel=2e-4, abs=1e-4)


def test_clone_and_pickle_stay_lazy_and_share_weights(pair):
    lazy, _ = pair
    count = lazy_count(lazy)
    for copy in (lazy.clone(), pickle.loads(pickle.dumps(lazy))):
        assert lazy_count(copy) == count
        assert written(copy, "lp") == written(lazy, "lp")
        copy.x[0].setub(0.5)
        rows = [c for c in copy.component_data_objects(pyo.Constraint)]
        own = {id(v) for v in copy.component_data_objects(pyo.Var)}
        for c in rows:
            if isinstance(c, LazyRow):
                assert {id(v) for v in c._rows.variables} <= own
                assert id(c._rows.tails[c._position]) in own
    first = next(c for c in lazy.component_data_objects(pyo.Constraint))
    copy = lazy.clone()
    twin = copy.find_component(first.name)
    if isinstance(first, LazyRow):
        assert twin._rows.matrix is first._rows.matrix


def test_clone_of_the_block_alone_keeps_outer_variables(monkeypatch):
    lazy = model(monkeypatch, "dense", True)
    copy = lazy.net.clone()
    row = copy.layer["dense_1"].affine[0]
    assert isinstance(row, LazyRow)
    assert all(a is b for a, b in zip(row._rows.variables, lazy.x.values()))
    assert row._rows.tails[0] is copy.layer["dense_1"].out[0]


def test_reading_and_setting_makes_rows_ordinary(pair):
    lazy, plain = pair
    name = next(
        c.name
        for c in lazy.component_data_objects(pyo.Constraint)
        if isinstance(c, LazyRow)
    )
    c, d = lazy.find_component(name), plain.find_component(name)
    assert str(c.body) == str(d.body)
    assert (c.lb, c.ub, c.equality) == (d.lb, d.ub, d.equality)
    assert c.has_lb() and c.has_ub()
    assert isinstance(c, LazyRow)
    for v in lazy.component_data_objects(pyo.Var):
        v.set_value(0.5, skip_validation=True)
        plain.find_component(v.name).set_value(0.5, skip_validation=True)
    assert c.slack() == pytest.approx(d.slack())
    assert pyo.value(c) == pytest.approx(pyo.value(d))
    assert str(c.expr) == str(d.expr)
    assert isinstance(c, OrdinaryRow) and not isinstance(c, LazyRow)
    assert c.expr is c.expr
    with pytest.raises(ValueError):
        other = next(
            k for k in lazy.component_data_objects(pyo.Constraint) if isinstance(k, LazyRow)
        )
        other.set_value("nonsense")
    assert isinstance(other, LazyRow)
    other.set_value(lazy.x[0] <= 0.75)
    assert other.ub == 0.75
    assert written(lazy, "lp") != written(plain, "lp")
    assert isinstance(pickle.loads(pickle.dumps(lazy)).find_component(name), OrdinaryRow)


def test_deactivate_display_and_bounds_tightening(pair, capsys):
    lazy, plain = pair
    for m in pair:
        next(m.component_data_objects(pyo.Constraint)).deactivate()
    assert written(lazy, "lp") == written(plain, "lp")
    for m in pair:
        m.net.pprint(verbose=True)
    shown = capsys.readouterr().out
    assert shown[: len(shown) // 2] == shown[len(shown) // 2 :]
    for m in pair:
        fbbt(m)
    for v in lazy.component_data_objects(pyo.Var):
        assert v.bounds == pytest.approx(plain.find_component(v.name).bounds)


def test_transformations(pair):
    texts = []
    for m in pair:
        relaxed = pyo.TransformationFactory("core.relax_integer_vars").create_using(m)
        texts.append(written(relaxed, "lp"))
    assert texts[0] == texts[1]


def test_constraints_can_be_deleted_and_indexed(pair):
    lazy, _ = pair
    con = next(
        c
        for c in lazy.component_objects(pyo.Constraint)
        if isinstance(next(iter(c.values())), LazyRow)
    )
    first = next(iter(con.keys()))
    assert con[first].index() == first
    assert con[first].parent_component() is con
    assert con[first].name.endswith(f"[{first}]")
    del con[first]
    assert first not in con


def test_a_variable_given_twice_is_written_out(monkeypatch):
    monkeypatch.setattr(lazy_rows, "LAZY_ABOVE", 1)
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(-1, 1))
    m.net = ReLUNetBlock(network=he_network(0, (2, 6, 1)), inputs=[m.x, m.x])
    m.obj = pyo.Objective(expr=m.net.outputs[0])
    con = m.net.layer["dense_1"].affine
    assert all(not isinstance(c, LazyRow) for c in con.values())
    pyo.SolverFactory("relu_highs").solve(m)
    assert m.net.error() < 1e-6


def test_small_layers_are_written_out():
    m = pyo.ConcreteModel()
    m.net = ReLUNetBlock(network=he_network(0, (2, 6, 1)), input_bounds=(-1, 1))
    assert lazy_count(m) == 0


def test_expressions_as_inputs(monkeypatch):
    monkeypatch.setattr(lazy_rows, "LAZY_ABOVE", 1)
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(2), bounds=(-1, 1))
    m.net = ReLUNetBlock(
        network=he_network(0, (3, 6, 1)), inputs=[m.x[0] + m.x[1], m.x[1], 0.5]
    )
    m.obj = pyo.Objective(expr=m.net.outputs[0])
    pyo.SolverFactory("relu_highs").solve(m)
    assert m.net.error() < 1e-6
    m.net2 = ReLUNetBlock(network=he_network(0, (3, 6, 1)), inputs=[m.x[0], m.x[1], 0.5])
    assert lazy_count(m.net2) > 0
    m.obj.set_value(m.net2.outputs[0])
    pyo.SolverFactory("relu_highs").solve(m)
    assert m.net2.error() < 1e-6


def test_persistent_solvers_follow_changes(monkeypatch):
    from pyomo.contrib.appsi.solvers import Highs as Appsi
    from pyomo.contrib.solver.solvers.highs import Highs

    lazy = model(monkeypatch, "small", True)
    plain = model(monkeypatch, "small", False)
    for kind in (Appsi, Highs):
        solvers = [kind(), kind()]
        for upper in (1.0, 0.25, 0.5):
            found = []
            for m, solver in zip((lazy, plain), solvers):
                m.x[0].setub(upper)
                solver.solve(m)
                found.append(pyo.value(m.obj))
            assert found[0] == pytest.approx(found[1], rel=2e-4, abs=1e-4)
