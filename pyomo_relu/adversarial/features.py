"""Feature visualization: the input that a unit, an output or a class likes best.

Source: Fischetti and Jo, Constraints 23(3), 2018, section 3. The plain optimum is hard
to read, as they found; penalties keep it sparse, smooth or near a data point.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyomo.environ as pyo

from pyomo_relu.adversarial.pictures import image_grid, image_shape
from pyomo_relu.adversarial.programs import (
    absolute_difference,
    input_variables,
    point,
    solve_program,
)
from pyomo_relu.block import ReLUNetBlock
from pyomo_relu.network import Network
from pyomo_relu.network.fusion import prune

PENALTIES = ("l1", "tv", "near")


@dataclass
class Feature:
    """What :func:`visualize_feature` found.

    Attributes
    ----------
    status : {'optimal', 'feasible'}
    image : (n_inputs,) array
    activation : float
        Of the unit at the image, in a forward pass.
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
    network,
    unit: int,
    *,
    layer: str | None = None,
    class_margin: bool = False,
    penalty: str | None = None,
    weight: float = 0.1,
    near=None,
    lower=0.0,
    upper=1.0,
    shape: Sequence[int] | None = None,
    solver: Any = "relu_highs",
    time_limit: float | None = 60.0,
    **block,
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
        Of the penalty.
    near : array_like, optional
        A data point, for ``penalty='near'``.
    lower, upper : float or array_like
        The box.
    shape : (height, width), optional
        Of the picture, for ``tv``; square if left out.
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
    begin = time.perf_counter()
    if not isinstance(network, Network):
        from pyomo_relu.readers import read_network

        network = read_network(network)
    net = network if layer is None else cut_network(network, layer)
    name = f"{layer or 'output'} {unit}"
    if not 0 <= unit < net.n_outputs:
        raise ValueError(f"there is no unit {unit}; the layer has {net.n_outputs}.")
    if class_margin and net.n_outputs < 2:
        raise ValueError("a class margin needs two outputs or more.")
    if penalty is not None and penalty not in PENALTIES:
        raise ValueError(f"there is no penalty '{penalty}'; choose one of {PENALTIES}.")
    if not weight >= 0:
        raise ValueError(f"weight must not be negative, but is {weight}.")
    if penalty == "near" and near is None:
        raise ValueError("penalty='near' needs near=, the image to stay close to.")
    n = net.n_inputs
    low, high = (
        np.array(np.broadcast_to(np.asarray(a, float).reshape(-1), (n,)))
        for a in (lower, upper)
    )
    center = None
    if near is not None:
        center = net.flat_inputs(near)[0][0]
        if (center < low).any() or (center > high).any():
            raise ValueError("near= lies outside of the box; give lower= and upper=.")
    m = pyo.ConcreteModel()
    input_variables(m, low, high)
    m.net = ReLUNetBlock(network=net, inputs=m.x, **block)
    size = image_shape(n, shape) if penalty == "tv" else (1, n)
    pairs = _pairs(size) if penalty == "tv" else []
    reach = float((high - low).max())
    cost: Any = 0.0
    if penalty == "l1":
        cost = sum(m.x[i] - low[i] for i in range(n))
    elif penalty == "near":
        assert center is not None
        d = absolute_difference(m, "change", ((m.x[i], center[i]) for i in range(n)), reach)
        cost = sum(d.values())
    elif penalty == "tv":
        span = float(high.max() - low.min())
        d = absolute_difference(m, "step", ((m.x[i], m.x[j]) for i, j in pairs), span)
        cost = sum(d.values())
    m.goal = pyo.Var()
    others = [k for k in range(net.n_outputs) if k != unit] if class_margin else [None]
    m.liked = pyo.ConstraintList()
    for k in others:
        other = 0.0 if k is None else m.net.outputs[k]
        m.liked.add(m.goal <= m.net.outputs[unit] - other)
    m.objective = pyo.Objective(expr=m.goal - weight * cost, sense=pyo.maximize)

    def worth(x: np.ndarray) -> tuple[float, float]:
        y = net.evaluate(x[None])[0]
        rest = np.delete(y, unit).max() if class_margin else 0.0
        paid = {
            None: lambda: 0.0,
            "l1": lambda: float((x - low).sum()),
            "near": lambda: float(abs(x - center).sum()),
            "tv": lambda: float(sum(abs(x[i] - x[j]) for i, j in pairs)),
        }[penalty]()
        return float(y[unit] - rest), paid

    solved = solve_program(m, solver, time_limit, False)
    if any(v.value is None for v in m.x.values()):
        raise RuntimeError(
            f"the solver found no image for {name} in its time; give it more time_limit."
        )
    image = point(m)
    activation, paid = worth(image)
    status = "optimal" if solved.status == "optimal" else "feasible"
    seconds = time.perf_counter() - begin
    return Feature(status, image, activation, paid, solved.bound, seconds, name)


def _pairs(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Neighbouring pixels, below and to the right."""
    at = np.arange(size[0] * size[1]).reshape(size)
    across = zip(at[:, :-1].ravel().tolist(), at[:, 1:].ravel().tolist())
    down = zip(at[:-1].ravel().tolist(), at[1:].ravel().tolist())
    return [*across, *down]


def feature_grid(features: Sequence[Feature], path=None, **options):
    """Draw features side by side; see :func:`~pyomo_relu.adversarial.image_grid`."""
    titles = [f"{f.name}: {f.activation:.3g}" for f in features]
    return image_grid([f.image for f in features], path, titles=titles, **options)
