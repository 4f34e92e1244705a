"""Isotonic regression, splines of degree 1 and quantiles against their own transform."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest

pytest.importorskip("sklearn")

from sklearn.compose import TransformedTargetRegressor
from sklearn.cross_decomposition import PLSSVD, PLSCanonical, PLSRegression
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer, SplineTransformer, StandardScaler

from pyomo_relu import ReLUNetBlock
from pyomo_relu.readers import read_network
from tests.readers.test_sklearn_encoders import REAL, TARGET, agree, fit, mlp

#: Within the data, far outside, and on the data itself.
WIDE = np.vstack([REAL, 5.0 * (REAL - REAL.mean(0)) + REAL.mean(0)])


def random_data(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 80))
    x = (rng.normal(size=n) + 2.0 * rng.normal()) * 10.0 ** rng.uniform(-3, 3)
    if seed % 3 == 0:
        x = np.round(x, 1)  # many values are there twice
    y = np.sin(x / (1e-9 + x.std())) + 0.3 * rng.normal(size=n)
    points = np.concatenate([x, x.mean() + 3 * (x - x.mean()), rng.normal(size=50) * 20])
    return rng, x, y, points


def test_isotonic_regression():
    for seed in range(60):
        rng, x, y, points = random_data(seed)
        model = IsotonicRegression(
            out_of_bounds="clip",
            increasing=[True, False, "auto"][seed % 3],
            y_min=-0.5 if seed % 4 == 1 else None,
        )
        agree(fit(model, x, y), points[:, None])


def test_isotonic_regression_at_the_end_of_a_pipeline_and_of_one_point():
    model = make_pipeline(StandardScaler(), IsotonicRegression(out_of_bounds="clip"))
    agree(fit(model, REAL[:, :1]), WIDE[:, :1])
    one = IsotonicRegression(out_of_bounds="clip")
    agree(fit(one, np.ones(3), np.arange(3.0)), np.array([[-1.0], [1.0], [2.0]]))


def test_isotonic_regression_in_a_model():
    x = np.linspace(0, 4, 30)
    y = np.sqrt(x) + 0.1 * np.sin(40 * x)
    model = IsotonicRegression(out_of_bounds="nan").fit(x, y)
    with pytest.raises(ValueError, match=r"out_of_bounds='nan'.*set_params"):
        read_network(model)
    model.set_params(out_of_bounds="clip")
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(0, 4))
    m.net = ReLUNetBlock(network=model, inputs=[m.x])
    m.goal = pyo.Objective(expr=m.net.outputs[0] - 0.5 * m.x, sense=pyo.maximize)
    pyo.SolverFactory("relu_highs").solve(m)
    grid = np.linspace(0, 4, 4001)
    best = (model.predict(grid) - 0.5 * grid).max()
    assert abs(pyo.value(m.goal) - best) <= 1e-3


def test_linear_splines_of_one_feature():
    model = fit(SplineTransformer(n_knots=4, degree=1, extrapolation="linear"), REAL[:, :1])
    agree(model, WIDE[:, :1])


@pytest.mark.parametrize("extrapolation", ["constant", "continue"])
@pytest.mark.parametrize("include_bias", [True, False])
def test_splines(extrapolation, include_bias):
    for n_knots, knots in (
        (2, "uniform"),
        (3, "quantile"),
        (6, "quantile"),
        (5, "uniform"),
    ):
        model = SplineTransformer(
            n_knots=n_knots,
            degree=1,
            knots=knots,
            extrapolation=extrapolation,
            include_bias=include_bias,
        )
        agree(fit(model, REAL), WIDE)
        agree(fit(make_pipeline(model, Ridge(1e-3)), REAL), WIDE)
    agree(fit(make_pipeline(StandardScaler(), model, mlp()), REAL), WIDE)


def test_splines_are_few_units():
    model = fit(SplineTransformer(n_knots=5, degree=1, extrapolation="continue"), REAL)
    network = read_network(model)
    assert network.n_outputs == 20 and network.n_neurons == 4 * 3


def test_quantiles():
    for seed in range(30):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(50, 3)) * 10.0 ** rng.uniform(-2, 2, 3) + rng.normal(size=3)
        points = np.vstack([x, 3 * x])
        model = QuantileTransformer(n_quantiles=int(rng.integers(2, 50)))
        agree(fit(model, x, None), points)
        target = TransformedTargetRegressor(Ridge(), transformer=model)
        agree(fit(target, x, x[:, 0] + x[:, 1] ** 2), points)
    agree(fit(make_pipeline(model, mlp()), REAL), WIDE)


@pytest.mark.parametrize("model", [PLSSVD(2), PLSRegression(2), PLSCanonical(2)], ids=str)
def test_partial_least_squares(model):
    targets = np.stack([TARGET, REAL[:, 0] ** 2], axis=1)
    fitted = fit(model, REAL, targets)
    agree(fitted, WIDE)
    scores = make_pipeline(fitted, StandardScaler())
    scores.steps[1] = ("scaler", StandardScaler().fit(fitted.transform(REAL)))
    network = agree(scores, WIDE)
    assert network.n_outputs == 2


@pytest.mark.parametrize(
    "model, message",
    [
        (SplineTransformer(degree=3), "SplineTransformer with degree=3.*degree=1"),
        (SplineTransformer(degree=0), "degree=0.*degree=1"),
        (SplineTransformer(degree=1, extrapolation="periodic"), "periodic.*'constant'"),
        (SplineTransformer(degree=1, extrapolation="linear"), "all features.*'continue'"),
        (SplineTransformer(degree=1, extrapolation="error"), "beyond its knots.*'linear'"),
        (
            QuantileTransformer(n_quantiles=20, output_distribution="normal"),
            "'normal'.*'uniform'",
        ),
    ],
)
def test_what_is_no_such_curve_is_refused(model, message):
    with pytest.raises(ValueError, match=message):
        read_network(fit(make_pipeline(model, Ridge()), REAL))


def test_curves_that_jump_are_refused():
    tied = np.repeat([0.0, 1.0, 2.0], 30)[:, None]
    with pytest.raises(ValueError, match="QuantileTransformer.*feature 0.*many times"):
        read_network(fit(make_pipeline(QuantileTransformer(n_quantiles=40), Ridge()), tied))
    knots = SplineTransformer(n_knots=8, degree=1, knots="quantile")
    with pytest.raises(ValueError, match="SplineTransformer.*coincide.*n_knots"):
        read_network(fit(make_pipeline(knots, Ridge()), tied))
    pair = make_pipeline(StandardScaler(), IsotonicRegression(out_of_bounds="clip"))
    pair.fit(REAL[:, :1], TARGET)
    with pytest.raises(ValueError, match="one feature; here it gets 2"):
        pair.steps[0] = ("s", StandardScaler().fit(REAL[:, :2]))
        read_network(pair)


def test_what_is_not_fitted_is_refused():
    for model in (IsotonicRegression(), SplineTransformer(degree=1), QuantileTransformer()):
        with pytest.raises(ValueError, match="not fitted"):
            read_network(model)
