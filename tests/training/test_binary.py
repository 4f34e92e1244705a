"""`BinaryNetClassifier`: exact optima, the separation, data splitting, refusals."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn")

from pyomo_relu.training import BinaryNetClassifier, StepNetwork
from pyomo_relu.training.family import Data, Family, merged
from pyomo_relu.training.loss_rows import program
from pyomo_relu.training.losses import Loss, value
from pyomo_relu.training.points import Points
from pyomo_relu.training.solve import Engine, solve
from tests.paths import shared_data
from tests.training.oracles import (
    AND,
    CUBE,
    MAJORITY,
    OR,
    PARITY,
    SQUARE,
    XOR,
    breast_cancer,
    enumerate_networks,
)

WEIGHTS = ("continuous", "ternary", 2)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize(("units", "errors"), [(1, 1), (2, 0)])
def test_xor(weights, units, errors):
    clf = BinaryNetClassifier((units,), weights=weights, start=None).fit(SQUARE, XOR)
    assert clf.status_ == "optimal"
    assert clf.loss_ == clf.bound_ == errors
    assert clf.gap_ == 0.0
    assert round(4 * (1 - clf.score(SQUARE, XOR))) == errors
    assert clf.compared_ == 4 * units


@pytest.mark.parametrize("weights", ["continuous", "ternary"])
@pytest.mark.parametrize(
    ("radius", "errors"),
    [(0.1, 0), (0.24, 0), (0.249, 0), (0.25, 1), (0.3, 1), (0.49, 1), (0.51, 2)],
)
def test_robust_xor(weights, radius, errors):
    clf = BinaryNetClassifier((2,), weights=weights, robust=("linf", radius))
    clf.fit(SQUARE, XOR)
    assert clf.status_ == "optimal"
    assert clf.loss_ == errors
    assert clf.robust_share(SQUARE, XOR, radius) == 1 - errors / 4
    # Every corner of every ball, by the network itself.
    corners = (SQUARE[:, None] + radius * (2 * SQUARE - 1)[None]).reshape(-1, 2)
    wrong = (clf.predict(corners) != np.repeat(XOR, 4)).reshape(4, 4).any(axis=1)
    assert wrong.sum() == errors


@pytest.mark.parametrize("radius", [0.0, 0.05, 0.1, 0.2])
def test_margin_of_xor(radius):
    """1/2 - 2 r, in closed form."""
    clf = BinaryNetClassifier((2,), loss="max_margin", robust=("linf", radius))
    clf.fit(SQUARE, XOR)
    assert clf.status_ == "optimal"
    assert clf.loss_ == pytest.approx(2 * radius - 0.5, abs=1e-5)


def test_robust_in_the_l1_ball():
    """Dual norm: the largest weight. (1, 1) has gap 1 over 2 max|w|: r < 1/2."""
    for radius, errors in ((0.49, 0), (0.51, 2)):
        clf = BinaryNetClassifier((2,), robust=("l1", radius)).fit(SQUARE, XOR)
        assert clf.loss_ == errors


@pytest.mark.parametrize("weights", ["continuous", "ternary"])
@pytest.mark.parametrize(
    ("radius", "errors"), [(0.35, 0), (0.36, 1), (0.499, 1), (0.51, 2)]
)
def test_robust_in_the_l2_ball(weights, radius, errors):
    """(1, 1) has gap 1 over 2 sqrt(2): r < 0.3535; one feature has gap 1 over 2."""
    clf = BinaryNetClassifier((2,), weights=weights, robust=("l2", radius))
    clf.fit(SQUARE, XOR)
    assert (clf.loss_, clf.status_) == (errors, "optimal")
    assert clf.robust_share(SQUARE, XOR, radius, "l2") == 1 - errors / 4
    angles = np.linspace(0, 2 * np.pi, 721)
    circle = radius * np.column_stack([np.cos(angles), np.sin(angles)])
    points = (SQUARE[:, None] + circle[None]).reshape(-1, 2)
    wrong = (clf.predict(points) != np.repeat(XOR, 721)).reshape(4, 721).any(axis=1)
    assert wrong.sum() == errors


@pytest.mark.parametrize("radius", [0.05, 0.2])
def test_margin_of_xor_in_the_l2_ball(radius):
    """1/2 - sqrt(2) r, in closed form, less what the tower over-estimates."""
    clf = BinaryNetClassifier((2,), loss="max_margin", robust=("l2", radius))
    clf.fit(SQUARE, XOR)
    assert clf.status_ == "optimal"
    assert clf.loss_ == pytest.approx(np.sqrt(2) * radius - 0.5, abs=1e-3 * radius + 1e-5)


def test_the_tower_is_above_the_norm():
    """The least value that the rows allow, for given weights, by HiGHS."""
    import pyomo.environ as pyo

    from pyomo_relu.training.encode import TrainingMIP
    from pyomo_relu.training.norms import excess

    rng = np.random.default_rng(0)
    for d in (1, 2, 3, 5, 8, 9):
        x = rng.uniform(0, 1, (2, d))
        family = Family((), 1, robust=("l2", 0.5))
        mip = TrainingMIP(family, merged(x, np.array([[0.0], [1.0]])))
        spread = mip.rows[0].spread[0]
        mip.model.least = pyo.Objective(expr=spread)
        for _ in range(5):
            w = rng.uniform(-1, 1, d) * (rng.uniform(size=d) < 0.8)
            for v, value_ in zip(mip.w[0][0], w):
                v.fix(value_)
            pyo.SolverFactory("relu_highs").solve(mip.model)
            norm = 0.5 * np.linalg.norm(w)
            assert norm - 1e-6 <= spread.value <= norm * (1 + excess(d)) + 1e-6
            mip.start(StepNetwork((w[None],), (np.zeros(1),)))
            assert norm - 1e-9 <= spread.value <= norm * (1 + excess(d)) + 1e-9
    assert excess(9) < 0.0013


@pytest.mark.parametrize("name", ["AND", "OR", "MAJORITY"])
def test_one_neuron(name):
    x, y = {"AND": (SQUARE, AND), "OR": (SQUARE, OR), "MAJORITY": (CUBE, MAJORITY)}[name]
    for weights in WEIGHTS:
        clf = BinaryNetClassifier((), weights=weights).fit(x, y)
        assert clf.loss_ == 0.0
        assert clf.score(x, y) == 1.0


def test_parity_needs_three_units():
    """The step network with ternary weights, against enumeration."""
    few = enumerate_networks(CUBE, PARITY, 1, "step")["fewest_errors"]
    clf = BinaryNetClassifier((1,), weights="ternary").fit(CUBE, PARITY)
    assert (clf.loss_, clf.status_) == (few, "optimal")
    clf = BinaryNetClassifier((3,), weights="ternary").fit(CUBE, PARITY)
    assert clf.loss_ == 0.0


@pytest.mark.parametrize("thresholds", ["neuron", "layer"])
@pytest.mark.parametrize("loss", ["zero_one", "l1", "hinge", "saturated"])
def test_deep_and_multiclass(thresholds, loss):
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, (9, 2)).round(2)
    y = np.repeat(["a", "b", "c"], 3)
    clf = BinaryNetClassifier(
        (2, 2),
        thresholds=thresholds,
        loss=loss,
        time_limit=None,
        node_limit=1,
        random_state=0,
    ).fit(x, y)
    network = clf.network_
    assert network.sizes == (2, 2, 2, 3)
    if thresholds == "layer":
        assert all(np.ptp(b) == 0 for b in network.biases)
        assert max(abs(b).max() for b in network.biases) <= 1
    assert max(abs(w).max() for w in network.weights) <= 1
    assert clf.bound_ <= clf.loss_ + 1e-9
    assert set(clf.predict(x)) <= {"a", "b", "c"}
    bits = np.eye(3)[np.repeat(range(3), 3)]
    family = clf._family(3)
    assert value(clf._loss(), network, family, merged(x, bits)) == pytest.approx(clf.loss_)


def test_hinge_is_the_linear_program():
    """Without a hidden layer the hinge loss is a linear program; SciPy solves it too."""
    from scipy.optimize import linprog

    rng = np.random.default_rng(3)
    x, y = rng.uniform(0, 1, (15, 3)), rng.integers(0, 2, 15)
    clf = BinaryNetClassifier((), loss="hinge").fit(x, y)
    half = x.sum(axis=1).mean() / 2
    sign = 2.0 * y - 1.0
    # t >= 1/2 - s / half: -sign (w x + b) / half - t <= -1/2
    rows = np.hstack(
        [-sign[:, None] * np.column_stack([x, np.ones(15)]) / half, -np.eye(15)]
    )
    limit = x.sum(axis=1).max() + 1
    box = [(-1, 1)] * 3 + [(-limit, limit)] + [(0, None)] * 15
    best = linprog(np.r_[np.zeros(4), np.ones(15)], rows, -0.5 * np.ones(15), bounds=box)
    assert clf.status_ == "optimal"
    assert clf.loss_ == pytest.approx(best.fun, abs=1e-5)


def test_saturated_counts_the_low_scores():
    clf = BinaryNetClassifier((2,), weights="ternary", loss="saturated").fit(SQUARE, XOR)
    scores = clf.decision_function(SQUARE) * (2.0 * XOR - 1.0)
    assert clf.loss_ == (scores < 0.25 * 3 - 1e-9).sum()


def test_hard_losses_refuse_what_no_network_fits():
    for loss in ("max_margin", "min_weight"):
        with pytest.raises(ValueError, match=f"loss='{loss}'"):
            BinaryNetClassifier((1,), loss=loss, weights="ternary").fit(SQUARE, XOR)


def test_regularization_takes_weights_away():
    x = np.column_stack([SQUARE, np.arange(4)])
    plain = BinaryNetClassifier((), weights="ternary", regularization=0.01).fit(x, OR)
    assert plain.network_.nonzeros()[0] == 1  # the last column alone separates OR
    assert plain.loss_ == pytest.approx(0.01)


def test_compression():
    clf = BinaryNetClassifier((3,), weights="ternary", compression=0.1).fit(SQUARE, XOR)
    assert clf.loss_ == pytest.approx(0.2)
    assert clf.score(SQUARE, XOR) == 1.0
    assert (np.abs(clf.network_.weights[1]).sum(axis=0) > 0).sum() == 2


# ------------------------------------------------------------------- the separation
def test_small_eps_is_refused():
    with pytest.raises(ValueError, match="eps=1e-06 is below 10 x big-M"):
        BinaryNetClassifier((2,), eps=1e-6).fit(100 * SQUARE, XOR)
    BinaryNetClassifier((2,), eps=1e-2).fit(SQUARE, XOR)


def test_wrong_activations_are_an_error(monkeypatch):
    """The check after every solve can fail: the network of the program is changed."""
    from pyomo_relu.training import encode

    right = encode.TrainingMIP.network

    def wrong(self):
        net = right(self)
        return StepNetwork(net.weights, (-net.biases[0] - 0.5, net.biases[1]), "step")

    monkeypatch.setattr(encode.TrainingMIP, "network", wrong)
    with pytest.raises(RuntimeError, match="activations of the trained network differ"):
        BinaryNetClassifier((2,), weights="ternary", start=None).fit(SQUARE, XOR)


@pytest.mark.parametrize("activation", ["step", "sign"])
@pytest.mark.parametrize("integer", [False, True])
@pytest.mark.parametrize(
    "loss", ["zero_one", "l1", "max_correct", "hinge", "min_hinge", "sat_margin"]
)
def test_every_network_is_a_point_of_its_program(activation, integer, loss):
    """`start` gives every variable the value that the rows ask for."""
    from pyomo_relu.programs.standard_form import compile_standard_form
    from pyomo_relu.training.task import Task, random_network

    rng = np.random.default_rng(1)
    x = rng.integers(0, 4, (6, 3)).astype(float)
    data = merged(x, np.eye(3)[[0, 1, 2, 0, 1, 2]])
    family = Family((3, 2), 3, activation, 2.0 if integer else 1.0, integer)
    chosen = Loss(loss, compression=0.1 * (loss != "zero_one"))
    seen = 0
    for seed in range(40):
        task = Task(family, data, chosen, Engine(), 1.0, np.random.default_rng(seed))
        network = random_network(task)
        pres = network.pre_activations(x)
        one_hot = ((pres[-1] >= 0).sum(axis=1) == 1).all()
        near = min(np.abs(p).min() for p in pres)
        if (near < 1e-2 and not integer) or (loss == "max_correct" and not one_hot):
            continue
        mip = program(chosen, family, data)
        mip.start(network)
        form = compile_standard_form(mip.model)
        point = np.array([v.value for v in form.columns], dtype=float)
        assert form.violation(point) < 1e-6
        expected = value(chosen, network, family, data)
        assert form.objective_value(point) == pytest.approx(expected, abs=1e-6)
        assert mip.mismatches(network)[0] == 0
        seen += 1
        if seen == 3:
            break
    assert seen or loss == "max_correct"


# -------------------------------------------------------------------- data splitting
def test_refining_never_raises_the_loss():
    """Finer cells: more networks. Single cells: the exact program."""
    rng = np.random.default_rng(5)
    x, y = rng.uniform(0, 1, (8, 2)), rng.integers(0, 2, (8, 1)).astype(float)
    family, loss = Family((2,), 1), Loss("zero_one")
    optima = []
    for parts in (1, 2, 4, 8):
        data = Data(x, y, np.ones(8), np.arange(8) * parts // 8)
        found = solve(program(loss, family, data), Engine(), time_limit=None)
        assert found.status == "optimal"
        optima.append(found.objective)
    assert all(a >= b - 1e-6 for a, b in zip(optima, optima[1:]))
    assert optima[0] == min(y.sum(), 8 - y.sum())
    exact = BinaryNetClassifier((2,)).fit(x, y[:, 0])
    assert exact.status_ == "optimal"
    assert optima[-1] == pytest.approx(exact.loss_)


def test_splitting_to_single_points_is_exact():
    clf = BinaryNetClassifier(
        (2,), method="data_splitting", splits=3, batch_size=None, validation_fraction=0
    ).fit(SQUARE, XOR)
    assert clf.loss_ == 0.0
    assert clf.status_ == "optimal"


def test_breast_cancer_by_data_splitting():
    x, y = breast_cancer(shared_data("bdnn/breast-cancer-wisconsin.csv"))
    order = np.random.default_rng(0).permutation(len(x))
    train, val, test = np.split(order, [349, 524])
    clf = BinaryNetClassifier(
        (4,), method="data_splitting", random_state=0, time_limit=None
    )
    clf.fit(x[train], y[train], validation=(x[val], y[val]))
    assert clf.score(x[test], y[test]) > 0.93
    found = [h for h in clf.history_ if h["method"] == "data_splitting"]
    assert clf.score(x[val], y[val]) >= max(h["accuracy"] for h in found)
    assert [h["clusters"] for h in found] == list(range(2, 10))


def test_splitting_widens_margins():
    """The same bits on the points of a program, and no neuron nearer to them."""
    from pyomo_relu.training.data_splitting import data_splitting
    from pyomo_relu.training.task import Task

    rng = np.random.default_rng(1)
    x = rng.uniform(0, 1, (24, 3))
    bits = (x[:, :1] + x[:, 1:2] > 1).astype(float)
    networks = []
    for widen in (False, True):
        task = Task(
            Family((2,), 1),
            merged(x, bits),
            Loss("zero_one"),
            Engine(),
            None,
            np.random.default_rng(0),
        )
        points = Points(x, bits[:, 0].astype(int), bits)
        found = data_splitting(
            task, points, (x, bits), splits=1, batch_size=None, widen=widen
        )
        networks.append(found.network)
    gained = 0.0
    for before, after in zip(*(n.pre_activations(x) for n in networks)):
        gained += (np.abs(after).min(axis=0) - np.abs(before).min(axis=0)).sum()
        assert ((before >= 0) == (after >= 0)).all()
        assert (np.abs(after).min(axis=0) >= np.abs(before).min(axis=0) - 1e-6).all()
    assert gained > 0.05


def test_splitting_refuses():
    with pytest.raises(ValueError, match="loss='max_margin', which must fit"):
        BinaryNetClassifier((2,), method="data_splitting", loss="max_margin").fit(
            SQUARE, XOR
        )
    with pytest.raises(ValueError, match="without a hidden layer"):
        BinaryNetClassifier((), method="data_splitting").fit(SQUARE, XOR)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "squared"}, "loss must be one of"),
        ({"method": "magic"}, "method must be one of"),
        ({"weights": "real"}, "weights must be 'continuous' or 'ternary'"),
        ({"weights": 0}, "weights must be"),
        ({"thresholds": "none"}, "thresholds must be one of"),
        ({"robust": ("l3", 0.1)}, "robust takes the norms"),
        ({"robust": 0.1}, r"\(norm, radius\)"),
        ({"robust": ("linf", -1.0)}, "radius >= 0"),
        ({"hidden_layer_sizes": (0,)}, "positive integers"),
        ({"time_limit": 0}, "time_limit must be positive"),
        ({"margin": 2.0}, r"margin must lie in \(0, 1\]"),
        ({"solver": "no_such_solver"}, "unknown to Pyomo or not installed"),
        ({"compression": 1.0, "method": "local_search"}, "needs some, and method='exact'"),
        ({"engine": "cp"}, "engine must be one of"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        BinaryNetClassifier((2,)).set_params(**options).fit(SQUARE, XOR)
