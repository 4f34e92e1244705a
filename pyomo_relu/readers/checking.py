"""Reading is checked: the source and the network are evaluated at the same points.

Whatever a reader doesn't see (a method that was replaced, a mask, a branch that a trace
took once and for all) shows as a difference. Where outputs differ by more than a few
units in the last place, every layer is compared by itself, on the values that the
framework itself gives it: then no error of rounding is carried from layer to layer, and
a difference beyond what the rounding of this one layer can make names the layer.

The bound on rounding is that of a sum of n products in floating-point arithmetic,
``eps * f(n) * (|W| |x| + |b|)`` (Higham, Accuracy and Stability of Numerical
Algorithms, 2nd ed., section 3.1), with ``f(n) = 8 + 4 sqrt(n)``: the errors of single
operations add like random ones, and libraries sum in blocks.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyomo_relu.network import Affine, Input, Max, Network, PiecewiseLinear
from pyomo_relu.network.limits import need
from pyomo_relu.network.nodes import Node, Weight
from pyomo_relu.network.weights import absolute, row_nonzeros
from pyomo_relu.readers.points import probing_points
from pyomo_relu.readers.values import Call

#: Units in the last place of the largest value of an output that need no second look.
SMALL = 32.0
#: What the rounding of one layer may reach: a sum of n products, in units of
#: ``eps * (|W| |x| + |b|)``. See the module's docstring.
ROUNDING = (8.0, 4.0)
#: By what a replay of the single layers may differ from the model as a whole, relative
#: to what rounding was measured to make of it.
REPLAYED = 64.0

#: Bytes that an entry of a layer takes: a few arrays of all candidates for test points.
CHECKED = 500.0

_EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10}
_EPSILON |= {"bfloat16": 2.0**-7}
_LARGEST = {"float64": 1e300, "float32": 3e38, "float16": 6e4, "bfloat16": 3e38}


@dataclass(frozen=True)
class Arithmetic:
    """The floating-point numbers that a model computes with.

    Attributes
    ----------
    dtype : str
        The coarsest type; the points are numbers of it.
    epsilon : float
        The distance from 1 to the next number; larger where a device computes coarser.
    largest : float
    mixed : bool
        Whether types are mixed, so that even a copy may round.
    """

    dtype: str
    epsilon: float
    largest: float
    mixed: bool = False

    @classmethod
    def of(cls, dtypes: Iterable[str], coarse: bool = False) -> Arithmetic:
        """The arithmetic of a model that holds tensors of these types.

        ``coarse`` says that a device may multiply in TF32, with the eleven bits of half
        precision.

        Raises
        ------
        ValueError
            For a type that is not known here.
        """
        found = set(dtypes) or {"float32"}
        unknown = sorted(found - set(_EPSILON))
        if unknown:
            raise ValueError(
                f"the dtype {unknown[0]} is not known; convert the model to float32."
            )
        coarsest = max(found, key=lambda d: _EPSILON[d])
        epsilon = _EPSILON[coarsest]
        if coarse:
            epsilon = max(epsilon, _EPSILON["float16"])
        largest = min(_LARGEST[d] for d in found)
        return cls(coarsest, epsilon, largest, coarse or len(found) > 1)

    def represent(self, points: np.ndarray) -> np.ndarray:
        """``points`` rounded to numbers of the type, as float64."""
        with np.errstate(over="ignore"):
            if self.dtype == "bfloat16":
                bits = np.ascontiguousarray(points, dtype=np.float32).view(np.uint32)
                return (bits & np.uint32(0xFFFF0000)).view(np.float32).astype(float)
            return points.astype(self.dtype).astype(float)


@dataclass(frozen=True)
class Record:
    """What one layer gave in the framework.

    Attributes
    ----------
    layer : str
        How errors name it.
    handle : int
        The node of the builder that was made for it.
    values : (N, size) array
    """

    layer: str
    handle: int
    values: np.ndarray


class CannotRunHere(Exception):
    """The model is sound, but this machine can't run it; the message says why."""


class Framework(ABC):
    """A model as its framework evaluates it; each reader has its own.

    Attributes
    ----------
    name : str
        How errors name the model, for example ``"the Keras model 'm'"``.
    arithmetic : Arithmetic
    heads : dict of callables
        By the number of an output: the smooth function that was taken off there, on
        (N, size) values of the network.
    """

    name: str
    arithmetic: Arithmetic

    def __init__(self) -> None:
        self.heads: dict[int, Callable[[np.ndarray], np.ndarray]] = {}

    @abstractmethod
    def outputs(self, points: np.ndarray) -> list[np.ndarray]:
        """One (N, size) array for each output of the network, as a user would get it."""

    def shown(self, k: int, values: np.ndarray) -> np.ndarray:
        """What a user would get where the network's output ``k`` has these values."""
        return self.heads[k](values) if k in self.heads else values

    def replay(
        self, points: np.ndarray
    ) -> tuple[list[Record], list[np.ndarray] | None] | None:
        """What each layer gives, in their order, and the outputs of all; None: unknown."""
        return None


class CalledFramework(Framework):
    """A model whose parts were noted as :class:`~pyomo_relu.readers.tensors.Call`.

    Parameters
    ----------
    name : str
    run : callable
        From (N, n_inputs) points to one (N, size) array for each output.
    calls : sequence of Call
        In the order in which they run.
    source : int, optional
        The builder's node of the input, where there is only one.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[np.ndarray], list[np.ndarray]],
        calls: Sequence[Call],
        source: int | None,
    ) -> None:
        super().__init__()
        self.name, self.run, self.calls, self.source = name, run, calls, source
        self.arithmetic = Arithmetic.of(["float64"])

    def outputs(self, points: np.ndarray) -> list[np.ndarray]:
        return self.run(points)

    def replay(self, points: np.ndarray) -> tuple[list[Record], None]:
        """The results of all calls that can be reached from the input by calls."""
        known = {} if self.source is None else {self.source: points}
        records = []
        for call in self.calls:
            if call.source in known:
                known[call.result] = call.run(known[call.source].copy())
                records.append(Record(call.layer, call.result, known[call.result]))
        return records, None


def check_reading(
    framework: Framework, network: Network, nodes: Sequence[Node], outputs: Sequence[int]
) -> None:
    """Raise unless ``network`` is what ``framework`` computes.

    Parameters
    ----------
    framework : Framework
    network : Network
        As it was built.
    nodes : sequence of Node
        The nodes of its builder, before any was fused.
    outputs : sequence of int
        The nodes among them that are the outputs.

    Raises
    ------
    ValueError
        Names the first layer that differs, or says why the model can't be evaluated.

    Warns
    -----
    UserWarning
        If this machine can't run the model; the network is not checked then.
    """
    entries = sum(node.size for node in network.nodes)
    need(
        "the check of it (check_reading=False leaves it out)",
        passing=CHECKED * float(entries),
    )
    points = probing_points(network, framework.arithmetic.largest)
    points = framework.arithmetic.represent(points)
    points = points[np.isfinite(points).all(axis=1)]
    try:
        expected = _evaluated(framework, framework.outputs, points)
    except CannotRunHere as reason:
        warnings.warn(
            f"{framework.name} can't be run here ({reason}); the network that was read "
            "from it is not checked.",
            stacklevel=2,
        )
        return
    values = network.activations(points)
    found = [framework.shown(k, values[i]) for k, i in enumerate(network.outputs)]
    sizes = [[v.shape[1] for v in part] for part in (expected, found)]
    if sizes[0] != sizes[1]:
        raise _refused(
            framework,
            f"has outputs of {sizes[0]} entries, and the network read from it of "
            f"{sizes[1]}",
        )
    finite = np.all([np.isfinite(e).all(axis=1) for e in expected], axis=0)
    if not finite.any():
        raise ValueError(
            f"{framework.name} gives NaN or infinite values at all test points; check its "
            "weights and the range of its inputs."
        )
    points, expected = points[finite], [e[finite] for e in expected]
    found = [f[finite] for f in found]
    if all(_close(e, f, framework.arithmetic.epsilon) for e, f in zip(expected, found)):
        return
    _compare_layers(framework, nodes, outputs, points, expected, found)


def _refused(framework: Framework, what: str) -> ValueError:
    return ValueError(
        f"{framework.name} is not what was read from it: it {what}. Something in it is "
        "not seen by the reader, such as a replaced method, a hook or a state; write it "
        "with plain layers, or export it to ONNX. check_reading=False reads it unchecked."
    )


def _evaluated(framework: Framework, function: Any, points: np.ndarray) -> Any:
    try:
        return function(points)
    except CannotRunHere:
        raise
    except Exception as error:
        raise ValueError(
            f"{framework.name} can't be evaluated at a point of its inputs' shapes "
            f"({type(error).__name__}: {first_line(error)})."
        ) from error


def first_line(error: BaseException) -> str:
    """The first line of an error of another library, which may have very many."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300].rstrip(".") if lines else "no message"


def _close(expected: np.ndarray, found: np.ndarray, epsilon: float) -> bool:
    """Whether outputs agree to a few units in the last place of their largest value."""
    scale = np.abs(expected).max(axis=0)
    return bool((np.abs(expected - found) <= SMALL * epsilon * scale).all())


# ------------------------------------------------------------------- layer by layer
def _compare_layers(
    framework: Framework,
    nodes: Sequence[Node],
    outputs: Sequence[int],
    points: np.ndarray,
    expected: list[np.ndarray],
    found: list[np.ndarray],
) -> None:
    """Raise if a layer by itself differs by more than its rounding can make."""
    replayed = _evaluated(framework, framework.replay, points)
    records, whole = replayed if replayed is not None else ([], None)
    ranges = enclosures(nodes, points, records, framework)
    epsilon = framework.arithmetic.epsilon
    if whole is None:
        for k, (i, e) in enumerate(zip(outputs, expected)):
            low, high = ranges[i]
            middle, slack = (low + high) / 2, (high - low) / 2
            if k in framework.heads:
                # Softmax and its like change by at most twice what their input does.
                middle = framework.shown(k, middle)
                slack = 2.0 * slack.max(axis=1, keepdims=True)
            slack = slack + SMALL * epsilon * np.abs(e)
            _refuse_beyond(framework, "its output", e, middle - slack, middle + slack)
        return
    for k, (e, w, f) in enumerate(zip(expected, whole, found)):
        measured = np.abs(f - w).max(initial=0.0)
        rounding = REPLAYED * max(measured, epsilon * np.abs(e).max(initial=0.0))
        if not (np.abs(e - w) <= rounding).all():
            at = np.unravel_index(np.abs(e - w).argmax(), e.shape)
            raise _refused(
                framework,
                f"gives {e[at]:.6g} as entry {at[1]} of its output {k + 1} at a test "
                f"point, but its layers, one after the other, give {w[at]:.6g}",
            )


def _refuse_beyond(framework, what: str, values, low, high) -> None:
    """Raise if some value of a layer is outside ``[low, high]``, or not a number."""
    if values.shape != low.shape:
        raise _refused(
            framework,
            f"gives {values.shape[1]} entries in {what}, and the network read from it has "
            f"{low.shape[1]}",
        )
    wrong = ~((values >= low) & (values <= high)) & np.isfinite(low) & np.isfinite(high)
    if wrong.any():
        excess = np.where(wrong, np.maximum(low - values, values - high), -np.inf)
        excess = np.where(np.isnan(excess), np.inf, excess)
        at = np.unravel_index(excess.argmax(), excess.shape)
        raise _refused(
            framework,
            f"gives {values[at]:.6g} as entry {at[1]} of {what} at a test point, and the "
            f"network read from it {(low[at] + high[at]) / 2:.6g}",
        )


def enclosures(
    nodes: Sequence[Node],
    points: np.ndarray,
    records: Sequence[Record],
    framework: Framework,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Ranges that hold the values of each node, computed in the model's arithmetic.

    Where the framework's own value is known it is compared, and the nodes after it
    start from it.

    Returns
    -------
    list of (lower, upper), arrays of shape (N, size)

    Raises
    ------
    ValueError
        If a recorded value is outside; names the layer.
    """
    known: dict[int, list[Record]] = {}
    for record in records:
        known.setdefault(record.handle, []).append(record)
    ranges: list[tuple[np.ndarray, np.ndarray]] = []
    start = 0
    for i, node in enumerate(nodes):
        if isinstance(node, Input):
            columns = points[:, start : start + node.size]
            start += node.size
            ranges.append((columns, columns))
            continue
        low, high = _range(node, [ranges[s] for s in node.sources], framework.arithmetic)
        for record in known.get(i, ()):
            _refuse_beyond(framework, record.layer, record.values, low, high)
        if i in known:
            low = high = known[i][-1].values
        ranges.append((low, high))
    return ranges


def _range(node: Node, sources: list, arithmetic: Arithmetic) -> tuple:
    """The range of one node over ranges of its sources, with its own rounding."""
    epsilon = arithmetic.epsilon
    if isinstance(node, Affine):
        middles = [(low + high) / 2 for low, high in sources]
        radii = [(high - low) / 2 for low, high in sources]
        value = node(*middles)
        sizes = np.abs(np.broadcast_to(node.bias, value.shape)).copy()
        radius = np.zeros_like(value)
        counts = (node.bias != 0).astype(float)
        for w, m, r in zip(node.weights, middles, radii):
            size = absolute(w)
            sizes += (size @ np.abs(m).T).T
            radius += (size @ r.T).T
            counts += row_nonzeros(w)
        factor = epsilon * (ROUNDING[0] + ROUNDING[1] * np.sqrt(counts))
        own = factor * sizes
        if not arithmetic.mixed:
            own = np.where(_exact(node, middles, radii, sizes, counts, epsilon), 0.0, own)
        radius += own
        return value - radius, value + radius
    low, high = sources[0]
    if isinstance(node, Max):
        first, last = node(low), node(high)
        slack = 4.0 * epsilon * np.abs(last) if arithmetic.mixed else 0.0
        return first - slack, last + slack
    assert isinstance(node, PiecewiseLinear)
    first, last = node.range(low, high)
    # At a breakpoint that is hit exactly, a step has one value.
    value, single = node(low), low == high
    first, last = np.where(single, value, first), np.where(single, value, last)
    piece = node.piece((low + high) / 2)
    units = np.arange(node.size)
    slopes, shifts = node.slopes[units, piece], node.intercepts[units, piece]
    slack = 4.0 * epsilon * (np.abs(slopes * (low + high) / 2) + np.abs(shifts))
    if node.is_relu and not arithmetic.mixed:
        slack = 0.0
    return first - slack, last + slack


def _exact(node: Affine, middles, radii, sizes, counts, epsilon: float) -> np.ndarray:
    """Where an affine node doesn't round: copies, and sums of small whole numbers.

    A step sees whether a sum is exactly 0, and in networks of signs it often is.
    """
    units = np.ones(node.size, dtype=bool)
    whole = np.equal(np.mod(node.bias, 1.0), 0.0)
    for w in node.weights:
        units &= _failures(w, lambda v: (np.abs(v) == 1.0) | (v == 0.0)) == 0
        whole &= _failures(w, lambda v: np.mod(v, 1.0) == 0.0) == 0
    steady = np.ones(len(sizes), dtype=bool)
    for m, r in zip(middles, radii):
        steady &= np.equal(np.mod(m, 1.0), 0.0).all(axis=1) & ~r.any(axis=1)
    sums = steady[:, None] & whole & (sizes < 1.0 / epsilon)
    return (units & (counts <= 1)) | sums


def _failures(w: Weight, test: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """How many entries of each row fail a test that 0 passes."""
    if isinstance(w, np.ndarray):
        return np.count_nonzero(~test(w), axis=1)
    wrong = type(w)(((~test(w.data)).astype(float), w.indices, w.indptr), shape=w.shape)
    return np.asarray(wrong.sum(axis=1)).reshape(-1)
