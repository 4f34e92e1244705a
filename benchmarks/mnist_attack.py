"""A first adversarial image, and bounds that hold around an image; for `fischetti_jo`."""

from __future__ import annotations

import numpy as np

from pyomo_relu.bounds import Bounds, compute_bounds
from pyomo_relu.network import Affine, Network, NetworkBuilder, PiecewiseLinear
from pyomo_relu.network.gradient import value_and_gradient

#: How much more than every other the target must have.
FACTOR = 1.2


def _margin(y: np.ndarray, target: int) -> tuple[float, np.ndarray]:
    """How far the rule is violated (if negative), and its gradient in the outputs."""
    weights = np.zeros(len(y))
    weights[target] = 1.0
    others = np.delete(np.arange(len(y)), target)
    worst = others[np.argmax(y[others])]
    value = y[target]
    if y[worst] > 0:
        value -= FACTOR * y[worst]
        weights[worst] = -FACTOR
    return float(value), weights


def attack(network: Network, image: np.ndarray, target: int) -> np.ndarray | None:
    """The nearest image, in L1, of a few greedy walks that satisfies the rule."""
    best = None
    for step in (1.0, 0.5, 0.25, 0.1):
        x = image.copy()
        for _ in range(int(400 / step)):
            value, weights = _margin(network.evaluate(x), target)
            if value >= 0:
                break
            _, g = value_and_gradient(network, x[None], weights)
            # The pixel of the steepest slope that can still move in its direction.
            room = np.where(g[0] > 0, 1.0 - x, x)
            i = int(np.argmax(abs(g[0]) * (room > 1e-9)))
            if room[i] <= 1e-9 or g[0, i] == 0:
                break
            needed = 1.001 * -value / abs(g[0, i]) + 1e-6
            x[i] += np.sign(g[0, i]) * min(step, room[i], needed)
        else:
            continue
        if _margin(network.evaluate(x), target)[0] < 0:
            continue
        if best is None or abs(x - image).sum() < abs(best - image).sum():
            best = x
    return best


def from_images(
    network: Network, image: np.ndarray, target: int, others: np.ndarray, count: int = 30
) -> np.ndarray | None:
    """An image that satisfies the rule, from those that do: where a walk is stuck.

    Goes from each towards the image as far as the rule holds, then takes changes back,
    the smaller ones first, by halves.
    """
    y = network.evaluate(others)
    rest = np.delete(y, target, axis=1).max(axis=1)
    fits = np.flatnonzero((y[:, target] >= 0) & (y[:, target] >= FACTOR * rest))
    order = np.argsort(abs(others[fits] - image).sum(axis=1))
    best = None
    for k in fits[order[:count]]:
        good, bad = 1.0, 0.0
        for _ in range(12):
            t = 0.5 * (good + bad)
            holds = (
                _margin(network.evaluate(image + t * (others[k] - image)), target)[0] >= 0
            )
            good, bad = (t, bad) if holds else (good, t)
        x = image + good * (others[k] - image)
        changed = np.argsort(abs(x - image))
        changed = changed[abs(x - image)[changed] > 0]
        size = len(changed) // 2
        while size >= 1:
            for part in np.array_split(changed, max(1, len(changed) // size)):
                trial = x.copy()
                trial[part] = image[part]
                if _margin(network.evaluate(trial), target)[0] >= 0:
                    x = trial
            size //= 2
        if best is None or abs(x - image).sum() < abs(best - image).sum():
            best = x
    return best


def reach(w: np.ndarray, image: np.ndarray, radius: float) -> np.ndarray:
    """Largest ``w @ d`` with ``image + d`` in [0, 1] and ``|d|_1 <= radius``, by rows.

    The steepest pixels first, each as far as it can: a fractional knapsack.
    """
    room = np.where(w > 0, 1.0 - image, image)
    order = np.argsort(-abs(w), axis=1)
    room = np.take_along_axis(room, order, axis=1)
    slope = np.take_along_axis(abs(w), order, axis=1)
    used = np.minimum(np.cumsum(room, axis=1), radius)
    return (np.diff(used, axis=1, prepend=0.0) * slope).sum(axis=1)


def bounds_around(bounds: Bounds, image: np.ndarray, radius: float) -> Bounds:
    """Bounds that hold in the L1 ball around an image, from bounds over all images.

    The first layer exactly; the others by ``lp`` over the ranges of the first layer,
    intersected with what is known. They hold only with the constraint
    ``|x - image|_1 <= radius`` in the model.
    """
    network = bounds.network
    first = 1  # input, affine, activation, ...
    node = network.nodes[first]
    assert isinstance(node, Affine) and node.sources == (0,)
    w = np.asarray(node.weights[0].todense() if hasattr(node.weights[0], "todense")
                   else node.weights[0])  # fmt: skip
    centre = w @ image + node.bias
    slack = 1e-9 * (1.0 + abs(w).sum(axis=1))
    low = np.maximum(centre - reach(-w, image, radius) - slack, bounds.lower[first])
    high = np.minimum(centre + reach(w, image, radius) + slack, bounds.upper[first])
    builder = NetworkBuilder()
    made = {first: builder.input("first", (node.size,))}
    for i, n in enumerate(network.nodes[2:], start=2):
        if isinstance(n, PiecewiseLinear):
            pieces = (n.function, n.breakpoints, n.slopes, n.intercepts)
            made[i] = builder.piecewise(n.name, made[n.source], pieces)
        else:
            assert isinstance(n, Affine)
            made[i] = builder.affine(n.name, [(made[n.sources[0]], n.weights[0])], n.bias)
    rest = builder.build([made[len(network.nodes) - 1]], fuse=False)
    assert len(rest.nodes) == len(network.nodes) - 1
    found = compute_bounds(rest, low, high, "lp")
    local = Bounds(
        network,
        (bounds.lower[0], *found.lower),
        (bounds.upper[0], *found.upper),
        "lp around the image",
        found.seconds,
    )
    return local.intersect(bounds, "lp around the image")
