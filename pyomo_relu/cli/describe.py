"""Describe a trained network: layers, sizes, and what is not supported.

With an input box, also the bounds of the outputs and the neurons that stay on one
piece over the box; those cost no binary variable in any formulation.

The box is one interval for all inputs (--box LO HI) or a text file with one line
"lower upper" for each input (--box-file; separated by blanks or a comma, lines that
start with # are left out).
"""

from __future__ import annotations

import argparse

import numpy as np

from pyomo_relu.cli.files import add_box, add_network, box_of, network_of
from pyomo_relu.network import Affine, Max, Network, PiecewiseLinear, Smooth


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``describe``."""
    add_network(parser)
    add_box(parser)
    parser.add_argument(
        "--bounds",
        metavar="METHOD",
        help="the method of bounds: interval, crown, ... (default: the package's)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the description; 1 where the network can't be read."""
    if arguments.bounds and arguments.box is None and arguments.box_file is None:
        raise ValueError("--bounds needs a box: give --box LO HI or --box-file PATH.")
    network = network_of(arguments)
    print(describe(network))
    box = box_of(arguments, network.n_inputs)
    if box is not None:
        print()
        print(stability(network, *box, arguments.bounds))
    return 0


def describe(network: Network) -> str:
    """A table of the layers, and what they add up to."""
    nodes = network.nodes
    weights = sum(n.nonzeros for n in nodes if isinstance(n, Affine))
    largest = max((n.size for n in nodes), default=0)
    activations = [n for n in nodes if isinstance(n, PiecewiseLinear)]
    steps = [n.name for n in activations if not n.is_continuous]
    smooth = [n.name for n in network.smooth_layers]
    pools = sum(n.size for n in nodes if isinstance(n, Max))
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
        f"smooth      {', '.join(smooth) if smooth else 'none'}",
        "unsupported none",
    ]
    return "\n".join(lines)


def _names(names: tuple[str, ...] | None) -> str:
    if names is None:
        return ""
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return f" ({shown})"


def stability(
    network: Network, lower: np.ndarray, upper: np.ndarray, method: str | None = None
) -> str:
    """A table of the stable neurons of each activation over a box (n_inputs,).

    ``method`` is a rung of :data:`pyomo_relu.bounds.RUNGS`.
    """
    from pyomo_relu.analysis.report import table
    from pyomo_relu.bounds import compute_bounds

    bounds = compute_bounds(network, lower, upper, method)
    rows: list[tuple[str, ...]] = [
        ("activation", "neurons", "stable", "unstable", "widest pre-activation")
    ]
    totals = np.zeros(3, dtype=int)
    for i, node in enumerate(network.nodes):
        if isinstance(node, (PiecewiseLinear, Smooth)):
            stable = int(bounds.stable(i).sum())
            width = float((bounds.upper[node.source] - bounds.lower[node.source]).max())
            counts = np.array([node.size, stable, node.size - stable])
            totals += counts
            rows.append((node.name, *map(str, counts), f"{width:.6g}"))
    rows.append(("all", *map(str, totals), ""))
    low, high = bounds.outputs
    names = network.output_names or [f"output {k}" for k in range(network.n_outputs)]
    lines = [
        f"on the box, by {bounds.method} ({bounds.seconds:.2f} s):",
        table(rows, rule=False),
        "",
        *[f"{n}: [{a:.6g}, {b:.6g}]" for n, a, b in zip(names, low, high)][:20],
    ]
    if network.n_outputs > 20:
        lines.append(f"... and {network.n_outputs - 20} more outputs")
    return "\n".join(lines)
