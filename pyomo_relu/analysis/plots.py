"""Pictures of what makes a network hard, with Matplotlib, which is imported when it is needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyomo_relu.analysis.difficulty import RungSummary
from pyomo_relu.bounds.region_pictures import axes_or_new


def save_and_close(ax: Any, path: Path) -> None:
    """Save the figure of some axes, and forget it."""
    import matplotlib.pyplot as plt

    ax.figure.savefig(path, dpi=150)
    plt.close(ax.figure)


def plot_stability(rungs: Sequence[RungSummary], *, ax: Any = None) -> Any:
    """Bars of the share of stable neurons of each layer, by rung of bounds.

    Parameters
    ----------
    rungs : sequence of RungSummary
        The rungs of one network.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    ax, layers = axes_or_new(ax, 3.8), rungs[0].layers
    x, width = np.arange(len(layers)), 0.8 / len(rungs)
    for k, r in enumerate(rungs):
        share = [100.0 * s.stable / s.units for s in r.layers]
        at = x + (k - 0.5 * (len(rungs) - 1)) * width
        ax.bar(at, share, width, label=f"{r.method}: {100 * r.share:.0f} %")
    ax.set_xticks(x, [s.name for s in layers])
    ax.set_ylabel("stable neurons, %")
    ax.set_ylim(0, 100)
    ax.legend(title="of all neurons")
    return ax


def plot_big_m(rungs: Sequence[RungSummary], *, ax: Any = None) -> Any:
    """Range and median of the big-M constants of each layer, by rung of bounds.

    Parameters
    ----------
    rungs : sequence of RungSummary
        The rungs of one network.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    ax, layers = axes_or_new(ax, 3.8), rungs[0].layers
    for k, r in enumerate(rungs):
        found = [(i, s.big_m) for i, s in enumerate(r.layers) if s.big_m is not None]
        if not found:
            continue
        x = np.array([i for i, _ in found]) + 0.12 * (k - 0.5 * (len(rungs) - 1))
        low, middle, high = np.array([m for _, m in found]).T
        ax.errorbar(
            x, middle, [middle - low, high - middle], fmt="o-", capsize=3, label=r.method
        )
    ax.set_xticks(np.arange(len(layers)), [s.name for s in layers])
    ax.set_yscale("log")
    ax.set_ylabel("big-M: smallest, median, largest")
    if ax.get_legend_handles_labels()[0]:
        ax.legend()
    return ax
