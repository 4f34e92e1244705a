r"""Auto: the formulation that measured best for what a network is over its box.

Looked at in turn, after inputs that are numbers or have equal bounds were folded in:

#. If all free inputs take few values, as linear expressions of integers or, with ``ask_model``,
   by rows of the model, and there are at most ``most_values`` combinations, ``table``. If all
   but one do, and the curves over that one have at most ``most_pieces`` pieces, too.
#. Else, if one or two inputs are free and the network has at most ``most_pieces`` linear
   pieces over their box, ``regions``; with ``ask_model`` those sides of curves that the model
   needs.
#. Else ``bigm``.

What was chosen, and why, stands in ``block.statistics()``. The figures behind this are in
:doc:`/benchmarks/wired`.

Examples
--------
>>> from pyomo_relu.block.example import hat, two_neurons
>>> hat("auto").net.statistics().reason
'regions: one input is free, and the network has 3 linear pieces over its box'
>>> two_neurons("auto").net.statistics().reason
'regions: 2 inputs are free, and the network has 4 linear pieces over its box'
>>> two_neurons("auto", most_pieces=3).net.statistics().reason
'bigm: the network has more than 3 linear pieces over its box'
"""

from __future__ import annotations

import numpy as np
from pyomo.common.config import ConfigValue, PositiveInt

from pyomo_relu.bounds import Bounds
from pyomo_relu.formulations.base import (
    Formulation,
    Wiring,
    declared_options,
    make_formulation,
    register_formulation,
)
from pyomo_relu.formulations.table import values_of_integers


@register_formulation
class Auto(Formulation):
    """The formulation that measured best for the kind of network."""

    name = "auto"
    CONFIG = declared_options(
        most_pieces=ConfigValue(
            500, PositiveInt, "how many linear pieces 'regions' may write"
        ),
        most_values=ConfigValue(
            1000, PositiveInt, "how many combinations of values 'table' may write"
        ),
        ask_model=ConfigValue(
            False,
            bool,
            "whether rows and objective of the model are asked: for the sides of curves "
            "that they need, and for values of inputs that they allow",
        ),
    )

    def replacement(self, bounds: Bounds, wiring: Wiring) -> tuple[Bounds, Formulation]:
        made, reason = self._choice(bounds, wiring)
        found = made.replacement(bounds, wiring)
        of, written = (bounds, made) if found is None else found
        written.reason = reason
        return of, written

    def _choice(self, bounds: Bounds, wiring: Wiring) -> tuple[Formulation, str]:
        """The formulation, and why."""
        config, (low, high) = self.config, bounds.input_box
        most = config.most_values
        told = wiring.values() if config.ask_model else {}
        free, open_ones, combinations = np.flatnonzero(low < high).tolist(), 0, 1
        for i in free:
            entry, values = wiring.inputs[i], told.get(i)
            if values is None and (found := values_of_integers(entry, most)) is not None:
                values = found.tolist()
            open_ones += values is None
            combinations *= 1 if values is None else len(values)
        option = {"values": "model"} if config.ask_model else {}
        few = combinations <= config.most_values and len(free) > open_ones
        if few and open_ones == 0:
            made = make_formulation("table", {"most": most, **option})
            return made, f"table: the inputs take {combinations} combinations of values"
        if few and open_ones == 1:
            made = make_formulation("table", {"most": config.most_pieces, **option})
            if self._fits(made, bounds, wiring):
                return made, (
                    f"table: one input takes any value, the others {combinations} "
                    "combinations of values"
                )
        count = len(free)
        inputs = f"{count} inputs are free" if count != 1 else "one input is free"
        if count > 2:
            return make_formulation("bigm"), f"bigm: {inputs}, of other than few values"
        pieces = self._pieces(bounds)
        if pieces is None:
            most = f"more than {config.most_pieces} linear pieces over its box"
            return make_formulation("bigm"), f"bigm: the network has {most}"
        side = "model" if config.ask_model else "both"
        options = {"most": config.most_pieces, "side": side}
        return make_formulation("regions", options), (
            f"regions: {inputs}, and the network has {pieces} linear pieces over its box"
        )

    def _fits(self, made: Formulation, bounds: Bounds, wiring: Wiring) -> bool:
        """Whether a table stays within its limit."""
        try:
            made.replacement(bounds, wiring)
        except ValueError:
            return False
        return True

    def _pieces(self, bounds: Bounds) -> int | None:
        """How many linear pieces the network has; None if more than may be written."""
        from pyomo_relu.bounds.plane_regions import TooManyRegionsError, linear_regions

        low, high = bounds.input_box
        most = self.config.most_pieces
        try:
            return linear_regions(bounds.network, low, high, max_regions=most).n_regions
        except TooManyRegionsError:
            return None
