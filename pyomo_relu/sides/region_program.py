"""A subproblem with few undecided neurons as a program.

Decided neurons and those with a fixed side are linear, so the network is folded into linear
functions of its inputs and of the undecided neurons, which have a binary each. What a fixed
side says is a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.network import Affine, Input, Network, PiecewiseLinear
from pyomo_relu.network.weights import dense
from pyomo_relu.programs import LinearProgram

#: Lower and upper ends of every node, (size,) arrays.
NodeRanges = tuple[Sequence[np.ndarray], Sequence[np.ndarray]]


def region_program(
    network: Network,
    program: LinearProgram,
    outputs: slice,
    ranges: NodeRanges,
    fixed: Mapping[int, np.ndarray],
) -> LinearProgram:
    """The program of a subproblem.

    Parameters
    ----------
    network : Network
        Of affine nodes and ReLU.
    program : LinearProgram
        Over the subproblem's box; its first columns are the network's inputs.
    outputs : slice
        The columns that are the network's first outputs.
    ranges : pair of lists of (size,) arrays
        Of each node within the subproblem.
    fixed : mapping
        By affine node, the fixed sides (size,) of its entries; 0 for none.

    Returns
    -------
    LinearProgram
        The program's columns, an activation and a binary for each undecided neuron; its rows,
        then those of sides and of undecided neurons, and those of outputs.
    """
    folded = _Folded(network, ranges, fixed)
    n, k, m = network.n_inputs, folded.count, len(program.cost)
    q = outputs.stop - outputs.start
    a, c = folded.made[network.outputs[0]]
    inner, below, above = folded.rows()
    more = np.zeros((len(inner) + q, m + 2 * k))
    more[: len(inner), :n], more[: len(inner), m:] = inner[:, :n], inner[:, n:]
    more[len(inner) :, :n], more[len(inner) :, m : m + k] = -a[:q, :n], -a[:q, n:]
    more[len(inner) + np.arange(q), outputs.start + np.arange(q)] = 1.0
    user = sp.csr_array(program.matrix).copy()
    user.resize((user.shape[0], m + 2 * k))
    whole = np.zeros(m, dtype=bool) if program.integer is None else program.integer
    zero = np.zeros(k)
    return LinearProgram(
        np.concatenate([program.cost, zero, zero]),
        np.concatenate([program.lower, zero, zero]),
        np.concatenate([program.upper, folded.tops, zero + 1.0]),
        sp.csr_array(sp.vstack([user, sp.csr_array(more)])),
        np.concatenate([program.row_lower, below, c[:q]]),
        np.concatenate([program.row_upper, above, c[:q]]),
        np.concatenate([whole, zero > 0, zero == 0]),
    )


class _Folded:
    """Nodes as linear functions of the inputs and of undecided activations.

    Attributes
    ----------
    made : dict
        Of each node its coefficients (size, n + count) and constants (size,).
    count : int
        How many neurons are undecided.
    tops : (count,) array
        The upper ends of their activations.
    """

    def __init__(
        self, network: Network, ranges: NodeRanges, fixed: Mapping[int, np.ndarray]
    ) -> None:
        self.n, (self.lows, self.highs) = network.n_inputs, ranges
        relu = [s for s in network.nodes if isinstance(s, PiecewiseLinear)]
        undecided = [(self.lows[s.source] < 0) & (self.highs[s.source] > 0) for s in relu]
        self.count = int(sum(u.sum() for u in undecided))
        self.made: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.tops, self._next = np.zeros(self.count), 0
        #: Coefficients of inputs, activations and binaries; lower and upper sides.
        self._rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for i, node in enumerate(network.nodes):
            if isinstance(node, Input):
                self.made[i] = np.eye(self.n, self.n + self.count), np.zeros(self.n)
            elif isinstance(node, Affine):
                self._affine(i, node)
                self._sides(i, fixed.get(i, np.zeros(node.size)))
            else:
                assert isinstance(node, PiecewiseLinear)
                self._relu(i, node.source)

    def rows(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All rows: coefficients (r, n + 2 count), lower and upper sides."""
        parts, below, above = zip(*self._rows)
        return np.vstack(parts), np.concatenate(below), np.concatenate(above)

    def _affine(self, i: int, node: Affine) -> None:
        a, c = np.zeros((node.size, self.n + self.count)), node.bias.copy()
        for w, s in zip(node.weights, node.sources):
            a, c = a + dense(w) @ self.made[s][0], c + dense(w) @ self.made[s][1]
        self.made[i] = a, c

    def _sides(self, i: int, side: np.ndarray) -> None:
        """Fixed sides of a node's entries hold."""
        at = np.flatnonzero(side)
        a, c = self.made[i]
        none = np.zeros((len(at), self.count))
        part = np.hstack([side[at, None] * a[at], none])
        self._rows.append((part, -side[at] * c[at], np.full(len(at), np.inf)))

    def _relu(self, i: int, source: int) -> None:
        """A ReLU: big-M rows of what is undecided."""
        low, high = self.lows[source], self.highs[source]
        at = np.flatnonzero((low < 0) & (high > 0))
        a, c = (v.copy() for v in self.made[source])
        x, shift = a[at], c[at]
        own = np.zeros_like(x)
        mine = self._next + np.arange(len(at))
        own[np.arange(len(at)), self.n + mine] = 1.0
        a[high <= 0], c[high <= 0] = 0.0, 0.0
        a[at], c[at] = own, 0.0
        self.made[i] = a, c
        self.tops[mine] = high[at]
        self._next += len(at)
        binary = own[:, self.n :]
        none, zero = np.full(len(at), np.inf), np.zeros(len(at))
        self._rows += [
            (np.hstack([own - x, 0.0 * binary]), shift, none),
            (np.hstack([own - x, -low[at, None] * binary]), -none, shift - low[at]),
            (np.hstack([own, -high[at, None] * binary]), -none, zero),
        ]
