"""`BinarizedNetClassifier`: sign neurons, weights and biases small integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from pyomo_relu.training.base import MIPClassifier
from pyomo_relu.training.estimator import binarized_family
from pyomo_relu.training.family import Family
from pyomo_relu.training.losses import names


@dataclass(eq=False, repr=False, kw_only=True)
class BinarizedNetClassifier(MIPClassifier):
    """Sign neurons, +1 where ``w x + b >= 0`` and else -1, with few-bit weights.

    Two classes have one score, more classes one each: at least 0 for the class of the
    point and negative for all others. Predicted is the largest score.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int
        ``()`` for none; such networks are trained class by class, one program each,
        for every loss but 'max_correct'.
    weights : {'ternary'} or int P
        Weights and biases are in {-1, 0, 1}, or integers in [-P, P].
    bias : bool
    loss : str
        * 'min_weight': least sum of absolute weights and biases, every point fitted.
        * 'max_margin': largest sum over the neurons of their smallest
          pre-activation in absolute value, every point fitted.
        * 'max_correct': number of points with a wrong output bit.
        * 'sat_margin': number of scores below ``margin``.
        * 'min_hinge': squared hinge of the scores at ``margin``, piecewise linear
          between 17 breakpoints.

        The first two are those of [1]_. Scores are relative to half their range, as in
        [2]_: ``P (n + 1)`` for n neurons in the last hidden layer, ``P`` times the mean
        sum of features without one.
    method, start, warm_start, widen, robust, margin, regularization, compression, splits, \
batch_size, probability, validation_fraction, solver, engine, time_limit, cpu_time_limit, \
node_limit, solver_options, eps, random_state, verbose
        As for :class:`~pyomo_relu.training.BinaryNetClassifier`.

    Attributes
    ----------
    network_, status_, loss_, bound_, gap_, compared_, history_, classes_
        As for :class:`~pyomo_relu.training.BinaryNetClassifier`.

    References
    ----------
    .. [1] Toro Icarte et al., Training binarized neural networks using MIP and CP, CP 2019.
    .. [2] Thorbjarnarson and Yorke-Smith, PLoS ONE 18(2), 2023.

    Examples
    --------
    >>> from pyomo_relu.training import BinarizedNetClassifier
    >>> X, y = [[-1, -1], [-1, 1], [1, -1], [1, 1]], [0, 1, 1, 0]
    >>> clf = BinarizedNetClassifier((2,), loss="min_weight").fit(X, y)
    >>> clf.loss_, clf.status_
    (6.0, 'optimal')
    """

    LOSSES: ClassVar[Mapping[str, str]] = names(
        "min_weight", "max_margin", "max_correct", "sat_margin", "min_hinge"
    )
    MARGINS: ClassVar[str] = "neuron"

    bias: bool = True
    loss: str = "min_hinge"

    def _family(self, outputs: int) -> Family:
        return binarized_family(
            self._hidden(), outputs, self.weights, self.bias, self._robust(), self.eps
        )
