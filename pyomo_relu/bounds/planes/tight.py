r"""Planes of chains that are tight at a point: the slopes of neurons ascended for it.

A plane below an output is :math:`a x + c`, where the slopes of the lines below undecided
neurons are free between 0 and 1, neuron by neuron. Its value at a point
:math:`\hat x` is, for given bounds of the neurons, at most that of

.. math::
    \max_{0 \le \alpha \le 1} \; a(\alpha)\, \hat x + c(\alpha)
    \;=\; \min \{ y : (\hat x, h, y) \text{ in the triangles of all neurons} \},

the relaxation with a triangle for each neuron (Salman et al., arXiv 1902.08722), so a row
that reaches it says all at :math:`\hat x` that columns for neurons would.

The slope of a neuron in the first hidden layer that is best is known: 1 where its
pre-activation at :math:`\hat x` is positive, 0 elsewhere. In deeper layers the
pre-activation counts that the relaxation's own worst values lead to: those that
lines above and below give by the signs of the coefficients that the backward pass has.
Slopes and values take turns, slopes going a part of the way each time that gets
smaller (fictitious play on the saddle point; Robinson, Ann. Math. 54, 1951), and the
best plane is kept. Whatever the slopes, a plane is valid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pyomo_relu.bounds.planes.base import Asked, Planes, widened
from pyomo_relu.bounds.planes.chain import ChainPlanes, ChainStack, Lines


@dataclass(frozen=True)
class TightSettings:
    """What steers planes for a point.

    Attributes
    ----------
    turns : int
        Turns of slopes and values at most, with two hidden layers or more.
    """

    turns: int = 6


SETTINGS = TightSettings()


def tighter_together(boxes: Sequence[Asked], known: Sequence[Planes]) -> list[Planes]:
    """Planes of chains of one stack with one more for each output, tight at a point.

    Parameters
    ----------
    boxes : sequence of Asked
        Of chains, all with a point and with outputs that a solver has there.
    known : sequence of Planes
        What is known over each box.
    """
    chains = [one.planes for one in boxes if isinstance(one.planes, ChainPlanes)]
    stack = chains[0].stack
    which = np.array([chain.position for chain in chains])
    low, high = np.stack([one.low for one in boxes]), np.stack([one.high for one in boxes])
    at = np.stack([one.point for one in boxes])
    away = np.stack([one.planes.evaluate(x) - one.outputs for one, x in zip(boxes, at)])
    stored = np.stack([one.stored for one in known if one.stored is not None])
    rows = tight_rows(stack, low, high, stored, at, np.where(away > 0, 1.0, -1.0), which)
    found = []
    for one, own, off in zip(known, rows, away):
        below, above = np.flatnonzero(off > 0), np.flatnonzero(off < 0)
        found.append(
            replace(
                one,
                below=np.concatenate([one.below, own[below]]),
                of_below=np.concatenate([one.of_below, below]),
                above=np.concatenate([one.above, -own[above]]),
                of_above=np.concatenate([one.of_above, above]),
            )
        )
    return found


def tight_rows(
    stack: ChainStack,
    low: np.ndarray,
    high: np.ndarray,
    stored: np.ndarray,
    at: np.ndarray,
    signs: np.ndarray,
    which: np.ndarray,
) -> np.ndarray:
    """A plane for each output of some chains, as high at a point as it gets.

    Parameters
    ----------
    stack : ChainStack
    low, high : (N, n) arrays
        The boxes, inside those of the stack.
    stored : (N, 2, h) array
        Bounds of the hidden pre-activations over them.
    at : (N, n) array
        A point of each box.
    signs : (N, q) array
        1 for a plane below an output, -1 for one above it.
    which : (N,) int array
        The chains.

    Returns
    -------
    rows : (N, q, n + 1) array
        Slopes and constant: ``sign * y >= slopes @ x + constant`` over the box.
    """
    ascent = _Ascent(stack, stored, at, signs, which)
    turns = SETTINGS.turns if len(stack.spans) > 1 else 1
    best = np.full(signs.shape, -np.inf)
    kept = np.zeros((*signs.shape, stack.n)), np.zeros(signs.shape)
    for turn in range(turns):
        if turn:
            ascent.improve(1.0 / (turn + 1.0))
        a, c = ascent.planes()
        height = (a @ at[:, :, None])[..., 0] + c
        better = height > best
        best[better] = height[better]
        kept[0][better], kept[1][better] = a[better], c[better]
    center, radius = widened(low, high)
    return stack.rounded(*kept, abs(center) + radius)


def lost_by(
    stack: ChainStack,
    stored: np.ndarray,
    at: np.ndarray,
    signs: np.ndarray,
    position: int,
) -> np.ndarray:
    """What the planes of :func:`tight_rows` lose at a point of one chain by each neuron, (q, h)."""
    ascent = _Ascent(stack, stored, at, signs, np.array([position]))
    ascent.planes()
    if len(stack.spans) > 1:
        ascent.improve(0.5)
        ascent.planes()
    found = []
    parts = zip(ascent.lines, ascent.slopes, ascent.coefficients, ascent.values)
    for line, lower, a, z in parts:
        above = line.chord * z + 2.0 * line.half
        own = np.where(a > 0.0, lower * z[:, None], above[:, None])
        found.append(a * (np.maximum(z, 0.0)[:, None] - own))
    return np.maximum(np.concatenate(found, axis=-1)[0], 0.0)


class _Ascent:
    """Slopes on their way; outputs, each with slopes of its own, are in the rules' place.

    Attributes
    ----------
    lines : list of Lines
    values : list of (N, m) arrays
        The pre-activations of each layer at the points.
    slopes, coefficients : lists of (N, q, m) arrays
        Slopes of the lines below, and what the last pass had on each layer's neurons.
    """

    def __init__(
        self,
        stack: ChainStack,
        stored: np.ndarray,
        at: np.ndarray,
        signs: np.ndarray,
        which: np.ndarray,
    ) -> None:
        self.stack, self.at, self.which = stack, at, which
        self.lines = [
            Lines.between(stored[:, 0, span], stored[:, 1, span]) for span in stack.spans
        ]
        q = signs.shape[1]
        rows, const = (part[which][:, 0] for part in stack.queries[-1])
        each, place = np.arange(len(at))[:, None], np.arange(q) + q * (signs < 0)
        self._rows, self._const = (
            rows[each, place][:, :, None],
            const[each, place][:, :, None],
        )
        self.values = stack.values(at, which)
        self.slopes = [
            np.repeat(line.at(z)[:, None], q, axis=1).astype(float)
            for line, z in zip(self.lines, self.values)
        ]
        self.coefficients: list[np.ndarray] = []

    def planes(self) -> tuple[np.ndarray, np.ndarray]:
        """Slopes (N, q, n) and constants (N, q) of the planes."""
        rows, const = self._rows, self._const
        self.coefficients = []
        for k in reversed(range(len(self.lines))):
            step = self.stack.step(k, self.lines[k], self.slopes[k], self.which)
            if self.coefficients:
                rows = np.concatenate([rows, abs(rows)], axis=-1)
            self.coefficients.insert(0, rows[:, :, 0, : step.shape[2] // 2])
            new = rows @ step
            rows, const = new[..., :-1], const + new[..., -1]
        return rows[:, :, 0], const[:, :, 0]

    def improve(self, share: float) -> None:
        """Let slopes go a share of the way to those that suit the worst values."""
        worst = self._worst()
        for k in range(1, len(self.lines)):
            self.slopes[k] += share * (self.lines[k].at(worst[k]) - self.slopes[k])

    def _worst(self) -> list[np.ndarray]:
        """Pre-activations (N, q, m) of each layer with all neurons on their worst lines."""
        found: list[np.ndarray] = []
        h = self.at[:, None]
        for k, (line, lower, a) in enumerate(
            zip(self.lines, self.slopes, self.coefficients)
        ):
            weights = self.stack.maps[k][0][self.which][:, 0]
            z = h @ np.swapaxes(weights[..., :-1], 1, 2) + weights[:, None, :, -1]
            found.append(z)
            above = line.chord[:, None] * z + 2.0 * line.half[:, None]
            h = np.where(a > 0.0, lower * z, above)
        return found
