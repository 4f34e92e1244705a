"""Training programs in integers alone, solved by OR-Tools' CP-SAT."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from pyomo_relu.programs.standard_form import StandardForm, compile_standard_form
from pyomo_relu.training.encode import TrainingMIP

#: Losses whose variables are integers wherever the pre-activations are.
INTEGER_LOSSES = (
    "zero_one",
    "l1",
    "max_correct",
    "sat_margin",
    "min_weight",
    "min_nonzero",
    "max_margin",
)

WORKER = Path(__file__).with_name("cp_sat_worker.py")

#: Beyond every sum of the programs, and far from CP-SAT's own limits.
FAR, FARTHEST = 2**31, 2**60

#: Seconds beyond the limit in which the worker may start Python and write its answer down
#: (1.5 s where it was measured).
GRACE = 5.0


def solve_cp_sat(
    mip: TrainingMIP,
    time_limit: float | None,
    warm: bool,
    options: Mapping[str, Any] | None,
) -> tuple[str, float, float]:
    """Solve the program; return status, objective, bound, and load the values.

    Raises
    ------
    ImportError
        If OR-Tools is missing.
    ValueError
        If the program is not one in integers.
    RuntimeError
        If CP-SAT ends with an error, such as an unknown parameter.
    """
    if importlib.util.find_spec("ortools") is None:
        raise ImportError(
            "engine='cp_sat' needs OR-Tools; pip install 'pyomo_relu[cpsat]'."
        )
    if mip.loss_name not in INTEGER_LOSSES or not all(mip.exact_sums.values()) or mip.fixed:
        raise ValueError(
            "engine='cp_sat' solves programs in integers alone: features and weights must "
            f"be integers, without robust=, and the loss a count (not '{mip.loss_name}'). "
            "Round or scale the features, or use engine='mip'."
        )
    begin = time.perf_counter()
    form = compile_standard_form(mip.model)
    arrays, scale = _integers(form)
    hint = np.full(len(form.columns), np.nan)
    if warm:
        hint = np.array([np.nan if v.value is None else v.value for v in form.columns])
    parameters = dict(options or {})
    longest = None
    if time_limit is not None:
        left = max(float(time_limit) - (time.perf_counter() - begin), 0.01)
        parameters["max_time_in_seconds"], longest = left, left + GRACE
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "program.npz", Path(folder) / "answer.npz"
        np.savez(source, hint=hint, parameters=np.array(json.dumps(parameters)), **arrays)
        try:
            done = subprocess.run(
                [sys.executable, str(WORKER), str(source), str(target)],
                capture_output=True,
                text=True,
                check=False,
                timeout=longest,
            )
        except subprocess.TimeoutExpired:
            return "nothing", math.inf, -math.inf
        if not target.exists():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise RuntimeError(f"CP-SAT ended with an error: {last}")
        with np.load(target, allow_pickle=False) as answer:
            status, values = str(answer["status"]), answer["values"]
            objective, bound = float(answer["objective"]), float(answer["bound"])
    if status == "infeasible":
        return status, math.inf, math.inf
    bound = bound / scale + form.offset
    if status == "nothing":
        return status, math.inf, bound
    for variable, x in zip(form.columns, values):
        variable.set_value(float(x), skip_validation=True)
    objective = objective / scale + form.offset
    return status, objective, min(bound, objective)


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
        rows[0, r] = round(factor * low) if np.isfinite(low) else -FARTHEST
        rows[1, r] = round(factor * high) if np.isfinite(high) else FARTHEST
    scale = _whole(form.cost)
    if scale is None:
        raise ValueError("engine='cp_sat': the weights of the loss need too fine a scale.")
    arrays = {
        "lower": np.maximum(np.ceil(form.lower - 1e-9), -FAR).astype(np.int64),
        "upper": np.minimum(np.floor(form.upper + 1e-9), FAR).astype(np.int64),
        "indptr": matrix.indptr,
        "indices": matrix.indices,
        "data": data,
        "row_lower": rows[0],
        "row_upper": rows[1],
        "cost": np.round(scale * form.cost).astype(np.int64),
    }
    return arrays, scale


def _whole(numbers: np.ndarray) -> int | None:
    """The least factor that makes all numbers integers; None if it is over 10**6."""
    factor = 1
    for x in np.unique(numbers[np.isfinite(numbers)]):
        part = Fraction(float(x)).limit_denominator(10**4)
        if abs(float(part) - x) > 1e-12 * max(1.0, abs(x)):
            return None
        factor = math.lcm(factor, part.denominator)
        if factor > 10**6:
            return None
    return factor
