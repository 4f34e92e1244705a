"""Tables and the picture of the study of penalties."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from common import IMAGES, significant, table
from paper_plate_grid import SHAPED, SHAPES, STRENGTHS, USUAL
from paper_runs import mean_error


def parted(rows: Sequence[dict]) -> dict[tuple[str, str], dict[str, list[dict]]]:
    """Rows by function and shape, then by penalty and weight, plain ones first."""
    found: dict[tuple[str, str], dict[str, list[dict]]] = {}
    for r in rows:
        if r["study"] != "production":
            shape, _, run = r["run"].partition(": ")
            found.setdefault((r["study"], shape), {}).setdefault(run, []).append(r)
    order = list(STRENGTHS)

    def place(run: str) -> tuple[int, float]:
        name, _, weight = run.rpartition(" ")
        return order.index(name), float(weight)

    return {
        key: {run: own[run] for run in sorted(own, key=place)}
        for key, own in sorted(found.items(), key=lambda item: (item[0][1], item[0][0]))
    }


def against_plain(own: list[dict], plain: list[dict], number: str) -> str:
    """The mean ratio of a number to that of the plain network of the same seed."""
    base = {r["draw"]: r[number] for r in plain}
    ratios = [r[number] / base[r["draw"]] for r in own if base.get(r["draw"])]
    if not ratios:
        return ""
    mean, error = mean_error(ratios)
    # A search of a plain network that was ended would have taken longer.
    ended = number == "mip_cpu_seconds" and any(r["status"] != "optimal" for r in plain)
    most = "< " if ended and own is not plain else ""
    return (
        most + significant(mean) + ("" if np.isnan(error) else f" ± {significant(error)}")
    )


def searched(own: list[dict]) -> str:
    """The geometric mean of the seconds of the search; > where one of them was ended."""
    seconds = np.exp(np.mean([np.log(r["mip_cpu_seconds"]) for r in own]))
    ended = any(r["status"] != "optimal" for r in own)
    return ("> " if ended else "") + significant(float(seconds))


def root_gap(own: list[dict]) -> str:
    """How far the root lies below the best value, in standard deviations of the outputs."""
    gaps = [r["objective"] - r["root"] for r in own if r["objective"] is not None]
    return significant(float(np.mean(gaps))) if gaps else ""


#: What is said of the networks of one penalty and weight, by :func:`cells`.
COLUMNS = (
    "penalty and weight", "networks", "error / plain", "undecided", "root gap", "nodes",
    "search, CPU s", "search / plain", "training / plain",
)  # fmt: skip


def cells(run: str, own: list[dict], plain: list[dict]) -> list:
    """The networks of one penalty and weight against the plain ones of the same seeds."""
    return [
        run if run != "plain 0" else "plain",
        len(own),
        against_plain(own, plain, "error"),
        f"{np.mean([r['undecided'] for r in own]):.0f} of {own[0]['neurons']:.0f}",
        root_gap(own),
        f"{np.mean([r['nodes'] for r in own]):,.0f}",
        searched(own),
        against_plain(own, plain, "mip_cpu_seconds"),
        against_plain(own, plain, "train_cpu_seconds"),
    ]


def table_of(runs: dict[str, list[dict]]) -> str:
    """One function and shape."""
    plain = runs.get("plain 0", [])
    return table(COLUMNS, [cells(run, own, plain) for run, own in runs.items()])


def shapes_table(parts: dict[tuple[str, str], dict[str, list[dict]]]) -> str:
    """Depths and widths below each other, with few penalties."""
    lines = []
    for function, depth, width in SHAPES:
        runs = parts.get((function, f"{depth}x{width}"), {})
        for name in SHAPED:
            for weight in STRENGTHS[name]:
                run = f"{name} {weight:g}"
                if run in runs:
                    some = cells(run, runs[run], runs.get("plain 0", []))
                    error = significant(float(np.mean([r["error"] for r in runs[run]])))
                    lines.append([f"{depth}x{width}", *some[:3], error, *some[3:]])
    head = ["network", *COLUMNS[:3], "error", *COLUMNS[3:]]
    return table(head, lines)


def oil_table(rows: Sequence[dict]) -> str:
    """The oil production problem."""
    head = [
        "networks", "largest error", "training, CPU s", "undecided", "largest M",
        "bound at the root", "point", "bound", "nodes", "search, CPU s",
    ]  # fmt: skip

    def shown(value: float | None, digits: int = 4) -> str:
        there = value is not None and np.isfinite(value)
        return f"{value:.{digits}f}" if there else "-"

    lines = [
        [
            r["run"].removesuffix(" 0"),
            shown(r["error"]),
            shown(r["train_cpu_seconds"], 0),
            f"{r['undecided']:.0f} of {r['neurons']:.0f}",
            shown(r["largest_big_m"], 2),
            shown(r["root"]),
            shown(r["objective"]),
            shown(r["bound"]),
            f"{r['nodes']:,.0f}",
            ("> " if r["status"] != "optimal" else "") + significant(r["mip_cpu_seconds"]),
        ]
        for r in rows
        if r["study"] == "production"
    ]
    return table(head, lines)


def summary(rows: list[dict]) -> dict[str, str]:
    """The tables of the page: what the usual study has."""
    parts = parted(rows)
    found = {}
    for function, depth, width, _, _ in USUAL:
        shape = f"{depth}x{width}"
        if (function, shape) in parts:
            usual = {
                run: own
                for run, own in parts[function, shape].items()
                if (weight := float(run.rpartition(" ")[2])) == 0
                or weight in STRENGTHS[run.rpartition(" ")[0]]
            }
            found[f"{function} {shape}"] = table_of(usual)
    if any((function, f"{d}x{w}") in parts for function, d, w in SHAPES):
        found["shapes"] = shapes_table(parts)
    if any(r["study"] == "production" for r in rows):
        found["production"] = oil_table(rows)
    return found


def plot(rows: list[dict], path: Path = IMAGES / "paper_plate.png") -> None:
    """The trade-off: search against error, both over those of the plain network."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    parts = {k: v for k, v in parted(rows).items() if "plain 0" in v and len(v) > 1}
    across = 2
    down = -(-len(parts) // across)
    fig, axes = plt.subplots(
        down, across, figsize=(9, 3.4 * down + 0.8), layout="constrained", squeeze=False
    )
    names = [name for name in STRENGTHS if name != "plain"]
    colors = dict(zip(names, [*plt.get_cmap("tab10").colors, "black", "gold"]))
    marks = dict(zip(names, "osv^<>DPX*hd"))

    def at(own: list[dict], plain: list[dict]) -> tuple[float, float]:
        base = {r["draw"]: r for r in plain}
        numbers = ("error", "mip_cpu_seconds")
        ratios = [[r[k] / base[r["draw"]][k] for k in numbers] for r in own]
        error, seconds = np.exp(np.mean(np.log(ratios), axis=0))
        return float(error), float(seconds)

    for ax, ((function, shape), own) in zip(axes.flat, parts.items()):
        plain = own["plain 0"]
        ax.axvspan(0.9, 1.1, color="0.93", zorder=0)
        for name in names:
            line = [at(v, plain) for k, v in own.items() if k.rpartition(" ")[0] == name]
            if line:
                ax.plot(
                    *zip((1.0, 1.0), *line), color=colors[name], marker=marks[name], ms=5,
                    lw=1.2, markevery=slice(1, None),
                )  # fmt: skip
        ax.plot(1.0, 1.0, "k*", ms=13, zorder=3)
        ax.set(yscale="log", title=f"{function.capitalize()}, {shape}")
        ax.xaxis.set_major_locator(MaxNLocator(6))
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.grid(alpha=0.3)
    for ax in axes.flat[len(parts) :]:
        ax.axis("off")
    for ax in axes[-1]:
        ax.set_xlabel("error / plain")
    for ax in axes[:, 0]:
        ax.set_ylabel("CPU s of the search / plain")
    handles = [plt.Line2D([], [], color="k", marker="*", ls="", ms=11, label="plain")]
    handles += [
        plt.Line2D([], [], color=colors[n], marker=marks[n], label=n) for n in names
    ]
    fig.legend(handles=handles, loc="outside upper center", ncols=6, fontsize=9)
    fig.savefig(path, dpi=110)
    plt.close(fig)
