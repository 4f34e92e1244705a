"""Networks that are off and stand in nobody's way.

Where a unit is switched off, or where what is sold is less than the demand anyway, an LP's
point may have any number for an output: with the network's own value in its place all rows
hold as before, at the same cost. To split inputs until planes say so would be work for
nothing. If no network that is off is in the way, the point with all of them moved is a
solution as good as the node's bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.programs import LinearProgram
from pyomo_relu.solvers.scip.settings import HANDLER
from pyomo_relu.solvers.scip.together import Together


@dataclass(frozen=True)
class _Outputs:
    """The outputs of a network.

    Attributes
    ----------
    free : (q,) bool array
        Whether only linear rows use an output, with no cost.
    rows : (r,) int array
        The rows that outputs are in, with coefficients ``matrix`` (r, q).
    """

    free: np.ndarray
    rows: np.ndarray
    matrix: np.ndarray


class Movable:
    """Which outputs can be moved to their networks' values.

    Parameters
    ----------
    problem : Problem
    program : LinearProgram
        With the columns that the networks have.
    networks : Together

    Attributes
    ----------
    some : bool
        Whether there is a network of which an output may be moved at all.
    """

    def __init__(
        self, problem: Problem, program: LinearProgram, networks: Together
    ) -> None:
        self.program, self.networks = program, networks
        held = np.zeros(len(program.lower), dtype=bool)
        held[problem.beside_rows] = True
        for f in networks.functions:
            held[f.inputs] = True
        held |= program.cost != 0.0
        columns = sp.csc_array(program.matrix)
        self._outputs: list[_Outputs] = []
        for f in networks.functions:
            own = sp.csr_array(columns[:, f.outputs])
            rows = np.flatnonzero(np.diff(own.indptr))
            self._outputs.append(_Outputs(~held[f.outputs], rows, own[rows].toarray()))
        self.some = any(one.free.any() for one in self._outputs)

    def moved(self, which: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Move the outputs of networks that are off.

        Parameters
        ----------
        which : (k,) int array
            Networks that are off at the point.
        z : (n_columns,) array
            The point, at which the rows hold.

        Returns
        -------
        held : int array
            Those that stand in the way: a row, a bound, another network, a term or the cost
            doesn't let an output go.
        point : (n_columns,) array
            The point with the outputs of all others moved, one after another as far as rows
            let them.
        """
        p, point, held = self.program, z.copy(), []
        activity = p.matrix @ z
        for k in which.tolist():
            f, own = self.networks.functions[k], self._outputs[k]
            y = self.networks.planes[k].evaluate(z[f.inputs])
            change = y - point[f.outputs]
            size = HANDLER.tolerance * np.maximum(1.0, abs(y))
            stays = (abs(change) > size) & ~own.free
            stays |= (y < p.lower[f.outputs] - 0.1 * size) | (
                y > p.upper[f.outputs] + 0.1 * size
            )
            if stays.any():
                held.append(k)
                continue
            new = activity[own.rows] + own.matrix @ change
            low, high = p.row_lower[own.rows], p.row_upper[own.rows]
            # Rows may be off by what SCIP lets them be; no more than that, and no further.
            room = HANDLER.row_off
            if ((new < low - room) | (new > high + room)).any():
                held.append(k)
                continue
            point[f.outputs] = y
            activity[own.rows] = new
        return np.array(held, dtype=int), point
