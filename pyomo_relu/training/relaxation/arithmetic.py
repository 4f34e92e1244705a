"""One name for each function of arrays: ``keras.ops`` has them, PyTorch gets them here.

Formulas of penalties and bounds are written once, over a namespace ``ops`` that is either
``keras.ops`` or :class:`TorchArithmetic`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class TorchArithmetic:
    """The functions of ``keras.ops`` that formulas of penalties use, by PyTorch.

    Names that both share with the same arguments are PyTorch's own.
    """

    def __getattr__(self, name: str) -> Any:
        import torch

        return getattr(torch, name)

    @staticmethod
    def stop_gradient(x: Any) -> Any:
        """The values without their gradient."""
        return x.detach()

    @staticmethod
    def maximum(x: Any, y: Any) -> Any:
        """The larger one, entry by entry; ``y`` may be a number."""
        import torch

        return x.clamp(min=y) if isinstance(y, float) else torch.maximum(x, y)

    @staticmethod
    def cast(x: Any, dtype: Any) -> Any:
        """The values in another type."""
        return x.to(dtype)


def linearized(ops: Any, value: Any, slopes: Sequence[tuple[Any, Any]]) -> Any:
    """A value that was computed elsewhere, with the gradients that were computed there.

    Parameters
    ----------
    ops : namespace
    value : scalar tensor
        Held.
    slopes : sequence of (tensor, tensor)
        What the value depends on, and the gradient by it, in the same shape.
    """
    held = ops.stop_gradient
    total = held(value)
    for tensor, gradient in slopes:
        total = total + ops.sum((tensor - held(tensor)) * held(gradient))
    return total
