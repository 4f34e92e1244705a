"""The walk over an ONNX graph: constants are folded, the rest is lowered node by node.

What doesn't depend on the inputs is computed by ONNX' own reference implementation;
:mod:`.registry` holds the operators for the rest. Nothing matches patterns, so the
order and grouping of operators doesn't matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyomo_relu.network import Network
from pyomo_relu.network.limits import TooLargeError, memory_limit
from pyomo_relu.readers.checking import check_reading as check
from pyomo_relu.readers.onnx.activations import HEADS
from pyomo_relu.readers.onnx.arrays import (
    attributes_of,
    import_onnx,
    node_name,
    tensor_array,
)
from pyomo_relu.readers.onnx.folding import run_node
from pyomo_relu.readers.onnx.load import check_nodes, load_model
from pyomo_relu.readers.onnx.registry import OPERATORS, OnnxNode
from pyomo_relu.readers.onnx.running import OnnxModel
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.values import Tensor, Value

# Element types of inputs: real numbers and integers, by their numbers in ONNX.
_NUMBERS = {1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 16}
_RANDOM = {
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}
_SMOOTH = {
    "Celu",
    "Elu",
    "Erf",
    "Exp",
    "GRU",
    "Gelu",
    "HardSwish",
    "InstanceNormalization",
    "LSTM",
    "LayerNormalization",
    "Log",
    "Mish",
    "Pow",
    "RNN",
    "Reciprocal",
    "Selu",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Swish",
    "Tanh",
}
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
    logits : bool
        Take off a final Softmax, LogSoftmax, Sigmoid or ArgMax and read what it gets.
    input_names, output_names : sequence of str, optional
        A name for each entry of the flat input and output vector.
    check_reading : bool
        Where onnxruntime is installed and runs the model, evaluate the model and the
        network at a few points, and refuse the model if they differ by more than
        rounding.
    max_memory : float, optional
        Bytes that reading may take; :data:`~pyomo_relu.network.limits.MOST_MEMORY` if
        left out. A model that declares more is refused before it is taken.

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
        outputs = [x.handle for x in walker.walk()]
        builder = walker.graph.builder
        network = builder.build(outputs, input_names=input_names, output_names=output_names)
        if check_reading:
            framework = OnnxModel.of(source, model, what, walker.values, walker.origins)
            if framework is not None:
                check(framework, network, builder.nodes, outputs)
    return network


def unsupported_operators(model) -> dict[str, list[str]]:
    """Operators that depend on the inputs and can't be read, with the nodes that use them."""
    known = {i.name for i in model.graph.initializer}
    depends = {v.name for v in model.graph.input} - known
    found: dict[str, list[str]] = {}
    for node in model.graph.node:
        domain = "" if node.domain == "ai.onnx" else node.domain
        dependent = any(i in depends for i in node.input) or _has_subgraph(node)
        if not dependent and node.op_type not in _RANDOM:
            continue
        if node.op_type not in ("Shape", "Size"):
            depends.update(o for o in node.output if o)
        if (domain, node.op_type) not in OPERATORS and node.op_type not in HEADS:
            label = f"{domain}.{node.op_type}" if domain else node.op_type
            found.setdefault(label, []).append(node_name(node))
    return found


def _has_subgraph(node) -> bool:
    return any(a.HasField("g") or a.graphs for a in node.attribute)


def _describe(unsupported: dict[str, list[str]]) -> str:
    parts = []
    for operator, nodes in unsupported.items():
        more = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
        parts.append(f"{operator} (node '{nodes[0]}'{more})")
    text = ", ".join(parts)
    if all(name in _SMOOTH for name in unsupported):
        return f"{text}: not piecewise linear. Train the network with ReLU instead."
    return (
        f"{text}: not supported. If the operator is piecewise linear, teach the reader "
        "with register_onnx_operator."
    )


class _Walker:
    """One pass over one graph."""

    def __init__(self, model, what: str, logits: bool) -> None:
        self.onnx = import_onnx()
        self.model, self.what, self.logits = model, what, logits
        self.graph = TensorGraph()
        self.opsets = {
            ("" if o.domain == "ai.onnx" else o.domain): o.version
            for o in model.opset_import
        }
        self.values: dict[str, Value | None] = {"": None}
        self.heads: dict[str, str] = {}
        #: What a head read, by the name of each value that comes after one.
        self.origins: dict[str, str] = {}
        self.used = {i for node in model.graph.node for i in node.input}
        self.used |= {o.name for o in model.graph.output}

    def walk(self) -> list[Tensor]:
        """Lower every node; return the graph's outputs."""
        graph = self.model.graph
        if graph.sparse_initializer:
            raise ValueError(f"{self.what} has sparse initializers; store them dense.")
        for initializer in graph.initializer:
            label = f"{self.what}: the weights '{initializer.name}'"
            self.values[initializer.name] = tensor_array(initializer, label)
        for entry in graph.input:
            if entry.name not in self.values:
                self.values[entry.name] = self.input(entry)
        for node in graph.node:
            self.visit(node)
        return [self.output(entry.name) for entry in graph.output]

    def input(self, entry) -> Tensor:
        """A graph input; a first axis of unknown length is the batch axis."""
        kind = entry.type
        if not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
            raise ValueError(
                f"{self.what}: the input '{entry.name}' is no tensor of known rank; "
                "export the model with the shape of its inputs."
            )
        dims: list[Any] = [
            d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None
            for d in kind.tensor_type.shape.dim
        ]
        batch = 0 if len(dims) > 1 and dims[0] is None else None
        if batch == 0:
            dims[0] = 1
        element = kind.tensor_type.elem_type
        if element not in _NUMBERS:
            names = self.onnx.TensorProto.DataType
            known = names.Name(element) if element in names.values() else element
            raise ValueError(
                f"{self.what}: the input '{entry.name}' has the type {known}, not one of "
                "real numbers; export the model with float32 inputs."
            )
        if None in dims:
            raise ValueError(
                f"{self.what}: axis {dims.index(None)} of the input '{entry.name}' has no "
                "fixed length; only a first batch axis may vary. Fix it with "
                "onnx.tools.update_model_dims."
            )
        return self.graph.input(entry.name, dims, batch)

    def output(self, name: str) -> Tensor:
        value = self.values.get(name)
        if not isinstance(value, Tensor):
            raise ValueError(f"{self.what}: the output '{name}' depends on no input.")
        return value

    def visit(self, proto) -> None:
        """Fold one node, or lower it; every error names the node."""
        name = node_name(proto)
        try:
            self.lower(proto, name)
        except TooLargeError:
            raise
        except Exception as error:
            # The last line of defence: what an operator didn't expect of its inputs.
            if isinstance(error, ValueError) and f"'{name}" in str(error):
                raise
            lines = str(error).strip().splitlines() or [""]
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            raise ValueError(
                f"{self.what}: ONNX operator {proto.op_type} (node '{name}') can't be "
                f"read ({kind}{lines[0][:300]}); check its attributes and inputs."
            ) from error

    def lower(self, proto, name: str) -> None:
        missing = [i for i in proto.input if i not in self.values]
        if missing:
            raise ValueError(
                f"{self.what}: {proto.op_type} (node '{name}') reads '{missing[0]}', which "
                "nothing before it makes."
            )
        inputs = [self.values[i] for i in proto.input]
        if not any(isinstance(v, Tensor) for v in inputs):
            results: Sequence[Value] = self.run(proto, inputs, keep=True)
        elif proto.op_type in HEADS:
            results = [self.head(proto, name, inputs)]
        else:
            self.check_heads(proto, name)
            domain = "" if proto.domain == "ai.onnx" else proto.domain
            outputs = list(proto.output)
            while outputs and outputs[-1] not in self.used:
                outputs.pop()
            node = OnnxNode(
                proto.op_type,
                name,
                tuple(inputs),
                attributes_of(proto),
                len(outputs),
                self.opsets.get(domain, 0),
                self.graph,
                lambda arrays: self.run(proto, arrays),
            )
            operator = OPERATORS.get((domain, proto.op_type))
            if operator is None:
                raise node.error("it is not supported where it depends on the input")
            result = operator(node)
            results = [result] if isinstance(result, (Tensor, np.ndarray)) else result
        for output, value in zip(proto.output, results):
            if output:
                self.values[output] = value

    def run(self, proto, inputs, keep: bool = False) -> list[np.ndarray]:
        """Compute one node on arrays by ONNX' reference implementation."""
        return run_node(proto, inputs, self.model.opset_import, self.what, keep)

    def head(self, proto, name: str, inputs: list[Value | None]) -> Tensor:
        """Softmax and its like: what it reads, if only the output follows."""
        before = self.heads.get(proto.input[0])
        if before is None and not self.logits:
            raise ValueError(
                f"{self.what}: {proto.op_type} (node '{name}') is not piecewise linear. If "
                "it is the last operator, read the network with logits=True to get its "
                "input instead."
            )
        if before == "ArgMax":
            raise ValueError(f"{self.what}: {proto.op_type} (node '{name}') reads ArgMax.")
        if not self.logits:
            raise ValueError(f"{self.what}: {proto.op_type} (node '{name}') is inside.")
        self.heads[proto.output[0]] = proto.op_type
        self.origins[proto.output[0]] = self.origins.get(proto.input[0], proto.input[0])
        value = inputs[0]
        assert isinstance(value, Tensor)
        return value

    def check_heads(self, proto, name: str) -> None:
        """Refuse an operator that computes with the result of a head."""
        for i in proto.input:
            head = self.heads.get(i)
            if head is None:
                continue
            allowed = _AFTER_ARGMAX if head == "ArgMax" else _AFTER_HEAD
            if proto.op_type not in allowed:
                raise ValueError(
                    f"{self.what}: {head} is followed by {proto.op_type} (node '{name}'); "
                    "it is not piecewise linear, and logits=True takes it off only where "
                    "it is the last operator."
                )
            self.heads[proto.output[0]] = head
            self.origins[proto.output[0]] = self.origins[i]
