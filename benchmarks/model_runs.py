"""A collection of models, every tool on each of them: the runs, and the tables of them.

Runs one heavy process at a time and adds a row for each model, seed and tool to a CSV; what
the table holds isn't run again.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from against_peers import against_peers
from best_part import Cost, best_part
from common import (
    HERE,
    RESULTS,
    append,
    arguments,
    geometric_mean,
    publish,
    read_rows,
    seconds,
    table,
)

#: `relu`, and the solvers that are parts of it.
ONE, PARTS = "relu", ("relu_highs", "relu_global", "relu_scip")
#: Solvers that get the rows of the blocks as they are, and ours that are held against them.
ON_ROWS, AGAINST = ("scip", "highs", "gurobi"), ("relu", "relu_scip")
#: Tools that run in the environment of ``--peer-python``.
PEERS = ("gurobi", "omlt")
FIELDS = (
    "model", "seed", "tool", "limit", "build", "solve", "first", "value", "bound", "solved",
    "status", "nodes", "off", "megabytes", "date", "error",
)  # fmt: skip
NUMBERS = ("seed", "limit", "build", "solve", "first", "value", "bound", "off", "megabytes")
#: A model counts as solved where value and bound are so close, relative to the value.
GAP = 1.01e-4
#: A point is near the best one known where it is within this share of it.
NEAR = 0.05


@dataclass(frozen=True)
class Collection:
    """Models, and the tools that are run on them.

    Attributes
    ----------
    name : str
        ``results/NAME.csv`` has the rows, ``docs/benchmarks/NAME.md`` shows the tables.
    title : str
        Of the page with all runs.
    models : sequence of str
        What ``wired_worker.py`` knows them by.
    maximized : set of str
        Models whose objective is maximized.
    tools : sequence of str
        Of ``wired_worker.py``.
    one_seed : tuple of str
        How the names of models begin that have one set of data.
    extra : sequence of str
        Models that are run only where ``--weights`` names a file.
    """

    name: str
    title: str
    models: Sequence[str]
    maximized: frozenset[str]
    tools: Sequence[str]
    one_seed: tuple[str, ...] = ()
    extra: Sequence[str] = field(default=())


def run(name: str, seed: int, tool: str, args: argparse.Namespace) -> dict:
    """One measurement in a process of its own."""
    python = args.peer_python if tool in PEERS else sys.executable
    if python is None:
        return {"error": "no --peer-python given"}
    command = [python, str(HERE / "wired_worker.py"), name, str(seed), tool]
    command += [str(args.limit), *([str(args.weights)] if args.weights else [])]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    env["PYTHONPATH"] = os.pathsep.join(
        [str(HERE), str(HERE.parent), env.get("PYTHONPATH", "")]
    )
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=env, timeout=6 * args.limit + 300
        )
    except subprocess.TimeoutExpired:
        return {"error": "did not end"}
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            return json.loads(line.removeprefix("RESULT "))
    return {"error": (done.stderr.strip().splitlines() or ["no answer"])[-1][:200]}


def solved(row: dict) -> bool:
    """Whether point and bound of a row meet."""
    value, bound = row.get("value"), row.get("bound")
    if value is None or bound is None:
        return False
    return abs(value - bound) <= GAP * max(1e-9, abs(value))


def measure(
    these: Collection, args: argparse.Namespace, names: Iterable[str], tools: Sequence[str]
) -> None:
    """Run what the table hasn't, and add it."""
    args.csv.parent.mkdir(parents=True, exist_ok=True)
    rows = read_rows(args.csv, NUMBERS)
    done = {(r["model"], int(r["seed"]), r["tool"]) for r in rows}
    for seed in args.seeds:
        for name in names:
            if seed and these.one_seed and name.startswith(these.one_seed):
                continue
            for tool in tools:
                if (name, seed, tool) in done and not args.again:
                    continue
                row = {"model": name, "seed": seed, "tool": tool, "limit": args.limit}
                row |= run(name, seed, tool, args)
                row["solved"] = solved(row)
                now = datetime.datetime.now(datetime.UTC)
                row["date"] = now.strftime("%Y-%m-%d %H:%M")
                print(json.dumps(row), flush=True)
                append(args.csv, FIELDS, row)


def best_known(these: Collection, rows: Sequence[dict]) -> dict[tuple[str, int], float]:
    """The best value of each model and seed among all rows."""
    best: dict[tuple[str, int], float] = {}
    for row in rows:
        if row["value"] is None:
            continue
        key, better = (row["model"], int(row["seed"])), max
        if row["model"] not in these.maximized:
            better = min
        best[key] = better(best.get(key, row["value"]), row["value"])
    return best


def cell(row: dict | None) -> str:
    """What a table says of one run: seconds where solved, else point and bound."""
    if row is None:
        return ""
    if row["error"]:
        return row["error"] if len(row["error"]) < 12 else "refused"
    if row["solved"]:
        return f"{seconds(row['build'] + row['solve'])} s"
    point = "-" if row["value"] is None else f"{row['value']:.4g}"
    bound = "-" if row["bound"] is None else f"{row['bound']:.4g}"
    return f"{point} / {bound}"


def costs(last: dict[tuple[str, int, str], dict]) -> dict[tuple[str, str], Cost]:
    """What each tool took on each model with seed 0; refusals are left out."""
    return {
        (name, tool): Cost(
            r["build"] + r["solve"] if r["solved"] else r["limit"], r["solved"]
        )
        for (name, seed, tool), r in last.items()
        if not seed and not r["error"]
    }


def report(
    these: Collection, rows: Sequence[dict], tools: Sequence[str]
) -> tuple[dict[str, str], str]:
    """The tables of the page by their names, and all rows."""
    last = {(r["model"], int(r["seed"]), r["tool"]): r for r in rows}
    best = best_known(these, rows)
    names = list(dict.fromkeys(r["model"] for r in rows))
    lines = []
    for name in names:
        known = best.get((name, 0))
        cells = [cell(last.get((name, 0, tool))) for tool in tools]
        lines.append([name, *cells, "" if known is None else f"{known:.6g}"])
    counts = []
    for tool in tools:
        own = [r for (_, _, t), r in last.items() if t == tool and r["error"] != "licence"]
        near = [
            abs(r["value"] - best[r["model"], int(r["seed"])])
            <= NEAR * abs(best[r["model"], int(r["seed"])])
            for r in own
            if r["value"] is not None
        ]
        first = [r["first"] for r in own if r["first"] is not None]
        mean = geometric_mean(first)
        counts.append(
            [tool, len(own), len(near), sum(near), sum(r["solved"] for r in own)]
            + ["" if math.isnan(mean) else f"{mean:.3g} s"]
        )
    head = ["", "runs", "with a point", "within 5 % of the best", "proven", "first point"]
    summary = {
        "models": table(["model", *tools, "best known"], lines),
        "counts": table(head, counts),
        "best_part": best_part(names, costs(last), ONE, PARTS),
        "against_peers": against_peers(names, costs(last), AGAINST, ON_ROWS),
    }
    everything = f"# {these.title}: all runs\n\n" + table(
        FIELDS, ([row.get(f, "") for f in FIELDS] for row in rows)
    )
    return summary, everything


def command_line(these: Collection, doc: str) -> None:
    """The command line of a collection."""
    parser = arguments(doc)
    parser.add_argument("--limit", type=float, default=30.0, help="CPU seconds")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--only", default="", help="regular expression of models")
    parser.add_argument("--weights", type=Path, help="networks of the investment problem")
    parser.add_argument("--csv", type=Path, default=RESULTS / f"{these.name}.csv")
    parser.add_argument("--again", action="store_true", help="run what is there again")
    parser.add_argument("--report", action="store_true", help="tables of what there is")
    args = parser.parse_args()
    tools = [t for t in these.tools if t in (args.tools or these.tools)]
    names = [*these.models, *(these.extra if args.weights else [])]
    names = [n for n in names if re.search(args.only, n)]
    if not args.report:
        measure(these, args, names[::4] if args.quick else names, tools)
    rows = read_rows(args.csv, NUMBERS)
    run_so_far = {row["tool"] for row in rows}
    summary, everything = report(these, rows, [t for t in tools if t in run_so_far])
    publish(these.name, summary, everything)
    print(*summary.values(), sep="\n\n")
