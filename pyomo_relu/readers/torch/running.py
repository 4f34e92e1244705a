"""A PyTorch module as it runs, for the check of what was read from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pyomo_relu.readers.frameworks import Arithmetic, Framework, Record, inputs_at, stacked
from pyomo_relu.readers.torch.program import Program
from pyomo_relu.readers.values import Head, Tensor


class TorchModel(Framework):
    """A module, evaluated one sample at a time as it was read.

    Parameters
    ----------
    source : torch.nn.Module
        In eval mode.
    shapes : list of tuple of int
        The shape of one sample of each input, without the batch axis.
    kinds : list of (dtype, device)
        What each input is made of, and where.
    program : Program, optional
        What was read of it.
    values : mapping, optional
        What each node of the program became.
    outputs : sequence, optional
        What its outputs became; heads run from (N, size) logits.
    """

    def __init__(
        self,
        torch: Any,
        source: Any,
        shapes: Sequence[tuple[int, ...]],
        kinds: Sequence[tuple[Any, Any]],
        program: Program | None = None,
        values: Mapping[Any, Any] | None = None,
        outputs: Sequence[Tensor | Head] = (),
    ) -> None:
        super().__init__()
        self.torch, self.source, self.shapes = torch, source, list(shapes)
        self.program, self.values = program, values or {}
        self.heads = {k: v.run for k, v in enumerate(outputs) if isinstance(v, Head)}
        self.name = f"the PyTorch module {type(source).__name__}"
        self.kinds = list(kinds)
        tensors = [*source.parameters(), *source.buffers()]
        if program is not None:
            made = [node.meta.get("val") for node in program.nodes]
            tensors += [v for v in made if isinstance(v, torch.Tensor)]
        found = {str(t.dtype).split(".")[-1] for t in tensors if t.is_floating_point()}
        found |= {
            str(dtype).split(".")[-1] for dtype, _ in self.kinds if dtype.is_floating_point
        }
        coarse = any(device.type != "cpu" for _, device in self.kinds)
        self.arithmetic = Arithmetic.of(found, coarse=coarse)

    def samples(self, points: np.ndarray) -> list[list[Any]]:
        """The inputs of the module at each point, tensors of their own."""
        parts = inputs_at(points, [(1, *shape) for shape in self.shapes])
        return [
            [
                self.torch.tensor(p, dtype=dtype, device=device)
                for p, (dtype, device) in zip(point, self.kinds)
            ]
            for point in zip(*parts)
        ]

    def outputs(self, points: np.ndarray) -> list[np.ndarray]:
        """What the module returns, its tensors one after the other."""
        return stacked(self._flat(self.source(*point)) for point in self.samples(points))

    def replay(
        self, points: np.ndarray
    ) -> tuple[list[Record], list[np.ndarray] | None] | None:
        """Run the program operation by operation."""
        if self.program is None:
            return None
        runs = [self._run(self.program, sample) for sample in self.samples(points)]
        records = [
            Record(
                f"its layer '{self.program.label(node)}' ({self.program.title(node)})",
                value.handle,
                np.stack([_flat(run[node]) for run in runs]),
            )
            for node in self.program.nodes
            if isinstance(value := self.values[node], Tensor)
        ]
        results, mapped = self.program.results, self.torch.fx.node.map_arg
        return records, stacked(
            self._flat(mapped(results, run.__getitem__)) for run in runs
        )

    def _run(self, program: Program, sample: Sequence[Any]) -> dict[Any, Any]:
        values = dict(program.constants)
        values.update(zip(program.inputs, sample))
        for node in program.nodes:
            args, kwargs = self.torch.fx.node.map_arg(
                (node.args, node.kwargs), values.__getitem__
            )
            module = program.module(node)
            if module is None:
                values[node] = node.target(*args, **kwargs)
            else:  # it may work in place, and its input is a record
                values[node] = module(*[a.clone() for a in args], **kwargs)
        return values

    def _flat(self, tree: Any) -> list[np.ndarray]:
        return [_flat(leaf) for leaf in self.torch.utils._pytree.tree_leaves(tree)]


def _flat(value: Any) -> np.ndarray:
    return value.detach().cpu().double().numpy().reshape(-1)
