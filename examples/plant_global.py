"""A plant of many units: global optimization against the MIP
=============================================================

A plant of six units: which to run, and how, within a shared utility limit.

Each unit is known through a surrogate: a 4-20-20-2 ReLU network trained on simulated
data, from four operating variables to product value and utility use. A unit that is off
earns nothing and uses nothing; one that runs has a fixed cost. The plant maximizes its
profit.

``relu_global`` prices the utility and searches each unit in the space of its four
inputs; the same model as a big-M MIP has 240 ReLUs.

Run it with ``python examples/plant_global.py``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pyomo.environ as pyo

from pyomo_relu import Network, NetworkBuilder, ReLUNetBlock, activations

HERE = Path(__file__).resolve().parent
UNITS, INPUTS, HIDDEN = 6, 4, 20
#: Utility there is for six units.
UTILITY = 7.0


# %%
# Units and their surrogates
# --------------------------


def simulate(unit: int, x: np.ndarray) -> np.ndarray:
    """Product value and utility use of a unit at operating points (N, 4) in [0, 1]^4."""
    rng = np.random.default_rng(100 + unit)
    best = rng.uniform(0.25, 0.85, INPUTS)
    curve = rng.uniform(1.0, 3.0, INPUTS)
    wave = rng.uniform(2.0, 4.0, INPUTS)
    value = 6.0 - ((x - best) ** 2) @ (2.0 * curve) + 2.0 * x[:, 0] * x[:, 1]
    value = value + 0.6 * np.sin(x @ wave) + 0.5 * np.cos(3.0 * x[:, 2] * x[:, 3] * wave[0])
    slope = rng.uniform(0.5, 1.5, INPUTS)
    utility = 0.5 + x @ slope + 1.5 * (x[:, 0] * x[:, 2]) ** 2
    return np.column_stack([value, utility])


def train(unit: int, samples: int = 3000, epochs: int = 60) -> Network:
    """Fit a surrogate by Adam, in NumPy."""
    rng = np.random.default_rng(unit)
    x = rng.random((samples, INPUTS))
    y = simulate(unit, x)
    mean, scale = y.mean(axis=0), y.std(axis=0)
    target = (y - mean) / scale
    sizes = [INPUTS, HIDDEN, HIDDEN, 2]
    weights = []
    for n, m in zip(sizes, sizes[1:]):
        weights += [rng.normal(size=(m, n)) * np.sqrt(2.0 / n), np.zeros(m)]
    first = [np.zeros_like(w) for w in weights]
    second = [np.zeros_like(w) for w in weights]
    step = 0
    for epoch in range(epochs):
        rate = 5e-3 * 0.95**epoch
        for batch in np.array_split(rng.permutation(samples), samples // 50):
            values = [2.0 * x[batch] - 1.0]
            for k in range(3):
                z = values[-1] @ weights[2 * k].T + weights[2 * k + 1]
                values.append(np.maximum(z, 0.0) if k < 2 else z)
            back = 2.0 * (values[-1] - target[batch]) / len(batch)
            step += 1
            for k in (2, 1, 0):
                gradients = back.T @ values[k], back.sum(axis=0)
                if k:
                    back = (back @ weights[2 * k]) * (values[k] > 0)
                for i, g in zip((2 * k, 2 * k + 1), gradients):
                    first[i] = 0.9 * first[i] + 0.1 * g
                    second[i] = 0.999 * second[i] + 0.001 * g * g
                    hat = second[i] / (1.0 - 0.999**step)
                    weights[i] = weights[i] - rate * first[i] / (1.0 - 0.9**step) / (
                        np.sqrt(hat) + 1e-8
                    )
    builder = NetworkBuilder()
    last = builder.input("operation", (INPUTS,))
    last = builder.affine("scale", [(last, 2.0 * np.eye(INPUTS))], -np.ones(INPUTS))
    for k in range(3):
        last = builder.affine(
            f"dense_{k + 1}", [(last, weights[2 * k])], weights[2 * k + 1]
        )
        if k < 2:
            last = builder.piecewise(f"relu_{k + 1}", last, activations.relu())
    last = builder.affine("unscale", [(last, np.diag(scale))], mean)
    return builder.build([last], output_names=["value", "utility"])


# %%
# The plant
# ---------
# One indexed network block; the choice to run a unit switches what its surrogate earns.


def plant(networks, formulation=None) -> pyo.ConcreteModel:
    """The plant: six blocks, on/off choices, one utility."""
    m = pyo.ConcreteModel()
    m.unit = pyo.RangeSet(0, len(networks) - 1)
    m.x = pyo.Var(m.unit, range(INPUTS), bounds=(0.0, 1.0))
    m.on = pyo.Var(m.unit, domain=pyo.Binary)

    def surrogate(block, k):
        block.build(
            networks[k], [m.x[k, j] for j in range(INPUTS)], formulation=formulation
        )

    m.surrogate = ReLUNetBlock(m.unit, rule=surrogate)
    m.value = pyo.Var(m.unit, bounds=(0.0, 12.0))
    m.utility = pyo.Var(m.unit, bounds=(0.0, 8.0))

    @m.Constraint(m.unit)
    def earns(m, k):
        return m.value[k] <= m.surrogate[k].outputs["value"] + 12.0 * (1 - m.on[k])

    @m.Constraint(m.unit)
    def earns_when_on(m, k):
        return m.value[k] <= 12.0 * m.on[k]

    @m.Constraint(m.unit)
    def uses(m, k):
        return m.utility[k] >= m.surrogate[k].outputs["utility"] - 8.0 * (1 - m.on[k])

    m.limit = pyo.Constraint(
        expr=sum(m.utility[k] for k in m.unit) <= UTILITY * len(networks) / UNITS
    )
    cost = {k: 1.0 + 0.3 * k for k in m.unit}
    m.profit = pyo.Objective(
        expr=sum(m.value[k] - cost[k] * m.on[k] for k in m.unit), sense=pyo.maximize
    )
    return m


# %%
# Two ways to solve it
# --------------------
# Both are given the same time. What counts is the gap between the best plan that is known
# and what is proved of all others.


def solve(networks, name: str, limit: float) -> tuple[pyo.ConcreteModel, dict]:
    """The plant by one solver: profit, what is proved, and seconds."""
    m = plant(networks, None if name == "relu_global" else "bigm")
    begin = time.perf_counter()
    results = pyo.SolverFactory(name).solve(m, time_limit=limit)
    return m, {
        "seconds": time.perf_counter() - begin,
        "profit": float(results.problem.lower_bound),
        "proved": float(results.problem.upper_bound),
        "status": str(results.solver.termination_condition),
    }


def plot(m: pyo.ConcreteModel, found: dict[str, dict], path: Path) -> None:
    """The gap of each solver, and the plan."""
    import matplotlib.pyplot as plt

    fig, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.1), layout="constrained")
    colours = {"relu_global": "#2166ac", "relu_highs": "#b2182b"}
    labels = {"relu_global": "relu_global", "relu_highs": "big-M MIP\n(relu_highs)"}
    for row, (name, f) in enumerate(found.items()):
        width = max(f["proved"] - f["profit"], 0.01)
        left.barh(row, width, left=f["profit"], height=0.35, color=colours[name])
        left.text(
            f["profit"], row - 0.28, f"profit {f['profit']:.3f}, proved at most "
            f"{f['proved']:.3f}, {f['seconds']:.0f} s",
            fontsize=9,
        )  # fmt: skip
    left.set_yticks(range(len(found)), [labels[name] for name in found])
    ends = [v for f in found.values() for v in (f["profit"], f["proved"])]
    span = max(ends) - min(ends)
    left.set(xlim=(min(ends) - 0.05 * span, max(ends) + 0.25 * span))
    left.set(ylim=(len(found) - 0.5, -0.6), xlabel="profit (money per hour)")
    left.set_title("From the best plan known to what is proved")
    units = np.array(list(m.unit))
    on = np.array([m.on[k].value > 0.5 for k in units])
    value = np.array([m.value[k].value for k in units]) * on
    utility = np.array([m.utility[k].value for k in units]) * on
    right.bar(units - 0.2, value, 0.4, color="#4393c3", label="product value")
    right.bar(units + 0.2, utility, 0.4, color="#f4a582", label="utility used")
    for k in units[~on]:
        right.text(k, 0.1, "off", ha="center", color="0.4")
    right.set(xlabel="unit", ylabel="money per hour; units of utility", xticks=units)
    right.set_title(
        f"The plan: {utility.sum():.2f} of {UTILITY * len(units) / UNITS:.2f} units of utility used"
    )
    right.legend(loc="upper right")
    right.set_ylim(0, 1.25 * max(value.max(), utility.max()))
    fig.savefig(path, dpi=110)
    plt.close(fig)


# %%
# The whole job
# -------------


def main(arguments: list[str] | None = None) -> dict[str, dict]:
    """Train, solve both ways, print the plan, draw; returns what each solver found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--units", type=int, default=UNITS)
    parser.add_argument("--limit", type=float, default=45.0, help="seconds for a solver")
    parser.add_argument("--output", type=Path, default=HERE, help="folder for the plot")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    networks = [train(k) for k in range(options.units)]
    print(f"surrogates trained in {time.perf_counter() - begin:.1f} s")
    found = {}
    other, found["relu_highs"] = solve(networks, "relu_highs", options.limit)
    m, found["relu_global"] = solve(networks, "relu_global", options.limit)
    for name, f in found.items():
        print(
            f"{name:11}  profit {f['profit']:.4f}, proved at most {f['proved']:.4f}, "
            f"{f['seconds']:.1f} s ({f['status']})"
        )
    for k in m.unit:
        if m.on[k].value > 0.5:
            x = ", ".join(f"{m.x[k, j].value:.3f}" for j in range(INPUTS))
            print(
                f"unit {k}: at ({x}), value {m.value[k].value:.3f}, utility "
                f"{m.utility[k].value:.3f}"
            )
        else:
            print(f"unit {k}: off")
    found["relu_global"]["error"] = max(m.surrogate[k].error() for k in m.unit)
    path = options.output / "plant_global.png"
    plot(m, found, path)
    print(f"plot: {path}")
    return found


# %%
# What it finds
# -------------

if __name__ == "__main__":
    main()
