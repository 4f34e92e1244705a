"""Networks in exact arithmetic, and the check that planes hold in it."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from pyomo_relu.bounds.planes import Planes
from pyomo_relu.network import Affine, Input, Max, Network, PiecewiseLinear
from pyomo_relu.network.weights import dense

Values = list[Fraction]


def fractions(values: np.ndarray) -> Values:
    return [Fraction(v) for v in np.asarray(values).tolist()]


def dot(row: np.ndarray, x: Values) -> Fraction:
    return sum((Fraction(a) * v for a, v in zip(row.tolist(), x) if a), Fraction(0))


def exact_outputs(network: Network, x: np.ndarray) -> Values:
    """The outputs at one point, without any rounding."""
    start, found = dict(network.input_slices()), []
    for i, node in enumerate(network.nodes):
        if isinstance(node, Input):
            found.append(fractions(x[start[i]]))
        elif isinstance(node, Affine):
            total = fractions(node.bias)
            for w, s in zip(node.weights, node.sources):
                total = [t + dot(row, found[s]) for t, row in zip(total, dense(w))]
            found.append(total)
        elif isinstance(node, PiecewiseLinear):
            found.append([_unit(node, k, v) for k, v in enumerate(found[node.source])])
        else:
            assert isinstance(node, Max)
            own = found[node.source]
            found.append([max(own[j] for j in node.group(k)) for k in range(node.size)])
    return [v for i in network.outputs for v in found[i]]


def _unit(node: PiecewiseLinear, k: int, x: Fraction) -> Fraction:
    p = sum(x >= Fraction(t) for t in node.breakpoints[k].tolist())
    return Fraction(float(node.slopes[k, p])) * x + Fraction(float(node.intercepts[k, p]))


def assert_hold(planes: Planes, network: Network, points: np.ndarray) -> None:
    """Every plane and every bound holds at points, exactly and for the computed outputs."""
    for x in points:
        at = fractions(x)
        for y in (exact_outputs(network, x), fractions(network.evaluate(x))):
            for rows, owners, sign in (
                (planes.below, planes.of_below, 1),
                (planes.above, planes.of_above, -1),
            ):
                for row, k in zip(rows, owners.tolist()):
                    gap = y[k] - dot(row[:-1], at) - Fraction(float(row[-1]))
                    assert sign * gap >= 0, f"output {k} at {x}: {float(gap):g}"
            for k, v in enumerate(y):
                assert planes.low[k] <= v <= planes.high[k]


def points_of(
    network: Network,
    low: np.ndarray,
    high: np.ndarray,
    rng: np.random.Generator,
    count: int,
) -> np.ndarray:
    """Corners of a box, random points, and points where a neuron is at a breakpoint."""
    n = len(low)
    corners = np.where(rng.random((count, n)) < 0.5, low, high)
    inner = low + rng.random((count, n)) * (high - low)
    inner = np.clip(inner, low, high)
    return np.concatenate([corners, inner, _at_breakpoints(network, inner)])


def _at_breakpoints(network: Network, points: np.ndarray) -> np.ndarray:
    """Between neighbouring points, where the pattern of pieces changes."""
    found = []
    for a, b in zip(points[:-1], points[1:]):
        left, right, first = 0.0, 1.0, _pattern(network, a)
        for _ in range(60):
            middle = 0.5 * (left + right)
            if _pattern(network, a + middle * (b - a)) == first:
                left = middle
            else:
                right = middle
        found += [
            np.clip(a + t * (b - a), np.minimum(a, b), np.maximum(a, b))
            for t in (left, right)
        ]
    return np.array(found).reshape(-1, points.shape[1])


def _pattern(network: Network, x: np.ndarray) -> bytes:
    values = network.activations(x[None])
    return b"".join(
        node.piece(values[node.source]).tobytes()
        for node in network.nodes
        if isinstance(node, PiecewiseLinear)
    )
