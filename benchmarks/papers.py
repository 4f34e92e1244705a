"""The studies of the papers behind this package, each by one command.

    OMP_NUM_THREADS=1 python benchmarks/papers.py --paper kurtz_bah [--full] [--csv FILE]

A row for each run is added to results/paper_NAME.csv; rows that are there aren't run again, so an
interrupted study goes on where it stopped. Without ``--full`` a study takes less than an hour
of a processor; the CPU seconds of the stored rows, most of them measured on a busy machine, are
90 for feasibility, 120 for aspman, 150 for together, 400 for kurtz_bah, 700 for plate, 1,600 for
fischetti_jo (which first trains five networks) and, missing rows counted as the longest, 800 for
ensembles.
``--table`` only writes the means, with standard errors, to results/paper_NAME_summary.md,
which the page docs/benchmarks/paper_NAME.md includes. Data are looked for in
``../shared/data`` and left out where they are missing.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from common import RESULTS, publish
from paper_runs import NUMBERS, rows_of, run_missing

PAPERS = (
    "kurtz_bah", "ensembles", "feasibility", "fischetti_jo", "aspman", "plate", "together",
)  # fmt: skip


def main() -> None:
    """Run what the table hasn't, and write what the page shows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--paper", choices=PAPERS, required=True)
    parser.add_argument("--full", action="store_true", help="the whole study")
    parser.add_argument("--csv", type=Path, help="another table than the stored one")
    parser.add_argument("--table", action="store_true", help="write the means only")
    parser.add_argument("--only", nargs="*", default=[""], help="words in study or run")
    parser.add_argument("--plot", action="store_true", help="draw the page's picture")
    args = parser.parse_args()
    name = f"paper_{args.paper}"
    path = args.csv or RESULTS / f"{name}.csv"
    study = importlib.import_module(name)
    numbers = getattr(study, "NUMBERS", NUMBERS)
    if not args.table:
        chosen = (
            run
            for run in study.runs()
            if any(word in f"{run.study}: {run.run}" for word in args.only)
        )
        run_missing(chosen, path, args.full, numbers)
    if args.plot:
        if not hasattr(study, "plot"):
            parser.error(f"the study {args.paper} has no picture.")
        study.plot(rows_of(path, numbers))
    if args.csv is None:
        publish(name, study.summary(rows_of(path, numbers)))


if __name__ == "__main__":
    main()
