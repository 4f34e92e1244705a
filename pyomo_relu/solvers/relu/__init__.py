"""``relu``: one solver to remember, which looks at a model and runs the searches that suit.

============  ===========================================================================
``solver``    the plugin for Pyomo and its log; ``config``: its options
``scene``     what a model is, in numbers and in a sentence, and the plan that follows
``search``    the search of the networks and the MIP by turns, with one point and one bound
``copy``      the model written for a MIP solver: the form that measured best for each block
``settings``  what steers the turns
============  ===========================================================================
"""

from pyomo_relu.solvers.relu.solver import Relu

__all__ = ["Relu"]
