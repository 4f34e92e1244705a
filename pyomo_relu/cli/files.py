"""What the commands share: the network file and the box that they are given."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from pyomo_relu.network import Network


def add_network(parser: argparse.ArgumentParser, name: str = "file") -> None:
    """The arguments that say which network is read, and how."""
    parser.add_argument(
        name,
        metavar=name.upper(),
        help="a network: .keras, .h5, .onnx, or a saved .npz",
    )
    parser.add_argument(
        "--logits",
        action="store_true",
        help="take off a final softmax, sigmoid or arg-max",
    )
    parser.add_argument(
        "--max-memory",
        type=float,
        metavar="GB",
        help="what reading may take (default: 1.07 GB)",
    )


def add_box(parser: argparse.ArgumentParser, required: bool = False) -> None:
    """The arguments that give the bounds of the inputs."""
    box = parser.add_mutually_exclusive_group(required=required)
    box.add_argument(
        "--box", nargs=2, type=float, metavar=("LO", "HI"), help="bounds of every input"
    )
    box.add_argument("--box-file", metavar="PATH", help="bounds of each input, a line each")


def memory(arguments: argparse.Namespace) -> float | None:
    """Bytes that reading a file may take; None for the default."""
    return None if arguments.max_memory is None else 1e9 * arguments.max_memory


def network_of(arguments: argparse.Namespace, name: str = "file") -> Network:
    """Read the network that the arguments name."""
    from pyomo_relu.readers import read_network

    return read_network(
        getattr(arguments, name), logits=arguments.logits, max_memory=memory(arguments)
    )


def box_of(arguments: argparse.Namespace, n: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Lower and upper bounds of ``n`` inputs; None where no box is given."""
    if arguments.box is not None:
        low, high = arguments.box
        return np.full(n, low), np.full(n, high)
    if arguments.box_file is not None:
        return read_box(arguments.box_file, n)
    return None


def read_box(path: str | Path, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Read one line ``lower upper`` for each of ``n`` inputs.

    Raises
    ------
    ValueError
        If it is no text, a line doesn't hold two numbers, or there are not ``n`` of them.
    """
    rows = []
    with open(path, encoding="utf-8") as file:
        try:
            for k, line in enumerate(file, 1):
                text = line.replace(",", " ").split()
                if text and not text[0].startswith("#"):
                    rows.append(_numbers(text, f"line {k} of '{path}'", line))
        except UnicodeDecodeError:
            raise ValueError(f"'{path}' is not a text file in UTF-8.") from None
    if len(rows) != n:
        raise ValueError(
            f"'{path}' holds the bounds of {len(rows)} inputs; the network has {n}."
        )
    box = np.array(rows).reshape(n, 2)
    return box[:, 0], box[:, 1]


def _numbers(text: list[str], where: str, line: str) -> tuple[float, float]:
    try:
        low, high = map(float, text)
    except ValueError:
        low = high = np.nan
    if np.isnan([low, high]).any():
        raise ValueError(
            f"{where} is '{line.strip()[:60]}'; it needs two numbers, the lower and the "
            "upper bound of one input."
        )
    return low, high
