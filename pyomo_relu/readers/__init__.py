"""Readers: a trained network from one framework -> :class:`pyomo_relu.network.Network`."""
