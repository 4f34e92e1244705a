"""Runs CP-SAT on an integer program in a file; a process of its own.

OR-Tools and highspy each bring HiGHS along, and a process that has one of them loaded
can't always load the other. Nothing of pyomo_relu is imported here.

``python cp_sat_worker.py program.npz answer.npz``
"""

from __future__ import annotations

import json
import sys

import numpy as np
from ortools.sat.python import cp_model


def main(source: str, target: str) -> None:
    """Read the program, solve it, write status, objective, bound and values."""
    with np.load(source, allow_pickle=False) as data:
        d = {key: data[key] for key in data.files}
    model = cp_model.CpModel()
    columns = [
        model.new_int_var(int(lo), int(hi), f"x{j}")
        for j, (lo, hi) in enumerate(zip(d["lower"], d["upper"]))
    ]
    for r, (low, high) in enumerate(zip(d["row_lower"], d["row_upper"])):
        part = slice(d["indptr"][r], d["indptr"][r + 1])
        body = cp_model.LinearExpr.weighted_sum(
            [columns[j] for j in d["indices"][part]], [int(a) for a in d["data"][part]]
        )
        model.add_linear_expression_in_domain(body, cp_model.Domain(int(low), int(high)))
    used = np.flatnonzero(d["cost"])
    model.minimize(
        cp_model.LinearExpr.weighted_sum(
            [columns[j] for j in used], [int(c) for c in d["cost"][used]]
        )
    )
    for j, x in enumerate(d["hint"]):
        if np.isfinite(x):
            model.add_hint(columns[j], round(float(x)))
    solver = cp_model.CpSolver()
    for key, setting in json.loads(str(d["parameters"])).items():
        setattr(solver.parameters, key, setting)
    code = solver.solve(model)
    names = {cp_model.OPTIMAL: "optimal", cp_model.FEASIBLE: "time_limit"}
    names[cp_model.INFEASIBLE] = "infeasible"
    status = names.get(code, "nothing")
    found = status in ("optimal", "time_limit")
    np.savez(
        target,
        status=np.array(status),
        objective=solver.objective_value if found else np.inf,
        bound=solver.best_objective_bound,
        values=np.array([solver.value(c) for c in columns] if found else [], dtype=float),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
