"""A version outside of what is tested is named once; setup.cfg has the same limits."""

import configparser
import re
import warnings
from pathlib import Path

import pytest

from pyomo_relu.base import versions
from pyomo_relu.base.versions import TESTED, UntestedVersionWarning, check_version


@pytest.fixture(autouse=True)
def nobody_was_told(monkeypatch):
    monkeypatch.setattr(versions, "_told", set())


@pytest.mark.parametrize("version", ["1.14.0", "1.17.0", (2, 0, 0), "1.20.0.dev1"])
def test_an_untested_version_is_named_once(version):
    with pytest.warns(UntestedVersionWarning, match=r"highspy .* 1\.15 to 1\.16.*<1\.17"):
        check_version("highspy", version)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_version("highspy", version)


@pytest.mark.parametrize("version", ["1.15.0", "1.16.3", (1, 16, 0), "unknown"])
def test_a_tested_version_is_no_news(version):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_version("highspy", version)


def test_setup_keeps_out_what_is_not_tested():
    config = configparser.ConfigParser()
    config.read(Path(__file__).parents[2] / "setup.cfg")
    lines = config["options"]["install_requires"].split("\n")
    limits = dict(re.match(r"([a-z]+) (.*)", line).groups() for line in lines if line)
    for name in ("pyomo", "highspy"):
        (major, low), (_, high) = TESTED[name]
        assert f">= {major}.{low}" in limits[name]
        assert f"< {major}.{high + 1}" in limits[name]
