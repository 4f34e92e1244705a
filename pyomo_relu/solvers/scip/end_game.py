"""The end of a branch: a node with few undecided neurons is solved as a small MIP.

Branching on inputs closes a box only when planes are tight on it, which near an optimum takes
a split for every bit. Where few neurons are undecided, the network over the box is affine but
for these: rows of big-M with a binary each are the whole truth there, and HiGHS is done
with them in milliseconds. What it proves holds for the node: its bound is the node's, and its
point goes through the networks like any other.

The bounds of neurons in these rows are those of the node's planes, rounded outwards; what
HiGHS's tolerances may hide is taken off its bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.bounds.array_model import ArrayModel
from pyomo_relu.bounds.crown import crown_arrays
from pyomo_relu.bounds.planes.relu_layers import layers_as_network
from pyomo_relu.bounds.planes.sides import chain_of
from pyomo_relu.network import Network, Smooth
from pyomo_relu.presolve.functions import Separated
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.programs import LinearProgram, part_of
from pyomo_relu.programs.scip import ScipModel
from pyomo_relu.solvers.global_search.mip import BoxMIP, add_network, builder_of
from pyomo_relu.solvers.scip.held import Held
from pyomo_relu.solvers.scip.points import Points
from pyomo_relu.solvers.scip.settings import END_GAME
from pyomo_relu.solvers.scip.time_share import TimeShare
from pyomo_relu.solvers.scip.together import Together


class NodeMIP(BoxMIP):
    """A node's program, whose first columns are those of the problem."""

    def __init__(self, problem: Problem, program: LinearProgram) -> None:
        self.problem, self.m, self.program = problem, len(problem.columns), program


class EndGame:
    """Decides which nodes are small enough for a MIP, and solves these.

    Parameters
    ----------
    model : ScipModel
    points : Points
        Of a linear problem, without SOS.
    networks : Together
    gap : callable
        What a bound may be away from the best cost.
    poll : callable
        Asked now and then within a program; true ends it.
    deadline : Deadline
    whole : bool
        Whether the whole tree may be tried.

    Attributes
    ----------
    most : float
        A node is small with so many undecided neurons and free integers; it moves with what is
        solved in time.
    """

    def __init__(
        self,
        model: ScipModel,
        points: Points,
        networks: Together,
        gap: Callable[[float], float],
        poll: Callable[[], bool],
        deadline: Deadline,
        whole: bool = True,
    ) -> None:
        self.model, self.points, self.networks = model, points, networks
        self.gap, self.poll, self.deadline = gap, poll, deadline
        self.problem, self.separated = points.problem, points.separated
        self.every = np.arange(len(networks.functions))
        self.most = float(END_GAME.first)
        self.time = TimeShare(END_GAME.begin, END_GAME.share)
        self.time_whole = TimeShare(END_GAME.whole_seconds, END_GAME.whole_share)
        #: CPU seconds of the next try of the whole tree.
        self._next_whole = END_GAME.whole_seconds
        self._whole_not_before = 0.0 if whole else math.inf
        #: Of chains the network whose pre-activations are those that planes bound.
        self._chains: dict[int, Network] = {}

    @staticmethod
    def suits(problem: Problem, separated: Separated) -> bool:
        """Whether a problem is one that small MIPs can say all about."""
        smooth = any(
            isinstance(node, Smooth)
            for function in separated.functions
            for node in function.network.nodes
        )
        return bool(separated.functions) and not (
            smooth or problem.nonlinear or problem.sos
        )

    def close(
        self, low: np.ndarray, high: np.ndarray, lower: np.ndarray, upper: np.ndarray
    ) -> float | None:
        """Solve the present node, if it is small; points that are found go to SCIP.

        Parameters
        ----------
        low, high : (V + S + 1,) arrays
            The node's bounds of what networks read and write, and of sides.
        lower, upper : (n_columns,) arrays
            The node's bounds of all columns of the program.

        Returns
        -------
        float or None
            No point of the node costs less, and none is better than the best one by more
            than the gap. None where the node isn't closed.
        """
        if self.time.left <= 0.0:
            return None
        with self.time.spending():
            return self._close(low, high, lower, upper)

    def _close(
        self, low: np.ndarray, high: np.ndarray, lower: np.ndarray, upper: np.ndarray
    ) -> float | None:
        """As :meth:`close`, whatever time there is; says how large nodes may be."""
        held = self._small(low, high, lower, upper, self.most)
        if held is None:
            return None
        seconds = min(END_GAME.seconds, self.deadline.left())
        bound = self._solved(held, lower, upper, seconds, END_GAME.nodes)
        grown = min(END_GAME.grow * self.most + 1.0, float(END_GAME.largest))
        self.most = END_GAME.shrink * self.most if bound is None else grown
        return bound

    def close_all(
        self, low: np.ndarray, high: np.ndarray, lower: np.ndarray, upper: np.ndarray
    ) -> float | None:
        """Solve all that is left, if few neurons are undecided in the whole tree.

        Bounds are those of the whole tree, else as for :meth:`close`: None where what is
        left isn't closed.
        """
        held = self._small(low, high, lower, upper, float(END_GAME.whole))
        if held is None:  # which it is for long
            self._whole_not_before = END_GAME.whole_later * self.time.elapsed
            return None
        with self.time_whole.spending():
            bound = self._solved(held, lower, upper, self._next_whole)
        self._next_whole *= 2.0
        return bound

    @property
    def whole_is_due(self) -> bool:
        """Whether the time for one more try of the whole tree has come."""
        if self.time.elapsed < self._whole_not_before:
            return False
        return self._next_whole <= self.time_whole.left

    def _solved(
        self,
        held: list[Held],
        lower: np.ndarray,
        upper: np.ndarray,
        seconds: float,
        nodes: int | None = None,
    ) -> float | None:
        """Solve a program for so many CPU seconds; its bound if that closes it."""
        best, turn = self._best(), Deadline(cpu_seconds=seconds)
        mip = NodeMIP(self.problem, self.program(held, lower, upper))
        answer = mip.solve(
            self._worth(best, 0.5),
            self.deadline.left(),
            stop=lambda: turn.expired() or self.poll(),
            nodes=nodes,
        )
        if answer.point is not None:
            self.points.incumbent.offer(answer.point)
            better = self.points.better()
            if better is not None:
                self.model.offer(better)
            best = self._best()
        closed = answer.solved and answer.bound >= self._worth(best)
        return answer.bound if closed else None

    def _worth(self, best: float, share: float = 1.0) -> float:
        """What a point has to cost less than, to be worth more than a share of the gap.

        Infinite as long as there is no point: then only an empty program closes a node.
        """
        return best - share * self.gap(best) if math.isfinite(best) else best

    def _best(self) -> float:
        """The cost of the best point of ours or of SCIP's."""
        cost, scip = self.points.incumbent.cost, self.model.scip
        if not scip.getNSols():
            return cost
        found = self.problem.sign * (scip.getPrimalbound() - self.problem.offset)
        return min(cost, float(found))

    def _small(
        self,
        low: np.ndarray,
        high: np.ndarray,
        lower: np.ndarray,
        upper: np.ndarray,
        most: float,
    ) -> list[Held] | None:
        """What is known of all networks over a node that is small."""
        whole = self.separated.program.integer
        free = 0 if whole is None else np.count_nonzero((upper - lower)[whole] > 0.5)
        if free > most:
            return None
        held = self.networks.held(self.every, low, high)
        count = free + sum(one.planes.undecided for one in held)
        return None if count > most or any(one.empty for one in held) else held

    def program(
        self, held: list[Held], lower: np.ndarray, upper: np.ndarray
    ) -> LinearProgram:
        """The program over a node's box: rows, and all networks with their decided neurons.

        Parameters
        ----------
        held : list of Held
            What is known of each network there.
        lower, upper : (n_columns,) arrays
        """
        base = self.separated.program
        crossed = lower > upper
        if crossed.any():  # by SCIP's tolerances
            lower = np.where(crossed, np.minimum(lower, upper), lower)
        whole = builder_of(replace(base, lower=lower, upper=upper))
        for k, one in enumerate(held):
            function = self.networks.functions[k]
            model = self._encoded(k, one)
            add_network(whole, model, function.inputs, function.outputs)
        found = whole.program
        found.cost[: len(base.cost)] = base.cost
        return found

    def _encoded(self, k: int, held: Held) -> ArrayModel:
        """A network over its box; rows hold what sides are given."""
        box, planes = self.networks.planes[k], held.planes
        low, high = held.low[: box.n], held.high[: box.n]
        chain = chain_of(box)
        if chain is None or planes.stored is None:
            network = self.networks.functions[k].network
            lows, highs = crown_arrays(network, low[None], high[None])
            ranges = [a[0] for a in lows], [a[0] for a in highs]
        else:
            if k not in self._chains:
                self._chains[k] = layers_as_network(chain.stack.chains[chain.position])
            network = self._chains[k]
            ranges = _ranges(low, high, planes.stored, chain.stack.spans)
            ranges[0].append(planes.low)
            ranges[1].append(planes.high)
        sides = {} if chain is None else self._sides(k, held)
        given = {node: own != 0 for node, own in sides.items()}
        model = ArrayModel(
            network, *ranges, network.outputs[0], np.arange(box.q), integer=True,
            fold=True, also=given,
        )  # fmt: skip
        for node, own in sides.items():
            _hold_sides(model, node, own)
        return model

    def _sides(self, k: int, held: Held) -> dict[int, np.ndarray]:
        """By affine node of a chain the sides of its entries that are given, 1 or -1."""
        chain = chain_of(self.networks.planes[k])
        if chain is None or not held.sides.any():
            return {}
        sides = self.networks.all_sides(k, held.sides)
        by_layer = {1 + 2 * i: sides[span] for i, span in enumerate(chain.stack.spans)}
        return {node: own for node, own in by_layer.items() if own.any()}


def _ranges(
    low: np.ndarray, high: np.ndarray, stored: np.ndarray, spans: list[slice]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Bounds of all nodes of a chain but the last: inputs, pre-activations, activations."""
    lows, highs = [low], [high]
    for span in spans:
        for found, side in ((lows, stored[0, span]), (highs, stored[1, span])):
            found += [side, np.maximum(side, 0.0)]
    return lows, highs


def _hold_sides(model: ArrayModel, node: int, sides: np.ndarray) -> None:
    """Rows for the neurons of a layer whose sides are given, 1 or -1."""
    given = np.flatnonzero(sides)
    matrix, const, noise = model.affine_rows(node, given)
    active = sides[given] > 0
    lower = np.where(active, -const, -math.inf)
    upper = np.where(active, math.inf, -const)
    model.add_rows(len(given), [part_of(matrix)], lower, upper, noise)
