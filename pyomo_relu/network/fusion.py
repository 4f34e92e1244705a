"""Composing consecutive affine nodes, and dropping what no output needs.

``A2 (A1 x + b1) + b2 = (A2 A1) x + (A2 b1 + b2)``: a flatten, a scaler or a batch
normalization next to a dense layer then costs no variable and no row. A chain is
only composed where that makes the network no larger.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pyomo_relu.base.deadline import NEVER, Deadline
from pyomo_relu.network import weights
from pyomo_relu.network.limits import fits
from pyomo_relu.network.nodes import (
    Affine,
    Input,
    Max,
    Node,
    PiecewiseLinear,
    Smooth,
    Weight,
)


def _at_most_one_per_row(node: Affine) -> bool:
    counts = np.zeros(node.size, dtype=np.int64)
    for w in node.weights:
        counts += weights.row_nonzeros(w)
        if (counts > 1).any():
            return False
    return True


def _compose(outer: Affine, inner: dict[int, Affine]) -> Affine:
    """``outer`` with some of its sources, the affine nodes ``inner``, written out."""
    terms: dict[int, Weight] = {}
    bias = outer.bias.copy()
    name, most = outer.name, outer.nonzeros
    for source, w in zip(outer.sources, outer.weights):
        node = inner.get(source)
        new = [(source, w)]
        if node is not None:
            bias = bias + w @ node.bias
            new = [(s, weights.product(w, v)) for s, v in zip(node.sources, node.weights)]
            if node.nonzeros > most:
                name, most = node.name, node.nonzeros
        for s, v in new:
            weights.add_to(terms, s, v)
    return Affine(name, outer.shape, tuple(terms), tuple(terms.values()), bias)


def fuse_affine(
    nodes: list[Node], outputs: list[int], deadline: Deadline = NEVER
) -> list[Node]:
    """Compose each affine node with the affine nodes it reads, where that pays.

    An inner node is written out when this is its only reader, or when it only selects
    and scales (at most one weight in a row), and the product is not larger than its
    parts. Positions stay; what is no longer read is left for :func:`prune`.
    """
    return _Fusion(nodes, outputs).run(deadline)


class _Fusion:
    """The nodes as they are by now, and how many read each of them."""

    def __init__(self, nodes: list[Node], outputs: list[int]) -> None:
        self.nodes = list(nodes)
        self.readers = np.zeros(len(nodes), dtype=np.int64)
        for node in nodes:
            for s in node.sources:
                self.readers[s] += 1
        for i in outputs:
            self.readers[i] += 1
        self.selects: dict[int, bool] = {}  # whether a node only selects and scales

    def run(self, deadline: Deadline) -> list[Node]:
        for i, node in enumerate(self.nodes):
            deadline.check()
            seen: set[int] = set()
            while isinstance(node, Affine) and (inner := self._inner(node, seen)):
                node = _compose(node, inner)
                for s, source in inner.items():
                    self.readers[s] -= 1
                    for t in source.sources:
                        self.readers[t] += 1
            self.nodes[i] = node
        return self.nodes

    def _inner(self, node: Affine, seen: set[int]) -> dict[int, Affine]:
        """The sources, not seen before, that are worth being written out."""
        inner = {}
        light = _at_most_one_per_row(node)
        for s, w in zip(node.sources, node.weights):
            source = self.nodes[s]
            if s in seen or not isinstance(source, Affine):
                continue
            seen.add(s)
            if s not in self.selects:
                self.selects[s] = _at_most_one_per_row(source)
            only_reader = self.readers[s] == 1
            if self.selects[s] or (only_reader and (light or _pays(w, source))):
                inner[s] = source
        return inner


def _pays(w: Weight, inner: Affine) -> bool:
    """Whether the product of a weight and the node it reads is no larger than both."""
    if not all(fits(weights.product_memory(w, v)) for v in inner.weights):
        return False
    filled = sum(weights.nonzeros(weights.product(w, v)) for v in inner.weights)
    return filled <= weights.nonzeros(w) + inner.nonzeros


def prune(
    nodes: list[Node], outputs: list[int], inputs: list[int]
) -> tuple[list[Node], list[int], list[int]]:
    """Drop nodes that no output depends on and number the others anew.

    Inputs always stay: a caller passes values for each of them.
    """
    needed = set(outputs) | set(inputs)
    for i in range(len(nodes) - 1, -1, -1):
        if i in needed:
            needed.update(nodes[i].sources)
    kept = sorted(needed)
    new = {old: k for k, old in enumerate(kept)}
    names: set[str] = set()
    result: list[Node] = []
    for old in kept:
        node = nodes[old]
        name, k = node.name, 1
        while name in names:
            k += 1
            name = f"{node.name}_{k}"
        names.add(name)
        if isinstance(node, Affine):
            sources = tuple(new[s] for s in node.sources)
            result.append(replace(node, name=name, _sources=sources))
        elif isinstance(node, (PiecewiseLinear, Smooth, Max)):
            result.append(replace(node, name=name, source=new[node.source]))
        else:
            assert isinstance(node, Input)
            result.append(replace(node, name=name))
    return result, [new[i] for i in outputs], [new[i] for i in inputs]
