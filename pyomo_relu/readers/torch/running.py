"""A PyTorch module as it runs, for the check of what was read from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pyomo_relu.readers.checking import Arithmetic, Framework, Record
from pyomo_relu.readers.torch.program import Program


class TorchModel(Framework):
    """A module, evaluated one sample at a time as it was read.

    Parameters
    ----------
    source : torch.nn.Module
        In eval mode.
    shapes : list of tuple of int
        Of one sample of each input, without the batch axis.
    kind : (dtype, device)
        Of the inputs.
    program : Program, optional
        What was read of it.
    handles : dict, optional
        The builder's node for each node of the program.
    heads : dict of callables
        See :class:`~pyomo_relu.readers.checking.Framework`.
    """

    def __init__(
        self,
        torch: Any,
        source: Any,
        shapes: Sequence[tuple[int, ...]],
        kind: tuple[Any, Any],
        program: Program | None = None,
        handles: dict[Any, int] | None = None,
        heads: dict[int, Callable[[np.ndarray], np.ndarray]] | None = None,
    ) -> None:
        super().__init__()
        self.torch, self.source, self.shapes = torch, source, list(shapes)
        self.program, self.handles = program, handles or {}
        self.heads = heads or {}
        self.name = f"the PyTorch module {type(source).__name__}"
        self.kind, self.device = kind
        tensors = [*source.parameters(), *source.buffers()]
        if program is not None:
            values = [node.meta.get("val") for node in program.nodes]
            tensors += [v for v in values if isinstance(v, torch.Tensor)]
        found = {str(t.dtype).split(".")[-1] for t in tensors if t.is_floating_point()}
        found.add(str(self.kind).split(".")[-1])
        self.arithmetic = Arithmetic.of(found, coarse=self.device.type != "cpu")

    def samples(self, point: np.ndarray) -> list[Any]:
        """The inputs of the module at one point, tensors of their own."""
        found, start = [], 0
        for shape in self.shapes:
            size = int(np.prod(shape, dtype=np.int64))
            part = point[start : start + size].reshape(1, *shape)
            tensor = self.torch.tensor(part, dtype=self.kind, device=self.device)
            found.append(tensor)
            start += size
        return found

    def outputs(self, points: np.ndarray) -> list[np.ndarray]:
        """What the module returns, its tensors one after the other."""
        leaves = self.torch.utils._pytree.tree_leaves
        rows = [
            [_flat(leaf) for leaf in leaves(self.source(*self.samples(point)))]
            for point in points
        ]
        return [np.stack(parts) for parts in zip(*rows, strict=True)]

    def replay(
        self, points: np.ndarray
    ) -> tuple[list[Record], list[np.ndarray] | None] | None:
        """Run the program operation by operation."""
        if self.program is None:
            return None
        runs = [self._run(point) for point in points]
        records = [
            Record(
                f"its layer '{self.program.label(node)}' ({self.program.title(node)})",
                handle,
                np.stack([_flat(run[node]) for run in runs]),
            )
            for node, handle in self.handles.items()
        ]
        torch = self.torch
        rows = []
        for run in runs:
            found = torch.fx.node.map_arg(self.program.results, run.__getitem__)
            rows.append([_flat(v) for v in torch.utils._pytree.tree_leaves(found)])
        return records, [np.stack(parts) for parts in zip(*rows, strict=True)]

    def _run(self, point: np.ndarray) -> dict[Any, Any]:
        assert self.program is not None
        values = dict(self.program.constants)
        values.update(zip(self.program.inputs, self.samples(point)))
        for node in self.program.nodes:
            args, kwargs = self.torch.fx.node.map_arg(
                (node.args, node.kwargs), values.__getitem__
            )
            module = self.program.module(node)
            if module is None:
                values[node] = node.target(*args, **kwargs)
            else:  # it may work in place, and its input is a record
                values[node] = module(*[a.clone() for a in args], **kwargs)
        return values


def _flat(value: Any) -> np.ndarray:
    return value.detach().cpu().double().numpy().reshape(-1)
