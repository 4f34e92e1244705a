"""Whether another network fits the variables of a block, and comes in their units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyomo_relu.network import Network

#: Keywords that put a network between units of the model and those it was trained in.
SCALERS = ("input_scaler", "output_scaler")


def scalers_given(reader: Mapping[str, Any]) -> frozenset[str]:
    """Which scalers are among the keywords that say how a network is read."""
    return frozenset(name for name in SCALERS if reader.get(name) is not None)


def check_scalers(block: Any, scalers: frozenset[str], reader: Mapping[str, Any]) -> None:
    """Refuse a new network without a word on the scalers that the last one came with.

    A retrained network that silently stands between other units is a wrong model that solves.

    Parameters
    ----------
    block : block or component
    scalers : frozenset of str
        Those of the network that is replaced.
    reader : mapping
        Keywords of the new network; None as a scaler says that there is none.

    Raises
    ------
    ValueError
        If one of the scalers is not among the keywords.
    """
    for name in sorted(scalers - set(reader)):
        raise ValueError(
            f"'{block.name}' was made with {name}=, which replace_network does not keep: give "
            f"{name}= again with the new network, or {name}=None if it is in the model's units."
        )


def check_replacement(block: Any, network: Network) -> None:
    """Refuse a network that can't stand between a block's inputs and outputs.

    Raises
    ------
    ValueError
        For another number of inputs or outputs, or other names; or for no network.
    """
    if not isinstance(network, Network):
        raise ValueError(
            f"'{block.name}': replace_network takes one network for one block, not "
            f"{type(network).__name__}; a mapping from indices is for indexed blocks."
        )
    old = block.true_network
    for what in ("inputs", "outputs"):
        has, needs = getattr(network, f"n_{what}"), getattr(old, f"n_{what}")
        if has != needs:
            raise ValueError(
                f"'{block.name}': the new network has {has} {what}, the block {needs}; "
                "another number needs another block, and rows written anew."
            )
    for what in ("input", "output"):
        names, own = getattr(network, f"{what}_names"), getattr(old, f"{what}_names")
        if names is not None and own is not None and names != own:
            k = next(k for k, (a, b) in enumerate(zip(names, own)) if a != b)
            raise ValueError(
                f"'{block.name}': {what} {k} of the new network is '{names[k]}', the "
                f"block's is '{own[k]}'; bring the network's {what}s into the block's order, "
                f"or call them what the block does by {what}_names=."
            )


def named_as(network: Network, old: Network) -> Network:
    """The network with the names of the old one, which the block's variables have."""
    names = (old.input_names, old.output_names)
    if (network.input_names, network.output_names) == names:
        return network
    return Network(
        network.nodes, network.outputs, network.inputs, *names, head=network.head
    )
