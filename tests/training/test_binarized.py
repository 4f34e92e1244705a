"""`BinarizedNetClassifier` against the enumeration of all small networks."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn")

from pyomo_relu.training import BinarizedNetClassifier
from tests.training.oracles import (
    AND,
    CUBE,
    MAJORITY,
    OR,
    PARITY,
    SIGNS,
    SQUARE,
    XOR,
    enumerate_networks,
)

#: points, labels, hidden units; number of fitting networks, least weight, largest margin
ANCHORS = {
    "xor": (SIGNS, XOR, 2, 27, 6, 3),
    "xor01": (SQUARE, XOR, 2, 10, 6, 1),
    "and": (SIGNS, AND, 1, 6, 3, 2),
    "majority": (CUBE, MAJORITY, 1, 8, 4, 2),
}


@pytest.mark.parametrize("name", ANCHORS)
def test_anchors(name):
    x, y, hidden, feasible, weight, margin = ANCHORS[name]
    found = enumerate_networks(x, y, hidden)
    assert (found["min_weight"], found["max_margin"]) == (weight, margin)
    assert found["feasible"] == feasible
    light = BinarizedNetClassifier((hidden,), loss="min_weight").fit(x, y)
    assert (light.loss_, light.status_) == (pytest.approx(weight), "optimal")
    wide = BinarizedNetClassifier((hidden,), loss="max_margin").fit(x, y)
    assert (wide.loss_, wide.status_) == (pytest.approx(-margin), "optimal")
    for clf in (light, wide):
        assert clf.score(x, y) == 1.0
        for w, b in zip(clf.network_.weights, clf.network_.biases):
            assert set(np.unique(w)) | set(np.unique(b)) <= {-1.0, 0.0, 1.0}
    soft = BinarizedNetClassifier((hidden,), loss="max_correct").fit(x, y)
    assert (soft.loss_, soft.status_) == (0.0, "optimal")


def test_parity_needs_three_units():
    with pytest.raises(ValueError, match="no network of this shape fits"):
        BinarizedNetClassifier((2,), loss="min_weight", time_limit=None).fit(CUBE, PARITY)
    clf = BinarizedNetClassifier((3,), loss="max_correct").fit(CUBE, PARITY)
    assert clf.loss_ == 0.0


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "optimum"), [("min_weight", 10), ("max_margin", -4)])
def test_parity_optima(loss, optimum):
    clf = BinarizedNetClassifier((3,), loss=loss, time_limit=None).fit(CUBE, PARITY)
    assert (clf.loss_, clf.status_) == (pytest.approx(optimum), "optimal")


@pytest.mark.slow
def test_parity_by_enumeration():
    assert enumerate_networks(CUBE, PARITY, 2)["feasible"] == 0
    found = enumerate_networks(CUBE, PARITY, 3)
    assert found["feasible"] == 1312
    assert (found["min_weight"], found["max_margin"]) == (10, 4)


def test_one_neuron():
    """3 of 4 points of XOR; AND of 0 and 1 needs a bias of -2; OR has weight 3."""
    clf = BinarizedNetClassifier((), loss="max_correct").fit(SIGNS, XOR)
    assert (clf.loss_, clf.status_) == (1.0, "optimal")
    with pytest.raises(ValueError, match="no network of this shape fits"):
        BinarizedNetClassifier((), loss="min_weight").fit(SQUARE, AND)
    assert BinarizedNetClassifier((), loss="min_weight").fit(SQUARE, OR).loss_ == 3.0
    larger = BinarizedNetClassifier((), weights=2, loss="min_weight").fit(SQUARE, AND)
    assert larger.loss_ == 4.0


@pytest.mark.parametrize("loss", ["min_weight", "max_margin", "sat_margin", "min_hinge"])
def test_classes_separate(loss):
    """One program for each class has the optimum of one program for all."""
    from dataclasses import replace

    from pyomo_relu.training.exact import exact
    from pyomo_relu.training.family import merged
    from pyomo_relu.training.solve import Engine, solve
    from pyomo_relu.training.task import Task

    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, (9, 4)).astype(float)
    x = np.hstack([x, 3.0 * np.eye(3).repeat(3, axis=0)])
    clf = BinarizedNetClassifier((), weights=2, loss=loss)
    task = Task(
        clf._family(3), merged(x, np.eye(3).repeat(3, axis=0)), clf._loss(), Engine(), None
    )
    parts = exact(task)
    assert len(parts.history) == 3
    mip = task.program()
    whole = solve(mip, task.engine, time_limit=None)
    assert (parts.status, whole.status) == ("optimal", "optimal")
    if loss in ("min_weight", "max_margin"):
        assert parts.loss == pytest.approx(whole.objective)
    else:
        # Each part normalizes its scores by the same inputs.
        assert parts.loss == pytest.approx(whole.objective, abs=1e-4)
    assert replace(task, time_limit=3.0).time_limit == 3.0


def test_hinge_is_the_smallest_of_all_neurons():
    """min_hinge of one neuron, every weight vector tried."""
    from pyomo_relu.steps.step_network import StepNetwork
    from pyomo_relu.training.family import merged
    from pyomo_relu.training.losses import value
    from tests.training.oracles import neurons

    rng = np.random.default_rng(2)
    x, y = rng.uniform(0, 1, (12, 4)).round(3), rng.integers(0, 2, 12)
    for loss in ("min_hinge", "sat_margin"):
        clf = BinarizedNetClassifier((), loss=loss).fit(x, y)
        data = merged(x, y.reshape(-1, 1).astype(float))
        best = min(
            value(
                clf._loss(),
                StepNetwork((w[None],), (b[None],), "sign"),
                clf._family(1),
                data,
            )
            for w, b in zip(*neurons(4))
        )
        assert clf.status_ == "optimal"
        assert clf.loss_ == pytest.approx(best, abs=1e-4)


def test_without_biases():
    clf = BinarizedNetClassifier((), bias=False, loss="max_correct").fit(SIGNS, OR)
    assert not clf.network_.biases[0].any()
    assert clf.loss_ == 0.0


def test_compression_frees_neurons():
    clf = BinarizedNetClassifier((3,), loss="max_correct", compression=0.01).fit(SIGNS, XOR)
    assert clf.loss_ == pytest.approx(0.02)
    data = np.random.default_rng(1).uniform(0, 1, (8, 2))
    clf = BinarizedNetClassifier((2,), loss="sat_margin", compression=0.5, time_limit=None)
    clf.fit(data, (data[:, 0] > 0.5).astype(int))
    assert clf.loss_ <= 8.0


@pytest.mark.parametrize("name", ["xor", "xor01", "majority"])
def test_cp_sat_has_the_same_optima(name):
    pytest.importorskip("ortools")
    x, y, hidden, _, weight, margin = ANCHORS[name]
    for loss, optimum in (("min_weight", weight), ("max_margin", -margin)):
        clf = BinarizedNetClassifier((hidden,), loss=loss, engine="cp_sat").fit(x, y)
        assert (clf.loss_, clf.status_) == (optimum, "optimal")
        assert clf.compared_ == len(x) * hidden


def test_cp_sat_in_half_units(monkeypatch):
    """Rows with fractions get a scale of their own; `_whole` refuses what has none."""
    from pyomo_relu.programs.cp_sat import _whole

    assert _whole(np.array([0.5, 0.75, -2.0, np.inf])) == 4
    assert _whole(np.array([np.pi])) is None


def test_cp_sat_refuses(monkeypatch):
    import importlib.util

    from pyomo_relu.training import BinaryNetClassifier

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'pyomo_relu\[cpsat\]'"):
        BinarizedNetClassifier((2,), loss="max_correct", engine="cp_sat").fit(SIGNS, XOR)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    for clf in (
        BinarizedNetClassifier((2,), loss="min_hinge", engine="cp_sat"),
        BinaryNetClassifier((2,), engine="cp_sat"),
        BinaryNetClassifier((2,), weights="ternary", engine="cp_sat", robust=("linf", 0.1)),
    ):
        with pytest.raises(ValueError, match="in integers alone"):
            clf.fit(SIGNS, XOR)


@pytest.mark.parametrize("solver", ["appsi_highs", "highs", "cbc", "scip_direct"])
def test_other_solvers(solver):
    import pyomo.environ as pyo

    try:
        there = pyo.SolverFactory(solver).available(exception_flag=False)
    except Exception:
        there = False
    if not there:
        pytest.skip(f"{solver} is not installed")
    clf = BinarizedNetClassifier((2,), loss="min_weight", solver=solver).fit(SIGNS, XOR)
    assert (clf.loss_, clf.status_) == (pytest.approx(6.0), "optimal")
    assert clf.gap_ == pytest.approx(0.0, abs=1e-6)
