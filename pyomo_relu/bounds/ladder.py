"""The ladder: rungs by name, from cheap to tight, and the one entry to climb it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from pyomo_relu.bounds.bounds import Bounds
from pyomo_relu.bounds.interval import interval
from pyomo_relu.network import Network

#: Rungs by name. A rung is called as ``rung(network, lower, upper, start, **options)``
#: with the (n_inputs,) box and the bounds of the rung below, and returns Bounds.
RUNGS: dict[str, Callable[..., Bounds]] = {"interval": interval}

#: What ``bounds=None`` means: the best trade measured so far.
DEFAULT = "interval"


def register_bounds(name: str) -> Callable[[Callable[..., Bounds]], Callable[..., Bounds]]:
    """Decorator that adds a rung to the ladder under ``name``."""

    def add(rung: Callable[..., Bounds]) -> Callable[..., Bounds]:
        RUNGS[name] = rung
        return rung

    return add


def check_box(network: Network, lower, upper) -> tuple[np.ndarray, np.ndarray]:
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


def compute_bounds(
    network: Network,
    lower,
    upper,
    method: str | Sequence[str] | None = None,
    start: Bounds | None = None,
    **options,
) -> Bounds:
    """Bound every node of ``network`` over an input box.

    Parameters
    ----------
    network : Network
    lower, upper : float or (n_inputs,) array_like
        The box, in the units of the network's inputs.
    method : str or sequence of str, optional
        A rung's name, or several to climb in turn; see :data:`RUNGS`.
    start : Bounds, optional
        Valid bounds to start from.
    **options
        Passed to the (last) rung.

    Raises
    ------
    ValueError
        For an unknown rung, and for infinite, inverted or missing bounds of an input.
    """
    low, high = check_box(network, lower, upper)
    names = (
        [method or DEFAULT] if method is None or isinstance(method, str) else list(method)
    )
    for name in names:
        if name not in RUNGS:
            raise ValueError(
                f"there are no bounds '{name}'; choose one of {sorted(RUNGS)}."
            )
    for k, name in enumerate(names):
        last = k == len(names) - 1
        start = RUNGS[name](network, low, high, start, **(options if last else {}))
    assert start is not None
    return start
