r"""How many linear regions: upper bounds by formula, exact counts for small networks.

**Upper bound.** :math:`n` families of :math:`k` parallel hyperplanes cut a
:math:`d`-dimensional space into at most :math:`\sum_{j=0}^{d} \binom{n}{j} k^j` parts.
Layer after layer, with the dimension that the active neurons leave (ReLU, layers in a
chain), this is the bound of Serra, Tjandraatmadja and Ramalingam,

.. math:: \sum_{j \in J} \prod_l \binom{n_l}{j_l}, \qquad
          J = \{0 \le j_l \le \min(n_0, n_1 - j_1, \dots, n_{l-1} - j_{l-1}, n_l)\}

where stable neurons are left out, with an active one keeping its dimension.

**Exact counts** in any dimension, of regions with an interior:

* ``cells`` follows the layers and splits each region by a small linear program for each
  neuron that may cross it: the largest ball in the part beyond. Regions are then as many
  as leaves, and the time is about proportional to their number.
* ``mip`` is the counting of Serra et al.: the activation pattern with the largest margin
  by which every unstable neuron is on its side; then it is forbidden, until none is left.

Source: Serra, Tjandraatmadja, Ramalingam, "Bounding and counting linear regions of deep
neural networks", ICML 2018, arXiv 1711.02114, theorem 7 and section 5. There only active
neurons need a margin; here inactive ones do, too, so that each region has an interior.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np
import pyomo.environ as pyo
from numpy.typing import ArrayLike

from pyomo_relu.analysis.cell_tree import CellTree
from pyomo_relu.base.deadline import Deadline
from pyomo_relu.block import ReLUNetBlock
from pyomo_relu.bounds import Bounds, compute_bounds
from pyomo_relu.network import Max, Network, PiecewiseLinear
from pyomo_relu.solvers import ReluHighs
from pyomo_relu.solvers.quietly import solve_quietly

#: The least margin of a counted region by method; see ``margin=`` of :func:`count_regions`.
MARGINS = {"cells": 1e-8, "mip": 1e-5}

#: How HiGHS looks for the next activation pattern: finer than the least margin, and with
#: a wide gap, since any pattern will do.
PATTERN_OPTIONS = {
    "mip_feasibility_tolerance": 1e-9,
    "primal_feasibility_tolerance": 1e-9,
    "mip_rel_gap": 0.05,
}


@dataclass(frozen=True)
class RegionCount:
    """What :func:`count_regions` returns.

    Attributes
    ----------
    count : int
        Regions found.
    complete : bool
        Whether these are all; otherwise a limit ended the count.
    seconds : float
    solves : int
        Linear or mixed-integer programs.
    """

    count: int
    complete: bool
    seconds: float
    solves: int


def max_regions(network: Network, bounds: Bounds | None = None) -> int:
    """An upper bound on the number of linear regions.

    Parameters
    ----------
    network : Network
    bounds : Bounds, optional
        Over a box: neurons that are stable there don't count, and neither do inputs
        that are fixed.

    Returns
    -------
    int
        It may be any size; for networks that are no chain, without the loss of dimension.
    """
    network.refuse_smooth("only piecewise-linear networks have linear regions")
    free = network.n_inputs
    if bounds is not None:
        low, high = bounds.input_box
        free = int((low < high).sum())
    readers = network.readers()
    chain = len(network.inputs) == 1 and all(
        len(n.sources) <= 1 and len(r) <= 1 for n, r in zip(network.nodes, readers)
    )
    # dimensions[d]: how many regions at most have an image of at most d dimensions.
    dimensions = {free: 1}
    for i, node in enumerate(network.nodes):
        if not isinstance(node, (PiecewiseLinear, Max)):
            continue
        following: dict[int, int] = {}
        for d, count in dimensions.items():
            parts = _parts(node, i, bounds, d) if chain else {d: _most(node, i, bounds, d)}
            for after, part in parts.items():
                following[after] = following.get(after, 0) + count * part
        dimensions = following
    return sum(dimensions.values())


def _unstable(node: PiecewiseLinear, i: int, bounds: Bounds | None) -> int:
    return node.size if bounds is None else int((~bounds.stable(i)).sum())


def _most(node: PiecewiseLinear | Max, i: int, bounds: Bounds | None, d: int) -> int:
    """Into how many parts a layer divides a d-dimensional region at most."""
    if isinstance(node, Max):
        # The borders of a group of m entries lie on m (m - 1) / 2 hyperplanes.
        families, parallel = sum(comb(int(m), 2) for m in np.diff(node.indptr)), 1
    else:
        families, parallel = _unstable(node, i, bounds), node.breakpoints.shape[1]
    return sum(comb(families, j) * parallel**j for j in range(min(families, d) + 1))


def _parts(
    node: PiecewiseLinear | Max, i: int, bounds: Bounds | None, d: int
) -> dict[int, int]:
    """In a chain, the parts by the dimension that they leave."""
    if isinstance(node, Max) or not node.is_relu:
        return {min(d, node.size): _most(node, i, bounds, d)}
    n, active = _unstable(node, i, bounds), 0
    if bounds is not None:
        active = int((bounds.stable(i) & (bounds.lower[node.source] >= 0.0)).sum())
    found: dict[int, int] = {}
    for j in range(min(n, d) + 1):
        after = min(d, n - j + active)
        found[after] = found.get(after, 0) + comb(n, j)
    return found


def count_regions(
    network: Network,
    lower: ArrayLike,
    upper: ArrayLike,
    method: str = "cells",
    *,
    bounds: Bounds | None = None,
    max_count: int = 100_000,
    time_limit: float | None = None,
    margin: float | None = None,
) -> RegionCount:
    """Count the linear regions with an interior over a box of any dimension.

    Parameters
    ----------
    network : Network
        Small: some thousand regions for ``cells``, some hundred for ``mip``.
    lower, upper : float or (n_inputs,) array_like
    method : {'cells', 'mip'}
        See the module. ``mip`` takes networks of ReLU, leaky ReLU and absolute values.
    bounds : Bounds, optional
        Over the box; computed if left out.
    max_count : int
        Stop beyond this number.
    time_limit : float, optional
        In seconds.
    margin : float, optional
        Thinner regions are not counted. For ``cells`` the radius of the largest ball in
        a box scaled to [-1, 1], 1e-8; for ``mip`` the distance to the breakpoints as a
        share of the range of each pre-activation, 1e-5.

    Raises
    ------
    ValueError
        For an unknown method, or activations that ``mip`` doesn't know.
    """
    network.refuse_smooth("only piecewise-linear networks have linear regions")
    if method not in MARGINS:
        raise ValueError(f"the method is 'cells' or 'mip', not {method!r}.")
    deadline = Deadline(time_limit)
    found = compute_bounds(network, lower, upper, start=bounds)
    margin = MARGINS[method] if margin is None else margin
    if method == "mip":
        return _by_mip(network, found, margin, max_count, deadline)
    tree = CellTree(network, found, margin)
    count, complete = tree.count(max_count, deadline)
    return RegionCount(count, complete, deadline.elapsed, tree.solves)


def _by_mip(
    network: Network, bounds: Bounds, margin: float, max_count: int, deadline: Deadline
) -> RegionCount:
    """Find one activation pattern after the other, and forbid it."""
    m, switches = _pattern_model(network, bounds)
    if not switches:
        return RegionCount(1, True, deadline.elapsed, 0)
    solver, count, complete, solves = ReluHighs(), 0, False, 0
    while count < max_count and not deadline.expired():
        solves += 1
        options = {"start": None, "solver_options": PATTERN_OPTIONS}
        solved = solve_quietly(solver, m, deadline.limit, **options)
        complete = solved.status == "infeasible" or solved.bound <= margin
        if complete or solved.value is None or solved.value <= margin:
            break
        on = [v.value > 0.5 for v in switches]
        m.seen.add(sum(1 - v if s else v for v, s in zip(switches, on)) >= 1)
        count += 1
    return RegionCount(count, complete, deadline.elapsed, solves)


def _pattern_model(network: Network, bounds: Bounds) -> tuple[pyo.ConcreteModel, list[Any]]:
    """The pattern with the largest margin, and the binaries of its unstable neurons."""
    m = pyo.ConcreteModel()
    m.net = ReLUNetBlock(network=network, input_bounds=bounds.input_box, bounds=bounds)
    m.margin = pyo.Var(bounds=(0.0, 1.0))
    m.sides, m.seen = pyo.ConstraintList(), pyo.ConstraintList()
    m.best = pyo.Objective(expr=m.margin, sense=pyo.maximize)
    switches = []
    for i, node in enumerate(network.nodes):
        if isinstance(node, Max) or (
            isinstance(node, PiecewiseLinear) and node.breakpoints.shape[1] != 1
        ):
            raise ValueError(
                f"layer '{node.name}' is no activation of two pieces; count its regions "
                "by method='cells'."
            )
        if not isinstance(node, PiecewiseLinear):
            continue
        low, high, factors = *_range(node, bounds), m.net.entry_factors(node.source)
        for u in np.flatnonzero(~bounds.stable(i)).tolist():
            on = m.net.layer[node.name].on[u]
            z = m.net.layer[network.nodes[node.source].name].out[u] / float(factors[u])
            t = float(node.breakpoints[u, 0])
            # Distances are in units of the range, so that one number means the same for all.
            a, b, width = low[u], high[u], high[u] - low[u]
            m.sides.add(m.margin <= (z - t) / width + (1.0 - a / width) * (1 - on))
            m.sides.add(m.margin <= (t - z) / width + (1.0 + b / width) * on)
            switches.append(on)
    return m, switches


def _range(node: PiecewiseLinear, bounds: Bounds) -> tuple[list[float], list[float]]:
    """Bounds of pre-activations, less their breakpoints."""
    t = node.breakpoints[:, 0]
    low, high = bounds.lower[node.source] - t, bounds.upper[node.source] - t
    return low.tolist(), high.tolist()
