"""What is trained on what: the family of networks, the data, and the separation eps."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pyomo_relu.training.norms import DUAL_NORMS

#: Feasibility tolerance of the MIP solvers that a separation must dominate.
TOLERANCE = 1e-6

#: A separation is refused below this multiple of big-M times the tolerance ...
DOMINANCE = 10.0

#: ... and chosen at this multiple, but not below ``LEAST``.
CHOSEN, LEAST = 20.0, 1e-4


@dataclass(frozen=True)
class Family:
    """The networks among which the best is looked for.

    Attributes
    ----------
    hidden : tuple of int
        Neurons of the hidden layers.
    outputs : int
    activation : {'step', 'sign'}
    bound : float
        Weights lie in [-bound, bound].
    integer : bool
        Whether weights are integers.
    thresholds : {'neuron', 'layer', 'none'}
        One bias for each neuron, one for each layer, or none.
    bias_bound : float or None
        Biases lie in [-bias_bound, bias_bound]; None for a box that loses nothing.
    integer_bias : bool
        Whether biases are integers even where inputs are not. Where the weighted sums
        are integers they are integers anyway, which loses nothing.
    robust : (str, float) or None
        Norm and radius of the ball around each point on which the activations of the
        first layer must not change.
    eps : float or None
        Separation of on from off where sums are not integers; None to choose it.
    """

    hidden: tuple[int, ...]
    outputs: int
    activation: str = "step"
    bound: float = 1.0
    integer: bool = False
    thresholds: str = "neuron"
    bias_bound: float | None = None
    integer_bias: bool = False
    robust: tuple[str, float] | None = None
    eps: float | None = None

    @property
    def depth(self) -> int:
        """Number of layers with weights."""
        return len(self.hidden) + 1

    def sizes(self, n_inputs: int) -> tuple[int, ...]:
        """Inputs, hidden neurons, outputs."""
        return (n_inputs, *self.hidden, self.outputs)


@dataclass(frozen=True)
class Data:
    """Training points; equal ones are merged by :func:`merged`.

    Attributes
    ----------
    x : (n, d) array
    bits : (n, outputs) array of 0 and 1
        What the outputs shall be.
    count : (n,) array
        How often each point occurs.
    cell : (n,) int array
        Points of one cell share their activations.
    """

    x: np.ndarray
    bits: np.ndarray
    count: np.ndarray
    cell: np.ndarray

    @property
    def n_cells(self) -> int:
        """Number of cells; every one has a point."""
        return int(self.cell.max()) + 1

    def with_x(self, x: np.ndarray) -> Data:
        """The same labels on other points."""
        return Data(x, self.bits, self.count, self.cell)


def merged(x: np.ndarray, bits: np.ndarray, cell: np.ndarray | None = None) -> Data:
    """Merge equal points with equal labels (and cells).

    Without ``cell``, equal points share a cell: their activations are equal anyway.
    """
    if cell is None:
        _, cell = np.unique(x, axis=0, return_inverse=True)
    else:
        _, cell = np.unique(cell, return_inverse=True)
    cell = np.asarray(cell).reshape(-1)
    whole = np.column_stack([x, bits, cell])
    _, first, count = np.unique(whole, axis=0, return_index=True, return_counts=True)
    order = np.argsort(first)
    first, count = first[order], count[order]
    return Data(x[first], bits[first], count.astype(float), cell[first])


def is_integral(array: np.ndarray) -> bool:
    """Whether all entries are integers that float64 sums exactly."""
    return bool((array == np.round(array)).all() and np.abs(array).max(initial=0) < 2**40)


@dataclass(frozen=True)
class Levels:
    """``pre >= on`` where a neuron is on, ``pre <= -off`` where it is off."""

    on: float
    off: float
    exact: bool = field(default=False)


def levels(family: Family, exact: bool, big_m: float, layer: int) -> Levels:
    """The levels of a layer whose largest big-M is given.

    Sums of integers are exact: on is ``>= 0`` and off ``<= -1``. Else both sides keep
    eps/2 away from 0, so that a solver's tolerance moves no neuron across; eps must
    dominate big-M times the tolerance.

    Raises
    ------
    ValueError
        If the given eps is too small for the big-M.
    """
    if exact:
        return Levels(0.0, 1.0, True)
    least = DOMINANCE * big_m * TOLERANCE
    eps = family.eps
    if eps is None:
        eps = max(LEAST, CHOSEN * big_m * TOLERANCE)
    elif eps < least:
        raise ValueError(
            f"eps={eps:g} is below {DOMINANCE:g} x big-M x tolerance = {least:.2g} in "
            f"layer {layer + 1} (big-M {big_m:.4g}): a neuron could be on and off. Scale "
            "the features to [0, 1], or give a larger eps."
        )
    return Levels(eps / 2.0, eps / 2.0)


def robust_radius(family: Family) -> tuple[str, float]:
    """The dual norm of the weights and the radius; radius 0 without robustness."""
    if family.robust is None:
        return "l1", 0.0
    norm, radius = family.robust
    return DUAL_NORMS[norm], float(radius)
