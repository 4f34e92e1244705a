r"""Planes of chains of affine layers and ReLU, with few NumPy calls.

It is the pass of :mod:`pyomo_relu.bounds.backward` for this one kind of network. What a
query has on a layer's activations is a row :math:`A`. With the slopes :math:`l_i, u_i`
of the lines below and above neuron :math:`i` and the constant :math:`c_i` of the upper one,

.. math::
    A h \ge \sum_i \left(A_i \frac{u_i + l_i}{2} - |A_i| \frac{u_i - l_i}{2}\right) z_i
    + \frac{A_i - |A_i|}{2} c_i, \qquad z = W h' + b,

is linear in :math:`(A, |A|)`: a step of the pass is a product with one matrix, made once
for each layer and rule and used for all queries of all layers above. Slope rules are an
axis of their own, and so are networks of the same shape: a *stack* of them is bounded
at the price of little more than one.

Rounding is that of :mod:`~pyomo_relu.bounds.backward`, with magnitudes over the whole
box, so that it is found once: it is a constant of each layer's matrix, multiplied with
:math:`|A|` like the rest.

A neuron that the parent box has decided needs no bounds any more, so no query asks for
them.

Source: Zhang et al., arXiv 1811.00866 (CROWN).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pyomo_relu.base.rounding import EPS
from pyomo_relu.bounds.backward import TINY
from pyomo_relu.bounds.crown import crown_arrays
from pyomo_relu.bounds.planes.base import Asked, BoxPlanes, Planes, widened
from pyomo_relu.bounds.planes.relu_layers import Layer, layers_as_network, value_of
from pyomo_relu.network import Network

#: Slope rules of the last pass: adaptive, zero, one, and the one for a point.
MOST_RULES = 4

#: The least positive number: what a division of zero by zero is kept from.
_SMALLEST = 5e-324


@dataclass(frozen=True)
class Lines:
    """The lines around the activations of a layer.

    Attributes
    ----------
    low, high : (N, m) arrays
        Bounds of the pre-activations.
    chord, half : (N, m) arrays
        Slope of the line above, and half of its constant, 0 where a neuron is decided.
    """

    low: np.ndarray
    high: np.ndarray
    chord: np.ndarray
    half: np.ndarray

    @classmethod
    def between(cls, low: np.ndarray, high: np.ndarray) -> Lines:
        """The lines over intervals (N, m)."""
        plus, down = np.maximum(high, 0.0), np.minimum(low, 0.0)
        chord = plus / np.maximum(plus - down, _SMALLEST)
        return cls(low, high, chord, -0.5 * chord * down)

    def rules(self, values: np.ndarray | None) -> np.ndarray:
        """Slopes (N, R, m) of the lines below by each rule, at values (N, m) if given."""
        high, active = self.high, self.low >= 0.0
        rules = [high > -self.low, active, high > 0.0]
        if values is not None:
            rules.append(self.at(values))
        return np.stack(rules, axis=1)

    def at(self, values: np.ndarray) -> np.ndarray:
        """Whether the highest line below has slope 1 at values (N, ..., m)."""
        shape = (len(self.low), *([1] * (values.ndim - 2)), -1)
        active, inactive = self.low >= 0.0, self.high <= 0.0
        return active.reshape(shape) | ((values > 0.0) & ~inactive.reshape(shape))


class ChainStack:
    """Chains of equal shape, bounded together.

    Parameters
    ----------
    chains : sequence of lists of layers
        B chains, as :func:`relu_layers` gives them.
    low, high : (B, n) arrays
        The boxes that all others are in.
    lows, highs : lists of (B, m) arrays
        Valid bounds of the pre-activations of each hidden layer over these boxes.

    Attributes
    ----------
    shape : tuple of int
        Inputs, neurons of each hidden layer, outputs.
    stored : (B, 2, h) array
        The bounds of all hidden pre-activations, lower ones first.
    surrogates : list of (B, 2 m, n + 1) arrays or None
        For each hidden layer and each query of its neurons a row that the inputs obey:
        ``row[:-1] @ x + row[-1] <= 0``. What a query is at least is at least what its
        plane and this row together are.
    """

    def __init__(
        self,
        chains: Sequence[list[Layer]],
        low: np.ndarray,
        high: np.ndarray,
        lows: Sequence[np.ndarray],
        highs: Sequence[np.ndarray],
    ) -> None:
        depth = len(chains[0])
        weights = [np.stack([c[k][0] for c in chains]) for k in range(depth)]
        biases = [np.stack([c[k][1] for c in chains]) for k in range(depth)]
        self.shape = (weights[0].shape[2], *(w.shape[1] for w in weights))
        self.n = self.shape[0]
        self.chains = [
            [(w[b], c[b]) for w, c in zip(weights, biases)] for b in range(len(low))
        ]
        self.low, self.high = low, high
        sizes = self.shape[1:-1]
        ends = np.cumsum([0, *sizes])
        self.spans = [slice(a, b) for a, b in zip(ends, ends[1:])]
        self.stored = np.stack(
            [
                np.concatenate([np.zeros((len(low), 0)), *side], axis=1)
                for side in (lows, highs)
            ],
            axis=1,
        )
        self.share = 4.0 * (self.n + 4.0) * EPS
        self.surrogates: list[np.ndarray] | None = None
        # The output of each plane, rule by rule.
        self.owners = np.tile(np.arange(self.shape[-1]), (MOST_RULES, 1))
        own, behind = self._noises(weights, biases, lows, highs)
        #: For each hidden layer its weights with the bias as one more column, the same
        #: negative, and what rounding costs per unit of a coefficient on its neurons.
        self.maps = [
            (a, -a, noise)
            for w, b, noise in zip(weights, biases, behind)
            for a in [np.concatenate([w, b[..., None]], axis=2)[:, None]]
        ]
        #: For each layer the rows of its entries, then those of their
        #: negatives, beside their absolute values; and their constants.
        self.queries = [
            (
                np.concatenate(
                    [np.concatenate([w, abs(w)], 2), np.concatenate([-w, abs(w)], 2)], 1
                )[:, None],
                np.concatenate([b - noise, -b - noise], axis=1)[:, None],
            )
            for w, b, noise in zip(weights, biases, own)
        ]

    def _noises(
        self,
        weights: Sequence[np.ndarray],
        biases: Sequence[np.ndarray],
        lows: Sequence[np.ndarray],
        highs: Sequence[np.ndarray],
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """What rounding costs per unit of coefficient on each layer and its neurons, (B, m).

        The terms of a product are those of ``(A, |A|)``, twice a layer's neurons; what is
        found is raised by 1 % for its own rounding.
        """
        size = np.maximum(abs(self.low), abs(self.high))
        own, behind = [], []
        for k, (w, b) in enumerate(zip(weights, biases)):
            terms = 2.0 * w.shape[1] + w.shape[2] + len(weights) + 32.0
            total = np.matmul(abs(w), size[..., None])[..., 0] + abs(b)
            own.append(2.02 * EPS * terms * total + TINY)
            if k < len(lows):
                size = np.maximum(abs(lows[k]), abs(highs[k]))
                behind.append(own[k] + 2.02 * EPS * terms * 2.0 * size + TINY)
                size = np.maximum(highs[k], 0.0)
        return own, behind

    # -------------------------------------------------------------------------- boxes
    def over(
        self,
        low: np.ndarray,
        high: np.ndarray,
        stored: np.ndarray | None = None,
        at: np.ndarray | None = None,
        which: slice | np.ndarray | None = None,
    ) -> list[Planes]:
        """Planes of chains over a box each.

        Parameters
        ----------
        low, high : (N, n) arrays
        stored : (N, 2, h) array, optional
            Bounds of the hidden pre-activations that hold there.
        at : (N, n) array, optional
            Points at which one more rule makes tight planes.
        which : slice or (N,) int array, optional
            The chain of each box; all in turn if left out.
        """
        every = slice(None) if which is None else which
        found = np.array(self.stored[every] if stored is None else stored)
        center, radius = widened(low, high)
        reach = abs(center) + radius
        # The evaluation of a plane over the box rounds, too.
        radius = radius + self.share * reach
        box = center[:, None, :, None], radius[:, None, :, None]
        values = None if at is None else self.values(at, every)
        undecided = np.zeros(len(low), dtype=int)
        steps: list[np.ndarray] = []
        for k, span in enumerate(self.spans):
            self._tighten(k, found[:, :, span], steps, box, every)
            point = None if values is None else values[k]
            lines = Lines.between(found[:, 0, span], found[:, 1, span])
            steps.append(self.step(k, lines, lines.rules(point), every))
            undecided += np.count_nonzero(lines.half, axis=1)
        if not undecided.any():
            steps = [step[:, :1] for step in steps]  # all rules give the same
        rows, const = self.queries[-1]
        a, const = through(rows[every], const[every], steps)
        least = self._least(a, const, box).max(axis=1)
        planes = self.rounded(a, const, reach[:, None])
        return self._split(planes, least, found, undecided)

    def values(self, at: np.ndarray, every: slice | np.ndarray) -> list[np.ndarray]:
        """The pre-activations (N, m) of each hidden layer at points (N, n)."""
        found, x = [], at
        for a, _, _ in self.maps:
            a = a[every][:, 0]
            z = np.matmul(a[..., :-1], x[..., None])[..., 0] + a[..., -1]
            found.append(z)
            x = np.maximum(z, 0.0)
        return found

    def _tighten(
        self,
        k: int,
        known: np.ndarray,
        steps: Sequence[np.ndarray],
        box: tuple[np.ndarray, np.ndarray],
        every: slice | np.ndarray,
    ) -> None:
        """Better bounds of the neurons of a layer that are undecided, in place."""
        low, high = known[:, 0], known[:, 1]
        open_: np.ndarray = np.any((low < 0.0) & (high > 0.0), axis=0)
        m = int(open_.sum())
        if not m:
            return
        rows, const = self.queries[k]
        rows, const = rows[every], const[every]
        some: slice | np.ndarray = slice(None)
        if 2 * m <= len(open_):
            some = np.flatnonzero(open_)
            both = np.concatenate([some, some + len(open_)])
            rows, const = rows[:, :, both], const[:, :, both]
        else:
            m = len(open_)
        a, const = through(rows, const, [step[:, :1] for step in steps])
        least = self._least(a, const, box)[:, 0]
        if self.surrogates is not None:
            more = self.surrogates[k][every][:, None]
            more = more if isinstance(some, slice) else more[:, :, both]
            a, const = a + more[..., :-1], const + more[..., -1]
            least = np.maximum(least, self._least(a, const, box)[:, 0])
        low[:, some] = np.maximum(low[:, some], least[:, :m])
        high[:, some] = np.minimum(high[:, some], -least[:, m:])

    def step(
        self, k: int, lines: Lines, lower: np.ndarray, every: slice | np.ndarray
    ) -> np.ndarray:
        """The matrix that leads from ``(A, |A|)`` of a layer to the one below, by rule.

        Parameters
        ----------
        k : int
            The layer.
        lines : Lines
        lower : (N, R, m) array
            Slopes of the lines below, rule by rule.
        every : slice or (N,) int array
            The chains.

        Returns
        -------
        step : (N, R, 2 m, p + 1) array
            The last column is what it adds to the constant.
        """
        weights, minus, noise = (part[every] for part in self.maps[k])
        mean = 0.5 * (lines.chord[:, None] + lower)
        m = lower.shape[-1]
        step = np.empty((*mean.shape[:2], 2 * m, weights.shape[-1]))
        np.multiply(mean[..., None], weights, out=step[:, :, :m])
        np.multiply((mean - lower)[..., None], minus, out=step[:, :, m:])
        step[:, :, :m, -1] += lines.half[:, None]
        step[:, :, m:, -1] -= (lines.half + noise)[:, None]
        return step

    def _least(
        self, a: np.ndarray, const: np.ndarray, box: tuple[np.ndarray, np.ndarray]
    ) -> np.ndarray:
        """The least values of rows over the boxes, rounded down, (N, R, rows)."""
        center, radius = box
        value = (a @ center - abs(a) @ radius)[..., 0] + const
        return value - (self.share * abs(const) + TINY)

    def rounded(self, a: np.ndarray, const: np.ndarray, reach: np.ndarray) -> np.ndarray:
        """Rows (..., n + 1) of slopes and constants less what their evaluation rounds.

        ``reach`` (..., n) are the largest magnitudes of the inputs.
        """
        size = (abs(a) @ reach[..., None])[..., 0] + abs(const)
        const = const - (self.share * size + TINY)
        return np.concatenate([a, const[..., None]], axis=-1)

    def _split(
        self,
        planes: np.ndarray,
        least: np.ndarray,
        stored: np.ndarray,
        undecided: np.ndarray,
    ) -> list[Planes]:
        q, found = self.shape[-1], []
        for b, count in enumerate(undecided.tolist()):
            r = planes.shape[1] if count else 1
            own = self.owners[:r].reshape(-1)
            found.append(
                Planes(
                    planes[b, :r, :q].reshape(r * q, -1),
                    own,
                    -planes[b, :r, q:].reshape(r * q, -1),
                    own,
                    least[b, :q],
                    -least[b, q:],
                    stored[b],
                    count,
                )
            )
        return found


def through(
    rows: np.ndarray, const: np.ndarray, steps: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Queries as linear functions of the inputs: slopes (N, R, rows, n) and constants.

    Without a step ``rows`` are that already, beside their absolute values.
    """
    if not steps:
        return rows[..., : rows.shape[-1] // 2], const
    for step in reversed(steps):
        if step is not steps[-1]:
            rows = np.concatenate([rows, abs(rows)], axis=-1)
        new = rows @ step
        rows, const = new[..., :-1], const + new[..., -1]
    return rows, const


class ChainPlanes(BoxPlanes):
    """One chain of a stack.

    Parameters
    ----------
    network : Network
        What the chain is.
    stack : ChainStack
    position : int
        Its place in the stack.
    """

    pointed = True

    def __init__(self, network: Network, stack: ChainStack, position: int) -> None:
        super().__init__(network, stack.low[position], stack.high[position])
        self.stack, self.position = stack, position
        self._layers = stack.chains[position]

    def evaluate(self, x: np.ndarray) -> np.ndarray:
        return value_of(self._layers, x)

    def over(
        self,
        low: np.ndarray,
        high: np.ndarray,
        stored: np.ndarray | None = None,
        at: np.ndarray | None = None,
        y: np.ndarray | None = None,
    ) -> Planes:
        low, high = self.box(low, high)
        k = self.position
        (found,) = self.stack.over(
            low[None],
            high[None],
            None if stored is None else stored[None],
            None if at is None else at[None],
            slice(k, k + 1),
        )
        return found

    def over_many(
        self, low: np.ndarray, high: np.ndarray, stored: np.ndarray | None = None
    ) -> list[Planes]:
        which = np.full(len(low), self.position)
        return self.stack.over(low, high, stored, None, which)


def chain_planes(
    networks: Sequence[Network],
    layers: Sequence[list[Layer]],
    low: np.ndarray,
    high: np.ndarray,
) -> list[ChainPlanes]:
    """Chains of one shape, as one stack.

    Parameters
    ----------
    networks : sequence of Network
    layers : sequence of lists of layers
        What :func:`relu_layers` gives for each.
    low, high : (B, n) arrays
        A box for each.
    """
    lows: list[list[np.ndarray]] = []
    highs: list[list[np.ndarray]] = []
    for chain, a, b in zip(layers, low, high):
        network = layers_as_network(chain)
        below, above = crown_arrays(network, a[None], b[None])
        hidden = range(1, len(network.nodes) - 1, 2)
        lows.append([below[i][0] for i in hidden])
        highs.append([above[i][0] for i in hidden])
    stack = ChainStack(
        layers,
        low,
        high,
        [np.stack(own) for own in zip(*lows)],
        [np.stack(own) for own in zip(*highs)],
    )
    return [ChainPlanes(network, stack, k) for k, network in enumerate(networks)]


def over_together(boxes: Sequence[Asked]) -> list[Planes]:
    """:meth:`ChainPlanes.over` for boxes of chains of one stack."""
    chains = [one.planes for one in boxes if isinstance(one.planes, ChainPlanes)]
    stack = chains[0].stack
    which = np.array([chain.position for chain in chains])
    low, high = np.stack([one.low for one in boxes]), np.stack([one.high for one in boxes])
    low, high = np.maximum(low, stack.low[which]), np.minimum(high, stack.high[which])
    if not (low <= high).all():
        for one in boxes:
            one.planes.box(one.low, one.high)  # raises an error that says which
    stored = [
        stack.stored[k] if one.stored is None else one.stored
        for k, one in zip(which, boxes)
    ]
    known = [one.at for one in boxes if one.at is not None]
    at = np.stack(known) if len(known) == len(boxes) else None
    every = np.array_equal(which, np.arange(len(stack.low)))
    return stack.over(low, high, np.stack(stored), at, None if every else which)
