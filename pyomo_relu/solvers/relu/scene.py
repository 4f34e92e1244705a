"""What a model is for ``relu``: a few numbers, a sentence, and the plan that follows."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np

from pyomo_relu.formulations.one_sided import count_saved
from pyomo_relu.formulations.unit_sides import UnitSides
from pyomo_relu.network import PiecewiseLinear
from pyomo_relu.presolve.compose import BlockLinks
from pyomo_relu.presolve.directions import needed_sides
from pyomo_relu.presolve.model_scope import unchanged_models
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.solvers.global_search.neuron_search import NeuronSearch
from pyomo_relu.solvers.global_search.settings import TURNS
from pyomo_relu.solvers.global_search.subsystems import find_subsystems
from pyomo_relu.solvers.relu.settings import TOGETHER


class Kind(enum.Enum):
    """What decides which searches run, and in which order."""

    #: Only bounds of the inputs, and of what they make: boxes and sides of neurons.
    BOX = "only bounds constrain the inputs"
    #: Inputs of few values: tables, and a MIP.
    TABLES = "inputs take few values, so networks are tables"
    #: Networks that only rows connect, each subsystem a union of few polytopes: programs over
    #: their vertices.
    POLYTOPES = "subsystems that are few polytopes each"
    #: Few inputs among rows: boxes, then a MIP beside them.
    FEW = "few inputs among rows or bounds of outputs"
    #: Networks that only rows connect: prices for the rows, then a MIP beside them.
    SUBSYSTEMS = "subsystems that only rows connect"
    #: Nonlinear terms or SOS constraints beside the networks: SCIP.
    NONLINEAR = "nonlinear terms or SOS constraints beside the networks"
    #: Smooth units, which no MIP writes exactly: boxes and SCIP.
    SMOOTH = "smooth units in the networks"
    #: Too many inputs for boxes: a MIP with points from the networks.
    MANY = "many inputs that belong together"


@dataclass(frozen=True)
class Scene:
    """What a model is.

    Attributes
    ----------
    kind : Kind
    networks, tabulated : int
        All networks, and those that one choice of binaries makes rows.
    inputs, integers : int
        Drivers that can move, and integers among all columns that can.
    rows : int
    subsystems, widest : int
        How many there are, and how many inputs the largest has.
    neurons : int
        Piecewise linear units of all networks, decided ones too.
    is_convex : bool
        Whether the sides of outputs that the model needs make every network rows without
        binaries: the MIP is one of the user's integers only.
    """

    kind: Kind
    networks: int
    tabulated: int
    inputs: int
    integers: int
    rows: int
    subsystems: int
    widest: int
    neurons: int = 0
    is_convex: bool = False

    def __str__(self) -> str:
        def count(n: int, what: str) -> str:
            return f"{n} {what}{'' if n == 1 else 's'}"

        parts = [
            count(self.networks, "network"),
            count(self.inputs, "free input"),
            count(self.integers, "integer"),
            # A row of one variable, or of one output, has become a bound.
            f"{count(self.rows, 'row')} besides bounds",
        ]
        if self.is_convex:
            parts.append("networks that need no binary")
        if self.subsystems > 1:
            most = count(self.widest, "input")
            parts.append(f"{count(self.subsystems, 'subsystem')} of at most {most}")
        return f"{', '.join(parts)}: {self.kind.value}"


def look_at(problem: Problem) -> Scene:
    """What a problem is."""
    free = problem.lower < problem.upper
    groups = [int(np.count_nonzero(free[d])) for d, _ in find_subsystems(problem)]
    moving = [k for k in groups if k]
    widest = max(moving, default=0)
    kind = _kind(problem, len(groups), widest)
    return Scene(
        kind=kind,
        networks=len(problem.links) + len(problem.tabulated),
        tabulated=len(problem.tabulated),
        inputs=int(np.count_nonzero(free[: problem.n])),
        integers=int(np.count_nonzero(problem.integer & free)),
        rows=len(problem.row_lower),
        subsystems=len(moving),
        widest=widest,
        neurons=_neurons(problem),
        is_convex=kind not in (Kind.NONLINEAR, Kind.SMOOTH) and _is_convex(problem),
    )


def _neurons(problem: Problem) -> int:
    """How many piecewise linear units the networks of a problem have."""
    nodes = () if problem.network is None else problem.network.nodes
    return sum(node.size for node in nodes if isinstance(node, PiecewiseLinear))


def _is_convex(problem: Problem) -> bool:
    """Whether formulation ``one_sided`` would write every network without a binary."""
    blocks = [link.block for link in problem.links]
    if problem.tabulated or not blocks or any(b.bounds is None for b in blocks):
        return False
    with unchanged_models():
        for block in blocks:
            held = UnitSides(block.bounds, needed_sides(block))
            saved, unstable = count_saved(block.bounds, held)
            if not saved or saved < unstable:
                return False
    return True


def _kind(problem: Problem, groups: int, widest: int) -> Kind:
    if problem.nonlinear or problem.sos:
        return Kind.NONLINEAR
    if problem.network is not None and problem.network.smooth_layers:
        return Kind.SMOOTH
    chain = NeuronSearch.fits(problem)
    if chain or (problem.is_box and widest <= TURNS.most_inputs):
        return Kind.BOX
    if problem.network is None or few_values(problem):
        return Kind.TABLES
    if widest > TURNS.most_inputs:
        return Kind.MANY
    return Kind.SUBSYSTEMS if groups > 1 else Kind.FEW


class _Inputs:
    """The inputs of a problem's networks, by how many values they take."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        columns = reversed(list(enumerate(problem.columns)))
        self._column = {id(v): j for j, v in columns}
        self._free = problem.lower < problem.upper
        self.live = [
            link for link in problem.links if any(one.terms for one in link.inputs)
        ]

    def open_and_values(self, link: BlockLinks) -> tuple[int, float]:
        """How many variables of a network's inputs take any value; how many combinations
        of values the others take."""
        places = {self._column.get(key, -1) for one in link.inputs for key in one.terms}
        any_value, combinations = 0, 1.0
        for j in places:
            values = self._values(j)
            if values is None:
                any_value += 1
            else:
                combinations *= values
        return any_value, combinations

    def _values(self, j: int) -> float | None:
        """How many values a variable takes; None where they are many, or it is an output."""
        p = self.problem
        if not 0 <= j < p.n:
            return None
        if not self._free[j]:
            return 1.0
        if p.integer[j]:
            return float(p.upper[j] - p.lower[j]) + 1.0
        values = p.grid.values.get(j)
        return None if values is None else float(len(values))


def few_values(problem: Problem) -> bool:
    """Whether each network takes few values in all inputs that can move but one.

    At least one of them has to take few values: a network of one free input is a curve.
    """
    inputs = _Inputs(problem)
    found = [inputs.open_and_values(link) for link in inputs.live]
    return bool(found) and all(
        any_value <= 1 and 1 < values <= TOGETHER.most_values for any_value, values in found
    )


def small_networks(problem: Problem) -> bool:
    """Whether most networks have so few inputs that they have small exact forms."""
    inputs = _Inputs(problem)
    counts = [inputs.open_and_values(link)[0] for link in inputs.live]
    small = sum(count <= TOGETHER.small_inputs for count in counts)
    return small >= TOGETHER.small_share * max(1, len(counts))
