"""Networks and instances of the build and solve benchmarks, as plain arrays.

An instance is an ``.npz`` file with weights ``w0, b0, w1, ...``, a box ``lower, upper``,
a ``cost`` on the outputs to be maximized, and optionally ``rows``, a matrix over the
outputs that must not exceed ``right``. Everything is random with a fixed seed, trained
with scikit-learn from a fixed seed, or read from ``../shared/data``.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

DATA = Path(os.environ.get("PYOMO_RELU_DATA", Path(__file__).parents[2] / "shared/data"))

#: Dense networks of build.py by name.
DENSE = {
    "d10-50-50-1": (10, 50, 50, 1),
    "d10-100-100-100-1": (10, 100, 100, 100, 1),
    "d100-200-200-10": (100, 200, 200, 10),
    "d784-128-128-10": (784, 128, 128, 10),
    "d784-256-256-256-10": (784, 256, 256, 256, 10),
}
CONV = "c28-8k4s2-8k4s2-10"


def he_layers(seed: int, sizes) -> list[tuple[np.ndarray, np.ndarray]]:
    """He-normal weights and biases N(0, 0.1^2), rounded to float32."""
    rng = np.random.default_rng(seed)
    found = []
    for n, size in zip(sizes, sizes[1:]):
        w = (rng.standard_normal((size, n)) * np.sqrt(2.0 / n)).astype(np.float32)
        b = (0.1 * rng.standard_normal(size)).astype(np.float32)
        found.append((w.astype(float), b.astype(float)))
    return found


def conv_layers(seed: int):
    """Two 4 x 4 convolutions of 8 filters with stride 2 on 28 x 28, then 10 outputs."""
    rng = np.random.default_rng(seed)

    def draw(*shape, fan):
        return (rng.standard_normal(shape) * np.sqrt(2.0 / fan)).astype(np.float32)

    return (
        draw(8, 1, 4, 4, fan=16).astype(float),
        draw(8, 8, 4, 4, fan=128).astype(float),
        draw(10, 200, fan=200).astype(float),
    )


def save(path: Path, layers, lower, upper, cost, rows=None, right=None, **more) -> None:
    """Write one instance."""
    arrays = {}
    for k, (w, b) in enumerate(layers):
        arrays[f"w{k}"], arrays[f"b{k}"] = w, b
    if rows is not None:
        arrays["rows"], arrays["right"] = np.atleast_2d(rows), np.atleast_1d(right)
    np.savez(path, lower=lower, upper=upper, cost=cost, **arrays, **more)


def first_output(n: int) -> np.ndarray:
    """The cost vector that maximizes output 0."""
    cost = np.zeros(n)
    cost[0] = 1.0
    return cost


def write_build(folder: Path) -> list[str]:
    """Write the networks of build.py; return their names."""
    for name, sizes in DENSE.items():
        low = 0.0 if sizes[0] == 784 else -1.0
        box = np.full(sizes[0], low), np.ones(sizes[0])
        save(folder / f"{name}.npz", he_layers(0, sizes), *box, first_output(sizes[-1]))
    k1, k2, w = conv_layers(0)
    box = np.zeros(784), np.ones(784)
    save(folder / f"{CONV}.npz", [], *box, first_output(10), k1=k1, k2=k2, dense=w)
    return [*DENSE, CONV]


def _trained(seed: int, x, y, hidden) -> list[tuple[np.ndarray, np.ndarray]]:
    import warnings

    from sklearn.neural_network import MLPRegressor

    model = MLPRegressor(
        hidden_layer_sizes=hidden,
        random_state=seed,
        max_iter=400,
        learning_rate_init=5e-3,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(x, y)
    return [
        (w.T.astype(np.float32).astype(float), b.astype(np.float32).astype(float))
        for w, b in zip(model.coefs_, model.intercepts_)
    ]


def _surface(name: str, x: np.ndarray) -> np.ndarray:
    a, b = 3 * x[:, 0], 3 * x[:, 1]
    if name == "peaks":
        return (
            3 * (1 - a) ** 2 * np.exp(-(a**2) - (b + 1) ** 2)
            - 10 * (a / 5 - a**3 - b**5) * np.exp(-(a**2) - b**2)
            - np.exp(-((a + 1) ** 2) - b**2) / 3
        )
    if name == "ackley":
        return (
            20 * np.exp(-0.2 * np.sqrt((a**2 + b**2) / 2))
            + np.exp((np.cos(2 * np.pi * a) + np.cos(2 * np.pi * b)) / 2)
        ) - 10
    a, b = 5 / 3 * a, 5 / 3 * b
    return -((a**2 + b - 11) ** 2 + (a + b**2 - 7) ** 2) / 100  # Himmelblau


def write_solve(folder: Path, whole: bool) -> list[str]:
    """Write the instances of solve.py, all or a quick part; return their names."""
    names = []

    def add(name, *args, **kwds):
        save(folder / f"{name}.npz", *args, **kwds)
        names.append(name)

    for sizes, count in (
        ((2, 20, 20, 1), 10 if whole else 4),
        ((5, 20, 20, 1), 10 if whole else 3),
        ((10, 30, 30, 1), 5 if whole else 1),
    ):
        box = -np.ones(sizes[0]), np.ones(sizes[0])
        for seed in range(count):
            name = f"he-{'-'.join(map(str, sizes))}-s{seed}"
            add(name, he_layers(seed, sizes), *box, np.ones(1))
    x = np.random.default_rng(0).uniform(-1, 1, (2500, 2))
    box = -np.ones(2), np.ones(2)
    for surface in ("peaks", "ackley", "himmelblau"):
        for hidden in ((10, 10), (25, 25), (50, 50, 50))[: None if whole else 2]:
            shape = "x".join([str(len(hidden)), str(hidden[0])])
            layers = _trained(0, x, _surface(surface, x), hidden)
            add(f"{surface}-{shape}", layers, *box, np.ones(1))
    reformer = DATA / "reformer/reformer.csv"
    if reformer.exists():
        table = np.genfromtxt(reformer, delimiter=",", names=True)
        columns = list(table.dtype.names)
        data = np.array([table[c] for c in columns]).T
        x, y = data[:, :2], data[:, 2:]
        low, high = x.min(axis=0), x.max(axis=0)
        mean, scale = y.mean(axis=0), y.std(axis=0) + 1e-12
        hidden = (10, 10, 10, 10)
        scaled = 2 * (x - low) / (high - low) - 1
        layers = _trained(0, scaled, (y - mean) / scale, hidden)
        h2, n2 = columns.index("H2") - 2, columns.index("N2") - 2
        row = np.zeros(y.shape[1])
        row[n2] = 1.0
        right = (0.34 - mean[n2]) / scale[n2]
        cost = np.zeros(y.shape[1])
        cost[h2] = 1.0
        add("reformer", layers, *box, cost, rows=row, right=right)
    mnist = DATA / "tsay_mnist_2x50/mnist_2x50.npz"
    if mnist.exists():
        d = np.load(mnist)
        layers = [(d[f"w{k}"].astype(float), d[f"b{k}"].astype(float)) for k in (1, 2, 3)]
        images = d["images"].astype(float)
        images = images / max(images.max(), 1.0)
        for k in range(10 if whole else 3):
            for radius in (0.02, 0.05):
                true, target = (int(t) for t in d["labels"][k])
                cost = np.zeros(10)
                cost[target], cost[true] = 1.0, -1.0
                image = images[k]
                low, high = np.clip(image - radius, 0, 1), np.clip(image + radius, 0, 1)
                add(f"mnist-2x50-{k}-r{radius}", layers, low, high, cost)
    return names
