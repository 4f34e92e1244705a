"""Two prices, proved to be the best
=================================

A shop sells two products. What customers buy of each depends on both prices, which a
network has learned from past weeks; profit is price times demand, so the model has
products of two variables beside the network. The stock room is small, a wholesaler gives
a rebate from a certain quantity on, and a proof is wanted that no prices do better.

``relu_scip`` is SCIP with the network as one constraint: the product's relaxation and the
planes around the network close together while prices are split. The same model on big-M
rows, for any solver that takes products, is one keyword away.

Run it with ``python examples/prices_proved.py``; it needs the extras ``scip``, ``sklearn``
and ``plot`` and takes a few seconds.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pyomo.environ as pyo

from pyomo_relu import Network, ReLUNetBlock, read_network

HERE = Path(__file__).resolve().parent
PRODUCTS = range(2)
LOWEST, HIGHEST = 0.5, 3.0
#: Cost of a piece, room that a piece takes, all room, rebate a piece, pieces for a rebate.
COST, ROOM, STOCK = (0.4, 0.6), (1.0, 1.5), 9.0
REBATE, FROM = 0.25, 4.0


# %%
# What customers do
# -----------------
# Two hundred weeks of prices and sales, and a network with two hidden layers.


def demand(prices: np.ndarray) -> np.ndarray:
    """Mean demand of both products by both prices: a logit of what a customer takes."""
    worth = np.exp(np.array([2.2, 1.8]) - np.array([1.7, 1.3]) * prices)
    return 14.0 * worth / (1.0 + worth.sum(axis=1, keepdims=True))


def train(width: int, weeks: int = 200) -> Network:
    """The network, by scikit-learn."""
    from sklearn.neural_network import MLPRegressor

    rng = np.random.default_rng(1)
    prices = rng.uniform(LOWEST, HIGHEST, (weeks, 2))
    sales = demand(prices) + rng.normal(0.0, 0.15, (weeks, 2))
    model = MLPRegressor(
        hidden_layer_sizes=(width, width), solver="lbfgs", max_iter=300, random_state=1
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the number of iterations ends the training
        model.fit(prices, sales)
    return read_network(model)


# %%
# The model
# ---------
# Pieces sold are at most what is wanted; the rebate needs enough pieces of the first
# product. Profit is bilinear in prices and pieces.


def build_model(network: Network, formulation: str | None = None) -> pyo.ConcreteModel:
    """The best prices for the network's customers."""
    m = pyo.ConcreteModel()
    m.price = pyo.Var(PRODUCTS, bounds=(LOWEST, HIGHEST))
    m.sold = pyo.Var(PRODUCTS, bounds=(0, 14))
    m.rebate = pyo.Var(domain=pyo.Binary)
    m.with_rebate = pyo.Var(bounds=(0, 14))
    m.wanted = ReLUNetBlock(network=network, inputs=m.price, formulation=formulation)

    @m.Constraint(PRODUCTS)
    def only_what_is_wanted(m, i):
        return m.sold[i] <= m.wanted.outputs[i]

    m.stock = pyo.Constraint(expr=sum(ROOM[i] * m.sold[i] for i in PRODUCTS) <= STOCK)
    m.enough = pyo.Constraint(expr=m.sold[0] >= FROM * m.rebate)
    m.pieces = pyo.Constraint(expr=m.with_rebate <= m.sold[0])
    m.granted = pyo.Constraint(expr=m.with_rebate <= 14 * m.rebate)
    margin = sum((m.price[i] - COST[i]) * m.sold[i] for i in PRODUCTS)
    m.profit = pyo.Objective(expr=margin + REBATE * m.with_rebate, sense=pyo.maximize)
    return m


def profit_of(network: Network, prices: np.ndarray) -> np.ndarray:
    """The most that prices (N, 2) bring: what to sell is a choice of two pieces' worth."""
    wanted = np.maximum(network.evaluate(prices), 0.0)
    best = np.zeros(len(prices))
    for first in np.linspace(0.0, 1.0, 201):
        sold = np.column_stack([wanted[:, 0] * first, wanted[:, 1]])
        room = STOCK - ROOM[0] * sold[:, 0]
        sold[:, 1] = np.minimum(sold[:, 1], np.maximum(room, 0.0) / ROOM[1])
        profit = ((prices - COST) * sold).sum(axis=1)
        profit += REBATE * sold[:, 0] * (sold[:, 0] >= FROM)
        best = np.maximum(best, np.where(room >= 0.0, profit, 0.0))
    return best


# %%
# Solve it, and look at it
# ------------------------


def show(network: Network, m: pyo.ConcreteModel, seen: list, path: Path) -> float:
    """Profit over the prices, and how bound and best point met; the best of the grid."""
    ticks = np.linspace(LOWEST, HIGHEST, 81)
    grid = np.stack(np.meshgrid(ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 2)
    profit = profit_of(network, grid)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained")
    drawn = left.contourf(ticks, ticks, profit.reshape(81, 81).T, 20)
    figure.colorbar(drawn, ax=left, label="profit")
    left.plot(m.price[0].value, m.price[1].value, "r*", markersize=14)
    left.set(xlabel="price of the first", ylabel="price of the second")
    left.set_title("the best sales at each pair of prices")
    seconds = [p.seconds for p in seen]
    right.plot(seconds, [p.bound for p in seen], label="no prices do better than")
    right.plot(seconds, [p.incumbent for p in seen], label="prices are known for")
    right.set(xlabel="seconds", ylabel="profit")
    right.set_title("proof")
    right.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return float(profit.max())


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Train, solve, compare with a grid of prices, save the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=12, help="neurons of a layer")
    parser.add_argument("--output", type=Path, default=HERE, help="folder for the plot")
    args = parser.parse_args(arguments)
    args.output.mkdir(parents=True, exist_ok=True)

    network = train(args.width)
    m = build_model(network)
    seen: list = []

    def watch(progress) -> bool:
        if np.isfinite(progress.bound) and np.isfinite(progress.incumbent):
            seen.append(progress)
        return False

    results = pyo.SolverFactory("relu_scip").solve(m, progress=watch)
    found = {
        "profit": pyo.value(m.profit),
        "bound": results.problem.upper_bound,
        "error": m.wanted.error(),
        "rebate": m.rebate.value,
    }
    found["grid"] = show(network, m, seen, args.output / "prices_proved.png")
    prices = ", ".join(f"{m.price[i].value:.3f}" for i in PRODUCTS)
    print(f"prices {prices}: profit {found['profit']:.4f}")
    print(f"no prices bring more than {found['bound']:.4f}")
    print(f"best of 6,561 pairs of prices: {found['grid']:.4f}")
    return found


if __name__ == "__main__":
    main()
