"""What steers the search for a start; chosen by hand where no measurement is named."""

from __future__ import annotations

from dataclasses import dataclass

#: The parts of the search for a start, in the order in which they begin.
SEARCHES = frozenset(
    ("sequences", "gradient paths", "region walks", "neighbourhoods", "relax and walk")
)


@dataclass(frozen=True)
class StartSettings:
    """The numbers of :func:`~pyomo_relu.heuristics.find_start` and of its parts."""

    #: Which searches run: all, but for measurements of what each is worth.
    searches: frozenset[str] = SEARCHES
    #: A point is feasible up to this violation, HiGHS's tolerance for MIPs.
    feasible: float = 1e-6
    #: A point that the networks' own forward passes complete is exact up to this violation.
    exact: float = 1e-9
    #: Reading a model, and judging its values, may take so many seconds beyond the limit:
    #: half of the two seconds that any call may be late.
    reading: float = 1.0
    #: A search may take so many seconds on the clock for each of its CPU seconds.
    wall_per_cpu: float = 3.0
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

    #: Sequences of linear programs may take this share of the time before other searches,
    #: and all of it without a point.
    sequential_share: float = 0.6

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


@dataclass(frozen=True)
class SequentialSettings:
    """The numbers of :class:`~pyomo_relu.heuristics.sequential.SequentialSearch`."""

    #: A row holds up to this violation, relative to its bound.
    holds: float = 1e-7
    #: So many random starts follow the plain ones, each with ``kicks`` near the best point,
    #: of whose drivers the share ``moved`` moves, by the share ``nearby`` of the box, and
    #: whose choices are drawn anew with a chance of ``flipped``.
    random_starts: int = 1000
    #: Their first integers are chosen within these trust regions, in turn; 0 means the
    #: closest that the rows allow.
    radii: tuple[float, ...] = (1.0, 0.3, 0.0)
    kicks: int = 3
    moved: float = 0.5
    nearby: float = 0.3
    flipped: float = 0.15
    #: A random start is the best of as many points as the networks take in so many
    #: seconds, within these limits.
    sample_seconds: float = 0.01
    fewest_samples: int = 4
    most_samples: int = 256
    #: The trust region is a share of the drivers' box: this one at first, and a sequence
    #: ends below the other one, or after so many steps.
    first_radius: float = 0.5
    last_radius: float = 1e-3
    most_steps: int = 40
    #: A step that succeeds and one that fails multiply the trust region by these.
    wider: float = 2.0
    narrower: float = 0.25
    #: Where rows are nonlinear, what a step breaks is closed by Newton's steps down to this
    #: violation: so many at most, of which so many in a row may leave more than this share.
    closed: float = 1e-9
    newton_steps: int = 15
    newton_slow: int = 1
    newton_gain: float = 0.5
    #: Within a sequence they are tried again once a point breaks this share of the last
    #: one that they didn't close.
    newton_again: float = 0.5
    #: Sequential quadratic programming follows where columns and rows are so many at most,
    #: for so many steps, from places that cost at most this share more than the best one.
    dense: int = 400
    quadratic_steps: int = 30
    promising: float = 0.02
    #: Drivers that move by less stand still.
    still: float = 1e-9
    #: The filter asks for this share less of violation, or this relative gain in cost.
    margin: float = 0.05
    gain: float = 1e-7
    #: Where rows have to be broken, the cost counts by this share of a violation of 1.
    cost_weight: float = 1e-3
    #: A choice of integers that isn't better shrinks its trust region by this factor, down
    #: to this share of the box.
    closer: float = 0.5
    least_radius: float = 0.03
    #: So many choices of integers may bring nothing better before the next start.
    patience: int = 8
    #: So many choices of binaries are forbidden to the next programs, the latest.
    remembered: int = 50
    #: A mixed-integer program ends at this relative gap, or after the larger of so many
    #: seconds, longer by a factor whenever they weren't enough, and this share of the
    #: time left.
    mip_gap: float = 0.01
    mip_seconds: float = 0.2
    longer: float = 1.5
    mip_share: float = 0.1
    #: It gets the point around which it lies as a start where that holds up to this.
    start_holds: float = 1e-6


#: The settings of every sequential search.
SEQUENTIAL = SequentialSettings()
