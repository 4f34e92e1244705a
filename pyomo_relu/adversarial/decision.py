"""The rule that an adversarial image obeys: some class wins over others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pyomo_relu.adversarial.nearest_settings import NEAREST
from pyomo_relu.network import Network


class Decision:
    """When the network's decision about an image counts as changed.

    Parameters
    ----------
    original : (n_inputs,) array
    target : int or None
        The class that must win; None for any other than the label.
    label : int or None
        The class of the original; None for the network's decision.
    ratio : float or None
        The winner's output must be positive or zero and ``ratio`` times every other.
    margin : float
        Without a ratio, by how much the winner must exceed the others.

    Attributes
    ----------
    winners : list of int
        Classes that may win.
    beaten : dict from int to list of int
        Whom each of them has to beat.
    """

    def __init__(
        self,
        network: Network,
        original: np.ndarray,
        target: int | None = None,
        label: int | None = None,
        ratio: float | None = None,
        margin: float = 0.0,
    ) -> None:
        m = network.n_outputs
        if m < 2:
            raise ValueError("the network has one output; a decision needs two or more.")
        self.network, self.original = network, original
        decided = int(network.evaluate(original[None])[0].argmax())
        self.label = decided if label is None else int(label)
        for what, value in (("target", target), ("label", self.label)):
            if value is not None and not 0 <= value < m:
                raise ValueError(f"{what} {value} is not one of the {m} classes.")
        if target == self.label:
            raise ValueError(f"target {target} is the class of the original.")
        if ratio is not None and ratio <= 0:
            raise ValueError(f"ratio must be positive, but is {ratio}.")
        if margin < 0:
            raise ValueError(f"margin must not be negative, but is {margin}.")
        self.ratio, self.margin = ratio, margin
        others = np.delete(np.arange(m), self.label).tolist()
        self.winners = others if target is None else [target]
        # Untargeted, a winner only has to beat the label: the decision is another then.
        label_only = target is None and ratio is None
        self.beaten = {
            w: [self.label] if label_only else np.delete(np.arange(m), w).tolist()
            for w in self.winners
        }

    def rows(self, w: int, margin: float) -> tuple[np.ndarray, np.ndarray]:
        """``A y <= b``: class ``w`` wins."""
        beaten = self.beaten[w]
        k = len(beaten)
        a = np.zeros((k + (self.ratio is not None), self.network.n_outputs))
        a[:, w] = -1.0
        a[np.arange(k), beaten] = 1.0 if self.ratio is None else self.ratio
        return a, np.full(len(a), -margin if self.ratio is None else 0.0)

    def excess(
        self, y: np.ndarray, margin: float, winners: Sequence[int] | None = None
    ) -> np.ndarray:
        """How far outputs (N, m) violate the rule; not positive where some class wins."""
        found = []
        for w in self.winners if winners is None else winners:
            a, b = self.rows(w, margin)
            found.append((y @ a.T - b).max(axis=1))
        return np.min(found, axis=0)

    def slope(self, y: np.ndarray, margin: float) -> tuple[float, np.ndarray]:
        """The excess at outputs (m,), and its gradient in the outputs."""
        best, weights = np.inf, np.zeros(len(y))
        for w in self.winners:
            a, b = self.rows(w, margin)
            values = a @ y - b
            k = int(values.argmax())
            if values[k] < best:
                best, weights = float(values[k]), a[k]
        return best, weights

    def wins(self, x: np.ndarray, margin: float = 0.0) -> bool:
        """Whether the rule holds in a forward pass; a ratio up to its slack."""
        y = self.network.evaluate(x[None])
        slack = 0.0
        if self.ratio is not None:
            slack = NEAREST.ratio_slack * (1.0 + abs(y).max())
        return bool(self.excess(y, margin)[0] <= slack)

    def winner(self, x: np.ndarray) -> int:
        """The class that wins at an image, or comes nearest to it."""
        y = self.network.evaluate(x[None])
        return min(self.winners, key=lambda w: self.excess(y, self.margin, [w])[0])
