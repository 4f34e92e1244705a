"""Planes of several outputs of a network together, in SCIP.

A flow and the power that it takes are two outputs of one network. Each is within its own hull,
and yet no point of the graph has much of one and little of the other. Rows of two outputs say
so, see :meth:`~pyomo_relu.bounds.planes.polygons.PolygonPlanes.joint`.
"""

from __future__ import annotations

import numpy as np
from pyscipopt import SCIP_RESULT, Sepa

from pyomo_relu.bounds.planes.polygons import PolygonPlanes
from pyomo_relu.programs.scip import ScipModel
from pyomo_relu.solvers.scip.settings import HANDLER
from pyomo_relu.solvers.scip.together import Together


class JointPlanes(Sepa):
    """Planes of two outputs of networks of two free inputs.

    Parameters
    ----------
    model : ScipModel
    networks : Together
    """

    def __init__(self, model: ScipModel, networks: Together) -> None:
        self.program, self.count = model, 0
        self.parts = [
            (box, f.inputs.tolist(), f.outputs.tolist())
            for f, box in zip(networks.functions, networks.planes)
            if isinstance(box, PolygonPlanes) and box.q > 1
        ]
        self._guarded = model.guarded({"result": SCIP_RESULT.DIDNOTRUN})(self._separate)

    def include(self) -> None:
        """Put the separator into the program, where there is such a network."""
        if self.parts:
            self.program.scip.includeSepa(
                self, "joint", "two outputs of a network", priority=900, freq=1,
                maxbounddist=1.0,
            )  # fmt: skip

    def sepaexeclp(self) -> dict:
        """What SCIP calls after a node's LP."""
        return self._guarded()

    def _separate(self) -> dict:
        scip, added = self.program.scip, 0
        every = self.program.variables
        for box, inputs, outputs in self.parts:
            x, y = (
                [scip.getTransformedVar(every[j]) for j in own] for own in (inputs, outputs)
            )
            low = np.maximum([v.getLbLocal() for v in x], box.low)
            high = np.minimum([v.getUbLocal() for v in x], box.high)
            low = np.minimum(low, high)
            if (high - low <= HANDLER.narrow * np.maximum(1.0, abs(low))).all():
                continue
            at = np.clip([v.getLPSol() for v in x], low, high)
            have = np.array([v.getLPSol() for v in y])
            found = box.joint(low, high, at, have)
            if found is None:
                continue
            weights, row = found
            if row[:-1] @ at + row[-1] - weights @ have <= HANDLER.joint:
                continue
            terms = zip([*y, *x], [*weights.tolist(), *(-row[:-1]).tolist()])
            if self.program.add_cut("joint", terms, float(row[-1]), self):
                return {"result": SCIP_RESULT.CUTOFF}
            added += 1
        self.count += added
        return {"result": SCIP_RESULT.SEPARATED if added else SCIP_RESULT.DIDNOTFIND}
