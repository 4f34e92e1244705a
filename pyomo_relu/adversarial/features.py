"""Feature visualization: the input that a unit, an output or a class likes best.

Source: Fischetti and Jo, Constraints 23(3), 2018, section 3. The plain optimum is hard
to read, as they found; penalties keep it sparse, smooth or near a data point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyomo.environ as pyo
from numpy.typing import ArrayLike

from pyomo_relu.adversarial.pictures import image_grid, image_shape
from pyomo_relu.adversarial.solving import image_in_box, input_box, solve_program
from pyomo_relu.base.deadline import Deadline
from pyomo_relu.block import ReLUNetBlock
from pyomo_relu.network import Network
from pyomo_relu.network.fusion import prune
from pyomo_relu.readers import read_network
from pyomo_relu.verification.model_parts import (
    absolute_differences,
    input_values,
    input_variables,
)

PENALTIES = ("l1", "tv", "near")


@dataclass
class Feature:
    """What :func:`visualize_feature` found.

    Attributes
    ----------
    status : {'optimal', 'feasible'}
    image : (n_inputs,) array
    activation : float
        The activation of the unit at the image, in a forward pass.
    penalty : float
        Without its weight.
    bound : float
        No image has a larger activation minus weighted penalty, within the solver's
        tolerance; NaN where the solver gives none.
    seconds : float
    name : str
        What was maximized.
    """

    status: str
    image: np.ndarray
    activation: float
    penalty: float
    bound: float
    seconds: float
    name: str


def cut_network(network: Network, layer: str) -> Network:
    """The network up to a layer, which becomes its output.

    Raises
    ------
    ValueError
        If there is no such layer, or it is an input.
    """
    names = [n.name for n in network.nodes]
    if layer not in names:
        raise ValueError(f"there is no layer '{layer}'; the network has {names}.")
    i = names.index(layer)
    if i in network.inputs:
        raise ValueError(f"'{layer}' is an input; choose a layer behind it.")
    nodes, outputs, inputs = prune(list(network.nodes), [i], list(network.inputs))
    return Network(nodes, outputs, inputs, network.input_names)


def visualize_feature(
    network: Any,
    unit: int,
    *,
    layer: str | None = None,
    class_margin: bool = False,
    penalty: str | None = None,
    weight: float = 0.1,
    near: Any = None,
    lower: ArrayLike = 0.0,
    upper: ArrayLike = 1.0,
    shape: Sequence[int] | None = None,
    solver: Any = "relu_highs",
    time_limit: float | None = 60.0,
    **block: Any,
) -> Feature:
    """The input in a box that maximizes a unit.

    Parameters
    ----------
    network : Network, or what :func:`pyomo_relu.read_network` reads
    unit : int
        An output, or an entry of ``layer``.
    layer : str, optional
        The layer that holds the unit; the outputs if left out.
    class_margin : bool
        Maximize by how much the output exceeds the largest other one.
    penalty : {'l1', 'tv', 'near'}, optional
        ``l1``: the sum of all inputs' distances from ``lower``; ``tv``: total variation,
        the sum of differences of neighbouring pixels; ``near``: the sum of changes from
        the image ``near``.
    weight : float
        What the penalty counts.
    near : array_like, optional
        A data point, for ``penalty='near'``.
    lower, upper : float or array_like
        The box.
    shape : (height, width), optional
        The shape of the picture, for ``tv``; square if left out.
    solver : str or solver
        Any Pyomo solver for mixed-integer linear programs.
    time_limit : float, optional
        Seconds.
    **block
        ``formulation=``, ``bounds=`` and others of :class:`pyomo_relu.ReLUNetBlock`.

    Raises
    ------
    ValueError
        For an unknown layer, unit or penalty, and ``near`` outside the box.
    RuntimeError
        If the solver found no point in its time.
    """
    clock, net = Deadline(), read_network(network)
    if layer is not None:
        net = cut_network(net, layer)
    if not 0 <= unit < net.n_outputs:
        raise ValueError(f"there is no unit {unit}; the layer has {net.n_outputs}.")
    others = _rivals(net, unit) if class_margin else []
    low, high = input_box(net, lower, upper)
    center = None if near is None else image_in_box(net, near, (low, high), "near=")
    paid = _Penalty(penalty, weight, low, high, center, shape)
    m = pyo.ConcreteModel()
    input_variables(m, low, high)
    m.net = ReLUNetBlock(network=net, inputs=m.x, **block)
    cost, liked = paid.in_model(m), m.net.outputs[unit]
    m.goal, m.liked = pyo.Var(), pyo.ConstraintList()
    for other in [m.net.outputs[k] for k in others] or [0.0]:
        m.liked.add(m.goal <= liked - other)
    m.objective = pyo.Objective(expr=m.goal - weight * cost, sense=pyo.maximize)
    solved = solve_program(m, solver, Deadline(time_limit))
    image, name = input_values(m), f"{layer or 'output'} {unit}"
    if image is None:
        raise RuntimeError(
            f"the solver found no image for {name} in its time; give it more time_limit."
        )
    y = net.evaluate(image[None])[0]
    return Feature(
        "optimal" if solved.status == "optimal" else "feasible",
        image,
        float(y[unit] - (y[others].max() if others else 0.0)),
        float(sum(abs(a - b) for a, b in paid.pairs(image.tolist()))),
        solved.bound,
        clock.elapsed,
        name,
    )


def _rivals(net: Network, unit: int) -> list[int]:
    """The outputs that a class has to exceed."""
    if net.n_outputs < 2:
        raise ValueError("a class margin needs two outputs or more.")
    return [k for k in range(net.n_outputs) if k != unit]


@dataclass
class _Penalty:
    """A sum of absolute differences, without its weight."""

    kind: str | None
    weight: float
    low: np.ndarray
    high: np.ndarray
    near: np.ndarray | None
    shape: Sequence[int] | None

    def __post_init__(self) -> None:
        if not self.weight >= 0:
            raise ValueError(f"weight must not be negative, but is {self.weight}.")
        if self.kind is not None and self.kind not in PENALTIES:
            raise ValueError(
                f"there is no penalty '{self.kind}'; choose one of {PENALTIES}."
            )
        if self.kind == "near" and self.near is None:
            raise ValueError("penalty='near' needs near=, the image to stay close to.")

    def pairs(self, x: list[Any]) -> list[tuple[Any, Any]]:
        """The two sides of each difference, of variables or numbers."""
        if self.kind == "tv":
            return [(x[i], x[j]) for i, j in _neighbours(image_shape(len(x), self.shape))]
        away_from = {"l1": self.low, "near": self.near}.get(self.kind or "")
        return [] if away_from is None else list(zip(x, away_from.tolist()))

    def in_model(self, m: pyo.ConcreteModel) -> Any:
        pairs = self.pairs(list(m.x.values()))
        if self.kind == "l1":  # nothing lies below the lower bounds
            return sum(a - b for a, b in pairs)
        span = float(self.high.max() - self.low.min())
        return sum(absolute_differences(m, pairs, span).values())


def _neighbours(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Neighbouring pixels, below and to the right."""
    at = np.arange(size[0] * size[1]).reshape(size)
    across = zip(at[:, :-1].ravel().tolist(), at[:, 1:].ravel().tolist())
    down = zip(at[:-1].ravel().tolist(), at[1:].ravel().tolist())
    return [*across, *down]


def feature_grid(
    features: Sequence[Feature], path: str | Path | None = None, **options: Any
) -> Any:
    """Draw features side by side; see :func:`~pyomo_relu.adversarial.image_grid`."""
    titles = [f"{f.name}: {f.activation:.3g}" for f in features]
    return image_grid([f.image for f in features], path, titles=titles, **options)
