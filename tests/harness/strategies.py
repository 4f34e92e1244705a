"""Hypothesis strategies: random networks and boxes.

A network is a seed plus structural choices; these shrink towards one ReLU layer of one
neuron with the seed 0, so that a failing example names the structure that matters.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from pyomo_relu.network import Network
from tests.harness.random_networks import ALL_ACTIVATIONS, MAGNITUDES, random_network

Box = tuple[np.ndarray, np.ndarray]


@st.composite
def networks(
    draw: st.DrawFn,
    *,
    n_inputs: int | tuple[int, int] = (1, 3),
    n_outputs: int | tuple[int, int] = (1, 3),
    depth: int | tuple[int, int] = (1, 3),
    width: int | tuple[int, int] = (1, 5),
    activations: Sequence[str] = ALL_ACTIVATIONS,
    magnitudes: Sequence[str] = MAGNITUDES,
    structures: bool = True,
    fuse: bool = True,
) -> Network:
    """Random networks.

    Parameters
    ----------
    n_inputs, n_outputs, depth, width : int or (lowest, highest)
    activations : sequence of str
        What the layers are drawn from, the simplest first.
    magnitudes : sequence of str
        What the first layer's weights are drawn from; ``("plain",)`` for a solver.
    structures : bool
        Whether to draw residuals, max groups, concatenation, several inputs and
        outputs, sparse weights, zero rows, dead and stable neurons.
    fuse : bool
        As in :meth:`NetworkBuilder.build`.
    """

    def size(limits: int | tuple[int, int]) -> int:
        if isinstance(limits, int):
            return limits
        return draw(st.integers(*limits))

    flag = st.booleans() if structures else st.just(False)
    few = st.sampled_from([0, 1, 2]) if structures else st.just(0)
    widths = [size(width) for _ in range(size(depth))]
    chosen = [draw(st.sampled_from(list(activations))) for _ in widths] or ["relu"]
    head = st.none()
    if structures:
        head = st.one_of(st.none(), st.none(), st.sampled_from(list(activations)))
    options = {
        "n_inputs": size(n_inputs),
        "widths": widths,
        "n_outputs": size(n_outputs),
        "activations": chosen,
        "residual": draw(flag),
        "max_pool": draw(flag),
        "concatenate": draw(flag),
        "density": draw(st.sampled_from([1.0, 0.5, 0.1])) if structures else 1.0,
        "magnitude": draw(st.sampled_from(list(magnitudes))),
        "zero_rows": draw(few),
        "dead": draw(few),
        "stable": draw(few),
        "input_layers": 1 + draw(flag),
        "output_layers": 1 + draw(flag),
        "output_activation": draw(head),
        "fuse": fuse,
    }
    return random_network(np.random.default_rng(draw(st.integers(0, 10_000))), **options)


@st.composite
def boxes(draw: st.DrawFn, n: int, *, magnitude: float = 2.0, degenerate=True) -> Box:
    """Boxes in n dimensions, (lower, upper); the simplest is [-1, 1].

    Parameters
    ----------
    magnitude : float
        Largest absolute value of a centre and of a half width.
    degenerate : bool
        Whether some or all coordinates may have ``lower == upper``, and widths may be
        as small as 1e-6.
    """
    kind = draw(st.sampled_from(["unit", "random", "mixed"]))
    if kind == "unit":
        return -np.ones(n), np.ones(n)
    number = st.floats(-magnitude, magnitude, width=32)
    centre = np.array([draw(number) for _ in range(n)])
    half = st.sampled_from([1.0, 0.125, 0.5, magnitude])
    if degenerate and kind == "mixed":
        half = st.sampled_from([1.0, 0.0, 1e-3, 1e-6])
    radius = np.array([draw(half) for _ in range(n)])
    return centre - radius, centre + radius


def points_in(
    rng: np.random.Generator, lower: np.ndarray, upper: np.ndarray, count: int
) -> np.ndarray:
    """(count, n) points of a box: inner ones, then corners and points of faces."""
    u = rng.random((count, len(lower)))
    edge = np.arange(count) >= count // 2
    u[edge] = np.where(rng.random((edge.sum(), len(lower))) < 0.8, u[edge].round(), u[edge])
    return np.clip(lower + u * (upper - lower), lower, upper)
