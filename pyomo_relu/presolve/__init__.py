"""What a model says about its networks, before any search.

Here are the bounds that the rows of a whole model give to the neurons of its networks,
and the model's standard form with the outputs of its networks in it.
"""
