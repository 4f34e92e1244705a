"""Exported programs of PyTorch, and the ``.pt2`` files that hold them.

A ``.pt2`` file is an archive of tensors, of a graph as JSON, and of what PyTorch pickles.
Loading it may run code: pickles, names of functions in the graph, and formulas for lengths
of axes that are evaluated. The file is looked through first, and one that holds more
than tensors and operations of PyTorch's own is refused.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyomo_relu.network.limits import need
from pyomo_relu.readers.naming import first_line

#: What a node of the graph may call: operations of PyTorch on tensors, and parts of tuples.
_TARGET = re.compile(r"torch\.ops\.(aten|prims)\.\w+(\.\w+)?|_operator\.\w+")
_SYMBOL = re.compile(r"Symbol\('[a-z]\d+'(, (positive|integer|nonnegative)=True)*\)")
_FORMULA = re.compile(r"([-+*/(), \d]|[a-z]\d+|Max|Min|Integer)*")


def load_program(path: Path) -> Any:
    """The program in a ``.pt2`` file.

    Raises
    ------
    ValueError
        If it is no such file, is damaged, or holds something that could run code.
    """
    import torch

    what = f"'{path}'"
    need("its archive", passing=float(path.stat().st_size), kept=float(path.stat().st_size))
    data = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _check(torch, archive, what)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{what} is not a .pt2 file, or it is damaged.") from error
    try:
        return torch.export.load(io.BytesIO(data))
    except Exception as error:
        raise ValueError(
            f"{what} can't be loaded by this PyTorch ({type(error).__name__}: "
            f"{first_line(error)}); save it with torch.export.save of the same version."
        ) from error


def _check(torch: Any, archive: zipfile.ZipFile, what: str) -> None:
    names = archive.namelist()
    if len(set(names)) < len(names) or not any(
        n.endswith("/archive_format") for n in names
    ):
        raise ValueError(
            f"{what} is no archive of torch.export.save; write it with PyTorch 2.8 or newer."
        )
    size = float(sum(info.file_size for info in archive.infolist()))
    need("what it unpacks to", passing=size, kept=size)
    for name in names:
        if name.endswith(".json"):
            for key, value in _entries(json.loads(archive.read(name))):
                if not _harmless(key, value):
                    raise _unsafe(what, f"{key} {value!r}")
        elif name.endswith(".pt"):
            try:
                torch.load(io.BytesIO(archive.read(name)), weights_only=True)
            except Exception as error:
                raise _unsafe(what, f"a pickle, {name}") from error


def _harmless(key: str, value: Any) -> bool:
    """Whether an entry of a JSON file says nothing that would be run."""
    if key == "use_pickle":
        return value is not True
    if key == "path_name":
        return isinstance(value, str) and not value.startswith(("custom_obj", "opaque"))
    if key == "target" and isinstance(value, str):
        return _TARGET.fullmatch(value) is not None
    if key == "expr_str":
        return _FORMULA.fullmatch(_SYMBOL.sub("", str(value))) is not None
    return True


def _entries(tree: Any) -> Iterator[tuple[str, Any]]:
    stack = [tree]
    while stack:
        part = stack.pop()
        if isinstance(part, dict):
            yield from part.items()
            stack.extend(part.values())
        elif isinstance(part, list):
            stack.extend(part)


def _unsafe(what: str, thing: str) -> ValueError:
    return ValueError(
        f"{what} holds {thing}, which may run any code when it is loaded. If you trust it, "
        "load it yourself with torch.export.load, and pass the program."
    )


def program_module(
    torch: Any, program: Any
) -> tuple[Any, list[tuple[int, ...]], list[bool]]:
    """An exported program as a module, the shape of one sample of each input, which are integers.

    Its hooks, which look whether inputs have the shapes of the export, are taken off: the
    module is a new one, and its inputs are given one sample each.

    Raises
    ------
    ValueError
        If an input is no tensor or has no batch axis, and if the export fixed the
        length of its batch axis to more than 1.
    """
    shapes, integers = [], []
    nodes = {node.name: node for node in program.graph.nodes}
    for name in program.graph_signature.user_inputs:
        value = nodes[name].meta.get("val") if name in nodes else None
        if not isinstance(value, torch.Tensor):
            raise ValueError(f"the input '{name}' of the exported program is no tensor.")
        lengths = list(value.shape)
        if not lengths or isinstance(lengths[0], int) and lengths[0] != 1:
            raise ValueError(
                f"the exported program takes '{name}' in the fixed shape {tuple(lengths)}; "
                "export it for one sample, or with a first axis of any length: "
                "torch.export.export(module, samples, dynamic_shapes=({0: "
                "torch.export.Dim('batch')},))."
            )
        if not all(isinstance(n, int) for n in lengths[1:]):
            raise ValueError(
                f"the input '{name}' of the exported program has more than one axis of any "
                "length; export it with only the batch axis dynamic."
            )
        shapes.append(tuple(lengths[1:]))
        integers.append(value.dtype in (torch.int32, torch.int64))
    module = program.module()
    for part in module.modules():
        part._forward_pre_hooks, part._forward_hooks = OrderedDict(), OrderedDict()
    return module, shapes, integers
