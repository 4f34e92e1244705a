"""ONNX files and models: loading and checking before anything is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

OLDEST_OPSET = 7


def import_onnx():
    """The onnx package, or an error that says how to get it."""
    try:
        import onnx
    except ImportError as error:
        raise ImportError(
            "reading ONNX networks needs the onnx package: pip install 'pyomo_relu[onnx]'."
        ) from error
    return onnx


def load_model(source: str | Path | Any) -> tuple[Any, str]:
    """Return a checked ``ModelProto`` with inlined functions, and what to call it.

    Raises
    ------
    ValueError
        For a truncated or foreign file, a model that ONNX' own checker rejects, and
        an operator set before 7.
    """
    onnx = import_onnx()
    from google.protobuf.message import DecodeError

    if isinstance(source, (str, Path)):
        what = f"'{source}'"
        if not Path(source).is_file():
            raise FileNotFoundError(f"there is no file {what}.")
        try:
            model = onnx.load(str(source))
        except (DecodeError, UnicodeDecodeError, onnx.checker.ValidationError) as error:
            raise ValueError(
                f"{what} is not an ONNX model, or it is truncated: {error}"
            ) from error
    else:
        what, model = "the ONNX model", source
    if not model.graph.output or not model.opset_import:
        raise ValueError(
            f"{what} holds no ONNX graph; it is empty or another kind of file."
        )
    opset = next(
        (o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), None
    )
    if opset is not None and opset < OLDEST_OPSET:
        raise ValueError(
            f"{what} uses ONNX opset {opset}; {OLDEST_OPSET} and newer are read. Convert "
            "it with onnx.version_converter.convert_version(model, 13)."
        )
    try:
        # The checker wants output shapes, which no runtime and no reader needs.
        if all(o.type.tensor_type.HasField("shape") for o in model.graph.output):
            onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ValueError(f"{what} is not a valid ONNX model: {error}") from error
    except ValueError:
        pass  # over 2 GB: too large for the checker alone
    if model.functions:
        from onnx import inliner

        model = inliner.inline_local_functions(model)
    return model, what


def attributes_of(node) -> dict[str, Any]:
    """The attributes of a ``NodeProto`` by name as plain Python values."""
    onnx = import_onnx()
    found = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode()
        elif isinstance(value, onnx.TensorProto):
            value = onnx.numpy_helper.to_array(value)
        elif attribute.type in (attribute.INTS, attribute.FLOATS, attribute.STRINGS):
            value = list(value)
        found[attribute.name] = value
    return found
