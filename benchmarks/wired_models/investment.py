"""An investment under uncertainty, with one network for each of k x k scenarios.

Two decisions in [0, 5] cost -1.5 x0 - 4 x1, plus the mean of a network 4-64-1 that reads
them and the scenario, on an even grid over [5, 15]^2. The problem is of Schultz et al. and
Caroe; the networks are of Neur2SP (Dumouchelle et al., NeurIPS 2022), whose repository
states no licence, so they are no part of this benchmark: give a file with the arrays
``E_W0, E_b0, E_W1, E_b1`` and the same for ``H``.

Published by its authors, with Gurobi, a limit of three hours and a gap of 1e-4, the
optimum of the surrogate and seconds:

=========  =========  ==========  =========  ==============
scenarios  E          seconds     H          seconds
=========  =========  ==========  =========  ==============
4          -50.56     0.21        -51.80     0.34
9          -55.00     0.41        -55.81     0.44
36         -57.93     2.09        -58.91     12.08
121        -59.06     41.40       -59.93     77.62
441        -59.66     1,842.97    -60.44     6,165.53
1681       no point   10,833.81   -60.17     limit
10000      no point   11,156.21   no point   11,133.85
=========  =========  ==========  =========  ==============
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyomo.environ as pyo

from pyomo_relu import ReLUNetBlock
from wired_models.networks import dense


def investment(
    weights: Path, matrix: str = "E", k: int = 11, **options: Any
) -> pyo.ConcreteModel:
    """The problem with ``k * k`` scenarios and one of two technology matrices.

    Parameters
    ----------
    weights : Path
        The file with the networks.
    matrix : {'E', 'H'}
    k : int
    """
    with np.load(weights) as arrays:
        layers = [
            (arrays[f"{matrix}_W{i}"].astype(float), arrays[f"{matrix}_b{i}"].astype(float))
            for i in range(2)
        ]
    # The file has weights as (n_out, n_in).
    network = dense([(w.T, b) for w, b in layers])
    grid = np.linspace(5, 15, k).tolist()
    scenarios = [(a, b) for a in grid for b in grid]

    m = pyo.ConcreteModel("investment")
    m.x = pyo.Var([0, 1], bounds=(0, 5))
    m.scenarios = pyo.RangeSet(0, len(scenarios) - 1)
    m.recourse = ReLUNetBlock(
        m.scenarios,
        network=network,
        inputs=lambda m, s: [m.x[0], m.x[1], *scenarios[s]],
        **options,
    )
    mean = pyo.quicksum(m.recourse[s].outputs[0] for s in m.scenarios) / len(scenarios)
    m.cost = pyo.Objective(expr=-1.5 * m.x[0] - 4 * m.x[1] + mean)
    return m
