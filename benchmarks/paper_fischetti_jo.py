"""The study of Fischetti and Jo, arXiv 1712.06174: adversarial digits of small networks.

For an image of digit d, the smallest L1 change within [0, 1]^784 so that the activation of
(d + 5) mod 10 is at least 1.2 times every other one. ``basic`` has interval bounds and no
start; ``tightened`` has linear-programming bounds, computed once for each network over the
whole of [0, 1]^784, and a start; both are solved by HiGHS. ``local`` is what
``find_adversarial`` does: it cuts off what is farther than the start, bounds all neurons
over what is left (Tjeng et al., arXiv 1711.07356, restrict the domain), and splits the
sides of neurons, except in DNN2, whose six narrow layers it leaves to HiGHS; ``program`` is
the same with HiGHS in place of the splitting.

All have the same limit in CPU seconds, their own start and bounds included, but the LP
bounds of ``tightened``, which are the network's. Networks are trained with scikit-learn
and kept, as are their bounds, in results/fischetti_jo.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from functools import cache

import numpy as np
import pyomo.environ as pyo
from common import RESULTS, significant, table
from paper_runs import Run, average, mean_error, per_cent, proportion
from scipy.stats import t
from training import mnist_images

from pyomo_relu.adversarial import find_adversarial
from pyomo_relu.bounds import Bounds, compute_bounds
from pyomo_relu.network import Network

FOLDER = RESULTS / "fischetti_jo"
#: Hidden layers of each network.
NETWORKS: dict[str, tuple[int, ...]] = {
    "DNN1": (8, 8, 8),
    "DNN2": (8,) * 6,
    "DNN3": (20, 10, 8, 8),
    "DNN4": (20, 10, 8, 8, 8),
    "DNN5": (20, 20, 10, 10, 10),
}
#: What share of the instances is solved in the paper in 300 s, and the mean gap, in per cent,
#: by the basic and the tightened model; recalled, as its tables could not be read.
PUBLISHED = {
    "DNN1": {"basic": (100, 0.0), "tightened": (100, 0.0)},
    "DNN2": {"basic": (97, 0.2), "tightened": (100, 0.0)},
    "DNN3": {"basic": (64, 11.6), "tightened": (100, 0.0)},
    "DNN4": {"basic": (24, 38.1), "tightened": (98, 0.7)},
    "DNN5": {"basic": (7, 71.8), "tightened": (67, 11.4)},
}
#: Bounds of each model, whether it has a start, whether the domain is cut, and whether the
#: sides of neurons are split; without an answer, ``find_adversarial`` looks at the network.
MODELS: dict[str, tuple[str, bool, bool, bool | None]] = {
    "basic": ("interval", False, False, False),
    "tightened": ("lp", True, False, False),
    "local": ("crown", True, True, None),
    "program": ("crown", True, True, False),
}
#: Of these only the first images are run, and only by the full study.
ABLATION, ABLATED = "program", 3
#: Images of each network by default, and in the full study; CPU seconds for each; passes
#: through the images to train.
IMAGES, ALL_IMAGES, SECONDS, EPOCHS = 10, 20, 20.0, 20
#: Models that are compared on the same images.
PAIRS = (("tightened", "basic"), ("local", "basic"), ("local", "tightened"))
#: How much more than every other the target must have.
FACTOR = 1.2
NUMBERS = (
    "accuracy", "start", "objective", "bound", "nodes", "violation", "cpu_seconds", "wall_seconds",
)  # fmt: skip


@cache
def images(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels in [0, 1], (N, 784), and labels, read once."""
    pixels, labels = mnist_images(part)
    return pixels / 255.0, labels


@cache
def trained(name: str) -> Network:
    """The network of this name, from disk where it is there."""
    path = FOLDER / f"{name}_{EPOCHS}.npz"
    if not path.exists():
        from sklearn.neural_network import MLPClassifier

        from pyomo_relu import read_network

        best = None
        x, y = images("train")
        for seed in range(5):  # some seeds of narrow networks end with dead layers
            model = MLPClassifier(
                NETWORKS[name], max_iter=EPOCHS, random_state=seed, batch_size=128
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the number of epochs ends the training
                model.fit(x.astype(np.float32), y)
            if best is None or model.score(x, y) > best.score(x, y):
                best = model
            if best.score(x, y) > 0.9:
                break
        FOLDER.mkdir(parents=True, exist_ok=True)
        network = read_network(best, logits=True)
        network.save(path.with_suffix(".tmp"))
        os.replace(path.with_suffix(".tmp"), path)
    return Network.load(path)


@cache
def lp_bounds(name: str) -> Bounds:
    """LP bounds over [0, 1]^784, from disk where they are there."""
    network = trained(name)
    path = FOLDER / f"{name}_{network.fingerprint[:12]}_lp.npz"
    if not path.exists():
        compute_bounds(network, 0.0, 1.0, "lp").save(path.with_suffix(".tmp"))
        os.replace(path.with_suffix(".tmp"), path)
    return Bounds.load(path, network, np.zeros(784), np.ones(784))


def measure_network(name: str) -> dict:
    """Accuracy on the 10,000 test images; the seconds are those of its LP bounds."""
    network, bounds = trained(name), lp_bounds(name)
    x, labels = images("t10k")
    right = float((network.evaluate(x).argmax(axis=1) == labels).mean())
    return {"accuracy": right, "cpu_seconds": None, "wall_seconds": bounds.seconds}


def measure(name: str, model: str, instance: int, seconds: float) -> dict:
    """One image, changed as little as possible."""
    network, (x, labels) = trained(name), images("t10k")
    image, digit = x[instance], int(labels[instance])
    rung, started, local, sides = MODELS[model]
    bounds = lp_bounds(name) if rung == "lp" else rung
    solver = pyo.SolverFactory("relu_highs")
    solver.config.threads = 1
    target = (digit + 5) % 10
    # The last layer has a ReLU in the study. With y[target] >= 0, which ratio= asks for,
    # the rule on activations is the one on logits, so that no binaries are needed for it.
    wall, cpu = time.perf_counter(), time.process_time()
    found = find_adversarial(
        network,
        image,
        norm="l1",
        target=target,
        label=digit,
        ratio=FACTOR,
        solver=solver,
        time_limit=None,
        cpu_time_limit=seconds,
        start=started,
        examples=x[5000:],
        restrict=local,
        sides=sides,
        bounds=bounds,
    )
    row: dict = {
        "cpu_seconds": time.process_time() - cpu,
        "wall_seconds": time.perf_counter() - wall,
        "status": found.status,
        "bound": found.bound,
        "nodes": found.nodes,
    }
    if np.isfinite(found.start):
        row["start"] = found.start
    if found.image is not None:
        row["objective"] = found.distance
        # Run the image through the network before the distance is believed.
        y = np.maximum(network.evaluate(np.clip(found.image, 0.0, 1.0)), 0.0)
        row["violation"] = float(
            max(0.0, (FACTOR * np.delete(y, target) - y[target]).max())
        )
    return row


def runs() -> Iterator[Run]:
    """The networks, then images in turn, so that a study that is stopped has some of each."""
    for name in NETWORKS:
        yield Run("network", name, 0, lambda n=name: measure_network(n))
    for i in range(ALL_IMAGES):
        for name in NETWORKS:
            for model in MODELS:
                ablation = model == ABLATION
                if ablation and i >= ABLATED:
                    continue
                yield Run(
                    name,
                    f"{model}, {SECONDS:g} CPU s",
                    i,
                    lambda n=name, m=model, i=i: measure(n, m, i, SECONDS),
                    ablation or i >= IMAGES,
                )


def gap(row: dict) -> float:
    """Distance less bound, as a share of the distance; 1 without an image."""
    if row["objective"] is None:
        return 1.0
    return (row["objective"] - row["bound"]) / max(row["objective"], 1e-9)


def summary(rows: list[dict]) -> dict[str, str]:
    """A table of the networks, and one of the models."""
    known = {r["run"]: r for r in rows if r["study"] == "network"}
    networks = [
        [
            name,
            "-".join(map(str, hidden)),
            per_cent([known[name]["accuracy"]]),
            average([known[name]["wall_seconds"]]),
        ]
        for name, hidden in NETWORKS.items()
        if name in known
    ]
    means = []
    for name in NETWORKS:
        runs_ = dict.fromkeys(r["run"] for r in rows if r["study"] == name)
        for run in sorted(runs_, key=lambda run: run.endswith("clock")):  # older ones last
            own = [r for r in rows if (r["study"], r["run"]) == (name, run)]
            solved = sum(r["status"] == "optimal" for r in own)
            published = PUBLISHED[name].get(run.split(",")[0], ("", ""))
            means.append(
                [
                    name,
                    run,
                    len(own),
                    solved,
                    proportion(solved, len(own)),
                    published[0],
                    sum(r["objective"] is None for r in own),
                    per_cent([gap(r) for r in own]),
                    published[1],
                    f"{np.mean([r['nodes'] for r in own]):,.0f}",
                    average([r["cpu_seconds"] for r in own]),
                    average([r["wall_seconds"] for r in own]),
                ]
            )
    head = [
        "network", "model, limit", "images", "solved", "solved, % (95 %)", "published, %",
        "no image", "gap, %", "published, %", "nodes", "CPU s", "clock s",
    ]  # fmt: skip
    return {
        "networks": table(
            ["network", "hidden layers", "test accuracy, %", "LP bounds, clock s"], networks
        ),
        "means": table(head, means),
        "pairs": paired(rows),
    }


def paired(rows: list[dict]) -> str:
    """Two models on the same images: who solves what, and differences with their errors.

    A difference of gaps is clear where it lies beyond Student's 97.5 % quantile of its
    standard error. The ratio of CPU seconds is a geometric mean; searches that were ended
    count as what they had.
    """
    found = {(r["study"], r["run"], r["draw"]): r for r in rows}
    lines = []
    for name in NETWORKS:
        for models in PAIRS:
            keys = [(name, f"{model}, {SECONDS:g} CPU s") for model in models]
            both = [
                [found[*key, image] for key in keys]
                for image in dict.fromkeys(r["draw"] for r in rows if r["study"] == name)
                if all((*key, image) in found for key in keys)
            ]
            if len(both) < 2:
                continue
            solved = [tuple(r["status"] == "optimal" for r in pair) for pair in both]
            which = ((True, True), (True, False), (False, True), (False, False))
            mean, error = mean_error(
                [round(100 * (gap(a) - gap(b)), 6) + 0.0 for a, b in both]
            )
            wide = float(t.ppf(0.975, len(both) - 1))
            ratio, spread = mean_error(
                [np.log(a["cpu_seconds"] / b["cpu_seconds"]) for a, b in both]
            )
            ends = (np.exp(ratio + side * wide * spread) for side in (-1, 1))
            lines.append(
                [
                    name,
                    " against ".join(models),
                    len(both),
                    *(solved.count(one) for one in which),
                    f"{mean:+.1f} ± {error:.1f}",
                    "yes" if abs(mean) > wide * error else "no",
                    f"{significant(np.exp(ratio))} ({' to '.join(map(significant, ends))})",
                ]
            )
    head = [
        "network", "model", "images", "solved by both", "by the first only",
        "by the second only", "by neither", "gap, points", "clear", "CPU s, ratio (95 %)",
    ]  # fmt: skip
    return table(head, lines)
