"""What the tests of all rungs share: random cases, and the check on samples."""

from __future__ import annotations

import numpy as np

from pyomo_relu.bounds import Bounds
from pyomo_relu.network import Network
from tests.harness.random_networks import ALL_ACTIVATIONS, MAGNITUDES, random_network
from tests.harness.strategies import points_in


def random_case(
    seed: int,
    *,
    activations=ALL_ACTIVATIONS,
    magnitudes=MAGNITUDES,
    width: int = 8,
    depth: int = 3,
) -> tuple[Network, np.ndarray, np.ndarray]:
    """A small random network of any kind and a box, some of them degenerate."""
    rng = np.random.default_rng(seed)
    head = str(rng.choice(activations)) if rng.random() < 0.3 else None
    network = random_network(
        rng,
        n_inputs=int(rng.integers(1, 4)),
        widths=[int(rng.integers(1, width)) for _ in range(rng.integers(1, depth + 1))],
        n_outputs=int(rng.integers(1, 4)),
        activations=[str(rng.choice(activations)) for _ in range(2)],
        residual=bool(rng.random() < 0.3),
        max_pool=bool(rng.random() < 0.3),
        concatenate=bool(rng.random() < 0.3),
        density=float(rng.choice([1.0, 1.0, 0.5, 0.1])),
        magnitude=str(rng.choice(magnitudes)),
        zero_rows=int(rng.integers(0, 2)),
        input_layers=int(rng.integers(1, 3)),
        output_layers=int(rng.integers(1, 3)),
        output_activation=head,
    )
    n = network.n_inputs
    center = rng.normal(size=n)
    radius = rng.choice([1.0, 0.5, 0.1, 1e-3, 1e-6, 0.0], size=n)
    return network, center - radius, center + radius


def assert_contains_samples(bounds: Bounds, rng: np.random.Generator, count: int) -> None:
    """Every computed activation of points of the box, corners too, is inside."""
    lower, upper = bounds.input_box
    values = bounds.network.activations(points_in(rng, lower, upper, count))
    for node, a, low, high in zip(bounds.network.nodes, values, bounds.lower, bounds.upper):
        assert (low <= high).all(), node.name
        worst = max(float((low - a).max()), float((a - high).max()))
        assert worst <= 0, f"'{node.name}' is outside its bounds by {worst:g}"
