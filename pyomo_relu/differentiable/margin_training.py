"""`MarginTraining`: the exactly trained step network, with a proof of its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyomo_relu.differentiable.certificate import Certificate
from pyomo_relu.differentiable.parametric import ParametricMILP
from pyomo_relu.steps.margin import MarginProgram


class MarginTraining(MarginProgram):
    __doc__ = MarginProgram.__doc__

    def __init__(self, y: Any, n_features: int, **options: Any) -> None:
        super().__init__(y, n_features, **options)
        theta = np.zeros(self.n * self.d + self.n + 1)
        self.milp = ParametricMILP.from_functions(self.program, self.jacobian, theta)

    def certificate(
        self, x: Any, costs: Any = None, radius: float = 0.0, **options: Any
    ) -> Certificate:
        """Of the negative value (see :meth:`ParametricMILP.certificate`).

        At radius 0 the radius is held: it can only grow.
        """
        if radius == 0.0:
            options.setdefault("parameters", np.arange(self.n * self.d + self.n))
        return self.milp.certificate(self.theta(x, costs, radius), **options)
