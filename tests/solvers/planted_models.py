"""Random models of every kind with a point that is known to be feasible."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyomo.environ as pyo

from pyomo_relu import ReLUNetBlock
from tests.harness.random_networks import CONTINUOUS, STEPS, random_network


@dataclass
class Planted:
    """A model, and a point of it.

    Attributes
    ----------
    m : ConcreteModel
        With the objective ``cost``.
    cost : float or None
        The objective at the point; None where the model may have none.
    nonlinear : bool
        Whether HiGHS can't take it.
    """

    m: pyo.ConcreteModel
    cost: float | None
    nonlinear: bool


class _Writer:
    """Writes one model around a point that it draws first."""

    def __init__(self, seed: int, formulation: str | None) -> None:
        self.rng = np.random.default_rng(seed)
        self.m = pyo.ConcreteModel()
        self.m.rows = pyo.ConstraintList()
        self.formulation = formulation
        self.nonlinear = False
        #: What rows and objective may read: variables with values.
        self.parts: list[Any] = []

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def number(self, low: float = -1.0, high: float = 1.0) -> float:
        return float(np.round(self.rng.uniform(low, high), 3))

    def variables(self) -> None:
        """Continuous ones in several units, integers, binaries, fixed and unbounded ones."""
        m, rng = self.m, self.rng
        n = int(rng.integers(1, 5))
        m.x, self.scale = pyo.Var(range(n)), []
        for j in m.x:
            scale = float(rng.choice([1.0, 1.0, 1.0, 100.0, 0.01]))
            low = self.number(-2, 0) * scale
            high = low + self.number(0.5, 3) * scale
            if self.chance(0.2):
                scale, low, high = 1.0, -2, int(rng.integers(-1, 4))
                m.x[j].domain = pyo.Integers
            m.x[j].setlb(low)
            m.x[j].setub(high)
            at = rng.choice([low, high]) if self.chance(0.2) else rng.uniform(low, high)
            m.x[j] = float(np.round(at)) if m.x[j].is_integer() else float(at)
            self.scale.append(scale)
            if self.chance(0.06):
                m.x[j].fix()
        m.k = pyo.Var(
            bounds=(-3, 3), domain=pyo.Integers, initialize=int(rng.integers(-3, 4))
        )
        m.on = pyo.Var(domain=pyo.Binary, initialize=int(rng.integers(2)))
        m.free = pyo.Var(initialize=self.number(-2, 2))
        self.parts += [*m.x.values(), m.k, m.on]

    def block(self, number: int, last: bool) -> None:
        """A network on variables, expressions, numbers or outputs of others."""
        rng, m = self.rng, self.m
        kinds = STEPS if self.chance(0.08) else CONTINUOUS
        plain = self.chance(0.6)
        count = int(rng.integers(1, 4))
        net = random_network(
            rng,
            n_inputs=count,
            widths=[int(rng.integers(2, 6)) for _ in range(int(rng.integers(1, 3)))],
            n_outputs=int(rng.integers(1, 3)),
            activations=["relu"] if plain else [str(rng.choice(kinds)) for _ in range(2)],
            max_pool=self.chance(0.1),
            residual=self.chance(0.1),
        )
        entries: list[Any] = []
        for _ in range(count):
            j = int(rng.integers(len(m.x)))
            entry = m.x[j] / self.scale[j] if self.scale[j] != 1.0 else m.x[j]
            if self.chance(0.1):
                entry = self.number()
            elif self.chance(0.15):
                entry = 0.5 * entry + 0.4 * m.on - 0.1
            elif self.chance(0.15) and self.outputs:
                entry = self.outputs[int(rng.integers(len(self.outputs)))]
            entries.append(entry)
        # Outputs that another network reads get their bounds from a formulation.
        formulation = self.formulation or (None if last else "bigm")
        block = ReLUNetBlock(network=net, inputs=entries, formulation=formulation)
        m.add_component(f"net{number}", block)
        point = [pyo.value(e) for e in entries]
        for y, value in zip(block.outputs.values(), net.evaluate(point)):
            y.set_value(float(value), skip_validation=True)
            self.outputs.append(y)

    def linear(self) -> Any:
        """A random linear expression of variables and outputs."""
        chosen = [v for v in [*self.outputs, *self.parts] if self.chance(0.5)]
        terms = [self.number() * v / self._size(v) for v in chosen or self.outputs[:1]]
        return pyo.quicksum(terms) + 0.0

    def _size(self, v: Any) -> float:
        if v.parent_component() is self.m.x:
            return self.scale[v.index()]
        return max(1.0, round(abs(pyo.value(v)), 1))

    def term(self) -> Any:
        """A random nonlinear term."""
        self.nonlinear = True
        m, y = self.m, self.outputs[int(self.rng.integers(len(self.outputs)))]
        j = int(self.rng.integers(len(m.x)))
        x, size = m.x[j] / self.scale[j], self._size(y)
        other = self.outputs[int(self.rng.integers(len(self.outputs)))]
        makers: list[Callable[[], Any]] = [
            lambda: x * y / size,
            lambda: y * other / (size * self._size(other)),
            lambda: m.on * y / size,
            lambda: (x - 0.3) ** 2,
            lambda: pyo.exp(0.5 * x),
            lambda: pyo.sin(x),
            lambda: m.k * x,
        ]
        return self.number() * makers[int(self.rng.integers(len(makers)))]()

    def rows(self, shares: tuple[float, float]) -> None:
        """Rows that the point satisfies, some with no room."""
        m = self.m
        for _ in range(int(self.rng.integers(0, 5))):
            e = self.linear()
            if self.chance(shares[0]):
                e = e + self.term()
            room = 0.0 if self.chance(0.3) else self.number(0, 1.5)
            at = pyo.value(e)
            kind = self.rng.random()
            if kind < 0.15:
                m.rows.add(e + m.free == at + pyo.value(m.free))
            elif kind < 0.3 and not isinstance(e, float):
                m.rows.add(e == at)
            elif kind < 0.45:
                m.rows.add(pyo.inequality(at - room, e, at + 0.5))
            elif kind < 0.7:
                m.rows.add(e <= at + room)
            else:
                m.rows.add(e >= at - room)
        if self.chance(0.25):  # an output in a circle, or that an input has to be
            j = int(self.rng.integers(len(m.x)))
            y = self.outputs[-1]
            w = self.number(0.1, 0.4) * self.scale[j] / self._size(y)
            shift = pyo.value(m.x[j] - w * y)
            if not m.x[j].fixed and not m.x[j].is_integer():
                m.rows.add(m.x[j] == w * y + shift)

    def write(self) -> Planted:
        """The whole model."""
        rng, m = self.rng, self.m
        self.outputs: list[Any] = []
        self.variables()
        count = int(rng.choice([1, 1, 2, 3]))
        for number in range(count):
            self.block(number, number + 1 == count)
        nonlinear = 0.4 if self.chance(0.5) else 0.0
        self.rows((nonlinear, 0.0))
        cost = self.linear() + 0.3 * m.k
        if nonlinear and self.chance(0.6):
            cost = cost + self.term()
        m.rows.add(pyo.inequality(-5, m.free, 5))
        cost = cost + 0.1 * m.free
        m.cost = pyo.Objective(
            expr=cost, sense=pyo.maximize if self.chance(0.5) else pyo.minimize
        )
        known: float | None = pyo.value(m.cost)
        if self.chance(0.15):  # likely more than is possible
            y = self.outputs[-1]
            away = self.number(0.5, 6) * self._size(y)
            m.rows.add(
                y >= pyo.value(y) + away if self.chance(0.5) else y <= pyo.value(y) - away
            )
            known = None
        return Planted(m, known, self.nonlinear)


def planted(seed: int, formulation: str | None = "bigm") -> Planted:
    """A random model; the same for every formulation, None only for its last network.

    One to three networks of all activations, chained, in circles, on inputs in units from
    0.01 to 100, on integers, expressions and numbers; rows with and without room at the
    planted point, equalities of outputs, products, squares, exponentials and sines in rows
    and objective; a seventh asks an output for more than it has at the point, and may be
    infeasible.
    """
    return _Writer(seed, formulation).write()
