"""HiGHS: the only file of the package that touches ``highspy``.

What HiGHS and its Python interface do that a caller would have to know is known here:

* its scheduler belongs to the calling thread and keeps the first number of threads, so
  each run happens in a thread of :mod:`~pyomo_relu.programs.runner`;
* a run that reports an error leaves a bound of 0 behind, so an answer is read by its
  status only (:mod:`~pyomo_relu.programs.answer`);
* it counts the time of all runs of an object together, so limits are counted from there;
* Ctrl-C doesn't reach it, so the waiting thread asks it to end;
* an exception must not travel through it, so callbacks' errors are raised after a run;
* to complete a partial start it solves a program with the known columns fixed, and gives
  that program's bounds and solutions out as those of the whole, so starts are complete;
* a program without columns isn't checked for its rows;
* the first object of a process prints a banner.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from pyomo_relu.base.lazy import highspy
from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.base.versions import check_version
from pyomo_relu.programs import runner
from pyomo_relu.programs.answer import Answer, read_answer
from pyomo_relu.programs.linear_program import LinearProgram

#: Defaults for models that hold network blocks; a user's options override them.
#: Four heuristics that solve sub-problems are off: with a start from the network they
#: find nothing better and cost time. CPU seconds in geometric mean over three random
#: 5-20-20-1 networks (seeds 1 to 3, start given, one thread, HiGHS 1.15.1), all off
#: 1.71, all on 3.16, and with one alone switched on:
#:
#: ========================  ====  ====================================================
#: feasibility_jump          1.70  no measurable cost here; off since MIPVerify #268
#: rins                      1.90
#: rens                      2.29
#: root_reduced_cost         1.73  within the noise; off since MIPVerify #268
#: ========================  ====  ====================================================
NETWORK_DEFAULTS: dict[str, Any] = {
    "mip_heuristic_run_feasibility_jump": False,
    "mip_heuristic_run_rins": False,
    "mip_heuristic_run_rens": False,
    "mip_heuristic_run_root_reduced_cost": False,
}


class ProgramError(ValueError):
    """HiGHS refuses a program: crossed bounds, or numbers beyond what it takes."""


class Event(NamedTuple):
    """What HiGHS says on its way.

    ``point`` is the new incumbent where one was found, else None; the numbers are in the
    sense of the objective.
    """

    seconds: float
    incumbent: float
    bound: float
    gap: float
    nodes: int
    point: np.ndarray | None = None


def has_highs() -> bool:
    """Whether ``highspy`` can be imported."""
    try:
        return bool(highspy.Highs)
    except ImportError:
        return False


def highs_version() -> tuple[int, ...]:
    """The version of HiGHS.

    Raises
    ------
    ImportError
        If ``highspy`` is missing.
    """
    return (
        int(highspy.HIGHS_VERSION_MAJOR),
        int(highspy.HIGHS_VERSION_MINOR),
        int(highspy.HIGHS_VERSION_PATCH),
    )


@cache
def _silent() -> Any:
    """The class of ``Highs`` objects that print nothing.

    Their constructor enables callbacks, and that prints HiGHS's banner (1.16) unless the
    output is off by then.
    """

    class Silent(highspy.Highs):
        def enableCallbacks(self) -> None:
            self.setOptionValue("output_flag", False)
            super().enableCallbacks()

    check_version("highspy", highs_version())
    return Silent


class HighsModel:
    """A program in HiGHS: changed in place, run, and run again.

    Parameters
    ----------
    program : LinearProgram, optional
        What to load; :meth:`load` does it later.
    relaxed : bool
        Leave integrality out.
    threads : int
        How many a run has. 1, the default, makes runs repeatable; 0 is HiGHS's choice.
    **options
        HiGHS's own.

    Raises
    ------
    ValueError
        For an option that HiGHS doesn't have, or a value that it doesn't take.
    ProgramError
        If HiGHS refuses the program.
    """

    def __init__(
        self,
        program: LinearProgram | None = None,
        *,
        relaxed: bool = False,
        threads: int = 1,
        **options: Any,
    ) -> None:
        self._highs = _silent()()
        self._threads, self._limit = 0, math.inf
        self._is_mip = self._maximize = False
        self._n_columns = self._n_rows = 0
        self._every = np.zeros(0, dtype=np.int32)
        self._cancelled = self._heeds = False
        self._error: BaseException | None = None
        self.set(threads=threads, **options)
        if program is not None:
            self.load(program, relaxed)

    # ------------------------------------------------------------------------ options
    def has_option(self, name: str) -> bool:
        """Whether this version of HiGHS has an option."""
        return hasattr(self._highs.getOptions(), name)

    def set(self, options: Mapping[str, Any] | None = None, **more: Any) -> None:
        """Set HiGHS options.

        ``time_limit`` is the limit of every run to come, in seconds.

        Raises
        ------
        ValueError
            For an unknown option or a value it can't take, naming it.
        """
        for name, setting in {**(options or {}), **more}.items():
            name = str(name)
            if hasattr(setting, "item"):
                setting = setting.item()  # NumPy scalars
            if self._highs.setOptionValue(name, setting) != highspy.HighsStatus.kOk:
                self._refuse(name, setting)
            if name == "threads":
                self._threads = int(setting)
            elif name == "time_limit":
                self._limit = float(setting)

    def _refuse(self, name: str, setting: Any) -> None:
        known = [o for o in dir(self._highs.getOptions()) if not o.startswith("_")]
        if name in known:
            raise ValueError(
                f"HiGHS option '{name}' doesn't take {setting!r}; see HiGHS's list of "
                "options for its type and range."
            )
        from difflib import get_close_matches  # none is needed where all goes well

        close = get_close_matches(name, known, 3)
        hint = (
            f"did you mean {' or '.join(map(repr, close))}?"
            if close
            else ("see HiGHS's list of options.")
        )
        raise ValueError(f"HiGHS has no option '{name}'; {hint}")

    # ------------------------------------------------------------------------ program
    def load(self, program: LinearProgram, relaxed: bool = False) -> None:
        """Load a program in place of what was there.

        The overload of HiGHS's that takes arrays costs a fifth of filling a ``HighsLp``.
        """
        n, m = len(program.cost), len(program.row_lower)
        matrix = program.matrix
        kinds = np.zeros(n, dtype=np.int32)
        if program.is_mip and not relaxed:
            kinds[program.integer] = 1
        self._is_mip = bool(kinds.any())
        self._maximize = program.maximize
        self._n_columns, self._n_rows = n, m
        self._every = np.arange(n, dtype=np.int32)
        self._check(
            self._highs.passModel(
                n,
                m,
                matrix.nnz,
                int(highspy.MatrixFormat.kRowwise),
                -1 if program.maximize else 1,
                program.offset,
                np.asarray(program.cost, dtype=float),
                _floats(program.lower),
                _floats(program.upper),
                _floats(program.row_lower),
                _floats(program.row_upper),
                matrix.indptr.astype(np.int32, copy=False),
                matrix.indices.astype(np.int32, copy=False),
                matrix.data.astype(float, copy=False),
                kinds,
            )
        )

    def _check(self, status: Any) -> None:
        if status == highspy.HighsStatus.kError:
            raise ProgramError(
                "HiGHS refuses the model; its log (tee=True) says why, mostly crossed "
                "bounds or coefficients beyond 1e15."
            )

    @property
    def n_rows(self) -> int:
        """Rows of the program, added ones included."""
        return self._n_rows

    def set_costs(self, cost: np.ndarray) -> None:
        """Give all columns these costs."""
        self._check(self._highs.changeColsCost(self._n_columns, self._every, cost))

    def minimize(self) -> None:
        """Make the objective one to be minimized, without a constant."""
        self._maximize = False
        self._check(self._highs.changeObjectiveSense(highspy.ObjSense.kMinimize))
        self._check(self._highs.changeObjectiveOffset(0.0))

    def set_bounds(self, lower: Any, upper: Any, columns: np.ndarray | None = None) -> None:
        """Give columns, by default all, these bounds."""
        at = self._every if columns is None else np.asarray(columns, dtype=np.int32)
        if len(at):
            self._check(
                self._highs.changeColsBounds(len(at), at, _floats(lower), _floats(upper))
            )

    def set_row_bounds(self, row: int, lower: float, upper: float) -> None:
        """Give a row these bounds."""
        self._check(self._highs.changeRowBounds(row, float(lower), float(upper)))

    def set_coefficients(self, row: int, columns: np.ndarray, values: np.ndarray) -> None:
        """Change coefficients of a row."""
        for j, a in zip(np.asarray(columns).tolist(), np.asarray(values).tolist()):
            self._check(self._highs.changeCoeff(row, j, a))

    def add_rows(self, matrix: sp.csr_array, lower: Any, upper: Any) -> None:
        """Add rows at the end."""
        self._n_rows += matrix.shape[0]
        self._check(
            self._highs.addRows(
                matrix.shape[0],
                _floats(lower),
                _floats(upper),
                matrix.nnz,
                matrix.indptr[:-1].astype(np.int32),
                matrix.indices.astype(np.int32),
                matrix.data,
            )
        )

    def add_row(
        self, columns: np.ndarray, values: np.ndarray, low: float, high: float
    ) -> None:
        """Add one row at the end."""
        self._n_rows += 1
        at = np.asarray(columns, dtype=np.int32)
        self._check(self._highs.addRow(float(low), float(high), len(at), at, values))

    def drop_rows(self, count: int) -> None:
        """Take the last rows away."""
        last = np.arange(self._n_rows - count, self._n_rows, dtype=np.int32)
        self._n_rows -= count
        self._check(self._highs.deleteRows(count, last))

    # ------------------------------------------------------------------------- starts
    def start_at(self, point: np.ndarray) -> None:
        """Give a complete start, (n_columns,)."""
        if len(point) != self._n_columns:
            raise ValueError(
                f"a start has {len(point)} values for {self._n_columns} columns."
            )
        solution = highspy.HighsSolution()
        solution.col_value = np.asarray(point, dtype=float).tolist()
        solution.value_valid = True
        self._highs.setSolution(solution)

    def start_basis(self, basis: Any) -> None:
        """Give the basis of an earlier answer with as many columns and rows."""
        self._highs.setBasis(basis)

    def forget(self) -> None:
        """Drop solution, basis and what else HiGHS keeps from its runs."""
        self._highs.clearSolver()

    # ---------------------------------------------------------------------- callbacks
    def on_log(self, write: Callable[[str], Any]) -> None:
        """Have each piece of HiGHS's log written here; nothing goes to the console."""
        self.set(log_to_console=False, output_flag=True)
        self._listen("cbLogging", lambda event: write(event.message))

    def on_line(self, tell: Callable[[Event], Any]) -> None:
        """Call for each line of the log of a mixed-integer search."""
        self.set(log_to_console=False, output_flag=True)
        self._listen(
            "cbMipLogging",
            lambda event: tell(_event(event.data_out, event.data_out.mip_primal_bound)),
        )

    def on_incumbent(self, tell: Callable[[Event], Any]) -> None:
        """Call for each better solution of a mixed-integer search."""

        def better(event: Any) -> None:
            data = event.data_out
            tell(
                _event(data, data.objective_function_value)._replace(
                    point=np.array(data.mip_solution, dtype=float)
                )
            )

        self._listen("cbMipImprovingSolution", better)

    def ask_for_points(self, give: Callable[[Event], np.ndarray | None]) -> None:
        """Ask now and then during a mixed-integer search for a better point.

        What comes is a complete point (n_columns,), or None; HiGHS checks it.
        """

        def ask(event: Any) -> None:
            data = event.data_out
            point = give(_event(data, data.mip_primal_bound))
            if point is not None:
                event.data_in.setSolution(np.asarray(point, dtype=float))

        self._listen("cbMipUserSolution", ask)

    def stop_when(self, stop: Callable[[Event], Any]) -> None:
        """Ask now and then during a mixed-integer search whether to end it; true does."""

        def ask(event: Any) -> None:
            if stop(_event(event.data_out, event.data_out.mip_primal_bound)):
                self._cancelled = True

        self._listen("cbMipInterrupt", ask)
        self._heed_interrupts()

    def _listen(self, name: str, function: Callable[[Any], Any]) -> None:
        callback = getattr(self._highs, name)
        callback += self._guarded(function)

    def _guarded(self, function: Callable[[Any], Any]) -> Callable[[Any], None]:
        def call(event: Any) -> None:
            if self._error is not None:
                return
            try:
                function(event)
            except BaseException as error:  # must not travel through HiGHS
                self._error = error
                self.cancel()

        return call

    def _heed_interrupts(self) -> None:
        """Answer HiGHS's questions whether to go on; after the listeners that decide."""
        if not self._heeds:
            self._heeds = True
            for name in ("cbMipInterrupt", "cbSimplexInterrupt", "cbIpmInterrupt"):
                callback = getattr(self._highs, name)
                callback += self._interrupt

    def _interrupt(self, event: Any) -> None:
        if self._cancelled:
            event.data_in.user_interrupt = True

    def cancel(self) -> None:
        """Ask a run, from another thread or from a callback, to end soon."""
        self._cancelled = True
        # Listeners are added only now: a simplex run without any makes no calls into Python.
        self._heed_interrupts()

    # ---------------------------------------------------------------------------- run
    def run(self, time_limit: float | None = None, *, keep: bool = False) -> Answer:
        """Solve what is loaded.

        Parameters
        ----------
        time_limit : float, optional
            Seconds, of this run alone; the option's limit holds as well.
        keep : bool
            Whether Ctrl-C ends the run and gives its answer, marked ``keyboard``, instead
            of a KeyboardInterrupt.

        Raises
        ------
        KeyboardInterrupt
            After Ctrl-C, once HiGHS has ended.
        Exception
            What a callback raised.
        """
        highs = self._highs
        limit = min(self._limit, math.inf if time_limit is None else float(time_limit))
        if limit < math.inf:
            limit = max(limit, 0.0) + highs.getRunTime()
        highs.setOptionValue("time_limit", limit)
        self._cancelled, self._error = False, None
        status, pressed = runner.run(highs.run, self._threads, self.cancel)
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        if pressed and not keep:
            raise KeyboardInterrupt
        return read_answer(
            highs,
            status != highspy.HighsStatus.kError,
            self._is_mip,
            self._maximize,
            pressed,
        )

    def dual_ray(self) -> np.ndarray | None:
        """Row multipliers that prove the last linear program empty, (n_rows,), or None."""
        _, there, ray = self._highs.getDualRay()
        return np.array(ray, dtype=float) if there else None

    def basic(self, basis: Any) -> tuple[np.ndarray, np.ndarray]:
        """Which columns and which rows of a basis are basic, as bool arrays."""
        kind = highspy.HighsBasisStatus.kBasic
        return (
            np.array([s == kind for s in basis.col_status], dtype=bool),
            np.array([s == kind for s in basis.row_status], dtype=bool),
        )


def _event(data: Any, incumbent: float) -> Event:
    return Event(
        float(data.running_time),
        float(incumbent),
        float(data.mip_dual_bound),
        float(data.mip_gap),
        int(data.mip_node_count),
    )


def _floats(numbers: Any) -> np.ndarray:
    return np.asarray(numbers, dtype=float)
