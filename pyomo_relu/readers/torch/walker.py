"""PyTorch modules: the program that is traced of them, operation by operation.

The module is read in eval mode, whatever mode it is in: dropout is left out and batch
normalization uses its running statistics. Both modes are restored.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pyomo_relu.network import Network
from pyomo_relu.readers.checking import check_reading as check
from pyomo_relu.readers.naming import first_line, naming, reason
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.torch.exported import program_module
from pyomo_relu.readers.torch.exporting import through_onnx
from pyomo_relu.readers.torch.function_tables import FUNCTIONS, MODULES
from pyomo_relu.readers.torch.functions import HEADS
from pyomo_relu.readers.torch.program import Program, Untraceable, operation, trace
from pyomo_relu.readers.torch.running import TorchModel
from pyomo_relu.readers.torch.state import (
    check_module,
    nothing_random,
    settle_pruning,
    untouched,
    unwrapped,
)
from pyomo_relu.readers.values import Head, Tensor, head_of

#: The dtype and the device of each input.
Kinds = list[tuple[Any, Any]]

_HEAD_MODULES = {"Softmax", "LogSoftmax", "Sigmoid", "LogSigmoid"}
_DIVIDES = (
    "it divides by the {} of its own input, which is not piecewise linear. Train with "
    "BatchNorm, whose statistics are constants in eval mode, instead."
)
_MULTIPLIES = (
    "it multiplies tensors that depend on the input, which is not piecewise linear. Train "
    "a dense or convolutional network instead."
)
_ROUNDS = "it rounds, which has infinitely many steps. Leave it out, or use a threshold."
#: Why layers and operations are not read, where more can be said than that.
_REASONS = {
    **dict.fromkeys(
        """
        GroupNorm InstanceNorm1d InstanceNorm2d InstanceNorm3d LayerNorm group_norm
        instance_norm layer_norm native_layer_norm std
        """.split(),
        _DIVIDES.format("standard deviation"),
    ),
    **dict.fromkeys(("RMSNorm", "rms_norm"), _DIVIDES.format("root mean square")),
    **dict.fromkeys(("linalg_vector_norm", "norm", "var"), "it is a sum of squares."),
    **dict.fromkeys(
        """
        Bilinear MultiheadAttention TransformerEncoderLayer bilinear
        scaled_dot_product_attention
        """.split(),
        _MULTIPLIES,
    ),
    **dict.fromkeys(("ceil", "floor", "frac", "round", "trunc"), _ROUNDS),
    **dict.fromkeys(
        ("EmbeddingBag", "embedding_bag"),
        "write it as an Embedding and a sum or mean over the axis of its entries.",
    ),
}
# What may follow a head; none of them changes an entry.
_AFTER_HEAD = {"flatten", "squeeze", "view", "reshape", "contiguous", "float", "double"}
_AFTER_HEAD |= {"to", "dropout", "Flatten", "Identity", "Dropout", "detach", "unsqueeze"}
_AFTER_HEAD |= {"clone", "alias", "_to_copy"}

#: Operations that make a constant, and look at the shape and the dtype of a tensor only.
_SHAPE_ONLY = {"zero", "zeros_like", "ones_like", "full_like", "empty_like"}
_SHAPE_ONLY |= {"new_zeros", "new_ones", "new_full", "new_empty", "new_empty_strided"}


def read_torch(
    source: Any,
    *,
    logits: bool = False,
    input_shape: Sequence | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    check_reading: bool = True,
) -> Network:
    """Read a PyTorch module as a :class:`~pyomo_relu.network.Network`.

    A chain of PyTorch's own layers is followed as it is; the graph of any other module
    comes from ``torch.export`` in its functional form, so that operations in place,
    views, branches of Python and methods that were replaced are read as they act. Where
    the export fails, PyTorch's ONNX export is tried. The network is the module in eval
    mode, applied to one sample. Modes, attributes, buffers and random generators of the
    module and of PyTorch are left as they were.

    Parameters
    ----------
    source : torch.nn.Module or torch.export.ExportedProgram
    input_shape : sequence of int, or sequence of those
        The shape of one sample, without the batch axis; one shape for each input where
        there are several. May be left out where the first layer is a Linear.
    logits, input_names, output_names, check_reading
        As in :func:`~pyomo_relu.read_network`.

    Raises
    ------
    ValueError
        For a layer that is not supported or not piecewise linear, by name; for a module
        with hooks, quantized layers or a state; where ``input_shape`` is needed or
        doesn't fit; and where the network differs from the module.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            "reading PyTorch modules needs torch: pip install 'pyomo_relu[torch]'."
        ) from error
    integers = None
    if isinstance(source, torch.export.ExportedProgram):
        source, known, integers = program_module(torch, source)
        input_shape = known if input_shape is None else input_shape
    if not isinstance(source, torch.nn.Module):
        raise TypeError(
            f"read_torch takes a torch.nn.Module or a torch.export.ExportedProgram, not "
            f"{type(source).__name__}; a state_dict has to be loaded into its module first."
        )
    source = unwrapped(source)
    check_module(torch, source)
    shapes = _input_shapes(source, input_shape)
    with untouched(torch, source):
        settle_pruning(torch, source)
        with nothing_random(torch, source):
            reading = _read(torch, source, shapes, logits, integers)
        network, framework, nodes, outputs = reading
        if check_reading and framework is not None:
            check(framework, network, nodes, outputs)
    return Network(
        network.nodes,
        network.outputs,
        network.inputs,
        input_names,
        output_names,
        head=network.head,
    )


def _read(
    torch: Any,
    source: Any,
    shapes: list[tuple[int, ...]],
    logits: bool,
    integers: list[bool] | None,
) -> tuple:
    """The network, what the check runs (or None), the builder's nodes, the outputs."""
    kinds = _kinds_of_inputs(torch, source, shapes, integers)
    samples = _samples(torch, shapes, kinds)
    try:
        program = trace(torch, source, samples)
    except Untraceable as failed:
        _refuse_uncallable(source, shapes, samples)
        network = through_onnx(torch, source, samples, failed, logits)
        # What was taken off at the end is not known here.
        whole = None if logits else TorchModel(torch, source, shapes, kinds)
        return network, whole, list(network.nodes), list(network.outputs)
    double = any(dtype == torch.float64 for dtype, _ in kinds)
    walker = _Walker(program, logits, not double)
    found = walker.walk(shapes, [not dtype.is_floating_point for dtype, _ in kinds])
    walker.graph.refuse_cuts()
    outputs = [(v.logits if isinstance(v, Head) else v).handle for v in found]
    builder = walker.graph.builder
    network = builder.build(outputs).with_head(head_of(found))
    framework = TorchModel(torch, source, shapes, kinds, program, walker.values, found)
    framework.admitted = dict(walker.graph.admitted)
    framework.integers = set(walker.graph.integers)
    return network, framework, builder.nodes, outputs


def _samples(torch: Any, shapes: list[tuple[int, ...]], kinds: Kinds) -> tuple:
    return tuple(
        torch.zeros((1, *s), dtype=dtype, device=device)
        for s, (dtype, device) in zip(shapes, kinds)
    )


def _kinds_of_inputs(
    torch: Any,
    source: Any,
    shapes: list[tuple[int, ...]],
    integers: list[bool] | None,
) -> Kinds:
    """The dtype and the device of each input.

    Those of an embedding are integers: where a module has one, the first choice of inputs
    that it can be called with is taken, numbers before integers.
    """
    dtype, device = _kind_of_inputs(torch, source, shapes)
    whole = (torch.int64, device)
    if integers is not None:
        return [whole if is_whole else (dtype, device) for is_whole in integers]
    tables = (torch.nn.Embedding, torch.nn.EmbeddingBag)
    plain: Kinds = [(dtype, device)] * len(shapes)
    if not any(isinstance(part, tables) for part in source.modules()):
        return plain
    for choice in itertools.product([(dtype, device), whole], repeat=len(shapes)):
        with contextlib.suppress(Exception):
            source(*_samples(torch, shapes, list(choice)))
            return list(choice)
    return plain


def _kind_of_inputs(
    torch: Any, source: Any, shapes: list[tuple[int, ...]]
) -> tuple[Any, Any]:
    """The dtype and the device of the inputs: those of the weights.

    A module without any may multiply by constants that its code holds; whether those are
    float32 or float64 shows when it is called.
    """
    for tensor in [*source.parameters(), *source.buffers()]:
        if tensor.is_floating_point():
            return tensor.dtype, tensor.device
    kinds = [(dtype, torch.device("cpu")) for dtype in (torch.float32, torch.float64)]
    for kind in kinds:
        try:
            source(*_samples(torch, shapes, [kind] * len(shapes)))
        except Exception:
            continue
        return kind
    return kinds[0]


def _refuse_uncallable(source: Any, shapes: list[tuple[int, ...]], samples: tuple) -> None:
    """Say so if a module can't be called on the given shapes at all."""
    try:
        source(*[sample.clone() for sample in samples])
    except Exception as error:
        raise ValueError(
            f"the module {type(source).__name__} can't be called on inputs of the shapes "
            f"{shapes} and a batch axis of 1 ({type(error).__name__}: {first_line(error)}). "
            "input_shape= is the shape of one sample, without the batch axis; one shape "
            "for each input where there are several."
        ) from error


def _input_shapes(source: Any, given: Any) -> list[tuple[int, ...]]:
    """One shape for each input, without the batch axis."""
    if given is None:
        return [_shape_of_first_layer(source)]
    given = (given,) if _is_length(given) else given
    if not isinstance(given, Sequence) or isinstance(given, (str, bytes)):
        raise ValueError(f"input_shape={given!r} is no sequence of lengths.")
    several = len(given) > 0 and all(isinstance(s, Sequence) for s in given)
    shapes = [tuple(s) for s in given] if several else [tuple(given)]
    wrong = [n for n in itertools.chain(*shapes) if not _is_length(n) or n < 1]
    if wrong:
        raise ValueError(
            f"input_shape={given!r} holds {wrong[0]!r}; give the shape of one sample, a "
            "whole number for each axis, without the batch axis."
        )
    return [tuple(map(int, shape)) for shape in shapes]


def _shape_of_first_layer(source: Any) -> tuple[int, ...]:
    first = next((p for p in source.modules() if not list(p.children())), None)
    n = getattr(first, "in_features", None)
    if not isinstance(n, int):
        raise ValueError(
            f"the module {type(source).__name__} doesn't say the shape of its input; "
            "give input_shape=, without the batch axis."
        )
    return (n,)


def _is_length(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


class _Walker:
    """One pass over one program."""

    def __init__(self, program: Program, logits: bool, in_single: bool) -> None:
        self.program, self.logits = program, logits
        self.graph = TensorGraph(in_single)
        self.values: dict[Any, Any] = dict(program.constants)

    def walk(
        self, shapes: list[tuple[int, ...]], integers: Sequence[bool]
    ) -> list[Tensor | Head]:
        """Lower every operation; return the outputs."""
        if len(shapes) != len(self.program.inputs):
            raise ValueError(
                f"input_shape= gives {len(shapes)} shapes, but the module has "
                f"{len(self.program.inputs)} inputs."
            )
        for node, shape, whole in zip(self.program.inputs, shapes, integers):
            x = self.graph.input(node.name, (1, *shape), 0)
            self.values[node] = self.graph.declared_integers(x) if whole else x
        for node in self.program.nodes:
            label = self.program.label(node)

            def unreadable(error: Exception, node: Any = node) -> ValueError:
                return ValueError(
                    f"{self._title(node)} can't be read as it is called here: "
                    f"{reason(error)}."
                )

            with naming(unreadable, label, node.name):
                self.values[node] = self._constant(node, self._visit(node))
        return self._outputs()

    def _title(self, node: Any) -> str:
        """How errors name a node."""
        label = self.program.label(node)
        return f"the PyTorch layer {self.program.title(node)} (node '{label}')"

    def _outputs(self) -> list[Tensor | Head]:
        import torch

        found: list[Tensor | Head] = []
        leaves = torch.utils._pytree.tree_leaves(
            self.program.results, is_leaf=lambda v: isinstance(v, torch.fx.Node)
        )
        for leaf in leaves:
            value = self.values.get(leaf) if isinstance(leaf, torch.fx.Node) else leaf
            if not isinstance(value, (Tensor, Head)):
                raise ValueError(
                    "an output of the module depends on no input, or is no tensor; return "
                    "only the tensors that the network is to give."
                )
            found.append(value)
        if not found:
            raise ValueError("the module returns no tensor.")
        return found

    def _visit(self, node: Any) -> Any:
        """The value of a node."""
        import torch

        kind = self._kind(node)
        if kind.startswith("_assert") or node.op == "get_attr":
            return None  # what torch.export made sure of, and graphs inside the graph
        heads: dict[Any, Head] = {}

        def lookup(argument: Any) -> Any:
            value = self.values[argument]
            if isinstance(value, Head):
                heads[argument] = value
            return value.logits if isinstance(value, Head) else value

        args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), lookup)
        if kind in _SHAPE_ONLY:
            return self._run(node, kind, (self._blank(node.args[0]), *args[1:]), kwargs)
        if not any(_holds_tensor(self.values[n]) for n in node.all_input_nodes):
            return self._run(node, kind, args, kwargs)
        for before, head in heads.items():
            if kind not in _AFTER_HEAD and not (
                kind == "argmax" and head.function != "argmax"
            ):
                raise ValueError(
                    f"the PyTorch layer {self.program.title(before)} (node "
                    f"'{before.name}') is followed by {self.program.title(node)}; it is "
                    "not piecewise linear, and logits=True takes it off only where it is "
                    "the last one."
                )
        if (kind in _HEAD_MODULES or kind in HEADS) and not self._is_unit(node, kind):
            return self._head(node, kind, args, kwargs, heads.get(node.args[0]))
        value = self._read(node, kind, args, kwargs)
        for head in heads.values():
            return replace(head, logits=value)
        return value

    def _is_unit(self, node: Any, kind: str) -> bool:
        """Whether a head is read as units: a sigmoid, unless it is taken off the end."""
        if kind not in (MODULES if self.program.module(node) is not None else FUNCTIONS):
            return False
        return not (self.logits and self._is_last(node))

    def _is_last(self, node: Any) -> bool:
        """Whether nothing but reshapes and copies stands between a node and an output."""
        return all(
            user.op == "output" or (self._kind(user) in _AFTER_HEAD and self._is_last(user))
            for user in node.users
        )

    def _run(self, node: Any, kind: str, args: Sequence[Any], kwargs: dict) -> Any:
        """Compute what depends on no input."""
        value = (self.program.module(node) or node.target)(*args, **kwargs)
        # What is never written is no number; a network that reads it is refused.
        return value.fill_(float("nan")) if "empty" in kind else value

    def _read(self, node: Any, kind: str, args: Sequence[Any], kwargs: dict) -> Any:
        """What the table makes of a layer or an operation."""
        name, layer = self.program.label(node), self.program.module(node)
        if kind not in (FUNCTIONS if layer is None else MODULES):
            why = _REASONS.get(kind) or (
                "it is neither piecewise linear nor smooth, or not known. Replace it, or "
                "export the module without it."
            )
            raise ValueError(f"{self._title(node)} is not supported: {why}")
        if layer is not None:
            return MODULES[kind](self.graph, name, layer, *args, **kwargs)
        made = str(getattr(node.meta.get("val"), "dtype", ""))
        if kind == "add" and made == "torch.bool":
            raise ValueError(
                f"layer '{name}' adds truth values, which is a logical or; convert them "
                "to numbers first."
            )
        return FUNCTIONS[kind](self.graph, name, *args, **kwargs)

    @staticmethod
    def _constant(node: Any, value: Any) -> Any:
        """What depends on no input is a tensor, as the operations after it want it."""
        if not isinstance(value, np.ndarray):
            return value
        import torch

        return torch.as_tensor(value, dtype=getattr(node.meta.get("val"), "dtype", None))

    def _blank(self, node: Any) -> Any:
        """A tensor like the value of a node, for operations that read its kind only."""
        import torch

        like = node.meta["val"]
        return torch.zeros(like.shape, dtype=like.dtype, device=like.device)

    def _kind(self, node: Any) -> str:
        """The name to look up: of a class of ``torch.nn``, or of a PyTorch operation."""
        layer = self.program.module(node)
        if layer is not None:
            for cls in type(layer).__mro__:
                if cls.__name__ in MODULES or cls.__name__ in _HEAD_MODULES:
                    return str(cls.__name__)
                if not cls.__module__.startswith("torch.nn.utils.parametrize"):
                    break
            return type(layer).__name__
        return operation(node)

    def _head(
        self, node: Any, kind: str, args: Sequence[Any], kwargs: dict, before: Head | None
    ) -> Head:
        x = args[0]
        if not self.logits:
            raise ValueError(
                f"the PyTorch layer {self.program.title(node)} (node '{node.name}') is not "
                "piecewise linear. If it is the last one, read the network with "
                "logits=True to get its input instead."
            )
        function = self.program.module(node) or node.target

        def call(values: np.ndarray) -> np.ndarray:
            import torch

            if before is not None:
                values = before.run(values)
            rows = [torch.as_tensor(v.reshape(x.shape)) for v in values]
            found = [function(row, *args[1:], **kwargs) for row in rows]
            return np.stack([np.asarray(y.double()).reshape(-1) for y in found])

        return Head(x, kind, self._title(node), call)


def _holds_tensor(value: Any) -> bool:
    """Whether a value depends on the input, or is a list in which one does."""
    if isinstance(value, (list, tuple)):
        return any(_holds_tensor(v) for v in value)
    return isinstance(value, (Tensor, Head))
