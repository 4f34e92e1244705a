"""`StepNetwork`: a network of step or sign neurons, and what is computed with it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyomo_relu.network import Network, NetworkBuilder, activations, archive
from pyomo_relu.network.archive import DamagedError
from pyomo_relu.network.limits import memory_limit
from pyomo_relu.network.storage import DAMAGE

FORMAT = "pyomo_relu.step_network"
VERSION = 1
ACTIVATIONS = ("step", "sign")
OUTPUTS = ("scores", "bits")


def activations_of(on: np.ndarray, activation: str) -> np.ndarray:
    """What neurons give that are on or off: 1 or 0, with 'sign' 1 or -1."""
    found = on.astype(float)
    return found if activation == "step" else 2.0 * found - 1.0


@dataclass(frozen=True)
class StepNetwork:
    """Layers ``a(W x + b)`` with ``a`` the step {0, 1} or the sign {-1, 1}.

    A neuron is on if and only if its pre-activation is at least 0, as in
    :func:`pyomo_relu.network.activations.step`.

    Attributes
    ----------
    weights : tuple of (n_out, n_in) arrays
    biases : tuple of (n_out,) arrays
    activation : {'step', 'sign'}
        What the hidden neurons do. The last layer's pre-activations are the scores.
    """

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    activation: str = "step"

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation must be 'step' or 'sign', not {self.activation!r}."
            )
        weights = tuple(np.array(w, dtype=float, ndmin=2) for w in self.weights)
        biases = tuple(np.array(b, dtype=float, ndmin=1) for b in self.biases)
        if not weights or len(weights) != len(biases):
            raise ValueError("a network needs one bias vector for each weight matrix.")
        for k, (w, b) in enumerate(zip(weights, biases)):
            if b.shape != (len(w),) or (k and w.shape[1] != len(weights[k - 1])):
                raise ValueError(
                    f"layer {k}: weights {w.shape} and bias {b.shape} don't fit."
                )
            if not (np.isfinite(w).all() and np.isfinite(b).all()):
                raise ValueError(f"layer {k} has weights that are not finite.")
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "biases", biases)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of inputs, of the neurons of each hidden layer, and of scores."""
        return (self.weights[0].shape[1], *(len(w) for w in self.weights))

    def pre_activations(self, x: Any) -> list[np.ndarray]:
        """The (N, n_out) pre-activations of every layer; the last are the scores."""
        values = np.asarray(x, dtype=float)
        found = []
        for w, b in zip(self.weights, self.biases):
            found.append(values @ w.T + b)
            values = self.activate(found[-1])
        return found

    def activate(self, pre: np.ndarray) -> np.ndarray:
        """The activation of every entry."""
        return activations_of(pre >= 0, self.activation)

    def patterns(self, x: Any) -> list[np.ndarray]:
        """For each hidden layer, the (N, n_out) bool array of the neurons that are on."""
        return [pre >= 0 for pre in self.pre_activations(x)[:-1]]

    def scores(self, x: Any) -> np.ndarray:
        """The (N, n_out) pre-activations of the last layer."""
        return self.pre_activations(x)[-1]

    def nonzeros(self) -> tuple[int, int]:
        """Weights that are not zero, and all weights; biases are not counted."""
        return (
            sum(int(np.count_nonzero(w)) for w in self.weights),
            sum(w.size for w in self.weights),
        )

    def neuron(self, layer: int, j: int) -> StepNetwork:
        """One neuron as a network of its own."""
        w, b = self.weights[layer], self.biases[layer]
        return StepNetwork((w[j : j + 1],), (b[j : j + 1],), self.activation)

    def to_network(self, outputs: str = "scores") -> Network:
        """Return it for :class:`~pyomo_relu.ReLUNetBlock`.

        Parameters
        ----------
        outputs : {'scores', 'bits'}
            The last pre-activations, or the step of them (1 where a score is >= 0).
        """
        if outputs not in OUTPUTS:
            raise ValueError(f"outputs must be 'scores' or 'bits', not {outputs!r}.")
        builder = NetworkBuilder()
        at = builder.input("input", (self.sizes[0],))
        pieces = getattr(activations, self.activation)
        last = len(self.weights) - 1
        for k, (w, b) in enumerate(zip(self.weights, self.biases)):
            name = "output" if k == last else f"hidden_{k + 1}"
            at = builder.affine(name, [(at, w)], b)
            if k < last:
                at = builder.piecewise(f"{name}_{self.activation}", at, pieces())
        if outputs == "bits":
            at = builder.piecewise("output_step", at, activations.step())
        return builder.build([at])

    def to_keras(self) -> Any:
        """Return a Keras model of float64 layers with the scores as its outputs.

        Steps are the registered layers of :mod:`pyomo_relu.training.keras_layers`, so
        that a saved model is read back once that module is imported.

        Raises
        ------
        ImportError
            If Keras is missing.
        """
        from pyomo_relu.steps.keras_layers import sequential

        return sequential(self)

    def describe(self) -> dict[str, np.ndarray]:
        """The arrays and the header that :meth:`save` writes."""
        header = {"format": FORMAT, "version": VERSION, "activation": self.activation}
        header["layers"] = len(self.weights)
        arrays = {"header": np.array(json.dumps(header))}
        for k, (w, b) in enumerate(zip(self.weights, self.biases)):
            arrays[f"w{k}"], arrays[f"b{k}"] = w, b
        return arrays

    def save(self, path: str | Path) -> None:
        """Write the network to an ``.npz`` file (arrays and JSON, no pickle)."""
        arrays: dict[str, Any] = self.describe()
        with open(path, "wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> StepNetwork:
        """Read a network that :meth:`save` wrote; ValueError for any other file."""
        return cls.from_arrays(read_arrays(path), path)

    @classmethod
    def from_arrays(cls, data: dict[str, np.ndarray], path: str | Path) -> StepNetwork:
        """The inverse of :meth:`describe`; ``path`` is named in errors."""
        try:
            header = json.loads(str(data["header"]))
            if header["format"] != FORMAT or header["version"] > VERSION:
                raise ValueError("format")
            layers = range(int(header["layers"]))
            return cls(
                tuple(data[f"w{k}"] for k in layers),
                tuple(data[f"b{k}"] for k in layers),
                header["activation"],
            )
        except (KeyError, TypeError, ValueError) as e:
            raise ValueError(
                f"'{path}' is no network of step neurons of this version; "
                "save it with clf.save(path)."
            ) from e


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """All arrays of an ``.npz`` file; nothing is unpickled."""
    try:
        with memory_limit(f"'{path}'"):
            return archive.read_arrays(path)
    except DamagedError as e:
        raise ValueError(f"'{path}' is not an .npz file, or it is damaged: {e}.") from e


@contextmanager
def restoring(path: str | Path, what: str) -> Iterator[None]:
    """What goes wrong while ``what`` is restored from a file is said of the file."""
    try:
        yield
    except (*DAMAGE, ValueError) as e:
        raise ValueError(f"'{path}' holds no {what}, or it is damaged: {e}") from e


def stack(networks: Sequence[StepNetwork]) -> StepNetwork:
    """One network with the scores of several networks of one depth, side by side.

    Hidden layers become block-diagonal; the inputs are shared.
    """
    from scipy.linalg import block_diag

    depths = {len(n.weights) for n in networks}
    kinds = {n.activation for n in networks}
    if len(depths) != 1 or len(kinds) != 1:
        raise ValueError("networks to stack must have one depth and one activation.")
    first, *later = zip(*(n.weights for n in networks))
    weights = (np.vstack(first), *(block_diag(*parts) for parts in later))
    biases = tuple(np.concatenate(parts) for parts in zip(*(n.biases for n in networks)))
    return StepNetwork(weights, biases, kinds.pop())
