"""Which function translates which Keras layer, operation or activation.

Built-in translators are found by class name, so that Keras is not imported before a
model is read. Users add their own with :func:`register_keras_layer` and
:func:`register_keras_activation`. A class is looked up exactly: a subclass may do
something else than its parent, so it needs a translator of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyomo_relu.network import NetworkBuilder
from pyomo_relu.network.activations import Pieces


class UnsupportedLayerError(ValueError):
    """A layer of the model is not piecewise linear, or its translator is missing."""


class Handle(int):
    """Position of a node in the builder; a type of its own, to tell it from a number."""


@dataclass(frozen=True)
class Head:
    """The output of a smooth head such as softmax, and the logits it reads.

    It may only be an output of the model; whatever else reads it is refused. ``layer``
    is how errors name it, ``run`` computes the head of a tensor of logits in Keras.
    """

    logits: int
    function: str
    layer: str
    run: Callable[[Any], Any]


Value = int | Head
LayerTranslator = Callable[
    [Any, NetworkBuilder, Sequence[int], str], "Value | Sequence[Value]"
]

_custom_layers: dict[type, LayerTranslator] = {}
_custom_activations: dict[Any, Callable[[], Pieces]] = {}
_layers: dict[str, LayerTranslator] = {}
_operations: dict[str, Callable[..., Any]] = {}


def register_keras_layer(layer_class: type) -> Callable[[LayerTranslator], LayerTranslator]:
    """Decorator: teach the reader a layer class of your own.

    Parameters
    ----------
    layer_class : type
        A subclass of ``keras.layers.Layer``. Objects of exactly this class are read by
        the decorated function; subclasses are not. A class that Keras ships can be
        registered too and then replaces the built-in translator.

    Returns
    -------
    decorator
        For a function ``translate(layer, builder, sources, name)``. ``layer`` is the
        Keras layer, ``builder`` a :class:`~pyomo_relu.network.NetworkBuilder`,
        ``sources`` the list of handles of the tensors that the layer is called with,
        ``name`` the layer's name. ``builder.nodes[sources[0]].shape`` is a tensor's
        shape without the batch axis; values are flat in C order. It returns the handle
        of the result, or a list of them for a layer with several outputs.

    Raises
    ------
    TypeError
        If ``layer_class`` is no class.

    Examples
    --------
    >>> @register_keras_layer(Halve)                                # doctest: +SKIP
    ... def halve(layer, builder, sources, name):
    ...     x = builder.nodes[sources[0]]
    ...     half = 0.5 * scipy.sparse.eye_array(x.size)
    ...     return builder.affine(name, [(sources[0], half)], shape=x.shape)
    """
    if not isinstance(layer_class, type):
        raise TypeError(
            f"register_keras_layer takes a layer class, not {layer_class!r}; "
            "write @register_keras_layer(MyLayer)."
        )

    def decorate(translator: LayerTranslator) -> LayerTranslator:
        _custom_layers[layer_class] = translator
        return translator

    return decorate


def register_keras_activation(
    activation: Any,
) -> Callable[[Callable[[], Pieces]], Callable[[], Pieces]]:
    """Decorator: teach the reader an activation function of your own.

    Parameters
    ----------
    activation : callable
        The very object that stands in ``Dense(..., activation=activation)``.

    Returns
    -------
    decorator
        For a function without arguments that returns the pieces, as those in
        :mod:`pyomo_relu.network.activations` do. A step takes its right value at the
        breakpoint; check that the activation does the same.

    Raises
    ------
    TypeError
        If ``activation`` can't be called.

    Examples
    --------
    >>> @register_keras_activation(my_step)                         # doctest: +SKIP
    ... def pieces():
    ...     return pyomo_relu.network.activations.step()
    """
    if not callable(activation):
        raise TypeError(
            f"register_keras_activation takes the activation function, not {activation!r}."
        )

    def decorate(pieces: Callable[[], Pieces]) -> Callable[[], Pieces]:
        _custom_activations[activation] = pieces
        return pieces

    return decorate


def translates(*names: str) -> Callable[[LayerTranslator], LayerTranslator]:
    """Decorator for the built-in translators: names of classes in ``keras.layers``."""

    def decorate(translator: LayerTranslator) -> LayerTranslator:
        _layers.update(dict.fromkeys(names, translator))
        return translator

    return decorate


def translates_operation(*names: str) -> Callable[[Callable], Callable]:
    """Decorator for translators of ``keras.ops``: names of Keras' operation classes."""

    def decorate(translator: Callable) -> Callable:
        _operations.update(dict.fromkeys(names, translator))
        return translator

    return decorate


def layer_translator(layer: Any) -> LayerTranslator | None:
    """The translator of exactly this layer's class, or None.

    Raises
    ------
    UnsupportedLayerError
        For a layer of Keras some of whose methods were replaced.
    """
    import keras

    from pyomo_relu.readers.keras.calls import refuse_replaced

    cls = type(layer)
    if cls in _custom_layers:
        return _custom_layers[cls]
    if getattr(keras.layers, cls.__name__, None) is cls and cls.__name__ in _layers:
        refuse_replaced(layer)
        return _layers[cls.__name__]
    return None


def is_custom(layer: Any) -> bool:
    """Whether a user's translator reads this layer."""
    return type(layer) in _custom_layers


def operation_translator(operation: Any) -> Callable[..., Any] | None:
    """The translator of an operation of ``keras.ops`` or ``keras.activations``."""
    cls = type(operation)
    ours = ("keras.src.ops.", "keras.src.activations.")
    if cls.__module__.startswith(ours):
        return _operations.get(cls.__name__)
    return None


def custom_activation(function: Any) -> Callable[[], Pieces] | None:
    """The pieces that a user registered for this activation function, or None."""
    try:
        return _custom_activations.get(function)
    except TypeError:  # not hashable
        return None


def describe(operation: Any) -> str:
    """How errors name a layer or an operation: ``layer 'gru_1' (GRU)``."""
    import keras

    kind = "layer" if isinstance(operation, keras.layers.Layer) else "operation"
    return f"{kind} '{operation.name}' ({type(operation).__name__})"


def refuse(operation: Any, reason: str) -> UnsupportedLayerError:
    """The error for a layer that can't be read; ``reason`` ends the sentence."""
    return UnsupportedLayerError(f"{describe(operation)} {reason}")


def as_numpy(variable: Any) -> np.ndarray:
    """A Keras variable, a tensor of any backend or an array, as a NumPy array.

    Half-precision weights become float64 without loss; integers stay integers.
    """
    import keras

    if isinstance(variable, (Handle, keras.KerasTensor)):
        raise TypeError("a tensor of the model stands where a constant is needed")
    if isinstance(variable, (bool, int, float, np.ndarray, np.generic)):
        array = np.asarray(variable)
    else:
        array = np.asarray(keras.ops.convert_to_numpy(variable))
    return array.astype(np.float64) if array.dtype.kind in "fV" else array


def as_run(value: float) -> float:
    """A Python number as the backend computes with it.

    TensorFlow turns the options of a ReLU or a leaky ReLU into float32 on their way,
    also in a float64 model.
    """
    import keras

    on_tensorflow = keras.config.backend() == "tensorflow"
    return float(np.float32(value)) if on_tensorflow else float(value)
