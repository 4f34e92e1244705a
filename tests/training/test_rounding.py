"""Starts from the relaxation, and the three stages of a pair that use them."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn")

from pyomo_relu.base.deadline import NEVER
from pyomo_relu.training import rounding
from pyomo_relu.training.exact import exact
from pyomo_relu.training.family import Family, merged
from pyomo_relu.training.loss_rows import program, write_sparsest
from pyomo_relu.training.losses import Loss
from pyomo_relu.training.pair import confident, train_pair
from pyomo_relu.training.solve import Engine
from pyomo_relu.training.task import Task, constant_network


def task_of(loss: Loss, weights: int = 1, features: int = 30, noise: float = 0.5) -> Task:
    rng = np.random.default_rng(0)
    y = np.arange(16) % 2
    x = rng.uniform(0, 1, (16, features))
    x[:, :5] += noise * y[:, None]
    family = Family((), 1, "sign", float(weights), True, "neuron", float(weights), True)
    return Task(family, merged(x, y[:, None].astype(float)), loss, Engine(), None, rng)


def margin(task: Task, network) -> float:
    return float(((2 * task.data.bits - 1) * network.scores(task.data.x)).min())


@pytest.mark.parametrize("weights", [1, 3])
def test_widest_margin(weights):
    """Between plain rounding and the relaxation, and near the latter."""
    task = task_of(Loss("max_margin", margins="neuron"), weights)
    mip = program(task.loss, task.family, task.data)
    assert rounding.applies(mip)
    theta = rounding.RelaxedNeuron(mip).solve()
    signs = 2 * task.data.bits[:, 0] - 1
    bound = (signs * (task.data.x @ theta[:-1] + theta[-1])).min()
    plain = np.round(theta)
    simple = (signs * (task.data.x @ plain[:-1] + plain[-1])).min()
    network = rounding.rounded(mip, NEVER)
    found = margin(task, network)
    assert simple - 1e-9 <= found <= bound + 1e-6
    assert found >= 0.7 * bound
    w, b = network.weights[0], network.biases[0]
    assert (w == np.round(w)).all() and np.abs(w).max() <= weights
    assert abs(b[0]) <= weights


def test_fewer_weights_keep_the_floor():
    task = task_of(Loss("max_margin", margins="neuron"))
    wide = rounding.rounded(program(task.loss, task.family, task.data), NEVER)
    from pyomo_relu.training.encode import TrainingMIP

    mip = TrainingMIP(task.family, task.data, margins="neuron")
    floor = 0.5 * margin(task, wide)
    write_sparsest(mip, {0: np.array([floor])})
    light = rounding.fewer_weights(mip, wide)
    assert margin(task, light) >= floor - 1e-9
    assert light.nonzeros()[0] < wide.nonzeros()[0]
    for j in np.flatnonzero(light.weights[0][0]):
        w = light.weights[0].copy()
        w[0, j] = 0.0
        other = type(light)((w,), light.biases, "sign")
        assert margin(task, other) < floor  # none can go any more


@pytest.mark.parametrize("loss", ["min_hinge", "sat_margin"])
def test_scores_are_a_good_start(loss):
    task = task_of(Loss(loss, 0.1), noise=0.1)
    mip = program(task.loss, task.family, task.data)
    network = rounding.rounded(mip, NEVER)
    assert task.value(network) < task.value(constant_network(task))
    found = exact(task)
    assert found.loss <= task.value(network) + 1e-6


def test_a_bias_between_integers_is_centred():
    """Ternary weights and a free bias: the bias is in the middle of the gap."""
    x = np.array([[0.1, 0.0], [0.3, 0.2], [0.8, 0.1], [0.9, 0.3]])
    data = merged(x, np.array([[0.0], [0.0], [1.0], [1.0]]))
    mip = program(Loss("max_margin"), Family((), 1, "step", 1.0, True), data)
    network = rounding.rounded(mip, NEVER)
    scores = network.scores(data.x)[:, 0]
    assert scores[:2].max() == pytest.approx(-scores[2:].min())
    assert scores[2:].min() >= 0.25 - 1e-9


def test_where_it_does_not_apply():
    data = merged(np.eye(2), np.array([[0.0], [1.0]]))
    for family in (
        Family((2,), 1, "sign", 1.0, True),
        Family((), 1, "sign", 1.0, False),
        Family((), 1, "sign", 1.0, True, robust=("linf", 0.1)),
    ):
        assert not rounding.applies(program(Loss("sat_margin"), family, data))
    mip = program(
        Loss("max_margin"),
        Family((), 1, "sign", 1.0, True),
        merged(np.zeros((2, 2)), np.eye(2)[:, :1]),
    )
    assert rounding.rounded(mip, NEVER) is None  # equal points, two classes


def test_lightest_is_above_its_floor():
    from pyomo_relu.training.encode import TrainingMIP

    task = task_of(Loss("max_margin", margins="neuron"), weights=3)
    wide = rounding.rounded(program(task.loss, task.family, task.data), NEVER)
    mip = TrainingMIP(task.family, task.data, margins="neuron")
    floor = 0.7 * margin(task, wide)
    write_sparsest(mip, {0: np.array([floor])})
    light = rounding.rounded(mip, NEVER)
    assert margin(task, light) >= floor
    assert light.nonzeros()[0] < wide.nonzeros()[0]


def test_stages_of_a_pair():
    """All points certain without a program; the last stage keeps its share."""
    task = task_of(Loss("sat_margin", 0.1))
    pair = train_pair(task, (0.5, 0.5, 0.5), 0.7)
    first, second, third = pair.stages
    assert (first["status"], first["objective"]) == ("optimal", 0.0)
    assert pair.kept == 16
    assert margin(task, pair.network) >= 0.7 * -second["objective"] - 1e-6
    whole = train_pair(task, (0.5, 0.5, 0.5), 1.0)
    assert margin(task, whole.network) >= -whole.stages[1]["objective"] - 1e-6
    assert third["nonzeros"] <= whole.stages[2]["nonzeros"]
    assert third["nonzeros"] == pair.network.nonzeros()[0] <= third["objective"] + 1e-6


def test_points_that_no_neuron_fits():
    """One point with the wrong label: the first stage leaves it, or others, out."""
    task = task_of(Loss("sat_margin", 0.1), features=5)
    bits = task.data.bits.copy()
    bits[0] = 1 - bits[0]
    x = np.vstack([task.data.x, task.data.x[:1] + 1e-4])
    data = merged(x, np.vstack([task.data.bits, bits[:1]]))
    task = Task(task.family, data, task.loss, task.engine, None, task.rng)
    pair = train_pair(task, (0.5, 0.5, 0.5))
    assert 8 <= pair.kept < 17
    assert pair.stages[0]["objective"] == pytest.approx(17 - pair.kept)
    kept = confident(task, pair.network)
    assert kept.sum() >= 1
