"""Random networks of products, as the readers write them."""

from __future__ import annotations

import numpy as np

from pyomo_relu.network import Network
from pyomo_relu.network.activations import relu
from pyomo_relu.readers.products import power
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.values import Tensor

#: What a factor of a product may be, besides an affine function.
FACTORS = ("affine", "relu", "sigmoid", "tanh", "softplus")


def random_product_network(rng: np.random.Generator, depth: int = 2) -> Network:
    """One to three inputs, layers of products and powers, and one or two outputs.

    Weights are rounded to float32.
    """
    g, n = TensorGraph(), int(rng.integers(1, 4))
    h = g.input("x", (1, n), batch=0)
    size = int(rng.integers(1, 4))

    def affine(name: str, x: Tensor, units: int) -> Tensor:
        w = rng.normal(0.0, 1.0 / np.sqrt(x.size), (x.size, units)).astype(np.float32)
        return g.matmul(name, x, w.astype(float), np.float32(rng.normal(0.0, 0.3, units)))

    def factor(name: str, x: Tensor) -> Tensor:
        z, kind = affine(name, x, size), str(rng.choice(FACTORS))
        if kind == "affine":
            return z
        if kind == "relu":
            return g.piecewise(f"{name}_relu", z, relu())
        return g.smooth(f"{name}_{kind}", z, kind)

    for k in range(depth):
        a = factor(f"a_{k}", h)
        if rng.random() < 0.25:
            h = power(g, f"power_{k}", a, int(rng.integers(2, 4)))
        else:
            b = a if rng.random() < 0.15 else factor(f"b_{k}", h)
            h = g.multiply(f"product_{k}", a, b)
            if rng.random() < 0.3:
                h = g.add(f"kept_{k}", [h, a])
    return g.builder.build([affine("out", h, int(rng.integers(1, 3))).handle])
