"""scikit-learn estimators against their own predict, in float64."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    RobustScaler,
    StandardScaler,
)

from pyomo_relu.readers import read_network

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 5)) * [1, 10, 0.1, 3, 1] + [0, 100, 0, -5, 2]
Y = np.stack([np.abs(X[:, 0]) + X[:, 3], X[:, 1] - X[:, 4] ** 2], axis=1)
LABELS = np.digitize(X[:, 0], [-0.5, 0.5])


def fit(estimator, x=X, y=Y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator.fit(x, y)


def mlp(**options):
    return MLPRegressor(hidden_layer_sizes=(8, 6), max_iter=20, random_state=0, **options)


def mlp_activations():
    return ("relu", "identity", "logistic", "tanh")


def agree(estimator, predict=None, x=X, **options):
    network = read_network(estimator, **options)
    points = np.vstack([x, 3 * x - x.mean(0)])
    expected = np.asarray((predict or estimator.predict)(points))
    got = network.evaluate(points)
    expected = expected.reshape(got.shape)
    assert np.abs(got - expected).max() <= 1e-12 * max(1.0, np.abs(expected).max())
    return network


@pytest.mark.parametrize("y", [Y, Y[:, 0]])
@pytest.mark.parametrize("options", [{"activation": a} for a in mlp_activations()])
def test_mlp_regressor(y, options):
    network = agree(fit(mlp(**options), y=y))
    assert network.n_neurons == (0 if options["activation"] == "identity" else 14)


SCALERS = [
    StandardScaler(),
    StandardScaler(with_mean=False),
    StandardScaler(with_std=False),
    MinMaxScaler(),
    MinMaxScaler((-2, 3), clip=True),
    RobustScaler(),
    RobustScaler(with_centering=False, quantile_range=(10, 90)),
    RobustScaler(with_scaling=False),
    MaxAbsScaler(),
    PCA(3),
    PCA(2, whiten=True, svd_solver="full"),
    TruncatedSVD(3),
    FunctionTransformer(),
    "passthrough",
    ColumnTransformer(
        [
            ("a", StandardScaler(), [3, 0]),
            ("b", "drop", [1]),
            ("c", make_pipeline(MinMaxScaler(), RobustScaler()), slice(2, 3)),
        ],
        remainder="passthrough",
        transformer_weights={"c": 2.0},
    ),
    ColumnTransformer(
        [("a", StandardScaler(), slice(0, 5, 2)), ("b", MinMaxScaler(), [-2])]
    ),
    ColumnTransformer([("a", MaxAbsScaler(), [True, False, True, False, False])]),
    FeatureUnion([("a", PCA(2)), ("b", StandardScaler())], transformer_weights={"b": 0.5}),
]


@pytest.mark.parametrize("scaler", SCALERS, ids=lambda s: str(s)[:30])
def test_pipelines(scaler):
    network = agree(fit(make_pipeline(scaler, mlp())))
    assert network.n_inputs == 5


def test_nested_pipelines_and_grid_search():
    agree(
        fit(make_pipeline(make_pipeline(StandardScaler(), PCA(3)), MinMaxScaler(), mlp()))
    )
    agree(fit(GridSearchCV(mlp(), {"alpha": [0.1, 1.0]}, cv=2)))


@pytest.mark.parametrize(
    "transformer",
    [None, StandardScaler(), MinMaxScaler(clip=True), RobustScaler(), MaxAbsScaler(), PCA(2),
     PCA(2, whiten=True), make_pipeline(StandardScaler(), MinMaxScaler())],
    ids=lambda s: str(s)[:20],
)  # fmt: skip
def test_transformed_targets(transformer):
    model = TransformedTargetRegressor(mlp(), transformer=transformer)
    agree(fit(model))
    agree(fit(make_pipeline(StandardScaler(), model)))
    if not isinstance(transformer, PCA):
        agree(fit(TransformedTargetRegressor(mlp(), transformer=transformer), y=Y[:, 0]))


def test_classifiers_need_logits():
    for y, n in [(LABELS, 3), (LABELS > 0, 1), (np.eye(3)[LABELS], 3)]:
        model = fit(
            MLPClassifier(hidden_layer_sizes=(6,), max_iter=20, random_state=0), y=y
        )
        with pytest.raises(ValueError, match="logits=True"):
            read_network(model)
        network = read_network(model, logits=True)
        assert network.n_outputs == n
        logits = network.evaluate(X)
        if y.ndim == 1 and n > 1:
            assert np.array_equal(np.argmax(logits, 1), model.predict(X))
            e = np.exp(logits - logits.max(1, keepdims=True))
            assert np.allclose(e / e.sum(1, keepdims=True), model.predict_proba(X))
        else:
            p = model.predict_proba(X)
            p = p[:, 1:] if n == 1 else p
            assert np.allclose(1 / (1 + np.exp(-logits)), p)
    named = fit(
        MLPClassifier(hidden_layer_sizes=(6,), max_iter=5),
        y=np.array(["low", "mid", "high"])[LABELS],
    )
    assert read_network(named, logits=True).output_names == ("high", "low", "mid")


def test_linear_models():
    agree(fit(LinearRegression()))
    agree(fit(Ridge(), y=Y[:, 0]))
    agree(fit(make_pipeline(StandardScaler(), LinearRegression(fit_intercept=False))))
    model = fit(LogisticRegression(), y=LABELS)
    agree(model, model.decision_function, logits=True)
    with pytest.raises(ValueError, match="LogisticRegression.*logits=True"):
        read_network(model)


def test_names_of_data_frames():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abcde"))
    parts = ColumnTransformer(
        [("s", StandardScaler(), ["d", "a"]), ("m", MinMaxScaler(), slice("b", "c"))],
        remainder="passthrough",
    )
    for model in (make_pipeline(StandardScaler(), mlp()), make_pipeline(parts, mlp())):
        fit(model, frame)
        network = read_network(model)
        assert network.input_names == tuple("abcde")
        difference = network.evaluate(X) - model.predict(frame)
        assert np.abs(difference).max() <= 1e-12 * np.abs(Y).max()
        assert read_network(model, input_names=list("vwxyz")).input_names == tuple("vwxyz")


class Own(StandardScaler):
    def transform(self, X, copy=None):
        return super().transform(X) ** 3


def test_poisson_loss_ends_in_exp():
    agree(fit(mlp(loss="poisson", activation="tanh"), y=np.abs(Y[:, 0])))


def test_what_is_refused():
    cases = [
        (make_pipeline(Normalizer(), mlp()), "Normalizer"),
        (make_pipeline(FunctionTransformer(np.log1p), mlp()), "func=.*log1p"),
        (make_pipeline(Own(), mlp()), "Own"),
        (RandomForestRegressor(2), "RandomForestRegressor"),
        (
            TransformedTargetRegressor(mlp(), func=np.exp, inverse_func=np.log),
            "inverse_func=.*log",
        ),
    ]
    for model, message in cases:
        y = Y if "func" not in message else Y / 1000
        with np.errstate(all="ignore"), pytest.raises(ValueError, match=message):
            x = np.abs(X) if "log1p" in message else X
            read_network(fit(model, x, np.abs(y) + 0.5))
    with pytest.raises(ValueError, match="not fitted"):
        read_network(mlp())
    with pytest.raises(ValueError, match="not fitted"):
        read_network(make_pipeline(StandardScaler(), mlp()))
