"""Points at which a framework and the network read from it are compared.

A difference shows only where it matters: an activation misread on one side shows at
points on that side. The points are chosen by evaluating the network: around the place
where the first layers' units change side, in random directions and at several scales,
those that put most units on sides not seen yet come first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.network import Affine, Network, PiecewiseLinear, Smooth


@dataclass(frozen=True)
class Probing:
    """How points are chosen; by hand, but where it says otherwise.

    Attributes
    ----------
    points : int
        The points that the framework is evaluated at. Half of the random networks of the
        tests show all sides of all units at eight; more cost more forward passes.
    candidates : (int, int)
        The least and the most candidates that the network itself is evaluated at.
    work : float
        The multiplications that choosing may cost in all; measured as about ten
        milliseconds in NumPy.
    distances : tuple of float
        The distances of candidates from the centre, in units of the spread.
    units : int
        The units that are looked at; a random part of larger networks.
    steps : int
        The most iterations to the centre, which need not be exact.
    """

    points: int = 8
    candidates: tuple[int, int] = (8, 64)
    work: float = 1e7
    distances: tuple[float, ...] = (0.3, 1.0, 3.0, 10.0, 100.0)
    units: int = 1000
    steps: int = 20


_PROBING = Probing()

#: A smooth unit shows its shape between these arguments: its tails, where it bends, and
#: both sides of 0. Chosen by hand.
SHAPES = (-4.0, -1.0, 0.0, 1.0, 4.0)


def probing_points(network: Network, largest: float = np.inf, seed: int = 0) -> np.ndarray:
    """Return a few points that show the sides of the network's units.

    Parameters
    ----------
    network : Network
    largest : float
        What no value inside the network may come near: the largest number of the
        framework's floating-point type.
    seed : int
        The seed of a generator of its own; no global state is touched.

    Returns
    -------
    (N, n_inputs) float64 array, N at most :attr:`Probing.points`
    """
    rng = np.random.default_rng(seed)
    weights = sum(n.nonzeros for n in network.nodes if isinstance(n, Affine))
    count = int(np.clip(_PROBING.work / max(weights, 1), *_PROBING.candidates))
    centre, spread = usual_inputs(network)
    n = network.n_inputs
    fixed = [np.zeros(n), centre, np.round(rng.uniform(-2, 2, n)), rng.uniform(0, 1, n)]
    directions = rng.normal(size=(count - len(fixed), n))
    distances = np.resize(np.array(_PROBING.distances), len(directions))
    candidates = np.vstack([fixed, centre + spread * directions * distances[:, None]])
    with np.errstate(over="ignore", invalid="ignore"):
        values = network.activations(candidates)
        size = np.max([np.abs(v).max(axis=1) for v in values], axis=0)
    kept = np.flatnonzero(size < largest / 16)
    if not len(kept):
        return candidates[:1]
    return candidates[kept[_telling(network, [v[kept] for v in values], rng)]]


def usual_inputs(network: Network) -> tuple[np.ndarray, np.ndarray]:
    """Where the inputs of a network usually lie: a centre and a spread for each.

    A network trained on scaled data has its scaler in its first layers: their weights
    are divided by the standard deviations, and their biases hold the means. So at
    the centre, the least-squares solution of ``W x + b = 0``, the units of the first
    layers are about to change side, and a step of one spread changes their
    pre-activations by about 1.
    """
    n = network.n_inputs
    slices = dict(network.input_slices())
    rows: list[tuple[list, np.ndarray]] = []
    squares, used = np.zeros(n), np.zeros(n)
    for node in network.nodes:
        if not isinstance(node, Affine):
            continue
        terms = [(slices[s], w) for s, w in zip(node.sources, node.weights) if s in slices]
        for columns, w in terms:
            square = w.multiply(w) if sp.issparse(w) else w * w
            squares[columns] += np.asarray(square.sum(axis=0)).reshape(-1)
            used[columns] += node.size
        if terms:
            rows.append((terms, node.bias))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        spread = 1.0 / np.sqrt(squares / used * n)
    spread = np.where(np.isfinite(spread) & (spread > 0), spread, 1.0)
    return spread * _least_squares(rows, spread), spread


def _least_squares(rows: list[tuple[list, np.ndarray]], scale: np.ndarray) -> np.ndarray:
    """About the smallest ``u`` with ``W (scale * u) = -b``."""
    from scipy.sparse.linalg import LinearOperator, lsqr

    n = len(scale)
    if not rows:
        return np.zeros(n)
    ends = np.cumsum([len(b) for _, b in rows])

    def forward(u: np.ndarray) -> np.ndarray:
        x = scale * u
        return np.concatenate([sum(w @ x[c] for c, w in terms) for terms, _ in rows])

    def transposed(residuals: np.ndarray) -> np.ndarray:
        result = np.zeros(n)
        for (terms, _), r in zip(rows, np.split(residuals, ends[:-1])):
            for columns, w in terms:
                result[columns] += w.T @ r
        return scale * result

    weights = sum(w.shape[0] * w.shape[1] for terms, _ in rows for _, w in terms)
    steps = int(np.clip(_PROBING.work / max(weights, 1), 1, _PROBING.steps))
    operator = LinearOperator((ends[-1], n), forward, transposed, dtype=float)
    with np.errstate(all="ignore"):
        u = lsqr(operator, -np.concatenate([b for _, b in rows]), iter_lim=steps)[0]
    return u if np.isfinite(u).all() else np.zeros(n)


def _sides(node: PiecewiseLinear | Smooth, x: np.ndarray) -> np.ndarray:
    """The piece of each unit, or which part of its shape a smooth one shows."""
    if isinstance(node, PiecewiseLinear):
        return node.piece(x)
    return np.asarray(np.digitize(x, SHAPES))


def _telling(
    network: Network, values: list[np.ndarray], rng: np.random.Generator
) -> np.ndarray:
    """Positions of the points that show most, each for what those before it don't."""
    pieces = [
        _sides(node, values[node.source])
        for node in network.nodes
        if isinstance(node, (PiecewiseLinear, Smooth))
    ]
    count = len(values[0])
    if not pieces:
        return np.arange(min(count, _PROBING.points))
    sides = np.hstack(pieces)
    if sides.shape[1] > _PROBING.units:
        sides = sides[:, rng.choice(sides.shape[1], _PROBING.units, replace=False)]
    units = np.arange(sides.shape[1])
    seen = np.zeros((sides.shape[1], int(sides.max()) + 1), dtype=bool)
    chosen: list[int] = []
    while len(chosen) < min(count, _PROBING.points):
        new = np.array([np.count_nonzero(~seen[units, s]) for s in sides], dtype=float)
        new[chosen] = -1.0
        best = int(new.argmax())
        chosen.append(best)
        seen[units, sides[best]] = True
    return np.array(chosen)
