"""Trained step and sign networks, and ReLU networks of the same size, side by side.

    OMP_NUM_THREADS=1 python benchmarks/training.py [--csv FILE] [--only WORD]

One row for each run: accuracy on test points, seconds, non-zero weights, and accuracy
under random-corner attacks. Rows that the CSV has already are not run again. Data sets
are looked for in ``../shared/data`` and left out where they are missing; the random sets
are drawn here (10 features in [-10, 10], 200 points, random labels).
"""

from __future__ import annotations

import argparse
import csv
import gzip
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from pyomo_relu.training import (
    BinarizedNetClassifier,
    BinaryNetClassifier,
    OneVsOneBinarizedEnsemble,
)

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
FIELDS = (
    "run",
    "seed",
    "accuracy",
    "attacked",
    "nonzeros",
    "weights",
    "status",
    "wall_seconds",
    "cpu_seconds",
)


def few_shot(x, y, count: int, seed: int) -> np.ndarray:
    """Positions of ``count`` random points of each class."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.permutation(np.flatnonzero(y == c))[:count] for c in set(y)])


def breast_cancer(seed: int) -> Split:
    """Half for training, a quarter to choose, a quarter to test; both of the first."""
    data = np.loadtxt(DATA / "bdnn" / "breast-cancer-wisconsin.csv", delimiter=";")
    x, y = (data[:, :-1] - 1) / 9, data[:, -1].astype(int)
    order = np.random.default_rng(seed).permutation(len(x))
    return x[order[:524]], y[order[:524]], x[order[524:]], y[order[524:]]


def digits(count: int, seed: int) -> Split:
    """8 x 8 digits of scikit-learn, ``count`` images of each class."""
    from sklearn.datasets import load_digits

    data = load_digits()
    x, y = data.data / 16, data.target
    train = few_shot(x, y, count, seed)
    test = np.setdiff1d(np.arange(len(y)), train)
    return x[train], y[train], x[test], y[test]


def mnist(count: int, seed: int) -> Split:
    """MNIST, ``count`` images of each class; all 10,000 to test."""

    def read(name: str, offset: int) -> np.ndarray:
        with gzip.open(DATA / "mnist" / name) as file:
            return np.frombuffer(file.read(), np.uint8, offset=offset)

    x = read("train-images.idx3-ubyte.gz", 16).reshape(-1, 784)
    y = read("train-labels.idx1-ubyte.gz", 8).astype(int)
    train = few_shot(x, y, count, seed)
    test = read("t10k-images.idx3-ubyte.gz", 16).reshape(-1, 784)
    labels = read("t10k-labels.idx1-ubyte.gz", 8).astype(int)
    return x[train] / 255, y[train], test / 255, labels


def random_set(seed: int) -> Split:
    """Labels that don't depend on the features: test accuracy can't exceed chance."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-10, 10, (200, 10)) / 10, rng.integers(0, 2, 200)
    return x[:100], y[:100], x[100:], y[100:]


def relu(hidden: tuple[int, ...], seed: int):
    """A ReLU network of the same size."""
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier(hidden, max_iter=1000, random_state=seed)


def splitting(seed: int, **options):
    """Data splitting with four hidden neurons; a third of what it gets chooses."""
    return BinaryNetClassifier(
        (4,),
        method="data_splitting",
        validation_fraction=1 / 3,
        random_state=seed,
        **options,
    )


def one_vs_one(seconds: float, seed: int):
    """The ensemble with a limit for each stage."""
    limits = (seconds, 2 * seconds, seconds)
    return OneVsOneBinarizedEnsemble(bias=True, stage_limits=limits, random_state=seed)


def runs() -> Iterator[tuple[str, int, Callable[[], Split], Callable]]:
    """Name, seed, data and classifier of every row."""
    for s in range(10):
        data = lambda s=s: breast_cancer(s)  # noqa: E731
        yield "breast cancer, splitting", s, data, lambda s=s: splitting(s)
        yield "breast cancer, ReLU 4", s, data, lambda s=s: relu((4,), s)
        ternary = {"weights": "ternary"}
        yield (
            "breast cancer, splitting, ternary",
            s,
            data,
            lambda s=s, o=ternary: splitting(s, **o),
        )
        if s < 3:
            robust = {"robust": ("linf", 0.05)}
            yield (
                "breast cancer, splitting, robust 0.05",
                s,
                data,
                lambda s=s, o=robust: splitting(s, **o),
            )
    for s in range(3):
        data = lambda s=s: random_set(s)  # noqa: E731
        yield "random, splitting", s, data, lambda s=s: splitting(s)
        yield "random, ReLU 4", s, data, lambda s=s: relu((4,), s)
    for n in (2, 6, 10):
        for s in range(3):
            data = lambda n=n, s=s: digits(n, s)  # noqa: E731
            name = f"digits {n} per class"
            yield f"{name}, one against one", s, data, lambda s=s: one_vs_one(0.3, s)
            yield f"{name}, ReLU 16", s, data, lambda s=s: relu((16,), s)
    yield (
        "MNIST 10 per class, min_hinge",
        0,
        lambda: mnist(10, 0),
        lambda: BinarizedNetClassifier((), loss="min_hinge", time_limit=120),
    )
    for n in (10, 40):
        data = lambda n=n: mnist(n, 0)  # noqa: E731
        name = f"MNIST {n} per class"
        yield f"{name}, one against one", 0, data, lambda: one_vs_one(0.5, 0)
        yield f"{name}, ReLU 16", 0, data, lambda: relu((16,), 0)


def weights_of(model) -> tuple[int, int]:
    """Non-zero and all weights."""
    if hasattr(model, "coefs_"):
        return (
            sum(int(np.count_nonzero(w)) for w in model.coefs_),
            sum(w.size for w in model.coefs_),
        )
    return model.nonzeros_ if hasattr(model, "nonzeros_") else model.network_.nonzeros()


def attacked(model, x, y, radius: float = 0.05, tries: int = 10) -> float:
    """Share of points that stay right at random corners of the box around them."""
    rng = np.random.default_rng(0)
    right = np.ones(len(y), bool)
    for _ in range(tries):
        right &= model.predict(x + radius * rng.choice([-1.0, 1.0], x.shape)) == y
    return float(right.mean())


def main() -> None:
    """Run what the file has not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", type=Path, default=Path("training.csv"))
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    done = set()
    if args.csv.exists():
        with open(args.csv, newline="") as file:
            done = {(row["run"], row["seed"]) for row in csv.DictReader(file)}
    else:
        with open(args.csv, "w", newline="") as file:
            csv.writer(file).writerow(FIELDS)
    for name, seed, data, make in runs():
        if args.only not in name or (name, str(seed)) in done:
            continue
        try:
            x, y, xt, yt = data()
        except FileNotFoundError as error:
            print(f"{name}: left out, {error}")
            continue
        wall, cpu = time.perf_counter(), time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = make().fit(x, y)
        row = [
            name,
            seed,
            f"{model.score(xt, yt):.4f}",
            f"{attacked(model, xt, yt):.4f}",
            *weights_of(model),
            getattr(model, "status_", ""),
            f"{time.perf_counter() - wall:.1f}",
            f"{time.process_time() - cpu:.1f}",
        ]
        print(*row, flush=True)
        with open(args.csv, "a", newline="") as file:
            csv.writer(file).writerow(row)


if __name__ == "__main__":
    main()
