"""Blocks of networks with smooth units: curves in their places, and what is known of the error.

A block with ``accuracy=`` holds the network with curves, an
:class:`~pyomo_relu.bounds.difference.network.ApproximateNetwork`, which carries the true one
and the proof. With ``margin=True`` that network has one more input for each output, between
-1 and 1, that moves the output by as much as was proved.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pyomo.core.base.block import BlockData
from pyomo.environ import Var

from pyomo_relu.base.index_set import data_of
from pyomo_relu.block import point as _point
from pyomo_relu.block.box import present_box
from pyomo_relu.block.inputs import named_index
from pyomo_relu.bounds.difference.network import ApproximateNetwork, true_network
from pyomo_relu.formulations import choose_formulations
from pyomo_relu.network import Network, Node, PiecewiseLinear, Smooth, activations


def approximated(block: Any, network: Network) -> Network:
    """What a block holds for a network that is given to it, over its present box.

    Without ``accuracy=``, or without smooth units, that is the network itself. Blocks of one
    component share what was found.

    Raises
    ------
    ValueError
        If the accuracy can't be had, naming the block.
    """
    true = true_network(network)
    if block._accuracy is None or not true.smooth_layers:
        return true
    low, high = (side[: true.n_inputs] for side in present_box(block))
    if isinstance(network, ApproximateNetwork) and network.covers(low, high):
        return network
    key = (true.fingerprint, repr(block._accuracy), low.tobytes(), high.tobytes())
    shared = block.parent_component()._approximations
    found = shared.get((*key, block._margin))
    if found is None:
        from pyomo_relu.bounds.difference.approximate import approximate

        try:
            found = approximate(true, low, high, block._accuracy)
        except ValueError as error:
            raise ValueError(f"{block.name}: {error}") from error
        if block._margin:
            found = found.with_margin()
        shared.put((*key, block._margin), found)
    return found


def take_accuracy(block: Any, accuracy: Any, margin: bool) -> None:
    """Give a block that has its inputs the network that ``accuracy=`` asks for."""
    if margin and accuracy is None:
        raise ValueError(
            f"{block.name}: margin=True needs accuracy=, whose proved errors it is about."
        )
    block._accuracy, block._margin = accuracy, bool(margin)
    network = approximated(block, block.network)
    if block._margin and network is not block.network:
        index = named_index(network.output_names, network.n_outputs)
        block.add_component("deviation", Var(index, bounds=(-1.0, 1.0), initialize=0.0))
        own = tuple(data_of(block.component("deviation")))
        block._entries += own
        ends = np.full(len(own), np.inf)
        low, high = block._given
        block._given = np.append(low, -ends), np.append(high, ends)
    block._network = network


def refuse_exact(block: Any, formulation: Any, network: Network) -> None:
    """Raise a ValueError if a block with curves is to be written with exact smooth units."""
    if formulation == "smooth" and isinstance(network, ApproximateNetwork):
        raise ValueError(
            f"'{block.name}' has accuracy=, so its smooth units are curves; for exact ones "
            "make the block without."
        )


def check_choice(
    network: Network, spec: Any, options: dict[str, Any], accuracy: Any
) -> None:
    """Check a choice of formulations for a network before anything is built.

    Raises
    ------
    ValueError
        As :func:`~pyomo_relu.formulations.choose_formulations` does, and if ``accuracy=`` is
        given for a formulation that needs none.
    """
    if accuracy is not None and network.smooth_layers:
        if spec == "smooth":
            raise ValueError(
                "ReLUNetBlock: accuracy= writes curves for smooth units, and "
                "formulation='smooth' writes them exactly; leave one of the two out."
            )
        network = network.with_nodes([_stand_in(node) for node in network.nodes])
    choose_formulations(network, spec, options)


def _stand_in(node: Node) -> Node:
    """A piecewise-linear node in place of a smooth one, with its name."""
    if not isinstance(node, Smooth):
        return node
    function, t, a, c = activations.relu()
    wide = (np.broadcast_to(x, (node.size, np.shape(x)[-1])) for x in (t, a, c))
    return PiecewiseLinear(node.name, node.shape, node.source, function, *wide)


class ApproximatedData(BlockData):
    """What a block says of the network that it was given, which has smooth units perhaps."""

    @property
    def true_network(self) -> Network:
        """The network that was given; :attr:`network` has curves for its smooth units."""
        return true_network(self.network)  # type: ignore[attr-defined]

    @property
    def approximation(self) -> ApproximateNetwork | None:
        """The network with curves and the proof of its error; None if all is exact."""
        network = self.network  # type: ignore[attr-defined]
        return network if isinstance(network, ApproximateNetwork) else None

    def accuracy(self) -> dict[Any, float]:
        """Return the proved error of each output, by the index of :attr:`outputs`.

        Over the inputs' box the true network and the curves that are written differ by no
        more. It is 0 without smooth units, and where these are written exactly.
        """
        found = self.approximation
        index = self.component("outputs").index_set()
        errors = np.zeros(len(index)) if found is None else found.errors
        return dict(zip(index, errors.tolist()))

    def output_interval(self, key: Any) -> tuple[Any, Any]:
        """Return expressions below and above the true output, for rows on the safe side.

        Parameters
        ----------
        key
            An index of :attr:`outputs`.

        Returns
        -------
        low, high : expressions
            ``high <= 0.34`` holds only where the true output is at most 0.34.

        Notes
        -----
        The errors are numbers in the expressions; after the block has been written for
        another box or another network, write the rows anew.
        """
        y = self.component("outputs")[key]
        found = self.approximation
        if found is None:
            return y, y
        k = next(k for k, v in enumerate(self.output_variables) if v is y)  # type: ignore[attr-defined]
        low, high = float(found.found.low[k]), float(found.found.high[k])
        if self._margin:  # type: ignore[attr-defined]
            width = high - low
            return y - width, y + width
        return y + low, y + high

    def evaluate(self, x: Any = None) -> np.ndarray:
        """Return the true network's outputs at a point, or at the inputs' present values.

        See :meth:`pyomo_relu.network.Network.evaluate` for what ``x`` may be.
        """
        return _point.evaluate(self, x)

    def error(self) -> float:
        """Return ``max |network(inputs) - outputs|`` at the present values.

        The network is the true one: with ``accuracy=`` this is at most what
        :meth:`accuracy` says, and the solver's tolerances; with ``margin=True`` twice that.

        Raises
        ------
        ValueError
            If inputs or outputs have no value, or if the inputs' bounds were widened
            after the formulation was written, which then no longer holds.
        """
        return _point.error(self, self.true_network)

    def leak(self) -> float:
        """Return :meth:`error` against the network that is written, with its curves.

        What a solver's tolerances left; without smooth units it is the error.
        """
        return _point.error(self, self.network)  # type: ignore[attr-defined]
