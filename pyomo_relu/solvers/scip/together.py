"""All networks of a program between arrays of bounds and of values: no solver here.

A node of the tree asks all networks the same things: what they make of bounds, which of
their planes a point breaks, how far a point is from their graphs. A network alone is a few
dozen numbers, and NumPy's calls cost more than these, so all are asked at once. Planes are
rows ``slopes @ x + constant <= sign * y`` over as many inputs as the largest network has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pyomo_relu.bounds.planes import Asked, BoxPlanes, Planes, planes_over, tighter_planes
from pyomo_relu.bounds.planes.chain import ChainPlanes
from pyomo_relu.presolve.functions import NetworkFunction
from pyomo_relu.solvers.scip.settings import HANDLER


@dataclass(frozen=True)
class Held:
    """What is known of one network over one box.

    Attributes
    ----------
    slopes : (R, width) array
    constant, sign : (R,) arrays
    output : (R,) int array
        Among the network's own.
    y : (R,) int array
        The same among all variables.
    planes : Planes
    low, high : (width,) arrays
        The box.
    """

    slopes: np.ndarray
    constant: np.ndarray
    sign: np.ndarray
    output: np.ndarray
    y: np.ndarray
    planes: Planes
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Rows:
    """The planes of some networks, one after another.

    Attributes
    ----------
    which : (F,) int array
        The networks.
    starts : (F,) int array
        The first row of each.
    of : (R,) int array
        The network of each row, as its position in ``which``.
    x_low, x_high : (F, width) arrays
        The boxes.
    y_low, y_high : (Y,) arrays
        Bounds of all outputs of these networks.
    y_all : (Y,) int array
        Which variables these are.
    limits : (R,) array
        The range of each row's output, 0 where the network is affine.
    """

    which: np.ndarray
    starts: np.ndarray
    of: np.ndarray
    slopes: np.ndarray
    constant: np.ndarray
    sign: np.ndarray
    y: np.ndarray
    x_low: np.ndarray
    x_high: np.ndarray
    y_low: np.ndarray
    y_high: np.ndarray
    y_all: np.ndarray
    limits: np.ndarray


class Together:
    """Networks over some columns of a program.

    Parameters
    ----------
    functions : sequence of NetworkFunction
    planes : sequence of BoxPlanes

    Attributes
    ----------
    columns : (V,) int array
        The columns that networks read or write; *variables* are positions in here.
    x : (K, width) int array
        The variables that each network reads; V, a variable that is 0, where it reads fewer.
    y : list of (q,) int arrays
    """

    def __init__(
        self, functions: Sequence[NetworkFunction], planes: Sequence[BoxPlanes]
    ) -> None:
        self.functions, self.planes = list(functions), list(planes)
        parts = [np.concatenate([f.inputs, f.outputs]) for f in functions]
        none = np.zeros(0, dtype=int)
        self.columns = np.unique(np.concatenate([none, *parts]))
        self.count = len(self.columns)
        self.width = max((len(f.inputs) for f in functions), default=1)
        self.x = np.full((len(functions), self.width), self.count)
        self.y: list[np.ndarray] = []
        self._low = np.zeros((len(functions), self.width))
        self._high = np.zeros((len(functions), self.width))
        for k, (f, box) in enumerate(zip(functions, planes)):
            n = len(f.inputs)
            self.x[k, :n] = np.searchsorted(self.columns, f.inputs)
            self.y.append(np.searchsorted(self.columns, f.outputs))
            self._low[k, :n], self._high[k, :n] = box.low, box.high
        self.all_y = np.concatenate([none, *self.y])
        self.ends_y = np.cumsum([0, *(len(y) for y in self.y)])
        self._memory: list[dict[bytes, Held]] = [{} for _ in functions]
        self._recent: list[list[Held]] = [[] for _ in functions]
        #: The latest box of each network; an empty one before there is any.
        self._last_low = np.full((len(functions), self.width), np.inf)
        self._last_high = -self._last_low
        self._affine = np.zeros(len(functions), dtype=bool)
        self._pointed = np.array([box.pointed for box in planes], dtype=bool)
        self._joined: tuple[tuple[int, ...], Rows] | None = None
        self._batches = list(_batches(planes))

    # -------------------------------------------------------------------------- planes
    def held(self, which: np.ndarray, low: np.ndarray, high: np.ndarray) -> list[Held]:
        """What is known of some networks over the boxes that bounds (V + 1,) leave."""
        x = self.x[which]
        lows = np.minimum(np.maximum(low[x], self._low[which]), self._high[which])
        highs = np.minimum(np.maximum(high[x], lows), self._high[which])
        near = self._near(which, lows, highs).tolist()
        every: list[Held | None] = []
        asked: list[Asked] = []
        for i, k in enumerate(which.tolist()):
            known: Held | None = self._recent[k][-1] if near[i] else None
            if known is None:
                a, b = lows[i], highs[i]
                known = self._memory[k].get(a.tobytes() + b.tobytes())
                if known is None:
                    n, box = self.planes[k].n, self.planes[k]
                    asked.append(Asked(box, a[:n], b[:n], self._inherited(k, a, b)))
                else:
                    self._note(k, known)
            every.append(known)
        new = iter(planes_over(asked) if asked else ())
        for i in [i for i, known in enumerate(every) if known is None]:
            every[i] = self._hold(int(which[i]), next(new), lows[i], highs[i])
        return [known for known in every if known is not None]

    def _near(self, which: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Which boxes are inside of their network's latest one, and hardly smaller.

        Where the network is affine over a box, nothing more can be known inside.
        """
        a, b = self._last_low[which], self._last_high[which]
        inside = ((a <= low) & (high <= b)).all(axis=1)
        width = b - a
        hardly = ((width - (high - low)) <= HANDLER.reuse * width).all(axis=1)
        return inside & (hardly | self._affine[which])

    def _note(self, k: int, held: Held) -> None:
        """Remember which box of a network is the latest."""
        self._last_low[k], self._last_high[k] = held.low, held.high
        self._affine[k] = not held.planes.undecided
        recent = self._recent[k]
        recent.append(held)
        del recent[: -HANDLER.recent]

    def _inherited(self, k: int, low: np.ndarray, high: np.ndarray) -> np.ndarray | None:
        """Bounds of neurons from the latest box around this one."""
        for one in reversed(self._recent[k]):
            if (one.low <= low).all() and (high <= one.high).all():
                return one.planes.stored
        return None

    def _hold(self, k: int, planes: Planes, low: np.ndarray, high: np.ndarray) -> Held:
        held, memory = self._packed(k, planes, low, high), self._memory[k]
        if len(memory) >= HANDLER.remembered:
            memory.clear()
        memory[low.tobytes() + high.tobytes()] = held
        self._note(k, held)
        return held

    def _packed(self, k: int, planes: Planes, low: np.ndarray, high: np.ndarray) -> Held:
        below, above = len(planes.below), len(planes.above)
        n, total = self.planes[k].n, below + above
        slopes = np.zeros((total, self.width))
        slopes[:below, :n], slopes[below:, :n] = planes.below[:, :-1], -planes.above[:, :-1]
        constant = np.concatenate([planes.below[:, -1], -planes.above[:, -1]])
        sign = np.ones(total)
        sign[below:] = -1.0
        output = np.concatenate([planes.of_below, planes.of_above])
        y = self.y[k][output]
        return Held(slopes, constant, sign, output, y, planes, low, high)

    def rows(self, which: np.ndarray, low: np.ndarray, high: np.ndarray) -> Rows:
        """The planes of some networks over the boxes that bounds (V + 1,) leave."""
        held = self.held(which, low, high)
        key = tuple(map(id, held))
        if self._joined is None or self._joined[0] != key:
            self._joined = key, self._join(which, held)
        return self._joined[1]

    def rows_at(
        self,
        which: np.ndarray,
        low: np.ndarray,
        high: np.ndarray,
        z: np.ndarray,
        worth: float,
    ) -> Rows:
        """As :meth:`rows`; where networks have such, planes that are tight at a point.

        ``z`` are the values (V + 1,) of all variables, ``worth`` as in :meth:`broken`.
        """
        pointed = self._pointed[which]
        if pointed.any():
            off = self.off(z)[which] > HANDLER.least * HANDLER.tolerance
            pointed &= off
        if not pointed.any():
            return self.rows(which, low, high)
        held = self.held(which, low, high)
        wanted: list[tuple[int, Asked]] = []
        for i in np.flatnonzero(pointed).tolist():
            known, k = held[i], int(which[i])
            if not known.planes.undecided:
                continue
            box, x, y = self.planes[k], self.x[k], z[self.y[k]]
            a = np.clip(low[x], known.low, known.high)[: box.n]
            b = np.maximum(a, np.clip(high[x], known.low, known.high)[: box.n])
            at = np.clip(z[x][: box.n], a, b)
            # No plane goes beyond the network, and what isn't worth a row is not wanted.
            away = box.evaluate(at) - y
            limit = np.maximum(_least(y), worth * (known.planes.high - known.planes.low))
            if (abs(away) > limit).any():
                target = y + np.clip(away, -limit, limit)
                wanted.append((i, Asked(box, a, b, known.planes.stored, at, target)))
        asked = [one for _, one in wanted]
        tight = tighter_planes(asked, [held[i].planes for i, _ in wanted])
        for (i, _), planes in zip(wanted, tight):
            held[i] = self._packed(int(which[i]), planes, held[i].low, held[i].high)
        return self._join(which, held)

    def _join(self, which: np.ndarray, held: Sequence[Held]) -> Rows:
        counts = [len(h.sign) for h in held]
        starts = np.cumsum([0, *counts[:-1]])
        spread = [
            (h.planes.high - h.planes.low if h.planes.undecided else 0 * h.planes.low)[
                h.output
            ]
            for h in held
        ]
        return Rows(
            which,
            starts,
            np.repeat(np.arange(len(held)), counts),
            np.concatenate([h.slopes for h in held]),
            np.concatenate([h.constant for h in held]),
            np.concatenate([h.sign for h in held]),
            np.concatenate([h.y for h in held]),
            np.stack([h.low for h in held]),
            np.stack([h.high for h in held]),
            np.concatenate([h.planes.low for h in held]),
            np.concatenate([h.planes.high for h in held]),
            np.concatenate([self.y[k] for k in which.tolist()]),
            np.concatenate(spread),
        )

    # ---------------------------------------------------------------------- propagation
    def touched(self, changed: np.ndarray) -> np.ndarray:
        """The networks that one of the ``changed`` variables (V + 1,) belongs to."""
        found = changed[self.x].any(axis=1)
        if len(self.all_y):
            found |= np.logical_or.reduceat(changed[self.all_y], self.ends_y[:-1])
        return np.flatnonzero(found)

    def propagate(
        self, which: np.ndarray, low: np.ndarray, high: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Bounds (V + 1,) that some networks leave of bounds; None where nothing is left.

        A plane says ``slopes @ x <= r`` with the most that ``sign * y - constant`` may
        be, so ``a_j x_j <= r - the least of all others``.
        """
        rows = self.rows(which, low, high)
        low, high = low.copy(), high.copy()
        loose = HANDLER.loose * np.maximum(1.0, np.maximum(-rows.y_low, rows.y_high))
        np.maximum.at(low, rows.y_all, rows.y_low - loose)
        np.minimum.at(high, rows.y_all, rows.y_high + loose)
        a, x = rows.slopes, self.x[which]
        x_low = np.minimum(np.maximum(low[x], rows.x_low), rows.x_high)
        x_high = np.minimum(np.maximum(high[x], x_low), rows.x_high)[rows.of]
        x_low = x_low[rows.of]
        parts = np.minimum(a * x_low, a * x_high)
        least = parts.sum(axis=1)
        # The box may be smaller than that of the planes, which then say more.
        end = rows.sign * (
            least + rows.constant - HANDLER.loose * np.maximum(1.0, abs(least))
        )
        below = rows.sign > 0
        np.maximum.at(low, rows.y[below], end[below])
        np.minimum.at(high, rows.y[~below], end[~below])
        r = np.where(rows.sign > 0, high[rows.y], -low[rows.y]) - rows.constant
        size = np.maximum(1.0, abs(parts).sum(axis=1) + abs(r))
        rest = r - least + HANDLER.loose * size
        if (rest < -HANDLER.tolerance * size).any():
            return None
        with np.errstate(divide="ignore", invalid="ignore"):
            ends = (np.maximum(rest, 0.0)[:, None] + parts) / a
        up = np.where(a > HANDLER.tiny, ends, np.inf)
        down = np.where(a < -HANDLER.tiny, ends, -np.inf)
        np.minimum.at(high, x, np.minimum.reduceat(up, rows.starts))
        np.maximum.at(low, x, np.maximum.reduceat(down, rows.starts))
        return low, high

    # ---------------------------------------------------------------------------- points
    def broken(self, rows: Rows, z: np.ndarray, worth: float) -> np.ndarray:
        """Which rows a point (V + 1,) breaks by enough to be worth it."""
        x = z[self.x[rows.which]]
        value = np.einsum("rj,rj->r", rows.slopes, x[rows.of]) + rows.constant
        y = z[rows.y]
        limit = np.maximum(_least(y), worth * rows.limits)
        return np.flatnonzero(value - rows.sign * y > limit)

    def off(self, z: np.ndarray, ranges: np.ndarray | None = None) -> np.ndarray:
        """How far a point (V + 1,) is from each network's graph, (K,).

        Of the output that is off most, relative to it from 1 on, or to the ``ranges`` of
        all outputs (Y,).
        """
        found = np.empty(len(self.all_y))
        for places, weights in self._batches:
            x = z[self.x[places]]
            if weights is None:
                (k,) = places.tolist()
                own = slice(self.ends_y[k], self.ends_y[k + 1])
                found[own] = self.planes[k].evaluate(x[0, : self.planes[k].n])
                continue
            y = x[:, : weights[0][0].shape[2], None]
            for layer, (w, b) in enumerate(weights):
                y = w @ (np.maximum(y, 0.0) if layer else y) + b
            at = self.ends_y[places][:, None] + np.arange(y.shape[1])
            found[at] = y[..., 0]
        size = np.maximum(1.0, abs(found)) if ranges is None else np.maximum(ranges, 1e-300)
        away = abs(found - z[self.all_y]) / size
        return np.maximum.reduceat(away, self.ends_y[:-1])


def _least(y: np.ndarray) -> np.ndarray:
    """What values of outputs must break a plane by for it to be worth a row at all."""
    return HANDLER.least * HANDLER.tolerance * np.maximum(1.0, abs(y))


#: Networks of one shape, and for each layer weights (B, m, p) and bias (B, m, 1).
Batch = tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]] | None]


def _batches(planes: Sequence[BoxPlanes]) -> Iterator[Batch]:
    """Chains of one stack together, every other network by itself."""
    stacks: dict[int, list[int]] = {}
    # A chain with a cover has the values of the chain.
    planes = [getattr(one, "plain", one) for one in planes]
    for k, one in enumerate(planes):
        if isinstance(one, ChainPlanes):
            stacks.setdefault(id(one.stack), []).append(k)
        else:
            yield np.array([k]), None
    for places in stacks.values():
        chains = [
            one.stack.chains[one.position]
            for one in (planes[k] for k in places)
            if isinstance(one, ChainPlanes)
        ]
        weights = [
            (np.stack([w for w, _ in own]), np.stack([b for _, b in own])[..., None])
            for own in zip(*chains)
        ]
        yield np.array(places), weights
