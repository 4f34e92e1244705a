"""`read_network`: the one entry, whatever framework a network comes from.

The source is recognized by the modules of its class, so that no framework is imported
that the source doesn't bring with it.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pyomo_relu.network import Network
from pyomo_relu.readers.scaling import scale_network


def _keras(source: Any, **options) -> Network:
    from pyomo_relu.readers.keras import read_keras

    return read_keras(source, **options)


def _onnx(source: Any, **options) -> Network:
    from pyomo_relu.readers.onnx import read_onnx

    return read_onnx(source, **options)


def _torch(source: Any, **options) -> Network:
    from pyomo_relu.readers.torch import read_torch

    return read_torch(source, **options)


def _sklearn(source: Any, **options) -> Network:
    from pyomo_relu.readers.sklearn import read_sklearn

    return read_sklearn(source, **options)


def _own(source: Any, logits: bool = False, check_reading: bool = True) -> Network:
    """An object that knows its network, such as the classifiers of ``training``."""
    network = source.to_network()
    if not isinstance(network, Network):
        raise TypeError(
            f"{type(source).__name__}.to_network() must return a Network, not a "
            f"{type(network).__name__}."
        )
    return network


def _saved(
    source: str | Path, logits: bool = False, check_reading: bool = True, **options
) -> Network:
    return Network.load(source, **options)


def _torch_file(source: str | Path, **options) -> Network:
    raise ValueError(
        f"'{source}' is a PyTorch file; weights alone don't say what the network computes. "
        "Build the module, load the weights with module.load_state_dict(torch.load(path, "
        "weights_only=True)), and pass the module with input_shape=."
    )


#: What reads a file, by its suffix.
_SUFFIXES: dict[str, Callable[..., Network]] = {
    ".keras": _keras,
    ".h5": _keras,
    ".hdf5": _keras,
    ".onnx": _onnx,
    ".npz": _saved,
    ".pt": _torch_file,
    ".pth": _torch_file,
}

#: What reads an object, by the package one of its classes comes from.
_PACKAGES: dict[str, Callable[..., Network]] = {
    "keras": _keras,
    "onnx": _onnx,
    "torch": _torch,
    "sklearn": _sklearn,
}

#: Options of one kind of source only.
_OPTIONS: dict[Callable[..., Network], set[str]] = {
    _torch: {"input_shape"},
    _keras: {"max_memory"},
    _onnx: {"max_memory"},
    _saved: {"max_memory"},
}


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
        * a path: ``.keras``, ``.h5``, ``.onnx``, or ``.npz`` by :meth:`Network.save`,
        * a Keras model,
        * an ONNX ``ModelProto``,
        * a PyTorch ``nn.Module`` (see ``input_shape``),
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
    reader = None if isinstance(source, Network) else _reader(source)
    unknown = sorted(set(options) - _OPTIONS.get(reader, set()))  # type: ignore[arg-type]
    if unknown:
        raise ValueError(
            f"read_network has no option '{unknown[0]}' for "
            f"{_describe(source)}; it takes logits, input_names, output_names, "
            "input_scaler, output_scaler, check_reading"
            + "".join(f", {name}" for name in sorted(_OPTIONS.get(reader, set())))  # type: ignore[arg-type]
            + "."
        )
    if reader is None:
        network = source
    else:
        network = reader(source, logits=logits, check_reading=check_reading, **options)
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
    )


def _describe(source: Any) -> str:
    return f"'{source}'" if isinstance(source, (str, Path)) else type(source).__name__


def _reader(source: Any) -> Callable[..., Network]:
    """The function that reads ``source``."""
    if isinstance(source, (str, Path)):
        return _file_reader(Path(source))
    if callable(getattr(type(source), "to_network", None)):
        return _own
    for cls in type(source).__mro__:
        package = cls.__module__.split(".")[0]
        if package in _PACKAGES:
            return _PACKAGES[package]
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


def _file_reader(path: Path) -> Callable[..., Network]:
    if not path.exists():
        raise FileNotFoundError(f"there is no file '{path}'.")
    if not path.is_file() and not path.is_dir():
        raise ValueError(f"'{path}' is a pipe or a device; give the path of a file.")
    reader = _SUFFIXES.get(path.suffix.lower())
    if reader is not None:
        return reader
    if path.suffix.lower() in (".pkl", ".pickle", ".joblib"):
        raise ValueError(
            f"'{path}' is a pickle, which may run any code when it is opened. Open it "
            "yourself if you trust it, and pass the model."
        )
    kind = " (a zip archive)" if path.is_file() and zipfile.is_zipfile(path) else ""
    raise ValueError(
        f"'{path}'{kind} has none of the suffixes {', '.join(_SUFFIXES)}; rename it, or "
        "load the model and pass that."
    )
