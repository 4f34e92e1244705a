"""`Bounds`: a lower and an upper bound for every entry of every node of a network."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.network import Affine, Network, PiecewiseLinear, Smooth
from pyomo_relu.network.archive import read_arrays
from pyomo_relu.network.limits import TooLargeError, memory_limit
from pyomo_relu.network.storage import DAMAGE


@dataclass(frozen=True, eq=False)
class Bounds:
    """Valid bounds of every node over one input box.

    Attributes
    ----------
    network : Network
    lower, upper : tuple of (size,) arrays
        One pair for each node of the network, in its order: for an input the box, for
        an affine node the pre-activation bounds of the neurons that read it.
    method : str
        The rung of the ladder that made them.
    seconds : float
        What it took, the rungs below included.
    scope : str
        ``"box"``: valid wherever the inputs are in the box. Anything else names the
        model whose constraints the bounds rely on.
    details : dict
        What the rung counted: solves, iterations, boxes; ``interrupted`` is True when
        Ctrl-C or a time limit ended it early.
    """

    network: Network
    lower: tuple[np.ndarray, ...]
    upper: tuple[np.ndarray, ...]
    method: str
    seconds: float = 0.0
    scope: str = "box"
    details: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for array in (*self.lower, *self.upper):
            array.setflags(write=False)

    # Nothing in it changes, so copies of a model share it.
    def __copy__(self) -> Bounds:
        return self

    def __deepcopy__(self, memo: dict) -> Bounds:
        return self

    @property
    def input_box(self) -> tuple[np.ndarray, np.ndarray]:
        """The (n_inputs,) bounds of the flat input vector."""
        return self._flat(self.network.inputs)

    @property
    def outputs(self) -> tuple[np.ndarray, np.ndarray]:
        """The (n_outputs,) bounds of the flat output vector."""
        return self._flat(self.network.outputs)

    def _flat(self, nodes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        low, high = (
            np.concatenate([side[i] for i in nodes]) for side in (self.lower, self.upper)
        )
        return low, high

    def stable(self, node: int) -> np.ndarray:
        """Which neurons of a piecewise-linear node stay on one piece, (size,) bool.

        A smooth unit does where its argument is one number.

        A pre-activation that only touches a breakpoint from the left counts as stable
        where the function is continuous there; from the right always, because a
        breakpoint belongs to the piece on its right.
        """
        phi = self.network.nodes[node]
        assert isinstance(phi, (PiecewiseLinear, Smooth))
        low, high = self.lower[phi.source], self.upper[phi.source]
        if isinstance(phi, Smooth):
            return np.asarray(low == high)
        inside = (low[:, None] < phi.breakpoints) & (phi.breakpoints < high[:, None])
        touched = (low[:, None] < phi.breakpoints) & (phi.breakpoints <= high[:, None])
        return ~(inside | (touched & (phi.jumps != 0))).any(axis=1)

    def intersect(self, other: Bounds, method: str | None = None) -> Bounds:
        """The tighter of two bounds, entry by entry; where they cross, this one's.

        Both must be of the same network; the result relies on both scopes.
        """
        lower, upper = [], []
        for a, b, c, d in zip(self.lower, other.lower, self.upper, other.upper):
            low, high = np.maximum(a, b), np.minimum(c, d)
            crossed = low > high
            lower.append(np.where(crossed, a, low))
            upper.append(np.where(crossed, c, high))
        scope = self.scope if self.scope != "box" else other.scope
        return Bounds(
            self.network,
            tuple(lower),
            tuple(upper),
            method or other.method,
            self.seconds + other.seconds,
            scope,
        )

    def contains(self, other: Bounds, tolerance: float = 0.0) -> bool:
        """Whether every interval of ``other`` lies in the one here."""
        return all(
            (a - tolerance <= b).all() and (d <= c + tolerance).all()
            for a, b, c, d in zip(self.lower, other.lower, self.upper, other.upper)
        )

    def renamed(
        self, method: str, seconds: float | None = None, **details: object
    ) -> Bounds:
        """The same bounds as the result of another rung."""
        seconds = self.seconds if seconds is None else seconds
        return replace(
            self, method=method, seconds=seconds, details={**self.details, **details}
        )

    def scoped(self, scope: str) -> Bounds:
        """The same bounds, valid for ``scope`` only."""
        return replace(self, scope=scope)

    def statistics(self) -> dict[str, float]:
        """Mean width of pre-activations and outputs, and the number of stable neurons.

        A smooth unit is none of these, unless its argument is one number.
        """
        widths, stable, total = [], 0, 0
        for i, node in enumerate(self.network.nodes):
            if isinstance(node, (PiecewiseLinear, Smooth)):
                s = self.stable(i)
                stable, total = stable + int(s.sum()), total + len(s)
                widths.append(self.upper[node.source] - self.lower[node.source])
        low, high = self.outputs
        return {
            "neurons": total,
            "stable": stable,
            "mean_width": float(np.concatenate(widths).mean()) if widths else 0.0,
            "output_width": float((high - low).mean()),
            "seconds": self.seconds,
        }

    def __repr__(self) -> str:
        s = self.statistics()
        scope = "" if self.scope == "box" else f", valid for {self.scope} only"
        return (
            f"<Bounds by {self.method}: {s['stable']} of {s['neurons']} neurons stable, "
            f"mean width {s['mean_width']:.4g}, {self.seconds:.3f} s{scope}>"
        )

    def check_covers(
        self,
        network: Network,
        lower: np.ndarray,
        upper: np.ndarray,
        what: str | Path = "the given bounds",
    ) -> None:
        """Raise a ValueError unless these bounds hold for the network over the box."""
        if network is not self.network and network.fingerprint != self.network.fingerprint:
            raise ValueError(f"{what} belong to another network; compute them anew.")
        low, high = self.input_box
        outside = np.flatnonzero((lower < low) | (upper > high))
        if outside.size:
            k = outside[0]
            names = self.network.input_names
            name = names[k] if names else f"input {k}"
            raise ValueError(
                f"{what} hold for {name} in [{low[k]:g}, {high[k]:g}] only; compute them "
                "anew for the wider box."
            )

    @property
    def fingerprint(self) -> str:
        """A digest of the network, the input box, the scope and every bound."""
        digest = hashlib.sha256(f"{self.network.fingerprint}|{self.scope}".encode())
        for array in (*self.lower, *self.upper):
            digest.update(f"|{array.shape}|".encode())
            digest.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
        return digest.hexdigest()[:32]

    def save(self, path: str | Path) -> None:
        """Write to ``.npz``, with the fingerprints of the network and of the bounds."""
        arrays: dict[str, Any] = {f"lower{i}": a for i, a in enumerate(self.lower)}
        arrays |= {f"upper{i}": a for i, a in enumerate(self.upper)}
        with open(path, "wb") as file:
            np.savez_compressed(
                file,
                fingerprint=np.array(self.network.fingerprint),
                own_fingerprint=np.array(self.fingerprint),
                method=np.array(self.method),
                scope=np.array(self.scope),
                seconds=np.array(self.seconds),
                **arrays,
            )

    @classmethod
    def load(
        cls,
        path: str | Path,
        network: Network,
        lower: ArrayLike | None = None,
        upper: ArrayLike | None = None,
    ) -> Bounds:
        """Read bounds that :meth:`save` wrote for this network.

        Parameters
        ----------
        path : str or Path
        network : Network
        lower, upper : (n_inputs,) array_like, optional
            The box they are wanted for; the saved one must contain it.

        Raises
        ------
        ValueError
            If the file is something else, was changed, or belongs to another network or box.
        """
        try:
            with memory_limit(f"'{path}'"):
                data = read_arrays(path)
            fingerprint = str(data["fingerprint"])
            # A file without it is of an older version of this package.
            own = str(data["own_fingerprint"]) if "own_fingerprint" in data else None
            n = sum(key.startswith("lower") for key in data)
            lows = tuple(data[f"lower{i}"] for i in range(n))
            highs = tuple(data[f"upper{i}"] for i in range(n))
            rest = str(data["method"]), float(data["seconds"]), str(data["scope"])
        except (FileNotFoundError, PermissionError, TooLargeError):
            raise
        except (*DAMAGE, ValueError) as e:
            raise ValueError(
                f"'{path}' doesn't hold saved bounds, or it is damaged."
            ) from e
        if fingerprint != network.fingerprint:
            raise ValueError(
                f"the bounds in '{path}' belong to another network; "
                "compute them anew for this one."
            )
        if own is None:
            raise ValueError(
                f"the bounds in '{path}' were saved by an older version, without a digest "
                "of their numbers; compute them anew and save them again."
            )
        found = cls(network, lows, highs, *rest)
        if found.fingerprint != own:
            raise ValueError(
                f"the bounds in '{path}' were changed after they were saved; "
                "compute them anew."
            )
        if lower is not None and upper is not None:
            found.check_covers(network, np.asarray(lower), np.asarray(upper), path)
        return found


def as_bounds(
    network: Network,
    lows: Sequence[np.ndarray],
    highs: Sequence[np.ndarray],
    method: str,
    clock: Deadline,
    start: Bounds | None = None,
    **details: object,
) -> Bounds:
    """What a rung returns: copies of (size,) or (1, size) arrays, and what it took.

    Parameters
    ----------
    clock : Deadline
        Begun with the rung.
    start : Bounds, optional
        What the rung started from: its seconds and its scope are inherited.
    """
    seconds = clock.elapsed + (0.0 if start is None else start.seconds)
    scope = "box" if start is None else start.scope
    low, high = (tuple(np.array(a.reshape(-1)) for a in side) for side in (lows, highs))
    return Bounds(network, low, high, method, seconds, scope, details)


def preactivation_nodes(network: Network) -> list[int]:
    """Affine nodes that a piecewise-linear or smooth node reads, in order."""
    units = (PiecewiseLinear, Smooth)
    found = {n.source for n in network.nodes if isinstance(n, units)}
    return sorted(i for i in found if isinstance(network.nodes[i], Affine))
