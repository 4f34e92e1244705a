"""What values tensors can have, whatever the inputs are: the range of a gate, of a state.

A sigmoid is between 0 and 1 and a sum of two of them between 0 and 2, for any input. The
scale of a product (:mod:`pyomo_relu.readers.products`) is chosen by these ranges; nothing
that is proved rests on them, so they are computed without care for rounding.
"""

from __future__ import annotations

import numpy as np

from pyomo_relu.network import Affine, Input, Max, NetworkBuilder, PiecewiseLinear, Smooth
from pyomo_relu.network.nodes import Node
from pyomo_relu.network.weights import absolute

#: Stands for infinity, so that zero times it is zero.
FAR = 1e100

#: A range wider than this says nothing.
UNKNOWN = 1e30

#: Lower and upper ends, arrays (size,).
Range = tuple[np.ndarray, np.ndarray]


class WholeRanges:
    """The ranges of the nodes of a builder, each found once.

    Parameters
    ----------
    builder : NetworkBuilder
    """

    def __init__(self, builder: NetworkBuilder) -> None:
        self.builder = builder
        self._found: dict[int, Range] = {}

    def of(self, handle: int) -> Range:
        """The range of each entry of a node; ends of :data:`FAR` are infinite."""
        todo = [handle]
        while todo:
            node = self.builder.nodes[todo[-1]]
            missing = [s for s in node.sources if s not in self._found]
            if missing and todo[-1] not in self._found:
                todo += missing
                continue
            if todo[-1] not in self._found:
                self._found[todo[-1]] = self._range(node)
            todo.pop()
        return self._found[handle]

    def limit(self, handle: int, low: np.ndarray, high: np.ndarray) -> None:
        """State that the entries of a node are between those of two arrays (size,)."""
        before = self.of(handle)
        self._found[handle] = np.maximum(before[0], low), np.minimum(before[1], high)

    def _range(self, node: Node) -> Range:
        sources = [self._found[s] for s in node.sources]
        if isinstance(node, Input):
            return np.full(node.size, -FAR), np.full(node.size, FAR)
        if isinstance(node, Affine):
            low, high = np.array(node.bias), np.array(node.bias)
            for w, (a, b) in zip(node.weights, sources):
                middle, radius = w @ (0.5 * (a + b)), absolute(w) @ (0.5 * (b - a))
                low, high = low + middle - radius, high + middle + radius
        elif isinstance(node, Smooth):
            [(a, b)] = sources
            low, high = node.range(*(np.clip(v, *node.form.domain) for v in (a, b)))
        elif isinstance(node, PiecewiseLinear):
            low, high = node.range(*sources[0])
        else:
            assert isinstance(node, Max)
            low, high = (node(v) for v in sources[0])
        return np.clip(low, -FAR, FAR), np.clip(high, -FAR, FAR)


def middle_and_radius(found: Range) -> Range:
    """The middle and half the width of each range; 0 and 1 where it is unknown."""
    low, high = found
    known = high - low < UNKNOWN
    middle = np.where(known, 0.5 * (low + high), 0.0)
    # An entry that doesn't vary has no scale.
    radius = np.where(known & (high > low), 0.5 * (high - low), 1.0)
    return middle, radius
