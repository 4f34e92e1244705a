"""Networks as one constraint of SCIP: planes, propagation, branching on inputs.

A network is a function of a few variables of SCIP. Over the box that a node leaves its
inputs it lies between planes (:mod:`~pyomo_relu.bounds.planes`): these are rows that the
node's LP gets where its point breaks them, they bound outputs by inputs and inputs by
outputs, and where the LP's point still isn't on the graph, an input is split.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyscipopt import SCIP_RESULT, Conshdlr

from pyomo_relu.programs.scip import INFINITY, ScipModel
from pyomo_relu.solvers.scip.branching import Branching, split_point
from pyomo_relu.solvers.scip.end_game import EndGame
from pyomo_relu.solvers.scip.held import Rows
from pyomo_relu.solvers.scip.movable import Movable
from pyomo_relu.solvers.scip.narrowed import Narrowed
from pyomo_relu.solvers.scip.polytope import Polytope
from pyomo_relu.solvers.scip.settings import END_GAME, HANDLER
from pyomo_relu.solvers.scip.sides_beside import SidesBeside
from pyomo_relu.solvers.scip.terms import Terms
from pyomo_relu.solvers.scip.together import Together


@dataclass
class Counts:
    """What the handler did."""

    planes: int = 0
    branchings: int = 0
    #: Those of them that decided the side of a neuron.
    sides: int = 0
    cutoffs: int = 0
    #: Nodes whose LP's point became a solution by outputs that stood in nobody's way.
    moved: int = 0
    #: Nodes that small MIPs closed, and the least bound of these, as a cost.
    ended: int = 0
    least_ended: float = math.inf
    #: SCIP's bound, in the sense of the objective, when a node was first left open, since
    #: its box can't be split; None where none was.
    open: float | None = None


class NetworkHandler(Conshdlr):
    """All networks of a program.

    Parameters
    ----------
    model : ScipModel
    networks : Together
    terms : Terms, optional
        Nonlinear terms, where there are some.
    end : EndGame, optional
        Solves nodes with few undecided neurons.
    movable : Movable, optional
        Knows which networks that are off stand in nobody's way.
    beside : SidesBeside, optional
        A search of the whole problem that has turns between nodes.
    """

    def __init__(
        self,
        model: ScipModel,
        networks: Together,
        terms: Terms | None = None,
        end: EndGame | None = None,
        movable: Movable | None = None,
        beside: SidesBeside | None = None,
    ) -> None:
        self.program, self.networks = model, networks
        self.terms, self.end, self.beside = terms, end, beside
        self.movable = movable if movable is not None and movable.some else None
        #: Of all outputs, before the first node; only where there are terms.
        self._ranges: np.ndarray | None = None
        self.original = [model.variables[j] for j in networks.columns.tolist()]
        self.variables = self.original
        self._given, self._columns = self.original, self.original
        self._every = model.variables
        self.every = np.arange(len(networks.functions))
        self.counts = Counts()
        self._node, self._rounds = -1, 0
        #: Whether SCIP's presolve is over.
        self._begun = False
        #: Whether nothing is left to search.
        self._over = False
        self._branching = Branching(networks)
        self._narrowed = Narrowed(model.program, networks)
        self._polytope = Polytope(model.program, networks)
        nothing = {"result": SCIP_RESULT.DIDNOTFIND}
        wrong = {"result": SCIP_RESULT.INFEASIBLE}
        for name, otherwise in (
            ("conslock", None),
            ("consinitsol", None),
            ("consprop", nothing),
            ("conssepalp", nothing),
            ("consenfolp", wrong),
            ("consenfops", wrong),
            ("conscheck", wrong),
        ):
            # SCIP looks callbacks up on the object: an instance has its own, guarded ones.
            setattr(self, name, model.guarded(otherwise)(getattr(self, f"_{name}")))

    def include(self) -> None:
        """Put the handler and its one constraint into the program."""
        scip = self.program.scip
        # The side of a neuron is a column without a row: its bounds say what a node has
        # decided, 0 to a half for inactive, a half to 1 for active.
        self.original = self.original + [
            scip.addVar(f"side{i}", "C", lb=0.0, ub=1.0)
            for i in range(self.networks.n_sides)
        ]
        self.variables = self.original
        scip.includeConshdlr(
            self,
            "networks",
            "outputs of networks",
            sepapriority=10,
            # Before nonlinear terms, to say whose turn it is; after integers otherwise.
            enfopriority=-50 if self.terms is None else HANDLER.before_terms,
            chckpriority=-1_000_000,
            sepafreq=1,
            propfreq=1,
            eagerfreq=-1,
            maxprerounds=0,
            needscons=True,
        )
        # A constraint that SCIP knows nothing of keeps it from taking the rows for all.
        scip.addPyCons(scip.createCons(self, "networks"))
        for v in self.original:
            scip.markDoNotMultaggrVar(v)

    # ----------------------------------------------------------------------- the model
    def _conslock(
        self, constraint: Any, locktype: Any, nlockspos: int, nlocksneg: int
    ) -> None:
        both = nlockspos + nlocksneg
        for v in self.original:
            self.program.scip.addVarLocksType(v, locktype, both, both)

    def _consinitsol(self, constraints: Any) -> None:
        self._begun = True
        transformed = self.program.scip.getTransformedVar
        self.variables = [transformed(v) for v in self.original]
        self._columns = self.variables[: len(self.networks.columns)]
        self._every = [transformed(v) for v in self.program.variables]
        if self.terms is not None:
            self.terms.begin(self.program.scip)
            low, high = self._bounds()
            self._ranges = (high - low)[self.networks.all_y]

    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """The bounds of all variables at the present node, and of one that is 0."""
        low = np.array([v.getLbLocal() for v in self.variables] + [0.0])
        high = np.array([v.getUbLocal() for v in self.variables] + [0.0])
        return low, high

    def _lp_point(self) -> np.ndarray:
        return self._point(v.getLPSol() for v in self._columns)

    def _point(self, values: Iterable[float]) -> np.ndarray:
        """Values of all variables, those of sides 0."""
        return np.array([*values, *[0.0] * (self.networks.n_sides + 1)])

    def _enter(self) -> bool:
        """Whether the present node is another one than before."""
        node = self.program.scip.getCurrentNode()
        number = -1 if node is None else int(node.getNumber())
        new, self._node = number != self._node, number
        return new

    # ------------------------------------------------------------------------- points
    def _conscheck(self, constraints: Any, solution: Any, *what: Any) -> dict:
        get = self.program.scip.getSolVal
        z = self._point(get(solution, v) for v in self._given)
        holds = (self.networks.off(z) <= HANDLER.tolerance).all()
        return {"result": SCIP_RESULT.FEASIBLE if holds else SCIP_RESULT.INFEASIBLE}

    def _consenfolp(self, constraints: Any, useful: int, infeasible: bool) -> dict:
        self._rounds = 0 if self._enter() else self._rounds + 1
        z = self._lp_point()
        off = self.networks.off(z)
        wrong = np.flatnonzero(off > HANDLER.tolerance)
        if not len(wrong):
            return {"result": SCIP_RESULT.FEASIBLE}
        if self.movable is not None:
            held, taken = self._moved(wrong, z)
            if taken:
                return {"result": SCIP_RESULT.CUTOFF}
            if not len(held) and (
                self.program.scip.getNLPBranchCands()
                or (self.terms is not None and self.terms.off() > 0.0)
            ):
                return {"result": SCIP_RESULT.INFEASIBLE}
            wrong = held if len(held) else wrong
        low, high = self._bounds()
        if self._rounds < HANDLER.rounds:
            found = self._separate(wrong, z, low, high, HANDLER.worth)
            if found is not None:
                return {"result": found}
        if self._others_first(wrong, z):
            return {"result": SCIP_RESULT.INFEASIBLE}
        if self._ends(low, high):
            return {"result": SCIP_RESULT.CUTOFF}
        self._branching.gains.learn(self._node, float(self.program.scip.getLPObjVal()))
        return {"result": self._branch(wrong, off, z, low, high, in_lp=True)}

    def _moved(self, wrong: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, bool]:
        """The networks that stand in the way, and whether a point as good as the LP's is found."""
        assert self.movable is not None
        scip = self.program.scip
        every = np.array([v.getLPSol() for v in self._every])
        held, point = self.movable.moved(wrong, every)
        if len(held) or scip.getNLPBranchCands():
            return held, False
        if self.terms is not None and self.terms.off() > 0.0:
            return held, False
        if not self.program.offer(point):
            return held, False
        self.counts.moved += 1
        # No cost was moved: of a point that costs what the LP's does, nothing of the node is
        # better.
        p = self.program.program
        sign, cost = -1.0 if p.maximize else 1.0, float(p.cost @ point + p.offset)
        best = sign * float(scip.getPrimalbound())
        return held, best <= sign * cost + HANDLER.loose * max(1.0, abs(cost))

    def _others_first(self, wrong: np.ndarray, z: np.ndarray) -> bool:
        """Whether SCIP splits the node, for an integer or for a term that is further off."""
        if self.terms is None:
            return False
        if self.program.scip.getNLPBranchCands():
            return True
        term = self.terms.off()
        return term > 0.0 and term >= float(self.networks.off(z, self._ranges)[wrong].max())

    def _consenfops(
        self, constraints: Any, useful: int, infeasible: bool, objinfeasible: bool
    ) -> dict:
        get = self.program.scip.getSolVal
        z = self._point(get(None, v) for v in self._columns)
        off = self.networks.off(z)
        wrong = np.flatnonzero(off > HANDLER.tolerance)
        if not len(wrong):
            return {"result": SCIP_RESULT.FEASIBLE}
        return {"result": self._branch(wrong, off, z, *self._bounds())}

    # ---------------------------------------------------------------------- branching
    def _branch(
        self,
        wrong: np.ndarray,
        off: np.ndarray,
        z: np.ndarray,
        low: np.ndarray,
        high: np.ndarray,
        in_lp: bool = False,
    ) -> Any:
        """Split the input or side that is worth most to the networks that are off."""
        best = self._branching.choose(wrong, off, z, low, high)
        if best is None:
            return self._give_up(z, low, high, in_lp)
        scip = self.program.scip
        v, j = self.variables[best.column], best.column
        self.counts.branchings += 1
        at = 0.5
        if best.kind == "input":
            at = split_point(v, float(low[j]), float(high[j]), float(z[j]))
        else:
            self.counts.sides += 1
        children = scip.branchVarVal(v, at)
        if in_lp:
            numbers = [None if one is None else int(one.getNumber()) for one in children]
            bound = float(scip.getLPObjVal())
            self._branching.gains.expect(best, bound, numbers[0], numbers[-1])
        return SCIP_RESULT.BRANCHED

    def _give_up(
        self, z: np.ndarray, low: np.ndarray, high: np.ndarray, in_lp: bool
    ) -> Any:
        """A box that can't be split: on it tolerances leave the answer open."""
        # What is left is decided by planes that nothing makes tighter: they may be rows.
        # Without an LP there are no rows to add to.
        found = self._separate(self.every, z, low, high, 0.0) if in_lp else None
        if found is not None:
            return found
        if self.counts.open is None:
            self.counts.open = float(self.program.scip.getDualbound())
        self.counts.cutoffs += 1
        return SCIP_RESULT.CUTOFF

    def _ends(self, low: np.ndarray, high: np.ndarray) -> bool:
        """Whether a small MIP closes the present node."""
        if self.end is None:
            return False
        every = self._every
        lower = np.array([v.getLbLocal() for v in every])
        upper = np.array([v.getUbLocal() for v in every])
        return self._ended(self.end.close(low, high, lower, upper))

    def _all_ends(self) -> bool:
        """Whether a small MIP closes all that is left of the tree."""
        assert self.end is not None
        low, high = (np.append(ends, 0.0) for ends in _global_bounds(self.variables))
        bound = self.end.close_all(low, high, *_global_bounds(self._every))
        return self._ended(bound)

    def _ended(self, bound: float | None) -> bool:
        """Note the bound of what a small MIP closed; whether there is one."""
        if bound is None:
            return False
        self.counts.ended += 1
        self.counts.least_ended = min(self.counts.least_ended, bound)
        return True

    # ------------------------------------------------------------------------- planes
    def _conssepalp(self, constraints: Any, useful: int) -> dict:
        if self._enter():
            self._rounds = 0
            changed = self._look_at_whole()
            if self._over:
                return {"result": SCIP_RESULT.CUTOFF}
            if changed:
                return {"result": SCIP_RESULT.REDUCEDDOM}
        most = HANDLER.rounds if self.program.scip.getDepth() else HANDLER.root_rounds
        if self._rounds >= most:
            return {"result": SCIP_RESULT.DIDNOTFIND}
        self._rounds += 1
        z, (low, high) = self._lp_point(), self._bounds()
        found = self._separate(self.every, z, low, high, HANDLER.worth)
        return {"result": SCIP_RESULT.DIDNOTFIND if found is None else found}

    def _look_at_whole(self) -> bool:
        """Bound neurons in the whole tree, where due; whether bounds of columns changed."""
        scip = self.program.scip
        sign = -1.0 if self.program.program.maximize else 1.0
        best = sign * scip.getPrimalbound() if scip.getNSols() else math.inf
        bound, nodes = sign * scip.getDualbound(), scip.getNTotalNodes()
        whole = self._whole_is_due(best, nodes)
        due = [w for w in (self._narrowed, self._polytope) if w.due(best, bound, nodes)]
        if whole and self._narrowed not in due and self._narrowed.is_behind(best):
            due.insert(0, self._narrowed)
        changed = False
        for what in due:
            changed |= self._look(what, best)
        if whole:
            self._over = self._all_ends()
        if self.beside is not None and not self._over:
            cost = bound - sign * self.program.program.offset
            self._over = self.beside.due(cost, nodes) and self._proved_beside(cost)
        return changed

    def _look(self, what: Narrowed | Polytope, best: float) -> bool:
        """Let one bound neurons; whether bounds of columns changed."""
        scip, every, changed = self.program.scip, self._every, False
        low, high = _global_bounds(every)
        for j, least, most in what.look(low, high, best):
            room = HANDLER.loose * max(1.0, abs(least), abs(most))
            worth = HANDLER.cuts * (high[j] - low[j])
            if least - room > low[j] + worth:
                changed |= bool(scip.tightenVarLbGlobal(every[j], least - room)[1])
            if most + room < high[j] - worth:
                changed |= bool(scip.tightenVarUbGlobal(every[j], most + room)[1])
        return changed

    def _proved_beside(self, cost: float) -> bool:
        """Whether the search beside SCIP's has proved the best point, after a turn more."""
        assert self.beside is not None
        if not self.beside.turn(cost):
            return False
        self.counts.least_ended = min(self.counts.least_ended, self.beside.bound)
        return True

    def _whole_is_due(self, best: float, nodes: int) -> bool:
        """Whether to try the whole tree as one program, for points better than the best one."""
        late = math.isfinite(best) and nodes >= END_GAME.whole_nodes
        return late and self.end is not None and self.end.whole_is_due

    def _separate(
        self,
        which: np.ndarray,
        z: np.ndarray,
        low: np.ndarray,
        high: np.ndarray,
        worth: float,
    ) -> Any:
        """Add the planes that a point breaks; SCIP's result, None where it breaks none."""
        # A point on a network's graph breaks none of its planes.
        off = self.networks.off(z)[which]
        which = which[off > HANDLER.least * HANDLER.tolerance]
        if not len(which):
            return None
        rows = self.networks.rows_at(which, low, high, z, worth)
        broken = self.networks.broken(rows, z, worth).tolist()
        for k in broken:
            if self._add_row(rows, k):
                return SCIP_RESULT.CUTOFF
        self.counts.planes += len(broken)
        return SCIP_RESULT.SEPARATED if broken else None

    def _add_row(self, rows: Rows, k: int) -> bool:
        """Add ``sign * y - slopes @ x >= constant``; whether the node is empty."""
        of = rows.of[k]
        slopes, constant = rows.slopes[k], float(rows.constant[k])
        small = abs(slopes) <= HANDLER.tiny * max(1.0, float(abs(slopes).max()))
        if small.any():  # their least part, which SCIP would take for nothing
            ends = np.minimum(slopes * rows.x_low[of], slopes * rows.x_high[of])
            constant += float(ends[small].sum())
        slopes = np.where(small, 0.0, slopes)
        x = self.networks.x[rows.which[of]].tolist()
        terms = [(self.variables[j], -a) for j, a in zip(x, slopes.tolist()) if a]
        if rows.y[k] < self.networks.count:
            terms.append((self.variables[rows.y[k]], float(rows.sign[k])))
        return self.program.add_cut("plane", terms, constant)

    # -------------------------------------------------------------------- propagation
    def _consprop(self, constraints: Any, useful: int, marked: int, timing: Any) -> dict:
        if self._over:
            return {"result": SCIP_RESULT.CUTOFF}
        if self._begun and self.terms is None and self.program.scip.inProbing():
            # SCIP's heuristics try out bounds by the hundred, and points come from networks.
            return {"result": SCIP_RESULT.DIDNOTRUN}
        low, high = self._bounds()
        which = self.networks.due(low, high)
        if not len(which):
            return {"result": SCIP_RESULT.DIDNOTFIND}
        found = self.networks.propagate(which, low, high)
        if found is None:
            return {"result": SCIP_RESULT.CUTOFF}
        room = HANDLER.cuts * np.minimum(high - low, INFINITY)
        reduced = False
        scip = self.program.scip
        for change, bound, better in (
            (scip.tightenVarLb, found[0], found[0] > low + room),
            (scip.tightenVarUb, found[1], found[1] < high - room),
        ):
            for k in np.flatnonzero(better).tolist():
                empty, done = change(self.variables[k], float(bound[k]))
                if empty:
                    return {"result": SCIP_RESULT.CUTOFF}
                reduced |= done
        return {"result": SCIP_RESULT.REDUCEDDOM if reduced else SCIP_RESULT.DIDNOTFIND}


def _global_bounds(variables: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """The bounds of variables in the whole tree; those that SCIP takes for none are infinite."""
    low = np.array([v.getLbGlobal() for v in variables])
    high = np.array([v.getUbGlobal() for v in variables])
    low[low <= -INFINITY], high[high >= INFINITY] = -np.inf, np.inf
    return low, high
