"""Which column to branch on: what was expected of it, corrected by what branching gained.

A score says how much planes may move when an input is split. What that does to the bound of
the whole model the LPs of the children tell, and it differs from column to column: so the
score of a column is multiplied with the gain of the bound for each unit of score, as
it was on average on that column, and on all columns as long as little is known of it. Of both
children the product counts, as one that gains nothing is what is left to do.

Source: Benichou et al., Math. Programming 1, 1971 (pseudo-costs); Achterberg, Koch, Martin,
OR Letters 33, 2005 (the product); Belotti et al., Optim. Methods Softw. 24, 2009, for splits of
continuous variables.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pyomo_relu.solvers.scip.settings import HANDLER


@dataclass
class Candidate:
    """A column that may be split.

    Attributes
    ----------
    column : int
    score : float
        What is expected of it, in any unit.
    kind : str
        Columns of one kind have scores in one unit.
    """

    column: int
    score: float = 0.0
    kind: str = ""


@dataclass
class _Known:
    """Gains of the bound, and the scores that were expected to bring them."""

    gain: float = 0.0
    score: float = 0.0

    def add(self, gain: float, score: float) -> None:
        self.gain += gain
        self.score += score


@dataclass
class Gains:
    """What branchings gained, by column and side."""

    _by_side: dict[tuple[int, int], _Known] = field(default_factory=dict)
    _all: dict[str, _Known] = field(default_factory=dict)
    #: By number of a child that was not yet met: what was split, side, its parent's bound.
    _open: dict[int, tuple[Candidate, int, float]] = field(default_factory=dict)

    def expect(
        self, candidate: Candidate, bound: float, lower: int | None, upper: int | None
    ) -> None:
        """Note the children of a node, by their numbers, and the node's bound."""
        for side, number in enumerate((lower, upper)):
            if number is not None:
                self._open[number] = (candidate, side, bound)

    def learn(self, node: int, bound: float) -> None:
        """Note the bound of a node that is about to be branched on."""
        known = self._open.pop(node, None)
        if known is None:
            return
        one, side, before = known
        gain = max(bound - before, 0.0)
        self._by_side.setdefault((one.column, side), _Known()).add(gain, one.score)
        self._all.setdefault(one.kind, _Known()).add(gain, one.score)

    def best(self, candidates: Iterable[Candidate]) -> Candidate:
        """The candidate whose children are expected to gain most, the first of equals."""
        return max(candidates, key=self._worth)

    def _worth(self, candidate: Candidate) -> float:
        every = self._all.get(candidate.kind, _Known())
        ratio = every.gain / every.score if every.gain > 0 else 1.0
        prior, sides = HANDLER.reliable * candidate.score, []
        for side in (0, 1):
            own = self._by_side.get((candidate.column, side), _Known())
            sides.append(
                candidate.score
                * (own.gain + prior * ratio)
                / max(own.score + prior, 1e-300)
            )
        least, most = min(sides), max(sides)
        return max(least, HANDLER.one_sided * most) * most
