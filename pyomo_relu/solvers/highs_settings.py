"""What steers ``relu_highs``: one record."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HighsSettings:
    """What steers the searches before HiGHS; every number was chosen by hand."""

    #: So many boxes are bounded before HiGHS, where the options don't say otherwise.
    boxes: int = 200_000
    #: They may take so many CPU seconds, where the options don't say otherwise.
    boxes_time: float = 10.0
    #: Boxes may take this many seconds on the clock for each of their CPU seconds.
    wall_per_cpu: float = 5.0
    #: Where more inputs than this can move and sides of neurons can't be split, there are no
    #: boxes: a MIP is the better search.
    most_inputs: int = 10
    #: Boxes alone, where sides of neurons can't be split, get this share of their time.
    boxes_only: float = 0.2
    #: Where a network has units of many pieces, boxes alone get this share of their time. On
    #: curves of a tanh network 4-20-20-2 with 4,129 binaries they proved the optimum in one
    #: CPU second, and HiGHS had no better bound than its root's after 13 (busy machine).
    boxes_of_curves: float = 1.0
    #: Boxes close this share of the relative gap, so that margins of bounds can't open the
    #: gap again.
    rel_gap: float = 0.95
    #: They close this share of the absolute gap, for the same reason.
    abs_gap: float = 0.8
    #: Boxes and model may differ in the objective at a point by this much, relative to it.
    differ: float = 1e-6
    #: A start with 'auto' may take so many seconds, where the options don't say otherwise.
    start_time: float = 1.0
    #: The start, and the boxes, never take more than this share of the time limit.
    share: float = 0.1
    #: The program that completes a partial start of the user's may take so many seconds.
    partial_start: float = 5.0
    #: While HiGHS runs, the search for points gets these shares of the CPU time, with and
    #: without a point, in pieces of so many CPU seconds at least and at most.
    points_share: float = 0.1
    points_share_without: float = 0.5
    points_least: float = 0.1
    points_most: float = 1.0
    #: Between the lines of HiGHS's log the user's callback is called after so many seconds.
    ask_every: float = 0.1


SETTINGS = HighsSettings()
