"""The study of Bernardelli et al. (BeMi): 45 binarized networks that vote on MNIST."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
from common import table
from paper_runs import Run, average, by_run, per_cent, share
from training import mnist

from pyomo_relu.training import OneVsOneBinarizedEnsemble

#: Images of each class, CPU seconds of a short and of a longer fit, all 45 pairs together, and
#: what the paper has, in per cent.
SIZES = {10: (8.0, 90.0, 68.4), 40: (16.0, 90.0, 81.8)}
DRAWS = 5


@cache
def data(count: int, draw: int) -> tuple[np.ndarray, ...]:
    """The last draw that was asked for is kept, as two runs share it."""
    return mnist(count, draw)


def measure(count: int, draw: int, seconds: float, **options) -> dict:
    """Train and test under both rules for ties."""
    x, y, xt, yt = data(count, draw)
    clf = OneVsOneBinarizedEnsemble(
        cpu_time_limit=seconds, random_state=draw, **options
    ).fit(x, y)
    nonzeros, weights = clf.nonzeros_
    return {
        "accuracy": clf.score(xt, yt),
        "published_rule": clf.published_score(xt, yt),
        "nonzeros": nonzeros,
        "weights": weights,
    }


def runs() -> Iterator[Run]:
    """The short ones first; with ``--full`` biases, all margins kept, and long stages."""
    for count in SIZES:
        for d in range(DRAWS):
            study = f"MNIST, {count} of each class"

            def one(name, full=False, count=count, d=d, study=study, **options):
                seconds = options.pop("seconds", SIZES[count][1])
                return Run(
                    study, name, d, lambda: measure(count, d, seconds, **options), full
                )

            short, longer, _ = SIZES[count]
            yield one(f"{short:g} CPU s", seconds=short)
            yield one(f"{longer:g} CPU s")
            yield one("with biases", True, bias=True)
            yield one("all margins kept", True, margin_kept=1.0)
            limits = {"stage_limits": (5.0, 5.0, 5.0)}
            yield one("400 CPU s", True, seconds=400.0, **limits)


def summary(rows: list[dict]) -> dict[str, str]:
    """The table of the page."""
    head = [
        "data", "ensemble", "draws", "own rule, %", "published rule, %", "published, %",
        "weights not 0, %", "CPU s", "clock s",
    ]  # fmt: skip
    published = {f"MNIST, {n} of each class": p for n, (_, _, p) in SIZES.items()}
    lines = [
        [
            study,
            run,
            len(own),
            per_cent([r["accuracy"] for r in own]),
            per_cent([r["published_rule"] for r in own]),
            published[study],
            share(own),
            average([r["cpu_seconds"] for r in own]),
            average([r["wall_seconds"] for r in own]),
        ]
        for study, run, own in by_run(rows)
    ]
    return {"means": table(head, lines)}
