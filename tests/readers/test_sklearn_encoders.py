"""Encoders, bins, imputers, selectors and projections against their own transform."""

from __future__ import annotations

import warnings

import numpy as np
import pyomo.environ as pyo
import pytest

pytest.importorskip("sklearn")

from sklearn.compose import ColumnTransformer
from sklearn.decomposition import FactorAnalysis, FastICA, IncrementalPCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_selection import (
    RFE,
    SelectFromModel,
    SelectKBest,
    VarianceThreshold,
    f_regression,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Lasso, LinearRegression
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    KBinsDiscretizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    StandardScaler,
    TargetEncoder,
)
from sklearn.random_projection import GaussianRandomProjection

from pyomo_relu import ReLUNetBlock, category_choice
from pyomo_relu.readers import read_network
from pyomo_relu.readers.sklearn import read_categories

RNG = np.random.default_rng(0)
REAL = RNG.normal(size=(90, 4)) * [1, 10, 0.1, 3] + [0, 100, 0, -5]
#: Categories with and without gaps, and one of two values.
WHOLE = np.stack([RNG.choice(v, 90) for v in ([0, 1], [2, 3, 7, 11], [-2, 0, 1])], axis=1)
TARGET = WHOLE[:, 0] - np.abs(WHOLE[:, 1] - 3.0) + REAL[:, 3]


def fit(estimator, x, y=TARGET):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator.fit(x, y)


def mlp(seed=0):
    return MLPRegressor(hidden_layer_sizes=(6,), max_iter=15, random_state=seed)


def agree(model, points, **options):
    network = read_network(model, **options)
    method = model.predict if hasattr(model, "predict") else model.transform
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = method(points)
    expected = expected.toarray() if hasattr(expected, "toarray") else expected
    got = network.evaluate(points)
    difference = np.abs(got - np.asarray(expected, float).reshape(got.shape)).max()
    assert difference <= 1e-12 * max(1.0, np.abs(got).max())
    return network


ENCODERS = [
    OneHotEncoder(),
    OneHotEncoder(drop="first", sparse_output=False),
    OneHotEncoder(drop="if_binary"),
    OneHotEncoder(handle_unknown="ignore"),
    OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=25),
    OrdinalEncoder(),
    OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
    TargetEncoder(target_type="continuous", cv=3),
]


@pytest.mark.parametrize("encoder", ENCODERS, ids=str)
def test_encoders_at_integers(encoder):
    points = WHOLE
    if getattr(encoder, "handle_unknown", "") != "error":
        points = RNG.integers(-4, 14, (200, 3))
    agree(fit(make_pipeline(encoder, mlp()), WHOLE), points)
    agree(fit(encoder, WHOLE), points)


def test_a_category_of_two_values_costs_no_binary():
    network = agree(fit(OneHotEncoder(), WHOLE[:, :1]), WHOLE[:, :1])
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(0, 1), domain=pyo.Integers)
    m.block = ReLUNetBlock(network=network, inputs=[m.x])
    binaries = [v for v in m.block.component_data_objects(pyo.Var) if v.is_binary()]
    assert not binaries


def test_categories_that_are_no_integers():
    x = np.array([[0.5], [1.25], [2.0]] * 10)
    agree(fit(OneHotEncoder(), x, None), x)
    with pytest.raises(ValueError, match="none of its categories.*handle_unknown='error'"):
        read_network(fit(OneHotEncoder(handle_unknown="ignore"), x, None))


def test_missing_categories_are_left_out():
    x = np.array([[0.0], [1.0], [np.nan], [3.0]] * 5)
    whole = np.array([[0.0], [1.0], [3.0]])
    agree(fit(OneHotEncoder(), x, None), whole)
    agree(fit(OrdinalEncoder(), x, None), whole)
    agree(
        fit(make_pipeline(SimpleImputer(strategy="median"), OneHotEncoder()), x, None),
        whole,
    )


@pytest.mark.parametrize("encode", ["ordinal", "onehot", "onehot-dense"])
@pytest.mark.parametrize("strategy", ["uniform", "quantile", "kmeans"])
def test_bins_everywhere(encode, strategy):
    options = {"encode": encode, "strategy": strategy}
    if strategy == "quantile":
        options["quantile_method"] = "averaged_inverted_cdf"
    bins = fit(KBinsDiscretizer(4, **options), REAL)
    edges = np.array([e[[0, 1, -2, -1]] for e in bins.bin_edges_]).T
    agree(bins, np.vstack([REAL, 3 * REAL - REAL.mean(0), edges]))
    agree(fit(make_pipeline(bins, mlp()), REAL), REAL)


MISSING = np.where(RNG.random(REAL.shape) < 0.1, np.nan, REAL)
EMPTY = np.concatenate([np.full((90, 1), np.nan), MISSING], axis=1)


@pytest.mark.parametrize(
    "model, x",
    [
        (SimpleImputer(), MISSING),
        (SimpleImputer(strategy="median", add_indicator=True), MISSING),
        (SimpleImputer(), EMPTY),
        (SimpleImputer(keep_empty_features=True), EMPTY),
    ],
    ids=["mean", "indicator", "empty", "kept"],
)
def test_imputers(model, x):
    points = np.nan_to_num(x, nan=7.0)
    agree(fit(make_pipeline(model, StandardScaler(), mlp()), x), points)


def test_a_number_that_stands_for_missing_is_refused():
    x = np.where(np.isnan(MISSING), -999.0, MISSING)
    with pytest.raises(ValueError, match="SimpleImputer.*missing_values=-999"):
        read_network(fit(make_pipeline(SimpleImputer(missing_values=-999), mlp()), x))


LINEAR = [
    SelectKBest(f_regression, k=2),
    VarianceThreshold(0.1),
    RFE(LinearRegression(), n_features_to_select=2),
    SelectFromModel(Lasso(0.01)),
    PolynomialFeatures(1),
    PolynomialFeatures(1, include_bias=False),
    IncrementalPCA(2),
    IncrementalPCA(3, whiten=True),
    FactorAnalysis(2),
    FastICA(2, random_state=0),
    FastICA(3, whiten=False, random_state=0, max_iter=5),
    GaussianRandomProjection(3, random_state=0),
    Binarizer(threshold=0.3),
]


@pytest.mark.parametrize("model", LINEAR, ids=lambda m: type(m).__name__)
def test_selectors_and_projections(model):
    x = StandardScaler().fit_transform(REAL) if "whiten=False" in str(model) else REAL
    points = np.vstack([x, 3 * x - x.mean(0)])
    agree(fit(make_pipeline(model, mlp()), x), points)
    agree(fit(model, x), points)


@pytest.mark.parametrize("solver", ["svd", "eigen"])
def test_discriminants(solver):
    labels = np.digitize(REAL[:, 0], [-0.5, 0.5])
    parts = [("a", LinearDiscriminantAnalysis(solver=solver)), ("b", StandardScaler())]
    model = fit(make_pipeline(FeatureUnion(parts), StandardScaler()), REAL, labels)
    agree(model, REAL)


def test_mixed_columns_of_a_frame():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(np.hstack([WHOLE, REAL]), columns=list("abcdefg"))
    frame = frame.astype({"a": int, "b": int, "c": int})
    parts = ColumnTransformer(
        [
            ("codes", make_pipeline(SimpleImputer(), OneHotEncoder()), ["b", "c"]),
            ("order", OrdinalEncoder(), ["a"]),
            ("real", make_pipeline(SimpleImputer(), StandardScaler()), ["d", "g"]),
        ]
    )
    model = fit(make_pipeline(parts, mlp()), frame)
    network = read_network(model)
    assert network.input_names == tuple("abcdefg")
    difference = network.evaluate(frame.to_numpy(float)) - model.predict(frame)[:, None]
    assert np.abs(difference).max() <= 1e-12


def test_the_best_category_by_a_program():
    model = fit(make_pipeline(OneHotEncoder(), mlp(1)), WHOLE)
    m = pyo.ConcreteModel()
    lists = [sorted(set(column)) for column in WHOLE.T.tolist()]
    m.x = pyo.Var(range(3), domain=pyo.Integers)
    for k, values in enumerate(lists):
        m.x[k].setlb(values[0])
        m.x[k].setub(values[-1])
    # Feature 1 has gaps between its categories, which the model has to leave out.
    m.gaps = pyo.Var(range(len(lists[1])), domain=pyo.Binary)
    m.one = pyo.Constraint(expr=sum(m.gaps.values()) == 1)
    m.is_category = pyo.Constraint(
        expr=m.x[1] == sum(v * m.gaps[i] for i, v in enumerate(lists[1]))
    )
    m.two = pyo.Var(range(3), domain=pyo.Binary)
    m.only = pyo.Constraint(expr=sum(m.two.values()) == 1)
    m.third = pyo.Constraint(
        expr=m.x[2] == sum(v * m.two[i] for i, v in enumerate(lists[2]))
    )
    m.block = ReLUNetBlock(network=read_network(model), inputs=m.x)
    m.obj = pyo.Objective(expr=m.block.outputs[0], sense=pyo.maximize)
    pyo.SolverFactory("appsi_highs").solve(m)
    every = np.array(np.meshgrid(*lists)).reshape(3, -1).T
    assert pyo.value(m.obj) == pytest.approx(model.predict(every).max(), abs=1e-6)


def test_refusals_name_the_estimator_and_the_remedy():
    nan = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    cases = [
        (fit(make_pipeline(StandardScaler(), OneHotEncoder()), WHOLE, None),
         "OneHotEncoder reads feature 0 after it was scaled"),
        (fit(nan, WHOLE, None), "OrdinalEncoder encodes some value as NaN"),
    ]  # fmt: skip
    for model, message in cases:
        with pytest.raises(ValueError, match=message):
            read_network(model)
    with pytest.raises(ValueError, match="not fitted"):
        read_network(make_pipeline(OneHotEncoder(), mlp()))


def test_encoders_that_know_nothing_in_common():
    parts = ColumnTransformer(
        [("a", OneHotEncoder(categories=[[0, 1]]), [0]),
         ("b", OneHotEncoder(categories=[[5, 6]], handle_unknown="error"), [1])]
    )  # fmt: skip
    x = np.stack([WHOLE[:, 0], WHOLE[:, 0] + 5], axis=1)
    model = fit(parts, x)
    model.transformers_[1] = (*model.transformers_[1][:2], [0])
    with pytest.raises(ValueError, match="feature 0 has no value"):
        read_network(model)


def test_encoders_as_input_scalers():
    encoder = fit(OneHotEncoder(), WHOLE, None)
    inner = fit(LinearRegression(), encoder.transform(WHOLE).toarray())
    network = read_network(read_network(inner), input_scaler=encoder)
    expected = inner.predict(encoder.transform(WHOLE).toarray())
    assert np.abs(network.evaluate(WHOLE)[:, 0] - expected).max() <= 1e-12 * 100


SLOW = 600


@pytest.mark.parametrize(
    "seed",
    [*range(10), *[pytest.param(s, marks=pytest.mark.slow) for s in range(10, SLOW)]],
)
def test_random_pipelines(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 5))
    lists = [
        rng.choice(np.arange(-5, 15), int(rng.integers(2, 6)), replace=False)
        for _ in range(n)
    ]
    whole = np.stack([np.resize(rng.permutation(v), 60) for v in lists], axis=1)
    for k in range(n):
        whole[:, k] = rng.permutation(whole[:, k])
    real = rng.normal(size=(60, n)) * rng.uniform(0.1, 10, n)
    x, y = np.hstack([whole, real]), rng.normal(size=60)
    drop = [None, "first", "if_binary"][rng.integers(3)]
    encoders = [
        OneHotEncoder(drop=drop, sparse_output=bool(rng.integers(2))),
        OneHotEncoder(handle_unknown="ignore", max_categories=3),
        OrdinalEncoder(),
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-7),
    ]
    others = [
        KBinsDiscretizer(int(rng.integers(2, 5)), encode="onehot", strategy="uniform"),
        SelectKBest(f_regression, k=1),
        FastICA(random_state=seed, max_iter=20),
        IncrementalPCA(int(rng.integers(1, n + 1)), whiten=bool(rng.integers(2))),
        FactorAnalysis(1),
        PolynomialFeatures(1),
        make_pipeline(SimpleImputer(), StandardScaler()),
    ]
    parts = ColumnTransformer(
        [("w", encoders[rng.integers(4)], list(range(n))),
         ("r", others[rng.integers(7)], list(range(n, 2 * n)))]
    )  # fmt: skip
    model = fit(make_pipeline(parts, mlp(seed)), x, y)
    agree(model, np.vstack([x, x[rng.permutation(60)]]))


# ------------------------------------------------------------------------------- text
def text_pipeline(target=None):
    """Of a frame with two columns of text, numbers that are categories, and a real one."""
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(3)
    frame = pandas.DataFrame(
        {
            "grade": rng.choice(["red", "green", "blue"], 60),
            "temp": rng.normal(size=60),
            "size": rng.choice([1, 2, 5], 60),
            "kind": rng.choice(["a", "b"], 60),
        }
    )
    frame.loc[3, "grade"] = np.nan
    text = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder())
    columns = ColumnTransformer(
        [
            ("text", text, ["grade", "kind"]),
            ("real", StandardScaler(), ["temp"]),
            ("size", OrdinalEncoder(), ["size"]),
        ]
    )
    y = rng.normal(size=60) + 2.0 * (frame["grade"] == "red") - frame["temp"]
    return fit(make_pipeline(columns, mlp()), frame, y), frame.dropna()


def test_text_is_its_position():
    pipeline, frame = text_pipeline()
    known = read_categories(pipeline)
    assert known["grade"] == {"blue": 0.0, "green": 1.0, "red": 2.0}
    assert known["size"] == {1.0: 1.0, 2.0: 2.0, 5.0: 5.0} and set(known) == {
        "grade",
        "kind",
        "size",
    }
    network = read_network(pipeline)
    numbers = frame.copy()
    for name in ("grade", "kind"):
        numbers[name] = [known[name][v] for v in frame[name]]
    got = network.evaluate(numbers[list(network.input_names)].to_numpy(float))[:, 0]
    np.testing.assert_allclose(got, pipeline.predict(frame), rtol=0, atol=1e-12)


def test_choice_of_a_category():
    pipeline, frame = text_pipeline()
    m = pyo.ConcreteModel()
    m.grade = category_choice(pipeline, "grade")
    m.kind = category_choice(pipeline, "kind")
    m.size = category_choice(pipeline, "size")
    m.temp = pyo.Var(bounds=(-1, 1))
    inputs = {"temp": m.temp, "grade": m.grade.number}
    inputs |= {"kind": m.kind.number, "size": m.size.number}
    m.net = ReLUNetBlock(network=pipeline, inputs=inputs)
    m.limit = pyo.Constraint(expr=m.grade.chosen["red"] + m.kind.chosen["a"] <= 1)
    m.goal = pyo.Objective(expr=m.net.outputs[0], sense=pyo.maximize)
    pyo.SolverFactory("appsi_highs").solve(m)
    best = -np.inf
    for grade in ("red", "green", "blue"):
        for kind in "ab":
            for size in (1, 2, 5):
                if (grade, kind) != ("red", "a"):
                    points = frame.iloc[:1].assign(grade=grade, kind=kind, size=size)
                    points = points.loc[points.index.repeat(201)]
                    points["temp"] = np.linspace(-1, 1, 201)
                    best = max(best, pipeline.predict(points).max())
    assert best - 1e-6 <= pyo.value(m.goal) <= best + 0.05
    chosen = [c for c, u in m.grade.chosen.items() if u.value > 0.5]
    assert len(chosen) == 1
    at = frame.iloc[:1].assign(
        grade=chosen[0], temp=m.temp.value, size=round(m.size.number.value)
    )
    at["kind"] = next(c for c, u in m.kind.chosen.items() if u.value > 0.5)
    assert pipeline.predict(at)[0] == pytest.approx(pyo.value(m.goal), abs=1e-6)
    with pytest.raises(ValueError, match=r"feature 'temp'; .* \['grade', 'size', 'kind'\]"):
        category_choice(pipeline, "temp")


def test_text_that_has_no_position():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"c": ["a", "b", "c", "a"], "d": [1.0, 2.0, 3.0, 4.0]})
    both = ColumnTransformer(
        [
            ("one", OneHotEncoder(), ["c"]),
            ("two", OneHotEncoder(categories=[["c", "b", "a"]]), ["c"]),
        ]
    )
    with pytest.raises(ValueError, match="knows other categories of feature 'c'"):
        read_network(fit(both, frame, None))
    mixed = np.array([[b"a"], [b"b"]], dtype=object)
    with pytest.raises(ValueError, match="neither numbers nor text"):
        read_network(fit(OrdinalEncoder(), mixed, None))
