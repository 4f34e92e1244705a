"""A plant with storage over a day: cold water, made when power is cheap
=====================================================================

A chiller plant cools an office district. Two machines share the work: below half load one
runs, above it both do, and both work better at night, when the air outside is cool. Their
power is known from measurements; here a 2-16-12-1 ReLU network learns it from 1,500 samples
of a simulation, and stands in the model once for each hour of the day. A tank of cold water
decouples the plant from the demand. When should it run, and how much?

The network is not convex, because the second machine has to be started: a linear program
can't place the load well. The mixed-integer program has a plan of the day that is
proved to be within 0.1 % of the best.

Run it with ``python examples/storage_plant.py``; it needs the extras ``sklearn`` and
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

from pyomo_relu import Network, ReLUNetBlock, read_network

HERE = Path(__file__).resolve().parent
HOURS = np.arange(24)
#: Power price, EUR/MWh.
PRICE = [41, 38, 35, 33, 34, 42, 61, 88, 97, 84, 66, 52]
PRICE += [45, 43, 47, 58, 76, 98, 121, 128, 109, 82, 63, 49]
#: Cooling that the district needs, MW.
DEMAND = 2.2 + 2.6 * np.exp(-(((HOURS - 14.5) / 4.2) ** 2))
#: Air outside, degrees Celsius.
AIR = 24.0 + 8.0 * np.sin(2 * np.pi * (HOURS - 9.0) / 24)
LOAD, AIR_RANGE = (0.0, 6.0), (14.0, 34.0)
TANK, RAMP = 12.0, 2.5


# %%
# The plant and its network
# -------------------------
# Power in MW for a cooling load in MW: a quadratic law of the load for each machine, times
# an efficiency that falls as the air gets warmer, and auxiliaries for each machine that runs.


def simulate(load, air):
    """Electric power (MW) of the plant at a cooling load (MW) and air temperature (°C)."""

    def machine(share):  # share of its 3 MW
        return 3.0 / 5.5 * (0.25 + 0.20 * share + 0.55 * share**2)

    one, both = machine(load / 3.0), 2.0 * machine(load / 6.0)
    best = np.where(load <= 3.0, np.minimum(one, both), both)
    return best * (0.72 + 0.022 * (air - 14.0))


def train(samples: int = 1500, seed: int = 0) -> tuple[Network, float]:
    """A network of the plant in MW and °C, and its root mean square error (MW)."""
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler, StandardScaler
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.uniform(*LOAD, samples), rng.uniform(*AIR_RANGE, samples)])
    y = simulate(*x.T)
    network = MLPRegressor(
        hidden_layer_sizes=(16, 12), solver="lbfgs", max_iter=1500, random_state=seed
    )
    model = TransformedTargetRegressor(
        make_pipeline(MinMaxScaler((-1, 1)), network), transformer=StandardScaler()
    )
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # iterations end the training
        model.fit(x, y)
    read = read_network(model, output_names=["power"])
    return read, float(np.sqrt(np.mean((read.evaluate(x)[:, 0] - y) ** 2)))


# %%
# The plan of a day
# -----------------
# One network block over the hours. The load is a variable of the model, the temperature of
# the air a number, so every hour has a box of its own with one free input, and the bounds
# leave few neurons in doubt.


def plan(network: Network, tank: float = TANK, **options) -> pyo.ConcreteModel:
    """The cheapest plan: what the plant makes and what the tank (MWh) holds."""
    m = pyo.ConcreteModel("cold water")
    m.T = pyo.RangeSet(0, 23)
    m.made = pyo.Var(m.T, bounds=LOAD, doc="cooling made, MW")
    m.stock = pyo.Var(m.T, bounds=(0.0, tank), doc="cold in the tank at the end, MWh")
    m.plant = ReLUNetBlock(
        m.T, network=network, inputs=lambda b, t: [b.made[t], float(AIR[t])], **options
    )

    @m.Constraint(m.T)
    def balance(m, t):  # the day after is like this one
        return m.stock[t] == m.stock[(t - 1) % 24] + m.made[t] - DEMAND[t]

    @m.Constraint(m.T, [-1, 1])
    def ramp(m, t, sign):
        return sign * (m.made[t] - m.made[(t - 1) % 24]) <= RAMP

    m.cost = pyo.Objective(expr=sum(PRICE[t] * m.plant[t].outputs["power"] for t in m.T))
    return m


# %%
# The picture
# -----------


def plot(m, network: Network, path: Path) -> None:
    """The network as it was learned, and the plan of the day."""
    fig = plt.figure(figsize=(10.5, 6.4), layout="constrained")
    grid = fig.add_gridspec(2, 2, width_ratios=(1, 1.55))
    left, top, bottom = (fig.add_subplot(grid[k]) for k in (np.s_[:, 0], (0, 1), (1, 1)))
    loads = np.linspace(*LOAD, 241)
    for air, colour in ((16.0, "#2166ac"), (24.0, "#7a6a9c"), (32.0, "#b2182b")):
        points = np.column_stack([loads, np.full_like(loads, air)])
        left.plot(
            loads, network.evaluate(points)[:, 0], color=colour, lw=2, label=f"{air:.0f} °C"
        )
        left.plot(loads[::12], simulate(loads[::12], air), "o", ms=3.5, color=colour)
    for t in m.T:
        left.plot(pyo.value(m.made[t]), pyo.value(m.plant[t].outputs["power"]), "k+", ms=9)
    left.plot([], [], "k+", ms=9, label="the plan, hour by hour")
    left.set(xlabel="cooling load (MW)", ylabel="electric power (MW)", xlim=LOAD)
    left.set_title("The plant: simulated (dots), network (lines)", fontsize=10.5)
    left.legend(loc="upper left")

    load = [pyo.value(m.made[t]) for t in m.T]
    top.bar(HOURS + 0.5, load, width=0.92, color="#4393c3", label="made")
    top.step([*HOURS, 24], [DEMAND[0], *DEMAND], color="black", lw=1.8, label="demand")
    top.set(ylabel="cooling (MW)", xlim=(0, 24), ylim=(0, 8.2), xticks=range(0, 25, 3))
    top.set_title(f"Plan of the day: {pyo.value(m.cost):,.0f} EUR")
    price = top.twinx()
    price.step([*HOURS, 24], [PRICE[0], *PRICE], color="crimson", ls=":", lw=1.8)
    price.set_ylabel("power price, dotted (EUR/MWh)", color="crimson")
    price.set_ylim(0, 175)
    top.legend(loc="upper left", ncols=2)

    stock = [pyo.value(m.stock[23]), *(pyo.value(m.stock[t]) for t in m.T)]
    bottom.fill_between([*HOURS, 24], stock, color="#92c5de", label="in the tank")
    bottom.axhline(TANK, color="black", lw=0.8, ls="--")
    bottom.set(xlabel="time (h)", ylabel="cold in the tank (MWh)", xlim=(0, 24))
    bottom.set(ylim=(0, 1.12 * TANK), xticks=range(0, 25, 3))
    fig.savefig(path, dpi=110)
    plt.close(fig)


# %%
# The whole job
# -------------


def run(samples: int, gap: float, output: Path) -> dict[str, float]:
    """Train, plan with and without the tank, draw; returns the figures it printed."""
    network, error = train(samples)
    print(f"network 2-16-12-1, root mean square error {1e3 * error:.1f} kW")
    solver = pyo.SolverFactory("relu")
    m = plan(network)
    begin = time.perf_counter()
    pyo.assert_optimal_termination(solver.solve(m, rel_gap=gap))
    seconds = time.perf_counter() - begin
    binaries = sum(m.plant[t].statistics().binaries for t in m.T)
    spread = max(m.plant[t].error() for t in m.T)
    follow = sum(
        p * float(network.evaluate([d, a])[0])
        for p, d, a in zip(PRICE, DEMAND, AIR, strict=True)
    )
    cost = pyo.value(m.cost)
    true = sum(PRICE[t] * float(simulate(pyo.value(m.made[t]), AIR[t])) for t in range(24))
    print(
        f"24 networks with {24 * 28} ReLU, {binaries} binaries, solved in {seconds:.1f} s"
    )
    print(f"  plan with the tank            {cost:8.1f} EUR")
    print(f"  the same plan as simulated    {true:8.1f} EUR")
    print(f"  following the demand          {follow:8.1f} EUR")
    print(f"  |network - model|, all hours  {spread:8.1e}")
    path = output / "storage_plant.png"
    plot(m, network, path)
    print(f"plot: {path}")
    return {"cost": cost, "simulated": true, "without_tank": follow, "error": spread}


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--samples", type=int, default=1500, help="for the training")
    parser.add_argument("--gap", type=float, default=1e-3, help="relative, of the proof")
    parser.add_argument("--output", type=Path, default=HERE, help="folder for the plot")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    return run(options.samples, options.gap, options.output)


# %%
# What it finds
# -------------

if __name__ == "__main__":
    main()
