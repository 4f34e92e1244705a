r"""Which sides of each unit's graph a network needs, from those that its outputs need.

An output of which only the *epigraph* :math:`y \ge f(x)` matters may be above the network's
value, never below. Backwards through the network this says which way each entry may leave
its value. Let an entry be *held from below* where it must not be smaller than its value, *from
above* where it must not be larger:

* an affine entry that is held from below holds its terms of positive weight from below and
  those of negative weight from above, for such terms move it the other way;
* a unit :math:`y = \phi(z)` that does not decrease over the bounds of :math:`z` holds its
  argument as it is held itself, one that does not increase the other way round, any other
  from both sides;
* a maximum holds its arguments as it is held.

What several readers hold is held as each of them says.

A unit that is held from below only, and is convex over its bounds, needs no binary: it is at
least each of its pieces. So does a concave one that is held from above only, and a maximum
that is held from below. All other units are written exactly.

*Nothing is lost.* The network's own values satisfy all these rows, for they are among the
exact ones. And let any values satisfy them: by induction from the inputs, what is held from
below only is at least the network's value, what is held from above only at most, and what is
held from both sides equal to it. So an output whose epigraph is needed is at least
:math:`f(x)`, and the model can lower it to that.

A network all of whose weights after the first layer are nonnegative is convex, and its
epigraph needs no binary at all; so is an input-convex network, whose other layers read the
inputs as well with weights of any sign, for inputs are what they are.

Source: Amos, Xu, Kolter, "Input convex neural networks", arXiv 1609.07152, section 3, where
such a network is minimized by a linear program; for single units the polarity of Plaisted and
Greenbaum, "A structure-preserving clause form translation", J. Symbolic Computation 2 (1986).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.bounds import Bounds
from pyomo_relu.formulations.units import Piece, is_continuous, unit_pieces
from pyomo_relu.network import Affine, Input, Max, PiecewiseLinear


@dataclass
class UnitSides:
    """From which sides each entry of a network is held.

    Parameters
    ----------
    bounds : Bounds
        Of the network.
    sides : sequence of str
        Of each output ``"both"``, ``"hypograph"`` or ``"epigraph"``.

    Attributes
    ----------
    below, above : list of (size,) bool arrays
        Of each node the entries that must not be smaller, and not larger, than their values.
        Neither where no output depends on an entry.
    """

    bounds: Bounds
    sides: Sequence[str]
    below: list[np.ndarray] = field(init=False)
    above: list[np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        network = self.bounds.network
        nodes = network.nodes
        self.below = [np.zeros(n.size, dtype=bool) for n in nodes]
        self.above = [np.zeros(n.size, dtype=bool) for n in nodes]
        for i, part in network.output_slices():
            own = self.sides[part]
            self.below[i] |= np.array([side != "hypograph" for side in own])
            self.above[i] |= np.array([side != "epigraph" for side in own])
        for i in reversed(range(len(nodes))):
            self._pass_back(i)

    def _pass_back(self, i: int) -> None:
        """Note from which sides node ``i`` holds what it reads."""
        node = self.bounds.network.nodes[i]
        if isinstance(node, Input):
            return
        below, above = self.below[i], self.above[i]
        if isinstance(node, Affine):
            for s, w in zip(node.sources, node.weights):
                self.below[s] |= _reached(w > 0, below) | _reached(w < 0, above)
                self.above[s] |= _reached(w > 0, above) | _reached(w < 0, below)
        elif isinstance(node, Max):
            low, high = self._ends(node.source)
            for j in np.flatnonzero(below | above).tolist():
                found = node.contenders(j, low, high)
                self.below[node.source][found] |= below[j]
                self.above[node.source][found] |= above[j]
        elif isinstance(node, PiecewiseLinear):
            rises, falls = self._monotone(node)
            up, down = rises | ~falls, falls | ~rises
            # What neither only rises nor only falls is in both, and holds from both sides.
            self.below[node.source] |= (up & below) | (down & above)
            self.above[node.source] |= (up & above) | (down & below)
        else:  # smooth units
            for s in node.sources:
                self.below[s] |= below | above
                self.above[s] |= below | above

    def _ends(self, source: int) -> tuple[np.ndarray, np.ndarray]:
        return self.bounds.lower[source], self.bounds.upper[source]

    def _monotone(self, node: PiecewiseLinear) -> tuple[np.ndarray, np.ndarray]:
        """Which units don't decrease over their bounds, and which don't increase.

        A unit that is constant does neither. One with a step there counts as doing both:
        its closed graph has two values at the step.
        """
        rises, falls = np.ones(node.size, dtype=bool), np.ones(node.size, dtype=bool)
        low, high = self._ends(node.source)
        if node.function == "relu":
            falls[:] = high <= 0.0
            return rises, falls
        for u in range(node.size):
            pieces = unit_pieces(node, u, float(low[u]), float(high[u]))
            slopes = [g.slope for g in pieces]
            smooth = is_continuous(pieces)
            rises[u], falls[u] = smooth and min(slopes) >= 0, smooth and max(slopes) <= 0
        return rises, falls

    def pieces_suffice(self, i: int, u: int, pieces: list[Piece]) -> int:
        """Whether unit ``u`` of piecewise-linear node ``i`` needs no binary.

        Returns
        -------
        int
            1 where it need only be at least each of its pieces, -1 where at most, else 0.
        """
        if len(pieces) < 2 or not is_continuous(pieces):
            return 0
        slopes = np.array([g.slope for g in pieces])
        if not self.above[i][u] and (np.diff(slopes) >= 0).all():
            return 1
        if not self.below[i][u] and (np.diff(slopes) <= 0).all():
            return -1
        return 0

    def arguments_suffice(self, i: int, j: int) -> bool:
        """Whether unit ``j`` of max node ``i`` need only be at least each of its arguments."""
        return not self.above[i][j]


def _reached(weights: object, held: np.ndarray) -> np.ndarray:
    """The columns of a 0/1 matrix with an entry in a row that is held."""
    rows = weights[held]  # type: ignore[index]
    found = rows.sum(axis=0) if sp.issparse(rows) else rows.any(axis=0)
    return np.asarray(found).ravel() > 0
