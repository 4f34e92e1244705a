r"""Curves: the outputs of a network of one free input, by their pieces.

Over an interval of its only free input :math:`x` a network without steps is affine on
finitely many intervals, and each output is a curve of few pieces,

.. math:: y_j = a_{jp} x + c_{jp} \quad\text{for}\quad t_{j,p} \le x \le t_{j,p+1}

however many neurons there are. Breakpoints are found by splitting the interval
(:func:`~pyomo_relu.bounds.plane_regions.linear_regions`), so they are as exact as
float64 numbers are; how far the curve through the computed values at the breakpoints may be
from the network is proved afterwards (:mod:`~pyomo_relu.bounds.region_errors`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pyomo_relu.base.rounding import EPS
from pyomo_relu.bounds.plane_regions import (
    LinearRegions,
    TooManyRegionsError,
    linear_regions,
)
from pyomo_relu.bounds.region_errors import map_errors
from pyomo_relu.network import Network, PiecewiseLinear


@dataclass(frozen=True)
class CurveSettings:
    """What curves are; numbers chosen by hand where no measurement is named.

    Attributes
    ----------
    same : float
        Slopes of neighbours count as the same where going on with the first one changes
        an output by at most this share of its largest absolute value: far above rounding
        and far below any solver's tolerance.
    most_off : float
        A curve that may be off by more than this share of an output's largest absolute
        value is none.
    """

    same: float = 1e-12
    most_off: float = 1e-6


SETTINGS = CurveSettings()


class Curves:
    """Curves of one free input, by pieces of each output.

    Parameters
    ----------
    low, high : float
        Ends of the interval.
    breakpoints, slopes, intercepts : sequences of arrays
        Of each output; one breakpoint less than there are slopes.
    """

    def __init__(
        self,
        low: float,
        high: float,
        breakpoints: Sequence[np.ndarray],
        slopes: Sequence[np.ndarray],
        intercepts: Sequence[np.ndarray],
    ) -> None:
        self.low, self.high = low, high
        self.breakpoints = breakpoints
        self.slopes, self.intercepts = slopes, intercepts

    @property
    def n_pieces(self) -> int:
        """Pieces that all outputs have in common."""
        return len(np.unique(np.concatenate([*self.breakpoints, [self.low]])))

    @property
    def ends(self) -> np.ndarray:
        """The breakpoints of all outputs and both ends, in increasing order."""
        return np.unique(np.concatenate([[self.low, self.high], *self.breakpoints]))

    def values(self, at: np.ndarray) -> np.ndarray:
        """(N, n_outputs) values at N points."""
        found = []
        for t, a, c in zip(self.breakpoints, self.slopes, self.intercepts):
            p = np.searchsorted(t, at, side="right")
            found.append(a[p] * at + c[p])
        return np.column_stack(found)


def pieces_of_outputs(
    regions: LinearRegions,
) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Breakpoints, slopes and intercepts of each output, neighbours of one slope joined."""
    network, lower, upper = regions.network, regions.lower, regions.upper
    first = network.evaluate(lower)
    if not len(regions.free):
        none = np.zeros(0)
        return [none] * len(first), [np.zeros(1)] * len(first), [*first[:, None]]
    ends = np.array([regions.cells.points(r)[:, 0] for r in range(len(regions.cells))])
    order = np.argsort(ends.min(axis=1), kind="stable")
    starts = ends.min(axis=1)[order]
    maps = [regions.output_map(int(r)) for r in order]
    gradients = np.array([g[:, 0] for g, _ in maps])
    size = np.maximum(np.abs(regions.output_values()).max(axis=0), 1e-300)
    length = upper[regions.free[0]] - lower[regions.free[0]]
    breakpoints, slopes, intercepts = [], [], []
    for j in range(network.n_outputs):
        at, a = [], [gradients[0, j]]
        c = [first[j] - a[0] * starts[0]]
        for t, slope in zip(starts[1:], gradients[1:, j]):
            if abs(slope - a[-1]) * length <= SETTINGS.same * size[j]:
                continue
            at.append(t)
            c.append(c[-1] + (a[-1] - slope) * t)
            a.append(slope)
        breakpoints.append(np.array(at))
        slopes.append(np.array(a))
        intercepts.append(np.array(c))
    return breakpoints, slopes, intercepts


@dataclass(frozen=True)
class ProvedCurves:
    """Curves through computed values, and how far the network may be from them.

    Attributes
    ----------
    free : int
        The free input; 0 if there is none.
    at : (k,) array
        The breakpoints of all outputs, with both ends, in increasing order.
    values : (k, q) array
        The network there.
    own : list of int arrays
        Which of the breakpoints each output has, with both ends.
    margin : (q,) array
        No output is farther from the line between two of its neighbouring breakpoints.
    """

    free: int
    at: np.ndarray
    values: np.ndarray
    own: list[np.ndarray]
    margin: np.ndarray


def proved_curves(
    network: Network,
    lower: ArrayLike,
    upper: ArrayLike,
    *,
    most: int,
    most_off: float = SETTINGS.most_off,
) -> ProvedCurves:
    """The curves of a network of at most one free input, without steps.

    Parameters
    ----------
    network : Network
    lower, upper : (n_inputs,) arrays
        At most one input has ``lower < upper``.
    most : int
        Linear regions that the network may have.
    most_off : float
        Rounding may move an output by this share of its largest absolute value.

    Raises
    ------
    TooManyRegionsError
        If there are more, or where rounding may move an output farther.
    ValueError
        For a network with steps, or several free inputs.
    """
    if np.count_nonzero(
        np.less(lower, upper)
    ) > 1 or not is_continuous_and_piecewise_linear(network):
        raise ValueError("curves are of networks of one free input, without steps.")
    regions = linear_regions(network, lower, upper, max_regions=most)
    low, high = regions.lower, regions.upper
    free = int(regions.free[0]) if len(regions.free) else 0
    curves = Curves(float(low[free]), float(high[free]), *pieces_of_outputs(regions))
    at = curves.ends
    points = np.tile(low, (len(at), 1))
    points[:, free] = at
    values = network.evaluate(points)
    both = np.array([0, len(at) - 1])
    own = [np.union1d(both, np.searchsorted(at, t)) for t in curves.breakpoints]
    for j, at_j in enumerate(own):
        # Where another output bends, this one's line between its own breakpoints counts.
        values[:, j] = np.interp(at, at[at_j], values[at_j, j])
    size = np.maximum(abs(values).max(axis=0), 1e-300)
    # Breakpoints are ends of cells, so the curve and the maps are farthest apart at an end.
    x = regions.cells.vertices[:, 0] if len(regions.free) else np.full(1, at[0])
    drawn = np.column_stack([np.interp(x, at, column) for column in values.T])
    apart = abs(drawn - regions.output_values()).max(axis=0)
    margin = map_errors(regions) + apart + 16.0 * EPS * size
    if (margin > most_off * size).any():
        raise TooManyRegionsError("rounding may move the curve too far.")
    return ProvedCurves(free, at, values, own, margin)


def is_continuous_and_piecewise_linear(network: Network) -> bool:
    """Whether no neuron has a step, and none is smooth."""
    return not network.smooth_layers and all(
        node.is_continuous for node in network.nodes if isinstance(node, PiecewiseLinear)
    )
