r"""What is verified: sets of outputs that no input of a region may reach.

A :class:`Property` is a union of polyhedra of unsafe outputs,

.. math:: \{y : A y + C x \le b\},

and a network is robust where its outputs are in none of them. The *margin* of a point
is the largest entry of ``A y + C x - b``: the point is unsafe where it is not positive.
Matrices ``C`` for the inputs are there for properties that relate outputs to inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True, eq=False)
class Unsafe:
    """One polyhedron ``outputs @ y + inputs @ x <= limit`` of unsafe points.

    Attributes
    ----------
    outputs : (k, n_outputs) array
    limit : (k,) array
    inputs : (k, n_inputs) array or None
        None where only outputs matter.
    strict : bool
        Whether the border is safe; otherwise a point on it is a counterexample.
    name : str
        What a report calls it.
    """

    outputs: np.ndarray
    limit: np.ndarray
    inputs: np.ndarray | None = None
    strict: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        rows = np.atleast_2d(np.array(self.outputs, dtype=float))
        limit = np.array(self.limit, dtype=float).reshape(-1)
        if rows.ndim != 2 or len(rows) != len(limit):
            raise ValueError(
                f"a property needs one limit for each row, but has {len(rows)} rows and "
                f"{len(limit)} limits."
            )
        object.__setattr__(self, "outputs", rows)
        object.__setattr__(self, "limit", limit)
        if self.inputs is not None:
            inputs = np.atleast_2d(np.array(self.inputs, dtype=float))
            if len(inputs) != len(rows):
                raise ValueError("a property needs as many rows for inputs as for outputs.")
            object.__setattr__(self, "inputs", inputs)
        for array in (rows, limit, self.inputs):
            if array is not None and not np.isfinite(array).all():
                raise ValueError("the numbers of a property must be finite.")

    def margin(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The largest entry of ``A y + C x - b`` for points (N, n) and outputs (N, m)."""
        rows = y @ self.outputs.T - self.limit
        if self.inputs is not None:
            rows = rows + x @ self.inputs.T
        return rows.max(axis=1, initial=-np.inf)

    def holds(self, margin: ArrayLike) -> np.ndarray:
        """Whether points with these margins are in the set."""
        return np.asarray(margin) < 0 if self.strict else np.asarray(margin) <= 0

    def excluded(self, bound: float) -> bool:
        """Whether a lower bound of the margin proves that no point is in the set."""
        return bound >= 0 if self.strict else bound > 0


@dataclass(frozen=True, eq=False)
class Property:
    """A union of unsafe sets; no point of the region may be in any of them.

    Attributes
    ----------
    unsafe : tuple of Unsafe
    """

    unsafe: tuple[Unsafe, ...] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        object.__setattr__(self, "unsafe", tuple(self.unsafe))
        widths = {u.outputs.shape[1] for u in self.unsafe}
        if len(widths) > 1:
            raise ValueError(
                f"the unsafe sets of a property have rows for {sorted(widths)} outputs; "
                "they must agree."
            )

    def __or__(self, other: Property) -> Property:
        """Violated where either is."""
        return Property(self.unsafe + other.unsafe)

    def check(self, n_inputs: int, n_outputs: int) -> None:
        """Raise a ValueError unless the rows fit the network."""
        for u in self.unsafe:
            if u.outputs.shape[1] != n_outputs:
                raise ValueError(
                    f"the property has rows for {u.outputs.shape[1]} outputs, but the "
                    f"network has {n_outputs}."
                )
            if u.inputs is not None and u.inputs.shape[1] != n_inputs:
                raise ValueError(
                    f"the property has rows for {u.inputs.shape[1]} inputs, but the "
                    f"network has {n_inputs}."
                )

    def margins(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Margins (N, number of sets) of points (N, n) and outputs (N, m)."""
        return np.stack([u.margin(x, y) for u in self.unsafe], axis=1)

    def violated(self, x: np.ndarray, y: np.ndarray) -> bool:
        """Whether one point (n,) with outputs (m,) is in an unsafe set."""
        found = self.margins(x[None], y[None])[0] if self.unsafe else []
        return any(bool(u.holds(v)) for u, v in zip(self.unsafe, found))


def never(A: ArrayLike, b: ArrayLike, *, name: str = "") -> Property:
    """No input may give outputs with ``A y <= b`` (all rows at once).

    Parameters
    ----------
    A : (k, n_outputs) array_like
    b : (k,) array_like
    name : str
        What a report calls it.
    """
    return Property((Unsafe(np.asarray(A, float), np.asarray(b, float), name=name),))


def always(A: ArrayLike, b: ArrayLike) -> Property:
    """Every input must give outputs with ``A y <= b`` (each row).

    Each row is a set of its own that is unsafe where ``A_i y > b_i``; a point with
    equality is safe.

    Parameters
    ----------
    A : (k, n_outputs) array_like
    b : (k,) array_like
    """
    rows = np.atleast_2d(np.asarray(A, dtype=float))
    limits = np.asarray(b, dtype=float).reshape(-1)
    if len(rows) != len(limits):
        raise ValueError(
            f"a property needs one limit for each row, but has {len(rows)} rows and "
            f"{len(limits)} limits."
        )
    return Property(
        tuple(
            Unsafe(-row[None], np.array([-limit]), strict=True, name=f"row {i}")
            for i, (row, limit) in enumerate(zip(rows, limits))
        )
    )


def output_bounds(lower: Sequence[float], upper: Sequence[float]) -> Property:
    """Every output must stay within its bounds; infinite ones are left out.

    Parameters
    ----------
    lower, upper : (n_outputs,) array_like
    """
    low, high = (np.asarray(a, dtype=float).reshape(-1) for a in (lower, upper))
    if len(low) != len(high):
        raise ValueError(f"{len(low)} lower and {len(high)} upper bounds were given.")
    eye = np.eye(len(low))
    rows = np.concatenate([eye[np.isfinite(high)], -eye[np.isfinite(low)]])
    limits = np.concatenate([high[np.isfinite(high)], -low[np.isfinite(low)]])
    return always(rows, limits) if len(rows) else Property(())


def robust_classification(label: int, n_outputs: int, margin: float = 0.0) -> Property:
    """Output ``label`` must be larger than every other by more than ``margin``.

    As in the verification competition a tie is a counterexample.

    Parameters
    ----------
    label : int
    n_outputs : int
    margin : float
    """
    if not 0 <= label < n_outputs:
        raise ValueError(f"label {label} is not an output; the network has {n_outputs}.")
    sets = []
    for k in range(n_outputs):
        if k != label:
            row = np.zeros((1, n_outputs))
            row[0, label], row[0, k] = 1.0, -1.0
            sets.append(Unsafe(row, np.array([margin]), name=f"class {k}"))
    return Property(tuple(sets))
