"""Reading is checked: the source and the network are evaluated at the same points.

Whatever a reader doesn't see (a method that was replaced, a mask, a branch that a trace
took once and for all) shows as a difference. Where outputs differ by more than a few
units in the last place, every layer is compared by itself, on the values that the
framework itself gives it: then no error of rounding is carried from layer to layer, and
a difference beyond what the rounding of this one layer can make names the layer.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from pyomo_relu.network import Input, Network
from pyomo_relu.network.limits import need
from pyomo_relu.network.nodes import Node
from pyomo_relu.readers.affine_graph import AffineGraph
from pyomo_relu.readers.frameworks import CannotRunHere, Framework, Record
from pyomo_relu.readers.layer_ranges import Range, node_range
from pyomo_relu.readers.naming import first_line
from pyomo_relu.readers.points import probing_points
from pyomo_relu.readers.values import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Tolerances:
    """What may differ without being a difference; all chosen by hand.

    Attributes
    ----------
    small : float
        The units in the last place of the largest value of an output that need no second
        look.
    replayed : float
        By how much a replay of the single layers may differ from the model as a whole,
        relative to what rounding was measured to make of it.
    entry_memory : float
        The bytes that an entry of a layer takes while points are chosen: a few arrays of
        all candidates.
    """

    small: float = 32.0
    replayed: float = 64.0
    entry_memory: float = 500.0


_TOLERANCES = Tolerances()


def built(
    graph: AffineGraph,
    outputs: Sequence[Tensor],
    framework: Callable[[], Framework | None] | None,
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    head: str | None = None,
) -> Network:
    """The network of a graph, checked against what ``framework`` makes, if anything.

    Raises
    ------
    ValueError
        If they differ, and if fractions of an input are cut off.
    """
    graph.refuse_cuts()
    handles = [x.handle for x in outputs]
    network = graph.builder.build(
        handles, input_names=input_names, output_names=output_names
    ).with_head(head)
    source = None if framework is None else framework()
    if source is not None:
        source.admitted, source.integers = dict(graph.admitted), set(graph.integers)
        check_reading(source, network, graph.builder.nodes, handles)
    return network


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
    entries = float(sum(node.size for node in network.nodes))
    need(
        "the check of it (check_reading=False leaves it out)",
        passing=_TOLERANCES.entry_memory * entries,
    )
    points = probing_points(network, framework.arithmetic.largest)
    points = framework.represent(points)
    points = points[np.isfinite(points).all(axis=1)]
    try:
        expected = _evaluated(framework, framework.outputs, points)
    except CannotRunHere as reason:
        warnings.warn(
            f"{framework.name} can't be run here ({reason}); the network that was read "
            "from it is not checked.",
            stacklevel=3,
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
    points, expected, found = points[finite], _at(finite, expected), _at(finite, found)
    if all(_close(e, f, framework.arithmetic.epsilon) for e, f in zip(expected, found)):
        return
    records, whole = _evaluated(framework, framework.replay, points) or ([], None)
    ranges = _enclosures(nodes, points, records, framework)
    if whole is None:
        _compare_ranges(framework, expected, [ranges[i] for i in outputs])
    else:
        _compare_replay(framework, expected, whole, found)


def _at(rows: np.ndarray, values: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [v[rows] for v in values]


def _refused(framework: Framework, what: str) -> ValueError:
    return ValueError(
        f"{framework.name} is not what was read from it: it {what}. Something in it is "
        "not seen by the reader, such as a replaced method, a hook or a state; write it "
        "with plain layers, or export it to ONNX. check_reading=False reads it unchecked."
    )


def _evaluated(
    framework: Framework, function: Callable[[np.ndarray], T], points: np.ndarray
) -> T:
    try:
        return function(points)
    except CannotRunHere:
        raise
    except Exception as error:
        raise ValueError(
            f"{framework.name} can't be evaluated at a point of its inputs' shapes "
            f"({type(error).__name__}: {first_line(error)})."
        ) from error


def _close(expected: np.ndarray, found: np.ndarray, epsilon: float) -> bool:
    """Whether outputs agree to a few units in the last place of their largest value."""
    allowed = _TOLERANCES.small * epsilon * np.abs(expected).max(axis=0)
    return bool((np.abs(expected - found) <= allowed).all())


# ------------------------------------------------------------------- layer by layer
def _enclosures(
    nodes: Sequence[Node],
    points: np.ndarray,
    records: Sequence[Record],
    framework: Framework,
) -> list[Range]:
    """Ranges that hold the values of each node, computed in the model's arithmetic.

    Where the framework's own value is known it is compared, and the nodes after it
    start from it; a value outside is refused, and the layer named.
    """
    known: dict[int, list[Record]] = {}
    for record in records:
        known.setdefault(record.handle, []).append(record)
    ranges: list[Range] = []
    start = 0
    for i, node in enumerate(nodes):
        if isinstance(node, Input):
            columns = points[:, start : start + node.size]
            start += node.size
            ranges.append((columns, columns))
            continue
        low, high = node_range(
            node, [ranges[s] for s in node.sources], framework.arithmetic
        )
        for record in known.get(i, ()):
            _refuse_beyond(framework, record.layer, record.values, low, high)
        if i in known:
            low = high = known[i][-1].values
        ranges.append((low, high))
    return ranges


def _compare_ranges(
    framework: Framework, expected: Sequence[np.ndarray], ranges: Sequence[Range]
) -> None:
    """Raise if an output is outside of what rounding can make of it."""
    for k, (e, (low, high)) in enumerate(zip(expected, ranges)):
        middle, slack = (low + high) / 2, (high - low) / 2
        if k in framework.heads:
            # Softmax and its like change by at most twice what their input does.
            middle = framework.shown(k, middle)
            slack = 2.0 * slack.max(axis=1, keepdims=True)
        slack = slack + _TOLERANCES.small * framework.arithmetic.epsilon * np.abs(e)
        _refuse_beyond(framework, "its output", e, middle - slack, middle + slack)


def _compare_replay(
    framework: Framework,
    expected: Sequence[np.ndarray],
    whole: Sequence[np.ndarray],
    found: Sequence[np.ndarray],
) -> None:
    """Raise if the model as a whole is something else than its layers, one by one."""
    for k, (e, w, f) in enumerate(zip(expected, whole, found)):
        measured = np.abs(f - w).max(initial=0.0)
        least = framework.arithmetic.epsilon * np.abs(e).max(initial=0.0)
        if not (np.abs(e - w) <= _TOLERANCES.replayed * max(measured, least)).all():
            at = np.unravel_index(np.abs(e - w).argmax(), e.shape)
            raise _refused(
                framework,
                f"gives {e[at]:.6g} as entry {at[1]} of its output {k + 1} at a test "
                f"point, but its layers, one after the other, give {w[at]:.6g}",
            )


def _refuse_beyond(
    framework: Framework, what: str, values: np.ndarray, low: np.ndarray, high: np.ndarray
) -> None:
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
