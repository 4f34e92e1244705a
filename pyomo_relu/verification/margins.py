"""The network with a property's rows behind it: bounds of it are proofs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pyomo_relu.bounds.crown import LinearBounds, crown_arrays, linear_bounds_of
from pyomo_relu.network import Affine, Max, Network, PiecewiseLinear
from pyomo_relu.network.activations import absolute
from pyomo_relu.network.gradient import backward
from pyomo_relu.verification.properties import Property
from pyomo_relu.verification.regions import Ball, Region


class Margins:
    """All rows of a property as the outputs of one network; no set is without rows.

    The rows ``A y + C x - b`` of all unsafe sets are one affine node behind the network.
    An L1 ball adds the row ``sum |x - c| - r`` to each set, computed by units of its own.

    Parameters
    ----------
    network : Network
    prop : Property
    region : Region

    Attributes
    ----------
    network : Network
        Its only output is the node of rows.
    spans : list of slices
        The rows of each unsafe set.
    ends : (sets + 1,) int array
        Where the rows of each set begin, and how many there are.
    """

    def __init__(self, network: Network, prop: Property, region: Region) -> None:
        self.original, self.property, self.region = network, prop, region
        sets, more = prop.unsafe, int(self.ball is not None)
        # With a ball there is one more row behind each set.
        self.ends = np.cumsum([0, *(len(u.limit) + more for u in sets)])
        self.spans = [slice(a, b) for a, b in zip(self.ends, self.ends[1:])]
        size = (int(self.ends[-1]), network.n_inputs)
        outputs, bias = np.zeros((size[0], network.n_outputs)), np.zeros(size[0])
        relates = any(u.inputs is not None for u in sets)
        inputs = np.zeros(size if relates else (size[0], 0))
        for u, a in zip(sets, self.ends):
            own = slice(a, a + len(u.limit))
            outputs[own], bias[own] = u.outputs, -u.limit
            if u.inputs is not None:
                inputs[own] = u.inputs
        nodes = list(network.nodes)
        weights: dict[int, np.ndarray] = {}
        for i, s in network.output_slices():
            weights[i] = weights.get(i, 0.0) + outputs[:, s]
        for i, s in network.input_slices():
            if inputs[:, s].any():
                weights[i] = weights.get(i, 0.0) + inputs[:, s]
        if self.ball is not None:
            last, lasts = np.zeros(size), self.ends[1:] - 1
            last[lasts], bias[lasts] = 1.0, -self.ball.radius
            weights[self._distance(nodes, network, self.ball)] = last
        nodes.append(
            Affine(
                _free("margins", nodes),
                (len(bias),),
                tuple(weights),
                tuple(weights.values()),
                bias,
            )
        )
        self.node = len(nodes) - 1
        self.network = Network(nodes, [self.node], network.inputs)
        readers = self.network.readers()
        self.hidden = [
            i
            for i, node in enumerate(nodes)
            if isinstance(node, Affine)
            and any(isinstance(nodes[r], (PiecewiseLinear, Max)) for r in readers[i])
        ]

    @staticmethod
    def _distance(nodes: list, network: Network, ball: Ball) -> int:
        """Add ``|x - c|`` to the nodes; its position."""
        sources = tuple(network.inputs)
        eye = np.eye(network.n_inputs)
        weights = tuple(eye[:, s] for _, s in network.input_slices())
        shape = (network.n_inputs,)
        nodes.append(Affine(_free("offset", nodes), shape, sources, weights, -ball.center))
        function, t, a, c = absolute()
        t, a, c = (np.broadcast_to(x, (shape[0], x.shape[-1])) for x in (t, a, c))
        nodes.append(
            PiecewiseLinear(
                _free("distance", nodes), shape, len(nodes) - 1, function, t, a, c
            )
        )
        return len(nodes) - 1

    @property
    def n_sets(self) -> int:
        """How many unsafe sets there are."""
        return len(self.spans)

    def only(self, sets: Sequence[int] | np.ndarray) -> Margins:
        """The rows of some sets alone, numbered anew in the given order."""
        unsafe = self.property.unsafe
        return Margins(
            self.original, Property(tuple(unsafe[int(d)] for d in sets)), self.region
        )

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

    def gradient(self, points: np.ndarray, sets: np.ndarray):
        """Margins (N,) of one set for each point, and their gradients (N, n)."""
        values = self.network.activations(points)
        rows = values[self.node]
        weights = np.zeros(rows.shape)
        found = np.empty(len(points))
        sizes = np.diff(self.ends)[sets]
        one = np.flatnonzero(sizes == 1)
        best = self.ends[sets[one]]
        weights[one, best], found[one] = 1.0, rows[one, best]
        for d in np.unique(sets[sizes > 1]):
            at = np.flatnonzero(sets == d)
            span = self.spans[d]
            best = rows[at, span].argmax(axis=1) + span.start
            weights[at, best] = 1.0
            found[at] = rows[at, best]
        return found, backward(self.network, values, weights)

    def linear(self, lower, upper, start=None, rules=("adaptive",), plane="adaptive"):
        """Linear bounds of all rows over boxes (N, n).

        Returns
        -------
        bounds : LinearBounds
        values : (N, k) array
            The least values of the rows over the boxes.
        hidden : pair of lists of arrays
            Bounds of every node, for the boxes' children.
        """
        asked = {i: None for i in self.hidden}
        lows, highs = crown_arrays(self.network, lower, upper, start, asked, rules)
        rows = np.arange(self.network.n_outputs)
        found = linear_bounds_of(
            self.network, lower, upper, lows, highs, self.node, rows, plane
        )
        return found, least(found, lower, upper), (lows, highs)

    @property
    def ball(self) -> Ball | None:
        """The region where it is an L1 ball, with a row of its own in each set."""
        region = self.region
        return region if isinstance(region, Ball) and region.norm == "l1" else None

    def single(self, d: int, ball: bool = True) -> Network:
        """A network whose one output is the margin of a set.

        For a set of several rows it ends in a maximum.

        Parameters
        ----------
        d : int
        ball : bool
            Whether the row of an L1 ball counts.
        """
        nodes, span = list(self.network.nodes), self.spans[d]
        without = self.ball is not None and not ball
        rows = np.arange(span.start, span.stop - without)
        if len(rows) > 1:
            nodes.append(
                Max(
                    _free("margin", nodes),
                    (1,),
                    self.node,
                    np.array([0, len(rows)]),
                    rows,
                )
            )
            weight = np.ones((1, 1))
        else:
            weight = np.zeros((1, self.network.n_outputs))
            weight[0, rows[0]] = 1.0
        nodes.append(
            Affine(
                _free("margin of the set", nodes),
                (1,),
                (len(nodes) - 1,),
                (weight,),
                np.zeros(1),
            )
        )
        return Network([replace(x) for x in nodes], [len(nodes) - 1], self.network.inputs)


def least(found: LinearBounds, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """The least value of the lower functions over boxes (N, n); rounding is in them."""
    center = 0.5 * (lower + upper)
    radius = np.maximum(upper - center, center - lower)
    value = np.matmul(found.lower, center[:, :, None])[:, :, 0]
    return (
        value
        - np.matmul(abs(found.lower), radius[:, :, None])[:, :, 0]
        + (found.lower_const)
    )


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
