"""What :func:`~pyomo_relu.verification.verify` returns, and what its searches do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class SetVerdict:
    """What a search says about one unsafe set.

    Attributes
    ----------
    lower : float
        A bound below the set's margin over the region, the tolerances taken off; infinite
        where the set is excluded and no number is known besides.
    witness : (n_inputs,) array or None
        A point that the caller's check has confirmed.
    nodes : int
        Boxes, subproblems or nodes that were bounded.
    binaries : int
        How many binaries a mixed-integer program had.
    """

    lower: float = -np.inf
    witness: np.ndarray | None = None
    nodes: int = 0
    binaries: int = 0

    @property
    def proved(self) -> bool:
        """Whether no point of the region is in the set."""
        return self.lower > 0


@dataclass
class Verification:
    """What :func:`verify` found.

    Attributes
    ----------
    status : {'robust', 'counterexample', 'undecided'}
    counterexample : (n_inputs,) array or None
    outputs : (n_outputs,) array or None
        The network's at the counterexample.
    method : str
        What decided, or was tried last: one of the ``methods``, or ``alpha_crown`` for bounds
        with optimized slopes, with which ``neurons`` and ``mip`` begin; ``none`` where the
        time was up or no rung had anything to say.
    lower : (sets,) array
        A lower bound of the margin of each unsafe set; positive where it is proved
        unreachable, infinite where no number is known besides.
    upper : (sets,) array
        The least margin of each set at any point seen.
    names : tuple of str
        The names of the sets.
    seconds : float
    details : dict
        Counts of the rungs: ``boxes``, ``splits``, ``nodes``,
        ``binaries``; ``out_of_time``.
    """

    status: str
    counterexample: np.ndarray | None = None
    outputs: np.ndarray | None = None
    method: str = ""
    lower: np.ndarray = field(default_factory=lambda: np.zeros(0))
    upper: np.ndarray = field(default_factory=lambda: np.zeros(0))
    names: tuple[str, ...] = ()
    seconds: float = 0.0
    details: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        head = f"{self.status} (by {self.method}, {self.seconds:.2f} s)"
        if self.status != "undecided":
            return head
        lines = [
            f"  {self.names[k] or f'set {k}'}: margin in "
            f"[{self.lower[k]:.6g}, {self.upper[k]:.6g}]"
            for k in np.flatnonzero(~(self.lower > 0))
        ]
        return "\n".join([head, *lines])
