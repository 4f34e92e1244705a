"""Regions of inputs: a box, or a ball around a point within a box."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pyomo_relu.heuristics.gradient_paths import box_samples


class Region:
    """A bounded set of inputs with a box around it.

    Attributes
    ----------
    lower, upper : (n_inputs,) arrays
        The box around the region.
    """

    def __init__(self, lower: np.ndarray, upper: np.ndarray) -> None:
        self.lower, self.upper = lower, upper
        for array in (lower, upper):
            if not np.isfinite(array).all():
                raise ValueError("a region needs finite bounds for every input.")
            array.setflags(write=False)
        bad = np.flatnonzero(lower > upper)
        if bad.size:
            k = bad[0]
            raise ValueError(f"input {k} has inverted bounds ({lower[k]}, {upper[k]}).")

    @property
    def size(self) -> int:
        """Number of inputs."""
        return len(self.lower)

    @property
    def free(self) -> int:
        """Number of inputs that are not fixed."""
        return int((self.upper > self.lower).sum())

    def project(self, points: np.ndarray) -> np.ndarray:
        """Points (N, n_inputs) moved into the region."""
        return np.clip(points, self.lower, self.upper)

    def contains(self, x: np.ndarray) -> bool:
        """Whether a point (n_inputs,) is in the region, without a tolerance."""
        return bool(((self.lower <= x) & (x <= self.upper)).all())

    def samples(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Points of the region: the centre, corners, and between, (n, n_inputs)."""
        return self.project(box_samples(self.lower, self.upper, n, rng))


class Box(Region):
    """All points between ``lower`` and ``upper``.

    Parameters
    ----------
    lower, upper : (n_inputs,) array_like
    """

    def __init__(self, lower: ArrayLike, upper: ArrayLike) -> None:
        low, high = (np.array(a, dtype=float).reshape(-1) for a in (lower, upper))
        if len(low) != len(high):
            raise ValueError(f"{len(low)} lower and {len(high)} upper bounds were given.")
        super().__init__(low, high)


class Ball(Region):
    """All points within ``radius`` of ``center``, and within a box.

    Parameters
    ----------
    center : (n_inputs,) array_like
    radius : float
    norm : {'linf', 'l1'}
    lower, upper : float or (n_inputs,) array_like
        The box besides, 0 and 1 for pictures; none if left out.
    """

    def __init__(
        self,
        center: ArrayLike,
        radius: float,
        norm: str = "linf",
        lower: ArrayLike = -np.inf,
        upper: ArrayLike = np.inf,
    ) -> None:
        if norm not in ("linf", "l1"):
            raise ValueError(f"there is no norm '{norm}' here; choose 'linf' or 'l1'.")
        if not radius >= 0:
            raise ValueError(f"a radius must not be negative, but is {radius}.")
        self.center = np.array(center, dtype=float).reshape(-1)
        self.radius, self.norm = float(radius), norm
        low = np.broadcast_to(np.asarray(lower, float).reshape(-1), self.center.shape)
        high = np.broadcast_to(np.asarray(upper, float).reshape(-1), self.center.shape)
        if (self.center < low).any() or (self.center > high).any():
            raise ValueError("the centre of the ball is outside of its box.")
        super().__init__(
            np.maximum(self.center - radius, low), np.minimum(self.center + radius, high)
        )

    def project(self, points: np.ndarray) -> np.ndarray:
        inside = np.clip(points, self.lower, self.upper)
        if self.norm == "linf":
            return inside
        d = inside - self.center
        size = abs(d).sum(axis=1)
        far = size > self.radius
        if far.any():
            d[far] = _onto_l1(d[far], self.radius * (1.0 - 1e-12))
        return np.clip(self.center + d, self.lower, self.upper)

    def contains(self, x: np.ndarray) -> bool:
        if not super().contains(x):
            return False
        return self.norm == "linf" or bool(abs(x - self.center).sum() <= self.radius)


def _onto_l1(d: np.ndarray, radius: float) -> np.ndarray:
    """The nearest points of the L1 ball (Duchi et al., ICML 2008)."""
    size = np.sort(abs(d), axis=1)[:, ::-1]
    cumulated = np.cumsum(size, axis=1) - radius
    k = np.arange(1, d.shape[1] + 1)
    last = np.maximum((size * k > cumulated).sum(axis=1), 1)
    shift = cumulated[np.arange(len(d)), last - 1] / last
    return np.sign(d) * np.maximum(abs(d) - shift[:, None], 0.0)


def as_region(region: Any, n_inputs: int) -> Region:
    """A region from what the user gave: a region, or ``(lower, upper)``."""
    if not isinstance(region, Region):
        try:
            lower, upper = region
        except (TypeError, ValueError):
            raise ValueError(
                "a region is a Box, a Ball or a pair (lower, upper) of arrays."
            ) from None
        region = Box(
            *(
                np.broadcast_to(np.ravel(a), (n_inputs,)) if np.size(a) == 1 else a
                for a in (lower, upper)
            )
        )
    if region.size != n_inputs:
        raise ValueError(
            f"the region has {region.size} inputs, but the network has {n_inputs}."
        )
    return region
