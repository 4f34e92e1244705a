"""One mixed-integer program for each unsafe set: its least margin, or the sign of it.

The search ends as soon as the dual bound is above zero, with a margin for the solver's
tolerances, or a solution's inputs are a counterexample in a forward pass.

Source: Tjeng, Xiao, Tedrake, arXiv 1711.07356; Fischetti and Jo, Constraints 23(3), 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pyomo_relu.bounds.array_model import ArrayModel
from pyomo_relu.network import Network
from pyomo_relu.programs import NETWORK_DEFAULTS
from pyomo_relu.programs.highs import Event
from pyomo_relu.verification.balls import add_ball
from pyomo_relu.verification.margins import Margins

#: A model with larger numbers is beyond the solver's absolute tolerances.
LARGEST = 1e7


@dataclass
class ExactResult:
    """What a mixed-integer program says about one set.

    Attributes
    ----------
    lower : float
        A bound below the set's margin, the solver's tolerances taken off.
    witness : (n_inputs,) array or None
        A point that the caller's check has confirmed.
    nodes : int
        Of the branch-and-bound tree.
    binaries : int
    """

    lower: float = -np.inf
    witness: np.ndarray | None = None
    nodes: int = 0
    binaries: int = 0


class MarginMIP:
    """The exact model of a set's margin.

    Parameters
    ----------
    margins : Margins
    d : int
        The set.
    bounds : pair of sequences of (size,) arrays
        Lower and upper bounds of every node of ``margins.network``.
    confirm : callable
        Whether a point (n_inputs,) is a counterexample.
    """

    def __init__(
        self,
        margins: Margins,
        d: int,
        bounds: tuple[Sequence[np.ndarray], Sequence[np.ndarray]],
        confirm: Callable[[np.ndarray], bool],
    ) -> None:
        self.margins, self.confirm = margins, confirm
        self.strict = margins.property.unsafe[d].strict
        # A ball is two kinds of rows without binaries, instead of a row of the margin.
        network = margins.single(d, ball=False)
        lows, highs = self._extended(network, *bounds)
        target = network.outputs[0]
        self.model = ArrayModel(network, lows, highs, target, np.array([0]), integer=True)
        self.columns, self.taken = self._input_columns(network)
        if margins.ball is not None and self.model.n_columns:
            add_ball(self.model, self.columns, self.taken, margins.ball)
        self.cost, self.const, self.noise = self.model.objective(0)
        program = self.model.program
        reach = float(abs(self.cost) @ program.size)
        size = program.size.max(initial=1.0)
        weight = abs(program.matrix.data).max(initial=1.0)
        self.trusted = bool(max(size, weight, reach) <= LARGEST)
        self.slack = self.noise + 1e-6 * (1.0 + size + 0.1 * reach)

    @staticmethod
    def _extended(network: Network, lows, highs):
        from pyomo_relu.bounds.interval import node_range

        lows, highs = list(lows), list(highs)
        for node in network.nodes[len(lows) :]:
            low, high = node_range(
                node,
                [lows[s][None] for s in node.sources],
                [highs[s][None] for s in node.sources],
            )
            lows.append(low[0])
            highs.append(high[0])
        return lows, highs

    def _input_columns(self, network: Network) -> tuple[np.ndarray, np.ndarray]:
        """Columns of the inputs, and which inputs have one."""
        columns, taken = [], []
        for i, s in network.input_slices():
            e = self.model.entries.get(i)
            if e is None:
                continue
            held = e.column >= 0
            columns.append(e.column[held])
            taken.append(np.arange(s.start, s.stop)[held])
        none = np.zeros(0, dtype=int)
        return np.concatenate([none, *columns]), np.concatenate([none, *taken])

    def point(self, values: np.ndarray) -> np.ndarray:
        """The inputs of a solution, moved into the region."""
        region = self.margins.region
        x = 0.5 * (region.lower + region.upper)
        x[self.taken] = values[self.columns]
        return region.project(x[None])[0]

    def solve(
        self,
        seconds: float | None,
        decide: bool = True,
    ) -> ExactResult:
        """Minimize the margin until its sign is known, or to the end.

        Parameters
        ----------
        seconds : float or None
        decide : bool
            Whether the sign is enough.
        """
        model, result = (
            self.model,
            ExactResult(binaries=int(np.sum(self.model.program.integer))),
        )
        if not self.trusted:
            return result
        if not model.n_columns:
            result.lower = self.const - self.slack
            return result
        highs = model.in_highs(relaxed=False)
        highs.set_costs(self.cost)
        # The attack looks for points; this search wants the dual bound (mnistfc 256x2,
        # property 0: 7.0 -> 3.7 CPU seconds).
        highs.set(
            NETWORK_DEFAULTS,
            mip_heuristic_effort=0.0,
            mip_feasibility_tolerance=1e-7,
            primal_feasibility_tolerance=1e-7,
        )
        # No start: to complete one, HiGHS solves a program with the inputs fixed and calls
        # back from it as well, with dual bounds that don't hold for this one.
        watch = _Watch(self, decide)
        highs.on_incumbent(watch.better)
        highs.stop_when(watch.done)
        answer = highs.run(None if seconds is None else max(0.01, seconds), keep=True)
        result.nodes, result.witness = answer.nodes, watch.witness
        if np.isfinite(answer.bound):
            result.lower = self.safe(answer.bound)
        if result.witness is None and answer.point is not None:
            x = self.point(answer.point)
            if self.confirm(x):
                result.witness = x
        return result

    def safe(self, dual: float) -> float:
        """A dual bound with the constant, and with the tolerances taken off."""
        return float(dual + self.const - self.slack - 1e-6 * abs(dual))

    def proved(self, dual: float) -> bool:
        """Whether a dual bound excludes the set."""
        return bool(np.isfinite(dual)) and self.safe(dual) > 0


class _Watch:
    """Ends the solver once the sign of the margin is known."""

    def __init__(self, mip: MarginMIP, decide: bool) -> None:
        self.mip, self.decide = mip, decide
        self.witness: np.ndarray | None = None

    def better(self, event: Event) -> None:
        if not self.decide or self.witness is not None or event.point is None:
            return
        x = self.mip.point(event.point)
        if self.mip.confirm(x):
            self.witness = x

    def done(self, event: Event) -> bool:
        found = self.witness is not None
        return self.decide and (found or self.mip.proved(event.bound))
