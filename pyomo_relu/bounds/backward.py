r"""Backward linear bounds through the whole graph, for one box or for many at once.

A query ``q`` is a row of coefficients on a node. The pass goes from that node back to
the inputs and keeps one inequality true for every forward pass in the box:

.. math:: q(x) \ge \sum_i A_i x_i + c - e

with one coefficient array ``A_i`` for each node not yet replaced. An affine node is
replaced by its weights, a piecewise-linear node or a maximum by its lower line where
the coefficient is positive and by its upper line where it is negative. An upper bound
is the lower bound of the negative row.

Rounding
--------
The error term ``e`` makes the result rigorous, not only the float64 result of a
rigorous recipe. Replacing ``x_i = W x_s + b`` by computed products costs at most
``gamma * |A_i| (|W| |x_s| + |b|)`` with ``gamma = 2 (terms) eps`` (Higham, "Accuracy and
Stability of Numerical Algorithms", section 3.1), where ``|x_s|`` is the largest
magnitude the bounds allow. The same amount once more covers the rounding of the
forward pass itself, so that a computed activation is inside as well as a real one.
Lines of :mod:`pyomo_relu.bounds.linear` include their own rounding. All of it is the
vector :meth:`Backward.noise` of a node, and ``e`` adds up ``|A_i| @ noise_i``.

Source: Zhang et al., arXiv 1811.00866 (CROWN), eq. 7; Singh et al., POPL 2019.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.bounds.linear import EPS, Lines, MaxPlanes, max_planes, piecewise_lines
from pyomo_relu.network import Affine, Input, Max, Network, PiecewiseLinear
from pyomo_relu.network.weights import absolute, row_nonzeros

# Smaller than any bound that matters, larger than what underflow can lose.
TINY = 1e-290

Relaxed = Lines | MaxPlanes


class Backward:
    """Backward passes over given bounds of the nodes.

    Parameters
    ----------
    network : Network
    lower, upper : (N, n_inputs) arrays
        The boxes.
    lows, highs : list of (N, size) or (1, size) arrays
        Valid bounds of every node that a pass meets; the lists may grow between
        passes, but a node's bounds may not change once a pass has met it.
    """

    def __init__(
        self,
        network: Network,
        lower: np.ndarray,
        upper: np.ndarray,
        lows: list[np.ndarray],
        highs: list[np.ndarray],
    ) -> None:
        self.network = network
        self.lows, self.highs = lows, highs
        self.center = 0.5 * (lower + upper)
        radius = np.maximum(upper - self.center, self.center - lower)
        n = lower.shape[1]
        self.radius = radius + 2.0 * (n + 8.0) * EPS * (abs(self.center) + radius)
        self.batch = len(lower)
        self.slices = dict(network.input_slices())
        self.n_readers = [len(r) for r in network.readers()]
        self._lines: dict[tuple[int, str], Relaxed] = {}
        self._noise: dict[int, np.ndarray] = {}
        self._line_noises: dict[object, np.ndarray] = {}

    def magnitude(self, i: int) -> np.ndarray:
        """Largest absolute value of each entry of a node."""
        return np.maximum(abs(self.lows[i]), abs(self.highs[i]))

    def lines(self, i: int, rule: str) -> Relaxed:
        """The relaxation of a piecewise-linear or max node over its source's bounds."""
        if (i, rule) not in self._lines:
            node = self.network.nodes[i]
            low, high = self.lows[node.sources[0]], self.highs[node.sources[0]]
            if isinstance(node, PiecewiseLinear):
                self._lines[i, rule] = piecewise_lines(node, low, high, rule)
            else:
                assert isinstance(node, Max)
                self._lines[i, rule] = max_planes(node, low, high, rule)
        return self._lines[i, rule]

    def noise(self, i: int) -> np.ndarray:
        """What rounding costs per unit of coefficient on each entry of an affine node."""
        if i not in self._noise:
            node = self.network.nodes[i]
            assert isinstance(node, Affine)
            total = abs(node.bias)[None, :]
            terms = np.full(node.size, node.size + len(self.network.nodes) + 8.0)
            for w, s in zip(node.weights, node.sources):
                terms = terms + row_nonzeros(w)
                total = total + times(self.magnitude(s), absolute(w).T)
            self._noise[i] = 2.0 * EPS * terms * total
        return self._noise[i]

    def run(
        self,
        node: int,
        rows: np.ndarray,
        rule: str | Mapping[int, Relaxed],
        trace: dict[int, np.ndarray] | None = None,
        rigorous: bool = True,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Linear lower bounds of queries on a node, in the inputs.

        Parameters
        ----------
        node : int
        rows : (q, size) or (N, q, size) array
            Coefficients of each query; a 2-dimensional one serves every box.
        rule : str or mapping
            A rule of :mod:`pyomo_relu.bounds.linear`, or relaxations by node.
        trace : dict, optional
            Receives the coefficients on each relaxed node, before it is replaced.
        rigorous : bool
            Whether to add up the error term; without it, ``e`` means nothing.

        Returns
        -------
        A : (N or 1, q, n_inputs) array
        c : (N or 1, q) array
        e : (N or 1, q) array
            ``query >= A x + c - e``.
        """
        nodes = self.network.nodes
        coefs = {node: rows[None] if rows.ndim == 2 else rows}
        c = e = np.zeros((1, coefs[node].shape[1]))
        paid: set[int] = set()  # affine nodes whose noise their reader has taken over
        for i in range(node, -1, -1):
            if i not in coefs or isinstance(nodes[i], Input):
                continue
            a, here = coefs.pop(i), nodes[i]
            if isinstance(here, Affine):
                if rigorous and i not in paid:
                    e = e + contract(abs(a), self.noise(i))
                c = c + contract(a, here.bias[None, :])
                for w, s in zip(here.weights, here.sources):
                    _add(coefs, s, times(a, w))
                continue
            if trace is not None:
                trace[i] = a
            relaxed = self.lines(i, rule) if isinstance(rule, str) else rule[i]
            if isinstance(here, Max):
                assert isinstance(relaxed, MaxPlanes)
                new, c, e = self._replace_max(i, a, relaxed, c, e)
                _add(coefs, here.source, new)
                continue
            assert isinstance(here, PiecewiseLinear) and isinstance(relaxed, Lines)
            if self._only_reader(here.source):
                paid.add(here.source)
            positive, negative = np.maximum(a, 0.0), np.minimum(a, 0.0)
            c = c + contract(negative, relaxed.upper_const)
            if relaxed.lower_const.any():
                c = c + contract(positive, relaxed.lower_const)
            if rigorous:
                e = e + contract(abs(a), self._line_noise(i, relaxed, rule))
            if self._fuses(a, here.source, relaxed, coefs):
                c = c + self._fused(positive[0], negative[0], here.source, relaxed, coefs)
                continue
            if len(a) == len(relaxed.lower_slope):  # no new axis: work in place
                positive *= relaxed.lower_slope[:, None, :]
                negative *= relaxed.upper_slope[:, None, :]
                positive += negative
                new = positive
            else:
                new = positive * relaxed.lower_slope[:, None, :]
                new += negative * relaxed.upper_slope[:, None, :]
            _add(coefs, here.source, new)
        return self._collect(coefs, c, e)

    def lower_bound(self, a: np.ndarray, c: np.ndarray, e: np.ndarray) -> np.ndarray:
        """The least value of ``a x + c - e`` over each box, rounded down, (N, q)."""
        value = contract(a, self.center) - contract(abs(a), self.radius) + c
        slack = 1.01 * e + 4.0 * EPS * (abs(c) + abs(value)) + TINY
        rows = max(self.batch, len(value))
        return np.broadcast_to(value - slack, (rows, value.shape[1]))

    # ------------------------------------------------------------------ the pieces
    def _only_reader(self, s: int) -> bool:
        return (
            isinstance(self.network.nodes[s], Affine)
            and self.n_readers[s] == 1
            and s not in self.network.outputs
        )

    def _line_noise(self, i: int, lines: Lines, rule) -> np.ndarray:
        """Noise of a piecewise-linear node, its source's included where it is paid."""
        key = (i, rule) if isinstance(rule, str) else None
        if key in self._line_noises:
            return self._line_noises[key]
        node = self.network.nodes[i]
        s = node.sources[0]
        steep = np.maximum(abs(lines.lower_slope), abs(lines.upper_slope))
        const = np.maximum(abs(lines.lower_const), abs(lines.upper_const))
        terms = 2.0 * EPS * (node.size + len(self.network.nodes) + 8.0)
        noise = terms * (steep * self.magnitude(s) + const)
        if self._only_reader(s):
            noise = noise + steep * self.noise(s)
        if key is not None:
            self._line_noises[key] = noise
        return noise

    def _fuses(self, a: np.ndarray, s: int, lines: Lines, coefs: dict) -> bool:
        """Whether one matrix product over all boxes beats a batch of products.

        With the same coefficients in every box, ``A diag(slope) W`` is best computed
        from the right, without ever making an array of boxes x rows x size.
        """
        node = self.network.nodes[s]
        return (
            len(a) == 1
            and len(lines.lower_slope) > 1
            and isinstance(node, Affine)
            and s not in coefs
            and self._only_reader(s)
            and not any(sp.issparse(w) for w in node.weights)
            and sum(w.shape[1] for w in node.weights) <= node.size
        )

    def _fused(self, positive, negative, s: int, lines: Lines, coefs: dict) -> np.ndarray:
        """``A+ diag(lower) W + A- diag(upper) W`` as ``A M - |A| D`` (mean, half gap).

        Of a pair of opposite rows, both products are needed once.
        """
        node = self.network.nodes[s]
        assert isinstance(node, Affine)
        a = positive + negative
        half = len(a) // 2
        paired = len(a) == 2 * half and np.array_equal(a[:half], -a[half:])
        a = a[:half] if paired else a
        mean = np.ascontiguousarray(0.5 * (lines.lower_slope + lines.upper_slope).T)
        gap = np.ascontiguousarray(0.5 * (lines.upper_slope - lines.lower_slope).T)

        def both(m: np.ndarray, d: np.ndarray) -> np.ndarray:
            return np.concatenate([m - d, -m - d] if paired else [m - d])

        for w, source in zip(node.weights, node.sources):
            # The boxes last: long inner loops.
            products = [
                part @ np.multiply(w[:, :, None], slopes[:, None, :]).reshape(len(w), -1)
                for part, slopes in ((a, mean), (abs(a), gap))
            ]
            new = both(*products).reshape(len(positive), w.shape[1], -1)
            _add(coefs, source, new.transpose(2, 0, 1))
        return both((a * node.bias) @ mean, (abs(a) * node.bias) @ gap).T

    def _replace_max(self, i: int, a, planes: MaxPlanes, c, e):
        node = self.network.nodes[i]
        assert isinstance(node, Max)
        positive, negative = np.maximum(a, 0.0), np.minimum(a, 0.0)
        c = c + contract(positive, planes.lower_const)
        c = c + contract(negative, planes.upper_const)
        spread = positive[..., planes.groups] * planes.lower[:, None, :]
        spread = spread + negative[..., planes.groups] * planes.upper[:, None, :]
        reach = np.maximum(planes.lower, abs(planes.upper))
        reach = reach * self.magnitude(node.source)[..., node.indices]
        total = np.add.reduceat(reach, node.indptr[:-1], axis=-1)
        total = total + np.maximum(abs(planes.lower_const), abs(planes.upper_const))
        terms = node.size + len(node.indices) + len(self.network.nodes) + 8.0
        e = e + contract(abs(a), 2.0 * EPS * terms * total)
        return times(spread, planes.scatter), c, e

    def _collect(self, coefs: dict[int, np.ndarray], c, e):
        """Coefficients on the flat input vector; what is left are input nodes."""
        n = self.center.shape[1]
        if len(coefs) == 1 and len(self.slices) == 1:
            return next(iter(coefs.values())), c, e
        batch = max([len(a) for a in coefs.values()], default=1)
        total = np.zeros((batch, c.shape[1], n))
        for i, a in coefs.items():
            total[:, :, self.slices[i]] = a
        return total, c, e


def contract(a: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Row by row ``a @ v``: (N or 1, q, m) and (N or 1, m) give (N or 1, q)."""
    if len(a) == 1:
        return (a[0] @ v.T).T
    if len(v) == 1:
        return a @ v[0]
    return np.matmul(a, v[:, :, None])[:, :, 0]


def times(a: np.ndarray, w) -> np.ndarray:
    """``a @ w`` over the last axis, for a dense or sparse ``w``."""
    rows = a.reshape(-1, a.shape[-1])
    result = (w.T @ rows.T).T if sp.issparse(w) else rows @ w
    return np.asarray(result).reshape(*a.shape[:-1], w.shape[1])


def _add(coefs: dict[int, np.ndarray], i: int, a: np.ndarray) -> None:
    coefs[i] = coefs[i] + a if i in coefs else a
