"""What is minimized: losses on the output bits, on the scores, and hard fits.

Every loss is written twice, as rows and an objective of a
:class:`~pyomo_relu.training.encode.TrainingMIP` and as a function of a network, so that
what the program promised is compared with what the network does.

Sources: Kurtz and Bah (``l1``, ``zero_one``); Toro Icarte et al. (``min_weight``,
``max_margin``); Thorbjarnarson and Yorke-Smith (``max_correct``, ``sat_margin``,
``min_hinge``, compression).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyomo.environ as pyo

from pyomo_relu.steps.step_network import StepNetwork
from pyomo_relu.training.encode import TrainingMIP, linear
from pyomo_relu.training.family import Data, Family
from pyomo_relu.training.norms import DUAL_NORMS, dual_norm, largest

#: Losses on the output bits.
BIT_LOSSES = ("zero_one", "l1", "max_correct")
#: Losses on the output scores; every network has a finite loss.
SCORE_LOSSES = ("hinge", "min_hinge", "sat_margin")
#: Every point must be fitted; infeasible where no network of the family does.
HARD_LOSSES = ("max_margin", "min_weight")

#: Breakpoints of the squared hinge: chords between them, exact at each.
CHORDS = 16


def names(*known: str) -> dict[str, str]:
    """A table of losses that a classifier calls as they are called here."""
    return {name: name for name in known}


@dataclass(frozen=True)
class Loss:
    """A loss by name with its numbers.

    Attributes
    ----------
    name : str
    margin : float
        Scores saturate at this share of half their range, ``2 s / out_bound``.
    margins : {'common', 'neuron'}
        What ``max_margin`` maximizes: the smallest margin of all neurons, or the sum
        over neurons of the smallest margin on any point.
    regularization : float
        Factor of the sum of absolute weights.
    compression : float
        Cost of a hidden neuron that is used.
    """

    name: str
    margin: float = 0.5
    margins: str = "common"
    regularization: float = 0.0
    compression: float = 0.0

    @property
    def hard(self) -> bool:
        """Whether every point must be fitted."""
        return self.name in HARD_LOSSES

    def mip(self, family: Family, data: Data, **options) -> TrainingMIP:
        """The program with this loss as its objective."""
        kind = self.margins if self.name == "max_margin" else None
        scored = self.name in SCORE_LOSSES
        model = TrainingMIP(family, data, margins=kind, scored=scored, **options)
        write_loss(model, self)
        return model


def out_bound(family: Family, data: Data) -> float:
    """The range of a score, as Thorbjarnarson and Yorke-Smith normalize it."""
    if family.hidden:
        return family.bound * (family.hidden[-1] + 1.0)
    # The mean over the points as they were given: merged ones count as often as they were.
    mean = float(np.average(np.abs(data.x).sum(axis=1), weights=data.count))
    return family.bound * max(mean, 1.0)


def value(loss: Loss, network: StepNetwork, family: Family, data: Data) -> float:
    """The loss of a network on the data, as the programs count it."""
    scores, bits = network.scores(data.x), data.bits
    if loss.regularization:
        extra = loss.regularization * sum(float(np.abs(w).sum()) for w in network.weights)
    else:
        extra = 0.0
    if loss.compression:
        extra += loss.compression * sum(int(h.sum()) for h in used_neurons(network))
    if loss.name in BIT_LOSSES:
        wrong = (scores >= 0) != (bits > 0.5)
        each = wrong.sum(axis=1) if loss.name == "l1" else wrong.any(axis=1)
        return float(data.count @ each) + extra
    if loss.name in SCORE_LOSSES:
        signed = (2.0 * bits - 1.0) * scores - _spread_of(network, family)
        short = _target(loss, network, family, data) - signed
        scale = 2.0 / out_bound(family, data)
        if loss.name == "sat_margin":
            return float(data.count @ (short > 1e-9).sum(axis=1)) + extra
        if loss.name == "hinge":
            return float(data.count @ np.maximum(scale * short, 0).sum(axis=1)) + extra
        t = np.linspace(0.0, _longest(loss, data, family), CHORDS + 1)
        squares = np.interp(np.maximum(scale * short, 0.0), t, t**2)
        return float(data.count @ squares.sum(axis=1)) + extra
    if loss.name == "min_weight":
        parts = [*network.weights, *network.biases]
        return sum(float(np.abs(p).sum()) for p in parts) + extra
    return -_margins(loss, network, family, data) + extra


def least_value(loss: Loss, family: Family, data: Data) -> float:
    """A number that no network's loss on the data is below.

    Counts, hinges and sums of weights are not negative. A margin is at most the largest
    weighted sum that a neuron can have at the point where that is least.
    """
    if loss.name != "max_margin":
        return 0.0
    total, smallest = 0.0, np.inf
    for k, (n_in, n_out) in enumerate(
        zip(sizes := family.sizes(data.x.shape[1]), sizes[1:])
    ):
        sums = np.abs(data.x).sum(axis=1) if k == 0 else np.array([float(n_in)])
        limit = family.bias_bound
        if family.thresholds == "none":
            limit = 0.0
        elif limit is None:
            own = (
                family.bound * float(sums.max(initial=0.0))
                + 1.0
                + _most_spread(family, k, n_in)
            )
            limit = family.bound if family.thresholds == "layer" else own
        most = family.bound * float(sums.min(initial=np.inf)) + limit
        total, smallest = total + n_out * most, min(smallest, most)
    return -(smallest if loss.margins == "common" else total)


def _most_spread(family: Family, k: int, n_in: int) -> float:
    """The largest product of radius and dual norm that a neuron of layer k can have."""
    if k > 0 or family.robust is None:
        return 0.0
    norm, radius = family.robust
    return radius * largest(DUAL_NORMS[norm], n_in, family.bound)


def used_neurons(network: StepNetwork) -> list[np.ndarray]:
    """For each hidden layer, which neurons have a weight, in or out, that is not 0.

    The bias of any other neuron is of no account.
    """
    return [
        (w != 0).any(axis=1) | (after != 0).any(axis=0)
        for w, after in zip(network.weights, network.weights[1:])
    ]


def _spread_of(network: StepNetwork, family: Family):
    if family.hidden or family.robust is None:
        return 0.0
    norm, radius = family.robust
    return radius * dual_norm(network.weights[0], norm)


def _target(loss: Loss, network: StepNetwork, family: Family, data: Data) -> float:
    if loss.compression:
        alive = int(used_neurons(network)[-1].sum())
        return 0.5 * loss.margin * family.bound * (alive + 1)
    return 0.5 * loss.margin * out_bound(family, data)


def _margins(loss: Loss, network: StepNetwork, family: Family, data: Data) -> float:
    pres = network.pre_activations(data.x)
    least = [np.abs(p) for p in pres]
    if family.robust is not None:
        norm, radius = family.robust
        least[0] = least[0] - radius * dual_norm(network.weights[0], norm)
    least[-1] = np.where((pres[-1] >= 0) == (data.bits > 0.5), least[-1], -least[-1])
    mins = [p.min(axis=0) for p in least]
    if loss.margins == "common":
        return float(min(p.min() for p in mins))
    return float(sum(p.sum() for p in mins))


# ----------------------------------------------------------------------- as programs
def write_loss(mip: TrainingMIP, loss: Loss) -> None:
    """Add the loss to a program: its variables, rows, and the objective."""
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
        mip.completions.append(lambda network: _complete_margins(mip))
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


def _bits(mip: TrainingMIP, loss: Loss):
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

    def complete(network: StepNetwork) -> None:
        for e, (cell, bits, _) in zip(wrong, kinds):
            on = np.array([v.value for v in u[cell]])
            e.set_value(float((on != bits).any()), skip_validation=True)

    mip.completions.append(complete)
    return linear([count for *_, count in kinds], list(wrong))


def _scores(mip: TrainingMIP, loss: Loss, alive: list[np.ndarray]):
    family, last = mip.family, mip.family.depth - 1
    rows, kinds, scale = mip.rows[last], groups(mip), 2.0 / out_bound(family, mip.data)
    half = 0.5 * loss.margin
    if alive:
        target = half * family.bound * (sum(alive[-1]) + 1)
        most = half * family.bound * (len(alive[-1]) + 1)
    else:
        target = most = half * out_bound(family, mip.data)
    mip.score_target = float(most)
    saturated = loss.name == "sat_margin"
    shape = (len(kinds), family.outputs)
    options = {"domain": pyo.Binary} if saturated else {"bounds": (0, None)}
    t = mip.variables("loss_term", shape, **options)
    reach = _longest(loss, mip.data, family) / CHORDS
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

    def complete(network: StepNetwork) -> None:
        goal = pyo.value(target)
        for (g, j), v in np.ndenumerate(t):
            r, bits, _ = kinds[g]
            y = 1.0 if bits[j] else -1.0
            short = goal - y * rows.pre[r, j].value + pyo.value(rows.spread[j])
            z = max(scale * short, 0.0)
            if saturated:
                z = float(short > 1e-9)
            elif loss.name == "min_hinge":
                grid = reach * np.arange(CHORDS + 1)
                z = float(np.interp(z, grid, grid**2))
            v.set_value(z, skip_validation=True)

    mip.completions.append(complete)
    counts = np.repeat([count for *_, count in kinds], family.outputs)
    return linear(counts, list(t.flat))


def _longest(loss: Loss, data: Data, family: Family) -> float:
    """Largest normalized shortfall that any network of the family can have."""
    widest = family.bound * (
        float(np.abs(data.x).sum(axis=1).max(initial=0.0))
        if not family.hidden
        else family.hidden[-1]
    )
    bias = widest + 1.0 if family.bias_bound is None else family.bias_bound
    radius = 0.0 if family.robust is None or family.hidden else family.robust[1]
    extra = radius * family.bound * data.x.shape[1]
    return loss.margin + 2.0 / out_bound(family, data) * (widest + bias + 2 * extra)


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
    mip.completions.append(lambda network: _complete_margins(mip))
    every = [v for k in mip.w for v in mip.w[k].flat if not v.fixed]
    used = mip.variables("nonzero", (len(every),), domain=pyo.Binary)
    p, rows = mip.family.bound, []
    for h, v in zip(used, every):
        rows += [v <= p * h, v >= -p * h]
    mip.constraints("nonzero_rows", rows)

    def complete(network: StepNetwork) -> None:
        for h, v in zip(used, every):
            h.set_value(float(v.value != 0), skip_validation=True)

    mip.completions.append(complete)
    mip.model.loss = pyo.Objective(expr=linear([1.0] * len(every), list(used)))


def _complete_margins(mip: TrainingMIP) -> None:
    least: dict[int, float] = {}
    every = {id(m): m for margins in mip.margin.values() for m in margins}
    for k, margins in mip.margin.items():
        rows = mip.rows[k]
        for j, m in enumerate(margins):
            spread = pyo.value(rows.spread[j])
            found = min(abs(v.value) for v in rows.pre[:, j]) - spread
            least[id(m)] = min(least.get(id(m), np.inf), found)
    for key, m in every.items():
        m.set_value(min(max(least[key], m.lb), m.ub), skip_validation=True)


def _magnitudes(mip: TrainingMIP, name: str, biases: bool = False):
    """Sum of the absolute weights (and biases) as a linear expression."""
    every = [v for k in mip.w for v in mip.w[k].flat if not v.fixed]
    if biases:
        own = {id(v): v for k in mip.b for v in mip.b[k] if not isinstance(v, (int, float))}
        every += list(own.values())
    size = mip.variables(f"{name}_size", (len(every),), bounds=(0, None))
    rows = [row for a, v in zip(size, every) for row in (a >= v, a >= -v)]
    mip.constraints(f"{name}_rows", rows)

    def complete(network: StepNetwork) -> None:
        for a, v in zip(size, every):
            a.set_value(abs(v.value), skip_validation=True)

    mip.completions.append(complete)
    return linear([1.0] * len(every), list(size))


def _compression(mip: TrainingMIP) -> list[np.ndarray]:
    """Binaries that are 1 where a hidden neuron is used; see ``used_neurons``."""
    found, p = [], mip.family.bound
    for k, n in enumerate(mip.family.hidden):
        h = mip.variables(f"used{k}", (n,), domain=pyo.Binary)
        rows = []
        for j in range(n):
            parts = [v for v in (*mip.w[k][j], *mip.w[k + 1][:, j]) if not v.fixed]
            rows += [row for v in parts for row in (v <= p * h[j], v >= -p * h[j])]
        mip.constraints(f"unused{k}", rows)
        found.append(h)

    def complete(network: StepNetwork) -> None:
        for h, used in zip(found, used_neurons(network)):
            for v, x in zip(h, used):
                v.set_value(float(x), skip_validation=True)

    mip.completions.append(complete)
    return found
