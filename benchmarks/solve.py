"""Solving: this package against OMLT with HiGHS, PySCIPOpt-ML with SCIP, gurobi-ml.

    python benchmarks/solve.py --peer-python peers/bin/python --limit 120

appends to the table ``--csv`` (by default results/solve.csv beside this file). What the
table holds already isn't run again, so a run may be ended and taken up at any time;
``--again`` runs it once more and adds a row. The instances lie in --out.

At the end, or at once with ``--report``, the tables that the page includes go to
results/solve_summary.md, all rows to results/solve.md, and the plot to docs/images.

Each instance maximizes a linear function of a network's outputs over a box. A process
of each tool, warmed up, takes --batch instances one after another, with one thread; CPU
seconds of building and solving together; whatever isn't proven optimal (gap 1e-4) within
the limit counts as the limit. Values are forward passes at the points found.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import re
import time
from pathlib import Path

import numpy as np
from common import (
    IMAGES,
    RESULTS,
    append,
    arguments,
    publish,
    read_rows,
    run,
    run_many,
)
from instances import write_solve
from solve_report import plot, report

TOOLS = (
    "pyomo_relu",
    "pyomo_relu-one",
    "pyomo_relu-global",
    "pyomo_relu-lp",
    "pyomo_relu-nostart",
    "pyomo_relu-appsi",
    "omlt-bigm",
    "scip-ml-sos",
    "gurobi-ml",
    "start",
)
DEFAULT = (
    "pyomo_relu",
    "pyomo_relu-one",
    "pyomo_relu-global",
    "omlt-bigm",
    "scip-ml-sos",
    "gurobi-ml",
    "start",
)
#: `relu_global` branches on the inputs; beyond so many it isn't meant to be used.
GLOBAL_INPUTS = 10
FIELDS = (
    "instance",
    "tool",
    "build",
    "solve",
    "value",
    "bound",
    "status",
    "solved",
    "nodes",
    "limit",
    "calibration",
    "date",
    "fingerprint",
    "error",
)
NUMBERS = ("build", "solve", "value", "bound", "limit", "calibration")


def fingerprint(path: Path) -> str:
    """Eight hex digits of an instance's numbers."""
    digest = hashlib.sha256()
    with np.load(path) as data:
        for name in sorted(data.files):
            digest.update(name.encode() + np.ascontiguousarray(data[name]).tobytes())
    return digest.hexdigest()[:8]


def inputs(folder: Path, name: str) -> int:
    """Number of inputs of an instance."""
    with np.load(folder / f"{name}.npz") as data:
        return data["lower"].size


def groups(names: list[str], size: int) -> list[list[str]]:
    """Instances that one process of a tool solves one after another."""
    return [names[k : k + size] for k in range(0, len(names), size)]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--limit", type=float, default=120.0, help="CPU seconds")
    parser.add_argument("--only", default="", help="regular expression of instances")
    parser.add_argument("--csv", type=Path, default=RESULTS / "solve.csv")
    parser.add_argument("--again", action="store_true", help="run what is there again")
    parser.add_argument("--batch", type=int, default=5, help="instances of a process")
    parser.add_argument("--minutes", type=float, default=1e9, help="then start no more")
    parser.add_argument("--report", action="store_true", help="tables of what there is")
    args = parser.parse_args()
    tools = [t for t in TOOLS if t in (args.tools or DEFAULT)]
    if not args.report:
        measure(args, tools)
    rows = [r for r in read_rows(args.csv, NUMBERS) if re.search(args.only, r["instance"])]
    names = list(dict.fromkeys(r["instance"] for r in rows))
    summary, everything = report(rows, names, tools, args.limit)
    publish("solve", summary, everything)
    plot(rows, tools, args.limit, IMAGES / "solve.png")
    print(*summary.values(), sep="\n\n")


def measure(args: argparse.Namespace, tools: list[str]) -> None:
    """Run what the table hasn't, and add it."""
    args.out.mkdir(parents=True, exist_ok=True)
    args.csv.parent.mkdir(parents=True, exist_ok=True)
    names = write_solve(args.out, args.only)
    if args.quick:
        names = names[::5]
    begin = time.time()
    for group in groups(names, args.batch):
        for tool in tools:
            if time.time() - begin > 60 * args.minutes:
                continue
            done = {(r["instance"], r["tool"]) for r in read_rows(args.csv, NUMBERS)}
            todo = [
                name
                for name in group
                if (args.again or (name, tool) not in done)
                and not (
                    tool == "pyomo_relu-global" and inputs(args.out, name) > GLOBAL_INPUTS
                )
            ]
            if not todo:
                continue
            limit = 1.0 if tool == "start" else args.limit
            paths = [args.out / f"{name}.npz" for name in todo]
            found = run_many("solve", tool, paths, limit, args.peer_python)
            for name, path, answer in zip(todo, paths, found):
                row = {"instance": name, "tool": tool, "limit": limit}
                row |= {"fingerprint": fingerprint(path)} | answer
                now = datetime.datetime.now(datetime.UTC)
                row["date"] = now.strftime("%Y-%m-%d %H:%M")
                print(json.dumps(row), flush=True)
                append(args.csv, FIELDS, row)
    used = {p: run("versions", p, args.out, 0, args.peer_python) for p in ("own", "omlt")}
    print("Versions:", json.dumps(used))


if __name__ == "__main__":
    main()
