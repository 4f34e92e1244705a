"""What a model says about its networks, before any search.

Here a model is read as networks of a few variables and a mixed-integer linear rest
(:mod:`~pyomo_relu.presolve.reading`), blocks that feed each other are composed, and the
rows of the whole model bound the neurons of its networks.
"""
