"""The mixed-integer program of the closest image that obeys a rule.

Source: Fischetti and Jo, Constraints 23(3), 2018, section 4 (the ``l1`` model); Tjeng
et al., arXiv 1711.07356 (``linf``, and the domain restricted to what may be closest).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyomo.environ as pyo

from pyomo_relu.adversarial.decision import Decision
from pyomo_relu.adversarial.nearest_settings import NEAREST
from pyomo_relu.block import ReLUNetBlock
from pyomo_relu.verification.model_parts import input_values, input_variables

NORMS = ("l1", "linf", "l0")


def distance(norm: str, original: np.ndarray, x: np.ndarray) -> float:
    """The distance of an image from the original in one of :data:`NORMS`."""
    d = abs(x - original)
    if norm == "l0":
        return float((d > NEAREST.changed).sum())
    return float(d.sum() if norm == "l1" else d.max(initial=0.0))


class DistanceProgram:
    """Minimize the distance over a box, subject to a rule about the outputs.

    Parameters
    ----------
    low, high : (n_inputs,) arrays
        The box, the original inside.
    radius : float, optional
        Nothing farther is looked at.
    winners : sequence of int, optional
        Classes that may win; the decision's if left out.
    block : dict, optional
        Keywords of :class:`pyomo_relu.ReLUNetBlock`.

    Attributes
    ----------
    model : ConcreteModel
        With the inputs ``x`` and the network ``net``.
    """

    def __init__(
        self,
        decision: Decision,
        norm: str,
        low: np.ndarray,
        high: np.ndarray,
        radius: float | None = None,
        winners: Sequence[int] | None = None,
        block: dict[str, Any] | None = None,
    ) -> None:
        self.decision, self.norm, self.original = decision, norm, decision.original
        self.winners = list(decision.winners if winners is None else winners)
        x0 = self.original
        if radius is not None and norm != "l0":
            # No pixel moves further than the radius.
            low, high = np.maximum(low, x0 - radius), np.minimum(high, x0 + radius)
        self.model = m = pyo.ConcreteModel()
        input_variables(m, low, high)
        length = {"l1": self._l1, "linf": self._linf, "l0": self._l0}[norm](m, low, high)
        if radius is not None:
            m.near = pyo.Constraint(expr=length <= radius)
        m.net = ReLUNetBlock(network=decision.network, inputs=m.x, **(block or {}))
        m.distance = pyo.Objective(expr=length)
        self._rule(m)

    # --------------------------------------------------------------------------- norms
    def _l1(self, m: pyo.ConcreteModel, low: np.ndarray, high: np.ndarray) -> Any:
        """One more variable only for pixels that can move both ways."""
        x0 = self.original
        both = np.flatnonzero((low < x0) & (x0 < high)).tolist()
        m.up = pyo.Var(both, bounds=lambda m, i: (0.0, high[i] - x0[i]))
        m.above = pyo.Constraint(both, rule=lambda m, i: m.up[i] >= m.x[i] - x0[i])
        terms = []
        for i, v in m.x.items():
            if i in m.up:
                terms += [x0[i] - v, 2.0 * m.up[i]]  # up, and up less what it rose
            elif high[i] > low[i]:
                terms.append(v - x0[i] if x0[i] <= low[i] else x0[i] - v)
        return pyo.quicksum(terms)

    def _linf(self, m: pyo.ConcreteModel, low: np.ndarray, high: np.ndarray) -> Any:
        x0, n = self.original, range(len(low))
        m.change = pyo.Var(
            bounds=(0, float(np.maximum(high - x0, x0 - low).max(initial=0.0)))
        )
        m.above = pyo.Constraint(n, rule=lambda m, i: m.change >= m.x[i] - x0[i])
        m.below = pyo.Constraint(n, rule=lambda m, i: m.change >= x0[i] - m.x[i])
        return m.change

    def _l0(self, m: pyo.ConcreteModel, low: np.ndarray, high: np.ndarray) -> Any:
        x0, up, down = self.original, high - self.original, self.original - low
        n = range(len(low))
        m.changed = pyo.Var(n, domain=pyo.Binary)
        m.above = pyo.Constraint(
            n, rule=lambda m, i: m.x[i] - x0[i] <= up[i] * m.changed[i]
        )
        m.below = pyo.Constraint(
            n, rule=lambda m, i: x0[i] - m.x[i] <= down[i] * m.changed[i]
        )
        return pyo.quicksum(m.changed.values())

    def _rule(self, m: pyo.ConcreteModel) -> None:
        """Some class wins: one binary for each where there are several."""
        y_low, y_high = m.net.bounds.outputs
        m.rule = pyo.ConstraintList()
        several = len(self.winners) > 1
        if several:
            m.winner = pyo.Var(self.winners, domain=pyo.Binary)
            m.one = pyo.Constraint(expr=pyo.quicksum(m.winner.values()) == 1)
        for w in self.winners:
            a, b = self.decision.rows(w, self.decision.margin)
            for row, limit in zip(a, b):
                left = sum(c * m.net.outputs[k] for k, c in enumerate(row.tolist()) if c)
                worst = float(np.where(row > 0, row * y_high, row * y_low).sum())
                excess = max(0.0, worst - limit) * (1.0 + 1e-9) + 1e-9
                free = excess * (1 - m.winner[w]) if several else 0.0
                m.rule.add(left <= limit + free)

    # -------------------------------------------------------------------------- values
    def set_point(self, x: np.ndarray) -> None:
        """Give the variables of the user's side the values of an image."""
        m, d = self.model, (x - self.original).tolist()
        values = list(zip(m.x.values(), x.tolist()))
        if self.norm == "l1":
            values += [(v, max(0.0, d[i])) for i, v in m.up.items()]
        elif self.norm == "l0":
            values += [(v, int(d[i] != 0)) for i, v in m.changed.items()]
        else:
            values.append((m.change, max(map(abs, d), default=0.0)))
        if len(self.winners) > 1:
            best = self.decision.winner(x)
            values += [(v, int(w == best)) for w, v in m.winner.items()]
        for v, value in values:
            v.set_value(value, skip_validation=True)

    def point(self) -> np.ndarray | None:
        """The image that the variables hold, within its bounds; None without values."""
        return input_values(self.model)
