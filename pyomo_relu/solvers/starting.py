"""Before HiGHS runs, networks that can be relied on and a complete start; then points."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.presolve.model_scope import unchanged_models
from pyomo_relu.programs.highs import Event
from pyomo_relu.programs.standard_form import StandardForm
from pyomo_relu.solvers.highs_settings import SETTINGS

if TYPE_CHECKING:
    from pyomo_relu.heuristics.start import StartSearch

logger = logging.getLogger(__name__)


def check_networks(blocks: Iterable[Any]) -> None:
    """Refuse network blocks that don't say what the network does.

    Raises
    ------
    ValueError
        For a block without a formulation, and for inputs that may leave the box the
        network was written for, by their bounds or by a fixed value.
    """
    with unchanged_models():
        for block in blocks:
            if not block.has_network or block.bounds is None:
                raise ValueError(
                    f"'{block.name}' has no formulation, so its outputs would be free; call "
                    f"{block.name}.reformulate('bigm'), or deactivate it."
                )
            block.check_box()


def present_values(
    form: StandardForm, blocks: Sequence[Any], deadline: Deadline
) -> np.ndarray | None:
    """The variables' present values as a start; the model's values stay.

    A network whose inputs have values but whose own variables have not gets these from
    a forward pass, and what is still missing from a small MIP with the rest fixed. HiGHS
    would do that itself, but it reports bounds of such a MIP as bounds of the model.

    Parameters
    ----------
    form : StandardForm
    blocks : list of network blocks
    deadline : Deadline
    """
    point = np.array(
        [math.nan if v.value is None else float(v.value) for v in form.columns]
    )
    missing = np.isnan(point)
    if not missing.any():
        return point
    if missing.all():
        return None
    from pyomo_relu.heuristics.network_columns import complete_through_networks
    from pyomo_relu.heuristics.region_walk import solve_fixed

    complete_through_networks(form, blocks, point)
    known = np.flatnonzero(~np.isnan(point))
    if len(known) == len(point):
        return point
    # Values that don't fit together as they are may still do so in the integers.
    for part in (known, known[form.integer[known]]):
        if len(part):
            found = solve_fixed(form, part, point[part], deadline)
            if found is not None:
                return found
    return None


class OngoingStart:
    """Points for HiGHS while it searches: what it asks for now and then.

    Parameters
    ----------
    search : StartSearch
        Has had its first run.
    """

    def __init__(self, search: StartSearch) -> None:
        self.search = search
        self.began, self.spent = time.process_time(), 0.0
        self.failed = False

    def __call__(self, event: Event) -> np.ndarray | None:
        """A better point than all before, (n_columns,), or None.

        The search gets its share of the CPU time since HiGHS began: a large one as long as
        there is no point at all.
        """
        known = self.search.best.feasible or math.isfinite(event.incumbent)
        share = SETTINGS.points_share if known else SETTINGS.points_share_without
        now = time.process_time()
        left = share * (now - self.began) - self.spent
        if self.failed or left < SETTINGS.points_least:
            return None
        try:
            point = self.search.more(min(left, SETTINGS.points_most))
        except Exception as error:  # a point is a gift: its failure must not cost the solve
            logger.warning("no more points from the networks: %s", error)
            self.failed, point = True, None
        self.spent += time.process_time() - now
        return point
