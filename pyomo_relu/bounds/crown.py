"""`crown`: backward linear bounds with several slope rules, intersected.

Each rule is valid by itself, and none is best everywhere, so the bounds of a neuron
are the tightest that any rule or interval arithmetic gives. Only neurons that a line
can still help are asked about: those whose interval meets a breakpoint, those of smooth
layers, the outputs, and what a maximum compares.

Source: Zhang et al., arXiv 1811.00866; Singh et al., POPL 2019; Weng et al.,
arXiv 1804.09699.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.base.rounding import EPS
from pyomo_relu.bounds.backward import Backward, times
from pyomo_relu.bounds.bounds import Bounds, as_bounds
from pyomo_relu.bounds.interval import meet, propagate, reads_inputs_only
from pyomo_relu.bounds.linear import RULES, group_numbers
from pyomo_relu.bounds.smooth_lines import steepest
from pyomo_relu.network import Affine, Input, Max, Network, PiecewiseLinear, Smooth
from pyomo_relu.network.weights import absolute

# Numbers that one coefficient array of a pass may hold (16 MiB).
CHUNK = 2**21


def needed_entries(
    network: Network, i: int, readers: list[int], lows: np.ndarray, highs: np.ndarray
) -> np.ndarray:
    """Entries of a node that linear bounds can help in each box, (N, size) bool.

    Given the node's ranges (N, size): a piecewise-linear reader needs those that meet a
    breakpoint; a smooth one those that vary; a maximum those that may be the largest; any
    other reader, and an output, all.
    """
    nodes = network.nodes
    everything = np.ones(lows.shape, dtype=bool)
    if i in network.outputs or not readers:
        return everything
    needed = ~everything
    for r in readers:
        node = nodes[r]
        if isinstance(node, PiecewiseLinear):
            for t in node.breakpoints.T:
                needed |= (lows < t) & (t <= highs)
        elif isinstance(node, Smooth):
            needed |= lows < highs
        elif isinstance(node, Max):
            groups = group_numbers(node)
            l, u = lows[:, node.indices], highs[:, node.indices]  # noqa: E741
            best = np.maximum.reduceat(l, node.indptr[:-1], axis=-1)[:, groups]
            alive = u > best
            several = np.add.reduceat(alive, node.indptr[:-1], axis=-1)[:, groups] > 1
            box, entry = np.nonzero(alive & several)
            needed[box, node.indices[entry]] = True
        else:
            return everything
    return needed


def needed_rows(
    network: Network, i: int, readers: list[int], lows: np.ndarray, highs: np.ndarray
) -> np.ndarray:
    """Numbers of the entries that linear bounds can help in some box."""
    needed = needed_entries(network, i, readers, lows, highs)
    return np.flatnonzero(needed.any(axis=0))


def crown_arrays(
    network: Network,
    lower: np.ndarray,
    upper: np.ndarray,
    start_bounds: tuple[Sequence[np.ndarray], Sequence[np.ndarray]] | None = None,
    nodes: Mapping[int, np.ndarray | None] | Sequence[int] | None = None,
    rules: Sequence[str] = RULES,
    groups: np.ndarray | None = None,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Linear bounds of every node over many boxes at once.

    Parameters
    ----------
    network : Network
    lower, upper : (N, n_inputs) arrays
        The boxes.
    start_bounds : (lows, highs), optional
        Valid bounds of every node to start from, each (size,), (1, size) or
        (N, size): those of a parent box, for example.
    nodes : sequence of int, or mapping to rows, optional
        The affine nodes to ask about, and which rows of each (None: those that are
        needed). The others get interval arithmetic and the start bounds. All that are
        needed if left out.
    rules : sequence of str
        Slope rules to intersect, see :mod:`pyomo_relu.bounds.linear`.
    groups : int array, optional
        The first box of each group. A row that is needed in one box is asked about in the
        other boxes of its group, and of no other: what is found for a group doesn't depend
        on its neighbours. All boxes are one group if left out.

    Returns
    -------
    lows, highs : lists of (N, size) arrays
        One for each node of the network.
    """
    lower, upper = np.atleast_2d(lower), np.atleast_2d(upper)
    lows: list[np.ndarray] = []
    highs: list[np.ndarray] = []
    engine = Backward(network, lower, upper, lows, highs)
    readers = network.readers()
    asked: Mapping[int, np.ndarray | None] | None = None
    if nodes is not None:
        asked = nodes if isinstance(nodes, Mapping) else dict.fromkeys(nodes)

    def ask(i: int, low: np.ndarray, high: np.ndarray) -> None:
        if reads_inputs_only(network, i):
            return
        rows = None if asked is None else asked.get(i, np.zeros(0, dtype=int))
        own: np.ndarray | None = None
        if rows is None:
            needed = needed_entries(network, i, readers[i], low, high)
            rows = np.flatnonzero(needed.any(axis=0))
            if groups is not None:
                own = _in_their_groups(needed[:, rows], groups)
        for rule in rules if len(rows) else ():
            a, b = query(engine, i, rows, rule)
            if own is not None:
                a, b = np.where(own, a, -np.inf), np.where(own, b, np.inf)
            low[:, rows], high[:, rows] = meet(low[:, rows], high[:, rows], a, b)

    return propagate(network, lower, upper, ask, start=start_bounds, lows=lows, highs=highs)


def _in_their_groups(needed: np.ndarray, groups: np.ndarray) -> np.ndarray | None:
    """What some box of a group needs, for each of its boxes; None where that is all."""
    if needed.all():
        return None
    found = np.logical_or.reduceat(needed, groups, axis=0)
    if found.all():
        return None
    sizes = np.diff(np.append(groups, len(needed)))
    return np.repeat(found, sizes, axis=0)


def query(
    engine: Backward, i: int, rows: np.ndarray, rule: str
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds (N, q) of the given rows of an affine node."""
    lows, highs = [], []
    widest = max([n.size for n in engine.network.nodes[: i + 1]])
    step = max(1, CHUNK // (2 * engine.batch * widest))
    for k in range(0, len(rows), step):
        some = rows[k : k + step]
        both = engine.lower_bound(*engine.run(i, signed_rows(some, engine, i), rule))
        lows.append(both[:, : len(some)])
        highs.append(-both[:, len(some) :])
    return np.hstack(lows), np.hstack(highs)


def signed_rows(rows: np.ndarray, engine: Backward, i: int) -> np.ndarray:
    """Unit rows of a node and their negatives, (2 q, size)."""
    q = len(rows)
    result = np.zeros((2 * q, engine.network.nodes[i].size))
    result[np.arange(q), rows] = 1.0
    result[np.arange(q, 2 * q), rows] = -1.0
    return result


@dataclass(frozen=True)
class LinearBounds:
    """``A_lower x + c_lower <= q(x) <= A_upper x + c_upper`` in each box.

    Attributes
    ----------
    lower, upper : (N, q, n_inputs) arrays
    lower_const, upper_const : (N, q) arrays
        Rounding is included.
    """

    lower: np.ndarray
    lower_const: np.ndarray
    upper: np.ndarray
    upper_const: np.ndarray

    def scores(self, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        """How much each input moves the queries over its box, (N, n_inputs).

        The larger of the two functions' ``|coefficient| * width``, summed over the
        queries: where to branch.
        """
        steep = np.maximum(abs(self.lower), abs(self.upper)).sum(axis=1)
        return steep * (upper - lower)


def linear_bounds_of(
    network: Network,
    lower: np.ndarray,
    upper: np.ndarray,
    lows: list[np.ndarray],
    highs: list[np.ndarray],
    node: int,
    rows: np.ndarray,
    rule: str = "adaptive",
) -> LinearBounds:
    """Linear functions of the inputs below and above rows of a node, for each box.

    Parameters
    ----------
    lower, upper : (N, n_inputs) arrays
    lows, highs : lists of (N, size) or (1, size) arrays
        Valid bounds of every node, as :func:`crown_arrays` returns them.
    node : int
    rows : (q,) int array or (q, size) float array
        Entries of the node, or coefficients of linear functions of all its entries.
    rule : str
        A slope rule.
    """
    lower, upper = np.atleast_2d(lower), np.atleast_2d(upper)
    engine = Backward(network, lower, upper, list(lows), list(highs))
    rows = np.asarray(rows)
    if rows.dtype.kind in "iu":
        both = signed_rows(rows, engine, node)
    else:
        both = np.concatenate([rows, -rows])
    a, c, e = engine.run(node, both, rule)
    # The constant is moved outwards; what is left of rounding is the evaluation of
    # the function over the box, which reaches |A| |x| + |c|.
    reach = np.matmul(abs(a), (abs(engine.center) + engine.radius)[:, :, None])[:, :, 0]
    c = c - 1.01 * e - 4.0 * (lower.shape[1] + 4.0) * EPS * (reach + abs(c))
    q, shape = len(both) // 2, (len(lower), len(both), lower.shape[1])
    a, c = np.broadcast_to(a, shape), np.broadcast_to(c, shape[:2])
    return LinearBounds(a[:, :q], c[:, :q], -a[:, q:], -c[:, q:])


def absolute_gradient(
    network: Network,
    lows: list[np.ndarray],
    highs: list[np.ndarray],
    node: int,
    rows: np.ndarray,
) -> np.ndarray:
    """Bound on the slope of rows of a node along each input, (N, q, n_inputs).

    Absolute weights times the steepest piece each neuron can reach in its box. Steps
    count with the slopes of their pieces only, so for them it is a score, no bound.
    """
    coefs = {node: np.eye(network.nodes[node].size)[None, rows]}
    slices = dict(network.input_slices())
    total = np.zeros((max(len(a) for a in lows), len(rows), network.n_inputs))
    for i in range(node, -1, -1):
        if i not in coefs:
            continue
        a, here = coefs.pop(i), network.nodes[i]
        if isinstance(here, Input):
            total[:, :, slices[i]] = a
        elif isinstance(here, Affine):
            for w, s in zip(here.weights, here.sources):
                coefs[s] = coefs.get(s, 0.0) + times(a, absolute(w))
        elif isinstance(here, PiecewiseLinear):
            low, high = lows[here.source], highs[here.source]
            least, greatest = here.slope_range(low, high)
            steep = np.maximum(abs(least), abs(greatest))
            coefs[here.source] = coefs.get(here.source, 0.0) + a * steep[:, None, :]
        elif isinstance(here, Smooth):
            steep = steepest(here, lows[here.source], highs[here.source])
            coefs[here.source] = coefs.get(here.source, 0.0) + a * steep[:, None, :]
        else:
            assert isinstance(here, Max)
            spread = np.zeros((*a.shape[:-1], network.nodes[here.source].size))
            np.add.at(
                spread,
                (slice(None), slice(None), here.indices),  # type: ignore[arg-type]
                a[..., group_numbers(here)],
            )
            coefs[here.source] = coefs.get(here.source, 0.0) + spread
    return total


def check_rules(rules: Sequence[str]) -> None:
    """Raise a ValueError for a slope rule that there is not."""
    unknown = sorted(set(rules) - {*RULES, "constant"})
    if unknown:
        raise ValueError(
            f"there is no slope rule '{unknown[0]}'; choose from {[*RULES, 'constant']}."
        )


def crown(
    network: Network,
    lower: np.ndarray,
    upper: np.ndarray,
    start: Bounds | None = None,
    *,
    rules: Sequence[str] = RULES,
) -> Bounds:
    """Bounds by backward linear propagation over the box ``[lower, upper]``.

    Parameters
    ----------
    network : Network
    lower, upper : (n_inputs,) arrays
    start : Bounds, optional
        Valid bounds to start from.
    rules : sequence of str
        Slope rules to intersect: ``adaptive``, ``zero``, ``one``, ``parallel``,
        ``constant``.
    """
    clock = Deadline()
    check_rules(rules)
    given = None if start is None else (start.lower, start.upper)
    lows, highs = crown_arrays(network, lower[None], upper[None], given, rules=rules)
    return as_bounds(network, lows, highs, "crown", clock, start)


def improved_interval(
    network: Network, lower: np.ndarray, upper: np.ndarray, start: Bounds | None = None
) -> Bounds:
    """Interval arithmetic with the neurons that stay on one piece folded away.

    Such a neuron is affine, so what reads it depends on its inputs linearly, and terms
    that interval arithmetic would bound apart can cancel. The others are replaced by
    their ranges.
    """
    found = crown(network, lower, upper, start, rules=("constant",))
    return found.renamed("improved_interval")
