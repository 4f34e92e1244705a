"""One network at every point in time: a plant with storage, and a differential equation.

Two small networks (one input, 12 and 16 ReLU) are fitted to curves that are not convex:

* the energy that a plant needs is used in twelve periods of two hours, with a tank between
  plant and demand, ramp limits and a changing power price: when to produce, how much;
* a reaction rate is used within a differential equation: ``pyomo.dae`` discretizes time,
  the network block follows it, and the optimal feed of a tank is found.

Run it with ``python examples/time_indexed.py``; it needs only the extra ``plot``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pyomo.dae as dae
import pyomo.environ as pyo

from pyomo_relu import Network, NetworkBuilder, ReLUNetBlock, activations

HERE = Path(__file__).resolve().parent
#: EUR/MWh, for each two hours of a day.
PRICE = [31, 28, 27, 35, 62, 58, 44, 40, 55, 88, 74, 42]
#: t of product for each two hours.
DEMAND = [3, 3, 3, 4, 6, 7, 7, 6, 6, 7, 5, 3]


def fit_curve(function, low: float, high: float, kinks: int, name: str) -> Network:
    """A network with one hidden layer that fits ``function`` on ``[low, high]``.

    The kinks are spaced evenly; the output layer is the least-squares fit.
    """
    x = np.linspace(low, high, 400)
    at = np.linspace(low, high, kinks, endpoint=False)
    features = np.column_stack([np.ones_like(x), np.maximum(x[:, None] - at, 0.0)])
    fitted = np.linalg.lstsq(features, function(x), rcond=None)[0]
    b = NetworkBuilder()
    source = b.input(name, (1,))
    hidden = b.affine("hidden", [(source, np.ones((kinks, 1)))], -at)
    relu = b.piecewise("relu", hidden, activations.relu())
    return b.build([b.affine("curve", [(relu, fitted[None, 1:])], fitted[:1])])


def power_demand(made):
    """MWh for ``made`` t in two hours: dear at part load, cheap amid, steep at the end."""
    return 1.0 + 9.0 * (1.0 - np.exp(-made / 2.5)) + 0.02 * made**3


def plan(network: Network) -> pyo.ConcreteModel:
    """Twelve periods of a plant with a tank, ramp limits and a changing price."""
    m = pyo.ConcreteModel("plant")
    m.T = pyo.RangeSet(0, len(PRICE) - 1)
    m.made = pyo.Var(m.T, bounds=(0.0, 10.0), doc="product made, t")
    m.stock = pyo.Var(m.T, bounds=(0.0, 12.0), doc="product in the tank at the end, t")
    m.power = ReLUNetBlock(m.T, network=network, inputs=lambda b, t: [b.made[t]])

    @m.Constraint(m.T)
    def balance(m, t):
        before = m.stock[t - 1] if t > m.T.first() else 4.0
        return m.stock[t] == before + m.made[t] - DEMAND[t]

    @m.Constraint(m.T, [-1, 1])
    def ramp(m, t, sign):
        if t == m.T.first():
            return pyo.Constraint.Skip
        return sign * (m.made[t] - m.made[t - 1]) <= 3.0

    m.refill = pyo.Constraint(expr=m.stock[m.T.last()] >= 4.0)
    m.cost = pyo.Objective(expr=sum(PRICE[t] * m.power[t].outputs[0] for t in m.T))
    return m


def reaction_rate(concentration):
    """mol/(m3 min): rises, saturates and is inhibited by much of the substance."""
    return 2.2 * concentration / (0.6 + concentration + 0.35 * concentration**2)


def tank(network: Network, elements: int) -> pyo.ConcreteModel:
    """A stirred tank: the most product in twenty minutes, by the feed over time.

    The network is the right-hand side of ``dc/dt = feed - rate(c)``. The tank starts
    overfull, where the substance inhibits its own reaction, and must end nearly empty.
    """
    m = pyo.ConcreteModel("tank")
    m.t = dae.ContinuousSet(bounds=(0.0, 20.0))
    m.c = pyo.Var(m.t, bounds=(0.0, 6.0), doc="concentration, mol/m3")
    m.feed = pyo.Var(m.t, bounds=(0.0, 2.0), doc="feed, mol/(m3 min)")
    m.product = pyo.Var(m.t, bounds=(0.0, 40.0), doc="product, mol/m3")
    m.dc = dae.DerivativeVar(m.c, wrt=m.t)
    m.dproduct = dae.DerivativeVar(m.product, wrt=m.t)
    # The block follows the discretization: it has a network at every point of it.
    m.rate = ReLUNetBlock(m.t, network=network, inputs=lambda b, t: [b.c[t]])

    @m.Constraint(m.t)
    def substance(m, t):
        return m.dc[t] == m.feed[t] - m.rate[t].outputs[0]

    @m.Constraint(m.t)
    def product_made(m, t):
        return m.dproduct[t] == m.rate[t].outputs[0]

    m.c[0].fix(4.0)
    m.product[0].fix(0.0)
    m.left = pyo.Constraint(expr=m.c[20] <= 0.5)
    m.most = pyo.Objective(expr=m.product[20], sense=pyo.maximize)
    pyo.TransformationFactory("dae.finite_difference").apply_to(
        m, wrt=m.t, nfe=elements, scheme="BACKWARD"
    )
    return m


def plot(plant, reactor, networks, path: Path) -> None:
    """Both curves with their networks, and both plans."""
    fig, axes = plt.subplots(2, 2, figsize=(10.5, 7), layout="constrained")
    curves = (
        (power_demand, (0, 10), "product in two hours (t)", "energy (MWh)", "Plant"),
        (
            reaction_rate,
            (0, 6),
            "concentration (mol/m³)",
            "rate (mol/(m³ min))",
            "Reaction",
        ),
    )
    for ax, network, (function, ends, x_label, y_label, title) in zip(
        axes[:, 0], networks, curves
    ):
        x = np.linspace(*ends, 400)
        ax.plot(x, function(x), color="0.6", lw=4, label="curve")
        ax.plot(x, network.evaluate(x[:, None])[:, 0], "k", lw=1.2, label="network")
        ax.set(xlabel=x_label, ylabel=y_label, title=title)
        ax.legend()

    ax = axes[0, 1]
    hours = 2.0 * np.arange(len(PRICE))
    produced = [pyo.value(plant.made[t]) for t in plant.T]
    ax.bar(
        hours + 1, produced, width=1.8, color="tab:blue", alpha=0.6, label="product made"
    )
    ax.step([*hours, 24], [DEMAND[0], *DEMAND], where="pre", color="black", label="demand")
    stock = [4.0, *(pyo.value(plant.stock[t]) for t in plant.T)]
    ax.plot([*hours, 24], stock, "o-", ms=4, color="tab:green", label="in the tank")
    ax.set(xlabel="time (h)", ylabel="product (t)", title="Plan of the day", xlim=(0, 24))
    ax.set_ylim(0, 16.5)
    price = ax.twinx()
    price.step([*hours, 24], [PRICE[0], *PRICE], where="pre", color="crimson", ls=":")
    price.set_ylabel("power price, dotted (EUR/MWh)", color="crimson")
    price.set_ylim(0, 140)
    ax.legend(loc="upper left", ncols=3, fontsize="small")

    ax = axes[1, 1]
    t = list(reactor.t)
    c, feed, product = (
        [pyo.value(v[i], exception=False) for i in t]
        for v in (reactor.c, reactor.feed, reactor.product)
    )
    ax.plot(t, c, "o-", ms=3, color="tab:green", label="concentration (mol/m³)")
    ax.step(t[1:], feed[1:], where="pre", color="tab:blue", label="feed (mol/(m³ min))")
    ax.set(xlabel="time (min)", ylabel="concentration, feed", xlim=(0, 20))
    ax.set(title="Feed that makes the most product")
    made = ax.twinx()
    made.plot(t, product, color="crimson", ls=":")
    made.set_ylabel("product, dotted (mol/m³)", color="crimson")
    made.set_ylim(bottom=0)
    ax.legend(loc="upper left", fontsize="small")
    ax.set_ylim(0, 1.35 * max(max(c), max(feed[1:])))
    fig.savefig(path, dpi=110)
    plt.close(fig)


def run(elements: int, output: Path) -> dict[str, float]:
    """Solve both models; returns the figures it printed."""
    curve = fit_curve(power_demand, 0.0, 10.0, 12, "made")
    plant = plan(curve)
    solver = pyo.SolverFactory("appsi_highs")
    pyo.assert_optimal_termination(solver.solve(plant))
    spread = max(plant.power[t].error() for t in plant.T)
    steady = sum(
        p * float(curve.evaluate([d])[0]) for p, d in zip(PRICE, DEMAND, strict=True)
    )
    cost = pyo.value(plant.cost)
    print("plant with a tank, 12 periods:")
    print(
        "  product made (t):", " ".join(f"{pyo.value(v):.1f}" for v in plant.made.values())
    )
    print(f"  cost {cost:,.0f} EUR; without the tank {steady:,.0f} EUR")
    print(f"  |network - model| over all periods: {spread:.1e}\n")

    rate = fit_curve(reaction_rate, 0.0, 6.0, 16, "c")
    reactor = tank(rate, elements)
    pyo.assert_optimal_termination(solver.solve(reactor))
    gap = max(reactor.rate[t].error() for t in reactor.t if t > 0)
    product = pyo.value(reactor.most)
    print(f"tank by pyomo.dae, {elements} finite elements, {len(reactor.rate)} networks:")
    print(f"  product after 20 min: {product:.4f} mol/m3")
    print(f"  highest concentration: {max(pyo.value(v) for v in reactor.c.values()):.3f}")
    print(f"  |network - model| over all points: {gap:.1e}")
    path = output / "time_indexed.png"
    plot(plant, reactor, (curve, rate), path)
    print(f"\nplot: {path}")
    return {
        "cost": cost,
        "without_tank": steady,
        "product": product,
        "error": max(spread, gap),
    }


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--elements", type=int, default=20, help="finite elements")
    parser.add_argument("--output", type=Path, default=HERE, help="folder for the plot")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    return run(options.elements, options.output)


if __name__ == "__main__":
    main()
