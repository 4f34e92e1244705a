"""Networks that were trained on scaled data, in the user's own units.

With an input scaler and an output scaler, the network computes::

    y = unscale(network(scale(x)))

so that ``x`` and ``y`` are in engineering units. A scaler is a fitted scikit-learn
transformer (StandardScaler, MinMaxScaler, RobustScaler, MaxAbsScaler, PCA, ...), or a
pair ``(offset, factor)`` of numbers or arrays that means::

    scaled = (value - offset) / factor        for inputs
    value  = scaled * factor + offset         for outputs

Both are affine (a clipping MinMaxScaler adds one clip) and fuse into the layers next
to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np

from pyomo_relu.network import Affine, Max, Network, NetworkBuilder, PiecewiseLinear, Smooth
from pyomo_relu.readers import sklearn
from pyomo_relu.readers.checking import built
from pyomo_relu.readers.frameworks import CalledFramework
from pyomo_relu.readers.moves import concatenate
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.values import Tensor


def scale_network(
    network: Network,
    *,
    input_scaler: Any = None,
    output_scaler: Any = None,
    check_reading: bool = True,
) -> Network:
    """Return ``network`` between an input scaler and an output scaler.

    Parameters
    ----------
    network : Network
        Trained on scaled data.
    input_scaler, output_scaler : fitted scikit-learn transformer or (offset, factor)
        See :mod:`pyomo_relu.readers.scaling`. ``offset`` and ``factor`` are numbers, or
        arrays with one entry for each input or output.
    check_reading : bool
        Let the scalers scale a few points, and refuse them where the network differs by
        more than rounding.

    Returns
    -------
    Network
        Keeps its names of inputs and outputs; where it has none, it gets the DataFrame
        columns that the scaler was fitted on.

    Raises
    ------
    ValueError
        If a scaler doesn't fit the network, has a factor of 0, is not supported, or was
        not read as it scales.
    """
    if input_scaler is None and output_scaler is None:
        return network
    graph, n = TensorGraph(), network.n_inputs
    before = _Scaler("input_scaler", input_scaler, n)
    after = _Scaler("output_scaler", output_scaler, network.n_outputs)
    input_names: Sequence[str] | None = network.input_names
    output_names: Sequence[str] | None = network.output_names
    joined, flat = None, _inputs(graph, network, input_scaler)
    if input_scaler is not None:
        joined = _joined(graph, "inputs", flat)
        if joined.size != n or not input_names:
            input_names = sklearn.feature_names(input_scaler)
        scaled = before.apply(graph, joined)
        if scaled.size != n:
            raise ValueError(
                f"input_scaler makes {scaled.size} features; the network has {n} inputs."
            )
        flat = _split(graph, "input_scaler", scaled, network, network.inputs)
    handles = {i: x.handle for i, x in zip(network.inputs, flat)}
    copied = copy_nodes(graph.builder, network, handles)
    outputs = [Tensor(copied[i], (1, network.nodes[i].size), 0) for i in network.outputs]
    if output_scaler is not None:
        output_names = output_names or sklearn.feature_names(output_scaler)
        made = after.undo(graph, _joined(graph, "outputs", outputs))
        outputs = [made]
        if made.size == network.n_outputs:
            outputs = _split(graph, "output", made, network, network.outputs)
    framework = None
    if check_reading:
        ends = np.cumsum([x.size for x in outputs])[:-1]

        def run(points: np.ndarray) -> list[np.ndarray]:
            y = after.undone(network.evaluate(before.applied(points)))
            return np.split(y, ends, axis=1)

        source = None if joined is None else joined.handle
        framework = partial(
            CalledFramework,
            "the network with its scalers",
            run,
            graph.calls,
            source,
            graph.admitted,
        )
    made_of = built(
        graph, outputs, framework, input_names=input_names, output_names=output_names
    )
    return made_of if output_scaler is not None else made_of.with_head(network.head)


@dataclass(frozen=True)
class _Scaler:
    """A scaler of ``n`` entries, in a graph and on points; ``given`` may be None."""

    name: str
    given: Any
    n: int

    @property
    def pair(self) -> tuple[np.ndarray, np.ndarray]:
        """(offset, factor) as (n,) arrays."""
        if not isinstance(self.given, (tuple, list)) or len(self.given) != 2:
            raise ValueError(
                f"{self.name} must be a fitted scikit-learn scaler or a pair (offset, "
                f"factor), not {type(self.given).__name__}."
            )
        return self._array("offset", self.given[0]), self._array("factor", self.given[1])

    def _array(self, key: str, value: Any) -> np.ndarray:
        what = self.name
        try:
            array = np.asarray(value, dtype=float).reshape(-1)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{what} has a {key} that is no number: {value!r}.") from error
        if array.size not in (1, self.n):
            raise ValueError(
                f"{what} has {array.size} entries as {key}; {self.n} are needed."
            )
        if not np.isfinite(array).all() or key == "factor" and not array.all():
            raise ValueError(f"{what} needs finite offsets and finite non-zero factors.")
        return np.broadcast_to(array, (self.n,))

    def apply(self, graph: TensorGraph, x: Tensor) -> Tensor:
        if sklearn.is_sklearn(self.given):
            return sklearn.transform(graph, self.name, self.given, x)
        offset, factor = self.pair
        return graph.scale(self.name, x, 1.0 / factor, -offset / factor)

    def undo(self, graph: TensorGraph, x: Tensor) -> Tensor:
        if sklearn.is_sklearn(self.given):
            return sklearn.inverse_transform(graph, self.name, self.given, x)
        offset, factor = self.pair
        return graph.scale(self.name, x, factor, offset)

    def applied(self, points: np.ndarray) -> np.ndarray:
        if self.given is None:
            return points
        if sklearn.is_sklearn(self.given):
            return sklearn.called(self.given, "transform", points)
        return (points - self.pair[0]) / self.pair[1]

    def undone(self, points: np.ndarray) -> np.ndarray:
        if self.given is None:
            return points
        if sklearn.is_sklearn(self.given):
            return sklearn.called(self.given, "inverse_transform", points)
        return points * self.pair[1] + self.pair[0]


def copy_nodes(
    builder: NetworkBuilder, network: Network, handles: dict[int, int]
) -> dict[int, int]:
    """Add the nodes of ``network`` to ``builder``; ``handles`` replace its inputs."""
    new = dict(handles)
    for i, node in enumerate(network.nodes):
        if isinstance(node, Affine):
            terms = [(new[s], w) for s, w in zip(node.sources, node.weights)]
            new[i] = builder.affine(node.name, terms, node.bias, node.shape)
        elif isinstance(node, PiecewiseLinear):
            arrays = (node.breakpoints, node.slopes, node.intercepts)
            # one function for all neurons stays one row
            b, s, c = (a[0] if a.strides[0] == 0 else a for a in arrays)
            new[i] = builder.piecewise(
                node.name, new[node.source], (node.function, b, s, c)
            )
        elif isinstance(node, Smooth):
            source = new[node.source]
            new[i] = builder.smooth(node.name, source, node.function, node.parameter)
        elif isinstance(node, Max):
            groups = [node.group(j) for j in range(node.size)]
            new[i] = builder.max(node.name, new[node.source], groups, node.shape)
    return new


def _inputs(graph: TensorGraph, network: Network, scaler: Any) -> list[Tensor]:
    """The inputs as vectors, of as many entries as the scaler was fitted on."""
    nodes, n = [network.nodes[i] for i in network.inputs], network.n_inputs
    size = int(getattr(scaler, "n_features_in_", n))
    if size != n and len(nodes) > 1:
        raise ValueError(
            f"input_scaler was fitted on {size} features; the network has {n} inputs."
        )
    shapes = [node.shape if size == n else (size,) for node in nodes]
    inputs = [graph.input(v.name, (1, *shape), 0) for v, shape in zip(nodes, shapes)]
    return [graph.reshape(x, (1, x.size)) for x in inputs]


def _joined(graph: TensorGraph, name: str, parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else concatenate(graph, name, parts, 1)


def _split(
    graph: TensorGraph, name: str, x: Tensor, network: Network, nodes: Sequence[int]
) -> list[Tensor]:
    """The parts of a flat tensor, one for each of some nodes of the network."""
    if len(nodes) == 1:
        return [x]
    parts, start = [], 0
    for k, i in enumerate(nodes):
        shape = network.nodes[i].shape
        codes = start + np.arange(prod(shape)).reshape(1, *shape)
        parts.append(graph.rearrange(f"{name}_{k + 1}", [x], codes, batch=0))
        start += codes.size
    return parts
