"""What steers the searches of ``relu_global``: one record for each.

Where no measurement is named a number was chosen by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class CostSettings:
    """The cut-off and the proof, which all searches share."""

    #: This share of the gap is left for the margins of bounds.
    reserve: float = 5e-3
    #: A proof may miss the gap by this much, relative to the cost: margins of bounds may
    #: take a little more than the gap.
    slack: float = 1e-7
    #: A point is worth walking on from if it gains this share of the cost, and of
    #: ``least_cost`` where the cost is nearly zero.
    better: float = 1e-3
    least_cost: float = 1e-6
    #: A small MIP may end within this share of the gap that is left to prove.
    mip_gap: float = 0.1
    #: Within long work the user is asked at most once in so many seconds.
    poll_every: float = 0.1


@dataclass(frozen=True)
class BranchingSettings:
    """Where a box is split."""

    #: A coordinate narrower than this, relative to its size, is not split any more.
    narrow: float = 1e-9
    #: Farther than this from an integer, a relaxed integer variable is fractional.
    fractional: float = 1e-6
    #: What an input's width counts beside its effect, relative to the largest effect: a
    #: box in which no input has an effect is split all the same.
    by_width: float = 1e-12


@dataclass(frozen=True)
class BoxSettings:
    """The search over boxes of the inputs."""

    #: So many boxes go through one NumPy batch; fixed, so that results don't depend on
    #: the executor.
    chunk: int = 256
    #: Where nothing but the box constrains the inputs, a box with more undecided neurons
    #: than this is split, not left to a MIP, with so many inputs at most: with few
    #: inputs a box is split sooner than a MIP is solved.
    leaves: Mapping[int, int] = field(
        default_factory=lambda: MappingProxyType({3: 5, 6: 8})
    )
    #: What tightening by the cost cuts away costs at least the cut-off less this share.
    cut_margin: float = 1e-9
    #: An LP for every box has to be worth this much on the average of a memory of about
    #: ``1 / lp_memory`` boxes: 1 where it prunes, and this many times the share of what is
    #: missing to the cut-off that it gains. Where it isn't, one box in ``lp_look`` has one.
    lp_worth: float = 0.2
    lp_memory: float = 0.05
    lp_gain: float = 2.0
    lp_look: int = 16
    #: What the scale of a side counts beside its share in the LP's bound.
    side_weight: float = 0.01
    #: The middle of a box is walked on from if it violates the rows by less than this
    #: share of the least violation so far.
    closer: float = 0.9
    #: The best LP's point is walked on from in so many rounds at first, then in one of
    #: so many.
    first_walks: int = 10
    every_walk: int = 10


@dataclass(frozen=True)
class IncumbentSettings:
    """The search for points."""

    #: The largest violation of a feasible point: rows relative to their side, bounds
    #: absolute.
    feasible: float = 1e-6
    #: This near to a step, relative to the terms of the pre-activation, both of its values
    #: count.
    at_step: float = 1e-6
    #: A point is clearly better from this gain on, relative to the cost.
    clearly: float = 1e-6
    #: A walk from one linear region to the next makes so many steps, each a small MIP
    #: with so many seconds, as long as it gains this share of the cost.
    walk: int = 8
    seconds: float = 5.0
    gain: float = 1e-9
    #: A walk looks this far over the border of a region, as a share of its last step.
    over: float = 1e-6
    #: The descent begins at the best of so many random points, this share of whose
    #: coordinates are at a bound.
    samples: int = 512
    starts: int = 16
    at_bound: float = 0.25
    #: The descent has so many steps; with up to ``few_inputs`` inputs, where boxes are
    #: small soon and so is what is left to find, only ``few_steps``. Points are offered
    #: after every so many steps.
    steps: int = 40
    few_steps: int = 16
    few_inputs: int = 5
    offered: int = 4
    #: The first step is this share of the box, and each next one this share of the last.
    first_step: float = 0.25
    shrink: float = 0.85


@dataclass(frozen=True)
class CellSettings:
    """The cells of one subsystem and the minimum that they prove for given prices."""

    #: A pricing cuts cells in so many rounds at most, and so many cells in a round.
    rounds: int = 40
    cells: int = 48
    #: After so many rounds, and after every second one then, what is left may go to a
    #: small MIP.
    patience: int = 6
    #: The descent starts from the best corners, so many, and makes so many steps; the
    #: first one is this share of the box, and each next one this share of the last.
    starts: int = 8
    steps: int = 12
    first_step: float = 0.3
    shrink: float = 0.75
    #: The small MIP's gap is this share of the pricing's tolerance.
    mip_gap: float = 0.5
    #: A cell's bound is lowered by this share of the size of its terms, far more than
    #: rounding can do.
    margin: float = 1e-13
    #: A curve has so many pieces at most; more are left to cells.
    most_pieces: int = 2000
    #: Where rounding may move a curve by more than this share of its size, cells are better.
    curve_off: float = 1e-6


@dataclass(frozen=True)
class PriceSettings:
    """Branch and price over subsystems."""

    #: A box is priced in so many rounds at most.
    rounds: int = 60
    #: A mixture with less than this share of weight on other points counts as one point.
    pure: float = 1e-6
    #: Each subsystem begins with so many random points.
    points: int = 60
    #: A box's bound is wanted to this share of the gap, or of what is missing to the
    #: cut-off where that is more.
    of_gap: float = 0.2
    of_missing: float = 0.05
    #: Before there is a bound, and before there is a point, it is wanted to these shares
    #: of the cost and of the bound.
    of_cost: float = 0.01
    of_bound: float = 1e-3
    #: A point is new if it gains this share of a subsystem's part of the tolerance.
    new: float = 0.1
    #: Where the rows are missed by more than this, a box is priced for that alone, to
    #: this tolerance; above the last number no mixture meets the rows.
    missed: float = 1e-7
    missing_tolerance: float = 1e-6
    infeasible: float = 1e-9
    #: A MIP chooses among the points for the first boxes, so many, and for one box in so
    #: many then; it may take so many seconds, at the beginning fewer, and a walk from
    #: its point so many.
    first_choices: int = 3
    every_choice: int = 8
    choice_seconds: float = 5.0
    first_choice_seconds: float = 2.0
    walk_seconds: float = 10.0
    #: A driver is cut no nearer to an edge than this share of its width.
    inner: float = 0.1
    #: With several processes, a subsystem is priced by another one where its last pricing took
    #: so many seconds: cells of one are up to some megabytes, which are sent in a hundredth.
    worth_sending: float = 0.02
    #: What a mixture's spread counts beside the cost that it hides.
    by_spread: float = 1e-9


@dataclass(frozen=True)
class PieceSettings:
    """Subsystems as finitely many polytopes."""

    #: A subsystem has so many combinations of its integers at most, so many inputs that are
    #: free in one of them, and so many vertices of regions.
    choices: int = 1000
    inputs: int = 2
    vertices: int = 40_000
    #: All subsystems together have so many vertices (some 100 MB).
    total: int = 1_000_000
    #: Edges of neighbouring regions may leave a gap of so many sizes of the inputs: some
    #: hundred roundings.
    gap: float = 1e-13
    #: Up to so many combinations each is a group from the beginning.
    by_choice: int = 16
    #: A program over groups is solved to this share of the gap, or of what is missing to
    #: the cut-off where that is more.
    of_gap: float = 0.2
    of_missing: float = 0.1
    #: Seconds for the first program before points are looked for otherwise. (pricing20 of
    #: benchmarks/wired_models takes 18 s for it, and has no point before.)
    before_points: float = 2.0
    #: A vertex with less than this weight doesn't count in a mixture.
    pure: float = 1e-7
    #: A mixture whose outputs are off by more than this, relative to them, is no point.
    hidden: float = 1e-9
    #: A point is looked for in so many polytopes next to a mixture, besides its own, for so
    #: many seconds at most.
    near: int = 3
    near_seconds: float = 5.0


@dataclass(frozen=True)
class SideSettings:
    """The search over sides of neurons."""

    #: A round takes so many subproblems that one array of it has this many numbers,
    #: within these limits.
    numbers: int = 16_384
    fewest: int = 32
    most: int = 256
    #: A walk from a better point makes so many steps.
    walk: int = 2


@dataclass(frozen=True)
class RowSideSettings:
    """The search over sides of neurons and columns, among rows."""

    #: Rows times columns, which are kept as a dense array, are at most so many (8 MB).
    size: int = 1_000_000
    #: One round in so many dives, so that points are met.
    every_dive: int = 2
    #: So many small programs of subproblems are one task of an executor. (On counterfactual
    #: of benchmarks/wired_models a program takes 2 milliseconds.)
    programs: int = 8


@dataclass(frozen=True)
class PointSettings:
    """Sequences of linear programs between the rounds of a search."""

    #: So many programs come before the first round.
    first: int = 60
    #: Before one long program there are so many turns of as many, in this share of the time.
    turns_before: int = 8
    share_before: float = 0.1
    #: Then there is one after each round without a point, and so many after one in so many.
    more: int = 4
    every: int = 4
    #: The programs of a turn take so many seconds together at most, and a mixed-integer
    #: program a tenth of them.
    seconds: float = 10.0
    #: A turn ends after so many CPU seconds once there is a point.
    with_point: float = 0.3
    #: Beside a program that may take long, and in ``relu`` as long as no search's end is
    #: in sight, points get this share of the CPU time, at least so many seconds at once.
    #: (neur2sp of benchmarks/wired_models: 40.6 after 0.4 seconds of points, 31.9 after 2.4;
    #: production: its optimum after 1.9; with 0.3 seconds in eight neither was met.)
    share: float = 0.25
    #: In ``relu`` this one where boxes or polytopes mostly prove the best point within seconds.
    share_on_few: float = 0.1
    #: Time counts for these shares until so many CPU seconds after the best point improved, and
    #: so many times as long as that took; from then on it counts by ``stale``. (The best point
    #: of mpc10 is there after a second and its proof after twenty, of which points had five.)
    fresh: float = 4.0
    fresh_growth: float = 4.0
    stale: float = 0.2
    least_turn: float = 0.05
    #: A point is handed on if it violates the other view by no more than this.
    feasible: float = 1e-6


@dataclass(frozen=True)
class TurnSettings:
    """Which searches take part, and for how many boxes in their first turns."""

    #: A subsystem with more inputs goes to the MIP: at 10 inputs boxes and MIP are about
    #: even.
    most_inputs: int = 16
    #: From so many inputs on sides of neurons come before boxes.
    many_inputs: int = 7
    #: With more inputs that can move, or at most so many undecided neurons at the root, a
    #: MIP takes part.
    mip_inputs: int = 10
    mip_neurons: int = 40
    #: First turns with few inputs. (A subproblem with fixed sides costs about twice as
    #: much as a box.)
    boxes: float = 4_000.0
    sides: float = 500.0
    #: First turns with many inputs.
    many_boxes: float = 1_000.0
    many_sides: float = 4_000.0
    #: The MIP's first turn, and how many boxes take as long as one node of its tree.
    mip: float = 4_000.0
    boxes_per_node: float = 40.0


@dataclass(frozen=True)
class NarrowingSettings:
    """Linear programs that bound inputs and pre-activations over the whole problem."""

    #: All bounds are gone over at most so often, and again while undecided pre-activations get
    #: narrower, all together, than by this factor.
    rounds: int = 4
    smaller: float = 0.8
    #: Inputs that are bounded by two linear programs each, at most.
    most_inputs: int = 200
    #: Pre-activations are written over the program's columns so many at once, dense.
    at_once: int = 200
    #: Seconds of one linear program at most.
    seconds: float = 2.0
    #: Bounds are widened by so much, relative to 1 more than their size: a point counts
    #: whose rows hold to a tolerance of this size.
    margin: float = 1e-6


COST = CostSettings()
BRANCHING = BranchingSettings()
BOXES = BoxSettings()
INCUMBENT = IncumbentSettings()
CELLS = CellSettings()
PRICES = PriceSettings()
PIECES = PieceSettings()
SIDES = SideSettings()
ROW_SIDES = RowSideSettings()
TURNS = TurnSettings()
POINTS = PointSettings()
NARROWING = NarrowingSettings()
