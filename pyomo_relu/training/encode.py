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

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyomo.environ as pyo

from pyomo_relu.base.deadline import NEVER, Deadline
from pyomo_relu.steps.step_network import StepNetwork, activations_of
from pyomo_relu.training.family import Data, Family, Levels, is_integral, levels
from pyomo_relu.training.spread import write_spread
from pyomo_relu.training.writer import ModelWriter, is_number, linear, values_of

Fixed = Mapping[int, tuple[np.ndarray, np.ndarray]]


@dataclass
class LayerRows:
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


class TrainingMIP(ModelWriter):
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
    deadline : Deadline, optional
        When it has passed, the writing of the program ends with ``TimeUp``.
    room : float
        How much the sum of absolute features of any point may grow without a big-M or the
        box of a bias becoming too small.

    Attributes
    ----------
    model : ConcreteModel
    w, b : dict of arrays of variables
        Those of the layers that are not given; a bias that there isn't is the number 0.
    rows : dict of LayerRows
        Those of every layer that isn't evaluated beforehand.
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
        deadline: Deadline = NEVER,
        room: float = 0.0,
    ) -> None:
        super().__init__(deadline)
        if not 0.0 <= room < np.inf:
            raise ValueError(f"room must be finite and at least 0, not {room}.")
        self.family, self.data, self.room = family, data, room
        self.fixed = dict(fixed or {})
        self.margins, self.scored, self.loss_name = margins, scored, ""
        self.rows: dict[int, LayerRows] = {}
        self.u: dict[int, np.ndarray] = {}
        self.w: dict[int, np.ndarray] = {}
        self.b: dict[int, np.ndarray] = {}
        self.margin: dict[int, np.ndarray] = {}
        self.exact_sums: dict[int, bool] = {}
        #: What the losses on scores want these to reach.
        self.score_target = 0.0
        self.sizes = family.sizes(data.x.shape[1])
        self.dead = np.zeros(self.sizes[0], bool) if dead is None else dead
        self.model.common_margin = pyo.Var(bounds=(0, None), initialize=0.0)
        values: np.ndarray | None = data.x  # None once inputs are binaries
        for k in range(family.depth):
            values = self._layer(k, values)
        if margins != "common":
            self.model.del_component("common_margin")

    def _layer(self, k: int, values: np.ndarray | None) -> np.ndarray | None:
        last = k == self.family.depth - 1
        if values is not None and k in self.fixed and not last:
            w, b = self.fixed[k]
            return activations_of(values @ w.T + b >= 0, self.family.activation)
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
        integral = values is None or is_integral(values)
        exact = family.integer and integral and not (k == 0 and family.radius > 0)
        # An integer bias loses nothing where only the sign of an integer sum counts.
        sized = self.margins == "common" or (self.scored and k == family.depth - 1)
        integer_bias = family.integer_bias or (exact and not sized)
        self.exact_sums[k] = exact and integer_bias
        p, kinds = family.bound, {True: pyo.Integers, False: pyo.Reals}
        kind = kinds[family.integer]
        w = self.variables(f"w{k}", (n_out, n_in), domain=kind, bounds=(-p, p))
        if k == 0:
            for variable in w[:, self.dead].T.flat:
                variable.fix(0)
        limit = family.bias_limit
        if limit is None:
            limit = self._reach(k, values) + 1.0
        if integer_bias:
            limit = np.floor(limit)
        count = {"neuron": n_out, "layer": 1, "none": 0}[family.thresholds]
        b = np.zeros(n_out, dtype=object)
        if count:
            kind = kinds[integer_bias]
            b[:] = self.variables(f"b{k}", (count,), domain=kind, bounds=(-limit, limit))
        self.w[k], self.b[k] = w, b
        self.follow(w, lambda network: network.weights[k])
        # Sums of integers have the same signs with a bias that is rounded down.
        whole = np.floor if integer_bias else np.asarray
        self.follow(b, lambda network: whole(network.biases[k]))

    def _reach(self, k: int, values: np.ndarray | None) -> float:
        """Largest weighted sum of the layer over all weights in their box."""
        if values is None:
            return self.family.bound * self.sizes[k]
        most = float(np.abs(values).sum(axis=1).max(initial=0.0))
        reach = self.family.bound * (most + (self.room if k == 0 else 0.0))
        return reach + (self._largest_spread() if k == 0 else 0.0)

    def _largest_spread(self) -> float:
        return self.family.largest_spread(int((~self.dead).sum()))

    def _biases(self, k: int, network: StepNetwork) -> np.ndarray:
        """The biases that the program has for a network."""
        return values_of(self.b[k]) if k in self.b else network.biases[k]

    def _bias_bounds(self, k: int) -> np.ndarray:
        return np.array([0.0 if is_number(v) else v.ub for v in self.b[k]], dtype=float)

    def _bias(self, k: int, j: int) -> tuple[list[float], list[Any]]:
        """The coefficients and variables of a neuron's bias; nothing where it has none."""
        b = self.b[k][j]
        return ([], []) if is_number(b) else ([1.0], [b])

    def _on_points(self, k: int, values: np.ndarray) -> LayerRows:
        n, n_out, family = len(values), self.sizes[k + 1], self.family
        if k in self.fixed:  # the last layer, given: nothing is left to decide
            raise ValueError("a network of given layers has nothing to train.")
        spread, extra = np.zeros(n_out, dtype=object), 0.0
        used = ~self.dead if k == 0 else np.ones(self.sizes[k], bool)
        if k == 0 and family.robust is not None:
            weights = self.w[0][:, np.flatnonzero(used)]
            spread = write_spread(self, weights, family.bound, family.dual, family.radius)
            extra = self._largest_spread()
        reach = family.bound * np.abs(values[:, used]).sum(axis=1)
        if k == 0:
            reach = reach + family.bound * self.room
        upper = reach[:, None] + self._bias_bounds(k)[None, :]
        rows, pre = [], self.variables(f"pre{k}", (n, n_out))
        for i in range(n):
            self.check()
            columns = np.flatnonzero((values[i] != 0) & used)
            numbers = list(values[i, columns])
            for j in range(n_out):
                one, b = self._bias(k, j)
                variables = [*self.w[k][j, columns], *b, pre[i, j]]
                rows.append((0.0, linear([*numbers, *one, -1.0], variables), 0.0))
        _bound(pre, -upper, upper)
        self.constraints(f"sum{k}", rows)

        def sums(network: StepNetwork) -> np.ndarray:
            x = self.data.x
            inputs = network.activate(network.pre_activations(x)[k - 1]) if k else x
            return inputs @ network.weights[k].T + self._biases(k, network)

        self.follow(pre, sums)
        big = float(upper.max(initial=0.0)) + extra
        level = levels(family, self.exact_sums[k], 2.0 * big, k)
        low, high = -upper - extra, upper + extra
        return LayerRows(pre, self.data.cell, low, high, spread, level, True)

    def _on_cells(self, k: int) -> LayerRows:
        cells, n_out = len(self.u[k - 1]), self.sizes[k + 1]
        pre = self.variables(f"pre{k}", (cells, n_out))
        given = k in self.fixed
        low, high, exact = self._given_sums(k, pre) if given else self._free_sums(k, pre)
        lower, upper = (np.tile(x, (cells, 1)) for x in (low, high))
        _bound(pre, lower, upper)

        def sums(network: StepNetwork) -> np.ndarray:
            values = self._cell_values(k - 1)
            return values @ network.weights[k].T + self._biases(k, network)

        self.follow(pre, sums)
        big = float(np.max(np.maximum(-lower, upper), initial=0.0))
        level = levels(self.family, exact, 2.0 * big, k)
        if given and not exact:
            # What an earlier program kept apart by eps, less its tolerance, stays in.
            level = Levels(level.on / 2.0, level.off / 2.0)
        zeros = np.zeros(n_out, dtype=object)
        return LayerRows(pre, np.arange(cells), lower, upper, zeros, level, False)

    def _given_sums(self, k: int, pre: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
        """Rows of a given layer; bounds of its sums, and whether these are integers."""
        (w, b), u = self.fixed[k], self.u[k - 1]
        # v = u, or 2 u - 1
        sign = self.family.activation == "sign"
        factor, shift = (2.0 * w, b - w.sum(axis=1)) if sign else (w, b)
        low = shift + np.minimum(factor, 0).sum(axis=1)
        high = shift + np.maximum(factor, 0).sum(axis=1)
        rows = []
        for c, j in np.ndindex(*pre.shape):
            body = linear([*factor[j], -1.0], [*u[c], pre[c, j]], float(shift[j]))
            rows.append((0.0, body, 0.0))
        self.constraints(f"sum{k}", rows)
        return low, high, is_integral(w) and is_integral(b)

    def _free_sums(self, k: int, pre: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
        """Rows of a layer that is trained; as :meth:`_given_sums`."""
        product, n_in = self._products(k), self.sizes[k]
        limit = self.family.bound * n_in + self._bias_bounds(k)
        rows = []
        for c, j in np.ndindex(*pre.shape):
            one, b = self._bias(k, j)
            body = linear([1.0] * n_in + [-1.0, *one], [*product[c, j], pre[c, j], *b])
            rows.append((0.0, body, 0.0))
        self.constraints(f"sum{k}", rows)
        return -limit, limit, self.exact_sums[k]

    def _cell_values(self, k: int) -> np.ndarray:
        """The activations of layer k of all cells at the variables' present values."""
        return activations_of(values_of(self.u[k]), self.family.activation)

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
        self.follow(
            s, lambda net: self._cell_values(k - 1)[:, None, :] * net.weights[k][None]
        )
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
            _bound(self.margin[k], np.full(n_out, least), most)

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

        self.follow(u[rows.cell], lambda network: values_of(rows.pre) >= 0)

    def on_rows(self, k: int, r: int, j: int, u: Any) -> list[Any]:
        """Rows of ``u = 1  =>  pre >= on`` (and the margin); ``u`` may be the number 1."""
        rows = self.rows[k]
        body, low, on = rows.pre[r, j] - rows.spread[j], rows.lower[r, j], rows.levels.on
        found = [body >= low + (on - low) * u]
        if k in self.margin:
            m = self.margin[k][j]
            found = [body - m >= (low - m.ub) * (1 - u)]
        return found

    def off_rows(self, k: int, r: int, j: int, u: Any) -> list[Any]:
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

    def mismatches(self, network: StepNetwork) -> tuple[int, int]:
        """Hidden activations in which model and network differ, and all compared."""
        patterns = network.patterns(self.data.x)
        wrong = total = 0
        for k, u in self.u.items():
            if k >= len(patterns):
                continue
            on = values_of(u) > 0.5
            wrong += int((on[self.data.cell] != patterns[k]).sum())
            total += patterns[k].size
        return wrong, total


def _bound(variables: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> None:
    for v, low, high in zip(variables.flat, lower.flat, upper.flat):
        v.setlb(low)
        v.setub(high)


def _numbers(variables: np.ndarray) -> np.ndarray:
    """Values in an array; those of integers rounded, all within their bounds."""
    found = np.zeros(variables.shape)
    for index, v in np.ndenumerate(variables):
        if is_number(v):
            found[index] = v
            continue
        x = float(v.value or 0.0)
        x = float(round(x)) if v.is_integer() else x
        found[index] = min(max(x, v.lb), v.ub)
    return found
