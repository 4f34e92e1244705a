"""Networks and instances of the build and solve benchmarks, as plain arrays.

An instance is an ``.npz`` file with weights ``w0, b0, w1, ...``, a box ``lower, upper``,
a ``cost`` on the outputs to be maximized, and optionally ``rows``, a matrix over the
outputs that must not exceed ``right``. Everything is random with a fixed seed, trained
with scikit-learn from a fixed seed, or read from ``../shared/data``.
"""

from __future__ import annotations

import os
import re
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

#: Random networks of solve.py: sizes, and how many.
RANDOM = (((2, 20, 20, 1), 10), ((5, 20, 20, 1), 10), ((10, 30, 30, 1), 5))
#: Hidden layers of the surrogates.
SURROGATES = ((10, 10), (25, 25), (50, 50), (50, 50, 50))
#: Radii of the boxes around images, and how many images.
IMAGES = ((0.02, 6), (0.05, 4))


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


def _reformer():
    """Layers, cost, row and right-hand side: H2 maximized with N2 at most 0.34."""
    table = np.genfromtxt(DATA / "reformer/reformer.csv", delimiter=",", names=True)
    columns = list(table.dtype.names)
    data = np.array([table[c] for c in columns]).T
    x, y = data[:, :2], data[:, 2:]
    low, high = x.min(axis=0), x.max(axis=0)
    mean, scale = y.mean(axis=0), y.std(axis=0) + 1e-12
    scaled = 2 * (x - low) / (high - low) - 1
    layers = _trained(0, scaled, (y - mean) / scale, (10, 10, 10, 10))
    h2, n2 = columns.index("H2") - 2, columns.index("N2") - 2
    row, cost = np.zeros(y.shape[1]), np.zeros(y.shape[1])
    row[n2] = cost[h2] = 1.0
    return layers, cost, row, (0.34 - mean[n2]) / scale[n2]


def _images(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first test images of MNIST in [0, 1], (count, 784), and their labels."""
    import gzip

    with gzip.open(DATA / "mnist/t10k-images.idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(16 + 784 * count), np.uint8, offset=16)
    with gzip.open(DATA / "mnist/t10k-labels.idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(8 + count), np.uint8, offset=8)
    return pixels.reshape(count, 784) / 255.0, labels.astype(int)


def _dense_of(path: Path, **options) -> list[tuple[np.ndarray, np.ndarray]]:
    """The layers of a file that holds a chain of dense layers with ReLU between."""
    from pyomo_relu import read_network
    from pyomo_relu.network import Affine

    network = read_network(path, **options)
    return [
        (
            np.asarray(
                n.weights[0].todense()
                if hasattr(n.weights[0], "todense")
                else n.weights[0],
                dtype=float,
            ),
            np.asarray(n.bias, dtype=float),
        )
        for n in network.nodes
        if isinstance(n, Affine)
    ]


def _against(n: int, target: int, true: int) -> np.ndarray:
    """The cost vector of one output minus another."""
    cost = np.zeros(n)
    cost[target], cost[true] = 1.0, -1.0
    return cost


def _runner_up(layers, image: np.ndarray, true: int) -> int:
    """The class with the largest output but the true one."""
    x = image
    for k, (w, b) in enumerate(layers):
        x = w @ x + b
        if k + 1 < len(layers):
            x = np.maximum(x, 0)
    x[true] = -np.inf
    return int(np.argmax(x))


def random_instances():
    """Random He networks, on [-1, 1]."""
    for sizes, count in RANDOM:
        for seed in range(count):
            yield (
                f"he-{'-'.join(map(str, sizes))}-s{seed}",
                lambda seed=seed, sizes=sizes: (
                    he_layers(seed, sizes),
                    -np.ones(sizes[0]),
                    np.ones(sizes[0]),
                    np.ones(1),
                ),
            )


def surrogate_instances():
    """Trained surrogates of three surfaces, and of the reformer."""
    box = -np.ones(2), np.ones(2)

    def surrogate(surface, hidden):
        x = np.random.default_rng(0).uniform(-1, 1, (2500, 2))
        return _trained(0, x, _surface(surface, x), hidden), *box, np.ones(1)

    def reformer():
        layers, cost, row, right = _reformer()
        return layers, *box, cost, row, right

    for hidden in SURROGATES:
        for surface in ("peaks", "ackley", "himmelblau"):
            name = f"{surface}-{len(hidden)}x{hidden[0]}"
            yield name, lambda a=surface, b=hidden: surrogate(a, b)
    if (DATA / "reformer/reformer.csv").exists():
        yield "reformer", reformer


def peer_instances():
    """Networks that come with other packages."""

    def peaks():
        layers = _dense_of(DATA / "relumip_peaks/peaks_3x10.h5")
        return layers, np.full(2, -3.0), np.full(2, 3.0), np.ones(1)

    def line():
        layers = _dense_of(DATA / "omlt_models/keras_linear_131_relu.keras")
        return layers, -np.ones(1), np.ones(1), np.ones(1)

    def gemm(eps):
        layers = _dense_of(DATA / "omlt_models/gemm.onnx", logits=True)
        return (layers, *(np.full(784, 0.5 + e) for e in (-eps, eps)), _against(10, 0, 8))

    def diabetes():
        from sklearn.datasets import load_diabetes

        x = load_diabetes().data
        layers = _dense_of(DATA / "gurobi_ml/diabetes.keras")
        return layers, x.min(axis=0), x.max(axis=0), np.ones(1)

    def attack(read, eps, scale=(0.0, 1.0)):
        images, labels = _images(1)
        (w, b), *rest = read()
        # The network's own normalization goes into its first layer.
        layers = [(w / scale[1], b - w.sum(axis=1) * scale[0] / scale[1]), *rest]
        target = _runner_up(layers, images[0], labels[0])
        low, high = (np.clip(images[0] + e, 0, 1) for e in (-eps, eps))
        return layers, low, high, _against(10, target, labels[0])

    def gamspy():
        import torch

        state = torch.load(DATA / "gamspy/ffn_data.pth", map_location="cpu")
        names = ("l1", "l2")
        return [
            tuple(state[f"{n}.{k}"].double().numpy() for k in ("weight", "bias"))
            for n in names
        ]

    def onnx():
        return _dense_of(DATA / "gurobi_ml/mnist_model.onnx")

    if not (DATA / "omlt_models").exists():
        return
    yield "relumip-peaks-3x10", peaks
    yield "omlt-line-131", line
    for eps in (0.005, 0.01):
        yield f"omlt-gemm-e{eps}", lambda eps=eps: gemm(eps)
    yield "gurobi-diabetes", diabetes
    yield "gurobi-mnist-r0.02", lambda: attack(onnx, 0.02)
    yield "gamspy-mnist-r0.05", lambda: attack(gamspy, 0.05, (0.1307, 0.3081))


def image_instances():
    """Boxes around MNIST images, the 784-50-50-10 network of Tsay et al."""
    path = DATA / "tsay_mnist_2x50/mnist_2x50.npz"
    if not path.exists():
        return

    def box(k, radius):
        d = np.load(path)
        layers = [(d[f"w{j}"].astype(float), d[f"b{j}"].astype(float)) for j in (1, 2, 3)]
        image = d["images"][k].astype(float)
        image = image / max(float(d["images"].max()), 1.0)
        true, target = (int(t) for t in d["labels"][k])
        low, high = (np.clip(image + e, 0, 1) for e in (-radius, radius))
        return layers, low, high, _against(10, target, true)

    for radius, count in IMAGES:
        for k in range(count):
            yield f"mnist-2x50-{k}-r{radius}", lambda a=k, b=radius: box(a, b)


def write_solve(folder: Path, pattern: str = "") -> list[str]:
    """Write the instances of solve.py that aren't there yet; return names, small first.

    ``pattern`` is a regular expression; what it doesn't match is left out.
    """
    names = []
    for family in (
        random_instances,
        surrogate_instances,
        peer_instances,
        image_instances,
    ):
        for name, make in family():
            if not re.search(pattern, name):
                continue
            names.append(name)
            path = folder / f"{name}.npz"
            if not path.exists():
                half = folder / f".{os.getpid()}.npz"
                save(half, *make())
                half.replace(path)  # another run may read it
    return sorted(names, key=lambda name: _size(folder / f"{name}.npz"))


def _size(path: Path) -> int:
    """Hidden neurons times inputs: the cheap instances come first."""
    with np.load(path) as data:
        biases = [data[k].size for k in data.files if k.startswith("b")]
        return sum(biases[:-1]) * data["lower"].size
