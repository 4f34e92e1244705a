"""Whether another network fits the variables of a block."""

from __future__ import annotations

from typing import Any

from pyomo_relu.network import Network


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
    old = block.network
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
    return Network(network.nodes, network.outputs, network.inputs, *names)
