"""``python -m wired_models [KEY...]``: train the networks anew and say how well they fit.

``--store`` writes what was trained into the files of weights.
"""

from __future__ import annotations

import argparse
from types import ModuleType

import numpy as np

import wired_models
from wired_models.networks import DATA, Layers, Surrogate


def surrogates(package: ModuleType) -> dict[str, Surrogate]:
    """Every network that a model of a package trains, by its key."""
    found: dict[str, Surrogate] = {}
    for module in vars(package).values():
        for value in vars(module).values() if hasattr(module, "__dict__") else ():
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, Surrogate):
                    found[one.key] = one
    return found


def store(one: Surrogate, layers: Layers) -> None:
    """Put the weights of a network into its file, beside those of the others."""
    path = DATA / f"{one.file}.npz"
    held: dict[str, np.ndarray] = {}
    if path.exists():
        with np.load(path) as arrays:
            held = {k: v for k, v in arrays.items() if not k.startswith(f"{one.key}|")}
    for k, (weights, biases) in enumerate(layers):
        held[f"{one.key}|W{k}"] = weights.astype(np.float32)
        held[f"{one.key}|b{k}"] = biases.astype(np.float32)
    np.savez_compressed(path, **dict(sorted(held.items())))


def main(package: ModuleType) -> None:
    """Print the fit of each network and its distance from the stored one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("keys", nargs="*")
    parser.add_argument("--store", action="store_true")
    args = parser.parse_args()
    known = surrogates(package)
    for key in args.keys or sorted(known):
        layers, fit = known[key].train()
        if args.store:
            store(known[key], layers)
        first = next(n for n in known[key].network.nodes if n.kind == "affine")
        off = float(np.abs(first.weights[0] - layers[0][0].T).max())
        print(f"{key}: R2 {fit:.4f}, first weights differ by {off:.1e}", flush=True)


if __name__ == "__main__":
    main(wired_models)
