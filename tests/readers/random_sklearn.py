"""Random fitted estimators of scikit-learn, of all kinds that are read, and data for them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn import (
    decomposition,
    ensemble,
    feature_selection,
    linear_model,
    multioutput,
    svm,
)
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.cross_decomposition import PLSRegression
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.impute import SimpleImputer
from sklearn.kernel_ridge import KernelRidge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)

from pyomo_relu.readers import read_network
from pyomo_relu.readers.sklearn import read_categories

COLORS = ("blue", "green", "red", "yellow")


class NotFittedError(Exception):
    """scikit-learn refuses to fit this combination."""


def scaled(kernel_machine: Any) -> Any:
    """Behind a scaler: products with data far from 0 cancel, and leave rounding only."""
    return make_pipeline(StandardScaler(), kernel_machine)


class Random:
    """A random estimator that is fitted, with points at which it is to be compared.

    Parameters
    ----------
    seed : int

    Attributes
    ----------
    model : estimator
        Fitted on a DataFrame.
    frame : DataFrame
        Points as the estimator takes them.
    method : str
        What is read of it: ``"predict"`` or ``"decision_function"``.
    """

    def __init__(self, seed: int) -> None:
        import pandas

        self.rng = rng = np.random.default_rng(seed)
        self.seed, rows = seed, 60
        self.real = [f"x{i}" for i in range(int(rng.integers(2, 6)))]
        columns: dict[str, Any] = {
            name: rng.normal(size=rows) * 10.0 ** rng.uniform(-2, 2) + rng.normal() * 3
            for name in self.real
        }
        self.categories = []
        if rng.random() < 0.5:
            for k in range(int(rng.integers(1, 3))):
                values: Any = COLORS[: int(rng.integers(2, 5))]
                if rng.random() < 0.4:
                    values = np.sort(rng.choice(9, int(rng.integers(2, 5)), replace=False))
                column = rng.choice(np.array(values, dtype=object), rows)
                column[: len(values)] = list(values)
                self.categories.append(f"c{k}")
                columns[f"c{k}"] = column
        self.frame = pandas.DataFrame(columns)
        for name in self.categories:
            if not isinstance(self.frame[name].iloc[0], str):
                self.frame[name] = self.frame[name].astype(int)
        shuffled = [str(name) for name in rng.permutation(list(self.frame.columns))]
        self.frame = self.frame[shuffled]
        target = sum(np.sin(columns[n] / columns[n].std()) for n in self.real)
        target = target + 0.1 * rng.normal(size=rows)
        self.method, self.is_first = "predict", True
        self.model = self.pipeline(target)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                self.model.fit(self.frame, self.target)
            except (ValueError, IndexError) as error:  # no feature left, targets of 2 axes
                raise NotFittedError(str(error)) from error
        coefficients = np.ravel(getattr(self.model.steps[-1][1], "coef_", 0.0))
        if np.abs(coefficients).max() > 1e6:
            raise NotFittedError("the features are dependent, and the fit is singular")
        # Edges of bins are values of the data, where rounding decides on the bin.
        for name in self.real:
            self.frame[name] += 0.01 * columns[name].std() * rng.normal(size=rows)

    def compare(self) -> tuple[float, float]:
        """The largest difference of the network read from it, and the largest value inside."""
        network = read_network(self.model, logits=self.method == "decision_function")
        numbers = self.frame.copy()
        for name, known in read_categories(self.model).items():
            if isinstance(numbers[name].iloc[0], str):
                numbers[name] = [known[category] for category in self.frame[name]]
        assert network.input_names == tuple(self.frame.columns)
        points = numbers.to_numpy(dtype=float)
        got = network.evaluate(points)
        if hasattr(self.model.steps[-1][1], "activation") and self.method != "predict":
            p = self.model.predict_proba(self.frame)
            p, one = p[:, 1:] if got.shape[1] == 1 else p, got.shape[1] == 1
            odds = np.exp(got - got.max(axis=1, keepdims=True))
            got = 1 / (1 + np.exp(-got)) if one else odds / odds.sum(axis=1, keepdims=True)
            expected = p
        else:
            expected = np.asarray(getattr(self.model, self.method)(self.frame))
        expected = expected.reshape(got.shape)
        size = max(float(np.abs(v).max()) for v in network.activations(points))
        return float(np.abs(got - expected).max()), size

    def flag(self, share: float = 0.5) -> bool:
        """True for this share of calls."""
        return bool(self.rng.random() < share)

    def pipeline(self, target: np.ndarray) -> Any:
        """Transformers, then a predictor; sets what it is fitted to."""
        steps: list[Any] = []
        if self.categories:
            parts = [("real", self.transformer(len(self.real)), self.real)]
            for name in self.categories:
                encoder: Any = self.encoder()
                if self.flag(0.3):
                    encoder = make_pipeline(
                        SimpleImputer(strategy="most_frequent"), encoder
                    )
                parts.append((name, encoder, [name]))
            steps.append(ColumnTransformer(parts, sparse_threshold=0.0))
        for _ in range(int(self.rng.integers(0, 3))):
            steps.append(self.transformer(2))
        if self.flag(0.3):
            classes = int(self.rng.integers(2, 4))
            cuts = np.quantile(target, np.linspace(0, 1, classes + 1)[1:-1])
            self.target, self.method = np.digitize(target, cuts), "decision_function"
            steps.append(self.classifier())
        else:
            self.target = target
            steps.append(self.regressor())
        return make_pipeline(*steps)

    def encoder(self) -> Any:
        """Of a single feature of categories."""
        kind = int(self.rng.integers(4))
        if kind == 0:
            return OrdinalEncoder()
        return OneHotEncoder(
            drop=("first", "if_binary", None)[kind - 1],
            handle_unknown="ignore" if kind == 3 and self.flag() else "error",
        )

    def transformer(self, n: int) -> Any:
        """Of at least ``n`` real features."""
        a, b = self.flag(), self.flag()
        seed = self.seed
        regression = feature_selection.f_regression
        choices = [
            StandardScaler(with_mean=a, with_std=b),
            MinMaxScaler((-1.0, 2.0), clip=a),
            RobustScaler(with_centering=a, with_scaling=b),
            MaxAbsScaler(),
            SimpleImputer(strategy="median"),
            decomposition.PCA(2, whiten=a),
            decomposition.IncrementalPCA(2, whiten=a),
            decomposition.TruncatedSVD(1, random_state=seed),
            decomposition.FactorAnalysis(1, max_iter=20),
            decomposition.FastICA(2, max_iter=20, random_state=seed),
            feature_selection.SelectKBest(regression, k=2),
            feature_selection.SelectPercentile(regression, percentile=60),
            feature_selection.SelectFromModel(linear_model.Ridge(), max_features=2),
            feature_selection.RFE(linear_model.Ridge(), n_features_to_select=2),
            PolynomialFeatures(1, include_bias=a),
            KBinsDiscretizer(3, encode=("ordinal", "onehot-dense")[int(a)]),
            Binarizer(threshold=0.1),
            FeatureUnion([("s", StandardScaler()), ("m", MinMaxScaler())]),
            make_pipeline(StandardScaler(), PolynomialFeatures(1)),
            "passthrough",
        ]
        made = choices[int(self.rng.integers(len(choices)))]
        # Behind others, values fall on edges of bins, where rounding decides.
        if isinstance(made, (KBinsDiscretizer, Binarizer)) and not self.is_first:
            made = StandardScaler()
        self.is_first = False
        return made

    def regressor(self, depth: int = 0) -> Any:
        """Any that is read; ensembles of those at depth 0."""
        m, seed, rng = linear_model, self.seed, self.rng
        mlp = MLPRegressor(
            hidden_layer_sizes=tuple(
                int(k) for k in rng.integers(2, 7, rng.integers(1, 3))
            ),
            activation=str(rng.choice(["relu", "relu", "identity", "tanh", "logistic"])),
            max_iter=4,
            random_state=seed,
        )
        choices: list[Any] = [
            mlp, mlp, mlp, m.LinearRegression(), m.Ridge(), m.Lasso(0.01), m.ElasticNet(0.01),
            m.Lars(), m.LassoLars(0.01), m.BayesianRidge(), m.ARDRegression(max_iter=5),
            m.OrthogonalMatchingPursuit(n_nonzero_coefs=1), m.HuberRegressor(max_iter=20),
            m.QuantileRegressor(alpha=0.01), m.TheilSenRegressor(max_subpopulation=20,
            random_state=seed), m.SGDRegressor(max_iter=20, random_state=seed),
            PLSRegression(1), scaled(svm.SVR(kernel="linear", C=0.1, max_iter=200)),
            svm.LinearSVR(max_iter=200, random_state=seed), scaled(KernelRidge()),
            m.TweedieRegressor(power=0),
        ]  # fmt: skip
        kind = int(rng.integers(len(choices) + (7 if depth == 0 else 0)))
        if kind < len(choices):
            return choices[kind]
        one, two = self.regressor(1), self.regressor(1)
        if kind - len(choices) >= 5:
            self.target = np.stack([self.target, np.abs(self.target)], axis=1)
        members = [("one", one), ("two", two)]
        return [
            TransformedTargetRegressor(one, transformer=StandardScaler()),
            ensemble.VotingRegressor(members, weights=[1.0, float(rng.uniform(0.2, 3))]),
            ensemble.BaggingRegressor(one, 3, random_state=seed),
            ensemble.StackingRegressor(members, m.Ridge(), cv=2, passthrough=self.flag()),
            m.RANSACRegressor(m.Ridge(), min_samples=0.5, random_state=seed),
            multioutput.MultiOutputRegressor(one),
            multioutput.RegressorChain(one, order="random", random_state=seed),
        ][kind - len(choices)]

    def classifier(self) -> Any:
        """With a decision function that is read."""
        m, seed = linear_model, self.seed
        choices = [
            m.LogisticRegression(max_iter=20),
            m.RidgeClassifier(),
            m.SGDClassifier(max_iter=20, random_state=seed),
            m.Perceptron(max_iter=20, random_state=seed),
            svm.LinearSVC(max_iter=200, random_state=seed),
            scaled(svm.SVC(kernel="linear", decision_function_shape="ovo")),
            LinearDiscriminantAnalysis(),
            OneVsRestClassifier(m.RidgeClassifier()),
            MLPClassifier(hidden_layer_sizes=(4,), max_iter=4, random_state=seed),
        ]
        return choices[int(self.rng.integers(len(choices)))]
