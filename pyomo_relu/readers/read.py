"""`read_network`: the one entry, whatever framework a network comes from.

The source is recognized by the modules of its class, so that no framework is imported
that the source doesn't bring with it.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from pyomo_relu.network import Network
from pyomo_relu.network.limits import memory_limit
from pyomo_relu.readers.scaling import scale_network


def _own(source: Any, **_: Any) -> Network:
    """An object that knows its network, such as the classifiers of ``training``."""
    network = source.to_network()
    if not isinstance(network, Network):
        raise TypeError(
            f"{type(source).__name__}.to_network() must return a Network, not a "
            f"{type(network).__name__}."
        )
    return network


def _saved(
    source: str | Path, logits: bool, check_reading: bool, **options: Any
) -> Network:
    return Network.load(source, **options)


def _torch_file(source: str | Path, **_: Any) -> Network:
    raise ValueError(
        f"'{source}' is a PyTorch file, which may hold weights alone, or code that runs when "
        "it is loaded; so load it yourself, and pass the module, with input_shape=. "
        "Weights: build the module, then "
        "module.load_state_dict(torch.load(path, weights_only=True)). A whole module: "
        "torch.load(path, weights_only=False), if you trust the file. TorchScript: "
        "torch.jit.load(path). The file of torch.export.save, '.pt2', is read as it is."
    )


def _torch_program(
    source: str | Path, *, max_memory: float | None = None, **options: Any
) -> Network:
    """A ``.pt2`` file by ``torch.export.save``."""
    from pyomo_relu.readers.torch import load_program, read_torch

    with memory_limit(f"'{source}'", max_memory):
        return read_torch(load_program(Path(source)), **options)


#: The readers that are functions here; each other is ``read_<name>`` of a module of its
#: own, which is imported when it is needed.
_READERS: dict[str, Callable[..., Network]] = {
    "own": _own,
    "saved": _saved,
    "torch file": _torch_file,
    "torch program": _torch_program,
}

#: The reader of a file, by its suffix.
_SUFFIXES = {".keras": "keras", ".h5": "keras", ".hdf5": "keras", ".onnx": "onnx"}
_SUFFIXES |= {".npz": "saved", ".pt": "torch file", ".pth": "torch file"}
_SUFFIXES |= {".pt2": "torch program"}

#: The packages that one of the classes of an object may come from, each with its reader.
_PACKAGES = ("keras", "onnx", "torch", "sklearn")

#: Packages whose objects hold a network that can be read in another form.
_WRAPPED = {
    "skorch": (
        "a module of PyTorch's in skorch; pass its module, net.module_, with input_shape=, "
        "and what scales the data by input_scaler= and output_scaler=."
    ),
    "tf_keras": (
        "a model of Keras 2 (tf_keras), of which Keras 3 knows nothing; save it by "
        "model.save('model.keras') and pass that path, or export it to ONNX by tf2onnx."
    ),
}

#: Options of one kind of source only.
_OPTIONS = {"torch": "input_shape"}
_OPTIONS |= dict.fromkeys(("keras", "onnx", "saved", "torch program"), "max_memory")


def read_network(
    source: Any,
    *,
    logits: bool = False,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    input_scaler: Any = None,
    output_scaler: Any = None,
    check_reading: bool = True,
    **options: Any,
) -> Network:
    """Read a trained network from any supported framework.

    Parameters
    ----------
    source : Network, path, model or estimator
        * a :class:`~pyomo_relu.network.Network`,
        * a path: ``.keras``, ``.h5``, ``.onnx``, ``.onnx.gz``, ``.pt2``, or ``.npz`` by
          :meth:`Network.save`,
        * a Keras model,
        * an ONNX ``ModelProto``,
        * a PyTorch ``nn.Module`` (see ``input_shape``) or ``ExportedProgram``,
        * a scikit-learn estimator or pipeline,
        * an object with a method ``to_network()``, such as a classifier of
          :mod:`pyomo_relu.training`.
    logits : bool
        Take off a final softmax, log-softmax, sigmoid or arg-max and read its input.
        Without it, such a head is refused.
    input_names, output_names : sequence of str, optional
        A name for each entry of the flat input and output vector.
    input_scaler, output_scaler : fitted scikit-learn scaler or (offset, factor)
        For a network that was trained on scaled data: its inputs and outputs become
        those before and after scaling. See :mod:`pyomo_relu.readers.scaling`.
    check_reading : bool
        Evaluate the source and the network at a few points, some of them on either side
        of the units' breakpoints, and refuse the source if they differ by more than
        rounding. A Keras model, a PyTorch module, a scikit-learn estimator and a scaler
        evaluate themselves, an ONNX model is evaluated by onnxruntime where that is
        installed. It costs a few forward passes, and leaves no trace in the source.
    max_memory : float, optional
        Files and ONNX models: the bytes that reading may take. What declares more is
        refused before it is taken;
        :data:`~pyomo_relu.network.limits.MOST_MEMORY` if left out.
    input_shape : sequence of int, or sequence of those
        PyTorch only: the shape of one sample, without the batch axis.

    Returns
    -------
    Network

    Raises
    ------
    ValueError
        For an option that the source doesn't have, a layer that is not piecewise linear
        or not supported, a damaged or foreign file, and a network that differs from its
        source.
    TypeError
        If the source is nothing that can be read.
    ImportError
        If the framework is not installed; says what to install.
    """
    kind = "" if isinstance(source, Network) else _kind(source)
    known = [_OPTIONS[kind]] if kind in _OPTIONS else []
    unknown = sorted(set(options) - set(known))
    if unknown and kind != "torch file":  # whose reader says what to do instead
        described = (
            f"'{source}'" if isinstance(source, (str, Path)) else type(source).__name__
        )
        names = ["logits", "input_names", "output_names", "input_scaler", "output_scaler"]
        raise ValueError(
            f"read_network has no option '{unknown[0]}' for {described}; it takes "
            f"{', '.join([*names, 'check_reading', *known])}."
        )
    network = source
    if kind:
        name = f"pyomo_relu.readers.{kind}"
        read = _READERS.get(kind) or getattr(import_module(name), f"read_{kind}")
        network = read(source, logits=logits, check_reading=check_reading, **options)
    network = scale_network(
        network,
        input_scaler=input_scaler,
        output_scaler=output_scaler,
        check_reading=check_reading,
    )
    if input_names is None and output_names is None:
        return network
    return Network(
        network.nodes,
        network.outputs,
        network.inputs,
        network.input_names if input_names is None else input_names,
        network.output_names if output_names is None else output_names,
        head=network.head,
    )


def _kind(source: Any) -> str:
    """The reader of ``source``."""
    if isinstance(source, (str, Path)):
        return _kind_of_file(Path(source))
    if callable(getattr(type(source), "to_network", None)):
        return "own"
    for cls in type(source).__mro__:
        package = cls.__module__.split(".")[0]
        if package in _WRAPPED:
            raise ValueError(f"a {type(source).__name__} is {_WRAPPED[package]}")
        if package in _PACKAGES:
            return package
    if isinstance(source, dict) and any(
        type(v).__module__.split(".")[0] == "torch" for v in source.values()
    ):
        raise ValueError(
            "a PyTorch state_dict holds weights alone; build the module, call its "
            "load_state_dict, and pass the module with input_shape=."
        )
    raise TypeError(
        f"read_network can't read a {type(source).__name__}; give a Network, a path "
        f"({', '.join(_SUFFIXES)}), a Keras model, an ONNX ModelProto, a PyTorch module "
        "or a scikit-learn estimator."
    )


def _kind_of_file(path: Path) -> str:
    if not path.exists():
        raise FileNotFoundError(f"there is no file '{path}'.")
    if not path.is_file() and not path.is_dir():
        raise ValueError(f"'{path}' is a pipe or a device; give the path of a file.")
    if path.name.lower().endswith(".onnx.gz"):
        return "onnx"
    if path.suffix.lower() in _SUFFIXES:
        return _SUFFIXES[path.suffix.lower()]
    if path.suffix.lower() in (".pkl", ".pickle", ".joblib"):
        raise ValueError(
            f"'{path}' is a pickle, which may run any code when it is opened. Open it "
            "yourself if you trust it, and pass the model."
        )
    if path.is_dir():
        what = "a folder"
        if (path / "saved_model.pb").exists():
            what = "a SavedModel of TensorFlow's, which holds a graph and no layers"
        raise ValueError(
            f"'{path}' is {what}; save the Keras model by model.save('model.keras') and pass "
            "that file, or export it to ONNX."
        )
    kind = " (a zip archive)" if path.is_file() and zipfile.is_zipfile(path) else ""
    raise ValueError(
        f"'{path}'{kind} has none of the suffixes {', '.join(_SUFFIXES)}; rename it, or "
        "load the model and pass that."
    )
