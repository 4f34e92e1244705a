"""Subproblems of a chain: which sides they fix, and their bounds before and after an ascent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pyomo_relu.bounds.ascent import Pace
from pyomo_relu.bounds.linear import Lines

if TYPE_CHECKING:
    from pyomo_relu.sides.relu_chain import ReluChain


@dataclass(frozen=True)
class Settings:
    """What steers the search over sides; all numbers were chosen by hand.

    Attributes
    ----------
    pace : Pace
        What steers the ascent; its rates are those of slopes, of multipliers of sides and
        of further multipliers.
        They suit objectives as large as outputs are. (A random 8-12-12-1 with a tenth of an
        input in its cost keeps its bound, -0.0253 of 0.0288, from the 31st to the 154,000th
        subproblem: where all that is left of the cost is that tenth, the multipliers of
        sides that would raise it are smaller than any step. Tried: children that
        begin with their parent's lines, and forty steps a quarter as long after each ascent
        that gains less than 1 % of what is missing. The bound is at 0.0155 after 9,400
        subproblems and 2 CPU seconds so, but nearly all ascents gain less than that where
        all is well: a 10-30-30-1, proved in 1.6 CPU seconds, is open after 4.1. Parents'
        lines alone, or shorter steps without more of them, leave it at or below -0.016.)
    first, later : int
        The points tried for the whole box, and for a child that begins with the slopes
        and multipliers of its parent.
    surely : float
        A bound in single precision that exceeds its target by this share needs no
        further ascent.
    candidates : int
        The neurons that each of two scores proposes for a split.
    batch : int
        The subproblems that are split in a round.
    chunk : int
        So many of them are split in one NumPy batch, which is one task of an executor; fixed,
        so that results don't depend on the workers. (On 10-30-30-1 a child costs 44
        microseconds of CPU time with 128, 53 with 64, 78 with 32.)
    most_bytes : float
        From so many bytes on the last subproblems are split first, which frees memory.
    price : float
        What violating the sides of a decided subproblem by one costs, relative to the
        size of the objective.
    """

    pace: Pace = Pace((0.15, 0.08, 0.1), 0.93, mean=0.9, square=0.99, crowd=0.75)
    first: int = 60
    later: int = 12
    surely: float = 1e-4
    candidates: int = 3
    batch: int = 64
    chunk: int = 128
    most_bytes: float = 4e8
    price: float = 1e4


@dataclass
class Sides:
    """What N subproblems fix, as (N, count) arrays.

    Attributes
    ----------
    fixed
        1 active, -1 inactive, 0 open.
    open
        Neurons that neither the sides nor the bounds decide.
    upper, const
        The chord above each open neuron; the slope of each decided one, and 0.
    """

    fixed: np.ndarray
    open: np.ndarray
    upper: np.ndarray
    const: np.ndarray

    def take(self, keep: np.ndarray) -> Sides:
        """The subproblems ``keep``."""
        return Sides(self.fixed[keep], self.open[keep], self.upper[keep], self.const[keep])


@dataclass
class Below:
    """Linear functions of the inputs below rows of N subproblems.

    Attributes
    ----------
    slopes, const, error : (N, n_inputs), (N,) and (N,) arrays
        The functions ``slopes @ x + const``, less what rounding may be.
    posts : (N, count) array
        The coefficients of the activations.
    lines, trace : dict
        What the backward pass had, and what it left there.
    """

    slopes: np.ndarray
    const: np.ndarray
    error: np.ndarray
    posts: np.ndarray
    lines: dict[int, Lines]
    trace: dict[int, np.ndarray]


@dataclass
class Ascended:
    """Subproblems after an ascent.

    Attributes
    ----------
    value : (N,) array
        Valid lower bounds.
    alpha, beta, posts : (N, count) arrays
        The slopes and multipliers, and the coefficients of the activations.
    corners : (N, n_inputs) array
        Where the bounds are attained.
    extra : (N, extras) array
        Further multipliers.
    """

    value: np.ndarray
    alpha: np.ndarray
    beta: np.ndarray
    posts: np.ndarray
    corners: np.ndarray
    extra: np.ndarray


class SideAscent:
    """The ascent of subproblems, as :func:`~pyomo_relu.bounds.ascent.ascend` sees it.

    A point has slopes (N, count), multipliers of sides (N, count) and further ones.

    Parameters
    ----------
    chain : ReluChain
        In single precision.
    sides : Sides
        In single precision.
    """

    def __init__(self, chain: ReluChain, sides: Sides) -> None:
        self.chain, self.sides = chain, sides

    def bounds(self, point: Sequence[np.ndarray]) -> np.ndarray:
        """Not rigorous."""
        alpha, beta, extra = point
        value, self.below = self.chain.backward(self.sides, alpha, beta, extra, False)
        return value

    def gradients(self, point: Sequence[np.ndarray]) -> list[np.ndarray]:
        """By all slopes and multipliers."""
        return self.chain.gradients(self.sides, self.below, point[2])

    def keep(self, left: np.ndarray) -> None:
        """Go on with these subproblems."""
        self.sides, old = self.sides.take(left), self.below
        lines = {
            i: replace(
                x,
                lower_slope=x.lower_slope[left],
                upper_slope=x.upper_slope[left],
                upper_const=x.upper_const[left],
            )
            for i, x in old.lines.items()
        }
        trace = {i: a[left] for i, a in old.trace.items()}
        a, c, e, posts = (x[left] for x in (old.slopes, old.const, old.error, old.posts))
        self.below = Below(a, c, e, posts, lines, trace)

    def project(self, point: Sequence[np.ndarray]) -> None:
        """Slopes are between 0 and 1, multipliers of sides are not negative."""
        slopes, multipliers, extra = point
        np.clip(slopes, 0.0, 1.0, out=slopes)
        np.maximum(multipliers, 0.0, out=multipliers)
        extra[...] = self.chain.valid_extra(extra)
