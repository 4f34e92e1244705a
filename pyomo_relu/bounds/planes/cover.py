r"""Planes of a network of few inputs over wide boxes, from a cover by small ones.

Linear bounds of a network over a wide box are far from the convex hull of its graph: up to a
hundred times for three inputs. Over a small box they are close. So the first box is split,
once, into many *leaves* with a plane :math:`p_i` below (and one above) each output over
leaf :math:`B_i`. A plane of any slope :math:`a` is below the output over a box if it is
below all :math:`p_i` on the leaves' parts in the box,

.. math:: c = \min_i \min_{x \in B_i} \left(p_i(x) - a x\right),

in closed form. The best slope at a point :math:`x` is the dual of the linear program whose
columns are the corners of the leaves with the values of :math:`p_i` there,

.. math:: \min \sum_k \lambda_k y_k, \quad \sum_k \lambda_k v_k = x, \quad
    \sum_k \lambda_k = 1, \quad \lambda \ge 0,

and the closed form is its pricing: the simplex method goes on from n + 1 corners of the box,
and every basis gives a valid plane. The ranges of outputs and hidden neurons over a box are
those of its leaves together.

Leaves are made where they are needed: at first the half of them with the largest gaps between
their planes is split again and again, by the input that moves the planes most, and later those
in boxes that have few. All boxes of a search share them, whatever the rest of its model is
doing, and so do equal networks over one box.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyomo_relu.base.rounding import EPS
from pyomo_relu.bounds.backward import TINY
from pyomo_relu.bounds.planes.base import Asked, BoxPlanes, Planes, widened
from pyomo_relu.network import Affine, Network


@dataclass(frozen=True)
class CoverSettings:
    """What steers covers; ``wanted`` and ``growth`` were tried on models of three-input networks.

    Attributes
    ----------
    most_inputs : int
        Networks with more free inputs have no cover: leaves of theirs are still wide.
    leaves : int
        So many at first and at most ...
    work : float
        ... and so few that their bounds take no more multiplications than this, roughly.
    close : float
        A leaf is not split further once its gap is this share of the first box's.
    fewest : int
        Over a box with fewer leaves the plain planes are as good.
    wanted : int
        Where a box has fewer leaves they are split, the worst ones first ...
    at_once : int
        ... so many at a time ...
    growth : int
        ... until there are this many times as many leaves as at first.
    steps : int
        Bases on the way to a plane at most.
    near : float
        A plane is good enough when no other is higher at the point by this share of the
        output's range.
    batch : int
        Boxes that are bounded at once.
    """

    most_inputs: int = 5
    leaves: int = 1024
    work: float = 1e9
    close: float = 1e-3
    fewest: int = 6
    wanted: int = 96
    at_once: int = 48
    growth: int = 4
    steps: int = 25
    near: float = 2e-3
    batch: int = 128


SETTINGS = CoverSettings()


class CoverPlanes(BoxPlanes):
    """A network of few inputs, with a cover of the first box.

    Parameters
    ----------
    plain : BoxPlanes
        What bounds narrow boxes.
    cover : Cover, optional
        That of an equal network over the same box.
    """

    pointed = True

    def __init__(self, plain: BoxPlanes, cover: Cover | None = None) -> None:
        super().__init__(plain.network, plain.low, plain.high)
        self.plain = plain
        self.cover = cover or Cover(plain)

    def evaluate(self, x: np.ndarray) -> np.ndarray:
        return self.plain.evaluate(x)

    def over(
        self,
        low: np.ndarray,
        high: np.ndarray,
        stored: np.ndarray | None = None,
        at: np.ndarray | None = None,
        y: np.ndarray | None = None,
    ) -> Planes:
        asked = Asked(self, low, high, stored, at, y)
        inner = self.inner(asked)
        plain = self.plain.over(inner.low, inner.high, inner.stored, inner.at)
        return self.with_leaves(plain, asked)

    def tighter(
        self,
        planes: Planes,
        low: np.ndarray,
        high: np.ndarray,
        at: np.ndarray,
        y: np.ndarray | None = None,
    ) -> Planes:
        return self.with_leaves(planes, Asked(self, low, high, None, at, y))

    def inner(self, asked: Asked) -> Asked:
        """What is asked of the plain bounds, which start from what leaves know of neurons."""
        low, high = self.box(asked.low, asked.high)
        stored, which = asked.stored, self.cover.meeting(low, high)
        if len(which) >= SETTINGS.fewest:
            stored = self.cover.leaves.stored_over(which, stored)
        return Asked(self.plain, low, high, stored, asked.at)

    def with_leaves(self, found: Planes, asked: Asked) -> Planes:
        """The plain planes over a box, with what the leaves add to them."""
        low, high = self.box(asked.low, asked.high)
        which = self.cover.meeting(low, high)
        if len(which) < SETTINGS.fewest:
            return found
        leaves = self.cover.leaves
        ends = (
            np.maximum(found.low, leaves.low_of_y[which].min(axis=0)),
            np.minimum(found.high, leaves.high_of_y[which].max(axis=0)),
        )
        rows = {1.0: [found.below], -1.0: [found.above]}
        owners = {1.0: [found.of_below], -1.0: [found.of_above]}
        wanted = asked.wanted()
        if wanted and asked.at is not None:
            x = np.clip(asked.at, low, high)
            corners, parts = _first_basis(low, high, x), leaves.parts(which, low, high)
            enough = SETTINGS.near * (ends[1] - ends[0])
            for j, sign in wanted:
                planes = (leaves.below if sign > 0 else leaves.above)[which, j]
                floor = -np.inf if asked.y is None else sign * float(asked.y[j])
                row = _highest(parts, planes, x, corners, enough[j], floor)
                if row is not None:
                    rows[sign].append(sign * row[None])
                    owners[sign].append(np.array([j]))
        return Planes(
            np.concatenate(rows[1.0]),
            np.concatenate(owners[1.0]),
            np.concatenate(rows[-1.0]),
            np.concatenate(owners[-1.0]),
            *ends,
            found.stored,
            found.undecided,
        )


@dataclass
class _Leaves:
    """N boxes that cover the first one.

    Attributes
    ----------
    low, high : (N, n) arrays
    below, above : (N, q, n + 1) arrays
        A plane below each output over each leaf, and one below its negative.
    low_of_y, high_of_y : (N, q) arrays
    stored : (N, ...) array
    gap : (N,) array
        How far the planes are apart in the middle, as a share of the first box's.
    """

    low: np.ndarray
    high: np.ndarray
    below: np.ndarray
    above: np.ndarray
    low_of_y: np.ndarray
    high_of_y: np.ndarray
    stored: np.ndarray
    gap: np.ndarray

    def meeting(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """The leaves that a box meets, not only at their faces where it is wider."""
        inner = (self.low < high) & (self.high > low)
        thin = low == high
        if thin.any():
            inner |= thin & (self.low <= high) & (self.high >= low)
        return np.flatnonzero(inner.all(axis=1))

    def stored_over(self, which: np.ndarray, known: np.ndarray | None) -> np.ndarray:
        """The bounds of hidden neurons over some leaves together, and what is known."""
        half = self.stored.reshape(len(self.stored), 2, -1)[which]
        low, high = half[:, 0].min(axis=0), half[:, 1].max(axis=0)
        if known is not None:
            before = known.reshape(2, -1)
            low, high = np.maximum(low, before[0]), np.minimum(high, before[1])
        return np.stack([low, high]).reshape(self.stored.shape[1:])

    def parts(
        self, which: np.ndarray, low: np.ndarray, high: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Centers and radii of some leaves' parts in a box."""
        return widened(np.maximum(self.low[which], low), np.minimum(self.high[which], high))


def most_leaves(network: Network) -> int:
    """How many leaves a network's cover may have."""
    weights = sum(node.nonzeros for node in network.nodes if isinstance(node, Affine))
    # Every hidden neuron is asked about, through all weights at most, for both its bounds.
    return min(
        SETTINGS.leaves, int(SETTINGS.work / (2.0 * weights * network.n_neurons + 1.0))
    )


class Cover:
    """The leaves of one network over one box; they get finer where boxes are asked about.

    Parameters
    ----------
    plain : BoxPlanes
        What bounds leaves.
    """

    def __init__(self, plain: BoxPlanes) -> None:
        self.plain, self._most = plain, most_leaves(plain.network)
        self._leaves: _Leaves | None = None
        self._whole = np.zeros(0)

    @property
    def leaves(self) -> _Leaves:
        """The leaves; the first ones are made when they are first asked for."""
        if self._leaves is None:
            plain = self.plain
            first = _bounded(plain, plain.low[None], plain.high[None], None, None)
            self._whole = np.maximum(_middle_gaps(first)[0], 1e-300)
            first.gap = (_middle_gaps(first) / self._whole).max(axis=1)
            self._leaves = first
            while (count := len(self._leaves.low)) < self._most:
                order = np.argsort(-self._leaves.gap, kind="stable")
                if not self._split(order[: max(1, min(count // 2, self._most - count))]):
                    break
        return self._leaves

    def meeting(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """The leaves that a box meets; where they are few, finer ones."""
        leaves = self.leaves
        which = leaves.meeting(low, high)
        if (
            len(which) < SETTINGS.wanted
            and len(leaves.low) < SETTINGS.growth * self._most
            and self._split(which[np.argsort(-leaves.gap[which])][: SETTINGS.at_once])
        ):
            return self.leaves.meeting(low, high)
        return which

    def _split(self, some: np.ndarray) -> bool:
        """Split leaves that are not yet close; whether there was one."""
        leaves = self.leaves
        some = some[leaves.gap[some] > SETTINGS.close]
        low, high = leaves.low[some], leaves.high[some]
        slopes = np.maximum(abs(leaves.below[some]), abs(leaves.above[some]))[..., :-1]
        axis = (slopes.max(axis=1) * (high - low)).argmax(axis=1)
        each = np.arange(len(some))
        middle = 0.5 * (low + high)[each, axis]
        can = (low[each, axis] < middle) & (middle < high[each, axis])
        if not can.any():
            return False
        some, low, high, axis, middle = (a[can] for a in (some, low, high, axis, middle))
        each = np.arange(len(some))
        first_high, second_low = high.copy(), low.copy()
        first_high[each, axis], second_low[each, axis] = middle, middle
        new = _bounded(
            self.plain,
            np.concatenate([low, second_low]),
            np.concatenate([first_high, high]),
            np.concatenate([leaves.stored[some]] * 2),
            self._whole,
        )
        kept = np.ones(len(leaves.low), dtype=bool)
        kept[some] = False
        self._leaves = _Leaves(
            *(
                np.concatenate([getattr(leaves, f)[kept], getattr(new, f)])
                for f in _Leaves.__dataclass_fields__
            )
        )
        return True


def _bounded(
    plain: BoxPlanes,
    low: np.ndarray,
    high: np.ndarray,
    stored: np.ndarray | None,
    whole: np.ndarray | None,
) -> _Leaves:
    """Boxes as leaves, each with its best plane in the middle for each side."""
    found: list[Planes] = []
    for k in range(0, len(low), SETTINGS.batch):
        some = slice(k, k + SETTINGS.batch)
        known = None if stored is None else stored[some]
        found += plain.over_many(low[some], high[some], known)
    n = low.shape[1]
    sides = np.empty((2, len(low), plain.q, n + 1))
    middle = np.concatenate([0.5 * (low + high), np.ones((len(low), 1))], axis=1)
    for k, (planes, x) in enumerate(zip(found, middle)):
        for side, rows in zip(sides, (planes.below, -planes.above)):
            # Rule after rule, each with a plane of every output.
            by_rule = rows.reshape(-1, plain.q, n + 1)
            best = (by_rule @ x).argmax(axis=0)
            side[k] = by_rule[best, np.arange(plain.q)]
    kept = [p.stored for p in found if p.stored is not None]
    leaves = _Leaves(
        low,
        high,
        sides[0],
        sides[1],
        np.stack([p.low for p in found]),
        np.stack([p.high for p in found]),
        np.stack(kept),
        np.zeros(len(low)),
    )
    if whole is not None:
        leaves.gap = (_middle_gaps(leaves) / whole).max(axis=1)
    return leaves


def _middle_gaps(leaves: _Leaves) -> np.ndarray:
    """How far the planes of each leaf are apart in its middle, (N, q)."""
    x = 0.5 * (leaves.low + leaves.high)
    both = leaves.below + leaves.above
    return -((both[..., :-1] * x[:, None]).sum(axis=2) + both[..., -1])


def _first_basis(low: np.ndarray, high: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Corners of a box that span a simplex around a point, (k, n); k - 1 axes have width."""
    width = np.where(high > low, high - low, 1.0)
    order = np.argsort(-(x - low) / width, kind="stable")
    corners = [low]
    for j in order[(high > low)[order]]:
        corner = corners[-1].copy()
        corner[j] = high[j]
        corners.append(corner)
    return np.array(corners)


def _highest(
    parts: tuple[np.ndarray, np.ndarray],
    rows: np.ndarray,
    x: np.ndarray,
    corners: np.ndarray,
    enough: float,
    floor: float,
) -> np.ndarray | None:
    """The plane below leaves that is highest at ``x``, (n + 1,).

    Parameters
    ----------
    parts : (centers, radii)
        Of the leaves, (N, n) arrays.
    rows : (N, n + 1) array
        A plane for each leaf.
    x : (n,) array
    corners : (k, n) array
        A simplex around ``x`` to begin with.
    enough : float
        How far the plane may be from the highest, at ``x``.
    floor : float
        A plane that is not above this at ``x`` is of no use.

    Returns
    -------
    row : (n + 1,) array or None
        None where no plane is of use.
    """
    center, radius = parts
    slopes, consts = np.ascontiguousarray(rows[:, :-1]), rows[:, -1]
    n = len(x)
    one = np.ones(n)
    free = np.flatnonzero(corners[0] < corners[-1])
    basis = np.concatenate([corners[:, free], np.ones((len(corners), 1))], axis=1)
    # The least plane of a leaf at each corner.
    away = (abs(corners[:, None] - center) > radius).any(axis=2)
    values = np.where(away, np.inf, corners @ slopes.T + consts).min(axis=1)
    point = np.append(x[free], 1.0)
    inverse = np.linalg.inv(basis)
    best, height, slope = np.zeros(n), -np.inf, np.zeros(n)
    for _ in range(SETTINGS.steps):
        plane = inverse @ values
        slope[free] = plane[:-1]
        apart = slopes - slope
        least = (apart * center - abs(apart) * radius) @ one + consts
        k = int(least.argmin())
        # How high the plane of the basis is at the point, and how far it must be lowered.
        top, below = float(plane @ point), min(float(least[k] - plane[-1]), 0.0)
        if top + below > height:
            best, height = slope.copy(), top + below
        if below >= -enough:
            break
        if top <= floor:
            return None
        corner = center[k] - np.copysign(radius[k], apart[k])
        column = np.append(corner[free], 1.0)
        have, change = point @ inverse, column @ inverse
        ratio = np.full(len(have), np.inf)
        np.divide(np.maximum(have, 0.0), change, out=ratio, where=change > 1e-12)
        leaving = int(ratio.argmin())
        if not np.isfinite(ratio[leaving]):
            break
        values[leaving] = slopes[k] @ corner + consts[k]
        # The inverse with one row of the basis exchanged.
        column = inverse[:, leaving] / change[leaving]
        change[leaving] -= 1.0
        inverse = inverse - np.multiply.outer(column, change)
    if height <= floor:
        return None
    apart, reach = slopes - best, abs(center) + radius
    least = (apart * center - abs(apart) * radius) @ one + consts
    size = ((abs(apart) + abs(slopes) + abs(best)) * reach) @ one + abs(consts)
    const = float((least - 8.0 * (n + 8.0) * EPS * size).min()) - TINY
    return np.append(best, const)
