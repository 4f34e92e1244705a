"""A sigmoid classifier and a tanh surrogate in one model
======================================================

A reactor makes B from A, and B decays to C: longer and hotter gives more B first and less of
it afterwards. A tanh network learns the yield from simulations. Long and hot batches also foul
the reactor, sometimes: a classifier with tanh units and a sigmoid at its end learns from
records when. The best batch is wanted that stays clean with a probability of at least *p*.

Both networks are smooth, so that no mixed-integer linear program holds them. There are two
ways. ``relu_global`` proves the optimum of the networks as they are. Or ``accuracy=`` puts
piecewise-linear curves in place of the units and proves how far they are off, and HiGHS solves
the model. Rows on the safe side of what was proved then give batches that keep their promise
in the true networks.

Run it with ``python examples/smooth_reactor.py``; it needs the extras ``sklearn`` and
``plot`` and takes half a minute.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pyomo.environ as pyo

from pyomo_relu import Network, ReLUNetBlock, probability_at_least, read_network

HERE = Path(__file__).resolve().parent
#: Of the temperature in K and the duration of a batch in h.
BOUNDS = ((320.0, 380.0), (0.5, 4.0))
#: Probabilities of a clean reactor that are asked for.
PROBABILITIES = (0.5, 0.8, 0.9, 0.95, 0.99)


# %%
# Simulations and records
# -----------------------


def product_yield(x: np.ndarray) -> np.ndarray:
    """Share of A that is B at the end, for rows of temperature and duration."""
    temperature, hours = x.T
    first = 0.8 * np.exp(6000.0 * (1.0 / 350.0 - 1.0 / temperature))
    second = 0.15 * np.exp(9500.0 * (1.0 / 350.0 - 1.0 / temperature))
    return first / (second - first) * (np.exp(-first * hours) - np.exp(-second * hours))


def stays_clean(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Records: whether the reactor stayed clean, which long and hot batches make unlikely."""
    strain = (x[:, 0] - 352.0) / 8.0 + 1.2 * (x[:, 1] - 2.2)
    return strain + rng.logistic(size=len(x)) < 0.0


def train(width: int, samples: int = 1500) -> tuple[Network, Network]:
    """The surrogate of the yield, and the classifier up to its sigmoid."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(0)
    x = rng.uniform(*np.transpose(BOUNDS), (samples, 2))
    settings = {
        "activation": "tanh",
        "solver": "lbfgs",
        "alpha": 1e-2,
        "max_iter": 500,
        "random_state": 0,
    }
    # Matrices this small are slower on several threads.
    with threadpool_limits(1), warnings.catch_warnings():
        # The number of iterations ends the training, as it is meant to.
        warnings.simplefilter("ignore", ConvergenceWarning)
        surrogate = make_pipeline(
            StandardScaler(), MLPRegressor(hidden_layer_sizes=(width,), **settings)
        )
        surrogate.fit(x, product_yield(x))
        classifier = make_pipeline(
            StandardScaler(), MLPClassifier(hidden_layer_sizes=(4,), **settings)
        )
        classifier.fit(x, stays_clean(x, rng))
    return read_network(surrogate), read_network(classifier, logits=True)


# %%
# The model
# ---------
# The sigmoid is at least *p* exactly where the logit is at least log(p / (1 - p)), a linear
# row. With curves the row takes the proved error of the logit into account, and the objective
# that of the yield.


def build_model(
    surrogate: Network, classifier: Network, p: float, accuracy: float | None
) -> pyo.ConcreteModel:
    """The best batch with a probability of at least p; exact, or with curves."""
    m = pyo.ConcreteModel()
    m.temperature = pyo.Var(bounds=BOUNDS[0])
    m.hours = pyo.Var(bounds=BOUNDS[1])
    how = {"formulation": None} if accuracy is None else {"accuracy": accuracy}
    inputs = [m.temperature, m.hours]
    m.batch = ReLUNetBlock(network=surrogate, inputs=inputs, **how)
    if accuracy is not None:  # a probability moves by a quarter of its logit at most
        how["accuracy"] = 20.0 * accuracy
    m.clean = ReLUNetBlock(network=classifier, inputs=inputs, **how)
    form = "exact" if accuracy is None else "safe"
    m.sure = probability_at_least(m.clean, 1, p, form)
    promised, _ = m.batch.output_interval(0)
    m.gain = pyo.Objective(expr=promised, sense=pyo.maximize)
    return m


def solve(m: pyo.ConcreteModel, solver: str) -> dict[str, float]:
    """Solve, and evaluate the true networks at what was found."""
    begin = time.process_time()
    pyo.assert_optimal_termination(pyo.SolverFactory(solver).solve(m))
    seconds = time.process_time() - begin
    point = np.array([m.temperature.value, m.hours.value])
    logit = m.clean.evaluate(point)[0]
    return {
        "temperature": point[0],
        "hours": point[1],
        "promised": pyo.value(m.gain),
        "yield": float(m.batch.evaluate(point)[0]),
        "probability": float(1.0 / (1.0 + np.exp(-logit))),
        "seconds": seconds,
    }


# %%
# The picture
# -----------


def plot(surrogate: Network, classifier: Network, found: dict, path: Path) -> None:
    """The two networks with the best batches, and what certainty costs."""
    a, b = (np.linspace(*side, 161) for side in BOUNDS)
    x, y = np.meshgrid(a, b)
    points = np.column_stack([x.ravel(), y.ravel()])
    gains = surrogate.evaluate(points).reshape(x.shape)
    odds = np.exp(classifier.evaluate(points).reshape(x.shape))
    fig, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    shades = left.contourf(x, y, gains, 24, cmap="viridis")
    ticks = np.arange(0.0, 0.8, 0.1)
    fig.colorbar(shades, ax=left, label="yield by the surrogate (–)", ticks=ticks)
    lines = left.contour(x, y, odds / (1 + odds), PROBABILITIES, colors="white")
    left.clabel(lines, fmt=lambda p: f"{p:g}")
    asked = range(len(PROBABILITIES))
    for way, style in (
        ("exact", {"marker": "*", "ms": 13, "mfc": "gold", "mec": "black"}),
        ("curves", {"marker": "o", "ms": 10, "mfc": "none", "mec": "red"}),
    ):
        rows = found[way]
        at = np.array([[r["temperature"], r["hours"]] for r in rows])
        left.plot(*at.T, ls="none", label=way, clip_on=False, **style)
        best = [r["yield"] for r in rows]
        right.plot(asked, best, ls=":", color="black", lw=0.8, label=way, **style)
    right.set_xticks(list(asked), [f"{p:g}" for p in PROBABILITIES])
    left.set(xlabel="temperature (K)", ylabel="duration (h)")
    left.set_title("Best batches, white: probability of a clean reactor")
    right.set(xlabel="probability that is asked for (–)", ylabel="yield (–)")
    right.set_title("What certainty costs")
    left.legend(loc="upper right")
    right.legend()
    fig.savefig(path, dpi=110)
    plt.close(fig)


# %%
# The whole job
# -------------


def run(width: int, accuracy: float, output: Path) -> dict[str, list[dict[str, float]]]:
    """Both ways for each probability; returns what they found."""
    surrogate, classifier = train(width)
    found: dict[str, list[dict[str, float]]] = {"exact": [], "curves": []}
    print("              asked      T        t    yield  promised  probability  CPU s")
    for p in PROBABILITIES:
        for way, solver in (("exact", "relu_global"), ("curves", "appsi_highs")):
            m = build_model(surrogate, classifier, p, None if way == "exact" else accuracy)
            row = solve(m, solver)
            found[way].append(row)
            print(
                f"{way:12s} {p:6.2f} {row['temperature']:6.1f} K {row['hours']:6.3f} h "
                f"{row['yield']:7.4f} {row['promised']:9.4f} {row['probability']:12.5f} "
                f"{row['seconds']:6.2f}"
            )
    print(
        f"\nproved errors of the curves: yield {max(m.batch.accuracy().values()):.1e}, ",
        end="",
    )
    print(f"logit {max(m.clean.accuracy().values()):.1e}")
    path = output / "smooth_reactor.png"
    plot(surrogate, classifier, found, path)
    print(f"plot: {path}")
    return found


def main(arguments: list[str] | None = None) -> dict[str, list[dict[str, float]]]:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--width", type=int, default=8, help="tanh units of the surrogate")
    parser.add_argument(
        "--accuracy", type=float, default=2e-3, help="of the yield's curves"
    )
    parser.add_argument("--output", type=Path, default=HERE, help="folder for the plot")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    return run(options.width, options.accuracy, options.output)


# %%
# What it finds
# -------------

if __name__ == "__main__":
    main()
