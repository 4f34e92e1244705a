"""A model as the heuristics need it: linear, with a formulation that has binaries.

A model that relu_highs can take is its own image. For others, with complementarities
or SOS constraints in the networks or without a formulation, the image is a copy whose
network blocks are written as big-M.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pyomo.contrib.solver.common.util import IncompatibleModelError
from pyomo.environ import Var

from pyomo_relu.base.deadline import NEVER, Deadline
from pyomo_relu.formulations import network_blocks
from pyomo_relu.heuristics.problem import (
    NetworkProblem,
    set_unused_inputs,
)
from pyomo_relu.presolve.fixed_outputs import compile_with_networks
from pyomo_relu.programs.standard_form import StandardForm
from pyomo_relu.programs.strangers import StrangerError, check_model


class ModelImage:
    """The standard form and the blocks to search on, and the way back.

    Attributes
    ----------
    model : BlockData
        The user's.
    form : StandardForm
    blocks : list
        Network blocks of the image, in the model's order.
    """

    def __init__(self, model, deadline: Deadline = NEVER) -> None:
        check_model(model, "the search for a start")
        self.model = model
        own = list(network_blocks(model))
        if not own:
            raise ValueError(
                f"'{model.name}' holds no active network block; there is nothing that a "
                "start could come from."
            )
        changes = {b.name: list(b.changes()) for b in own}
        self.own_blocks = [b for b in own if all(c.restricts for c in changes[b.name])]
        if not self.own_blocks:
            name, found = next(iter(changes.items()))
            text = next(c.text for c in found if not c.restricts)
            raise ValueError(
                f"the rows of '{name}' are not what was written, since {text}; nor are "
                "those of any other network block. So no network says what a start could "
                "be; solve the model as it is."
            )
        self._original: dict[int, Any] | None = None
        self.form: StandardForm
        try:
            if any(b.bounds is None for b in own):
                raise IncompatibleModelError("a block has no formulation")
            self.form = compile_with_networks(model, "the search for a start", deadline)
            self.blocks = self.own_blocks
        except StrangerError:
            raise
        except IncompatibleModelError as error:
            changed = next((name for name, found in changes.items() if found), None)
            if changed is not None:
                raise ValueError(
                    f"no start can be sought: {error} Writing the networks anew would lose "
                    f"that {changes[changed][0].text}; undo it, or call "
                    f"{changed}.reformulate('bigm') and change what that writes."
                ) from error
            self._copy(model, own, deadline)
        for block in own:
            block.check_box()
        self.problem = NetworkProblem(self.form, self.blocks, deadline)

    def _copy(self, model, own, deadline: Deadline) -> None:
        image = model.clone()
        self.blocks = list(network_blocks(image))
        for block in self.blocks:
            deadline.check()
            block.reformulate("bigm")
        self.form = compile_with_networks(image, "the search for a start", deadline)
        pairs = zip(_outside(image, self.blocks), _outside(model, own))
        self._original = {id(copy): v for copy, v in pairs}

    def present(self) -> np.ndarray | None:
        """The model's present point, None where a user's variable has no value."""
        columns = self.form.columns
        if self._original is not None:
            columns = [self._original.get(id(v), v) for v in columns]
        point = np.array([np.nan if v.value is None else v.value for v in columns])
        needed = point[~self.problem.layer_columns]
        return None if np.isnan(needed).any() else np.nan_to_num(point)

    def write(self, point: np.ndarray) -> None:
        """Set the values of the model's variables, binaries and layers included."""
        if self._original is None:
            for v, x in zip(self.form.columns, point.tolist()):
                v.set_value(x, skip_validation=True)
            set_unused_inputs(self.own_blocks)
            return
        for v, x in zip(self.form.columns, point.tolist()):
            original = self._original.get(id(v))
            if original is not None:
                original.set_value(x, skip_validation=True)
        set_unused_inputs(self.own_blocks)
        for block in self.own_blocks:
            values = block.input_values()
            if values is None:
                continue
            block.set_layer_values(values)
            outputs = block.network.evaluate(values[0])
            for v, y in zip(block.component("outputs").values(), outputs.tolist()):
                if not v.fixed:
                    v.set_value(y, skip_validation=True)


def _outside(model, blocks):
    """The variables of a model that are in no layer of a network, in order."""
    inside = {id(v) for b in blocks for v in b.layer_variables}
    return [v for v in model.component_data_objects(Var) if id(v) not in inside]
