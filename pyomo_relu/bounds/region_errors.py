r"""How far the affine maps of linear regions may be from the network, rounding included.

On each cell :func:`~pyomo_relu.bounds.plane_regions.linear_regions` takes every unit to
be on one piece. In float64 numbers it may be off that piece at a vertex of the cell, by a
sliver that was left to a neighbour or by rounding; since the map is affine, it is off by no
more anywhere in the cell. So the distance of node values from their maps goes through the
network cell by cell: an affine node multiplies it by absolute weights, a unit that may be
off its piece by :math:`d` adds the change of slopes there times :math:`d`.
"""

from __future__ import annotations

import numpy as np

from pyomo_relu.base.rounding import EPS
from pyomo_relu.bounds.plane_regions import LinearRegions
from pyomo_relu.network import Affine, Input, Max, PiecewiseLinear
from pyomo_relu.network.weights import absolute, row_nonzeros


def map_errors(regions: LinearRegions) -> np.ndarray:
    """The largest distance of each output from its map, on any cell, (n_outputs,).

    Parameters
    ----------
    regions : LinearRegions
        Of a network without steps.

    Notes
    -----
    It holds for the network in exact arithmetic and for its float64 evaluation.
    """
    reach = abs(regions.cells.vertices).max(axis=0, initial=0.0)
    found: list[np.ndarray] = []  # (R, size) distances
    sizes: list[np.ndarray] = []  # (R, size): what the terms of the maps may add up to
    for i, node in enumerate(regions.network.nodes):
        terms = abs(regions.gradients[i]) @ reach + abs(regions.offsets[i])
        if isinstance(node, Input):
            found.append(np.zeros(terms.shape))
        elif isinstance(node, Affine):
            off, total, count = (
                np.zeros(terms.shape),
                abs(node.bias),
                np.full(node.size, 32.0),
            )
            for w, s in zip(node.weights, node.sources):
                size = absolute(w)
                off = off + (size @ found[s].T).T
                total = total + (size @ (sizes[s] + found[s]).T).T
                count = count + row_nonzeros(w)
            found.append(1.01 * off + 4.0 * EPS * count * total)
        elif isinstance(node, PiecewiseLinear):
            found.append(
                _unit_errors(regions, i, node, found[node.source], sizes[node.source])
            )
        else:
            assert isinstance(node, Max)
            found.append(
                _max_errors(regions, i, node, found[node.source], sizes[node.source])
            )
        sizes.append(terms)
    return np.concatenate([found[i].max(axis=0) for i in regions.network.outputs])


def _unit_errors(
    regions: LinearRegions,
    i: int,
    node: PiecewiseLinear,
    off: np.ndarray,
    size: np.ndarray,
) -> np.ndarray:
    pattern, cells = regions.patterns[i], regions.cells
    assert pattern is not None
    none = np.full((node.size, 1), np.inf)
    borders = np.concatenate([-none, node.breakpoints, none], axis=1)
    units, values = np.arange(node.size), regions.values(node.source)
    floor, top = borders[units, pattern], borders[units, pattern + 1]
    rounding = 32.0 * EPS * size
    # By how much the argument may leave its piece.
    beyond = np.maximum(floor - cells.lowest(values), cells.highest(values) - top)
    beyond = np.maximum(beyond + off + rounding, 0.0)
    slope = np.take_along_axis(node.slopes, pattern.T, axis=1).T
    spread = node.slopes.max(axis=1) - node.slopes.min(axis=1)
    # A function counts as continuous whose jumps are rounding.
    left = node.slopes[:, :-1] * node.breakpoints + node.intercepts[:, :-1]
    right = node.slopes[:, 1:] * node.breakpoints + node.intercepts[:, 1:]
    jumps = abs(right - left).sum(axis=1)
    const = abs(node.intercepts).max(axis=1) + abs(node.slopes).max(axis=1) * size
    total = spread * beyond + np.where(beyond > 0.0, jumps, 0.0) + abs(slope) * off
    return 1.01 * total + 32.0 * EPS * const


def _max_errors(
    regions: LinearRegions, i: int, node: Max, off: np.ndarray, size: np.ndarray
) -> np.ndarray:
    pattern, cells = regions.patterns[i], regions.cells
    assert pattern is not None
    values = regions.values(node.source)[:, node.indices]
    winners = np.repeat(node.indptr[:-1] + pattern, cells.counts, axis=0)
    chosen = np.take_along_axis(values, winners, axis=1)
    # By how much another entry is larger than the one that is taken for the largest.
    more = cells.highest(np.maximum.reduceat(values, node.indptr[:-1], axis=1) - chosen)
    most = np.maximum.reduceat(off[:, node.indices], node.indptr[:-1], axis=1)
    largest = np.maximum.reduceat(size[:, node.indices], node.indptr[:-1], axis=1)
    return 1.01 * (np.maximum(more, 0.0) + 2.0 * most) + 32.0 * EPS * largest
