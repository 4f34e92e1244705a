"""What inputs and outputs can reach over the whole box, before SCIP begins.

Planes are built over a box once, and every node's bounds rest on it: the narrower it is,
the better. Rows bound inputs, networks bound outputs from inputs, and by turns each narrows
what the other begins with. In a chain over time, states narrow from step to step so.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.bounds.planes import BoxPlanes, planes_of_many
from pyomo_relu.presolve.choices import propagate
from pyomo_relu.presolve.functions import NetworkFunction, Separated
from pyomo_relu.programs import LinearProgram
from pyomo_relu.solvers.scip.settings import HANDLER


class Reach:
    """Bounds of all columns of a program, tightened in place, and planes over them.

    Parameters
    ----------
    separated : Separated
        Its program's ``lower`` and ``upper`` are narrowed. Points that rows hold at to their
        tolerance may lie outside by as much.
    deadline : Deadline

    Attributes
    ----------
    boxes : list of BoxPlanes
        One for each function.
    unreached : int or None
        An output whose bounds no inputs reach, if there is one; nothing else holds then.
    """

    def __init__(self, separated: Separated, deadline: Deadline) -> None:
        self.separated, self.deadline = separated, deadline
        self.program: LinearProgram = separated.program
        self.unreached: int | None = None
        functions = separated.functions
        #: Inputs' widths when the planes of a function were built.
        self._built: dict[int, np.ndarray] = {}
        self._found: dict[int, BoxPlanes] = {}
        self._by_rows()
        for _ in range(HANDLER.reach_rounds):
            if self._by_networks(functions) or self.unreached is not None:
                break
            self._by_rows()
        if len(separated.levels()) > 1:
            # Those of equal shape are bounded at once, whatever their level.
            self.boxes = _planes(functions, self.program)
        else:
            self.boxes = [self._found[id(f)] for f in functions]

    def _by_rows(self) -> None:
        """Bounds that follow from rows; none where rows contradict each other."""
        program = self.program
        if len(program.row_lower) > HANDLER.reach_rows:
            return
        lower, upper = program.lower[None].copy(), program.upper[None].copy()
        if propagate(program, lower, upper).all():
            program.lower[:], program.upper[:] = lower[0], upper[0]

    def _by_networks(self, functions: Sequence[NetworkFunction]) -> bool:
        """Bounds of outputs whose inputs have narrowed; whether there were none."""
        done = True
        for level in self.separated.levels():
            self.deadline.check()
            self.separated.bound_sums()
            narrower = [f for f in level if self._narrowed(f)]
            for f, planes in zip(narrower, _planes(narrower, self.program), strict=True):
                self._found[id(f)], done = planes, False
                self._bound(f, planes)
        return done

    def _narrowed(self, f: NetworkFunction) -> bool:
        """Whether an input has lost enough of its width since its planes were built."""
        width = self.program.upper[f.inputs] - self.program.lower[f.inputs]
        built = self._built.get(id(f))
        if built is not None and not (width < HANDLER.reach_gain * built).any():
            return False
        self._built[id(f)] = width
        return True

    def _bound(self, f: NetworkFunction, planes: BoxPlanes) -> None:
        program, root = self.program, planes.over(planes.low, planes.high)
        loose = HANDLER.loose * np.maximum(1.0, np.maximum(abs(root.low), abs(root.high)))
        low = np.maximum(program.lower[f.outputs], root.low - loose)
        high = np.minimum(program.upper[f.outputs], root.high + loose)
        crossed = low > high
        if (low > high + HANDLER.tolerance * np.maximum(1.0, abs(low))).any():
            self.unreached = int(f.outputs[int((low - high).argmax())])
        low[crossed] = high[crossed] = 0.5 * (low[crossed] + high[crossed])
        program.lower[f.outputs], program.upper[f.outputs] = low, high


def _planes(
    functions: Sequence[NetworkFunction], program: LinearProgram
) -> list[BoxPlanes]:
    """The planes of functions over the whole box."""
    low = [program.lower[f.inputs] for f in functions]
    high = [np.maximum(program.upper[f.inputs], a) for f, a in zip(functions, low)]
    return planes_of_many([f.network for f in functions], low, high)
