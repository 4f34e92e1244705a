"""A network of dense ReLU layers as OMLT's, for the comparison."""

from __future__ import annotations

from collections.abc import Sequence

from omlt.neuralnet import NetworkDefinition
from omlt.neuralnet.layer import DenseLayer, InputLayer

from pyomo_relu import Network
from pyomo_relu.network import Affine


def definition(
    network: Network, lower: Sequence[float], upper: Sequence[float]
) -> NetworkDefinition:
    """The network over a box."""
    net = NetworkDefinition(scaled_input_bounds=dict(enumerate(zip(lower, upper))))
    last = InputLayer([len(lower)])
    net.add_layer(last)
    layers = [node for node in network.nodes if isinstance(node, Affine)]
    for k, node in enumerate(layers):
        w = node.weights[0]
        layer = DenseLayer(
            [w.shape[1]],
            [w.shape[0]],
            activation="linear" if k + 1 == len(layers) else "relu",
            weights=w.T,
            biases=node.bias,
        )
        net.add_layer(layer)
        net.add_edge(last, layer)
        last = layer
    return net
