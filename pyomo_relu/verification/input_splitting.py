"""Branch and bound on the inputs with batched linear bounds: for few inputs.

Each box that isn't proved is halved along the input that moves its rows most; children
inherit the bounds of their parent's neurons. All boxes of a round go through one batch
of backward passes, and every box offers the corner at which its bound is attained as a
counterexample.

Source: Wang et al., USENIX Security 2018 (input bisection); Zhang et al.,
arXiv 1811.00866 (the bounds).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pyomo_relu.base.deadline import NEVER, Deadline
from pyomo_relu.base.progress import progress
from pyomo_relu.bounds.crown import LinearBounds
from pyomo_relu.bounds.pool import Inherited, Parts, Pool, halves
from pyomo_relu.verification.margins import Margins


@dataclass(frozen=True)
class SplittingSettings:
    """What steers the search; all numbers were chosen by hand.

    Attributes
    ----------
    batch : int
        A round takes so many boxes, fewer where there are many rows.
    numbers : int
        So many numbers (64 MiB) the coefficients of one round may hold: boxes, times rows
        and their negatives, times the widest layer.
    corners : int
        So many corners are looked at in one round, those with the least bounds; twelve
        sets and their boxes are all.
    confirmed : int
        So many of the best points of a round are shown to the caller's check.
    by_width : float
        What an input's width counts beside how far it moves the rows: where all linear
        functions are flat, the widest input is cut.
    """

    batch: int = 128
    numbers: int = 2**23
    corners: int = 12 * 128
    confirmed: int = 3
    by_width: float = 1e-12


SETTINGS = SplittingSettings()


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

    proved: bool
    witness: np.ndarray | None
    lower: np.ndarray
    boxes: int


def split_inputs(
    margins: Margins,
    sets: Sequence[int] | np.ndarray,
    confirm: Callable[[np.ndarray], bool],
    deadline: Deadline = NEVER,
    batch: int = SETTINGS.batch,
    max_boxes: int | None = None,
) -> SplitResult:
    """Prove that no point of a box is in any of the sets, or find one that is.

    Parameters
    ----------
    margins : Margins
        The margins over a region that is a box, or lies in one.
    sets : sequence or array of int
    confirm : callable
        Whether a point (n_inputs,) is a counterexample.
    deadline : Deadline
    batch : int
        Boxes of one round, fewer where there are many rows.
    max_boxes : int, optional
        How many to bound at most, about.
    """
    search = _Splitting(margins, np.asarray(sets), confirm)
    widest = max(node.size for node in margins.network.nodes)
    room = SETTINGS.numbers // (2 * margins.network.n_outputs * widest)
    pool, most = search.pool, np.inf if max_boxes is None else max_boxes
    with progress(0, "splitting", "box") as bar:
        while len(pool) and search.witness is None:
            if deadline.expired() or search.boxes >= most:
                break
            with pool.round(max(1, min(batch, room)), last=True) as boxes:
                search.split(boxes)
                bar.update(len(boxes["bound"]))
    lower = np.minimum(search.stuck, pool["known"].min(axis=0, initial=np.inf))
    if search.witness is not None:
        lower = np.full(len(sets), -np.inf)
    proved = not len(pool) and bool((lower == np.inf).all())
    return SplitResult(proved, search.witness, lower, search.boxes)


class _Splitting:
    """The open boxes of one search; ``known`` are their bounds of each set's margin.

    Attributes
    ----------
    stuck : (sets,) array
        The least bounds of boxes of neighbouring numbers, which can't be halved.
    """

    def __init__(
        self, margins: Margins, sets: np.ndarray, confirm: Callable[[np.ndarray], bool]
    ) -> None:
        self.margins, self.sets, self.confirm = margins, sets, confirm
        region, unsafe = margins.region, margins.property.unsafe
        self.strict = np.array([unsafe[d].strict for d in sets])
        self.inherited = Inherited(margins.network)
        self.stuck = np.full(len(sets), np.inf)
        self.witness: np.ndarray | None = None
        self.boxes, n = 0, region.size
        self.pool = Pool(lower=n, upper=n, stored=2 * self.inherited.width, known=len(sets))
        self._push(
            region.lower[None],
            region.upper[None],
            self.inherited.start(),
            np.full((1, len(sets)), -np.inf),
        )

    def _push(
        self, lower: np.ndarray, upper: np.ndarray, stored: np.ndarray, known: np.ndarray
    ) -> None:
        bound = known.min(axis=1)
        self.pool.push(bound=bound, lower=lower, upper=upper, stored=stored, known=known)

    def split(self, boxes: Parts) -> None:
        """Bound some boxes, and push the halves of those that are not proved."""
        low, high = boxes["lower"], boxes["upper"]
        found, rows, hidden = self.margins.linear(
            low, high, self.inherited.by_node(boxes["stored"])
        )
        self.boxes += len(low)
        known = np.maximum(self.margins.of_rows(rows)[:, self.sets], boxes["known"])
        open_ = ~np.where(self.strict, known >= 0, known > 0)
        left = open_.any(axis=1)
        if not left.any():
            return
        self.witness = self._offer(found, low, high, known, open_)
        if self.witness is not None:
            return
        stored = self.inherited.stored(hidden[0], hidden[1], len(low))
        low, high, stored, known, open_, slopes = (
            a[left]
            for a in (low, high, stored, np.where(open_, known, np.inf), open_, found.lower)
        )
        axis = self._scores(slopes, open_, high - low).argmax(axis=1)
        each = np.arange(len(low))
        middle = 0.5 * (low[each, axis] + high[each, axis])
        small = (middle <= low[each, axis]) | (middle >= high[each, axis])
        self.stuck = np.minimum(self.stuck, known[small].min(axis=0, initial=np.inf))
        # The boxes with the least bound last: they are looked at first.
        order = np.argsort(-known.min(axis=1), kind="stable")
        order = order[~small[order]]
        ends = halves(low[order], high[order], axis[order], middle[order])
        self._push(*ends, *(np.concatenate([a[order]] * 2) for a in (stored, known)))

    def _scores(
        self, slopes: np.ndarray, open_: np.ndarray, width: np.ndarray
    ) -> np.ndarray:
        """How much each input moves the rows of the open sets, (N, n)."""
        score = SETTINGS.by_width * width
        for k, d in enumerate(self.sets):
            part = abs(slopes[:, self.margins.spans[d]]).sum(axis=1) * width
            score += part * open_[:, k, None]
        return score

    def _offer(
        self,
        found: LinearBounds,
        low: np.ndarray,
        high: np.ndarray,
        known: np.ndarray,
        open_: np.ndarray,
    ) -> np.ndarray | None:
        """The first confirmed counterexample among centres and corners of open boxes.

        Each set has a corner in each box where it is open; the corner counts for every set.
        """
        margins, left = self.margins, open_.any(axis=1)
        box, k = np.nonzero(open_)
        if len(box) > SETTINGS.corners:
            some = np.argpartition(known[box, k], SETTINGS.corners)[: SETTINGS.corners]
            box, k = box[some], k[some]
        points = [0.5 * (low[left] + high[left])]
        for j in np.unique(k):
            at = box[k == j]
            steep = found.lower[at, margins.spans[self.sets[j]]].sum(axis=1)
            points.append(np.where(steep > 0, low[at], high[at]))
        candidates = np.vstack(points)
        step = max(1, SETTINGS.numbers // sum(node.size for node in margins.network.nodes))
        parts = [candidates[a : a + step] for a in range(0, len(candidates), step)]
        best = np.concatenate(
            [margins.of_rows(margins.rows(x))[:, self.sets].min(axis=1) for x in parts]
        )
        for k in np.argsort(best, kind="stable")[: SETTINGS.confirmed]:
            if best[k] <= 0 and self.confirm(candidates[k]):
                return candidates[k]
        return None
