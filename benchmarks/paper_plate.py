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
from pathlib import Path

import numpy as np
import pyomo.environ as pyo
from common import IMAGES, significant, table
from paper_runs import Run, mean_error
from plate import FUNCTIONS, samples
from wired_models import production as oil
from wired_models.networks import Layers, dense

from pyomo_relu import Network, ReLUNetBlock
from pyomo_relu.analysis import linear_regions
from pyomo_relu.bounds import compute_bounds
from pyomo_relu.programs.highs import HighsModel
from pyomo_relu.programs.standard_form import compile_standard_form

NUMBERS = (
    "error", "train_cpu_seconds", "undecided", "neurons", "largest_big_m", "root",
    "objective", "bound", "nodes", "mip_cpu_seconds", "cpu_seconds", "wall_seconds",
)  # fmt: skip

#: Weights of each penalty in its sweep. The mean squared error is of outputs with a
#: standard deviation of 1; Tsay's of outputs between 0 and 1, hence his smaller weights
#: (1e-4 to 1e-2).
STRENGTHS: dict[str, Sequence[float]] = {
    "plain": (0.0,),
    "gap": (1e-3, 1e-2),
    "gap, CROWN": (1e-3, 1e-2),
    "gap + width": (3e-4, 3e-3),
    "width": (3e-4, 3e-3),
    "width, CROWN": (3e-4, 3e-3),
    "unstable": (3e-3, 3e-2),
    "unstable, CROWN": (3e-3, 3e-2),
    "stability": (1e-4, 1e-3),
    "L1": (1e-5, 1e-4),
    "L2": (1e-5, 1e-4),
    "gap, held": (1e-3, 1e-2),
}

#: Networks of the usual study: function, depth, width, seeds, penalties (none for all).
FEW = ("plain", "gap", "width", "unstable, CROWN")
USUAL: tuple[tuple[str, int, int, int, tuple[str, ...]], ...] = (
    ("peaks", 5, 25, 1, ("plain", "gap", "gap, CROWN", "gap + width")),
    ("peaks", 2, 25, 1, ()),
    ("himmelblau", 2, 25, 1, FEW),
    ("ackley", 2, 25, 1, FEW),
    ("peaks", 2, 25, 3, FEW),
)

#: What else the full study has.
FULL_STRENGTHS = (0.1, 10.0)  # times the weights above
SEEDS, DEPTHS, WIDTHS = 3, (1, 2, 3, 4, 5), (10, 25, 50)


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


#: CPU seconds that HiGHS has for a network.
SECONDS, FULL_SECONDS = 60.0, 600.0
TRAINING = Training()

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
    function: str, sizes: tuple[int, ...], terms, seed: int, seconds: float
) -> dict:
    """Train on a test function and minimize."""
    x, y = samples(function, TRAINING.points, 1)
    layers, cpu = train(sizes, x, y[:, None], terms(), seed)
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


def cases() -> Iterator[tuple[str, int, int, int, str, float, bool]]:
    """Function, depth, width, seed, penalty, weight, and whether only the full study has it."""
    usual = dict.fromkeys(
        (function, depth, width, draw, name, weight, False)
        for function, depth, width, draws, chosen in USUAL
        for draw in range(draws)
        for name in chosen or STRENGTHS
        for weight in STRENGTHS[name]
    )
    yield from usual
    for width, depth, draw, function in itertools.product(
        WIDTHS, DEPTHS, range(SEEDS), FUNCTIONS
    ):
        for name, weights in STRENGTHS.items():
            more = [float(f"{w * f:.3g}") for w in weights if w for f in FULL_STRENGTHS]
            for weight in dict.fromkeys([*weights, *more]):
                case = function, depth, width, draw, name, weight
                if (*case, False) not in usual:
                    yield (*case, True)


def runs() -> Iterator[Run]:
    """The usual study, then the whole grid."""
    for function, depth, width, draw, name, weight, full in cases():

        def run(
            function=function, sizes=(2, *[width] * depth, 1), name=name, weight=weight,
            draw=draw, seconds=FULL_SECONDS if full else SECONDS,
        ):  # fmt: skip
            return measure(function, sizes, lambda: penalties(name, weight), draw, seconds)

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


def parted(rows: Sequence[dict]) -> dict[tuple[str, str], dict[str, list[dict]]]:
    """Rows by function and shape, then by penalty and weight, plain ones first."""
    found: dict[tuple[str, str], dict[str, list[dict]]] = {}
    for r in rows:
        if r["study"] != "production":
            shape, _, run = r["run"].partition(": ")
            found.setdefault((r["study"], shape), {}).setdefault(run, []).append(r)
    order = list(STRENGTHS)

    def place(run: str) -> tuple[int, float]:
        name, _, weight = run.rpartition(" ")
        return order.index(name), float(weight)

    return {
        key: {run: own[run] for run in sorted(own, key=place)}
        for key, own in sorted(found.items(), key=lambda item: (item[0][1], item[0][0]))
    }


def against_plain(own: list[dict], plain: list[dict], number: str) -> str:
    """The mean ratio of a number to that of the plain network of the same seed."""
    base = {r["draw"]: r[number] for r in plain}
    ratios = [r[number] / base[r["draw"]] for r in own if base.get(r["draw"])]
    if not ratios:
        return ""
    mean, error = mean_error(ratios)
    # A search of a plain network that was ended would have taken longer.
    ended = number == "mip_cpu_seconds" and any(r["status"] != "optimal" for r in plain)
    most = "< " if ended and own is not plain else ""
    return (
        most + significant(mean) + ("" if np.isnan(error) else f" ± {significant(error)}")
    )


def searched(own: list[dict]) -> str:
    """The geometric mean of the seconds of the search; > where one of them was ended."""
    seconds = np.exp(np.mean([np.log(r["mip_cpu_seconds"]) for r in own]))
    ended = any(r["status"] != "optimal" for r in own)
    return ("> " if ended else "") + significant(float(seconds))


def root_gap(own: list[dict]) -> str:
    """How far the root lies below the best value, in standard deviations of the outputs."""
    gaps = [r["objective"] - r["root"] for r in own if r["objective"] is not None]
    return significant(float(np.mean(gaps))) if gaps else ""


def table_of(runs: dict[str, list[dict]]) -> str:
    """One function and shape: each penalty against the plain network of the same seed."""
    head = [
        "penalty and weight", "networks", "error / plain", "undecided", "root gap", "nodes",
        "search, CPU s", "search / plain", "training / plain",
    ]  # fmt: skip
    plain, lines = runs.get("plain 0", []), []
    for run, own in runs.items():
        lines.append(
            [
                run if run != "plain 0" else "plain",
                len(own),
                against_plain(own, plain, "error"),
                f"{np.mean([r['undecided'] for r in own]):.0f} of {own[0]['neurons']:.0f}",
                root_gap(own),
                f"{np.mean([r['nodes'] for r in own]):,.0f}",
                searched(own),
                against_plain(own, plain, "mip_cpu_seconds"),
                against_plain(own, plain, "train_cpu_seconds"),
            ]
        )
    return table(head, lines)


def oil_table(rows: Sequence[dict]) -> str:
    """The oil production problem."""
    head = [
        "networks", "largest error", "training, CPU s", "undecided", "largest M",
        "bound at the root", "point", "bound", "nodes", "search, CPU s",
    ]  # fmt: skip

    def shown(value: float | None, digits: int = 4) -> str:
        there = value is not None and np.isfinite(value)
        return f"{value:.{digits}f}" if there else "-"

    lines = [
        [
            r["run"].removesuffix(" 0"),
            shown(r["error"]),
            shown(r["train_cpu_seconds"], 0),
            f"{r['undecided']:.0f} of {r['neurons']:.0f}",
            shown(r["largest_big_m"], 2),
            shown(r["root"]),
            shown(r["objective"]),
            shown(r["bound"]),
            f"{r['nodes']:,.0f}",
            ("> " if r["status"] != "optimal" else "") + significant(r["mip_cpu_seconds"]),
        ]
        for r in rows
        if r["study"] == "production"
    ]
    return table(head, lines)


def summary(rows: list[dict]) -> dict[str, str]:
    """The tables of the page: what the usual study has."""
    parts = parted(rows)
    found = {}
    for function, depth, width, _, _ in USUAL:
        shape = f"{depth}x{width}"
        if (function, shape) in parts:
            usual = {
                run: own
                for run, own in parts[function, shape].items()
                if (weight := float(run.rpartition(" ")[2])) == 0
                or weight in STRENGTHS[run.rpartition(" ")[0]]
            }
            found[f"{function} {shape}"] = table_of(usual)
    if any(r["study"] == "production" for r in rows):
        found["production"] = oil_table(rows)
    return found


def plot(rows: list[dict], path: Path = IMAGES / "paper_plate.png") -> None:
    """The trade-off: seconds of the search against the error, by penalty and strength."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    parts = {k: v for k, v in parted(rows).items() if "plain 0" in v and len(v) > 1}
    across = 2
    down = -(-len(parts) // across)
    fig, axes = plt.subplots(
        down, across, figsize=(9, 3.4 * down + 0.8), layout="constrained", squeeze=False
    )
    names = [name for name in STRENGTHS if name != "plain"]
    colors = dict(zip(names, plt.get_cmap("tab20").colors))
    marks = dict(zip(names, "osv^<>DPX*h"))

    def at(own: list[dict]) -> tuple[float, float]:
        pairs = [(r["error"], r["mip_cpu_seconds"]) for r in own]
        error, seconds = np.exp(np.mean(np.log(pairs), axis=0))
        return float(error), float(seconds)

    for ax, ((function, shape), own) in zip(axes.flat, parts.items()):
        plain = at(own["plain 0"])
        ax.axvspan(plain[0] / 1.1, plain[0] * 1.1, color="0.93", zorder=0)
        for name in names:
            line = [at(v) for run, v in own.items() if run.rpartition(" ")[0] == name]
            if line:
                ax.plot(
                    *zip(plain, *line), color=colors[name], marker=marks[name], ms=5, lw=1.2,
                    markevery=slice(1, None),
                )  # fmt: skip
        ax.plot(*plain, "k*", ms=13, zorder=3)
        ax.set(xscale="log", yscale="log", title=f"{function.capitalize()}, {shape}")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(ScalarFormatter())
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.grid(alpha=0.3)
    for ax in axes.flat[len(parts) :]:
        ax.axis("off")
    for ax in axes[-1]:
        ax.set_xlabel("error on fresh samples, nRMSE")
    for ax in axes[:, 0]:
        ax.set_ylabel("search, CPU s")
    handles = [plt.Line2D([], [], color="k", marker="*", ls="", ms=11, label="plain")]
    handles += [
        plt.Line2D([], [], color=colors[n], marker=marks[n], label=n) for n in names
    ]
    fig.legend(handles=handles, loc="outside upper center", ncols=6, fontsize=9)
    fig.savefig(path, dpi=110)
    plt.close(fig)
