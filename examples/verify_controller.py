"""Verifying a controller
=========================

Is a controller's decision the same everywhere near a state? Verified, and drawn.

Run it with ``python examples/verify_controller.py --output pictures``.

The controller of an inverted pendulum is trained here, to imitate a stabilizing rule:
push left or right, from angle and angular velocity. For boxes of states ``verify`` proves
that the decision is one and the same, or gives a state where it is the other. The
picture shows the decision, the proved boxes and the counterexamples.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from pyomo_relu import read_network
from pyomo_relu.verification import never, verify

COLUMNS = 12


# %%
# The controller, and its boxes
# -----------------------------


def main(argv: list[str] | None = None) -> dict[str, int]:
    """Verify a grid of boxes and draw it; returns how many ended how."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle
    from sklearn.neural_network import MLPRegressor

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("."))
    options = parser.parse_args(argv)
    options.output.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    states = rng.uniform(-1, 1, (4000, 2))
    rule = states[:, 1] + np.sin(2.0 * states[:, 0]) + 0.3 * np.sin(6.0 * states[:, 1])
    model = MLPRegressor(hidden_layer_sizes=(24, 24), max_iter=300, random_state=0).fit(
        states, rule
    )
    network = read_network(model)

    figure = Figure(figsize=(7, 6), layout="constrained")
    ax = figure.subplots()
    axis = np.linspace(-1, 1, 300)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    push = network.evaluate(grid)[:, 0].reshape(300, 300)
    ax.imshow(push > 0, extent=(-1, 1, -1, 1), origin="lower", cmap="coolwarm", alpha=0.35)
    counts = {"robust": 0, "counterexample": 0, "undecided": 0}
    edges = np.linspace(-1, 1, COLUMNS + 1)
    for a, b in zip(edges, edges[1:]):
        for c, d in zip(edges, edges[1:]):
            low, high = np.array([a, c]), np.array([b, d])
            right = network.evaluate(0.5 * (low + high))[0] > 0
            # Unsafe: the push is to the other side than in the middle of the box.
            other = never([[1.0 if right else -1.0]], [0.0])
            found = verify(network, (low, high), other, time_limit=10)
            counts[found.status] += 1
            if found.status == "robust":
                ax.add_patch(Rectangle(low, *(high - low), fill=False, lw=0.8))
            elif found.counterexample is not None:
                ax.plot(*found.counterexample, "k.", markersize=5)
    ax.set_xlabel("angle (rad)")
    ax.set_ylabel("angular velocity (rad/s)")
    ax.set_title(
        f"push right (red) or left: {counts['robust']} boxes proved, "
        f"{counts['counterexample']} with a counterexample (dots)"
    )
    figure.savefig(options.output / "verify_controller.png", dpi=150)
    print(counts)
    return counts


# %%
# What it finds
# -------------

if __name__ == "__main__":
    main()
