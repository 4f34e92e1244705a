"""A network over boxes: planes below and above its outputs, and their bounds.

=============  ====================================================================
``base``       :class:`Planes` and :class:`BoxPlanes`: what every network offers
``curve``      networks of one free input: the hull of their curve
``polygons``   networks of two free inputs: facets of the hull of their graph
``cover``      networks of three to five inputs: hulls from many small boxes
``chain``      chains of affine layers and ReLU, stacks of equal shape at once
``tight``      planes of these that are tight at a point
``graph``      any network, by the general backward pass
=============  ====================================================================

Source: Zhang et al., arXiv 1811.00866 (CROWN).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pyomo_relu.bounds.curves import is_continuous_and_piecewise_linear, proved_curves
from pyomo_relu.bounds.ladder import check_box
from pyomo_relu.bounds.plane_regions import TooManyRegionsError, linear_regions
from pyomo_relu.bounds.planes.base import Asked, BoxPlanes, Planes
from pyomo_relu.bounds.planes.chain import (
    ChainPlanes,
    chain_planes,
    over_together,
)
from pyomo_relu.bounds.planes.cover import SETTINGS as COVERS
from pyomo_relu.bounds.planes.cover import Cover, CoverPlanes, most_leaves
from pyomo_relu.bounds.planes.curve import CurvePlanes
from pyomo_relu.bounds.planes.graph import GraphPlanes
from pyomo_relu.bounds.planes.polygons import PolygonPlanes, TooRoughError
from pyomo_relu.bounds.planes.relu_layers import Layer, relu_layers
from pyomo_relu.bounds.planes.tight import tighter_together
from pyomo_relu.network import Network

__all__ = [
    "Asked", "BoxPlanes", "Planes", "box_planes", "planes_of_many", "planes_over",
    "tighter_planes",
]  # fmt: skip


@dataclass(frozen=True)
class PlanesSettings:
    """Which way suits which network; chosen by hand.

    Attributes
    ----------
    most_pieces : int
        A network of one free input with more linear pieces is taken for a chain ...
    most_polygons : int
        ... and one of two free inputs with more polygons.
    """

    most_pieces: int = 500
    most_polygons: int = 1000


SETTINGS = PlanesSettings()


def box_planes(network: Network, low: np.ndarray, high: np.ndarray) -> BoxPlanes:
    """A network over boxes inside ``[low, high]``, in the way that suits it."""
    return planes_of_many([network], [low], [high])[0]


def planes_of_many(
    networks: Sequence[Network], low: Sequence[np.ndarray], high: Sequence[np.ndarray]
) -> list[BoxPlanes]:
    """As :func:`box_planes` for several networks; those of equal shape share a stack.

    Parameters
    ----------
    networks : sequence of Network
    low, high : sequences of (n,) arrays
        A box for each.

    Raises
    ------
    ValueError
        For a box that doesn't fit its network, or isn't finite.
    """
    found: dict[int, BoxPlanes] = {}
    stacks: dict[tuple[int, ...], list[tuple[int, list[Layer]]]] = {}
    boxes = [check_box(*one) for one in zip(networks, low, high)]
    for k, (network, (a, b)) in enumerate(zip(networks, boxes)):
        exact, layers = _exact(network, a, b), relu_layers(network)
        if exact is not None:
            found[k] = exact
        elif layers is not None:
            shape = (layers[0][0].shape[1], *(len(bias) for _, bias in layers))
            stacks.setdefault(shape, []).append((k, layers))
        else:
            found[k] = GraphPlanes(network, a, b)
    for group in stacks.values():
        which = [k for k, _ in group]
        chains = chain_planes(
            [networks[k] for k in which],
            [layers for _, layers in group],
            np.stack([boxes[k][0] for k in which]),
            np.stack([boxes[k][1] for k in which]),
        )
        found.update(zip(which, chains))
    covers: dict[tuple[str, bytes, bytes], Cover] = {}
    return [_with_cover(found[k], covers) for k in range(len(networks))]


def _with_cover(
    planes: BoxPlanes, covers: dict[tuple[str, bytes, bytes], Cover]
) -> BoxPlanes:
    """Networks of few inputs that are no curves or polygons get a cover."""
    if isinstance(planes, (CurvePlanes, PolygonPlanes)):
        return planes
    few = np.count_nonzero(planes.low < planes.high) <= COVERS.most_inputs
    many = most_leaves(planes.network) >= COVERS.fewest
    if not (few and many):
        return planes
    key = planes.network.fingerprint, planes.low.tobytes(), planes.high.tobytes()
    return CoverPlanes(planes, covers.setdefault(key, Cover(planes)))


def _exact(network: Network, low: np.ndarray, high: np.ndarray) -> BoxPlanes | None:
    """A network of one or two free inputs by its pieces, if there are few."""
    free = np.count_nonzero(low < high)
    if free > 2 or not is_continuous_and_piecewise_linear(network):
        return None
    try:
        if free < 2:
            curves = proved_curves(network, low, high, most=SETTINGS.most_pieces)
            return CurvePlanes(network, low, high, curves)
        most = SETTINGS.most_polygons
        return PolygonPlanes(network, linear_regions(network, low, high, max_regions=most))
    except (TooManyRegionsError, TooRoughError):
        return None


def planes_over(boxes: Sequence[Asked]) -> list[Planes]:
    """:meth:`BoxPlanes.over` for many boxes; stacks are bounded at once.

    Parameters
    ----------
    boxes : sequence of Asked
    """
    found: list[Planes | None] = [None] * len(boxes)
    groups: dict[int, list[int]] = {}
    plain = [
        one.planes.inner(one) if isinstance(one.planes, CoverPlanes) else one
        for one in boxes
    ]
    for i, one in enumerate(plain):
        if isinstance(one.planes, ChainPlanes):
            groups.setdefault(id(one.planes.stack), []).append(i)
        else:
            found[i] = one.planes.over(one.low, one.high, one.stored, one.at, one.y)
    for where in groups.values():
        for i, planes in zip(where, over_together([plain[i] for i in where])):
            found[i] = planes
    return [
        one.planes.with_leaves(planes, one)
        if isinstance(one.planes, CoverPlanes)
        else planes
        for one, planes in zip(boxes, found)
        if planes is not None
    ]


def tighter_planes(boxes: Sequence[Asked], known: Sequence[Planes]) -> list[Planes]:
    """:meth:`BoxPlanes.tighter` for many boxes; stacks are gone through at once.

    Parameters
    ----------
    boxes : sequence of Asked
        Each with a point and the outputs that a solver has there.
    known : sequence of Planes
        What is known over each box.
    """
    found = list(known)
    groups: dict[int, list[tuple[int, Asked]]] = {}
    for i, one in enumerate(boxes):
        box = one.planes
        if not isinstance(box, ChainPlanes):
            found[i] = box.tighter(known[i], one.low, one.high, one.point, one.y)
        if isinstance(box, CoverPlanes) and found[i] is known[i]:
            box = box.plain  # over a box with few leaves
        if isinstance(box, ChainPlanes):
            groups.setdefault(id(box.stack), []).append((i, replace(one, planes=box)))
    for group in groups.values():
        own = [known[i] for i, _ in group]
        for (i, _), planes in zip(group, tighter_together([one for _, one in group], own)):
            found[i] = planes
    return found
