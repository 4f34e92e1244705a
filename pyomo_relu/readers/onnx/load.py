"""ONNX files and models: loading and checking before anything is read."""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pyomo_relu.network.limits import need
from pyomo_relu.readers.onnx.arrays import (
    graphs_of,
    import_onnx,
    load_external_data,
    node_name,
    nodes_of,
)

OLDEST_OPSET = 7

#: Bytes that an operator takes in the file, in what is made of it, and in what checks it.
OPERATOR = 20_000

#: Bytes that a compressed file is unpacked by at once.
_UNPACKED = 2**20

#: Above this, protobuf can't hand a model to the checker.
_CHECKED = 2**31 - 1


def load_model(source: str | Path | Any) -> tuple[Any, str]:
    """Return a checked ``ModelProto`` with inlined functions, and what to call it.

    Raises
    ------
    ValueError
        For a truncated or foreign file, weights in a file that is missing or elsewhere,
        a model that ONNX' own checker rejects, and an operator set before 7.
    FileNotFoundError
    """
    onnx = import_onnx()
    if isinstance(source, (str, Path)):
        what = f"'{source}'"
        model = _load_file(Path(source), what)
    else:
        what, model = "the ONNX model", source
        if not isinstance(model, onnx.ModelProto):
            raise TypeError(
                f"read_onnx takes a path or an onnx.ModelProto, not {type(source)}."
            )
        _check_text(model, what)
    if not model.graph.output or not model.opset_import:
        raise ValueError(
            f"{what} holds no ONNX graph; it is empty or another kind of file."
        )
    _check_opset(model, what)
    _count_operators(model, what)
    # The checker wants output shapes, which no runtime and no reader needs; and it
    # can't take more than 2 GB.
    shaped = all(o.type.tensor_type.HasField("shape") for o in model.graph.output)
    if shaped and model.ByteSize() < _CHECKED:
        _foreign(what, "is not a valid ONNX model", onnx.checker.check_model, model)
    if model.functions:
        from onnx import inliner

        model = _foreign(
            what,
            "has functions that can't be inlined",
            inliner.inline_local_functions,
            model,
        )
        _count_operators(model, what)
    return model, what


def _check_opset(model: Any, what: str) -> None:
    known = (o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    opset = next(known, None)
    if opset is not None and opset < OLDEST_OPSET:
        raise ValueError(
            f"{what} uses ONNX opset {opset}; {OLDEST_OPSET} and newer are read. Convert "
            "it with onnx.version_converter.convert_version(model, 13)."
        )
    newest = import_onnx().defs.onnx_opset_version()
    if opset is not None and opset > newest:
        raise ValueError(
            f"{what} uses ONNX opset {opset}; the onnx package that is installed knows "
            f"those up to {newest}. Update it: pip install -U onnx."
        )


def is_packed(source: Any) -> bool:
    """Whether a source is the path of a compressed model."""
    return isinstance(source, (str, Path)) and str(source).lower().endswith(".gz")


def _unpacked(path: Path, what: str) -> bytes:
    """The model in an ``.onnx.gz`` file; memory is asked for while it is unpacked."""
    parts, size = [], 0
    try:
        with gzip.open(path) as file:
            while part := file.read(_UNPACKED):
                parts.append(part)
                size += len(part)
                need("what it unpacks to", passing=2.0 * size)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(
            f"{what} is not a gzip file, or it is truncated: {error}."
        ) from error
    return b"".join(parts)


def _load_file(path: Path, what: str) -> Any:
    onnx = import_onnx()
    if path.is_dir():
        raise ValueError(f"{what} is a folder; give the path of the .onnx file in it.")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {what}.")
    model = onnx.ModelProto()
    data = _unpacked(path, what) if is_packed(path) else path.read_bytes()
    _foreign(what, "is not an ONNX model, or it is truncated", model.ParseFromString, data)
    _check_text(model, what)
    load_external_data(model, path.parent, what)
    return model


def _check_text(model: Any, what: str) -> None:
    """Raise where a name is no text: newer versions of protobuf hand its bytes out."""
    messages = [model]
    while messages:
        for field, found in messages.pop().ListFields():
            # A repeated field is no str, bytes or message, but holds them.
            if field.type not in (field.TYPE_STRING, field.TYPE_MESSAGE):
                continue
            single = isinstance(found, (str, bytes)) or hasattr(found, "ListFields")
            for one in (found,) if single else found:
                if isinstance(one, bytes):
                    raise ValueError(
                        f"{what} is not an ONNX model, or it is damaged: {one!r}, a "
                        f"'{field.name}', is not UTF-8."
                    )
                if field.type == field.TYPE_MESSAGE:
                    messages.append(one)


def _foreign(what: str, wrong: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of onnx or protobuf; its error becomes a ValueError of ours."""
    try:
        return function(*arguments)
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = " ".join(lines)[:500] or type(error).__name__
        raise ValueError(f"{what} {wrong}: {reason}") from error


def _count_operators(model: Any, what: str) -> None:
    """Ask for the memory of all operators, those of functions once for each call.

    A function that calls another one twice, which calls another one twice, ... would
    otherwise fill the memory when it is inlined.
    """
    functions = {(f.domain, f.name): f for f in model.functions}
    sizes: dict[tuple[str, str], float] = {}

    def called(nodes: Iterable[Any]) -> Counter:
        return Counter((n.domain, n.op_type) for n in nodes_of(nodes))

    calls = {key: called(f.node) for key, f in functions.items()}
    stack = [(key, False) for key in functions]
    open_: set[tuple[str, str]] = set()
    while stack:
        key, done = stack.pop()
        if done:
            open_.discard(key)
            sizes[key] = sum(n * sizes.get(k, 1.0) for k, n in calls[key].items())
        elif key in open_:
            raise ValueError(f"{what}: the function '{key[1]}' calls itself.")
        elif key not in sizes:
            open_.add(key)
            stack.append((key, True))
            stack.extend((k, False) for k in calls[key] if k in functions)
    total = sum(n * sizes.get(k, 1.0) for k, n in called(model.graph.node).items())
    need(f"{total:.3g} operators", passing=OPERATOR * total)


def check_nodes(model: Any, what: str) -> None:
    """Check each operator by itself, and that no two of them make one value.

    ONNX' checker doesn't look at a model whose outputs have no shape, so this is done
    for every model: attributes must be there, known and of their type.

    Raises
    ------
    ValueError
        It names the operator.
    """
    onnx = import_onnx()
    context = onnx.checker.C.CheckerContext()
    context.ir_version = model.ir_version or onnx.IR_VERSION
    context.opset_imports = {o.domain: o.version for o in model.opset_import}
    made = {i.name for i in model.graph.initializer} | {i.name for i in model.graph.input}
    for node in model.graph.node:
        where = f"{what}: ONNX operator {node.op_type} (node '{node_name(node)}')"
        outputs = [o for o in node.output if o]
        twice = [o for k, o in enumerate(outputs) if o in made or o in outputs[:k]]
        if not outputs:
            raise ValueError(f"{where} has no output.")
        if twice:
            raise ValueError(f"{where} makes '{twice[0]}', which something else made.")
        made.update(outputs)
    _check_each(model, what, context)


def _check_each(model: Any, what: str, context: Any) -> None:
    """Check each operator by itself, those inside others too."""
    onnx = import_onnx()
    for node in nodes_of(model.graph.node):
        # What holds a graph reads values from outside of it, which the check can't find.
        holds = any(graphs_of(attribute) for attribute in node.attribute)
        if holds or not onnx.defs.has(node.op_type, node.domain):
            continue
        where = f"{what}: ONNX operator {node.op_type} (node '{node_name(node)}')"
        _foreign(where, "is not valid", onnx.checker.check_node, node, context)
