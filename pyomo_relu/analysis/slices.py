"""Linear regions along lines and planes through inputs of any dimension.

A line ``origin + t * direction`` or a plane ``origin + s * u + t * v`` is one more
affine layer below the network. On a line the regions are intervals, and their ends, the
breakpoints, come out exactly (up to rounding); on a plane they are polygons. The counts
are lower bounds on the regions of the whole box.

Source: Novak et al., ICLR 2018, and Hanin and Rolnick, ICML 2019, count regions along
lines and planes through data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pyomo_relu.bounds.plane_regions import LinearRegions, linear_regions
from pyomo_relu.network import (
    Affine,
    Input,
    Max,
    Network,
    NetworkBuilder,
    PiecewiseLinear,
    Smooth,
)


def restrict(
    network: Network,
    origin: ArrayLike,
    directions: ArrayLike,
    names: Sequence[str] | None = None,
) -> Network:
    """The network on an affine subspace: inputs are coordinates along directions.

    Parameters
    ----------
    network : Network
    origin : (n_inputs,) array_like
    directions : (d, n_inputs) array_like
    names : sequence of str, optional
        The names of the d coordinates.

    Returns
    -------
    Network
        With d inputs ``t`` and the outputs at ``origin + t @ directions``.

    Raises
    ------
    ValueError
        If the lengths don't fit the network.
    """
    n = network.n_inputs
    x, d = np.asarray(origin, dtype=float).reshape(-1), np.asarray(directions, dtype=float)
    d = d.reshape(-1, d.shape[-1]) if d.ndim else d.reshape(1, 1)
    if len(x) != n or d.shape[1] != n:
        raise ValueError(
            f"the network has {n} inputs, but the origin has {len(x)} and the directions "
            f"have {d.shape[1]} entries."
        )
    b = NetworkBuilder()
    start = dict(network.input_slices())
    t = b.input("coordinates", (len(d),))
    made: list[int] = []
    for i, node in enumerate(network.nodes):
        if isinstance(node, Input):
            at = start[i]
            handle = b.affine(node.name, [(t, d[:, at].T)], x[at], node.shape)
        elif isinstance(node, Affine):
            terms = [(made[s], w) for s, w in zip(node.sources, node.weights)]
            handle = b.affine(node.name, terms, node.bias, node.shape)
        elif isinstance(node, PiecewiseLinear):
            pieces = (node.function, node.breakpoints, node.slopes, node.intercepts)
            handle = b.piecewise(node.name, made[node.source], pieces)
        elif isinstance(node, Smooth):
            handle = b.smooth(node.name, made[node.source], node.function, node.parameter)
        else:
            assert isinstance(node, Max)
            groups = [node.group(j) for j in range(node.size)]
            handle = b.max(node.name, made[node.source], groups, node.shape)
        made.append(handle)
    names = names or [f"t{k}" for k in range(len(d))]
    return b.build(
        [made[i] for i in network.outputs],
        input_names=names,
        output_names=network.output_names,
    )


def regions_on_line(
    network: Network, start: ArrayLike, end: ArrayLike, **options: Any
) -> LinearRegions:
    """Regions along the segment from one input to another; its coordinate is in [0, 1].

    Parameters
    ----------
    network : Network
        With any number of inputs.
    start, end : (n_inputs,) array_like
    **options
        Of :func:`linear_regions`.

    Returns
    -------
    LinearRegions
        The regions of a network with the one input ``t``; the point is
        ``start + t (end - start)``.
    """
    a, b = (np.asarray(p, dtype=float).reshape(-1) for p in (start, end))
    if a.shape != b.shape or not (a != b).any():
        raise ValueError("start and end must be two different points of equal length.")
    return linear_regions(restrict(network, a, (b - a)[None], ["t"]), 0.0, 1.0, **options)


def breakpoints(regions: LinearRegions) -> np.ndarray:
    """Coordinates where one region of a line ends and the next begins, increasing.

    Parameters
    ----------
    regions : LinearRegions
        With one free input.

    Returns
    -------
    (n_regions - 1,) array
    """
    if len(regions.free) != 1:
        raise ValueError("breakpoints are those of a line; these regions are no intervals.")
    cells = regions.cells
    return np.sort(cells.lowest(cells.vertices[:, 0])[cells.proper])[1:]


def regions_on_plane(
    network: Network,
    origin: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    lower: ArrayLike = 0.0,
    upper: ArrayLike = 1.0,
    **options: Any,
) -> LinearRegions:
    """Regions on the plane through three inputs.

    Parameters
    ----------
    network : Network
        With any number of inputs.
    origin, first, second : (n_inputs,) array_like
        Three points; ``first`` has the coordinates (1, 0), ``second`` has (0, 1).
    lower, upper : float or (2,) array_like
        The rectangle of coordinates.
    **options
        Of :func:`linear_regions`.

    Returns
    -------
    LinearRegions
        The regions of a network with the two inputs ``s`` and ``t``; the point is
        ``origin + s (first - origin) + t (second - origin)``.
    """
    x, a, b = (np.asarray(p, dtype=float).reshape(-1) for p in (origin, first, second))
    if not x.shape == a.shape == b.shape:
        raise ValueError("the three points must have equal length.")
    directions = np.stack([a - x, b - x])
    if np.linalg.matrix_rank(directions) < 2:
        raise ValueError("the three points lie on one line; take regions_on_line.")
    restricted = restrict(network, x, directions, ["s", "t"])
    return linear_regions(restricted, lower, upper, **options)
