"""Modules while they are read: what is refused at sight, and that all is as before."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

#: Weights up to this many bytes are copied and compared, to undo what a forward does to
#: them; larger ones are left to the module.
COPIED = 256 * 2**20

_QUANTIZED = (".quantized", ".qat", ".quantization", "torchao")


def check_module(torch: Any, source: Any) -> None:
    """Refuse what can't be read whatever its forward is: hooks, quantization, no weights.

    Raises
    ------
    ValueError
        Names the submodule and the remedy.
    """
    hooks = torch.nn.modules.module
    if hooks._global_forward_hooks or hooks._global_forward_pre_hooks:
        raise ValueError(
            "forward hooks are registered for all modules of PyTorch, which may change "
            "what they compute; remove them first."
        )
    named = [
        (f"the module '{name or type(part).__name__}' ({type(part).__name__})", part)
        for name, part in source.named_modules()
    ]
    for what, part in named:
        if any(key in type(part).__module__ for key in _QUANTIZED):
            raise ValueError(
                f"{what} is quantized or prepared for it: it rounds, which is not "
                "piecewise linear as written. Read the module before it is quantized."
            )
        for key, value in {**part._parameters, **part._buffers}.items():
            if value is not None:
                _check_tensor(torch, f"{key} of {what}", value)
    for what, part in named:
        before = [h for h in part._forward_pre_hooks.values() if not _prunes(torch, h)]
        if part._forward_hooks or before:
            raise ValueError(
                f"{what} has forward hooks, which may change what it computes; remove "
                "them first (for an old weight_norm or spectral_norm with its remove "
                "function)."
            )


def _prunes(torch: Any, hook: Any) -> bool:
    """Whether a hook is PyTorch's own that sets weights to zero, and does nothing else."""
    methods = torch.nn.utils.prune.BasePruningMethod
    return isinstance(hook, methods) and type(hook).__call__ is methods.__call__


def settle_pruning(torch: Any, source: Any) -> None:
    """Let pruned modules hold their pruned weights, without hooks; inside `untouched`."""
    for part in source.modules():
        hooks = list(part._forward_pre_hooks.values())
        if hooks and all(_prunes(torch, hook) for hook in hooks):
            for hook in hooks:
                hook(part, ())
            part._forward_pre_hooks = OrderedDict()


def _check_tensor(torch: Any, what: str, value: Any) -> None:
    if torch.nn.parameter.is_lazy(value):
        raise ValueError(
            f"the tensor {what} has no shape yet; call the module once on data first."
        )
    plain = (torch.Tensor, torch.nn.Parameter, getattr(torch.nn, "Buffer", torch.Tensor))
    if type(value) not in plain:
        raise ValueError(
            f"the tensor {what} is a {type(value).__name__}, whose arithmetic is not "
            "known; give the module with plain tensors (before it is quantized or "
            "distributed)."
        )
    if value.is_meta:
        raise ValueError(f"the tensor {what} holds no values (it is on the meta device).")
    if value.layout != torch.strided or value.is_complex() or value.is_quantized:
        kind = value.layout if value.layout != torch.strided else value.dtype
        raise ValueError(
            f"the tensor {what} is of the kind {kind}; plain real numbers are read."
        )


def unwrapped(source: Any) -> Any:
    """The module inside a compiled or data-parallel one."""
    while True:
        kind = type(source).__name__
        if kind == "OptimizedModule":
            source = source._orig_mod
        elif kind in ("DataParallel", "DistributedDataParallel"):
            source = source.module
        else:
            return source


@contextmanager
def untouched(torch: Any, source: Any) -> Iterator[None]:
    """Eval mode inside; afterwards modes, attributes, tensors and generators as before.

    A forward may count its calls in a buffer, keep its last input in an attribute or draw
    random numbers; reading a module must leave no trace of that.
    """
    parts = list(source.modules())
    scripted = isinstance(source, torch.jit.ScriptModule)
    modes = [part.training for part in parts]
    states = [] if scripted else [_state(part) for part in parts]
    named = [*source.buffers(), *source.parameters()]
    if sum(t.numel() * t.element_size() for t in named) > COPIED:
        named = list(source.buffers())
    copies = [t.detach().clone() for t in named]
    generators = _generators(torch)
    try:
        for part in parts:
            part.training = False
        with torch.no_grad():
            yield
    finally:
        for part, mode in zip(parts, modes):
            part.training = mode
        for part, (attributes, members) in zip(parts, states):
            vars(part).clear()
            vars(part).update(attributes)
            for key, held in members.items():
                current = getattr(part, key)
                current.clear()
                current.update(held)
        for tensor, copy in zip(named, copies):
            if not torch.equal(tensor.detach(), copy):
                tensor.detach().copy_(copy)
        _restore_generators(torch, generators)


def _state(part: Any) -> tuple[dict, dict[str, dict]]:
    """The attributes of a module, and what it registers, to be put back."""
    held = ("_parameters", "_buffers", "_modules")
    return dict(vars(part)), {key: dict(getattr(part, key)) for key in held}


def plain_attributes(source: Any) -> dict[tuple[int, str], Any]:
    """Numbers, texts and truth values that the submodules keep as attributes."""
    return {
        (k, key): value
        for k, part in enumerate(source.modules())
        for key, value in vars(part).items()
        if isinstance(value, (bool, int, float, str, type(None)))
    }


@contextmanager
def nothing_random(torch: Any, source: Any) -> Iterator[None]:
    """Refuse a module that draws random numbers: they would be read as constants."""
    before = _generators(torch)
    yield
    if not _same_generators(torch, before, _generators(torch)):
        raise ValueError(
            f"the module {type(source).__name__} draws random numbers in its forward; "
            "a network that can be embedded doesn't."
        )


def _generators(torch: Any) -> tuple:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return random.getstate(), _numpy_state(), torch.random.get_rng_state(), cuda


def _numpy_state() -> tuple:
    """That of NumPy's global generator, which a forward may use."""
    return np.random.get_state()  # type: ignore[return-value]  # noqa: NPY002


def _restore_generators(torch: Any, states: tuple) -> None:
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    torch.random.set_rng_state(states[2])
    if states[3]:
        torch.cuda.set_rng_state_all(states[3])


def _same_generators(torch: Any, a: tuple, b: tuple) -> bool:
    if a[0] != b[0] or not torch.equal(a[2], b[2]) or len(a[3]) != len(b[3]):
        return False
    if any(not torch.equal(x, y) for x, y in zip(a[3], b[3])):
        return False
    return all(np.array_equal(x, y) for x, y in zip(a[1], b[1]))
