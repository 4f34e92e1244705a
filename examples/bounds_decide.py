"""How bounds decide the time of a solve
=====================================

The same network, the same constraints, the same solver: only the bounds on what goes into
the neurons differ. They are the big-M constants of the model, so they decide how far its
linear relaxation is from the truth, and with it how long the search takes.

A 4-20-20-20-1 network is trained on a wavy function of four variables, and its smallest
value is looked for. The bounds come from one rung of the ladder after the other, from
interval arithmetic to linear programs with cuts and to a partition of the input box.
Times are CPU seconds of one core, and no solve may take more than half a minute. A search
has luck, a factor of two either way, so look at where it starts as well: the relaxation
never lies.

Run it with ``python examples/bounds_decide.py``; it needs the extras ``sklearn`` and
``plot`` and takes about a minute.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pyomo.environ as pyo

from pyomo_relu import Network, ReLUNetBlock, compute_bounds, read_network
from pyomo_relu.analysis import layer_bounds

HERE = Path(__file__).resolve().parent
INPUTS = 4
#: Label, rung and its options, from cheap to tight.
RUNGS = (
    ("interval", "interval", {}),
    ("crown", "crown", {}),
    ("alpha_crown", "alpha_crown", {}),
    ("lp", "lp", {}),
    ("lp, 3 rounds of cuts", "lp", {"cuts": 3}),
    ("boxes", "boxes", {}),
)


# %%
# The network
# -----------


def function(x: np.ndarray) -> np.ndarray:
    """A function with many valleys on [-1, 1]^4."""
    waves = x**2 - np.cos(3.0 * x + np.arange(INPUTS))
    return waves.sum(axis=1) + 2.0 * x[:, 0] * x[:, 1]


def train(width: int, samples: int = 3000) -> Network:
    """Three hidden layers, by scikit-learn."""
    from sklearn.neural_network import MLPRegressor
    from threadpoolctl import threadpool_limits

    x = np.random.default_rng(0).uniform(-1, 1, (samples, INPUTS))
    model = MLPRegressor(hidden_layer_sizes=(width,) * 3, max_iter=150, random_state=0)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the number of iterations ends the training
        model.fit(x, function(x))
    return read_network(model)


# %%
# One model for each rung
# -----------------------
# ``compute_bounds`` climbs to a rung; the block takes what it finds. Besides the solve, the
# linear relaxation alone is solved: the search starts from its value.


def build_model(network: Network, bounds, formulation: str) -> pyo.ConcreteModel:
    """Minimize the network over its box."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(INPUTS), bounds=(-1, 1))
    m.net = ReLUNetBlock(
        network=network, inputs=m.x, bounds=bounds, formulation=formulation
    )
    m.lowest = pyo.Objective(expr=m.net.outputs[0])
    return m


def measure(network: Network, rung: str, options: dict, limit: float) -> dict:
    """Bounds, relaxation and solve with one rung."""
    begin = time.process_time()
    bounds = compute_bounds(network, -1.0, 1.0, rung, **options)
    bound_seconds = time.process_time() - begin
    relaxed = build_model(network, bounds, "relaxation")
    pyo.SolverFactory("appsi_highs").solve(relaxed)

    m = build_model(network, bounds, "bigm")
    solver = pyo.SolverFactory("appsi_highs")
    solver.options.update(time_limit=limit, mip_rel_gap=1e-6)
    begin = time.process_time()
    results = solver.solve(m, load_solutions=False)
    seconds = time.process_time() - begin
    optimal = pyo.check_optimal_termination(results)
    if optimal:
        solver.load_vars()
    statistics = m.net.statistics()
    return {
        "layers": layer_bounds(bounds),
        "binaries": statistics.binaries,
        "relaxation": pyo.value(relaxed.lowest),
        "bound_seconds": bound_seconds,
        "seconds": seconds,
        "proved": float(results.problem.lower_bound),
        "optimal": optimal,
        "value": pyo.value(m.lowest) if optimal else None,
    }


# %%
# The picture
# -----------


def plot(found: dict[str, dict], limit: float, path: Path) -> None:
    """Big-M constants by layer, the relaxation, and the seconds, by rung."""
    fig, axes = plt.subplots(
        1, 3, figsize=(12, 4.3), width_ratios=(1.15, 1, 1), layout="constrained"
    )
    labels = list(found)
    colours = plt.get_cmap("viridis")(np.linspace(0.0, 0.88, len(labels)))
    for k, (label, colour) in enumerate(zip(labels, colours)):
        layers = [layer.big_m for layer in found[label]["layers"]]
        x = np.array([i + 1 + 0.1 * (k - 2.5) for i, m in enumerate(layers) if m])
        low, middle, high = np.array([m for m in layers if m]).T
        axes[0].errorbar(
            x, middle, [middle - low, high - middle], fmt="o", ms=5, capsize=2.5,
            color=colour, label=label,
        )  # fmt: skip
    axes[0].set(xlabel="hidden layer", ylabel="big-M: smallest, median, largest")
    axes[0].set(xticks=[1, 2, 3], title="Constants of the model")
    axes[0].legend(fontsize="small", loc="upper left")

    rows = np.arange(len(labels))
    relaxation = [found[label]["relaxation"] for label in labels]
    axes[1].barh(rows, relaxation, color=colours)
    best = min((f["value"] for f in found.values() if f["optimal"]), default=None)
    if best is not None:
        axes[1].axvline(best, color="crimson", lw=1.5)
        axes[1].text(best, -0.55, "optimum ", color="crimson", ha="right")
    axes[1].set(xlabel="value of the linear relaxation", title="Where the search starts")

    solve = [found[label]["seconds"] for label in labels]
    bound = [found[label]["bound_seconds"] for label in labels]
    axes[2].barh(rows - 0.2, solve, height=0.4, color=colours)
    axes[2].barh(rows + 0.2, bound, height=0.4, color=colours, alpha=0.45)
    for row, label in enumerate(labels):
        f = found[label]
        text = f" {f['seconds']:.1f} s" if f["optimal"] else f" not solved in {limit:g} s"
        axes[2].text(f["seconds"], row - 0.2, text, va="center", fontsize=8.5)
        axes[2].text(
            f["bound_seconds"], row + 0.2, " bounds", va="center", fontsize=7.5, color="0.4"
        )
    axes[2].set(
        xscale="log", xlim=(1e-3, 400), xlabel="CPU time (s)", title="Bounds and solve"
    )
    for ax in axes[1:]:
        ax.set_yticks(rows, labels if ax is axes[1] else [])
        ax.set_ylim(len(labels) - 0.3, -0.7)
    fig.savefig(path, dpi=110)
    plt.close(fig)


# %%
# The whole job
# -------------


def run(width: int, limit: float, output: Path) -> dict[str, dict]:
    """Measure each rung and draw; returns what was found."""
    network = train(width)
    found = {}
    print("bounds                 binaries  relaxation  bounds (s)  solve (s)     proved")
    for label, rung, options in RUNGS:
        f = found[label] = measure(network, rung, options, limit)
        end = "" if f["optimal"] else "  (time limit)"
        print(
            f"{label:21}  {f['binaries']:8d}  {f['relaxation']:10.3f}  "
            f"{f['bound_seconds']:10.3f}  {f['seconds']:9.2f}  {f['proved']:9.4f}{end}",
            flush=True,
        )
    path = output / "bounds_decide.png"
    plot(found, limit, path)
    print(f"plot: {path}")
    return found


def main(arguments: list[str] | None = None) -> dict[str, dict]:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--width", type=int, default=20, help="of each hidden layer")
    parser.add_argument("--limit", type=float, default=30.0, help="seconds for a solve")
    parser.add_argument("--output", type=Path, default=HERE, help="folder for the plot")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    return run(options.width, options.limit, options.output)


# %%
# What it finds
# -------------

if __name__ == "__main__":
    main()
