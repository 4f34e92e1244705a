"""How hard a trained network is over a box: stable neurons by method of bounds, big-M
constants by layer, linear regions, and the gap of the linear relaxation.

With --output DIR also saves the report and its plots (needs Matplotlib).
"""

from __future__ import annotations

import argparse

import numpy as np


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``report``."""
    parser.add_argument(
        "file", metavar="FILE", help="a network: .keras, .h5, .onnx, or a saved .npz"
    )
    parser.add_argument(
        "--logits",
        action="store_true",
        help="take off a final softmax, sigmoid or arg-max",
    )
    box = parser.add_mutually_exclusive_group(required=True)
    box.add_argument(
        "--box", nargs=2, type=float, metavar=("LO", "HI"), help="bounds of every input"
    )
    box.add_argument("--box-file", metavar="PATH", help="bounds of each input, a line each")
    parser.add_argument(
        "--bounds",
        nargs="+",
        metavar="METHOD",
        help="methods of bounds to compare (default: interval crown lp)",
    )
    parser.add_argument(
        "--unit", type=int, default=0, metavar="K", help="the output to optimize and draw"
    )
    parser.add_argument("--sense", choices=["min", "max"], default="min")
    parser.add_argument(
        "--no-optimum", action="store_true", help="leave out the search for the optimum"
    )
    parser.add_argument(
        "--time-limit", type=float, default=30.0, metavar="S", help="seconds of each search"
    )
    parser.add_argument("--output", metavar="DIR", help="save the report and its plots")


def run(arguments: argparse.Namespace) -> int:
    """Print the report, and save it where asked to."""
    from pyomo_relu.analysis.report import DEFAULT_RUNGS, report
    from pyomo_relu.cli.describe import read_box
    from pyomo_relu.readers import read_network

    network = read_network(arguments.file, logits=arguments.logits)
    if arguments.box is not None:
        low, high = arguments.box
        box = np.full(network.n_inputs, low), np.full(network.n_inputs, high)
    else:
        box = read_box(arguments.box_file, network.n_inputs)
    found = report(
        network,
        box,
        rungs=arguments.bounds or DEFAULT_RUNGS,
        output=arguments.unit,
        sense=arguments.sense,
        optimize=not arguments.no_optimum,
        time_limit=arguments.time_limit,
    )
    print(found)
    if arguments.output:
        print()
        for path in found.save(arguments.output):
            print(f"saved {path}")
    return 0
