"""Where the tests find real networks and data sets.

They lie beside the checkout, in ``../shared/data``, and are not part of the package;
the environment variable ``PYOMO_RELU_DATA`` names another folder.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def data_folder() -> Path:
    """The folder of the shared data, whether or not it exists."""
    return Path(os.environ.get("PYOMO_RELU_DATA") or ROOT.parent / "shared" / "data")


def shared_data(relative: str) -> Path:
    """Return the path of a shared file or folder; skip the test where it is missing."""
    path = data_folder() / relative
    if not path.exists():
        pytest.skip(
            f"'{relative}' is not in ../shared/data (set PYOMO_RELU_DATA to its folder)"
        )
    return path
