"""The rungs of `verify`, in the order of their cost.

Projected gradients look for a counterexample; linear bounds prove sets unreachable; with
few inputs, branch and bound on the inputs, first of all sets in one batch, then by
``relu_global``; else optimized linear bounds, a longer attack, branch and bound on the
sides of neurons, and a mixed-integer program for each unsafe set that is left.

A rung looks first whether it has anything to say about the problem. If not, it returns at
once; if it has, it puts its name into the verifier's ``method`` and goes to work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.bounds import Bounds, compute_bounds, linear_bounds_of
from pyomo_relu.bounds.balls import both_ends, bounds_in_ball
from pyomo_relu.bounds.chain import without_inactive
from pyomo_relu.bounds.crown import CHUNK, crown_arrays
from pyomo_relu.bounds.interval import meet
from pyomo_relu.bounds.linear import RULES
from pyomo_relu.network import Affine
from pyomo_relu.sides.refined import side_bounds
from pyomo_relu.sides.relu_chain import ReluChain
from pyomo_relu.verification.by_relu_global import decide_by_relu_global
from pyomo_relu.verification.input_region import Ball
from pyomo_relu.verification.input_splitting import split_inputs
from pyomo_relu.verification.margin_mip import MarginMIP
from pyomo_relu.verification.margins import greatest, least
from pyomo_relu.verification.neuron_splitting import split_neurons
from pyomo_relu.verification.verify_settings import VERIFY

if TYPE_CHECKING:
    from pyomo_relu.verification.verifier import Verifier


def attack_first(verifier: Verifier) -> None:
    """Projected gradients, in many sets for the first ones only if bounds follow."""
    verifier.method = "attack"
    most = VERIFY.first_sets if "bounds" in verifier.methods else None
    verifier.attack(VERIFY.first_attack, most)


def bound(verifier: Verifier) -> None:
    """Linear bounds with every rule, and an attack from where they are attained."""
    verifier.method, clock = "bounds", Deadline()
    network, ball = verifier.margins.network, verifier.margins.ball
    if ball is None:
        asked = [i for i, x in enumerate(network.nodes) if isinstance(x, Affine)]
        box = verifier.region.lower[None], verifier.region.upper[None]
        lows, highs = crown_arrays(network, *box, None, asked[:-1])
    else:
        lows, highs = bounds_in_ball(network, ball)
    _bound_rows(verifier, lows, highs)
    lower, upper = (tuple(np.array(a[0]) for a in side) for side in (lows, highs))
    verifier.bounds = Bounds(network, lower, upper, "crown", clock.elapsed)
    if not verifier.done():
        verifier.narrow()
        verifier.attack(VERIFY.attack_after_bounds)


def _bound_rows(
    verifier: Verifier, lows: list[np.ndarray], highs: list[np.ndarray]
) -> None:
    """Tighten the bounds (1, k) of the property's rows, in place, by every rule."""
    margins, region = verifier.margins, verifier.region
    network, node = margins.network, margins.node
    box = region.lower[None], region.upper[None]
    low, high = lows[node], highs[node] = np.array(lows[node]), np.array(highs[node])
    owners = np.repeat(verifier.active, np.diff(margins.ends))
    step = max(1, CHUNK // (2 * max(x.size for x in network.nodes)))
    for rule in RULES:
        # The rows of an excluded set need no further rule.
        rows = margins.rows_of(verifier.local(verifier.open()))
        for some in (rows[k : k + step] for k in range(0, len(rows), step)):
            found = linear_bounds_of(network, *box, lows, highs, node, some, rule)
            best, top = least(found, *box), greatest(found, *box)
            if margins.ball is not None:
                in_ball = both_ends(found, margins.ball)
                best, top = np.maximum(best, in_ball[0]), np.minimum(top, in_ball[1])
            low[:, some], high[:, some] = meet(low[:, some], high[:, some], best, top)
            # Where a bound is attained is a better start than any random point: it
            # sees through the plateaus on which gradients vanish.
            verifier.starts.add_corners(owners[some], found.lower[0])
        verifier.raise_rows(low[0])


def split_on_inputs(verifier: Verifier) -> None:
    """Branch and bound on the inputs, all sets in one batch."""
    region, wide = verifier.region, verifier.region.free
    if isinstance(region, Ball) and region.norm == "l1" and wide > 2:
        return  # boxes know little of such a ball
    if wide > VERIFY.batched_inputs:
        return
    verifier.method = "splitting"
    last = verifier.methods[-1] == "splitting"
    sets = verifier.open()
    found = split_inputs(
        verifier.margins,
        verifier.local(sets),
        verifier.seen.confirm,
        verifier.deadline if last else verifier.deadline.part(VERIFY.boxes_share),
        max_boxes=None if last else VERIFY.first_boxes,
    )
    verifier.details["boxes"] = found.boxes
    verifier.seen.witness = found.witness
    verifier.lower[sets] = np.maximum(verifier.lower[sets], found.lower)


def ask_relu_global(verifier: Verifier) -> None:
    """Branch and bound on the inputs, one set after the other."""
    if verifier.region.free > VERIFY.few_inputs:
        return
    verifier.method = "relu_global"
    for d, deadline in verifier.in_turn(verifier.open(), verifier.deadline):
        local, confirm = int(verifier.local(d)), verifier.seen.confirm
        found = decide_by_relu_global(verifier.margins, local, confirm, deadline)
        verifier.take(d, found, "boxes")


def _optimize(verifier: Verifier) -> None:
    """Bound the neurons by optimized slopes and attack for longer, once in a run."""
    if verifier.optimized:
        return
    verifier.optimized = True
    region = verifier.region
    if not verifier.bounds:
        bound(verifier)
    if not verifier.done() and verifier.margins.ball is None:
        verifier.method = "alpha_crown"
        verifier.bounds = compute_bounds(
            verifier.margins.network,
            region.lower,
            region.upper,
            "alpha_crown",
            start=verifier.bounds,
            time_limit=verifier.deadline.part(VERIFY.optimized_share).limit,
        )
        verifier.raise_rows(verifier.bounds.lower[verifier.margins.node])
    verifier.narrow()
    if not verifier.done():
        verifier.method = "attack"
        verifier.attack(VERIFY.long_attack)


def split_on_neurons(verifier: Verifier) -> None:
    """Branch and bound on the sides of neurons, for sets that have one row."""
    margins = verifier.margins
    if margins.ball is not None or not ReluChain.fits(margins.network):
        return
    _optimize(verifier)
    if verifier.done():
        return
    assert verifier.bounds is not None  # the optimized ones
    several = "mip" in verifier.methods
    known = verifier.bounds.statistics()
    if several and known["neurons"] - known["stable"] <= VERIFY.few_unstable:
        return
    verifier.method = "neurons"
    # The rest of the time is for the programs: small networks are quicker there.
    deadline = verifier.deadline
    if several:
        deadline = deadline.part(VERIFY.neurons_share)
    for nodes in VERIFY.refined_nodes:
        if nodes and not verifier.done():
            refine(verifier, deadline, nodes)
        verifier.narrow()
        if not verifier.done():
            search_sides(verifier, deadline, VERIFY.few_splits)
    if not verifier.done():
        search_sides(verifier, deadline)


def refine(verifier: Verifier, deadline: Deadline, nodes: int) -> None:
    """Tighten the bounds of the neurons inside by branching on sides."""

    def enough(bounds: Bounds) -> bool:
        verifier.raise_rows(bounds.lower[verifier.margins.node])
        return verifier.done()

    assert verifier.bounds is not None
    verifier.bounds = side_bounds(
        verifier.margins.network,
        verifier.bounds,
        time_limit=deadline.part(VERIFY.refined_share).limit,
        nodes=nodes,
        enough=enough,
    )
    verifier.count("splits", verifier.bounds.details["subproblems"])


def search_sides(verifier: Verifier, deadline: Deadline, most: float = np.inf) -> None:
    """Search one set of one row after the other, the easiest first.

    With at most ``most`` subproblems the first one that is not decided ends it.
    """
    margins, bounds = verifier.margins, verifier.bounds
    assert bounds is not None
    rows = np.eye(margins.network.n_outputs)
    begins = dict(zip(verifier.active.tolist(), margins.ends.tolist()))
    small = without_inactive(margins.network, bounds.lower, bounds.upper, margins.node)
    single = verifier.active[np.diff(margins.ends) == 1]
    for d, limit in verifier.in_turn(np.intersect1d(verifier.open(), single), deadline):
        chain = ReluChain(*small, rows[begins[d]])
        found = split_neurons(chain, verifier.seen.confirm, limit, most)
        verifier.take(d, found, "splits")
        if not found.proved and most < np.inf:
            return


def solve_programs(verifier: Verifier) -> None:
    """Solve one program for each set that is left, the easiest first.

    For smooth units there is none: they are decided by bounds and by splitting inputs.
    """
    if verifier.network.smooth_layers:
        return
    _optimize(verifier)
    if verifier.done():
        return
    bounds = verifier.bounds
    assert bounds is not None  # the optimized ones
    verifier.method = "mip"
    verifier.count("nodes", 0)
    for d, deadline in verifier.in_turn(verifier.open(), verifier.deadline):
        local, confirm = int(verifier.local(d)), verifier.seen.confirm
        program = MarginMIP(verifier.margins, local, bounds.lower, bounds.upper, confirm)
        found = program.solve(deadline)
        verifier.take(d, found, "nodes")
        most = max(found.binaries, verifier.details.get("binaries", 0))
        verifier.details["binaries"] = most


#: The rungs by the names that ``methods=`` of `verify` takes.
RUNGS: dict[str, Callable[[Verifier], None]] = {
    "attack": attack_first,
    "bounds": bound,
    "splitting": split_on_inputs,
    "relu_global": ask_relu_global,
    "neurons": split_on_neurons,
    "mip": solve_programs,
}
