"""Binary, binarized and ReLU networks of the same size, side by side.

    OMP_NUM_THREADS=1 python benchmarks/training.py [--csv FILE] [--only WORD ...] [--plot PNG]

One row for each run: accuracy on test points, under attacks by random corners, certified
for the whole box where that is known, non-zero weights, seconds. Rows that the CSV has
already are not run again, so an interrupted run goes on where it stopped. ``--table``
writes the means to results/training_summary.md, which the page includes. Data sets are
looked for in ``../shared/data`` and left out where they are missing; the random sets are
drawn here (10 features, 200 points, random labels).
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
from common import RESULTS, publish

from pyomo_relu.training import (
    BinarizedNetClassifier,
    BinaryNetClassifier,
    OneVsOneBinarizedEnsemble,
)

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
RADIUS, RADIUS_NORM = 0.05, "linf"
FIELDS = (
    "run",
    "seed",
    "accuracy",
    "attacked",
    "certified",
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


def mnist_images(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels from 0 to 255, (N, 784), and labels, of ``train`` or ``t10k``."""

    def read(name: str, offset: int) -> np.ndarray:
        with gzip.open(DATA / "mnist" / f"{part}-{name}-ubyte.gz") as file:
            return np.frombuffer(file.read(), np.uint8, offset=offset)

    return read("images.idx3", 16).reshape(-1, 784), read("labels.idx1", 8).astype(int)


def mnist(count: int, seed: int) -> Split:
    """MNIST, ``count`` images of each class; all 10,000 to test."""
    (x, y), (test, labels) = mnist_images("train"), mnist_images("t10k")
    train = few_shot(x, y, count, seed)
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


def linear_pairs(seed: int):
    """One linear function for each pair of classes, by a support vector machine."""
    from sklearn.svm import SVC

    return SVC(kernel="linear", C=100.0, random_state=seed)


def splitting(kind: type, seed: int, **options):
    """Data splitting with four hidden neurons; a third of what it gets chooses."""
    return kind(
        (4,),
        method="data_splitting",
        validation_fraction=1 / 3,
        random_state=seed,
        **options,
    )


def pairs(seconds: float, seed: int, **options):
    """The ensemble with a limit for each stage."""
    limits = (seconds, 2 * seconds, seconds)
    return OneVsOneBinarizedEnsemble(
        bias=True, stage_limits=limits, random_state=seed, **options
    )


def small() -> dict[str, Callable]:
    """Networks with four hidden neurons, by name; each takes a seed."""
    binarized = {"loss": "max_correct"}
    robust = {"robust": (RADIUS_NORM, RADIUS)}
    return {
        "binary": lambda s: splitting(BinaryNetClassifier, s),
        "binary, ternary": lambda s: splitting(BinaryNetClassifier, s, weights="ternary"),
        "binary, robust": lambda s: splitting(BinaryNetClassifier, s, **robust),
        "binarized": lambda s: splitting(BinarizedNetClassifier, s, **binarized),
        "ReLU": lambda s: relu((4,), s),
    }


def few(seconds: float, total: float) -> dict[str, Callable]:
    """Networks for a few images of ten classes, by name; each takes a seed."""
    hinge = {"loss": "min_hinge", "time_limit": total}
    return {
        "binarized pairs": lambda s: pairs(seconds, s),
        "binarized pairs, [-3, 3]": lambda s: pairs(seconds, s, weights=3),
        "linear pairs (SVM)": linear_pairs,
        "binarized, no hidden": lambda s: BinarizedNetClassifier((), **hinge),
        "binary, no hidden": lambda s: BinaryNetClassifier((), loss="hinge", time_limit=30),
        "ReLU 16": lambda s: relu((16,), s),
    }


def runs() -> Iterator[tuple[str, int, Callable[[], Split], Callable]]:
    """Name, seed, data and classifier of every row."""
    for name, make in small().items():
        for s in range(10):
            yield f"breast cancer: {name}", s, lambda s=s: breast_cancer(s), make
    for name, make in small().items():
        for s in range(3):
            yield f"random: {name}", s, lambda s=s: random_set(s), make
    for n, seeds in ((2, 3), (6, 10), (10, 3)):
        for name, make in few(0.3, 60.0).items():
            for s in range(seeds if "pairs" in name else 3):
                yield f"digits {n}: {name}", s, lambda n=n, s=s: digits(n, s), make
    for n, seeds in ((10, 2), (40, 2)):
        for name, make in few(0.5, 120.0).items():
            if n == 40 and name == "binarized, no hidden":
                continue  # 400 images are beyond a few minutes
            for s in range(seeds):
                yield f"MNIST {n}: {name}", s, lambda n=n, s=s: mnist(n, s), make


def weights_of(model) -> tuple[int, int]:
    """Non-zero and all weights."""
    if hasattr(model, "nonzeros_"):
        return model.nonzeros_
    if hasattr(model, "network_"):
        return model.network_.nonzeros()
    found = model.coefs_ if hasattr(model, "coefs_") else [model.coef_]
    return sum(int(np.count_nonzero(w)) for w in found), sum(w.size for w in found)


def attacked(model, x, y, tries: int = 10) -> float:
    """Share of points that stay right at random corners of the box around them."""
    rng = np.random.default_rng(0)
    right = np.ones(len(y), bool)
    for _ in range(tries):
        right &= model.predict(x + RADIUS * rng.choice([-1.0, 1.0], x.shape)) == y
    return float(right.mean())


def certified(model, x, y) -> str:
    """Share of points right on the whole box; for networks with one hidden layer."""
    if not hasattr(model, "robust_share") or len(model.network_.weights) != 2:
        return ""
    return f"{model.robust_share(x, y, RADIUS, RADIUS_NORM):.4f}"


def one(name: str, seed: int, data: Callable[[], Split], make: Callable) -> list:
    """A row."""
    x, y, xt, yt = data()
    wall, cpu = time.perf_counter(), time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = make(seed).fit(x, y)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return [
        name,
        seed,
        f"{model.score(xt, yt):.4f}",
        f"{attacked(model, xt, yt):.4f}",
        certified(model, xt, yt),
        *weights_of(model),
        getattr(model, "status_", ""),
        f"{wall:.1f}",
        f"{cpu:.1f}",
    ]


def read(path: Path) -> list[dict[str, str]]:
    """The rows of the CSV."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def means(path: Path) -> dict[str, dict[str, float]]:
    """Number of runs and means of each run, in the order of :func:`runs`."""
    found: dict[str, list[dict[str, str]]] = {}
    for row in read(path):
        found.setdefault(row["run"], []).append(row)
    columns = ("accuracy", "attacked", "certified", "wall_seconds", "cpu_seconds")
    result = {}
    order = list(dict.fromkeys(name for name, *_ in runs()))
    for name, rows in sorted(found.items(), key=lambda item: order.index(item[0])):
        result[name] = {"runs": float(len(rows))}
        for c in columns:
            numbers = [float(r[c]) for r in rows if r[c]]
            result[name][c] = float(np.mean(numbers)) if numbers else np.nan
        accuracy = [float(r["accuracy"]) for r in rows]
        result[name] |= {"least": min(accuracy), "most": max(accuracy)}
        share = [int(r["nonzeros"]) / int(r["weights"]) for r in rows]
        result[name]["share"] = float(np.mean(share))
    return result


def table(path: Path) -> str:
    """The means as a Markdown table."""
    lines = [
        "| data and network | runs | accuracy | least to most | under attack | certified "
        "| weights not 0 | wall s | CPU s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, m in means(path).items():
        sure = "" if np.isnan(m["certified"]) else f"{m['certified']:.1%}"
        lines.append(
            f"| {name} | {m['runs']:.0f} | {m['accuracy']:.1%} | {m['least']:.1%} to "
            f"{m['most']:.1%} | {m['attacked']:.1%} | {sure} | {m['share']:.0%} | "
            f"{m['wall_seconds']:.1f} | {m['cpu_seconds']:.1f} |"
        )
    return "\n".join(lines)


def plot(path: Path, target: Path) -> None:
    """Mean accuracy by data set and network, with the range over the seeds."""
    import matplotlib.pyplot as plt

    found = means(path)
    sets = dict.fromkeys(name.split(": ")[0] for name in found)
    figure, axes = plt.subplots(
        1, len(sets), figsize=(2.1 * len(sets), 3.4), layout="constrained"
    )
    for axis, data in zip(np.atleast_1d(axes), sets):
        rows = {k.split(": ")[1]: v for k, v in found.items() if k.startswith(f"{data}: ")}
        for k, (name, m) in enumerate(rows.items()):
            ours = name.startswith("bin")
            colour = "#2166ac" if ours else "#b2182b"
            spread = [[m["accuracy"] - m["least"]], [m["most"] - m["accuracy"]]]
            height = 100 * np.array(spread)
            axis.bar(k, 100 * m["accuracy"], color=colour, width=0.7)
            axis.errorbar(k, 100 * m["accuracy"], height, color="black", capsize=2)
            axis.plot(k, 100 * m["attacked"], "_", color="white", markersize=12)
        axis.set_xticks(range(len(rows)), rows, rotation=90, fontsize=7)
        axis.set_title(data, fontsize=9)
        low = 100 * min(min(m["least"], m["attacked"]) for m in rows.values())
        axis.set_ylim(max(0.0, 5 * np.floor(low / 5) - 5), 100)
        axis.tick_params(axis="y", labelsize=7)
    np.atleast_1d(axes)[0].set_ylabel("test accuracy, %; white: under attack", fontsize=8)
    figure.savefig(target, dpi=130)
    plt.close(figure)


def main() -> None:
    """Run what the file has not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", type=Path, default=RESULTS / "training.csv")
    parser.add_argument("--only", nargs="*", default=[""], help="words in the names")
    parser.add_argument("--seeds", type=int, default=100, help="at most, of each")
    parser.add_argument("--table", action="store_true", help="write the means only")
    parser.add_argument("--plot", type=Path, help="draw the means only")
    args = parser.parse_args()
    if args.table or args.plot:
        publish("training", {"means": table(args.csv)})
        print(table(args.csv))
        if args.plot:
            plot(args.csv, args.plot)
        return
    if not args.csv.exists():
        with open(args.csv, "w", newline="") as file:
            csv.writer(file).writerow(FIELDS)
    for name, seed, data, make in runs():
        if seed >= args.seeds or not any(word in name for word in args.only):
            continue
        if (name, str(seed)) in {(row["run"], row["seed"]) for row in read(args.csv)}:
            continue
        try:
            row = one(name, seed, data, make)
        except FileNotFoundError as error:
            print(f"{name}: left out, {error}")
            continue
        print(*row, flush=True)
        with open(args.csv, "a", newline="") as file:
            csv.writer(file).writerow(row)


if __name__ == "__main__":
    main()
