"""What is known of networks over boxes, and their planes as rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyomo_relu.bounds.planes import Asked, Planes


@dataclass(frozen=True)
class Held:
    """What is known of one network over one box.

    Attributes
    ----------
    slopes : (R, width) array
    constant, sign : (R,) arrays
    limit : (R,) array
        The range of each row's output over the box, 0 where the network is affine.
    y : (R,) int array
        The output, among all variables.
    planes : Planes
    low, high : (width,) arrays
        The box.
    sides : (s,) int array
        For each neuron that the first box leaves undecided 1 or -1 where its side is given.
    side_rows : (S, n + 1) array
        The last S rows: what inputs obey that are on these sides.
    empty : bool
        Whether no point of the box is.
    """

    slopes: np.ndarray
    constant: np.ndarray
    sign: np.ndarray
    limit: np.ndarray
    y: np.ndarray
    planes: Planes
    low: np.ndarray
    high: np.ndarray
    sides: np.ndarray
    side_rows: np.ndarray
    empty: bool


@dataclass(frozen=True)
class Rows:
    """The planes of some networks, one after another; those of sides, whose output is 0.

    Attributes
    ----------
    which : (F,) int array
        The networks.
    starts : (F,) int array
        The first row of each.
    of : (R,) int array
        The network of each row, as its position in ``which``.
    x_low, x_high : (F, width) arrays
        The boxes.
    y_low, y_high : (Y,) arrays
        Bounds of all outputs of these networks.
    y_all : (Y,) int array
        Which variables these are.
    limits : (R,) array
        The range of each row's output, 0 where the network is affine.
    empty : bool
        Whether a network has no point with the sides that are given.
    """

    which: np.ndarray
    starts: np.ndarray
    of: np.ndarray
    slopes: np.ndarray
    constant: np.ndarray
    sign: np.ndarray
    y: np.ndarray
    x_low: np.ndarray
    x_high: np.ndarray
    y_low: np.ndarray
    y_high: np.ndarray
    y_all: np.ndarray
    limits: np.ndarray
    empty: bool


@dataclass(frozen=True)
class Wanted:
    """A box of a network that is asked about, see :class:`Held`."""

    k: int
    asked: Asked
    low: np.ndarray
    high: np.ndarray
    sides: np.ndarray
    empty: bool
