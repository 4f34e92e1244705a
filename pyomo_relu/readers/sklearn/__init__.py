"""scikit-learn estimators and pipelines -> :class:`~pyomo_relu.network.Network`.

Estimators are found by the name of their exact class, so scikit-learn itself is not
imported here; a subclass may compute something else and is refused.
"""

from pyomo_relu.readers.sklearn import (  # noqa: F401 (registration)
    curves,
    encoders,
    projections,
)
from pyomo_relu.readers.sklearn.common import feature_names, is_sklearn
from pyomo_relu.readers.sklearn.estimators import read_categories, read_sklearn
from pyomo_relu.readers.sklearn.running import called
from pyomo_relu.readers.sklearn.transformers import inverse_transform, transform

__all__ = [
    "called",
    "feature_names",
    "inverse_transform",
    "is_sklearn",
    "read_categories",
    "read_sklearn",
    "transform",
]
