"""The study of Kurtz and Bah, arXiv 2110.11382: step networks by four methods."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from common import table
from paper_runs import (
    Run,
    average,
    by_run,
    differences,
    per_cent,
    share,
    tested,
    with_error,
)
from training import DATA, relu

from pyomo_relu.training import BinaryNetClassifier

#: Points to test over points to train, where draws are splits of one set.
OVERLAP = dict.fromkeys(("digits", "breast cancer", "breast cancer, unique rows"), 1 / 3)

Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

#: Splits of Breast Cancer; draws of digits, by default for what takes a second and for what
#: takes twenty, and in the full study; CPU seconds of a fit.
SPLITS, DIGITS, LONG_DIGITS, ALL_DIGITS = 30, 5, 3, 10
SECONDS = {"breast": 1.0, "uniform": 2.0, "digits": 20.0}
#: Robust networks have no start from gradients and get more; so many splits have them.
ROBUST, ROBUST_SPLITS = 5.0, 5


def breast_cancer(draw: int, unique: bool) -> Split:
    """Three quarters to train (a third of them chooses), one to test."""
    data = np.loadtxt(DATA / "bdnn" / "breast-cancer-wisconsin.csv", delimiter=";")
    if unique:  # one row for each set of features; its label is that of most
        kinds, where = np.unique(data[:, :-1], axis=0, return_inverse=True)
        ones = np.bincount(where.ravel(), data[:, -1]) / np.bincount(where.ravel())
        data = np.column_stack([kinds, ones >= 0.5])
    x, y = (data[:, :-1] - 1) / 9, data[:, -1].astype(int)
    order = np.random.default_rng(draw).permutation(len(x))
    cut = 3 * len(x) // 4
    return x[order[:cut]], y[order[:cut]], x[order[cut:]], y[order[cut:]]


def uniform(name: str, draw: int) -> Split:
    """One of the random sets; three quarters to train."""
    data = np.loadtxt(DATA / "bdnn" / f"Uniform_{name}_{draw}.csv", delimiter=";")
    x, y = (data[:, :-1] + 10) / 20, data[:, -1].astype(int)
    order = np.random.default_rng(0).permutation(len(x))
    cut = 3 * len(x) // 4
    return x[order[:cut]], y[order[:cut]], x[order[cut:]], y[order[cut:]]


def digits(draw: int) -> Split:
    """All of scikit-learn's digits, ten classes; three quarters to train."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(draw).permutation(len(x))
    cut = 3 * len(x) // 4
    return x[order[:cut]] / 16, y[order[:cut]], x[order[cut:]] / 16, y[order[cut:]]


def step(hidden: int, seconds: float, **options) -> Callable:
    """A step network with a limit of CPU seconds, by its draw."""
    return lambda draw: BinaryNetClassifier(
        (hidden,),
        time_limit=None,
        cpu_time_limit=seconds,
        validation_fraction=1 / 3,
        random_state=draw,
        **options,
    )


def measure(data: Callable[[], Split], make: Callable, draw: int) -> dict:
    """Train and test."""
    x, y, xt, yt = data()
    return tested(make(draw).fit(x, y), xt, yt)


def two_classes(seconds: float) -> dict[str, Callable]:
    """Four hidden neurons and two classes."""
    return {
        "splitting": step(4, seconds, method="data_splitting"),
        "splitting, ternary": step(4, seconds, method="data_splitting", weights="ternary"),
        "robust 0.05": step(4, ROBUST, method="data_splitting", robust=("linf", 0.05)),
        "ReLU": lambda draw: relu((4,), draw),
    }


def ten_classes(seconds: float) -> dict[str, Callable]:
    """Twenty hidden neurons, weights in {-1, 0, 1}, ten classes."""
    options = {"weights": "ternary"}
    return {
        "gradients": step(20, seconds, method="ste", widen=False, **options),
        "local search": step(20, seconds, method="local_search", **options),
        "splitting": step(20, seconds, method="data_splitting", **options),
        "exact": step(20, seconds, method="exact", **options),
        "ReLU": lambda draw: relu((20,), draw),
    }


def runs() -> Iterator[Run]:
    """The small runs first."""

    def one(study, data, name, make, draw, full=False):
        return Run(study, name, draw, lambda: measure(data, make, draw), full)

    for name, make in ten_classes(SECONDS["digits"]).items():
        few = DIGITS if name in ("gradients", "ReLU") else LONG_DIGITS
        for d in range(ALL_DIGITS):
            yield one("digits", lambda d=d: digits(d), name, make, d, d >= few)
    for kind in ("N10_m1000", "N100_m200"):
        every = two_classes(SECONDS["uniform"])
        every["local search"] = step(4, SECONDS["uniform"], method="local_search")
        every["exact"] = step(4, SECONDS["uniform"], method="exact")
        for d in range(3):
            for name, make in every.items():
                yield one(
                    f"random {kind}", lambda k=kind, d=d: uniform(k, d), name, make, d
                )
    for d in range(SPLITS):
        for unique in (False, True):
            study = "breast cancer" + (", unique rows" if unique else "")
            for name, make in two_classes(SECONDS["breast"]).items():
                rest = unique and name not in ("splitting, ternary", "ReLU")
                rest |= name == "robust 0.05" and d >= ROBUST_SPLITS
                data = lambda d=d, u=unique: breast_cancer(d, u)  # noqa: E731
                yield one(study, data, name, make, d, rest)


def summary(rows: list[dict]) -> dict[str, str]:
    """The tables of the page."""
    head = [
        "data", "network", "draws", "test accuracy, %", "under attack, %", "training loss",
        "weights not 0, %", "CPU s", "clock s",
    ]  # fmt: skip
    lines = [
        [
            study,
            run,
            len(own),
            per_cent([r["accuracy"] for r in own]),
            per_cent([r["robust"] for r in own]),
            with_error([r["loss"] for r in own], 1),
            share(own),
            with_error([r["cpu_seconds"] for r in own], 1),
            average([r["wall_seconds"] for r in own]),
        ]
        for study, run, own in by_run(rows)
    ]
    steps = [r for r in rows if r["study"] == "digits" and r["run"] != "ReLU"]
    return {
        "means": table(head, lines),
        "differences": differences(rows, "ReLU", OVERLAP),
        "digits": differences(steps, "gradients", OVERLAP),
    }
