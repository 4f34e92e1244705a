"""The primitives a trained network is made of, on flat float64 vectors.

========================  =====================================================
:class:`Input`            a vector that comes from outside
:class:`Affine`           ``y = sum_p W_p x_p + b`` over its sources ``p``
:class:`PiecewiseLinear`  ``y_i = phi_i(x_i)``, given by breakpoints, slopes,
                          intercepts; continuous, or with steps
:class:`Smooth`           ``y_i = phi(x_i)``, one of the smooth functions by name
:class:`Max`              ``y_j = max`` over a group of entries of its source
========================  =====================================================

A node refers to its sources by their position in :attr:`Network.nodes`, so a
network is a plain tuple that can be sliced, saved and shipped to a worker.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.network.search import Extremes, SortedRows
from pyomo_relu.network.smooth_functions import (
    SmoothFunction,
    smooth_function,
)

#: Pieces of units with more breakpoints than this are found by bisection.
FEW = 8

#: A matrix of weights: a dense array or a SciPy CSR array. ``Any``, because naming the
#: class would import SciPy, and because SciPy's classes carry no types.
Weight: TypeAlias = Any


def as_float64(values: Any, what: str) -> np.ndarray:
    """Return ``values`` as a finite float64 array, or say what is wrong with them.

    Parameters
    ----------
    values : array_like
        Numbers of any real dtype that float64 holds without loss.
    what : str
        How an error names the values, for example ``"the bias of layer 'dense'"``.

    Raises
    ------
    ValueError
        For NaN, infinite or complex values, and for numbers that float64 can't hold.
    """
    array = np.asarray(values)
    if array.dtype.kind == "b":
        return array.astype(np.float64)
    if array.dtype.kind in "OUSMmc":
        raise ValueError(
            f"{what} must be real numbers, not {array.dtype}; give float16, float32, "
            "float64 or integers."
        )
    with np.errstate(over="ignore"):
        result = array.astype(np.float64)
    # A large long double is finite itself, though float64 makes it infinite.
    wide = array.dtype.kind == "f" and array.dtype.itemsize > 8
    if not np.isfinite(array if wide else result).all():
        raise ValueError(
            f"{what} must be finite, but NaN or infinite values were found. Check the "
            "training run, or the file the network was loaded from."
        )
    if array.dtype.kind in "iu" or wide:
        if not _unchanged(result, array):
            raise ValueError(
                f"{what} must fit float64, but {array.dtype} values were found that "
                "don't; cast the model to float64 first."
            )
    return result


def _unchanged(result: np.ndarray, array: np.ndarray) -> bool:
    """Whether the float64 ``result`` holds the very numbers of ``array``."""
    if array.dtype.kind in "iu":
        # 2 ** 63 or 2 ** 64 itself is beyond the type: casting it back is undefined.
        if (result >= float(np.iinfo(array.dtype).max) + 1.0).any():
            return False
    return np.array_equal(result.astype(array.dtype), array)


@dataclass(frozen=True, eq=False)
class Node:
    """What all primitives share.

    Attributes
    ----------
    name : str
        The layer's name, unique within a network.
    shape : tuple of int
        The tensor shape in the source framework, without the batch axis.
    """

    name: str
    shape: tuple[int, ...]

    @cached_property
    def size(self) -> int:
        """Number of entries of the flat vector."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def sources(self) -> tuple[int, ...]:
        """Positions of the nodes this one reads."""
        return ()

    kind = "node"


@dataclass(frozen=True, eq=False)
class Input(Node):
    """A vector of inputs, in the units of the source model."""

    kind = "input"


@dataclass(frozen=True, eq=False)
class Affine(Node):
    """``y = sum_p W_p x_p + b``.

    Attributes
    ----------
    weights : tuple of (size, size of source) arrays
        Dense arrays or SciPy CSR arrays, one for each source.
    bias : (size,) array
    """

    _sources: tuple[int, ...] = ()
    weights: tuple[Weight, ...] = ()
    bias: np.ndarray = field(default_factory=lambda: np.zeros(0))

    kind = "affine"

    @property
    def sources(self) -> tuple[int, ...]:
        return self._sources

    @property
    def nonzeros(self) -> int:
        """Number of non-zero weights, the bias left out."""
        return sum(
            int(w.nnz) if sp.issparse(w) else int(np.count_nonzero(w)) for w in self.weights
        )

    def __call__(self, *inputs: np.ndarray) -> np.ndarray:
        """Apply to one (N, size of source) array for each source."""
        total = np.empty((len(inputs[0]), self.size), self.bias.dtype)
        total[:] = self.bias
        for w, x in zip(self.weights, inputs):
            total += x @ w.T if isinstance(w, np.ndarray) else (w @ x.T).T
        return total


@dataclass(frozen=True, eq=False)
class PiecewiseLinear(Node):
    """``y_i = slopes[i, p] * x_i + intercepts[i, p]`` on the piece ``p`` of ``x_i``.

    Piece ``p`` is the half-open interval ``[breakpoints[i, p-1], breakpoints[i, p])``,
    so a step takes its right value at the breakpoint: the one tie convention of this
    package is *1 if and only if the pre-activation is >= 0*.

    Attributes
    ----------
    source : int
        Position of the node whose entries are the pre-activations.
    function : str
        Name of the activation: ``"relu"``, ``"leaky_relu"``, ``"step"``, ...
    breakpoints : (size, k) array, increasing along the last axis
    slopes, intercepts : (size, k + 1) arrays
        May be read-only broadcast views when all neurons share one function.
    """

    source: int = -1
    function: str = ""
    breakpoints: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    slopes: np.ndarray = field(default_factory=lambda: np.zeros((0, 1)))
    intercepts: np.ndarray = field(default_factory=lambda: np.zeros((0, 1)))

    kind = "piecewise"

    @property
    def sources(self) -> tuple[int, ...]:
        return (self.source,)

    @cached_property
    def is_relu(self) -> bool:
        """Whether every neuron is ``max(0, x)``."""
        return bool(
            self.breakpoints.shape[1] == 1
            and not self.breakpoints.any()
            and not self.intercepts.any()
            and not self.slopes[:, 0].any()
            and (self.slopes[:, 1] == 1).all()
        )

    @cached_property
    def jumps(self) -> np.ndarray:
        """(size, k) array: height of the step at each breakpoint, 0 if continuous."""
        t = self.breakpoints
        rise, base = self.slopes, self.intercepts
        left, right = rise[:, :-1] * t, rise[:, 1:] * t
        # The slack is relative to the terms: a step of 1e-13 between values of 1e-13 is one.
        scale = abs(left) + abs(right) + abs(base[:, :-1]) + abs(base[:, 1:])
        jump = (right + base[:, 1:]) - (left + base[:, :-1])
        return np.where(abs(jump) <= 1e-12 * scale, 0.0, jump)

    @property
    def is_continuous(self) -> bool:
        """Whether no neuron has a step."""
        return not self.jumps.any()

    def piece(self, x: np.ndarray) -> np.ndarray:
        """Index of the piece that holds each entry of ``x``, shape (N, size)."""
        if self.breakpoints.shape[1] > FEW:
            return self._places.count_to(x)
        index = np.zeros(x.shape, dtype=np.int64)
        for p in range(self.breakpoints.shape[1]):
            index += x >= self.breakpoints[:, p]
        return index

    def pieces_before(self, x: np.ndarray) -> np.ndarray:
        """How many pieces end before each entry of ``x``, shape (N, size)."""
        return self._places.count_below(x)

    @cached_property
    def _places(self) -> SortedRows:
        return SortedRows(self.breakpoints)

    @cached_property
    def _at_breakpoints(self) -> Extremes:
        """The values on both sides of breakpoints."""
        t, a, c = self.breakpoints, self.slopes, self.intercepts
        left, right = a[:, :-1] * t + c[:, :-1], a[:, 1:] * t + c[:, 1:]
        return Extremes(np.minimum(left, right), np.maximum(left, right))

    @cached_property
    def _steepness(self) -> Extremes:
        return Extremes(self.slopes, self.slopes)

    def slope_range(
        self, lower: np.ndarray, upper: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Least and greatest slope of the pieces that meet ``[lower, upper]``, ends included.

        (N, size) arrays.
        """
        t, k = self.breakpoints, self.breakpoints.shape[1]
        if k > FEW:
            places = self._places
            return self._steepness.over(
                places.count_below(lower), places.count_to(upper) + 1
            )
        least, greatest = np.full(lower.shape, np.inf), np.full(lower.shape, -np.inf)
        for p in range(k + 1):
            met = np.ones(lower.shape, dtype=bool)
            if p > 0:
                met &= t[:, p - 1] <= upper
            if p < k:
                met &= lower <= t[:, p]
            slope = self.slopes[:, p]
            least = np.where(met, np.minimum(least, slope), least)
            greatest = np.where(met, np.maximum(greatest, slope), greatest)
        return least, greatest

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Apply to an (N, size) array of pre-activations."""
        if self.function == "relu":
            return np.maximum(x, 0.0)
        if self.breakpoints.shape[1] > FEW:
            unit, piece = np.arange(self.size), self.piece(x)
            return np.asarray(self.slopes[unit, piece] * x + self.intercepts[unit, piece])
        y = self.slopes[:, 0] * x + self.intercepts[:, 0]
        for p in range(self.breakpoints.shape[1]):
            right = self.slopes[:, p + 1] * x + self.intercepts[:, p + 1]
            y = np.where(x >= self.breakpoints[:, p], right, y)
        return y

    def range(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Smallest and largest value over the intervals ``[lower, upper]``.

        At a step inside the interval, both of its values count. The arrays may have
        leading batch axes; the last axis has the node's size.
        """
        if self.function == "relu":  # what the lines below find, in two steps
            return np.maximum(lower, 0.0), np.maximum(upper, 0.0)
        first, last = self(np.atleast_2d(lower)), self(np.atleast_2d(upper))
        low, high = np.minimum(first, last), np.maximum(first, last)
        many = self.breakpoints.shape[1] > FEW
        if many:
            met = self._places.count_below(lower), self._places.count_to(upper)
            least, greatest = self._at_breakpoints.over(*met)
            low, high = np.minimum(low, least), np.maximum(high, greatest)
        for p in range(0 if many else self.breakpoints.shape[1]):
            t = self.breakpoints[:, p]
            inside = (lower <= t) & (t <= upper)
            for q in (p, p + 1):
                value = self.slopes[:, q] * t + self.intercepts[:, q]
                low = np.where(inside, np.minimum(low, value), low)
                high = np.where(inside, np.maximum(high, value), high)
        shape = np.broadcast_shapes(np.shape(lower), np.shape(upper))
        return low.reshape(shape), high.reshape(shape)


@dataclass(frozen=True, eq=False)
class Smooth(Node):
    """``y_i = phi(x_i)`` for a smooth function of one argument.

    Attributes
    ----------
    source : int
        Position of the node whose entries are the pre-activations.
    function : str
        Its name in :data:`~pyomo_relu.network.smooth_functions.SMOOTH_FUNCTIONS`.
    parameter : float
        The ``alpha`` of ``elu``, positive; 1 for the others.
    """

    source: int = -1
    function: str = ""
    parameter: float = 1.0

    kind = "smooth"

    @property
    def sources(self) -> tuple[int, ...]:
        return (self.source,)

    @property
    def form(self) -> SmoothFunction:
        """What is known of the function."""
        return smooth_function(self.function)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Apply to an array of pre-activations of any shape."""
        with np.errstate(over="ignore", under="ignore"):
            return self.form.value(np.asarray(x, dtype=float), self.parameter)

    def derivative(self, x: np.ndarray) -> np.ndarray:
        """The derivative at an array of pre-activations; at a kink that from the right."""
        with np.errstate(over="ignore", under="ignore"):
            return self.form.derivative(np.asarray(x, dtype=float), self.parameter)

    def range(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Smallest and largest value over ``[lower, upper]``, rounded outwards.

        The range holds the true values and the computed ones. The arrays may have leading
        batch axes; the last axis has the node's size.

        Raises
        ------
        ValueError
            Where ``exp`` or ``square`` overflows.
        """
        form = self.form
        least, most = np.min(lower, initial=0.0), np.max(upper, initial=0.0)
        if least < form.domain[0] or most > form.domain[1]:
            beyond = most if most > form.domain[1] else least
            raise ValueError(
                f"layer '{self.name}' computes {self.function}(x) with x up to "
                f"{beyond:.3g}, which float64 can't hold; give its inputs tighter bounds."
            )
        first, last = self(lower), self(upper)
        low, high = np.minimum(first, last), np.maximum(first, last)
        if form.turn is not None:
            inside = (lower <= form.turn) & (form.turn <= upper)
            low = np.where(inside, self(np.full(np.shape(low), form.turn)), low)
        low = np.maximum(low - 2.0 * form.error(low), form.least)
        high = np.minimum(high + 2.0 * form.error(high), form.greatest)
        return low, high


@dataclass(frozen=True, eq=False)
class Max(Node):
    """``y_j = max`` of ``x[indices[indptr[j]:indptr[j+1]]]``; no group is empty.

    Attributes
    ----------
    source : int
        Position of the node whose entries are compared.
    indptr : (size + 1,) int array
    indices : int array
        Entries of the source, group after group.
    """

    source: int = -1
    indptr: np.ndarray = field(default_factory=lambda: np.zeros(1, dtype=np.int64))
    indices: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    kind = "max"

    @property
    def sources(self) -> tuple[int, ...]:
        return (self.source,)

    def group(self, j: int) -> np.ndarray:
        """Entries of the source that unit ``j`` compares."""
        return self.indices[self.indptr[j] : self.indptr[j + 1]]

    def contenders(self, j: int, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        """Entries that can be the maximum of unit ``j`` (Tjeng et al., section 4.2).

        An entry is left out if its upper bound is below the largest lower bound; of those
        that are equal to it, as with repeated entries, one stays.

        Parameters
        ----------
        lower, upper : (size of source,) arrays
            Bounds of the source.
        """
        group = np.unique(self.group(j))
        best = group[np.argmax(lower[group])]
        return group[(upper[group] > lower[best]) | (group == best)]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Apply to an (N, size of source) array."""
        return np.maximum.reduceat(x[..., self.indices], self.indptr[:-1], axis=-1)


def arrays_of(node: Node) -> dict[str, np.ndarray]:
    """The arrays of a node by a name, CSR matrices as their three parts."""
    found: dict[str, np.ndarray] = {}
    if isinstance(node, Affine):
        found["bias"] = node.bias
        for k, w in enumerate(node.weights):
            if sp.issparse(w):
                found[f"w{k}.data"] = w.data
                found[f"w{k}.indices"] = w.indices
                found[f"w{k}.indptr"] = w.indptr
            else:
                found[f"w{k}"] = w
    elif isinstance(node, PiecewiseLinear):
        found = {
            "breakpoints": node.breakpoints,
            "slopes": node.slopes,
            "intercepts": node.intercepts,
        }
    elif isinstance(node, Max):
        found = {"indptr": node.indptr, "indices": node.indices}
    return found
