"""``relu_global``: global optimization in the space of the inputs.

=================  ===================================================================
``solver``         the plugin for Pyomo and its log; ``config``, ``outcome``
``strategy``       which search suits a problem; ``race``: several by turns
``cost_search``    what every search has: limits, an incumbent, a cut-off, rounds
``box_search``     boxes of the inputs; ``rows``, ``tighten``, ``lp``
``neuron_search``  sides of neurons
``decompose``      prices for ``subsystems`` that only rows connect; ``master``,
                   ``curve_subsystem``
``handover``       one MIP of the whole
``mip``            a box or a linear region as a mixed-integer program
``branching``      where to split
``points``         sequences of programs between the rounds
``incumbent``      the best point and the searches that improve it
``settings``       what steers the searches, a record for each
=================  ===================================================================
"""

from pyomo_relu.solvers.global_search.solver import ReluGlobal

__all__ = ["ReluGlobal"]
