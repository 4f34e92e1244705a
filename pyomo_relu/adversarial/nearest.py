r"""The nearest adversarial image: the smallest change that changes the decision.

Minimize the distance to the image, subject to a rule about the outputs. The norms are the
sum of changes (``l1``), the largest change (``linf``) and the number of changed pixels
(``l0``).

Nothing farther than a known image can be the closest one. So a mixed-integer program is
restricted to that distance, and every neuron is bounded by linear programs over the whole
of it, distance and rule included. For chains of affine layers and ReLU, and norms other
than ``l0``, the search itself is branch and bound on the sides of neurons with bounds of
the distance (:mod:`~pyomo_relu.adversarial.distance_search`); the program is solved for
all others, and where that search isn't completed in its share of the time. Without a
known image, or where neither is, smaller distances are searched: one without an image is
a lower bound.

Source: Fischetti and Jo, Constraints 23(3), 2018, section 4 (the ``l1`` model, the cap on
each pixel, and the rule that the target is 1.2 times every other); Tjeng et al.,
arXiv 1711.07356 (``linf`` and restricted boxes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pyomo_relu.adversarial.decision import Decision
from pyomo_relu.adversarial.distance_program import NORMS, DistanceProgram, distance
from pyomo_relu.adversarial.distance_search import DistanceSearch
from pyomo_relu.adversarial.near_images import find_near_image
from pyomo_relu.adversarial.nearest_settings import NEAREST
from pyomo_relu.adversarial.pictures import image_grid
from pyomo_relu.adversarial.solving import (
    available,
    image_in_box,
    input_box,
    solve_program,
)
from pyomo_relu.base.deadline import NEVER, Deadline
from pyomo_relu.presolve.model_bounds import InfeasibleModelError
from pyomo_relu.readers import read_network


@dataclass
class Adversarial:
    """What :func:`find_adversarial` found.

    Attributes
    ----------
    status : {'optimal', 'feasible', 'impossible', 'unknown'}
        ``impossible``: proved that no image within the caps obeys the rule.
    image : (n_inputs,) array or None
        Run through the network: it obeys the rule in float64, the margin left out.
    distance : float
        The distance of the image, in the norm; infinite without one.
    bound : float
        No image is closer, within the solver's tolerance; without one where the search
        on sides of neurons was completed.
    original : (n_inputs,) array
    outputs : (n_outputs,) array or None
        At the image.
    label, found : int
        The network's decision before and after (-1 without an image).
    norm : str
    seconds : float
    start : float
        The distance of the first image, infinite where none was found.
    nodes : int
        How many nodes all search trees have.
    """

    status: str
    image: np.ndarray | None
    distance: float
    bound: float
    original: np.ndarray
    outputs: np.ndarray | None
    label: int
    found: int
    norm: str
    seconds: float = 0.0
    start: float = np.inf
    nodes: int = 0

    @property
    def optimal(self) -> bool:
        """Whether the distance is proved to be the least."""
        return self.status == "optimal"

    def picture(
        self, path: str | Path | None = None, shape: Sequence[int] | None = None
    ) -> Any:
        """Draw the original, the adversarial image and their difference.

        Parameters
        ----------
        path : str or Path, optional
            Where to save it.
        shape : (height, width), optional

        Returns
        -------
        matplotlib.figure.Figure
        """
        if self.image is None:
            raise ValueError(f"there is no image to draw; the status is '{self.status}'.")
        proof = "proved" if self.optimal else f"bound {self.bound:.4g}"
        return image_grid(
            [self.original, self.image, self.image - self.original],
            path,
            titles=[
                f"class {self.label}",
                f"class {self.found}",
                f"{self.norm} {self.distance:.4g}, {proof}",
            ],
            shape=shape,
            columns=3,
            differences=[2],
        )


def find_adversarial(
    network: Any,
    image: Any,
    *,
    norm: str = "l1",
    target: int | None = None,
    label: int | None = None,
    ratio: float | None = None,
    margin: float = 1e-4,
    pixel_cap: float | None = None,
    lower: ArrayLike = 0.0,
    upper: ArrayLike = 1.0,
    solver: Any = "relu_highs",
    time_limit: float | None = 60.0,
    cpu_time_limit: float | None = None,
    seed: int = 0,
    start: bool | np.ndarray = True,
    examples: np.ndarray | None = None,
    restrict: bool = True,
    sides: bool | None = None,
    **block: Any,
) -> Adversarial:
    """The closest input that the network decides differently.

    Parameters
    ----------
    network : Network, or what :func:`pyomo_relu.read_network` reads
    image : array_like
        The original, in the units of the network.
    norm : {'l1', 'linf', 'l0'}
    target : int, optional
        The class that must win; any other than ``label`` if left out.
    label : int, optional
        The class of the original; the network's decision if left out.
    ratio : float, optional
        The winner's output must be at least ``ratio`` times every other, and not
        negative: Fischetti and Jo's rule with 1.2.
    margin : float
        Without ``ratio``, by how much the winner's output must exceed the others; larger
        than the solver's tolerance.
    pixel_cap : float, optional
        No input may change by more.
    lower, upper : float or array_like
        Bounds of the inputs.
    solver : str or solver
        Any Pyomo solver for mixed-integer linear programs; see ``sides``.
    time_limit, cpu_time_limit : float, optional
        Seconds on the clock, and of this process's processor time. A solver that runs in
        a process of its own takes what is left of either on the clock.
    seed : int
        The seed of the attack.
    start : bool or (n_inputs,) array_like
        An image that obeys the rule, or whether to look for one.
    examples : (N, n_inputs) array_like, optional
        Other images, of a data set: from those that obey the rule the search for a start
        walks to the original. They help where gradients vanish.
    restrict : bool
        Whether to bound all neurons over the images that may be closest. Otherwise the
        bounds are those of ``bounds=`` over the box.
    sides : bool, optional
        Whether branch and bound on the sides of neurons is tried before the program, for
        chains of affine layers and ReLU and the norms ``l1`` and ``linf``. Where it is
        completed, ``solver`` has only been used for bounds, if at all. If left out, it is
        tried except on networks of many narrow layers, whose programs have few binaries.
    **block
        ``formulation=``, ``bounds=`` and others of :class:`pyomo_relu.ReLUNetBlock`.

    Raises
    ------
    ValueError
        For an unknown norm or class, an image outside its bounds, and a network with
        one output.
    """
    clock, network = Deadline(), read_network(network)
    network.refuse_smooth(
        "the closest image is found by programs of pieces; verify() decides smooth networks "
        "by bounds and by splitting inputs"
    )
    if norm not in NORMS:
        raise ValueError(f"there is no norm '{norm}'; choose one of {list(NORMS)}.")
    low, high = input_box(network, lower, upper)
    x0 = image_in_box(network, image, (low, high), "the image")
    decision = Decision(network, x0, target, label, ratio, margin)
    if pixel_cap is not None:
        if not pixel_cap >= 0:
            raise ValueError(f"pixel_cap must not be negative, but is {pixel_cap}.")
        low, high = np.maximum(low, x0 - pixel_cap), np.minimum(high, x0 + pixel_cap)
    available(solver)
    search = _Search(
        decision,
        norm,
        low,
        high,
        solver,
        restrict,
        block,
        Deadline(time_limit, cpu_time_limit),
    )
    wanted = DistanceSearch.suits(network) if sides is None else bool(sides)
    search.sides = wanted and DistanceSearch.fits(network, norm)
    if decision.wins(x0, margin):
        search.best = x0.copy()
    elif not isinstance(start, (bool, np.bool_)):
        search.best = np.clip(network.flat_inputs(start)[0][0], low, high)
        if not decision.wins(search.best, margin):
            raise ValueError("the given start does not obey the rule; give start=True.")
    elif start:
        search.look_for_start(seed, examples)
    found = search.run()
    found.seconds = clock.elapsed
    return found


@dataclass
class _Search:
    """One run of :func:`find_adversarial`, from a start to a proof."""

    decision: Decision
    norm: str
    low: np.ndarray
    high: np.ndarray
    solver: Any
    restrict: bool
    block: dict[str, Any]
    deadline: Deadline = NEVER
    sides: bool = False
    best: np.ndarray | None = None
    lower: float = 0.0
    nodes: int = 0

    def look_for_start(self, seed: int, examples: np.ndarray | None) -> None:
        limit = Deadline(NEAREST.start_seconds)
        if self.deadline.limit is not None:
            limit = self.deadline.part(NEAREST.start_share)
        if examples is not None:
            examples = self.decision.network.flat_inputs(examples)[0]
        box = self.low, self.high
        self.best = find_near_image(self.decision, self.norm, box, limit, seed, examples)

    @property
    def length(self) -> float:
        """The distance of the best image."""
        if self.best is None:
            return np.inf
        return distance(self.norm, self.decision.original, self.best)

    def run(self) -> Adversarial:
        first = self.length
        return self.result(self.status(), first)

    def status(self) -> str:
        """Search; how it ended."""
        if self.length == 0.0:
            return "optimal"
        if not self.restrict:
            return self.within(None, self.deadline)
        if self.best is None:
            status = self.outwards()
            if status != "stopped" or self.best is None:
                return status
        radius = self.length * (1.0 + 1e-9) + NEAREST.beyond
        share = NEAREST.first_share_with_sides if self.sides else NEAREST.first_share
        status = self.within(radius, self.deadline.part(share))
        return self.inwards() if status == "stopped" else "optimal"

    def outwards(self) -> str:
        """Search rising distances, the last without a limit, until one has an image."""
        x0 = self.decision.original
        reach = np.maximum(self.high - x0, x0 - self.low)
        far = {"l1": reach.sum(), "linf": reach.max(initial=0.0), "l0": len(reach)}
        radii = [float(far[self.norm]) * 2.0**-k for k in range(NEAREST.halvings, 0, -1)]
        radii = [r for r in radii if self.norm != "l0" or r >= 1.0]
        for k, radius in enumerate([*radii, None]):
            if self.deadline.expired():
                break
            status = self.within(radius, self.deadline.part(1.0 / (len(radii) + 1 - k)))
            if status == "optimal" or (status == "impossible" and radius is None):
                return status
            if self.best is not None:
                break
        return "stopped"

    def inwards(self) -> str:
        """Halve the gap: an empty distance is a bound, one with an image is the answer."""
        top = self.length
        least = 1.0 if self.norm == "l0" else NEAREST.inward_gap * top
        while self.deadline.left() > NEAREST.least_seconds and top - self.lower > least:
            radius = 0.5 * (self.lower + top)
            status = self.within(radius, self.deadline.part(NEAREST.inward_share))
            if status == "optimal":
                return status
            if status != "impossible":
                top = radius
        return "stopped"

    def within(self, radius: float | None, deadline: Deadline) -> str:
        """Look for the closest image within a distance.

        Returns
        -------
        {'optimal', 'impossible', 'stopped'}
        """
        program = DistanceProgram(
            self.decision, self.norm, self.low, self.high, radius, block=dict(self.block)
        )
        bound_share = NEAREST.bound_share
        if self.restrict and not self.tighten(program, deadline.part(bound_share)):
            return self.none_within(radius)
        status = "stopped"
        if self.sides:
            status = self.on_sides(program, radius, deadline.part(NEAREST.sides_share))
        return self.by_program(program, radius, deadline) if status == "stopped" else status

    def tighten(self, program: DistanceProgram, deadline: Deadline) -> bool:
        """Bound the neurons over the whole program; False where it has no point."""
        net = program.model.net

        def unstable() -> float:
            found = net.bounds.statistics()
            return found["neurons"] - found["stable"]

        before = np.inf
        for _ in range(NEAREST.rounds):
            now = unstable()
            few = now <= NEAREST.few_unstable or now > NEAREST.worthwhile * before
            if few or deadline.expired():
                break
            before = now
            try:
                net.tighten(
                    "model",
                    inputs=False,
                    time_limit=deadline.clock_limit,
                    cpu_time_limit=deadline.cpu_limit,
                )
            except InfeasibleModelError:
                return False
        return True

    def on_sides(
        self, program: DistanceProgram, radius: float | None, deadline: Deadline
    ) -> str:
        """Branch and bound on the sides of neurons; see :meth:`within`."""
        bounds = program.model.net.bounds
        search = DistanceSearch(
            self.decision, self.norm, bounds.lower, bounds.upper, self.best, radius
        )
        done = search.run(deadline)
        self.nodes += search.nodes
        self.take(search.best)
        if done and not self.has_image(radius) and search.bound >= search.target:
            return self.none_within(radius)
        self.raise_bound(search.bound, radius)
        return "optimal" if done and self.near() else "stopped"

    def by_program(
        self, program: DistanceProgram, radius: float | None, deadline: Deadline
    ) -> str:
        """Solve the program; see :meth:`within`."""
        warm = self.has_image(radius)
        if warm and self.best is not None:
            program.set_point(self.best)
            program.model.net.warm_start(self.best)
        if deadline.left() < NEAREST.program_seconds:
            deadline = Deadline(NEAREST.program_seconds)
        start = "auto" if radius is None and self.restrict else None
        solved = solve_program(program.model, self.solver, deadline, warm, start)
        self.nodes += solved.nodes
        x = program.point()
        if x is not None and self.decision.wins(x):
            self.take(x)
        if solved.status == "infeasible":
            return self.none_within(radius)
        self.raise_bound(solved.bound, radius)
        # An optimum whose image fails in the forward pass proves its bound only.
        return "optimal" if solved.status == "optimal" and self.near() else "stopped"

    # ---------------------------------------------------------------- image and bound
    def take(self, x: np.ndarray | None) -> None:
        """Keep a closer image, with changes within the solver's tolerance undone."""
        if x is None:
            return
        x0 = self.decision.original
        clean = np.where(abs(x - x0) <= NEAREST.noise, x0, x)
        x = clean if self.decision.wins(clean) else x
        if distance(self.norm, x0, x) < self.length:
            self.best = x

    def has_image(self, radius: float | None) -> bool:
        return self.best is not None and (radius is None or self.length <= radius)

    def near(self) -> bool:
        """Whether the best image is as close as the bound, within the gap."""
        return self.length <= self.lower + NEAREST.gap * (1.0 + self.lower)

    def raise_bound(self, bound: float, radius: float | None) -> None:
        """What is farther than the radius is farther than a bound as well."""
        bound = 0.0 if np.isnan(bound) or bound == -np.inf else bound
        self.lower = max(self.lower, bound if radius is None else min(bound, radius))

    def none_within(self, radius: float | None) -> str:
        """Within the solver's tolerances no image is nearer than the radius."""
        if radius is None:
            return "impossible" if self.best is None else "stopped"
        self.lower = max(self.lower, radius)
        return "impossible"

    def result(self, status: str, first: float) -> Adversarial:
        x, decision, bound = self.best, self.decision, min(self.lower, self.length)
        if x is not None:
            status = "feasible" if status == "stopped" else "optimal"
        elif status != "impossible":
            status = "unknown"
        else:
            bound = np.inf
        y = None if x is None else decision.network.evaluate(x[None])[0]
        return Adversarial(
            status=status,
            image=x,
            distance=self.length,
            bound=float(bound),
            original=decision.original,
            outputs=y,
            label=decision.label,
            found=-1 if y is None else int(y.argmax()),
            norm=self.norm,
            start=first,
            nodes=self.nodes,
        )
