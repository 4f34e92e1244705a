"""Starts: never worse than what was given, single neurons, gradients, warm starts."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

pytest.importorskip("sklearn")

from pyomo_relu.steps.step_network import StepNetwork
from pyomo_relu.training import (
    BinarizedNetClassifier,
    BinaryNetClassifier,
    OneVsOneBinarizedEnsemble,
    one_neuron,
)
from pyomo_relu.training.family import Family, merged
from pyomo_relu.training.in_turn import STARTED, in_turn
from pyomo_relu.training.local_search import local_search
from pyomo_relu.training.losses import Loss, point_values
from pyomo_relu.training.solve import Engine
from pyomo_relu.training.ste import straight_through
from pyomo_relu.training.task import (
    Task,
    Training,
    constant_network,
    ended,
    random_network,
)
from tests.training.oracles import SQUARE, XOR


def random_task(seed: int, **family) -> Task:
    """A task of a few random points, some of them twice, with random weights."""
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(2, 4))
    n, d = int(rng.integers(6, 30)), int(rng.integers(1, 6))
    x = rng.uniform(0, 1, (n, d)).round(1) if seed % 2 else rng.integers(-2, 3, (n, d))
    codes = rng.integers(0, classes, n)
    bits = codes[:, None] * 1.0 if classes == 2 else np.eye(3)[codes]
    weight = rng.uniform(0.1, 3.0, n) if seed % 3 == 0 else None
    loss = Loss(str(rng.choice(["zero_one", "l1", "hinge", "sat_margin"])))
    kind = Family(
        [(3,), (3, 2)][int(rng.integers(2))],
        bits.shape[1],
        str(rng.choice(["step", "sign"])),
        float(rng.choice([1, 2])),
        bool(rng.random() < 0.6),
        **{"thresholds": str(rng.choice(["neuron", "layer", "none"])), **family},
    )
    data = merged(x * 1.0, bits, weight=weight)
    return Task(kind, data, loss, Engine(node_limit=20), 0.2, rng)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("method", sorted(STARTED))
def test_no_method_is_worse_than_its_start(method, seed):
    task = random_task(seed)
    start = random_network(task)
    found = in_turn(task, [(method, STARTED[method])], start)
    assert task.rank(found.network) <= task.rank(start)
    assert found.loss == pytest.approx(task.value(found.network))
    assert found.bound <= found.loss


@pytest.mark.parametrize("seed", range(6))
def test_a_start_that_a_radius_forbids_is_left(seed):
    """Activations of the first layer that change in a ball are no network of the task."""
    task = random_task(seed, robust=("linf", 0.05), thresholds="neuron")
    network = random_network(task)
    bad = [w.copy() for w in network.biases]
    bad[0][0] = -float(task.data.x[0] @ network.weights[0][0])
    network.weights[0][0] = task.family.bound
    bad[0][0] = -float(task.data.x[0] @ network.weights[0][0])
    network = StepNetwork(network.weights, tuple(bad), network.activation)
    assert not task.admits(network)
    for found in (
        in_turn(task, [("exact", STARTED["exact"])], network),
        local_search(task, network),
        local_search(task),
    ):
        assert task.admits(found.network)


# ------------------------------------------------------------------------ one neuron
@pytest.mark.parametrize("seed", range(20))
def test_a_neuron_s_sides_tell_the_loss(seed):
    """Whatever a neuron becomes, the loss changes by what its points say."""
    task = random_task(seed, thresholds="neuron")
    network, rng = random_network(task), task.rng
    k = int(rng.integers(task.family.depth - (not one_neuron.trainable(task, 9))))
    j = int(rng.integers(len(network.biases[k])))
    points = one_neuron.sides(task, network, k, j)
    own = one_neuron.alone(task, points)
    losses = []
    for one in (network.neuron(k, j), random_network(task).neuron(k, j)):
        whole = task.value(one_neuron.with_neuron(network, k, j, one))
        losses.append((whole, own.value(one)))
    (whole, alone), (other, other_alone) = losses
    assert other - whole == pytest.approx(other_alone - alone, abs=1e-9)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("limit", [None, 1.0])
def test_the_best_bias_is_the_best_of_all(seed, limit):
    rng = np.random.default_rng(seed)
    x = rng.integers(-2, 3, (9, 2)) * 1.0 if seed % 2 else rng.uniform(-1, 1, (9, 2))
    family = Family(
        (), 1, integer=True, bias_bound=limit, integer_bias=bool(rng.random() < 0.5)
    )
    data = merged(x, rng.integers(0, 2, (9, 1)) * 1.0, weight=rng.uniform(0.5, 2, 9))
    task = Task(family, data, Loss("zero_one"), Engine(), None, rng)
    sums = data.x @ rng.integers(-1, 2, (2, 5))
    losses, biases = one_neuron.best_bias(task, sums)
    reach = 12.0 if limit is None else limit
    step = 1.0 if family.integer_bias else 1e-3
    tried = np.arange(-reach, reach + step / 2, step)
    for column, loss, bias in zip(sums.T, losses, biases):
        wrong = (column[:, None] + tried >= 0) != (data.bits > 0.5)
        every = data.count @ wrong
        assert loss >= every.min() - 1e-9
        if family.integer_bias:
            assert loss == pytest.approx(every.min())
        there = data.count @ ((column + bias >= 0) != (data.bits[:, 0] > 0.5))
        assert loss == pytest.approx(there)
        assert limit is None or abs(bias) <= limit


def test_changes_solve_what_enumeration_solves():
    """Eight points in three dimensions: on average within one point of the optimum."""
    rng = np.random.default_rng(0)
    x, missed = np.array(list(product([0.0, 1.0], repeat=3))), 0
    for _ in range(20):
        data = merged(x, rng.integers(0, 2, (8, 1)) * 1.0)
        task = Task(Family((), 1, integer=True), data, Loss("zero_one"), Engine(), None)
        sums = x @ np.array(list(product([-1.0, 0, 1], repeat=3))).T
        best = one_neuron.best_bias(task, sums)[0].min()
        start = constant_network(task)
        found = one_neuron.changed(task, start)
        assert best <= task.value(found) <= task.value(start)
        missed += task.value(found) - best
    assert missed <= 15


# ------------------------------------------------------------------------- gradients
@pytest.mark.parametrize("seed", range(6))
def test_slopes_are_those_of_the_loss(seed):
    """Of the continuous last layer, whose loss has a derivative, against differences."""
    from pyomo_relu.training.ste import _Latent

    task = random_task(seed, thresholds="neuron")
    latent = _Latent(task, None)
    some, scores = np.arange(len(task.data.x)), task.rng.normal(0, 1, task.data.bits.shape)

    def loss(scores):
        signed = (2 * task.data.bits - 1) * scores * latent.score_scale
        if task.loss.name in ("zero_one", "l1"):
            each = np.log1p(np.exp(-signed))
        else:
            each = np.maximum(task.loss.margin - signed, 0) ** 2
        return latent.share @ each.sum(axis=1) / len(some)

    slope = latent._slope(some, scores)
    for index in np.ndindex(*scores.shape):
        step = np.zeros_like(scores)
        step[index] = 1e-6
        difference = (loss(scores + step) - loss(scores - step)) / 2e-6
        assert slope[index] == pytest.approx(difference, abs=1e-7)


@pytest.mark.parametrize("seed", range(6))
def test_gradients_stay_in_the_family(seed):
    task = random_task(seed)
    found = straight_through(task)
    for w, b in zip(found.network.weights, found.network.biases):
        inside, bias = task.family.projected(w, b)
        assert (inside == w).all() and (bias == b).all()
        assert task.family.thresholds != "none" or not b.any()
        assert task.family.thresholds != "layer" or np.ptp(b) == 0
    assert found.loss <= task.value(constant_network(task))


def test_ten_classes_of_digits():
    """20 hidden neurons, weights in {-1, 0, 1}: 88 % was asked for in 60 CPU seconds."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:1348], order[1348:]
    clf = BinaryNetClassifier((20,), weights="ternary", method="ste", widen=False)
    clf.set_params(random_state=0, time_limit=None).fit(x[train] / 16, y[train])
    assert clf.score(x[test] / 16, y[test]) >= 0.88
    assert all(set(np.unique(w)) <= {-1, 0, 1} for w in clf.network_.weights)


# ------------------------------------------------------------------- the estimators
def test_start_takes_methods_networks_and_classifiers():
    rng = np.random.default_rng(0)
    X = rng.uniform(0, 1, (30, 2))
    y = (X.sum(axis=1) > 1).astype(int)
    options = {"random_state": 0, "time_limit": None, "node_limit": 2}
    first = BinaryNetClassifier((3,), method="ste", **options).fit(X, y)
    for start in ("ste", ("ste", "data_splitting"), first, first.network_):
        clf = BinaryNetClassifier((3,), method="local_search", start=start, **options)
        clf.fit(X, y)
        assert clf.loss_ <= first.loss_
        methods = {h["method"].split(",")[0] for h in clf.history_}
        if isinstance(start, tuple) and clf.loss_ > 0:
            assert methods == {"ste", "data_splitting", "local_search"}
    again = clf.set_params(start=None, warm_start=True).fit(X, y)
    assert again.loss_ <= first.loss_


def test_starts_are_checked():
    clf = BinaryNetClassifier((2,), start="gradients")
    with pytest.raises(ValueError, match="start must be None, 'auto', one or several"):
        clf.fit(SQUARE, XOR)
    small = BinaryNetClassifier((1,)).fit(SQUARE, XOR)
    with pytest.raises(ValueError, match=r"sizes \(2, 1, 1\); these options and data"):
        clf.set_params(start=small).fit(SQUARE, XOR)
    network = StepNetwork((np.full((2, 2), 3.0), np.ones((1, 2))), (np.zeros(2), [0.0]))
    with pytest.raises(ValueError, match="layer 1 of the start has weights"):
        clf.set_params(start=network).fit(SQUARE, XOR)
    with pytest.raises(ValueError, match="does not use validation="):
        clf.set_params(start=None).fit(SQUARE, XOR, validation=(SQUARE, XOR))
    with pytest.raises(ValueError, match="begins with nothing"):
        clf.set_params(start="ste", method="implicit").fit(SQUARE, XOR)
    clf = BinaryNetClassifier((2,), warm_start=True).fit(SQUARE, XOR)
    with pytest.raises(ValueError, match="warm_start goes on with the classes"):
        clf.fit(SQUARE, XOR + 1)


def test_validation_chooses_among_methods():
    rng = np.random.default_rng(2)
    X = rng.uniform(0, 1, (40, 3))
    y = (X[:, 0] > 0.5).astype(int)
    first = BinaryNetClassifier((2,), method="ste", widen=False, random_state=0)
    first.fit(X[:20], y[:20])
    clf = BinaryNetClassifier(
        (2,), start=first, method="exact", time_limit=None, node_limit=20
    )
    clf.fit(X[:20], y[:20], validation=(X[20:], y[20:]))
    assert clf.score(X[20:], y[20:]) >= first.score(X[20:], y[20:])


CLASSIFIERS = [
    BinaryNetClassifier((), weights="ternary", loss="hinge"),
    BinaryNetClassifier((2,), weights="ternary", method="local_search"),
    BinaryNetClassifier((2,), method="data_splitting", splits=2, batch_size=None),
    BinarizedNetClassifier((), loss="sat_margin", margin=0.1),
    OneVsOneBinarizedEnsemble(),
]
NAMES = ["hinge", "local_search", "data_splitting", "sat_margin", "ensemble"]


def few_points():
    rng = np.random.default_rng(3)
    X = rng.integers(0, 4, (24, 3)) / 4.0
    return X, (X[:, 0] + X[:, 1] > 0.6).astype(int) + (X[:, 2] > 0.6)


@pytest.mark.parametrize("clf", CLASSIFIERS, ids=NAMES)
def test_a_weight_of_two_is_a_point_given_twice(clf):
    from sklearn.base import clone

    X, y = few_points()
    weight = np.r_[0.0, np.ones(17), np.full(6, 2.0)]
    twice = np.repeat(np.arange(24), weight.astype(int))
    clf = clone(clf).set_params(
        random_state=0, time_limit=None, node_limit=3, validation_fraction=0.0
    )
    if isinstance(clf, OneVsOneBinarizedEnsemble):
        clf.set_params(stage_limits=(np.inf,) * 3)
    weighed = clone(clf).fit(X, y, sample_weight=weight)
    if clf.get_params().get("method") == "data_splitting":
        # Its clusters are found by a random k-means of other points.
        assert weighed.loss_ == pytest.approx(weight @ (weighed.predict(X) != y), abs=6)
        return
    repeated = clone(clf).fit(X[twice], y[twice])
    if hasattr(clf, "loss"):
        assert weighed.loss_ == pytest.approx(repeated.loss_)
    assert (weighed.predict(X) == repeated.predict(X)).all()
    with pytest.raises(ValueError, match="must not be negative"):
        clf.fit(X, y, sample_weight=-weight)
    with pytest.raises(ValueError, match="non-zero number"):
        clf.fit(X, y, sample_weight=0 * weight)


def test_weights_decide_between_points():
    """Two equal points of two classes: the heavier one is right."""
    X, y = np.array([[0.0], [0.0], [1.0]]), np.array([0, 1, 1])
    for heavy in (0, 1):
        weight = np.where(np.arange(3) == heavy, 2.5, 1.0)
        clf = BinaryNetClassifier((2,), random_state=0).fit(X, y, sample_weight=weight)
        assert clf.predict([[0.0]])[0] == heavy and clf.loss_ == pytest.approx(1.0)


@pytest.mark.parametrize("clf", CLASSIFIERS, ids=NAMES)
@pytest.mark.parametrize("classes", [2, 3])
def test_probabilities_agree_with_predictions(clf, classes, tmp_path):
    from sklearn.base import clone

    X, y = few_points()
    y = np.minimum(y, classes - 1)
    X, y = np.tile(X, (3, 1)), np.tile(y, 3)
    clf = clone(clf).set_params(random_state=0, time_limit=None, node_limit=3)
    assert not hasattr(clf, "predict_proba")
    clf.set_params(probability=True).fit(X, y)
    found = clf.predict_proba(X)
    assert found.shape == (len(X), classes)
    assert found.sum(axis=1) == pytest.approx(1.0)
    assert (clf.classes_[found.argmax(axis=1)] == clf.predict(X)).all()
    assert np.exp(clf.predict_log_proba(X)) == pytest.approx(found)
    clf.save(tmp_path / "clf.npz")
    again = type(clf).load(tmp_path / "clf.npz")
    assert (again.predict_proba(X) == found).all()
    with pytest.raises(ValueError, match="validation_fraction"):
        clf.set_params(validation_fraction=0.0).fit(X, y)


def test_the_factor_is_the_most_likely_one():
    from pyomo_relu.training.calibration import fitted_factor, probabilities

    rng = np.random.default_rng(0)
    scores = rng.normal(0, 2, 4000)
    codes = (rng.random(4000) < 1 / (1 + np.exp(-1.5 * scores))).astype(int)
    assert fitted_factor(scores, codes) == pytest.approx(1.5, rel=0.1)
    assert fitted_factor(10 * scores, codes) == pytest.approx(0.15, rel=0.1)
    assert probabilities(np.zeros(1), 1.0)[0].argmax() == 1  # 0 is of the second class


def test_limits_of_nodes_have_the_solver_s_name():
    assert Engine("scip", node_limit=7).all_options() == {"limits/totalnodes": 7}
    with pytest.raises(ValueError, match=r"node_limit is known for .* not for glpk"):
        Engine("glpk", node_limit=7).all_options()
    with pytest.raises(ValueError, match="not for engine='cp_sat'"):
        BinaryNetClassifier((2,), node_limit=7, engine="cp_sat").fit(SQUARE, XOR)
    for bad in (0, 1.5, True):
        with pytest.raises(ValueError, match="node_limit must be a whole number"):
            BinaryNetClassifier((2,), node_limit=bad).fit(SQUARE, XOR)
    with pytest.raises(ValueError, match="cpu_time_limit must be positive"):
        BinaryNetClassifier((2,), cpu_time_limit=0).fit(SQUARE, XOR)


def test_the_published_rule_leaves_ties_unclassified():
    X, y = few_points()
    clf = OneVsOneBinarizedEnsemble(random_state=0, time_limit=None).fit(X, y)
    winner, _ = clf.decide(X)
    assert clf.published_score(X, y) == np.mean((winner >= 0) & (winner == y))
    assert clf.published_score(X, y) <= clf.score(X, y) + np.mean(winner < 0)


def test_an_ensemble_goes_on_from_its_networks():
    X, y = few_points()
    clf = OneVsOneBinarizedEnsemble(random_state=0, warm_start=True).fit(X, y)
    before = dict(clf.networks_)
    clf.set_params(time_limit=1e-9).fit(X, y)
    for pair, network in clf.networks_.items():
        assert (network.weights[0] == before[pair].weights[0]).all()


def test_point_values_add_to_the_loss():
    for seed in range(8):
        task = random_task(seed)
        network = random_network(task)
        scores = network.scores(task.data.x)
        each = point_values(task.loss, scores, task.family, task.data)
        assert task.data.count @ each == pytest.approx(task.value(network))


def test_a_bad_method_gives_the_start_back():
    def bad(task: Task, start: StepNetwork | None) -> Training:
        return ended(task, constant_network(task), False, [])

    X, y = few_points()
    task = Task(Family((3,), 1), merged(X, y[:, None] > 0.5), Loss("zero_one"), Engine(), 1)
    start = straight_through(task).network
    assert task.value(start) < task.value(constant_network(task))
    found = in_turn(task, [("bad", bad)], start, widen=False)
    assert found.network is start and found.loss == task.value(start)
