"""The network with a property's rows behind it: bounds of it are proofs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pyomo_relu.bounds.crown import LinearBounds, crown_arrays, linear_bounds_of
from pyomo_relu.network import Affine, Max, Network, PiecewiseLinear, Smooth
from pyomo_relu.network.activations import absolute
from pyomo_relu.network.gradient import backward
from pyomo_relu.verification.input_region import Ball, Region
from pyomo_relu.verification.properties import Property


class Margins:
    """All rows of a property as the outputs of one network; no set is without rows.

    The rows ``A y + C x - b`` of all unsafe sets are one affine node behind the network.
    An L1 ball adds the row ``sum |x - c| - r`` to each set, computed by units of its own.

    Attributes
    ----------
    network : Network
        Its only output is the node of rows.
    ends : (sets + 1,) int array
        Where the rows of each set begin, and how many there are.
    spans : list of slices
        The rows of each unsafe set.
    hidden : list of int
        Affine nodes that activations or maxima read.
    """

    def __init__(self, network: Network, prop: Property, region: Region) -> None:
        self.original, self.property, self.region = network, prop, region
        # With a ball there is one more row behind each set.
        more = int(self.ball is not None)
        self.ends = np.cumsum([0, *(len(u.limit) + more for u in prop.unsafe)])
        self.spans = [slice(a, b) for a, b in zip(self.ends, self.ends[1:])]
        nodes = list(network.nodes)
        weights, bias = self._rows(nodes)
        shape, sources = (len(bias),), tuple(weights)
        name = _free("margins", nodes)
        nodes.append(Affine(name, shape, sources, tuple(weights.values()), bias))
        self.node = len(nodes) - 1
        self.network = Network(nodes, [self.node], network.inputs)
        readers = self.network.readers()
        self.hidden = [
            i
            for i, node in enumerate(nodes)
            if isinstance(node, Affine)
            and any(
                isinstance(nodes[r], (PiecewiseLinear, Smooth, Max)) for r in readers[i]
            )
        ]

    def _rows(self, nodes: list) -> tuple[dict[int, np.ndarray], np.ndarray]:
        """Weights of all rows by the nodes they read, and their biases."""
        network, n = self.original, int(self.ends[-1])
        outputs, inputs = np.zeros((n, network.n_outputs)), np.zeros((n, 0))
        if any(u.inputs is not None for u in self.property.unsafe):
            inputs = np.zeros((n, network.n_inputs))
        bias = np.zeros(n)
        for u, a in zip(self.property.unsafe, self.ends):
            own = slice(a, a + len(u.limit))
            outputs[own], bias[own] = u.outputs, -u.limit
            if u.inputs is not None:
                inputs[own] = u.inputs
        weights: dict[int, np.ndarray] = {}
        for i, s in network.output_slices():
            weights[i] = weights.get(i, 0.0) + outputs[:, s]
        for i, s in network.input_slices():
            if inputs[:, s].any():
                weights[i] = weights.get(i, 0.0) + inputs[:, s]
        if self.ball is not None:
            last = self.ends[1:] - 1
            of_ball = np.zeros((n, network.n_inputs))
            of_ball[last], bias[last] = 1.0, -self.ball.radius
            weights[self._add_distance(nodes, self.ball)] = of_ball
        return weights, bias

    def _add_distance(self, nodes: list, ball: Ball) -> int:
        """Add ``|x - c|`` to the nodes; its position."""
        network, n = self.original, self.original.n_inputs
        eye, sources = np.eye(n), tuple(network.inputs)
        weights = tuple(eye[:, s] for _, s in network.input_slices())
        nodes.append(Affine(_free("offset", nodes), (n,), sources, weights, -ball.center))
        function, *pieces = absolute()
        t, a, c = (np.broadcast_to(x, (n, x.shape[-1])) for x in pieces)
        name, at = _free("distance", nodes), len(nodes) - 1
        nodes.append(PiecewiseLinear(name, (n,), at, function, t, a, c))
        return len(nodes) - 1

    @property
    def ball(self) -> Ball | None:
        """The region where it is an L1 ball, with a row of its own in each set."""
        region = self.region
        return region if isinstance(region, Ball) and region.norm == "l1" else None

    @property
    def n_sets(self) -> int:
        """How many unsafe sets there are."""
        return len(self.spans)

    def only(self, sets: Sequence[int] | np.ndarray) -> Margins:
        """The rows of some sets alone, numbered anew in the given order."""
        unsafe = tuple(self.property.unsafe[int(d)] for d in sets)
        return Margins(self.original, Property(unsafe), self.region)

    def rows_of(self, sets: Sequence[int] | np.ndarray) -> np.ndarray:
        """The numbers of the rows of some sets, in their order."""
        spans = [self.spans[int(d)] for d in sets]
        none = np.zeros(0, dtype=int)
        return np.concatenate([none, *(np.arange(s.start, s.stop) for s in spans)])

    def rows(self, points: np.ndarray) -> np.ndarray:
        """All rows at points (N, n), (N, k)."""
        return self.network.evaluate(points)

    def of_rows(self, rows: np.ndarray) -> np.ndarray:
        """The margin of each set from rows (..., k): their largest, (..., sets)."""
        return np.maximum.reduceat(rows, self.ends[:-1], axis=-1)

    def gradient(
        self, points: np.ndarray, sets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Margins (N,) of one set for each point, and their gradients (N, n)."""
        values = self.network.activations(points)
        rows = values[self.node]
        # A set of one row needs no look at its rows.
        best = self.ends[sets]
        for d in np.unique(sets[np.diff(self.ends)[sets] > 1]):
            at, span = np.flatnonzero(sets == d), self.spans[d]
            best[at] = rows[at, span].argmax(axis=1) + span.start
        each, weights = np.arange(len(points)), np.zeros(rows.shape)
        weights[each, best] = 1.0
        return rows[each, best], backward(self.network, values, weights)

    def linear(
        self,
        lower: np.ndarray,
        upper: np.ndarray,
        start: tuple[list, list] | None = None,
    ) -> tuple[LinearBounds, np.ndarray, tuple[list, list]]:
        """Linear bounds of all rows over boxes (N, n).

        Returns
        -------
        bounds : LinearBounds
        values : (N, k) array
            The least values of the rows over the boxes.
        hidden : pair of lists of arrays
            Bounds of every node, for the boxes' children.
        """
        asked, rule = {i: None for i in self.hidden}, "adaptive"
        lows, highs = crown_arrays(self.network, lower, upper, start, asked, (rule,))
        rows = np.arange(self.network.n_outputs)
        found = linear_bounds_of(
            self.network, lower, upper, lows, highs, self.node, rows, rule
        )
        return found, least(found, lower, upper), (lows, highs)

    def single(self, d: int) -> Network:
        """A network whose one output is the margin of a set, the row of a ball left out.

        For a set of several rows it ends in a maximum.
        """
        nodes, span = list(self.network.nodes), self.spans[d]
        rows = np.arange(span.start, span.stop - (self.ball is not None))
        weight = np.zeros((1, self.network.n_outputs))
        weight[0, rows[0]] = 1.0
        if len(rows) > 1:
            ends, name = np.array([0, len(rows)]), _free("margin", nodes)
            nodes.append(Max(name, (1,), self.node, ends, rows))
            weight = np.ones((1, 1))
        source, name = len(nodes) - 1, _free("margin of the set", nodes)
        nodes.append(Affine(name, (1,), (source,), (weight,), np.zeros(1)))
        return Network([replace(x) for x in nodes], [len(nodes) - 1], self.network.inputs)


def least(found: LinearBounds, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """The least value of the lower functions over boxes (N, n); rounding is in them."""
    center = 0.5 * (lower + upper)
    radius = np.maximum(upper - center, center - lower)
    value = np.matmul(found.lower, center[:, :, None])[:, :, 0]
    spread = np.matmul(abs(found.lower), radius[:, :, None])[:, :, 0]
    return value - spread + found.lower_const


def greatest(found: LinearBounds, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """The greatest value of the upper functions over boxes, as :func:`least`."""
    turned = LinearBounds(
        -found.upper, -found.upper_const, -found.lower, -found.lower_const
    )
    return -least(turned, lower, upper)


def _free(name: str, nodes: list) -> str:
    taken = {n.name for n in nodes}
    candidate, k = name, 1
    while candidate in taken:
        k += 1
        candidate = f"{name}_{k}"
    return candidate
