"""Models that Keras 2 saved, built anew of the layers of Keras 3.

A file of Keras 2 describes layers by configurations that Keras 3 takes in part only: other
places of classes, options that are gone, functions of TensorFlow as layers. And some of what
has kept its name computes something else. The model is built here, layer by layer and call
by call, and :mod:`.keras_2_weights` gives it its weights, by their names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyomo_relu.network import activations
from pyomo_relu.network.activations import Pieces
from pyomo_relu.network.limits import TooLargeError
from pyomo_relu.readers.keras.describing import UnsupportedLayerError
from pyomo_relu.readers.keras.keras_2_operations import tf_function
from pyomo_relu.readers.keras.registration import LAYERS, register_keras_activation
from pyomo_relu.readers.naming import first_line

#: Layers that may be made, and are refused with their reasons when the model is read.
_NOT_READ = """
    GroupNormalization GRU GRUCell LayerNormalization LSTM LSTMCell SimpleRNNCell
    StackedRNNCells UnitNormalization
""".split()
_MODELS = {"Sequential", "Functional", "Model"}
_FUNCTION_LAYERS = {"TFOpLambda", "SlicingOpLambda"}
#: Options that say how weights begin and how they are trained, by the ends of their names.
_OF_TRAINING = ("_initializer", "_regularizer", "_constraint")
#: Options that Keras 3 doesn't have, with what they must be, or None for anything.
_GONE: dict[str, Any] = {
    "batch_input_shape": None,
    "batch_size": None,
    "dynamic": False,
    "fused": None,
    "groups": 1,
    "implementation": None,
    "input_dim": None,
    "input_length": None,
    "momentum": None,
    "ragged": False,
    "renorm": False,
    "sparse": False,
    "synchronized": False,
    "time_major": False,
    "virtual_batch_size": None,
}
#: Options under another name in Keras 3, of the classes that have them.
_RENAMED = {
    "LeakyReLU": {"alpha": "negative_slope"},
    "ThresholdedReLU": {"theta": "threshold"},
}
_RENAMED_CLASSES = {
    "ThresholdedReLU": "ReLU",
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
}

Tensors = Any


def is_of_keras_2(version: Any) -> bool:
    """Whether a file with this note of Keras' version is one of Keras 2 or older."""
    text = version.decode() if isinstance(version, bytes) else str(version or "")
    return text.split(".")[0] in ("1", "2")


def hard_sigmoid_of_keras_2(x: Any) -> Any:
    """``clip(0.2 x + 0.5, 0, 1)``; Keras 3 computes ``clip(x / 6 + 0.5, 0, 1)``."""
    import keras

    return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)


@register_keras_activation(hard_sigmoid_of_keras_2)
def _pieces_of_hard_sigmoid() -> Pieces:
    return activations.hard_sigmoid(0.2, 0.5)


class Refused(Exception):
    """A part of a model of Keras 2 that has no counterpart; the message names it."""


def model_of_keras_2(description: Mapping[str, Any]) -> Any:
    """The model that a file of Keras 2 describes, with weights to be filled in.

    Parameters
    ----------
    description : mapping
        The JSON object of the file, with ``class_name`` and ``config``.

    Returns
    -------
    model : keras.Model
        :func:`order_of_file` tells the order of its layers in the file.

    Raises
    ------
    UnsupportedLayerError
        A ValueError that names a layer, an option or a function of TensorFlow.
    ValueError
        If the description is damaged.
    """
    try:
        return _model(description)
    except Refused as error:
        raise UnsupportedLayerError(
            f"{error} Load the model in Keras 2 and save it as ONNX, or rebuild it in Keras 3 "
            "and load its weights."
        ) from error
    except TooLargeError:
        raise
    except Exception as error:
        raise ValueError(
            "the description of the model of Keras 2 in the file can't be followed "
            f"({type(error).__name__}: {first_line(error)})."
        ) from error


@dataclass(frozen=True)
class _Order:
    """The layers of a model in the order of the file; None for what is no layer now."""

    layers: tuple[Any, ...]


def order_of_file(model: Any) -> tuple[Any, ...]:
    """The layers of a model that was made here, in the order in which the file has them."""
    order: _Order = model.order_of_file
    return order.layers


def _model(description: Mapping[str, Any]) -> Any:
    """A model of any kind, nested ones too; it notes its layers in their order."""
    kind, config = description["class_name"], description["config"]
    if kind not in _MODELS:
        raise Refused(f"the model is a {kind}, a class of its own.")
    model, layers = _sequential(config) if kind == "Sequential" else _functional(config)
    model.order_of_file = _Order(tuple(layers))
    return model


def _shape(shape: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(shape)[1:]


def _input(config: Mapping[str, Any], name: str | None = None) -> Any:
    import keras

    shape = config.get("batch_input_shape") or config.get("batch_shape")
    if shape is None:
        raise Refused(f"the input '{config.get('name')}' has no shape.")
    dtype = config.get("dtype")
    dtype = dtype if isinstance(dtype, str) else "float32"
    return keras.Input(_shape(shape), dtype=dtype, name=name or config.get("name"))


def _sequential(config: Any) -> tuple[Any, list[Any]]:
    """A chain of layers, called one after the other."""
    import keras

    entries = config if isinstance(config, list) else config["layers"]
    name = None if isinstance(config, list) else config.get("name")
    given, first = None, entries[0]
    if first["class_name"] == "InputLayer":
        given = _input(first["config"])
    layers: list[Any] = []
    for entry in entries:
        if entry["class_name"] != "InputLayer":
            layers.append(_layer(entry))
    if given is None:
        settings = first["config"] if isinstance(first["config"], dict) else {}
        shape = settings.get("batch_input_shape")
        if shape is None and not isinstance(config, list):
            shape = config.get("build_input_shape")
        if shape is None and isinstance(layers[0], keras.Model):
            shape = layers[0].input_shape
        given = _input(
            {
                "name": f"{settings.get('name', 'sequential')}_input",
                "batch_input_shape": shape,
                "dtype": settings.get("dtype"),
            }
        )
    return keras.Sequential([given, *layers], name=name), layers


def _functional(config: Mapping[str, Any]) -> tuple[Any, list[Any]]:
    """A graph of calls of layers."""
    import keras

    graph = _Graph(config["layers"])
    graph.run()
    inputs = [graph.tensor(*place[:3]) for place in _places(config["input_layers"])]
    outputs = [graph.tensor(*place[:3]) for place in _places(config["output_layers"])]
    model = keras.Model(inputs, outputs, name=config.get("name"))
    return model, [graph.layers.get(entry["name"]) for entry in config["layers"]]


def _places(structure: Any) -> list[list[Any]]:
    """``[layer, call, tensor]`` for each of the inputs or outputs of a model."""
    if isinstance(structure, dict):
        structure = list(structure.values())
    if structure and isinstance(structure[0], str):
        return [structure]
    return [place for part in structure for place in _places(part)]


class _Graph:
    """The calls of a functional model."""

    def __init__(self, entries: Sequence[Mapping[str, Any]]) -> None:
        import keras

        #: The layers by their names; inputs and functions of TensorFlow are none.
        self.layers: dict[str, Any] = {}
        #: The tensors that each call of a layer made, by the name of the layer.
        self.made: dict[str, list[list[Any]]] = {}
        self.models: set[str] = set()
        self.waiting: list[tuple[Mapping[str, Any], Any]] = []
        for entry in entries:
            name = entry["name"]
            self.made[name] = []
            if entry["class_name"] == "InputLayer":
                self.made[name].append([_input(entry["config"], name)])
            elif entry["class_name"] not in _FUNCTION_LAYERS:
                self.layers[name] = _layer(entry)
                if isinstance(self.layers[name], keras.Model):
                    self.models.add(name)
            self.waiting += [(entry, node) for node in entry["inbound_nodes"]]

    def run(self) -> None:
        """Make each call once what it reads is there; those of one layer in their order."""
        while self.waiting:
            later: list[tuple[Mapping[str, Any], Any]] = []
            for entry, node in self.waiting:
                blocked = any(e["name"] == entry["name"] for e, _ in later)
                if blocked or not self.call(entry, node):
                    later.append((entry, node))
            if len(later) == len(self.waiting):
                names = sorted({entry["name"] for entry, _ in later})
                raise Refused(f"the layers {names} read what no layer makes.")
            self.waiting = later

    def tensor(self, name: str, call: int, number: int) -> Any:
        """A tensor by its layer, the call, and its number among the results of the call."""
        # A model was called once before, when it was made.
        return self.made[name][call - 1 if name in self.models else call][number]

    def is_made(self, name: str, call: int) -> bool:
        place = call - 1 if name in self.models else call
        if name not in self.made or place < 0:
            raise Refused(f"a layer reads call {call} of '{name}', which doesn't exist.")
        return place < len(self.made[name])

    def is_place(self, value: Any) -> bool:
        """Whether a value is ``[layer, call, tensor]``."""
        return (
            isinstance(value, list)
            and len(value) >= 3
            and isinstance(value[0], str)
            and (value[0] in self.made or value[0] == "_CONSTANT_VALUE")
        )

    def call(self, entry: Mapping[str, Any], node: Any) -> bool:
        """Make one call; False where something that it reads isn't made yet."""
        ready = True

        def resolved(value: Any) -> Any:
            nonlocal ready
            if self.is_place(value):
                if value[0] == "_CONSTANT_VALUE":
                    return value[2]
                if not self.is_made(value[0], value[1]):
                    ready = False
                    return None
                return self.tensor(*value[:3])
            if isinstance(value, list):
                return [resolved(v) for v in value]
            if isinstance(value, dict):
                return {key: resolved(v) for key, v in value.items()}
            return value

        places = [node] if self.is_place(node) else node
        if not all(self.is_place(place) for place in places):
            raise Refused(f"the layer '{entry['name']}' is called in an unknown way.")
        options: dict[str, Any] = {}
        for place in places:
            options.update(resolved(place[3]) if len(place) > 3 else {})
        given = [resolved(place[:3]) for place in places]
        if ready:
            alone = self.is_place(node) or (
                len(given) == 1 and entry["class_name"] not in _FUNCTION_LAYERS
            )
            result = self.result(entry, given[0] if alone else given, options)
            several = isinstance(result, (list, tuple))
            self.made[entry["name"]].append(list(result) if several else [result])
        return ready

    def result(self, entry: Mapping[str, Any], given: Any, options: dict) -> Any:
        """What a layer, or a function of TensorFlow, makes of tensors."""
        name = entry["name"]
        if name in self.layers:
            options = {k: v for k, v in options.items() if v not in (None, False)}
            return self.layers[name](given, **options)
        target = str(entry["config"].get("function"))
        function = tf_function(target)
        options.pop("name", None)
        if function is None:
            raise Refused(f"the layer '{name}' runs the TensorFlow function tf.{target}.")
        try:
            found = function(given, **options)
            _name_after(name, found, (given, options))
            return found
        except (TypeError, ValueError) as error:
            raise Refused(
                f"the layer '{name}' (tf.{target}) can't be written with keras.ops "
                f"({first_line(error)})."
            ) from error


def _name_after(name: str, made: Any, given: Any) -> None:
    """Name the operations between tensors; those that Keras counts may be those of layers."""
    import keras

    known = {id(t) for t in keras.tree.flatten(given)}
    stack, named = list(keras.tree.flatten(made)), 0
    while stack:
        tensor = stack.pop()
        if not isinstance(tensor, keras.KerasTensor) or id(tensor) in known:
            continue
        known.add(id(tensor))
        operation = tensor._keras_history.operation
        operation.name = f"{name}_{named}" if named else name
        named += 1
        stack.extend(
            operation._inbound_nodes[tensor._keras_history.node_index].input_tensors
        )


# ------------------------------------------------------------------- layers by themselves
def _layer(entry: Mapping[str, Any]) -> Any:
    """A layer of Keras 3 with the options of one of Keras 2."""
    kind = str(entry["class_name"])
    if kind in _MODELS:
        return _model(entry)
    config = dict(entry["config"])
    title = f"layer '{config.get('name')}' ({kind})"
    cls = _layer_class(kind, title)
    renamed: dict[str, str] = _RENAMED.get(kind, {})
    options: dict[str, Any] = {}
    for key, value in config.items():
        if not str(key).endswith(_OF_TRAINING):
            options[renamed.get(key, str(key))] = _option(key, value)
    return _made(cls, options, title)


def _layer_class(kind: str, title: str) -> type:
    import keras

    if kind == "Lambda":
        raise Refused(f"{title} may run any code.")
    registered = keras.saving.get_registered_object(kind)
    if isinstance(registered, type):
        return registered
    known = _RENAMED_CLASSES.get(kind, kind)
    cls = getattr(keras.layers, known, None)
    if not isinstance(cls, type):
        raise Refused(f"{title} has no counterpart in Keras 3.")
    # Some layers of Keras load files or run code; only what is read is made at all.
    if known not in LAYERS and known not in _NOT_READ:
        raise Refused(f"{title} is not supported.")
    return cls


def _option(key: str, value: Any) -> Any:
    """An option as Keras 3 wants it: layers as layers, functions by their meaning then."""
    if key in ("activation", "recurrent_activation") and value == "hard_sigmoid":
        return hard_sigmoid_of_keras_2
    if key == "dtype" and isinstance(value, dict):
        return value["config"]["name"]
    if key == "axis" and isinstance(value, list) and len(value) == 1:
        return value[0]
    if isinstance(value, dict) and {"class_name", "config"} <= set(value):
        return _layer(value)
    if key == "cells":
        return [_layer(part) for part in value]
    return value


def _made(cls: type, options: dict[str, Any], title: str) -> Any:
    """The layer; options that Keras 3 doesn't take are left out where that changes nothing."""
    while True:
        try:
            return cls(**options)
        except (TypeError, ValueError) as error:
            text = str(error)
            unknown = [
                key
                for key in options
                if key in _GONE and f"'{key}'" in text and _means_nothing(key, options[key])
            ]
            if not unknown:
                raise Refused(
                    f"{title} can't be made by Keras 3 ({first_line(error)})."
                ) from (error)
            for key in unknown:
                del options[key]


def _means_nothing(key: str, value: Any) -> bool:
    wanted = _GONE[key]
    return wanted is None or value is None or value == wanted
