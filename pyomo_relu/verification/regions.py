"""Regions of inputs: a box, or a ball around a point within a box."""

from __future__ import annotations

import numpy as np


class Region:
    """A bounded set of inputs with a box around it.

    Attributes
    ----------
    lower, upper : (n_inputs,) arrays
        The box around the region.
    """

    lower: np.ndarray
    upper: np.ndarray

    @property
    def size(self) -> int:
        """Number of inputs."""
        return len(self.lower)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Points (N, n_inputs) moved into the region."""
        return np.clip(points, self.lower, self.upper)

    def contains(self, x: np.ndarray) -> bool:
        """Whether a point (n_inputs,) is in the region, without a tolerance."""
        return bool(((self.lower <= x) & (x <= self.upper)).all())

    def samples(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Points of the region: the centre, corners, and between, (n, n_inputs)."""
        u = rng.random((n, self.size))
        corners = np.arange(n) % 3 == 1
        u[corners] = np.round(u[corners])
        u[:1] = 0.5
        return self.project(self.lower + u * (self.upper - self.lower))

    def _check(self) -> None:
        for array in (self.lower, self.upper):
            if not np.isfinite(array).all():
                raise ValueError("a region needs finite bounds for every input.")
            array.setflags(write=False)
        bad = np.flatnonzero(self.lower > self.upper)
        if bad.size:
            k = bad[0]
            raise ValueError(
                f"input {k} has inverted bounds ({self.lower[k]}, {self.upper[k]})."
            )


class Box(Region):
    """All points between ``lower`` and ``upper``.

    Parameters
    ----------
    lower, upper : (n_inputs,) array_like
    """

    def __init__(self, lower, upper) -> None:
        self.lower = np.array(lower, dtype=float).reshape(-1)
        self.upper = np.array(upper, dtype=float).reshape(-1)
        if len(self.lower) != len(self.upper):
            raise ValueError(
                f"{len(self.lower)} lower and {len(self.upper)} upper bounds were given."
            )
        self._check()


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
        self, center, radius: float, norm: str = "linf", lower=-np.inf, upper=np.inf
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
        self.lower = np.maximum(self.center - radius, low)
        self.upper = np.minimum(self.center + radius, high)
        self._check()

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
    last = (size * k > cumulated).sum(axis=1)
    last = np.maximum(last, 1)
    shift = cumulated[np.arange(len(d)), last - 1] / last
    return np.sign(d) * np.maximum(abs(d) - shift[:, None], 0.0)


def as_region(region, n_inputs: int) -> Region:
    """A region from what the user gave: a region, or ``(lower, upper)``."""
    if not isinstance(region, Region):
        try:
            lower, upper = region
        except (TypeError, ValueError):
            raise ValueError(
                "a region is a Box, a Ball or a pair (lower, upper) of arrays."
            ) from None
        low, high = (
            np.broadcast_to(np.asarray(a, float).reshape(-1), (n_inputs,))
            if np.size(a) == 1
            else a
            for a in (lower, upper)
        )
        region = Box(low, high)
    if region.size != n_inputs:
        raise ValueError(
            f"the region has {region.size} inputs, but the network has {n_inputs}."
        )
    return region
