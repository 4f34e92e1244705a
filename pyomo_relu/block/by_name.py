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
    nodes = [network.nodes[i] for i in network.inputs]
    layers = [node.name for node in nodes]
    candidates: list[tuple[str, ...] | None] = [network.input_names]
    if is_mapping or all(node.size == 1 for node in nodes):
        candidates.append(tuple(layers))
    for known in candidates:
        if known is not None and set(labelled) == set(known):
            return [labelled[name] for name in known]
        # Columns of a DataFrame may be numbers, and names are strings.
        spelled = {str(key): value for key, value in labelled.items()}
        if known is not None and set(spelled) == set(known):
            return [spelled[name] for name in known]
    names = list(network.input_names or layers)
    if not is_mapping and not any(isinstance(k, str) and k in names for k in labelled):
        return inputs
    missing = [name for name in names if name not in labelled]
    unknown = [key for key in labelled if key not in names]
    what = f"lacks {missing[0]!r}" if missing else f"has the unknown {unknown[0]!r}"
    remedy = "." if network.input_names else "; input_names= gives each entry a name."
    if not is_mapping:
        remedy = "; a list of its entries is meant by position."
    raise ValueError(f"{where}: inputs= {what}; the network's inputs are {names}{remedy}")


def _labelled(inputs: Any) -> dict[Any, Any] | None:
    """The entries of a component, slice or Series by their labels; None for others."""
    if isinstance(inputs, IndexedComponent_slice):
        keys, entries = list(inputs.wildcard_keys(False)), list(inputs)
    elif isinstance(inputs, IndexedComponent):
        if not inputs.is_indexed():
            return None
        keys, entries = list(inputs.keys()), list(inputs.values())
    elif type(inputs).__name__ == "Series" and hasattr(inputs, "items"):
        keys, entries = list(inputs.keys()), list(inputs)
    else:
        return None
    # Labels that occur twice say nothing.
    return dict(zip(keys, entries)) if len(set(keys)) == len(entries) else None
