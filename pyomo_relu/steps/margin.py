r"""`MarginProgram`: the exactly trained step network as a function of its data.

One hidden layer of step neurons with all weights and biases in [-1, 1]:

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
from pyomo_relu.programs.branch_and_bound import optimum
from pyomo_relu.programs.program import Program
from pyomo_relu.steps.entries import Entries


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
        The derivatives of the value in the features.
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

    def scores(self, x: Any) -> np.ndarray:
        """The output of the network, (n,); positive for the second class."""
        on = np.asarray(x, dtype=float) @ self.weights[0].T + self.biases[0] >= 0
        return on @ self.weights[1][0] + self.biases[1][0]

    def objective(self, x: Any, y: Any, costs: np.ndarray) -> float:
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
            With ``t`` at least 0 and at most the distance of the hidden neurons from 0.
        """
        pre = np.asarray(x, dtype=float) @ self.weights[0].T + self.biases[0]
        limit = float(np.abs(pre).min())
        signed = np.asarray(y) * self.scores(x)
        # Concave and piecewise linear in t: the optimum is at a kink or at an end.
        levels = np.append(np.clip(signed, 0.0, limit), [0.0, limit])
        return max(float(t - costs @ np.maximum(t - signed, 0.0)) for t in levels)


class MarginProgram:
    """Trains a step network of maximum margin, and differentiates it in its data.

    Parameters
    ----------
    y : (n,) array
        Labels, -1 or 1.
    n_features : int
    hidden : int
        Step neurons.
    soft : bool
        Whether points may fall short of the margin at a cost.
    order : bool
        Order the neurons by their first weight. Neurons may be exchanged, so the optimum
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
        y: Any,
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
        entries = self._entries()
        self._data, self._low = entries.values, entries.low
        self._pattern, self._at = entries.pattern, entries.places

    def _entries(self) -> Entries:
        """The rows, in which what depends on the features x, the radius r and M has a name.

        M is one number for each point that no pre-activation, norm or margin exceeds.
        """
        n, d, h, c = self.n, self.d, self.h, self.columns
        rows, margin, boxed = Entries(), c["t"][self.group], self.group == 0
        on, off = rows.block((n, h)), rows.block((n, h))
        # on:  W x + b - r a - t - M u >= -M;  off: -W x - b - r a - t + M u >= 0
        for block, sign, name in ((on, 1.0, "on"), (off, -1.0, "off")):
            rows.add(block[:, :, None], c["w"], 0.0, f"x {name}")
            rows.add(block[boxed][:, :, None], c["a"], 0.0, "r")
            rows.add(block, c["b"], sign)
            rows.add(block, margin[:, None], -1.0)
            rows.add(block, c["u"], 0.0, f"M {name}")
        # y (sum s + v0) - t + xi >= 0
        outputs = rows.block((n,))
        rows.add(outputs[:, None], c["s"], self.y[:, None])
        rows.add(outputs, c["v0"], self.y)
        rows.add(outputs, margin, -1.0)
        if self.soft:
            rows.add(outputs, c["xi"], 1.0)
        # s = u v, by its convex hull
        for s, u, v, low in (
            (-1.0, 1.0, 0.0, 0.0),
            (1.0, 1.0, 0.0, 0.0),
            (-1.0, -1.0, 1.0, -1.0),
            (1.0, -1.0, -1.0, -1.0),
        ):
            products = rows.block((n, h), low)
            rows.add(products, c["s"], s)
            rows.add(products, c["u"], u)
            if v:
                rows.add(products, c["v"], v)
        for sign in (1.0, -1.0):  # a >= |w|
            sizes = rows.block((h, d))
            rows.add(sizes, c["a"], 1.0)
            rows.add(sizes, c["w"], -sign)
        if self.order and h > 1:
            ordered = rows.block((h - 1,))
            rows.add(ordered, c["w"][:-1, 0], 1.0)
            rows.add(ordered, c["w"][1:, 0], -1.0)
        rows.sort(self.n_columns)
        return rows

    def _per_entry(self, features: np.ndarray) -> np.ndarray:
        """Numbers (n, d) of the features in the order of the entries that depend on them."""
        shape = (self.n, self.h, self.d)
        return np.broadcast_to(features[:, None, :], shape).reshape(-1)

    def theta(self, x: Any, costs: Any = None, radius: float = 0.0) -> np.ndarray:
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
        data, flat = self._data.copy(), self._per_entry(x)
        data[self._at["x on"]], data[self._at["x off"]] = flat, -flat
        data[self._at["r"]] = -radius
        # Strictly more than a row can need, so that no multiplier sits on big-M.
        top = float(h + 1)
        big = np.abs(x).sum(axis=1) + 1.0 + abs(radius) * self.d + top + 1.0
        m = np.repeat(big, h)
        data[self._at["M on"]], data[self._at["M off"]] = -m, m
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
            cost=cost,
            matrix=sp.csr_array((data, indices, indptr), shape),
            row_lower=low,
            row_upper=np.full(shape[0], np.inf),
            lower=lower,
            upper=upper,
            integer=integer,
        )

    def jacobian(self, theta: np.ndarray) -> sp.csr_array:
        """Derivative of the data. Big-M has none: its rows are slack where it counts."""
        n, d = self.n, self.d
        indices, _, shape = self._pattern
        start = 1 + 3 * self.n_columns + 2 * shape[0]
        on, off, r = (self._at[k] for k in ("x on", "x off", "r"))
        feature = self._per_entry(np.arange(n * d).reshape(n, d))
        parts = [
            (start + on, feature, np.ones(len(on))),
            (start + off, feature, -np.ones(len(off))),
            (start + r, np.full(len(r), n * d + n), -np.ones(len(r))),
        ]
        if self.soft:
            parts.append((1 + self.columns["xi"], n * d + np.arange(n), self.share))
        rows, columns, values = (np.concatenate(part) for part in zip(*parts))
        return sp.csr_array(
            (values, (rows, columns)), shape=(start + len(indices), n * d + n + 1)
        )

    def fit(
        self,
        x: Any,
        costs: Any = None,
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
            What falling short of the margin costs, with ``soft``. Costs with a sum of at most 1
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
        program = self.program(theta)
        found = optimum(program, start, time_limit)
        p, c = found.x, self.columns
        gradient = self.jacobian(theta).T @ program.envelope(p, found.y)
        gx, gc, gr = self._split(-gradient)
        return MarginFit(
            value=-found.value,
            margin=float(p[c["t"][0]]),
            slacks=p[c["xi"]],
            weights=(p[c["w"]], p[c["v"]][None, :]),
            biases=(p[c["b"]], p[c["v0"]]),
            x_gradient=gx,
            cost_gradient=gc,
            radius_gradient=gr,
            point=p,
            validation_margin=float(p[c["t"][-1]]) if len(c["t"]) > 1 else 0.0,
        )
