r"""What every network over boxes offers, whatever it is made of.

A plane *below* an output :math:`y_k` is a row :math:`(a, c)` with
:math:`y_k(x) \ge a x + c` for every :math:`x` of a box, one *above* has
:math:`y_k(x) \le a x + c`. Both hold in exact arithmetic, for the network in exact
arithmetic and for its float64 evaluation: whatever rounding may do has been taken off the
constant.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.base.rounding import EPS
from pyomo_relu.network import Affine, Network


@dataclass(frozen=True)
class Planes:
    """Planes of q outputs over one box of n inputs.

    Attributes
    ----------
    below : (K, n + 1) array
        Slopes, then the constant: ``y[of_below] >= below[:, :-1] @ x + below[:, -1]``.
    of_below : (K,) int array
        The output of each.
    above : (L, n + 1) array
    of_above : (L,) int array
    low, high : (q,) arrays
        Bounds of the outputs over the box.
    stored : array or None
        What boxes inside this one start from; opaque, for :meth:`BoxPlanes.over`.
    undecided : int
        Neurons that are not decided over the box; 0: the network is affine there.
    """

    below: np.ndarray
    of_below: np.ndarray
    above: np.ndarray
    of_above: np.ndarray
    low: np.ndarray
    high: np.ndarray
    stored: np.ndarray | None
    undecided: int

    def gaps(self, x: np.ndarray) -> np.ndarray:
        """How far the best planes above and below each output are apart at a point, (q,)."""
        one = np.append(x, 1.0)
        top, floor = self.high.copy(), self.low.copy()
        np.minimum.at(top, self.of_above, self.above @ one)
        np.maximum.at(floor, self.of_below, self.below @ one)
        return np.maximum(top - floor, 0.0)


class BoxPlanes(ABC):
    """A network over boxes inside one box.

    Attributes
    ----------
    network : Network
    low, high : (n,) arrays
        The box that all others are in.
    n, q : int
        How many inputs and outputs there are.
    pointed : bool
        Whether planes for a point are far better there than others.
    """

    pointed = False

    def __init__(self, network: Network, low: np.ndarray, high: np.ndarray) -> None:
        self.network = network
        self.low, self.high = low, high
        self.n, self.q = network.n_inputs, network.n_outputs

    def evaluate(self, x: np.ndarray) -> np.ndarray:
        """The outputs (q,) at one point (n,): the reference value."""
        return self.network.evaluate(x)

    @abstractmethod
    def over(
        self,
        low: np.ndarray,
        high: np.ndarray,
        stored: np.ndarray | None = None,
        at: np.ndarray | None = None,
        y: np.ndarray | None = None,
    ) -> Planes:
        """Planes over a box.

        Parameters
        ----------
        low, high : (n,) arrays
            What is outside of the first box is cut off.
        stored : array, optional
            :attr:`Planes.stored` of a box that holds this one.
        at : (n,) array, optional
            A point of the box at which the planes are wanted tight.
        y : (q,) array, optional
            The outputs that a solver has there: of tight planes only those are wanted that
            may cut this point off.

        Raises
        ------
        ValueError
            If the box is empty.
        """

    def tighter(
        self,
        planes: Planes,
        low: np.ndarray,
        high: np.ndarray,
        at: np.ndarray,
        y: np.ndarray | None = None,
    ) -> Planes:
        """Planes over a box of which some are known, tight at a point; see :meth:`over`."""
        return self.over(low, high, planes.stored, at, y)

    def over_many(
        self, low: np.ndarray, high: np.ndarray, stored: np.ndarray | None = None
    ) -> list[Planes]:
        """Planes over many boxes (N, n), which start from ``stored`` (N, ...)."""
        known = [None] * len(low) if stored is None else stored
        return [self.over(*one) for one in zip(low, high, known)]

    def branching(
        self,
        low: np.ndarray,
        high: np.ndarray,
        planes: Planes,
        at: np.ndarray | None = None,
    ) -> np.ndarray:
        """How much it is worth to split each input, (n,); 0 where it can't be split.

        Parameters
        ----------
        low, high : (n,) arrays
        planes : Planes
            What :meth:`over` gave for this box.
        at : (n,) array, optional
            The point that the split is to cut off.
        """
        slopes = np.concatenate([planes.below[:, :-1], planes.above[:, :-1]])
        return np.max(abs(slopes), axis=0, initial=0.0) * (high - low)

    def box(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The part of a box that is inside the first one."""
        low, high = np.maximum(low, self.low), np.minimum(high, self.high)
        if not (low <= high).all():
            j = int(np.argmin(low <= high))
            raise ValueError(
                f"planes: input {j} has no value between {low[j]:g} and {high[j]:g} in "
                f"its box [{self.low[j]:g}, {self.high[j]:g}]."
            )
        return low, high


@dataclass(frozen=True)
class Asked:
    """A box that is asked about, see :meth:`BoxPlanes.over`."""

    planes: BoxPlanes
    low: np.ndarray
    high: np.ndarray
    stored: np.ndarray | None = None
    at: np.ndarray | None = None
    y: np.ndarray | None = None

    @property
    def point(self) -> np.ndarray:
        """The point, where there has to be one."""
        assert self.at is not None
        return self.at

    @property
    def outputs(self) -> np.ndarray:
        """The outputs at the point, where there have to be some."""
        assert self.y is not None
        return self.y

    def wanted(self) -> list[tuple[int, float]]:
        """Outputs and sides, 1 for planes below, of which tight planes are of use."""
        if self.at is None:
            return []
        every = range(self.planes.q)
        if self.y is None:
            return [(j, sign) for j in every for sign in (1.0, -1.0)]
        off = self.planes.evaluate(self.at) - self.y
        return [(j, 1.0 if off[j] > 0 else -1.0) for j in every if off[j] != 0]


def widened(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centers and radii of boxes (..., n), the radii rounded up far enough.

    ``a @ center - abs(a) @ radius`` is then never above the least value of ``a @ x``.
    """
    center = 0.5 * (low + high)
    radius = np.maximum(high - center, center - low)
    n = low.shape[-1]
    return center, radius + 2.0 * (n + 8.0) * EPS * (abs(center) + radius)


def with_one_output_node(network: Network) -> Network:
    """The same network, its outputs joined by one last node if there are several."""
    if len(network.outputs) == 1:
        return network
    size = network.n_outputs
    sources: dict[int, np.ndarray] = {}
    for i, span in network.output_slices():
        own = sources.setdefault(i, np.zeros((size, network.nodes[i].size)))
        own[span] = np.eye(network.nodes[i].size)
    weights = tuple(sp.csr_array(w) for w in sources.values())
    last = Affine("outputs", (size,), tuple(sources), weights, np.zeros(size))
    nodes: Sequence = [*network.nodes, last]
    return Network(
        nodes, [len(nodes) - 1], network.inputs, network.input_names, network.output_names
    )
