r"""`ValidationMargin`: what training weights and the robust radius do for validation.

Training maximizes :math:`f(w; c, r) = t - \sum_i c_i \xi_i` with the optimum
:math:`z_0(c, r)`, and :math:`g(w) = t' - \sum_j c'_j \xi'_j` is the same objective on points
for validation. The trained network is piecewise constant in the costs ``c``, so its
derivative says nothing. The value function does: with :math:`\tau > 0` and the optimum
:math:`z_\tau` of :math:`f + \tau g`,

.. math::
    F_\tau(c, r) = \frac{z_\tau(c, r) - z_0(c, r)}{\tau}
    = \max_w\ g(w) - \frac{1}{\tau}\bigl(z_0(c, r) - f(w; c, r)\bigr),
    \qquad
    \nabla F_\tau = \frac{\nabla z_\tau - \nabla z_0}{\tau},

the best validation margin less a penalty for not being an optimum of training. Both
gradients are envelope formulas: :math:`\partial z / \partial c = -\xi` and
:math:`\partial z / \partial r = -\sum \pi \|W_l\|_1`.
:math:`F_\tau \ge g` of the trained network, it is nondecreasing in :math:`\tau`, and falls
to the best ``g`` among the optima of training as :math:`\tau \to 0`.

In :math:`z_\tau` both margins may be negative: neurons may be on the wrong side of a point
at the price of the margin. So no network becomes infeasible by a change of the data,
:math:`F_\tau` is Lipschitz and semialgebraic, and its formula is an element of a
conservative gradient everywhere. A positive margin means what it always does.

Sources: value-function penalties of bilevel programs, Shen and Chen, arXiv 2302.05185;
the difference of optimal values as in blackbox differentiation, Vlastelica et al.,
arXiv 1912.02175.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pyomo_relu.steps.margin import MarginFit, MarginProgram


@dataclass(frozen=True)
class ValidationFit:
    r"""The value :math:`F_\tau` and its derivatives.

    Attributes
    ----------
    value : float
        An upper bound on ``margin``.
    margin : float
        ``t' - costs @ slacks`` of the trained network on the points for validation.
    cost_gradient : (n,) array
        The derivatives of the value in the costs of the points for training.
    radius_gradient : float
    x_gradient : (n, d) array
        In the features of the points for training.
    x_validation_gradient : (m, d) array
    trained, tilted : MarginFit
        The optima of both programs.
    """

    value: float
    margin: float
    cost_gradient: np.ndarray
    radius_gradient: float
    x_gradient: np.ndarray
    x_validation_gradient: np.ndarray
    trained: MarginFit
    tilted: MarginFit


class ValidationMargin:
    """The margin on points for validation as a function of training's data.

    Parameters
    ----------
    y : (n,) array
        Labels -1 and 1 of the points for training.
    y_validation : (m,) array
    n_features : int
    validation_costs : (m,) array
        What falling short of the margin costs; their sum should be above 1, or every margin is
        worth more than its slacks.
    hidden : int
        Step neurons.
    tilt : float
        The weight of validation in the second program. Small values tell only what a
        small change of the optimum can do, large ones hide what training does.
    """

    def __init__(
        self,
        y: Any,
        y_validation: Any,
        n_features: int,
        *,
        validation_costs: Any,
        hidden: int = 2,
        tilt: float = 1.0,
    ) -> None:
        first = np.asarray(y, dtype=float).reshape(-1)
        last = np.asarray(y_validation, dtype=float).reshape(-1)
        self.validation_costs = np.asarray(validation_costs, dtype=float)
        if self.validation_costs.shape != last.shape:
            raise ValueError(f"validation_costs must have {len(last)} entries.")
        self.n, self.tilt, self.y_validation = len(first), float(tilt), last
        self.training = MarginProgram(first, n_features, hidden=hidden, soft=True)
        self.joint = MarginProgram(
            np.concatenate([first, last]),
            n_features,
            hidden=hidden,
            soft=True,
            validation=len(last),
            tilt=tilt,
        )

    def fit(
        self,
        x: Any,
        x_validation: Any,
        costs: Any,
        radius: float = 0.0,
        *,
        start: ValidationFit | None = None,
    ) -> ValidationFit:
        """Solve both programs, and differentiate.

        Parameters
        ----------
        x : (n, d) array
        x_validation : (m, d) array
        costs : (n,) array
            Positive.
        radius : float
            The radius of the boxes around the points for training.
        start : ValidationFit, optional
            An earlier one, whose points both searches start from.
        """
        n, tau = self.n, self.tilt
        begin = (None, None) if start is None else (start.trained.point, start.tilted.point)
        trained = self.training.fit(x, costs, radius, start=begin[0])
        tilted = self.joint.fit(
            np.concatenate([x, x_validation]),
            np.concatenate([np.broadcast_to(costs, n), self.validation_costs]),
            radius,
            start=begin[1],
        )
        return ValidationFit(
            value=(tilted.value - trained.value) / tau,
            margin=trained.objective(
                x_validation, self.y_validation, self.validation_costs
            ),
            cost_gradient=(tilted.cost_gradient[:n] - trained.cost_gradient) / tau,
            radius_gradient=(tilted.radius_gradient - trained.radius_gradient) / tau,
            x_gradient=(tilted.x_gradient[:n] - trained.x_gradient) / tau,
            x_validation_gradient=tilted.x_gradient[n:] / tau,
            trained=trained,
            tilted=tilted,
        )
