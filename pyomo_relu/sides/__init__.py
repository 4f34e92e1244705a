"""Bounds and branch and bound on the sides of neurons of a chain of ReLU layers.

A pre-activation is on one *side* of zero or the other. Where sides are fixed, the network
is closer to linear and its bounds are tighter; a tree over sides is exact in the end and
needs neither few inputs nor a linear program. It knows no Pyomo.
"""
