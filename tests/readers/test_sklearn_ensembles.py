"""Linear estimators, and those that are made of others, against their own predict."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.cross_decomposition import CCA, PLSRegression
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    BaggingClassifier,
    BaggingRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_selection import RFE
from sklearn.linear_model import (
    LinearRegression,
    LogisticRegression,
    QuantileRegressor,
    RANSACRegressor,
    Ridge,
    RidgeClassifier,
)
from sklearn.multioutput import MultiOutputRegressor, RegressorChain
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR, LinearSVC, NuSVC, NuSVR
from sklearn.tree import DecisionTreeRegressor

from pyomo_relu.readers import read_network

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)) * [1, 5, 0.3, 2] + [0, 10, 0, 1]
Y = np.stack([np.abs(X[:, 0]) + X[:, 3], X[:, 1] - X[:, 2]], axis=1)
LABELS = np.digitize(X[:, 0], [-0.5, 0.5])


def fit(estimator, y, x=X):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator.fit(x, y)


def mlp(seed=0):
    return MLPRegressor(hidden_layer_sizes=(5,), max_iter=10, random_state=seed)


def agree(model, method="predict", **options):
    network = read_network(model, **options)
    points = np.vstack([X, 3 * X - X.mean(0)])
    got = network.evaluate(points)
    expected = np.asarray(getattr(model, method)(points)).reshape(got.shape)
    assert np.abs(got - expected).max() <= 1e-12 * max(1.0, np.abs(expected).max())


REGRESSORS = [
    QuantileRegressor(quantile=0.3, alpha=0.01),
    RANSACRegressor(random_state=0),
    RANSACRegressor(make_pipeline(StandardScaler(), Ridge()), min_samples=9, random_state=0),
    SVR(kernel="linear"),
    NuSVR(kernel="linear"),
    RFE(LinearRegression(), n_features_to_select=2),
    make_pipeline(StandardScaler(), RFE(Ridge(), n_features_to_select=3)),
    PLSRegression(2),
    PLSRegression(2, scale=False),
    CCA(1),
    VotingRegressor([("a", mlp()), ("b", "drop"), ("c", Ridge())], weights=[2, 5, 1]),
    VotingRegressor([("a", mlp()), ("c", make_pipeline(StandardScaler(), mlp(1)))]),
    BaggingRegressor(mlp(), 3, max_features=3, random_state=0),
    BaggingRegressor(Ridge(), 4, max_features=6, bootstrap_features=True)
    .set_params(max_features=1.0, random_state=1),
    StackingRegressor([("a", mlp()), ("b", Ridge())], Ridge(), cv=2),
    StackingRegressor([("a", mlp()), ("b", Ridge())], mlp(1), cv=2, passthrough=True),
]  # fmt: skip


@pytest.mark.parametrize("model", REGRESSORS, ids=lambda m: str(m)[:40])
def test_regressors(model):
    agree(fit(model, Y[:, 0]))
    agree(fit(make_pipeline(StandardScaler(), model), Y[:, 0]))


@pytest.mark.parametrize(
    "model",
    [
        PLSRegression(2),
        MultiOutputRegressor(VotingRegressor([("a", mlp()), ("b", Ridge())])),
        RegressorChain(mlp(), order=[1, 0]),
        RegressorChain(Ridge()),
    ],
    ids=lambda m: str(m)[:40],
)
def test_several_outputs(model):
    agree(fit(model, Y))


CLASSIFIERS = [
    LinearDiscriminantAnalysis(),
    LinearDiscriminantAnalysis(solver="lsqr"),
    SVC(kernel="linear", decision_function_shape="ovo"),
    NuSVC(kernel="linear", decision_function_shape="ovo", nu=0.3),
    RFE(LogisticRegression(), n_features_to_select=2),
    StackingClassifier(
        [("a", LinearSVC()), ("b", RidgeClassifier())],
        LogisticRegression(),
        stack_method="decision_function",
        cv=2,
        passthrough=True,
    ),
]


@pytest.mark.parametrize("labels", [LABELS, LABELS > 0], ids=["three", "two"])
@pytest.mark.parametrize("model", CLASSIFIERS, ids=lambda m: str(m)[:40])
def test_classifiers(model, labels):
    fit(model, labels)
    agree(model, "decision_function", logits=True)
    with pytest.raises(ValueError, match="logits=True"):
        read_network(model)


def test_what_is_refused():
    pair = [("a", LogisticRegression()), ("b", RidgeClassifier())]
    cases = [
        (fit(SVR(), Y[:, 0]), "SVR with kernel='rbf'.*kernel='linear'"),
        (fit(SVC(kernel="linear"), LABELS), "votes of pairs.*decision_function_shape='ovo'"),
        (fit(VotingClassifier(pair), LABELS), "VotingClassifier counts votes"),
        (fit(BaggingClassifier(LinearSVC(), 2), LABELS), "BaggingClassifier counts votes"),
        (
            fit(StackingClassifier(pair, cv=2), LABELS),
            "predict_proba of.*LogisticRegression.*stack_method='decision_function'",
        ),
        (fit(VotingRegressor([("a", DecisionTreeRegressor(max_depth=2))]), Y[:, 0]),
         "DecisionTreeRegressor is made of trees"),
    ]  # fmt: skip
    for model, message in cases:
        with pytest.raises(ValueError, match=message):
            read_network(model, logits=True)
    for model in (
        VotingRegressor([("a", Ridge())]),
        BaggingRegressor(Ridge()),
        RFE(Ridge()),
    ):
        with pytest.raises(ValueError, match="not fitted"):
            read_network(model)
