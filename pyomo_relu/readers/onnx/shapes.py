"""ONNX operators that move entries, and the ones that ask for a shape.

Most run in ONNX' own reference implementation, on the positions of the entries instead
of their values: every attribute and opset then means here what it means there.
"""

from __future__ import annotations

import numpy as np

from pyomo_relu.readers import spatial
from pyomo_relu.readers.affine_graph import normalized_axis
from pyomo_relu.readers.categories import looked_up
from pyomo_relu.readers.moves import move
from pyomo_relu.readers.onnx.node import OnnxNode, register_onnx_operator
from pyomo_relu.readers.values import Tensor, Value

_INTEGERS = {5, 6, 7}
_FLOATS = {1: "float", 10: "float16", 11: "double", 16: "bfloat16"}


_MOVES = """
    Concat DepthToSpace Expand Flatten Gather GatherElements GatherND Reshape Slice
    SpaceToDepth Split Tile Transpose Unsqueeze
""".split()


@register_onnx_operator(*_MOVES)
def rearrangement(node: OnnxNode) -> list[Value]:
    """Any operator whose result holds entries of its inputs and nothing else."""
    if node.operator == "Concat":
        data = [v for v in node.inputs if v is not None]
        return move(node.graph, node.name, data, node.run)
    if node.operator == "Gather" and isinstance(node.value(1), Tensor):
        return [_table(node)]
    x = node.tensor(0)
    arguments = [node.constant(k, f"input {k}") for k in range(1, len(node.inputs))]
    if node.operator in ("Flatten", "Reshape", "Unsqueeze"):
        [codes] = node.run([x.index, *arguments])
        return [node.graph.reshape(x, codes.shape, node.name)]
    return move(node.graph, node.name, [x], lambda codes: node.run([*codes, *arguments]))


def _table(node: OnnxNode) -> Tensor:
    """Rows of a constant table at inputs that are integers, as embeddings are exported."""
    table = np.asarray(node.constant(0, "table"), dtype=float)
    axis = node.attributes.get("axis", 0)
    if axis != 0 or not table.ndim:
        raise node.error("positions that depend on the input are read along axis 0 only")
    x = node.tensor(1)
    rows = table.reshape(len(table), -1)
    made = looked_up(node.graph, node.name, x, np.arange(len(rows), dtype=float), rows)
    return node.graph.reshape(made, (*x.shape, *table.shape[1:]), node.name)


@register_onnx_operator("OneHot")
def one_hot(node: OnnxNode) -> Tensor:
    """One of two values for each integer below ``depth``, for inputs that are integers."""
    depth, values = node.constant(1, "depth"), node.constant(2, "values")
    x, axis = node.tensor(0), node.attributes.get("axis", -1)
    if axis not in (-1, len(x.shape)):
        raise node.error(f"only its axis -1 is read, not {axis}")
    n = int(np.asarray(depth).reshape(()))
    off, on = np.asarray(values, dtype=float)
    rows = off + (on - off) * np.eye(n)
    return looked_up(node.graph, node.name, x, np.arange(n, dtype=float), rows)


@register_onnx_operator("Squeeze")
def squeeze(node: OnnxNode) -> Tensor:
    """A tensor without some axes of length 1."""
    x = node.tensor(0)
    rank = len(x.shape)
    axes = node.integers(1, "axes")
    if axes is None:
        # A batch axis has length 1 only here, so it isn't one to squeeze.
        gone = {a for a, n in enumerate(x.shape) if n == 1 and a != x.batch}
    else:
        gone = {normalized_axis(a, rank, node.name) for a in axes}
        if any(x.shape[a] != 1 for a in gone):
            raise node.error(f"axes {axes} of shape {x.shape} don't have length 1")
    kept = [a for a in range(rank) if a not in gone]
    batch = kept.index(x.batch) if x.batch in kept else None
    return Tensor(x.handle, tuple(x.shape[a] for a in kept), batch)


@register_onnx_operator("Pad")
def pad(node: OnnxNode) -> Tensor:
    """Constant entries around a tensor, or cut ends where a width is negative."""
    x = node.tensor(0)
    rank = len(x.shape)
    pads = node.integers(1, "pads" if "pads" in node.attributes else "paddings")
    given = node.constant(2, "constant_value")
    value = node.attributes.get("value", 0.0)
    if given is not None and np.size(given):
        value = float(np.asarray(given, dtype=float).reshape(-1)[0])
    chosen = node.integers(3, "axes")
    chosen = list(range(rank)) if chosen is None else chosen
    axes = [normalized_axis(a, rank, node.name) for a in chosen]
    if pads is None or len(pads) != 2 * len(axes):
        raise node.error("its pads don't fit its axes")
    before, after = [0] * rank, [0] * rank
    for k, a in enumerate(axes):
        before[a], after[a] = pads[k], pads[k + len(axes)]
    mode = node.attributes.get("mode", "constant")
    if mode not in ("constant", "edge", "reflect", "wrap"):
        raise node.error(f"mode '{mode}' isn't supported")
    if mode == "reflect" and max([*before, *after]) >= max(x.shape):
        raise node.error("it reflects more entries than there are")
    return spatial.pad(node.graph, node.name, x, before, after, mode, value)


@register_onnx_operator("Where")
def where(node: OnnxNode) -> Tensor:
    """Entries of two tensors, chosen by a constant condition or by a comparison."""
    if len(node.values()) != 3:
        raise node.error("it takes a condition and two values")
    return spatial.where(node.graph, node.name, *node.values())


@register_onnx_operator("Resize")
def resize(node: OnnxNode) -> Tensor:
    """Nearest neighbours: each entry is one of the input's."""
    x, mode = node.tensor(0), node.attributes.get("mode", "nearest")
    transformation = node.attributes.get("coordinate_transformation_mode", "half_pixel")
    if mode != "nearest" or transformation == "tf_crop_and_resize":
        raise node.error(
            f"mode '{mode}' with {transformation} isn't supported; export the model with "
            "nearest upsampling"
        )
    arguments = [node.constant(k, f"input {k}") for k in range(1, len(node.inputs))]
    # One sample is resized, and in a batch nothing is mixed: its axis keeps its length.
    [codes] = node.run([x.index.astype(float), *arguments])
    codes = np.round(codes).astype(np.int64)
    if x.batch is not None and (codes.ndim <= x.batch or codes.shape[x.batch] != 1):
        raise node.error("it resizes the batch axis")
    return node.graph.rearrange(node.name, [x], codes, batch=x.batch)


@register_onnx_operator("Cast")
def cast(node: OnnxNode) -> Tensor:
    """Another float dtype; the values stay. Only an input may be cast to integers."""
    if node.required("to") in _INTEGERS:
        return node.graph.cut_to_integers(node.name, node.tensor(0))
    if node.required("to") not in _FLOATS:
        raise node.error("only casts to floating-point types are piecewise linear")
    return node.tensor(0)


@register_onnx_operator("Shape")
def shape(node: OnnxNode) -> np.ndarray:
    """The lengths of the axes, from ``start`` to ``end``."""
    dims = np.array(node.tensor(0).shape, dtype=np.int64)
    return dims[slice(node.attributes.get("start", 0), node.attributes.get("end"))]


@register_onnx_operator("Size")
def size(node: OnnxNode) -> np.ndarray:
    """How many entries there are."""
    return np.array(node.tensor(0).size, dtype=np.int64)
