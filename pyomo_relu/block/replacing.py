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
    for what, has, needs in (
        ("inputs", network.n_inputs, old.n_inputs),
        ("outputs", network.n_outputs, old.n_outputs),
    ):
        if has != needs:
            raise ValueError(
                f"'{block.name}': the new network has {has} {what}, the block {needs}; "
                "another number needs another block, and rows written anew."
            )
    for what, names, own in (
        ("inputs", network.input_names, old.input_names),
        ("outputs", network.output_names, old.output_names),
    ):
        if names is not None and own is not None and tuple(names) != tuple(own):
            k = next(k for k, (a, b) in enumerate(zip(names, own)) if a != b)
            raise ValueError(
                f"'{block.name}': {what[:-1]} {k} of the new network is '{names[k]}', the "
                f"block's is '{own[k]}'; bring the network's {what} into the block's order, "
                f"or call them what the block does by {what[:-1]}_names=."
            )


def named_as(network: Network, old: Network) -> Network:
    """The network with the names of the old one, which the block's variables have."""
    names = (old.input_names, old.output_names)
    if (network.input_names, network.output_names) == names:
        return network
    return Network(network.nodes, network.outputs, network.inputs, *names)
