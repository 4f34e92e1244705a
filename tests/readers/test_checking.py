"""The check of the reading: it sees what was misread, names it, and cries no wolf."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pyomo_relu import NetworkBuilder
from pyomo_relu.network import Affine, Network, PiecewiseLinear, activations
from pyomo_relu.network.weights import dense
from pyomo_relu.readers.checking import check_reading
from pyomo_relu.readers.frameworks import (
    Arithmetic,
    CalledFramework,
    Framework,
    Record,
)
from pyomo_relu.readers.points import probing_points, usual_inputs

PIECES = [
    activations.relu(),
    activations.leaky_relu(0.1),
    activations.relu6(),
    activations.hard_sigmoid(),
    activations.absolute(),
]


def layered(rng, sizes, pieces=None, low=0.0, high=1.0) -> tuple[Network, list]:
    """A random network that reads inputs in ``[low, high]``, with its builder's nodes."""
    b = NetworkBuilder()
    v = b.input("x", (sizes[0],))
    half, middle = (high - low) / 2, (high + low) / 2
    v = b.affine("scale", [(v, np.eye(sizes[0]) / half)], np.full(sizes[0], -middle / half))
    for k, (n, m) in enumerate(zip(sizes[:-1], sizes[1:])):
        w = rng.normal(size=(m, n)) / np.sqrt(n)
        v = b.affine(f"dense_{k}", [(v, w)], rng.normal(size=m) * 0.3)
        if k < len(sizes) - 2:
            chosen = PIECES[rng.integers(len(PIECES))] if pieces is None else pieces
            v = b.piecewise(f"act_{k}", v, chosen)
    return b.build([v]), b.nodes


class InFloat32(Framework):
    """A network whose nodes are evaluated in float32, as a framework would."""

    def __init__(self, nodes, name="the model"):
        super().__init__()
        self.nodes, self.name = nodes, name
        self.arithmetic = Arithmetic.of(["float32"])

    def values(self, points):
        found = []
        for node in self.nodes:
            if isinstance(node, Affine):
                [source], [w] = node.sources, node.weights
                x = found[source].astype(np.float32)
                y = x @ dense(w).astype(np.float32).T + node.bias.astype(np.float32)
            elif isinstance(node, PiecewiseLinear):
                y = node(found[node.source]).astype(np.float32)
            else:
                y = points
            found.append(y.astype(float))
        return found

    def outputs(self, points):
        return [self.values(points)[-1]]

    def replay(self, points):
        values = self.values(points)
        records = [
            Record(f"its layer '{n.name}'", i, v)
            for i, (n, v) in enumerate(zip(self.nodes, values))
        ]
        return records[1:], [values[-1]]


class Whole(InFloat32):
    """The same without its layers."""

    def replay(self, points):
        return None


def changed(nodes, rng) -> tuple[list, str]:
    """The nodes with one piece of one unit, or one weight, changed; and which layer."""
    nodes = list(nodes)
    k = int(rng.choice([i for i, n in enumerate(nodes) if not i == 0 and n.size]))
    node = nodes[k]
    unit = int(rng.integers(node.size))
    if isinstance(node, PiecewiseLinear):
        slopes = np.array(node.slopes)
        slopes[unit, int(rng.integers(slopes.shape[1]))] += 0.5
        # The function is found by its name where all units share it.
        nodes[k] = dataclasses.replace(node, slopes=slopes, function="changed")
    else:
        w = np.array(dense(node.weights[0]))
        w[unit] *= 1.5
        nodes[k] = dataclasses.replace(node, weights=(w,))
    return nodes, node.name


def seen(network, points) -> float:
    """The share of (unit, piece) that points show, of those that a long search finds."""
    rng = np.random.default_rng(1)
    centre, spread = usual_inputs(network)
    steps = rng.normal(size=(2000, network.n_inputs)) * rng.choice([1, 10, 100], (2000, 1))

    def sides(x):
        values = network.activations(x)
        return [
            {(i, u, int(p)) for u, column in enumerate(n.piece(values[n.source]).T)
             for p in np.unique(column)}
            for i, n in enumerate(network.nodes)
            if isinstance(n, PiecewiseLinear)
        ]  # fmt: skip

    few, many = sides(points), sides(np.vstack([points, centre + spread * steps]))
    return sum(map(len, few)) / sum(map(len, many))


RANGES = [(0.0, 1.0), (-1.0, 1.0), (280.0, 300.0), (1e5, 1.01e5), (-3e-6, 2e-6)]


@pytest.mark.parametrize("low, high", RANGES)
@pytest.mark.parametrize("seed", range(3))
def test_the_points_show_both_sides_in_any_units(low, high, seed):
    rng = np.random.default_rng(seed)
    network, _ = layered(rng, (5, 20, 20, 3), None, low, high)
    points = probing_points(network)
    assert points.shape == (8, 5)
    assert seen(network, points) > 0.9
    centre, spread = usual_inputs(network)
    assert (np.abs(centre - (low + high) / 2) < 2 * (high - low)).all()
    assert (spread < 20 * (high - low)).all() and (spread > (high - low) / 20).all()


@pytest.mark.parametrize("kind", [InFloat32, Whole])
@pytest.mark.parametrize("seed", range(10))
def test_no_false_alarm_and_no_fault_unseen(seed, kind):
    check_one(seed, kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [InFloat32, Whole])
@pytest.mark.parametrize("seed", range(100, 300))
def test_many_without_false_alarm_and_fault_unseen(seed, kind):
    check_one(seed, kind)


def check_one(seed: int, kind: type) -> None:
    """Random networks in float32 pass; with one unit changed they are refused."""
    rng = np.random.default_rng(seed)
    depth = int(rng.integers(1, 5 if kind is Whole else 25))
    sizes = [int(n) for n in rng.integers(2, 40, size=depth + 2)]
    low, high = RANGES[rng.integers(len(RANGES))]
    network, nodes = layered(rng, sizes, None, low, high)
    outputs = [len(nodes) - 1]
    check_reading(kind(nodes), network, nodes, outputs)
    wrong, layer = changed(nodes, rng)
    framework = kind(wrong)
    points = probing_points(network)
    reached = np.abs(framework.outputs(points)[0] - kind(nodes).outputs(points)[0]).max()
    scale = np.abs(kind(nodes).outputs(points)[0]).max()
    # Without its layers, a network is compared up to all that rounding could do.
    if reached < (1e-3 if kind is InFloat32 else 0.1) * scale:
        return  # the unit that was changed matters nowhere near
    named = f"layer '{layer}'" if kind is InFloat32 else "its output"
    with pytest.raises(ValueError, match=f"not what was read from it.*{named}"):
        check_reading(framework, network, nodes, outputs)


def test_rounding_in_deep_networks_is_compared_layer_by_layer():
    rng = np.random.default_rng(0)
    network, nodes = layered(rng, [8] + [60] * 60 + [3], activations.absolute())
    check_reading(InFloat32(nodes), network, nodes, [len(nodes) - 1])


def test_steps_near_their_breakpoints_are_no_difference():
    """Signs of sums that round: a unit may fall on either side, and all after it."""
    for seed in range(20):
        network, nodes = layered(
            np.random.default_rng(seed), [4] + [80] * 4 + [2], activations.step()
        )
        check_reading(InFloat32(nodes), network, nodes, [len(nodes) - 1])


def test_a_step_read_with_the_wrong_value_at_its_breakpoint():
    """Sums of whole numbers are exact, and often 0: which side 0 is on shows."""
    b = NetworkBuilder()
    x = b.input("x", (4,))
    h = b.affine("sums", [(x, np.ones((3, 4)) * [[1], [-1], [2]])], 0.0)
    s = b.piecewise("signs", h, activations.step())
    network = b.build([b.affine("y", [(s, [[1.0, 2.0, 4.0]])])])

    class Strict(InFloat32):
        def values(self, points):
            found = super().values(points)
            found[2] = (found[1] > 0).astype(float)
            found[3] = found[2] @ b.nodes[3].weights[0].T
            return found

    check_reading(InFloat32(b.nodes), network, b.nodes, [3])
    with pytest.raises(ValueError, match="layer 'signs'"):
        check_reading(Strict(b.nodes), network, b.nodes, [3])


def test_a_composition_that_differs_from_its_layers():
    network, nodes = layered(np.random.default_rng(0), (3, 5, 2))

    class Doubled(InFloat32):
        def outputs(self, points):
            return [2 * super().outputs(points)[0]]

    with pytest.raises(ValueError, match="its layers, one after the other, give"):
        check_reading(Doubled(nodes), network, nodes, [len(nodes) - 1])


def test_models_that_fail_or_give_no_numbers():
    network, nodes = layered(np.random.default_rng(0), (3, 5, 2))
    last = [len(nodes) - 1]

    def run(points):
        raise KeyError("weights")

    with pytest.raises(ValueError, match="the model can't be evaluated.*KeyError"):
        check_reading(CalledFramework("the model", run, [], None), network, nodes, last)
    nothing = CalledFramework("the model", lambda x: [np.full((len(x), 2), np.nan)], [], 0)
    with pytest.raises(ValueError, match="NaN or infinite values at all"):
        check_reading(nothing, network, nodes, last)
    short = CalledFramework("the model", lambda x: [np.zeros((len(x), 1))], [], None)
    with pytest.raises(ValueError, match=r"outputs of \[1\] entries.*\[2\]"):
        check_reading(short, network, nodes, last)


def test_numbers_of_each_type():
    x = np.array([[1.0 + 2.0**-30, 1e-3, 3.0]])
    assert Arithmetic.of(["float64"]).represent(x)[0, 0] > 1
    assert Arithmetic.of(["float32", "float64"]).represent(x)[0, 0] == 1
    assert Arithmetic.of(["float32", "bfloat16"]).represent(x)[0, 2] == 3
    half = Arithmetic.of(["float16"])
    assert half.represent(x)[0, 1] == float(np.float16(1e-3)) and half.largest < 7e4
    assert Arithmetic.of(["float32"], coarse=True).epsilon == 2.0**-10
    with pytest.raises(ValueError, match="dtype int7 is not known"):
        Arithmetic.of(["int7"])


class Flushing(Framework):
    """Two factors of 1e-160, on a device that takes what is smaller than normal for 0."""

    def __init__(self, weight=1e-160):
        super().__init__()
        self.name, self.arithmetic = "the model", Arithmetic.of(["float64"])
        self.weight = weight

    def outputs(self, points):
        values = (points * self.weight) * self.weight
        return [np.where(np.abs(values) < np.finfo(float).tiny, 0.0, values)]


def test_underflow_is_no_difference():
    b = NetworkBuilder()
    x = b.input("x", (2,))
    h = b.affine("small", [(x, 1e-160 * np.eye(2))])
    y = b.affine("smaller", [(h, 1e-160 * np.eye(2))])
    network = b.build([y])
    check_reading(Flushing(), network, b.nodes, [y])
    with pytest.raises(ValueError, match="not what was read"):
        check_reading(Flushing(1e-150), network, b.nodes, [y])
