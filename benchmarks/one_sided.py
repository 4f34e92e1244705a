"""Convex networks of which the model needs one side: ``one_sided`` beside ``bigm``.

``python benchmarks/one_sided.py [--limit 60]`` minimizes the output of random input-convex
networks (weights behind the first layer are not negative, and each layer reads the inputs,
too) over a box and one row, by HiGHS on one thread. It prints binaries, rows, the relative
gap that is left, and CPU seconds. A third of the inputs are integers.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import time

import numpy as np
import pyomo.environ as pyo

from pyomo_relu import Network, NetworkBuilder, ReLUNetBlock, activations

#: Inputs and widths of the hidden layers.
CASES = [(6, (20, 20)), (12, (40, 40)), (12, (40, 40, 40))]


def convex_network(n: int, widths: tuple[int, ...]) -> Network:
    """A random network that is convex in its inputs."""
    rng, b = np.random.default_rng(n), NetworkBuilder()
    x = last = b.input("x", (n,))
    size = n
    for k, width in enumerate(widths):
        w = rng.normal(size=(width, size)) * np.sqrt(2.0 / size)
        terms = [(last, abs(w) if k else w)]
        if k:
            terms.append((x, rng.normal(size=(width, n)) * np.sqrt(size / n)))
        pre = b.affine(f"dense_{k}", terms, 0.3 * rng.normal(size=width))
        last, size = b.piecewise(f"relu_{k}", pre, activations.relu()), width
    return b.build([b.affine("out", [(last, rng.uniform(0.0, 1.0, (1, size)))])])


def model(network: Network) -> pyo.ConcreteModel:
    """The smallest output; every third input is an integer."""
    m, n = pyo.ConcreteModel(), network.n_inputs
    m.x = pyo.Var(range(n), bounds=(-3, 3))
    for k in range(0, n, 3):
        m.x[k].domain = pyo.Integers
    m.net = ReLUNetBlock(network=network, inputs=m.x, formulation=None)
    weights = np.random.default_rng(0).uniform(0.5, 1.5, n)
    m.row = pyo.Constraint(expr=sum(w * m.x[k] for k, w in enumerate(weights)) >= 1.0)
    m.cost = pyo.Objective(expr=m.net.outputs[0])
    return m


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds of the clock")
    limit = parser.parse_args().limit
    print("| network | formulation | binaries | rows | gap | CPU seconds |")
    print("|---|---|---|---|---|---|")
    for n, widths in CASES:
        network = convex_network(n, widths)
        for name in ("one_sided", "bigm"):
            m = model(network)
            pyo.TransformationFactory(f"relu.{name}").apply_to(m)
            binaries = sum(v.is_binary() for v in m.component_data_objects(pyo.Var))
            solver = pyo.SolverFactory("appsi_highs")
            solver.highs_options = {"threads": 1}
            solver.config.time_limit = limit
            begin = time.process_time()
            found = solver.solve(m, load_solutions=False).problem
            took = time.process_time() - begin
            # Without a point the upper bound, and so the gap, is infinite.
            gap = (found.upper_bound - found.lower_bound) / max(1.0, abs(found.upper_bound))
            sizes = "-".join(map(str, (n, *widths, 1)))
            cells = (
                sizes,
                f"`{name}`",
                binaries,
                m.nconstraints(),
                f"{gap:.1%}",
                f"{took:.2f}",
            )
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
