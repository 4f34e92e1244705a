r"""What two networks that differ in their units can differ by over boxes of inputs.

A network with smooth units and the one with curves in their places have the same affine
layers. The difference :math:`\delta = z - z'` of a pre-activation becomes, behind a unit,

.. math::
    \phi(z) - c(z') = e(z) + s\,\delta, \qquad e = \phi - c,

where :math:`s` is between the least and the largest slope of the curve from :math:`z` to
:math:`z'`; behind a unit that both networks have, the same holds with :math:`e = 0`, and
behind a maximum :math:`\delta` is a convex combination of those of its arguments. So the
difference of an output is :math:`\sum_i G_i\,e_i(z_i)` over all smooth units :math:`i`, where
:math:`G_i` is a product of weights and slopes. Intervals of :math:`z`, :math:`e` and
:math:`s` give, layer by layer, bounds of :math:`\delta` forwards and bounds of :math:`G`
backwards; both bound the difference of the outputs. On small boxes they are nearly exact, so
boxes are halved where the bound is largest.

Rounding: of each affine layer what both networks may round by is added to :math:`\delta`; the
products of intervals are widened by a share of 1e-10.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.base.rounding import EPS
from pyomo_relu.bounds.difference.units import UnitErrors
from pyomo_relu.bounds.interval import rounding_slack
from pyomo_relu.network import Affine, Input, Max, Network, PiecewiseLinear, Smooth
from pyomo_relu.network.weights import absolute

#: Products of intervals are widened by this share: far more than their rounding.
WIDENED = 1e-10

Arrays = list[np.ndarray]
Interval = tuple[np.ndarray, np.ndarray]


@dataclass
class Difference:
    """Bounds over N boxes.

    Attributes
    ----------
    low, high : (N, n_outputs) arrays
        Of ``true - curves``.
    steep : (N, n_outputs, n_inputs) array
        How fast an output can change with an input, nearly; which one to halve a box by.
    sensitivity : dict
        For each smooth node the (N, n_outputs, size) largest sizes of ``G``.
    """

    low: np.ndarray
    high: np.ndarray
    steep: np.ndarray
    sensitivity: dict[int, np.ndarray]


def _times(a: Interval, b: Interval) -> Interval:
    """The product of two intervals, entry by entry."""
    four = [x * y for x in a for y in b]
    return np.minimum.reduce(four), np.maximum.reduce(four)


def _through(w: object, low: np.ndarray, high: np.ndarray) -> Interval:
    """``x @ w.T`` for intervals of x."""
    center, radius = 0.5 * (low + high), 0.5 * (high - low)
    size = absolute(w)
    if sp.issparse(w):
        c, r = (w @ center.T).T, (size @ radius.T).T  # type: ignore[operator]
        scale = (size @ abs(center).T).T
    else:
        c, r, scale = center @ w.T, radius @ size.T, abs(center) @ size.T  # type: ignore[attr-defined]
    r = r * (1.0 + WIDENED) + WIDENED * scale
    return c - r, c + r


def _back(w: object, low: np.ndarray, high: np.ndarray) -> Interval:
    """``g @ w`` for intervals of g, arrays (N, q, size)."""
    flat = low.reshape(-1, low.shape[-1]), high.reshape(-1, high.shape[-1])
    a, b = _through(w.T if not sp.issparse(w) else sp.csr_array(w.T), *flat)  # type: ignore[attr-defined]
    return a.reshape(*low.shape[:-1], -1), b.reshape(*low.shape[:-1], -1)


def differing(network: Network) -> list[bool]:
    """For each node, whether it depends on a smooth unit."""
    found: list[bool] = []
    for node in network.nodes:
        smooth = isinstance(node, Smooth)
        found.append(smooth or any(found[s] for s in node.sources))
    return found


@dataclass
class _Forward:
    """What is known of both networks over N boxes, as far as a pass has come.

    Attributes
    ----------
    lows, highs : sequences of (N, size) arrays
        Bounds of every node of the true network.
    found : list
        Bounds of each node's difference.
    own, slopes : dict
        What nodes add to the difference themselves, and the slopes of their units.
    """

    lows: Sequence[np.ndarray]
    highs: Sequence[np.ndarray]
    found: list[Interval] = field(default_factory=list)
    own: dict[int, Interval] = field(default_factory=dict)
    slopes: dict[int, Interval] = field(default_factory=dict)

    def range(self, i: int) -> Interval:
        """Bounds of a node of the true network."""
        return self.lows[i], self.highs[i]

    def reach(self, i: int) -> Interval:
        """All numbers between entries of both networks: from ``z`` to ``z' = z - delta``."""
        (low, high), (a, b) = self.range(i), self.found[i]
        return np.minimum(low, low - b), np.maximum(high, high - a)


class Differences:
    """Bounds of the difference of two networks, over many boxes at once.

    Parameters
    ----------
    true : Network
        With smooth units.
    curves : Network
        With curves in their places.
    errors : mapping
        The :class:`UnitErrors` of each smooth node, by its position.
    """

    def __init__(
        self, true: Network, curves: Network, errors: Mapping[int, UnitErrors]
    ) -> None:
        self.true, self.curves, self.errors = true, curves, errors
        self.differs = differing(true)

    def __call__(
        self, lows: Sequence[np.ndarray], highs: Sequence[np.ndarray]
    ) -> Difference:
        """Bounds over N boxes.

        Parameters
        ----------
        lows, highs : sequences of (N, size) arrays
            Bounds of every node of the true network over each box.
        """
        known = _Forward(lows, highs)
        for i in range(len(self.true.nodes)):
            self._add(i, known)
        return self._backward(known)

    # ------------------------------------------------------------------------ forwards
    def _add(self, i: int, known: _Forward) -> None:
        """The next node's difference, what it adds itself, and its slopes."""
        node, found = self.true.nodes[i], known.found
        if not self.differs[i]:  # both networks compute the very same there
            none = np.zeros(np.shape(known.lows[i]))
            found.append((none, none))
            if isinstance(node, PiecewiseLinear):
                known.slopes[i] = node.slope_range(*known.range(node.source))
        elif isinstance(node, Affine):
            low, high = known.own[i] = self._rounding(node, known)
            for s, w in zip(node.sources, node.weights):
                a, b = _through(w, *found[s])
                low, high = low + a, high + b
            found.append((low, high))
        elif isinstance(node, Max):
            can, starts = _contend(node, known), node.indptr[:-1]
            a, b = (side[:, node.indices] for side in found[node.source])
            a, b = np.where(can, a, np.inf), np.where(can, b, -np.inf)
            low = np.minimum.reduceat(a, starts, axis=1)
            found.append((low, np.maximum.reduceat(b, starts, axis=1)))
        else:
            known.own[i], known.slopes[i] = self._unit(i, known)
            a, b = _times(found[node.sources[0]], known.slopes[i])
            found.append((a + known.own[i][0], b + known.own[i][1]))

    def _rounding(self, node: Affine, known: _Forward) -> Interval:
        """What an affine node of both networks may round by."""
        sizes = []
        for s in node.sources:
            (low, high), (a, b) = known.range(s), known.found[s]
            sizes.append(np.maximum(abs(low), abs(high)) + np.maximum(-a, b))
        slack = 2.0 * rounding_slack(node, sizes)
        return -slack, slack

    def _unit(self, i: int, known: _Forward) -> tuple[Interval, Interval]:
        """The errors of the units of a node, and the range of their slopes."""
        node = self.curves.nodes[i]
        assert isinstance(node, PiecewiseLinear)
        reach = known.reach(node.source)
        slopes = node.slope_range(*reach)
        size = np.maximum(abs(reach[0]), abs(reach[1])) * abs(node.slopes).max(axis=1)
        slack = 8.0 * EPS * (size + abs(node.intercepts).max(axis=1))
        if i in self.errors:
            least, greatest = self.errors[i].over(*known.range(node.source))
            return (least - slack, greatest + slack), slopes
        if node.function == "relu":
            slack = np.zeros_like(size)
        return (-slack, slack), slopes

    # ----------------------------------------------------------------------- backwards
    def _backward(self, known: _Forward) -> Difference:
        own, slopes = known.own, known.slopes
        network = self.true
        n, q = len(known.lows[0]), network.n_outputs
        gains: list[Interval | None] = [None] * len(network.nodes)

        def add(i: int, g: Interval) -> None:
            old = gains[i]
            gains[i] = g if old is None else (old[0] + g[0], old[1] + g[1])

        eye = np.broadcast_to(np.eye(q), (n, q, q))
        low, high = np.zeros((n, q)), np.zeros((n, q))
        for i, columns in network.output_slices():
            add(i, (eye[:, :, columns], eye[:, :, columns]))
        first_low, first_high = (
            np.hstack([known.found[i][side] for i in network.outputs]) for side in (0, 1)
        )
        sensitivity: dict[int, np.ndarray] = {}
        steep = np.zeros((n, q, network.n_inputs))
        inputs = dict(network.input_slices())
        for i in range(len(network.nodes) - 1, -1, -1):
            node, g = network.nodes[i], gains[i]
            if g is None:
                continue
            gains[i] = None
            if i in own:
                a, b = _times(g, tuple(side[:, None, :] for side in own[i]))  # type: ignore[arg-type]
                low, high = low + a.sum(axis=2), high + b.sum(axis=2)
                wide = WIDENED * (abs(a) + abs(b)).sum(axis=2)
                low, high = low - wide, high + wide
            if isinstance(node, Smooth):
                sensitivity[i] = np.maximum(abs(g[0]), abs(g[1]))
            if isinstance(node, Input):
                steep[:, :, inputs[i]] = np.maximum(abs(g[0]), abs(g[1]))
            elif isinstance(node, Affine):
                for s, w in zip(node.sources, node.weights):
                    add(s, _back(w, *g))
            elif isinstance(node, Max):
                size = network.nodes[node.source].size
                add(node.source, _back_max(node, g, _contend(node, known), size))
            else:
                add(node.sources[0], _times(g, tuple(s[:, None, :] for s in slopes[i])))  # type: ignore[arg-type]
        return Difference(
            np.maximum(low, first_low), np.minimum(high, first_high), steep, sensitivity
        )


def _contend(node: Max, known: _Forward) -> np.ndarray:
    """Which arguments of maxima may be the largest, (N, arguments) bool."""
    low, high = known.reach(node.source)
    least, most = low[:, node.indices], high[:, node.indices]
    best = np.maximum.reduceat(least, node.indptr[:-1], axis=1)
    groups = np.repeat(np.arange(node.size), np.diff(node.indptr))
    return np.asarray(most >= best[:, groups])


def _back_max(node: Max, g: Interval, can: np.ndarray, size: int) -> Interval:
    """Gains of the arguments of maxima: any share of the gain, or all of it for one."""
    found = np.zeros((2, *g[0].shape[:2], size))
    for j in range(node.size):
        group = slice(node.indptr[j], node.indptr[j + 1])
        own = can[:, None, group]
        lone = own.sum(axis=2, keepdims=True) == 1
        for total, side, cut in zip(found, g, (np.minimum, np.maximum)):
            gain = side[:, :, j : j + 1]
            share = np.where(own, np.where(lone, gain, cut(gain, 0.0)), 0.0)
            for k, i in enumerate(node.indices[group]):  # which may be there twice
                total[:, :, i] += share[:, :, k]
    return found[0], found[1]
