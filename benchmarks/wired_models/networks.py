"""The networks of the wired models: how they were trained, and their stored weights.

Each network stands for a function that a model can't take as it is. It is trained once
with scikit-learn on points of that function, inputs and outputs standardized, and the
scaling is folded into the weights. The weights are stored, so that a model is the same
on every machine; ``python -m wired_models KEY...``, run in ``benchmarks/``, trains anew and
says how well, ``--store`` keeps what it trained. The models of ``nonlinear_models`` have
theirs beside these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np

from pyomo_relu import Network, NetworkBuilder, activations

DATA = Path(__file__).resolve().parent / "data"

#: Seed of the training of every stored network.
SEED = 0

Layers = list[tuple[np.ndarray, np.ndarray]]


def dense(layers: Layers) -> Network:
    """A network of dense ReLU layers, the last one linear; weights are (n_in, n_out)."""
    b = NetworkBuilder()
    last = b.input("x", (layers[0][0].shape[0],))
    for k, (w, c) in enumerate(layers):
        last = b.affine(f"dense_{k}", [(last, w.T)], c)
        if k + 1 < len(layers):
            last = b.piecewise(f"relu_{k}", last, activations.relu())
    return b.build([last])


@cache
def stored(file: str, key: str) -> Network:
    """A network of ``data/FILE.npz``; the same object for all who ask."""
    with np.load(DATA / f"{file}.npz") as arrays:
        found: Layers = []
        while f"{key}|W{len(found)}" in arrays:
            parts = (arrays[f"{key}|{part}{len(found)}"] for part in "Wb")
            w, c = (part.astype(np.float64) for part in parts)
            found.append((w, c))
    if not found:
        raise ValueError(f"data/{file}.npz has no network '{key}'.")
    return dense(found)


@dataclass(frozen=True)
class Surrogate:
    """A network trained on points of a function.

    Attributes
    ----------
    key : str
        Its name in the file of stored weights.
    truth : callable
        (N, n_inputs) points to (N,) or (N, n_outputs) values.
    lower, upper : sequence of float
        The box that points are drawn from.
    hidden : tuple of int
        Sizes of the hidden layers.
    points, iterations : int
        Training points, and epochs at the most.
    sample : callable, optional
        Draws points in place of the uniform distribution: (generator, N) to (N, n_inputs).
    file : str
        ``data/FILE.npz`` has its weights.
    """

    key: str
    truth: Callable[[np.ndarray], np.ndarray]
    lower: Sequence[float]
    upper: Sequence[float]
    hidden: tuple[int, ...]
    points: int = 3000
    iterations: int = 120
    sample: Callable[[np.random.Generator, int], np.ndarray] | None = None
    file: str = "surrogates"

    @cached_property
    def network(self) -> Network:
        """The stored network."""
        return stored(self.file, self.key)

    def train(self) -> tuple[Layers, float]:
        """Train it anew; the layers and the coefficient of determination."""
        from sklearn.neural_network import MLPRegressor

        rng = np.random.default_rng(1000 + SEED)
        if self.sample is None:
            low, high = (np.asarray(side, dtype=float) for side in (self.lower, self.upper))
            x = rng.uniform(low, high, size=(self.points, len(low)))
        else:
            x = self.sample(rng, self.points)
        y = np.asarray(self.truth(x), dtype=float).reshape(len(x), -1)
        x_mean, x_scale = x.mean(axis=0), x.std(axis=0) + 1e-9
        y_mean, y_scale = y.mean(axis=0), y.std(axis=0) + 1e-9
        inputs, targets = (x - x_mean) / x_scale, (y - y_mean) / y_scale
        targets = targets.ravel() if targets.shape[1] == 1 else targets
        model = MLPRegressor(
            hidden_layer_sizes=self.hidden,
            max_iter=self.iterations,
            random_state=SEED,
            tol=1e-6,
            alpha=1e-4,
            n_iter_no_change=12,
            learning_rate_init=3e-3,
            batch_size=128,
        ).fit(inputs, targets)
        weights, biases = list(model.coefs_), list(model.intercepts_)
        weights[0] = weights[0] / x_scale[:, None]
        biases[0] = biases[0] - x_mean @ weights[0]
        weights[-1] = weights[-1] * y_scale
        biases[-1] = biases[-1] * y_scale + y_mean
        return list(zip(weights, biases)), float(model.score(inputs, targets))
