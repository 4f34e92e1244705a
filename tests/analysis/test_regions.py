"""Linear regions: a partition of the box, right maps, right counts, right optima."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from pyomo_relu.analysis import linear_regions
from pyomo_relu.network import Affine, Input, Max, NetworkBuilder, PiecewiseLinear
from pyomo_relu.network import activations as act
from tests.harness.random_networks import (
    ALL_ACTIVATIONS,
    CONTINUOUS,
    he_network,
    random_network,
)
from tests.harness.strategies import boxes, networks, points_in

NUMBERS = {"magnitudes": ("plain", "tiny", "huge"), "n_inputs": (1, 2)}


def small(seed, name, **options):
    rng = np.random.default_rng(seed)
    return random_network(rng, activations=[name], widths=(4, 4), **options)


def patterns_at(network, x):
    """(N, k) pieces and winners of all splitting nodes at points."""
    values = network.activations(x)
    found = []
    for node in network.nodes:
        if isinstance(node, PiecewiseLinear):
            found.append(node.piece(values[node.source]))
        elif isinstance(node, Max):
            groups = [values[node.source][:, node.group(j)] for j in range(node.size)]
            found.append(np.stack([g.argmax(axis=1) for g in groups], axis=1))
    return np.hstack(found) if found else np.zeros((len(x), 0), dtype=int)


def measures_of(cells) -> np.ndarray:
    """(R,) length or area of each cell; 1 for a point in a box that is a point."""
    d, x = cells.vertices.shape[1], cells.vertices
    if d == 0:
        return np.ones(len(cells))
    if d == 1:
        return (cells.highest(x) - cells.lowest(x))[:, 0]
    following = np.arange(1, len(x) + 1)
    following[cells.start[1:] - 1] = cells.start[:-1]
    # Relative to the first vertex: far from the origin the products would cancel.
    a = x - np.repeat(x[cells.start[:-1]], cells.counts, axis=0)
    b = a[following]
    cross = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    return 0.5 * np.abs(np.add.reduceat(cross, cells.start[:-1]))


def region_patterns(regions):
    kept = [p for p in regions.patterns if p is not None]
    return np.hstack(kept) if kept else np.zeros((len(regions.cells), 0), dtype=int)


def scale_of(regions):
    """A size for tolerances: the largest value of any node."""
    return 1.0 + max(abs(v).max() for i in range(len(regions.network.nodes))
                     for v in regions.range(i))  # fmt: skip


def check(network, lower, upper, seed=0):
    """What must hold for every network and box; returns the regions."""
    regions = linear_regions(network, lower, upper)
    cells, free = regions.cells, regions.free
    box = np.prod((upper - lower)[free])
    measures = measures_of(cells)
    assert measures[cells.proper].sum() == pytest.approx(box, rel=1e-6)
    # At the centre of each region, well inside of it, the map is the network.
    scale = scale_of(regions)
    centres = np.array([cells.points(r).mean(axis=0) for r in range(len(cells))])
    inside = cells.proper & (measures > 1e-6 * box)
    y = network.evaluate(regions.full(centres[inside]))
    for row, r in zip(y, np.flatnonzero(inside)):
        a, c = regions.output_map(r)
        assert a @ centres[r] + c == pytest.approx(row, abs=1e-7 * scale)
    # No point of the box is better than the optimum, and no value out of range.
    x = points_in(np.random.default_rng(seed), lower, upper, 400)
    values = network.activations(x)
    for i in range(len(network.nodes)):
        low, high = regions.range(i)
        assert (values[i] >= low - 1e-7 * scale).all()
        assert (values[i] <= high + 1e-7 * scale).all()
    y = network.evaluate(x)
    for j in range(network.n_outputs):
        assert regions.optimum(j).value <= y[:, j].min() + 1e-7 * scale
        assert regions.optimum(j, "max").value >= y[:, j].max() - 1e-7 * scale
    return regions


@given(networks(**NUMBERS), st.data())
def test_any_network(network, data):
    lower, upper = data.draw(boxes(network.n_inputs))
    check(network, lower, upper)


@pytest.mark.parametrize("name", ALL_ACTIVATIONS)
@pytest.mark.parametrize("n", [1, 2])
def test_activation(name, n):
    for seed in range(3):
        network = small(seed, name, n_inputs=n, n_outputs=2, max_pool=seed == 1)
        check(network, -np.ones(n), 2.0 * np.ones(n), seed)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous_map_at_vertices(name):
    for seed in range(3):
        network = small(seed, name, residual=True, max_pool=True, concatenate=True)
        regions = linear_regions(network, -1.0, 1.0)
        points = regions.full(regions.cells.vertices)
        expected = network.evaluate(points)
        assert regions.cells.proper.all()
        assert regions.output_values() == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("name", ALL_ACTIVATIONS)
def test_counts_against_a_dense_grid(name):
    """Every pattern on a grid is a region; a fine grid misses only slim regions."""
    for seed in range(3):
        network = small(seed, name)
        regions = linear_regions(network, -1.0, 1.0)
        proper = region_patterns(regions)[regions.cells.proper]
        known = {tuple(p) for p in proper}
        axis = np.linspace(-0.9987, 0.9991, 251)  # no grid point on a border
        grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
        found = patterns_at(network, grid)
        code = found @ (8 ** np.arange(found.shape[1]))
        seen = {tuple(p) for p in found[np.unique(code, return_index=True)[1]]}
        assert seen <= known
        assert len(seen) <= regions.n_regions == list(regions.counts.values())[-1]
        measures = measures_of(regions.cells)[regions.cells.proper]
        wide = {tuple(p) for p, m in zip(proper, measures) if m > 0.01}
        assert len(wide - seen) <= 1


def test_relu_patterns_are_distinct():
    """The polygons of a ReLU network correspond one to one to patterns."""
    for seed in range(4):
        regions = linear_regions(he_network(seed, [2, 12, 12, 1]), -1.0, 1.0)
        found = region_patterns(regions)
        assert len(np.unique(found, axis=0)) == len(found) == regions.n_regions


def test_known_counts():
    builder = NetworkBuilder()
    x = builder.input("x", (2,))
    # Three lines in general position that meet inside the box: 7 regions.
    w = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    h = builder.affine("h", [(x, w)], [0.0, 0.0, -0.3])
    out = builder.affine("y", [(builder.piecewise("r", h, act.relu()), np.ones((1, 3)))])
    network = builder.build([out])
    assert linear_regions(network, -1.0, 1.0).n_regions == 7
    assert linear_regions(network, -1.0, 1.0).counts == {"r": 7}
    assert linear_regions(network, 0.4, 1.0).n_regions == 1
    assert linear_regions(network, [-1.0, 0.1], [1.0, 1.0]).n_regions == 4
    # On the line x1 = 1 only two breakpoints remain: 0 for x0 and -0.7 for the sum.
    line = linear_regions(network, [-1.0, 1.0], [1.0, 1.0])
    assert (line.n_regions, list(line.free)) == (3, [0])
    point = linear_regions(network, 0.0, 0.0)
    assert point.n_regions == 1
    assert point.optimum(0).value == network.evaluate([0.0, 0.0])[0] == 0.0


def test_zigzag():
    """The sawtooth of Telgarsky (2015): 2 ** depth regions, optima 0 and 1."""
    builder = NetworkBuilder()
    last = builder.input("x", (1,))
    for k in range(6):
        h = builder.affine(f"h{k}", [(last, [[2.0], [4.0]])], [0.0, -2.0])
        r = builder.piecewise(f"r{k}", h, act.relu())
        last = builder.affine(f"y{k}", [(r, [[1.0, -1.0]])])
    regions = linear_regions(builder.build([last]), 0.0, 1.0)
    assert regions.n_regions == 64
    assert regions.optimum(0).value == 0.0
    assert regions.optimum(0, "max").value == 1.0
    assert measures_of(regions.cells) == pytest.approx(np.full(64, 1 / 64))


def closed_optimum(network, lower, upper, output, sign):
    """Brute force: for each pattern an LP over the closed region; tiny networks only."""
    split = [i for i, n in enumerate(network.nodes) if isinstance(n, PiecewiseLinear)]
    options = [range(network.nodes[i].slopes.shape[1]) for i in split
               for _ in range(network.nodes[i].size)]  # fmt: skip
    best = np.inf
    for pattern in itertools.product(*options):
        rest, rows, limits = list(pattern), [], []
        maps = []
        for node in network.nodes:
            if isinstance(node, Input):
                maps.append((np.eye(node.size), np.zeros(node.size)))
            elif isinstance(node, Affine):
                a = sum(w @ maps[s][0] for w, s in zip(node.weights, node.sources))
                c = sum(w @ maps[s][1] for w, s in zip(node.weights, node.sources))
                maps.append((a, c + node.bias))
            else:
                a, c = (m.copy() for m in maps[node.source])
                for i in range(node.size):
                    p = rest.pop(0)
                    if p > 0:
                        rows.append(-a[i])
                        limits.append(c[i] - node.breakpoints[i, p - 1])
                    if p < node.breakpoints.shape[1]:
                        rows.append(a[i].copy())
                        limits.append(node.breakpoints[i, p] - c[i])
                    c[i] = node.slopes[i, p] * c[i] + node.intercepts[i, p]
                    a[i] = node.slopes[i, p] * a[i]
                maps.append((a, c))
        a, c = maps[network.outputs[0]]
        box = list(zip(lower, upper))
        found = linprog(sign * a[output], np.array(rows), np.array(limits), bounds=box)
        if found.status == 0:
            best = min(best, found.fun + sign * c[output])
    return sign * best


@pytest.mark.parametrize("name", ["relu", "step", "sign", "threshold_relu", "clip"])
def test_optimum_of_the_closed_graph(name):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        network = random_network(rng, activations=[name], widths=(2, 2))
        lower, upper = -np.ones(2), np.ones(2)
        regions = linear_regions(network, lower, upper)
        for sense, sign in (("min", 1.0), ("max", -1.0)):
            expected = closed_optimum(network, lower, upper, 0, sign)
            assert regions.optimum(0, sense).value == pytest.approx(expected, abs=1e-7)


def test_both_values_at_a_step_on_the_edge_of_the_box():
    builder = NetworkBuilder()
    x = builder.input("x", (2,))
    h = builder.affine("h", [(x, np.eye(2))])
    r = builder.piecewise("r", h, act.step())
    network = builder.build([builder.affine("y", [(r, [[1.0, 2.0]])])])
    regions = linear_regions(network, 0.0, 1.0)  # both steps only touch the box
    assert regions.n_regions == 1
    assert regions.optimum(0).value == 0.0
    assert list(regions.optimum(0).point) == [0.0, 0.0]
    assert regions.optimum(0, "max").value == 3.0
    assert network.evaluate([0.0, 0.0])[0] == 3.0
    assert regions.optimum(0, closed=False).value == 3.0
    # Two steps on one line: the closed graph has all four combinations on it.
    h = builder.affine("h2", [(x, [[1.0, 0.0], [1.0, 0.0]])])
    r = builder.piecewise("r2", h, act.step())
    network = builder.build([builder.affine("y2", [(r, [[1.0, -1.0]])])])
    regions = linear_regions(network, -1.0, 1.0)
    assert regions.n_regions == 2
    assert regions.optimum(0).value == -1.0
    assert regions.optimum(0, "max").value == 1.0
    # A step whose argument is 0 everywhere.
    h = builder.affine("h3", [(x, np.zeros((1, 2)))])
    network = builder.build([builder.piecewise("r3", h, act.sign())])
    regions = linear_regions(network, -1.0, 1.0)
    assert regions.n_regions == 1
    assert regions.optimum(0).value == -1.0
    assert regions.optimum(0, "max").value == 1.0


def test_ties_of_a_maximum():
    builder = NetworkBuilder()
    x = builder.input("x", (2,))
    w = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    top = builder.max("top", builder.affine("h", [(x, w)]), [[0, 1, 2, 3]])
    regions = linear_regions(builder.build([top]), -1.0, 1.0)
    assert regions.n_regions == 3  # the entry that is there twice wins once
    assert measures_of(regions.cells).sum() == pytest.approx(4.0)
    assert regions.optimum(0).value == pytest.approx(0.0)
    assert regions.optimum(0).point == pytest.approx([0.0, 0.0])
    assert regions.optimum(0, "max").value == 2.0


def test_optimum_with_inputs_and_constraints():
    network = he_network(3, [2, 10, 10, 2])
    lower, upper = np.array([-1.0, 0.0]), np.array([1.0, 0.5])
    regions = linear_regions(network, lower, upper)
    axes = [np.linspace(a, b, 301) for a, b in zip(lower, upper)]
    x = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    y = network.evaluate(x)
    limit = float(np.quantile(y[:, 1], 0.3))
    best = regions.optimum(
        [1.0, 0.5], "max", inputs=[0.2, -0.1], subject_to=[([0.0, 1.0], limit)]
    )
    value = y @ [1.0, 0.5] + x @ [0.2, -0.1]
    sampled = value[y[:, 1] <= limit].max()
    assert sampled <= best.value + 1e-9
    assert best.value <= sampled + 0.02 * (value.max() - value.min())
    assert best.outputs[1] <= limit + 1e-9
    assert network.evaluate(best.point) == pytest.approx(best.outputs, abs=1e-9)
    with pytest.raises(ValueError, match="no point of the box"):
        regions.optimum(0, subject_to=[([0.0, 1.0], y[:, 1].min() - 1.0)])


def test_slice_of_a_larger_network():
    """Inputs with equal bounds are fixed; two of ten stay free."""
    network = he_network(5, [10, 8, 3])
    lower = np.linspace(-1.0, 1.0, 10)
    upper = lower.copy()
    upper[[2, 7]] += 2.0
    regions = check(network, lower, upper)
    assert list(regions.free) == [2, 7]
    assert regions.vertices(0).shape[1] == 10
    inputs = np.arange(10.0)
    x = points_in(np.random.default_rng(0), lower, upper, 500)
    best = regions.optimum(0, "min", inputs=inputs)
    assert best.value == pytest.approx(best.outputs[0] + inputs @ best.point)
    assert best.value <= (network.evaluate(x)[:, 0] + x @ inputs).min()


def test_ranges_and_stability():
    rng = np.random.default_rng(2)
    network = random_network(rng, widths=(8, 8), dead=2, stable=2, zero_rows=1)
    regions = linear_regions(network, -1.0, 1.0)
    first = next(i for i, n in enumerate(network.nodes) if isinstance(n, PiecewiseLinear))
    low, high = regions.range(network.nodes[first].source)
    stable = regions.stable(first)
    assert (stable == ((low >= 0) | (high <= 0))).all()
    assert 5 <= stable.sum() < 8
    with pytest.raises(ValueError, match="'dense_1' is an affine node"):
        regions.stable(network.nodes[first].source)


def test_far_from_the_origin():
    """A box of width 1 around 1e6 has the same regions as the shifted network."""
    w = np.random.default_rng(0).normal(size=(6, 2))
    found = []
    for shift in (0.0, 1e6):
        builder = NetworkBuilder()
        x = builder.input("x", (2,))
        h = builder.affine("h", [(x, w)], 0.1 - w @ np.full(2, shift))
        r = builder.piecewise("r", h, act.relu())
        network = builder.build([builder.affine("y", [(r, np.ones((1, 6)))])])
        regions = linear_regions(network, shift - 1.0, shift + 1.0)
        assert measures_of(regions.cells).sum() == pytest.approx(4.0, rel=1e-6)
        found.append((regions.n_regions, regions.optimum(0, "max").value))
    assert found[0] == (found[1][0], pytest.approx(found[1][1], abs=1e-6))


def test_errors():
    network = he_network(0, [3, 5, 1])
    with pytest.raises(ValueError, match="3 inputs are free"):
        linear_regions(network, -1.0, 1.0)
    with pytest.raises(ValueError, match="inverted bounds"):
        linear_regions(network, 1.0, -1.0)
    plane = he_network(0, [2, 20, 20, 1])
    with pytest.raises(ValueError, match="more than 100 linear regions"):
        linear_regions(plane, -1.0, 1.0, max_regions=100)
    regions = linear_regions(he_network(0, [2, 3, 1]), -1.0, 1.0)
    with pytest.raises(ValueError, match="'min' or 'max'"):
        regions.optimum(0, "largest")
    with pytest.raises(ValueError, match="no output 1"):
        regions.optimum(1)
    with pytest.raises(ValueError, match="2 coefficients were given for 1 outputs"):
        regions.optimum([1.0, 2.0])
    assert "LinearRegions" in repr(regions)


def test_sixty_neurons():
    network = he_network(1, [2, 20, 20, 20, 1])
    regions = linear_regions(network, -1.0, 1.0)
    assert regions.n_regions > 1000
    assert measures_of(regions.cells).sum() == pytest.approx(4.0)
