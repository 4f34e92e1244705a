r"""Adversarial examples: the smallest change of an input that changes the decision.

A mixed-integer program over the network: minimize the distance to the image, subject to
a rule about the outputs. The norms are the sum of changes (``l1``), the largest change
(``linf``) and the number of changed pixels (``l0``). A gradient attack gives the start;
its distance bounds how far any pixel of the optimum moves, which tightens all bounds.

Source: Fischetti and Jo, Constraints 23(3), 2018, section 4 (the ``l1`` model, the cap on
each pixel, and the rule that the target is 1.2 times every other); Tjeng et al.,
arXiv 1711.07356 (``linf`` and restricted boxes).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyomo.environ as pyo

from pyomo_relu.applications.attack import attack
from pyomo_relu.applications.margins import Margins
from pyomo_relu.applications.pictures import image_grid
from pyomo_relu.applications.programs import (
    absolute_difference,
    input_variables,
    point,
    solve_program,
)
from pyomo_relu.applications.properties import Property, Unsafe
from pyomo_relu.applications.regions import Box
from pyomo_relu.block import ReLUNetBlock
from pyomo_relu.network import Network

NORMS = ("l1", "linf", "l0")

#: A pixel counts as changed from this difference on.
CHANGED = 1e-9


@dataclass
class Adversarial:
    """What :func:`find_adversarial` found.

    Attributes
    ----------
    status : {'optimal', 'feasible', 'impossible', 'unknown'}
        ``impossible``: proved that no image within the caps obeys the rule.
    image : (n_inputs,) array or None
        Run through the network: it obeys the rule in float64, the margin left out.
    distance : float
        Of the image, in the norm; infinite without one.
    bound : float
        No image is closer, within the solver's tolerance.
    original : (n_inputs,) array
    outputs : (n_outputs,) array or None
        At the image.
    label, found : int
        The network's decision before and after (-1 without an image).
    norm : str
    seconds : float
    """

    status: str
    image: np.ndarray | None
    distance: float
    bound: float
    original: np.ndarray
    outputs: np.ndarray | None
    label: int
    found: int
    norm: str
    seconds: float

    @property
    def optimal(self) -> bool:
        """Whether the distance is proved to be the least."""
        return self.status == "optimal"

    def picture(self, path: str | Path | None = None, shape=None):
        """Draw the original, the adversarial image and their difference.

        Parameters
        ----------
        path : str or Path, optional
            Where to save it.
        shape : (height, width), optional

        Returns
        -------
        matplotlib.figure.Figure
        """
        if self.image is None:
            raise ValueError(f"there is no image to draw; the status is '{self.status}'.")
        proof = "proved" if self.optimal else f"bound {self.bound:.4g}"
        return image_grid(
            [self.original, self.image, self.image - self.original],
            path,
            titles=[
                f"class {self.label}",
                f"class {self.found}",
                f"{self.norm} {self.distance:.4g}, {proof}",
            ],
            shape=shape,
            columns=3,
            differences=[2],
        )


def find_adversarial(
    network,
    image,
    *,
    norm: str = "l1",
    target: int | None = None,
    label: int | None = None,
    ratio: float | None = None,
    margin: float = 1e-4,
    pixel_cap: float | None = None,
    lower=0.0,
    upper=1.0,
    solver: Any = "relu_highs",
    time_limit: float | None = 60.0,
    seed: int = 0,
    **block,
) -> Adversarial:
    """The closest input that the network decides differently.

    Parameters
    ----------
    network : Network, or what :func:`pyomo_relu.read_network` reads
    image : array_like
        The original, in the units of the network.
    norm : {'l1', 'linf', 'l0'}
    target : int, optional
        The class that must win; any other than ``label`` if left out.
    label : int, optional
        The class of the original; the network's decision if left out.
    ratio : float, optional
        The winner's output must be at least ``ratio`` times every other, Fischetti and
        Jo's rule with 1.2. It is meant for outputs that aren't negative.
    margin : float
        Without ``ratio``, by how much the winner's output must exceed the others; larger
        than the solver's tolerance.
    pixel_cap : float, optional
        No input may change by more.
    lower, upper : float or array_like
        Bounds of the inputs.
    solver : str or solver
        Any Pyomo solver for mixed-integer linear programs.
    time_limit : float, optional
        Seconds.
    seed : int
        Of the attack.
    **block
        ``formulation=``, ``bounds=`` and others of :class:`pyomo_relu.ReLUNetBlock`.

    Raises
    ------
    ValueError
        For an unknown norm or class, an image outside its bounds, and a network with
        one output.
    """
    begin = time.perf_counter()
    if not isinstance(network, Network):
        from pyomo_relu.readers import read_network

        network = read_network(network)
    x0 = network.flat_inputs(image)[0]
    if len(x0) != 1:
        raise ValueError(f"one image is needed, but {len(x0)} were given.")
    search = _Search(network, x0[0], norm, target, label, ratio, margin)
    low, high = (
        np.array(np.broadcast_to(np.asarray(a, float).reshape(-1), x0[0].shape))
        for a in (lower, upper)
    )
    if (x0[0] < low).any() or (x0[0] > high).any():
        raise ValueError("the image is outside of its bounds; give lower= and upper=.")
    if pixel_cap is not None:
        if not pixel_cap >= 0:
            raise ValueError(f"pixel_cap must not be negative, but is {pixel_cap}.")
        low, high = np.maximum(low, x0[0] - pixel_cap), np.minimum(high, x0[0] + pixel_cap)
    result = search.run(low, high, solver, time_limit, seed, block)
    result.seconds = time.perf_counter() - begin
    return result


class _Search:
    """One run of :func:`find_adversarial`."""

    def __init__(self, network, x0, norm, target, label, ratio, margin) -> None:
        m = network.n_outputs
        if m < 2:
            raise ValueError("the network has one output; a decision needs two or more.")
        if norm not in NORMS:
            raise ValueError(f"there is no norm '{norm}'; choose one of {list(NORMS)}.")
        self.network, self.x0, self.norm = network, x0, norm
        decided = int(network.evaluate(x0[None])[0].argmax())
        self.label = decided if label is None else int(label)
        for what, value in (("target", target), ("label", self.label)):
            if value is not None and not 0 <= value < m:
                raise ValueError(f"{what} {value} is not one of the {m} classes.")
        if target == self.label:
            raise ValueError(f"target {target} is the class of the original.")
        if ratio is not None and ratio <= 0:
            raise ValueError(f"ratio must be positive, but is {ratio}.")
        if margin < 0:
            raise ValueError(f"margin must not be negative, but is {margin}.")
        self.ratio, self.margin = ratio, margin
        others = [k for k in range(m) if k != self.label]
        self.winners = others if target is None else [target]
        # Untargeted, a winner only has to beat the label: the decision is another then.
        self.beaten = {
            w: [k for k in range(m) if k != w]
            if target is not None or ratio is not None
            else [self.label]
            for w in self.winners
        }

    def rows(self, w: int, margin: float) -> tuple[np.ndarray, np.ndarray]:
        """``A y <= b``: class ``w`` wins."""
        beaten = self.beaten[w]
        a = np.zeros((len(beaten), self.network.n_outputs))
        a[:, w] = -1.0
        a[np.arange(len(beaten)), beaten] = 1.0 if self.ratio is None else self.ratio
        slack = -margin if self.ratio is None else 0.0
        return a, np.full(len(beaten), slack)

    def wins(self, x: np.ndarray, margin: float = 0.0) -> bool:
        """Whether the rule holds in a forward pass; ``ratio`` up to 1e-6 of the outputs."""
        y = self.network.evaluate(x[None])[0]
        slack = 0.0 if self.ratio is None else 1e-6 * (1.0 + abs(y).max())
        for w in self.winners:
            a, b = self.rows(w, margin)
            if (a @ y <= b + slack).all():
                return True
        return False

    def distance(self, x: np.ndarray) -> float:
        d = abs(x - self.x0)
        if self.norm == "l0":
            return float((d > CHANGED).sum())
        return float(d.sum() if self.norm == "l1" else d.max(initial=0.0))

    # -------------------------------------------------------------------------- start
    def start(self, low, high, seed: int, seconds: float) -> np.ndarray | None:
        """An adversarial image by gradients, pulled back towards the original."""
        sets = tuple(Unsafe(*self.rows(w, self.margin)) for w in self.winners)
        margins = Margins(self.network, Property(sets), Box(low, high))
        deadline = time.perf_counter() + seconds
        best = None
        for radius in (0.02, 0.05, 0.1, 0.2, 0.5, 1.0):
            span = radius * (high - low)
            region = Box(np.maximum(low, self.x0 - span), np.minimum(high, self.x0 + span))
            margins.region = region
            points, values = attack(
                margins,
                range(len(sets)),
                restarts=4,
                steps=30,
                seed=seed,
                deadline=deadline,
                starts=self.x0[None],
            )
            for x, value in zip(points, values):
                if value <= 0 and self.wins(x, self.margin):
                    x = self._pull_back(x)
                    if best is None or self.distance(x) < self.distance(best):
                        best = x
            if time.perf_counter() > deadline or (best is not None and self.norm != "l0"):
                break
        return best

    def _pull_back(self, x: np.ndarray) -> np.ndarray:
        """Halve the way to the original as often as the rule holds; drop idle pixels."""
        good, bad = 1.0, 0.0
        for _ in range(20):
            middle = 0.5 * (good + bad)
            if self.wins(self.x0 + middle * (x - self.x0), self.margin):
                good = middle
            else:
                bad = middle
        near = self.x0 + good * (x - self.x0)
        near = np.minimum(np.maximum(near, np.minimum(x, self.x0)), np.maximum(x, self.x0))
        if not self.wins(near, self.margin):
            near = x
        if self.norm == "linf":
            return near
        # Fewer pixels with larger changes are better in the other norms.
        near = x.copy() if self.norm == "l0" else near
        for i in np.argsort(abs(near - self.x0), kind="stable"):
            if near[i] != self.x0[i]:
                old, near[i] = near[i], self.x0[i]
                if not self.wins(near, self.margin):
                    near[i] = old
        return near

    # -------------------------------------------------------------------------- model
    def run(self, low, high, solver, time_limit, seed, block) -> Adversarial:
        seconds = 10.0 if time_limit is None else 0.1 * time_limit
        begin = time.perf_counter()
        start = None
        if self.wins(self.x0, self.margin):
            start = self.x0.copy()
        else:
            start = self.start(low, high, seed, seconds)
        if start is not None and self.norm != "l0":
            # No pixel of an optimum moves further than the start's distance.
            reach = self.distance(start) * (1.0 + 1e-9) + 1e-9
            low = np.maximum(low, self.x0 - reach)
            high = np.minimum(high, self.x0 + reach)
        model = self.model(low, high, block)
        if start is not None:
            self.set_start(model, start)
        left = None
        if time_limit is not None:
            left = max(0.1, time_limit - (time.perf_counter() - begin))
        solved = solve_program(model, solver, left, start is not None)
        found = [] if start is None else [start]
        if all(v.value is not None for v in model.x.values()):
            found.append(self._exact(point(model)))
        found = [x for x in found if self.wins(x)]
        status, bound = solved.status, max(0.0, np.nan_to_num(solved.bound, nan=0.0))
        if not found:
            # An optimum whose image fails in the forward pass proves its bound only.
            status = "impossible" if status == "infeasible" else "unknown"
            return self._result(status, None, np.inf if status == "impossible" else bound)
        best = min(found, key=self.distance)
        distance = self.distance(best)
        if status == "optimal" and distance > bound + 1e-4 * (1.0 + distance):
            status = "feasible"
        elif status != "optimal":
            status = "feasible"
        return self._result(status, best, min(bound, distance))

    def _exact(self, x: np.ndarray) -> np.ndarray:
        """Changes within the solver's tolerance undone, where the rule then still holds."""
        small = abs(x - self.x0) <= 1e-6
        clean = np.where(small, self.x0, x)
        return clean if self.wins(clean) else x

    def _result(self, status: str, x, bound: float) -> Adversarial:
        y = None if x is None else self.network.evaluate(x[None])[0]
        return Adversarial(
            status,
            x,
            np.inf if x is None else self.distance(x),
            float(bound),
            self.x0,
            y,
            self.label,
            -1 if y is None else int(y.argmax()),
            self.norm,
            0.0,
        )

    def model(self, low, high, block) -> pyo.ConcreteModel:
        """The mixed-integer program."""
        m = pyo.ConcreteModel()
        input_variables(m, low, high)
        m.net = ReLUNetBlock(network=self.network, inputs=m.x, **block)
        n, x0 = len(self.x0), self.x0
        if self.norm == "l0":
            m.changed = pyo.Var(range(n), domain=pyo.Binary)
            m.up = pyo.Constraint(
                range(n),
                rule=lambda m, i: m.x[i] - x0[i] <= (high[i] - x0[i]) * m.changed[i],
            )
            m.down = pyo.Constraint(
                range(n),
                rule=lambda m, i: x0[i] - m.x[i] <= (x0[i] - low[i]) * m.changed[i],
            )
            m.distance = pyo.Objective(expr=sum(m.changed.values()))
        else:
            reach = float(np.maximum(high - x0, x0 - low).max())
            if self.norm == "l1":
                d = absolute_difference(
                    m, "change", ((m.x[i], x0[i]) for i in range(n)), reach
                )
                m.distance = pyo.Objective(expr=sum(d.values()))
            else:
                m.change = pyo.Var(bounds=(0, reach))
                m.up = pyo.Constraint(
                    range(n), rule=lambda m, i: m.change >= m.x[i] - x0[i]
                )
                m.down = pyo.Constraint(
                    range(n), rule=lambda m, i: m.change >= x0[i] - m.x[i]
                )
                m.distance = pyo.Objective(expr=m.change)
        self._rule(m)
        return m

    def _rule(self, m: pyo.ConcreteModel) -> None:
        """Some class wins: one binary for each where there are several."""
        y_low, y_high = m.net.bounds.outputs
        m.rule = pyo.ConstraintList()
        several = len(self.winners) > 1
        if several:
            m.winner = pyo.Var(self.winners, domain=pyo.Binary)
            m.one = pyo.Constraint(expr=sum(m.winner.values()) == 1)
        for w in self.winners:
            a, b = self.rows(w, self.margin)
            for row, limit in zip(a, b):
                left = sum(c * m.net.outputs[k] for k, c in enumerate(row) if c)
                worst = float(np.where(row > 0, row * y_high, row * y_low).sum())
                excess = max(0.0, worst - limit) * (1.0 + 1e-9) + 1e-9
                free = excess * (1 - m.winner[w]) if several else 0.0
                m.rule.add(left <= limit + free)

    def set_start(self, m: pyo.ConcreteModel, x: np.ndarray) -> None:
        """Give the variables of the user's side the values of an image."""
        d = abs(x - self.x0)
        for i, v in m.x.items():
            v.set_value(float(x[i]), skip_validation=True)
        if self.norm == "l0":
            for i, v in m.changed.items():
                v.set_value(int(d[i] > 0))
        elif self.norm == "l1":
            for i, v in m.change.items():
                v.set_value(float(d[i]), skip_validation=True)
        else:
            m.change.set_value(float(d.max(initial=0.0)), skip_validation=True)
        if len(self.winners) > 1:
            y = self.network.evaluate(x[None])[0]
            ok = [w for w in self.winners if self._obeys(w, y)]
            for w, v in m.winner.items():
                v.set_value(int(bool(ok) and w == ok[0]))

    def _obeys(self, w: int, y: np.ndarray) -> bool:
        a, b = self.rows(w, self.margin)
        return bool((a @ y <= b + 1e-9).all())
