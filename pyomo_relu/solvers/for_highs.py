"""What the options of ``relu_highs`` mean for HiGHS."""

from __future__ import annotations

from typing import Any

from pyomo_relu.programs import NETWORK_DEFAULTS, HighsModel

#: HiGHS options that end a search before its proof; boxes would not heed them.
STOPS = ("mip_max_", "objective_target", "objective_bound", "simplex_iteration_limit")


def apply_config(highs: HighsModel, config: Any, has_networks: bool) -> None:
    """Set the measured defaults, what the configuration says, then the user's options.

    Raises
    ------
    ValueError
        For an unknown option or a value it can't take, naming it.
    """
    if has_networks:
        highs.set(NETWORK_DEFAULTS)
    own = {
        "threads": config.threads,
        "mip_rel_gap": config.rel_gap,
        "mip_abs_gap": config.abs_gap,
    }
    highs.set({k: v for k, v in own.items() if v is not None})
    highs.set(config.solver_options)


def stops_early(config: Any) -> bool:
    """Whether the user's options end HiGHS before its proof."""
    return any(str(name).startswith(STOPS) for name in config.solver_options)


def gaps(config: Any) -> tuple[float, float]:
    """The relative and the absolute gap asked for, HiGHS's own by default."""
    options = config.solver_options.value()
    relative = options.get("mip_rel_gap", config.rel_gap)
    absolute = options.get("mip_abs_gap", config.abs_gap)
    return (
        1e-4 if relative is None else float(relative),
        1e-6 if absolute is None else float(absolute),
    )
