"""Every formulation on trained networks: size, relaxation, nodes, time.

    python benchmarks/formulations.py [--limit 10] [--only PATTERN] [--report]

One run measures everything, into ``benchmarks/results/formulations.csv``; one that was
stopped continues where it was. The tables and the plot are made from all rows at the end,
or from those there are with ``--report``. The networks are regressions of Peaks, Ackley
and Himmelblau, trained with scikit-learn from fixed seeds and kept beside the rows, whose
output is minimized over the box, and the 784-50-50-10 network of Tsay et al., where
another class is to win over a box around an image. The root value is that of the LP
relaxation before the solver's own cuts. One thread; CPU seconds, the limit too. HiGHS
solves what has binaries, SCIP what has sets or products.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import csv
import re
import tempfile
import time
from pathlib import Path

import numpy as np
import pyomo.environ as pyo
from common import (
    IMAGES,
    RESULTS,
    geometric_mean,
    publish,
    seconds,
    significant,
    table,
    write_csv,
)
from instances import DATA, _surface, _trained

from pyomo_relu import NetworkBuilder, ReLUNetBlock, activations
from pyomo_relu.network import Network

#: Name of the network and the bounds it is written with.
CASES = [
    ("peaks 10-10-10", "interval"),
    ("peaks 10-10-10", "lp"),
    ("ackley 10-10-10", "lp"),
    ("himmelblau 10-10-10", "lp"),
    ("peaks 20-20", "interval"),
    ("peaks 20-20", "lp"),
    ("peaks 20-20-20", "lp"),
    ("mnist 50-50", "lp"),
]
FORMULATIONS = [
    ("bigm", {}),
    ("cuts", {"scope": "model"}),
    ("partition", {"parts": 2}),
    ("partition", {"parts": 5}),
    ("hull", {}),
    ("disjunctive", {}),
    ("sos1", {}),
    ("indicator", {}),
    ("complementarity", {}),
    ("relaxation", {}),
    ("fixed_pattern", {}),
]
SCIP = ("sos1", "indicator", "complementarity")
#: Formulations that don't have the network's optimum.
OTHER = ("relaxation", "fixed_pattern")
KEY = ("network", "bounds", "formulation")
SIZES = ("rows", "columns", "binaries", "nonzeros")
RADIUS = 0.01


def surrogate(surface: str, hidden: tuple[int, ...]) -> Network:
    """A regression over [-1, 1] squared."""
    x = np.random.default_rng(0).uniform(-1, 1, (4000, 2))
    return chain(_trained(0, x, _surface(surface, x), hidden))


def chain(layers) -> Network:
    """Dense layers with ReLU between them."""
    b = NetworkBuilder()
    last = b.input("x", (layers[0][0].shape[1],))
    for k, (w, bias) in enumerate(layers, start=1):
        last = b.affine(f"dense_{k}", [(last, w)], bias)
        if k < len(layers):
            last = b.piecewise(f"relu_{k}", last, activations.relu())
    return b.build([last])


def problem(name: str):
    """The network, its box, and the coefficients of the output to minimize; or None."""
    surface, widths = name.split()
    if surface == "mnist":
        path = DATA / "tsay_mnist_2x50" / "mnist_2x50.npz"
        if not path.exists():
            return None
        d = np.load(path)
        layers = [(d[f"w{j}"].astype(float), d[f"b{j}"].astype(float)) for j in (1, 2, 3)]
        image = d["images"][0].astype(float)
        image /= max(float(d["images"].max()), 1.0)
        true, target = (int(t) for t in d["labels"][0])
        cost = np.zeros(10)
        cost[true], cost[target] = 1.0, -1.0
        box = (np.clip(image + e, 0, 1) for e in (-RADIUS, RADIUS))
        return chain(layers), *box, cost
    path = RESULTS / "formulations" / f"{surface}-{widths}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        surrogate(surface, tuple(map(int, widths.split("-")))).save(path)
    return Network.load(path), -np.ones(2), np.ones(2), np.ones(1)


def model_of(name: str, bounds: str, formulation: str, options: dict):
    """The model and the CPU seconds of bounds, and of writing and separating."""
    found = problem(name)
    if found is None:
        return None
    net, low, high, cost = found
    if formulation == "fixed_pattern":
        options = {"at": (low + high) / 2}
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(len(low)))
    for i in m.x:
        m.x[i].setlb(float(low[i]))
        m.x[i].setub(float(high[i]))
    begin = time.process_time()
    m.net = ReLUNetBlock(network=net, inputs=m.x, bounds=bounds, formulation="bigm")
    m.goal = pyo.Objective(
        expr=pyo.quicksum(float(c) * m.net.outputs[j] for j, c in enumerate(cost) if c)
    )
    middle = time.process_time()
    m.net.reformulate(formulation, **options)
    return m, middle - begin, time.process_time() - middle


def sizes(m) -> dict:
    """Rows, columns, binaries and non-zeros."""
    from pyomo.core.expr.visitor import identify_variables

    seen, rows, nonzeros = {}, 0, 0
    for c in m.component_data_objects(pyo.Constraint, active=True):
        found = list(identify_variables(c.to_bounded_expression()[1]))
        rows, nonzeros = rows + 1, nonzeros + len(found)
        seen.update((id(v), v) for v in found)
    binaries = sum(v.is_binary() for v in seen.values())
    return dict(zip(SIZES, (rows, len(seen), binaries, nonzeros)))


def highs(path: Path, limit: float, relaxed: bool = False):
    """Solve a model file with HiGHS; the solver and its CPU seconds."""
    import highspy

    h = highspy.Highs()
    h.setOptionValue("output_flag", False)
    h.setOptionValue("threads", 1)
    h.setOptionValue("solve_relaxation", relaxed)
    h.readModel(str(path))
    begin = time.process_time()

    def stop(event) -> None:
        if time.process_time() - begin > limit:
            event.interrupt()

    h.cbMipInterrupt += stop
    h.cbSimplexInterrupt += stop
    h.HandleUserInterrupt = True
    h.run()
    return h, time.process_time() - begin


def root_value(path: Path, limit: float) -> tuple[float | None, float]:
    """The LP relaxation of a model file, sets left out, and its CPU seconds."""
    import highspy

    text = path.read_text()
    if "\nSOS\n" in text:
        text = text[: text.index("\nSOS\n")] + "\nend\n"
        path = path.with_suffix(".root.lp")
        path.write_text(text)
    h, spent = highs(path, limit, relaxed=True)
    if h.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return None, spent
    return h.getInfo().objective_function_value, spent


def solve_highs(path: Path, limit: float) -> dict:
    """Nodes, bounds and time of HiGHS."""
    import highspy

    h, spent = highs(path, limit)
    info = h.getInfo()
    feasible = info.primal_solution_status == highspy.kSolutionStatusFeasible
    return {
        "nodes": max(0, info.mip_node_count),
        "value": info.objective_function_value if feasible else None,
        "bound": info.mip_dual_bound,
        "optimal": h.getModelStatus() == highspy.HighsModelStatus.kOptimal,
        "seconds": spent,
    }


def solve_scip(path: Path, limit: float) -> dict:
    """Nodes, bounds and time of SCIP."""
    import pyscipopt

    model = pyscipopt.Model()
    model.hideOutput()
    model.setParam("timing/clocktype", 1)  # CPU seconds
    model.setParam("limits/time", limit)
    model.readProblem(str(path))
    begin = time.process_time()
    model.optimize()
    return {
        "nodes": model.getNTotalNodes(),
        "value": model.getObjVal() if model.getNSols() else None,
        "bound": model.getDualbound(),
        "optimal": model.getStatus() == "optimal",
        "seconds": time.process_time() - begin,
    }


def label(formulation: str, options: dict) -> str:
    """The formulation's name in the tables."""
    return formulation + (f" {options['parts']}" if "parts" in options else "")


def measure(case, formulation: str, options: dict, limit: float) -> dict | None:
    """One row of the table; None where the data are missing."""
    name, bounds = case
    found = model_of(name, bounds, formulation, options)
    if found is None:
        return None
    m, bound_time, build = found
    row = {"network": name, "bounds": bounds, "formulation": label(formulation, options)}
    row.update(limit=limit, bounds_seconds=bound_time, build=build, **sizes(m))
    row["solver"] = "SCIP" if formulation in SCIP else "HiGHS"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.lp"
        m.write(str(path))
        products = formulation == "complementarity"
        root, spent = (None, 0.0) if products else root_value(path, limit)
        row["root"] = root
        if formulation in OTHER:
            row.update(nodes=0, value=None, bound=root, optimal=root is not None)
            row["seconds"] = spent
        else:
            solve = solve_scip if formulation in SCIP else solve_highs
            row.update(solve(path, limit))
    return row


def stored(path: Path) -> list[dict]:
    """The rows of earlier runs."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        for key, text in row.items():
            if key == "optimal":
                row[key] = text == "True"
            elif key not in (*KEY, "solver"):
                row[key] = None if text == "" else float(text)
        row.update((key, int(row[key])) for key in (*SIZES, "nodes"))
    return rows


def panels(rows: list[dict]) -> dict[tuple[str, str], list[dict]]:
    """The rows of each network and bounds."""
    found: dict[tuple[str, str], list[dict]] = {}
    for row in rows:
        found.setdefault((row["network"], row["bounds"]), []).append(row)
    return found


def best_value(mine: list[dict]) -> float:
    """The optimum of one panel; an error if exact formulations disagree about it."""
    exact = [r for r in mine if r["formulation"] not in OTHER and r["value"] is not None]
    solved = [r for r in exact if r["optimal"]]
    values = [r["value"] for r in solved or exact]
    if not values:
        return float("nan")
    spread = max(values) - min(values)
    if solved and spread > 1e-3 * max(1.0, abs(min(values))):
        named = {r["formulation"]: r["value"] for r in solved}
        raise RuntimeError(f"{mine[0]['network']}: the optima differ: {named}")
    return min(values)


def report(rows: list[dict]) -> str:
    """Markdown tables, one for each network and bounds."""
    lines = []
    for (name, bounds), mine in panels(rows).items():
        best = best_value(mine)
        known = "optimum" if any(r["optimal"] and r["value"] for r in mine) else "best"
        lines += [f"## {name}, {bounds} bounds ({known} {best:.4f})", ""]
        head = ["formulation", "solver", *SIZES, "root", "build s", "nodes", "CPU s"]
        cells = []
        for r in mine:
            spent = seconds(r["seconds"])
            if not r["optimal"]:
                spent = f"limit, bound {r['bound']:.4g}" if r["bound"] else "limit"
            root = "" if r["root"] is None else f"{r['root']:.3f}"
            cells.append(
                [r["formulation"], r["solver"], *(r[k] for k in SIZES)]
                + [root, seconds(r["build"]), r["nodes"], spent]
            )
        lines += [table(head, cells), ""]
    limits = sorted({r["limit"] for r in rows})
    lines.append(f"Limit {', '.join(f'{t:g}' for t in limits)} CPU s for each.")
    return "\n".join(lines)


def summary(rows: list[dict]) -> str:
    """Each formulation against `bigm`: geometric means over networks and bounds."""
    found = panels(rows)
    lines = []
    for name in dict.fromkeys(r["formulation"] for r in rows):
        if name in OTHER:
            continue
        sizes, gaps, times, solved, tried = [], [], [], 0, 0
        for mine in found.values():
            by = {r["formulation"]: r for r in mine}
            if name not in by or "bigm" not in by:
                continue
            row, base, best = by[name], by["bigm"], best_value(mine)
            tried += 1
            solved += row["optimal"]
            sizes.append(row["nonzeros"] / base["nonzeros"])
            if row["root"] is not None:
                gaps.append((best - row["root"]) / (best - base["root"]))
            if row["optimal"] and base["optimal"]:
                spent = row["build"] + row["seconds"]
                times.append(spent / (base["build"] + base["seconds"]))
        numbers = [
            significant(geometric_mean(v)) if v else "" for v in (sizes, gaps, times)
        ]
        numbers[2] += f" ({len(times)})" * bool(times)
        lines.append([name, by_solver(rows, name), *numbers, f"{solved} of {tried}"])
    head = ["formulation", "solver", "nonzeros", "root gap", "CPU s", "solved"]
    return table(head, lines)


def by_solver(rows: list[dict], name: str) -> str:
    """The solver of a formulation."""
    return next(r["solver"] for r in rows if r["formulation"] == name)


def plot(rows: list[dict], path: Path) -> None:
    """Root gap against time, a panel for each network and bounds."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = [label(f, o) for f, o in FORMULATIONS if f not in (*OTHER, "complementarity")]
    colors = dict(zip(names, plt.get_cmap("tab10").colors))
    found = panels(rows)
    across = 4
    down = -(-len(found) // across)
    figure, axes = plt.subplots(
        down, across, figsize=(3.2 * across, 3.0 * down), squeeze=False
    )
    for axis in axes.ravel()[len(found) :]:
        axis.axis("off")
    for axis, ((name, bounds), mine) in zip(axes.ravel(), found.items()):
        best = best_value(mine)
        for r in mine:
            if r["root"] is None or r["formulation"] not in colors:
                continue
            axis.plot(
                best - r["root"],
                max(r["seconds"] + r["build"], 1e-2),
                "o" if r["optimal"] else "^",
                color=colors[r["formulation"]],
                markersize=8,
                alpha=0.85,
            )
        axis.set(yscale="log", ylim=(0.01, 30), title=f"{name}, {bounds}")
    for axis in axes[:, 0]:
        axis.set_ylabel("CPU seconds, build and solve")
    for axis in axes[-1]:
        axis.set_xlabel("root gap")
    for name, color in colors.items():
        axes[0, 0].plot([], [], "o", color=color, label=name)
    axes[0, 0].plot([], [], "^", color="0.5", label="not solved within the limit")
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="lower center", ncols=9)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--limit", type=float, default=10.0, help="CPU seconds of a solve")
    parser.add_argument("--only", default="", help="regular expression of a row's key")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    given = parser.parse_args()
    path = RESULTS / "formulations.csv"
    rows = stored(path)
    done = {tuple(r[k] for k in KEY) for r in rows}
    for case in CASES:
        for formulation, options in FORMULATIONS:
            key = (*case, label(formulation, options))
            if given.report or key in done or not re.search(given.only, " ".join(key)):
                continue
            row = measure(case, formulation, options, given.limit)
            if row is None:
                print(f"{key}: no data, left out", flush=True)
                continue
            rows.append(row)
            write_csv(path, rows)
            print(*key, row["root"], row["nodes"], row["value"], row["seconds"], flush=True)
    order = {(*c, label(f, o)): k for k, (c, f, o) in enumerate(every())}
    rows.sort(key=lambda r: order.get(tuple(r[k] for k in KEY), len(order)))
    write_csv(path, rows)
    title = "# Formulations: every network and bounds\n\n"
    publish("formulations", {"means": summary(rows)}, title + report(rows))
    print(summary(rows))
    plot(rows, IMAGES / "formulations.png")


def every():
    """All rows of the table, in order."""
    return ((c, f, o) for c in CASES for f, o in FORMULATIONS)


if __name__ == "__main__":
    main()
