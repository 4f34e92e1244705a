"""What `block.statistics()` returns: sizes, bounds and times, as a table or numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pyomo.environ import Constraint, Var
from pyomo.repn import generate_standard_repn

from pyomo_relu.base.tables import aligned, html_table
from pyomo_relu.bounds import Bounds
from pyomo_relu.formulations.whole import LAYER, WholeFormulation, whole_of
from pyomo_relu.network import Affine, Max, PiecewiseLinear, Smooth
from pyomo_relu.programs.lazy_rows import LazyRow


@dataclass
class LayerStatistics:
    """One nonlinear layer: its units and the range of its pre-activation bounds."""

    name: str
    function: str
    formulation: str
    units: int
    stable: int
    written: int
    binaries: int
    big_m: tuple[float, float] | None


@dataclass
class BlockStatistics:
    """Sizes of a network block.

    Attributes
    ----------
    layers : list of LayerStatistics
    neurons, stable : int
        Units of piecewise-linear layers, and those on one piece over the box.
    binaries, variables, constraints : int
        What the block holds; ``variables`` counts binaries and outputs too.
    big_m : (float, float) or None
        Smallest and largest big-M constant, ``max(-l, u)`` over unstable neurons.
    coefficients : (float, float) or None
        Smallest and largest absolute coefficient of a variable in the rows, without those of
        ``scale``.
    unit_factors : (float, float) or None
        Smallest and largest power of two by which rows ``scale`` change the units of inputs and
        outputs that are far from order one.
    units_on_one_side : int
        Unstable units without a binary, since the model needs one side of them only.
    reason : str
        Why the formulations ``auto`` and ``one_sided`` wrote what they did; else empty.
    pieces : int
        Pieces of the curves that ``accuracy=`` writes for smooth units; 0 without.
    proved_error, accuracy : float or None
        Of outputs: the largest error that was proved, and the largest that was asked for.
    bound_method : str
    bound_seconds, build_seconds : float
        Time of the bounds, and of bounds and writing together.
    """

    name: str
    formulation: Any
    layers: list[LayerStatistics] = field(default_factory=list)
    neurons: int = 0
    stable: int = 0
    binaries: int = 0
    variables: int = 0
    constraints: int = 0
    big_m: tuple[float, float] | None = None
    coefficients: tuple[float, float] | None = None
    unit_factors: tuple[float, float] | None = None
    units_on_one_side: int = 0
    reason: str = ""
    pieces: int = 0
    proved_error: float | None = None
    accuracy: float | None = None
    bound_method: str = ""
    bound_seconds: float = 0.0
    build_seconds: float = 0.0

    def sum_up(self) -> None:
        """Set the figures of neurons from those of the layers."""
        neurons = [s for s in self.layers if s.function != "max"]
        self.neurons = sum(s.units for s in neurons)
        self.stable = sum(s.stable for s in neurons)
        spans = [s.big_m for s in neurons if s.big_m is not None]
        if spans:
            self.big_m = (min(a for a, _ in spans), max(b for _, b in spans))

    def _table(self) -> list[tuple[str, ...]]:
        head = ("layer", "function", "formulation", "units", "stable", "binaries", "big-M")
        table: list[tuple[str, ...]] = [head]
        for s in self.layers:
            span = "" if s.big_m is None else f"{s.big_m[0]:.3g} to {s.big_m[1]:.3g}"
            numbers = (str(n) for n in (s.units, s.stable, s.binaries))
            table.append((s.name, s.function, s.formulation, *numbers, span))
        return table

    def _title(self) -> str:
        why = f" ({self.reason})" if self.reason else ""
        return f"{self.name}: {self.formulation}{why}"

    def _totals(self) -> list[str]:
        total = (
            f"{self.neurons} neurons, {self.stable} stable; {self.variables} variables, "
            f"{self.binaries} binary; {self.constraints} constraints; bounds by "
            f"{self.bound_method or 'none'} in {self.bound_seconds:.3f} s, built in "
            f"{self.build_seconds:.3f} s"
        )
        lines = [total]
        if self.coefficients is not None:
            low, high = self.coefficients
            range_of_all = f"coefficients from {low:.3g} to {high:.3g}"
            if self.unit_factors is not None:
                low, high = (round(math.log2(f)) for f in self.unit_factors)
                span = f"2^{low}" if low == high else f"2^{low} to 2^{high}"
                range_of_all += f"; rows 'scale' change units, by {span}"
            lines.append(range_of_all)
        if self.proved_error is not None:
            lines.append(
                f"curves of {self.pieces} pieces for smooth units; outputs are within "
                f"{self.proved_error:.3g} of the true network, as is proved "
                f"(accuracy={self.accuracy:g})"
            )
        return lines

    def __str__(self) -> str:
        lines = aligned(self._table())
        return "\n".join([self._title(), *lines, lines[1], *self._totals()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(self._table(), self._title(), "; ".join(self._totals()))


def _sum_of(name: str, doc: str) -> property:
    """A property: the sum of a figure over all blocks."""

    def total(self: Any) -> Any:
        return sum(getattr(s, name) for s in self.blocks.values())

    return property(total, doc=doc)


@dataclass
class IndexedStatistics:
    """Sizes of the blocks of an indexed network block, and their sums.

    Attributes
    ----------
    blocks : dict
        :class:`BlockStatistics` by index.
    neurons, stable, binaries, variables, constraints, units_on_one_side : int
        Sums over the blocks.
    bound_seconds, build_seconds : float
        Sums, too; blocks with the same network and box share their bounds, and each counts
        the time of these.
    """

    name: str
    blocks: dict[Any, BlockStatistics]

    neurons = _sum_of("neurons", "Units of piecewise-linear layers.")
    stable = _sum_of("stable", "Those of them on one piece over the box.")
    binaries = _sum_of("binaries", "Binary variables.")
    variables = _sum_of("variables", "All variables.")
    constraints = _sum_of("constraints", "Constraints.")
    units_on_one_side = _sum_of(
        "units_on_one_side", "Unstable units of which the model needs one side only."
    )
    bound_seconds = _sum_of("bound_seconds", "Time of the bounds.")
    build_seconds = _sum_of("build_seconds", "Time of bounds and writing together.")

    def __getitem__(self, index: Any) -> BlockStatistics:
        return self.blocks[index]

    def _table(self) -> list[tuple[str, ...]]:
        head = ("index", "formulation", "neurons", "stable", "binaries", "bounds")
        table: list[tuple[str, ...]] = [head]
        for index, s in self.blocks.items():
            numbers = (str(n) for n in (s.neurons, s.stable, s.binaries))
            table.append((str(index), str(s.formulation), *numbers, s.bound_method))
        return table

    def _total(self) -> str:
        return (
            f"{len(self.blocks)} blocks: {self.neurons} neurons, {self.stable} stable; "
            f"{self.variables} variables, {self.binaries} binary; {self.constraints} "
            f"constraints; built in {self.build_seconds:.3f} s"
        )

    def __str__(self) -> str:
        lines = aligned(self._table())
        return "\n".join([self.name, *lines, lines[1], self._total()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(self._table(), self.name, self._total())


def block_statistics(block: Any) -> BlockStatistics:
    """Count what a network block holds; see :meth:`ReLUNetBlockData.statistics`."""
    bounds, layers = block.bounds, block.component("layer")
    result = BlockStatistics(block.name, block.formulation)
    result.build_seconds = block._build_seconds
    own = {id(v) for v in block.component_data_objects(Var)}
    users = {id(e) for e in block.entries if not isinstance(e, float)}
    if block.component("inputs").ctype is not Var:
        own -= users
    result.variables = len(own)
    curves = block.approximation
    if curves is not None:
        result.pieces = curves.pieces
        result.proved_error = float(curves.errors.max())
        result.accuracy = float(curves.accuracy.max())
    result.constraints = sum(1 for _ in block.component_data_objects(Constraint))
    if bounds is None or layers is None:
        return result
    result.bound_method, result.bound_seconds = bounds.method, bounds.seconds
    result.coefficients, result.unit_factors = _coefficients(block)
    result.reason, result.units_on_one_side = _reason_and_units(block.formulations)
    whole = whole_of(block.formulations)
    if whole is not None:
        layer = _whole_statistics(layers[LAYER], whole)
        result.layers.append(layer)
        result.binaries += layer.binaries
        return result
    bounds = block._written_of
    for i, node in enumerate(bounds.network.nodes):
        if isinstance(node, (PiecewiseLinear, Smooth, Max)):
            formulation = block.formulations[i].name
            layer = _layer_statistics(i, node, bounds, layers[node.name], formulation)
            result.layers.append(layer)
            result.binaries += layer.binaries
        elif isinstance(node, Affine):
            result.binaries += _count_binaries(layers[node.name])
    result.sum_up()
    return result


def _reason_and_units(formulations: dict[int, Any]) -> tuple[str, int]:
    """Why the formulations are what they are, and how many units they have on one side."""
    kinds = dict.fromkeys(formulations.values())
    reason = next((f.reason for f in kinds if f.reason), "")
    return reason, sum(f.units_on_one_side for f in kinds)


def _layer_statistics(
    i: int,
    node: PiecewiseLinear | Smooth | Max,
    bounds: Bounds,
    held: Any,
    formulation: str,
) -> LayerStatistics:
    """Of a nonlinear node and of what its formulation wrote into a block."""
    function, span, stable = "max", None, 0
    if isinstance(node, (PiecewiseLinear, Smooth)):
        function, fixed = node.function, bounds.stable(i)
        stable = int(fixed.sum())
        low, high = bounds.lower[node.source][~fixed], bounds.upper[node.source][~fixed]
        if len(low):
            sizes = np.maximum(-low, high)
            span = (float(sizes.min()), float(sizes.max()))
    written = sum(1 for _ in held.component_data_objects(Constraint))
    binaries = _count_binaries(held)
    return LayerStatistics(
        node.name, function, formulation, node.size, stable, written, binaries, span
    )


def _whole_statistics(held: Any, formulation: WholeFormulation) -> LayerStatistics:
    """Of a network that is written as a whole."""
    rows = sum(1 for _ in held.component_data_objects(Constraint))
    what, name = formulation.contents, formulation.chosen
    return LayerStatistics(LAYER, what, name, 0, 0, rows, _count_binaries(held), None)


def _count_binaries(held: Any) -> int:
    return sum(1 for v in held.component_data_objects(Var) if v.is_binary())


class _Range:
    """The smallest and the largest of absolute values, zeros left out."""

    def __init__(self) -> None:
        self.low, self.high = math.inf, 0.0

    def add(self, values: np.ndarray) -> None:
        sizes = np.abs(values)
        sizes = sizes[sizes > 0]
        if sizes.size:
            self.low = min(self.low, float(sizes.min()))
            self.high = max(self.high, float(sizes.max()))

    def ends(self) -> tuple[float, float] | None:
        return (self.low, self.high) if self.high else None


def _coefficients(
    block: Any,
) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    """The range of coefficients in the active rows of a block, and that of unit factors."""
    everything, factors = _Range(), _Range()
    for row in block.component_data_objects(Constraint, active=True):
        if isinstance(row, LazyRow):
            found = np.append(row.coefficients(), 1.0)
        else:
            repn = generate_standard_repn(row.body)
            found = np.array([*repn.linear_coefs, *repn.quadratic_coefs], dtype=float)
        if row.parent_component().local_name == "scale":
            factors.add(found[np.abs(found) != 1.0])
        else:
            everything.add(found)
    return everything.ends(), factors.ends()
