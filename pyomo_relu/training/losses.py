"""What is minimized: losses on the output bits, on the scores, and hard fits.

Every loss is written twice, here as a function of a network and in
:mod:`~pyomo_relu.training.loss_rows` as rows and an objective of a program, so that what
the program promised is compared with what the network does.

Sources: Kurtz and Bah (``l1``, ``zero_one``); Toro Icarte et al. (``min_weight``,
``max_margin``); Thorbjarnarson and Yorke-Smith (``max_correct``, ``sat_margin``,
``min_hinge``, compression).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyomo_relu.steps.step_network import StepNetwork
from pyomo_relu.training.family import Data, Family

#: Losses on the output bits.
BIT_LOSSES = ("zero_one", "l1", "max_correct")
#: Losses on the output scores; every network has a finite loss.
SCORE_LOSSES = ("hinge", "min_hinge", "sat_margin")
#: Every point must be fitted; infeasible where no network of the family does.
HARD_LOSSES = ("max_margin", "min_weight")

#: The number of chords of the squared hinge, which is exact at their ends. It was chosen
#: by hand: the error is at most a quarter of a chord's length squared.
CHORDS = 16

#: A score that is short of its target by less than this reaches it; solvers leave as much.
REACHED = 1e-9


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

    def target(self, family: Family, data: Data, alive: int | None = None) -> float:
        """What signed scores should reach.

        With compression the score's range is that of the last hidden neurons in use.
        """
        if self.compression and alive is not None:
            return 0.5 * self.margin * family.bound * (alive + 1)
        return 0.5 * self.margin * out_bound(family, data)


def out_bound(family: Family, data: Data) -> float:
    """The range of a score, as Thorbjarnarson and Yorke-Smith normalize it."""
    if family.hidden:
        return family.bound * (family.hidden[-1] + 1.0)
    # The mean over the points as they were given: merged ones count as often as they were.
    mean = float(np.average(np.abs(data.x).sum(axis=1), weights=data.count))
    return family.bound * max(mean, 1.0)


def value(loss: Loss, network: StepNetwork, family: Family, data: Data) -> float:
    """The loss of a network on the data, as the programs count it."""
    extra = 0.0
    if loss.regularization:
        extra = loss.regularization * sum(float(np.abs(w).sum()) for w in network.weights)
    used = used_neurons(network) if loss.compression else []
    if loss.compression:
        extra += loss.compression * sum(int(h.sum()) for h in used)
    if loss.name in BIT_LOSSES or loss.name in SCORE_LOSSES:
        alive = int(used[-1].sum()) if used else None
        scores = network.scores(data.x)
        spread: np.ndarray | float = 0.0
        if loss.name in SCORE_LOSSES and not family.hidden:
            spread = family.spread(network.weights[0])
        each = point_values(loss, scores, family, data, alive, spread)
        return float(data.count @ each) + extra
    if loss.name == "min_weight":
        parts = [*network.weights, *network.biases]
        return sum(float(np.abs(p).sum()) for p in parts) + extra
    return -_margins(loss, network, family, data) + extra


def point_values(
    loss: Loss,
    scores: np.ndarray,
    family: Family,
    data: Data,
    alive: int | None = None,
    spread: np.ndarray | float = 0.0,
) -> np.ndarray:
    """The loss of each point, (n,), for scores of the points, (n, outputs).

    Parameters
    ----------
    loss : Loss
        One on bits or on scores.
    alive : int, optional
        With compression, the last hidden neurons in use.
    spread : (outputs,) array or 0
        What robust training takes off the scores.
    """
    if loss.name in BIT_LOSSES:
        wrong = (scores >= 0) != (data.bits > 0.5)
        each = wrong.sum(axis=1) if loss.name == "l1" else wrong.any(axis=1)
        return each.astype(float)
    target = loss.target(family, data, alive)
    short = target - ((2.0 * data.bits - 1.0) * scores - spread)
    scale = 2.0 / out_bound(family, data)
    if loss.name == "sat_margin":
        return (short > REACHED).sum(axis=1).astype(float)
    hinge = np.maximum(scale * short, 0.0)
    if loss.name == "min_hinge":
        grid = np.linspace(0.0, longest(loss, data, family), CHORDS + 1)
        hinge = np.interp(hinge, grid, grid**2)
    return hinge.sum(axis=1)


def longest(loss: Loss, data: Data, family: Family) -> float:
    """Largest normalized shortfall that any network of the family can have."""
    widest = family.bound * (
        float(np.abs(data.x).sum(axis=1).max(initial=0.0))
        if not family.hidden
        else family.hidden[-1]
    )
    bias = widest + 1.0 if family.bias_bound is None else family.bias_bound
    radius = 0.0 if family.hidden else family.radius
    extra = radius * family.bound * data.x.shape[1]
    return loss.margin + 2.0 / out_bound(family, data) * (widest + bias + 2 * extra)


def least_value(loss: Loss, family: Family, data: Data) -> float:
    """A number that no network's loss on the data is below.

    Counts, hinges and sums of weights are not negative. A margin is at most the largest
    weighted sum that a neuron can have at the point where that is least.
    """
    if loss.name != "max_margin":
        return 0.0
    sizes, total, smallest = family.sizes(data.x.shape[1]), 0.0, np.inf
    for k, (n_in, n_out) in enumerate(zip(sizes, sizes[1:])):
        sums = np.abs(data.x).sum(axis=1) if k == 0 else np.array([float(n_in)])
        limit = 0.0 if family.thresholds == "none" else family.bias_limit
        if limit is None:
            spread = family.largest_spread(n_in) if k == 0 else 0.0
            limit = family.bound * float(sums.max(initial=0.0)) + 1.0 + spread
        most = family.bound * float(sums.min(initial=np.inf)) + limit
        total, smallest = total + n_out * most, min(smallest, most)
    return -(smallest if loss.margins == "common" else total)


def used_neurons(network: StepNetwork) -> list[np.ndarray]:
    """For each hidden layer, which neurons have a weight, in or out, that is not 0.

    The bias of any other neuron is of no account.
    """
    return [
        (w != 0).any(axis=1) | (after != 0).any(axis=0)
        for w, after in zip(network.weights, network.weights[1:])
    ]


def _margins(loss: Loss, network: StepNetwork, family: Family, data: Data) -> float:
    pres = network.pre_activations(data.x)
    least = [np.abs(p) for p in pres]
    least[0] = least[0] - family.spread(network.weights[0])
    least[-1] = np.where((pres[-1] >= 0) == (data.bits > 0.5), least[-1], -least[-1])
    mins = [p.min(axis=0) for p in least]
    if loss.margins == "common":
        return float(min(p.min() for p in mins))
    return float(sum(p.sum() for p in mins))
