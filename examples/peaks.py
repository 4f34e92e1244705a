"""The exact optimum of a network with many local ones
======================================================

A scikit-learn network (2-24-24-1, ReLU) is trained on samples of the peaks function.
Descent from random points ends in one of several local minima; the mixed-integer model
has the global one, with proof. The answer is compared with a grid, with a local search,
and with the smallest vertex of all linear regions of the network, which is exact as well.

Run it with ``python examples/peaks.py``; it needs the extras ``sklearn`` and ``plot``.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pyomo.environ as pyo
from scipy.optimize import minimize

from pyomo_relu import ReLUNetBlock
from pyomo_relu.analysis import linear_regions, plot_regions

HERE = Path(__file__).resolve().parent
BOX = (-3.0, 3.0)


# %%
# The function and its network
# ----------------------------


def peaks(x, y):
    """The peaks function of MATLAB."""
    return (
        3.0 * (1.0 - x) ** 2 * np.exp(-(x**2) - (y + 1.0) ** 2)
        - 10.0 * (x / 5.0 - x**3 - y**5) * np.exp(-(x**2) - y**2)
        - np.exp(-((x + 1.0) ** 2) - y**2) / 3.0
    )


def train(width: int, samples: int = 3000, seed: int = 1):
    """Fit a network with two hidden layers to random samples."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPRegressor
    from threadpoolctl import threadpool_limits

    points = np.random.default_rng(seed).uniform(*BOX, (samples, 2))
    network = MLPRegressor(
        hidden_layer_sizes=(width, width),
        solver="lbfgs",
        max_iter=1000,
        random_state=seed,
    )
    # Matrices this small are slower on several threads.
    with threadpool_limits(1), warnings.catch_warnings():
        # The number of iterations ends the training, as it is meant to.
        warnings.simplefilter("ignore", ConvergenceWarning)
        network.fit(points, peaks(*points.T))
    return network


# %%
# The model
# ---------


def build_model(network) -> pyo.ConcreteModel:
    """Minimize the network over the box."""
    m = pyo.ConcreteModel("peaks")
    m.x = pyo.Var(["x", "y"], bounds=BOX)
    m.peaks = ReLUNetBlock(network=network, inputs=m.x)
    m.lowest = pyo.Objective(expr=m.peaks.outputs[0])
    return m


# %%
# What local searches find
# ------------------------


def local_minima(network, starts: int = 40) -> np.ndarray:
    """Where a local search ends, (starts,) values, smallest first."""
    found = [
        minimize(
            lambda p: network.evaluate(p)[0], start, method="Powell", bounds=[BOX, BOX]
        ).fun
        for start in np.random.default_rng(0).uniform(*BOX, (starts, 2))
    ]
    return np.sort(found)


def plot(m, regions, path: Path) -> None:
    """The function, its network, and the linear regions of the network."""
    axis = np.linspace(*BOX, 241)
    x, y = np.meshgrid(axis, axis)
    network = m.peaks.network
    values = network.evaluate(np.column_stack([x.ravel(), y.ravel()])).reshape(x.shape)
    best = [pyo.value(v) for v in m.x.values()]
    levels = np.linspace(-8.0, 9.0, 35)
    fig, axes = plt.subplots(1, 3, figsize=(13, 4.1), layout="constrained")
    for ax, z, title in zip(axes, (peaks(x, y), values), ("Peaks function", "Network")):
        shades = ax.contourf(x, y, z, levels, cmap="viridis", extend="both")
        ax.contour(x, y, z, levels[::2], colors="black", linewidths=0.3)
        ax.set_title(title)
    fig.colorbar(shades, ax=axes[1], label="value (–)", ticks=np.arange(-8, 9, 4))
    plot_regions(regions, ax=axes[2], colorbar=False)
    axes[2].set_title(f"Its {regions.n_regions:,} linear regions")
    for ax in axes:
        ax.set(xlabel="x (–)", ylabel="y (–)", aspect="equal", xlim=BOX, ylim=BOX)
        ax.plot(*best, "*", ms=16, mfc="gold", mec="black", label="exact minimum")
    axes[1].legend(loc="upper left")
    fig.savefig(path, dpi=110)
    plt.close(fig)


# %%
# The whole job
# -------------


def run(width: int, output: Path) -> dict[str, float]:
    """The whole job; returns the figures it printed."""
    begin = time.perf_counter()
    trained = train(width)
    print(f"trained 2-{width}-{width}-1 in {time.perf_counter() - begin:.1f} s")
    m = build_model(trained)
    begin = time.perf_counter()
    solver = pyo.SolverFactory("relu")
    pyo.assert_optimal_termination(solver.solve(m, rel_gap=1e-8))  # without it, 1e-4
    seconds = time.perf_counter() - begin
    network, lowest = m.peaks.network, pyo.value(m.lowest)
    point = ", ".join(f"{pyo.value(v):.4f}" for v in m.x.values())
    print(m.peaks.statistics())
    print(f"\nexact minimum of the network: {lowest:.6f} at ({point}), in {seconds:.1f} s")
    print(f"  |network - model| there     {m.peaks.error():.1e}")

    axis = np.linspace(*BOX, 1001)
    grid = min(
        float(network.evaluate(np.column_stack([axis, np.full(1001, b)])).min())
        for b in axis
    )
    print(f"  best of 1,002,001 points    {grid:.6f}")
    regions = linear_regions(network, *BOX)
    vertex = regions.optimum(0, "min").value
    print(f"  smallest vertex             {vertex:.6f} of {regions.n_regions:,} regions")
    local = local_minima(network)
    hits = int(np.sum(local <= lowest + 1e-3))
    print(
        f"  local search                {hits} of {len(local)} starts end there, ", end=""
    )
    print(f"the others up to {local[-1]:.2f}")
    path = output / "peaks.png"
    plot(m, regions, path)
    print(f"\nplot: {path}")
    return {
        "lowest": lowest,
        "grid": grid,
        "vertex": vertex,
        "local": float(local[0]),
        "error": m.peaks.error(),
    }


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--width", type=int, default=24, help="neurons in a hidden layer")
    parser.add_argument("--output", type=Path, default=HERE, help="folder for the plot")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    return run(options.width, options.output)


# %%
# What it finds
# -------------

if __name__ == "__main__":
    main()
