"""PyTorch training that ends in networks which are easier to optimize over.

:class:`PenaltyLoss` computes penalties of a module, to be added to any loss; the penalties are
those of :mod:`pyomo_relu.training.keras`. The module stays an ordinary one.

PyTorch is imported when a penalty is first computed.
"""

from pyomo_relu.training.relaxation import penalties as _penalties
from pyomo_relu.training.relaxation.penalties import *  # noqa: F403
from pyomo_relu.training.torch.intervals import interval_bounds
from pyomo_relu.training.torch.loss import PenaltyLoss

__all__ = [
    "PenaltyLoss",
    "interval_bounds",
]
__all__ += _penalties.__all__
