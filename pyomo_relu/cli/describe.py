"""Describe a trained network: layers, sizes, and what is not supported.

With an input box, also the bounds of the outputs and the neurons that stay on one
piece over the box; those cost no binary variable in any formulation.

The box is one interval for all inputs (--box LO HI) or a text file with one line
"lower upper" for each input (--box-file; separated by blanks or a comma, lines that
start with # are left out).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from pyomo_relu.network import Affine, Max, Network, PiecewiseLinear


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``describe``."""
    parser.add_argument(
        "file", metavar="FILE", help="a network: .keras, .h5, .onnx, or a saved .npz"
    )
    parser.add_argument(
        "--logits",
        action="store_true",
        help="take off a final softmax, sigmoid or arg-max",
    )
    box = parser.add_mutually_exclusive_group()
    box.add_argument(
        "--box", nargs=2, type=float, metavar=("LO", "HI"), help="bounds of every input"
    )
    box.add_argument("--box-file", metavar="PATH", help="bounds of each input, a line each")
    parser.add_argument(
        "--bounds",
        metavar="METHOD",
        help="the method of bounds: interval, crown, ... (default: the package's)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the description; 1 where the network can't be read."""
    from pyomo_relu.readers import read_network

    if arguments.bounds and arguments.box is None and arguments.box_file is None:
        raise ValueError("--bounds needs a box: give --box LO HI or --box-file PATH.")
    network = read_network(arguments.file, logits=arguments.logits)
    print(describe(network))
    if arguments.box is not None:
        lower, upper = (np.full(network.n_inputs, v) for v in arguments.box)
    elif arguments.box_file is not None:
        lower, upper = read_box(arguments.box_file, network.n_inputs)
    else:
        return 0
    print()
    print(stability(network, lower, upper, arguments.bounds))
    return 0


def describe(network: Network) -> str:
    """A table of the layers, and what they add up to."""
    weights = sum(n.nonzeros for n in network.nodes if isinstance(n, Affine))
    largest = max((n.size for n in network.nodes), default=0)
    steps = [
        n.name
        for n in network.nodes
        if isinstance(n, PiecewiseLinear) and not n.is_continuous
    ]
    pools = sum(n.size for n in network.nodes if isinstance(n, Max))
    lines = [
        network.summary(),
        "",
        f"inputs      {network.n_inputs}{_names(network.input_names)}",
        f"outputs     {network.n_outputs}{_names(network.output_names)}",
        f"neurons     {network.n_neurons}",
        f"maxima      {pools}",
        f"weights     {weights:,} non-zero",
        f"widest      {largest} entries",
        f"steps       {', '.join(steps) if steps else 'none'}",
        "unsupported none",
    ]
    return "\n".join(lines)


def _names(names: tuple[str, ...] | None) -> str:
    if names is None:
        return ""
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return f" ({shown})"


def stability(network: Network, lower, upper, method: str | None = None) -> str:
    """A table of the stable neurons of each activation over a box.

    Parameters
    ----------
    lower, upper : (n_inputs,) arrays
    method : str, optional
        A rung of :data:`pyomo_relu.bounds.RUNGS`.
    """
    from pyomo_relu.bounds import compute_bounds

    bounds = compute_bounds(network, lower, upper, method)
    rows: list[tuple[str, ...]] = [
        ("activation", "neurons", "stable", "unstable", "widest pre-activation")
    ]
    totals = np.zeros(3, dtype=int)
    for i, node in enumerate(network.nodes):
        if isinstance(node, PiecewiseLinear):
            stable = int(bounds.stable(i).sum())
            width = float((bounds.upper[node.source] - bounds.lower[node.source]).max())
            counts = np.array([node.size, stable, node.size - stable])
            totals += counts
            rows.append((node.name, *map(str, counts), f"{width:.6g}"))
    rows.append(("all", *map(str, totals), ""))
    widths = [max(len(r[k]) for r in rows) for k in range(5)]
    table = [
        "  ".join([r[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(r[1:], widths[1:]))])
        for r in rows
    ]
    low, high = bounds.outputs
    names = network.output_names or [f"output {k}" for k in range(network.n_outputs)]
    shown = [f"{n}: [{a:.6g}, {b:.6g}]" for n, a, b in zip(names, low, high)][:20]
    more = network.n_outputs - len(shown)
    return "\n".join(
        [
            f"on the box, by {bounds.method} ({bounds.seconds:.2f} s):",
            *[line.rstrip() for line in table],
            "",
            *shown,
            *([f"... and {more} more outputs"] if more else []),
        ]
    )


def read_box(path: str | Path, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Read one line ``lower upper`` for each of ``n`` inputs.

    Raises
    ------
    ValueError
        If a line doesn't hold two numbers, or there are not ``n`` of them.
    """
    rows = []
    for k, line in enumerate(Path(path).read_text().splitlines(), 1):
        text = line.replace(",", " ").split()
        if not text or text[0].startswith("#"):
            continue
        try:
            low, high = map(float, text)
        except ValueError:
            raise ValueError(
                f"line {k} of '{path}' is '{line.strip()}'; it needs two numbers, the lower "
                "and the upper bound of one input."
            ) from None
        rows.append((low, high))
    if len(rows) != n:
        raise ValueError(
            f"'{path}' holds the bounds of {len(rows)} inputs; the network has {n}."
        )
    box = np.array(rows)
    return box[:, 0], box[:, 1]
