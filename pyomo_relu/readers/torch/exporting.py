"""Modules that ``torch.export`` can't follow, by PyTorch's tracer and its ONNX export."""

from __future__ import annotations

import io
import warnings
from typing import Any

from pyomo_relu.network import Network
from pyomo_relu.readers.naming import first_line


def through_onnx(
    torch: Any, source: Any, samples: tuple, failed: Exception, logits: bool
) -> Network:
    """Read a module by PyTorch's ONNX export.

    The tracer records one run. A branch that depends on values is an error there, and a
    trace with operations in place, which the export may mistake, is refused.

    Raises
    ------
    ValueError
        If it can't be traced either; says why ``torch.export`` failed.
    """
    from pyomo_relu.readers.onnx import read_onnx
    from pyomo_relu.readers.onnx.arrays import import_onnx

    onnx = import_onnx()
    buffer = io.BytesIO()
    names = [f"input_{k + 1}" for k in range(len(samples))]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", torch.jit.TracerWarning)
            traced = source
            if not isinstance(source, torch.jit.ScriptModule):
                traced = torch.jit.trace(source, samples, check_trace=False)
            _refuse_in_place(torch, traced)
            torch.onnx.export(traced, samples, buffer, input_names=names, dynamo=False)
    except Exception as error:
        raise ValueError(
            f"neither torch.export ({failed}) nor PyTorch's ONNX export can trace the "
            f"module {type(source).__name__} ({type(error).__name__}: {first_line(error)}). "
            "Write its forward without branches on values, or give an ONNX file."
        ) from error
    return read_onnx(
        onnx.load_from_string(buffer.getvalue()), logits=logits, check_reading=False
    )


def _refuse_in_place(torch: Any, traced: Any) -> None:
    for node in traced.inlined_graph.nodes():
        schema = node.schema()
        if schema == "(no schema)":
            continue
        arguments = torch._C.parse_schema(schema).arguments
        if any(a.alias_info is not None and a.alias_info.is_write for a in arguments):
            raise ValueError(f"{node.kind()} changes a tensor in place")
