r"""Oil production: which riser for which well
==========================================

Eight wells feed two risers that lead to separators at the surface. Each well is routed to
one of them or shut. What a well gives falls with the pressure at its head; what a riser
needs at its foot grows with what flows through it; gas is limited. How much oil can be had?

The problem is that of Grimstad and Andersson (`arXiv 1907.03140
<https://arxiv.org/abs/1907.03140>`_), and so are the networks (MIT licence, beside the
data): eight 1-20-20-1 networks give the oil of a well by its pressure, one 4-50-50-1 network
gives the pressure at the top of a riser by the rates of oil, gas and water and the pressure
at its foot. For a well :math:`i` on a riser :math:`r`

.. math::

   q_i = f_i(p_i),\qquad p_i \ge p_r,\qquad
   g\Bigl(\sum_{i \to r} (1, \gamma_i, \omega_i)\, q_i,\; p_r\Bigr) = s_r,\qquad
   \max \sum_i q_i

with the gas :math:`\gamma_i` and the water :math:`\omega_i` by the oil of a well, and the
pressures :math:`s_r` of the separators. The equalities on outputs make it hard: a riser's
foot must have just the pressure that brings its flow to the top.

The script builds the model, lets each block choose its formulation, finds good operation by
``find_start``, checks the best one known through the networks and all rows, and draws it.
Run it with ``python examples/oil_production.py``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pyomo.environ as pyo

HERE = Path(__file__).resolve().parent
if str(HERE.parent / "benchmarks") not in sys.path:
    sys.path.append(str(HERE.parent / "benchmarks"))

from wired_models.production import (  # noqa: E402
    LEAST_PRESSURE,
    PHASES,
    RISERS,
    SEPARATOR,
    WELL_PRESSURE,
    WELLS,
    by_oil,
    production,
)

from pyomo_relu import find_start  # noqa: E402
from pyomo_relu.analysis import linear_regions  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

#: The best operation known: the riser of each well, and the pressures at
#: the wells' heads and the risers' feet in 100 bar. It was found by the search below, and
#: proved to 1e-4 by a branch and cut of 110 CPU seconds.
BEST_ROUTES = [1, 0, 1, 1, 1, 0, 0, 0]
BEST_PRESSURES = [
    0.9367067465, 0.7452773835, 0.9367067465, 0.9367067465, 0.9367067465,
    0.7452773835, 0.7452773835, 0.7452773835, 0.7452773835, 0.9367067465,
]  # fmt: skip
#: Its oil, in 100,000 barrels a day.
BEST = 1.286386

# %%
# The model
# ---------
# ``wired_models.production`` in the folder of the benchmarks has the rows: 18 binaries of
# the user's, rates that are split and gathered, pressures of open wells. The wells are one
# indexed block, and the risers another:
#
# .. code-block:: python
#
#    m.well = ReLUNetBlock(
#        WELLS, network={...}, inputs=lambda m, i: [m.wellhead[i]], formulation="auto"
#    )
#    m.riser = ReLUNetBlock(
#        RISERS,
#        network=...,
#        inputs=lambda m, r: [*(m.flow[r, p] for p in PHASES), m.pressure[r]],
#        formulation="auto",
#    )
#
# A well has forty neurons and 4 to 14 linear pieces, so ``auto`` writes its curve, with the
# curve's convex hull as relaxation. A riser has four free inputs and stays a network of
# neurons: 184 of the binaries are theirs, and they make the bound.


def build() -> pyo.ConcreteModel:
    """The model, with what is written of its networks in print."""
    m = production(formulation="auto")
    print("wells:", m.well[1].statistics().reason)
    print("risers:", m.riser[0].statistics().reason)
    print(m.well.statistics())
    coded = m.clone()
    for block in coded.well.values():
        block.reformulate("regions", form="logarithmic")
    print("with form='logarithmic':", coded.well.statistics().binaries, "binaries of wells")
    return m


# %%
# Good operation by the networks
# ------------------------------
# ``find_start`` replaces the networks by functions that are linear around a point, lets a
# mixed-integer program choose the routes, and follows with linear programs until the risers'
# equalities hold; then it tries other routes around. The first point takes some tenths of a
# second, where big-M rows leave solvers without any for minutes. A well could be shut only
# where its network gives nothing, and these give a little oil even at the highest pressure,
# so each of them has a riser.


def search(m: pyo.ConcreteModel, seconds: float) -> float:
    """Set the model to the best operation found in so many CPU seconds; its oil."""
    found = find_start(m, time_limit=seconds)
    print(found)
    return float(found.value) if found.feasible else 0.0


# %%
# Into the model, and out again
# -----------------------------
# The best operation known becomes values of all variables. ``polish`` then fixes the linear
# piece of every neuron and the binaries, and solves the linear program that is left: a
# point that holds in all rows, however many digits were stored. ``error`` says how far
# outputs are from the networks.


def load(m: pyo.ConcreteModel, pressures: np.ndarray, routes: np.ndarray) -> None:
    """Give every variable of the model its value in an operation of the field."""
    for i in WELLS:
        m.wellhead[i].value = float(pressures[i])
        m.well[i].warm_start([float(pressures[i])])
        oil = m.well[i].outputs[0].value
        for p in PHASES:
            m.rate[i, p].value = by_oil(i, p) * oil
            for r in RISERS:
                m.to[i, r, p].value = m.rate[i, p].value if routes[i] == r else 0.0
        for r in RISERS:
            m.open[i, r].value = int(routes[i] == r)
            m.drop[i, r].value = 0.0
            if routes[i] == r:
                m.drop[i, r].value = max(0.0, float(pressures[i] - pressures[8 + r]))
    for r in RISERS:
        m.pressure[r].value = float(pressures[8 + r])
        for p in PHASES:
            m.flow[r, p].value = sum(m.to[i, r, p].value for i in WELLS)
        m.riser[r].warm_start([*(m.flow[r, p].value for p in PHASES), m.pressure[r].value])


def check(m: pyo.ConcreteModel) -> dict[str, float]:
    """Polish what is loaded; its oil, and what is off in networks and rows."""
    from pyomo_relu.heuristics import polish

    polished = polish(m)
    blocks = [*m.well.values(), *m.riser.values()]
    print(polished)
    return {
        "oil": float(pyo.value(m.oil)),
        "error": max(b.error() for b in blocks),
        "violation": float(polished.violation),
    }


# %%
# The pictures
# ------------
# The field from the wells at the bottom to the separators: lines as wide as the oil in
# them, pressures at the nodes, shut wells in grey. And the curve of each well with its
# linear pieces, and where it works.

COLORS = ("#1b7837", "#e08214")


def draw_field(ax: Any, m: pyo.ConcreteModel) -> None:
    """The network of wells and risers with the flows of the point that is loaded."""
    route = {i: next((r for r in RISERS if m.open[i, r].value > 0.5), -1) for i in WELLS}
    order = sorted(WELLS, key=lambda i: (route[i] if route[i] >= 0 else 2, i))
    feet = {0: 1.5, 1: 5.5}

    def line(
        a: tuple[float, float], b: tuple[float, float], oil: float, color: str
    ) -> None:
        ax.plot(
            *zip(a, b), color=color, lw=1.0 + 22.0 * oil, solid_capstyle="butt", zorder=1
        )

    def node(
        at: tuple[float, float], name: str, bar: float, color: str, below: bool
    ) -> None:
        ax.plot(*at, "o", ms=13, mfc="white", mec=color, mew=2.5, zorder=3)
        shift, side = (-0.17, "top") if below else (0.17, "bottom")
        text = f"{name}\n{state}"
        ax.text(at[0], at[1] + shift, text, ha="center", va=side, fontsize=9)

    for r in RISERS:
        oil, foot = m.flow[r, "oil"].value, (feet[r], 1.0)
        line(foot, (feet[r], 2.0), oil, COLORS[r])
        state = f"{100 * SEPARATOR[r]:.0f} bar"
        node((feet[r], 2.0), f"separator {r + 1}", state, COLORS[r], below=False)
        ax.plot(*foot, "o", ms=13, mfc="white", mec=COLORS[r], mew=2.5, zorder=3)
        text = f"riser {r + 1}: oil {oil:.3f}\nfoot {100 * m.pressure[r].value:.0f} bar"
        ax.text(feet[r] + 0.35, 1.25, text, fontsize=9, va="center")
    for x, i in enumerate(order):
        r = route[i]
        color = COLORS[r] if r >= 0 else "0.7"
        if r >= 0:
            line((x, 0.0), (feet[r], 1.0), m.rate[i, "oil"].value, color)
        state = f"{100 * m.wellhead[i].value:.0f} bar" if r >= 0 else "shut"
        node((x, 0.0), f"well {i + 1}", state, color, below=True)
    ax.set(xlim=(-0.6, 7.6), ylim=(-0.55, 2.5))
    ax.set_title(f"{pyo.value(m.oil):.4f} times 100,000 barrels of oil a day", fontsize=11)
    ax.axis("off")


def draw_wells(axes: Any, m: pyo.ConcreteModel) -> None:
    """The curves of the wells, the ends of their linear pieces, and where they work."""
    for i, ax in zip(WELLS, axes):
        net, top = m.well[i].network, WELL_PRESSURE[i]
        regions = linear_regions(net, [LEAST_PRESSURE], [top])
        ends = np.unique(regions.cells.vertices[:, 0])
        oil = net.evaluate(ends[:, None])[:, 0]
        ax.plot(100 * ends, oil, "-", color="#2166ac", lw=1.6, zorder=1)
        ax.plot(100 * ends, oil, "o", color="#2166ac", ms=3, zorder=2)
        r = next((r for r in RISERS if m.open[i, r].value > 0.5), -1)
        color = COLORS[r] if r >= 0 else "0.7"
        at = m.wellhead[i].value
        ax.plot(
            100 * at, net.evaluate([at])[0], "D", color=color, mec="black", ms=7, zorder=3
        )
        ax.set_title(f"well {i + 1}: {regions.n_regions} pieces", fontsize=9)
        ax.set_ylim(0, 0.34)
        ax.tick_params(labelsize=7)


def draw(m: pyo.ConcreteModel, path: Path) -> None:
    """Both pictures, one above the other."""
    figure = plt.figure(figsize=(10, 9.2), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1.15, 1])
    draw_field(above.subplots(), m)
    axes = below.subplots(2, 4, sharey=True)
    draw_wells(axes.ravel(), m)
    for ax in axes[1]:
        ax.set_xlabel("pressure at the head, bar", fontsize=8)
    for ax in axes[:, 0]:
        ax.set_ylabel("oil", fontsize=8)
    figure.savefig(path, dpi=110)
    print(f"saved {path}")


# %%
# All together
# ------------


def run(output: Path, seconds: float, limit: float) -> dict[str, float]:
    """Build, search, verify the best operation known, draw it; returns what was found."""
    m = build()
    found = {"searched": search(m, seconds)}
    load(m, np.array(BEST_PRESSURES), np.array(BEST_ROUTES))
    found |= check(m)
    print(
        f"best operation known: oil {found['oil']:.6f}, networks met to {found['error']:.1e}"
    )
    draw(m, output / "oil_production.png")
    if limit > 0:
        # From this point HiGHS closes in from above.
        results = pyo.SolverFactory("relu_highs").solve(
            m, time_limit=limit, warmstart=True, raise_exception_on_nonoptimal_result=False
        )
        found["bound"] = float(results.problem.upper_bound)
        print(f"relu_highs after {limit:g} s: no more than {found['bound']:.4f}")
    return found


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description="Eight wells and two risers.")
    parser.add_argument("--seconds", type=float, default=5.0, help="of the search")
    parser.add_argument(
        "--limit", type=float, default=5.0, help="of relu_highs; 0 for none"
    )
    parser.add_argument("--output", type=Path, default=HERE, help="folder for the picture")
    options = parser.parse_args(argv)
    options.output.mkdir(parents=True, exist_ok=True)
    return run(options.output, options.seconds, options.limit)


# %%
# What it finds
# -------------

if __name__ == "__main__":
    main()
