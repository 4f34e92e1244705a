"""Rounding in certificates and rows, against exact rational arithmetic."""

from fractions import Fraction

import numpy as np
import pytest

from pyomo_relu.bounds import compute_bounds
from pyomo_relu.bounds.array_model import ArrayModel
from pyomo_relu.bounds.lp_cuts import Separator
from pyomo_relu.programs import Certifier
from tests.bounds.soundness import random_case
from tests.bounds.test_lp_cuts import maxout
from tests.harness.random_networks import CONTINUOUS, MAGNITUDES
from tests.harness.strategies import points_in

pytest.importorskip("highspy")


def relaxations(count: int):
    """Models of a network's last affine node, with the network and the box."""
    found = 0
    for seed in range(10 * count):
        network, lower, upper = random_case(
            seed, activations=CONTINUOUS, magnitudes=MAGNITUDES, width=6, depth=2
        )
        target = network.outputs[0]
        while network.nodes[target].kind != "affine":
            target = network.nodes[target].sources[0]
        bounds = compute_bounds(network, lower, upper, "crown")
        rows = np.arange(network.nodes[target].size)
        model = ArrayModel(network, bounds.lower, bounds.upper, target, rows)
        if model.n_rows:
            found += 1
            yield model, network, lower, upper
        if found == count:
            return


def exact(values) -> list[Fraction]:
    return [Fraction(float(v)) for v in values]


def exact_bound(model, c: np.ndarray, y: np.ndarray) -> Fraction:
    """The bound of Neumaier and Shcherbina without any rounding."""
    d, total = exact(c), Fraction(0)
    m = model.program.matrix
    for i, yi in enumerate(exact(y)):
        for k in range(m.indptr[i], m.indptr[i + 1]):
            d[m.indices[k]] -= Fraction(float(m.data[k])) * yi
        if yi:
            end = model.program.row_lower[i] if yi > 0 else model.program.row_upper[i]
            total += yi * Fraction(float(end))
    for j, dj in enumerate(d):
        total += dj * Fraction(
            float(model.program.lower[j] if dj > 0 else model.program.upper[j])
        )
    return total


def test_a_certificate_is_below_its_exact_value():
    rng = np.random.default_rng(0)
    for model, *_ in relaxations(8):
        certify = Certifier(model.program)
        for row in range(model.network.nodes[model.target].size):
            c, _, _ = model.objective(row)
            for _ in range(8):
                y = rng.normal(size=model.n_rows) * 10.0 ** rng.uniform(-3, 3)
                y[(y > 0) & np.isinf(model.program.row_lower)] *= -1
                y[(y < 0) & np.isinf(model.program.row_upper)] *= -1
                bound = certify.lower_bound(c, y)
                assert Fraction(bound) <= exact_bound(model, c, y)


def column_values(model: ArrayModel, network, x: np.ndarray) -> list[list[Fraction | None]]:
    """What a forward pass in float64 gives each column, exactly; None where it is not."""
    found: list[list[Fraction | None]] = [[None] * model.n_columns for _ in x]
    for i, values in enumerate(network.activations(x)):
        e = model.entries.get(i)
        if e is None:
            continue
        own = np.flatnonzero((e.column >= 0) & (e.scale == 1.0) & (e.const == 0.0))
        for point, row in zip(found, values):
            for u in own:
                point[e.column[u]] = Fraction(float(row[u]))
    return found


def broken(rows, points) -> int:
    """How many rows rounding breaks at points; none may be by more than its slack."""
    used = 0
    for point in points:
        for m, low, high, slack in rows:
            for i in range(len(slack)):
                part = slice(m.indptr[i], m.indptr[i + 1])
                held = [point[j] for j in m.indices[part]]
                if any(v is None for v in held):
                    continue
                left = sum(
                    (Fraction(float(a)) * v for a, v in zip(m.data[part], held)),
                    Fraction(0),
                )
                room = Fraction(float(slack[i]))
                if np.isfinite(low[i]):
                    used += left < Fraction(float(low[i]))
                    assert left >= Fraction(float(low[i])) - room
                if np.isfinite(high[i]):
                    used += left > Fraction(float(high[i]))
                    assert left <= Fraction(float(high[i])) + room
    return used


def cuts_at_random(model: ArrayModel, rng: np.random.Generator, count: int) -> list[tuple]:
    """Rows that random points of the box are cut off by."""
    rows, separator = [], Separator(model)
    for _ in range(count):
        at = model.program.lower + rng.random(model.n_columns) * (
            model.program.upper - model.program.lower
        )
        cuts = separator.separate(at)
        if cuts is not None:
            rows.append(tuple(cuts))
    return rows


def test_forward_passes_break_no_row_by_more_than_its_slack():
    rng = np.random.default_rng(0)
    used = 0
    for model, network, lower, upper in relaxations(12):
        rows = [
            (
                model.program.matrix,
                model.program.row_lower,
                model.program.row_upper,
                model.program.row_slack,
            )
        ]
        rows += cuts_at_random(model, rng, 4)
        points = column_values(model, network, points_in(rng, lower, upper, 6))
        used += broken(rows, points)
    # The slack is needed: rounding does break rows.
    assert used > 50


def test_corners_break_no_cut_of_a_maximum_by_more_than_its_slack():
    rng = np.random.default_rng(0)
    used = 0
    for seed in range(8):
        network, n = maxout(seed, k=3)
        lower, upper = np.full(n, -0.1), np.full(n, 0.7)
        bounds = compute_bounds(network, lower, upper, "crown")
        target = network.outputs[0]
        model = ArrayModel(network, bounds.lower, bounds.upper, target, np.array([0]))
        corners = np.array(np.meshgrid(*zip(lower, upper))).reshape(n, -1).T
        points = column_values(model, network, corners)
        used += broken(cuts_at_random(model, rng, 8), points)
    assert used > 10
