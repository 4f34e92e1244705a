"""`relu_global` measured: random and trained networks, verification, a plant.

    python benchmarks/global.py random [--sizes 5-50-50-1] [--seeds 5] [--limit 120]
    python benchmarks/global.py images [--radii 0.002 0.005 0.01] [--limit 120]
    python benchmarks/global.py picture
    python benchmarks/global.py verification --set acasxu [--limit 60] [--count 108]
    python benchmarks/global.py plant [--limit 300] [--solvers relu_global appsi_highs]

CPU seconds of one process; set OMP_NUM_THREADS=1. What is measured is added to
benchmarks/results/global.csv.
"""

from __future__ import annotations

import argparse
import csv
import re
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import pyomo.environ as pyo

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pyomo_relu import (  # noqa: E402
    Network,
    NetworkBuilder,
    ReLUNetBlock,
    activations,
    read_network,
)
from pyomo_relu.presolve.reading import read_problem  # noqa: E402
from pyomo_relu.solvers.global_search.box_search import BoxSearch  # noqa: E402
from pyomo_relu.solvers.global_search.limits import Limits  # noqa: E402
from tests.harness.random_networks import he_network  # noqa: E402
from tests.paths import data_folder  # noqa: E402

COLUMNS = (
    "instance", "solver", "cpu_s", "wall_s", "nodes", "incumbent", "bound", "status",
)  # fmt: skip


def solve(model, name: str, **options):
    """Solve; CPU seconds and legacy results."""
    begin = time.process_time()
    results = pyo.SolverFactory(name).solve(model, **options)
    return time.process_time() - begin, results


def keep(row: dict) -> None:
    """Print a measurement and add it to the table of results."""
    print(", ".join(f"{k} {v}" for k, v in row.items()), flush=True)
    path = ROOT / "benchmarks" / "results" / "global.csv"
    new = not path.exists()
    with open(path, "a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerow(row)


def box_model(network, low=-1.0, high=1.0, formulation=None) -> pyo.ConcreteModel:
    """Maximize the first output over a box."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(network.n_inputs), bounds=(low, high))
    m.net = ReLUNetBlock(network=network, inputs=m.x, formulation=formulation)
    m.obj = pyo.Objective(expr=m.net.outputs[0], sense=pyo.maximize)
    return m


def random(arguments) -> None:
    """He-normal networks, the first output maximized over [-1, 1]^n."""
    sizes = [int(s) for s in arguments.sizes.split("-")]
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        begin = time.perf_counter()
        m = box_model(he_network(seed, sizes))
        seconds, results = solve(m, "relu_global", time_limit=arguments.limit)
        tree = results.solver.statistics.branch_and_bound
        keep(
            {
                "instance": f"random {arguments.sizes} seed {seed}",
                "solver": "relu_global",
                "cpu_s": round(seconds, 2),
                "wall_s": round(time.perf_counter() - begin, 2),
                "nodes": tree.number_of_created_subproblems,
                "incumbent": f"{results.problem.lower_bound:.6g}",
                "bound": f"{results.problem.upper_bound:.6g}",
                "status": results.solver.termination_condition,
            }
        )


def images(arguments) -> None:
    """784-50-50-10 around a random image: one output less another, two solvers."""
    for seed in range(arguments.seeds):
        rng = np.random.default_rng(seed)
        network, image = he_network(seed, (784, 50, 50, 10)), rng.random(784)
        for radius in arguments.radii:
            for name in arguments.solvers:
                begin, cpu = time.perf_counter(), time.process_time()
                m = pyo.ConcreteModel()
                m.x = pyo.Var(range(784))
                for j, x in enumerate(image.tolist()):
                    m.x[j].setlb(max(0.0, x - radius))
                    m.x[j].setub(min(1.0, x + radius))
                m.net = ReLUNetBlock(
                    network=network,
                    inputs=m.x,
                    formulation=None if name == "relu_global" else "bigm",
                )
                m.obj = pyo.Objective(
                    expr=m.net.outputs[1] - m.net.outputs[0], sense=pyo.maximize
                )
                _, results = solve(m, name, time_limit=arguments.limit)
                keep(
                    {
                        "instance": f"784-50-50-10 seed {seed} radius {radius}",
                        "solver": name,
                        "cpu_s": round(time.process_time() - cpu, 2),
                        "wall_s": round(time.perf_counter() - begin, 2),
                        "incumbent": f"{results.problem.lower_bound:.6g}",
                        "bound": f"{results.problem.upper_bound:.6g}",
                        "status": results.solver.termination_condition,
                    }
                )


# ------------------------------------------------------------------------ verification
def read_vnnlib(path: Path):
    """The box and a list of conjunctions ``a @ y <= b`` of a simple VNN-LIB file.

    Takes what the properties measured here use: simple bounds of inputs, comparisons of
    outputs with each other or with numbers, and one disjunction of conjunctions.
    """
    text = re.sub(r";.*", "", path.read_text())
    tokens = re.findall(r"[()]|[^\s()]+", text)

    def parse(at):
        if tokens[at] != "(":
            return tokens[at], at + 1
        items, at = [], at + 1
        while tokens[at] != ")":
            item, at = parse(at)
            items.append(item)
        return items, at + 1

    box: dict[int, list[float]] = {}
    rows, alternatives, at, outputs = [], [], 0, 0

    def atom(e):
        if e[0] == "and":
            return [x for part in e[1:] for x in atom(part)]
        sign = 1.0 if e[0] == "<=" else -1.0
        return [(sign, e[1], e[2])]

    while at < len(tokens):
        e, at = parse(at)
        if e[0] == "declare-const" and e[1].startswith("Y_"):
            outputs = max(outputs, int(e[1][2:]) + 1)
        if e[0] != "assert":
            continue
        if e[1][0] == "or":
            alternatives.append([atom(part) for part in e[1][1:]])
            continue
        for sign, left, right in atom(e[1]):
            if left.startswith("X_"):
                bounds = box.setdefault(int(left[2:]), [-np.inf, np.inf])
                bounds[1 if sign > 0 else 0] = float(right)
            else:
                rows.append((sign, left, right))
    if not alternatives:
        alternatives = [[[]]]
    assert len(alternatives) == 1
    cases = []
    for case in alternatives[0]:
        own = {k: list(v) for k, v in box.items()}
        linear = []
        for sign, left, right in [*rows, *case]:
            if left.startswith("X_"):
                bounds = own.setdefault(int(left[2:]), [-np.inf, np.inf])
                bounds[1 if sign > 0 else 0] = float(right)
                continue
            a, b = np.zeros(outputs), 0.0
            for name, w in ((left, sign), (right, -sign)):
                if name.startswith("Y_"):
                    a[int(name[2:])] += w
                else:
                    b -= w * float(name)
            linear.append((a, b))
        cases.append((np.array([own[k] for k in sorted(own)]), linear))
    return cases


def decide(network, cases, limit: float) -> tuple[str, int]:
    """``sat``, ``unsat`` or ``unknown``, and the number of boxes."""
    total, open_ = 0, False
    for box, linear in cases:
        m = pyo.ConcreteModel()
        m.x = pyo.Var(range(len(box)))
        for j, (low, high) in enumerate(box.tolist()):
            m.x[j].setlb(low)
            m.x[j].setub(high)
        m.net = ReLUNetBlock(network=network, inputs=m.x, formulation=None)
        m.rows = pyo.ConstraintList()
        for a, b in linear:
            m.rows.add(
                sum(float(w) * m.net.outputs[j] for j, w in enumerate(a) if w) <= float(b)
            )
        m.obj = pyo.Objective(expr=0.0)
        results = pyo.SolverFactory("relu_global").solve(m, time_limit=limit)
        tree = results.solver.statistics.branch_and_bound
        total += int(tree.number_of_created_subproblems or 0)
        condition = str(results.solver.termination_condition)
        if condition == "optimal":
            x = np.array([m.x[j].value for j in range(len(box))])
            y = network.evaluate(x)
            assert all(a @ y <= b + 1e-4 * max(1.0, abs(b)) for a, b in linear)
            return "sat", total
        open_ |= condition != "infeasible"
    return ("unknown" if open_ else "unsat"), total


def verification(arguments) -> None:
    """Every instance of a set against the tabulated verdicts."""
    folder = data_folder() / "verification"
    rows = [
        r
        for r in csv.DictReader(open(folder / "verdicts.csv"))
        if r["set"] == arguments.set
    ]
    if arguments.count < len(rows):
        rows = [rows[k * len(rows) // arguments.count] for k in range(arguments.count)]
    networks, times, wrong, unknown = {}, [], 0, 0
    for row in rows:
        if row["onnx"] not in networks:
            networks[row["onnx"]] = read_network(folder / arguments.set / row["onnx"])
        cases = read_vnnlib(folder / arguments.set / row["vnnlib"])
        begin = time.process_time()
        found, boxes = decide(networks[row["onnx"]], cases, arguments.limit)
        seconds = time.process_time() - begin
        times.append(seconds)
        wrong += found != "unknown" and found != row["verdict"]
        unknown += found == "unknown"
        print(
            f"{row['onnx']:34} {row['vnnlib']:28} {row['verdict']:6} {found:8} "
            f"{seconds:7.2f} s {boxes:8d}",
            flush=True,
        )
    print(
        f"{len(rows)} instances, {len(rows) - unknown} decided, {wrong} wrong, median "
        f"{statistics.median(times):.2f} s, worst {max(times):.1f} s"
    )


def plant(arguments) -> None:
    """The example's plant of six units, and the same model as a big-M MIP."""
    sys.path.insert(0, str(ROOT / "examples"))
    import plant_global

    networks = [plant_global.train(k) for k in range(plant_global.UNITS)]
    options = {"time_limit": arguments.limit, "threads": 1}
    for name in arguments.solvers:
        if name == "relu_global":
            m = plant_global.plant(networks, None)
            begin = time.perf_counter()
            seconds, results = solve(
                m, name, load_solutions=False, time_limit=arguments.limit
            )
        else:
            m = plant_global.plant(networks, "bigm")
            begin = time.perf_counter()
            seconds, results = solve(m, name, load_solutions=False, options=options)
        wall = time.perf_counter() - begin
        keep(
            {
                "instance": "plant of six units",
                "solver": name,
                "cpu_s": round(seconds, 2),
                "wall_s": round(wall, 2),
                "incumbent": results.problem.lower_bound,
                "bound": results.problem.upper_bound,
                "status": results.solver.termination_condition,
            }
        )


# ----------------------------------------------------------------------------- picture
class Painted(BoxSearch):
    """A search in the plane that remembers every box with its round."""

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.seen: list[tuple[int, np.ndarray, np.ndarray]] = []

    def _add(self, lower, upper, stored, parent) -> None:
        pairs = zip(lower.copy(), upper.copy())
        self.seen += [(self.counts.rounds + 1, low, high) for low, high in pairs]
        super()._add(lower, upper, stored, parent)


def peaks() -> Network:
    """Matlab's peaks, fitted by 80 random ReLUs."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1.0, 1.0, (4000, 2))
    a, b = (3.0 * x).T
    y = (
        3 * (1 - a) ** 2 * np.exp(-(a**2) - (b + 1) ** 2)
        - np.exp(-((a + 1) ** 2) - b**2) / 3
    )
    y = y - 10 * (a / 5 - a**3 - b**5) * np.exp(-(a**2) - b**2)
    w, shift = rng.normal(size=(80, 2)), rng.uniform(-1.0, 1.0, 80)
    w /= np.linalg.norm(w, axis=1, keepdims=True)
    features = np.column_stack([np.maximum(x @ w.T + shift, 0.0), np.ones(len(x))])
    left = features.T @ features + 1e-1 * np.eye(81)
    weights = np.linalg.solve(left, features.T @ y)
    builder = NetworkBuilder()
    last = builder.affine("dense", [(builder.input("x", (2,)), w)], shift)
    last = builder.piecewise("relu", last, activations.relu())
    return builder.build(
        [builder.affine("out", [(last, weights[None, :-1])], weights[-1:])]
    )


def history(model, name: str, **options) -> np.ndarray:
    """CPU seconds, incumbent and bound as the solver goes."""
    begin, rows = time.process_time(), []

    def note(event):
        rows.append((time.process_time() - begin, event.incumbent, event.bound))

    results = pyo.SolverFactory(name).solve(model, progress=note, **options)
    last = results.problem
    rows.append((time.process_time() - begin, last.lower_bound, last.upper_bound))
    return np.array(rows, dtype=float)


def picture(arguments) -> None:
    """When each part of a plane was decided; bounds against time for five inputs."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    network, n = peaks(), 400
    search = Painted(read_problem(box_model(network)), Limits(batch_size=4, leaf_neurons=0))
    search.run()
    side = -1.0 + (np.arange(n) + 0.5) * 2.0 / n
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    when = np.zeros((n, n))
    for number, low, high in search.seen:
        columns = (side >= low[0]) & (side <= high[0])
        rows = (side >= low[1]) & (side <= high[1])
        when[np.ix_(rows, columns)] = number
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.9), constrained_layout=True)
    extent, best = (-1, 1, -1, 1), search.incumbent.point
    values = network.evaluate(grid)[:, 0].reshape(n, n)
    shown = axes[0].imshow(values, origin="lower", extent=extent, cmap="viridis")
    figure.colorbar(shown, ax=axes[0])
    axes[0].set_title("output of a 2-80-1 network")
    shown = axes[1].imshow(when, origin="lower", extent=extent, cmap="magma_r")
    figure.colorbar(shown, ax=axes[1])
    axes[1].set_title(f"round that decided it ({search.counts.boxes} boxes)")
    for ax in axes[:2]:
        ax.plot(*best[:2], "o", mfc="none", mec="red", ms=12, mew=2)
        ax.set_xlabel("first input")
        ax.set_ylabel("second input")
    network = he_network(0, (5, 20, 20, 1))
    for name, colour, formulation, more in (
        ("relu_global", "tab:blue", None, {}),
        ("relu_highs", "tab:orange", "bigm", {"boxes": 0}),
    ):
        m = box_model(network, formulation=formulation)
        found = history(m, name, time_limit=arguments.limit, **more)
        found = np.where(np.isfinite(found), found, np.nan)
        label = "relu_global" if not more else "big-M and HiGHS"
        axes[2].step(found[:, 0], found[:, 2], color=colour, where="post", label=label)
        axes[2].step(found[:, 0], found[:, 1], "--", color=colour, where="post")
        print(name, found[-1])
    axes[2].set_xscale("log")
    axes[2].set_ylim(float(found[-1, 1]) - 1.0, float(found[-1, 1]) + 6.0)
    axes[2].set_xlabel("CPU seconds")
    axes[2].set_title("5-20-20-1: bound, best point (dashed)")
    axes[2].legend()
    figure.savefig(ROOT / "docs" / "images" / "relu_global.png", dpi=110)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("random")
    one.add_argument("--sizes", default="5-50-50-1")
    one.add_argument("--first", type=int, default=0)
    one.add_argument("--seeds", type=int, default=5)
    one.add_argument("--limit", type=float, default=120.0)
    one.set_defaults(run=random)
    one = commands.add_parser("images")
    one.add_argument("--radii", nargs="*", type=float, default=[0.002, 0.005, 0.01])
    one.add_argument("--seeds", type=int, default=3)
    one.add_argument("--limit", type=float, default=120.0)
    one.add_argument("--solvers", nargs="*", default=["relu_highs", "relu_global"])
    one.set_defaults(run=images)
    one = commands.add_parser("picture")
    one.add_argument("--limit", type=float, default=120.0)
    one.set_defaults(run=picture)
    one = commands.add_parser("verification")
    one.add_argument("--set", default="acasxu")
    one.add_argument("--limit", type=float, default=60.0)
    one.add_argument("--count", type=int, default=10**6)
    one.set_defaults(run=verification)
    one = commands.add_parser("plant")
    one.add_argument("--limit", type=float, default=300.0)
    one.add_argument(
        "--solvers", nargs="*", default=["relu_global", "appsi_highs", "relu_highs"]
    )
    one.set_defaults(run=plant)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
