"""Solving: this package against OMLT with HiGHS, PySCIPOpt-ML with SCIP, gurobi-ml.

    python benchmarks/solve.py --peer-python peers/bin/python --limit 120

writes solve.csv, solve.md and solve.png into --out. Each instance maximizes a linear
function of a network's outputs over a box. One process and one thread for each pair;
CPU seconds of building and solving together; whatever isn't proven optimal (gap 1e-4)
within the limit counts as the limit. Values are forward passes at the points found.
"""

from __future__ import annotations

import json
import math
import re

from common import arguments, geometric_mean, run, seconds, table, write_csv
from instances import write_solve

TOOLS = (
    "pyomo_relu",
    "pyomo_relu-lp",
    "pyomo_relu-nostart",
    "pyomo_relu-appsi",
    "omlt-bigm",
    "scip-ml-sos",
    "gurobi-ml",
)


def cost(row: dict, limit: float) -> float:
    """CPU seconds; the limit where optimality wasn't proven."""
    if "error" in row or not row["solved"]:
        return limit
    return min(row["build"] + row["solve"], limit)


def report(rows: list[dict], names: list[str], tools: list[str], limit: float) -> str:
    """The tables of the page."""
    found = {(r["instance"], r["tool"]): r for r in rows}
    best = {}
    for name in names:
        known = [r.get("value") for r in rows if r["instance"] == name]
        best[name] = max((v for v in known if v is not None), default=math.nan)
    lines = []
    for name in names:
        cells = [name, f"{best[name]:.5g}"]
        for tool in tools:
            row = found.get((name, tool))
            if row is None or "error" in row:
                cells.append("failed")
            elif row["status"] == "licence":
                cells.append("licence")
            elif row["solved"]:
                cells.append(seconds(cost(row, limit)))
            elif row["value"] is None:
                cells.append("limit, no point")
            else:
                cells.append(f"limit ({row['value']:.4g} of {row['bound']:.4g})")
        lines.append(cells)
    parts = ["## By instance\n\n" + table(["instance", "best known", *tools], lines)]
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.rsplit("-s", 1)[0].split("-r")[0].split("-")[0], []).append(
            name
        )
    groups["all"] = names
    lines = []
    for group, members in groups.items():
        cells = [f"{group} ({len(members)})"]
        for tool in tools:
            run_ones = [found[n, tool] for n in members if (n, tool) in found]
            run_ones = [r for r in run_ones if r.get("status") != "licence"]
            mean = geometric_mean(cost(r, limit) for r in run_ones)
            proven = sum(bool(r.get("solved")) for r in run_ones)
            cells.append(f"{mean:.3g} s, {proven} of {len(run_ones)} proven")
        lines.append(cells)
    parts.append(
        "## Geometric means, the limit where not proven\n\n" + table(["", *tools], lines)
    )
    lines = []
    for tool in tools:
        with_point = sum(found.get((n, tool), {}).get("value") is not None for n in names)
        lines.append([tool, f"{with_point} of {len(names)}"])
    parts.append("## Instances with a feasible point\n\n" + table(["", "points"], lines))
    starts = [found[n, "start"] for n in names if (n, "start") in found]
    if starts:
        lines, good = [], 0
        for name in names:
            row = found.get((name, "start"), {})
            value = row.get("value")
            gap = math.nan
            if value is not None:
                gap = (best[name] - value) / max(1e-9, abs(best[name]))
                good += gap <= 0.01
            cells = "none" if value is None else f"{value:.6g}"
            lines.append([name, cells, f"{100 * gap:.3f} %", seconds(row.get("solve"))])
        parts.append(
            f"## Start within one second: {good} of {len(starts)} within 1 %\n\n"
            + table(["instance", "value", "below the best", "CPU s"], lines)
        )
    failed = [r for r in rows if "error" in r]
    if failed:
        parts.append(
            "Failed: "
            + "; ".join(f"{r['tool']} on {r['instance']}: {r['error']}" for r in failed)
        )
    return "\n\n".join(parts) + "\n"


def plot(rows: list[dict], tools: list[str], count: int, limit: float, path) -> None:
    """Performance profile: share of instances proven within a time."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError:
        return
    figure, axes = plt.subplots(figsize=(7, 4.5))
    for tool in tools:
        times = sorted(
            cost(r, limit) for r in rows if r["tool"] == tool and r.get("solved")
        )
        shares = [(k + 1) / count for k in range(len(times))]
        axes.step([*times, limit], [*shares, shares[-1] if shares else 0], label=tool)
    axes.set_xscale("log")
    axes.set_xlabel("CPU seconds")
    axes.set_ylabel("share of instances proven optimal")
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--limit", type=float, default=120.0, help="CPU seconds")
    parser.add_argument("--only", default="", help="regular expression of instances")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    names = write_solve(args.out, whole=not args.quick)
    names = [n for n in names if re.search(args.only, n)]
    tools = [t for t in TOOLS if not args.tools or t in args.tools]
    rows = []
    for name in names:
        for tool in [*tools, "start"]:
            row = {"instance": name, "tool": tool}
            limit = 1.0 if tool == "start" else args.limit
            row |= run("solve", tool, args.out / f"{name}.npz", limit, args.peer_python)
            print(json.dumps(row), flush=True)
            rows.append(row)
            write_csv(args.out / "solve.csv", rows)
    used = {p: run("versions", p, args.out, 0, args.peer_python) for p in ("own", "omlt")}
    text = report(rows, names, tools, args.limit)
    text += "\nVersions: " + json.dumps(used) + "\n"
    (args.out / "solve.md").write_text(text)
    plot(rows, tools, len(names), args.limit, args.out / "solve.png")
    print(text)


if __name__ == "__main__":
    main()
