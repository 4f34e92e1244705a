"""Tables and the plot of solve.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from best_part import Cost, best_part
from common import geometric_mean, seconds, significant, table

#: Groups of the second table, by the beginning of an instance's name.
GROUPS = (
    ("random 2-20-20-1", ("he-2-",)),
    ("random 5-20-20-1", ("he-5-",)),
    ("random 10-30-30-1", ("he-10-",)),
    ("surrogates", ("peaks", "ackley", "himmelblau", "reformer", "relumip")),
    ("other small", ("omlt-line", "gurobi-diabetes")),
    ("images", ("mnist", "gamspy", "gurobi-mnist", "omlt-gemm")),
)
OWN = "pyomo_relu"
#: `relu`, and the solvers that are parts of it.
ONE, PARTS = "pyomo_relu-one", ("pyomo_relu", "pyomo_relu-global")


def cost(row: dict, limit: float) -> float:
    """CPU seconds; the limit where optimality wasn't proven."""
    if row.get("error") or not row["solved"]:
        return limit
    return min(row["build"] + row["solve"], limit)


def _cell(row: dict | None, limit: float) -> str:
    if row is None:
        return ""
    if row.get("error"):
        return "failed"
    if row["status"] == "licence":
        return "licence"
    if row["solved"]:
        return seconds(cost(row, limit))
    if row["value"] is None:
        return "limit, no point"
    return f"limit ({row['value']:.4g} of {row['bound']:.4g})"


def _means(found, names, tools, limit) -> str:
    groups = [(g, [n for n in names if n.startswith(begins)]) for g, begins in GROUPS]
    groups += [("all", list(names))]
    lines = []
    for group, members in groups:
        if not members:
            continue
        cells = [f"{group} ({len(members)})"]
        for tool in tools:
            rows = [found[n, tool] for n in members if (n, tool) in found]
            rows = [r for r in rows if r["status"] != "licence"]
            if not rows:
                cells.append("")
                continue
            mean = geometric_mean(cost(r, limit) for r in rows)
            proven = sum(r["solved"] for r in rows)
            cells.append(f"{mean:.3g} s, {proven} of {len(rows)}")
        lines.append(cells)
    return table(["", *tools], lines)


def _ratios(found, names, tools, limit) -> str:
    """For each pair of tools, the geometric mean over instances that both ran."""
    own = [t for t in tools if t.startswith(OWN)]
    groups = [(g, [n for n in names if n.startswith(begins)]) for g, begins in GROUPS]
    small = [n for n in names if not n.startswith(GROUPS[-1][1])]
    groups += [("all with up to 10 inputs", small), ("all", list(names))]
    lines = []
    for tool in own:
        for peer in (t for t in tools if t not in own):
            cells = []
            for _, members in groups:
                both = [n for n in members if (n, tool) in found and (n, peer) in found]
                both = [n for n in both if found[n, peer]["status"] != "licence"]
                ratio = geometric_mean(
                    cost(found[n, peer], limit) / cost(found[n, tool], limit) for n in both
                )
                cells.append(
                    "" if math.isnan(ratio) else f"{significant(ratio)} ({len(both)})"
                )
            lines.append([f"{peer} / {tool}", *cells])
    return table(["CPU seconds, times", *(g for g, _ in groups)], lines)


def _costs(found, limit: float) -> dict[tuple[str, str], Cost]:
    return {
        key: Cost(cost(row, limit), row["solved"] and not row.get("error"))
        for key, row in found.items()
    }


def _starts(found, names, best) -> str | None:
    rows = {n: found[n, "start"] for n in names if (n, "start") in found}
    if not rows:
        return None
    lines, good = [], 0
    for name, row in rows.items():
        value, gap = row["value"], math.nan
        if value is not None:
            gap = (best[name] - value) / max(1e-9, abs(best[name]))
            good += gap <= 0.01
        shown = "none" if value is None else f"{value:.6g}"
        lines.append([name, shown, f"{100 * gap:.3f} %", seconds(row["solve"])])
    return f"## Start within one second: {good} of {len(rows)} within 1 %\n\n" + table(
        ["instance", "value", "below the best", "CPU s"], lines
    )


def _repeated(rows: Sequence[dict], limit: float) -> str | None:
    """Pairs that were run more than once: how far CPU seconds can be trusted."""
    by_pair: dict[tuple[str, str], list[dict]] = {}
    for row in rows:
        if row["tool"] != "start" and not row.get("error"):
            by_pair.setdefault((row["instance"], row["tool"]), []).append(row)
    lines, ratios = [], []
    for (name, tool), runs in by_pair.items():
        if len(runs) < 2:
            continue
        first, last = runs[0], runs[-1]
        a, b = cost(first, limit), cost(last, limit)
        ca, cb = first["calibration"], last["calibration"]
        ratios.append(b / a)
        lines.append(
            [name, tool, first["date"], seconds(a), seconds(ca)]
            + [last["date"], seconds(b), seconds(cb), f"{b / a:.2f}"]
        )
    if not lines:
        return None
    head = ["instance", "tool", "first run", "CPU s", "calibration"]
    head += ["last run", "CPU s", "calibration", "last / first"]
    return (
        "## Run twice\n\n"
        + table(head, lines)
        + f"\n\nGeometric mean of last / first: {geometric_mean(ratios):.2f}."
    )


def report(
    rows: Sequence[dict], names: Sequence[str], tools: Sequence[str], limit: float
) -> tuple[dict[str, str], str]:
    """The tables of the page by their names, and all rows.

    Of a pair that was run twice the last run counts.
    """
    found = {(r["instance"], r["tool"]): r for r in rows}
    best = {}
    for name in names:
        known = [r["value"] for r in rows if r["instance"] == name]
        best[name] = max((v for v in known if v is not None), default=math.nan)
    solvers = [t for t in tools if t != "start"]
    summary = {
        "means": _means(found, names, solvers, limit),
        "ratios": _ratios(found, names, solvers, limit),
        "points": _points(found, names, solvers, best),
        "best_part": best_part(names, _costs(found, limit), ONE, PARTS, shown=8),
    }
    lines = [
        [name, f"{best[name]:.5g}"]
        + [_cell(found.get((name, tool)), limit) for tool in solvers]
        for name in names
    ]
    parts = ["# Solving: every instance\n\nCPU seconds of building and solving."]
    parts.append(table(["instance", "best known", *solvers], lines))
    parts += [p for p in (_starts(found, names, best), _repeated(rows, limit)) if p]
    wrong = [
        f"{r['tool']} on {r['instance']}: bound {r['bound']:.6g} below {best[r['instance']]:.6g}"
        for r in rows
        if r["bound"] is not None
        and r["bound"] < best[r["instance"]] - 1e-4 * max(1.0, abs(best[r["instance"]]))
    ]
    failed = [
        f"{r['tool']} on {r['instance']}: {r['error']}" for r in rows if r.get("error")
    ]
    for title, items in (("Wrong bounds", wrong), ("Failed", failed)):
        if items:
            parts.append(f"{title}: " + "; ".join(items))
    return summary, "\n\n".join(parts)


def _points(found, names, solvers, best) -> str:
    """How many feasible points each tool has, and how many are the best known."""
    lines = []
    for tool in solvers:
        ran = [found[n, tool] for n in names if (n, tool) in found]
        points = sum(r["value"] is not None for r in ran)
        best_of = sum(
            r["value"] is not None
            and best[r["instance"]] - r["value"] <= 1e-3 * max(1.0, abs(r["value"]))
            for r in ran
        )
        lines.append([tool, f"{points} of {len(ran)}", f"{best_of}"])
    return table(["", "points", "within 0.1 % of the best"], lines)


def plot(rows: Sequence[dict], tools: Sequence[str], limit: float, path: Path) -> None:
    """Performance profile: share of instances proven within a time.

    Only instances that every tool ran count; where a tool ran few by its nature, as
    `relu_global` on small inputs, it is left out of that rule.
    """
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError:
        return
    figure, axes = plt.subplots(figsize=(7, 4.5))
    last = {(r["instance"], r["tool"]): r for r in rows}
    solvers = [t for t in tools if t != "start"]
    sets = [{n for n, t in last if t == tool} for tool in solvers if "global" not in tool]
    common = set.intersection(*sets) if sets else set()
    for tool in solvers:
        own = [last[n, tool] for n in common if (n, tool) in last]
        own = [r for r in own if r["status"] != "licence"]
        times = sorted(cost(r, limit) for r in own if r["solved"])
        shares = [(k + 1) / len(own) for k in range(len(times))]
        label = f"{tool} ({len(own)})"
        end = shares[-1] if shares else 0
        axes.step([*times, limit], [*shares, end], where="post", label=label)
    axes.set_xscale("log")
    axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.3)
    axes.set_xlabel("CPU seconds, building and solving")
    axes.set_ylabel("share of instances proven optimal")
    axes.legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)
