r"""Neurons bounded over what the program's rows leave of a box.

The rows of the program, the networks' planes and the best point's cost make a polytope of the
inputs that is often far smaller than their box. The least value of a plane
:math:`a x + c` below a pre-activation over it is a linear program; with its duals
:math:`\lambda` all rows make one, :math:`r x + d \le 0`
(:meth:`~pyomo_relu.programs.certificate.Certifier.surrogate_row`), and

.. math::
    z(x) \;\ge\; a x + c \;\ge\; (a + r)\, x + c + d

holds at every node, for other planes and boxes as well: where a node bounds
neurons, the row costs one product. So linear programs are solved once for each
better point, and what they say is kept for the whole tree (as Gleixner, Berthold, Müller and
Weltge keep it for variables, J. Global Optim. 67, 2017).

A row that counts with the best point's cost holds for every point that is better, which is
what a search goes on for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.bounds.planes.chain import Lines, through
from pyomo_relu.bounds.planes.sides import chain_of
from pyomo_relu.programs import LinearProgram
from pyomo_relu.programs.certificate import Certifier
from pyomo_relu.programs.highs import HighsModel
from pyomo_relu.programs.linear_program import Rows
from pyomo_relu.solvers.scip.settings import HANDLER, POLYTOPE
from pyomo_relu.solvers.scip.time_share import TimeShare
from pyomo_relu.solvers.scip.together import Together


@dataclass
class _Program:
    """A linear program whose costs change."""

    highs: HighsModel
    certifier: Certifier

    def duals(self, cost: np.ndarray) -> np.ndarray | None:
        """Multipliers at the least value of ``cost @ z``; None where there are none."""
        self.highs.set_costs(cost)
        return self.highs.run(POLYTOPE.seconds).row_duals


class Polytope:
    """The polytope that rows, planes and the best point leave, and what neurons are over it.

    Parameters
    ----------
    program : LinearProgram
        Without networks.
    networks : Together
    """

    def __init__(self, program: LinearProgram, networks: Together) -> None:
        self.program, self.networks = program, networks
        self.chains = {
            k: chain
            for k, one in enumerate(networks.planes)
            if (chain := chain_of(one)) is not None and chain.stack.spans
        }
        self.time = TimeShare(POLYTOPE.first, POLYTOPE.share)
        self._cutoff = np.inf
        #: The chains whose neurons are next, and how wide all were when a turn began.
        self._waiting, self._before = list(self.chains), np.inf
        self._inputs = np.unique(
            np.concatenate(
                [
                    np.zeros(0, dtype=int),
                    *(networks.functions[k].inputs for k in self.chains),
                ]
            )
        )

    def due(self, cutoff: float, bound: float, nodes: int) -> bool:
        """Whether it is worth to look now.

        Parameters
        ----------
        cutoff, bound : float
            The cost of the best point and the bound, both to be minimized.
        nodes : int
            How many the search has seen.
        """
        if not self.chains or not len(self.program.row_lower) or nodes < POLYTOPE.nodes:
            return False
        if not self._waiting and self._is_better(cutoff, bound):
            self._waiting, self._before = list(self.chains), np.inf
        return bool(self._waiting) and self.time.left > 0.0

    def _is_better(self, cutoff: float, bound: float) -> bool:
        """Whether a best point is so much better than the last one that counted."""
        if np.isinf(self._cutoff) or np.isinf(bound):
            return cutoff < self._cutoff
        return self._cutoff - cutoff > POLYTOPE.better * (self._cutoff - bound)

    def look(
        self, low: np.ndarray, high: np.ndarray, cutoff: float
    ) -> Iterator[tuple[int, float, float]]:
        """Bound neurons over the polytope, for all nodes; better bounds of inputs.

        Parameters
        ----------
        low, high : (n_columns,) arrays
            Bounds of the program's columns in the whole tree.
        cutoff : float
            The cost of the best point, to be minimized; infinite without one.

        Yields
        ------
        column, low, high
            Of inputs whose bounds are better by a share that counts.
        """
        self._cutoff, low, high = cutoff, low.copy(), high.copy()
        with self.time.spending():
            self._narrow(low, high, cutoff)
        for j in self._inputs.tolist():
            yield j, float(low[j]), float(high[j])

    def _narrow(self, low: np.ndarray, high: np.ndarray, cutoff: float) -> None:
        """Bound inputs, in place, and neurons, as long as there is time."""
        turn = Deadline(cpu_seconds=max(self.time.left, 0.0))
        while self._waiting and not turn.expired():
            program = self._load(low, high, cutoff)
            if len(self._waiting) == len(self.chains):
                free = self._inputs[low[self._inputs] < high[self._inputs]]
                for j in free[: POLYTOPE.most_inputs].tolist():
                    least, most = self._input(program, j)
                    if least <= most:
                        low[j], high[j] = least, most
            while self._waiting and not turn.expired():
                self._neurons(program, self._waiting.pop(0), low, high)
            self.networks.forget()
            width = self._width()
            if not self._waiting and width < POLYTOPE.smaller * self._before:
                self._waiting, self._before = list(self.chains), width

    def _width(self) -> float:
        """How wide the bounds of undecided neurons are, all together."""
        bounds = [one.stack.stored[one.position] for one in self.chains.values()]
        return float(sum((b[1] - b[0])[(b[0] < 0.0) & (b[1] > 0.0)].sum() for b in bounds))

    def _load(self, low: np.ndarray, high: np.ndarray, cutoff: float) -> _Program:
        p, n = self.program, len(low)
        parts = list(self._planes(low, high))
        if np.isfinite(cutoff):
            sign = -1.0 if p.maximize else 1.0
            slack = HANDLER.loose * max(1.0, abs(cutoff))
            parts.append(
                (sign * p.cost[None], np.array([cutoff - sign * p.offset + slack]))
            )
        matrix = sp.csr_array(np.concatenate([a for a, _ in parts]) if parts else (0, n))
        upper = np.concatenate([b for _, b in parts]) if parts else np.zeros(0)
        rows = Rows(matrix, np.full(len(upper), -np.inf), upper)
        whole = replace(
            p, lower=low, upper=high, cost=np.zeros(n), offset=0.0, maximize=False,
            integer=None,
        ).with_rows(rows)  # fmt: skip
        highs = HighsModel(whole)
        return _Program(highs, Certifier(whole))

    def _planes(
        self, low: np.ndarray, high: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The planes of all networks over the whole box as rows ``a @ z <= b``."""
        networks = self.networks
        which = np.arange(len(networks.functions))
        bounds = networks.spread(low, 0.0), networks.spread(high, 1.0)
        for f, held in zip(networks.functions, networks.held(which, *bounds)):
            for rows, of, sign in (
                (held.planes.below, held.planes.of_below, 1.0),
                (held.planes.above, held.planes.of_above, -1.0),
            ):
                a = np.zeros((len(rows), len(low)))
                a[:, f.inputs] = sign * rows[:, :-1]
                a[np.arange(len(rows)), f.outputs[of]] -= sign
                yield a, -sign * rows[:, -1]

    def _input(self, program: _Program, j: int) -> tuple[float, float]:
        """Bounds of a column."""
        p = program.certifier.program
        ends = [p.lower[j], -p.upper[j]]
        for side, sign in enumerate((1.0, -1.0)):
            cost = np.zeros(len(p.cost))
            cost[j] = sign
            duals = program.duals(cost)
            if duals is not None:
                ends[side] = max(ends[side], program.certifier.lower_bound(cost, duals))
        return float(ends[0]), float(-ends[1])

    def _neurons(
        self, program: _Program, k: int, low: np.ndarray, high: np.ndarray
    ) -> None:
        """Rows for the neurons of a chain, and the bounds that follow."""
        chain = self.chains[k]
        stack, at = chain.stack, chain.position
        every, inputs = slice(at, at + 1), self.networks.functions[k].inputs
        box = chain.box(low[inputs], np.maximum(low[inputs], high[inputs]))
        if stack.surrogates is None:
            stack.surrogates = [
                np.zeros((len(stack.low), rows.shape[2], stack.n + 1))
                for rows, _ in stack.queries[:-1]
            ]
        steps: list[np.ndarray] = []
        for layer, span in enumerate(stack.spans):
            rows, const = (part[every] for part in stack.queries[layer])
            a, _ = through(rows, const, steps)
            bounds = stack.stored[at][:, span]
            open_ = np.flatnonzero((bounds[0] < 0.0) & (bounds[1] > 0.0))
            for i in [*open_.tolist(), *(open_ + a.shape[2] // 2).tolist()]:
                cost = np.zeros(len(low))
                cost[inputs] = a[0, 0, i]
                duals = program.duals(cost)
                row = None
                if duals is not None:
                    row = program.certifier.surrogate_row(duals, inputs)
                if row is not None:
                    stack.surrogates[layer][at, i, :-1] = row[0]
                    stack.surrogates[layer][at, i, -1] = row[1]
            found = stack.over(box[0][None], box[1][None], None, None, every)[0].stored
            if found is not None and (found[0] <= found[1]).all():
                stack.stored[at] = found
            lines = Lines.between(*stack.stored[at][:, None, span])
            steps.append(stack.step(layer, lines, lines.rules(None)[:, :1], every))
