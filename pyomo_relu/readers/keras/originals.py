"""Whether layers and models of Keras still run the code that Keras has for them."""

from __future__ import annotations

import inspect
from typing import Any

from pyomo_relu.readers.keras.describing import refuse

# Keras itself puts these wrappers of its own methods on each object.
_WRAPPED_BY_KERAS = {"build", "quantize"}


def refuse_replaced(layer: Any) -> None:
    """Refuse a layer of Keras some of whose methods were replaced by others."""
    replaced = sorted(
        name
        for name in vars(layer)
        if name not in _WRAPPED_BY_KERAS
        and inspect.isroutine(inspect.getattr_static(type(layer), name, None))
    )
    if not replaced and not _is_original(type(layer)):
        replaced = ["call"]
    if replaced:
        raise refuse(
            layer,
            f"has another method '{replaced[0]}' than its class in Keras; make it a class "
            "of its own and describe that with register_keras_layer.",
        )


def model_call_is_original(model: Any) -> bool:
    """Whether calling a model runs its graph, as Keras' Sequential and Functional do."""
    import keras
    from keras.src.models.functional import Functional

    call = type(model).call
    if call is not Functional.call and call is not keras.Sequential.call:
        return False
    changed = {"call", "__call__", "_run_through_graph"} & set(vars(model))
    return not changed and _is_original(type(model))


def has_own_call(model: Any) -> bool:
    """Whether the class of a model has a call of its own, and nothing else is replaced."""
    changed = {"call", "__call__", "_run_through_graph"} & set(vars(model))
    return not changed and _is_original(type(model)) and not model_call_is_original(model)


def _is_original(cls: type) -> bool:
    """Whether the ``call`` of a class is the one that its own module defines."""
    owner = next((c for c in cls.__mro__ if "call" in vars(c)), cls)
    call = getattr(owner, "call", None)
    return (
        getattr(call, "__module__", "") == owner.__module__
        and getattr(call, "__qualname__", "") == f"{owner.__qualname__}.call"
    )
