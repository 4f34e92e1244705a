"""Which binaries choose the drivers of a model's networks, by its rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyomo_relu.presolve.problem import Problem
from pyomo_relu.presolve.values import find_values


@dataclass(frozen=True, eq=False)
class Choice:
    """Binaries of which at most one is 1, and the drivers that they determine.

    Attributes
    ----------
    columns : (s,) int array
        Columns of the binaries.
    exactly : bool
        Whether one of them is 1 in every feasible point.
    drivers : (d,) int array
        Columns of the drivers that have no other freedom.
    values : (s, d) array
        What the drivers are while a binary is 1.
    none : (d,) array
        What they are while all binaries are 0.
    """

    columns: np.ndarray
    exactly: bool
    drivers: np.ndarray
    values: np.ndarray
    none: np.ndarray


def find_choices(problem: Problem) -> list[Choice]:
    """The choices that determine drivers, each binary in one choice at most.

    A driver that several choices determine together is left out.
    """
    p, found = problem, []
    known = find_values(p, p.lower, p.upper)
    drivers: dict[int, list[int]] = {}
    for j in range(p.n):
        if j in known.by_choice and p.lower[j] < p.upper[j]:
            drivers.setdefault(known.by_choice[j].choice, []).append(j)
    for number, own in drivers.items():
        one = known.choices[number]
        ways = [known.by_choice[j] for j in own]
        none = np.array([way.constant for way in ways])
        values = none + np.column_stack([way.weights for way in ways])
        found.append(Choice(one.columns, one.exactly, np.array(own), values, none))
    return found
