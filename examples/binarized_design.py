"""A binarized network, trained and embedded: the limit of safe operation
======================================================================

Some forty experiments with an exothermic reaction have ended well or in a runaway, depending
on the temperature of the feed and the concentration of the reactant. Where is the limit, and
how far may production go?

A *binarized* network answers the first question: three neurons that are +1 or -1, behind
weights and biases that are integers from -3 to 3. It is trained by a mixed-integer program,
which ends, given the time, with a proof that no network of this kind fits the experiments
better. It answers the second as well, for such a network is piecewise constant, and
:class:`~pyomo_relu.ReLUNetBlock` embeds it exactly, with one binary for each neuron: the
most production that the network calls safe is the optimum of another small program.

Run it with ``python examples/binarized_design.py``; it needs the extras ``sklearn`` and
``plot`` and takes about a minute. The experiments are simulated.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pyomo.environ as pyo
from matplotlib.colors import ListedColormap

from pyomo_relu import ReLUNetBlock
from pyomo_relu.training import BinarizedNetClassifier

HERE = Path(__file__).resolve().parent
#: Feed temperature (°C) and concentration (mol/L): the ranges of the experiments.
LOW, HIGH = np.array([20.0, 0.5]), np.array([80.0, 3.5])
NEURONS = 3


# %%
# The experiments
# ---------------


def runaway(x: np.ndarray) -> np.ndarray:
    """Whether the reaction runs away at (temperature, concentration), (N,) bool.

    Semenov's criterion in its simplest form: heat made, of Arrhenius type, against what
    the cooling takes.
    """
    kelvin = x[:, 0] + 273.15
    rate = np.exp(9.0 - 2800.0 / kelvin) * x[:, 1] ** 1.2
    return rate > 3.4


def experiments(count: int, seed: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Points in the ranges, and labels: 1 for safe, 0 for a runaway."""
    x = LOW + (HIGH - LOW) * np.random.default_rng(seed).random((count, 2))
    return x, (~runaway(x)).astype(int)


def scaled(x: np.ndarray) -> np.ndarray:
    """The ranges as [-1, 1]."""
    return 2.0 * (x - LOW) / (HIGH - LOW) - 1.0


# %%
# Training
# --------
# ``robust`` asks that no neuron of the first layer changes within that distance of an
# experiment: the limit keeps away from the points that it separates.


def train(x: np.ndarray, y: np.ndarray, seconds: float) -> BinarizedNetClassifier:
    """Three sign neurons and one output, with integers from -3 to 3."""
    model = BinarizedNetClassifier(
        (NEURONS,),
        weights=3,
        loss="max_correct",
        robust=("linf", 0.02),
        time_limit=seconds,
        random_state=0,
    )
    return model.fit(scaled(x), y)


# %%
# The network in a model
# ----------------------
# The inputs are expressions of the user's variables, so the scaling costs no variable.
# Production grows with the concentration and, by the rate, with the temperature.


def build_model(model: BinarizedNetClassifier, least: float = 0.5) -> pyo.ConcreteModel:
    """The most production that the network calls safe."""
    m = pyo.ConcreteModel("safe production")
    m.temperature = pyo.Var(bounds=(LOW[0], HIGH[0]), doc="°C")
    m.concentration = pyo.Var(bounds=(LOW[1], HIGH[1]), doc="mol/L")
    m.network = ReLUNetBlock(
        network=model,
        inputs=[
            2.0 * (m.temperature - LOW[0]) / (HIGH[0] - LOW[0]) - 1.0,
            2.0 * (m.concentration - LOW[1]) / (HIGH[1] - LOW[1]) - 1.0,
        ],
    )
    # Scores are integers; safe is a score of 0 or more, by convention.
    m.safe = pyo.Constraint(expr=m.network.outputs[0] >= least)
    m.production = pyo.Objective(
        expr=0.02 * m.temperature + 1.1 * m.concentration, sense=pyo.maximize
    )
    return m


# %%
# The picture
# -----------


def plot(model, x, y, best: np.ndarray, path: Path) -> None:
    """Experiments, the lines of the neurons, the safe region and the optimum."""
    fig, (left, right) = plt.subplots(
        1, 2, figsize=(11, 4.6), width_ratios=(1.5, 1), layout="constrained"
    )
    t, c = (np.linspace(LOW[k], HIGH[k], 401) for k in (0, 1))
    grid = np.stack(np.meshgrid(t, c), axis=-1)
    flat = grid.reshape(-1, 2)
    score = model.decision_function(scaled(flat)).reshape(401, 401)
    shades = ListedColormap(["#f4a582", "#d1e5f0"])
    left.pcolormesh(t, c, score >= 0, cmap=shades, shading="auto", rasterized=True)
    left.contour(
        t, c, runaway(flat).reshape(401, 401), [0.5], colors="black", linestyles="--"
    )
    left.plot([], [], "k--", label="true limit")
    w, b = model.network_.weights[0], model.network_.biases[0]
    pre = scaled(flat) @ w.T + b
    for k in range(NEURONS):
        if w[k].any():
            left.contour(
                t, c, pre[:, k].reshape(401, 401), [0.0], colors="0.45", linewidths=0.9
            )
    left.plot([], [], color="0.45", lw=0.9, label="where a neuron switches")
    for value, marker, colour, name in (
        (1, "o", "#2166ac", "ended well"),
        (0, "X", "#b2182b", "runaway"),
    ):
        left.plot(*x[y == value].T, marker, color=colour, ms=7, mec="white", label=name)
    left.plot(*best, "*", ms=18, mfc="gold", mec="black", zorder=5, label="most production")
    left.set(xlabel="feed temperature (°C)", ylabel="concentration (mol/L)")
    left.set(xlim=(LOW[0], HIGH[0]), ylim=(LOW[1], HIGH[1]))
    left.set_title("Blue: the network says safe")
    left.legend(loc="upper right", fontsize="small", framealpha=0.95)

    table = np.column_stack([w, b, model.network_.weights[1][0]])
    right.imshow(table, cmap="RdBu_r", vmin=-4, vmax=4, aspect="auto")
    for (i, j), value in np.ndenumerate(table):
        right.text(j, i, f"{value:+.0f}", ha="center", va="center", fontsize=13)
    right.set_xticks(range(4), ["temperature", "concentration", "bias", "to the output"])
    right.set_yticks(range(NEURONS), [f"neuron {k + 1}" for k in range(NEURONS)])
    right.tick_params(length=0)
    right.axvline(2.5, color="black", lw=1.5)
    right.set_title(f"All there is to it (output bias {model.network_.biases[1][0]:+.0f})")
    fig.savefig(path, dpi=110)
    plt.close(fig)


# %%
# The whole job
# -------------


def run(count: int, seconds: float, output: Path) -> dict[str, float]:
    """Experiments, training, optimum, picture; returns the figures it printed."""
    x, y = experiments(count)
    model = train(x, y, seconds)
    wrong = int(np.sum(model.predict(scaled(x)) != y))
    fresh = LOW + (HIGH - LOW) * np.random.default_rng(99).random((5000, 2))
    accuracy = float(np.mean(model.predict(scaled(fresh)) == ~runaway(fresh)))
    print(f"{count} experiments, {wrong} on the wrong side; training: {model.status_}, ")
    print(f"  loss {model.loss_:.3g}, proved at least {model.bound_:.3g}")
    print(f"  {accuracy:.1%} of 5,000 new points are right")

    m = build_model(model)
    pyo.assert_optimal_termination(pyo.SolverFactory("appsi_highs").solve(m))
    best = np.array([pyo.value(m.temperature), pyo.value(m.concentration)])
    # The network at the optimum, moved inwards by what a solver's tolerance may hide.
    inside = model.decision_function(scaled(best[None] - 1e-6 * (HIGH - LOW)))[0]
    print(f"most production that is called safe: {pyo.value(m.production):.4f}")
    print(f"  at {best[0]:.2f} °C and {best[1]:.3f} mol/L; score there {inside:+.0f}")
    print(f"  truly safe there: {'no' if runaway(best[None])[0] else 'yes'}")
    path = output / "binarized_design.png"
    plot(model, x, y, best, path)
    print(f"plot: {path}")
    return {
        "wrong": wrong,
        "accuracy": accuracy,
        "production": pyo.value(m.production),
        "score": float(inside),
    }


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--experiments", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=40.0, help="for the training")
    parser.add_argument("--output", type=Path, default=HERE, help="folder for the plot")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    return run(options.experiments, options.seconds, options.output)


# %%
# What it finds
# -------------

if __name__ == "__main__":
    main()
