"""A process that reads files one after the other and says how each reading ended.

Run as ``python -m tests.harness.reading_worker``: a path on each line of the input, an
answer in JSON on each line of the output. A file that crashes the process, or takes too
long, is found by who waits for the answer, see :mod:`tests.harness.reading`.
"""

from __future__ import annotations

import json
import linecache
import os
import resource
import sys
import warnings
from pathlib import Path

#: Bytes of address space that reading may add to what the frameworks take.
MEMORY = 2 * 10**9


def read(path: Path) -> None:
    """Read a file as a user would, and compute with what came of it."""
    import numpy as np

    if path.suffix in (".vnnlib", ".gz"):
        from pyomo_relu.verification import read_vnnlib

        read_vnnlib(path)
        return
    from pyomo_relu import read_network

    network = read_network(path)
    network.evaluate(np.zeros(network.n_inputs))
    network.evaluate(np.ones((2, network.n_inputs)))


def fault(error: BaseException) -> str:
    """What is wrong with an error as an answer to a damaged file; "" if nothing is."""
    kind = type(error)
    own = kind.__module__.split(".")[0] == "pyomo_relu" and issubclass(kind, ValueError)
    if kind is not ValueError and not own:
        return f"{kind.__module__}.{kind.__name__} is foreign"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError):
            return "memory ran out"
        cause = cause.__cause__ or cause.__context__
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    file = trace.tb_frame.f_code.co_filename if trace is not None else ""
    line = linecache.getline(file, trace.tb_lineno) if trace is not None else ""
    if f"{os.sep}pyomo_relu{os.sep}" not in file or not line.strip().startswith("raise"):
        return f"raised elsewhere: {file}: {line.strip()}"
    if not 10 < len(str(error)) < 1500:
        return "the message is empty or long"
    return ""


def answer(path: Path) -> dict:
    """How the reading of one file ended."""
    try:
        read(path)
    except BaseException as error:
        wrong = fault(error)
        shown = f"{type(error).__name__}: {error}"[:600]
        return {"end": "fault" if wrong else "refused", "why": wrong, "error": shown}
    return {"end": "read"}


def main() -> None:
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints must not stand among the answers
    warnings.simplefilter("ignore")
    for module in sys.argv[1:]:
        __import__(module)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    replies.write(json.dumps({"end": "ready"}) + "\n")
    for line in sys.stdin:
        replies.write(json.dumps(answer(Path(line.rstrip("\n")))) + "\n")


if __name__ == "__main__":
    main()
