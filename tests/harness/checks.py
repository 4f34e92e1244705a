"""The checks that every formulation, bound and reader must pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.common.modeling import unique_component_name
from pyomo.contrib.appsi.solvers import Highs

from pyomo_relu.analysis import linear_regions
from pyomo_relu.bounds import Bounds
from pyomo_relu.network import Network, PiecewiseLinear
from tests.harness.search import best_found, box_points
from tests.harness.strategies import points_in


def without_log(solver, name: str) -> None:
    """Turn SCIP's log off.

    Pyomo 6.10 reads it in a thread that SCIP doesn't let run: a log of more than a pipe
    holds, 64 KiB, stops both for good.
    """
    if name == "scip_direct":
        solver.options["display/verblevel"] = 0


def solver_or_skip(name: str = "appsi_highs"):
    """The solver, or a skipped test where it is missing."""
    solver = pyo.SolverFactory(name)
    if not solver.available(exception_flag=False):
        pytest.skip(f"the solver '{name}' is not available")
    without_log(solver, name)
    if hasattr(solver, "update_config"):
        # Else appsi writes every row anew that has a variable fixed at another point.
        solver.update_config.treat_fixed_vars_as_params = False
    return solver


def assert_embedding_matches(
    model,
    block,
    network: Network | None = None,
    points=None,
    *,
    solver: str = "appsi_highs",
    options: dict | None = None,
    tolerance: float = 1e-6,
    seed: int = 0,
) -> int:
    """With the inputs fixed, the model is feasible and gives the network's outputs.

    At each point a random combination of the outputs is minimized, so that outputs
    that are only bounded from one side are found out.

    Parameters
    ----------
    model : ConcreteModel
        What to solve; left as it was, values included.
    block : ReLUNetBlock
        One block of it, with an exact formulation.
    network : Network, optional
        The truth; ``block.network`` if left out.
    points : (N, n_inputs) array_like, optional
        The box's centre and corners, every corner that attains a first-layer bound,
        and a few random points if left out.
    solver : str
    options : dict, optional
        Of the solver; tight tolerances for HiGHS if left out.
    tolerance : float
        Relative to the largest value of any node at the point.

    Returns
    -------
    int
        Number of points.
    """
    network = block.network if network is None else network
    if points is None:
        points = box_points(network, *block.bounds.input_box, seed=seed)
    points = np.atleast_2d(np.asarray(points, dtype=float))
    rng = np.random.default_rng(seed)
    opt = solver_or_skip(solver)
    with _own_objective(model) as objective:
        for x in points:
            values = network.activations(x)
            scale = max(1.0, *(float(np.abs(v).max()) for v in values))
            c = rng.normal(size=network.n_outputs)
            objective.set_value(_combination(block, c))
            objective.sense = pyo.minimize
            with _fixed_inputs(model, block, x):
                _solve(opt, model, f"inputs fixed at {x}", options, scale)
                got = np.array([pyo.value(block.outputs[j]) for j in range(len(c))])
            if near_step(network, x):
                continue  # both sides of the step are right
            error = np.abs(got - network.evaluate(x)).max()
            assert error <= tolerance * scale, (
                f"outputs {got} instead of {network.evaluate(x)} at {x} (error {error:.3g})"
            )
    return len(points)


def assert_optimum_matches(
    model,
    block,
    network: Network | None = None,
    lower=None,
    upper=None,
    *,
    objectives: Sequence[int | Sequence[float]] | None = None,
    senses: Sequence[str] = ("min", "max"),
    solver: str = "appsi_highs",
    options: dict | None = None,
    tolerance: float = 1e-6,
    samples: int = 4000,
    relaxation: bool = False,
    seed: int = 0,
) -> dict[tuple[int, str], float]:
    """The optimum over the box is the network's: nothing is cut off, nothing is added.

    It must be no worse than dense sampling with local search, belong to a point where
    the network takes that value, and equal the exact optimum over all linear regions
    where at most two inputs are free.

    Parameters
    ----------
    model : ConcreteModel
        With no other constraints on the inputs or outputs; left as it was.
    block : ReLUNetBlock
    network : Network, optional
        The truth; ``block.network`` if left out.
    lower, upper : (n_inputs,) array_like, optional
        The box; that of ``block.bounds`` if left out.
    objectives : sequence of int or of (n_outputs,) array_like, optional
        Outputs, or coefficients of them; the first and the last output and a random
        combination if left out.
    senses : sequence of {'min', 'max'}
    solver, options, tolerance
        As in :func:`assert_embedding_matches`; the tolerance is relative to the
        largest value of any node at the optimum.
    relaxation : bool
        The formulation is one: its optimum may be better, never worse.

    Returns
    -------
    dict
        The optimum by (position of the objective, sense).
    """
    network = block.network if network is None else network
    rng = np.random.default_rng(seed)
    n = network.n_outputs
    if objectives is None:
        objectives = [0] if n == 1 else [0, n - 1, rng.normal(size=n)]
    box = block.bounds.input_box if lower is None else (lower, upper)
    low, high = (np.broadcast_to(np.asarray(b, float), network.n_inputs) for b in box)
    regions = None
    if (low < high).sum() <= 2:
        regions = linear_regions(network, low, high)
    opt = solver_or_skip(solver)
    found = {}
    for k, given in enumerate(objectives):
        c = np.eye(n)[given] if isinstance(given, (int, np.integer)) else np.array(given)
        for sense in senses:
            sampled, where = best_found(
                network, low, high, c, sense, samples=samples, seed=seed
            )
            sign = 1.0 if sense == "min" else -1.0
            with _own_objective(model) as objective:
                objective.set_value(_combination(block, c))
                objective.sense = pyo.minimize if sense == "min" else pyo.maximize
                _solve(opt, model, f"{sense} of objective {k}", options, 1.0)
                value = float(pyo.value(objective.expr))
                x = _input_values(block, low)
            values = network.activations(np.clip(x, low, high))
            scale = max(1.0, *(float(np.abs(v).max()) for v in values))
            slack = tolerance * scale * max(1.0, np.abs(c).sum())
            what = f"{sense} of objective {k}: the model's optimum {value:.9g}"
            assert sign * value <= sign * sampled + slack, (
                f"{what} is cut off: the network has {sampled:.9g} at {where}"
            )
            if regions is not None:
                exact = regions.optimum(c, sense, closed=False).value
                assert sign * value <= sign * exact + slack, (
                    f"{what} is cut off: the exact one is {exact:.9g}"
                )
            if not relaxation:
                if regions is not None:
                    # Where the box only touches a step, both of its values are right.
                    exact = regions.optimum(c, sense).value
                    assert sign * value >= sign * exact - slack, (
                        f"{what} is beyond the exact one, {exact:.9g}"
                    )
                if not near_step(network, x):
                    y = float(network.evaluate(np.clip(x, low, high)) @ c)
                    assert abs(y - value) <= slack, (
                        f"{what} isn't what the network has there, {y:.9g}"
                    )
            found[k, sense] = value
    return found


def assert_sound(bounds: Bounds, samples=None, *, count: int = 500, seed: int = 0) -> None:
    """No value that the network takes at a sample lies outside of its bounds.

    Parameters
    ----------
    bounds : Bounds
    samples : (N, n_inputs) array_like, optional
        Points of the box; random ones, corners of the box and all corners that attain
        a first-layer bound if left out.
    """
    network = bounds.network
    if samples is None:
        low, high = bounds.input_box
        rng = np.random.default_rng(seed)
        samples = np.vstack(
            [box_points(network, low, high), points_in(rng, low, high, count)]
        )
    values = network.activations(samples)
    for i, node in enumerate(network.nodes):
        short = np.maximum(bounds.lower[i] - values[i], values[i] - bounds.upper[i])
        worst = np.unravel_index(int(short.argmax()), short.shape)
        assert short[worst] <= 0.0, (
            f"'{node.name}' entry {worst[1]} is {values[i][worst]!r} at "
            f"{np.asarray(samples)[worst[0]]}, outside of its {bounds.method} bounds "
            f"[{bounds.lower[i][worst[1]]!r}, {bounds.upper[i][worst[1]]!r}]"
        )


def assert_reads_same(network: Network, framework: Callable, x, rtol: float = 1e-5) -> None:
    """The network gives what the source framework gives, to its own precision.

    Parameters
    ----------
    framework : callable
        Takes ``x`` and returns an array, or a list of arrays for several outputs.
    x : array_like, mapping or list
        A batch, in a form that both understand.
    rtol : float
        Relative to the largest output.
    """
    result = framework(x)
    if isinstance(result, dict):
        result = list(result.values())
    parts = result if isinstance(result, (list, tuple)) else [result]
    arrays = [np.asarray(p, dtype=float) for p in parts]
    expected = np.hstack([a.reshape(len(a), -1) for a in arrays])
    got = network.evaluate(x)
    assert got.shape == expected.shape, f"{got.shape} instead of {expected.shape}"
    error = np.abs(got - expected).max()
    assert error <= rtol * max(1.0, np.abs(expected).max()), f"differs by {error:.3g}"


def near_step(network: Network, x: np.ndarray, distance: float = 1e-5) -> bool:
    """Whether a pre-activation is so close to a step that both values are right."""
    values = network.activations(x)
    for node in network.nodes:
        if isinstance(node, PiecewiseLinear) and not node.is_continuous:
            z = values[node.source][0][:, None]
            close = abs(z - node.breakpoints) <= distance * np.maximum(1.0, abs(z))
            if (close & (node.jumps != 0)).any():
                return True
    return False


def _combination(block, coefficients: np.ndarray):
    return pyo.quicksum(float(c) * block.outputs[j] for j, c in enumerate(coefficients))


def _input_values(block, default: np.ndarray) -> np.ndarray:
    """The inputs; one that the model nowhere uses has no value, and any will do."""
    values = [pyo.value(block.inputs[i], exception=False) for i in range(len(default))]
    return np.array([d if v is None else v for v, d in zip(values, default)])


#: What is checked is the model, not how far a solver may stray from it.
TIGHT_HIGHS = {
    "mip_rel_gap": 1e-9,
    "mip_abs_gap": 1e-9,
    "mip_feasibility_tolerance": 1e-9,
    "primal_feasibility_tolerance": 1e-9,
}


def _solve(solver, model, what: str, options: dict | None, scale: float) -> None:
    """Solve to optimality, or fail."""
    if options is None:
        # appsi's solvers have no name.
        is_highs = isinstance(solver, Highs) or getattr(solver, "name", None) == "highs"
        options = TIGHT_HIGHS if is_highs and scale < 1e3 else {}
    try:
        results = solver.solve(model, options=dict(options))
    except RuntimeError as e:  # how appsi reports an infeasible model
        raise AssertionError(f"{what}: no solution ({e})") from e
    assert pyo.check_optimal_termination(results), (
        f"{what}: {results.solver.termination_condition}"
    )


@contextmanager
def _own_objective(model) -> Iterator[pyo.Objective]:
    """An objective of one's own; the model's own objectives and values come back."""
    others = list(model.component_data_objects(pyo.Objective, active=True))
    values = [(v, v.value, v.stale) for v in model.component_data_objects(pyo.Var)]
    for o in others:
        o.deactivate()
    name = unique_component_name(model, "check_objective")
    model.add_component(name, pyo.Objective(expr=0.0))
    try:
        yield model.component(name)
    finally:
        model.del_component(name)
        for o in others:
            o.activate()
        for v, value, stale in values:
            v.set_value(value, skip_validation=True)
            v.stale = stale


@contextmanager
def _fixed_inputs(model, block, x: np.ndarray) -> Iterator[None]:
    """Inputs at a point: variables are fixed, expressions set equal to a number."""
    before, rows = [], []
    for i, number in enumerate(x):
        entry = block.inputs[i]
        if getattr(entry, "is_variable_type", bool)():
            before.append((entry, entry.fixed, entry.value))
            entry.fix(float(number), skip_validation=True)
        elif not pyo.is_fixed(entry):
            rows.append(entry == float(number))
    name = unique_component_name(model, "check_inputs")
    if rows:
        model.add_component(name, pyo.Constraint(pyo.Any))
        for k, row in enumerate(rows):
            model.component(name)[k] = row
    try:
        yield
    finally:
        if rows:
            model.del_component(name)
        for entry, fixed, value in before:
            entry.set_value(value, skip_validation=True)
            entry.fixed = fixed
