"""Nodes of a network as affine maps on regions where all neurons keep their pieces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.network import Affine, Max, PiecewiseLinear
from pyomo_relu.network.weights import absolute

#: Rounding errors of a value, relative to the sum of its terms' magnitudes.
ROUNDING = 1e-13


class AffineMap(NamedTuple):
    """A node on one region, or on each of R: ``gradient @ x + offset``.

    Attributes
    ----------
    gradient : (size, d) or (R, size, d) array
    offset : (size,) or (R, size) array
    scale : (size,) array
        The sum of the terms' magnitudes, to which rounding errors are relative.
    pattern : (size,) or (R, size) int array or None
        The piece of each neuron, or the place in its group of each winner.
    """

    gradient: np.ndarray
    offset: np.ndarray
    scale: np.ndarray
    pattern: np.ndarray | None = None


def affine_map(
    node: Affine, sources: Sequence[AffineMap], d: int, regions: tuple[int, ...] = ()
) -> AffineMap:
    """An affine node behind others; ``regions`` is (R,) where they are maps on R."""
    offset = np.tile(node.bias, (*regions, 1)) if regions else node.bias.copy()
    gradient, scale = np.zeros((*regions, node.size, d)), abs(node.bias)
    for w, source in zip(node.weights, sources):
        offset += (w @ source.offset.T).T
        scale = scale + absolute(w) @ source.scale
        if sp.issparse(w) and regions:
            # SciPy multiplies two axes only.
            flat = source.gradient.transpose(1, 0, 2).reshape(source.scale.size, -1)
            product = (w @ flat).reshape(node.size, *regions, d).transpose(1, 0, 2)
        else:
            product = w @ source.gradient
        gradient += product
    return AffineMap(gradient, offset, scale)


def chosen_map(
    node: PiecewiseLinear | Max, source: AffineMap, pattern: np.ndarray
) -> AffineMap:
    """A node behind another one, with the pieces or winners of a pattern."""
    if isinstance(node, Max):
        entry = node.indices[node.indptr[:-1] + pattern]
        gradient = np.take_along_axis(source.gradient, entry[..., None], axis=-2)
        offset = np.take_along_axis(source.offset, entry, axis=-1)
        scale = np.maximum.reduceat(source.scale[node.indices], node.indptr[:-1])
        return AffineMap(gradient, offset, scale, pattern)
    units = np.arange(node.size)
    a, c = node.slopes[units, pattern], node.intercepts[units, pattern]
    gradient, offset = a[..., None] * source.gradient, a * source.offset + c
    scale = abs(a) * source.scale + abs(c)
    return AffineMap(gradient, offset, scale.reshape(-1, node.size).max(axis=0), pattern)
