r"""The gap of the linear relaxation at samples, and its gradient, in NumPy.

At an input :math:`x`, the relaxation of a network with big-M rows (or triangles: projected on
values of neurons they are the same) leaves an interval for the output,
:math:`[y_-(x), y_+(x)]`, though the input is fixed. Tsay (arXiv 2604.22746) penalizes its length
at samples. He solves two linear programs for each sample; here the dual is ascended, for all
samples at once:

.. math:: y_-(x) = \max_{0 \le \alpha \le 1} \; a(\alpha)^\top x + c(\alpha)

is the best of all backward passes of linear bounds at :math:`x`, where each sample has slopes
:math:`\alpha` of its own below its undecided neurons (Salman et al., arXiv 1902.08722). The
bounds :math:`l \le z \le u` of neurons are those over the whole box. Slopes begin where the
network's own values say (1 for a positive pre-activation, which is optimal with one hidden
layer) and are ascended by :mod:`pyomo_relu.bounds.slopes`. Any slopes give an upper bound on
the gap, the best ones the gap itself.

The envelope theorem gives the gradient. The coefficients :math:`\nu^k` of the pass on the
pre-activations of layer ``k`` are the multipliers of :math:`z^k = W^k h^{k-1} + b^k`; with the
values :math:`h` along the lines that the pass used,

.. math::

    \frac{\partial y_-}{\partial W^k} = \nu^k (h^{k-1})^\top, \qquad
    \frac{\partial y_-}{\partial b^k} = \nu^k,

and an upper line :math:`u (z - l) / (u - l)` that is met with the coefficient :math:`a < 0` adds

.. math::

    \frac{\partial y_-}{\partial u} = a \, \frac{-l\,(z - l)}{(u - l)^2}, \qquad
    \frac{\partial y_-}{\partial l} = a \, \frac{u\,(z - u)}{(u - l)^2}.

Tsay holds the bounds and adds a penalty on their width instead; with gradients of the bounds
themselves both together are the total derivative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from pyomo_relu.bounds.ascent import Pace, ascend
from pyomo_relu.bounds.backward import Backward, Relaxed
from pyomo_relu.bounds.linear import Lines
from pyomo_relu.bounds.slopes import SlopeProblems
from pyomo_relu.network import (
    Affine,
    Network,
    NetworkBuilder,
    Node,
    PiecewiseLinear,
    activations,
)

#: Which side of the relaxation counts.
SENSES = ("min", "max", "both")


@dataclass(frozen=True)
class GapSettings:
    """What steers the ascent of slopes at samples.

    Attributes
    ----------
    pace : Pace
        What steers the ascent; its rate is a share of the range of a slope. Chosen by hand.
    steps : int
        Points of the ascent, the start included, if nothing else is asked. On one random
        network each, 2-25-25-1, 2-25-25-25-1 and 2-25-25-25-25-25-1, eight samples, the mean gap
        is above that of linear programs by 4.5, 8.4, 12.9 % at the start, 0.4, 1.4, 1.9 %
        with four points, 0.2, 0.3, 0.5 % with eight, in 1.0, 1.3, 2.1 ms and 1.6, 2.0, 3.1 ms.
    """

    pace: Pace = Pace(rates=(0.5,), shrink=0.8)
    steps: int = 4


SETTINGS = GapSettings()


@dataclass(frozen=True)
class Gap:
    """The mean gap and its gradients, each in the shape of what it is by.

    Attributes
    ----------
    value : float
        In units of the output.
    weights : list of (n_out, n_in) arrays
    biases : list of (n_out,) arrays
    lows, highs : lists of (B, n) arrays
        By the bounds of the hidden pre-activations.
    """

    value: float
    weights: list[np.ndarray]
    biases: list[np.ndarray]
    lows: list[np.ndarray]
    highs: list[np.ndarray]


@lru_cache(maxsize=16)
def _frame(sizes: tuple[int, ...]) -> Network:
    """A chain of ReLU layers of these sizes, without its weights."""
    build = NetworkBuilder()
    at = build.input("x", (sizes[0],))
    for k in range(1, len(sizes)):
        if k > 1:
            at = build.piecewise(f"relu_{k - 1}", at, activations.relu())
        weight = np.zeros((sizes[k], sizes[k - 1]))
        at = build.affine(f"dense_{k}", [(at, weight)], np.zeros(sizes[k]))
    return build.build([at], fuse=False)


def _network(weights: Sequence[np.ndarray], biases: Sequence[np.ndarray]) -> Network:
    sizes = (weights[0].shape[1], *(len(w) for w in weights))
    frame, pairs = _frame(sizes), iter(zip(weights, biases))
    nodes: list[Node] = []
    for node in frame.nodes:
        if isinstance(node, Affine):
            weight, bias = next(pairs)
            node = replace(node, weights=(weight,), bias=bias)
        nodes.append(node)
    return frame.with_nodes(nodes)


def relaxation_gap(
    weights: Sequence[np.ndarray],
    biases: Sequence[np.ndarray],
    lows: Sequence[np.ndarray],
    highs: Sequence[np.ndarray],
    x: np.ndarray,
    sense: str = "both",
    steps: int | None = None,
) -> Gap:
    """The mean gap of the linear relaxation at samples, with its gradients.

    Parameters
    ----------
    weights : sequence of (n_out, n_in) arrays
        Of a chain of dense layers with ReLU between them.
    biases : sequence of (n_out,) arrays
    lows, highs : sequences of (1, n) or (S, n) arrays
        Bounds of the hidden pre-activations over the box, or over that of each sample.
    x : (S, n_inputs) array
        The samples.
    sense : {'both', 'min', 'max'}
        ``'both'`` for the whole interval, ``'min'`` for what lies below the network's own
        output, ``'max'`` for what lies above it. Of several outputs the mean is taken.
    steps : int, optional
        Points of the ascent of slopes; what :class:`GapSettings` says if left out.
    """
    weights, biases, lows, highs = (
        [np.array(a, dtype=float) for a in part] for part in (weights, biases, lows, highs)
    )
    points = np.array(x, dtype=float)
    network = _network(weights, biases)
    # One query for each sample, output and side, each over a box that is a point.
    signs = {"min": [1.0], "max": [-1.0], "both": [1.0, -1.0]}[sense]
    rows = np.concatenate([sign * np.eye(network.n_outputs) for sign in signs])
    count = len(rows)
    at, rows = np.repeat(points, count, axis=0), np.tile(rows, (len(points), 1))
    values = _forward(network, at)
    engine = _engine(network, values, lows, highs, count)
    problems = SlopeProblems(engine, len(network.nodes) - 1)
    start = np.empty((len(at), problems.size))
    for (j, _), part in problems.parts.items():
        start[:, part] = values[j - 1] > 0
    if problems.parts:
        problems.rows = rows[:, None, :]
        most = SETTINGS.steps if steps is None else steps
        (start,) = ascend(problems, [start], most, SETTINGS.pace)
    total = _Sum(weights, biases, lows, highs, 1.0 / (len(points) * network.n_outputs))
    total.add(engine, rows, problems.relaxed(start), at, -1.0, bounded=True)
    if sense != "both":
        total.add(engine, rows, _own_lines(network, values), at, 1.0, bounded=False)
    return total.gap


def _forward(network: Network, x: np.ndarray) -> list[np.ndarray]:
    """Values of all nodes of a chain."""
    values = [x]
    for node in network.nodes[1:]:
        assert isinstance(node, (Affine, PiecewiseLinear))
        values.append(node(values[-1]))
    return values


def _engine(
    network: Network,
    values: Sequence[np.ndarray],
    lows: Sequence[np.ndarray],
    highs: Sequence[np.ndarray],
    count: int,
) -> Backward:
    """Backward passes at points, over bounds that come from the box."""
    ends: list[list[np.ndarray]] = [[], []]
    for side, given in zip(ends, (lows, highs)):
        side.append(values[0])
        for one in given:
            side.append(np.repeat(one, count, axis=0) if len(one) > 1 else one)
            side.append(np.maximum(side[-1], 0.0))
        side.append(values[-1])
    return Backward(network, values[0], values[0], *ends)


def _own_lines(network: Network, values: Sequence[np.ndarray]) -> dict[int, Relaxed]:
    """The pieces that neurons are on, as if these were all there is."""
    found: dict[int, Relaxed] = {}
    for j, node in enumerate(network.nodes):
        if isinstance(node, PiecewiseLinear):
            slope = (values[j - 1] > 0).astype(float)
            zero = np.zeros_like(slope)
            found[j] = Lines(slope, zero, slope, zero, False)
    return found


class _Sum:
    """Values of passes and their gradients, added up."""

    def __init__(
        self,
        weights: Sequence[np.ndarray],
        biases: Sequence[np.ndarray],
        lows: Sequence[np.ndarray],
        highs: Sequence[np.ndarray],
        share: float,
    ) -> None:
        self.lows, self.highs, self.share = lows, highs, share
        zeros = [
            [np.zeros_like(a) for a in part] for part in (weights, biases, lows, highs)
        ]
        self.gap = Gap(0.0, *zeros)

    def add(
        self,
        engine: Backward,
        rows: np.ndarray,
        relaxed: dict[int, Relaxed],
        at: np.ndarray,
        factor: float,
        bounded: bool,
    ) -> None:
        """Add a factor times the bounds of the queries; ``bounded`` with gradients by bounds."""
        target, trace = len(engine.network.nodes) - 1, dict[int, np.ndarray]()
        a, c, _ = engine.run(target, rows[:, None, :], relaxed, trace, rigorous=False)
        factor = factor * self.share
        value = factor * float((np.sum(a[:, 0] * at, axis=1) + c[:, 0]).sum())
        gap = self.gap = replace(self.gap, value=self.gap.value + value)
        values = engine.along(at, relaxed, trace, range(target))
        multipliers = factor * rows
        for k in reversed(range(len(gap.weights))):
            gap.weights[k] += multipliers.T @ values[2 * k]
            gap.biases[k] += multipliers.sum(axis=0)
            if k == 0:
                break
            coefficients, lines = factor * trace[2 * k][:, 0], relaxed[2 * k]
            assert isinstance(lines, Lines)
            down = np.minimum(factor * coefficients, 0.0) / factor
            multipliers = (
                coefficients - down
            ) * lines.lower_slope + down * lines.upper_slope
            if bounded:
                self._by_bounds(k - 1, down, values[2 * k - 1])

    def _by_bounds(self, k: int, down: np.ndarray, z: np.ndarray) -> None:
        """Gradients by the bounds of a layer, through the lines above its neurons."""
        low, high = self.lows[k], self.highs[k]
        undecided = (low < 0) & (high > 0)
        square = np.where(undecided, (high - low) ** 2, 1.0)
        each = len(z) // len(low) if len(low) > 1 else 1
        low, high, square, undecided = (
            np.repeat(a, each, axis=0) for a in (low, high, square, undecided)
        )
        by_low = np.where(undecided, down * high * (z - high) / square, 0.0)
        by_high = np.where(undecided, -down * low * (z - low) / square, 0.0)
        for side, own in ((self.gap.lows, by_low), (self.gap.highs, by_high)):
            side[k] += own.reshape(len(side[k]), -1, own.shape[1]).sum(axis=1)
