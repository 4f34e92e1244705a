"""Inputs that carry names: by name where they are those of the network.

A mapping is always meant by name. An indexed component, a slice of one or a pandas
Series is meant by name where its index holds exactly the names of the network's inputs,
in whatever order, and by position where it holds none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyomo.core.base.indexed_component import IndexedComponent
from pyomo.core.base.indexed_component_slice import IndexedComponent_slice

from pyomo_relu.block.frames import is_series
from pyomo_relu.network import Network


def ordered_by_name(inputs: Any, network: Network, where: str) -> Any:
    """Return ``inputs`` in the order of the network's input names, or as they are.

    Parameters
    ----------
    inputs
        What the user gave as ``inputs=``.
    network : Network
    where : str
        How an error names the block.

    Raises
    ------
    ValueError
        If a mapping doesn't have the names of the network's inputs, or anything else
        some of them, but not all.
    """
    is_mapping = isinstance(inputs, Mapping) and not isinstance(inputs, IndexedComponent)
    labelled = dict(inputs) if is_mapping else _labelled(inputs)
    if labelled is None:
        return inputs
    names, found = _known_order(labelled, network, is_mapping)
    if found is not None:
        return found
    if not is_mapping and not any(isinstance(k, str) and k in names for k in labelled):
        return inputs
    missing = [f"lacks {name!r}" for name in names if name not in labelled]
    unknown = [f"has the unknown {key!r}" for key in labelled if key not in names]
    remedy = "." if network.input_names else "; input_names= gives each entry a name."
    if not is_mapping:
        remedy = "; a list of its entries is meant by position."
    raise ValueError(
        f"{where}: inputs= {(missing + unknown)[0]}; the network's inputs are "
        f"{names}{remedy}"
    )


def _known_order(
    labelled: dict[Any, Any], network: Network, is_mapping: bool
) -> tuple[list[str], list[Any] | None]:
    """The names of the inputs; and the entries in their order, if these are labelled so."""
    nodes = [network.nodes[i] for i in network.inputs]
    layers = [node.name for node in nodes]
    names = list(network.input_names or layers)
    found = _in_order(labelled, names) if network.input_names else None
    if found is None and (is_mapping or all(node.size == 1 for node in nodes)):
        found = _in_order(labelled, layers)
    return names, found


def _in_order(labelled: dict[Any, Any], names: list[str]) -> list[Any] | None:
    """What is labelled by exactly these names, in their order; else None."""
    # Columns of a DataFrame may be numbers, and names are strings.
    for own in (labelled, {str(key): entry for key, entry in labelled.items()}):
        if set(own) == set(names):
            return [own[name] for name in names]
    return None


def _labelled(inputs: Any) -> dict[Any, Any] | None:
    """The entries of a component, slice or Series by their labels; None for others."""
    if isinstance(inputs, IndexedComponent_slice):
        keys, entries = list(inputs.wildcard_keys(False)), list(inputs)
    elif isinstance(inputs, IndexedComponent):
        if not inputs.is_indexed():
            return None
        keys, entries = list(inputs.keys()), list(inputs.values())
    elif is_series(inputs):
        keys, entries = list(inputs.keys()), list(inputs)
    else:
        return None
    # Labels that occur twice say nothing.
    return dict(zip(keys, entries)) if len(set(keys)) == len(entries) else None
