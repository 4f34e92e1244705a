"""``relu_global``: global optimization in the space of the inputs.

=================  ===================================================================
``problem``        the user's model as networks and a mixed-integer linear rest
``compose``        several blocks as one network of the variables that drive them
``box_bounds``    linear bounds of many boxes at once
``lp``             the linear relaxation of one box, with proved bounds
``tighten``        smaller boxes from rows and from the incumbent
``branching``      where to split
``mip``            a box or a linear region as a mixed-integer program
``incumbent``      the best point and the searches that improve it
``search``         the tree
``solver``         the plugin for Pyomo, its log and results
=================  ===================================================================
"""

from pyomo_relu.solvers.global_search.solver import ReluGlobal

__all__ = ["ReluGlobal"]
