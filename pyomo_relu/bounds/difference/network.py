"""`ApproximateNetwork`: a network with curves for smooth units, and what was proved of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pyomo_relu.base.rounding import EPS
from pyomo_relu.bounds.bounds import Bounds
from pyomo_relu.network import Affine, Input, Network, Node


@dataclass
class Proof:
    """Bounds of ``true - curves`` over a box.

    Attributes
    ----------
    low, high : (n_outputs,) arrays
    boxes : int
        How many were bounded.
    """

    low: np.ndarray
    high: np.ndarray
    boxes: int = 1

    @property
    def errors(self) -> np.ndarray:
        """The largest size of each output's difference."""
        return np.maximum(-self.low, self.high)


class ApproximateNetwork(Network):
    """A network whose smooth units are curves, near the true one over a box.

    Parameters
    ----------
    nodes : sequence of Node
        Those of the true network, with curves in place of smooth ones.
    true : Network
        The one with smooth units.
    bounds : Bounds
        Of the true one, over the box.
    accuracy : (n_outputs,) array
        What was asked for.
    found : Proof
        Bounds of ``true - self`` over the box.
    pieces : int
        Of all curves, within the intervals of their arguments.
    seconds : float
        What it took, the bounds included.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        true: Network,
        bounds: Bounds,
        accuracy: np.ndarray,
        found: Proof,
        pieces: int,
        seconds: float,
        margin: bool = False,
    ) -> None:
        outputs, inputs, names = true.outputs, true.inputs, true.input_names
        if margin:
            nodes, inputs, outputs = _with_deviations(nodes, true, found)
            if names is not None:
                shown = true.output_names or range(true.n_outputs)
                names = (*names, *(f"deviation of {name}" for name in shown))
        super().__init__(nodes, outputs, inputs, names, true.output_names)
        self.true, self.bounds, self.accuracy = true, bounds, accuracy
        self.found, self.pieces, self.seconds = found, pieces, seconds
        self.margin = margin

    def with_margin(self) -> ApproximateNetwork:
        """With an input more for each output, which moves it by what was proved.

        Where the new inputs go from -1 to 1, the outputs go through all that the true
        network may be.
        """
        return ApproximateNetwork(
            self.nodes,
            self.true,
            self.bounds,
            self.accuracy,
            self.found,
            self.pieces,
            self.seconds,
            margin=True,
        )

    def extended(self, x: np.ndarray) -> np.ndarray:
        """(N, n_inputs) points of this network, where it is the true one, from (N, n) points
        of the true one."""
        if not self.margin:
            return x
        still = np.zeros((len(x), self.n_outputs))
        center, radius = _center_and_radius(self.found)
        short = self.true.evaluate(x) - self.evaluate(np.hstack([x, still]))
        moved = np.divide(short, radius, out=still, where=radius > 0.0)
        return np.hstack([x, np.clip(moved, -1.0, 1.0)])

    @property
    def errors(self) -> np.ndarray:
        """The proved error of each output over the box, (n_outputs,)."""
        return self.found.errors

    def covers(self, low: np.ndarray, high: np.ndarray) -> bool:
        """Whether the proof holds over a box."""
        own_low, own_high = self.bounds.input_box
        return bool((own_low <= low).all() and (high <= own_high).all())


def _center_and_radius(found: Proof) -> tuple[np.ndarray, np.ndarray]:
    """The middle of what was proved of each output, and how far that reaches, rounded up."""
    center = 0.5 * (found.low + found.high)
    reach = np.maximum(found.high - center, center - found.low)
    return center, reach * (1.0 + 4.0 * EPS)


def _with_deviations(
    nodes: Sequence[Node], true: Network, found: Proof
) -> tuple[list[Node], tuple[int, ...], tuple[int, ...]]:
    """Nodes, inputs and outputs of a network whose outputs may deviate."""
    names = {node.name for node in nodes}

    def new(name: str) -> str:
        while name in names:
            name += "_"
        names.add(name)
        return name

    center, radius = _center_and_radius(found)
    result = [*nodes, Input(new("deviation"), (true.n_outputs,))]
    outputs = []
    for i, columns in true.output_slices():
        node, moves = nodes[i], np.zeros((nodes[i].size, true.n_outputs))
        moves[:, columns] = np.diag(radius[columns])
        outputs.append(len(result))
        result.append(
            Affine(
                new(f"{node.name}_within"),
                node.shape,
                (i, len(nodes)),
                (np.eye(node.size), moves),
                center[columns],
            )
        )
    return result, (*true.inputs, len(nodes)), tuple(outputs)


def true_network(network: Network) -> Network:
    """The network that another one stands for; itself, if it stands for none."""
    return network.true if isinstance(network, ApproximateNetwork) else network
