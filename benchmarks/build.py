"""Building: this package against OMLT, PySCIPOpt-ML, gurobi-machinelearning, highspy.

    python benchmarks/build.py --peer-python peers/bin/python

writes build.csv, build.md and build.png into --out. Every measurement runs in a process
of its own, with one thread: CPU seconds of the model from a network in memory (the
minimum of up to five builds after a small one), CPU seconds to load it into HiGHS, and
the growth of peak memory over the first build.
"""

from __future__ import annotations

import json

from common import arguments, geometric_mean, run, seconds, table, write_csv
from instances import write_build

TOOLS = (
    "pyomo_relu",
    "omlt-bigm",
    "omlt-partition",
    "scip-ml-sos",
    "scip-ml-bigm",
    "gurobi-ml",
    "floor",
)
DENSE_ONLY = ("omlt-partition", "scip-ml-sos", "scip-ml-bigm", "gurobi-ml")


def report(rows: list[dict], names: list[str], tools: list[str]) -> str:
    """The tables of the page."""
    found = {(r["network"], r["tool"]): r for r in rows if "error" not in r}
    parts = []
    for key, title in (
        ("build", "Building, CPU seconds"),
        ("total", "Building and handing over to HiGHS, CPU seconds"),
        ("megabytes", "Growth of peak memory while building, MB"),
    ):
        lines = []
        for tool in tools:
            cells = []
            for name in names:
                row = found.get((name, tool))
                if row is None:
                    cells.append("")
                elif key == "total":
                    whole = tool.startswith(("pyomo_relu", "omlt", "floor"))
                    cells.append(seconds(row["build"] + row["load"]) if whole else "")
                else:
                    cells.append(seconds(row[key]))
            if any(cells):
                lines.append([tool, *cells])
        parts.append(f"## {title}\n\n" + table(["", *names], lines))
    lines = []
    for other in ("omlt-bigm", "floor"):
        for key, what in (
            ("build", "build"),
            ("total", "build and hand over"),
            ("megabytes", "memory"),
        ):
            cells, ratios = [], []
            for name in names:
                a, b = found.get((name, "pyomo_relu")), found.get((name, other))
                if a is None or b is None:
                    cells.append("")
                    continue
                x, y = (
                    r["build"] + r["load"]
                    if key == "total"
                    else max(r[key], 0.1)
                    if key == "megabytes"
                    else r[key]
                    for r in (a, b)
                )
                ratios.append(y / x if other != "floor" else x / y)
                cells.append(f"{ratios[-1]:.1f}")
            label = f"{other} / pyomo_relu" if other != "floor" else "pyomo_relu / floor"
            lines.append([f"{label}, {what}", *cells, f"{geometric_mean(ratios):.1f}"])
    parts.append("## Ratios\n\n" + table(["", *names, "geometric mean"], lines))
    failed = [r for r in rows if "error" in r]
    if failed:
        parts.append(
            "Failed: "
            + "; ".join(f"{r['tool']} on {r['network']}: {r['error']}" for r in failed)
        )
    return "\n\n".join(parts) + "\n"


def plot(rows: list[dict], names: list[str], tools: list[str], path) -> None:
    """Build time over the networks, if Matplotlib is there."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError:
        return
    figure, axes = plt.subplots(figsize=(8, 4.5))
    for tool in tools:
        points = [
            (k, r["build"])
            for k, name in enumerate(names)
            for r in rows
            if (r["tool"], r["network"]) == (tool, name) and "error" not in r
        ]
        if points:
            axes.plot(*zip(*points), marker="o", label=tool)
    axes.set_yscale("log")
    axes.set_xticks(range(len(names)), names, rotation=20, fontsize=8)
    axes.set_ylabel("CPU seconds to build")
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main() -> None:
    args = arguments(__doc__).parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    names = write_build(args.out)
    if args.quick:
        names = names[:2]
    tools = [t for t in TOOLS if not args.tools or t in args.tools]
    rows = []
    for name in names:
        for tool in tools:
            if name.startswith("c28") and tool in DENSE_ONLY:
                continue
            row = {"network": name, "tool": tool}
            row |= run("build", tool, args.out / f"{name}.npz", 60, args.peer_python)
            print(json.dumps(row), flush=True)
            rows.append(row)
    write_csv(args.out / "build.csv", rows)
    used = {p: run("versions", p, args.out, 0, args.peer_python) for p in ("own", "omlt")}
    text = report(rows, names, tools) + "\nVersions: " + json.dumps(used) + "\n"
    (args.out / "build.md").write_text(text)
    plot(rows, names, tools, args.out / "build.png")
    print(text)


if __name__ == "__main__":
    main()
