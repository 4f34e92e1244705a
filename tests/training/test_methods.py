"""Local search, hybrid and the gradient baseline; limits; scikit-learn's own checks."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn")

from pyomo_relu.training import (
    BinarizedNetClassifier,
    BinaryNetClassifier,
    OneVsOneBinarizedEnsemble,
)
from pyomo_relu.training.family import Family, merged
from pyomo_relu.training.hybrid import refine
from pyomo_relu.training.local_search import local_search
from pyomo_relu.training.losses import Loss
from pyomo_relu.training.solve import Engine
from pyomo_relu.training.task import Task, random_network
from tests.training.oracles import SIGNS, SQUARE, XOR


@pytest.mark.parametrize("hidden", [(3,), (3, 2)])
@pytest.mark.parametrize("activation", ["step", "sign"])
@pytest.mark.parametrize("loss", ["zero_one", "min_hinge"])
def test_local_search_never_rises(hidden, activation, loss):
    rng = np.random.default_rng(4)
    x, y = rng.uniform(0, 1, (12, 2)).round(2), rng.integers(0, 2, (12, 1)).astype(float)
    task = Task(
        Family(hidden, 1, activation), merged(x, y), Loss(loss), Engine(), None, rng
    )
    start = random_network(task)
    found = local_search(task, start, rounds=3)
    losses = [task.value(start), *(h["loss"] for h in found.history)]
    assert all(a >= b - 1e-9 for a, b in zip(losses, losses[1:]))
    assert found.loss == pytest.approx(losses[-1])
    assert found.loss == pytest.approx(task.value(found.network))
    if found.loss > 1e-9:
        assert {h["layer"] for h in found.history} == set(range(len(hidden) + 1))
    # Every sub-problem contains its start.
    for before, entry in zip(losses, found.history):
        assert entry["objective"] <= before + 1e-5


def test_local_search_solves_xor_from_some_start():
    losses = [
        BinaryNetClassifier((3,), method="local_search", random_state=s)
        .fit(SQUARE, XOR)
        .loss_
        for s in range(3)
    ]
    assert min(losses) == 0.0


@pytest.mark.parametrize("loss", ["max_margin", "min_weight"])
def test_refining_keeps_predictions(loss):
    """Margins don't fall, or weights don't rise, neuron by neuron."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 3, (10, 5)).astype(float), rng.integers(0, 2, (10, 1)) * 1.0
    family = Family((3,), 1, "sign", 1.0, True, "neuron", 1.0, True)
    task = Task(family, merged(x, y), Loss("max_correct"), Engine(), None, rng)
    before = random_network(task)
    after = refine(task, before, loss)
    assert after.status == "optimal"
    for a, b in zip(before.pre_activations(x), after.network.pre_activations(x)):
        assert ((a >= 0) == (b >= 0)).all()
        if loss == "max_margin":
            assert (np.abs(b).min(axis=0) >= np.abs(a).min(axis=0)).all()
    if loss == "min_weight":
        parts = zip(
            before.weights, before.biases, after.network.weights, after.network.biases
        )
        for w, b, v, c in parts:
            old, new = (np.abs(p).sum(axis=1) + np.abs(q) for p, q in ((w, b), (v, c)))
            assert (new <= old).all()


def test_hybrid_fits():
    for loss in ("max_margin", "min_weight"):
        clf = BinarizedNetClassifier((2,), method="hybrid", loss=loss).fit(SIGNS, XOR)
        assert clf.score(SIGNS, XOR) == 1.0
        best = {"max_margin": -3, "min_weight": 6}[loss]
        assert clf.loss_ >= best
    with pytest.raises(ValueError, match="no network of this shape fits"):
        BinarizedNetClassifier((1,), method="hybrid", loss="min_weight").fit(SIGNS, XOR)


@pytest.mark.parametrize("method", ["local_search", "ste"])
def test_hard_losses_are_refused(method):
    pytest.importorskip("keras")
    with pytest.raises(ValueError, match=f"method='{method}' has no programs"):
        BinaryNetClassifier((2,), method=method, loss="max_margin").fit(SIGNS, XOR)


@pytest.mark.parametrize("thresholds", ["neuron", "layer"])
def test_straight_through(thresholds):
    pytest.importorskip("keras")
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, (40, 2))
    y = (x.sum(axis=1) > 1).astype(int)
    clf = BinaryNetClassifier(
        (3,), method="ste", thresholds=thresholds, time_limit=None, random_state=0
    ).fit(x, y)
    steps = [h for h in clf.history_ if h["method"] == "ste"]
    assert clf.loss_ <= min(h["loss"] for h in steps)
    assert clf.status_ != "optimal" or clf.loss_ == 0.0
    assert clf.loss_ == pytest.approx(40 * (1 - clf.score(x, y)))
    with pytest.raises(ValueError, match="no robust training"):
        clf.set_params(robust=("linf", 0.1)).fit(x, y)


@pytest.mark.slow
def test_straight_through_learns():
    pytest.importorskip("keras")
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, (60, 2))
    y = (x.sum(axis=1) > 1).astype(int)
    clf = BinarizedNetClassifier((), method="ste", loss="sat_margin", margin=0.05)
    clf.set_params(time_limit=None, random_state=0).fit(x, y)
    assert clf.score(x, y) >= 0.9


def test_limits_return_the_best_network():
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 1, (60, 4)), rng.integers(0, 2, 60)
    clf = BinaryNetClassifier((3,), time_limit=1.0).fit(x, y)
    assert clf.status_ == "time_limit"
    assert 0.0 <= clf.bound_ <= clf.loss_ <= min(y.sum(), 60 - y.sum())
    assert clf.gap_ > 0
    assert clf.loss_ == pytest.approx(60 * (1 - clf.score(x, y)))
    with pytest.raises(RuntimeError, match="time_limit=0.02"):
        BinaryNetClassifier((3,), loss="max_margin", time_limit=0.02).fit(x, y)


# ----------------------------------------------------- scikit-learn's own checks
#: The check that trains on 200 points, three classes among them.
LARGE = "check_classifiers_train"
#: Checks that are left out, and why.
MORE_THAN_ITS_PROGRAMS_TAKE = {
    LARGE: "200 points are more than its programs take (100)",
    "check_positive_only_tag_during_fit": "150 points are more than that, too",
}
MINUTES = {LARGE: "one node of its programs over 200 points takes minutes"}


def _checks():
    from sklearn.utils.estimator_checks import estimator_checks_generator

    # No clock steers what is fitted, so that two fits give one network.
    work = {"time_limit": None, "node_limit": 1, "random_state": 0}
    endless = (np.inf, np.inf, np.inf)
    classifiers = [
        (BinaryNetClassifier((3,), method="ste", **work), {}),
        (BinaryNetClassifier((), loss="hinge", **work), {}),
        (BinarizedNetClassifier((), loss="min_hinge", weights=3, **work), {}),
        (OneVsOneBinarizedEnsemble(stage_limits=endless, bias=True, **work), {}),
        (
            OneVsOneBinarizedEnsemble((2,), stage_limits=endless, bias=True, **work),
            MINUTES,
        ),
        (BinaryNetClassifier((2,), method="hybrid", **work), MINUTES),
        (
            BinarizedNetClassifier((2,), method="hybrid", loss="max_correct", **work),
            MINUTES,
        ),
        (
            BinaryNetClassifier((1,), method="implicit", time_limit=None, random_state=0),
            MORE_THAN_ITS_PROGRAMS_TAKE,
        ),
    ]
    found = []
    for number, (clf, left_out) in enumerate(classifiers):
        for k, (estimator, check) in enumerate(estimator_checks_generator(clf)):
            name = getattr(check, "func", check).__name__
            marks = [pytest.mark.skip(reason=left_out[name])] if name in left_out else []
            case = f"{type(clf).__name__}{number}-{name}{k}"
            found.append(pytest.param(estimator, check, id=case, marks=marks))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("estimator", "check"), _checks())
def test_estimator_checks(estimator, check):
    check(estimator)


def test_conventions():
    from sklearn.base import clone
    from sklearn.exceptions import NotFittedError
    from sklearn.model_selection import cross_val_score

    clf = BinaryNetClassifier((), weights="ternary", time_limit=None)
    assert clone(clf).get_params() == clf.get_params()
    with pytest.raises(NotFittedError):
        clf.predict(SQUARE)
    x = np.tile(SQUARE, (3, 1))
    assert cross_val_score(clf, x, x[:, 0].astype(int), cv=3).mean() == 1.0
    with pytest.raises(ValueError, match="features"):
        clf.fit(SQUARE, XOR).predict(SQUARE[:, :1])
    with pytest.raises(ValueError, match="one class"):
        clf.fit(SQUARE, np.zeros(4))
