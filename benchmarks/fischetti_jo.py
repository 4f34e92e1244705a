"""Adversarial examples of small MNIST networks: basic against tightened models.

    OMP_NUM_THREADS=1 python benchmarks/fischetti_jo.py [--networks DNN1 DNN4 ...]
        [--count N | --all] [--models basic tightened ...] [--time-limit S]

The study of Fischetti and Jo, Constraints 23, 2018 (arXiv 1712.06174): for an image of
digit d, the smallest L1 change within [0, 1]^784 so that the activation of
(d + 5) mod 10 is at least 1.2 times every other one. ``basic`` has interval bounds and no
start; ``tightened`` has linear-programming bounds, computed once for each network over
the whole of [0, 1]^784, and a start from a greedy walk; ``crown`` and ``alpha`` are the
cheaper bounds. ``local`` cuts off what is farther than the start, and has bounds that hold
that near to the image: the restricted domain of Tjeng et al., arXiv 1711.07356.

Networks are trained with scikit-learn on ``../shared/data/mnist`` and kept, as are bounds
and rows, under ``benchmarks/results/``: a run that was stopped continues where it was.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyomo.environ as pyo
from mnist_attack import FACTOR, attack, bounds_around, from_images
from tqdm import tqdm

from pyomo_relu import ReLUNetBlock
from pyomo_relu.bounds import Bounds, compute_bounds
from pyomo_relu.network import Network
from pyomo_relu.solvers import ReluHighs

ROOT = Path(__file__).resolve().parents[1]
MNIST = Path(os.environ.get("PYOMO_RELU_DATA") or ROOT.parent / "shared" / "data") / "mnist"
RESULTS = Path(__file__).resolve().parent / "results" / "fischetti_jo"

NETWORKS = {
    "DNN1": (8, 8, 8),
    "DNN2": (8,) * 6,
    "DNN3": (20, 10, 8, 8),
    "DNN4": (20, 10, 8, 8, 8),
    "DNN5": (20, 20, 10, 10, 10),
}
#: Bounds of each model, whether it has a start, and whether the domain is cut.
MODELS = {
    "basic": ("interval", False, False),
    "crown": ("crown", True, False),
    "alpha": ("alpha_crown", True, False),
    "tightened": ("lp", True, False),
    "local": ("lp", True, True),
}
FIELDS = ("network", "model", "instance", "status", "start", "distance", "bound", "gap", "nodes",
          "seconds", "cpu_s", "error")  # fmt: skip


def images(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels in [0, 1], (N, 784), and labels."""
    with gzip.open(MNIST / f"{part}-images.idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 784)
    with gzip.open(MNIST / f"{part}-labels.idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    return pixels / 255.0, labels.astype(int)


def trained(name: str, epochs: int) -> Network:
    """The network of this name, from disk where it is there."""
    path = RESULTS / f"{name}_{epochs}.npz"
    if not path.exists():
        from sklearn.neural_network import MLPClassifier

        from pyomo_relu import read_network

        best = None
        x, y = images("train")
        for seed in range(5):  # some seeds of narrow networks end with dead layers
            model = MLPClassifier(
                NETWORKS[name], max_iter=epochs, random_state=seed, batch_size=128
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the number of epochs ends the training
                model.fit(x.astype(np.float32), y)
            if best is None or model.score(x, y) > best.score(x, y):
                best = model
            if best.score(x, y) > 0.9:
                break
        network = read_network(best, logits=True)
        network.save(path.with_suffix(".tmp"))
        os.replace(path.with_suffix(".tmp"), path)
    return Network.load(path)


def bounds_of(name: str, network: Network, rung: str) -> Bounds:
    """Bounds over [0, 1]^784, from disk where they are there."""
    path = RESULTS / f"{name}_{network.fingerprint[:12]}_{rung}.npz"
    if not path.exists():
        found = compute_bounds(network, 0.0, 1.0, rung)
        found.save(path.with_suffix(".tmp"))
        os.replace(path.with_suffix(".tmp"), path)
    return Bounds.load(path, network, np.zeros(784), np.ones(784))


def build(network: Network, bounds: Bounds, image: np.ndarray, target: int):
    """The adversarial model, with L1 distance and the factor 1.2."""
    m = pyo.ConcreteModel()
    m.pixel = pyo.Var(range(784), bounds=(0, 1))
    m.change = pyo.Var(range(784), bounds=(0, 1))
    pixels = [float(v) for v in image]
    m.above = pyo.Constraint(
        range(784), rule=lambda m, i: m.pixel[i] - m.change[i] <= pixels[i]
    )
    m.below = pyo.Constraint(
        range(784), rule=lambda m, i: -m.pixel[i] - m.change[i] <= -pixels[i]
    )
    m.net = ReLUNetBlock(network=network, inputs=m.pixel, bounds=bounds)
    y = [m.net.outputs[j] for j in m.net.outputs]
    # The last layer has a ReLU in the study. With y[target] >= 0 the rule on
    # activations is the one on logits, so that no binaries are needed for it.
    m.positive = pyo.Constraint(expr=y[target] >= 0)
    m.larger = pyo.Constraint(
        range(10),
        rule=lambda m, j: (
            pyo.Constraint.Skip if j == target else y[target] >= FACTOR * y[j]
        ),
    )
    m.distance = pyo.Objective(expr=pyo.quicksum(m.change.values()))
    return m


def solve(case: dict, network: Network, bounds: Bounds, time_limit: float) -> dict:
    """One row."""
    x, labels = images_of_test()
    image, digit = x[case["instance"]], labels[case["instance"]]
    target = (digit + 5) % 10
    wall, cpu = time.perf_counter(), time.process_time()
    _, started, local = MODELS[case["model"]]
    begin = attack(network, image, target) if started else None
    if started and begin is None:
        begin = from_images(network, image, target, x[5000:])
    distance = None if begin is None else float(abs(begin - image).sum())
    if local and distance is not None:
        bounds = bounds_around(bounds, image, distance + 1e-6)
    m = build(network, bounds, image, target)
    if begin is not None:
        for i in range(784):
            m.pixel[i].value, m.change[i].value = begin[i], abs(begin[i] - image[i])
        m.net.warm_start(begin)
        if local:
            m.cut = pyo.Constraint(expr=m.distance.expr <= distance + 1e-6)
    results = ReluHighs().solve(
        m,
        time_limit=max(time_limit - (time.perf_counter() - wall), 0.1),
        threads=1,
        warmstart=begin is not None,
        start=None,
        load_solutions=False,
        raise_exception_on_nonoptimal_result=False,
    )
    row = dict(case, start="" if distance is None else distance)
    row["seconds"], row["cpu_s"] = time.perf_counter() - wall, time.process_time() - cpu
    best, bound = results.incumbent_objective, float(results.objective_bound)
    row["bound"], row["nodes"] = bound, getattr(results.extra_info, "mip_node_count", 0)
    row["status"] = results.termination_condition.name
    row["distance"] = row["error"] = ""
    row["gap"] = 1.0
    if best is not None:
        results.solution_loader.load_vars()
        row["distance"] = best
        row["gap"] = max(best - bound, 0.0) / max(abs(best), 1e-9)
        # Run the image through the network before the distance is believed.
        found = np.clip([m.pixel[i].value for i in range(784)], 0.0, 1.0)
        y = np.maximum(network.evaluate(found), 0.0)
        row["error"] = float(max(0.0, (FACTOR * np.delete(y, target) - y[target]).max()))
    return row


_TEST: list = []


def images_of_test() -> tuple[np.ndarray, np.ndarray]:
    """The test images, read once."""
    if not _TEST:
        _TEST.append(images("t10k"))
    return _TEST[0]


def read(path: Path) -> list[dict]:
    """The rows so far; a line that was cut off by a kill is left out."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return [r for r in csv.DictReader(file) if r.get("error") is not None]


def cases(args) -> Iterator[dict]:
    """Instances in turn, so that a run that is stopped has some of each."""
    for instance in range(args.count):
        for name in args.networks:
            for model in args.models:
                yield {"network": name, "model": model, "instance": instance}


def table(rows: list[dict]) -> str:
    """Markdown, a line for each network and model; times are means, gaps of all."""
    lines = [
        "| network | model | instances | solved | mean gap | mean nodes | mean s | mean CPU s |",
        "|" + " --- |" * 8,
    ]
    for name in NETWORKS:
        for model in MODELS:
            found = [r for r in rows if r["network"] == name and r["model"] == model]
            if not found:
                continue
            solved = sum(r["status"] == "convergenceCriteriaSatisfied" for r in found)
            gap, nodes, wall, cpu = (
                np.mean([float(r[k]) for r in found])
                for k in ("gap", "nodes", "seconds", "cpu_s")
            )
            lines.append(
                f"| {name} | {model} | {len(found)} | {solved} | {100 * gap:.1f} % | "
                f"{nodes:,.0f} | {wall:.1f} | {cpu:.1f} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, then show the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=["DNN1", "DNN3"])
    parser.add_argument(
        "--models", nargs="+", choices=MODELS, default=["basic", "tightened"]
    )
    parser.add_argument("--count", type=int, default=3, help="instances of each network")
    parser.add_argument("--all", action="store_true", help="100 instances of all networks")
    parser.add_argument("--time-limit", type=float, default=300.0)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--table", action="store_true", help="only show what is there")
    args = parser.parse_args()
    if args.all:
        args.networks, args.count = list(NETWORKS), 100
    if not MNIST.exists():
        raise SystemExit("MNIST is not in ../shared/data/mnist; set PYOMO_RELU_DATA.")
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"rows_{args.epochs}_{args.time_limit:g}s.csv"
    rows = read(path)
    if not args.table:
        done = {(r["network"], r["model"], r["instance"]) for r in rows}
        todo = [
            c
            for c in cases(args)
            if (c["network"], c["model"], str(c["instance"])) not in done
        ]
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            writer.writerows(rows)
            file.flush()
            for case in tqdm(todo):
                network = trained(case["network"], args.epochs)
                rung = MODELS[case["model"]][0]
                bounds = bounds_of(case["network"], network, rung)
                writer.writerow(solve(case, network, bounds, args.time_limit))
                file.flush()
        rows = read(path)
    x, labels = images_of_test()
    for name in args.networks:
        network = trained(name, args.epochs)
        share = (network.evaluate(x).argmax(axis=1) == labels).mean()
        known = [
            f"{rung} {Bounds.load(p, network).seconds:.1f} s"
            for rung in dict.fromkeys(m[0] for m in MODELS.values())
            for p in RESULTS.glob(f"{name}_{network.fingerprint[:12]}_{rung}.npz")
        ]
        print(f"{name}: test accuracy {100 * share:.1f} %; bounds: {', '.join(known)}")
    print(table(rows))


if __name__ == "__main__":
    main()
