"""Small problems, and optima found by enumeration of every network."""

from __future__ import annotations

from itertools import product

import numpy as np

SQUARE = np.array(list(product([0.0, 1.0], repeat=2)))
SIGNS = 2.0 * SQUARE - 1.0
CUBE = 2.0 * np.array(list(product([0.0, 1.0], repeat=3))) - 1.0

XOR = np.array([0, 1, 1, 0])
AND = np.array([0, 0, 0, 1])
OR = np.array([0, 1, 1, 1])
PARITY = (CUBE > 0).sum(axis=1) % 2
MAJORITY = ((CUBE > 0).sum(axis=1) >= 2).astype(int)


def neurons(n_inputs: int, values=(-1, 0, 1)) -> tuple[np.ndarray, np.ndarray]:
    """Weights (N, n_inputs) and biases (N,) of every neuron."""
    every = np.array(list(product(values, repeat=n_inputs + 1)), dtype=float)
    return every[:, :-1], every[:, -1]


def enumerate_networks(x, y, hidden: int, activation: str = "sign", values=(-1, 0, 1)):
    """Every fitting network with one hidden layer, its units unordered, one output.

    Returns
    -------
    dict
        ``feasible``: their number; ``min_weight``: the least sum of absolute weights
        and biases; ``max_margin``: the largest sum over neurons of the least
        pre-activation in absolute value; ``fewest_errors``: over all networks.
    """
    w, b = neurons(x.shape[1], values)
    pre = x @ w.T + b
    weight = np.abs(w).sum(axis=1) + np.abs(b)
    margin = np.abs(pre).min(axis=0)
    on = (pre >= 0).astype(float)
    if activation == "sign":
        on = 2.0 * on - 1.0
    v, c = neurons(hidden, values)
    last_weight = np.abs(v).sum(axis=1) + np.abs(c)
    found = {"feasible": set(), "min_weight": np.inf, "max_margin": -np.inf}
    fewest = len(y)
    for units in product(range(len(b)), repeat=hidden):
        scores = on[:, units] @ v.T + c
        wrong = ((scores >= 0) != (y > 0)[:, None]).sum(axis=0)
        fewest = min(fewest, int(wrong.min()))
        for o in np.flatnonzero(wrong == 0):
            key = (tuple(sorted(zip(units, v[o]))), c[o])
            found["feasible"].add(key)
            total = weight[list(units)].sum() + last_weight[o]
            found["min_weight"] = min(found["min_weight"], total)
            size = margin[list(units)].sum() + np.abs(scores[:, o]).min()
            found["max_margin"] = max(found["max_margin"], size)
    found["feasible"] = len(found["feasible"])
    found["fewest_errors"] = fewest
    return found


def breast_cancer(path) -> tuple[np.ndarray, np.ndarray]:
    """Breast Cancer Wisconsin (original), features scaled to [0, 1]."""
    data = np.loadtxt(path, delimiter=";")
    return (data[:, :-1] - 1.0) / 9.0, data[:, -1].astype(int)
