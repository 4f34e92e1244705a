"""The weights in a file of Keras 2, for a model of Keras 3.

The two versions order the layers of a graph differently, so weights are found by names: of
layers and weights in ``.h5`` files, of classes, counted in the order of the file, in
``.keras`` archives. Every weight of the model must be found, with its shape.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

#: Names of weights in Keras 2 where Keras 3 has others.
_RENAMED = {"depthwise_kernel": "kernel", "sn_u": "vector_u"}
#: Weights that nothing is computed with at inference.
_UNUSED = {"count"}
#: Under which names an archive may keep the layers of a model.
_CONTAINERS = ("layers", "_layer_checkpoint_dependencies")


class WeightsDontFit(ValueError):
    """The file has other weights than its description says."""


class Filled:
    """Which weights of a model have their values already."""

    def __init__(self) -> None:
        self.done: set[int] = set()

    def assign(self, variable: Any, value: Any, where: str) -> None:
        """Give a weight its value; ``where`` says in errors what it is."""
        array = np.asarray(value)
        if tuple(array.shape) != tuple(variable.shape):
            raise WeightsDontFit(
                f"{where} has the shape {tuple(array.shape)}, and needs "
                f"{tuple(variable.shape)}."
            )
        variable.assign(array)
        self.done.add(id(variable))

    def check(self, model: Any) -> None:
        """Raise unless each weight of the model has its value."""
        missing = [v.path for v in model.weights if id(v) not in self.done]
        if missing:
            raise WeightsDontFit(f"the file has no weights for {missing[:3]}.")


# ------------------------------------------------------------------------------ .h5 files
def fill_from_h5(model: Any, file: Any) -> None:
    """Fill a model from the group of weights of an ``.h5`` file.

    Raises
    ------
    WeightsDontFit
        A ValueError that names a layer.
    """
    group = file["model_weights"] if "model_weights" in file else file
    filled = Filled()
    for name in _texts(group, "layer_names"):
        part = group[name]
        names = _texts(part, "weight_names")
        if names:
            layer = _layer_named(model, name)
            _by_names(layer, [(n, part[n][()]) for n in names], filled)
    filled.check(model)


def _texts(group: Any, key: str) -> list[str]:
    """A list of texts among the attributes, which may be cut into several."""
    parts = [group.attrs[key]] if key in group.attrs else []
    while not parts or f"{key}{len(parts)}" in group.attrs:
        if f"{key}{len(parts)}" not in group.attrs:
            break
        parts.append(group.attrs[f"{key}{len(parts)}"])
    flat = [entry for part in parts for entry in part]
    return [t.decode() if isinstance(t, bytes) else str(t) for t in flat]


def _layer_named(model: Any, name: str) -> Any:
    found = [layer for layer in model.layers if layer.name == name]
    if len(found) != 1:
        raise WeightsDontFit(f"the file has weights of a layer '{name}' that it lacks.")
    return found[0]


def _by_names(layer: Any, given: Sequence[tuple[str, Any]], filled: Filled) -> None:
    """Fill a layer from weights by names such as ``dense/kernel:0``."""
    import keras

    if not isinstance(layer, keras.Model):
        _own_by_names(layer, given, filled)
        return
    inner: dict[str, list[tuple[str, Any]]] = {}
    for name, value in given:
        inner.setdefault(_owner(layer, name), []).append((name, value))
    for owner, part in inner.items():
        _by_names(_layer_named(layer, owner), part, filled)


def _own_by_names(layer: Any, given: Sequence[tuple[str, Any]], filled: Filled) -> None:
    """Fill a layer that is no model; weights of one name come in their order."""
    named = [(_last(name), value) for name, value in given if _last(name) not in _UNUSED]
    variables = _used([*layer.trainable_weights, *layer.non_trainable_weights])
    wanted = [v.name for v in variables]
    if len(set(wanted)) == len(wanted):
        named.sort(key=lambda entry: wanted.index(entry[0]) if entry[0] in wanted else -1)
    if [name for name, _ in named] != wanted:
        raise WeightsDontFit(
            f"the layer '{layer.name}' has the weights {[n for n, _ in named]} in the file, "
            f"and needs {wanted}."
        )
    for variable, (_, value) in zip(variables, named):
        filled.assign(variable, value, f"a weight of layer '{layer.name}'")


def _used(variables: Sequence[Any]) -> list[Any]:
    return [v for v in variables if v.name not in _UNUSED]


def _owner(model: Any, name: str) -> str:
    """The layer of a model that a weight of this name belongs to."""
    layers = {layer.name for layer in model.layers}
    parts = [part for part in name.split("/")[:-1] if part in layers]
    if not parts:
        raise WeightsDontFit(f"the weight '{name}' belongs to no layer of '{model.name}'.")
    return parts[0]


def _last(name: str) -> str:
    last = name.split("/")[-1].split(":")[0]
    return _RENAMED.get(last, last)


# -------------------------------------------------------------------------- .keras archives
def fill_from_archive(model: Any, order: Any, file: Any) -> None:
    """Fill a model from the ``model.weights.h5`` of a ``.keras`` archive.

    Parameters
    ----------
    model : keras.Model
    order : callable
        The layers of a model in the order of the file.
    file : h5py.File
    """
    filled = Filled()
    _fill(model, order, file, filled)
    filled.check(model)


def _fill(layer: Any, order: Any, group: Any, filled: Filled) -> None:
    import keras

    if isinstance(layer, keras.Model):
        container = next((group[key] for key in _CONTAINERS if key in group), None)
        if container is not None:
            _fill_all(order(layer), order, container, filled)
        return
    _fill_own(layer, group, filled)
    for key in group:
        if key == "vars" or not _has_weights(group[key]):
            continue
        inner = getattr(layer, key, None)
        if isinstance(inner, (list, tuple)):
            _fill_all(inner, order, group[key], filled)
        elif isinstance(inner, keras.layers.Layer):
            _fill(inner, order, group[key], filled)
        else:
            raise WeightsDontFit(f"the layer '{layer.name}' has no part '{key}'.")


def _fill_own(layer: Any, group: Any, filled: Filled) -> None:
    """Fill the weights that a layer has itself, from arrays that are numbered."""
    own = _used([*layer._trainable_variables, *layer._non_trainable_variables])
    values = list(_values(group))
    if len(values) == len(own) + 1 and _is_count(values[-1]):
        values.pop()  # of Normalization, the last of three
    if len(own) != len(values):
        raise WeightsDontFit(
            f"the layer '{layer.name}' has {len(values)} weights in the file, and needs "
            f"{len(own)}."
        )
    for variable, value in zip(own, values):
        filled.assign(variable, value, f"a weight of layer '{layer.name}'")


def _fill_all(layers: Sequence[Any], order: Any, container: Any, filled: Filled) -> None:
    """Fill layers from groups named by their classes, with numbers in their order.

    A version of Keras 2 counts a layer twice. The order stays, so the layers of a class
    that have weights go with the groups of that class that have some.
    """
    groups: dict[str, list[Any]] = {}
    for name in sorted(container, key=_numbered):
        if _has_weights(container[name]):
            groups.setdefault(_numbered(name)[0], []).append(container[name])
    by_class: dict[str, list[Any]] = {}
    for layer in layers:
        if layer is not None and layer.weights:
            by_class.setdefault(_snake_case(type(layer).__name__), []).append(layer)
    for kind, given in groups.items():
        wanted = by_class.pop(kind, [])
        if len(wanted) != len(given):
            raise WeightsDontFit(
                f"the file has weights of {len(given)} layers {kind}, and describes "
                f"{len(wanted)}."
            )
        for layer, group in zip(wanted, given):
            _fill(layer, order, group, filled)


def _numbered(name: str) -> tuple[str, int]:
    """``("dense", 2)`` for ``dense_2``."""
    found = re.fullmatch(r"(.*?)_(\d+)", name)
    return (found.group(1), int(found.group(2))) if found else (name, 0)


def _snake_case(name: str) -> str:
    """A class as Keras names it in archives: ``conv2d_transpose`` for Conv2DTranspose."""
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _values(group: Any) -> Iterator[Any]:
    """The weights that a group has itself, in their order."""
    held = group["vars"] if "vars" in group else {}
    for key in sorted(held, key=int):
        yield held[key][()]


def _is_count(value: Any) -> bool:
    return np.ndim(value) == 0 and np.asarray(value).dtype.kind in "iu"


def _has_weights(group: Any) -> bool:
    """Whether a group holds a dataset anywhere."""
    if not hasattr(group, "keys"):
        return True
    return any(_has_weights(group[key]) for key in group)
