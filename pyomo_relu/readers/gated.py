r"""GRU and LSTM: cells that multiply gates with states.

With gates :math:`i_t, f_t, o_t` (input, forget, output), each :math:`\sigma(W x_t + U h_{t-1}
+ b)` with its own weights, an LSTM keeps a cell :math:`c_t` beside its output :math:`h_t`:

.. math::
    c_t = f_t \odot c_{t-1} + i_t \odot \varphi(W_c x_t + U_c h_{t-1} + b_c), \qquad
    h_t = o_t \odot \psi(c_t).

A GRU with gates :math:`z_t, r_t` (update, reset) has

.. math::
    n_t = \varphi(W_n x_t + b_n + r_t \odot (U_n h_{t-1} + b'_n)) \quad\text{or}\quad
    \varphi(W_n x_t + b_n + U_n (r_t \odot h_{t-1})), \qquad
    h_t = n_t + z_t \odot (h_{t-1} - n_t).

Each product is two squares for each entry (:mod:`pyomo_relu.readers.products`), scaled by the
ranges of its factors: a gate is within [0, 1], the state of a GRU stays where its candidates
are, and the cell of an LSTM grows by at most one with each step.

Source: Hochreiter and Schmidhuber, Neural Computation 9(8), 1997; Cho et al., arXiv 1406.1078.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pyomo_relu.readers.recurrent import Activation, State, weighted
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.values import Tensor, Value


@dataclass(frozen=True)
class Gate:
    """An affine map of the input and the state, and an activation.

    Attributes
    ----------
    kernel : (n_inputs, units) array
    recurrent : (n_outputs, units) array
    bias : (units,) array or float
    activation : callable
    peephole : (units,) array or None
        Weights of the cell of an LSTM.
    """

    kernel: np.ndarray
    recurrent: np.ndarray
    bias: np.ndarray | float
    activation: Activation
    peephole: np.ndarray | None = None

    def __call__(
        self, graph: TensorGraph, name: str, x: Tensor, h: State, c: State = None
    ) -> Tensor:
        """The gate (1, units) from the input, the state and, by a peephole, the cell."""
        total = weighted(graph, name, x, h, self.kernel, self.recurrent, self.bias)
        if self.peephole is not None and c is not None:
            seen = _times(graph, f"{name}_seen", c, self.peephole)
            total = graph.add(f"{name}_with_cell", [total, seen])
        return self.activation(graph, name, total)


def gates_of(
    kernel: np.ndarray,
    recurrent: np.ndarray,
    bias: np.ndarray | float,
    activations: Sequence[Activation],
    peepholes: Sequence[np.ndarray | None] | None = None,
) -> list[Gate]:
    """Gates whose weights stand side by side in arrays (..., gates * units)."""
    n = len(activations)
    biases = np.split(np.broadcast_to(bias, kernel.shape[1:]), n)
    parts = (np.split(kernel, n, axis=1), np.split(recurrent, n, axis=1), biases)
    return [Gate(*p) for p in zip(*parts, activations, peepholes or [None] * n)]


@dataclass(frozen=True)
class Lstm:
    """The cell of an LSTM; its states are the output and the cell.

    Attributes
    ----------
    input, forget, candidate, output : Gate
    activation : callable
        Of the cell.
    projection : (units, n_outputs) array or None
        The output is multiplied by it.
    """

    input: Gate
    forget: Gate
    candidate: Gate
    output: Gate
    activation: Activation
    projection: np.ndarray | None = None

    n_states = 2

    def step(
        self, graph: TensorGraph, name: str, x: Tensor, states: Sequence[State]
    ) -> list[Tensor]:
        """Output and cell after one step."""
        h, c = states
        i = self.input(graph, f"{name}_input_gate", x, h, c)
        candidate = self.candidate(graph, f"{name}_candidate", x, h)
        new = graph.multiply(f"{name}_new", i, candidate)
        if c is not None:
            f = self.forget(graph, f"{name}_forget_gate", x, h, c)
            new = graph.add(f"{name}_cell", [_times(graph, f"{name}_kept", f, c), new])
        o = self.output(graph, f"{name}_output_gate", x, h, new)
        result = graph.multiply(name, o, self.activation(graph, f"{name}_activated", new))
        if self.projection is not None:
            result = graph.matmul(f"{name}_projected", result, self.projection)
        return [result, new]


@dataclass(frozen=True)
class Gru:
    """The cell of a GRU; its state is its output.

    Attributes
    ----------
    update, reset, candidate : Gate
        ``candidate`` is without the bias of the state.
    state_bias : (units,) array, float or None
        The bias that is added to the state before the reset gate multiplies it; None where
        the gate multiplies the state before its weights do.
    """

    update: Gate
    reset: Gate
    candidate: Gate
    state_bias: np.ndarray | float | None

    n_states = 1

    def step(
        self, graph: TensorGraph, name: str, x: Tensor, states: Sequence[State]
    ) -> list[Tensor]:
        """The output after one step."""
        [h] = states
        z = self.update(graph, f"{name}_update", x, h)
        n = self._candidate(graph, name, x, h)
        old = np.zeros(n.shape) if h is None else h
        change = graph.add(f"{name}_change", [old, n], [1.0, -1.0])
        kept = graph.multiply(f"{name}_kept", z, change)
        result = graph.add(name, [n, kept])
        self._limit(graph, result, z, n, old)
        return [result]

    def _candidate(self, graph: TensorGraph, name: str, x: Tensor, h: State) -> Tensor:
        own, label = self.candidate, f"{name}_candidate"
        if h is None and (self.state_bias is None or not np.any(self.state_bias)):
            return own(graph, label, x, None)
        r = self.reset(graph, f"{name}_reset", x, h)
        if self.state_bias is None:
            assert h is not None
            return own(graph, label, x, _times(graph, f"{name}_reset_state", h, r))
        bias = np.broadcast_to(self.state_bias, (1, own.kernel.shape[1]))
        turned: Value = bias
        if isinstance(h, Tensor):
            turned = graph.matmul(f"{name}_turned", h, own.recurrent, bias)
        elif h is not None:
            turned = np.asarray(h) @ own.recurrent + bias
        seen = _times(graph, f"{name}_seen", r, turned)
        total = graph.matmul(f"{label}_input", x, own.kernel, own.bias)
        return own.activation(graph, label, graph.add(f"{label}_sum", [total, seen]))

    @staticmethod
    def _limit(
        graph: TensorGraph, result: Tensor, z: Tensor, n: Tensor, old: Value
    ) -> None:
        """Between 0 and 1 the gate takes a mean of state and candidate."""
        ranges = graph.ranges
        share = ranges.of(z.handle)
        if (share[0] < 0.0).any() or (share[1] > 1.0).any():
            return
        if isinstance(old, Tensor):
            low, high = ranges.of(old.handle)
        else:
            low = high = np.asarray(old, dtype=float).reshape(-1)
        other = ranges.of(n.handle)
        ranges.limit(result.handle, np.minimum(low, other[0]), np.maximum(high, other[1]))


def _times(graph: TensorGraph, name: str, a: Value, b: Value) -> Value:
    """The product of two tensors or constants."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return graph.multiply(name, a, b)
    return np.asarray(a) * np.asarray(b)
