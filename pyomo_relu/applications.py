"""The name that :mod:`~pyomo_relu.verification` and :mod:`~pyomo_relu.adversarial` had.

Everything here is theirs; code written for version 0.1 keeps running.
"""

from pyomo_relu.adversarial import *  # noqa: F403
from pyomo_relu.adversarial import __all__ as _adversarial
from pyomo_relu.verification import *  # noqa: F403
from pyomo_relu.verification import __all__ as _verification

__all__ = sorted([*_adversarial, *_verification])
