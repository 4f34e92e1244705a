"""Words for what newcomers get wrong: names, options of other solvers, files, inputs outside."""

from __future__ import annotations

import logging

import pyomo.environ as pyo
import pytest
from pyomo.contrib.solver.common.factory import SolverFactory as NewFactory

from pyomo_relu import ReLUNetBlock, read_network
from pyomo_relu.base.suggest import closest, did_you_mean
from tests.harness.random_networks import he_network


def model(**kwds) -> pyo.ConcreteModel:
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(2), bounds=(-5, 5))
    m.net = ReLUNetBlock(network=he_network(0, (2, 4, 1)), inputs=m.x, **kwds)
    m.obj = pyo.Objective(expr=m.net.outputs[0])
    return m


@pytest.mark.parametrize(
    "written, meant",
    [("big-m", "bigm"), ("BigM", "bigm"), ("Hull", "hull"), ("partitions", "partition")],
)
def test_formulations_that_are_nearly_there(written, meant):
    with pytest.raises(
        ValueError, match=f"no formulation '{written}'.*Did you mean '{meant}'"
    ):
        model(formulation=written)


def test_nothing_is_suggested_where_nothing_is_near():
    assert did_you_mean("xyz", ["bigm", "hull"]) == ""
    assert closest("START-TIME", ["start", "start_time", "stage"], 2)[0] == "start_time"
    with pytest.raises(ValueError) as error:
        model(formulation="mccormick")
    assert "Did you mean" not in str(error.value)


@pytest.mark.parametrize(
    "solver, option, says",
    [
        ("relu_global", "boxes", "which relu_highs would take"),
        ("relu_global", "start_time", "which relu_highs and relu_scip would take"),
        ("relu_highs", "node_limit", "which relu_global and relu_scip would take"),
        ("relu_highs", "starttime", "Did you mean 'start_time'?"),
        ("relu", "mip_solvr", "Did you mean 'mip_solver'?"),
    ],
)
def test_options_that_another_solver_of_ours_knows(solver, option, says):
    pytest.importorskip("highspy")
    for call, kind in ((pyo.SolverFactory, TypeError), (NewFactory, ValueError)):
        with pytest.raises(kind, match=f"{solver} has no option '{option}'") as error:
            call(solver).solve(model(), **{option: 3})
        assert says in str(error.value)
    # Pyomo's own keywords are no unknown ones.
    assert pyo.SolverFactory(solver).solve(
        model(), timelimit=30, tee=False, keepfiles=False
    )


def test_a_fixed_input_that_rows_keep_inside_is_named_once(caplog, tmp_path):
    m = model(input_bounds=(-1, 1))
    m.x[0].fix(3)
    with caplog.at_level(logging.WARNING):
        m.write(str(tmp_path / "m.lp"))
        m.write(str(tmp_path / "m.nl"))
    found = [
        r.getMessage() for r in caplog.records if "no feasible point" in r.getMessage()
    ]
    assert len(found) == 1
    assert "'net': input 'x[0]' is 3" in found[0] and "[-1, 1]" in found[0]
    m.x[0].fix(-2)
    with caplog.at_level(logging.WARNING):
        m.write(str(tmp_path / "m.lp"))
    assert sum("no feasible point" in r.getMessage() for r in caplog.records) == 2
    caplog.clear()
    m.x[0].fix(1 + 1e-9)  # a solver's tolerance
    m.write(str(tmp_path / "m.lp"))
    m.x[0].unfix()
    m.write(str(tmp_path / "m.lp"))
    assert not caplog.records


@pytest.mark.parametrize("options", [{}, {"input_shape": (2,)}])
def test_files_of_pytorch_are_loaded_by_their_owner(tmp_path, options):
    path = tmp_path / "net.pt"
    path.write_bytes(b"weights")
    with pytest.raises(ValueError, match=r"input_shape=.*load_state_dict\(.*'\.pt2'"):
        read_network(path, **options)


def test_folders_say_what_to_save_instead(tmp_path):
    with pytest.raises(ValueError, match=r"is a folder; .*model\.save\('model\.keras'\)"):
        read_network(tmp_path)
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(ValueError, match="is a SavedModel of TensorFlow's"):
        read_network(tmp_path)


@pytest.mark.parametrize(
    "module, says",
    [("skorch.regressor", "net.module_"), ("tf_keras.src.models", "model.keras")],
)
def test_models_in_the_clothes_of_another_package(module, says):
    source = type("Wrapped", (), {"__module__": module})()
    with pytest.raises(ValueError, match=f"a Wrapped is .*{says}"):
        read_network(source)
