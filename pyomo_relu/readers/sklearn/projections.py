"""Transformers that are linear: decompositions, and those that select columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyomo_relu.readers.reader_tables import enter
from pyomo_relu.readers.sklearn.common import attribute, unsupported
from pyomo_relu.readers.sklearn.transformers import INVERSES, TRANSFORMERS
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.values import Tensor


def _projected(
    graph: TensorGraph, name: str, x: Tensor, matrix: Any, mean: Any = None
) -> Tensor:
    """``(x - mean) @ matrix.T``; no mean is 0."""
    matrix = matrix.toarray() if hasattr(matrix, "toarray") else matrix
    matrix = np.asarray(matrix, dtype=float)
    if mean is not None:
        x = graph.scale(f"{name}_centred", x, 1.0, -np.asarray(mean, dtype=float))
    return graph.matmul(name, x, matrix.T)


# ---------------------------------------------------------------------- decompositions
@enter(TRANSFORMERS, "PCA", "IncrementalPCA", "TruncatedSVD")
def _pca(graph: TensorGraph, name: str, estimator: Any, x: Tensor) -> Tensor:
    matrix = np.asarray(attribute(estimator, "components_"), dtype=float)
    if getattr(estimator, "whiten", False):
        variance = np.asarray(estimator.explained_variance_)
        root = np.maximum(np.sqrt(variance), np.finfo(variance.dtype).eps)
        matrix = matrix / root.astype(float)[:, None]
    return _projected(graph, name, x, matrix, getattr(estimator, "mean_", None))


@enter(INVERSES, "PCA", "IncrementalPCA")
def _pca_back(graph: TensorGraph, name: str, estimator: Any, y: Tensor) -> Tensor:
    matrix = np.asarray(attribute(estimator, "components_"), dtype=float)
    if estimator.whiten:
        matrix = np.sqrt(estimator.explained_variance_)[:, None] * matrix
    return graph.matmul(name, y, matrix, estimator.mean_)


@enter(TRANSFORMERS, "FastICA", "GaussianRandomProjection", "SparseRandomProjection")
def _unmixed(graph: TensorGraph, name: str, estimator: Any, x: Tensor) -> Tensor:
    matrix = attribute(estimator, "components_")
    mean = estimator.mean_ if getattr(estimator, "whiten", False) else None
    return _projected(graph, name, x, matrix, mean)


@enter(TRANSFORMERS, "NeighborhoodComponentsAnalysis")
def _components(graph: TensorGraph, name: str, estimator: Any, x: Tensor) -> Tensor:
    return _projected(graph, name, x, attribute(estimator, "components_"))


@enter(TRANSFORMERS, "CCA", "PLSCanonical", "PLSRegression", "PLSSVD")
def _scores(graph: TensorGraph, name: str, estimator: Any, x: Tensor) -> Tensor:
    """The scores of partial least squares: standardized features times the rotations."""
    rotations = getattr(estimator, "x_rotations_", None)
    if rotations is None:  # PLSSVD
        rotations = attribute(estimator, "x_weights_")
    scale = 1.0 / np.asarray(estimator._x_std, dtype=float)
    x = graph.standardize(f"{name}_centred", x, estimator._x_mean, scale)
    return graph.matmul(name, x, np.asarray(rotations, dtype=float))


@enter(TRANSFORMERS, "FeatureAgglomeration")
def _agglomerated(graph: TensorGraph, name: str, estimator: Any, x: Tensor) -> Tensor:
    """The means of groups of features."""
    labels = np.asarray(attribute(estimator, "labels_"))
    if estimator.pooling_func is not np.mean:
        raise unsupported(estimator, "with another pooling_func than np.mean is not read")
    groups = labels[None, :] == np.unique(labels)[:, None]
    return _projected(graph, name, x, groups / groups.sum(axis=1, keepdims=True))


@enter(TRANSFORMERS, "FactorAnalysis")
def _factors(graph: TensorGraph, name: str, estimator: Any, x: Tensor) -> Tensor:
    """The means of the factors (Barber, *Bayesian Reasoning*, section 21.2.33)."""
    loadings = np.asarray(attribute(estimator, "components_"), dtype=float)
    weighted = loadings / estimator.noise_variance_
    covariance = np.linalg.inv(np.eye(len(loadings)) + weighted @ loadings.T)
    return _projected(graph, name, x, covariance.T @ weighted, estimator.mean_)


@enter(TRANSFORMERS, "LinearDiscriminantAnalysis")
def _discriminants(graph: TensorGraph, name: str, estimator: Any, x: Tensor) -> Tensor:
    if estimator.solver == "lsqr":
        raise unsupported(estimator, "with solver='lsqr' has no transform")
    scalings = attribute(estimator, "scalings_")[:, : estimator._max_components]
    mean = estimator.xbar_ if estimator.solver == "svd" else None
    return _projected(graph, name, x, scalings.T, mean)


@enter(TRANSFORMERS, "PolynomialFeatures")
def _polynomial(graph: TensorGraph, name: str, estimator: Any, x: Tensor) -> Tensor:
    """Monomials, each the product of one of a degree less and of a feature."""
    attribute(estimator, "n_output_features_")
    monomials: list[tuple[int, ...]] = [
        tuple(np.repeat(np.arange(x.size), row).tolist()) for row in estimator.powers_
    ]
    # Where a monomial is among the entries of all levels.
    place: dict[tuple[int, ...], int] = {(k,): k for k in range(x.size)}
    levels = [x]
    for degree in range(2, max(map(len, monomials), default=0) + 1):
        found = sorted({m[:degree] for m in monomials if len(m) >= degree})
        start = sum(level.size for level in levels)
        codes = np.array([[place[m[:-1]] for m in found], [m[-1] for m in found]])
        factors = [
            graph.rearrange(f"{name}_{what}_{degree}", levels, code[None], batch=x.batch)
            for what, code in zip(("lower", "feature"), codes)
        ]
        levels.append(graph.multiply(f"{name}_degree_{degree}", *factors))
        place |= {m: start + k for k, m in enumerate(found)}
    codes = np.array([[place[m] if m else -1 for m in monomials]])
    return graph.rearrange(name, levels, codes, np.ones(1), batch=x.batch)


# --------------------------------------------------------------------------- selectors
@enter(
    TRANSFORMERS,
    *"""
    GenericUnivariateSelect RFE RFECV SelectFdr SelectFpr SelectFromModel SelectFwe
    SelectKBest SelectPercentile SequentialFeatureSelector VarianceThreshold
    """.split(),
)
def _selected(graph: TensorGraph, name: str, estimator: Any, x: Tensor) -> Tensor:
    kept = np.flatnonzero(estimator.get_support())
    if not len(kept):
        raise unsupported(estimator, "keeps no feature")
    return graph.rearrange(name, [x], kept[None, :], batch=x.batch)
