"""The tensor graph: all operators that the readers write networks with.

:class:`~pyomo_relu.readers.affine_graph.AffineGraph` has those that move, scale and add entries;
here are activations, steps, maxima and reductions.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.network.activations import Pieces, leaky_relu, relu, step
from pyomo_relu.network.limits import ENTRY, need
from pyomo_relu.readers.affine_graph import (
    AffineGraph,
    Constant,
    broadcast_shape,
    normalized_axis,
)
from pyomo_relu.readers.choices import Comparison, as_function_of, chosen_pieces
from pyomo_relu.readers.products import product
from pyomo_relu.readers.smooth_products import cubic_of_product, unit_of_product
from pyomo_relu.readers.values import Tensor, Value
from pyomo_relu.readers.whole_ranges import WholeRanges

__all__ = ["TensorGraph", "broadcast_shape", "normalized_axis"]


def _stacked(rows: Sequence[Constant]) -> np.ndarray:
    """Parameters of pieces side by side, numbers and arrays broadcast together."""
    return np.stack(np.broadcast_arrays(*map(np.asarray, rows)), axis=-1)


class TensorGraph(AffineGraph):
    """Writes operators on tensors into a :class:`NetworkBuilder`.

    Parameters
    ----------
    in_single : bool, default False
        Whether the source computes in float32 or less, so that its constants are rounded to that.
    """

    def __init__(self, in_single: bool = False) -> None:
        super().__init__()
        self.in_single = in_single
        #: What made the tensors of 0 and 1, by their nodes.
        self.comparisons: dict[int, Comparison] = {}
        #: Products that are multiples of a node and of its cube, as in GELU by tanh: that node
        #: and two factors, by the products' nodes.
        self.cubics: dict[int, tuple[int, np.ndarray]] = {}
        #: What values tensors can have, whatever the inputs are.
        self.ranges = WholeRanges(self.builder)

    # ---------------------------------------------------------------- activations
    def piecewise(self, name: str, x: Tensor, pieces: Pieces) -> Tensor:
        """An activation of :mod:`pyomo_relu.network.activations` on every entry."""
        return Tensor(self.builder.piecewise(name, x.handle, pieces), x.shape, x.batch)

    def smooth(self, name: str, x: Tensor, function: str, alpha: float = 1.0) -> Tensor:
        """A function of :mod:`pyomo_relu.network.smooth_functions` on every entry."""
        handle = self.builder.smooth(name, x.handle, function, alpha)
        return Tensor(handle, x.shape, x.batch)

    def leaky(self, name: str, x: Tensor, slope: Constant) -> Tensor:
        """LeakyReLU or PReLU; ``slope`` broadcasts to the shape of ``x``."""
        slope = np.asarray(slope, dtype=float)
        if slope.size == 1:
            spread: Constant = float(slope.reshape(-1)[0])
        else:
            try:
                spread = np.broadcast_to(slope, x.shape).reshape(-1)
            except ValueError:
                raise ValueError(
                    f"layer '{name}': a parameter of shape {slope.shape} doesn't fit its "
                    f"input of shape {x.shape}."
                ) from None
        return self.piecewise(name, x, leaky_relu(spread) if np.any(spread) else relu())

    def clip(
        self,
        name: str,
        x: Tensor,
        low: Constant | None = None,
        high: Constant | None = None,
    ) -> Tensor:
        """``min(max(x, low), high)``; either side may be absent, constants broadcast."""
        sides = [v for v in (low, high) if v is not None]
        if not sides:
            return x
        shape = broadcast_shape(name, x.shape, *[np.shape(v) for v in sides])
        if shape != x.shape:
            x = self.broadcast(f"{name}_wide", x, shape)

        def spread(v: Constant) -> Constant:
            v = np.asarray(v, dtype=float)
            flat = np.broadcast_to(v, shape).reshape(-1)
            return float(v.reshape(-1)[0]) if v.size == 1 else flat

        if low is not None and not np.any(low):
            if high is None:
                return self.piecewise(name, x, relu())
            if np.all(np.asarray(high) > 0):
                return self.piecewise(name, x, relu(max_value=spread(high)))
        points: list[Constant] = []
        slopes: list[Constant] = [1.0]
        intercepts: list[Constant] = [0.0]
        if low is not None:
            points, slopes, intercepts = [spread(low)], [0.0, 1.0], [spread(low), 0.0]
        if high is not None:
            if low is not None and np.any(np.asarray(low) > np.asarray(high)):
                raise ValueError(
                    f"layer '{name}' clips to an empty interval; it needs minimum <= maximum."
                )
            points.append(spread(high))
            slopes.append(0.0)
            intercepts.append(spread(high))
        pieces = ("clip", _stacked(points), _stacked(slopes), _stacked(intercepts))
        return self.piecewise(name, x, pieces)

    def soft_shrink(self, name: str, x: Tensor, threshold: float) -> Tensor:
        """``x`` drawn towards 0 by ``threshold``."""
        t = float(threshold)
        slopes, intercepts = np.array([1.0, 0.0, 1.0]), np.array([t, 0.0, -t])
        return self.piecewise(
            name, x, ("soft_shrink", np.array([-t, t]), slopes, intercepts)
        )

    # ---------------------------------------------------------------------- steps
    def left_continuous(
        self,
        name: str,
        x: Tensor,
        function: str,
        breakpoints: Sequence[float],
        slopes: Sequence[float],
        intercepts: Sequence[float],
    ) -> Tensor:
        """A function that takes its left piece at each breakpoint.

        The package's pieces take their right value there, so it is written in ``-x``.
        """
        pieces = (
            function,
            -np.asarray(breakpoints, dtype=float)[::-1],
            -np.asarray(slopes, dtype=float)[::-1],
            np.asarray(intercepts, dtype=float)[::-1],
        )
        return self.piecewise(name, self.scale(f"{name}_negated", x, -1.0), pieces)

    def step(self, name: str, x: Tensor, strict: bool = False) -> Tensor:
        """1 where ``x >= 0`` (``strict``: ``x > 0``), else 0."""
        if not strict:
            made = self.piecewise(name, x, step())
        else:
            made = self.left_continuous(name, x, "step", [0.0], [0.0, 0.0], [0.0, 1.0])
        self.comparisons[made.handle] = Comparison(x, strict)
        return made

    def negation(self, name: str, x: Tensor) -> Tensor:
        """``1 - x``, for truth values 0 and 1."""
        made = self.scale(name, x, -1.0, 1.0)
        known = self.comparisons.get(x.handle)
        if known is not None:
            turned = self.scale(f"{name}_negated", known.source, -1.0)
            self.comparisons[made.handle] = Comparison(turned, not known.strict)
        return made

    def choose(self, name: str, condition: Tensor, a: Value, b: Value) -> Tensor:
        """Entries of ``a`` where ``condition`` is 1, of ``b`` where it is 0.

        Raises
        ------
        ValueError
            Unless that is a function of what the condition compares; see
            :mod:`pyomo_relu.readers.choices`.
        """
        known = self.comparisons.get(condition.handle)
        if known is None:
            raise ValueError(
                f"layer '{name}': its condition depends on the network's input, and is no "
                "comparison; what it chooses is not piecewise linear."
            )
        shape = broadcast_shape(name, condition.shape, a.shape, b.shape)
        batch = self.common_batch(
            name, [v for v in (condition, a, b) if isinstance(v, Tensor)], shape
        )
        d = Tensor(known.source.handle, condition.shape, condition.batch)
        index = np.broadcast_to(d.index, shape)

        def function(value: Value, minus: Value | None = None) -> tuple | None:
            """Slope and constant of ``value`` (less ``minus``) as a function of ``d``."""
            if not isinstance(value, Tensor):
                fixed = np.broadcast_to(np.asarray(value, dtype=float), shape).reshape(-1)
                if minus is None:
                    return np.zeros(len(fixed)), fixed
                found = function(minus)
                return None if found is None else (-found[0], fixed - found[1])
            place = np.broadcast_to(value.index, shape)
            if isinstance(minus, Tensor):
                taken = (minus, np.broadcast_to(minus.index, shape))
                return as_function_of(self.builder, value, place, d, index, taken)
            return as_function_of(self.builder, value, place, d, index)

        low, high = function(b), function(a)
        rest: Value | None = None
        if low is None or high is None:
            rest = b
            high = function(a, b) if isinstance(b, Tensor) else None
            low = (np.zeros(prod(shape)), np.zeros(prod(shape)))
        if high is None:
            raise ValueError(
                f"layer '{name}' chooses by a comparison, and what it chooses from is no "
                "affine function of what is compared; only a choice such as "
                "where(h > 0, h, 0.1 * h) is piecewise linear."
            )
        pieces, negated = chosen_pieces(low, high, known.strict)
        wide = d if d.shape == shape else self.broadcast(f"{name}_compared", d, shape)
        if negated:
            wide = self.scale(f"{name}_negated", wide, -1.0)
        chosen = Tensor(wide.handle, shape, batch)
        made = self.piecewise(name if rest is None else f"{name}_change", chosen, pieces)
        return made if rest is None else self.add(name, [made, rest])

    def multiply(self, name: str, a: Value, b: Value) -> Tensor:
        """A tensor times a constant, times a comparison that switches it on, or two tensors.

        Of two tensors, one may be 1 where a comparison holds and 0 elsewhere; the other one
        must then be a function of what is compared, as in ``h * (h > 0)``. Other products
        are smooth units: one, as in ``h * sigmoid(h)``
        (:mod:`pyomo_relu.readers.smooth_products`), or squares
        (:mod:`pyomo_relu.readers.products`).
        """
        if isinstance(a, Tensor) and isinstance(b, Tensor):
            for condition, x in ((b, a), (a, b)):
                if condition.handle in self.comparisons:
                    return self.choose(name, condition, x, np.array(0.0))
            unit = unit_of_product(self, name, a, b)
            if unit is not None:
                return unit
            made, cubic = product(self, name, a, b), cubic_of_product(self, a, b)
            if cubic is not None:
                self.cubics[made.handle] = cubic
            return made
        return super().multiply(name, a, b)

    def sign(self, name: str, x: Tensor) -> Tensor:
        """-1, 0 or 1: ``[x > 0] - [x < 0]``, 0 at exactly 0 as frameworks have it."""
        above = self.step(f"{name}_above", x, strict=True)
        at_least = self.step(f"{name}_at_least", x)
        return self.add(name, [above, at_least, np.array(-1.0)])

    def compare(self, name: str, a: Value, b: Value, less: bool, strict: bool) -> Tensor:
        """1 where ``a < b`` (``less``) or ``a > b``, or equal without ``strict``; else 0."""
        factors = [-1.0, 1.0] if less else [1.0, -1.0]
        difference = self.add(f"{name}_difference", [a, b], factors)
        return self.step(name, difference, strict)

    def threshold(self, name: str, x: Tensor, threshold: float, value: float) -> Tensor:
        """``x`` where ``x > threshold``, else ``value``."""
        t, value = float(threshold), float(value)
        if t == value:
            return self.clip(name, x, t)
        return self.left_continuous(
            name, x, "threshold_relu", [t], [0.0, 1.0], [value, 0.0]
        )

    def hard_shrink(self, name: str, x: Tensor, threshold: float) -> Tensor:
        """``x`` where ``|x| > threshold``, else 0; a step on each side."""
        t = float(threshold)
        below = ("hard_shrink", np.array([-t]), np.array([1.0, 0.0]), np.zeros(2))
        low = self.piecewise(f"{name}_below", x, below)
        high = self.left_continuous(
            f"{name}_above", x, "hard_shrink", [t], [0.0, 1.0], [0.0, 0.0]
        )
        return self.add(name, [low, high])

    # --------------------------------------------------------------------- maxima
    def max(
        self,
        name: str,
        x: Tensor,
        groups: Sequence[np.ndarray],
        shape: Sequence[int],
        batch: int | None = None,
    ) -> Tensor:
        """The maximum over each group of entries of ``x``."""
        result = Tensor(-1, tuple(int(s) for s in shape), batch)
        handle = self.builder.max(name, x.handle, groups, result.sample_shape)
        return Tensor(handle, result.shape, batch)

    def _minimum(
        self,
        name: str,
        negated: Tensor,
        groups: Sequence[np.ndarray],
        shape: Sequence[int],
        batch: int | None,
    ) -> Tensor:
        """The minimum over each group, of a tensor whose entries are negated already."""
        largest = self.max(f"{name}_max", negated, groups, shape, batch)
        return self.scale(name, largest, -1.0)

    def maximum(self, name: str, values: Sequence[Value], sign: float = 1.0) -> Tensor:
        """The entry-wise maximum (``sign=-1``: minimum) of tensors and constants."""
        shape = broadcast_shape(name, *[v.shape for v in values])
        need(f"layer '{name}'", passing=ENTRY * len(values) * prod(shape))
        tensors = [v for v in values if isinstance(v, Tensor)]
        batch = self.common_batch(name, tensors, shape)
        x = tensors[0]
        if len(tensors) > 1:
            joined, start = self._side_by_side(f"{name}_operands", tensors, sign)
            columns = [np.broadcast_to(v.index, shape).reshape(-1) for v in tensors]
            groups = list(np.stack([s + c for s, c in zip(start, columns)], axis=1))
            place = self.max if sign > 0 else self._minimum
            x = place(name, joined, groups, shape, batch)
        for v in values:
            if not isinstance(v, Tensor):
                v = np.asarray(v, dtype=float)
                x = self.clip(name, x, *((v, None) if sign > 0 else (None, v)))
        return x

    def _side_by_side(
        self, name: str, tensors: Sequence[Tensor], factor: float
    ) -> tuple[Tensor, np.ndarray]:
        """All entries times ``factor`` as one vector, and where those of each begin."""
        start = np.cumsum([0] + [x.size for x in tensors])
        terms = []
        for s, x in zip(start, tensors):
            index = np.arange(x.size)
            place = (np.full(x.size, factor), (s + index, index))
            terms.append((x, sp.csr_array(place, shape=(start[-1], x.size))))
        return self.affine(name, terms, 0.0, (start[-1],), None), start

    # ----------------------------------------------------------------- reductions
    def reduce(
        self, name: str, x: Tensor, axes: Sequence[int] | None, kind: str, keep: bool
    ) -> Tensor:
        """Sum, mean, max or min over ``axes`` (all, if None)."""
        rank = len(x.shape)
        given = range(rank) if axes is None else axes
        over = sorted({normalized_axis(int(a), rank, name) for a in given})
        if x.batch in over:
            raise ValueError(f"layer '{name}' reduces over the batch axis.")
        rest = [a for a in range(rank) if a not in over]
        groups = x.index.transpose(rest + over).reshape(
            prod(x.shape[a] for a in rest), prod(x.shape[a] for a in over)
        )
        shape, batch = tuple(x.shape[a] for a in rest), x.batch
        if keep:
            shape = tuple(1 if a in over else n for a, n in enumerate(x.shape))
        elif batch is not None:
            batch = rest.index(batch)
        return self._over_groups(name, x, groups, kind, shape, batch)

    def _over_groups(
        self,
        name: str,
        x: Tensor,
        groups: np.ndarray,
        kind: str,
        shape: Sequence[int],
        batch: int | None,
    ) -> Tensor:
        """The sum, mean, max or min of the entries in each row of ``groups``."""
        if groups.shape[1] == 1:
            return Tensor(x.handle, tuple(shape), batch)
        if kind in ("sum", "mean"):
            w = _sums(groups, x.size, kind == "mean")
            return self.affine(name, [(x, w)], 0.0, shape, batch)
        if kind == "max":
            return self.max(name, x, list(groups), shape, batch)
        negated = self.scale(f"{name}_negated", x, -1.0)
        return self._minimum(name, negated, list(groups), shape, batch)


def _sums(groups: np.ndarray, columns: int, mean: bool) -> sp.csr_array:
    """The matrix that adds the entries of each row of ``groups``, or takes their mean."""
    rows, n = groups.shape
    data = np.full(groups.size, 1.0 / n if mean else 1.0)
    parts = (data, groups.reshape(-1), np.arange(0, groups.size + 1, n))
    return sp.csr_array(parts, shape=(rows, columns))
