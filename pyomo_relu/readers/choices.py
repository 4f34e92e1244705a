"""Choices by a comparison that are functions of what is compared.

``where(h > 0, h, 0.1 * h)`` is a leaky ReLU, and ``h * (h > 0)`` a ReLU. In general let
``c`` be 1 where ``d > 0`` (or ``d >= 0``), else 0. Then ``where(c, a, b)`` is
``b + c (a - b)``, which is piecewise linear if ``a - b`` is, entry by entry, an affine
function of ``d``: both are written out over the nodes that they come from, until the one
is a multiple of the other, up to a constant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.network import Affine, NetworkBuilder
from pyomo_relu.network.activations import Pieces
from pyomo_relu.readers.values import Tensor

#: Up to this difference, relative to the terms, two sums of float64 are the same.
ROUNDING = 1e-12
#: The most entries of a matrix while sums are written out; some 100 MB.
MOST_ENTRIES = 5_000_000


@dataclass(frozen=True)
class Comparison:
    """What made a tensor of 0 and 1.

    Attributes
    ----------
    source : Tensor
        It is 1 where this is at least 0.
    strict : bool
        Or where this is above 0.
    """

    source: Tensor
    strict: bool


class _Sum:
    """Entries as sums over nodes: ``sum of W_h x_h + bias``."""

    def __init__(self, builder: NetworkBuilder, x: Tensor, index: np.ndarray) -> None:
        flat = index.reshape(-1)
        n = len(flat)
        pick = sp.csr_array((np.ones(n), (np.arange(n), flat)), shape=(n, x.size))
        self.builder, self.bias = builder, np.zeros(n)
        self.terms: dict[int, sp.csr_array] = {x.handle: pick}

    def minus(self, other: _Sum) -> _Sum:
        """The difference of two sums."""
        for handle, w in other.terms.items():
            held = self.terms.get(handle)
            self.terms[handle] = -w if held is None else sp.csr_array(held - w)
        self.bias = self.bias - other.bias
        return self

    def expand(self, handle: int) -> bool:
        """Write one node out; False where that takes too much memory."""
        w = self.terms.pop(handle, None)
        if w is None:
            return True
        node = self.builder.nodes[handle]
        assert isinstance(node, Affine)
        self.bias = self.bias + w @ node.bias
        for source, weight in zip(node.sources, node.weights):
            rows = np.diff(sp.csr_array(weight).indptr)
            if float(rows[w.indices].sum()) > MOST_ENTRIES:
                return False
            made = sp.csr_array(w @ sp.csr_array(weight))
            held = self.terms.get(source)
            self.terms[source] = made if held is None else sp.csr_array(held + made)
        return True

    def over(self, handles: list[int]) -> sp.csr_array:
        """One matrix over the entries of some nodes."""
        rows = len(self.bias)
        parts = [
            self.terms.get(h, sp.csr_array((rows, self.builder.nodes[h].size)))
            for h in handles
        ]
        return sp.csr_array(sp.hstack(parts)) if parts else sp.csr_array((rows, 1))


def _multiple(a: _Sum, d: _Sum, handles: list[int]) -> tuple[np.ndarray, np.ndarray] | None:
    """``(factor, constant)`` with ``a = factor * d + constant``, entry by entry."""
    upper, lower = a.over(handles), d.over(handles)
    squares = np.asarray(lower.multiply(lower).sum(axis=1)).reshape(-1)
    products = np.asarray(upper.multiply(lower).sum(axis=1)).reshape(-1)
    factor = np.divide(products, squares, out=np.zeros(len(products)), where=squares > 0)
    rest = abs(upper - sp.diags_array(factor) @ lower)
    largest = np.asarray(abs(upper).max(axis=1).todense()).reshape(-1)
    worst = np.asarray(sp.csr_array(rest).max(axis=1).todense()).reshape(-1)
    if (worst > ROUNDING * largest).any():
        return None
    moved = factor * d.bias
    constant = a.bias - moved
    constant[np.abs(constant) <= ROUNDING * (np.abs(a.bias) + np.abs(moved))] = 0.0
    return factor, constant


def as_function_of(
    builder: NetworkBuilder,
    x: Tensor,
    index: np.ndarray,
    compared: Tensor,
    compared_index: np.ndarray,
    minus: tuple[Tensor, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray] | None:
    """``(factor, constant)`` with ``x = factor * compared + constant``; None: it is none.

    The entries are those at ``index`` of ``x`` (less those of ``minus``) and at
    ``compared_index`` of ``compared``, arrays of one shape.
    """
    a = _Sum(builder, x, index)
    if minus is not None:
        a = a.minus(_Sum(builder, *minus))
    d = _Sum(builder, compared, compared_index)
    while True:
        handles = sorted(set(a.terms) | set(d.terms))
        found = _multiple(a, d, handles)
        if found is not None:
            return found
        last = max(
            (h for h in handles if isinstance(builder.nodes[h], Affine)), default=None
        )
        if last is None or not (a.expand(last) and d.expand(last)):
            return None


def chosen_pieces(
    low: tuple[np.ndarray, np.ndarray], high: tuple[np.ndarray, np.ndarray], strict: bool
) -> tuple[Pieces, bool]:
    """One piece below zero and one above, each ``(slope, constant)`` by entry.

    Pieces take their right value at a breakpoint. Where there is a jump and, as with
    ``strict``, the lower one counts at 0, the pieces are those of the negated argument.

    Returns
    -------
    pieces : tuple
    negated : bool
    """
    (a, b), (c, d) = low, high
    # The two constants come from different sums; a jump of their rounding is none.
    d = np.where(np.abs(b - d) <= ROUNDING * (np.abs(b) + np.abs(d)), b, d)
    jumps = bool(np.any(b != d))
    # Without a jump either side may be the upper one; a ReLU has slope 1 there.
    negated = strict if jumps else not np.all(c == 1.0) and bool(np.all(a == -1.0))
    if negated:
        (a, b), (c, d) = (-c, d), (-a, b)
    plain = not (np.any(b) or np.any(d)) and bool(np.all(c == 1.0))
    name = "chosen" if not plain else ("leaky_relu" if np.any(a) else "relu")
    slopes, constants = np.stack([a, c], axis=-1), np.stack([b, d], axis=-1)
    if len(slopes) and (slopes == slopes[0]).all() and (constants == constants[0]).all():
        return (name, np.zeros(1), slopes[0], constants[0]), negated
    return (name, np.zeros((len(slopes), 1)), slopes, constants), negated
