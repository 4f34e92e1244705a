"""`block.plot()`: a network of one or two free inputs, the solution, the user's rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from pyomo.core.expr.visitor import identify_variables, replace_expressions
from pyomo.environ import ConcreteModel, Constraint, Param, Reals, value

from pyomo_relu.block.input_bounds import settled_range
from pyomo_relu.bounds.plane_regions import linear_regions
from pyomo_relu.bounds.region_pictures import axes_or_new, plot_regions

#: Points along each input at which the user's rows are evaluated.
POINTS = {1: 401, 2: 81}
#: A row holds up to this, relative to its bound.
HOLDS = 1e-6


def plot(block: Any, output: Any = 0, ax: Any = None, cmap: str = "viridis") -> Any:
    """See :meth:`ReLUNetBlockData.plot`."""
    network = block.network
    k = _position(block, output)
    low, high = _box(block)
    free = np.flatnonzero(low < high)
    if not 1 <= len(free) <= 2:
        raise ValueError(
            f"'{block.name}' has {len(free)} free inputs, but a picture shows one or two; fix "
            "the others (x.fix(value)), or look at slices by pyomo_relu.analysis."
        )
    ax = axes_or_new(ax, 5.2)
    regions = linear_regions(network, low, high)
    plot_regions(regions, k, ax=ax, cmap=cmap)
    entries = [block.entries[i] for i in free.tolist()]
    _draw_rows(block, ax, entries, low, high, free)
    _draw_solution(block, ax, entries, k)
    if ax.get_legend_handles_labels()[1]:
        ax.legend(loc="best")
    return ax


def _box(block: Any) -> tuple[np.ndarray, np.ndarray]:
    """The bounds of the inputs, at its value each that is fixed."""
    low, high = (side.copy() for side in block.present_box())
    for i, entry in enumerate(block.entries):
        settled = None if isinstance(entry, float) else settled_range(entry)
        if settled is not None and settled[0] == settled[1]:
            low[i] = high[i] = settled[0]
    return low, high


def _position(block: Any, output: Any) -> int:
    """The position of an output, by name or number."""
    names, n = block.network.output_names, block.network.n_outputs
    if isinstance(output, str) and names and output in names:
        return list(names).index(output)
    if isinstance(output, (int, np.integer)) and 0 <= output < n:
        return int(output)
    known = f"one of {list(names)}" if names else f"0 to {n - 1}"
    raise ValueError(f"'{block.name}' has no output {output!r}; it has {known}.")


def _draw_solution(block: Any, ax: Any, entries: list[Any], k: int) -> None:
    """A star at the present values, where there are some."""
    y = block.output_variables[k].value
    x = [value(entry, exception=False) for entry in entries]
    if None in x or (len(x) == 1 and y is None):
        return
    label = "solution" if y is None else f"solution, {y:.4g}"
    at = x if len(x) == 2 else [x[0], y]
    ax.plot(
        *([v] for v in at), marker="*", markersize=15, color="crimson", linestyle="none",
        markeredgecolor="white", zorder=6, clip_on=False, label=label,
    )  # fmt: skip


def _draw_rows(
    block: Any,
    ax: Any,
    entries: list[Any],
    low: np.ndarray,
    high: np.ndarray,
    free: np.ndarray,
) -> None:
    """Shade where rows over the free inputs and the block's outputs don't hold."""
    rows = _rows_between(block, entries)
    if not rows:
        return
    count = POINTS[len(free)]
    lines = [np.linspace(low[i], high[i], count) for i in free.tolist()]
    mesh = np.meshgrid(*lines, indexing="xy")
    points = np.tile(low, (mesh[0].size, 1))
    points[:, free] = np.column_stack([one.ravel() for one in mesh])
    broken = _violated(block, entries, rows, points, free)
    if not broken.any():
        return
    label = "rows don't hold: " + ", ".join(row.name for row in rows[:3])
    shade = {"color": "crimson", "alpha": 0.18, "linewidth": 0}
    if len(free) == 1:
        bottom, top = ax.get_ylim()
        ax.fill_between(lines[0], bottom, top, where=broken, label=label, **shade)
        ax.set_ylim(bottom, top)
    else:
        area = broken.reshape(mesh[0].shape).astype(float)
        ax.contourf(
            *mesh, area, levels=[0.5, 1.5], colors=["white"], alpha=0.55, hatches=["///"]
        )
        ax.fill_between([], [], hatch="///", facecolor="white", label=label)


def _rows_between(block: Any, entries: list[Any]) -> list[Any]:
    """Active rows of the model that hold nothing but free inputs and outputs."""
    if any(not entry.is_variable_type() for entry in entries):
        return []
    inside = {id(c) for c in block.component_data_objects(Constraint)}
    known = {id(v) for v in (*entries, *block.output_variables)}
    found = []
    for row in block.model().component_data_objects(Constraint, active=True):
        if id(row) in inside:
            continue
        own = {id(v) for v in identify_variables(row.body, include_fixed=False)}
        if own and own <= known:
            found.append(row)
    return found


def _violated(
    block: Any, entries: list[Any], rows: list[Any], points: np.ndarray, free: np.ndarray
) -> np.ndarray:
    """At which (N, n_inputs) points some row doesn't hold, (N,) bool."""
    values = block.network.evaluate(points)
    broken = np.zeros(len(points), dtype=bool)
    sides = [(value(row.lower), value(row.upper)) for row in rows]
    variables = [*entries, *block.output_variables]
    # Numbers in place of the variables: setting those would make the model's values stale.
    aside = ConcreteModel()
    aside.number = Param(range(len(variables)), mutable=True, initialize=0.0, domain=Reals)
    numbers = list(aside.number.values())
    taken = {id(v): number for v, number in zip(variables, numbers) if not v.fixed}
    bodies = [replace_expressions(row.body, taken) for row in rows]
    at = np.hstack([points[:, free], values])
    for n, point in enumerate(at.tolist()):
        for number, x in zip(numbers, point):
            number.set_value(x)
        for body, (least, most) in zip(bodies, sides):
            found = value(body)
            small = least is not None and found < least - HOLDS * max(1.0, abs(least))
            large = most is not None and found > most + HOLDS * max(1.0, abs(most))
            broken[n] |= small or large
    return broken
