"""Layers of Keras and PyTorch, and the substitutes for a gradient of the solution."""

from __future__ import annotations

import numpy as np
import pytest

from pyomo_relu.differentiable import ParametricMILP, Program, SolutionGradient
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
