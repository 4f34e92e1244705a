"""All networks of a program between arrays of bounds and of values: no solver here.

A node of the tree asks all networks the same things: what they make of bounds, which of
their planes a point breaks, how far a point is from their graphs. A network alone is a few
dozen numbers, and NumPy's calls cost more than these, so all are asked at once. Planes are
rows ``slopes @ x + constant <= sign * y`` over as many inputs as the largest network has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pyomo_relu.bounds.planes import Asked, BoxPlanes, Planes, planes_over, tighter_planes
from pyomo_relu.bounds.planes.chain import ChainPlanes
from pyomo_relu.bounds.planes.sides import (
    chain_of,
    side_rows,
    undecided,
    with_sides,
    worth_of_sides,
)
from pyomo_relu.presolve.functions import NetworkFunction
from pyomo_relu.solvers.scip.held import Held, Rows, Wanted
from pyomo_relu.solvers.scip.settings import HANDLER


class Together:
    """Networks over some columns of a program.

    Parameters
    ----------
    functions : sequence of NetworkFunction
    planes : sequence of BoxPlanes

    Attributes
    ----------
    columns : (V,) int array
        The columns that networks read or write; *variables* are positions in here, then
        the sides of undecided neurons, network by network, whose bounds are within 0 and 1.
    n_sides : int
        Their number S.
    count : int
        V + S, and the place of one more variable that is 0.
    x : (K, width) int array
        The variables that each network reads; that which is 0 where it reads fewer.
    y : list of (q,) int arrays
    sides : (K, 2) int array
        Where the sides of each network begin and end.
    """

    def __init__(
        self,
        functions: Sequence[NetworkFunction],
        planes: Sequence[BoxPlanes],
        most_sides: int = HANDLER.most_sides,
    ) -> None:
        self.functions, self.planes = list(functions), list(planes)
        parts = [np.concatenate([f.inputs, f.outputs]) for f in functions]
        none = np.zeros(0, dtype=int)
        self.columns = np.unique(np.concatenate([none, *parts]))
        self._neurons = [
            # Of a network with few free inputs no side is ever branched on.
            undecided(box)
            if np.count_nonzero(box.low < box.high) > HANDLER.few_inputs
            else none
            for box in planes
        ]
        if sum(map(len, self._neurons)) > most_sides:
            self._neurons = [none for _ in planes]
        ends = len(self.columns) + np.cumsum([0, *map(len, self._neurons)])
        self.sides = np.stack([ends[:-1], ends[1:]], axis=1)
        self.count = int(ends[-1])
        self.n_sides = self.count - len(self.columns)
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
        every = np.arange(len(functions))
        #: Whose the inputs, outputs and sides are, and their bounds when they were propagated.
        self._whose = (
            np.repeat(every[:, None], self.width, axis=1),
            np.repeat(every, np.diff(self.ends_y)),
            np.repeat(every, np.diff(self.sides, axis=1).ravel()),
        )
        self._told: list[tuple[np.ndarray, np.ndarray]] | None = None

    def spread(self, values: np.ndarray, of_sides: float) -> np.ndarray:
        """Values (V + S + 1,) of all variables from those of the program's columns."""
        more = np.append(np.full(self.n_sides, of_sides), 0.0)
        return np.concatenate([values[self.columns], more])

    def forget(self) -> None:
        """Ask anew about every box: more is known of neurons than when it was asked about."""
        self._memory = [{} for _ in self.functions]
        self._recent = [[] for _ in self.functions]
        self._last_low[:], self._last_high[:] = np.inf, -np.inf
        self._told = None

    # -------------------------------------------------------------------------- planes
    def held(self, which: np.ndarray, low: np.ndarray, high: np.ndarray) -> list[Held]:
        """What is known of some networks over the boxes that bounds (V + 1,) leave."""
        x = self.x[which]
        lows = np.minimum(np.maximum(low[x], self._low[which]), self._high[which])
        highs = np.minimum(np.maximum(high[x], lows), self._high[which])
        near = self._near(which, lows, highs).tolist()
        given = (low > 0.0).astype(np.int8) - (high < 1.0)
        every: list[Held | None] = []
        asked: list[Wanted] = []
        for i, k in enumerate(which.tolist()):
            start, end = self.sides[k].tolist()
            sides = given[start:end]
            known: Held | None = self._recent[k][-1] if near[i] else None
            if known is None or not np.array_equal(known.sides, sides):
                known = self._memory[k].get(_key(lows[i], highs[i], sides))
                if known is None:
                    asked.append(self._wanted(k, lows[i], highs[i], sides))
                else:
                    self._note(k, known)
            every.append(known)
        new = iter(planes_over([one.asked for one in asked]) if asked else ())
        waiting = iter(asked)
        for i in [i for i, known in enumerate(every) if known is None]:
            every[i] = self._hold(next(waiting), next(new))
        return [known for known in every if known is not None]

    def _wanted(
        self, k: int, low: np.ndarray, high: np.ndarray, sides: np.ndarray
    ) -> Wanted:
        """What there is to ask of a network over a box, where some sides are given."""
        box, stored, empty = self.planes[k], self._inherited(k, low, high, sides), False
        chain = chain_of(box) if sides.any() else None
        if chain is not None:
            clipped = with_sides(chain, stored, self.all_sides(k, sides))
            empty = clipped is None
            stored = stored if empty else clipped
        return Wanted(
            k, Asked(box, low[: box.n], high[: box.n], stored), low, high, sides, empty
        )

    def all_sides(self, k: int, sides: np.ndarray) -> np.ndarray:
        """Sides of all hidden neurons of a chain, (h,), of those that may be given."""
        chain = chain_of(self.planes[k])
        found = np.zeros(0 if chain is None else chain.stack.stored.shape[2], dtype=int)
        found[self._neurons[k]] = sides
        return found

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

    def _inherited(
        self, k: int, low: np.ndarray, high: np.ndarray, sides: np.ndarray
    ) -> np.ndarray | None:
        """Bounds of neurons from the latest box around this one."""
        for one in reversed(self._recent[k]):
            if (
                (one.low <= low).all()
                and (high <= one.high).all()
                and ((one.sides == 0) | (one.sides == sides)).all()
            ):
                return one.planes.stored
        return None

    def _hold(self, one: Wanted, planes: Planes) -> Held:
        k, n, memory = one.k, self.planes[one.k].n, self._memory[one.k]
        rows, empty = np.zeros((0, n + 1)), one.empty
        chain = chain_of(self.planes[k]) if one.sides.any() and not empty else None
        if chain is not None and planes.stored is not None:
            sides = self.all_sides(k, one.sides)
            rows, empty = side_rows(chain, one.low[:n], one.high[:n], planes.stored, sides)
        held = self._packed(k, planes, one.low, one.high, one.sides, rows, empty)
        if len(memory) >= HANDLER.remembered:
            memory.clear()
        memory[_key(one.low, one.high, one.sides)] = held
        self._note(k, held)
        return held

    def _packed(
        self,
        k: int,
        planes: Planes,
        low: np.ndarray,
        high: np.ndarray,
        sides: np.ndarray,
        side_rows: np.ndarray,
        empty: bool,
    ) -> Held:
        n, below = self.planes[k].n, len(planes.below)
        rows = np.concatenate([planes.below, -planes.above, side_rows])
        slopes = np.zeros((len(rows), self.width))
        slopes[:, :n] = rows[:, :-1]
        sign = np.ones(len(rows))
        sign[below : len(rows) - len(side_rows)] = -1.0
        output = np.concatenate([planes.of_below, planes.of_above])
        spread = (planes.high - planes.low)[output]
        ranges = abs(side_rows[:, :-1]) @ (high - low)[:n]
        limit = (
            np.concatenate([spread, ranges]) if planes.undecided else np.zeros(len(rows))
        )
        y = np.concatenate([self.y[k][output], np.full(len(side_rows), self.count)])
        return Held(
            slopes, rows[:, -1], sign, limit, y, planes, low, high, sides, side_rows, empty
        )

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

        ``z`` are the values (V + 1,) of all variables, ``worth`` as in :meth:`broken`. Ask for
        networks only that are off there.
        """
        pointed = self._pointed[which]
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
            h = held[i]
            held[i] = self._packed(
                int(which[i]), planes, h.low, h.high, h.sides, h.side_rows, h.empty
            )
        return self._join(which, held)

    def _join(self, which: np.ndarray, held: Sequence[Held]) -> Rows:
        counts = [len(h.sign) for h in held]
        starts = np.cumsum([0, *counts[:-1]])
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
            np.concatenate([h.limit for h in held]),
            any(h.empty for h in held),
        )

    # ---------------------------------------------------------------------- propagation
    def due(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """The networks whose variables' bounds (V + S + 1,) aren't those of the last time.

        What a network itself made of them then is nothing new, nor is a change by less than
        propagation would make.
        """
        if self._told is None:
            return np.arange(len(self.functions))
        now = self._bounds_of_each(low, high)
        found = np.zeros(len(self.functions), dtype=bool)
        for at, (a, b), (c, d) in zip(self._whose, now, self._told):
            least = HANDLER.again * (d - c)
            found[at[((a != c) & ~(abs(a - c) <= least))]] = True
            found[at[((b != d) & ~(abs(b - d) <= least))]] = True
        return np.flatnonzero(found)

    def _bounds_of_each(
        self, low: np.ndarray, high: np.ndarray
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Bounds of inputs, outputs and sides of all networks."""
        sides = slice(len(self.columns), self.count)
        return [(low[i], high[i]) for i in (self.x, self.all_y, sides)]

    def propagate(
        self, which: np.ndarray, low: np.ndarray, high: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Bounds (V + 1,) that some networks leave of bounds; None where nothing is left.

        A plane says ``slopes @ x <= r`` with the most that ``sign * y - constant`` may
        be, so ``a_j x_j <= r - the least of all others``.
        """
        found = self._propagated(self.rows(which, low, high), which, low, high)
        if found is not None:
            self._tell(which, *found)
        return found

    def _tell(self, which: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
        """Note the bounds that some networks left."""
        now = self._bounds_of_each(low, high)
        if self._told is None or len(which) == len(self.functions):
            self._told = now
            return
        mine = np.zeros(len(self.functions), dtype=bool)
        mine[which] = True
        for at, new, old in zip(self._whose, now, self._told):
            for a, b in zip(new, old):
                b[mine[at]] = a[mine[at]]

    def _propagated(
        self, rows: Rows, which: np.ndarray, low: np.ndarray, high: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray] | None:
        if rows.empty:
            return None
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
        low[-1] = high[-1] = 0.0
        return low, high

    # ---------------------------------------------------------------------------- points
    def broken(self, rows: Rows, z: np.ndarray, worth: float) -> np.ndarray:
        """Which rows a point (V + 1,) breaks by enough to be worth it."""
        x = z[self.x[rows.which]]
        value = np.einsum("rj,rj->r", rows.slopes, x[rows.of]) + rows.constant
        y = z[rows.y]
        limit = np.maximum(_least(y), worth * rows.limits)
        return np.flatnonzero(value - rows.sign * y > limit)

    def worth_of_sides(self, k: int, held: Held, z: np.ndarray) -> np.ndarray:
        """How much of what a network's outputs are off is due to each neuron, (s,)."""
        chain, stored, neurons = (
            chain_of(self.planes[k]),
            held.planes.stored,
            self._neurons[k],
        )
        if chain is None or stored is None or not len(neurons):
            return np.zeros(len(neurons))
        n = chain.n
        at = np.clip(z[self.x[k, :n]], held.low[:n], held.high[:n])
        return worth_of_sides(chain, stored, at, z[self.y[k]])[neurons]

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


def _key(low: np.ndarray, high: np.ndarray, sides: np.ndarray) -> bytes:
    """What a box and sides are known by."""
    return low.tobytes() + high.tobytes() + sides.tobytes()


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
