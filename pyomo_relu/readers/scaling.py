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
from typing import Any

import numpy as np

from pyomo_relu.network import Affine, Input, Max, Network, NetworkBuilder, PiecewiseLinear
from pyomo_relu.readers import sklearn
from pyomo_relu.readers.checking import check_reading as check
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
    graph = TensorGraph()
    handles, input_names, joined = _scaled_inputs(graph, network, input_scaler)
    inputs = [i for i, n in enumerate(graph.builder.nodes) if isinstance(n, Input)]
    copied = copy_nodes(graph.builder, network, handles)
    outputs = [copied[i] for i in network.outputs]
    output_names: Sequence[str] | None = network.output_names
    if output_scaler is not None:
        outputs = _unscaled_outputs(graph, network, outputs, output_scaler)
        output_names = output_names or sklearn.feature_names(output_scaler)
    scaled = graph.builder.build(
        outputs, inputs=inputs, input_names=input_names, output_names=output_names
    )
    if check_reading:
        _check(graph, network, scaled, outputs, joined, input_scaler, output_scaler)
    return scaled


def _check(graph, network, scaled, outputs, joined, input_scaler, output_scaler) -> None:
    """Compare with the scalers themselves, which call the network in between."""

    def run(points: np.ndarray) -> list[np.ndarray]:
        x = points
        if input_scaler is not None:
            pair = _pair(input_scaler, "input_scaler", network.n_inputs)
            if pair is None:
                x = sklearn.called(input_scaler, "transform", x)
            else:
                x = (x - pair[0]) / pair[1]
        y = network.evaluate(x)
        if output_scaler is not None:
            pair = _pair(output_scaler, "output_scaler", network.n_outputs)
            if pair is None:
                y = sklearn.called(output_scaler, "inverse_transform", y)
            else:
                y = y * pair[1] + pair[0]
        ends = np.cumsum([scaled.nodes[i].size for i in scaled.outputs])[:-1]
        return np.split(y, ends, axis=1)

    framework = CalledFramework("the network with its scalers", run, graph.calls, joined)
    check(framework, scaled, graph.builder.nodes, outputs)


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
        elif isinstance(node, Max):
            groups = [node.group(j) for j in range(node.size)]
            new[i] = builder.max(node.name, new[node.source], groups, node.shape)
    return new


def _pair(scaler: Any, what: str, n: int) -> tuple[np.ndarray, np.ndarray] | None:
    """(offset, factor) as (n,) arrays; None for a scikit-learn transformer."""
    if sklearn.is_sklearn(scaler):
        return None
    if not isinstance(scaler, (tuple, list)) or len(scaler) != 2:
        raise ValueError(
            f"{what} must be a fitted scikit-learn scaler or a pair (offset, factor), "
            f"not {type(scaler).__name__}."
        )
    arrays = []
    for key, value in zip(("offset", "factor"), scaler):
        try:
            array = np.asarray(value, dtype=float).reshape(-1)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{what} has a {key} that is no number: {value!r}.") from error
        if array.size not in (1, n):
            raise ValueError(f"{what} has {array.size} entries as {key}; {n} are needed.")
        if not np.isfinite(array).all() or key == "factor" and not array.all():
            raise ValueError(f"{what} needs finite offsets and finite non-zero factors.")
        arrays.append(np.broadcast_to(array, (n,)))
    return arrays[0], arrays[1]


def _scaled_inputs(
    graph: TensorGraph, network: Network, scaler: Any
) -> tuple[dict[int, int], Sequence[str] | None, int | None]:
    """Handles of the scaled inputs by position in ``network``, and the input names.

    The third is the handle of what the scaler reads, all inputs as one vector.
    """
    nodes = [network.nodes[i] for i in network.inputs]
    names: Sequence[str] | None = network.input_names
    n = network.n_inputs
    size = getattr(scaler, "n_features_in_", n)
    if size != n and len(nodes) > 1:
        raise ValueError(
            f"input_scaler was fitted on {size} features; the network has {n} inputs."
        )
    flat = []
    for node in nodes:
        shape = node.shape if size == n else (int(size),)
        x = graph.input(node.name, (1, *shape), 0)
        flat.append(graph.reshape(x, (1, x.size)))
    read = None
    if scaler is not None:
        if size == n:
            names = names or sklearn.feature_names(scaler)
        else:
            names = sklearn.feature_names(scaler)
        joined = flat[0] if len(flat) == 1 else concatenate(graph, "inputs", flat, 1)
        read = joined.handle
        pair = _pair(scaler, "input_scaler", n)
        if pair is None:
            scaled = sklearn.transform(graph, "input_scaler", scaler, joined)
        else:
            offset, factor = pair
            scaled = graph.scale("input_scaler", joined, 1.0 / factor, -offset / factor)
        if scaled.size != n:
            raise ValueError(
                f"input_scaler makes {scaled.size} features; the network has {n} inputs."
            )
        flat = _split(graph, "input_scaler", scaled, [node.shape for node in nodes])
    return {i: x.handle for i, x in zip(network.inputs, flat)}, names, read


def _split(graph: TensorGraph, name: str, x: Tensor, shapes) -> list[Tensor]:
    """The parts of a flat tensor, one for each shape."""
    if len(shapes) == 1:
        return [x]
    parts, start = [], 0
    for k, shape in enumerate(shapes):
        n = int(np.prod(shape, dtype=np.int64))
        codes = np.arange(start, start + n).reshape(1, *shape)
        parts.append(graph.rearrange(f"{name}_{k + 1}", [x], codes, batch=0))
        start += n
    return parts


def _unscaled_outputs(
    graph: TensorGraph, network: Network, outputs: list[int], scaler: Any
) -> list[int]:
    nodes = [network.nodes[i] for i in network.outputs]
    flat = [Tensor(h, (1, node.size), 0) for h, node in zip(outputs, nodes)]
    joined = flat[0] if len(flat) == 1 else concatenate(graph, "outputs", flat, 1)
    pair = _pair(scaler, "output_scaler", network.n_outputs)
    if pair is None:
        made = sklearn.inverse_transform(graph, "output_scaler", scaler, joined)
    else:
        offset, factor = pair
        made = graph.scale("output_scaler", joined, factor, offset)
    if made.size != network.n_outputs:
        return [made.handle]
    return [x.handle for x in _split(graph, "output", made, [n.shape for n in nodes])]
