"""ReLUNetBlock as a Pyomo component: building, copying, writing, swapping."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.dae import ContinuousSet, DerivativeVar

from pyomo_relu import ReLUNetBlock
from pyomo_relu.network import NetworkBuilder, activations
from tests.harness.random_networks import he_network

SOLVER = "appsi_highs"


@pytest.fixture
def net():
    return he_network(1, [3, 8, 8, 2])


def named_network():
    b = NetworkBuilder()
    x = b.input("x", (2,))
    h = b.affine("hidden", [(x, [[1.0, -1.0], [2.0, 1.0]])], [0.0, -1.0])
    r = b.piecewise("relu", h, activations.relu())
    y = b.affine("out", [(r, [[1.0, 1.0], [1.0, 0.0]])])
    return b.build([y], input_names=["bypass", "steam"], output_names=["H2", "N2"])


def model_with(net, **options):
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(net.n_inputs), bounds=(-1, 1))
    m.net = ReLUNetBlock(network=net, inputs=m.x, **options)
    m.obj = pyo.Objective(expr=m.net.outputs[0], sense=pyo.maximize)
    return m


def solve(m):
    pyo.assert_optimal_termination(pyo.SolverFactory(SOLVER).solve(m))
    return pyo.value(m.obj)


def feasible(model, tolerance=1e-6):
    """Whether all constraints and bounds hold at the present values."""
    for c in model.component_data_objects(pyo.Constraint, active=True):
        if c.slack() < -tolerance * max(1.0, abs(pyo.value(c.body))):
            return False
    for v in model.component_data_objects(pyo.Var):
        if v.lb is not None and v.value < v.lb - tolerance:
            return False
        if v.ub is not None and v.value > v.ub + tolerance:
            return False
    return True


# ------------------------------------------------------------------------- the block
def test_optimum_equals_the_network(net):
    m = model_with(net)
    best = solve(m)
    assert m.net.error() < 1e-6
    samples = net.evaluate(np.random.default_rng(0).uniform(-1, 1, (20000, 3)))[:, 0]
    assert best >= samples.max() - 1e-6


def test_inputs_are_the_users_own_variables(net):
    m = model_with(net)
    assert m.net.inputs[2] is m.x[2]
    assert len(list(m.component_data_objects(pyo.Var, descend_into=False))) == 3


@pytest.mark.parametrize(
    "give",
    [
        lambda m: m.x,
        lambda m: [m.x[0], m.x[1], m.x[2]],
        lambda m: m.x[:],
        lambda m: pyo.Reference(m.x[:]),
        lambda m: np.array([m.x[0], m.x[1], m.x[2]], dtype=object),
        lambda m: (m.x[i] for i in range(3)),
        lambda m: [m.x[0], [m.x[1], m.x[2]]],
        lambda m: [1 * m.x[0], m.x[1] + 0.0, m.x[2]],
    ],
)
def test_forms_of_inputs(net, give):
    expected = solve(model_with(net))
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(3), bounds=(-1, 1))
    m.net = ReLUNetBlock(network=net, inputs=give(m))
    m.obj = pyo.Objective(expr=m.net.outputs[0], sense=pyo.maximize)
    assert solve(m) == pytest.approx(expected, abs=1e-6)
    assert m.net.error() < 1e-6


def test_numbers_and_expressions_as_inputs(net):
    m = pyo.ConcreteModel()
    m.t = pyo.Var(bounds=(0, 1))
    m.p = pyo.Param(initialize=0.25)
    m.net = ReLUNetBlock(network=net, inputs=[0.5, 2 * m.t - 1, m.p])
    m.obj = pyo.Objective(expr=m.net.outputs[1])
    best = solve(m)
    t = np.linspace(0, 1, 4001)
    points = np.stack([np.full_like(t, 0.5), 2 * t - 1, np.full_like(t, 0.25)], axis=1)
    assert best == pytest.approx(net.evaluate(points)[:, 1].min(), abs=1e-3)
    assert m.net.error() < 1e-6


def test_own_inputs(net):
    m = pyo.ConcreteModel()
    m.net = ReLUNetBlock(network=net, input_bounds=(-1, 1))
    m.obj = pyo.Objective(expr=m.net.outputs[0], sense=pyo.maximize)
    assert solve(m) == pytest.approx(solve(model_with(net)), abs=1e-6)
    assert m.net.inputs[0].bounds == (-1, 1)


def test_input_bounds_are_intersected_and_enforced(net):
    m = model_with(net, input_bounds=(-0.5, 2.0))
    inner = pyo.ConcreteModel()
    inner.net = ReLUNetBlock(network=net, input_bounds=(-0.5, 1.0))
    inner.obj = pyo.Objective(expr=inner.net.outputs[0], sense=pyo.maximize)
    assert solve(m) == pytest.approx(solve(inner), abs=1e-6)
    low, high = m.net.bounds.input_box
    assert (low == -0.5).all() and (high == 1.0).all()


@pytest.mark.parametrize(
    "given",
    [
        [(0.0, 1.0), (0.5, 2.0)],
        (np.array([0.0, 0.5]), np.array([1.0, 2.0])),
        {"bypass": (0.0, 1.0), "steam": (0.5, 2.0)},
        {0: (0.0, 1.0), 1: (0.5, 2.0)},
        np.array([[0.0, 1.0], [0.5, 2.0]]),
    ],
)
def test_forms_of_input_bounds(given):
    m = pyo.ConcreteModel()
    m.net = ReLUNetBlock(network=named_network(), input_bounds=given)
    assert m.net.inputs["bypass"].bounds == (0.0, 1.0)
    assert m.net.inputs[1].bounds == (0.5, 2.0)


def test_names_and_positions():
    m = pyo.ConcreteModel()
    m.b, m.s = pyo.Var(bounds=(0, 1)), pyo.Var(bounds=(0, 1))
    m.net = ReLUNetBlock(network=named_network(), inputs={"steam": m.s, "bypass": m.b})
    assert m.net.outputs["N2"] is m.net.outputs[1]
    assert m.net.inputs["steam"] is m.s and m.net.inputs[1] is m.s
    with pytest.raises(KeyError):
        m.net.outputs["CO"]
    with pytest.raises(KeyError):
        m.net.outputs[2]
    copy = pickle.loads(pickle.dumps(m.clone()))
    assert copy.net.outputs[0] is copy.net.outputs["H2"]
    assert copy.net.inputs[0] is copy.b


def test_indexed_block_with_a_rule(net):
    m = pyo.ConcreteModel()
    m.T = pyo.RangeSet(3)
    m.x = pyo.Var(m.T, range(3), bounds=(-1, 1))
    m.net = ReLUNetBlock(
        m.T, network=net, inputs=lambda b, t: [b.x[t, i] for i in range(3)]
    )
    m.link = pyo.ConstraintList()
    for t in (2, 3):
        m.link.add(m.x[t, 0] <= m.x[t - 1, 0] - 0.1)
    m.obj = pyo.Objective(expr=sum(m.net[t].outputs[0] for t in m.T), sense=pyo.maximize)
    solve(m)
    assert all(m.net[t].error() < 1e-6 for t in m.T)
    assert m.net[1].bounds is m.net[3].bounds  # one box, one computation
    again = pickle.loads(pickle.dumps(m))
    assert again.net[2].inputs[0] is again.x[2, 0]


def test_networks_by_index(net):
    other = he_network(2, [3, 4, 2])
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(3), bounds=(-1, 1))
    m.net = ReLUNetBlock(
        ["a", "b"], network={"a": net, "b": other}, inputs=lambda m, i: m.x
    )
    assert m.net["b"].network is other


def test_abstract_model(net):
    am = pyo.AbstractModel()
    am.I = pyo.Set(initialize=[0, 1, 2])
    am.T = pyo.Set()
    am.x = pyo.Var(am.I, bounds=(-1, 1))
    am.net = ReLUNetBlock(network=net, inputs=am.x)
    am.u = pyo.Var(am.T, am.I, bounds=(-1, 1))
    am.nets = ReLUNetBlock(am.T, network=net, inputs=lambda b, t: [b.u[t, i] for i in b.I])
    am.obj = pyo.Objective(rule=lambda m: m.net.outputs[0], sense=pyo.maximize)
    m = am.create_instance({None: {"T": {None: ["p", "q"]}}})
    assert solve(m) == pytest.approx(solve(model_with(net)), abs=1e-6)
    assert m.net.inputs[0] is m.x[0]
    assert list(m.nets.keys()) == ["p", "q"]


def test_rule_and_decorator(net):
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(3), bounds=(-1, 1))

    def add_limit(b):
        b.limit = pyo.Param(initialize=1.0)

    m.net = ReLUNetBlock(network=net, inputs=m.x, rule=add_limit)
    assert m.net.limit.value == 1.0 and len(m.net.outputs) == 2


def test_build_later_in_a_rule(net):
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(3), bounds=(-1, 1))

    @m.ReLUNetBlock([1, 2])
    def nets(b, i):
        b.build(net, m.x, formulation=None)

    assert m.nets[2].formulation is None
    m.nets[1].reformulate("bigm")
    assert m.nets[1].component("layer") is not None


# ------------------------------------------------------------------ Pyomo's mechanisms
def test_clone_pickle_and_create_using_are_independent(net):
    m = model_with(net)
    best = solve(m)
    copies = [
        m.clone(),
        pickle.loads(pickle.dumps(m)),
        pyo.TransformationFactory("relu.bigm").create_using(m),
    ]
    for copy in copies:
        assert copy.net.inputs[0] is copy.x[0]
        copy.x[0].fix(-1.0)
        solve(copy)
        assert copy.net.error() < 1e-6
    assert pyo.value(m.obj) == best
    assert not m.x[0].fixed
    assert copies[0].net.network is m.net.network


def test_swap_keeps_inputs_outputs_and_user_constraints(net):
    m = model_with(net, formulation=None)
    out = m.net.outputs[1]
    m.limit = pyo.Constraint(expr=out <= 0.3)
    m.net.reformulate("bigm")
    out.setlb(-0.2)
    first = solve(m)
    pyo.TransformationFactory("relu.bigm").apply_to(m, targets=[m.net])
    assert m.net.outputs[1] is out
    assert out.lb == max(-0.2, m.net.bounds.outputs[0][1])
    assert solve(m) == pytest.approx(first, abs=1e-6)


def test_failed_swap_changes_nothing(net, monkeypatch):
    m = model_with(net)
    layer, bounds = m.net.component("layer"), m.net.outputs[0].bounds
    from pyomo_relu.formulations import BigM

    def fail(self, layer):
        raise ValueError("no")

    monkeypatch.setattr(BigM, "write_piecewise", fail)
    with pytest.raises(ValueError, match="no"):
        m.net.reformulate("bigm")
    assert m.net.component("layer") is layer and m.net.outputs[0].bounds == bounds


def test_values_survive_a_swap_and_binaries_follow(net):
    m = model_with(net)
    x = [0.3, -0.7, 0.1]
    m.net.warm_start(x)
    assert feasible(m)
    m.net.reformulate("bigm")
    assert feasible(m) and [v.value for v in m.x.values()] == x


def test_writers_and_identical_files_in_two_processes(tmp_path):
    script = (
        "import sys, pyomo.environ as pyo\n"
        "from tests.block.test_component import model_with\n"
        "from tests.harness.random_networks import he_network\n"
        "m = model_with(he_network(1, [3, 8, 8, 2]))\n"
        "for file in sys.argv[1:]:\n"
        "    m.write(file, io_options={'symbolic_solver_labels': True})\n"
    )
    kinds = "lp", "mps", "nl"
    for k in range(2):
        files = [str(tmp_path / f"{k}.{ext}") for ext in kinds]
        subprocess.run(
            [sys.executable, "-c", script, *files],
            check=True,
            env={**__import__("os").environ, "PYTHONHASHSEED": str(k)},
            cwd=Path(__file__).parent.parent.parent,
        )
    for ext in kinds:
        first, second = ((tmp_path / f"{k}.{ext}").read_bytes() for k in range(2))
        assert len(first) > 1000
        assert first == second, ext


def test_pprint_display_and_names(net, capsys):
    m = model_with(net)
    m.net.pprint(verbose=True)
    m.net.outputs.display()
    m.pprint()
    text = capsys.readouterr().out
    assert "object at 0x" not in text
    assert "net.layer[dense_1]" in text.replace("'", "")


def test_deactivate(net):
    m = model_with(net)
    m.net.deactivate()
    active = list(m.component_data_objects(pyo.Constraint, active=True))
    assert active == []
    m.net.activate()
    assert solve(m) > -1e9


def test_delete_and_add_again(net):
    m = model_with(net)
    m.del_component(m.obj)
    m.del_component(m.net)
    assert m.component("net") is None
    m.net = ReLUNetBlock(network=net, inputs=m.x)
    m.obj = pyo.Objective(expr=m.net.outputs[0], sense=pyo.maximize)
    solve(m)


def test_relaxation_of_integers(net):
    m = model_with(net)
    exact = solve(m)
    pyo.TransformationFactory("core.relax_integer_vars").apply_to(m)
    assert not any(v.is_binary() for v in m.component_data_objects(pyo.Var))
    assert solve(m) >= exact - 1e-6
    pyo.TransformationFactory("core.relax_integer_vars").apply_to(m, undo=True)
    assert solve(m) == pytest.approx(exact, abs=1e-6)


def test_inside_another_block_and_a_disjunct(net):
    m = pyo.ConcreteModel()
    m.unit = pyo.Block()
    m.unit.x = pyo.Var(range(3), bounds=(-1, 1))
    m.unit.net = ReLUNetBlock(network=net, inputs=m.unit.x)
    m.obj = pyo.Objective(expr=m.unit.net.outputs[0], sense=pyo.maximize)
    assert solve(m) == pytest.approx(solve(model_with(net)), abs=1e-6)
    assert m.unit.net.name == "unit.net"


@pytest.mark.parametrize(
    "scheme, options", [("dae.finite_difference", {}), ("dae.collocation", {"ncp": 2})]
)
def test_continuous_set_index_and_discretization(net, scheme, options):
    m = pyo.ConcreteModel()
    m.t = ContinuousSet(bounds=(0, 1))
    m.x = pyo.Var(m.t, range(3), bounds=(-1, 1))
    m.net = ReLUNetBlock(
        m.t, network=net, inputs=lambda b, t: [b.x[t, i] for i in range(3)]
    )
    m.y = pyo.Var(m.t)
    m.dy = DerivativeVar(m.y, wrt=m.t)
    m.ode = pyo.Constraint(m.t, rule=lambda m, t: m.dy[t] == m.net[t].outputs[0])
    pyo.TransformationFactory(scheme).apply_to(m, nfe=2, **options)
    assert len(m.net) == len(m.t) >= 3
    for t in m.t:
        assert m.net[t].inputs[0] is m.x[t, 0]
        assert m.net[t].component("layer") is not None
    m.y[0].fix(0.0)
    m.obj = pyo.Objective(expr=m.y[1], sense=pyo.maximize)
    solve(m)
    assert all(m.net[t].error() < 1e-6 for t in m.t if t > 0)


# -------------------------------------------------------------------------- statistics
def test_statistics(net):
    m = model_with(net)
    s = m.net.statistics()
    assert s.neurons == 16 and s.binaries == 16 - s.stable
    assert s.bound_method and s.big_m[0] <= s.big_m[1]
    assert "relu_1" in str(s) and "bigm" in str(s)
    assert s.variables == sum(
        1 for v in m.component_data_objects(pyo.Var) if v.parent_component() is not m.x
    )


def test_stable_neurons_cost_nothing():
    b = NetworkBuilder()
    x = b.input("x", (1,))
    h = b.affine("h", [(x, [[1.0], [1.0], [1.0]])], [5.0, -5.0, 0.0])
    r = b.piecewise("relu", h, activations.relu())
    net = b.build([b.affine("y", [(r, [[1.0, 1.0, 1.0]])])])
    m = pyo.ConcreteModel()
    m.net = ReLUNetBlock(network=net, input_bounds=(-1, 1))
    # the active one is its pre-activation, the inactive one vanishes, one is unstable
    assert sorted(m.net.layer["h"].out.keys()) == [0, 2]
    assert list(m.net.layer["relu"].out.keys()) == [2]
    assert m.net.statistics().binaries == 1
    assert m.net.outputs[0].lb == pytest.approx(4) and m.net.outputs[0].ub == pytest.approx(
        7
    )


# ------------------------------------------------------------------------------ errors
def failing(message, net=None, build=None, **options):
    """The model is untouched when the block is refused with the message."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(3), bounds=(-1, 1))
    m.free = pyo.Var()
    m.upside = pyo.Var(bounds=(2, 1))
    m.q = pyo.Param(initialize=2, mutable=True)
    before = [c.name for c in m.component_objects()]
    with pytest.raises(ValueError, match=message):
        if build:
            build(m)
        else:
            m.net = ReLUNetBlock(network=net, **options)
    assert [c.name for c in m.component_objects()] == before


def test_errors_name_the_thing(net, caplog):
    failing(
        r"variable 'free' \(input 1\) has no finite lower or upper bound; give it finite",
        build=lambda m: setattr(
            m, "net", ReLUNetBlock(network=net, inputs=[m.x[0], m.free, m.x[1]])
        ),
    )
    failing(
        r"variable 'upside' \(input 0\) has inverted bounds: lower 2 > upper 1",
        build=lambda m: setattr(
            m, "net", ReLUNetBlock(network=net, inputs=[m.upside, m.x[0], m.x[1]])
        ),
    )
    failing(
        "the network has 3 inputs, but inputs= gives 2",
        build=lambda m: setattr(
            m, "net", ReLUNetBlock(network=net, inputs=[m.x[0], m.x[1]])
        ),
    )
    failing(
        "depends on the mutable Param 'q'",
        build=lambda m: setattr(
            m, "net", ReLUNetBlock(network=net, inputs=[m.x[0], m.q * m.x[1], m.x[2]])
        ),
    )
    failing("input 0 has no finite lower or upper bound; give", net=net)
    failing("input_bounds= has 2 entries for 3 inputs", net=net, input_bounds=[(0, 1)] * 2)
    failing("no finite upper bound", net=net, input_bounds=(0, float("inf")))
    failing("bound that is not a number", net=net, input_bounds=(0, float("nan")))
    failing("inverted bounds", net=net, input_bounds=(1, 0))
    failing(r"holds \(1, 2, 3\)", net=net, input_bounds=[(1, 2, 3)] * 3)
    failing("names 'z', but the inputs are", net=net, input_bounds={"z": (0, 1)})
    failing(
        "there is no formulation 'bigM'; choose one of",
        net=net,
        input_bounds=(0, 1),
        formulation="bigM",
    )
    failing(
        r"variable 'free' \(input 0\) has no finite .* fixed, .* block, or its value",
        build=lambda m: (
            m.free.fix(1.0),
            setattr(m, "net", ReLUNetBlock(network=net, inputs=[m.free, 1.0, 2.0])),
        ),
    )
    failing(r"holds None; .* \(None, None\)", net=net, input_bounds=[(0, 1), None, None])
    failing("Did you mean 'bounds'", net=net, input_bounds=(0, 1), bound="lp")
    failing("no keyword 'colour'", net=net, input_bounds=(0, 1), colour=3)
    failing("there are no bounds 'tight'", net=net, input_bounds=(0, 1), bounds="tight")
    failing(
        "names 'dens', which is no nonlinear layer",
        net=net,
        input_bounds=(0, 1),
        formulation={"dens": "bigm", "...": "bigm"},
    )
    failing(
        "layer 'relu_1' has no formulation",
        net=net,
        input_bounds=(0, 1),
        formulation={"relu_2": "bigm"},
    )
    failing(
        "inputs= lacks 'steam'",
        build=lambda m: setattr(
            m, "net", ReLUNetBlock(network=named_network(), inputs={"bypass": m.x[0]})
        ),
    )
    failing(
        "inputs= holds 'abc'",
        build=lambda m: setattr(m, "net", ReLUNetBlock(network=net, inputs=["abc", 1, 2])),
    )
    failing(
        "already has a component 'outputs'",
        build=lambda m: setattr(
            m,
            "net",
            ReLUNetBlock(
                network=net, inputs=m.x, rule=lambda b: setattr(b, "outputs", pyo.Var())
            ),
        ),
    )


def test_a_network_by_position_is_refused(net):
    for slip in (net, "model.keras"):
        with pytest.raises(TypeError, match="give the network as network="):
            ReLUNetBlock(slip)


def test_formulation_none_needs_bounds_too(net):
    failing("no finite", net=net, formulation=None)


def test_no_network_is_said(net):
    for given in ({"inputs": [1.0]}, {"input_bounds": (0, 1)}):
        with pytest.raises(ValueError, match="needs network="):
            ReLUNetBlock(**given)
    m = pyo.ConcreteModel()
    m.net = ReLUNetBlock()
    with pytest.raises(ValueError, match="'net' has no network yet"):
        m.net.reformulate("bigm")


def test_widened_inputs_are_noticed(net):
    m = model_with(net)
    solve(m)
    m.x[1].setub(2.0)
    with pytest.raises(ValueError, match=r"bounds of 'x\[1\]' were widened"):
        m.net.error()
    m.net.reformulate("bigm")
    solve(m)
    assert m.net.error() < 1e-6


def test_given_bounds_keep_holding_when_variables_are_widened(net):
    m = model_with(net, input_bounds=(-0.5, 0.5))
    m.x[1].setub(2.0)
    solve(m)
    assert m.net.error() < 1e-6 and m.x[1].value <= 0.5 + 1e-6
    m.net.input_box.deactivate()
    with pytest.raises(ValueError, match=r"'x\[0\]' were widened"):
        m.net.error()


def test_bounds_of_another_network_or_box_are_refused(net):
    from pyomo_relu import compute_bounds

    m = model_with(net, formulation=None)
    with pytest.raises(ValueError, match="another network"):
        m.net.reformulate("bigm", bounds=compute_bounds(he_network(5, [3, 4, 2]), -1, 1))
    with pytest.raises(ValueError, match="smaller box"):
        m.net.reformulate("bigm", bounds=compute_bounds(net, -0.5, 1))


def test_saved_bounds_by_path(net, tmp_path):
    from pyomo_relu import compute_bounds

    path = tmp_path / "bounds.npz"
    compute_bounds(net, -1, 1).save(path)
    m = model_with(net, bounds=str(path))
    assert m.net.bounds.seconds >= 0 and solve(m) is not None


def test_evaluate_without_values_is_said(net):
    m = model_with(net)
    with pytest.raises(ValueError, match="inputs without a value"):
        m.net.evaluate()
    with pytest.raises(ValueError, match="outputs without a value"):
        m.x[:].value = 0.0
        m.net.error()


def test_corner_of_a_float32_network_is_feasible():
    """784-128-128-10 on [0, 1]: each first-layer bound is attained at a corner."""
    net = he_network(0, [784, 128, 128, 10])
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(784), bounds=(0, 1))
    m.net = ReLUNetBlock(network=net, inputs=m.x, bounds="interval")
    weights = net.nodes[1].weights[0]
    m.obj = pyo.Objective(expr=m.net.outputs[0])
    solver = pyo.SolverFactory(SOLVER)
    for neuron, sign in ((0, 1), (59, -1)):
        corner = (sign * weights[neuron] > 0).astype(float)
        for v, x in zip(m.x.values(), corner.tolist()):
            v.fix(x)
        pyo.assert_optimal_termination(solver.solve(m))
        assert m.net.error() < 1e-5
    m.x.unfix()
    m.net.warm_start((weights[127] > 0).astype(float))
    assert feasible(m.net, 1e-9)
    # every corner, by the bounds that the variables have
    corners = np.vstack([weights > 0, weights < 0]).astype(float)
    values = net.activations(corners)
    for a, low, high in zip(values, m.net.bounds.lower, m.net.bounds.upper):
        assert (low <= a).all() and (a <= high).all()
