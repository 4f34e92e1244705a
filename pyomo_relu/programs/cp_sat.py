"""Programs in integers alone, solved by OR-Tools' CP-SAT in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.programs.standard_form import StandardForm

WORKER = Path(__file__).with_name("cp_sat_worker.py")


@dataclass(frozen=True)
class CpSatSettings:
    """The numbers of the way to CP-SAT; those without a place were chosen by hand.

    Attributes
    ----------
    far, farthest : int
        In place of infinite bounds of variables and of rows: beyond every sum of the
        programs, and far from CP-SAT's own limits.
    grace : float
        Seconds beyond the limit in which the worker may start Python and write its answer
        down (1.5 s where it was measured).
    least_limit : float
        The least time limit that the solver gets, in seconds.
    denominator : int
        The largest denominator of a coefficient that is taken for a fraction.
    scale : int
        The largest factor that makes a row's coefficients integers.
    """

    far: int = 2**31
    farthest: int = 2**60
    grace: float = 5.0
    least_limit: float = 0.01
    denominator: int = 10**4
    scale: int = 10**6


SETTINGS = CpSatSettings()

#: An answer of the worker: its arrays by name, or None where it ran out of time.
Answer = dict[str, np.ndarray] | None


def check_cp_sat() -> None:
    """Raise ImportError where OR-Tools is missing."""
    if importlib.util.find_spec("ortools") is None:
        raise ImportError(
            "engine='cp_sat' needs OR-Tools; pip install 'pyomo_relu[cpsat]'."
        )


def solve_cp_sat(
    form: StandardForm,
    *,
    time_limit: float | None,
    warm: bool,
    options: Mapping[str, Any] | None,
) -> tuple[str, float, float]:
    """Solve a program; return status, objective, bound, and load the values.

    Parameters
    ----------
    form : StandardForm
        A minimization whose variables are integers in every solution.
    time_limit : float or None
        Seconds.
    warm : bool
        Whether the values of the variables are a start.
    options : mapping, optional
        CP-SAT's own.

    Raises
    ------
    ValueError
        If coefficients are no integers in any scale.
    RuntimeError
        If CP-SAT ends with an error, such as an unknown parameter.
    """
    deadline = Deadline(time_limit)
    arrays, scale = _integers(form)
    hint = np.full(len(form.columns), np.nan)
    if warm:
        hint = np.array([np.nan if v.value is None else v.value for v in form.columns])
    parameters, longest = dict(options or {}), None
    if time_limit is not None:
        left = max(deadline.left(), SETTINGS.least_limit)
        parameters["max_time_in_seconds"], longest = left, left + SETTINGS.grace
    arrays |= {"hint": hint, "parameters": np.array(json.dumps(parameters))}
    answer = _worker(arrays, longest)
    status = "nothing" if answer is None else str(answer["status"])
    if status == "infeasible":
        return status, math.inf, math.inf
    if answer is None:
        return status, math.inf, -math.inf
    bound = float(answer["bound"]) / scale + form.offset
    if status == "nothing":
        return status, math.inf, bound
    for variable, x in zip(form.columns, answer["values"]):
        variable.set_value(float(x), skip_validation=True)
    objective = float(answer["objective"]) / scale + form.offset
    return status, objective, min(bound, objective)


def _worker(arrays: dict[str, Any], seconds: float | None) -> Answer:
    """Run CP-SAT in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "program.npz", Path(folder) / "answer.npz"
        np.savez(source, **arrays)
        try:
            done = subprocess.run(
                [sys.executable, str(WORKER), str(source), str(target)],
                capture_output=True,
                text=True,
                check=False,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            return None
        if not target.exists():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise RuntimeError(f"CP-SAT ended with an error: {last}")
        with np.load(target, allow_pickle=False) as answer:
            return dict(answer)


def _integers(form: StandardForm) -> tuple[dict[str, Any], int]:
    """The program in integers, each row in its own scale, and the scale of the costs."""
    matrix = form.matrix.tocsr()
    data = np.zeros(len(matrix.data), dtype=np.int64)
    rows = np.zeros((2, len(form.rows)), dtype=np.int64)
    for r, (low, high) in enumerate(zip(form.row_lower, form.row_upper)):
        part = slice(matrix.indptr[r], matrix.indptr[r + 1])
        factor = _whole(np.append(matrix.data[part], [low, high]))
        if factor is None:
            raise ValueError(
                "engine='cp_sat': a row has coefficients that are no integers in any scale; "
                "use engine='mip'."
            )
        data[part] = np.round(factor * matrix.data[part])
        rows[0, r] = round(factor * low) if np.isfinite(low) else -SETTINGS.farthest
        rows[1, r] = round(factor * high) if np.isfinite(high) else SETTINGS.farthest
    scale = _whole(form.cost)
    if scale is None:
        raise ValueError("engine='cp_sat': the weights of the loss need too fine a scale.")
    arrays = {
        "lower": np.maximum(np.ceil(form.lower - 1e-9), -SETTINGS.far).astype(np.int64),
        "upper": np.minimum(np.floor(form.upper + 1e-9), SETTINGS.far).astype(np.int64),
        "indptr": matrix.indptr,
        "indices": matrix.indices,
        "data": data,
        "row_lower": rows[0],
        "row_upper": rows[1],
        "cost": np.round(scale * form.cost).astype(np.int64),
    }
    return arrays, scale


def _whole(numbers: np.ndarray) -> int | None:
    """The least factor that makes all numbers integers; None if there is none in range."""
    factor = 1
    for x in np.unique(numbers[np.isfinite(numbers)]):
        part = Fraction(float(x)).limit_denominator(SETTINGS.denominator)
        if abs(float(part) - x) > 1e-12 * max(1.0, abs(x)):
            return None
        factor = math.lcm(factor, part.denominator)
        if factor > SETTINGS.scale:
            return None
    return factor
