r"""Positive rescaling: another network with the same outputs and better numbers.

ReLU, leaky ReLU and the absolute value are positively homogeneous,
:math:`\phi(s x) = s\,\phi(x)` for :math:`s > 0`, and so is the maximum of entries with
one common factor. With a factor for each neuron, and 1 for inputs and outputs,

.. math::
    \tilde W^k = D^k W^k (D^{k-1})^{-1},\qquad \tilde b^k = D^k b^k,\qquad D = \mathrm{diag}(s)

gives the same function. In :math:`t = \log s` the sum of all
:math:`|\tilde W_{ij}|^p = |W_{ij}|^p e^{p (t_i - t_j)}` and
:math:`|\tilde b_i|^p = |b_i|^p e^{p t_i}` is convex. With all other factors fixed, the
best :math:`s_i` is :math:`(c_i / a_i)^{1/2p}`, where :math:`a_i` sums the terms of the
neuron's own row and :math:`c_i` those of the weights that leave it; neurons of one layer
don't meet in a term, so a sweep over the layers is a block-coordinate descent.

What it does not do: the relaxation of a big-M model is mapped one to one,
:math:`\tilde x = s x`, so the value of its linear relaxation, the stable neurons and the
linear regions stay as they are, and so do all bounds but for the factor. What changes is
numerical: smaller constants, and less leakage through the integrality tolerance.

Source: the scaling of trained networks is that of Plate et al., arXiv 2502.03016; the
objectives and the closed-form steps here are our own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.network.network import Network
from pyomo_relu.network.nodes import Affine, Input, Max, Node, PiecewiseLinear, Smooth

#: Sweeps end when no factor moves by more than this share (chosen by hand: factors are
#: rounded to powers of two).
TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Rescaling:
    """What :func:`rescale` returns.

    Attributes
    ----------
    network : Network
        With the same outputs for every input.
    factors : tuple of (size,) arrays
        For each node: its value here is the factor times its value in the old network.
    objective : (float, float)
        What was minimized, before and after.
    sweeps : int
    """

    network: Network
    factors: tuple[np.ndarray, ...]
    objective: tuple[float, float]
    sweeps: int

    def bounds(self, bounds: Any) -> Any:
        """Bounds of the old network as bounds of this one.

        Parameters
        ----------
        bounds : Bounds
            The bounds of the network that was rescaled.

        Raises
        ------
        ValueError
            If a factor is not a power of two: the weights are then rounded, and the
            bounds must be computed anew.
        """
        mantissas = np.concatenate([np.frexp(f)[0] for f in self.factors])
        if (mantissas != 0.5).any():
            raise ValueError(
                "bounds carry over exactly only with powers of two; rescale with "
                "powers_of_two=True, or compute bounds of the new network."
            )
        return bounds_with_factors(bounds, self.network, self.factors)


def rescale(
    network: Network,
    objective: str = "weights",
    bounds: Any = None,
    *,
    power: float = 1.0,
    powers_of_two: bool = True,
    max_sweeps: int = 1000,
) -> Rescaling:
    """Scale the neurons of a network so that its numbers are small and balanced.

    Units that are not positively homogeneous (clipped ReLU, hard tanh, steps, smooth
    ones) keep their scale, and so does what they read; residual connections are no obstacle.

    Parameters
    ----------
    network : Network
    objective : {'weights', 'big_m'}
        The sum of all weights and biases; or of these and of the big-M constants
        ``u - l`` of unstable neurons. (The sum of big-M constants alone has no
        minimum: it tends to 0 while the weights behind grow.)
    bounds : Bounds, optional
        The bounds of the network, for ``'big_m'``.
    power : float
        Each term enters by this power.
    powers_of_two : bool
        Round the factors to powers of two: no weight is rounded then, and the outputs
        are equal bit by bit (but for numbers next to overflow or underflow).
    max_sweeps : int

    Returns
    -------
    Rescaling

    Raises
    ------
    ValueError
        For an unknown objective, or ``'big_m'`` without bounds of this network.
    """
    if objective not in ("weights", "big_m"):
        raise ValueError(f"the objective is 'weights' or 'big_m', not {objective!r}.")
    if not power > 0:
        raise ValueError(f"power must be positive, not {power}.")
    if objective == "big_m":
        if bounds is None:
            raise ValueError("the objective 'big_m' needs bounds= of the network.")
        check_belongs(network, bounds)
    program = _Program(network, power, bounds if objective == "big_m" else None)
    before = program.value(program.log)
    sweeps = program.minimize(max_sweeps)
    log = program.log
    if powers_of_two:
        log = np.round(log / np.log(2.0))
        scale = np.exp2(log)
        log = log * np.log(2.0)
    else:
        scale = np.exp(log)
    factors = tuple(scale[label] for label in program.labels)
    result = with_factors(network, factors)
    return Rescaling(result, factors, (before, program.value(log)), sweeps)


def check_belongs(network: Network, bounds: Any) -> None:
    """Raise a ValueError unless ``bounds`` are of this network, for the input box only."""
    if bounds.network.fingerprint != network.fingerprint:
        raise ValueError("the bounds belong to another network; compute them for this one.")
    if getattr(bounds, "scope", "box") != "box":
        raise ValueError(
            f"the bounds are valid for {bounds.scope} only; compute bounds over the "
            "input box."
        )


def homogeneous(node: PiecewiseLinear) -> np.ndarray:
    """(size,) bool: units with ``phi(s x) = s phi(x)`` for all ``s > 0``."""
    moved = np.asarray(node.breakpoints.any(axis=1) | node.intercepts.any(axis=1))
    return np.logical_not(moved)


def with_factors(network: Network, factors: Sequence[np.ndarray]) -> Network:
    """The network whose every value is a factor times the value in the given one.

    Parameters
    ----------
    network : Network
    factors : sequence of (size,) arrays
        Positive, for each node; those of inputs and outputs need not be 1: the network
        then reads and returns scaled values. Positively homogeneous units and groups of
        a maximum must have the factors that :func:`join_entries` joins.

    Returns
    -------
    Network
        With the same names and shapes; with powers of two no weight is rounded.
    """
    nodes = [_scaled(node, i, factors) for i, node in enumerate(network.nodes)]
    return network.with_nodes(nodes)


def bounds_with_factors(
    bounds: Any, network: Network, factors: Sequence[np.ndarray]
) -> Any:
    """Bounds for the network that :func:`with_factors` returned, exact for powers of two."""
    return replace(
        bounds,
        network=network,
        lower=tuple(f * a for f, a in zip(factors, bounds.lower)),
        upper=tuple(f * a for f, a in zip(factors, bounds.upper)),
    )


def _scaled(node: Node, i: int, factors: Sequence[np.ndarray]) -> Node:
    if isinstance(node, PiecewiseLinear):
        return _scaled_activation(node, factors[node.source], factors[i])
    if not isinstance(node, Affine):
        return node
    own = factors[i]
    weights = []
    for s, w in zip(node.sources, node.weights):
        if sp.issparse(w):
            rows = np.repeat(np.arange(node.size), np.diff(w.indptr))
            data = w.data * own[rows] / factors[s][w.indices]
            weights.append(sp.csr_array((data, w.indices, w.indptr), shape=w.shape))
        else:
            weights.append(w * own[:, None] / factors[s])
    return replace(node, weights=tuple(weights), bias=node.bias * own)


def _scaled_activation(
    node: PiecewiseLinear, before: np.ndarray, after: np.ndarray
) -> PiecewiseLinear:
    """The activation between a scaled argument and a scaled value."""
    plain = (before == 1.0) & (after == 1.0)
    if (plain | (homogeneous(node) & (before == after))).all():
        return node
    return replace(
        node,
        breakpoints=node.breakpoints * before[:, None],
        slopes=node.slopes * (after / before)[:, None],
        intercepts=node.intercepts * after[:, None],
    )


def join_entries(network: Network, fix: bool) -> list[np.ndarray]:
    """For each node, a label of each entry; entries with one label need one factor.

    Positively homogeneous units have the factor of their argument, the entries of a
    maximum one that is common to all.

    Parameters
    ----------
    network : Network
    fix : bool
        Give label 0, for the factor 1, to inputs, outputs and other units. Else only
        smooth units and what they read have label 0, and a piecewise-linear unit that is
        not homogeneous has a factor of its own.
    """
    start = np.concatenate([[1], 1 + np.cumsum([n.size for n in network.nodes])])
    fixed = np.zeros(1, dtype=np.int64)
    pairs: list[np.ndarray] = [np.stack([fixed, fixed])]

    def join(a: np.ndarray, b: np.ndarray) -> None:
        pairs.append(np.stack(np.broadcast_arrays(a, b)))

    for i, node in enumerate(network.nodes):
        own = np.arange(start[i], start[i + 1])
        if fix and (isinstance(node, Input) or i in network.outputs):
            join(own, fixed)
        if isinstance(node, PiecewiseLinear):
            read = np.arange(start[node.source], start[node.source + 1])
            same = homogeneous(node)
            if fix:
                join(own, read)
                join(own[~same], fixed)
            else:
                join(own[same], read[same])
        elif isinstance(node, Smooth):
            # A smooth function has no multiples: argument and value keep their units.
            join(own, fixed)
            join(np.arange(start[node.source], start[node.source + 1]), fixed)
        elif isinstance(node, Max):
            group = np.repeat(np.arange(node.size), np.diff(node.indptr))
            join(own[group], start[node.source] + node.indices)
    from scipy.sparse.csgraph import connected_components

    a, b = np.concatenate(pairs, axis=1)
    total = int(start[-1])
    graph = sp.csr_array((np.ones(len(a)), (a, b)), shape=(total, total))
    _, found = connected_components(graph, directed=False)
    # Label 0 for what is fixed.
    order = np.where(found == found[0], 0, found + 1)
    _, order = np.unique(order, return_inverse=True)
    return [order[start[i] : start[i + 1]] for i in range(len(network.nodes))]


class _Program:
    """The convex program in the logarithms of the factors.

    Entries that must have one factor share a label; label 0 is the factor 1.
    """

    def __init__(self, network: Network, power: float, bounds: Any) -> None:
        self.network, self.power = network, power
        self.labels = join_entries(network, fix=True)
        self.n = 1 + max(int(label.max(initial=0)) for label in self.labels)
        self.log = np.zeros(self.n)
        self._terms(bounds)

    def _terms(self, bounds: Any) -> None:
        p, n, labels = self.power, self.n, self.labels
        none = np.zeros(0, dtype=np.int64)
        entries = [(np.zeros(0), none, none)]  # the terms s_row^p / s_column^p * value
        self.constant = np.zeros(n)  # the terms s_i^p * constant_i
        blocks = []
        for i, node in enumerate(self.network.nodes):
            if isinstance(node, Affine):
                np.add.at(self.constant, labels[i], abs(node.bias) ** p)
                blocks.append(np.unique(labels[i][labels[i] > 0]))
                for s, w in zip(node.sources, node.weights):
                    w = sp.coo_array(w)
                    rows, columns = labels[i][w.row], labels[s][w.col]
                    entries.append((abs(w.data) ** p, rows, columns))
            elif isinstance(node, PiecewiseLinear) and bounds is not None:
                low, high = bounds.lower[node.source], bounds.upper[node.source]
                width = np.where(bounds.stable(i), 0.0, high - low) ** p
                np.add.at(self.constant, labels[i], width)
        values, rows, columns = map(np.concatenate, zip(*entries))
        matrix = sp.csr_array((values, (rows, columns)), shape=(n, n))
        matrix.sum_duplicates()
        self.matrix, transposed = matrix, sp.csr_array(matrix.T)
        self.blocks = [(b, matrix[b], transposed[b]) for b in blocks if len(b)]

    def value(self, log: np.ndarray) -> float:
        """The sum of all terms."""
        e = np.exp(self.power * log)
        return float(e @ (self.matrix @ (1.0 / e)) + e @ self.constant)

    def minimize(self, max_sweeps: int) -> int:
        """Sweep over the layers; returns how often."""
        p = self.power
        for sweep in range(1, max_sweeps + 1):
            moved = 0.0
            # Up and down in turn: what one end demands reaches the other in one sweep.
            for block, entering, leaving in self.blocks[:: 1 if sweep % 2 else -1]:
                e = np.exp(p * self.log)
                a = e[block] * (entering @ (1.0 / e) + self.constant[block])
                c = (leaving @ e) / e[block]
                # A neuron that reads nothing, or that nothing reads, has no best factor.
                both = (a > 0) & (c > 0)
                step = np.zeros(len(block))
                step[both] = np.log(c[both] / a[both]) / (2.0 * p)
                self.log[block] += step
                moved = max(moved, float(abs(step).max(initial=0.0)))
            if moved <= TOLERANCE:
                return sweep
        return max_sweeps
