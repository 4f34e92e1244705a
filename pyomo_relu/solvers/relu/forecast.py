"""When a search's bound will meet the best point, judged by how it grew so far."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

from pyomo_relu.solvers.relu.settings import TOGETHER

#: So many doublings are as good as never. (mpc10d of ``benchmarks/wired.py``: the bound of
#: boxes grew by 0.25 in each, with 2.8 to go, while SCIP's stood still 0.45 from the end; with
#: 20 here boxes had most of the time and SCIP its second turn after 17 CPU seconds.)
_FAR = 8.0


class Forecast:
    """Bounds of a search over its CPU time.

    Bounds of trees grow by about as much in each doubling of the time, so what the last
    doubling brought says how many more are needed.
    """

    def __init__(self) -> None:
        #: CPU seconds of its own that the search has had.
        self.seconds = 0.0
        self._times: list[float] = []
        self._bounds: list[float] = []

    def note(self, seconds: float, bound: float) -> None:
        """That the search had this bound after so many CPU seconds of its own."""
        self.seconds = max(self.seconds, seconds)
        if math.isfinite(bound) and (not self._times or seconds > self._times[-1]):
            self._times.append(seconds)
            self._bounds.append(bound)

    @property
    def bound(self) -> float:
        """The last bound, -inf where there is none yet."""
        return self._bounds[-1] if self._bounds else -math.inf

    def end(self, cost: float) -> float:
        """After how many CPU seconds of its own the bound will reach a cost.

        Infinite where the last doublings brought nothing, or nothing is known. Bounds move
        in steps, and a search that begins anew stands still for a while, so what a doubling
        brings is the most that the last one, two or three brought on average.
        """
        if len(self._times) < 2 or not math.isfinite(cost):
            return math.inf
        now, bound = self._times[-1], self._bounds[-1]
        gain = max(self._gain(doublings) for doublings in (1, 2, 3))
        if bound >= cost:
            return now
        if gain <= 0:
            return math.inf
        needed = (cost - bound) / gain
        return now * 2.0**needed if needed < _FAR else math.inf

    def _gain(self, doublings: int) -> float:
        """What each of the last doublings of the time brought on average."""
        now = self._times[-1]
        then = max(0, bisect_right(self._times, 0.5**doublings * now) - 1)
        passed = math.log2(now / max(self._times[then], 1e-9))
        return (self._bounds[-1] - self._bounds[then]) / max(float(doublings), passed)


def likely_first(searches: Sequence[Forecast], cost: float) -> int | None:
    """Which search is likely to be done first; None where that can't be told.

    The ends that are forecast say it. Where no bound grew in its search's last doubling,
    or all have far to go, there are none; then it is the search whose bound is
    ``clearly_nearer`` to the best point than the others', since it has the least way to go.
    """
    if not math.isfinite(cost):
        return None
    ends = [search.end(cost) for search in searches]
    if min(ends) < math.inf:
        return ends.index(min(ends)) if ends.count(min(ends)) == 1 else None
    gaps = [cost - search.bound for search in searches]
    first = gaps.index(min(gaps))
    others = gaps[:first] + gaps[first + 1 :]
    near = gaps[first] < math.inf
    near = near and all(TOGETHER.clearly_nearer * gaps[first] <= gap for gap in others)
    return first if near else None


def hopeless(searches: Sequence[Forecast], cost: float) -> list[bool]:
    """Which searches have had their time and are far behind another one.

    Such a one has a gap of ``hopeless`` times the least gap, and is not forecast to be done
    before all others.
    """
    if not math.isfinite(cost):
        return [False] * len(searches)
    gaps = [cost - search.bound for search in searches]
    ends = [search.end(cost) for search in searches]
    least, soonest = min(gaps), min(ends)
    return [
        search.seconds >= TOGETHER.least_trial
        and gap > TOGETHER.hopeless * least
        and not end <= soonest < math.inf
        for search, gap, end in zip(searches, gaps, ends)
    ]


def weights(
    searches: Sequence[Forecast], cost: float, favourite: int | None = None
) -> list[float]:
    """What share of the CPU time is due to each search, in relation to the others'.

    Parameters
    ----------
    searches : sequence of Forecast
    cost : float
        Of the best point.
    favourite : int, optional
        The search that leads where bounds don't tell which one is to.
    """
    vain = hopeless(searches, cost)
    found = [1.0 / TOGETHER.lead if without else 1.0 for without in vain]
    first = likely_first(searches, cost)
    if first is None:
        first = favourite
    if first is not None and not vain[first]:
        found[first] = TOGETHER.lead
    return found
