"""A whole study: simulate, train, decide, check, learn, decide again
===================================================================

A tank reactor makes a product B from A; B reacts on to C, and A also to D. Three suppliers sell
A at three concentrations and prices. Which of them, which temperature and which flow bring the
most, with no more waste than is permitted?

A network learns from some runs of a simulator. This page goes the whole way: data, training with
a penalty that makes the network easier to optimize over, the network in the model of the decision,
a proved optimum, and the question that is forgotten most easily: does the simulator agree? An
optimizer goes where the network promises too much. So the study samples there, trains on, and
decides again, until both agree.

Run it with ``python examples/whole_study.py``, or as the notebook at the end of the page; it
takes about half a minute, and needs the extras ``keras`` and ``plot``. The reactor is the scheme
of van de Vusse with the constants of Klatt and Engell, "Gain-scheduling trajectory control of a
continuous stirred tank reactor", Computers and Chemical Engineering 22, 1998.
"""

# %%
# The simulator
# -------------
# The steady state of the reactor in closed form. Think of something that takes minutes.

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import matplotlib.pyplot as plt
import numpy as np
import pyomo.environ as pyo

from pyomo_relu import ReLUNetBlock
from pyomo_relu.training.keras import PenalizedModel, UnstablePenalty

parser = argparse.ArgumentParser(description="A whole study around a reactor.")
parser.add_argument("--passes", type=int, default=400, help="over the data, in a training")
parser.add_argument("--rounds", type=int, default=2, help="how often to learn again")
parser.add_argument(
    "--output", type=Path, default=Path(__file__).resolve().parent, help="for the pictures"
)
options = parser.parse_args()
options.output.mkdir(parents=True, exist_ok=True)

PENALTY = 3e-4  # weight of the penalty; the mean squared error of scaled outputs is 1e-3

#: What is decided: temperature in degrees C, flow through a litre of the reactor in 1/h,
#: and the concentration of A in the feed, mol/l.
LOWER, UPPER = np.array([100.0, 4.0, 4.5]), np.array([150.0, 36.0, 5.7])
OUTPUTS = ["product", "waste"]


def simulate(x: np.ndarray) -> np.ndarray:
    """Product B and waste, C and D, in mol/(l h), for rows of ``x`` (N, 3)."""
    kelvin, flow, feed = x[:, 0] + 273.15, x[:, 1], x[:, 2]
    to_b = to_c = 1.287e12 * np.exp(-9758.3 / kelvin)
    to_d = 9.043e9 * np.exp(-8560.0 / kelvin)
    a = 2 * flow * feed
    a = a / (flow + to_b + np.sqrt((flow + to_b) ** 2 + 4 * to_d * flow * feed))
    b = to_b * a / (flow + to_c)
    return np.column_stack([flow * b, to_c * b + 0.5 * to_d * a**2])


rng = np.random.default_rng(3)
x = rng.uniform(LOWER, UPPER, (120, 3))
y = simulate(x)
print(f"{len(x)} simulations; product {y[:, 0].min():.1f} to {y[:, 0].max():.1f}")


# %%
# The product over temperature and flow for the usual feed, and the points that were simulated.


T, F = (np.linspace(LOWER[k], UPPER[k], 201) for k in range(2))


def cut(function, feed: float) -> np.ndarray:
    """Product and waste over temperature and flow, for one feed, (2, 201, 201)."""
    t, f = np.meshgrid(T, F)
    rows = np.column_stack([t.ravel(), f.ravel(), np.full(t.size, feed)])
    return function(rows).T.reshape(2, *t.shape)


def keep(figure, number: int) -> None:
    figure.savefig(options.output / f"whole_study_{number}.png", dpi=110)


figure, axes = plt.subplots(figsize=(5.5, 4), layout="constrained")
shades = axes.contourf(T, F, cut(simulate, 5.1)[0], 20)
figure.colorbar(shades, label="product B, mol/(l h)")
axes.plot(x[:, 0], x[:, 1], "w.", ms=5)
axes.set(xlabel="temperature, °C", ylabel="flow, 1/h", title="The reactor, and 120 runs")
keep(figure, 1)

# %%
# Training, with and without a penalty
# ------------------------------------
# Scaling is a part of the network, by a ``Normalization`` layer at each end; only the layers
# between them are trained. ``UnstablePenalty`` counts, smoothly, the neurons whose sign is
# undecided over the box: each of them costs a binary variable.


def scaling(values: np.ndarray, name: str, invert: bool = False):
    layer = keras.layers.Normalization(invert=invert, name=name)
    layer.adapt(values)
    return layer


SCALE_X, SCALE_Y = scaling(x, "scale_inputs"), scaling(y, "scale_outputs")
UNSCALE_Y = scaling(y, "unscale_outputs", invert=True)
BOX = [np.asarray(SCALE_X(end[None]))[0] for end in (LOWER, UPPER)]


def new_core():
    keras.utils.set_random_seed(0)
    hidden = [keras.layers.Dense(24, "relu", name=f"hidden_{k}") for k in range(2)]
    return keras.Sequential([keras.Input((3,)), *hidden, keras.layers.Dense(2, name="out")])


def train(core, x, y, penalty: float, rate: float = 1e-2, weights=None):
    """Train the layers between the scalings; return the network in engineering units."""
    # Ten passes over the points are an epoch: one is over sooner than Keras's work between two.
    x, y = (np.tile(np.asarray(scaled), (10, 1)) for scaled in (SCALE_X(x), SCALE_Y(y)))
    weights = None if weights is None else np.tile(weights, 10)
    batch, epochs = 40, options.passes // 10
    steps = epochs * -(-len(x) // batch)
    trainer = PenalizedModel(core, [UnstablePenalty(penalty)], *BOX)
    decay = keras.optimizers.schedules.CosineDecay(rate, steps, alpha=1e-2)
    trainer.compile(keras.optimizers.Adam(decay), loss="mse", steps_per_execution=10)
    trainer.fit(x, y, sample_weight=weights, epochs=epochs, batch_size=batch, verbose=0)
    return keras.Sequential([keras.Input((3,)), SCALE_X, *core.layers, UNSCALE_Y])


other = rng.uniform(LOWER, UPPER, (2000, 3))  # simulations are cheap here


def error(network) -> float:
    """Mean error of the product on other points, in percent of its mean."""
    found, true = network.predict(other, verbose=0)[:, 0], simulate(other)[:, 0]
    return 100 * float(np.abs(found - true).mean() / true.mean())


core = new_core()
plain = train(core, x, y, penalty=0.0)
core = new_core()
network = train(core, x, y, penalty=PENALTY)
print(f"mean error: {error(plain):.1f} % plain, {error(network):.1f} % with the penalty")

# %%
# The decision
# ------------
# One supplier is chosen; the concentration of the feed follows from the choice. The inputs of
# the network are a variable and two expressions, and its outputs stand in a row and in the
# objective. Revenue and cost are in EUR for each hour and litre of the reactor.

#: Concentration in mol/l, and price in EUR for a litre of feed.
SUPPLIERS = {"thin": (4.5, 2.0), "usual": (5.1, 2.05), "rich": (5.7, 2.35)}
PRICE, PERMIT = 5.0, 20.0  # EUR for a mol of B; the most waste, mol/(l h)


def decision(network) -> pyo.ConcreteModel:
    """The most profit, with no more waste than is permitted."""
    m = pyo.ConcreteModel("study")
    m.supplier = pyo.Set(initialize=list(SUPPLIERS))
    m.temperature = pyo.Var(bounds=(LOWER[0], UPPER[0]))
    m.flow = pyo.Var(m.supplier, bounds=(0, UPPER[1]))
    m.choice = pyo.Var(m.supplier, domain=pyo.Binary)
    m.one = pyo.Constraint(expr=sum(m.choice.values()) == 1)

    @m.Constraint(m.supplier)
    def only_the_chosen(m, s):
        return m.flow[s] <= UPPER[1] * m.choice[s]

    m.reactor = ReLUNetBlock(
        network=network,
        inputs=[
            m.temperature,
            sum(m.flow[s] for s in m.supplier),
            sum(SUPPLIERS[s][0] * m.choice[s] for s in m.supplier),
        ],
        input_bounds=(LOWER, UPPER),  # nobody asks the network about what it has not seen
        output_names=["product", "waste"],
    )
    m.permit = pyo.Constraint(expr=m.reactor.outputs["waste"] <= PERMIT)
    m.cost = pyo.Expression(expr=sum(SUPPLIERS[s][1] * m.flow[s] for s in m.supplier))
    m.profit = pyo.Objective(
        expr=PRICE * m.reactor.outputs["product"] - m.cost, sense=pyo.maximize
    )
    return m


for name, candidate in (("plain", plain), ("with the penalty", network)):
    m = decision(candidate)
    binaries = sum(layer.binaries for layer in m.reactor.statistics().layers)
    begin = time.process_time()
    pyo.SolverFactory("appsi_highs").solve(m)
    seconds = time.process_time() - begin
    pyo.assert_optimal_termination(pyo.SolverFactory("relu").solve(m))
    print(f"{name}: profit {pyo.value(m.profit):.2f}")
    print(f"    {binaries} binaries, {seconds:.2f} CPU seconds of HiGHS on the rows")

# %%
# The penalty saves binaries, and HiGHS most of its time (``relu``, which searches in the three
# inputs, is quick either way); with it the study goes on. The optimum is proved, for the network,
# and ``error()`` says how far the solution is from what the network computes.

chosen = next(s for s in m.supplier if m.choice[s].value > 0.5)
print(f"{chosen} feed, {m.temperature.value:.1f} °C, flow {m.flow[chosen].value:.1f} 1/h")
print(f"|network - model| at the optimum: {m.reactor.error():.1e}")

# %%
# Does the simulator agree?
# -------------------------


def check(m) -> dict[str, float]:
    """What the network promises at the optimum, and what the simulator says there."""
    point = np.array([pyo.value(m.reactor.inputs[i]) for i in range(3)])
    product, waste = simulate(point[None])[0]
    found = {
        "promised": pyo.value(m.profit),
        "true": PRICE * product - pyo.value(m.cost),
        "waste": pyo.value(m.reactor.outputs["waste"]),
        "true waste": waste,
    }
    print(", ".join(f"{key} {value:.2f}" for key, value in found.items()))
    return found | {"point": point}


rounds = [check(m)]

# %%
# It doesn't. The network is right to some percent on average, but an optimizer doesn't look at
# the average: it goes where the network promises too much. Below is the profit with the supplier
# that was chosen, as the network and as the simulator see it; what is right of the white line is
# not permitted.


def compare(network, found, number: int) -> None:
    point = found["point"]
    price = dict(SUPPLIERS.values())[round(point[2], 6)]
    figure, both = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained", sharey=True)
    sides = {
        "the network": lambda rows: network.predict(rows, verbose=0),
        "the simulator": simulate,
    }
    levels = np.linspace(0, 100, 21)
    for axes, (name, function) in zip(both, sides.items()):
        product, waste = cut(function, point[2])
        profit = PRICE * product - price * F[:, None]
        shades = axes.contourf(T, F, profit, levels, extend="both")
        axes.contour(T, F, waste, [PERMIT], colors="white", linewidths=2)
        axes.plot(*point[:2], "*", ms=16, mfc="gold", mec="black", clip_on=False, zorder=5)
        axes.set(xlabel="temperature, °C", title=f"profit by {name}")
    both[0].set_ylabel("flow, 1/h")
    figure.colorbar(shades, ax=both, label="EUR/(l h)")
    keep(figure, number)


compare(network, rounds[0], 2)

# %%
# Learn around the optimum, and decide again
# ------------------------------------------
# Thirty runs of the simulator around the optimum, in a tenth of the box, join the data and count
# three times; the training goes on from the weights it had. ``replace_network`` puts the new
# network into the same block of the same model: variables, rows and objective stay.

weights = np.ones(len(x))
while len(rounds) < options.rounds + 1:
    near = rng.normal(rounds[-1]["point"], 0.1 * (UPPER - LOWER), (30, 3))
    near = np.clip(near, LOWER, UPPER)
    x, y = np.vstack([x, near]), np.vstack([y, simulate(near)])
    weights = np.append(weights, np.full(len(near), 3.0))
    network = train(core, x, y, PENALTY, rate=3e-3, weights=weights)
    m.reactor.replace_network(network)
    pyo.assert_optimal_termination(pyo.SolverFactory("relu").solve(m))
    rounds.append(check(m))

compare(network, rounds[-1], 3)

# %%
# What the study says
# -------------------
# What is promised and what is true have met, but for a percent or so. Here the simulator is so
# quick that a fine grid knows the best decision of all, to compare with.

BEST = -np.inf
for feed, price in SUPPLIERS.values():
    product, waste = cut(simulate, feed)
    profit = np.where(waste <= PERMIT, PRICE * product - price * F[:, None], -np.inf)
    BEST = max(BEST, float(profit.max()))
last = rounds[-1]
print(f"the simulator's best on a grid: {BEST:.2f}; the study after {len(x)} runs: "
      f"{last['true']:.2f}, with {last['true waste']:.2f} of waste")  # fmt: skip

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
number = range(len(rounds))
left.plot(number, [r["promised"] for r in rounds], "o-", label="the network's")
left.plot(number, [r["true"] for r in rounds], "s-", label="the simulator's")
left.axhline(BEST, color="gray", ls=":", label="best on a fine grid")
left.set(xlabel="round", ylabel="profit, EUR/(l h)", xticks=number, title="profit")
right.plot(number, [r["waste"] for r in rounds], "o-", label="the network's")
right.plot(number, [r["true waste"] for r in rounds], "s-", label="the simulator's")
right.axhline(PERMIT, color="gray", ls=":", label="permit")
right.set(xlabel="round", ylabel="waste, mol/(l h)", xticks=number, title="waste")
for axes in (left, right):
    axes.legend()
keep(figure, 4)
print("pictures:", options.output / "whole_study_1.png", "to _4.png")

# %%
# Where a permit must hold whatever happens, give the network a stricter one:
# ``m.permit.set_value(m.reactor.outputs["waste"] <= PERMIT - 0.2)``. Where a run is dear, take
# fewer points, and nearer ones. What else makes a network easy: :doc:`/guide/analysis`; what may
# change in a model: :doc:`/guide/changing`.
