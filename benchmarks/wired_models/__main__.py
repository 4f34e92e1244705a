"""``python -m wired_models [KEY...]``: train the networks anew and say how well they fit."""

from __future__ import annotations

import sys

import numpy as np

import wired_models
from wired_models.networks import Surrogate


def surrogates() -> dict[str, Surrogate]:
    """Every network that a model trains, by its key."""
    found: dict[str, Surrogate] = {}
    for module in vars(wired_models).values():
        for value in vars(module).values() if hasattr(module, "__dict__") else ():
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, Surrogate):
                    found[one.key] = one
    return found


def main() -> None:
    """Print the fit of each network and its distance from the stored one."""
    known = surrogates()
    for key in sys.argv[1:] or sorted(known):
        layers, fit = known[key].train()
        stored = known[key].network
        first = next(n for n in stored.nodes if n.kind == "affine")
        off = float(np.abs(first.weights[0] - layers[0][0].T).max())
        print(f"{key}: R2 {fit:.4f}, first weights differ by {off:.1e}", flush=True)


if __name__ == "__main__":
    main()
