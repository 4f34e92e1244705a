"""Networks as one constraint of SCIP: planes, propagation, branching on inputs.

A network is a function of a few variables of SCIP. Over the box that a node leaves its
inputs it lies between planes (:mod:`~pyomo_relu.bounds.planes`): these are rows that the
node's LP gets where its point breaks them, they bound outputs by inputs and inputs by
outputs, and where the LP's point still isn't on the graph, an input is split.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyscipopt import SCIP_RESULT, Conshdlr

from pyomo_relu.bounds.planes import Asked, BoxPlanes, Planes, planes_over
from pyomo_relu.presolve.functions import NetworkFunction
from pyomo_relu.programs.scip import ScipModel
from pyomo_relu.solvers.scip.gains import Candidate, Gains
from pyomo_relu.solvers.scip.settings import HANDLER


class Constrained:
    """One network between variables of SCIP, with what is known over boxes.

    Parameters
    ----------
    function : NetworkFunction
    planes : BoxPlanes
        Of its network.
    variables : list
        SCIP's variables of all columns.
    """

    def __init__(
        self, function: NetworkFunction, planes: BoxPlanes, variables: Sequence[Any]
    ) -> None:
        self.name, self.planes = function.name, planes
        self.columns = function.inputs
        self.original_x = [variables[j] for j in function.inputs.tolist()]
        self.original_y = [variables[j] for j in function.outputs.tolist()]
        self.x, self.y = self.original_x, self.original_y
        self._known: dict[bytes, Planes] = {}
        self._last: tuple[np.ndarray, np.ndarray, Planes] | None = None
        #: Bounds of inputs and outputs at which propagation had nothing more to say.
        self.settled = b""

    def box(self) -> tuple[np.ndarray, np.ndarray]:
        """The inputs' bounds at the present node, within those of the root."""
        low = np.array([v.getLbLocal() for v in self.x])
        high = np.array([v.getUbLocal() for v in self.x])
        low = np.minimum(np.maximum(low, self.planes.low), self.planes.high)
        return low, np.minimum(np.maximum(high, low), self.planes.high)

    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """The outputs' bounds at the present node."""
        low = np.array([v.getLbLocal() for v in self.y])
        return low, np.array([v.getUbLocal() for v in self.y])

    def known(self, low: np.ndarray, high: np.ndarray) -> Planes | Asked:
        """The planes over a box, or what is to be asked for them.

        Bounds of neurons come from the latest box, where that is around this one.
        """
        found = self._known.get(low.tobytes() + high.tobytes())
        if found is not None:
            self._last = low, high, found
            return found
        stored = None
        if self._last is not None:
            a, b, last = self._last
            if (a <= low).all() and (high <= b).all():
                stored = last.stored
        return Asked(self.planes, low, high, stored)

    def learn(self, low: np.ndarray, high: np.ndarray, planes: Planes) -> None:
        """Remember the planes over a box."""
        if len(self._known) >= HANDLER.remembered:
            self._known.clear()
        self._known[low.tobytes() + high.tobytes()] = planes
        self._last = low, high, planes

    def over(self, low: np.ndarray, high: np.ndarray) -> Planes:
        """The planes over a box."""
        found = self.known(low, high)
        if isinstance(found, Asked):
            found = planes_over([found])[0]
            self.learn(low, high, found)
        return found

    def at_lp(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and outputs at the LP's point."""
        x = np.array([v.getLPSol() for v in self.x])
        return x, np.array([v.getLPSol() for v in self.y])

    def off(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """How far outputs are from the network's, relative to it from 1 on, (q,)."""
        found = self.planes.evaluate(x)
        return abs(found - y) / np.maximum(1.0, abs(found))


@dataclass
class Counts:
    """What the handler did."""

    planes: int = 0
    branchings: int = 0
    cutoffs: int = 0
    #: SCIP's bound, in the sense of the objective, when a node was first left open, since
    #: its box can't be split; None where none was.
    open: float | None = None


class NetworkHandler(Conshdlr):
    """All networks of a program.

    Parameters
    ----------
    model : ScipModel
    constrained : list of Constrained
    """

    def __init__(self, model: ScipModel, constrained: Sequence[Constrained]) -> None:
        self.program = model
        self.constrained = list(constrained)
        self.counts = Counts()
        self._node, self._rounds = -1, 0
        self._gains = Gains()
        failed = {"result": SCIP_RESULT.DIDNOTFIND}
        wrong = {"result": SCIP_RESULT.INFEASIBLE}
        for name, otherwise in (
            ("conslock", None),
            ("consinitsol", None),
            ("consprop", {"result": SCIP_RESULT.DIDNOTFIND}),
            ("conssepalp", failed),
            ("consenfolp", wrong),
            ("consenfops", wrong),
            ("conscheck", wrong),
        ):
            # SCIP looks callbacks up on the object: an instance has its own, guarded ones.
            setattr(self, name, model.guarded(otherwise)(getattr(self, f"_{name}")))

    def include(self) -> None:
        """Put the handler and its one constraint into the program."""
        scip = self.program.scip
        scip.includeConshdlr(
            self,
            "networks",
            "outputs of networks",
            sepapriority=10,
            enfopriority=-50,
            chckpriority=-1_000_000,
            sepafreq=1,
            propfreq=1,
            eagerfreq=-1,
            maxprerounds=0,
            needscons=True,
        )
        # A constraint that SCIP knows nothing of keeps it from taking the rows for all.
        scip.addPyCons(scip.createCons(self, "networks"))
        for one in self.constrained:
            for v in (*one.original_x, *one.original_y):
                scip.markDoNotMultaggrVar(v)

    # ----------------------------------------------------------------------- the model
    def _conslock(
        self, constraint: Any, locktype: Any, nlockspos: int, nlocksneg: int
    ) -> None:
        both = nlockspos + nlocksneg
        for one in self.constrained:
            for v in (*one.original_x, *one.original_y):
                self.program.scip.addVarLocksType(v, locktype, both, both)

    def _consinitsol(self, constraints: Any) -> None:
        transformed = self.program.scip.getTransformedVar
        for one in self.constrained:
            one.x = [transformed(v) for v in one.original_x]
            one.y = [transformed(v) for v in one.original_y]

    # ------------------------------------------------------------------------- points
    def _conscheck(self, constraints: Any, solution: Any, *what: Any) -> dict:
        get = self.program.scip.getSolVal
        for one in self.constrained:
            x = np.array([get(solution, v) for v in one.original_x])
            y = np.array([get(solution, v) for v in one.original_y])
            if (one.off(x, y) > HANDLER.tolerance).any():
                return {"result": SCIP_RESULT.INFEASIBLE}
        return {"result": SCIP_RESULT.FEASIBLE}

    def _consenfolp(self, constraints: Any, useful: int, infeasible: bool) -> dict:
        self._rounds = 0 if self._enter() else self._rounds + 1
        wrong = []
        for one in self.constrained:
            x, y = one.at_lp()
            off = one.off(x, y)
            if (off > HANDLER.tolerance).any():
                wrong.append((one, x, y, off))
        if not wrong:
            return {"result": SCIP_RESULT.FEASIBLE}
        if self._rounds < HANDLER.rounds:
            cuts = self._separate([(one, x, y) for one, x, y, _ in wrong], HANDLER.worth)
            if cuts:
                return {"result": SCIP_RESULT.CUTOFF if cuts < 0 else SCIP_RESULT.SEPARATED}
        return {"result": self._branch(wrong, float(self.program.scip.getLPObjVal()))}

    def _consenfops(
        self, constraints: Any, useful: int, infeasible: bool, objinfeasible: bool
    ) -> dict:
        get = self.program.scip.getSolVal
        wrong = []
        for one in self.constrained:
            x = np.array([get(None, v) for v in one.x])
            y = np.array([get(None, v) for v in one.y])
            off = one.off(x, y)
            if (off > HANDLER.tolerance).any():
                wrong.append((one, x, y, off))
        if not wrong:
            return {"result": SCIP_RESULT.FEASIBLE}
        return {"result": self._branch(wrong)}

    def _branch(
        self,
        wrong: Sequence[tuple[Constrained, np.ndarray, np.ndarray, np.ndarray]],
        bound: float | None = None,
    ) -> Any:
        """Split the input that is worth most to the networks that are off.

        ``bound`` is the LP's, if there is one.
        """
        if bound is not None:
            self._gains.learn(self._node, bound)
        found: dict[int, Candidate] = {}
        for one, x, _, off in wrong:
            low, high = one.box()
            width = high - low
            size = np.maximum(1.0, np.maximum(abs(low), abs(high)))
            can = width > HANDLER.narrow * size
            if not can.any():
                continue
            planes = one.over(low, high)
            score = one.planes.branching(low, high, planes, x)
            top = score[can].max()
            score = score + max(top, 1e-300) * HANDLER.by_width * width / width.max()
            spread = max(float((planes.high - planes.low).max()), 1e-300)
            weight = float(off.max()) / spread
            for j in np.flatnonzero(can).tolist():
                column = int(one.columns[j])
                at = _split(one.x[j], low[j], high[j], x[j])
                candidate = found.setdefault(column, Candidate(column, one.x[j], at))
                candidate.score += weight * float(score[j])
        if not found:
            return self._give_up()
        best = self._gains.best(found.values())
        self.counts.branchings += 1
        children = self.program.scip.branchVarVal(best.variable, best.at)
        if bound is not None:
            numbers = [None if one is None else int(one.getNumber()) for one in children]
            self._gains.expect(best, bound, numbers[0], numbers[-1])
        return SCIP_RESULT.BRANCHED

    def _give_up(self) -> Any:
        """A box that can't be split: on it tolerances leave the answer open."""
        scip = self.program.scip
        # What is left is decided by planes that nothing makes tighter: they may be rows.
        cuts = self._separate([(one, *one.at_lp()) for one in self.constrained], 0.0)
        if cuts:
            return SCIP_RESULT.CUTOFF if cuts < 0 else SCIP_RESULT.SEPARATED
        if self.counts.open is None:
            self.counts.open = float(scip.getDualbound())
        self.counts.cutoffs += 1
        return SCIP_RESULT.CUTOFF

    def _enter(self) -> bool:
        """Whether the present node is another one than before."""
        node = self.program.scip.getCurrentNode()
        number = -1 if node is None else int(node.getNumber())
        new, self._node = number != self._node, number
        return new

    # ------------------------------------------------------------------------- planes
    def _conssepalp(self, constraints: Any, useful: int) -> dict:
        if self._enter():
            self._rounds = 0
        most = HANDLER.rounds if self.program.scip.getDepth() else HANDLER.root_rounds
        if self._rounds >= most:
            return {"result": SCIP_RESULT.DIDNOTFIND}
        self._rounds += 1
        points = [(one, *one.at_lp()) for one in self.constrained]
        cuts = self._separate(points, HANDLER.worth)
        if cuts < 0:
            return {"result": SCIP_RESULT.CUTOFF}
        return {"result": SCIP_RESULT.SEPARATED if cuts else SCIP_RESULT.DIDNOTFIND}

    def _separate(
        self, points: Sequence[tuple[Constrained, np.ndarray, np.ndarray]], worth: float
    ) -> int:
        """Add the planes that points break; how many, -1 where the node is empty."""
        boxes = [(one, *one.box()) for one, _, _ in points]
        known = _known(boxes)
        # Of some networks there are planes that are tight where it matters.
        asked = {
            k: Asked(one.planes, low, high, planes.stored, x, y)
            for k, ((one, low, high), (_, x, y), planes) in enumerate(
                zip(boxes, points, known)
            )
            if planes.undecided
            and one.planes.pointed
            and (one.off(x, y) > HANDLER.least * HANDLER.tolerance).any()
        }
        for k, planes in zip(asked, planes_over(list(asked.values()))):
            known[k] = planes
        count = 0
        for box, (_, x, y), planes in zip(boxes, points, known):
            found = self._add_rows(box, x, y, planes, worth)
            if found < 0:
                return -1
            count += found
        self.counts.planes += count
        return count

    def _add_rows(
        self,
        box: tuple[Constrained, np.ndarray, np.ndarray],
        x: np.ndarray,
        y: np.ndarray,
        planes: Planes,
        worth: float,
    ) -> int:
        """Add the planes over a box that a point breaks, as :meth:`_separate` does."""
        one, low, high = box
        size = np.maximum(1.0, abs(y))
        limit = np.maximum(HANDLER.least * HANDLER.tolerance * size, 0.0)
        if planes.undecided:
            limit = np.maximum(limit, worth * (planes.high - planes.low))
        count = 0
        for rows, of, side in (
            (planes.below, planes.of_below, 1.0),
            (planes.above, planes.of_above, -1.0),
        ):
            broken = side * (rows[:, :-1] @ x + rows[:, -1] - y[of]) - limit[of]
            for k in np.flatnonzero(broken > 0).tolist():
                if self._add_row(one, rows[k], int(of[k]), side, low, high):
                    return -1
                count += 1
        return count

    def _add_row(
        self,
        one: Constrained,
        row: np.ndarray,
        output: int,
        side: float,
        low: np.ndarray,
        high: np.ndarray,
    ) -> bool:
        """Add ``side * (y - slopes @ x - constant) >= 0``; whether the node is empty."""
        scip = self.program.scip
        slopes, constant = row[:-1], float(row[-1])
        small = abs(slopes) <= HANDLER.tiny * max(1.0, float(abs(slopes).max()))
        if small.any():
            # Their least part, or their most where the plane is above.
            ends = np.minimum(slopes * low, slopes * high)
            if side < 0:
                ends = np.maximum(slopes * low, slopes * high)
            constant += float(ends[small].sum())
        cut = scip.createEmptyRowUnspec(
            "plane",
            lhs=constant if side > 0 else None,
            rhs=constant if side < 0 else None,
            local=scip.getDepth() > 0,
        )
        scip.cacheRowExtensions(cut)
        scip.addVarToRow(cut, one.y[output], 1.0)
        for v, a, tiny in zip(one.x, slopes.tolist(), small.tolist()):
            if not tiny:
                scip.addVarToRow(cut, v, -a)
        scip.flushRowExtensions(cut)
        empty = bool(scip.addCut(cut, forcecut=True))
        scip.releaseRow(cut)
        return empty

    # -------------------------------------------------------------------- propagation
    def _consprop(self, constraints: Any, useful: int, marked: int, timing: Any) -> dict:
        waiting = []
        for one in self.constrained:
            low, high = one.box()
            least, most = one.ends()
            mark = b"".join(a.tobytes() for a in (low, high, least, most))
            if mark != one.settled:
                waiting.append((one, mark, low, high, least, most))
        found = _known([(one, low, high) for one, _, low, high, _, _ in waiting])
        reduced = False
        for (one, mark, *ends), planes in zip(waiting, found):
            changed = self._propagate(one, planes, *ends)
            if changed is None:
                return {"result": SCIP_RESULT.CUTOFF}
            if not changed:
                one.settled = mark
            reduced |= changed
        result = SCIP_RESULT.REDUCEDDOM if reduced else SCIP_RESULT.DIDNOTFIND
        return {"result": result}

    def _propagate(
        self,
        one: Constrained,
        planes: Planes,
        low: np.ndarray,
        high: np.ndarray,
        least: np.ndarray,
        most: np.ndarray,
    ) -> bool | None:
        """Bound outputs by inputs, then inputs by outputs; None where a node is empty."""
        scip = self.program.scip
        size = np.maximum(1.0, np.maximum(abs(planes.low), abs(planes.high)))
        loose = HANDLER.loose * size
        below, above = planes.low - loose, planes.high + loose
        room = HANDLER.cuts * np.minimum(most - least, 1e20)
        done = _tighten(scip.tightenVarLb, one.y, below, below > least + room)
        more = _tighten(scip.tightenVarUb, one.y, above, above < most - room)
        if done is None or more is None:
            return None
        reduced = done or more
        new = _inputs(planes, low, high, np.maximum(least, below), np.minimum(most, above))
        if new is None:
            return None
        room = HANDLER.cuts * (high - low)
        done = _tighten(scip.tightenVarLb, one.x, new[0], new[0] > low + room)
        more = _tighten(scip.tightenVarUb, one.x, new[1], new[1] < high - room)
        if done is None or more is None:
            return None
        return reduced or done or more


def _known(
    boxes: Sequence[tuple[Constrained, np.ndarray, np.ndarray]],
) -> list[Planes]:
    """The planes over boxes; all that are new are found at once."""
    found = [one.known(low, high) for one, low, high in boxes]
    new = iter(planes_over([asked for asked in found if isinstance(asked, Asked)]))
    planes = []
    for (one, low, high), known in zip(boxes, found):
        if isinstance(known, Asked):
            known = next(new)
            one.learn(low, high, known)
        planes.append(known)
    return planes


def _tighten(
    change: Any, variables: Sequence[Any], bounds: np.ndarray, where: np.ndarray
) -> bool | None:
    """Tighten some bounds; whether SCIP did, None where that leaves nothing."""
    reduced = False
    for k in np.flatnonzero(where).tolist():
        empty, done = change(variables[k], float(bounds[k]))
        if empty:
            return None
        reduced |= done
    return reduced


def _split(v: Any, low: float, high: float, x: float) -> float:
    """Where an input is cut; between two integers, if it is one."""
    width = high - low
    at = HANDLER.middle * 0.5 * (low + high) + (1.0 - HANDLER.middle) * x
    at = min(max(at, low + HANDLER.inner * width), high - HANDLER.inner * width)
    if v.isIntegral():
        return min(max(math.floor(at), math.ceil(low)), math.floor(high) - 1.0) + 0.5
    return at


def _inputs(
    planes: Planes,
    low: np.ndarray,
    high: np.ndarray,
    least: np.ndarray,
    most: np.ndarray,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Bounds of inputs that outputs within bounds leave; None where there are none.

    Each plane says ``a @ x <= r``: below, with the most that the output may be; above,
    turned around, with the least. So ``a_j x_j <= r - sum over others of their least``.
    """
    a = np.concatenate([planes.below[:, :-1], -planes.above[:, :-1]])
    r = np.concatenate(
        [
            most[planes.of_below] - planes.below[:, -1],
            planes.above[:, -1] - least[planes.of_above],
        ]
    )
    known = np.isfinite(r)
    a, r = a[known], r[known]
    parts = np.minimum(a * low, a * high)
    total = parts.sum(axis=1)
    size = np.maximum(1.0, abs(parts).sum(axis=1) + abs(r))
    rest = r - total + HANDLER.loose * size
    if (rest < -HANDLER.tolerance * size).any():
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        end = (np.maximum(rest, 0.0)[:, None] + parts) / a
    up = np.where(a > HANDLER.tiny, end, np.inf).min(axis=0, initial=np.inf)
    down = np.where(a < -HANDLER.tiny, end, -np.inf).max(axis=0, initial=-np.inf)
    return np.maximum(low, down), np.minimum(high, up)
