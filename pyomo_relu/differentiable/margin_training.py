r"""`MarginTraining`: the exactly trained step network as a function of its data.

One hidden layer of step units with all weights and biases in [-1, 1]:

.. math::
    \max\ t - \sum_i c_i \xi_i \quad\text{s.t.}\quad
    &\pm (W_l x^i + b_l) - r\,\|W_l\|_1 \ge t \quad\text{as } u_{il} = 1, 0, \\
    &y_i \Bigl(\sum_l u_{il} w_l + v\Bigr) \ge t - \xi_i.

For a fixed pattern :math:`u` the box of the weights doesn't depend on the data and
:math:`t` is a minimum of rows that are 1-Lipschitz in :math:`\|x^i\|_1`, and zero
weights are always feasible. So the value is Lipschitz,
:math:`|z(X) - z(X')| \le \max_i \|x^i - x'^i\|_1`, and semialgebraic: path
differentiable, with :math:`\sum_i \|\partial z / \partial x^i\|_\infty \le 1`.

Without ``costs`` the slacks :math:`\xi` are left out, and every point must be classified
rightly (or ``t = 0``).

Sources: the program of Bah and Kurtz (arXiv 2007.03326) with a margin; tameness after
Aspman, Korpas and Marecek (arXiv 2310.04469).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.differentiable.certificate import Certificate
from pyomo_relu.differentiable.parametric import ParametricMILP
from pyomo_relu.differentiable.program import Program


@dataclass(frozen=True)
class MarginFit:
    """A trained network and the derivatives of its objective.

    Attributes
    ----------
    value : float
        The optimum ``t - costs @ slacks``.
    margin : float
        ``t``.
    slacks : (n,) array
    weights : tuple of (h, d) and (1, h) arrays
    biases : tuple of (h,) and (1,) arrays
    x_gradient : (n, d) array
        Of the value in the features.
    cost_gradient : (n,) array
        In the costs of slacks: ``-slacks`` (times ``tilt`` for validation).
    radius_gradient : float
        In the robust radius.
    point : (variables,) array
        The program's solution, to start another from.
    validation_margin : float
        ``t'`` of the points for validation, 0 without them.
    """

    value: float
    margin: float
    slacks: np.ndarray
    weights: tuple[np.ndarray, np.ndarray]
    biases: tuple[np.ndarray, np.ndarray]
    x_gradient: np.ndarray
    cost_gradient: np.ndarray
    radius_gradient: float
    point: np.ndarray
    validation_margin: float = 0.0

    def scores(self, x) -> np.ndarray:
        """The output of the network, (n,); positive for the second class."""
        on = np.asarray(x, dtype=float) @ self.weights[0].T + self.biases[0] >= 0
        return on @ self.weights[1][0] + self.biases[1][0]

    def objective(self, x, y, costs) -> float:
        """The best ``t - costs @ slacks`` of this network on other points.

        Parameters
        ----------
        x : (m, d) array
        y : (m,) array
            Labels -1 and 1.
        costs : (m,) array

        Returns
        -------
        float
            With ``t`` at least 0 and at most the distance of the hidden units from 0.
        """
        pre = np.asarray(x, dtype=float) @ self.weights[0].T + self.biases[0]
        limit = float(np.abs(pre).min())
        signed = np.asarray(y) * self.scores(x)
        # Concave and piecewise linear in t: the optimum is at a kink or at an end.
        levels = np.append(np.clip(signed, 0.0, limit), [0.0, limit])
        return max(float(t - costs @ np.maximum(t - signed, 0.0)) for t in levels)


class MarginTraining:
    """Trains a step network of maximum margin, and differentiates it in its data.

    Parameters
    ----------
    y : (n,) array
        Labels, -1 or 1.
    n_features : int
    hidden : int
        Step units.
    soft : bool
        Whether points may fall short of the margin at a cost.
    order : bool
        Order the units by their first weight. Units may be exchanged, so the optimum
        stays, and the search is shorter.
    validation : int
        So many of the last points have a margin ``t'`` of their own, and count
        ``tilt * (t' - costs @ slacks)``; with ``soft``. Their patterns need hold at the
        points only, not on boxes. Both margins may be negative, so that the value stays
        Lipschitz: see :class:`~pyomo_relu.differentiable.ValidationMargin`.
    tilt : float

    Notes
    -----
    Parameters of the program are, in this order, the features row by row, the costs
    (0 without ``soft``), and the radius.
    """

    def __init__(
        self,
        y,
        n_features: int,
        *,
        hidden: int = 2,
        soft: bool = False,
        order: bool = True,
        validation: int = 0,
        tilt: float = 1.0,
    ) -> None:
        labels = np.asarray(y, dtype=float).reshape(-1)
        if not np.isin(labels, (-1.0, 1.0)).all() or not len(labels):
            raise ValueError("y must hold labels -1 and 1.")
        if hidden < 1:
            raise ValueError("hidden must be at least 1.")
        if validation and not (soft and 0 < validation < len(labels) and tilt > 0):
            raise ValueError(
                "validation takes soft=True, a number of points below all of them, and a "
                "positive tilt."
            )
        self.y, self.d, self.h = labels, int(n_features), int(hidden)
        self.n, self.soft, self.order = len(labels), bool(soft), bool(order)
        n, d, h = self.n, self.d, self.h
        self.group = (np.arange(n) >= n - validation).astype(int)
        self.share = np.where(self.group == 1, float(tilt), 1.0)
        self.tilts = np.array([1.0, float(tilt)])[: 1 + bool(validation)]
        at, self.columns = 0, {}
        for name, shape in (
            ("w", (h, d)),
            ("b", (h,)),
            ("v", (h,)),
            ("v0", (1,)),
            ("a", (h, d)),
            ("t", (len(self.tilts),)),
            ("s", (n, h)),
            ("u", (n, h)),
            ("xi", (n if soft else 0,)),
        ):
            size = int(np.prod(shape))
            self.columns[name] = np.arange(at, at + size).reshape(shape)
            at += size
        self.n_columns = at
        self._structure()
        theta = np.zeros(n * d + n + 1)
        self.milp = ParametricMILP.from_functions(self.program, self.jacobian, theta)

    # ------------------------------------------------------------------- structure
    def _structure(self) -> None:
        """Rows as triples (row, column, value); those that depend on data are marked."""
        n, d, h, c = self.n, self.d, self.h, self.columns
        self._rows: list[np.ndarray] = []
        self._cols: list[np.ndarray] = []
        self._vals: list[np.ndarray] = []
        self._count = 0
        i, l = np.divmod(np.arange(n * h), h)  # noqa: E741 - the unit's index
        on = np.arange(n * h)
        off = on + n * h
        # on:  W x + b - r a - t - M u >= -M;  off: -W x - b - r a - t + M u >= 0
        features, margin = np.arange(d), c["t"][self.group]
        boxed = self.group[i] == 0
        for rows, sign in ((on, 1.0), (off, -1.0)):
            shape = (len(rows), d)
            self._add(
                np.broadcast_to(rows[:, None], shape),
                c["w"][l],
                np.zeros(shape),
                f"x{sign:+.0f}",
            )
            wide = np.broadcast_to(rows[boxed, None], (boxed.sum(), d))
            self._add(wide, c["a"][l[boxed]], np.zeros(wide.shape), "r")
            self._add(rows, c["b"][l], np.full(len(rows), sign))
            self._add(rows, margin[i], -np.ones(len(rows)))
            self._add(rows, c["u"][i, l], np.zeros(len(rows)), f"M{sign:+.0f}")
        self._x_entry = (i[:, None] * d + features[None, :]).reshape(-1)
        self._m_point = i
        at = 2 * n * h
        # outputs: y (sum s + v0) - t + xi >= 0
        rows = at + np.arange(n)
        for j in range(h):
            self._add(rows, c["s"][:, j], self.y)
        self._add(rows, np.full(n, c["v0"][0]), self.y)
        self._add(rows, margin, -np.ones(n))
        if self.soft:
            self._add(rows, c["xi"], np.ones(n))
        at += n
        low = [np.zeros(2 * n * h), np.zeros(n)]
        # s = u v
        s, u, v = c["s"].reshape(-1), c["u"].reshape(-1), c["v"][l]
        one = np.ones(n * h)
        for terms, bound in (
            (((s, -one), (u, one)), 0.0),
            (((s, one), (u, one)), 0.0),
            (((s, -one), (v, one), (u, -one)), -1.0),
            (((s, one), (v, -one), (u, -one)), -1.0),
        ):
            rows = at + np.arange(n * h)
            for column, value in terms:
                self._add(rows, column, value)
            low.append(np.full(n * h, bound))
            at += n * h
        # a >= |w|
        w, a = c["w"].reshape(-1), c["a"].reshape(-1)
        for sign in (1.0, -1.0):
            rows = at + np.arange(len(w))
            self._add(rows, a, np.ones(len(w)))
            self._add(rows, w, np.full(len(w), -sign))
            low.append(np.zeros(len(w)))
            at += len(w)
        if self.order and h > 1:
            rows = at + np.arange(h - 1)
            self._add(rows, c["w"][:-1, 0], np.ones(h - 1))
            self._add(rows, c["w"][1:, 0], -np.ones(h - 1))
            low.append(np.zeros(h - 1))
            at += h - 1
        self._low = np.concatenate(low)
        self._finish(at)

    def _add(self, rows, columns, values, mark: str = "") -> None:
        flat = [np.asarray(a).reshape(-1) for a in (rows, columns, values)]
        self._rows.append(flat[0])
        self._cols.append(flat[1])
        self._vals.append(flat[2].astype(float))
        if mark:
            if not hasattr(self, "_marks"):
                self._marks: dict[str, list[np.ndarray]] = {}
            span = np.arange(self._count, self._count + len(flat[0]))
            self._marks.setdefault(mark, []).append(span)
        self._count += len(flat[0])

    def _finish(self, n_rows: int) -> None:
        rows, columns = np.concatenate(self._rows), np.concatenate(self._cols)
        numbered = sp.csr_array(
            (np.arange(1.0, len(rows) + 1.0), (rows, columns)),
            shape=(n_rows, self.n_columns),
        )
        numbered.sort_indices()
        order = numbered.data.astype(int) - 1
        place = np.empty(len(order), dtype=int)
        place[order] = np.arange(len(order))
        self._data = np.concatenate(self._vals)[order]
        self._pattern = (numbered.indices, numbered.indptr, numbered.shape)
        self._at = {k: place[np.concatenate(v)] for k, v in self._marks.items()}
        del self._rows, self._cols, self._vals, self._marks

    # ------------------------------------------------------------------------ data
    def theta(self, x, costs=None, radius: float = 0.0) -> np.ndarray:
        """The parameters as one vector.

        Raises
        ------
        ValueError
            For shapes that don't fit, costs without ``soft`` or not positive, and a
            negative radius.
        """
        features = np.asarray(x, dtype=float)
        if features.shape != (self.n, self.d):
            raise ValueError(f"x must have shape {(self.n, self.d)}, not {features.shape}.")
        if self.soft == (costs is None):
            raise ValueError("give costs if and only if soft=True.")
        if radius < 0:
            raise ValueError("the radius must be at least 0.")
        c = np.zeros(self.n)
        if costs is not None:
            c[:] = costs
            if not (c > 0).all():
                raise ValueError("costs must be positive.")
        return np.concatenate([features.reshape(-1), c, [float(radius)]])

    def _split(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        n, d = self.n, self.d
        return theta[: n * d].reshape(n, d), theta[n * d : -1], float(theta[-1])

    def program(self, theta: np.ndarray) -> Program:
        """The minimization of the negative objective."""
        x, costs, radius = self._split(theta)
        n, h, c = self.n, self.h, self.columns
        data = self._data.copy()
        flat = x.reshape(-1)[self._x_entry]
        data[self._at["x+1"]], data[self._at["x-1"]] = flat, -flat
        data[self._at["r"]] = -radius
        # Strictly more than a row can need, so that no multiplier sits on big-M.
        top = float(h + 1)
        big = np.abs(x).sum(axis=1) + 1.0 + abs(radius) * self.d + top + 1.0
        m = big[self._m_point]
        data[self._at["M+1"]], data[self._at["M-1"]] = -m, m
        low = self._low.copy()
        low[: n * h] = -m
        cost = np.zeros(self.n_columns)
        cost[c["t"]] = -self.tilts
        lower, upper = -np.ones(self.n_columns), np.ones(self.n_columns)
        for name in ("a", "t", "u", "xi"):
            lower[c[name]] = 0.0
        upper[c["t"]] = top
        if len(self.tilts) > 1:
            # Lower than any optimum can be, since the network of zeros is worth 0.
            lower[c["t"]] = -top * (1.0 + self.tilts.max() / self.tilts.min()) - 1.0
        if self.soft:
            cost[c["xi"]] = costs * self.share
            upper[c["xi"]] = 2.0 * top + 1.0
        integer = np.zeros(self.n_columns, dtype=bool)
        integer[c["u"]] = True
        indices, indptr, shape = self._pattern
        return Program(
            cost,
            sp.csr_array((data, indices, indptr), shape),
            low,
            np.full(shape[0], np.inf),
            lower,
            upper,
            integer,
        )

    def jacobian(self, theta: np.ndarray) -> sp.csr_array:
        """Derivative of the data. Big-M has none: its rows are slack where it counts."""
        n, d = self.n, self.d
        indices, _, shape = self._pattern
        start = 1 + 3 * self.n_columns + 2 * shape[0]
        on, off, r = (self._at[k] for k in ("x+1", "x-1", "r"))
        rows = [start + on, start + off, start + r]
        columns = [self._x_entry, self._x_entry, np.full(len(r), n * d + n)]
        values = [np.ones(len(on)), -np.ones(len(off)), -np.ones(len(r))]
        if self.soft:
            rows.append(1 + self.columns["xi"])
            columns.append(n * d + np.arange(n))
            values.append(self.share)
        return sp.csr_array(
            (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))),
            shape=(start + len(indices), n * d + n + 1),
        )

    # --------------------------------------------------------------------- results
    def fit(
        self,
        x,
        costs=None,
        radius: float = 0.0,
        *,
        start: np.ndarray | None = None,
        time_limit: float | None = None,
    ) -> MarginFit:
        """Train exactly, and differentiate.

        Parameters
        ----------
        x : (n, d) array
        costs : (n,) array or float, optional
            Of falling short of the margin, with ``soft``. Costs with a sum of at most 1
            make every margin worthless.
        radius : float
            Every pattern must hold on the box of this radius around each point.
        start : (variables,) array, optional
            ``point`` of an earlier fit.
        time_limit : float, optional
            Seconds.

        Raises
        ------
        TimeUp
            If the program is not solved within the time limit.
        """
        theta = self.theta(x, costs, radius)
        solution = self.milp.solve(theta, start=start, time_limit=time_limit)
        gradient = -self.milp.gradient_at(solution, theta)
        gx, gc, gr = self._split(gradient)
        p, c = solution.x, self.columns
        return MarginFit(
            -solution.value,
            float(p[c["t"][0]]),
            p[c["xi"]],
            (p[c["w"]], p[c["v"]][None, :]),
            (p[c["b"]], p[c["v0"]]),
            gx,
            gc,
            gr,
            p,
            float(p[c["t"][-1]]) if len(c["t"]) > 1 else 0.0,
        )

    def certificate(
        self, x, costs=None, radius: float = 0.0, **options: Any
    ) -> Certificate:
        """Of the negative value (see :meth:`ParametricMILP.certificate`).

        At radius 0 the radius is held: it can only grow.
        """
        if radius == 0.0:
            options.setdefault("parameters", np.arange(self.n * self.d + self.n))
        return self.milp.certificate(self.theta(x, costs, radius), **options)
