"""The linear regions of a network, drawn
=========================================

A network from inside: its linear regions, in the plane and along a line.

A scikit-learn network (2-16-16-1, ReLU) learns the peaks function. It is affine on each of
some hundred convex regions, which are split exactly; the formula bounds their number by
some ten thousand. Regularization makes the network smoother, with fewer regions, and more
of its neurons stable: that is less work for a mixed-integer solver. The example compares
two weights of the L2 penalty and draws both.

Run it with ``python examples/linear_regions.py``; it needs the extras ``sklearn`` and
``plot``.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from pyomo_relu import compute_bounds, read_network
from pyomo_relu.analysis import (
    breakpoints,
    linear_regions,
    max_regions,
    plot_regions,
    regions_on_line,
    report,
)
from pyomo_relu.network import compress

HERE = Path(__file__).resolve().parent


# %%
# The function and its network
# ----------------------------


def peaks(x, y):
    """The peaks function of MATLAB, for coordinates in [-1, 1]."""
    x, y = 3.0 * x, 3.0 * y
    return (
        3.0 * (1.0 - x) ** 2 * np.exp(-(x**2) - (y + 1.0) ** 2)
        - 10.0 * (x / 5.0 - x**3 - y**5) * np.exp(-(x**2) - y**2)
        - np.exp(-((x + 1.0) ** 2) - y**2) / 3.0
    )


def train(penalty: float, samples: int = 2000):
    """Fit a network with the L2 penalty ``penalty``."""
    from sklearn.neural_network import MLPRegressor
    from threadpoolctl import threadpool_limits

    x = np.random.default_rng(0).uniform(-1, 1, (samples, 2))
    model = MLPRegressor(
        hidden_layer_sizes=(16, 16),
        solver="lbfgs",
        alpha=penalty,
        max_iter=500,
        random_state=0,
    )
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the number of iterations ends the training
        model.fit(x, peaks(*x.T))
    return model, model.score(x, peaks(*x.T))


# %%
# Regions, pieces along a line, and the bound by formula
# ------------------------------------------------------


def run(output: Path) -> dict[str, list[float]]:
    """Train two networks, compare them, draw them; returns what was found."""
    found: dict[str, list[float]] = {"regions": [], "line": [], "bound": [], "score": []}
    fig, axes = plt.subplots(
        2, 2, figsize=(10, 7.4), layout="constrained", height_ratios=[2, 1]
    )
    for k, penalty in enumerate((1e-4, 30.0)):
        model, score = train(penalty)
        network = read_network(model)
        regions = linear_regions(network, -1.0, 1.0)
        bounds = compute_bounds(network, -1.0, 1.0)
        line = regions_on_line(network, [-1.0, -1.0], [1.0, 1.0])
        most = max_regions(network, bounds)
        print(f"L2 penalty {penalty:g}: R2 {score:.3f}")
        print(f"  {regions.n_regions} linear regions, by formula at most {most}")
        print(
            f"  {line.n_regions} along the diagonal; first end {breakpoints(line)[0]:.4f}"
        )
        print(f"  smallest value {regions.optimum(0).value:.4f}")
        print(f"  compressed on the box: {compress(network, bounds)}")
        plot_regions(regions, ax=axes[0, k], optimum="min")
        axes[0, k].set_title(f"L2 penalty {penalty:g}: {regions.n_regions} regions")
        plot_regions(line, ax=axes[1, k])
        axes[1, k].set_title(f"along the diagonal: {line.n_regions} pieces")
        values = (regions.n_regions, line.n_regions, most, score)
        for key, value in zip(found, values):
            found[key].append(value)
    print()
    print(report(network, (-1.0, 1.0), time_limit=10.0))
    path = output / "linear_regions.png"
    fig.savefig(path, dpi=110)
    print(f"saved {path}")
    return found


def main(argv: list[str] | None = None) -> dict[str, list[float]]:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=HERE, help="folder for the plot")
    options = parser.parse_args(argv)
    options.output.mkdir(parents=True, exist_ok=True)
    return run(options.output)


# %%
# What it finds
# -------------

if __name__ == "__main__":
    main()
