r"""Auto: the formulation that measured best for what a network is over its box.

Looked at in turn, after inputs that are numbers or have equal bounds were folded in:

#. With ``ask_model``, ``one_sided`` if the sides of outputs that the model needs can be written
   without any binary, and more than one input is free.
#. Else, if all free inputs take few values, as linear expressions of integers or, with
   ``ask_model``, by rows of the model, and there are at most ``most_values`` combinations,
   ``table``. If all but one do, and the curves over that one have at most ``most_pieces``
   pieces, too.
#. Else, if one or two inputs are free and the network has at most ``most_pieces`` linear
   pieces over their box, ``regions``; with ``ask_model`` those sides of curves that the model
   needs.
#. Else, with ``ask_model``, ``one_sided`` if it has fewer binaries than ``bigm``.
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
from pyomo_relu.formulations.one_sided import count_saved
from pyomo_relu.formulations.table import values_of_integers
from pyomo_relu.formulations.unit_sides import UnitSides


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
        free = np.flatnonzero(low < high).tolist()
        count = len(free)
        one_sided = self._one_sided(bounds, wiring)
        if one_sided is not None and count > 1 and one_sided[2] == 0:
            return one_sided[:2]
        table = self._table(free, bounds, wiring)
        if table is not None:
            return table
        inputs = f"{count} inputs are free" if count != 1 else "one input is free"
        if count > 2:
            if one_sided is not None:
                return one_sided[:2]
            return make_formulation("bigm"), f"bigm: {inputs}, of other than few values"
        pieces = self._pieces(bounds)
        if pieces is None:
            if one_sided is not None:
                return one_sided[:2]
            most = f"more than {config.most_pieces} linear pieces over its box"
            return make_formulation("bigm"), f"bigm: the network has {most}"
        side = "model" if config.ask_model else "both"
        options = {"most": config.most_pieces, "side": side}
        return make_formulation("regions", options), (
            f"regions: {inputs}, and the network has {pieces} linear pieces over its box"
        )

    def _one_sided(
        self, bounds: Bounds, wiring: Wiring
    ) -> tuple[Formulation, str, int] | None:
        """Units on one side, why, and how many need a binary; None where all do."""
        if not self.config.ask_model:
            return None
        held = UnitSides(bounds, tuple(wiring.sides()))
        saved, unstable = count_saved(bounds, held)
        if not saved:
            return None
        return make_formulation("one_sided"), "one_sided", unstable - saved

    def _table(
        self, free: list[int], bounds: Bounds, wiring: Wiring
    ) -> tuple[Formulation, str] | None:
        """A table, and why; None where inputs don't take few values."""
        config = self.config
        told = wiring.values() if config.ask_model else {}
        open_ones, combinations = 0, 1
        for i in free:
            values = told.get(i)
            if values is None:
                found = values_of_integers(wiring.inputs[i], config.most_values)
                values = None if found is None else found.tolist()
            open_ones += values is None
            combinations *= 1 if values is None else len(values)
        if combinations > config.most_values or open_ones > 1 or open_ones == len(free):
            return None
        most = config.most_pieces if open_ones else config.most_values
        option = {"values": "model"} if config.ask_model else {}
        made = make_formulation("table", {"most": most, **option})
        if not self._fits(made, bounds, wiring):
            return None
        who = "one input takes any value, the others" if open_ones else "the inputs take"
        return made, f"table: {who} {combinations} combinations of values"

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
