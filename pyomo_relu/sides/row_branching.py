"""Which neuron or column a subproblem among rows is split on.

Some neurons with a large share in the relaxation and some columns that move these neurons are
tried: a child's bound from its parent's multipliers needs one backward pass. The split whose
children have the best bounds is taken (De Palma et al., arXiv 2104.06718, there for neurons).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyomo_relu.bounds.pool import halves
from pyomo_relu.network import Affine
from pyomo_relu.network.weights import absolute
from pyomo_relu.sides.row_bounds import Lower, Multipliers, Pass, RowBounds, Subproblems


@dataclass
class Split:
    """What each of N subproblems is split on.

    Attributes
    ----------
    neuron : (N,) int array
        -1 where it is a column.
    column : (N,) int array
        -1 where it is a neuron, or where nothing is left to split.
    rise : (N,) array
        What the neuron's activation is multiplied by where that is positive, else 0.
    """

    neuron: np.ndarray
    column: np.ndarray
    rise: np.ndarray

    def take(self, at: np.ndarray) -> Split:
        """Those of the subproblems where ``at`` is true."""
        return Split(self.neuron[at], self.column[at], self.rise[at])


def split(bounds: RowBounds, some: Subproblems, on: Split) -> Subproblems:
    """The children of subproblems: all first ones, then all second ones.

    The first child of a neuron has it active; the first child of a column has its lower half.
    """
    low, high = some.low, some.high
    each = np.arange(len(some))
    j = np.maximum(on.column, 0)
    middle = 0.5 * (low[each, j] + high[each, j])
    whole = bounds.terms.whole[j]
    middle = np.where(whole, np.floor(middle), middle)
    low, high = halves(low, high, j, middle, whole)
    by_neuron = np.concatenate([on.column < 0] * 2)
    low[by_neuron] = np.concatenate([some.low] * 2)[by_neuron]
    high[by_neuron] = np.concatenate([some.high] * 2)[by_neuron]
    fixed = np.concatenate([some.fixed] * 2)
    stored = np.concatenate([some.stored] * 2)
    at, n, k = np.flatnonzero(on.neuron >= 0), len(some), bounds.count
    neuron = on.neuron[at]
    fixed[at, neuron], fixed[n + at, neuron] = 1, -1
    stored[at, neuron] = np.maximum(stored[at, neuron], 0.0)
    stored[n + at, k + neuron] = np.minimum(stored[n + at, k + neuron], 0.0)
    return Subproblems(low, high, fixed, stored)


def inherit(bounds: RowBounds, parents: Multipliers, on: Split) -> Multipliers:
    r"""What the children of :func:`split` begin with.

    Where an activation is multiplied by a positive number :math:`r`, its parent has
    :math:`r \alpha \hat x` below it. With the side's multiplier :math:`r (1 - \alpha)` in
    the active child and :math:`r \alpha` in the inactive one, both have just that, so no
    bound is below the parent's; without one, the active child has :math:`r \hat x`, which
    is less where :math:`\hat x < 0`. Above an activation the child's line is nearer in the
    neuron's range, and no multiplier is needed.
    """
    n = len(on.neuron)
    m = parents.take(np.concatenate([np.arange(n)] * 2))
    at = np.flatnonzero(on.neuron >= 0)
    neuron = on.neuron[at]
    alpha, push = m.alpha[at, neuron], on.rise[at] / bounds.unit[neuron]
    m.beta[at, neuron], m.beta[n + at, neuron] = push * (1.0 - alpha), push * alpha
    return m


def choose(
    bounds: RowBounds, some: Subproblems, multipliers: Multipliers, target: float
) -> Split:
    """What to split each subproblem on.

    Parameters
    ----------
    bounds : RowBounds
    some : Subproblems
    multipliers : Multipliers
        Of each.
    target : float
        More than this is of no use to a child.
    """
    passes = Pass(bounds, some, np.float32)
    _, found = passes(multipliers)
    neurons, columns = _candidates(bounds, some, passes, found)
    n, a, b = len(some), neurons.shape[1], columns.shape[1]
    best = np.full(n, -np.inf)
    on = Split(np.full(n, -1), np.full(n, -1), np.zeros(n))
    none = np.full(n * a, -1), np.full(n * b, -1)
    rises = np.take_along_axis(found.rises, np.maximum(neurons, 0), axis=1)
    trials = [
        (np.repeat(np.arange(n), a), Split(neurons.ravel(), none[0], rises.ravel())),
        (np.repeat(np.arange(n), b), Split(none[1], columns.ravel(), np.zeros(n * b))),
    ]
    values = [_values(bounds, some, multipliers, target, *trial) for trial in trials]
    top = max(float(v.max(initial=-np.inf)) for v in values)
    enough = 0.0 if np.isfinite(target) else top
    least = bounds.settings.surely * bounds.terms.range
    for (at, trial), value in zip(trials, values):
        if not len(at):
            continue
        short = np.minimum(value - enough, 0.0)
        gain = np.minimum(value[0], value[1]) - enough + 0.5 * short.sum(axis=0)
        valid = (trial.neuron >= 0) | (trial.column >= 0)
        gain = np.where(valid & ~np.isnan(gain), gain, -np.inf).reshape(n, -1)
        k = gain.argmax(axis=1)
        # A column must gain more than rounding does: halving one that moves nothing has no
        # end, while neurons can run out.
        better = gain[np.arange(n), k] > best + (least if trial.neuron[0] < 0 else 0.0)
        place = np.flatnonzero(better) * gain.shape[1] + k[better]
        best[better] = gain[better, k[better]]
        on.neuron[better] = trial.neuron[place]
        on.column[better] = trial.column[place]
        on.rise[better] = trial.rise[place]
    return on


def _values(
    bounds: RowBounds,
    some: Subproblems,
    multipliers: Multipliers,
    target: float,
    at: np.ndarray,
    trial: Split,
) -> np.ndarray:
    """Bounds (2, T) of the children of the subproblems ``at``, less shares of the target.

    Not rigorous.
    """
    if not len(at):
        return np.zeros((2, 0))
    children = split(bounds, some.take(at), trial)
    if trial.column.max() >= 0:
        inside = bounds.nodes(children, children.stored)
        children.stored = bounds.inherited.stored(*inside, len(children))
    m = inherit(bounds, multipliers.take(at), trial)
    value, _ = Pass(bounds, children, np.float32)(m)
    if np.isfinite(target):
        value = value - m.share[:, 0] * np.float32(target)
    empty = (children.low > children.high).any(axis=1)
    return np.where(empty, np.inf, value).reshape(2, -1)


def _candidates(
    bounds: RowBounds, some: Subproblems, passes: Pass, found: Lower
) -> tuple[np.ndarray, np.ndarray]:
    """Neurons (N, a) and columns (N, b) that are worth a trial; -1 for none."""
    st, k = bounds.settings, bounds.count
    low, high = some.stored[:, :k], some.stored[:, k:]
    loss = -found.posts * passes.const
    below = found.rises * np.minimum(np.maximum(-low, 0.0), np.maximum(high, 0.0))
    scores = [np.where(passes.open, s, -1.0) for s in (loss, loss + 0.5 * below)]
    m = min(st.candidates, k)
    neurons = np.hstack([_largest(s, m) for s in scores])
    width = np.where(passes.open, high - low, 1.0)
    steep = _steepness(bounds, np.where(passes.open, (loss + below) / width, 0.0))
    moved = some.high - some.low
    score = 0.01 * abs(found.slopes) * moved * bounds.terms.whole
    score[:, : bounds.n] += steep * moved[:, : bounds.n]
    # Columns could be halved for ever; while there are neurons, they are down to a share.
    terms = bounds.terms
    least = np.where(terms.whole, 0.0, st.narrow * (terms.high - terms.low))
    least = np.where(passes.open.any(axis=1, keepdims=True), least, 0.0)
    tiny = moved <= np.maximum(least, 1e-9 * np.maximum(1.0, abs(some.low)))
    columns = _largest(np.where(tiny, -1.0, score), min(st.columns, moved.shape[1]))
    return neurons, columns


def _largest(scores: np.ndarray, m: int) -> np.ndarray:
    """The columns of the ``m`` largest scores of each row, -1 where one is negative."""
    order = np.argpartition(-scores, m - 1, axis=1)[:, :m]
    return np.where(np.take_along_axis(scores, order, axis=1) < 0, -1, order)


def _steepness(bounds: RowBounds, by_neuron: np.ndarray) -> np.ndarray:
    """What a change of each input may add up to over the neurons, (N, n)."""
    network = bounds.network
    sums: dict[int, np.ndarray] = {i: by_neuron[:, s] for i, s in bounds.spans.items()}
    for i in range(len(network.nodes) - 1, 0, -1):
        if i not in sums:
            continue
        node = network.nodes[i]
        for k, s in enumerate(node.sources):
            part = sums[i]
            if isinstance(node, Affine):
                part = np.asarray(part @ absolute(node.weights[k]))
            sums[s] = sums[s] + part if s in sums else part
    return sums.get(network.inputs[0], np.zeros((len(by_neuron), bounds.n)))
