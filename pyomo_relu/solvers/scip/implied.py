r"""What choices say of other columns at a node, through rows and networks.

A unit that is switched on has the pressure of its header, and at this pressure its network gives
so much; switched off it gives nothing. A product has one price of a few, and at each it sells so
much at most. A row with a big M says nothing of that as long as binaries are fractions. With each
member :math:`z_k` of a choice, binaries of which at most one is 1, put into the rows, and into the
planes that networks have over the node's box, bounds of all other columns follow, and

.. math::
    t \;\le\; \sum_k u_k z_k + u_0 \Bigl(1 - \sum_k z_k\Bigr)

holds at the node, the same for least values. Those that the LP's point breaks become rows. SCIP
knows such implications of single binaries, of the rows alone and of the whole tree; those of
networks get stronger with each split of an input.

Source: Savelsbergh, ORSA J. Computing 6, 1994 (probing and implied bounds).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyscipopt import SCIP_RESULT, Sepa

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.presolve.values import Choice, find_values
from pyomo_relu.programs.linear_program import Rows
from pyomo_relu.programs.scip import INFINITY, ScipModel
from pyomo_relu.solvers.scip.settings import HANDLER, IMPLIED
from pyomo_relu.solvers.scip.together import Together


class Propagation:
    """Rows that tighten many boxes at once.

    Parameters
    ----------
    rows : Rows
    """

    def __init__(self, rows: Rows) -> None:
        matrix = sp.csr_array(rows.matrix)
        matrix.eliminate_zeros()
        some = np.flatnonzero(np.diff(matrix.indptr))
        matrix = matrix[some]
        self.lower, self.upper = rows.lower[some], rows.upper[some]
        self.a = matrix.data[:, None]
        self.column, self.starts = matrix.indices, matrix.indptr[:-1]
        self.row = np.repeat(np.arange(len(some)), np.diff(matrix.indptr))
        self._order = np.argsort(self.column, kind="stable")
        columns = self.column[self._order]
        self._first = np.flatnonzero(np.diff(columns, prepend=-1))
        self._touched = columns[self._first]

    def tighten(self, low: np.ndarray, high: np.ndarray, rounds: int) -> np.ndarray:
        """Tighten boxes (m, N) in place; which of them may hold a point, (N,)."""
        possible = np.ones(low.shape[1], dtype=bool)
        a, row = self.a, self.row
        up = a > 0
        for _ in range(rounds):
            x_low, x_high = low[self.column], high[self.column]
            least = np.where(up, a * x_low, a * x_high)
            most = np.where(up, a * x_high, a * x_low)
            size = np.add.reduceat(np.maximum(abs(least), abs(most)), self.starts, axis=0)
            room = HANDLER.loose * (1.0 + size)
            with np.errstate(invalid="ignore"):
                left = (self.upper[:, None] + room - np.add.reduceat(least, self.starts))[
                    row
                ]
                over = (self.lower[:, None] - room - np.add.reduceat(most, self.starts))[
                    row
                ]
                ends = (left + least) / a, (over + most) / a
            # A row with an endless column says nothing, here not even of that column.
            above = np.where(np.isfinite(ends[0]), ends[0], np.where(up, np.inf, -np.inf))
            below = np.where(np.isfinite(ends[1]), ends[1], np.where(up, -np.inf, np.inf))
            highs, lows = np.where(up, above, below), np.where(up, below, above)
            own = self._touched
            high[own] = np.minimum(
                high[own], np.minimum.reduceat(highs[self._order], self._first)
            )
            low[own] = np.maximum(
                low[own], np.maximum.reduceat(lows[self._order], self._first)
            )
            scale = np.maximum(1.0, np.minimum(abs(low), abs(high)))
            scale[~np.isfinite(scale)] = 1.0
            possible &= ~(low > high + HANDLER.tolerance * scale).any(axis=0)
            crossed = low > high
            low[crossed] = high[crossed] = (0.5 * (low + high))[crossed]
        return possible


class ImpliedBounds(Sepa):
    """Bounds of columns by choices, as rows of a node.

    Parameters
    ----------
    model : ScipModel
    networks : Together
    """

    def __init__(self, model: ScipModel, networks: Together) -> None:
        self.program, self.networks, self.count = model, networks, 0
        p = model.program
        self.choices: list[Choice] = []
        if p.integer is not None and networks.functions:
            self.choices = find_values(p, p.lower, p.upper).choices
        self._chosen = np.zeros(len(p.lower), dtype=bool)
        for one in self.choices:
            self._chosen[one.columns] = True
        self._guarded = model.guarded({"result": SCIP_RESULT.DIDNOTRUN})(self._separate)

    def include(self) -> None:
        """Put the separator into the program, where there are choices and networks."""
        if self.choices:
            self.program.scip.includeSepa(
                self, "implied", "bounds by choices, through networks", priority=500,
                freq=1, maxbounddist=1.0,
            )  # fmt: skip

    def sepainitsol(self) -> None:
        """What SCIP calls when it begins."""
        transformed = self.program.scip.getTransformedVar
        self._variables = [transformed(v) for v in self.program.variables]

    def sepaexeclp(self) -> dict:
        """What SCIP calls after a node's LP."""
        return self._guarded()

    def _separate(self) -> dict:
        every = self._variables
        low = np.array([v.getLbLocal() for v in every])
        high = np.array([v.getUbLocal() for v in every])
        z = np.array([v.getLPSol() for v in every])
        away = np.minimum(z - low, high - z) > HANDLER.tolerance
        open_ = [one for one in self.choices if away[one.columns].any()]
        if not open_:
            return {"result": SCIP_RESULT.DIDNOTFIND}
        low[low <= -INFINITY], high[high >= INFINITY] = -np.inf, np.inf
        cases = [_cases(one, low, high) for one in open_]
        lows, highs = self._start(open_, cases, low, high)
        rows = self._rows(low, high)
        possible = Propagation(rows).tighten(lows, highs, IMPLIED.rounds)
        ends = np.cumsum([0, *(len(one) for one in cases)]).tolist()
        cuts: list[_Cut] = []
        fixed = False
        for own, a, b in zip(cases, ends, ends[1:]):
            can = possible[a:b]
            if not can.any():
                return {"result": SCIP_RESULT.CUTOFF}
            for k in own[~can].tolist():
                fixed |= k >= 0 and self._exclude(every[k])
            for sign, found in ((1.0, highs[:, a:b]), (-1.0, -lows[:, a:b])):
                # What is impossible says the same as the most of the others.
                most = found[:, can].max(axis=1)
                worth = np.where(can, found, most[:, None])
                cuts += self._broken(own, worth, sign, z, high - low)
        if fixed:
            return {"result": SCIP_RESULT.REDUCEDDOM}
        return self._add(cuts)

    def _exclude(self, v: Any) -> bool:
        """Fix a binary at 0; whether that is new."""
        return bool(self.program.scip.tightenVarUb(v, 0.0)[1])

    def _start(
        self,
        open_: list[Choice],
        cases: list[np.ndarray],
        low: np.ndarray,
        high: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Bounds (m, N) of each case of each choice."""
        count = sum(map(len, cases))
        lows, highs = (np.repeat(a[:, None], count, axis=1) for a in (low, high))
        at = 0
        for one, own in zip(open_, cases):
            for k in own.tolist():
                highs[one.columns, at] = 0.0
                if k >= 0:
                    lows[k, at] = highs[k, at] = 1.0
                at += 1
        return lows, highs

    def _rows(self, low: np.ndarray, high: np.ndarray) -> Rows:
        """The rows of the program, and the planes of networks over the node's box."""
        p, networks = self.program.program, self.networks
        bounds = networks.spread(low, 0.0), networks.spread(high, 1.0)
        planes = networks.rows(np.arange(len(networks.functions)), *bounds)
        v = len(networks.columns)
        of_x = networks.x[planes.which][planes.of]
        slopes = np.where(of_x < v, planes.slopes, 0.0)
        known = planes.y < v
        count = int(known.sum())
        rows = np.repeat(np.arange(count), slopes.shape[1])
        x = networks.columns[np.minimum(of_x[known], v - 1)]
        values = np.concatenate([slopes[known].ravel(), -planes.sign[known]])
        places = (
            np.concatenate([rows, np.arange(count)]),
            np.concatenate([x.ravel(), networks.columns[planes.y[known]]]),
        )
        matrix = sp.csr_array((values, places), shape=(count, len(low)))
        return Rows(
            sp.csr_array(sp.vstack([p.matrix, matrix], format="csr")),
            np.concatenate([p.row_lower, np.full(count, -np.inf)]),
            np.concatenate([p.row_upper, -planes.constant[known]]),
        )

    def _broken(
        self,
        cases: np.ndarray,
        worth: np.ndarray,
        sign: float,
        z: np.ndarray,
        width: np.ndarray,
    ) -> Iterator[_Cut]:
        """The bounds that a point breaks, of most (sign 1) or least values by each case."""
        free = ~self._chosen & (width > 0.0) & np.isfinite(width)
        columns = np.flatnonzero(free & np.isfinite(worth).all(axis=1))
        own = worth[columns]
        none = own[:, cases < 0].max(axis=1) if (cases < 0).any() else own.min(axis=1)
        members = cases[cases >= 0]
        more = own[:, cases >= 0] - none[:, None]
        off = (sign * z[columns] - none - more @ z[members]) / width[columns]
        for i in np.flatnonzero(off > IMPLIED.worth).tolist():
            yield _Cut(
                float(off[i]), int(columns[i]), sign, float(none[i]), members, more[i]
            )

    def _add(self, cuts: list[_Cut]) -> dict:
        """Add the best of some rows."""
        every, added = self._variables, 0
        count: dict[tuple[int, float], int] = {}
        for cut in sorted(cuts, key=lambda cut: -cut.off):
            key = cut.column, cut.sign
            if count.get(key, 0) >= IMPLIED.each or added >= IMPLIED.most:
                continue
            count[key] = count.get(key, 0) + 1
            room = HANDLER.loose * max(1.0, abs(cut.none), float(abs(cut.more).max()))
            terms = [(every[cut.column], -cut.sign)]
            terms += [
                (every[k], a) for k, a in zip(cut.members.tolist(), cut.more.tolist())
            ]
            if self.program.add_cut("implied", terms, -cut.none - room, self):
                return {"result": SCIP_RESULT.CUTOFF}
            added += 1
        self.count += added
        return {"result": SCIP_RESULT.SEPARATED if added else SCIP_RESULT.DIDNOTFIND}


@dataclass(frozen=True)
class _Cut:
    """``sign * t <= none + more @ z[members]``.

    Attributes
    ----------
    off : float
        By how much a point breaks it, as a share of the column's range.
    column : int
    sign, none : float
    members : (s,) int array
    more : (s,) array
    """

    off: float
    column: int
    sign: float
    none: float
    members: np.ndarray
    more: np.ndarray


def _cases(choice: Choice, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Which member is 1 in each case, -1 where none is; those that the node allows."""
    columns = choice.columns
    given = columns[low[columns] > 0.5]
    if len(given):
        return given[:1]
    some = columns[high[columns] > 0.5]
    return some if choice.exactly else np.append(some, -1)
