"""Runs of the studies of papers: rows in a CSV, means with standard errors, differences."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import append, read_rows, table
from scipy.stats import norm, t
from training import attacked, weights_of

#: Columns of a study that names none of its own.
NUMBERS = (
    "accuracy", "published_rule", "robust", "loss", "nonzeros", "weights", "objective",
    "bound", "binaries", "cpu_seconds", "wall_seconds",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A row that is to be measured.

    Attributes
    ----------
    study, run : str
        Data, and what is trained or solved on them.
    draw : int
        The number of the random draw; runs of one draw see the same points.
    measure : callable
        Returns the numbers of the row, by the study's names for them, and its status.
    full : bool
        Whether it is one of the full study only.
    """

    study: str
    run: str
    draw: int
    measure: Callable[[], dict]
    full: bool = False


def run_missing(
    runs: Iterable[Run], path: Path, full: bool, numbers: Sequence[str] = NUMBERS
) -> None:
    """Measure what the table hasn't; rows are added as they come."""
    fields = ("study", "run", "draw", *numbers, "status")
    known = {(r["study"], r["run"], r["draw"]) for r in read_rows(path, (), ())}
    for run in runs:
        if (run.study, run.run, str(run.draw)) in known or (run.full and not full):
            continue
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = run.measure()
        except FileNotFoundError as error:
            print(f"{run.study}, {run.run}: left out, {error}")
            continue
        row = {
            "study": run.study,
            "run": run.run,
            "draw": run.draw,
            "cpu_seconds": time.process_time() - cpu,
            "wall_seconds": time.perf_counter() - wall,
            **found,
        }
        row = {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()}
        print(*row.values(), flush=True)
        append(path, fields, row)


def rows_of(path: Path, numbers: Sequence[str] = NUMBERS) -> list[dict]:
    """The rows so far, numbers as such."""
    return read_rows(path, numbers, ())


def tested(clf: Any, x: np.ndarray, y: np.ndarray) -> dict:
    """What a row says about a trained classifier, on points to test."""
    nonzeros, weights = weights_of(clf)
    return {
        "accuracy": clf.score(x, y),
        "robust": attacked(clf, x, y),
        "loss": clf.loss_ if hasattr(clf, "network_") else None,
        "nonzeros": nonzeros,
        "weights": weights,
        "status": getattr(clf, "status_", ""),
    }


def by_run(rows: Sequence[dict]) -> Iterator[tuple[str, str, list[dict]]]:
    """Study, run and rows, study by study, in the order in which they came first."""
    for study in dict.fromkeys(r["study"] for r in rows):
        for run in dict.fromkeys(r["run"] for r in rows if r["study"] == study):
            yield study, run, [r for r in rows if (r["study"], r["run"]) == (study, run)]


def mean_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error; NaN for the error of one value."""
    x = np.asarray(values, float)
    error = x.std(ddof=1) / np.sqrt(len(x)) if len(x) > 1 else np.nan
    return float(x.mean()), float(error)


def per_cent(values: Sequence[float | None]) -> str:
    """Mean and standard error of shares in per cent; empty where there are none."""
    known = [v for v in values if v is not None]
    if not known:
        return ""
    mean, error = mean_error([100 * v for v in known])
    return f"{mean:.1f}" if np.isnan(error) else f"{mean:.1f} ± {error:.1f}"


def proportion(count: int, of: int, level: float = 0.95) -> str:
    """A share in per cent with Wilson's interval, which says something of all or none, too.

    Wilson, Probable inference, the law of succession, and statistical inference, Journal of
    the American Statistical Association 22, 1927.
    """
    z = norm.ppf(0.5 + level / 2)
    p, shrink = count / of, 1.0 + z * z / of
    middle = (p + z * z / (2 * of)) / shrink
    half = z * np.sqrt(p * (1 - p) / of + z * z / (4 * of * of)) / shrink
    return f"{100 * p:.0f} ({100 * (middle - half):.0f} to {100 * (middle + half):.0f})"


def with_error(values: Sequence[float | None], digits: int) -> str:
    """Mean and standard error of what is known; the mean alone of one, nothing of none."""
    known = [v for v in values if v is not None]
    if not known:
        return ""
    mean, error = mean_error(known)
    return f"{mean:.{digits}f}" + (f" ± {error:.{digits}f}" if len(known) > 1 else "")


def average(values: Sequence[float | None], digits: int = 1) -> str:
    """The mean of numbers; empty where there are none."""
    known = [v for v in values if v is not None]
    return f"{np.mean(known):.{digits}f}" if known else ""


def share(rows: Sequence[dict]) -> str:
    """The mean share of weights that aren't 0."""
    return per_cent([r["nonzeros"] / r["weights"] for r in rows if r["weights"]]).split(
        " ±"
    )[0]


def differences(rows: Sequence[dict], base: str, overlap: Mapping[str, float]) -> str:
    """Each run against one of the same study, draw by draw.

    ``overlap`` has, for studies whose draws are splits of one set of points, the number of
    points to test over that to train. Such draws share most of their points, so that the
    variance of their mean is more than a share of theirs: it is corrected by Nadeau and
    Bengio, Inference for the generalization error, Machine Learning 52, 2003. A difference is
    clear where it lies beyond Student's 97.5 % quantile of that error.
    """
    lines = []
    for study, run, own in by_run(rows):
        other = {
            r["draw"]: r["accuracy"]
            for r in rows
            if (r["study"], r["run"]) == (study, base)
        }
        pairs = [r["accuracy"] - other[r["draw"]] for r in own if r["draw"] in other]
        if run == base or len(pairs) < 2:
            continue
        mean, error = mean_error([100 * d for d in pairs])
        n = len(pairs)
        wide = error * np.sqrt(1.0 + n * overlap.get(study, 0.0))
        clear = "yes" if abs(mean) > t.ppf(0.975, n - 1) * wide else "no"
        lines.append([study, run, n, f"{mean:+.2f} ± {error:.2f}", f"{wide:.2f}", clear])
    head = [
        "data", f"against {base}", "draws", "difference, points", "corrected error", "clear",
    ]  # fmt: skip
    return table(head, lines)
