"""Every formulation on small trained networks: size, relaxation, nodes, time.

    python benchmarks/formulations.py --limit 20 --out benchmark_results

writes formulations.csv, formulations.md and formulations.png into --out. The networks
are regressions of the peaks function, trained with scikit-learn and kept in --out; the
objective minimizes the output over the box. The root value is that of the LP relaxation
before the solver's own cuts. One thread; CPU seconds of the solver, bounds and writing
apart. HiGHS solves what has binaries, SCIP what has sets or products.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import time
from pathlib import Path

import numpy as np
import pyomo.environ as pyo
from common import seconds, table, write_csv
from instances import _surface, _trained

from pyomo_relu import NetworkBuilder, ReLUNetBlock, activations
from pyomo_relu.network import Network

#: Networks and the bounds they are written with.
CASES = [
    ("peaks-10-10", (10, 10), "interval"),
    ("peaks-20-20", (20, 20), "interval"),
    ("peaks-20-20", (20, 20), "lp"),
    ("peaks-10-10-10", (10, 10, 10), "lp"),
]
FORMULATIONS = [
    ("bigm", {}),
    ("cuts", {"scope": "model"}),
    ("partition", {"parts": 2}),
    ("partition", {"parts": 5}),
    ("hull", {}),
    ("disjunctive", {}),
    ("relaxation", {}),
    ("sos1", {}),
    ("indicator", {}),
    ("complementarity", {}),
]
SCIP = ("sos1", "indicator", "complementarity")


def trained(folder: Path, hidden: tuple[int, ...]) -> Network:
    """A peaks regression over [-1, 1] squared, from the cache if it is there."""
    path = folder / ("peaks-" + "-".join(map(str, hidden)) + ".npz")
    if path.exists():
        return Network.load(path)
    x = np.random.default_rng(0).uniform(-1, 1, (4000, 2))
    b = NetworkBuilder()
    last = b.input("x", (2,))
    layers = _trained(0, x, _surface("peaks", x), hidden)
    for k, (w, bias) in enumerate(layers, start=1):
        last = b.affine(f"dense_{k}", [(last, w)], bias)
        if k < len(layers):
            last = b.piecewise(f"relu_{k}", last, activations.relu())
    net = b.build([last])
    net.save(path)
    return net


def model_of(net: Network, bounds: str, formulation: str, options: dict):
    """The model and the CPU seconds of bounds and writing."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(2), bounds=(-1, 1))
    begin = time.process_time()
    m.net = ReLUNetBlock(network=net, inputs=m.x, bounds=bounds, formulation=None)
    m.goal = pyo.Objective(expr=m.net.outputs[0])
    m.net.reformulate(formulation, **options)
    return m, time.process_time() - begin


def sizes(m) -> dict:
    """Rows, columns, binaries and non-zeros."""
    from pyomo.core.expr.visitor import identify_variables

    seen, rows, nonzeros = {}, 0, 0
    for c in m.component_data_objects(pyo.Constraint, active=True):
        found = list(identify_variables(c.to_bounded_expression()[1]))
        rows, nonzeros = rows + 1, nonzeros + len(found)
        seen.update((id(v), v) for v in found)
    return {
        "rows": rows,
        "columns": len(seen),
        "binaries": sum(v.is_binary() for v in seen.values()),
        "nonzeros": nonzeros,
    }


def root_value(path: Path) -> float | None:
    """The LP relaxation of a model file, sets left out."""
    import highspy

    text = path.read_text()
    if "\nSOS\n" in text:
        text = text[: text.index("\nSOS\n")] + "\nend\n"
        path = path.with_suffix(".root.lp")
        path.write_text(text)
    h = highspy.Highs()
    h.setOptionValue("output_flag", False)
    h.setOptionValue("solve_relaxation", True)
    h.setOptionValue("threads", 1)
    h.readModel(str(path))
    h.run()
    if h.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return None
    return h.getInfo().objective_function_value


def solve_highs(path: Path, limit: float) -> dict:
    """Nodes, bounds and time of HiGHS with one thread."""
    import highspy

    h = highspy.Highs()
    h.setOptionValue("output_flag", False)
    h.setOptionValue("threads", 1)
    h.setOptionValue("time_limit", limit)
    h.readModel(str(path))
    begin = time.process_time()
    h.run()
    info = h.getInfo()
    return {
        "nodes": max(0, info.mip_node_count),
        "value": info.objective_function_value,
        "bound": info.mip_dual_bound,
        "optimal": h.getModelStatus() == highspy.HighsModelStatus.kOptimal,
        "seconds": time.process_time() - begin,
    }


def solve_scip(path: Path, limit: float) -> dict:
    """Nodes, bounds and time of SCIP."""
    import pyscipopt

    model = pyscipopt.Model()
    model.hideOutput()
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


def measure(folder: Path, case, formulation: str, options: dict, limit: float) -> dict:
    """One row of the table."""
    name, hidden, bounds = case
    net = trained(folder, hidden)
    label = formulation + (f" {options['parts']}" if "parts" in options else "")
    m, build = model_of(net, bounds, formulation, options)
    row = {"network": name, "bounds": bounds, "formulation": label, "build": build}
    row.update(sizes(m))
    path = folder / "model.lp"
    m.write(str(path))
    products = formulation == "complementarity"
    row["root"] = None if products else root_value(path)
    row["solver"] = "SCIP" if formulation in SCIP else "HiGHS"
    solve = solve_scip if formulation in SCIP else solve_highs
    if formulation == "relaxation":
        row.update(nodes=0, value=None, bound=row["root"], optimal=True, seconds=0.0)
        begin = time.process_time()
        root_value(path)
        row["seconds"] = time.process_time() - begin
        return row
    row.update(solve(path, limit))
    return row


def report(rows: list[dict], limit: float) -> str:
    """Markdown tables, one for each network and bounds."""
    lines = []
    for key in dict.fromkeys((r["network"], r["bounds"]) for r in rows):
        mine = [r for r in rows if (r["network"], r["bounds"]) == key]
        best = min(
            (r["value"] for r in mine if r["optimal"] and r["value"] is not None),
            default=float("nan"),
        )
        lines += [f"## {key[0]}, {key[1]} bounds (optimum {best:.4f})", ""]
        head = ["formulation", "solver", "rows", "columns", "binaries", "nonzeros"]
        head += ["root", "nodes", "CPU s"]
        cells = []
        for r in mine:
            time_spent = seconds(r["seconds"])
            if not r["optimal"]:
                time_spent = f"limit, bound {r['bound']:.4g}"
            cells.append(
                [
                    r["formulation"],
                    r["solver"],
                    r["rows"],
                    r["columns"],
                    r["binaries"],
                    r["nonzeros"],
                    "" if r["root"] is None else f"{r['root']:.3f}",
                    r["nodes"],
                    time_spent,
                ]
            )
        lines += [table(head, cells), ""]
    lines.append(f"Limit {limit:g} s for each.")
    return "\n".join(lines)


def plot(rows: list[dict], path: Path, limit: float) -> None:
    """Root gap against time, a panel for each network."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    keys = list(dict.fromkeys((r["network"], r["bounds"]) for r in rows))
    figure, axes = plt.subplots(1, len(keys), figsize=(4 * len(keys), 3.6), squeeze=False)
    for axis, key in zip(axes[0], keys):
        mine = [r for r in rows if (r["network"], r["bounds"]) == key]
        best = min(r["value"] for r in mine if r["optimal"] and r["value"] is not None)
        for r in mine:
            if r["root"] is None or r["formulation"] == "relaxation":
                continue
            marker = "o" if r["optimal"] else "^"
            axis.plot(best - r["root"], max(r["seconds"], 1e-2), marker, color="C0")
            axis.annotate(
                r["formulation"],
                (best - r["root"], max(r["seconds"], 1e-2)),
                fontsize=7,
                xytext=(3, 3),
                textcoords="offset points",
            )
        axis.set(yscale="log", title=f"{key[0]}, {key[1]}", xlabel="root gap")
        axis.set_ylabel("CPU seconds")
        axis.axhline(limit, color="0.8", linewidth=0.8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("benchmark_results"))
    parser.add_argument("--limit", type=float, default=20.0)
    parser.add_argument("--quick", action="store_true", help="the first network only")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for case in CASES[:1] if given.quick else CASES:
        for formulation, options in FORMULATIONS:
            row = measure(given.out, case, formulation, options, given.limit)
            rows.append(row)
            print(
                f"{row['network']} {row['bounds']} {row['formulation']}: root {row['root']}, "
                f"{row['nodes']} nodes, {row['seconds']:.2f} s, {row['value']}",
                flush=True,
            )
            write_csv(given.out / "formulations.csv", rows)
    (given.out / "formulations.md").write_text(report(rows, given.limit) + "\n")
    plot(rows, given.out / "formulations.png", given.limit)


if __name__ == "__main__":
    main()
