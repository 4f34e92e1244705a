r"""Chains over boxes on which some neurons' sides are given.

A box :math:`B` and a side :math:`s_i \in \{-1, 1\}` for some hidden neurons stand for the
points :math:`x \in B` with :math:`s_i z_i(x) \ge 0`. Their bounds :math:`l_i \ge 0` or
:math:`u_i \le 0` go into the backward pass as any others, so every plane holds for these
points; and from a plane below :math:`-s_i z_i`,

.. math::
    0 \;\ge\; -s_i z_i(x) \;\ge\; a x + c ,

follows a row that the inputs obey. It is :math:`-s_i z_i` itself for the first hidden layer,
and wherever all neurons before are decided.

How much a neuron's side is worth at a point :math:`\hat x` the backward pass says: with its
coefficients :math:`A_i` and the lines :math:`\ell_i` that it takes,

.. math::
    y(\hat x) - (a \hat x + c) = \sum_i A_i \bigl(\max(\hat z_i, 0) - \ell_i(\hat z_i)\bigr) ,

and every term is at least zero: it is what the plane loses on this neuron.
"""

from __future__ import annotations

import numpy as np

from pyomo_relu.bounds.planes.base import BoxPlanes, widened
from pyomo_relu.bounds.planes.chain import ChainPlanes, Lines, through
from pyomo_relu.bounds.planes.cover import CoverPlanes
from pyomo_relu.bounds.planes.tight import lost_by


def chain_of(planes: BoxPlanes) -> ChainPlanes | None:
    """The chain that bounds a network; None for a network that is bounded otherwise."""
    if isinstance(planes, CoverPlanes):
        planes = planes.plain
    return planes if isinstance(planes, ChainPlanes) else None


def undecided(planes: BoxPlanes) -> np.ndarray:
    """The hidden neurons, counted through all layers, that the first box leaves undecided."""
    chain = chain_of(planes)
    if chain is None:
        return np.zeros(0, dtype=int)
    low, high = chain.stack.stored[chain.position]
    return np.flatnonzero((low < 0.0) & (high > 0.0))


def with_sides(
    chain: ChainPlanes, stored: np.ndarray | None, sides: np.ndarray
) -> np.ndarray | None:
    """Bounds of the neurons (2, h) where sides (h,) are given: 1, -1, or 0 for none.

    ``stored`` are the bounds without them, those over the first box if left out. None where a
    side contradicts them: no point of the box is on it.
    """
    known = chain.stack.stored[chain.position] if stored is None else stored
    low = np.where(sides > 0, np.maximum(known[0], 0.0), known[0])
    high = np.where(sides < 0, np.minimum(known[1], 0.0), known[1])
    return None if (low > high).any() else np.stack([low, high])


def side_rows(
    chain: ChainPlanes,
    low: np.ndarray,
    high: np.ndarray,
    stored: np.ndarray,
    sides: np.ndarray,
) -> tuple[np.ndarray, bool]:
    """Rows that the inputs obey where neurons are on given sides.

    Parameters
    ----------
    chain : ChainPlanes
    low, high : (n,) arrays
        The box.
    stored : (2, h) array
        Bounds of the neurons there.
    sides : (h,) int array
        1, -1, or 0 for none.

    Returns
    -------
    rows : (S, n + 1) array
        ``rows[:, :-1] @ x + rows[:, -1] <= 0``, one for each side, layer by layer.
    empty : bool
        Whether no point of the box obeys one of them.
    """
    stack, every = chain.stack, slice(chain.position, chain.position + 1)
    center, radius = widened(low, high)
    reach = abs(center) + radius
    steps: list[np.ndarray] = []
    found: list[np.ndarray] = []
    for k, span in enumerate(stack.spans):
        given = np.flatnonzero(sides[span])
        if len(given):
            rows, const = (part[every] for part in stack.queries[k])
            half = rows.shape[2] // 2
            which = given + np.where(sides[span][given] > 0, half, 0)
            a, c = through(rows[:, :, which], const[:, :, which], steps)
            found.append(stack.rounded(a, c, reach[None, None])[0, 0])
        if not sides[span.stop :].any():
            break
        lines = Lines.between(stored[:1, span], stored[1:, span])
        steps.append(stack.step(k, lines, lines.rules(None)[:, :1], every))
    every_row = np.concatenate(found)
    ends = every_row[:, :-1] @ center - abs(every_row[:, :-1]) @ radius
    # What evaluating a plane rounds has been taken off it twice by then, with room left.
    least = ends - stack.share * (abs(every_row[:, :-1]) @ reach) + every_row[:, -1]
    return every_row, bool((least > 0.0).any())


def worth_of_sides(
    chain: ChainPlanes, stored: np.ndarray, at: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """What planes that are tight at a point lose there on each hidden neuron, as shares, (h,).

    Parameters
    ----------
    chain : ChainPlanes
    stored : (2, h) array
        Bounds of the neurons.
    at : (n,) array
    y : (q,) array
        The outputs that a solver has there: the planes between them and the network's own
        count, those of each output as much as it is off.
    """
    off = chain.evaluate(at) - y
    signs = np.where(off > 0, 1.0, -1.0)
    lost = lost_by(chain.stack, stored[None], at[None], signs[None], chain.position)
    total = np.maximum(lost.sum(axis=1, keepdims=True), 1e-300)
    return abs(off) @ (lost / total) / max(float(abs(off).sum()), 1e-300)
