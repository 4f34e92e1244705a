"""Models with a call of their own, traced as graphs of the layers and operations in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pyomo_relu.readers.keras.describing import UnsupportedLayerError
from pyomo_relu.readers.naming import first_line


def _what(model: Any) -> str:
    return f"model '{model.name}' ({type(model).__name__})"


def built_shapes(model: Any) -> Any:
    """The shape of one sample of what a model was built for, in the structure of it.

    Raises
    ------
    ValueError
        If the model was not called yet, or takes several arguments.
    """
    import keras

    struct = getattr(model, "_inputs_struct", None)
    if struct is not None:  # a functional model whose call is another one
        return keras.tree.map_structure(lambda tensor: tuple(tensor.shape)[1:], struct)
    shapes = getattr(model, "_build_shapes_dict", None)
    if not model.built or not shapes or None in shapes.values():
        raise ValueError(
            f"{_what(model)} is not built, so the shape of its input is not known; call it "
            "once on data. Where it was called, Keras can't trace its call method; write "
            "it without branches on values."
        )
    if len(shapes) > 1:
        raise UnsupportedLayerError(
            f"{_what(model)} is called with {len(shapes)} arguments; let its call method "
            "take one list of tensors, or build it by the functional API."
        )
    [structure] = shapes.values()
    return keras.tree.map_shape_structure(lambda shape: tuple(shape)[1:], structure)


def traced(model: Any, shapes: Any) -> Any:
    """The functional model of what ``call`` does at inference.

    Parameters
    ----------
    model : keras.Model
        With a call method of its own.
    shapes : structure of tuples
        The shape of one sample of each input.

    Raises
    ------
    UnsupportedLayerError
        If the call can't be run on symbolic tensors.
    """
    import keras

    dtype = model.variable_dtype
    given = keras.tree.map_shape_structure(lambda s: keras.Input(s, dtype=dtype), shapes)
    flag = {"training": False} if model._call_has_training_arg else {}
    try:
        return keras.Model(given, model.call(given, **flag), name=model.name)
    except Exception as error:
        raise UnsupportedLayerError(
            f"{_what(model)} has its own call method, which can't be read as a graph "
            f"({type(error).__name__}: {first_line(error)}); write it with Keras layers and "
            "keras.ops, without branches on values, or build it with keras.Sequential or "
            "the functional API, or register it with register_keras_layer."
        ) from error


@contextmanager
def no_traces_left(model: Any) -> Iterator[None]:
    """Forget the calls inside: layers note each symbolic call of theirs."""
    parts: Sequence[Any] = list(model._flatten_layers())
    noted = [(list(p._inbound_nodes), list(p._outbound_nodes)) for p in parts]
    try:
        yield
    finally:
        for part, (inbound, outbound) in zip(parts, noted):
            part._inbound_nodes[:] = inbound
            part._outbound_nodes[:] = outbound
