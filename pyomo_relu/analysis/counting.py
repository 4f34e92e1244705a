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

import time
from dataclasses import dataclass
from math import comb

import numpy as np

from pyomo_relu.analysis.splitting import CellTree
from pyomo_relu.bounds import Bounds, compute_bounds
from pyomo_relu.network import Max, Network, PiecewiseLinear


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
        Of any size; for networks that are no chain, without the loss of dimension.
    """
    free = network.n_inputs
    if bounds is not None:
        low, high = bounds.input_box
        free = int((low < high).sum())
    chain = _is_chain(network)
    layers: list[tuple[PiecewiseLinear | Max, np.ndarray, Bounds | None]] = []
    for i, node in enumerate(network.nodes):
        if isinstance(node, PiecewiseLinear):
            stable = np.zeros(node.size, bool) if bounds is None else bounds.stable(i)
            layers.append((node, stable, bounds))
        elif isinstance(node, Max):
            layers.append((node, np.zeros(node.size, bool), bounds))
    # dimensions[d]: how many regions at most have an image of at most d dimensions.
    dimensions = {free: 1}
    for node, stable, known in layers:
        following: dict[int, int] = {}
        for d, count in dimensions.items():
            for after, parts in _parts(node, stable, known, d, chain).items():
                following[after] = following.get(after, 0) + count * parts
        dimensions = following
    return sum(dimensions.values())


def _is_chain(network: Network) -> bool:
    readers = network.readers()
    return len(network.inputs) == 1 and all(
        len(n.sources) <= 1 and len(r) <= 1 for n, r in zip(network.nodes, readers)
    )


def _parts(node, stable, bounds, d: int, chain: bool) -> dict[int, int]:
    """By the dimension behind a layer, the number of parts of a d-dimensional region."""
    if isinstance(node, Max):
        # The borders of a group of m entries lie on m (m - 1) / 2 hyperplanes.
        planes = sum(comb(int(m), 2) for m in np.diff(node.indptr))
        return {min(d, node.size) if chain else d: _arrangement(planes, 1, d)}
    n, k = int((~stable).sum()), node.breakpoints.shape[1]
    if not chain:
        return {d: _arrangement(n, k, d)}
    if not node.is_relu:
        return {min(d, node.size): _arrangement(n, k, d)}
    active = 0
    if bounds is not None:
        active = int((stable & (bounds.lower[node.source] >= 0.0)).sum())
    found: dict[int, int] = {}
    for j in range(min(n, d) + 1):
        after = min(d, n - j + active)
        found[after] = found.get(after, 0) + comb(n, j)
    return found


def _arrangement(families: int, parallel: int, d: int) -> int:
    return sum(comb(families, j) * parallel**j for j in range(min(families, d) + 1))


def count_regions(
    network: Network,
    lower,
    upper,
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
    if method not in ("cells", "mip"):
        raise ValueError(f"the method is 'cells' or 'mip', not {method!r}.")
    begin = time.perf_counter()
    found = compute_bounds(network, lower, upper, start=bounds)
    end = None if time_limit is None else begin + time_limit
    if method == "cells":
        tree = CellTree(network, found, 1e-8 if margin is None else margin)
        count, complete = tree.count(max_count, end)
        return RegionCount(count, complete, time.perf_counter() - begin, tree.solves)
    return _by_mip(
        network, found, 1e-5 if margin is None else margin, max_count, end, begin
    )


def _by_mip(network, bounds, margin, max_count, end, begin) -> RegionCount:
    import pyomo.environ as pyo

    from pyomo_relu.block import ReLUNetBlock
    from pyomo_relu.solvers import ReluHighs

    for node in network.nodes:
        if isinstance(node, Max) or (
            isinstance(node, PiecewiseLinear) and node.breakpoints.shape[1] != 1
        ):
            raise ValueError(
                f"layer '{node.name}' is no activation of two pieces; count its regions "
                "by method='cells'."
            )
    m = pyo.ConcreteModel()
    low, high = bounds.input_box
    m.net = ReLUNetBlock(network=network, input_bounds=(low, high), bounds=bounds)
    m.margin = pyo.Var(bounds=(0.0, 1.0))
    m.sides, m.seen = pyo.ConstraintList(), pyo.ConstraintList()
    switches = []
    for i, node in enumerate(network.nodes):
        if not isinstance(node, PiecewiseLinear):
            continue
        open_ = np.flatnonzero(~bounds.stable(i))
        for u in open_.tolist():
            on = m.net.layer[node.name].on[u]
            z = m.net.layer[network.nodes[node.source].name].out[u]
            z = z / float(m.net.entry_factors(node.source)[u])
            t = float(node.breakpoints[u, 0])
            a, b = bounds.lower[node.source][u] - t, bounds.upper[node.source][u] - t
            # In units of the range, so that one number means the same for all.
            width = float(b - a)
            m.sides.add(m.margin <= (z - t) / width + (1.0 - a / width) * (1 - on))
            m.sides.add(m.margin <= (t - z) / width + (1.0 + b / width) * on)
            switches.append(on)
    m.best = pyo.Objective(expr=m.margin, sense=pyo.maximize)
    if not switches:
        return RegionCount(1, True, time.perf_counter() - begin, 0)
    solver, count, complete, solves = ReluHighs(), 0, False, 0
    while count < max_count:
        left = None if end is None else end - time.perf_counter()
        if left is not None and left <= 0:
            break
        solves += 1
        results = solver.solve(
            m,
            time_limit=left,
            start=None,
            load_solutions=False,
            raise_exception_on_nonoptimal_result=False,
            solver_options={
                "mip_feasibility_tolerance": 1e-9,
                "primal_feasibility_tolerance": 1e-9,
                "mip_rel_gap": 0.05,
            },
        )
        best, bound = results.incumbent_objective, results.objective_bound
        if results.termination_condition.name == "provenInfeasible" or (
            bound is not None and bound <= margin
        ):
            complete = True
            break
        if best is None or best <= margin:
            break
        results.solution_loader.load_vars()
        on = [v.value > 0.5 for v in switches]
        m.seen.add(sum(1 - v if s else v for v, s in zip(switches, on)) >= 1)
        count += 1
    return RegionCount(count, complete, time.perf_counter() - begin, solves)
