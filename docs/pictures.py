"""Draw the pictures of the formulations in ``docs/mathematics``.

Where a picture shows a relaxation, the package's own formulation was solved for it, with
its binaries relaxed. ``python docs/pictures.py`` draws them anew, and those of the bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pyomo.environ as pyo
from matplotlib.patches import Polygon
from scipy.spatial import ConvexHull

from pyomo_relu import Network, NetworkBuilder, ReLUNetBlock, activations
from pyomo_relu.analysis import linear_regions, plot_regions
from pyomo_relu.bounds.curves import Curves, pieces_of_outputs
from pyomo_relu.formulations.stretches import borders

BLUE, RED, GREEN, ORANGE, GRAY = "#2166ac", "#b2182b", "#1b7837", "#e08214", "0.55"
FOLDER = Path(__file__).resolve().parent / "mathematics" / "images"

PICTURES: dict[str, Callable[[], plt.Figure]] = {}


def picture(function: Callable[[], plt.Figure]) -> Callable[[], plt.Figure]:
    """Register a picture under its function's name."""
    PICTURES[function.__name__] = function
    return function


def draw(folder: Path = FOLDER, only_missing: bool = False) -> None:
    """Save all pictures; with ``only_missing`` those that are not there."""
    folder.mkdir(parents=True, exist_ok=True)
    style = {"axes.spines.top": False, "axes.spines.right": False, "font.size": 10}
    for name, function in PICTURES.items():
        path = folder / f"{name}.png"
        if only_missing and path.exists():
            continue
        with plt.rc_context(style):
            figure = function()
            figure.savefig(path, dpi=100)
            plt.close(figure)


def panels(count: int, width: float = 3.6, height: float = 3.1) -> tuple:
    """A figure with ``count`` axes side by side."""
    figure, axes = plt.subplots(
        1, count, figsize=(width * count + 0.4, height), layout="constrained", squeeze=False
    )
    return figure, axes[0]


def neuron(weights, bias: float = 0.0) -> Network:
    """``max(0, w x + b)``."""
    b = NetworkBuilder()
    x = b.input("x", (len(weights),))
    pre = b.affine("pre", [(x, np.array([weights], dtype=float))], [bias])
    return b.build([b.piecewise("relu", pre, activations.relu())])


def relaxed_top(network: Network, points: np.ndarray, formulation: str, **options):
    """Largest output of the relaxed formulation at fixed inputs in [0, 1]^n."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(network.n_inputs), bounds=(0, 1))
    m.net = ReLUNetBlock(network=network, inputs=m.x, formulation=formulation, **options)
    m.top = pyo.Objective(expr=m.net.outputs[0], sense=pyo.maximize)
    pyo.TransformationFactory("core.relax_integer_vars").apply_to(m)
    solver = pyo.SolverFactory("appsi_highs")
    values = []
    for point in points:
        for k, v in enumerate(point):
            m.x[k].fix(float(v))
        solver.solve(m)
        values.append(pyo.value(m.top))
    return np.array(values)


def relu_axes(ax, low: float = -1.0, high: float = 2.0) -> None:
    """The graph of a ReLU over [l, u] with its names."""
    ax.plot([low, 0, high], [0, 0, high], color="black", lw=2.2, zorder=5)
    ax.set(xlabel="pre-activation x", ylabel="activation y")
    ax.set_xticks([low, 0, high], ["l", "0", "u"])
    ax.set_yticks([0, high], ["0", "u"])


@picture
def bigm():
    """Two right-hand sides: tight constants, and a default M."""
    figure, axes = panels(2)
    for ax, m, title in zip(
        axes, (None, 3.5), ("constants l and u", "one constant M = 3.5")
    ):
        low, high = (-1.0, 2.0) if m is None else (-m, m)
        corners = [(low, 0), (0, 0), (high, high)]
        ax.add_patch(Polygon(corners, color=BLUE, alpha=0.25, lw=0))
        x = np.array([low, high])
        ax.plot(x, high * (x - low) / (high - low), color=BLUE, lw=1.2)
        relu_axes(ax)
        ax.set(xlim=(-1.6, 2.3), ylim=(-0.3, 2.6), title=title)
        ax.axvline(-1, color=GRAY, lw=0.7, ls=":")
        ax.axvline(2, color=GRAY, lw=0.7, ls=":")
    axes[0].text(-0.55, 0.95, "relaxation:\nthe triangle", color=BLUE, ha="center")
    axes[1].text(-0.6, 2.1, "relaxation", color=BLUE, ha="center")
    return figure


def _section(count: int = 41) -> tuple[np.ndarray, np.ndarray, Network]:
    """Points of [0, 1]^4 on a line, and a neuron whose hull differs there."""
    t = np.linspace(0, 1, count)
    network = neuron([1.0, 1.0, 1.0, 1.0], -2.0)
    points = np.column_stack([t, t, np.full(count, 0.1), np.full(count, 0.75)])
    return t, points, network


@picture
def hull():
    """How much higher big-M lets a neuron of two inputs go than its convex hull."""
    network = neuron([1.0, 1.0], -1.0)
    axis = np.linspace(0, 1, 11)
    points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    true = network.evaluate(points)[:, 0].reshape(11, 11)
    tops = {n: relaxed_top(network, points, n).reshape(11, 11) for n in ("bigm", "hull")}
    figure, axes = panels(3, 3.3)
    tables = (true, tops["hull"] - true, tops["bigm"] - true)
    titles = ("max(0, x₁ + x₂ − 1)", "hull: room above it", "big-M: room above it")
    for ax, table, title, top in zip(axes, tables, titles, (1.0, 0.5, 0.5)):
        shades = ax.contourf(axis, axis, table, np.linspace(0, top, 11), cmap="Blues")
        figure.colorbar(shades, ax=ax, ticks=np.linspace(0, top, 6), label="y")
        ax.plot([0, 1], [1, 0], color="black", lw=0.8, ls="--")
        ax.set(xlabel="input x₁", ylabel="input x₂", title=title, aspect="equal")
    return figure


@picture
def partition():
    """The upper side of the relaxation along a line, by the number of parts."""
    t, points, network = _section()
    figure, (ax,) = panels(1, 5.4, 3.5)
    for parts, colour in ((1, RED), (2, ORANGE), (4, BLUE)):
        top = relaxed_top(network, points, "partition", parts=parts)
        note = {1: " (big-M)", 4: " (hull)"}.get(parts, "")
        ax.plot(t, top, color=colour, lw=1.8, label=f"{parts} parts{note}")
    ax.plot(t, network.evaluate(points)[:, 0], color="black", lw=2.2, label="the neuron")
    ax.set(xlabel="t, at the inputs (t, t, 0.1, 0.75)", ylabel="largest y, relaxed")
    ax.set_title("max(0, x₁ + x₂ + x₃ + x₄ − 2) over [0, 1]⁴")
    ax.legend(loc="upper left")
    return figure


@picture
def cuts():
    """Each set of inputs gives an inequality; the lowest of them is the hull."""
    t, points, network = _section()
    top = relaxed_top(network, points, "bigm")
    hull_top = relaxed_top(network, points, "hull")
    figure, (ax,) = panels(1, 5.4, 3.5)
    ax.plot(t, top, color=RED, lw=1.8, label="big-M")
    z = top / 2.0  # the binary that big-M uses at this point: y = u z with u = 2
    first = True
    for chosen in np.ndindex(2, 2, 2, 2):
        inside = np.array(chosen, dtype=bool)
        # w = 1, L = 0, U = 1: y <= sum over I of x_i + (b + number outside of I) z
        line = points[:, inside].sum(axis=1) + (-2.0 + (~inside).sum()) * z
        ax.plot(t, line, color=GRAY, lw=0.7, label="cuts at big-M's z" if first else None)
        first = False
    ax.plot(t, hull_top, color=BLUE, lw=1.8, label="all cuts: the hull")
    ax.plot(t, network.evaluate(points)[:, 0], color="black", lw=2.2, label="the neuron")
    ax.set(xlabel="t, at the inputs (t, t, 0.1, 0.75)", ylabel="y", ylim=(-0.1, 1.8))
    ax.set_title("What cuts away what big-M allows")
    ax.legend(loc="upper left", fontsize="small")
    return figure


def _either(ax, names: tuple[str, str]) -> None:
    ax.plot([0, 0], [0, 1.6], color=BLUE, lw=3)
    ax.plot([0, 1.6], [0, 0], color=BLUE, lw=3)
    ax.set(xlabel=names[0], ylabel=names[1], xlim=(-0.12, 1.7), ylim=(-0.12, 1.7))
    ax.set_xticks([0])
    ax.set_yticks([0])


@picture
def logarithmic():
    """Which ends of four pieces keep their weights for each value of two binaries."""
    x, y = np.arange(5.0), np.array([0.0, 1.6, 0.6, 1.9, 1.2])
    figure, axes = panels(4, 2.1, 2.4)
    for p, ax in enumerate(axes):
        gray = p ^ (p >> 1)
        ax.plot(x, y, color=GRAY, lw=1)
        ax.plot(x, y, "o", color="white", mec=GRAY, ms=6)
        ax.plot(x[p : p + 2], y[p : p + 2], "o-", color=RED, lw=3, ms=6)
        ax.set(title=f"z = ({gray & 1}, {gray >> 1})", xticks=[], yticks=[], xlabel="x")
    axes[0].set_ylabel("y")
    return figure


def _wavy() -> Network:
    """A network of one input on [0, 4] with a curve of several pieces."""
    rng = np.random.default_rng(4)
    b = NetworkBuilder()
    t = np.linspace(0.3, 3.7, 8)
    h = b.affine("h", [(b.input("x", (1,)), np.ones((8, 1)))], -t)
    r = b.piecewise("r", h, activations.relu())
    return b.build([b.affine("y", [(r, rng.normal(size=(1, 8)) * 1.5)], [1.0])])


def _hull_of(formulation: str, **options) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least and largest output of the relaxation for inputs in [0, 4]."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(0, 4))
    m.net = ReLUNetBlock(network=_wavy(), inputs=[m.x], formulation=formulation, **options)
    pyo.TransformationFactory("core.relax_integer_vars").apply_to(m)
    grid, sides = np.linspace(0, 4, 41), []
    for sense in (pyo.minimize, pyo.maximize):
        m.goal = pyo.Objective(expr=m.net.outputs[0], sense=sense)
        found = []
        for x in grid:
            m.x.fix(float(x))
            pyo.SolverFactory("appsi_highs").solve(m)
            found.append(pyo.value(m.goal))
        m.del_component("goal")
        sides.append(np.array(found))
    return grid, *sides


@picture
def regions():
    """A network of one input, its relaxation by neurons and by its curve."""
    figure, axes = panels(2)
    x = np.linspace(0, 4, 400)
    y = _wavy().evaluate(x[:, None])[:, 0]
    for ax, name, title in (
        (axes[0], "bigm", "neuron by neuron"),
        (axes[1], "regions", "the curve as a whole"),
    ):
        grid, low, high = _hull_of(name)
        ax.fill_between(grid, low, high, color=BLUE, alpha=0.18, lw=0)
        ax.plot(x, y, color=RED, lw=2)
        ax.set(xlabel="x", ylabel="y", title=title)
    axes[1].set_ylim(axes[0].get_ylim())
    return figure


@picture
def stretches():
    """One side of a curve, cut where it bends the other way."""
    figure, axes = panels(2)
    x = np.linspace(0, 4, 400)
    y = _wavy().evaluate(x[:, None])[:, 0]
    found = linear_regions(_wavy(), 0.0, 4.0)
    curves = Curves(0.0, 4.0, *pieces_of_outputs(found))
    low, high = y.min() - 0.3, y.max() + 0.3
    for ax, side, end in ((axes[0], "hypograph", low), (axes[1], "epigraph", high)):
        at = borders(curves, [side])
        for k, (a, b) in enumerate(zip(at[:-1], at[1:])):
            inside = (x >= a) & (x <= b)
            shade = 0.28 if k % 2 else 0.14
            ax.fill_between(x[inside], y[inside], end, color=BLUE, alpha=shade, lw=0)
        ax.plot(x, y, color=RED, lw=2)
        title = f"{side}: {len(at) - 1} stretches of {curves.n_pieces} pieces"
        ax.set(xlabel="x", ylabel="y", title=title, ylim=(low, high))
    return figure


@picture
def table():
    """The values at few inputs, and the hull of these points."""
    figure, axes = panels(1, 4.6)
    x = np.linspace(0, 4, 400)
    at = np.array([0.5, 1.25, 2.0, 2.75, 3.5])
    net = _wavy()
    points = np.column_stack([at, net.evaluate(at[:, None])[:, 0]])
    regions = ConvexHull(points)
    axes[0].add_patch(
        Polygon(points[regions.vertices], color=BLUE, alpha=0.18, lw=0, label="relaxation")
    )
    axes[0].plot(x, net.evaluate(x[:, None])[:, 0], color=GRAY, lw=1, label="network")
    axes[0].plot(*points.T, "o", color=RED, label="table")
    axes[0].set(xlabel="x", ylabel="y")
    axes[0].legend(fontsize="small")
    return figure


@picture
def auto():
    """What the free inputs of a network ask for: a curve, a table, or its neurons."""
    figure, axes = panels(3, 2.9, 2.9)
    net, x = _wavy(), np.linspace(0, 4, 400)
    y = net.evaluate(x[:, None])[:, 0]
    axes[0].plot(x, y, color=RED, lw=2)
    axes[0].set_title("one free input: regions")
    whole = np.arange(5.0)
    axes[1].plot(x, y, color=GRAY, lw=1)
    axes[1].plot(whole, net.evaluate(whole[:, None])[:, 0], "o", color=RED)
    axes[1].set_title("few values: table")
    for ax in axes[:2]:
        ax.set(xlabel="x", ylabel="y")
    sizes = (3, 4, 4, 1)
    places = [[(k, i - (n - 1) / 2) for i in range(n)] for k, n in enumerate(sizes)]
    for left, right in zip(places, places[1:]):
        for a in left:
            for b in right:
                axes[2].plot(*zip(a, b), color=GRAY, lw=0.6)
    for k, layer in enumerate(places):
        inner = 0 < k < len(sizes) - 1
        axes[2].plot(*zip(*layer), "o", color=RED if inner else "black", ms=8)
    axes[2].set_title("else: bigm, by neurons")
    axes[2].axis("off")
    return figure


@picture
def sos1():
    """The set that SOS1 keeps, and how it is branched on."""
    figure, axes = panels(2)
    _either(axes[0], ("y", "s"))
    axes[0].set_title("SOS1(y, s): at most one is not 0")
    relu_axes(axes[1])
    axes[1].plot([-1, 0], [0, 0], color=RED, lw=4, zorder=6, label="branch y = 0: x = −s")
    axes[1].plot([0, 2], [0, 2], color=BLUE, lw=4, zorder=6, label="branch s = 0: x = y")
    axes[1].set_title("The two branches, on the graph")
    axes[1].legend(loc="upper left", fontsize="small")
    return figure


@picture
def indicator():
    """Which rows hold always, and which for one value of the binary."""
    figure, axes = panels(2)
    for ax, value in zip(axes, (0, 1)):
        relu_axes(ax)
        ax.fill([-1, 0, 2, 2, -1], [0, 0, 2, 2.6, 2.6], color=BLUE, alpha=0.15, lw=0)
        xs, ys = ([-1, 0], [0, 0]) if value == 0 else ([0, 2], [0, 2])
        ax.plot(xs, ys, color=RED, lw=4, zorder=6)
        ax.set(ylim=(-0.3, 2.6), title=f"z = {value}: {'y ≤ 0' if value == 0 else 'y ≤ x'}")
    axes[0].text(0.1, 1.75, "always:\ny ≥ 0, y ≥ x", color=BLUE, ha="center")
    return figure


@picture
def disjunctive():
    """The pieces of two activations as the terms of a disjunction."""
    figure, axes = panels(2)
    relu_axes(axes[0])
    axes[0].plot([-1, 0], [0, 0], color=RED, lw=4, zorder=6, label="y = 0, x ≤ 0")
    axes[0].plot([0, 2], [0, 2], color=BLUE, lw=4, zorder=6, label="y = x, x ≥ 0")
    axes[0].set_title("ReLU: either, or")
    x = [-2.5, -1, 1, 2.5]
    y = [-1, -1, 1, 1]
    for k, (colour, text) in enumerate(
        ((RED, "y = −1, x ≤ −1"), (GREEN, "y = x, −1 ≤ x ≤ 1"), (BLUE, "y = 1, x ≥ 1"))
    ):
        axes[1].plot(x[k : k + 2], y[k : k + 2], color=colour, lw=4, label=text)
    axes[1].set(xlabel="pre-activation x", ylabel="activation y", ylim=(-1.3, 2.4))
    axes[1].set_title("Hard tanh: one of three")
    for ax in axes:
        ax.legend(loc="upper left", fontsize="small")
    return figure


@picture
def complementarity():
    """The set 0 <= y, s with y s <= 0, and how little room a tolerance gives."""
    figure, axes = panels(2)
    _either(axes[0], ("y", "s"))
    axes[0].set_title("0 ≤ y ⊥ s ≥ 0")
    _either(axes[1], ("y", "s"))
    y = np.linspace(0.01, 1.7, 300)
    for eps, colour in ((0.2, ORANGE), (0.05, RED)):
        axes[1].plot(y, eps / y, color=colour, lw=1.5, label=f"y s = {eps:g}")
    axes[1].legend()
    axes[1].set_title("y s ≤ ε: why solvers relax it")
    return figure


@picture
def relaxation():
    """Convex hulls of three graphs over an interval."""
    cases = (
        ("ReLU", [(-1, 0), (0, 0), (2, 2)]),
        ("hard tanh", [(-2, -1), (-1, -1), (1, 1), (2.5, 1)]),
        ("step", [(-1.5, 0), (0, 0), (0, 1), (1, 1)]),
    )
    figure, axes = panels(3, 3.1, 2.9)
    for ax, (name, ends) in zip(axes, cases):
        points = np.array(ends, dtype=float)
        corners = points[ConvexHull(points).vertices]
        ax.add_patch(Polygon(corners, color=BLUE, alpha=0.25, lw=0))
        pieces = [points[:2], points[2:]] if name == "step" else [points]
        for piece in pieces:
            ax.plot(*piece.T, color="black", lw=2.2)
        ax.set(xlabel="pre-activation x", ylabel="activation y", title=name)
    return figure


@picture
def one_sided():
    """What is left of two units when one side of them is needed."""
    figure, axes = panels(2, 3.6, 2.9)
    for ax, y, end, side in zip(
        axes, ([0, 0, 2], [-1, 1, 1]), (2.4, -1.4), ("below", "above")
    ):
        ax.fill_between([-2, 0, 2], y, end, color=BLUE, alpha=0.25, lw=0)
        ax.plot([-2, 0, 2], y, color="black", lw=2.2)
        ax.set(
            xlabel="pre-activation x", ylabel="activation y", title=f"Held from {side} only"
        )
    return figure


@picture
def fixed_pattern():
    """The region of one activation pattern among all of them."""
    rng = np.random.default_rng(5)
    b = NetworkBuilder()
    last = b.input("x", (2,))
    for k, (n, size) in enumerate(((2, 7), (7, 6))):
        last = b.affine(
            f"dense_{k}", [(last, rng.normal(size=(size, n)))], rng.normal(size=size)
        )
        last = b.piecewise(f"relu_{k}", last, activations.relu())
    network = b.build([b.affine("out", [(last, rng.normal(size=(1, 6)))])])
    regions = linear_regions(network, -2.0, 2.0)
    figure, (ax,) = panels(1, 5.0, 4.0)
    plot_regions(regions, ax=ax)
    point = np.array([0.5, 0.2])
    cells = map(regions.vertices, range(regions.n_regions))
    inside = next(cell for cell in cells if _contains(cell, point))
    ax.add_patch(Polygon(inside, fill=False, ec=RED, lw=2.5, zorder=5))
    ax.plot(*point, "o", color=RED, mec="white", zorder=6)
    ax.set(xlabel="input x₁", ylabel="input x₂", title="The region around a point")
    return figure


def _contains(polygon: np.ndarray, point: np.ndarray) -> bool:
    """Whether a convex polygon contains a point."""
    edges = np.roll(polygon, -1, axis=0) - polygon
    to = point - polygon
    cross = edges[:, 0] * to[:, 1] - edges[:, 1] * to[:, 0]
    return bool((cross >= 0).all() or (cross <= 0).all())


@picture
def maximum():
    """The maximum of two entries, and the room that big-M and the hull leave above it."""
    figure, axes = panels(2, 3.8)
    low, high = np.array([-1.0, -0.5]), np.array([1.0, 1.5])
    t = np.linspace(0, 1, 101)[:, None]
    points = low + t * (high - low) * [1.0, 0.0] + [0.0, 0.9]
    top = points.max(axis=1)
    axes[0].plot(points[:, 0], points[:, 0], color=BLUE, lw=1, ls="--", label="x₁")
    axes[0].axhline(0.4, color=GREEN, lw=1, ls="--", label="x₂ = 0.4")
    axes[0].plot(points[:, 0], top, color="black", lw=2.2, label="max(x₁, x₂)")
    # Concave hull over the box, with one binary for each entry relaxed.
    z = np.linspace(0, 1, 401)[:, None]
    first = np.minimum(high[0] * z, points[:, 0] - low[0] * (1 - z))
    second = np.minimum(high[1] * (1 - z), 0.4 - low[1] * z)
    axes[0].plot(points[:, 0], (first + second).max(axis=0), color=RED, label="hull, above")
    axes[0].set(xlabel="x₁", ylabel="y", title="x₂ = 0.4, over [−1, 1] × [−0.5, 1.5]")
    axes[0].legend(fontsize="small")
    axis = np.linspace(-1, 1, 61)
    x, y = np.meshgrid(axis, axis)
    axes[1].contourf(x, y, np.maximum(x, y), 12, cmap="viridis")
    axes[1].plot([-1, 1], [-1, 1], color="white", lw=2)
    axes[1].text(0.45, -0.5, "x₁ is chosen", color="white", ha="center")
    axes[1].text(-0.4, 0.6, "x₂ is chosen", color="white", ha="center")
    axes[1].set(xlabel="x₁", ylabel="x₂", title="One binary for each entry", aspect="equal")
    return figure


@picture
def steps():
    """The graph of a step, and its closure."""
    figure, axes = panels(2)
    for ax, closed in zip(axes, (False, True)):
        ax.plot([-1.5, 0], [0, 0], color="black", lw=2.2)
        ax.plot([0, 1.5], [1, 1], color="black", lw=2.2)
        ax.plot(0, 1, "o", color="black", ms=8)
        ax.plot(0, 0, "o", color="black", ms=8, mfc="black" if closed else "white")
        ax.set(xlabel="pre-activation x", ylabel="activation y", ylim=(-0.2, 1.3))
        ax.set_title("in the model: closed" if closed else "the network: on at x ≥ 0")
        ax.set_yticks([0, 1])
    return figure


if __name__ == "__main__":
    import sys

    sys.modules["pictures"] = sys.modules["__main__"]
    import bound_pictures  # noqa: F401, registers its own
    import search_pictures  # noqa: F401, likewise

    draw()
