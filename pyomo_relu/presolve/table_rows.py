r"""Rows that a table implies for the variables around it.

A network that is written as a table (:mod:`~pyomo_relu.formulations.table`) has a weight
:math:`\lambda_c` for each combination of its inputs' values, of which one is 1. With it the
inputs, the binaries that choose their values and the outputs are numbers, and the rows around
them say more of other variables than over all combinations: at price :math:`k` no more is
sold than is wanted at that price. If :math:`a^T v \le w_c` follows at combination :math:`c`,
then

.. math:: a^T v \le \sum_c w_c \lambda_c

holds at every point of the model. Where the user's rows have a large constant for the same,
``sold_at[k] <= most * chosen[k]``, the linear relaxation is far tighter with these. Two kinds
are looked at. For single variables :math:`v_j` and :math:`-v_j`, bounds are propagated through
the rows near the table, all combinations at once. For rows :math:`a^T v \le b - h^T s` with
the table's binaries :math:`s`, the right side at :math:`c` is that row's, or another's that
holds there, :math:`{a'}^T v \le b'_c` and so :math:`a^T v \le b'_c + \max (a - a')^T v`.
What is written is what the linear relaxation of the model breaks, in rounds.

Source: implications of binaries in presolve, one value at a time: Savelsbergh, "Preprocessing
and probing techniques for mixed integer programming problems", ORSA Journal on Computing 6,
1994; here for all combinations of several variables' values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyomo.environ import Block, Var, value

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.formulations import network_blocks
from pyomo_relu.formulations.values import RowCollector, combined, term
from pyomo_relu.formulations.vertex_weights import WrittenCells
from pyomo_relu.formulations.whole import LAYER, whole_of
from pyomo_relu.presolve.as_rows import without_layers
from pyomo_relu.presolve.fixed_outputs import compile_with_networks
from pyomo_relu.presolve.model_scope import TABLE_ROWS as BLOCK
from pyomo_relu.presolve.model_scope import model_mark, table_rows_around
from pyomo_relu.programs import HighsModel, Status, matrix_of
from pyomo_relu.programs.standard_form import StandardForm


@dataclass(frozen=True)
class TableRowSettings:
    """The numbers that say which rows are looked at and which are written."""

    #: Rows of more variables are left out of the propagation: what they say of one variable
    #: is mostly nothing, and the work grows with their length. Chosen by hand.
    longest_row: int = 60
    #: Rounds of propagation over all rows; each reaches one row further from the table.
    #: Chosen by hand: from a price to the demand, from there to sales, to each price's share.
    rounds: int = 3
    #: Rings of rows around the table that are propagated; chosen by hand, as ``rounds``.
    rings: int = 3
    #: Linear programs that are solved at most; each adds what the one before has broken. With
    #: 60 the bound of price_grid (benchmarks/wired_models) is 27.10, with 20 it is 27.81; the
    #: 60 cost 0.1 CPU s there and 5 on pricing20.
    programs: int = 60
    #: A row counts as broken by a point where it is by this share of its largest number;
    #: chosen by hand, above HiGHS's tolerance.
    broken: float = 1e-5
    #: Bounds are widened by this share of the largest number in their row, for rounding;
    #: chosen by hand, far above rounding and far below any solver's tolerance.
    margin: float = 1e-11


SETTINGS = TableRowSettings()
#: Whom errors of the compiler name.
NAME = "relu.table_rows"


def add_table_rows(model: Any) -> Any:
    """Add the rows that the model's tables imply, in a block ``table_rows``.

    Parameters
    ----------
    model : BlockData
        A linear model, of which tables are networks written by ``table``.

    Returns
    -------
    BlockData
        With the constraint ``row``, missing where the linear relaxation breaks none. The
        rows follow from the model as it is; when constraints, bounds, fixed variables or a
        table change, the model is refused until the block is added anew or deleted.
    """
    if model.component(BLOCK) is not None:
        model.del_component(BLOCK)
    with without_layers(list(network_blocks(model))):
        form = compile_with_networks(model, NAME)
    found: list[_Implied] = []
    for block, written in _tables(model):
        found += _Neighbourhood(form, block, written).implied()
    rows = RowCollector()
    for k, one in enumerate(_broken(model, found)):
        weights = [(float(w), term(v)) for w, v in zip(one.bounds, one.weights)]
        terms = [(-a, term(v)) for a, v in one.terms]
        rows.nonnegative("row", k, combined([*weights, *terms]))
    new = Block(concrete=True)
    model.add_component(BLOCK, new)
    rows.add_to(new)
    new.relied_on = None  # by this attribute the rows aren't taken for the user's
    new.relied_on = _ReliedOn(_mark(model), list(_tables(model)))
    return new


def check_table_rows(block: Any) -> None:
    """Raise if rows of tables rely on a model that has changed since.

    Parameters
    ----------
    block : ReLUNetBlockData
        Whatever is around it is looked at, for the first network block there.

    Raises
    ------
    ValueError
        Saying how to get valid ones.
    """
    for rows in table_rows_around(block):
        model = rows.parent_block()
        if not rows.active or next(network_blocks(model), None) is not block:
            continue
        same = all(whole_of(b.formulations) is w for b, w in rows.relied_on.tables)
        if not same or rows.relied_on.mark != _mark(model):
            raise ValueError(
                f"'{rows.name}' follows from constraints, bounds, fixed variables and "
                f"tables that have changed since; apply the transformation '{NAME}' again, "
                f"or delete '{rows.name}'."
            )


@dataclass(frozen=True)
class _ReliedOn:
    """What rows of tables follow from: a mark of the model, and the tables as written."""

    mark: str
    tables: list[tuple[Any, WrittenCells]]


def _mark(model: Any) -> str:
    fixed = [
        (v.name, value(v, exception=False))
        for v in model.component_data_objects(Var, descend_into=Block)
        if v.fixed
    ]
    return f"{model_mark(model)} {fixed!r}"


@dataclass(frozen=True)
class _Implied:
    """``sum terms <= bounds @ weights``, a bound and a weight for each point of a table."""

    terms: list[tuple[float, Any]]
    bounds: np.ndarray
    weights: list[Any]


def _broken(model: Any, found: list[_Implied]) -> list[_Implied]:
    """Those that the linear relaxation breaks, with those that are added before."""
    if not found:
        return []
    form = compile_with_networks(model, NAME)
    number = form.column_numbers()
    found = [f for f in found if all(id(v) in number for v in f.weights)]
    parts = []
    for r, one in enumerate(found):
        columns = [number[id(v)] for v in one.weights]
        columns += [number[id(v)] for _, v in one.terms]
        values = np.concatenate([one.bounds, [-a for a, _ in one.terms]])
        parts.append((np.full(len(columns), r), np.array(columns), values))
    matrix = matrix_of(len(found), len(form.columns), parts)
    size = abs(matrix).max(axis=1).toarray().ravel()
    highs, kept = HighsModel(form, relaxed=True), np.zeros(len(found), dtype=bool)
    for _ in range(SETTINGS.programs):
        answer = highs.run(keep=True)
        if answer.status is not Status.OPTIMAL or answer.point is None:
            return []
        new = ~kept & (matrix @ answer.point < -SETTINGS.broken * size)
        if not new.any():
            break
        kept |= new
        many = int(new.sum())
        highs.add_rows(matrix[new], np.zeros(many), np.full(many, np.inf))
    kept &= matrix @ answer.point < SETTINGS.broken * size  # those that bind
    return [found[r] for r in np.flatnonzero(kept).tolist()]


def _tables(model: Any) -> Iterator[tuple[Any, WrittenCells]]:
    """The blocks whose cells are single points, as their formulation wrote them."""
    for block in network_blocks(model):
        written = whole_of(block.formulations)
        if isinstance(written, WrittenCells) and next(block.changes(), None) is None:
            if len(written.cells) == len(written.cells.vertices):
                yield block, written


class _Neighbourhood:
    """The rows around one table, and the bounds of their columns at each of its points.

    Parameters
    ----------
    form : StandardForm
        Of the model without what formulations wrote.
    block : ReLUNetBlockData
    written : WrittenCells
    """

    def __init__(self, form: StandardForm, block: Any, written: WrittenCells) -> None:
        self.form, self.block, self.written = form, block, written
        known = self._known()
        self.rows, self.columns = self._near(list(known))
        place = {j: k for k, j in enumerate(self.columns.tolist())}
        n = len(written.cells)
        self.lower = np.tile(form.lower[self.columns], (n, 1))
        self.upper = np.tile(form.upper[self.columns], (n, 1))
        self.is_known = np.isin(self.columns, list(known))
        for j, values in known.items():
            if j in place:
                self.lower[:, place[j]] = self.upper[:, place[j]] = values
        self.integer = form.integer[self.columns]

    def _known(self) -> dict[int, np.ndarray]:
        """The columns that are numbers at each point of the table, with these."""
        number = self.form.column_numbers()
        cells, found = self.written.cells, {}
        for z, members in self.written.selectors:
            if id(z) in number:
                found[number[id(z)]] = np.isin(np.arange(len(cells)), members).astype(float)
        for i, k in enumerate(cells.free.tolist()):
            if id(self.block.entries[k]) in number:
                found[number[id(self.block.entries[k])]] = cells.vertices[:, i]
        for j, y in enumerate(self.block.output_variables):
            if id(y) in number:
                found[number[id(y)]] = cells.values[:, j]
        return found

    def _near(self, start: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Rows near the table and their columns, ring after ring."""
        matrix = self.form.matrix
        short = np.diff(matrix.indptr) <= SETTINGS.longest_row
        ones = np.ones(matrix.nnz)
        pattern = sp.csr_array((ones, matrix.indices, matrix.indptr), shape=matrix.shape)
        columns = np.zeros(matrix.shape[1])
        columns[start] = 1.0
        rows = np.zeros(matrix.shape[0], dtype=bool)
        for _ in range(SETTINGS.rings):
            rows = (pattern @ columns > 0) & short
            columns = np.maximum(columns, pattern.T @ rows.astype(float))
        return np.flatnonzero(rows), np.flatnonzero(columns > 0)

    def implied(self) -> Iterator[_Implied]:
        """What says more at the points than over all of them."""
        for _ in range(SETTINGS.rounds):
            before = self.lower.copy(), self.upper.copy()
            for r in self.rows.tolist():
                self._propagate(r)
            if all(map(np.array_equal, before, (self.lower, self.upper))):
                break
        weights = self.written.weights_in(self.block.component("layer")[LAYER])
        variables = [self.form.columns[j] for j in self.columns.tolist()]
        for k in np.flatnonzero(~self.is_known).tolist():
            for sign, bounds in ((1.0, self.upper[:, k]), (-1.0, -self.lower[:, k])):
                if np.isfinite(bounds).all() and np.ptp(bounds) > 0:
                    yield _Implied([(sign, variables[k])], bounds, weights)
        for at, a, right in self._rows_with_binaries():
            terms = [(float(c), variables[k]) for c, k in zip(a, at)]
            yield _Implied(terms, right, weights)

    def _rows_with_binaries(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Columns, coefficients and right sides of the rows that points say more of."""
        sides = [side for r in self.rows.tolist() for side in self._unknown_part(r)]
        for at, a, right in sides:
            if len(at) < 2 or np.ptp(right) == 0.0:
                continue
            best = right
            for other, b, limit in sides:
                best = np.minimum(best, self._by_another(at, a, other, b, limit))
            if np.isfinite(best).all() and (best < right).any():
                yield at, a, best

    def _unknown_part(self, r: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """The sides of a row as ``a @ v <= right``, of columns that the table leaves open."""
        form = self.form
        span = slice(form.matrix.indptr[r], form.matrix.indptr[r + 1])
        at = np.searchsorted(self.columns, form.matrix.indices[span])
        a, known = form.matrix.data[span], self.is_known[at]
        if known.all():
            return
        settled = self.lower[:, at[known]] @ a[known]
        size = np.abs(self.lower[:, at[known]]) @ np.abs(a[known])
        for sign, end in ((1.0, form.row_upper[r]), (-1.0, -form.row_lower[r])):
            if np.isfinite(end):
                slack = SETTINGS.margin * (size + abs(end))
                yield at[~known], sign * a[~known], end - sign * settled + slack

    def _by_another(
        self,
        at: np.ndarray,
        a: np.ndarray,
        other: np.ndarray,
        b: np.ndarray,
        limit: np.ndarray,
    ) -> np.ndarray:
        """What another row makes of ``a @ v`` at each point; infinite if nothing."""
        common, mine, its = np.intersect1d(at, other, return_indices=True)
        if not len(common):
            return np.full(len(limit), np.inf)
        k = int(np.argmax(np.abs(a[mine])))
        scale = a[mine[k]] / b[its[k]]
        if scale <= 0:
            return np.full(len(limit), np.inf)
        both = np.union1d(at, other)
        rest = np.zeros(len(both))
        rest[np.searchsorted(both, at)] += a
        rest[np.searchsorted(both, other)] -= scale * b
        rest[np.searchsorted(both, common[k])] = 0.0
        low, high = self.lower[:, both], self.upper[:, both]
        ends = np.where(rest > 0, high, low)
        most = np.where(rest == 0.0, 0.0, np.where(rest == 0.0, 0.0, ends) * rest)
        slack = SETTINGS.margin * np.abs(most).sum(axis=1)
        return scale * limit + most.sum(axis=1) + slack

    def _propagate(self, r: int) -> None:
        """Bounds of a row's columns from those of its others, at all points."""
        form = self.form
        span = slice(form.matrix.indptr[r], form.matrix.indptr[r + 1])
        a = form.matrix.data[span]
        at = np.searchsorted(self.columns, form.matrix.indices[span])
        low, high = self.lower[:, at], self.upper[:, at]
        least, most = np.where(a > 0, a * low, a * high), np.where(a > 0, a * high, a * low)
        size = SETTINGS.margin * (np.abs(a) * np.maximum(np.abs(low), np.abs(high)))
        for ends, end, up in (
            (least, form.row_upper[r], a > 0),
            (most, form.row_lower[r], a < 0),
        ):
            if not np.isfinite(end):
                continue
            # What the others leave to each column; nothing where two of them are open.
            open_ends = ~np.isfinite(ends)
            total = np.where(open_ends, 0.0, ends).sum(axis=1, keepdims=True)
            others = open_ends.sum(axis=1, keepdims=True) - open_ends
            rest = end - (total - np.where(open_ends, 0.0, ends))
            slack = np.where(np.isfinite(size), size, 0.0).sum(axis=1, keepdims=True)
            slack = slack + SETTINGS.margin * abs(end)
            bound = np.where(others > 0, np.nan, rest) / a
            slack = slack / np.abs(a)
            self._tighten(at, bound + slack, up, self.upper, np.minimum, np.floor)
            self._tighten(at, bound - slack, ~up, self.lower, np.maximum, np.ceil)

    def _tighten(
        self,
        at: np.ndarray,
        bound: np.ndarray,
        which: np.ndarray,
        held: np.ndarray,
        tighter: Any,
        whole: Any,
    ) -> None:
        """Meet bounds of some of a row's columns with new ones, whole ones of integers."""
        columns = at[which]
        new = bound[:, which]
        inner = 1e-6 if whole is np.floor else -1e-6
        new = np.where(self.integer[columns], whole(new + inner), new)
        old = held[:, columns]
        held[:, columns] = np.where(np.isnan(new), old, tighter(old, new))
