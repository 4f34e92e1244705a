"""Estimators that draw a curve through points: isotonic regression, splines, quantiles.

Of one feature they are piecewise linear, and read exactly: a curve through points is one
unit, constant beyond its ends, and splines of degree 1 are sums of ReLUs, one for each inner
knot of a feature. Splines of another degree, periodic ones, and quantiles that become a
normal distribution are refused, each with what would be read instead.

Pieces may be steep, where two points are near each other; arguments are moved to the middle
of the points first, so that rounding in them is small.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pyomo_relu.network.activations import Pieces, relu
from pyomo_relu.readers.reader_tables import enter
from pyomo_relu.readers.sklearn.common import attribute, kind_of, unsupported
from pyomo_relu.readers.sklearn.transformers import INVERSES, TRANSFORMERS
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.values import Tensor


def curve_through(name: str, x: np.ndarray, y: np.ndarray) -> Pieces:
    """The curve through points of each unit, constant before the first and after the last.

    Parameters
    ----------
    name : str
        What the pieces are called.
    x, y : (size, k) arrays
        Ascending arguments, no two of a unit equal, and values.
    """
    slopes = np.diff(y, axis=1) / np.diff(x, axis=1)
    # Rounding is least where a piece is anchored at its end next to 0.
    near = abs(x[:, 1:]) < abs(x[:, :-1])
    at, value = (np.where(near, v[:, 1:], v[:, :-1]) for v in (x, y))
    flat = np.zeros((len(x), 1))
    return (
        name,
        x,
        np.hstack([flat, slopes, flat]),
        np.hstack([y[:, :1], value - slopes * at, y[:, -1:]]),
    )


def _drawn(graph: TensorGraph, name: str, x: Tensor, at: Any, values: Any) -> Tensor:
    """Each entry of ``x`` through the curve of its (size, k) points."""
    middle = 0.5 * (at[:, 0] + at[:, -1])
    factor = 2.0 / (at[:, -1] - at[:, 0])
    moved = graph.standardize(f"{name}_from_middle", x, middle, factor)
    places = (at - middle[:, None]) * factor[:, None]
    if (np.diff(places, axis=1) <= 0.0).any():
        raise ValueError(
            f"'{name}' has points that only rounding tells apart, so that its curve jumps; "
            "fit it on rounded data."
        )
    return graph.piecewise(name, moved, curve_through(f"{name}_curve", places, values))


# ----------------------------------------------------------------- isotonic regression
def isotonic(graph: TensorGraph, estimator: Any, x: Tensor) -> Tensor:
    """``IsotonicRegression.predict``: the curve through its thresholds."""
    points = attribute(estimator, "X_thresholds_"), estimator.y_thresholds_
    at, values = (np.asarray(v, dtype=float)[None] for v in points)
    if x.size != 1:
        raise ValueError(f"{kind_of(estimator)} reads one feature; here it gets {x.size}.")
    if estimator.out_of_bounds != "clip":
        raise ValueError(
            f"{kind_of(estimator)} has out_of_bounds={estimator.out_of_bounds!r}, so that it "
            f"has no value outside of {float(at[0, 0])} to {float(at[0, -1])}. Call "
            "set_params(out_of_bounds='clip'), which works after fit, too, and bound the "
            "input where values outside aren't wanted."
        )
    if at.shape[1] == 1:
        return graph.matmul("isotonic", x, np.zeros((1, 1)), values[0])
    return _drawn(graph, "isotonic", x, at, values)


# --------------------------------------------------------------------------- quantiles
def _quantiles(estimator: Any) -> tuple[np.ndarray, np.ndarray]:
    """(n_features, k) quantiles of the features, and the levels they belong to.

    Raises
    ------
    ValueError
        If levels become those of a normal distribution.
    """
    found = np.asarray(attribute(estimator, "quantiles_"), dtype=float).T
    if estimator.output_distribution != "uniform":
        raise unsupported(
            estimator,
            f"with output_distribution={estimator.output_distribution!r} is not piecewise "
            "linear; with 'uniform' it would be read",
        )
    return found, np.broadcast_to(np.asarray(estimator.references_, float), found.shape)


@enter(TRANSFORMERS, "QuantileTransformer")
def _quantile(graph: TensorGraph, name: str, estimator: Any, x: Tensor) -> Tensor:
    """The level of each feature among its quantiles."""
    quantiles, levels = _quantiles(estimator)
    if quantiles.shape[1] == 1:
        raise unsupported(estimator, "with a single quantile jumps, and is not supported")
    twice = np.flatnonzero((np.diff(quantiles, axis=1) <= 0.0).any(axis=1))
    if len(twice):
        raise unsupported(
            estimator,
            f"jumps where feature {int(twice[0])} has one value many times, at two of its "
            "quantiles; with fewer n_quantiles it may be read",
        )
    return _drawn(graph, name, x, quantiles, levels)


@enter(INVERSES, "QuantileTransformer")
def _quantile_back(graph: TensorGraph, name: str, estimator: Any, y: Tensor) -> Tensor:
    quantiles, levels = _quantiles(estimator)
    if len(quantiles) != y.size:
        raise ValueError(
            f"{kind_of(estimator)} was fitted on {len(quantiles)} outputs; the network has "
            f"{y.size}."
        )
    if quantiles.shape[1] == 1:
        return graph.matmul(name, y, np.zeros((y.size, y.size)), quantiles[:, 0])
    return _drawn(graph, name, y, levels, quantiles)


# ----------------------------------------------------------------------------- splines
def _knots(estimator: Any) -> np.ndarray:
    """The (n_features, k) knots of splines of degree 1.

    Raises
    ------
    ValueError
        If splines are of another degree, periodic, or have no value beyond their knots.
    """
    splines = attribute(estimator, "bsplines_")
    if estimator.degree != 1:
        raise unsupported(
            estimator,
            f"with degree={estimator.degree} is not piecewise linear and continuous; with "
            "degree=1 it would be read",
        )
    if estimator.extrapolation == "periodic":
        raise unsupported(
            estimator,
            "with extrapolation='periodic' repeats without end; fitted with 'constant' or "
            "'linear' it would be read",
        )
    if estimator.extrapolation == "error":
        raise unsupported(
            estimator,
            "with extrapolation='error' has no value beyond its knots; with 'constant' or "
            "'linear', which may be set after fit, it would be read",
        )
    if estimator.extrapolation == "linear" and len(splines) > 1:
        # scikit-learn 1.9 counts its degree up at each feature, and so moves the ends of all
        # but the first one.
        raise unsupported(
            estimator,
            "with extrapolation='linear' takes wrong ends for all features but the first in "
            "scikit-learn; fitted with extrapolation='continue', which for degree=1 means "
            "the same, it would be read",
        )
    knots = np.array([spline.t[1:-1] for spline in splines], dtype=float)
    if (np.diff(knots, axis=1) <= 0.0).any():
        raise unsupported(
            estimator,
            "has knots that coincide, where it jumps; with fewer n_knots it may be read",
        )
    return knots


@enter(TRANSFORMERS, "SplineTransformer")
def _splines(graph: TensorGraph, name: str, estimator: Any, x: Tensor) -> Tensor:
    """Hats around the knots of each feature: their slopes change by ReLUs at inner knots."""
    knots = _knots(estimator)
    size, k = knots.shape
    if estimator.extrapolation == "constant":
        x = graph.clip(f"{name}_within", x, knots[:, 0], knots[:, -1])
    width = knots[:, -1] - knots[:, 0]
    z = graph.standardize(f"{name}_from_first", x, knots[:, 0], 1.0 / width)
    places = (knots - knots[:, :1]) / width[:, None]
    # Hat j rises to 1 at knot j; a row of slopes for each stretch between two knots.
    eye = np.eye(k)
    slopes = np.diff(eye, axis=0)[None] / np.diff(places, axis=1)[:, :, None]
    kept = np.arange(k if estimator.include_bias else k - 1)
    outputs = size * len(kept)
    straight = np.zeros((outputs, size))
    bends = np.zeros((outputs, size * (k - 2)))
    bias = np.zeros(outputs)
    for i in range(size):
        own = slice(i * len(kept), (i + 1) * len(kept))
        straight[own, i] = slopes[i, 0, kept]
        bends[own, i * (k - 2) : (i + 1) * (k - 2)] = np.diff(slopes[i], axis=0)[:, kept].T
        bias[own] = eye[0, kept]
    terms = [(z, straight)]
    if k > 2:
        feature = np.repeat(np.arange(size), k - 2)
        past = graph.rearrange(f"{name}_knots", [z], feature[None], batch=z.batch)
        past = graph.scale(f"{name}_past_knots", past, 1.0, -places[:, 1:-1].reshape(-1))
        terms.append((graph.piecewise(f"{name}_bends", past, relu()), bends))
    return graph.affine(name, terms, bias, (1, outputs), x.batch)
