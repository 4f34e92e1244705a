"""Networks trained by mixed-integer programming, and regularizers for Keras training.

The classifiers need scikit-learn, ``pip install 'pyomo_relu[sklearn]'``; they are
imported when they are first asked for.

Binary, binarized and ReLU networks, and formulations of them, are compared by Aftabi,
Moradi and Mahroo, Feed-forward neural networks as a mixed-integer program, arXiv 2402.06697.
"""

from __future__ import annotations

import importlib
from typing import Any

_WHERE = {
    "BinarizedNetClassifier": "pyomo_relu.training.binarized",
    "BinaryNetClassifier": "pyomo_relu.training.binary",
    "OneVsOneBinarizedEnsemble": "pyomo_relu.training.ensemble",
    "StepNetwork": "pyomo_relu.steps.step_network",
}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    try:
        return getattr(importlib.import_module(_WHERE[name]), name)
    except ModuleNotFoundError as e:
        if e.name and e.name.split(".")[0] == "sklearn":
            raise ImportError(
                f"{name} needs scikit-learn; pip install 'pyomo_relu[sklearn]'."
            ) from e
        raise


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
