"""When a search of ``relu_global`` ends: the defaults of its options."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """When a search ends, and how it works.

    Attributes
    ----------
    rel_gap, abs_gap : float
        The search ends when the bound is within either of the incumbent.
    time_limit, cpu_time_limit : float
        Seconds on the clock, and of this process.
    node_limit : float
        How many boxes are bounded at most.
    batch_size : int
        How many boxes are split in a round.
    leaf_neurons : int
        A box with at most so many undecided neurons goes to a MIP.
    seed : int
        The seed of the searches for incumbents.
    hand_over : bool
        Whether a MIP may take over where it suits the problem better.
    slope_steps : int
        How many steps improve the slopes of each box's plane, where nothing but the box
        constrains the inputs.
    points : bool
        Whether sequences of linear programs look for points between the rounds.
    """

    rel_gap: float = 1e-4
    abs_gap: float = 1e-6
    time_limit: float = math.inf
    cpu_time_limit: float = math.inf
    node_limit: float = math.inf
    batch_size: int = 128
    leaf_neurons: int = 12
    seed: int = 0
    hand_over: bool = True
    slope_steps: int = 3
    points: bool = False


#: What the options of ``relu_global`` are if nothing is said.
DEFAULTS = Limits()
