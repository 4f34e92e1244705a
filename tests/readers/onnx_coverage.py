"""The table of docs/guide/onnx_coverage.md: every ONNX file of the shared data.

Run as ``python -m tests.readers.onnx_coverage > docs/guide/onnx_coverage.md``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np

from pyomo_relu.readers.onnx import read_onnx
from pyomo_relu.readers.onnx.node import HEADS
from tests.paths import data_folder

HEAD = """\
# ONNX files that were tried

Each file of the shared test data is read by `read_network` and compared with onnxruntime
on 20 random inputs of [-1, 1], or refused by the name of the operator. *Difference* is
the largest one, relative to the largest output (at least 1); the files hold float32
weights, the network computes in float64.

| files | result | inputs | outputs | neurons | difference |
|---|---|---|---|---|---|"""

TAIL = """\
`maxpool_2d.onnx` is not valid: its windows have three axes on two spatial ones, and
onnxruntime doesn't load it either."""


def files() -> list[Path]:
    """Every ONNX file of the shared data."""
    return sorted(data_folder().rglob("*.onnx"))


def try_file(path: Path) -> tuple[str, int, int, int, float | None]:
    """(result, inputs, outputs, neurons, difference) of one file."""
    import onnx

    from tests.readers.onnx_models import difference

    made = onnx.load(path)
    result = "read"
    try:
        network = read_onnx(path)
    except ValueError as error:
        operator = re.search(r"(?:operator |: )([A-Z]\w+)(?: \(node)", str(error))
        assert operator is not None, error
        head = made.graph.node[-1]
        if operator.group(1) not in HEADS or head.op_type != operator.group(1):
            return f"refused: {operator.group(1)}", 0, 0, 0, None
        network = read_onnx(path, logits=True)
        result = f"read with `logits=True` ({head.op_type})"
        made.graph.output[0].name = head.input[0]
        del made.graph.node[-1]
    worst = difference(made, network, np.random.default_rng(0), points=20, spread=1.0)
    return result, network.n_inputs, network.n_outputs, network.n_neurons, worst


def table() -> str:
    """The Markdown page; files of one folder with one result share a row."""
    rows: dict[tuple, list] = {}
    for path in files():
        name = path.relative_to(data_folder()).as_posix()
        *key, worst = try_file(path)
        group = re.sub(r"_\d_\d_", "_*_", name)
        rows.setdefault((group, *key), []).append((name, worst))
    lines = [HEAD]
    for (group, result, *sizes), found in rows.items():
        label = found[0][0] if len(found) == 1 else f"{group} ({len(found)} files)"
        differences = [d for _, d in found if d is not None]
        shown = [f"{max(differences):.1e}"] if differences else ["-"]
        counts = [str(n) if differences else "-" for n in sizes]
        lines.append(" | ".join(["| " + label, result, *counts, *shown]) + " |")
    return "\n".join([*lines, "", TAIL]) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table())
