"""Losses as rows and an objective of a training program; see :mod:`.losses`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyomo.environ as pyo

from pyomo_relu.steps.step_network import StepNetwork
from pyomo_relu.training.encode import TrainingMIP
from pyomo_relu.training.family import Data, Family
from pyomo_relu.training.losses import (
    BIT_LOSSES,
    CHORDS,
    REACHED,
    SCORE_LOSSES,
    Loss,
    longest,
    out_bound,
    used_neurons,
)
from pyomo_relu.training.writer import is_number, linear, values_of


def program(loss: Loss, family: Family, data: Data, **options: Any) -> TrainingMIP:
    """The program of a family on data with the loss as its objective.

    ``options`` are those of :class:`TrainingMIP`.
    """
    kind = loss.margins if loss.name == "max_margin" else None
    scored = loss.name in SCORE_LOSSES
    mip = TrainingMIP(family, data, margins=kind, scored=scored, **options)
    _write_loss(mip, loss)
    return mip


def _write_loss(mip: TrainingMIP, loss: Loss) -> None:
    alive = _compression(mip) if loss.compression else []
    mip.loss_name = loss.name
    if loss.name in BIT_LOSSES:
        objective = _bits(mip, loss)
    elif loss.name in SCORE_LOSSES:
        objective = _scores(mip, loss, alive)
    elif loss.name == "max_margin":
        _fit(mip)
        parts = {id(m): m for k in mip.margin for m in mip.margin[k]}
        objective = linear([-1.0] * len(parts), list(parts.values()))
        _follow_margins(mip)
    else:
        _fit(mip)
        objective = _magnitudes(mip, "weight", biases=True)
    if loss.regularization:
        objective = objective + loss.regularization * _magnitudes(mip, "regular")
    for h in alive:
        objective = objective + loss.compression * sum(h)
    mip.model.loss = pyo.Objective(expr=objective)


def groups(mip: TrainingMIP) -> list[tuple[int, np.ndarray, float]]:
    """(row of the last layer, bits, count) of each kind of point."""
    last = mip.family.depth - 1
    data, rows = mip.data, mip.rows[last]
    if rows.points:
        return [(i, data.bits[i], float(c)) for i, c in enumerate(data.count)]
    return cell_groups(data)


def cell_groups(data: Data) -> list[tuple[int, np.ndarray, float]]:
    """(cell, bits, count) of each kind of point."""
    both = np.column_stack([data.cell, data.bits])
    kinds, where = np.unique(both, axis=0, return_inverse=True)
    counts = np.bincount(np.asarray(where).reshape(-1), weights=data.count)
    return [(int(kind[0]), kind[1:], float(c)) for kind, c in zip(kinds, counts)]


def _bits(mip: TrainingMIP, loss: Loss) -> Any:
    last = mip.family.depth - 1
    mip.switch(last)
    u, k = mip.u[last], mip.family.outputs
    kinds = cell_groups(mip.data)
    if loss.name == "l1" or k == 1:
        terms, numbers, constant = [], [], 0.0
        for cell, bits, count in kinds:
            terms += list(u[cell])
            numbers += list(count * (1.0 - 2.0 * bits))
            constant += count * float(bits.sum())
        return linear(numbers, terms, constant)
    wrong = mip.variables("wrong", (len(kinds),), bounds=(0, 1))
    rows = []
    for e, (cell, bits, _) in zip(wrong, kinds):
        rows += [e >= (1 - v if y else v) for v, y in zip(u[cell], bits)]
    if loss.name == "max_correct":
        rows += [sum(u[cell]) == 1 for cell in range(mip.data.n_cells)]
    mip.constraints("counted", rows)
    cells, wanted = [cell for cell, *_ in kinds], np.array([bits for _, bits, _ in kinds])
    mip.follow(wrong, lambda network: (values_of(u)[cells] != wanted).any(axis=1))
    return linear([count for *_, count in kinds], list(wrong))


def _scores(mip: TrainingMIP, loss: Loss, alive: list[np.ndarray]) -> Any:
    family, data = mip.family, mip.data
    rows, kinds = mip.rows[family.depth - 1], groups(mip)
    scale, reach = 2.0 / out_bound(family, data), longest(loss, data, family) / CHORDS
    used = (sum(alive[-1]), len(alive[-1])) if alive else (None, None)
    target, most = (loss.target(family, data, count) for count in used)
    mip.score_target = float(most)
    saturated = loss.name == "sat_margin"
    shape = (len(kinds), family.outputs)
    options = {"domain": pyo.Binary} if saturated else {"bounds": (0, None)}
    t = mip.variables("loss_term", shape, **options)
    found = []
    for (g, j), v in np.ndenumerate(t):
        mip.check()
        r, bits, _ = kinds[g]
        y = 1.0 if bits[j] else -1.0
        signed = y * rows.pre[r, j] - rows.spread[j]
        low = rows.lower[r, j] if bits[j] else -rows.upper[r, j]
        if saturated:  # v = 1 is a miss
            found.append(signed >= target - (most - low) * v)
        elif loss.name == "hinge":
            found.append(v >= scale * (target - signed))
        else:
            # Chords of z**2 at z = 0, reach, 2 reach, ...
            for step in range(CHORDS):
                a = (2 * step + 1) * reach
                cut = step * (step + 1) * reach**2
                if a * scale * (most - low) - cut > 0:
                    found.append(v >= a * scale * (target - signed) - cut)
    mip.constraints("scored", found)
    at = [r for r, *_ in kinds]
    sides = np.array([np.where(bits, 1.0, -1.0) for _, bits, _ in kinds])

    def terms(network: StepNetwork) -> np.ndarray:
        signed = sides * values_of(rows.pre)[at]
        short = pyo.value(target) - signed + values_of(rows.spread)
        if saturated:
            return short > REACHED
        z = np.maximum(scale * short, 0.0)
        grid = reach * np.arange(CHORDS + 1)
        return z if loss.name == "hinge" else np.interp(z, grid, grid**2)

    mip.follow(t, terms)
    counts = np.repeat([count for *_, count in kinds], family.outputs)
    return linear(counts, list(t.flat))


def _fit(mip: TrainingMIP) -> None:
    """Every output must be on the right side of 0."""
    last, found = mip.family.depth - 1, []
    for r, bits, _ in groups(mip):
        mip.check()
        for j, y in enumerate(bits):
            found += mip.on_rows(last, r, j, 1) if y else mip.off_rows(last, r, j, 0)
    mip.constraints("fit", found)


def write_sparsest(mip: TrainingMIP, floors: dict[int, np.ndarray]) -> None:
    """Fewest non-zero weights, every point fitted and every neuron's margin kept.

    Parameters
    ----------
    mip : TrainingMIP
        With ``margins='neuron'``.
    floors : dict from layer to (neurons,) array
        The margins, which must not become smaller.
    """
    mip.loss_name = "min_nonzero"
    for k, margins in mip.margin.items():
        for m, least in zip(margins, floors[k]):
            m.setlb(min(max(m.lb, float(least)), m.ub))
    _fit(mip)
    _follow_margins(mip)
    every = _weights(mip)
    used = mip.variables("nonzero", (len(every),), domain=pyo.Binary)
    pairs = zip(used, every)
    rows = [row for h, v in pairs for row in _used_rows([v], h, mip.family.bound)]
    mip.constraints("nonzero_rows", rows)

    weights = np.array(every, dtype=object)
    mip.follow(used, lambda network: values_of(weights) != 0)
    mip.model.loss = pyo.Objective(expr=linear([1.0] * len(every), list(used)))


def _follow_margins(mip: TrainingMIP) -> None:
    """Margins are as large as the pre-activations of a network, or their bounds, allow."""
    variables = np.concatenate(list(mip.margin.values()))
    common = mip.margins == "common"

    def sizes(network: StepNetwork) -> np.ndarray:
        found = np.concatenate(
            [
                np.abs(values_of(mip.rows[k].pre)).min(axis=0)
                - values_of(mip.rows[k].spread)
                for k in mip.margin
            ]
        )
        if common:
            found[:] = found.min()
        return np.clip(found, [v.lb for v in variables], [v.ub for v in variables])

    mip.follow(variables, sizes)


def _magnitudes(mip: TrainingMIP, name: str, biases: bool = False) -> Any:
    """Sum of the absolute weights (and biases) as a linear expression."""
    every = _weights(mip)
    if biases:
        own = {id(v): v for k in mip.b for v in mip.b[k] if not is_number(v)}
        every += list(own.values())
    size = mip.absolute(name, every)
    return linear([1.0] * len(every), list(size))


def _weights(mip: TrainingMIP) -> list[Any]:
    """The weights that are not held at 0."""
    return [v for k in mip.w for v in mip.w[k].flat if not v.fixed]


def _used_rows(variables: list[Any], on: Any, bound: float) -> list[Any]:
    """Rows of ``on = 0`` that make variables 0."""
    return [row for v in variables for row in (v <= bound * on, v >= -bound * on)]


def _compression(mip: TrainingMIP) -> list[np.ndarray]:
    """Binaries that are 1 where a hidden neuron is used; see ``used_neurons``."""
    found = []
    for k, n in enumerate(mip.family.hidden):
        h = mip.variables(f"used{k}", (n,), domain=pyo.Binary)
        rows = []
        for j in range(n):
            parts = [v for v in (*mip.w[k][j], *mip.w[k + 1][:, j]) if not v.fixed]
            rows += _used_rows(parts, h[j], mip.family.bound)
        mip.constraints(f"unused{k}", rows)
        found.append(h)
    every = np.concatenate(found)
    mip.follow(every, lambda network: np.concatenate(used_neurons(network)))
    return found
