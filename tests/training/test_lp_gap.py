"""The gap of the linear relaxation at samples: against linear programs and differences."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from pyomo_relu.training.relaxation.gap import relaxation_gap

SHAPES = [(2, 7, 1), (3, 6, 5, 2), (2, 8, 8, 8, 1), (2, 6, 6, 6, 6, 6, 1)]


def random_chain(seed, sizes, spread=1.5):
    """Weights, biases, and interval bounds of the hidden pre-activations over [-1, 1]."""
    rng = np.random.default_rng(seed)
    weights = [
        spread * rng.normal(size=(m, n)) / np.sqrt(n) for n, m in zip(sizes, sizes[1:])
    ]
    biases = [rng.normal(size=m) * 0.5 for m in sizes[1:]]
    low, high = -np.ones((1, sizes[0])), np.ones((1, sizes[0]))
    lows, highs = [], []
    for w, b in zip(weights[:-1], biases[:-1]):
        middle, radius = 0.5 * (low + high) @ w.T + b, 0.5 * (high - low) @ abs(w).T
        lows.append(middle - radius)
        highs.append(middle + radius)
        low, high = np.maximum(lows[-1], 0), np.maximum(highs[-1], 0)
    return weights, biases, lows, highs, rng.uniform(-1, 1, (4, sizes[0]))


def forward(weights, biases, x):
    for w, b in zip(weights[:-1], biases[:-1]):
        x = np.maximum(x @ w.T + b, 0)
    return x @ weights[-1].T + biases[-1]


def relaxed(weights, biases, lows, highs, x, output, sign):
    """Least value of ``sign * output`` over the triangles, by a linear program."""
    at = np.cumsum([0, *(len(w) for w in weights[:-1])])
    rows, sides = [], []

    def add(row, side):
        rows.append(row)
        sides.append(side)

    unit = np.eye(at[-1])
    for k, (low, high) in enumerate(zip(lows, highs)):
        for j in range(at[k + 1] - at[k]):
            z, const, h = np.zeros(at[-1]), biases[k][j], unit[at[k] + j]
            if k == 0:
                const = const + weights[0][j] @ x
            else:
                z[at[k - 1] : at[k]] = weights[k][j]
            u, v = low[0, j], high[0, j]
            if v <= 0:
                add(h, 0.0)
                continue
            add(z - h, -const)
            chord = 1.0 if u >= 0 else v / (v - u)
            add(h - chord * z, chord * const - (0.0 if u >= 0 else chord * u))
    free = np.concatenate([low[0] >= 0 for low in lows])
    bounds = [(None if one else 0.0, None) for one in free]
    cost = np.zeros(at[-1])
    cost[at[-2] :] = sign * weights[-1][output]
    found = linprog(cost, A_ub=np.array(rows), b_ub=sides, bounds=bounds)
    return found.fun + sign * biases[-1][output]


@pytest.mark.parametrize("sizes", SHAPES, ids=lambda s: "-".join(map(str, s)))
@pytest.mark.parametrize("sense", ["both", "min", "max"])
def test_the_gap_is_that_of_linear_programs(sizes, sense):
    weights, biases, lows, highs, x = random_chain(len(sizes), sizes)
    exact = 0.0
    for point, values in zip(x, forward(weights, biases, x)):
        for o, value in enumerate(values):
            if sense != "max":
                exact += value - relaxed(weights, biases, lows, highs, point, o, 1.0)
            if sense != "min":
                exact -= value + relaxed(weights, biases, lows, highs, point, o, -1.0)
    exact /= len(x) * sizes[-1]
    found = [
        relaxation_gap(weights, biases, lows, highs, x, sense, steps).value
        for steps in (1, 4, 40)
    ]
    assert exact > 0.01  # there is one
    # Any slopes give an upper bound; more steps come nearer.
    assert found[0] >= found[1] >= found[2] >= exact - 1e-9
    assert found[2] <= 1.01 * exact
    assert found[1] <= 1.06 * exact
    if len(sizes) == 3:  # the start is optimal with one hidden layer
        assert found[0] == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sense", ["both", "min"])
def test_gradients_are_those_of_differences(seed, sense):
    # With one step the slopes are the pattern of the samples, which a small change keeps.
    weights, biases, lows, highs, x = random_chain(seed, SHAPES[1 + seed % 3])
    if seed == 3:  # a box for each sample
        lows, highs = ([np.repeat(a, len(x), axis=0) for a in s] for s in (lows, highs))

    def value():
        return relaxation_gap(weights, biases, lows, highs, x, sense, 1).value

    found = relaxation_gap(weights, biases, lows, highs, x, sense, 1)
    rng = np.random.default_rng(seed)
    for arrays, slopes in zip(
        (weights, biases, lows, highs),
        (found.weights, found.biases, found.lows, found.highs),
    ):
        for array, slope in zip(arrays, slopes):
            assert slope.shape == array.shape
            where, old = tuple(rng.integers(0, n) for n in array.shape), array.copy()
            ends = []
            for step in (1e-6, -1e-6):
                array[where] = old[where] + step
                ends.append(value())
            array[...] = old
            difference = (ends[0] - ends[1]) / 2e-6
            assert slope[where] == pytest.approx(difference, abs=1e-6, rel=1e-6)


def test_the_best_slopes_give_the_gradient_of_the_linear_program():
    weights, biases, lows, highs, x = random_chain(1, (2, 8, 8, 1))

    def exact():
        values = [
            relaxed(weights, biases, lows, highs, point, 0, sign)
            for point in x
            for sign in (1.0, -1.0)
        ]
        return -sum(values) / len(x)

    found = relaxation_gap(weights, biases, lows, highs, x, steps=200)
    scale = max(abs(found.weights[1]).max(), abs(found.biases[0]).max())
    for array, slope in [(weights[1], found.weights[1]), (biases[0], found.biases[0])]:
        where, old = (1,) * array.ndim, array.copy()
        ends = []
        for step in (1e-5, -1e-5):
            array[where] = old[where] + step
            ends.append(exact())
        array[...] = old
        assert slope[where] == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=0.05 * scale)


def test_a_network_without_undecided_neurons_has_no_gap():
    weights = [np.eye(2), np.ones((1, 2))]
    biases = [np.full(2, 5.0), np.zeros(1)]
    lows, highs = [np.full((1, 2), 4.0)], [np.full((1, 2), 6.0)]
    found = relaxation_gap(weights, biases, lows, highs, np.zeros((3, 2)))
    assert found.value == pytest.approx(0.0, abs=1e-12)
    assert not any(abs(w).max() > 1e-12 for w in found.lows + found.highs)
