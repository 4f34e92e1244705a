"""How hard a trained network is over a box: stable neurons by method of bounds, big-M
constants by layer, linear regions, and the gap of the linear relaxation.

With --output DIR also saves the report and its plots (needs Matplotlib).
"""

from __future__ import annotations

import argparse

from pyomo_relu.cli.files import add_box, add_network, box_of, network_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``report``."""
    add_network(parser)
    add_box(parser, required=True)
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

    network = network_of(arguments)
    box = box_of(arguments, network.n_inputs)
    assert box is not None
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
