"""The command line: ``python -m pyomo_relu COMMAND ...``.

A command is one module of this package that has the functions ``add_arguments(parser)``
and ``run(arguments) -> int``; its docstring is the help. :data:`COMMANDS` lists them, and
only the one that is called is run.
"""

from __future__ import annotations

import argparse
import importlib
import platform
import sys
from collections.abc import Sequence
from importlib import metadata

#: Commands by name: the module that holds ``add_arguments`` and ``run``, and a line of help.
COMMANDS: dict[str, tuple[str, str]] = {
    "verify": (
        "pyomo_relu.cli.verify",
        "prove a VNN-LIB property of a network, or find a counterexample",
    ),
    "describe": (
        "pyomo_relu.cli.describe",
        "what a network file holds, and which neurons are stable on a box",
    ),
    "report": (
        "pyomo_relu.cli.report",
        "how hard a network is on a box: bounds, regions, relaxation",
    ),
}


def build_parser(chosen: str | None = None) -> argparse.ArgumentParser:
    """The parser of all commands; the arguments of ``chosen`` alone are filled in."""
    parser = argparse.ArgumentParser(
        prog="python -m pyomo_relu",
        description="Trained piecewise-linear networks from the command line.",
    )
    parser.add_argument(
        "--version", action="version", version=versions(), help="print versions and exit"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, line) in COMMANDS.items():
        if name == chosen:
            command = importlib.import_module(module)
            child = commands.add_parser(
                name,
                help=line,
                description=command.__doc__,
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
            command.add_arguments(child)
            child.set_defaults(run=command.run)
        else:
            commands.add_parser(name, help=line)
    return parser


def versions() -> str:
    """The version of this package and of what an answer depends on."""
    from pyomo_relu.base.versions import VERSION

    parts = []
    for name, label in (("pyomo", "Pyomo"), ("highspy", "highspy"), ("numpy", "NumPy")):
        try:
            parts.append(f"{label} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            parts.append(f"{label} not installed")
    parts.append(f"Python {platform.python_version()}")
    return f"pyomo_relu {VERSION} ({', '.join(parts)})"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns
    -------
    int
        0 if all went well, 1 after an error that is printed in one line.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    chosen = next((a for a in argv if a in COMMANDS), None)
    arguments = build_parser(chosen).parse_args(argv)
    try:
        return int(arguments.run(arguments) or 0)
    except (ValueError, TypeError, OSError, ImportError) as error:
        # Names in a file may have line breaks.
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 1
    except MemoryError:
        print("error: there is not enough memory for this network.", file=sys.stderr)
        return 1
