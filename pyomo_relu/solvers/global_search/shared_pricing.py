"""Pricing of many subsystems on several processes.

With one set of multipliers every subsystem is priced by itself. What never changes of the
subsystems (networks, columns) travels to a worker once. With each pricing go the prices and the
open cells of one subsystem, those whose bounds aren't tight yet, and what became of them comes
back; all other cells, and points, stay where the master is. Which subsystem is priced where,
and who is done first, changes nothing: answers are taken in the order of the subsystems.
"""

from __future__ import annotations

import copy
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.bounds.parallel import Crew
from pyomo_relu.bounds.pool import Pool
from pyomo_relu.solvers.global_search.settings import PRICES
from pyomo_relu.solvers.global_search.subsystems import (
    CellSubsystem,
    OpenCells,
    Priced,
    Prices,
    Subsystem,
)

#: A subsystem's number, open cells, best known point, prices, tolerance, and the end of the search.
_Task = tuple[int, Pool, Priced, Prices, float, Deadline]
#: What the pricing found, the cells, boxes and small MIPs of it, and its seconds.
_Answer = tuple[Priced, Pool, int, int, float]


class Fleet:
    """What never changes of subsystems with cells, for workers.

    Attributes
    ----------
    fingerprint : str
        The name under which a worker keeps it.
    """

    def __init__(self, subsystems: Sequence[Subsystem]) -> None:
        self.fingerprint = uuid.uuid4().hex
        self._parts: dict[int, CellSubsystem] = {}
        for k, u in enumerate(subsystems):
            if isinstance(u, CellSubsystem):
                part = copy.copy(u)
                part.x, part.y = u.x[:0], u.y[:0]
                part.__dict__.pop("cells")
                part.__dict__.pop("stop", None)
                self._parts[k] = part

    def price(self, task: _Task) -> _Answer:
        """One pricing, on a worker."""
        k, cells, best, prices, tolerance, deadline = task
        u, begin = copy.copy(self._parts[k]), time.perf_counter()
        u.cells, u.boxes, u.mips, u.stop = cells, 0, 0, deadline.expired
        priced = u.price_open(best, prices, tolerance)
        return priced, u.cells, u.boxes, u.mips, time.perf_counter() - begin


def price_task(fleet: Fleet, token: str, common: None, task: _Task) -> _Answer:
    """What a worker runs."""
    return fleet.price(task)


class SharedPricing:
    """Pricings of several subsystems at once.

    Parameters
    ----------
    subsystems : list of Subsystem
        Their cells are changed as by their own pricing.
    executor : Executor
    deadline : Deadline
        Of the search.
    poll : callable
        Asked while workers are busy; true ends the wait.
    """

    def __init__(
        self,
        subsystems: Sequence[Subsystem],
        executor: Executor,
        deadline: Deadline,
        poll: Callable[[], bool],
    ) -> None:
        self.subsystems, self.deadline = subsystems, deadline
        self.crew = Crew(executor, poll)
        self.fleet = Fleet(subsystems)
        #: How long the last pricing of each took.
        self.seconds = [PRICES.worth_sending] * len(subsystems)

    def _goes(self, k: int) -> bool:
        """Whether a pricing of a subsystem is longer than its way to a worker."""
        far = isinstance(self.subsystems[k], CellSubsystem)
        return far and self.seconds[k] >= PRICES.worth_sending

    def price(self, prices: Sequence[Prices], tolerance: float) -> Iterator[Priced | None]:
        """The answers in order; None for what the end of the search cut off.

        Parameters
        ----------
        prices : sequence of Prices
            Of each subsystem.
        tolerance : float
            Of each pricing.
        """
        going = [k for k in range(len(self.subsystems)) if self._goes(k)]
        if len(going) < 2:
            going = []
        tasks: list[_Task] = []
        works: dict[int, OpenCells] = {}
        for k in going:
            u = self.subsystems[k]
            assert isinstance(u, CellSubsystem)
            works[k] = one = u.open_cells(prices[k], tolerance)
            tasks.append((k, one.cells, one.best, prices[k], tolerance, self.deadline))
        found = self.crew.results(price_task, self.fleet, None, tasks, "subsystems")
        answers = dict(zip(going, found))
        for k, u in enumerate(self.subsystems):
            if k not in going:
                begin = time.perf_counter()
                priced = u.price(prices[k], tolerance)
                self.seconds[k] = time.perf_counter() - begin
                yield priced
            elif answers[k] is not None:
                assert isinstance(u, CellSubsystem)
                priced, cells, boxes, mips, self.seconds[k] = answers[k]
                u.put_back(works[k], cells)
                priced.bound = min(priced.bound, works[k].others)
                u.boxes, u.mips = u.boxes + boxes, u.mips + mips
                yield priced
            else:
                yield None
