"""Time limits, bounds and seeds of training: what holds however little time there is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("sklearn")

from pyomo_relu.base import deadline
from pyomo_relu.steps.step_network import StepNetwork
from pyomo_relu.training import (
    BinarizedNetClassifier,
    BinaryNetClassifier,
    OneVsOneBinarizedEnsemble,
    pair,
    rounding,
)
from pyomo_relu.training.family import Data, Family, merged
from pyomo_relu.training.losses import HARD_LOSSES, Loss, least_value, value
from pyomo_relu.training.points import bits_of
from pyomo_relu.training.solve import Engine, solve
from pyomo_relu.training.task import Task, constant_network, random_network
from tests.harness.clock import Clock

#: Seconds; the last one is enough for some programs.
LIMITS = (1e-9, 1e-3, 0.02, 0.1, 0.5)


def data(rng, classes: int):
    """Points of several kinds, some of them twice, with every class among the labels."""
    n, d = int(rng.integers(classes, 60)), int(rng.integers(1, 12))
    x = [
        lambda: rng.uniform(0, 1, (n, d)),
        lambda: rng.integers(-2, 3, (n, d)).astype(float),
        lambda: rng.normal(0, 1, (n, d)).round(1) * (rng.random(d) < 0.7),
    ][int(rng.integers(3))]()
    y = np.r_[np.arange(classes), rng.integers(0, classes, n - classes)]
    again = rng.integers(0, n, n // 3)
    return np.vstack([x, x[again]]), np.r_[y, y[again]]


def estimator(rng, methods):
    """A classifier with options drawn from all that fit together."""
    cls = [BinaryNetClassifier, BinarizedNetClassifier][int(rng.integers(2))]
    method = str(rng.choice(methods))
    hidden = [(), (2,), (3, 2)][int(rng.integers(method == "data_splitting", 3))]
    losses = list(cls.LOSSES)
    if method not in ("exact", "hybrid"):
        losses = [k for k in losses if cls.LOSSES[k] not in HARD_LOSSES]
    options = {
        "loss": str(rng.choice(losses)),
        "method": method,
        "margin": float(rng.choice([0.1, 0.5, 1.0])),
        "regularization": float(rng.choice([0.0, 0.0, 0.01])),
        "random_state": int(rng.integers(1000)),
        "splits": 3,
        "batch_size": [None, 8][int(rng.integers(2))],
    }
    if method != "ste" and rng.random() < 0.25:
        options["robust"] = (str(rng.choice(["linf", "l1", "l2"])), 0.01)
    if method == "exact" and hidden and rng.random() < 0.25:
        options["compression"] = 0.1
    if cls is BinaryNetClassifier:
        options["weights"] = ["continuous", "ternary", 2][int(rng.integers(3))]
        options["thresholds"] = str(rng.choice(["neuron", "layer"]))
    else:
        options["bias"] = bool(rng.random() < 0.7)
    return cls(hidden, **options)


def one_by_one(clf, X, y) -> tuple[float, float]:
    """The loss of a trained classifier on the points as they were given, and its floor."""
    outputs = 1 if len(clf.classes_) == 2 else len(clf.classes_)
    codes = np.searchsorted(clf.classes_, y)
    bits = bits_of(codes, len(clf.classes_))
    n = np.arange(len(X))
    points = Data(np.asarray(X, float), bits, np.ones(len(X)), n)
    family, loss = clf._family(outputs), clf._loss()
    return value(loss, clf.network_, family, points), least_value(loss, family, points)


def trivial(clf, X, y) -> float:
    """The loss of the network that gives every point the most frequent class."""
    outputs = 1 if len(clf.classes_) == 2 else len(clf.classes_)
    bits = bits_of(np.searchsorted(clf.classes_, y), len(clf.classes_))
    task = Task(clf._family(outputs), merged(X, bits), clf._loss(), Engine(), None)
    return task.value(constant_network(task))


def check_fit(clf, X, y) -> None:
    """What holds after every fit; the hard losses may end without a network."""
    hard = clf.LOSSES[clf.loss] in HARD_LOSSES
    try:
        clf.fit(X, y)
    except (RuntimeError, ValueError) as e:
        assert hard and "network" in str(e), (clf, e)
        return
    loss, floor = one_by_one(clf, X, y)
    assert clf.loss_ == pytest.approx(loss, abs=1e-9), clf
    assert floor <= clf.bound_ <= clf.loss_, clf
    assert clf.gap_ == pytest.approx((clf.loss_ - clf.bound_) / max(1.0, abs(clf.loss_)))
    assert clf.status_ in ("optimal", "time_limit", "feasible")
    if clf.method not in ("hybrid", "data_splitting") and not hard:
        assert clf.loss_ <= trivial(clf, X, y) + 1e-9, clf
    wrong = int((clf.predict(X) != y).sum())
    if clf.loss in ("zero_one", "l1", "max_correct"):
        assert wrong <= clf.loss_ + 1e-9
        if len(clf.classes_) == 2 and not (clf.regularization or clf.compression):
            assert wrong == clf.loss_
    if hard and len(clf.classes_) == 2:
        assert wrong == 0


def some(default: int, slow: int):
    return [
        *range(default),
        *(pytest.param(k, marks=pytest.mark.slow) for k in range(default, slow)),
    ]


@pytest.mark.parametrize("seed", some(60, 600))
def test_any_fit_with_any_limit(seed):
    rng = np.random.default_rng(seed)
    clf = estimator(rng, ["exact", "exact", "local_search", "data_splitting", "hybrid"])
    X, y = data(rng, int(rng.integers(2, 5)))
    limit = float(rng.choice(LIMITS if seed % 10 == 0 else LIMITS[:4]))
    check_fit(clf.set_params(time_limit=limit), X, y)


@pytest.mark.parametrize("seed", some(2, 20))
def test_any_gradients_with_any_limit(seed):
    pytest.importorskip("keras")
    rng = np.random.default_rng(seed)
    clf = estimator(rng, ["ste"])
    check_fit(clf.set_params(time_limit=float(rng.choice(LIMITS))), *data(rng, 3))


@pytest.mark.parametrize("limit", [1e-9, 0.5])
def test_implicit_with_any_limit(limit):
    rng = np.random.default_rng(0)
    X, y = rng.uniform(0, 1, (10, 3)), np.arange(10) % 2
    clf = BinaryNetClassifier((2,), method="implicit", random_state=0, time_limit=limit)
    check_fit(clf, X, y)
    if limit < 1e-6:  # not even the first program, which is seconds with more points
        assert clf.status_ == "time_limit" and not clf.network_.weights[0].any()


@pytest.mark.parametrize("seed", some(12, 120))
def test_any_ensemble_with_any_limit(seed):
    rng = np.random.default_rng(seed)
    X, y = data(rng, int(rng.integers(2, 6)))
    clf = OneVsOneBinarizedEnsemble(
        [(), (2,)][seed % 2],
        bias=bool(rng.random() < 0.5),
        time_limit=float(rng.choice(LIMITS)),
        random_state=seed,
    )
    if seed % 3 == 0:
        with ThreadPoolExecutor(2) as executor:
            clf.fit(X, y, executor=executor)
    else:
        clf.fit(X, y)
    k = len(clf.classes_)
    assert len(clf.networks_) == k * (k - 1) // 2
    assert set(clf.predict(X)) <= set(clf.classes_)


# --------------------------------------------------------------------------- the clock
@pytest.mark.parametrize("method", ["exact", "local_search", "data_splitting", "hybrid"])
@pytest.mark.parametrize("loss", ["zero_one", "hinge"])
def test_the_writing_of_programs_looks_at_the_clock(method, loss, monkeypatch):
    """The program of 200 points is far from written after 300 looks, when time is over."""
    clock = Clock(1e-3)
    monkeypatch.setattr(deadline, "time", clock)
    rng = np.random.default_rng(0)
    X, y = rng.uniform(0, 1, (200, 5)), rng.integers(0, 3, 200)
    clf = BinaryNetClassifier(
        (3,), method=method, loss=loss, time_limit=0.3, batch_size=None, start=None
    )
    clf.set_params(random_state=0, widen=False)
    clf.fit(X, y)
    assert clock.now < 0.35 and clf.status_ == "time_limit"
    assert clf.bound_ == 0.0
    # The programs of single neurons are small: some of them are done.
    assert method == "hybrid" or all(h.get("neurons") for h in clf.history_)


def test_the_limit_of_an_ensemble_is_for_all_pairs(monkeypatch):
    clock = Clock(1e-3)
    monkeypatch.setattr(deadline, "time", clock)
    rng = np.random.default_rng(0)
    X, y = rng.uniform(0, 1, (120, 5)), np.arange(120) % 6
    clf = OneVsOneBinarizedEnsemble(time_limit=0.4, random_state=0).fit(X, y)
    assert len(clf.networks_) == 15 and clock.now < 0.4 + 15 * 0.01
    # Each pair had a part of it, and none finished.
    assert all(len(pair.stages) == 0 for pair in clf.pairs_.values())


@pytest.mark.parametrize("seconds", [1.0, float("inf")])
def test_a_large_rounded_margin_is_not_searched_in_a_short_time(seconds, monkeypatch):
    asked = []

    def noted(mip, engine, **options):
        asked.append(options["title"])
        return solve(mip, engine, **options)

    monkeypatch.setattr(pair, "solve", noted)
    monkeypatch.setattr(pair, "SETTINGS", pair.PairSettings(entries=10))
    x, y = np.random.default_rng(0).uniform(0, 1, (12, 4)).round(2), np.arange(12) % 2
    x[y == 1, 0] += 1.0
    limits = (1.0, seconds, 1.0)
    clf = OneVsOneBinarizedEnsemble(stage_limits=limits, random_state=0).fit(x, y)
    (found,) = clf.pairs_.values()
    assert ("max_margin" in asked) == (seconds > 1.0)
    wide = found.stages[1]
    assert wide["stage"] == "max_margin" and wide["objective"] < 0
    assert wide["status"] == ("optimal" if seconds > 1.0 else "time_limit")
    # The last stage keeps a share of that margin, for the points that the first one kept.
    signed = np.sort((2 * y - 1) * found.network.scores(x)[:, 0])[::-1]
    assert signed[found.kept - 1] >= -clf.margin_kept * wide["objective"] - 1e-9


@pytest.mark.parametrize("loss", ["max_margin", "sat_margin", "min_hinge"])
def test_without_a_limit_no_clock_steers(loss, monkeypatch):
    """The start from the relaxation ends after its work, however slow the machine is."""
    rng = np.random.default_rng(1)
    X = rng.integers(0, 4, (16, 8)).astype(float)
    y = (X @ rng.integers(-1, 2, 8) > 0).astype(int)
    found = []
    for step in (1e-9, 1e3):
        clock = Clock(step)
        monkeypatch.setattr(deadline, "time", clock)
        family = Family((), 1, "sign", 1.0, True, "neuron", 1.0, True)
        task = Task(
            family, merged(X, y[:, None] * 1.0), Loss(loss, 0.1), Engine(), None, rng
        )
        mip = task.program()
        network = rounding.rounded(mip, task.clock())
        found.append(None if network is None else network.weights[0])
    assert found[0] is not None and np.array_equal(*found)


@pytest.mark.parametrize("seed", some(8, 80))
def test_same_seed_same_network(seed):
    """With work limits of the solver and no limit of seconds."""
    rng = np.random.default_rng(seed)
    X, y = data(rng, 2)
    X, y = X[:14], y[:14]
    clf = estimator(rng, ["exact", "local_search", "data_splitting", "hybrid"])
    clf.set_params(time_limit=None, solver_options={"mip_max_nodes": 5})
    if len(clf.hidden_layer_sizes) > 1:
        clf.set_params(hidden_layer_sizes=(2,))
    found = []
    for _ in range(2):
        try:
            network = clf.fit(X, y).network_
            found.append([*network.weights, *network.biases])
        except (RuntimeError, ValueError) as e:
            assert clf.LOSSES[clf.loss] in HARD_LOSSES, e
            found.append([])
    for a, b in zip(*found, strict=True):
        assert np.array_equal(a, b)


# -------------------------------------------------------------------------- the bounds
@pytest.mark.parametrize("seed", some(30, 300))
def test_no_network_is_below_the_least_value(seed):
    rng = np.random.default_rng(seed)
    integer = bool(rng.random() < 0.5)
    family = Family(
        [(), (2,), (3, 2)][int(rng.integers(3))],
        int(rng.choice([1, 3])),
        str(rng.choice(["step", "sign"])),
        float(rng.choice([1, 3])),
        integer,
        str(rng.choice(["neuron", "layer", "none"])),
        [None, 1.0][int(rng.integers(2))],
    )
    X, y = data(rng, 3)
    bits = np.eye(3)[y] if family.outputs == 3 else (y[:, None] > 0) * 1.0
    name = str(rng.choice(["max_margin", "min_weight", "zero_one", "min_hinge"]))
    loss = Loss(name, margins=str(rng.choice(["common", "neuron"])))
    task = Task(family, merged(X, bits), loss, Engine(), None, rng)
    for network in (constant_network(task), *(random_network(task) for _ in range(20))):
        assert task.value(network) >= task.floor() - 1e-9


@pytest.mark.parametrize("bias_bound", [None, 2.0])
@pytest.mark.parametrize("thresholds", ["neuron", "layer", "none"])
def test_the_least_value_of_a_margin_is_attained(thresholds, bias_bound):
    """By the largest weights at a single point."""
    x = np.array([[1.0, -2.0, 0.5]])
    family = Family((), 1, "step", 3.0, True, thresholds, bias_bound)
    loss = Loss("max_margin", margins="neuron")
    task = Task(family, merged(x, np.ones((1, 1))), loss, Engine(), None)
    limit = {"neuron": bias_bound or 11.5, "layer": bias_bound or 3.0, "none": 0.0}
    network = StepNetwork((3.0 * np.sign(x),), (np.array([limit[thresholds]]),))
    assert task.floor() == pytest.approx(task.value(network))


@pytest.mark.parametrize("bound", [np.nan, -np.inf, np.inf, -7.0, 1e9])
def test_bounds_of_any_solver_are_put_right(bound):
    from pyomo_relu.training.task import Training, settled

    family = Family((), 1)
    task = Task(
        family,
        merged(np.eye(3), np.array([[0.0], [1], [1]])),
        Loss("zero_one"),
        Engine(),
        None,
    )
    found = settled(task, Training(constant_network(task), "feasible", 1.0, bound))
    assert 0.0 <= found.bound <= found.loss == 1.0
