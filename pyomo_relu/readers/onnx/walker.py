"""The walk over an ONNX graph: constants are folded, the rest is lowered node by node.

What doesn't depend on the inputs is computed by ONNX' own reference implementation;
:mod:`.node` holds the operators for the rest. Nothing matches patterns, so the
order and grouping of operators doesn't matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pyomo_relu.network import Network
from pyomo_relu.network.limits import memory_limit
from pyomo_relu.readers.checking import built
from pyomo_relu.readers.naming import naming, reason
from pyomo_relu.readers.onnx.arrays import (
    attributes_of,
    graphs_of,
    import_onnx,
    node_name,
    nodes_of,
    tensor_array,
)
from pyomo_relu.readers.onnx.folding import run_node
from pyomo_relu.readers.onnx.load import check_nodes, is_packed, load_model
from pyomo_relu.readers.onnx.node import HEADS, OPERATORS, OnnxNode
from pyomo_relu.readers.onnx.running import OnnxModel
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.values import Head, Tensor, Value, head_of

# Element types of inputs: real numbers and integers, by their numbers in ONNX.
_NUMBERS = {1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 16}
_REAL = {1, 10, 11, 16}
_RANDOM = set(
    "Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform "
    "RandomUniformLike".split()
)
_SMOOTH = set(
    """
    Cos GRU InstanceNormalization LSTM LayerNormalization Log Pow RNN Reciprocal Sin Sqrt
    """.split()
)
_ROUNDING = set(
    """
    Ceil ConvInteger DequantizeLinear DynamicQuantizeLinear Floor MatMulInteger
    QLinearConv QLinearMatMul QuantizeLinear Round
    """.split()
)
# What may stand between a head and the output; none of them changes an entry.
_AFTER_HEAD = {"Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"}
_AFTER_ARGMAX = {"Cast", "Identity"}


def read_onnx(
    source: Any,
    *,
    logits: bool = False,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    check_reading: bool = True,
    max_memory: float | None = None,
) -> Network:
    """Read an ONNX model as a :class:`~pyomo_relu.network.Network`.

    The network is the model applied to one sample: a first axis of unknown length is
    the batch axis, while a fixed one belongs to the sample. Several inputs and outputs
    are joined in the order of the graph.

    Parameters
    ----------
    source : str, Path or onnx.ModelProto
        Weights in separate files are read from beside the model file.
    logits, input_names, output_names, check_reading, max_memory
        As in :func:`~pyomo_relu.read_network`. The reading is checked where onnxruntime
        is installed and runs the model.

    Raises
    ------
    ValueError
        For an operator that is not supported or not piecewise linear, by name; for a
        truncated or foreign file, an axis other than the batch axis of unknown length,
        and a network that differs from the model.
    """
    what = f"'{source}'" if isinstance(source, (str, Path)) else "the ONNX model"
    with memory_limit(what, max_memory):
        model, what = load_model(source)
        unsupported = unsupported_operators(model)
        if unsupported:
            raise ValueError(f"{what} can't be read: {_describe(unsupported)}")
        check_nodes(model, what)
        walker = _Walker(model, what, logits)
        outputs = walker.walk()
        given = model if is_packed(source) else source
        framework = partial(OnnxModel.of, given, model, what, walker.values, walker.graph)
        return built(
            walker.graph,
            outputs,
            framework if check_reading else None,
            input_names=input_names,
            output_names=output_names,
            head=head_of([walker.values[entry.name] for entry in model.graph.output]),
        )


def unsupported_operators(model: Any) -> dict[str, list[str]]:
    """Operators that depend on the inputs and can't be read, with the nodes that use them."""
    known = {i.name for i in model.graph.initializer}
    depends = {v.name for v in model.graph.input} - known
    found: dict[str, list[str]] = {}
    for node in live_nodes(model.graph):
        # Of an If by a constant one branch is read, and what is in that shows then.
        branches = node.op_type == "If" and depends.isdisjoint(node.input[:1])
        dependent = not depends.isdisjoint(node.input) or _has_subgraph(node)
        if not dependent and node.op_type not in _RANDOM:
            continue
        if node.op_type not in ("Shape", "Size"):
            depends.update(filter(None, node.output))
        if not branches and _key(node) not in OPERATORS and node.op_type not in HEADS:
            found.setdefault(".".join(filter(None, _key(node))), []).append(node_name(node))
    return found


def _key(node: Any) -> tuple[str, str]:
    """The domain and the type of an operator, as the table has them."""
    return "" if node.domain == "ai.onnx" else node.domain, node.op_type


def live_nodes(graph: Any) -> list[Any]:
    """The nodes that an output depends on, in their order."""
    wanted = {o.name for o in graph.output}
    found = []
    for node in reversed(graph.node):
        if wanted.isdisjoint(o for o in node.output if o):
            continue
        found.append(node)
        wanted.update(i for part in nodes_of([node]) for i in part.input)
        wanted.update(
            o.name for a in node.attribute for g in graphs_of(a) for o in g.output
        )
    return found[::-1]


def _has_subgraph(node: Any) -> bool:
    return any(a.HasField("g") or a.graphs for a in node.attribute)


def _describe(unsupported: dict[str, list[str]]) -> str:
    parts = []
    for operator, nodes in unsupported.items():
        more = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
        parts.append(f"{operator} (node '{nodes[0]}'{more})")
    text = ", ".join(parts)
    if all(name in _SMOOTH for name in unsupported):
        return f"{text}: not piecewise linear. Train the network with ReLU instead."
    if all(name in _ROUNDING for name in unsupported):
        return (
            f"{text}: rounds, which is not piecewise linear as written. Export the model "
            "before it is quantized, or with quantized weights alone."
        )
    return (
        f"{text}: not supported. If the operator is piecewise linear, teach the reader "
        "with register_onnx_operator."
    )


class _Walker:
    """One pass over one graph."""

    def __init__(self, model: Any, what: str, logits: bool) -> None:
        self.onnx = import_onnx()
        self.model, self.what, self.logits = model, what, logits
        doubles = (
            w.data_type == self.onnx.TensorProto.DOUBLE for w in model.graph.initializer
        )
        self.graph = TensorGraph(in_single=not any(doubles))
        self.opsets = {
            ("" if o.domain == "ai.onnx" else o.domain): o.version
            for o in model.opset_import
        }
        self.values: dict[str, Value | Head | None] = {"": None}
        self.nodes = live_nodes(model.graph)
        self.used = {i for node in nodes_of(self.nodes) for i in node.input}
        self.used |= {o.name for o in model.graph.output}

    def walk(self) -> list[Tensor]:
        """Lower every node; return the graph's outputs."""
        graph = self.model.graph
        if graph.sparse_initializer:
            raise ValueError(f"{self.what} has sparse initializers; store them dense.")
        self.hold(graph)
        for entry in graph.input:
            if entry.name not in self.values:
                self.values[entry.name] = self.input(entry)
        for node in self.nodes:
            self.visit(node)
        return [self.output(entry.name) for entry in graph.output]

    def hold(self, graph: Any) -> None:
        """Take the weights of a graph."""
        for initializer in graph.initializer:
            label = f"{self.what}: the weights '{initializer.name}'"
            self.values[initializer.name] = tensor_array(initializer, label)

    def branch(self, proto: Any, where: str) -> list[Any]:
        """The outputs of the branch of an If that a constant condition chooses."""
        condition = self.values[proto.input[0]]
        if not isinstance(condition, np.ndarray) or condition.size != 1:
            raise ValueError(
                f"{where} chooses by a value that depends on the input, which is not "
                "piecewise linear; export the model without it."
            )
        wanted = "then_branch" if condition.reshape(-1)[0] else "else_branch"
        graph = next((a.g for a in proto.attribute if a.name == wanted), None)
        if graph is None:
            raise ValueError(f"{where} has no {wanted}.")
        self.hold(graph)
        self.used |= {o.name for o in graph.output}
        for node in live_nodes(graph):
            self.visit(node)
        missing = [o.name for o in graph.output if o.name not in self.values]
        if missing:
            raise ValueError(f"{where} has an output '{missing[0]}' that nothing makes.")
        return [self.values[o.name] for o in graph.output]

    def input(self, entry: Any) -> Tensor:
        """A graph input; a first axis of unknown length is the batch axis."""
        what, kind = f"{self.what}: the input '{entry.name}'", entry.type
        if not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
            raise ValueError(
                f"{what} is no tensor of known rank; export the model with the shape of "
                "its inputs."
            )
        element = kind.tensor_type.elem_type
        if element not in _NUMBERS:
            names = self.onnx.TensorProto.DataType
            known = names.Name(element) if element in names.values() else element
            raise ValueError(
                f"{what} has the type {known}, not one of real numbers; export the model "
                "with float32 inputs."
            )
        dims = [max(d.dim_value, 0) for d in kind.tensor_type.shape.dim]
        batch = 0 if len(dims) > 1 and not dims[0] else None
        if batch == 0:
            dims[0] = 1
        if 0 in dims:
            raise ValueError(
                f"{self.what}: axis {dims.index(0)} of the input '{entry.name}' has no "
                "fixed length; only a first batch axis may vary. Fix it with "
                "onnx.tools.update_model_dims."
            )
        x = self.graph.input(entry.name, dims, batch)
        return x if element in _REAL else self.graph.declared_integers(x)

    def output(self, name: str) -> Tensor:
        value = self.values.get(name)
        value = value.logits if isinstance(value, Head) else value
        if not isinstance(value, Tensor):
            raise ValueError(f"{self.what}: the output '{name}' depends on no input.")
        return value

    def visit(self, proto: Any) -> None:
        """Fold one node, or lower it; every error names the node."""
        name = node_name(proto)

        def unreadable(error: Exception) -> ValueError:
            return ValueError(
                f"{self.what}: ONNX operator {proto.op_type} (node '{name}') can't be "
                f"read ({reason(error)}); check its attributes and inputs."
            )

        # The last line of defence: what an operator didn't expect of its inputs.
        with naming(unreadable, f"'{name}"):
            for output, value in zip(proto.output, self.lower(proto, name)):
                if output:
                    self.values[output] = value

    def lower(self, proto: Any, name: str) -> Sequence[Value | Head]:
        """The values of the outputs of one node."""
        where = f"{self.what}: {proto.op_type} (node '{name}')"
        missing = [i for i in proto.input if i not in self.values]
        if missing:
            raise ValueError(
                f"{where} reads '{missing[0]}', which nothing before it makes."
            )
        if _key(proto) == ("", "If"):
            return self.branch(proto, where)
        given = [self.values[i] for i in proto.input]
        inputs = [v.logits if isinstance(v, Head) else v for v in given]
        if not any(isinstance(v, Tensor) for v in inputs):
            return self.run(proto, inputs, keep=True)
        if self.is_head(proto):
            return [self.head(proto, where, given[0])]
        heads = [v for v in given if isinstance(v, Head)]
        self.check_heads(proto, name, heads)
        results = self.operated(proto, name, inputs)
        if heads and isinstance(results[0], Tensor):
            return [replace(heads[-1], logits=results[0]), *results[1:]]
        return results

    def is_head(self, proto: Any) -> bool:
        """Whether an operator is a head; a sigmoid is units unless it is taken off the end."""
        if proto.op_type == "Sigmoid":
            return self.logits and self.is_last(proto.output[0])
        return proto.op_type in HEADS

    def is_last(self, value: str) -> bool:
        """Whether nothing but casts and reshapes stands between a value and an output."""
        readers = [n for n in nodes_of(self.nodes) if value in n.input]
        return all(n.op_type in _AFTER_HEAD and self.is_last(n.output[0]) for n in readers)

    def check_heads(self, proto: Any, name: str, heads: Sequence[Head]) -> None:
        """Refuse an operator that computes with the result of a head."""
        for head in heads:
            allowed = _AFTER_ARGMAX if head.function == "ArgMax" else _AFTER_HEAD
            if proto.op_type not in allowed:
                raise ValueError(
                    f"{self.what}: {head.function} is followed by {proto.op_type} (node "
                    f"'{name}'); it is not piecewise linear, and logits=True takes it off "
                    "only where it is the last operator."
                )

    def operated(
        self, proto: Any, name: str, inputs: Sequence[Value | None]
    ) -> Sequence[Value]:
        """What the operator of a node makes of its inputs."""
        outputs = list(proto.output)
        while outputs and outputs[-1] not in self.used:
            outputs.pop()
        node = OnnxNode(
            proto.op_type,
            name,
            tuple(inputs),
            attributes_of(proto),
            len(outputs),
            self.opsets.get(_key(proto)[0], 0),
            self.graph,
            lambda arrays: self.run(proto, arrays),
        )
        operator = OPERATORS.get(_key(proto))
        if operator is None:
            raise node.error("it is not supported where it depends on the input")
        result = operator(node)
        return [result] if isinstance(result, (Tensor, np.ndarray)) else result

    def run(
        self, proto: Any, inputs: Sequence[Value | None], keep: bool = False
    ) -> list[np.ndarray]:
        """Compute one node on arrays by ONNX' reference implementation."""
        return run_node(proto, inputs, self.model.opset_import, self.what, keep)

    def head(self, proto: Any, where: str, x: Value | Head | None) -> Head:
        """Softmax and its like, if only the output follows."""
        if not self.logits:
            raise ValueError(
                f"{where} is not piecewise linear. If it is the last operator, read the "
                "network with logits=True to get its input instead."
            )
        if isinstance(x, Head):
            if x.function == "ArgMax":
                raise ValueError(f"{where} reads ArgMax.")
            return replace(x, function=proto.op_type)
        assert isinstance(x, Tensor)
        return Head(x, proto.op_type, where, proto.input[0])
