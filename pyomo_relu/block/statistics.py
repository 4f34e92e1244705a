"""What `block.statistics()` returns: sizes, bounds and times, as a table or numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pyomo.environ import Constraint, Var
from pyomo.repn import generate_standard_repn

from pyomo_relu.network import Input, Max, PiecewiseLinear
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
        Smallest and largest absolute coefficient of a variable in the rows.
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
    bound_method: str = ""
    bound_seconds: float = 0.0
    build_seconds: float = 0.0

    def __str__(self) -> str:
        head = ("layer", "function", "formulation", "units", "stable", "binaries", "big-M")
        table: list[tuple[str, ...]] = [head]
        for s in self.layers:
            span = "" if s.big_m is None else f"{s.big_m[0]:.3g} to {s.big_m[1]:.3g}"
            table.append(
                (
                    s.name,
                    s.function,
                    s.formulation,
                    str(s.units),
                    str(s.stable),
                    str(s.binaries),
                    span,
                )
            )
        lines, rule = aligned(table)
        total = (
            f"{self.neurons} neurons, {self.stable} stable; {self.variables} variables, "
            f"{self.binaries} binary; {self.constraints} constraints; bounds by "
            f"{self.bound_method or 'none'} in {self.bound_seconds:.3f} s, built in "
            f"{self.build_seconds:.3f} s"
        )
        lines = [
            f"{self.name}: {self.formulation}",
            lines[0],
            rule,
            *lines[1:],
            rule,
            total,
        ]
        if self.coefficients is not None:
            low, high = self.coefficients
            lines.append(f"coefficients from {low:.3g} to {high:.3g}")
        return "\n".join(lines)

    __repr__ = __str__


def aligned(table: list[tuple[str, ...]]) -> tuple[list[str], str]:
    """The rows of a table as lines with aligned columns, and a rule as long as they are."""
    widths = [max(map(len, column)) for column in zip(*table)]
    lines = ["  ".join(x.ljust(w) for x, w in zip(r, widths)).rstrip() for r in table]
    return lines, "-" * max(map(len, lines))


@dataclass
class IndexedStatistics:
    """Sizes of the blocks of an indexed network block, and their sums.

    Attributes
    ----------
    blocks : dict
        :class:`BlockStatistics` by index.
    neurons, stable, binaries, variables, constraints : int
        Sums over the blocks.
    bound_seconds, build_seconds : float
        Sums, too; blocks with the same network and box share their bounds, and each counts
        the time of these.
    """

    name: str
    blocks: dict[Any, BlockStatistics]

    def _sum(self, name: str) -> Any:
        return sum(getattr(s, name) for s in self.blocks.values())

    @property
    def neurons(self) -> int:
        """Units of piecewise-linear layers."""
        return self._sum("neurons")

    @property
    def stable(self) -> int:
        """Those of them on one piece over the box."""
        return self._sum("stable")

    @property
    def binaries(self) -> int:
        """Binary variables."""
        return self._sum("binaries")

    @property
    def variables(self) -> int:
        """All variables."""
        return self._sum("variables")

    @property
    def constraints(self) -> int:
        """Constraints."""
        return self._sum("constraints")

    @property
    def bound_seconds(self) -> float:
        """Time of the bounds."""
        return self._sum("bound_seconds")

    @property
    def build_seconds(self) -> float:
        """Time of bounds and writing together."""
        return self._sum("build_seconds")

    def __getitem__(self, index: Any) -> BlockStatistics:
        return self.blocks[index]

    def __str__(self) -> str:
        head = ("index", "formulation", "neurons", "stable", "binaries", "bounds")
        table: list[tuple[str, ...]] = [head]
        for index, s in self.blocks.items():
            numbers = (str(n) for n in (s.neurons, s.stable, s.binaries))
            table.append((str(index), str(s.formulation), *numbers, s.bound_method))
        lines, rule = aligned(table)
        total = (
            f"{len(self.blocks)} blocks: {self.neurons} neurons, {self.stable} stable; "
            f"{self.variables} variables, {self.binaries} binary; {self.constraints} "
            f"constraints; built in {self.build_seconds:.3f} s"
        )
        return "\n".join([self.name, lines[0], rule, *lines[1:], rule, total])

    __repr__ = __str__


def block_statistics(block) -> BlockStatistics:
    """Count what a network block holds; see :meth:`ReLUNetBlockData.statistics`."""
    network, bounds = block.network, block.bounds
    result = BlockStatistics(block.name, block.formulation)
    result.build_seconds = block._build_seconds
    own = {id(v) for v in block.component_data_objects(Var)}
    users = {id(e) for e in block._entries if not isinstance(e, float)}
    if block.component("inputs").ctype is not Var:
        own -= users
    result.variables = len(own)
    result.constraints = sum(1 for _ in block.component_data_objects(Constraint))
    layers = block.component("layer")
    if bounds is None or layers is None:
        return result
    result.bound_method, result.bound_seconds = bounds.method, bounds.seconds
    result.coefficients = _coefficients(block)
    for i, node in enumerate(network.nodes):
        if isinstance(node, Input):
            continue
        held = layers[node.name]
        binaries = sum(1 for v in held.component_data_objects(Var) if v.is_binary())
        result.binaries += binaries
        if not isinstance(node, (PiecewiseLinear, Max)):
            continue
        span, stable = None, 0
        if isinstance(node, PiecewiseLinear):
            fixed = bounds.stable(i)
            stable = int(fixed.sum())
            low, high = bounds.lower[node.source][~fixed], bounds.upper[node.source][~fixed]
            if len(low):
                sizes = [max(-a, b) for a, b in zip(low.tolist(), high.tolist())]
                span = (min(sizes), max(sizes))
                ends = result.big_m or span
                result.big_m = (min(ends[0], span[0]), max(ends[1], span[1]))
            result.neurons += node.size
            result.stable += stable
        result.layers.append(
            LayerStatistics(
                node.name,
                node.function if isinstance(node, PiecewiseLinear) else "max",
                block._formulations[i].name,
                node.size,
                stable,
                sum(1 for _ in held.component_data_objects(Constraint)),
                binaries,
                span,
            )
        )
    return result


def _coefficients(block) -> tuple[float, float] | None:
    """The smallest and the largest absolute coefficient in the active rows of a block."""
    low, high = math.inf, 0.0
    for row in block.component_data_objects(Constraint, active=True):
        if isinstance(row, LazyRow):
            found = np.append(row.coefficients(), 1.0)
        else:
            repn = generate_standard_repn(row.body)
            found = np.array([*repn.linear_coefs, *repn.quadratic_coefs], dtype=float)
        sizes = np.abs(found)
        sizes = sizes[sizes > 0]
        if sizes.size:
            low, high = min(low, float(sizes.min())), max(high, float(sizes.max()))
    return (low, high) if high else None
