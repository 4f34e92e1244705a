"""What makes a network hard to optimize over: stability, big-M constants, root gap.

Each unstable neuron is a binary variable, the sizes of its bounds are the constants of
its rows, and the gap between the linear relaxation and the best value is what a branch
and bound has to close. Bounds that are computed layer by layer widen with depth, by a
factor per layer that is about constant: the growth of the constants is exponential.

Source: the indicators are those of Plate et al., arXiv 2502.03016.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyomo.environ as pyo
from numpy.typing import ArrayLike

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.block import ReLUNetBlock
from pyomo_relu.bounds import Bounds, compute_bounds
from pyomo_relu.network import Network, PiecewiseLinear, Smooth
from pyomo_relu.solvers import ReluHighs
from pyomo_relu.solvers.quietly import solve_quietly

#: Rungs that are compared unless others are named.
DEFAULT_RUNGS = ("interval", "crown", "lp")


@dataclass(frozen=True)
class LayerBounds:
    """The bounds of one activation layer.

    Attributes
    ----------
    big_m : (float, float, float) or None
        Smallest, median and largest ``max(-l, u)`` of the unstable neurons.
    width : float
        Mean of ``u - l`` of all neurons.
    """

    name: str
    units: int
    stable: int
    big_m: tuple[float, float, float] | None
    width: float


@dataclass(frozen=True, eq=False)
class RungSummary:
    """What one rung of bounds proves; seconds include the rungs below it."""

    method: str
    layers: tuple[LayerBounds, ...]
    output_width: float
    seconds: float
    bounds: Bounds

    @property
    def units(self) -> int:
        """Number of neurons."""
        return sum(layer.units for layer in self.layers)

    @property
    def stable(self) -> int:
        """Number of neurons on one piece."""
        return sum(layer.stable for layer in self.layers)

    @property
    def share(self) -> float:
        """Share of stable neurons; 1 for a network without any neuron."""
        return self.stable / self.units if self.units else 1.0

    @property
    def growth(self) -> float:
        """Factor by which the median big-M constant grows from layer to layer.

        The slope of a line through the logarithms of the layers' medians; NaN where
        fewer than two layers have unstable neurons.
        """
        medians = [(k, s.big_m[1]) for k, s in enumerate(self.layers) if s.big_m]
        if len(medians) < 2:
            return float("nan")
        depth, size = np.array(medians).T
        return float(np.exp(np.polyfit(depth, np.log(size), 1)[0]))


def layer_bounds(bounds: Bounds) -> tuple[LayerBounds, ...]:
    """Stable neurons and big-M constants of each activation layer."""
    found = []
    for i, node in enumerate(bounds.network.nodes):
        if not isinstance(node, (PiecewiseLinear, Smooth)):
            continue
        low, high = bounds.lower[node.source], bounds.upper[node.source]
        stable = bounds.stable(i)
        big_m = None
        if not stable.all():
            sizes = np.maximum(-low, high)[~stable]
            big_m = (float(sizes.min()), float(np.median(sizes)), float(sizes.max()))
        width = float((high - low).mean())
        found.append(LayerBounds(node.name, node.size, int(stable.sum()), big_m, width))
    return tuple(found)


def compare_bounds(
    network: Network, lower: ArrayLike, upper: ArrayLike, rungs: Sequence = DEFAULT_RUNGS
) -> list[RungSummary]:
    """Stable neurons and big-M constants by each of several rungs of bounds.

    Parameters
    ----------
    network : Network
    lower, upper : float or (n_inputs,) array_like
    rungs : sequence of str or (str, dict)
        As :func:`compute_bounds` takes them; each starts anew.
    """
    found = []
    for rung in rungs:
        bounds = compute_bounds(network, lower, upper, rung)
        layers, width = layer_bounds(bounds), bounds.statistics()["output_width"]
        found.append(RungSummary(bounds.method, layers, width, bounds.seconds, bounds))
    return found


@dataclass(frozen=True)
class RootGap:
    """The linear relaxation against the best value.

    Attributes
    ----------
    root : float
        Optimum of the linear relaxation.
    best : float or None
        Best value found.
    bound : float
        Best bound at the end.
    nodes : int
        How many nodes the branch and bound had.
    seconds : float
        How long relaxation and search took.
    """

    root: float
    best: float | None
    bound: float
    nodes: int
    seconds: float

    @property
    def gap(self) -> float:
        """``|best - root| / max(1, |best|)``; infinite while nothing is found."""
        if self.best is None:
            return float("inf")
        return abs(self.best - self.root) / max(1.0, abs(self.best))

    @property
    def solved(self) -> bool:
        """Whether the best value is proved up to a gap of 0.01 %."""
        if self.best is None:
            return False
        return abs(self.best - self.bound) <= 1e-4 * max(1.0, abs(self.best)) + 1e-9


def root_gap(
    network: Network,
    bounds: Bounds,
    output: int = 0,
    sense: str = "min",
    *,
    formulation: str = "bigm",
    time_limit: float = 60.0,
) -> RootGap:
    """Solve for the optimum of one output over the box, and its linear relaxation.

    Parameters
    ----------
    network : Network
    bounds : Bounds
        Their box is the box of the inputs.
    output : int
    sense : {'min', 'max'}
    formulation : str
    time_limit : float
        Seconds for the search.

    Raises
    ------
    ValueError
        For an unknown output or sense.
    """
    if sense not in ("min", "max"):
        raise ValueError(f"sense is 'min' or 'max', not {sense!r}.")
    if not 0 <= output < network.n_outputs:
        raise ValueError(
            f"there is no output {output}; the network has {network.n_outputs}."
        )
    clock, m = Deadline(), pyo.ConcreteModel()
    m.net = ReLUNetBlock(
        network=network,
        input_bounds=bounds.input_box,
        bounds=bounds,
        formulation=formulation,
    )
    m.objective = pyo.Objective(
        expr=list(m.net.outputs.values())[output],
        sense=pyo.minimize if sense == "min" else pyo.maximize,
    )
    relax = pyo.TransformationFactory("core.relax_integer_vars")
    token = relax.apply_to(m)
    root = solve_quietly(ReluHighs(), m)
    relax.apply_to(m, reverse=token)
    # Boxes may decide what is hard for a MIP; here the MIP is what is looked at.
    found = solve_quietly(ReluHighs(), m, time_limit, boxes=0)
    relaxed = root.bound if root.value is None else root.value
    return RootGap(relaxed, found.value, found.bound, found.nodes, clock.elapsed)
