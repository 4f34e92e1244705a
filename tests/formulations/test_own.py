"""The page about a formulation of one's own runs, and so does the harness on it."""

from __future__ import annotations

import re
import textwrap

import pyomo.environ as pyo
import pytest

from pyomo_relu.formulations import FORMULATIONS, Formulation, register_formulation
from pyomo_relu.formulations.bigm import BigM
from tests.harness.formulations import (
    assert_formulation_exact,
    boxed_model,
    primitive_network,
)
from tests.paths import ROOT


@pytest.fixture
def registry():
    """Formulations as they were, afterwards."""
    before = dict(FORMULATIONS)
    yield FORMULATIONS
    for name in set(FORMULATIONS) - set(before):
        del FORMULATIONS[name]
        pyo.TransformationFactory.unregister(f"relu.{name}")


def test_the_page_runs(registry):
    text = (ROOT / "docs" / "guide" / "own_formulation.rst").read_text(encoding="utf8")
    blocks = re.findall(r"code-block:: python\n\n((?:   .*\n|\n)+)", text)
    scope: dict = {}
    for block in blocks:
        exec(textwrap.dedent(block), scope)
    assert "slack" in registry
    m = boxed_model(primitive_network("relu", 0), formulation="slack")
    pyo.TransformationFactory("relu.slack").apply_to(m)
    with pytest.raises(ValueError, match="'slack' can't write activation"):
        boxed_model(primitive_network("abs", 0), formulation="slack")


def test_the_harness_sees_a_cut_optimum(registry):
    @register_formulation
    class TooTight(BigM):
        """Big-M with an upper bound that is too small."""

        name = "too_tight"

        def write_piecewise(self, layer):
            for i in layer.units:
                layer.upper[i] *= 0.9
                layer.lower[i] *= 0.9
            super().write_piecewise(layer)

    with pytest.raises(AssertionError):
        assert_formulation_exact("too_tight", ["relu"])


def test_the_harness_sees_a_loose_one(registry):
    @register_formulation
    class Loose(BigM):
        """Rows left out."""

        name = "loose"

        def write_piecewise(self, layer):
            super().write_piecewise(layer)
            for index in list(layer.block.unit):
                if index[1] == 2:
                    layer.block.unit[index].deactivate()

    with pytest.raises(AssertionError):
        assert_formulation_exact("loose", ["relu"])


def test_a_formulation_needs_a_name():
    with pytest.raises(ValueError, match="needs a class attribute 'name'"):

        @register_formulation
        class Nameless(Formulation):
            pass
