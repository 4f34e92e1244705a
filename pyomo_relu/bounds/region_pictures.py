"""Pictures of linear regions, with Matplotlib, which is imported when it is needed."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyomo_relu.base.lazy import check_matplotlib
from pyomo_relu.bounds.plane_regions import LinearRegions


def axes_or_new(ax: Any, height: float) -> Any:
    """The given axes, or new ones."""
    check_matplotlib()
    import matplotlib.pyplot as plt

    if ax is None:
        _, ax = plt.subplots(figsize=(6.4, height), layout="constrained")
    return ax


def plot_regions(
    regions: LinearRegions,
    output: int = 0,
    *,
    ax: Any = None,
    cmap: str = "viridis",
    edges: str | None = "white",
    colorbar: bool = True,
    optimum: str | None = None,
) -> Any:
    """Draw the linear regions, coloured by the value of an output.

    Colours are exact: within a region they are interpolated linearly, as the network
    is. With one free input the output is drawn as a curve instead, in one colour for
    each region.

    Parameters
    ----------
    regions : LinearRegions
        With one or two free inputs.
    output : int
        Which entry of the flat output vector.
    ax : matplotlib Axes, optional
        Where to draw; new ones if left out.
    cmap : str
        A Matplotlib colour map.
    edges : str, optional
        Colour of the borders between regions; None leaves them out.
    colorbar : bool
        Whether to add one; for two inputs.
    optimum : {'min', 'max'}, optional
        Mark where the output is smallest or largest.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ImportError
        Without Matplotlib.
    ValueError
        For an unknown output, or a box that is a single point.
    """
    network, d = regions.network, len(regions.free)
    if not 0 <= output < network.n_outputs:
        raise ValueError(
            f"there is no output {output}; the network has {network.n_outputs}."
        )
    if d == 0:
        raise ValueError("the box is a single point; there is nothing to draw.")
    ax = axes_or_new(ax, 5.2)
    names = network.input_names or [f"input {i}" for i in range(network.n_inputs)]
    label = network.output_names[output] if network.output_names else f"output {output}"
    values = regions.output_values()[:, output]
    ax.set_xlabel(names[regions.free[0]])
    if d == 2:
        _draw_plane(ax, regions, values, cmap, edges, label if colorbar else None)
        ax.set_ylabel(names[regions.free[1]])
    else:
        _draw_line(ax, regions, values, cmap)
        ax.set_ylabel(label)
    ax.set_title(f"{label}: {regions.n_regions} linear regions")
    if optimum is not None:
        best = regions.optimum(output, optimum)
        x, *y = best.point[regions.free]
        star = {"marker": "*", "markersize": 15, "clip_on": False, "zorder": 5}
        label = f"{optimum} {best.value:.4g}"
        colours = {"color": "crimson", "markeredgecolor": "white", "linestyle": "none"}
        ax.plot(x, y[0] if y else best.value, label=label, **star, **colours)
        ax.legend(loc="best")
    return ax


def _draw_plane(
    ax: Any,
    regions: LinearRegions,
    values: np.ndarray,
    cmap: str,
    edges: str | None,
    label: str | None,
) -> None:
    from matplotlib.collections import PolyCollection

    cells = regions.cells
    kept = np.flatnonzero(cells.proper).tolist()
    # A fan of triangles for each polygon; linear shading is then the affine map.
    triangles = [
        (cells.start[r], k, k + 1)
        for r in kept
        for k in range(cells.start[r] + 1, cells.start[r + 1] - 1)
    ]
    x, y = cells.vertices.T
    drawn = ax.tripcolor(x, y, np.array(triangles), values, shading="gouraud", cmap=cmap)
    if edges is not None:
        borders = PolyCollection(
            [cells.points(r) for r in kept],
            facecolors="none",
            edgecolors=edges,
            linewidths=0.4,
        )
        ax.add_collection(borders)
    low, high = regions.lower[regions.free], regions.upper[regions.free]
    ax.set_xlim(low[0], high[0])
    ax.set_ylim(low[1], high[1])
    if label is not None:
        ax.figure.colorbar(drawn, ax=ax, label=label)


def _draw_line(ax: Any, regions: LinearRegions, values: np.ndarray, cmap: str) -> None:
    from matplotlib import colormaps
    from matplotlib.collections import LineCollection

    cells = regions.cells
    curve = np.column_stack([cells.vertices[:, 0], values])
    segments = [
        curve[cells.start[r] : cells.start[r + 1]] for r in np.flatnonzero(cells.proper)
    ]
    segments.sort(key=lambda s: s[:, 0].min())
    colours = colormaps[cmap](np.linspace(0.0, 0.9, len(segments)))
    ax.add_collection(LineCollection(segments, colors=colours, linewidths=2.0))
    ax.plot(*np.vstack(segments).T, "o", color="0.25", markersize=2.5)
    ax.set_xlim(regions.lower[regions.free[0]], regions.upper[regions.free[0]])
    ax.margins(y=0.08)
    ax.autoscale_view(scalex=False)
