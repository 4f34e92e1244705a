"""Draw how the searches of ``relu`` see a model: a plant, a fleet, a chain; all computed."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pyomo.environ as pyo
from bound_pictures import random_network
from matplotlib.patches import Polygon
from pictures import BLUE, GRAY, GREEN, ORANGE, RED, panels, picture

from pyomo_relu import Network, ReLUNetBlock, compute_bounds
from pyomo_relu.presolve.reading import read_problem
from pyomo_relu.solvers.global_search.limits import Limits
from pyomo_relu.solvers.global_search.strategy import by_polytopes

#: Units of the fleet, what all may use together, and the points of their curves.
SEEDS, LIMIT, POINTS = (3, 12), 0.2, 401
#: What each gains for its use, besides what its network says.
STEEP = 1.6


def _units() -> list[Network]:
    return [random_network((1, 8, 8), seed, 1.4) for seed in SEEDS]


@picture
def search_fleet():
    """Two units that share a limit: their curves and hulls, and the bound by its price."""
    x = np.linspace(-1, 1, POINTS)
    gains = [net.evaluate(x[:, None])[:, 0] + STEEP * x for net in _units()]
    # The best of all pairs on the grid, and the bound for each price.
    total = gains[0][:, None] + gains[1][None]
    allowed = x[:, None] + x[None] <= LIMIT + 1e-12
    best = float(np.where(allowed, total, -np.inf).max())
    at = np.unravel_index(np.argmax(np.where(allowed, total, -np.inf)), total.shape)
    prices = np.linspace(0.0, 3.0, 801)
    bounds = prices * LIMIT + sum(
        (g[:, None] - np.outer(x, prices)).max(axis=0) for g in gains
    )
    right = int(np.argmin(bounds))
    figure, axes = panels(3, 3.5)
    for ax, g, k, color in zip(axes, gains, at, (BLUE, GREEN)):
        price = prices[right]
        ax.plot(x, _hull(x, g), color=GRAY, ls="--", label="hull")
        ax.plot(x, g, color=color, lw=2, label="what the network gives")
        top = float((g - price * x).max())
        ax.plot(x, top + price * x, color=RED, lw=1, label="price of the limit")
        ax.plot(x[k], g[k], "o", color=ORANGE, ms=7, label="best operation")
        ax.set(xlabel="use of the shared limit", ylabel="gain")
    axes[0].set_title("unit 1")
    axes[1].set_title("unit 2")
    axes[0].legend(fontsize=7, frameon=False)
    ax = axes[2]
    ax.plot(prices, bounds, color=RED, lw=2)
    ax.plot(prices[right], bounds[right], "o", color=RED)
    ax.axhline(best, color=ORANGE, ls="--")
    ax.text(3.0, best, "best operation ", color=ORANGE, ha="right", va="bottom")
    ax.set(xlabel="price of the limit", ylabel="bound of the total gain")
    ax.set_title("the bound, price by price")
    return figure


def _hull(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The least concave function above a curve."""
    keep: list[int] = []
    for k in range(len(x)):
        while len(keep) > 1:
            a, b = keep[-2:]
            if (y[b] - y[a]) * (x[k] - x[a]) > (y[k] - y[a]) * (x[b] - x[a]):
                break
            keep.pop()
        keep.append(k)
    return np.interp(x, x[keep], y[keep])


@picture
def search_plant():
    """Two subsystems of two inputs: their polytopes, and the groups of them at the proof."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(2), range(2), bounds=(-1, 1))
    nets = [random_network((2, 7, 7), seed, 1.2) for seed in (5, 9)]

    def build(block, k):
        block.build(nets[k], [m.x[k, 0], m.x[k, 1]], formulation=None)

    m.net = ReLUNetBlock(range(2), rule=build)
    use = sum(m.x[k, 0] - 0.5 * m.x[k, 1] for k in range(2))
    m.limit = pyo.Constraint(expr=use <= -0.4)
    m.low = pyo.Constraint(expr=m.net[0].outputs[0] + m.x[1, 0] <= 0.9)
    gain = sum(m.net[k].outputs[0] for k in range(2))
    m.gain = pyo.Objective(expr=gain, sense=pyo.maximize)
    problem = read_problem(m)
    search = by_polytopes(problem, Limits())
    search.run()
    assert search.proved
    figure, axes = panels(2, 4.2, 3.9)
    for k, (ax, u) in enumerate(zip(axes, search.subsystems)):
        colors = plt.get_cmap("Pastel1").colors
        for g, group in enumerate(u.groups):
            for piece in group.tolist():
                points = u.pieces.points[u.pieces.points_of(np.array([piece])), :2]
                points = np.unique(points.round(9), axis=0)
                middle = points.mean(axis=0)
                turn = np.arctan2(*(points - middle).T)
                corners = points[np.argsort(turn)]
                ax.add_patch(
                    Polygon(corners, facecolor=colors[g % 9], edgecolor="white", lw=0.8)
                )
        used = np.concatenate(u.corners)
        ax.plot(*u.pieces.points[used, :2].T, ".", color=BLUE, ms=5)
        best = search.incumbent.point[u.share.drivers]
        ax.plot(*best, "*", color=RED, ms=13)
        ax.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), aspect="equal")
        ax.set(xlabel="input 1", ylabel="input 2")
        ax.set_title(
            f"subsystem {k + 1}: {len(u.pieces)} polytopes, groups: {len(u.groups)}"
        )
    return figure


@picture
def search_chain():
    """A state over six steps: paths, ranges step by step, and ranges of composed parts."""
    steps, net = 6, random_network((2, 8, 8), 4, 1.1)
    rng = np.random.default_rng(0)

    def paths(count: int, first: tuple[float, float]) -> np.ndarray:
        """States (steps + 1, count) of random controls, the first one within a range."""
        s = np.full(count, 0.3)
        found = [s]
        for t in range(steps):
            u = rng.uniform(*(first if t == 0 else (-1, 1)), count)
            s = 0.5 * s + 0.5 * net.evaluate(np.column_stack([s, u]))[:, 0]
            found.append(s)
        return np.array(found)

    def ranges(first: tuple[float, float]) -> np.ndarray:
        """Bounds (steps + 1, 2) of the state, each step from the range of the one before."""
        low = high = 0.3
        found = [(low, high)]
        for t in range(steps):
            u = first if t == 0 else (-1.0, 1.0)
            box = np.array([[low, high], u])
            bound = compute_bounds(net, box[:, 0], box[:, 1], method="boxes")
            low, high = (
                0.5 * low + 0.5 * float(bound.lower[-1][0]),
                0.5 * high + 0.5 * float(bound.upper[-1][0]),
            )
            found.append((low, high))
        return np.array(found)

    figure, axes = panels(2, 4.6, 3.3)
    t = np.arange(steps + 1)
    whole = ranges((-1, 1))
    axes[0].fill_between(
        t, *whole.T, color=RED, alpha=0.15, lw=0, label="range of the state"
    )
    axes[0].plot(t, paths(60, (-1, 1)), color=GRAY, lw=0.6)
    axes[0].set(xlabel="step", ylabel="state", title="the whole box of controls")
    for part, color in (((-1.0, -0.6), BLUE), ((0.4, 1.0), ORANGE)):
        own = ranges(part)
        axes[1].fill_between(t, *own.T, color=color, alpha=0.2, lw=0)
        axes[1].plot(t, paths(25, part), color=color, lw=0.6)
    axes[1].set(xlabel="step", title="two parts of the first control")
    for ax in axes:
        ax.set(ylim=(whole.min() - 0.05, whole.max() + 0.05))
    axes[0].legend(frameon=False)
    return figure
