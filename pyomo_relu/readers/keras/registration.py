"""What reads which Keras layer, operation or activation.

Built-in translators are found by class name, so that Keras is not imported before a
model is read. Users add their own with :func:`register_keras_layer` and
:func:`register_keras_activation`. A class is looked up exactly: a subclass may do
something else than its parent, so it needs a translator of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from pyomo_relu.network import NetworkBuilder
from pyomo_relu.network.activations import Pieces
from pyomo_relu.readers.keras.originals import refuse_replaced
from pyomo_relu.readers.reader_tables import LayerReader
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.values import Tensor

LayerTranslator = Callable[[Any, NetworkBuilder, Sequence[int], str], int | Sequence[int]]

#: What reads the layers of ``keras.layers``, by class name.
LAYERS: dict[str, LayerReader] = {}

#: What reads the operations of ``keras.ops`` and ``keras.activations``, by class name;
#: called with the arguments of the operation.
OPERATIONS: dict[str, LayerReader] = {}

_custom_layers: dict[type, LayerTranslator] = {}
_custom_activations: dict[Any, Callable[[], Pieces]] = {}


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


def layer_reader(layer: Any) -> LayerReader | None:
    """What reads exactly this layer's class, or None.

    Raises
    ------
    UnsupportedLayerError
        For a layer of Keras some of whose methods were replaced.
    """
    import keras

    cls = type(layer)
    if cls in _custom_layers:
        return partial(_read_custom, _custom_layers[cls])
    if getattr(keras.layers, cls.__name__, None) is cls and cls.__name__ in LAYERS:
        refuse_replaced(layer)
        return LAYERS[cls.__name__]
    return None


def _read_custom(
    translator: LayerTranslator, graph: TensorGraph, name: str, layer: Any, *xs: Tensor
) -> Tensor | list[Tensor]:
    """Call a user's translator, which knows handles of the builder's nodes."""
    handles = [graph.shaped(f"{name}_input", x).handle for x in xs]
    found = translator(layer, graph.builder, handles, name)
    several = list(found) if isinstance(found, Sequence) else [found]
    shapes = [graph.builder.nodes[handle].shape for handle in several]
    tensors = [Tensor(int(h), (1, *shape), 0) for h, shape in zip(several, shapes)]
    return tensors if isinstance(found, Sequence) else tensors[0]


def is_custom(layer: Any) -> bool:
    """Whether a user's translator reads this layer."""
    return type(layer) in _custom_layers


def operation_reader(operation: Any) -> LayerReader | None:
    """What reads an operation of ``keras.ops`` or ``keras.activations``, or None."""
    cls = type(operation)
    ours = cls.__module__.startswith(("keras.src.ops.", "keras.src.activations."))
    return OPERATIONS.get(cls.__name__) if ours else None


def custom_activation(function: Any) -> Callable[[], Pieces] | None:
    """The pieces that a user registered for this activation function, or None."""
    try:
        return _custom_activations.get(function)
    except TypeError:  # not hashable
        return None
