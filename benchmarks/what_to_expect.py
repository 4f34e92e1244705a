"""What to expect of larger networks: bounds, binaries, and what ``relu`` proves in a time.

Each network learns a sum of waves over [-1, 1]^n from 4,000 points; its output is minimized
under a row that keeps the mean of the inputs at 0.2 or above::

    python benchmarks/what_to_expect.py --inputs 2 4 8 --width 50 500 --limit 30

prints one row of a table for each. Times are CPU seconds of one process with one thread.
"""

from __future__ import annotations

import argparse
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyomo.environ as pyo
from sklearn.neural_network import MLPRegressor
from tqdm import tqdm

from pyomo_relu import Network, NetworkBuilder, ReLUNetBlock, activations

#: Points that each network learns from.
POINTS = 4000
#: Passes over them; the error of the smaller networks is settled by then.
EPOCHS = 30


def trained(n_inputs: int, width: int, penalty: float) -> MLPRegressor:
    """Two hidden layers that learned a sum of waves, with a penalty on squared weights."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (2 * POINTS, n_inputs))
    directions = rng.normal(size=(3, n_inputs))
    y = np.sin(2 * x @ directions.T).sum(axis=1)
    net = MLPRegressor(
        hidden_layer_sizes=(width, width), alpha=penalty, max_iter=EPOCHS, random_state=0
    ).fit(x[:POINTS], y[:POINTS])
    score = net.score(x[POINTS:], y[POINTS:])
    tqdm.write(f"R2 on as many other points: {score:.3f}")
    return net


def untrained(n_inputs: int, width: int) -> Network:
    """Two hidden layers with He-normal weights, where training would take too long."""
    rng, b = np.random.default_rng(0), NetworkBuilder()
    node, size = b.input("x", (n_inputs,)), n_inputs
    for k in range(2):
        weight = rng.normal(size=(width, size)) * np.sqrt(2 / size)
        node = b.affine(f"dense_{k}", [(node, weight)], np.zeros(width))
        node, size = b.piecewise(f"relu_{k}", node, activations.relu()), width
    last = rng.normal(size=(1, size)) * np.sqrt(1 / size)
    return b.build([b.affine("sum", [(node, last)])])


def measure(n_inputs: int, width: int, limit: float, penalty: float | None) -> str:
    """A row of the table."""
    net = (
        untrained(n_inputs, width) if penalty is None else trained(n_inputs, width, penalty)
    )
    start = time.process_time()
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(n_inputs), bounds=(-1, 1))
    m.net = ReLUNetBlock(network=net, inputs=m.x)
    m.mean = pyo.Constraint(expr=sum(m.x.values()) >= 0.2 * n_inputs)
    m.cost = pyo.Objective(expr=m.net.outputs[0])
    built = time.process_time() - start
    layers = m.net.statistics().layers
    neurons, binaries = (sum(getattr(x, k) for x in layers) for k in ("units", "binaries"))
    head = f"| {n_inputs} | 2 x {width} | {neurons - binaries} | {binaries} | {built:.2f} |"
    if limit <= 0:
        return f"{head} | |"
    start = time.process_time()
    results = pyo.SolverFactory("relu").solve(m, time_limit=limit)
    seconds = time.process_time() - start
    low, high = results.problem.lower_bound, results.problem.upper_bound
    proved = results.solver.termination_condition == pyo.TerminationCondition.optimal
    found = f"{high:.4f}, proved" if proved else f"{high:.4f} / {low:.4f}"
    return f"{head} {seconds:.1f} | {found} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--width", type=int, nargs="+", default=[50, 500])
    parser.add_argument(
        "--limit",
        type=float,
        default=30,
        help="seconds of the clock for relu; 0: bounds only",
    )
    parser.add_argument("--penalty", type=float, default=1e-4, help="on squared weights")
    parser.add_argument(
        "--random", action="store_true", help="weights that learned nothing"
    )
    given = parser.parse_args()
    pairs = [(n, w) for w in given.width for n in given.inputs]
    for n, w in tqdm(pairs, unit="network"):
        tqdm.write(measure(n, w, given.limit, None if given.random else given.penalty))


if __name__ == "__main__":
    main()
