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
        # Half a second is for readers; a busy machine needs more for the same value.
        exec(code.replace("time_limit=0.5", "time_limit=5"), scope)
        if '"relu_scip")' in code or "limits/gap" in code:
            optima.append(pyo.value(scope["m"].profit))
    assert optima == pytest.approx([OPTIMUM] * 3, rel=2e-4)
    printed = capsys.readouterr().out.split("\n")
    assert printed[0].startswith("3.4374")
    assert scope["m"].demand.error() < 1e-6
    assert scope["start"].feasible and scope["start"].value > 3.43
    assert scope["said"].first_point is not None and scope["said"].planes > 0
