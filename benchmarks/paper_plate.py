"""The study of Plate et al., arXiv 2502.03016, and Tsay, arXiv 2604.22746: easier networks.

Networks learn Peaks, Himmelblau or Ackley (``plate.py``) with a penalty of growing strength,
and their output is minimized over the box by HiGHS on the big-M rows with interval bounds.
A second part retrains the wells and risers of the oil production problem
(``wired_models/production.py``) on what the published networks say.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyomo.environ as pyo
from paper_plate_grid import SEEDS, STRENGTHS, USUAL, cases
from paper_plate_report import plot, summary
from paper_runs import Run
from plate import samples
from wired_models import production as oil
from wired_models.networks import Layers, dense

from pyomo_relu import Network, ReLUNetBlock
from pyomo_relu.analysis import linear_regions
from pyomo_relu.bounds import compute_bounds
from pyomo_relu.programs.highs import HighsModel
from pyomo_relu.programs.standard_form import compile_standard_form

__all__ = ["NUMBERS", "STRENGTHS", "USUAL", "cases", "plot", "runs", "summary"]

NUMBERS = (
    "error", "train_cpu_seconds", "undecided", "neurons", "largest_big_m", "root",
    "objective", "bound", "nodes", "mip_cpu_seconds", "cpu_seconds", "wall_seconds",
)  # fmt: skip


@dataclass(frozen=True)
class Training:
    """How every network of the study is trained.

    Attributes
    ----------
    points, batch : int
        Samples to train on, and in a batch.
    steps : int
        Batches in all.
    rate : float
        The first length of Adam's steps; it falls to 0 along a cosine.
    every : int
        Penalties are computed in each so many-th batch.
    """

    points: int = 4000
    batch: int = 250
    steps: int = 2500
    rate: float = 1e-2
    every: int = 4


#: CPU seconds that HiGHS has for a network, and, for a comparison, for a plain one of more
#: neurons than this.
SECONDS, FULL_SECONDS, LARGE = 60.0, 600.0, 100
TRAINING = Training()
#: More batches, of which fewer have penalties, and the weight of the bound widths beside a gap.
LONGER, WIDTH = Training(steps=3500, every=8), 3e-3

#: Of the oil production problem: penalties and weights, None for the published networks;
#: batches of a training, and CPU seconds that HiGHS has.
OIL = ((None, 0.0), ("plain", 0.0), ("gap", 1e-3), ("gap + width", 1e-3))
OIL_STEPS, OIL_SECONDS = 1200, 10.0


def penalties(name: str, weight: float) -> list:
    """The penalties of a name in :data:`STRENGTHS`."""
    from pyomo_relu.training import torch as own

    kind, _, how = name.partition(", ")
    bounds = {"bounds": "crown" if how == "CROWN" else "interval"}
    if kind == "plain":
        return []
    if kind == "gap + width" and how == "longer":
        return [own.LPGapPenalty(weight, sense="min"), own.BoundWidthPenalty(WIDTH)]
    if kind == "gap + width":
        gap = own.LPGapPenalty(weight, sense="min", hold_bounds=True)
        return [gap, own.BoundWidthPenalty(weight)]
    if kind == "gap":
        held = how == "held"
        return [own.LPGapPenalty(weight, sense="min", hold_bounds=held, **bounds)]
    made = {
        "L1": own.L1Penalty,
        "L2": own.L2Penalty,
        "stability": own.StabilityLoss,
        "width": own.BoundWidthPenalty,
    }
    if kind in made:
        return [made[kind](weight, **bounds)]
    return [own.UnstablePenalty(weight, relative=False, **bounds)]


def train(
    sizes: Sequence[int],
    x: np.ndarray,
    y: np.ndarray,
    terms: list,
    seed: int,
    how: Training = TRAINING,
) -> tuple[Layers, float]:
    """Weights of a chain of dense ReLU layers on [-1, 1]^n, and CPU seconds of training."""
    import torch
    from torch import nn

    from pyomo_relu.training.torch import PenaltyLoss

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    parts: list[nn.Module] = []
    for n, m in zip(sizes, sizes[1:]):
        parts += [nn.Linear(n, m), nn.ReLU()]
    net = nn.Sequential(*parts[:-1])
    inputs, outputs = (torch.as_tensor(a, dtype=torch.float32) for a in (x, y))
    penalty = PenaltyLoss(net, terms, -1, 1, every=how.every)
    optimizer = torch.optim.Adam(net.parameters(), how.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, how.steps)
    begin = time.process_time()
    order = torch.randperm(len(x))
    for step in range(how.steps):
        at = step * how.batch % len(x)
        if at + how.batch > len(x):
            order, at = torch.randperm(len(x)), 0
        some = order[at : at + how.batch]
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(net(inputs[some]), outputs[some])
        (loss + penalty(inputs[some])).backward()
        optimizer.step()
        schedule.step()
    seconds = time.process_time() - begin
    linear = [part for part in net if isinstance(part, nn.Linear)]
    layers = [
        (one.weight.detach().double().numpy().T, one.bias.detach().double().numpy())
        for one in linear
    ]
    return layers, seconds


def size_of(network: Network, lower, upper) -> dict:
    """Undecided neurons and big-M constants by intervals over a box."""
    bounds = compute_bounds(network, lower, upper, "interval")
    undecided, most, neurons = 0, 0.0, 0
    for i, node in enumerate(network.nodes):
        if node.kind == "piecewise":
            open_ = ~bounds.stable(i)
            low, high = bounds.lower[node.source], bounds.upper[node.source]
            undecided, neurons = undecided + int(open_.sum()), neurons + node.size
            most = max(most, float((high - low)[open_].max(initial=0.0)))
    return {"undecided": undecided, "neurons": neurons, "largest_big_m": most}


def by_highs(model: pyo.ConcreteModel, seconds: float) -> dict:
    """HiGHS, with its own defaults and one thread, on the rows as they are written."""
    form = compile_standard_form(model)
    root = HighsModel(form, relaxed=True).run()
    highs, begin = HighsModel(form), time.process_time()
    highs.stop_when(lambda event: time.process_time() - begin > seconds)
    # A limit of the clock, too, for phases in which HiGHS doesn't ask.
    answer = highs.run(20.0 * seconds)
    return {
        "root": root.objective,
        "objective": answer.objective,
        "bound": answer.bound,
        "nodes": answer.nodes,
        "mip_cpu_seconds": time.process_time() - begin,
        "status": "optimal" if answer.gap <= 1.001e-4 else "open",
    }


def minimized(network: Network, seconds: float) -> dict:
    """The least output over [-1, 1]^n, by HiGHS on big-M rows with interval bounds."""
    m = pyo.ConcreteModel()
    m.net = ReLUNetBlock(
        network=network, input_bounds=(-1, 1), formulation="bigm", bounds="interval"
    )
    m.least = pyo.Objective(expr=m.net.outputs[0])
    return by_highs(m, seconds)


def check(network: Network, found: dict) -> None:
    """Compare a proved minimum with the exact one over the polygons of the network."""
    try:
        exact = linear_regions(network, -1.0, 1.0).optimum(0).value
    except ValueError:  # too many polygons
        return
    if found["status"] == "optimal":
        # Tolerances of HiGHS let values leak by their share of big-M, hence the slack.
        assert abs(found["objective"] - exact) <= 2e-3 * max(1.0, abs(exact)), found


def measure(
    function: str,
    sizes: tuple[int, ...],
    name: str,
    weight: float,
    seed: int,
    seconds: float,
) -> dict:
    """Train on a test function with the penalties of a name, and minimize."""
    x, y = samples(function, TRAINING.points, 1)
    how = LONGER if name.endswith("longer") else TRAINING
    layers, cpu = train(sizes, x, y[:, None], penalties(name, weight), seed, how)
    network = dense(layers)
    xt, yt = samples(function, 5000, 2)
    error = np.sqrt(np.mean((network.evaluate(xt)[:, 0] - yt) ** 2)) / yt.std()
    found = {"error": float(error), "train_cpu_seconds": cpu}
    found |= size_of(network, -1.0, 1.0) | minimized(network, seconds)
    check(network, found)
    return found


def retrained(
    teacher: Network, lower, upper, terms: list, seed: int
) -> tuple[Network, float, float]:
    """A network of the same sizes, trained on what a network says over a box.

    Returns
    -------
    network : Network
        In the units of the teacher.
    error : float
        Root mean squared error over the standard deviation of the outputs, on fresh points.
    seconds : float
        CPU seconds of its training.
    """
    lower, upper = (np.asarray(a, float) for a in (lower, upper))
    center, half = 0.5 * (lower + upper), 0.5 * (upper - lower)
    rng = np.random.default_rng(7)
    u = rng.uniform(-1, 1, (TRAINING.points + 5000, len(center)))
    y = teacher.evaluate(center + half * u)
    cut, mean, spread = TRAINING.points, y.mean(), y.std()
    affine = [node for node in teacher.nodes if node.kind == "affine"]
    sizes = (len(center), *(node.size for node in affine))
    how = replace(TRAINING, steps=OIL_STEPS)
    layers, seconds = train(sizes, u[:cut], (y[:cut] - mean) / spread, terms, seed, how)
    weight, bias = layers[0]
    layers[0] = weight / half[:, None], bias - (center / half) @ weight
    weight, bias = layers[-1]
    layers[-1] = weight * spread, bias * spread + mean
    network = dense(layers)
    away = network.evaluate(center + half * u[cut:]) - y[cut:]
    return network, float(np.sqrt(np.mean(away**2)) / spread), seconds


def wells_and_risers(name: str | None, weight: float, seed: int, seconds: float) -> dict:
    """The oil production problem by HiGHS, its networks retrained with a penalty."""
    m = oil.production(formulation="bigm", bounds="interval")
    errors, cpu = [], 0.0
    if name is not None:
        riser = [*oil.RISER.values(), oil.RISER_PRESSURE]
        boxes = [([oil.LEAST_PRESSURE], [most]) for most in oil.WELL_PRESSURE]
        boxes.append(([a for a, _ in riser], [b for _, b in riser]))
        blocks = [[m.well[i]] for i in oil.WELLS] + [[m.riser[r] for r in oil.RISERS]]
        for (low, high), group in zip(boxes, blocks):
            network, error, took = retrained(
                group[0].network, low, high, penalties(name, weight), seed
            )
            errors.append(error)
            cpu += took
            for block in group:
                block.replace_network(network)
    sizes = [block.statistics() for b in (m.well, m.riser) for block in b.values()]
    found = {
        "undecided": sum(one.neurons - one.stable for one in sizes),
        "neurons": sum(one.neurons for one in sizes),
        "largest_big_m": max(one.big_m[1] for one in sizes if one.big_m),
    }
    if errors:
        found |= {"error": max(errors), "train_cpu_seconds": cpu}
    return found | by_highs(m, seconds)


def runs() -> Iterator[Run]:
    """The usual study, then the whole grid."""
    for function, depth, width, draw, name, weight, full in cases():

        def run(
            function=function, sizes=(2, *[width] * depth, 1), name=name, weight=weight,
            draw=draw, patient=full or (name == "plain" and depth * width > LARGE),
        ):  # fmt: skip
            seconds = FULL_SECONDS if patient else SECONDS
            return measure(function, sizes, name, weight, draw, seconds)

        yield Run(function, f"{depth}x{width}: {name} {weight:g}", draw, run, full)
    for draw, (name, weight) in itertools.product(range(SEEDS), OIL):
        full = draw > 0
        if not (full and name is None):

            def oil_run(name=name, weight=weight, draw=draw, full=full):
                limit = FULL_SECONDS if full else OIL_SECONDS
                return wells_and_risers(name, weight, draw, limit)

            yield Run(
                "production", f"{name or 'published'} {weight:g}", draw, oil_run, full
            )
