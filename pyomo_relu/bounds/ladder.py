"""The ladder: rungs by name, from cheap to tight, and the one entry to climb it."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pyomo_relu.bounds.alpha_crown import alpha_crown
from pyomo_relu.bounds.bounds import Bounds
from pyomo_relu.bounds.boxes import boxes
from pyomo_relu.bounds.crown import crown, improved_interval
from pyomo_relu.bounds.interval import interval
from pyomo_relu.bounds.lp import from_crown, lp
from pyomo_relu.bounds.mip import mip, rolling
from pyomo_relu.bounds.well_scaled import well_scaled
from pyomo_relu.network import Network
from pyomo_relu.network.rescaling import bounds_with_factors

#: Rungs by name. A rung is called as ``rung(network, lower, upper, start, **options)``
#: with the (n_inputs,) box and the bounds of the rung below, and returns Bounds.
RUNGS: dict[str, Callable[..., Bounds]] = {
    "interval": interval,
    "improved_interval": improved_interval,
    "crown": crown,
    "alpha_crown": alpha_crown,
    "boxes": boxes,
    "lp": lp,
    "rolling": rolling,
    "mip": mip,
}

#: Rungs whose numbers come from a solver, which drops and rounds by absolute tolerances.
PROGRAMS = ("lp", "rolling", "mip")


@dataclass(frozen=True)
class Default:
    """What ``bounds=None`` stands for, measured in docs/benchmarks/bounds.md.

    Attributes
    ----------
    few_inputs : int
        ``boxes`` is for networks of at most so many inputs.
    least_neurons, few_neurons : int
        It is for networks of more neurons than the first number, where looser bounds cost
        a solver more than boxes do, and of at most the second, where a few hundred boxes
        take a fraction of a second.
    boxes : int
        How many boxes that are.
    """

    few_inputs: int = 5
    least_neurons: int = 50
    few_neurons: int = 400
    boxes: int = 256


DEFAULT = Default()

logger = logging.getLogger(__name__)


def default_rung(network: Network) -> tuple[str, dict]:
    """The rung and the options that ``bounds=None`` stands for.

    The best trade measured (docs/benchmarks/bounds.md): ``boxes`` where the inputs are
    few, tighter than ``lp`` in less time, and ``crown`` elsewhere.
    """
    few = DEFAULT.least_neurons < network.n_neurons <= DEFAULT.few_neurons
    if network.n_inputs <= DEFAULT.few_inputs and few:
        return "boxes", {"count": DEFAULT.boxes}
    return "crown", {}


def register_bounds(name: str) -> Callable[[Callable[..., Bounds]], Callable[..., Bounds]]:
    """Decorator that adds a rung to the ladder under ``name``."""

    def add(rung: Callable[..., Bounds]) -> Callable[..., Bounds]:
        RUNGS[name] = rung
        return rung

    return add


def check_box(
    network: Network, lower: ArrayLike, upper: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Return the box as float64 arrays, or say what is wrong with it."""
    n = network.n_inputs
    low, high = (
        np.array(np.broadcast_to(np.asarray(a, dtype=float).reshape(-1), (n,)))
        if np.size(a) in (1, n)
        else None
        for a in (lower, upper)
    )
    if low is None or high is None:
        raise ValueError(
            f"the network has {n} inputs, but bounds for {np.size(lower)} and "
            f"{np.size(upper)} were given."
        )
    names = network.input_names or tuple(f"input {i}" for i in range(n))
    bad = np.flatnonzero(~(np.isfinite(low) & np.isfinite(high)))
    if bad.size:
        raise ValueError(
            f"{names[bad[0]]} has no finite bounds ({low[bad[0]]}, {high[bad[0]]}); "
            "every input needs both."
        )
    bad = np.flatnonzero(low > high)
    if bad.size:
        raise ValueError(
            f"{names[bad[0]]} has inverted bounds ({low[bad[0]]}, {high[bad[0]]})."
        )
    return low, high


Step = str | tuple[str, Mapping]


def read_steps(
    method: Step | Sequence[Step] | None, network: Network, **last: Any
) -> list[tuple[str, dict]]:
    """The rungs to climb, each with its options; ``last`` are options of the last one.

    Raises
    ------
    ValueError
        For an unknown rung or option.
    """
    if method is None:
        method = [default_rung(network)]
    if isinstance(method, str) or (
        isinstance(method, tuple) and len(method) == 2 and isinstance(method[1], Mapping)
    ):
        method = [method]  # type: ignore[list-item]
    found = []
    for step in method:
        name, options = (step, {}) if isinstance(step, str) else step  # type: ignore[misc]
        if name not in RUNGS:
            raise ValueError(
                f"there are no bounds '{name}'; choose one of {sorted(RUNGS)}."
            )
        found.append((name, dict(options)))
    if not found:
        raise ValueError(f"no bounds were named; choose from {sorted(RUNGS)}.")
    found[-1][1].update(last)
    for name, options in found:
        _check_options(name, options)
    return found


def _check_options(name: str, options: Mapping) -> None:
    parameters = inspect.signature(RUNGS[name]).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    known = [k for k in parameters if k not in ("network", "lower", "upper", "start")]
    for key in options:
        if key not in known:
            raise ValueError(
                f"the bounds '{name}' have no option '{key}'; "
                + (f"they take {known}." if known else "they take none.")
            )


def _in_good_units(
    name: str,
    network: Network,
    low: np.ndarray,
    high: np.ndarray,
    start: Bounds | None,
    options: dict,
) -> Bounds:
    """A rung's bounds, found in units in which a solver resolves every number."""
    start = from_crown(network, low, high, start)
    written = well_scaled(start)
    if written.factors is None:
        return RUNGS[name](network, low, high, start, **options)
    by = written.input_factors
    found = RUNGS[name](written.network, low * by, high * by, written.bounds, **options)
    return bounds_with_factors(found, network, [1.0 / f for f in written.factors])


def compute_bounds(
    network: Network,
    lower: ArrayLike,
    upper: ArrayLike,
    method: Step | Sequence[Step] | None = None,
    start: Bounds | None = None,
    **options: Any,
) -> Bounds:
    """Bound every node of ``network`` over an input box.

    Parameters
    ----------
    network : Network
    lower, upper : float or (n_inputs,) array_like
        The box, in the units of the network's inputs.
    method : str, (str, dict) or sequence of these, optional
        A rung's name, see :data:`RUNGS`, or several to climb in turn, each with its
        options: ``["crown", ("lp", {"time_limit": 5})]``. The default is the best trade
        measured, see :func:`default_rung`.
    start : Bounds, optional
        Valid bounds to start from.
    **options
        Passed to the (last) rung.

    Raises
    ------
    ValueError
        For an unknown rung or option, for infinite, inverted or missing bounds of an
        input, and for start bounds of another network or a smaller box.

    Notes
    -----
    Ctrl-C, and a rung's time limit, keep what is proved: the result then has
    ``details["interrupted"]``, and after Ctrl-C the rungs above are left out.
    """
    low, high = check_box(network, lower, upper)
    steps = read_steps(method, network, **options)
    if start is not None:
        start.check_covers(network, low, high)
    for name, own in steps:
        try:
            if name in PROGRAMS:
                start = _in_good_units(name, network, low, high, start, own)
            else:
                start = RUNGS[name](network, low, high, start, **own)
        except KeyboardInterrupt:
            # Ctrl-C outside of what a rung guards itself: the rungs below are proved.
            if start is None:
                raise
            start = start.renamed(start.method, interrupted=True, keyboard=True)
        if start.details.get("keyboard"):
            logger.warning("bounds '%s' were interrupted; kept what was proved.", name)
            break
    assert start is not None
    return start
