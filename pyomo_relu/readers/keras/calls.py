"""Calls of layers: which tensors go in, and what may change the meaning of a call.

A translator knows what Keras' own code does with the data of a call. Anything else that
a call may be given (a mask, which also travels with a tensor unseen, a flag for training,
a tensor as a keyword) is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from pyomo_relu.readers.keras.describing import refuse
from pyomo_relu.readers.keras.registration import is_custom
from pyomo_relu.readers.values import Tensor

# At inference it normalizes by its moving statistics, whatever is masked.
_MASK_IGNORED = {"BatchNormalization"}


def tensor_arguments(operation: Any, args: Any, kwargs: Any) -> list[Tensor]:
    """The tensors of one call; anything else in the call is refused.

    Built-in layers and models have one argument with data, a tensor or several. A layer
    with a user's translator may have more; they come in the order of its signature.
    """
    import keras

    bound = _bound(operation, args, kwargs)
    own = is_custom(operation)
    found: list[Tensor] = []
    for k, (name, value) in enumerate(bound.items()):
        if name == "training":
            if isinstance(value, Tensor) or value:
                raise refuse(
                    operation,
                    "is called with training=True, so it behaves as in training; call it "
                    "without.",
                )
            continue
        for part in keras.tree.flatten(value):
            if isinstance(part, Tensor) and (own or k == 0):
                found.append(part)
            elif isinstance(part, Tensor):
                what = "a mask" if "mask" in name else "a tensor"
                raise refuse(
                    operation,
                    f"is called with {what} as its argument '{name}', which is not "
                    "supported; call it with its data alone.",
                )
            elif part is not None:
                raise refuse(
                    operation,
                    f"is called with an argument '{name}' that is no tensor of the model "
                    f"({type(part).__name__}), which is not supported.",
                )
    return found


def _bound(operation: Any, args: Any, kwargs: Any) -> Mapping[str, Any]:
    """The arguments of a call by name, in the order of the signature."""
    try:
        bound = inspect.signature(operation.call).bind_partial(*args, **kwargs)
    except (TypeError, ValueError):  # no signature, or one that Keras changes
        named = {f"argument {k + 1}": value for k, value in enumerate(args)}
        return {**named, **kwargs}
    found: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = bound.signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            found.update(value)
        elif kind is inspect.Parameter.VAR_POSITIONAL:
            found.update({f"{name} {k + 1}": v for k, v in enumerate(value)})
        else:
            found[name] = value
    return found


def refuse_masks(calls: Sequence[Any]) -> None:
    """Refuse a graph in which one layer hangs a mask on a tensor, and another reads masks.

    Also where the graph says that these are different tensors: a layer that returns its
    very input hangs its mask on that, and whatever reads it then finds the mask.
    """
    import keras

    tensors = [t for node in calls for t in (*node.input_tensors, *node.outputs)]
    if all(getattr(t, "_keras_mask", None) is None for t in tensors):
        return  # what a caller gives as a mask is an argument, and is refused as such
    for node in calls:
        operation = node.operation
        if is_custom(operation) or not isinstance(operation, keras.layers.Layer):
            continue
        reads = isinstance(operation, keras.Model) or any(
            "mask" in name for name in inspect.signature(operation.call).parameters
        )
        if reads and type(operation).__name__ not in _MASK_IGNORED:
            raise refuse(
                operation,
                "reads a mask, given in its call or by a layer before it, which is not "
                "supported; call it with its data alone, without layers that make masks.",
            )
