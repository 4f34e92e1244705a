"""Pages of the guide run as they stand, from top to bottom, and find what is optimal."""

from __future__ import annotations

import doctest
import re
import textwrap
from typing import Any

import numpy as np
import pyomo.environ as pyo
import pytest

from tests.harness.random_networks import he_network
from tests.paths import ROOT

GUIDE = ROOT / "docs" / "guide"


def run(name: str, holding: str = "", **scope: Any) -> dict:
    """Run the programs of a page that hold a text in one scope, in the folder of the clone."""
    page = next(GUIDE.glob(f"{name}.*"))
    text = page.read_text(encoding="utf8")
    if page.suffix == ".rst":
        found = re.findall(r"code-block:: python\n\n((?:   .*\n|\n)+)", text)
    else:
        found = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    found = [code for code in found if holding in code]
    assert found
    for number, code in enumerate(found):
        exec(
            compile(textwrap.dedent(code), f"{page.name}, program {number}", "exec"), scope
        )
    return scope


@pytest.fixture(autouse=True)
def in_the_clone(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_changing_a_model(capsys):
    pytest.importorskip("pint")
    run("changing")
    assert "4 blocks" in capsys.readouterr().out


def test_a_tree_beside_a_network():
    tree = pytest.importorskip("sklearn.tree")
    x = np.random.default_rng(0).uniform(-1, 1, (200, 2))
    fitted = tree.DecisionTreeRegressor(max_depth=3).fit(x, np.sin(3 * x[:, 0]) + x[:, 1])
    net = he_network(1, (2, 6, 1))
    m = run("coming_from", "tree_block", tree=fitted, mlp=net)["m"]
    points = np.random.default_rng(1).uniform(-1, 1, (20000, 2))
    least = (net.evaluate(points)[:, 0] + fitted.predict(points)).min()
    assert least - 0.2 <= pyo.value(m.obj) <= least + 1e-6
    at = np.array([[m.x[0].value, m.x[1].value]])
    near = [
        fitted.predict(at + d)[0]
        for d in 1e-5 * np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])
    ]
    assert np.min(np.abs(np.array(near) - m.tree.y.value)) < 1e-5


def test_a_network_by_hand(capsys):
    found = run("by_hand")
    np.testing.assert_allclose(found["network"].evaluate([[0.5, -0.5], [1, 1]]), [[1], [2]])
    x = np.array([[0.3, -0.7]])
    values = x
    for k, (w, b) in enumerate(zip(found["weights"], found["biases"])):
        values = values @ w.T + b
        values = values if k == 2 else np.maximum(values, 0)
    np.testing.assert_allclose(found["chain"].evaluate(x), values)


def test_gradients():
    pytest.importorskip("sklearn")
    found = run("gradients")
    assert found["value"] == pytest.approx(7.0)
    training, dual = found["training"], found["dual"]
    assert found["margin"] == pytest.approx(-training.solve().value, abs=1e-6)
    way = np.arange(8.0) - 3.3
    high, low = (training.solve(training.initial + h * way).value for h in (1e-5, -1e-5))
    assert found["slope"] @ way == pytest.approx((high - low) / 2e-5, abs=1e-5)
    bound = dual.bound(found["elsewhere"])
    assert bound <= training.solve(training.initial + 0.02).value + 1e-9
    assert (found["prices"] >= 0).all()


def test_the_quickstart(capsys):
    pytest.importorskip("keras")
    pytest.importorskip("sklearn")
    scope = run("quickstart")
    m, network = scope["m"], scope["m"].reformer.network
    m.notch.value = None
    for solver in ("relu", "appsi_highs"):
        pyo.SolverFactory(solver).solve(m)
        found = pyo.value(m.hydrogen)
        assert m.reformer.error() < 1e-6
        assert found == pytest.approx(best_of_the_quickstart(network), abs=1e-4)
    printed = capsys.readouterr().out
    assert "first_relu   relu      bigm" in printed


def best_of_the_quickstart(network) -> float:
    """The best of all notches and burners, the ratio on a fine grid."""
    best = -np.inf
    ratio = np.linspace(0.8, 1.2, 4001)
    for notch in range(2, 17):
        most = max(
            min(0.72 + 0.12 * burners, (160 - 15 * burners - notch) / 100)
            for burners in range(1, 5)
        )
        x = np.column_stack([np.full_like(ratio, 0.05 * notch), ratio])
        y = network.evaluate(x)
        good = (ratio <= most) & (y[:, 2] <= 0.34)
        best = max(best, y[good, 0].max(initial=-np.inf))
    return best


def test_classifiers():
    pytest.importorskip("sklearn")
    pytest.importorskip("pyscipopt")
    scope = run("classifiers")
    # A grid of settings knows the best with a probability of 0.8 by softmax, too.
    t, v = np.meshgrid(np.linspace(150, 250, 401), np.linspace(1, 5, 401))
    grid = np.column_stack([t.ravel(), v.ravel()])
    sure = scope["classifier"].predict_proba(grid)[:, 2] >= 0.8
    best = (grid[:, 1] - 0.01 * grid[:, 0])[sure].max()
    assert best <= scope["exact"] + 1e-3 and scope["exact"] < best + 0.03


def test_duals_and_sensitivities():
    scope = run("duals")
    assert scope["price"] == pytest.approx(0.39419, abs=1e-4)


def test_re_solving():
    pytest.importorskip("sklearn")
    scope = run("resolving")
    m = scope["m"]
    m.outside[0] = 30.0
    with pytest.raises(ValueError, match="outside"):
        scope["solver"].solve(m)


def test_large_networks():
    scope = run("large_networks")
    assert scope["part"] < scope["whole"] / 2


def test_the_example_of_the_block():
    from pyomo_relu.block import component

    result = doctest.testmod(component)
    assert result.attempted > 8 and not result.failed
