"""`NetworkBuilder`: how a reader writes a network, node by node, with checks.

Every node is checked when it is added (shapes, finite float64 weights, sources that
exist), so that an error names the layer it is about. :meth:`NetworkBuilder.build`
then fuses affine chains, drops what no output depends on, and returns a
:class:`~pyomo_relu.network.Network`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from pyomo_relu.base.deadline import NEVER, Deadline
from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.network import weights
from pyomo_relu.network.activations import Pieces
from pyomo_relu.network.fusion import fuse_affine, prune
from pyomo_relu.network.network import Network
from pyomo_relu.network.nodes import (
    Affine,
    Input,
    Max,
    Node,
    PiecewiseLinear,
    Smooth,
    Weight,
    as_float64,
)
from pyomo_relu.network.smooth_functions import check_parameter, smooth_function


class NetworkBuilder:
    """Collects nodes; each method returns the new node's position (its handle)."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._names: set[str] = set()

    def unique_name(self, name: str) -> str:
        """``name``, or ``name_2``, ``name_3``, ... where it is taken."""
        name = str(name) or "layer"
        candidate, k = name, 1
        while candidate in self._names:
            k += 1
            candidate = f"{name}_{k}"
        return candidate

    def _add(self, node: Node) -> int:
        self._names.add(node.name)
        self.nodes.append(node)
        return len(self.nodes) - 1

    def input(self, name: str, shape: Sequence[int]) -> int:
        """Add an input of the given tensor shape (without the batch axis)."""
        shape = tuple(int(s) for s in shape)
        if any(s <= 0 for s in shape):
            raise ValueError(
                f"input '{name}' has shape {shape}; every axis but the batch axis "
                "needs a fixed positive length."
            )
        return self._add(Input(self.unique_name(name), shape))

    def affine(
        self,
        name: str,
        terms: Iterable[tuple[int, object]],
        bias: Any = 0.0,
        shape: Sequence[int] | None = None,
    ) -> int:
        """Add ``sum of W @ source + bias``.

        Parameters
        ----------
        name : str
            The layer's name.
        terms : iterable of (source, W)
            ``W`` of shape (size, size of source), dense or SciPy sparse. A source
            may occur more than once; its matrices are added.
        bias : float or (size,) array
        shape : sequence of int, optional
            Tensor shape of the result; ``(size,)`` if left out.
        """
        merged: dict[int, Weight] = {}
        for source, weight in terms:
            weights.add_to(merged, source, self._weight(name, source, weight))
        if not merged:
            raise ValueError(f"layer '{name}' depends on no input; fold it first.")
        size = next(iter(merged.values())).shape[0]
        for source, w in merged.items():
            if w.shape[0] != size:
                raise ValueError(
                    f"layer '{name}': the weights on '{self.nodes[source].name}' make "
                    f"{w.shape[0]} entries, the others {size}."
                )
        b = as_float64(bias, f"the bias of layer '{name}'")
        if b.size not in (1, size):
            raise ValueError(f"layer '{name}': a bias of {b.size} entries for {size}.")
        b = np.array(np.broadcast_to(b.reshape(-1), (size,)))
        shape = (size,) if shape is None else tuple(int(s) for s in shape)
        if int(np.prod(shape, dtype=np.int64)) != size:
            raise ValueError(f"layer '{name}': shape {shape} doesn't hold {size} entries.")
        return self._add(
            Affine(self.unique_name(name), shape, tuple(merged), tuple(merged.values()), b)
        )

    def _weight(self, name: str, source: int, weight: Any) -> Weight:
        what = f"the weights of layer '{name}'"
        n = self.nodes[source].size
        if sp.issparse(weight):
            # The cast comes first: a sum of duplicates could overflow in another type,
            # and SciPy's cast drops an imaginary part in silence.
            if weight.format == "csr":
                parts = as_float64(weight.data, what), weight.indices, weight.indptr
                w = sp.csr_array(parts, shape=weight.shape, copy=True)
            else:
                w = sp.coo_array(weight)
                w = sp.coo_array((as_float64(w.data, what), w.coords), shape=w.shape)
                w = sp.csr_array(w)
            w.sum_duplicates()
            w.eliminate_zeros()
        else:
            w = as_float64(weight, what)
        if w.ndim != 2 or w.shape[1] != n:
            raise ValueError(
                f"layer '{name}': weights of shape {w.shape} don't fit the {n} entries "
                f"of '{self.nodes[source].name}'."
            )
        return weights.compact(w)

    def select(
        self, name: str, source: int, indices: Any, shape: Sequence[int] | None = None
    ) -> int:
        """Add the entries ``indices`` of ``source``, in that order (-1 gives 0)."""
        indices = np.asarray(indices, dtype=np.int64).reshape(-1)
        if (indices < -1).any() or (indices >= self.nodes[source].size).any():
            raise ValueError(f"layer '{name}': an index is out of range.")
        rows = np.flatnonzero(indices >= 0)
        matrix = sp.csr_array(
            (np.ones(len(rows)), (rows, indices[rows])),
            shape=(len(indices), self.nodes[source].size),
        )
        return self.affine(name, [(source, matrix)], 0.0, shape)

    def piecewise(self, name: str, source: int, pieces: Pieces) -> int:
        """Add an activation on every entry of ``source``.

        Parameters
        ----------
        pieces : tuple
            ``(function, breakpoints, slopes, intercepts)`` as
            :mod:`pyomo_relu.network.activations` returns it; arrays of shape (k,)
            or (size, k), and (k + 1,) or (size, k + 1).
        """
        function, *arrays = pieces
        before = self.nodes[source]
        t, a, c = (as_float64(x, f"an activation of layer '{name}'") for x in arrays)
        k = t.shape[-1]
        if a.shape[-1] != k + 1 or c.shape[-1] != k + 1:
            raise ValueError(
                f"layer '{name}': {k} breakpoints need {k + 1} slopes and intercepts."
            )
        neurons = np.broadcast_shapes(t.shape[:-1], a.shape[:-1], c.shape[:-1])
        if neurons not in ((), (1,), (before.size,)):
            raise ValueError(
                f"layer '{name}': parameters of shape {neurons} don't fit the "
                f"{before.size} entries of '{before.name}'."
            )
        if (np.diff(t, axis=-1) < 0).any():
            raise ValueError(f"layer '{name}': breakpoints must not decrease.")
        t = np.broadcast_to(t, (before.size, k))
        a, c = (np.broadcast_to(x, (before.size, k + 1)) for x in (a, c))
        return self._add(
            PiecewiseLinear(
                self.unique_name(name), before.shape, source, str(function), t, a, c
            )
        )

    def smooth(self, name: str, source: int, function: str, alpha: float = 1.0) -> int:
        """Add a smooth activation on every entry of ``source``.

        Parameters
        ----------
        function : str
            A name of :mod:`pyomo_relu.network.smooth_functions`.
        alpha : float
            The parameter of ``elu``.
        """
        try:
            parameter = check_parameter(smooth_function(function), alpha)
        except ValueError as e:
            raise ValueError(f"layer '{name}': {e}") from None
        shape = self.nodes[source].shape
        return self._add(Smooth(self.unique_name(name), shape, source, function, parameter))

    def max(
        self,
        name: str,
        source: int,
        groups: Sequence[Sequence[int] | np.ndarray],
        shape: Sequence[int] | None = None,
    ) -> int:
        """Add the maximum over each group of entries of ``source``."""
        lengths = [len(g) for g in groups]
        if not lengths or min(lengths) == 0:
            raise ValueError(f"layer '{name}': a maximum over no entries.")
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        indices = np.concatenate([np.asarray(g, dtype=np.int64) for g in groups])
        if indices.min() < 0 or indices.max() >= self.nodes[source].size:
            raise ValueError(f"layer '{name}': a group index is out of range.")
        shape = (len(lengths),) if shape is None else tuple(int(s) for s in shape)
        if int(np.prod(shape, dtype=np.int64)) != len(lengths):
            raise ValueError(
                f"layer '{name}': shape {shape} doesn't hold {len(lengths)} entries."
            )
        return self._add(Max(self.unique_name(name), shape, source, indptr, indices))

    def build(
        self,
        outputs: Sequence[int],
        *,
        inputs: Sequence[int] | None = None,
        input_names: Sequence[str] | None = None,
        output_names: Sequence[str] | None = None,
        fuse: bool = True,
        deadline: Deadline = NEVER,
    ) -> Network:
        """Return the network whose outputs are the given nodes.

        Parameters
        ----------
        outputs : sequence of int
            Handles, in the order in which they make the flat output vector.
        inputs : sequence of int, optional
            Handles of the inputs in their order; all, as added, if left out.
        input_names, output_names : sequence of str, optional
            A name for each entry of the flat input or output vector.
        fuse : bool
            Compose consecutive affine nodes into one.
        deadline : Deadline
            Of composing them.

        Raises
        ------
        TimeUp
            When the deadline has passed.
        """
        if not outputs:
            raise ValueError("a network needs at least one output.")
        found = [i for i, n in enumerate(self.nodes) if isinstance(n, Input)]
        order = found if inputs is None else list(inputs)
        if sorted(order) != found:
            raise ValueError("inputs= must name every input of the network once.")
        outputs = list(outputs)
        seen: set[int] = set()
        for k, i in enumerate(outputs):
            # Each output is a node of its own that computes something: what writes
            # an output into a model then never meets an input or a repetition.
            if isinstance(self.nodes[i], Input) or i in seen:
                size = self.nodes[i].size
                outputs[k] = self.affine(
                    "output",
                    [(i, sp.eye_array(size, format="csr"))],
                    0.0,
                    self.nodes[i].shape,
                )
            seen.add(outputs[k])
        nodes = fuse_affine(self.nodes, outputs, deadline) if fuse else list(self.nodes)
        nodes, outputs, order = prune(nodes, outputs, order)
        return Network(nodes, outputs, order, input_names, output_names)
