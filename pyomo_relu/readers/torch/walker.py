"""PyTorch modules: the graph that ``torch.fx`` or ``torch.export`` finds, node by node.

The module is read in eval mode, whatever mode it is in: dropout is left out and batch
normalization uses its running statistics. Both modes are restored.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pyomo_relu.network import Network
from pyomo_relu.readers.tensors import Tensor, TensorGraph
from pyomo_relu.readers.torch.functions import HEADS
from pyomo_relu.readers.torch.registry import FUNCTIONS, MODULES

_HEAD_MODULES = {"Softmax", "LogSoftmax", "Sigmoid", "LogSigmoid"}
# What may follow a head; none of them changes an entry.
_AFTER_HEAD = {"flatten", "squeeze", "view", "reshape", "contiguous", "float", "double"}
_AFTER_HEAD |= {"to", "dropout", "Flatten", "Identity", "Dropout", "detach", "unsqueeze"}
_HOME = ("torch", "_operator", "builtins")


class _Untraceable(Exception):
    """Neither tracer of PyTorch makes a graph of the module."""


def read_torch(
    source: Any,
    *,
    logits: bool = False,
    input_shape: Sequence | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> Network:
    """Read a PyTorch module as a :class:`~pyomo_relu.network.Network`.

    The graph comes from ``torch.fx``, else from ``torch.export``, else from PyTorch's
    ONNX export. The network is the module in eval mode, applied to one sample.

    Parameters
    ----------
    source : torch.nn.Module
    logits : bool
        Take off a final softmax, log-softmax, sigmoid or arg-max.
    input_shape : sequence of int, or sequence of those
        The shape of one sample, without the batch axis; one shape for each input where
        there are several. May be left out where the first layer is a Linear.
    input_names, output_names : sequence of str, optional
        A name for each entry of the flat input and output vector.

    Raises
    ------
    ValueError
        For a layer that is not supported or not piecewise linear, by name; for a module
        with hooks; and where ``input_shape`` is needed or doesn't fit.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            "reading PyTorch modules needs torch: pip install 'pyomo_relu[torch]'."
        ) from error
    if not isinstance(source, torch.nn.Module):
        raise TypeError(
            f"read_torch takes a torch.nn.Module, not {type(source).__name__}; a state_dict "
            "has to be loaded into its module first."
        )
    for name, part in source.named_modules():
        if part._forward_hooks or part._forward_pre_hooks:
            raise ValueError(
                f"the module '{name or type(part).__name__}' has forward hooks, which may "
                "change what it computes; remove them first (for an old weight_norm or "
                "spectral_norm with its remove function)."
            )
    with _eval_mode(source), _nothing_random(torch, source):
        shapes = _input_shapes(source, input_shape)
        try:
            traced, leaves = _trace(torch, source, shapes)
        except _Untraceable:
            return _through_onnx(torch, source, shapes, logits, input_names, output_names)
        walker = _Walker(traced, leaves, logits)
        outputs = walker.walk(shapes)
    return walker.graph.builder.build(
        [x.handle for x in outputs], input_names=input_names, output_names=output_names
    )


@contextmanager
def _eval_mode(source: Any) -> Iterator[None]:
    before = [(part, part.training) for part in source.modules()]
    source.eval()
    try:
        yield
    finally:
        for part, training in before:
            part.training = training


@contextmanager
def _nothing_random(torch, source: Any) -> Iterator[None]:
    """Refuse a module that draws random numbers: they would be read as constants."""
    before = torch.random.get_rng_state()
    yield
    if not torch.equal(before, torch.random.get_rng_state()):
        raise ValueError(
            f"the module {type(source).__name__} draws random numbers in its forward; "
            "a network that can be embedded doesn't."
        )


def _input_shapes(source: Any, given: Any) -> list[tuple[int, ...]]:
    """One shape for each input, without the batch axis."""
    if given is None:
        first = next((p for p in source.modules() if not list(p.children())), None)
        n = getattr(first, "in_features", None)
        if n is None:
            raise ValueError(
                f"the module {type(source).__name__} doesn't say the shape of its input; "
                "give input_shape=, without the batch axis."
            )
        return [(int(n),)]
    if isinstance(given, int):
        given = (given,)
    given = list(given)
    if given and all(isinstance(s, (tuple, list)) for s in given):
        return [tuple(int(n) for n in s) for s in given]
    return [tuple(int(n) for n in given)]


def _trace(torch, source: Any, shapes) -> tuple[Any, Any]:
    """A graph and the module its targets are looked up in."""
    tracer = torch.fx.Tracer()
    root = source
    if tracer.is_leaf_module(source, ""):
        root = torch.nn.Sequential(source)
    try:
        return tracer.trace(root), root
    except Exception:
        pass
    try:
        samples = tuple(_example(torch, source, shape) for shape in shapes)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exported = torch.export.export(source, samples).module()
        return exported.graph, exported
    except Exception as error:
        raise _Untraceable(str(error)) from error


def _example(torch, source: Any, shape: tuple[int, ...]) -> Any:
    parameter = next(iter(source.parameters()), None)
    kind = torch.float32 if parameter is None else parameter.dtype
    return torch.zeros((1, *shape), dtype=kind)


def _through_onnx(torch, source, shapes, logits, input_names, output_names) -> Network:
    """By PyTorch's ONNX export; a branch that depends on values is an error there."""
    from pyomo_relu.readers.onnx import read_onnx
    from pyomo_relu.readers.onnx.load import import_onnx

    onnx = import_onnx()
    buffer = io.BytesIO()
    samples = tuple(_example(torch, source, shape) for shape in shapes)
    names = [f"input_{k + 1}" for k in range(len(samples))]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", torch.jit.TracerWarning)
            torch.onnx.export(source, samples, buffer, input_names=names, dynamo=False)
    except Exception as error:
        raise ValueError(
            f"neither torch.fx, torch.export nor PyTorch's ONNX export can trace the module "
            f"{type(source).__name__} ({type(error).__name__}: {error}). Write its forward "
            "without branches on values, or give an ONNX file."
        ) from error
    return read_onnx(
        onnx.load_from_string(buffer.getvalue()),
        logits=logits,
        input_names=input_names,
        output_names=output_names,
    )


class _Walker:
    """One pass over one traced graph."""

    def __init__(self, traced: Any, root: Any, logits: bool) -> None:
        self.traced, self.root, self.logits = traced, root, logits
        self.graph = TensorGraph()
        self.values: dict[Any, Any] = {}
        self.heads: dict[Any, str] = {}

    def walk(self, shapes: list[tuple[int, ...]]) -> list[Tensor]:
        """Lower every node; return the outputs."""
        waiting = list(shapes)
        for node in self.traced.nodes:
            if node.op == "placeholder":
                if waiting:
                    x = self.graph.input(node.name, (1, *waiting.pop(0)), 0)
                    self.values[node] = x
                elif node.args:
                    self.values[node] = node.args[0]
                else:
                    raise ValueError(
                        f"the module has an input '{node.name}' without a shape; give one "
                        "shape for each input in input_shape=."
                    )
            elif node.op == "get_attr":
                self.values[node] = self._attribute(node.target)
            elif node.op == "output":
                return self._outputs(self._lookup(node.args[0]))
            else:
                self.values[node] = self._visit(node)
        raise ValueError("the traced module has no output.")

    def _attribute(self, target: str) -> Any:
        value = self.root
        for part in target.split("."):
            value = getattr(value, part)
        return value

    def _lookup(self, argument: Any) -> Any:
        import torch

        return torch.fx.node.map_arg(argument, lambda node: self.values[node])

    def _outputs(self, value: Any) -> list[Tensor]:
        if isinstance(value, Tensor):
            return [value]
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, (list, tuple)):
            return [x for part in value for x in self._outputs(part)]
        raise ValueError("an output of the module depends on no input, or is no tensor.")

    def _visit(self, node: Any) -> Any:
        args, kwargs = self._lookup(node.args), self._lookup(node.kwargs)
        symbolic = any(
            isinstance(self.values[n], Tensor) or _holds_tensor(self.values[n])
            for n in node.all_input_nodes
        )
        layer = self._attribute(node.target) if node.op == "call_module" else None
        if node.op == "call_module" and type(layer).__name__ == "GuardsFn":
            return None  # shape checks of torch.export
        if not symbolic:
            if layer is not None:
                return layer(*args, **kwargs)
            if node.op == "call_method":
                return getattr(args[0], node.target)(*args[1:], **kwargs)
            return node.target(*args, **kwargs)
        kind = _kind(node, layer)
        self._check_head(node, kind)
        if kind in _HEAD_MODULES or kind in HEADS:
            return self._head(node, kind, args[0] if args else kwargs["input"])
        name = str(node.target) if layer is not None else node.name
        if layer is not None:
            reader = MODULES.get(kind)
            if reader is None:
                raise _unsupported(kind, name)
            return reader(self.graph, name, layer, *args, **kwargs)
        reader = FUNCTIONS.get(kind)
        if reader is None:
            raise _unsupported(kind, name)
        if "input" in kwargs:
            kwargs = dict(kwargs)
            args = (kwargs.pop("input"), *args)
        try:
            return reader(self.graph, name, *args, **kwargs)
        except TypeError as error:
            raise ValueError(
                f"the PyTorch operation '{kind}' (node '{name}') is called in a way that is "
                f"not supported: {error}."
            ) from error

    def _head(self, node: Any, kind: str, x: Tensor) -> Tensor:
        if not self.logits:
            raise ValueError(
                f"the PyTorch layer {kind} (node '{node.name}') is not piecewise linear. If "
                "it is the last one, read the network with logits=True to get its input "
                "instead."
            )
        self.heads[node] = kind
        return x

    def _check_head(self, node: Any, kind: str) -> None:
        for before in node.all_input_nodes:
            head = self.heads.get(before)
            if head is None:
                continue
            if kind not in _AFTER_HEAD and not (kind == "argmax" and head != "argmax"):
                raise ValueError(
                    f"the PyTorch layer {head} (node '{before.name}') is followed by {kind}; "
                    "it is not piecewise linear, and logits=True takes it off only where "
                    "it is the last one."
                )
            self.heads[node] = head


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(isinstance(v, Tensor) or _holds_tensor(v) for v in value)
    return False


def _kind(node: Any, layer: Any) -> str:
    """The name to look up: of a ``torch.nn`` class, a PyTorch function, a method."""
    if layer is not None:
        for cls in type(layer).__mro__:
            if cls.__name__ in MODULES or cls.__name__ in _HEAD_MODULES:
                return cls.__name__
            if not cls.__module__.startswith("torch.nn.utils.parametrize"):
                break
        return type(layer).__name__
    if node.op == "call_method":
        return str(node.target)
    packet = getattr(node.target, "overloadpacket", None)
    if packet is not None:  # torch.ops.aten.relu.default
        return str(packet.__name__)
    home = (getattr(node.target, "__module__", None) or "torch").split(".")[0]
    name = getattr(node.target, "__name__", str(node.target))
    return name if home in _HOME else f"{home}.{name}"


def _unsupported(kind: str, name: str) -> ValueError:
    return ValueError(
        f"the PyTorch layer {kind} (node '{name}') is not supported: it is not piecewise "
        "linear, or not known. Replace it, or export the module without it."
    )
