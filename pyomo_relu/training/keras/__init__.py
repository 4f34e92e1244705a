"""Keras training that ends in networks which are easier to optimize over.

Post-processing can tighten bounds; how many neurons are unstable, and how large the
bounds are, is decided while training. Everything here works on an ordinary Keras model,
which stays one: save it, or pass it to :class:`~pyomo_relu.ReLUNetBlock`, as any other.

=============================  ==================================================
:class:`PenalizedModel`        adds penalties to the loss of a model
:class:`L1Penalty`             small and few weights
:class:`L2Penalty`             small weights
:class:`StabilityLoss`         neurons that keep their sign (Xiao et al.)
:class:`BigMPenalty`           small big-M constants of unstable neurons
:class:`BoundWidthPenalty`     narrow bounds (Tsay)
:class:`UnstablePenalty`       few unstable neurons
:class:`LPGapPenalty`          a tight linear relaxation at samples (Tsay)
:func:`clipped_relu`           activations with a cap
:class:`MagnitudePruning`      a schedule that sets small weights to zero
:class:`BoundsHistory`         stable neurons and big-M after each epoch
=============================  ==================================================

Needs Keras 3 with any backend; ``import pyomo_relu`` does not import this.
"""

try:
    import keras as _keras
except ImportError as e:
    raise ImportError(
        "pyomo_relu.training.keras needs Keras 3; install it by  "
        "pip install 'pyomo_relu[keras]'"
    ) from e
if int(_keras.__version__.split(".")[0]) < 3:
    raise ImportError(
        f"pyomo_relu.training.keras needs Keras 3, not {_keras.__version__}; install it "
        "by  pip install 'pyomo_relu[keras]'"
    )

from pyomo_relu.training.keras.callbacks import BoundsHistory, MagnitudePruning
from pyomo_relu.training.keras.intervals import interval_bounds
from pyomo_relu.training.keras.layers import clipped_relu
from pyomo_relu.training.keras.model import PenalizedModel
from pyomo_relu.training.relaxation import penalties as _penalties
from pyomo_relu.training.relaxation.penalties import *  # noqa: F403

__all__ = [
    "BoundsHistory",
    "MagnitudePruning",
    "PenalizedModel",
    "clipped_relu",
    "interval_bounds",
]
__all__ += _penalties.__all__
