r"""`TrainingMIP`: the mixed-integer program whose solution is a trained network.

For a layer with inputs :math:`v_i` of point :math:`i`, weights :math:`w_l` and bias
:math:`b_l`, and a binary :math:`u_{cl}` for each cell :math:`c` of points,

.. math::
    w_l v_i + b_l - \varrho_l &\ge L_i + (\mathrm{on} - L_i)\, u_{cl}, \\
    w_l v_i + b_l + \varrho_l &\le -\mathrm{off} + (U_i + \mathrm{off})\, u_{cl},

with bounds :math:`L_i, U_i` of each data point and the dual norm
:math:`\varrho_l = r\,\|w_l\|_*` where the training is robust. Inputs of later layers are
the :math:`u`; their products with weights are written by their convex hull. A layer may
also be given: a given layer on points is evaluated, a given layer on binaries is linear.

Sources: Bah and Kurtz, arXiv 2007.03326; Kurtz and Bah, arXiv 2110.11382; Toro Icarte
et al., CP 2019; Thorbjarnarson and Yorke-Smith, arXiv 2009.03825.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyomo.environ as pyo
from pyomo.core.expr.numeric_expr import LinearExpression

from pyomo_relu.steps.step_network import StepNetwork
from pyomo_relu.training.family import (
    Data,
    Family,
    Levels,
    is_integral,
    levels,
    robust_radius,
)
from pyomo_relu.training.norms import largest, write_spread

Fixed = Mapping[int, tuple[np.ndarray, np.ndarray]]


@dataclass
class Rows:
    """The pre-activations of a layer.

    Attributes
    ----------
    pre : (rows, neurons) array of variables
    cell : (rows,) int array
        The cell of each row.
    lower, upper : (rows, neurons) arrays
        Bounds, the dual norm subtracted or added.
    spread : (neurons,) array
        The dual-norm term of each neuron: variables, or 0.
    levels : Levels
    points : bool
        Whether rows are data points (else cells).
    """

    pre: np.ndarray
    cell: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    spread: np.ndarray
    levels: Levels
    points: bool


def linear(coefficients, variables, constant: float = 0.0) -> LinearExpression:
    """``coefficients @ variables + constant`` without the cost of building a sum."""
    return LinearExpression(
        constant=float(constant),
        linear_coefs=[float(c) for c in coefficients],
        linear_vars=list(variables),
    )


class TrainingMIP:
    """The model and the map between it and networks.

    Parameters
    ----------
    family : Family
    data : Data
    fixed : mapping from layer to (weights, bias), optional
        Layers that are given.
    margins : {None, 'common', 'neuron'}
        Variables for the distance of pre-activations from 0: one for all neurons, or
        one for each.
    dead : (d,) bool array, optional
        Inputs whose weights are 0.
    scored : bool
        Whether the sizes of the last pre-activations count, not only their signs.
    check : callable, optional
        Called again and again while the program is written; what it raises ends that, as
        :meth:`pyomo_relu.base.deadline.Deadline.check` does when the time is up.

    Attributes
    ----------
    model : ConcreteModel
    rows : dict of Rows
        Of every layer that isn't evaluated beforehand.
    u : dict of (cells, neurons) arrays of binaries
    margin : dict of (neurons,) arrays of variables
    """

    def __init__(
        self,
        family: Family,
        data: Data,
        *,
        fixed: Fixed | None = None,
        margins: str | None = None,
        dead: np.ndarray | None = None,
        scored: bool = False,
        check: Callable[[], None] | None = None,
    ) -> None:
        self.check = check or _go_on
        self.family, self.data = family, data
        self.fixed = dict(fixed or {})
        self.margins, self.scored, self.loss_name = margins, scored, ""
        self.model = pyo.ConcreteModel()
        self.rows: dict[int, Rows] = {}
        self.u: dict[int, np.ndarray] = {}
        self.w: dict[int, np.ndarray] = {}
        self.b: dict[int, np.ndarray] = {}
        self.margin: dict[int, np.ndarray] = {}
        self.exact_sums: dict[int, bool] = {}
        #: What the losses on scores want these to reach.
        self.score_target = 0.0
        #: Called in this order with a network to give every variable its value.
        self.completions: list[Callable[[StepNetwork], None]] = []
        self.sizes = family.sizes(data.x.shape[1])
        self.dead = np.zeros(self.sizes[0], bool) if dead is None else dead
        self.model.common_margin = pyo.Var(bounds=(0, None), initialize=0.0)
        values: np.ndarray | None = data.x  # None once inputs are binaries
        for k in range(family.depth):
            values = self._layer(k, values)
        if margins != "common":
            self.model.del_component("common_margin")

    # ---------------------------------------------------------------------- pieces
    def variables(self, name: str, shape: tuple[int, ...], **options) -> np.ndarray:
        """A new indexed variable as an array of that shape."""
        # Made one by one below, so that the time is looked at between them.
        component = pyo.Var(*[range(n) for n in shape], dense=False, **options)
        self.model.add_component(name, component)
        found = np.empty(shape, dtype=object)
        for index in np.ndindex(*shape):
            self.check()
            found[index] = component[index if len(index) > 1 else index[0]]
        return found

    def constraints(self, name: str, rows: list) -> None:
        """A new constraint with the rows as its members."""
        if rows:
            component = pyo.Constraint(range(len(rows)))
            self.model.add_component(name, component)
            for r, row in enumerate(rows):
                self.check()
                component.add(r, row)

    def _layer(self, k: int, values: np.ndarray | None) -> np.ndarray | None:
        last = k == self.family.depth - 1
        if values is not None and k in self.fixed and not last:
            w, b = self.fixed[k]
            on = values @ w.T + b >= 0
            return on * 1.0 if self.family.activation == "step" else on * 2.0 - 1.0
        if k not in self.fixed:
            self._weights(k, values)
        if values is not None:
            self.rows[k] = self._on_points(k, values)
        else:
            self.rows[k] = self._on_cells(k)
        if self.margins and k not in self.fixed:
            self._margin(k)
        if not last:
            self.switch(k)
        return None

    def _weights(self, k: int, values: np.ndarray | None) -> None:
        family, n_out, n_in = self.family, self.sizes[k + 1], self.sizes[k]
        domain = pyo.Integers if family.integer else pyo.Reals
        p = family.bound
        w = self.variables(f"w{k}", (n_out, n_in), domain=domain, bounds=(-p, p))
        _, radius = robust_radius(family)
        integral = values is None or is_integral(values)
        exact = family.integer and integral and not (k == 0 and radius > 0)
        # An integer bias loses nothing where only the sign of an integer sum counts.
        sized = self.margins == "common" or (self.scored and k == family.depth - 1)
        integer_bias = family.integer_bias or (exact and not sized)
        self.exact_sums[k] = exact and integer_bias
        if k == 0:
            for j in np.flatnonzero(self.dead):
                for variable in w[:, j]:
                    variable.fix(0)
        limit = family.bias_bound
        if limit is None:
            limit = p if family.thresholds == "layer" else self._reach(k, values) + 1.0
        count = {"neuron": n_out, "layer": 1, "none": 0}[family.thresholds]
        if integer_bias:
            limit = np.floor(limit)
        b = np.zeros(n_out, dtype=object)
        if count:
            kind = pyo.Integers if integer_bias else pyo.Reals
            b[:] = self.variables(f"b{k}", (count,), domain=kind, bounds=(-limit, limit))
        self.w[k], self.b[k] = w, b

        def complete(network: StepNetwork) -> None:
            for variables, numbers in ((w, network.weights[k]), (b, network.biases[k])):
                for v, x in zip(variables.flat, numbers.flat):
                    if not isinstance(v, (int, float)) and not v.fixed:
                        v.set_value(float(x), skip_validation=True)

        self.completions.append(complete)

    def _reach(self, k: int, values: np.ndarray | None) -> float:
        """Largest weighted sum of the layer over all weights in their box."""
        p = self.family.bound
        if values is None:
            return p * self.sizes[k]
        _, radius = robust_radius(self.family)
        reach = p * float(np.abs(values).sum(axis=1).max(initial=0.0))
        return reach + (self._largest_spread() if k == 0 and radius else 0.0)

    def _largest_spread(self) -> float:
        dual, radius = robust_radius(self.family)
        return radius * largest(dual, int((~self.dead).sum()), self.family.bound)

    def _bias_bounds(self, k: int) -> np.ndarray:
        return np.array(
            [0.0 if isinstance(v, (int, float)) else v.ub for v in self.b[k]], dtype=float
        )

    def _on_points(self, k: int, values: np.ndarray) -> Rows:
        n, n_out = len(values), self.sizes[k + 1]
        spread = np.zeros(n_out, dtype=object)
        extra = 0.0
        if k in self.fixed:  # the last layer, given: nothing is left to decide
            raise ValueError("a network of given layers has nothing to train.")
        if k == 0 and self.family.robust is not None:
            spread = write_spread(self, *robust_radius(self.family))
            extra = self._largest_spread()
        used = ~self.dead if k == 0 else np.ones(self.sizes[k], bool)
        reach = self.family.bound * np.abs(values[:, used]).sum(axis=1)
        upper = reach[:, None] + self._bias_bounds(k)[None, :]
        rows, pre = [], self.variables(f"pre{k}", (n, n_out))
        for i in range(n):
            self.check()
            columns = np.flatnonzero((values[i] != 0) & used)
            numbers = [*values[i, columns], 1.0, -1.0]
            for j in range(n_out):
                pre[i, j].setlb(-upper[i, j])
                pre[i, j].setub(upper[i, j])
                b = self.b[k][j]
                if isinstance(b, (int, float)):
                    body = linear(
                        [*numbers[:-2], -1.0], [*self.w[k][j, columns], pre[i, j]]
                    )
                else:
                    body = linear(numbers, [*self.w[k][j, columns], b, pre[i, j]])
                rows.append((0.0, body, 0.0))
        self.constraints(f"sum{k}", rows)
        big = float(upper.max(initial=0.0)) + extra
        self._complete_pre(k, pre, lambda network: self._inputs(network, k))
        return Rows(
            pre,
            self.data.cell,
            -upper - extra,
            upper + extra,
            spread,
            levels(self.family, self.exact_sums[k], 2.0 * big, k),
            True,
        )

    def _inputs(self, network: StepNetwork, k: int) -> np.ndarray:
        """Inputs of layer k at the points."""
        if k == 0:
            return self.data.x
        return network.activate(network.pre_activations(self.data.x)[k - 1])

    def _complete_pre(self, k: int, pre: np.ndarray, inputs) -> None:
        def complete(network: StepNetwork) -> None:
            numbers = inputs(network) @ network.weights[k].T + network.biases[k]
            for v, x in zip(pre.flat, numbers.flat):
                v.set_value(float(x), skip_validation=True)

        self.completions.append(complete)

    def _on_cells(self, k: int) -> Rows:
        family, u = self.family, self.u[k - 1]
        cells, n_in, n_out = len(u), self.sizes[k], self.sizes[k + 1]
        sign = family.activation == "sign"
        pre = self.variables(f"pre{k}", (cells, n_out))
        rows = []
        if k in self.fixed:
            w, b = self.fixed[k]
            # v = u, or 2 u - 1
            factor, shift = (2.0 * w, b - w.sum(axis=1)) if sign else (w, b)
            low = shift + np.minimum(factor, 0).sum(axis=1)
            high = shift + np.maximum(factor, 0).sum(axis=1)
            for c in range(cells):
                for j in range(n_out):
                    body = linear([*factor[j], -1.0], [*u[c], pre[c, j]], shift[j])
                    rows.append((0.0, body, 0.0))
            lower, upper = (np.tile(x, (cells, 1)) for x in (low, high))
            exact = is_integral(w) and is_integral(b)
        else:
            product = self._products(k)
            limit = family.bound * n_in + self._bias_bounds(k)
            lower, upper = (np.tile(x, (cells, 1)) for x in (-limit, limit))
            exact = self.exact_sums[k]
            for c in range(cells):
                for j in range(n_out):
                    terms = [*product[c, j], pre[c, j]]
                    numbers = [1.0] * n_in + [-1.0]
                    if not isinstance(self.b[k][j], (int, float)):
                        terms.append(self.b[k][j])
                        numbers.append(1.0)
                    rows.append((0.0, linear(numbers, terms), 0.0))
        for v, lo, hi in zip(pre.flat, lower.flat, upper.flat):
            v.setlb(lo)
            v.setub(hi)
        self.constraints(f"sum{k}", rows)
        self._complete_pre(k, pre, lambda network: self._cell_values(k - 1))
        big = float(np.max(np.maximum(-lower, upper), initial=0.0))
        level = levels(family, exact, 2.0 * big, k)
        if k in self.fixed and not exact:
            # What an earlier program kept apart by eps, less its tolerance, stays in.
            level = Levels(level.on / 2.0, level.off / 2.0)
        zeros = np.zeros(n_out, dtype=object)
        return Rows(pre, np.arange(cells), lower, upper, zeros, level, False)

    def _cell_values(self, k: int) -> np.ndarray:
        """The activations of layer k of all cells at the variables' present values."""
        on = np.array([[v.value for v in row] for row in self.u[k]], dtype=float)
        return on if self.family.activation == "step" else 2.0 * on - 1.0

    def _products(self, k: int) -> np.ndarray:
        """Variables for activation times weight, (cells, neurons, inputs)."""
        u, w, p = self.u[k - 1], self.w[k], self.family.bound
        shape = (len(u), *w.shape)
        domain = pyo.Integers if self.family.integer else pyo.Reals
        s = self.variables(f"s{k}", shape, bounds=(-p, p), domain=domain)
        rows = []
        for c, j, i in np.ndindex(*shape):
            self.check()
            v, on, weight = s[c, j, i], u[c, i], w[j, i]
            if self.family.activation == "step":
                rows += [
                    v <= p * on,
                    v >= -p * on,
                    v - weight - p * (1 - on) <= 0,
                    v - weight + p * (1 - on) >= 0,
                ]
            else:
                rows += [
                    v - weight - 2 * p * (1 - on) <= 0,
                    v - weight + 2 * p * (1 - on) >= 0,
                    v + weight - 2 * p * on <= 0,
                    v + weight + 2 * p * on >= 0,
                ]
        self.constraints(f"product{k}", rows)

        def complete(network: StepNetwork) -> None:
            values = self._cell_values(k - 1)
            numbers = values[:, None, :] * network.weights[k][None, :, :]
            for v, x in zip(s.flat, numbers.flat):
                v.set_value(float(x), skip_validation=True)

        self.completions.append(complete)
        return s

    def _margin(self, k: int) -> None:
        rows, n_out = self.rows[k], self.sizes[k + 1]
        most = np.max(np.maximum(-rows.lower, rows.upper), axis=0)
        least = rows.levels.on
        if self.margins == "common":
            margin = self.model.common_margin
            old = margin.ub
            margin.setub(float(most.max()) if old is None else min(old, float(most.max())))
            margin.setlb(max(margin.lb, least))
            self.margin[k] = np.array([margin] * n_out, dtype=object)
        else:
            self.margin[k] = self.variables(f"margin{k}", (n_out,))
            for v, hi in zip(self.margin[k], most):
                v.setlb(least)
                v.setub(float(hi))

    # ------------------------------------------------------------- rows of binaries
    def switch(self, k: int) -> None:
        """Add the binaries of layer k and the rows that tie them to pre-activations."""
        rows, n_out = self.rows[k], self.sizes[k + 1]
        cells = self.data.n_cells
        u = self.u[k] = self.variables(f"u{k}", (cells, n_out), domain=pyo.Binary)
        found = []
        for r, j in np.ndindex(*rows.pre.shape):
            self.check()
            found += self.on_rows(k, r, j, u[rows.cell[r], j])
            found += self.off_rows(k, r, j, u[rows.cell[r], j])
        self.constraints(f"switch{k}", found)

        def complete(network: StepNetwork) -> None:
            for r, j in np.ndindex(*rows.pre.shape):
                pre: Any = rows.pre[r, j]
                on = float(pre.value >= 0)
                u[rows.cell[r], j].set_value(on, skip_validation=True)

        self.completions.append(complete)

    def on_rows(self, k: int, r: int, j: int, u) -> list:
        """Rows of ``u = 1  =>  pre >= on`` (and the margin); ``u`` may be the number 1."""
        rows = self.rows[k]
        body, low, on = rows.pre[r, j] - rows.spread[j], rows.lower[r, j], rows.levels.on
        found = [body >= low + (on - low) * u]
        if k in self.margin:
            m = self.margin[k][j]
            found = [body - m >= (low - m.ub) * (1 - u)]
        return found

    def off_rows(self, k: int, r: int, j: int, u) -> list:
        """Rows of ``u = 0  =>  pre <= -off`` (and the margin); ``u`` may be the number 0."""
        rows = self.rows[k]
        body, high, off = rows.pre[r, j] + rows.spread[j], rows.upper[r, j], rows.levels.off
        found = [body <= -off + (high + off) * u]
        if k in self.margin:
            m = self.margin[k][j]
            row = body + m <= (high + m.ub) * u
            found = [row] if off <= rows.levels.on else [*found, row]
        return found

    # ------------------------------------------------------------ models and networks
    def network(self) -> StepNetwork:
        """The network at the variables' present values, integers rounded."""
        weights, biases = [], []
        for k in range(self.family.depth):
            if k in self.fixed:
                w, b = self.fixed[k]
            else:
                w, b = _numbers(self.w[k]), _numbers(self.b[k])
            weights.append(np.asarray(w, float))
            biases.append(np.asarray(b, float))
        return StepNetwork(tuple(weights), tuple(biases), self.family.activation)

    def start(self, network: StepNetwork) -> None:
        """Give every variable the value it has for a network."""
        for complete in self.completions:
            complete(network)

    def mismatches(self, network: StepNetwork) -> tuple[int, int]:
        """Hidden activations in which model and network differ, and all compared."""
        patterns = network.patterns(self.data.x)
        wrong = total = 0
        for k, u in self.u.items():
            if k >= len(patterns):
                continue
            model = np.array([[v.value > 0.5 for v in row] for row in u])
            wrong += int((model[self.data.cell] != patterns[k]).sum())
            total += patterns[k].size
        return wrong, total


def _go_on() -> None:
    """There is time."""


def _numbers(variables: np.ndarray) -> np.ndarray:
    """Values in an array; those of integers rounded, all within their bounds."""
    found = np.zeros(variables.shape)
    for index, v in np.ndenumerate(variables):
        if isinstance(v, (int, float)):
            found[index] = v
            continue
        x = float(v.value or 0.0)
        x = float(round(x)) if v.is_integer() else x
        found[index] = min(max(x, v.lb), v.ub)
    return found
