"""Random networks that reach every corner of the three primitives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

from pyomo_relu.network import Network, NetworkBuilder, activations
from pyomo_relu.network.activations import Pieces
from pyomo_relu.network.smooth_functions import SMOOTH_FUNCTIONS

#: Activations without and with steps, as :func:`random_pieces` knows them.
CONTINUOUS = (
    "relu",
    "leaky_relu",
    "prelu",
    "clipped_relu",
    "relu6",
    "hard_sigmoid",
    "hard_tanh",
    "clip",
    "abs",
    "pwl",
)
STEPS = ("step", "sign", "threshold_relu", "pwl_jump")
ALL_ACTIVATIONS = CONTINUOUS + STEPS
#: Continuous ones of 13 to 40 pieces, which bounds look at in a way of their own.
MANY_PIECES = ("pwl_many",)
#: Smooth ones; ``exp`` overflows behind large weights, and squares of squares grow: they are
#: tested where products are.
SMOOTH = tuple(n for n in SMOOTH_FUNCTIONS if n not in ("exp", "square", "bounded_square"))

#: What a row of weights is multiplied by, see :func:`random_network`.
MAGNITUDES = ("plain", "tiny", "huge", "mixed")


def he_network(seed: int, sizes: Sequence[int]) -> Network:
    """A dense ReLU network with He-normal weights, rounded to float32.

    Parameters
    ----------
    seed : int
        Of ``numpy.random.default_rng``.
    sizes : sequence of int
        Numbers of inputs, of neurons of each hidden layer, and of outputs.
    """
    rng = np.random.default_rng(seed)
    builder = NetworkBuilder()
    last = builder.input("x", (sizes[0],))
    for k, (n, size) in enumerate(zip(sizes, sizes[1:]), start=1):
        w = (rng.standard_normal((size, n)) * np.sqrt(2.0 / n)).astype(np.float32)
        b = (0.1 * rng.standard_normal(size)).astype(np.float32)
        last = builder.affine(f"dense_{k}", [(last, w)], b)
        if k < len(sizes) - 1:
            last = builder.piecewise(f"relu_{k}", last, activations.relu())
    return builder.build([last])


def random_pieces(rng: np.random.Generator, name: str, size: int) -> Pieces:
    """Breakpoints, slopes and intercepts of an activation, random where it has some."""
    if name == "prelu":
        return activations.leaky_relu(_rounded(rng.uniform(-0.5, 0.9, size)))
    if name == "clipped_relu":
        return activations.relu(max_value=_rounded(rng.uniform(0.2, 2.0)))
    if name == "clip":
        low = _rounded(rng.uniform(-1.0, 0.5, size))
        return activations.clip(low, low + _rounded(rng.uniform(0.1, 2.0, size)))
    if name == "threshold_relu":
        return activations.relu(threshold=_rounded(rng.uniform(0.1, 0.8)))
    if name in ("pwl", "pwl_jump", *MANY_PIECES):
        return _general(rng, name, size)
    return activations.ACTIVATIONS[name]()


def _general(rng: np.random.Generator, name: str, size: int) -> Pieces:
    """A function of its own for each neuron, with 2 to 4 breakpoints, or with many."""
    k = int(rng.integers(12, 40) if name in MANY_PIECES else rng.integers(2, 5))
    step = 3.0 / k if name in MANY_PIECES else 1.0
    t = np.cumsum(_rounded(rng.uniform(0.1, 0.8, (size, k)) * step), axis=1) - 1.0
    a = _rounded(rng.normal(0.0, 1.0, (size, k + 1)))
    a[rng.random(a.shape) < 0.2] = 0.0
    c = np.empty((size, k + 1))
    c[:, 0] = _rounded(rng.normal(0.0, 0.5, size))
    for p in range(k):
        c[:, p + 1] = c[:, p] + (a[:, p] - a[:, p + 1]) * t[:, p]
    if name == "pwl_jump":
        heights = _rounded(rng.normal(0.0, 1.0, (size, k)))
        heights[rng.random((size, k)) < 0.3] = 0.0  # continuous at some breakpoints
        c[:, 1:] += np.cumsum(heights, axis=1)
    return name, t, a, c


def _rounded(values) -> np.ndarray:
    """As float32 weights read from a file are: float64 numbers with short mantissas."""
    return np.asarray(values, dtype=np.float32).astype(np.float64)


def random_weights(
    rng: np.random.Generator,
    size: int,
    n: int,
    *,
    scale: float = 1.0,
    density: float = 1.0,
    magnitude: str = "plain",
) -> np.ndarray | sp.csr_array:
    """A (size, n) matrix; a SciPy one when ``density`` is below 1."""
    w = rng.standard_normal((size, n)) * (scale * np.sqrt(2.0 / max(n, 1)))
    factors = {
        "plain": np.ones(size),
        "tiny": np.full(size, 1e-4),
        "huge": np.where(rng.random(size) < 0.5, 1e4, 1.0),
        "mixed": 10.0 ** rng.uniform(-4, 4, size),
    }
    w = _rounded(w * factors[magnitude][:, None])
    if density < 1.0:
        return sp.csr_array(np.where(rng.random(w.shape) < density, w, 0.0))
    return w


def _split(total: int, parts: int) -> list[int]:
    return [len(a) for a in np.array_split(np.arange(total), min(parts, total))]


def random_network(
    rng: np.random.Generator,
    *,
    n_inputs: int = 2,
    widths: Sequence[int] = (5, 5),
    n_outputs: int = 1,
    activations: Sequence[str] = ("relu",),
    residual: bool = False,
    max_pool: bool = False,
    concatenate: bool = False,
    density: float = 1.0,
    scale: float = 1.0,
    magnitude: str = "plain",
    zero_rows: int = 0,
    dead: int = 0,
    stable: int = 0,
    input_layers: int = 1,
    output_layers: int = 1,
    output_activation: str | None = None,
    fuse: bool = True,
) -> Network:
    """A random network; weights are rounded to float32.

    Parameters
    ----------
    rng : numpy.random.Generator
    n_inputs, n_outputs : int
        Sizes of the flat input and output vector.
    widths : sequence of int
        Neurons of each hidden layer; may be empty for an affine network.
    activations : sequence of str
        From :data:`ALL_ACTIVATIONS` or :data:`SMOOTH`; one for each hidden layer, cycled.
    residual : bool
        Add what a layer read to what it made, through a projection if sizes differ.
    max_pool : bool
        Follow each hidden layer by a maximum over overlapping groups of 1 to 3.
    concatenate : bool
        Let the last layer read the inputs next to the last hidden layer.
    density : float
        Share of non-zero weights; below 1 the matrices are sparse.
    scale : float
        Factor on He-normal weights.
    magnitude : {'plain', 'tiny', 'huge', 'mixed'}
        Of the first layer's rows: 1, 1e-4, some 1e4, or anything between.
    zero_rows : int
        Neurons of each layer without any non-zero weight.
    dead, stable : int
        Neurons of each layer with a bias that keeps them negative, or positive.
    input_layers, output_layers : int
        Over how many nodes the flat vectors are spread.
    output_activation : str, optional
        An activation on the outputs.
    fuse : bool
        As in :meth:`NetworkBuilder.build`.
    """
    b = NetworkBuilder()
    inputs = [
        b.input(f"x{i}" if input_layers > 1 else "x", (size,))
        for i, size in enumerate(_split(n_inputs, input_layers))
    ]
    sources = inputs
    for k, width in enumerate(widths, start=1):
        terms = []
        for s in sources:
            w = random_weights(
                rng,
                width,
                b.nodes[s].size,
                scale=scale,
                density=density,
                magnitude=magnitude if k == 1 else "plain",
            )
            terms.append((s, w))
        bias = _rounded(0.3 * rng.standard_normal(width))
        order = rng.permutation(width)
        if zero_rows:
            keep = np.ones(width)
            keep[order[:zero_rows]] = 0.0
            terms = [(s, sp.csr_array(sp.diags_array(keep) @ w)) for s, w in terms]
            if density == 1.0:
                terms = [(s, w.toarray()) for s, w in terms]
        reach = 1.0 + sum(np.asarray(abs(w).sum(axis=1)).reshape(-1) for _, w in terms)
        fixed = order[zero_rows:]
        bias[fixed[:dead]] = -_rounded(5.0 * reach[fixed[:dead]])
        bias[fixed[dead : dead + stable]] = _rounded(
            5.0 * reach[fixed[dead : dead + stable]]
        )
        before = b.affine(f"dense_{k}", terms, bias)
        name = activations[(k - 1) % len(activations)]
        last = _activation(b, rng, f"{name}_{k}", before, name)
        if max_pool:
            groups = [
                rng.choice(width, size=min(width, int(rng.integers(1, 4))), replace=False)
                for _ in range(max(1, width // 2))
            ]
            last = b.max(f"max_{k}", last, groups)
        if residual:
            last = _add_residual(b, rng, k, last, sources)
        sources = [last]
    if concatenate and sources != inputs:
        sources = [_concatenate(b, [*inputs, *sources])]
    outputs = []
    for j, size in enumerate(_split(n_outputs, output_layers)):
        terms = [
            (s, random_weights(rng, size, b.nodes[s].size, scale=scale)) for s in sources
        ]
        bias = _rounded(0.3 * rng.standard_normal(size))
        out = b.affine(f"out_{j + 1}", terms, bias)
        if output_activation is not None:
            name = f"{output_activation}_out_{j + 1}"
            out = _activation(b, rng, name, out, output_activation)
        outputs.append(out)
    return b.build(outputs, fuse=fuse)


def _activation(
    b: NetworkBuilder, rng: np.random.Generator, layer: str, source: int, name: str
) -> int:
    """An activation layer, random where it has parameters."""
    if name in SMOOTH_FUNCTIONS:
        alpha = float(_rounded(rng.uniform(0.3, 2.0))) if name == "elu" else 1.0
        return b.smooth(layer, source, name, alpha)
    return b.piecewise(layer, source, random_pieces(rng, name, b.nodes[source].size))


def _add_residual(
    b: NetworkBuilder, rng: np.random.Generator, k: int, last: int, sources: list[int]
) -> int:
    size = b.nodes[last].size
    terms: list[tuple[int, object]] = [(last, sp.eye_array(size, format="csr"))]
    for s in sources:
        n = b.nodes[s].size
        equal = n == size and len(sources) == 1
        skip = sp.eye_array(size, format="csr") if equal else random_weights(rng, size, n)
        terms.append((s, skip))
    return b.affine(f"add_{k}", terms)


def _concatenate(b: NetworkBuilder, sources: list[int]) -> int:
    sizes = [b.nodes[s].size for s in sources]
    total, start, terms = sum(sizes), 0, []
    for s, n in zip(sources, sizes):
        rows = np.arange(start, start + n)
        place = sp.csr_array((np.ones(n), (rows, np.arange(n))), shape=(total, n))
        terms.append((s, place))
        start += n
    return b.affine("concatenate", terms)
