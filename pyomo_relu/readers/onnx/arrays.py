"""The tensors and attributes that an ONNX file holds, as NumPy arrays and Python values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from pyomo_relu.network.limits import need
from pyomo_relu.readers.naming import first_line

#: Kinds of NumPy dtypes that a tensor may have; "V" are the small floating-point types.
_KINDS = "biufV"


def import_onnx() -> Any:
    """The onnx package, or an error that says how to get it."""
    try:
        import onnx
    except ImportError as error:
        raise ImportError(
            "reading ONNX networks needs the onnx package: pip install 'pyomo_relu[onnx]'."
        ) from error
    return onnx


def node_name(node: Any) -> str:
    """A node's name, or that of its first output, or its type."""
    return node.name or next((o for o in node.output if o), "") or node.op_type


def tensor_array(tensor: Any, what: str) -> np.ndarray:
    """A ``TensorProto`` as an array.

    Parameters
    ----------
    tensor : onnx.TensorProto
    what : str
        How errors name it.

    Raises
    ------
    ValueError
        If it has an unknown type, a shape that its data doesn't have, or data in a file
        that was not read.
    """
    onnx = import_onnx()
    dims = tuple(tensor.dims)
    if tensor.data_location == onnx.TensorProto.EXTERNAL and not tensor.raw_data:
        raise ValueError(
            f"{what} is in another file, which was not read; load the model together with "
            "its external data, or give read_network the path of the model."
        )
    try:
        kind = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).kind
    except Exception:
        raise ValueError(
            f"{what} has the data type {tensor.data_type}, which is not known; export the "
            "model in float32."
        ) from None
    if kind not in _KINDS or tensor.data_type == onnx.TensorProto.STRING:
        label = onnx.TensorProto.DataType.Name(tensor.data_type)
        raise ValueError(f"{what} holds {label}, not real numbers; export it in float32.")
    wrong = f"{what} declares the shape {dims}, but its data is another"
    if min(dims, default=0) < 0:
        raise ValueError(f"{wrong}; export the model again.")
    need(what, passing=16.0 * prod(dims), kept=8.0 * prod(dims))
    try:
        array = onnx.numpy_helper.to_array(tensor)
    except Exception as error:  # protobuf, NumPy and onnx raise what they like
        raise ValueError(
            f"{wrong} ({first_line(error)}); export the model again."
        ) from error
    if array.shape != dims:
        raise ValueError(f"{wrong}; export the model again.")
    return array


def attributes_of(node: Any) -> dict[str, Any]:
    """The attributes of a ``NodeProto`` by name as plain Python values.

    Raises
    ------
    ValueError
        If an attribute can't be read; it names the node.
    """
    onnx = import_onnx()
    found = {}
    for attribute in node.attribute:
        what = (
            f"the attribute '{attribute.name}' of {node.op_type} (node '{node_name(node)}')"
        )
        try:
            value = onnx.helper.get_attribute_value(attribute)
            if isinstance(value, bytes):
                value = value.decode()
        except Exception as error:
            raise ValueError(f"{what} can't be read ({first_line(error)}).") from error
        if isinstance(value, onnx.TensorProto):
            value = tensor_array(value, what)
        elif attribute.type in (attribute.INTS, attribute.FLOATS, attribute.STRINGS):
            value = list(value)
        found[attribute.name] = value
    return found


def graphs_of(attribute: Any) -> list[Any]:
    """The graphs that an attribute of a node holds."""
    return [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def nodes_of(nodes: Iterable[Any]) -> Iterator[Any]:
    """All nodes, those of the graphs inside them too."""
    stack = [iter(nodes)]
    while stack:
        node = next(stack[-1], None)
        if node is None:
            stack.pop()
            continue
        yield node
        for attribute in node.attribute:
            stack.extend(iter(g.node) for g in graphs_of(attribute))


def tensors_of(model: Any) -> Iterator[tuple[Any, str]]:
    """All tensors of a model that may have data in another file, and their names."""
    for initializer in model.graph.initializer:
        yield initializer, f"the weights '{initializer.name}'"
    functions = [node for f in model.functions for node in f.node]
    for node in nodes_of([*model.graph.node, *functions]):
        for attribute in node.attribute:
            own = [attribute.t] if attribute.HasField("t") else []
            inner = [i for g in graphs_of(attribute) for i in g.initializer]
            for tensor in (*own, *attribute.tensors, *inner):
                yield tensor, f"a tensor of node '{node_name(node)}'"


def load_external_data(model: Any, folder: Path, what: str) -> None:
    """Read the weights that stand in other files, all of them in ``folder``.

    Raises
    ------
    ValueError
        If a file is missing, lies outside of the folder, or is too short.
    """
    onnx = import_onnx()
    for tensor, name in tensors_of(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {e.key: e.value for e in tensor.external_data}
        location = entries.get("location", "")
        where = f"{what}: {name}: the file '{location}' of its data"
        length = float(_external_length(folder, location, entries, where))
        need(f"{name}", passing=length, kept=length)
        try:
            onnx.external_data_helper.load_external_data_for_tensor(tensor, str(folder))
        except Exception as error:
            raise ValueError(f"{where} can't be read ({first_line(error)}).") from error
        tensor.data_location = onnx.TensorProto.DEFAULT


def _external_length(
    folder: Path, location: str, entries: dict[str, str], where: str
) -> int:
    """How many bytes are in the file, which must lie in the folder and be long enough."""
    path = folder / location
    if not location or folder.resolve() not in path.resolve().parents:
        raise ValueError(
            f"{where} is not in the folder of the model, and is not read; store the "
            "model with onnx.save(model, path, save_as_external_data=True)."
        )
    if not path.is_file():
        raise ValueError(f"{where} is missing; put it beside the model.")
    held = path.stat().st_size
    try:
        offset = int(entries.get("offset") or 0)
        length = int(entries.get("length") or held - offset)
    except ValueError:
        offset, length = -1, 0
    if offset < 0 or length < 0 or offset + length > held:
        raise ValueError(
            f"{where} is too short: it has {held} bytes, and the model wants "
            f"{entries.get('length')} after {entries.get('offset')}."
        )
    return length
