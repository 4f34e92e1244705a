"""`Points`: what a classifier is trained on, before equal points are merged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyomo_relu.training.family import Data, merged


@dataclass(frozen=True)
class Points:
    """Points with their classes.

    Attributes
    ----------
    x : (n, d) array
    codes : (n,) int array
        Numbers of the classes.
    bits : (n, outputs) array of 0 and 1
        What the outputs shall be: of two classes the second one's bit, else one each.
    weight : (n,) array or None
        What each point counts; None where all count 1.
    """

    x: np.ndarray
    codes: np.ndarray
    bits: np.ndarray
    weight: np.ndarray | None = None

    def part(self, some: np.ndarray | slice) -> Points:
        """The points with these numbers, of this slice or of this mask."""
        weight = None if self.weight is None else self.weight[some]
        return Points(self.x[some], self.codes[some], self.bits[some], weight)

    def pair(self, i: int, j: int) -> Points:
        """The points of two classes; their one bit is 1 for the second."""
        chosen = self.part((self.codes == i) | (self.codes == j))
        bits = (chosen.codes == j).astype(float).reshape(-1, 1)
        return Points(chosen.x, chosen.codes, bits, chosen.weight)

    def data(self) -> Data:
        """Equal points merged."""
        return merged(self.x, self.bits, weight=self.weight)


def bits_of(codes: np.ndarray, classes: int) -> np.ndarray:
    """The (n, outputs) bits of class numbers: one output for two classes."""
    if classes == 2:
        return codes.reshape(-1, 1).astype(float)
    return np.eye(classes)[codes]
