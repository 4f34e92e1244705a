r"""Adversarial examples: the smallest change of an input that changes the decision.

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

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyomo_relu.adversarial.decision import Decision
from pyomo_relu.adversarial.distance_search import DistanceSearch
from pyomo_relu.adversarial.distances import NORMS, DistanceProgram, distance
from pyomo_relu.adversarial.pictures import image_grid
from pyomo_relu.adversarial.programs import available, solve_program
from pyomo_relu.adversarial.starts import find_start
from pyomo_relu.network import Network, PiecewiseLinear
from pyomo_relu.presolve.model_bounds import InfeasibleModelError

#: With fewer unstable neurons the search is over before linear programs bound them.
FEW_UNSTABLE = 16

#: Rounds of bounds over the model; each uses those of the last.
ROUNDS = 3

#: Share of the time for a start, for the bounds of a program, and for the first program.
START_SHARE, BOUND_SHARE, FIRST_SHARE = 0.1, 0.4, 0.6

#: Of a distance with branch and bound on sides: its share, and that of the first distance.
SIDES_SHARE, FIRST_WITH_SIDES = 0.8, 0.85


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
        Of the image, in the norm; infinite without one.
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
        Of all search trees.
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

    def picture(self, path: str | Path | None = None, shape=None):
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
    network,
    image,
    *,
    norm: str = "l1",
    target: int | None = None,
    label: int | None = None,
    ratio: float | None = None,
    margin: float = 1e-4,
    pixel_cap: float | None = None,
    lower=0.0,
    upper=1.0,
    solver: Any = "relu_highs",
    time_limit: float | None = 60.0,
    seed: int = 0,
    start: bool | np.ndarray = True,
    examples: np.ndarray | None = None,
    restrict: bool = True,
    sides: bool = True,
    **block,
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
    time_limit : float, optional
        Seconds.
    seed : int
        Of the attack.
    start : bool or (n_inputs,) array_like
        An image that obeys the rule, or whether to look for one.
    examples : (N, n_inputs) array_like, optional
        Other images, of a data set: from those that obey the rule the search for a start
        walks to the original. They help where gradients vanish.
    restrict : bool
        Whether to bound all neurons over the images that may be closest. Otherwise the
        bounds are those of ``bounds=`` over the box.
    sides : bool
        Whether branch and bound on the sides of neurons is tried before the program, for
        chains of affine layers and ReLU and the norms ``l1`` and ``linf``. Where it is
        completed, ``solver`` has only been used for bounds, if at all.
    **block
        ``formulation=``, ``bounds=`` and others of :class:`pyomo_relu.ReLUNetBlock`.

    Raises
    ------
    ValueError
        For an unknown norm or class, an image outside its bounds, and a network with
        one output.
    """
    begin = time.perf_counter()
    if not isinstance(network, Network):
        from pyomo_relu.readers import read_network

        network = read_network(network)
    x0 = network.flat_inputs(image)[0]
    if len(x0) != 1:
        raise ValueError(f"one image is needed, but {len(x0)} were given.")
    if norm not in NORMS:
        raise ValueError(f"there is no norm '{norm}'; choose one of {list(NORMS)}.")
    decision = Decision(network, x0[0], target, label, ratio, margin)
    low, high = (
        np.array(np.broadcast_to(np.asarray(a, float).reshape(-1), x0[0].shape))
        for a in (lower, upper)
    )
    if (x0[0] < low).any() or (x0[0] > high).any():
        raise ValueError("the image is outside of its bounds; give lower= and upper=.")
    if pixel_cap is not None:
        if not pixel_cap >= 0:
            raise ValueError(f"pixel_cap must not be negative, but is {pixel_cap}.")
        low, high = np.maximum(low, x0[0] - pixel_cap), np.minimum(high, x0[0] + pixel_cap)
    available(solver)
    search = _Search(decision, norm, low, high, solver, time_limit, restrict, sides, block)
    first: np.ndarray | None = None
    if decision.wins(x0[0], margin):
        first = x0[0].copy()
    elif isinstance(start, (bool, np.bool_)):
        seconds = 10.0 if time_limit is None else START_SHARE * time_limit
        if examples is not None:
            examples = network.flat_inputs(examples)[0]
        if start:
            first = find_start(
                decision, norm, low, high, seconds=seconds, seed=seed, examples=examples
            )
    else:
        first = np.clip(network.flat_inputs(start)[0][0], low, high)
        if not decision.wins(first, margin):
            raise ValueError("the given start does not obey the rule; give start=True.")
    result = search.run(first)
    result.seconds = time.perf_counter() - begin
    return result


class _Search:
    """One run of :func:`find_adversarial`, from a start to a proof."""

    def __init__(
        self, decision, norm, low, high, solver, time_limit, restrict, sides, block
    ) -> None:
        self.decision, self.norm, self.low, self.high = decision, norm, low, high
        self.solver, self.restrict, self.block = solver, restrict, block
        self.x0, self.network = decision.original, decision.network
        self.sides = sides and DistanceSearch.fits(self.network, norm)
        limit = np.inf if time_limit is None else time_limit
        self.deadline = time.perf_counter() + limit
        self.best: np.ndarray | None = None
        self.lower, self.nodes = 0.0, 0

    def left(self) -> float:
        return self.deadline - time.perf_counter()

    def length(self) -> float:
        """The distance of the best image."""
        return np.inf if self.best is None else distance(self.norm, self.x0, self.best)

    def run(self, start: np.ndarray | None) -> Adversarial:
        self.best = start
        first = self.length()
        if first == 0.0:
            return self.result("optimal", first)
        if not self.restrict:
            return self.result(self.within(None, self.left()), first)
        if start is None:
            status = self.outwards()
            if status in ("optimal", "impossible"):
                return self.result(status, first)
        if self.best is None:
            return self.result("unknown", first)
        radius = self.length() * (1.0 + 1e-9) + 1e-6
        share = FIRST_WITH_SIDES if self.sides else FIRST_SHARE
        status = self.within(radius, share * self.left())
        if status != "stopped":
            return self.result("optimal", first)
        return self.result(self.inwards(), first)

    def outwards(self) -> str:
        """Search rising distances, the last without a limit, until one has an image."""
        reach = np.maximum(self.high - self.x0, self.x0 - self.low)
        far = {"l1": reach.sum(), "linf": reach.max(initial=0.0), "l0": len(reach)}
        radii = [float(far[self.norm]) * 2.0**-k for k in range(6, 0, -1)]
        radii = [r for r in radii if self.norm != "l0" or r >= 1.0]
        for k, radius in enumerate([*radii, None]):
            if self.left() <= 0:
                break
            status = self.within(radius, self.left() / (len(radii) + 1 - k))
            if status == "optimal" or (status == "impossible" and radius is None):
                return status
            elif self.best is not None:
                break
        return "stopped"

    def inwards(self) -> str:
        """Halve the gap: an empty distance is a bound, one with an image is the answer."""
        top = self.length()
        least = 1.0 if self.norm == "l0" else 1e-3 * top
        while self.left() > 1.0 and top - self.lower > least:
            radius = 0.5 * (self.lower + top)
            status = self.within(radius, 0.5 * self.left())
            if status == "optimal":
                return status
            if status != "impossible":
                top = radius
        return "stopped"

    def within(self, radius: float | None, seconds: float) -> str:
        """One program: the closest image within a distance.

        Returns
        -------
        {'optimal', 'impossible', 'stopped'}
        """
        begin = time.perf_counter()
        norm, block = self.norm, dict(self.block)
        program = DistanceProgram(
            self.decision, norm, self.low, self.high, radius, block=block
        )
        warm = self.best is not None and (radius is None or self.length() <= radius)
        if self.restrict and not self.tighten(program, BOUND_SHARE * seconds):
            return self.none_within(radius)
        if self.sides:
            left = seconds - (time.perf_counter() - begin)
            status = self.on_sides(program, radius, SIDES_SHARE * left)
            if status != "stopped":
                return status
            warm = self.best is not None and (radius is None or self.length() <= radius)
        if warm and self.best is not None:
            program.set_point(self.best)
            program.model.net.warm_start(self.best)
        limit = None
        if np.isfinite(seconds):
            limit = max(0.1, seconds - (time.perf_counter() - begin))
        start = "auto" if radius is None and self.restrict else None
        solved = solve_program(program.model, self.solver, limit, warm, start)
        self.nodes += solved.nodes
        x = program.point()
        if x is not None and self.decision.wins(x):
            x = self.exact(x)
            if self.best is None or distance(norm, self.x0, x) < self.length():
                self.best = x
        if solved.status == "infeasible":
            return self.none_within(radius)
        self.raise_bound(solved.bound, radius)
        # An optimum whose image fails in the forward pass proves its bound only.
        return "optimal" if solved.status == "optimal" and self.near() else "stopped"

    def raise_bound(self, bound: float, radius: float | None) -> None:
        """What is farther than the radius is farther than a bound as well."""
        bound = 0.0 if np.isnan(bound) or bound == -np.inf else bound
        self.lower = max(self.lower, bound if radius is None else min(bound, radius))

    def near(self) -> bool:
        """Whether the best image is as close as the bound, within the gap."""
        return self.length() <= self.lower + 1e-4 * (1.0 + self.lower)

    def on_sides(
        self, program: DistanceProgram, radius: float | None, seconds: float
    ) -> str:
        """Branch and bound on the sides of neurons; see :meth:`within`."""
        bounds = program.model.net.bounds
        search = DistanceSearch(
            self.decision, self.norm, bounds.lower, bounds.upper, self.best, radius
        )
        done = search.run(time.perf_counter() + seconds)
        self.nodes += search.nodes
        if search.best is not None:
            x = self.exact(search.best)
            self.best = x if distance(self.norm, self.x0, x) <= self.length() else self.best
        far = self.best is None or (radius is not None and self.length() > radius)
        if done and far and search.bound >= search.target:
            return self.none_within(radius)
        self.raise_bound(search.bound, radius)
        return "optimal" if done and self.near() else "stopped"

    def none_within(self, radius: float | None) -> str:
        """Within the solver's tolerances no image is nearer than the radius."""
        if radius is None:
            return "impossible" if self.best is None else "stopped"
        self.lower = max(self.lower, radius)
        return "impossible"

    def tighten(self, program: DistanceProgram, seconds: float) -> bool:
        """Bound the neurons over the whole program; False where it has no point."""
        net, end = program.model.net, time.perf_counter() + seconds
        unstable = self.unstable(net)
        for _ in range(ROUNDS):
            left = end - time.perf_counter()
            if unstable <= FEW_UNSTABLE or left <= 0:
                break
            try:
                limit = left if np.isfinite(left) else None
                net.tighten("model", inputs=False, time_limit=limit)
            except InfeasibleModelError:
                return False
            before, unstable = unstable, self.unstable(net)
            if unstable > 0.9 * before:
                break
        return True

    def unstable(self, net) -> int:
        bounds = net.bounds
        return sum(
            int((~bounds.stable(i)).sum())
            for i, node in enumerate(self.network.nodes)
            if isinstance(node, PiecewiseLinear)
        )

    def exact(self, x: np.ndarray) -> np.ndarray:
        """Changes within the solver's tolerance undone, where the rule then still holds."""
        clean = np.where(abs(x - self.x0) <= 1e-6, self.x0, x)
        return clean if self.decision.wins(clean) else x

    def result(self, status: str, first: float) -> Adversarial:
        x, length = self.best, self.length()
        if x is not None:
            status = "feasible" if status == "stopped" else "optimal"
            bound = min(self.lower, length)
        else:
            status = status if status == "impossible" else "unknown"
            bound = np.inf if status == "impossible" else self.lower
        y = None if x is None else self.network.evaluate(x[None])[0]
        return Adversarial(
            status=status,
            image=x,
            distance=length,
            bound=float(bound),
            original=self.x0,
            outputs=y,
            label=self.decision.label,
            found=-1 if y is None else int(y.argmax()),
            norm=self.norm,
            start=first,
            nodes=self.nodes,
        )
