"""A block at one point: the values of its inputs, outputs and inner variables."""

from __future__ import annotations

from typing import Any

import numpy as np
from pyomo.environ import value

from pyomo_relu.block.box import check_box, present_box, tolerance
from pyomo_relu.block.input_bounds import as_given
from pyomo_relu.formulations.layer_values import LayerValues
from pyomo_relu.network import Network

#: Largest difference of a fixed input from the value that a warm start gives it, relative
#: to the larger of 1 and the value.
SAME_VALUE = 1e-9


def input_values(block: Any) -> np.ndarray | None:
    """The (1, n_inputs) present values of the inputs; None if one has none.

    An input on which no output depends over the box may have none after a solve, for
    solvers see only variables in rows: a value in its box stands for it.
    """
    unread = block._unread
    found = []
    for i, entry in enumerate(block._in_own_units(block._entries)):
        x = entry if isinstance(entry, float) else value(entry, exception=False)
        if x is None and unread is not None and unread[i]:
            low, high = (float(side[i]) for side in block._bounds.input_box)
            x = min(max(0.0, low), high)
        found.append(x)
    return None if any(x is None for x in found) else np.array([found], dtype=float)


def _without_value(block: Any) -> ValueError:
    return ValueError(f"'{block.name}' has inputs without a value; solve first, or give x.")


def evaluate(block: Any, x: Any) -> np.ndarray:
    """The true network at a point, or at the inputs' present values."""
    network = block.true_network
    if x is None:
        point = input_values(block)
        if point is None:
            raise _without_value(block)
        x = point[0, : network.n_inputs]
    return network.evaluate(x)


def error(block: Any, network: Network) -> float:
    """``max |network(inputs) - outputs|`` at the present values."""
    check_box(block)
    outputs = [value(y, exception=False) for y in block._in_own_units(block._outputs)]
    if any(v is None for v in outputs):
        raise ValueError(f"'{block.name}' has outputs without a value; solve first.")
    point = input_values(block)
    if point is not None and block._unread is not None:
        # No solver sees these, so their values may be old ones from outside of the box.
        inside = np.clip(point[0], *block._bounds.input_box)
        point[0] = np.where(block._unread, inside, point[0])
    if point is None:
        raise _without_value(block)
    found = network.evaluate(point[0, : network.n_inputs])
    return float(np.max(np.abs(found - np.array(outputs, dtype=float))))


def warm_start(block: Any, x: Any) -> np.ndarray:
    """Set every variable of the block to its value at the input ``x``."""
    point = _start(block, x)
    for entry, v in zip(block._entries, point[0].tolist()):
        if not isinstance(entry, float) and entry.is_variable_type() and not entry.fixed:
            entry.set_value(v, skip_validation=True)
    return set_output_values(block, point)


def _start(block: Any, x: Any) -> np.ndarray:
    """The (1, n_inputs) point ``x``, rounding outside of the box taken away.

    Raises
    ------
    ValueError
        If an input can't have its value, or may not.
    """
    if block._is_scaled():
        raise ValueError(
            f"'{block.name}': core.scale_model has scaled its inputs or outputs, so x "
            "would be taken for scaled values; call warm_start before scaling."
        )
    point, single = block.true_network.flat_inputs(x)
    if not single:
        raise ValueError(f"{block.name}: warm_start takes one point.")
    point = block.network.extended(point) if block.approximation is not None else point
    low, high = present_box(block)
    if block._bounds is not None:
        low = np.maximum(low, block._bounds.input_box[0])
        high = np.minimum(high, block._bounds.input_box[1])
    slack = tolerance(low, high)
    good = (point[0] >= low - slack) & (point[0] <= high + slack)
    for i in np.flatnonzero(~good).tolist():
        entry = as_given(block._entries[i])
        raise ValueError(
            f"{block.name}: warm_start gives input {i} ('{entry}') the value "
            f"{point[0, i]:g}, outside of its bounds [{low[i]:g}, {high[i]:g}]; a start must "
            "be inside."
        )
    point = np.clip(point, low, high)
    for i, entry in enumerate(block._entries):
        slack = SAME_VALUE * max(1.0, abs(point[0, i]))
        if not isinstance(entry, float) and entry.is_variable_type():
            known = entry.value if entry.fixed else None
            if known is not None and abs(known - point[0, i]) > slack:
                raise ValueError(
                    f"{block.name}: input {i} ('{entry}') is fixed at {known:g}, and "
                    f"warm_start gives it {point[0, i]:g}; unfix it, or start from there."
                )
        elif abs(float(value(entry, exception=False) or 0.0) - point[0, i]) > slack:
            raise ValueError(
                f"{block.name}: input {i} is no variable; set what it is made of, "
                "then call warm_start(evaluate's inputs)."
            )
    return point


def set_output_values(block: Any, point: np.ndarray | None) -> np.ndarray:
    """Give outputs and inner variables what the network says at a (1, n) point.

    Where there is no point, outputs that aren't fixed lose their values.

    Returns
    -------
    (n_outputs,) array
        Empty without a point.
    """
    # Layers that read an output take its value, so the outputs come first.
    if point is None:
        for v in block._outputs:
            if not v.fixed:
                v.set_value(None, skip_validation=True)
        return np.empty(0)
    outputs = block.network.evaluate(point[0])
    for v, y in zip(block._outputs, outputs.tolist()):
        if not v.fixed:
            v.set_value(y, skip_validation=True)
    set_layer_values(block, point)
    return outputs


def set_layer_values(block: Any, point: np.ndarray) -> None:
    """Give the variables of all layers the values implied by a (1, n_inputs) point."""
    layers = block.component("layer")
    if layers is None:
        return
    fixed = [(v, v.value) for v in block.layer_variables if v.fixed]
    layer_values(block).set(point[0])
    for v, known in fixed:  # by the user, who means it
        v.set_value(known, skip_validation=True)


def layer_values(block: Any) -> LayerValues:
    """What gives the variables of the layers the values that the network implies."""
    if block._well_scaled is None or block._formulations is None:
        return LayerValues(None, None, {})
    return LayerValues(block.component("layer"), block._well_scaled, block._formulations)
