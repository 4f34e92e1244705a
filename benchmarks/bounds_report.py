"""Tables and the picture of docs/benchmarks/bounds.md from the rows that were measured.

    python benchmarks/bounds_report.py [--csv FILE] [--effect FILE] [--picture FILE]

Reads what ``benchmarks/bounds.py`` and ``benchmarks/bounds_effect.py`` wrote. The page
includes results/bounds_summary.md and links to results/bounds.md, which has every rung of
every network. Draws the width of the outputs over CPU time for each network.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from pathlib import Path

from bounds import read_rows
from common import IMAGES, RESULTS, geometric_mean, publish, significant, table

Row = dict[str, str]

#: Networks of the picture.
PICTURED = (
    "peaks 2-20-20-20-1",
    "peaks 2-50-50-1",
    "random 10-30-30-1",
    "ACAS Xu 1_1, property 1",
    "random 784-50-50-10",
    "random 784-500-500-10",
    "random 784-256-256-256-10",
    "conv 28x28",
    "mnistfc 256x4, 0.03",
)


def number(text: str, digits: int = 4) -> str:
    """A figure with so many digits that count, and no exponent."""
    value = float(text)
    if value == 0 or not math.isfinite(value):
        return text
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(places, 4)}f}"


def width_table(rows: list[Row]) -> str:
    """All rungs of all networks."""
    lines = [
        "| network | rung | output | mean | stable | CPU s | MB |",
        "|---|---|---|---|---|---|---|",
    ]
    last = ""
    for r in rows:
        name = f"{r['network']} ({r['neurons']})" if r["network"] != last else ""
        last = r["network"]
        share = f"{r['stable']} ({100 * int(r['stable']) / int(r['neurons']):.0f} %)"
        stopped = (
            "" if r["complete"] == "True" else f", stopped after {r['limit_seconds']} s"
        )
        lines.append(
            f"| {name} | {r['rung']}{stopped} | {number(r['output_width'])} "
            f"| {number(r['mean_width'])} | {share} | {number(r['cpu_seconds'], 2)} "
            f"| {float(r['peak_mb']):.0f} |"
        )
    return "\n".join(lines)


def aim_table(rows: list[Row]) -> str:
    """`alpha_crown` against `lp` where both went through."""
    by_network: dict[str, dict[str, Row]] = defaultdict(dict)
    for r in rows:
        if r["complete"] == "True":
            by_network[r["network"]][r["rung"]] = r
    lines = [
        "| network | crown | alpha_crown | lp | lp / alpha_crown | mean width over lp's |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in by_network.items():
        if "lp" not in found or "alpha_crown" not in found:
            continue
        crown, alpha, lp = (
            float(found[k]["cpu_seconds"]) for k in ("crown", "alpha_crown", "lp")
        )
        excess = float(found["alpha_crown"]["mean_width"]) / float(
            found["lp"]["mean_width"]
        )
        lines.append(
            f"| {name} | {crown:.3f} | {alpha:.3f} | {lp:.3f} | {lp / alpha:.1f} "
            f"| {100 * (excess - 1):+.2f} % |"
        )
    return "\n".join(lines)


def summary_table(rows: list[Row]) -> str:
    """Each rung against `crown`: geometric means over the networks on which it ended."""
    crown = {r["network"]: r for r in rows if r["rung"] == "crown"}
    lines = []
    for rung in dict.fromkeys(r["rung"] for r in rows):
        tried = [r for r in rows if r["rung"] == rung and r["network"] in crown]
        ended = [r for r in tried if r["complete"] == "True"]
        count = f"{len(ended)} of {len(tried)}"
        if not ended:
            lines.append([rung, count, "", "", "", ""])
            continue

        def ratio(column: str, ended: list[Row] = ended) -> float:
            return geometric_mean(
                float(r[column]) / float(crown[r["network"]][column]) for r in ended
            )

        more = [
            (int(r["stable"]) - int(crown[r["network"]]["stable"])) / int(r["neurons"])
            for r in ended
        ]
        lines.append(
            [rung, count, f"{ratio('output_width'):.2f}", f"{ratio('mean_width'):.2f}"]
            + [f"{100 * sum(more) / len(more):+.1f} %", significant(ratio("cpu_seconds"))]
        )
    head = ["rung", "ended", "output", "mean", "stable", "CPU s"]
    return table(head, lines)


def effect_table(rows: list[Row]) -> str:
    """Geometric means over the instances of each group that all rungs have done."""
    groups: dict[str, dict[str, dict[str, Row]]] = defaultdict(lambda: defaultdict(dict))
    for r in rows:
        groups[r["group"]][r["bounds"]][r["instance"]] = r
    lines = [
        "| instances | bounds | stable | bounds s | MIP s | nodes | total s | unsolved |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for group, rungs in groups.items():
        common = sorted(set.intersection(*(set(found) for found in rungs.values())))
        for k, (rung, found) in enumerate(rungs.items()):
            some = [found[i] for i in common]
            stable = sum(int(r["stable"]) for r in some) / len(some)
            pre = [float(r["bounds_cpu_seconds"]) for r in some]
            mip = [float(r["mip_cpu_seconds"]) for r in some]
            nodes = geometric_mean([max(1.0, float(r["nodes"])) for r in some])
            name = (
                f"{group}, {len(common)} instance" + "s" * (len(common) > 1)
                if k == 0
                else ""
            )
            lines.append(
                f"| {name} | {rung} | {stable:.1f} of {some[0]['neurons']} "
                f"| {geometric_mean(pre):.3f} | {geometric_mean(mip):.2f} | {nodes:,.0f} "
                f"| {geometric_mean([a + b for a, b in zip(pre, mip)]):.2f} "
                f"| {sum(r['solved'] != 'True' for r in some)} |"
            )
    return "\n".join(lines)


def draw(rows: list[Row], path: Path) -> None:
    """Width of the outputs over CPU seconds, one panel for each network."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = [n for n in PICTURED if any(r["network"] == n for r in rows)]
    rungs = list(dict.fromkeys(r["rung"] for r in rows))
    markers = dict(zip(rungs, "osD^vP*X<>hp"))
    colors = {rung: f"C{k % 10}" if k < 10 else "k" for k, rung in enumerate(rungs)}
    figure, axes = plt.subplots(
        math.ceil(len(names) / 3),
        3,
        figsize=(11, 3 * math.ceil(len(names) / 3)),
        squeeze=False,
    )
    for name, ax in zip(names, axes.flat):
        own = [r for r in rows if r["network"] == name]
        for r in own:
            done = r["complete"] == "True"
            ax.plot(
                float(r["cpu_seconds"]),
                float(r["output_width"]),
                markers[r["rung"]],
                color=colors[r["rung"]],
                markerfacecolor=colors[r["rung"]] if done else "none",
                markersize=7,
            )
        ax.set(xscale="log", yscale="log", title=f"{name} ({own[0]['neurons']})")
        ax.grid(alpha=0.3)
    for ax in list(axes.flat)[len(names) :]:
        ax.set_axis_off()
    for ax in axes[-1]:
        ax.set_xlabel("CPU seconds")
    for ax in axes[:, 0]:
        ax.set_ylabel("mean width of the outputs")
    handles = [
        plt.Line2D([], [], linestyle="", marker=markers[r], color=colors[r], label=r)
        for r in rungs
    ]
    figure.legend(handles=handles, loc="lower center", ncol=6, frameon=False)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", type=Path, default=RESULTS / "bounds.csv")
    parser.add_argument("--effect", type=Path, default=RESULTS / "bounds_effect.csv")
    parser.add_argument("--picture", type=Path, default=IMAGES / "bounds.png")
    arguments = parser.parse_args()
    rows = read_rows(arguments.csv)
    few = [r for r in rows if int(r["inputs"]) <= 10]
    many = [r for r in rows if int(r["inputs"]) > 10]
    summary = {
        "few inputs": summary_table(few),
        "many inputs": summary_table(many),
        "aims": aim_table(rows),
        "effect": effect_table(read_rows(arguments.effect)),
    }
    everything = "# Bounds: every rung of every network\n\n"
    everything += f"## Few inputs\n\n{width_table(few)}\n\n"
    publish("bounds", summary, everything + f"## Many inputs\n\n{width_table(many)}")
    print(*summary.values(), sep="\n\n")
    draw(rows, arguments.picture)


if __name__ == "__main__":
    main()
