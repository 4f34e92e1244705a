"""Layers of Keras and PyTorch, and the substitutes for a gradient of the solution."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu.differentiable import (
    Infeasible,
    ParametricMILP,
    Program,
    SolutionGradient,
    SolverError,
)
from pyomo_relu.differentiable.solution_gradients import (
    batch_backward,
    batch_forward,
    batch_values,
)
from tests.differentiable.instances import random_program


@pytest.fixture(scope="module")
def milp() -> ParametricMILP:
    return ParametricMILP.from_arrays(random_program(3), ["cost", "row_upper"])


def rows(milp, count: int = 2) -> np.ndarray:
    rng = np.random.default_rng(0)
    return milp.initial + 0.05 * rng.normal(size=(count, len(milp.initial)))


def test_torch(milp):
    torch = pytest.importorskip("torch")
    from pyomo_relu.differentiable.torch_function import milp_solution, milp_value

    theta = torch.tensor(rows(milp), requires_grad=True)
    values = milp_value(milp, theta)
    (values * torch.tensor([2.0, -3.0])).sum().backward()
    for row, value, gradient, factor in zip(rows(milp), values, theta.grad, (2, -3)):
        z, g = milp.value_and_grad(row)
        assert float(value.detach()) == pytest.approx(z)
        assert gradient.numpy() == pytest.approx(factor * g)
    theta = torch.tensor(rows(milp), requires_grad=True)
    points = milp_solution(milp, theta)
    (points**2).sum().backward()
    for row, gradient in zip(rows(milp), theta.grad):
        x = milp.solve(row).x
        jacobian = milp.solution_jacobian(row, check=False)
        assert gradient.numpy() == pytest.approx(2 * x @ jacobian, abs=1e-8)


def test_keras(milp):
    tf = pytest.importorskip("tensorflow")
    import keras

    from pyomo_relu.differentiable.keras_layer import MILPSolution, MILPValue

    theta = tf.constant(rows(milp))
    layer = MILPValue(milp, dtype="float64")
    with tf.GradientTape() as tape:
        tape.watch(theta)
        values = layer(theta)
    gradient = tape.gradient(values, theta).numpy()
    for row, value, g in zip(rows(milp), values.numpy(), gradient):
        expected = milp.value_and_grad(row)
        assert value == pytest.approx([expected[0]])
        assert g == pytest.approx(expected[1])
    points = MILPSolution(milp, dtype="float64")
    with tf.GradientTape() as tape:
        tape.watch(theta)
        loss = tf.reduce_sum(points(theta) ** 2)
    found = tape.gradient(loss, theta).numpy()
    x = milp.solve(rows(milp)[0]).x
    jacobian = milp.solution_jacobian(rows(milp)[0], check=False)
    assert found[0] == pytest.approx(2 * x @ jacobian, abs=1e-8)

    # a model that learns the parameters from a feature
    inputs = keras.Input((1,))
    out = MILPValue(milp)(keras.layers.Dense(len(milp.initial))(inputs))
    model = keras.Model(inputs, out)
    model.layers[1].set_weights([np.zeros((1, len(milp.initial))), milp.initial])
    model.compile(optimizer=keras.optimizers.SGD(0.01), loss="mse")
    target = np.full((2, 1), milp.solve().value - 0.2)
    history = model.fit(np.ones((2, 1)), target, epochs=4, verbose=0).history["loss"]
    assert history[-1] < history[0]


#: Floating types, and how many digits of a result they keep.
TYPES = {"float64": 1e-12, "float32": 1e-6, "float16": 1e-2, "bfloat16": 5e-2}


def tight() -> ParametricMILP:
    """Feasible up to a parameter of 1.1, which float32 rounds up; value 10 times it."""
    m = pyo.ConcreteModel()
    m.need = pyo.Param(initialize=1.1, mutable=True)
    m.s = pyo.Var(bounds=(0, 1.1))
    m.c = pyo.Constraint(expr=m.s >= m.need)
    m.o = pyo.Objective(expr=10 * m.s)
    return ParametricMILP.from_pyomo(m, [m.need])


@pytest.mark.parametrize(
    "policy", ["float32", "float64", "mixed_float16", "mixed_bfloat16"]
)
@pytest.mark.parametrize("kind", TYPES)
def test_keras_keeps_the_type_of_the_parameters(kind, policy):
    """Whatever the policy, in eager mode, in a graph and in a model."""
    tf = pytest.importorskip("tensorflow")
    import keras

    from pyomo_relu.differentiable.keras_layer import MILPSolution, MILPValue

    milp, before = tight(), keras.config.dtype_policy()
    theta = tf.cast([[1.1 if kind == "float64" else 0.9], [0.25]], kind)
    if kind == "float64":
        theta = tf.constant([[1.1], [0.25]], tf.float64)
    exact = theta.numpy().astype(float)
    keras.config.set_dtype_policy(policy)
    try:
        for layer, factor in ((MILPValue(milp), 10.0), (MILPSolution(milp), 1.0)):
            for call in (layer, tf.function(layer)):
                with tf.GradientTape() as tape:
                    tape.watch(theta)
                    found = call(theta)
                slope = tape.gradient(found, theta)
                assert found.dtype == slope.dtype == theta.dtype
                assert found.numpy().astype(float) == pytest.approx(
                    factor * exact, rel=TYPES[kind]
                )
                assert slope.numpy().astype(float) == pytest.approx(factor, rel=TYPES[kind])
            inputs = keras.Input((1,), dtype=kind)
            outputs = layer(inputs)
            assert outputs.dtype == kind
            model = keras.Model(inputs, outputs)
            assert model(theta).numpy() == pytest.approx(found.numpy())
            typed = type(layer)(milp, dtype="float32")
            assert typed(theta).dtype == tf.float32 and typed(inputs).dtype == "float32"
            empty = layer(theta[:0])
            assert empty.shape == (0, 1) and empty.dtype == theta.dtype
    finally:
        keras.config.set_dtype_policy(before)


def test_keras_takes_numbers_and_compiled_models():
    tf = pytest.importorskip("tensorflow")
    import keras

    from pyomo_relu.differentiable.keras_layer import MILPValue, milp_solution, milp_value

    milp = tight()
    assert milp_value(milp, [[1.1]]).dtype == tf.float64
    assert milp_value(milp, [[1]]).numpy() == pytest.approx([10.0])
    assert float(milp_solution(milp, np.array([[1.1]]))[0, 0]) == pytest.approx(1.1)
    # jit_compile: Keras says that it goes on without
    for policy in ("float32", "mixed_bfloat16"):
        start = keras.initializers.Constant(0.25)
        dense = keras.layers.Dense(1, kernel_initializer=start, dtype=policy)
        inputs = keras.Input((1,))
        model = keras.Model(inputs, MILPValue(milp, dtype="float32")(dense(inputs)))
        with pytest.warns(UserWarning, match="jit_compile"):
            model.compile(
                optimizer=keras.optimizers.SGD(1e-3), loss="mse", jit_compile=True
            )
        model.fit(np.ones((2, 1)), np.full((2, 1), 5.0), epochs=2, verbose=0)
        assert dense.get_weights()[0][0, 0] > 0.25


@pytest.mark.parametrize("kind", TYPES)
def test_torch_keeps_the_type_of_the_parameters(kind):
    torch = pytest.importorskip("torch")
    from pyomo_relu.differentiable.torch_function import milp_solution, milp_value

    milp = tight()
    numbers = [[1.1 if kind == "float64" else 0.9], [0.25]]
    for call, factor in ((milp_value, 10.0), (milp_solution, 1.0)):

        def compiled(milp, theta, call=call):
            return 1.0 * call(milp, 1.0 * theta)

        for way in (call, torch.compile(compiled, backend="eager")):
            theta = torch.tensor(numbers, dtype=getattr(torch, kind), requires_grad=True)
            found = way(milp, theta)
            found.sum().backward()
            assert found.dtype == theta.grad.dtype == theta.dtype
            exact = factor * theta.detach().double().numpy()
            result = found.detach().double().numpy().reshape(-1, 1)
            assert result == pytest.approx(exact, rel=TYPES[kind])
            assert theta.grad.double().numpy() == pytest.approx(factor, rel=TYPES[kind])
        assert call(milp, theta[:0]).numel() == 0
        assert call(milp, [[1.1]]).dtype == torch.float64
        assert float(call(milp, torch.tensor([[1]])).sum()) == pytest.approx(factor)


def choice() -> ParametricMILP:
    """Choose one of four at least cost."""
    program = Program.from_arrays(
        [0.3, 0.1, 0.5, 0.4], np.ones((1, 4)), row_lower=1, row_upper=1, upper=1, integer=1
    )
    return ParametricMILP.from_arrays(program, ["cost"])


@pytest.mark.parametrize("method", ["blackbox", "perturbed", "straight_through"])
def test_substitutes_find_the_costs_of_a_choice(method):
    """Descent along each makes the third choice optimal."""
    milp, how = choice(), SolutionGradient(method, step=2.0, sigma=0.3, samples=30)
    wanted = np.array([0.0, 0.0, 1.0, 0.0])
    theta = milp.initial.copy()
    assert (milp.solve(theta).x == [0, 1, 0, 0]).all()
    for _ in range(40):
        x = how.forward(milp, theta)
        theta -= 0.1 * how.backward(milp, theta, 2 * (x - wanted))
    assert (milp.solve(theta).x == wanted).all()


def test_formulas_of_the_substitutes():
    milp, g = choice(), np.array([0.0, 1.0, -1.0, 0.0])
    theta = milp.initial
    assert SolutionGradient("straight_through").backward(milp, theta, g) == pytest.approx(
        -g
    )
    # costs + step * g = (.3, 1.1, -.5, .4): the choice moves from 1 to 2
    found = SolutionGradient("blackbox", step=1.0).backward(milp, theta, g)
    assert found == pytest.approx([0, -1, 1, 0])
    assert SolutionGradient("basis").backward(milp, theta, g) == pytest.approx(np.zeros(4))
    # the smoothed choice of two is a normal distribution function
    two = Program.from_arrays(
        [0.0, 0.0], [[1.0, 1.0]], row_lower=1, row_upper=1, upper=1, integer=1
    )
    pair = ParametricMILP.from_arrays(two, ["cost"])
    how = SolutionGradient("perturbed", sigma=1.0, samples=1500)
    slope = how.backward(pair, np.zeros(2), np.array([1.0, 0.0]))
    density = 1 / np.sqrt(2 * np.pi) / np.sqrt(2)
    assert slope == pytest.approx([-density, density], abs=0.05)
    assert how.forward(pair, np.zeros(2)) == pytest.approx([0.5, 0.5], abs=0.05)


def test_refusals():
    with pytest.raises(ValueError, match="method"):
        SolutionGradient("magic")
    with pytest.raises(ValueError, match="positive"):
        SolutionGradient("blackbox", step=0.0)


def test_a_batch_names_the_row_that_fails(milp):
    batch = rows(milp, 3)
    upper = [k for k, name in enumerate(milp.names) if name.startswith("row_upper")]
    batch[1, upper] = -100.0  # below the rows' lower sides, or out of reach
    how, upstream = SolutionGradient("blackbox"), np.ones((3, milp.program().shape[1]))
    for call in (
        lambda: batch_values(milp, batch),
        lambda: batch_forward(milp, how, batch),
        lambda: batch_backward(milp, how, batch, upstream),
    ):
        with pytest.raises((Infeasible, SolverError), match="row 1 of 3 in the batch: "):
            call()
    batch[1] = np.nan
    with pytest.raises(ValueError, match="row 1 of 3 in the batch: a parameter is NaN"):
        batch_values(milp, batch)
    torch = pytest.importorskip("torch")
    from pyomo_relu.differentiable.torch_function import milp_value

    with pytest.raises(ValueError, match="row 1 of 3"):
        milp_value(milp, torch.tensor(batch))
