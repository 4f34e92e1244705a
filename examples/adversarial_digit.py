"""The smallest adversarial digit, in three norms
=================================================

The smallest change that makes a network read another digit, in three norms.

Run it with ``python examples/adversarial_digit.py --output pictures``.

Trains a small network on scikit-learn's 8 x 8 digits and draws, for each norm, the
image that it misreads and the difference.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from pyomo_relu import read_network
from pyomo_relu.adversarial import find_adversarial, image_grid

# %%
# The search
# ----------


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Find and draw the images; returns the distance in each norm."""
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("."))
    parser.add_argument("--limit", type=float, default=30.0, help="seconds for each norm")
    options = parser.parse_args(argv)
    options.output.mkdir(parents=True, exist_ok=True)
    x, y = load_digits(return_X_y=True)
    x = x / 16.0
    model = MLPClassifier((16, 12), alpha=0.1, max_iter=300, random_state=0)
    model.fit(x[:1500], y[:1500])
    network = read_network(model, logits=True)
    right = network.evaluate(x[1500:]).argmax(axis=1) == y[1500:]
    print(f"accuracy {right.mean():.3f} on images it has not seen")
    # An image of middling confidence.
    sorted_ = np.sort(network.evaluate(x[1500:][right]), axis=1)
    image = x[1500:][right][np.argsort(sorted_[:, -1] - sorted_[:, -2])[right.sum() // 2]]

    images, titles, distances = [], [], {}
    for norm in ("l1", "linf", "l0"):
        found = find_adversarial(network, image, norm=norm, time_limit=options.limit)
        if found.image is None:
            raise SystemExit(f"no adversarial image in the time ({found.status}).")
        proof = "proved" if found.optimal else f"bound {found.bound:.3g}"
        print(f"{norm}: {found.label} -> {found.found}, {found.distance:.4g}, {proof}")
        images += [image, found.image, found.image - image]
        titles += [
            f"read as {found.label}",
            f"read as {found.found}",
            f"{norm} {found.distance:.3g}, {proof}",
        ]
        distances[norm] = found.distance
    image_grid(
        images,
        options.output / "adversarial_digit.png",
        titles=titles,
        columns=3,
        limits=(0.0, float(np.max(images[0]))),
        differences=[2, 5, 8],
    )
    return distances


# %%
# What it finds
# -------------

if __name__ == "__main__":
    main()
