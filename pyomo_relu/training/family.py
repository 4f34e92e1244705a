"""What is trained on what: the family of networks, the data, and the separation eps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyomo_relu.training.norms import DUAL_NORMS, dual_norm, largest


@dataclass(frozen=True)
class SeparationSettings:
    """How far apart on and off are; the factors were chosen by hand.

    Attributes
    ----------
    tolerance : float
        The feasibility tolerance of MIP solvers, absolute, which eps must dominate.
    dominance : float
        The multiple of big-M times the tolerance below which a given eps is refused.
    chosen : float
        The multiple at which eps is chosen where none is given.
    least : float
        The least eps that is chosen.
    """

    tolerance: float = 1e-6
    dominance: float = 10.0
    chosen: float = 20.0
    least: float = 1e-4


SEPARATION = SeparationSettings()


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

    @property
    def bias_limit(self) -> float | None:
        """Biases are within this; None where a box that loses nothing depends on data."""
        if self.bias_bound is None and self.thresholds == "layer":
            return self.bound
        return self.bias_bound

    @property
    def decisive_bias(self) -> float:
        """A bias that alone puts a neuron on one side, far from 0."""
        return 1.0 if self.bias_bound is None else self.bias_bound

    @property
    def radius(self) -> float:
        """Of the ball around each point; 0 without robustness."""
        return 0.0 if self.robust is None else float(self.robust[1])

    @property
    def dual(self) -> str:
        """The norm of weights that is dual to the ball's."""
        return "l1" if self.robust is None else DUAL_NORMS[self.robust[0]]

    def largest_spread(self, n_inputs: int) -> float:
        """The largest product of radius and dual norm of a first-layer neuron."""
        return (
            self.radius * largest(self.dual, n_inputs, self.bound) if self.radius else 0.0
        )

    def spread(self, weights: np.ndarray) -> np.ndarray | float:
        """Radius times the dual norm of each first-layer neuron's weights."""
        if self.robust is None:
            return 0.0
        return self.radius * dual_norm(weights, self.robust[0])

    def projected(
        self, weights: np.ndarray, bias: np.ndarray, whole_bias: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Weights and biases clipped to their boxes, and rounded where they are integers."""
        weights = np.clip(weights, -self.bound, self.bound)
        if self.bias_limit is not None:
            bias = np.clip(bias, -self.bias_limit, self.bias_limit)
        if self.integer_bias or whole_bias:
            bias = np.round(bias)
        return np.round(weights) if self.integer else weights, bias


@dataclass(frozen=True)
class Data:
    """Training points; equal ones are merged by :func:`merged`.

    Attributes
    ----------
    x : (n, d) array
    bits : (n, outputs) array of 0 and 1
        What the outputs shall be.
    count : (n,) array
        How often each point occurs, or the sum of its weights.
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


def merged(
    x: np.ndarray,
    bits: np.ndarray,
    cell: np.ndarray | None = None,
    weight: np.ndarray | None = None,
) -> Data:
    """Merge equal points with equal labels (and cells); their weights are added.

    Without ``cell``, equal points share a cell: their activations are equal anyway.
    Without ``weight`` each point counts once. Points come sorted, so that their order at
    first, and whether a point came twice or weighs two, is of no account.
    """
    if cell is None:
        _, cell = np.unique(x, axis=0, return_inverse=True)
    else:
        _, cell = np.unique(cell, return_inverse=True)
    cell = np.asarray(cell).reshape(-1)
    whole = np.column_stack([x, bits, cell])
    _, first, kind = np.unique(whole, axis=0, return_index=True, return_inverse=True)
    count = np.bincount(np.asarray(kind).reshape(-1), weights=weight, minlength=len(first))
    return Data(x[first], bits[first], count.astype(float), cell[first])


def is_integral(array: np.ndarray) -> bool:
    """Whether all entries are integers that float64 sums exactly."""
    return bool((array == np.round(array)).all() and np.abs(array).max(initial=0) < 2**40)


@dataclass(frozen=True)
class Levels:
    """``pre >= on`` where a neuron is on, ``pre <= -off`` where it is off."""

    on: float
    off: float


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
        return Levels(0.0, 1.0)
    least = SEPARATION.dominance * big_m * SEPARATION.tolerance
    eps = family.eps
    if eps is None:
        eps = max(SEPARATION.least, SEPARATION.chosen * big_m * SEPARATION.tolerance)
    elif eps < least:
        raise ValueError(
            f"eps={eps:g} is below {SEPARATION.dominance:g} x big-M x tolerance = {least:.2g} in "
            f"layer {layer + 1} (big-M {big_m:.4g}): a neuron could be on and off. Scale "
            "the features to [0, 1], or give a larger eps."
        )
    return Levels(eps / 2.0, eps / 2.0)
