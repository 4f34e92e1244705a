"""Probabilities of classes, classes that win, and the winner as a variable."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import (
    NetworkBuilder,
    ReLUNetBlock,
    class_wins,
    probability_at_least,
    winning_class,
)
from pyomo_relu.network import Network
from tests.harness.random_networks import random_network


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def classifier(seed: int, n_classes: int = 3, **keywords) -> Network:
    rng = np.random.default_rng(seed)
    keywords = {"widths": (5,), "activations": ("relu",), **keywords}
    return random_network(rng, n_inputs=2, n_outputs=n_classes, **keywords)


def model(network: Network, seed: int = 0, **keywords):
    """The inputs of the classifier in a box, and a linear objective."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var([0, 1], bounds=(-1, 1))
    m.net = ReLUNetBlock(network=network, inputs=m.x, **keywords)
    c = np.random.default_rng(seed).normal(size=2)
    m.obj = pyo.Objective(expr=c[0] * m.x[0] + c[1] * m.x[1], sense=pyo.maximize)
    return m


def solved(m, solver: str = "appsi_highs") -> tuple[float, np.ndarray]:
    """The optimum, and the point that it is at."""
    pyo.assert_optimal_termination(pyo.SolverFactory(solver).solve(m))
    return pyo.value(m.obj), np.array([pyo.value(v) for v in m.x.values()])


def grid(m) -> tuple[np.ndarray, np.ndarray]:
    """Points of the box, and the objective there."""
    axis = np.linspace(-1.0, 1.0, 201)
    x = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    m.x[0], m.x[1] = 1.0, 0.0
    c = [pyo.value(m.obj)]
    m.x[0], m.x[1] = 0.0, 1.0
    return x, x @ np.array([*c, pyo.value(m.obj)])


def identity(n: int, low: float = -30.0, high: float = 30.0):
    """A model whose inputs are the scores."""
    b = NetworkBuilder()
    network = b.build([b.affine("scores", [(b.input("x", (n,)), np.eye(n))])])
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(n), bounds=(low, high))
    m.net = ReLUNetBlock(network=network, inputs=m.x)
    return m


def allowed(rows, z, outputs, tolerance: float = 0.0) -> bool:
    """Whether the linear rows allow scores, with the least shares that the lines leave."""
    for v, value in zip(outputs.values(), z):
        v.value = float(value)
    for w in rows.share.values():
        w.value = 0.0
    least = {j: max(w.lb, 0.0) for j, w in rows.share.items()}
    for (j, _), row in rows.line.items():
        # share >= a + s v: what is missing at a share of 0 is the line's value.
        lower, body, upper = row.to_bounded_expression(True)
        missing = (
            (lower - pyo.value(body)) if lower is not None else pyo.value(body) - upper
        )
        least[j] = max(least[j], missing - tolerance)
    return sum(least.values()) <= rows.odds.ub + tolerance


@pytest.mark.parametrize(
    "p, accuracy", [(0.8, 1e-3), (0.3, 2e-2), (0.99, 1e-3), (0.05, 1e-2)]
)
@pytest.mark.parametrize("n", [3, 6])
def test_linear_rows_stand_on_either_side_within_their_accuracy(p, accuracy, n):
    m = identity(n)
    m.safe = probability_at_least(m.net, 1, p, "safe", accuracy=accuracy)
    m.bound = probability_at_least(m.net, 1, p, "bound", accuracy=accuracy)
    rng = np.random.default_rng(0)
    inside = {"safe": 0, "bound": 0}
    for _ in range(60):
        # Scores whose probability is near p: where what is allowed is decided.
        z = rng.normal(size=n) * rng.choice([0.1, 1.0, 4.0])
        q = np.clip(p + accuracy * rng.uniform(-2.0, 2.0), 1e-6, 1 - 1e-6)
        rest = np.log(np.exp(np.delete(z, 1)).sum())
        z[1] = rest + math.log(q / (1 - q))
        found = softmax(z)[1]
        assert found == pytest.approx(q)
        for form in inside:
            inside[form] += allowed(m.component(form), z, m.net.outputs)
        # A solver may leave each row violated a little; the safe rows make up for it.
        if allowed(m.safe, z, m.net.outputs, 1e-6):
            assert found >= p
        if found >= p + accuracy:
            assert allowed(m.safe, z, m.net.outputs)
        if found >= p:
            assert allowed(m.bound, z, m.net.outputs)
        if found < p - accuracy:
            assert not allowed(m.bound, z, m.net.outputs)
    assert 0 < inside["safe"] < inside["bound"] < 60


@pytest.mark.parametrize("seed", range(4))
def test_the_optima_of_the_forms_are_in_order(seed):
    network = classifier(seed, 4)
    m = model(network, seed)
    x, gain = grid(m)
    p_grid = softmax(network.evaluate(x))
    k = int(np.argmax(p_grid.max(axis=0)))
    p = 0.5 * (p_grid[:, k].min() + p_grid[:, k].max())
    best = gain[p_grid[:, k] >= p].max()
    found = {}
    for form in ("safe", "bound"):
        m.sure = probability_at_least(m.net, k, p, form)
        found[form], point = solved(m)
        q = softmax(network.evaluate(point))[k]
        assert q >= p if form == "safe" else q >= p - 1.1e-3
        m.del_component(m.sure)
    # The grid is 0.01 apart, and the bound is above all of its points.
    assert found["safe"] <= found["bound"] + 1e-6
    assert best <= found["bound"] + 1e-6
    assert found["safe"] >= gain[p_grid[:, k] >= p + 1e-3].max() - 1e-6


def test_a_convex_row_is_between_them():
    pytest.importorskip("pyscipopt")
    network = classifier(1)
    m = model(network, 1)
    p = 0.5
    found = {}
    for form, solver in (
        ("safe", "appsi_highs"),
        ("convex", "relu"),
        ("bound", "appsi_highs"),
    ):
        m.sure = probability_at_least(m.net, 1, p, form)
        found[form], point = solved(m, solver)
        if form == "convex":
            assert softmax(network.evaluate(point))[1] >= p - 1e-5
        m.del_component(m.sure)
    assert found["safe"] <= found["convex"] + 1e-4 <= found["bound"] + 2e-4


@pytest.mark.parametrize("k", [0, 1])
@pytest.mark.parametrize("form", ["exact", "convex", "safe", "bound"])
@pytest.mark.parametrize("outputs", [1, 2])
def test_two_classes_have_one_linear_row(outputs, form, k):
    network = classifier(2, outputs)
    m = model(network)
    x, gain = grid(m)
    z = network.evaluate(x)
    z = np.column_stack([np.zeros(len(z)), z[:, 0]]) if outputs == 1 else z
    p_grid = softmax(z)[:, k]
    p = 0.5 * (p_grid.min() + p_grid.max())
    m.sure = probability_at_least(m.net, k, p, form)
    found, _ = solved(m)
    assert len(list(m.sure.component_data_objects(pyo.Constraint))) == 1
    assert not list(m.sure.component_data_objects(pyo.Var))
    assert gain[p_grid >= p + 1e-5].max() <= found + 1e-6
    at = network.evaluate([v.value for v in m.x.values()])
    at = np.array([0.0, at[0]]) if outputs == 1 else at
    assert softmax(at)[k] == pytest.approx(p, abs=1e-5) or found == pytest.approx(
        gain.max()
    )
    if form == "safe":
        assert softmax(at)[k] >= p


def test_several_labels_are_sigmoids_of_their_own():
    network = classifier(3, 3)
    m = model(network)
    m.sure = probability_at_least(m.net, 2, 0.4, multilabel=True)
    _, point = solved(m)
    assert 1.0 / (1.0 + math.exp(-network.evaluate(point)[2])) >= 0.4 - 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_a_class_wins(seed):
    network = classifier(seed)
    m = model(network, seed)
    x, gain = grid(m)
    z = network.evaluate(x)
    k = int(np.bincount(z.argmax(axis=1)).argmax())
    m.best = class_wins(m.net, k)
    found, point = solved(m)
    assert network.evaluate(point).argmax() == k
    ahead = z[:, k] - np.delete(z, k, axis=1).max(axis=1)
    assert found >= gain[ahead >= 1e-4].max() - 1e-6


@pytest.mark.parametrize("n_classes", [1, 3])
def test_the_winner_is_a_variable(n_classes):
    network = classifier(4, n_classes)
    m = model(network)
    x, gain = grid(m)
    m.winner = winning_class(m.net)
    prices = np.array([0.0, 0.7, 1.1])
    m.obj.set_value(m.obj.expr + sum(prices[k] * u for k, u in m.winner.wins.items()))
    found, point = solved(m)

    def won(z):
        return (z[..., 0] > 0).astype(int) if n_classes == 1 else z.argmax(axis=-1)

    assert found >= (gain + prices[won(network.evaluate(x))]).max() - 1e-6
    z = network.evaluate(point)
    z = np.array([0.0, z[0]]) if n_classes == 1 else z
    assert z[round(pyo.value(m.winner.number))] >= z.max() - 1e-5


def test_the_winners_rows_are_not_read_with_wider_bounds():
    m = model(classifier(5))
    m.winner = winning_class(m.net, margin=1e-3)
    copy = pickle.loads(pickle.dumps(m.clone()))
    solved(copy)
    for one in (m, copy):
        for v in one.x.values():
            v.setub(3.0)
        one.net.reformulate()
        for solver in ("appsi_highs", "relu"):
            with pytest.raises(
                ValueError, match=r"winning_class wrote its rows.*wider now"
            ):
                solved(one, solver)
        one.winner.pprint()
        one.del_component(one.winner)
        one.winner = winning_class(one.net)
        solved(one)


@pytest.mark.parametrize("form", ["safe", "bound"])
def test_with_curves_the_rows_are_about_the_true_network(form):
    network = classifier(3, 3, activations=("tanh",))
    m = model(network, accuracy=2e-2)
    x, gain = grid(m)
    p_grid = softmax(network.evaluate(x))[:, 0]
    p = 0.5 * (p_grid.min() + p_grid.max())
    m.sure = probability_at_least(m.net, 0, p, form)
    found, point = solved(m)
    if form == "safe":
        assert softmax(network.evaluate(point))[0] >= p
    else:
        assert found >= gain[p_grid >= p].max() - 1e-6


def test_what_is_not_understood_is_refused():
    m = model(classifier(0))
    for arguments, keywords, words in [
        ((3, 0.5, "safe"), {}, "no class 3; its classes are 0, 1, 2"),
        ((0, 1.0, "safe"), {}, "p=1 must be above 0"),
        ((0, 0.5, "save"), {}, "Did you mean 'safe'"),
        ((0, 0.5), {}, "with 3 classes no linear row is exact"),
        ((0, 0.9995, "safe"), {}, "smaller accuracy"),
        ((0, 0.5, "safe"), {"accuracy": 1e-7}, "too fine"),
        ((0, 0.5, "bound"), {"accuracy": 1e-8}, "too fine"),
        ((0, 0.5, "safe"), {"accuracy": 0.0}, "accuracy=0 must"),
        ((7, 0.5), {"multilabel": True}, "no class 7"),
    ]:
        with pytest.raises(ValueError, match=words):
            probability_at_least(m.net, *arguments, **keywords)
    with pytest.raises(ValueError, match="margin=-1"):
        class_wins(m.net, 0, -1)
    with pytest.raises(ValueError, match="no class 'a'"):
        class_wins(m.net, "a")
    with pytest.raises(ValueError, match="has no bounds"):
        winning_class(model(classifier(0), formulation=None).net)
    m.many = ReLUNetBlock([1, 2], network=classifier(0), inputs=lambda m, i: m.x)
    with pytest.raises(ValueError, match="'many' is no single ReLUNetBlock"):
        class_wins(m.many, 0)


def test_probabilities_are_not_taken_for_scores():
    b = NetworkBuilder()
    h = b.affine("h", [(b.input("x", (2,)), np.ones((1, 2)))])
    m = model(b.build([b.smooth("p", h, "sigmoid")]), formulation="smooth")
    with pytest.raises(ValueError, match=r"outputs are probabilities.*'p'.*logits=True"):
        probability_at_least(m.net, 1, 0.5)


def test_scaled_models_keep_the_winner():
    m = model(classifier(6))
    m.winner = winning_class(m.net)
    found, _ = solved(m)
    m.scaling_factor = pyo.Suffix(direction=pyo.Suffix.EXPORT)
    for v in m.net.outputs.values():
        m.scaling_factor[v] = 10.0
    scaled = pyo.TransformationFactory("core.scale_model").create_using(m, rename=False)
    assert solved(scaled)[0] == pytest.approx(found)
