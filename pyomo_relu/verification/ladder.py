"""`verify`: whether a property holds for every input of a region.

A ladder of rising cost, left at the first rung that decides: projected gradients look
for a counterexample; linear bounds prove sets unreachable; with few inputs, branch and
bound on the inputs, first of all sets in one batch, then by ``relu_global``; else
optimized linear bounds, a longer attack, branch and bound on the sides of neurons, and a
mixed-integer program for each unsafe set that is left.

Time and memory are linear in the number of unsafe sets. Of many sets only the most
promising are attacked before the bounds; those that the bounds exclude are left out of
everything that follows.

A counterexample is believed only after the network was run on it in float64, the
property was evaluated on these outputs, and the point lies in the region, each without
a tolerance.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.bounds import Bounds, compute_bounds, linear_bounds_of
from pyomo_relu.bounds.crown import CHUNK, LinearBounds, crown_arrays, meet
from pyomo_relu.bounds.linear import RULES
from pyomo_relu.network import Affine, Network, PiecewiseLinear
from pyomo_relu.sides.refined import side_bounds, without_inactive
from pyomo_relu.sides.relu_chain import ReluChain
from pyomo_relu.verification.attack import attack
from pyomo_relu.verification.balls import both_ends, bounds_in_ball
from pyomo_relu.verification.candidates import Candidates
from pyomo_relu.verification.exact import MarginMIP
from pyomo_relu.verification.input_splitting import split_inputs
from pyomo_relu.verification.inputs_search import search_inputs
from pyomo_relu.verification.margins import Margins, greatest, least
from pyomo_relu.verification.neuron_splitting import split_neurons
from pyomo_relu.verification.properties import Property
from pyomo_relu.verification.regions import Ball, Region, as_region
from pyomo_relu.verification.starts_of_attack import Starts
from pyomo_relu.verification.verdict import Verification

#: The rungs in their order.
METHODS = ("attack", "bounds", "splitting", "relu_global", "neurons", "mip")

#: ``relu_global`` goes to the end for at most this many inputs ...
FEW_INPUTS = 8

#: ... after so many boxes of all sets together, or as many with up to four times the
#: inputs, where the program follows. (ACAS Xu: most are decided by then, in 1 s.)
FIRST_BOXES = 4096

#: So many sets are attacked before the bounds, those with the least margins at a few
#: points. (A counterexample that is easy to find is in one of them; with ten classes it
#: costs a tenth of the bounds.)
FIRST_SETS = 32

#: Rows of excluded sets are dropped where there are more rows than that, and half of the
#: sets are excluded: fewer cost next to nothing.
MANY_ROWS = 64

#: Branch and bound on neurons needs more undecided neurons than that: a program is
#: quicker on few (16 neurons: 6 CPU seconds in vain against 0.3).
FEW_UNSTABLE = 40

#: Share of the time for branch and bound on neurons before the programs.
NEURON_SHARE = 0.9

#: Subproblems of each neuron inside, in rounds; a round that decides most sets is enough.
REFINED_NODES = (0, 60, 1000)

#: A round may take this share of the time that is left for branch and bound on neurons.
REFINED_SHARE = 0.5

#: Subproblems of a set after each round.
FEW_SPLITS = 2000


def verify(
    network,
    region: Region | tuple,
    prop: Property,
    *,
    time_limit: float | None = 60.0,
    methods: Sequence[str] = METHODS,
    reference: Callable[[np.ndarray], np.ndarray] | None = None,
    seed: int = 0,
) -> Verification:
    """Prove a property over a region, or find a counterexample.

    Parameters
    ----------
    network : Network, or what :func:`pyomo_relu.read_network` reads
    region : Box, Ball or (lower, upper)
        Where the inputs are, in the units of the network.
    prop : Property
        See :mod:`pyomo_relu.verification.properties`.
    time_limit : float, optional
        Seconds; None for no limit.
    methods : sequence of str
        The rungs to climb, of :data:`METHODS`.
    reference : callable, optional
        Another program for the same network, ``x (n_inputs,) -> y (n_outputs,)``. A
        counterexample counts only where both agree up to their rounding.
    seed : int
        Of the attack's random starts.

    Returns
    -------
    Verification
        ``undecided`` has the bounds that were reached.

    Raises
    ------
    ValueError
        Where region or property don't fit the network, and for an unknown method.
    """
    if not isinstance(network, Network):
        from pyomo_relu.readers import read_network

        network = read_network(network)
    unknown = sorted(set(methods) - set(METHODS))
    if unknown:
        raise ValueError(f"there is no method '{unknown[0]}'; choose from {list(METHODS)}.")
    if time_limit is not None and time_limit < 0:
        raise ValueError(f"time_limit must not be negative, but is {time_limit}.")
    region = as_region(region, network.n_inputs)
    prop.check(network.n_inputs, network.n_outputs)
    ladder = _Ladder(network, region, prop, time_limit, reference, seed)
    return ladder.climb([m for m in METHODS if m in methods])


class _Ladder:
    """One run of :func:`verify`."""

    def __init__(self, network, region, prop, time_limit, reference, seed) -> None:
        self.begin = time.perf_counter()
        self.deadline = np.inf if time_limit is None else self.begin + time_limit
        self.network, self.region, self.prop, self.seed = network, region, prop, seed
        n = len(prop.unsafe)
        self.lower = np.full(n, -np.inf)
        self.strict = np.array([u.strict for u in prop.unsafe], dtype=bool)
        self.starts = Starts(region)
        self.seen = Candidates(network, region, prop, self.starts, reference)
        self.method = "no unsafe set"
        self.details: dict[str, Any] = {}
        self.bounds: Bounds | None = None
        self.optimized = False
        if not all(len(u.limit) for u in prop.unsafe):
            # A set without rows is everything.
            self.method = "attack"
            self.seen.offer([], region.samples(1, np.random.default_rng(seed)), np.zeros(1))
        elif n:
            self.margins = Margins(network, prop, region)
            self.active = np.arange(n)  # the sets that the margins have

    # ------------------------------------------------------------------------ the run
    def climb(self, methods: Sequence[str]) -> Verification:
        self.methods = methods
        for method in methods:
            if self.done():
                break
            self.method = method
            self._narrow()
            if self.left() <= 0:
                self.details["out_of_time"] = True
                break
            getattr(self, f"_{method}")()
        return self.result()

    def done(self) -> bool:
        return self.seen.witness is not None or not len(self.open())

    def open(self) -> np.ndarray:
        """The sets that aren't excluded."""
        excluded = np.where(self.strict, self.lower >= 0, self.lower > 0)
        return np.flatnonzero(~excluded)

    def local(self, sets: np.ndarray) -> np.ndarray:
        """The numbers of sets among those of the margins."""
        return np.searchsorted(self.active, sets)

    def _narrow(self) -> None:
        """Leave the rows of excluded sets out, where they are many."""
        left = self.open()
        few = self.margins.ends[-1] <= MANY_ROWS
        if few or not len(left) or 2 * len(left) > len(self.active):
            return
        local = self.local(left)
        rows = self.margins.rows_of(local)
        self.margins, self.active = self.margins.only(local), left
        if self.bounds is not None:
            old = self.bounds
            low, high = ((*a[:-1], a[-1][rows]) for a in (old.lower, old.upper))
            self.bounds = replace(old, network=self.margins.network, lower=low, upper=high)

    def left(self) -> float:
        return self.deadline - time.perf_counter()

    def share(self, part: float) -> float:
        """The moment when ``part`` of the time left is spent."""
        now = time.perf_counter()
        return now + part * (self.deadline - now) if np.isfinite(self.deadline) else np.inf

    # ---------------------------------------------------------------------- the rungs
    def _attack(self, restarts: int = 8, steps: int = 25, part: float = 0.1) -> None:
        sets, end = self.open(), self.share(part)
        if len(sets) > FIRST_SETS:
            sets = self._promising(sets, restarts)
            if self.bounds is None and "bounds" in self.methods:
                sets = sets[:FIRST_SETS]
        for block in self.starts.blocks(sets, restarts):
            points, values = attack(
                self.margins,
                self.local(block.sets),
                restarts=restarts,
                steps=steps,
                seed=self.seed,
                deadline=end,
                starts=block.starts,
                own=block.own,
            )
            if self.seen.offer(block.sets, points, values) or time.perf_counter() > end:
                return

    def _promising(self, sets: np.ndarray, count: int) -> np.ndarray:
        """The sets in the order of their margins at a few points."""
        points = self.region.samples(count, np.random.default_rng(self.seed))
        margins = self.margins.of_rows(self.margins.rows(points))[:, self.local(sets)]
        best, values = margins.argmin(axis=0), margins.min(axis=0)
        self.seen.offer(sets, points[best], values)
        return sets[np.argsort(values, kind="stable")]

    def _bounds(self) -> None:
        """Linear bounds with every rule."""
        begin = time.perf_counter()
        network, node = self.margins.network, self.margins.node
        low, high = self.region.lower[None], self.region.upper[None]
        ball = self.margins.ball
        if ball is None:
            asked = [i for i, x in enumerate(network.nodes) if isinstance(x, Affine)]
            lows, highs = crown_arrays(network, low, high, None, asked[:-1])
        else:
            lows, highs = bounds_in_ball(network, ball)
        lows[node], highs[node] = np.array(lows[node]), np.array(highs[node])
        owners = np.repeat(self.active, np.diff(self.margins.ends))
        step = max(1, CHUNK // (2 * max(x.size for x in network.nodes)))
        for rule in RULES:
            # The rows of an excluded set need no further rule.
            rows = self.margins.rows_of(self.local(self.open()))
            for k in range(0, len(rows), step):
                some = rows[k : k + step]
                found = linear_bounds_of(network, low, high, lows, highs, node, some, rule)
                self._meet(found, lows[node], highs[node], some)
                # Where a bound is attained is a better start than any random point: it
                # sees through the plateaus on which gradients vanish.
                self.starts.add_corners(owners[some], found.lower[0])
            self._raise(lows[node][0])
        self.bounds = Bounds(
            network,
            tuple(np.array(a[0]) for a in lows),
            tuple(np.array(a[0]) for a in highs),
            "crown",
            time.perf_counter() - begin,
        )
        if not self.done():
            self._narrow()
            self._attack(restarts=4, steps=40)

    def _meet(self, found: LinearBounds, lows, highs, rows: np.ndarray) -> None:
        """Tighten bounds (1, k) of some rows, in place, by linear ones."""
        box, ball = (self.region.lower[None], self.region.upper[None]), self.margins.ball
        best, top = least(found, *box), greatest(found, *box)
        if ball is not None:
            in_ball = both_ends(found, ball)
            best, top = np.maximum(best, in_ball[0]), np.minimum(top, in_ball[1])
        lows[:, rows], highs[:, rows] = meet(lows[:, rows], highs[:, rows], best, top)

    def _raise(self, rows: np.ndarray) -> None:
        """Take lower bounds of all rows over."""
        found = self.margins.of_rows(rows)
        self.lower[self.active] = np.maximum(self.lower[self.active], found)

    def _splitting(self) -> None:
        wide = int((self.region.upper > self.region.lower).sum())
        if isinstance(self.region, Ball) and self.region.norm == "l1" and wide > 2:
            return  # boxes know little of such a ball
        if wide > 4 * FEW_INPUTS:
            self.method = "bounds"
            return
        last = self.methods[-1] == "splitting"
        sets = self.open()
        found = split_inputs(
            self.margins,
            self.local(sets),
            self.seen.confirm,
            Deadline(max(0.0, (1.0 if last else 0.3) * self.left())),
            max_boxes=None if last else FIRST_BOXES,
        )
        self.details["boxes"] = found.boxes
        self.seen.witness = found.witness
        if found.witness is None:
            self.lower[sets] = np.maximum(self.lower[sets], found.lower)
        if not self.done() and self.left() <= 0:
            self.details["out_of_time"] = True

    def _relu_global(self) -> None:
        """Branch and bound on the inputs, one set after the other."""
        wide = int((self.region.upper > self.region.lower).sum())
        if wide > FEW_INPUTS:
            return
        order = self.open()
        order = order[np.argsort(-self.lower[order], kind="stable")]
        for k, d in enumerate(order):
            # The share of a set that was quick is left to the others.
            seconds = self.left() / (len(order) - k)
            if seconds <= 0:
                break
            found = search_inputs(
                self.margins,
                int(self.local(d)),
                self.seen.confirm,
                None if seconds == np.inf else seconds,
            )
            self.details["boxes"] = self.details.get("boxes", 0) + found.boxes
            if found.witness is not None:
                self.seen.witness = found.witness
                return
            if found.proved:
                self.lower[d] = np.inf
        if not self.done() and self.left() <= 0:
            self.details["out_of_time"] = True

    def _optimized(self) -> None:
        """Optimized bounds and a longer attack, once."""
        if self.optimized:
            return
        self.optimized = True
        method = self.method
        if not self.bounds:
            self._bounds()
        if not self.done() and self.margins.ball is None:
            self.method = "alpha_crown"
            left = self.left()
            self.bounds = compute_bounds(
                self.margins.network,
                self.region.lower,
                self.region.upper,
                "alpha_crown",
                start=self.bounds,
                time_limit=None if left == np.inf else max(0.0, 0.25 * left),
            )
            self._raise(self.bounds.lower[self.margins.node])
        self._narrow()
        if not self.done():
            self.method = "attack"
            self._attack(restarts=24, steps=150, part=0.1)
        if not self.done():
            self.method = method

    def _neurons(self) -> None:
        """Branch and bound on the sides of neurons, for sets of one row."""
        network = self.margins.network
        if self.margins.ball is not None or not ReluChain.fits(network):
            return
        self._optimized()
        if self.done():
            return
        assert self.bounds is not None  # the optimized ones
        several = "mip" in self.methods
        found = self.bounds.statistics()
        if several and found["neurons"] - found["stable"] <= FEW_UNSTABLE:
            return
        # The rest of the time is for the programs: small networks are quicker there.
        end = self.share(NEURON_SHARE if several else 1.0)
        for nodes in REFINED_NODES:
            if nodes and not self.done():
                self._refined(end, nodes)
            self._narrow()
            if not self.done():
                self._sides(end, FEW_SPLITS)
        if not self.done():
            self._sides(end)
        if not self.done() and self.left() <= 0:
            self.details["out_of_time"] = True

    def _refined(self, end: float, nodes: int) -> None:
        """Tighter bounds of the neurons inside."""
        left = REFINED_SHARE * (end - time.perf_counter())

        def enough(bounds: Bounds) -> bool:
            self._raise(bounds.lower[self.margins.node])
            return self.done()

        assert self.bounds is not None
        self.bounds = side_bounds(
            self.margins.network,
            self.bounds,
            time_limit=None if left == np.inf else max(0.0, left),
            nodes=nodes,
            enough=enough,
        )
        count = self.bounds.details["subproblems"]
        self.details["splits"] = self.details.get("splits", 0) + count

    def _sides(self, end: float, most: float = np.inf) -> None:
        """Search one set after the other, the easiest first.

        With at most ``most`` subproblems the first one that is not decided ends it.
        """
        spans, bounds = self.margins.spans, self.bounds
        assert bounds is not None
        place = dict(zip(self.active.tolist(), spans))
        rows = np.eye(self.margins.network.n_outputs)
        small = without_inactive(
            self.margins.network, bounds.lower, bounds.upper, self.margins.node
        )
        order = [d for d in self.open() if place[d].stop - place[d].start == 1]
        order.sort(key=lambda d: -self.lower[d])
        for k, d in enumerate(order):
            now = time.perf_counter()
            if now > end:
                return
            limit = now + (end - now) / (len(order) - k)
            chain = ReluChain(*small, rows[place[d].start])
            found = split_neurons(chain, self.seen.confirm, limit, most=most)
            self.details["splits"] = self.details.get("splits", 0) + found.nodes
            self.lower[d] = max(self.lower[d], found.lower)
            if found.witness is not None:
                self.seen.witness = found.witness
                return
            if not found.proved and most < np.inf:
                return

    def _mip(self) -> None:
        """One program for each set that is left, the easiest first."""
        self._optimized()
        if self.done():
            return
        assert self.bounds is not None  # the optimized ones
        self.method = "mip"
        order = self.open()
        order = order[np.argsort(-self.lower[order], kind="stable")]
        nodes = 0
        for k, d in enumerate(order):
            seconds = self.left() / (len(order) - k)
            if seconds <= 0:
                self.details["out_of_time"] = True
                break
            program = MarginMIP(
                self.margins,
                int(self.local(d)),
                (self.bounds.lower, self.bounds.upper),
                self.seen.confirm,
            )
            found = program.solve(None if seconds == np.inf else seconds)
            nodes += found.nodes
            self.details["binaries"] = max(found.binaries, self.details.get("binaries", 0))
            self.lower[d] = max(self.lower[d], found.lower)
            if found.witness is not None:
                self.seen.witness = found.witness
                break
        self.details["nodes"] = nodes
        if not self.done() and self.left() <= 0.0:
            self.details["out_of_time"] = True

    def result(self) -> Verification:
        found = Verification(
            "undecided",
            method=self.method,
            lower=self.lower,
            upper=self.seen.upper,
            names=tuple(u.name for u in self.prop.unsafe),
            seconds=time.perf_counter() - self.begin,
            details={**self.details, **self.seen.details},
        )
        if self.seen.witness is not None:
            x = self.seen.witness
            # Once more, whatever rung it came from.
            if not self.seen.confirm(x):
                raise RuntimeError(
                    "a counterexample did not survive its last check; please report this."
                )
            found.status, found.counterexample = "counterexample", x
            found.outputs = self.network.evaluate(x.reshape(1, -1))[0]
        elif not len(self.open()):
            found.status = "robust"
        neurons = sum(n.size for n in self.network.nodes if isinstance(n, PiecewiseLinear))
        found.details.setdefault("neurons", neurons)
        if self.bounds is not None:
            stable = self.bounds.statistics()["stable"]
            found.details.setdefault("stable", stable)
        return found
