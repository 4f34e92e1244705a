"""Certificates of the program that trains a network, as functions of its points."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from pyomo_relu.differentiable import ChvatalFunction, ParametricMILP
from pyomo_relu.differentiable.parameters import PyomoSource
from pyomo_relu.training.family import Family, merged
from pyomo_relu.training.loss_rows import program
from pyomo_relu.training.losses import Loss

XOR = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=float)
BITS = np.array([[0], [1], [1], [0]])


def noisy(seed: int, copies: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Points around the corners of a square, opposite ones of one class."""
    x, bits = np.repeat(XOR - 0.5, copies, axis=0), np.repeat(BITS, copies, axis=0)
    return x + 0.15 * np.random.default_rng(seed).normal(size=x.shape), bits


def written(loss: str, hidden: tuple[int, ...], x, bits, room: float = 0.5, **options):
    options.setdefault("bias_bound", 1.0)
    family = Family(hidden, 1, "step", **options)
    return program(Loss(loss), family, merged(x, bits), room=room)


CASES = [
    ("max_margin", (2,), 1, False),
    ("max_margin", (2,), 1, True),
    ("hinge", (1,), 3, False),
    ("hinge", (), 4, True),
    ("l1", (), 4, True),
]


@pytest.mark.parametrize(("loss", "hidden", "copies", "ternary"), CASES)
def test_below_networks_that_are_trained_anew(loss, hidden, copies, ternary):
    """Tight at its points; valid at others, where the same program is solved again."""
    x, bits = noisy(0, copies)
    mip = written(loss, hidden, x, bits, integer=ternary)
    milp = ParametricMILP.from_training(mip)
    exact = milp.solve().value
    dual = milp.subadditive_dual()
    assert dual.leaves > 2 and dual.slacks().min() > -1e-7
    assert exact - 1e-5 < dual.bound() <= exact + 1e-9
    rng = np.random.default_rng(1)
    for size in (1e-4, 1e-2, 0.1):
        theta = milp.initial + size * rng.uniform(-1, 1, size=len(milp.initial))
        assert dual.bound(milp.program(theta)) <= milp.solve(theta).value + 1e-7
    if loss == "max_margin":  # Lipschitz; others jump
        near = milp.initial + 1e-6 * rng.uniform(-1, 1, size=len(milp.initial))
        assert dual.bound(milp.program(near)) > exact - 0.05


@pytest.mark.parametrize("seed", range(3))
def test_gradient_in_the_points(seed):
    """The active leaf's formula is the difference of networks trained anew."""
    mip = written("max_margin", (2,), *noisy(seed))
    milp = ParametricMILP.from_training(mip)
    dual = milp.subadditive_dual()
    found = milp.data_jacobian().T @ dual.data_gradient()
    rng = np.random.default_rng(seed)
    for _ in range(2):
        way = rng.normal(size=len(found))
        high, low = (milp.solve(milp.initial + h * way).value for h in (1e-5, -1e-5))
        assert found @ way == pytest.approx((high - low) / 2e-5, abs=2e-6)


def test_the_program_is_the_one_of_the_other_points():
    """With enough room, the data at other points are those of a program written there."""
    x, bits = noisy(2)
    mip = written("max_margin", (2,), x, bits, room=3.0)
    milp = ParametricMILP.from_training(mip)
    before = mip.data.x
    plain = PyomoSource(mip.model, []).program(np.zeros(0))
    assert abs(plain.matrix - milp.program().matrix).max() == 0.0
    other = before.copy()
    other[0, 1], other[3] = 0.0, other[3] + 0.01  # still sorted
    anew = written("max_margin", (2,), other, mip.data.bits, room=4.0)
    np.testing.assert_array_equal(anew.data.x, other)
    again = ParametricMILP.from_training(anew)
    a, b = milp.program(other.reshape(-1)), again.program()
    assert milp.row_names == again.row_names and a.shape == b.shape
    assert milp.solve(other.reshape(-1)).value == pytest.approx(again.solve().value)
    assert milp.names[1] == "x[0,1]"


def test_exact_dual_of_a_training_program():
    """Gomory's cuts in fractions, all integers: weights, activations, sums."""
    mip = written("min_weight", (2,), XOR, XOR.max(axis=1, keepdims=True).astype(int),
                  room=0.0, integer=True, bias_bound=None)  # fmt: skip
    data = ParametricMILP.from_training(mip).program()
    data = replace(data, integer=np.ones(data.shape[1], dtype=bool))  # sums of integers
    function = ChvatalFunction.from_program(data)
    assert function.value + function.constant == 3 and len(function.matrix[0]) == 46
    assert function(function.right) == function.value and function.is_dual_feasible()
    rng = np.random.default_rng(0)
    others = np.array([[int(b) for b in function.right]] * 4)
    others[1:] += rng.integers(-2, 3, size=others[1:].shape)
    assert function.subadditivity_gap(others.tolist()) <= Fraction(0)


def test_the_program_of_a_classifier():
    """Written and not solved; the classifier stays as it was."""
    pytest.importorskip("sklearn")
    from pyomo_relu.training import BinarizedNetClassifier, BinaryNetClassifier

    x, bits = noisy(0)
    clf = BinaryNetClassifier((2,), loss="max_margin", weights="continuous")
    before = dict(vars(clf))
    milp = ParametricMILP.from_training(clf.training_program(x, bits[:, 0], room=0.2))
    assert vars(clf) == before
    assert milp.solve().value == pytest.approx(clf.fit(x, bits[:, 0]).loss_, abs=1e-6)
    assert BinarizedNetClassifier().training_program(x, [0, 1, 2, 0]).family.outputs == 3


def test_refusals():
    x, bits = noisy(0)
    milp = ParametricMILP.from_training(written("hinge", (), x, bits, room=0.0))
    with pytest.raises(ValueError, match="point 2 sum to .* room="):
        milp.program(np.where(np.arange(len(milp.initial)) // 2 == 2, 3.0, milp.initial))
    family = Family((2,), 1, "step")
    dead = np.array([False, True])
    with pytest.raises(ValueError, match="weights of input 1"):
        ParametricMILP.from_training(
            program(Loss("l1"), family, merged(x, bits), dead=dead)
        )
    given = {0: (np.ones((2, 2)), np.zeros(2))}
    with pytest.raises(ValueError, match="isn't trained on its points"):
        ParametricMILP.from_training(
            program(Loss("l1"), family, merged(x, bits), fixed=given)
        )
    with pytest.raises(ValueError, match="room"):
        written("l1", (), x, bits, room=-1.0)
