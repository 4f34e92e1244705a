"""Adversarial examples of small MNIST networks: basic against tightened models.

    OMP_NUM_THREADS=1 python benchmarks/fischetti_jo.py [--networks DNN1 DNN4 ...]
        [--count N | --all] [--models basic tightened ...] [--time-limit S]

The study of Fischetti and Jo, Constraints 23, 2018 (arXiv 1712.06174): for an image of
digit d, the smallest L1 change within [0, 1]^784 so that the activation of
(d + 5) mod 10 is at least 1.2 times every other one. ``basic`` has interval bounds and no
start; ``tightened`` has linear-programming bounds, computed once for each network over
the whole of [0, 1]^784, and a start; ``crown`` and ``alpha`` are the cheaper bounds.
``local`` is what ``find_adversarial`` does: it cuts off what is farther than the start, and
bounds all neurons over what is left (Tjeng et al., arXiv 1711.07356, restrict the domain);
then it is branch and bound on the sides of neurons. ``program`` is the same with HiGHS.

Networks are trained with scikit-learn on ``../shared/data/mnist`` and kept, as are bounds
and rows, under ``benchmarks/results/``: a run that was stopped continues where it was.
``--table`` writes the means to results/fischetti_jo_summary.md, which the page includes.
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
from common import RESULTS, publish
from tqdm import tqdm

from pyomo_relu.adversarial import find_adversarial
from pyomo_relu.bounds import Bounds, compute_bounds
from pyomo_relu.network import Network

ROOT = Path(__file__).resolve().parents[1]
MNIST = Path(os.environ.get("PYOMO_RELU_DATA") or ROOT.parent / "shared" / "data") / "mnist"
FOLDER = RESULTS / "fischetti_jo"

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
    "program": ("crown", True, True),
    "local": ("crown", True, True),
}
#: How much more than every other the target must have.
FACTOR = 1.2
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
    path = FOLDER / f"{name}_{epochs}.npz"
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
    path = FOLDER / f"{name}_{network.fingerprint[:12]}_{rung}.npz"
    if not path.exists():
        found = compute_bounds(network, 0.0, 1.0, rung)
        found.save(path.with_suffix(".tmp"))
        os.replace(path.with_suffix(".tmp"), path)
    return Bounds.load(path, network, np.zeros(784), np.ones(784))


def solve(case: dict, network: Network, bounds: Bounds, time_limit: float) -> dict:
    """One row."""
    x, labels = images_of_test()
    image, digit = x[case["instance"]], labels[case["instance"]]
    target = (digit + 5) % 10
    _, started, local = MODELS[case["model"]]
    solver = pyo.SolverFactory("relu_highs")
    solver.config.threads = 1
    wall, cpu = time.perf_counter(), time.process_time()
    # The last layer has a ReLU in the study. With y[target] >= 0, which ratio= asks for,
    # the rule on activations is the one on logits, so that no binaries are needed for it.
    found = find_adversarial(
        network,
        image,
        norm="l1",
        target=int(target),
        label=int(digit),
        ratio=FACTOR,
        solver=solver,
        time_limit=time_limit,
        start=started,
        examples=x[5000:],
        restrict=local,
        sides=case["model"] == "local",
        bounds="crown" if local else bounds,
    )
    row = dict(case, status=found.status, bound=found.bound, nodes=found.nodes)
    row["seconds"], row["cpu_s"] = time.perf_counter() - wall, time.process_time() - cpu
    row["start"] = found.start if np.isfinite(found.start) else ""
    row["distance"] = row["error"] = ""
    row["gap"] = 1.0
    if found.image is not None:
        row["distance"] = found.distance
        row["gap"] = (found.distance - found.bound) / max(found.distance, 1e-9)
        # Run the image through the network before the distance is believed.
        y = np.maximum(network.evaluate(np.clip(found.image, 0.0, 1.0)), 0.0)
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
            solved = sum(r["status"] == "optimal" for r in found)
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
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"rows_{args.epochs}_{args.time_limit:g}s.csv"
    if not args.table:
        run(args, path)
    rows = read(path)
    publish("fischetti_jo", {"means": table(rows)})
    print(table(rows))


def run(args: argparse.Namespace, path: Path) -> None:
    """Solve what the file hasn't, and add it; print what is known of the networks."""
    if not MNIST.exists():
        raise SystemExit("MNIST is not in ../shared/data/mnist; set PYOMO_RELU_DATA.")
    rows = read(path)
    done = {(r["network"], r["model"], r["instance"]) for r in rows}
    todo = [
        c for c in cases(args) if (c["network"], c["model"], str(c["instance"])) not in done
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
    x, labels = images_of_test()
    for name in args.networks:
        network = trained(name, args.epochs)
        share = (network.evaluate(x).argmax(axis=1) == labels).mean()
        known = [
            f"{rung} {Bounds.load(p, network).seconds:.1f} s"
            for rung in dict.fromkeys(m[0] for m in MODELS.values())
            for p in FOLDER.glob(f"{name}_{network.fingerprint[:12]}_{rung}.npz")
        ]
        print(f"{name}: test accuracy {100 * share:.1f} %; bounds: {', '.join(known)}")


if __name__ == "__main__":
    main()
