"""Decide a VNN-LIB property of a network.

The first line of the output is ``sat`` (there is a counterexample, printed below),
``unsat`` (there is none, proved), ``timeout`` or ``unknown``, as in the verification
competition. A counterexample was run through the network in float64 before, and for an
ONNX file through onnxruntime where that is installed. The exit code is 10 for sat, 20
for unsat, 30 for timeout and unknown, and 1 after an error.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pyomo_relu.base.deadline import NEVER, Deadline
from pyomo_relu.cli.files import add_network, memory, network_of

if TYPE_CHECKING:
    from pyomo_relu.network import Network
    from pyomo_relu.verification import VnnlibProperty
    from pyomo_relu.verification.candidates import Reference

#: Exit codes by answer.
CODES = {"sat": 10, "unsat": 20, "timeout": 30, "unknown": 30}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``verify``."""
    add_network(parser, "network")
    parser.add_argument(
        "property", metavar="PROPERTY", help="a .vnnlib file, or .gz of one"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="for all disjuncts together (default: 60)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the answer; the exit code says it too."""
    from pyomo_relu.verification import read_vnnlib

    deadline = Deadline(max(0.0, arguments.timeout))
    network = network_of(arguments, "network")
    prop = read_vnnlib(arguments.property, max_memory=memory(arguments))
    sizes = (network.n_inputs, network.n_outputs)
    if sizes != (prop.n_inputs, prop.n_outputs):
        raise ValueError(
            f"'{arguments.property}' is about {prop.n_inputs} inputs and {prop.n_outputs} "
            f"outputs, but '{arguments.network}' has {sizes[0]} and {sizes[1]}."
        )
    reference = None if arguments.logits else onnx_reference(arguments.network)
    answer, x, y = decide(network, prop, deadline, reference)
    print(answer)
    if x is not None:
        assert y is not None
        lines = [f"(X_{i} {v!r})" for i, v in enumerate(x.tolist())]
        lines += [f"(Y_{j} {v!r})" for j, v in enumerate(y.tolist())]
        print("(" + "\n ".join(lines) + ")")
    return CODES[answer]


def decide(
    network: Network,
    prop: VnnlibProperty,
    deadline: Deadline = NEVER,
    reference: Reference | None = None,
) -> tuple[str, np.ndarray | None, np.ndarray | None]:
    """The answer for all cases of a property, and a counterexample where there is one.

    ``reference`` is another program for it; see :func:`pyomo_relu.verification.verify`.
    """
    from pyomo_relu.verification import verify

    answer = "unsat"
    for k, case in enumerate(prop.cases):
        share = deadline.part(1.0 / (len(prop.cases) - k))
        found = verify(
            network,
            (case.lower, case.upper),
            case.property,
            time_limit=share.limit,
            reference=reference,
        )
        if found.status == "counterexample":
            return "sat", found.counterexample, found.outputs
        if found.status == "undecided" and answer != "unknown":
            # More time would not decide a case that is unknown.
            answer = "timeout" if found.details.get("out_of_time") else "unknown"
    return answer, None, None


def onnx_reference(path: str) -> Callable[[np.ndarray], np.ndarray] | None:
    """The ONNX file run by onnxruntime; None where that isn't possible."""
    if Path(path).suffix.lower() != ".onnx":
        return None
    try:
        import onnxruntime
    except ImportError:
        return None
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # an operator or opset that this runtime doesn't know
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        print(f"note: onnxruntime can't run '{path}': {reason}", file=sys.stderr)
        return None
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(session.get_outputs()) != 1:
        return None
    shape = [s if isinstance(s, int) and s > 0 else 1 for s in inputs[0].shape]
    kind = np.float64 if "double" in inputs[0].type else np.float32

    def evaluate(x: np.ndarray) -> np.ndarray:
        return session.run(None, {inputs[0].name: x.astype(kind).reshape(shape)})[0].ravel()

    return evaluate
