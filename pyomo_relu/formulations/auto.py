r"""Auto: the formulation that measured best for what a network is over its box.

Looked at in turn, after inputs that are numbers or have equal bounds were folded in:

#. If all free inputs are linear expressions of integers that take at most ``most_values``
   combinations of values, ``table``.
#. If one input is free and the network has at most ``most_pieces`` linear pieces over its
   interval, ``regions``, in the way that ``side=`` says.
#. Else ``bigm``.

What was chosen, and why, stands in ``block.statistics()``. The figures behind this are in
:doc:`/benchmarks/wired`.

Examples
--------
>>> from pyomo_relu.block.example import hat, two_neurons
>>> hat("auto").net.statistics().reason
'regions: one input is free, and the network has 3 linear pieces over its interval'
>>> two_neurons("auto").net.statistics().reason
'bigm: 2 inputs are free, of other than few values'
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
            200, PositiveInt, "how many linear pieces 'regions' may write"
        ),
        most_values=ConfigValue(
            200, PositiveInt, "how many combinations of values 'table' may write"
        ),
        side=ConfigValue("both", description="as in 'regions', where that is chosen"),
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
        free = np.flatnonzero(low < high).tolist()
        count = 1
        for i in free:
            values = values_of_integers(wiring.inputs[i], config.most_values)
            count *= config.most_values + 1 if values is None else len(values)
        if free and count <= config.most_values:
            made = make_formulation("table", {"most": config.most_values})
            return made, f"table: the inputs take {count} combinations of values"
        if len(free) > 1:
            few = "of other than few values"
            return make_formulation("bigm"), f"bigm: {len(free)} inputs are free, {few}"
        pieces = self._pieces(bounds)
        if pieces is None:
            most = f"more than {config.most_pieces} linear pieces over its interval"
            return make_formulation("bigm"), f"bigm: the network has {most}"
        options = {"most": config.most_pieces, "side": config.side}
        return make_formulation("regions", options), (
            f"regions: {'one input is' if free else 'no input is'} free, and the network "
            f"has {pieces} linear pieces over its interval"
        )

    def _pieces(self, bounds: Bounds) -> int | None:
        """How many linear pieces the network has; None if more than may be written."""
        from pyomo_relu.bounds.plane_regions import TooManyRegionsError, linear_regions

        low, high = bounds.input_box
        most = self.config.most_pieces
        try:
            return linear_regions(bounds.network, low, high, max_regions=most).n_regions
        except TooManyRegionsError:
            return None
