"""`BinaryNetClassifier`: step neurons, weights continuous, integer or ternary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pyomo_relu.training.base import MIPClassifier
from pyomo_relu.training.estimator import choice, weight_range
from pyomo_relu.training.family import Family
from pyomo_relu.training.losses import names


@dataclass(eq=False, repr=False, kw_only=True)
class BinaryNetClassifier(MIPClassifier):
    r"""Step neurons ``1 if w x + b >= 0 else 0``, trained by mixed-integer programs.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int
        Neurons of each hidden layer; ``()`` for none.
    weights : {'continuous', 'ternary'} or int P
        In [-1, 1] (which loses nothing: a step doesn't see the scale), in {-1, 0, 1}, or
        integers in [-P, P].
    thresholds : {'neuron', 'layer'}
        A bias for each neuron, in a box that loses nothing, or one for each layer, in
        the range of the weights.
    loss : {'zero_one', 'l1', 'hinge', 'saturated', 'max_margin', 'min_weight'}
        Number of points with a wrong output bit; number of wrong output bits; hinge loss
        of the scores; number of scores below ``margin``; the smallest distance of any
        pre-activation from 0 (to be large), or the sum of absolute weights and biases,
        both with every point fitted.
    method : {'exact', 'local_search', 'data_splitting', 'hybrid', 'ste', 'implicit'}
        One program; alternating over layers and neurons; clusters of the data with one
        activation pattern each; a network first, then margins neuron by neuron;
        straight-through gradients; or, for few points, features learned by gradients
        through the exact program of the margin.
    start : 'auto', None, method, tuple of methods, StepNetwork or fitted classifier
        What the method begins with: the network of other methods in turn, or one that is
        given. What is returned is never worse than that: by ``validation=`` of ``fit``
        where given, else by the training loss, then by the share of wrong classes.
        'auto' is gradients for hidden layers, soft losses and no radius. None is the
        method's own start.
    warm_start : bool
        Begin with the last fit's network instead.
    widen : bool
        After each method give the neurons their largest margins, with all activations on
        the training points as they are; for losses on bits.
    robust : (norm, radius), optional
        ``('linf', r)``, ``('l1', r)`` or ``('l2', r)``: the activations of the first
        layer must not change within the ball around any training point.
    margin : float
        Share of half the scores' range for 'hinge' and 'saturated'.
    regularization : float
        Factor of the sum of absolute weights.
    compression : float
        Cost of a hidden neuron that is used (``method='exact'``).
    splits, batch_size : int, int or None
        For 'data_splitting': number of splits, points in each program (None for all).
    probability : bool
        Whether to have ``predict_proba``: a factor of the scores is fitted on points that
        are set aside.
    validation_fraction : float
        The share of the points that are set aside, from which 'data_splitting' chooses
        among its networks, and for ``probability``.
    solver : str
        Any MIP solver that Pyomo knows by name.
    engine : {'mip', 'cp_sat'}
        'cp_sat' solves programs in integers alone by OR-Tools.
    time_limit, cpu_time_limit : float or None
        Seconds for all of ``fit``, by the clock and of this process's CPU time; the best
        network found is kept.
    node_limit : int or None
        Branch-and-bound nodes of each program; not for 'implicit'. With ``time_limit=None``
        all of the work is limited by counts, and a seed gives one network on every machine.
    solver_options : dict, optional
    eps : float, optional
        Separation of on from off. Refused where it doesn't dominate the largest big-M
        times the solver's tolerance; by default it is chosen so. Sums of integers need
        none.
    random_state : int or RandomState, optional
    verbose : bool
        Print the solver's log.

    Attributes
    ----------
    network_ : StepNetwork
    status_ : {'optimal', 'time_limit', 'feasible'}
        'optimal' only where it is proved that no network has a smaller training loss
        (with the separation ``eps``).
    loss_, bound_, gap_ : float
        Training loss of the network, a lower bound of it for all networks, and
        ``(loss - bound) / max(1, |loss|)``.
    compared_ : int
        Activations that were found to be as the programs say.
    history_ : list of dict
        One entry for each program, each search over the neurons of a layer and each look
        at the gradients; ``method`` says whose.
    factor_ : float
        With ``probability``: that of the scores.
    classes_ : array

    Notes
    -----
    Scale features to [0, 1]: big-M of a data point is the sum of its absolute features.

    References
    ----------
    Bah and Kurtz, arXiv 2007.03326. Kurtz and Bah, arXiv 2110.11382.

    Examples
    --------
    >>> from pyomo_relu.training import BinaryNetClassifier
    >>> X, y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
    >>> clf = BinaryNetClassifier((2,), weights="ternary").fit(X, y)
    >>> clf.status_, clf.loss_, clf.score(X, y)
    ('optimal', 0.0, 1.0)
    """

    LOSSES: ClassVar[Mapping[str, str]] = {
        **names("zero_one", "l1", "hinge", "max_margin", "min_weight"),
        "saturated": "sat_margin",
    }

    hidden_layer_sizes: Any = field(default=(4,), kw_only=False)
    weights: Any = "continuous"
    thresholds: str = "neuron"
    loss: str = "zero_one"

    def _family(self, outputs: int) -> Family:
        choice("thresholds", self.thresholds, ("neuron", "layer"))
        bound, integer = weight_range(self.weights, ("continuous", "ternary"))
        return Family(
            self._hidden(),
            outputs,
            "step",
            bound,
            integer,
            self.thresholds,
            robust=self._robust(),
            eps=self.eps,
        )
