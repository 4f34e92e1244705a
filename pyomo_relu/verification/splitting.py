"""Branch and bound on the inputs with batched linear bounds: for few inputs.

Each box that isn't proved is halved along the input that moves its rows most; children
inherit the bounds of their parent's neurons. All boxes of a round go through one batch
of backward passes, and every box offers the corner at which its bound is attained as a
counterexample.

Source: Wang et al., USENIX Security 2018 (input bisection); Zhang et al.,
arXiv 1811.00866 (the bounds).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from pyomo_relu.bounds.progress import progress
from pyomo_relu.verification.margins import Margins

#: Boxes of one round.
BATCH = 128

#: Numbers that the coefficients of one round may hold (64 MiB): boxes, times rows and
#: their negatives, times the widest layer. Many rows mean fewer boxes.
NUMBERS = 2**23

#: Corners looked at in one round, those with the least bounds. (Twelve sets and
#: their boxes are all.)
CORNERS = 12 * BATCH


@dataclass
class SplitResult:
    """What a search over boxes found.

    Attributes
    ----------
    proved : bool
        Whether no point of the region is in any set.
    witness : (n_inputs,) array or None
        A point that the caller's check has confirmed.
    lower : (sets,) array
        Lower bounds of the margins that hold over the whole region; infinite where
        every box was proved.
    boxes : int
        How many were bounded.
    """

    proved: bool = False
    witness: np.ndarray | None = None
    lower: np.ndarray = field(default_factory=lambda: np.zeros(0))
    boxes: int = 0


class _Stack:
    """Open boxes with the bounds of their neurons, the last pushed first."""

    def __init__(self) -> None:
        self.parts: list[tuple] = []
        self.size = 0

    def push(self, *arrays: np.ndarray) -> None:
        if len(arrays[0]):
            self.parts.append(arrays)
            self.size += len(arrays[0])

    def pop(self, n: int) -> tuple:
        taken: list[tuple] = []
        while self.parts and n > 0:
            part = self.parts.pop()
            if len(part[0]) > n:
                self.parts.append(tuple(a[:-n] for a in part))
                part = tuple(a[-n:] for a in part)
            n -= len(part[0])
            taken.append(part)
        self.size -= sum(len(p[0]) for p in taken)
        return tuple(np.concatenate(a) for a in zip(*taken))


def split_inputs(
    margins: Margins,
    sets: Sequence[int] | np.ndarray,
    confirm: Callable[[np.ndarray], bool],
    deadline: float = np.inf,
    batch: int = BATCH,
    max_boxes: int | None = None,
) -> SplitResult:
    """Prove that no point of a box is in any of the sets, or find one that is.

    Parameters
    ----------
    margins : Margins
        Of a region that is a box, or lies in one.
    sets : sequence or array of int
    confirm : callable
        Whether a point (n_inputs,) is a counterexample.
    deadline : float
        Of ``time.perf_counter()``.
    batch : int
        Boxes of one round, fewer where there are many rows.
    max_boxes : int, optional
        How many to bound at most, about.
    """
    region, unsafe = margins.region, margins.property.unsafe
    strict = np.array([unsafe[d].strict for d in sets])
    sets = np.asarray(sets)
    widths = [margins.network.nodes[i].size for i in margins.hidden]
    spans = np.concatenate([[0], np.cumsum(widths)]).astype(int)
    h = int(spans[-1])
    none = np.concatenate([np.full(h, -np.inf), np.full(h, np.inf)])[None]
    widest = max(node.size for node in margins.network.nodes)
    batch = max(1, min(batch, NUMBERS // (2 * margins.network.n_outputs * widest)))
    stack = _Stack()
    start = np.full((1, len(sets)), -np.inf)
    stack.push(region.lower[None].copy(), region.upper[None].copy(), none, start)
    stuck = np.zeros((0, len(sets)))
    result = SplitResult(lower=np.full(len(sets), -np.inf))
    bar = progress(0, "splitting", "box")
    with bar:
        while stack.size:
            if time.perf_counter() > deadline:
                break
            if max_boxes is not None and result.boxes >= max_boxes:
                break
            low, high, stored, known = stack.pop(batch)
            found, rows, hidden = margins.linear(
                low, high, _by_node(margins, stored, spans)
            )
            result.boxes += len(low)
            bar.update(len(low))
            bound = np.maximum(margins.of_rows(rows)[:, sets], known)
            open_sets = ~np.where(strict, bound >= 0, bound > 0)
            left = open_sets.any(axis=1)
            witness = _offer(margins, sets, found, low, high, bound, open_sets, confirm)
            if witness is not None:
                result.witness = witness
                result.lower = np.full(len(sets), -np.inf)
                return result
            bound = np.where(open_sets, bound, np.inf)
            low, high, bound = low[left], high[left], bound[left]
            if not len(low):
                continue
            stored = _stored(margins, hidden, left, h)
            score = _scores(margins, sets, found.lower[left], open_sets[left], high - low)
            axis = score.argmax(axis=1)
            at = np.arange(len(low))
            middle = 0.5 * (low[at, axis] + high[at, axis])
            small = (middle <= low[at, axis]) | (middle >= high[at, axis])
            if small.any():  # a box of neighbouring numbers can't be halved
                stuck = np.vstack([stuck, bound[small]])
                keep = ~small
                low, high, stored, bound = low[keep], high[keep], stored[keep], bound[keep]
                axis, middle, at = axis[keep], middle[keep], np.arange(keep.sum())
            left_high, right_low = high.copy(), low.copy()
            left_high[at, axis] = right_low[at, axis] = middle
            # The boxes with the least bound last: they are looked at first.
            order = np.argsort(-bound.min(axis=1), kind="stable")
            parts = ((low, right_low), (left_high, high), (stored,) * 2, (bound,) * 2)
            stack.push(*(np.concatenate([a[order], b[order]]) for a, b in parts))
    rest = [p[3] for p in stack.parts] + ([stuck] if len(stuck) else [])
    result.proved = not rest
    result.lower = np.vstack(rest).min(axis=0) if rest else np.full(len(sets), np.inf)
    return result


def _by_node(margins: Margins, stored: np.ndarray, spans) -> tuple[list, list]:
    """Stored bounds as one array for each node, infinite where none are stored."""
    count, h = len(margins.network.nodes), int(spans[-1])
    none = np.full((1, 1), -np.inf)
    lows, highs = [none] * count, [-none] * count
    for i, a, b in zip(margins.hidden, spans, spans[1:]):
        lows[i], highs[i] = stored[:, a:b], stored[:, h + a : h + b]
    return lows, highs


def _stored(margins: Margins, hidden, keep: np.ndarray, h: int) -> np.ndarray:
    if not h:
        return np.zeros((int(keep.sum()), 0))
    parts = [side[i][keep] for side in hidden for i in margins.hidden]
    return np.concatenate(parts, axis=1)


def _scores(margins, sets, slopes, open_sets, width) -> np.ndarray:
    """How much each input moves the rows of the open sets, (N, n)."""
    score = np.zeros(width.shape)
    for k, d in enumerate(sets):
        part = abs(slopes[:, margins.spans[d]]).sum(axis=1) * width
        score += part * open_sets[:, k, None]
    # Where the linear functions are flat the width decides.
    return score + 1e-12 * width


def _offer(margins, sets, found, low, high, bound, open_sets, confirm) -> np.ndarray | None:
    """The first confirmed counterexample among centres and corners of open boxes.

    Each set has a corner in each box where it is open; the corner counts for every set.
    """
    left = open_sets.any(axis=1)
    if not left.any():
        return None
    box, k = np.nonzero(open_sets)
    if len(box) > CORNERS:
        some = np.argpartition(bound[box, k], CORNERS)[:CORNERS]
        box, k = box[some], k[some]
    points = [0.5 * (low[left] + high[left])]
    for j in np.unique(k):
        at = box[k == j]
        steep = found.lower[at, margins.spans[sets[j]]].sum(axis=1)
        points.append(np.where(steep > 0, low[at], high[at]))
    candidates = np.vstack(points)
    best = np.full(len(candidates), np.inf)
    step = max(1, NUMBERS // sum(node.size for node in margins.network.nodes))
    for a in range(0, len(candidates), step):
        rows = margins.rows(candidates[a : a + step])
        best[a : a + step] = margins.of_rows(rows)[:, sets].min(axis=1)
    for k in np.argsort(best, kind="stable")[:3]:
        if best[k] <= 0 and confirm(candidates[k]):
            return candidates[k]
    return None
