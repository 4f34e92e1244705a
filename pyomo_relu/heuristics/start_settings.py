"""What steers the search for a start; chosen by hand where no measurement is named."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StartSettings:
    """The numbers of :func:`~pyomo_relu.heuristics.find_start` and of its parts."""

    #: A point is feasible up to this violation, HiGHS's tolerance for MIPs.
    feasible: float = 1e-6
    #: A point that the networks' own forward passes complete is exact up to this violation.
    exact: float = 1e-9
    #: Reading a model, and judging its values, may take so many seconds beyond the limit:
    #: half of the two seconds that any call may be late.
    reading: float = 1.0
    #: ``find_start`` ends after so many walks in a row without success.
    patience: int = 20
    #: A search for a solver ends after so many, since the solver goes on from there.
    patience_for_solver: int = 4
    #: A feasible point is better if it gains this share of its value.
    gain: float = 1e-10
    #: An infeasible point is better if its violation falls to this share.
    less_violated: float = 0.99

    #: A gradient path has so many steps.
    steps: int = 60
    #: The first step is this share of the box; the last one is ``last_step`` of the first.
    first_step: float = 0.25
    last_step: float = 0.01
    #: A violated row of unit length costs this many times the largest cost, plus 0.01.
    penalty: float = 10.0
    #: The gradient paths are as many as fit into this share of the time, at so many
    #: multiplications a second, within these limits. (200 ascents of 60 steps through
    #: small networks take 0.02 s and end within 0.02 % of the optimum.)
    paths_share: float = 0.2
    multiplications: float = 2e9
    fewest_paths: int = 8
    most_paths: int = 200
    #: The paths themselves end after this share of the time.
    ascent_share: float = 0.3
    #: So many ends of paths are completed by what is left to solve, in this share of the
    #: time each.
    completed: int = 2
    completion_share: float = 0.2

    #: So many walks by linearization begin at ends of paths; they share this much time.
    linearized: int = 4
    linearized_share: float = 0.5
    #: A trust region is a share of the drivers' box: this one after the first step, and
    #: the walk ends below the other one.
    first_radius: float = 0.5
    last_radius: float = 1e-3
    #: A step that succeeds and one that fails multiply the trust region by these.
    wider: float = 2.0
    narrower: float = 0.25

    #: The linear relaxation may take this share of the time that is left.
    relaxation_share: float = 0.5
    #: Region walks begin at so many points at most, whose drivers differ by this share of
    #: the box.
    most_distinct: int = 30
    distinct: float = 1e-3
    #: A walk steps beyond a region's optimum by this share of its last move.
    step_beyond: float = 0.01
    #: Violations and relative gains of a region's linear program below this are noise.
    noise: float = 1e-7
    #: A pre-activation within this distance of zero is on the border of its region.
    border: float = 1e-6
    #: A small MIP over the units on the border may take this share of the time left ...
    border_share: float = 0.5
    #: ... and so many nodes.
    most_nodes: int = 200
    #: A unit of the relaxation is forced with a chance of at least this much to one.
    least_chance: float = 0.05
    #: A driver without a bound is searched within this distance of its other one, or of 0.
    open_box: float = 1e3


#: The settings of every search.
START = StartSettings()
