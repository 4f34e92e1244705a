"""HDF5 files of weights, looked through before Keras opens them.

An HDF5 file may declare datasets of any shape without holding an entry of them, point to
other files, and link a group into itself. Keras reads what it is told to read.
"""

from __future__ import annotations

from math import prod
from typing import Any

from pyomo_relu.network.limits import TooLargeError, need

#: Kinds of dtypes of weights: bool, integers, floating point; "V" is bfloat16.
_KINDS = "biufV"


def check_hdf5(source: Any, what: str) -> None:
    """Look through an HDF5 file.

    Parameters
    ----------
    source : path or binary file object
    what : str
        How errors name it.

    Raises
    ------
    ValueError
        If it is damaged, holds links to other places, or datasets without data.
    TooLargeError
        If its datasets are larger than what reading may take.
    """
    import h5py

    try:
        with h5py.File(source, "r") as file:
            _check_groups(h5py, file, what)
    except (TooLargeError, ForeignLinkError):
        raise
    except Exception as error:  # h5py raises OSError, RuntimeError, KeyError, ...
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(
            f"{what} is damaged or truncated ({lines[0][:200]}); save the model again."
        ) from error


class ForeignLinkError(ValueError):
    """A file of weights refers to something that it doesn't hold."""


def _check_groups(h5py: Any, file: Any, what: str) -> None:
    seen: set[int] = set()
    stack: list[Any] = [file]
    while stack:
        group = stack.pop()
        _check_attributes(group, what)
        address = int(h5py.h5o.get_info(group.id).addr)
        if address in seen:
            raise ForeignLinkError(f"{what} links the group '{group.name}' into itself.")
        seen.add(address)
        for key in group:
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise ForeignLinkError(
                    f"{what} has a link to another place at '{group.name}/{key}', which "
                    "no saved model has; save the model again."
                )
            item = group[key]
            if isinstance(item, h5py.Group):
                stack.append(item)
            else:
                _check_dataset(item, what)


def _check_dataset(dataset: Any, what: str) -> None:
    where = f"{what}: its dataset '{dataset.name}'"
    if dataset.is_virtual or dataset.external:
        raise ForeignLinkError(f"{where} is in another file; save the model again.")
    shape = tuple(dataset.shape or ())
    entries = prod(shape)
    # Once as it is, and once in float64.
    size = entries * (dataset.dtype.itemsize + 8)
    need(f"the dataset '{dataset.name}' of shape {shape}", passing=size, kept=size)
    if dataset.dtype.kind not in _KINDS:
        return  # text; it is no weight of a layer that is read
    if entries and not dataset.id.get_storage_size():
        raise ForeignLinkError(
            f"{where} declares the shape {shape}, but holds no data; save the model again."
        )


def _check_attributes(item: Any, what: str) -> None:
    for key in item.attrs:
        attribute = item.attrs.get_id(key)
        size = prod(attribute.shape) * max(attribute.dtype.itemsize, 8)
        need(f"the attribute '{key}' of its weights", passing=8.0 * size)
