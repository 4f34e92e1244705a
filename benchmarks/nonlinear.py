"""Nonlinear wired models: every solver that takes them, on each of ``nonlinear_models``.

``python benchmarks/nonlinear.py --limit 60`` runs one heavy process at a time and adds a
row for each model, seed and tool to ``--csv``; what the table holds isn't run again.
``scip`` gets the blocks' big-M rows, ``scip_products`` their complementarity conditions,
``--peer-python`` names the Python of an environment with this package and Gurobi.
"""

from __future__ import annotations

from model_runs import Collection, command_line
from nonlinear_models import MODELS

NONLINEAR = Collection(
    name="nonlinear",
    title="Nonlinear wired models",
    models=[*MODELS, "price_nl"],
    maximized=frozenset({
        "tariffs", "pooling", "mixing", "portfolio", "reactor", "price_nl",
    }),
    tools=("relu_scip", "relu", "scip", "scip_products", "gurobi"),
)  # fmt: skip


def main() -> None:
    command_line(NONLINEAR, __doc__ or "")


if __name__ == "__main__":
    main()
