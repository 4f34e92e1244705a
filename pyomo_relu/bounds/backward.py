r"""Backward linear bounds through the whole graph, for one box or for many at once.

A query ``q`` is a row of coefficients on a node. The pass goes from that node back to
the inputs and keeps one inequality true for every forward pass in the box:

.. math:: q(x) \ge \sum_i A_i x_i + c - e

with one coefficient array ``A_i`` for each node not yet replaced. An affine node is
replaced by its weights, a piecewise-linear node or a maximum by its lower line where
the coefficient is positive and by its upper line where it is negative. An upper bound
is the lower bound of the negative row. Where entries of an affine node are known to have
a sign, a multiple of what is not negative may be taken off: with :math:`p_i x_i \ge 0`
the inequality stays true with :math:`A_i - p_i` in place of :math:`A_i`.

Rounding
--------
The error term ``e`` makes the result rigorous, not only the float64 result of a
rigorous recipe. Replacing ``x_i = W x_s + b`` by computed products costs at most
``gamma * |A_i| (|W| |x_s| + |b|)`` with ``gamma = 2 (terms) eps`` (Higham, "Accuracy and
Stability of Numerical Algorithms", section 3.1), where ``|x_s|`` is the largest
magnitude the bounds allow. The same amount once more covers the rounding of the
forward pass itself, so that a computed activation is inside as well as a real one.
Lines of :mod:`pyomo_relu.bounds.linear` include their own rounding. All of it is the
vector :meth:`Backward.noise` of a node, and ``e`` adds up ``|A_i| @ noise_i``. What is
taken off costs ``|p_i| @ noise_i`` besides, because the difference may cancel.

Source: Zhang et al., arXiv 1811.00866 (CROWN), eq. 7; Singh et al., POPL 2019; Wang et
al., arXiv 2103.06624 (beta-CROWN, eq. 8: multipliers of what is known).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.base.rounding import EPS
from pyomo_relu.bounds.linear import Lines, MaxPlanes, max_planes, piecewise_lines
from pyomo_relu.bounds.many_pieces import PiecesHull, has_many_pieces
from pyomo_relu.bounds.smooth_lines import SmoothHull
from pyomo_relu.network import Affine, Input, Max, Network, Node, PiecewiseLinear, Smooth
from pyomo_relu.network.nodes import Weight
from pyomo_relu.network.weights import absolute, dense, row_nonzeros

# Smaller than any bound that matters, larger than what underflow can lose.
TINY = 1e-290

Relaxed = Lines | MaxPlanes


@dataclass
class _Progress:
    """A pass so far: coefficients by node, constants (N or 1, q), and what rounding costs.

    ``paid`` has the affine nodes whose noise their reader has taken over.
    """

    coefs: dict[int, np.ndarray]
    const: np.ndarray
    error: np.ndarray
    rigorous: bool
    paid: set[int] = field(default_factory=set)

    def add(self, i: int, a: np.ndarray) -> None:
        self.coefs[i] = self.coefs[i] + a if i in self.coefs else a


def _hull(node: Node, low: np.ndarray, high: np.ndarray) -> SmoothHull | PiecesHull:
    """What the rules' lines of a smooth node, or of one of many pieces, have in common."""
    if isinstance(node, PiecewiseLinear):
        return PiecesHull(node, low, high)
    assert isinstance(node, Smooth)
    return SmoothHull(node, low, high)


class Backward:
    """Backward passes over given bounds of the nodes.

    Parameters
    ----------
    network : Network
    lower, upper : (N, n_inputs) arrays
        The boxes.
    lows, highs : lists of (N, size) or (1, size) arrays
        Valid bounds of every node that a pass meets; the lists may grow between
        passes, but a node's bounds may not change once a pass has met it.
    dtype : float type
        In which passes are computed; only float64 ones are rigorous.
    """

    def __init__(
        self,
        network: Network,
        lower: np.ndarray,
        upper: np.ndarray,
        lows: list[np.ndarray],
        highs: list[np.ndarray],
        dtype: npt.DTypeLike = np.float64,
    ) -> None:
        self.network, self.dtype = network, np.dtype(dtype)
        self.lows, self.highs = lows, highs
        center = 0.5 * (lower + upper)
        radius = np.maximum(upper - center, center - lower)
        n = lower.shape[1]
        radius = radius + 2.0 * (n + 8.0) * EPS * (abs(center) + radius)
        self.center, self.radius = center.astype(dtype), radius.astype(dtype)
        self.batch = len(lower)
        self.slices = dict(network.input_slices())
        self.n_readers = [len(r) for r in network.readers()]
        self._lines: dict[tuple[int, str], Relaxed] = {}
        self._hulls: dict[int, SmoothHull | PiecesHull] = {}
        self._noise: dict[int, np.ndarray] = {}
        self._line_noises: dict[object, np.ndarray] = {}
        self._affine: dict[int, tuple[tuple[Weight, ...], np.ndarray]] = {}
        #: Whether every node reads the one before it alone, and none is a maximum.
        self.in_a_row = all(
            n.sources == (i,) and not isinstance(n, Max)
            for i, n in enumerate(network.nodes[1:])
        )

    def affine(self, i: int) -> tuple[tuple[Weight, ...], np.ndarray]:
        """Weights and bias of an affine node, in the precision of the passes."""
        if i not in self._affine:
            node = self.network.nodes[i]
            assert isinstance(node, Affine)
            weights, bias = node.weights, node.bias
            if self.dtype != np.float64:
                weights = tuple(dense(w).astype(self.dtype) for w in weights)
            self._affine[i] = weights, bias.astype(self.dtype, copy=False)
        return self._affine[i]

    def magnitude(self, i: int) -> np.ndarray:
        """Largest absolute value of each entry of a node."""
        return np.maximum(abs(self.lows[i]), abs(self.highs[i]))

    def lines(self, i: int, rule: str) -> Relaxed:
        """The relaxation of a piecewise-linear, smooth or max node over its source's bounds."""
        if (i, rule) not in self._lines:
            node = self.network.nodes[i]
            low, high = self.lows[node.sources[0]], self.highs[node.sources[0]]
            if isinstance(node, Max):
                self._lines[i, rule] = max_planes(node, low, high, rule)
            elif isinstance(node, PiecewiseLinear) and not has_many_pieces(node):
                self._lines[i, rule] = piecewise_lines(node, low, high, rule)
            else:
                if i not in self._hulls:
                    self._hulls[i] = _hull(node, low, high)
                self._lines[i, rule] = self._hulls[i].lines(rule)
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
        signs: Mapping[int, np.ndarray] | None = None,
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
        signs : mapping to (N, size) arrays, optional
            By affine node, factors of its entries whose products with them are known not
            to be negative: they are taken off.

        Returns
        -------
        A : (N or 1, q, n_inputs) array
        c : (N or 1, q) array
        e : (N or 1, q) array
            ``query >= A x + c - e``.
        """
        first = rows[None] if rows.ndim == 2 else rows
        signs = signs or {}
        alone = self.in_a_row and first.shape[1] == 1
        if alone and not (rigorous or isinstance(rule, str)):
            return self._run_in_a_row(node, first[:, 0], rule, trace, signs)
        zero = np.zeros((1, first.shape[1]), self.dtype)
        sofar = _Progress({node: first}, zero, zero, rigorous)
        for i in range(node, -1, -1):
            here = self.network.nodes[i]
            if i not in sofar.coefs or isinstance(here, Input):
                continue
            a = sofar.coefs.pop(i)
            if isinstance(here, Affine):
                self._replace_affine(i, a, sofar, signs.get(i))
                continue
            if trace is not None:
                trace[i] = a
            relaxed = self.lines(i, rule) if isinstance(rule, str) else rule[i]
            if isinstance(relaxed, MaxPlanes):
                self._replace_max(i, a, relaxed, sofar)
            else:
                key = (i, rule) if isinstance(rule, str) else None
                self._replace_units(i, a, relaxed, sofar, key)
        return self._collect(sofar.coefs, sofar.const, sofar.error)

    def _run_in_a_row(
        self,
        node: int,
        a: np.ndarray,
        relaxed: Mapping[int, Relaxed],
        trace: dict[int, np.ndarray] | None,
        signs: Mapping[int, np.ndarray],
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A pass of one query for each box, without rounding, where nodes stand in a row.

        The same as any other, but short: most of an ascent's time is spent here.
        """
        const = np.zeros(len(a), self.dtype)
        for i in range(node, 0, -1):
            lines = relaxed.get(i)
            if lines is None:
                (weight,), bias = self.affine(i)
                if i in signs:
                    a = a - signs[i]
                const += a @ bias
                a = a @ weight if isinstance(weight, np.ndarray) else times(a, weight)
                continue
            assert isinstance(lines, Lines)
            if trace is not None:
                trace[i] = a[:, None]
            down = np.minimum(a, 0.0)
            a = a - down
            if len(lines.upper_const) == 1:
                const += down @ lines.upper_const[0]
            else:
                const += np.einsum("ij,ij->i", down, lines.upper_const)
            if lines.has_lower_const:
                const += np.einsum(
                    "ij,ij->i", a, np.broadcast_to(lines.lower_const, a.shape)
                )
            a *= lines.lower_slope
            down *= lines.upper_slope
            a += down
        return a[:, None], const[:, None], np.zeros((len(a), 1))

    def lower_bound(self, a: np.ndarray, c: np.ndarray, e: np.ndarray) -> np.ndarray:
        """The least value of ``a x + c - e`` over each box, rounded down, (N, q)."""
        value = contract(a, self.center) - contract(abs(a), self.radius) + c
        slack = 1.01 * e + 4.0 * EPS * (abs(c) + abs(value)) + TINY
        rows = self.batch if len(value) == 1 else len(value)
        return np.broadcast_to(value - slack, (rows, value.shape[1]))

    def along(
        self,
        x: np.ndarray,
        relaxed: Mapping[int, Relaxed],
        trace: Mapping[int, np.ndarray],
        nodes: Sequence[int],
    ) -> dict[int, np.ndarray]:
        """Values of nodes at inputs, along the lines that a pass of one query used.

        What a slope or a multiplier adds to the bound of that query is the value of its
        entry at the inputs where the bound is attained, so these are its gradients.

        Parameters
        ----------
        x : (N, n_inputs) array
        relaxed, trace : mappings
            What the pass had, and what it left there.
        nodes : sequence of int
            In their order; all that these nodes read are among them.
        """
        values: dict[int, np.ndarray] = {}
        for i in nodes:
            node = self.network.nodes[i]
            if isinstance(node, Affine):
                weights, bias = self.affine(i)
                z = times(values[node.sources[0]], weights[0].T)
                for s, w in zip(node.sources[1:], weights[1:]):
                    z += times(values[s], w.T)
                z += bias
                values[i] = z
            elif isinstance(node, Input):
                values[i] = x[:, self.slices[i]]
            else:
                # A node that no query reads has no coefficients.
                a = trace[i][:, 0] if i in trace else np.zeros((1, node.size))
                z, lines = values[node.sources[0]], relaxed[i]
                if isinstance(lines, Lines):
                    below, above = lines.lower_slope * z, lines.upper_slope * z
                    if lines.has_lower_const:
                        below += lines.lower_const
                else:
                    assert isinstance(node, Max)
                    below, above = (
                        np.add.reduceat(part * z[:, node.indices], node.indptr[:-1], axis=1)
                        for part in (lines.lower, lines.upper)
                    )
                    below += lines.lower_const
                above += lines.upper_const
                values[i] = np.where(a >= 0, below, above)
        return values

    # ------------------------------------------------------------------ the pieces
    def _only_reader(self, s: int) -> bool:
        return (
            isinstance(self.network.nodes[s], Affine)
            and self.n_readers[s] == 1
            and s not in self.network.outputs
        )

    def _replace_affine(
        self, i: int, a: np.ndarray, sofar: _Progress, known: np.ndarray | None
    ) -> None:
        weights, bias = self.affine(i)
        if known is not None:
            a = a - known[:, None, :]
            if sofar.rigorous:
                sofar.error = sofar.error + contract(abs(known)[:, None, :], self.noise(i))
        if sofar.rigorous and i not in sofar.paid:
            sofar.error = sofar.error + contract(abs(a), self.noise(i))
        sofar.const = sofar.const + contract(a, bias[None, :])
        for w, s in zip(weights, self.network.nodes[i].sources):
            sofar.add(s, times(a, w))

    def _replace_units(
        self,
        i: int,
        a: np.ndarray,
        lines: Lines,
        sofar: _Progress,
        key: tuple[int, str] | None,
    ) -> None:
        """A piecewise-linear node by its lines."""
        source = self.network.nodes[i].sources[0]
        if self._only_reader(source):
            sofar.paid.add(source)
        positive, negative = np.maximum(a, 0.0), np.minimum(a, 0.0)
        sofar.const = sofar.const + contract(negative, lines.upper_const)
        if lines.has_lower_const:
            sofar.const = sofar.const + contract(positive, lines.lower_const)
        if sofar.rigorous:
            sofar.error = sofar.error + contract(abs(a), self._line_noise(i, lines, key))
        if self._fuses(a, source, lines, sofar.coefs):
            self._replace_fused(positive[0], negative[0], source, lines, sofar)
            return
        if len(a) == len(lines.lower_slope):  # no new axis: work in place
            positive *= lines.lower_slope[:, None, :]
            negative *= lines.upper_slope[:, None, :]
        else:
            positive = positive * lines.lower_slope[:, None, :]
            negative = negative * lines.upper_slope[:, None, :]
        positive += negative
        sofar.add(source, positive)

    def _line_noise(self, i: int, lines: Lines, key: tuple[int, str] | None) -> np.ndarray:
        """Noise of a piecewise-linear node, its source's included where it is paid.

        With a key it is kept for the next pass.
        """
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

    def _fuses(
        self, a: np.ndarray, s: int, lines: Lines, coefs: dict[int, np.ndarray]
    ) -> bool:
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

    def _replace_fused(
        self,
        positive: np.ndarray,
        negative: np.ndarray,
        s: int,
        lines: Lines,
        sofar: _Progress,
    ) -> None:
        """``A+ diag(lower) W + A- diag(upper) W`` as ``A M - |A| D`` (mean, half gap).

        Where rows come in opposite pairs, both products are needed once for a pair.
        """
        weights, bias = self.affine(s)
        a = positive + negative
        half = len(a) // 2
        paired = len(a) == 2 * half and np.array_equal(a[:half], -a[half:])
        a = a[:half] if paired else a
        mean = np.ascontiguousarray(0.5 * (lines.lower_slope + lines.upper_slope).T)
        gap = np.ascontiguousarray(0.5 * (lines.upper_slope - lines.lower_slope).T)

        def both(m: np.ndarray, d: np.ndarray) -> np.ndarray:
            return np.concatenate([m - d, -m - d] if paired else [m - d])

        for w, source in zip(weights, self.network.nodes[s].sources):
            # The boxes last: long inner loops.
            products = [
                part @ np.multiply(w[:, :, None], slopes[:, None, :]).reshape(len(w), -1)
                for part, slopes in ((a, mean), (abs(a), gap))
            ]
            new = both(*products).reshape(len(positive), w.shape[1], -1)
            sofar.add(source, new.transpose(2, 0, 1))
        sofar.const = sofar.const + both((a * bias) @ mean, (abs(a) * bias) @ gap).T

    def _replace_max(
        self, i: int, a: np.ndarray, planes: MaxPlanes, sofar: _Progress
    ) -> None:
        node = self.network.nodes[i]
        assert isinstance(node, Max)
        positive, negative = np.maximum(a, 0.0), np.minimum(a, 0.0)
        sofar.const = sofar.const + contract(positive, planes.lower_const)
        sofar.const = sofar.const + contract(negative, planes.upper_const)
        spread = positive[..., planes.groups] * planes.lower[:, None, :]
        spread = spread + negative[..., planes.groups] * planes.upper[:, None, :]
        reach = np.maximum(planes.lower, abs(planes.upper))
        reach = reach * self.magnitude(node.source)[..., node.indices]
        total = np.add.reduceat(reach, node.indptr[:-1], axis=-1)
        total = total + np.maximum(abs(planes.lower_const), abs(planes.upper_const))
        terms = node.size + len(node.indices) + len(self.network.nodes) + 8.0
        sofar.error = sofar.error + contract(abs(a), 2.0 * EPS * terms * total)
        sofar.add(node.source, times(spread, planes.scatter))

    def _collect(
        self, coefs: dict[int, np.ndarray], c: np.ndarray, e: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Coefficients on the flat input vector; what is left are input nodes."""
        n = self.center.shape[1]
        if len(coefs) == 1 and len(self.slices) == 1:
            return next(iter(coefs.values())), c, e
        batch = max([len(a) for a in coefs.values()], default=1)
        total = np.zeros((batch, c.shape[1], n), self.dtype)
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


def times(a: np.ndarray, w: Weight) -> np.ndarray:
    """``a @ w`` over the last axis, for a dense or sparse ``w``."""
    rows = a if a.ndim == 2 else a.reshape(-1, a.shape[-1])
    result = rows @ w if isinstance(w, np.ndarray) else np.asarray((w.T @ rows.T).T)
    return result if a.ndim == 2 else result.reshape(*a.shape[:-1], w.shape[1])
