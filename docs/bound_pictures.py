"""Draw the pictures of the bounds in ``docs/mathematics``, all computed by the package."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
from matplotlib.patches import Polygon, Rectangle
from pictures import BLUE, GRAY, GREEN, ORANGE, RED, panels, picture

from pyomo_relu import Network, NetworkBuilder, ReLUNetBlock, activations, compute_bounds
from pyomo_relu.bounds.linear import piecewise_lines
from pyomo_relu.bounds.smooth_lines import smooth_lines
from pyomo_relu.network import Smooth


def random_network(sizes: tuple[int, ...], seed: int, scale: float = 1.0) -> Network:
    """A dense ReLU network with one output."""
    rng = np.random.default_rng(seed)
    b = NetworkBuilder()
    last, n = b.input("x", (sizes[0],)), sizes[0]
    for k, size in enumerate(sizes[1:]):
        w = scale * rng.normal(size=(size, n)) * np.sqrt(2.0 / n)
        last = b.affine(f"dense_{k + 1}", [(last, w)], 0.3 * rng.normal(size=size))
        last = b.piecewise(f"relu_{k + 1}", last, activations.relu())
        n = size
    return b.build([b.affine("out", [(last, rng.normal(size=(1, n)) / np.sqrt(n))])])


def curve() -> tuple[Network, np.ndarray, np.ndarray]:
    """A network of one input, points of [-1, 1], and its values there."""
    network = random_network((1, 8, 8), 12, 1.4)
    x = np.linspace(-1, 1, 601)
    return network, x, network.evaluate(x[:, None])[:, 0]


def true_ranges(network: Network, count: int = 40_000) -> list[tuple]:
    """Sampled ranges of all nodes over [-1, 1]^n."""
    x = np.random.default_rng(0).uniform(-1, 1, (count, network.n_inputs))
    return [(a.min(axis=0), a.max(axis=0)) for a in network.activations(x)]


@picture
def smooth():
    """Lines below and above smooth units over an interval."""
    figure, axes = panels(3, 3.1, 2.9)
    cases = (("tanh", -1.5, 2.5), ("silu", -5.0, 2.0), ("elu", -2.0, 1.5))
    for ax, (name, low, high) in zip(axes, cases):
        node = Smooth(name, (1,), 0, name)
        x = np.linspace(low, high, 301)
        box = np.array([[low]]), np.array([[high]])
        for rule in ("adaptive", "zero", "one"):
            lines = smooth_lines(node, *box, rule)
            ax.plot(x, lines.upper_slope[0] * x + lines.upper_const[0], color=RED, lw=1)
            ax.plot(x, lines.lower_slope[0] * x + lines.lower_const[0], color=BLUE, lw=1)
        y = node(x)
        ax.plot(x, y, color="black", lw=2.2)
        room = 0.6 * (y.max() - y.min())
        ax.set(ylim=(y.min() - room, y.max() + room), title=name)
        ax.set(xlabel="pre-activation x", ylabel="activation y")
    return figure


@picture
def interval():
    """The image of a box under an affine layer, and the box that is kept of it."""
    figure, axes = panels(2, 3.6)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=float)
    axes[0].add_patch(Polygon(corners, color=BLUE, alpha=0.3, lw=0))
    axes[0].set(xlabel="input x₁", ylabel="input x₂", title="the box")
    image = corners @ np.array([[1.0, 0.7], [0.6, -1.0]])
    low, high = image.min(axis=0), image.max(axis=0)
    axes[1].add_patch(Rectangle(low, *(high - low), color=RED, alpha=0.2, lw=0))
    axes[1].add_patch(Polygon(image, color=BLUE, alpha=0.4, lw=0))
    axes[1].text(0, 0, "what is attained", ha="center", va="center")
    axes[1].text(
        0, high[1] + 0.12, "what interval arithmetic keeps", ha="center", color=RED
    )
    axes[1].set(xlabel="neuron 1", ylabel="neuron 2", title="after an affine layer")
    for ax in axes:
        ax.set(xlim=(-2.1, 2.1), ylim=(-2.1, 2.1), aspect="equal")
    return figure


@picture
def improved_interval():
    """A residual sum where terms cancel that interval arithmetic bounds apart."""
    b = NetworkBuilder()
    x = b.input("x", (1,))
    pre = b.affine("pre", [(x, [[1.0], [1.0]])], [2.0, -0.2])
    relu = b.piecewise("relu", pre, activations.relu())
    out = b.affine("out", [(relu, [[-1.0, 0.6]]), (x, [[1.1]])], [2.0])
    network = b.build([out])
    axis = np.linspace(-1, 1, 301)
    figure, (ax,) = panels(1, 5.4, 3.3)
    ax.plot(axis, network.evaluate(axis[:, None])[:, 0], "k", lw=2.2, label="output")
    for rung, colour in (("interval", RED), ("improved_interval", BLUE)):
        bounds = compute_bounds(network, -1, 1, rung)
        for k, end in enumerate(bounds.outputs):
            ax.axhline(float(end[0]), color=colour, lw=1.6, label=None if k else rung)
    ax.set(
        xlabel="input x",
        ylabel="output",
        title="2 − max(0, x+2) + 1.1 x + 0.6 max(0, x−0.2)",
    )
    ax.legend(loc="upper center", fontsize="small", bbox_to_anchor=(0.5, 0.92))
    return figure


@picture
def crown():
    """The lines that each rule takes for a ReLU, on two intervals."""
    figure, axes = panels(2, 4.0)
    colours = {"adaptive": BLUE, "zero": ORANGE, "one": GREEN, "parallel": RED}
    for ax, (low, high) in zip(axes, ((-1.0, 2.0), (-2.0, 1.0))):
        x = np.array([low, high])
        ax.plot([low, 0, high], [0, 0, high], "k", lw=2.2)
        for k, (rule, colour) in enumerate(colours.items()):
            lines = piecewise_lines(
                _relu_node(), np.array([[low]]), np.array([[high]]), rule
            )
            a, c = lines.lower_slope[0, 0], lines.lower_const[0, 0]
            # Lines that coincide stay visible.
            ax.plot(
                x, a * x + c - 0.03 * k, color=colour, lw=1.5, label=f"below, {rule}",
                ls=(0, (4, 1 + k)),
            )  # fmt: skip
        ax.plot(x, lines.upper_slope[0, 0] * x + lines.upper_const[0, 0], color=GRAY, lw=1.5,
                label="above, all rules")  # fmt: skip
        ax.set(xlabel="pre-activation x", ylabel="activation y")
        ax.set_title(f"x in [{low:g}, {high:g}]")
    axes[0].legend(fontsize="small", loc="upper left")
    return figure


def _relu_node():
    network = random_network((1, 1), 0)
    return next(node for node in network.nodes if node.name == "relu_1")


@picture
def alpha_crown():
    """The bound of an output as a function of two lower slopes, and what crown takes."""
    # out = relu(p) - relu(q), p = x1 + x2, q = x1 - x2 + 1, minimized on [-1, 1]^2 with
    # lower line a p for the first neuron and the chord for the second.
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=float)
    p = corners.sum(axis=1)
    slopes = np.linspace(0, 1, 101)
    out = {}
    for name, v in (("relu(x₁ + x₂) + 0.3 x₁ − 0.9 x₂", [0.3, -0.9]),
                    ("relu(x₁ + x₂) − 0.5 x₁ − 0.5 x₂", [-0.5, -0.5])):  # fmt: skip
        out[name] = [(a * p + corners @ v).min() for a in slopes]
    figure, (ax,) = panels(1, 5.4, 3.3)
    for (name, values), colour in zip(out.items(), (BLUE, ORANGE)):
        ax.plot(slopes, values, color=colour, lw=2, label=name)
        best = int(np.argmax(values))
        ax.plot(slopes[best], values[best], "*", color=colour, ms=14, mec="black")
    for a in (0.0, 1.0):
        ax.axvline(a, color=GRAY, lw=0.8, ls=":")
    ax.set(xlabel="slope of the line below the ReLU", ylabel="lower bound of the sum")
    ax.set_title("Each query has slopes of its own (stars); rules take 0, 1 or u/(u−l)")
    ax.title.set_fontsize(9.5)
    ax.legend(fontsize="small", loc="lower center")
    return figure


@picture
def boxes():
    """Linear bounds on 1, 4 and 16 pieces of an input's range."""
    network, x, y = curve()
    figure, axes = panels(3, 3.2)
    for ax, count in zip(axes, (1, 4, 16)):
        edges = np.linspace(-1, 1, count + 1)
        ends = []
        for a, b in zip(edges, edges[1:]):
            low, high = compute_bounds(network, [a], [b], "crown").outputs
            ax.add_patch(
                Rectangle((a, low[0]), b - a, high[0] - low[0], fc=BLUE, alpha=0.25)
            )
            ends += [low[0], high[0]]
        for end in (min(ends), max(ends)):
            ax.axhline(end, color=RED, lw=1.3)
        ax.plot(x, y, "k", lw=1.8)
        ax.set(xlabel="input x", title=f"{count} box{'es' if count > 1 else ''}")
        ax.set_xlim(-1, 1)
    axes[0].set_ylabel("output")
    limits = axes[0].get_ylim()
    for ax in axes:
        ax.set_ylim(limits)
    return figure


@picture
def lp():
    """Smallest and largest output of the triangle relaxation at each input."""
    network, x, y = curve()
    m = pyo.ConcreteModel()
    m.x = pyo.Var([0], bounds=(-1, 1))
    m.net = ReLUNetBlock(network=network, inputs=m.x, formulation="relaxation", bounds="lp")
    m.low = pyo.Objective(expr=m.net.outputs[0])
    m.high = pyo.Objective(expr=m.net.outputs[0], sense=pyo.maximize)
    solver = pyo.SolverFactory("appsi_highs")
    ends = {}
    for name, other in (("low", "high"), ("high", "low")):
        m.component(other).deactivate()
        m.component(name).activate()
        ends[name] = []
        for value in x[::20]:
            m.x[0].fix(float(value))
            solver.solve(m)
            ends[name].append(pyo.value(m.net.outputs[0]))
    figure, (ax,) = panels(1, 5.4, 3.3)
    ax.fill_between(x[::20], ends["low"], ends["high"], color=BLUE, alpha=0.25, lw=0,
                    label="what the linear program allows")  # fmt: skip
    ax.plot(x, y, "k", lw=2, label="the network")
    for k, end in enumerate((min(ends["low"]), max(ends["high"]))):
        ax.axhline(end, color=RED, lw=1.4, label=None if k else "bounds by lp")
    ax.set(xlabel="input x", ylabel="output", xlim=(-1, 1))
    ax.legend(fontsize="small")
    return figure


def _widths(network: Network, rungs, ax) -> None:
    """Mean width of pre-activations by layer, relative to the sampled range."""
    names = [n.name for n in network.nodes]
    layers = [names.index(n) for n in names if n.startswith("dense")]
    sampled = true_ranges(network)
    true = np.array([(sampled[i][1] - sampled[i][0]).mean() for i in layers])
    for (label, rung, options), colour in zip(rungs, (RED, ORANGE, GREEN, BLUE, "black")):
        bounds = compute_bounds(network, -1, 1, rung, **options)
        width = [(bounds.upper[i] - bounds.lower[i]).mean() for i in layers]
        ax.plot(range(1, len(layers) + 1), width / true, "o-", color=colour, label=label)
    ax.axhline(1.0, color=GRAY, lw=1, ls=":")
    ax.set(xlabel="layer", ylabel="mean width / sampled range", yscale="log")
    ax.set_xticks(range(1, len(layers) + 1))
    ax.set_yticks([1, 2, 5, 10], ["1", "2", "5", "10"])
    ax.minorticks_off()
    ax.legend(fontsize="small")


@picture
def rolling():
    """How wide bounds are, by layer, with windows of one to three layers."""
    figure, (ax,) = panels(1, 5.4, 3.4)
    rungs = [("lp", "lp", {})]
    rungs += [(f"rolling, window {w}", "rolling", {"window": w}) for w in (1, 2, 3)]
    _widths(random_network((3, 6, 6, 6, 6, 6), 3), rungs, ax)
    return figure


@picture
def mip():
    """How wide the bounds of each rung are, by layer."""
    figure, (ax,) = panels(1, 5.4, 3.4)
    names = ("interval", "crown", "lp", "mip")
    _widths(random_network((3, 8, 8, 8, 8), 2), [(n, n, {}) for n in names], ax)
    return figure


@picture
def model():
    """A constraint of the model cuts the box, and with it the range of a neuron."""
    figure, (ax,) = panels(1, 5.0, 3.9)
    ax.add_patch(
        Polygon([(-1, -1), (1, -1), (1, 1), (-1, 1)], color=GRAY, alpha=0.25, lw=0)
    )
    kept = [(-1, -1), (1, -1), (1, -0.7), (-0.7, 1), (-1, 1)]
    ax.add_patch(Polygon(kept, color=BLUE, alpha=0.35, lw=0))
    axis = np.linspace(-1, 1, 101)
    x, y = np.meshgrid(axis, axis)
    lines = ax.contour(x, y, x + 0.8 * y - 0.5, [-1.5, -1, -0.5, 0, 0.5, 1], colors="black",
                       linewidths=0.9)  # fmt: skip
    ax.clabel(lines, fmt="%g", fontsize=8)
    ax.plot([1, -0.7], [-0.7, 1], color=RED, lw=2)
    ax.text(-0.93, -0.93, "what the model's constraint leaves", fontsize=9)
    ax.set(xlabel="input x₁", ylabel="input x₂", aspect="equal")
    ax.set_title("Levels of a neuron: at most 1.3 on the box, below 0 here", fontsize=9.5)
    return figure
