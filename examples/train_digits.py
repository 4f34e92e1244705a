"""Digits from a few images, weights in {-1, 0, 1}
==================================================

One small network for each pair of classes is trained on a few 8 x 8 digits, in three
stages: certain points, wide margins, few weights. One neuron for each class shows the
same in one picture. With ``--mnist FOLDER``, pairs of MNIST digits are trained as well.

Run it with ``python examples/train_digits.py``; it needs the extras ``sklearn`` and
``plot`` and takes about a minute.
"""

from __future__ import annotations

import argparse
import gzip
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap
from sklearn.datasets import load_digits

from pyomo_relu.training import BinarizedNetClassifier, OneVsOneBinarizedEnsemble

HERE = Path(__file__).resolve().parent
COLOURS = ListedColormap(["#2166ac", "#f7f7f7", "#b2182b"])


# %%
# The data
# --------


def few_shot(x, y, count: int, seed: int = 1):
    """Positions of ``count`` random images of each class, and of all others."""
    rng = np.random.default_rng(seed)
    train = np.concatenate(
        [rng.permutation(np.flatnonzero(y == c))[:count] for c in np.unique(y)]
    )
    return train, np.setdiff1d(np.arange(len(y)), train)


def read_mnist(folder: Path):
    """Test images and labels of MNIST."""
    with gzip.open(folder / "t10k-images.idx3-ubyte.gz") as file:
        x = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 784) / 255
    with gzip.open(folder / "t10k-labels.idx1-ubyte.gz") as file:
        return x, np.frombuffer(file.read(), np.uint8, offset=8).astype(int)


# %%
# Training
# --------


def train_pairs(x, y, seconds: float) -> OneVsOneBinarizedEnsemble:
    """One neuron with weights in {-1, 0, 1} for each pair of classes."""
    limits = (seconds, 2 * seconds, seconds)
    ensemble = OneVsOneBinarizedEnsemble(bias=True, stage_limits=limits, random_state=0)
    return ensemble.fit(x, y)


# %%
# The picture
# -----------


def picture(axis, weights: np.ndarray, title: str) -> None:
    """Weights as an image: red +1, white 0, blue -1."""
    side = int(np.sqrt(weights.size))
    axis.imshow(weights.reshape(side, side), cmap=COLOURS, vmin=-1, vmax=1)
    axis.set_title(title, fontsize=9)
    axis.set_xticks([])
    axis.set_yticks([])


def draw(one: BinarizedNetClassifier, pairs, mnist, output: Path) -> None:
    """The weights of the classes, of some pairs, and of MNIST pairs."""
    rows = 2 + bool(mnist)
    figure, axes = plt.subplots(rows, 10, figsize=(11, 1.45 * rows), layout="constrained")
    for c, axis in enumerate(axes[0]):
        picture(axis, one.network_.weights[0][c], f"{c} or not")
    chosen = [
        (0, 1),
        (1, 7),
        (2, 3),
        (3, 5),
        (3, 8),
        (4, 9),
        (5, 6),
        (6, 8),
        (7, 9),
        (8, 9),
    ]
    for pair, axis in zip(chosen, axes[1]):
        weights = pairs.networks_[pair].weights[0]
        picture(axis, weights, f"{pair[1]} (red) or {pair[0]}")
    if mnist:
        for axis in axes[2]:
            axis.axis("off")
        for ((i, j), ensemble), axis in zip(mnist.items(), axes[2]):
            axis.axis("on")
            picture(axis, ensemble.networks_[0, 1].weights[0], f"{j} (red) or {i}")
    figure.suptitle("Weights in {-1, 0, 1}: blue, white, red", fontsize=10)
    figure.savefig(output / "train_digits.png", dpi=150)
    plt.close(figure)


# %%
# The whole job
# -------------


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Train, print what was found, save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=6, help="of each class")
    parser.add_argument("--seconds", type=float, default=0.25, help="of a stage")
    parser.add_argument("--mnist", type=Path, help="folder of the MNIST test files")
    parser.add_argument("--output", type=Path, default=HERE)
    args = parser.parse_args(arguments)
    args.output.mkdir(parents=True, exist_ok=True)

    data = load_digits()
    x, y = data.data / 16, data.target
    train, test = few_shot(x, y, args.images)
    begin = time.perf_counter()
    pairs = train_pairs(x[train], y[train], args.seconds)
    kept, total = pairs.nonzeros_
    found = {
        "pairs": pairs.score(x[test], y[test]),
        "pairs_train": pairs.score(x[train], y[train]),
        "nonzeros": kept / total,
    }
    print(
        f"{args.images} images of each digit, 45 pairs: {found['pairs']:.1%} of "
        f"{len(test)} others are right, {found['nonzeros']:.0%} of the weights are not 0, "
        f"{time.perf_counter() - begin:.0f} s"
    )
    one = BinarizedNetClassifier((), loss="min_hinge", time_limit=80 * args.seconds)
    one.fit(x[train], y[train])
    found["classes"] = one.score(x[test], y[test])
    print(
        f"One neuron for each class: {found['classes']:.1%} are right; loss "
        f"{one.loss_:.3f}, lower bound {one.bound_:.3f} ({one.status_})"
    )
    mnist = {}
    if args.mnist is not None:
        images, labels = read_mnist(args.mnist)
        for i, j in ((4, 9), (1, 8), (3, 5)):
            chosen = np.flatnonzero((labels == i) | (labels == j))
            inside, outside = few_shot(images[chosen], labels[chosen], args.images)
            pair = train_pairs(
                images[chosen[inside]], labels[chosen[inside]], 4 * args.seconds
            )
            share = pair.score(images[chosen[outside]], labels[chosen[outside]])
            print(f"MNIST {i} or {j}: {share:.1%} of {len(outside)} others are right")
            mnist[i, j] = pair
            found[f"mnist_{i}_{j}"] = share
    draw(one, pairs, mnist, args.output)
    return found


# %%
# What it finds
# -------------

if __name__ == "__main__":
    main()
