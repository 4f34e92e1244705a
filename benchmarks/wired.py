"""Networks wired into models: every solver on every model of ``wired_models``.

``python benchmarks/wired.py --limit 30 --seeds 0 1 2`` runs one heavy process at a time and
adds a row for each model, seed and tool to ``--csv``; what the table holds isn't run again.
``--peer-python`` names the Python of an environment with this package and the peers
(Gurobi, OMLT); HiGHS and SCIP run in this one. ``--weights`` is the file with the networks
of the investment problem, which can't be given away; without it those models are left out.
"""

from __future__ import annotations

from model_runs import Collection, command_line
from wired_models import MODELS

WIRED = Collection(
    name="wired",
    title="Wired models",
    models=list(MODELS),
    maximized=frozenset({
        "student250", "price_nl", "price_grid", "pricing20", "reformers4", "flowsheet",
        "gaslift17", "gaslift17d", "qnet8", "cvar20", "production",
    }),
    tools=(
        "find_start", "relu", "relu_highs", "relu_global", "relu_scip", "highs",
        "highs_auto", "scip", "gurobi", "omlt",
    ),
    one_seed=("production", "investment"),
    extra=[f"investment_{matrix}_{k}" for matrix in "EH" for k in (6, 11, 21, 41)],
)  # fmt: skip


def main() -> None:
    command_line(WIRED, __doc__ or "")


if __name__ == "__main__":
    main()
