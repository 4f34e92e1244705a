"""What a neuron looks for
==========================

What a network of digits likes best: each class, plain and with penalties.

Run it with ``python examples/feature_visualization.py --output pictures``.

Trains a small network on scikit-learn's 8 x 8 digits. Each column is a class; the rows
are the plain optimum, the one with a total-variation penalty, and the one that stays
close to a digit of the class.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pyomo_relu import read_network
from pyomo_relu.adversarial import image_grid, visualize_feature

# %%
# The search
# ----------


def main(argv: list[str] | None = None) -> dict[str, list[float]]:
    """Find and draw the images; returns the class margins by row."""
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("."))
    parser.add_argument("--classes", type=int, default=5)
    parser.add_argument("--limit", type=float, default=6.0, help="seconds for each image")
    options = parser.parse_args(argv)
    options.output.mkdir(parents=True, exist_ok=True)
    x, y = load_digits(return_X_y=True)
    x = x / 16.0
    model = MLPClassifier((16, 12), alpha=0.1, max_iter=300, random_state=0).fit(x, y)
    network = read_network(model, logits=True)
    rows = {
        "plain": {},
        "smooth": {"penalty": "tv", "weight": 0.6},
        "near a digit": {"penalty": "near", "weight": 4.0},
    }
    images, titles = [], []
    found: dict[str, list[float]] = {}
    for name, penalty in rows.items():
        for k in range(options.classes):
            near = x[y == k][0] if penalty.get("penalty") == "near" else None
            feature = visualize_feature(
                network,
                k,
                class_margin=True,
                near=near,
                time_limit=options.limit,
                **penalty,
            )
            images.append(feature.image)
            titles.append(f"{k}, {name}: {feature.activation:.1f}")
            found.setdefault(name, []).append(feature.activation)
        print(name, [f"{v:.2f}" for v in found[name]])
    image_grid(
        images,
        options.output / "feature_visualization.png",
        titles=titles,
        columns=options.classes,
        limits=(0.0, 1.0),
    )
    return found


# %%
# What it finds
# -------------

if __name__ == "__main__":
    main()
