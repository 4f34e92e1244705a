"""What the pages of the benchmarks show is what the scripts write from the stored rows."""

from __future__ import annotations

import importlib
import re
import sys
import threading

import pytest

from tests.paths import ROOT

PAGES = ROOT / "docs" / "benchmarks"
RESULTS = ROOT / "benchmarks" / "results"

#: A script, its arguments for what is stored, and the name of its files.
REPORTS = [
    ("bounds_report", [], "bounds"),
    ("solve", ["--report"], "solve"),
    ("formulations", ["--report"], "formulations"),
    ("plate", ["--table"], "plate"),
    ("training", ["--table"], "training"),
    ("papers", ["--paper", "kurtz_bah", "--table"], "paper_kurtz_bah"),
    ("papers", ["--paper", "ensembles", "--table"], "paper_ensembles"),
    ("papers", ["--paper", "feasibility", "--table"], "paper_feasibility"),
    ("papers", ["--paper", "aspman", "--table"], "paper_aspman"),
    ("papers", ["--paper", "fischetti_jo", "--table"], "paper_fischetti_jo"),
    ("papers", ["--paper", "plate", "--table"], "paper_plate"),
    ("papers", ["--paper", "together", "--table"], "paper_together"),
    ("verification", ["--table"], "verification"),
    ("many_blocks", ["--report"], "many_blocks"),
    ("wired", ["--report"], "wired"),
    ("nonlinear", ["--report"], "nonlinear"),
    ("large_networks", ["--report"], "large_networks"),
]

#: Studies of papers, each with its page.
PAPERS = [name.removeprefix("paper_") for script, _, name in REPORTS if script == "papers"]


@pytest.mark.parametrize(("script", "arguments", "name"), REPORTS)
def test_the_reports_are_those_of_the_stored_rows(
    script, arguments, name, tmp_path, monkeypatch
):
    for library in ("matplotlib", "sklearn"):
        pytest.importorskip(library)
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    module = importlib.import_module(script)
    monkeypatch.setattr(module, "IMAGES", tmp_path, raising=False)
    monkeypatch.setattr(importlib.import_module("common"), "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    module.main()
    written = sorted(path.name for path in tmp_path.glob("*.md"))
    assert f"{name}_summary.md" in written
    for file in written:
        assert (tmp_path / file).read_text("utf8") == (RESULTS / file).read_text("utf8")


@pytest.mark.parametrize("name", [name for *_, name in REPORTS])
def test_a_page_includes_every_part_and_links_to_the_rows(name):
    parts = re.findall("<!-- (.+) -->", (RESULTS / f"{name}_summary.md").read_text("utf8"))
    page = (PAGES / f"{name}.md").read_text("utf8")
    shown = re.findall(":start-after: <!-- (.+) -->", page)
    assert sorted(shown) == sorted(parts[:-1])
    assert re.search(rf"<../../benchmarks/results/{name}(\.md|.*\.csv)>", page)


def test_no_page_has_a_table_of_more_than_forty_rows():
    for page in PAGES.glob("*.md"):
        run = 0
        for line in page.read_text("utf8").splitlines():
            run = run + 1 if line.startswith("|") else 0
            assert run <= 42, f"{page.name}: {line}"


@pytest.mark.parametrize("paper", PAPERS)
def test_a_study_without_full_is_within_an_hour(paper, monkeypatch):
    """By the stored rows, in CPU seconds; one that is missing counts as the longest."""
    pytest.importorskip("sklearn")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    study = importlib.import_module(f"paper_{paper}")
    rows = importlib.import_module("paper_runs").rows_of(
        RESULTS / f"paper_{paper}.csv", ("cpu_seconds",)
    )
    took = {(r["study"], r["run"], str(r["draw"])): r["cpu_seconds"] or 0.0 for r in rows}
    keys = [(r.study, r.run, str(r.draw)) for r in study.runs() if not r.full]
    assert len(set(keys)) == len(keys)
    whole = sum(took.get(key, max(took.values())) for key in keys)
    assert 10.0 < whole < 3600.0


def test_a_run_that_is_left_early_leaves_no_timer(tmp_path, monkeypatch):
    """A timer that still waits would keep the script from ending after its last row."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    common = importlib.import_module("common")
    monkeypatch.setattr(common, "HERE", tmp_path)
    (tmp_path / "worker.py").write_text("for k in '12': print('RESULT', k)")
    before = set(threading.enumerate())
    answers = common.run_many("solve", "pyomo_relu", [tmp_path, tmp_path], 1.0, None)
    assert next(answers) == 1
    new = set(threading.enumerate()) - before
    (timer,) = [t for t in new if isinstance(t, threading.Timer)]
    answers.close()
    timer.join(600.0)  # a cancelled timer ends at once, but in its own thread
    assert not timer.is_alive()
