"""Several network blocks as one network of the variables that drive them.

Blocks may share inputs, read linear expressions, and read each other's outputs. As one
graph, their linear bounds go through all of them at once, so a link between blocks
costs no tightness.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyomo.repn.linear import LinearRepnVisitor
from pyomo.repn.util import OrderedVarRecorder

from pyomo_relu.base.deadline import NEVER, Deadline
from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.network import (
    Affine,
    Input,
    Max,
    Network,
    NetworkBuilder,
    Node,
    PiecewiseLinear,
    Smooth,
)
from pyomo_relu.presolve.settings import COMPOSING


@dataclass
class LinearInput:
    """``sum of coefficient * variable + constant``, by ``id`` of the variable."""

    terms: dict[int, float]
    constant: float


def substituted(one: LinearInput, made_of: Mapping[int, LinearInput]) -> LinearInput:
    """A linear function with some of its variables written as functions of others."""
    terms: dict[int, float] = {}
    constant = one.constant
    for key, a in one.terms.items():
        other = made_of.get(key)
        if other is None:
            terms[key] = terms.get(key, 0.0) + a
            continue
        constant += a * other.constant
        for inner, b in other.terms.items():
            terms[inner] = terms.get(inner, 0.0) + a * b
    return LinearInput({key: a for key, a in terms.items() if a != 0}, constant)


@dataclass
class BlockLinks:
    """One block with its inputs as linear functions of variables.

    Attributes
    ----------
    block : ReLUNetBlockData
    inputs : list of LinearInput
    outputs : list of VarData
    """

    block: Any
    inputs: list[LinearInput]
    outputs: list[Any]

    @property
    def given_box(self) -> tuple[np.ndarray, np.ndarray]:
        """Bounds that the block was given for its inputs, infinite where none."""
        return self.block.given_box


def read_links(
    block: Any,
    variables: dict[int, Any],
    solver: str = "relu_global",
    stand_in: Callable[[Any, int, Any], Any] | None = None,
) -> BlockLinks:
    """Read what a block's inputs are made of; variables are added to the mapping.

    Parameters
    ----------
    block : ReLUNetBlockData
    variables : dict
    solver : str
        The name that errors give the one who asks.
    stand_in : callable, optional
        Makes a variable for a nonlinear expression, from block, position and expression.

    Raises
    ------
    ValueError
        For a nonlinear expression where none stands in for it, a fixed variable without a
        value, or one that is fixed outside of its input's box.
    """
    met: dict[int, Any] = {}
    visitor = LinearRepnVisitor({}, var_recorder=OrderedVarRecorder(met, {}, None))
    found = []
    for i, entry in enumerate(block.entries):
        if isinstance(entry, float):
            found.append(LinearInput({}, entry))
        elif entry.is_variable_type() and entry.fixed:
            found.append(LinearInput({}, _fixed_value(block, i, entry)))
        elif entry.is_variable_type():
            variables[id(entry)] = entry
            found.append(LinearInput({id(entry): 1.0}, 0.0))
        else:
            repn = visitor.walk_expression(entry)
            if repn.nonlinear is not None:
                if stand_in is None:
                    raise ValueError(
                        f"'{block.name}': input {i} is a nonlinear expression; {solver} "
                        "takes linear ones, relu_scip takes it."
                    )
                v = stand_in(block, i, entry)
                variables[id(v)] = v
                found.append(LinearInput({id(v): 1.0}, 0.0))
                continue
            terms = {k: float(a) for k, a in repn.linear.items() if a != 0}
            variables.update((key, met[key]) for key in terms)
            found.append(LinearInput(terms, float(repn.constant)))
    return BlockLinks(block, found, list(block.output_variables))


def _fixed_value(block: Any, i: int, entry: Any) -> float:
    """The value of a fixed input, inside its box."""
    if entry.value is None:
        raise ValueError(f"'{entry.name}' is fixed, but has no value.")
    number = float(entry.value)
    low, high = (float(side[i]) for side in block.given_box)
    if not low - 1e-9 <= number <= high + 1e-9:
        raise ValueError(
            f"'{block.name}': '{entry.name}' is fixed at {number:g}, outside of "
            f"its input's box [{low:g}, {high:g}]; fix it inside, or widen "
            "input_bounds=."
        )
    return number


def order_links(
    links: Sequence[BlockLinks], known: Collection[int] = ()
) -> tuple[list[BlockLinks], set[int]]:
    """Each block after those it reads; where they read each other in a circle, cut it.

    Parameters
    ----------
    links : sequence of BlockLinks
    known : collection of int
        ``id`` of outputs that are inputs of their own, whatever order there is.

    Returns
    -------
    order : list of BlockLinks
    cut : set of int
        ``id`` of the output variables that are to be inputs of their own, each equal
        to the output by a row.
    """
    maker = {id(v): k for k, link in enumerate(links) for v in link.outputs}
    cut, none = set(known), set[int]()
    #: What links miss; most of them read no other block, and have no set.
    missing: dict[int, set[int]] = {}
    readers: dict[int, list[int]] = {}
    for k, link in enumerate(links):
        for one in link.inputs:
            for key in one.terms:
                if key in maker and key not in cut:
                    own = missing.setdefault(k, set())
                    if key not in own:
                        own.add(key)
                        readers.setdefault(key, []).append(k)
    # The block that misses the fewest outputs is next, the first of equals.
    heap = [(len(missing.get(k, none)), k) for k in range(len(links))]
    heapq.heapify(heap)
    order: list[int] = []
    done = [False] * len(links)
    while heap:
        count, k = heapq.heappop(heap)
        left = missing.get(k, none)
        if done[k] or count != len(left):
            continue  # it missed more when this was noted
        done[k] = True
        order.append(k)
        cut |= left
        for key in [*left, *(id(v) for v in links[k].outputs)]:
            for reader in readers.pop(key, ()):
                missing[reader].discard(key)
                if not done[reader]:
                    heapq.heappush(heap, (len(missing[reader]), reader))
    return [links[k] for k in order], cut


def fold_constants(links: Sequence[BlockLinks]) -> dict[int, float]:
    """Outputs of blocks that depend on no variable, by ``id``; readers get the values.

    Parameters
    ----------
    links : sequence of BlockLinks
        Each after those it reads; their inputs are changed.
    """
    known: dict[int, float] = {}
    for link in links:
        for one in link.inputs:
            for key in [k for k in one.terms if k in known]:
                one.constant += one.terms.pop(key) * known[key]
        if not any(one.terms for one in link.inputs):
            x = np.array([one.constant for one in link.inputs])
            y = link.block.network.evaluate(x)
            known.update((id(v), float(value)) for v, value in zip(link.outputs, y))
    return known


def compose(
    links: Sequence[BlockLinks],
    drivers: Sequence[Any],
    outputs: Sequence[Any],
    queries: sp.csr_array,
    deadline: Deadline = NEVER,
) -> Network:
    """One network from the drivers to linear functions of output variables.

    Parameters
    ----------
    links : sequence of BlockLinks
        In an order in which each reads only drivers and earlier outputs.
    drivers : sequence of VarData
    outputs : sequence of VarData
        Output variables, the columns of ``queries``.
    queries : (q, len(outputs)) CSR array
        The composed network's outputs.
    deadline : Deadline

    Raises
    ------
    TimeUp
        When the deadline has passed.
    """
    builder = NetworkBuilder()
    x = builder.input("drivers", (len(drivers),))
    column = {id(v): j for j, v in enumerate(drivers)}
    made: dict[int, tuple[int, int]] = {}  # output variable -> node and entry
    for group in _stacks(side_by_side(links, deadline)):
        deadline.check()
        handles = _copy(builder, group, x, column, made)
        for i, span in group[0].block.network.output_slices():
            size = span.stop - span.start
            for j, link in enumerate(group):
                for entry, v in enumerate(link.outputs[span]):
                    made[id(v)] = (handles[i], j * size + entry)
    spots: dict[int, list[tuple[int, int]]] = {}  # handle: rows and entries of outputs
    for j, v in enumerate(outputs):
        handle, entry = made[id(v)]
        spots.setdefault(handle, []).append((j, entry))
    terms = []
    # In the order of the links, whatever that of the outputs.
    for handle in sorted(spots):
        rows, entries = np.array(spots[handle]).T
        shape = (len(outputs), builder.nodes[handle].size)
        chosen = sp.csr_array((np.ones(len(rows)), (rows, entries)), shape=shape)
        terms.append((handle, sp.csr_array(queries @ chosen)))
    last = builder.affine("queries", terms)
    return builder.build([last], deadline=deadline)


def side_by_side(
    links: Sequence[BlockLinks], deadline: Deadline = NEVER
) -> list[list[BlockLinks]]:
    """Blocks of one network that read nothing from each other, together.

    Parameters
    ----------
    links : sequence of BlockLinks
        Each after those it reads.
    """
    depth: dict[int, int] = {}
    found: dict[tuple[int, int], list[BlockLinks]] = {}
    for link in links:
        deadline.check()
        read = (depth.get(key, -1) for one in link.inputs for key in one.terms)
        level = 1 + max(read, default=-1)
        for v in link.outputs:
            depth[id(v)] = level
        found.setdefault((level, id(link.block.network)), []).append(link)
    return [found[key] for key in sorted(found, key=lambda key: key[0])]


def _stacks(groups: Iterable[list[BlockLinks]]) -> Iterator[list[BlockLinks]]:
    """Groups that are worth one node for all; others block by block."""
    for group in groups:
        largest = max(
            (
                w.shape[0] * w.shape[1]
                for node in group[0].block.network.nodes
                for w in getattr(node, "weights", ())
            ),
            default=0,
        )
        if len(group) >= COMPOSING.fewest_blocks and largest <= COMPOSING.most_weights:
            yield group
        else:
            yield from ([link] for link in group)


def _copy(
    builder: NetworkBuilder,
    group: Sequence[BlockLinks],
    x: int,
    column: dict[int, int],
    made: dict[int, tuple[int, int]],
) -> dict[int, int]:
    """Add the networks of blocks side by side; positions of nodes to handles.

    A node of the composed network holds the units of all blocks, one after another, so
    thousands of blocks are no more nodes than one.
    """
    network, name, k = group[0].block.network, group[0].block.name, len(group)
    handles: dict[int, int] = {}
    for i, span in network.input_slices():
        entries = [one for link in group for one in link.inputs[span]]
        handles[i] = _read(builder, f"{name}.inputs", entries, x, column, made)
    for i, node in enumerate(network.nodes):
        if not isinstance(node, Input):
            handles[i] = _repeat(builder, f"{name}.{node.name}", network, node, handles, k)
    return handles


def _repeat(
    builder: NetworkBuilder,
    label: str,
    network: Network,
    node: Node,
    handles: dict[int, int],
    k: int,
) -> int:
    """Add a node of ``network`` ``k`` times side by side; ``handles`` has its sources."""
    shape = node.shape if k == 1 else (k * node.size,)
    if isinstance(node, Affine):
        terms = [(handles[s], _repeated(w, k)) for s, w in zip(node.sources, node.weights)]
        return builder.affine(label, terms, np.tile(node.bias, k), shape)
    source = handles[node.sources[0]]
    if isinstance(node, PiecewiseLinear):
        at, slopes, constants = (
            np.tile(a, (k, 1)) for a in (node.breakpoints, node.slopes, node.intercepts)
        )
        return builder.piecewise(label, source, (node.function, at, slopes, constants))
    if isinstance(node, Smooth):
        return builder.smooth(label, source, node.function, node.parameter)
    assert isinstance(node, Max)
    width = network.nodes[node.source].size
    own = [node.group(j) for j in range(node.size)]
    groups = [one + b * width for b in range(k) for one in own]
    return builder.max(label, source, groups, shape)


def _read(
    builder: NetworkBuilder,
    label: str,
    entries: Sequence[LinearInput],
    x: int,
    column: dict[int, int],
    made: dict[int, tuple[int, int]],
) -> int:
    """Add inputs as linear functions of the drivers ``x`` and of outputs made before."""
    places: dict[int, list[tuple[int, int, float]]] = {}  # handle: row, entry, weight
    for row, one in enumerate(entries):
        for key, a in one.terms.items():
            handle, entry = (x, column[key]) if key in column else made[key]
            places.setdefault(handle, []).append((row, entry, a))
    terms = [
        (h, _matrix(found, len(entries), builder.nodes[h].size))
        for h, found in (places or {x: []}).items()
    ]
    bias = np.array([one.constant for one in entries])
    return builder.affine(label, terms, bias)


def _repeated(weights: Any, k: int) -> Any:
    """A matrix ``k`` times along the diagonal."""
    if k == 1:
        return weights
    return sp.csr_array(sp.kron(sp.eye_array(k), sp.csr_array(weights), format="csr"))


def _matrix(places: list[tuple[int, int, float]], rows: int, columns: int) -> sp.csr_array:
    """A sparse matrix from (row, column, value); values at one place are added."""
    at = np.array([(i, j) for i, j, _ in places], dtype=np.int64).reshape(-1, 2)
    values = np.array([a for _, _, a in places], dtype=float)
    return sp.csr_array((values, (at[:, 0], at[:, 1])), shape=(rows, columns))
