"""`Network`: a trained network as a directed graph of affine, piecewise-linear, smooth, max.

The graph is a tuple of nodes in topological order. The flat input vector joins the
:class:`~pyomo_relu.network.nodes.Input` nodes, the flat output vector the output
nodes. :meth:`Network.evaluate` is the reference that every model is checked against.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.base.tables import aligned
from pyomo_relu.network.nodes import (
    Affine,
    Input,
    Node,
    PiecewiseLinear,
    Smooth,
    arrays_of,
)
from pyomo_relu.network.storage import load_network, save_network

#: What a network may remember of the function after its outputs.
HEADS = (None, "softmax", "sigmoid")


class Network:
    """A trained network.

    Build one with a reader (:func:`pyomo_relu.read_network`) or with a
    :class:`~pyomo_relu.network.NetworkBuilder`; it never changes afterwards.

    Attributes
    ----------
    nodes : tuple of Node
        In topological order.
    inputs, outputs : tuple of int
        Positions of the input and output nodes.
    input_names, output_names : tuple of str or None
        A name for each entry of the flat input and output vector.
    head : str or None
        What a reader took off the outputs by ``logits=True``, where that is known:
        ``"softmax"`` of all of them, or ``"sigmoid"`` of each.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        outputs: Sequence[int],
        inputs: Sequence[int] | None = None,
        input_names: Sequence[str] | None = None,
        output_names: Sequence[str] | None = None,
        *,
        head: str | None = None,
    ) -> None:
        if head not in HEADS:
            raise ValueError(f"head={head!r} is none of {', '.join(map(repr, HEADS))}.")
        self.nodes, self.head = tuple(nodes), head
        if inputs is None:
            inputs = [i for i, n in enumerate(self.nodes) if isinstance(n, Input)]
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        for i, node in enumerate(self.nodes):
            if any(not 0 <= s < i for s in node.sources):
                raise ValueError(f"layer '{node.name}' reads a layer that comes later.")
        self.input_names = _checked_names(input_names, self.n_inputs, "input")
        self.output_names = _checked_names(output_names, self.n_outputs, "output")
        self._fingerprint: str | None = None
        for node in self.nodes:
            _sort_weights(node)
            for array in arrays_of(node).values():
                array.setflags(write=False)

    # Nothing in a network changes, so copies of a model share its weights.
    def __copy__(self) -> Network:
        return self

    def __deepcopy__(self, memo: Any) -> Network:
        return self

    def with_nodes(self, nodes: Sequence[Node]) -> Network:
        """The same network with other nodes in the same places."""
        return Network(
            nodes,
            self.outputs,
            self.inputs,
            self.input_names,
            self.output_names,
            head=self.head,
        )

    def with_head(self, head: str | None) -> Network:
        """The same network, which remembers what a reader took off its outputs."""
        if head == self.head:
            return self
        return Network(
            self.nodes,
            self.outputs,
            self.inputs,
            self.input_names,
            self.output_names,
            head=head,
        )

    @property
    def n_inputs(self) -> int:
        """Length of the flat input vector."""
        return sum(self.nodes[i].size for i in self.inputs)

    @property
    def n_outputs(self) -> int:
        """Length of the flat output vector."""
        return sum(self.nodes[i].size for i in self.outputs)

    def input_slices(self) -> Iterator[tuple[int, slice]]:
        """Yield (position, slice of the flat input vector) for each input node."""
        return self._slices(self.inputs)

    def output_slices(self) -> Iterator[tuple[int, slice]]:
        """Yield (position, slice of the flat output vector) for each output node."""
        return self._slices(self.outputs)

    def _slices(self, positions: Sequence[int]) -> Iterator[tuple[int, slice]]:
        start = 0
        for i in positions:
            yield i, slice(start, start + self.nodes[i].size)
            start += self.nodes[i].size

    def readers(self) -> list[list[int]]:
        """For each node, the positions of the nodes that read it."""
        found: list[list[int]] = [[] for _ in self.nodes]
        for i, node in enumerate(self.nodes):
            for s in node.sources:
                found[s].append(i)
        return found

    @property
    def n_neurons(self) -> int:
        """Number of entries of all piecewise-linear and smooth nodes."""
        return sum(n.size for n in self.nodes if isinstance(n, (PiecewiseLinear, Smooth)))

    @property
    def smooth_layers(self) -> list[Smooth]:
        """The smooth nodes; a network without one is piecewise linear."""
        return [n for n in self.nodes if isinstance(n, Smooth)]

    def refuse_smooth(self, what: str) -> None:
        """Raise a ValueError if the network has smooth units.

        Parameters
        ----------
        what : str
            What needs a piecewise-linear network, and what to do: the error is
            ``"layer 'x' computes 'tanh', which is smooth: <what>."``
        """
        for node in self.smooth_layers[:1]:
            raise ValueError(
                f"layer '{node.name}' computes '{node.function}', which is smooth: {what}."
            )

    # ------------------------------------------------------------------ evaluation
    def flat_inputs(self, x: Any) -> tuple[np.ndarray, bool]:
        """Return ``x`` as an (N, n_inputs) array, and whether it was a single point.

        See :meth:`evaluate` for what ``x`` may be.
        """
        parts = self._by_input(x)
        if parts is None:
            alone = len(self.inputs) == 1
            shape = self.nodes[self.inputs[0]].shape if alone else (self.n_inputs,)
            return _as_rows(x, shape)
        found = []
        for part, i in zip(parts, self.inputs):
            try:
                found.append(_as_rows(part, self.nodes[i].shape))
            except ValueError as error:
                hint = "."
                if not isinstance(x, Mapping):
                    hint = (
                        f". A list of {len(x)} is one entry for each input layer; give points "
                        f"of all inputs together as an array, (N, {self.n_inputs})."
                    )
                what = str(error).rstrip(".")
                raise ValueError(
                    f"input layer '{self.nodes[i].name}': {what}{hint}"
                ) from None
        if len({len(rows) for rows, _ in found}) > 1:
            raise ValueError("the inputs have different numbers of points.")
        return np.hstack([rows for rows, _ in found]), all(single for _, single in found)

    def _by_input(self, x: Any) -> Sequence[Any] | None:
        """What was given for each input layer; None where that is one vector."""
        if isinstance(x, Mapping):
            known = [self.nodes[i].name for i in self.inputs]
            if set(x) != set(known):
                raise ValueError(
                    f"the network's inputs are {known}, but values were given for "
                    f"{sorted(map(str, x))}."
                )
            return [x[name] for name in known]
        if isinstance(x, (list, tuple)) and len(x) == len(self.inputs) > 1:
            return x if any(np.ndim(part) for part in x) else None
        return None

    def evaluate(self, x: Any) -> np.ndarray:
        """Return the flat output for one point or many.

        Parameters
        ----------
        x : array_like, mapping or list
            A flat point (n_inputs,), flat points (N, n_inputs), a tensor of the input
            layer's shape with or without a leading batch axis, a mapping from input
            layer names to such arrays, or a list with one for each input layer.

        Returns
        -------
        (n_outputs,) or (N, n_outputs) float64 array
        """
        points, single = self.flat_inputs(x)
        values = self.activations(points)
        result = np.hstack([values[i] for i in self.outputs])
        return result[0] if single else result

    def activations(self, x: Any) -> list[np.ndarray]:
        """Return the (N, size) values of every node, in the order of :attr:`nodes`."""
        points, _ = self.flat_inputs(x)
        start = dict(self.input_slices())
        values: list[np.ndarray] = []
        for i, node in enumerate(self.nodes):
            if isinstance(node, Input):
                values.append(points[:, start[i]])
            else:
                values.append(node(*[values[s] for s in node.sources]))  # type: ignore[operator]
        return values

    # ------------------------------------------------------------------- inspection
    @property
    def fingerprint(self) -> str:
        """A digest of structure and weights: equal networks, equal fingerprints."""
        if self._fingerprint is None:
            digest = hashlib.sha256()
            digest.update(repr((self.inputs, self.outputs)).encode())
            for node in self.nodes:
                digest.update(repr((node.kind, node.sources, node.size)).encode())
                if isinstance(node, Smooth):
                    digest.update(f"{node.function} {node.parameter!r}".encode())
                for key, array in arrays_of(node).items():
                    digest.update(f"{key}{array.shape}{array.dtype.str}".encode())
                    digest.update(np.ascontiguousarray(array).tobytes())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def __repr__(self) -> str:
        layers = [n for n in self.nodes if not isinstance(n, Input)]
        return (
            f"<Network: {self.n_inputs} inputs, {self.n_outputs} outputs, "
            f"{len(layers)} layers, {self.n_neurons} neurons>"
        )

    def summary(self) -> str:
        """A table of all nodes: name, kind, shape, non-zero weights, sources."""
        table = [("layer", "kind", "shape", "weights", "reads")]
        for i, node in enumerate(self.nodes):
            units = isinstance(node, (PiecewiseLinear, Smooth))
            kind = node.function if units else node.kind  # type: ignore[attr-defined]
            weights = ""
            if isinstance(node, Affine):
                sparse = any(sp.issparse(w) for w in node.weights)
                weights = f"{node.nonzeros:,}" + (" sparse" if sparse else "")
            if i in self.outputs:
                kind += " (output)"
            shape = " x ".join(map(str, node.shape)) or "1"
            reads = ", ".join(self.nodes[s].name for s in node.sources)
            table.append((node.name, kind, shape, weights, reads))
        return "\n".join([repr(self), *aligned(table)])

    # ---------------------------------------------------------------------- storage
    def save(self, path: str | Path) -> None:
        """Write the network to an ``.npz`` file (arrays and JSON, no pickle)."""
        save_network(self, path)

    @classmethod
    def load(cls, path: str | Path, *, max_memory: float | None = None) -> Network:
        """Read a network that :meth:`save` wrote.

        The fingerprint in the file is checked, and every array before it is used. Files
        of the first format, which had no fingerprint, are read if the rest is sound.

        Parameters
        ----------
        path : str or Path
        max_memory : float, optional
            Bytes that the network may take; :data:`~pyomo_relu.network.limits.MOST_MEMORY`
            if left out.

        Raises
        ------
        ValueError
            If the file is something else, truncated, damaged, changed, too large, or
            from a newer version.
        FileNotFoundError
        """
        return load_network(cls, path, max_memory)


def _sort_weights(node: Node) -> None:
    """Bring sparse weights into canonical form, before they can't be changed any more.

    SciPy would do it in place later, in arrays that are read-only by then; and equal
    networks have equal fingerprints only in one form.
    """
    if isinstance(node, Affine):
        for w in node.weights:
            if sp.issparse(w) and not w.has_canonical_format:
                w.sum_duplicates()


def _checked_names(
    names: Sequence[str] | None, n: int, what: str
) -> tuple[str, ...] | None:
    if names is None:
        return None
    result = tuple(str(name) for name in names)
    if len(result) != n:
        raise ValueError(f"{len(result)} {what} names were given for {n} {what}s.")
    if len(set(result)) != n:
        twice = sorted({name for name in result if result.count(name) > 1})
        raise ValueError(f"{what} names must differ; given twice: {twice}.")
    return result


def _as_rows(x: Any, shape: tuple[int, ...]) -> tuple[np.ndarray, bool]:
    """(N, size) rows from a flat point, flat points, a tensor or a batch of them."""
    array = np.asarray(x, dtype=np.float64)
    size = int(np.prod(shape, dtype=np.int64))
    if array.shape == shape or array.shape == (size,):
        return array.reshape(1, size), True
    if array.ndim == 0 and size == 1:
        return array.reshape(1, 1), True
    if array.shape[1:] == shape or array.shape[1:] == (size,):
        return array.reshape(len(array), size), False
    raise ValueError(
        f"an input of shape {array.shape} doesn't fit the network, which takes "
        f"({size},), (N, {size})"
        + (f", {shape} or (N, {', '.join(map(str, shape))})." if len(shape) > 1 else ".")
    )
