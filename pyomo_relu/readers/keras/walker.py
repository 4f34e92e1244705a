"""`read_keras`: from a Keras model, built or saved, to a network.

A model is read by following each output tensor back to the inputs, call by call. A
layer called twice is translated twice, a nested model is walked in place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pyomo_relu.network import Network
from pyomo_relu.network.limits import memory_limit, need_entries
from pyomo_relu.readers.checking import built
from pyomo_relu.readers.keras.activation_functions import as_unit
from pyomo_relu.readers.keras.calls import refuse_masks, tensor_arguments
from pyomo_relu.readers.keras.describing import UnsupportedLayerError, describe, refuse
from pyomo_relu.readers.keras.loading import import_keras, load_model
from pyomo_relu.readers.keras.originals import has_own_call, model_call_is_original
from pyomo_relu.readers.keras.registration import (
    LAYERS,
    is_custom,
    layer_reader,
    operation_reader,
)
from pyomo_relu.readers.keras.running import KerasModel, Step
from pyomo_relu.readers.keras.tracing import built_shapes, no_traces_left, traced
from pyomo_relu.readers.moves import move
from pyomo_relu.readers.naming import first_line, naming
from pyomo_relu.readers.reader_tables import enter
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.values import Head, Tensor, head_of

# Importing these modules fills the tables.
from pyomo_relu.readers.keras import (  # noqa: F401  isort: skip
    category_layers,
    operations,
    plain_layers,
    recurrent_layers,
    window_layers,
)

Result = Tensor | Head

_DIVIDES = (
    "it divides by the {} of its own input, which is not piecewise linear. Train with "
    "BatchNormalization, whose statistics are constants at inference, instead."
)
#: Why layers of Keras are not read, where more can be said than that.
_REASONS = {
    "LayerNormalization": _DIVIDES.format("standard deviation"),
    "GroupNormalization": _DIVIDES.format("standard deviation"),
    "RMSNormalization": _DIVIDES.format("root mean square"),
    "UnitNormalization": _DIVIDES.format("norm"),
    **dict.fromkeys(
        ("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"),
        "gates that are convolutions are not read. Train an LSTM or a GRU on what a "
        "convolution makes of each step, instead.",
    ),
    **dict.fromkeys(
        ("Attention", "AdditiveAttention", "GroupQueryAttention", "MultiHeadAttention"),
        "it weights by a softmax, which is no function of one entry. Train a dense or "
        "convolutional network, or an LSTM or a GRU, instead.",
    ),
    **dict.fromkeys(
        ("StringLookup", "TextVectorization", "Hashing", "HashedCrossing"),
        "it reads text or a hash, and the inputs of a network are numbers. Train on "
        "integers, with Embedding or CategoryEncoding.",
    ),
    "Dot": "it is a matrix product of tensors that depend on the input; write it as Multiply "
    "and a sum.",
    "Lambda": "it may run any code. Write the function with keras.ops on the tensors of "
    "the functional API, or describe the layer with register_keras_layer.",
}


def _of_keras(layer: Any) -> bool:
    return type(layer).__module__.startswith("keras.src.")


def read_keras(
    source: Any,
    *,
    logits: bool = False,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    check_reading: bool = True,
    max_memory: float | None = None,
) -> Network:
    """Read a Keras model.

    Parameters
    ----------
    source : keras.Model, str or Path
        A built Sequential or functional model on any backend, a subclass with a call
        that can be traced and that was called on data, or the path of a
        ``.keras`` archive or a legacy ``.h5`` file. Keras' safe mode stays on.
    logits, input_names, output_names, check_reading, max_memory
        As in :func:`~pyomo_relu.read_network`; ``max_memory`` is for files only.

    Returns
    -------
    Network
        One input node for each input of the model, named like its input layer. Tensors
        are flattened in C order in the model's own data format, several outputs follow
        each other in the order of ``model.outputs``.

    Raises
    ------
    UnsupportedLayerError
        A ValueError that names the layer and its type.
    ValueError
        For an unbuilt model, an input without fixed shape, NaN weights, a bad file, and
        where the network differs from the model.
    ImportError
        If Keras 3 is missing.

    Notes
    -----
    The weights become float64 and the network is evaluated in float64. A model with a
    lower compute precision (the policy ``mixed_float16``, say) keeps float32
    variables; those are read, and the model's own rounding in between is not imitated.
    """
    keras = import_keras()
    if isinstance(source, (str, Path)):
        with memory_limit(f"'{source}'", max_memory):
            model = load_model(source)
            return _read(model, logits, input_names, output_names, check_reading)
    if not isinstance(source, keras.Model):
        raise TypeError(
            f"read_keras takes a Keras 3 model or the path of one, not {type(source)}."
        )
    if max_memory is not None:
        raise ValueError(
            "max_memory= is for files; a model that is in memory is read whatever its size."
        )
    return _read(source, logits, input_names, output_names, check_reading)


def _read(
    model: Any,
    logits: bool,
    input_names: Sequence[str] | None,
    output_names: Sequence[str] | None,
    check_reading: bool,
) -> Network:
    """The network of a model that is in memory; see :func:`read_keras`."""
    if not has_own_call(model):
        return _read_graph(model, model, logits, input_names, output_names, check_reading)
    with no_traces_left(model):
        graph = traced(model, built_shapes(model))
        return _read_graph(graph, model, logits, input_names, output_names, check_reading)


def _read_graph(
    model: Any,
    source: Any,
    logits: bool,
    input_names: Sequence[str] | None,
    output_names: Sequence[str] | None,
    check_reading: bool,
) -> Network:
    """The network of a model that is a graph, or was traced of ``source`` as one."""
    _check_model(model)
    graph = TensorGraph(all(str(t.dtype) != "float64" for t in model.inputs))
    inputs = [_input(graph, model, tensor) for tensor in model.inputs]
    steps: list[Step] = []
    values = _read_model(model, graph, inputs, steps)
    outputs = []
    if not logits:
        values = [as_unit(v, "logits=True reads the model up to it.") for v in values]
    for tensor, value in zip(model.outputs, values):
        value = value.logits if isinstance(value, Head) else value
        outputs.append(graph.shaped(tensor._keras_history.operation.name, value))
    return built(
        graph,
        outputs,
        partial(KerasModel, model, steps, values, source) if check_reading else None,
        input_names=input_names,
        output_names=output_names,
        head=head_of(values),
    )


def _check_model(model: Any) -> None:
    """Raise unless ``model`` is nothing but a graph of layer calls."""
    import keras

    what = f"model '{model.name}' ({type(model).__name__})"
    if not model_call_is_original(model):
        raise UnsupportedLayerError(
            f"{what} has its own call method, which can't be read as a graph; build it "
            "with keras.Sequential or the functional API, or register it with "
            "register_keras_layer if it is a part of a model."
        )
    if isinstance(model, keras.Sequential):
        if not model.built or getattr(model, "_functional", None) is None:
            raise ValueError(
                f"{what} is not built; give its first layer an Input(shape=...), or "
                "call model.build((None, n_inputs))."
            )


def _input(graph: TensorGraph, model: Any, tensor: Any) -> Tensor:
    name = tensor._keras_history.operation.name
    shape = tuple(tensor.shape)[1:]
    if any(n is None for n in shape):
        raise ValueError(
            f"input '{name}' of model '{model.name}' has shape {tuple(tensor.shape)}; "
            "every axis but the batch axis needs a fixed length, so rebuild the model "
            "with Input(shape=...)."
        )
    dtype = str(tensor.dtype)
    if "float" not in dtype and dtype not in ("int16", "int32", "int64"):
        raise ValueError(
            f"input '{name}' of model '{model.name}' has dtype {dtype}, which is not "
            "supported; rebuild the model with an Input of float32, or of int32 for "
            "categories."
        )
    x = graph.input(name, (1, *shape), 0)
    return x if "float" in dtype else graph.declared_integers(x)


def _ordered_calls(tensors: Iterable[Any], known: dict[int, Result]) -> list[Any]:
    """The calls that lead to ``tensors``, each after those it depends on."""
    order: list[Any] = []
    done: set[int] = set()
    stack = [(t, False) for t in reversed(list(tensors))]
    while stack:
        tensor, expanded = stack.pop()
        if id(tensor) in known:
            continue
        history = tensor._keras_history
        node = history.operation._inbound_nodes[history.node_index]
        if id(node) in done:
            continue
        if expanded:
            done.add(id(node))
            order.append(node)
            continue
        stack.append((tensor, True))
        stack.extend((t, False) for t in reversed(node.input_tensors))
    return order


def _read_model(
    model: Any, graph: TensorGraph, inputs: Sequence[Tensor], steps: list[Step]
) -> list[Result]:
    """Translate a Sequential or functional model; one value for each output.

    Each call is added to ``steps``.
    """
    known: dict[int, Result] = {id(t): v for t, v in zip(model.inputs, inputs)}
    calls = _ordered_calls(model.outputs, known)
    refuse_masks(calls)
    for node in calls:
        for tensor in node.outputs:
            shape = [n or 1 for n in tensor.shape]
            need_entries(f"{describe(node.operation)} of shape {tuple(shape)}", shape)
        step = _translate(node, graph, known)
        steps.append(step)
        for tensor, value in zip(node.outputs, step.values):
            known[id(tensor)] = value
    return [known[id(t)] for t in model.outputs]


def _translate(node: Any, graph: TensorGraph, known: dict[int, Result]) -> Step:
    """Translate one call; the values are one for each of its output tensors."""
    import keras

    operation = node.operation
    if not node.input_tensors:
        raise refuse(operation, "is not connected to an input of the model.")

    def lookup(argument: Any) -> Any:
        if not isinstance(argument, keras.KerasTensor):
            return argument
        remedy = (
            f"{describe(operation)} reads its result, so logits=True can't leave it out; "
            "retrain with another activation there."
        )
        return as_unit(known[id(argument)], remedy)

    args, kwargs = node.arguments.convert(lookup)
    inner: list[Step] | None = None
    if (
        isinstance(operation, keras.Model)
        and has_own_call(operation)
        and not is_custom(operation)
    ):
        values = _translate_traced(operation, graph, args, kwargs)
    elif isinstance(operation, keras.Model) and not is_custom(operation):
        inner = []
        values = _translate_model(operation, graph, args, kwargs, inner)
    elif isinstance(operation, keras.layers.Layer):
        values = _translate_layer(operation, graph, args, kwargs)
    else:
        values = _translate_operation(operation, graph, args, kwargs)
    if len(values) != len(node.outputs):
        raise refuse(
            operation,
            f"has {len(node.outputs)} outputs, but its translator returned {len(values)}.",
        )
    for tensor, value in zip(node.outputs, values):
        _check_shape(operation, tensor, value)
    return Step(node, values, inner)


def _unreadable(operation: Any, error: Exception) -> UnsupportedLayerError:
    parts = operation._flatten_layers() if hasattr(operation, "_flatten_layers") else ()
    unbuilt = [part.name for part in parts if not part.built]
    remedy = f"; '{unbuilt[0]}' is not built, call the model on data" if unbuilt else ""
    return refuse(
        operation,
        f"can't be read as it is ({type(error).__name__}: {first_line(error)}){remedy}.",
    )


def _check_shape(operation: Any, tensor: Any, value: Result) -> None:
    """Each result has the shape that Keras computed for it."""
    expected = tuple(tensor.shape)[1:]
    shape = (value.logits if isinstance(value, Head) else value).sample_shape
    fits = len(shape) == len(expected) and all(
        e is None or e == s for e, s in zip(expected, shape)
    )
    if not fits:
        raise refuse(
            operation,
            f"was translated to a tensor of shape {shape}, but Keras says {expected}; "
            "its translator is wrong.",
        )


def _translated(
    read: Any, operation: Any, graph: TensorGraph, args: Any, kwargs: Any
) -> list[Result]:
    """What an entry of a table makes of a call, as a list."""
    result = read(graph, operation.name, operation, *args, **kwargs)
    return list(result) if isinstance(result, (list, tuple)) else [result]


def _translate_operation(
    operation: Any, graph: TensorGraph, args: Any, kwargs: Any
) -> list[Result]:
    """Translate one call of an operation of ``keras.ops``."""
    read = operation_reader(operation)
    if read is None:
        raise refuse(
            operation,
            "is not supported; it is not piecewise linear or not known. Use a layer "
            "instead, or put it into a layer of your own with register_keras_layer.",
        )
    with _naming(operation):
        return _translated(read, operation, graph, args, kwargs)


def _translate_layer(
    layer: Any, graph: TensorGraph, args: Any, kwargs: Any
) -> list[Result]:
    """Translate one call of a layer that is no model."""
    read = layer_reader(layer)
    if read is None:
        reason = _REASONS.get(type(layer).__name__) if _of_keras(layer) else None
        if reason is not None:
            raise refuse(layer, f"is not supported: {reason}")
        raise refuse(
            layer,
            "is not supported; it is not piecewise linear or not known. If it is "
            "piecewise linear, describe it with register_keras_layer.",
        )
    if getattr(layer, "quantization_mode", None) is not None:
        raise refuse(
            layer,
            f"is quantized ({layer.quantization_mode}), which rounds its inputs; read "
            "the model before it is quantized.",
        )
    with _naming(layer):
        sources = tensor_arguments(layer, args, kwargs)
        return _translated(read, layer, graph, sources, {})


def _naming(operation: Any) -> Any:
    """Errors inside name the operation."""
    make = partial(_unreadable, operation)
    return naming(make, f"'{operation.name}", known=UnsupportedLayerError)


def _translate_model(
    model: Any, graph: TensorGraph, args: Any, kwargs: Any, steps: list[Step]
) -> list[Result]:
    """Translate one call of a nested model; its calls are added to ``steps``."""
    _check_model(model)
    struct = getattr(model, "_inputs_struct", None)
    if len(args) == 1 and isinstance(args[0], dict) and not isinstance(struct, dict):
        try:
            args = ([args[0][t.name] for t in model.inputs],)
        except KeyError as e:
            raise refuse(model, f"is called with a dictionary that lacks {e}.") from e
    sources = tensor_arguments(model, args, kwargs)
    if len(sources) != len(model.inputs):
        raise refuse(
            model, f"has {len(model.inputs)} inputs but is called with {len(sources)}."
        )
    for source, tensor in zip(sources, model.inputs):
        shape, expected = source.sample_shape, tuple(tensor.shape)[1:]
        # Keras drops or adds a last axis of length 1 when it runs the model, but not
        # when it computes shapes; such a model contradicts itself.
        if len(shape) != len(expected):
            raise refuse(
                model, f"expects inputs of shape {expected}, but is given {shape}."
            )
    return _read_model(model, graph, sources, steps)


def _translate_traced(
    model: Any, graph: TensorGraph, args: Any, kwargs: Any
) -> list[Result]:
    """Translate one call of a nested model with a call method of its own."""
    sources = tensor_arguments(model, args, kwargs)
    shapes = [source.sample_shape for source in sources]
    with no_traces_left(model):
        inner = traced(model, shapes[0] if len(shapes) == 1 else shapes)
        return _read_model(inner, graph, sources, [])


@enter(LAYERS, "SpectralNormalization")
def spectral_normalization(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Any:
    """The inner layer, with the kernel that the last step of training left."""
    return _translate_layer(layer.layer, graph, (x,), {})


@enter(LAYERS, "TimeDistributed")
def time_distributed(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Any:
    """The inner layer on each step of the first axis after the batch."""
    import keras

    inner = layer.layer
    if layer_reader(inner) is LAYERS["Dense"] and len(x.shape) > 2:
        # Acts along the last axis only, so all steps are one affine node.
        return LAYERS["Dense"](graph, name, inner, x)
    results = []
    for t in range(x.shape[1]):
        step = graph.rearrange(f"{name}_{t}", [x], x.index[:, t], batch=0)
        if isinstance(inner, keras.Model):
            values = _translate_model(inner, graph, (step,), {}, [])
        else:
            values = _translate_layer(inner, graph, (step,), {})
        if len(values) != 1:
            raise refuse(layer, "wraps a layer with several outputs.")
        results.append(as_unit(values[0], "retrain with another one."))
    return move(graph, name, results, lambda codes: [np.stack(codes, 1)])[0]
