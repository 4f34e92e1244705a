"""The study of Aspman, Korpas and Marecek, arXiv 2310.04469: the dual of training itself.

The paper has no experiment. Here the subadditive dual of programs that train step networks is
built, from trees of branch and bound and from Gomory's cuts in fractions, evaluated at other
data beside the same programs solved anew, and differentiated.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from common import significant, table
from paper_runs import Run, average, by_run, with_error

from pyomo_relu.base.deadline import Deadline, TimeUp
from pyomo_relu.differentiable import (
    ChvatalFunction,
    Infeasible,
    NodeLimit,
    ParametricMILP,
    Program,
)
from pyomo_relu.programs.sharp import solve_mip
from pyomo_relu.training import BinaryNetClassifier

NUMBERS = (
    "rows", "columns", "integers", "value", "bound", "pieces", "height", "nodes",
    "highs_seconds", "above", "near_dual", "near_leaves", "near_root", "far_dual",
    "far_leaves", "far_root", "moved_dual", "moved_leaves", "moved_root",
    "slope_error", "digits", "cpu_seconds", "wall_seconds",
)  # fmt: skip

#: CPU seconds of a dual; its size doesn't matter as long as it is made within that.
LIMIT, FULL_LIMIT, NODES = 30.0, 900.0, 1_000_000
#: By how much right-hand sides are changed, near and far, and features; how often each.
NEAR, FAR, MOVED, TIMES = 1e-5, 1e-3, 1e-3, 3
#: The bounds that are compared: F, the least leaf of its tree, and the root of that.
KINDS = ("dual", "leaves", "root")
#: By how much the corners of the square are blurred.
BLUR = 0.15


@dataclass(frozen=True)
class Case:
    """A network that is trained, and with which loss."""

    copies: int
    hidden: tuple[int, ...]
    loss: str
    weights: str
    draws: int = 3
    full: bool = False

    @property
    def name(self) -> str:
        """As the page has it."""
        neurons = f"{self.hidden[0]} hidden" if self.hidden else "no hidden"
        return f"{neurons}, {self.weights} weights, {self.loss.replace('_', ' ')}"

    @property
    def study(self) -> str:
        """Its points."""
        return f"{4 * self.copies} points"


CASES = (
    Case(1, (2,), "max_margin", "continuous"),
    Case(1, (2,), "max_margin", "ternary"),
    Case(1, (2,), "hinge", "continuous"),
    Case(1, (2,), "l1", "continuous"),
    Case(4, (), "hinge", "ternary"),
    Case(4, (), "l1", "ternary"),
    Case(4, (1,), "hinge", "continuous"),
    Case(4, (2,), "max_margin", "continuous"),
    Case(4, (2,), "max_margin", "ternary", 1),
    Case(4, (2,), "hinge", "continuous", 1),
    Case(4, (1,), "l1", "continuous", 1),
    Case(4, (2,), "l1", "continuous"),
    Case(8, (2,), "max_margin", "continuous"),
    Case(16, (2,), "max_margin", "continuous", 1, full=True),
)


def points(copies: int, draw: int) -> tuple[np.ndarray, np.ndarray]:
    """Blurred corners of a square, opposite ones of one class."""
    corners = np.repeat(
        np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]]) / 2.0, copies, axis=0
    )
    labels = np.repeat([0, 1, 1, 0], copies)
    rng = np.random.default_rng(draw)
    return corners + BLUR * rng.normal(size=corners.shape), labels


def training(case: Case, draw: int) -> ParametricMILP:
    """The program of a case as a function of its points."""
    x, y = points(case.copies, draw)
    network = BinaryNetClassifier(case.hidden, loss=case.loss, weights=case.weights)
    return ParametricMILP.from_training(network.training_program(x, y, room=0.5))


def moved_sides(program: Program, rng: np.random.Generator, size: float) -> Program:
    """All sides of rows changed: equations to either side, others so that they hold more."""
    equal = program.row_lower == program.row_upper
    down, up = size * rng.uniform(-1, 1, size=(2, program.shape[0]))
    low = np.where(equal, down, -np.abs(down))
    return replace(
        program,
        row_lower=program.row_lower + low,
        row_upper=program.row_upper + np.where(equal, low, np.abs(up)),
    )


def measure_tree(case: Case, draw: int, limit: float) -> dict:
    """The dual from a tree: size, time, and how far below it is at other data."""
    milp = training(case, draw)
    program = milp.program()
    begun = time.process_time()
    value = milp.solve().value
    found: dict[str, Any] = {
        "rows": program.shape[0],
        "columns": program.shape[1],
        "integers": int(program.integer.sum()),
        "value": value,
        "highs_seconds": time.process_time() - begun,
    }
    begun, wall = time.process_time(), time.perf_counter()
    try:
        dual = milp.subadditive_dual(node_limit=NODES, deadline=Deadline(None, limit))
    except (TimeUp, NodeLimit):
        return {**found, "status": f"none within {limit:g} CPU s"}
    found["cpu_seconds"] = time.process_time() - begun
    found["wall_seconds"] = time.perf_counter() - wall
    found |= {"bound": dual.bound(), "pieces": dual.leaves, "height": dual.height}
    found["nodes"] = dual.nodes
    # The least leaf needs finite bounds, which the terms of the hinge don't have.
    leaves = dual.least_leaf() if np.isfinite(program.upper).all() else lambda _: np.nan
    rng = np.random.default_rng(draw)
    above = found["bound"] - value
    for name, others in (
        ("near", [moved_sides(program, rng, NEAR) for _ in range(TIMES)]),
        ("far", [moved_sides(program, rng, FAR) for _ in range(TIMES)]),
        ("moved", [milp.program(moved_points(milp, rng)) for _ in range(TIMES)]),
    ):
        gaps = []
        for other in others:
            try:
                exact = other.objective(solve_mip(other))
            except Infeasible:
                continue
            bounds = dual.bound(other), leaves(other), dual.root_bound(other)
            above = max(above, bounds[0] - exact)
            gaps.append([exact - bound for bound in bounds])
        if gaps:
            for kind, gap in zip(KINDS, np.mean(gaps, axis=0).tolist()):
                if np.isfinite(gap):
                    found[f"{name}_{kind}"] = gap
    found["above"] = above
    if case.loss == "max_margin":  # the others jump
        found["slope_error"] = slope_error(milp, dual, rng)
    return {**found, "status": "made"}


def moved_points(milp: ParametricMILP, rng: np.random.Generator) -> np.ndarray:
    """Features a little elsewhere."""
    return milp.initial + MOVED * rng.uniform(-1, 1, size=len(milp.initial))


def slope_error(milp: ParametricMILP, dual: Any, rng: np.random.Generator) -> float:
    """The derivative in the points against a difference of networks trained anew."""
    slope = milp.data_jacobian().T @ dual.data_gradient()
    way, h = rng.normal(size=len(slope)), 1e-5
    high, low = (milp.solve(milp.initial + s * way).value for s in (h, -h))
    return abs(float(slope @ way) - (high - low) / (2 * h))


# ------------------------------------------------------------------- Gomory's cuts
def perceptron(n: int) -> tuple[list, list, list]:
    """Fewest weights in {-1, 0, 1} of one neuron that has the majority of n inputs."""
    every = np.array(list(product((-1, 1), repeat=n)))
    if len(every) > 40:
        every = np.random.default_rng(0).permutation(every)[:24]
    signed = np.column_stack([every, np.ones(len(every), int)])
    signed *= np.where(every.sum(axis=1) > 0, 1, -1)[:, None]
    rows = np.vstack([np.hstack([signed, -signed]), -np.identity(2 * n + 2, dtype=int)])
    right = [*np.where(every.sum(axis=1) > 0, 0, 1).tolist(), *[-1] * (2 * n + 2)]
    return [1] * (2 * n + 2), rows.tolist(), right


def covering(n: int, draw: int) -> tuple[list, list, list]:
    """A random covering program in n binaries."""
    rng = np.random.default_rng(draw)
    matrix, cost = rng.integers(0, 10, size=(n // 2, n)), rng.integers(1, 10, size=n)
    rows = [*matrix.tolist(), *(-np.identity(n, dtype=int)).tolist()]
    return cost.tolist(), rows, [*(matrix.sum(axis=1) // 3).tolist(), *[-1] * n]


#: What two inputs in {0, 1} become.
TABLES = {"and": (0, 0, 0, 1), "or": (0, 1, 1, 1), "xor": (0, 1, 1, 0)}


def of_table(name: str, hidden: tuple[int, ...], loss: str) -> tuple[list, list, list]:
    """The program that trains a ternary network for a table; every number is an integer."""
    x = np.array(list(product((0.0, 1.0), repeat=2)))
    network = BinaryNetClassifier(hidden, loss=loss, weights="ternary")
    mip = network.training_program(x, np.array(TABLES[name]))
    data = ParametricMILP.from_training(mip).program()
    # Weighted sums of integers are integers, though their variables are continuous.
    data = replace(data, integer=np.ones(data.shape[1], dtype=bool))
    return ChvatalFunction.rows_of(data)[:3]


def measure_cuts(make: Callable[[], tuple[list, list, list]], limit: float) -> dict:
    """The Chvatal function: its size, and how far below it is at other right-hand sides."""
    cost, rows, right = make()
    n, m = len(cost), len(rows)
    program = Program.from_arrays(
        cost, np.array(rows, float), row_lower=right, integer=True
    )
    found: dict[str, Any] = {"rows": m, "columns": n, "integers": n}
    begun = time.process_time()
    found["value"] = program.objective(solve_mip(program))
    found["highs_seconds"] = time.process_time() - begun
    begun, wall = time.process_time(), time.perf_counter()
    try:
        deadline = Deadline(None, limit)
        function = ChvatalFunction(cost, rows, right, max_cuts=10**6, deadline=deadline)
    except TimeUp:
        return {**found, "status": f"none within {limit:g} CPU s"}
    found["cpu_seconds"] = time.process_time() - begun
    found["wall_seconds"] = time.perf_counter() - wall
    found |= {"bound": float(function.value), "pieces": len(function.cuts)}
    found |= {"height": function.generated, "nodes": function.pivots}
    sizes = (u.denominator for cut in function.cuts for u in cut.values())
    found["digits"] = len(str(max(sizes, default=1)))
    rng = np.random.default_rng(0)
    gaps, above = [], found["bound"] - found["value"]
    for _ in range(TIMES):
        other = [b + int(d) for b, d in zip(right, rng.integers(-1, 2, size=m))]
        try:
            exact = program.objective(
                solve_mip(replace(program, row_lower=np.array(other)))
            )
        except Infeasible:
            continue
        gaps.append(exact - float(function(other)))
        above = max(above, -gaps[-1])
    found["above"] = above
    if gaps:
        found["far_dual"] = float(np.mean(gaps))
    return {**found, "status": "made" if function.is_dual_feasible() else "infeasible"}


def runs() -> Iterator[Run]:
    """Trees, then cuts; with ``--full`` what isn't made within minutes."""
    for case in CASES:
        for d in range(case.draws):
            measure = partial(measure_tree, case, d, FULL_LIMIT if case.full else LIMIT)
            yield Run(f"tree: {case.study}", case.name, d, measure, case.full)
    makes: dict[str, tuple[Callable, bool]] = {}
    for n in (3, 5, 7, 9, 11):
        makes[f"one neuron, majority of {n}"] = partial(perceptron, n), False
    for n, h, loss in product(TABLES, ((), (1,), (2,)), ("l1", "min_weight")):
        if n == "xor" and loss == "min_weight" and h != (2,):
            continue  # no network fits
        name = f"{n}, {h[0] if h else 'no'} hidden, {loss.replace('_', ' ')}"
        makes[name] = partial(of_table, n, h, loss), False
    for n in (16, 24, 32, 40, 48):
        makes[f"covering, {n} binaries"] = partial(covering, n, 0), n > 40
    for name, (make, full) in makes.items():
        limit = FULL_LIMIT if full else LIMIT
        yield Run("cuts", name, 0, partial(measure_cuts, make, limit), full)


def summary(rows: list[dict]) -> dict[str, str]:
    """What was made and how large it is; how far below other programs it lies."""
    trees = [r for r in rows if r["study"] != "cuts"]
    first, second = [], []
    for study, run, own in by_run(trees):
        made = [r for r in own if r["status"] == "made"]
        label = [study.removeprefix("tree: "), run]
        size = "{rows:.0f} x {columns:.0f}, {integers:.0f}".format(**own[0])
        seconds = with_error([r["cpu_seconds"] for r in made], 2) or own[0]["status"]
        first.append([
            *label, size, f"{len(made)} of {len(own)}",
            with_error([r["pieces"] for r in made], 0), average([r["nodes"] for r in made], 0),
            seconds, with_error([r["highs_seconds"] for r in own], 2),
            small([r["value"] - r["bound"] for r in made]),
        ])  # fmt: skip
        if not made:
            continue
        names = [f"{p}_{q}" for p in ("near", "far", "moved") for q in KINDS]
        cells = [gap([r[k] for r in made]) for k in names]
        slopes = small([r["slope_error"] for r in made if r["slope_error"] is not None])
        second.append([*label, *cells, small([r["above"] for r in made]), slopes])
    head = [
        "points", "network, loss", "rows x columns, integers", "made", "leaves",
        "linear programs", "CPU s", "HiGHS, CPU s", "value - F, six digits",
    ]  # fmt: skip
    more = [
        "points", "network, loss", f"sides ± {NEAR:g}: F", "leaf", "root",
        f"sides ± {FAR:g}: F", "leaf", "root", f"features ± {MOVED:g}: F", "leaf", "root",
        "largest F - value", "largest error of slopes",
    ]  # fmt: skip
    third = [
        [
            r["run"], f"{r['rows']:.0f} x {r['columns']:.0f}", f"{r['value']:g}",
            *(
                [f"{r['pieces']:.0f}", f"{r['height']:.0f}", f"{r['nodes']:.0f}",
                 f"{r['digits']:.0f}", f"{r['cpu_seconds']:.2f}"]
                if r["status"] == "made" else ["", "", "", "", r["status"]]
            ),
            f"{r['highs_seconds']:.2f}",
        ]
        for r in rows if r["study"] == "cuts"
    ]  # fmt: skip
    last = [
        "integer program", "rows x columns", "value", "cuts in F", "cuts made", "pivots",
        "digits", "CPU s", "HiGHS, CPU s",
    ]  # fmt: skip
    return {
        "trees": table(head, first),
        "other data": table(more, second),
        "cuts": table(last, third),
    }


def gap(values: list[float | None]) -> str:
    """The mean of distances that are known, two digits; 0 for what rounding leaves."""
    known = [v for v in values if v is not None]
    if not known:
        return ""
    mean = float(np.mean(known))
    return significant(mean) if mean >= 1e-6 else "0"


def small(values: list[float]) -> str:
    """The largest of small numbers, one digit; 0 for what isn't above 0."""
    if not values:
        return ""
    most = max(values)
    return "0" if most <= 0 or math.isnan(most) else f"{most:.0e}"
