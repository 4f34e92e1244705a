"""The graph of a PyTorch module: operations on values, none of which changes a value.

A plain ``Sequential`` of PyTorch's own layers is a chain and is followed as it is. The
forward of any other module is run by ``torch.export``, which sees what Python does:
branches, optional arguments, methods that were replaced. Where an operation changes a
tensor in place, maybe one with another name or a view, its functional form is taken,
in which every result is a value of its own.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pyomo_relu.readers.naming import first_line
from pyomo_relu.readers.torch.state import plain_attributes


class Untraceable(Exception):
    """PyTorch can't make a graph of the module."""


@dataclass
class Program:
    """A graph of ``torch.fx`` nodes in the order in which they run.

    Attributes
    ----------
    nodes : list of torch.fx.Node
        Without the inputs and the constants.
    inputs : list of torch.fx.Node
    constants : dict of torch.fx.Node to tensor
        Weights, buffers, and tensors that the module's code holds.
    results : tree of torch.fx.Node
        What the module returns, as the graph has it.
    root : torch.nn.Module, optional
        Where ``call_module`` nodes find their modules.
    """

    nodes: list[Any]
    inputs: list[Any]
    results: Any
    constants: dict[Any, Any] = field(default_factory=dict)
    root: Any = None

    def module(self, node: Any) -> Any:
        """The module that a ``call_module`` node calls, else None."""
        if node.op != "call_module":
            return None
        value = self.root
        for part in node.target.split("."):
            value = getattr(value, part)
        return value

    def label(self, node: Any) -> str:
        """The path of the layer that a node belongs to, or the node's own name."""
        if node.op == "call_module":
            return str(node.target)
        path, name = _innermost(node)
        inside = path and name.startswith("torch.nn.modules.")
        return re.sub(r"@\d+", "", path) if inside else str(node.name)

    def title(self, node: Any) -> str:
        """The class of the layer that a node belongs to, or the operation, for errors."""
        layer = self.module(node)
        if layer is not None:
            return type(layer).__name__
        path, name = _innermost(node)
        if path and name.startswith("torch.nn.modules."):
            return name.split(".")[-1]
        return operation(node)

    def listing(self) -> list[tuple]:
        """What the program does, line by line, to compare it with another trace."""
        return [(n.name, str(n.target), str(n.args), str(n.kwargs)) for n in self.nodes]


def operation(node: Any) -> str:
    """The name of the PyTorch operation that a node calls, without its overload."""
    packet = getattr(node.target, "overloadpacket", None)
    if packet is not None:  # torch.ops.aten.relu.default
        return str(packet.__name__)
    return str(getattr(node.target, "__name__", node.target))


def _innermost(node: Any) -> tuple[str, str]:
    """Path and class of the innermost module that a node of an export comes from."""
    stack = node.meta.get("nn_module_stack") or {}
    path, kind = (list(stack.values()) or [("", "")])[-1]
    name = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__name__}"
    return str(path), name


def trace(torch: Any, source: Any, samples: tuple) -> Program:
    """The program of ``source`` in eval mode for inputs like ``samples``.

    Raises
    ------
    Untraceable
        If the forward can't be followed.
    ValueError
        If its result depends on a state that each call changes.
    """
    if _is_plain(torch, source):
        return _chain(torch, source)
    program = _exported(torch, source, samples)
    before = plain_attributes(source)
    with contextlib.suppress(Exception):
        source(*[sample.clone() for sample in samples])
    if plain_attributes(source) != before:
        # What the forward keeps may be a count that nothing reads, or a state.
        if _exported(torch, source, samples).listing() != program.listing():
            raise ValueError(
                f"the module {type(source).__name__} computes something else in each call, "
                "by what it keeps in its attributes; a network that can be embedded has "
                "no such state."
            )
    return program


def _exported(torch: Any, source: Any, samples: tuple) -> Program:
    try:
        with _quiet():
            exported = torch.export.export(source, samples, strict=False)
            if any(_is_mutable(node) for node in exported.graph.nodes):
                exported = exported.run_decompositions({})
    except Exception as error:
        raise Untraceable(f"{type(error).__name__}: {first_line(error)}") from error
    return _program(source, exported)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """PyTorch prints graphs and warnings where an export fails; the error says enough."""
    names = (
        "torch.fx.experimental.symbolic_shapes",
        "torch.export",
        "torch._export",
        "torch._subclasses.fake_tensor",
    )
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            with contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)


# ----------------------------------------------------------------- chains of layers
def _is_plain(torch: Any, module: Any) -> bool:
    """Whether a module is a layer of ``torch.nn`` as PyTorch wrote it, or a chain of those.

    In a chain every value is read once, by the next layer, so that a layer that works
    in place is the same as one that doesn't.
    """
    if not _own_forward(module):
        return False
    if type(module) is torch.nn.Sequential:
        return all(_is_plain(torch, child) for child in module.children())
    if not type(module).__module__.startswith(
        ("torch.nn.modules.", "torch.nn.utils.parametrize")
    ):
        return False
    if isinstance(module, (torch.nn.RNNBase, torch.nn.RNNCellBase)):
        return False  # it returns several tensors, and its weights are in a list
    return all(name == "parametrizations" for name, _ in module.named_children())


def _own_forward(module: Any) -> bool:
    """Whether ``forward`` is that of a class of ``torch.nn``, replaced nowhere."""
    if "forward" in vars(module):
        return False
    forward = inspect.getattr_static(type(module), "forward")
    owner = next(cls for cls in type(module).__mro__ if "forward" in vars(cls))
    return (
        getattr(forward, "__module__", "") == owner.__module__
        and owner.__module__.startswith("torch.nn.modules.")
        and getattr(forward, "__qualname__", "") == f"{owner.__qualname__}.forward"
    )


def _chain(torch: Any, source: Any) -> Program:
    root = source
    if type(source) is not torch.nn.Sequential:
        root = torch.nn.Sequential(source)
    nodes = list(torch.fx.Tracer().trace(root).nodes)
    return Program(
        [n for n in nodes if n.op == "call_module"],
        [n for n in nodes if n.op == "placeholder"],
        nodes[-1].args[0],
        root=root,
    )


# -------------------------------------------------------------------------- exports
def _is_mutable(node: Any) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable


def _program(source: Any, exported: Any) -> Program:
    signature = exported.graph_signature
    holders = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    nodes = list(exported.graph.nodes)
    inputs, constants = [], {}
    for node in nodes:
        if node.op != "placeholder":
            continue
        if node.name in holders:
            key = holders[node.name]
            held = exported.state_dict if key in exported.state_dict else exported.constants
            constants[node] = held[key]
        elif node.name in signature.user_inputs:
            inputs.append(node)
    kinds = [spec.kind.name for spec in signature.output_specs]
    given = list(nodes[-1].args[0])
    results = [v for kind, v in zip(kinds, given) if kind == "USER_OUTPUT"]
    changed = {
        **signature.buffers_to_mutate,
        **getattr(signature, "parameters_to_mutate", {}),
    }
    for key in changed.values():
        start = next(n for n in constants if holders[n.name] == key)
        if _reaches(start, results):
            raise ValueError(
                f"the module {type(source).__name__} changes its tensor '{key}' in each "
                "call, and its result depends on it; a network that can be embedded "
                "has no such state."
            )
    calls = [n for n in nodes if n.op not in ("placeholder", "output")]
    return Program(calls, inputs, results, constants)


def _reaches(start: Any, results: list[Any]) -> bool:
    """Whether a result depends on the node ``start``."""
    wanted, stack, seen = {id(r) for r in results}, [start], set()
    while stack:
        node = stack.pop()
        if id(node) in wanted:
            return True
        if node not in seen:
            seen.add(node)
            stack.extend(node.users)
    return False
