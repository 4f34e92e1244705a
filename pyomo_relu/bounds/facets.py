"""Facets of the convex hulls of graphs of piecewise-linear functions over intervals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pyomo_relu.bounds.linear import Segments, support


@dataclass(frozen=True)
class FacetSettings:
    """What counts as a facet; chosen by hand. Any line is valid, so this may be rough."""

    #: Steepest line between two ends of a graph that becomes a facet.
    steepest: float = 1e7
    #: Relative difference of slopes up to which two facets are the same.
    same_slope: float = 1e-12
    #: Relative distance up to which a line touches a graph, and so may be a facet.
    touching: float = 1e-9


SETTINGS = FacetSettings()


def facets(ends: Segments) -> Iterator[tuple[float, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield ``sign, units, s, c``: ``sign * y >= s x + c`` is a facet of each unit's hull.

    Parameters
    ----------
    ends : Segments
        The ends over one box, so that their arrays are (P, 1, size).
    """
    for sign in (1.0, -1.0):
        seen: list[np.ndarray] = []
        for i in range(len(ends.x)):
            for j in range(i + 1, len(ends.x)):
                s, const, ok = _lines(ends, i, j, sign, seen)
                if ok.any():
                    seen.append(np.where(ok, s, np.nan))
                    k = np.flatnonzero(ok)
                    yield sign, k, s[k], const[k]


def _lines(
    ends: Segments, i: int, j: int, sign: float, seen: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lines through two ends: slopes, constants, and where they are new facets."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        s = sign * (ends.y[j] - ends.y[i]) / (ends.x[j] - ends.x[i])
    s = np.where(ends.x[j] > ends.x[i], s, np.nan)[0]
    ok = ends.inside[i, 0] & ends.inside[j, 0] & (abs(s) < SETTINGS.steepest) & (s != 0)
    for other in seen:
        ok &= ~(abs(s - other) <= SETTINGS.same_slope * (1.0 + abs(s)))
    s = np.where(ok, s, 0.0)
    const = support(ends, s[None], sign)[0]
    gap = sign * ends.y[i, 0] - s * ends.x[i, 0] - const
    reach = np.where(ends.inside, abs(ends.y) + abs(s * ends.x), 0.0)
    return s, const, ok & (gap <= SETTINGS.touching * reach.max(axis=(0, 1)))
