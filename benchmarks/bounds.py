"""Widths, stable neurons, CPU seconds and peak memory of every rung of the ladder.

    OMP_NUM_THREADS=1 python benchmarks/bounds.py [--csv FILE] [--only WORD]

Each measurement runs in a process of its own, and its row is added to the CSV at once
(benchmarks/results/bounds.csv); rows that are there are not measured again. What takes
less than half a second is measured five times, and the least CPU time counts. Networks
from files are looked for in ``../shared/data`` and left out where they are missing.
``benchmarks/bounds_effect.py`` measures what the bounds do for the final MIP,
``benchmarks/bounds_report.py`` makes tables and the picture of both.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing as mp
import re
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from pyomo_relu.bounds import compute_bounds
from pyomo_relu.network import Network, NetworkBuilder, activations

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
Case = tuple[Network, np.ndarray, np.ndarray]

RESULTS = Path(__file__).resolve().parent / "results"

#: Rungs by label: name, options, the largest number of neurons for which each is run
#: here. Time limits are wall seconds.
RUNGS: dict[str, tuple[str, dict, int]] = {
    "interval": ("interval", {}, 10**9),
    "improved_interval": ("improved_interval", {}, 10**9),
    "crown": ("crown", {}, 10**9),
    "alpha_crown": ("alpha_crown", {"time_limit": 120}, 10**9),
    "boxes 256": ("boxes", {"count": 256}, 700),
    "boxes 4096": ("boxes", {"count": 4096}, 200),
    "lp": ("lp", {"time_limit": 120}, 1100),
    "lp, 2 parts": ("lp", {"time_limit": 60, "parts": 2}, 550),
    "lp, 4 parts": ("lp", {"time_limit": 60, "parts": 4}, 550),
    "lp, 3 rounds of cuts": ("lp", {"time_limit": 60, "cuts": 3}, 550),
    "rolling, window 1": (
        "rolling",
        {"window": 1, "time_limit": 30, "neuron_time_limit": 1},
        120,
    ),
    "mip": ("mip", {"time_limit": 60, "neuron_time_limit": 20}, 120),
}

#: Rungs that split the box of the inputs, for this many inputs at most.
FEW_INPUTS = 10


def peaks(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The peaks function of MATLAB on [-3, 3]^2."""
    return (
        3 * (1 - x) ** 2 * np.exp(-(x**2) - (y + 1) ** 2)
        - 10 * (x / 5 - x**3 - y**5) * np.exp(-(x**2) - y**2)
        - np.exp(-((x + 1) ** 2) - y**2) / 3
    )


def trained(*hidden: int, seed: int = 0) -> Case:
    """Peaks on [-1, 1]^2 (scaled), trained with scikit-learn."""
    import warnings

    from sklearn.neural_network import MLPRegressor

    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (2000, 2))
    model = MLPRegressor(
        hidden_layer_sizes=hidden, solver="lbfgs", max_iter=600, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(x, peaks(*(3 * x.T)))
    return dense([w.T for w in model.coefs_], model.intercepts_), -np.ones(2), np.ones(2)


def dense(weights: list[np.ndarray], biases: list[np.ndarray]) -> Network:
    """A dense ReLU network."""
    b = NetworkBuilder()
    last = b.input("x", (weights[0].shape[1],))
    for k, (w, c) in enumerate(zip(weights, biases), start=1):
        last = b.affine(f"dense_{k}", [(last, w)], c)
        if k < len(weights):
            last = b.piecewise(f"relu_{k}", last, activations.relu())
    return b.build([last])


def random_he(*sizes: int, radius: float = 1.0, seed: int = 0) -> Case:
    """He-normal weights rounded to float32; a box around 0, or around an image."""
    rng = np.random.default_rng(seed)
    weights, biases = [], []
    for n, size in zip(sizes, sizes[1:]):
        w = (rng.standard_normal((size, n)) * np.sqrt(2.0 / n)).astype(np.float32)
        weights.append(w)
        biases.append((0.1 * rng.standard_normal(size)).astype(np.float32))
    x = np.zeros(sizes[0])
    if radius < 1:
        x = np.random.default_rng(1).random(sizes[0])
    return dense(weights, biases), x - radius, x + radius


def convolution(kernel: np.ndarray, height: int, width: int, stride: int):
    """A convolution as a sparse matrix; channels last, kernel (out, k, k, in)."""
    out, k, _, channels = kernel.shape
    rows, columns, values = [], [], []
    h, w = (height - k) // stride + 1, (width - k) // stride + 1
    for i, j, di, dj in np.ndindex(h, w, k, k):
        for o, c in np.ndindex(out, channels):
            rows.append((i * w + j) * out + o)
            columns.append(((i * stride + di) * width + j * stride + dj) * channels + c)
            values.append(kernel[o, di, dj, c])
    shape = (h * w * out, height * width * channels)
    return sp.csr_array((values, (rows, columns)), shape=shape), h, w


def convolutional(radius: float = 0.05) -> Case:
    """28 x 28: 8 and 16 filters 3 x 3 of stride 2, dense 10; random He weights."""
    rng = np.random.default_rng(0)
    b = NetworkBuilder()
    last, h, w, channels = b.input("x", (784,)), 28, 28, 1
    for k, filters in enumerate((8, 16), start=1):
        scale = np.sqrt(2.0 / (9 * channels))
        kernel = (rng.standard_normal((filters, 3, 3, channels)) * scale).astype(np.float32)
        matrix, h, w = convolution(kernel, h, w, 2)
        channels = filters
        last = b.affine(f"conv_{k}", [(last, matrix)], 0.0)
        last = b.piecewise(f"relu_{k}", last, activations.relu())
    n = h * w * channels
    head = (rng.standard_normal((10, n)) * np.sqrt(1.0 / n)).astype(np.float32)
    x = np.random.default_rng(1).random(784)
    return b.build([b.affine("out", [(last, head)], 0.0)]), x - radius, x + radius


def from_files(model: str, prop: str) -> Callable[[], Case]:
    """A network of VNN-COMP over the input box of a property."""

    def load() -> Case:
        from pyomo_relu import read_network

        folder = DATA / "verification"
        network = read_network(folder / model)
        lower, upper = np.full(network.n_inputs, -np.inf), np.full(network.n_inputs, np.inf)
        pattern = r"\(assert \((<=|>=) X_(\d+) ([-+.\deE]+)\)\)"
        for sense, k, value in re.findall(pattern, (folder / prop).read_text()):
            (upper if sense == "<=" else lower)[int(k)] = float(value)
        return network, lower, upper

    return load


CASES: dict[str, Callable[[], Case]] = {
    "peaks 2-20-20-1": lambda: trained(20, 20),
    "peaks 2-20-20-20-1": lambda: trained(20, 20, 20),
    "peaks 2-6x10-1": lambda: trained(*[10] * 6),
    "peaks 2-50-50-1": lambda: trained(50, 50),
    "random 5-50-50-1": lambda: random_he(5, 50, 50, 1),
    "random 10-30-30-1": lambda: random_he(10, 30, 30, 1),
    "random 784-50-50-10": lambda: random_he(784, 50, 50, 10, radius=0.05),
    "random 784-500-500-10": lambda: random_he(784, 500, 500, 10, radius=0.05),
    "random 784-256-256-256-10": lambda: random_he(784, 256, 256, 256, 10, radius=0.05),
    "conv 28x28": convolutional,
    "ACAS Xu 1_1, property 1": from_files(
        "acasxu/ACASXU_run2a_1_1_batch_2000.onnx", "acasxu/prop_1.vnnlib"
    ),
    "ACAS Xu 1_1, property 3": from_files(
        "acasxu/ACASXU_run2a_1_1_batch_2000.onnx", "acasxu/prop_3.vnnlib"
    ),
    "mnistfc 256x2, 0.03": from_files(
        "mnistfc/mnist-net_256x2.onnx", "mnistfc/prop_0_0.03.vnnlib"
    ),
    "mnistfc 256x4, 0.03": from_files(
        "mnistfc/mnist-net_256x4.onnx", "mnistfc/prop_0_0.03.vnnlib"
    ),
    "mnistfc 256x6, 0.03": from_files(
        "mnistfc/mnist-net_256x6.onnx", "mnistfc/prop_0_0.03.vnnlib"
    ),
}


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def _measure(case: Case, rung: str, options: dict, pipe) -> None:
    network, lower, upper = case
    before, seconds = _peak_mb(), []
    while not seconds or (sum(seconds) < 0.5 and len(seconds) < 5):
        start = time.process_time()
        bounds = compute_bounds(network, lower, upper, rung, **options)
        seconds.append(time.process_time() - start)
    s = bounds.statistics()
    pipe.send(
        {
            "inputs": network.n_inputs,
            "neurons": s["neurons"],
            "stable": s["stable"],
            "mean_width": f"{s['mean_width']:.6g}",
            "output_width": f"{s['output_width']:.6g}",
            "cpu_seconds": f"{min(seconds):.4f}",
            "runs": len(seconds),
            "peak_mb": f"{_peak_mb() - before:.1f}",
            "complete": not bounds.details.get("interrupted", False),
            "limit_seconds": options.get("time_limit", ""),
        }
    )


def measure(case: Case, rung: str, options: dict) -> dict:
    """One rung on one network in a process of its own."""
    here, there = mp.get_context("fork").Pipe()
    process = mp.get_context("fork").Process(
        target=_measure, args=(case, rung, options, there)
    )
    process.start()
    there.close()
    try:
        return here.recv()
    finally:
        process.join()


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV; none where there is no file yet."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def add_row(path: Path, row: dict) -> None:
    """Add a row to a CSV, and its header to a new one."""
    new = not path.exists()
    path.parent.mkdir(exist_ok=True)
    with open(path, "a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", type=Path, default=RESULTS / "bounds.csv")
    parser.add_argument("--only", default="", help="networks whose name holds this word")
    arguments = parser.parse_args()
    known = {(row["network"], row["rung"]) for row in read_rows(arguments.csv)}
    for name, make in CASES.items():
        if arguments.only not in name:
            continue
        try:
            case = make()
        except (FileNotFoundError, ImportError) as e:
            print(f"{name}: left out ({e})")
            continue
        print(f"\n{name}: {case[0].n_neurons} neurons")
        for label, (rung, options, limit) in RUNGS.items():
            few = case[0].n_inputs <= FEW_INPUTS or rung != "boxes"
            if case[0].n_neurons > limit or not few or (name, label) in known:
                continue
            row = {"network": name, "rung": label, **measure(case, rung, options)}
            add_row(arguments.csv, row)
            mark = "" if row["complete"] else "  (time limit)"
            print(
                f"{label:22s} {row['output_width']:>10s} {row['mean_width']:>10s} "
                f"{row['stable']:6d} {row['cpu_seconds']:>9s} {row['peak_mb']:>6s}{mark}",
                flush=True,
            )


if __name__ == "__main__":
    main()
