"""An ONNX model as onnxruntime runs it, for the check of what was read from it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pyomo_relu.readers.affine_graph import AffineGraph
from pyomo_relu.readers.frameworks import Arithmetic, Framework, Record, inputs_at, stacked
from pyomo_relu.readers.onnx.arrays import import_onnx
from pyomo_relu.readers.values import Head, Tensor, Value

#: onnxruntime's names of the types of inputs at which models are run.
_TYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(int16)": "int16",
}
#: Only what ends the run is logged.
_FATAL = 4

#: What the reader found, by the names in the model.
Values = Mapping[str, Value | Head | None]


class OnnxModel(Framework):
    """A model, evaluated one sample at a time as it was read; see :meth:`of`."""

    def __init__(self, session: Any, model: Any, what: str, values: Values) -> None:
        super().__init__()
        self.session, self.model, self.values = session, model, values
        self.name = what if what.startswith("the") else f"the ONNX file {what}"
        self.inputs = {entry.name for entry in session.get_inputs()}
        self.kinds = [_TYPES[entry.type] for entry in session.get_inputs()]
        constants = [v for v in values.values() if isinstance(v, np.ndarray)]
        found = {str(v.dtype) for v in constants if v.dtype.kind == "f"}
        found |= {kind for kind in self.kinds if kind.startswith("float")}
        self.arithmetic = Arithmetic.of(found)

    @classmethod
    def of(
        cls,
        source: Any,
        model: Any,
        what: str,
        values: Values,
        graph: AffineGraph,
    ) -> OnnxModel | None:
        """The model in a session of onnxruntime; None where it can't run it.

        Parameters
        ----------
        source : str, Path or onnx.ModelProto
            What the user gave.
        model : onnx.ModelProto
            As it was read.
        what : str
            How errors call it.
        values : mapping
            The values that the reader found; a head runs by the name of what it read.
        graph : AffineGraph
            Which values its inputs may take.
        """
        if importlib.util.find_spec("onnxruntime") is None:
            return None
        try:
            read = [v.run for v in values.values() if isinstance(v, Head)]
            is_path = isinstance(source, (str, Path)) and not read
            session = _session(str(source) if is_path else model, read)
            found = cls(session, model, what, values)
            found.admitted, found.integers = dict(graph.admitted), set(graph.integers)
            tensors = [v for v in map(values.get, found.inputs) if isinstance(v, Tensor)]
            found.outputs(found.represent(np.zeros((1, sum(x.size for x in tensors)))))
            return found
        except Exception:
            # An operator, type or size that this runtime doesn't know says nothing of
            # the reading; the model stays unchecked, as without the runtime.
            return None

    def outputs(self, points: np.ndarray) -> list[np.ndarray]:
        """The model's outputs; what went into its heads, where it has such."""
        found = [(o.name, self.values.get(o.name)) for o in self.model.graph.output]
        names = [v.run if isinstance(v, Head) else name for name, v in found]
        return self._run(self.session, names, points)

    def replay(
        self, points: np.ndarray
    ) -> tuple[list[Record], list[np.ndarray] | None] | None:
        """Every value that depends on the inputs, by a model that returns them all."""
        makers = {o: node for node in self.model.graph.node for o in node.output}
        tensors = {
            name: value.handle
            for name, value in self.values.items()
            if isinstance(value, Tensor) and name in makers
        }
        found = self._run(_session(self.model, tensors), list(tensors), points)
        records = []
        for (name, handle), values in zip(tensors.items(), found):
            node = makers[name]
            label = f"its operator {node.op_type} (node '{node.name or name}')"
            records.append(Record(label, handle, values))
        return records, self.outputs(points)

    def _run(self, session: Any, names: list[str], points: np.ndarray) -> list[np.ndarray]:
        asked = [name for name in dict.fromkeys(names) if name not in self.inputs]
        entries = session.get_inputs()
        shapes = [
            [n if isinstance(n, int) and n > 0 else 1 for n in entry.shape]
            for entry in entries
        ]
        given = [
            part.astype(kind) for part, kind in zip(inputs_at(points, shapes), self.kinds)
        ]
        rows = []
        for parts in zip(*given):
            feeds = {entry.name: np.asarray(p) for entry, p in zip(entries, parts)}
            found = dict(zip(asked, session.run(asked, feeds))) | feeds
            rows.append([np.asarray(found[n], dtype=float).reshape(-1) for n in names])
        return stacked(rows)


def _session(source: Any, wanted: Iterable[str]) -> Any:
    """A session of a path, or of a model that also returns the ``wanted`` values."""
    import onnxruntime

    if not isinstance(source, str):
        onnx = import_onnx()
        known = {o.name for o in source.graph.output} | {i.name for i in source.graph.input}
        extra = [name for name in dict.fromkeys(wanted) if name not in known]
        if extra:
            model = onnx.ModelProto()
            model.CopyFrom(source)
            for name in extra:
                model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
            source = model
        source = source.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(source, options, ["CPUExecutionProvider"])
