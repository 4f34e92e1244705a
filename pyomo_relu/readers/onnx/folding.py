"""Operators on constants, by ONNX' own reference implementation.

How large a result will be is inferred first, which computes no entry of it: a constant
of a file of 100 bytes may have any shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from pyomo_relu.network.limits import ENTRY, need
from pyomo_relu.readers.naming import first_line
from pyomo_relu.readers.onnx.arrays import import_onnx, node_name, tensor_array
from pyomo_relu.readers.values import Value

#: Arrays of so many entries are shapes, axes and the like; their values are looked at
#: when the shape of a result is inferred.
_SHAPES = 1000

#: Bytes that an entry of a result takes while it is computed.
_COMPUTED = 40

#: Operators that the reference implementation computes entry by entry in Python, at some
#: 50 microseconds each (Resize, measured), and the entries that are waited for.
_SLOW = set(
    """
    AffineGrid Col2Im GRU GridSample LSTM LRN MaxRoiPool MaxUnpool NonMaxSuppression RNN
    Resize RoiAlign StringNormalizer TfIdfVectorizer Upsample
    """.split()
)
_PATIENCE = 50_000

#: The reference implementation has no DequantizeLinear of operator sets before this one.
_DEQUANTIZED = 19

#: Operators that run other graphs, as often as they like.
_CONTROL = {"If", "Loop", "Scan", "SequenceMap"}


def run_node(
    proto: Any, inputs: Sequence[Value | None], opsets: Any, what: str, keep: bool = False
) -> list[np.ndarray]:
    """Compute one node on arrays.

    Parameters
    ----------
    proto : onnx.NodeProto
    inputs : sequence of array or None
    opsets : sequence of onnx.OperatorSetIdProto
    what : str
        How errors name the model.
    keep : bool
        Whether the results are kept.

    Raises
    ------
    ValueError
        If it can't be computed, or makes more than may be held; it names the node.
    """
    where = f"{what}: ONNX operator {proto.op_type} (node '{node_name(proto)}')"
    arrays = {n: np.asarray(v) for n, v in zip(proto.input, inputs) if n}
    if proto.op_type in _CONTROL:
        raise ValueError(f"{where} is control flow, which is not read; trace the model.")
    if proto.op_type == "Constant":
        return [_constant(proto, where)]
    if proto.op_type == "DequantizeLinear" and _version(opsets) < _DEQUANTIZED:
        return [_dequantized(proto, inputs, where)]
    return _referred(proto, arrays, opsets, where, keep)


def _referred(
    proto: Any, arrays: dict[str, np.ndarray], opsets: Any, where: str, keep: bool
) -> list[np.ndarray]:
    """What the reference implementation makes of one node, once its size is known."""
    entries = _entries(proto, arrays, opsets)
    # What is not kept are positions of entries, of which a layer is made next.
    each, kept = (_COMPUTED, 8.0 * entries) if keep else (ENTRY, 0.0)
    need(where, passing=each * entries, kept=kept)
    if proto.op_type in _SLOW and entries > _PATIENCE:
        raise ValueError(
            f"{where} makes a constant of {entries:.0f} entries, which takes too long here; "
            "export the model with constant folding."
        )
    found = _run(proto, arrays, opsets, where)
    for name in filter(None, proto.output):
        if not isinstance(found.get(name), np.ndarray) or found[name].dtype.kind in "OUS":
            raise ValueError(f"{where} makes something else than an array of numbers.")
    return [found[o] if o else np.zeros(0) for o in proto.output]


def _version(opsets: Any) -> int:
    return next((o.version for o in opsets if o.domain in ("", "ai.onnx")), 0)


def _dequantized(proto: Any, inputs: Sequence[Value | None], where: str) -> np.ndarray:
    """``(x - zero_point) * scale``, one of each for a tensor or along an axis."""
    x, scale, *rest = (None if v is None else np.asarray(v) for v in inputs)
    assert x is not None and scale is not None
    need(where, passing=_COMPUTED * float(x.size), kept=8.0 * x.size)
    axis = next((int(a.i) for a in proto.attribute if a.name == "axis"), 1)
    zero = rest[0] if rest and rest[0] is not None else np.zeros(scale.shape, x.dtype)
    if scale.size > 1 and x.ndim:
        if not -x.ndim <= axis < x.ndim or x.shape[axis] != scale.size:
            raise ValueError(f"{where} has {scale.size} scales for the shape {x.shape}.")
        along = [1] * x.ndim
        along[axis] = -1
        scale, zero = scale.reshape(along), zero.reshape(along)
    return (x.astype(np.int64) - zero.astype(np.int64)).astype(scale.dtype) * scale


def _constant(proto: Any, where: str) -> np.ndarray:
    """What a Constant holds, under any of its attributes."""
    onnx = import_onnx()
    kinds = {
        "value_float": np.float32,
        "value_floats": np.float32,
        "value_int": np.int64,
        "value_ints": np.int64,
    }
    for attribute in proto.attribute:
        if attribute.name == "value" and attribute.HasField("t"):
            return tensor_array(attribute.t, where)
        if attribute.name in kinds:
            value = onnx.helper.get_attribute_value(attribute)
            return np.asarray(value, dtype=kinds[attribute.name])
    raise ValueError(f"{where} holds no dense tensor of numbers.")


def _model(proto: Any, arrays: dict[str, np.ndarray], opsets: Any, known: bool) -> Any:
    """A model of one node; ``known`` gives it the values of small arrays."""
    onnx = import_onnx()
    helper, none = onnx.helper, onnx.TensorProto.UNDEFINED
    infos, constants = [], []
    for name, array in arrays.items():
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        infos.append(helper.make_tensor_value_info(name, kind, array.shape))
        if known and array.size <= _SHAPES:
            constants.append(onnx.numpy_helper.from_array(array, name))
    results = [helper.make_tensor_value_info(o, none, None) for o in proto.output if o]
    graph = helper.make_graph([proto], "node", infos, results, constants)
    return helper.make_model(graph, opset_imports=list(opsets))


def _entries(proto: Any, arrays: dict[str, np.ndarray], opsets: Any) -> float:
    """How many entries all results have together; where unknown, those of the inputs."""
    onnx = import_onnx()
    given = sum(float(a.size) * max(a.ndim, 1) for a in arrays.values())
    try:
        model = _model(proto, arrays, opsets, known=True)
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception:
        # What can't be inferred can't be computed either; the error comes from there.
        return given
    total = given
    for output in graph.output:
        dims = [d.dim_value for d in output.type.tensor_type.shape.dim]
        total += float(prod(max(d, 1) for d in dims))
    return total


def _run(
    proto: Any, arrays: dict[str, np.ndarray], opsets: Any, where: str
) -> dict[str, Any]:
    from onnx.reference import ReferenceEvaluator

    outputs = [o for o in proto.output if o]
    try:
        evaluator = ReferenceEvaluator(_model(proto, arrays, opsets, known=False))
        with np.errstate(all="ignore"):
            found = evaluator.run(None, arrays)
    except Exception as error:
        raise ValueError(f"{where} can't be computed: {first_line(error)}") from error
    return {
        name: value if isinstance(value, list) else np.asarray(value)
        for name, value in zip(outputs, found)
    }
