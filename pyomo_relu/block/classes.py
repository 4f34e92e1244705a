r"""Rows that say what a classifier decides: a probability, a class that wins, the winner.

A classifier is read with ``logits=True``, so that its outputs :math:`z` are scores. By softmax
class :math:`k` has the probability :math:`p_k = e^{z_k} / \sum_j e^{z_j}`, and with the odds
:math:`S = (1 - p) / p`

.. math:: p_k \ge p \quad\Longleftrightarrow\quad \sum_{j \ne k} e^{v_j} \le 1,
   \qquad v_j = z_j - z_k - \log S .

With two classes the sum has one term, and the row is linear: :math:`v_j \le 0`. One output alone
is the logit of a sigmoid, which is a softmax of the scores :math:`0` and :math:`z`.

With more classes the row is convex. No exponential may exceed 1, so that it matters on
:math:`v \le 0` only, and **linear rows without binaries** stand on either side of it, with a
variable :math:`w_j` for each term:

.. math:: w_j \ge a_i + s_i v_j \quad (i = 1, \ldots, n), \qquad w_j \ge \underline{w},
   \qquad \sum_{j \ne k} w_j \le 1 .

*Safe*: the lines are chords of the exponential between :math:`t_0 < \ldots < t_n = 0`, and
:math:`\underline{w} = e^{t_0}`. The largest of them is above the exponential for all
:math:`v \le 0`, and above 1 beyond, so what these rows allow has :math:`p_k \ge p`.
*Bound*: the lines are tangents at the :math:`t_i`, and :math:`\underline{w} = 0`. They are
below the exponential, so no point with :math:`p_k \ge p` is lost.

Chords over intervals of the width :math:`h` are above by a factor of at most
:math:`m e^{1/m - 1}` with :math:`m = (e^h - 1) / h`, and tangents below by at most
:math:`e^x / (1 + x)` with :math:`x = (e^h (h - 1) + 1) / (e^h - 1)`, both near
:math:`1 + h^2 / 8`. Let :math:`S'` be the odds of the probability :math:`p + \delta`. Half of
:math:`\epsilon = 1 - S' / S` goes to that factor, the other half to
:math:`(K - 1) e^{t_0}`, and every point with :math:`p_k \ge p + \delta` is allowed. For a bound
:math:`S'` is that of :math:`p - \delta`, :math:`\epsilon = S' / S - 1`, and no point with
:math:`p_k < p - \delta` is allowed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from pyomo.core.base.constraint import ConstraintData
from pyomo.environ import (
    Binary,
    Block,
    Constraint,
    Expression,
    NonNegativeReals,
    Var,
    exp,
    quicksum,
)

from pyomo_relu.base.rounding import EPS
from pyomo_relu.base.suggest import did_you_mean
from pyomo_relu.block.data import ReLUNetBlockData
from pyomo_relu.block.guard import GuardedRow
from pyomo_relu.network import Smooth

#: How probabilities are written.
FORMS = ("exact", "convex", "safe", "bound")
#: By how much a solver may leave a row violated, in units of the scores and as a share of
#: the allowed odds: the feasibility tolerance of HiGHS, SCIP and Gurobi as they come.
TOLERANCE = 1e-6
#: The most lines for each exponential. Chosen by hand: an accuracy that needs more is
#: finer than what a solver's tolerances leave of it.
MOST_LINES = 1000


def probability_at_least(
    block: Any,
    k: Any,
    p: float,
    form: str = "exact",
    *,
    accuracy: float = 1e-3,
    multilabel: bool = False,
) -> Block:
    """Return rows that give a class of a classifier at least a probability.

    Parameters
    ----------
    block : ReLUNetBlock
        A classifier, read with ``logits=True``.
    k : index of ``outputs``
        The class. With a single output 1 is the class whose probability the sigmoid is, and
        0 the other one, as in the columns of scikit-learn's ``predict_proba``.
    p : float
        The least probability, between 0 and 1, both excluded.
    form : str
        ``"exact"``: one linear row, for two classes or a sigmoid. ``"convex"``: one exact
        nonlinear row, for SCIP, Ipopt and their like. ``"safe"``: linear rows, which only allow
        what has the probability, also with :data:`TOLERANCE` in each of them. ``"bound"``:
        linear rows that allow all that has it, so that an optimum is a bound.
    accuracy : float
        For ``"safe"`` and ``"bound"`` with three classes or more: by how much probability
        the rows may ask too much or too little. Lines grow with the square root of its
        inverse: some forty for each of the other classes at ``p = 0.8`` and 1e-3.
    multilabel : bool
        Each output is the logit of a sigmoid of its own, not one of a softmax.

    Returns
    -------
    Block
        To be assigned to the model: ``m.sure = probability_at_least(m.net, 2, 0.8, "safe")``.

    Raises
    ------
    ValueError
        If an argument is not understood, if outputs are no logits or those of another head
        than ``multilabel=`` says, or if ``"exact"`` is asked of three or more classes.

    Notes
    -----
    Of a block with ``accuracy=``, whose curves are only near the true network, ``"safe"``
    and ``"bound"`` take the proved errors of its outputs into account; ``"exact"`` and
    ``"convex"`` are about the network with curves.
    """
    _check_block(block)
    if form not in FORMS:
        known = ", ".join(map(repr, FORMS))
        raise ValueError(
            f"{block.name}: form={form!r} is none of {known}.{did_you_mean(form, FORMS)}"
        )
    p, accuracy = _checked(block, "p", p), _checked(block, "accuracy", accuracy)
    _check_head(block, multilabel)
    scores = _scores(block, multilabel, k)
    k = _known_class(block, scores, k)
    log_odds = math.log1p(-p) - math.log(p)
    others = [j for j in scores if j != k]
    shifted = {j: _difference(scores, j, k, form) - log_odds for j in others}
    rows = Block(concrete=True)
    if len(others) == 1:
        most = -TOLERANCE if form == "safe" else 0.0
        rows.odds = Constraint(expr=shifted[others[0]] <= most)
    elif form == "exact":
        raise ValueError(
            f"{block.name}: with {len(scores)} classes no linear row is exact; form='convex' "
            "is for solvers of nonlinear models, 'safe' and 'bound' for linear ones. If each "
            "output is the logit of a sigmoid of its own, say multilabel=True."
        )
    elif form == "convex":
        rows.odds = Constraint(expr=quicksum(exp(v) for v in shifted.values()) <= 1.0)
    else:
        _add_lines(rows, shifted, log_odds, _points(block, p, accuracy, form, others), form)
    return rows


def class_wins(block: Any, k: Any, margin: float = 1e-4) -> Block:
    r"""Return linear rows that make a class the winner.

    Parameters
    ----------
    block, k
        As in :func:`probability_at_least`.
    margin : float
        By how much its score is above every other at least; :math:`\log r` makes the class
        :math:`r` times as probable as any other. The default is above what solvers leave of
        rows, so that the classifier, evaluated at the solution, agrees.

    Returns
    -------
    Block
        To be assigned to the model: ``m.best = class_wins(m.net, 2)``. Of a block with
        ``accuracy=`` the class wins in the true network, too.

    Raises
    ------
    ValueError
        If an argument is not understood, or if outputs are no logits.
    """
    _check_block(block)
    margin = _margin(block, margin)
    scores = _scores(block)
    k = _known_class(block, scores, k)
    rows = Block(concrete=True)
    others = [j for j in scores if j != k]
    rows.ahead = Constraint(others)
    for j in others:
        rows.ahead[j] = -_difference(scores, j, k, "safe") >= margin
    return rows


def winning_class(block: Any, margin: float = 0.0) -> Block:
    r"""Return the winning class as an index variable: a binary for each class.

    .. math:: z_i \ge z_j + \mu - (\bar z_j - \underline z_i + \mu)(1 - u_i)
       \quad (j \ne i), \qquad \sum_i u_i = 1

    Parameters
    ----------
    block
        As in :func:`probability_at_least`, and written, so that its outputs have bounds.
    margin : float
        :math:`\mu`. With 0 either class may be the winner on a tie, as the objective likes.
        What is nearer to a tie than the margin is not allowed.

    Returns
    -------
    Block
        To be assigned to the model: ``m.winner = winning_class(m.net)``. ``m.winner.wins[k]``
        is 1 where class ``k`` wins, and ``m.winner.number`` the winner's position among
        the classes, from 0: the class itself where outputs have no names.

    Raises
    ------
    ValueError
        If an argument is not understood, if outputs are no logits or have no bounds; later,
        when a solver reads the model, if these bounds were widened meanwhile.

    Notes
    -----
    Of a block with ``accuracy=`` it is the winner in the network with curves.
    """
    _check_block(block)
    margin = _margin(block, margin)
    scores = _scores(block)
    z = {j: mid for j, (_, mid, _) in scores.items()}
    ranges = {j: _range(block, j, v) for j, v in z.items()}
    rows = Block(concrete=True)
    rows.wins = Var(list(z), domain=Binary)
    rows.one = Constraint(expr=quicksum(rows.wins.values()) == 1)
    rows.number = Expression(expr=quicksum(i * u for i, u in enumerate(rows.wins.values())))
    rows.largest = Constraint([(i, j) for i in z for j in z if i != j])
    for i, j in rows.largest.index_set():
        constant = ranges[j][1] - ranges[i][0] + margin
        rows.largest[i, j] = z[i] - z[j] >= margin - constant * (1 - rows.wins[i])
    rows.written_for = [(z[j], *ranges[j]) for j in z if not isinstance(z[j], float)]
    for row in rows.largest.values():
        row.__class__ = RowOfRanges
    return rows


class RowOfRanges(GuardedRow):
    """A row whose constants hold for the bounds that outputs had; it is not read with wider.

    As with the row that guards a network's box, printing checks nothing.
    """

    __slots__ = ()

    def _check(self) -> None:
        block = self.parent_block()
        for v, low, high in getattr(block, "written_for", ()):
            if v.lb is None or v.ub is None or v.lb < low or v.ub > high:
                raise ValueError(
                    f"'{block.name}': the bounds of '{v.name}' were [{low:g}, {high:g}] when "
                    "winning_class wrote its rows, and are wider now; delete the block and "
                    "assign winning_class(...) anew."
                )

    def _parts(self) -> tuple[Any, Any, Any]:
        return self.unguarded()

    def set_value(self, expr: Any) -> None:
        """Say something else, of which these bounds know nothing: be an ordinary row."""
        ConstraintData.set_value(self, expr)
        self.__class__ = ConstraintData


def _check_block(block: Any) -> None:
    """Refuse what is no single, finished classifier."""
    if not isinstance(block, ReLUNetBlockData):
        name = getattr(block, "name", repr(block))
        raise ValueError(
            f"'{name}' is no single ReLUNetBlock; of an indexed one give one of its blocks, "
            "such as m.net[1]."
        )
    if not block.has_network:
        raise ValueError(f"'{block.name}' has no network yet; build the model first.")
    true = block.true_network
    ends = (true.nodes[n] for n in true.outputs)
    for node in ends:
        if isinstance(node, Smooth) and node.function == "sigmoid":
            raise ValueError(
                f"'{block.name}': the outputs are probabilities, by the sigmoid of layer "
                f"'{node.name}'; bound them as they are, or read the network with logits=True."
            )


def _check_head(block: Any, multilabel: bool) -> None:
    """Refuse another head than the one that the reader took off, where that is known."""
    head = block.true_network.head
    if multilabel and head == "softmax":
        raise ValueError(
            f"{block.name}: multilabel=True is for sigmoids, and the network was read up to "
            "a softmax of all its outputs; leave it out."
        )
    if not multilabel and head == "sigmoid" and len(block.outputs) > 1:
        raise ValueError(
            f"{block.name}: the network was read up to a sigmoid for each of its "
            f"{len(block.outputs)} outputs, so that their probabilities don't add up to 1; "
            "say multilabel=True."
        )


def _checked(block: Any, name: str, number: Any) -> float:
    """A number between 0 and 1, both excluded."""
    number = float(number)
    if not 0.0 < number < 1.0:
        raise ValueError(f"{block.name}: {name}={number:g} must be above 0 and below 1.")
    return number


def _margin(block: Any, margin: Any) -> float:
    margin = float(margin)
    if not 0.0 <= margin < math.inf:
        raise ValueError(f"{block.name}: margin={margin:g} must be a number of at least 0.")
    return margin


def _scores(block: Any, multilabel: bool = False, k: Any = None) -> dict[Any, tuple]:
    """For each class its score in the true network from below, as written, and from above."""
    keys = list(block.outputs)
    variables = dict(zip(keys, block.output_variables))
    if multilabel and len(keys) > 1:
        _known_class(block, variables, k)
        return {k: _side(block, k, variables), ("not", k): (0.0, 0.0, 0.0)}
    if len(keys) == 1:
        return {0: (0.0, 0.0, 0.0), 1: _side(block, keys[0], variables)}
    return {key: _side(block, key, variables) for key in keys}


def _side(block: Any, key: Any, variables: dict[Any, Any]) -> tuple[Any, Any, Any]:
    low, high = block.output_interval(key)
    return low, variables[key], high


def _known_class(block: Any, scores: dict[Any, Any], k: Any) -> Any:
    """The class as the rows know it."""
    known = list(scores)
    if k not in known:
        names = [str(j) for j in known]
        raise ValueError(
            f"{block.name} has no class {k!r}; its classes are {', '.join(names[:20])}"
            f"{', ...' if len(names) > 20 else ''}.{did_you_mean(k, names)}"
        )
    return known[known.index(k)]


def _difference(scores: dict[Any, tuple], j: Any, k: Any, form: str) -> Any:
    """The score of ``j`` less that of ``k``, on the side of the form."""
    if form == "safe":
        return scores[j][2] - scores[k][0]
    if form == "bound":
        return scores[j][0] - scores[k][2]
    return scores[j][1] - scores[k][1]


def _range(block: Any, key: Any, z: Any) -> tuple[float, float]:
    if isinstance(z, float):
        return z, z
    low, high = z.lb, z.ub
    if low is None or high is None:
        raise ValueError(
            f"{block.name}: '{z.name}' has no bounds, from which the rows of the winner have "
            "their constants; write the block first, by formulation= or reformulate(), or "
            "give the output bounds that hold."
        )
    return float(low), float(high)


def _points(
    block: Any, p: float, accuracy: float, form: str, others: list[Any]
) -> np.ndarray:
    """The points between which chords run, or at which tangents touch, from below up to 0."""
    reached = p + accuracy if form == "safe" else p - accuracy
    ratio = (1.0 - reached) * p / (reached * (1.0 - p)) if 0.0 < reached < 1.0 else math.nan
    if form == "safe":
        slack = 1.0 - (len(others) + 1) * TOLERANCE - ratio
        over, below = 0.5 * slack / ratio if ratio else math.nan, 0.5 * slack
    else:
        slack = ratio - 1.0
        over, below = 0.5 * slack, 0.5 * slack
    if math.isnan(slack):
        raise ValueError(
            f"{block.name}: p={p:g} and accuracy={accuracy:g} leave no probability between "
            "0 and 1; give a smaller accuracy."
        )
    start = min(math.log(below / len(others)), -1.0) if slack > 0.0 else -math.inf
    width = min(math.sqrt(8.0 * over), -start) if slack > 0.0 else 0.0
    factor = _chord_factor if form == "safe" else _tangent_factor
    while width > 0.0 and factor(width) > 1.0 + over:
        width *= 0.99
    if width == 0.0 or -start / width > MOST_LINES:
        raise ValueError(
            f"{block.name}: accuracy={accuracy:g} is too fine for {form!r} rows of p={p:g}, "
            f"which would need more than {MOST_LINES} lines a class; give a larger one."
        )
    return np.linspace(start, 0.0, math.ceil(-start / width) + 1)


def _chord_factor(h: float) -> float:
    """By which factor a chord over a width may be above the exponential."""
    m = math.expm1(h) / h
    return m * math.exp(1.0 / m - 1.0)


def _tangent_factor(h: float) -> float:
    """By which factor the exponential may be above the tangents at both ends of a width."""
    x = h - 1.0 + h / math.expm1(h)
    return math.exp(x) / (1.0 + x)


def _add_lines(
    rows: Block,
    shifted: dict[Any, Any],
    log_odds: float,
    points: np.ndarray,
    form: str,
) -> None:
    """Write the lines of each exponential and their sum."""
    safe = form == "safe"
    lines = list(_chords(points, log_odds) if safe else _tangents(points, log_odds))
    rows.share = Var(list(shifted), domain=NonNegativeReals)
    if safe:
        for w in rows.share.values():
            w.setlb(math.exp(points[0]) * (1.0 + 8 * EPS))
    rows.line = Constraint(list(shifted), range(len(lines)))
    for j, v in shifted.items():
        for i, (a, s) in enumerate(lines):
            rows.line[j, i] = rows.share[j] >= a + s * v
    most = 1.0 - (len(shifted) + 1) * TOLERANCE if safe else 1.0
    rows.odds = Constraint(expr=quicksum(rows.share.values()) <= most)


def _rounding(a: float, s: float, log_odds: float) -> float:
    """What constants may be off by: those of a line, and of the odds that the row has in it."""
    return 16 * EPS * (abs(a) + s * (1.0 + abs(log_odds)))


def _chords(points: np.ndarray, log_odds: float) -> Iterator[tuple[float, float]]:
    """Constants and slopes of lines above the exponential between neighbours, rounded up."""
    for t, u in zip(points[:-1].tolist(), points[1:].tolist()):
        s = (math.exp(u) - math.exp(t)) / (u - t)
        # Above at both ends is above in between, whatever the slope is: exp is convex.
        a = max(math.exp(t) - s * t, math.exp(u) - s * u)
        yield a + _rounding(a, s * (1.0 - t), log_odds), s


def _tangents(points: np.ndarray, log_odds: float) -> Iterator[tuple[float, float]]:
    """Constants and slopes of lines below the exponential, rounded down."""
    for t in points.tolist():
        # For every slope s > 0 the line s (1 - log s) + s v touches the exponential from below.
        s = math.exp(t)
        a = s - s * math.log(s)
        yield a - _rounding(a, s * (1.0 - t), log_odds), s
