"""Backpropagation through a mixed-integer program
==================================================

Backpropagation through a network that is trained exactly, on Breast Cancer data.

A projection of nine features to two is learned in front of a step network (2-2-1) whose
weights are the proven optimum of a mixed-integer program: the gradient of the optimal
margin in the data, by the envelope formula, moves the projection. It is compared with
the same network on the fixed first projection, and with projection and network trained
together by straight-through gradients. A second outer loop learns the weights of the
training points, two of which have a wrong label, and the robust radius, from ten points
for validation.

Run it with ``python examples/implicit_backprop.py``; it needs the extra ``plot``, and
``../shared/data/bdnn`` or scikit-learn for the data.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from pyomo_relu.differentiable import (
    MarginTraining,
    class_costs,
    implicit_fit,
    straight_through_fit,
    tune_fit,
)

HERE = Path(__file__).resolve().parent
DATA = HERE.parent.parent / "shared" / "data" / "bdnn" / "breast-cancer-wisconsin.csv"
POINTS, COST = 14, 4.0
VALIDATION, WRONG, SMALL_COST = 10, 2, 1.4
BLUE, ORANGE, GRAY, GREEN = "#0072b2", "#d55e00", "#777777", "#009e73"


# %%
# The data
# --------


def read_data() -> tuple[np.ndarray, np.ndarray, str]:
    """Features in [0, 1] and labels -1, 1: the original set, or scikit-learn's."""
    if DATA.exists():
        table = np.genfromtxt(DATA, delimiter=";")
        return (table[:, :-1] - 1) / 9, 2 * table[:, -1] - 1, "Breast Cancer (original)"
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    x = (x - x.min(axis=0)) / np.ptp(x, axis=0)
    return x, 1.0 - 2.0 * y, "Breast Cancer (diagnostic)"


# %%
# What is compared
# ----------------


def accuracy(scores: np.ndarray, y: np.ndarray) -> float:
    """Share of points on their side; 0 counts as 1, as everywhere."""
    return float(np.mean(np.where(scores >= 0, 1.0, -1.0) == y))


def network_scores(z: np.ndarray, network) -> np.ndarray:
    """Scores of a step network (w, b, v, v0) at projected features."""
    w, b, v, v0 = network
    return (z @ w.T + b >= 0) @ v + v0


def objective_of(z, y, network, costs) -> float:
    """The program's objective of a given network: the best ``t`` less its slacks."""
    w, b, v, v0 = network
    limit = float(np.abs(z @ w.T + b).min())
    signed = y * network_scores(z, network)
    levels = np.append(np.clip(signed, 0.0, limit), [0.0, limit])
    return max(float(t - costs @ np.maximum(t - signed, 0.0)) for t in levels)


def run(seed: int, iterations: int) -> dict[str, list[float]]:
    """Objectives and test accuracies of the three ways, from one first projection."""
    x, y, _ = read_data()
    order = np.random.default_rng(seed).permutation(len(x))
    train, test = order[:POINTS], order[POINTS:]
    fit = implicit_fit(x[train], y[train], cost=COST, iterations=iterations, seed=seed)
    first = fit.history[0]["projection"]
    xt, xs = x[train] - fit.center, x[test] - fit.center
    found: dict[str, list[float]] = {"objective": [], "accuracy": []}
    for entry in fit.history:
        found["objective"].append(entry["value"])
        found["accuracy"].append(
            accuracy(entry["network"].scores(xs @ entry["projection"]), y[test])
        )
    costs = class_costs(y[train], COST)
    states = straight_through_fit(
        xt, y[train], iterations=20 * iterations, projection=first, seed=seed
    )[::20]
    found["ste_objective"] = [objective_of(xt @ p, y[train], n, costs) for p, n in states]
    found["ste_accuracy"] = [
        accuracy(network_scores(xs @ p, n), y[test]) for p, n in states
    ]
    # The exact network behind the projection that straight-through gradients found.
    behind = MarginTraining(y[train], 2, soft=True).fit(xt @ states[-1][0], costs)
    found["ste_exact"] = [
        behind.value,
        accuracy(behind.scores(xs @ states[-1][0]), y[test]),
    ]
    return found


# %%
# The picture
# -----------


def run_weights(seed: int, iterations: int) -> dict[str, list[float]]:
    """Weights and radius learned with two wrong labels, on two principal components."""
    x, y, _ = read_data()
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(x))
    train, held, test = np.split(order, [POINTS, POINTS + VALIDATION])
    center = x[train].mean(axis=0)
    axes = np.linalg.svd(x[train] - center, full_matrices=False)[2][:2].T
    z = (x - center) @ axes
    labels, wrong = y[train].copy(), rng.choice(POINTS, WRONG, replace=False)
    labels[wrong] *= -1
    fit = tune_fit(
        z[train],
        labels,
        z[held],
        y[held],
        hidden=1,
        cost=SMALL_COST,
        iterations=iterations,
    )
    share = [h["costs"][wrong].mean() * POINTS / SMALL_COST for h in fit.history]
    return {
        "value": [h["value"] for h in fit.history],
        "margin": [h["margin"] for h in fit.history],
        "weight": share,
        "radius": [h["radius"] for h in fit.history],
        "accuracy": [
            accuracy(fit.history[0]["network"].scores(z[test]), y[test]),
            accuracy(fit.network.scores(z[test]), y[test]),
        ],
    }


def padded(runs: list[list[float]], length: int) -> np.ndarray:
    """Curves of one length; a search that has ended stays where it is."""
    return np.array([[*r, *[r[-1]] * (length - len(r))][:length] for r in runs])


def plot_weights(axis, runs: list[dict[str, list[float]]], length: int) -> None:
    """The second loop: its objective and the weight of wrong labels."""
    steps = np.arange(length)
    for key, color, label in (
        ("value", GREEN, "validation objective"),
        ("weight", ORANGE, "weight of wrong labels / mean weight"),
    ):
        curves = padded([r[key] for r in runs], length)
        axis.plot(steps, curves.T, color=color, alpha=0.25, lw=0.9)
        axis.plot(steps, curves.mean(axis=0), color=color, lw=2.4, label=label)
    title = f"{WRONG} wrong labels, weights and radius learned, {len(runs)} splits"
    top = 1.3 * max(max(r["weight"]) for r in runs)
    axis.set(xlabel="iteration", title=title, xlim=(0, max(length - 1, 1)), ylim=(0, top))
    axis.set_xticks(steps)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25)
    axis.legend(frameon=False, fontsize=9, loc="upper right")


def plot(
    runs: list[dict[str, list[float]]],
    length: int,
    weights: list[dict[str, list[float]]],
    path: Path,
    name: str,
) -> None:
    """Objective and accuracy against iterations, each seed thin and the mean thick."""
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.2), constrained_layout=True)
    plot_weights(axes[2], weights, max(len(r["value"]) for r in weights))
    steps = np.arange(length)
    titles = ("objective (margin less slacks), training", "accuracy, test")
    for axis, key, title in zip(axes[:2], ("objective", "accuracy"), titles):
        ours = padded([r[key] for r in runs], length)
        other = padded([r[f"ste_{key}"] for r in runs], length)
        for curves, color in ((other, ORANGE), (ours, BLUE)):
            axis.plot(steps, curves.T, color=color, alpha=0.18, lw=0.9)
        label = "exact network, implicit gradients"
        axis.plot(steps, ours.mean(axis=0), color=BLUE, lw=2.4, label=label)
        label = "straight-through (20 steps each)"
        axis.plot(steps, other.mean(axis=0), color=ORANGE, lw=2.4, label=label)
        label = "exact network, fixed projection"
        axis.axhline(ours[:, 0].mean(), color=GRAY, lw=1.8, ls="--", label=label)
        axis.set(xlabel="iteration", title=title, xlim=(0, length - 1))
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
    low = min(min(r["accuracy"] + r["ste_accuracy"][2:]) for r in runs)
    axes[1].set_ylim(max(low - 0.02, 0.0), 1.0)
    axes[0].legend(frameon=False, fontsize=9)
    figure.suptitle(f"{name}: {POINTS} training points, mean of {len(runs)} splits")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


# %%
# The whole job
# -------------


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Run the comparison; returns the means."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--weight-seeds", type=int, default=5)
    parser.add_argument("--weight-iterations", type=int, default=4)
    parser.add_argument("--output", type=Path, default=Path("."))
    options = parser.parse_args(arguments)
    name, begin, runs = read_data()[2], time.perf_counter(), []
    print(f"{name}, {POINTS} training points")
    print("split   objective             test accuracy")
    print("        fixed  implicit  STE   fixed  implicit  STE    STE + exact network")
    for seed in range(options.seeds):
        r = run(seed, options.iterations)
        runs.append(r)
        print(
            f"{seed:5d}   {r['objective'][0]:5.3f}  {r['objective'][-1]:8.3f}  "
            f"{r['ste_objective'][-1]:5.3f} {r['accuracy'][0]:5.3f}  "
            f"{r['accuracy'][-1]:8.3f}  {r['ste_accuracy'][-1]:5.3f}  "
            f"{r['ste_exact'][1]:5.3f}",
            flush=True,
        )
    print("split   weights, radius: objective   weight of wrong   radius   test accuracy")
    weights = []
    for seed in range(options.weight_seeds):
        w = run_weights(seed, options.weight_iterations)
        weights.append(w)
        print(
            f"{seed:5d}       {w['value'][0]:13.3f} {w['value'][-1]:6.3f} "
            f"{w['weight'][0]:10.2f} {w['weight'][-1]:6.2f} {max(w['radius']):8.3f}  "
            f"{w['accuracy'][0]:7.3f} {w['accuracy'][1]:6.3f}",
            flush=True,
        )
    found = {
        "fixed": float(np.mean([r["accuracy"][0] for r in runs])),
        "implicit": float(np.mean([r["accuracy"][-1] for r in runs])),
        "straight_through": float(np.mean([r["ste_accuracy"][-1] for r in runs])),
        "straight_through_exact": float(np.mean([r["ste_exact"][1] for r in runs])),
        "objective_fixed": float(np.mean([r["objective"][0] for r in runs])),
        "objective": float(np.mean([r["objective"][-1] for r in runs])),
        "weights_objective_fixed": float(np.mean([w["value"][0] for w in weights])),
        "weights_objective": float(np.mean([w["value"][-1] for w in weights])),
        "weights_margin_fixed": float(np.mean([w["margin"][0] for w in weights])),
        "weights_margin": float(np.mean([max(w["margin"]) for w in weights])),
        "weight_of_wrong_labels": float(np.mean([w["weight"][-1] for w in weights])),
        "weights_accuracy_fixed": float(np.mean([w["accuracy"][0] for w in weights])),
        "weights_accuracy": float(np.mean([w["accuracy"][1] for w in weights])),
        "seconds": time.perf_counter() - begin,
    }
    for key, value in found.items():
        print(f"{key:24s} {value:.3f}")
    path = options.output / "implicit_backprop.png"
    plot(runs, options.iterations + 1, weights, path, name)
    print(f"picture: {path}")
    return found


# %%
# What it finds
# -------------

if __name__ == "__main__":
    main()
