"""The programs of the page on nonlinear models run, and say what the page says."""

from __future__ import annotations

import re

import pyomo.environ as pyo
import pytest

from tests.paths import ROOT

PAGE = ROOT / "docs" / "guide" / "nonlinear.md"
OPTIMUM = 3.43748


def programs() -> list[str]:
    """The programs of the page, without those whose solver isn't here."""
    found = re.findall(r"```python\n(.+?)```", PAGE.read_text("utf8"), flags=re.DOTALL)
    needs = [re.match("# needs (.+)", code) for code in found]
    return [
        code
        for code, need in zip(found, needs)
        if need is None or pyo.SolverFactory(need[1]).available(exception_flag=False)
    ]


def test_the_programs_run_one_after_another(capsys):
    for library in ("pyscipopt", "highspy", "sklearn"):
        pytest.importorskip(library)
    scope: dict = {}
    optima = []
    for code in programs():
        exec(code, scope)
        if '"relu_scip")' in code or "limits/gap" in code:
            optima.append(pyo.value(scope["m"].profit))
    assert optima == pytest.approx([OPTIMUM, OPTIMUM], rel=2e-4)
    printed = capsys.readouterr().out.split("\n")
    assert printed[0].startswith("3.4374")
    plan = scope["plan"]
    assert scope["m"].demand.error() < 1e-6
    dual, step = plan.dual[plan.capacity], 0.01
    before = pyo.value(plan.value)
    plan.capacity.set_value((None, plan.capacity.body, plan.capacity.ub + step))
    pyo.SolverFactory("appsi_highs").solve(plan)
    assert dual > 0.1
    assert (pyo.value(plan.value) - before) / step == pytest.approx(dual, rel=1e-3)
