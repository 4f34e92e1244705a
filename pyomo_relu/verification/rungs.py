"""The rungs of `verify`, in the order of their cost.

Projected gradients look for a counterexample; linear bounds prove sets unreachable; with
few inputs, branch and bound on the inputs, first of all sets in one batch, then by
``relu_global``; else optimized linear bounds, a longer attack, branch and bound on the
sides of neurons, and a mixed-integer program for each unsafe set that is left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.bounds import Bounds, compute_bounds, linear_bounds_of
from pyomo_relu.bounds.crown import CHUNK, crown_arrays
from pyomo_relu.bounds.interval import meet
from pyomo_relu.bounds.linear import RULES
from pyomo_relu.network import Affine
from pyomo_relu.sides.refined import side_bounds, without_inactive
from pyomo_relu.sides.relu_chain import ReluChain
from pyomo_relu.verification.balls import both_ends, bounds_in_ball
from pyomo_relu.verification.by_relu_global import decide_by_relu_global
from pyomo_relu.verification.input_region import Ball
from pyomo_relu.verification.input_splitting import split_inputs
from pyomo_relu.verification.margin_mip import MarginMIP
from pyomo_relu.verification.margins import greatest, least
from pyomo_relu.verification.neuron_splitting import split_neurons
from pyomo_relu.verification.settings import VERIFY

if TYPE_CHECKING:
    from pyomo_relu.verification.ladder import Ladder


def attack_first(ladder: Ladder) -> None:
    """Projected gradients, in many sets for the first ones only if bounds follow."""
    most = VERIFY.first_sets if "bounds" in ladder.methods else None
    ladder.attack(VERIFY.first_attack, most)


def bound(ladder: Ladder) -> None:
    """Linear bounds with every rule, and an attack from where they are attained."""
    clock = Deadline()
    network, ball = ladder.margins.network, ladder.margins.ball
    if ball is None:
        asked = [i for i, x in enumerate(network.nodes) if isinstance(x, Affine)]
        box = ladder.region.lower[None], ladder.region.upper[None]
        lows, highs = crown_arrays(network, *box, None, asked[:-1])
    else:
        lows, highs = bounds_in_ball(network, ball)
    _bound_rows(ladder, lows, highs)
    lower, upper = (tuple(np.array(a[0]) for a in side) for side in (lows, highs))
    ladder.bounds = Bounds(network, lower, upper, "crown", clock.elapsed)
    if not ladder.done():
        ladder.narrow()
        ladder.attack(VERIFY.attack_after_bounds)


def _bound_rows(ladder: Ladder, lows: list[np.ndarray], highs: list[np.ndarray]) -> None:
    """Tighten the bounds (1, k) of the property's rows, in place, by every rule."""
    margins, region = ladder.margins, ladder.region
    network, node = margins.network, margins.node
    box = region.lower[None], region.upper[None]
    low, high = lows[node], highs[node] = np.array(lows[node]), np.array(highs[node])
    owners = np.repeat(ladder.active, np.diff(margins.ends))
    step = max(1, CHUNK // (2 * max(x.size for x in network.nodes)))
    for rule in RULES:
        # The rows of an excluded set need no further rule.
        rows = margins.rows_of(ladder.local(ladder.open()))
        for some in (rows[k : k + step] for k in range(0, len(rows), step)):
            found = linear_bounds_of(network, *box, lows, highs, node, some, rule)
            best, top = least(found, *box), greatest(found, *box)
            if margins.ball is not None:
                in_ball = both_ends(found, margins.ball)
                best, top = np.maximum(best, in_ball[0]), np.minimum(top, in_ball[1])
            low[:, some], high[:, some] = meet(low[:, some], high[:, some], best, top)
            # Where a bound is attained is a better start than any random point: it
            # sees through the plateaus on which gradients vanish.
            ladder.starts.add_corners(owners[some], found.lower[0])
        ladder.raise_rows(low[0])


def split_on_inputs(ladder: Ladder) -> None:
    """Branch and bound on the inputs, all sets in one batch."""
    region, wide = ladder.region, ladder.region.free
    if isinstance(region, Ball) and region.norm == "l1" and wide > 2:
        return  # boxes know little of such a ball
    if wide > VERIFY.batched_inputs:
        ladder.method = "bounds"
        return
    last = ladder.methods[-1] == "splitting"
    sets = ladder.open()
    found = split_inputs(
        ladder.margins,
        ladder.local(sets),
        ladder.seen.confirm,
        ladder.deadline if last else ladder.deadline.part(VERIFY.boxes_share),
        max_boxes=None if last else VERIFY.first_boxes,
    )
    ladder.details["boxes"] = found.boxes
    ladder.seen.witness = found.witness
    ladder.lower[sets] = np.maximum(ladder.lower[sets], found.lower)


def ask_relu_global(ladder: Ladder) -> None:
    """Branch and bound on the inputs, one set after the other."""
    if ladder.region.free > VERIFY.few_inputs:
        return
    for d, deadline in ladder.in_turn(ladder.open(), ladder.deadline):
        local, confirm = int(ladder.local(d)), ladder.seen.confirm
        found = decide_by_relu_global(ladder.margins, local, confirm, deadline)
        ladder.take(d, found, "boxes")


def _optimize(ladder: Ladder) -> None:
    """Optimized bounds and a longer attack, once."""
    if ladder.optimized:
        return
    ladder.optimized = True
    method, region = ladder.method, ladder.region
    if not ladder.bounds:
        bound(ladder)
    if not ladder.done() and ladder.margins.ball is None:
        ladder.method = "alpha_crown"
        ladder.bounds = compute_bounds(
            ladder.margins.network,
            region.lower,
            region.upper,
            "alpha_crown",
            start=ladder.bounds,
            time_limit=ladder.deadline.part(VERIFY.optimized_share).limit,
        )
        ladder.raise_rows(ladder.bounds.lower[ladder.margins.node])
    ladder.narrow()
    if not ladder.done():
        ladder.method = "attack"
        ladder.attack(VERIFY.long_attack)
    if not ladder.done():
        ladder.method = method


def split_on_neurons(ladder: Ladder) -> None:
    """Branch and bound on the sides of neurons, for sets of one row."""
    margins = ladder.margins
    if margins.ball is not None or not ReluChain.fits(margins.network):
        return
    _optimize(ladder)
    if ladder.done():
        return
    assert ladder.bounds is not None  # the optimized ones
    several = "mip" in ladder.methods
    known = ladder.bounds.statistics()
    if several and known["neurons"] - known["stable"] <= VERIFY.few_unstable:
        return
    # The rest of the time is for the programs: small networks are quicker there.
    deadline = ladder.deadline
    if several:
        deadline = deadline.part(VERIFY.neurons_share)
    for nodes in VERIFY.refined_nodes:
        if nodes and not ladder.done():
            refine(ladder, deadline, nodes)
        ladder.narrow()
        if not ladder.done():
            search_sides(ladder, deadline, VERIFY.few_splits)
    if not ladder.done():
        search_sides(ladder, deadline)


def refine(ladder: Ladder, deadline: Deadline, nodes: int) -> None:
    """Tighter bounds of the neurons inside."""

    def enough(bounds: Bounds) -> bool:
        ladder.raise_rows(bounds.lower[ladder.margins.node])
        return ladder.done()

    assert ladder.bounds is not None
    ladder.bounds = side_bounds(
        ladder.margins.network,
        ladder.bounds,
        time_limit=deadline.part(VERIFY.refined_share).limit,
        nodes=nodes,
        enough=enough,
    )
    ladder.count("splits", ladder.bounds.details["subproblems"])


def search_sides(ladder: Ladder, deadline: Deadline, most: float = np.inf) -> None:
    """Search one set of one row after the other, the easiest first.

    With at most ``most`` subproblems the first one that is not decided ends it.
    """
    margins, bounds = ladder.margins, ladder.bounds
    assert bounds is not None
    rows = np.eye(margins.network.n_outputs)
    begins = dict(zip(ladder.active.tolist(), margins.ends.tolist()))
    small = without_inactive(margins.network, bounds.lower, bounds.upper, margins.node)
    single = ladder.active[np.diff(margins.ends) == 1]
    for d, limit in ladder.in_turn(np.intersect1d(ladder.open(), single), deadline):
        chain = ReluChain(*small, rows[begins[d]])
        found = split_neurons(chain, ladder.seen.confirm, limit, most)
        ladder.take(d, found, "splits")
        if not found.proved and most < np.inf:
            return


def solve_programs(ladder: Ladder) -> None:
    """One program for each set that is left, the easiest first."""
    _optimize(ladder)
    if ladder.done():
        return
    bounds = ladder.bounds
    assert bounds is not None  # the optimized ones
    ladder.method = "mip"
    ladder.count("nodes", 0)
    for d, deadline in ladder.in_turn(ladder.open(), ladder.deadline):
        local, confirm = int(ladder.local(d)), ladder.seen.confirm
        program = MarginMIP(ladder.margins, local, bounds.lower, bounds.upper, confirm)
        found = program.solve(deadline)
        ladder.take(d, found, "nodes")
        most = max(found.binaries, ladder.details.get("binaries", 0))
        ladder.details["binaries"] = most


#: The rungs by the names that ``methods=`` of `verify` takes.
RUNGS: dict[str, Callable[[Ladder], None]] = {
    "attack": attack_first,
    "bounds": bound,
    "splitting": split_on_inputs,
    "relu_global": ask_relu_global,
    "neurons": split_on_neurons,
    "mip": solve_programs,
}
