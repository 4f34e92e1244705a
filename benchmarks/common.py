"""What the benchmarks share: runs in processes, CSV, Markdown tables, what pages show."""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
IMAGES = HERE.parent / "docs" / "images"
PIN = (
    "omlt==1.2.2 pyomo==6.10.1 highspy==1.15.1 pyscipopt==6.3.0 pyscipopt-ml==1.4.1 "
    "gurobipy==13.0.3 gurobi-machinelearning==1.7.0 scikit-learn"
)
PEERS = ("omlt", "scip", "gurobi")


def arguments(doc: str) -> argparse.ArgumentParser:
    """The options of both scripts."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--peer-python",
        default=None,
        help=f"Python of an environment with the peers: pip install {PIN}",
    )
    parser.add_argument("--out", type=Path, default=Path("benchmark_results"))
    parser.add_argument("--quick", action="store_true", help="a small part of it")
    parser.add_argument("--tools", nargs="*", help="only these tools")
    return parser


def run(mode: str, tool: str, path: Path, limit: float, peer_python: str | None) -> dict:
    """One measurement in its own process; ``error`` is set where it failed."""
    (answer,) = run_many(mode, tool, [path], limit, peer_python)
    return answer


def run_many(
    mode: str, tool: str, paths: Sequence[Path], limit: float, peer_python: str | None
) -> Iterator[dict]:
    """Measurements of one tool in one process, one after another."""
    python = sys.executable
    if tool.startswith(PEERS):
        if peer_python is None:
            yield from ({"error": "no --peer-python given"} for _ in paths)
            return
        python = peer_python
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [python, str(HERE / "worker.py"), mode, tool, str(limit), *map(str, paths)]
    left = len(paths)
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=env
        ) as process,
    ):
        watchdog = threading.Timer(len(paths) * (20 * limit + 900), process.kill)
        watchdog.start()
        try:
            for line in process.stdout:
                if line.startswith("RESULT "):
                    left -= 1
                    yield json.loads(line[len("RESULT ") :])
            process.wait()
        finally:  # also where the caller takes no more: a timer keeps Python from ending
            watchdog.cancel()
        errors.seek(0)
        last = (errors.read().strip().splitlines() or ["no answer"])[-1][:200]
    yield from ({"error": last} for _ in range(left))


def write_csv(path: Path, rows: Sequence[dict]) -> None:
    """All rows with all of their keys."""
    keys = list(dict.fromkeys(k for row in rows for k in row))
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, keys)
        writer.writeheader()
        writer.writerows(rows)


def read_rows(
    path: Path, numbers: Sequence[str], flags: Sequence[str] = ("solved",)
) -> list:
    """The rows of a table so far; columns that are numbers or flags become such."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        rows: list[dict] = list(csv.DictReader(file))
    for row in rows:
        for key in numbers:
            row[key] = float(row[key]) if row[key] not in ("", "None") else None
        for key in flags:
            row[key] = row[key] == "True"
    return rows


def append(path: Path, fields: Sequence[str], row: dict) -> None:
    """Add one row to a table; several runs may append to one."""
    fresh = not path.exists()
    with open(path, "a", newline="") as file:
        writer = csv.DictWriter(file, fields, restval="")
        if fresh:
            writer.writeheader()
        writer.writerow(row)


def geometric_mean(values: Iterable[float]) -> float:
    """NaN for none."""
    logs = [math.log(max(v, 1e-9)) for v in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(lines)


def significant(value: float, digits: int = 2) -> str:
    """A number with so many digits that count, and no exponent."""
    return f"{float(f'{value:.{digits}g}'):,g}"


def seconds(value: float | None) -> str:
    """Three significant digits."""
    return "" if value is None else f"{value:.3g}"


def publish(name: str, summary: Mapping[str, str], everything: str = "") -> None:
    """Write what a page of the documentation shows, and the rows that it links to.

    ``docs/benchmarks/NAME.md`` includes the parts of ``results/NAME_summary.md`` by their
    names, so nothing of a page has to be copied by hand, and links to ``results/NAME.md``, or
    to the CSV where there is no better form of the rows.
    """
    parts = [f"<!-- {part} -->\n\n{text.strip()}\n" for part, text in summary.items()]
    text = "\n".join([*parts, "<!-- end -->\n"])
    (RESULTS / f"{name}_summary.md").write_text(text, encoding="utf8")
    if everything:
        (RESULTS / f"{name}.md").write_text(everything.strip() + "\n", encoding="utf8")
