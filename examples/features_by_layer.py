"""What every layer looks for
==========================

What neurons of every layer like best, beside what digits give them.

Run it with ``python examples/features_by_layer.py --output pictures``.

Trains a network with three hidden layers on scikit-learn's 8 x 8 digits. Each row is a
layer, each picture the image that one of its neurons likes best: in the left half any image
within the box, in the right one the same neurons with a penalty on total variation.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

from pyomo_relu import read_network
from pyomo_relu.adversarial import image_grid, visualize_feature

# %%
# The search
# ----------


def main(argv: list[str] | None = None) -> dict[str, dict[str, list[float]]]:
    """Find and draw the images; returns activations by layer."""
    from sklearn.datasets import load_digits
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("."))
    parser.add_argument("--units", type=int, default=4, help="neurons of each layer")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for each image")
    options = parser.parse_args(argv)
    options.output.mkdir(parents=True, exist_ok=True)
    x, y = load_digits(return_X_y=True)
    x = x / 16.0
    model = MLPClassifier((16, 10, 8), alpha=0.1, max_iter=300, random_state=0)
    with warnings.catch_warnings():
        # The number of iterations ends the training, as it is meant to.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, y)
    network = read_network(model, logits=True)
    on_digits = {n.name: v for n, v in zip(network.nodes, network.activations(x))}
    images, titles = [], []
    found: dict[str, dict[str, list[float]]] = {}
    for layer in [name for name in on_digits if name.startswith("layer_")]:
        best = on_digits[layer].max(axis=0)
        row = found[layer] = {"digits": [float(v) for v in best[: options.units]]}
        for kind, price in (("any", 0.0), ("smooth", 0.02)):
            # What a penalty has to weigh depends on the sizes that a layer's values have.
            features = [
                visualize_feature(
                    network,
                    unit,
                    layer=layer,
                    penalty="tv" if price else None,
                    weight=price * max(best[unit], 0.0),
                    time_limit=options.limit,
                )
                for unit in range(options.units)
            ]
            row[kind] = [f.activation for f in features]
            images += [f.image for f in features]
            titles += [
                f"{f.name}, {kind}: {f.activation:.1f}\na digit: {best[k]:.1f}"
                for k, f in enumerate(features)
            ]
            proved = sum(f.status == "optimal" for f in features)
            print(f"{layer}, {kind}: {proved} of {len(features)} proved to be best")
    image_grid(
        images,
        options.output / "features_by_layer.png",
        titles=titles,
        columns=2 * options.units,
        limits=(0.0, 1.15),  # white pixels stay darker than the page
    )
    return found


# %%
# What it finds
# -------------
# The first layer's images are the signs of its weights: a linear program finds them. Behind it
# a mixed-integer program is needed, which grows with the layers before. In every layer the
# best image gives a neuron about twice what any digit gives it, and isn't one: a network is
# asked here about images that it was never shown. Fischetti and Jo (Constraints 23, 2018) found
# the plain optima hard to read, too. The penalty turns noise into a few patches at a small price.

if __name__ == "__main__":
    main()
