"""What steers ``relu``: one record."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TurnsSettings:
    """Which search goes first, and for how long; measured on ``benchmarks/wired.py``."""

    #: The search of the networks goes alone for so many CPU seconds, and so many more for
    #: each network: as long as writing the copy for the MIP takes (17 ms a network of
    #: 3-10-10-1 with ``auto`` on student250), so that the copy at most doubles the time.
    alone: float = 0.3
    alone_each: float = 0.017
    #: Where only the box constrains the inputs, it goes alone for so many times as long: there
    #: the MIP is hardly ever the quicker one (``benchmarks/solve.py``).
    alone_on_boxes: float = 100.0
    #: Likewise where few inputs stand among rows (cvar20, qnet8, mpc10d).
    alone_on_few: float = 10.0
    #: Likewise where SCIP has the networks as constraints among rows on many inputs or on
    #: subsystems: it is mostly the quicker one (secure_uc 1.0 CPU seconds for 3.6 by HiGHS,
    #: counterfactual 1.8 for 6.5; bounds of production and flowsheet after eight seconds).
    alone_on_rows: float = 4.0
    #: Likewise where subsystems are few polytopes each: plant24 is proved in three seconds
    #: by programs over these, gaslift17 in half a second; HiGHS alone leaves plant24 open.
    alone_on_polytopes: float = 20.0
    #: While the MIP runs, the search of the networks gets this share of the CPU time where
    #: both may be the quicker one, ...
    share: float = 0.5
    #: ... this one where few values of the inputs make the MIP small, ...
    share_beside_tables: float = 0.2
    #: ... and the search for points this one, where there is no search of the networks: with
    #: and without a point.
    points_share: float = 0.1
    points_share_without: float = 0.5
    #: The search that will be done first, judged by how its bound grew, gets so many times as
    #: much CPU time as another, so that the others cost a sixth of it.
    lead: float = 6.0
    #: The MIP is that one until it has had this share of what the networks' search had when the
    #: MIP began, and so many CPU seconds: one that begins later isn't judged by its first
    #: nodes. (A share of what the other search has by now gave HiGHS a third of all time on
    #: flowsheet and production, where SCIP's bound is far better.)
    trial: float = 0.5
    least_trial: float = 1.0
    #: Where narrowing made pre-activations ``much_narrower`` it is that one as long as it has had
    #: less than so many times what the others have had, ...
    trial_of_small: float = 2.0
    #: ... after so many CPU seconds alone. (counterfactual is proved in half a second of it;
    #: SCIP's first turn took one.)
    alone_if_small: float = 5.0
    #: A search that has had ``least_trial`` CPU seconds is hopeless where its gap is so many times
    #: another's, unless its end is forecast as the first: then the leader gets ``lead`` squared
    #: times as much. (mpc10: HiGHS is at 2.9 and prices are at 6.2 where SCIP is at 7.64 of 7.711;
    #: the two cost 12 of 40 CPU seconds.)
    hopeless: float = 10.0
    #: Where no search's bound grows, the one whose gap is so many times smaller than that of
    #: each other one is taken for the one that will be done first. (mpc10 of
    #: ``benchmarks/wired.py``: SCIP's bound stays at 7.264 for seconds before it closes, while
    #: HiGHS is at 1.9 of 7.711.)
    clearly_nearer: float = 2.0
    #: A search's end is in sight where it is likely to come before so many times what the
    #: search has had; then points get no more turns of their own.
    in_sight: float = 2.0
    #: Searches of the networks take turns of so many CPU seconds, and of this share of what
    #: each has had so far.
    turn: float = 0.1
    turn_growth: float = 0.5
    #: SCIP gets so many nodes in a call, and this share of its tree where that is more.
    scip_nodes: int = 20
    scip_growth: float = 0.1
    #: Beside boxes, prices or polytopes SCIP begins after so many CPU seconds of theirs, from which
    #: their end can be forecast, ...
    scip_after: float = 0.3
    #: ... and waits while that is likely to come before so many times what they have had,
    #: but no longer than so many CPU seconds. (cvar20 is proved by boxes in three, of which
    #: to begin with SCIP would take one and a half; mpc10d's boxes are forecast for never.)
    soon: float = 5.0
    wait_at_most: float = 5.0
    #: Where many inputs stand among rows and outputs are in rows only, sides among rows begin
    #: after so many CPU seconds of the others: counterfactual and secure_uc are proved before.
    row_sides_after: float = 5.0
    #: Turns are at least so many CPU seconds long, or what they share would be lost in calls.
    least_turn: float = 0.05
    #: A MIP is closed to this share of the gaps asked for, so that the margins of bounds and
    #: the networks' own values at its point can't open them again.
    mip_gap: float = 0.9
    #: Before the MIP is written inputs and pre-activations are bounded for so many CPU seconds,
    #: and for this share of what all searches have had. (wfp_2x30: 0.5 CPU seconds make
    #: the intervals of its neurons thirteen times smaller, and HiGHS proves in two what all
    #: searches together had left open after sixty; nothing is gained on flowsheet, production,
    #: neur2sp and mpc10, where neurons are bounded but hardly any are decided.)
    narrowing: float = 1.0
    narrowing_share: float = 0.3
    #: Where many inputs stand among rows and all networks have at most so many neurons, they
    #: are narrowed right after the first search for points; where that makes undecided
    #: pre-activations so many times narrower, all together, the MIP begins at once. (Seeds 0 and
    #: 1: counterfactual 6.0 and 7.6, wfp_1x50 and wfp_2x30 10.3 and more, neur2sp
    #: 1.1 for 0.2 CPU seconds; secure_uc with 244 neurons 1.3 after a second.)
    few_neurons: int = 150
    much_narrower: float = 3.0
    #: A MIP is written at most so often: anew where the best point is better by this share of
    #: the gap than when it was written.
    mips: int = 4
    better: float = 0.2
    #: What belongs to a point inside the networks is solved for in so many seconds at most.
    completion: float = 2.0
    #: The MIP is the copy in the forms that suit where at least this share of the networks has
    #: no more than ``small_inputs`` inputs of any value, so that they are curves, polygons or
    #: tables; else all networks are one program of big-M rows, which is written sooner.
    #: (plant24 after ten seconds: bound 1560 with polygons, 416 with big-M; where networks have
    #: three and more inputs ``auto`` is big-M as well.)
    small_share: float = 0.5
    small_inputs: int = 2
    #: A network with at most this many combinations of its inputs' values becomes a table.
    most_values: int = 1000


TOGETHER = TurnsSettings()
