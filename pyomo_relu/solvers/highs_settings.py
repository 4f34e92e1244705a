"""What steers ``relu_highs``: one record."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HighsSettings:
    """What steers the searches before HiGHS; every number was chosen by hand."""

    #: Where the options don't say otherwise, so many boxes are bounded before HiGHS, and for
    #: so many CPU seconds.
    boxes: int = 200_000
    boxes_time: float = 10.0
    #: Boxes may take this many seconds on the clock for each of their CPU seconds.
    wall_per_cpu: float = 5.0
    #: Where more inputs than this can move, a MIP is a better search than boxes, unless
    #: sides of neurons can be split too. Where they can't, boxes get this share of their
    #: time.
    most_inputs: int = 10
    boxes_only: float = 0.2
    #: Boxes close these shares of the relative and of the absolute gap, so that margins of
    #: bounds can't open the gap again.
    rel_gap: float = 0.95
    abs_gap: float = 0.8
    #: Boxes and model may differ in the objective at a point by this much, relative to it.
    differ: float = 1e-6
    #: Where the options don't say otherwise, a start with 'auto' may take so many seconds,
    #: and like the boxes never more than this share of the time limit.
    start_time: float = 1.0
    share: float = 0.1
    #: The program that completes a partial start of the user's may take so many seconds.
    partial_start: float = 5.0


SETTINGS = HighsSettings()
