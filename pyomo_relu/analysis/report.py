"""`report`: one page on how hard a network is over a box, with its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from pyomo_relu.analysis.counting import RegionCount, count_regions, max_regions
from pyomo_relu.analysis.difficulty import (
    DEFAULT_RUNGS,
    RootGap,
    RungSummary,
    compare_bounds,
    root_gap,
)
from pyomo_relu.analysis.plots import (
    plot_big_m,
    plot_stability,
    save_and_close,
)
from pyomo_relu.analysis.slices import regions_on_plane
from pyomo_relu.base.tables import html_table
from pyomo_relu.bounds.ladder import check_box
from pyomo_relu.bounds.plane_regions import LinearRegions, linear_regions
from pyomo_relu.bounds.region_pictures import plot_regions
from pyomo_relu.network import Network

#: Regions are counted by linear programs for at most this many inputs and neurons.
COUNT_INPUTS, COUNT_NEURONS = 6, 40


@dataclass(frozen=True, eq=False)
class Report:
    """What :func:`report` found; ``print`` shows it as tables.

    Attributes
    ----------
    network : Network
    lower, upper : (n_inputs,) arrays
    rungs : list of RungSummary
    max_regions : int
        Upper bound on the linear regions, with the stable neurons of the last rung.
    regions : LinearRegions or None
        All of the box for one or two free inputs, else those of a slice.
    whole : bool
        Whether ``regions`` are those of the whole box.
    count : RegionCount or None
        An exact count where there are more than two free inputs, but few.
    gaps : dict from str to RootGap
        By rung.
    output : int
    sense : str
    """

    network: Network
    lower: np.ndarray
    upper: np.ndarray
    rungs: list[RungSummary]
    max_regions: int
    regions: LinearRegions | None
    whole: bool
    count: RegionCount | None
    gaps: dict[str, RootGap] = field(default_factory=dict)
    output: int = 0
    sense: str = "min"

    def __str__(self) -> str:
        parts = [repr(self.network), "", self._stability(), "", self._layers()]
        parts += ["", self._regions()]
        if self.gaps:
            parts += ["", self._gaps()]
        return "\n".join(parts)

    def _repr_html_(self) -> str:
        parts = [html_table(self._stability_rows(), repr(self.network))]
        parts += [html_table(self._layer_rows()), f"<pre>{escape(self._regions())}</pre>"]
        if self.gaps:
            parts.append(html_table(self._gap_rows()))
        return "".join(parts)

    def _stability_rows(self) -> list[tuple[str, ...]]:
        head = ("bounds", "stable", "share", "growth per layer", "output width", "s")
        return [head, *map(_rung_row, self.rungs)]

    def _stability(self) -> str:
        return table(self._stability_rows())

    def _layers(self) -> str:
        return table(self._layer_rows())

    def _layer_rows(self) -> list[tuple[str, ...]]:
        rows = [("big-M by layer", *(r.method for r in self.rungs))]
        for k, layer in enumerate(self.rungs[0].layers):
            sizes = [r.layers[k].big_m for r in self.rungs]
            cells = ["none" if m is None else f"{m[0]:.3g} to {m[2]:.3g}" for m in sizes]
            rows.append((layer.name, *cells))
        return rows

    def _regions(self) -> str:
        lines = [f"linear regions: at most {_big(self.max_regions)}"]
        if self.count is not None:
            least = "" if self.count.complete else "at least "
            lines.append(
                f"  in the box: {least}{self.count.count} ({self.count.seconds:.1f} s)"
            )
        if self.regions is not None:
            where = "in the box" if self.whole else "on a plane through its centre"
            lines.append(f"  {where}: {self.regions.n_regions}")
        return "\n".join(lines)

    def _gaps(self) -> str:
        return table(self._gap_rows())

    def _gap_rows(self) -> list[tuple[str, ...]]:
        names = self.network.output_names
        name = names[self.output] if names else f"output {self.output}"
        head = (f"{self.sense} {name}", "root", "best", "root gap", "bound", "nodes", "s")
        return [head, *(_gap_row(*item) for item in self.gaps.items())]

    def save(self, folder: str | Path) -> list[Path]:
        """Write ``report.txt``, ``stability.png``, ``big_m.png`` and ``regions.png``.

        Raises
        ------
        ImportError
            Without Matplotlib.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        text = folder / "report.txt"
        text.write_text(str(self) + "\n")
        paths = [text]
        drawn: dict[str, Any] = {}
        if self.rungs[0].units:
            drawn["stability"] = plot_stability(self.rungs)
            drawn["big_m"] = plot_big_m(self.rungs)
        if self.regions is not None and len(self.regions.free):
            drawn["regions"] = plot_regions(self.regions, self.output)
        for name, ax in drawn.items():
            paths.append(folder / f"{name}.png")
            save_and_close(ax, paths[-1])
        return paths


def _rung_row(r: RungSummary) -> tuple[str, ...]:
    growth = "-" if np.isnan(r.growth) else f"{r.growth:.3g}"
    stable, share = f"{r.stable} of {r.units}", f"{100 * r.share:.0f} %"
    return r.method, stable, share, growth, f"{r.output_width:.4g}", f"{r.seconds:.2f}"


def _gap_row(rung: str, g: RootGap) -> tuple[str, ...]:
    best = "none" if g.best is None else f"{g.best:.6g}"
    gap, seconds = f"{100 * g.gap:.1f} %", f"{g.seconds:.1f}"
    return rung, f"{g.root:.6g}", best, gap, f"{g.bound:.6g}", str(g.nodes), seconds


def table(rows: Sequence[Sequence[str]], rule: bool = True) -> str:
    """Columns, the first one left-aligned; with a rule under the first row."""
    widths = [max(len(r[c]) for r in rows) for c in range(len(rows[0]))]
    lines = [
        "  ".join([r[0].ljust(widths[0]), *(t.rjust(w) for t, w in zip(r[1:], widths[1:]))])
        for r in rows
    ]
    if rule:
        lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(line.rstrip() for line in lines)


def _big(n: int) -> str:
    return str(n) if n < 10**7 else f"{float(n):.3g}" if n < 10**300 else "10^300 or more"


def report(
    network: Network,
    box: tuple[Any, Any],
    *,
    rungs: Sequence = DEFAULT_RUNGS,
    output: int = 0,
    sense: str = "min",
    optimize: bool = True,
    regions: bool = True,
    max_count: int = 20_000,
    time_limit: float = 30.0,
) -> Report:
    """Analyse a network over a box.

    Parameters
    ----------
    network : Network
    box : (lower, upper)
        Numbers or (n_inputs,) arrays.
    rungs : sequence of str or (str, dict)
        Rungs of bounds to compare.
    output : int
        Which output to optimize and to draw.
    sense : {'min', 'max'}
    optimize : bool
        Whether to solve for the output's optimum, with the bounds of the first and of
        the last rung.
    regions : bool
        Whether to count and draw linear regions.
    max_count : int
        Give up counting beyond this number.
    time_limit : float
        Seconds for each search and each count.

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        For a bad box, an unknown rung, output or sense.
    """
    lower, upper = check_box(network, *box)
    if not 0 <= output < network.n_outputs:
        raise ValueError(
            f"there is no output {output}; the network has {network.n_outputs}."
        )
    summaries = compare_bounds(network, lower, upper, rungs)
    last = summaries[-1].bounds
    found, whole, count = None, False, None
    if regions:
        found, whole = _drawable(network, lower, upper, max_count)
        few = (lower < upper).sum() <= COUNT_INPUTS and network.n_neurons <= COUNT_NEURONS
        if few and not whole:
            count = count_regions(
                network,
                lower,
                upper,
                bounds=last,
                max_count=max_count,
                time_limit=time_limit,
            )
    gaps = {}
    for s in dict.fromkeys([summaries[0], summaries[-1]]) if optimize else ():
        gaps[s.method] = root_gap(network, s.bounds, output, sense, time_limit=time_limit)
    most = max_regions(network, last)
    return Report(
        network, lower, upper, summaries, most, found, whole, count, gaps, output, sense
    )


def _drawable(
    network: Network, lower: np.ndarray, upper: np.ndarray, most: int
) -> tuple[LinearRegions | None, bool]:
    """The regions of the box, or of a plane through its centre along two free inputs."""
    free = np.flatnonzero(lower < upper)
    whole = len(free) <= 2
    try:
        if whole:
            return linear_regions(network, lower, upper, max_regions=most), True
        # Half of the inputs together: in an image one pixel changes next to nothing.
        origin = 0.5 * (lower + upper)
        first, second = origin.copy(), origin.copy()
        for end, part in zip((first, second), np.array_split(free, 2)):
            end[part] = upper[part]
        box = {"lower": -1.0, "upper": 1.0, "max_regions": most}
        return regions_on_plane(network, origin, first, second, **box), False
    except ValueError as error:
        if "linear regions" not in str(error):
            raise
        return None, whole
