"""What the bounds of each rung do for the time of the final MIP.

    OMP_NUM_THREADS=1 python benchmarks/bounds_effect.py [--csv FILE] [--only WORD]

Big-M, HiGHS, one thread, CPU seconds. Surrogates: networks trained on the peaks function
from several seeds, the largest and the smallest output. Images: a network 784-50-50-10
trained on MNIST (../shared/data/tsay_mnist_2x50), boxes +-0.02 around test images,
another digit's output less the true one's. Rows are added to the CSV one by one
(benchmarks/results/bounds_effect.csv); what is there is not measured again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from bounds import DATA, RESULTS, Case, add_row, dense, read_rows, trained

from pyomo_relu.bounds import compute_bounds

EffectCase = tuple[Case, list[np.ndarray]]


def image_box(number: int, radius: float) -> Callable[[], EffectCase]:
    """784-50-50-10 trained on MNIST; another digit's output less the true one's."""

    def load() -> EffectCase:
        data = np.load(DATA / "tsay_mnist_2x50" / "mnist_2x50.npz")
        x = data["images"][number]
        true, target = data["labels"][number].astype(int)
        network = dense(
            [data[f"w{k}"] for k in (1, 2, 3)], [data[f"b{k}"] for k in (1, 2, 3)]
        )
        cost = np.zeros(10)
        cost[target], cost[true] = 1.0, -1.0
        lower, upper = np.maximum(x - radius, 0.0), np.minimum(x + radius, 1.0)
        return (network, lower, upper), [cost]

    return load


def surrogate(*hidden: int, seed: int) -> Callable[[], EffectCase]:
    """The largest and the smallest output of a trained surrogate."""
    return lambda: (trained(*hidden, seed=seed), [np.ones(1), -np.ones(1)])


#: Groups of instances: networks, and the costs on their outputs to maximize in turn.
GROUPS: dict[str, list[Callable[[], EffectCase]]] = {
    "peaks 2-10-10-10-1": [surrogate(10, 10, 10, seed=s) for s in range(6)],
    "image +- 0.02": [image_box(k, 0.02) for k in range(6)],
    "peaks 2-20-20-1": [surrogate(20, 20, seed=s) for s in range(6)],
}

#: The rungs whose effect is measured; the last ones for few inputs only.
RUNGS: dict[str, tuple[str, dict, bool]] = {
    "interval": ("interval", {}, True),
    "crown": ("crown", {}, True),
    "alpha_crown": ("alpha_crown", {}, True),
    "lp": ("lp", {}, True),
    "lp, 3 rounds of cuts": ("lp", {"cuts": 3, "time_limit": 30}, True),
    "boxes 256": ("boxes", {"count": 256}, False),
    "rolling, window 1": (
        "rolling",
        {"window": 1, "time_limit": 30, "neuron_time_limit": 1},
        False,
    ),
    "mip": ("mip", {"time_limit": 120, "neuron_time_limit": 30}, False),
}


def solve(case: Case, costs: list[np.ndarray], bounds, seconds: float) -> dict:
    """CPU seconds of the MIPs of one network, and what they found."""
    import pyomo.environ as pyo

    from pyomo_relu import ReLUNetBlock

    network, lower, upper = case
    total, nodes, best, solved = 0.0, 0, [], True
    for cost in costs:
        m = pyo.ConcreteModel()
        m.net = ReLUNetBlock(
            network=network,
            input_bounds=list(zip(lower.tolist(), upper.tolist())),
            bounds=bounds,
        )
        m.objective = pyo.Objective(
            expr=sum(c * v for c, v in zip(cost, m.net.outputs.values()) if c),
            sense=pyo.maximize,
        )
        solver = pyo.SolverFactory("appsi_highs")
        solver.config.time_limit = seconds
        solver.highs_options["parallel"] = "off"
        begin = time.process_time()
        result = solver.solve(m, load_solutions=False)
        total += time.process_time() - begin
        nodes += max(0, int(solver._solver_model.getInfo().mip_node_count))
        low = float(result.problem.lower_bound)
        high = float(result.problem.upper_bound)
        solved &= high - low <= 1e-3 * (1.0 + abs(low))
        best.append(round(low, 4))
    return {
        "mip_cpu_seconds": f"{total:.3f}",
        "nodes": nodes,
        "solved": solved,
        "best": " ".join(map(str, best)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", type=Path, default=RESULTS / "bounds_effect.csv")
    parser.add_argument("--only", default="", help="groups whose name holds this word")
    parser.add_argument("--seconds", type=float, default=120.0, help="limit of each MIP")
    arguments = parser.parse_args()
    known = {
        (row["group"], row["instance"], row["bounds"]) for row in read_rows(arguments.csv)
    }
    for group, makers in GROUPS.items():
        if arguments.only not in group:
            continue
        for number, make in enumerate(makers):
            try:
                case, costs = make()
            except (FileNotFoundError, ImportError) as e:
                print(f"{group} {number}: left out ({e})")
                continue
            for label, (rung, options, wide) in RUNGS.items():
                few = wide or case[0].n_inputs <= 10
                if not few or (group, str(number), label) in known:
                    continue
                begin = time.process_time()
                bounds = compute_bounds(*case, rung, **options)
                spent = time.process_time() - begin
                row = {
                    "group": group,
                    "instance": number,
                    "bounds": label,
                    "neurons": case[0].n_neurons,
                    "stable": bounds.statistics()["stable"],
                    "bounds_cpu_seconds": f"{spent:.4f}",
                    **solve(case, costs, bounds, arguments.seconds),
                }
                add_row(arguments.csv, row)
                print(*row.values(), flush=True)


if __name__ == "__main__":
    main()
