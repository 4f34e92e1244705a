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
from pyomo_relu.formulations.relaxation import linear_formulation
from pyomo_relu.heuristics.network_columns import NetworkProblem, set_unused_inputs
from pyomo_relu.presolve.fixed_outputs import compile_with_networks
from pyomo_relu.presolve.model_scope import unchanged_models
from pyomo_relu.programs.standard_form import NotLinearError, StandardForm
from pyomo_relu.programs.strangers import StrangerError, check_model

#: What errors call the search.
CALLER = "the search for a start"


class ModelImage:
    """The standard form and the networks to search on, and the way back.

    Attributes
    ----------
    own_blocks : list
        Network blocks of the user's model whose rows are those of their networks.
    is_copy : bool
        Whether form and problem are those of a copy of the user's model.
    """

    def __init__(self, model: Any, deadline: Deadline = NEVER) -> None:
        check_model(model, CALLER)
        self.model = model
        #: What the form is of: the model, or its copy.
        self.source = model
        own = list(network_blocks(model))
        changes = {b.name: list(b.changes()) for b in own}
        self.own_blocks = _as_written(model, own, changes)
        self._original: dict[int, Any] | None = None
        self.form: StandardForm
        try:
            if any(b.bounds is None for b in own):
                raise IncompatibleModelError("a block has no formulation")
            self.form = compile_with_networks(model, CALLER, deadline)
            blocks = self.own_blocks
        except StrangerError:
            raise
        except IncompatibleModelError as error:
            if isinstance(error, NotLinearError) and not error.in_network:
                raise
            changed = next((name for name, found in changes.items() if found), None)
            if changed is not None:
                raise ValueError(
                    f"no start can be sought: {error} Writing the networks anew would lose "
                    f"that {changes[changed][0].text}; undo it, or call "
                    f"{changed}.reformulate('bigm') and change what that writes."
                ) from error
            blocks = self._copy(model, own, deadline)
        with unchanged_models():
            for block in own:
                block.check_box()
        self.problem = NetworkProblem(self.form, blocks, deadline)

    @property
    def is_copy(self) -> bool:
        return self._original is not None

    def _copy(self, model: Any, own: list[Any], deadline: Deadline) -> list[Any]:
        image = model.clone()
        blocks = list(network_blocks(image))
        for block in blocks:
            deadline.check()
            block.reformulate(linear_formulation(block.network))
        self.source = image
        self.form = compile_with_networks(image, CALLER, deadline)
        pairs = zip(_outside(image, blocks), _outside(model, own))
        self._original = {id(copy): v for copy, v in pairs}
        return blocks

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
        for v, x in zip(self.form.columns, point.tolist()):
            original = v if self._original is None else self._original.get(id(v))
            if original is not None:
                original.set_value(x, skip_validation=True)
        set_unused_inputs(self.own_blocks)
        if self._original is None:
            return
        for block in self.own_blocks:
            values = block.input_values()
            if values is None:
                continue
            block.set_layer_values(values)
            outputs = block.network.evaluate(values[0])
            for v, y in zip(block.component("outputs").values(), outputs.tolist()):
                if not v.fixed:
                    v.set_value(y, skip_validation=True)


def _as_written(model: Any, own: list[Any], changes: dict[str, list[Any]]) -> list[Any]:
    """The blocks that say what their networks do; ValueError where there is none."""
    if not own:
        raise ValueError(
            f"'{model.name}' holds no active network block; there is nothing that a start "
            "could come from."
        )
    found = [b for b in own if all(c.restricts for c in changes[b.name])]
    if not found:
        name, edits = next(iter(changes.items()))
        text = next(c.text for c in edits if not c.restricts)
        raise ValueError(
            f"the rows of '{name}' are not what was written, since {text}; nor are those of "
            "any other network block. So no network says what a start could be; solve the "
            "model as it is."
        )
    return found


def _outside(model: Any, blocks: list[Any]) -> list[Any]:
    """The variables of a model that are in no layer of a network, in order."""
    inside = {id(v) for b in blocks for v in b.layer_variables}
    return [v for v in model.component_data_objects(Var) if id(v) not in inside]
