"""The examples in the pages of the formulations print what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import pyomo_relu.formulations

MODULES = [m.name for m in pkgutil.iter_modules(pyomo_relu.formulations.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(f"pyomo_relu.formulations.{name}")
    result = doctest.testmod(module)
    assert result.failed == 0
    if name in pyomo_relu.formulations.FORMULATIONS:
        assert result.attempted > 0
