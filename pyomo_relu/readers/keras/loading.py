"""Opening a saved Keras model without running any code that came with it."""

from __future__ import annotations

import io
import json
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

from pyomo_relu.base.versions import check_version
from pyomo_relu.network.limits import TooLargeError, need
from pyomo_relu.readers.keras.describing import UnsupportedLayerError
from pyomo_relu.readers.keras.keras_2 import is_of_keras_2, model_of_keras_2, order_of_file
from pyomo_relu.readers.keras.keras_2_weights import fill_from_archive, fill_from_h5
from pyomo_relu.readers.keras.weights_file import check_hdf5

#: Held while a method of Keras stands replaced.
_LOADING = threading.RLock()

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


def import_keras() -> Any:
    """Return the ``keras`` module.

    Raises
    ------
    ImportError
        With the ``pip install`` line, if Keras 3 or its backend is missing.
    """
    try:
        import keras
    except ImportError as e:
        raise ImportError(
            "reading a Keras model needs Keras 3 and a backend; "
            "pip install 'pyomo_relu[keras]'"
        ) from e
    if int(str(keras.__version__).split(".")[0]) < 3:
        raise ImportError(
            f"Keras {keras.__version__} is too old for this reader; "
            "pip install -U 'pyomo_relu[keras]'"
        )
    check_version("keras", str(keras.__version__))
    return keras


def load_model(path: str | Path) -> Any:
    """Load a ``.keras`` archive or a legacy ``.h5`` file with Keras' safe mode on.

    Lambda layers and everything else that would run code from the file are refused by
    Keras; nothing is unpickled.

    Raises
    ------
    FileNotFoundError
    ValueError
        If the file is something else, truncated, declares more than reading may take,
        or can't be loaded safely.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file '{path}'.")
    if path.is_dir():
        raise ValueError(
            f"'{path}' is a folder (a TensorFlow SavedModel?); save the model with "
            "model.save('name.keras') and give that file."
        )
    with open(path, "rb") as file:
        start = file.read(8)
    if start == HDF5_MAGIC:
        check_hdf5(path, f"'{path}'")
        return _load(path, ".h5")
    if start[:2] == b"PK":
        _check_archive(path)
        return _load(path, ".keras")
    raise ValueError(
        f"'{path}' is no Keras model: it is neither a .keras archive nor an HDF5 file."
    )


def _check_archive(path: Path) -> None:
    """Raise unless the file is a whole .keras archive of a size that may be held."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            total = sum(m.file_size for m in members)
            need("the parts of the archive", passing=float(total))
            damaged = archive.testzip()
            names = [m.filename for m in members]
            complete = {"config.json", "model.weights.h5"} <= set(names)
            weights = io.BytesIO(archive.read("model.weights.h5") if complete else b"")
    except TooLargeError:
        raise
    except Exception as e:  # zipfile and zlib raise a dozen kinds on a damaged archive
        raise ValueError(f"'{path}' is damaged or truncated; save it again.") from e
    if damaged is not None:
        raise ValueError(f"'{path}' is damaged in its part '{damaged}'; save it again.")
    if not complete or len(set(names)) < len(names):
        raise ValueError(
            f"'{path}' is a zip archive, but not a Keras model (config.json or "
            "model.weights.h5 is missing, or there twice)."
        )
    check_hdf5(weights, f"'{path}', model.weights.h5")


def _load(path: Path, suffix: str) -> Any:
    """Let Keras load the file; it chooses the format by the suffix."""
    keras = import_keras()
    if path.suffix.lower() not in (suffix, ".hdf5" if suffix == ".h5" else suffix):
        raise ValueError(
            f"'{path}' has the contents of a {suffix} file; rename it so that it ends "
            f"in {suffix}."
        )
    old = _description_of_keras_2(path, suffix)
    refused: list[TooLargeError] = []
    try:
        with _counted_weights(keras, refused):
            if old is not None:
                return _of_keras_2(path, suffix, old)
            model = keras.saving.load_model(str(path), compile=False, safe_mode=True)
    except Exception as e:  # Keras raises all sorts of errors on a bad file
        if refused:  # Keras may have made another error of it
            raise refused[0] from None
        if isinstance(e, UnsupportedLayerError):
            raise UnsupportedLayerError(f"'{path}', a file of Keras 2: {e}") from e
        lines = [line.strip() for line in str(e).splitlines() if line.strip()]
        reason = " ".join(lines)[:300] if lines else type(e).__name__
        raise ValueError(
            f"Keras can't load '{path}' (safe mode is on): {reason} ... Custom layers need "
            "keras.saving.register_keras_serializable; or load the model yourself and "
            "pass the model."
        ) from e
    if not isinstance(model, keras.Model):
        raise ValueError(f"'{path}' holds a {type(model).__name__}, and no Keras model.")
    return model


def _description_of_keras_2(path: Path, suffix: str) -> Any:
    """The description of the model where Keras 2 wrote the file, else None."""
    try:
        if suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                noted = json.loads(archive.read("metadata.json")).get("keras_version")
                text: Any = archive.read("config.json")
        else:
            import h5py

            with h5py.File(path, "r") as file:
                noted, text = (
                    file.attrs.get(key) for key in ("keras_version", "model_config")
                )
                if text is None:
                    raise ValueError("the file holds weights only, but no model.")
        return json.loads(text) if is_of_keras_2(noted) else None
    except KeyError:  # an archive without a note of its version
        return None
    except ValueError as error:
        raise ValueError(
            f"Keras can't load '{path}': its description is no model ({error})."
        ) from error


def _of_keras_2(path: Path, suffix: str, description: Any) -> Any:
    """The model of a file that Keras 2 wrote, with its weights."""
    import h5py

    model = model_of_keras_2(description)
    if suffix == ".h5":
        with h5py.File(path, "r") as file:
            fill_from_h5(model, file)
        return model
    with zipfile.ZipFile(path) as archive:
        weights = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(weights, "r") as file:
        fill_from_archive(model, order_of_file, file)
    return model


@contextmanager
def _counted_weights(keras: Any, refused: list[TooLargeError]) -> Iterator[None]:
    """Ask for the memory of each weight before Keras makes it.

    A description of a few bytes may have layers of any size, and Keras fills their
    weights with random numbers before it looks for them in the file. ``Layer.add_weight``
    is where all of them come through; other threads see it as it was, since the account
    of what is read is this thread's.
    """
    layer_class = keras.layers.Layer
    with _LOADING:
        original = layer_class.add_weight

        def add_weight(self: Any, *args: Any, **kwargs: Any) -> Any:
            shape = args[0] if args else kwargs.get("shape")
            if isinstance(shape, (list, tuple)) and all(isinstance(n, int) for n in shape):
                try:
                    # Random numbers of the type, and once more for what is assigned.
                    size = 16.0 * prod(max(n, 0) for n in shape)
                    need(f"the weights of layer '{self.name}' of shape {shape}", size, size)
                except TooLargeError as e:
                    refused.append(e)
                    raise
            return original(self, *args, **kwargs)

        layer_class.add_weight = add_weight
        try:
            yield
        finally:
            layer_class.add_weight = original
