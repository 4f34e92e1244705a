"""A Keras model as it runs, for the check of what was read from it."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyomo_relu.readers.frameworks import (
    Arithmetic,
    CannotRunHere,
    Framework,
    Record,
    inputs_at,
)
from pyomo_relu.readers.keras.describing import describe
from pyomo_relu.readers.values import Head, Tensor


@dataclass(frozen=True)
class Step:
    """One call of a model's graph, and what was made of it.

    Attributes
    ----------
    node : Keras node
    values : list of Tensor or Head
        One for each output tensor.
    inner : list of Step or None
        The calls inside, where the operation is a model that was walked.
    """

    node: Any
    values: Sequence[Tensor | Head]
    inner: list[Step] | None = None


class KerasModel(Framework):
    """A model in inference mode.

    Parameters
    ----------
    model : keras.Model
    steps : list of Step
        What was read of it.
    values : list of Tensor or Head
        What was made of its outputs; a head runs on a tensor of Keras.
    source : keras.Model, optional
        What the user calls, where ``model`` is a graph that was traced of it.
    """

    def __init__(
        self,
        model: Any,
        steps: list[Step],
        values: Sequence[Tensor | Head],
        source: Any = None,
    ) -> None:
        super().__init__()
        self.model, self.steps = model, steps
        self.source = model if source is None else source
        self.name = f"the Keras model '{self.source.name}'"
        self.arithmetic = _arithmetic(model)
        for k, value in enumerate(values):
            if isinstance(value, Head):
                self.heads[k] = _head(value)

    def tensors(self, points: np.ndarray) -> list[Any]:
        """The inputs of the model at some points."""
        import keras

        parts = inputs_at(points, [tuple(t.shape)[1:] for t in self.model.inputs])
        return [
            keras.ops.convert_to_tensor(part, dtype=tensor.dtype)
            for part, tensor in zip(parts, self.model.inputs)
        ]

    def outputs(self, points: np.ndarray) -> list[np.ndarray]:
        """What a call of the model returns, its tensors one after the other."""
        import keras

        given = self.tensors(points)
        struct = getattr(self.model, "_inputs_struct", None)
        x = given[0] if struct is None else keras.tree.pack_sequence_as(struct, given)
        try:
            with _untouched(self.model):
                found = keras.tree.flatten(in_inference(self.source, x))
        except Exception as error:
            if _needs_a_gpu(self.model):
                raise CannotRunHere(
                    "TensorFlow runs channels-first layers on GPUs only"
                ) from error
            raise
        return [_flat(tensor) for tensor in found]

    def replay(self, points: np.ndarray) -> tuple[list[Record], list[np.ndarray]]:
        """Run the graph call by call, into nested models."""
        records: list[Record] = []
        with _untouched(self.model):
            found = _run(self.model, self.steps, self.tensors(points), records)
        return records, [_flat(tensor) for tensor in found]


def in_inference(model: Any, x: Any) -> Any:
    """What a model gives at inference, whether its call takes a flag for that or not."""
    flag = {"training": False} if getattr(model, "_call_has_training_arg", True) else {}
    return model(x, **flag)


def _run(
    model: Any, steps: list[Step], tensors: Sequence[Any], records: list[Record]
) -> list[Any]:
    import keras

    known = {id(t): value for t, value in zip(model.inputs, tensors)}
    for step in steps:
        operation = step.node.operation

        def lookup(argument: Any, known: dict = known) -> Any:
            is_tensor = isinstance(argument, keras.KerasTensor)
            return known[id(argument)] if is_tensor else argument

        args, kwargs = step.node.arguments.convert(lookup)
        if step.inner is not None:
            # A Sequential model keeps its graph in a functional one.
            graph = getattr(operation, "_functional", None) or operation
            given = graph._standardize_inputs(args[0] if args else kwargs["inputs"])
            outputs = _run(operation, step.inner, given, records)
        else:
            if getattr(operation, "_call_has_training_arg", False):
                kwargs = {**kwargs, "training": False}
            outputs = keras.tree.flatten(operation(*args, **kwargs))
        for tensor, value, output in zip(step.node.outputs, step.values, outputs):
            known[id(tensor)] = output
            if not isinstance(value, Head):
                label = f"its {describe(operation)}"
                records.append(Record(label, value.handle, _flat(output)))
    return [known[id(tensor)] for tensor in model.outputs]


def _flat(tensor: Any) -> np.ndarray:
    import keras

    array = np.asarray(keras.ops.convert_to_numpy(tensor)).astype(float)
    return array.reshape(len(array), -1)


def _head(head: Head) -> Callable[[np.ndarray], np.ndarray]:
    def run(values: np.ndarray) -> np.ndarray:
        import keras

        logits = values.reshape(-1, *head.logits.sample_shape)
        return _flat(head.run(keras.ops.convert_to_tensor(logits)))

    return run


def _arithmetic(model: Any) -> Arithmetic:
    import keras

    parts = [*model.variables, *model.inputs, *model.outputs]
    found = {str(p.dtype) for p in parts}
    found |= {str(layer.compute_dtype) for layer in model._flatten_layers()}
    kinds = {kind for kind in found if "float" in kind}
    backend = keras.config.backend()
    if backend != "tensorflow":
        # JAX has no float64 unless asked for; on PyTorch, Keras multiplies in float32.
        kinds.add("float32")
    return Arithmetic.of(kinds, coarse=_on_accelerator(backend))


def _on_accelerator(backend: str) -> bool:
    """Whether a device may multiply in a coarser type than that of the tensors."""
    if backend == "tensorflow":
        import tensorflow as tf

        return bool(tf.config.list_physical_devices("GPU"))
    if backend == "torch":
        import torch

        return bool(torch.cuda.is_available())
    return backend != "numpy"


def _needs_a_gpu(model: Any) -> bool:
    """Whether TensorFlow lacks kernels for the model's channels-first layers here."""
    import keras

    backend = keras.config.backend()
    return (
        backend == "tensorflow"
        and not _on_accelerator(backend)
        and any(
            getattr(layer, "data_format", None) == "channels_first"
            for layer in model._flatten_layers()
        )
    )


@contextlib.contextmanager
def _untouched(model: Any) -> Iterator[None]:
    """Quietly, without gradients; the losses that layers keep stay those of the user."""
    import keras

    layers = [layer for layer in model._flatten_layers() if hasattr(layer, "_losses")]
    losses = [list(layer._losses) for layer in layers]
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        if keras.config.backend() == "torch":
            import torch

            stack.enter_context(torch.no_grad())
        try:
            yield
        finally:
            for layer, before in zip(layers, losses):
                layer._losses[:] = before
