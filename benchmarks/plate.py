"""Regions, stable neurons and time of networks on three test functions.

    OMP_NUM_THREADS=1 python benchmarks/plate.py [--functions peaks ...] [--depths 1 2 ...]
        [--widths 10 ...] [--trainings plain ...] [--methods interval ...] [--time-limit S]

The study of Plate et al., arXiv 2502.03016: a network is trained on Peaks, Ackley or
Himmelblau, and its output is minimized over the box. Bounds by intervals, by linear
programs, after scaling, and both; trainings plain, with clipped ReLU, L1, L2, dropout
and the ReLU stability loss. Networks and rows are kept under ``benchmarks/results/``:
a run that was stopped continues where it was. At the end, or at once with ``--table``, the
table that the page includes goes to results/plate_summary.md, all rows to results/plate.md;
``--plot`` draws the page's picture.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import time
from pathlib import Path

import numpy as np
from common import RESULTS, publish, table
from tqdm import tqdm

from pyomo_relu.analysis import compare_bounds, linear_regions, root_gap
from pyomo_relu.network import Network, rescale

FOLDER = RESULTS / "plate"
TRAININGS = ("plain", "clipped", "l1", "l2", "dropout", "stability")
METHODS = ("interval", "lp", "scaling", "scaling+lp")
KEY = ("function", "depth", "width", "training", "seed", "method")
FIELDS = (
    *KEY,
    "nrmse",
    "regions",
    "truly_stable",
    "stable",
    "neurons",
    "largest_big_m",
    "bound_cpu_s",
    "root",
    "best",
    "solved",
    "nodes",
    "cpu_s",
)


def peaks(x, y):
    """On [-2, 2]^2."""
    return (
        3 * (1 - x) ** 2 * np.exp(-(x**2) - (y + 1) ** 2)
        - 10 * (x / 5 - x**3 - y**5) * np.exp(-(x**2) - y**2)
        - np.exp(-((x + 1) ** 2) - y**2) / 3
    )


def ackley(x, y):
    """On [-3.5, 3.5]^2."""
    waves = 0.5 * (np.cos(2 * np.pi * x) + np.cos(2 * np.pi * y))
    return -20 * np.exp(-0.2 * np.sqrt(0.5 * (x**2 + y**2))) - np.exp(waves) + np.e + 20


def himmelblau(x, y):
    """On [-5, 5]^2."""
    return (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2


FUNCTIONS = {
    "peaks": (peaks, 2.0),
    "ackley": (ackley, 3.5),
    "himmelblau": (himmelblau, 5.0),
}


def samples(function: str, count: int, seed: int):
    """Inputs scaled to [-1, 1]^2, and outputs scaled by those of a fixed sample."""
    f, half = FUNCTIONS[function]
    reference = f(*(half * np.random.default_rng(99).uniform(-1, 1, (2, 20_000))))
    x = np.random.default_rng(seed).uniform(-1, 1, (count, 2))
    return x, (f(*(half * x.T)) - reference.mean()) / reference.std()


def train(
    function: str, depth: int, width: int, training: str, seed: int, epochs: int
) -> Network:
    """Train with Keras."""
    import keras

    from pyomo_relu import read_network
    from pyomo_relu.training.keras import (
        L1Penalty,
        PenalizedModel,
        StabilityLoss,
        clipped_relu,
    )

    keras.utils.set_random_seed(seed)
    l2 = keras.regularizers.L2(1e-3) if training == "l2" else None
    model = keras.Sequential([keras.Input((2,))])
    for _ in range(depth):
        model.add(keras.layers.Dense(width, kernel_regularizer=l2))
        clipped = training == "clipped"
        model.add(clipped_relu(2.0) if clipped else keras.layers.ReLU())
        if training == "dropout":
            model.add(keras.layers.Dropout(0.05))
    model.add(keras.layers.Dense(1, kernel_regularizer=l2))
    penalties = {"l1": [L1Penalty(3e-4)], "stability": [StabilityLoss(1e-3)]}
    trainer = PenalizedModel(model, penalties.get(training, []), -1, 1)
    x, y = samples(function, 4000, 1)
    steps = epochs * int(np.ceil(len(x) / 250))
    rate = keras.optimizers.schedules.CosineDecay(1e-2, steps)
    trainer.compile(
        keras.optimizers.Adam(rate), "mse", jit_compile=False, steps_per_execution=16
    )
    trainer.fit(x, y[:, None], batch_size=250, epochs=epochs, verbose=0)
    return read_network(model)


def cached(function, depth, width, training, seed, epochs) -> Network:
    """The trained network, from disk where it is there."""
    path = FOLDER / f"{function}_{depth}x{width}_{training}_{seed}_{epochs}.npz"
    if not path.exists():
        network = train(function, depth, width, training, seed, epochs)
        network.save(path.with_suffix(".tmp"))
        os.replace(path.with_suffix(".tmp"), path)
    return Network.load(path)


def measure(case: dict, network: Network, time_limit: float, regions) -> dict:
    """One row: a network by one way of preparing its model."""
    x, y = samples(case["function"], 5000, 2)
    row = dict(case)
    row["nrmse"] = float(np.sqrt(np.mean((network.evaluate(x)[:, 0] - y) ** 2)) / y.std())
    begin = time.process_time()
    if case["method"].startswith("scaling"):
        network = rescale(network).network
    rung = "lp" if case["method"].endswith("lp") else "interval"
    (summary,) = compare_bounds(network, -1.0, 1.0, [rung])
    row["bound_cpu_s"] = time.process_time() - begin
    sizes = [layer.big_m[2] for layer in summary.layers if layer.big_m]
    row |= {
        "regions": regions.n_regions if regions else "",
        "truly_stable": truly_stable(regions) if regions else "",
        "stable": summary.stable,
        "neurons": summary.units,
        "largest_big_m": max(sizes, default=0.0),
    }
    begin = time.process_time()
    gap = root_gap(network, summary.bounds, time_limit=time_limit)
    row["cpu_s"] = time.process_time() - begin
    row |= {"root": gap.root, "best": gap.best, "solved": gap.solved, "nodes": gap.nodes}
    if regions and gap.solved:
        exact = regions.optimum(0).value
        assert abs(gap.best - exact) <= 1e-3 * max(1, abs(exact)), (case, gap.best, exact)
    return row


def truly_stable(regions) -> int:
    """Neurons that keep one piece on all regions."""
    kinds = enumerate(regions.network.nodes)
    return sum(int(regions.stable(i).sum()) for i, n in kinds if n.kind == "piecewise")


def read(path: Path) -> list[dict]:
    """The rows so far; a line that was cut off by a kill is left out."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return [r for r in csv.DictReader(file) if r.get("cpu_s")]


def cases(args):
    """All combinations; ways to prepare a model are compared on plain training only."""
    shapes = sorted(itertools.product(args.widths, args.depths), key=lambda s: s[0] * s[1])
    grid = itertools.product(range(args.seeds), shapes, args.functions, args.trainings)
    for seed, (width, depth), function, training in grid:
        for method in args.methods:
            if training == "plain" or method in ("interval", "lp"):
                yield dict(zip(KEY, (function, depth, width, training, seed, method)))


def every_row(rows: list[dict]) -> str:
    """All rows as Markdown."""
    head = ["network", "training", "method", "nRMSE", "regions", "truly stable"]
    head += ["proved stable", "largest M", "root", "solved", "nodes"]
    head += ["bounds + solve CPU s"]
    lines = [
        (
            f"{r['function']} {r['depth']}x{r['width']}",
            r["training"],
            r["method"],
            f"{float(r['nrmse']):.3f}",
            r["regions"] or "> limit",
            f"{r['truly_stable']}/{r['neurons']}" if r["truly_stable"] else "",
            f"{r['stable']}/{r['neurons']}",
            f"{float(r['largest_big_m']):.3g}",
            f"{float(r['root']):.3g}",
            "yes" if r["solved"] == "True" else "no",
            r["nodes"],
            f"{float(r['bound_cpu_s']):.1f} + {float(r['cpu_s']):.1f}",
        )
        for r in rows
    ]
    return table(head, lines)


def plot(rows: list[dict], path: Path) -> None:
    """The trade-off: error of a network against what it costs, by training."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter

    rows = [r for r in rows if r["method"] == "interval"]
    functions = [f for f in FUNCTIONS if any(r["function"] == f for r in rows)]
    fig, axes = plt.subplots(
        len(functions), 2, figsize=(8, 3.3 * len(functions) + 0.5), layout="constrained",
        squeeze=False, sharey="col",
    )  # fmt: skip
    colors = dict(zip(TRAININGS, plt.get_cmap("tab10").colors))
    for ax, function in zip(axes, functions):
        here = [r for r in rows if r["function"] == function]
        for case in {tuple(r[k] for k in ("depth", "width", "seed")) for r in here}:
            group = [
                r for r in here if tuple(r[k] for k in ("depth", "width", "seed")) == case
            ]
            plain = next((r for r in group if r["training"] == "plain"), None)
            size = 12 + 0.6 * int(case[0]) * int(case[1])
            for one, key in zip(ax, ("cpu_s", "regions")):
                for r in group:
                    if not r[key] or plain is None or not plain[key]:
                        continue
                    at = [float(r["nrmse"]), float(r[key])]
                    start = [float(plain["nrmse"]), float(plain[key])]
                    one.plot(*zip(start, at), color="0.85", lw=0.8, zorder=1)
                    one.scatter(*at, s=size, color=colors[r["training"]], zorder=2)
        for one, what in zip(ax, ("CPU seconds of the search", "linear regions")):
            one.set_title(f"{function.capitalize()}: {what}")
            one.set_xscale("log")
            one.set_yscale("log")
            one.xaxis.set_major_locator(MaxNLocator(4))
            one.xaxis.set_major_formatter(ScalarFormatter())
            one.xaxis.set_minor_locator(NullLocator())
            one.grid(alpha=0.3)
    for one in axes[-1]:
        one.set_xlabel("error on fresh samples, nRMSE")
    handles = [
        plt.Line2D([], [], marker="o", ls="", color=colors[t], label=t) for t in TRAININGS
    ]
    fig.legend(handles=handles, loc="outside upper center", ncols=len(TRAININGS))
    fig.savefig(path, dpi=110)
    plt.close(fig)


def summary(rows: list[dict]) -> str:
    """Each way relative to plain training with interval bounds, medians over networks."""
    by = {tuple(r[k] for k in KEY): r for r in rows}
    head = ["training", "method", "networks", "error", "regions", "stable", "largest M"]
    head += ["root gap", "nodes", "CPU s"]
    lines = []
    for training, method in itertools.product(TRAININGS, METHODS):
        pairs = []
        for key, r in by.items():
            base = by.get((*key[:3], "plain", key[4], "interval"))
            if key[3] == training and key[5] == method and base is not None:
                pairs.append((r, base))
        if not pairs:
            continue

        def ratio(of, pairs=pairs) -> str:
            found = [of(r) / of(b) for r, b in pairs if of(r) is not None and of(b)]
            return f"{np.median(found):.2f}" if found else ""

        def gap(r) -> float:
            return abs(float(r["best"]) - float(r["root"]))

        def cost(r) -> float:
            return float(r["bound_cpu_s"]) + float(r["cpu_s"])

        stable = np.mean([int(r["stable"]) / int(r["neurons"]) for r, _ in pairs])
        cells = (
            training,
            method,
            len(pairs),
            ratio(lambda r: float(r["nrmse"])),
            ratio(lambda r: float(r["regions"]) if r["regions"] else None),
            f"{100 * stable:.0f} %",
            ratio(lambda r: float(r["largest_big_m"])),
            ratio(gap),
            ratio(lambda r: float(r["nodes"])),
            ratio(cost),
        )
        lines.append(cells)
    return table(head, lines)


def main() -> None:
    """Run what is missing, then show the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--functions", nargs="+", choices=FUNCTIONS, default=["peaks"])
    parser.add_argument("--depths", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--widths", nargs="+", type=int, default=[10])
    parser.add_argument("--trainings", nargs="+", choices=TRAININGS, default=TRAININGS)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--seeds", type=int, default=1, metavar="N")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--time-limit", type=float, default=60.0)
    parser.add_argument("--max-regions", type=int, default=50_000)
    parser.add_argument("--all", action="store_true", help="the whole grid of the study")
    parser.add_argument("--table", action="store_true", help="only show what is there")
    parser.add_argument("--plot", type=Path, metavar="PNG")
    args = parser.parse_args()
    if args.all:
        args.functions, args.depths = list(FUNCTIONS), [1, 2, 3, 4]
        args.widths = [10, 20, 30, 40, 50]
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"rows_{args.epochs}_{args.time_limit:g}s.csv"
    rows = read(path)
    if not args.table:
        done = {tuple(r[k] for k in KEY) for r in rows}
        todo = [c for c in cases(args) if tuple(str(c[k]) for k in KEY) not in done]
        # Rewritten, so that a cut-off last line is gone before rows are appended.
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            writer.writerows(rows)
            file.flush()
            regions, last = None, None
            for case in tqdm(todo):
                key = tuple(case[k] for k in KEY[:5])
                network = cached(*key, args.epochs)
                if key != last:
                    regions, last = None, key
                    try:
                        regions = linear_regions(
                            network, -1.0, 1.0, max_regions=args.max_regions
                        )
                    except ValueError:
                        pass  # too many: the column stays empty
                writer.writerow(measure(case, network, args.time_limit, regions))
                file.flush()
        rows = read(path)
    title = "# Networks on test functions: every network\n\n"
    publish("plate", {"medians": summary(rows)}, title + every_row(rows))
    print(summary(rows))
    if args.plot:
        plot(rows, args.plot)


if __name__ == "__main__":
    main()
