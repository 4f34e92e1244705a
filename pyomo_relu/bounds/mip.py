r"""`mip` and `rolling`: mixed-integer programs for every neuron, and their dual bounds.

``mip`` models all layers below a neuron exactly, so with enough time its bounds are
the neuron's true range: Fischetti and Jo's procedure, layer by layer. ``rolling``
models the last ``window`` layers and takes the activations below as a box of their
bounds, so that its programs stay small in deep networks.

Only dual bounds are used, moved outwards by a margin that covers the solver's
tolerances, and met with what was known before. A solve ends early once the side of the
neuron's breakpoint is decided: tighter bounds of a stable neuron help nobody.

Source: Fischetti and Jo, Constraints 23(3), 2018, section 2; Tjeng et al.,
arXiv 1711.07356; Zhao et al., arXiv 2401.05280 (rolling horizon).
"""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyomo_relu.base.progress import Interruptible
from pyomo_relu.bounds.array_model import ArrayModel
from pyomo_relu.bounds.bounds import Bounds
from pyomo_relu.bounds.layers import (
    LayerTask,
    by_layers,
    solve_rows,
    usable,
)
from pyomo_relu.bounds.lp import AT_LEAST_CROWN, lp
from pyomo_relu.bounds.parallel import built
from pyomo_relu.network import Network
from pyomo_relu.programs import NETWORK_DEFAULTS

#: The methods whose bounds an exact model starts from as they are. All of them are tighter
#: than ``crown``; from looser bounds ``lp`` is climbed first.
ABOVE_CROWN = tuple(m for m in AT_LEAST_CROWN if m != "crown")


@dataclass(frozen=True)
class Tolerances:
    """How far the solver's dual bounds are believed; chosen by hand."""

    #: HiGHS's absolute tolerances can't be trusted with a program whose numbers are larger
    #: than this; its neurons keep their bounds.
    largest: float = 1e7
    #: This share of the sizes of its terms is taken off a dual bound.
    margin: float = 1e-6
    #: HiGHS may stop at these gaps between its point and its bound.
    relative_gap: float = 1e-6
    absolute_gap: float = 1e-7


TOLERANCES = Tolerances()


class LayerMIP:
    """The mixed-integer program of one layer, for one objective after the other."""

    def __init__(self, model: ArrayModel) -> None:
        self.model = model
        self.size = model.program.size
        self.scale = float(self.size.max(initial=1.0))
        weight = abs(model.program.matrix.data).max(initial=1.0)
        self.trusted = bool(max(self.scale, weight) <= TOLERANCES.largest)

    def minimum(self, c: np.ndarray, goal: float, seconds: float | None) -> float | None:
        """A lower bound of the minimum of ``c x`` with a margin; None if there is none.

        Parameters
        ----------
        goal : float
            A bound beyond which to stop; NaN where there is none.
        """
        reach = float(abs(c) @ self.size)
        if not self.trusted or reach > TOLERANCES.largest:
            return None
        # A new object for each solve: what an old one keeps would make a bound depend
        # on the solves before, and so on how the work was shared out.
        h = self.model.in_highs(relaxed=False)
        # The defaults leave HiGHS's heuristics out: they look for points, but these solves
        # want dual bounds (a network 2-20-20-1 takes 2.6 CPU seconds instead of 3.2).
        h.set(
            mip_rel_gap=TOLERANCES.relative_gap,
            mip_abs_gap=TOLERANCES.absolute_gap,
            **NETWORK_DEFAULTS,
        )
        h.set_costs(c)

        # The margin is for the solver's tolerances, and a decision must outlast it.
        share = TOLERANCES.margin
        margin = share * (1.0 + self.scale + 0.1 * reach)
        enough = goal + 2.0 * (margin + share * abs(goal))
        h.stop_when(lambda event: event.bound > enough)
        value = h.run(seconds).bound
        if not np.isfinite(value):
            return None
        return float(value) - margin - share * abs(value)


def mip_chunk(
    network: Network, token: str, task: LayerTask, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """Bounds of some rows of a node, and the number of solves."""
    options = task.options
    mip = built(
        token,
        lambda: LayerMIP(
            ArrayModel(
                network,
                task.lows,
                task.highs,
                task.node,
                task.rows,
                integer=True,
                window=options.get("window"),
            )
        ),
    )

    def minimum(c: np.ndarray, goal: float) -> float | None:
        limits = (options.get("neuron_time_limit"), task.deadline.limit)
        return mip.minimum(c, goal, min((t for t in limits if t is not None), default=None))

    return solve_rows(task, rows, mip.model.objective, minimum)


def mip(
    network: Network,
    lower: np.ndarray,
    upper: np.ndarray,
    start: Bounds | None = None,
    *,
    neuron_time_limit: float | None = 5.0,
    time_limit: float | None = None,
    executor: Executor | None = None,
    only_stability: bool = False,
) -> Bounds:
    """Bounds by exact models of all layers below each neuron.

    Networks with smooth units are refused: the models have pieces.

    Parameters
    ----------
    network : Network
    lower, upper : (n_inputs,) arrays
    start : Bounds, optional
        Valid bounds to start from; ``lp`` otherwise.
    neuron_time_limit : float, optional
        Seconds for each side of each neuron; None for no limit.
    time_limit : float, optional
        Seconds for all solves; what isn't reached keeps its bounds.
    executor : concurrent.futures.Executor, optional
        Where the programs are solved; in this process if left out.
    only_stability : bool
        Spend no solve on a neuron that samples show on both sides of its breakpoint.
    """
    options = {"neuron_time_limit": neuron_time_limit, "only_stability": only_stability}
    return _solve(network, lower, upper, start, "mip", time_limit, executor, options)


def rolling(
    network: Network,
    lower: np.ndarray,
    upper: np.ndarray,
    start: Bounds | None = None,
    *,
    window: int = 2,
    neuron_time_limit: float | None = 5.0,
    time_limit: float | None = None,
    executor: Executor | None = None,
    only_stability: bool = False,
) -> Bounds:
    """Bounds by exact models of the last layers below each neuron.

    Takes what :func:`mip` takes, and

    Parameters
    ----------
    window : int
        Layers of units in each model, at least 1.
    """
    if int(window) != window or window < 1:
        raise ValueError(f"window must be a whole number of at least 1, not {window}.")
    options = {
        "neuron_time_limit": neuron_time_limit,
        "only_stability": only_stability,
        "window": int(window),
    }
    return _solve(network, lower, upper, start, "rolling", time_limit, executor, options)


def _solve(
    network: Network,
    lower: np.ndarray,
    upper: np.ndarray,
    start: Bounds | None,
    method: str,
    time_limit: float | None,
    executor: Executor | None,
    options: dict[str, Any],
) -> Bounds:
    network.refuse_smooth(
        f"the bounds '{method}' are for piecewise-linear networks; take 'lp', "
        "'alpha_crown' or 'boxes'"
    )
    clock = Interruptible(time_limit)
    if not usable(start, ABOVE_CROWN, lower, upper):
        start = lp(network, lower, upper, start, time_limit=clock.limit, executor=executor)
    assert start is not None
    if start.details.get("keyboard"):
        return start
    return by_layers(
        network, lower, upper, start, method, mip_chunk, clock, executor, options
    )
