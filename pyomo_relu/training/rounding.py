"""Starts for programs of one neuron: the relaxation, rounded, then changed by ones.

Without hidden layers the relaxation of the margin and of the weights is strong: a basic
solution has at most one weight off its bounds for each tight point. Rounding it and a
few changes of single weights gives a network close to the bound before the
branch-and-bound begins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from pyomo_relu.base.deadline import NEVER, Deadline
from pyomo_relu.programs import HighsModel
from pyomo_relu.programs.standard_form import compile_standard_form
from pyomo_relu.steps.step_network import StepNetwork
from pyomo_relu.training.encode import TrainingMIP
from pyomo_relu.training.writer import is_number


@dataclass(frozen=True)
class RoundingSettings:
    """The numbers that steer the rounding; those without a place were chosen by hand.

    Attributes
    ----------
    sharpness : tuple of float
        The soft minimum of the margins is sharpened in these steps, relative to the
        margin.
    reserves : tuple of float
        Multiples of the floor that the relaxation of the fewest weights is asked for.
    work : float
        Numbers that the changes by ones may look at: 2,000 changes of a neuron with 784
        inputs on 400 points, ten seconds. (Not seconds, so that a seed gives one network.)
    gain : float
        A change by one that lowers the cost by less is none.
    """

    sharpness: tuple[float, ...] = (5.0, 20.0, 80.0)
    reserves: tuple[float, ...] = (1.0, 1.05, 1.1, 1.15, 1.2, 1.25)
    work: float = 1.2e9
    gain: float = 1e-9


SETTINGS = RoundingSettings()

#: Losses of which :func:`rounded` knows what to improve.
KNOWN = ("max_margin", "min_nonzero", "sat_margin", "min_hinge", "hinge")

#: The cost of each column of signed scores, (points, columns) to (columns,).
Cost = Callable[[np.ndarray], np.ndarray]

#: What a network is worth by its signed scores, the less the better.
Judge = Callable[[np.ndarray], float]


def applies(mip: TrainingMIP) -> bool:
    """Whether the program is one of a single neuron with integer weights."""
    family = mip.family
    return (
        not family.hidden
        and family.outputs == 1
        and family.integer
        and family.robust is None
        and mip.loss_name in KNOWN
    )


class RelaxedNeuron:
    """The relaxed program of one neuron, kept for several floors of the margin."""

    def __init__(self, mip: TrainingMIP, deadline: Deadline = NEVER) -> None:
        form = compile_standard_form(mip.model)
        self.highs = HighsModel(form, relaxed=True)
        at, self.mip, self.deadline = form.column_numbers(), mip, deadline
        self.columns = [at.get(id(v)) for v in (*mip.w[0][0], mip.b[0][0])]
        margin = mip.margin[0][0] if 0 in mip.margin else None
        self.margin = None if margin is None else at.get(id(margin))

    def solve(self, floor: float | None = None) -> np.ndarray | None:
        """Weights and bias, (d + 1,), of a margin of at least ``floor``; None if none."""
        if floor is not None:
            most = float(self.mip.margin[0][0].ub)
            assert self.margin is not None  # only losses with a margin have a floor
            self.highs.set_bounds([min(floor, most)], [most], np.array([self.margin]))
        answer = self.highs.run(self.deadline.limit)
        if not answer.optimal or answer.point is None:
            return None
        values = answer.point
        return np.array([0.0 if j is None else values[j] for j in self.columns])


class _Neuron:
    """The points of a program of one neuron, signed so that scores shall be positive."""

    def __init__(self, mip: TrainingMIP) -> None:
        x, data = mip.data.x, mip.data
        sign = 2.0 * data.bits[:, 0] - 1.0
        self.rows = sign[:, None] * np.column_stack([x, np.ones(len(x))])
        self.count = data.count
        self.work = 0.0
        self.activation = mip.family.activation
        b = mip.b[0][0]
        bias = 0.0 if is_number(b) else float(b.ub)
        self.box = np.append(np.where(mip.dead, 0.0, mip.family.bound), bias)
        self.integer_bias = is_number(b) or b.is_integer()

    def network(self, theta: np.ndarray) -> StepNetwork:
        """The network of weights and bias, (d + 1,)."""
        return StepNetwork((theta[None, :-1],), (theta[-1:],), self.activation)

    def rounded(self, theta: np.ndarray) -> np.ndarray:
        """Nearest integers; a bias that is continuous is set between the classes."""
        theta = np.clip(np.round(theta), -self.box, self.box)
        if not self.integer_bias:
            theta[-1] = self.centre(theta)
        return theta

    def centre(self, theta: np.ndarray) -> float:
        """The bias of the largest smallest margin."""
        signs, scores = self.rows[:, -1], self.rows[:, :-1] @ theta[:-1]
        up, down = scores[signs > 0], -scores[signs < 0]
        if not len(up) or not len(down):
            return float(theta[-1])
        middle = -0.5 * (up.min() + down.max())
        return float(np.clip(middle, -self.box[-1], self.box[-1]))

    def descend(
        self, theta: np.ndarray, cost: Cost, judge: Judge, deadline: Deadline
    ) -> np.ndarray:
        """Change one number by one while that lowers ``cost``; the best by ``judge``."""
        signed = self.rows @ theta
        best, least = theta, judge(signed)
        now = cost(signed[:, None])[0]
        movable = self.box > 0
        movable[-1] &= self.integer_bias
        columns = np.flatnonzero(movable)
        rows = self.rows[:, columns]
        while not deadline.expired() and self.work < SETTINGS.work:
            choice = None
            self.work += 2.0 * rows.size
            for step in (1.0, -1.0):
                costs = cost(signed[:, None] + step * rows)
                costs[np.abs(theta[columns] + step) > self.box[columns]] = np.inf
                j = int(costs.argmin()) if len(costs) else 0
                if len(costs) and costs[j] < now - SETTINGS.gain:
                    now, choice = costs[j], (j, step)
            if choice is None:
                break
            j, step = choice
            theta = theta.copy()
            theta[columns[j]] += step
            signed = signed + step * rows[:, j]
            value = judge(signed)
            if value < least:
                best, least = theta, value
        return best


def rounded(mip: TrainingMIP, deadline: Deadline) -> StepNetwork | None:
    """A network near the relaxation of the program, or None where nothing was found.

    It need not satisfy every row: a solver checks that, as it does with any start.

    Parameters
    ----------
    mip : TrainingMIP
        One for which :func:`applies`.
    deadline : Deadline
        When the relaxation ends, and the changes where it leaves some time.
    """
    relaxed, neuron = RelaxedNeuron(mip, deadline), _Neuron(mip)
    if mip.loss_name == "min_nonzero":
        theta = _lightest(relaxed, neuron)
        return None if theta is None else neuron.network(theta)
    theta = relaxed.solve()
    if theta is None:
        return None
    least = float((neuron.rows @ theta).min())
    theta = neuron.rounded(theta)
    if mip.loss_name == "max_margin":
        theta = _widest(neuron, theta, least, deadline)
    else:
        theta = _reach(neuron, theta, mip.score_target, deadline, neuron.count)
    if not neuron.integer_bias:
        theta = np.append(theta[:-1], neuron.centre(theta))
    return neuron.network(theta)


def _lightest(relaxed: RelaxedNeuron, neuron: _Neuron) -> np.ndarray | None:
    """Few weights with a margin above the program's floor.

    Rounding costs margin, so the relaxation is asked for more than the floor, by as
    little as is enough.
    """
    floor, deadline = float(relaxed.mip.margin[0][0].lb), relaxed.deadline
    for more in SETTINGS.reserves:
        theta = relaxed.solve(more * floor)
        if theta is None or deadline.expired():
            return None
        theta = _reach(neuron, neuron.rounded(theta), floor, deadline)
        if (neuron.rows @ theta).min() >= floor:
            return theta
    return None


def fewer_weights(mip: TrainingMIP, network: StepNetwork) -> StepNetwork:
    """The network with weights set to 0 one by one while its margin stays as asked."""
    neuron = _Neuron(mip)
    theta = np.append(network.weights[0][0], network.biases[0])
    return neuron.network(sparsest(neuron, theta, float(mip.margin[0][0].lb)))


def _widest(
    neuron: _Neuron, theta: np.ndarray, scale: float, deadline: Deadline
) -> np.ndarray:
    """Raise the smallest margin by way of a soft minimum that gets sharper."""
    if scale <= 0:
        return theta
    for sharp in SETTINGS.sharpness:
        cost = partial(_soft_least, beta=sharp / scale)
        theta = neuron.descend(theta, cost, lambda signed: -signed.min(), deadline)
    return theta


def _reach(
    neuron: _Neuron,
    theta: np.ndarray,
    target: float,
    deadline: Deadline,
    count: np.ndarray | None = None,
) -> np.ndarray:
    """Bring every signed score to the target, in squares; ``count`` weighs the points."""

    def squares(signed: np.ndarray) -> np.ndarray:
        return np.maximum(target - signed, 0.0) ** 2

    def cost(signed: np.ndarray) -> np.ndarray:
        found = squares(signed)
        return found.sum(axis=0) if count is None else count @ found

    def judge(signed: np.ndarray) -> float:
        return float(squares(signed).sum())

    return neuron.descend(theta, cost, judge, deadline)


def sparsest(neuron: _Neuron, theta: np.ndarray, floor: float) -> np.ndarray:
    """Set weights to 0, the one that costs least margin first, above the floor."""
    signed = neuron.rows @ theta
    while True:
        without = signed[:, None] - neuron.rows[:, :-1] * theta[:-1]
        margins = without.min(axis=0)
        margins[theta[:-1] == 0] = -np.inf
        j = int(margins.argmax())
        if not margins[j] >= floor:
            return theta
        theta, signed = theta.copy(), without[:, j]
        theta[j] = 0.0


def _soft_least(signed: np.ndarray, beta: float) -> np.ndarray:
    """Minus the soft minimum of each column."""
    least = signed.min(axis=0)
    return np.log(np.exp(-beta * (signed - least)).sum(axis=0)) / beta - least
