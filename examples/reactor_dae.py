"""A network inside a differential equation: the best feed of a tank
=================================================================

A substance is fed to a stirred tank and reacts there. Its reaction rate is not known as a
formula but from measurements: it rises with the concentration, saturates, and falls again
where much of the substance inhibits its own reaction. A network with 16 ReLU is fitted to
the measurements and becomes the right-hand side of a differential equation,

.. math:: \\dot c = f - r(c), \\qquad \\dot p = r(c), \\qquad c(0) = 4, \\quad c(20) \\le 0.5 .

``pyomo.dae`` discretizes time, and the network block follows: it gets a network at every
point in time. The feed :math:`f` over twenty minutes is chosen so that the most product
:math:`p` is made. The tank starts overfull, so that feeding at once is a mistake.

Run it with ``python examples/reactor_dae.py``; it needs only the extra ``plot`` and takes
about half a minute.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pyomo.dae as dae
import pyomo.environ as pyo
from scipy.integrate import solve_ivp

from pyomo_relu import Network, NetworkBuilder, ReLUNetBlock, activations

HERE = Path(__file__).resolve().parent
START, END_LIMIT, MINUTES = 4.0, 0.5, 20.0
C_RANGE, FEED = (0.0, 6.0), (0.0, 2.0)


# %%
# The reaction rate and its network
# ---------------------------------
# The measurements have noise. The kinks of the one hidden layer are spaced evenly, and the
# output layer is the least-squares fit; any other way to train would do.


def reaction_rate(c):
    """The true rate, mol/(m3 min), at a concentration in mol/m3."""
    return 2.2 * c / (0.6 + c + 0.35 * c**2)


def measure(samples: int = 120, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Concentrations and rates with 2 % noise."""
    rng = np.random.default_rng(seed)
    c = rng.uniform(*C_RANGE, samples)
    return c, reaction_rate(c) * (1.0 + 0.02 * rng.normal(size=samples))


def fit(c: np.ndarray, rate: np.ndarray, kinks: int = 16) -> Network:
    """A network 1-16-1; the first kink is at 0, the others are nearer where it bends."""
    at = C_RANGE[1] * np.linspace(0.0, 1.0, kinks, endpoint=False) ** 1.5
    features = np.maximum(c[:, None] - at, 0.0)  # no rate where nothing is: no constant
    # A little smoothing, where measurements are few.
    system = np.vstack([features, 0.05 * np.eye(kinks)[1:]])
    fitted = np.linalg.lstsq(system, np.append(rate, np.zeros(kinks - 1)), rcond=None)[0]
    b = NetworkBuilder()
    source = b.input("c", (1,))
    hidden = b.affine("hidden", [(source, np.ones((kinks, 1)))], -at)
    relu = b.piecewise("relu", hidden, activations.relu())
    return b.build([b.affine("rate", [(relu, fitted[None, :])])])


# %%
# The tank
# --------
# The block is indexed by the continuous set of ``pyomo.dae``. When a transformation
# discretizes the set, a network is built at each new point.


def tank(network: Network, elements: int) -> pyo.ConcreteModel:
    """The most product in twenty minutes, by the feed over time."""
    m = pyo.ConcreteModel("tank")
    m.t = dae.ContinuousSet(bounds=(0.0, MINUTES))
    m.c = pyo.Var(m.t, bounds=C_RANGE, doc="concentration, mol/m3")
    m.feed = pyo.Var(m.t, bounds=FEED, doc="feed, mol/(m3 min)")
    m.product = pyo.Var(m.t, bounds=(0.0, 40.0), doc="product, mol/m3")
    m.dc = dae.DerivativeVar(m.c, wrt=m.t)
    m.dproduct = dae.DerivativeVar(m.product, wrt=m.t)
    m.rate = ReLUNetBlock(m.t, network=network, inputs=lambda b, t: [b.c[t]])

    @m.Constraint(m.t)
    def substance(m, t):
        return m.dc[t] == m.feed[t] - m.rate[t].outputs[0]

    @m.Constraint(m.t)
    def product_made(m, t):
        return m.dproduct[t] == m.rate[t].outputs[0]

    m.c[0].fix(START)
    m.product[0].fix(0.0)
    m.emptied = pyo.Constraint(expr=m.c[MINUTES] <= END_LIMIT)
    m.most = pyo.Objective(expr=m.product[MINUTES], sense=pyo.maximize)
    pyo.TransformationFactory("dae.finite_difference").apply_to(
        m, wrt=m.t, nfe=elements, scheme="BACKWARD"
    )
    return m


# %%
# A check by simulation
# ---------------------
# The feed that was found is tried on the true rate, by an ODE solver with fine steps. What
# differs is due to noise, to the network, and to the coarse discretization.


def simulate(m) -> tuple[np.ndarray, np.ndarray]:
    """Times and (concentration, product) of the true tank under the model's feed."""
    ends = np.array(list(m.t))
    feed = np.array([pyo.value(m.feed[t]) for t in list(m.t)[1:]])

    def slope(t, state, f):
        rate = reaction_rate(max(state[0], 0.0))
        return [f - rate, rate]

    times, states, state = [0.0], [[START, 0.0]], [START, 0.0]
    for k, f in enumerate(feed):
        grid = np.linspace(ends[k], ends[k + 1], 9)
        found = solve_ivp(
            slope, grid[[0, -1]], state, t_eval=grid[1:], args=(f,), rtol=1e-8
        )
        times += list(found.t)
        states += [list(s) for s in found.y.T]
        state = states[-1]
    return np.array(times), np.array(states)


def plot(m, network: Network, data, path: Path) -> None:
    """The rate and its network; concentration, feed and product over time."""
    fig, (left, right) = plt.subplots(
        1, 2, figsize=(10.5, 4.3), width_ratios=(1, 1.45), layout="constrained"
    )
    c = np.linspace(*C_RANGE, 300)
    left.plot(*data, ".", ms=4, color="0.6", label="measured")
    left.plot(c, reaction_rate(c), "k--", lw=1, label="true rate")
    left.plot(
        c, network.evaluate(c[:, None])[:, 0], color="tab:blue", lw=2, label="network"
    )
    left.set(xlabel="concentration (mol/m³)", ylabel="rate (mol/(m³ min))", xlim=C_RANGE)
    left.set(ylim=(0, 1.3), title="Reaction rate")
    left.legend(loc="lower right")

    t = np.array(list(m.t))
    feed = [pyo.value(m.feed[i]) for i in t[1:]]
    times, states = simulate(m)
    right.stairs(feed, t, fill=True, color="tab:orange", alpha=0.35, label="feed, planned")
    planned = [pyo.value(m.c[i]) for i in t]
    right.plot(t, planned, "o", ms=4, color="tab:blue", label="concentration, planned")
    right.plot(times, states[:, 0], color="tab:blue", lw=1.2, label="…, simulated")
    right.set(xlabel="time (min)", xlim=(0, MINUTES), ylim=(0, 5.6))
    right.set_ylabel("concentration (mol/m³), feed (mol/(m³ min))")
    right.set_title("The feed that makes the most product")
    made = right.twinx()
    made.plot(t, [pyo.value(m.product[i]) for i in t], "s", ms=3.5, color="crimson")
    made.plot(times, states[:, 1], color="crimson", lw=1.2)
    made.set_ylabel("product (mol/m³)", color="crimson")
    made.set_ylim(0, 1.3 * states[-1, 1])
    right.legend(loc="upper left", ncols=2, fontsize="small")
    fig.savefig(path, dpi=110)
    plt.close(fig)


# %%
# The whole job
# -------------


def run(elements: int, output: Path) -> dict[str, float]:
    """Fit, solve, simulate, draw; returns the figures it printed."""
    data = measure()
    network = fit(*data)
    m = tank(network, elements)
    solver = pyo.SolverFactory("relu")
    begin = time.perf_counter()
    pyo.assert_optimal_termination(solver.solve(m))
    seconds = time.perf_counter() - begin
    gap = max(m.rate[t].error() for t in m.t if t > 0)
    planned = pyo.value(m.most)
    simulated = float(simulate(m)[1][-1, 1])
    print(f"{elements} finite elements, {len(m.rate)} networks, solved in {seconds:.1f} s")
    print(f"  product after 20 min, planned    {planned:.3f} mol/m3")
    print(f"  the same feed on the true tank   {simulated:.3f} mol/m3")
    print(f"  |network - model|, all points    {gap:.1e}")
    path = output / "reactor_dae.png"
    plot(m, network, data, path)
    print(f"plot: {path}")
    return {"planned": planned, "simulated": simulated, "error": gap}


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--elements", type=int, default=20, help="finite elements")
    parser.add_argument("--output", type=Path, default=HERE, help="folder for the plot")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    return run(options.elements, options.output)


# %%
# What it finds
# -------------

if __name__ == "__main__":
    main()
