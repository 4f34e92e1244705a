"""What steers ``relu_scip``: one record for each part. Numbers were chosen by hand where
no measurement is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class HandlerSettings:
    """The constraint handler."""

    #: An output may be off its network's value by this, relative to it from 1 on.
    tolerance: float = 1e-6
    #: A node gets planes in so many rounds at most before it is branched on, the root in
    #: more: SCIP would go on for ever, for less and less.
    rounds: int = 2
    root_rounds: int = 20
    #: A plane is worth a row if the LP's point breaks it by this share of the output's
    #: range in the box ...
    worth: float = 1e-2
    #: ... and by this share of the tolerance.
    least: float = 0.1
    #: A plane of a product, likewise, by this share of both factors' widths. CPU seconds to
    #: the proof of price_nl at 1e-2, 1e-3, 1e-4 and 0: 4.9, 2.0, 2.1, 1.9 (busy machine).
    product: float = 1e-3
    #: A plane of two outputs, by this share of their ranges.
    joint: float = 1e-2
    #: A bound that propagation finds is worth a change if it cuts this share of the width.
    cuts: float = 1e-3
    #: A network is propagated again where a bound of one of its variables has moved by this
    #: share of the width since it was the last time. Calls for 300 nodes of gaslift17 at
    #: every change 1,398, at 0.05 877, for the same tree; mpc10 at 0.001 1,163, at 0.2 678.
    again: float = 0.1
    #: Bounds that propagation finds are looser by this, relative to them from 1 on.
    loose: float = 1e-9
    #: Before the tree, rows and networks narrow each other's bounds in so many rounds at
    #: most, and a network is bounded again where an input keeps less than this share of its
    #: width. Bounds after 300 nodes without and with (busy machine): mpc10 7.04, 7.57 (optimum
    #: 7.711), flowsheet 12.45, 11.91 (9.05), gaslift17 163.93, 163.58 (162.54).
    reach_rounds: int = 12
    reach_gain: float = 0.95
    #: The rows of a model that has more stay out of it: each takes some 50 microseconds in
    #: each of four passes.
    reach_rows: int = 5000
    #: A box narrower than this, relative to its ends from 1 on, is not split any more: SCIP
    #: takes numbers that differ by 1e-9 for one.
    narrow: float = 1e-8
    #: An input is split between its middle, with this weight, and the LP's point. Bounds
    #: after 4 CPU s at 0.7 and at 0.5, each one run on a busy machine: better on two models
    #: (mpc10 5.75, 6.04; flowsheet 12.96, 12.61), worse on one (plant24 1665, 1663).
    middle: float = 0.5
    #: ... and no nearer to an end than this share of its width.
    inner: float = 0.2
    #: What an input's width counts beside its effect, relative to the largest effect.
    by_width: float = 1e-9
    #: Sides of neurons may be branched on where no more than so many are undecided over the
    #: whole box.
    most_sides: int = 2000
    #: Sides of a network's neurons are branched on as long as more of its inputs than this
    #: are free, its inputs from then on. Bounds after 1,500 nodes with inputs and with
    #: sides: wfp_1x50 (25 inputs) 4.24, 4.58; wfp_2x30 4.03, 4.57; after 300 nodes: mpc10
    #: (3 inputs) 6.92, 5.34. Sides also where no more than 4 or 10 neurons are undecided,
    #: however few inputs there are, gained nothing: mpc10d after 400 nodes 7.609 without,
    #: 7.599, 7.594. With 5 in place of 10, one run each on a busy machine: tariffs (6 inputs,
    #: in products) open after 12 CPU s, 2.7; acopf9 (6) after 8 CPU s 5276.7, 5337.3.
    few_inputs: int = 10
    #: A column is not branched on if its score is below this share of the best: what it
    #: gained when it was wide says nothing of it then.
    promising: float = 1e-2
    #: What is known of a column's gains counts against the average of all from so many
    #: branchings on.
    reliable: float = 4.0
    #: The gain on one side counts as this share of the other's at least.
    one_sided: float = 1e-6
    #: Where there are nonlinear terms, networks are enforced before them (SCIP's priority of
    #: terms is 50), and say whose turn a node is: that of what is further off. SCIP takes a
    #: term as it is below this, relative to it from 1 on. Bounds after 300 nodes with
    #: networks only when terms hold, with networks always first, and so: arm 0.81, 0.11,
    #: 0.06 % gap, mixing 41, 93, 45 %, reactor 4.2, 47, 2.0 %, tariffs 52, 24, 30 %.
    before_terms: int = 60
    term_off: float = 1e-6
    #: A row may be off by this where outputs are moved to their networks' values: SCIP's
    #: tolerance of points.
    row_off: float = 1e-7
    #: A range of this size is none.
    endless: float = 1e19
    #: So many boxes of one network are remembered.
    remembered: int = 2000
    #: Planes of the latest box serve a box inside as long as no input has lost more than
    #: this share of its width.
    reuse: float = 0.2
    #: A box that is new takes bounds of neurons from the latest of so many before it that
    #: is around it.
    recent: int = 16
    #: A coefficient of a row below this share of the largest one gives way to a constant,
    #: since SCIP drops what is tiny.
    tiny: float = 1e-9


@dataclass(frozen=True)
class PolytopeSettings:
    """Neurons over the polytope of the program's rows."""

    #: It is left alone for so many nodes: what is solved by then needs no more.
    nodes: int = 10
    #: CPU seconds that it may take, and the share of all CPU time from then on.
    first: float = 0.2
    share: float = 0.1
    #: Seconds of one linear program at most.
    seconds: float = 1.0
    #: Inputs that are bounded by two linear programs each, at most.
    most_inputs: int = 100
    #: It is gone over all neurons again while they get narrower than by this factor ...
    smaller: float = 0.95
    #: ... and when the best point has become better by this share of the gap.
    better: float = 0.05


@dataclass(frozen=True)
class NarrowedSettings:
    """Inputs and neurons over rows, triangles and the best point's cost.

    CPU seconds to the proof without and with it and one program for the whole tree, each one
    run on a busy machine: wfp_2x30 open after 25 (4.714 of 4.873), 12.0; wfp_1x50 open after
    20, 13.3; counterfactual 3.7, 1.6; qnet8 2.1, 1.9. Nothing is gained on secure_uc (1.7,
    1.9), flowsheet and production: after 4 seconds of it neurons are narrower by 14 and
    16 %, and bounds after 300 nodes 11.98 (11.93 without) and 1.786 (1.783).
    """

    #: CPU seconds that it may take, and the share of all CPU time from then on.
    first: float = 1.0
    share: float = 0.1
    #: After so many CPU seconds it goes on where neurons have become narrower by this factor,
    #: else all stays as it was: a little of it made the bound of flowsheet worse (after 300
    #: nodes 12.45 and 13.26 for 11.94 and 12.01).
    probe: float = 0.2
    smaller: float = 0.9
    #: After so many tries in vain it is asked again only before the whole tree is tried.
    tries: int = 2
    #: It is asked again when the best point has become better by this share of the gap.
    better: float = 0.1


@dataclass(frozen=True)
class EndGameSettings:
    """Nodes with few undecided neurons, as small MIPs."""

    #: A node is small with so many undecided neurons and free integers at first, with so
    #: many more, as a factor, after each that was closed, and with so many fewer after each
    #: that wasn't; never with more than the largest. CPU seconds to the proof without and
    #: with, each one run on a busy machine: mpc10 31.0, 23.5; counterfactual open after 12,
    #: 3.5 (10.2 from 30 on). Flowsheet and production have no node with fewer than 120
    #: within 12 s. On wfp_1x50 half of the time in programs (50 neurons, 500 nodes) left
    #: the bound behind, 4.81 after 40 s: hence the share.
    first: int = 40
    grow: float = 1.1
    shrink: float = 0.8
    largest: int = 60
    #: Nodes and seconds of one program at most.
    nodes: int = 200
    seconds: float = 5.0
    #: CPU seconds that all may take, and the share of all CPU time from then on.
    begin: float = 1.0
    share: float = 0.25
    #: The whole tree is tried as one program, where no more neurons than so many are
    #: undecided, for so many CPU seconds, and again for twice as many each time, as far as
    #: this share of all CPU time allows. (With the best point's cost HiGHS closes wfp_2x30
    #: in 1.6 seconds, with that of the first point not in two.)
    whole: int = 80
    #: After so many nodes: what is solved by then needs no more.
    whole_nodes: int = 20
    whole_seconds: float = 2.0
    whole_share: float = 0.4
    #: Where too many are undecided they are counted again after so many times as long.
    whole_later: float = 1.5


@dataclass(frozen=True)
class ImpliedSettings:
    """Bounds of columns by choices, through rows and networks.

    CPU seconds without and with it, one run each on a busy machine: secure_uc 3.8, 2.9;
    gaslift17 6.3, 5.8. Bounds: pricing20 455.6 after 60 (idle), 197.7 after 20 (optimum
    below 170.9); production after 14 1.687, 1.668; plant24 after 20 1665.89, 1665.80.
    """

    #: Rows and planes tighten bounds in so many rounds.
    rounds: int = 4
    #: A row is worth it where the LP's point breaks it by this share of the column's range.
    worth: float = 1e-2
    #: So many rows for each bound of a column, and all together, in a round.
    each: int = 2
    most: int = 60


@dataclass(frozen=True)
class SidesBesideSettings:
    """The search by sides among rows, beside SCIP's tree."""

    #: It begins after so many nodes and CPU seconds: what is solved by then needs no more.
    nodes: int = 10
    after: float = 1.0
    #: It has half of the CPU time until it has had so many seconds, ...
    trial: float = 1.0
    #: ... and this share where its bound is so many times nearer to the best point than SCIP's
    #: is; where SCIP's is so much nearer, what is left.
    lead: float = 0.85
    nearer: float = 2.0
    #: It closes this share of the gaps asked for, so that what its own tolerances leave can't open
    #: them again.
    gap: float = 0.9


@dataclass(frozen=True)
class PointSettings:
    """The search for points before SCIP and within it."""

    #: Seconds before SCIP, where the options don't say otherwise.
    start_time: float = 1.0
    #: It never takes more than this share of the time limit.
    share: float = 0.1
    #: It ends after so many turns in a row without a better point, where all columns are
    #: continuous and terms nonlinear, after one elsewhere: bounds of variables at the root are
    #: as good as the best point's cost. After one turn and after four in vain, CPU seconds
    #: in brackets: reactor 3.856 (0.2), 3.939 (0.5); mixing 3.051 (0.2), 3.290 (0.4); acopf9
    #: 5414 (0.9), 5342.3 (1.1); acopf3 the same point (0.3, 0.6).
    patience: int = 4
    #: Within SCIP programs that look for points get these shares of the CPU time, with and
    #: without a point, in pieces of so many seconds at least and so many programs.
    with_point: float = 0.1
    without: float = 0.5
    least: float = 0.05
    programs: int = 4
    #: The networks are evaluated at the LP's point of one node in so many, once there is a
    #: point.
    every: int = 10
    #: A point counts if rows and bounds hold to this.
    feasible: float = 1e-6
    #: CPU seconds for Newton's steps from the point that SCIP ends with.
    closing: float = 1.0


@dataclass(frozen=True)
class ScipSettings:
    """Parameters of SCIP."""

    #: Gaps where the options don't say otherwise: those of the package's other solvers.
    rel_gap: float = 1e-4
    abs_gap: float = 1e-6
    #: With networks. Outputs have to be off by less than the tolerance where the LP keeps
    #: its own; what SCIP can't see must not be reduced away: reductions that keep but one
    #: optimum and symmetry are off, and so is what solves copies of the problem, which have
    #: no networks, and restarts.
    #: What follows from the best point's cost alone (SCIP's weak dual reductions, bounds of
    #: variables by linear programs among them) loses no better point, whatever constraints
    #: there are. CPU seconds without and with it and without the perspectives of convex
    #: terms, after which SCIP splits inputs of terms that cuts would close (one run each,
    #: busy machine): dispatch 5.7, 2.8; acopf3 3.0, 1.2; portfolio 3.6, 2.8; tariffs 2.3,
    #: 2.3; arm 1.8, 3.4; bound of price_nl after 8 s 29.87, 28.57 (optimum 27.12).
    #: Where rows, terms and outputs leave a single point, SCIP's propagation of terms has to
    #: forgive more than the last bits of the outputs' bounds: with its own 1e-9, relative to
    #: the bounds, it took the optimum of a random model (35) for infeasible.
    with_networks: Mapping[str, Any] = field(
        default_factory=lambda: MappingProxyType(
            {
                "numerics/feastol": 1e-7,
                "misc/allowstrongdualreds": False,
                "misc/usesymmetry": 0,
                "presolving/maxrestarts": 0,
                "presolving/implint/maxrounds": 0,
                "presolving/dualcomp/maxrounds": 0,
                "presolving/dualinfer/maxrounds": 0,
                "presolving/dualagg/maxrounds": 0,
                "presolving/domcol/maxrounds": 0,
                "presolving/stuffing/maxrounds": 0,
                "constraints/nonlinear/branching/domainweight": 1.0,
                "constraints/nonlinear/varboundrelax": "a",
                "constraints/nonlinear/varboundrelaxamount": 1e-8,
                "constraints/nonlinear/conssiderelaxamount": 1e-8,
                "nlhdlr/perspective/enabled": False,
                "constraints/components/maxprerounds": 0,
                "constraints/components/propfreq": -1,
            }
        )
    )
    #: Where columns are continuous and terms nonlinear, variables of terms are bounded by
    #: linear programs at every node of a depth that this divides, and not at the root only.
    #: How far bounds were off without it, with 1 and with 4: reactor after 5 CPU s 0.5, 0.2,
    #: 0.13 %; mixing after 8 CPU s 28, 23, 20 %; acopf9 0.2 % after 9 CPU s without it, 0.012 %
    #: after 12 with 4. With integers nothing is gained: pumps after 12 CPU s 17.1 % without it
    #: and 17.3 % with 4, tariffs proved in 3.7 s each, dispatch in 4.5 and open after 10. One
    #: run each on a busy machine.
    obbt_every: int = 4
    #: The best point, with the networks evaluated at it, may cost this much more than as
    #: SCIP has it, relative to the cost from 1 on.
    polished: float = 1e-6
    #: Heuristics of SCIP that solve copies of the problem.
    copying: tuple[str, ...] = (
        "alns", "clique", "completesol", "crossover", "dins", "dks", "dps", "gins",
        "localbranching", "lpface", "mpec", "multistart", "mutation", "ofins", "padm",
        "proximity", "reoptsols", "rens", "rins", "subnlp", "trustregion", "undercover",
        "vbounds", "zeroobj",
    )  # fmt: skip


END_GAME = EndGameSettings()
HANDLER = HandlerSettings()
IMPLIED = ImpliedSettings()
NARROWED = NarrowedSettings()
POINTS = PointSettings()
POLYTOPE = PolytopeSettings()
SCIP = ScipSettings()
SIDES_BESIDE = SidesBesideSettings()
