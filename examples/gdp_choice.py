"""A logical choice around a surrogate: which gas to make (pyomo.gdp)
==================================================================

The reformer of :ref:`the first example <sphx_glr_gallery_reformer_design.py>` can sell one of
three gases: *hydrogen-rich gas*, *synthesis gas* or *fuel gas*. Each has its own
specification, which the composition must meet, and its own price. That is a logical choice,
and ``pyomo.gdp`` writes it down as it is spoken: three disjuncts, one of which must hold.
The trained network with its thirteen outputs stands outside of the disjunction; the outputs
are ordinary variables with proven bounds, so that ``gdp.bigm`` finds its constants from them.

Natural gas is raw material, fuel of the furnace, and competitor of the fuel gas. The model
is solved for a range of its prices: where does the plant change over, and to what?

Run it with ``python examples/gdp_choice.py``; it needs only the extra ``plot`` and takes
about half a minute. Specifications and prices are made up; data and network are those of the
first example.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pyomo.environ as pyo
import pyomo.gdp as gdp

from pyomo_relu import ReLUNetBlock, read_network

HERE = Path(__file__).resolve().parent
NETWORK = HERE / "data" / "reformer_4x10.npz"
BYPASS, RATIO = (0.1, 0.8), (0.8, 1.2)
GRADES = ("hydrogen-rich gas", "synthesis gas", "fuel gas")
COLOURS = ("#2166ac", "#1b7837", "#b2182b")

# %%
# Specifications and prices
# -------------------------
# They are linear in the mole fractions, so the same functions serve the model, where the
# fractions are variables, and the picture, where they are arrays. All amounts are for one
# kmol of product gas.

#: Carbon atoms of each component, and heat of combustion (MJ/kmol).
CARBON = {"CH4": 1, "C2H6": 2, "C3H8": 3, "C4H10": 4, "CO": 1, "CO2": 1}
HEAT = {"H2": 242, "CO": 283, "CH4": 802, "C2H6": 1428, "C3H8": 2044, "C4H10": 2658}


def specification(grade: str, y) -> list:
    """Expressions that must not be positive."""
    return {
        "hydrogen-rich gas": [0.325 - y["H2"], y["N2"] - 0.345],
        "synthesis gas": [0.100 - y["CO"], y["N2"] - 0.325],
        "fuel gas": [200.0 - heat(y), y["N2"] - 0.30],
    }[grade]


def heat(y):
    """Heat of combustion, MJ/kmol."""
    return sum(h * y[name] for name, h in HEAT.items())


def gas_used(y):
    """Natural gas as raw material and in the furnace, MWh/kmol."""
    carbon = sum(n * y[name] for name, n in CARBON.items())
    return carbon * HEAT["CH4"] / 3600 + 1e-6 * y["Reformer Duty"]


def fixed_price(grade: str, y):
    """What the buyer pays whatever natural gas costs, EUR/kmol."""
    if grade == "hydrogen-rich gas":
        return 13.1 * y["H2"]
    return 10.6 * (y["H2"] + y["CO"]) if grade == "synthesis gas" else 0.0


def gas_sold(grade: str, y):
    """Fuel gas is paid like 1.5 times its heat of natural gas, MWh/kmol."""
    return 1.5 * heat(y) / 3600 if grade == "fuel gas" else 0.0


# %%
# The model
# ---------
# The network, and a disjunction around it. The price stands in the objective only, so the
# model is transformed once and solved for many prices.


def build_model(network) -> pyo.ConcreteModel:
    """The choice among the grades and the operating point, as a disjunctive program."""
    m = pyo.ConcreteModel("which gas")
    m.bypass = pyo.Var(bounds=BYPASS)
    m.ratio = pyo.Var(bounds=RATIO)
    m.reformer = ReLUNetBlock(network=network, inputs=[m.bypass, m.ratio])
    y = m.reformer.outputs
    m.income = pyo.Var(bounds=(0.0, 10.0), doc="at fixed prices, EUR/kmol")
    m.sold = pyo.Var(bounds=(0.0, 0.3), doc="sold at the price of gas, MWh/kmol")
    m.grade = gdp.Disjunct(GRADES)
    for g in GRADES:
        meets = m.grade[g].meets = pyo.ConstraintList()
        for expression in specification(g, y):
            meets.add(expression <= 0)
        m.grade[g].income = pyo.Constraint(expr=m.income == fixed_price(g, y))
        m.grade[g].sold = pyo.Constraint(expr=m.sold == gas_sold(g, y))
    m.choice = gdp.Disjunction(expr=[m.grade[g] for g in GRADES])
    m.price = pyo.Param(initialize=30.0, mutable=True, doc="natural gas, EUR/MWh")
    m.profit = pyo.Objective(
        expr=m.income + m.price * (m.sold - gas_used(y)), sense=pyo.maximize
    )
    pyo.TransformationFactory("gdp.bigm").apply_to(m)
    return m


def sweep(m, prices) -> list[dict]:
    """Solve for each price: the grade, the operating point, and the profit."""
    solver = pyo.SolverFactory("appsi_highs")
    solver.options["mip_rel_gap"] = 1e-6
    found = []
    for price in prices:
        m.price.set_value(float(price))
        pyo.assert_optimal_termination(solver.solve(m))
        grade = next(g for g in GRADES if pyo.value(m.grade[g].binary_indicator_var) > 0.5)
        point = (pyo.value(m.bypass), pyo.value(m.ratio))
        found.append(
            {
                "price": float(price),
                "grade": grade,
                "point": point,
                "profit": pyo.value(m.profit),
                "error": m.reformer.error(),
            }
        )
    return found


# %%
# The picture
# -----------


def grid_profit(network, price: float, n: int = 241):
    """Profit of each grade on a grid of operating points, NaN off its specification."""
    bypass, ratio = np.linspace(*BYPASS, n), np.linspace(*RATIO, n)
    b, r = np.meshgrid(bypass, ratio)
    table = network.evaluate(np.column_stack([b.ravel(), r.ravel()]))
    y = {name: table[:, k].reshape(b.shape) for k, name in enumerate(network.output_names)}
    profit = {}
    for g in GRADES:
        value = fixed_price(g, y) + price * (gas_sold(g, y) - gas_used(y))
        kept = np.all([s <= 0 for s in specification(g, y)], axis=0)
        profit[g] = np.where(kept, value, np.nan)
    return bypass, ratio, profit


def plot(network, found: list[dict], path: Path) -> None:
    """Where each gas can be made, and which one pays at what price."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.5), layout="constrained")
    bypass, ratio, profit = grid_profit(network, 30.0)
    for g, colour in zip(GRADES, COLOURS):
        inside = np.isfinite(profit[g]).astype(float)
        left.contourf(bypass, ratio, inside, [0.5, 1.5], colors=[colour], alpha=0.28)
        left.contour(bypass, ratio, inside, [0.5], colors=[colour], linewidths=1.2)
        points = np.array([f["point"] for f in found if f["grade"] == g]).reshape(-1, 2)
        left.plot(
            *points.T, "*", ms=15, mfc=colour, mec="black", clip_on=False, zorder=5,
            label=g,
        )  # fmt: skip
    left.set(xlabel="bypass fraction (–)", ylabel="natural gas / steam ratio (–)")
    left.set(xlim=BYPASS, ylim=RATIO, title="Where each gas can be made; stars: optima")
    left.legend(loc="upper right", framealpha=0.95)

    prices = np.array([f["price"] for f in found])
    for g, colour in zip(GRADES, COLOURS):
        alone = [np.nanmax(grid_profit(network, p, 81)[2][g]) for p in prices]
        right.plot(
            prices, alone, color=colour, lw=1.3, ls="--", label=f"{g} alone, by grid"
        )
    for f in found:
        colour = COLOURS[GRADES.index(f["grade"])]
        right.plot(f["price"], f["profit"], "o", ms=8, mfc=colour, mec="black", zorder=5)
    right.plot([], [], "o", ms=8, mfc="0.7", mec="black", label="the model's choice")
    right.set(xlabel="price of natural gas (EUR/MWh)", ylabel="profit (EUR/kmol)")
    right.set_title("Which gas pays")
    right.legend(loc="upper center", fontsize="small")
    fig.savefig(path, dpi=110)
    plt.close(fig)


# %%
# The whole job
# -------------


def run(points: int, output: Path) -> dict:
    """Solve for each price, compare with a grid, draw; returns what was found."""
    network = read_network(NETWORK)
    m = build_model(network)
    found = sweep(m, np.linspace(12.0, 48.0, points))
    print("price (EUR/MWh)  grade              bypass  ratio   profit (EUR/kmol)   by grid")
    worst = 0.0
    for f in found:
        best = max(np.nanmax(p) for p in grid_profit(network, f["price"])[2].values())
        worst = max(worst, best - f["profit"])
        print(
            f"{f['price']:15.1f}  {f['grade']:17}  {f['point'][0]:6.3f}  "
            f"{f['point'][1]:5.3f}  {f['profit']:18.4f}  {best:8.4f}"
        )
    error = max(f["error"] for f in found)
    print(f"|network - model|, all solves: {error:.1e}")
    path = output / "gdp_choice.png"
    plot(network, found, path)
    print(f"plot: {path}")
    grades = [f["grade"] for f in found]
    return {"grades": grades, "better_by_grid": worst, "error": error}


def main(arguments: list[str] | None = None) -> dict:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--points", type=int, default=13, help="number of prices")
    parser.add_argument("--output", type=Path, default=HERE, help="folder for the plot")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    return run(options.points, options.output)


# %%
# What it finds
# -------------

if __name__ == "__main__":
    main()
