"""Trained networks in Keras, in files, and in Pyomo models."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest

pytest.importorskip("sklearn")

from pyomo_relu import ReLUNetBlock, read_network
from pyomo_relu.training import (
    BinarizedNetClassifier,
    BinaryNetClassifier,
    OneVsOneBinarizedEnsemble,
    StepNetwork,
)
from tests.training.oracles import SIGNS, SQUARE, XOR


@pytest.fixture(scope="module")
def binary():
    return BinaryNetClassifier((2,), weights="ternary").fit(SQUARE, XOR)


@pytest.fixture(scope="module")
def binarized():
    return BinarizedNetClassifier((2,), loss="max_margin").fit(SIGNS, XOR)


@pytest.mark.parametrize("name", ["binary", "binarized"])
def test_network(name, request):
    clf = request.getfixturevalue(name)
    x = np.random.default_rng(0).uniform(-1, 1, (50, 2))
    x = np.vstack([x, SQUARE, SIGNS])
    network = read_network(clf)
    np.testing.assert_allclose(network.evaluate(x)[:, 0], clf.decision_function(x))
    bits = clf.to_network(outputs="bits").evaluate(x)[:, 0]
    np.testing.assert_array_equal(bits, clf.predict(x))
    with pytest.raises(ValueError, match="'scores' or 'bits'"):
        clf.to_network("labels")


@pytest.mark.parametrize("name", ["binary", "binarized"])
def test_keras(name, request, tmp_path):
    keras = pytest.importorskip("keras")
    clf = request.getfixturevalue(name)
    model = clf.to_keras()
    scores = np.asarray(model.predict(SIGNS, verbose=0))[:, 0]
    np.testing.assert_allclose(scores, clf.decision_function(SIGNS), atol=1e-12)
    model.save(tmp_path / "net.keras")
    again = keras.models.load_model(tmp_path / "net.keras")
    network = read_network(again)
    np.testing.assert_allclose(
        network.evaluate(SIGNS)[:, 0], clf.decision_function(SIGNS), atol=1e-12
    )


def test_block(binary):
    """The cheapest point of a box that the network puts into class 1, on a grid too."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var([0, 1], bounds=(0, 1))
    m.net = ReLUNetBlock(network=binary, inputs=[m.x[0], m.x[1]])
    m.class_one = pyo.Constraint(expr=m.net.outputs[0] >= -0.5)
    m.cost = pyo.Objective(expr=m.x[0] + 2 * m.x[1])
    results = pyo.SolverFactory("relu_highs").solve(m)
    assert results.solver.termination_condition == pyo.TerminationCondition.optimal
    axis = np.linspace(0, 1, 101)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    inside = grid[binary.predict(grid) == 1]
    best = (inside @ [1.0, 2.0]).min()
    assert pyo.value(m.cost) <= best + 1e-6
    assert pyo.value(m.cost) >= best - 0.03 - 1e-6  # one step of the grid
    m.class_one.deactivate()
    for point in np.random.default_rng(0).uniform(0, 1, (5, 2)):
        for v, x in zip(m.x.values(), point):
            v.fix(x)
        pyo.SolverFactory("relu_highs").solve(m)
        assert m.net.error() < 1e-6
        score = binary.decision_function(point[None])[0]
        assert m.net.outputs[0].value == pytest.approx(score, abs=1e-6)


def test_robust_network_is_verified():
    """No point of any ball has another class, by the exact verifier."""
    from pyomo_relu.verification import Ball, robust_classification, verify

    clf = BinaryNetClassifier((2,), robust=("linf", 0.2)).fit(SQUARE, XOR)
    # Two scores, so that the classes are compared: 0 and the score.
    one = clf.network_
    both = StepNetwork(
        (one.weights[0], np.vstack([np.zeros((1, 2)), one.weights[1]])),
        (one.biases[0], np.concatenate([[0.0], one.biases[1]])),
    ).to_network()
    for x, y in zip(SQUARE, XOR):
        found = verify(both, Ball(x, 0.2), robust_classification(int(y), 2))
        assert found.status == "robust"
        found = verify(both, Ball(x, 0.2), robust_classification(1 - int(y), 2))
        assert found.status == "counterexample"


@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_verify_decides_every_point(norm):
    """Against many points of each ball; robust training is found robust."""
    clf = BinaryNetClassifier((2,), robust=(norm, 0.2)).fit(SQUARE, XOR)
    assert (clf.verify(SQUARE, XOR, 0.2, norm) == "robust").all()
    assert (clf.verify(SQUARE, 1 - XOR, 0.2, norm) == "wrong").all()
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 1, (12, 2))
    labels = clf.predict(points)
    found = clf.verify(points, labels, 0.15, norm)
    assert {"robust", "counterexample"} == set(found)
    for x, y, status in zip(points, labels, found):
        moves = rng.uniform(-1, 1, (4000, 2))
        moves = moves / np.abs(moves).max(axis=1, keepdims=True)
        if norm == "l1":
            moves = moves / np.abs(moves).sum(axis=1, keepdims=True)
        near = x + 0.15 * moves * rng.uniform(0, 1, (4000, 1))
        if (clf.predict(near) != y).any():
            assert status == "counterexample"
    sure = clf.robust_share(points, labels, 0.15, norm)
    assert sure <= (found == "robust").mean()


def test_scores_without_hidden_layers_are_not_sure():
    """Three classes, every score positive: signs stay, the largest score doesn't."""
    clf = BinarizedNetClassifier((), weights=2, loss="min_hinge")
    x = np.repeat(3.0 * np.eye(3), 2, axis=0)
    clf.fit(x, np.repeat([0, 1, 2], 2))
    network = StepNetwork((np.eye(3),), (np.ones(3),), "sign")
    clf.network_ = network
    point = np.array([[3.0, 2.9, 2.0]])
    assert clf.robust_share(point, [0], 0.5) == 0.0
    assert clf.verify(point, [0], 0.5)[0] == "counterexample"
    assert clf.verify(point, [0], 0.04)[0] == "robust"
    tie = np.array([[3.0, 3.0, 2.0]])
    assert clf.verify(tie, [0], 0.0)[0] == "robust"  # the first one at a tie
    assert clf.verify(tie, [1], 0.0)[0] == "wrong"


def test_save_and_load(binary, binarized, tmp_path):
    for clf in (binary, binarized):
        path = tmp_path / "clf.npz"
        clf.save(path)
        again = type(clf).load(path)
        assert again.get_params() == clf.get_params()
        np.testing.assert_array_equal(again.predict(SIGNS), clf.predict(SIGNS))
        assert (again.status_, again.loss_, again.bound_) == (
            clf.status_,
            clf.loss_,
            clf.bound_,
        )
        other = BinaryNetClassifier if clf is binarized else BinarizedNetClassifier
        with pytest.raises(ValueError, match=f"not a {other.__name__}"):
            other.load(path)
    (tmp_path / "bad.npz").write_bytes(b"PK nothing")
    with pytest.raises(ValueError, match="damaged"):
        BinaryNetClassifier.load(tmp_path / "bad.npz")
    np.savez(tmp_path / "strange.npz", a=1)
    with pytest.raises(ValueError, match="holds no trained classifier"):
        BinaryNetClassifier.load(tmp_path / "strange.npz")
    binary.network_.save(path)
    assert StepNetwork.load(path).sizes == (2, 2, 1)
    with pytest.raises(FileNotFoundError):
        StepNetwork.load(tmp_path / "none.npz")


# ------------------------------------------------------------------------- ensemble
@pytest.fixture(scope="module")
def blobs():
    rng = np.random.default_rng(0)
    centres = np.eye(4)[:, :4] * 0.8
    x = np.clip(centres.repeat(5, axis=0) + rng.normal(0, 0.15, (20, 4)), 0, 1).round(3)
    return x, np.array(list("abcd")).repeat(5)


@pytest.fixture(scope="module")
def ensemble(blobs):
    return OneVsOneBinarizedEnsemble(margin=0.1, stage_limits=(5, 5, 5)).fit(*blobs)


def test_ensemble(blobs, ensemble):
    x, y = blobs
    assert len(ensemble.networks_) == 6
    assert ensemble.score(x, y) == 1.0
    for pair in ensemble.pairs_.values():
        assert [s["stage"] for s in pair.stages] == [
            "sat_margin",
            "max_margin",
            "min_nonzero",
        ]
        assert pair.kept == 10
        assert pair.stages[2]["nonzeros"] <= pair.stages[1]["nonzeros"]
        assert pair.stages[2]["objective"] == pytest.approx(pair.stages[2]["nonzeros"])
    for (i, j), network in ensemble.networks_.items():
        chosen = np.isin(y, ensemble.classes_[[i, j]])
        margin = np.abs(network.scores(x[chosen])).min()
        found = -ensemble.pairs_[i, j].stages[1]["objective"]
        assert margin >= found - 1e-6


def test_votes_and_ties(ensemble, blobs):
    x, _ = blobs
    points = np.vstack([x, np.random.default_rng(1).uniform(0, 1, (500, 4))])
    votes = ensemble.votes(points)
    assert (votes.sum(axis=1) == 6).all()
    np.testing.assert_allclose(ensemble.to_network().evaluate(points), votes)
    scores = ensemble.pair_scores(points)
    np.testing.assert_allclose(ensemble.to_network("scores").evaluate(points), scores)
    winner, tied = ensemble.decide(points)
    column = {pair: c for c, pair in enumerate(ensemble.networks_)}
    assert (tied > 2).any() and (tied == 2).any()  # both rules are met
    for r in range(len(points)):
        most = np.flatnonzero(votes[r] == votes[r].max())
        if len(most) == 1:
            assert winner[r] == most[0]
        elif len(most) == 2:
            assert winner[r] == most[int(scores[r, column[tuple(most)]] >= 0)]
        else:
            assert winner[r] == -1
    values = ensemble.decision_function(points)
    clear = winner >= 0
    assert (values.argmax(axis=1) == winner)[clear].all()
    named = OneVsOneBinarizedEnsemble(unclassified="?")
    named.__dict__.update({k: v for k, v in ensemble.__dict__.items() if k.endswith("_")})
    assert ((named.predict(points) == "?") == ~clear).all()
    assert (ensemble.predict(points)[clear] == named.predict(points)[clear]).all()


def test_ensemble_is_stored_and_embedded(ensemble, blobs, tmp_path):
    x, _ = blobs
    ensemble.save(tmp_path / "e.npz")
    again = OneVsOneBinarizedEnsemble.load(tmp_path / "e.npz")
    np.testing.assert_array_equal(again.predict(x), ensemble.predict(x))
    with pytest.raises(ValueError, match="holds no trained ensemble"):
        np.savez(tmp_path / "f.npz", a=1)
        OneVsOneBinarizedEnsemble.load(tmp_path / "f.npz")
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(4), bounds=(0, 1))
    m.net = ReLUNetBlock(network=ensemble, inputs=list(m.x.values()))
    m.votes = pyo.Objective(expr=m.net.outputs[2], sense=pyo.maximize)
    pyo.SolverFactory("relu_highs").solve(m)
    assert pyo.value(m.votes) == pytest.approx(3.0)
    assert m.net.error() < 1e-6


def test_ensemble_with_hidden_layers_and_two_classes():
    clf = OneVsOneBinarizedEnsemble((2,), bias=True, stage_limits=(4, 2, 2), random_state=0)
    clf.fit(SIGNS, XOR)
    assert clf.decision_function(SIGNS).shape == (4,)
    assert clf.score(SIGNS, XOR) >= 0.5


def test_ensemble_in_other_processes(blobs):
    from concurrent.futures import ThreadPoolExecutor

    x, y = blobs
    with ThreadPoolExecutor(2) as pool:
        clf = OneVsOneBinarizedEnsemble(margin=0.1, stage_limits=(5, 5, 5))
        clf.fit(x, y, executor=pool)
    assert clf.score(x, y) == 1.0
    with pytest.raises(ValueError, match="three positive"):
        OneVsOneBinarizedEnsemble(stage_limits=(1, 1)).fit(x, y)


def test_objects_with_a_network(binary):
    class Own:
        def to_network(self):
            return binary.to_network()

    class Wrong:
        def to_network(self):
            return 3

    assert read_network(Own()).n_outputs == 1
    with pytest.raises(TypeError, match="must return a Network"):
        read_network(Wrong())
