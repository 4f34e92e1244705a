"""Formulations of whole networks: another network in its place, or no layers at all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyomo.environ import Block

from pyomo_relu.base.index_set import index_set
from pyomo_relu.bounds import Bounds
from pyomo_relu.formulations.base import Formulation, Wiring
from pyomo_relu.formulations.values import Entry, Row, entry_row
from pyomo_relu.network import Max, PiecewiseLinear, Smooth

#: The key of a formulation that writes the whole network, in place of a node's position.
WHOLE = -1
#: The name of the only layer of a network that is written as a whole.
LAYER = "network"


@dataclass
class WholeNetwork:
    """A network that a formulation writes as a whole.

    Attributes
    ----------
    block : BlockData
        Where its components go.
    bounds : Bounds
        Of the network.
    inputs : list
        A variable, float or expression for each entry of the flat input vector.
    outputs : list of VarData
    """

    block: Any
    bounds: Bounds
    inputs: list[Entry]
    outputs: list[Any]

    def input_row(self, i: int) -> Row:
        """Input ``i`` as a row with one term."""
        low, high = self.bounds.input_box
        return entry_row(self.inputs[i], float(low[i]), float(high[i]))


class WholeFormulation(Formulation, ABC):
    """Writes a network as a whole, without its layers.

    What :meth:`Formulation.replacement` of a formulation returns, which the user chose
    and whose name this one has.

    Parameters
    ----------
    chosen : str
        The name of the formulation that the user chose.
    """

    def __init__(self, chosen: str) -> None:
        super().__init__()
        self.chosen = chosen

    @property
    def title(self) -> str:
        return self.chosen

    @property
    @abstractmethod
    def contents(self) -> str:
        """What is written, in a few words for the statistics of a block."""

    @property
    def output_range(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Bounds of the outputs, where what is written knows better ones than the network's.

        Returns
        -------
        (n_outputs,) arrays, or None
        """
        return None

    @abstractmethod
    def write_network(self, whole: WholeNetwork) -> None:
        """Write ``outputs == network(inputs)``."""

    @abstractmethod
    def set_network_values(self, block: Any, x: np.ndarray, y: np.ndarray) -> None:
        """Give the variables of :meth:`write_network` the values at an input.

        Parameters
        ----------
        block : BlockData
        x, y : (n_inputs,) and (n_outputs,) arrays
        """


def whole_of(formulations: Mapping[int, Formulation]) -> WholeFormulation | None:
    """The formulation that writes the whole network; None where layers are written."""
    found = formulations.get(WHOLE)
    return found if isinstance(found, WholeFormulation) else None


def what_to_write(
    chosen: dict[int, Formulation], bounds: Bounds, wiring: Wiring
) -> tuple[Bounds, dict[int, Formulation]]:
    """The network that is written, with its bounds, and the formulation of each node.

    Parameters
    ----------
    chosen : dict
        As :func:`~pyomo_relu.formulations.choose_formulations` returns it.
    bounds : Bounds
        Of the network that the formulations were chosen for.
    wiring : Wiring
        What stands around the network.

    Raises
    ------
    ValueError
        If a formulation of whole networks was chosen for some layers only.
    """
    kinds = list(dict.fromkeys(chosen.values()))
    for one in kinds:
        found = one.replacement(bounds, wiring)
        if found is None:
            continue
        if len(kinds) > 1:
            raise ValueError(
                f"formulation '{one.name}' writes whole networks; it can't be chosen for "
                "some layers only."
            )
        other, formulation = found
        if isinstance(formulation, WholeFormulation):
            return other, {WHOLE: formulation}
        nodes = enumerate(other.network.nodes)
        nonlinear = [i for i, n in nodes if isinstance(n, (PiecewiseLinear, Smooth, Max))]
        return other, dict.fromkeys(nonlinear, formulation)
    return bounds, chosen


def write_whole(
    bounds: Bounds,
    formulation: WholeFormulation,
    inputs: Sequence[Entry],
    outputs: Sequence[Any],
) -> tuple[Block, np.ndarray]:
    """Return a block with the one layer ``network``, and which inputs it doesn't read."""
    container = Block(index_set([LAYER]))
    container.construct()
    # By this the variables of a formulation that was replaced can be told.
    container.is_network_layer = True
    whole = WholeNetwork(container[LAYER], bounds, list(inputs), list(outputs))
    formulation.write_network(whole)
    low, high = bounds.input_box
    return container, low == high
