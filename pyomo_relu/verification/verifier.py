"""`verify`: whether a property holds for every input of a region.

A ladder of rising cost, left at the first rung that decides; see
:mod:`~pyomo_relu.verification.rungs`. Time and memory are linear in the number of unsafe
sets. Of many sets only the most promising are attacked before the bounds; those that the
bounds exclude are left out of everything that follows.

A counterexample is believed only after the network was run on it in float64, the
property was evaluated on these outputs, and the point lies in the region, each without
a tolerance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pyomo_relu.base.deadline import NEVER, Deadline
from pyomo_relu.bounds import Bounds
from pyomo_relu.network import Network
from pyomo_relu.readers import read_network
from pyomo_relu.verification.attack import attack
from pyomo_relu.verification.candidates import Candidates, Reference
from pyomo_relu.verification.input_region import Region, as_region
from pyomo_relu.verification.margins import Margins
from pyomo_relu.verification.properties import Property
from pyomo_relu.verification.rungs import RUNGS
from pyomo_relu.verification.starts_of_attack import Starts
from pyomo_relu.verification.verdict import SetVerdict, Verification
from pyomo_relu.verification.verify_settings import VERIFY, AttackSettings

#: The rungs in their order.
METHODS = tuple(RUNGS)


def verify(
    network: Any,
    region: Region | tuple,
    prop: Property,
    *,
    time_limit: float | None = 60.0,
    methods: str | Sequence[str] = METHODS,
    reference: Reference | None = None,
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
    methods : str or sequence of str
        Which rungs of :data:`METHODS` are climbed, always in the order of that list. A
        rung that says nothing about the problem is skipped. ``neurons`` and ``mip`` build on
        bounds with optimized slopes and on an attack from these, and begin with them
        whether those rungs are named or not.
    reference : callable, optional
        Another program for the same network, ``x (n_inputs,) -> y (n_outputs,)``. A
        counterexample counts only where both agree up to their rounding.
    seed : int
        The seed of the attack's random starts.

    Returns
    -------
    Verification
        ``undecided`` has the bounds that were reached.

    Raises
    ------
    ValueError
        Where region or property don't fit the network, for an unknown method, and where no
        method is named.
    """
    network = read_network(network)
    methods = [methods] if isinstance(methods, str) else list(methods)
    unknown = sorted(set(methods) - set(METHODS))
    if unknown:
        raise ValueError(f"there is no method '{unknown[0]}'; choose from {list(METHODS)}.")
    if not methods:
        raise ValueError(f"methods= names no method; choose from {list(METHODS)}.")
    deadline, region = Deadline(time_limit), as_region(region, network.n_inputs)
    prop.check(network.n_inputs, network.n_outputs)
    some = [m for m in METHODS if m in methods]
    return Verifier(network, region, prop, deadline, some, reference, seed).climb()


class Verifier:
    """One run of :func:`verify`, and what it knows of the unsafe sets.

    Attributes
    ----------
    method : str
        The work that was begun last: a name of :data:`METHODS`, or ``alpha_crown`` for
        bounds with optimized slopes; ``none`` before any.
    lower : (sets,) array
        A lower bound of the margin of each set.
    active : int array
        The numbers of the sets that ``margins`` and ``bounds`` still have.
    bounds : Bounds or None
        The bounds of all nodes of ``margins.network``; None before the first rung that
        finds some.
    optimized : bool
        Whether slopes have been optimized for the bounds.
    """

    def __init__(
        self,
        network: Network,
        region: Region,
        prop: Property,
        deadline: Deadline = NEVER,
        methods: Sequence[str] = METHODS,
        reference: Reference | None = None,
        seed: int = 0,
    ) -> None:
        self.clock, self.deadline = Deadline(), deadline
        self.network, self.region, self.prop = network, region, prop
        self.methods, self.seed, n = list(methods), seed, len(prop.unsafe)
        self.lower = np.full(n, -np.inf)
        self.strict = np.array([u.strict for u in prop.unsafe], dtype=bool)
        self.starts = Starts(region)
        self.seen = Candidates(network, region, prop, self.starts, reference)
        self.method = "none" if n else "no unsafe set"
        self.details: dict[str, Any] = {}
        self.bounds: Bounds | None = None
        self.optimized = False
        if not all(len(u.limit) for u in prop.unsafe):
            # A set without rows holds every output, so that any point is a counterexample.
            self.method = "attack"
            self.seen.offer([], region.samples(1, np.random.default_rng(seed)), np.zeros(1))
        elif n:
            self.margins, self.active = Margins(network, prop, region), np.arange(n)

    # ------------------------------------------------------------------------ the run
    def climb(self) -> Verification:
        """Climb one rung after the other, until one decides or the time is up."""
        for method in self.methods:
            if self.done():
                break
            self.narrow()
            if not self.deadline.expired():
                RUNGS[method](self)
            if not self.done() and self.deadline.expired():
                self.details["out_of_time"] = True
                break
        return self.result()

    def done(self) -> bool:
        """Whether there is a counterexample, or every set is excluded."""
        return self.seen.witness is not None or not len(self.open())

    def open(self) -> np.ndarray:
        """The numbers of the sets that aren't excluded."""
        excluded = np.where(self.strict, self.lower >= 0, self.lower > 0)
        return np.flatnonzero(~excluded)

    def in_turn(
        self, sets: np.ndarray, deadline: Deadline
    ) -> Iterator[tuple[int, Deadline]]:
        """Yield some sets, the easiest first, each with its share of the time that is left."""
        order = sets[np.argsort(-self.lower[sets], kind="stable")].tolist()
        for k, d in enumerate(order):
            if self.seen.witness is not None or deadline.expired():
                return
            yield d, deadline.part(1.0 / (len(order) - k))

    def local(self, sets: Any) -> Any:
        """The number of a set, or of some, among those of the margins."""
        return np.searchsorted(self.active, sets)

    def narrow(self) -> None:
        """Drop the rows of excluded sets from the margins where there are many."""
        left = self.open()
        few = self.margins.ends[-1] <= VERIFY.many_rows
        if few or not len(left) or 2 * len(left) > len(self.active):
            return
        local = self.local(left)
        rows = self.margins.rows_of(local)
        self.margins, self.active = self.margins.only(local), left
        if self.bounds is not None:
            old = self.bounds
            low, high = ((*a[:-1], a[-1][rows]) for a in (old.lower, old.upper))
            self.bounds = replace(old, network=self.margins.network, lower=low, upper=high)

    # -------------------------------------------------------------------- what is found
    def raise_rows(self, rows: np.ndarray) -> None:
        """Raise the sets' lower bounds to what lower bounds of all rows say."""
        found = self.margins.of_rows(rows)
        self.lower[self.active] = np.maximum(self.lower[self.active], found)

    def take(self, d: int, found: SetVerdict, counted: str) -> None:
        """Note what a search found out about a set, and what it counted."""
        self.count(counted, found.nodes)
        self.lower[d] = max(self.lower[d], found.lower)
        self.seen.witness = found.witness

    def count(self, what: str, more: int) -> None:
        """Add to a count of the details."""
        self.details[what] = self.details.get(what, 0) + more

    def attack(self, how: AttackSettings, most: int | None = None) -> None:
        """Look for counterexamples; of many sets, in the most promising ones first."""
        sets, deadline = self.open(), self.deadline.part(how.share)
        if len(sets) > VERIFY.first_sets:
            sets = self._promising(sets, how.restarts)[:most]
        for block in self.starts.blocks(sets, how.restarts):
            points, values = attack(
                self.margins,
                self.local(block.sets),
                restarts=how.restarts,
                steps=how.steps,
                seed=self.seed,
                deadline=deadline,
                starts=block.starts,
                own=block.own,
            )
            if self.seen.offer(block.sets, points, values) or deadline.expired():
                return

    def _promising(self, sets: np.ndarray, count: int) -> np.ndarray:
        """Some sets, in the order of their least margins at a few points."""
        points = self.region.samples(count, np.random.default_rng(self.seed))
        margins = self.margins.of_rows(self.margins.rows(points))[:, self.local(sets)]
        best, values = margins.argmin(axis=0), margins.min(axis=0)
        self.seen.offer(sets, points[best], values)
        return sets[np.argsort(values, kind="stable")]

    def result(self) -> Verification:
        """What was found; a counterexample is checked once more."""
        found = Verification(
            "undecided",
            method=self.method,
            lower=self.lower,
            upper=self.seen.upper,
            names=tuple(u.name for u in self.prop.unsafe),
            seconds=self.clock.elapsed,
            details={**self.details, **self.seen.details},
        )
        if self.seen.witness is not None:
            x = self.seen.witness
            if not self.seen.confirm(x):
                raise RuntimeError(
                    "a counterexample did not survive its last check; please report this."
                )
            found.status, found.counterexample = "counterexample", x
            found.outputs = self.network.evaluate(x.reshape(1, -1))[0]
        elif not len(self.open()):
            found.status = "robust"
        found.details.setdefault("neurons", self.network.n_neurons)
        if self.bounds is not None:
            found.details.setdefault("stable", self.bounds.statistics()["stable"])
        return found
