"""The log of ``relu``: what the model is, which searches run, who proved what."""

from __future__ import annotations

import io
from typing import Any

from pyomo_relu.solvers.global_search.search_log import SearchLog
from pyomo_relu.solvers.relu.mip_form import MipForm
from pyomo_relu.solvers.relu.search import TogetherSearch


class TogetherLog(SearchLog):
    """Lines for ``tee``, and the user's callback.

    Parameters
    ----------
    config : ReluConfig
    text : StringIO
    """

    def __init__(self, config: Any, text: io.StringIO) -> None:
        super().__init__(config, text, "nodes", lambda s: getattr(s, "mip_nodes", 0))

    def head(self, search: TogetherSearch) -> None:
        """What the model is, what will run, and the titles of the columns."""
        self.say(str(search.scene))
        for note in search.problem.as_rows:
            self.say(note)
        self.say(search.plan)
        self.titles()

    def mip(self, form: MipForm) -> None:
        """That a MIP takes part from now on, and how large it is."""
        p = form.program
        whole = 0 if p.integer is None else int(p.integer.sum())
        self.say(
            f"a MIP takes part, {len(p.cost)} columns ({whole} integer) and "
            f"{len(p.row_lower)} rows: {form.description}"
        )
