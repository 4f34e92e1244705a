"""Scholarships: which offers bring the most of the admitted students.

A network estimates the probability that a student enrols, from test score, grade and the
scholarship offered (in units of 10,000). One block for each student, of which two inputs
are data and one is the decision; a budget joins them all. After the student enrolment
notebook of gurobi-machinelearning and JANOS (Bergman et al., INFORMS J. on Computing
2022); data drawn here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyomo.environ as pyo

from pyomo_relu import ReLUNetBlock
from wired_models.networks import Surrogate


def _enrols(x: np.ndarray) -> np.ndarray:
    """Probability to enrol by (score, grade, scholarship)."""
    score, grade, merit = x.T
    logit = -1.2 + 1.9 * merit - 0.0045 * (score - 1200) - 1.6 * (grade - 3.0)
    return 1 / (1 + np.exp(-(logit + 0.5 * np.sin(3 * merit))))


ENROLS = Surrogate("student", _enrols, [900, 2.0, 0], [1600, 4.0, 2.5], (10, 10))


def scholarships(seed: int = 0, n: int = 250, **options: Any) -> pyo.ConcreteModel:
    """Scholarships for ``n`` students, 0.2 each on average."""
    rng = np.random.default_rng(seed)
    score = rng.normal(1200, 130, n).clip(900, 1600).tolist()
    grade = rng.normal(3.1, 0.4, n).clip(2, 4).tolist()

    m = pyo.ConcreteModel("scholarships")
    m.students = pyo.RangeSet(0, n - 1)
    m.merit = pyo.Var(m.students, bounds=(0, 2.5))
    m.enrols = ReLUNetBlock(
        m.students,
        network=ENROLS.network,
        inputs=lambda m, i: [score[i], grade[i], m.merit[i]],
        **options,
    )
    m.budget = pyo.Constraint(expr=pyo.quicksum(m.merit.values()) <= 0.2 * n)
    m.class_size = pyo.Objective(
        expr=pyo.quicksum(m.enrols[i].outputs[0] for i in m.students), sense=pyo.maximize
    )
    return m
